//! Whether a call is made once more, on another connection.
//!
//! Promises: a call is made again where its connection turned out to be gone before anything was sent, as often as the
//! pool has connections, and in the time that the call has. There are pauses where connections that were made for it are
//! gone at once. It is made again once where its connection turned out to be in use. In all other cases it is not.

use std::pin::pin;
use std::time::{Duration, Instant};

use super::Session;
use super::seat::{Role, Seat};
use super::turn::is_undone;
use crate::database::Database;
use crate::database::connect::Pauses;
use crate::database::error::{Error, Result};

/// How often one call is made once more, for each reason.
pub(in crate::database) struct Repetitions {
    lost: Attempts,
    /// Whether one connection may turn out to be in use.
    in_use: bool,
}

/// What one call may try on other connections, where one after another turns out to be gone.
pub(super) struct Attempts {
    /// How many more: all of a pool's may have ended at once.
    left: usize,
    /// When the time of the call is over. A server that was silent has used it up.
    until: Option<Instant>,
    /// Whether a connection was gone that was made for the call.
    is_new_one_gone: bool,
    pauses: Pauses,
}

impl Attempts {
    pub(super) fn of(database: &Database, time: Option<Duration>) -> Self {
        Self::up_to(database.connections_max(), time)
    }

    fn up_to(left: usize, time: Option<Duration>) -> Self {
        Self {
            left,
            until: time.and_then(|time| Instant::now().checked_add(time)),
            is_new_one_gone: false,
            pauses: Pauses::default(),
        }
    }

    /// What is left of the call's time.
    pub(super) fn time(&self) -> Option<Duration> {
        let left = |until: Instant| until.saturating_duration_since(Instant::now());
        self.until.map(left)
    }

    /// Whether there is one more attempt, now that a connection is gone, which was made for the call if it `is_new`.
    /// If so, it is due.
    pub(super) async fn go_on(&mut self, session: &Session, is_new: bool) -> bool {
        let Some(pause) = self.pause(is_new) else {
            return false;
        };
        let until = session.lend_until(self.time());
        if Instant::now() + pause >= until {
            return false;
        }
        let pausing = pin!(async {
            tokio::time::sleep(pause).await;
            Ok(())
        });
        pause.is_zero() || session.unless_ended(pausing).await.is_ok()
    }

    /// How long the next attempt is put off, if there is one. Those that have rested may all be gone, and are tried one
    /// after another; a server that lets in and hangs up goes on to do so for a while.
    fn pause(&mut self, is_new: bool) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let again = is_new && std::mem::replace(&mut self.is_new_one_gone, true);
        Some(match again {
            true => self.pauses.one_more(),
            false => Duration::ZERO,
        })
    }
}

impl Repetitions {
    pub(in crate::database) fn of(database: &Database, time: Option<Duration>) -> Self {
        Self {
            lost: Attempts::of(database, time),
            in_use: true,
        }
    }

    /// What is left of the call's time.
    pub(in crate::database) fn time(&self) -> Option<Duration> {
        self.lost.time()
    }

    /// Whether the call is made once more after this.
    pub(in crate::database) async fn admit<R>(
        &mut self,
        session: &Session,
        seat: &Seat,
        result: &Result<R>,
    ) -> bool {
        match result {
            Err(_) if is_undone(result) && seat.role() == Role::Call => {
                self.lost.go_on(session, seat.is_new).await
            }
            // Something began to flow while it waited for its turn.
            Err(Error::InUse) if seat.role() == Role::Kept && !seat.has_transaction() => {
                std::mem::take(&mut self.in_use)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_connections_that_are_gone_as_soon_as_they_are_made_are_given_pauses() {
        let mut attempts = Attempts::up_to(9, None);
        for is_new in [false, false, true, false] {
            assert_eq!(attempts.pause(is_new), Some(Duration::ZERO));
        }
        let mut last = Duration::ZERO;
        for _ in 0..4 {
            let pause = attempts.pause(true).expect("there may be as many");
            assert!(pause > last, "{pause:?} after {last:?}");
            last = pause;
        }
        assert_eq!(attempts.pause(false), Some(Duration::ZERO));
        assert_eq!(attempts.pause(false), None);
    }

    #[test]
    fn all_attempts_of_a_call_have_its_time_together() {
        let attempts = Attempts::up_to(9, Some(Duration::ZERO));
        assert_eq!(attempts.time(), Some(Duration::ZERO));
        let attempts = Attempts::up_to(9, Some(Duration::from_secs(60)));
        assert!(
            attempts
                .time()
                .is_some_and(|time| time <= Duration::from_secs(60))
        );
        assert_eq!(Attempts::up_to(9, None).time(), None);
    }
}
