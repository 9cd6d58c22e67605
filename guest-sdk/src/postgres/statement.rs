//! Statements: their SQL, and what the server says of it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use postgres_types::{Oid, Type};

use super::catalog::Catalog;
use super::error::Error;
use crate::bindings::hearth::postgres::client as wire;

/// What each part of a statement's description takes in memory besides its name, in bytes.
const PART_BYTES: usize = 100;

/// A prepared statement.
///
/// It belongs to no connection and to no invocation: it can be kept in a `static`, and used with
/// the [`Client`](super::Client) that prepared it and in its transactions. The host prepares it
/// wherever it runs. Cloning is cheap.
///
/// Preparing is seldom needed, since SQL text given to `query` is prepared and remembered too. It
/// serves to name the types of parameters ([`prepare_typed`](super::Client::prepare_typed)) and to
/// look at the types of a statement.
#[derive(Clone)]
pub struct Statement(Arc<Inner>);

struct Inner {
    sql: Box<str>,
    named: Vec<Oid>,
    version: u64,
    params: Vec<Type>,
    columns: Vec<Column>,
    /// What it takes in memory, in bytes, more or less.
    bytes: usize,
    /// Whether a value did not fit, so that it or a type of it may have been altered since.
    doubted: AtomicBool,
}

impl Statement {
    /// The statement of this SQL text, with its parameters' types as far as they were named, as
    /// the server describes it.
    pub(super) fn described(
        sql: &str,
        named: &[Oid],
        statement: wire::Statement,
    ) -> Result<Self, Error> {
        let bytes = sql.len() + size_of_val(named) + bytes(&statement);
        let mut catalog = Catalog::new(&statement.types);
        let params = statement
            .parameters
            .iter()
            .map(|parameter| match parameter.text {
                // A type without a binary form: its arguments are PostgreSQL's text for them.
                true => Ok(Type::TEXT),
                false => catalog.type_(parameter.type_oid),
            })
            .collect::<Result<_, _>>()?;
        let columns = statement
            .columns
            .into_iter()
            .map(|column| {
                Ok(Column {
                    type_: catalog.type_(column.type_oid)?,
                    name: column.name,
                    text: column.text,
                    table_oid: Some(column.table_oid).filter(|oid| *oid != 0),
                    column_id: Some(column.number).filter(|number| *number != 0),
                    type_modifier: column.modifier,
                })
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self(Arc::new(Inner {
            sql: sql.into(),
            named: named.to_vec(),
            version: statement.version,
            params,
            columns,
            bytes,
            doubted: AtomicBool::new(false),
        })))
    }

    /// One that nobody executes, with columns of these types.
    pub(super) fn of_columns(types: &[Type]) -> Self {
        let columns = types.iter().enumerate().map(|(index, type_)| Column {
            name: format!("column{}", index + 1),
            table_oid: None,
            column_id: None,
            type_modifier: -1,
            type_: type_.clone(),
            text: false,
        });
        Self(Arc::new(Inner {
            sql: "".into(),
            named: Vec::new(),
            version: 0,
            params: Vec::new(),
            columns: columns.collect(),
            bytes: 0,
            doubted: AtomicBool::new(false),
        }))
    }

    /// The types of the parameters.
    pub fn params(&self) -> &[Type] {
        &self.0.params
    }

    /// The columns of the result, empty if there is none.
    pub fn columns(&self) -> &[Column] {
        &self.0.columns
    }

    pub(super) fn version(&self) -> u64 {
        self.0.version
    }

    /// What it takes in memory, in bytes, more or less.
    pub(super) fn bytes(&self) -> usize {
        self.0.bytes
    }

    /// A value did not fit: the server is asked again before the next use.
    pub(super) fn doubt(&self) {
        self.0.doubted.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_doubted(&self) -> bool {
        self.0.doubted.load(Ordering::Relaxed)
    }

    /// The SQL text and the types that were named for its parameters.
    pub(super) fn source(&self) -> (&str, &[Oid]) {
        (&self.0.sql, &self.0.named)
    }
}

/// What a description takes in memory, in bytes, more or less.
fn bytes(statement: &wire::Statement) -> usize {
    let parts = statement.parameters.len() + statement.columns.len() + statement.types.len();
    let columns = statement.columns.iter().map(|column| column.name.len());
    let types = statement.types.iter().map(|info| match &info.kind {
        wire::TypeKind::Enumeration(labels) => {
            labels.iter().map(|label| PART_BYTES + label.len()).sum()
        }
        wire::TypeKind::Composite(fields) => {
            fields.iter().map(|(name, _)| PART_BYTES + name.len()).sum()
        }
        _ => 0,
    });
    PART_BYTES * parts + columns.sum::<usize>() + types.sum::<usize>()
}

impl fmt::Debug for Statement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Statement")
            .field("params", &self.0.params)
            .field("columns", &self.0.columns)
            .finish_non_exhaustive()
    }
}

/// A column of a result.
#[derive(Clone, Debug)]
pub struct Column {
    name: String,
    table_oid: Option<Oid>,
    column_id: Option<i16>,
    type_modifier: i32,
    type_: Type,
    text: bool,
}

impl Column {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its type.
    pub fn type_(&self) -> &Type {
        &self.type_
    }

    /// The type as which its values are read: text, if its own has no binary form.
    pub(super) fn value_type(&self) -> &Type {
        if self.text { &Type::TEXT } else { &self.type_ }
    }

    /// The table that it comes from, `None` if it is computed.
    pub fn table_oid(&self) -> Option<Oid> {
        self.table_oid
    }

    /// Its number in that table, counted from 1; `None` if it is computed.
    pub fn column_id(&self) -> Option<i16> {
        self.column_id
    }

    /// What the type is narrowed to, such as a `varchar`'s length plus 4; -1 if nothing.
    pub fn type_modifier(&self) -> i32 {
        self.type_modifier
    }
}

pub(super) mod sealed {
    use postgres_types::{Oid, Type};

    use super::Statement;

    pub trait Sealed {}

    /// What a caller gave as a statement.
    #[derive(Clone, Copy)]
    pub enum Source<'a> {
        Text(&'a str),
        /// With the types that are named for its parameters, by number too.
        Typed(&'a str, &'a [Oid], &'a [Type]),
        Prepared(&'a Statement),
    }
}

/// What can be executed: SQL text, or a [`Statement`]. Nothing else implements it.
pub trait ToStatement: sealed::Sealed {
    #[doc(hidden)]
    fn source(&self) -> sealed::Source<'_>;
}

impl sealed::Sealed for str {}

impl ToStatement for str {
    fn source(&self) -> sealed::Source<'_> {
        sealed::Source::Text(self)
    }
}

impl sealed::Sealed for String {}

impl ToStatement for String {
    fn source(&self) -> sealed::Source<'_> {
        sealed::Source::Text(self)
    }
}

impl sealed::Sealed for Statement {}

impl ToStatement for Statement {
    fn source(&self) -> sealed::Source<'_> {
        sealed::Source::Prepared(self)
    }
}
