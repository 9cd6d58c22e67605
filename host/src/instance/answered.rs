//! What comes out of a guest: an answer, and what goes on after it.
//!
//! Promises: the guest is slowed down to the pace of whoever reads its body, and told when nobody
//! does; whoever waits for the end of a body or of the work after an answer hears of it, also when
//! the instance ends under it.
//!
//! Left to others: who reads, how much may come, and until when ([`crate::serve`]).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::PollSender;
use wasmtime::StoreContextMut;
use wasmtime::component::{
    FutureConsumer, FutureReader, Source, StreamConsumer, StreamReader, StreamResult,
};

use super::state::State;
use super::waiting::fault_of;
use crate::fault::Fault;
use crate::interface::bindings::hearth::function::invocation as wit;
use crate::interface::bindings::{Answer, Failure};
use crate::limits;

/// What a guest answered.
pub struct Answered {
    /// The status and the headers of an answer to HTTP.
    pub head: Option<wit::HttpHead>,
    /// The bytes.
    pub body: Body,
    /// The work that goes on. Without it, nothing does.
    pub after: Option<AfterEnd>,
    /// Whether that goes on beside later invocations. Otherwise it has to be waited for, since the instance
    /// takes no other invocation before it is done.
    pub suspended: bool,
}

impl Answered {
    /// An answer after which nothing goes on.
    pub(super) fn new(head: Option<wit::HttpHead>, body: Body) -> Self {
        Self {
            head,
            body,
            after: None,
            suspended: false,
        }
    }
}

/// The bytes of an answer.
pub enum Body {
    /// All of them.
    Whole(Bytes),
    /// They come while the guest goes on.
    Streamed(Flow),
    /// There are none, since the guest failed.
    Failed(Fault),
}

/// A body on its way out of the guest. When it is dropped, the guest learns that nobody reads any
/// more.
pub struct Flow {
    /// What has come, in order.
    pub pieces: mpsc::Receiver<Bytes>,
    /// After the last piece: whether that was all. Dropped when the instance is ended from outside.
    pub end: oneshot::Receiver<Result<(), Fault>>,
    /// Its drop tells the guest's side that nobody reads any more.
    _reader: oneshot::Sender<Infallible>,
}

/// The end of the work after an answer. Its sender is dropped unsent if the instance was ended from outside, or
/// if the fault was sent as the end of the body already.
pub type AfterEnd = oneshot::Receiver<Result<(), Fault>>;

/// What the keeper has to wait for after an answer.
#[derive(Default)]
pub(super) struct Course {
    /// The guest's word for the end of the body.
    pub end: Option<GuestsWord>,
    /// Whether the body has lost its reader.
    pub unread: Option<oneshot::Receiver<Infallible>>,
    /// The guest's word for the end of the work.
    pub after: Option<GuestsWord>,
}

/// What the guest says about how something ended.
pub(super) type GuestsWord = oneshot::Receiver<Result<(), Failure>>;

/// The senders to those who wait for these ends.
#[derive(Default)]
pub(super) struct Ends {
    pub body: Option<oneshot::Sender<Result<(), Fault>>>,
    pub after: Option<oneshot::Sender<Result<(), Fault>>>,
}

impl Course {
    /// Whether the answer is all there is.
    pub(super) fn is_over(&self) -> bool {
        self.end.is_none() && self.after.is_none()
    }
}

/// Takes an answer out of the guest's hands, and begins to read what is to come.
pub(super) fn receive(
    mut store: StoreContextMut<'_, State>,
    answer: Answer,
) -> wasmtime::Result<(Answered, Course, Ends)> {
    let (mut course, mut ends) = (Course::default(), Ends::default());
    if let Some(after) = answer.after {
        course.after = Some(heard(&mut store, after)?);
    }
    let body = match answer.body {
        wit::Body::Whole(bytes) => Body::Whole(bytes.into()),
        wit::Body::Failed(failure) => Body::Failed(fault_of(failure)),
        wit::Body::Streamed(streamed) => {
            let (sender, pieces) = mpsc::channel(limits::STREAM_PIECES);
            let (end_sender, end) = oneshot::channel();
            let (reader, unread) = oneshot::channel();
            let outflow = Outflow(PollSender::new(sender));
            StreamReader::pipe(streamed.content, &mut store, outflow)?;
            course.end = Some(heard(&mut store, streamed.end)?);
            course.unread = Some(unread);
            ends.body = Some(end_sender);
            Body::Streamed(Flow {
                pieces,
                end,
                _reader: reader,
            })
        }
    };
    Ok((Answered::new(answer.head, body), course, ends))
}

fn heard(
    store: &mut StoreContextMut<'_, State>,
    future: FutureReader<Result<(), Failure>>,
) -> wasmtime::Result<GuestsWord> {
    let (sender, word) = oneshot::channel();
    future.pipe(store, Hearer(Some(sender)))?;
    Ok(word)
}

/// Hands the pieces of a body on, as fast as they are taken.
struct Outflow(PollSender<Bytes>);

impl StreamConsumer<State> for Outflow {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<'_, State>,
        source: Source<'_, u8>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        match self.0.poll_reserve(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(Ok(StreamResult::Dropped)),
            Poll::Pending if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => return Poll::Pending,
        }
        let mut source = source.as_direct(store);
        let offered = source.remaining();
        let piece =
            Bytes::copy_from_slice(&offered[..offered.len().min(limits::STREAM_PIECE_BYTES)]);
        if !piece.is_empty() {
            source.mark_read(piece.len());
            if self.0.send_item(piece).is_err() {
                return Poll::Ready(Ok(StreamResult::Dropped));
            }
        }
        Poll::Ready(Ok(StreamResult::Completed))
    }
}

/// Hears how something ended.
struct Hearer(Option<oneshot::Sender<Result<(), Failure>>>);

impl FutureConsumer<State> for Hearer {
    type Item = Result<(), Failure>;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        store: StoreContextMut<'_, State>,
        mut source: Source<'_, Self::Item>,
        _: bool,
    ) -> Poll<wasmtime::Result<()>> {
        let mut outcome = None;
        source.read(store, &mut outcome)?;
        if let (Some(outcome), Some(sender)) = (outcome, self.0.take()) {
            let _ = sender.send(outcome);
        }
        Poll::Ready(Ok(()))
    }
}
