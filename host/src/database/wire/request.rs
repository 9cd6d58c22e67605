//! What is asked of the server: messages of the extended protocol, written one behind another.
//!
//! Promises: arguments pass as the cells that they are, unopened; a request that cannot be written
//! is refused whole, and nothing of it stays in the buffer.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use postgres_protocol::message::frontend;

use crate::database::error::{Error, Result};
use crate::limits;

/// A statement of the host's own that goes before a guest's, in the same flush. Its rows are dropped. It is the same
/// for many requests, and so costs little to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The SQL text.
    pub sql: Arc<str>,
    /// The arguments, as text.
    pub arguments: Arc<[Option<String>]>,
}

impl Command {
    /// A statement without arguments.
    pub fn new(sql: impl Into<Arc<str>>) -> Self {
        Self {
            sql: sql.into(),
            arguments: Arc::default(),
        }
    }

    /// The arguments that are not NULL.
    pub fn texts(&self) -> Vec<&str> {
        self.arguments
            .iter()
            .flatten()
            .map(String::as_str)
            .collect()
    }

    /// Parses, binds and executes it without a name, so that nothing of it stays on the server.
    pub fn write(&self, out: &mut BytesMut) -> Result<()> {
        parse("", &self.sql, &[], out)?;
        self.write_again(out)
    }

    /// Binds and executes it once more, where nothing else was parsed without a name since.
    pub fn write_again(&self, out: &mut BytesMut) -> Result<()> {
        let mut cells = Vec::new();
        for argument in self.arguments.iter() {
            match argument {
                Some(text) => {
                    cells.extend_from_slice(&(text.len() as i32).to_be_bytes());
                    cells.extend_from_slice(text.as_bytes());
                }
                None => cells.extend_from_slice(&(-1_i32).to_be_bytes()),
            }
        }
        let text = Formats::All(Format::Text);
        bind("", "", &text, &cells, &text, out)?;
        execute("", 0, out)
    }
}

/// How a value travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// As PostgreSQL's text.
    Text = 0,
    /// As the type's own bytes.
    Binary = 1,
}

/// The formats of a statement's arguments or columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Formats {
    /// All alike.
    All(Format),
    /// One by one.
    Each(Vec<Format>),
}

impl Formats {
    /// Those of values of which some may have to travel as text.
    pub fn of(texts: impl Iterator<Item = bool>) -> Self {
        let formats: Vec<Format> = texts
            .map(|text| if text { Format::Text } else { Format::Binary })
            .collect();
        if formats.contains(&Format::Text) {
            Self::Each(formats)
        } else {
            Self::All(Format::Binary)
        }
    }

    /// That of one value.
    pub fn get(&self, index: usize) -> Format {
        match self {
            Self::All(format) => *format,
            Self::Each(formats) => formats.get(index).copied().unwrap_or(Format::Binary),
        }
    }

    fn write(&self, out: &mut BytesMut) {
        match self {
            Self::All(format) => {
                out.put_u16(1);
                out.put_u16(*format as u16);
            }
            Self::Each(formats) => {
                // No more than there are parameters or columns, which the server counts in 16 bits.
                out.put_u16(formats.len() as u16);
                formats
                    .iter()
                    .for_each(|format| out.put_u16(*format as u16));
            }
        }
    }
}

/// How many cells there are; none if they are cut short or malformed.
pub fn count(mut cells: &[u8]) -> Option<usize> {
    let mut count = 0;
    while !cells.is_empty() {
        let (head, rest) = cells.split_first_chunk::<4>()?;
        let length = i32::from_be_bytes(*head);
        cells = match length {
            -1 => rest,
            length => rest.get(usize::try_from(length).ok()?..)?,
        };
        count += 1;
    }
    Some(count)
}

/// The error that malformed arguments are.
pub fn not_whole() -> Error {
    Error::Invalid("the arguments are not whole cells".to_owned())
}

/// Parses a statement; `types` by number, 0 being the server's choice.
pub fn parse(name: &str, sql: &str, types: &[u32], out: &mut BytesMut) -> Result<()> {
    let start = out.len();
    frontend::parse(name, sql, types.iter().copied(), out).map_err(|error| {
        out.truncate(start);
        Error::Invalid(format!("the statement cannot be sent: {error}"))
    })
}

/// Asks for a statement's parameters and columns.
pub fn describe(name: &str, out: &mut BytesMut) -> Result<()> {
    frontend::describe(b'S', name, out).map_err(unnameable)
}

/// Binds arguments, given as cells.
pub fn bind(
    portal: &str,
    name: &str,
    formats: &Formats,
    cells: &[u8],
    columns: &Formats,
    out: &mut BytesMut,
) -> Result<()> {
    let arguments = count(cells).ok_or_else(not_whole)?;
    if arguments > limits::PARAMETERS_MAX {
        return Err(Error::Invalid(format!(
            "{arguments} arguments are given; {} are the most",
            limits::PARAMETERS_MAX
        )));
    }
    let start = out.len();
    out.reserve(cells.len() + portal.len() + name.len() + 32);
    out.put_u8(b'B');
    out.put_i32(0);
    for text in [portal, name] {
        out.put_slice(text.as_bytes());
        out.put_u8(0);
    }
    formats.write(out);
    out.put_u16(arguments as u16);
    out.put_slice(cells);
    columns.write(out);
    // Cells come from one host call, which is far below what 31 bits can count.
    let length = (out.len() - start - 1) as i32;
    out[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// Executes a portal, for at most so many rows; 0 means all.
pub fn execute(portal: &str, rows_max: u32, out: &mut BytesMut) -> Result<()> {
    let rows_max = i32::try_from(rows_max).unwrap_or(i32::MAX);
    frontend::execute(portal, rows_max, out).map_err(unnameable)
}

/// Forgets a prepared statement on the server; one that is not there does no harm.
pub fn close_statement(name: &str, out: &mut BytesMut) -> Result<()> {
    frontend::close(b'S', name, out).map_err(unnameable)
}

/// Forgets a portal on the server; one that is not there does no harm.
pub fn close_portal(name: &str, out: &mut BytesMut) -> Result<()> {
    frontend::close(b'P', name, out).map_err(unnameable)
}

fn unnameable(error: std::io::Error) -> Error {
    Error::Protocol(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_cells_are_counted_and_others_refused() {
        assert_eq!(count(&[]), Some(0));
        assert_eq!(
            count(&[0, 0, 0, 2, 7, 8, 255, 255, 255, 255, 0, 0, 0, 0]),
            Some(3)
        );
        for cut in [&[0, 0, 0, 2, 7][..], &[0, 0, 0], &[255, 255, 255, 254]] {
            assert_eq!(count(cut), None, "{cut:?}");
        }
    }

    #[test]
    fn cells_pass_unopened() {
        let mut out = BytesMut::new();
        let cells = [0, 0, 0, 1, 9];
        let formats = Formats::of([false].into_iter());
        let columns = Formats::of([false, true].into_iter());
        bind("p", "s", &formats, &cells, &columns, &mut out).expect("it is whole");
        let expected = b"B\0\0\0\x19p\0s\0\0\x01\0\x01\0\x01\0\0\0\x01\x09\0\x02\0\x01\0\0";
        assert_eq!(&out[..], &expected[..]);
    }

    #[test]
    fn a_statement_with_a_zero_byte_leaves_nothing_behind() {
        let mut out = BytesMut::from(&b"before"[..]);
        assert!(parse("", "select '\0'", &[], &mut out).is_err());
        assert_eq!(&out[..], b"before");
    }
}
