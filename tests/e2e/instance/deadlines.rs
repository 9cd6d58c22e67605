//! The deadline is kept by the host, before Lambda would keep it in its own way: the caller gets an
//! error, the server gets a cancellation, and environment and pool stay whole.

use std::time::{Duration, Instant};

use e2e::guests::{MISBEHAVE, QUERY};
use e2e::lambda::{Call, Event, What};
use e2e::{Answer, Database, Door, Gate, Proxy, Setup, Trial, eventually};
use futures_util::future::join_all;
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(2);

/// Proves that it was the deadline that ended an invocation, on a machine however busy.
const LATE: Duration = Duration::from_secs(15);

async fn reaches_its_deadline(trial: &Trial, event: Value) -> Answer {
    let answer = trial.invoke(event).await;
    assert_eq!(answer.error().0, "Function.DeadlineExceeded");
    assert!(answer.took < LATE, "{:?}", answer.took);
    answer
}

behind_both_doors! {
    async fn an_endless_loop_ends(door) {
        let trial = Setup::of(&MISBEHAVE).timeout(TIMEOUT).start(door).await;
        for _ in 0..2 {
            reaches_its_deadline(&trial, json!({ "act": "spin" })).await;
            trial.value(json!({})).await;
        }
    }

    async fn a_guest_that_sleeps_is_not_waited_for(door) {
        let trial = Setup::of(&MISBEHAVE).timeout(TIMEOUT).start(door).await;
        reaches_its_deadline(&trial, json!({ "act": "sleep" })).await;
        trial.value(json!({})).await;
    }

    /// Alone, in a transaction, which is rolled back, and beside others.
    async fn a_query_is_cancelled_on_the_server(door) {
        let database = Database::with("create table things (name text)").await;
        let trial =
            Setup::of(&QUERY).with(&database).database("pool_max", "4").timeout(TIMEOUT).start(door).await;
        let sleep = json!({ "query": "select pg_sleep(600)::text" });
        let insert = json!({ "execute": "insert into things values ('lost')" });
        for (step, connections) in [
            (json!({ "batch": "select pg_sleep(600)" }), 1),
            (json!({ "batch": "begin; insert into things values ('lost'); select pg_sleep(600)" }), 1),
            (json!({ "transaction": [insert, sleep], "end": "commit" }), 1),
            (json!({ "parallel": [sleep, sleep, sleep, sleep] }), 4),
        ] {
            reaches_its_deadline(&trial, json!({ "steps": [step] })).await;
            database.rests().await;
            let after = trial.value(json!({ "steps": [{ "query": "select 'whole'" }] })).await;
            assert_eq!(after[0]["rows"], json!([["whole"]]), "{step}");
            database.settles(connections).await;
            assert_eq!(database.count("things").await, 0, "{step}");
        }
    }

    /// Given up by the guest, long before any deadline; the next call waits for its connection.
    async fn a_query_that_the_guest_drops_is_cancelled_and_its_connection_kept(door) {
        let database = Database::create().await;
        let trial = Setup::of(&QUERY).with(&database).database("pool_max", "1").start(door).await;
        let pid = json!({ "query": "select pg_backend_pid()" });
        let before = trial.value(json!({ "steps": [pid] })).await;
        let steps = json!([{ "abandon": "select pg_sleep(600)" }, pid]);
        let during = trial.value(json!({ "steps": steps })).await;
        assert_eq!(during[0], json!({ "done": false }));
        assert_eq!(during[1], before[0]);
        database.rests().await;
        assert_eq!(trial.value(json!({ "steps": [pid] })).await, before);
    }

    /// The only connection is held by the invocation's own transaction.
    async fn a_pool_exhausted_by_oneself_is_an_error_soon_and_leaks_nothing(door) {
        let database = Database::create().await;
        let trial = Setup::of(&MISBEHAVE)
            .with(&database)
            .database("pool_max", "1")
            .start(door)
            .await;
        for _ in 0..3 {
            let steps = json!([
                { "transaction": [{ "query": "select 'held'" }], "end": "forget" },
                { "query": "select 'waits'" },
            ]);
            let answer = trial.value(json!({ "steps": steps })).await;
            let said = answer["steps"][1]["error"]["message"].as_str().unwrap_or_default();
            let expected = "this invocation holds all 1 connections to the database \"default\" in sessions";
            assert!(said.starts_with(expected), "{answer}");
            let after = trial.value(json!({ "steps": [{ "query": "select 'whole'" }] })).await;
            assert_eq!(after["steps"][0]["rows"], json!([["whole"]]));
            database.settles(1).await;
        }
    }

    /// A neighbour holds all connections until its own deadline; who waits learns why in time.
    async fn a_pool_exhausted_by_others_is_an_error_at_the_deadline(door) {
        let database = Database::create().await;
        let gate = database.gate().await;
        let trial = Setup::of(&QUERY)
            .with(&database)
            .database("pool_max", "1")
            // A twentieth of it is left to tell that there was none.
            .timeout(2 * TIMEOUT)
            .concurrency(2)
            .start(door)
            .await;
        let hold = json!({ "steps": [{ "batch": Gate::PASS }] });
        let (one, other) = tokio::join!(trial.invoke(hold.clone()), trial.invoke(hold));
        let (neighbour, waits) = if one.failed { (one, other) } else { (other, one) };
        assert_eq!(neighbour.error().0, "Function.DeadlineExceeded");
        let results: Value = serde_json::from_slice(&waits.body).unwrap();
        let said = results[0]["error"]["message"].as_str().unwrap_or_default();
        let (start, end) = ("no connection to the database \"default\" came free within ", "; raise `pool_max`");
        assert!(said.starts_with(start) && said.contains(end), "{waits:?}");
        assert!(said.contains(" s: 1 of 1 in use, 0 others waiting"), "{waits:?}");
        for answer in [neighbour, waits] {
            assert!(answer.took < LATE, "{:?}", answer.took);
        }
        gate.open().await;
        drop(gate);
        trial.value(json!({ "steps": [{ "query": "select 'whole'" }] })).await;
        database.settles(1).await;
    }
}

/// Invokes a function that goes on past its deadline until Lambda has the whole answer before that, by its own clock.
/// The host has a tenth of a second for it, which a busy machine may take away, so it may have some attempts; a host
/// that waited for the deadline itself would never be in time.
pub(super) async fn is_once_in_time(
    timeout: Duration,
    mut invoke: impl AsyncFnMut() -> Option<Call>,
) {
    const ATTEMPTS: usize = 10;
    let mut took = Vec::new();
    while took.len() < ATTEMPTS {
        let begun = Instant::now();
        let answered = invoke().await.map(|call| call.at - begun);
        if answered.is_some_and(|took| took < timeout) {
            return;
        }
        took.push(answered);
    }
    panic!("no answer came within {timeout:?}, but after {took:?}");
}

/// The answer is there when Lambda's own clock runs out, not after it.
#[tokio::test]
async fn the_answer_arrives_before_lambdas_own_deadline() {
    let trial = Setup::of(&MISBEHAVE).start(Door::Lambda).await;
    let timeout = Duration::from_secs(1);
    is_once_in_time(timeout, async || {
        let event = Event::new(json!({ "act": "spin" }).to_string(), timeout);
        let id = event.id.clone();
        trial.lambda().send(event);
        Some(trial.lambda().answer(&id).await)
    })
    .await;
    trial.lambda().parked(1).await;
}

/// On Managed Instances: the processors have all of them to interrupt at the same moment.
#[tokio::test]
async fn as_many_as_there_can_be_reach_their_deadline_together() {
    let slots = 64;
    let setup = Setup::of(&MISBEHAVE).concurrency(slots);
    let trial = setup.timeout(TIMEOUT).start(Door::Lambda).await;
    let mut in_time = 0;
    // Late is 410, which a machine that is busy with something else as well makes of some of them.
    for _ in 0..10 {
        trial.lambda().parked(slots).await;
        let events = (0..slots).map(|_| trial.event(json!({ "act": "spin" }).to_string()));
        let calls = join_all(events.map(|event| trial.lambda().invoke(event, None))).await;
        in_time = 0;
        for call in calls {
            let call = call.expect("all were asked for");
            let told = String::from_utf8_lossy(&call.body);
            assert!(told.contains("Function.DeadlineExceeded"), "{told}");
            in_time += usize::from((call.what, call.status) == (What::Error, 202));
        }
        if in_time >= slots * 3 / 4 {
            break;
        }
    }
    assert!(
        in_time >= slots * 3 / 4,
        "{in_time} of {slots} were in time"
    );
    trial.lambda().parked(slots).await;
    trial.value(json!({})).await;
}

/// The server takes its time to say that it has given the query up. The next event is asked for
/// before Lambda's deadline, and the connection is made clean beside it.
#[tokio::test]
async fn a_cancellation_that_is_slow_delays_no_event_and_costs_no_connection() {
    let database = Database::create().await;
    let proxy = Proxy::of(&database);
    let trial = Setup::of(&QUERY)
        .through(&proxy)
        .database("pool_max", "1")
        .timeout(TIMEOUT)
        .start(Door::Lambda)
        .await;
    let pid = json!({ "steps": [{ "query": "select pg_backend_pid()" }] });
    let before = trial.value(pid.clone()).await;
    let sleep = json!({ "steps": [{ "batch": "select pg_sleep(600)" }] });
    let event = trial.event(sleep.to_string());
    let id = event.id.clone();
    trial.lambda().send(event);
    database.sleeps_in(1).await;
    proxy.hold(true);
    trial.lambda().answer(&id).await;
    trial.lambda().parked(1).await;
    proxy.hold(false);
    assert_eq!(trial.value(pid).await, before);
}

/// An event may arrive with its time already over, as after a freeze.
#[tokio::test]
async fn an_event_that_arrives_late_is_answered_all_the_same() {
    let trial = Setup::of(&MISBEHAVE).start(Door::Lambda).await;
    let event = Event::new("{}", Duration::from_secs(30)).header("Lambda-Runtime-Deadline-Ms", "1");
    let id = event.id.clone();
    trial.lambda().send(event);
    trial.lambda().answer(&id).await;
    trial.value(json!({})).await;
}

/// By the clock on the wall, which is the Runtime API's as well, as the dates of its replies have shown.
#[tokio::test]
async fn an_event_whose_time_was_over_before_a_thaw_is_not_run() {
    let mut trial = Setup::of(&MISBEHAVE).start(Door::Lambda).await;
    let count = json!({ "act": "count" });
    assert_eq!(trial.value(count.clone()).await["act"], 1);
    trial.lambda().parked(1).await;
    trial.host.freeze();
    let timeout = Duration::from_secs(1);
    let event = Event::new(count.to_string(), timeout);
    let id = event.id.clone();
    trial.lambda().send(event);
    trial.lambda().parked(0).await;
    let begun = Instant::now();
    let passed = async || (begun.elapsed() > 3 * timeout).then_some(());
    eventually("much more than its time", passed).await;
    trial.host.thaw();
    let call = trial.lambda().answer(&id).await;
    let told = String::from_utf8_lossy(&call.body);
    assert!(told.contains("Function.DeadlineExceeded"), "{told}");
    assert!(told.contains("and was not run"), "{told}");
    let line = trial.host.line("and was not run").await;
    assert!(line.contains("blame=host"), "{line}");
    assert_eq!(trial.value(count).await["act"], 2);
}
