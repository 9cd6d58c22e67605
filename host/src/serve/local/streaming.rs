//! `InvokeWithResponseStream`: an invocation whose answer reaches the caller while it is made.
//!
//! Promises: each piece is on its way as soon as the function has sent it; a function that fails,
//! before its answer or in the middle of it, is told of in the last frame; a caller who stops to
//! read holds nothing up beyond the invocation's deadline.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use tokio::sync::{mpsc, oneshot};

use super::Host;
use super::invoke::{self, asked, empty, refused_as_busy, unanswered};
use crate::event::local::{ErrorType, InvocationType, Invoke, Refusal, frames};
use crate::fault::Fault;
use crate::invocation;
use crate::limits;
use crate::serve::Function;

/// Answers one call.
pub(super) async fn invoke(
    host: &Arc<Host>,
    request_id: &str,
    request: Request,
) -> Result<Response, Refusal> {
    let (invoke, function, event) = asked(host, request).await?;
    match invoke.invocation_type {
        InvocationType::DryRun => return Ok(empty(StatusCode::NO_CONTENT, &invoke, request_id)),
        InvocationType::RequestResponse => {}
        InvocationType::Event => {
            return Err(Refusal::new(
                ErrorType::InvalidParameterValue,
                "An invocation with a response stream cannot be of the type Event.",
            ));
        }
    }
    let mut response = empty(StatusCode::OK, &invoke, request_id);
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/vnd.amazon.eventstream"),
    );
    let mut body = begin(host, function, invoke, request_id, event).await?;
    let frames = stream::poll_fn(move |cx| body.poll_recv(cx)).map(Ok::<Bytes, Infallible>);
    *response.body_mut() = Body::from_stream(frames);
    Ok(response)
}

/// Runs the invocation in a task of its own; returns the frames of its answer once there is one. A caller that goes
/// away does not end it, once there is an instance.
async fn begin(
    host: &Arc<Host>,
    function: Arc<Function>,
    invoke: Invoke,
    request_id: &str,
    event: Bytes,
) -> Result<mpsc::Receiver<Bytes>, Refusal> {
    let (mut begun, begins) = oneshot::channel();
    let (sender, frames) = mpsc::channel(1);
    let shared = Arc::clone(host);
    let request_id = request_id.to_owned();
    host.tasks.spawn(async move {
        let caller_leaves = begun.closed();
        let beginning = invoke::begin(
            &shared,
            &function,
            &invoke,
            &request_id,
            event,
            caller_leaves,
        );
        let (lease, invocation) = match beginning.await {
            Ok(begun) => begun,
            Err(refusal) => return drop(begun.send(Err(refusal))),
        };
        let (since, until) = (Instant::now(), invocation.deadline.instant);
        let handling = shared.environment.handle(lease, &function, invocation);
        let mut handled = handling.await;
        let response = handled.take_answer();
        let refusal = response.as_ref().err().and_then(refused_as_busy);
        let _ = begun.send(refusal.map_or(Ok(()), Err));
        let output = handled.output();
        let sending = async {
            let fault = send(response, &sender).await.err();
            let (fault, tail) = (fault.as_ref(), output.tail());
            let log_result = shared.log_result(&invoke, &request_id, &tail, fault, since.elapsed());
            let last = frames::complete(fault, log_result.as_deref());
            let _ = sender.send(last).await;
        };
        let _ = tokio::time::timeout_at(until.into(), sending).await;
        drop(sender);
        handled.settle().await;
    });
    match begins.await {
        Ok(begun) => begun.map(|()| frames),
        Err(_) => Err(unanswered()),
    }
}

/// Sends an answer's pieces as they come. Whether anybody is still there to read them makes no
/// difference to the caller of this, but the function learns of it.
async fn send(
    response: Result<invocation::Response, Fault>,
    frames: &mpsc::Sender<Bytes>,
) -> Result<(), Fault> {
    match response? {
        invocation::Response::Whole(mut bytes) => {
            while !bytes.is_empty() {
                let piece = bytes.split_to(bytes.len().min(limits::STREAM_PIECE_BYTES));
                if frames.send(frames::piece(piece)).await.is_err() {
                    break;
                }
            }
        }
        invocation::Response::Streamed(mut streamed) => {
            while let Some(piece) = streamed.pieces.next().await {
                if frames.send(frames::piece(piece?)).await.is_err() {
                    break;
                }
            }
        }
    }
    Ok(())
}
