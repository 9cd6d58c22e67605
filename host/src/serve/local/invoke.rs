//! One call of the Invoke API, from its headers to its answer.
//!
//! Promises: the statuses and headers are those that AWS's clients expect. The response for a function that fails is a
//! 200 with `X-Amz-Function-Error`. Only what keeps a function from being invoked is an error status.
//!
//! The time of an invocation begins once it has an instance that is built, as on Lambda. A caller waits for an instance
//! as long as an invocation may take, and then until it is built as long as Lambda gives a start.
//!
//! Left to others: asynchronous events ([`super::events`]), answers that are streamed ([`super::streaming`]).

use std::sync::Arc;
use std::time::Instant;

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
use crate::invocation::{Deadline, Invocation, WholeAnswer};
use crate::limits;
use crate::serve::{Function, Handled};
use crate::telemetry::{Output, line_for};

/// What one call of the API asks for: how, of which function, with which event.
pub(super) struct Call {
    pub(super) invoke: Invoke,
    pub(super) function: Arc<Function>,
    pub(super) request_id: String,
    pub(super) event: Bytes,
}

/// A call for which an invocation has begun.
pub(super) struct Begun {
    host: Arc<Host>,
    call: Call,
    since: Instant,
    /// Until when the caller may take the answer.
    pub(super) until: Instant,
}

/// The whole of an answer, as its caller gets it.
struct Buffered {
    answer: WholeAnswer,
    log_result: Option<String>,
}

impl Call {
    /// The invocation that it asks for, which has to be answered by this deadline.
    pub(super) fn invocation(&self, deadline: Deadline) -> Arc<Invocation> {
        let event = self.event.clone();
        self.invoke.invocation(&self.request_id, event, deadline)
    }
}

impl Begun {
    /// The end of the invocation's log, if its caller has asked for it.
    pub(super) fn log_result(&self, output: &Output, fault: Option<&Fault>) -> Option<String> {
        let log_result = || {
            let report = Report {
                request_id: &self.call.request_id,
                output_tail: &output.tail(),
                fault,
                took: self.since.elapsed(),
                memory_mib: self.host.memory_mib(self.call.function.name()),
            };
            report.log_result()
        };
        self.call.invoke.log_tail.then(log_result)
    }
}

/// Adds a header. A value that no header can have is left out.
pub(super) fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Reads what a call asks for.
pub(super) async fn asked(
    host: &Host,
    request_id: &str,
    request: Request,
) -> Result<Call, Refusal> {
    let (head, body) = request.into_parts();
    match addressed(host, &head) {
        Ok((invoke, function)) => Ok(Call {
            event: invoke.event(read(body, &invoke).await?)?,
            invoke,
            function,
            request_id: request_id.to_owned(),
        }),
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

/// Reads the body of a refused request, so that the sender comes to the response. A sender that waits for the word to
/// send its body (`Expect`) does not need that.
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
    let call = asked(host, request_id, request).await?;
    match call.invoke.invocation_type {
        InvocationType::DryRun => Ok(empty(StatusCode::NO_CONTENT, &call.invoke, request_id)),
        InvocationType::Event => {
            let response = empty(StatusCode::ACCEPTED, &call.invoke, request_id);
            events::accept(host, call)?;
            Ok(response)
        }
        InvocationType::RequestResponse => {
            let response = empty(StatusCode::OK, &call.invoke, request_id);
            let buffered = run(host, call, buffer).await?;
            Ok(filled(response, buffered))
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

/// Runs an invocation in a task of its own, and waits for what `send` tells its caller of the answer. A caller that goes
/// away before there is an instance ends the wait for it, and later nothing.
pub(super) async fn run<T: Send + 'static, Sending: Future<Output = ()> + Send>(
    host: &Arc<Host>,
    call: Call,
    send: impl FnOnce(Begun, Handled, oneshot::Sender<Result<T, Refusal>>) -> Sending + Send + 'static,
) -> Result<T, Refusal> {
    let (mut caller, told) = oneshot::channel();
    let shared = Arc::clone(host);
    host.tasks.spawn(async move {
        let (lease, invocation) = match begin(&shared, &call, caller.closed()).await {
            Ok(begun) => begun,
            Err(refusal) => return drop(caller.send(Err(refusal))),
        };
        let begun = Begun {
            host: shared,
            call,
            since: Instant::now(),
            until: invocation.deadline.instant,
        };
        let environment = &begun.host.environment;
        let handling = environment.handle(lease, &begun.call.function, invocation);
        let handled = handling.await;
        send(begun, handled, caller).await;
    });
    told.await.unwrap_or_else(|_| Err(unanswered()))
}

/// Begins an invocation once there is an instance for it. Waits for the instance as long as the caller is there.
async fn begin(
    host: &Host,
    call: &Call,
    caller_leaves: impl Future<Output = ()>,
) -> Result<(Lease, Arc<Invocation>), Refusal> {
    let function = &*call.function;
    let waited = tokio::select! {
        biased;
        leased = function.ready(sleep(function.timeout())) => Some(leased),
        () = caller_leaves => None,
    };
    let deadline = Deadline::after(function.timeout());
    let invocation = call.invocation(deadline);
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

/// The refusal for a caller whose invocation has ended before there was an answer.
pub(super) fn unanswered() -> Refusal {
    Refusal::new(
        ErrorType::Service,
        "The invocation was ended without an answer; the log says why.",
    )
}

/// The refusal for a caller whose invocation was not begun, if this fault says that there was no instance for it.
pub(super) fn refused_as_busy(fault: &Fault) -> Option<Refusal> {
    let is_busy = fault.kind == Kind::Busy;
    is_busy.then(|| Refusal::new(ErrorType::TooManyRequests, &fault.caller))
}

/// Tells the caller the whole of an answer, and then waits for the end of the invocation.
async fn buffer(
    begun: Begun,
    mut handled: Handled,
    caller: oneshot::Sender<Result<Buffered, Refusal>>,
) {
    let answer = handled.collect().await;
    let fault = answer.as_ref().err();
    let told = match fault.and_then(refused_as_busy) {
        Some(refusal) => Err(refusal),
        None => Ok(Buffered {
            log_result: begun.log_result(&handled.output(), fault),
            answer,
        }),
    };
    // It does not matter here whether the caller is still there.
    let _ = caller.send(told);
    handled.settle().await;
}

/// The response with the whole of an answer in it.
fn filled(mut response: Response, buffered: Buffered) -> Response {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(log_result) = buffered.log_result {
        insert(headers, "x-amz-log-result", &log_result);
    }
    let body = match buffered.answer {
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
    response
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
