//! The local host speaks Lambda's Invoke API.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use e2e::guests::{COUNTER, ECHO, MISBEHAVE, ONWARD};
use e2e::local::{header, invoke, send};
use e2e::trial::FUNCTION;
use e2e::{Database, Door, Gate, Setup, eventually};
use hyper::Method;
use serde_json::{Value, json};

fn json_of(body: &Bytes) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|error| panic!("{error}: {body:?}"))
}

#[tokio::test]
async fn a_request_response_invocation_answers_with_the_functions_bytes() {
    let trial = Setup::of(&ECHO).start(Door::Local).await;
    for headers in [&[][..], &[("X-Amz-Invocation-Type", "RequestResponse")]] {
        let response = invoke(
            trial.address(),
            FUNCTION,
            headers,
            Bytes::from_static(b"{\"a\" : 1.0}"),
        )
        .await;
        assert_eq!(
            (response.status().as_u16(), &response.body()[..]),
            (200, &b"{\"a\" : 1.0}"[..])
        );
        assert_eq!(header(&response, "x-amz-executed-version"), "$LATEST");
        assert_eq!(header(&response, "x-amz-function-error"), "");
        assert!(!header(&response, "x-amzn-requestid").is_empty());
    }
}

/// An event that leaves a row behind when it is handled.
fn traceable() -> Bytes {
    let sql = "insert into handled values (default) returning 'handled'";
    json!({ "sql": sql }).to_string().into()
}

/// Waits until so many such events are handled.
async fn are_handled(database: &Database, events: &str) {
    let sql = "select count(*)::text from handled";
    eventually("the event is handled", async || {
        (database.value(sql).await.as_deref() == Some(events)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_event_invocation_is_accepted_at_once_and_handled_later() {
    let database = Database::with("create table handled (id serial)").await;
    let trial = Setup::of(&COUNTER).with(&database).start(Door::Local).await;
    let headers = [("X-Amz-Invocation-Type", "Event")];
    let response = invoke(trial.address(), FUNCTION, &headers, traceable()).await;
    assert_eq!(
        (response.status().as_u16(), response.body().len()),
        (202, 0)
    );
    are_handled(&database, "1").await;
}

/// As older clients invoke, at a path that ends with a slash.
#[tokio::test]
async fn an_invoke_async_is_an_event() {
    let database = Database::with("create table handled (id serial)").await;
    let trial = Setup::of(&COUNTER).with(&database).start(Door::Local).await;
    for (end, handled) in [("", "1"), ("/", "2")] {
        let path = format!("/2014-11-13/functions/{FUNCTION}/invoke-async{end}");
        let response = send(trial.address(), Method::POST, &path, &[], traceable()).await;
        assert_eq!(
            (response.status().as_u16(), response.body().len()),
            (202, 0)
        );
        are_handled(&database, handled).await;
    }
}

#[tokio::test]
async fn a_payload_comes_out_of_the_frames_of_aws_chunked() {
    let trial = Setup::of(&ECHO).start(Door::Local).await;
    let headers = [
        ("Content-Encoding", "aws-chunked"),
        ("X-Amz-Decoded-Content-Length", "7"),
    ];
    let framed =
        "4;chunk-signature=0\r\n{\"a\"\r\n3\r\n:1}\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n";
    let send = async |body: &'static str| {
        let response = invoke(trial.address(), FUNCTION, &headers, body.into()).await;
        (response.status().as_u16(), response.into_body())
    };
    assert_eq!(send(framed).await, (200, "{\"a\":1}".into()));
    let (status, body) = send("{\"a\":1}").await;
    assert_eq!(status, 400);
    assert!(
        String::from_utf8_lossy(&body).contains("aws-chunked"),
        "{body:?}"
    );
}

#[tokio::test]
async fn a_dry_run_runs_nothing() {
    let trial = Setup::of(&COUNTER).start(Door::Local).await;
    let headers = [("X-Amz-Invocation-Type", "DryRun")];
    let response = invoke(
        trial.address(),
        FUNCTION,
        &headers,
        Bytes::from_static(b"{}"),
    )
    .await;
    assert_eq!(
        (response.status().as_u16(), response.body().len()),
        (204, 0)
    );
    assert_eq!(trial.value(json!({})).await["served"], 1);
}

#[tokio::test]
async fn a_functions_error_is_a_200_that_says_so() {
    let trial = Setup::of(&MISBEHAVE).start(Door::Local).await;
    let response = invoke(
        trial.address(),
        FUNCTION,
        &[],
        json!({ "act": "fail" }).to_string().into(),
    )
    .await;
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "x-amz-function-error"), "Unhandled");
    assert_eq!(json_of(response.body())["errorType"], "Misbehaved");
}

#[tokio::test]
async fn the_tail_of_the_log_comes_with_the_answer_if_asked_for() {
    let trial = Setup::of(&MISBEHAVE).start(Door::Local).await;
    let event = Bytes::from(json!({ "act": "print", "text": "one line\nanother" }).to_string());
    let response = invoke(
        trial.address(),
        FUNCTION,
        &[("X-Amz-Log-Type", "Tail")],
        event.clone(),
    )
    .await;
    let tail = STANDARD
        .decode(header(&response, "x-amz-log-result"))
        .unwrap();
    let tail = String::from_utf8(tail).unwrap();
    assert!(
        tail.contains("one line") && tail.contains("another"),
        "{tail}"
    );
    let response = invoke(trial.address(), FUNCTION, &[], event).await;
    assert_eq!(header(&response, "x-amz-log-result"), "");
    let flood = Bytes::from(json!({ "act": "flood" }).to_string());
    let response = invoke(
        trial.address(),
        FUNCTION,
        &[("X-Amz-Log-Type", "Tail")],
        flood,
    )
    .await;
    assert!(
        STANDARD
            .decode(header(&response, "x-amz-log-result"))
            .unwrap()
            .len()
            <= 4096
    );
}

/// It goes on in the time of an invocation that has nothing to do with it.
#[tokio::test]
async fn what_is_printed_for_no_invocation_is_in_nobodys_tail() {
    let database = Database::create().await;
    let gate = database.gate().await;
    let trial = Setup::of(&ONWARD)
        .with(&database)
        .isolation("{ concurrent = 2 }")
        .function("instances_max", "1")
        .start(Door::Local)
        .await;
    trial
        .value(json!({ "first": [{ "stray": "gone astray" }] }))
        .await;
    let event = json!({ "first": [{ "step": { "batch": Gate::PASS } }, { "print": "mine" }] });
    let headers = [("X-Amz-Log-Type", "Tail")];
    let tailed = invoke(
        trial.address(),
        FUNCTION,
        &headers,
        event.to_string().into(),
    );
    let meanwhile = async {
        gate.waited_for(1).await;
        let printed = || {
            let log = trial.host.log();
            log.iter()
                .filter(|line| line.contains("gone astray"))
                .count()
        };
        let before = printed();
        let more = async || (printed() > before + 1).then_some(());
        eventually("what is printed for nobody", more).await;
        gate.open().await;
    };
    let (tailed, ()) = tokio::join!(tailed, meanwhile);
    let tail = STANDARD
        .decode(header(&tailed, "x-amz-log-result"))
        .unwrap();
    let tail = String::from_utf8(tail).unwrap();
    assert!(tail.contains("mine"), "{tail}");
    assert!(!tail.contains("gone astray"), "{tail}");
}

#[tokio::test]
async fn the_client_context_reaches_the_function() {
    let trial = Setup::of(&ECHO).start(Door::Local).await;
    let context = STANDARD.encode(r#"{"custom":{"a":"b"}}"#);
    let headers = [
        ("X-Amz-Client-Context", context.as_str()),
        ("X-Amz-Tenant-Id", "blue"),
    ];
    let response = invoke(
        trial.address(),
        FUNCTION,
        &headers,
        Bytes::from_static(b"\"context\""),
    )
    .await;
    let told = json_of(response.body());
    assert_eq!(told["client_context"], r#"{"custom":{"a":"b"}}"#);
    assert_eq!(told["tenant_id"], "blue");
    assert_eq!(told["request_id"], header(&response, "x-amzn-requestid"));
    assert_eq!(told["function_name"], FUNCTION);
    assert!(
        told["function_arn"]
            .as_str()
            .unwrap()
            .ends_with(&format!(":function:{FUNCTION}")),
        "{told}"
    );
}

/// By its name, its ARN, as a partial ARN, percent-encoded as boto3 sends it.
#[tokio::test]
async fn a_function_has_several_names() {
    let trial = Setup::of(&ECHO).start(Door::Local).await;
    for name in [
        FUNCTION.to_owned(),
        format!("arn:aws:lambda:eu-central-1:123456789012:function:{FUNCTION}"),
        format!("arn%3Aaws%3Alambda%3Aeu-central-1%3A123456789012%3Afunction%3A{FUNCTION}"),
        format!("123456789012:function:{FUNCTION}"),
    ] {
        let response = invoke(trial.address(), &name, &[], Bytes::from_static(b"1")).await;
        assert_eq!(
            (response.status().as_u16(), &response.body()[..]),
            (200, &b"1"[..]),
            "{name}"
        );
    }
}

/// A caller that goes away does not take the host with it.
#[tokio::test]
async fn a_caller_that_hangs_up_leaves_the_host_serving() {
    let trial = Setup::of(&MISBEHAVE)
        .timeout(std::time::Duration::from_secs(3))
        .start(Door::Local)
        .await;
    let spins = eventually("the guest's own line", async || {
        trial
            .host
            .log()
            .iter()
            .any(|line| line.contains("spinning"))
            .then_some(())
    });
    tokio::select! {
        _ = trial.invoke(json!({ "act": "spin" })) => panic!("it cannot have ended"),
        () = spins => {}
    }
    trial.value(json!({})).await;
}

/// It may be one that others use, given by a variable that happens to be set.
#[tokio::test]
async fn a_database_that_setup_files_change_is_told_of_unless_it_is_the_hosts_own() {
    let database = Database::create().await;
    let schema = "create table made (id int)";
    let file = e2e::run::fresh_directory().join("schema.sql");
    std::fs::write(&file, schema).expect("it is new");
    let setup = Setup::of(&COUNTER)
        .function("databases", "[\"default\"]")
        .toml(&format!("[database.default]\nsetup = [{file:?}]\n"))
        .variable("DATABASE_URL", &database.url());
    let mut trial = setup.start(Door::Local).await;
    let line = trial.host.line("is not this host's own").await;
    assert!(line.contains("WARN"), "{line}");
    let made = "select count(*)::text from made";
    assert_eq!(database.value(made).await.as_deref(), Some("0"));
}

#[tokio::test]
async fn an_address_in_the_environment_takes_the_place_of_a_database_of_ones_own() {
    let database = Database::create().await;
    let setup = Setup::of(&COUNTER)
        .function("databases", "[\"default\"]")
        .toml("[database.default]\n")
        .variable("DATABASE_URL", &database.url());
    let trial = setup.start(Door::Local).await;
    let answer = trial
        .value(json!({ "sql": "select current_database()::text" }))
        .await;
    let name = database.value("select current_database()").await;
    assert_eq!(answer["value"].as_str(), name.as_deref());
    assert!(!trial.directory.join(".hearth").exists());
}
