//! One event being handled: the vocabulary that both front doors and the engine share.
//!
//! A front door ([`crate::event`]) turns what it received into an [`Invocation`]; the engine turns
//! that into a [`Response`]. Neither knows where the other comes from or goes to.

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;

use crate::fault::{Fault, Kind};
use crate::limits;

/// What the caller gets whole: the function's bytes as they are, or why there are none.
pub type Answer = Result<Bytes, Fault>;

/// What the caller gets.
#[derive(Debug)]
pub enum Response {
    /// All of it.
    Whole(Bytes),
    /// It is sent while it is made.
    Streamed(Streamed),
}

/// An answer that is sent while it is made. When it is dropped, the function learns that nobody
/// reads any more.
pub struct Streamed {
    /// Whether it begins with an HTTP status and headers, in the form that Lambda takes.
    pub http: bool,
    /// Its bytes. After an error, which is the last item, the answer is not complete.
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

impl Response {
    /// All of it, for a caller who gets it whole.
    pub async fn collect(self) -> Answer {
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
        format!("the answer has {bytes} bytes or more; {bytes_max} are the most"),
    ))
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
    /// A time further away than any timeout Lambda allows, in either direction, can only be a
    /// mistake of the sender's or of a clock: then the longest timeout is assumed.
    pub fn at_unix_ms(unix_ms: u64) -> Self {
        let now_ms = unix_ms_now();
        if unix_ms.abs_diff(now_ms) > limits::TIMEOUT_MAX.as_millis() as u64 {
            return Self::after(limits::TIMEOUT_MAX);
        }
        Self::new(
            unix_ms,
            Duration::from_millis(unix_ms.saturating_sub(now_ms)),
        )
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

    /// How long until then; zero once it is past.
    pub fn remaining(&self) -> Duration {
        self.instant.saturating_duration_since(Instant::now())
    }
}

/// The wall clock, in milliseconds since the Unix epoch; 0 if it stands before that.
pub fn unix_ms_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let in_three_seconds = unix_ms_now() + 3_000;
        let deadline = Deadline::at_unix_ms(in_three_seconds);
        assert_eq!(deadline.unix_ms, in_three_seconds);
        assert!(deadline.remaining() <= Duration::from_secs(3));
        assert!(deadline.enforced < deadline.instant);
    }

    #[test]
    fn a_deadline_of_another_decade_is_not_believed() {
        for impossible in [0, 600_000, unix_ms_now() * 2] {
            let deadline = Deadline::at_unix_ms(impossible);
            assert!(deadline.remaining() > limits::TIMEOUT_MAX - Duration::from_secs(1));
        }
    }

    #[test]
    fn a_deadline_just_past_leaves_no_time() {
        let deadline = Deadline::at_unix_ms(unix_ms_now() - 5);
        assert_eq!(deadline.remaining(), Duration::ZERO);
    }
}
