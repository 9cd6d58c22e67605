//! What the local host refuses, it refuses as Lambda does, and so that its caller hears of it.

use std::time::Duration;

use bytes::Bytes;
use e2e::emf::Figures;
use e2e::guests::{ECHO, MISBEHAVE};
use e2e::local::{header, invoke, send};
use e2e::trial::FUNCTION;
use e2e::{Door, Setup};
use futures_util::future::join_all;
use hyper::Method;
use serde_json::{Value, json};

fn json_of(body: &Bytes) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|error| panic!("{error}: {body:?}"))
}

#[tokio::test]
async fn mistakes_of_the_caller_are_told_as_lambda_tells_them() {
    let trial = Setup::of(&ECHO).start(Door::Local).await;
    let address = trial.address();
    let large = Bytes::from(vec![b' '; 6 * 1024 * 1024 + 1]);
    let one = Bytes::from_static(b"1");
    for (function, headers, body, status, error_type) in [
        (
            "missing",
            &[][..],
            one.clone(),
            404,
            "ResourceNotFoundException",
        ),
        (
            FUNCTION,
            &[],
            Bytes::from_static(b"{"),
            400,
            "InvalidRequestContentException",
        ),
        (FUNCTION, &[], large, 413, "RequestEntityTooLargeException"),
        (
            FUNCTION,
            &[("X-Amz-Invocation-Type", "Other")],
            one.clone(),
            400,
            "ValidationException",
        ),
        ("a%20b", &[], one, 400, "ValidationException"),
    ] {
        let response = invoke(address, function, headers, body).await;
        assert_eq!(response.status(), status, "{:?}", response.body());
        assert_eq!(header(&response, "x-amzn-errortype"), error_type);
        let message = json_of(response.body());
        let message = message["Message"]
            .as_str()
            .or(message["message"].as_str())
            .unwrap_or_default()
            .to_owned();
        assert!(!message.is_empty(), "{:?}", response.body());
    }
    let response = send(address, Method::GET, "/nothing/here", &[], Bytes::new()).await;
    assert_eq!(response.status(), 404);
    assert_eq!(trial.value(json!(1)).await, 1);
}

/// Most callers look for an answer only after they have sent everything, and would see a reset instead.
#[tokio::test]
async fn what_is_refused_before_its_body_is_read_is_read_all_the_same() {
    let trial = Setup::of(&ECHO).start(Door::Local).await;
    let long = Bytes::from(vec![b' '; 32 << 20]);
    for path in [
        "/2015-03-31/functions/missing/invocations",
        "/2015-03-31/functions/a%20b/invocations",
        "/nothing/here",
        "/",
    ] {
        let response = send(trial.address(), Method::POST, path, &[], long.clone()).await;
        assert!(response.status().is_client_error(), "{path}");
        assert!(!header(&response, "x-amzn-errortype").is_empty(), "{path}");
    }
}

#[tokio::test]
async fn an_event_for_which_no_instance_comes_free_is_throttled() {
    let trial = Setup::of(&MISBEHAVE)
        .function("instances_max", "1")
        .timeout(Duration::from_millis(500))
        .toml("[log]\nmetrics = \"emf\"\n")
        .start(Door::Local)
        .await;
    let spin = || {
        let event = Bytes::from(json!({ "act": "spin" }).to_string());
        invoke(trial.address(), FUNCTION, &[], event)
    };
    // The second of them may get an instance in time; the third would have to wait for twice as long.
    let mut responses = join_all((0..4).map(|_| spin())).await.into_iter();
    let refused = responses.find(|response| response.status() != 200);
    let refused = refused.expect("one is refused");
    assert_eq!(refused.status(), 429);
    let error_type = header(&refused, "x-amzn-errortype");
    assert_eq!(error_type, "TooManyRequestsException");
    assert_eq!(header(&refused, "retry-after"), "1");
    let body = json_of(refused.body());
    assert_eq!(body["Reason"], "ConcurrentInvocationLimitExceeded");
    assert_eq!(body["Type"], "User");
    let told = body["message"].as_str().unwrap_or_default();
    assert!(
        told.contains("no instance") && told.contains("instances_max"),
        "{told}"
    );
    let id = header(&refused, "x-amzn-requestid");
    let figures = Figures::of(&trial.host, id).await;
    assert_eq!(figures.text("fault"), "Runtime.Busy");
    assert_eq!(
        (figures.text("blame"), figures.get("Faults")),
        ("host", 1.0)
    );
    let line = trial.host.last_line(&format!("request_id={id}"));
    let line = line.expect("it is told of");
    for part in ["ERROR", "trace_id=1-", "fault=Runtime.Busy", "blame=host"] {
        assert!(line.contains(part), "{line}");
    }
    assert_eq!(trial.value(json!({ "act": "count" })).await["act"], 1);
}
