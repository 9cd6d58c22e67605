//! What an invocation has left behind where its text hardly shows it.

use e2e::guests::QUERY;
use e2e::{Database, Door, Setup, Trial};
use serde_json::{Value, json};

/// With one connection, so that each invocation meets what the one before has left there.
async fn trial(door: Door, schema: &str) -> (Database, Trial) {
    let database = Database::with(schema).await;
    let trial = Setup::of(&QUERY)
        .with(&database)
        .database("pool_max", "1")
        .start(door)
        .await;
    (database, trial)
}

/// The result of one step, which is an invocation of its own.
async fn result(trial: &Trial, step: Value) -> Value {
    trial.value(json!({ "steps": [step] })).await[0].clone()
}

/// Those of this database alone: others of the cluster have locks of their own.
const LOCKS: &str = "select count(*) from pg_locks where locktype = 'advisory'
                     and database = (select oid from pg_database where datname = current_database())";

behind_both_doors! {
    async fn a_lock_that_is_taken_by_the_name_of_a_type_is_released(door) {
        let (_database, trial) = trial(door, "").await;
        let taken = result(&trial, json!({ "query": "select treat(4711::bigint as pg_advisory_lock)::text" })).await;
        assert_eq!(taken["rows"], json!([[""]]), "{taken}");
        let seen = result(&trial, json!({ "query": LOCKS })).await;
        assert_eq!(seen["rows"], json!([[0]]), "{seen}");
    }

    /// The host's own are prepared there by names that everybody can look up.
    async fn what_a_prepared_statement_does_that_another_one_executes_is_undone(door) {
        let (_database, trial) = trial(door, "").await;
        let lock = json!({ "query": "select pg_advisory_lock(4711)::text" });
        let names = "select name from pg_prepared_statements where statement like 'select pg_advisory_lock%'";
        for (begin, end) in [("explain analyze", ""), ("create table made_by_it as", "with data")] {
            result(&trial, lock.clone()).await;
            let name = result(&trial, json!({ "query": names })).await;
            let name = name["rows"][0][0].as_str().expect("it is prepared");
            let executed = result(&trial, json!({ "batch": format!("{begin} execute {name} {end}") })).await;
            assert_eq!(executed, Value::Null, "{begin}");
            let seen = result(&trial, json!({ "query": LOCKS })).await;
            assert_eq!(seen["rows"], json!([[0]]), "{begin}");
        }
    }

    /// No reset ends it.
    async fn a_backup_ends_with_the_connection_that_has_begun_it(door) {
        let (database, trial) = trial(door, "").await;
        let version = database.value("show server_version_num").await.expect("it has one");
        let begin = match version.parse::<u32>().expect("it is a number") {
            150_000.. => "select pg_backup_start('mine', true)::text",
            _ => "select pg_start_backup('mine', true, false)::text",
        };
        for _ in 0..2 {
            let begun = result(&trial, json!({ "query": begin })).await;
            assert!(begun["rows"].is_array(), "{begun}");
        }
    }

    /// Where the words could be those of a clause.
    async fn what_a_function_does_that_is_called_like_a_clause_is_undone(door) {
        let body = "(n int4) returns bool language sql as $$ select set_config('work_mem', '12345kB', false) <> '' $$";
        let schema = format!(
            "create table things (id int4 primary key); insert into things values (1);
             create function filter{body}; create function conflict{body}"
        );
        let (_database, trial) = trial(door, &schema).await;
        for sql in [
            "select distinct on (id) filter(id) from things",
            "insert into things select a.id from things a join things b on conflict(a.id) where (select true as do)
             on conflict do nothing returning true",
        ] {
            let called = result(&trial, json!({ "query": sql })).await;
            assert!(called["rows"].is_array(), "{called}");
            let seen = result(&trial, json!({ "query": "show work_mem" })).await;
            assert_eq!(seen["rows"], json!([["4MB"]]), "{sql}");
        }
    }
}
