//! Pipelines: many statements in one request, which take effect whole or not at all. What they cost is in
//! `round_trips.rs`.

use e2e::guests::QUERY;
use e2e::{Database, Door, Setup, Trial};
use serde_json::{Value, json};

/// With one connection, so that a pipeline finds what the one before has left there.
async fn trial(door: Door, schema: &str) -> (Database, Trial) {
    let database = Database::with(schema).await;
    let setup = Setup::of(&QUERY).with(&database).database("pool_max", "1");
    (database, setup.start(door).await)
}

behind_both_doors! {
    async fn a_pipeline_is_done_whole_or_not_at_all(door) {
        let (database, trial) = trial(door, "create table things (id int4 primary key, name text)").await;
        let insert = |id: u32| json!(["insert into things values ($1, $2)", [id, "a thing"]]);
        let pipeline = |calls: Value| json!([{ "pipeline": calls }]);
        let done = trial.results(pipeline(json!([insert(1), insert(2), ["select * from things", []]]))).await;
        assert_eq!(done[0], json!([
            { "affected": 1, "rows": 0 }, { "affected": 1, "rows": 0 }, { "affected": 2, "rows": 2 },
        ]));
        let failed = trial.results(pipeline(json!([insert(3), insert(1), insert(4)]))).await;
        assert_eq!(failed[0]["error"]["code"], "23505", "{failed:?}");
        let within = json!([{ "transaction": [{ "pipeline": [insert(5), insert(6)] }], "end": "commit" }]);
        trial.results(within).await;
        assert_eq!(database.value("select string_agg(id::text, ' ' order by id) from things").await.as_deref(), Some("1 2 5 6"));
    }

    /// Whoever is told that one of its statements has failed may send it again.
    async fn a_pipeline_takes_effect_whole_or_not_at_all_whatever_is_in_it(door) {
        let (database, trial) = trial(door, "create table things (number int not null)").await;
        let [write, fail] = ["insert into things values (1)", "insert into things values (null)"];
        for end in ["commit", "rollback", "end", "begin; commit", ";/* */; commit"] {
            let pipeline = json!([[write, []], [end, []], [write, []], [fail, []]]);
            for steps in [
                json!([{ "pipeline": pipeline }]),
                json!([{ "session": [{ "pipeline": pipeline }] }]),
                json!([{ "transaction": [{ "pipeline": pipeline }], "end": "commit" }]),
            ] {
                let results = trial.value(json!({ "steps": steps })).await;
                assert!(results.to_string().contains("statement 2 of the pipeline"), "{end}: {results}");
                assert_eq!(database.count("things").await, 0, "{end}");
            }
        }
        let whole = json!([["begin isolation level serializable", []], [write, []], ["savepoint a", []], [write, []],
            ["rollback to a", []], ["commit", []]]);
        let failing = json!([["begin", []], [write, []], [fail, []], ["commit", []]]);
        let steps = json!([{ "pipeline": whole }, { "pipeline": failing }, { "batch": "rollback" }]);
        let results = trial.value(json!({ "steps": steps })).await;
        assert_eq!((results[0].as_array().map(Vec::len), &results[1]["error"]["code"]), (Some(6), &json!("23502")));
        assert_eq!(database.count("things").await, 1, "{results}");
    }

    /// What is remembered of them has not room for all, and those that come last push out the first.
    async fn statements_of_a_pipeline_may_take_more_than_is_remembered(door) {
        let labels: Vec<String> = (0..1000).map(|number| format!("'mood {number}'")).collect();
        let (_database, trial) = trial(door, &format!("create type mood as enum ({})", labels.join(", "))).await;
        let call = |number: u32| json!([format!("select 'mood 7'::mood as m{number} where $1::int4 > 0"), [1]]);
        let pipeline = json!({ "pipeline": (0..60).map(call).collect::<Vec<_>>() });
        let results = trial.results(json!([pipeline, pipeline, { "transaction": [pipeline], "end": "commit" }])).await;
        let each = json!(vec![json!({ "affected": 1, "rows": 1 }); 60]);
        assert_eq!([&results[0], &results[1], &results[2]["steps"][0]], [&each; 3]);
    }

    /// What goes before it has statements forgotten, itself among them.
    async fn a_block_of_code_that_is_all_of_a_pipeline_is_executed_again_and_again(door) {
        let (_database, trial) = trial(door, "").await;
        let block = json!({ "pipeline": [["do $$ begin perform 1; end $$", []]] });
        let results = trial.results(json!([{ "session": [block, block, block] }])).await;
        assert!(!results[0].to_string().contains("error"), "{results}");
    }

    /// Its statements have no names there, and so nothing that the server would have to forget.
    async fn a_pipeline_that_keeps_nothing_prepared_gives_its_connection_back(door) {
        let database = Database::create().await;
        let setup = Setup::of(&QUERY).with(&database).database("pool_max", "1").database("prepare", "\"never\"");
        let trial = setup.start(door).await;
        let transaction = json!({ "transaction": [{ "query": "select 1" }], "end": "commit" });
        let steps = json!([{ "pipeline": [["select 1", []], ["select 2", []]] }, transaction]);
        let results = trial.value(json!({ "steps": steps })).await;
        assert_eq!(results[1]["steps"][0]["rows"], json!([[1]]), "{results}");
    }
}
