//! Statements that are not worth being remembered.
//!
//! `FETCH` returns what the cursor of that name is about, and `EXECUTE` what was prepared by that name, and
//! either may be another one by the next time. The server looks at them anew each time, and so what was
//! said of one is neither remembered nor believed of the next. So it is with `DEALLOCATE` and `DISCARD`, which
//! have the server forget themselves among others.

use super::sql::lexer::{Token, Tokens};

/// Whether what is known of a statement may be wrong by its next execution, as a rule.
pub fn varies(sql: &str) -> bool {
    let first = Tokens::words(sql).find(|token| *token != Token::Symbol(';'));
    first.is_some_and(|token| token.is_one_of(&["deallocate", "discard", "execute", "fetch"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_other_statements_varies() {
        for sql in [
            "fetch 3 from c",
            " /* x */ FETCH all c",
            ";-- x\nexecute p (1)",
            "discard all",
        ] {
            assert!(varies(sql), "{sql}");
        }
        for sql in [
            "",
            "select fetch from execute",
            "explain execute p",
            "call p()",
            "\"fetch\"",
        ] {
            assert!(!varies(sql), "{sql}");
        }
    }
}
