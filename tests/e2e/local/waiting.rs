//! On the local host the time of an invocation begins when there is an instance for it, as on Lambda.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use e2e::emf::Figures;
use e2e::guests::{ONWARD, STARTING};
use e2e::local::{header, invoke, send};
use e2e::trial::FUNCTION;
use e2e::{Database, Door, Gate, Setup, Trial, eventually};
use hyper::Method;
use serde_json::{Value, json};

const EVENT: [(&str, &str); 1] = [("X-Amz-Invocation-Type", "Event")];
const TIMEOUT: Duration = Duration::from_secs(5);

/// An event that takes more than half of the time that an invocation has.
fn slow() -> Bytes {
    json!({ "first": [{ "sleep": 2_600 }, { "print": "slept well" }] })
        .to_string()
        .into()
}

async fn one_instance(setup: Setup) -> Trial {
    setup
        .function("instances_max", "1")
        .start(Door::Local)
        .await
}

#[tokio::test]
async fn no_event_loses_time_while_it_waits_for_an_instance() {
    let trial = one_instance(Setup::of(&ONWARD).timeout(TIMEOUT)).await;
    for _ in 0..3 {
        let response = invoke(trial.address(), FUNCTION, &EVENT, slow()).await;
        assert_eq!(response.status(), 202);
    }
    eventually("the end of all events", async || {
        (trial.host.lines("slept well") == 3).then_some(())
    })
    .await;
    for fault in ["DeadlineExceeded", "Busy", "given up"] {
        assert_eq!(trial.host.lines(fault), 0, "{fault}");
    }
}

/// Nor is it told as a part of what the invocation took.
#[tokio::test]
async fn no_caller_loses_time_while_it_waits_for_an_instance() {
    let setup = Setup::of(&ONWARD).function("response", "\"stream\"");
    let trial = one_instance(setup.timeout(TIMEOUT)).await;
    let tail = [("X-Amz-Log-Type", "Tail")];
    let whole = async || {
        let response = invoke(trial.address(), FUNCTION, &tail, slow()).await;
        assert_eq!(response.status(), 200, "{:?}", response.body());
        assert_eq!(header(&response, "x-amz-function-error"), "");
        STANDARD
            .decode(header(&response, "x-amz-log-result"))
            .unwrap()
    };
    let path = format!("/2021-11-15/functions/{FUNCTION}/response-streaming-invocations");
    let streamed = async || {
        let response = send(trial.address(), Method::POST, &path, &tail, slow()).await;
        assert_eq!(response.status(), 200, "{:?}", response.body());
        let text = String::from_utf8_lossy(response.body()).into_owned();
        assert!(!text.contains("ErrorCode"), "{text}");
        let logged = text.split("\"LogResult\":\"").nth(1).expect("a log");
        STANDARD
            .decode(logged.split('"').next().expect("its end"))
            .unwrap()
    };
    for (one, other) in [
        tokio::join!(whole(), whole()),
        tokio::join!(streamed(), streamed()),
    ] {
        for log in [one, other] {
            let log = String::from_utf8(log).unwrap();
            let took = log.split("\tDuration: ").nth(1).expect("a report");
            let took: f64 = took.split(' ').next().unwrap().parse().unwrap();
            assert!((2_600.0..5_000.0).contains(&took), "{log}");
        }
    }
}

/// Holds the only instance until the gate opens.
async fn held(database: &Database, gate: &Gate) -> (Trial, Bytes) {
    let trial = one_instance(Setup::of(&ONWARD).with(database)).await;
    let step = json!({ "step": { "batch": Gate::PASS } });
    let event = json!({ "first": [step, { "print": "let in" }] });
    let event = Bytes::from(event.to_string());
    invoke(trial.address(), FUNCTION, &EVENT, event.clone()).await;
    gate.waited_for(1).await;
    (trial, event)
}

#[tokio::test]
async fn who_goes_away_while_waiting_for_an_instance_is_not_invoked() {
    let database = Database::create().await;
    let gate = database.gate().await;
    let (mut trial, event) = held(&database, &gate).await;
    let files = || trial.host.holdings().descriptors;
    let before = files();
    let waiting = invoke(trial.address(), FUNCTION, &[], event);
    let comes = async || (files() > before).then_some(());
    tokio::select! {
        _ = waiting => panic!("there is no instance for it"),
        () = eventually("its connection", comes) => {}
    }
    let has_gone = async || (files() <= before).then_some(());
    eventually("the end of its connection", has_gone).await;
    gate.open().await;
    let counts: Value = trial.value(json!({})).await;
    trial.host.line("let in").await;
    assert_eq!(
        (counts["served"].as_u64(), trial.host.lines("let in")),
        (Some(2), 1)
    );
}

/// However many of them there are. It comes in the middle of them at the latest.
#[tokio::test]
async fn a_caller_does_not_wait_behind_all_events_that_wait() {
    let database = Database::create().await;
    let gate = database.gate().await;
    let (trial, event) = held(&database, &gate).await;
    for _ in 0..60 {
        invoke(trial.address(), FUNCTION, &EVENT, event.clone()).await;
    }
    let (counts, ()) = tokio::join!(trial.value(json!({})), gate.open());
    let served = counts["served"].as_u64().unwrap();
    assert!(served < 45, "{served}");
}

#[tokio::test]
async fn an_event_that_waits_for_an_instance_is_given_up_with_the_host() {
    let database = Database::create().await;
    let gate = database.gate().await;
    let (mut trial, event) = held(&database, &gate).await;
    let response = invoke(trial.address(), FUNCTION, &EVENT, event).await;
    let id = header(&response, "x-amzn-requestid").to_owned();
    trial.host.terminate();
    let line = trial.host.line("an event was given up").await;
    assert!(
        line.contains("the host is closing") && line.contains(&id),
        "{line}"
    );
    gate.open().await;
    trial.host.line("let in").await;
}

/// An instance of it is built for as long as `start` says, which is longer than an invocation may take.
async fn building(start: &str) -> Trial {
    Setup::of(&STARTING)
        .function("environment", &format!("{{ START = {start:?} }}"))
        .timeout(Duration::from_secs(1))
        .toml("[log]\nmetrics = \"emf\"\n")
        .start(Door::Local)
        .await
}

/// As Lambda builds one before its first event.
#[tokio::test]
async fn nobody_loses_time_while_an_instance_is_built() {
    let path = format!("/2021-11-15/functions/{FUNCTION}/response-streaming-invocations");
    for how in ["whole", "streamed", "event"] {
        let trial = building("slowly").await;
        let (address, body) = (trial.address(), Bytes::from_static(b"1"));
        let status = match how {
            "whole" => invoke(address, FUNCTION, &[], body).await.status(),
            "streamed" => send(address, Method::POST, &path, &[], body).await.status(),
            _ => invoke(address, FUNCTION, &EVENT, body).await.status(),
        };
        assert!(status.is_success(), "{how}: {status}");
        let all = async || Figures::all(&trial.host).pop();
        let figures = eventually("its figures", all).await;
        assert_eq!(figures.text("fault"), "", "{how}");
        assert!(figures.get("Duration") < 1_000.0, "{how}: {figures:?}");
        assert_eq!(trial.host.lines("an instance starts"), 1, "{how}");
    }
}

/// After ten seconds, as Lambda gives a start, its time begins.
#[tokio::test]
async fn an_instance_that_never_stands_is_waited_for_a_while() {
    let trial = building("never").await;
    let (error_type, _) = trial.error(json!(1)).await;
    assert_eq!(error_type, "Function.DeadlineExceeded");
}

#[tokio::test]
async fn who_goes_away_while_an_instance_is_built_is_not_invoked() {
    let mut trial = building("slowly").await;
    let trace = [(
        "X-Amzn-Trace-Id",
        "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700",
    )];
    {
        let waiting = invoke(trial.address(), FUNCTION, &trace, Bytes::from_static(b"1"));
        let begins = async || (trial.host.lines("an instance starts") > 0).then_some(());
        tokio::select! {
            _ = waiting => panic!("there is no instance for it"),
            () = eventually("the building", begins) => {}
        }
    }
    let line = trial.host.line("its caller went away").await;
    assert!(line.contains("trace_id=1-5bef4de7-"), "{line}");
    assert_eq!(trial.value(json!(2)).await, 2);
    let figures = async || Some(Figures::all(&trial.host).len()).filter(|count| *count > 0);
    assert_eq!(eventually("the figures", figures).await, 1);
}

#[tokio::test]
async fn an_event_whose_instance_is_built_is_given_up_with_the_host() {
    let mut trial = building("never").await;
    invoke(trial.address(), FUNCTION, &EVENT, Bytes::new()).await;
    trial.host.line("an instance starts").await;
    trial.host.terminate();
    let line = trial.host.line("an event was given up").await;
    assert!(line.contains("the host is closing"), "{line}");
}
