//! What emulators of the Runtime API do, and Lambda does not: AWS's own Runtime Interface Emulator and
//! cargo-lambda's, as they were found to reply.

use std::time::Duration;

use e2e::guests::{ECHO, MISBEHAVE};
use e2e::lambda::{Event, What};
use e2e::{Door, Setup, Trial};
use serde_json::{Value, json};

const DEADLINE: &str = "Lambda-Runtime-Deadline-Ms";

async fn answer(trial: &Trial, event: Event) -> Value {
    let call = trial.lambda().invoke(event, None).await;
    let call = call.expect("somebody asks for it");
    assert_eq!(call.status, 202);
    serde_json::from_slice(&call.body).unwrap()
}

/// Either may go on for as long as it likes, longer than a Runtime API that nobody reaches.
#[tokio::test]
async fn whoever_has_no_event_yet_or_refuses_to_give_one_is_asked_again() {
    let replies = [
        204, 503, 204, 404, 403, 410, 502, 400, 504, 429, 401, 503, 503,
    ];
    let setup = Setup::of(&ECHO);
    let setup = replies
        .into_iter()
        .fold(setup, |setup, status| setup.reply(What::Next, status));
    let trial = setup.start(Door::Lambda).await;
    assert_eq!(trial.value(json!(1)).await, 1);
    let refused = trial.lambda().calls();
    let refused = refused
        .iter()
        .filter(|call| call.what == What::Next && call.status != 200);
    let refused: Vec<u16> = refused.map(|call| call.status).collect();
    assert_eq!(refused, replies);
    assert_eq!(trial.value(json!(2)).await, 2);
}

/// As the local host has it.
#[tokio::test]
async fn an_event_without_a_body_is_an_empty_object() {
    let trial = Setup::of(&ECHO).start(Door::Lambda).await;
    let told = answer(&trial, trial.event("")).await;
    assert_eq!(told, json!({}));
}

/// cargo-lambda's deadline is ten minutes after the beginning of 1970, and its ARN is none.
#[tokio::test]
async fn where_an_event_brings_no_true_deadline_it_has_the_functions_own_time() {
    let timeout = Duration::from_secs(7);
    let trial = Setup::of(&ECHO).timeout(timeout).start(Door::Lambda).await;
    let event = Event::new(json!("context").to_string(), timeout)
        .header(DEADLINE, "600000")
        .header("Lambda-Runtime-Invoked-Function-Arn", "function-arn");
    let told = answer(&trial, event).await;
    assert_eq!(told["function_arn"], "function-arn");
    let remaining_ms = told["remaining_ms"].as_u64().unwrap();
    assert!((1..=7_000).contains(&remaining_ms), "{remaining_ms}");
}

/// On Managed Instances, that of AWS's emulator is a million times too far away. It says the true
/// timeout in a variable, keeps to it, and does not stop the function.
#[tokio::test]
async fn a_deadline_that_is_too_far_away_frees_the_slot_in_time() {
    let timeout = Duration::from_secs(4);
    let trial = Setup::of(&MISBEHAVE)
        .concurrency(2)
        .variable("AWS_LAMBDA_FUNCTION_TIMEOUT", "4")
        .start(Door::Lambda)
        .await;
    let event = Event::new(json!({ "act": "spin" }).to_string(), timeout);
    let deadline: u64 = event.value(DEADLINE).unwrap().parse().unwrap();
    let far = deadline + 4_000 * 1_000_000;
    let told = answer(&trial, event.header(DEADLINE, &far.to_string())).await;
    assert_eq!(told["errorType"], "Function.DeadlineExceeded");
    trial.lambda().parked(2).await;
}
