//! What a statement may leave behind on its connection, judged from its text.
//!
//! PostgreSQL does not report that a session-level setting, a temporary table or an advisory lock
//! has come to be, and asking costs a round trip. So the text is read, once, when the statement is
//! prepared, and the judgement errs to one side: whatever is not known to leave nothing behind is
//! taken to leave something, and then the connection is reset before it is lent again.
//!
//! What the text does not show, it cannot find: a trigger, a column's default, an operator or a
//! view that changes the session, nor a function of the database that is called like a column
//! (`t.f`) or as one of PostgreSQL's own is, for other types. A database where such things exist is given `reset = "always"`.
//!
//! The transaction itself is not judged here: the server reports it ([`crate::database::wire`]).

use super::guard::{calls_by_type, executes, runs_text};
use super::harmless::{Statement, is_builtin, is_harmless};
use super::kinds::statements;
use super::lexer::Token;
use super::words::Words;

/// What executing a statement may leave behind on its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Residue {
    /// Nothing but an open transaction.
    Nothing,
    /// State that a reset removes.
    Session,
    /// State that no reset removes: the connection cannot be lent again.
    Connection,
}

/// What executing a text has to do with the state of sequences in its session (`lastval`).
#[derive(Debug, Clone, Copy)]
pub struct Sequences {
    /// Whether it reads what an earlier borrower of the connection may have left.
    pub reads: bool,
    /// Whether it may leave some itself, as an insert may whose table has a sequence. What a loan may have
    /// left itself is never discarded, so one that inserts elsewhere reads an older number.
    pub moves: bool,
}

impl Sequences {
    /// Nothing.
    pub const NONE: Self = Self {
        reads: false,
        moves: false,
    };

    /// What two texts have to do with it together.
    pub fn or(self, other: Self) -> Self {
        Self {
            reads: self.reads || other.reads,
            moves: self.moves || other.moves,
        }
    }
}

/// What a text has to do with sequences. `residue` is its own.
pub fn sequences(words: &Words, residue: Residue) -> Sequences {
    // A column that is added, and a view that is refreshed, may call for a sequence's next number.
    let writes = [
        "alter", "copy", "delete", "insert", "merge", "refresh", "update",
    ];
    let mut found = Sequences {
        // Who calls what is not known here may call anything.
        reads: residue != Residue::Nothing,
        moves: residue != Residue::Nothing,
    };
    for token in words.readings().flatten() {
        found.moves |= token.is_one_of(&writes);
        match token.name() {
            Some("currval" | "lastval") => found.reads = true,
            Some("nextval" | "setval") => found.moves = true,
            Some(_) => {}
            None => found.reads |= *token == Token::Escaped,
        }
    }
    found
}

/// Whether a text is nothing but `SET TRANSACTION`.
pub fn only_modes(words: &Words) -> bool {
    let tokens = words.statement();
    let statement = match tokens.split_last() {
        Some((Token::Symbol(';'), statement)) => statement,
        _ => tokens,
    };
    let [set, modes @ ..] = statement else {
        return false;
    };
    let modes = match modes {
        [scope, rest @ ..] if scope.is_one_of(&["local", "session"]) => rest,
        modes => modes,
    };
    // `SET transaction.x` is a setting of that name.
    let says_how = |next: &Token| matches!(next, Token::Word(_));
    set.is("set")
        && matches!(modes, [transaction, next, ..] if transaction.is("transaction") && says_how(next))
        && !statement.contains(&Token::Symbol(';'))
}

/// Whether a text begins a transaction, before anything else.
pub fn begins(words: &Words) -> bool {
    let first = words.statement().first();
    first.is_some_and(|first| first.is_one_of(&["begin", "start"]))
}

/// Whether a text has its session forget prepared statements, the host's own among them, or may: what a
/// `DO` does stands in a string. `residue` is the text's.
pub fn forgets(words: &Words, residue: Residue) -> bool {
    let mut each = words.readings().flatten();
    residue != Residue::Nothing && each.any(|word| word.is_one_of(&["deallocate", "discard", "do"]))
}

/// Judges one or more statements by their words.
pub fn residue(words: &Words) -> Residue {
    words
        .readings()
        .map(of_statements)
        .max()
        .unwrap_or(Residue::Nothing)
}

fn of_statements(tokens: &[Token]) -> Residue {
    statements(tokens)
        .map(of_statement)
        .max()
        .unwrap_or(Residue::Nothing)
}

fn of_statement(tokens: &[Token]) -> Residue {
    let Some(first) = tokens.first() else {
        return Residue::Nothing;
    };
    let known = match first {
        Token::Symbol('(') => true,
        Token::Word(verb) => match verb.as_str() {
            "set" if sets_seed(&tokens[1..]) => return Residue::Session,
            "set" => ends_with_transaction(&tokens[1..]),
            "load" => return Residue::Connection,
            verb => VERBS.contains(&verb),
        },
        _ => false,
    };
    if !known {
        return Residue::Session;
    }
    let statement = Statement::new(tokens);
    (0..tokens.len())
        .map(|index| of_token(&statement, index))
        .max()
        .unwrap_or(Residue::Nothing)
}

fn of_token(statement: &Statement, index: usize) -> Residue {
    let tokens = statement.tokens;
    let called = tokens.get(index + 1) == Some(&Token::Symbol('('));
    let attribute = index > 0 && tokens[index - 1] == Token::Symbol('.') && !called;
    match &tokens[index] {
        // Whatever it is that it names.
        Token::Escaped => Residue::Session,
        Token::Folded if called || attribute => Residue::Session,
        Token::Word(name) if is_temporary(name) => Residue::Session,
        // A statement that was prepared by whomever, the host included.
        Token::Word(_) if has_executed(tokens) && executes(&tokens[index..]) => Residue::Session,
        Token::Quoted(name) if name.starts_with("pg_temp") => Residue::Session,
        Token::Word(name) | Token::Quoted(name)
            if (called || attribute) && stays_for_good(name) =>
        {
            Residue::Connection
        }
        Token::Word(name) | Token::Quoted(name) if attribute => {
            // `(x).f` calls `f`, unless `x` has a part of that name; `t.f` is a column almost always.
            let known = match index > 1 && ends_value(&tokens[index - 2]) {
                true => is_builtin(name),
                false => !CALLED_LIKE_COLUMNS.contains(&name.as_str()) && !runs_text(name),
            };
            match known {
                true => Residue::Nothing,
                false => Residue::Session,
            }
        }
        // What that calls may be anything.
        Token::Word(_) if calls_by_type(tokens, index) => Residue::Connection,
        Token::Word(name) if called && is_harmless(statement, index, name) => Residue::Nothing,
        Token::Word(_) | Token::Quoted(_) if called && !names_a_table(tokens, index) => {
            Residue::Session
        }
        _ => Residue::Nothing,
    }
}

/// Whether a statement may have a prepared one executed.
fn has_executed(tokens: &[Token]) -> bool {
    tokens[0].is_one_of(&["create", "explain"])
}

/// Whether what stands behind `SET` does what `setseed` does, which lasts in any case.
fn sets_seed(tokens: &[Token]) -> bool {
    let mut names = tokens.iter();
    let setting = names.find(|token| !token.is_one_of(&["local", "session"]));
    setting.is_some_and(|setting| setting.names_setting(&["seed"]))
}

/// Whether what stands behind `SET` holds for a transaction only; `SET local.x` does not.
pub fn ends_with_transaction(tokens: &[Token]) -> bool {
    let is_local = |token: &Token| token.is_one_of(&["local", "constraints", "transaction"]);
    tokens.first().is_some_and(is_local) && tokens.get(1) != Some(&Token::Symbol('.'))
}

/// Whether this can be the end of a value, behind which a dot and a name may be a function's call. A
/// parameter is its dollar.
fn ends_value(token: &Token) -> bool {
    matches!(token, Token::Symbol(')' | ']' | '$'))
}

/// Whether a word makes a temporary object, or names the schema of those.
pub fn is_temporary(name: &str) -> bool {
    name == "temp" || name == "temporary" || name.starts_with("pg_temp")
}

/// Whether what stands in parentheses after this name are a table's columns, not arguments.
pub fn names_a_table(tokens: &[Token], mut index: usize) -> bool {
    while index > 1 && tokens[index - 1] == Token::Symbol('.') {
        index -= 2;
    }
    let Some(before) = index.checked_sub(1).map(|before| &tokens[before]) else {
        return false;
    };
    // Elsewhere `ON` begins a condition.
    let makes_an_index = tokens[0].is("create") && tokens[1].is_one_of(&["index", "unique"]);
    before.is_one_of(&TABLE_FOLLOWS) || (before.is("on") && makes_an_index)
}

/// Words after which a name in front of a parenthesis is not a function's.
const TABLE_FOLLOWS: [&str; 9] = [
    "as",
    "copy",
    "exists",
    "into",
    "only",
    "recursive",
    "references",
    "table",
    "with",
];

/// Functions of PostgreSQL's own, and one of its extensions' families, that take one value and leave
/// something behind. So `q.pg_advisory_lock` does, where `q` is a value in `FROM`.
#[rustfmt::skip]
const CALLED_LIKE_COLUMNS: [&str; 5] = [
    "pg_advisory_lock", "pg_advisory_lock_shared", "pg_try_advisory_lock",
    "pg_try_advisory_lock_shared", "setseed",
];

/// Whether a function of this name, of PostgreSQL's own or of `dblink`, leaves what no reset removes: a connection of
/// the server's to another one, a temporary slot, an origin, a backup.
fn stays_for_good(name: &str) -> bool {
    name.starts_with("dblink_connect") || STAY_FOR_GOOD.contains(&name)
}

#[rustfmt::skip]
const STAY_FOR_GOOD: [&str; 7] = [
    "pg_backup_start", "pg_copy_logical_replication_slot", "pg_copy_physical_replication_slot",
    "pg_create_logical_replication_slot", "pg_create_physical_replication_slot",
    "pg_replication_origin_session_setup", "pg_start_backup",
];

/// Statements that leave nothing behind but what they call.
#[rustfmt::skip]
const VERBS: [&str; 33] = [
    "abort", "alter", "analyze", "begin", "comment", "commit", "copy", "create", "delete", "drop",
    "end", "explain", "fetch", "grant", "insert", "lock", "merge", "move", "notify", "refresh", "reindex",
    "release", "revoke", "rollback", "savepoint", "select", "show", "start", "table", "truncate",
    "update", "values", "with",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn residue(sql: &str) -> Residue {
        super::residue(&Words::of(sql))
    }

    fn only_modes(sql: &str) -> bool {
        super::only_modes(&Words::of(sql))
    }

    fn forgets(sql: &str) -> bool {
        super::forgets(&Words::of(sql), residue(sql))
    }

    fn sequences(sql: &str) -> Sequences {
        super::sequences(&Words::of(sql), residue(sql))
    }

    #[test]
    fn everyday_statements_leave_nothing_behind() {
        for sql in [
            "select 1",
            "SELECT count(*), max(t.a) FROM t WHERE b IN (1, 2) AND (c = $1 OR d = $2::numeric(10, 2))",
            "insert into orders (customer, total) values ($1, $2) on conflict (id) do nothing returning id",
            "with late (a) as (select * from t), w as (values (1, 2)) update t set a = coalesce($1, a)",
            "insert into shop.\"Orders\" (a, b) select a, b from shop.carts as c (a, b)",
            "update t set note = 'SET x = 1; select set_config(1)' -- set_config('a', 'b', false)",
            "select $tag$ select pg_advisory_lock(1) $tag$, E'it\\'s set_config(', \"temp\"",
            "begin; set local work_mem = '1MB'; savepoint a; rollback to a; commit",
            "(select 1) union all (select 2)",
            "copy shop.orders (a, b) from stdin with (format csv)",
            "copy (select a, count(*) from t group by a) to stdout",
            "create table if not exists a (id bigint primary key, b text default now() check (b <> ''))",
            "create index on shop.a (b); alter table a add foreign key (b) references c (d); drop table a",
            "select pg_catalog.lower('A') /* load /* nested */ 'x' */",
            "create unique index i on shop.a using gin (b) include (c)",
            "grant execute on function f to x",
            "explain (analyze, costs off) select a operator(pg_catalog.=) 1 from t tablesample bernoulli (10)",
            "select quote_nullable(a), enum_range(b) from t",
            "select execute, t.execute + 1 from t",
            "insert into t (a) values (1) on conflict (a) where (b > 0) do update set (a, b) = (1, 2)",
            "insert into t (a) values (1) on conflict (a) where b > (0) and not c do nothing",
            "update t set (a, b) = (1, 2)",
            "select a from t join (select 1) u on true group by (a) order by (a)",
            "select count(*) filter (where a) over (partition by (b)) from t group by rollup (a, b)",
            "with a as not materialized (select 1), b as materialized (select 2) select (1)",
            "create table a (b int4, primary key (b)) partition by range (b)",
            "select pg_notify('a', 'b'), pg_advisory_xact_lock(hashtext('a')), nextval('s')",
            "select jsonb_set_lax(a, b, c), to_ascii(a), lower_inf(r), ts_rank_cd(v, q) from t",
            "select t.seed, (t.a).upper, $1.lower, t.b from t where c like $1 escape '\\' and d = 'e'",
            "set local a.b = 'c'; set constraints all deferred; set transaction read only",
            "select count(*)::float / 2. * .5 from t where (t.a) is null",
            "",
        ] {
            assert_eq!(residue(sql), Residue::Nothing, "{sql}");
        }
    }

    /// A guest chooses the text, and the host reads it on the thread that serves all: each of these took
    /// minutes where each word was judged by all behind it or before it.
    #[test]
    fn the_longest_text_is_judged_in_one_pass() {
        let times = 30_000;
        for part in [
            " on conflict(",
            ") over (",
            " filter (x) over",
            " set(",
            "set_config(",
            "a.b(",
            " hash(",
            " partition by range(",
            " where do conflict ",
            " on conflict () where (",
            " on conflict () where ()",
        ] {
            for begin in ["select 1", "update t a", "create table t ("] {
                let sql = format!("{begin}{}", part.repeat(times));
                assert!(residue(&sql) >= Residue::Nothing, "{begin}{part}");
            }
        }
    }

    #[test]
    fn what_may_change_the_session_is_taken_to_change_it() {
        for sql in [
            "set search_path = x",
            "SET ROLE nobody",
            "select set_config('a.b', 'c', false)",
            "select pg_advisory_lock(1)",
            "SELECT Pg_Try_Advisory_Lock (1)",
            "create temp table t (a int)",
            "create table pg_temp.t (a int)",
            "create table t as select my_function()",
            "select 1 into temporary t",
            "listen news",
            "prepare p as select 1",
            "declare c cursor with hold for select 1",
            "select my_function()",
            "select other.count(1)",
            "select \"set_config\"('a.b', 'c', false)",
            "select set_confİg('a.b', 'c', false)",
            "do $$ begin end $$",
            "call p()",
            "select conflict()",
            "select a.x from a join b on conflict(b.x)",
            "insert into t select a.x from a join b on conflict(b.x) where true",
            "insert into t select 1 from a join b on conflict(1) where true on conflict (a) do nothing",
            "select by(1), key(2)",
            "select 1 order by set(1)",
            "update t set a = set(1)",
            "select 1 operator(shop.+) 2",
            "select operator(pg_catalog.*) from pg_class pg_catalog",
            "select bernoulli(1), explain(1)",
            "select 1 operator(pg_catalog.+) filter(1)",
            "select 1 operator(pg_catalog.+) over(1)",
            "select distinct on (a) filter(a) from t",
            "select distinct on (a) over(a), b from t",
            "select distinct on (a) include(a) from t",
            "insert into t select a.x from a join b on conflict(a.x) where (select true as do)",
            "insert into t select a.x from a join b on conflict(a.x) where b.do",
            "insert into t (select a.x from a join b on conflict(a.x) where true) on conflict do nothing",
            "delete from t using hash(1)",
            "create table t as select count(*) over (partition by range(1))",
            "select include(1)",
            "select not materialized(1)",
            "select join((select 1))",
            "select rows(1), cube(1)",
            "discard all",
            "explain analyze execute s1",
            "explain (analyze) execute \"s1\"(1)",
            "create temporary table t as execute s1",
            "create table t as execute s1(1)",
            "create table t as execute function",
            "create table a.b.c as execute procedure with no data",
            "select 1; set x = 1",
            "copy (select set_config('a.b', 'c', false)) to stdout",
            "select j.id from j join k on pg_try_advisory_lock(j.id)",
            "create table t as select a.id from a join b on pg_try_advisory_lock(a.id)",
            "create materialized view v as select a.id from a join b on \"f\"(a.id)",
            "select (5::bigint).pg_advisory_lock",
            "select $1.pg_advisory_lock",
            "select a[1] . /* */ my_function from t",
            "select (t.a).\"my_function\" from t",
            "select q.pg_try_advisory_lock_shared from generate_series(1::bigint, 2) as q",
            "select q.ts_stat from lower('select 1') as q",
            "set local.x = 'y'",
            "set /* */ transaction . x = 'y'",
            "set constraints.x = 'y'",
            "select E'a'\n'b\\'', set_config('x.y', 'z', false) --'",
            "select 'b\\'', set_config('x.y', 'z', false) --'",
            "create table U&\"pg\\005ftemp\".t (a int)",
            "select setseed(0.5)",
            "select \"setseed\"(0.5)",
            "select (0.5::float8).setseed",
            "select q.setseed from abs(0.5::float8) as q",
            "select U&\"setsee\\0064\"(0.5)",
            "select E'a'\n'b\\'', setseed(0.5) --'",
            "set seed = 0.5",
            "set local \"seed\" to 0.5",
        ] {
            assert_eq!(residue(sql), Residue::Session, "{sql}");
        }
        for sql in [
            "load 'auto_explain'",
            "select treat(5::bigint as pg_advisory_lock)",
            "select \"dblink_connect_u\"('dbname=x')",
            "select ('dbname=x'::text).dblink_connect",
            "select q.pg_backup_start from lower('a') as q",
            "select pg_catalog.pg_create_physical_replication_slot('s', true, true)",
        ] {
            assert_eq!(residue(sql), Residue::Connection, "{sql}");
        }
    }

    #[test]
    fn what_only_says_how_a_transaction_runs_is_found() {
        for sql in [
            "SET transaction isolation level serializable;",
            "set local transaction read only",
            "set session transaction not deferrable",
        ] {
            assert!(only_modes(sql), "{sql}");
        }
        for sql in [
            "set transaction.x = 'y'",
            "set local transaction . x = 'y'",
            "set local.transaction to x",
            "set transaction read only; select 1",
            "set local a.b = c",
            "select 1",
            "",
        ] {
            assert!(!only_modes(sql), "{sql}");
        }
    }

    #[test]
    fn what_forgets_statements_is_noticed() {
        for sql in ["discard all", "select 1; DEALLOCATE p"] {
            assert!(forgets(sql), "{sql}");
        }
        for sql in [
            "select discard from t",
            "discarded",
            "select 'discard all', f()",
        ] {
            assert!(!forgets(sql), "{sql}");
        }
    }

    #[test]
    fn reading_a_sequences_state_is_noticed() {
        for sql in [
            "select LASTVAL()",
            "select \"lastval\"()",
            "select ('s'::regclass).currval",
            "select U&\"l\\0061stval\"()",
            "select 'a\\'', lastval() --'",
        ] {
            assert!(sequences(sql).reads, "{sql}");
        }
        assert!(!sequences("select 'lastval()'").reads);
    }

    #[test]
    fn what_may_move_a_sequence_is_told_from_what_does_not() {
        for sql in [
            "insert into t default values",
            "with a as (insert into t values (1) returning *) select * from a",
            "copy t from stdin",
            "alter table t add column a serial",
            "refresh materialized view v",
            "update t set a = default",
            "merge into t using s on true when not matched then insert values (1)",
            "select nextval('s')",
            "select q.\"nextval\" from cast('s' as regclass) as q",
            "select setval('s', 1)",
            "select my_function()",
        ] {
            assert!(sequences(sql).moves, "{sql}");
        }
        for sql in ["", "begin", "select 1, 'insert'", "savepoint a"] {
            assert!(!sequences(sql).moves, "{sql}");
        }
    }
}
