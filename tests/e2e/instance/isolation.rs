//! Nothing of one invocation reaches another through its instance: through memory only as far as the function's
//! isolation says, through the processor not at all. What it leaves in the database is in
//! `database/session/isolation.rs`.

use std::time::Duration;

use e2e::guests::{COUNTER, MISBEHAVE};
use e2e::{Database, Door, Gate, PATIENCE, Setup, eventually};
use futures_util::future::join_all;
use serde_json::json;

behind_both_doors! {
    async fn fresh_shares_no_memory(door) {
        let trial = Setup::of(&COUNTER).isolation("\"fresh\"").start(door).await;
        for _ in 0..3 {
            assert_eq!(trial.value(json!({})).await["served"], 1);
        }
    }

    async fn one_invocation_cannot_take_the_memory_of_another(door) {
        for isolation in ["\"fresh\"", "\"serial\"", "{ concurrent = 2 }"] {
            let trial =
                Setup::of(&MISBEHAVE).isolation(isolation).function("memory_mib", "32").start(door).await;
            let (error_type, _) = trial.error(json!({ "act": "grow" })).await;
            assert_eq!(error_type, "Function.OutOfMemory", "{isolation}");
            let answer = trial.value(json!({ "act": "swell", "mib": 8 })).await;
            assert_eq!(answer["act"], "swollen", "{isolation}");
        }
    }
}

/// The two wait in the database for each other's arrival, so they do overlap.
#[tokio::test]
async fn serial_and_fresh_never_run_two_invocations_in_one_instance() {
    for (door, isolation) in [
        (Door::Lambda, "\"serial\""),
        (Door::Local, "\"serial\""),
        (Door::Local, "\"fresh\""),
    ] {
        let database = Database::create().await;
        let gate = database.gate().await;
        let trial = Setup::of(&COUNTER)
            .isolation(isolation)
            .with(&database)
            .concurrency(2)
            .start(door)
            .await;
        let event = json!({ "sql": Gate::PASS });
        let open = async {
            gate.waited_for(2).await;
            gate.open().await;
        };
        let (first, second, ()) =
            tokio::join!(trial.value(event.clone()), trial.value(event.clone()), open);
        for answer in [first, second] {
            assert_eq!(
                (&answer["served"], &answer["together"]),
                (&json!(1), &json!(1)),
                "{door:?} {isolation}"
            );
        }
    }
}

/// A neighbour that computes without end takes the processor from nobody: all others are answered
/// while it still runs.
#[tokio::test]
async fn an_endless_loop_delays_nobody_in_another_instance() {
    for (door, isolation) in [
        (Door::Lambda, "\"serial\""),
        (Door::Local, "\"serial\""),
        (Door::Local, "\"fresh\""),
    ] {
        let trial = Setup::of(&MISBEHAVE)
            .isolation(isolation)
            .timeout(PATIENCE)
            .concurrency(4)
            .start(door)
            .await;
        let spinner = trial.invoke(json!({ "act": "spin" }));
        let others = async {
            eventually("the spinner", async || {
                (trial.host.lines("spinning") > 0).then_some(())
            })
            .await;
            for _ in 0..5 {
                join_all((0..2).map(|_| trial.value(json!({})))).await;
            }
        };
        tokio::select! {
            () = others => {}
            answer = spinner => panic!("{door:?} {isolation}: the others waited for {answer:?}"),
        }
    }
}

/// In one instance there is one processor; then a neighbour's endless loop costs the others their
/// time, but nobody more than that, and it does not outlive its deadline.
#[tokio::test]
async fn an_endless_loop_in_a_shared_instance_ends_with_its_deadline() {
    for door in [Door::Lambda, Door::Local] {
        let trial = Setup::of(&MISBEHAVE)
            .isolation("{ concurrent = 4 }")
            .function("instances_max", "1")
            .timeout(Duration::from_secs(2))
            .concurrency(4)
            .start(door)
            .await;
        let (spinner, neighbour) = tokio::join!(
            trial.invoke(json!({ "act": "spin" })),
            trial.invoke(json!({}))
        );
        assert_eq!(spinner.error().0, "Function.DeadlineExceeded");
        assert!(neighbour.took < Duration::from_secs(20), "{neighbour:?}");
        trial.value(json!({})).await;
    }
}
