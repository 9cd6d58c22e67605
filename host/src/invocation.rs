//! One event being handled: the vocabulary that both front doors and the engine share.
//!
//! A front door ([`crate::event`]) turns what it has received into an [`Invocation`]. The engine turns the invocation
//! into an [`Answer`]. It does not know through which front door that goes out, nor the front door who has made it.

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;

use crate::fault::{Fault, Kind};
use crate::limits;

/// The whole of an answer: the function's bytes as they are, or why there are none.
pub type WholeAnswer = Result<Bytes, Fault>;

/// What the caller gets.
#[derive(Debug)]
pub enum Answer {
    /// All of it.
    Whole(Bytes),
    /// Its bytes are sent while the function makes them.
    Streamed(Streamed),
}

/// An answer that is sent while it is made. When it is dropped, the function learns that nobody
/// reads any more.
pub struct Streamed {
    /// Whether it begins with an HTTP status and headers, in the form that Lambda takes.
    pub http: bool,
    /// Its bytes, piece by piece. An error is the last item, and says that the answer is not complete.
    pub pieces: BoxStream<'static, Result<Bytes, Fault>>,
}

impl fmt::Debug for Streamed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Streamed")
            .field("http", &self.http)
            .finish_non_exhaustive()
    }
}

impl Answer {
    /// The whole answer, for a caller who does not take it piece by piece.
    pub async fn collect(self) -> WholeAnswer {
        match self {
            Self::Whole(bytes) => Ok(bytes),
            Self::Streamed(mut streamed) => {
                let mut whole = BytesMut::new();
                while let Some(piece) = streamed.pieces.next().await {
                    whole.extend_from_slice(&piece?);
                    fits(whole.len(), limits::PAYLOAD_BYTES_MAX)?;
                }
                Ok(whole.freeze())
            }
        }
    }
}

/// Refuses an answer of more bytes than it may have.
pub fn fits(bytes: usize, bytes_max: usize) -> Result<(), Fault> {
    if bytes <= bytes_max {
        return Ok(());
    }
    Err(Fault::new(
        Kind::ResponseTooLarge,
        format!(
            "the answer has {bytes} bytes or more; {bytes_max} are the most; {}",
            match bytes_max {
                limits::PAYLOAD_BYTES_MAX =>
                    "answer with less, or stream it (`hearth::Streamed` and `response = \"stream\"`) to a caller \
                     who reads streams",
                _ => "answer with less, or with where it can be fetched",
            }
        ),
    ))
}

/// The event in a payload. An empty payload counts as `{}`.
pub fn event_of(payload: Bytes) -> Bytes {
    match payload.is_empty() {
        true => Bytes::from_static(b"{}"),
        false => payload,
    }
}

/// One event, and everything that is known about it.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The request id: Lambda's, or one the local host made up.
    pub request_id: String,
    /// The payload, never looked into by the host.
    pub event: Bytes,
    /// When it must be answered.
    pub deadline: Deadline,
    /// The name under which Lambda or the configuration knows the function.
    pub function_name: String,
    /// The function's version: a number, or `$LATEST`.
    pub function_version: String,
    /// The ARN by which it was invoked.
    pub function_arn: String,
    /// The X-Ray trace header, verbatim.
    pub trace_id: Option<String>,
    /// The client context, as JSON text.
    pub client_context: Option<String>,
    /// The Cognito identity, as JSON text.
    pub identity: Option<String>,
    /// The tenant, where the function isolates tenants.
    pub tenant_id: Option<String>,
    /// What else Lambda said of it, by the names of its headers in lower case: things newer than
    /// this program.
    pub headers: Vec<(String, String)>,
}

/// How long the invocations of a function may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeout {
    /// The time of an invocation whose event brings no deadline that can be true. Some emulators send one that is years
    /// away. Each deadline that can be true replaces this by the time that it leaves.
    pub assumed: Duration,
    /// The longest time. A deadline that is further away cannot be true.
    pub most: Duration,
}

impl Default for Timeout {
    fn default() -> Self {
        Self {
            assumed: limits::TIMEOUT_DEFAULT,
            most: limits::TIMEOUT_MAX,
        }
    }
}

/// What is known of the clock of whoever tells a deadline.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sender {
    /// How far it is ahead, where it is known to be another clock. Else it is this machine's, as far as its dates
    /// tell.
    pub ahead: Option<Ahead>,
    /// What it shows by now at least, in milliseconds since the Unix epoch, if it has shown anything with its
    /// event or since.
    pub shows_ms: Option<u64>,
}

/// How far a clock is ahead of this machine's, in milliseconds; less than none if it is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// At least.
    pub least_ms: i64,
    /// At most.
    pub most_ms: i64,
}

/// The end of the time an invocation has, on both clocks.
///
/// It arrives as wall-clock time, which is what the guest is told; waiting is done on the
/// monotonic clock, which cannot jump while the invocation runs.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    /// Milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// The same moment for timers of this process.
    pub instant: Instant,
    /// When the host gives up: early enough that its own answer arrives in time, and late enough
    /// that a short deadline is mostly the guest's.
    pub enforced: Instant,
}

impl Deadline {
    /// The deadline this long from now.
    pub fn after(duration: Duration) -> Self {
        Self::new(
            unix_ms_now().saturating_add(duration.as_millis() as u64),
            duration,
        )
    }

    /// The deadline at this wall-clock time, in milliseconds since the Unix epoch.
    ///
    /// The sender is on this machine as a rule, so this machine's clock is the one that is meant, unless the
    /// sender's is known to be another. A deadline that is past by it or further away than `most` cannot be true, as
    /// far as is known: this clock may have been set since, or the event has lain here while the process stood
    /// still. Then what is left by the time that the sender has shown counts, if that can be true, or else by this
    /// machine's. A deadline is over if it is past by both. None if nothing can be true.
    pub fn from_header(unix_ms: u64, sender: &Sender, most: Duration) -> Option<Self> {
        let told_ms = i64::try_from(unix_ms).ok()?;
        let now_ms = unix_ms_now() as i64;
        let max_ms = most.as_millis() as i64;
        let possible = |left_ms: &i64| (1..=max_ms).contains(left_ms);
        let time = |left_ms: i64| Duration::from_millis(left_ms.unsigned_abs());
        let by_own = Some(told_ms - now_ms).filter(possible);
        let by_own = by_own.map(|left_ms| Self::new(unix_ms, time(left_ms)));
        let by_offset = sender.ahead.map(|ahead| {
            let left_ms = told_ms - now_ms;
            granted_ms(left_ms - ahead.most_ms, left_ms - ahead.least_ms)
        });
        let left_ms = sender.shows_ms.map(|shows_ms| told_ms - shows_ms as i64);
        let by_date = left_ms.map(|most_ms| granted_ms(most_ms - 999, most_ms));
        let by_sender = by_offset.filter(possible).or(by_date.filter(possible));
        let by_sender = by_sender.map(|left_ms| Self::after(time(left_ms)));
        let told = match sender.ahead {
            Some(_) => by_sender.or(by_own),
            None => by_own.or(by_sender),
        };
        let is_over = |left_ms: &i64| (-max_ms..=0).contains(left_ms);
        let over = left_ms.filter(is_over);
        told.or_else(|| over.map(|late_ms| Self::past(unix_ms, time(late_ms))))
    }

    fn new(unix_ms: u64, left: Duration) -> Self {
        let now = Instant::now();
        let margin = (left / 10).min(limits::DEADLINE_MARGIN);
        Self {
            unix_ms,
            instant: now + left,
            enforced: now + (left - margin),
        }
    }

    /// The deadline that was so long ago.
    fn past(unix_ms: u64, ago: Duration) -> Self {
        let now = Instant::now();
        // On a machine that was started after that, there is no such moment.
        let instant = now.checked_sub(ago).unwrap_or(now);
        Self {
            unix_ms,
            instant,
            enforced: instant,
        }
    }

    /// The deadline so much later.
    pub fn later(self, by: Duration) -> Self {
        Self {
            unix_ms: self.unix_ms.saturating_add(by.as_millis() as u64),
            instant: self.instant + by,
            enforced: self.enforced + by,
        }
    }

    /// Until when the clean-up after an answer may delay the request for the next event: half-way between the time at
    /// which the host gives up and the deadline. To Lambda an invocation has ended in time only if the next event is
    /// asked for in time.
    pub fn settled_by(&self) -> Instant {
        self.enforced + self.instant.saturating_duration_since(self.enforced) / 2
    }

    /// How long ago it was, once it is past.
    pub fn passed(&self) -> Option<Duration> {
        Instant::now().checked_duration_since(self.instant)
    }

    /// How long until then; zero once it is past.
    pub fn remaining(&self) -> Duration {
        self.instant.saturating_duration_since(Instant::now())
    }
}

/// How much of the time that is left may be used, where there is between so much and so much: no more than there
/// is for certain, unless that is less than half of what there may be. By a clock of which only the second is
/// known, that is never too much where there is a second or more.
fn granted_ms(least_ms: i64, most_ms: i64) -> i64 {
    least_ms.max(most_ms - most_ms / 2)
}

/// The wall clock, in milliseconds since the Unix epoch; 0 if the clock stands before the epoch.
pub fn unix_ms_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000;

    fn by_date(unix_ms: u64, shows_ms: Option<u64>) -> Option<Deadline> {
        let sender = Sender {
            shows_ms,
            ahead: None,
        };
        Deadline::from_header(unix_ms, &sender, limits::TIMEOUT_MAX)
    }

    fn remaining_s(deadline: Deadline) -> f64 {
        deadline.remaining().as_secs_f64()
    }

    #[test]
    fn an_answer_may_have_as_many_bytes_as_lambda_takes_and_none_more() {
        for bytes_max in [limits::PAYLOAD_BYTES_MAX, limits::STREAM_BYTES_MAX] {
            assert!(fits(bytes_max, bytes_max).is_ok());
            let fault = fits(bytes_max + 1, bytes_max).unwrap_err();
            assert_eq!(fault.kind, Kind::ResponseTooLarge);
        }
    }

    #[test]
    fn a_deadline_is_the_senders_when_it_can_be_true() {
        let now_ms = unix_ms_now();
        for shows_ms in [
            None,
            Some(now_ms - now_ms % SECOND),
            Some(now_ms - 3_600 * SECOND),
        ] {
            let deadline = by_date(now_ms + 3 * SECOND, shows_ms).unwrap();
            assert_eq!(deadline.unix_ms, now_ms + 3 * SECOND);
            assert!(remaining_s(deadline) <= 3.0);
            assert!(deadline.enforced < deadline.settled_by());
            assert!(deadline.settled_by() < deadline.instant);
        }
    }

    #[test]
    fn another_clock_is_believed_as_exactly_as_it_is_known() {
        for ahead_ms in [-3_600_400, -7_300, -1_500, 300, 2_500] {
            for (unknown_ms, expected) in [(40, 0.55..=0.6), (1_000, 0.5..=0.8)] {
                let sender = Sender {
                    ahead: Some(Ahead {
                        least_ms: ahead_ms - unknown_ms / 2,
                        most_ms: ahead_ms + unknown_ms / 2,
                    }),
                    shows_ms: None,
                };
                let told_ms = unix_ms_now().saturating_add_signed(ahead_ms) + 600;
                let deadline = Deadline::from_header(told_ms, &sender, limits::TIMEOUT_MAX);
                let left = remaining_s(deadline.unwrap());
                assert!(expected.contains(&left), "{ahead_ms} ms: {left}");
            }
        }
    }

    /// As of one that says it is GMT, and is an hour off.
    #[test]
    fn a_clock_by_which_no_deadline_can_be_true_is_not_believed() {
        let now_ms = unix_ms_now();
        for hours in [-2, -1, 1, 2] {
            let ahead_ms = hours * 3_600_000;
            let sender = Sender {
                ahead: Some(Ahead {
                    least_ms: ahead_ms,
                    most_ms: ahead_ms + 999,
                }),
                shows_ms: Some(now_ms.saturating_add_signed(ahead_ms)),
            };
            let told_ms = now_ms + 3 * SECOND;
            let deadline = Deadline::from_header(told_ms, &sender, limits::TIMEOUT_MAX).unwrap();
            assert_eq!(deadline.unix_ms, told_ms, "{hours} h");
        }
    }

    #[test]
    fn a_deadline_that_cannot_be_true_is_not_believed() {
        // cargo-lambda's is a constant, and that of AWS's emulator is 10^6 times too far away.
        let now_ms = unix_ms_now();
        let far = now_ms + 3 * SECOND * 1_000_000;
        for impossible in [0, 600_000, far, now_ms * 2, u64::MAX] {
            for shows_ms in [None, Some(now_ms)] {
                assert!(by_date(impossible, shows_ms).is_none(), "{impossible}");
            }
        }
    }

    #[test]
    fn the_longest_timeout_is_believed() {
        let sender = Sender::default();
        let hour = unix_ms_now() + 3_600 * SECOND;
        let by_own = |most| Deadline::from_header(hour, &sender, most);
        let left = remaining_s(by_own(limits::TIMEOUT_MAX_MANAGED).unwrap());
        assert!((3_599.0..=3_600.0).contains(&left));
        assert!(by_own(limits::TIMEOUT_MAX).is_none());
    }

    #[test]
    fn a_deadline_that_is_past_by_its_senders_clock_is_over() {
        for late_ms in [0, 5, 60_000, 900_000] {
            let now_ms = unix_ms_now();
            let deadline = by_date(now_ms - 1 - late_ms, Some(now_ms - 1)).unwrap();
            assert_eq!(deadline.remaining(), Duration::ZERO);
            assert!(deadline.passed().unwrap() >= Duration::from_millis(late_ms));
        }
        let deadline = Deadline::after(Duration::from_secs(1));
        assert_eq!(deadline.passed(), None);
    }

    /// Nobody hands out an event whose time is over.
    #[test]
    fn a_deadline_that_is_past_by_this_clock_alone_is_by_another() {
        for late in [0, 1, 3, 60, 899, 901] {
            let told_ms = unix_ms_now() - 1 - late * SECOND;
            assert!(by_date(told_ms, None).is_none(), "{late} s");
        }
    }

    /// A timeout of a second is the shortest that Lambda has.
    #[test]
    fn a_clock_that_shows_seconds_leaves_no_more_than_there_is_and_no_less_than_half() {
        for left_ms in [1_000, 1_500, 3_000, 60_000] {
            for fraction_ms in [0, 1, 250, 500, 998, 999] {
                let most_ms = fraction_ms + left_ms;
                let granted_ms = granted_ms(most_ms - 999, most_ms);
                assert!(
                    (left_ms / 2..=left_ms).contains(&granted_ms),
                    "{left_ms}, {fraction_ms}: {granted_ms}"
                );
            }
        }
    }

    #[test]
    fn the_same_clock_is_believed_to_the_millisecond() {
        let now_ms = unix_ms_now();
        let shows_ms = Some(now_ms - now_ms % SECOND);
        let deadline = by_date(now_ms + SECOND, shows_ms).unwrap();
        assert_eq!(deadline.unix_ms, now_ms + SECOND);
    }
}
