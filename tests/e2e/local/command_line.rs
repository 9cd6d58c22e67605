//! `hearth invoke` handles one event without a server.

use std::time::Duration;

use e2e::guests::{COUNTER, ECHO, MISBEHAVE, STARTING};
use e2e::trial::FUNCTION;
use e2e::{Host, PATIENCE, Setup};

#[tokio::test]
async fn the_command_line_invokes_a_function_once() {
    let directory = Setup::of(&COUNTER).write();
    let arguments = ["invoke", FUNCTION, "--data", "{}"];
    let mut host = Host::hearth(&directory, &arguments, &[]);
    let status = host.end(PATIENCE).await;
    assert_eq!(status.code(), Some(0), "{:?}", host.log());
    host.line(r#""served":1"#).await;
}

/// Its instance is built first, as Lambda builds one before its first event.
#[tokio::test]
async fn an_init_takes_no_time_from_the_event_of_the_command_line() {
    let slowly = Setup::of(&STARTING).function("environment", "{ START = \"slowly\" }");
    let directory = slowly.timeout(Duration::from_secs(1)).write();
    let mut host = Host::hearth(&directory, &["invoke", FUNCTION, "-d", "1"], &[]);
    assert_eq!(host.end(PATIENCE).await.code(), Some(0), "{:?}", host.log());
}

/// A number below zero is JSON, and no option.
#[tokio::test]
async fn the_command_line_takes_an_event_that_begins_with_a_hyphen() {
    let directory = Setup::of(&ECHO).write();
    let mut host = Host::hearth(&directory, &["invoke", FUNCTION, "-d", "-5"], &[]);
    assert_eq!(host.end(PATIENCE).await.code(), Some(0), "{:?}", host.log());
    assert!(host.log().contains(&"-5".to_owned()), "{:?}", host.log());
}

#[tokio::test]
async fn the_command_line_invokes_for_a_tenant() {
    let directory = Setup::of(&ECHO).write();
    let arguments = [
        "invoke",
        FUNCTION,
        "--data",
        r#""context""#,
        "--tenant-id",
        "blue",
    ];
    let mut host = Host::hearth(&directory, &arguments, &[]);
    assert_eq!(host.end(PATIENCE).await.code(), Some(0), "{:?}", host.log());
    host.line(r#""tenant_id":"blue""#).await;
}

/// As in the header, where nothing is no tenant.
#[tokio::test]
async fn the_command_line_takes_the_tenants_that_callers_may_name() {
    let directory = Setup::of(&ECHO).write();
    for (tenant, status, line) in [
        ("", 0, r#""tenant_id":null"#),
        (" blue ", 0, r#""tenant_id":"blue""#),
        ("ä", 1, "--tenant-id must be printable ASCII text"),
    ] {
        let arguments = [
            "invoke",
            FUNCTION,
            "-d",
            r#""context""#,
            "--tenant-id",
            tenant,
        ];
        let mut host = Host::hearth(&directory, &arguments, &[]);
        assert_eq!(
            host.end(PATIENCE).await.code(),
            Some(status),
            "{:?}",
            host.log()
        );
        host.line(line).await;
    }
}

#[tokio::test]
async fn the_command_line_tells_a_failure_by_its_exit_code() {
    let directory = Setup::of(&MISBEHAVE).write();
    let arguments = ["invoke", FUNCTION, "--data", r#"{"act":"fail"}"#];
    let mut host = Host::hearth(&directory, &arguments, &[]);
    assert_eq!(host.end(PATIENCE).await.code(), Some(1));
    host.line(r#""errorType":"Misbehaved""#).await;
}

#[tokio::test]
async fn the_command_line_takes_an_event_from_a_file() {
    let directory = Setup::of(&ECHO).write();
    std::fs::write(directory.join("event.json"), r#"{"from":"a file"}"#).expect("it is new");
    let arguments = ["invoke", FUNCTION, "--data", "@event.json"];
    let mut host = Host::hearth(&directory, &arguments, &[]);
    assert_eq!(host.end(PATIENCE).await.code(), Some(0), "{:?}", host.log());
    host.line(r#"{"from":"a file"}"#).await;
}
