//! Spans reach their collector before the environment can be frozen, say what was done and for how
//! long, and cost nobody an answer.

use std::time::Duration;

use e2e::certificate_authority::{self, CertificateAuthority};
use e2e::clock::Clock;
use e2e::collector::{Collector, Received};
use e2e::guests::{MISBEHAVE, ONWARD, QUERY};
use e2e::tls_terminator::TlsTerminator;
use e2e::{Database, Door, Setup};
use serde_json::json;
use tokio::net::TcpListener;

/// What the tests' Lambda says of each event.
const TRACE: &str = "5bef4de7ad49b0e87f6ef6c87fc2e700";
const PARENT: &str = "9a9197af755a6419";

fn traced(setup: Setup, collector: &Collector) -> Setup {
    setup.variable("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint())
}

/// The span of an invocation, and those below it.
async fn spans_of(collector: &Collector, request_id: &str) -> (Received, Vec<Received>) {
    e2e::eventually("the span of an invocation", async || {
        let spans = collector.spans();
        let own = spans
            .iter()
            .find(|span| span.attributes.get("faas.invocation_id") == Some(&json!(request_id)))?;
        let below = spans.iter().filter(|span| span.parent() == own.id());
        Some((own.clone(), below.cloned().collect()))
    })
    .await
}

behind_both_doors! {
    async fn an_invocation_is_a_span_and_its_calls_are_below_it(door) {
        let database = Database::with("create table things (id int4, name text)").await;
        let collector = Collector::start().await;
        let trial = traced(Setup::of(&QUERY).with(&database), &collector).start(door).await;
        let steps = json!([
            { "typed": "select name from things where id = $1", "values": [[4711, "int4"]] },
            { "query": "select 'a secret'" },
            { "transaction": [{ "execute": "delete from things" }], "end": "commit" },
            { "query": "select 1 / 0" },
        ]);
        let answer = trial.invoke_for(Some("blue"), json!({ "steps": steps })).await;
        answer.value();
        let (own, below) = spans_of(&collector, &answer.request_id).await;
        assert_eq!((own.span.name.as_str(), own.span.kind), ("tested", 2), "{own:?}");
        assert_eq!(own.attributes["faas.coldstart"], true);
        assert_eq!(own.attributes["hearth.tenant_id"], "blue");
        assert!(own.attributes["cloud.account.id"].is_string(), "{own:?}");
        assert!(own.resource["service.name"].is_string() && !own.failed(), "{own:?}");
        let names: Vec<&str> = below.iter().map(|span| span.span.name.as_str()).collect();
        assert_eq!(names, ["SELECT", "SELECT", "DELETE", "COMMIT", "SELECT"]);
        for span in &below {
            assert_eq!((span.span.kind, span.trace()), (3, own.trace()), "{span:?}");
            assert_eq!(span.attributes["db.system.name"], "postgresql");
            assert!(span.span.start_time_unix_nano >= own.span.start_time_unix_nano);
            assert!(span.span.end_time_unix_nano <= own.span.end_time_unix_nano);
        }
        assert_eq!(below[0].attributes["db.query.text"], "select name from things where id = $1");
        assert!(below[1].attributes.get("db.query.text").is_none());
        assert_eq!(below[2].attributes["db.query.text"], "delete from things");
        assert_eq!(below[3].attributes["db.operation.name"], "COMMIT");
        assert_eq!(below[4].attributes["db.response.status_code"], "22012");
        assert!(below[4].failed() && !below[0].failed());
        let all = format!("{below:?}");
        assert!(!all.contains("secret") && !all.contains("4711"), "{all}");
    }

    async fn a_fault_is_the_spans_status(door) {
        let collector = Collector::start().await;
        let trial = traced(Setup::of(&MISBEHAVE), &collector).start(door).await;
        let answer = trial.invoke(json!({ "act": "trap" })).await;
        let (own, _) = spans_of(&collector, &answer.request_id).await;
        assert!(own.failed(), "{own:?}");
        assert_eq!(own.attributes["error.type"], "Function.Trap");
    }

    async fn a_collector_that_is_not_there_costs_no_invocation_an_error(door) {
        let setup = Setup::of(&MISBEHAVE).variable("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
        let mut trial = setup.start(door).await;
        trial.value(json!({})).await;
        let line = trial.host.line("spans could not be exported, and none are for").await;
        assert!(line.contains("WARN"), "{line}");
        // From then on nobody tries for a while, so nothing more is said of it.
        for _ in 0..3 {
            trial.value(json!({})).await;
        }
        assert_eq!(trial.host.lines("could not be exported"), 1);
    }

    /// It takes the connection and says nothing.
    async fn a_silent_collector_delays_no_answer(door) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let setup = Setup::of(&MISBEHAVE).variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &endpoint);
        let mut trial = setup.start(door).await;
        trial.value(json!({})).await;
        // The answer was there before the collector was given up.
        assert!(trial.host.lines("could not be exported") == 0);
        trial.host.line("could not be exported").await;
        trial.value(json!({})).await;
    }

    /// In full, as everywhere else: whose certificate it is, and for which host.
    async fn a_collector_behind_tls_is_checked(door) {
        let (ours, theirs) = (CertificateAuthority::new("Ours"), CertificateAuthority::new("Theirs"));
        let collector = Collector::start().await;
        let exported = async |authority: &CertificateAuthority, host: &str, variable: &str| {
            let identity = ours.issue(host);
            let terminator = TlsTerminator::before(collector.address(), &identity, &[]).await;
            let endpoint = format!("https://{}", terminator.address());
            let setup = Setup::of(&MISBEHAVE).variable("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
            let file = authority.file().display().to_string();
            let mut trial = setup.variable(variable, &file).start(door).await;
            let answer = trial.invoke(json!({})).await;
            assert!(!answer.failed);
            let told = tokio::select! {
                (own, _) = spans_of(&collector, &answer.request_id) => own.attributes["faas.invocation_id"].to_string(),
                line = trial.host.line("could not be exported") => line,
            };
            told.contains(&answer.request_id)
        };
        let (named, systems) = ("OTEL_EXPORTER_OTLP_CERTIFICATE", "SSL_CERT_FILE");
        assert!(exported(&ours, "127.0.0.1", named).await);
        assert!(exported(&ours, "127.0.0.1", "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE").await);
        assert!(exported(&ours, "127.0.0.1", systems).await);
        assert!(!exported(&theirs, "127.0.0.1", named).await);
        assert!(!exported(&theirs, "127.0.0.1", systems).await);
        assert!(!exported(&ours, "collector.test", named).await);
    }

    async fn authorities_that_cannot_be_read_are_told_at_the_start(door) {
        let collector = Collector::start().await;
        for file in [certificate_authority::file("ca.pem", "none"), "/nowhere/ca.pem".into()] {
            let setup = traced(Setup::of(&MISBEHAVE), &collector);
            let file = file.display().to_string();
            let mut trial = setup.variable("OTEL_EXPORTER_OTLP_CERTIFICATE", &file).start(door).await;
            trial.value(json!({})).await;
            let line = trial.host.line("no spans are exported").await;
            assert!(line.contains("OTEL_EXPORTER_OTLP_CERTIFICATE") && line.contains(&file), "{line}");
        }
        assert!(collector.spans().is_empty());
    }

    async fn nothing_is_exported_that_nobody_asked_for(door) {
        let collector = Collector::start().await;
        let setup = traced(Setup::of(&MISBEHAVE), &collector).variable("OTEL_SDK_DISABLED", "true");
        let trial = setup.start(door).await;
        trial.value(json!({})).await;
        trial.value(json!({})).await;
        assert!(collector.spans().is_empty());
    }
}

/// Once the next event is asked for, the environment may stand still.
#[tokio::test]
async fn spans_have_left_when_the_next_event_is_asked_for() {
    let collector = Collector::start().await;
    let trial = traced(Setup::of(&MISBEHAVE), &collector)
        .start(Door::Lambda)
        .await;
    for invocation in 1..=3 {
        trial.value(json!({})).await;
        trial.lambda().parked(1).await;
        trial.host.freeze();
        assert_eq!(collector.spans().len(), invocation);
        trial.host.thaw();
    }
}

/// It rested for longer than its invocation had, and ends while another one waits.
#[tokio::test]
async fn the_span_of_suspended_work_leaves_when_that_ends() {
    let database = Database::create().await;
    let gate = database.client().await;
    let (hold, wait) = (
        "select pg_advisory_lock(1)",
        "select pg_advisory_lock_shared(1)",
    );
    gate.batch_execute(hold).await.unwrap();
    let collector = Collector::start().await;
    let setup = Setup::of(&ONWARD)
        .with(&database)
        .function("after_answer", "\"suspend\"")
        .timeout(Duration::from_secs(2));
    let trial = traced(setup, &collector).start(Door::Lambda).await;
    let work = json!({ "after": [[{ "sleep": 50 }]] });
    let id = trial.invoke(work).await.request_id;
    trial.lambda().parked(1).await;
    gate.batch_execute("select pg_sleep(2.5)").await.unwrap();
    let waiting = trial.value(json!({ "first": [{ "step": { "batch": wait } }] }));
    let released = async {
        spans_of(&collector, &id).await;
        gate.batch_execute("select pg_advisory_unlock(1)")
            .await
            .unwrap();
    };
    tokio::join!(waiting, released);
}

/// The collector is not to blame.
#[tokio::test]
async fn spans_whose_export_a_freeze_cuts_leave_with_the_next_ones() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let clock = Clock::new();
    let setup = Setup::of(&MISBEHAVE)
        .variable("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
        .clock(&clock);
    let trial = setup.start(Door::Lambda).await;
    let cut = trial.invoke(json!({})).await.request_id;
    let (connection, _) = listener.accept().await.unwrap();
    trial.host.freeze();
    clock.shift(3600);
    let collector = Collector::behind(listener);
    drop(connection);
    trial.host.thaw();
    let next = trial.invoke(json!({})).await.request_id;
    for id in [next, cut] {
        spans_of(&collector, &id).await;
    }
}

#[tokio::test]
async fn a_span_belongs_to_the_trace_of_its_header() {
    let collector = Collector::start().await;
    let trial = traced(Setup::of(&MISBEHAVE), &collector)
        .start(Door::Lambda)
        .await;
    let answer = trial.invoke(json!({})).await;
    let (own, _) = spans_of(&collector, &answer.request_id).await;
    assert_eq!(
        (own.trace().as_str(), own.parent().as_str()),
        (TRACE, PARENT)
    );
    // A trace that X-Ray does not keep has nothing above it that anybody would see.
    let event = trial.event("{}").header(
        "Lambda-Runtime-Trace-Id",
        "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e701;Parent=9a9197af755a6419;Sampled=0",
    );
    let id = event.id.clone();
    trial.lambda().send(event);
    trial.lambda().answer(&id).await;
    let (own, _) = spans_of(&collector, &id).await;
    assert_eq!(own.parent(), "");
}

#[tokio::test]
async fn variables_name_the_service_and_sample() {
    let collector = Collector::start().await;
    let setup = traced(Setup::of(&MISBEHAVE), &collector)
        .variable("OTEL_SERVICE_NAME", "shop")
        .variable(
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test",
        );
    let trial = setup.start(Door::Lambda).await;
    let answer = trial.invoke(json!({})).await;
    let (own, _) = spans_of(&collector, &answer.request_id).await;
    assert_eq!(own.resource["service.name"], "shop");
    assert_eq!(own.resource["deployment.environment.name"], "test");
    assert_eq!(own.resource["faas.name"], "tested");
    assert_eq!(own.resource["faas.max_memory"], 512 * 1024 * 1024);

    let setup =
        traced(Setup::of(&MISBEHAVE), &collector).variable("OTEL_TRACES_SAMPLER", "always_off");
    let trial = setup.start(Door::Lambda).await;
    let before = collector.spans().len();
    trial.value(json!({})).await;
    trial.lambda().parked(1).await;
    assert_eq!(collector.spans().len(), before);
}

#[tokio::test]
async fn what_is_left_leaves_with_the_environment() {
    let collector = Collector::start().await;
    let setup = traced(Setup::of(&MISBEHAVE), &collector).timeout(Duration::from_secs(30));
    let mut trial = setup.start(Door::Local).await;
    let answer = trial.invoke(json!({})).await;
    trial.host.terminate();
    trial.host.end(Duration::from_secs(30)).await;
    spans_of(&collector, &answer.request_id).await;
}
