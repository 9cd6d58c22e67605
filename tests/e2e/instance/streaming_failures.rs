//! How streamed answers end that do not end well: by a fault, at the deadline, at a limit or with the environment.
//! Whoever reads one is told, and never takes a part for the whole.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::arrival::Reading;
use e2e::guests::ONWARD;
use e2e::lambda::{Call, What};
use e2e::{Database, Door, PATIENCE, Setup, Trial, eventually};
use serde_json::{Value, json};

use super::deadlines::is_once_in_time;
use super::streaming::{TIMEOUT, call, send, streaming};

/// The type and the document of the error behind an answer.
fn trailer(call: &Call) -> (String, Value) {
    let text = |name: &str| {
        let value = call.trailers.get(name).map(|value| value.to_str().unwrap());
        value.unwrap_or_else(|| panic!("no {name} in {:?}", call.trailers))
    };
    let body = STANDARD
        .decode(text("lambda-runtime-function-error-body"))
        .unwrap();
    let error_type = text("lambda-runtime-function-error-type").to_owned();
    (error_type, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn a_fault_before_the_first_byte_is_an_error_like_any_other() {
    for form in ["stream", "http-stream"] {
        let trial = streaming(form).await;
        for (act, error_type) in [("fail", "Failed"), ("panic", "Function.Panic")] {
            let answer = call(&trial, &json!({ "stream": [{ act: "no paper" }] })).await;
            assert_eq!(answer.what, What::Error);
            let told: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(told["errorType"], error_type);
            let answer = call(&trial, &json!({ "stream": [{ "send": "1" }] })).await;
            assert_eq!(answer.what, What::Response);
        }
    }
}

#[tokio::test]
async fn a_fault_in_the_middle_comes_in_trailers() {
    let mut trial = streaming("stream").await;
    let cases = [
        ("fail", "Function.Error", "Failed"),
        ("panic", "Function.Panic", "Function.Panic"),
    ];
    for (act, error_type, named) in cases {
        let event = json!({ "stream": [{ "send": "half" }, { "sleep": 20 }, { act: "no paper" }] });
        let answer = call(&trial, &event).await;
        assert_eq!(
            (answer.what, &answer.body[..]),
            (What::Response, &b"half"[..])
        );
        let (told, document) = trailer(&answer);
        assert_eq!(
            (told.as_str(), &document["errorType"]),
            (error_type, &json!(named))
        );
        assert!(
            document["errorMessage"]
                .as_str()
                .unwrap()
                .contains("no paper")
        );
        assert!(trial.host.line(named).await.contains("request_id"));
        trial.value(json!({ "stream": [{ "send": "1" }] })).await;
    }
}

/// The answer to an event; none if its end did not arrive, as the host says then.
async fn answer_if_whole(trial: &Trial, id: &str) -> Option<Call> {
    eventually("an answer, or that it did not arrive", async || {
        let mut calls = trial.lambda().calls().into_iter();
        let answer = calls.find(|call| call.id == id && call.what != What::Next);
        let is_cut = |line: &String| line.contains("did not arrive") && line.contains(id);
        let is_cut = trial.host.log().iter().any(is_cut);
        (answer.is_some() || is_cut).then_some(answer)
    })
    .await
}

/// Whether it sleeps, computes, or always has something to say, so that nothing ever waits for it. Lambda would end the
/// environment; instead the next event finds the pool as it was.
#[tokio::test]
async fn the_deadline_in_the_middle_comes_in_trailers_before_lambdas_own() {
    let timeout = Duration::from_secs(2);
    let drop = [json!({ "send": "x" }), json!({ "sleep": 3 })];
    let dripping: Vec<Value> = drop.into_iter().cycle().take(10_000).collect();
    for concurrency in [1, 2] {
        let database = Database::with("create table one (pid int)").await;
        let trial = Setup::of(&ONWARD)
            .with(&database)
            .database("pool_max", "1")
            .function("response", "\"stream\"")
            .concurrency(concurrency)
            .start(Door::Lambda)
            .await;
        let pid = json!({ "step": { "batch": "insert into one values (pg_backend_pid())" } });
        for (what, rest) in [
            ("sleeps", vec![json!({ "sleep": 600_000 })]),
            ("computes", vec![json!("spin")]),
            ("drips", dripping.clone()),
        ] {
            let begun = [pid.clone(), json!({ "send": "half" })];
            let acts = [&begun[..], &rest].concat();
            let event = json!({ "stream": acts });
            is_once_in_time(timeout, async || {
                let id = send(&trial, &event, timeout).await;
                let answer = answer_if_whole(&trial, &id).await?;
                assert_eq!(
                    (answer.what, answer.status),
                    (What::Response, 202),
                    "{what}"
                );
                assert_eq!(trailer(&answer).0, "Function.DeadlineExceeded", "{what}");
                let is_dripping = answer.pieces.len() > 1;
                assert_eq!(is_dripping, what == "drips", "{what}: {:?}", answer.pieces);
                Some(answer)
            })
            .await;
            let next = json!({ "first": [pid], "stream": [{ "send": "1" }] });
            assert_eq!(trial.value(next).await, 1, "{what}");
            trial.lambda().parked(concurrency).await;
        }
        let backends = database.value("select count(distinct pid) from one").await;
        assert_eq!(backends.as_deref(), Some("1"), "{concurrency}");
    }
}

/// The function gets an error before Lambda would give one.
#[tokio::test]
async fn a_stream_ends_at_lambdas_limit() {
    let mut trial = streaming("stream").await;
    let answer = call(&trial, &json!({ "stream": ["send_forever"] })).await;
    let (error_type, document) = trailer(&answer);
    assert_eq!(error_type, "Function.ResponseTooLarge");
    assert!(
        document["errorMessage"]
            .as_str()
            .unwrap()
            .contains("209715200 are the most")
    );
    let bytes: usize = answer.pieces.iter().map(|(_, bytes)| bytes).sum();
    assert!((200 << 20) - bytes <= 64 << 10, "{bytes}");
    trial.host.line("gone").await;
    trial.value(json!({ "stream": [{ "send": "1" }] })).await;
}

/// The stream is cut, with trailers, when the environment ends.
#[tokio::test]
async fn a_drain_cuts_a_stream_short() {
    let mut trial = streaming("stream").await;
    let event = json!({ "stream": [{ "send": "half" }, { "sleep": 600_000 }] });
    let id = send(&trial, &event, TIMEOUT).await;
    trial.lambda().arrived(&id, 4).await;
    trial.host.terminate();
    let answer = trial.lambda().answer(&id).await;
    assert_eq!(trailer(&answer).0, "Runtime.InternalError");
    assert_eq!(trial.host.end(PATIENCE).await.code(), Some(0));
}

/// Given up by the function itself, whether its producer goes on behind it or ends as if nothing had been.
#[tokio::test]
async fn an_answer_with_a_torn_piece_ends_with_a_failure() {
    for behind in [None, Some(json!({ "send": "behind it" }))] {
        let mut trial = streaming("stream").await;
        trial.lambda().read(Reading::Held);
        // More than the buffers on the way have room for.
        let torn = json!({ "tear": [64 << 20, 500] });
        let acts: Vec<_> = [Some(torn), behind].into_iter().flatten().collect();
        let id = send(&trial, &json!({ "stream": acts }), TIMEOUT).await;
        trial.host.line("torn: true").await;
        trial.lambda().read(Reading::Freely);
        let answer = trial.lambda().answer(&id).await;
        let (error_type, document) = trailer(&answer);
        let message = document["errorMessage"].as_str().unwrap();
        assert_eq!(error_type, "Function.Error", "{message}");
        assert!(message.contains("given up half-way"), "{message}");
        assert!(answer.body.iter().all(|byte| *byte == b'x'));
        trial.value(json!({ "stream": [{ "send": "1" }] })).await;
    }
}
