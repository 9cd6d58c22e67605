//! Lambda's Extensions API, version 2020-01-01, as far as it makes SIGTERM come.
//!
//! Lambda kills a runtime without a word when its environment ends, unless an extension is
//! registered. So this program registers itself as one, an internal one for no event.
//!
//! Promises:
//! - registered before the first event is asked for, since later it is refused; a reply that says nothing of it, or
//!   none, is not the end of that;
//! - where there is no Extensions API, as in some emulators, everything else goes on as it would;
//! - once registered, a call of `event/next` waits as long as the environment lives, without any limit.

use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::backoff::pause;
use super::endpoint::Endpoint;
use super::http1::Reply;
use super::http1_request::Request;
use super::{Error, JSON, refusals};
use crate::limits;

const REGISTER: &str = "/2020-01-01/extension/register";
/// For the log.
const REGISTRATION: &str = "the registration";
const NEXT: &str = "/2020-01-01/extension/event/next";
const NAME: HeaderName = HeaderName::from_static("lambda-extension-name");
const IDENTIFIER: HeaderName = HeaderName::from_static("lambda-extension-identifier");
/// Unique among the extensions of a function, and the name of no file in `/opt/extensions`.
const OWN_NAME: HeaderValue = HeaderValue::from_static("hearth-drain");
/// To be called for nothing: an internal extension may only ask for invocations.
const EVENTS: &[u8] = br#"{"events":[]}"#;

/// Makes this program an extension of its own environment, with the API at this `host:port`, and lets it
/// wait as one for as long as the process lives. Returns when it is registered, or when that is not
/// possible, which the log says: then the environment ends without a signal. A reply that does not come
/// keeps no start from going on, but is waited for: Lambda sends no event while an extension that it has
/// registered does not wait.
pub async fn join(address: &str) {
    let mut endpoint = Endpoint::new(address);
    let (registered, registering) = oneshot::channel();
    tokio::spawn(async move {
        let identifier = register(&mut endpoint).await;
        let _ = registered.send(());
        match identifier {
            Ok(identifier) => wait(endpoint, identifier).await,
            Err(error) => {
                tracing::debug!(%error, "not registered as an extension: no SIGTERM will come");
            }
        }
    });
    if timeout(limits::REGISTER_TIMEOUT, registering)
        .await
        .is_err()
    {
        tracing::warn!(
            "the registration as an extension has had no reply for {} s; it is waited for beside everything else, and \
             until then no SIGTERM will come",
            limits::REGISTER_TIMEOUT.as_secs()
        );
    }
}

/// Asks again if nobody could be reached or the other side was busy: the API may be up a moment later than the
/// runtime. If the registration itself is refused, it is not asked again.
async fn register(endpoint: &mut Endpoint) -> Result<HeaderValue, Error> {
    let begun = Instant::now();
    let mut failures = 0;
    loop {
        let error = match register_once(endpoint).await {
            Ok(reply) if refusals::says_nothing(reply.status) => reply.refusal(REGISTRATION),
            Ok(reply) => return identifier(reply),
            Err(error @ (Error::Cut(_) | Error::Unreachable(_))) => error,
            Err(error) => return Err(error),
        };
        failures += 1;
        let pause = pause(failures);
        if begun.elapsed() + pause > limits::REGISTER_TIMEOUT {
            return Err(error);
        }
        tracing::debug!(failures, %error, "not registered as an extension yet");
        tokio::time::sleep(pause).await;
    }
}

async fn register_once(endpoint: &mut Endpoint) -> Result<Reply, Error> {
    let request = Request {
        method: Method::POST,
        path: REGISTER,
        headers: &[Some((CONTENT_TYPE, JSON)), Some((NAME, OWN_NAME))],
        body: Bytes::from_static(EVENTS),
        rest_timeout: &|_| limits::API_RECEIPT_TIMEOUT,
    };
    endpoint.exchange(None, &request).await
}

/// Waits in `event/next`, which Lambda asks of every extension before it sends the first event. Nothing
/// ever comes. A wait that is interrupted begins again, however often: without it no event would come.
async fn wait(mut endpoint: Endpoint, identifier: HeaderValue) {
    let mut failures = 0;
    loop {
        let request = Request {
            method: Method::GET,
            path: NEXT,
            headers: &[Some((IDENTIFIER, identifier.clone()))],
            body: Bytes::new(),
            rest_timeout: &|_| limits::API_REPLY_TIMEOUT,
        };
        let begun = Instant::now();
        let error = match endpoint.exchange(None, &request).await {
            Ok(reply) => format!("an answer with status {}", reply.status.as_u16()),
            Err(error) => error.to_string(),
        };
        failures = match begun.elapsed() > limits::API_PAUSE_MAX {
            true => 1,
            false => failures + 1,
        };
        tracing::debug!(failures, error, "the wait as an extension was interrupted");
        tokio::time::sleep(pause(failures)).await;
    }
}

fn identifier(reply: Reply) -> Result<HeaderValue, Error> {
    let identifier = reply.headers.get(IDENTIFIER.as_str());
    match (reply.status, identifier.map(HeaderValue::from_bytes)) {
        (StatusCode::OK, Some(Ok(identifier))) => Ok(identifier),
        _ => Err(reply.refusal(REGISTRATION)),
    }
}
