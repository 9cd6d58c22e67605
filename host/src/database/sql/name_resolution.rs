//! Which statements change what the names in those behind them mean.
//!
//! A temporary table hides another one of its name, and the search path says where names are looked up. What
//! the server says of a statement then is true for this session alone. In doubt a text counts
//! as one that does so; what a function does is not in the text.

use super::kinds::{creating_intos, statements};
use super::lexer::Token;
use super::residue::is_temporary;
use super::words::Words;

/// Whether a text makes something that has a name. Where names were changed before, for however short, that may be
/// something temporary.
pub fn names_something(words: &Words) -> bool {
    let creates = |tokens: &[Token]| tokens.iter().any(|token| token.is("create"));
    let makes = |tokens: &[Token]| creates(tokens) || !creating_intos(tokens).is_empty();
    let mut readings = words.readings();
    readings.any(|tokens| statements(tokens).any(makes))
}

/// Whether a text changes what has a name, or takes it away.
pub fn alters(words: &Words) -> bool {
    let verbs = ["alter", "drop", "execute", "import"];
    let alters = |tokens: &[Token]| tokens.first().is_some_and(|verb| verb.is_one_of(&verbs));
    let mut readings = words.readings();
    readings.any(|tokens| statements(tokens).any(alters))
}

/// Whether a text may change what names mean, for its session or its transaction.
pub fn renames(words: &Words) -> bool {
    let may_rename =
        |tokens: &[Token]| statements(tokens).any(of_statement) || tokens.iter().any(of_token);
    words.readings().any(may_rename)
}

fn of_statement(tokens: &[Token]) -> bool {
    let Some((first, rest)) = tokens.split_first() else {
        return false;
    };
    // Names are looked up in the schema that is called like the role, among others.
    let settings = [
        "authorization",
        "role",
        "schema",
        "search_path",
        "session_authorization",
    ];
    match first {
        Token::Word(verb) if verb == "set" => {
            rest.iter().any(|token| token.names_setting(&settings))
        }
        _ => first.is_one_of(&["call", "discard", "do", "load", "reset"]),
    }
}

fn of_token(token: &Token) -> bool {
    token.hides_a_setting() || token.name().is_some_and(is_temporary)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renames(sql: &str) -> bool {
        super::renames(&Words::of(sql))
    }

    #[test]
    fn what_makes_something_is_told_from_what_writes_into_it() {
        let names_something = |sql: &str| names_something(&Words::of(sql));
        for sql in [
            "create table t (n int)",
            "select 1; create view v as select 1",
            "select 1 as n into t",
            "select 1; select 99 as x, 1 insert into t",
            "with a as (insert into s values (1)) select 1 as merge into t",
            "explain analyze create table t as select 1",
        ] {
            assert!(names_something(sql), "{sql}");
        }
        for sql in [
            "",
            "insert into t values (1)",
            "merge into t using s on true when matched then delete",
            "select 1; explain analyze with a as (insert into s values (1)) insert into t values (1)",
            "copy (insert into t values (1) returning n) to stdout; select t.into from t",
            "select 'create', \"create\", created from t",
        ] {
            assert!(!names_something(sql), "{sql}");
        }
    }

    #[test]
    fn what_changes_a_thing_is_told_from_what_writes_into_it() {
        let alters = |sql: &str| super::alters(&Words::of(sql));
        for sql in [
            "alter table t add column a int",
            "select 1; drop view v",
            "import foreign schema s from server f into s",
            "execute p",
        ] {
            assert!(alters(sql), "{sql}");
        }
        for sql in [
            "",
            "select t.drop from t",
            "truncate t",
            "comment on table t is 'alter'",
        ] {
            assert!(!alters(sql), "{sql}");
        }
    }

    #[test]
    fn what_changes_the_meaning_of_names_is_told_from_what_does_not() {
        for sql in [
            "create temp table t (a int)",
            "select 1 as a into temporary t",
            "create table pg_temp.t (a int)",
            "select 1; set search_path = x",
            "set local \"search_path\" to x",
            "set schema 'x'",
            "set local \"SEARCH_PATH\" to 'x'",
            "set role x",
            "set session_authorization = x",
            "select set_config('search_path', $1, true)",
            "do $$ begin end $$",
            "call p()",
            "discard temp",
            "reset all",
        ] {
            assert!(renames(sql), "{sql}");
        }
        for sql in [
            "",
            "select 'search_path', 'temp' from t where role = $1",
            "select my_function($1)",
            "set local work_mem = '1MB'",
            "set constraints all deferred",
            "create table t (a int)",
            "begin; insert into t values ($1); commit",
        ] {
            assert!(!renames(sql), "{sql}");
        }
    }
}
