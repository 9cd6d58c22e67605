//! What a function may read of one result holds in whatever way it asks for it.

use e2e::permission::{database, flat, message, start};
use serde_json::{Value, json};

const CAPS: &str = "rows_max = 1000\nbytes_max = 100000";

/// So many rows, none of which the server makes before it is asked for.
fn sql(rows: u32, bytes: u32) -> String {
    format!("select repeat('x', {bytes}) from (select generate_series(1, {rows})) numbers")
}

/// Each way to read it, the same rows with an argument among them.
fn every_way(rows: u32, bytes: u32) -> Vec<Value> {
    let sql = sql(rows, bytes);
    let asking = format!("{sql} where $1::int4 > 0");
    let copy = format!("copy ({sql}) to stdout");
    vec![
        json!({ "query": sql }),
        json!({ "query": asking, "arguments": [1] }),
        json!({ "typed": asking, "values": [[1, "int4"]] }),
        json!({ "pipeline": [["select 1", []], [sql, []]] }),
        json!({ "pipeline": [[asking, [1]], [asking, [1]]] }),
        json!({ "typed_pipeline": [[asking, [[1, "int4"]]]] }),
        json!({ "copy_out": copy }),
        json!({ "query": format!("with t as ({sql}) select * from t") }),
    ]
}

behind_both_doors! {
    async fn a_result_is_read_no_further_than_its_cap(door) {
        let database = database("").await;
        let trial = start(door, &database, CAPS).await;
        let all = |rows: u32, bytes: u32| json!({ "query": sql(rows, bytes) });
        for (step, word) in [
            (all(1001, 1), "1000 rows"),
            (all(50_000_000, 1), "1000 rows"),
            (all(2, 60_000), "100000 bytes"),
            (all(500_000, 6000), "100000 bytes"),
        ] {
            let steps = json!([step, { "transaction": [step, { "query": "select 1" }], "end": "commit" }]);
            let results = flat(trial.results(steps).await);
            for capped in [&results[0], &results[1]] {
                assert!(message(capped).starts_with("the result is too large: "), "{capped}");
                assert!(message(capped).contains(word), "{capped}");
                assert!(message(capped).contains("in [function.tested.database.default]"), "{capped}");
            }
            assert_eq!(results[2]["rows"], json!([[1]]), "{step}");
        }
        let fitting = flat(trial.results(json!([all(1000, 1), all(1, 90_000)])).await);
        assert_eq!(fitting[0]["rows"].as_array().map(Vec::len), Some(1000));
        assert_eq!(fitting[1]["rows"].as_array().map(Vec::len), Some(1));
    }

    /// Outside, in a transaction and on a session; the second time, the statement is prepared. What is
    /// called afterwards is none the worse for it.
    async fn a_cap_holds_however_a_result_is_asked_for(door) {
        let database = database("").await;
        let trial = start(door, &database, CAPS).await;
        let one = json!({ "query": "select 1" });
        for (rows, bytes, word) in [(1001, 1, "1000 rows"), (20, 6000, "100000 bytes"), (900, 300, "100000 bytes")] {
            for step in every_way(rows, bytes) {
                let answers = trial.results(json!([
                    step, one, step, one,
                    { "transaction": [step], "end": "rollback" },
                    { "transaction": [{ "query": "select 1" }, step], "end": "rollback" },
                    { "session": [step, one, step, one] },
                    one,
                ])).await;
                let session = answers[6].as_array().expect("each step has a result");
                let inside = [&answers[4]["steps"][0], &answers[5]["steps"][1]];
                for capped in [&answers[0], &answers[2], &session[0], &session[2]].into_iter().chain(inside) {
                    assert!(message(capped).starts_with("the result is too large: "), "{step}: {capped}");
                    assert!(message(capped).contains(word), "{step}: {capped}");
                }
                for well in [&answers[1], &answers[3], &session[1], &session[3], &answers[7]] {
                    assert_eq!(well["rows"], json!([[1]]), "{step}: {well}");
                }
            }
        }
    }

    /// The server is told to stop, or had ended by then.
    async fn a_statement_whose_rows_are_too_many_has_done_all_or_nothing(door) {
        let database = database("create table noted (n int4); grant all on noted to $app").await;
        let trial = start(door, &database, "rows_max = 10").await;
        for rows in [11, 1000, 200_000] {
            let insert = format!("insert into noted select generate_series(1, {rows}) returning n");
            let capped = trial.results(json!([{ "query": insert }])).await;
            assert!(message(&capped[0]).contains("10 rows"), "{capped:?}");
            let count = database.count("noted").await;
            assert!(count == 0 || count == rows, "{count} of {rows}");
            database.run("truncate noted").await;
        }
    }

    /// What was done in it before would be committed otherwise, and what was told as refused.
    async fn a_transaction_is_not_committed_behind_what_it_has_written_and_not_read(door) {
        let database = database("create table noted (n int4); grant all on noted to $app").await;
        let trial = start(door, &database, "rows_max = 400").await;
        let writing = |rows: u32, bytes: u32| {
            format!("insert into noted select generate_series(1, {rows}) returning repeat('x', {bytes})")
        };
        for step in [
            json!({ "pipeline": [["insert into noted values (1)", []], [sql(401, 1), []]] }),
            json!({ "query": writing(401, 1) }),
            json!({ "query": writing(450, 1000) }),
            json!({ "copy_out": format!("copy ({}) to stdout", writing(401, 1)) }),
            json!({ "copy_out": format!("copy ({}) to stdout", writing(2000, 1000)) }),
        ] {
            let other = json!({ "execute": "insert into noted values (2)" });
            let results = trial.results(json!([
                { "transaction": [other, step], "end": "commit" },
                { "transaction": [other, step, other], "end": "commit" },
                { "session": [{ "batch": "begin" }, other, step, { "batch": "commit" }] },
                { "batch": "begin" }, other, step, other, { "batch": "commit" },
            ])).await;
            let refused = [&results[0]["steps"][1], &results[1]["steps"][1], &results[2][2], &results[5]];
            assert!(refused.iter().all(|told| message(told).contains("400 rows")), "{step}: {results}");
            for next in [&results[1]["steps"][2], &results[6]] {
                assert_eq!(next["error"]["code"], "25P02", "{step}: {next}");
            }
            for transaction in &results[..2] {
                assert!(transaction["end"].to_string().contains("rolled back"), "{step}: {transaction}");
            }
            assert_eq!(database.count("noted").await, 0, "{step}");
        }
    }

    /// Whether it writes is not in the text of a statement that calls a function, or fetches from a cursor.
    async fn a_transaction_is_not_committed_behind_what_a_function_has_written_and_nobody_read(door) {
        let database = database(
            "create table noted (n int4); grant all on noted to $app;
             create function note(rows int4, bytes int4) returns setof text language sql as
                $$ insert into noted select generate_series(1, rows) returning repeat('x', bytes) $$",
        ).await;
        let trial = start(door, &database, "rows_max = 400").await;
        for called in ["note(401, 1)", "note(450, 1000)"] {
            let select = json!({ "query": format!("select * from {called}") });
            let declare = json!({ "execute": format!("declare c cursor for select * from {called}") });
            let fetch = json!({ "query": "fetch all from c" });
            for writing in [vec![&select], vec![&declare, &fetch]] {
                let transaction = json!({ "transaction": writing, "end": "commit" });
                let results = trial.results(json!([transaction])).await;
                let steps = results[0]["steps"].as_array().expect("each step has a result");
                let told = steps.last().map(message).unwrap_or_default();
                assert!(told.contains("400 rows"), "{called}: {results}");
                assert!(results[0]["end"].to_string().contains("rolled back"), "{called}: {results}");
                assert_eq!(database.count("noted").await, 0, "{called}");
            }
        }
    }

    async fn what_fits_its_cap_is_read_in_each_of_these_ways(door) {
        let database = database("").await;
        let trial = start(door, &database, CAPS).await;
        for step in every_way(1000, 10) {
            let answers = flat(trial.results(json!([step, { "transaction": [step], "end": "commit" }, { "session": [step] }])).await);
            for answer in [&answers[0], &answers[1], &answers[2][0]] {
                assert_eq!(message(answer), "", "{step}: {answer}");
            }
        }
    }
    /// A line of names, and what stands around rows in the binary format, are none.
    async fn of_a_copy_only_rows_count(door) {
        let database = database("").await;
        let trial = start(door, &database, "rows_max = 3").await;
        for format in ["", "(header)", "(format csv, header)", "csv header", "(format binary)"] {
            let copy = |rows: u32| json!({ "copy_out": format!("copy ({}) to stdout {format}", sql(rows, 1)) });
            let results = trial.results(json!([copy(0), copy(3), copy(4), copy(3)])).await;
            for fitting in [&results[0], &results[1], &results[3]] {
                assert_eq!(message(fitting), "", "{format}: {fitting}");
            }
            assert!(message(&results[2]).contains("3 rows"), "{format}: {}", results[2]);
        }
    }
}
