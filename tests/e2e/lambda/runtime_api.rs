//! What the Runtime API says with its status codes and headers is done.

use std::time::Duration;

use e2e::guests::{ECHO, MISBEHAVE, ONWARD};
use e2e::lambda::{Call, Event, What};
use e2e::{Door, PATIENCE, Setup, Trial};
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(30);

async fn call(trial: &Trial, event: Event) -> Call {
    let id = event.id.clone();
    trial.lambda().send(event);
    trial.lambda().answer(&id).await
}

/// What the guest was told about an event with these headers.
async fn context(trial: &Trial, headers: &[(&str, &str)]) -> Value {
    let event = Event::new(json!("context").to_string(), TIMEOUT);
    let event = headers
        .iter()
        .fold(event, |event, (name, value)| event.header(name, value));
    serde_json::from_slice(&call(trial, event).await.body).unwrap()
}

/// Where Lambda has no state for it, finds it too large or too late, or knows no such request.
#[tokio::test]
async fn a_response_that_is_refused_is_followed_by_no_error() {
    for (slots, status) in [1, 2]
        .into_iter()
        .flat_map(|slots| [403, 413, 410, 400].map(|status| (slots, status)))
    {
        let setup = Setup::of(&ECHO).concurrency(slots);
        let trial = setup.start(Door::Lambda).await;
        trial.lambda().reply(What::Response, status);
        let event = Event::new("1", TIMEOUT);
        let id = event.id.clone();
        assert_eq!(call(&trial, event).await.status, status);
        assert_eq!(trial.value(json!(2)).await, 2);
        trial.lambda().parked(slots).await;
        let calls = trial.lambda().calls();
        let answers = calls
            .iter()
            .filter(|call| call.id == id && call.what != What::Next);
        let answers: Vec<_> = answers.map(|call| call.what).collect();
        assert_eq!(answers, [What::Response], "{status}, {slots} at a time");
    }
}

#[tokio::test]
async fn an_error_that_comes_too_late_is_not_sent_again() {
    let trial = Setup::of(&MISBEHAVE).start(Door::Lambda).await;
    trial.lambda().reply(What::Error, 410);
    let event = Event::new(json!({ "act": "fail" }).to_string(), TIMEOUT);
    assert_eq!(call(&trial, event.clone()).await.status, 410);
    trial.value(json!({})).await;
    assert_eq!(
        trial
            .lambda()
            .calls()
            .iter()
            .filter(|call| call.what == What::Error)
            .count(),
        1
    );
}

/// Lambda says that its container is beyond repair.
#[tokio::test]
async fn a_500_ends_the_process() {
    for slots in [1, 2] {
        let setup = Setup::of(&ECHO).concurrency(slots);
        let mut trial = setup.start(Door::Lambda).await;
        trial.lambda().reply(What::Response, 500);
        call(&trial, Event::new("1", TIMEOUT)).await;
        let status = trial.host.end(PATIENCE).await;
        let is_failure = status.code().is_some_and(|code| code != 0);
        assert!(is_failure, "{slots} at a time: {status}");
    }
}

/// It is to be prompt.
#[tokio::test]
async fn a_500_ends_the_process_before_the_work_after_the_answer() {
    let setup = Setup::of(&ONWARD).timeout(PATIENCE * 10);
    let mut trial = setup.start(Door::Lambda).await;
    trial.lambda().reply(What::Response, 500);
    let event = json!({ "after": [[{ "sleep": 3_600_000 }]] });
    trial.lambda().send(trial.event(event.to_string()));
    let status = trial.host.end(PATIENCE).await;
    assert!(status.code().is_some_and(|code| code != 0), "{status}");
}

/// Others would be made `Function.Unknown`.
#[tokio::test]
async fn lambda_counts_an_error_by_the_functions_own_name_where_it_can() {
    let trial = Setup::of(&MISBEHAVE).start(Door::Lambda).await;
    for (own, expected) in [
        ("Function.OutOfStock", "Function.OutOfStock"),
        ("OutOfStock", "Function.Error"),
    ] {
        let event = json!({ "act": "fail", "text": own });
        let answer = call(&trial, Event::new(event.to_string(), TIMEOUT)).await;
        assert_eq!(
            answer.header("Lambda-Runtime-Function-Error-Type"),
            expected
        );
        let told: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(told["errorType"], own);
    }
}

#[tokio::test]
async fn the_invocation_id_is_echoed_if_there_was_one() {
    let trial = Setup::of(&MISBEHAVE).start(Door::Lambda).await;
    for act in ["return", "fail"] {
        let event = Event::new(json!({ "act": act }).to_string(), TIMEOUT);
        let answer = call(
            &trial,
            event
                .clone()
                .header("Lambda-Runtime-Invocation-Id", "attempt-7"),
        )
        .await;
        assert_eq!(
            answer.header("lambda-runtime-invocation-id"),
            "attempt-7",
            "{act}"
        );
    }
    let answer = call(&trial, Event::new("{}", TIMEOUT)).await;
    assert!(!answer.headers.contains_key("lambda-runtime-invocation-id"));
}

#[tokio::test]
async fn the_guest_is_told_what_lambda_said_of_the_event() {
    let trial = Setup::of(&ECHO).start(Door::Lambda).await;
    let headers = [
        (
            "Lambda-Runtime-Aws-Request-Id",
            "8f5afaa8-0000-4000-8000-000000000001",
        ),
        (
            "Lambda-Runtime-Invoked-Function-Arn",
            "arn:aws:lambda:eu-central-1:123456789012:function:tested:live",
        ),
        (
            "Lambda-Runtime-Trace-Id",
            "Root=1-a;Parent=b;Sampled=0;Lineage=c:0",
        ),
        ("Lambda-Runtime-Client-Context", r#"{"custom":{"a":"b"}}"#),
        (
            "Lambda-Runtime-Cognito-Identity",
            r#"{"cognitoIdentityId":"i","cognitoIdentityPoolId":"p"}"#,
        ),
        ("Lambda-Runtime-Aws-Tenant-Id", "blue"),
    ];
    let told = context(&trial, &headers).await;
    assert_eq!(told["request_id"], headers[0].1);
    assert_eq!(told["function_arn"], headers[1].1);
    assert_eq!(told["trace_id"], headers[2].1);
    assert_eq!(told["client_context"], headers[3].1);
    assert_eq!(told["identity"], headers[4].1);
    assert_eq!(told["tenant_id"], headers[5].1);
    assert_eq!(
        (&told["function_name"], &told["function_version"]),
        (&json!("tested"), &json!("$LATEST"))
    );
    let remaining_ms = told["remaining_ms"].as_u64().unwrap();
    assert!(
        (1..=TIMEOUT.as_millis() as u64).contains(&remaining_ms),
        "{remaining_ms}"
    );
}

#[tokio::test]
async fn an_empty_header_is_an_absent_one() {
    let trial = Setup::of(&ECHO).start(Door::Lambda).await;
    let names = [
        "Trace-Id",
        "Client-Context",
        "Cognito-Identity",
        "Aws-Tenant-Id",
        "Invocation-Id",
    ];
    let names = names.map(|name| format!("Lambda-Runtime-{name}"));
    let headers: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    let told = context(&trial, &headers).await;
    for key in ["trace_id", "client_context", "identity", "tenant_id"] {
        assert_eq!(told[key], Value::Null, "{key}");
    }
    let calls = trial.lambda().calls();
    let answer = calls
        .iter()
        .find(|call| call.what == What::Response)
        .unwrap();
    assert!(!answer.headers.contains_key("lambda-runtime-invocation-id"));
}

#[tokio::test]
async fn bytes_come_and_go_as_they_are() {
    let trial = Setup::of(&ECHO).start(Door::Lambda).await;
    for payload in [&b"{\"a\" : 1.0}\n"[..], b"null", &[0, 255, 254, 10]] {
        let answer = call(&trial, Event::new(payload, TIMEOUT)).await;
        assert_eq!(answer.what, What::Response);
        assert_eq!(answer.body, payload);
        assert_eq!(answer.header("content-type"), "application/json");
        // Anything but `streaming` fails the invocation.
        assert!(
            !answer
                .headers
                .contains_key("lambda-runtime-function-response-mode")
        );
    }
}

#[tokio::test]
async fn an_event_as_large_as_lambda_allows_is_served() {
    let trial = Setup::of(&ECHO).start(Door::Lambda).await;
    let payload = vec![b'7'; 6 * 1024 * 1024];
    let answer = call(&trial, Event::new(payload.clone(), TIMEOUT)).await;
    assert!(
        answer.what == What::Response && answer.body == payload,
        "{:?}",
        answer.what
    );
}

/// A retry brings the same request id again.
#[tokio::test]
async fn the_same_request_id_twice_is_two_invocations() {
    let trial = Setup::of(&ECHO).start(Door::Lambda).await;
    let event = Event::new("1", TIMEOUT);
    for _ in 0..2 {
        trial.lambda().send(event.clone());
    }
    let twice = async || {
        let calls = trial.lambda().calls();
        (calls
            .iter()
            .filter(|call| call.what == What::Response && call.id == event.id)
            .count()
            == 2)
            .then_some(())
    };
    e2e::eventually("two answers", twice).await;
}

#[tokio::test]
async fn a_next_that_fails_is_asked_again() {
    let trial = Setup::of(&ECHO).start(Door::Lambda).await;
    trial.lambda().reply(What::Next, 503);
    assert_eq!(trial.value(json!(1)).await, 1);
    assert_eq!(trial.value(json!(2)).await, 2);
    assert_eq!(trial.value(json!(3)).await, 3);
}

/// With concurrency, Lambda sends as many events as there are calls that wait.
#[tokio::test]
async fn as_many_calls_wait_as_lambda_allows_at_a_time() {
    let trial = Setup::of(&ECHO).concurrency(5).start(Door::Lambda).await;
    trial.lambda().parked(5).await;
    assert_eq!(trial.value(json!(1)).await, 1);
    trial.lambda().parked(5).await;
}

#[tokio::test]
async fn what_a_newer_lambda_says_reaches_the_guest() {
    let trial = Setup::of(&ECHO).start(Door::Lambda).await;
    let told = context(&trial, &[("Lambda-Runtime-Weather", "mild")]).await;
    assert_eq!(told["header"], "mild");
    assert_eq!(context(&trial, &[]).await["header"], Value::Null);
}

/// The names are those of the source, and so is what X-Ray is told.
#[tokio::test]
async fn a_panic_comes_with_the_functions_on_the_stack() {
    let trial = Setup::of(&MISBEHAVE).start(Door::Lambda).await;
    let answer = call(
        &trial,
        Event::new(json!({ "act": "panic" }).to_string(), TIMEOUT),
    )
    .await;
    let error: Value = serde_json::from_slice(&answer.body).unwrap();
    let stack = error["stackTrace"].as_array().unwrap();
    assert_eq!(stack[0], "misbehave::misbehave", "{error}");
    let header = answer.header("Lambda-Runtime-Function-XRay-Error-Cause");
    let cause: Value = serde_json::from_str(header).unwrap();
    let exception = &cause["exceptions"][0];
    assert_eq!(exception["type"], "Function.Panic");
    assert_eq!(exception["message"], error["errorMessage"]);
    assert_eq!(exception["stack"][0]["label"], stack[0]);
    assert!(cause["working_directory"].is_string() && cause["paths"].is_array());
}

/// A guest that computes keeps a thread busy, but not for long the one that asks for events and answers them.
#[tokio::test]
async fn guests_that_compute_in_all_other_slots_delay_no_event() {
    let slots = 8;
    let trial = Setup::of(&MISBEHAVE)
        .concurrency(slots)
        .start(Door::Lambda)
        .await;
    let spinning: Vec<Event> = (1..slots)
        .map(|_| Event::new(json!({ "act": "spin" }).to_string(), TIMEOUT))
        .collect();
    for event in &spinning {
        trial.lambda().send(event.clone());
    }
    for _ in 0..20 {
        trial.lambda().parked(1).await;
        let counted = trial.value(json!({ "act": "count" })).await;
        assert!(counted["act"].is_u64());
    }
    let answered = trial.lambda().calls();
    let answered = |event: &Event| {
        answered
            .iter()
            .any(|call| call.what == What::Error && call.id == event.id)
    };
    assert!(
        !spinning.iter().any(answered),
        "they compute until their deadline"
    );
}

/// Some emulators let the caller choose the id.
#[tokio::test]
async fn a_request_id_may_be_any_text() {
    let trial = Setup::of(&ECHO).start(Door::Lambda).await;
    for id in ["a b", "r#1", "r?x=/1", "100%", "%41", "r/../../next"] {
        let event = Event::new("1", TIMEOUT).header("Lambda-Runtime-Aws-Request-Id", id);
        let answer = call(&trial, event).await;
        assert_eq!((answer.what, answer.status), (What::Response, 202), "{id}");
    }
}

/// What an HTTP server takes of headers is not the same everywhere.
#[tokio::test]
async fn an_error_whose_headers_are_too_large_is_posted_without_xrays() {
    let trial = Setup::of(&MISBEHAVE).start(Door::Lambda).await;
    trial.lambda().reply(What::Error, 431);
    let event = Event::new(json!({ "act": "panic" }).to_string(), TIMEOUT);
    let id = event.id.clone();
    trial.lambda().send(event);
    let wanted = |call: &Call| call.what == What::Error && call.id == id && call.status == 202;
    let answer = trial.lambda().call("an error that is taken", wanted).await;
    let cause = "Lambda-Runtime-Function-XRay-Error-Cause";
    assert!(!answer.headers.contains_key(cause));
    trial.value(json!({})).await;
}

/// Lambda sends none; whoever does would hand it out again and again.
#[tokio::test]
async fn an_event_larger_than_the_host_takes_is_answered_with_an_error() {
    for slots in [1, 2] {
        let setup = Setup::of(&ECHO).concurrency(slots);
        let trial = setup.start(Door::Lambda).await;
        let event = Event::new(vec![b'7'; 17 << 20], TIMEOUT);
        let answer = call(&trial, event).await;
        assert_eq!((answer.what, answer.status), (What::Error, 202));
        let told: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(told["errorType"], "Function.InvalidEvent");
        assert_eq!(trial.value(json!(1)).await, 1);
        let calls = trial.lambda().calls();
        let of_it = calls.iter().filter(|call| call.id == answer.id);
        assert_eq!(of_it.count(), 2, "it is handed out once, and answered once");
    }
}
