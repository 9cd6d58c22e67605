//! The end of an environment on Lambda: its time, and what is still waited for in it.
//!
//! Promises: what is there when the time is over is not thrown away; after a second signal nothing is waited for.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::future::maybe_done;
use tokio::time::sleep;

use crate::limits;
use crate::shutdown::Shutdown;

/// How an environment is to end.
#[derive(Clone)]
pub struct Drain {
    /// When it is to begin.
    pub shutdown: Shutdown,
    /// How long it may take, up to the end of the process.
    pub timeout: Duration,
}

impl Drain {
    /// For how long anything is waited for. What is left is for the process to end, before somebody ends it.
    pub fn waits(&self) -> Duration {
        waits(self.timeout)
    }

    /// How much of that is left.
    pub fn left(&self) -> Duration {
        let begun = self.shutdown.requested_at().unwrap_or_else(Instant::now);
        self.waits().saturating_sub(begun.elapsed())
    }

    /// Waits until none of that is left, or nothing is to be waited for.
    pub async fn over(&self) {
        self.shutdown.over(self.waits()).await;
    }

    /// The same, and then a moment longer, for what is ready by then and came late, as everything does on a machine that
    /// is too busy.
    pub(super) async fn late(&self) {
        self.over().await;
        sleep((self.timeout - self.waits()) / 3).await;
    }

    /// How long running invocations have. A third of the whole time is for what comes after them.
    pub(super) fn grace(&self) -> Duration {
        self.waits() * 2 / 3
    }

    /// How long an event may take to arrive that was on its way when the environment was told to end: little, since
    /// as a rule there is none. Of the default it is some 20 ms.
    pub(super) fn moment(&self) -> Duration {
        self.grace() / 8
    }

    /// The end of the time that running invocations have once the environment is `ending`: none, after a second signal.
    pub(super) async fn out_of_time(&self, ending: impl Future<Output = ()>) {
        ending.await;
        self.shutdown.over(self.grace()).await;
    }
}

/// How much of a drain's time may be waited for anything.
fn waits(timeout: Duration) -> Duration {
    timeout - limits::DRAIN_MARGIN.min(timeout / 10)
}

/// What comes of this, or None if the end comes first. What is there by then is not thrown away.
pub(super) async fn unless<T>(
    end: impl Future<Output = ()>,
    doing: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        done = doing => Some(done),
        () = end => None,
    }
}

/// What is asked for, or None if the environment is to end before it has arrived. What is on its way then is
/// waited for until there is no time for it; `is_coming` is told whether the end has begun only a moment ago.
pub(super) async fn unless_ending<T>(
    asking: impl Future<Output = T>,
    ending: impl Future<Output = ()>,
    is_coming: impl Fn(bool) -> bool,
    a_moment: impl Future<Output = ()>,
    out_of_time: impl Future<Output = ()>,
) -> Option<T> {
    let mut asking = pin!(asking);
    tokio::select! {
        biased;
        asked = &mut asking => return Some(asked),
        () = ending => {}
    }
    // What the system has received by now is seen after one turn of the runtime's driver. To leave it
    // would be to leave an event that Lambda has handed out.
    tokio::task::yield_now().await;
    let mut a_moment = pin!(maybe_done(a_moment));
    let arriving = poll_fn(|cx| match asking.as_mut().poll(cx) {
        Poll::Ready(asked) => Poll::Ready(Some(asked)),
        Poll::Pending if is_coming(a_moment.as_mut().poll(cx).is_pending()) => Poll::Pending,
        Poll::Pending => Poll::Ready(None),
    });
    unless(out_of_time, arriving).await.flatten()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::{pending, ready};

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_drain_waits_for_nothing_at_its_very_end() {
        for (timeout, expected) in [(10, 9), (300, 270), (1_000, 950), (10_000, 9_950)] {
            let timeout = Duration::from_millis(timeout);
            assert_eq!(waits(timeout).as_millis(), expected);
        }
        let grace = waits(limits::DRAIN_TIMEOUT) * 2 / 3;
        assert!(grace + limits::CUT_TIMEOUT < waits(limits::DRAIN_TIMEOUT));
    }

    /// Often enough that chance would show.
    #[tokio::test]
    async fn an_answer_that_is_there_at_the_end_is_not_thrown_away() {
        for _ in 0..64 {
            assert_eq!(unless(ready(()), ready(1)).await, Some(1));
        }
        assert_eq!(unless(ready(()), pending::<u8>()).await, None);
        assert_eq!(unless(pending(), ready(1)).await, Some(1));
    }

    #[tokio::test]
    async fn what_has_arrived_by_the_end_is_not_left() {
        let idle = |_| false;
        let asked = unless_ending(ready(1), ready(()), idle, pending(), pending());
        assert_eq!(asked.await, Some(1));
        let asked = unless_ending(ready(1), pending(), idle, pending(), pending());
        assert_eq!(asked.await, Some(1));
        // It shows after a turn of the driver.
        let asked = unless_ending(after_turns(1), ready(()), idle, pending(), pending());
        assert_eq!(asked.await, Some(1));
        let asked = unless_ending(pending::<u8>(), ready(()), idle, pending(), pending());
        assert_eq!(asked.await, None);
    }

    #[tokio::test]
    async fn what_has_begun_to_arrive_by_the_end_has_some_time_for_the_rest() {
        let (begun, turns) = (|_| true, || after_turns(9).map(drop));
        let asked = unless_ending(after_turns(9), ready(()), begun, ready(()), pending());
        assert_eq!(asked.await, Some(1));
        let asked = unless_ending(pending::<u8>(), ready(()), begun, ready(()), turns());
        assert_eq!(asked.await, None);
        // It was the reply to something else, and nothing has come of what is asked for then.
        let turns = Cell::new(0);
        let turn = |_| turns.replace(turns.get() + 1) < 4;
        let asking = async {
            after_turns(9).await;
            pending::<u8>().await
        };
        let asked = unless_ending(asking, ready(()), turn, pending(), pending());
        assert_eq!(asked.await, None);
    }

    #[tokio::test]
    async fn what_may_have_left_by_the_end_has_a_moment_to_arrive() {
        let (early, turns) = (|is_early| is_early, || after_turns(9).map(drop));
        let asked = unless_ending(after_turns(9), ready(()), early, pending(), pending());
        assert_eq!(asked.await, Some(1));
        let asked = unless_ending(pending::<u8>(), ready(()), early, turns(), pending());
        assert_eq!(asked.await, None);
        let asked = unless_ending(pending::<u8>(), ready(()), early, pending(), turns());
        assert_eq!(asked.await, None);
    }

    async fn after_turns(turns: u8) -> u8 {
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        1
    }
}
