//! What is expensive stays warm: the instance, where its isolation allows, and the connection always.

use std::time::Duration;

use e2e::guests::{COUNTER, MISBEHAVE, QUERY, STARTING};
use e2e::{Database, Door, Gate, Setup, eventually};
use futures_util::future::join_all;
use serde_json::json;

const PID: &str = "select pg_backend_pid()::text";

behind_both_doors! {
    async fn the_first_invocation_is_cold_and_the_next_is_warm(door) {
        let trial = Setup::of(&COUNTER).start(door).await;
        assert_eq!(trial.value(json!({})).await, json!({ "served": 1, "first": true, "together": 1 }));
        assert_eq!(trial.value(json!({})).await, json!({ "served": 2, "first": false, "together": 1 }));
    }

    /// So the next event need not wait until one is built.
    async fn a_retired_instance_has_a_successor_before_the_next_event(door) {
        let trial = Setup::of(&STARTING).isolation("\"fresh\"").start(door).await;
        for started in 2..=4 {
            trial.value(json!(1)).await;
            eventually("a successor", async || {
                (trial.host.lines("an instance starts") == started).then_some(())
            })
            .await;
        }
    }

    async fn however_many_invocations_connect_once(door) {
        let database = Database::create().await;
        let before = database.sessions().await;
        let trial = Setup::of(&QUERY).with(&database).start(door).await;
        let first = trial.value(json!({ "steps": [{ "query": PID }] })).await;
        for _ in 0..50 {
            assert_eq!(trial.value(json!({ "steps": [{ "query": PID }] })).await, first);
        }
        assert_eq!(database.backends().await, 1);
        assert_eq!(database.sessions().await - before, 1);
    }

    async fn every_end_of_an_instance_leaves_the_connection_in_service(door) {
        let database = Database::create().await;
        let before = database.sessions().await;
        let trial = Setup::of(&MISBEHAVE).with(&database).start(door).await;
        let pid = trial.value(json!({ "steps": [{ "query": PID }] })).await;
        for act in ["panic", "trap", "recurse", "grow", "exit"] {
            trial.error(json!({ "steps": [{ "query": PID }], "act": act })).await;
            assert_eq!(trial.value(json!({ "steps": [{ "query": PID }] })).await, pid, "after {act}");
        }
        assert_eq!(database.sessions().await - before, 1);
    }

    async fn a_fresh_instance_for_each_invocation_finds_the_connection_warm(door) {
        let database = Database::create().await;
        let trial = Setup::of(&COUNTER).isolation("\"fresh\"").with(&database).start(door).await;
        let pid = trial.value(json!({ "sql": PID })).await["value"].clone();
        for _ in 0..5 {
            let answer = trial.value(json!({ "sql": PID })).await;
            assert_eq!(answer, json!({ "served": 1, "first": true, "together": 1, "value": pid }));
        }
    }

    async fn an_instance_retires_after_the_invocations_it_was_given(door) {
        let trial = Setup::of(&COUNTER).function("retire", "{ invocations = 3 }").start(door).await;
        let mut served = Vec::new();
        for _ in 0..7 {
            served.push(trial.value(json!({})).await["served"].clone());
        }
        assert_eq!(json!(served), json!([1, 2, 3, 1, 2, 3, 1]));
    }

    /// The guest's memory grows by 32 MiB once, which WebAssembly cannot give back.
    async fn an_instance_retires_above_the_memory_it_was_given(door) {
        let trial = Setup::of(&MISBEHAVE).function("retire", "{ memory_mib = 16 }").start(door).await;
        assert_eq!(trial.value(json!({ "act": "count" })).await["act"], 1);
        assert_eq!(trial.value(json!({ "act": "count" })).await["act"], 2);
        trial.value(json!({ "act": "swell" })).await;
        assert_eq!(trial.value(json!({ "act": "count" })).await["act"], 1);
    }
}

/// The component itself, which the host compiles at its start.
#[tokio::test]
async fn a_component_that_is_not_compiled_runs_as_well() {
    let trial = Setup::component(COUNTER.wasm()).start(Door::Local).await;
    assert_eq!(trial.value(json!({})).await["served"], 1);
}

/// Each waits in a query until all have arrived, so none can have waited for another's end.
#[tokio::test]
async fn many_invocations_run_in_one_concurrent_instance() {
    const TOGETHER: usize = 8;
    for door in [Door::Lambda, Door::Local] {
        let database = Database::create().await;
        let gate = database.gate().await;
        let trial = Setup::of(&COUNTER)
            .isolation("{ concurrent = 8 }")
            .function("instances_max", "1")
            .with(&database)
            .concurrency(TOGETHER)
            .start(door)
            .await;
        let wait = json!({ "sql": Gate::PASS });
        let invocations =
            async { join_all((0..TOGETHER).map(|_| trial.value(wait.clone()))).await };
        let open = async {
            gate.waited_for(TOGETHER).await;
            gate.open().await;
        };
        let (answers, ()) = tokio::join!(invocations, open);
        let mut served: Vec<_> = answers
            .iter()
            .map(|answer| answer["served"].as_u64().unwrap())
            .collect();
        served.sort_unstable();
        assert_eq!(served, (1..=TOGETHER as u64).collect::<Vec<_>>());
        assert!(
            answers.iter().all(|answer| answer["together"] == TOGETHER),
            "{answers:?}"
        );
        drop(gate);
        database.settles(TOGETHER as u64).await;
    }
}

/// It would take as long the next time.
#[tokio::test]
async fn an_instance_that_is_built_too_slowly_for_one_event_serves_a_later_one() {
    let setup = Setup::of(&STARTING).function("environment", "{ START = \"slowly\" }");
    let trial = setup.isolation("\"fresh\"").start(Door::Lambda).await;
    trial.value(json!(1)).await;
    let brief = Duration::from_millis(700);
    let late = trial.invoke_within(brief, json!(1)).await;
    assert_eq!(late.error().0, "Function.DeadlineExceeded");
    eventually("an answer", async || {
        let answer = trial.invoke_within(brief, json!(1)).await;
        (!answer.failed).then_some(())
    })
    .await;
    let started = trial.host.lines("an instance starts");
    assert!((2..=3).contains(&started), "{started} instances");
}

/// Each of them holds some handles meanwhile.
#[tokio::test]
async fn hundreds_of_invocations_wait_side_by_side_in_one_instance() {
    const TOGETHER: usize = 400;
    let database = Database::create().await;
    let gate = database.gate().await;
    let setup = Setup::of(&COUNTER)
        .isolation("{ concurrent = 500 }")
        .function("instances_max", "1")
        .with(&database)
        .database("pool_max", "1");
    let trial = setup.start(Door::Local).await;
    let wait = json!({ "sql": Gate::PASS });
    let invocations = async { join_all((0..TOGETHER).map(|_| trial.value(wait.clone()))).await };
    let open = async {
        eventually("all of them", async || {
            let seen = trial.value(json!({})).await;
            (seen["together"].as_u64() >= Some(TOGETHER as u64)).then_some(())
        })
        .await;
        gate.open().await;
    };
    tokio::join!(invocations, open);
}
