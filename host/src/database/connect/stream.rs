//! The bytes' way to the server: a Unix socket, TCP, or TLS over TCP.
//!
//! Promises: [`Stream::is_open`] costs one system call at most and no round trip; a silent peer is noticed
//! as the address asks.
//!
//! Left to others: which host ([`super::search`]), with whom TLS is spoken ([`super::tls`]), and
//! what is said.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use rustix::io::Errno;
use rustix::net::{RecvFlags, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::RuntimeFlavor;
use tokio_rustls::client::TlsStream;
use tokio_util::io::poll_read_buf;

use super::certificate;
use super::local::LocalStream;
use crate::config::address::Keepalive;
use crate::limits;

/// A stream to the server.
#[derive(Debug)]
pub enum Stream {
    /// A socket on this machine.
    Unix(LocalStream),
    /// A connection that is not encrypted.
    Tcp(TcpStream),
    /// A connection that is. What is written leaves at the next flush, not before.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Exactly where a server was reached: where a request to cancel must go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// The socket's path.
    Unix(PathBuf),
    /// One address of a name.
    Tcp(SocketAddr),
}

impl Endpoint {
    pub(super) fn in_folder(folder: &Path, port: u16) -> Self {
        Self::Unix(folder.join(format!(".s.PGSQL.{port}")))
    }
}

/// Connects to an address.
pub(super) async fn tcp(address: SocketAddr, keepalive: &Keepalive) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // A query is one small write that waits for its answer.
    stream.set_nodelay(true)?;
    watch(&stream, keepalive)?;
    Ok(stream)
}

fn watch(stream: &TcpStream, keepalive: &Keepalive) -> io::Result<()> {
    if keepalive.enabled {
        sockopt::set_socket_keepalive(stream, true)?;
        let idle = keepalive.idle.unwrap_or(limits::KEEPALIVE_IDLE);
        let interval = keepalive.interval.unwrap_or(limits::KEEPALIVE_INTERVAL);
        let count = keepalive.count.unwrap_or(limits::KEEPALIVE_COUNT);
        // What is zero stays as the system has it.
        if !idle.is_zero() {
            sockopt::set_tcp_keepidle(stream, idle)?;
        }
        if !interval.is_zero() {
            sockopt::set_tcp_keepintvl(stream, interval)?;
        }
        if count > 0 {
            sockopt::set_tcp_keepcnt(stream, count)?;
        }
    }
    #[cfg(target_os = "linux")]
    {
        let limit = keepalive.user_timeout.unwrap_or(limits::UNRECEIVED_TIMEOUT);
        let limit_ms = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        sockopt::set_tcp_user_timeout(stream, limit_ms)?;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
const UNRECEIVED_MS: u32 = limits::UNRECEIVED_TIMEOUT.as_millis() as u32;

impl Stream {
    /// Whether the server has left the connection open, as far as the system knows. To be asked while
    /// the server owes nothing. What it has said unasked is added to `said`, since behind it may be
    /// the end: a notice goes before that of a server that ends at once.
    pub fn is_open(&self, said: &mut BytesMut) -> bool {
        if let Self::Tls(stream) = self {
            if !stream.get_ref().1.wants_read() {
                return false;
            }
            // Encrypted it cannot be told what it is, and last words are the likeliest.
            return !self.has_heard();
        }
        if !self.may_have_heard() {
            return true;
        }
        let mut bytes = [0_u8; 512];
        while said.len() < limits::UNASKED_BYTES_MAX {
            match rustix::net::recv(self, &mut bytes, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return false,
                Ok((heard, _)) => said.extend_from_slice(&bytes[..heard.min(bytes.len())]),
                Err(Errno::INTR) => {}
                Err(error) => return error == Errno::WOULDBLOCK,
            }
        }
        true
    }

    /// Whether the server has closed the connection without a word that is unread, as far as the system knows:
    /// what is sent now is taken by the system, and reaches nobody. What is found to be said is added to `said`.
    pub fn has_ended(&mut self, said: &mut BytesMut) -> bool {
        if !said.is_empty() || !self.may_have_heard() {
            return false;
        }
        let Self::Tls(stream) = self else {
            return !self.is_open(said) && said.is_empty();
        };
        match peek(stream.get_ref().0) {
            Err(Errno::WOULDBLOCK) => return false,
            Ok(1..) => {}
            Ok(0) | Err(_) => return true,
        }
        // It may be TLS's own word for the end, and is not the server's until it is read.
        let mut context = Context::from_waker(Waker::noop());
        while said.len() < limits::UNASKED_BYTES_MAX {
            match poll_read_buf(Pin::new(&mut **stream), &mut context, said) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0) | Err(_)) => return said.is_empty(),
                Poll::Pending => return false,
            }
        }
        false
    }

    /// Whether there is anything to be read, the end included, as the system knows without waiting.
    pub fn has_heard(&self) -> bool {
        peek(self) != Err(Errno::WOULDBLOCK)
    }
}

/// How many of the next bytes are there, of one.
fn peek(socket: impl AsFd) -> Result<usize, Errno> {
    let peeked = rustix::net::recv(socket, &mut [0_u8], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    peeked.map(|(_, heard)| heard)
}

impl Stream {
    /// Whether the system has told the runtime of anything since the last read. Where one thread hears of all
    /// sockets, wherever guests run, it was asked for news when the event arrived for which this connection is
    /// borrowed; where there are several, that may be longer ago, and the socket is asked itself.
    fn may_have_heard(&self) -> bool {
        let one_thread = tokio::runtime::Handle::try_current()
            .is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::CurrentThread);
        let told = || match self {
            Self::Unix(stream) => stream.may_read(),
            Self::Tcp(stream) => stream.try_io(Interest::READABLE, || Ok(())).is_ok(),
            Self::Tls(stream) => {
                let (stream, _) = stream.get_ref();
                stream.try_io(Interest::READABLE, || Ok(())).is_ok()
            }
        };
        !one_thread || told()
    }

    /// Lets what is sent wait for as long as the server does not take it, unless the address says how
    /// long; or, later, no longer than [`limits::UNRECEIVED_TIMEOUT`]. Whether that changed anything.
    #[cfg(target_os = "linux")]
    pub(in crate::database) fn be_patient(&self, patient: bool) -> bool {
        let (from, to) = match patient {
            true => (UNRECEIVED_MS, 0),
            false => (0, UNRECEIVED_MS),
        };
        !matches!(self, Self::Unix(_))
            && sockopt::tcp_user_timeout(self) == Ok(from)
            && sockopt::set_tcp_user_timeout(self, to).is_ok()
    }

    /// Other systems have no such limit.
    #[cfg(not(target_os = "linux"))]
    pub(in crate::database) fn be_patient(&self, _: bool) -> bool {
        false
    }

    /// What a SCRAM login can be bound to: the hash of the server's certificate.
    pub(super) fn end_point(&self) -> Option<Vec<u8>> {
        match self {
            Self::Tls(stream) => {
                certificate::end_point(stream.get_ref().1.peer_certificates()?.first()?)
            }
            Self::Unix(_) | Self::Tcp(_) => None,
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
            Self::Tls(stream) => stream.get_ref().0.as_fd(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
