//! Whatever a guest does, its caller gets an error that says what it was, and the next invocation
//! is served.

use std::time::Duration;

use e2e::component::{Extra, beside};
use e2e::guests::MISBEHAVE;
use e2e::{Database, Door, Setup};
use futures_util::future::join_all;
use serde_json::json;

/// The fault is told apart, well within the deadline, and leaves the host as it was.
async fn is_told(door: Door, act: &str, error_type: &str, message: &str) {
    let trial = Setup::of(&MISBEHAVE).start(door).await;
    for _ in 0..2 {
        let answer = trial.invoke(json!({ "act": act })).await;
        let (actual_type, actual_message) = answer.error();
        assert_eq!(actual_type, error_type, "{actual_message}");
        assert!(actual_message.contains(message), "{actual_message}");
        assert!(answer.took < Duration::from_secs(25), "{:?}", answer.took);
        if door == Door::Lambda {
            let header = answer.headers.get("lambda-runtime-function-error-type");
            let (category, reason) = header
                .and_then(|header| header.split_once('.'))
                .expect("Lambda keeps Xxx.Yyy");
            assert!(matches!(category, "Function" | "Runtime"), "{header:?}");
            assert!(
                reason.chars().all(|c| c.is_ascii_alphabetic()),
                "{header:?}"
            );
        } else {
            assert_eq!(answer.headers["x-amz-function-error"], "Unhandled");
        }
        trial.value(json!({})).await;
    }
}

behind_both_doors! {
    async fn a_panic(door) {
        is_told(door, "panic", "Function.Panic", "as it was told").await;
    }

    async fn a_trap(door) {
        is_told(door, "trap", "Function.Trap", "").await;
    }

    async fn a_stack_overflow(door) {
        is_told(door, "recurse", "Function.StackOverflow", "").await;
    }

    async fn a_stack_overflow_in_the_guests_own_memory(door) {
        is_told(door, "recurse_with_arrays", "Function.StackOverflow", "").await;
    }

    async fn a_memory_bomb(door) {
        is_told(door, "grow", "Function.OutOfMemory", "").await;
    }

    /// Of which a part stands in a memory that the guest does not even use.
    async fn more_memory_than_all_of_an_instances_memories_may_have(door) {
        let component = beside(&MISBEHAVE, &[Extra::MemoryMib(20)]);
        let trial = Setup::component(&component).function("memory_mib", "32").start(door).await;
        let (error_type, _) = trial.error(json!({ "act": "swell", "mib": 16 })).await;
        assert_eq!(error_type, "Function.OutOfMemory");
        assert_eq!(trial.value(json!({ "act": "swell", "mib": 4 })).await["act"], "swollen");
    }

    async fn an_exit(door) {
        let trial = Setup::of(&MISBEHAVE).start(door).await;
        let (error_type, message) = trial.error(json!({ "act": "exit" })).await;
        assert!(error_type.starts_with("Function."), "{error_type}: {message}");
        trial.value(json!({})).await;
    }

    async fn an_error_of_the_functions_own(door) {
        is_told(door, "fail", "Misbehaved", "as it was told").await;
    }

    async fn an_error_without_a_name(door) {
        is_told(door, "err", "Function.Error", "as it was told").await;
    }

    /// What belongs to one invocation is not told in another one, however the guest asks.
    async fn a_context_that_is_asked_in_another_invocation(door) {
        let trial = Setup::of(&MISBEHAVE).isolation("{ concurrent = 4 }").function("instances_max", "1");
        let trial = trial.start(door).await;
        assert_eq!(trial.value(json!({ "act": "keep" })).await["act"], true);
        let (error_type, message) = trial.error(json!({ "act": "ask_kept" })).await;
        assert_eq!(error_type, "Function.Panic");
        assert!(message.contains("after its invocation"), "{message}");
        trial.value(json!({})).await;
    }

    /// No guest may fill the host's memory with handles.
    async fn more_handles_than_there_are(door) {
        let database = Database::create().await;
        let trial = Setup::of(&MISBEHAVE).with(&database).start(door).await;
        let (error_type, message) = trial.error(json!({ "act": "leak" })).await;
        assert!(error_type.starts_with("Function."), "{error_type}: {message}");
        assert!(!message.contains("10000 handles"), "{message}");
        trial.value(json!({})).await;
    }

    async fn an_answer_larger_than_lambda_takes(door) {
        is_told(door, "answer", "Function.ResponseTooLarge", "or stream it (`hearth::Streamed`").await;
    }

    /// The instance is none the worse for it.
    async fn an_answer_that_json_has_no_form_for(door) {
        is_told(door, "answer_in_no_form", "Function.InvalidAnswer", "key must be a string").await;
        let trial = Setup::of(&MISBEHAVE).start(door).await;
        trial.error(json!({ "act": "answer_in_no_form" })).await;
        assert_eq!(trial.value(json!({ "act": "count" })).await["act"], 2);
    }

    async fn an_event_that_the_function_does_not_take(door) {
        let trial = Setup::of(&MISBEHAVE).start(door).await;
        let (error_type, message) = trial.error(json!([1, 2, 3])).await;
        assert_eq!(error_type, "Function.InvalidEvent");
        assert!(message.contains("the event is not what this function takes"), "{message}");
        trial.value(json!({})).await;
    }

    /// One invocation's trap ends the instance under its neighbours; they get an error, and the
    /// next find a new instance.
    async fn a_panic_in_a_shared_instance(door) {
        let trial = Setup::of(&MISBEHAVE)
            .isolation("{ concurrent = 4 }")
            .function("instances_max", "1")
            .concurrency(4)
            .start(door)
            .await;
        let (_, one, other) = tokio::join!(
            trial.error(json!({ "act": "panic" })),
            trial.invoke(json!({})),
            trial.invoke(json!({})),
        );
        for neighbour in [one, other] {
            assert!(neighbour.took < Duration::from_secs(25), "{neighbour:?}");
        }
        for _ in 0..8 {
            trial.value(json!({})).await;
        }
    }
}

/// Each slot has a stack of its own, and each recursion uses a megabyte of it.
#[tokio::test]
async fn what_deep_recursions_have_used_of_stacks_is_given_back() {
    let slots = 16;
    let setup = Setup::of(&MISBEHAVE).concurrency(slots);
    let trial = setup.start(Door::Lambda).await;
    let all = async |act: &str| {
        trial.lambda().parked(slots).await;
        join_all((0..slots).map(|_| trial.error(json!({ "act": act })))).await;
    };
    all("panic").await;
    let before = trial.host.holdings();
    for _ in 0..4 {
        all("recurse").await;
    }
    e2e::eventually("less than half of that memory", async || {
        let after = trial.host.holdings();
        (after.memory_kib < before.memory_kib + slots as u64 * 512).then_some(())
    })
    .await;
}

/// They have a limit together, and no smaller one each.
#[tokio::test]
async fn more_elements_than_all_of_an_instances_tables_may_have() {
    for door in [Door::Lambda, Door::Local] {
        let component = beside(&MISBEHAVE, &[Extra::Table(60_000)]);
        Setup::component(&component)
            .start(door)
            .await
            .value(json!({}))
            .await;
    }
    let component = beside(&MISBEHAVE, &[Extra::Table(60_000), Extra::Table(60_000)]);
    let trial = Setup::component(&component).start(Door::Local).await;
    let (error_type, message) = trial.error(json!({})).await;
    assert_eq!(error_type, "Function.InitFailed");
    assert!(message.contains("table"), "{message}");
}
