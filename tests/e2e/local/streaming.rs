//! The local host streams answers as Lambda's `InvokeWithResponseStream` does.

use std::time::Duration;

use bytes::Bytes;
use e2e::guests::{ECHO, ONWARD};
use e2e::local::{begin, header, send};
use e2e::trial::FUNCTION;
use e2e::{Database, Door, Gate, Setup, Trial};
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use serde_json::{Value, json};

fn path() -> String {
    format!("/2021-11-15/functions/{FUNCTION}/response-streaming-invocations")
}

fn body(event: &Value) -> Bytes {
    event.to_string().into()
}

fn has(frames: &[u8], text: &str) -> bool {
    frames
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

/// Reads until this text has come.
async fn until(frames: &mut Incoming, text: &str) {
    let mut read = Vec::new();
    while !has(&read, text) {
        let frame = frames.frame().await.expect("there is more").unwrap();
        read.extend_from_slice(frame.data_ref().unwrap());
    }
}

fn setup() -> Setup {
    Setup::of(&ONWARD).function("response", "\"stream\"")
}

/// All that comes for an event.
async fn frames(trial: &Trial, event: &Value) -> Bytes {
    let response = send(trial.address(), Method::POST, &path(), &[], body(event)).await;
    assert_eq!(response.status(), 200);
    let content_type = header(&response, "content-type");
    assert_eq!(content_type, "application/vnd.amazon.eventstream");
    response.into_body()
}

/// Has the guest send `first` and `second` in this way, the latter when the former has arrived, and reads
/// until `second` and what is to come `behind` it are there.
async fn arrive_in_turn(how: &str, [first, second]: [&str; 2], behind: &[&str]) {
    let database = Database::create().await;
    let gate = database.gate().await;
    let trial = setup().with(&database).start(Door::Local).await;
    let wait = json!({ "step": { "batch": Gate::PASS } });
    let event = json!({ how: [{ "send": first }, wait, { "send": second }] });
    let (response, connection) =
        begin(trial.address(), Method::POST, &path(), &[], body(&event)).await;
    let mut frames = response.into_body();
    until(&mut frames, first).await;
    gate.open().await;
    until(&mut frames, second).await;
    for text in behind {
        until(&mut frames, text).await;
    }
    connection.abort();
}

#[tokio::test]
async fn a_piece_is_on_its_way_while_the_next_is_made() {
    arrive_in_turn("stream", ["piece one", "piece two"], &["InvokeComplete"]).await;
}

#[tokio::test]
async fn what_is_whole_comes_in_pieces_too() {
    let trial = Setup::of(&ECHO).start(Door::Local).await;
    let event = json!(format!("begin{}end", "x".repeat(200_000)));
    let frames = frames(&trial, &event).await;
    assert!(has(&frames, "xend\"") && has(&frames, "InvokeComplete"));
    let chunks = frames.windows(12).filter(|text| *text == b"PayloadChunk");
    assert!(chunks.count() > 3);
}

/// Each on its own would be a piece of its own.
#[tokio::test]
async fn small_items_of_a_stream_travel_together() {
    let trial = setup().start(Door::Local).await;
    let items = (0..5_000).map(|item| json!({ "send": format!("item {item}\n") }));
    let mut items: Vec<Value> = items.collect();
    items.push(json!({ "fail": "at last" }));
    let frames = frames(&trial, &json!({ "items": items })).await;
    assert!(has(&frames, "item 4999\n") && has(&frames, "at last"));
    let chunks = frames.windows(12).filter(|text| *text == b"PayloadChunk");
    assert!((1..50).contains(&chunks.count()));
}

#[tokio::test]
async fn no_item_of_a_stream_waits_for_the_next() {
    arrive_in_turn("items", ["item one", "item two"], &[]).await;
}

#[tokio::test]
async fn a_fault_is_told_in_the_last_frame() {
    let trial = setup()
        .timeout(Duration::from_secs(2))
        .start(Door::Local)
        .await;
    let cases = [
        (json!([{ "fail": "no paper" }]), "no paper"),
        (
            json!([{ "send": "half" }, { "panic": "no ink" }]),
            "Function.Panic",
        ),
        (
            json!([{ "send": "half" }, { "sleep": 600_000 }]),
            "Function.DeadlineExceeded",
        ),
        (
            json!([{ "send": "half" }, "spin"]),
            "Function.DeadlineExceeded",
        ),
    ];
    for (acts, named) in cases {
        let frames = frames(&trial, &json!({ "stream": acts })).await;
        assert!(has(&frames, "ErrorCode") && has(&frames, named), "{named}");
        let frames = self::frames(&trial, &json!({ "stream": [{ "send": "1" }] })).await;
        assert!(has(&frames, "InvokeComplete") && !has(&frames, "ErrorCode"));
    }
}

#[tokio::test]
async fn a_head_alone_is_an_answer() {
    let setup = Setup::of(&ONWARD).function("response", "\"http-stream\"");
    let trial = setup.start(Door::Local).await;
    let event = json!({ "http": { "status": 204 }, "stream": [] });
    for _ in 0..2 {
        let frames = frames(&trial, &event).await;
        assert!(has(&frames, "\"statusCode\":204") && has(&frames, "InvokeComplete"));
        assert!(!has(&frames, "ErrorCode"));
    }
}

/// The guest is told; the invocation comes to its own end.
#[tokio::test]
async fn a_caller_who_goes_away_is_noticed_by_the_guest() {
    let mut trial = setup().start(Door::Local).await;
    let event = json!({ "stream": ["send_forever"] });
    let (response, connection) =
        begin(trial.address(), Method::POST, &path(), &[], body(&event)).await;
    let mut frames = response.into_body();
    until(&mut frames, "PayloadChunk").await;
    drop(frames);
    connection.abort();
    trial.host.line("gone").await;
}

#[tokio::test]
async fn what_the_other_api_refuses_is_refused_here() {
    let trial = setup().start(Door::Local).await;
    let missing = "/2021-11-15/functions/missing/response-streaming-invocations";
    let event = [("X-Amz-Invocation-Type", "Event")];
    let own = path();
    let cases = [
        (missing, &[][..], "{}", 404),
        (own.as_str(), &[][..], "{", 400),
        (own.as_str(), &event[..], "{}", 400),
    ];
    for (path, headers, body, status) in cases {
        let body = Bytes::from_static(body.as_bytes());
        let response = send(trial.address(), Method::POST, path, headers, body).await;
        assert_eq!(response.status(), status);
    }
}

/// Whoever asks for the whole answer gets it, up to what an answer may have.
#[tokio::test]
async fn a_stream_is_collected_for_a_caller_who_wants_it_whole() {
    let trial = setup().start(Door::Local).await;
    let event = json!({ "stream": [{ "send": "\"one" }, { "send": ", two\"" }] });
    assert_eq!(trial.value(event).await, "one, two");
    let (error_type, _) = trial.error(json!({ "stream": ["send_forever"] })).await;
    assert_eq!(error_type, "Function.ResponseTooLarge");
}
