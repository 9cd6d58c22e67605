//! A payload in the frames of `Content-Encoding: aws-chunked`, in which some of AWS's clients send
//! what they sign or add up while they send it.
//!
//! Promises: the payload comes out of its frames whole, or the caller is told what is wrong with
//! them. Signatures and checksums are not looked at.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::header;
use super::refusal::{ErrorType, Refusal};
use crate::event::chunk;

/// Whether the payload comes in frames.
pub(super) fn is_so(headers: &HeaderMap) -> Result<bool, Refusal> {
    let encodings = header(headers, "content-encoding")?.unwrap_or_default();
    Ok(encodings
        .split(',')
        .any(|encoding| encoding.trim().eq_ignore_ascii_case("aws-chunked")))
}

/// Takes a payload out of its frames. Each begins with a line that has its number of bytes in
/// hexadecimal and, behind a semicolon, what nobody needs here; the last one has none, and trailers
/// behind it.
pub(super) fn unframed(mut framed: &[u8]) -> Result<Bytes, Refusal> {
    let mut payload = BytesMut::new();
    loop {
        let (head, bytes) = chunk::head(framed)
            .map_err(|_| broken("a frame does not begin with its number of bytes"))?
            .ok_or_else(|| broken("it ends in a frame's first line"))?;
        if bytes == 0 {
            return Ok(payload.freeze());
        }
        let (piece, rest) = framed[head..]
            .split_at_checked(bytes)
            .ok_or_else(|| broken("it ends within a frame"))?;
        payload.extend_from_slice(piece);
        framed = rest
            .strip_prefix(b"\r\n")
            .ok_or_else(|| broken("a frame is longer than it says"))?;
    }
}

fn broken(problem: &str) -> Refusal {
    Refusal::new(
        ErrorType::InvalidRequestContent,
        format!("The request body is not aws-chunked, as its Content-Encoding says: {problem}."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_comes_out_of_its_frames() {
        let cases: [(&[u8], &[u8]); 4] = [
            (b"0\r\n\r\n", b""),
            (b"3\r\n\"a\"\r\n0\r\n\r\n", b"\"a\""),
            (
                b"2;chunk-signature=ab\r\n\"\r\r\n1;chunk-signature=cd\r\n\"\r\n0;chunk-signature=ef\r\n\r\n",
                b"\"\r\"",
            ),
            (
                b"A\r\n0123456789\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n",
                b"0123456789",
            ),
        ];
        for (framed, payload) in cases {
            assert_eq!(unframed(framed).unwrap(), payload);
        }
    }

    #[test]
    fn what_is_wrong_with_frames_is_said() {
        let cases: [(&[u8], &str); 8] = [
            (b"", "it ends in a frame's first line"),
            (b"{}\r\n", "a frame does not begin with its number of bytes"),
            (b"-1\r\n", "a frame does not begin with its number of bytes"),
            (b"\r\n", "a frame does not begin with its number of bytes"),
            (
                b"1\r\n1\r\n;signature=ab\r\n\r\n",
                "a frame does not begin with its number of bytes",
            ),
            (b"3\r\n{}", "it ends within a frame"),
            (b"1\r\n{}\r\n0\r\n\r\n", "a frame is longer than it says"),
            (b"2\r\n{}\r\n", "it ends in a frame's first line"),
        ];
        for (framed, problem) in cases {
            let refusal = unframed(framed).unwrap_err();
            assert_eq!(refusal.error_type, ErrorType::InvalidRequestContent);
            assert!(refusal.message.contains(problem), "{}", refusal.message);
        }
    }

    #[test]
    fn frames_are_named_among_the_encodings() {
        let named = |value: &str| {
            let headers = [(http::header::CONTENT_ENCODING, value.parse().unwrap())];
            is_so(&headers.into_iter().collect()).unwrap()
        };
        assert!(named("aws-chunked") && named("gzip, AWS-Chunked"));
        assert!(!named("") && !named("gzip"));
        assert!(!is_so(&HeaderMap::new()).unwrap());
    }
}
