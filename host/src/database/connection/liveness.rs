//! Whether the server of a connection that rested is still there: how it is asked, and what is known of a network
//! that has not answered.
//!
//! Promises: that a network is silent is noted as soon as somebody has waited long enough for an answer, even if they
//! gave up before the connection was given up for it; it is not noted where an answer has arrived and was not read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Connection, LastLoan, demotion};
use crate::database::connect;
use crate::database::error::Result;
use crate::limits;

/// The last loan of a connection that gave no answer. A connection that has rested for as long or longer was behind the
/// same silent network, and is replaced without being asked.
#[derive(Default)]
pub struct Silence(AtomicU64);

impl Silence {
    /// Whether a connection whose last loan was this one need not be asked.
    pub fn covers(&self, loan: LastLoan) -> bool {
        loan <= LastLoan(self.0.load(Ordering::Relaxed))
    }

    /// Takes note that a connection is asked, and of the outcome when what this returns is dropped.
    pub fn question<'a>(&'a self, connection: &'a mut Connection) -> Question<'a> {
        Question {
            silence: self,
            connection,
            asked: Instant::now(),
            answered: false,
            _asking: connect::asking(),
        }
    }
}

/// A connection that is being asked, until it has answered or nobody waits for that any more.
pub struct Question<'a> {
    silence: &'a Silence,
    /// The one that is asked.
    pub connection: &'a mut Connection,
    asked: Instant,
    /// Whether there was an answer, or the end of the connection.
    pub answered: bool,
    _asking: connect::During,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        // Giving up at once says nothing of the network. And the answer may have arrived without having been read:
        // while a guest computed on this thread, or the process was frozen.
        let has_waited = self.asked.elapsed() >= limits::VALIDATE_TIMEOUT / 5;
        if !self.answered && has_waited && !self.connection.wire.has_heard() {
            let loan = self.connection.last_loan();
            self.silence.0.fetch_max(loan.0, Ordering::Relaxed);
        }
    }
}

impl Connection {
    /// Asks the server whether it is there: one round trip.
    pub async fn validate(&mut self, within: Duration) -> bool {
        self.wire.begin();
        self.wire.sync();
        matches!(
            tokio::time::timeout(within, self.wire.drain()).await,
            Ok(Ok(()))
        )
    }

    /// Asks the server whether it takes writes: one round trip.
    pub async fn takes_writes(&mut self, within: Duration) -> bool {
        let asking = self.command(demotion::QUESTION);
        matches!(tokio::time::timeout(within, asking).await, Ok(Ok(())))
    }

    /// Whether the network may have forgotten it while an invocation had it, and nothing is due that would tell.
    pub fn may_be_forgotten(&self) -> bool {
        self.status().is_some() && self.idle() >= limits::IDLE_TRUSTED
    }

    /// Asks the server whether it is there, for as long as it takes to know: an invocation has something on the
    /// connection, which no other one has.
    pub async fn ask(&mut self) -> Result<()> {
        self.wire.begin();
        self.begin_request();
        self.savepoints.begin_nothing();
        self.wire.sync();
        self.finish().await
    }

    /// Whether an answer is due that has not come, though nobody has ended the connection.
    pub fn is_silent(&self) -> bool {
        self.is_busy() && !self.is_dead()
    }
}
