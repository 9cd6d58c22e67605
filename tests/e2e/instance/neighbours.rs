//! Invocations that share an instance have its end in common. Who goes on past its deadline there costs
//! the others what they had begun, and is told apart from them; who had not begun loses nothing. Who only
//! waits past it costs nobody anything. What one of them has of the database is of no use to the others.

use std::time::Duration;

use e2e::guests::{MISBEHAVE, ONWARD, PROGRAM};
use e2e::{Database, Door, Gate, Setup, Trial, eventually};
use serde_json::json;

/// What those have that go on past their deadline. All others have much more.
const BRIEF: Duration = Duration::from_secs(2);

/// In the ways in which an invocation keeps an instance to itself, and what it prints before that.
const HOLDS: [(&str, &str); 2] = [("spin", "spinning"), ("sleep", "sleeping")];

/// An instance for two.
fn shared() -> Setup {
    Setup::of(&MISBEHAVE)
        .isolation("{ concurrent = 2 }")
        .concurrency(2)
}

async fn printed(trial: &Trial, text: &str) {
    let found = async || trial.host.last_line(text).map(drop);
    eventually(text, found).await;
}

/// It waits in front of an instance in which nobody moves.
#[tokio::test]
async fn who_had_not_begun_is_handled_by_another_instance() {
    for (act, says) in HOLDS {
        let trial = shared().start(Door::Lambda).await;
        let neighbour = async {
            printed(&trial, says).await;
            trial.invoke(json!({ "act": "count" })).await
        };
        let holder = trial.invoke_within(BRIEF, json!({ "act": act }));
        let (holder, neighbour) = tokio::join!(holder, neighbour);
        assert_eq!(holder.error().0, "Function.DeadlineExceeded", "{act}");
        assert_eq!(neighbour.value()["act"], 1, "{act}");
    }
}

#[tokio::test]
async fn who_had_begun_is_told_that_it_was_another_ones_deadline() {
    for (act, _) in HOLDS {
        let database = Database::create().await;
        let gate = database.gate().await;
        let trial = shared().with(&database).start(Door::Lambda).await;
        let holder = async {
            gate.waited_for(1).await;
            trial.invoke_within(BRIEF, json!({ "act": act })).await
        };
        let waits = json!({ "steps": [{ "batch": Gate::PASS }] });
        let (neighbour, holder) = tokio::join!(trial.invoke(waits), holder);
        assert_eq!(holder.error().0, "Function.DeadlineExceeded", "{act}");
        let (error_type, message) = neighbour.error();
        assert_eq!(error_type, "Function.Trap", "{act}: {message}");
        assert!(message.contains("another invocation"), "{act}: {message}");
        assert_eq!(trial.value(json!({ "act": "count" })).await["act"], 1);
    }
}

/// It was left behind by an earlier invocation.
#[tokio::test]
async fn suspended_work_that_keeps_the_instance_to_itself_ends_with_its_own_deadline() {
    let trial = Setup::of(&ONWARD)
        .function("after_answer", "\"suspend\"")
        .start(Door::Lambda)
        .await;
    let work = json!([{ "sleep": 20 }, { "block": 600_000 }]);
    let answer = trial.invoke_within(BRIEF, json!({ "after": [work] })).await;
    assert_eq!(answer.value()["served"], 1);
    let (error_type, message) = trial
        .error(json!({ "first": [{ "sleep": 600_000 }] }))
        .await;
    assert_eq!(error_type, "Function.Trap", "{message}");
    assert_eq!(trial.value(json!({})).await["served"], 1);
}

/// When it wakes up, nobody waits for it any more, and it has next to nothing left to do.
#[tokio::test]
async fn who_only_waits_past_its_deadline_harms_nobody() {
    let trial = Setup::of(&ONWARD)
        .isolation("{ concurrent = 2 }")
        .concurrency(2)
        .start(Door::Lambda)
        .await;
    let late = json!({ "first": [{ "sleep": 2_500 }, { "print": "late" }] });
    let neighbour = json!({ "first": [{ "sleep": 4_000 }] });
    let (late, neighbour) = tokio::join!(trial.invoke_within(BRIEF, late), trial.invoke(neighbour));
    assert_eq!(late.error().0, "Function.DeadlineExceeded");
    assert_eq!(neighbour.value()["done"], 0);
}

#[tokio::test]
async fn suspended_work_that_only_waits_past_its_deadline_harms_nobody() {
    let mut trial = Setup::of(&ONWARD)
        .function("after_answer", "\"suspend\"")
        .start(Door::Lambda)
        .await;
    let work = json!([{ "sleep": 2_500 }, { "print": "late" }]);
    trial.invoke_within(BRIEF, json!({ "after": [work] })).await;
    let neighbour = trial.value(json!({ "first": [{ "sleep": 4_000 }] })).await;
    assert_eq!(neighbour["served"], 2);
    trial.host.line("Function.DeadlineExceeded").await;
}

/// One that gives the others their turns takes a part of the processor from them.
#[tokio::test]
async fn who_begins_to_compute_past_its_deadline_is_ended() {
    for act in ["spin", "turn"] {
        let database = Database::create().await;
        let gate = database.gate().await;
        let trial = Setup::of(&ONWARD)
            .with(&database)
            .isolation("{ concurrent = 2 }")
            .concurrency(2)
            .start(Door::Lambda)
            .await;
        let waits = json!([{ "step": { "batch": Gate::PASS } }]);
        let late = async {
            gate.waited_for(1).await;
            let event = json!({ "first": [{ "sleep": 2_500 }, act] });
            trial.invoke_within(BRIEF, event).await
        };
        let waiting = trial.invoke(json!({ "first": waits }));
        let (neighbour, late) = tokio::join!(waiting, late);
        assert_eq!(late.error().0, "Function.DeadlineExceeded", "{act}");
        let (error_type, message) = neighbour.error();
        assert_eq!(error_type, "Function.Trap", "{act}: {message}");
    }
}

/// It keeps a handle where the other finds it, and is at work while that is used.
#[tokio::test]
async fn a_handle_works_for_its_own_invocation_alone() {
    let rows = "select repeat('x', 1000) from generate_series(1, 2000)";
    let copy_in =
        json!({ "do": "copy_in", "sql": "copy things from stdin", "pieces": 1, "end": "keep" });
    let copy_out = format!("copy ({rows}) to stdout");
    for keep in [
        json!({ "do": "transaction", "steps": [], "end": "keep" }),
        json!({ "do": "session", "steps": [], "end": "keep" }),
        json!({ "do": "query", "sql": rows, "rows": "keep" }),
        json!({ "do": "copy_out", "sql": copy_out, "end": "keep" }),
        copy_in,
    ] {
        let database = Database::with("create table things (number int)").await;
        let gate = database.gate().await;
        let trial = Setup::of(&PROGRAM)
            .with(&database)
            .isolation("{ concurrent = 2 }")
            .concurrency(2)
            .start(Door::Lambda)
            .await;
        let program = |steps| json!({ "program": { "steps": steps, "fails": false } });
        let waits = json!({ "do": "batch", "sql": Gate::PASS });
        let neighbour = async {
            gate.waited_for(1).await;
            let answer = trial.invoke(program(json!([{ "do": "use_kept" }]))).await;
            gate.open().await;
            answer.value()
        };
        let owner = trial.invoke(program(json!([keep, waits])));
        tokio::join!(owner, neighbour);
        let found = async || trial.host.last_line("a handle of another invocation");
        let line = eventually("what came of the handle", found).await;
        assert!(line.contains("have ended"), "{keep}: {line}");
    }
}
