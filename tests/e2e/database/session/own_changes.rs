//! What a transaction changes of the tables that it uses itself: no rows that it has read are in the way.

use e2e::guests::QUERY;
use e2e::{Database, Door, Setup, Trial};
use serde_json::{Value, json};

use super::round_trips;

const SCHEMA: &str = "
    create table things (id int4, name text);
    insert into things select n, 'fine' from generate_series(1, 1200) n;";

const ALL: &str = "select * from things";
const ALTER: &str = "alter table things add column z int4";

async fn trial(door: Door, prepare: &str) -> (Database, Trial) {
    let database = Database::with(SCHEMA).await;
    let trial = Setup::of(&QUERY)
        .with(&database)
        .database("pool_max", "1")
        .database("prepare", prepare)
        .start(door)
        .await;
    (database, trial)
}

/// In a transaction, in one on a connection of the guest's own, and in one by text.
fn transactions(steps: &[Value]) -> [Value; 3] {
    let transaction = json!({ "transaction": steps, "end": "rollback" });
    let begin = json!({ "batch": "begin" });
    let end = json!({ "batch": "rollback" });
    let by_text = [&[begin], steps, &[end]].concat();
    [
        json!([transaction]),
        json!([{ "session": [transaction] }]),
        json!(by_text),
    ]
}

behind_both_doors! {
    /// A portal holds its table until it is closed.
    async fn a_table_whose_rows_were_read_is_changed_by_a_batch(door) {
        for prepare in ["\"always\"", "\"never\""] {
            let (_database, trial) = trial(door, prepare).await;
            for read in [
                vec![json!({ "query": ALL })],
                vec![json!({ "only": "select * from things limit 1" })],
                vec![json!({ "streamed": ALL, "meanwhile": [] }), json!({ "batch": "savepoint s" })],
                vec![json!({ "overtaken": ALL, "by": "select 1", "given_up_ms": 0 })],
            ] {
                for change in ["truncate things", ALTER, "create index on things (id)", "drop table things"] {
                    let steps = [read.clone(), vec![json!({ "batch": change })]].concat();
                    for todo in transactions(&steps) {
                        round_trips::steps(&trial, todo).await;
                    }
                }
            }
        }
    }

    async fn a_temporary_table_that_was_read_is_dropped_by_a_batch(door) {
        let (_database, trial) = trial(door, "\"always\"").await;
        let steps = [
            json!({ "batch": "create temp table mine (id int4) on commit drop" }),
            json!({ "execute": "insert into mine values ($1)", "arguments": [1] }),
            json!({ "query": "select * from mine" }),
            json!({ "batch": "drop table mine" }),
        ];
        for todo in transactions(&steps) {
            round_trips::steps(&trial, todo).await;
        }
    }
}
