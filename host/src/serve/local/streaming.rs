//! `InvokeWithResponseStream`: an invocation whose answer reaches the caller while the function makes it.
//!
//! Promises: each piece leaves as soon as the function has sent it. The last frame tells of a function that has failed,
//! before its answer or in the middle of it. A caller who stops reading delays nothing beyond the invocation's deadline.

use std::convert::Infallible;
use std::sync::Arc;

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
use super::invoke::{Begun, asked, empty, refused_as_busy, run};
use crate::event::local::{ErrorType, InvocationType, Refusal, frames};
use crate::fault::Fault;
use crate::invocation::Answer;
use crate::limits;
use crate::serve::Handled;

/// Answers one call.
pub(super) async fn invoke(
    host: &Arc<Host>,
    request_id: &str,
    request: Request,
) -> Result<Response, Refusal> {
    let call = asked(host, request_id, request).await?;
    let mut response = empty(StatusCode::OK, &call.invoke, request_id);
    match call.invoke.invocation_type {
        InvocationType::DryRun => {
            *response.status_mut() = StatusCode::NO_CONTENT;
            return Ok(response);
        }
        InvocationType::RequestResponse => {}
        InvocationType::Event => {
            return Err(Refusal::new(
                ErrorType::InvalidParameterValue,
                "An invocation with a response stream cannot be of the type Event.",
            ));
        }
    }
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/vnd.amazon.eventstream"),
    );
    let (sender, mut frames) = mpsc::channel(1);
    run(host, call, |begun, handled, caller| {
        send_frames(begun, handled, caller, sender)
    })
    .await?;
    let frames = stream::poll_fn(move |cx| frames.poll_recv(cx)).map(Ok::<Bytes, Infallible>);
    *response.body_mut() = Body::from_stream(frames);
    Ok(response)
}

/// Tells the caller that there is an answer, sends its frames until the deadline, and then waits for the end of the
/// invocation.
async fn send_frames(
    begun: Begun,
    mut handled: Handled,
    caller: oneshot::Sender<Result<(), Refusal>>,
    sender: mpsc::Sender<Bytes>,
) {
    let answer = handled.take_answer();
    let refusal = answer.as_ref().err().and_then(refused_as_busy);
    let _ = caller.send(refusal.map_or(Ok(()), Err));
    let output = handled.output();
    let sending = async {
        let fault = send(answer, &sender).await.err();
        let log_result = begun.log_result(&output, fault.as_ref());
        let last = frames::complete(fault.as_ref(), log_result.as_deref());
        let _ = sender.send(last).await;
    };
    let _ = tokio::time::timeout_at(begun.until.into(), sending).await;
    drop(sender);
    handled.settle().await;
}

/// Sends an answer's pieces as they come. A caller who has gone away is no error, but the function learns of it.
async fn send(answer: Result<Answer, Fault>, frames: &mpsc::Sender<Bytes>) -> Result<(), Fault> {
    match answer? {
        Answer::Whole(mut bytes) => {
            while !bytes.is_empty() {
                let piece = bytes.split_to(bytes.len().min(limits::STREAM_PIECE_BYTES));
                if frames.send(frames::piece(piece)).await.is_err() {
                    break;
                }
            }
        }
        Answer::Streamed(mut streamed) => {
            while let Some(piece) = streamed.pieces.next().await {
                if frames.send(frames::piece(piece?)).await.is_err() {
                    break;
                }
            }
        }
    }
    Ok(())
}
