//! How often the Runtime API is asked again after a failure, and when it is given up.
//!
//! Promises: whoever takes a connection, if only to refuse, to talk nonsense or to close it again, is never
//! given up.

use std::time::{Duration, Instant};

use super::Error;
use crate::fault::{Fault, Kind};
use crate::limits;

/// What has gone wrong with the Runtime API, in a row.
#[derive(Debug, Default)]
pub struct Failures {
    count: u32,
    /// Since when no connection was accepted, and how many attempts there were.
    unreachable: Option<(Instant, u32)>,
}

impl Failures {
    /// How many there were.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Takes note of one more, of an exchange that lasted so long. Returns how long to wait before the next
    /// attempt, or why there is to be none.
    pub fn add(&mut self, error: &Error, lasted: Duration) -> Result<Duration, Fault> {
        self.add_at(error, lasted, Instant::now())
    }

    fn add_at(&mut self, error: &Error, lasted: Duration, now: Instant) -> Result<Duration, Fault> {
        let given_up = |message| Err(Fault::new(Kind::Internal, message));
        match error {
            Error::Fatal(_) => return given_up(error.to_string()),
            // The other side is reachable and may have an event later; and to give up would end other slots'
            // invocations.
            Error::Transient(_) | Error::Cut(_) => {
                self.unreachable = None;
                // A wait that lasted a while is not one of a series of failures; and no slot may be asking
                // meanwhile.
                if lasted > limits::API_PAUSE_MAX {
                    self.count = 0;
                    return Ok(Duration::ZERO);
                }
            }
            Error::Unreachable(_) => {
                let (since, times) = self.unreachable.unwrap_or((now, 0));
                self.unreachable = Some((since, times + 1));
                let away = now.saturating_duration_since(since);
                // A process that was frozen meanwhile may have tried only twice.
                if away > limits::API_AWAY_MAX && times >= limits::API_FAILURES_MAX {
                    let message = format!("{error}; given up after {} s", away.as_secs());
                    return given_up(message);
                }
            }
        }
        self.count += 1;
        Ok(pause(self.count))
    }
}

/// How long to wait after so many failures in a row.
pub fn pause(failures: u32) -> Duration {
    Duration::from_millis(50 << failures.min(6)).min(limits::API_PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_replies_is_never_given_up_and_nobody_only_after_a_while() {
        let error = |unreachable| match unreachable {
            true => Error::Unreachable("nobody".to_owned()),
            false => Error::Transient("nonsense".to_owned()),
        };
        let (begin, quick) = (Instant::now(), Duration::ZERO);
        let mut failures = Failures::default();
        for second in 0..1_000 {
            let now = begin + Duration::from_secs(second);
            let pause = failures
                .add_at(&error(second % 50 != 0), quick, now)
                .unwrap();
            assert!(pause <= limits::API_PAUSE_MAX);
        }
        let mut failures = Failures::default();
        let mut given_up = (0..1_000).filter(|second| {
            let now = begin + Duration::from_secs(*second);
            failures.add_at(&error(true), quick, now).is_err()
        });
        assert_eq!(given_up.next(), Some(limits::API_AWAY_MAX.as_secs() + 1));
        // It stood still between two attempts.
        let mut failures = Failures::default();
        for hour in 0..limits::API_FAILURES_MAX {
            let now = begin + Duration::from_secs(3_600 * u64::from(hour));
            assert!(failures.add_at(&error(true), quick, now).is_ok());
        }
        let fatal = Error::Fatal("beyond repair".to_owned());
        assert!(Failures::default().add(&fatal, quick).is_err());
    }

    #[test]
    fn a_wait_that_lasted_begins_again_at_once_and_one_that_did_not_after_a_while() {
        let cut = Error::Cut("the connection was closed".to_owned());
        let long = limits::API_PAUSE_MAX + Duration::from_millis(1);
        let mut failures = Failures::default();
        for _ in 0..100 {
            assert_eq!(failures.add(&cut, long).unwrap(), Duration::ZERO);
        }
        let mut quick = || failures.add(&cut, Duration::ZERO).unwrap();
        assert!(Duration::ZERO < quick());
        assert!(quick() < quick());
        let nobody = Error::Unreachable("nobody".to_owned());
        assert!(Duration::ZERO < failures.add(&nobody, long).unwrap());
    }
}
