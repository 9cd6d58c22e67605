//! What is remembered of a statement is believed until a value does not fit; then the server is asked.

use e2e::guests::{QUERY, TYPED};
use e2e::{Database, Door, Setup, Trial};
use serde_json::{Value, json};

/// More than an `int4` holds.
const LARGE: u64 = 5_000_000_000;

async fn trial(door: Door, schema: &str, isolation: &str) -> (Database, Trial) {
    let database = Database::with(schema).await;
    let setup = Setup::of(&QUERY).with(&database).isolation(isolation);
    (database, setup.start(door).await)
}

behind_both_doors! {
    /// Neither an instance that was told of it, nor one that is new, on whichever connection.
    async fn what_is_true_in_one_session_alone_misleads_nobody_for_long(door) {
        let sql = "select * from things where id = $1";
        let real = json!({ "query": sql, "arguments": [1] });
        let own = json!({ "query": sql, "arguments": ["a"] });
        let making = [
            json!({ "batch": "create temp table things (id text)" }),
            json!({ "batch": "create schema if not exists other; create table if not exists other.things (id text);
                set search_path = other, public" }),
        ];
        for (isolation, making) in ["\"fresh\"", "\"serial\""].iter().flat_map(|i| making.iter().map(move |m| (i, m))) {
            let schema = "create table things (id int4); insert into things values (1)";
            let (_database, trial) = trial(door, schema, isolation).await;
            for steps in [
                json!([{ "session": [making, own, own] }]),
                json!([making, own]),
                json!([{ "transaction": [making, own, own], "end": "rollback" }]),
            ] {
                trial.all_done(steps).await;
                for _ in 0..2 {
                    let seen = trial.all_done(json!([real, { "parallel": [real, real] }])).await;
                    assert_eq!(seen[0]["rows"], json!([[1]]), "{isolation}: {seen}");
                    assert_eq!(seen[1][1]["rows"], json!([[1]]), "{isolation}: {seen}");
                }
            }
        }
    }

    /// The old type was remembered by the instance, by the host, and by each of three connections.
    async fn a_column_that_was_widened_takes_its_new_values_at_once(door) {
        for isolation in ["\"serial\"", "\"fresh\""] {
            let schema = "create table a (n int4); create table b (n int4); create table c (n int4); create table d (n int4)";
            let (database, trial) = trial(door, schema, isolation).await;
            let insert = |table: &str, n: u64| json!([format!("insert into {table} values ($1)"), [n]]);
            let execute = |table: &str, n: u64| {
                let insert = insert(table, n);
                json!({ "execute": insert[0], "arguments": insert[1] })
            };
            let all = |n: u64| {
                let session = json!({ "session": [execute("c", n)] });
                let first = json!({ "transaction": [execute("b", n)], "end": "commit" });
                let later = json!({ "transaction": [{ "query": "select 1" }, execute("b", n)], "end": "commit" });
                let pipeline = json!({ "pipeline": [insert("d", n), insert("c", n), insert("d", n)] });
                let apart = execute("a", n);
                json!([{ "parallel": [apart, apart, apart] }, first, later, session, pipeline, { "parallel": [apart, pipeline, apart] }])
            };
            trial.all_done(all(1)).await;
            let widen = ["a", "b", "c", "d"].map(|table| format!("delete from {table}; alter table {table} alter n type int8"));
            database.run(&widen.join("; ")).await;
            trial.all_done(all(LARGE)).await;
            let count = format!("select count(*) from (table a union all table b union all table c union all table d) all_of_them where n = {LARGE}");
            assert_eq!(database.value(&count).await.as_deref(), Some("14"), "{isolation}");
        }
    }

    /// It is told as before, and nothing is executed.
    async fn a_value_that_does_not_fit_is_refused_after_the_server_was_asked(door) {
        let (database, trial) = trial(door, "create table things (n int4)", "\"serial\"").await;
        let wrong = json!({ "execute": "insert into things values ($1)", "arguments": ["a"] });
        let right = json!({ "execute": "insert into things values ($1)", "arguments": [1] });
        let transaction = json!({ "transaction": [right, wrong, right], "end": "commit" });
        let pipeline = json!({ "pipeline": [["insert into things values ($1)", [1]], ["insert into things values ($1)", ["a"]]] });
        let steps = json!([wrong, transaction, pipeline]);
        let results = trial.value(json!({ "steps": steps })).await;
        let message = "parameter $1 (`int4`): \"a\" is no int4";
        assert_eq!(results[0]["error"]["message"], message, "{results}");
        assert_eq!(results[1]["steps"][1]["error"]["message"], message, "{results}");
        assert_eq!(results[2]["error"]["message"], format!("statement 2 of the pipeline: {message}"), "{results}");
        assert_eq!(database.count("things").await, 2, "{results}");
    }

    /// The server says of such a value only that there is one.
    async fn a_value_that_is_too_long_or_too_large_is_named_as_far_as_can_be_known(door) {
        let schema = "create table things (name varchar(4), price numeric(5, 2))";
        let (database, trial) = trial(door, schema, "\"serial\"").await;
        let insert = "insert into things (name, price) values ($1, $2::numeric)";
        let plain = "insert into things (name) values ($1)";
        let long = json!({ "execute": plain, "arguments": ["too long"] });
        let large = json!({ "typed": insert, "values": [["fits", "text"], ["99999", "text"]] });
        let cast = json!({ "query": "select $1::int8::int4", "arguments": [LARGE] });
        let right = json!({ "execute": plain, "arguments": ["fits"] });
        let is_told = |result: &Value, code: &str, told: &str| {
            let message = result["error"]["message"].as_str().unwrap_or_default();
            let end = format!("(SQLSTATE {code}): the value may be that of parameter {told}");
            assert!(message.ends_with(&end), "{told}: {result}");
        };
        let steps = json!([
            long, large, cast, { "pipeline": [["select 1", []], [plain, ["too long"]]] },
            { "transaction": [long, right], "end": "rollback" },
            { "transaction": [right, { "transaction": [cast], "end": "rollback" }, right], "end": "commit" },
        ]);
        let results = trial.value(json!({ "steps": steps })).await;
        let in_column = "$1 (`varchar`, for `name`)";
        is_told(&results[0], "22001", in_column);
        is_told(&results[1], "22003", "$1 (`text`) or $2 (`text`)");
        is_told(&results[2], "22003", "$1 (`int8`)");
        is_told(&results[3], "22001", in_column);
        is_told(&results[4]["steps"][0], "22001", in_column);
        assert_eq!(results[4]["steps"][1]["error"]["code"], "25P02", "{results}");
        is_told(&results[5]["steps"][1]["steps"][0], "22003", "$1 (`int8`)");
        assert_eq!(database.count("things").await, 2, "{results}");
    }

    async fn an_enumeration_that_was_altered_meanwhile_is_read_and_written_at_once(door) {
        for isolation in ["\"serial\"", "\"fresh\""] {
            let schema = r#"
                create extension hstore; create extension citext; create extension ltree;
                create type mood as enum ('very_fine'); create domain short as varchar(4);
                create type person as (name short, "Feels" mood[], born int4);
                create type household as (owner person, others person[]);
            "#;
            let database = Database::with(schema).await;
            let trial = Setup::of(&TYPED).with(&database).isolation(isolation).start(door).await;
            let wrong = trial.value(json!(null)).await;
            assert!(wrong.to_string().contains("very_fine"), "a label is missing: {wrong}");
            database.run("alter type mood add value 'so \"so\"'").await;
            assert_eq!(trial.value(json!(null)).await, json!([]), "{isolation}");
        }
    }

    /// A statement that had to be known first is not executed; one whose types came with its rows was.
    async fn types_that_may_not_be_looked_up_are_an_error_that_says_whether_anything_was_done(door) {
        let schema = "create type mood as enum ('fine'); create table moods (m mood); grant all on moods to $app;
            revoke select on pg_catalog.pg_enum from public";
        let database = e2e::permission::database(schema).await;
        let trial = e2e::permission::start(door, &database, "role = \"$app\"").await;
        let steps = json!([
            { "query": "insert into moods values ('fine') returning m" },
            { "query": "insert into moods values ($1)", "arguments": ["fine"] },
            { "query": "select 1" },
        ]);
        let results = trial.value(json!({ "steps": steps })).await;
        let message = results[0]["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("was executed, but what its types are could not be looked up"), "{results}");
        assert_eq!(results[1]["error"]["code"], "42501", "{results}");
        assert_eq!(results[2]["rows"], json!([[1]]), "{results}");
        assert_eq!(database.count("moods").await, 1);
    }

    /// Which says nothing of the names that the host gives.
    async fn a_name_that_a_function_has_never_prepared_costs_other_statements_nothing(door) {
        let (_database, trial) = trial(door, "", "\"serial\"").await;
        let steps = json!([
            { "query": "select 17" }, { "query": "execute nothing" },
            { "query": "select count(*) from pg_prepared_statements where statement = 'select 17'" },
        ]);
        let results = trial.value(json!({ "steps": steps })).await;
        assert_eq!(results[1]["error"]["code"], "26000", "{results}");
        assert_eq!(results[2]["rows"], json!([[1]]), "{results}");
    }

    /// It has done something by then that no rollback takes back.
    async fn a_function_that_fails_as_a_forgotten_statement_does_is_called_once(door) {
        let (database, trial) = trial(
            door,
            "create sequence calls; create function fail() returns void language plpgsql as $$ begin \
             perform nextval('calls'); raise exception 'gone' using errcode = '26000'; end $$",
            "\"serial\"",
        ).await;
        let fail = json!({ "query": "select fail()" });
        for step in [fail.clone(), json!({ "transaction": [fail], "end": "commit" })] {
            let results = trial.value(json!({ "steps": [step] })).await;
            assert!(results.to_string().contains("26000"), "{results}");
        }
        assert_eq!(database.value("select last_value from calls").await.as_deref(), Some("2"));
    }
}
