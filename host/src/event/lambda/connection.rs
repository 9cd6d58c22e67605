//! One HTTP connection to the Runtime API, and one exchange at a time on it.
//!
//! Promises:
//! - kept open, and opened anew when the other side has closed it;
//! - waiting for an event has no time limit, since the process may be frozen meanwhile; a reply to
//!   anything else has a [`Limit`], and then the request is sent once more;
//! - it moves only while an exchange is under way, in the task that makes it: a task of its own
//!   would cost a hand-over in each direction.

use http::header::HeaderValue;
use tokio::net::TcpStream;

use super::Error;
use super::http1::{Always, Connection, Lost, Reply, Request};
use super::patience::{self, Limit, NoReply, Patience};
use crate::limits;

const RELEASE: HeaderValue =
    HeaderValue::from_static(concat!("hearth/", env!("CARGO_PKG_VERSION")));

/// The Runtime API at one address.
pub(super) struct Endpoint {
    /// `host:port`.
    address: String,
    always: Always,
    connection: Option<Connection>,
    patience: Patience,
}

impl Endpoint {
    /// The Runtime API at this `host:port`, as Lambda gives it; emulators give a URL with a path.
    /// Connects to nothing yet.
    pub(super) fn new(address: &str) -> Self {
        let (address, prefix) = patience::split(address);
        Self {
            address: address.to_owned(),
            always: Always {
                prefix: prefix.to_owned(),
                host: HeaderValue::from_str(address)
                    .unwrap_or(HeaderValue::from_static("localhost")),
                user_agent: RELEASE,
            },
            connection: None,
            patience: Patience::default(),
        }
    }

    /// Gives the connection up, if there is one: the next exchange makes a new one.
    pub(super) fn hang_up(&mut self) {
        self.connection = None;
    }

    /// Sends a request on the open connection; on a new one if that turns out to be closed, or
    /// gives no reply within `limit`.
    pub(super) async fn exchange(
        &mut self,
        limit: Option<Limit>,
        request: &Request<'_>,
    ) -> Result<Reply, Error> {
        if let Some(mut connection) = self.connection.take() {
            match self.attempt(&mut connection, limit, request).await {
                Ok(reply) => {
                    self.connection = Some(connection).filter(Connection::is_reusable);
                    return Ok(reply);
                }
                // It was closed while nobody looked. The other side tells a second copy from the
                // first by its id, so nothing is done twice.
                Err(error) => {
                    tracing::debug!(%error, "the connection to the Runtime API was closed");
                }
            }
        }
        let mut connection = Connection::new(self.open().await?);
        connection.expect_receipt(true);
        let reply = self.attempt(&mut connection, limit, request).await;
        let reply = reply.map_err(|error| self.odd_or_none(&error))?;
        self.connection = Some(connection).filter(Connection::is_reusable);
        Ok(reply)
    }

    async fn attempt(
        &mut self,
        connection: &mut Connection,
        limit: Option<Limit>,
        request: &Request<'_>,
    ) -> Result<Reply, NoReply> {
        let is_long = request.body.len() > limits::API_PROMPT_BYTES_MAX;
        if is_long {
            connection.expect_receipt(false);
        }
        let exchange = connection.exchange(&self.always, request);
        let reply = self.patience.reply(limit, exchange).await;
        if is_long {
            connection.expect_receipt(true);
        }
        reply
    }

    /// Whoever says something that is no reply is there all the same.
    fn odd_or_none(&self, error: &NoReply) -> Error {
        let message = format!(
            "the Runtime API at {} did not answer: {error}",
            self.address
        );
        match error {
            NoReply::Lost(Lost::Garbage(_) | Lost::TooLong) => Error::Transient(message),
            _ => Error::Unreachable(message),
        }
    }

    /// What its requests say.
    pub(super) fn always(&self) -> &Always {
        &self.always
    }

    /// A connection beside the one that is kept.
    pub(super) async fn open(&self) -> Result<TcpStream, Error> {
        let opening = async {
            let stream = TcpStream::connect(&self.address).await?;
            stream.set_nodelay(true)?;
            patience::keep_alive(&stream)?;
            Ok(stream)
        };
        match tokio::time::timeout(limits::API_REPLY_TIMEOUT, opening).await {
            Ok(opened) => opened.map_err(|error: std::io::Error| self.unreachable(&error)),
            Err(late) => Err(self.unreachable(&late)),
        }
    }

    fn unreachable(&self, error: &dyn std::fmt::Display) -> Error {
        Error::Unreachable(format!(
            "the Runtime API at {} cannot be reached: {error}",
            self.address
        ))
    }
}
