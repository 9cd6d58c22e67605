//! Errors of which a function says more than Lambda takes: what matters most arrives.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::guests::ONWARD;
use e2e::lambda::{Call, What};
use e2e::{Door, Setup, Trial};
use serde_json::{Value, json};

/// In bytes, of the type and of the message each.
const LONG: usize = 2 << 20;
/// What Go's HTTP server, behind which Lambda's Runtime API is, takes of trailers.
const TRAILERS_BYTES_MAX: usize = 4096;

async fn answer(trial: &Trial, event: Value) -> Call {
    let event = trial.event(event.to_string());
    let answer = trial.lambda().invoke(event, None).await;
    answer.expect("one event at a time is always taken")
}

fn check(document: &[u8]) {
    let told: Value = serde_json::from_slice(document).unwrap();
    let error_type = told["errorType"].as_str().unwrap();
    assert!(
        error_type.starts_with("TTT") && error_type.len() <= 256,
        "{error_type}"
    );
    assert!(told["errorMessage"].as_str().unwrap().starts_with("mmm"));
}

#[tokio::test]
async fn an_error_at_length_is_one_that_lambda_takes() {
    let trial = Setup::of(&ONWARD).start(Door::Lambda).await;
    let answer = answer(&trial, json!({ "first": [{ "fail_at_length": LONG }] })).await;
    assert_eq!((answer.what, answer.status), (What::Error, 202));
    assert!(answer.body.len() < 1 << 20, "{}", answer.body.len());
    check(&answer.body);
    let cause = answer.header("Lambda-Runtime-Function-XRay-Error-Cause");
    let cause: Value = serde_json::from_str(cause).unwrap();
    assert!(cause["message"].as_str().unwrap().starts_with("mmm"));
    trial.value(json!({})).await;
}

#[tokio::test]
async fn an_error_at_length_in_the_middle_fits_into_trailers() {
    for form in ["\"stream\"", "\"http-stream\""] {
        let setup = Setup::of(&ONWARD).function("response", form);
        let trial = setup.start(Door::Lambda).await;
        let acts = json!([{ "send": "half" }, { "fail_at_length": LONG }]);
        let answer = answer(&trial, json!({ "stream": acts })).await;
        let lines = answer.trailers.iter();
        let bytes: usize = lines
            .map(|(name, value)| name.as_str().len() + value.len() + 4)
            .sum();
        assert!(bytes < TRAILERS_BYTES_MAX, "{bytes}");
        let body = answer.trailers.get("lambda-runtime-function-error-body");
        check(&STANDARD.decode(body.expect("there is one")).unwrap());
    }
}
