//! What an invocation leaves in a session is gone with it also where the text of its statements hardly shows that
//! they leave anything.

use e2e::guests::QUERY;
use e2e::{Database, Door, Setup, Trial};
use serde_json::{Value, json};

use super::isolation::is_gone;

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

/// Those of this database alone: others of the cluster have locks of their own.
const LOCKS: &str = "select count(*) from pg_locks where locktype = 'advisory'
                     and database = (select oid from pg_database where datname = current_database())";

behind_both_doors! {
    /// Where a call of a function does not look like one.
    async fn a_lock_that_is_taken_in_disguise_is_released(door) {
        let look = "select count(*)::text from pg_locks where locktype = 'advisory' and objid = 4712
                    and pid = pg_backend_pid()";
        for take in [
            "select a.id::text from generate_series(4712, 4712) as a (id) join generate_series(1, 1) as b (id)
                on pg_try_advisory_lock(a.id)",
            "select (4712::bigint).pg_advisory_lock::text",
            "select treat(4712::bigint as pg_advisory_lock)::text",
            "select q.pg_try_advisory_lock::text from generate_series(4712::bigint, 4712) as q",
        ] {
            is_gone(door, json!([{ "query": take }]), look, "0").await;
        }
    }

    async fn a_setting_that_is_made_in_disguise_is_reset(door) {
        let look = "select coalesce(current_setting('local.kept', true), '')";
        for set in [
            "set local.kept = 'x'",
            "select E'a'\n'b\\'', set_config('local.kept', 'x', false) --'",
        ] {
            is_gone(door, json!([{ "query": set }]), look, "").await;
        }
    }

    async fn a_temporary_table_in_disguise_is_dropped(door) {
        let leave = json!([{ "execute": "create table U&\"pg\\005ftemp\".left_over (name text)" }]);
        is_gone(door, leave, "select (to_regclass('pg_temp.left_over') is null)::text", "true").await;
    }

    /// The host's own are prepared there by names that everybody can look up.
    async fn what_a_prepared_statement_does_that_another_one_executes_is_undone(door) {
        let (_database, trial) = trial(door, "").await;
        let lock = json!({ "query": "select pg_advisory_lock(4711)::text" });
        let names = "select name from pg_prepared_statements where statement like 'select pg_advisory_lock%'";
        for (begin, end) in [("explain analyze", ""), ("create table made_by_it as", "with data")] {
            trial.result(lock.clone()).await;
            let name = trial.result(json!({ "query": names })).await;
            let name = name["rows"][0][0].as_str().expect("it is prepared");
            let executed = trial.result(json!({ "batch": format!("{begin} execute {name} {end}") })).await;
            assert_eq!(executed, Value::Null, "{begin}");
            let seen = trial.result(json!({ "query": LOCKS })).await;
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
            let begun = trial.result(json!({ "query": begin })).await;
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
            "select conflict(1)",
            "select distinct on (id) filter(id) from things",
            "insert into things select a.id from things a join things b on conflict(a.id) where (select true as do)
             on conflict do nothing returning true",
        ] {
            let called = trial.result(json!({ "query": sql })).await;
            assert!(called["rows"].is_array(), "{called}");
            let seen = trial.result(json!({ "query": "show work_mem" })).await;
            assert_eq!(seen["rows"], json!([["4MB"]]), "{sql}");
        }
    }

    /// What is made while the names lead there lasts for the session, however short that was.
    async fn a_table_that_is_temporary_by_its_search_path_alone_is_left_to_nobody(door) {
        let (database, trial) = trial(door, "create table orders (note text)").await;
        let make = [
            "create table orders (note text)",
            "create view orders as select 'theirs'::text as note",
            "select 'theirs'::text as note into orders",
            "select 'theirs'::text as note, 1 insert into orders",
        ];
        let lead = [
            "set local search_path = 'pg_temp'",
            "set local \"Search_Path\" = 'pg_temp'",
            "set local schema 'pg_temp'",
            "select set_config('search_path', 'pg_temp', true)",
        ];
        for (lead, make) in lead.iter().flat_map(|lead| make.map(|make| (lead, make))) {
            let whole = json!({ "batch": format!("{lead}; {make}") });
            let apart = json!({ "transaction": [{ "batch": lead }, { "batch": make }], "end": "commit" });
            for steps in [json!([whole]), json!([apart])] {
                trial.value(json!({ "steps": steps })).await;
                let write = json!({ "execute": "insert into orders values ('mine')" });
                assert_eq!(trial.result(write).await, json!({ "affected": 1 }), "{steps}");
                let real = "with gone as (delete from public.orders returning 1) select count(*) from gone";
                assert_eq!(database.value(real).await.as_deref(), Some("1"), "{steps}");
            }
        }
    }
}
