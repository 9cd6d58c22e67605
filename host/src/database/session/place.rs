//! Where a guest's calls are executed, and the calls themselves. The calls are the same on a database, in a transaction,
//! and on a connection that the guest has pinned.
//!
//! Promises: an error of which the guest is told is counted once. Of a result that has more rows than the function may
//! read, no further rows follow; if the statement has also written something in a transaction, the transaction fails.

use std::sync::Arc;
use std::time::Duration;

use super::Session;
use super::copy::{CopyIn, CopyOut};
use super::cursor::Cursor;
use super::pinned::Pinned;
use super::seat::Seat;
use super::transaction::Transaction;
use super::work::{self, Work};
use crate::database::Batch;
use crate::database::connection::pipeline::Outcome;
use crate::database::error::Result;
use crate::database::sql::copying::Direction;
use crate::database::sql::only_reads::only_reads;
use crate::database::statement::{Call, Description};

/// The beginning of a result.
pub struct FirstRows {
    /// The statement, unless the caller knows it already.
    pub statement: Option<Arc<Description>>,
    /// The first rows.
    pub first: Batch,
    /// Where the others come from.
    pub rest: Option<Cursor>,
}

/// Where calls are executed.
#[derive(Clone)]
pub enum Place {
    /// On a connection to this database that is borrowed for the call.
    Database(Arc<Session>, Arc<str>),
    /// In a transaction.
    Transaction(Arc<Transaction>),
    /// On a connection that the guest holds.
    Pinned(Arc<Pinned>),
}

impl Place {
    /// What the server says of statements.
    pub async fn prepare(&self, work: work::Prepare<'_>) -> Result<Vec<Arc<Description>>> {
        match self {
            // They may be known without a connection.
            Self::Database(session, name) => session.counted(session.prepare(name, work).await),
            _ => Ok(self.dispatch(work).await?.0),
        }
    }

    /// Executes a statement and reads its first rows.
    pub async fn query(&self, call: &Call) -> Result<FirstRows> {
        let (mut started, seat) = self.dispatch(work::Query(call)).await?;
        let session = self.session();
        let mut meter = session.grants.meter(seat.database().name());
        let counted = meter.count(&started.first);
        if counted.is_err() && !only_reads(&call.key.sql) {
            seat.fail_later();
        }
        // Before the refusal: dropping it frees the connection.
        let rest = Cursor::after(session, &seat, &mut started, meter, call);
        session.counted(counted)?;
        let changed = call.version != started.description.version;
        Ok(FirstRows {
            statement: changed.then_some(started.description),
            first: started.first,
            rest,
        })
    }

    /// Executes a statement and counts the rows it affected.
    pub async fn execute(&self, call: &Call) -> Result<u64> {
        Ok(self.dispatch(work::Execute(call)).await?.0)
    }

    /// Executes several statements in one round trip, all or none of them. If one fails in a
    /// transaction, so has that.
    pub async fn pipeline(&self, calls: &[Call]) -> Result<Vec<Outcome>> {
        let (outcomes, seat) = self.dispatch(work::Pipeline(calls)).await?;
        let session = self.session();
        let counted = session.grants.count(seat.database().name(), &outcomes);
        if counted.is_err() {
            seat.fail_later();
        }
        session.counted(counted)?;
        Ok(outcomes)
    }

    /// Executes statements without arguments.
    pub async fn batch_execute(&self, sql: &str, timeout: Option<Duration>) -> Result<()> {
        self.dispatch(work::Batch(sql, timeout)).await.map(|_| ())
    }

    /// Begins to send a table's rows, as `COPY … FROM STDIN` takes them.
    pub async fn copy_in(&self, sql: &str, timeout: Option<Duration>) -> Result<CopyIn> {
        let copy = work::Copy(sql, Direction::In, timeout);
        let ((), seat) = self.dispatch(copy).await?;
        Ok(CopyIn::new(self.session().clone(), seat))
    }

    /// Begins to receive rows, as `COPY … TO STDOUT` sends them.
    pub async fn copy_out(&self, sql: &str, timeout: Option<Duration>) -> Result<CopyOut> {
        let copy = work::Copy(sql, Direction::Out, timeout);
        let ((), seat) = self.dispatch(copy).await?;
        Ok(CopyOut::new(self.session().clone(), seat))
    }

    fn session(&self) -> &Arc<Session> {
        match self {
            Self::Database(session, _) => session,
            Self::Transaction(transaction) => transaction.session(),
            Self::Pinned(pinned) => pinned.session(),
        }
    }

    async fn dispatch<W: Work>(&self, work: W) -> Result<(W::Done, Arc<Seat>)> {
        let done = match self {
            Self::Database(session, name) => session.call(name, work).await,
            Self::Transaction(transaction) => {
                let done = transaction.run(work).await;
                done.map(|done| (done, transaction.seat().clone()))
            }
            Self::Pinned(pinned) => {
                let done = pinned.run(work).await;
                done.map(|done| (done, pinned.seat().clone()))
            }
        };
        self.session().counted(done)
    }
}
