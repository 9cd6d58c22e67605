//! A connection of one's own, for what lives in PostgreSQL's session.
//!
//! Promises: all calls run on one connection; dropping it gives that back, with everything undone, and
//! closing it waits for that.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postgres_types::{BorrowToSql, FromSqlOwned, ToSql, Type};

use super::cache::StatementCache;
use super::call::{self, Host};
use super::cells;
use super::client::{Database, TransactionBuilder};
use super::copy::{CopyIn, CopyOut};
use super::error::{Error, Kind};
use super::methods::{statement_methods, timeout_method};
use super::pipeline::Pipeline;
use super::row::Row;
use super::row_stream::RowStream;
use super::statement::sealed::Source;
use super::statement::{Statement, ToStatement};
use super::transaction::Transaction;
use crate::bindings::hearth::postgres::client as wire;

/// A connection that this invocation holds: for settings (`SET`), temporary tables, advisory locks
/// and notifications, which a [`Client`](super::Client) cannot promise to find again.
///
/// Its calls run one after another. Dropping it, or the end of the invocation, undoes all that its
/// statements have left in PostgreSQL's session, and gives the connection back. Dropping does not wait for
/// that: who needs a lock to be free at once, such as for another session of the same invocation, calls
/// [`close`](Self::close).
pub struct Session {
    handle: wire::Session,
    database: Arc<Database>,
    timeout: Option<Duration>,
}

/// What another session has told with `NOTIFY`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Notification {
    /// The server's number of the session that told it.
    pub process_id: i32,
    /// The channel.
    pub channel: String,
    /// The text that came with it; empty if none did.
    pub payload: String,
}

impl Session {
    pub(super) fn new(
        database: Arc<Database>,
        handle: wire::Session,
        timeout: Option<Duration>,
    ) -> Self {
        Self {
            handle,
            database,
            timeout,
        }
    }

    statement_methods!(pub fn);
    timeout_method!();

    /// Begins a transaction on this connection, with the database's defaults. As a
    /// [`Client`](super::Client)'s, it is rolled back when it is dropped; the session goes on.
    pub async fn transaction(&mut self) -> Result<Transaction<'_>, Error> {
        self.build_transaction().start().await
    }

    /// A transaction on this connection with other than the database's defaults, or one that is done
    /// again when others are in its way ([`TransactionBuilder::transact`]).
    pub fn build_transaction(&mut self) -> TransactionBuilder<'_> {
        let database = self.database.clone();
        TransactionBuilder::new(database, Some(&self.handle), self.timeout)
    }

    /// Listens to a channel from now on; its notifications come from
    /// [`notification`](Self::notification).
    ///
    /// The name is taken as it is, upper and lower case included. Fails with
    /// [`Error::is_unsupported`] where Lambda freezes the environment between two invocations.
    pub async fn listen(&self, channel: &str) -> Result<(), Error> {
        let quoted = channel.replace('"', "\"\"");
        self.batch_execute(&format!("LISTEN \"{quoted}\"")).await
    }

    /// Waits for the next notification. All other calls of this session wait meanwhile, until it is ready or its future
    /// is dropped: make them on a second session or on the client, or wait in slices, with
    /// [`timeout`](crate::timeout) in a loop.
    ///
    /// [`set_timeout`](Self::set_timeout) is about statements, not about this. What comes later is not lost with a
    /// future that is dropped; what arrives at the very moment may be. Where each counts, keep the future until it is
    /// ready, or have notifications say only that there is something to look up, and look it up after a timeout too.
    ///
    /// Fails with [`Error::is_unsupported`] where Lambda freezes the environment between two
    /// invocations; it works on the local host and on Lambda Managed Instances.
    pub async fn notification(&self) -> Result<Notification, Error> {
        let notification = self.handle.notification().await?;
        Ok(Notification {
            process_id: notification.process_id,
            channel: notification.channel,
            payload: notification.payload,
        })
    }

    /// Undoes all that its statements have left in PostgreSQL's session and gives the connection back before
    /// it returns: the session's locks are free by then, and another session or call can have its connection.
    ///
    /// Fails with [`Error::is_closed`] if the connection is lost, so that the server may not know yet that
    /// this session is over. What was committed is committed all the same.
    pub async fn close(self) -> Result<(), Error> {
        Ok(self.handle.close().await?)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Host for Session {
    fn statements(&self) -> &Mutex<StatementCache> {
        &self.database.statements
    }

    fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    async fn send_prepare(
        &self,
        drafts: Vec<wire::Draft>,
    ) -> Result<Vec<wire::Statement>, wire::PipelineError> {
        self.handle
            .prepare(drafts, call::millis(self.timeout))
            .await
    }

    async fn send_query(&self, call: wire::Call) -> Result<wire::Answer, wire::Error> {
        self.handle.query(call).await
    }

    async fn send_execute(&self, call: wire::Call) -> Result<u64, wire::Error> {
        self.handle.execute(call).await
    }

    async fn send_pipeline(
        &self,
        calls: Vec<wire::Call>,
    ) -> Result<Vec<wire::Outcome>, wire::PipelineError> {
        self.handle.pipeline(calls).await
    }

    async fn send_batch(&self, sql: String) -> Result<(), wire::Error> {
        self.handle
            .batch_execute(sql, call::millis(self.timeout))
            .await
    }

    async fn send_copy_in(&self, sql: String) -> Result<wire::CopyIn, wire::Error> {
        self.handle.copy_in(sql, call::millis(self.timeout)).await
    }

    async fn send_copy_out(&self, sql: String) -> Result<wire::CopyOut, wire::Error> {
        self.handle.copy_out(sql, call::millis(self.timeout)).await
    }
}
