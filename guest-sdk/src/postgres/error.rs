//! Why a call on the database failed.
//!
//! Promises: an error displays what was refused by whom, with the SQLSTATE and the server's own
//! message, and no values of arguments or rows but those that the server quotes in that; a program asks
//! with predicates, not by reading text.

use std::error::Error as StdError;
use std::fmt;

use postgres_types::Type;

pub use super::db_error::{DbError, ErrorPosition, Severity};
pub use super::sql_state::SqlState;
use super::suspects;
use crate::bindings::hearth::postgres::client as wire;

mod display;

type Cause = Box<dyn StdError + Send + Sync>;

/// An error of the database, of the way to it, or of the conversion of a value.
///
/// What the server said is in [`as_db_error`](Self::as_db_error) and [`code`](Self::code); what
/// happened on the way is in the predicates.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    cause: Option<Cause>,
    /// Which statement of a pipeline it is about.
    call: Option<usize>,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "`Inner` is boxed as a whole")]
pub(super) enum Kind {
    Database(DbError),
    UnknownDatabase(String),
    Busy(String),
    Connect(String),
    ConnectionLost {
        may_have_executed: bool,
    },
    StatementChanged,
    Denied(String),
    Capped(String),
    Invalid(String),
    InUse,
    Aborted,
    Ended,
    Deadline,
    TooLarge {
        bytes_max: u64,
    },
    Unsupported(String),
    Other(String),
    Parameters {
        expected: usize,
        given: usize,
    },
    ToSql {
        index: usize,
        type_: Type,
    },
    FromSql {
        index: usize,
        name: String,
        /// Whether it is no table's.
        is_computed: bool,
        type_: Type,
        is_null: bool,
    },
    Column {
        wanted: String,
        known: Vec<String>,
    },
    RowCount {
        is_none: bool,
    },
    /// Of a row of which one value was asked for.
    ColumnCount {
        given: usize,
    },
    /// A row that was to be copied.
    CopiedRow {
        row: usize,
        misfit: Box<Kind>,
    },
    /// Rows that were copied out in another format, or others, than the function said.
    CopiedOut(String),
    Malformed(String),
}

impl Error {
    pub(super) fn new(kind: Kind) -> Self {
        Self(Box::new(Inner {
            kind,
            cause: None,
            call: None,
        }))
    }

    pub(super) fn caused(kind: Kind, cause: Cause) -> Self {
        Self(Box::new(Inner {
            kind,
            cause: Some(cause),
            call: None,
        }))
    }

    /// The same, of one statement of a pipeline.
    pub(super) fn of_call(mut self, index: usize) -> Self {
        self.0.call = Some(index);
        self
    }

    /// The same, with the parameters of this statement that it may be about, if it is about a value and the server
    /// does not say which.
    pub(super) fn of_values(mut self, sql: &str, types: &[Type]) -> Self {
        if let Kind::Database(error) = &self.0.kind
            && error.parameter().is_none()
        {
            self.0.cause = suspects::of(error.code(), sql, types).map(Cause::from);
        }
        self
    }

    pub(super) fn malformed(what: impl Into<String>) -> Self {
        Self::new(Kind::Malformed(what.into()))
    }

    /// The same, with another error that has led to it.
    pub(super) fn because(mut self, cause: Self) -> Self {
        self.0.cause = Some(Box::new(cause));
        self
    }

    /// The same, of a row that was to be copied, counted from 1.
    pub(super) fn of_copied_row(mut self, row: usize) -> Self {
        let misfit = Box::new(self.0.kind);
        self.0.kind = Kind::CopiedRow { row, misfit };
        self
    }

    /// What the server said, if it was the server that refused.
    pub fn as_db_error(&self) -> Option<&DbError> {
        match &self.0.kind {
            Kind::Database(error) => Some(error),
            _ => None,
        }
    }

    /// The server's code, if it was the server that refused.
    pub fn code(&self) -> Option<&SqlState> {
        self.as_db_error().map(DbError::code)
    }

    /// Its [`source`](StdError::source), out of the error.
    pub fn into_source(self) -> Option<Box<dyn StdError + Send + Sync>> {
        match self.0.kind {
            Kind::Database(error) => Some(Box::new(error)),
            _ => self.0.cause,
        }
    }

    /// Which statement of a [`Pipeline`](super::Pipeline) it is about, counted from 0; `None` outside of
    /// one, or if it is about all of them.
    pub fn pipeline_index(&self) -> Option<usize> {
        self.0.call
    }

    /// Whether the connection was lost during the call, also if the server said why. See
    /// [`may_have_executed`](Self::may_have_executed).
    pub fn is_closed(&self) -> bool {
        matches!(self.0.kind, Kind::ConnectionLost { .. }) || self.is_last_words()
    }

    /// Whether a value may not have fitted for what the server said when it described the statement: what a
    /// parameter is may change with its table. Rows come with their own columns, and types that are built in are
    /// never altered.
    pub(super) fn may_be_of_an_older_type(&self) -> bool {
        match &self.0.kind {
            Kind::FromSql { type_, is_null, .. } => {
                !is_null && Type::from_oid(type_.oid()).is_none()
            }
            Kind::ToSql { .. } => true,
            _ => false,
        }
    }

    /// Whether the server ended the connection with it, in the middle of the statement.
    fn is_last_words(&self) -> bool {
        let severity = self.as_db_error().map(DbError::severity);
        severity.is_some_and(|severity| matches!(severity, "FATAL" | "PANIC"))
    }

    /// Whether it is about what a statement says, and not about the way to the server.
    pub(super) fn is_of_a_statement(&self) -> bool {
        match &self.0.kind {
            Kind::Database(_) => !self.is_last_words(),
            kind => matches!(kind, Kind::Denied(_) | Kind::Invalid(_)),
        }
    }

    /// Whether no connection came free in time, or the invocation itself holds all of them and does nothing on any, or
    /// the calls that it makes at the same time carry too much together, 64 MiB. Nothing was executed. A transaction is
    /// over if no connection came free for its first statement in the place of one that was lost, and has failed if one
    /// that was begun by text did not come free for the call.
    pub fn is_busy(&self) -> bool {
        matches!(self.0.kind, Kind::Busy(_))
    }

    /// Whether no connection could be made. The message says why; where that was, and what is wrong with a password's
    /// source, is a line of the host's log. Nothing was executed. If it befalls the first statement of a transaction,
    /// whose own connection was lost, the transaction is over.
    pub fn is_connect(&self) -> bool {
        matches!(self.0.kind, Kind::Connect(_))
    }

    /// Whether the invocation's deadline was reached. The host asks the server to stop what it was
    /// executing.
    pub fn is_deadline(&self) -> bool {
        matches!(self.0.kind, Kind::Deadline)
    }

    /// Whether the function may use no database of that name.
    pub fn is_unknown_database(&self) -> bool {
        matches!(self.0.kind, Kind::UnknownDatabase(_))
    }

    /// Whether another call still had the connection: its rows were being read, on a
    /// [`Session`](super::Session) or more than the host holds, or a `COPY` had not ended. Nothing was
    /// executed: read or drop the [`RowStream`](super::RowStream), end or drop the copy, then call again.
    pub fn is_in_use(&self) -> bool {
        matches!(self.0.kind, Kind::InUse)
    }

    /// Whether the server undid a transaction for the sake of others that ran at the same time
    /// (SQLSTATE 40001 or 40P01). Done again from its beginning, it may succeed:
    /// [`Client::transact`](super::Client::transact) does that.
    pub fn is_conflict(&self) -> bool {
        matches!(
            self.code(),
            Some(&SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED)
        )
    }

    /// Whether a `commit` found its transaction failed, so that it was rolled back.
    pub fn is_aborted(&self) -> bool {
        matches!(self.0.kind, Kind::Aborted)
    }

    /// Whether the transaction, rows or invocation to which the call belonged had ended.
    pub fn is_ended(&self) -> bool {
        matches!(self.0.kind, Kind::Ended)
    }

    /// Whether the function may not do what it tried. Nothing was executed.
    pub fn is_denied(&self) -> bool {
        matches!(self.0.kind, Kind::Denied(_))
    }

    /// Whether the call makes no sense, as the message says: a `COPY` by `query`, a text with a zero byte, more
    /// parameters than there can be, or more bytes than one call carries (15 MiB). Nothing was executed.
    pub fn is_invalid(&self) -> bool {
        match &self.0.kind {
            Kind::CopiedRow { misfit, .. } => matches!(**misfit, Kind::Invalid(_)),
            kind => matches!(kind, Kind::Invalid(_)),
        }
    }

    /// Whether the result has more rows or bytes than the function may read. A transaction has failed by it, unless the
    /// statement is one that only reads (one that calls a function of the database, or fetches from a cursor, may do
    /// more) and was executed by itself: by a pipeline or a `COPY` it has failed in any case. Outside of a transaction
    /// the server is told to stop, which undoes all that it did, unless it had ended by then: nobody knows which ([`may_have_executed`](Self::may_have_executed)).
    pub fn is_capped(&self) -> bool {
        matches!(self.0.kind, Kind::Capped(_))
    }

    /// Whether this environment cannot do what was asked for, such as waiting for notifications
    /// where Lambda freezes it. Nothing was executed.
    pub fn is_unsupported(&self) -> bool {
        matches!(self.0.kind, Kind::Unsupported(_))
    }

    /// Whether a single row, or all rows of a pipeline, were larger than the host passes on at once
    /// (8 MiB). A larger value can be read in pieces: `substring(value FROM 1 FOR 4000000)`.
    pub fn is_too_large(&self) -> bool {
        matches!(self.0.kind, Kind::TooLarge { .. })
    }

    /// Whether [`query_one`](super::Client::query_one) or
    /// [`query_opt`](super::Client::query_opt) found another number of rows than they return.
    pub fn is_row_count(&self) -> bool {
        matches!(self.0.kind, Kind::RowCount { .. })
    }

    /// Whether the statement may have taken effect in spite of the error, or (for errors about
    /// rows and their values) did. Calling again is safe only if it is `false`, or if the statement
    /// does no harm when it is executed twice.
    ///
    /// Inside a transaction nothing has effect before the `commit`. What a text commits on its way is not
    /// known here: of a procedure (`CALL`), a `DO` block or a batch with a `COMMIT` in it the first part may
    /// have taken effect before the server refused the next.
    pub fn may_have_executed(&self) -> bool {
        match self.0.kind {
            Kind::ConnectionLost { may_have_executed } => may_have_executed,
            Kind::Database(_) => self.is_last_words(),
            Kind::UnknownDatabase(_)
            | Kind::Busy(_)
            | Kind::Connect(_)
            | Kind::StatementChanged
            | Kind::Denied(_)
            | Kind::Unsupported(_)
            | Kind::Invalid(_)
            | Kind::InUse
            | Kind::Aborted
            | Kind::Ended
            | Kind::Parameters { .. }
            | Kind::CopiedRow { .. }
            | Kind::ToSql { .. } => false,
            Kind::Deadline
            | Kind::Capped(_)
            | Kind::TooLarge { .. }
            | Kind::Other(_)
            | Kind::CopiedOut(_)
            | Kind::FromSql { .. }
            | Kind::Column { .. }
            | Kind::RowCount { .. }
            | Kind::ColumnCount { .. }
            | Kind::Malformed(_) => true,
        }
    }
}

impl From<wire::Error> for Error {
    fn from(error: wire::Error) -> Self {
        Self::new(match error {
            wire::Error::Database(error) => Kind::Database(DbError::new(error)),
            wire::Error::UnknownDatabase(text) => Kind::UnknownDatabase(text),
            wire::Error::Busy(text) => Kind::Busy(text),
            wire::Error::Connect(text) => Kind::Connect(text),
            wire::Error::ConnectionLost(may_have_executed) => {
                Kind::ConnectionLost { may_have_executed }
            }
            wire::Error::StatementChanged(_) => Kind::StatementChanged,
            wire::Error::Denied(text) => Kind::Denied(text),
            wire::Error::Capped(text) => Kind::Capped(text),
            wire::Error::Invalid(text) => Kind::Invalid(text),
            wire::Error::InUse => Kind::InUse,
            wire::Error::Aborted => Kind::Aborted,
            wire::Error::Ended => Kind::Ended,
            wire::Error::Deadline => Kind::Deadline,
            wire::Error::TooLarge(bytes_max) => Kind::TooLarge { bytes_max },
            wire::Error::Unsupported(text) => Kind::Unsupported(text),
            wire::Error::Other(text) => Kind::Other(text),
        })
    }
}

impl From<wire::PipelineError> for Error {
    fn from(error: wire::PipelineError) -> Self {
        let of_all = Self::from(error.error);
        match error.index {
            Some(index) => of_all.of_call(index as usize),
            None => of_all,
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("cause", &self.0.cause)
            .field("pipeline_index", &self.0.call)
            .finish()
    }
}

impl StdError for Error {
    /// What the server said ([`DbError`]), or why a value could not be converted. The error displays that too.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0.kind {
            Kind::Database(error) => Some(error),
            _ => self.0.cause.as_deref().map(|cause| cause as _),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_what_another_error_says_of_it() {
        let missing = wire::Error::Database(crate::postgres::db_error::tests::refused(
            "42P01", "no table",
        ));
        let refused = Error::from(missing);
        let source = refused
            .source()
            .and_then(|source| source.downcast_ref::<DbError>());
        assert_eq!(source.map(DbError::code), Some(&SqlState::UNDEFINED_TABLE));
        let type_ = Type::INT4;
        let cause = postgres_types::WrongType::new::<String>(type_.clone());
        let misfit = Error::caused(Kind::ToSql { index: 0, type_ }, cause.into());
        assert!(
            misfit
                .source()
                .is_some_and(|source| source.is::<postgres_types::WrongType>())
        );
        assert!(Error::new(Kind::Deadline).source().is_none());
    }

    #[test]
    fn the_error_of_a_pipelines_statement_keeps_its_kind() {
        let of = |index, error| Error::from(wire::PipelineError { index, error });
        let unsupported = of(Some(1), wire::Error::Unsupported("not here".to_owned()));
        assert!(unsupported.is_unsupported() && !unsupported.may_have_executed());
        assert_eq!(unsupported.pipeline_index(), Some(1));
        let text = "statement 2 of the pipeline: the database call failed: not here";
        assert_eq!(unsupported.to_string(), text);
        let deadline = of(None, wire::Error::Deadline);
        assert!(deadline.is_deadline() && deadline.may_have_executed());
        assert_eq!(deadline.pipeline_index(), None);
        let invalid = of(Some(0), wire::Error::Invalid("no SQL".to_owned()));
        assert!(invalid.is_invalid() && !invalid.may_have_executed() && !deadline.is_invalid());
    }
}
