//! What a function gives up, or loses, takes nothing else with it, and nothing runs somewhere else
//! without a word.

use e2e::guests::{MISBEHAVE, PROGRAM, QUERY};
use e2e::proxy::RELEASED;
use e2e::steps::message;
use e2e::{Database, Door, Harm, Proxy, Setup, Trial, eventually};
use serde_json::{Value, json};

const SCHEMA: &str = "create table things (number int4)";

/// Longer than any test.
const SLEEP: &str = "select pg_sleep(600)";

/// Ends all other connections to the database.
const KILL: &str = "select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid()";

async fn trial(door: Door) -> (Database, Trial) {
    let database = Database::with(SCHEMA).await;
    let trial = Setup::of(&QUERY)
        .with(&database)
        .database("pool_max", "2")
        .start(door)
        .await;
    (database, trial)
}

async fn numbers(database: &Database) -> Option<String> {
    database
        .value("select coalesce(string_agg(number::text, ' '), '') from things")
        .await
}

fn insert(number: u32) -> Value {
    json!({ "execute": format!("insert into things values ({number})") })
}

behind_both_doors! {
    async fn a_call_that_is_dropped_in_a_transaction_by_text_fails_that(door) {
        let (database, trial) = trial(door).await;
        let results = trial.results(json!([
            { "batch": "begin" }, insert(1), { "abandon": SLEEP, "after_ms": 200 }, insert(2), { "batch": "rollback" }, insert(3),
        ])).await;
        assert_eq!(results[3]["error"]["code"], "25P02", "{results}");
        assert_eq!(results[5], json!({ "affected": 1 }), "{results}");
        assert_eq!(numbers(&database).await.as_deref(), Some("3"));
    }

    /// Its portal is closed on the server.
    async fn rows_that_are_dropped_while_they_wait_for_their_turn_are_given_up(door) {
        let (_database, trial) = trial(door).await;
        let rows = "select n, repeat('x', 1000) from generate_series(1, 5000) n";
        let open = "select count(*)::text from pg_cursors where statement like '%(1, 5000)%' and statement not like '%pg_cursors%'";
        let results = trial.results(json!([{ "transaction": [
            { "overtaken": rows, "by": "select pg_sleep(1)", "given_up_ms": 200 }, { "query": open },
        ], "end": "commit" }])).await;
        assert_eq!(results[0]["steps"][0], json!({ "affected": 1 }), "{results}");
        assert_eq!(results[0]["steps"][1]["rows"], json!([["0"]]), "{results}");
    }

    async fn a_commit_after_a_dropped_call_commits_nothing(door) {
        let (database, trial) = trial(door).await;
        let steps = json!([{ "batch": "begin" }, insert(1), { "abandon": SLEEP, "after_ms": 200 }, { "batch": "commit" }, insert(2)]);
        trial.results(steps).await;
        assert_eq!(numbers(&database).await.as_deref(), Some("2"));
    }

    /// Which takes as long as the catalog is locked.
    async fn a_call_that_is_dropped_while_its_types_are_looked_up_leaves_nothing_prepared(door) {
        let database = Database::with("create type mood as enum ('fine'); create table moods (m mood)").await;
        let trial = Setup::of(&QUERY).with(&database).database("pool_max", "1").start(door).await;
        let gate = database.client().await;
        gate.batch_execute("begin; lock table pg_catalog.pg_range").await.unwrap();
        let left = "select count(*) from pg_prepared_statements where statement = 'select m from moods'";
        let steps = json!([{ "abandon": "select m from moods", "after_ms": 500 }, { "query": left }]);
        let results = trial.results(steps).await;
        assert_eq!(results[1]["rows"], json!([[0]]), "{results}");
    }

    async fn a_dropped_call_leaves_settings_where_they_are(door) {
        let (_database, trial) = trial(door).await;
        let show = json!({ "query": "show work_mem" });
        let results = trial.results(json!([{ "batch": "set work_mem to '12345kB'" }, { "abandon": SLEEP, "after_ms": 200 }, show])).await;
        assert_eq!(results[2]["rows"], json!([["12345kB"]]));
    }

    /// It dies while nobody looks, so that the next call is the first to learn of it.
    async fn a_transaction_by_text_whose_connection_is_lost_is_not_gone_on_with_elsewhere(door) {
        let (database, trial) = trial(door).await;
        let results = trial.results(json!([
            { "batch": "begin" }, insert(1), { "session": [{ "query": KILL }] }, insert(2), insert(3),
            { "batch": "rollback to here" }, { "batch": "rollback" }, insert(4),
        ])).await;
        assert_eq!(results[2][0]["rows"], json!([[1]]), "{results}");
        for result in &results[3..6] {
            assert!(message(result).contains("lost"), "{results}");
        }
        assert_eq!(results[7], json!({ "affected": 1 }), "{results}");
        assert_eq!(numbers(&database).await.as_deref(), Some("4"));
    }

    /// Each text that ends it, or begins anew, as soon as the guest has heard of the loss.
    async fn a_lost_transaction_by_text_is_over_when_it_is_ended_or_begun_anew(door) {
        let (database, trial) = trial(door).await;
        let lost = |end: &str| json!([
            { "batch": "begin" }, insert(1), { "session": [{ "query": KILL }] }, insert(2), { "batch": end }, insert(3), { "batch": "commit" },
        ]);
        for (end, is_told) in [("begin", false), ("start transaction", false), ("rollback", false), ("commit", true), ("end; begin", true)] {
            let results = trial.results(lost(end)).await;
            assert!(message(&results[3]).contains("lost"), "{end}: {results}");
            assert_eq!(results[4].to_string().contains("lost"), is_told, "{end}: {results}");
            assert_eq!(results[5], json!({ "affected": 1 }), "{end}: {results}");
            assert_eq!(numbers(&database).await.as_deref(), Some("3"), "{end}");
            database.client().await.batch_execute("truncate things").await.unwrap();
        }
    }

    async fn a_transaction_that_its_own_text_has_ended_is_over(door) {
        let (database, trial) = trial(door).await;
        for (text, left) in [("rollback", ""), ("commit", "1")] {
            let steps = json!([insert(1), { "batch": text }, insert(2)]);
            let results = trial.results(json!([{ "transaction": steps, "end": "commit" }])).await;
            assert!(message(&results[0]["steps"][2]).contains("ended"), "{results}");
            assert!(message(&results[0]["end"]).contains("ended"), "{results}");
            assert_eq!(numbers(&database).await.as_deref(), Some(left), "{text}");
        }
    }

    /// It is dropped beside that, too.
    async fn a_transaction_that_its_own_text_has_ended_is_not_the_next_one(door) {
        let database = Database::with("create table things (name text)").await;
        let trial = Setup::of(&MISBEHAVE).with(&database).start(door).await;
        let ended = &trial.value(json!({ "act": "begin_another" })).await["act"];
        for at in 0..2 {
            assert!(ended[at].to_string().contains("Ended"), "{ended}");
        }
        assert_eq!(database.count("things").await, 2);
    }

    /// The one that began with less time, and those that come back to a savepoint, have all of it.
    async fn a_call_with_less_time_takes_none_from_those_after_it(door) {
        let (_database, trial) = trial(door).await;
        let slow = json!({ "query": "select pg_sleep(0.2)::text" });
        let results = trial.results(json!([
            { "timeout_ms": 100, "hurried": [{ "execute": "begin" }, { "execute": "savepoint here" }] },
            slow, { "batch": "rollback to here" }, slow,
        ])).await;
        for result in [&results[1], &results[3]] {
            assert_eq!(result["rows"], json!([[""]]), "{results}");
        }
    }

    /// The call that has ended the transaction was made before the host came to tidy up behind the other.
    async fn a_connection_that_is_kept_for_nothing_any_more_is_free_for_a_transaction(door) {
        let database = Database::with(SCHEMA).await;
        let trial = Setup::of(&QUERY).with(&database).database("pool_max", "1").start(door).await;
        for other in [json!({ "transaction": [insert(1)], "end": "commit" }), json!({ "session": [insert(1)] })] {
            let given_up = json!({ "abandon": SLEEP, "after_ms": 200 });
            let results = trial.results(json!([{ "batch": "begin" }, given_up, { "batch": "rollback" }, other])).await;
            assert_eq!(results[2], Value::Null, "{results}");
            assert!(!results[3].to_string().contains("error"), "{results}");
        }
        assert_eq!(numbers(&database).await.as_deref(), Some("1 1"));
    }

    /// Of an endless result the server is told at once to give it up; of one that ends soon it knows nothing.
    async fn a_transaction_has_failed_when_a_pipeline_in_it_was_too_large(door) {
        let (database, trial) = trial(door).await;
        for rows in [9_000, 1_000_000_000] {
            let large = format!("select repeat('x', 1000) from (select generate_series(1, {rows})) many");
            let steps = json!([insert(1), { "pipeline": [[large, []]] }, insert(2)]);
            let by_text = json!([{ "batch": "begin" }, steps[0], steps[1], steps[2], { "batch": "commit" }]);
            let results = trial.results(json!([
                { "transaction": steps, "end": "commit" }, { "transaction": steps, "end": "rollback" },
                { "session": by_text }, { "batch": "begin" }, steps[0], steps[1], steps[2], { "batch": "commit" }, insert(3),
            ])).await;
            for done in [&results[0]["steps"], &results[1]["steps"], &json!(results[2].as_array().unwrap()[1..4]), &json!(results[4..7])] {
                assert!(message(&done[1]).contains("many rows without a pipeline"), "{rows}: {done}");
                assert_eq!(done[2]["error"]["code"], "25P02", "{rows}: {done}");
            }
            assert!(message(&results[0]["end"]).contains("rolled back"), "{rows}: {results}");
            assert_eq!((&results[1]["end"], &results[8]), (&Value::Null, &json!({ "affected": 1 })), "{rows}: {results}");
            database.run("delete from things where number = 3").await;
        }
        assert_eq!(numbers(&database).await.as_deref(), Some(""));
    }

    /// What it has written is not committed with the rest; of what only reads nothing is.
    async fn a_transaction_has_failed_when_a_row_of_what_it_has_written_was_too_large(door) {
        let (database, trial) = trial(door).await;
        for (sql, left) in [
            ("insert into things values (2) returning repeat('x', 9000000)", ""),
            ("insert into things values (4), (5) returning repeat('x', (number - 4) * 9000000)", ""),
            ("select repeat('x', 9000000)", "1 3"),
        ] {
            let steps = json!([insert(1), { "query": sql }, insert(3)]);
            let results = trial.results(json!([{ "transaction": steps, "end": "commit" }])).await;
            assert!(message(&results[0]["steps"][1]).contains("read a large value in pieces"), "{results}");
            assert_eq!(results[0]["end"].is_null(), !left.is_empty(), "{results}");
            assert_eq!(numbers(&database).await.as_deref(), Some(left), "{sql}");
        }
    }

    /// Also if that comes behind other rows, and the server has come to the end before it hears that nobody reads on.
    async fn a_transaction_has_failed_when_a_row_of_what_was_copied_out_was_too_large(door) {
        let database = Database::with(SCHEMA).await;
        let proxy = Proxy::of(&database);
        let trial = Setup::of(&QUERY).through(&proxy).start(door).await;
        proxy.harm(Harm::NeverCancel);
        for values in ["(9000000)", "(4), (9000000)"] {
            let copy = format!("copy (insert into things values {values} returning repeat('x', number)) to stdout");
            let steps = json!([insert(1), { "copy_out": copy }, insert(3)]);
            let results = trial.results(json!([{ "transaction": steps, "end": "commit" }])).await;
            assert!(message(&results[0]["steps"][1]).contains("read a large value in pieces"), "{results}");
            assert!(message(&results[0]["end"]).contains("rolled back"), "{results}");
            assert_eq!(numbers(&database).await.as_deref(), Some(""), "{values}");
        }
    }

    /// The rest takes longer than a connection may take to be made clean.
    async fn a_transaction_goes_on_behind_a_row_that_was_too_large(door) {
        let database = Database::with("create table written (key bigint)").await;
        let trial = Setup::of(&PROGRAM).with(&database).database("pool_max", "1").start(door).await;
        let large = "select case n when 1 then repeat('x', 9000000) else pg_sleep(2)::text end from generate_series(1, 2) n";
        let steps = json!([
            { "do": "write", "key": 1 }, { "do": "query", "sql": large, "rows": "all" },
            { "do": "sleep", "millis": 100 }, { "do": "write", "key": 2 },
        ]);
        let transaction = json!({ "do": "transaction", "steps": steps, "end": "commit" });
        trial.value(json!({ "program": { "steps": [transaction], "fails": false } })).await;
        assert_eq!(database.count("written").await, 2);
    }

    /// The server does not even look at what it is told while it waits for a lock, and nobody waits for a slow answer.
    async fn a_transaction_is_rolled_back_at_once_whatever_is_on_its_way(door) {
        let database = Database::with("
            create table written (key bigint);
            create function wait() returns trigger language plpgsql as
                $$ begin if new.key = 7 then perform pg_advisory_xact_lock(1); end if; return new; end $$;
            create trigger waits before insert on written for each row execute function wait()
        ").await;
        let _gate = database.gate().await;
        let trial = Setup::of(&PROGRAM).with(&database).database("pool_max", "1").start(door).await;
        let slow = "select case n when 9 then pg_sleep(600)::text else repeat('x', 1000000) end from generate_series(1, 9) n";
        let slow = json!({ "do": "query", "sql": slow, "rows": "half" });
        let copy = json!({ "do": "begin_to_write", "key": 7, "forget": false });
        for (given_up, end) in [(&copy, "rollback"), (&slow, "rollback"), (&slow, "drop")] {
            // The server has come to where it stops, and the host has left it there.
            let steps = json!([{ "do": "write", "key": 1 }, given_up, { "do": "sleep", "millis": 1500 }]);
            let transaction = json!({ "do": "transaction", "steps": steps, "end": end });
            let steps = json!([transaction, { "do": "write", "key": 2 }]);
            let session = json!({ "do": "session", "steps": steps, "end": "drop" });
            trial.value(json!({ "program": { "steps": [session], "fails": false } })).await;
            let written = "select string_agg(key::text, ' ') from written";
            assert_eq!(database.value(written).await.as_deref(), Some("2"), "{given_up} {end}");
            database.run("truncate written").await;
        }
    }

    /// What goes back to the host's own savepoint is done by then, and its answer on the way.
    async fn a_statement_that_is_given_up_while_it_is_prepared_anew_harms_none_after_it(door) {
        let database = Database::with(SCHEMA).await;
        let proxy = Proxy::of(&database);
        let trial = Setup::of(&QUERY).through(&proxy).start(door).await;
        proxy.harm(Harm::HoldBack(RELEASED));
        // It has no binary form, which nobody knows beforehand.
        let unknown = "select 'pg_monitor=r/pg_monitor'::aclitem";
        let given_up = json!({ "streamed": "select 1", "meanwhile": [unknown], "given_up_ms": 1000 });
        // It fails the transaction in which it was made, which is undone.
        let nested = json!({ "transaction": [given_up], "end": "rollback" });
        let steps = json!([{ "transaction": [insert(1), nested, insert(2)], "end": "commit" }]);
        let release = eventually("the host asks to give it up", async || {
            (proxy.cancellations() > 0).then(|| proxy.release())
        });
        let (results, ()) = tokio::join!(trial.results(steps), release);
        assert_eq!(results[0]["steps"][2], json!({ "affected": 1 }), "{results}");
        assert_eq!(numbers(&database).await.as_deref(), Some("1 2"));
    }
}
