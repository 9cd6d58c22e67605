//! Lambda's Runtime API, version 2018-06-01: the next event, its answer, and errors.
//!
//! Promises:
//! - waiting for an event has no time limit: the process may be frozen meanwhile;
//! - an answer is taken once, and never followed by an error for the same invocation;
//! - one that could not be posted is posted again before the next event is asked for, on Managed Instances
//!   beside that, as long as somebody may wait for it, and once at the end;
//! - an event is handed out once: one that Lambda repeats, because its answer got lost, gets that; one
//!   that is too large is answered with an error;
//! - whoever says that there is no event yet, as emulators do, is asked again at growing intervals;
//! - whatever the other side replies is either understood or a clear error, never a panic.
//!
//! Left to others: what to do after an error ([`crate::serve::lambda`]).

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use http::header::HeaderValue;
use http::{Method, StatusCode};

use crate::fault::{Fault, Kind};
use crate::invocation::{Invocation, WholeAnswer};
use crate::limits;
use crate::telemetry::line_for;
use background_post::BackgroundPost;
use backoff::pause;
use endpoint::Endpoint;
use http1::{Lost, Reply};
use http1_reply::Head;
use http1_request::{Request, RestTimeout};
use posting::Post;
use reply_timeout::Attempt;

mod background_post;
mod backoff;
mod cause;
mod clock;
mod date;
mod endpoint;
pub mod extension;
mod flushed;
mod http1;
mod http1_reply;
mod http1_request;
mod posting;
mod received;
mod refusals;
mod reply_timeout;
mod streaming;
mod waiting;

pub use backoff::Failures;
pub use endpoint::is_address;
pub use received::{FunctionIdentity, Receipt, Received};
pub use waiting::Waiting;

const NEXT: &str = "/2018-06-01/runtime/invocation/next";
const INIT_ERROR: &str = "/2018-06-01/runtime/init/error";
const RESTORE_ERROR: &str = "/2018-06-01/runtime/restore/error";
const RESTORE_NEXT: &str = "/2018-06-01/runtime/restore/next";
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// One slot's connection to the Runtime API.
pub struct RuntimeApi {
    endpoint: Endpoint,
    identity: FunctionIdentity,
    /// The answer that could not be posted yet.
    undelivered: Option<(Receipt, WholeAnswer)>,
    /// Posts answers while the next event is asked for, where that is allowed.
    background: Option<BackgroundPost>,
}

/// What becomes of a slot with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotAfter {
    /// Nothing is left of the invocation: the next event may be asked for.
    Free,
    /// There is work after the answer, which the next event has to wait for.
    Busy,
}

/// Why the Runtime API could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The environment is beyond repair, says the other side: the process is to end.
    #[error("the Runtime API reports a state that cannot be recovered from: {0}")]
    Fatal(String),
    /// Something that may be over the next time: a refusal, an odd reply, or none on a connection that was
    /// taken.
    #[error("{0}")]
    Transient(String),
    /// The wait for something ended before any of it had come.
    #[error("{0}")]
    Cut(String),
    /// Nobody takes a connection.
    #[error("{0}")]
    Unreachable(String),
}

impl RuntimeApi {
    /// The Runtime API at this `host:port`. Connects to nothing yet.
    pub fn new(address: &str, identity: FunctionIdentity) -> Self {
        Self {
            endpoint: Endpoint::new(address),
            identity,
            undelivered: None,
            background: None,
        }
    }

    /// The same for another slot, with a connection of its own. What the other side's clock shows to one is known
    /// to both.
    pub fn another(&self) -> Self {
        Self {
            endpoint: self.endpoint.another(),
            identity: self.identity.clone(),
            undelivered: None,
            background: None,
        }
    }

    /// The same, but answers are posted in the background while the next event is asked for. For Managed
    /// Instances only: elsewhere whoever asks without having answered gets the same event again.
    pub fn posting_in_background(mut self) -> Self {
        self.background = Some(BackgroundPost::new(self.endpoint.another()));
        self
    }

    /// How it stands with what [`Self::next`] waits for.
    pub fn waiting(&self) -> Waiting {
        self.endpoint.waiting()
    }

    /// Waits for the next event.
    pub async fn next(&mut self) -> Result<Received, Error> {
        loop {
            self.post_undelivered().await?;
            let asking = asked(&mut self.endpoint, &self.identity);
            let reply = match &mut self.background {
                None => asking.await?,
                Some(background) => tokio::select! {
                    biased;
                    reply = asking => reply?,
                    error = background.failed() => return Err(error),
                },
            };
            let (event, refusal) = match reply.body {
                Ok(event) => (event, None),
                // If it were just asked again, Lambda would hand out the same event again.
                Err(Lost::TooLong) => (Bytes::new(), Some(too_large())),
                Err(lost) => return Err(lost.into()),
            };
            let (headers, came) = (&reply.headers, reply.begun);
            let clock = self.endpoint.clock();
            if received::is_in_doubt(received::date_ms(headers), came, clock) {
                // The event is here: whoever ends the environment meanwhile does not leave it, and has it at once.
                let waiting = self.endpoint.waiting();
                let _is_here = waiting.during_an_exchange();
                waiting.set_begun(true);
                let ending = poll_fn(|_| match waiting.asks_no_more() {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                });
                tokio::select! {
                    biased;
                    () = ending => {}
                    () = date::ask(&self.endpoint) => {}
                }
            }
            let received = received::received(headers, event, came, clock, &mut self.identity)?;
            let answer = match self.undelivered.take() {
                // Lambda hands out an event again if it has no answer to it; to handle it again would do
                // everything twice. What comes after the deadline is a new attempt, even under the same id.
                Some((receipt, answer))
                    if receipt.is_of_same_attempt(&received.receipt)
                        && Instant::now() < receipt.invocation.deadline.instant =>
                {
                    answer
                }
                _ => match refusal {
                    Some(fault) => Err(fault),
                    None => return Ok(received),
                },
            };
            // Kept first: this future may be dropped in the middle of the post.
            self.undelivered = Some((received.receipt.clone(), answer.clone()));
            self.answer(&received.receipt, answer, SlotAfter::Free)
                .await?;
            self.undelivered = None;
        }
    }

    /// The invocation whose answer could not be posted, while somebody waits for that.
    pub fn owing(&self) -> Option<&Invocation> {
        let (receipt, _) = self.undelivered.as_ref()?;
        let invocation = &*receipt.invocation;
        (Instant::now() < invocation.deadline.instant).then_some(invocation)
    }

    /// Posts the answer that could not be posted before, unless its deadline is too near. If it fails again the
    /// answer is kept, in case the event is handed out again.
    async fn post_undelivered(&mut self) -> Result<(), Error> {
        let Some((receipt, answer)) = &self.undelivered else {
            return Ok(());
        };
        if receipt.invocation.deadline.settled_by() <= Instant::now() {
            return Ok(());
        }
        match self.background.as_mut().and_then(BackgroundPost::with_room) {
            Some(background) => background.post(receipt.clone(), answer.clone(), Attempt::Last),
            None => posting::answer(&mut self.endpoint, receipt, answer, Attempt::Last).await?,
        }
        self.undelivered = None;
        Ok(())
    }

    /// Posts the answer of an invocation. `slot` says whether the next event may be asked for at once. A
    /// refusal that concerns this invocation alone is logged and is no error: Lambda has told the caller
    /// already. Where answers are posted in the background and the slot is free, this returns as soon as the
    /// post has begun, unless an earlier one is still under way; a failure that ends the process is then an
    /// error of [`Self::next`].
    pub async fn answer(
        &mut self,
        receipt: &Receipt,
        answer: WholeAnswer,
        slot: SlotAfter,
    ) -> Result<(), Error> {
        let background = self.background.as_mut().filter(|_| slot == SlotAfter::Free);
        if let Some(background) = background.and_then(BackgroundPost::with_room) {
            background.post(receipt.clone(), answer, Attempt::First);
            return Ok(());
        }
        let posted = posting::answer(&mut self.endpoint, receipt, &answer, Attempt::First).await;
        if matches!(posted, Err(Error::Transient(_) | Error::Unreachable(_))) {
            self.undelivered = Some((receipt.clone(), answer));
        }
        posted
    }

    /// Returns `posted`, the outcome of [`Self::answer`], if the slot is free: the next event is then asked
    /// for, and the answer is posted again before that. If there is work after the answer, the answer must not
    /// wait for it: it is posted again here until it arrives or its invocation's time is over.
    pub async fn post_again(
        &mut self,
        posted: Result<(), Error>,
        slot: SlotAfter,
    ) -> Result<(), Error> {
        let receipt = match &self.undelivered {
            Some((receipt, _)) if slot == SlotAfter::Busy => receipt,
            _ => return posted,
        };
        let end = receipt.invocation.deadline.enforced;
        let trying = pin!(async {
            let (mut posted, mut failures) = (posted, 0);
            while self.undelivered.is_some() && !matches!(posted, Err(Error::Fatal(_))) {
                failures += 1;
                if let Err(error) = &posted {
                    line_for!(self.owing(), warn, failures, "{error}");
                }
                tokio::time::sleep(pause(failures)).await;
                posted = self.post_undelivered().await;
            }
            posted
        });
        reply_timeout::by(end, trying).await.unwrap_or(Ok(()))
    }

    /// Posts the answer that could not be posted once more, and waits until none is on its way any more.
    pub async fn finish_posting(&mut self) {
        if let Err(error) = self.post_undelivered().await {
            line_for!(self.owing(), warn, "{error}");
        }
        if let Some(background) = &mut self.background {
            background.finish().await;
        }
    }

    /// Reports that the environment could not be started.
    pub async fn init_error(&mut self, fault: &Fault) -> Result<(), Error> {
        self.report(INIT_ERROR, fault, "a failed start").await
    }

    /// Says that the environment may be made a snapshot of, and waits until it is one that has
    /// been restored: a minute or a year later, in one copy or in a thousand. A wait that is interrupted,
    /// as by a connection that has no other end in the copy, begins again.
    pub async fn restored(&mut self) -> Result<(), Fault> {
        let mut failures = Failures::default();
        loop {
            let begun = Instant::now();
            let asks = asks(RESTORE_NEXT, &|_| limits::API_REPLY_TIMEOUT);
            let reply = self.endpoint.exchange(None, &asks).await;
            // In a restored copy the other end of this connection does not exist.
            self.endpoint.hang_up();
            let error = match reply {
                Ok(reply) if reply.status == StatusCode::OK => return Ok(()),
                Ok(reply) => reply.refusal("the wait for a restore"),
                Err(error) => error,
            };
            let pause = failures.add(&error, begun.elapsed())?;
            tracing::warn!(failures = failures.count(), "{error}");
            tokio::time::sleep(pause).await;
        }
    }

    /// Reports that the environment could not be renewed after a restore.
    pub async fn restore_error(&mut self, fault: &Fault) -> Result<(), Error> {
        self.report(RESTORE_ERROR, fault, "a failed restore").await
    }

    /// Posts the last words of a process, again if they get lost: Lambda refuses a second copy if it has the
    /// first.
    async fn report(&mut self, path: &str, fault: &Fault, what: &'static str) -> Result<(), Error> {
        let begun = Instant::now();
        for pause in limits::API_REPORT_PAUSES {
            match self.report_once(path, fault, what).await {
                Err(Error::Transient(_) | Error::Unreachable(_))
                    if begun.elapsed() < limits::API_REPORT_MAX => {}
                posted => return posted,
            }
            tokio::time::sleep(pause).await;
        }
        self.report_once(path, fault, what).await
    }

    async fn report_once(
        &mut self,
        path: &str,
        fault: &Fault,
        what: &'static str,
    ) -> Result<(), Error> {
        let post = Post {
            path,
            body: fault.body().into(),
            fault: Some(fault),
            receipt: None,
            what,
            attempt: Attempt::First,
        };
        posting::send(&mut self.endpoint, post).await
    }
}

/// The reply to the request for the next event, once there is one.
async fn asked(endpoint: &mut Endpoint, identity: &FunctionIdentity) -> Result<Reply, Error> {
    let clock = endpoint.clock().clone();
    let rest = |head: &Head| match head.status {
        StatusCode::OK => received::time_left(&head.headers, &clock, identity.timeout),
        _ => limits::API_REPLY_TIMEOUT,
    };
    let request = asks(NEXT, &rest);
    let mut in_vain = 0;
    loop {
        let reply = endpoint.exchange(None, &request).await?;
        match reply.status {
            StatusCode::OK => return Ok(reply),
            status if status.is_success() => {
                in_vain += 1;
                tracing::debug!(in_vain, "there is no event yet: {status}");
                tokio::time::sleep(pause(in_vain)).await;
            }
            _ => return Err(reply.refusal("a request for the next event")),
        }
    }
}

impl From<Lost> for Error {
    /// A reply whose head came and whose body did not.
    fn from(lost: Lost) -> Self {
        Self::Transient(format!("the Runtime API's reply was cut short: {lost}"))
    }
}

impl Reply {
    fn refusal(self, what: &str) -> Error {
        refusals::refused(what, self.status, &self.body.unwrap_or_default())
    }
}

fn too_large() -> Fault {
    let message = format!(
        "the event has more than {} bytes, which is more than Lambda sends",
        limits::HOST_CALL_BYTES_MAX
    );
    Fault::new(Kind::InvalidEvent, message)
}

/// A request that only asks.
fn asks<'a>(path: &'a str, rest_timeout: RestTimeout<'a>) -> Request<'a> {
    Request {
        method: Method::GET,
        path,
        headers: &[],
        body: Bytes::new(),
        rest_timeout,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Given up by then, as at the end of the environment.
    #[tokio::test]
    async fn an_answer_that_is_given_to_an_event_unasked_is_not_lost_with_the_wait_for_the_next() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap().to_string();
        let mut api = RuntimeApi::new(&address, FunctionIdentity::default());
        let posted_in_part = async {
            let (mut asking, _) = server.accept().await.unwrap();
            assert!(asking.read_buf(&mut Vec::new()).await.unwrap() > 0);
            let too_large = "HTTP/1.1 200 OK\r\nlambda-runtime-aws-request-id: r\r\n\
                             content-length: 999999999\r\n\r\n";
            asking.write_all(too_large.as_bytes()).await.unwrap();
            let (mut posting, _) = server.accept().await.unwrap();
            let mut posted = Vec::new();
            assert!(posting.read_buf(&mut posted).await.unwrap() > 0);
            assert!(posted.starts_with(b"POST "));
        };
        tokio::select! {
            _ = api.next() => panic!("there is no event"),
            () = posted_in_part => {}
        }
        let (receipt, answer) = api.undelivered.unwrap();
        assert_eq!(receipt.invocation.request_id, "r");
        assert!(answer.is_err());
    }

    /// Its date is so old that the clock is asked for. Nobody shows it, so the event is run all the same.
    #[tokio::test]
    async fn an_event_is_not_left_while_the_clock_is_asked_for() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap().to_string();
        let mut api = RuntimeApi::new(&address, FunctionIdentity::default());
        let waiting = api.waiting();
        let silent = async {
            let (mut asking, _) = server.accept().await.unwrap();
            assert!(asking.read_buf(&mut Vec::new()).await.unwrap() > 0);
            let event = "HTTP/1.1 200 OK\r\nlambda-runtime-aws-request-id: r\r\n\
                         lambda-runtime-deadline-ms: 784111779000\r\n\
                         date: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-length: 2\r\n\r\n{}";
            asking.write_all(event.as_bytes()).await.unwrap();
            let (mut pinged, _) = server.accept().await.unwrap();
            let mut ping = Vec::new();
            assert!(pinged.read_buf(&mut ping).await.unwrap() > 0);
            assert!(ping.starts_with(b"GET /2018-06-01/ping "));
            assert!(waiting.has_begun());
            (asking, pinged)
        };
        let (received, _open) = tokio::join!(api.next(), silent);
        let left = received.unwrap().invocation.deadline.remaining();
        assert!(left > Duration::ZERO && left <= Duration::from_secs(2));
        assert!(!api.waiting().has_begun());
    }

    #[test]
    fn what_one_slot_learns_of_the_clock_is_known_to_the_others() {
        let api = RuntimeApi::new("127.0.0.1:1", FunctionIdentity::default());
        let others = [api.another(), api.another().posting_in_background()];
        let (now, hour) = (1_700_000_000_000, 3_600_000);
        api.endpoint.clock().shown(now + hour, now, now);
        for other in others {
            assert_eq!(other.endpoint.clock().ahead(), api.endpoint.clock().ahead());
        }
        assert!(api.endpoint.clock().ahead().is_some());
    }
}
