//! Rows, and how a value is taken from one.
//!
//! Promises: [`Row::try_get`] never panics, and its error names the column and both types.

use std::fmt;
use std::sync::Arc;

use postgres_types::{FromSql, WrongType};

use super::cells::Batch;
use super::error::{Error, Kind};
use super::statement::{Column, Statement};

/// How many columns an error tells of.
const COLUMNS_TOLD_MAX: usize = 20;

/// A row of a result.
///
/// Rows share the bytes in which they came with the others of their batch, and values such as
/// `&str` and `&[u8]` borrow from there. A row that is kept keeps its batch.
#[derive(Clone)]
pub struct Row {
    statement: Statement,
    batch: Arc<Batch>,
    index: usize,
}

impl Row {
    /// Every row of a batch.
    pub(super) fn all(statement: &Statement, batch: Batch) -> Vec<Self> {
        let batch = Arc::new(batch);
        (0..batch.rows())
            .map(|index| Self::new(statement.clone(), batch.clone(), index))
            .collect()
    }

    /// The row with this number, which must be within the batch; its columns are the statement's.
    pub(super) fn new(statement: Statement, batch: Arc<Batch>, index: usize) -> Self {
        Self {
            statement,
            batch,
            index,
        }
    }

    /// The columns, in their order.
    pub fn columns(&self) -> &[Column] {
        self.statement.columns()
    }

    /// How many values there are: as many as columns.
    pub fn len(&self) -> usize {
        self.columns().len()
    }

    /// Whether there are no values at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes its values have as they came, with the four of each length.
    pub fn raw_size_bytes(&self) -> usize {
        self.batch.row_bytes(self.index)
    }

    /// The value of a column, which is given by its name or by its number, counted from 0.
    ///
    /// # Panics
    ///
    /// If there is no such column, or if its value is not a `T`: if the types do not fit, or it is
    /// NULL and `T` is not an `Option`. A panic ends the invocation and the instance; use
    /// [`try_get`](Self::try_get) for what depends on the data.
    #[track_caller]
    pub fn get<'a, I, T>(&'a self, index: I) -> T
    where
        I: RowIndex + fmt::Display,
        T: FromSql<'a>,
    {
        match self.try_get(index) {
            Ok(value) => value,
            Err(error) => panic!("error retrieving a value: {error}"),
        }
    }

    /// The value of a row that has no other.
    pub(super) fn try_scalar<'a, T: FromSql<'a>>(&'a self) -> Result<T, Error> {
        match self.len() {
            1 => self.try_get(0),
            given => Err(Error::new(Kind::ColumnCount { given })),
        }
    }

    /// As [`get`](Self::get), with an error instead of a panic.
    pub fn try_get<'a, I, T>(&'a self, index: I) -> Result<T, Error>
    where
        I: RowIndex + fmt::Display,
        T: FromSql<'a>,
    {
        let Some(number) = index.find(self.columns()) else {
            let names = self.columns().iter().take(COLUMNS_TOLD_MAX);
            let mut known: Vec<String> =
                names.map(|column| format!("`{}`", column.name())).collect();
            if known.len() < self.len() {
                known.push("…".to_owned());
            }
            let wanted = index.to_string();
            return Err(Error::new(Kind::Column { wanted, known }));
        };
        let column = &self.columns()[number];
        let type_ = column.value_type();
        let cell = self.batch.value(self.index, number);
        let value = if T::accepts(type_) {
            T::from_sql_nullable(type_, cell)
        } else {
            Err(WrongType::new::<T>(type_.clone()).into())
        };
        value.map_err(|cause| {
            let name = column.name().to_owned();
            let error = Error::caused(
                Kind::FromSql {
                    index: number,
                    name,
                    is_computed: column.table_oid().is_none(),
                    type_: type_.clone(),
                    is_null: cell.is_none(),
                },
                cause,
            );
            if error.may_be_of_an_older_type() {
                self.statement.doubt();
            }
            error
        })
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Row")
            .field("columns", &self.columns())
            .finish_non_exhaustive()
    }
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for usize {}
    impl Sealed for str {}
    impl<T: ?Sized + Sealed> Sealed for &T {}
}

/// What names a column of a [`Row`]: its number, counted from 0, or its name. Nothing else
/// implements it.
///
/// If several columns have the name, it is the first; if none has, it is the first whose name
/// differs only in the case of ASCII letters.
pub trait RowIndex: sealed::Sealed {
    #[doc(hidden)]
    fn find(&self, columns: &[Column]) -> Option<usize>;
}

impl RowIndex for usize {
    fn find(&self, columns: &[Column]) -> Option<usize> {
        Some(*self).filter(|index| *index < columns.len())
    }
}

impl RowIndex for str {
    fn find(&self, columns: &[Column]) -> Option<usize> {
        let position = |same: fn(&str, &str) -> bool| {
            columns.iter().position(|column| same(column.name(), self))
        };
        position(|name, wanted| name == wanted)
            .or_else(|| position(|name, wanted| name.eq_ignore_ascii_case(wanted)))
    }
}

impl<T: ?Sized + RowIndex> RowIndex for &T {
    fn find(&self, columns: &[Column]) -> Option<usize> {
        T::find(self, columns)
    }
}

#[cfg(test)]
mod tests {
    use super::super::call::tests::described;
    use super::*;
    use crate::bindings::hearth::postgres::client as wire;
    use postgres_types::Type;

    fn row() -> Row {
        let columns = [
            ("id", Type::INT4),
            ("name", Type::TEXT),
            ("Id", Type::INT8),
            ("note", Type::TEXT),
        ];
        let statement = Statement::described("", &[], described(1, &[], &columns));
        let cells = b"\0\0\0\x04\0\0\0\x07\0\0\0\x02ab\0\0\0\x08\0\0\0\0\0\0\0\x09\xff\xff\xff\xff";
        let batch = wire::Batch {
            rows: 1,
            cells: cells.to_vec(),
            last: true,
            affected: 1,
        };
        let batch = Batch::parse(batch, columns.len()).expect("it is well formed");
        Row::new(
            statement.expect("the types are built in"),
            Arc::new(batch),
            0,
        )
    }

    #[test]
    fn a_value_is_found_by_number_or_name() {
        let row = row();
        assert_eq!((row.len(), row.is_empty()), (4, false));
        assert_eq!(row.raw_size_bytes(), 30);
        assert_eq!(row.get::<_, i32>(0), 7);
        assert_eq!(row.get::<_, &str>("name"), "ab");
        assert_eq!(row.get::<_, String>("NAME"), "ab");
        assert_eq!(row.get::<_, i64>("Id"), 9);
        assert_eq!(row.get::<_, i32>("ID"), 7);
        assert_eq!(row.get::<_, Option<&str>>("note"), None);
        assert_eq!(row.get::<_, i32>(&String::from("id").as_str()), 7);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let row = row();
        let cases = [
            (
                row.try_get::<_, i32>("total").err(),
                "the row has no column `total`; it has `id`, `name`, `Id`, `note`",
            ),
            (
                row.try_get::<_, i32>(4).err(),
                "the row has no column `4`; it has `id`, `name`, `Id`, `note`",
            ),
            (
                row.try_get::<_, i64>("id").err(),
                "column `id` (0): cannot convert between the Rust type `i64` and the Postgres \
                 type `int4`; read it as `i32`",
            ),
            (
                row.try_get::<_, &str>(3).err(),
                "column `note` (3) is NULL: read it as an `Option`",
            ),
        ];
        for (error, expected) in cases {
            assert_eq!(error.expect(expected).to_string(), expected);
        }
    }

    #[test]
    #[should_panic(expected = "column `id` (0): cannot convert between the Rust type `&str`")]
    fn get_panics_with_the_same_words() {
        row().get::<_, &str>("id");
    }
}
