//! What the server says when it refuses something.
//!
//! Promises: every field that PostgreSQL sends is kept, in its own words; bytes that are not UTF-8
//! (a server that fails before it knows the client's encoding) are replaced, and nothing panics.

use std::fmt;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorFields;

/// An `ErrorResponse` or `NoticeResponse`. Its fields are those of PostgreSQL's protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerError {
    /// `ERROR`, `FATAL` or `PANIC`; the word for it that is never translated.
    pub severity: String,
    /// The SQLSTATE: five characters.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What can be done about it.
    pub hint: Option<String>,
    /// Where in the statement, in characters from 1.
    pub position: Option<u32>,
    /// Where in `internal_query`, in characters from 1.
    pub internal_position: Option<u32>,
    /// The statement that failed, where the server made it up itself.
    pub internal_query: Option<String>,
    /// What was being executed, innermost first.
    pub context: Option<String>,
    /// The schema that it is about.
    pub schema: Option<String>,
    /// The table that it is about.
    pub table: Option<String>,
    /// The column that it is about.
    pub column: Option<String>,
    /// The data type that it is about.
    pub data_type: Option<String>,
    /// The constraint that it is about.
    pub constraint: Option<String>,
    /// The file of the server's own source that says so.
    pub file: Option<String>,
    /// The line of that file.
    pub line: Option<u32>,
    /// The function of the server's own source that says so: the same in every language.
    pub routine: Option<String>,
}

/// What an error says about the connection it came on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: it is about the statement.
    Usable,
    /// It is lost, or about to be: the server is going away, or was told to end it.
    Lost,
    /// The server no longer takes writes, which it did when the connection was made: it has become
    /// a standby, and another one the primary.
    Demoted,
}

/// With what a server ends a session that asks for nothing.
const ENDS: [&str; 5] = ["57P01", "57P02", "57P03", "57P05", "25P03"];

impl ServerError {
    /// The fields of a message, as far as it is well formed.
    pub fn read(mut fields: ErrorFields<'_>) -> Self {
        let mut error = Self::default();
        let mut translated = String::new();
        while let Ok(Some(field)) = fields.next() {
            let text = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'V' => error.severity = text,
                b'S' => translated = text,
                b'C' => error.code = text,
                b'M' => error.message = text,
                b'D' => error.detail = Some(text),
                b'H' => error.hint = Some(text),
                b'P' => error.position = text.parse().ok(),
                b'p' => error.internal_position = text.parse().ok(),
                b'q' => error.internal_query = Some(text),
                b'W' => error.context = Some(text),
                b's' => error.schema = Some(text),
                b't' => error.table = Some(text),
                b'c' => error.column = Some(text),
                b'd' => error.data_type = Some(text),
                b'n' => error.constraint = Some(text),
                b'F' => error.file = Some(text),
                b'L' => error.line = text.parse().ok(),
                b'R' => error.routine = Some(text),
                // What later versions may add.
                _ => {}
            }
        }
        // Servers older than 9.6 send the translated word alone.
        if error.severity.is_empty() {
            error.severity = translated;
        }
        error
    }

    /// Whether the server ends the session with it.
    pub fn is_fatal(&self) -> bool {
        matches!(self.severity.as_str(), "FATAL" | "PANIC")
    }

    /// Whether a server itself says this to a session that it ends while that asks for nothing: it goes down,
    /// or was told to end it (57P01, 57P02, 57P03), or the session has rested too long (57P05, 25P03). The name
    /// of the routine is what only a server's own words have.
    pub fn is_said_while_idle(&self) -> bool {
        self.routine.is_some() && ENDS.contains(&self.code.as_str())
    }

    /// Whether it is about the way to a server, as are the words of a pooler that has lost its own
    /// connection, or of one that says anything in a server's place.
    pub fn is_of_the_way(&self) -> bool {
        self.code.starts_with("08") || self.routine.is_none()
    }

    /// Whether it comes from one of these functions of the server's; or, if it does not say from which, its
    /// message begins like this.
    pub fn is_from(&self, routines: &[&str], message: &str) -> bool {
        match &self.routine {
            Some(routine) => routines.contains(&routine.as_str()),
            None => self.message.starts_with(message),
        }
    }

    /// Whether the secret may be an old one: it was changed after it was read.
    pub fn is_refused_login(&self) -> bool {
        matches!(self.code.as_str(), "28P01" | "28000")
    }

    /// Whether the server will take connections later: it is starting up or ending (57P03), or has
    /// as many as it takes (53300).
    pub fn is_passing(&self) -> bool {
        matches!(self.code.as_str(), "57P03" | "53300")
    }

    /// What it says about the connection it came on.
    pub fn verdict(&self) -> Verdict {
        match self.code.as_str() {
            "25006" => Verdict::Demoted,
            code if ENDS.contains(&code) => Verdict::Lost,
            code if code.starts_with("08") || self.is_fatal() => Verdict::Lost,
            _ => Verdict::Usable,
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            severity,
            message,
            code,
            ..
        } = self;
        write!(formatter, "{severity}: {message} (SQLSTATE {code})")
    }
}

impl std::error::Error for ServerError {}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};
    use postgres_protocol::message::backend::Message;

    use super::*;

    fn read(fields: &[u8]) -> ServerError {
        let mut bytes = BytesMut::new();
        bytes.put_u8(b'E');
        bytes.put_u32(4 + fields.len() as u32);
        bytes.put_slice(fields);
        match Message::parse(&mut bytes).unwrap() {
            Some(Message::ErrorResponse(body)) => ServerError::read(body.fields()),
            _ => panic!("it is one"),
        }
    }

    #[test]
    fn every_field_is_kept_and_the_untranslated_severity_wins() {
        let error = read(
            b"SFEHLER\0VERROR\0C23505\0Mdoppelt\0Dd\0Hh\0P7\0p8\0qq\0Ww\0ss\0tt\0cc\0dd\0nn\0Ffile\0L9\0Rroutine\0\0",
        );
        let some = |text: &str| Some(text.to_owned());
        let expected = ServerError {
            severity: "ERROR".to_owned(),
            code: "23505".to_owned(),
            message: "doppelt".to_owned(),
            detail: some("d"),
            hint: some("h"),
            position: Some(7),
            internal_position: Some(8),
            internal_query: some("q"),
            context: some("w"),
            schema: some("s"),
            table: some("t"),
            column: some("c"),
            data_type: some("d"),
            constraint: some("n"),
            file: some("file"),
            line: Some(9),
            routine: some("routine"),
        };
        assert_eq!(error, expected);
        assert_eq!(error.to_string(), "ERROR: doppelt (SQLSTATE 23505)");
    }

    #[test]
    fn what_is_broken_is_read_as_far_as_it_goes() {
        let error = read(b"SFATAL\0Mschl\xfcssel\0C57");
        assert_eq!(
            (error.severity.as_str(), error.message.as_str()),
            ("FATAL", "schl\u{fffd}ssel")
        );
        assert_eq!(read(b""), ServerError::default());
        assert_eq!(read(b"Px\0\0").position, None);
    }

    #[test]
    fn a_poolers_words_are_told_from_a_servers() {
        #[rustfmt::skip]
        let cases = [
            ("57P01", Some("ProcessInterrupts"), true, false),
            ("25P03", Some("ProcessInterrupts"), true, false),
            ("57P01", None, false, true),
            ("08P01", None, false, true),
            ("08P01", Some("SocketBackend"), false, true),
            ("25P04", Some("ProcessInterrupts"), false, false),
            ("XX000", Some("AbortTransaction"), false, false),
        ];
        for (code, routine, idle, way) in cases {
            let error = ServerError {
                code: code.to_owned(),
                routine: routine.map(str::to_owned),
                ..ServerError::default()
            };
            let told = (error.is_said_while_idle(), error.is_of_the_way());
            assert_eq!(told, (idle, way), "{code} {routine:?}");
        }
    }

    #[test]
    fn an_error_says_what_has_become_of_its_connection() {
        #[rustfmt::skip]
        let cases = [
            ("ERROR", "25006", Verdict::Demoted),
            ("FATAL", "57P01", Verdict::Lost),
            ("WARNING", "57P02", Verdict::Lost),
            ("FATAL", "57P03", Verdict::Lost),
            ("FATAL", "57P05", Verdict::Lost),
            ("FATAL", "25P03", Verdict::Lost),
            ("ERROR", "08006", Verdict::Lost),
            ("FATAL", "XX000", Verdict::Lost),
            ("PANIC", "XX001", Verdict::Lost),
            ("ERROR", "57014", Verdict::Usable),
            ("ERROR", "23505", Verdict::Usable),
            ("ERROR", "25P02", Verdict::Usable),
            ("ERROR", "40001", Verdict::Usable),
        ];
        for (severity, code, expected) in cases {
            let error = ServerError {
                severity: severity.to_owned(),
                code: code.to_owned(),
                ..ServerError::default()
            };
            assert_eq!(error.verdict(), expected, "{severity} {code}");
        }
    }
}
