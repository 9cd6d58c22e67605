//! What the Runtime API says of an answer, late, in part or not at all: it is posted twice at most, and the
//! next event is asked for as soon as there is word of it.

use std::time::{Duration, Instant};

use e2e::guests::{ECHO, MISBEHAVE, ONWARD};
use e2e::lambda::What;
use e2e::raw_runtime_api::{Receipts, Reply};
use e2e::trial::FUNCTION;
use e2e::{Host, RawRuntimeApi, Setup, eventually};

/// Longer than a busy machine needs, and no deadline of these tests.
const SOON: Duration = Duration::from_secs(12);

fn start(api: RawRuntimeApi, setup: Setup) -> (RawRuntimeApi, Host) {
    let directory = setup.write();
    let host = Host::bootstrap(&directory, FUNCTION, &api.address(), &[]);
    (api, host)
}

async fn is_served(api: &RawRuntimeApi, id: &str) {
    api.say(Reply::event(id, "{}"));
    let answer = api.answer(id).await;
    assert_eq!(answer.what, What::Response);
}

/// So much time has passed.
async fn passed(time: Duration) {
    let begun = Instant::now();
    eventually("the end of a while", async || {
        (begun.elapsed() > time).then_some(())
    })
    .await;
}

/// Where that comes for the first copy, the second one is of no use any more.
#[tokio::test]
async fn a_late_receipt_ends_the_posting_on_whichever_connection_it_comes() {
    let (api, _host) = start(RawRuntimeApi::start().await, Setup::of(&ECHO));
    for id in ["r-1", "r-2"] {
        api.receipts(Receipts::Held);
        api.say(Reply::event_within(id, Duration::from_secs(8), "[1]"));
        api.answered(id, 2).await;
        api.receipts(match id {
            "r-1" => Receipts::SentToFirst,
            _ => Receipts::Sent,
        });
        is_served(&api, &format!("after-{id}")).await;
        assert_eq!(api.answers(id), 2);
    }
}

/// All the time that is left is for the reply to the second copy.
#[tokio::test]
async fn an_answer_is_posted_twice_at_most() {
    let (api, _host) = start(RawRuntimeApi::start().await, Setup::of(&ECHO));
    api.receipts(Receipts::Held);
    api.say(Reply::event_within("r-1", Duration::from_secs(60), "[1]"));
    api.answered("r-1", 2).await;
    // By then there would be a third and a fourth.
    passed(Duration::from_secs(11)).await;
    api.receipts(Receipts::Sent);
    is_served(&api, "r-2").await;
    assert_eq!(api.answers("r-1"), 2);
}

/// The whole process stands still while the reply comes, and past the time in which it had to come.
#[tokio::test]
async fn a_receipt_that_came_during_a_freeze_is_seen_before_the_answer_is_posted_again() {
    let (api, host) = start(RawRuntimeApi::start().await, Setup::of(&ECHO));
    for number in 1..=3 {
        let id = format!("r-{number}");
        api.receipts(Receipts::Held);
        api.say(Reply::event_within(&id, Duration::from_secs(6), "[1]"));
        api.answer(&id).await;
        // By then it waits for the reply.
        passed(Duration::from_millis(200)).await;
        host.freeze();
        api.receipts(Receipts::Sent);
        passed(Duration::from_secs(4)).await;
        host.thaw();
        is_served(&api, &format!("after-{id}")).await;
        assert_eq!(api.answers(&id), 1);
    }
}

/// So it is with RAPID's successors, gateways and the like: the body is of no interest to anybody.
#[tokio::test]
async fn an_answer_is_taken_with_the_head_of_the_reply() {
    for taken in [
        &b"HTTP/1.1 202 Accepted\r\nContent-Length: 16\r\n\r\n{\"st"[..],
        b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"HTTP/1.1 413 Too Large\r\nContent-Length: 16\r\n\r\n",
    ] {
        let api = RawRuntimeApi::start_saying(taken).await;
        let (api, _host) = start(api, Setup::of(&ECHO));
        let begun = Instant::now();
        for id in ["r-1", "r-2", "r-3"] {
            is_served(&api, id).await;
            assert_eq!(api.answers(id), 1);
        }
        assert!(begun.elapsed() < SOON);
    }
}

#[tokio::test]
async fn a_streamed_answer_is_taken_with_the_head_of_the_reply() {
    for taken in [
        &b"HTTP/1.1 202 Accepted\r\n\r\n"[..],
        b"HTTP/1.1 202 Accepted\r\nContent-Length: 16\r\n\r\n{\"st",
        b"HTTP/1.1 413 Too Large\r\n\r\n",
    ] {
        let api = RawRuntimeApi::start_saying(taken).await;
        let setup = Setup::of(&ONWARD).function("response", "\"stream\"");
        let (api, _host) = start(api, setup);
        let begun = Instant::now();
        for id in ["r-1", "r-2", "r-3"] {
            api.say(Reply::event(id, r#"{"stream":[{"send":"whole"}]}"#));
            let answer = api.answer(id).await;
            assert_eq!(answer.what, What::Response);
            assert_eq!(answer.body, &b"5\r\nwhole\r\n0\r\n\r\n"[..]);
        }
        assert!(begun.elapsed() < SOON);
    }
}

/// Lambda tries an event again that has failed, under the same id; it is not the one without an answer.
#[tokio::test]
async fn a_retry_is_an_invocation_of_its_own() {
    let (api, _host) = start(RawRuntimeApi::start().await, Setup::of(&MISBEHAVE));
    for id in ["r-1", "r-2"] {
        api.receipts(Receipts::Lost);
        let time = Duration::from_secs(2);
        api.say(Reply::event_within(id, time, r#"{"act":"spin"}"#));
        assert_eq!(api.answer(id).await.what, What::Error);
        passed(time).await;
        let lost = api.answers(id);
        api.receipts(Receipts::Sent);
        api.say(Reply::event_within(id, time * 10, "{}"));
        api.answered(id, lost + 1).await;
        assert_eq!(api.last_answer(id).what, What::Response);
    }
}

/// On a clock that was moved further than any timeout, and nothing tells by how much.
#[tokio::test]
async fn where_no_deadline_can_be_true_there_is_as_much_time_as_the_last_event_had() {
    let (api, _host) = start(RawRuntimeApi::start().await, Setup::of(&MISBEHAVE));
    api.say(Reply::event_within("r-1", Duration::from_secs(3), "{}"));
    api.answer("r-1").await;
    let begun = Instant::now();
    let moved = "Lambda-Runtime-Deadline-Ms: 600000\r\n";
    api.say(Reply::event_with("r-2", moved, r#"{"act":"spin"}"#));
    assert_eq!(api.answer("r-2").await.what, What::Error);
    assert!(begun.elapsed() < SOON);
}

/// A gateway between may not let any connection wait for longer.
#[tokio::test]
async fn a_wait_that_is_cut_after_a_while_begins_again_at_once_however_often() {
    let api = RawRuntimeApi::start().await;
    let (api, host) = start(api, Setup::of(&ECHO));
    is_served(&api, "r-1").await;
    for _ in 0..4 {
        let asked = api.asked();
        passed(Duration::from_millis(2_500)).await;
        api.say(Reply::last(""));
        eventually("another request", async || {
            (api.asked() > asked).then_some(())
        })
        .await;
    }
    is_served(&api, "r-2").await;
    // That is what is said where there is a pause.
    assert_eq!(host.lines("did not answer"), 0);
}

/// Where it is handed out once, nothing else tells of it.
#[tokio::test]
async fn an_event_that_breaks_off_after_a_while_is_told_of() {
    let api = RawRuntimeApi::start().await;
    let (api, mut host) = start(api, Setup::of(&ECHO));
    is_served(&api, "r-1").await;
    passed(Duration::from_millis(2_500)).await;
    let event = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[1, 2";
    api.say(Reply::last(event));
    let told = host.line("was cut short").await;
    assert!(told.contains("WARN"), "{told}");
    is_served(&api, "r-2").await;
}
