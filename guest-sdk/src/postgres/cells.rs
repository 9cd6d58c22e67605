//! Values on their way: arguments into bytes, and bytes into rows of cells.
//!
//! For each value a big-endian signed 32-bit length and so many bytes; length -1 means NULL.
//!
//! Promises: bytes that are not so are an error, never a panic, and take no more memory than they
//! have themselves. Left to others: what is in a cell ([`super::row`], `postgres-types`).

use bytes::BytesMut;
use postgres_types::{BorrowToSql, IsNull, Type};

use super::error::{Error, Kind};
use crate::bindings::hearth::postgres::client as wire;

/// Parameters of one statement: PostgreSQL's own limit.
const PARAMETERS_MAX: usize = 65_535;
/// What the SQL, the named types and the arguments of one call may have together, in bytes, be it for one
/// statement or several. The host takes somewhat
/// more; beyond that, it ends the instance.
const CALL_BYTES_MAX: usize = 15 * 1024 * 1024;

const LENGTH_BYTES: usize = 4;
const NULL: i32 = -1;
/// What a cell has room for before anything is known of it, in bytes.
const CELL_BYTES: usize = 16;

/// SQL text on its way to the host, unless it is too large for a call.
pub(super) fn sql(text: &str) -> Result<String, Error> {
    if text.len() > CALL_BYTES_MAX {
        return Err(Error::new(Kind::Invalid(format!(
            "the SQL text has {} bytes, and one call carries at most {CALL_BYTES_MAX}",
            text.len()
        ))));
    }
    Ok(text.to_owned())
}

/// Refuses what is too large for one call.
pub(super) fn within_a_call(bytes: usize) -> Result<(), Error> {
    match bytes <= CALL_BYTES_MAX {
        true => Ok(()),
        false => Err(Error::new(Kind::Invalid(format!(
            "SQL text and parameters have {bytes} bytes up to here, and one call carries at most {CALL_BYTES_MAX}"
        )))),
    }
}

/// Refuses more parameters than a statement can have: before the server is asked about one, which counts them in 16
/// bits and so loses count.
pub(super) fn within_a_statement(parameters: usize) -> Result<(), Error> {
    match parameters <= PARAMETERS_MAX {
        true => Ok(()),
        false => Err(Error::new(Kind::Invalid(format!(
            "{parameters} parameters are given, and PostgreSQL takes at most {PARAMETERS_MAX}: pass arrays \
             and `unnest` them"
        )))),
    }
}

/// The cells of `arguments`, encoded for `types`.
pub(super) fn encode<P: BorrowToSql>(arguments: &[P], types: &[Type]) -> Result<Vec<u8>, Error> {
    if arguments.len() != types.len() {
        return Err(Error::new(Kind::Parameters {
            expected: types.len(),
            given: arguments.len(),
        }));
    }
    let mut cells = BytesMut::with_capacity(arguments.len() * CELL_BYTES);
    for (index, (argument, type_)) in arguments.iter().zip(types).enumerate() {
        let before = cells.len();
        encode_cell(argument, type_, &mut cells).map_err(|cause| {
            let type_ = type_.clone();
            Error::caused(Kind::ToSql { index, type_ }, cause)
        })?;
        if cells.len() > CALL_BYTES_MAX {
            return Err(too_large(index, cells.len() - before, before));
        }
    }
    Ok(cells.into())
}

fn encode_cell<P: BorrowToSql>(
    argument: &P,
    type_: &Type,
    cells: &mut BytesMut,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let start = cells.len();
    cells.extend_from_slice(&NULL.to_be_bytes());
    match argument.borrow_to_sql().to_sql_checked(type_, cells)? {
        IsNull::Yes => cells.truncate(start + LENGTH_BYTES),
        IsNull::No => {
            // What this cannot count is far too large for a call, which is refused.
            let length = (cells.len() - start - LENGTH_BYTES) as i32;
            cells[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        }
    }
    Ok(())
}

fn too_large(index: usize, bytes: usize, before: usize) -> Error {
    Error::new(Kind::Invalid(format!(
        "parameter ${} has {} bytes, those before it {before}, and one call carries at most {CALL_BYTES_MAX}",
        index + 1,
        bytes - LENGTH_BYTES,
    )))
}

/// Where a value is among the cells. Small, since there is one for each.
#[derive(Clone, Copy)]
struct Place {
    start: u32,
    /// Or `NULL`.
    length: i32,
}

/// Some rows, in the bytes in which they came.
pub(super) struct Batch {
    cells: Vec<u8>,
    /// Where the values are, row by row.
    values: Vec<Place>,
    columns: usize,
    rows: usize,
    affected: u64,
}

impl Batch {
    /// Finds the cells of a batch whose rows have this many columns.
    pub(super) fn parse(batch: wire::Batch, columns: usize) -> Result<Self, Error> {
        let cells = batch.cells;
        let rows = batch.rows as usize;
        // Whatever the host claims: there is no cell without the bytes of its length.
        let count = rows
            .checked_mul(columns)
            .filter(|count| *count <= cells.len() / LENGTH_BYTES)
            .ok_or_else(|| {
                Error::malformed(format!(
                    "{rows} rows of {columns} columns cannot be in {} bytes",
                    cells.len()
                ))
            })?;
        if u32::try_from(cells.len()).is_err() {
            return Err(Error::malformed("it is larger than a guest's memory"));
        }
        let mut values = Vec::with_capacity(count);
        let mut position = 0;
        for _ in 0..count {
            let (value, end) = cell(&cells, position)?;
            values.push(value);
            position = end;
        }
        if position != cells.len() {
            return Err(Error::malformed(format!(
                "{} bytes follow the last of {rows} rows",
                cells.len() - position
            )));
        }
        Ok(Self {
            cells,
            values,
            columns,
            rows,
            affected: batch.affected,
        })
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// How many rows the statement affected, as far as the host says so with this batch.
    pub(super) fn affected(&self) -> u64 {
        self.affected
    }

    /// How many bytes a row has, the lengths of its values included.
    pub(super) fn row_bytes(&self, row: usize) -> usize {
        let values = &self.values[row * self.columns..][..self.columns];
        let bytes = |place: &Place| LENGTH_BYTES + usize::try_from(place.length).unwrap_or(0);
        values.iter().map(bytes).sum()
    }

    /// The bytes of a value, `None` for NULL. Both numbers must be within the batch.
    pub(super) fn value(&self, row: usize, column: usize) -> Option<&[u8]> {
        debug_assert!(row < self.rows && column < self.columns);
        let Place { start, length } = self.values[row * self.columns + column];
        let length = usize::try_from(length).ok()?;
        Some(&self.cells[start as usize..][..length])
    }
}

/// The cell that begins at `position`, and where it ends.
#[inline]
fn cell(cells: &[u8], position: usize) -> Result<(Place, usize), Error> {
    let rest = &cells[position..];
    let Some((length, rest)) = rest.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(Error::malformed("a cell's length is cut off"));
    };
    let length = i32::from_be_bytes(*length);
    let end = position + LENGTH_BYTES;
    // The cells are no more than 32 bits can count.
    let start = end as u32;
    match length {
        NULL => Ok((Place { start, length }, end)),
        _ => match usize::try_from(length) {
            Ok(bytes) if bytes <= rest.len() => Ok((Place { start, length }, end + bytes)),
            Ok(length) => Err(Error::malformed(format!(
                "a cell of {length} bytes has only {} left",
                rest.len()
            ))),
            Err(_) => Err(Error::malformed(format!("a cell has the length {length}"))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postgres_types::ToSql;

    fn batch(rows: u32, cells: &[u8]) -> wire::Batch {
        wire::Batch {
            rows,
            cells: cells.to_vec(),
            last: true,
            affected: 0,
        }
    }

    #[test]
    fn arguments_become_cells() {
        let arguments: [&(dyn ToSql + Sync); 4] = [&7_i32, &"ab", &None::<i64>, &""];
        let types = [Type::INT4, Type::TEXT, Type::INT8, Type::TEXT];
        let cells = encode(&arguments, &types).expect("the types are right");
        assert_eq!(
            cells,
            b"\0\0\0\x04\0\0\0\x07\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0"
        );
    }

    #[test]
    fn wrong_arguments_are_named() {
        let number: &(dyn ToSql + Sync) = &7_i32;
        let cases: [(&[&(dyn ToSql + Sync)], &[Type], &str); 3] = [
            (
                &[number],
                &[Type::INT4, Type::INT4],
                "the statement takes 2 parameters, and 1 is given",
            ),
            (
                &[number],
                &[],
                "the statement takes 0 parameters, and 1 is given",
            ),
            (
                &[number, number],
                &[Type::INT4, Type::TEXT],
                "parameter $2: cannot convert between the Rust type `i32` and the Postgres type \
                 `text`; it takes `String`, or a cast in the SQL (`$2::…`)",
            ),
        ];
        for (arguments, types, expected) in cases {
            let error = encode(arguments, types).expect_err(expected);
            assert_eq!(error.to_string(), expected);
            assert!(!error.may_have_executed());
        }
    }

    #[test]
    fn what_is_too_much_for_a_call_is_named() {
        let large = vec![0_u8; CALL_BYTES_MAX];
        let arguments: [&(dyn ToSql + Sync); 2] = [&1_i32, &large];
        let error = encode(&arguments, &[Type::INT4, Type::BYTEA]).expect_err("it is too large");
        assert_eq!(
            error.to_string(),
            "the call makes no sense: parameter $2 has 15728640 bytes, those before it 8, and one call carries at \
             most 15728640"
        );
        assert!(error.is_invalid() && !error.may_be_of_an_older_type());
        let error = error.of_copied_row(3);
        assert!(error.is_invalid() && error.to_string().starts_with("row 3 of the copy: "));
        let error = within_a_statement(PARAMETERS_MAX + 1).expect_err("it is one too many");
        assert!(error.to_string().contains("at most 65535"), "{error}");
        let error = sql(&" ".repeat(CALL_BYTES_MAX + 1)).expect_err("it is too large");
        assert!(error.to_string().contains("15728641 bytes"), "{error}");
    }

    #[test]
    fn cells_become_values() {
        let batch = Batch::parse(
            batch(2, b"\0\0\0\x01a\xff\xff\xff\xff\0\0\0\0\0\0\0\x02bc"),
            2,
        );
        let batch = batch.expect("it is well formed");
        assert_eq!(batch.rows(), 2);
        assert_eq!(batch.value(0, 0), Some(&b"a"[..]));
        assert_eq!(batch.value(0, 1), None);
        assert_eq!(batch.value(1, 0), Some(&b""[..]));
        assert_eq!(batch.value(1, 1), Some(&b"bc"[..]));
        assert_eq!((batch.row_bytes(0), batch.row_bytes(1)), (9, 10));
    }

    #[test]
    fn a_row_may_have_no_columns() {
        assert_eq!(Batch::parse(batch(3, b""), 0).expect("it is").rows(), 3);
    }

    #[test]
    fn malformed_cells_are_an_error() {
        let cases: [(u32, &[u8], usize, &str); 7] = [
            (1, b"\0\0\0", 1, "1 rows of 1 columns cannot be in 3 bytes"),
            (u32::MAX, b"\0\0\0\0", 9, "cannot be in 4 bytes"),
            (1, b"\0\0\0\x05abcd", 1, "a cell of 5 bytes has only 4 left"),
            (
                1,
                b"\x7f\xff\xff\xff",
                1,
                "a cell of 2147483647 bytes has only 0 left",
            ),
            (1, b"\xff\xff\xff\xfe", 1, "a cell has the length -2"),
            (2, b"\0\0\0\x02ab\0\0", 1, "a cell's length is cut off"),
            (1, b"\0\0\0\x01ab", 1, "1 bytes follow the last of 1 rows"),
        ];
        for (rows, cells, columns, expected) in cases {
            let error = Batch::parse(batch(rows, cells), columns)
                .err()
                .expect(expected);
            assert!(error.to_string().ends_with(expected), "{error}");
        }
    }
}
