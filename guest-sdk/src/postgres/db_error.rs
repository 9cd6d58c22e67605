//! What the server says of a failure.
//!
//! Promises: it displays no values of the database but those that the server quotes in its message; the others are
//! in the detail, which has to be asked for.

use std::error::Error as StdError;
use std::fmt;

use super::sql_state::SqlState;
use crate::bindings::hearth::postgres::client as wire;

/// What the server said of a failure.
#[derive(Clone, Debug)]
pub struct DbError {
    code: SqlState,
    position: Option<ErrorPosition>,
    fields: wire::DatabaseError,
}

/// How grave what a server says is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// `PANIC`: all sessions of the server end.
    Panic,
    /// `FATAL`: the session ends.
    Fatal,
    /// `ERROR`: the statement, and a transaction around it, has failed.
    Error,
    /// `WARNING`
    Warning,
    /// `NOTICE`
    Notice,
    /// `DEBUG`
    Debug,
    /// `INFO`
    Info,
    /// `LOG`
    Log,
}

impl Severity {
    const ALL: [Self; 8] = [
        Self::Panic,
        Self::Fatal,
        Self::Error,
        Self::Warning,
        Self::Notice,
        Self::Debug,
        Self::Info,
        Self::Log,
    ];

    fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|severity| severity.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Panic => "PANIC",
            Self::Fatal => "FATAL",
            Self::Error => "ERROR",
            Self::Warning => "WARNING",
            Self::Notice => "NOTICE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Log => "LOG",
        }
    }
}

/// As the server has it in English: `ERROR`.
impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// Where in a statement an error was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorPosition {
    /// The character of the SQL text of the call, counted from 1.
    Original(u32),
    /// Within a statement that the server had made up itself, such as that of a function.
    Internal {
        /// The character of that text, counted from 1.
        position: u32,
        /// That text, which may have values in it.
        query: String,
    },
}

impl DbError {
    pub(super) fn new(mut fields: wire::DatabaseError) -> Self {
        let internal = fields.internal_position.zip(fields.internal_query.take());
        let position = match (fields.position, internal) {
            (Some(position), _) => Some(ErrorPosition::Original(position)),
            (None, Some((position, query))) => Some(ErrorPosition::Internal { position, query }),
            (None, None) => None,
        };
        Self {
            code: SqlState::from_code(&fields.code),
            position,
            fields,
        }
    }

    /// `ERROR`, `FATAL` or `PANIC`; a server before PostgreSQL 9.6 may write it in its own language.
    pub fn severity(&self) -> &str {
        &self.fields.severity
    }

    /// The same, unless it is in another language.
    pub fn parsed_severity(&self) -> Option<Severity> {
        Severity::named(self.severity())
    }

    /// The SQLSTATE.
    pub fn code(&self) -> &SqlState {
        &self.code
    }

    /// What happened, in one line. It may quote a value: the text that is no number (22P02) or no date (22007), or what
    /// a `RAISE` says.
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

    /// Where in the SQL text the error was found.
    pub fn position(&self) -> Option<&ErrorPosition> {
        self.position.as_ref()
    }

    /// Where in functions and triggers it happened, innermost first.
    pub fn where_(&self) -> Option<&str> {
        self.fields.context.as_deref()
    }

    /// The parameter that the server did not take, counted from 1 as in `$1`: its bytes are no value of
    /// its type, or one that a domain does not allow. The server says so in its own language only.
    pub fn parameter(&self) -> Option<u32> {
        let context = self.where_()?.lines().next()?;
        let (portal, parameter) = context.split_once(" parameter $")?;
        let digits = parameter.split(|c: char| !c.is_ascii_digit()).next()?;
        let is_said = portal == "unnamed portal" || portal.starts_with("portal ");
        digits.parse().ok().filter(|_| is_said)
    }

    /// What a `COPY` was about: its table, and where in the data and in which column it stopped. Of what
    /// the server says of that, all but the data.
    fn copied(&self) -> Option<&str> {
        let context = self.where_()?;
        let line = context.lines().find(|line| line.starts_with("COPY "))?;
        // Behind the colon are the bytes that it stopped at.
        Some(line.split(": ").next().unwrap_or(line))
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

    /// The file of the server's own source that says so.
    pub fn file(&self) -> Option<&str> {
        self.fields.file.as_deref()
    }

    /// The line of that file.
    pub fn line(&self) -> Option<u32> {
        self.fields.line
    }

    /// The function of the server's own source that says so: the same in every language.
    pub fn routine(&self) -> Option<&str> {
        self.fields.routine.as_deref()
    }

    /// All that it says: the texts, where, and in which line of the server's own source.
    fn told(&self) -> ([Option<&str>; 13], Option<&ErrorPosition>, Option<u32>) {
        let texts = [
            Some(self.severity()),
            Some(self.code.code()),
            Some(self.message()),
            self.detail(),
            self.hint(),
            self.where_(),
            self.schema(),
            self.table(),
            self.column(),
            self.datatype(),
            self.constraint(),
            self.file(),
            self.routine(),
        ];
        (texts, self.position(), self.line())
    }
}

impl PartialEq for DbError {
    fn eq(&self, other: &Self) -> bool {
        self.told() == other.told()
    }
}

impl Eq for DbError {}

/// The parameter or the place in a `COPY`, the message, the SQLSTATE, the position and the hint; not the
/// detail, which may have values of the database in it. The [`message`](DbError::message) may quote one, too.
impl fmt::Display for DbError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parameter) = self.parameter() {
            write!(formatter, "parameter ${parameter}: ")?;
        }
        if let Some(copied) = self.copied() {
            write!(formatter, "{copied}: ")?;
        }
        write!(formatter, "{} (SQLSTATE {}", self.message(), self.code)?;
        if let Some(ErrorPosition::Original(position)) = self.position() {
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A refusal with nothing but these.
    pub(crate) fn refused(code: &str, message: &str) -> wire::DatabaseError {
        wire::DatabaseError {
            severity: "ERROR".to_owned(),
            code: code.to_owned(),
            message: message.to_owned(),
            detail: None,
            hint: None,
            position: None,
            context: None,
            schema: None,
            table: None,
            column: None,
            data_type: None,
            constraint: None,
            internal_query: None,
            internal_position: None,
            file: None,
            line: None,
            routine: None,
        }
    }

    fn error(context: &str) -> DbError {
        DbError::new(wire::DatabaseError {
            detail: Some("the value 7".to_owned()),
            hint: Some("Try another.".to_owned()),
            position: Some(8),
            context: Some(context.to_owned()),
            ..refused("22P02", "invalid")
        })
    }

    #[test]
    fn a_position_is_in_the_calls_text_or_in_one_of_the_servers() {
        let at = |position, internal_position, internal_query: Option<&str>| {
            let error = DbError::new(wire::DatabaseError {
                position,
                internal_position,
                internal_query: internal_query.map(str::to_owned),
                ..refused("42703", "no column")
            });
            assert_eq!(error.parsed_severity(), Some(Severity::Error));
            assert!(!error.to_string().contains("secret"), "{error}");
            error.position().cloned()
        };
        let internal = ErrorPosition::Internal {
            position: 3,
            query: "secret".to_owned(),
        };
        assert_eq!(at(Some(8), None, None), Some(ErrorPosition::Original(8)));
        assert_eq!(at(None, Some(3), Some("secret")), Some(internal));
        assert_eq!(at(None, None, Some("secret")), None);
        assert_eq!(at(None, None, None), None);
    }

    #[test]
    fn errors_that_say_the_same_are_equal() {
        let said = error("here");
        assert_eq!(said, error("here"));
        assert_ne!(said, error("there"));
        assert_ne!(said, DbError::new(refused("22P02", "invalid")));
    }

    #[test]
    fn a_severity_reads_as_it_is_written() {
        for severity in Severity::ALL {
            assert_eq!(Severity::named(&severity.to_string()), Some(severity));
        }
        assert_eq!(format!("{:>6}", Severity::Error), " ERROR");
    }

    #[test]
    fn it_displays_all_that_helps_and_no_values() {
        let rest = "invalid (SQLSTATE 22P02, at character 8): Try another.";
        for (context, parameter) in [
            ("unnamed portal parameter $2", Some(2)),
            ("portal \"c1f\" parameter $12 = 'secret'\nmore", Some(12)),
            ("PL/pgSQL function f() line 3 at parameter $2", None),
            ("", None),
        ] {
            let error = error(context);
            assert_eq!(error.parameter(), parameter, "{context}");
            assert_eq!(error.copied(), None, "{context}");
            let said = parameter.map(|number| format!("parameter ${number}: "));
            let said = format!("{}{rest}", said.unwrap_or_default());
            assert_eq!(error.to_string(), said, "{context}");
        }
    }

    #[test]
    fn an_error_of_a_copy_says_where_and_keeps_the_data_to_itself() {
        for (context, copied) in [
            (
                "COPY item, line 2, column id: \"secret\"",
                "COPY item, line 2, column id",
            ),
            (
                "COPY item, Zeile 2, Spalte id: »secret«",
                "COPY item, Zeile 2, Spalte id",
            ),
            ("COPY item, line 2: \"secret, secret\"", "COPY item, line 2"),
            (
                "PL/pgSQL function f() line 3\nCOPY item, line 1",
                "COPY item, line 1",
            ),
        ] {
            let said = error(context).to_string();
            assert!(
                said.starts_with(&format!("{copied}: invalid (SQLSTATE")),
                "{said}"
            );
            assert!(!said.contains("secret"), "{said}");
        }
    }
}
