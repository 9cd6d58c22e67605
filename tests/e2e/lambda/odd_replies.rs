//! What the Runtime API may say instead of an event, and the ways in which HTTP can say an event: after
//! each, the next event gets its right answer.

use std::time::Duration;

use e2e::guests::{ECHO, ONWARD};
use e2e::lambda::What;
use e2e::raw_runtime_api::Reply;
use e2e::trial::FUNCTION;
use e2e::{Clock, Guest, Host, RawRuntimeApi, Setup};

const ID: &str = "Lambda-Runtime-Aws-Request-Id";

/// The function behind a Runtime API of this test's own, with these variables.
async fn start(guest: &Guest, variables: &[(String, String)]) -> (RawRuntimeApi, Host) {
    start_behind(RawRuntimeApi::start().await, guest, variables).await
}

async fn start_behind(
    api: RawRuntimeApi,
    guest: &Guest,
    variables: &[(String, String)],
) -> (RawRuntimeApi, Host) {
    let directory = Setup::of(guest).write();
    let host = Host::bootstrap(&directory, FUNCTION, &api.address(), variables);
    (api, host)
}

/// An event that is said in this way is answered, and so is the next.
async fn is_understood(reply: impl Fn(&str) -> Reply) {
    let (api, _host) = start(&ECHO, &[]).await;
    for id in ["r-1", "r-2"] {
        api.say(reply(id));
        let answer = api.answer(id).await;
        assert_eq!(
            (answer.what, &answer.body[..]),
            (What::Response, &b"[1]"[..])
        );
    }
    is_served(&api, "r-3").await;
}

/// After this, an event is answered.
async fn is_survived(reply: Reply) {
    let (api, _host) = start(&ECHO, &[]).await;
    for number in 0..2 {
        api.say(reply.clone());
        is_served(&api, &format!("r-{number}")).await;
    }
}

async fn is_served(api: &RawRuntimeApi, id: &str) {
    let event = format!("[\"{id}\"]");
    api.say(Reply::event(id, &event));
    let answer = api.answer(id).await;
    assert_eq!((answer.what, answer.body), (What::Response, event.into()));
    assert_eq!(api.answers(id), 1);
}

#[tokio::test]
async fn an_event_by_an_older_version_of_http_is_understood() {
    is_understood(|id| {
        Reply::last(format!(
            "HTTP/1.0 200 OK\r\n{ID}: {id}\r\nContent-Length: 3\r\n\r\n[1]"
        ))
    })
    .await;
}

#[tokio::test]
async fn an_event_that_ends_with_its_connection_is_understood() {
    is_understood(|id| Reply::last(format!("HTTP/1.1 200 OK\r\n{ID}: {id}\r\n\r\n[1]"))).await;
}

#[tokio::test]
async fn an_event_after_an_interim_reply_is_understood() {
    is_understood(|id| {
        Reply::open(format!(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n\
             HTTP/1.1 200 OK\r\n{ID}: {id}\r\nContent-Length: 3\r\n\r\n[1]"
        ))
    })
    .await;
}

#[tokio::test]
async fn an_event_in_chunks_with_extensions_and_trailers_is_understood() {
    is_understood(|id| {
        Reply::open(format!(
            "HTTP/1.1 200 OK\r\n{ID}: {id}\r\nTransfer-Encoding: chunked\r\n\r\n\
             1;name=value;other=\"x\"\r\n[\r\n2 ; last\r\n1]\r\n0;end\r\nChecksum: none\r\n\r\n"
        ))
    })
    .await;
}

#[tokio::test]
async fn an_event_without_a_request_id_is_passed_over() {
    is_survived(Reply::open(
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[0]",
    ))
    .await;
}

#[tokio::test]
async fn an_event_that_is_cut_short_is_asked_for_again() {
    let head = format!("HTTP/1.1 200 OK\r\n{ID}: r-0\r\n");
    for half in [
        format!("{head}Content-Length: 9\r\n\r\n[1, "),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n4\r\n[1, \r\n5\r\n2"),
        head,
    ] {
        is_survived(Reply::last(half)).await;
    }
}

#[tokio::test]
async fn a_reply_whose_length_is_told_twice_is_none() {
    let lengths = "Content-Length: 3\r\nContent-Length: 4";
    is_survived(Reply::open(format!(
        "HTTP/1.1 200 OK\r\n{ID}: x\r\n{lengths}\r\n\r\n[1]"
    )))
    .await;
}

/// It would be read for ever, and kept.
#[tokio::test]
async fn a_head_or_an_extension_of_a_chunk_without_end_is_given_up() {
    let endless = "x".repeat(4 << 20);
    let head = format!("HTTP/1.1 200 OK\r\n{ID}: x\r\n");
    for reply in [
        format!("{head}Endless: {endless}"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n1;{endless}"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n0\r\nEndless: {endless}"),
    ] {
        is_survived(Reply::open(reply)).await;
    }
}

/// By HTTP's own rules such a reply ends with its connection, which does not end.
#[tokio::test]
async fn an_answer_is_taken_by_a_reply_that_says_nothing_of_its_length() {
    for taken in [
        &b"HTTP/1.1 202 Accepted\r\n\r\n"[..],
        b"HTTP/1.1 202 Accepted\r\n\r\n{\"status\":\"OK\"}",
        b"HTTP/1.0 202 Accepted\r\nConnection: keep-alive\r\n\r\n",
    ] {
        let api = RawRuntimeApi::start_saying(taken).await;
        let (api, _host) = start_behind(api, &ECHO, &[]).await;
        for id in ["r-1", "r-2", "r-3"] {
            is_served(&api, id).await;
        }
    }
}

/// And an event whose rest does not come by its deadline.
#[tokio::test]
async fn a_reply_without_an_end_is_given_up() {
    let event = Reply::event_within("r-x", Duration::from_secs(2), "[1, 2, 3]");
    for reply in [
        Reply::open("HTTP/1.1 503 Service Unavailable\r\n\r\n"),
        Reply::open("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\n"),
        Reply::open("HTTP/1.1 200 OK\r\nLambda-Runtime-"),
        event.cut(3),
    ] {
        is_survived(reply).await;
    }
}

#[tokio::test]
async fn an_event_with_many_headers_is_understood() {
    is_understood(|id| {
        let many: String = (0..500).map(|n| format!("X-{n}: {n}\r\n")).collect();
        Reply::event_with(id, &many, "[1]")
    })
    .await;
}

#[tokio::test]
async fn an_event_with_older_forms_of_headers_is_understood() {
    for lines in [
        "X-Folded: a\r\n b\r\n",
        "Transfer-Encoding: identity\r\n",
        "Content-Length: 3, 3\r\n",
    ] {
        is_understood(|id| Reply::event_with(id, lines, "[1]")).await;
    }
}

/// Whoever hands the tenant on may not know of UTF-8.
#[tokio::test]
async fn two_tenants_are_never_one() {
    let (api, _host) = start(&ECHO, &[]).await;
    for (number, (letter, expected)) in [(0xfc, "bl\u{fc}"), (0xf6, "bl\u{f6}")].iter().enumerate()
    {
        let id = format!("r-{number}");
        let mut said = format!("HTTP/1.1 200 OK\r\n{ID}: {id}\r\nLambda-Runtime-Aws-Tenant-Id: bl")
            .into_bytes();
        said.push(*letter);
        said.extend_from_slice(b"\r\nContent-Length: 9\r\n\r\n\"context\"");
        api.say(Reply::open(said));
        let told: serde_json::Value = serde_json::from_slice(&api.answer(&id).await.body).unwrap();
        assert_eq!(told["tenant_id"], *expected);
    }
}

/// For longer than a Runtime API that says nothing at all would be asked.
#[tokio::test]
async fn whoever_talks_nonsense_is_asked_again_however_often() {
    let (api, _host) = start(&ECHO, &[]).await;
    for _ in 0..6 {
        api.say(Reply::last("SSH-2.0-OpenSSH_9.2\r\n"));
        api.say(Reply::open(
            "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        ));
    }
    is_served(&api, "r-1").await;
}

/// Lambda's clock and the host's are not one, and nothing tells by how much.
#[tokio::test]
async fn a_clock_that_was_moved_costs_no_event_where_the_other_side_shows_none() {
    for seconds in [-3_600, -60, 2, 3, 60, 899, 3_600] {
        let clock = Clock::new();
        let deadline_ms = clock.unix_ms_in(Duration::from_secs(1));
        clock.shift(seconds);
        let (api, _host) = start(&ONWARD, &clock.variables()).await;
        let event = r#"{"first":[{"sleep":20}]}"#;
        let length = event.len();
        api.say(Reply::open(format!(
            "HTTP/1.1 200 OK\r\n{ID}: r-1\r\nLambda-Runtime-Deadline-Ms: {deadline_ms}\r\n\
             Content-Length: {length}\r\n\r\n{event}"
        )));
        let answer = api.answer("r-1").await;
        assert_eq!(answer.what, What::Response, "{seconds} s");
    }
}
