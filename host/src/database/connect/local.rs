//! A Unix socket registered for reading only; writing is waited for only while it is full.
//!
//! Promises: a wait for the socket to take more is registered while it lasts, and not before. Who
//! always waits for both is woken a second time for each request: when the server has read it, a
//! Unix socket says that there is room again, and the server is held up by saying so.
//!
//! The runtime has such a registration only for the ends of pipes, and takes any file descriptor for
//! one: a socket is read in the same way.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

/// A connection to a server on this machine.
#[derive(Debug)]
pub struct LocalStream {
    socket: pipe::Receiver,
    /// The same socket, while it takes no more.
    full: Option<pipe::Sender>,
}

impl LocalStream {
    /// Connects to the socket at this path.
    pub(super) async fn connect(path: &Path) -> io::Result<Self> {
        let socket = UnixStream::connect(path).await?.into_std()?;
        Ok(Self {
            socket: pipe::Receiver::from_owned_fd_unchecked(OwnedFd::from(socket))?,
            full: None,
        })
    }

    /// Whether the runtime was told since the last read that something can be read.
    pub(super) fn may_read(&self) -> bool {
        // Where it was not, this asks nobody.
        self.socket.try_read(&mut []).is_ok()
    }

    /// Waits until the socket takes more, which it has just not.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let full = match self.full.take() {
            Some(full) => full,
            None => {
                let socket = self.socket.as_fd().try_clone_to_owned()?;
                pipe::Sender::from_owned_fd_unchecked(socket)?
            }
        };
        let room = full.poll_write_ready(cx);
        if room.is_pending() {
            self.full = Some(full);
        }
        room
    }
}

impl AsFd for LocalStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsyncRead for LocalStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for LocalStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            match rustix::io::write(&self.socket, bytes) {
                Ok(sent) => {
                    self.full = None;
                    return Poll::Ready(Ok(sent));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => ready!(self.poll_room(cx))?,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(rustix::net::shutdown(&self.socket, Shutdown::Write).map_err(io::Error::from))
    }
}
