//! An HTTP status and headers in the two forms that Lambda takes, as pure rules.
//!
//! Promises: whatever Lambda would answer with an error of its own is refused here, by its name.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;

use crate::fault::{Fault, Kind};
use crate::interface::bindings::hearth::function::invocation::HttpHead;

/// What stands between the head and the body of a stream.
static SEPARATOR: [u8; 8] = [0; 8];

/// The head as Lambda reads it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    status_code: u16,
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cookies: Option<&'a [String]>,
}

/// The document of an answer that goes out whole.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    body: String,
    is_base64_encoded: bool,
}

/// The beginning of a stream, in two pieces, since some readers take all that comes in the first for the head.
/// They expect a list of cookies even if it is empty. Where the function says nothing, the status is 200.
pub(super) fn beginning(head: Option<&HttpHead>, content_type: &str) -> Result<[Bytes; 2], Fault> {
    let assumed = HttpHead {
        status: 200,
        headers: vec![("content-type".to_owned(), content_type.to_owned())],
        cookies: Vec::new(),
    };
    let mut head = checked(head.unwrap_or(&assumed))?;
    head.cookies.get_or_insert_default();
    Ok([json(&head)?.into(), Bytes::from_static(&SEPARATOR)])
}

/// The whole answer, as a document.
pub(super) fn document(head: &HttpHead, body: &[u8]) -> Result<Bytes, Fault> {
    let (body, is_base64_encoded) = match std::str::from_utf8(body) {
        Ok(text) => (text.to_owned(), false),
        Err(_) => (BASE64_STANDARD.encode(body), true),
    };
    let head = checked(head)?;
    let document = Document {
        head,
        body,
        is_base64_encoded,
    };
    Ok(json(&document)?.into())
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(value).map_err(|error| wrong(format!("cannot be written: {error}")))
}

fn checked(head: &HttpHead) -> Result<Head<'_>, Fault> {
    // A status below 200 is no answer, but announces one.
    if !(200..600).contains(&head.status) || StatusCode::from_u16(head.status).is_err() {
        return Err(wrong(format!(
            "has the status {}; expected one from 200 to 599",
            head.status
        )));
    }
    let mut headers = BTreeMap::<String, String>::new();
    for (name, value) in &head.headers {
        let name = match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) if name == http::header::SET_COOKIE => {
                return Err(wrong(
                    "has a header set-cookie; give it as a cookie instead".to_owned(),
                ));
            }
            Ok(name) => name.as_str().to_owned(),
            Err(_) => {
                return Err(wrong(format!(
                    "has a header {name:?}, which is no name for one"
                )));
            }
        };
        valid(&name, value)?;
        headers
            .entry(name)
            .and_modify(|values| {
                values.push_str(", ");
                values.push_str(value);
            })
            .or_insert_with(|| value.clone());
    }
    for cookie in &head.cookies {
        valid("set-cookie", cookie)?;
    }
    Ok(Head {
        status_code: head.status,
        headers,
        cookies: (!head.cookies.is_empty()).then_some(&head.cookies),
    })
}

fn valid(name: &str, value: &str) -> Result<(), Fault> {
    match HeaderValue::from_str(value) {
        Ok(_) => Ok(()),
        Err(_) => Err(wrong(format!(
            "has a header {name} whose value is none: {value:?}"
        ))),
    }
}

fn wrong(problem: String) -> Fault {
    Fault::new(Kind::Failed, format!("the HTTP answer {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, headers: &[(&str, &str)], cookies: &[&str]) -> HttpHead {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        HttpHead {
            status,
            headers: headers.iter().map(owned).collect(),
            cookies: cookies.iter().map(|cookie| (*cookie).to_owned()).collect(),
        }
    }

    #[test]
    fn a_stream_begins_with_its_head_and_eight_zeros() {
        let head = head(
            201,
            &[("Vary", "a"), ("content-type", "text/plain"), ("vary", "b")],
            &["c=1"],
        );
        let expected = r#"{"statusCode":201,"headers":{"content-type":"text/plain","vary":"a, b"},"cookies":["c=1"]}"#;
        let zeros = &[0; 8][..];
        assert_eq!(
            beginning(Some(&head), "x/y").unwrap(),
            [expected.as_bytes(), zeros]
        );
        let expected = r#"{"statusCode":200,"headers":{"content-type":"x/y"},"cookies":[]}"#;
        assert_eq!(
            beginning(None, "x/y").unwrap(),
            [expected.as_bytes(), zeros]
        );
    }

    #[test]
    fn a_document_holds_text_or_base64() {
        let head = head(204, &[], &[]);
        let expected =
            "{\"statusCode\":204,\"headers\":{},\"body\":\"\u{e4}\",\"isBase64Encoded\":false}";
        assert_eq!(document(&head, "\u{e4}".as_bytes()).unwrap(), expected);
        let expected =
            "{\"statusCode\":204,\"headers\":{},\"body\":\"/w==\",\"isBase64Encoded\":true}";
        assert_eq!(document(&head, &[255]).unwrap(), expected);
    }

    #[test]
    fn what_http_has_no_form_for_is_refused() {
        let cases = [
            (head(99, &[], &[]), "the status 99"),
            (head(101, &[], &[]), "the status 101"),
            (head(600, &[], &[]), "the status 600"),
            (head(200, &[("a b", "c")], &[]), "a header \"a b\""),
            (
                head(200, &[("a", "b\r\nc: d")], &[]),
                "a header a whose value",
            ),
            (
                head(200, &[("Set-Cookie", "a=b")], &[]),
                "as a cookie instead",
            ),
            (head(200, &[], &["a\nb"]), "a header set-cookie"),
        ];
        for (head, expected) in cases {
            let fault = beginning(Some(&head), "x/y").unwrap_err();
            assert!(fault.log.contains(expected), "{}", fault.log);
            assert!(document(&head, b"").is_err());
        }
    }
}
