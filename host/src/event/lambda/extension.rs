//! Lambda's Extensions API, version 2020-01-01, as far as it makes SIGTERM come.
//!
//! Lambda kills a runtime without a word when its environment ends, unless an extension is
//! registered. So this program registers itself as one, an internal one for no event.
//!
//! Promises:
//! - registered before the first event is asked for: later it is refused;
//! - where there is no Extensions API, as in some emulators, everything else goes on as it would;
//! - one call of `event/next` waits as long as the environment lives; it has no time limit.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use super::connection::Endpoint;
use super::http1::{Reply, Request};
use super::patience::pause;
use super::{Error, JSON};
use crate::limits;

const REGISTER: &str = "/2020-01-01/extension/register";
const NEXT: &str = "/2020-01-01/extension/event/next";
const NAME: HeaderName = HeaderName::from_static("lambda-extension-name");
const IDENTIFIER: HeaderName = HeaderName::from_static("lambda-extension-identifier");
/// Unique among the extensions of a function, and the name of no file in `/opt/extensions`.
const OWN_NAME: HeaderValue = HeaderValue::from_static("hearth-drain");
/// To be called for nothing: an internal extension may only ask for invocations.
const EVENTS: &[u8] = br#"{"events":[]}"#;

/// This program as an extension of its own environment.
pub struct Extension {
    endpoint: Endpoint,
    identifier: HeaderValue,
}

impl Extension {
    /// Registers with the API at this `host:port`. None where that is not possible, which the
    /// log says: then the environment ends without a signal.
    pub async fn register(address: &str) -> Option<Self> {
        let mut endpoint = Endpoint::new(address);
        let request = Request {
            method: Method::POST,
            path: REGISTER,
            headers: &[Some((CONTENT_TYPE, JSON)), Some((NAME, OWN_NAME))],
            body: Bytes::from_static(EVENTS),
        };
        let registering = endpoint.exchange(None, &request);
        let reply = match tokio::time::timeout(limits::REGISTER_TIMEOUT, registering).await {
            Ok(reply) => reply.and_then(identifier),
            Err(_) => Err(Error::Transient("there was no reply in time".to_owned())),
        };
        match reply {
            Ok(identifier) => Some(Self {
                endpoint,
                identifier,
            }),
            Err(error) => {
                tracing::debug!(%error, "not registered as an extension: no SIGTERM will come");
                None
            }
        }
    }

    /// Waits in `event/next`, which Lambda asks of every extension before it sends the first
    /// event. Nothing ever comes; returns when the API no longer answers.
    pub async fn wait(mut self) {
        for failures in 1..=limits::API_FAILURES_MAX {
            let request = Request {
                method: Method::GET,
                path: NEXT,
                headers: &[Some((IDENTIFIER, self.identifier.clone()))],
                body: Bytes::new(),
            };
            let error = match self.endpoint.exchange(None, &request).await {
                Ok(reply) => format!("an answer with status {}", reply.status.as_u16()),
                Err(error) => error.to_string(),
            };
            tracing::debug!(failures, error, "the wait as an extension was interrupted");
            tokio::time::sleep(pause(failures)).await;
        }
    }
}

fn identifier(reply: Reply) -> Result<HeaderValue, Error> {
    let identifier = reply.headers.get(IDENTIFIER.as_str());
    match (reply.status, identifier.map(HeaderValue::from_bytes)) {
        (StatusCode::OK, Some(Ok(identifier))) => Ok(identifier),
        _ => Err(reply.refusal("the registration")),
    }
}
