//! The request to give up what a connection is executing.
//!
//! Promises: it goes to the very endpoint that the connection reached, since another address of
//! the same name may be another server; it is encrypted if the connection is; and it is over when
//! the server has taken it, so that it cannot hit a later statement.

use std::fmt;
use std::io;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::local::LocalStream;
use super::stream::{self, Endpoint, Stream};
use super::tls::Secured;
use crate::config::address::Keepalive;
use crate::limits;

/// The server's process behind a connection.
#[derive(Clone)]
pub struct Backend {
    pub(super) endpoint: Endpoint,
    /// How to speak TLS there; none if the connection does not.
    pub(super) secured: Option<Secured>,
    /// Its process id.
    pub process_id: i32,
    pub(super) secret_key: i32,
}

impl Backend {
    /// One behind a Unix socket.
    #[cfg(test)]
    pub fn at(path: &std::path::Path) -> Self {
        Self {
            endpoint: Endpoint::Unix(path.to_owned()),
            secured: None,
            process_id: 1,
            secret_key: 2,
        }
    }

    /// Asks the server to give up what the backend is executing, on a connection of its own, and
    /// waits until the server has closed that.
    ///
    /// # Errors
    /// If the server cannot be reached, or does not close within [`limits::CANCEL_TIMEOUT`].
    pub async fn cancel(&self) -> io::Result<()> {
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the server did not answer");
        tokio::time::timeout(limits::CANCEL_TIMEOUT, self.request())
            .await
            .map_err(late)?
    }

    async fn request(&self) -> io::Result<()> {
        let mut stream = self.open().await?;
        let mut message = BytesMut::new();
        frontend::cancel_request(self.process_id, self.secret_key, &mut message);
        stream.write_all(&message).await?;
        stream.flush().await?;
        let mut answer = [0; 64];
        loop {
            match stream.read(&mut answer).await {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                // Gone is gone, be it without a farewell: the server just ends its process.
                Err(error) if is_end(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    async fn open(&self) -> io::Result<Stream> {
        let keepalive = Keepalive::default();
        match (&self.endpoint, &self.secured) {
            (Endpoint::Unix(path), _) => Ok(Stream::Unix(LocalStream::connect(path).await?)),
            (Endpoint::Tcp(address), None) => {
                Ok(Stream::Tcp(stream::tcp(*address, &keepalive).await?))
            }
            (Endpoint::Tcp(address), Some(secured)) => {
                let stream = stream::tcp(*address, &keepalive).await?;
                Ok(Stream::Tls(Box::new(secured.begin_again(stream).await?)))
            }
        }
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof
    )
}

// By hand, because whoever knows the key can cancel.
impl fmt::Debug for Backend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Backend")
            .field("endpoint", &self.endpoint)
            .field("secured", &self.secured)
            .field("process_id", &self.process_id)
            .finish_non_exhaustive()
    }
}
