//! Statements whose text does not tell their columns.
//!
//! `FETCH` returns what the cursor of that name is about, and `EXECUTE` what was prepared by that name, and
//! either may be another one by the next time. The server looks at them anew each time, and so what was
//! said of one is neither remembered nor believed of the next.

use super::sql::lexer::{Token, Tokens};

/// Whether a statement's columns are none that its text tells.
pub fn varies(sql: &str) -> bool {
    let first = Tokens::words(sql).find(|token| *token != Token::Symbol(';'));
    first.is_some_and(|token| token.is_one_of(&["execute", "fetch"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_within_a_text_varies() {
        for sql in [
            "fetch 3 from c",
            " /* x */ FETCH all c",
            ";-- x\nexecute p (1)",
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
