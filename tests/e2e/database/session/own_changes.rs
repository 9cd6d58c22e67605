//! What a transaction changes of the tables that it uses itself: no rows that it has read, and no statement that it has
//! executed before, is in the way.

use e2e::guests::QUERY;
use e2e::{Database, Door, Setup, Trial};
use serde_json::{Value, json};

use super::round_trips;

const SCHEMA: &str = "
    create type mood as enum ('fine');
    create table things (id int4, name text);
    insert into things select n, 'fine' from generate_series(1, 1200) n;
    create schema elsewhere;
    create table elsewhere.things (other text);";

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

/// The columns of the result of these steps' last query.
async fn last_columns(trial: &Trial, steps: &[Value]) -> Value {
    let todo = json!([{ "transaction": steps, "end": "rollback" }]);
    let results = trial.all_done(todo).await;
    let results = results[0]["steps"].as_array().expect("each has a result");
    results.last().expect("there are some")["columns"].clone()
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
                        trial.all_done(todo).await;
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
            trial.all_done(todo).await;
        }
    }

    async fn a_statement_that_was_used_before_has_the_columns_of_its_table_as_it_is_now(door) {
        let (_database, trial) = trial(door, "\"always\"").await;
        let all = json!({ "query": ALL });
        // The connection has prepared it in an earlier invocation.
        trial.all_done(json!([all])).await;
        let anew = "drop table things; create table things (other text)";
        let within = format!("do $$ begin {ALTER}; end $$");
        let pipeline = json!({ "pipeline": [[ALL, []], [ALTER, []], [ALL, []], [ALL, []]] });
        let (two, three) = (json!(["id", "name"]), json!(["id", "name", "z"]));
        for (change, columns) in [
            (json!({ "execute": ALTER }), &three),
            (json!({ "query": ALTER }), &three),
            (json!({ "batch": ALTER }), &three),
            (json!({ "execute": within }), &three),
            (json!({ "batch": within }), &three),
            (pipeline, &three),
            (json!({ "batch": anew }), &json!(["other"])),
            (json!({ "batch": "set local search_path to elsewhere" }), &json!(["other"])),
            (json!({ "execute": "set local search_path to elsewhere" }), &json!(["other"])),
        ] {
            assert_eq!(last_columns(&trial, &[change.clone(), all.clone()]).await, *columns, "{change}");
            // It was rolled back, and another statement is the first of the next transaction.
            let first = json!({ "query": "select 1" });
            assert_eq!(last_columns(&trial, &[first, all.clone()]).await, two, "{change}");
            let before = [all.clone(), change.clone(), all.clone(), all.clone()];
            assert_eq!(last_columns(&trial, &before).await, *columns, "{change}");
            for back in [
                vec![json!({ "transaction": [change, all], "end": "rollback" })],
                vec![json!({ "batch": "savepoint s" }), change, all.clone(), json!({ "batch": "rollback to s" })],
            ] {
                let steps = [vec![all.clone()], back, vec![all.clone()]].concat();
                assert_eq!(last_columns(&trial, &steps).await, two, "{steps:?}");
            }
        }
    }

    async fn a_statement_whose_parameter_has_another_type_by_now_is_executed(door) {
        let (database, trial) = trial(door, "\"always\"").await;
        let insert = json!({ "execute": "insert into things (name) values ($1)", "arguments": ["fine"] });
        let alter = json!({ "batch": "alter table things alter column name type mood using name::mood" });
        let steps = json!([{ "transaction": [insert, alter, insert, insert], "end": "commit" }]);
        trial.all_done(steps).await;
        let count = "select count(*) from things where id is null and name = 'fine'::mood";
        assert_eq!(database.value(count).await.as_deref(), Some("3"));
    }

    async fn what_a_transaction_has_changed_costs_no_round_trip(door) {
        let (_database, proxy, trial) = round_trips::trial(door, "\"serial\"").await;
        let all = json!({ "query": ALL });
        let one = json!({ "query": round_trips::SELECT, "arguments": [1] });
        for change in [json!({ "execute": ALTER }), json!({ "execute": "set local search_path to public" })] {
            let steps = json!([{ "transaction": [all, one, change, all, one, all, one], "end": "rollback" }]);
            trial.all_done(steps.clone()).await;
            let seen = round_trips::flushes(&proxy, &trial, steps).await;
            assert_eq!(seen.len(), 8, "{change}: {seen:?}");
            assert!(seen[3].contains("PDBE") && seen[4].contains("PDBE"), "{change}: {seen:?}");
            assert!(!seen[5].contains("PDBE") && !seen[6].contains("PDBE"), "{change}: {seen:?}");
        }
    }

    /// Both by one text.
    async fn what_a_text_changes_beside_the_names_is_heeded_too(door) {
        let (_database, trial) = trial(door, "\"always\"").await;
        let known = json!({ "query": "select id from things where id = $1", "arguments": [1] });
        trial.all_done(json!([known])).await;
        let both = ["set local search_path to public", "alter table things alter column id type text"];
        let pipeline = both.map(|sql| json!([sql, []]));
        for change in [json!({ "batch": both.join("; ") }), json!({ "pipeline": pipeline })] {
            for todo in transactions(&[change, known.clone()]) {
                let results = trial.value(json!({ "steps": todo })).await;
                assert!(!results.to_string().contains("42883"), "{results}");
                assert!(!results.to_string().contains("25P02"), "{results}");
            }
        }
    }

    /// The server goes on to read the one that is gone, in what it has parsed before, and finds nothing there.
    async fn an_attribute_that_was_made_anew_is_the_one_that_is_read(door) {
        let (_database, trial) = trial(door, "\"always\"").await;
        let read = json!({ "query": "select ('(1,2)'::text::duo).a" });
        let anew = ["alter type duo drop attribute a", "alter type duo add attribute a int"];
        let create = json!({ "batch": "create type duo as (a int, b int)" });
        let by_text = json!({ "batch": anew.join("; ") });
        let together = json!({ "pipeline": [[read["query"], []], [anew[0], []], [anew[1], []]] });
        for steps in [json!([create, read, by_text, read]), json!([create, together, read])] {
            let results = trial.all_done(json!([{ "session": steps }])).await;
            let last = results[0].as_array().and_then(|all| all.last()).expect("there are some");
            assert_eq!(last["rows"], json!([[2]]), "{steps}: {results}");
            trial.all_done(json!([{ "batch": "drop type duo" }])).await;
        }
    }

    /// Where names are looked up the server heeds by itself: what it has parsed there before is executed as it is.
    async fn what_only_leads_names_elsewhere_has_nothing_parsed_twice(door) {
        let (_database, proxy, trial) = round_trips::trial(door, "\"serial\"").await;
        let all = json!({ "query": ALL });
        let one = json!({ "query": round_trips::SELECT, "arguments": [1] });
        let update = json!({ "execute": "update things set id = id" });
        let uses = json!([all, one, update]);
        trial.all_done(json!([{ "batch": "create procedure nop() language sql as ''" }, uses[0], uses[1], uses[2]])).await;
        let by = |change: &str| json!({ "transaction": [{ "batch": change }, all, one, update], "end": "commit" });
        for (change, parsed) in [
            ("call nop()", 0),
            ("set local search_path to public", 2),
        ] {
            proxy.forget();
            trial.all_done(json!([{ "session": [by(change), by(change), by(change)] }])).await;
            let texts = ["select * from things", round_trips::SELECT, "update things set id = id"];
            let statements = proxy.statements();
            let seen = statements.iter().filter(|(_, text)| texts.contains(&text.as_str()));
            assert_eq!(seen.count(), parsed, "{change}: {statements:?}");
        }
    }

    /// Nobody has told the host which of them each transaction is about.
    async fn a_name_that_leads_elsewhere_by_turns_has_the_columns_of_its_table(door) {
        let (_database, trial) = trial(door, "\"always\"").await;
        let first = json!({ "query": "select 1" });
        let all = json!({ "query": ALL });
        let path = |sql: &str| json!({ "batch": sql });
        let there = json!(["other"]);
        let here = json!(["id", "name"]);
        let local = path("set local search_path to elsewhere");
        let through = |steps: Value, end: &str| json!({ "transaction": steps, "end": end });
        for (steps, columns) in [
            (json!([through(json!([first, local, all]), "commit"), through(json!([first, all]), "commit")]), &here),
            (json!([through(json!([first, all, local, all]), "commit"), through(json!([first, all]), "commit")]), &here),
            (json!([through(json!([first, all]), "commit"), through(json!([first, local, all]), "commit")]), &there),
            (json!([all, path("set search_path to elsewhere"), through(json!([first, all]), "commit")]), &there),
            (json!([all, through(json!([path("set search_path to elsewhere"), all]), "commit"), through(json!([first, all]), "commit")]), &there),
            (json!([all, through(json!([path("set search_path to elsewhere"), all]), "rollback"), through(json!([first, all]), "commit")]), &here),
            (json!([all, through(json!([
                { "pipeline": [[ALL, []], ["set local search_path to elsewhere", []], [ALL, []]] }, all,
            ]), "commit"), through(json!([first, all]), "commit")]), &here),
            // Outside of a transaction it holds for its own request.
            (json!([{ "pipeline": [["set local search_path to elsewhere", []], [ALL, []]] }, through(json!([first, all]), "commit")]), &here),
            (json!([all, through(json!([local, all]), "commit"), local, through(json!([first, all]), "commit")]), &here),
        ] {
            let results = trial.all_done(json!([{ "session": steps }])).await;
            let last = results[0].as_array().and_then(|all| all.last()).expect("there are some");
            let last = last["steps"].as_array().and_then(|all| all.last()).expect("there are some");
            assert_eq!(last["columns"], *columns, "{steps}: {results}");
        }
    }

    /// What the host sends on account of that time is a transaction to the server as well.
    async fn what_a_batch_begins_and_changes_is_heeded_also_if_it_has_a_time(door) {
        let (_database, trial) = trial(door, "\"always\"").await;
        let (first, all) = (json!({ "query": "select 1" }), json!({ "query": ALL }));
        let end = json!({ "batch": "rollback" });
        let begin = |sql: &str| json!({ "timeout_ms": 5000, "hurried": [{ "batch": format!("begin; {sql}") }] });
        let path = begin("set local search_path to elsewhere");
        let results = trial.all_done(json!([{ "session": [all, path, first, all, end] }])).await;
        assert_eq!(results[0][3]["columns"], json!(["other"]), "{results}");
        let behind = json!({ "transaction": [first, all], "end": "commit" });
        let results = trial.all_done(json!([{ "session": [begin(ALTER), all, end, behind] }])).await;
        assert_eq!(results[0][3]["steps"][1]["columns"], json!(["id", "name"]), "{results}");
    }

    /// The server does not say that it is another one.
    async fn a_transaction_that_follows_another_one_at_once_is_not_taken_for_that(door) {
        let (_database, trial) = trial(door, "\"always\"").await;
        let (first, all) = (json!({ "query": "select 1" }), json!({ "query": ALL }));
        let batch = |sql: &str| json!({ "batch": sql });
        let path = batch("set local search_path to elsewhere");
        for end in ["commit and chain", "rollback and chain"] {
            let steps = json!([batch("begin"), first, path, all, batch(end), all, batch("rollback")]);
            let results = trial.all_done(json!([{ "session": steps }])).await;
            assert_eq!(results[0][5]["columns"], json!(["id", "name"]), "{end}: {results}");
        }
    }
}
