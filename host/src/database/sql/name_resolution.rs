//! Which statements change what the names in those behind them mean.
//!
//! A temporary table hides another one of its name, and the search path says where names are looked up. What
//! the server says of a statement then is true for this session alone. In doubt a text counts
//! as one that does so; what a function does is not in the text.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::kinds::{creating_intos, statements};
use super::lexer::Token;
use super::residue::is_temporary;
use super::words::Words;

/// What says where names are looked up: in the schema that is called like the role, among others.
const NAMING_SETTINGS: [&str; 5] = [
    "authorization",
    "role",
    "schema",
    "search_path",
    "session_authorization",
];

/// Whether a text makes something that has a name. Where names were changed before, for however short, that may be
/// something temporary.
pub fn names_something(words: &Words) -> bool {
    let creates = |tokens: &[Token]| tokens.iter().any(|token| token.is("create"));
    let makes = |tokens: &[Token]| creates(tokens) || !creating_intos(tokens).is_empty();
    let mut readings = words.readings();
    readings.any(|tokens| statements(tokens).any(makes))
}

/// Whether a text changes what has a name, or takes it away; or has a block of code that may, by the words in that.
pub fn alters(sql: &str, words: &Words) -> bool {
    let verbs = ["alter", "drop", "execute", "import"];
    let (mut alters, mut has_code) = (false, false);
    for verb in words.readings().flat_map(statements).map(|all| &all[0]) {
        alters |= verb.is_one_of(&verbs);
        has_code |= verb.is("do");
    }
    alters || (has_code && may_redefine(sql))
}

/// Whether a block of code may change what has a name, or say where names are looked up: its words tell, since what is
/// put together in it is executed by one.
fn may_redefine(sql: &str) -> bool {
    let verbs = [
        "alter",
        "create",
        "discard",
        "drop",
        "execute",
        "import",
        "reset",
        "set_config",
    ];
    let mut words = sql.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.any(|word| {
        let is_it = |own: &&str| own.eq_ignore_ascii_case(word);
        verbs.iter().chain(&NAMING_SETTINGS).any(is_it)
    })
}

/// Whether a text alters something that stays what it is by its number, as nothing else does: a server may go on to
/// execute what it has parsed before as if nothing had changed.
pub fn alters_in_place(words: &Words) -> bool {
    let mut statements = words.readings().flat_map(statements);
    statements.any(|tokens| tokens[0].is("alter"))
}

/// Where a text says that names are looked up behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// Where they were looked up before.
    Same,
    /// Where only this text says, of which this is the fingerprint.
    By(u64),
    /// Nobody knows: an argument says it.
    Unknown,
}

impl Naming {
    /// What a text says. What a procedure does is no more in its text than what a function does.
    pub fn of(sql: &str, words: &Words) -> Self {
        if words.readings().any(|tokens| tokens.iter().any(of_token)) {
            return Self::Unknown;
        }
        let of_statement =
            |tokens: &[Token]| sets_naming(tokens) || tokens[0].is_one_of(&["discard", "reset"]);
        match words.readings().flat_map(statements).any(of_statement) {
            true => Self::By(fingerprint(&sql)),
            false => Self::Same,
        }
    }

    /// What tells where names are looked up behind it from elsewhere, if this does so before it; none if nobody knows.
    pub fn behind(self, before: u64) -> Option<u64> {
        match self {
            Self::Same => Some(before),
            Self::By(text) => Some(fingerprint(&(before, text))),
            Self::Unknown => None,
        }
    }

    /// What both say, one after the other.
    pub fn and(self, next: Self) -> Self {
        match (self, next) {
            (Self::Same, one) | (one, Self::Same) => one,
            (Self::By(one), Self::By(other)) => Self::By(fingerprint(&(one, other))),
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
        }
    }
}

fn fingerprint(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// Whether a text may change what names mean, for its session or its transaction.
pub fn renames(words: &Words) -> bool {
    let may_rename =
        |tokens: &[Token]| statements(tokens).any(of_statement) || tokens.iter().any(of_token);
    words.readings().any(may_rename)
}

fn of_statement(tokens: &[Token]) -> bool {
    let Some(first) = tokens.first() else {
        return false;
    };
    sets_naming(tokens) || first.is_one_of(&["call", "discard", "do", "load", "reset"])
}

/// Whether a statement sets where names are looked up.
fn sets_naming(tokens: &[Token]) -> bool {
    let names_setting = |token: &Token| token.names_setting(&NAMING_SETTINGS);
    match tokens.split_first() {
        Some((first, rest)) => first.is("set") && rest.iter().any(names_setting),
        None => false,
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
        let alters = |sql: &str| super::alters(sql, &Words::of(sql));
        for sql in [
            "alter table t add column a int",
            "select 1; drop view v",
            "import foreign schema s from server f into s",
            "execute p",
            "do $$ begin ALTER table t add column a int; end $$",
            "select 1; do $$ begin execute format(x); end $$",
            "do language plpython3u 'plpy.execute(x)'",
            "do $$ begin set local search_path to x; end $$",
        ] {
            assert!(alters(sql), "{sql}");
        }
        for sql in [
            "",
            "select t.drop from t",
            "truncate t",
            "comment on table t is 'alter'",
            "call p()",
            "do $$ begin update t set altered = now(); perform f(); end $$",
        ] {
            assert!(!alters(sql), "{sql}");
        }
    }

    #[test]
    fn where_names_are_looked_up_is_told_by_the_same_text_alone() {
        let naming = |sql: &str| Naming::of(sql, &Words::of(sql));
        let by = |sql: &str| match naming(sql) {
            Naming::By(text) => text,
            other => panic!("{sql}: {other:?}"),
        };
        let (one, other) = ("set local search_path = a", "set local search_path = b");
        assert_eq!(by(one), by(one));
        assert_ne!(by(one), by(other));
        for sql in ["set role x", "select 1; reset all", "discard all"] {
            by(sql);
        }
        for sql in [
            "select set_config($1, $2, true)",
            "set local search_path = a; create temp table t (a int)",
        ] {
            assert_eq!(naming(sql), Naming::Unknown, "{sql}");
        }
        for sql in ["", "call p()", "set local work_mem = '1MB'", "select role"] {
            assert_eq!(naming(sql), Naming::Same, "{sql}");
        }
        let joined = |all: [&str; 2]| naming(all[0]).and(naming(all[1]));
        assert_eq!(joined([one, "select 1"]), naming(one));
        assert_ne!(joined([one, other]), joined([other, one]));
        assert_eq!(
            joined(["select set_config($1, $2, true)", one]),
            Naming::Unknown
        );
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
