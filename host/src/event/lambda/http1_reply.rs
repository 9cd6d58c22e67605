//! The head of a reply in HTTP/1.1, and of a chunk. Pure rules.
//!
//! Promises: what is not whole yet is neither an error nor a reply; two statements about a body's
//! length that differ are an error, and never a guess.

use std::mem::MaybeUninit;
use std::ops::Range;

use http::StatusCode;
use httparse::{ParserConfig, Status};

use super::http1::Lost;
use crate::event::chunk;
use crate::limits;

/// Headers for which there is room in any case.
const HEADERS_USUAL: usize = 64;
const TOO_MANY: &str = "too many headers";

/// The head of a reply.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: Headers,
    pub(super) framing: Framing,
    /// Whether the other side keeps the connection open behind it.
    pub(super) keeps_open: bool,
}

/// The headers of a reply as they came; one that is folded still has its line breaks. They are few, so they are
/// looked through, and not hashed.
#[derive(Debug)]
pub(super) struct Headers {
    head: Box<[u8]>,
    /// Where each name and its value are.
    places: Vec<(Range<usize>, Range<usize>)>,
}

impl Headers {
    /// The values of this name, in whatever case it came, in their order.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let is_of_name =
            move |(given, _): &(&[u8], &[u8])| given.eq_ignore_ascii_case(name.as_bytes());
        self.iter().filter(is_of_name).map(|(_, value)| value)
    }

    /// What these values say, where each may be a list.
    fn words<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let words = |value: &'a [u8]| value.split(|&byte| byte == b',');
        self.all(name).flat_map(words).map(<[u8]>::trim_ascii)
    }

    /// The first value of this name.
    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        let mut all = self.iter();
        let found = all.find(|(given, _)| given.eq_ignore_ascii_case(name.as_bytes()));
        found.map(|(_, value)| value)
    }

    /// All names and values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let pair = |(name, value): &(Range<usize>, Range<usize>)| {
            (&self.head[name.clone()], &self.head[value.clone()])
        };
        self.places.iter().map(pair)
    }
}

/// Where a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(usize),
    /// With the last chunk.
    Chunks,
    /// With the connection.
    Close,
}

/// Reads a head, and says how many bytes it has; none while it is not whole.
pub(super) fn parse(input: &[u8]) -> Result<Option<(Head, usize)>, Lost> {
    match parse_in(&mut [const { MaybeUninit::uninit() }; HEADERS_USUAL], input) {
        Err(Lost::Garbage(TOO_MANY)) => parse_in(
            &mut vec![MaybeUninit::uninit(); limits::API_HEADERS_MAX],
            input,
        ),
        parsed => parsed,
    }
}

fn parse_in<'a>(
    room: &mut [MaybeUninit<httparse::Header<'a>>],
    input: &'a [u8],
) -> Result<Option<(Head, usize)>, Lost> {
    let mut reply = httparse::Response::new(&mut []);
    let parsed = ParserConfig::default()
        .allow_obsolete_multiline_headers_in_responses(true)
        .parse_response_with_uninit_headers(&mut reply, input, room)
        .map_err(|error| match error {
            httparse::Error::TooManyHeaders => Lost::Garbage(TOO_MANY),
            _ => Lost::Garbage("a head that cannot be read"),
        })?;
    let Status::Complete(length) = parsed else {
        return Ok(None);
    };
    let status = reply
        .code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or(Lost::Garbage("an impossible status"))?;
    let place = |part: &[u8]| {
        // An empty one may be anywhere.
        let start = part.as_ptr().addr().wrapping_sub(input.as_ptr().addr());
        if part.is_empty() {
            0..0
        } else {
            start..start + part.len()
        }
    };
    let places = reply.headers.iter();
    let places = places.map(|header| (place(header.name.as_bytes()), place(header.value)));
    let headers = Headers {
        places: places.collect(),
        head: input[..length].into(),
    };
    let head = Head {
        status,
        framing: framing(status, &headers)?,
        keeps_open: keeps_open(reply.version == Some(1), &headers),
        headers,
    };
    Ok(Some((head, length)))
}

/// Reads the head of a chunk: how many bytes that has, and how many the chunk itself; none while it
/// is not whole.
pub(super) fn parse_chunk(input: &[u8]) -> Result<Option<(usize, usize)>, Lost> {
    chunk::head(input).map_err(|_| Lost::Garbage("a chunk that cannot be read"))
}

fn framing(status: StatusCode, headers: &Headers) -> Result<Framing, Lost> {
    if status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
    {
        return Ok(Framing::Length(0));
    }
    // That was how a body was said to be as it is, in an older version.
    let mut codings = headers
        .words("transfer-encoding")
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"));
    if let Some(coding) = codings.next() {
        // By anything else a body ends with the connection, but its bytes would not be the body's.
        return match coding.eq_ignore_ascii_case(b"chunked") && codings.next().is_none() {
            true => Ok(Framing::Chunks),
            false => Err(Lost::Garbage("an unknown transfer encoding")),
        };
    }
    let mut lengths = headers.words("content-length");
    let Some(first) = lengths.next() else {
        return Ok(Framing::Close);
    };
    let length = std::str::from_utf8(first)
        .ok()
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok());
    match length {
        Some(length) if lengths.all(|other| other == first) => Ok(Framing::Length(length)),
        _ => Err(Lost::Garbage("a length that cannot be read")),
    }
}

fn keeps_open(is_1_1: bool, headers: &Headers) -> bool {
    let says = |word: &str| {
        let mut words = headers.words("connection");
        words.any(|given| given.eq_ignore_ascii_case(word.as_bytes()))
    };
    // Most replies say nothing of it.
    match headers.get("connection") {
        Some(_) if is_1_1 => !says("close"),
        Some(_) => says("keep-alive"),
        None => is_1_1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        let (head, length) = parse(text.as_bytes()).unwrap().expect("it is whole");
        assert_eq!(length, text.len());
        head
    }

    #[test]
    fn a_head_is_read_once_all_of_it_is_there() {
        let whole = "HTTP/1.1 200 OK\r\nLambda-Runtime-Trace-Id: t\r\nContent-Length: 3\r\n\r\n";
        for end in 0..whole.len() {
            assert!(parse(&whole.as_bytes()[..end]).unwrap().is_none(), "{end}");
        }
        let (head, length) = parse(format!("{whole}abc").as_bytes()).unwrap().unwrap();
        assert_eq!((head.status, length), (StatusCode::OK, whole.len()));
        assert_eq!(head.headers.get("lambda-runtime-trace-id"), Some(&b"t"[..]));
        assert_eq!(head.headers.get("lambda-runtime"), None);
        assert_eq!(head.framing, Framing::Length(3));
        assert!(head.keeps_open);
    }

    #[test]
    fn the_end_of_a_body_is_told_in_one_of_three_ways() {
        for (headers, expected) in [
            ("", Framing::Close),
            ("Content-Length: 0\r\n", Framing::Length(0)),
            (
                "Content-Length: 7\r\nContent-Length: 7\r\n",
                Framing::Length(7),
            ),
            ("Content-Length: 7, 7\r\n", Framing::Length(7)),
            ("Transfer-Encoding: Chunked\r\n", Framing::Chunks),
            ("Transfer-Encoding: identity, chunked\r\n", Framing::Chunks),
            ("Transfer-Encoding: identity\r\n", Framing::Close),
            (
                "Transfer-Encoding: identity\r\nContent-Length: 7\r\n",
                Framing::Length(7),
            ),
            (
                "Content-Length: 7\r\nTransfer-Encoding: chunked\r\n",
                Framing::Chunks,
            ),
        ] {
            let head = head(&format!("HTTP/1.1 202 Accepted\r\n{headers}\r\n"));
            assert_eq!(head.framing, expected, "{headers}");
        }
        for status in ["100 Continue", "204 No Content"] {
            assert_eq!(
                head(&format!("HTTP/1.1 {status}\r\n\r\n")).framing,
                Framing::Length(0)
            );
        }
    }

    #[test]
    fn a_reply_may_have_many_headers_and_folded_ones() {
        let many = "X: y\r\n".repeat(limits::API_HEADERS_MAX - 1);
        let head = head(&format!(
            "HTTP/1.1 200 OK\r\n{many}Folded: a\r\n\t b\r\n\r\n"
        ));
        assert_eq!(head.headers.iter().count(), limits::API_HEADERS_MAX);
        assert_eq!(head.headers.get("folded"), Some(&b"a\r\n\t b"[..]));
    }

    #[test]
    fn a_connection_is_kept_unless_the_other_side_says_or_is_older() {
        for (version, headers, expected) in [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: x, Close\r\n", false),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
        ] {
            let head = head(&format!("HTTP/{version} 200 OK\r\n{headers}\r\n"));
            assert_eq!(head.keeps_open, expected, "{version} {headers}");
        }
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        let many = "X: y\r\n".repeat(limits::API_HEADERS_MAX + 1);
        for text in [
            "SSH-2.0-OpenSSH_9.2\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1,\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 099 Odd\r\n\r\n",
            &format!("HTTP/1.1 200 OK\r\n{many}\r\n"),
        ] {
            assert!(
                matches!(parse(text.as_bytes()), Err(Lost::Garbage(_))),
                "{text}"
            );
        }
        for head in ["zz\r\n", "\r\n", ";x\r\n"] {
            assert!(parse_chunk(head.as_bytes()).is_err(), "{head:?}");
        }
        assert!(matches!(parse_chunk(b"1a\r\nx"), Ok(Some((4, 26)))));
        assert!(matches!(parse_chunk(b"1"), Ok(None)));
    }
}
