//! What a call costs on the wire: one flush and one answer. A proxy counts them.
//!
//! A flush is noted by its messages' tags: `P`arse, `D`escribe, `B`ind, `E`xecute, `C`lose, `S`ync, and
//! `Q` for a query of the simple protocol.

use e2e::guests::QUERY;
use e2e::{Database, Door, Proxy, Setup, Trial};
use serde_json::{Value, json};

const SCHEMA: &str = "create table things (id int4, name text);
    create type mood as enum ('fine'); insert into things values (1, 'one')";

pub(super) async fn trial(door: Door, isolation: &str) -> (Database, Proxy, Trial) {
    let database = Database::with(SCHEMA).await;
    let proxy = Proxy::of(&database);
    let setup = Setup::of(&QUERY)
        .through(&proxy)
        .database("pool_max", "1")
        .isolation(isolation);
    let trial = setup.start(door).await;
    // The login, and what the server is told once.
    trial.all_done(json!([{ "query": "select 0" }])).await;
    proxy.forget();
    (database, proxy, trial)
}

/// What passes while these steps are done, without what came before.
pub(super) async fn flushes(proxy: &Proxy, trial: &Trial, todo: Value) -> Vec<String> {
    proxy.forget();
    trial.all_done(todo).await;
    let (flushes, answers) = proxy.passed();
    assert_eq!(flushes.len(), answers, "each is answered once: {flushes:?}");
    flushes
}

pub(super) const SELECT: &str = "select name from things where id = $1";

behind_both_doors! {
    /// All of them but the last have given their connection back before the next began.
    async fn a_repeated_query_is_one_flush_and_giving_back_is_none(door) {
        let (_database, proxy, trial) = trial(door, "\"serial\"").await;
        let step = json!([{ "query": SELECT, "arguments": [1] }]);
        trial.all_done(step.clone()).await;
        proxy.forget();
        for _ in 0..5 {
            trial.all_done(step.clone()).await;
        }
        assert_eq!(proxy.passed(), (vec!["BES".to_owned(); 5], 5));
    }

    async fn a_first_query_is_one_flush_if_its_types_are_known(door) {
        let (_database, proxy, trial) = trial(door, "\"serial\"").await;
        for first in [
            json!({ "query": "select 1" }),
            json!({ "execute": "delete from things where id = 7" }),
            json!({ "typed": SELECT, "values": [[1, "int4"]] }),
            json!({ "typed": "select $1 || $2", "values": [["a", "text"], ["b", "text"]] }),
        ] {
            assert_eq!(flushes(&proxy, &trial, json!([first])).await, ["PDBES"], "{first}");
            assert_eq!(flushes(&proxy, &trial, json!([first])).await, ["BES"], "{first}");
        }
        // Which types `$1` has only the server knows here.
        let unknown = json!([{ "query": SELECT, "arguments": [1] }]);
        assert_eq!(flushes(&proxy, &trial, unknown.clone()).await, ["PDS", "BES"]);
        assert_eq!(flushes(&proxy, &trial, unknown).await, ["BES"]);
    }

    /// A guest that starts anew knows nothing; the host does.
    async fn what_the_host_knows_a_new_instance_need_not_ask(door) {
        let (_database, proxy, trial) = trial(door, "\"fresh\"").await;
        let step = json!([{ "query": SELECT, "arguments": [1] }]);
        assert_eq!(flushes(&proxy, &trial, step.clone()).await, ["PDS", "BES"]);
        assert_eq!(flushes(&proxy, &trial, step).await, ["BES"]);
    }

    async fn a_transaction_begins_with_its_first_statement(door) {
        let (_database, proxy, trial) = trial(door, "\"serial\"").await;
        let transaction = |steps: Value, end: &str| json!([{ "transaction": steps, "end": end }]);
        let update = json!({ "execute": "update things set name = 'uno' where id = $1", "arguments": [1] });
        let typed = json!({ "typed": SELECT, "values": [[1, "int4"]] });
        trial.all_done(json!([update])).await;
        // The host tells the server of the time again where it was told in a transaction.
        trial.all_done(transaction(json!([update]), "commit")).await;
        let seen = flushes(&proxy, &trial, transaction(json!([update, update]), "commit")).await;
        assert_eq!(seen, ["PBEBES", "BES", "PBES"]);
        let seen = flushes(&proxy, &trial, transaction(json!([update]), "rollback")).await;
        assert_eq!(seen, ["PBEBES", "PBES"]);
        let seen = flushes(&proxy, &trial, transaction(json!([typed]), "commit")).await;
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert!(seen[0].starts_with("PBE") && seen[0].ends_with("PDBES"), "{seen:?}");
        for end in ["commit", "rollback", "drop"] {
            assert!(flushes(&proxy, &trial, transaction(json!([]), end)).await.is_empty(), "{end}");
        }
    }

    /// Not even what a new connection's server is asked once.
    async fn a_transaction_in_which_nothing_is_done_costs_nothing(door) {
        let database = Database::create().await;
        let proxy = Proxy::of(&database);
        let trial = Setup::of(&QUERY).through(&proxy).database("warm", "0").start(door).await;
        let ends = ["commit", "rollback", "drop"].map(|end| json!({ "transaction": [], "end": end }));
        trial.all_done(json!([ends[0], ends[1], ends[2], { "session": ends }])).await;
        assert!(proxy.passed().0.is_empty(), "{:?}", proxy.passed());
    }

    /// What it leaves is forgotten with the next statement.
    async fn a_nested_transaction_is_rolled_back_in_one_flush(door) {
        let (_database, proxy, trial) = trial(door, "\"serial\"").await;
        let query = json!({ "query": "select 1" });
        for end in ["rollback", "drop"] {
            let nested = json!({ "transaction": [query], "end": end });
            let step = json!([{ "transaction": [query, nested, query, nested, nested], "end": "commit" }]);
            trial.all_done(step.clone()).await;
            // But for the portal of the statement before.
            let seen: Vec<String> = flushes(&proxy, &trial, step).await;
            let seen: Vec<&str> = seen.iter().map(|flush| flush.trim_start_matches('C')).collect();
            let nested = ["PBES", "BES", "PBES"];
            let again = ["PBEPBES", "BES", "PBES"];
            let expected = [&["PBEBES"][..], &nested, &["PBEBES"], &nested, &again, &["PBES"]].concat();
            assert_eq!(seen, expected, "{end}");
        }
        let fails = json!({ "query": "select 1 / 0" });
        let nested = json!({ "transaction": [fails], "end": "drop" });
        let step = json!([{ "transaction": [query, nested, { "batch": "select 1" }, nested], "end": "commit" }]);
        let results = trial.value(json!({ "steps": step })).await;
        assert!(results[0]["end"].is_null() && results[0]["steps"][2].is_null(), "{results}");
    }

    async fn a_cursors_first_rows_come_with_the_call(door) {
        let (_database, proxy, trial) = trial(door, "\"serial\"").await;
        let few = json!({ "query": "select generate_series(1, 3)" });
        let many = json!({ "query": "select generate_series(1, 1200)" });
        trial.all_done(json!([few, many])).await;
        for (query, most) in [(few, 2), (many.clone(), 5)] {
            let step = json!([{ "transaction": [query], "end": "commit" }]);
            trial.all_done(step.clone()).await;
            let seen = flushes(&proxy, &trial, step).await;
            assert_eq!(seen[0], "PBEBES");
            assert!(seen.len() <= most, "{seen:?}");
        }
        assert_eq!(flushes(&proxy, &trial, json!([many])).await, ["BES"]);
    }

    async fn a_pipeline_is_one_flush(door) {
        let (database, proxy, trial) = trial(door, "\"serial\"").await;
        let insert = |id: u32| json!(["insert into things values ($1, $2)", [id, "a thing"]]);
        let select = json!([SELECT, [1]]);
        let pipeline = json!([{ "pipeline": [insert(2), select, insert(3), ["select 1", []]] }]);
        trial.all_done(pipeline.clone()).await;
        assert_eq!(flushes(&proxy, &trial, pipeline).await, ["BEBEBEBES"]);
        let insert = |id: u32| json!(["insert into things values ($1, $2 || '!')", [[id, "int4"], ["x", "text"]]]);
        let typed = json!([{ "typed_pipeline": [insert(4), ["select 2", []], insert(5)] }]);
        assert_eq!(flushes(&proxy, &trial, typed.clone()).await, ["PDBEPDBEBES"]);
        assert_eq!(flushes(&proxy, &trial, typed.clone()).await, ["BEBEBES"]);
        let within = json!([{ "transaction": typed, "end": "commit" }]);
        trial.all_done(within.clone()).await;
        assert_eq!(flushes(&proxy, &trial, within).await, ["PBEBEBEBES", "PBES"]);
        assert_eq!(database.count("things where id > 1").await, 12);
    }

    async fn a_pipeline_asks_for_all_that_it_has_to_know_at_once(door) {
        let (_database, proxy, trial) = trial(door, "\"serial\"").await;
        let insert = |id: u32| json!(["insert into things values ($1, $2 || '?')", [id, "a thing"]]);
        let pipeline = json!([{ "pipeline": [insert(2), ["select 1", []], [SELECT, [1]], insert(3)] }]);
        assert_eq!(flushes(&proxy, &trial, pipeline.clone()).await, ["PDPDS", "BEPDBEBEBES"]);
        assert_eq!(flushes(&proxy, &trial, pipeline).await, ["BEBEBEBES"]);
        let wrong = json!([{ "pipeline": [["select $1::int8", [1]], [SELECT, [1]], ["select $1 from nowhere", [1]]] }]);
        let results = trial.value(json!({ "steps": wrong })).await;
        assert_eq!(
            results[0]["error"]["message"],
            "statement 3 of the pipeline: relation \"nowhere\" does not exist (SQLSTATE 42P01, at character 16)"
        );
    }

    /// What was read with fewer columns, or taken as another type, is encoded anew and sent again.
    async fn a_pipeline_whose_statements_have_changed_is_sent_anew(door) {
        let (database, _proxy, trial) = trial(door, "\"serial\"").await;
        let insert = |id: u32| json!(["insert into things (id) values ($1) returning *", [id]]);
        let pipeline = json!([{ "pipeline": [insert(7), [SELECT, [7]], insert(8)] }]);
        for change in ["add column a int", "add column b int", "alter column id type int8"] {
            trial.all_done(pipeline.clone()).await;
            database.run(&format!("delete from things where id > 1; alter table things {change}")).await;
            trial.all_done(pipeline.clone()).await;
            let count = database.value("select count(*) from things where id > 1").await;
            assert_eq!(count.as_deref(), Some("2"), "{change}");
        }
    }

    /// As the first of a transaction it is done again; later one transaction fails, and none after it.
    async fn a_pipeline_in_a_transaction_gets_over_statements_that_have_changed(door) {
        let (database, _proxy, trial) = trial(door, "\"serial\"").await;
        let insert = |id: u32| json!(["insert into things (id) values ($1) returning *", [id]]);
        let pipeline = json!({ "pipeline": [insert(7), [SELECT, [7]], insert(8)] });
        let first = json!([{ "transaction": [pipeline], "end": "commit" }]);
        let later = json!([{ "transaction": [{ "query": "select 1" }, pipeline], "end": "commit" }]);
        trial.all_done(first.clone()).await;
        database.run("delete from things where id > 1; alter table things add column a int").await;
        trial.all_done(first).await;
        let count = "select count(*) from things where id > 1";
        assert_eq!(database.value(count).await.as_deref(), Some("2"));
        database.run("delete from things where id > 1; alter table things add column b int").await;
        let failed = trial.value(json!({ "steps": later })).await;
        assert_eq!(failed[0]["steps"][1]["error"]["code"], "0A000", "{failed}");
        trial.all_done(later).await;
        assert_eq!(database.value(count).await.as_deref(), Some("2"));
    }

    /// A savepoint goes before it in the same flush: it may turn out to need another form.
    async fn a_first_query_within_a_transaction_is_one_flush_too(door) {
        let (database, proxy, trial) = trial(door, "\"serial\"").await;
        let first = json!({ "query": "select 1" });
        let typed = json!({ "typed": SELECT, "values": [[1, "int4"]] });
        let insert = json!({ "execute": "insert into things (id) values (7)" });
        let batch = json!({ "batch": "update things set id = id" });
        let end = json!([{ "transaction": [first], "end": "commit" }]);
        trial.all_done(end.clone()).await;
        trial.all_done(end).await;
        let all = json!([{ "transaction": [first, typed, typed, insert, batch, typed], "end": "commit" }]);
        assert_eq!(
            flushes(&proxy, &trial, all.clone()).await,
            ["PBEBES", "CPBEPDBES", "CPBEBES", "CPBEPDBES", "PBES", "Q", "BES", "CPBES"]
        );
        assert_eq!(flushes(&proxy, &trial, all).await, ["PBEBES", "CBES", "CBES", "CBES", "Q", "BES", "CPBES"]);
        // It has no binary form, which nobody knows beforehand.
        let text = json!({ "typed": "select 'pg_monitor=r/pg_monitor'::aclitem, $1", "values": [[1, "int4"]] });
        let insert = json!({ "typed": "insert into things values ($1, $2)", "values": [[8, "int4"], ["a", "text"]] });
        let fails = json!({ "typed": "insert into things values ($1, 1 / 0)", "values": [[9, "int4"]] });
        let pipeline = json!({ "typed_pipeline": [
            ["insert into things values ($1, 'b')", [[10, "int4"]]],
            ["select 'pg_monitor=w/pg_monitor'::aclitem", []],
        ] });
        let todo = json!([{ "transaction": [first, insert, text, insert, pipeline], "end": "commit" }]);
        let results = trial.all_done(todo).await;
        assert_eq!(results[0]["steps"][2]["rows"], json!([["pg_monitor=r/pg_monitor", 1]]), "{results}");
        let count = "select count(*) from things where id > 7";
        assert_eq!(database.value(count).await.as_deref(), Some("3"));
        let todo = json!([{ "transaction": [first, fails, first], "end": "commit" }]);
        let results = trial.value(json!({ "steps": todo })).await;
        assert_eq!(results[0]["steps"][1]["error"]["code"], "22012", "{results}");
        assert_eq!(results[0]["steps"][2]["error"]["code"], "25P02", "{results}");
        assert!(!results[0]["end"].is_null(), "{results}");
        assert_eq!(database.value(count).await.as_deref(), Some("3"));
    }

    async fn a_first_statement_without_rows_within_a_transaction_is_one_flush(door) {
        let (_database, proxy, trial) = trial(door, "\"serial\"").await;
        let all = ["select 1", "create table others (id int4)", "savepoint s", "drop table others", "rollback to s",
            "set local work_mem = '1MB'", "lock things"].map(|sql| json!({ "execute": sql }));
        let todo = json!([{ "transaction": all, "end": "rollback" }]);
        let flushes = flushes(&proxy, &trial, todo).await;
        assert_eq!(flushes.len(), 1 + all.len(), "{flushes:?}");
    }

    /// The host knows the statements, this connection of its does not.
    async fn a_pipeline_of_statements_that_a_connection_lacks_is_one_flush(door) {
        let (database, proxy, trial) = trial(door, "\"serial\"").await;
        let pipeline = json!([{ "pipeline": [[SELECT, [1]], ["select 'fine'::mood", []], [SELECT, [2]]] }]);
        trial.all_done(pipeline.clone()).await;
        assert_eq!(database.end_sessions().await, 1);
        trial.all_done(json!([{ "query": "select 0" }])).await;
        assert_eq!(flushes(&proxy, &trial, pipeline).await, ["PDBEPDBEBES"]);
    }

    async fn a_batch_is_one_flush(door) {
        let (_database, proxy, trial) = trial(door, "\"serial\"").await;
        let batch = json!([{ "batch": "update things set id = id; select 1" }]);
        assert_eq!(flushes(&proxy, &trial, batch.clone()).await, ["Q"]);
        let within = json!([{ "transaction": batch, "end": "commit" }]);
        assert_eq!(flushes(&proxy, &trial, within).await.last().map(String::as_str), Some("PBES"));
    }

    /// It is no news that who may only read cannot write.
    async fn a_write_that_was_not_allowed_makes_no_connection_doubted(door) {
        let database = Database::with("create table things (id int)").await;
        let proxy = Proxy::of(&database);
        let trial = Setup::of(&QUERY)
            .through(&proxy)
            .database("pool_max", "1")
            .toml("[function.tested.database.default]\nread_only = true\n")
            .start(door)
            .await;
        let look = json!([{ "query": "select 1" }]);
        trial.all_done(look.clone()).await;
        let usual = flushes(&proxy, &trial, look.clone()).await;
        let refused = trial.value(json!({ "steps": [{ "execute": "insert into things values (1)" }] })).await;
        assert_eq!(refused[0]["error"]["code"], "25006", "{refused}");
        // It takes along that the refused statement is to be forgotten.
        let after = flushes(&proxy, &trial, look).await;
        assert_eq!(after.len(), usual.len(), "{after:?}");
    }

    async fn too_few_arguments_are_an_error_that_fails_nothing(door) {
        let (_database, _proxy, trial) = trial(door, "\"serial\"").await;
        let wrong = json!({ "typed": "select $1 || $2::text", "values": [["a", "text"]] });
        let transaction = json!({ "transaction": [wrong, { "query": "select 1" }], "end": "commit" });
        let results = trial.value(json!({ "steps": [wrong, transaction] })).await;
        let message = "the statement takes 2 parameters, and 1 is given";
        assert!(results[0]["error"]["message"].as_str().unwrap().contains(message), "{results}");
        assert!(results[1]["steps"][0].to_string().contains(message), "{results}");
        assert_eq!(results[1]["steps"][1]["rows"], json!([[1]]), "{results}");
        assert!(results[1]["end"].is_null(), "{results}");
    }

    /// The server counts them in 16 bits, also where it says what they are.
    async fn too_many_parameters_are_an_error_that_fails_nothing(door) {
        let (_database, proxy, trial) = trial(door, "\"serial\"").await;
        let numbers: Vec<String> = (1..=70_000).map(|number| format!("${number}")).collect();
        let sql = format!("select name from things where id in ({})", numbers.join(","));
        let arguments = vec![0; numbers.len()];
        for (wrong, is_sent) in [
            (json!({ "query": sql, "arguments": arguments }), false),
            (json!({ "execute": sql, "arguments": arguments }), false),
            (json!({ "pipeline": [["select 1", []], [sql, arguments]] }), false),
            (json!({ "describe": sql }), true),
        ] {
            proxy.forget();
            let pid = json!({ "query": "select pg_backend_pid()" });
            let transaction = json!({ "transaction": [pid, wrong, pid], "end": "commit" });
            let results = trial.value(json!({ "steps": [transaction] })).await;
            let told = results[0]["steps"][1]["error"]["message"].to_string();
            assert!(told.contains("70000 parameters") && told.contains("65535"), "{told}");
            assert!(results[0]["end"].is_null(), "{told}");
            assert_eq!(results[0]["steps"][0], results[0]["steps"][2], "{told}");
            let was_sent = proxy.statements().iter().any(|(_, text)| *text == sql);
            assert_eq!(was_sent, is_sent, "{told}");
        }
        let results = trial.value(json!({ "steps": [{ "query": sql }, { "query": "select 1" }] })).await;
        assert!(results[0]["error"]["message"].is_string(), "it has no arguments");
        assert_eq!(results[1]["rows"], json!([[1]]));
    }
}

/// What a role and settings cost: nothing but bytes.
#[tokio::test]
async fn permissions_travel_in_the_same_flush() {
    let database = Database::with(SCHEMA).await;
    let proxy = Proxy::of(&database);
    let trial = Setup::of(&QUERY)
        .through(&proxy)
        .database("pool_max", "1")
        .toml("[function.tested.database.default]\nread_only = true\nsettings = { \"app.a\" = \"b\" }\n")
        .start(Door::Local)
        .await;
    let query = json!({ "query": SELECT, "arguments": [1] });
    let transaction = json!({ "transaction": [query], "end": "commit" });
    trial.all_done(json!([query, transaction])).await;
    assert_eq!(flushes(&proxy, &trial, json!([query])).await, ["PBEBES"]);
    assert_eq!(
        flushes(&proxy, &trial, json!([transaction])).await,
        ["PBEPBEBES", "CPBES"]
    );
    // The settings are a query, after which a transaction takes no isolation level any more.
    let level = json!({ "transaction": [
        { "batch": "set transaction isolation level serializable" },
        { "query": "select current_setting('transaction_isolation'), current_setting('app.a')" },
    ], "end": "commit" });
    let results = trial.all_done(json!([level])).await;
    assert_eq!(
        results[0]["steps"][1]["rows"],
        json!([["serializable", "b"]])
    );
}
