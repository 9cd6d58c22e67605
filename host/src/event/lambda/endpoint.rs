//! Exchanges with the Runtime API, one at a time: on one HTTP connection, and on a second one while another
//! copy of a request is out.
//!
//! Promises:
//! - kept open, and opened anew when the other side has closed it;
//! - waiting for an event has no time limit, since the process may be frozen meanwhile; a reply to
//!   anything else has a [`Limit`], and then the request is sent once more, and never a third time: the
//!   first copy is still waited for, and whichever has a reply is the one that counts;
//! - it moves only while an exchange is under way, in the task that makes it: a task of its own
//!   would cost a hand-over in each direction.

use std::num::NonZeroU16;
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use futures_util::TryFutureExt as _;
use futures_util::future::{Either, select};
use http::StatusCode;
use http::header::HeaderValue;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Error;
use super::clock::Clock;
use super::http1::{self, Connection, Lost, Reply};
use super::http1_request::{DefaultHeaders, Request};
use super::refusals;
use super::reply_timeout::{Limit, ReplyTimer};
use super::waiting::Waiting;
use crate::limits;

const RELEASE: HeaderValue =
    HeaderValue::from_static(concat!("hearth/", env!("CARGO_PKG_VERSION")));

/// The Runtime API at one address.
pub(super) struct Endpoint {
    /// `host:port`.
    address: String,
    default_headers: DefaultHeaders,
    connection: Option<Connection>,
    timer: ReplyTimer,
    waiting: Waiting,
    clock: Clock,
}

impl Endpoint {
    /// The Runtime API at this `host:port`, as Lambda gives it; emulators give a URL with a path.
    /// Connects to nothing yet.
    pub(super) fn new(address: &str) -> Self {
        let (address, prefix) = split(address);
        Self {
            address: address.to_owned(),
            default_headers: DefaultHeaders {
                prefix: prefix.to_owned(),
                host: HeaderValue::from_str(address)
                    .unwrap_or(HeaderValue::from_static("localhost")),
                user_agent: RELEASE,
            },
            connection: None,
            timer: ReplyTimer::default(),
            waiting: Waiting::default(),
            clock: Clock::default(),
        }
    }

    /// The same, with no connection yet, but with what is known of the clock.
    pub(super) fn another(&self) -> Self {
        Self {
            clock: self.clock.clone(),
            ..Self::new(&self.address())
        }
    }

    /// Its `host:port`, with a path if it has one.
    fn address(&self) -> String {
        format!("{}{}", self.address, self.default_headers.prefix)
    }

    /// What is known of the other side's clock.
    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Tells how the wait for a reply stands.
    pub(super) fn waiting(&self) -> Waiting {
        self.waiting.clone()
    }

    /// Gives the connection up, if there is one: the next exchange makes a new one.
    pub(super) fn hang_up(&mut self) {
        self.connection = None;
    }

    /// Sends a request on the open connection; on a new one if that turns out to be closed, or
    /// gives no reply within `limit`.
    pub(super) async fn exchange(
        &mut self,
        mut limit: Option<Limit>,
        request: &Request<'_>,
    ) -> Result<Reply, Error> {
        self.admit(limit)?;
        if let Some(mut connection) = self.connection.take() {
            match self.attempt(&mut connection, limit, request).await? {
                Ok(reply) => {
                    self.keep(connection);
                    return Ok(reply);
                }
                // It was closed since the last exchange. The other side recognises a second copy by its id, so
                // nothing is done twice.
                Err(error) if connection.was_cut(&error) => {
                    tracing::debug!(%error, "the connection to the Runtime API was closed");
                }
                // The lost reply may have been an event, which is not handed out again.
                Err(error) => {
                    tracing::warn!(%error, "a reply of the Runtime API was lost in its middle");
                }
            }
            limit = limit.map(Limit::last);
        }
        self.admit(limit)?;
        let mut connection = fresh(&self.address).await?;
        connection.waiting = self.waiting.clone();
        let reply = self.attempt(&mut connection, limit, request).await?;
        let reply = reply.map_err(|lost| match unanswered(&self.address, &lost) {
            Error::Transient(told) if limit.is_none() && connection.was_cut(&lost) => {
                Error::Cut(told)
            }
            error => error,
        })?;
        self.keep(connection);
        Ok(reply)
    }

    /// Whether a request may be sent with this limit. Only an event is waited for without any.
    fn admit(&self, limit: Option<Limit>) -> Result<(), Error> {
        match limit.is_none() && self.waiting.asks_no_more() {
            true => Err(Error::Cut("no event is asked for any more".to_owned())),
            false => Ok(()),
        }
    }

    /// Sends a request on this connection, and beside it on another one if there is no reply in time.
    async fn attempt(
        &mut self,
        connection: &mut Connection,
        limit: Option<Limit>,
        request: &Request<'_>,
    ) -> Result<Result<Reply, Lost>, Error> {
        let _until_its_end = self.waiting.during_an_exchange();
        let is_long = is_long(request);
        if is_long {
            connection.expect_receipt(false);
        }
        let mut other = None;
        let reply = {
            let mut exchange = pin!(connection.exchange(&self.default_headers, request));
            let timer = &mut self.timer;
            match (timer.reply(limit, exchange.as_mut()).await, limit) {
                (Ok(reply), _) => reply,
                (Err(late), Some(limit)) if !limit.is_last() => {
                    tracing::debug!(%late, "a request to the Runtime API is made once more");
                    let to = (self.address.as_str(), &self.default_headers);
                    let twice = twice(exchange, &mut other, to, timer, limit, request);
                    Ok(Box::pin(twice).await?)
                }
                (Err(late), _) => return Err(unanswered(&self.address, &late)),
            }
        };
        for connection in other.iter().chain([&*connection]).filter(|_| is_long) {
            connection.expect_receipt(true);
        }
        if let Some(other) = other {
            self.keep(other);
        }
        Ok(reply)
    }

    /// Keeps a connection for the next exchange, if it is good for one.
    fn keep(&mut self, mut connection: Connection) {
        if connection.is_reusable() {
            // It may be one on which a second copy was sent.
            connection.waiting = self.waiting.clone();
            self.connection = Some(connection);
        }
    }

    /// What its requests say.
    pub(super) fn default_headers(&self) -> &DefaultHeaders {
        &self.default_headers
    }

    /// A connection beside the one that is kept.
    pub(super) async fn open(&self) -> Result<TcpStream, Error> {
        open(&self.address).await
    }
}

/// Sends a second copy on a connection of its own, which is left in `other`, while the reply to the first
/// one is still waited for.
async fn twice(
    first: Pin<&mut impl Future<Output = Result<Reply, Lost>>>,
    other: &mut Option<Connection>,
    (address, default_headers): (&str, &DefaultHeaders),
    timer: &mut ReplyTimer,
    limit: Limit,
    request: &Request<'_>,
) -> Result<Reply, Error> {
    let first = first.map_err(|lost| unanswered(address, &lost));
    let second = pin!(async {
        let connection = other.insert(fresh(address).await?);
        if is_long(request) {
            connection.expect_receipt(false);
        }
        let reply = connection.exchange(default_headers, request).await;
        reply.map_err(|lost| unanswered(address, &lost))
    });
    let now = Instant::now();
    let further = limit.end(now) - now;
    let reply = pin!(either(first, second, further));
    match timer.reply(Some(limit.last()), reply).await {
        Ok(reply) => reply,
        Err(late) => Err(unanswered(address, &late)),
    }
}

/// The reply to one of two copies of a request. A copy may be refused because the other copy has arrived, or
/// for a reason that says nothing about the other; so after such a refusal the other copy's reply is still
/// waited for, for `further` at most.
async fn either<E>(
    first: impl Future<Output = Result<Reply, E>> + Unpin,
    second: impl Future<Output = Result<Reply, E>> + Unpin,
    further: Duration,
) -> Result<Reply, E> {
    let (reply, other) = match select(first, second).await {
        Either::Left((reply, second)) => (reply, Either::Right(second)),
        Either::Right((reply, first)) => (reply, Either::Left(first)),
    };
    match reply {
        Ok(refusal) if is_of_one_alone(&refusal) => match timeout(further, other).await {
            Ok(Ok(reply)) => Ok(reply),
            _ => Ok(refusal),
        },
        Ok(reply) => Ok(reply),
        Err(_) => other.await,
    }
}

/// Whether a refusal leaves open what becomes of the other copy: Lambda refuses a post like this when its
/// invocation has an answer already, or is just getting one, and so does a server that is overloaded.
fn is_of_one_alone(reply: &Reply) -> bool {
    let is_of_a_copy = matches!(
        reply.status,
        StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN
    );
    is_of_a_copy || refusals::says_nothing(reply.status)
}

fn is_long(request: &Request<'_>) -> bool {
    request.body.len() > limits::API_PROMPT_BYTES_MAX
}

async fn fresh(address: &str) -> Result<Connection, Error> {
    let connection = Connection::new(open(address).await?);
    connection.expect_receipt(true);
    Ok(connection)
}

async fn open(address: &str) -> Result<TcpStream, Error> {
    let unreachable = |error: &dyn std::fmt::Display| {
        let message = format!("the Runtime API at {address} cannot be reached: {error}");
        Error::Unreachable(message)
    };
    let opening = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        http1::keep_alive(&stream)?;
        Ok(stream)
    };
    match timeout(limits::API_REPLY_TIMEOUT, opening).await {
        Ok(opened) => opened.map_err(|error: std::io::Error| unreachable(&error)),
        Err(late) => Err(unreachable(&late)),
    }
}

/// The error where a connection was accepted: the other side is reachable, whatever it did then.
fn unanswered(address: &str, error: &dyn std::fmt::Display) -> Error {
    Error::Transient(format!(
        "the Runtime API at {address} did not answer: {error}"
    ))
}

/// Takes an address apart: `host:port`, as Lambda gives it, and the path of a URL, as emulators do.
fn split(address: &str) -> (&str, &str) {
    let address = address.strip_prefix("http://").unwrap_or(address);
    let (address, path) = address.split_at(address.find('/').unwrap_or(address.len()));
    (address, path.trim_end_matches('/'))
}

/// Whether this is such an address, `host:port` with whatever else is taken; the host may be one of IPv6.
pub fn is_address(address: &str) -> bool {
    let parts = split(address).0.rsplit_once(':');
    parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<NonZeroU16>().is_ok())
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use bytes::Bytes;
    use http::Method;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::http1::tests::asks;
    use super::super::http1_reply;
    use super::*;

    fn reply(status: u16) -> Result<Reply, Lost> {
        let head = format!("HTTP/1.1 {status} X\r\n\r\n");
        let (head, _) = http1_reply::parse(head.as_bytes()).unwrap().unwrap();
        Ok(Reply {
            begun: Instant::now(),
            status: head.status,
            headers: head.headers,
            body: Ok(Bytes::new()),
        })
    }

    #[tokio::test]
    async fn whoever_takes_a_connection_is_there() {
        // Nobody else listens there meanwhile: other tests do so at 127.0.0.1.
        let listener = TcpListener::bind("127.0.0.78:0").await.unwrap();
        let mut endpoint = Endpoint::new(&listener.local_addr().unwrap().to_string());
        let request = asks();
        let closing = async { drop(listener.accept().await.unwrap()) };
        let (cut, ()) = tokio::join!(endpoint.exchange(None, &request), closing);
        assert!(matches!(cut, Err(Error::Cut(_))));
        drop(listener);
        let refused = endpoint.exchange(None, &request).await;
        assert!(matches!(refused, Err(Error::Unreachable(_))));
    }

    /// The first copy of a long answer gets no reply.
    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn a_connection_that_is_kept_after_a_long_answer_expects_receipts_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut endpoint = Endpoint::new(&listener.local_addr().unwrap().to_string());
        let request = Request {
            method: Method::POST,
            body: Bytes::from(vec![b'x'; limits::API_PROMPT_BYTES_MAX + 1]),
            ..asks()
        };
        let limit = Limit::new(Some(Instant::now()), true);
        let taking = async {
            let (first, _) = listener.accept().await.unwrap();
            let (mut second, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            while bytes.len() < request.body.len() {
                assert!(second.read_buf(&mut bytes).await.unwrap() > 0);
            }
            let reply = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n";
            second.write_all(reply).await.unwrap();
            (first, second)
        };
        let (reply, _open) = tokio::join!(endpoint.exchange(Some(limit), &request), taking);
        assert_eq!(reply.unwrap().status, 202);
        endpoint.waiting().set_begun(true);
        let kept = endpoint.connection.unwrap();
        assert!(kept.expects_receipt() && kept.waiting.has_begun());
    }

    #[tokio::test]
    async fn no_event_is_asked_for_on_a_connection_that_is_kept_once_none_is_to_be() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut endpoint = Endpoint::new(&address);
        endpoint.connection = Some(fresh(&address).await.unwrap());
        let (mut stream, _) = listener.accept().await.unwrap();
        endpoint.waiting().ask_no_more();
        let refused = endpoint.exchange(None, &asks()).await;
        assert!(matches!(refused, Err(Error::Cut(_))));
        drop(endpoint);
        assert_eq!(stream.read_buf(&mut Vec::new()).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_reply_that_is_given_up_in_its_middle_is_not_on_its_way() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut endpoint = Endpoint::new(&listener.local_addr().unwrap().to_string());
        let (waiting, request) = (endpoint.waiting(), asks());
        let beginning = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 200").await.unwrap();
            while !waiting.has_begun() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = endpoint.exchange(None, &request) => panic!("the reply is not whole"),
            () = beginning => {}
        }
        assert!(!endpoint.waiting().has_begun());
    }

    #[tokio::test]
    async fn a_copy_that_is_refused_as_one_is_not_the_end_of_the_other() {
        let (least, most) = (Duration::from_millis(1), Duration::from_secs(60));
        let after_a_turn = |reply| {
            Box::pin(async {
                tokio::task::yield_now().await;
                reply
            })
        };
        for refused in [400, 403, 503] {
            let (first, second) = (after_a_turn(reply(202)), ready(reply(refused)));
            assert_eq!(either(first, second, most).await.unwrap().status, 202);
            let (first, second) = (ready(reply(refused)), after_a_turn(Err(Lost::Closed)));
            assert_eq!(either(first, second, most).await.unwrap().status, refused);
            let (first, second) = (pending(), ready(reply(refused)));
            assert_eq!(either(first, second, least).await.unwrap().status, refused);
        }
        // These statuses do not depend on the other copy, so the first one counts.
        for told in [202, 410, 413, 500] {
            let replied = either(pending(), ready(reply(told)), most).await;
            assert_eq!(replied.unwrap().status, told);
        }
        let (first, second) = (ready(Err(Lost::Closed)), after_a_turn(reply(202)));
        assert_eq!(either(first, second, most).await.unwrap().status, 202);
    }

    #[test]
    fn an_address_may_be_a_url_with_a_path() {
        for (given, expected) in [
            ("127.0.0.1:9001", ("127.0.0.1:9001", "")),
            ("http://127.0.0.1:9001/", ("127.0.0.1:9001", "")),
            ("http://[::1]:9000/.rt/shop", ("[::1]:9000", "/.rt/shop")),
            ("localhost:9000/.rt/shop/", ("localhost:9000", "/.rt/shop")),
        ] {
            assert_eq!(split(given), expected);
        }
    }

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for address in [
            "127.0.0.1:9001",
            "localhost:9001",
            "[::1]:9001",
            "::1:9001",
            "http://127.0.0.1:9001/.rt/",
            "localhost:9001/function",
        ] {
            assert!(is_address(address), "{address}");
        }
        for address in [
            "foo",
            "foo:",
            ":9001",
            "foo:http",
            "foo:65536",
            "foo:0",
            "foo/bar:9001",
            "https://foo:9001",
            "",
        ] {
            assert!(!is_address(address), "{address}");
        }
    }
}
