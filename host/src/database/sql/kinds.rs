//! What kinds of statement a text holds.
//!
//! Promises: every statement of a batch counts, and so does what stands within one: the `DELETE`
//! in a `WITH`, the statement behind `EXPLAIN` or `PREPARE`, the table that `SELECT INTO` creates.
//! In doubt a text counts as more kinds, never as fewer; a column whose name is a verb is
//! told from it by quotes.
//!
//! What a function does that a statement calls is not in the text, but for those of PostgreSQL's own that do
//! what a kind of statement does; see also [`super::guard`].

use super::lexer::{Token, Tokens};
use crate::config::{StatementKind, StatementKinds};

/// The kinds in a text, which may have several statements; a function that does what a statement
/// does counts as that.
pub fn kinds(sql: &str) -> StatementKinds {
    let tokens: Vec<Token> = Tokens::new(sql).collect();
    of_statements(&tokens).and(called(&tokens))
}

fn of_statements(tokens: &[Token]) -> StatementKinds {
    let kinds = statements(tokens).map(of_statement);
    kinds.fold(StatementKinds::NONE, StatementKinds::and)
}

/// What is done by calling a function that does what a statement does.
fn called(tokens: &[Token]) -> StatementKinds {
    let kind = |pair: &[Token]| {
        let (_, kind) = CALLED
            .iter()
            .find(|(name, _)| pair[0].name() == Some(name))?;
        (pair[1] == Token::Symbol('(')).then_some(*kind)
    };
    tokens.windows(2).filter_map(kind).collect()
}

/// Whether a text only reads and writes data, so that a rollback undoes all that it does.
pub fn is_data(sql: &str) -> bool {
    use StatementKind as K;
    let data = [K::Select, K::Insert, K::Update, K::Delete, K::Merge];
    let tokens: Vec<Token> = Tokens::new(sql).collect();
    let rest = of_statements(&tokens).without(data.into_iter().collect());
    rest == StatementKinds::NONE
}

/// Whether a text does read or write data, and nothing else: no savepoint either.
pub fn has_data(sql: &str) -> bool {
    kinds(sql) != StatementKinds::NONE && is_data(sql)
}

/// The statements of a batch, without the empty ones.
pub fn statements(tokens: &[Token]) -> impl Iterator<Item = &[Token]> {
    tokens
        .split(|token| *token == Token::Symbol(';'))
        .filter(|statement| !statement.is_empty())
}

fn of_statement(mut tokens: &[Token]) -> StatementKinds {
    // Not by recursion: a guest chooses how many stand before each other.
    loop {
        // A statement that is put in parentheses is a query.
        let begin = tokens
            .iter()
            .position(|token| *token != Token::Symbol('('))
            .unwrap_or(tokens.len());
        let (Some(Token::Word(verb)), rest) = (tokens.get(begin), tokens.get(begin + 1..)) else {
            return written(tokens).and(StatementKind::Other.into());
        };
        let rest = rest.unwrap_or_default();
        match verb.as_str() {
            "explain" => tokens = explained(rest),
            "prepare" if !prepares_transaction(rest) => tokens = prepared(rest),
            verb => return of_verb(verb, tokens, rest),
        }
    }
}

/// What a statement is that begins with this verb, before the rest.
fn of_verb(verb: &str, tokens: &[Token], rest: &[Token]) -> StatementKinds {
    use StatementKind as K;
    match verb {
        "select" | "values" | "table" | "with" => written(tokens).and(K::Select.into()),
        "insert" | "update" | "delete" | "merge" => written(tokens),
        "declare" | "fetch" | "move" | "close" | "show" => written(tokens).and(K::Select.into()),
        "create" => defined(rest).and(written_for_table(rest)),
        "alter" | "drop" => defined(rest),
        "truncate" | "comment" | "grant" | "revoke" | "refresh" | "reindex" | "cluster"
        | "security" | "reassign" | "import" => K::Ddl.into(),
        "set" | "reset" | "discard" => K::Set.into(),
        "begin" | "start" | "commit" | "end" | "abort" | "prepare" => K::Transaction.into(),
        "rollback" if !goes_back_to_a_savepoint(rest) => K::Transaction.into(),
        "rollback" | "savepoint" | "release" => StatementKinds::NONE,
        "copy" if runs_program(rest) => written(tokens).and(K::Copy.into()).and(K::Code.into()),
        "copy" => written(tokens).and(K::Copy.into()),
        "listen" | "unlisten" | "notify" => K::Listen.into(),
        "call" | "do" | "execute" => K::Code.into(),
        _ => written(tokens).and(K::Other.into()),
    }
}

/// The places in a statement of each `INTO` by which a query creates a table.
pub fn creating_intos(tokens: &[Token]) -> Vec<usize> {
    let mut found = Vec::new();
    // The word that says what is done, within each parenthesis that is open. Any other such word may
    // be a name: `SELECT 1 INSERT INTO t` creates a table from a column of that name.
    let mut verbs = vec![None];
    for (index, token) in tokens.iter().enumerate() {
        match token {
            Token::Symbol('(') => verbs.push(None),
            Token::Symbol(')') if verbs.len() > 1 => _ = verbs.pop(),
            _ => {}
        }
        let verb = verbs.last_mut().filter(|verb| verb.is_none());
        if let Some(verb) = verb.filter(|_| token.is_one_of(&VERBS)) {
            *verb = Some(index);
        }
        let before = index.checked_sub(1).map(|before| &tokens[before]);
        let is_column = before == Some(&Token::Symbol('.'));
        if token.is("into") && !is_column && !begins(&verbs, before, index) {
            found.push(index);
        }
    }
    found
}

/// What the words of a statement say that it reads and writes.
fn written(tokens: &[Token]) -> StatementKinds {
    use StatementKind as K;
    let mut kinds = match creating_intos(tokens).is_empty() {
        true => StatementKinds::NONE,
        false => K::Ddl.into(),
    };
    for (index, token) in tokens.iter().enumerate() {
        let Token::Word(word) = token else { continue };
        let before = index.checked_sub(1).map(|before| &tokens[before]);
        // `t.update` is a column.
        if before == Some(&Token::Symbol('.')) {
            continue;
        }
        let kind = match word.as_str() {
            "insert" => K::Insert,
            "update" => K::Update,
            // `FOR UPDATE` counts by its own word.
            "share" if before.is_some_and(|token| token.is_one_of(&["for", "key"])) => K::Update,
            "delete" => K::Delete,
            "merge" => K::Merge,
            "select" | "table" => K::Select,
            _ => continue,
        };
        kinds = kinds.and(kind.into());
    }
    kinds
}

/// Whether an `INTO` at this place belongs to an `INSERT` or a `MERGE` right before it.
fn begins(verbs: &[Option<usize>], before: Option<&Token>, index: usize) -> bool {
    let is_verb = verbs.last() == Some(&index.checked_sub(1));
    is_verb && before.is_some_and(|token| token.is_one_of(&["insert", "merge"]))
}

/// What the `WITH` of a `CREATE TABLE AS` writes.
fn written_for_table(tokens: &[Token]) -> StatementKinds {
    use StatementKind as K;
    let mut kinds = StatementKinds::NONE;
    if !tokens.iter().take(3).any(|token| token.is("table")) {
        return kinds;
    }
    for pair in tokens.windows(2) {
        let kind = match &pair[1] {
            // What becomes of a row when the one that it refers to changes.
            _ if pair[0].is("on") => continue,
            Token::Word(word) => match word.as_str() {
                "insert" => K::Insert,
                "update" => K::Update,
                "share" if pair[0].is_one_of(&["for", "key"]) => K::Update,
                "delete" => K::Delete,
                "merge" => K::Merge,
                _ => continue,
            },
            _ => continue,
        };
        kinds = kinds.and(kind.into());
    }
    kinds
}

/// Whether a `COPY` leads to or from a program on the server.
fn runs_program(tokens: &[Token]) -> bool {
    tokens.windows(3).any(|triple| {
        let is_string = matches!(
            triple[2],
            Token::Text(_) | Token::Literal | Token::Ambiguous
        );
        triple[0].is_one_of(&["from", "to"]) && triple[1].is("program") && is_string
    })
}

/// `EXPLAIN` counts as what it explains: with `ANALYZE` that is executed.
fn explained(tokens: &[Token]) -> &[Token] {
    let mut rest = tokens;
    let begins_query = |token: &Token| {
        *token == Token::Symbol('(') || token.is_one_of(&["select", "table", "values", "with"])
    };
    // Which options there are depends on the version and on extensions.
    if rest.first() == Some(&Token::Symbol('('))
        && rest.get(1).is_some_and(|token| !begins_query(token))
    {
        let end = rest.iter().position(|token| *token == Token::Symbol(')'));
        rest = end.and_then(|end| rest.get(end + 1..)).unwrap_or_default();
    }
    let is_option = |token: &Token| token.is_one_of(&["analyse", "analyze", "verbose"]);
    while rest.first().is_some_and(is_option) {
        rest = &rest[1..];
    }
    rest
}

/// `PREPARE name (types) AS statement` counts as the statement.
fn prepared(tokens: &[Token]) -> &[Token] {
    let begin = tokens.iter().position(|token| token.is("as"));
    begin
        .and_then(|begin| tokens.get(begin + 1..))
        .unwrap_or_default()
}

/// Whether a `PREPARE` with these tokens behind it prepares the end of its transaction, and not a statement that is
/// called `transaction`.
pub fn prepares_transaction(tokens: &[Token]) -> bool {
    let is_statement = |next: &Token| next.is("as") || *next == Token::Symbol('(');
    match tokens {
        [transaction, behind @ ..] if transaction.is("transaction") => {
            !behind.first().is_some_and(is_statement)
        }
        _ => false,
    }
}

/// `CREATE`, `ALTER` and `DROP`: a definition of code is code besides.
fn defined(tokens: &[Token]) -> StatementKinds {
    use StatementKind as K;
    // `CREATE OR REPLACE TRUSTED PROCEDURAL LANGUAGE` has the longest way to its noun; a name
    // that is one of these words must be quoted to stand elsewhere. `CREATE SCHEMA` takes further
    // definitions along, and what `ALTER TABLE` does to a trigger stands behind the table's name.
    let far = match tokens.first() {
        Some(token) if token.is("schema") => tokens.len(),
        _ => 6,
    };
    let is_switched = |pair: &[Token]| {
        pair[0].is_one_of(&["always", "disable", "enable", "replica"])
            && pair[1].is_one_of(&["rule", "trigger"])
    };
    let is_code = tokens.iter().take(far).any(|token| token.is_one_of(&CODE))
        || tokens.windows(2).any(is_switched);
    let ddl = StatementKinds::from(K::Ddl);
    match is_code {
        true => ddl.and(K::Code.into()),
        false => ddl,
    }
}

/// Whether a `ROLLBACK` with these tokens behind it leaves its transaction open.
pub fn goes_back_to_a_savepoint(tokens: &[Token]) -> bool {
    let rest = match tokens.first() {
        Some(token) if token.is_one_of(&["work", "transaction"]) => &tokens[1..],
        _ => tokens,
    };
    rest.first().is_some_and(|token| token.is("to"))
}

/// What a statement that reads or writes begins with, perhaps behind a `WITH`.
const VERBS: [&str; 7] = [
    "delete", "insert", "merge", "select", "table", "update", "values",
];

/// Functions that do what a statement of this kind does.
const CALLED: [(&str, StatementKind); 2] = [
    ("set_config", StatementKind::Set),
    ("pg_notify", StatementKind::Listen),
];

/// What is defined by code, or decides what code does.
#[rustfmt::skip]
const CODE: [&str; 14] = [
    "aggregate", "cast", "conversion", "event", "extension", "function", "language", "operator",
    "procedure", "routine", "rule", "system", "transform", "trigger",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn told(sql: &str) -> String {
        kinds(sql).to_string()
    }

    #[test]
    fn no_text_is_too_deep_to_be_read() {
        let times = 30_000;
        for begin in [
            "explain ",
            "explain (analyze) ",
            "prepare p as ",
            "(",
            "explain ((",
        ] {
            let sql = format!("{}delete from t", begin.repeat(times));
            assert!(kinds(&sql).has(StatementKind::Delete), "{begin}");
        }
    }

    #[test]
    fn a_text_is_of_the_kinds_of_all_its_statements() {
        let cases = [
            ("", ""),
            (" ; -- nothing\n;", ""),
            ("select 1", "select"),
            ("((select 1) union (values (2)))", "select"),
            ("table t", "select"),
            ("show work_mem", "select"),
            ("insert into t values (1)", "insert"),
            (
                "insert into t (a) values (1) on conflict do nothing",
                "insert",
            ),
            (
                "insert into t values (1) on conflict (a) do update set a = 2",
                "insert, update",
            ),
            ("insert into t select * from s", "select, insert"),
            ("insert into t table s", "select, insert"),
            ("update t set a = 1 returning a", "update"),
            ("delete from t using s", "delete"),
            (
                "merge into t using s on true when matched then delete when not matched then insert values (1)",
                "insert, delete, merge",
            ),
            ("with a as (select 1) select * from a", "select"),
            (
                "with a as (delete from t returning *) select * from a",
                "select, delete",
            ),
            (
                "with a as not materialized (INSERT into t values (1)) table a",
                "select, insert",
            ),
            (
                "with recursive a as (select 1) cycle b set c using d update t set e = 1",
                "select, update",
            ),
            (
                "with a as (values (1)) merge into t using a on true when matched then do nothing",
                "select, merge",
            ),
            ("select 1 for update", "select, update"),
            ("select 1 for no key update skip locked", "select, update"),
            ("select 1 for key share of t", "select, update"),
            ("select a.update, \"delete\" from t", "select"),
            ("select * into t from s", "select, ddl"),
            ("select 1. into t", "select, ddl"),
            ("select .5 into t", "select, ddl"),
            ("select 1e5into t", "select, ddl"),
            ("select 1_000. into t", "select, ddl"),
            ("select 1 insert into t", "select, insert, ddl"),
            (
                "with a as (select 1) select (1) as merge into t",
                "select, merge, ddl",
            ),
            (
                "with a as (insert into t select 1 returning *) insert into s table a",
                "select, insert",
            ),
            ("select $1.into, a[1].into, (b).into from t", "select"),
            ("explain select 1", "select"),
            ("explain (select 1)", "select"),
            ("EXPLAIN (analyze, buffers off) delete from t", "delete"),
            (
                "explain analyze verbose with a as (update t set b = 1) select 1",
                "select, update",
            ),
            ("explain (\"analyze\") delete from t", "delete"),
            (
                "explain (\"format\" json, analyze) insert into t table s",
                "select, insert",
            ),
            ("explain (\"costs\", \"unknown\") delete from t", "delete"),
            ("explain (\"unknown\") delete from t", "delete"),
            ("explain (debug, analyze) create table t as select 1", "ddl"),
            ("explain (values (1))", "select"),
            ("explain analyze create table t as select 1", "ddl"),
            ("prepare p (int) as delete from t", "delete"),
            ("prepare transaction 'x'", "transaction"),
            ("prepare transaction as delete from t", "delete"),
            ("prepare transaction (int) as select 1", "select"),
            ("execute p (1)", "code"),
            ("declare c cursor for select 1 for update", "select, update"),
            ("fetch all from c", "select"),
            ("create table t ()", "ddl"),
            (
                "create table t as with a as (delete from s returning *) select * from a",
                "delete, ddl",
            ),
            (
                "create table t (a int references s on delete cascade on update cascade)",
                "ddl",
            ),
            (
                "create table t as select a from s for no key update",
                "update, ddl",
            ),
            ("create table t as select a from s for share", "update, ddl"),
            (
                "create temp table t (\"delete\" int, update int)",
                "update, ddl",
            ),
            ("create policy p on t for update using (true)", "ddl"),
            (
                "create schema s create table a (i int) create trigger x before insert on a execute function f()",
                "ddl, code",
            ),
            (
                "alter table if exists only s.t enable replica trigger x",
                "ddl, code",
            ),
            ("alter table t disable row level security", "ddl"),
            ("drop table t", "ddl"),
            ("truncate t", "ddl"),
            ("grant a to b", "ddl"),
            (
                "create or replace function f() returns int language sql as 'select 1'",
                "ddl, code",
            ),
            (
                "create rule r as on insert to t do also delete from s",
                "ddl, code",
            ),
            (
                "create constraint trigger x after insert on t execute function f()",
                "ddl, code",
            ),
            ("alter system set a = 1", "ddl, code"),
            ("set a = 1", "set"),
            ("reset all", "set"),
            ("discard temp", "set"),
            ("begin", "transaction"),
            ("rollback", "transaction"),
            ("rollback and chain", "transaction"),
            ("commit prepared 'x'", "transaction"),
            (
                "savepoint a; rollback to a; rollback work to savepoint a; release a",
                "",
            ),
            ("copy t from stdin", "copy"),
            ("copy t (program) from program 'cat'", "copy, code"),
            (
                "copy (select 1 from program) to program $$cat$$",
                "select, copy, code",
            ),
            ("copy (select 1 from program) to stdout", "select, copy"),
            ("copy (delete from t returning *) to stdout", "delete, copy"),
            ("call p()", "code"),
            ("do $$ begin delete from t; end $$", "code"),
            ("listen a", "listen"),
            ("select pg_notify('a', '')", "select, listen"),
            (
                "select pg_catalog . \"set_config\" /**/ ('work_mem', '1MB', true)",
                "select, set",
            ),
            (
                "insert into t select set_config('work_mem', '1MB', true)",
                "select, insert, set",
            ),
            ("select set_config, t.pg_notify from t", "select"),
            ("vacuum t", "other"),
            ("lock table t", "select, other"),
            ("nonsense", "other"),
            ("\"select\" 1", "other"),
            ("\"x\" delete from t", "delete, other"),
            ("select 1; update t set a = 1; select 2;", "select, update"),
            (
                "select 'delete from t'; select $$update t$$ /* insert */ -- merge",
                "select",
            ),
        ];
        for (sql, expected) in cases {
            assert_eq!(told(sql), expected, "{sql}");
        }
    }

    #[test]
    fn a_rollback_undoes_what_such_functions_do() {
        for sql in [
            "select set_config('a.b', '', true)",
            "select pg_notify('', '')",
        ] {
            assert!(is_data(sql) && has_data(sql), "{sql}");
        }
        assert!(!is_data("set a.b = 1"));
    }
}
