//! Which statements may have other columns the next time they are executed; the first word tells.
//!
//! `FETCH` returns the rows of the cursor of that name, and `EXECUTE` those of the statement that was prepared under
//! that name, and the name may be given to another one meanwhile. So what the server says of such a statement is not
//! remembered. Nor is what it says of `DEALLOCATE` and `DISCARD`, which may have the server forget their own prepared
//! statement.

use super::lexer::{Token, Tokens};

/// Whether what is known of a statement may be wrong by its next execution, as a rule.
pub fn varies(sql: &str) -> bool {
    first(sql).is_some_and(|verb| verb.is_one_of(&["deallocate", "discard", "execute", "fetch"]))
}

/// Whether a savepoint would be of no use, should a statement's columns turn out to have no binary form: it
/// has none, or it is a `FETCH`, whose cursor goes back to no savepoint.
pub fn needs_no_savepoint(sql: &str) -> bool {
    first(sql).is_some_and(|verb| verb.is("fetch") || verb.is_one_of(&WITHOUT_COLUMNS))
}

fn first(sql: &str) -> Option<Token> {
    Tokens::statement(sql).next()
}

/// Statements that never have any columns.
#[rustfmt::skip]
const WITHOUT_COLUMNS: [&str; 33] = [
    "abort", "alter", "analyze", "begin", "close", "cluster", "comment", "commit", "create", "deallocate",
    "declare", "discard", "do", "drop", "end", "grant", "listen", "load", "lock", "move", "notify", "prepare",
    "reassign", "refresh", "reindex", "release", "reset", "revoke", "rollback", "savepoint", "set", "truncate",
    "unlisten",
];

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

    #[test]
    fn what_may_have_columns_is_guarded() {
        for sql in ["create table t as select 1", "SAVEPOINT a", "fetch c"] {
            assert!(needs_no_savepoint(sql), "{sql}");
        }
        for sql in [
            "select 1",
            "call p()",
            "execute p",
            "show a",
            "insert into t values (1)",
        ] {
            assert!(!needs_no_savepoint(sql), "{sql}");
        }
    }
}
