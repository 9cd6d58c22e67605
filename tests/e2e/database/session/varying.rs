//! A text that names a cursor or a prepared statement has the columns of what that is by now.

use e2e::guests::QUERY;
use e2e::{Database, Proxy, Setup};
use serde_json::{Value, json};

const ONE: &str = "select 1::int4 as a";
const OTHER: &str = "select 'x'::text as b, 2::int8 as c";

fn assert_each(results: &Value, at: [usize; 3]) {
    let one = json!({ "columns": ["a"], "rows": [[1]] });
    let other = json!({ "columns": ["b", "c"], "rows": [["x", 2]] });
    for (at, expected) in at.into_iter().zip([&one, &other, &one]) {
        assert_eq!(&results[at], expected, "{results}");
    }
}

behind_both_doors! {
    async fn a_cursor_is_read_by_its_own_columns(door) {
        let database = Database::create().await;
        let proxy = Proxy::of(&database);
        let trial = Setup::of(&QUERY).through(&proxy).database("pool_max", "1").start(door).await;
        let fetch = json!({ "query": "fetch all from c" });
        let declare = |sql| json!({ "batch": format!("declare c cursor for {sql}") });
        let again = |sql| json!({ "batch": format!("close c; declare c cursor for {sql}") });
        let steps = json!([declare(ONE), fetch, again(OTHER), fetch, again(ONE), fetch]);
        let todo = json!([{ "transaction": steps, "end": "commit" }]);
        for _ in 0..2 {
            proxy.forget();
            let results = trial.all_done(todo.clone()).await;
            assert_each(&results[0]["steps"], [1, 3, 5]);
            let (flushes, _) = proxy.passed();
            let described = flushes.iter().filter(|flush| flush.ends_with("PDBES")).count();
            assert_eq!(described, 3, "a fetch is one flush: {flushes:?}");
            assert!(flushes.iter().all(|flush| !flush.ends_with("PDS")), "{flushes:?}");
        }
        let pipeline = json!({ "pipeline": [
            ["declare d cursor for select 1::int4 as a", []], ["fetch all from d", []],
            ["close d", []],
            ["declare d cursor for select 'x'::text, 2::int8 from generate_series(1, 3)", []], ["fetch all from d", []],
        ] });
        let results = trial.all_done(json!([{ "transaction": [pipeline], "end": "commit" }])).await;
        let rows: Vec<_> = results[0]["steps"][0].as_array().unwrap().iter().map(|outcome| &outcome["rows"]).collect();
        assert_eq!(rows, [0, 1, 0, 0, 3], "{results}");
    }

    async fn a_statement_that_was_prepared_in_sql_is_executed_by_its_own_columns(door) {
        let database = Database::create().await;
        let trial = Setup::of(&QUERY).with(&database).database("pool_max", "1").start(door).await;
        let execute = json!({ "query": "execute p" });
        let prepare = |sql| json!({ "batch": format!("prepare p as {sql}") });
        let forget = json!({ "execute": "deallocate p" });
        let steps = json!([prepare(ONE), execute, forget, prepare(OTHER), execute, forget, prepare(ONE), execute]);
        for _ in 0..2 {
            let session = trial.all_done(json!([{ "session": steps }])).await;
            assert_each(&session[0], [1, 4, 7]);
            let within = json!([{ "transaction": steps, "end": "commit" }]);
            let transaction = trial.all_done(within).await;
            assert_each(&transaction[0]["steps"], [1, 4, 7]);
        }
    }
}
