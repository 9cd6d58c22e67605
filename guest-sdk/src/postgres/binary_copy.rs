//! `COPY … (FORMAT binary)`: many rows of typed values, without text in between.
//!
//! Promises: memory for one piece at a time; bytes that are no such format are an error. Left to others:
//! the copy itself ([`CopyIn`], [`CopyOut`]).

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use postgres_types::{BorrowToSql, ToSql, Type};

use super::cells::{self, Batch};
use super::copy::{CopyIn, CopyOut};
use super::error::{Error, Kind};
use super::row::Row;
use super::statement::Statement;
use crate::bindings::hearth::postgres::client as wire;

/// What the format begins with: its signature, no flags, no extension.
const HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with: a row of -1 values.
const TAIL: &[u8] = &[0xff, 0xff];
const SIGNATURE_BYTES: usize = 11;
/// Where a header's length of its extension stands.
const EXTENSION_AT: usize = 15;
/// How much is collected before it is sent, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// Sends rows to a `COPY … FROM STDIN (FORMAT binary)`.
///
/// ```
/// use hearth::postgres::types::Type;
/// use hearth::postgres::{BinaryCopyInWriter, Client, Error};
///
/// async fn store(db: &Client, stock: &[(String, i32)]) -> Result<u64, Error> {
///     let copy = db.copy_in("COPY product (sku, stock) FROM STDIN (FORMAT binary)").await?;
///     let mut writer = BinaryCopyInWriter::new(copy, &[Type::TEXT, Type::INT4]);
///     for (sku, stock) in stock {
///         writer.write(&[sku, stock]).await?;
///     }
///     writer.finish().await
/// }
/// ```
#[must_use = "nothing is copied without `finish`"]
pub struct BinaryCopyInWriter {
    copy: CopyIn,
    types: Vec<Type>,
    pending: Vec<u8>,
    rows: usize,
}

impl BinaryCopyInWriter {
    /// For a copy whose columns have these types. They must be those of the table, since nothing is
    /// converted: [`Client::prepare`](super::Client::prepare) tells which those are, also of types that
    /// PostgreSQL does not build in.
    pub fn new(copy: CopyIn, types: &[Type]) -> Self {
        Self {
            copy,
            types: types.to_vec(),
            pending: HEAD.to_vec(),
            rows: 0,
        }
    }

    /// Adds a row. Fails, without harm to the rows before, if a value does not fit its column's type or
    /// their number is another.
    pub async fn write(&mut self, values: &[&(dyn ToSql + Sync)]) -> Result<(), Error> {
        self.write_all(values).await
    }

    /// As [`write`](Self::write), with anything that iterates over values.
    pub async fn write_raw<P, I>(&mut self, values: I) -> Result<(), Error>
    where
        P: BorrowToSql,
        I: IntoIterator<Item = P>,
    {
        let values: Vec<P> = values.into_iter().collect();
        self.write_all(&values).await
    }

    async fn write_all<P: BorrowToSql>(&mut self, values: &[P]) -> Result<(), Error> {
        let cells = cells::encode(values, &self.types)
            .map_err(|error| error.of_copied_row(self.rows + 1))?;
        self.rows += 1;
        // No table has as many columns as 15 bits can count.
        let count = values.len() as i16;
        self.pending.extend_from_slice(&count.to_be_bytes());
        self.pending.extend_from_slice(&cells);
        match self.pending.len() < PIECE_BYTES {
            true => Ok(()),
            false => self.copy.write(std::mem::take(&mut self.pending)).await,
        }
    }

    /// Ends the copy and returns how many rows were copied.
    pub async fn finish(mut self) -> Result<u64, Error> {
        self.pending.extend_from_slice(TAIL);
        self.copy.write(self.pending).await?;
        self.copy.finish().await
    }
}

impl fmt::Debug for BinaryCopyInWriter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("BinaryCopyInWriter")
            .field("types", &self.types)
            .finish_non_exhaustive()
    }
}

/// Reads rows from a `COPY … TO STDOUT (FORMAT binary)`. It is a [`Stream`] and `Unpin`.
///
/// ```
/// use hearth::postgres::types::Type;
/// use hearth::postgres::{BinaryCopyOutStream, Client, Error};
///
/// async fn total(db: &Client) -> Result<i64, Error> {
///     let copy = db.copy_out("COPY product (sku, stock) TO STDOUT (FORMAT binary)").await?;
///     let mut rows = BinaryCopyOutStream::new(copy, &[Type::TEXT, Type::INT4]);
///     let mut total = 0;
///     while let Some(row) = rows.try_next().await? {
///         total += i64::from(row.get::<_, i32>(1));
///     }
///     Ok(total)
/// }
/// ```
pub struct BinaryCopyOutStream {
    copy: CopyOut,
    statement: Statement,
    /// What has arrived and is no whole row yet.
    pending: Vec<u8>,
    has_begun: bool,
    has_ended: bool,
    rows: std::vec::IntoIter<Row>,
}

impl BinaryCopyOutStream {
    /// For a copy whose columns have these types. They must be those of the table: nothing is converted,
    /// and nothing tells. The columns of the rows are named `column1`, `column2` and so on.
    pub fn new(copy: CopyOut, types: &[Type]) -> Self {
        Self {
            copy,
            statement: Statement::of_columns(types),
            pending: Vec::new(),
            has_begun: false,
            has_ended: false,
            rows: Vec::new().into_iter(),
        }
    }

    /// The next row, `None` after the last. An error is the end, too.
    pub async fn try_next(&mut self) -> Result<Option<Row>, Error> {
        std::future::poll_fn(|cx| self.poll_row(cx))
            .await
            .transpose()
    }

    fn poll_row(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Row, Error>>> {
        let failed = loop {
            if let Some(row) = self.rows.next() {
                return Poll::Ready(Some(Ok(row)));
            }
            let error = match std::task::ready!(self.copy.poll_piece(cx)) {
                Some(Ok(bytes)) => {
                    self.pending.extend_from_slice(&bytes);
                    self.take_rows().err()
                }
                None if self.has_ended => return Poll::Ready(None),
                None => Some(malformed("it has no end")),
                Some(Err(error)) => Some(error),
            };
            if let Some(error) = error {
                break error;
            }
        };
        // Nothing follows an error.
        self.copy.stop();
        self.has_ended = true;
        Poll::Ready(Some(Err(failed)))
    }

    /// Takes what has arrived whole.
    fn take_rows(&mut self) -> Result<(), Error> {
        let mut rest = &self.pending[..];
        if !self.has_begun {
            match behind_head(rest)? {
                Some(behind) => rest = behind,
                None => return Ok(()),
            }
            self.has_begun = true;
        }
        let columns = self.statement.columns().len();
        let (mut cells, mut rows) = (Vec::with_capacity(rest.len()), 0);
        while !self.has_ended
            && let Some((row, behind)) = first_row(rest, columns)?
        {
            rest = behind;
            match row {
                Some(row) => {
                    cells.extend_from_slice(row);
                    rows += 1;
                }
                None => self.has_ended = true,
            }
        }
        if self.has_ended && !rest.is_empty() {
            return Err(malformed("something follows its end"));
        }
        self.pending = rest.to_vec();
        let last = self.has_ended;
        let affected = 0;
        let batch = wire::Batch {
            rows,
            cells,
            last,
            affected,
        };
        let batch = Batch::parse(batch, columns)?;
        self.rows = Row::all(&self.statement, batch).into_iter();
        Ok(())
    }
}

impl Stream for BinaryCopyOutStream {
    type Item = Result<Row, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_row(cx)
    }
}

impl fmt::Debug for BinaryCopyOutStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("BinaryCopyOutStream")
            .field("columns", &self.statement.columns())
            .finish_non_exhaustive()
    }
}

fn malformed(what: &str) -> Error {
    Error::malformed(format!(
        "the data of the copy are not in binary format: {what}"
    ))
}

/// Of what the function asked for, or said that it did.
fn misread(what: &str) -> Error {
    Error::new(Kind::CopiedOut(what.to_owned()))
}

/// What stands behind the header, once that is there.
fn behind_head(bytes: &[u8]) -> Result<Option<&[u8]>, Error> {
    let signature = &HEAD[..SIGNATURE_BYTES];
    if !bytes.starts_with(signature) {
        return match signature.starts_with(bytes) {
            true => Ok(None),
            false => Err(misread(
                "its data are not in binary format: the statement must say `(FORMAT binary)`",
            )),
        };
    }
    let Some(extension) = bytes.get(EXTENSION_AT..HEAD.len()) else {
        return Ok(None);
    };
    let length = extension
        .iter()
        .fold(0, |length, byte| (length << 8) | usize::from(*byte));
    Ok(bytes
        .get(HEAD.len()..)
        .and_then(|bytes| bytes.get(length..)))
}

/// The cells of the first row, none at the end of all; and what stands behind it. None if not all of it
/// is there.
#[expect(clippy::type_complexity, reason = "a cut has two sides")]
fn first_row(bytes: &[u8], columns: usize) -> Result<Option<(Option<&[u8]>, &[u8])>, Error> {
    let Some((count, body)) = bytes.split_first_chunk() else {
        return Ok(None);
    };
    match i16::from_be_bytes(*count) {
        -1 => return Ok(Some((None, body))),
        count if usize::try_from(count) == Ok(columns) => {}
        count => {
            return Err(misread(&format!(
                "it has rows of {count} columns, and {columns} types were given"
            )));
        }
    }
    let mut rest = body;
    for _ in 0..columns {
        let Some((length, behind)) = rest.split_first_chunk() else {
            return Ok(None);
        };
        // A negative one is NULL, or else not accepted later.
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
        match behind.get(length..) {
            Some(behind) => rest = behind,
            None => return Ok(None),
        }
    }
    let (row, behind) = body.split_at(body.len() - rest.len());
    Ok(Some((Some(row), behind)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_however_it_is_cut() {
        let mut bytes = HEAD.to_vec();
        bytes[HEAD.len() - 1] = 2;
        bytes.extend_from_slice(b"xyrest");
        for cut in 0..HEAD.len() + 2 {
            assert_eq!(
                behind_head(&bytes[..cut]).expect("it may go on"),
                None,
                "{cut}"
            );
        }
        let behind = behind_head(&bytes).expect("it is whole");
        assert_eq!(behind, Some(&b"rest"[..]));
        let error = behind_head(b"1\tone\n").expect_err("it is text");
        assert!(error.to_string().contains("(FORMAT binary)"), "{error}");
    }

    #[test]
    fn a_row_is_read_however_it_is_cut() {
        let bytes = b"\0\x02\0\0\0\x01a\xff\xff\xff\xff\xff\xff";
        for cut in 0..11 {
            let row = first_row(&bytes[..cut], 2).expect("it may go on");
            assert_eq!(row, None, "{cut}");
        }
        let (row, behind) = first_row(bytes, 2)
            .expect("it is whole")
            .expect("it is there");
        assert_eq!(row, Some(&bytes[2..11]));
        assert_eq!(
            first_row(behind, 2).expect("it is the end"),
            Some((None, &b""[..]))
        );
        let error = first_row(bytes, 3).expect_err("it has two columns");
        assert!(
            error.to_string().contains("2 columns, and 3 types"),
            "{error}"
        );
    }
}
