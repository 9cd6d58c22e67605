//! One call of the Invoke API, from its headers to its answer.
//!
//! Promises: the statuses and headers that AWS's clients expect. A function that fails is a 200
//! with `X-Amz-Function-Error`; only what kept it from being invoked is an error status.
//!
//! The time of an invocation begins when there is an instance for it that stands, as on Lambda. A caller waits
//! for one as long as an invocation may take, and until it is built for as long as Lambda gives a start.
//!
//! Left to others: events for which nobody waits ([`super::events`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, EXPECT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::report::Report;
use super::{Host, events};
use crate::event::local::{ErrorType, InvocationType, Invoke, Refusal, VERSION};
use crate::fault::{Fault, Kind};
use crate::instance::pool::Lease;
use crate::invocation::{Answer, Deadline, Invocation};
use crate::limits;
use crate::serve::Function;
use crate::telemetry::line_for;

/// What is known once a function has answered.
struct Answered {
    answer: Answer,
    output_tail: Vec<u8>,
    took: Duration,
}

/// Puts a header there, unless its value cannot be one.
pub(super) fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// What a call asks for: how, of which function, with which event.
pub(super) async fn asked(
    host: &Host,
    request: Request,
) -> Result<(Invoke, Arc<Function>, Bytes), Refusal> {
    let (head, body) = request.into_parts();
    match addressed(host, &head) {
        Ok((invoke, function)) => {
            let event = invoke.event(read(body, &invoke).await?)?;
            Ok((invoke, function, event))
        }
        Err(refusal) => {
            discard(&head.headers, body).await;
            Err(refusal)
        }
    }
}

fn addressed(host: &Host, head: &Parts) -> Result<(Invoke, Arc<Function>), Refusal> {
    let invoke = Invoke::parse(&head.uri, &head.headers)?;
    let function = host.environment.function(&invoke.function.name);
    let function = Arc::clone(function.ok_or_else(|| invoke.function.not_found())?);
    Ok((invoke, function))
}

/// Reads a body that nobody wants, unless its sender waits to be told whether anybody does.
pub(super) async fn discard(headers: &HeaderMap, mut body: Body) {
    if headers.contains_key(EXPECT) {
        return;
    }
    let mut bytes = 0;
    while bytes <= limits::REFUSED_BYTES_MAX
        && let Some(Ok(frame)) = body.frame().await
    {
        bytes += frame.data_ref().map_or(0, Bytes::len);
    }
}

/// Answers one call.
pub(super) async fn invoke(
    host: &Arc<Host>,
    request_id: &str,
    request: Request,
) -> Result<Response, Refusal> {
    let (invoke, function, event) = asked(host, request).await?;
    match invoke.invocation_type {
        InvocationType::DryRun => Ok(empty(StatusCode::NO_CONTENT, &invoke, request_id)),
        InvocationType::Event => {
            let response = empty(StatusCode::ACCEPTED, &invoke, request_id);
            events::accept(host, function, invoke, request_id.to_owned(), event)?;
            Ok(response)
        }
        InvocationType::RequestResponse => {
            let answered = run(host, function, &invoke, request_id, event).await?;
            response(host, &invoke, request_id, answered)
        }
    }
}

async fn read(mut body: Body, invoke: &Invoke) -> Result<Bytes, Refusal> {
    let (mut payload, mut bytes) = (BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Refusal::new(
                ErrorType::InvalidRequestContent,
                format!("The request body ended early: {error}"),
            )
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        bytes += data.len();
        if bytes <= invoke.body_bytes_max() {
            payload.extend_from_slice(&data);
        } else if bytes > limits::REFUSED_BYTES_MAX {
            break;
        }
    }
    if bytes > invoke.body_bytes_max() {
        Err(invoke.too_large())
    } else {
        Ok(payload.freeze())
    }
}

/// Begins an invocation when there is an instance for it, which is waited for as long as its caller is there.
pub(super) async fn begin(
    host: &Host,
    function: &Function,
    invoke: &Invoke,
    request_id: &str,
    event: Bytes,
    caller_leaves: impl Future<Output = ()>,
) -> Result<(Lease, Arc<Invocation>), Refusal> {
    let waited = tokio::select! {
        biased;
        leased = function.ready(sleep(function.timeout())) => Some(leased),
        () = caller_leaves => None,
    };
    let deadline = Deadline::after(function.timeout());
    let invocation = invoke.invocation(request_id, event, deadline);
    match waited {
        Some(Ok(lease)) => Ok((lease, invocation)),
        Some(Err(fault)) => {
            host.environment.refuse(function, &invocation, &fault);
            Err(refused_as_busy(&fault).unwrap_or_else(unanswered))
        }
        None => {
            line_for!(
                Some(&*invocation),
                info,
                function = function.name(),
                "an event was not handled: its caller went away before there was an instance"
            );
            Err(unanswered())
        }
    }
}

/// Runs the invocation in a task of its own. A caller that goes away does not end it, once there is an instance.
async fn run(
    host: &Arc<Host>,
    function: Arc<Function>,
    invoke: &Invoke,
    request_id: &str,
    event: Bytes,
) -> Result<Answered, Refusal> {
    let (mut answer_sender, answer) = oneshot::channel();
    let (shared, invoke, request_id) = (Arc::clone(host), invoke.clone(), request_id.to_owned());
    host.tasks.spawn(async move {
        let caller_leaves = answer_sender.closed();
        let begun = begin(
            &shared,
            &function,
            &invoke,
            &request_id,
            event,
            caller_leaves,
        )
        .await;
        let (lease, invocation) = match begun {
            Ok(begun) => begun,
            Err(refusal) => return drop(answer_sender.send(Err(refusal))),
        };
        let since = Instant::now();
        let handling = shared.environment.handle(lease, &function, invocation);
        let mut handled = handling.await;
        let answered = Answered {
            answer: handled.collect().await,
            output_tail: handled.output().tail(),
            took: since.elapsed(),
        };
        // Whether anybody is still there to read it makes no difference to the rest.
        let _ = answer_sender.send(Ok(answered));
        handled.settle().await;
    });
    answer.await.unwrap_or_else(|_| Err(unanswered()))
}

/// What is said of an invocation whose task has ended before there was an answer.
pub(super) fn unanswered() -> Refusal {
    Refusal::new(
        ErrorType::Service,
        "The invocation was ended without an answer; the log says why.",
    )
}

/// How an invocation is refused that was not begun, since there was no instance for it.
pub(super) fn refused_as_busy(fault: &Fault) -> Option<Refusal> {
    let is_busy = fault.kind == Kind::Busy;
    is_busy.then(|| Refusal::new(ErrorType::TooManyRequests, &fault.caller))
}

impl Host {
    /// The end of an invocation's log, if its caller has asked for it.
    pub(super) fn log_result(
        &self,
        invoke: &Invoke,
        request_id: &str,
        output_tail: &[u8],
        fault: Option<&Fault>,
        took: Duration,
    ) -> Option<String> {
        let report = Report {
            request_id,
            output_tail,
            fault,
            took,
            memory_mib: self.memory_mib(&invoke.function.name),
        };
        invoke.log_tail.then(|| report.log_result())
    }
}

fn response(
    host: &Host,
    invoke: &Invoke,
    request_id: &str,
    answered: Answered,
) -> Result<Response, Refusal> {
    let fault = answered.answer.as_ref().err();
    if let Some(refusal) = fault.and_then(refused_as_busy) {
        return Err(refusal);
    }
    let (tail, took) = (&answered.output_tail, answered.took);
    let log_result = host.log_result(invoke, request_id, tail, fault, took);
    let mut response = empty(StatusCode::OK, invoke, request_id);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(log_result) = log_result {
        insert(headers, "x-amz-log-result", &log_result);
    }
    let body = match answered.answer {
        Ok(payload) => payload,
        Err(fault) => {
            headers.insert(
                "x-amz-function-error",
                HeaderValue::from_static("Unhandled"),
            );
            Bytes::from(fault.body())
        }
    };
    *response.body_mut() = Body::from(body);
    Ok(response)
}

pub(super) fn empty(status: StatusCode, invoke: &Invoke, request_id: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    insert(headers, "x-amzn-requestid", request_id);
    insert(headers, "x-amzn-trace-id", &invoke.trace_id);
    headers.insert("x-amz-executed-version", HeaderValue::from_static(VERSION));
    response
}
