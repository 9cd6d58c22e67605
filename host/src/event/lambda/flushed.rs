//! Whether all of a request has left that is sent piece by piece.
//!
//! Promises: said once the body's end has been handed to the system, or the connection is no more; which of
//! the two it was is said as well.
//!
//! hyper tells of a request that it has a reply, or that its connection has ended, and of neither when the
//! reply comes early and has no end. So the body notes that it was read to its end, and the connection that
//! everything before that was taken from it: hyper flushes what it has buffered before it waits.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use hyper::body::Frame;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// What is known of one request.
#[derive(Clone, Default)]
pub(super) struct Flushed {
    /// Nothing more comes of its body.
    ended: Arc<AtomicBool>,
    /// And all of it has left.
    whole: Arc<AtomicBool>,
    over: CancellationToken,
}

impl Flushed {
    /// The body of these frames, of which trailers are the last.
    pub(super) fn ended_by<S>(
        self,
        frames: S,
    ) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + use<S>
    where
        S: Stream<Item = Result<Frame<Bytes>, Infallible>> + Send,
    {
        let ended = self.ended;
        let end = ended.clone();
        let end = stream::poll_fn(move |_| {
            end.store(true, Ordering::Release);
            Poll::Ready(None)
        });
        let frames = frames.inspect(move |frame| {
            if frame.as_ref().is_ok_and(Frame::is_trailers) {
                ended.store(true, Ordering::Release);
            }
        });
        frames.chain(end)
    }

    /// Waits until all of it has left, or never will: whether it has.
    pub(super) async fn all(&self) -> bool {
        self.over.cancelled().await;
        self.whole.load(Ordering::Acquire)
    }
}

/// The connection of one request.
pub(super) struct TrackedStream {
    stream: TcpStream,
    flushed: Flushed,
}

impl TrackedStream {
    /// A connection on which nothing has been sent.
    pub(super) fn new(stream: TcpStream, flushed: Flushed) -> Self {
        Self { stream, flushed }
    }
}

impl Drop for TrackedStream {
    fn drop(&mut self) {
        self.flushed.over.cancel();
    }
}

impl AsyncRead for TrackedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for TrackedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called when nothing of what is buffered is left.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_ready() && self.flushed.ended.load(Ordering::Acquire) {
            self.flushed.whole.store(true, Ordering::Release);
            self.flushed.over.cancel();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
