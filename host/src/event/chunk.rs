//! The line before each chunk, as HTTP has it, and `aws-chunked` within HTTP.

use httparse::Status;

/// A line that is not a chunk's size.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// How many bytes the line has, and how many the chunk behind it; none while the line is not whole.
pub(super) fn head(input: &[u8]) -> Result<Option<(usize, usize)>, Broken> {
    match httparse::parse_chunk_size(input) {
        // A line without a digit it takes for the last chunk's.
        Ok(Status::Complete((head, length))) if input[0].is_ascii_hexdigit() => {
            let length = usize::try_from(length).map_err(|_| Broken)?;
            Ok(Some((head, length)))
        }
        Ok(Status::Partial) => Ok(None),
        _ => Err(Broken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_digits_and_may_have_more_behind_them() {
        let cases: [(&[u8], _); 7] = [
            (b"a\r\n", Ok(Some((3, 10)))),
            (b"1f;name=value\r\n...", Ok(Some((15, 31)))),
            (b"0\r\n", Ok(Some((3, 0)))),
            (b"", Ok(None)),
            (b"12", Ok(None)),
            (b"\r\n", Err(Broken)),
            (b"{}\r\n", Err(Broken)),
        ];
        for (input, expected) in cases {
            assert_eq!(head(input), expected, "{input:?}");
        }
    }
}
