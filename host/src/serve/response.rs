//! From what a guest answered to what its caller gets.
//!
//! Promises:
//! - the form is the function's `response`, whichever the guest chose;
//! - a body that comes piece by piece ends at the invocation's enforced deadline and at Lambda's
//!   limit, with the fault as its last item, which is logged;
//! - it is read no faster than it is sent;
//! - a head goes out with the first piece behind it, and not before a fault.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream, Stream};

use super::{http, overdue, report};
use crate::config;
use crate::fault::{Fault, Kind};
use crate::instance::answered::{Body, Flow};
use crate::instance::ticker::Watch;
use crate::interface::bindings::hearth::function::invocation::HttpHead;
use crate::invocation::{Answer, Invocation, Streamed, fits};
use crate::limits;
use crate::telemetry::Account;

/// An answer that goes out whole, or as a stream that is there already.
pub(super) fn whole(
    form: config::ResponseForm,
    head: Option<&HttpHead>,
    bytes: Bytes,
) -> Result<Answer, Fault> {
    let bytes = match (form, head) {
        (config::ResponseForm::Buffered, None) => bytes,
        (config::ResponseForm::Buffered, Some(head)) => http::document(head, &bytes)?,
        (form, head) => {
            let pieces = stream::iter([Ok(bytes)]).boxed();
            return streamed(form, head, "application/json", pieces);
        }
    };
    fits(bytes.len(), limits::PAYLOAD_BYTES_MAX)?;
    Ok(Answer::Whole(bytes))
}

/// The answer with this body, in its form.
pub(super) async fn respond(
    form: config::ResponseForm,
    head: Option<HttpHead>,
    body: Body,
    bounds: Bounds,
) -> Result<Answer, Fault> {
    let flow = match body {
        Body::Whole(bytes) => return whole(form, head.as_ref(), bytes),
        Body::Failed(fault) => return Err(fault),
        Body::Streamed(flow) => flow,
    };
    let outgoing = Outgoing {
        flow: Some(flow),
        bounds,
        bytes: 0,
        // A body that is collected makes its fault the answer, which is logged as such.
        logs: form != config::ResponseForm::Buffered,
    };
    let pieces = stream::unfold(outgoing, async |mut outgoing| {
        let piece = outgoing.next().await?;
        Some((piece, outgoing))
    });
    match form {
        config::ResponseForm::Buffered => {
            let collected = Answer::Streamed(Streamed {
                http: false,
                pieces: pieces.boxed(),
            });
            whole(form, head.as_ref(), collected.collect().await?)
        }
        form => streamed(
            form,
            head.as_ref(),
            "application/octet-stream",
            pieces.boxed(),
        ),
    }
}

fn streamed(
    form: config::ResponseForm,
    head: Option<&HttpHead>,
    content_type: &str,
    pieces: BoxStream<'static, Result<Bytes, Fault>>,
) -> Result<Answer, Fault> {
    let http = form == config::ResponseForm::HttpStream;
    let pieces = match (http, head) {
        (true, head) => {
            let beginning = http::beginning(head, content_type)?;
            stream::once(preceded(beginning, pieces)).flatten().boxed()
        }
        (false, None) => pieces,
        (false, Some(_)) => {
            return Err(Fault::new(
                Kind::Failed,
                "the function answered with an HTTP status, for which a stream of its bytes alone has no place; \
                 set `response = \"http-stream\"`",
            ));
        }
    };
    Ok(Answer::Streamed(Streamed { http, pieces }))
}

/// The head and then the pieces, once the first piece is there. A fault before that goes out without the head,
/// so that the caller does not read a status of success in front of it.
async fn preceded(
    beginning: [Bytes; 2],
    pieces: BoxStream<'static, Result<Bytes, Fault>>,
) -> impl Stream<Item = Result<Bytes, Fault>> {
    // Fused: it is asked once more even if its first piece was None.
    let mut pieces = pieces.fuse();
    let first = pieces.next().await;
    let beginning = (!matches!(first, Some(Err(_)))).then_some(beginning);
    let beginning = beginning.into_iter().flatten().map(Ok);
    stream::iter(beginning.chain(first)).chain(pieces)
}

/// What bounds a body that is being sent: its invocation's deadline, and who is told of a fault.
pub(super) struct Bounds {
    pub(super) invocation: Arc<Invocation>,
    pub(super) account: Arc<Account>,
    /// The enforced deadline.
    pub(super) watch: Watch,
    /// Whether a fault in the body was reported to the caller.
    pub(super) fault_reported: Arc<AtomicBool>,
}

/// A body on its way from the guest to the front door.
struct Outgoing {
    /// Nothing once it is over.
    flow: Option<Flow>,
    bounds: Bounds,
    bytes: usize,
    logs: bool,
}

impl Outgoing {
    async fn next(&mut self) -> Option<Result<Bytes, Fault>> {
        let flow = self.flow.as_mut()?;
        let piece = tokio::select! {
            // The deadline is looked at first, since there may always be another piece.
            biased;
            () = &mut self.bounds.watch => Err(overdue(&self.bounds.invocation)),
            piece = flow.pieces.recv() => Ok(piece),
        };
        match piece {
            Ok(Some(piece)) => {
                self.bytes += piece.len();
                match fits(self.bytes, limits::STREAM_BYTES_MAX) {
                    Ok(()) => Some(Ok(piece)),
                    Err(fault) => Some(Err(self.fail(fault))),
                }
            }
            Ok(None) => {
                let fault = self.end().await.err()?;
                Some(Err(self.fail(fault)))
            }
            Err(fault) => Some(Err(self.fail(fault))),
        }
    }

    /// Whether what came was all.
    async fn end(&mut self) -> Result<(), Fault> {
        let Some(mut flow) = self.flow.take() else {
            return Ok(());
        };
        let end = tokio::select! {
            biased;
            end = &mut flow.end => end,
            () = &mut self.bounds.watch => return Err(overdue(&self.bounds.invocation)),
        };
        end.unwrap_or_else(|_| {
            Err(Fault::new(
                Kind::Internal,
                "the instance ended before its answer did",
            ))
        })
    }

    fn fail(&mut self, fault: Fault) -> Fault {
        self.flow = None;
        self.bounds.fault_reported.store(true, Ordering::Release);
        if self.logs {
            report(&fault, &self.bounds.account);
        }
        fault
    }
}
