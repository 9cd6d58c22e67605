//! From the start of an environment to its end: what is done before the first event, what a
//! snapshot changes, and what Lambda must be told so that the end is an orderly one.

use std::time::Duration;

use e2e::guests::{COPIED, ECHO, QUERY, STARTING};
use e2e::lambda::What;
use e2e::{Clock, Database, Door, Gate, PATIENCE, Setup, Trial, eventually, local};
use serde_json::{Value, json};

use super::snapshots::{FAILURES, told_of};

async fn select(trial: &Trial, sql: &str) -> Value {
    trial.value(json!({ "steps": [{ "query": sql }] })).await[0]["rows"].take()
}

/// Without one, Lambda ends an environment with SIGKILL.
#[tokio::test]
async fn the_host_is_an_extension_before_it_asks_for_an_event() {
    let trial = Setup::of(&ECHO).start(Door::Lambda).await;
    assert_eq!(trial.value(json!(1)).await, 1);
    let calls = trial.lambda().calls();
    assert_eq!(calls[0].what, What::Register);
    assert_eq!(calls[0].body, r#"{"events":[]}"#);
    assert_eq!(calls[0].header("Lambda-Extension-Name"), "hearth-drain");
    assert_eq!(trial.lambda().extensions(), 1);
}

#[tokio::test]
async fn where_there_is_no_extensions_api_events_are_served() {
    let setup = Setup::of(&ECHO).reply(What::Register, 404);
    let trial = setup.start(Door::Lambda).await;
    assert_eq!(trial.value(json!(1)).await, 1);
    assert_eq!(trial.lambda().extensions(), 0);
    let calls = trial.lambda().calls();
    let registrations = calls.iter().filter(|call| call.what == What::Register);
    assert_eq!(registrations.count(), 1, "a refusal is not repeated");
}

/// Or it would end without a signal, for all of its life.
#[tokio::test]
async fn a_registration_that_nobody_has_heard_is_made_again() {
    for setup in [
        Setup::of(&ECHO).reply(What::Register, 503),
        Setup::of(&ECHO).reply(What::Register, 429),
        Setup::of(&ECHO).lose(What::Register, 1),
    ] {
        let trial = setup.start(Door::Lambda).await;
        eventually("an extension that waits", async || {
            (trial.lambda().extensions() == 1).then_some(())
        })
        .await;
        assert_eq!(trial.value(json!(1)).await, 1);
    }
}

/// Lambda would send no event while it does not wait.
#[tokio::test]
async fn a_wait_that_is_interrupted_begins_again_however_often() {
    for times in [1, 11] {
        let setup = Setup::of(&ECHO);
        let setup = (0..times).fold(setup, |setup, _| setup.reply(What::Wait, 500));
        let trial = setup.start(Door::Lambda).await;
        eventually("an extension that waits", async || {
            (trial.lambda().extensions() == 1).then_some(())
        })
        .await;
        assert_eq!(trial.value(json!(1)).await, 1);
    }
}

/// Lambda has registered it, and sends no event while it does not wait as one.
#[tokio::test]
async fn a_registration_whose_reply_is_late_is_one_all_the_same() {
    let delay = Duration::from_millis(700);
    let setup = Setup::of(&ECHO).behind_slow_middlebox(delay);
    let mut trial = setup.launch(Door::Lambda).await;
    let late = "the registration as an extension has had no reply";
    assert!(trial.host.line(late).await.contains("WARN"));
    trial.middlebox().delay(Duration::ZERO);
    eventually("an extension that waits", async || {
        (trial.lambda().extensions() == 1).then_some(())
    })
    .await;
    assert_eq!(trial.value(json!(1)).await, 1);
}

#[tokio::test]
async fn connections_are_open_before_the_first_event_and_are_those_that_it_uses() {
    let database = Database::create().await;
    let setup = Setup::of(&QUERY).with(&database).database("warm", "2");
    let trial = setup.start(Door::Lambda).await;
    assert_eq!(database.backends().await, 2);
    select(&trial, "select 1").await;
    assert_eq!(database.sessions().await, 2);
}

/// The server has room for no third one, and is asked again and again for as long as warming may take.
#[tokio::test]
async fn connections_that_are_warm_are_used_before_the_others_are_there() {
    let database = Database::create().await;
    let role = format!("{}_only", database.name);
    database
        .run(&format!("create role {role} login connection limit 2"))
        .await;
    let setup = Setup::of(&QUERY)
        .url(&database.url_as(&role, None))
        .database("connect_timeout_ms", "60000")
        .database("pool_max", "3")
        .database("warm", "3");
    let trial = setup.start(Door::Lambda).await;
    let event = json!({ "steps": [{ "query": "select 1" }] });
    let answer = trial.invoke_within(Duration::from_secs(3), event).await;
    assert_eq!(answer.value()[0]["rows"], json!([[1]]));
}

#[tokio::test]
async fn nothing_is_connected_to_where_nothing_is_to_be_warm() {
    let database = Database::create().await;
    let setup = Setup::of(&QUERY).with(&database).database("warm", "0");
    let trial = setup.start(Door::Lambda).await;
    assert_eq!(database.backends().await, 0);
    assert_eq!(select(&trial, "select 1").await, json!([[1]]));
}

#[tokio::test]
async fn a_database_that_is_away_keeps_no_function_from_starting() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    let url = format!("\"postgres://postgres@127.0.0.1:{port}/postgres\"");
    let setup = Setup::of(&QUERY).database("url", &url);
    let mut trial = setup.start(Door::Lambda).await;
    trial.host.line("ahead of the first event").await;
    let answer = trial
        .value(json!({ "steps": [{ "query": "select 1" }] }))
        .await;
    assert!(
        answer[0]["error"].to_string().contains("refused"),
        "{answer}"
    );
}

/// It takes connections and says nothing, for as long as a connect may take.
#[tokio::test]
async fn a_database_that_is_silent_keeps_no_function_from_starting() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let url = format!("\"postgres://postgres@127.0.0.1:{port}/postgres\"");
    let mut trial = Setup::of(&QUERY)
        .database("url", &url)
        .start(Door::Lambda)
        .await;
    let ahead = "ahead of the first event";
    assert_eq!(trial.host.last_line(ahead), None);
    trial.host.line(ahead).await;
}

/// On Managed Instances: none is built, and no connection waited for, inside of an invocation.
#[tokio::test]
async fn there_are_instances_and_connections_for_all_events_at_a_time() {
    let trial = Setup::of(&STARTING)
        .concurrency(5)
        .start(Door::Lambda)
        .await;
    let started = || trial.host.lines("an instance starts");
    eventually("five instances", async || (started() == 5).then_some(())).await;

    let database = Database::create().await;
    let gate = database.gate().await;
    let slots = 12;
    let trial = Setup::of(&QUERY)
        .with(&database)
        .concurrency(slots)
        .start(Door::Lambda)
        .await;
    let wait = json!({ "steps": [{ "batch": Gate::PASS }] });
    for _ in 0..slots {
        trial.lambda().send(trial.event(wait.to_string()));
    }
    gate.waited_for(slots).await;
}

/// Lambda may end it without a word, so the log has one; and a signal ends it.
#[tokio::test]
async fn an_init_without_end_is_told_of_and_ended() {
    let database = Database::create().await;
    let setup = Setup::of(&STARTING)
        .with(&database)
        .function("environment", "{ START = \"never\" }");
    let mut trial = setup.launch(Door::Lambda).await;
    trial.host.line("`init` has taken 9 s").await;
    trial.host.terminate();
    let status = trial.host.end(Duration::from_secs(20)).await;
    assert_eq!(status.code(), Some(0));
    database.settles(0).await;
    let calls = trial.lambda().calls();
    let told = [What::InitError, What::Next];
    assert!(!calls.iter().any(|call| told.contains(&call.what)));
}

/// There Lambda waits for minutes, and does not say what was wrong.
#[tokio::test]
async fn an_init_without_end_is_reported_where_it_is_not_for_an_event() {
    for kind in [
        "provisioned-concurrency",
        "snap-start",
        "lambda-managed-instances",
    ] {
        let setup = Setup::of(&STARTING)
            .function("environment", "{ START = \"never\" }")
            .variable("AWS_LAMBDA_INITIALIZATION_TYPE", kind)
            .toml("[lambda]\ninit_timeout_ms = 500\n");
        let mut trial = setup.launch(Door::Lambda).await;
        assert_eq!(trial.host.end(PATIENCE).await.code(), Some(1), "{kind}");
        let calls = trial.lambda().calls();
        let told = calls.iter().find(|call| call.what == What::InitError);
        let told = told.expect("it is reported");
        let told: Value = serde_json::from_slice(&told.body).unwrap();
        assert_eq!(told["errorType"], "Function.InitFailed");
        let message = told["errorMessage"].as_str().unwrap();
        assert!(
            message.contains("had not returned after 0.5 s"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn an_init_that_fails_is_reported_once_and_ends_the_environment() {
    for (act, expected) in FAILURES {
        let environment = format!("{{ INIT = {act:?} }}");
        let setup = Setup::of(&COPIED).function("environment", &environment);
        let mut trial = setup.launch(Door::Lambda).await;
        let (error_type, message) = told_of(&mut trial, What::InitError).await;
        assert_eq!(error_type, "Function.InitFailed", "{act}: {message}");
        assert!(message.contains(expected), "{message}");
    }
}

#[tokio::test]
async fn an_init_that_fails_is_an_error_of_its_function_alone_on_the_local_host() {
    for (act, expected) in FAILURES {
        let environment = format!("{{ INIT = {act:?} }}");
        let other = ECHO.compiled().display().to_string();
        let trial = Setup::of(&COPIED)
            .function("environment", &environment)
            .toml(&format!("[function.other]\ncomponent = {other:?}\n"))
            .start(Door::Local)
            .await;
        for _ in 0..2 {
            let answer = trial.invoke(json!(1)).await;
            let (error_type, message) = answer.error();
            assert_eq!(error_type, "Function.InitFailed", "{act}: {message}");
            assert!(message.contains(expected), "{message}");
            assert_eq!(answer.headers["x-amz-function-error"], "Unhandled");
            let answer = local::invoke(trial.address(), "other", &[], "2".into()).await;
            assert_eq!(
                (answer.status().as_u16(), &answer.body()[..]),
                (200, &b"2"[..])
            );
        }
    }
}

behind_both_doors! {
    /// Whoever waits for the successor of an instance that trapped is told, and the next one finds another.
    async fn an_init_that_fails_later_is_an_error_and_not_the_end(door) {
        let clock = Clock::new();
        let soon = clock.unix_ms_in(Duration::from_secs(1800)) / 1000;
        let environment = format!("{{ INIT = \"fail after {soon}\" }}");
        let trial = Setup::of(&COPIED)
            .function("environment", &environment)
            .clock(&clock)
            .start(door)
            .await;
        assert_eq!(trial.value(json!(1)).await["served"], 1);
        clock.shift(3600);
        assert_eq!(trial.error(json!("trap")).await.0, "Function.Trap");
        let (error_type, message) = trial.error(json!(1)).await;
        assert_eq!(error_type, "Function.InitFailed", "{message}");
        clock.shift(-3600);
        assert_eq!(trial.value(json!(1)).await["served"], 1);
    }
}

#[tokio::test]
async fn a_configuration_is_found_where_lambda_names_no_folder() {
    let setup = Setup::of(&ECHO).variable("LAMBDA_TASK_ROOT", "");
    let trial = setup.start(Door::Lambda).await;
    assert_eq!(trial.value(json!(1)).await, 1);
}

/// Two would hand each event, and each answer of a database, from one to the other.
#[tokio::test]
async fn one_event_at_a_time_takes_one_thread() {
    let database = Database::create().await;
    let trial = Setup::of(&QUERY).with(&database).start(Door::Lambda).await;
    select(&trial, "select 1").await;
    // Beside it there is the one that keeps the time, and for a while the one that has loaded the component.
    let threads = trial.host.holdings().threads;
    assert!(threads <= 3, "{threads}");
}

#[tokio::test]
async fn events_and_answers_take_one_connection_to_lambda() {
    let setup = Setup::of(&ECHO).behind_middlebox();
    let trial = setup.start(Door::Lambda).await;
    trial.value(json!(0)).await;
    let connects = trial.middlebox().connects();
    for number in 1..=5 {
        assert_eq!(trial.value(json!(number)).await, number);
    }
    assert_eq!(trial.middlebox().connects(), connects);
}
