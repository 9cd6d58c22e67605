//! One HTTP connection to the Runtime API, and one exchange at a time on it.
//!
//! Promises:
//! - kept open, and opened anew when the other side has closed it;
//! - waiting for an event has no time limit, since the process may be frozen meanwhile; a reply to
//!   anything else has [`limits::API_REPLY_TIMEOUT`], and then the request is sent once more;
//! - it moves only while an exchange is under way, in the task that makes it: a task of its own
//!   would cost a hand-over in each direction.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderValue, USER_AGENT};
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Error;
use super::patience::{self, Patience};
use crate::limits;

/// The most headers that a request has, and so the room that is made for them at once.
const HEADERS: usize = 8;
pub(super) const RELEASE: HeaderValue =
    HeaderValue::from_static(concat!("hearth/", env!("CARGO_PKG_VERSION")));

/// The Runtime API at one address.
pub(super) struct Endpoint {
    /// `host:port`.
    address: String,
    /// What every path begins with; nothing on Lambda itself.
    prefix: String,
    host: HeaderValue,
    connection: Option<Connection>,
    patience: Patience,
}

/// An open connection.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// None once it has ended.
    driver: Option<Pin<Box<Driver>>>,
}

type Driver = http1::Connection<TokioIo<TcpStream>, Full<Bytes>>;

/// A reply, read to its end: before that the connection could not be used again.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Result<Bytes, Error>,
}

impl Endpoint {
    /// The Runtime API at this `host:port`, as Lambda gives it; emulators give a URL with a path.
    /// Connects to nothing yet.
    pub(super) fn new(address: &str) -> Self {
        let (address, prefix) = patience::split(address);
        Self {
            address: address.to_owned(),
            prefix: prefix.to_owned(),
            host: HeaderValue::from_str(address).unwrap_or(HeaderValue::from_static("localhost")),
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
        limit: Option<Duration>,
        make: impl Fn(&HeaderValue) -> Request<Full<Bytes>>,
    ) -> Result<Reply, Error> {
        if let Some(mut connection) = self.connection.take() {
            let exchange = connection.exchange(self.request(&make)?);
            match self.patience.reply(limit, exchange).await {
                Ok(reply) => {
                    self.connection = Some(connection);
                    return Ok(reply);
                }
                // It was closed while nobody looked. The other side tells a second copy from the
                // first by its id, so nothing is done twice.
                Err(error) => {
                    tracing::debug!(%error, "the connection to the Runtime API was closed");
                }
            }
        }
        let mut connection = self.connect().await?;
        let exchange = connection.exchange(self.request(&make)?);
        let reply = self.patience.reply(limit, exchange).await;
        let reply = reply.map_err(|error| {
            Error::Transient(format!(
                "the Runtime API at {} did not answer: {error}",
                self.address
            ))
        })?;
        self.connection = Some(connection);
        Ok(reply)
    }

    fn request(
        &self,
        make: impl Fn(&HeaderValue) -> Request<Full<Bytes>>,
    ) -> Result<Request<Full<Bytes>>, Error> {
        self.below_prefix(make(&self.host))
    }

    /// The request, to a path as the address wants it.
    pub(super) fn below_prefix<B>(&self, mut request: Request<B>) -> Result<Request<B>, Error> {
        if !self.prefix.is_empty() {
            *request.uri_mut() = uri(format!("{}{}", self.prefix, request.uri()))?;
        }
        Ok(request)
    }

    /// What its requests name as their host.
    pub(super) fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// A connection beside the one that is kept.
    pub(super) async fn open(&self) -> Result<TcpStream, Error> {
        let opening = async {
            let stream = TcpStream::connect(&self.address).await?;
            stream.set_nodelay(true)?;
            patience::keep_alive(&stream)?;
            Ok(stream)
        };
        opening
            .await
            .map_err(|error: std::io::Error| self.unreachable(&error))
    }

    async fn connect(&self) -> Result<Connection, Error> {
        let (sender, driver) = http1::handshake(TokioIo::new(self.open().await?))
            .await
            .map_err(|error| self.unreachable(&error))?;
        Ok(Connection {
            sender,
            driver: Some(Box::pin(driver)),
        })
    }

    fn unreachable(&self, error: &dyn std::fmt::Display) -> Error {
        Error::Transient(format!(
            "the Runtime API at {} cannot be reached: {error}",
            self.address
        ))
    }
}

impl Connection {
    /// Sends a request and reads its reply.
    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Reply> {
        let Self { sender, driver } = self;
        let exchange = async {
            sender.ready().await?;
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = match Limited::new(body, limits::HOST_CALL_BYTES_MAX)
                .collect()
                .await
            {
                Ok(body) => Ok(body.to_bytes()),
                Err(error) => Err(Error::Transient(format!(
                    "the Runtime API's reply was cut short: {error}"
                ))),
            };
            Ok(Reply {
                status: head.status,
                headers: head.headers,
                body,
            })
        };
        moved(driver, exchange).await
    }
}

/// Moves a connection as long as an exchange on it is under way. It is dropped when it has ended:
/// only that tells a request that came too late for it.
pub(super) async fn moved<D: Future, E: Future>(
    driver: &mut Option<Pin<Box<D>>>,
    exchange: E,
) -> E::Output {
    let mut exchange = pin!(exchange);
    poll_fn(|cx| {
        if let Poll::Ready(reply) = exchange.as_mut().poll(cx) {
            return Poll::Ready(reply);
        }
        // Its end is an error for the exchange as well, which says more about it.
        if driver
            .as_mut()
            .is_some_and(|driver| driver.as_mut().poll(cx).is_ready())
        {
            *driver = None;
        }
        // What the connection has just read, without another turn through the scheduler.
        exchange.as_mut().poll(cx)
    })
    .await
}

/// A request with the headers that every one has.
pub(super) fn request(
    host: &HeaderValue,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    let mut headers = HeaderMap::with_capacity(HEADERS);
    headers.insert(HOST, host.clone());
    headers.insert(USER_AGENT, RELEASE);
    *request.headers_mut() = headers;
    request
}

/// A path as a request's target.
pub(super) fn uri(path: String) -> Result<Uri, Error> {
    let wrong = |error| Error::Transient(format!("a request cannot be made for this id: {error}"));
    PathAndQuery::from_maybe_shared(Bytes::from(path))
        .map(Uri::from)
        .map_err(wrong)
}
