//! The socket under a connection: opened here, and watched by the [`probe`](super::probe).
//!
//! Promises: connecting tries each host that the address names, in order, within the given time;
//! [`Peek::is_open`] costs one system call and no round trip.
//!
//! Left to others: the protocol, which the driver speaks.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::probe::{Incoming, Outgoing, Probe};

/// A stream to the server whose bytes pass the probe.
pub struct Socket {
    stream: Stream,
    outgoing: Outgoing,
    incoming: Incoming,
    probe: Arc<Probe>,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A second handle on a socket, to look whether the server has closed it.
pub struct Peek(OwnedFd);

impl Socket {
    /// Connects to the first host that answers.
    pub async fn open(config: &Config, probe: Arc<Probe>) -> io::Result<(Self, Peek)> {
        let mut failures = Vec::new();
        for (index, host) in config.get_hosts().iter().enumerate() {
            let port = config
                .get_ports()
                .get(index)
                .or(config.get_ports().first())
                .copied()
                .unwrap_or(5432);
            match connect(host, port, config).await {
                Ok((stream, peek)) => {
                    let socket = Self {
                        stream,
                        outgoing: Outgoing::default(),
                        incoming: Incoming::default(),
                        probe,
                    };
                    return Ok((socket, peek));
                }
                Err(error) => failures.push(format!("{}: {error}", describe(host, port))),
            }
        }
        if failures.is_empty() {
            failures.push("the address names no host".to_owned());
        }
        Err(io::Error::other(failures.join("; ")))
    }
}

impl Peek {
    /// Whether the server has neither closed the connection nor announced that it will.
    pub fn is_open(&self) -> bool {
        let mut first = [0];
        match rustix::net::recv(&self.0, &mut first, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            // What comes unasked is a notice, a setting, a notification, or the server's last words.
            Ok((_, 1)) => first != *b"E",
            Ok(_) => false,
            Err(error) => error == rustix::io::Errno::WOULDBLOCK,
        }
    }
}

async fn connect(host: &Host, port: u16, config: &Config) -> io::Result<(Stream, Peek)> {
    match host {
        Host::Tcp(name) => {
            let stream = TcpStream::connect((name.as_str(), port)).await?;
            // A query is one small write that waits for its answer.
            stream.set_nodelay(true)?;
            if config.get_keepalives() {
                rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
                rustix::net::sockopt::set_tcp_keepidle(&stream, config.get_keepalives_idle())?;
            }
            let peek = Peek(stream.as_fd().try_clone_to_owned()?);
            Ok((Stream::Tcp(stream), peek))
        }
        Host::Unix(directory) => {
            let stream = UnixStream::connect(directory.join(format!(".s.PGSQL.{port}"))).await?;
            let peek = Peek(stream.as_fd().try_clone_to_owned()?);
            Ok((Stream::Unix(stream), peek))
        }
    }
}

fn describe(host: &Host, port: u16) -> String {
    match host {
        Host::Tcp(name) => format!("{name}:{port}"),
        Host::Unix(directory) => format!("{}/.s.PGSQL.{port}", directory.display()),
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        match &mut this.stream {
            Stream::Tcp(stream) => ready!(Pin::new(stream).poll_read(cx, buf))?,
            Stream::Unix(stream) => ready!(Pin::new(stream).poll_read(cx, buf))?,
        }
        let read = &buf.filled()[before..];
        if !read.is_empty() {
            this.outgoing.turn();
            this.incoming.scan(read, &this.probe);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.stream {
            Stream::Tcp(stream) => ready!(Pin::new(stream).poll_write(cx, bytes))?,
            Stream::Unix(stream) => ready!(Pin::new(stream).poll_write(cx, bytes))?,
        };
        this.outgoing.scan(&bytes[..written], &this.probe);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
