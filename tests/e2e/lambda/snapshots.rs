//! Around a snapshot: what becomes of instances and connections in the copies, what a function's hooks do, and
//! what Lambda is told when one fails.

use e2e::guests::{COPIED, ECHO, REBUILT};
use e2e::lambda::What;
use e2e::{Clock, Cut, Database, Door, Guest, PATIENCE, Setup, Trial, eventually};
use serde_json::{Value, json};

/// Ways in which an `init` or a hook fails, and words that whoever is told of its failure can go by.
pub const FAILURES: [(&str, &str); 5] = [
    ("fail", "as it was told"),
    ("panic", "the function panicked: as it was told"),
    ("trap", "the function trapped"),
    ("exit", "ended its process with status 1"),
    ("grow", "more memory than its `memory_mib`"),
];

fn snapshotted(guest: &Guest) -> Setup {
    Setup::of(guest).variable("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
}

/// With hooks that do this.
fn told(guest: &Guest, environment: &str) -> Setup {
    snapshotted(guest).function("environment", environment)
}

/// Starts it, makes a snapshot and restores it.
async fn restored(setup: Setup) -> Trial {
    let trial = setup.launch(Door::Lambda).await;
    trial.lambda().snapshot().await;
    trial.lambda().restore();
    trial.lambda().parked(1).await;
    trial
}

/// What Lambda is told of the one failure, once the host has ended with status 1 and has asked for no event.
pub async fn told_of(trial: &mut Trial, what: What) -> (String, String) {
    assert_eq!(trial.host.end(PATIENCE).await.code(), Some(1));
    let calls = trial.lambda().calls();
    let count = |what| calls.iter().filter(|call| call.what == what).count();
    assert_eq!(count(What::Next), 0);
    assert_eq!(count(What::InitError) + count(What::RestoreError), 1);
    let call = calls.iter().find(|call| call.what == what);
    let call = call.expect("it is the one call of the two");
    let error: Value = serde_json::from_slice(&call.body).expect("it is JSON");
    let error_type = error["errorType"].as_str().expect("it has one").to_owned();
    assert_eq!(
        call.header("Lambda-Runtime-Function-Error-Type"),
        error_type
    );
    (error_type, error["errorMessage"].to_string())
}

#[tokio::test]
async fn an_instance_with_a_hook_is_kept_and_has_run_it_before_its_first_event() {
    for isolation in ["\"serial\"", "\"fresh\"", "{ concurrent = 4 }"] {
        let trial = restored(snapshotted(&COPIED).isolation(isolation)).await;
        let expected = json!({
            "inits": 1, "snapshots": 1, "restores": 1, "served": 1, "first": true, "told": [],
        });
        assert_eq!(trial.value(json!(1)).await, expected, "{isolation}");
    }
}

/// The other end of the connection is that of another life, or the Runtime API is not itself yet.
#[tokio::test]
async fn a_wait_for_a_restore_that_is_interrupted_begins_again() {
    let setup = snapshotted(&COPIED)
        .reply(What::Restore, 503)
        .reply(What::Restore, 403)
        .behind_middlebox();
    let trial = setup.launch(Door::Lambda).await;
    for cut in [Cut::Reset, Cut::Finish] {
        trial.lambda().snapshot().await;
        let connects = trial.middlebox().connects();
        assert!(trial.middlebox().cut(cut).await >= 1);
        eventually("the extension's and the other connection", async || {
            (trial.middlebox().connects() >= connects + 2).then_some(())
        })
        .await;
    }
    trial.lambda().snapshot().await;
    trial.lambda().restore();
    trial.lambda().parked(1).await;
    assert_eq!(trial.value(json!(1)).await["restores"], 1);
}

#[tokio::test]
async fn a_restore_that_lambda_gives_up_ends_the_process() {
    let setup = snapshotted(&ECHO).reply(What::Restore, 500);
    let mut trial = setup.launch(Door::Lambda).await;
    assert_eq!(trial.host.end(PATIENCE).await.code(), Some(1));
    let calls = trial.lambda().calls();
    let told = calls.iter().filter(|call| call.what == What::RestoreError);
    assert_eq!(told.count(), 1);
}

/// After that, Lambda ends a start without a word.
#[tokio::test]
async fn a_hook_before_a_snapshot_has_what_the_start_has_left() {
    let setup = told(&COPIED, "{ SNAPSHOT = \"wait\" }");
    let setup = setup.toml("[lambda]\ninit_timeout_ms = 3000\n");
    let mut trial = setup.launch(Door::Lambda).await;
    let (error_type, message) = told_of(&mut trial, What::InitError).await;
    assert_eq!(error_type, "Function.SnapshotFailed", "{message}");
    assert!(message.contains("had not returned after"), "{message}");
}

#[tokio::test]
async fn an_instance_is_told_of_a_restore_once_and_serves_on() {
    let trial = restored(snapshotted(&COPIED)).await;
    trial.value(json!(1)).await;
    let account = trial.value(json!(1)).await;
    assert_eq!(
        (&account["restores"], &account["served"]),
        (&json!(1), &json!(2))
    );
}

#[tokio::test]
async fn an_instance_without_a_hook_is_built_anew() {
    let trial = restored(snapshotted(&REBUILT)).await;
    let expected = json!({
        "inits": 1, "snapshots": 0, "restores": 0, "served": 1, "first": true, "told": [],
    });
    assert_eq!(trial.value(json!(1)).await, expected);
    let runs = |hook| trial.host.lines(hook);
    assert_eq!((runs("INIT runs"), runs("SNAPSHOT runs")), (2, 1));
}

#[tokio::test]
async fn an_instance_that_is_built_after_a_restore_is_told_nothing() {
    let trial = restored(snapshotted(&COPIED).isolation("\"fresh\"")).await;
    trial.value(json!(1)).await;
    let account = trial.value(json!(1)).await;
    assert_eq!(
        (&account["inits"], &account["restores"]),
        (&json!(1), &json!(0))
    );
}

#[tokio::test]
async fn an_instance_does_not_age_in_a_snapshot() {
    let clock = Clock::new();
    let setup = snapshotted(&COPIED).clock(&clock);
    let trial = setup.launch(Door::Lambda).await;
    trial.lambda().snapshot().await;
    clock.shift(30 * 24 * 3600);
    trial.lambda().restore();
    trial.lambda().parked(1).await;
    trial.value(json!(1)).await;
    assert_eq!(trial.value(json!(1)).await["served"], 2);
}

#[tokio::test]
async fn where_there_is_no_snapshot_no_hook_runs() {
    for door in [Door::Lambda, Door::Local] {
        let trial = Setup::of(&COPIED).start(door).await;
        let account = trial.value(json!(1)).await;
        let hooks = (
            &account["inits"],
            &account["snapshots"],
            &account["restores"],
        );
        assert_eq!(hooks, (&json!(1), &json!(0), &json!(0)), "{door:?}");
    }
}

#[tokio::test]
async fn a_hook_has_no_database_and_connections_are_new_after_it() {
    let database = Database::create().await;
    let environment = r#"{ INIT = "query", SNAPSHOT = "query", RESTORED = "query" }"#;
    let setup = told(&COPIED, environment).with(&database);
    let trial = setup.launch(Door::Lambda).await;
    trial.lambda().snapshot().await;
    database.settles(0).await;
    let before = database.sessions().await;
    assert_eq!(
        before, 1,
        "a wrong address is found out before the snapshot"
    );
    trial.lambda().restore();
    trial.lambda().parked(1).await;
    database.settles(1).await;
    assert_eq!(database.sessions().await, before + 1);
    let account = trial.value(json!(1)).await;
    let told = account["told"]
        .as_array()
        .expect("they were told something");
    assert_eq!(told.len(), 3, "{account}");
    for told in told {
        assert!(
            told.to_string().contains("outside of any invocation"),
            "{told}"
        );
    }
    let made = "select count(*) from pg_class where relname = 'made_by_a_hook'";
    database.until(made, "0").await;
}

/// Whoever waits for the restored environment's first answer would wait for it.
#[tokio::test]
async fn a_database_that_is_silent_after_a_restore_keeps_no_event_waiting() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let url = format!("\"postgres://postgres@127.0.0.1:{port}/postgres\"");
    let trial = snapshotted(&COPIED)
        .database("url", &url)
        .launch(Door::Lambda)
        .await;
    trial.lambda().snapshot().await;
    let ahead = "ahead of the first event";
    let told = async |times| {
        eventually("that it was not opened", async || {
            (trial.host.lines(ahead) == times).then_some(())
        })
        .await
    };
    told(1).await;
    trial.lambda().restore();
    trial.lambda().parked(1).await;
    assert_eq!(trial.host.lines(ahead), 1, "it is still waited for");
    told(2).await;
}

#[tokio::test]
async fn a_hook_that_fails_after_a_restore_is_reported_and_ends_the_environment() {
    for (act, expected) in FAILURES {
        let setup = told(&COPIED, &format!("{{ RESTORED = {act:?} }}"));
        let mut trial = setup.launch(Door::Lambda).await;
        trial.lambda().snapshot().await;
        trial.lambda().restore();
        let (error_type, message) = told_of(&mut trial, What::RestoreError).await;
        assert_eq!(error_type, "Function.RestoreFailed", "{act}");
        assert!(
            message.contains("`restored`") && message.contains(expected),
            "{message}"
        );
    }
}

/// Lambda would know of nothing but an end.
#[tokio::test]
async fn the_report_of_a_restore_that_failed_is_made_again_if_it_is_lost() {
    let setup = told(&COPIED, "{ RESTORED = \"fail\" }").lose(What::RestoreError, 2);
    let mut trial = setup.launch(Door::Lambda).await;
    trial.lambda().snapshot().await;
    trial.lambda().restore();
    let (error_type, _) = told_of(&mut trial, What::RestoreError).await;
    assert_eq!(error_type, "Function.RestoreFailed");
}

#[tokio::test]
async fn a_hook_that_does_not_return_after_a_restore_is_ended_and_reported() {
    let database = Database::create().await;
    for act in ["spin", "wait", "block"] {
        let setup = told(&COPIED, &format!("{{ RESTORED = {act:?} }}"))
            .with(&database)
            .toml("[lambda]\nrestore_timeout_ms = 300\n");
        let mut trial = setup.launch(Door::Lambda).await;
        trial.lambda().snapshot().await;
        trial.lambda().restore();
        let (error_type, message) = told_of(&mut trial, What::RestoreError).await;
        assert_eq!(error_type, "Function.RestoreFailed", "{act}");
        assert!(message.contains("`restored` had not returned"), "{message}");
        database.settles(0).await;
    }
}

/// Its `init` returns before the snapshot, and never after.
#[tokio::test]
async fn a_new_instance_that_is_not_ready_in_time_after_a_restore_is_reported() {
    let clock = Clock::new();
    let soon = std::time::Duration::from_secs(1800);
    let environment = format!("{{ INIT = \"{}\" }}", clock.unix_ms_in(soon) / 1000);
    let setup = told(&REBUILT, &environment)
        .clock(&clock)
        .toml("[lambda]\nrestore_timeout_ms = 2000\n");
    let mut trial = setup.launch(Door::Lambda).await;
    trial.lambda().snapshot().await;
    clock.shift(3600);
    trial.lambda().restore();
    let (error_type, message) = told_of(&mut trial, What::RestoreError).await;
    assert_eq!(error_type, "Function.RestoreFailed");
    assert!(message.contains("give it a hook `restored`"), "{message}");
}

#[tokio::test]
async fn a_hook_that_fails_before_a_snapshot_is_a_failed_start() {
    for act in ["fail", "panic"] {
        let setup = told(&REBUILT, &format!("{{ SNAPSHOT = {act:?} }}"));
        let mut trial = setup.launch(Door::Lambda).await;
        let (error_type, message) = told_of(&mut trial, What::InitError).await;
        assert_eq!(error_type, "Function.SnapshotFailed", "{act}");
        assert!(message.contains("as it was told"), "{message}");
        let calls = trial.lambda().calls();
        assert!(calls.iter().all(|call| call.what != What::Restore));
    }
}

#[tokio::test]
async fn an_environment_that_is_to_end_does_not_wait_for_a_hook() {
    let setup = told(&COPIED, r#"{ RESTORED = "spin" }"#);
    let mut trial = setup.launch(Door::Lambda).await;
    trial.lambda().snapshot().await;
    trial.lambda().restore();
    trial.host.line("RESTORED runs").await;
    trial.host.terminate();
    assert_eq!(trial.host.end(PATIENCE).await.code(), Some(0));
}
