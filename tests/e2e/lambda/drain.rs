//! SIGTERM: what runs is answered, what is open is closed, and the process ends well.

use std::time::{Duration, Instant};

use e2e::arrival::Reading;
use e2e::emf::Figures;
use e2e::guests::{MISBEHAVE, ONWARD, QUERY, STARTING};
use e2e::lambda::What;
use e2e::{Cut, Database, Door, Gate, Middlebox, Proxy, Server, Setup, Trial, eventually};
use futures_util::future::join_all;
use serde_json::{Value, json};

/// Longer than any drain may take, on a machine however busy.
pub const DRAINED: Duration = Duration::from_secs(20);

/// Time enough to cancel a statement, on a machine however busy.
const THREE_SECONDS: &str = "[lambda]\ndrain_timeout_ms = 3000\n";

behind_both_doors! {
    async fn an_idle_host_ends_and_leaves_no_connection(door) {
        let database = Database::create().await;
        let mut trial = Setup::of(&QUERY).with(&database).start(door).await;
        trial.value(json!({ "steps": [{ "query": "select 1" }] })).await;
        database.settles(1).await;
        trial.host.terminate();
        assert_eq!(trial.host.end(DRAINED).await.code(), Some(0));
        database.settles(0).await;
    }

    /// The invocation waits for a lock, and gets it after the signal. How soon is up to the machine, so
    /// the drain has all the time that there is.
    async fn an_invocation_that_runs_is_answered_first(door) {
        let database = Database::create().await;
        let gate = database.gate().await;
        let patient = "[lambda]\ndrain_timeout_ms = 10000\n";
        let mut trial = Setup::of(&QUERY).with(&database).toml(patient).start(door).await;
        let drain = async {
            gate.waited_for(1).await;
            trial.host.terminate();
            gate.open().await;
        };
        let wait = json!({ "steps": [{ "query": Gate::PASS }] });
        let (answer, ()) = tokio::join!(trial.value(wait), drain);
        assert_eq!(answer[0]["rows"], json!([[""]]));
        assert_eq!(trial.host.end(DRAINED).await.code(), Some(0));
        drop(gate);
        database.settles(0).await;
    }

    async fn an_invocation_that_never_ends_is_not_waited_for(door) {
        let mut trial = Setup::of(&MISBEHAVE).timeout(Duration::from_secs(60)).start(door).await;
        {
            let spin = trial.invoke(json!({ "act": "spin" }));
            let started = eventually("the guest's own line", async || {
                (trial.host.lines("spinning") > 0).then_some(())
            });
            tokio::select! {
                _ = spin => panic!("it cannot have ended"),
                () = started => {}
            }
        }
        trial.host.terminate();
        trial.host.end(DRAINED).await;
    }

    /// Its statement would go on, on the server, for ten minutes.
    async fn a_query_that_never_ends_is_cancelled_on_the_server(door) {
        let database = Database::create().await;
        let mut trial = Setup::of(&QUERY).with(&database).timeout(Duration::from_secs(60)).start(door).await;
        leave_sleeping(&trial, &database).await;
        trial.host.terminate();
        trial.host.end(DRAINED).await;
        database.settles(0).await;
    }

    /// It has some of the drain's time, although no event will come any more.
    async fn suspended_work_is_done_before_the_end(door) {
        let database = Database::with("create table notes (note text)").await;
        let mut trial = Setup::of(&ONWARD)
            .with(&database)
            .function("after_answer", "\"suspend\"")
            .toml(THREE_SECONDS)
            .start(door)
            .await;
        let note = json!({ "step": { "execute": "insert into notes values ('done')" } });
        trial.value(json!({ "after": [[{ "sleep": 100 }, note]] })).await;
        trial.host.terminate();
        assert_eq!(trial.host.end(DRAINED).await.code(), Some(0));
        assert_eq!(database.count("notes").await, 1);
        assert_eq!(trial.host.lines("given up"), 0);
        database.settles(0).await;
    }

    /// That is nobody's fault.
    async fn work_without_end_is_given_up(door) {
        join_all(["\"suspend\"", "\"finish\""].map(async |setting| {
            let mut trial = Setup::of(&ONWARD)
                .function("after_answer", setting)
                .timeout(Duration::from_secs(600))
                .toml("[log]\nmetrics = \"emf\"\n")
                .start(door)
                .await;
            let answer = trial.invoke(json!({ "after": [[{ "sleep": 600_000 }]] })).await;
            trial.host.terminate();
            let line = trial.host.line("is given up with the environment").await;
            assert!(line.contains(&answer.request_id), "{line}");
            assert_eq!(trial.host.end(DRAINED).await.code(), Some(0), "{setting}");
            assert_eq!(trial.host.lines("ERROR"), 0, "{setting}");
            assert_eq!(Figures::of(&trial.host, &answer.request_id).await.get("Faults"), 0.0, "{setting}");
        }))
        .await;
    }

    /// As whoever presses ctrl-c again.
    async fn a_second_signal_waits_for_nothing(door) {
        let database = Database::create().await;
        let mut trial = Setup::of(&QUERY)
            .with(&database)
            .timeout(Duration::from_secs(60))
            .toml("[lambda]\ndrain_timeout_ms = 10000\n")
            .start(door)
            .await;
        leave_sleeping(&trial, &database).await;
        let begun = Instant::now();
        for line in ["stopping on", "waiting for nothing more"] {
            trial.host.terminate();
            trial.host.line(line).await;
        }
        assert_eq!(trial.host.end(DRAINED).await.code(), Some(0));
        assert_eq!(trial.host.lines("were still running"), 0);
        // Two thirds of the time that there is, it would have been.
        assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    }
}

/// Wherever guests run, and however much of the answer is out.
#[tokio::test]
async fn what_is_cut_short_is_logged_and_counted() {
    for concurrency in [1, 2] {
        let begun = json!({ "print": "begun" });
        let waits = json!([begun, { "sleep": 600_000 }]);
        for event in [
            json!({ "first": waits }),
            json!({ "stream": [{ "send": "half" }, begun, { "sleep": 600_000 }] }),
        ] {
            let mut trial = Setup::of(&ONWARD)
                .function("response", "\"stream\"")
                .timeout(Duration::from_secs(600))
                .concurrency(concurrency)
                .toml("[log]\nmetrics = \"emf\"\n[lambda]\ndrain_timeout_ms = 3000\n")
                .start(Door::Lambda)
                .await;
            let sent = trial.event(event.to_string());
            let id = sent.id.clone();
            trial.lambda().send(sent);
            trial.host.line("begun").await;
            trial.host.terminate();
            assert_eq!(trial.host.end(DRAINED).await.code(), Some(0));
            let line = trial.host.last_line("ERROR").unwrap_or_default();
            assert!(line.contains(&id), "{concurrency} {event}: {line}");
            let faults = Figures::of(&trial.host, &id).await.get("Faults");
            assert_eq!(faults, 1.0, "{concurrency} {event}");
            let answer = trial.lambda().answer(&id).await;
            let is_streamed = event.get("stream").is_some();
            assert_eq!(answer.what == What::Error, !is_streamed, "{answer:?}");
        }
    }
}

/// An event whose statement would go on for ten minutes.
fn ten_minutes() -> Value {
    json!({ "steps": [{ "batch": "select pg_sleep(600)" }] })
}

/// Waits until such a statement has begun.
async fn sleeps(database: &Database) {
    database.sleeps_in(1).await;
}

/// Invokes the function behind whichever door, and waits no longer than until its statement has begun.
async fn leave_sleeping(trial: &Trial, database: &Database) {
    tokio::select! {
        _ = trial.invoke(ten_minutes()) => panic!("it cannot have ended"),
        () = sleeps(database) => {}
    }
}

/// Sends such an event, and waits until its statement has begun.
async fn begin(trial: &Trial, database: &Database) {
    trial.lambda().send(trial.event(ten_minutes().to_string()));
    sleeps(database).await;
}

/// More than a server takes requests to cancel of in a moment.
const MANY: usize = 64;

/// All of them post at once, beside the requests to cancel their statements.
#[tokio::test]
async fn many_invocations_that_are_cut_short_are_all_answered_and_leave_nothing_running() {
    let database = Database::create().await;
    let mut trial = Setup::of(&QUERY)
        .with(&database)
        .timeout(Duration::from_secs(60))
        .toml(THREE_SECONDS)
        .concurrency(MANY)
        .start(Door::Lambda)
        .await;
    let event = ten_minutes().to_string();
    let events: Vec<_> = (0..MANY).map(|_| trial.event(event.clone())).collect();
    let ids: Vec<_> = events.iter().map(|event| event.id.clone()).collect();
    events
        .into_iter()
        .for_each(|event| trial.lambda().send(event));
    database.sleeps_in(MANY as u64).await;
    trial.host.terminate();
    assert_eq!(trial.host.end(DRAINED).await.code(), Some(0));
    for id in ids {
        let answer = trial.lambda().answer(&id).await;
        assert_eq!((answer.what, answer.status), (What::Error, 202));
    }
    database.settles(0).await;
}

/// It would have a reply's whole time twice: on the connection that is open, and on another.
#[tokio::test]
async fn a_runtime_api_that_takes_no_answer_is_not_waited_for() {
    let database = Database::create().await;
    let mut trial = Setup::of(&QUERY)
        .with(&database)
        .timeout(Duration::from_secs(60))
        .toml(THREE_SECONDS)
        .behind_middlebox()
        .start(Door::Lambda)
        .await;
    begin(&trial, &database).await;
    trial.middlebox().cut(Cut::Silence).await;
    trial.host.terminate();
    assert_eq!(trial.host.end(DRAINED).await.code(), Some(0));
    database.settles(0).await;
    let calls = trial.lambda().calls();
    let answer = |what| matches!(what, What::Response | What::Error);
    assert!(!calls.iter().any(|call| answer(call.what)));
}

/// The session that hangs may do so until the good-bye to the other has arrived, and then has its own.
#[tokio::test]
async fn a_session_that_hangs_delays_nobody_elses_good_bye() {
    let database = Database::create().await;
    let proxy = Proxy::of(&database);
    let mut trial = Setup::of(&QUERY)
        .through(&proxy)
        .database("warm", "2")
        .timeout(Duration::from_secs(60))
        .toml("[lambda]\ndrain_timeout_ms = 6000\n")
        .start(Door::Lambda)
        .await;
    begin(&trial, &database).await;
    proxy.hold(true);
    trial.host.terminate();
    let good_byes = || {
        let (flushes, _) = proxy.passed();
        flushes.iter().filter(|flush| *flush == "X").count()
    };
    eventually("a good-bye", async || (good_byes() > 0).then_some(())).await;
    proxy.hold(false);
    assert_eq!(trial.host.end(DRAINED).await.code(), Some(0));
    assert_eq!(good_byes(), 2);
}

/// On Managed Instances the slots end before the session does; and wherever it is, nobody may read what is
/// left to be told. A third of a drain's time is for the cancellation: of the longest that there can be, or a busy
/// machine would not have it. So they are drained at the same time.
#[tokio::test]
async fn a_stream_that_is_cut_short_leaves_no_statement_behind() {
    let cases = [1, 2]
        .map(|concurrency| [Reading::Freely, Reading::Held].map(|reading| (concurrency, reading)));
    join_all(
        cases
            .into_iter()
            .flatten()
            .map(async |(concurrency, reading)| {
                let database = Database::create().await;
                let mut trial = Setup::of(&ONWARD)
                    .with(&database)
                    .function("response", "\"stream\"")
                    .timeout(Duration::from_secs(60))
                    .toml("[lambda]\ndrain_timeout_ms = 10000\n")
                    .concurrency(concurrency)
                    .start(Door::Lambda)
                    .await;
                trial.lambda().read(reading);
                let step = json!({ "step": { "batch": "select pg_sleep(600)" } });
                let event = json!({ "stream": [{ "send": "half" }, step] });
                trial.lambda().send(trial.event(event.to_string()));
                sleeps(&database).await;
                trial.host.terminate();
                let status = trial.host.end(DRAINED).await;
                assert_eq!(status.code(), Some(0), "{concurrency} {reading:?}");
                database.settles(0).await;
            }),
    )
    .await;
}

/// The quickest of three, since the machine may be busy: each would have waited for the server to close its side
/// until there is no time left, and somebody kills the process.
#[tokio::test]
async fn a_database_that_is_silent_is_not_waited_for() {
    let server = Server::listening().await;
    let rules = "local all all trust\nhost all all 0.0.0.0/0 trust\n";
    server.set_up(&[("pg_hba.conf", rules)], &[]).await;
    let database = Database::create_on(&server).await;
    let mut quickest = DRAINED;
    for _ in 0..3 {
        let middlebox = Middlebox::before(&format!("{}:5432", server.address())).await;
        let (address, name) = (middlebox.address(), &database.name);
        let mut trial = Setup::of(&QUERY)
            .database("url", &format!("\"postgres://postgres@{address}/{name}\""))
            .toml("[lambda]\ndrain_timeout_ms = 1000\n")
            .start(Door::Lambda)
            .await;
        trial
            .value(json!({ "steps": [{ "query": "select 1" }] }))
            .await;
        assert_eq!(middlebox.cut(Cut::Drop).await, 1);
        let begun = Instant::now();
        trial.host.terminate();
        assert_eq!(trial.host.end(DRAINED).await.code(), Some(0));
        quickest = quickest.min(begun.elapsed());
    }
    assert!(quickest < Duration::from_secs(1), "{quickest:?}");
}

#[tokio::test]
async fn a_good_bye_leaves_however_little_time_there_is() {
    let database = Database::create().await;
    let proxy = Proxy::of(&database);
    let mut trial = Setup::of(&QUERY)
        .through(&proxy)
        .database("warm", "3")
        .toml("[lambda]\ndrain_timeout_ms = 1\n")
        .start(Door::Lambda)
        .await;
    // What the server was told ahead of the first event.
    proxy.forget();
    trial.host.terminate();
    assert_eq!(trial.host.end(DRAINED).await.code(), Some(0));
    eventually("three good-byes", async || {
        let (flushes, _) = proxy.passed();
        (flushes == ["X", "X", "X"]).then_some(())
    })
    .await;
}

/// Neither in the middle of an invocation nor in that of the work after its answer.
#[tokio::test]
async fn no_instance_is_built_in_place_of_one_that_a_drain_ends() {
    for event in ["\"never\"", "\"later\""] {
        let setup = Setup::of(&STARTING).timeout(Duration::from_secs(60));
        let mut trial = setup.start(Door::Lambda).await;
        let said = |trial: &Trial, words| {
            let log = trial.host.log();
            log.iter().filter(|line| line.contains(words)).count()
        };
        trial.lambda().send(trial.event(event));
        eventually("the guest's own line", async || {
            (said(&trial, "it never ends") > 0).then_some(())
        })
        .await;
        trial.host.terminate();
        trial.host.end(DRAINED).await;
        assert_eq!(said(&trial, "an instance starts"), 1, "{event}");
    }
}
