//! Lambda's clock and the host's: however far they are apart, and whenever one of them is set, each event has its
//! time, no less and no more.

use std::time::Duration;

use e2e::guests::{MISBEHAVE, ONWARD};
use e2e::lambda::{Event, What};
use e2e::{Clock, Door, Setup, Trial};
use futures_util::future::join_all;
use serde_json::json;

/// Long enough for a busy machine.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The host's clock is the one that the test moves; the events' deadlines and the replies' dates are by the true one.
async fn start(setup: Setup, clock: &Clock) -> Trial {
    setup
        .timeout(TIMEOUT)
        .variables(&clock.variables())
        .start(Door::Lambda)
        .await
}

/// An event to be answered within so much time is answered in that, and not refused as late.
async fn is_answered(trial: &Trial, act: &str, timeout: Duration, what: What) {
    let event = Event::new(json!({ "act": act }).to_string(), timeout);
    let call = trial.lambda().invoke(event, None).await.unwrap();
    // Late is 410.
    assert_eq!((call.what, call.status), (what, 202), "{act}");
}

/// Lambda tells the time by its own clock, which need not be the host's.
#[tokio::test]
async fn a_clock_that_is_not_lambdas_changes_no_deadline() {
    for seconds in [-3600, -60, 60, 3600] {
        let clock = Clock::new();
        let trial = start(Setup::of(&MISBEHAVE), &clock).await;
        clock.shift(seconds);
        is_answered(&trial, "return", TIMEOUT, What::Response).await;
        is_answered(&trial, "spin", Duration::from_secs(4), What::Error).await;
        is_answered(&trial, "return", TIMEOUT, What::Response).await;
    }
}

/// By so little that each deadline can be true by both clocks. How far apart they are is asked for with the first
/// event.
#[tokio::test]
async fn a_clock_that_is_almost_lambdas_takes_no_time_away() {
    for (concurrency, response) in [(1, "buffered"), (2, "buffered"), (1, "stream")] {
        let clock = Clock::new();
        clock.shift(15);
        let setup = Setup::of(&ONWARD)
            .concurrency(concurrency)
            .function("response", &format!("{response:?}"));
        let trial = start(setup, &clock).await;
        for sleep in [2_000, 0, 0, 0, 0, 0, 0, 0, 2_000] {
            let event = json!({ "first": [{ "sleep": sleep }] });
            let answer = trial.invoke_within(Duration::from_secs(16), event).await;
            answer.value();
        }
    }
}

/// It was known how far apart the clocks are. Now the event seems to be newer than it can be, or to have lain in the
/// host.
#[tokio::test]
async fn a_host_whose_clock_is_set_between_two_events_keeps_the_next_ones_deadline() {
    let clock = Clock::new();
    let trial = start(Setup::of(&MISBEHAVE), &clock).await;
    for seconds in [-10, -300, -3_600, 10, 860, 3_600] {
        for _ in 0..8 {
            is_answered(&trial, "return", TIMEOUT, What::Response).await;
        }
        clock.shift(seconds);
        is_answered(&trial, "spin", Duration::from_secs(4), What::Error).await;
    }
}

/// By less than each event has, by more, and by more than any has; each slot has one.
#[tokio::test]
async fn an_event_is_run_after_the_hosts_clock_was_set_forward() {
    for concurrency in [1, 3] {
        let clock = Clock::new();
        let trial = start(Setup::of(&ONWARD).concurrency(concurrency), &clock).await;
        let event = json!({ "first": [{ "sleep": 1_500 }] });
        let all = async || {
            let timeout = Duration::from_secs(15);
            let answers = (0..concurrency).map(|_| trial.invoke_within(timeout, event.clone()));
            for answer in join_all(answers).await {
                answer.value();
            }
        };
        all().await;
        for seconds in [14, 60, 860, 3_600] {
            clock.shift(seconds);
            all().await;
        }
    }
}
