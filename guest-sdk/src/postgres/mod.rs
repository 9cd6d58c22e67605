//! PostgreSQL, through the pool that the host keeps warm.
//!
//! The interface is that of [`tokio_postgres`], without what the host does: there is no address, no
//! password, no connection task and no pool here. [`open`] takes the name of a database in the
//! host's configuration.
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
//! Each call is one round trip to the database when it is warm: statements are prepared by the
//! host on whatever connection they run, and remembered here with their types. Two calls of a
//! [`Client`] at a time (`join!`) run at a time, on two connections; those of a [`Transaction`] in
//! turn.
//!
//! # Types
//!
//! Values travel as PostgreSQL's own binary format and are converted by [`postgres-types`], which
//! is re-exported as [`types`]. Beyond what it converts by itself, features of this crate switch on
//! its features of the same names:
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
//! | `json`, `jsonb` | `serde_json::Value`, [`types::Json<T>`] | `with-serde_json-1` |
//! | `uuid` | `uuid::Uuid` | `with-uuid-1` |
//! | `bit`, `macaddr`, `cidr`, `point` and others | `bit-vec`, `eui48`, `cidr`, `geo-types` | `with-bit-vec-0_9`, `with-eui48-1`, `with-cidr-0_3`, `with-geo-types-0_7` … |
//! | arrays of all these | `Vec<T>`; `[T; N]` with the feature | `array-impls` |
//! | enumerations, composites, domains | your types, by `#[derive(ToSql, FromSql)]` | `derive` |
//! | NULL | `Option<T>` | |
//! | any | [`RawValue`] | |
//!
//! What is missing there (`interval`, `tsvector`, `money`, ranges, the other geometric types …) can be
//! read and written as text, with a cast in SQL:
//! `SELECT age::text, $1::text::interval FROM person`. A [`RawValue`] carries a value of any type as
//! it is; a type of yours can implement [`ToSql`] and [`FromSql`] for whatever bytes PostgreSQL uses.
//!
//! ## Types of your own
//!
//! With the feature `derive`, `#[derive(ToSql, FromSql)]` works for enumerations, composite types
//! and domains, [as in `postgres-types`](https://docs.rs/postgres-types/latest/postgres_types/derive.ToSql.html).
//! What it expands to names the crate `postgres_types`; `hearth` can be that crate, by one line at
//! the root of yours:
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
//! What is not committed is rolled back, however its handler ends. A [`Transaction`] may contain
//! others, which are savepoints. Dropping one cannot wait for the server, so it is rolled back by
//! the next call of the transaction around it, before anything else.
//!
//! PostgreSQL may undo a transaction for the sake of others that run at the same time; with
//! `SERIALIZABLE` and `REPEATABLE READ` that is a part of the bargain. [`Client::transact`] runs a closure in
//! a transaction and does it again when that happens.
//!
//! # Declared queries
//!
//! [`declare!`](crate::declare) gives a query a name and types on both sides. `hearth check` compares
//! such queries with the database before they are deployed, and a function can be limited to them.
//!
//! # What is not here
//!
//! `COPY`, `LISTEN` and portals ([`Client::query_raw`] fetches in batches).
//!
//! [`tokio_postgres`]: https://docs.rs/tokio-postgres
//! [`postgres-types`]: https://docs.rs/postgres-types
//! [`types::Json<T>`]: https://docs.rs/postgres-types/latest/postgres_types/struct.Json.html

mod cache;
mod call;
mod catalog;
mod cells;
mod client;
mod copy;
mod declared;
mod error;
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
mod transact;
mod transaction;

pub use client::{Client, IsolationLevel, TransactionBuilder, default, open};
pub use copy::{CopyIn, CopyOut};
#[doc(hidden)]
pub use declared::record;
pub use declared::{Columns, Declared, Executor, Parameters};
pub use error::{DbError, Error};
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
