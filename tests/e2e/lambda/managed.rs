//! Lambda Managed Instances: nothing is frozen, and the next event is asked for before the last one is cleaned
//! up after; where several events come at a time, beside its answer.

use std::time::Duration;

use e2e::arrival::Reading;
use e2e::guests::{ECHO, ONWARD, QUERY};
use e2e::lambda::What;
use e2e::{Database, Door, Gate, PATIENCE, Setup, Trial, eventually};
use serde_json::{Value, json};

const CONCURRENCY: &str = "AWS_LAMBDA_MAX_CONCURRENCY";

async fn step(trial: &Trial, step: Value) -> Value {
    trial.value(json!({ "steps": [step] })).await[0].take()
}

/// What the invocation leaves behind cannot be removed for as long as the gate is closed, and the
/// connection would be given up for it before long.
#[tokio::test]
async fn an_event_is_asked_for_while_the_last_one_is_cleaned_up_after() {
    let database = Database::create().await;
    let (gate, table) = (database.gate().await, database.client().await);
    let trial = Setup::of(&QUERY)
        .with(&database)
        .database("pool_max", "1")
        .variable(CONCURRENCY, "1")
        .start(Door::Lambda)
        .await;
    let pid = json!({ "query": "select pg_backend_pid()" });
    let before = step(&trial, pid.clone()).await;
    let leave = format!(
        "create temporary table left_over (); commit; {}",
        Gate::PASS
    );
    let event = trial.event(json!({ "steps": [{ "batch": leave }] }).to_string());
    let id = event.id.clone();
    trial.lambda().send(event);
    gate.waited_for(1).await;
    let schema = "select nspname from pg_class c join pg_namespace n on n.oid = relnamespace
        where relname = 'left_over'";
    let schema = database.value(schema).await.unwrap();
    let hold = format!("begin; lock table {schema}.left_over in access share mode");
    table.batch_execute(&hold).await.unwrap();
    gate.open().await;
    trial.lambda().answer(&id).await;
    trial.lambda().parked(1).await;
    table.batch_execute("commit").await.unwrap();
    assert_eq!(step(&trial, pid).await, before);
}

/// An event that finds nobody asking is refused, however soon the answer arrives.
#[tokio::test]
async fn an_event_is_asked_for_before_the_last_ones_answer_has_arrived() {
    let trial = Setup::of(&ECHO).concurrency(2).start(Door::Lambda).await;
    let lambda = trial.lambda();
    let connections = || trial.host.holdings().descriptors;
    let mut at_first = None;
    for number in 0..5 {
        lambda.read(Reading::Held);
        let (first, second) = (trial.event("[1]"), trial.event("[2]"));
        lambda.send(first.clone());
        lambda.arrived(&first.id, 3).await;
        lambda.parked(2).await;
        // By the same slot or the other: neither is busy.
        lambda.send(second.clone());
        lambda.arrived(&second.id, 3).await;
        lambda.parked(2).await;
        lambda.read(Reading::Freely);
        for event in [first, second] {
            let answer = lambda.answer(&event.id).await;
            assert_eq!((answer.what, answer.status), (What::Response, 202));
        }
        let now = connections();
        let most = *at_first.get_or_insert(now) + 2;
        assert!(now <= most, "{now} after {number}");
    }
}

/// Each is held until somebody has read it: one on its way beside the next event, and one before that.
#[tokio::test]
async fn a_slot_whose_answers_nobody_reads_asks_for_no_more_events() {
    const EVENTS: usize = 2 * 2;
    let trial = Setup::of(&ECHO).concurrency(2).start(Door::Lambda).await;
    let lambda = trial.lambda();
    lambda.read(Reading::Held);
    let mut events = Vec::new();
    for _ in 0..EVENTS {
        lambda.some_parked().await;
        let event = trial.event("[1]");
        lambda.send(event.clone());
        lambda.arrived(&event.id, 3).await;
        events.push(event);
    }
    let mut looks = 0;
    eventually("a hundred looks", async || {
        assert!(lambda.asked() <= EVENTS, "{}", lambda.asked());
        looks += 1;
        (looks > 100).then_some(())
    })
    .await;
    lambda.read(Reading::Freely);
    for event in events {
        let answer = lambda.answer(&event.id).await;
        assert_eq!((answer.what, answer.status), (What::Response, 202));
    }
    lambda.parked(2).await;
}

/// The process ends with it, but not before.
#[tokio::test]
async fn an_answer_on_its_way_arrives_before_the_end() {
    let mut trial = Setup::of(&ECHO)
        .concurrency(2)
        .toml("[lambda]\ndrain_timeout_ms = 10000\n")
        .start(Door::Lambda)
        .await;
    let lambda = trial.lambda();
    lambda.read(Reading::Held);
    let event = trial.event("[1]");
    lambda.send(event.clone());
    lambda.arrived(&event.id, 3).await;
    lambda.parked(2).await;
    trial.host.terminate();
    lambda.parked(0).await;
    lambda.read(Reading::Freely);
    assert_eq!(lambda.answer(&event.id).await.status, 202);
    assert!(trial.host.end(PATIENCE).await.success());
}

#[tokio::test]
async fn an_odd_number_of_events_at_a_time_is_the_nearest_that_can_be() {
    for (number, polls) in [("0", 1), ("-1", 1), ("abc", 1), ("99999", 1_600)] {
        let setup = Setup::of(&ECHO)
            .isolation("{ concurrent = 1000 }")
            .variable(CONCURRENCY, number);
        let trial = setup.launch(Door::Lambda).await;
        trial.lambda().parked(polls).await;
        assert_eq!(trial.value(json!([number])).await, json!([number]));
    }
}

/// A query takes several turns, each of which would come behind one of each guest that computes.
#[tokio::test]
async fn a_brief_guest_does_not_wait_for_all_that_compute() {
    const COMPUTE: usize = 63;
    const QUERIES: usize = 40;
    let database = Database::create().await;
    let trial = Setup::of(&ONWARD)
        .with(&database)
        .timeout(Duration::from_secs(600))
        .concurrency(COMPUTE + 1)
        .start(Door::Lambda)
        .await;
    for _ in 0..COMPUTE {
        let event = trial.event(json!({ "first": ["spin"] }).to_string());
        trial.lambda().send(event);
    }
    trial.lambda().parked(1).await;
    let query = json!({ "step": { "execute": "select 1" } });
    let event = json!({ "first": vec![query; QUERIES] });
    // The first one shows that it is brief.
    for (timeout_s, served) in [(600, 1), (8, 2)] {
        let timeout = Duration::from_secs(timeout_s);
        let answer = trial.invoke_within(timeout, event.clone()).await;
        assert_eq!(answer.value()["served"], served);
        trial.lambda().parked(1).await;
    }
}

/// No process is frozen here, nor on the local host, and no event comes. There is one instance, so that the next events
/// meet it.
#[tokio::test]
async fn suspended_work_goes_on_between_events() {
    for (door, isolation, slots) in [
        (Door::Lambda, "\"serial\"", 1),
        (Door::Lambda, "{ concurrent = 2 }", 2),
        (Door::Local, "\"serial\"", 1),
    ] {
        let database = Database::with("create table notes (note text)").await;
        let trial = Setup::of(&ONWARD)
            .with(&database)
            .isolation(isolation)
            .function("instances_max", "1")
            .function("after_answer", "\"suspend\"")
            .variable(CONCURRENCY, &slots.to_string())
            .concurrency(slots)
            .start(door)
            .await;
        let note = json!({ "step": { "execute": "insert into notes values ('done')" } });
        let work = json!([{ "sleep": 20 }, note]);
        trial.value(json!({ "after": [work] })).await;
        eventually("the note", async || {
            (database.count("notes").await == 1).then_some(())
        })
        .await;
        // The instance is used again, at first perhaps before it has heard that the note is there.
        let mut served = 1;
        eventually("that the work is done", async || {
            let counts = trial.value(json!({})).await;
            served += 1;
            assert_eq!(counts["served"], served, "{door:?} {isolation}: {counts}");
            (counts["done"] == 1).then_some(())
        })
        .await;
        // And while something goes on in it.
        for after in [json!([[{ "sleep": 600_000 }]]), json!([])] {
            let counts = trial.value(json!({ "after": after })).await;
            served += 1;
            let expected = json!({ "served": served, "done": 1, "gone": 0 });
            assert_eq!(counts, expected, "{door:?} {isolation}");
        }
    }
}

/// It was done without, in the time of an invocation whose work still goes on.
#[tokio::test]
async fn memory_that_was_refused_explains_no_later_trap() {
    for door in [Door::Lambda, Door::Local] {
        let setup = Setup::of(&ONWARD).function("after_answer", "\"suspend\"");
        let trial = setup.concurrency(2).start(door).await;
        let event = json!({ "first": [{ "want": 1 << 30 }], "after": [[{ "sleep": 600_000 }]] });
        trial.value(event).await;
        let (error_type, _) = trial.error(json!({ "first": ["trap"] })).await;
        assert_eq!(error_type, "Function.Trap");
    }
}

/// An instance takes the work of so many invocations, and the next one's is finished first.
#[tokio::test]
async fn work_that_can_be_suspended_no_more_is_waited_for() {
    let database = Database::create().await;
    let gate = database.gate().await;
    let trial = Setup::of(&ONWARD)
        .with(&database)
        .isolation("{ concurrent = 2 }")
        .function("after_answer", "\"suspend\"")
        .timeout(Duration::from_secs(600))
        .concurrency(2)
        .start(Door::Lambda)
        .await;
    for _ in 0..100 {
        trial
            .value(json!({ "after": [[{ "sleep": 3_600_000 }]] }))
            .await;
    }
    trial.lambda().parked(2).await;
    let waits = json!([{ "step": { "batch": Gate::PASS } }]);
    trial.value(json!({ "after": [waits] })).await;
    gate.waited_for(1).await;
    trial.lambda().parked(1).await;
    gate.open().await;
    trial.lambda().parked(2).await;
}
