//! Which texts certainly rely on a session of their own, or change one for longer than its transaction.

use std::cell::OnceCell;

use super::guard::calls_by_type;
use super::kinds::statements;
use super::lexer::{Token, Tokens};
use super::parentheses::Parentheses;
use super::residue::{ends_with_transaction, is_temporary};

/// Whether a text certainly relies on a session of its own, or changes one for longer than its
/// transaction. What is not known to do so does not: a function may do anything.
pub fn outlasts_its_transaction(sql: &str) -> bool {
    let tokens: Vec<Token> = Tokens::words(sql).collect();
    let mut statements = statements(&tokens).filter_map(|statement| statement.split_first());
    statements.any(|(first, rest)| {
        let second = |words: &[&str]| rest.first().is_some_and(|token| token.is_one_of(words));
        let verb = match first {
            Token::Word(verb) => verb.as_str(),
            Token::Symbol('(') => "select",
            _ => return false,
        };
        match verb {
            "set" => !ends_with_transaction(rest),
            "prepare" => !second(&["transaction"]),
            "listen" | "load" => true,
            "declare" => rest.iter().any(|token| token.is("hold")),
            "create" => {
                let qualified = |token: &Token| matches!(token, Token::Word(name) if name.starts_with("pg_temp"));
                rest.iter().take(3).any(is_temporary_word) || rest.iter().any(qualified)
            }
            "copy" | "delete" | "explain" | "insert" | "merge" | "select" | "update" | "values" | "with" => {
                let into = |pair: &[Token]| pair[0].is("into") && is_temporary_word(&pair[1]);
                let parentheses = OnceCell::new();
                let parentheses = || parentheses.get_or_init(|| Parentheses::of(rest));
                rest.windows(2).any(|pair| into(pair) || lasts(pair))
                    || (0..rest.len()).any(|at| sets(rest, at, parentheses))
            }
            _ => false,
        }
    })
}

fn is_temporary_word(token: &Token) -> bool {
    matches!(token, Token::Word(name) if is_temporary(name))
}

/// Whether this calls a function of PostgreSQL's own that takes a lock for as long as the session is
/// there, or does something else that lasts as long: `f(x)` or `(x).f`.
fn lasts(pair: &[Token]) -> bool {
    let names = |token: &Token| {
        let names = [
            "pg_advisory_lock",
            "pg_advisory_lock_shared",
            "pg_try_advisory_lock",
            "pg_try_advisory_lock_shared",
            "setseed",
        ];
        token.name().is_some_and(|name| names.contains(&name))
    };
    calls_by_type(pair, 0)
        || (names(&pair[0]) && pair[1] == Token::Symbol('('))
        || (pair[0] == Token::Symbol('.') && names(&pair[1]))
}

/// Whether there is a call of `set_config` at this place that does not say, as a plain `true`, that it
/// is for its transaction only.
fn sets<'a>(tokens: &[Token], at: usize, parentheses: impl FnOnce() -> &'a Parentheses) -> bool {
    let begin = at + 1;
    if tokens[at].name() != Some("set_config") || tokens.get(begin) != Some(&Token::Symbol('(')) {
        return false;
    }
    // Its strings are not among the words.
    let end = parentheses().partner(begin).unwrap_or(tokens.len());
    let arguments = &tokens[begin..end];
    let [.., before, last] = arguments else {
        return true;
    };
    !(matches!(before, Token::Symbol(',' | '>')) && last.is("true"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_outlasts_its_transaction_is_told_from_what_may() {
        for sql in [
            "set search_path = x",
            "select 1; SET SESSION work_mem = '1MB'",
            "listen news",
            "create temp table t (a int)",
            "create table pg_temp.t (a int)",
            "select 1 as a into temporary t",
            "set local.x = 'y'",
            "select pg_advisory_lock(1)",
            "select \"pg_advisory_lock\"(1)",
            "select (5::bigint).pg_advisory_lock",
            "select pg_catalog.pg_try_advisory_lock_shared(1)",
            "prepare p as select 1",
            "declare c cursor with hold for select 1",
            "(select pg_advisory_lock(1))",
            "insert into t values (pg_advisory_lock(1))",
            "copy (select pg_advisory_lock(1)) to stdout",
            "select setseed(0.5)",
            "select treat(5::bigint as pg_advisory_lock)",
            "select set_config('a.b', 'c', false)",
            "select set_config('a.b', 'true', is_local => false)",
            "select pg_catalog.\"set_config\"($1, $2, $3)",
            "with c as (select set_config('a.b', 'c', 'f')) select * from c",
            "update t set a = set_config('a.b', coalesce(a, true), not true)",
            "select set_config('a.b', 'c', true), set_config('a.b', 'c', false)",
        ] {
            assert!(outlasts_its_transaction(sql), "{sql}");
        }
        for sql in [
            "select temp, temporary from weather",
            "insert into t (temp) values (1)",
            "set local work_mem = '1MB'",
            "set transaction read only",
            "select my_function(), nextval('s')",
            "select pg_advisory_xact_lock(1)",
            "select set_config('a.b', coalesce($1, 'c'), true)",
            "select set_config('a.b', 'c', is_local => true)",
            "select set_config from t",
            "comment on function pg_advisory_lock(bigint) is 'locks'",
            "call p()",
            "do $$ begin end $$",
            "copy t from stdin",
            "create table t (a int)",
            "select 'set x = 1; listen y'",
            "",
        ] {
            assert!(!outlasts_its_transaction(sql), "{sql}");
        }
    }
}
