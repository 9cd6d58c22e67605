//! Which texts certainly rely on a session of their own, or change one for longer than its transaction.

use std::cell::OnceCell;

use super::guard::calls_by_type;
use super::kinds::{creating_intos, prepares_transaction, statements};
use super::lexer::{Token, Tokens};
use super::parentheses::Parentheses;
use super::residue::{ends_with_transaction, is_temporary, names_a_table};

/// Whether a text certainly relies on a session of its own, or changes one for longer than its
/// transaction. What is not known to do so does not: a function may do anything.
pub fn outlasts_its_transaction(sql: &str) -> bool {
    let tokens: Vec<Token> = Tokens::words(sql).collect();
    let mut statements = statements(&tokens);
    statements.any(|statement| {
        let (first, rest) = (&statement[0], &statement[1..]);
        let verb = match first {
            Token::Word(verb) => verb.as_str(),
            Token::Symbol('(') => "select",
            _ => return false,
        };
        match verb {
            "set" => !ends_with_transaction(rest),
            "prepare" => !prepares_transaction(rest),
            "listen" | "load" => true,
            "declare" => rest.iter().any(|token| token.is("hold")),
            "create" => says_temporary(rest) || rest.windows(2).any(is_temporary_name),
            "copy" | "delete" | "explain" | "insert" | "merge" | "select" | "update" | "values"
            | "with" => {
                let parentheses = OnceCell::new();
                let parentheses = || parentheses.get_or_init(|| Parentheses::of(rest));
                rest.windows(2).any(lasts)
                    || (0..statement.len()).any(|at| calls_by_type(statement, at))
                    || leads_into_temporary(statement)
                    || (0..statement.len()).any(|at| hides_a_call(statement, at))
                    || (0..rest.len()).any(|at| sets(rest, at, parentheses))
            }
            _ => false,
        }
    })
}

/// Whether these tokens, behind `CREATE` or `INTO`, say that something temporary is made, before they say what.
fn says_temporary(tokens: &[Token]) -> bool {
    let before = ["global", "local", "or", "replace", "temp", "temporary"];
    let mut words = tokens.iter().take_while(|token| token.is_one_of(&before));
    words.any(|token| matches!(token, Token::Word(name) if is_temporary(name)))
}

/// Whether a name begins here with the schema of temporary objects, quoted or not.
fn is_temporary_name(tokens: &[Token]) -> bool {
    let [schema, Token::Symbol('.'), ..] = tokens else {
        return false;
    };
    let number = schema.name().and_then(|name| name.strip_prefix("pg_temp"));
    number.is_some_and(|number| number.is_empty() || number.starts_with('_'))
}

/// Whether there is an `INTO` with something temporary behind it.
fn leads_into_temporary(tokens: &[Token]) -> bool {
    let schema = |at: usize| {
        let behind = &tokens[at + 1..];
        let names_table = behind.first().is_some_and(|token| token.is("table"));
        is_temporary_name(&behind[usize::from(names_table)..])
    };
    let mut each = (0..tokens.len()).filter(|at| tokens[*at].is("into"));
    each.any(schema)
        || creating_intos(tokens)
            .into_iter()
            .any(|at| says_temporary(&tokens[at + 1..]))
}

/// Whether what is called here cannot be read.
fn hides_a_call(tokens: &[Token], at: usize) -> bool {
    let called = tokens.get(at + 1) == Some(&Token::Symbol('('));
    tokens[at] == Token::Escaped && called && !names_a_table(tokens, at)
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
    (names(&pair[0]) && pair[1] == Token::Symbol('('))
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
            "create table \"pg_temp\".t (a int)",
            "create or replace local temp view v as select 1",
            "select 1 as a into temporary t",
            "select 1 as a into local temp t",
            "select 1 as a into global temporary table t",
            "select 1 as a into table pg_temp.t",
            "select 1 as a into \"pg_temp\".t",
            "insert into pg_temp.t values (1)",
            "select U&\"set_config\"('a.b', 'c', false)",
            "set local.x = 'y'",
            "select pg_advisory_lock(1)",
            "select \"pg_advisory_lock\"(1)",
            "select (5::bigint).pg_advisory_lock",
            "select pg_catalog.pg_try_advisory_lock_shared(1)",
            "prepare p as select 1",
            "prepare transaction as select 1",
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
            "insert into temp values (1); create table temp (temp int)",
            "create table shop.temp (a int); create or replace view local.temp as select 1",
            "insert into U&\"t\" (a) values (1)",
            "with U&\"t\" (a) as (select 1) select a from t",
            "create table t (\"pg_temperature\" int, pg_temp int)",
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
