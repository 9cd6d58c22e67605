//! SIGTERM while the Runtime API is in the middle of something: an event that it has begun to hand out is
//! answered, an answer that got lost is posted again.

use std::time::Duration;

use e2e::arrival::Reading;
use e2e::guests::{ECHO, ONWARD, QUERY};
use e2e::lambda::{Fate, What};
use e2e::raw_runtime_api::{Leaving, Reply};
use e2e::trial::FUNCTION;
use e2e::{Database, Door, Gate, Host, Proxy, RawRuntimeApi, Setup};
use serde_json::json;

use super::drain::DRAINED;

/// Whether the signal comes in its head or in its body.
#[tokio::test]
async fn an_event_of_which_half_has_come_is_answered() {
    let event = "[1, 2, 3]";
    for left in [3, event.len() + 20] {
        let api = RawRuntimeApi::start().await;
        let patient = "[lambda]\ndrain_timeout_ms = 10000\n";
        let directory = Setup::of(&ECHO).toml(patient).write();
        let mut host = Host::bootstrap(&directory, FUNCTION, &api.address(), &[]);
        let (half, go_on) = Reply::event("r-1", event).halting(left);
        api.say(half);
        api.halts().await;
        host.terminate();
        host.line("stopping on").await;
        go_on.notify_one();
        assert_eq!(host.end(DRAINED).await.code(), Some(0));
        let (answers, asked) = (api.answers("r-1"), api.asked());
        assert_eq!((answers, asked), (1, 1), "{left} bytes");
        assert_eq!(api.last_answer("r-1").body, event);
    }
}

/// It was on its way when the host said that it asks for no more, whatever is done with the connection after that.
#[tokio::test]
async fn an_event_that_is_handed_out_as_the_wait_for_it_ends_is_answered() {
    let event = "[1, 2, 3]";
    let handed_out = Reply::event("r-1", event);
    for reply in [handed_out.clone(), handed_out.clone().closing()] {
        let api = RawRuntimeApi::start().await;
        api.leaving(Leaving::Say(reply));
        let patient = "[lambda]\ndrain_timeout_ms = 10000\n";
        let directory = Setup::of(&ECHO).toml(patient).write();
        let mut host = Host::bootstrap(&directory, FUNCTION, &api.address(), &[]);
        api.asked_for(1).await;
        host.terminate();
        assert_eq!(host.end(DRAINED).await.code(), Some(0));
        assert_eq!((api.answers("r-1"), api.asked()), (1, 1));
        assert_eq!(api.last_answer("r-1").body, event);
        assert_eq!(host.lines("did not answer"), 0);
    }
}

/// It closes the connection as soon as it hears that, as most servers do, or leaves it as it is.
#[tokio::test]
async fn a_wait_for_an_event_ends_whatever_the_runtime_api_does() {
    for leaving in [Leaving::Close, Leaving::Stay] {
        let api = RawRuntimeApi::start().await;
        api.leaving(leaving.clone());
        let directory = Setup::of(&ECHO).write();
        let mut host = Host::bootstrap(&directory, FUNCTION, &api.address(), &[]);
        api.asked_for(1).await;
        host.terminate();
        assert_eq!(host.end(DRAINED).await.code(), Some(0));
        assert_eq!(api.asked(), 1, "{leaving:?}");
        assert_eq!(host.lines("did not answer"), 0, "{leaving:?}");
    }
}

/// When the databases have been told good-bye there is still time for it.
#[tokio::test]
async fn an_answer_that_is_taken_slowly_has_all_of_the_time_that_there_is() {
    for concurrency in [1, 2] {
        let database = Database::create().await;
        let mut trial = Setup::of(&QUERY)
            .with(&database)
            .toml("[lambda]\ndrain_timeout_ms = 6000\n")
            .concurrency(concurrency)
            .start(Door::Lambda)
            .await;
        trial.lambda().read(Reading::Held);
        let event = json!({ "steps": [{ "query": "select 1" }] });
        let event = trial.event(event.to_string());
        let id = event.id.clone();
        trial.lambda().send(event);
        trial.lambda().arrived(&id, 1).await;
        trial.host.terminate();
        database.settles(0).await;
        trial.lambda().read(Reading::Freely);
        let answer = trial.lambda().answer(&id).await;
        assert_eq!((answer.what, answer.status), (What::Response, 202));
        assert_eq!(trial.host.end(DRAINED).await.code(), Some(0));
    }
}

/// It is lost on the connection that is open, and on the next. No event will be asked for any more.
#[tokio::test]
async fn an_answer_that_could_not_be_posted_is_posted_again_before_the_end() {
    let database = Database::create().await;
    let gate = database.gate().await;
    let mut trial = Setup::of(&QUERY)
        .with(&database)
        .timeout(Duration::from_secs(60))
        .toml("[lambda]\ndrain_timeout_ms = 10000\n")
        .start(Door::Lambda)
        .await;
    let drain = async {
        gate.waited_for(1).await;
        trial.host.terminate();
        gate.open().await;
    };
    let wait = json!({ "steps": [{ "query": Gate::PASS }] });
    let event = trial.event(wait.to_string());
    let lost = Some(Fate::AnswersLost(2));
    let (call, ()) = tokio::join!(trial.lambda().invoke(event, lost), drain);
    let call = call.unwrap();
    assert_eq!((call.what, call.status), (What::Response, 202));
    assert_eq!(trial.host.end(DRAINED).await.code(), Some(0));
}

/// Lambda says that its container is beyond repair: nothing more is to come, and nothing is to be lost.
#[tokio::test]
async fn a_500_to_an_answer_leaves_no_connection_and_no_line_behind() {
    for (form, concurrency) in [
        ("buffered", 1),
        ("buffered", 2),
        ("stream", 1),
        ("stream", 2),
    ] {
        let database = Database::create().await;
        let proxy = Proxy::of(&database);
        let mut trial = Setup::of(&ONWARD)
            .through(&proxy)
            .function("response", &format!("{form:?}"))
            .concurrency(concurrency)
            .start(Door::Lambda)
            .await;
        trial
            .value(json!({ "first": [{ "step": { "query": "select 1" } }] }))
            .await;
        trial.lambda().parked(concurrency).await;
        let connections = database.backends().await;
        proxy.forget();
        trial.lambda().reply(What::Response, 500);
        let event = json!({ "stream": [
            { "step": { "query": "select 1" } }, { "send": "1" }, { "print": "the last words" },
        ] });
        trial.lambda().send(trial.event(event.to_string()));
        let status = trial.host.end(DRAINED).await;
        assert!(status.code().is_some_and(|code| code != 0), "{status}");
        assert_eq!(
            trial.host.lines("the last words"),
            1,
            "{form}, {concurrency}"
        );
        database.settles(0).await;
        let (flushes, _) = proxy.passed();
        let farewells = flushes.iter().filter(|flush| flush.ends_with('X'));
        assert_eq!(farewells.count() as u64, connections, "{flushes:?}");
    }
}
