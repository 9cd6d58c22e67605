//! The order of calls against a host that plays a script.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Mutex;

use postgres_types::{ToSql, Type};

use super::super::cache::StatementCache;
use super::super::pipeline::Pipeline;
use super::super::statement::{Statement, ToStatement};
use super::*;
use crate::poll_ready;
use crate::postgres::db_error::ErrorPosition;
use crate::postgres::db_error::tests::refused;

/// A description with parameters and columns of types that are built in.
pub(crate) fn described(
    version: u64,
    params: &[Type],
    columns: &[(&str, Type)],
) -> wire::Statement {
    wire::Statement {
        version,
        parameters: params
            .iter()
            .map(|type_| wire::Parameter {
                type_oid: type_.oid(),
                text: false,
            })
            .collect(),
        columns: columns
            .iter()
            .map(|(name, type_)| wire::Column {
                name: (*name).to_owned(),
                type_oid: type_.oid(),
                text: false,
                table_oid: 0,
                number: 0,
                modifier: -1,
            })
            .collect(),
        types: Vec::new(),
    }
}

/// What the host says next, whatever it is asked.
#[expect(clippy::large_enum_variant, reason = "a script has a handful of lines")]
enum Line {
    Statement(wire::Statement),
    Answer(Option<wire::Statement>, u32, &'static [u8]),
    Affected(u64),
    Error(wire::Error),
}

#[derive(Default)]
struct Script {
    statements: Mutex<StatementCache>,
    /// Whether it is a transaction.
    trouble: Option<Trouble>,
    lines: RefCell<VecDeque<Line>>,
    asked: RefCell<Vec<String>>,
}

impl Script {
    fn new(lines: impl Into<VecDeque<Line>>) -> Self {
        Self {
            lines: RefCell::new(lines.into()),
            ..Self::default()
        }
    }

    fn next(&self, asked: String) -> Line {
        self.asked.borrow_mut().push(asked);
        let line = self.lines.borrow_mut().pop_front();
        line.expect("the script goes on")
    }

    fn asked(&self) -> Vec<String> {
        assert!(self.lines.borrow().is_empty(), "the script is played");
        self.asked.take()
    }
}

impl Host for Script {
    fn statements(&self) -> &Mutex<StatementCache> {
        &self.statements
    }

    fn trouble(&self) -> Option<Trouble> {
        self.trouble.clone()
    }

    async fn send_prepare(
        &self,
        drafts: Vec<wire::Draft>,
    ) -> Result<Vec<wire::Statement>, wire::PipelineError> {
        let [
            wire::Draft {
                sql,
                types,
                doubted,
            },
        ] = drafts.as_slice()
        else {
            panic!("no script prepares several statements");
        };
        let anew = if *doubted { " anew" } else { "" };
        match self.next(format!("prepare {sql} {types:?}{anew}")) {
            Line::Statement(statement) => Ok(vec![statement]),
            Line::Error(error) => Err(wire::PipelineError { index: None, error }),
            _ => panic!("the script has another line"),
        }
    }

    async fn send_query(&self, call: wire::Call) -> Result<wire::Answer, wire::Error> {
        let wire::Call {
            version,
            types,
            arguments,
            ..
        } = call;
        match self.next(format!("query v{version} {types:?} {}", arguments.len())) {
            Line::Answer(statement, rows, cells) => Ok(wire::Answer {
                statement,
                first: wire::Batch {
                    rows,
                    cells: cells.to_vec(),
                    last: true,
                    affected: rows.into(),
                },
                rest: None,
            }),
            Line::Error(error) => Err(error),
            _ => panic!("the script has another line"),
        }
    }

    async fn send_execute(&self, call: wire::Call) -> Result<u64, wire::Error> {
        match self.next(format!(
            "execute v{} {}",
            call.version,
            call.arguments.len()
        )) {
            Line::Affected(rows) => Ok(rows),
            Line::Error(error) => Err(error),
            _ => panic!("the script has another line"),
        }
    }

    async fn send_pipeline(
        &self,
        _: Vec<wire::Call>,
    ) -> Result<Vec<wire::Outcome>, wire::PipelineError> {
        unreachable!("no script has a pipeline")
    }

    async fn send_batch(&self, _: String) -> Result<(), wire::Error> {
        unreachable!("no script has a batch")
    }

    async fn send_copy_in(&self, _: String) -> Result<wire::CopyIn, wire::Error> {
        unreachable!("no script has a copy")
    }

    async fn send_copy_out(&self, _: String) -> Result<wire::CopyOut, wire::Error> {
        unreachable!("no script has a copy")
    }
}

const ONE: &[u8] = b"\0\0\0\x04\0\0\0\x01";

fn int4(version: u64) -> wire::Statement {
    described(version, &[Type::INT4], &[("n", Type::INT4)])
}

fn first(host: &Script, sql: &str, arguments: &[&(dyn ToSql + Sync)]) -> Result<i32, Error> {
    let rows = poll_ready(query(host, sql.source(), arguments))?;
    let rows = poll_ready(rows.collect())?;
    rows[0].try_get(0)
}

#[test]
fn arguments_cost_one_more_call_the_first_time() {
    let host = Script::new([
        Line::Statement(int4(7)),
        Line::Answer(None, 1, ONE),
        Line::Answer(None, 1, ONE),
    ]);
    for _ in 0..2 {
        assert_eq!(first(&host, "SELECT $1", &[&1_i32]).expect("it answers"), 1);
    }
    assert_eq!(
        host.asked(),
        ["prepare SELECT $1 []", "query v7 [] 8", "query v7 [] 8"]
    );
}

#[test]
fn arguments_whose_types_are_named_cost_no_call_more() {
    let (types, oids) = ([Type::INT4], [Type::INT4.oid()]);
    let host = Script::new([
        Line::Answer(Some(int4(7)), 1, ONE),
        Line::Answer(None, 1, ONE),
    ]);
    for _ in 0..2 {
        let source = Source::Typed("SELECT $1", &oids, &types);
        poll_ready(query(&host, source, &[1_i32])).expect("it answers");
    }
    assert_eq!(host.asked(), ["query v0 [23] 8", "query v7 [23] 8"]);

    // A value without a binary form is text, and that the host has to say.
    let (types, oids) = ([Type::ACLITEM], [Type::ACLITEM.oid()]);
    let host = Script::new([Line::Error(wire::Error::Ended)]);
    let source = Source::Typed("SELECT $1", &oids, &types);
    poll_ready(query(&host, source, &["a"])).expect_err("the script ends");
    assert_eq!(host.asked(), ["prepare SELECT $1 [1033]"]);
}

/// It would have lost count of them.
#[test]
fn of_more_parameters_than_a_statement_can_have_the_server_is_not_asked() {
    let host = Script::default();
    let many: Vec<&(dyn ToSql + Sync)> = vec![&1_i32; 65_536];
    let mut pipeline = Pipeline::new(&host);
    pipeline.add("SELECT 1", &[]).add("SELECT $1", &many);
    for error in [
        first(&host, "SELECT $1", &many).expect_err("it is one too many"),
        poll_ready(execute(&host, Source::Text("SELECT $1"), &many)).expect_err("as well"),
        poll_ready(pipeline.run()).expect_err("as well"),
    ] {
        assert!(error.is_invalid(), "{error}");
        assert!(error.to_string().contains("65536 parameters"), "{error}");
    }
    assert!(host.asked().is_empty());
}

#[test]
fn without_arguments_the_answer_teaches_the_statement() {
    let one = || described(3, &[], &[("n", Type::INT4)]);
    let host = Script::new([
        Line::Answer(Some(one()), 1, ONE),
        Line::Answer(None, 1, ONE),
        Line::Answer(Some(described(4, &[], &[("n", Type::OID)])), 1, ONE),
        Line::Answer(None, 1, ONE),
    ]);
    assert_eq!(first(&host, "SELECT 1", &[]).expect("it answers"), 1);
    assert_eq!(first(&host, "SELECT 1", &[]).expect("it answers"), 1);
    let error = first(&host, "SELECT 1", &[]).expect_err("an oid is not an i32");
    assert!(error.to_string().contains("`oid`"), "{error}");
    first(&host, "SELECT 1", &[]).expect_err("the newer statement stays");
    assert_eq!(
        host.asked(),
        [
            "query v0 [] 0",
            "query v3 [] 0",
            "query v3 [] 0",
            "query v4 [] 0"
        ]
    );
}

#[test]
fn a_changed_statement_is_encoded_anew_once() {
    let int8 = || described(8, &[Type::INT8], &[("n", Type::INT4)]);
    let argument: &[&(dyn ToSql + Sync)] = &[&None::<i32>];
    let host = Script::new([
        Line::Statement(int4(7)),
        Line::Error(wire::Error::StatementChanged(int4(8))),
        Line::Answer(None, 1, ONE),
    ]);
    assert_eq!(first(&host, "SELECT $1", argument).expect("it answers"), 1);
    assert_eq!(
        host.asked(),
        ["prepare SELECT $1 []", "query v7 [] 4", "query v8 [] 4"]
    );

    let host = Script::new([
        Line::Statement(int4(7)),
        Line::Error(wire::Error::StatementChanged(int4(8))),
        Line::Error(wire::Error::StatementChanged(int4(9))),
    ]);
    let error = first(&host, "SELECT $1", argument).expect_err("it changed twice");
    assert!(error.to_string().contains("changed twice"), "{error}");
    assert!(!error.may_have_executed());
    assert_eq!(host.asked().len(), 3);

    let host = Script::new([
        Line::Statement(int4(7)),
        Line::Error(wire::Error::StatementChanged(int8())),
        Line::Statement(int8()),
    ]);
    let error = first(&host, "SELECT $1", argument).expect_err("an i32 is no int8");
    assert!(
        error
            .to_string()
            .starts_with("parameter $1: cannot convert"),
        "{error}"
    );
    assert_eq!(host.asked().len(), 3);
}

#[test]
fn what_does_not_fit_is_asked_for_anew() {
    let text = || described(7, &[Type::TEXT], &[("n", Type::INT4)]);
    let host = Script::new([
        Line::Statement(text()),
        Line::Statement(int4(8)),
        Line::Answer(None, 1, ONE),
        Line::Answer(None, 1, ONE),
    ]);
    for _ in 0..2 {
        assert_eq!(first(&host, "SELECT $1", &[&1_i32]).expect("it answers"), 1);
    }
    assert_eq!(
        host.asked(),
        [
            "prepare SELECT $1 []",
            "prepare SELECT $1 [] anew",
            "query v8 [] 8",
            "query v8 [] 8"
        ]
    );

    let host = Script::new([
        Line::Statement(text()),
        Line::Error(wire::Error::Ended),
        Line::Statement(int4(8)),
        Line::Answer(None, 1, ONE),
    ]);
    let error = first(&host, "SELECT $1", &[&1_i32]).expect_err("an i32 is no text");
    assert!(error.to_string().contains("`text`"), "{error}");
    assert_eq!(first(&host, "SELECT $1", &[&1_i32]).expect("it answers"), 1);
    assert_eq!(host.asked()[2], "prepare SELECT $1 [] anew");

    let host = Script::new([
        Line::Answer(Some(described(3, &[], &[("n", Type::INT4)])), 1, ONE),
        Line::Statement(described(4, &[], &[("n", Type::INT4)])),
        Line::Answer(None, 1, ONE),
    ]);
    first(&host, "SELECT 1", &[]).expect("it answers");
    let known = remembered(&host, Source::Text("SELECT 1"));
    known.expect("it was told").doubt();
    first(&host, "SELECT 1", &[]).expect("it answers");
    assert_eq!(
        host.asked(),
        ["query v0 [] 0", "prepare SELECT 1 [] anew", "query v4 [] 0"]
    );
}

/// Its caller would go on otherwise.
#[test]
fn a_refusal_that_fails_a_transaction_is_told_and_not_the_misfit() {
    let text = || described(7, &[Type::TEXT], &[("n", Type::INT4)]);
    for (trouble, said) in [(None, "`text`"), (Some(Trouble::default()), "42P01")] {
        for is_pipeline in [false, true] {
            let gone = wire::Error::Database(refused("42P01", "missing"));
            let host = Script {
                trouble: trouble.clone(),
                ..Script::new([Line::Statement(text()), Line::Error(gone)])
            };
            let error = match is_pipeline {
                true => {
                    let mut pipeline = Pipeline::new(&host);
                    pipeline.add("SELECT $1", &[&1_i32]);
                    poll_ready(pipeline.run()).expect_err("an i32 is no text")
                }
                false => first(&host, "SELECT $1", &[&1_i32]).expect_err("an i32 is no text"),
            };
            assert!(error.to_string().contains(said), "{error}");
            assert_eq!(host.asked().len(), 2);
        }
    }
}

/// The host says so once, and the next call runs elsewhere.
#[test]
fn a_connection_that_is_lost_meanwhile_is_told_and_not_the_misfit() {
    let text = described(7, &[Type::TEXT], &[("n", Type::INT4)]);
    let lost = wire::Error::ConnectionLost(false);
    let host = Script::new([Line::Statement(text), Line::Error(lost)]);
    let error = first(&host, "SELECT $1", &[&1_i32]).expect_err("an i32 is no text");
    assert!(error.is_closed(), "{error}");
}

/// The host would end the instance.
#[test]
fn what_is_too_large_together_is_refused_before_the_call() {
    const THIRD: usize = 5 * 1024 * 1024 + 1;
    let text = " ".repeat(THIRD);
    let (oids, types) = (vec![Type::TEXT.oid(); 2], [Type::TEXT, Type::TEXT]);
    let host = Script::new([]);
    let source = Source::Typed(&text, &oids, &types);
    let error = poll_ready(query(&host, source, &[&text, &text])).err();
    let many = vec![Type::INT4.oid(); THIRD / 2];
    let named = Source::Typed(&text, &many, &[]);
    let of_types = poll_ready(query(&host, named, &[0_i32; 0])).err();
    let texts = ["a", "b", "c"].map(|name| text.clone() + name);
    let mut pipeline = Pipeline::new(&host);
    for text in &texts {
        pipeline.add(text.as_str(), &[&1_i32]);
    }
    let of_several = poll_ready(pipeline.run()).err();
    for error in [error, of_types, of_several] {
        let error = error.expect("it is too large").to_string();
        assert!(error.contains("one call carries at most"), "{error}");
    }
    assert!(host.asked().is_empty());
}

#[test]
fn a_prepared_statement_follows_its_changes() {
    let host = Script::new([
        Line::Statement(int4(7)),
        Line::Error(wire::Error::StatementChanged(int4(8))),
        Line::Affected(2),
        Line::Affected(3),
    ]);
    let statement: Statement =
        poll_ready(prepare(&host, "UPDATE", &[Type::INT4])).expect("it is prepared");
    for expected in [2, 3] {
        let affected = poll_ready(execute(&host, ToStatement::source(&statement), &[1_i32]));
        assert_eq!(affected.expect("it is executed"), expected);
    }
    assert_eq!(
        host.asked(),
        [
            "prepare UPDATE [23] anew",
            "execute v7 8",
            "execute v8 8",
            "execute v8 8"
        ]
    );
}

#[test]
fn the_number_of_arguments_is_checked_before_the_call() {
    let host = Script::new([Line::Statement(int4(7))]);
    let error = first(&host, "SELECT $1", &[&1_i32, &2_i32]).expect_err("one is too many");
    assert_eq!(
        error.to_string(),
        "the statement takes 1 parameter, and 2 are given"
    );
    assert_eq!(host.asked(), ["prepare SELECT $1 []"]);
}

#[test]
fn a_refusal_carries_what_the_server_said() {
    let host = Script::new([Line::Error(wire::Error::Database(wire::DatabaseError {
        position: Some(15),
        ..refused("42P01", "relation \"ordres\" does not exist")
    }))]);
    let error = first(&host, "SELECT * FROM ordres", &[]).expect_err("there is no such table");
    assert_eq!(
        error.to_string(),
        "relation \"ordres\" does not exist (SQLSTATE 42P01, at character 15)"
    );
    assert_eq!(
        error.code(),
        Some(&crate::postgres::SqlState::UNDEFINED_TABLE)
    );
    assert_eq!(
        error.as_db_error().and_then(|error| error.position()),
        Some(&ErrorPosition::Original(15))
    );
    assert!(!error.may_have_executed() && !error.is_closed());
}

/// Only one of them had to be known, and it is not why there was no connection.
#[test]
fn an_error_on_the_way_to_the_server_is_that_of_a_whole_pipeline() {
    for (error, index) in [
        (wire::Error::Busy("none is free".to_owned()), None),
        (wire::Error::Database(refused("42P01", "missing")), Some(1)),
    ] {
        let host = Script::new([Line::Error(error)]);
        let mut pipeline = Pipeline::new(&host);
        pipeline.add("SELECT 1", &[]).add("SELECT $1", &[&1_i32]);
        let refused = poll_ready(pipeline.run()).expect_err("it is not known");
        assert_eq!(refused.pipeline_index(), index, "{refused}");
    }
}
