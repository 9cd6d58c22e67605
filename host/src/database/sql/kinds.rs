//! What kinds of statement a text holds.
//!
//! Promises: every statement of a batch counts, and so does what stands within one: the `DELETE`
//! in a `WITH`, the statement behind `EXPLAIN` or `PREPARE`, the table that `SELECT INTO` creates.
//! A doubt makes a text count as more kinds, never as fewer; a column whose name is a verb is
//! told from it by quotes.
//!
//! What a function does that a statement calls is not in the text: see [`super::guard`].

use super::lexer::{Token, Tokens};
use crate::config::{StatementKind, StatementKinds};

/// The kinds in a text, which may have several statements.
pub fn kinds(sql: &str) -> StatementKinds {
    let tokens: Vec<Token> = Tokens::new(sql).collect();
    statements(&tokens).fold(StatementKinds::NONE, |kinds, statement| {
        kinds.and(of_statement(statement))
    })
}

/// Whether a text only reads and writes data, so that a rollback undoes all that it does.
pub fn is_data(sql: &str) -> bool {
    use StatementKind as K;
    let data = [K::Select, K::Insert, K::Update, K::Delete, K::Merge];
    let rest = data
        .into_iter()
        .fold(kinds(sql), |kinds, kind| kinds.without(kind.into()));
    rest == StatementKinds::NONE
}

/// The statements of a batch, without the empty ones.
pub(super) fn statements(tokens: &[Token]) -> impl Iterator<Item = &[Token]> {
    tokens
        .split(|token| *token == Token::Symbol(';'))
        .filter(|statement| !statement.is_empty())
}

fn of_statement(tokens: &[Token]) -> StatementKinds {
    use StatementKind as K;
    // A statement that is put in parentheses is a query.
    let begin = tokens
        .iter()
        .position(|token| *token != Token::Symbol('('))
        .unwrap_or(tokens.len());
    let (Some(Token::Word(verb)), rest) = (tokens.get(begin), tokens.get(begin + 1..)) else {
        return K::Other.into();
    };
    let rest = rest.unwrap_or_default();
    match verb.as_str() {
        "select" | "values" | "table" | "with" => written(tokens).and(K::Select.into()),
        "insert" | "update" | "delete" | "merge" => written(tokens),
        "declare" | "fetch" | "move" | "close" | "show" => written(tokens).and(K::Select.into()),
        "explain" => explained(rest),
        "prepare" if !rest.first().is_some_and(|token| token.is("transaction")) => prepared(rest),
        "create" | "alter" | "drop" => defined(rest),
        "truncate" | "comment" | "grant" | "revoke" | "refresh" | "reindex" | "cluster"
        | "security" | "reassign" | "import" => K::Ddl.into(),
        "set" | "reset" | "discard" => K::Set.into(),
        "begin" | "start" | "commit" | "end" | "abort" | "prepare" => K::Transaction.into(),
        "rollback" if !goes_back_to_a_savepoint(rest) => K::Transaction.into(),
        "rollback" | "savepoint" | "release" => StatementKinds::NONE,
        "copy" => written(tokens).and(K::Copy.into()),
        "listen" | "unlisten" | "notify" => K::Listen.into(),
        "call" | "do" | "execute" => K::Code.into(),
        _ => written(tokens).and(K::Other.into()),
    }
}

/// What the words of a statement say that it reads and writes.
fn written(tokens: &[Token]) -> StatementKinds {
    use StatementKind as K;
    let mut kinds = StatementKinds::NONE;
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
            "into" if !before.is_some_and(|token| token.is_one_of(&["insert", "merge"])) => K::Ddl,
            _ => continue,
        };
        kinds = kinds.and(kind.into());
    }
    kinds
}

/// `EXPLAIN` counts as what it explains: with `ANALYZE` that is executed.
fn explained(tokens: &[Token]) -> StatementKinds {
    let mut rest = tokens;
    let is_option = |token: &Token| token.is_one_of(&EXPLAIN_OPTIONS);
    if rest.first() == Some(&Token::Symbol('(')) && rest.get(1).is_some_and(is_option) {
        let end = rest.iter().position(|token| *token == Token::Symbol(')'));
        rest = end.and_then(|end| rest.get(end + 1..)).unwrap_or_default();
    }
    while rest.first().is_some_and(is_option) {
        rest = &rest[1..];
    }
    of_statement(rest)
}

/// `PREPARE name (types) AS statement` counts as the statement.
fn prepared(tokens: &[Token]) -> StatementKinds {
    let begin = tokens.iter().position(|token| token.is("as"));
    of_statement(
        begin
            .and_then(|begin| tokens.get(begin + 1..))
            .unwrap_or_default(),
    )
}

/// `CREATE`, `ALTER` and `DROP`: a definition of code is code besides.
fn defined(tokens: &[Token]) -> StatementKinds {
    use StatementKind as K;
    // `CREATE OR REPLACE TRUSTED PROCEDURAL LANGUAGE` has the longest way to its noun; a name
    // that is one of these words must be quoted to stand elsewhere.
    let is_code = tokens.iter().take(6).any(|token| token.is_one_of(&CODE));
    let ddl = StatementKinds::from(K::Ddl);
    match is_code {
        true => ddl.and(K::Code.into()),
        false => ddl,
    }
}

fn goes_back_to_a_savepoint(tokens: &[Token]) -> bool {
    let rest = match tokens.first() {
        Some(token) if token.is_one_of(&["work", "transaction"]) => &tokens[1..],
        _ => tokens,
    };
    rest.first().is_some_and(|token| token.is("to"))
}

#[rustfmt::skip]
const EXPLAIN_OPTIONS: [&str; 13] = [
    "analyse", "analyze", "buffers", "costs", "format", "generic_plan", "memory", "serialize",
    "settings", "summary", "timing", "verbose", "wal",
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
            ("explain select 1", "select"),
            ("explain (select 1)", "select"),
            ("EXPLAIN (analyze, buffers off) delete from t", "delete"),
            (
                "explain analyze verbose with a as (update t set b = 1) select 1",
                "select, update",
            ),
            ("explain analyze create table t as select 1", "ddl"),
            ("prepare p (int) as delete from t", "delete"),
            ("prepare transaction 'x'", "transaction"),
            ("execute p (1)", "code"),
            ("declare c cursor for select 1 for update", "select, update"),
            ("fetch all from c", "select"),
            ("create table t ()", "ddl"),
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
            ("copy (delete from t returning *) to stdout", "delete, copy"),
            ("call p()", "code"),
            ("do $$ begin delete from t; end $$", "code"),
            ("listen a", "listen"),
            ("vacuum t", "other"),
            ("lock table t", "select, other"),
            ("nonsense", "other"),
            ("\"select\" 1", "other"),
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
}
