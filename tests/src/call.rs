//! The calls that a host makes to Lambda: what each is, and what came with it.

use std::time::Instant;

use bytes::Bytes;
use hyper::Method;
use hyper::header::HeaderMap;
use percent_encoding::percent_decode_str;

/// What a call to the Runtime API was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// `GET /invocation/next`.
    Next,
    /// `POST /invocation/{id}/response`.
    Response,
    /// `POST /invocation/{id}/error`.
    Error,
    /// `POST /init/error`.
    InitError,
    /// `GET /restore/next`.
    Restore,
    /// `POST /restore/error`.
    RestoreError,
    /// `POST /extension/register`, of the Extensions API.
    Register,
    /// `GET /extension/event/next`, of the Extensions API. Never answered but with an error.
    Wait,
    /// Anything else.
    Other,
}

/// A call to the Runtime API.
#[derive(Debug, Clone)]
pub struct Call {
    /// What it was.
    pub what: What,
    /// The request id in its path, or that of the event it received; empty while there is none.
    pub id: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// When each piece of that came, and how many bytes there were with it.
    pub pieces: Vec<(Instant, usize)>,
    /// What came behind the body.
    pub trailers: HeaderMap,
    /// The status it was answered with.
    pub status: u16,
    /// When it began to arrive.
    pub begun: Instant,
    /// When it was answered.
    pub at: Instant,
}

impl Call {
    /// A header's value; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
    }
}

/// What a call is, and the request id in its path.
pub(crate) fn what(method: &Method, path: &str) -> (What, String) {
    // An emulator may serve many functions, each below a path of its own.
    let path = path.strip_prefix("/.rt/tested").unwrap_or(path);
    let path: Vec<&str> = path.split('/').skip(1).collect();
    let (what, id) = match (method, path.as_slice()) {
        (&Method::GET, ["2018-06-01", "runtime", "invocation", "next"]) => (What::Next, ""),
        (&Method::POST, ["2018-06-01", "runtime", "invocation", id, "response"]) => {
            (What::Response, *id)
        }
        (&Method::POST, ["2018-06-01", "runtime", "invocation", id, "error"]) => (What::Error, *id),
        (&Method::POST, ["2018-06-01", "runtime", "init", "error"]) => (What::InitError, ""),
        (&Method::GET, ["2018-06-01", "runtime", "restore", "next"]) => (What::Restore, ""),
        (&Method::POST, ["2018-06-01", "runtime", "restore", "error"]) => (What::RestoreError, ""),
        (&Method::POST, ["2020-01-01", "extension", "register"]) => (What::Register, ""),
        (&Method::GET, ["2020-01-01", "extension", "event", "next"]) => (What::Wait, ""),
        _ => (What::Other, ""),
    };
    (
        what,
        percent_decode_str(id).decode_utf8_lossy().into_owned(),
    )
}
