//! Transactions, and transactions within transactions.
//!
//! Promises: what is not committed is rolled back. The outermost transaction is a handle of the
//! host, which rolls back when it is dropped; a nested one is a savepoint, and dropping it has the
//! next call of the transaction go back there first ([`super::savepoints`]).

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postgres_types::{BorrowToSql, FromSqlOwned, ToSql, Type};

use super::cache::StatementCache;
use super::call::{self, Host};
use super::cells;
use super::client::Database;
use super::copy::{CopyIn, CopyOut};
use super::error::{Error, Kind};
use super::methods::{statement_methods, timeout_method};
use super::pipeline::Pipeline;
use super::row::Row;
use super::row_stream::RowStream;
use super::savepoints::Savepoints;
use super::statement::sealed::Source;
use super::statement::{Statement, ToStatement};
use super::transact::Trouble;
use crate::bindings::hearth::postgres::client as wire;

/// An open transaction.
///
/// It takes effect with [`commit`](Self::commit) and is rolled back when it is dropped. It belongs
/// to the invocation that began it and ends with it.
///
/// Its calls run one after another on one connection, in the order in which they were made, also
/// if they are made at the same time. After a statement has failed PostgreSQL refuses all others
/// until the transaction, or a nested one around the statement, is rolled back.
///
/// The lifetime is that of the borrow of the transaction around a nested one, which cannot be used
/// meanwhile, or of the [`Session`](super::Session) on which it runs; it is `'static` for one that
/// [`Client::transaction`](super::Client::transaction) began.
///
/// A call whose future is dropped before it is ready is cancelled, which fails the transaction as an error would:
/// nobody knows what the server has done of it by then.
pub struct Transaction<'a> {
    open: Link<'a>,
    /// The savepoint at which it began: only for a nested one, and only as long as it is open.
    savepoint: Option<String>,
    depth: u32,
    timeout: Option<Duration>,
    parent: PhantomData<&'a mut ()>,
}

/// The outermost transaction is over when it is dropped, also if one nested in it was leaked.
enum Link<'a> {
    Outermost(Box<Open>),
    Nested(&'a Open),
}

impl Deref for Link<'_> {
    type Target = Open;

    fn deref(&self) -> &Open {
        match self {
            Self::Outermost(open) => open,
            Self::Nested(open) => open,
        }
    }
}

/// What a transaction shares with those nested in it.
struct Open {
    handle: wire::Transaction,
    database: Arc<Database>,
    savepoints: Savepoints,
    trouble: Trouble,
}

impl Transaction<'_> {
    pub(super) fn begun(
        database: Arc<Database>,
        handle: wire::Transaction,
        timeout: Option<Duration>,
    ) -> Self {
        Self {
            open: Link::Outermost(Box::new(Open {
                handle,
                database,
                savepoints: Savepoints::default(),
                trouble: Trouble::default(),
            })),
            savepoint: None,
            depth: 0,
            timeout,
            parent: PhantomData,
        }
    }

    statement_methods!(pub fn);
    timeout_method!();

    /// Begins a transaction within this one: a savepoint. It takes effect when all around it are
    /// committed, and can be rolled back alone, also after one of its statements has failed.
    pub async fn transaction(&mut self) -> Result<Transaction<'_>, Error> {
        let name = format!("hearth_{}", self.depth + 1);
        self.savepoint(name).await
    }

    /// As [`transaction`](Self::transaction), with a name of your choice for the savepoint. If the
    /// transaction has had one of that name, or very many others, or if it begins with `#`, a number goes in front: the
    /// first such savepoint of the transaction, whatever its name, is `#1 name`, the next one `#2 name`. PostgreSQL looks
    /// at 63 bytes of it.
    pub async fn savepoint(&mut self, name: impl Into<String>) -> Result<Transaction<'_>, Error> {
        self.open.settle().await?;
        let name = self.open.savepoints.name(&name.into());
        let timeout_ms = call::millis(self.timeout);
        let Open { handle, .. } = &*self.open;
        handle.savepoint(name.clone(), timeout_ms).await?;
        Ok(Transaction {
            open: Link::Nested(&self.open),
            savepoint: Some(name),
            depth: self.depth + 1,
            timeout: self.timeout,
            parent: PhantomData,
        })
    }

    /// Commits. A nested transaction becomes part of the one around it.
    ///
    /// Fails with [`Error::is_aborted`] if a statement had failed, so that nothing was committed, and
    /// displays which error that was; with [`Error::is_ended`] if its connection had been lost before; with
    /// [`Error::may_have_executed`] if it cannot be known whether it was committed; with
    /// [`Error::is_in_use`] while a `COPY` of the transaction has not ended. Whatever the error, the transaction is over:
    /// nothing of it takes effect (but where that cannot be known), and a [`CopyIn`] of it that is still there cannot be
    /// finished ([`Error::is_ended`]); one of a nested transaction is finished in vain.
    pub async fn commit(mut self) -> Result<(), Error> {
        self.open.settle().await?;
        let timeout_ms = call::millis(self.timeout);
        let Open { handle, .. } = &*self.open;
        match &self.savepoint {
            Some(name) => {
                handle.release(name.clone(), timeout_ms).await?;
                // Only now is there nothing left for the drop to undo.
                self.savepoint = None;
            }
            None => {
                let committed = handle.commit(timeout_ms).await;
                committed.map_err(|error| self.open.trouble.explain(error.into()))?;
            }
        }
        Ok(())
    }

    /// Rolls back. Dropping does the same; this says when it is done, and whether it was.
    ///
    /// Fails with [`Error::is_in_use`] while a `COPY` of the transaction has not ended; it is rolled back
    /// when that is dropped.
    pub async fn rollback(mut self) -> Result<(), Error> {
        match self.savepoint.take() {
            Some(name) => {
                self.open.savepoints.abandon(name);
                self.open.settle().await?;
            }
            None => {
                let timeout_ms = call::millis(self.timeout);
                self.open.handle.rollback(timeout_ms).await?;
            }
        }
        Ok(())
    }

    pub(super) fn trouble(&self) -> Trouble {
        self.open.trouble.clone()
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if let Some(name) = self.savepoint.take() {
            self.open.savepoints.abandon(name);
        }
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Transaction")
            .field("savepoint", &self.savepoint)
            .finish_non_exhaustive()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.trouble.end();
    }
}

impl Open {
    /// Undoes a nested transaction that was dropped, with what was given up there; what else was given up has the
    /// transaction fail. Before any other call.
    async fn settle(&self) -> Result<(), wire::Error> {
        let go_back = |name: String| async move {
            self.handle.rollback_to(name, None).await?;
            self.trouble.forget_given_up();
            Ok(())
        };
        let forget = |name: String| self.handle.release(name, None);
        self.savepoints.settle(go_back, forget).await?;
        self.trouble
            .fail(|| self.handle.rollback_to(NO_SAVEPOINT.to_owned(), None))
            .await
    }
}

/// To go back to a savepoint that there is not fails a transaction, whatever state it is in. The name is for
/// whoever reads the server's log.
const NO_SAVEPOINT: &str = "of a call that was given up";

/// An error before any of several statements was sent.
fn of_all(error: wire::Error) -> wire::PipelineError {
    wire::PipelineError { index: None, error }
}

impl Host for Transaction<'_> {
    fn statements(&self) -> &Mutex<StatementCache> {
        &self.open.database.statements
    }

    fn trouble(&self) -> Option<Trouble> {
        Some(self.open.trouble.clone())
    }

    fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    async fn send_prepare(
        &self,
        drafts: Vec<wire::Draft>,
    ) -> Result<Vec<wire::Statement>, wire::PipelineError> {
        self.open.settle().await.map_err(of_all)?;
        let Open {
            handle, trouble, ..
        } = &*self.open;
        let prepared = trouble
            .heard(handle.prepare(drafts, call::millis(self.timeout)))
            .await;
        trouble.note_failure(prepared)
    }

    async fn send_query(&self, call: wire::Call) -> Result<wire::Answer, wire::Error> {
        self.open.settle().await?;
        let Open {
            handle, trouble, ..
        } = &*self.open;
        trouble.note(trouble.heard(handle.query(call)).await)
    }

    async fn send_execute(&self, call: wire::Call) -> Result<u64, wire::Error> {
        self.open.settle().await?;
        let Open {
            handle, trouble, ..
        } = &*self.open;
        trouble.note(trouble.heard(handle.execute(call)).await)
    }

    async fn send_pipeline(
        &self,
        calls: Vec<wire::Call>,
    ) -> Result<Vec<wire::Outcome>, wire::PipelineError> {
        self.open.settle().await.map_err(of_all)?;
        let Open {
            handle, trouble, ..
        } = &*self.open;
        trouble.note(trouble.heard(handle.pipeline(calls)).await)
    }

    async fn send_batch(&self, sql: String) -> Result<(), wire::Error> {
        self.open.settle().await?;
        let Open {
            handle, trouble, ..
        } = &*self.open;
        trouble.note(
            trouble
                .heard(handle.batch_execute(sql, call::millis(self.timeout)))
                .await,
        )
    }

    async fn send_copy_in(&self, sql: String) -> Result<wire::CopyIn, wire::Error> {
        self.open.settle().await?;
        let Open {
            handle, trouble, ..
        } = &*self.open;
        trouble.note(
            trouble
                .heard(handle.copy_in(sql, call::millis(self.timeout)))
                .await,
        )
    }

    async fn send_copy_out(&self, sql: String) -> Result<wire::CopyOut, wire::Error> {
        self.open.settle().await?;
        let Open {
            handle, trouble, ..
        } = &*self.open;
        trouble.note(
            trouble
                .heard(handle.copy_out(sql, call::millis(self.timeout)))
                .await,
        )
    }
}
