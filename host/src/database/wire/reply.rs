//! What the server answers: the bodies of its messages, taken apart.
//!
//! Promises: a body that makes no sense is an error, never a panic.

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{self as tags, Message};

use super::{HEAD_BYTES, Wire};
use crate::database::error::{Error, Result};
use crate::database::server_error::ServerError;
use crate::limits;

/// What `ParameterDescription` and `RowDescription` say of a statement, before its types are known
/// by more than their numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// The parameters' types.
    pub parameters: Vec<u32>,
    /// The result's columns.
    pub columns: Vec<ShapeColumn>,
}

/// One column of a [`Shape`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShapeColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub type_oid: u32,
    /// The table it comes from; 0 if it is computed.
    pub table_oid: u32,
    /// Its number in that table; 0 if it is computed.
    pub number: i16,
    /// The type's modifier; -1 if it has none.
    pub modifier: i32,
}

/// Takes the parameters of the message in front. Too many are an error that leaves the connection as it is: the message
/// is whole, though the number in it, which has 16 bits, is not theirs.
pub fn parameters(wire: &mut Wire, shape: &mut Shape) -> Result<()> {
    let number = wire.body().len().saturating_sub(2) / size_of::<u32>();
    if number > limits::PARAMETERS_MAX {
        return Err(Error::Invalid(format!(
            "the statement has {number} parameters; {} are the most",
            limits::PARAMETERS_MAX
        )));
    }
    let Message::ParameterDescription(body) = wire.take()? else {
        return Err(wire.garbage("no parameters where they were due"));
    };
    shape.parameters = body
        .parameters()
        .collect()
        .map_err(|error| wire.garbage(&error.to_string()))?;
    Ok(())
}

/// Takes the columns of the message in front.
pub fn columns(wire: &mut Wire, shape: &mut Shape) -> Result<()> {
    let Message::RowDescription(body) = wire.take()? else {
        return Err(wire.garbage("no columns where they were due"));
    };
    shape.columns = body
        .fields()
        .map(|field| {
            Ok(ShapeColumn {
                name: field.name().to_owned(),
                type_oid: field.type_oid(),
                table_oid: field.table_oid(),
                number: field.column_id(),
                modifier: field.type_modifier(),
            })
        })
        .collect()
        .map_err(|error| wire.garbage(&error.to_string()))?;
    Ok(())
}

/// Takes the error of the message in front.
pub fn error(wire: &mut Wire) -> Error {
    match wire.take() {
        Ok(Message::ErrorResponse(body)) => {
            Error::Server(Box::new(ServerError::read(body.fields())))
        }
        Ok(_) => wire.garbage("no error where one was due"),
        Err(error) => error,
    }
}

/// The cells of the row in front: its body, but for the number of columns.
pub fn cells(wire: &Wire) -> &[u8] {
    wire.body().get(2..).unwrap_or_default()
}

/// The first cell of the row in front, if it has a text.
pub fn text(wire: &Wire) -> Option<&str> {
    let (length, rest) = cells(wire).split_first_chunk()?;
    let length = usize::try_from(i32::from_be_bytes(*length)).ok()?;
    std::str::from_utf8(rest.get(..length)?).ok()
}

/// The cells of the row that begins there, and where it ends; none if it is no row, or not whole.
pub fn row_at(input: &[u8], start: usize) -> Option<(&[u8], usize)> {
    let rest = input.get(start..)?;
    let (head, _) = rest.split_first_chunk::<HEAD_BYTES>()?;
    let [tags::DATA_ROW_TAG, length @ ..] = *head else {
        return None;
    };
    let end = 1 + usize::try_from(i32::from_be_bytes(length)).ok()?;
    let cells = rest.get(HEAD_BYTES + 2..end)?;
    Some((cells, start + end))
}

/// How many rows the statement that is complete has affected: the last word of its tag.
pub fn affected(wire: &Wire) -> u64 {
    tag(wire)
        .rsplit(' ')
        .next()
        .and_then(|count| count.parse().ok())
        .unwrap_or(0)
}

/// What the server calls the statement that is complete, such as `INSERT 0 1`.
pub fn tag(wire: &Wire) -> &str {
    let body = wire.body();
    std::str::from_utf8(body.strip_suffix(&[0]).unwrap_or(body)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_found_only_if_it_is_whole() {
        let row = b"D\0\0\0\x0b\0\x01\0\0\0\x01x";
        let twice = [&row[..], &row[..], b"C\0\0\0\x04"].concat();
        let cells = &b"\0\0\0\x01x"[..];
        assert_eq!(row_at(&twice, 0), Some((cells, 12)));
        assert_eq!(row_at(&twice, 12), Some((cells, 24)));
        assert_eq!(row_at(&twice, 24), None);
        assert_eq!(row_at(&twice, 99), None);
        for end in 0..row.len() {
            assert_eq!(row_at(&row[..end], 0), None, "{end}");
        }
    }

    #[test]
    fn a_row_of_absurd_length_is_none() {
        for length in [i32::MIN, -1, 0, 4, 5, i32::MAX] {
            let mut row = vec![tags::DATA_ROW_TAG];
            row.extend_from_slice(&length.to_be_bytes());
            row.extend_from_slice(&[0; 16]);
            assert_eq!(row_at(&row, 0), None, "{length}");
        }
        let without_columns = b"D\0\0\0\x06\0\0";
        assert_eq!(row_at(without_columns, 0), Some((&[][..], 7)));
    }
}
