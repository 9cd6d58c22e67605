//! Calls that an invocation makes at the same time overlap, also once an earlier one has left something behind.

use e2e::guests::QUERY;
use e2e::{Database, Door, Server, Setup, Trial};
use serde_json::{Value, json};

const SCHEMA: &str =
    "create function kept() returns int4 language sql as 'select 1'; create table things (n int4)";
/// More than is sent at once, and less than is held.
const WIDE: &str = "select n, repeat('x', 300) from generate_series(1, 5000) n";
/// More than is held.
const HUGE: &str = "select n, repeat('x', 1000) from generate_series(1, 20000) n";
/// Something that stays with the invocation, with the connection on which it was done.
const KEEP: [&str; 2] = ["select kept()", "set work_mem = '77MB'"];

async fn trial(door: Door, pool_max: &str) -> (Database, Trial) {
    let database = Database::with(SCHEMA).await;
    let setup = Setup::of(&QUERY)
        .with(&database)
        .database("pool_max", pool_max);
    (database, setup.start(door).await)
}

fn rows(result: &Value) -> usize {
    let rows = result["rows"].as_array();
    rows.unwrap_or_else(|| panic!("no rows: {result}")).len()
}

behind_both_doors! {
    /// On other connections, or where there is only one, one after another.
    async fn large_results_are_read_beside_others_on_a_connection_that_is_kept(door) {
        for pool_max in ["1", "2", "8"] {
            let (_database, trial) = trial(door, pool_max).await;
            for keep in KEEP {
                let (wide, one) = (json!({ "query": WIDE }), json!({ "query": "select 1" }));
                let results = trial.results(json!([{ "batch": keep }, { "parallel": [wide, wide, one] }])).await;
                let seen: Vec<usize> = (0..3).map(|at| rows(&results[1][at])).collect();
                assert_eq!(seen, [5000, 5000, 1], "{keep}, {pool_max}");
            }
        }
    }

    /// The host knows savepoints by name that were set by text, but not which portals are older.
    async fn rows_end_where_a_text_goes_back_to_a_savepoint_and_the_transaction_goes_on(door) {
        let (database, trial) = trial(door, "1").await;
        let streamed = json!({ "streamed": "select generate_series(1, 5000)", "meanwhile": ["rollback to a"] });
        let insert = json!({ "execute": "insert into things values (1)" });
        let steps = json!([{ "batch": "savepoint a" }, streamed, insert]);
        let results = trial.results(json!([{ "transaction": steps, "end": "commit" }])).await;
        let told = results[0]["steps"][1]["error"]["message"].as_str().unwrap_or_default();
        assert!(told.contains("ended"), "{results}");
        assert!(results[0]["end"].is_null(), "{results}");
        assert_eq!(database.count("things").await, 1);
    }

    /// The one that waits for a connection is told of the one that the other has kept.
    async fn two_calls_at_once_share_the_only_connection_that_one_of_them_keeps(door) {
        let (_database, trial) = trial(door, "1").await;
        let step = json!({ "execute": "set work_mem to '12345kB'" });
        let look = json!({ "query": "select current_setting('work_mem')" });
        let results = trial.results(json!([{ "parallel": [step, look, look] }])).await;
        for looked in [&results[0][1], &results[0][2]] {
            assert_eq!(looked["rows"], json!([["12345kB"]]), "{results}");
        }
    }

    async fn rows_are_streamed_beside_other_calls_on_a_connection_that_is_kept(door) {
        let (_database, trial) = trial(door, "2").await;
        for keep in KEEP {
            let steps = json!([{ "batch": keep }, { "streamed": HUGE, "meanwhile": ["select 1", keep, "select 1"] }]);
            let results = trial.results(steps).await;
            assert_eq!(results[1], json!({ "rows": 20000 }), "{keep}");
        }
    }

    /// Where there is no other connection, up to what is held.
    async fn more_rows_than_are_held_keep_others_from_the_only_connection(door) {
        let (_database, trial) = trial(door, "1").await;
        let steps = json!([
            { "batch": KEEP[0] },
            { "streamed": WIDE, "meanwhile": ["select 1"] },
            { "streamed": HUGE, "meanwhile": ["select 1"] },
            { "query": "select 1" },
        ]);
        let results = trial.results(steps).await;
        assert_eq!(results[1], json!({ "rows": 5000 }));
        assert!(results[2].to_string().contains("busy with the rows"), "{}", results[2]);
        assert_eq!(rows(&results[3]), 1);
    }

    /// Two calls are at the server when neither has ended.
    async fn calls_at_the_same_time_wait_for_nothing_of_each_other(door) {
        let (database, trial) = trial(door, "4").await;
        for keep in [KEEP[0], KEEP[1], "select 1"] {
            let gate = database.gate().await;
            let meet = json!({ "query": "select pg_advisory_xact_lock(1)::text" });
            let open = async {
                gate.waited_for(3).await;
                gate.open().await;
            };
            let steps = json!([{ "batch": keep }, { "parallel": [meet, meet, meet] }]);
            let (results, ()) = tokio::join!(trial.results(steps), open);
            assert_eq!((0..3).map(|at| rows(&results[1][at])).sum::<usize>(), 3, "{results}");
        }
    }

    async fn a_call_that_runs_alone_finds_what_an_earlier_one_has_left(door) {
        let (_database, trial) = trial(door, "4").await;
        let (show, wide) = (json!({ "query": "show work_mem" }), json!({ "query": WIDE }));
        let steps = json!([{ "batch": KEEP[1] }, show, { "parallel": [wide, { "query": KEEP[0] }, wide] }, show,
            { "abandon": "select pg_sleep(600)", "after_ms": 100 }, show]);
        let results = trial.results(steps).await;
        for at in [1, 3, 5] {
            assert_eq!(results[at]["rows"], json!([["77MB"]]), "{at}: {}", results[at]);
        }
    }

    /// The server has room for no other, and the host asks again for as long as connecting may take.
    async fn a_call_waits_for_no_other_connection_once_the_kept_one_is_free(door) {
        let database = Database::create().await;
        let role = format!("{}_only", database.name);
        database.run(&format!("create role {role} login connection limit 1")).await;
        let trial = Setup::of(&QUERY)
            .url(&database.url_as(&role, None))
            .database("pool_max", "2")
            .database("connect_timeout_ms", "60000")
            .timeout(e2e::PATIENCE)
            .start(door)
            .await;
        let slow = json!({ "query": "select pg_sleep(0.2)::text" });
        let steps = json!({ "steps": [{ "batch": KEEP[1] }, { "parallel": [slow, { "query": "show work_mem" }] }] });
        let answer = trial.invoke(steps).await;
        assert!(answer.took < e2e::PATIENCE / 2, "{:?}", answer.took);
        assert_eq!(answer.value()[1][1]["rows"], json!([["77MB"]]));
    }

    /// When it was made, nothing was known of what the rows that were being read may leave.
    async fn what_was_left_while_rows_were_read_is_found_when_those_have_ended(door) {
        let (_database, trial) = trial(door, "4").await;
        let show = json!({ "query": "show work_mem" });
        let rows = WIDE.replace("select n", "select kept()");
        let steps = json!([{ "streamed": rows, "meanwhile": [KEEP[1], "select 1"] }, show, { "query": "select kept()" }, show]);
        let results = trial.results(steps).await;
        assert_eq!(results[0], json!({ "rows": 5000 }));
        for at in [1, 3] {
            assert_eq!(results[at]["rows"], json!([["77MB"]]), "{at}: {}", results[at]);
        }
    }

    /// Each takes longer than an invocation may do nothing on all that it holds.
    async fn transactions_and_sessions_made_side_by_side_wait_for_those_before_them(door) {
        let (_database, trial) = trial(door, "4").await;
        let sleep = json!([{ "query": "select 1 from pg_sleep(0.2)" }]);
        let transaction = json!({ "transaction": sleep, "end": "commit" });
        for (step, within) in [(transaction, "/steps/0"), (json!({ "session": sleep }), "/0")] {
            let four = json!({ "parallel": vec![json!({ "query": "select 1 from pg_sleep(0.1)" }); 4] });
            let many = json!({ "parallel": vec![&step; 12] });
            let results = trial.results(json!([four, many])).await;
            for result in results[1].as_array().unwrap() {
                assert_eq!(rows(result.pointer(within).unwrap_or(result)), 1);
            }
        }
    }

    /// There is one connection, and the invocation would wait for itself.
    async fn a_connection_that_is_kept_for_what_was_left_there_is_named_to_who_wants_another(door) {
        let (_database, trial) = trial(door, "1").await;
        let transaction = json!({ "transaction": [{ "query": "select 1" }], "end": "commit" });
        for keep in ["set work_mem = '77MB'", "prepare one as select 1"] {
            let results = trial.results(json!([{ "batch": keep }, transaction])).await;
            let said = results[1]["error"]["message"].as_str().unwrap_or_default();
            assert!(said.starts_with("this invocation holds all 1 connections"), "{results}");
            assert!(said.contains("keeps one for what its statements have left"), "{results}");
        }
    }

    async fn transactions_and_sessions_do_not_see_what_calls_of_the_client_have_left(door) {
        let (_database, trial) = trial(door, "4").await;
        let seen = json!({ "query": "select current_setting('work_mem'), to_regclass('pg_temp.mine') is not null" });
        let left = json!({ "batch": format!("{}; create temporary table mine (n int4)", KEEP[1]) });
        let within = json!({ "transaction": [seen], "end": "commit" });
        let steps = json!([left, seen, within, { "session": [seen] }, { "session": [left, within] }]);
        let results = trial.results(steps).await;
        assert_eq!(results[1]["rows"], json!([["77MB", true]]), "{results}");
        assert_eq!(results[2]["steps"][0]["rows"], json!([["4MB", false]]), "{results}");
        assert_eq!(results[3][0]["rows"], json!([["4MB", false]]), "{results}");
        assert_eq!(results[4][1]["steps"][0]["rows"], json!([["77MB", true]]), "{results}");
    }

    async fn calls_at_the_same_time_belong_to_the_transaction_that_is_open(door) {
        let (database, trial) = trial(door, "4").await;
        let insert = json!({ "execute": "insert into things values (1)" });
        let together = json!({ "parallel": [{ "query": WIDE }, insert, insert, { "query": WIDE }, insert] });
        let steps = json!([{ "batch": "begin" }, together, insert, { "batch": "rollback" }, insert]);
        let results = trial.results(steps).await;
        assert_eq!((rows(&results[1][0]), rows(&results[1][3])), (5000, 5000));
        assert_eq!(database.count("things").await, 1);
    }
}

/// More than it may use at a time, also where none of them is there yet.
#[tokio::test]
async fn calls_beyond_what_an_invocation_may_use_wait_for_those_before_them() {
    let database = Database::create_on(&Server::own().await).await;
    let setup = Setup::of(&QUERY).with(&database).database("pool_max", "80");
    let trial = setup.start(Door::Lambda).await;
    let parallel = |count| {
        let query = json!({ "query": "select 1 from pg_sleep(0.3)" });
        json!([{ "parallel": vec![query; count] }])
    };
    for result in trial.results(parallel(150)).await[0]
        .as_array()
        .expect("each has one")
    {
        assert_eq!(rows(result), 1);
    }
    let session = json!({ "session": [{ "query": "select 1 from pg_sleep(0.3)" }] });
    let sessions = trial
        .results(json!([{ "parallel": vec![session; 100] }]))
        .await;
    for result in sessions[0].as_array().expect("each has one") {
        assert_eq!(rows(&result[0]), 1);
    }
    assert_eq!(database.backends().await, 64);
}
