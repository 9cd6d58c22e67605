//! Which texts may set how long a server waits for its session.

use super::lexer::Token;
use super::words::Words;

/// The settings that limit that. The last one is known to PostgreSQL 14 and later.
pub const SETTINGS: [&str; 3] = [
    "statement_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
];

/// Whether a text names one of them, or a setting that cannot be read in it. What a function does is not in the text.
pub fn limits(words: &Words) -> bool {
    let may_limit = |token: &Token| token.hides_a_setting() || token.names_setting(&SETTINGS);
    words.readings().flatten().any(may_limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_limit_a_session_is_told_from_what_does_not() {
        let limits = |sql: &str| limits(&Words::of(sql));
        for sql in [
            "set statement_timeout to 200",
            "select 1; SET LOCAL \"idle_session_timeout\" = 0",
            "reset idle_in_transaction_session_timeout",
            "select set_config($1, $2, true)",
            "set \"Statement_Timeout\" to 0",
            "set U&\"statement\\005ftimeout\" to 0",
        ] {
            assert!(limits(sql), "{sql}");
        }
        for sql in [
            "",
            "set lock_timeout to 200",
            "select 'set statement_timeout to 0' -- statement_timeout",
            "update jobs set timeout = $1",
        ] {
            assert!(!limits(sql), "{sql}");
        }
    }
}
