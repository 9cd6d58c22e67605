//! SQLSTATE codes, and names for those that programs look for.

use std::fmt;

/// The code of an error from PostgreSQL: five characters, of which the first two are its class.
///
/// The constants can be matched:
///
/// ```
/// use hearth::postgres::SqlState;
///
/// let retry = match SqlState::from_code("40001") {
///     SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => true,
///     _ => false,
/// };
/// assert!(retry);
/// ```
///
/// All codes stand in [the manual](https://www.postgresql.org/docs/current/errcodes-appendix.html);
/// the names here are those of `tokio_postgres`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SqlState([u8; 5]);

impl SqlState {
    /// The code with this text. What is not five ASCII characters cannot come from PostgreSQL and
    /// becomes [`INTERNAL_ERROR`](Self::INTERNAL_ERROR).
    pub const fn from_code(code: &str) -> Self {
        match *code.as_bytes() {
            [a, b, c, d, e] if code.is_ascii() => Self([a, b, c, d, e]),
            _ => Self::INTERNAL_ERROR,
        }
    }

    /// The five characters.
    pub fn code(&self) -> &str {
        // Only ASCII gets in.
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }

    /// The class: the first two characters, such as `23` for all violations of constraints.
    pub fn class(&self) -> &str {
        &self.code()[..2]
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SqlState({})", self.code())
    }
}

macro_rules! states {
    ($($name:ident $code:literal)*) => {
        impl SqlState {
            $(
                #[doc = concat!("`", $code, "`")]
                pub const $name: Self = Self(*$code.as_bytes().first_chunk().expect("five"));
            )*
        }
    };
}

states! {
    SUCCESSFUL_COMPLETION "00000"
    WARNING "01000"
    NO_DATA "02000"
    CONNECTION_EXCEPTION "08000"
    CONNECTION_DOES_NOT_EXIST "08003"
    CONNECTION_FAILURE "08006"
    PROTOCOL_VIOLATION "08P01"
    FEATURE_NOT_SUPPORTED "0A000"
    CARDINALITY_VIOLATION "21000"
    DATA_EXCEPTION "22000"
    STRING_DATA_RIGHT_TRUNCATION "22001"
    NUMERIC_VALUE_OUT_OF_RANGE "22003"
    NULL_VALUE_NOT_ALLOWED "22004"
    INVALID_DATETIME_FORMAT "22007"
    DATETIME_FIELD_OVERFLOW "22008"
    DIVISION_BY_ZERO "22012"
    CHARACTER_NOT_IN_REPERTOIRE "22021"
    INVALID_PARAMETER_VALUE "22023"
    INVALID_TEXT_REPRESENTATION "22P02"
    INVALID_BINARY_REPRESENTATION "22P03"
    UNTRANSLATABLE_CHARACTER "22P05"
    INTEGRITY_CONSTRAINT_VIOLATION "23000"
    RESTRICT_VIOLATION "23001"
    NOT_NULL_VIOLATION "23502"
    FOREIGN_KEY_VIOLATION "23503"
    UNIQUE_VIOLATION "23505"
    CHECK_VIOLATION "23514"
    EXCLUSION_VIOLATION "23P01"
    INVALID_CURSOR_STATE "24000"
    INVALID_TRANSACTION_STATE "25000"
    ACTIVE_SQL_TRANSACTION "25001"
    READ_ONLY_SQL_TRANSACTION "25006"
    NO_ACTIVE_SQL_TRANSACTION "25P01"
    IN_FAILED_SQL_TRANSACTION "25P02"
    IDLE_IN_TRANSACTION_SESSION_TIMEOUT "25P03"
    TRANSACTION_TIMEOUT "25P04"
    INVALID_SQL_STATEMENT_NAME "26000"
    INVALID_AUTHORIZATION_SPECIFICATION "28000"
    INVALID_PASSWORD "28P01"
    INVALID_CURSOR_NAME "34000"
    S_E_INVALID_SPECIFICATION "3B001"
    INVALID_CATALOG_NAME "3D000"
    INVALID_SCHEMA_NAME "3F000"
    TRANSACTION_ROLLBACK "40000"
    T_R_SERIALIZATION_FAILURE "40001"
    T_R_INTEGRITY_CONSTRAINT_VIOLATION "40002"
    T_R_STATEMENT_COMPLETION_UNKNOWN "40003"
    T_R_DEADLOCK_DETECTED "40P01"
    SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION "42000"
    INSUFFICIENT_PRIVILEGE "42501"
    SYNTAX_ERROR "42601"
    DUPLICATE_COLUMN "42701"
    AMBIGUOUS_COLUMN "42702"
    UNDEFINED_COLUMN "42703"
    UNDEFINED_OBJECT "42704"
    DUPLICATE_OBJECT "42710"
    GROUPING_ERROR "42803"
    DATATYPE_MISMATCH "42804"
    UNDEFINED_FUNCTION "42883"
    UNDEFINED_TABLE "42P01"
    UNDEFINED_PARAMETER "42P02"
    DUPLICATE_DATABASE "42P04"
    DUPLICATE_SCHEMA "42P06"
    DUPLICATE_TABLE "42P07"
    INDETERMINATE_DATATYPE "42P18"
    WITH_CHECK_OPTION_VIOLATION "44000"
    INSUFFICIENT_RESOURCES "53000"
    DISK_FULL "53100"
    OUT_OF_MEMORY "53200"
    TOO_MANY_CONNECTIONS "53300"
    PROGRAM_LIMIT_EXCEEDED "54000"
    STATEMENT_TOO_COMPLEX "54001"
    OBJECT_NOT_IN_PREREQUISITE_STATE "55000"
    OBJECT_IN_USE "55006"
    LOCK_NOT_AVAILABLE "55P03"
    QUERY_CANCELED "57014"
    ADMIN_SHUTDOWN "57P01"
    CRASH_SHUTDOWN "57P02"
    CANNOT_CONNECT_NOW "57P03"
    DATABASE_DROPPED "57P04"
    IDLE_SESSION_TIMEOUT "57P05"
    SYSTEM_ERROR "58000"
    IO_ERROR "58030"
    RAISE_EXCEPTION "P0001"
    NO_DATA_FOUND "P0002"
    TOO_MANY_ROWS "P0003"
    ASSERT_FAILURE "P0004"
    INTERNAL_ERROR "XX000"
    DATA_CORRUPTED "XX001"
    INDEX_CORRUPTED "XX002"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_five_ascii_characters() {
        let cases = [
            ("23505", SqlState::UNIQUE_VIOLATION, "23505", "23"),
            ("ZZ9Z9", SqlState(*b"ZZ9Z9"), "ZZ9Z9", "ZZ"),
            ("2350", SqlState::INTERNAL_ERROR, "XX000", "XX"),
            ("2350é", SqlState::INTERNAL_ERROR, "XX000", "XX"),
            ("é505", SqlState::INTERNAL_ERROR, "XX000", "XX"),
        ];
        for (text, state, code, class) in cases {
            assert_eq!(SqlState::from_code(text), state, "{text}");
            assert_eq!(state.code(), code);
            assert_eq!(state.class(), class);
        }
    }
}
