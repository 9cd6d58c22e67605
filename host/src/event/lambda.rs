//! Lambda's Runtime API, version 2018-06-01: the next event, its answer, and errors.
//!
//! Promises:
//! - one connection, kept open, and opened anew when the other side has closed it;
//! - waiting for an event has no time limit: the process may be frozen meanwhile;
//! - an answer is posted once, and never followed by an error for the same invocation;
//! - whatever the other side replies is either understood or a clear error, never a panic.
//!
//! Left to others: what to do after an error ([`crate::serve::lambda`]).

mod streaming;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::fault::Fault;
use crate::invocation::{Answer, Deadline, Invocation};
use crate::limits;

const VERSION: &str = "/2018-06-01/runtime";
const NEXT: &str = "/2018-06-01/runtime/invocation/next";
/// The most headers that a request has, and so the room that is made for them at once.
const HEADERS: usize = 6;
const RELEASE: HeaderValue =
    HeaderValue::from_static(concat!("hearth/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const ERROR_TYPE: HeaderName = HeaderName::from_static("lambda-runtime-function-error-type");
const REQUEST_ID: HeaderName = HeaderName::from_static("lambda-runtime-aws-request-id");
const DEADLINE: HeaderName = HeaderName::from_static("lambda-runtime-deadline-ms");
const ARN: HeaderName = HeaderName::from_static("lambda-runtime-invoked-function-arn");
const TRACE_ID: HeaderName = HeaderName::from_static("lambda-runtime-trace-id");
const CLIENT_CONTEXT: HeaderName = HeaderName::from_static("lambda-runtime-client-context");
const IDENTITY: HeaderName = HeaderName::from_static("lambda-runtime-cognito-identity");
const TENANT_ID: HeaderName = HeaderName::from_static("lambda-runtime-aws-tenant-id");
const INVOCATION_ID: HeaderName = HeaderName::from_static("lambda-runtime-invocation-id");

/// One slot's connection to the Runtime API.
pub struct RuntimeApi {
    /// `host:port`, as Lambda gives it.
    address: String,
    host: HeaderValue,
    identity: FunctionIdentity,
    connection: Option<Connection>,
}

/// What Lambda's environment says of the function, the same for every event.
#[derive(Debug, Clone, Default)]
pub struct FunctionIdentity {
    /// Its name.
    pub name: String,
    /// Its version: a number, or `$LATEST`.
    pub version: String,
}

/// An open connection. It moves only while a request is under way, in the task that makes it:
/// a task of its own would cost a hand-over in each direction.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: Pin<Box<http1::Connection<TokioIo<TcpStream>, Full<Bytes>>>>,
    ended: bool,
}

/// An event, and what its answer needs.
#[derive(Debug)]
pub struct Received {
    /// What to handle.
    pub invocation: Invocation,
    /// Where to answer.
    pub receipt: Receipt,
}

/// What identifies one attempt at an invocation to the Runtime API.
#[derive(Debug, Clone)]
pub struct Receipt {
    request_id: String,
    /// Unique to the attempt, where the request id may repeat. Echoed if it was given.
    invocation_id: Option<HeaderValue>,
}

/// Why the Runtime API could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The environment is beyond repair, says the other side: the process is to end.
    #[error("the Runtime API reports a state that cannot be recovered from: {0}")]
    Fatal(String),
    /// Something that may be over the next time.
    #[error("{0}")]
    Transient(String),
}

impl RuntimeApi {
    /// The Runtime API at this `host:port`. Connects to nothing yet.
    pub fn new(address: &str, identity: FunctionIdentity) -> Self {
        Self {
            address: address.to_owned(),
            host: HeaderValue::from_str(address).unwrap_or(HeaderValue::from_static("localhost")),
            identity,
            connection: None,
        }
    }

    /// Waits for the next event.
    pub async fn next(&mut self) -> Result<Received, Error> {
        let host = self.host.clone();
        let reply = self
            .send(|| request(&host, Method::GET, Uri::from_static(NEXT), Bytes::new()))
            .await?;
        match reply.status {
            StatusCode::OK => received(&reply.headers, reply.body?, &self.identity),
            status => {
                let body = reply.body.unwrap_or_default();
                Err(refused("a request for the next event", status, &body))
            }
        }
    }

    /// Posts the answer of an invocation. A refusal that concerns this invocation alone is logged
    /// and is no error: Lambda has told the caller already.
    pub async fn answer(&mut self, receipt: &Receipt, answer: &Answer) -> Result<(), Error> {
        let (kind, body) = match answer {
            Ok(bytes) => ("response", bytes.clone()),
            Err(fault) => ("error", fault.body().into()),
        };
        let uri = uri(format!(
            "{VERSION}/invocation/{}/{kind}",
            receipt.request_id
        ))?;
        let error_type = answer.as_ref().err().map(|fault| fault.kind.error_type());
        let id = receipt.invocation_id.clone();
        self.post(uri, body, error_type, id, "an answer").await
    }

    /// Reports that the environment could not be started.
    pub async fn init_error(&mut self, fault: &Fault) -> Result<(), Error> {
        let uri = uri(format!("{VERSION}/init/error"))?;
        let error_type = Some(fault.kind.error_type());
        self.post(uri, fault.body().into(), error_type, None, "a failed start")
            .await
    }

    async fn post(
        &mut self,
        uri: Uri,
        body: Bytes,
        error_type: Option<&'static str>,
        invocation_id: Option<HeaderValue>,
        what: &str,
    ) -> Result<(), Error> {
        let host = self.host.clone();
        let make = || {
            let mut request = request(&host, Method::POST, uri.clone(), body.clone());
            let headers = request.headers_mut();
            headers.insert(CONTENT_TYPE, JSON);
            if let Some(error_type) = error_type {
                headers.insert(ERROR_TYPE, HeaderValue::from_static(error_type));
            }
            if let Some(id) = &invocation_id {
                headers.insert(INVOCATION_ID, id.clone());
            }
            request
        };
        let reply = self.send(make).await?;
        judged(what, reply.status, &reply.body.unwrap_or_default())
    }

    /// Sends a request on the open connection; on a new one if that turns out to be closed.
    async fn send(&mut self, make: impl Fn() -> Request<Full<Bytes>>) -> Result<Reply, Error> {
        if let Some(mut connection) = self.connection.take() {
            match connection.send(make()).await {
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
        let reply = connection.send(make()).await.map_err(|error| {
            Error::Transient(format!(
                "the Runtime API at {} did not answer: {error}",
                self.address
            ))
        })?;
        self.connection = Some(connection);
        Ok(reply)
    }

    async fn connect(&self) -> Result<Connection, Error> {
        let (sender, driver) = http1::handshake(TokioIo::new(self.open().await?))
            .await
            .map_err(|error| self.unreachable(&error))?;
        Ok(Connection {
            sender,
            driver: Box::pin(driver),
            ended: false,
        })
    }

    async fn open(&self) -> Result<TcpStream, Error> {
        let opening = async {
            let stream = TcpStream::connect(&self.address).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        opening
            .await
            .map_err(|error: std::io::Error| self.unreachable(&error))
    }

    fn unreachable(&self, error: &dyn std::fmt::Display) -> Error {
        Error::Transient(format!(
            "the Runtime API at {} cannot be reached: {error}",
            self.address
        ))
    }
}

/// A reply, read to its end: before that the connection could not be used again.
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Result<Bytes, Error>,
}

impl Connection {
    /// Sends a request and reads its reply.
    async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Reply> {
        let Self {
            sender,
            driver,
            ended,
        } = self;
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
        let mut exchange = pin!(exchange);
        poll_fn(|cx| {
            if let Poll::Ready(reply) = exchange.as_mut().poll(cx) {
                return Poll::Ready(reply);
            }
            // Its end is an error for the exchange as well, which says more about it.
            *ended = *ended || driver.as_mut().poll(cx).is_ready();
            // What the connection has just read, without another turn through the scheduler.
            exchange.as_mut().poll(cx)
        })
        .await
    }
}

fn request(host: &HeaderValue, method: Method, uri: Uri, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    let mut headers = HeaderMap::with_capacity(HEADERS);
    headers.insert(HOST, host.clone());
    headers.insert(USER_AGENT, RELEASE);
    *request.headers_mut() = headers;
    request
}

fn uri(path: String) -> Result<Uri, Error> {
    let wrong = |error| Error::Transient(format!("a request cannot be made for this id: {error}"));
    PathAndQuery::from_maybe_shared(Bytes::from(path))
        .map(Uri::from)
        .map_err(wrong)
}

/// What the status of a posted answer means. A refusal of that answer alone is logged.
fn judged(what: &str, status: StatusCode, body: &[u8]) -> Result<(), Error> {
    if status.is_success() {
        return Ok(());
    }
    match refused(what, status, body) {
        fatal @ Error::Fatal(_) => Err(fatal),
        refusal @ Error::Transient(_) => {
            tracing::warn!("{refusal}");
            Ok(())
        }
    }
}

fn refused(what: &str, status: StatusCode, body: &[u8]) -> Error {
    let body = String::from_utf8_lossy(&body[..body.len().min(1024)]);
    let text = format!("{what} was refused with status {}: {body}", status.as_u16());
    match status {
        StatusCode::INTERNAL_SERVER_ERROR => Error::Fatal(text),
        _ => Error::Transient(text),
    }
}

/// Reads an event out of the Runtime API's reply. An empty header means the same as none.
fn received(
    headers: &HeaderMap,
    event: Bytes,
    identity: &FunctionIdentity,
) -> Result<Received, Error> {
    let header = |name: &HeaderName| {
        let value = headers.get(name)?.as_bytes();
        (!value.is_empty()).then(|| String::from_utf8_lossy(value).into_owned())
    };
    let Some(request_id) = header(&REQUEST_ID) else {
        return Err(Error::Transient(
            "an event came without the header Lambda-Runtime-Aws-Request-Id".to_owned(),
        ));
    };
    let deadline = match header(&DEADLINE).and_then(|ms| ms.parse().ok()) {
        Some(unix_ms) => Deadline::at_unix_ms(unix_ms),
        None => Deadline::after(limits::TIMEOUT_MAX),
    };
    let given = |id: &&HeaderValue| !id.is_empty();
    Ok(Received {
        receipt: Receipt {
            request_id: request_id.clone(),
            invocation_id: headers.get(INVOCATION_ID).filter(given).cloned(),
        },
        invocation: Invocation {
            request_id,
            event,
            deadline,
            function_name: identity.name.clone(),
            function_version: identity.version.clone(),
            function_arn: header(&ARN).unwrap_or_default(),
            trace_id: header(&TRACE_ID),
            client_context: header(&CLIENT_CONTEXT),
            identity: header(&IDENTITY),
            tenant_id: header(&TENANT_ID),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn an_empty_header_is_none() {
        let event = received(
            &headers(&[
                ("lambda-runtime-aws-request-id", "r-1"),
                ("lambda-runtime-trace-id", ""),
                ("lambda-runtime-aws-tenant-id", "blue"),
                ("lambda-runtime-invocation-id", "i-1"),
            ]),
            Bytes::from_static(b"null"),
            &FunctionIdentity::default(),
        )
        .unwrap();
        assert_eq!(event.invocation.trace_id, None);
        assert_eq!(event.invocation.tenant_id.as_deref(), Some("blue"));
        assert_eq!(event.receipt.invocation_id.unwrap(), "i-1");
    }

    #[test]
    fn an_odd_reply_is_an_error() {
        assert!(matches!(
            received(
                &HeaderMap::new(),
                Bytes::new(),
                &FunctionIdentity::default()
            ),
            Err(Error::Transient(_))
        ));
        assert!(matches!(
            refused("x", StatusCode::INTERNAL_SERVER_ERROR, b""),
            Error::Fatal(_)
        ));
        assert!(matches!(
            refused("x", StatusCode::NO_CONTENT, b""),
            Error::Transient(_)
        ));
    }
}
