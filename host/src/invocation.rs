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

/// What is known of the clock of whoever has sent an event and its deadline.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sender {
    /// What the sender's clock showed when the event left, in milliseconds since the Unix epoch, but to the second. None
    /// if the sender does not say.
    pub clock_ms: Option<u64>,
    /// How many milliseconds the sender's clock is ahead of this machine's, at least. Below zero if it is behind. None if
    /// nobody knows.
    pub offset_ms: Option<i64>,
    /// How many milliseconds it is ahead, at most.
    pub offset_most_ms: Option<i64>,
    /// Whether the offset shows that the sender's clock is not this machine's. Otherwise the two are one clock, as far as
    /// dates can tell.
    pub is_another: bool,
    /// How long ago the event came.
    pub ago: Duration,
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
    /// The sender is on this machine as a rule, so the deadline is read by this machine's clock. It is read by the
    /// sender's clock instead, if that leaves a time which is possible, in these cases:
    /// - the sender's clock is known to be another one, or is ahead of this machine's: nothing arrives before it was
    ///   sent;
    /// - by this machine's clock the deadline is past, or further away than `most`.
    ///
    /// But where the two are known to be one clock, a deadline that is past is past: its event lay here while the process
    /// was frozen. What neither clock makes sense of leaves no time if it is only just past, or past by both clocks. It
    /// is no deadline at all, and the result None, if it is further away than that.
    pub fn from_header(unix_ms: u64, sender: &Sender, most: Duration) -> Option<Self> {
        let (sender_ms, ago) = (sender.clock_ms, sender.ago);
        let now_ms = unix_ms_now();
        let came_ms = now_ms.saturating_sub(ago.as_millis() as u64);
        let max_ms = most.as_millis() as u64;
        let possible = |left_ms: &u64| (1..=max_ms).contains(left_ms);
        let by_own = unix_ms.checked_sub(now_ms).filter(possible);
        let by_sender = sender_ms
            .and_then(|sender_ms| by_the_second(unix_ms, sender_ms))
            .filter(possible);
        let is_ahead = sender_ms.is_some_and(|sender_ms| {
            sender_ms > came_ms + limits::CLOCK_DIFFERENCE_MAX.as_millis() as u64
        });
        let is_another = is_ahead || sender.is_another;
        let senders_now_ms = sender
            .offset_ms
            .map(|offset_ms| now_ms.saturating_add_signed(offset_ms));
        // So much is left at most, however long the event has lain here before it was read.
        let by_both = senders_now_ms
            .and_then(|now_ms| unix_ms.checked_sub(now_ms))
            .filter(possible);
        // So much is left at least. The offset is known well enough once this is no less than half of the most.
        let at_least = sender
            .offset_most_ms
            .and_then(|offset_ms| unix_ms.checked_sub(now_ms.saturating_add_signed(offset_ms)))
            .filter(|least_ms| by_both.is_some_and(|most_ms| *least_ms >= most_ms / 2))
            .map(Duration::from_millis);
        let is_over = !is_another && senders_now_ms.is_some_and(|now_ms| unix_ms <= now_ms);
        let is_late = |most_ms| (unix_ms..=unix_ms.saturating_add(most_ms)).contains(&now_ms);
        // What is past by both clocks is past. By this machine's clock alone it may also be a time of another clock.
        let late_ms = match sender_ms {
            Some(_) => max_ms,
            None => limits::DEADLINE_LATE_MAX.as_millis() as u64,
        };
        match (by_own, by_sender) {
            (None, _) if is_over && is_late(max_ms) => Some(Self::new(unix_ms, Duration::ZERO)),
            (_, Some(left_ms)) if is_another || by_own.is_none() => {
                let left = Duration::from_millis(left_ms).saturating_sub(ago);
                let most = by_both.map_or(left, Duration::from_millis);
                Some(Self::after(at_least.unwrap_or(left.min(most))))
            }
            (Some(left_ms), _) => Some(Self::new(unix_ms, Duration::from_millis(left_ms))),
            (None, _) if is_late(late_ms) => Some(Self::new(unix_ms, Duration::ZERO)),
            (None, _) => None,
        }
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

    /// The same deadline, put off by this.
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

    /// How long it is until the deadline; zero once it is past.
    pub fn remaining(&self) -> Duration {
        self.instant.saturating_duration_since(Instant::now())
    }
}

/// How much time is left by a clock of which only the second is known. The clock may be anywhere within that second, so
/// a second is given away, but never more than half of what may be left. If a second or more is left in truth, this is
/// never more than that.
fn by_the_second(unix_ms: u64, second_ms: u64) -> Option<u64> {
    let most_ms = unix_ms.checked_sub(second_ms)?;
    Some(most_ms.saturating_sub(999).max(most_ms / 2))
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

    fn from_header(unix_ms: u64, sender_ms: Option<u64>) -> Option<Deadline> {
        Deadline::from_header(unix_ms, &shows(sender_ms), limits::TIMEOUT_MAX)
    }

    fn shows(clock_ms: Option<u64>) -> Sender {
        Sender {
            clock_ms,
            ..Sender::default()
        }
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
        for sender_ms in [
            None,
            Some(now_ms - now_ms % SECOND),
            Some(now_ms - 3_600 * SECOND),
        ] {
            let deadline = from_header(now_ms + 3 * SECOND, sender_ms).unwrap();
            assert_eq!(deadline.unix_ms, now_ms + 3 * SECOND);
            assert!(remaining_s(deadline) <= 3.0);
            assert!(deadline.enforced < deadline.settled_by());
            assert!(deadline.settled_by() < deadline.instant);
        }
    }

    /// Whichever of the two clocks was moved, and however far.
    #[test]
    fn a_sender_with_another_clock_is_believed_as_to_the_time_that_is_left() {
        for shift in [-3_600, -60, 2, 60, 3_600] {
            let sender_ms = unix_ms_now().saturating_add_signed(shift * SECOND as i64);
            let deadline = from_header(sender_ms + 10 * SECOND, Some(sender_ms)).unwrap();
            let left = remaining_s(deadline);
            assert!((8.0..=10.0).contains(&left), "{shift} s: {left}");
            assert!(deadline.unix_ms.abs_diff(unix_ms_now()) <= 10 * SECOND);
        }
    }

    /// Its event looks like one that has waited for a thaw.
    #[test]
    fn a_clock_that_is_a_little_behind_is_believed_once_it_is_known_to_be_another() {
        let sender_ms = unix_ms_now() - 5 * SECOND;
        for (offset_ms, expected) in [(None, 0.0..=1.0), (Some(-5_500), 5.0..=6.0)] {
            let sender = Sender {
                offset_ms,
                is_another: offset_ms.is_some(),
                ..shows(Some(sender_ms))
            };
            let deadline =
                Deadline::from_header(sender_ms + 6 * SECOND, &sender, limits::TIMEOUT_MAX);
            let left = remaining_s(deadline.unwrap());
            assert!(expected.contains(&left), "{offset_ms:?}: {left}");
        }
    }

    /// Of its date only the second is known, wherever in that the event was sent.
    #[test]
    fn another_clock_is_believed_as_exactly_as_it_is_known() {
        for ahead_ms in [-3_600_400, -7_300, -1_500, 300, 2_500] {
            for fraction_ms in [0, 250, 500, 750, 999] {
                let sent_ms = unix_ms_now().saturating_add_signed(ahead_ms);
                let sender = Sender {
                    offset_ms: Some(ahead_ms - 20),
                    offset_most_ms: Some(ahead_ms + 20),
                    is_another: ahead_ms != -1_500,
                    ..shows(Some(sent_ms - fraction_ms))
                };
                let deadline = Deadline::from_header(sent_ms + 600, &sender, limits::TIMEOUT_MAX);
                let left = remaining_s(deadline.unwrap());
                assert!((0.45..=0.6).contains(&left), "{ahead_ms} ms: {left}");
            }
        }
    }

    /// After the first reply all that is known may be that there is half a second or a tenth of one.
    #[test]
    fn a_clock_that_is_hardly_known_leaves_no_less_than_half() {
        let sent_ms = unix_ms_now() + 3_600 * SECOND;
        let sender = Sender {
            offset_ms: Some(3_600_000 - 400),
            offset_most_ms: Some(3_600_000 + 599),
            is_another: true,
            ..shows(Some(sent_ms - 400))
        };
        let deadline = Deadline::from_header(sent_ms + 600, &sender, limits::TIMEOUT_MAX);
        let left = remaining_s(deadline.unwrap());
        assert!((0.4..=0.5).contains(&left), "{left}");
    }

    /// Its date says nothing of how long it has lain there, and the clocks do.
    #[test]
    fn an_event_that_has_waited_for_a_thaw_has_lost_that_time_by_another_clock_too() {
        for ahead_s in [-3_600, -5, 5, 3_600] {
            let offset_ms = ahead_s * SECOND as i64;
            let handed_out_ms = unix_ms_now().saturating_add_signed(offset_ms) - 2 * SECOND;
            let deadline_ms = handed_out_ms + 4 * SECOND;
            for (known_ms, expected) in [
                (offset_ms - 100, 1.5..=2.2),
                // It was set since, so that nothing is left by it.
                (offset_ms + 600 * SECOND as i64, 2.9..=4.0),
            ] {
                let sender = Sender {
                    offset_ms: Some(known_ms),
                    is_another: true,
                    ..shows(Some(handed_out_ms))
                };
                let deadline = Deadline::from_header(deadline_ms, &sender, limits::TIMEOUT_MAX);
                let left = remaining_s(deadline.unwrap());
                assert!(
                    expected.contains(&left),
                    "{ahead_s} s, {known_ms} ms: {left}"
                );
            }
        }
    }

    /// Its date is as old as it, and by that there is time left.
    #[test]
    fn an_event_that_has_waited_for_a_thaw_has_lost_that_time_by_the_same_clock() {
        let handed_out_ms = unix_ms_now() - 5 * SECOND;
        for (offset_ms, is_another, expected) in [
            (Some(-900), false, 0.0..=0.0),
            // So much may be left.
            (Some(-3_500), false, 0.1..=0.5),
            (Some(-4_500), true, 0.5..=1.1),
            (None, false, 0.5..=1.1),
        ] {
            let sender = Sender {
                offset_ms,
                is_another,
                ..shows(Some(handed_out_ms))
            };
            let deadline_ms = handed_out_ms + 2 * SECOND;
            let deadline = Deadline::from_header(deadline_ms, &sender, limits::TIMEOUT_MAX);
            let left = remaining_s(deadline.unwrap());
            assert!(expected.contains(&left), "{offset_ms:?}: {left}");
        }
    }

    /// Of an event of which the rest took four seconds to come.
    #[test]
    fn what_is_left_by_the_senders_clock_is_less_by_what_has_passed_since() {
        let ago = Duration::from_secs(4);
        for shift in [-3_600, -60, 2, 3_600] {
            let sender_ms = unix_ms_now().saturating_add_signed(shift * SECOND as i64) - 4 * SECOND;
            let deadline_ms = sender_ms + 10 * SECOND;
            let sender = Sender {
                ago,
                ..shows(Some(sender_ms))
            };
            let deadline = Deadline::from_header(deadline_ms, &sender, limits::TIMEOUT_MAX);
            let left = remaining_s(deadline.unwrap());
            assert!((4.0..=6.0).contains(&left), "{shift} s: {left}");
        }
    }

    #[test]
    fn a_deadline_that_cannot_be_true_is_not_believed() {
        // cargo-lambda's is a constant, and that of AWS's emulator is 10^6 times too far away.
        let now_ms = unix_ms_now();
        for impossible in [0, 600_000, now_ms + 3 * SECOND * 1_000_000, now_ms * 2] {
            for sender_ms in [None, Some(now_ms)] {
                assert!(from_header(impossible, sender_ms).is_none(), "{impossible}");
            }
        }
    }

    #[test]
    fn the_longest_timeout_is_believed() {
        let hour = unix_ms_now() + 3_600 * SECOND;
        let from_header = |most| Deadline::from_header(hour, &shows(Some(unix_ms_now())), most);
        let left = remaining_s(from_header(limits::TIMEOUT_MAX_MANAGED).unwrap());
        assert!((3_599.0..=3_600.0).contains(&left));
        assert!(from_header(limits::TIMEOUT_MAX).is_none());
    }

    #[test]
    fn a_deadline_just_past_leaves_no_time() {
        for sender_ms in [None, Some(unix_ms_now())] {
            let deadline = from_header(unix_ms_now() - 5, sender_ms).unwrap();
            assert_eq!(deadline.remaining(), Duration::ZERO);
        }
        // By either clock.
        let late = unix_ms_now() - 60 * SECOND;
        let deadline = from_header(late, Some(unix_ms_now())).unwrap();
        assert_eq!(deadline.remaining(), Duration::ZERO);
    }

    /// Nobody hands out an event whose time is over for so long.
    #[test]
    fn a_deadline_long_past_is_by_another_clock() {
        for late in [3, 60, 899, 901] {
            assert!(
                from_header(unix_ms_now() - late * SECOND, None).is_none(),
                "{late} s"
            );
        }
    }

    /// A timeout of a second is the shortest that Lambda has.
    #[test]
    fn another_clock_leaves_no_more_than_there_is_and_no_less_than_half() {
        for left_ms in [1_000, 1_500, 3_000, 60_000] {
            for fraction_ms in [0, 1, 250, 500, 998, 999] {
                let second_ms = 1_700_000_000_000;
                let deadline_ms = second_ms + fraction_ms + left_ms;
                let granted_ms = by_the_second(deadline_ms, second_ms).unwrap();
                assert!(
                    (left_ms / 2..=left_ms).contains(&granted_ms),
                    "{left_ms}, {fraction_ms}: {granted_ms}"
                );
            }
        }
        assert_eq!(by_the_second(1, 2), None);
    }

    #[test]
    fn the_same_clock_is_believed_to_the_millisecond() {
        let now_ms = unix_ms_now();
        let sender_ms = Some(now_ms - now_ms % SECOND);
        let deadline = from_header(now_ms + SECOND, sender_ms).unwrap();
        assert_eq!(deadline.unix_ms, now_ms + SECOND);
    }
}
