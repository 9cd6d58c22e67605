//! What ends an environment, or fails to start one: the Runtime API says so, or somebody kills the process.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::guests::{COPIED, ECHO, QUERY, STARTING};
use e2e::lambda::{Lambda, What};
use e2e::trial::FUNCTION;
use e2e::{Database, Door, Host, PATIENCE, Setup, Trial, eventually};
use serde_json::json;

/// Linux's: a pipe that nobody reads is not waited for.
const O_NONBLOCK: i32 = 0o4000;

/// How often this was called.
fn calls(trial: &Trial, what: What) -> usize {
    let calls = trial.lambda().calls();
    calls.iter().filter(|call| call.what == what).count()
}

/// It is what the process would wait for, were there no signal.
#[tokio::test]
async fn a_failed_start_whose_report_is_not_replied_to_ends_with_a_signal() {
    for (setup, connects) in [
        (Setup::of(&ECHO).toml("[functoin.other]\n"), 1),
        // Beside the registration as an extension.
        (
            Setup::of(&COPIED).function("environment", "{ INIT = \"fail\" }"),
            2,
        ),
    ] {
        let setup = setup.behind_slow_middlebox(PATIENCE);
        let mut trial = setup.launch(Door::Lambda).await;
        let reports = async || (trial.middlebox().connects() == connects).then_some(());
        eventually("a report", reports).await;
        let begun = Instant::now();
        trial.host.terminate();
        assert_eq!(trial.host.end(PATIENCE).await.code(), Some(1));
        assert!(begun.elapsed() < Duration::from_secs(5), "{begun:?}");
    }
}

/// It waits for its configuration, long before it asks for an event.
#[tokio::test]
async fn a_signal_at_the_very_beginning_is_an_orderly_end() {
    let lambda = Lambda::start().await;
    let directory = Setup::of(&ECHO).write();
    let path = directory.join("hearth.toml");
    let text = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let made = Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let mut host = Host::bootstrap(&directory, FUNCTION, &lambda.address(), &[]);
    let mut configuration = eventually("a reader of the configuration", async || {
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(O_NONBLOCK);
        options.open(&path).ok()
    })
    .await;
    host.terminate();
    configuration.write_all(&text).unwrap();
    drop(configuration);
    assert_eq!(host.end(PATIENCE).await.code(), Some(0));
    assert_eq!(lambda.asked(), 0);
}

/// 403 is the reply to a second report, 500 that of a container beyond repair.
#[tokio::test]
async fn a_failed_start_whose_report_is_refused_ends_all_the_same() {
    for status in [202, 403, 413, 500] {
        let setup = Setup::of(&ECHO)
            .toml("[functoin.other]\n")
            .reply(What::InitError, status);
        let mut trial = setup.launch(Door::Lambda).await;
        assert_eq!(trial.host.end(PATIENCE).await.code(), Some(1), "{status}");
        assert_eq!(calls(&trial, What::InitError), 1, "{status}");
        assert_eq!(calls(&trial, What::Next), 0, "{status}");
    }
}

/// Lambda would know of nothing but an end.
#[tokio::test]
async fn the_report_of_a_failed_start_is_made_again_if_it_is_lost() {
    for times in [1, 2] {
        let setup = Setup::of(&ECHO)
            .toml("[functoin.other]\n")
            .lose(What::InitError, times);
        let mut trial = setup.launch(Door::Lambda).await;
        assert_eq!(trial.host.end(PATIENCE).await.code(), Some(1), "{times}");
        assert_eq!(calls(&trial, What::InitError), 1, "{times}");
    }
}

#[tokio::test]
async fn a_500_to_a_request_for_an_event_ends_the_process_and_every_connection() {
    let database = Database::create().await;
    for slots in [1, 3] {
        let setup = Setup::of(&QUERY)
            .with(&database)
            .concurrency(slots)
            .reply(What::Next, 500);
        let mut trial = setup.launch(Door::Lambda).await;
        assert_eq!(trial.host.end(PATIENCE).await.code(), Some(1));
        database.settles(0).await;
    }
}

/// Lambda kills an environment whose `init` takes too long, and starts another one in the same place for the
/// event that waits.
#[tokio::test]
async fn an_environment_that_is_killed_at_its_start_is_followed_by_one_that_serves() {
    let setup = Setup::of(&STARTING)
        .function("environment", "{ START = { variable = \"START\" } }")
        .function("temporary_mib", "1")
        .variable("START", "never");
    let mut trial = setup.launch(Door::Lambda).await;
    trial.host.line("an instance starts").await;
    let event = trial.event("[1]");
    let id = event.id.clone();
    trial.lambda().send(event);
    trial.host.kill();
    assert_eq!(trial.host.end(PATIENCE).await.code(), None);
    let again = [("START".to_owned(), "well".to_owned())];
    let address = trial.lambda().address();
    trial.host = Host::bootstrap(&trial.directory, FUNCTION, &address, &again);
    let answer = trial.lambda().answer(&id).await;
    assert_eq!(
        (answer.what, &answer.body[..]),
        (What::Response, &b"[1]"[..])
    );
    assert_eq!(trial.value(json!([2])).await, json!([2]));
}

/// Nobody can be told of it, and it is not waited for as one that is away.
#[tokio::test]
async fn an_address_that_is_none_ends_the_start_at_once() {
    let directory = Setup::of(&ECHO).write();
    let mut host = Host::bootstrap(&directory, FUNCTION, "foo", &[]);
    assert_eq!(host.end(PATIENCE).await.code(), Some(1));
    let told = "AWS_LAMBDA_RUNTIME_API: expected host:port, got \"foo\"";
    assert_eq!(host.lines(told), 1, "{:?}", host.log());
    assert_eq!(host.log().len(), 1, "{:?}", host.log());
}
