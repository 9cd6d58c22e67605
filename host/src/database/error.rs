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
    Connect(Box<Unconnected>),
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

/// What is said of a statement that was executed while it is not known of what types its columns are.
const UNTYPED: &str = "the statement was executed, but what its types are could not be looked up";

/// Why no connection could be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{log}")]
pub struct Unconnected {
    /// In words for the guest: no address is in them, nor where the password comes from.
    pub told: String,
    /// In words for the host's log.
    pub log: String,
}

impl Unconnected {
    /// What the guest may know as well.
    pub fn plain(text: String) -> Self {
        Self {
            told: text.clone(),
            log: text,
        }
    }

    /// The same, with this before it.
    pub fn after(self, before: &str) -> Self {
        Self {
            told: format!("{before}{}", self.told),
            log: format!("{before}{}", self.log),
        }
    }
}

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
            Self::ConnectionLost { .. } => Self::ConnectionLost {
                maybe_executed: true,
            },
            // What it is about was another statement, of the host's own, or a connection for that.
            Self::Server(error) => Self::Protocol(format!("{UNTYPED}: {error}")),
            Self::Connect(error) => Self::Protocol(format!("{UNTYPED}: {}", error.told)),
            error => error,
        }
    }

    /// The same, as the error of one call of a pipeline. A lost connection is that of them all, and so is
    /// what may not be done; and rows that are too large do not keep the server from committing.
    pub(super) fn of_call(self, index: usize) -> Self {
        match self {
            Self::ConnectionLost { .. } | Self::Denied(_) | Self::TooLarge(_) => self,
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

    /// What kind of error it is, in one word: the SQLSTATE, when the server gave one.
    pub fn kind(&self) -> &str {
        match self {
            Self::Server(error) => &error.code,
            Self::InPipeline { error, .. } => error.kind(),
            Self::UnknownDatabase(_) => "unknown_database",
            Self::Busy(_) => "busy",
            Self::Connect(_) => "connect",
            Self::ConnectionLost { .. } => "connection_lost",
            Self::StatementChanged(_) => "statement_changed",
            Self::Denied(_) => "denied",
            Self::Capped(_) => "capped",
            Self::Invalid(_) => "invalid",
            Self::InUse => "in_use",
            Self::Aborted => "aborted",
            Self::Ended => "ended",
            Self::Deadline => "deadline",
            Self::TooLarge(_) => "too_large",
            Self::Unsupported(_) => "unsupported",
            Self::Protocol(_) => "protocol",
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
    /// (0A000), it is gone from the connection (26000), it has another number of parameters or columns
    /// than was assumed (08P01), or a value was expected in binary that has no such form (42883). The
    /// server's messages are in its own language; the names of its functions are not.
    pub(super) fn is_stale_plan(&self) -> bool {
        match self {
            Self::InPipeline { error, .. } => error.is_stale_plan(),
            // What has a context befell a function in its middle.
            Self::Server(error) if error.context.is_some() => false,
            Self::Server(error) => match error.code.as_str() {
                "26000" => error.is_from(&WITHOUT_STATEMENT, "prepared statement "),
                "0A000" => error.is_from(&["RevalidateCachedQuery"], "cached plan"),
                "08P01" => error.is_from(
                    &["exec_bind_message", "PortalSetResultFormat"],
                    "bind message ",
                ),
                "42883" => error.is_from(&WITHOUT_BINARY_FORM, "no binary "),
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether the server may say this of a statement because types that it had are others now, or
    /// gone: class 42, unless it is about permissions, and what it does not find in its catalog (XX000).
    pub(super) fn is_misfit(&self) -> bool {
        match self {
            Self::InPipeline { error, .. } => error.is_misfit(),
            Self::Server(error) => match error.code.as_str() {
                "42501" => false,
                code => code.starts_with("42") || code == "XX000",
            },
            _ => false,
        }
    }
}

/// The routines in which a server finds that a prepared statement is not there.
const WITHOUT_STATEMENT: [&str; 3] = [
    "FetchPreparedStatement",
    "exec_bind_message",
    "exec_describe_statement_message",
];

/// The routines in which a server finds that values of a type, or what they are made of, have no
/// binary form.
const WITHOUT_BINARY_FORM: [&str; 6] = [
    "getTypeBinaryInputInfo",
    "getTypeBinaryOutputInfo",
    "array_recv",
    "array_send",
    "get_range_io_data",
    "get_multirange_io_data",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: &str, message: &str, routine: Option<&str>) -> Error {
        Error::Server(Box::new(ServerError {
            code: code.to_owned(),
            message: message.to_owned(),
            routine: routine.map(str::to_owned),
            ..ServerError::default()
        }))
    }

    #[test]
    fn a_stale_plan_is_known_in_any_language() {
        let plan = "gecachter Plan darf den Ergebnistyp nicht ändern";
        let bind = "Binden-Nachricht enthält 1 Parameter, aber vorbereitete Anweisung erfordert 2";
        #[rustfmt::skip]
        let cases = [
            ("26000", "vorbereitete Anweisung »s1« existiert nicht", Some("FetchPreparedStatement"), true),
            ("26000", "prepared statement \"s1\" does not exist", None, true),
            ("26000", "raised by a function", Some("exec_stmt_raise"), false),
            ("0A000", plan, Some("RevalidateCachedQuery"), true),
            ("0A000", "cached plan must not change result type", None, true),
            ("0A000", "cached plan must not change result type", Some("exec_stmt_raise"), false),
            ("0A000", "WITH TIES wird nicht unterstützt", Some("transformLimitClause"), false),
            ("08P01", bind, Some("exec_bind_message"), true),
            ("08P01", "bind message has 2 result formats but query has 3 columns", None, true),
            ("08P01", "Binden-Nachricht", Some("PortalSetResultFormat"), true),
            ("08P01", "ungültiges Message-Format", Some("pq_getmsgend"), false),
            ("42883", "keine binäre Ausgabefunktion", Some("getTypeBinaryOutputInfo"), true),
            ("42883", "Operator existiert nicht", Some("op_error"), false),
        ];
        for (code, message, routine, expected) in cases {
            let error = refusal(code, message, routine);
            assert_eq!(error.is_stale_plan(), expected, "{code} {message}");
        }
    }
}
