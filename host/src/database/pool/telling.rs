//! Connections that were opened ahead of their use, while they are told of it.
//!
//! Promises: whoever needs a connection meanwhile has one of these as soon as it is free, and no new one is opened;
//! but nobody waits for that longer than [`limits::TELLING_PATIENCE`].

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::Notify;
use tokio::time::timeout_at;

use crate::limits;

/// How many there are in a pool.
#[derive(Default)]
pub struct Telling {
    number: AtomicUsize,
    ended: Notify,
}

/// One of them, until this is dropped: to be done when the connection is given back.
pub struct BeingTold<'a>(&'a Telling);

impl Telling {
    /// One more.
    pub fn begin(&self) -> BeingTold<'_> {
        self.number.fetch_add(1, Ordering::Relaxed);
        BeingTold(self)
    }

    /// Whether there is any.
    pub fn goes_on(&self) -> bool {
        self.number.load(Ordering::Relaxed) > 0
    }

    /// Waits until a connection rests, or none is being told any more, but no longer than until then.
    pub async fn give_way(&self, until: Instant, one_rests: impl Fn() -> bool) {
        let until = until.min(Instant::now() + limits::TELLING_PATIENCE);
        while self.goes_on() {
            let mut ended = pin!(self.ended.notified());
            // Before the look, since one may end between the two.
            ended.as_mut().enable();
            if one_rests() || !self.goes_on() || timeout_at(until.into(), ended).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for BeingTold<'_> {
    fn drop(&mut self) {
        self.0.number.fetch_sub(1, Ordering::Relaxed);
        self.0.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn one_that_is_being_told_is_waited_for_but_not_for_ever() {
        let telling = Telling::default();
        let far = Instant::now() + Duration::from_secs(60);
        // Nothing is waited for where there is none.
        telling.give_way(far, || false).await;
        let first = telling.begin();
        telling.give_way(far, || true).await;
        let mut waiting = pin!(telling.give_way(far, || false));
        assert!(poll!(waiting.as_mut()).is_pending());
        drop(first);
        assert!(poll!(waiting.as_mut()).is_ready());
        assert!(!telling.goes_on());
        let _second = telling.begin();
        telling.give_way(far, || false).await;
        assert!(Instant::now() < far);
    }
}
