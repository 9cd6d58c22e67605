//! Answers to HTTP requests: a status and headers in front of a body.
//!
//! Promises: what is set is what the host is told. Left to others: the form in which they reach
//! Lambda, which depends on the function's setting `response`.

use crate::bindings::hearth::function::invocation::HttpHead;
use crate::event::{Answer, Encoded};
use crate::failure::Failure;

/// An answer with an HTTP status and headers, for functions behind a function URL or an API.
///
/// The body is anything that can be an answer: what serde can serialize, which is sent as
/// `application/json` unless another `content-type` is set; [`Raw`](crate::Raw) bytes; or a
/// [`Streamed`](crate::Streamed) body.
///
/// With `response = "http-stream"` the status and the headers go out in front of the body, in the
/// form that Lambda streams to a function URL. With `response = "buffered"`, the default, the answer is
/// the JSON document that Lambda takes for an HTTP answer: `{"statusCode", "headers", "cookies",
/// "body", "isBase64Encoded"}`. With `response = "stream"` there is no place for them, and the caller gets
/// an error.
///
/// ```
/// use hearth::{Http, Raw};
///
/// #[hearth::function]
/// async fn handle(_: serde_json::Value) -> Result<Http<Raw>, hearth::Error> {
///     Ok(Http::new(201, Raw(b"made".to_vec()))
///         .header("content-type", "text/plain")
///         .cookie("seen=1; HttpOnly"))
/// }
/// ```
///
/// In the document a body that is UTF-8 is text, and any other is base64, with `isBase64Encoded`.
///
/// # Requests
///
/// They come as an event of JSON, for which the crate `aws_lambda_events` has types: of function URLs
/// `LambdaFunctionUrlRequest` (its feature `lambda_function_urls`), of API Gateway's HTTP APIs
/// `ApiGatewayV2httpRequest` (`apigw`), with the same fields. A whole function:
///
#[doc = concat!("```ignore\n", include_str!("../../tests/guests/examples/web.rs"), "```")]
///
/// ```toml
/// aws_lambda_events = { version = "1", default-features = false, features = ["lambda_function_urls"] }
/// base64 = "0.22"
/// ```
///
/// The local host speaks Lambda's Invoke API and has no function URLs: there the event is written by hand.
///
/// # Errors
///
/// What HTTP, or Lambda, has no form for fails the invocation when the handler has returned. Its caller reads
/// `Function.Error` and what is wrong:
///
/// - a status below 200 or above 599;
/// - a header `set-cookie`: use [`cookie`](Self::cookie), since several of one name are joined;
/// - a name that cannot be a header's;
/// - a value, or a cookie, that cannot be one, such as with a line break;
/// - any `Http` where the setting is `response = "stream"`.
#[derive(Debug)]
pub struct Http<B> {
    head: HttpHead,
    body: B,
}

impl<B: Answer> Http<B> {
    /// An answer with this status, from 200 to 599, and this body. Another status is an
    /// [error](Self#errors) later.
    pub fn new(status: u16, body: B) -> Self {
        let head = HttpHead {
            status,
            headers: Vec::new(),
            cookies: Vec::new(),
        };
        Self { head, body }
    }

    /// The same answer with one more header. Several of one name are joined by commas.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.head.headers.push((name.into(), value.into()));
        self
    }

    /// The same answer with one more cookie: the value of a `set-cookie` header.
    #[must_use]
    pub fn cookie(mut self, cookie: impl Into<String>) -> Self {
        self.head.cookies.push(cookie.into());
        self
    }
}

impl<B: Answer> Answer for Http<B> {
    fn encode(self) -> Result<Encoded, Failure> {
        let mut head = self.head;
        let mut encoded = self.body.encode()?;
        let is_content_type =
            |(name, _): &(String, String)| name.eq_ignore_ascii_case("content-type");
        if let Some(content_type) = encoded.content_type
            && !head.headers.iter().any(is_content_type)
        {
            let header = ("content-type".to_owned(), content_type.to_owned());
            head.headers.push(header);
        }
        encoded.head = Some(head);
        Ok(encoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Raw;

    #[test]
    fn json_says_so_unless_something_else_is_said() {
        let headers = |answer: Encoded| answer.head.expect("it is HTTP").headers;
        let json = Http::new(200, 1).encode().expect("it is JSON");
        let expected = [("content-type".to_owned(), "application/json".to_owned())];
        assert_eq!(headers(json), expected);
        let other = Http::new(200, 1).header("Content-Type", "application/problem+json");
        let other = headers(other.encode().expect("it is JSON"));
        assert_eq!(other[0].1, "application/problem+json");
        assert_eq!(other.len(), 1);
        let raw = Http::new(204, Raw::default())
            .encode()
            .expect("anything goes");
        assert!(headers(raw).is_empty());
    }
}
