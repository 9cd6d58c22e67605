//! What a function asks of PostgreSQL arrives there, and what PostgreSQL says arrives in the function.

use e2e::guests::QUERY;
use e2e::{Database, Door, Setup, Trial};
use serde_json::json;

async fn trial(door: Door, schema: &str) -> (Database, Trial) {
    let database = Database::with(schema).await;
    let trial = Setup::of(&QUERY).with(&database).start(door).await;
    (database, trial)
}

behind_both_doors! {
    /// A snapshot is exported from no subtransaction, which a savepoint of the host's own would be.
    async fn a_snapshot_is_exported_by_a_statement_that_is_not_known_yet(door) {
        let database = Database::create().await;
        let trial = Setup::of(&QUERY).with(&database).start(door).await;
        let export = json!({ "query": "select pg_export_snapshot() <> ''" });
        let steps = json!([{ "transaction": [{ "query": "select 1" }, export], "end": "commit" }]);
        let results = trial.value(json!({ "steps": steps })).await;
        assert_eq!(results[0]["steps"][1]["rows"], json!([[true]]), "{results}");
    }

    async fn values_of_many_types_go_both_ways(door) {
        let (_database, trial) = trial(door, "select 1").await;
        for (ty, value) in [
            ("bool", json!(true)),
            ("int2", json!(-32768)),
            ("int4", json!(2147483647)),
            ("int8", json!(-9223372036854775808_i64)),
            ("float4", json!(1.5)),
            ("float8", json!(-0.1)),
            ("text", json!("Grüße, \u{1F600}, '; drop table things")),
            ("varchar(40)", json!("")),
            ("jsonb", json!({ "a": [1, null, { "b": "c" }] })),
            ("json", json!([true])),
            ("bytea", json!([0, 255, 10])),
            ("int4[]", json!([1, null, 3])),
            ("text[]", json!(["a", null, ""])),
        ] {
            let step = json!({ "query": format!("select $1::{ty} as value"), "arguments": [value] });
            let result = trial.result(step).await;
            assert_eq!(result, json!({ "columns": ["value"], "rows": [[value]] }), "{ty}");
            let step = json!({ "query": format!("select $1::{ty} is null as absent"), "arguments": [null] });
            let result = trial.result(step).await;
            assert_eq!(result["rows"], json!([[true]]), "{ty}");
        }
    }

    async fn null_is_told_from_empty(door) {
        let (_database, trial) = trial(door, "select 1").await;
        let result =
            trial.result(json!({ "query": "select null::text as a, '' as b, null::int4 as c" })).await;
        assert_eq!(result, json!({ "columns": ["a", "b", "c"], "rows": [[null, "", null]] }));
    }

    async fn types_that_a_user_defines_go_both_ways(door) {
        let schema = "create type mood as enum ('fine', 'tired'); create domain short as varchar(4)";
        let (_database, trial) = trial(door, schema).await;
        let step =
            json!({ "query": "select $1::mood as mood, 'abc'::short as short", "arguments": ["tired"] });
        let result = trial.result(step).await;
        assert_eq!(result, json!({ "columns": ["mood", "short"], "rows": [["tired", "abc"]] }));
    }

    async fn execute_counts_the_rows_it_affected(door) {
        let (_database, trial) = trial(door, "create table things (id int4)").await;
        let steps = json!([
            { "execute": "insert into things select generate_series(1, 7)" },
            { "execute": "update things set id = id + 1 where id > $1", "arguments": [4] },
            { "execute": "delete from things where id = 99" },
            { "execute": "create table others (id int4)" },
        ]);
        let affected = [7, 3, 0, 0].map(|count| json!({ "affected": count }));
        assert_eq!(trial.value(json!({ "steps": steps })).await, json!(affected));
    }

    /// The rows are read away, however large each of them is.
    async fn rows_that_nobody_wants_are_counted_whatever_their_size(door) {
        let (_database, trial) = trial(door, "create table things (id int4)").await;
        for at in [1, 3] {
            let sql = format!(
                "insert into things select generate_series(1, 5)
                 returning case id when {at} then repeat('x', 9000000) end"
            );
            let step = json!({ "execute": sql });
            assert_eq!(trial.result(step).await, json!({ "affected": 5 }), "{at}");
        }
    }

    /// A role that may have one connection, and a first result of several batches with a type of its own.
    async fn types_are_looked_up_on_the_connection_that_has_the_rows(door) {
        let database = Database::create().await;
        let role = format!("{}_limited", database.name);
        database.run(&format!("
            create type mood as enum ('fine');
            create table things as select n as id, 'fine'::mood as feels, repeat('x', 700) as name
                from generate_series(1, 1000) n;
            create role {role} login connection limit 1; grant all on things to {role}
        ")).await;
        let trial = Setup::of(&QUERY)
            .url(&database.url_as(&role, None))
            .database("connect_timeout_ms", "1000")
            .database("pool_max", "1")
            .start(door)
            .await;
        let rows = |sql: &str| json!({ "query": format!("select *, '{sql}' from things") });
        let update = json!({ "execute": "update things set id = id returning *" });
        let steps = json!([
            rows("a"), { "transaction": [rows("b")], "end": "commit" }, { "session": [rows("c")] }, update,
            { "query": "select * from things a, things b where b.id < 20" }, { "query": "select 1" },
        ]);
        let results = trial.value(json!({ "steps": steps })).await;
        for result in [&results[0], &results[1]["steps"][0], &results[2][0]] {
            assert_eq!(result["rows"].as_array().map(Vec::len), Some(1000), "{result}");
        }
        assert_eq!(results[3], json!({ "affected": 1000 }), "{}", results[3]);
        let message = results[4]["error"]["message"].as_str().unwrap();
        assert!(message.contains("executed") && message.contains("could not be looked up"), "{message}");
        assert_eq!(results[5]["rows"], json!([[1]]), "{}", results[5]);
        // Where that was tried is for the log alone.
        let place = "cannot log in to the database: /";
        assert!(!message.contains(place), "{message}");
        e2e::eventually(place, async || (trial.host.lines(place) > 0).then_some(())).await;
    }

    async fn an_error_of_the_server_arrives_with_its_sqlstate(door) {
        let schema =
            "create table things (id int4 constraint only_once unique, parent int4 references things (id))";
        let (_database, trial) = trial(door, schema).await;
        for (sql, code) in [
            ("select * from nowhere", "42P01"),
            ("select", "42601"),
            ("select 1 / 0", "22012"),
            ("insert into things values (1), (1)", "23505"),
            ("insert into things values (2, 3)", "23503"),
            ("select 'x'::int4", "22P02"),
        ] {
            for step in [json!({ "query": sql }), json!({ "execute": sql }), json!({ "batch": sql })] {
                // `select` alone is a query without columns.
                if sql != "select" {
                    assert_eq!(trial.result(step).await["error"]["code"], code, "{sql}");
                }
            }
        }
        let result = trial.result(json!({ "execute": "insert into things values (1), (1)" })).await;
        assert_eq!(result["error"]["constraint"], "only_once");
        assert!(result["error"]["message"].as_str().unwrap().contains("only_once"), "{result}");
    }

    async fn a_copy_where_none_was_asked_for_harms_no_transaction(door) {
        let (database, trial) = trial(door, "create table noted (id int4)").await;
        let insert = "insert into noted values (1)";
        let steps = json!([
            { "execute": insert },
            { "query": "copy noted from stdin" },
            { "execute": "/* out */ COPY noted TO STDOUT" },
            { "pipeline": [[insert, []], ["copy noted from stdin", []]] },
            { "execute": insert },
        ]);
        let result = trial.result(json!({ "transaction": steps, "end": "commit" })).await;
        for step in [1, 2, 3] {
            let message = result["steps"][step]["error"]["message"].as_str().unwrap_or_default();
            assert!(message.contains("use copy-in or copy-out"), "{result}");
        }
        assert!(result["end"].is_null(), "{result}");
        assert_eq!(database.count("noted").await, 2);
    }

    async fn what_a_server_says_at_length_is_told_in_part(door) {
        let database = Database::create().await;
        let trial = Setup::of(&QUERY).with(&database).database("pool_max", "1").start(door).await;
        let pid = json!({ "query": "select pg_backend_pid()" });
        let before = trial.result(pid.clone()).await;
        for level in ["notice", "exception"] {
            let say = format!("do $$ begin raise {level} '%', repeat('x', 9 << 20); end $$");
            let said = trial.result(json!({ "execute": say })).await;
            let message = said["error"]["message"].as_str().unwrap_or_default();
            assert_eq!((level == "exception").then_some("P0001"), said["error"]["code"].as_str(), "{level}");
            assert!(level == "notice" || (message.contains("xxx") && message.len() > 60_000));
            assert_eq!(trial.result(pid.clone()).await, before, "after a {level}");
        }
    }

    /// It is executed whole, though all but two rows are of no use.
    async fn a_query_for_one_row_that_finds_many_takes_effect(door) {
        let (database, trial) = trial(door, "create table noted (id int4, text text)").await;
        let insert = "insert into noted select g, repeat('x', 1000) from generate_series(1, 3000) g returning *";
        let found = trial.result(json!({ "only": insert })).await;
        assert!(found["error"]["message"].as_str().unwrap_or_default().contains("row"), "{found}");
        assert_eq!(database.count("noted").await, 3000);
    }

    async fn an_argument_whose_type_is_left_open_by_name_is_the_servers_to_choose(door) {
        let (_database, trial) = trial(door, "select 1").await;
        let step = json!({ "typed": "select $1::int4 + $2", "values": [[40, "unknown"], [2, "int4"]] });
        assert_eq!(trial.result(step).await["rows"], json!([[42]]));
    }

    async fn an_argument_that_the_server_does_not_take_is_named(door) {
        let schema = "create type mood as enum ('fine'); create domain word as text check (value <> 'bad');
            create table things (id int4 not null, word word, mood mood)";
        let (_database, trial) = trial(door, schema).await;
        let insert = "insert into things (id, word, mood) values ($1, $2, $3)";
        for (arguments, expected) in [
            (json!([1, "bad", null]), "parameter $2: value for domain word violates check constraint \"word_check\""),
            (json!([1, "good", "sad"]), "parameter $3: invalid input value for enum mood: \"sad\""),
            (json!([1, "a\0b", null]), "parameter $2: invalid byte sequence for encoding \"UTF8\": 0x00"),
            (json!([null, "a", null]), "null value in column \"id\" of relation \"things\" violates not-null constraint"),
        ] {
            let result = trial.result(json!({ "execute": insert, "arguments": arguments })).await;
            let message = result["error"]["message"].as_str().unwrap_or_default();
            assert!(message.starts_with(expected), "{result}");
        }
    }

    async fn arguments_that_do_not_fit_are_told_apart(door) {
        let (_database, trial) = trial(door, "select 1").await;
        for arguments in [json!([]), json!([1, 2]), json!(["text"])] {
            let result = trial.result(json!({ "query": "select $1::int4", "arguments": arguments })).await;
            assert!(result["error"]["message"].is_string(), "{arguments}: {result}");
        }
        assert_eq!(trial.result(json!({ "query": "select 'fine'" })).await["rows"], json!([["fine"]]));
    }

    async fn a_result_of_many_batches_is_whole_and_in_order(door) {
        let (_database, trial) = trial(door, "select 1").await;
        let sql = "select n, repeat('x', 50) from generate_series(1, 40000) as n";
        let result = trial.result(json!({ "query": sql })).await;
        let rows = result["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 40_000);
        assert!(rows.iter().enumerate().all(|(index, row)| row[0] == index + 1));
    }

    async fn a_single_large_value_arrives(door) {
        let (_database, trial) = trial(door, "select 1").await;
        let result = trial.result(json!({ "query": "select repeat('x', 3 * 1024 * 1024)" })).await;
        assert_eq!(result["rows"][0][0].as_str().unwrap().len(), 3 * 1024 * 1024);
    }

    async fn a_transaction_commits_or_does_not(door) {
        let (database, trial) = trial(door, "create table things (name text)").await;
        for (end, count) in [("rollback", 0), ("drop", 0), ("commit", 1)] {
            let steps = json!([{ "execute": "insert into things values ('x')" }, { "query": "select count(*) from things" }]);
            let result = trial.result(json!({ "transaction": steps, "end": end })).await;
            assert_eq!(result["steps"][1]["rows"], json!([[1]]), "{end}");
            assert_eq!(database.count("things").await, count, "{end}");
        }
    }

    async fn a_commit_of_a_failed_transaction_says_so(door) {
        let (_database, trial) = trial(door, "create table things (name text)").await;
        let steps = json!([{ "query": "select 1 / 0" }, { "query": "select 1" }]);
        let result = trial.result(json!({ "transaction": steps, "end": "commit" })).await;
        assert_eq!(result["steps"][0]["error"]["code"], "22012");
        let said = "a statement of the transaction had failed, so it was rolled back: division by zero (SQLSTATE 22012)";
        assert_eq!(result["end"]["error"]["message"], said, "{result}");
    }

    /// More statements than a connection keeps.
    async fn many_different_statements_keep_few_prepared(door) {
        let database = Database::create().await;
        let trial = Setup::of(&QUERY).with(&database).database("statements_max", "4").start(door).await;
        for n in 0..20 {
            let result = trial.result(json!({ "query": format!("select {n}") })).await;
            assert_eq!(result["rows"], json!([[n]]));
        }
        let prepared =
            trial.result(json!({ "query": "select count(*) from pg_prepared_statements" })).await;
        assert!(prepared["rows"][0][0].as_i64().unwrap() <= 5, "{prepared}");
    }

    async fn a_database_that_is_not_the_functions_is_refused(door) {
        let database = Database::create().await;
        let trial = Setup::of(&QUERY).with(&database).function("databases", "[]").start(door).await;
        for name in ["default", "other"] {
            let (_, message) = trial.error(json!({ "database": name, "steps": [] })).await;
            assert!(message.contains("may use no database") && message.contains(name), "{message}");
        }
    }
}
