//! What is posted to the Runtime API.
//!
//! Promises: an error is posted under a type that Lambda keeps, the guest's own where it is one.
//!
//! Left to others: what a refusal means ([`super::refusals`]).

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::cause;
use super::endpoint::Endpoint;
use super::http1_request::Request;
use super::received::{INVOCATION_ID, date_ms};
use super::refusals::judged;
use super::reply_timeout::{Attempt, Limit};
use super::{Error, JSON, Receipt};
use crate::fault::Fault;
use crate::invocation::{WholeAnswer, unix_ms_now};
use crate::limits;

const INVOCATION: &str = "/2018-06-01/runtime/invocation";
pub(super) const ERROR_TYPE: HeaderName =
    HeaderName::from_static("lambda-runtime-function-error-type");
const CAUSE: HeaderName = HeaderName::from_static("lambda-runtime-function-xray-error-cause");

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

/// Something to post.
pub(super) struct Post<'a> {
    pub(super) path: &'a str,
    pub(super) body: Bytes,
    /// What is told, if it is an error.
    pub(super) fault: Option<&'a Fault>,
    /// Whose it is, if an invocation's.
    pub(super) receipt: Option<&'a Receipt>,
    /// For the log.
    pub(super) what: &'static str,
    /// [`Attempt::Last`] if it was posted before.
    pub(super) attempt: Attempt,
}

/// Posts the answer of an invocation.
pub(super) async fn answer(
    endpoint: &mut Endpoint,
    receipt: &Receipt,
    answer: &WholeAnswer,
    attempt: Attempt,
) -> Result<(), Error> {
    let (place, body, fault, what) = match answer {
        Ok(bytes) => ("response", bytes.clone(), None, "an answer"),
        Err(fault) => (
            "error",
            fault.body().into(),
            Some(fault),
            "an error as an answer",
        ),
    };
    let post = Post {
        path: &self::place(receipt, place),
        body,
        fault,
        receipt: Some(receipt),
        what,
        attempt,
    };
    send(endpoint, post).await
}

/// Posts something.
pub(super) async fn send(endpoint: &mut Endpoint, post: Post<'_>) -> Result<(), Error> {
    let Post {
        path,
        body,
        fault,
        receipt,
        what,
        attempt,
    } = post;
    let mut cause = fault.and_then(cause::cause);
    // Not until the deadline itself: by then the next event must have been asked for.
    let deadline = receipt.map(|receipt| receipt.invocation.deadline.settled_by());
    let mut limit = Limit::new(deadline, body.len() > limits::API_PROMPT_BYTES_MAX);
    if attempt == Attempt::Last {
        limit = limit.last();
    }
    loop {
        let invocation_id = receipt.and_then(|receipt| receipt.invocation_id.clone());
        let request = Request {
            method: Method::POST,
            path,
            headers: &[
                Some((CONTENT_TYPE, JSON)),
                fault.map(|fault| (ERROR_TYPE, error_type(fault))),
                cause.clone().map(|cause| (CAUSE, cause)),
                invocation_id.map(|id| (INVOCATION_ID, id)),
            ],
            body: body.clone(),
            rest_timeout: &|_| limits::API_RECEIPT_TIMEOUT,
        };
        let asked_ms = unix_ms_now();
        let reply = endpoint.exchange(Some(limit), &request).await?;
        if let Some(date_ms) = date_ms(&reply.headers) {
            endpoint.clock().shown(date_ms, asked_ms, unix_ms_now());
        }
        // A server that takes fewer bytes of headers than Lambda gets it again without X-Ray's header.
        let too_large = reply.status == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        if !too_large || cause.take().is_none() {
            let body = reply.body.unwrap_or_default();
            return judged(what, reply.status, &body, receipt);
        }
    }
}

/// The type under which Lambda counts a fault: the guest's own if it is one that Lambda keeps.
pub(super) fn error_type(fault: &Fault) -> HeaderValue {
    let is_kept = |name: &str| {
        let name = name
            .strip_prefix("Function.")
            .or(name.strip_prefix("Runtime."));
        name.is_some_and(|name| {
            name.len() > 1
                && name.starts_with(|first: char| first.is_ascii_uppercase())
                && name.bytes().all(|byte| byte.is_ascii_alphabetic())
        })
    };
    let own = Some(fault.error_type.as_str()).filter(|name| is_kept(name));
    own.and_then(|own| HeaderValue::from_str(own).ok())
        .unwrap_or(HeaderValue::from_static(fault.kind.error_type()))
}

/// Where an answer or an error is posted.
pub(super) fn place(receipt: &Receipt, what: &str) -> String {
    let id = utf8_percent_encode(&receipt.invocation.request_id, ENCODED);
    format!("{INVOCATION}/{id}/{what}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Kind;

    /// Lambda makes `Function.Unknown` or `Runtime.Unknown` of others.
    #[test]
    fn a_type_that_lambda_keeps_is_the_guests_own() {
        let told = |own: &str| {
            let fault = Fault::new(Kind::Failed, "x").named(own.to_owned());
            error_type(&fault).to_str().unwrap().to_owned()
        };
        for own in ["Function.OutOfStock", "Runtime.Xy"] {
            assert_eq!(told(own), own);
        }
        for own in [
            "OutOfStock",
            "Function.outOfStock",
            "Function.Out Of Stock",
            "Function.X",
            "Function.",
            "Function.Zo\u{eb}",
            "Extension.Crash",
            "",
        ] {
            assert_eq!(told(own), "Function.Error", "{own}");
        }
    }
}
