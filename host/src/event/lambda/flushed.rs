//! Whether a request that is sent piece by piece has been sent completely.
//!
//! Promises: it is known as soon as the end of the body has been handed to the system, or the connection has
//! ended, and which of the two it was.
//!
//! hyper tells only that there is a reply, or that the connection has ended. Where a reply comes before the
//! body's end and itself has no end, it tells neither. So the body notes when hyper has read its end, and the
//! connection notes the first flush after that: hyper flushes its buffer before it waits for anything.

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
    /// hyper has read its body to the end.
    ended: Arc<AtomicBool>,
    /// The last byte was handed to the system as well.
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

    /// Waits until all of it has been sent, or the connection has ended before that; returns whether all was
    /// sent.
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

    /// hyper calls this when its own buffer is empty.
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
