//! Why a database call failed, by what can be done about it.
//!
//! Promises: the server's own words and its SQLSTATE are never dropped, and a lost connection
//! always says whether the statement may have been executed.

use std::sync::Arc;

use super::server_error::{ServerError, Verdict};
use super::statement::Description;

/// What a database call can end in besides its result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server refused the statement.
    #[error("{0}")]
    Server(Box<ServerError>),
    /// The function has no database of this name.
    #[error(
        "no database {0:?} is configured for this function; name it in the function's `databases` in hearth.toml"
    )]
    UnknownDatabase(String),
    /// No connection came free in time, or a limit is reached.
    #[error("{0}")]
    Busy(String),
    /// No connection could be made; nothing was executed.
    #[error("{0}")]
    Connect(String),
    /// The connection was lost in mid-call.
    #[error("the connection to the database was lost{}", if *.maybe_executed {
        "; the statement may have been executed"
    } else {
        " before the statement was sent"
    })]
    ConnectionLost {
        /// Whether the server may have received the statement.
        maybe_executed: bool,
    },
    /// The arguments were encoded for another shape of the statement; nothing was executed.
    #[error("the statement has changed on the server: its arguments must be encoded anew")]
    StatementChanged(Arc<Description>),
    /// The function may not do this; nothing was executed.
    #[error("{0}")]
    Denied(String),
    /// The result has more rows or bytes than the function may read.
    #[error("{0}")]
    Capped(String),
    /// The call makes no sense; nothing was executed.
    #[error("{0}")]
    Invalid(String),
    /// The connection is still sending the rows of an earlier call.
    #[error("the connection is busy with the rows of an earlier call; read or drop them first")]
    InUse,
    /// The transaction had failed, so that its commit was a rollback.
    #[error("the transaction had failed before and was rolled back instead of committed")]
    Aborted,
    /// What the call is made on has ended.
    #[error("this transaction, cursor or invocation has ended")]
    Ended,
    /// The invocation ended while the call was under way; the statement may have been executed.
    #[error(
        "the invocation's deadline was reached during the call; the statement may have been executed"
    )]
    Deadline,
    /// One row, or the whole of a pipeline's rows, is larger than this many bytes.
    #[error(
        "a row, or all rows of a pipeline, have more than {0} bytes, the most that is passed on at once; read a \
         large value in pieces, with substring(), and many rows with a query of their own"
    )]
    TooLarge(usize),
    /// One call of a pipeline failed, and so none of them took effect.
    #[error("call {index} of the pipeline: {error}")]
    InPipeline {
        /// Which, counted from 0.
        index: usize,
        /// Why.
        error: Box<Error>,
    },
    /// What is asked for cannot be done in this environment; nothing was executed.
    #[error("{0}")]
    Unsupported(String),
    /// The server said what makes no sense.
    #[error("{0}")]
    Protocol(String),
}

/// The result of a database call.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The same, of a request that executes nothing whether it arrives or not.
    pub(super) fn unexecuted(self) -> Self {
        match self {
            Self::ConnectionLost { .. } => Self::ConnectionLost {
                maybe_executed: false,
            },
            error => error,
        }
    }

    /// The same, after the statement that it befell has been executed.
    pub(super) fn executed(self) -> Self {
        match self {
            Self::ConnectionLost { .. } | Self::Connect(_) => Self::ConnectionLost {
                maybe_executed: true,
            },
            error => error,
        }
    }

    /// The same, as the error of one call of a pipeline. A lost connection is that of them all, and
    /// rows that are too large do not keep the server from committing.
    pub(super) fn of_call(self, index: usize) -> Self {
        match self {
            Self::ConnectionLost { .. } | Self::TooLarge(_) => self,
            error => Self::InPipeline {
                index,
                error: Box::new(error),
            },
        }
    }

    /// The SQLSTATE, when the server gave one.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Server(error) => Some(&error.code),
            _ => None,
        }
    }

    /// What it says about the connection that the call was made on.
    pub(super) fn verdict(&self) -> Verdict {
        match self {
            Self::Server(error) => error.verdict(),
            Self::InPipeline { error, .. } => error.verdict(),
            Self::ConnectionLost { .. } => Verdict::Lost,
            _ => Verdict::Usable,
        }
    }

    /// Whether this can be cured by preparing the statement again: its plan no longer fits
    /// (0A000), it is gone from the connection (26000), it has another number of parameters than
    /// was assumed (08P01), or a value was expected in binary that has no such form (42883).
    pub(super) fn is_stale_plan(&self) -> bool {
        match self {
            Self::InPipeline { error, .. } => error.is_stale_plan(),
            Self::Server(error) => match error.code.as_str() {
                "26000" => true,
                "0A000" => error.message.starts_with("cached plan"),
                "08P01" => error.message.starts_with("bind message supplies "),
                "42883" => error.message.starts_with("no binary "),
                _ => false,
            },
            _ => false,
        }
    }
}
