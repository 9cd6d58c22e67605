//! A caller of the local host: one HTTP connection for each call, as from a command line.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Sends a request to `address` (`127.0.0.1:PORT`), and returns the whole response.
pub async fn send(
    address: &str,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Response<Bytes> {
    let (response, connection) = begin(address, method, path, headers, body).await;
    let (head, body) = response.into_parts();
    let body = body
        .collect()
        .await
        .unwrap_or_else(|error| panic!("{path}: {error}"))
        .to_bytes();
    connection.abort();
    Response::from_parts(head, body)
}

/// Sends a request, and returns what begins to come, and the task by whose end the caller goes away.
pub async fn begin(
    address: &str,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> (Response<Incoming>, JoinHandle<hyper::Result<()>>) {
    let socket = TcpStream::connect(address)
        .await
        .unwrap_or_else(|error| panic!("connecting to {address}: {error}"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
        .await
        .expect("a new connection takes a request");
    let connection = tokio::spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("Host", address);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .body(Full::new(body))
        .expect("a test's headers can be sent");
    let response = sender
        .send_request(request)
        .await
        .unwrap_or_else(|error| panic!("{path}: {error}"));
    (response, connection)
}

/// Invokes a function.
pub async fn invoke(
    address: &str,
    function: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Response<Bytes> {
    let path = format!("/2015-03-31/functions/{function}/invocations");
    send(address, Method::POST, &path, headers, body).await
}

/// A header's value; empty if there is none.
pub fn header<'a>(response: &'a Response<Bytes>, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("")
}
