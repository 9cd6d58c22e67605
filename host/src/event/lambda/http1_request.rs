//! A request in HTTP/1.1, and its head.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::Method;
use http::header::{HeaderName, HeaderValue};

use super::http1_reply::Head;

/// A request.
#[derive(Clone)]
pub(super) struct Request<'a> {
    pub(super) method: Method,
    /// Printable characters only.
    pub(super) path: &'a str,
    /// What it says besides what every one does; some of it only at times.
    pub(super) headers: &'a [Option<(HeaderName, HeaderValue)>],
    pub(super) body: Bytes,
    /// How long to wait for the rest of a reply once its head is there.
    pub(super) rest_timeout: RestTimeout<'a>,
}

/// How long the rest of a reply with this head is waited for.
pub(super) type RestTimeout<'a> = &'a (dyn Fn(&Head) -> Duration + Sync);

/// What every request says to the same other side.
pub(super) struct DefaultHeaders {
    /// What every path begins with; nothing on Lambda itself.
    pub(super) prefix: String,
    pub(super) host: HeaderValue,
    pub(super) user_agent: HeaderValue,
}

impl DefaultHeaders {
    /// Writes the head of a request.
    pub(super) fn encode(&self, request: &Request<'_>, out: &mut BytesMut) {
        out.put_slice(request.method.as_str().as_bytes());
        out.put_slice(b" ");
        out.put_slice(self.prefix.as_bytes());
        out.put_slice(request.path.as_bytes());
        out.put_slice(b" HTTP/1.1\r\nhost: ");
        out.put_slice(self.host.as_bytes());
        out.put_slice(b"\r\nuser-agent: ");
        out.put_slice(self.user_agent.as_bytes());
        for (name, value) in request.headers.iter().flatten() {
            out.put_slice(b"\r\n");
            out.put_slice(name.as_str().as_bytes());
            out.put_slice(b": ");
            out.put_slice(value.as_bytes());
        }
        if request.method != Method::GET {
            // Writing to memory does not fail.
            let _ = write!(out, "\r\ncontent-length: {}", request.body.len());
        }
        out.put_slice(b"\r\n\r\n");
    }
}
