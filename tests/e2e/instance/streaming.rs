//! Answers that go out while they are made: in Lambda's two forms, at the reader's pace, to an end that the caller
//! is told of. How they end where they do not end well is in `streaming_failures.rs`.

use std::time::{Duration, Instant};

use e2e::arrival::Reading;
use e2e::guests::{ECHO, ONWARD};
use e2e::lambda::{Call, Event, What};
use e2e::{Database, Door, Gate, PATIENCE, Setup, Trial};
use serde_json::{Value, json};

pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) async fn send(trial: &Trial, event: &Value, timeout: Duration) -> String {
    let event = Event::new(event.to_string(), timeout);
    let id = event.id.clone();
    trial.lambda().send(event);
    id
}

pub(super) async fn call(trial: &Trial, event: &Value) -> Call {
    let id = send(trial, event, TIMEOUT).await;
    trial.lambda().answer(&id).await
}

pub(super) async fn streaming(form: &str) -> Trial {
    streaming_at_once(1, form).await
}

/// For so many events at a time.
async fn streaming_at_once(slots: usize, form: &str) -> Trial {
    Setup::of(&ONWARD)
        .function("response", &format!("{form:?}"))
        .concurrency(slots)
        .start(Door::Lambda)
        .await
}

/// What the guest has printed that it sent, in bytes.
fn sent(trial: &Trial) -> usize {
    let log = trial.host.log();
    let lines = log.iter().filter_map(|line| line.split_once("sent "));
    let bytes = lines.filter_map(|(_, rest)| rest.split(' ').next()?.parse().ok());
    bytes.max().unwrap_or(0)
}

/// The second piece is sent when the first has arrived.
#[tokio::test]
async fn a_piece_is_on_its_way_while_the_next_is_made() {
    let database = Database::create().await;
    let gate = database.gate().await;
    let trial = Setup::of(&ONWARD)
        .with(&database)
        .function("response", "\"stream\"")
        .start(Door::Lambda)
        .await;
    let wait = json!({ "step": { "batch": Gate::PASS } });
    let event = json!({ "stream": [{ "send": "one" }, wait, { "send": ", two" }] });
    let id = send(&trial, &event, TIMEOUT).await;
    trial.lambda().arrived(&id, 3).await;
    let released = Instant::now();
    gate.open().await;
    let answer = trial.lambda().answer(&id).await;
    assert_eq!(&answer.body[..], b"one, two");
    assert!(answer.pieces[0].0 < released && answer.pieces[1].0 >= released);
    for (name, value) in [
        ("lambda-runtime-function-response-mode", "streaming"),
        ("transfer-encoding", "chunked"),
        ("content-type", "application/octet-stream"),
        (
            "trailer",
            "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body",
        ),
    ] {
        assert_eq!(answer.header(name), value);
    }
    assert!(answer.trailers.is_empty());
    assert_eq!(trial.lambda().answer(&id).await.status, 202);
    trial.lambda().parked(1).await;
}

#[tokio::test]
async fn an_http_answer_begins_with_its_head() {
    let trial = streaming("http-stream").await;
    let event = json!({
        "http": { "status": 201, "headers": [["content-type", "text/plain"]], "cookies": ["a=1"] },
        "stream": [{ "send": "made" }],
    });
    let answer = call(&trial, &event).await;
    let content_type = "application/vnd.awslambda.http-integration-response";
    assert_eq!(answer.header("content-type"), content_type);
    let head = br#"{"statusCode":201,"headers":{"content-type":"text/plain"},"cookies":["a=1"]}"#;
    assert_eq!(answer.body, [&head[..], &[0; 8], b"made"].concat());
    // cargo-lambda takes the first piece for the head, and the second for what stands behind it.
    let pieces: Vec<usize> = answer.pieces.iter().map(|(_, bytes)| *bytes).collect();
    assert_eq!(pieces, [head.len(), 8, 4]);
    // Said in no other way, an answer is what the function's bytes are to Lambda.
    let answer = call(&trial, &json!({})).await;
    let head = br#"{"statusCode":200,"headers":{"content-type":"application/json"},"cookies":[]}"#;
    assert!(
        answer
            .body
            .starts_with(&[&head[..], &[0; 8], b"{"].concat()),
        "{:?}",
        answer.body
    );
}

#[tokio::test]
async fn a_head_that_is_none_is_refused_before_anything_is_sent() {
    let trial = streaming("http-stream").await;
    let event = json!({ "http": { "status": 42 }, "stream": [{ "send": "made" }] });
    let answer = call(&trial, &event).await;
    assert_eq!(answer.what, What::Error);
    let trial = streaming("stream").await;
    let event = json!({ "http": { "status": 200 }, "stream": [{ "send": "made" }] });
    let answer = call(&trial, &event).await;
    let told = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(
        answer.what == What::Error && told.contains("http-stream"),
        "{told}"
    );
}

/// What is whole already goes out as a stream, where that is the form.
#[tokio::test]
async fn bytes_are_a_stream_of_one_piece() {
    let trial = Setup::of(&ECHO)
        .function("response", "\"stream\"")
        .start(Door::Lambda)
        .await;
    let answer = call(&trial, &json!([1])).await;
    assert_eq!(
        answer.header("lambda-runtime-function-response-mode"),
        "streaming"
    );
    assert_eq!(&answer.body[..], b"[1]");
}

/// As that of a 204 or of a redirect. Where there are several slots, one that ended by it would end all others.
#[tokio::test]
async fn a_stream_without_a_byte_is_an_answer() {
    let http = json!({ "http": { "status": 204 }, "stream": [] });
    let head = &br#"{"statusCode":204,"headers":{},"cookies":[]}"#[..];
    for (slots, form, event, expected) in [
        (1, "stream", json!({ "stream": [] }), Vec::new()),
        (2, "stream", json!({ "stream": [] }), Vec::new()),
        (1, "http-stream", http, [head, &[0; 8]].concat()),
    ] {
        let trial = streaming_at_once(slots, form).await;
        for _ in 0..2 {
            let answer = call(&trial, &event).await;
            assert_eq!(
                (answer.what, answer.status),
                (What::Response, 202),
                "{slots} {form}"
            );
            assert!(
                answer.trailers.is_empty(),
                "{slots} {form}: {:?}",
                answer.trailers
            );
            assert_eq!(answer.body, expected, "{slots} {form}");
        }
    }
}

/// The guest sends 64 MiB to someone who reads nothing: it gets as far as the buffers on the way
/// have room, and no further; then everything.
#[tokio::test]
async fn a_slow_reader_slows_the_guest_down() {
    const ALL: usize = 64 << 20;
    let trial = streaming("stream").await;
    trial.lambda().read(Reading::Held);
    let id = send(
        &trial,
        &json!({ "stream": [{ "send_bytes": ALL }] }),
        TIMEOUT,
    )
    .await;
    trial.lambda().arrived(&id, 1).await;
    // Until nothing has moved for a hundred looks.
    let (mut still, mut last) = (0, 0);
    e2e::eventually("the guest stands still", async || {
        let now = sent(&trial);
        still = if now == last { still + 1 } else { 0 };
        last = now;
        (still > 100).then_some(())
    })
    .await;
    assert!(last < ALL / 2, "{last} bytes were taken from the guest");
    trial.lambda().read(Reading::Freely);
    let answer = trial.lambda().answer(&id).await;
    let bytes: usize = answer.pieces.iter().map(|(_, bytes)| bytes).sum();
    assert_eq!(bytes, ALL);
    assert!(answer.trailers.is_empty());
}

/// The guest is told, and can go on with something else.
#[tokio::test]
async fn a_caller_who_goes_away_is_noticed_by_the_guest() {
    let mut trial = streaming("stream").await;
    trial.lambda().read(Reading::Hanging);
    send(&trial, &json!({ "stream": ["send_forever"] }), TIMEOUT).await;
    trial.host.line("gone").await;
    trial.lambda().read(Reading::Freely);
    trial.value(json!({ "stream": [{ "send": "1" }] })).await;
}

/// Nobody reads any more, and nobody says so.
#[tokio::test]
async fn a_reader_who_stops_is_waited_for_until_the_deadline() {
    let mut trial = streaming("stream").await;
    trial.lambda().read(Reading::Held);
    let event = json!({ "stream": [{ "send_bytes": 64 << 20 }] });
    send(&trial, &event, Duration::from_secs(2)).await;
    trial.host.line("before the deadline").await;
    trial.lambda().parked(1).await;
    trial.lambda().read(Reading::Freely);
    trial.value(json!({ "stream": [{ "send": "1" }] })).await;
}

/// A refusal ends the stream and nothing else: nothing is posted after it, and the next event is asked for.
#[tokio::test]
async fn a_streamed_answer_that_is_refused_is_told_once() {
    for slots in [1, 2] {
        let trial = streaming_at_once(slots, "stream").await;
        for status in [400, 403, 410, 413] {
            trial.lambda().reply(What::Response, status);
            let answer = call(&trial, &json!({ "stream": [{ "send": "1" }] })).await;
            assert_eq!(answer.status, status);
            trial.value(json!({ "stream": [{ "send": "1" }] })).await;
            trial.lambda().parked(slots).await;
            let calls = trial.lambda().calls();
            let told = calls
                .iter()
                .filter(|call| call.id == answer.id && call.what != What::Next);
            assert_eq!(told.count(), 1, "{status}, {slots} at a time");
        }
    }
}

#[tokio::test]
async fn a_500_to_a_stream_ends_the_process() {
    let mut trial = streaming("stream").await;
    trial.lambda().reply(What::Response, 500);
    call(&trial, &json!({ "stream": [{ "send": "1" }] })).await;
    let status = trial.host.end(PATIENCE).await;
    assert!(status.code().is_some_and(|code| code != 0), "{status}");
}

/// The body is out; what goes on after it is waited for as after any answer.
#[tokio::test]
async fn work_goes_on_after_the_end_of_a_stream() {
    let trial = streaming("stream").await;
    let event = json!({ "stream": [{ "then": [{ "sleep": 50 }] }, { "send": "1" }] });
    let id = send(&trial, &event, TIMEOUT).await;
    assert!(trial.lambda().answer(&id).await.trailers.is_empty());
    assert_eq!(trial.value(json!({})).await["done"], 1);
}

behind_both_doors! {
    async fn a_stream_is_collected_where_the_answer_is_to_be_whole(door) {
        // Of one instance alone it is known how many invocations it has seen.
        let trial = Setup::of(&ONWARD).function("instances_max", "1").start(door).await;
        let pieces = json!([{ "send": "\"one" }, { "sleep": 5 }, { "send": ", two\"" }]);
        assert_eq!(trial.value(json!({ "stream": pieces })).await, "one, two");
        let (error_type, message) = trial.error(json!({ "stream": ["send_forever"] })).await;
        assert_eq!(error_type, "Function.ResponseTooLarge");
        assert!(message.contains("6291556 are the most"), "{message}");
        let (error_type, _) = trial.error(json!({ "stream": [{ "send": "1" }, { "fail": "no paper" }] })).await;
        assert_eq!(error_type, "Failed");
        let (error_type, _) = trial.error(json!({ "stream": [{ "send": "1" }, { "panic": "no ink" }] })).await;
        assert_eq!(error_type, "Function.Panic");
        assert_eq!(trial.value(json!({})).await["served"], 1);
    }

    async fn an_http_answer_that_is_whole_is_a_document(door) {
        let trial = Setup::of(&ONWARD).start(door).await;
        let http = json!({ "status": 200, "headers": [["x-a", "b"]] });
        let document = trial.value(json!({ "http": http })).await;
        assert_eq!(document["headers"], json!({ "content-type": "application/json", "x-a": "b" }));
        assert_eq!(document["isBase64Encoded"], false);
        assert!(document["body"].as_str().unwrap().contains("served"));
        let document = trial.value(json!({ "http": http, "stream": [{ "send": "made" }] })).await;
        assert_eq!((&document["statusCode"], &document["body"]), (&json!(200), &json!("made")));
    }
}
