//! The rows of a result, as they arrive.
//!
//! Promises: memory for one batch at a time; a connection that is free as soon as the last batch
//! has arrived or the stream is dropped. Left to others: the bytes of a batch ([`super::cells`]).

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::cells::Batch;
use super::error::{Error, Kind};
use super::row::Row;
use super::statement::{Column, Statement};
use super::transact::{Trouble, noted};
use crate::bindings::hearth::postgres::client as wire;

/// How much to ask for at a time: enough for the call to cost little beside the rows, and little
/// beside the memory of an instance.
const BATCH_BYTES: u32 = 256 * 1024;

type Fetch = Pin<Box<dyn Future<Output = (wire::Cursor, Result<wire::Batch, wire::Error>)> + Send>>;

/// The rows of a result, fetched batch by batch. It is a [`Stream`] and `Unpin`; without any crate
/// for streams, [`try_next`](Self::try_next) reads it.
///
/// In a [`Transaction`](super::Transaction) other calls may be made while it is read, other streams
/// included: the host then holds the rows that are on their way, unless an invocation's are more than 4 MiB
/// ([`Error::is_in_use`]). A commit or rollback does not wait for them: with the transaction the rows that
/// have not arrived end ([`Error::is_ended`]). Elsewhere the result occupies its connection until the last
/// row is fetched: on a [`Session`](super::Session), read or drop the stream before the next call, which
/// otherwise fails ([`Error::is_in_use`]).
///
/// Dropped before its last row has arrived, it has the server stop the statement. Of one that writes nobody knows then,
/// outside of a transaction, whether what it did is done, undone or still going on for a moment: read it to the end
/// (`INSERT … RETURNING`), or have it in a transaction, which decides.
pub struct RowStream {
    statement: Statement,
    batch: Arc<Batch>,
    /// The next row of `batch`.
    next: usize,
    /// How many rows were in the batches before it.
    before: u64,
    rest: Rest,
    trouble: Option<Trouble>,
}

enum Rest {
    /// `batch` is the last one.
    None,
    /// An error was the end.
    Failed,
    There(wire::Cursor),
    Coming(Fetch),
}

impl RowStream {
    /// The rows of `first`, and then those behind the cursor.
    pub(super) fn new(
        statement: Statement,
        first: wire::Batch,
        rest: Option<wire::Cursor>,
        trouble: Option<Trouble>,
    ) -> Result<Self, Error> {
        let rest = match rest {
            Some(cursor) if !first.last => Rest::There(cursor),
            _ => Rest::None,
        };
        let batch = Arc::new(Batch::parse(first, statement.columns().len())?);
        Ok(Self {
            statement,
            batch,
            next: 0,
            before: 0,
            rest,
            trouble,
        })
    }

    /// The columns of the rows, also when there is no row.
    pub fn columns(&self) -> &[Column] {
        self.statement.columns()
    }

    /// How many rows the statement affected, or returned, if it returns any; `None` before the last row is
    /// read.
    pub fn rows_affected(&self) -> Option<u64> {
        let rows = self.batch.rows();
        let is_over = self.next == rows && matches!(self.rest, Rest::None);
        // Of a portal the server counts the rows that it was asked for last.
        is_over.then(|| self.batch.affected().max(self.before + rows as u64))
    }

    /// The next row, `None` after the last. An error is the end of the rows, too.
    pub async fn try_next(&mut self) -> Result<Option<Row>, Error> {
        std::future::poll_fn(|cx| self.poll_row(cx))
            .await
            .transpose()
    }

    /// All rows that are left.
    pub(super) async fn collect(mut self) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::with_capacity(self.batch.rows());
        while let Some(row) = self.try_next().await? {
            rows.push(row);
        }
        Ok(rows)
    }

    /// The only row that is left, `None` if there is none; an error if there are several, once the statement
    /// is executed whole.
    pub(super) async fn at_most_one(mut self) -> Result<Option<Row>, Error> {
        let row = self.try_next().await?;
        if row.is_some() && self.try_next().await?.is_some() {
            self.skip().await?;
            return Err(Error::new(Kind::RowCount { is_none: false }));
        }
        Ok(row)
    }

    /// Reads to the end: dropped before, the statement would be cancelled, and what it did undone.
    async fn skip(&mut self) -> Result<(), Error> {
        loop {
            self.next = self.batch.rows();
            if self.try_next().await?.is_none() {
                return Ok(());
            }
        }
    }

    fn poll_row(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Row, Error>>> {
        while self.next == self.batch.rows() {
            let result = match std::mem::replace(&mut self.rest, Rest::Failed) {
                end @ (Rest::None | Rest::Failed) => {
                    self.rest = end;
                    return Poll::Ready(None);
                }
                Rest::There(cursor) => {
                    self.rest = Rest::Coming(Box::pin(async move {
                        let batch = cursor.next(BATCH_BYTES).await;
                        (cursor, batch)
                    }));
                    continue;
                }
                Rest::Coming(mut fetch) => match fetch.as_mut().poll(cx) {
                    Poll::Ready(result) => result,
                    Poll::Pending => {
                        self.rest = Rest::Coming(fetch);
                        return Poll::Pending;
                    }
                },
            };
            if let Err(error) = self.accept(result) {
                return Poll::Ready(Some(Err(error)));
            }
        }
        let row = Row::new(self.statement.clone(), self.batch.clone(), self.next);
        self.next += 1;
        Poll::Ready(Some(Ok(row)))
    }

    /// Goes on with another batch; without, the rows are at their end.
    fn accept(
        &mut self,
        (cursor, batch): (wire::Cursor, Result<wire::Batch, wire::Error>),
    ) -> Result<(), Error> {
        let batch = noted(self.trouble.as_ref(), batch).map_err(|error| {
            let (sql, _) = self.statement.source();
            error.of_values(sql, self.statement.params())
        })?;
        let last = batch.last;
        let batch = Arc::new(Batch::parse(batch, self.columns().len())?);
        self.before += self.batch.rows() as u64;
        self.batch = batch;
        self.next = 0;
        self.rest = match last {
            true => Rest::None,
            false => Rest::There(cursor),
        };
        Ok(())
    }
}

impl Stream for RowStream {
    type Item = Result<Row, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_row(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let here = self.batch.rows() - self.next;
        let all = matches!(self.rest, Rest::None | Rest::Failed).then_some(here);
        (here, all)
    }
}

impl fmt::Debug for RowStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RowStream")
            .field("columns", &self.columns())
            .finish_non_exhaustive()
    }
}
