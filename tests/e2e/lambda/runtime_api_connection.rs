//! The connection to the Runtime API may end at any point: each event is handled once, and its
//! answer arrives.

use std::time::Duration;

use e2e::guests::{COUNTER, ECHO, MISBEHAVE, ONWARD, QUERY};
use e2e::lambda::{Fate, What};
use e2e::{Cut, Database, Door, PATIENCE, Setup, Trial, eventually};
use serde_json::json;

/// Long enough for a reply to be missed once, and for a busy machine.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What the guest has counted, which is how often it was called.
async fn served(trial: &Trial, fate: Option<Fate>) -> u64 {
    let event = trial.event("{}");
    let call = trial.lambda().invoke(event, fate).await;
    let call = call.expect("one event at a time is always taken");
    assert_eq!(
        (call.what, call.status),
        (What::Response, 202),
        "{:?}",
        call.body
    );
    serde_json::from_slice::<serde_json::Value>(&call.body).unwrap()["served"]
        .as_u64()
        .unwrap()
}

#[tokio::test]
async fn an_event_answer_or_receipt_that_is_lost_costs_no_second_call_of_the_function() {
    let trial = Setup::of(&COUNTER)
        .timeout(TIMEOUT)
        .start(Door::Lambda)
        .await;
    let fates = [Fate::EventLost, Fate::AnswersLost(1), Fate::ReceiptLost];
    for (before, fate) in fates.into_iter().cycle().take(9).enumerate() {
        assert_eq!(
            served(&trial, Some(fate)).await,
            before as u64 + 1,
            "{fate:?}"
        );
    }
}

/// Whenever the host stands still, and whenever it does not.
#[tokio::test]
async fn a_connection_cut_while_an_event_is_waited_for_is_made_again() {
    let trial = Setup::of(&COUNTER)
        .timeout(TIMEOUT)
        .behind_middlebox()
        .start(Door::Lambda)
        .await;
    let mut count = 0;
    for (cut, frozen) in [
        (Cut::Reset, false),
        (Cut::Finish, false),
        (Cut::Reset, true),
        (Cut::Finish, true),
    ] {
        let asked = trial.lambda().asked();
        let connects = trial.middlebox().connects();
        if frozen {
            trial.host.freeze();
        }
        // One waits for an event; the other is the extension's, and is not missed.
        assert!(trial.middlebox().cut(cut).await >= 1);
        if frozen {
            trial.host.thaw();
        }
        trial.lambda().asked_again(asked + 1).await;
        count += 1;
        assert_eq!(served(&trial, None).await, count, "{cut:?}, {frozen}");
        // As many as there were, or one more at the most.
        let made = trial.middlebox().connects() - connects;
        assert!(
            (1..=2).contains(&made),
            "{cut:?}, {frozen}: {made} connects"
        );
    }
}

/// As behind a gateway that has forgotten it. The event that was sent there is handed out again, to whoever
/// asks next.
#[tokio::test]
async fn a_connection_that_falls_silent_while_an_event_is_waited_for_is_made_again() {
    let trial = Setup::of(&COUNTER)
        .timeout(PATIENCE)
        .behind_middlebox()
        .start(Door::Lambda)
        .await;
    let asked = trial.lambda().asked();
    assert!(trial.middlebox().cut(Cut::Drop).await >= 1);
    assert_eq!(served(&trial, None).await, 1);
    assert!(trial.lambda().asked() > asked);
    assert_eq!(served(&trial, None).await, 2);
}

/// It rests while the function runs. Where it falls silent, the answer is swallowed and its reply
/// never comes.
#[tokio::test]
async fn a_connection_cut_during_an_invocation_is_made_again_for_the_answer() {
    let database = Database::with("create table noted (number int8)").await;
    let setup = Setup::of(&QUERY).with(&database).timeout(TIMEOUT);
    let trial = setup.behind_middlebox().start(Door::Lambda).await;
    for (number, cut) in (1..).zip(Cut::ALL) {
        let gate = database.gate().await;
        let steps = json!([{ "transaction": [
            { "execute": format!("insert into noted values ({number})") },
            { "query": "select pg_advisory_xact_lock_shared(1)::text" },
        ], "end": "commit" }]);
        let event = trial.event(json!({ "steps": steps }).to_string());
        let cutting = async {
            gate.waited_for(1).await;
            assert!(trial.middlebox().cut(cut).await >= 1);
            gate.open().await;
        };
        let (call, ()) = tokio::join!(trial.lambda().invoke(event, None), cutting);
        let call = call.unwrap();
        assert_eq!((call.what, call.status), (What::Response, 202), "{cut:?}");
        trial.value(json!({ "steps": [] })).await;
        let noted = database
            .value("select count(*) || ' of ' || max(number) from noted")
            .await;
        assert_eq!(noted, Some(format!("{number} of {number}")), "{cut:?}");
        trial.lambda().parked(1).await;
    }
}

/// As long as Lambda cannot be reached, the answer is kept; Lambda hands the event out again, and
/// gets that.
#[tokio::test]
async fn an_answer_that_cannot_be_posted_is_posted_later() {
    let trial = Setup::of(&COUNTER)
        .timeout(TIMEOUT)
        .behind_middlebox()
        .start(Door::Lambda)
        .await;
    let lambda = trial.lambda();
    // Lost on the connection that is open, and on the next.
    let event = trial.event("{}");
    let again = Fate::AnswersLost(2);
    let call = lambda.invoke(event, Some(again)).await.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&call.body).unwrap();
    assert_eq!(answer["served"], 1);
    assert_eq!(served(&trial, None).await, 2);
}

/// The work may take all of the time that somebody waits for the answer.
#[tokio::test]
async fn an_answer_that_cannot_be_posted_is_posted_again_before_the_work_after_it() {
    for concurrency in [1, 2] {
        for lost in [2, 4] {
            let trial = Setup::of(&ONWARD)
                .timeout(PATIENCE * 10)
                .concurrency(concurrency)
                .start(Door::Lambda)
                .await;
            let event = json!({ "after": [[{ "sleep": 3_600_000 }]] });
            let event = trial.event(event.to_string());
            let lost = Some(Fate::AnswersLost(lost));
            let call = trial.lambda().invoke(event, lost).await.unwrap();
            assert_eq!((call.what, call.status), (What::Response, 202));
        }
    }
}

/// Managed Instances hand out no event twice: only the host can see to it that the answer arrives.
#[tokio::test]
async fn an_answer_that_cannot_be_posted_is_posted_again_beside_the_next_events() {
    let trial = Setup::of(&COUNTER)
        .timeout(TIMEOUT)
        .concurrency(2)
        .start(Door::Lambda)
        .await;
    let event = trial.event("{}");
    let lost = Fate::AnswersLost(3);
    let call = trial.lambda().invoke(event, Some(lost)).await.unwrap();
    assert_eq!((call.what, call.status), (What::Response, 202));
}

/// Nothing of it is left that could be posted again.
#[tokio::test]
async fn a_streamed_answer_that_is_lost_is_an_error_and_costs_no_second_call_of_the_function() {
    let trial = Setup::of(&ONWARD)
        .timeout(TIMEOUT)
        .function("response", "\"stream\"")
        .start(Door::Lambda)
        .await;
    let event = trial.event(json!({ "stream": [{ "send": "1" }] }).to_string());
    let lost = Some(Fate::AnswersLost(1));
    let call = trial.lambda().invoke(event, lost).await.unwrap();
    assert_eq!((call.what, call.status), (What::Error, 202));
    let told = String::from_utf8_lossy(&call.body).into_owned();
    assert!(told.contains("did not arrive"), "{told}");
    assert_eq!(trial.value(json!({})).await["served"], 2);
}

/// As AWS's own emulator does, whoever replies may first wait until the caller has read the answer.
#[tokio::test]
async fn a_long_answer_may_take_longer_than_a_reply_to_a_short_one() {
    const ANSWER: usize = 5 << 20;
    let trial = Setup::of(&ONWARD)
        .timeout(TIMEOUT * 2)
        .behind_middlebox()
        .start(Door::Lambda)
        .await;
    // For each piece of 64 KiB: more than 8 s for all of them.
    trial.middlebox().delay(Duration::from_millis(100));
    let event = trial.event(json!({ "stream": [{ "send_bytes": ANSWER }] }).to_string());
    let id = event.id.clone();
    let call = trial.lambda().invoke(event, None).await.unwrap();
    assert_eq!(
        (call.what, call.status, call.body.len()),
        (What::Response, 202, ANSWER)
    );
    trial.middlebox().delay(Duration::ZERO);
    trial.value(json!({})).await;
    let calls = trial.lambda().calls();
    let answers = calls.iter().filter(|call| call.id == id);
    assert_eq!(answers.filter(|call| call.what != What::Next).count(), 1);
}

/// As AWS's emulator of Managed Instances sends it: nine years ahead.
#[tokio::test]
async fn a_deadline_that_is_impossible_is_the_functions_timeout() {
    let trial = Setup::of(&MISBEHAVE)
        .variable("AWS_LAMBDA_FUNCTION_TIMEOUT", "1")
        .start(Door::Lambda)
        .await;
    let event = trial.event(json!({ "act": "spin" }).to_string());
    let impossible = event.value("Lambda-Runtime-Deadline-Ms").unwrap();
    let impossible = impossible.parse::<u64>().unwrap() + 1_000_000_000;
    let event = event.header("Lambda-Runtime-Deadline-Ms", &impossible.to_string());
    let call = trial.lambda().invoke(event, None).await.unwrap();
    assert_eq!((call.what, call.status), (What::Error, 202));
}

/// So do emulators that serve many functions at one address.
#[tokio::test]
async fn an_address_may_be_a_url_with_a_path() {
    let trial = Setup::of(&ECHO)
        .under_path("/.rt/tested")
        .start(Door::Lambda)
        .await;
    assert_eq!(trial.value(json!("here")).await, json!("here"));
}

/// A reply has no longer than that, so the second copy would come too late. What is longer than the buffers
/// on the way has no more of it.
#[tokio::test]
async fn an_answer_that_is_swallowed_is_posted_again_while_somebody_waits() {
    let database = Database::create().await;
    let trial = Setup::of(&QUERY)
        .with(&database)
        .timeout(Duration::from_secs(5))
        .behind_middlebox()
        .start(Door::Lambda)
        .await;
    for bytes in [10, 200_000] {
        let gate = database.gate().await;
        let sql = format!("select pg_advisory_xact_lock_shared(1)::text || repeat('x', {bytes})");
        let event = trial.event(json!({ "steps": [{ "query": sql }] }).to_string());
        let cutting = async {
            gate.waited_for(1).await;
            assert!(trial.middlebox().cut(Cut::Silence).await >= 1);
            gate.open().await;
        };
        let (call, ()) = tokio::join!(trial.lambda().invoke(event, None), cutting);
        let call = call.unwrap();
        // Late is 410.
        assert_eq!((call.what, call.status), (What::Response, 202), "{bytes}");
        assert!(call.body.len() > bytes);
        trial.lambda().parked(1).await;
    }
}

/// It would be sent again and again by the system for a quarter of an hour. The host pauses while the
/// connection is cut, so that it sends something there afterwards.
#[tokio::test]
async fn a_request_for_an_event_that_does_not_arrive_is_made_again() {
    let setup = Setup::of(&ECHO).behind_middlebox();
    let setup = (0..6).fold(setup, |setup, _| setup.reply(What::Next, 503));
    let trial = setup.launch(Door::Lambda).await;
    eventually("six refusals", async || {
        let calls = trial.lambda().calls();
        let refused = calls.iter().filter(|call| call.status == 503);
        (refused.count() == 6).then_some(())
    })
    .await;
    assert!(trial.middlebox().cut(Cut::Drop).await >= 1);
    assert_eq!(trial.value(json!(1)).await, 1);
}
