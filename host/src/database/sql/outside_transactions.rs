//! Which statements PostgreSQL refuses inside a transaction, since they commit by themselves while they run. A request
//! of several statements is an implicit transaction, so nothing may stand before them there either. One other is
//! refused behind a savepoint.

use super::kinds::statements;
use super::lexer::{Token, Tokens};

/// Whether a text is one statement that must have a request of its own, without anything that the host puts before it.
pub fn runs_outside_transactions(sql: &str) -> bool {
    let mut tokens = Tokens::statement(sql);
    let Some(Token::Word(verb)) = tokens.next() else {
        return false;
    };
    let may_be = match verb.as_str() {
        "vacuum" | "reindex" | "cluster" => true,
        "discard" => tokens.next().is_some_and(|word| word.is("all")),
        "commit" | "rollback" => tokens.next().is_some_and(|word| word.is("prepared")),
        "create" | "alter" | "drop" => {
            let wide = ["database", "tablespace", "subscription", "system"];
            tokens.next().is_some_and(|word| word.is_one_of(&wide))
                || Tokens::words(sql).any(|word| word.is("concurrently"))
        }
        _ => return false,
    };
    let is_single = || statements(&Tokens::words(sql).collect::<Vec<_>>()).count() == 1;
    may_be && is_single()
}

/// Whether a statement may commit while it runs, by its text: a procedure or a block may. From PostgreSQL 18 on it
/// cannot where another statement stands before it in its request.
pub fn may_commit(sql: &str) -> bool {
    // Every statement is asked, and most begin with another letter.
    let start = sql.trim_ascii_start();
    if !start.starts_with(['c', 'C', 'd', 'D', '-', '/', ';']) {
        return false;
    }
    let first = Tokens::statement(sql).next();
    first.is_some_and(|verb| verb.is_one_of(&["call", "do"]))
}

/// Whether a statement is refused behind a savepoint that is not released yet.
pub fn runs_outside_savepoints(sql: &str) -> bool {
    Tokens::words(sql).any(|word| word.name() == Some("pg_export_snapshot"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_commit_on_its_way_is_told_from_what_does_not() {
        for sql in [
            "call p()",
            "/* nightly */ DO $$ $$",
            " ; CALL p($1)",
            "-- x\ncall p()",
        ] {
            assert!(may_commit(sql), "{sql}");
        }
        for sql in [
            "",
            "select 1",
            "commit",
            "delete from calls",
            "-- call p()",
            "declare c cursor for values (1)",
        ] {
            assert!(!may_commit(sql), "{sql}");
        }
    }

    #[test]
    fn what_commits_on_its_way_stands_alone() {
        for sql in [
            "VACUUM (analyze) t;",
            "/* nightly */ reindex table t",
            "CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)",
            "alter table t detach partition p concurrently",
            "create database other",
            "ALTER SYSTEM SET work_mem = '1MB'",
            "discard all",
            ";; vacuum t",
            "ROLLBACK PREPARED 'x'",
        ] {
            assert!(runs_outside_transactions(sql), "{sql}");
        }
        for sql in [
            "",
            "select 'vacuum'",
            "create index i on t (a)",
            "create table concurrently_made (a int4)",
            "commit",
            "discard temp",
            "refresh materialized view concurrently v",
            "vacuum t; drop table t",
        ] {
            assert!(!runs_outside_transactions(sql), "{sql}");
        }
    }
}
