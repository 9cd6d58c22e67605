//! Values on their way through: cells in, cells out, never looked into.
//!
//! A cell is a big-endian `i32` length and so many bytes, -1 meaning NULL: what PostgreSQL itself
//! puts into `Bind` and `DataRow`, and what `wit/deps/postgres.wit` calls a cell.

use std::error::Error as StdError;

use bytes::BytesMut;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// One argument, already in PostgreSQL's binary format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argument<'a>(Option<&'a [u8]>);

/// Takes the cells of a call's arguments apart; none if they are cut short or malformed.
pub fn arguments(mut cells: &[u8]) -> Option<Vec<Argument<'_>>> {
    let mut arguments = Vec::new();
    while !cells.is_empty() {
        let (head, rest) = cells.split_first_chunk::<4>()?;
        let length = i32::from_be_bytes(*head);
        if length == -1 {
            arguments.push(Argument(None));
            cells = rest;
            continue;
        }
        let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        arguments.push(Argument(Some(value)));
        cells = rest;
    }
    Some(arguments)
}

impl ToSql for Argument<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match self.0 {
            Some(value) => {
                out.extend_from_slice(value);
                Ok(IsNull::No)
            }
            None => Ok(IsNull::Yes),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// Any value of any type, as it came.
struct Value<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Value<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Appends the cells of a row.
pub fn append_row(row: &Row, cells: &mut Vec<u8>) -> Result<(), tokio_postgres::Error> {
    cells.reserve(row.raw_size_bytes());
    for index in 0..row.len() {
        match row.try_get::<_, Option<Value<'_>>>(index)? {
            Some(Value(value)) => {
                cells.extend_from_slice(&(value.len() as i32).to_be_bytes());
                cells.extend_from_slice(value);
            }
            None => cells.extend_from_slice(&(-1i32).to_be_bytes()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_taken_apart() {
        type Case<'a> = (&'a [u8], Option<Vec<Option<&'a [u8]>>>);
        let cases: [Case<'_>; 6] = [
            (&[], Some(vec![])),
            (&[0xff, 0xff, 0xff, 0xff], Some(vec![None])),
            (&[0, 0, 0, 0], Some(vec![Some(&[])])),
            (
                &[0, 0, 0, 1, 7, 0xff, 0xff, 0xff, 0xff],
                Some(vec![Some(&[7]), None]),
            ),
            (&[0, 0, 0, 2, 7], None),
            (&[0xff, 0xff, 0xff, 0xfe], None),
        ];
        for (cells, expected) in cases {
            let found =
                arguments(cells).map(|found| found.into_iter().map(|a| a.0).collect::<Vec<_>>());
            assert_eq!(found, expected, "{cells:?}");
        }
    }
}
