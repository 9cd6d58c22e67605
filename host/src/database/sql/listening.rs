//! Which texts begin to listen for notifications.

use super::kinds::statements;
use super::lexer::{Token, Tokens};

/// Whether a text has a statement `LISTEN`.
pub fn listens(sql: &str) -> bool {
    // Every statement is asked, so most are not read: they begin with another word, and are alone.
    let start = sql.trim_ascii_start();
    let may_listen = start
        .get(..6)
        .is_some_and(|word| word.eq_ignore_ascii_case("listen"));
    if !may_listen && !start.starts_with(['-', '/']) && !start.contains(';') {
        return false;
    }
    let tokens: Vec<Token> = Tokens::words(sql).collect();
    statements(&tokens).any(|statement| statement[0].is("listen"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_statement_of_that_name_listens() {
        for sql in [
            "listen a",
            "  LISTEN \"a\"",
            "-- for news\nlisten a",
            "select 1; listen a",
        ] {
            assert!(listens(sql), "{sql}");
        }
        for sql in [
            "",
            "unlisten *",
            "notify a",
            "listener",
            "select listen from a; select 1",
            "select '; listen a'",
            "select 1; \"listen\"",
        ] {
            assert!(!listens(sql), "{sql}");
        }
    }
}
