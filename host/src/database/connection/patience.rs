//! How long a server is waited for, where a call has less time than its invocation.
//!
//! A server that was told of the call's time ends it by itself, and the host has it cancelled where that was not done,
//! or what takes so long is the end of a transaction, for which servers have no limit. Where the network is silent,
//! neither is heard of.
//!
//! Promises: a call that has a time ends not much later than that, unless the server is heard of meanwhile; what has
//! arrived is read, however late.

use std::time::{Duration, Instant};

use super::Connection;
use crate::database::error::Result;
use crate::database::wire::Wire;
use crate::limits;

/// Until when a request may take.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Until {
    /// When the host has the server give it up.
    pub cancelled: Option<Instant>,
    /// When its time is over, behind which a server may only be silent for so long.
    pub over: Option<Instant>,
}

impl Until {
    /// For a request that begins now and may take so long; `cancel_after` if the server was told nothing of that.
    pub fn new(time: Option<Duration>, cancel_after: Option<Duration>) -> Self {
        if time.is_none() && cancel_after.is_none() {
            return Self::default();
        }
        let now = Instant::now();
        let told = time.map(|time| time.saturating_add(limits::CALL_GRACE / 2));
        let at = |after: Option<Duration>| after.and_then(|after| now.checked_add(after));
        Self {
            cancelled: at(cancel_after.or(told)),
            over: at(time),
        }
    }

    /// Whether the request may take any time.
    fn is_endless(self) -> bool {
        self.cancelled.is_none() && self.over.is_none()
    }
}

impl Connection {
    /// Waits for the server's next message, for as long as the request may take.
    pub async fn message(&mut self) -> Result<u8> {
        match self.in_flight.until.is_endless() {
            true => self.wire.message().await,
            false => Box::pin(self.in_time(async |wire| wire.message().await)).await,
        }
    }

    /// Waits until the server has taken what is to be sent, for as long as the request may take.
    pub async fn flush(&mut self) -> Result<()> {
        match self.in_flight.until.is_endless() {
            true => self.wire.flush().await,
            false => Box::pin(self.in_time(async |wire| wire.flush().await)).await,
        }
    }

    /// Waits for the server to do something, for as long as the request may take. Then it is cancelled, and what the
    /// server comes to all the same it says. If it is silent, the connection is given up. What is waited for is asked
    /// for anew meanwhile.
    pub async fn in_time<R>(
        &mut self,
        mut wait: impl AsyncFnMut(&mut Wire) -> Result<R>,
    ) -> Result<R> {
        let Some(over) = self.in_flight.until.over else {
            return self.unless_cancelled(&mut wait).await;
        };
        let moved = |wire: &Wire| wire.traffic.sent_bytes + wire.traffic.received_bytes;
        loop {
            let (now, before) = (Instant::now(), moved(&self.wire));
            let is_over = now >= over;
            let until = match is_over {
                true => now + limits::CALL_GRACE,
                false => over,
            };
            let waiting = self.unless_cancelled(&mut wait);
            match tokio::time::timeout_at(until.into(), waiting).await {
                Ok(done) => {
                    // The wait for that may have been given up here.
                    self.outlast_cancellations().await;
                    return done;
                }
                // A large row is on its way for longer.
                Err(_) if !is_over || moved(&self.wire) > before => {}
                Err(_) => {
                    self.wire.end();
                    return Err(self.wire.lost());
                }
            }
        }
    }

    async fn unless_cancelled<R>(
        &mut self,
        wait: &mut impl AsyncFnMut(&mut Wire) -> Result<R>,
    ) -> Result<R> {
        if let Some(cancelled) = self.in_flight.until.cancelled {
            let waiting = wait(&mut self.wire);
            if let Ok(done) = tokio::time::timeout_at(cancelled.into(), waiting).await {
                return done;
            }
            self.in_flight.until.cancelled = None;
            self.canceller().cancel().await;
        }
        wait(&mut self.wire).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_was_told_of_the_time_has_some_more_to_end_the_call_itself() {
        let second = Duration::from_secs(1);
        let later = |until: Until| {
            let [cancelled, over] = [until.cancelled, until.over].map(Option::unwrap);
            cancelled - over
        };
        assert_eq!(
            later(Until::new(Some(second), None)),
            limits::CALL_GRACE / 2
        );
        assert_eq!(
            later(Until::new(Some(second), Some(second))),
            Duration::ZERO
        );
        for time in [None, Some(Duration::MAX)] {
            assert!(Until::new(time, None).is_endless());
        }
    }
}
