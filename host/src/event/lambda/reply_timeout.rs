//! How long a reply of the Runtime API is waited for.
//!
//! Promises: what has a limit ends by it, but not before what had come by then was looked at; waiting with
//! one costs no system call as a rule.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::task::yield_now;
use tokio::time::{Sleep, timeout_at};

use crate::limits;

/// The output of `doing`, if it is there by `end`. After a freeze both the timer and the data may be due, and
/// the runtime runs timers first; so the sockets are looked at once more before this gives up.
pub(super) async fn by<F: Future>(end: Instant, mut doing: Pin<&mut F>) -> Option<F::Output> {
    if let Ok(done) = timeout_at(end.into(), doing.as_mut()).await {
        return Some(done);
    }
    yield_now().await;
    doing.now_or_never()
}

/// How long a reply is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    deadline: Option<Instant>,
    is_long: bool,
    attempt: Attempt,
}

/// Whether what is sent may be sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// It was not sent before: where no reply comes in time, a second copy is sent.
    First,
    /// There is no further copy.
    Last,
}

impl Limit {
    /// The limit of a post that is of use until `deadline`, if it has one. `is_long` means that the reply may
    /// come only after the final receiver has read it.
    pub(super) fn new(deadline: Option<Instant>, is_long: bool) -> Self {
        Self {
            deadline,
            is_long,
            attempt: Attempt::First,
        }
    }

    /// The same for a copy after which there is no other: all of the time that is left.
    pub(super) fn last(self) -> Self {
        Self {
            attempt: Attempt::Last,
            ..self
        }
    }

    /// Whether there is to be no other copy.
    pub(super) fn is_last(self) -> bool {
        self.attempt == Attempt::Last
    }

    /// [`limits::API_REPLY_TIMEOUT`], but no more than half of the time that is left: the other half is for the
    /// second copy. A long post has the whole half, since its receiver may read slowly.
    pub(super) fn end(self, begin: Instant) -> Instant {
        let Some(deadline) = self.deadline else {
            return begin + limits::API_REPLY_TIMEOUT;
        };
        if self.is_last() {
            return deadline.max(begin + limits::API_REPLY_TIMEOUT_LEAST);
        }
        let half = deadline.saturating_duration_since(begin) / 2;
        let most = match self.is_long {
            true => half,
            false => half.min(limits::API_REPLY_TIMEOUT),
        };
        begin + most.max(limits::API_REPLY_TIMEOUT_LEAST)
    }
}

/// There was no reply within this time.
#[derive(Debug, thiserror::Error)]
#[error("there was no reply within {:.1} s", .0.as_secs_f64())]
pub(super) struct Late(Duration);

/// Waits for replies with one timer for all of them. Arming it each time would cost system calls, so it is
/// armed anew only if it runs out too early.
#[derive(Default)]
pub(super) struct ReplyTimer(Option<Pin<Box<Sleep>>>);

impl ReplyTimer {
    /// What comes of an exchange within the limit, should there be one. One that is late may go on.
    pub(super) async fn reply<F: Future>(
        &mut self,
        limit: Option<Limit>,
        mut exchange: Pin<&mut F>,
    ) -> Result<F::Output, Late> {
        let Some(limit) = limit else {
            return Ok(exchange.await);
        };
        let begin = Instant::now();
        let end = limit.end(begin);
        let timer = self
            .0
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limits::API_REPLY_TIMEOUT)));
        if timer.deadline().into_std() > end {
            timer.as_mut().reset(end.into());
        }
        let in_time = poll_fn(|cx| {
            if let Poll::Ready(reply) = exchange.as_mut().poll(cx) {
                return Poll::Ready(Some(reply));
            }
            while timer.as_mut().poll(cx).is_ready() {
                let now = Instant::now();
                if now >= end {
                    return Poll::Ready(None);
                }
                // No further: the next exchange may have the shortest limit.
                let next = end.min(now + limits::API_REPLY_TIMEOUT);
                timer.as_mut().reset(next.into());
            }
            Poll::Pending
        });
        if let Some(reply) = in_time.await {
            return Ok(reply);
        }
        // As in `by`: there must be no second copy if the reply is already here.
        yield_now().await;
        exchange.now_or_never().ok_or(Late(end - begin))
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[test]
    fn a_reply_is_waited_for_so_long_that_there_is_time_for_a_second_copy() {
        let begin = Instant::now();
        let (least, most) = (limits::API_REPLY_TIMEOUT_LEAST, limits::API_REPLY_TIMEOUT);
        let s = Duration::from_secs;
        for (left, short, long) in [
            (None, most, most),
            (Some(s(0)), least, least),
            (Some(s(3)), s(3) / 2, s(3) / 2),
            (Some(s(60)), most, s(30)),
        ] {
            let limit = |is_long| Limit::new(left.map(|left| begin + left), is_long);
            let end = |is_long| limit(is_long).end(begin);
            assert_eq!(
                (end(false), end(true)),
                (begin + short, begin + long),
                "{left:?}"
            );
            let last = left.map_or(most, |left| left.max(least));
            assert_eq!(limit(false).last().end(begin), begin + last, "{left:?}");
        }
    }

    /// What is armed for a reply that may take long is no limit for one that may not.
    #[tokio::test]
    async fn a_short_limit_is_kept_by_a_timer_that_was_armed_for_a_long_one() {
        let mut timer = ReplyTimer(Some(Box::pin(tokio::time::sleep(
            limits::API_REPLY_TIMEOUT,
        ))));
        let begun = Instant::now();
        let limit = Limit::new(Some(begun), false);
        let never = std::pin::pin!(pending::<()>());
        assert!(timer.reply(Some(limit), never).await.is_err());
        assert!(begun.elapsed() < limits::API_REPLY_TIMEOUT);
    }

    /// As after a freeze: both are there at once, and the timer is heard of first.
    #[tokio::test]
    async fn what_has_come_by_the_end_is_not_late() {
        let stands_still = || async {
            std::thread::sleep(limits::API_REPLY_TIMEOUT_LEAST + Duration::from_millis(10));
            yield_now().await;
            1
        };
        let now = Instant::now();
        let mut timer = ReplyTimer(Some(Box::pin(tokio::time::sleep(Duration::ZERO))));
        let exchange = std::pin::pin!(stands_still());
        let limit = Limit::new(Some(now), false);
        assert_eq!(timer.reply(Some(limit), exchange).await.unwrap(), 1);
        assert_eq!(by(now, std::pin::pin!(stands_still())).await, Some(1));
        assert_eq!(by(now, std::pin::pin!(pending::<u8>())).await, None);
    }

    /// Armed for a long wait, the timer would sleep through the end of a short one after it.
    #[tokio::test]
    async fn a_timer_is_armed_no_further_than_the_shortest_limit() {
        let mut timer = ReplyTimer(Some(Box::pin(tokio::time::sleep(Duration::ZERO))));
        let long = Limit::new(Some(Instant::now() + Duration::from_secs(900)), true);
        // The timer has run out by the second look, and is then armed anew.
        let exchange = std::pin::pin!(async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            yield_now().await;
        });
        timer.reply(Some(long), exchange).await.unwrap();
        let armed = timer.0.unwrap().deadline().into_std();
        assert!(armed <= Instant::now() + limits::API_REPLY_TIMEOUT);
    }
}
