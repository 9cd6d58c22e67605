//! Work that goes on after an answer: when the caller gets its bytes, when the next event is asked
//! for, and what becomes of the work at the deadline, after a trap, and in the end. All moments are
//! those at which the server saw something.

use std::time::{Duration, Instant};

use e2e::guests::ONWARD;
use e2e::lambda::{Call, Event, What};
use e2e::{Database, Door, Gate, PATIENCE, Setup, Trial};
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(2);

/// Work that waits before the gate, and notes that it came through.
fn waiting() -> Value {
    json!([
        { "step": { "batch": "begin; select pg_advisory_xact_lock_shared(1); insert into notes values ('done'); commit" } },
        { "print": "the lock was there" },
    ])
}

/// A database with a table for notes, and a gate in it that is shut.
async fn held() -> (Database, Gate) {
    let database = Database::with("create table notes (note text)").await;
    let gate = database.gate().await;
    (database, gate)
}

/// Waits until the work has left its note.
async fn noted(database: &Database) {
    let count = async || (database.count("notes").await == 1).then_some(());
    e2e::eventually("the note", count).await;
}

fn send(trial: &Trial, event: &Value) -> String {
    let event = Event::new(event.to_string(), TIMEOUT);
    let id = event.id.clone();
    trial.lambda().send(event);
    id
}

/// The call by which the host got this event.
async fn next(trial: &Trial, id: &str) -> Call {
    let is_next = |call: &Call| call.what == What::Next && call.id == id;
    trial.lambda().call("the next event", is_next).await
}

/// The caller has its answer while the work goes on, and the next event is asked for when it is done.
#[tokio::test]
async fn finished_work_ends_before_the_next_event_is_asked_for() {
    let (database, gate) = held().await;
    let mut trial = Setup::of(&ONWARD).with(&database).start(Door::Lambda).await;
    let one = send(&trial, &json!({ "after": [waiting(), []] }));
    assert_eq!(trial.lambda().answer(&one).await.what, What::Response);
    gate.waited_for(1).await;
    let other = send(&trial, &json!({}));
    let released = Instant::now();
    gate.open().await;
    let counts: Value = serde_json::from_slice(&trial.lambda().answer(&other).await.body).unwrap();
    assert_eq!(counts, json!({ "served": 2, "done": 2, "gone": 0 }));
    assert!(next(&trial, &other).await.begun >= released);
    noted(&database).await;
    assert!(trial.host.line("the lock was there").await.contains(&one));
    drop(gate);
    database.settles(1).await;
}

/// With a pool of two, so that the later invocations have a connection of their own.
#[tokio::test]
async fn suspended_work_goes_on_during_later_invocations() {
    let (database, gate) = held().await;
    let mut trial = Setup::of(&ONWARD)
        .with(&database)
        .database("pool_max", "2")
        .function("after_answer", "\"suspend\"")
        .start(Door::Lambda)
        .await;
    let one = send(&trial, &json!({ "after": [waiting()] }));
    trial.lambda().answer(&one).await;
    // It is answered although the lock is held, and prints on its own account.
    let query = json!({ "step": { "query": "select 'mine'" } });
    let other = send(
        &trial,
        &json!({ "first": [query, { "print": "another one" }] }),
    );
    let counts: Value = serde_json::from_slice(&trial.lambda().answer(&other).await.body).unwrap();
    assert_eq!(counts["done"], 0);
    gate.waited_for(1).await;
    gate.open().await;
    let done = async || {
        (trial.value(json!({ "first": [{ "sleep": 1 }] })).await["done"] == 1).then_some(())
    };
    e2e::eventually("the work goes on", done).await;
    assert!(trial.host.line("another one").await.contains(&other));
    assert!(trial.host.line("the lock was there").await.contains(&one));
    noted(&database).await;
    drop(gate);
    database.settles(2).await;
}

#[tokio::test]
async fn an_answer_that_awaits_its_work_is_held_back_until_that_is_done() {
    let (database, gate) = held().await;
    let trial = Setup::of(&ONWARD)
        .with(&database)
        .function("after_answer", "\"await\"")
        .start(Door::Lambda)
        .await;
    let id = send(&trial, &json!({ "after": [waiting()] }));
    gate.waited_for(1).await;
    let released = Instant::now();
    gate.open().await;
    let answer = trial.lambda().answer(&id).await;
    assert_eq!(answer.what, What::Response);
    assert!(answer.begun >= released);
    assert_eq!(trial.value(json!({})).await["done"], 1);
}

behind_both_doors! {
    /// Its caller is the one who hears of it.
    async fn awaited_work_that_fails_is_the_answer(door) {
        let trial = Setup::of(&ONWARD).function("after_answer", "\"await\"").start(door).await;
        let error = trial.error(json!({ "after": [[{ "fail": "no paper" }]] })).await;
        assert_eq!(error, ("Failed".to_owned(), "no paper".to_owned()));
        let error = trial.error(json!({ "after": [[{ "panic": "no ink" }]] })).await;
        assert!(error.1.contains("no ink"), "{error:?}");
        assert_eq!(trial.value(json!({})).await["served"], 1);
    }

    /// The answer is out and stays; the log has the fault, and the instance is the same.
    async fn work_that_fails_after_the_answer_is_a_fault_of_its_invocation(door) {
        let mut trial = Setup::of(&ONWARD).start(door).await;
        let answer = trial.invoke(json!({ "after": [[{ "sleep": 20 }, { "fail": "no paper" }]] })).await;
        assert!(!answer.failed);
        assert!(trial.host.line("no paper").await.contains(&answer.request_id));
        assert_eq!(trial.value(json!({})).await["served"], 2);
    }

    async fn each_work_that_fails_is_an_error_in_the_log_with_what_caused_it(door) {
        let mut trial = Setup::of(&ONWARD).start(door).await;
        let fails = |text| json!([{ "fail_because": [text, "no paper"] }]);
        let answer = trial.invoke(json!({ "after": [fails("no receipt"), fails("no bill")] })).await;
        assert!(!answer.failed);
        for text in ["no receipt: no paper", "no bill: no paper"] {
            let line = trial.host.line(text).await;
            assert!(line.contains("ERROR") && line.contains("Failed"), "{line}");
            assert!(line.contains(&answer.request_id), "{line}");
        }
    }

    async fn a_trap_after_the_answer_ends_the_instance_and_no_more(door) {
        let database = Database::create().await;
        let mut trial = Setup::of(&ONWARD).with(&database).database("pool_max", "1").start(door).await;
        let held = json!({ "step": { "transaction": [{ "query": "select 'held'" }], "end": "forget" } });
        let work = json!([held, { "sleep": 20 }, { "panic": "no paper" }]);
        let answer = trial.invoke(json!({ "after": [work] })).await;
        assert_eq!(answer.value()["served"], 1);
        let line = trial.host.line("Function.Panic").await;
        assert!(line.contains(&answer.request_id) && line.contains("no paper"), "{line}");
        assert_eq!(trial.value(json!({})).await["served"], 1);
        database.settles(1).await;
    }

    /// A statement sleeps on the server, and the rest of the work with it.
    async fn work_after_the_answer_ends_at_the_deadline(door) {
        let database = Database::create().await;
        let mut trial = Setup::of(&ONWARD)
            .with(&database)
            .database("pool_max", "1")
            .timeout(SOON)
            .start(door)
            .await;
        let sleeps = json!([{ "step": { "batch": "select pg_sleep(600)" } }]);
        let answer = trial.invoke(json!({ "after": [sleeps] })).await;
        assert!(!answer.failed);
        let line = trial.host.line("Function.DeadlineExceeded").await;
        assert!(line.contains(&answer.request_id), "{line}");
        let query = json!({ "step": { "query": "select 'whole'" } });
        assert_eq!(trial.value(json!({ "first": [query] })).await["served"], 1);
        database.settles(1).await;
    }

    /// What counts is the time in which its instance runs, here for others.
    async fn suspended_work_ends_at_its_own_deadline(door) {
        let database = Database::create().await;
        let trial = Setup::of(&ONWARD)
            .with(&database)
            .database("pool_max", "1")
            .function("after_answer", "\"suspend\"")
            .timeout(SOON)
            .start(door)
            .await;
        let held = json!({ "step": { "transaction": [{ "query": "select 'held'" }], "end": "forget" } });
        let answer = trial.invoke(json!({ "after": [[held, { "sleep": 600_000 }]] })).await;
        assert!(!answer.failed);
        let ended = async || {
            trial.value(json!({ "first": [{ "sleep": 20 }] })).await;
            trial.host.last_line("Function.DeadlineExceeded")
        };
        let line = e2e::eventually("the end of the work", ended).await;
        assert!(line.contains(&answer.request_id), "{line}");
        let query = json!({ "step": { "query": "select 'whole'" } });
        trial.value(json!({ "first": [query] })).await;
        database.settles(1).await;
    }

    /// An instance that is not used again finishes what was suspended in it.
    async fn suspended_work_is_done_in_an_instance_that_is_retired(door) {
        let database = Database::with("create table notes (note text)").await;
        let trial = Setup::of(&ONWARD)
            .with(&database)
            .isolation("\"fresh\"")
            .function("after_answer", "\"suspend\"")
            .start(door)
            .await;
        let work = json!([{ "sleep": 20 }, { "step": { "execute": "insert into notes values ('done')" } }]);
        trial.value(json!({ "after": [work] })).await;
        noted(&database).await;
        assert_eq!(trial.value(json!({})).await["served"], 1);
    }

    /// However the work goes about it, and although the handler has still to wait when it is given.
    async fn work_that_computes_or_blocks_holds_no_answer_back(door) {
        for after_answer in ["\"finish\"", "\"suspend\""] {
            for work in [json!("spin"), json!({ "block": 600_000 })] {
                let wait = json!([{ "then": [work] }, { "sleep": 5 }]);
                for event in [
                    json!({ "after": [[work], [work]] }),
                    json!({ "first": wait }),
                    json!({ "first": wait, "stream": [{ "sleep": 5 }, { "send": "all" }] }),
                ] {
                    let setup = Setup::of(&ONWARD).function("after_answer", after_answer).timeout(SOON);
                    let answer = setup.start(door).await.invoke(event.clone()).await;
                    assert!(!answer.failed, "{after_answer} {event}: {answer:?}");
                }
            }
        }
    }

    /// In a stream too, which is collected here.
    async fn an_answer_is_announced_before_it_is_made(door) {
        let trial = Setup::of(&ONWARD).timeout(SOON).start(door).await;
        let (error_type, message) = trial.error(json!({ "stream": ["spin"] })).await;
        assert_eq!(error_type, "Function.DeadlineExceeded", "{message}");
        assert_eq!(trial.value(json!({})).await["served"], 1);
    }

    async fn an_error_waits_for_no_work(door) {
        for after_answer in ["\"finish\"", "\"suspend\""] {
            let (database, gate) = held().await;
            let trial = Setup::of(&ONWARD)
                .with(&database)
                .function("after_answer", after_answer)
                .function("instances_max", "1")
                .start(door)
                .await;
            let error = trial.error(json!({ "fails": true, "after": [waiting()] })).await;
            assert_eq!(error.0, "Failed", "{after_answer}: {error:?}");
            gate.open().await;
            let done = async || {
                let counts = trial.value(json!({ "first": [{ "sleep": 1 }] })).await;
                (counts["done"] == 1).then_some(())
            };
            e2e::eventually("the work is done", done).await;
            noted(&database).await;
        }
    }

    /// Of which the host was told nothing.
    async fn an_error_waits_for_no_other_task(door) {
        let trial = Setup::of(&ONWARD).timeout(SOON).start(door).await;
        let error = trial.error(json!({ "first": [{ "stray": "on and on" }], "fails": true })).await;
        assert_eq!(error.0, "Failed", "{error:?}");
    }

    /// The caller hears of the first failure only, and the log of both.
    async fn a_function_that_fails_and_awaits_its_work_tells_its_error_then(door) {
        let mut trial = Setup::of(&ONWARD).function("after_answer", "\"await\"").start(door).await;
        let work = json!([[{ "sleep": 20 }, { "print": "done" }, { "fail": "no paper" }]]);
        let error = trial.error(json!({ "fails": true, "after": work })).await;
        assert_eq!(error, ("Failed".to_owned(), "as it was told".to_owned()));
        trial.host.line("no paper").await;
        assert_eq!(trial.host.lines("done"), 1);
        assert_eq!(trial.value(json!({})).await["served"], 2);
    }

    /// One waits after its answer, and the other is answered meanwhile.
    async fn work_after_an_answer_holds_up_nobody_who_shares_the_instance(door) {
        let (database, gate) = held().await;
        let trial = Setup::of(&ONWARD)
            .with(&database)
            .isolation("{ concurrent = 4 }")
            .concurrency(4)
            .start(door)
            .await;
        trial.value(json!({ "after": [waiting()] })).await;
        gate.waited_for(1).await;
        let query = json!({ "step": { "query": "select 'mine'" } });
        let counts = trial.value(json!({ "first": [query] })).await;
        assert_eq!(counts, json!({ "served": 2, "done": 0, "gone": 0 }));
        gate.open().await;
        noted(&database).await;
        drop(gate);
        database.settles(2).await;
    }

    async fn a_drain_does_not_wait_for_work_without_end(door) {
        for after_answer in ["\"suspend\"", "\"finish\""] {
            let (database, gate) = held().await;
            let mut trial = Setup::of(&ONWARD)
                .with(&database)
                .function("after_answer", after_answer)
                .start(door)
                .await;
            trial.value(json!({ "after": [waiting()] })).await;
            trial.host.terminate();
            assert_eq!(trial.host.end(PATIENCE).await.code(), Some(0));
            gate.waited_for(0).await;
            drop(gate);
            database.settles(0).await;
        }
    }

    /// It shares the instance, and so the end of the instance.
    async fn suspended_work_that_traps_ends_the_instance_with_the_invocation_in_it(door) {
        let (database, gate) = held().await;
        let mut trial = Setup::of(&ONWARD)
            .with(&database)
            .function("after_answer", "\"suspend\"")
            .function("instances_max", "1")
            .start(door)
            .await;
        let work = json!([{ "step": { "batch": Gate::PASS } }, { "panic": "no paper" }]);
        let one = trial.invoke(json!({ "after": [work] })).await;
        let other = json!({ "first": [{ "print": "the other one runs" }, { "sleep": 600_000 }] });
        let open = async {
            e2e::eventually("the other one", async || {
                (trial.host.lines("the other one runs") > 0).then_some(())
            })
            .await;
            gate.open().await;
        };
        let (answer, ()) = tokio::join!(trial.invoke(other), open);
        assert_eq!(answer.error().0, "Function.Trap");
        let line = trial.host.line("Function.Panic").await;
        assert!(line.contains(&one.request_id) && line.contains("no paper"), "{line}");
        assert_eq!(trial.value(json!({})).await["served"], 1);
    }
}

/// The server answers while the process stands still.
#[tokio::test]
async fn suspended_work_goes_on_after_a_freeze() {
    let (database, gate) = held().await;
    let trial = Setup::of(&ONWARD)
        .with(&database)
        .function("after_answer", "\"suspend\"")
        .start(Door::Lambda)
        .await;
    trial.value(json!({ "after": [waiting()] })).await;
    trial.lambda().parked(1).await;
    trial.host.freeze();
    gate.open().await;
    trial.host.thaw();
    let done = async || {
        let counts = trial.value(json!({ "first": [{ "sleep": 1 }] })).await;
        (counts["done"] == 1).then_some(())
    };
    e2e::eventually("the work goes on", done).await;
    drop(gate);
    database.settles(1).await;
}

/// No event comes for longer than its invocation had. Its calls have their time too.
#[tokio::test]
async fn a_rest_between_events_takes_no_time_from_suspended_work() {
    let database = Database::with("create table notes (note text)").await;
    let trial = Setup::of(&ONWARD)
        .with(&database)
        .function("after_answer", "\"suspend\"")
        .timeout(SOON)
        .start(Door::Lambda)
        .await;
    let note = json!({ "step": { "execute": "insert into notes values ('done')" } });
    let work = json!([{ "sleep": 50 }, note, { "sleep": 50 }]);
    trial.value(json!({ "after": [work] })).await;
    trial.lambda().parked(1).await;
    let rest = database.client().await;
    rest.batch_execute("select pg_sleep(2.5)").await.unwrap();
    let counts = trial.value(json!({ "first": [{ "sleep": 1_000 }] })).await;
    assert_eq!(counts["served"], 2);
    noted(&database).await;
    assert_eq!(trial.value(json!({})).await["done"], 1);
    assert_eq!(trial.host.lines("Function.DeadlineExceeded"), 0);
}
