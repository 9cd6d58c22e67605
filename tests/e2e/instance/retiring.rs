//! An instance that is retired ends what is left in it, and there is room for its successor: as long as
//! there would be none, it is kept, or waited for.

use std::time::Duration;

use e2e::guests::{MISBEHAVE, ONWARD, STARTING};
use e2e::lambda::What;
use e2e::{Clock, Database, Door, Gate, Setup, Trial, eventually};
use futures_util::future::join_all;
use serde_json::json;

/// Instances that one function may have alive of which one takes invocations.
const ALIVE: usize = 4;

/// A database, and a gate in it that is shut.
async fn held() -> (Database, Gate) {
    let database = Database::with("create table notes (note text)").await;
    let gate = database.gate().await;
    (database, gate)
}

/// Sends an event whose invocation comes to wait before the gate, as one of so many.
async fn hold(trial: &Trial, gate: &Gate, waiting: usize) -> String {
    let waits = json!({ "steps": [{ "batch": Gate::PASS }] });
    let event = trial.event(waits.to_string());
    let id = event.id.clone();
    trial.lambda().send(event);
    gate.waited_for(waiting).await;
    id
}

fn shared(database: &Database) -> Setup {
    Setup::of(&MISBEHAVE)
        .with(database)
        .database("pool_max", "16")
        .isolation("{ concurrent = 16 }")
        .concurrency(16)
}

/// Each is retired by one invocation, with another left in it.
#[tokio::test]
async fn an_instance_is_kept_where_there_is_no_room_for_its_successor() {
    let (database, gate) = held().await;
    let trial = shared(&database)
        .function("retire", "{ invocations = 1 }")
        .start(Door::Lambda)
        .await;
    let mut left = Vec::new();
    for waiting in 1..=ALIVE + 2 {
        left.push(hold(&trial, &gate, waiting).await);
        trial.value(json!({})).await;
    }
    gate.open().await;
    for id in left {
        assert_eq!(trial.lambda().answer(&id).await.what, What::Response);
    }
    eventually("the successor, for which there is room now", async || {
        let count = &trial.value(json!({ "act": "count" })).await["act"];
        (*count == 1).then_some(())
    })
    .await;
}

/// Each is retired by a deadline: it cannot be kept.
#[tokio::test]
async fn where_there_is_no_room_an_invocation_waits_for_it_until_its_deadline() {
    let (database, gate) = held().await;
    let trial = shared(&database).start(Door::Lambda).await;
    let mut left = Vec::new();
    let brief = Duration::from_millis(500);
    for waiting in 1..=ALIVE {
        left.push(hold(&trial, &gate, waiting).await);
        let sleeps = json!({ "steps": [{ "batch": "select pg_sleep(600)" }] });
        let answer = trial.invoke_within(brief, sleeps).await;
        assert_eq!(answer.error().0, "Function.DeadlineExceeded");
    }
    let answer = trial.invoke_within(brief, json!({})).await;
    assert_eq!(answer.error().0, "Runtime.Busy");
    let (_, ()) = tokio::join!(trial.value(json!({})), gate.open());
    for id in left {
        assert_eq!(trial.lambda().answer(&id).await.what, What::Response);
    }
}

/// Each is retired by the invocation after the one whose work is suspended in it.
#[tokio::test]
async fn an_instance_is_kept_where_suspended_work_leaves_no_room_for_its_successor() {
    let (database, gate) = held().await;
    let trial = Setup::of(&ONWARD)
        .with(&database)
        .database("pool_max", "16")
        .function("after_answer", "\"suspend\"")
        .function("retire", "{ invocations = 2 }")
        .start(Door::Lambda)
        .await;
    let batch =
        "begin; select pg_advisory_xact_lock_shared(1); insert into notes values ('done'); commit";
    let works = ALIVE + 2;
    for _ in 0..works {
        let work = json!({ "after": [[{ "step": { "batch": batch } }]] });
        trial.value(work).await;
        trial.value(json!({})).await;
    }
    gate.open().await;
    eventually("the end of all works", async || {
        trial.value(json!({ "first": [{ "sleep": 1 }] })).await;
        let notes = database.value("select count(*) from notes").await;
        (notes == Some(works.to_string())).then_some(())
    })
    .await;
}

/// By the clock on the wall, which goes on. Whoever thaws it is not kept waiting for a new one.
#[tokio::test]
async fn an_instance_ages_while_its_environment_is_frozen() {
    let (database, clock) = (Database::create().await, Clock::new());
    let trial = Setup::of(&MISBEHAVE)
        .with(&database)
        .function("retire", "{ age_s = 60 }")
        .clock(&clock)
        .start(Door::Lambda)
        .await;
    let event = json!({ "steps": [{ "query": "select pg_backend_pid()" }], "act": "count" });
    let first = trial.value(event.clone()).await;
    assert_eq!(trial.value(event.clone()).await["act"], 2);
    trial.lambda().parked(1).await;
    trial.host.freeze();
    clock.shift(90);
    let thawing = trial.event(event.to_string());
    let id = thawing.id.clone();
    trial.lambda().send(thawing);
    trial.lambda().parked(0).await;
    trial.host.thaw();
    assert_eq!(trial.lambda().answer(&id).await.what, What::Response);
    for count in [1, 2] {
        let later = trial.value(event.clone()).await;
        assert_eq!(later["act"], count);
        assert_eq!(later["steps"], first["steps"], "the connection is the same");
    }
}

/// Each of them gives it back on its own.
#[tokio::test]
async fn an_instance_that_many_shared_is_followed_by_one() {
    let trial = Setup::of(&STARTING)
        .isolation("{ concurrent = 16 }")
        .function("retire", "{ invocations = 1 }")
        .function("environment", "{ START = \"slowly\" }")
        .start(Door::Local)
        .await;
    // They come while it is built, and begin when it stands.
    join_all((0..12).map(|number| trial.value(json!(number)))).await;
    // This one waits for its successor, which has one as well.
    trial.value(json!(12)).await;
    let started = trial.host.lines("an instance starts");
    assert!((2..=3).contains(&started), "{started} instances");
}
