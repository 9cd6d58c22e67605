//! HTTP/1.1 as it is spoken with the Runtime API: one request and its reply at a time.
//!
//! Promises:
//! - a request leaves in one write where the socket takes it, and what the other side says
//!   meanwhile is heard: it may refuse a body that it has not read;
//! - a reply is read to its end, however that is told: by a length, by chunks, or by the end of the
//!   connection; what is none, or has no bounds, is an error;
//! - nobody waits for the rest of a reply that has begun for longer than it is worth: what was posted is
//!   taken or refused with its head;
//! - nothing is sent on a connection that has been closed or has said something unasked.
//!
//! Left to others: when a connection is made, and what is done when it is lost
//! ([`super::endpoint`]). Why not a client of a library's: it moves each request through a queue,
//! a dispatcher and a signal back, for connections that are shared; this is the hottest path there is.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::poll;
use http::{Method, StatusCode};
use rustix::net::sockopt;
use tokio::io::AsyncWrite as _;
use tokio::net::TcpStream;
use tokio_util::io::{poll_read_buf, poll_write_buf};

use super::http1_reply::{self, Framing, Head, Headers};
use super::http1_request::{DefaultHeaders, Request};
use super::reply_timeout::by;
use super::waiting::Waiting;
use crate::limits;

/// What is read at a time, in bytes: most replies are shorter.
const READ_BYTES: usize = 8 * 1024;
/// Up to this size, in bytes, a body is copied, and the room in which it was read is used again.
const COPIED_BYTES: usize = 64 * 1024;

/// An open connection.
pub(super) struct Connection {
    stream: TcpStream,
    input: BytesMut,
    head: BytesMut,
    reusable: bool,
    pub(super) waiting: Waiting,
}

/// A reply, read to its end: before that the connection could not be used again.
pub(super) struct Reply {
    /// When its head was there.
    pub(super) begun: Instant,
    pub(super) status: StatusCode,
    pub(super) headers: Headers,
    pub(super) body: Result<Bytes, Lost>,
}

/// Why there is no reply, or not all of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    /// The other side has closed the connection.
    #[error("the connection was closed")]
    Closed,
    /// The system says so.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What came is no reply.
    #[error("it is not HTTP/1.1: {0}")]
    Garbage(&'static str),
    /// What came is longer than [`limits::HOST_CALL_BYTES_MAX`].
    #[error("it is too long")]
    TooLong,
    /// Something came before anything was asked.
    #[error("something came unasked")]
    UnexpectedData,
    /// The rest of what came has not come in time.
    #[error("the rest of it did not come")]
    Stalled,
}

impl Connection {
    /// Takes over a connection on which nothing was said yet.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            input: BytesMut::with_capacity(READ_BYTES),
            head: BytesMut::with_capacity(1024),
            reusable: true,
            waiting: Waiting::default(),
        }
    }

    /// Whether the system is to notice that what is sent does not arrive. It can do without.
    pub(super) fn expect_receipt(&self, expected: bool) {
        if let Err(error) = expect_receipt(&self.stream, expected) {
            tracing::debug!(%error, "the connection to the Runtime API is as patient as it was");
        }
    }

    /// Whether another exchange may be made on it.
    pub(super) fn is_reusable(&self) -> bool {
        self.reusable
    }

    /// Whether it was lost, as this says, before a reply had begun.
    pub(super) fn was_cut(&self, lost: &Lost) -> bool {
        match lost {
            Lost::Closed | Lost::Io(_) => self.input.is_empty(),
            Lost::UnexpectedData => true,
            Lost::Garbage(_) | Lost::TooLong | Lost::Stalled => false,
        }
    }

    /// Sends a request and reads its reply; `default_headers` is what every request says. A connection on
    /// which that was given up is of no use.
    pub(super) async fn exchange(
        &mut self,
        default_headers: &DefaultHeaders,
        request: &Request<'_>,
    ) -> Result<Reply, Lost> {
        // Set back once the reply has been read.
        if !std::mem::take(&mut self.reusable) {
            return Err(Lost::Closed);
        }
        self.heard_nothing()?;
        self.head.clear();
        default_headers.encode(request, &mut self.head);
        let head = std::mem::take(&mut self.head);
        let mut unsent = head.chain(request.body.clone());
        let result = self.answered(request, &mut unsent).await;
        self.waiting.set_begun(false);
        self.head = unsent.into_inner().0;
        result
    }

    async fn answered(
        &mut self,
        request: &Request<'_>,
        unsent: &mut impl Buf,
    ) -> Result<Reply, Lost> {
        let head = self.head(request, unsent).await?;
        self.waiting.set_begun(true);
        let begun = Instant::now();
        // A reply may come before all of the request was sent. After a refusal the rest is not sent; in either
        // case the connection is not used again.
        let complete = !unsent.has_remaining();
        while head.status.is_success() && unsent.has_remaining() {
            poll_fn(|cx| self.poll_send(cx, unsent)).await?;
        }
        let body = match head.framing {
            // Some servers state neither a length nor an end, and leave the connection open.
            Framing::Close if request.method != Method::GET => Ok(self.input.split().freeze()),
            framing => self.rest(&framing, || (request.rest_timeout)(&head)).await,
        };
        self.reusable = complete
            && !self.waiting.is_half_closed()
            && head.keeps_open
            && body.is_ok()
            && head.framing != Framing::Close
            && self.input.is_empty();
        Ok(Reply {
            begun,
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    /// The body, which as a rule has come with its head.
    async fn rest(
        &mut self,
        framing: &Framing,
        within: impl FnOnce() -> Duration,
    ) -> Result<Bytes, Lost> {
        let mut body = pin!(self.body(framing));
        if let Poll::Ready(body) = poll!(body.as_mut()) {
            return body;
        }
        let end = Instant::now() + within();
        by(end, body).await.unwrap_or(Err(Lost::Stalled))
    }

    /// Fails if the other side has closed the connection or sent something unasked. This asks the system only
    /// if the runtime knows that there is something to read.
    fn heard_nothing(&mut self) -> Result<(), Lost> {
        match self.stream.try_read_buf(&mut self.input) {
            Ok(0) => Err(Lost::Closed),
            Ok(_) => Err(Lost::UnexpectedData),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends, and reads the head of the reply.
    async fn head(&mut self, request: &Request<'_>, unsent: &mut impl Buf) -> Result<Head, Lost> {
        let mut broken = None;
        let only_asks = request.method == Method::GET;
        loop {
            let has_begun = !self.input.is_empty();
            self.waiting.set_begun(has_begun);
            let received = pin!(poll_fn(|cx| {
                while broken.is_none() && unsent.has_remaining() {
                    match self.poll_send(cx, unsent) {
                        Poll::Ready(Ok(())) => {}
                        // The other side may have replied before it closed the connection.
                        Poll::Ready(Err(error)) => broken = Some(error),
                        Poll::Pending => break,
                    }
                }
                let received = self.poll_receive(cx);
                if only_asks && !has_begun && received.is_pending() && !unsent.has_remaining() {
                    self.half_close_at_end(cx);
                }
                received
            }));
            // The wait for its first byte may have no limit.
            let received = match has_begun {
                false => received.await,
                true => {
                    let end = Instant::now() + limits::API_REPLY_TIMEOUT;
                    by(end, received).await.unwrap_or(Err(Lost::Stalled))
                }
            };
            if let Err(error) = received {
                return Err(broken.unwrap_or(error));
            }
            while let Some((head, length)) = http1_reply::parse(&self.input)? {
                self.input.advance(length);
                if !head.status.is_informational() {
                    return Ok(head);
                }
            }
            if self.input.len() > limits::API_HEAD_BYTES_MAX {
                return Err(Lost::TooLong);
            }
        }
    }

    async fn body(&mut self, framing: &Framing) -> Result<Bytes, Lost> {
        match *framing {
            Framing::Length(length) => {
                self.hold(length).await?;
                Ok(self.take(length))
            }
            Framing::Chunks => self.chunks().await,
            Framing::Close => loop {
                if self.input.len() > limits::HOST_CALL_BYTES_MAX {
                    return Err(Lost::TooLong);
                }
                match self.receive().await {
                    Ok(()) => {}
                    Err(Lost::Closed) => return Ok(self.input.split().freeze()),
                    Err(error) => return Err(error),
                }
            },
        }
    }

    async fn chunks(&mut self) -> Result<Bytes, Lost> {
        let mut whole = BytesMut::new();
        loop {
            let (head, length) = loop {
                if let Some(chunk) = http1_reply::parse_chunk(&self.input)? {
                    break chunk;
                }
                if self.input.len() > limits::API_HEAD_BYTES_MAX {
                    return Err(Lost::TooLong);
                }
                self.receive().await?;
            };
            self.input.advance(head);
            if length == 0 {
                self.trailers().await?;
                if whole.len() > COPIED_BYTES {
                    self.shrink();
                }
                return Ok(whole.freeze());
            }
            if whole.len().saturating_add(length) > limits::HOST_CALL_BYTES_MAX {
                return Err(Lost::TooLong);
            }
            // Each has a line break behind it.
            self.hold(length + 2).await?;
            whole.extend_from_slice(&self.input[..length]);
            self.input.advance(length + 2);
        }
    }

    /// Reads over what follows the last chunk.
    async fn trailers(&mut self) -> Result<(), Lost> {
        loop {
            while let Some(end) = self.input.windows(2).position(|pair| pair == b"\r\n") {
                self.input.advance(end + 2);
                if end == 0 {
                    return Ok(());
                }
            }
            if self.input.len() > limits::API_HEAD_BYTES_MAX {
                return Err(Lost::TooLong);
            }
            self.receive().await?;
        }
    }

    /// Waits until so many bytes are there.
    async fn hold(&mut self, length: usize) -> Result<(), Lost> {
        if length > limits::HOST_CALL_BYTES_MAX {
            return Err(Lost::TooLong);
        }
        self.input.reserve(length.saturating_sub(self.input.len()));
        while self.input.len() < length {
            self.receive().await?;
        }
        Ok(())
    }

    fn take(&mut self, length: usize) -> Bytes {
        if length > COPIED_BYTES {
            let whole = self.input.split_to(length).freeze();
            self.shrink();
            return whole;
        }
        let bytes = Bytes::copy_from_slice(&self.input[..length]);
        self.input.advance(length);
        bytes
    }

    /// Frees the buffer of something large. Otherwise the few bytes that may follow would keep all of it.
    fn shrink(&mut self) {
        let rest = std::mem::replace(&mut self.input, BytesMut::with_capacity(READ_BYTES));
        self.input.extend_from_slice(&rest);
    }

    /// Tells the other side that nothing more is sent, where no event is asked for any more. Most servers then close
    /// the connection; what they have begun to say before that still comes.
    fn half_close_at_end(&mut self, cx: &mut Context<'_>) {
        if self.waiting.asks_no_more() && !self.waiting.is_half_closed() {
            // It fails only where the connection is lost, which is heard of by reading.
            let _ = Pin::new(&mut self.stream).poll_shutdown(cx);
            self.waiting.set_half_closed(true);
        }
    }

    async fn receive(&mut self) -> Result<(), Lost> {
        poll_fn(|cx| self.poll_receive(cx)).await
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, unsent: &mut impl Buf) -> Poll<Result<(), Lost>> {
        poll_write_buf(Pin::new(&mut self.stream), cx, unsent).map(|sent| match sent {
            Ok(0) => Err(Lost::Closed),
            Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        })
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        if self.input.is_empty() || self.input.len() == self.input.capacity() {
            self.input.reserve(READ_BYTES);
        }
        let stream = Pin::new(&mut self.stream);
        poll_read_buf(stream, cx, &mut self.input).map(|received| match received {
            Ok(0) => Err(Lost::Closed),
            Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        })
    }
}

/// Has the system notice a peer that is gone without a word, while an event is waited for.
pub(super) fn keep_alive(stream: &TcpStream) -> std::io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, limits::API_KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(stream, limits::API_KEEPALIVE)?;
    sockopt::set_tcp_keepcnt(stream, limits::KEEPALIVE_COUNT)?;
    Ok(())
}

/// Has the system notice that what was sent is not received, or lifts that limit: for a request larger than the
/// buffers on the way, whose receiver may read slowly.
#[cfg(target_os = "linux")]
fn expect_receipt(stream: &TcpStream, expected: bool) -> std::io::Result<()> {
    let limit_ms = match expected {
        true => limits::UNRECEIVED_TIMEOUT.as_millis() as u32,
        false => 0,
    };
    sockopt::set_tcp_user_timeout(stream, limit_ms)?;
    Ok(())
}

/// Other systems have no such limit.
#[cfg(not(target_os = "linux"))]
fn expect_receipt(_: &TcpStream, _: bool) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use http::HeaderValue;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    impl Connection {
        /// Whether the system is to notice that what is sent does not arrive.
        #[cfg(target_os = "linux")]
        pub(in super::super) fn expects_receipt(&self) -> bool {
            rustix::net::sockopt::tcp_user_timeout(&self.stream).unwrap() != 0
        }
    }

    fn default_headers() -> DefaultHeaders {
        DefaultHeaders {
            prefix: String::new(),
            host: HeaderValue::from_static("x"),
            user_agent: HeaderValue::from_static("x"),
        }
    }

    /// A request for the next event.
    pub fn asks() -> Request<'static> {
        Request {
            method: Method::GET,
            path: "/next",
            headers: &[],
            body: Bytes::new(),
            rest_timeout: &|_| limits::API_REPLY_TIMEOUT,
        }
    }

    /// A connection whose other side says this to the first request, and what came of that.
    async fn told(said: Vec<u8>) -> (Connection, Result<Reply, Lost>) {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(server.local_addr().unwrap());
        let mut connection = Connection::new(stream.await.unwrap());
        let saying = async {
            let (mut socket, _) = server.accept().await.unwrap();
            assert!(socket.read_buf(&mut Vec::new()).await.unwrap() > 0);
            socket.write_all(&said).await.unwrap();
        };
        let default_headers = default_headers();
        let asks = asks();
        let (reply, ()) = tokio::join!(connection.exchange(&default_headers, &asks), saying);
        (connection, reply)
    }

    #[tokio::test]
    async fn the_room_of_a_large_body_is_not_kept_however_that_came() {
        let body = vec![b'x'; 4 * COPIED_BYTES];
        let head = "HTTP/1.1 200 OK\r\n";
        let length = format!("{head}content-length: {}\r\n\r\n", body.len());
        let chunked = format!(
            "{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n",
            body.len()
        );
        for (head, end) in [(length, ""), (chunked, "\r\n0\r\n\r\n")] {
            let said = [head.as_bytes(), &body, end.as_bytes()].concat();
            let (mut connection, reply) = told(said).await;
            assert_eq!(reply.unwrap().body.unwrap().len(), body.len());
            assert!(!connection.input.try_reclaim(2 * COPIED_BYTES), "{head}");
        }
    }

    /// What is left of an event's time may be told by its head.
    #[tokio::test]
    async fn a_reply_begins_with_its_head() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(server.local_addr().unwrap());
        let mut connection = Connection::new(stream.await.unwrap());
        let waiting = connection.waiting.clone();
        let saying = async {
            let (mut socket, _) = server.accept().await.unwrap();
            assert!(socket.read_buf(&mut Vec::new()).await.unwrap() > 0);
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n";
            socket.write_all(head).await.unwrap();
            while !waiting.has_begun() {
                tokio::task::yield_now().await;
            }
            let between = Instant::now();
            socket.write_all(b"1").await.unwrap();
            between
        };
        let default_headers = default_headers();
        let asks = asks();
        let (reply, between) = tokio::join!(connection.exchange(&default_headers, &asks), saying);
        assert!(reply.unwrap().begun <= between);
    }

    #[tokio::test]
    async fn a_reply_that_had_begun_is_not_a_wait_that_was_cut() {
        for (said, expected) in [("", true), ("HTTP/1.1 200", false), ("SSH-2.0", false)] {
            let (connection, reply) = told(said.as_bytes().to_vec()).await;
            let lost = reply.err().unwrap();
            assert_eq!(connection.was_cut(&lost), expected, "{said}: {lost}");
        }
    }
}
