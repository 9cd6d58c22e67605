//! How streamed answers end that do not end well: by a fault, at the deadline, at a limit or with the environment.
//! Whoever reads one is told, and never takes a part for the whole.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::arrival::Reading;
use e2e::guests::ONWARD;
use e2e::lambda::{Call, Event, What};
use e2e::{Database, Door, PATIENCE, Setup};
use serde_json::{Value, json};

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

/// It could go on forever. Lambda would end the environment; instead the next event finds the pool
/// as it was.
#[tokio::test]
async fn the_deadline_in_the_middle_comes_in_trailers_before_lambdas_own() {
    let database = Database::create().await;
    let trial = Setup::of(&ONWARD)
        .with(&database)
        .database("pool_max", "1")
        .function("response", "\"stream\"")
        .start(Door::Lambda)
        .await;
    let pid = json!({ "step": { "batch": "create table if not exists one (pid int); insert into one values (pg_backend_pid())" } });
    for last in [json!({ "sleep": 600_000 }), json!({ "spin": null })] {
        let last = if last.get("spin").is_some() {
            json!("spin")
        } else {
            last
        };
        let timeout = Duration::from_secs(3);
        let begin = Instant::now();
        let event = json!({ "stream": [pid, { "send": "half" }, last] });
        let id = send(&trial, &event, timeout).await;
        let answer = trial.lambda().answer(&id).await;
        assert_eq!(trailer(&answer).0, "Function.DeadlineExceeded");
        assert!(answer.at - begin < timeout, "{:?}", answer.at - begin);
        trial
            .value(json!({ "first": [pid], "stream": [{ "send": "1" }] }))
            .await;
    }
    let backends = database.value("select count(distinct pid) from one").await;
    assert_eq!(backends.as_deref(), Some("1"));
}

/// It always has something to say, so nothing ever waits for it.
#[tokio::test]
async fn a_stream_that_drips_without_end_is_ended_before_lambdas_own_deadline() {
    for concurrency in [1, 2] {
        let database = Database::create().await;
        let trial = Setup::of(&ONWARD)
            .with(&database)
            .database("pool_max", "1")
            .function("response", "\"stream\"")
            .concurrency(concurrency)
            .start(Door::Lambda)
            .await;
        let pid = json!({ "step": { "batch": "create table if not exists one (pid int); insert into one values (pg_backend_pid())" } });
        let drops = [json!({ "send": "x" }), json!({ "sleep": 3 })];
        let endless = std::iter::once(pid.clone()).chain(drops.into_iter().cycle().take(10_000));
        let endless = json!({ "stream": endless.collect::<Vec<_>>() });
        for _ in 0..2 {
            let timeout = Duration::from_secs(3);
            let begun = Instant::now();
            let event = Event::new(endless.to_string(), timeout);
            let call = trial.lambda().invoke(event, None).await.unwrap();
            assert!(call.at - begun < timeout, "{:?}", call.at - begun);
            assert_eq!((call.what, call.status), (What::Response, 202));
            let error_type = &call.trailers["lambda-runtime-function-error-type"];
            assert_eq!(error_type, "Function.DeadlineExceeded");
            assert!(call.pieces.len() > 1, "{}", call.pieces.len());
            trial
                .value(json!({ "first": [pid], "stream": [{ "send": "1" }] }))
                .await;
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
