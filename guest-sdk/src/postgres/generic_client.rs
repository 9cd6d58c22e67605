//! What all that executes statements has in common, for code that does not care which it is.

use postgres_types::{BorrowToSql, FromSqlOwned, ToSql, Type};

use super::call::{self, Host};
use super::cells;
use super::client::Client;
use super::copy::{CopyIn, CopyOut};
use super::error::{Error, Kind};
use super::methods::statement_methods;
use super::pipeline::Pipeline;
use super::row::Row;
use super::row_stream::RowStream;
use super::session::Session;
use super::statement::sealed::Source;
use super::statement::{Statement, ToStatement};
use super::transaction::Transaction;

/// What executes statements: a [`Client`], a [`Transaction`] or a [`Session`]. Nothing else implements
/// it.
///
/// ```
/// use hearth::postgres::{Client, Error, GenericClient};
///
/// async fn stock(db: &impl GenericClient, sku: &str) -> Result<i32, Error> {
///     db.query_one_scalar("SELECT stock FROM product WHERE sku = $1", &[&sku]).await
/// }
///
/// async fn example(db: &Client) -> Result<(), Error> {
///     let tx = db.transaction().await?;
///     println!("{} now, {} before", stock(&tx, "lamp").await?, stock(db, "lamp").await?);
///     tx.commit().await
/// }
/// ```
#[expect(
    async_fn_in_trait,
    reason = "a guest has one thread, and no one else implements it"
)]
pub trait GenericClient: Host + Sized {
    statement_methods!(fn);

    /// Begins a transaction; on a [`Transaction`], one within it.
    async fn transaction(&mut self) -> Result<Transaction<'_>, Error>;
}

impl GenericClient for Client {
    async fn transaction(&mut self) -> Result<Transaction<'_>, Error> {
        Self::transaction(self).await
    }
}

impl GenericClient for Session {
    async fn transaction(&mut self) -> Result<Transaction<'_>, Error> {
        Self::transaction(self).await
    }
}

impl GenericClient for Transaction<'_> {
    async fn transaction(&mut self) -> Result<Transaction<'_>, Error> {
        Transaction::transaction(self).await
    }
}
