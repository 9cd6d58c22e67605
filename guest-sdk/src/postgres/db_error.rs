//! What the server says of a failure.
//!
//! Promises: it displays no values of the database; those are in the detail, which has to be asked for.

use std::error::Error as StdError;
use std::fmt;

use super::sql_state::SqlState;
use crate::bindings::hearth::postgres::client as wire;

/// What the server said of a failure.
#[derive(Clone, Debug)]
pub struct DbError {
    code: SqlState,
    fields: wire::DatabaseError,
}

impl DbError {
    pub(super) fn new(fields: wire::DatabaseError) -> Self {
        Self {
            code: SqlState::from_code(&fields.code),
            fields,
        }
    }

    /// `ERROR`, `FATAL` or `PANIC`; the server may write it in its own language.
    pub fn severity(&self) -> &str {
        &self.fields.severity
    }

    /// The SQLSTATE.
    pub fn code(&self) -> &SqlState {
        &self.code
    }

    /// What happened, in one line.
    pub fn message(&self) -> &str {
        &self.fields.message
    }

    /// More about it, perhaps in several lines and with values from the database.
    pub fn detail(&self) -> Option<&str> {
        self.fields.detail.as_deref()
    }

    /// What could be done about it.
    pub fn hint(&self) -> Option<&str> {
        self.fields.hint.as_deref()
    }

    /// The character of the SQL text at which the error was found, counted from 1.
    pub fn position(&self) -> Option<u32> {
        self.fields.position
    }

    /// Where in functions and triggers it happened, innermost first.
    pub fn where_(&self) -> Option<&str> {
        self.fields.context.as_deref()
    }

    /// The schema of the table, type or constraint concerned.
    pub fn schema(&self) -> Option<&str> {
        self.fields.schema.as_deref()
    }

    /// The table concerned.
    pub fn table(&self) -> Option<&str> {
        self.fields.table.as_deref()
    }

    /// The column concerned.
    pub fn column(&self) -> Option<&str> {
        self.fields.column.as_deref()
    }

    /// The type concerned.
    pub fn datatype(&self) -> Option<&str> {
        self.fields.data_type.as_deref()
    }

    /// The constraint concerned.
    pub fn constraint(&self) -> Option<&str> {
        self.fields.constraint.as_deref()
    }
}

/// The message, the SQLSTATE, the position and the hint; not the detail, which may have values of the
/// database in it.
impl fmt::Display for DbError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (SQLSTATE {}", self.message(), self.code)?;
        if let Some(position) = self.position() {
            write!(formatter, ", at character {position}")?;
        }
        formatter.write_str(")")?;
        match self.hint() {
            Some(hint) => write!(formatter, ": {hint}"),
            None => Ok(()),
        }
    }
}

impl StdError for DbError {}
