//! PostgreSQL, through the pool that the host keeps warm.
//!
//! The interface is that of [`tokio_postgres`], without what the host does: no address, no password, no connection task
//! and no pool. [`open`] takes the name of a database in the host's configuration.
//!
//! ```
//! use hearth::postgres;
//!
//! async fn transfer(from: i64, to: i64, cents: i64) -> Result<(), postgres::Error> {
//!     let db = postgres::open("default")?;
//!     let transaction = db.transaction().await?;
//!     for (account, change) in [(from, -cents), (to, cents)] {
//!         transaction
//!             .execute(
//!                 "UPDATE account SET balance = balance + $2 WHERE id = $1",
//!                 &[&account, &change],
//!             )
//!             .await?;
//!     }
//!     transaction.commit().await
//! }
//! ```
//!
//! Each call is one round trip to the database once it is warm: the host prepares statements on whatever connection
//! they run, and their types are remembered here. One more is needed for statements that run in no transaction, such as
//! `VACUUM`, and for a `batch_execute` that is the first call of a transaction. Two calls of a [`Client`] that are made
//! together (`join!`) run together, on two connections; those of a [`Transaction`] run in turn.
//!
//! # Queries, parameters and rows
//!
//! ```
//! use hearth::postgres::{Client, Error};
//!
//! async fn examples(db: &Client) -> Result<(), Error> {
//!     // All rows; parameters are `$1`, `$2` …, and given by reference.
//!     let least = 3_i32;
//!     for row in db.query("SELECT sku, stock, note FROM product WHERE stock > $1", &[&least]).await? {
//!         let sku: &str = row.get("sku");             // by name, or by number from 0
//!         let stock: i32 = row.get(1);                // panics if the type is another
//!         let note: Option<String> = row.try_get(2)?; // an error instead; NULL is `None`
//!         println!("{sku} {stock} {note:?}");
//!     }
//!     // Exactly one row, one or none, and a value alone.
//!     let one = db.query_one("SELECT max(stock) FROM product", &[]).await?;
//!     let none = db.query_opt("SELECT 1 FROM product WHERE sku = $1", &[&"no such"]).await?;
//!     let count: i64 = db.query_one_scalar("SELECT count(*) FROM product", &[]).await?;
//!     // How many rows were affected.
//!     let changed = db.execute("UPDATE product SET stock = 0 WHERE stock < $1", &[&0_i32]).await?;
//!     println!("{count} products, {changed} changed, {:?} {:?}", one.columns(), none.is_some());
//!     // A list is one parameter: an array.
//!     let skus = vec!["lamp", "pen"];
//!     db.query("SELECT * FROM product WHERE sku = ANY($1)", &[&skus]).await?;
//!     // Several statements without parameters.
//!     db.batch_execute("CREATE TABLE IF NOT EXISTS seen (sku text); TRUNCATE seen").await
//! }
//! ```
//!
//! The server chooses the types of parameters from the SQL, and the Rust type must fit: `int4` takes an `i32`, `int8`
//! an `i64` (see [Types](#types)). If the SQL leaves the type open, cast (`$1::int8`) or name the type
//! ([`Client::query_typed`]). Never put a value into the text of a statement.
//!
//! # Large results
//!
//! [`Client::query_raw`] returns a [`RowStream`], which holds one batch of rows at a time, so a result of any size fits
//! into a small instance. The columns are known before the first row, even if there is none. Do not keep rows: each
//! keeps its whole batch in memory.
//!
//! ```
//! # async fn example(db: &hearth::postgres::Client) -> Result<(), hearth::postgres::Error> {
//! let mut rows = db.query_raw("SELECT id, name FROM visit WHERE id > $1", [&7_i64]).await?;
//! let columns: Vec<&str> = rows.columns().iter().map(|column| column.name()).collect();
//! println!("{columns:?}");
//! let mut longest = 0;
//! while let Some(row) = rows.try_next().await? {
//!     longest = longest.max(row.get::<_, &str>("name").len());
//! }
//! // Without parameters:
//! let rows = db.query_raw("SELECT 1", [0_i32; 0]).await?;
//! # drop((longest, rows));
//! # Ok(())
//! # }
//! ```
//!
//! It is a `Stream` as well, and at its end [`RowStream::rows_affected`] is known. An error in the middle comes after
//! the rows before it, and ends the stream. You may drop the stream early: the host stops the statement (for one that
//! writes, see [`RowStream`]). A single row may have 8 MiB ([`Error::is_too_large`]); read a larger value in pieces,
//! with `substring(value FROM $1 FOR $2)`.
//!
//! # Types
//!
//! Values travel in PostgreSQL's own binary format and are converted by [`postgres-types`], which is re-exported as
//! [`types`]. Its features are switched on by features of this crate of the same names:
//!
//! | PostgreSQL | Rust | feature |
//! |---|---|---|
//! | `bool`, `"char"`, `int2`, `int4`, `int8`, `oid`, `float4`, `float8` | `bool`, `i8`, `i16`, `i32`, `i64`, `u32`, `f32`, `f64` | |
//! | `text`, `varchar`, `name`, `citext`, `ltree` | `String`, `&str` | |
//! | `numeric` | [`Numeric`] | |
//! | `bytea` | `Vec<u8>`, `&[u8]` | |
//! | `hstore` | `HashMap<String, Option<String>>` | |
//! | `inet` | `std::net::IpAddr` | |
//! | `timestamp`, `timestamptz` | `SystemTime` | |
//! | `date`, `time`, `timestamp`, `timestamptz` | `chrono`, `time`, `jiff` | `with-chrono-0_4`, `with-time-0_3`, `with-jiff-0_2` … |
//! | those of them that may be `infinity` | [`types::Timestamp<T>`], [`types::Date<T>`] of one of these | as for `T` |
//! | `json`, `jsonb` | `serde_json::Value`, [`types::Json<T>`] | `with-serde_json-1` |
//! | `uuid` | `uuid::Uuid` | `with-uuid-1` |
//! | `bit`, `macaddr`, `cidr`, `point` and others | `bit-vec`, `eui48`, `cidr`, `geo-types` | `with-bit-vec-0_9`, `with-eui48-1`, `with-cidr-0_3`, `with-geo-types-0_7` … |
//! | arrays of all these | `Vec<T>`; `[T; N]` with the feature | `array-impls` |
//! | enumerations, composites, domains | your types, by `#[derive(ToSql, FromSql)]` | `derive` |
//! | NULL | `Option<T>` | |
//! | any | [`RawValue`] | |
//!
//! Types of other crates fit if they implement the traits of `postgres-types` 0.2, such as those of `postgres_array`
//! (several dimensions) and `postgres_range`. `rust_decimal` does not implement them in WebAssembly: convert between a
//! [`Numeric`] and a `Decimal` by text.
//!
//! Types that are still missing (`interval`, `tsvector`, `money`, the other geometric types …) can be read and written
//! as text, with a cast in SQL: `SELECT age::text, $1::text::interval FROM person`. A [`RawValue`] carries a value of
//! any type as it is. A type of yours can implement [`ToSql`] and [`FromSql`] for the bytes that PostgreSQL uses.
//!
//! Three things to know about `postgres-types`:
//!
//! - An array of several dimensions is no `Vec<Vec<T>>`: take `postgres_array::Array`, or `unnest` it.
//! - An array with a NULL in it needs a `Vec<Option<T>>`.
//! - The timestamp or date `infinity` is an error with `jiff`, `chrono` and `time`, and some far day with `SystemTime`.
//!   If it may occur, take a [`types::Timestamp<T>`] or [`types::Date<T>`] of the type.
//!
//! ## Types of your own
//!
//! With the feature `derive`, `#[derive(ToSql, FromSql)]` works for enumerations, composite types
//! and domains, [as in `postgres-types`](https://docs.rs/postgres-types/latest/postgres_types/derive.ToSql.html).
//! What it expands to names the crate `postgres_types`; without that crate the error is "cannot find `postgres_types`".
//! `hearth` can stand for it, by one line at the root of your crate:
//!
//! ```
#![cfg_attr(feature = "derive", doc = "extern crate hearth as postgres_types;")]
#![cfg_attr(not(feature = "derive"), doc = "# /*")]
//!
//! use hearth::postgres::{FromSql, ToSql};
//!
//! // CREATE TYPE mood AS ENUM ('fine', 'so_so')
//! #[derive(Debug, ToSql, FromSql)]
//! #[postgres(name = "mood", rename_all = "snake_case")]
//! enum Mood {
//!     Fine,
//!     SoSo,
//! }
//!
//! // CREATE TYPE visit AS (who text, felt mood)
//! #[derive(Debug, ToSql, FromSql)]
//! #[postgres(name = "visit")]
//! struct Visit {
//!     who: String,
//!     felt: Mood,
//! }
#![cfg_attr(not(feature = "derive"), doc = "# */")]
//! ```
//!
//! # Transactions
//!
//! What is not committed is rolled back, however the handler ends. A [`Transaction`] may contain others, which are
//! savepoints: one may fail and be rolled back alone. Dropping one cannot wait for the server, so the next call of the
//! transaction around it rolls it back first.
//!
//! ```
//! use hearth::postgres::{Client, Error, IsolationLevel};
//!
//! async fn example(db: &Client) -> Result<(), Error> {
//!     let builder = db.build_transaction().isolation_level(IsolationLevel::RepeatableRead);
//!     let mut tx = builder.start().await?;
//!     tx.execute("INSERT INTO log (what) VALUES ($1)", &[&"try"]).await?;
//!     let attempt = tx.transaction().await?; // a savepoint
//!     match attempt.execute("INSERT INTO once (id) VALUES (1)", &[]).await {
//!         Ok(_) => attempt.commit().await?,
//!         Err(_) => attempt.rollback().await?, // `tx` goes on
//!     }
//!     tx.commit().await
//! }
//! ```
//!
//! PostgreSQL may undo a transaction because of others that run at the same time; with `SERIALIZABLE` and
//! `REPEATABLE READ` that is to be expected. [`Client::transact`] runs a closure in a transaction, and runs it again
//! when that happens; it is the best choice for what reads and then writes. The closure has to name its error type at
//! its end: `Ok::<_, hearth::Error>(total)`.
//!
//! # Several statements in one round trip
//!
//! [`Client::pipeline`] collects statements that are sent together. All take effect, or none.
//!
//! ```
//! # async fn example(db: &hearth::postgres::Client) -> Result<(), hearth::postgres::Error> {
//! let lines = [("lamp", 2), ("pen", 5)];
//! let mut pipeline = db.pipeline();
//! for (sku, quantity) in &lines {
//!     pipeline.add("UPDATE product SET stock = stock - $2 WHERE sku = $1", &[sku, quantity]);
//! }
//! pipeline.add("SELECT sum(stock) FROM product", &[]);
//! let outcomes = pipeline.run().await?; // nothing is sent before this
//! println!("{} left", outcomes[2].rows[0].get::<_, i64>(0));
//! # Ok(())
//! # }
//! ```
//!
//! # Sessions: settings, locks, notifications
//!
//! A call of a [`Client`] takes any connection. What lives in PostgreSQL's session (`SET`, temporary tables, advisory
//! locks, `LISTEN`) needs one connection that is held: a [`Session`]. Dropping it undoes all of that;
//! [`Session::close`] waits until it is undone.
//!
//! ```
//! # async fn example(db: &hearth::postgres::Client) -> Result<(), hearth::postgres::Error> {
//! let session = db.session().await?;
//! session.batch_execute("CREATE TEMPORARY TABLE picked (sku text)").await?;
//! session.execute("INSERT INTO picked VALUES ($1)", &[&"lamp"]).await?;
//! session.listen("stock").await?; // not on classic Lambda, which freezes
//! let told = session.notification().await?;
//! println!("{} on {}", told.payload, told.channel);
//! # Ok(())
//! # }
//! ```
//!
//! To notify others, use a statement: `SELECT pg_notify($1, $2)`.
//!
//! # COPY
//!
//! The fastest way to store many rows, in the format that the statement names:
//!
//! ```
//! # async fn example(db: &hearth::postgres::Client) -> Result<(), hearth::postgres::Error> {
//! let mut copy = db.copy_in("COPY product (sku, stock) FROM STDIN WITH (FORMAT csv)").await?;
//! for (sku, stock) in [("lamp", 3), ("pen", 7)] {
//!     copy.write(format!("{sku},{stock}\n")).await?;
//! }
//! let rows = copy.finish().await?; // before that, nothing is copied
//!
//! let mut copy = db.copy_out("COPY product TO STDOUT").await?;
//! while let Some(bytes) = copy.try_next().await? {
//!     println!("{} bytes of whole rows", bytes.len());
//! }
//! # drop(rows);
//! # Ok(())
//! # }
//! ```
//!
//! [`BinaryCopyInWriter`] and [`BinaryCopyOutStream`] copy rows of typed values, with nothing to quote.
//!
//! # Code for clients and transactions alike
//!
//! [`GenericClient`] is what a [`Client`], a [`Transaction`] and a [`Session`] have in common:
//! `async fn find(db: &impl GenericClient, id: i64) -> Result<Option<Row>, Error>`.
//!
//! # Time
//!
//! Every call ends at the invocation's deadline, and the server is told to give it up. To give calls less time, say
//! `db.set_timeout(Some(Duration::from_secs(1)))` on a client of your own (`let mut db`), a transaction or a session.
//! After that time the server fails them with [`SqlState::QUERY_CANCELED`], and a call that still waits for a
//! connection fails ([`Error::is_busy`]). If the server, or the network, says nothing for about a second more, the
//! connection is lost ([`Error::is_closed`]). Dropping a call's future cancels it as well, and
//! [`hearth::timeout`](crate::timeout) does that after a time. No call gets more time than the database allows a role
//! (`ALTER ROLE … SET statement_timeout`), and what a session or a transaction sets for itself
//! (`SET LOCAL statement_timeout`) holds.
//!
//! # When a call fails
//!
//! [`Error::code`] is the SQLSTATE, and [`Error::as_db_error`] all that the server said (constraint, detail, hint …).
//! The other methods tell what happened on the way.
//!
//! ```
//! use hearth::Failure;
//! use hearth::postgres::{Client, SqlState};
//!
//! async fn register(db: &Client, name: &str) -> Result<(), hearth::Error> {
//!     match db.execute("INSERT INTO customer (name) VALUES ($1)", &[&name]).await {
//!         Ok(_) => Ok(()),
//!         Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
//!             Err(Failure::caller("NameTaken", format!("{name:?} is taken")).because(error).into())
//!         }
//!         Err(error) => Err(error.into()),
//!     }
//! }
//! ```
//!
//! | what happened | how to tell | do it again? |
//! |---|---|---|
//! | others were in the way (40001, 40P01) | [`Error::is_conflict`] | yes, the whole transaction: [`Client::transact`] does |
//! | no connection came free, or none could be made | [`Error::is_busy`], [`Error::is_connect`] | yes: nothing was executed (a transaction from its beginning) |
//! | the connection was lost | [`Error::is_closed`] | only if [`Error::may_have_executed`] is `false`, or doing it twice does no harm |
//! | the server refused the statement | [`Error::code`] | no: it would be refused again |
//! | it took longer than its [timeout](Client::set_timeout) | [`SqlState::QUERY_CANCELED`] | if there is time: it was undone |
//! | the transaction had failed before its `commit`, or was over | [`Error::is_aborted`], [`Error::is_ended`] | from its beginning, if what failed may succeed |
//! | not allowed, makes no sense, or more than may be read | [`Error::is_denied`], [`Error::is_invalid`], [`Error::is_capped`] | no: change the function or its configuration |
//! | a value does not fit the Rust type | the error names the column or the parameter, and both types | no |
//!
//! An error displays the server's message with its SQLSTATE, the position in the SQL text, the hint, and the parameter
//! or the place in a `COPY` that it is about. It shows no values of parameters or rows, except those that the server
//! quotes in its message: `invalid input syntax for type integer: "x"` (22P02, 22007 and the like), or what a `RAISE`
//! says. If a value is too long or too large for its column (22001, 22003), PostgreSQL does not say which it is: the
//! error names the parameters that it may be.
//!
//! A call with a wrong number of parameters, or with one that does not fit its type, is not sent, so a transaction goes
//! on after it. What the server has refused fails its transaction, or the nested one around it. With a connection that
//! is lost, or that none could take the place of, the whole transaction is over: nothing is committed without what
//! came before or after.
//!
//! The host itself repeats only what certainly was not executed, so a connection that died while it rested causes no
//! error.
//!
//! # Declared queries
//!
//! [`declare!`](crate::declare) gives a query a name and types on both sides. `hearth check` compares
//! such queries with the database before they are deployed, and a function can be limited to them.
//!
//! ```
//! hearth::declare! {
//!     fn in_stock(least: i32) -> (String, i32) = "SELECT sku, stock FROM product WHERE stock >= $1";
//!     fn sell(sku: &str) = "UPDATE product SET stock = stock - 1 WHERE sku = $1";
//! }
//!
//! # async fn example(db: &hearth::postgres::Client) -> Result<(), hearth::postgres::Error> {
//! let stocked: Vec<(String, i32)> = in_stock(1).query(db).await?;
//! let mut rows = in_stock(1).query_raw(db).await?; // as they arrive, with their types
//! let first: Option<(String, i32)> = rows.try_next().await?;
//! let sold: u64 = sell("lamp").execute(db).await?;
//! # drop((stocked, first, sold));
//! # Ok(())
//! # }
//! # fn main() {}
//! ```
//!
#![doc = include_str!("tokio_postgres.md")]
//!
//! [`tokio_postgres`]: https://docs.rs/tokio-postgres
//! [`postgres-types`]: https://docs.rs/postgres-types
//! [`types::Date<T>`]: https://docs.rs/postgres-types/latest/postgres_types/enum.Date.html
//! [`types::Timestamp<T>`]: https://docs.rs/postgres-types/latest/postgres_types/enum.Timestamp.html
//! [`types::Json<T>`]: https://docs.rs/postgres-types/latest/postgres_types/struct.Json.html

pub mod binary_copy;
mod cache;
mod call;
mod catalog;
mod cells;
mod client;
mod copy;
mod db_error;
mod declared;
pub mod error;
mod fitting;
mod generic_client;
mod methods;
mod numeric;
mod pipeline;
mod raw_value;
mod row;
mod row_stream;
mod savepoints;
mod session;
mod sql_state;
mod statement;
mod suspects;
mod transact;
mod transaction;

pub use binary_copy::{BinaryCopyInWriter, BinaryCopyOutStream};
pub use client::{Client, IsolationLevel, TransactionBuilder, default, open};
pub use copy::{CopyIn, CopyOut};
pub use db_error::{DbError, ErrorPosition, Severity};
#[doc(hidden)]
pub use declared::record;
pub use declared::{Columns, Declared, DeclaredRows, Parameters};
pub use error::Error;
pub use generic_client::GenericClient;
pub use numeric::{Numeric, ParseNumericError};
pub use pipeline::{Outcome, Pipeline};
pub use postgres_types as types;
pub use postgres_types::{BorrowToSql, FromSql, FromSqlOwned, ToSql, Type};
pub use raw_value::RawValue;
pub use row::{Row, RowIndex};
pub use row_stream::RowStream;
pub use session::{Notification, Session};
pub use sql_state::SqlState;
pub use statement::{Column, Statement, ToStatement};
pub use transaction::Transaction;
