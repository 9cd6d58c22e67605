//! Why a database call failed, by what can be done about it.
//!
//! Promises: the server's own words and its SQLSTATE are never dropped, and a lost connection
//! always says whether the statement may have been executed.

use std::sync::Arc;

use tokio_postgres::error::DbError;

use super::statement::Description;

/// What a database call can end in besides its result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server refused the statement.
    #[error("{}: {} (SQLSTATE {})", .0.severity(), .0.message(), .0.code().code())]
    Server(Box<DbError>),
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
    /// One row is larger than this many bytes.
    #[error("a row is larger than {0} bytes")]
    TooLarge(usize),
    /// Anything else that the driver reports.
    #[error("{0}")]
    Driver(String),
}

/// The result of a database call.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// What the driver's error means for a call during which bytes did, or did not, leave.
    pub(super) fn from_driver(error: tokio_postgres::Error, sent: bool) -> Self {
        if let Some(server) = error.as_db_error() {
            return Self::Server(Box::new(server.clone()));
        }
        if error.is_closed() || is_io(&error) {
            return Self::ConnectionLost {
                maybe_executed: sent,
            };
        }
        Self::Driver(chain(&error))
    }

    /// The SQLSTATE, when the server gave one.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Server(error) => Some(error.code().code()),
            _ => None,
        }
    }

    /// Whether this can be cured by preparing the statement again: its plan no longer fits
    /// (0A000), or it is gone from the connection (26000).
    pub(super) fn is_stale_plan(&self) -> bool {
        match self {
            Self::Server(error) => match error.code().code() {
                "26000" => true,
                "0A000" => error.message().starts_with("cached plan"),
                _ => false,
            },
            _ => false,
        }
    }
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if inner.is::<std::io::Error>() {
            return true;
        }
        cause = inner.source();
    }
    false
}
