//! What each invocation took is told in one line, when nothing is left of it, and is its own.

use std::time::{Duration, Instant};

use e2e::emf::Figures;
use e2e::guests::{ECHO, MISBEHAVE, ONWARD, QUERY};
use e2e::{Answer, Clock, Database, Door, Gate, Proxy, Setup, Trial};
use serde_json::{Value, json};

const EMF: &str = "[log]\nmetrics = \"emf\"\n";

/// What tells that nothing was done with a database.
const DATABASE: [&str; 7] = [
    "Connects",
    "RoundTrips",
    "Rows",
    "BytesReceived",
    "BytesSent",
    "DatabaseErrors",
    "DatabaseTime",
];

async fn told(trial: &Trial, event: Value) -> (Answer, Figures) {
    let answer = trial.invoke(event).await;
    let figures = Figures::of(&trial.host, &answer.request_id).await;
    assert_eq!(
        figures.get("Faults"),
        f64::from(answer.failed),
        "{figures:?}"
    );
    let whole = figures.get("Duration");
    for part in ["InstanceWait", "GuestTime"] {
        assert!(figures.get(part) <= whole, "{part}: {figures:?}");
    }
    (answer, figures)
}

/// The figures of steps, none of which fails.
async fn of_steps(trial: &Trial, steps: Value) -> Figures {
    let (answer, figures) = told(trial, json!({ "steps": steps })).await;
    let answer = answer.value().to_string();
    assert!(!answer.contains("\"error\""), "{answer}");
    figures
}

behind_both_doors! {
    async fn an_echo_is_told_in_one_line(door) {
        let trial = Setup::of(&ECHO).toml(EMF).start(door).await;
        for first in [1.0, 0.0, 0.0] {
            let (_, figures) = told(&trial, json!("here")).await;
            assert_eq!((figures.get("ColdStart"), figures.get("NewInstance")), (first, first));
            assert!(figures.get("GuestTime") > 0.0, "{figures:?}");
            assert!(figures.get("InstanceMemory") >= 65536.0, "{figures:?}");
            assert!(DATABASE.iter().all(|name| figures.get(name) == 0.0), "{figures:?}");
            assert_eq!(figures.text("FunctionName"), "tested");
            assert_eq!(figures.text("functionVersion"), "$LATEST");
            assert_eq!(figures.text("fault"), "");
            let directive = &figures.line["_aws"]["CloudWatchMetrics"][0];
            assert_eq!(directive["Namespace"], "Hearth");
            assert_eq!(directive["Dimensions"], json!([["FunctionName"]]));
        }
        assert_eq!(Figures::all(&trial.host).len(), 3);
    }

    async fn nothing_is_told_that_nobody_asked_for(door) {
        let mut trial = Setup::of(&MISBEHAVE).start(door).await;
        trial.value(json!({})).await;
        trial.value(json!({ "act": "print", "text": "the second" })).await;
        trial.host.line("the second").await;
        assert!(Figures::all(&trial.host).is_empty());
    }

    async fn a_variable_asks_for_it_and_names_the_namespace(door) {
        let setup = Setup::of(&ECHO).variable("HEARTH_METRICS", "emf");
        let trial = setup.variable("HEARTH_METRICS_NAMESPACE", "Shop/Orders").start(door).await;
        let (_, figures) = told(&trial, json!("here")).await;
        assert_eq!(figures.line["_aws"]["CloudWatchMetrics"][0]["Namespace"], "Shop/Orders");
    }

    /// Compared with what a proxy has seen.
    async fn what_passes_to_and_from_the_database_is_counted(door) {
        let database = Database::create().await;
        let proxy = Proxy::of(&database);
        let setup = Setup::of(&QUERY).through(&proxy).database("warm", "0").database("pool_max", "1");
        let trial = setup.toml(EMF).start(door).await;
        let steps = json!([{ "query": "select n from generate_series(1, 1000) n" }]);
        let cold = of_steps(&trial, steps.clone()).await;
        assert_eq!((cold.get("Connects"), cold.get("Rows")), (1.0, 1000.0));
        assert!(cold.get("ConnectTime") > 0.0, "{cold:?}");
        for warm in 0..3 {
            proxy.forget();
            let figures = of_steps(&trial, steps.clone()).await;
            let (flushes, _) = proxy.passed();
            // The proxy does not count a question whether the connection is still there.
            let asked = figures.get("RoundTrips") - flushes.len() as f64;
            assert!(asked == 0.0 || asked == 1.0, "{warm}: {flushes:?} {figures:?}");
            assert_eq!(figures.get("BytesSent"), proxy.request_bytes() as f64);
            assert_eq!(figures.get("BytesReceived"), proxy.answer_bytes() as f64);
            assert_eq!((figures.get("Connects"), figures.get("ConnectTime")), (0.0, 0.0));
            assert_eq!(figures.get("Rows"), 1000.0);
            assert!(figures.get("DatabaseTime") > 0.0, "{figures:?}");
        }
    }

    async fn errors_of_the_database_are_counted_and_are_no_faults(door) {
        let database = Database::create().await;
        let trial = Setup::of(&QUERY).with(&database).toml(EMF).start(door).await;
        let steps = json!([
            { "query": "select 1 / 0" },
            { "execute": "select * from nothing" },
            { "transaction": [{ "query": "select 1" }, { "query": "select 2 / 0" }], "end": "commit" },
            { "query": "select 1" },
        ]);
        let (answer, figures) = told(&trial, json!({ "steps": steps })).await;
        answer.value();
        // The commit is the fourth: it was a rollback.
        assert_eq!((figures.get("DatabaseErrors"), figures.get("Faults")), (4.0, 0.0), "{answer:?}");
    }

    async fn a_server_that_cannot_be_reached_is_an_error_that_took_its_time(door) {
        let setup = Setup::of(&QUERY).database("url", "\"postgres://nobody@127.0.0.1:1/none\"");
        let trial = setup.toml(EMF).start(door).await;
        let (_, figures) = told(&trial, json!({ "steps": [{ "query": "select 1" }] })).await;
        assert_eq!((figures.get("DatabaseErrors"), figures.get("Connects")), (1.0, 0.0));
        assert!(figures.get("ConnectTime") > 0.0, "{figures:?}");
    }

    async fn a_fault_is_told_with_its_kind(door) {
        let setup = Setup::of(&MISBEHAVE).timeout(Duration::from_secs(2)).toml(EMF);
        let trial = setup.start(door).await;
        for (act, fault) in [
            ("trap", "Function.Trap"),
            ("panic", "Function.Panic"),
            ("fail", "Misbehaved"),
            ("spin", "Function.DeadlineExceeded"),
        ] {
            let (answer, figures) = told(&trial, json!({ "act": act })).await;
            assert_eq!(figures.text("fault"), fault);
            assert_eq!(figures.text("fault"), answer.error().0);
            assert_eq!(figures.text("blame"), "guest");
            if act == "spin" {
                let (whole, guest) = (figures.get("Duration"), figures.get("GuestTime"));
                // It did nothing else, but others may have had the processor as well.
                assert!(guest > whole / 20.0, "{figures:?}");
            }
        }
        let (_, figures) = told(&trial, json!({})).await;
        assert_eq!((figures.get("ColdStart"), figures.get("NewInstance")), (0.0, 1.0));
    }

    /// Whoever has no processor takes no time of one.
    async fn a_time_in_which_the_guest_was_not_run_is_not_its_own(door) {
        let setup = Setup::of(&MISBEHAVE).timeout(Duration::from_secs(3)).toml(EMF);
        let mut trial = setup.start(door).await;
        let stopped = Duration::from_secs(1);
        let spinning = async {
            e2e::eventually("the guest", async || (trial.host.lines("spinning") > 0).then_some(())).await;
            trial.host.freeze();
            let begun = Instant::now();
            e2e::eventually("its rest", async || (begun.elapsed() > stopped).then_some(())).await;
            trial.host.thaw();
        };
        let ((_, figures), ()) = tokio::join!(told(&trial, json!({ "act": "spin" })), spinning);
        let (whole, guest) = (figures.get("Duration"), figures.get("GuestTime"));
        assert!(guest > 0.0 && guest <= whole - stopped.as_secs_f64() * 1000.0, "{figures:?}");
        trial.host.line("Function.DeadlineExceeded").await;
    }

    async fn a_wait_for_the_server_is_not_the_guests_time(door) {
        let database = Database::create().await;
        let setup = Setup::of(&QUERY).with(&database).timeout(Duration::from_secs(2)).toml(EMF);
        let trial = setup.start(door).await;
        let (answer, figures) = told(&trial, json!({ "steps": [{ "query": "select pg_sleep(600)" }] })).await;
        assert_eq!(answer.error().0, "Function.DeadlineExceeded");
        assert!(figures.get("DatabaseTime") > figures.get("Duration") / 2.0, "{figures:?}");
        assert!(figures.get("GuestTime") < figures.get("DatabaseTime"), "{figures:?}");
    }

    async fn a_wait_for_a_connection_is_told(door) {
        let database = Database::create().await;
        let setup = Setup::of(&QUERY).with(&database).database("pool_max", "1").toml(EMF);
        let trial = setup.start(door).await;
        let parallel = json!([{ "query": "select pg_sleep(0.2)::text" }, { "query": "select 1" }]);
        let figures = of_steps(&trial, json!([{ "parallel": parallel }])).await;
        // The second had to wait until the server was done with the first.
        assert!(figures.get("PoolWait") > 100.0, "{figures:?}");
        assert!(figures.get("DatabaseTime") > 200.0, "{figures:?}");
    }

    /// The first waits in the database while the second is done in the same instance.
    async fn figures_of_neighbours_do_not_mix(door) {
        let database = Database::create().await;
        let gate = database.gate().await;
        let setup = Setup::of(&QUERY).isolation("{ concurrent = 2 }").function("instances_max", "1");
        let trial = setup.with(&database).toml(EMF).concurrency(2).start(door).await;
        let slow = json!([
            { "query": Gate::PASS },
            { "query": "select n from generate_series(1, 7) n" },
        ]);
        let quick = async {
            gate.waited_for(1).await;
            let steps = json!([
                { "query": "select n from generate_series(1, 5000) n" },
                { "query": "select 1 / 0" },
            ]);
            let (_, figures) = told(&trial, json!({ "steps": steps })).await;
            gate.open().await;
            figures
        };
        let (slow, quick) = tokio::join!(of_steps(&trial, slow), quick);
        assert_eq!((slow.get("Rows"), slow.get("DatabaseErrors")), (8.0, 0.0));
        assert_eq!((quick.get("Rows"), quick.get("DatabaseErrors")), (5000.0, 1.0));
        assert!(slow.get("BytesReceived") < quick.get("BytesReceived"), "{slow:?} {quick:?}");
        assert!(slow.get("GuestTime") < quick.get("GuestTime"), "{slow:?} {quick:?}");
        let new = |figures: &Figures| figures.get("NewInstance");
        assert_eq!((new(&slow), new(&quick)), (1.0, 0.0));
    }

    async fn each_isolation_tells_of_its_instances(door) {
        for (isolation, again) in [("\"fresh\"", 1.0), ("\"serial\"", 0.0), ("{ concurrent = 4 }", 0.0)] {
            let trial = Setup::of(&ECHO).isolation(isolation).toml(EMF).start(door).await;
            told(&trial, json!(1)).await;
            let (_, figures) = told(&trial, json!(2)).await;
            assert_eq!(figures.get("NewInstance"), again, "{isolation}");
            assert!(figures.get("GuestTime") > 0.0, "{isolation}: {figures:?}");
        }
    }

    async fn the_tenant_and_the_request_are_beside_the_figures(door) {
        let trial = Setup::of(&ECHO).toml(EMF).start(door).await;
        let answer = trial.invoke_for(Some("blue"), json!(1)).await;
        let figures = Figures::of(&trial.host, &answer.request_id).await;
        assert_eq!(figures.text("tenantId"), "blue");
        assert!(figures.text("xrayTraceId").starts_with("1-"), "{figures:?}");
        assert_eq!(figures.text("level"), "", "it is for those who read JSON alone");
    }

    /// The work after the answer belongs to it.
    async fn figures_are_told_when_the_work_after_the_answer_is_done(door) {
        let database = Database::create().await;
        let gate = database.gate().await;
        let trial = Setup::of(&ONWARD).with(&database).toml(EMF).start(door).await;
        let work = json!([{ "step": { "query": Gate::PASS } }]);
        let answer = trial.invoke(json!({ "after": [work] })).await;
        answer.value();
        assert!(Figures::all(&trial.host).is_empty(), "there is more to come");
        gate.open().await;
        let figures = Figures::of(&trial.host, &answer.request_id).await;
        assert_eq!(figures.get("Rows"), 1.0);
        assert!(figures.get("AfterAnswer") > 0.0, "{figures:?}");
        let after = figures.get("GuestTimeAfter");
        assert!(after > 0.0 && after < figures.get("AfterAnswer"), "{figures:?}");
    }

    /// What it computes then is no part of the answer's time.
    async fn what_the_guest_computes_after_the_answer_is_told_apart(door) {
        let trial = Setup::of(&ONWARD).timeout(Duration::from_secs(2)).toml(EMF).start(door).await;
        let answer = trial.invoke(json!({ "after": [[{ "sleep": 1 }, "spin"]] })).await;
        answer.value();
        let figures = Figures::of(&trial.host, &answer.request_id).await;
        assert!(figures.get("GuestTime") <= figures.get("Duration"), "{figures:?}");
        assert!(figures.get("GuestTimeAfter") > figures.get("GuestTime"), "{figures:?}");
        assert!(figures.get("GuestTimeAfter") <= figures.get("AfterAnswer"), "{figures:?}");
    }
}

/// Lambda drops what is below the level that it was told, and takes what has none for INFO.
#[tokio::test]
async fn figures_have_a_level_where_lambda_looks_for_one() {
    let setup = Setup::of(&ECHO).toml(EMF);
    let setup = setup.variable("AWS_LAMBDA_LOG_FORMAT", "JSON");
    let setup = setup.variable("AWS_LAMBDA_LOG_LEVEL", "ERROR");
    let trial = setup.start(Door::Lambda).await;
    let (_, figures) = told(&trial, json!("here")).await;
    assert_eq!(figures.text("level"), "ERROR");
    assert!(figures.text("timestamp").ends_with('Z'), "{figures:?}");
}

#[tokio::test]
async fn a_freeze_is_told_and_is_not_the_invocations_time() {
    let clock = Clock::new();
    let setup = Setup::of(&ECHO).toml(EMF).clock(&clock);
    let trial = setup.start(Door::Lambda).await;
    let (_, first) = told(&trial, json!(1)).await;
    assert!(
        first.metrics.iter().all(|name| name != "ThawGap"),
        "{first:?}"
    );
    for (seconds, at_least) in [(0, 0.0), (3600, 3_600_000.0), (-7200, 0.0)] {
        trial.lambda().parked(1).await;
        trial.host.freeze();
        clock.shift(seconds);
        trial.host.thaw();
        let (_, figures) = told(&trial, json!(1)).await;
        let gap = figures.get("ThawGap");
        assert!(
            (at_least..at_least + 60_000.0).contains(&gap),
            "{seconds} s: {figures:?}"
        );
        assert!(figures.get("Duration") < 60_000.0, "{figures:?}");
    }
}
