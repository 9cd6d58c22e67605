//! Queries that a component declares: their text and the Rust types on both sides stand in a
//! section of the component, where `hearth check` compares them with the database.
//!
//! A record of the section `hearth:queries` has eight fields, each ended by a zero byte: the
//! version (`1`), the database, the query's name, the file, the line, the SQL text, the parameters
//! and the columns; of these, each type on a line of its own, followed by ` as ` and the name of a
//! PostgreSQL type if one was given.
//!
//! Promises: what a query is called with and what comes back is what it declares, or does not
//! compile. Left to others: whether the database sees it in the same way (`hearth check`).

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use postgres_types::{FromSqlOwned, ToSql};

use super::error::Error;
use super::generic_client::GenericClient;
use super::pipeline::Outcome;
use super::row::Row;
use super::row_stream::RowStream;

/// A declared query with its arguments, ready to be executed; see [`declare!`](crate::declare).
#[must_use = "a query does nothing before it is executed"]
pub struct Declared<P, R> {
    sql: &'static str,
    parameters: P,
    row: PhantomData<fn() -> R>,
}

impl<P: Parameters, R> Declared<P, R> {
    #[doc(hidden)]
    pub fn new(sql: &'static str, parameters: P) -> Self {
        Self {
            sql,
            parameters,
            row: PhantomData,
        }
    }

    /// Its SQL text.
    pub fn sql(&self) -> &'static str {
        self.sql
    }

    pub(super) fn list(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.parameters.list()
    }

    /// Executes it and returns how many rows it affected.
    pub async fn execute(self, on: &impl GenericClient) -> Result<u64, Error> {
        on.execute(self.sql, &self.parameters.list()).await
    }
}

impl<P: Parameters, R: Columns> Declared<P, R> {
    /// Executes it and returns all of its rows.
    pub async fn query(self, on: &impl GenericClient) -> Result<Vec<R>, Error> {
        let rows = on.query(self.sql, &self.parameters.list()).await?;
        rows.iter().map(R::read).collect()
    }

    /// As [`query`](Self::query), for one row or none. Fails if there are more
    /// ([`Error::is_row_count`]); it is executed all the same.
    pub async fn query_opt(self, on: &impl GenericClient) -> Result<Option<R>, Error> {
        let row = on.query_opt(self.sql, &self.parameters.list()).await?;
        row.as_ref().map(R::read).transpose()
    }

    /// As [`query_opt`](Self::query_opt), for exactly one row.
    pub async fn query_one(self, on: &impl GenericClient) -> Result<R, Error> {
        R::read(&on.query_one(self.sql, &self.parameters.list()).await?)
    }

    /// As [`query`](Self::query), returning the rows as they arrive; see
    /// [`Client::query_raw`](super::Client::query_raw).
    pub async fn query_raw(self, on: &impl GenericClient) -> Result<DeclaredRows<R>, Error> {
        let rows = on.query_raw(self.sql, self.parameters.list()).await?;
        let row = PhantomData;
        Ok(DeclaredRows { rows, row })
    }

    /// Its rows, from what a pipeline has answered to it.
    ///
    /// ```
    /// use hearth::postgres::{Client, Error};
    ///
    /// hearth::declare! {
    ///     fn sell(sku: &str) = "UPDATE product SET stock = stock - 1 WHERE sku = $1";
    ///     fn left() -> (String, i32) = "SELECT sku, stock FROM product";
    /// }
    ///
    /// async fn example(db: &Client) -> Result<Vec<(String, i32)>, Error> {
    ///     let (sell, left) = (sell("lamp"), left());
    ///     let mut pipeline = db.pipeline();
    ///     pipeline.add_declared(&sell).add_declared(&left);
    ///     let outcomes = pipeline.run().await?;
    ///     left.read(&outcomes[1])
    /// }
    /// # fn main() {}
    /// ```
    pub fn read(&self, outcome: &Outcome) -> Result<Vec<R>, Error> {
        outcome.rows.iter().map(R::read).collect()
    }
}

/// The rows of a declared query, as they arrive; as a [`RowStream`], with each row converted.
pub struct DeclaredRows<R> {
    rows: RowStream,
    row: PhantomData<fn() -> R>,
}

impl<R: Columns> DeclaredRows<R> {
    /// The next row, `None` after the last. An error is the end of the rows, too, unless it is about the
    /// conversion of one.
    pub async fn try_next(&mut self) -> Result<Option<R>, Error> {
        let row = self.rows.try_next().await?;
        row.as_ref().map(R::read).transpose()
    }
}

impl<R: Columns> Stream for DeclaredRows<R> {
    type Item = Result<R, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let row = Pin::new(&mut self.rows).poll_next(cx);
        row.map(|next| next.map(|row| R::read(&row?)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.rows.size_hint()
    }
}

impl<R> fmt::Debug for DeclaredRows<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows.fmt(formatter)
    }
}

impl<P, R> fmt::Debug for Declared<P, R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Declared")
            .field("sql", &self.sql)
            .finish_non_exhaustive()
    }
}

/// Arguments of a declared query: a tuple of up to 16 values.
pub trait Parameters {
    #[doc(hidden)]
    fn list(&self) -> Vec<&(dyn ToSql + Sync)>;
}

/// A row of a declared query: a tuple of up to 16 values.
pub trait Columns: Sized {
    #[doc(hidden)]
    fn read(row: &Row) -> Result<Self, Error>;
}

macro_rules! tuples {
    ($($index:tt $name:ident)*) => {
        impl<$($name: ToSql + Sync),*> Parameters for ($($name,)*) {
            fn list(&self) -> Vec<&(dyn ToSql + Sync)> {
                vec![$(&self.$index),*]
            }
        }

        impl<$($name: FromSqlOwned),*> Columns for ($($name,)*) {
            fn read(row: &Row) -> Result<Self, Error> {
                let _ = row;
                Ok(($(row.try_get::<_, $name>($index)?,)*))
            }
        }
    };
}

/// Calls `tuples!` for each beginning of its list.
macro_rules! each_beginning {
    ([$($done:tt)*]) => { tuples!($($done)*); };
    ([$($done:tt)*] $index:tt $name:ident $($rest:tt)*) => {
        tuples!($($done)*);
        each_beginning!([$($done)* $index $name] $($rest)*);
    };
}

each_beginning!([] 0 A 1 B 2 C 3 D 4 E 5 F 6 G 7 H 8 I 9 J 10 K 11 L 12 M 13 N 14 O 15 P);

/// The bytes of a record, as an array that can stand in a section. No part of the interface.
#[doc(hidden)]
pub const fn record<const N: usize>(text: &str) -> [u8; N] {
    match text.as_bytes().first_chunk() {
        Some(bytes) => *bytes,
        None => panic!("the length is that of the text"),
    }
}

/// Declares queries, as functions.
///
/// ```
/// use hearth::postgres::{self, Client};
///
/// hearth::declare! {
///     /// What a product is called, and what it costs.
///     fn product(sku: &str) -> (String, i64) =
///         "SELECT name, price_cents FROM product WHERE sku = $1";
///
///     fn restock(sku: &str, by: i32) = "UPDATE product SET stock = stock + $2 WHERE sku = $1";
/// }
///
/// async fn price(db: &Client, sku: &str) -> Result<Option<i64>, postgres::Error> {
///     Ok(product(sku).query_opt(db).await?.map(|(_, cents)| cents))
/// }
/// ```
///
/// A declared query is called with the types that it names and returns rows of those that it
/// names, or does not compile. The text and the types are also written into the component:
///
/// - on Lambda, the database prepares each of them on the connections that are opened before the first
///   event, which does not wait for that then;
/// - `hearth check` has the database prepare each of them, without executing it, and says like a
///   compiler what does not fit: a table that is not there, a `text` where the function expects an
///   `i64`;
/// - with `statements = "declared"` in `[function.NAME.database.default]`, the function can execute
///   these and nothing else, whatever is slipped into it.
///
/// A column that may be NULL must be an `Option`, which is for you to know: a database does not say it of
/// what a query returns.
///
/// Behind a type, `as` names the PostgreSQL type that it stands for, where that cannot be told
/// from its name: `-> (Mood as mood, Money as "shop.money")`. A query runs on the database
/// `default` unless another is named at the top:
///
/// ```
/// hearth::declare! {
///     "archive";
///     fn years() -> (i32) = "SELECT DISTINCT year FROM volume";
/// }
/// ```
///
/// What is written in another way does not compile, and says how it is written:
///
/// ```compile_fail
/// hearth::declare! {
///     fn years() -> i32 = "SELECT DISTINCT year FROM volume";
/// }
/// ```
#[macro_export]
macro_rules! declare {
    ($database:literal; $($queries:tt)*) => {
        $crate::__declare! { $database $($queries)* }
    };
    ($($queries:tt)*) => {
        $crate::__declare! { "default" $($queries)* }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __declare {
    ($database:literal) => {};
    (
        $database:literal
        $(#[$attribute:meta])*
        $visibility:vis fn $name:ident (
            $($parameter:ident : $given:ty $(as $given_sql:tt)?),* $(,)?
        ) $(-> ($($column:ty $(as $column_sql:tt)?),* $(,)?))? = $sql:expr;
        $($rest:tt)*
    ) => {
        $(#[$attribute])*
        $visibility fn $name(
            $($parameter: $given),*
        ) -> $crate::postgres::Declared<
            impl $crate::postgres::Parameters,
            ($($($column,)*)?),
        > {
            #[cfg(target_arch = "wasm32")]
            const _: () = {
                const RECORD: &str = concat!(
                    "1\0", $database, "\0", stringify!($name), "\0", file!(), "\0",
                    $crate::__private::line_of!($name), "\0", $sql, "\0",
                    $(stringify!($given), $(" as ", stringify!($given_sql),)? "\n",)* "\0",
                    $($(stringify!($column), $(" as ", stringify!($column_sql),)? "\n",)*)? "\0",
                );
                // Bytes without any pointer in them, which nothing reads at run time. No `allow(unsafe_code)` says so,
                // since it would not compile in a crate that forbids that; the lint is silent about the macros of others.
                #[used]
                #[unsafe(link_section = "hearth:queries")]
                static BYTES: [u8; RECORD.len()] = $crate::__private::record(RECORD);
            };
            $crate::postgres::Declared::new($sql, ($($parameter,)*))
        }
        $crate::__declare! { $database $($rest)* }
    };
    ($database:literal $($rest:tt)*) => {
        ::core::compile_error!(concat!(
            "a declared query is written `fn name(parameter: Type) -> (Type, Type) = \"SQL\";`, with its \
             columns in parentheses, also a single one, and a semicolon at its end: ",
            stringify!($($rest)*),
        ));
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::declare! {
        fn nothing() = "SELECT";
        /// With everything that can be written.
        fn everything(a: &str, b: Option<&[u8]> as bytea, c: i64,) -> (String as "shop.name", i64,) =
            "SELECT $1, $3";
    }

    #[test]
    fn a_declared_query_carries_its_text_and_its_arguments() {
        let query = everything("x", None, 7);
        assert_eq!(query.sql(), "SELECT $1, $3");
        assert_eq!(query.parameters.list().len(), 3);
        assert_eq!(nothing().parameters.list().len(), 0);
        assert!(!format!("{query:?}").contains('7'));
    }

    #[test]
    fn a_record_is_its_text() {
        assert_eq!(&record::<3>("abc"), b"abc");
    }
}
