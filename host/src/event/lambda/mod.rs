//! Lambda's Runtime API, version 2018-06-01: the next event, its answer, and errors.
//!
//! Promises:
//! - waiting for an event has no time limit: the process may be frozen meanwhile;
//! - an answer is posted once, and never followed by an error for the same invocation;
//! - one that could not be posted is posted again before the next event is asked for, as long as
//!   somebody may wait for it;
//! - an event is handed out once: one that Lambda repeats, because its answer got lost, gets that; one
//!   that is too large is answered with an error;
//! - whoever says that there is no event yet, as emulators do, is asked again at growing intervals;
//! - whatever the other side replies is either understood or a clear error, never a panic.
//!
//! Left to others: what to do after an error ([`crate::serve::lambda`]).

use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::fault::{Fault, Kind};
use crate::invocation::{Answer, Invocation};
use crate::limits;
use crate::telemetry::line_for;
use connection::Endpoint;
use http1::{Lost, Reply, Request};
use patience::{Limit, pause};

mod cause;
mod connection;
pub mod extension;
mod http1;
mod http1_reply;
mod patience;
mod received;
mod streaming;

pub use patience::Failures;
pub use received::{FunctionIdentity, Receipt, Received};

const INVOCATION: &str = "/2018-06-01/runtime/invocation";
const NEXT: &str = "/2018-06-01/runtime/invocation/next";
const INIT_ERROR: &str = "/2018-06-01/runtime/init/error";
const RESTORE_ERROR: &str = "/2018-06-01/runtime/restore/error";
const RESTORE_NEXT: &str = "/2018-06-01/runtime/restore/next";
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const ERROR_TYPE: HeaderName = HeaderName::from_static("lambda-runtime-function-error-type");
const CAUSE: HeaderName = HeaderName::from_static("lambda-runtime-function-xray-error-cause");
const INVOCATION_ID: HeaderName = HeaderName::from_static("lambda-runtime-invocation-id");

/// What must be encoded in a segment of a path: all that no segment may have. An id is the caller's
/// own, where the other side lets callers choose it.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// One slot's connection to the Runtime API.
pub struct RuntimeApi {
    endpoint: Endpoint,
    identity: FunctionIdentity,
    /// The answer that could not be posted.
    undelivered: Option<(Receipt, Answer)>,
}

/// Why the Runtime API could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The environment is beyond repair, says the other side: the process is to end.
    #[error("the Runtime API reports a state that cannot be recovered from: {0}")]
    Fatal(String),
    /// Something that may be over the next time: a refusal, an odd reply.
    #[error("{0}")]
    Transient(String),
    /// Nobody replies.
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
        }
    }

    /// Waits for the next event.
    pub async fn next(&mut self) -> Result<Received, Error> {
        loop {
            if self.undelivered.is_some() {
                self.deliver().await?;
            }
            let reply = self.asked().await?;
            let (event, refusal) = match reply.body {
                Ok(event) => (event, None),
                // Asked again, Lambda would hand the same out again.
                Err(Lost::TooLong) => (Bytes::new(), Some(too_large())),
                Err(lost) => return Err(lost.into()),
            };
            let received = received::received(&reply.headers, event, &mut self.identity)?;
            let answer = match self.undelivered.take() {
                // Lambda hands out again what it has no answer to; handling it again would do
                // everything twice.
                Some((receipt, answer)) if receipt.is_of_same_attempt(&received.receipt) => answer,
                _ => match refusal {
                    Some(fault) => Err(fault),
                    None => return Ok(received),
                },
            };
            self.answer(&received.receipt, &answer).await?;
        }
    }

    /// The invocation whose answer could not be posted, while somebody waits for that.
    pub fn owing(&self) -> Option<&Invocation> {
        let (receipt, _) = self.undelivered.as_ref()?;
        let invocation = &*receipt.invocation;
        (Instant::now() < invocation.deadline.instant).then_some(invocation)
    }

    /// Posts the answer that could not be posted, unless it is too late for whoever waits for it.
    /// What still cannot be posted is kept, should the event be handed out again.
    async fn deliver(&mut self) -> Result<(), Error> {
        let Some((receipt, answer)) = self.undelivered.clone() else {
            return Ok(());
        };
        if Instant::now() < receipt.invocation.deadline.settled_by() {
            self.post_answer(&receipt, &answer).await?;
            self.undelivered = None;
        }
        Ok(())
    }

    /// The reply to the request for the next event, once there is one.
    async fn asked(&mut self) -> Result<Reply, Error> {
        let request = asks(NEXT);
        let mut in_vain = 0;
        loop {
            let reply = self.endpoint.exchange(None, &request).await?;
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

    /// Posts the answer of an invocation. A refusal that concerns this invocation alone is logged
    /// and is no error: Lambda has told the caller already.
    pub async fn answer(&mut self, receipt: &Receipt, answer: &Answer) -> Result<(), Error> {
        let posted = self.post_answer(receipt, answer).await;
        if matches!(posted, Err(Error::Transient(_) | Error::Unreachable(_))) {
            self.undelivered = Some((receipt.clone(), answer.clone()));
        }
        posted
    }

    async fn post_answer(&mut self, receipt: &Receipt, answer: &Answer) -> Result<(), Error> {
        match answer {
            Ok(bytes) => {
                let path = place(receipt, "response");
                let body = bytes.clone();
                self.post(&path, body, None, Some(receipt), "an answer")
                    .await
            }
            Err(fault) => {
                let path = place(receipt, "error");
                let body = fault.body().into();
                let error = "an error as an answer";
                self.post(&path, body, Some(fault), Some(receipt), error)
                    .await
            }
        }
    }

    /// Reports that the environment could not be started.
    pub async fn init_error(&mut self, fault: &Fault) -> Result<(), Error> {
        let body = fault.body().into();
        self.post(INIT_ERROR, body, Some(fault), None, "a failed start")
            .await
    }

    /// Says that the environment may be made a snapshot of, and waits until it is one that has
    /// been restored: a minute or a year later, in one copy or in a thousand. A wait that is interrupted,
    /// as by a connection that has no other end in the copy, begins again.
    pub async fn restored(&mut self) -> Result<(), Fault> {
        let mut failures = Failures::default();
        loop {
            let reply = self.endpoint.exchange(None, &asks(RESTORE_NEXT)).await;
            // It is the other side's connection of another life.
            self.endpoint.hang_up();
            let error = match reply {
                Ok(reply) if reply.status == StatusCode::OK => return Ok(()),
                Ok(reply) => reply.refusal("the wait for a restore"),
                Err(error) => error,
            };
            let pause = failures.add(&error)?;
            tracing::warn!(failures = failures.count(), "{error}");
            tokio::time::sleep(pause).await;
        }
    }

    /// Reports that the environment could not be renewed after a restore.
    pub async fn restore_error(&mut self, fault: &Fault) -> Result<(), Error> {
        let body = fault.body().into();
        self.post(RESTORE_ERROR, body, Some(fault), None, "a failed restore")
            .await
    }

    async fn post(
        &mut self,
        path: &str,
        body: Bytes,
        fault: Option<&Fault>,
        receipt: Option<&Receipt>,
        what: &str,
    ) -> Result<(), Error> {
        let mut cause = fault.and_then(cause::cause);
        let deadline = receipt.map(|receipt| receipt.invocation.deadline.instant);
        let limit = Limit::new(deadline, body.len() > limits::API_PROMPT_BYTES_MAX);
        loop {
            let invocation_id = receipt.and_then(|receipt| receipt.invocation_id.clone());
            let error_type = fault.map(|fault| HeaderValue::from_static(fault.kind.error_type()));
            let request = Request {
                method: Method::POST,
                path,
                headers: &[
                    Some((CONTENT_TYPE, JSON)),
                    error_type.map(|kind| (ERROR_TYPE, kind)),
                    cause.clone().map(|cause| (CAUSE, cause)),
                    invocation_id.map(|id| (INVOCATION_ID, id)),
                ],
                body: body.clone(),
            };
            let reply = self.endpoint.exchange(Some(limit), &request).await?;
            // Where there is less room for headers than on Lambda, X-Ray's can be done without.
            let too_large = reply.status == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            if !too_large || cause.take().is_none() {
                let body = reply.body.unwrap_or_default();
                return judged(what, reply.status, &body, receipt);
            }
        }
    }
}

impl From<Lost> for Error {
    /// For a body of which the head was there.
    fn from(lost: Lost) -> Self {
        Self::Transient(format!("the Runtime API's reply was cut short: {lost}"))
    }
}

impl Reply {
    fn refusal(self, what: &str) -> Error {
        refused(what, self.status, &self.body.unwrap_or_default())
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
fn asks(path: &str) -> Request<'_> {
    Request {
        method: Method::GET,
        path,
        headers: &[],
        body: Bytes::new(),
    }
}

/// Where an answer or an error is posted.
fn place(receipt: &Receipt, what: &str) -> String {
    let id = utf8_percent_encode(&receipt.invocation.request_id, ENCODED);
    format!("{INVOCATION}/{id}/{what}")
}

/// What the status of a posted answer means. A refusal of that answer alone is logged.
fn judged(
    what: &str,
    status: StatusCode,
    body: &[u8],
    receipt: Option<&Receipt>,
) -> Result<(), Error> {
    if status.is_success() {
        return Ok(());
    }
    match refused(what, status, body) {
        fatal @ Error::Fatal(_) => Err(fatal),
        refusal => {
            let invocation = receipt.map(|receipt| &*receipt.invocation);
            line_for!(invocation, warn, "{refusal}");
            Ok(())
        }
    }
}

fn refused(what: &str, status: StatusCode, body: &[u8]) -> Error {
    let body = String::from_utf8_lossy(&body[..body.len().min(1024)]);
    let text = format!("{what} was refused with status {}: {body}", status.as_u16());
    match status {
        StatusCode::INTERNAL_SERVER_ERROR => Error::Fatal(text),
        _ => Error::Transient(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_500_is_the_end() {
        let refused = |status| super::refused("x", status, b"");
        assert!(matches!(
            refused(StatusCode::INTERNAL_SERVER_ERROR),
            Error::Fatal(_)
        ));
        assert!(matches!(
            refused(StatusCode::SERVICE_UNAVAILABLE),
            Error::Transient(_)
        ));
    }
}
