//! Lambda's Runtime API, version 2018-06-01: the next event, its answer, and errors.
//!
//! Promises:
//! - one connection, kept open, and opened anew when the other side has closed it;
//! - waiting for an event has no time limit: the process may be frozen meanwhile;
//! - an answer is posted once, and never followed by an error for the same invocation;
//! - whatever the other side replies is either understood or a clear error, never a panic.
//!
//! Left to others: what to do after an error ([`crate::serve::lambda`]).

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::fault::Fault;
use crate::invocation::{Answer, Deadline, Invocation};
use crate::limits;

const VERSION: &str = "/2018-06-01/runtime";
const USER_AGENT: &str = concat!("hearth/", env!("CARGO_PKG_VERSION"));

/// One slot's connection to the Runtime API.
pub struct RuntimeApi {
    /// `host:port`, as Lambda gives it.
    address: String,
    connection: Option<SendRequest<Full<Bytes>>>,
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
    invocation_id: Option<String>,
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
    pub fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            connection: None,
        }
    }

    /// Waits for the next event.
    pub async fn next(&mut self) -> Result<Received, Error> {
        let request = self.request(
            Method::GET,
            &format!("{VERSION}/invocation/next"),
            &[],
            Bytes::new(),
        )?;
        let response = self.send(request).await?;
        let (head, body) = response.into_parts();
        let body = read(body).await;
        match head.status {
            StatusCode::OK => received(&head.headers, body?),
            status => Err(refused(
                "a request for the next event",
                status,
                &body.unwrap_or_default(),
            )),
        }
    }

    /// Posts the answer of an invocation. A refusal that concerns this invocation alone is logged
    /// and is no error: Lambda has told the caller already.
    pub async fn answer(&mut self, receipt: &Receipt, answer: &Answer) -> Result<(), Error> {
        let kind = if answer.is_ok() { "response" } else { "error" };
        let path = format!("{VERSION}/invocation/{}/{kind}", receipt.request_id);
        let mut headers = vec![("content-type", "application/json")];
        if let Some(id) = &receipt.invocation_id {
            headers.push(("lambda-runtime-invocation-id", id));
        }
        let body = match answer {
            Ok(bytes) => bytes.clone(),
            Err(fault) => {
                headers.push((
                    "lambda-runtime-function-error-type",
                    fault.kind.error_type(),
                ));
                fault.body().into()
            }
        };
        self.post(&path, &headers, body, "an answer").await
    }

    /// Reports that the environment could not be started.
    pub async fn init_error(&mut self, fault: &Fault) -> Result<(), Error> {
        let headers = [
            ("content-type", "application/json"),
            (
                "lambda-runtime-function-error-type",
                fault.kind.error_type(),
            ),
        ];
        self.post(
            &format!("{VERSION}/init/error"),
            &headers,
            fault.body().into(),
            "a failed start",
        )
        .await
    }

    async fn post(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
        what: &str,
    ) -> Result<(), Error> {
        let request = self.request(Method::POST, path, headers, body)?;
        let response = self.send(request).await?;
        let status = response.status();
        // Read to its end, or the connection cannot be used again.
        let body = read(response.into_body()).await.unwrap_or_default();
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::INTERNAL_SERVER_ERROR => Err(refused(what, status, &body)),
            status => {
                tracing::warn!("{}", refused(what, status, &body));
                Ok(())
            }
        }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.address)
            .header("user-agent", USER_AGENT);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request
            .body(Full::new(body))
            .map_err(|error| Error::Transient(format!("a request cannot be made: {error}")))
    }

    /// Sends a request on the open connection; on a new one if that turns out to be closed.
    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Error> {
        if let Some(mut connection) = self.connection.take()
            && connection.ready().await.is_ok()
        {
            match connection.send_request(request.clone()).await {
                Ok(response) => {
                    self.connection = Some(connection);
                    return Ok(response);
                }
                // It was closed while nobody looked. The other side tells a second copy from the
                // first by its id, so nothing is done twice.
                Err(error) => {
                    tracing::debug!(%error, "the connection to the Runtime API was closed")
                }
            }
        }
        let mut connection = self.connect().await?;
        let response = connection.send_request(request).await.map_err(|error| {
            Error::Transient(format!(
                "the Runtime API at {} did not answer: {error}",
                self.address
            ))
        })?;
        self.connection = Some(connection);
        Ok(response)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Error> {
        let failed = |error: &dyn std::fmt::Display| {
            Error::Transient(format!(
                "the Runtime API at {} cannot be reached: {error}",
                self.address
            ))
        };
        let stream = TcpStream::connect(&self.address)
            .await
            .map_err(|error| failed(&error))?;
        stream.set_nodelay(true).map_err(|error| failed(&error))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(&error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the Runtime API ended");
            }
        });
        Ok(sender)
    }
}

async fn read(body: Incoming) -> Result<Bytes, Error> {
    match Limited::new(body, limits::HOST_CALL_BYTES_MAX)
        .collect()
        .await
    {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(Error::Transient(format!(
            "the Runtime API's reply was cut short: {error}"
        ))),
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
fn received(headers: &HeaderMap, event: Bytes) -> Result<Received, Error> {
    let header = |name: &str| {
        let value = headers.get(name)?.as_bytes();
        (!value.is_empty()).then(|| String::from_utf8_lossy(value).into_owned())
    };
    let Some(request_id) = header("lambda-runtime-aws-request-id") else {
        return Err(Error::Transient(
            "an event came without the header Lambda-Runtime-Aws-Request-Id".to_owned(),
        ));
    };
    let deadline = match header("lambda-runtime-deadline-ms").and_then(|ms| ms.parse().ok()) {
        Some(unix_ms) => Deadline::at_unix_ms(unix_ms),
        None => Deadline::after(limits::TIMEOUT_MAX),
    };
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    Ok(Received {
        receipt: Receipt {
            request_id: request_id.clone(),
            invocation_id: header("lambda-runtime-invocation-id"),
        },
        invocation: Invocation {
            request_id,
            event,
            deadline,
            function_name: variable("AWS_LAMBDA_FUNCTION_NAME"),
            function_version: variable("AWS_LAMBDA_FUNCTION_VERSION"),
            function_arn: header("lambda-runtime-invoked-function-arn").unwrap_or_default(),
            trace_id: header("lambda-runtime-trace-id"),
            client_context: header("lambda-runtime-client-context"),
            identity: header("lambda-runtime-cognito-identity"),
            tenant_id: header("lambda-runtime-aws-tenant-id"),
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
        )
        .unwrap();
        assert_eq!(event.invocation.trace_id, None);
        assert_eq!(event.invocation.tenant_id.as_deref(), Some("blue"));
        assert_eq!(event.receipt.invocation_id.as_deref(), Some("i-1"));
    }

    #[test]
    fn an_odd_reply_is_an_error() {
        assert!(matches!(
            received(&HeaderMap::new(), Bytes::new()),
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
