//! A session: a connection that a function holds for as long as it likes, with all that it leaves there meanwhile.

use e2e::guests::{PROGRAM, QUERY};
use e2e::steps::message;
use e2e::{Database, Door, Setup, Trial};
use serde_json::{Value, json};

const SCHEMA: &str = "create table things (id int4 primary key, name text)";

async fn trial(door: Door) -> (Database, Trial) {
    let database = Database::with(SCHEMA).await;
    let trial = Setup::of(&QUERY)
        .with(&database)
        .database("pool_max", "3")
        .start(door)
        .await;
    (database, trial)
}

fn insert(id: u32) -> Value {
    json!({ "execute": format!("insert into things (id) values ({id})") })
}

/// The numbers that are in the table, in their order.
async fn ids(database: &Database) -> Option<String> {
    let ids = "select coalesce(string_agg(id::text, ' ' order by id), '') from things";
    database.value(ids).await
}

const PID: &str = "select pg_backend_pid()";

/// Those of this database alone: others of the cluster have locks of their own.
const LOCKS: &str = "select count(*) from pg_locks where locktype = 'advisory'
                     and database = (select oid from pg_database where datname = current_database())";

behind_both_doors! {
    /// Not only soon after, as if it had been dropped; also where its connection cannot be used again.
    async fn what_a_session_held_is_free_as_soon_as_it_is_closed(door) {
        let (_database, trial) = trial(door).await;
        for last in ["select 1", "begin", "load 'plpgsql'", "rollback to nothing"] {
            for _ in 0..5 {
                let steps = json!([
                    { "session": [{ "query": "select pg_advisory_lock(4711)::text" }, { "batch": last }], "close_after_ms": 0 },
                    { "query": LOCKS },
                ]);
                let results = trial.results(steps).await;
                assert_eq!(results[0].as_array().map(Vec::len), Some(2), "{results}");
                assert_eq!(results[1]["rows"], json!([[0]]), "{last}: {results}");
            }
        }
        let lost = json!([{ "session": [{ "batch": "set idle_session_timeout = '20ms'" }], "close_after_ms": 500 }]);
        assert!(message(&trial.results(lost).await[0]).contains("connection to the database was lost"));
        assert_eq!(trial.results(json!([{ "query": "select 1" }])).await[0]["rows"], json!([[1]]));
    }

    async fn a_session_keeps_its_connection_and_loses_what_it_left_there(door) {
        let (database, trial) = trial(door).await;
        let steps = json!([
            { "session": [
                { "query": PID },
                { "batch": "set work_mem to '12345kB'; create temporary table mine (id int4)" },
                { "query": "select current_setting('work_mem'), to_regclass('pg_temp.mine') is not null" },
                { "query": "select pg_advisory_lock(4711)::text" },
                { "query": PID },
            ] },
            { "query": "select current_setting('work_mem'), to_regclass('pg_temp.mine') is not null" },
        ]);
        for _ in 0..3 {
            let results = trial.results(steps.clone()).await;
            let inside = results[0].as_array().expect("steps have results");
            assert_eq!(inside[0]["rows"], inside[4]["rows"]);
            assert_eq!(inside[2]["rows"], json!([["12345kB", true]]));
            assert_eq!(results[1]["rows"], json!([["4MB", false]]));
        }
        e2e::eventually("the lock is released", async || {
            (database.value(LOCKS).await.as_deref() == Some("0")).then_some(())
        }).await;
    }

    async fn a_transaction_on_a_session_ends_and_the_session_goes_on(door) {
        let (database, trial) = trial(door).await;
        let within = |number: u32, end: &str| {
            let steps = json!([insert(number), { "query": "show work_mem" }]);
            json!({ "transaction": steps, "end": end })
        };
        let results = trial.results(json!([{ "session": [
            { "batch": "set work_mem to '12345kB'" },
            within(1, "rollback"), within(2, "drop"), within(3, "commit"),
            { "query": "select current_setting('work_mem'), now() = statement_timestamp()" },
            insert(4), within(5, "drop"),
        ] }])).await;
        for transaction in &results[0].as_array().expect("steps have results")[1..4] {
            assert_eq!(transaction["steps"][1]["rows"], json!([["12345kB"]]), "{transaction}");
            assert_eq!(transaction["end"], Value::Null, "{transaction}");
        }
        assert_eq!(results[0][4]["rows"][0][0], "12345kB", "{results}");
        assert_eq!(ids(&database).await.as_deref(), Some("3 4"));
    }

    async fn one_transaction_is_open_on_a_session_at_a_time(door) {
        let (database, trial) = trial(door).await;
        let results = trial.results(json!([{ "session": [
            { "transaction": [insert(1)], "end": "forget" },
            { "transaction": [insert(2)], "end": "commit" },
            { "batch": "rollback" },
            { "transaction": [insert(3)], "end": "commit" },
        ] }])).await;
        assert!(message(&results[0][1]).contains("is open on this connection already"), "{results}");
        assert_eq!(ids(&database).await.as_deref(), Some("3"));
    }

    /// The host ends what was given up on it, for longer than the guest holds it.
    async fn a_session_that_is_dropped_while_the_host_tidies_it_is_given_back(door) {
        let database = Database::with("
            create table written (key bigint);
            create function reluctant() returns void language plpgsql as
                $$ begin perform pg_sleep(600); exception when query_canceled then perform pg_sleep(0.5); raise; end $$;
        ").await;
        let trial = Setup::of(&PROGRAM).with(&database).database("pool_max", "1").start(door).await;
        let slow = json!({ "do": "query", "sql": "select reluctant()", "rows": "all" });
        let steps = json!([{ "do": "hurry", "millis": 200, "step": slow }, { "do": "sleep", "millis": 100 }]);
        let session = json!({ "do": "session", "steps": steps, "end": "drop" });
        let steps = json!([session, { "do": "write", "key": 5 }]);
        trial.value(json!({ "program": { "steps": steps, "fails": false } })).await;
        assert_eq!(database.count("written").await, 1);
    }
}
