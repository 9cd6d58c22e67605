//! Which statements end the transaction that they run in, or a part of it.

use super::kinds::{goes_back_to_a_savepoint, prepares_transaction, statements};
use super::lexer::{Token, Tokens};
use super::words::Words;

/// Whether a statement ends its transaction, by its text: a procedure may do so too.
pub fn ends_transaction(sql: &str) -> bool {
    let mut tokens = Tokens::statement(sql).peekable();
    // Of most statements no more need be read.
    let may_end = tokens.peek().is_some_and(|verb| verb.is_one_of(&VERBS));
    may_end && of_statement(&tokens.collect::<Vec<_>>())
}

/// Whether any statement of a text does. What stands between `BEGIN ATOMIC` and `END` is taken for statements, too.
pub fn ends_somewhere(sql: &str) -> bool {
    let tokens: Vec<Token> = Tokens::words(sql).collect();
    statements(&tokens).any(of_statement)
}

/// Whether a text begins a transaction, or undoes the one that is open, before anything else: nothing in it relies on
/// what was done in that.
pub fn begins_anew(sql: &str) -> bool {
    let tokens: Vec<Token> = Tokens::statement(sql).collect();
    match tokens.first() {
        Some(verb) if verb.is_one_of(&["begin", "start"]) => true,
        Some(verb) if verb.is_one_of(&["abort", "rollback"]) => of_statement(&tokens),
        _ => false,
    }
}

/// Whether any statement of a text goes back to a savepoint, and so ends what was done since; or ends its transaction
/// and begins the next one at once (`AND CHAIN`), of which the server does not say that it is another one.
pub fn goes_back(words: &Words) -> bool {
    let goes_back = |tokens: &[Token]| match tokens.split_first() {
        Some((verb, rest)) if verb.is("rollback") && goes_back_to_a_savepoint(rest) => true,
        Some((_, rest)) => chains(rest) && of_statement(tokens),
        None => false,
    };
    let mut readings = words.readings();
    readings.any(|tokens| statements(tokens).any(goes_back))
}

fn chains(tokens: &[Token]) -> bool {
    let mut pairs = tokens.windows(2);
    pairs.any(|pair| pair[0].is("and") && pair[1].is("chain"))
}

fn of_statement(tokens: &[Token]) -> bool {
    let Some((Token::Word(verb), rest)) = tokens.split_first() else {
        return false;
    };
    match verb.as_str() {
        "commit" | "end" | "abort" => true,
        "rollback" => !goes_back_to_a_savepoint(rest),
        "prepare" => prepares_transaction(rest),
        _ => false,
    }
}

/// What a statement begins with that may end its transaction.
const VERBS: [&str; 5] = ["abort", "commit", "end", "prepare", "rollback"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_transaction_is_told_from_what_goes_back_in_it() {
        for sql in [
            "commit",
            "/* done */ COMMIT AND CHAIN;",
            "end work",
            "abort",
            "; /* */ ;commit",
            "rollback",
            "Rollback Transaction",
            "prepare transaction 'x'",
        ] {
            assert!(ends_transaction(sql), "{sql}");
            assert!(ends_somewhere(&format!("select 1; {sql}")), "{sql}");
        }
        for sql in [
            "",
            "select 'commit'",
            "begin",
            "rollback to a",
            "rollback work to savepoint a",
            "release a",
            "prepare p as select 1",
            "prepare transaction as select 1",
            "\"commit\"",
        ] {
            assert!(!ends_transaction(sql), "{sql}");
            let back = sql.starts_with("rollback");
            assert_eq!(
                goes_back(&Words::of(&format!("select 1; {sql}"))),
                back,
                "{sql}"
            );
            assert!(
                !ends_somewhere(&format!("select ';commit'; {sql}")),
                "{sql}"
            );
        }
        assert!(ends_somewhere("select E'it''s \\' x'; commit"));
    }

    #[test]
    fn what_goes_on_in_another_transaction_is_told_from_what_does_not() {
        for (sql, expected) in [
            ("COMMIT AND CHAIN", true),
            ("select 1; end work and chain; select 2", true),
            ("rollback transaction and /* */ chain", true),
            ("abort and chain", true),
            ("commit and no chain", false),
            ("commit", false),
            ("select a and chain from t", false),
        ] {
            assert_eq!(goes_back(&Words::of(sql)), expected, "{sql}");
        }
    }

    #[test]
    fn what_begins_anew_relies_on_no_transaction() {
        for sql in [
            "begin",
            "; START TRANSACTION read only",
            "rollback",
            "/* */ abort; insert into t values (1)",
            "begin; insert into t values (1); commit",
        ] {
            assert!(begins_anew(sql), "{sql}");
        }
        for sql in [
            "",
            "commit",
            "end",
            "rollback to savepoint a",
            "select 'begin'",
            "insert into t values (1); rollback",
            "prepare transaction 'x'",
        ] {
            assert!(!begins_anew(sql), "{sql}");
        }
    }
}
