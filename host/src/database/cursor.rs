//! Rows on their way to the guest, in batches.
//!
//! Promises: no more than one batch of a result is held at a time; the server is read from only
//! when the guest asks for more, so that a slow guest slows the server and not the host; an error
//! in mid-result is an error of the batch in which it falls.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt;
use tokio_postgres::RowStream;

use super::error::{Error, Result};
use super::seat::{Role, Seat};
use super::session::Session;
use super::value;
use crate::limits;

/// Some rows of a result.
pub struct Batch {
    /// How many rows there are.
    pub rows: u32,
    /// Their cells.
    pub cells: Vec<u8>,
    /// Whether no rows follow.
    pub last: bool,
}

/// The rows of a result that have not been read.
pub struct Cursor {
    session: Arc<Session>,
    seat: Arc<Seat>,
    rows: tokio::sync::Mutex<Option<Pin<Box<RowStream>>>>,
}

impl Cursor {
    pub(super) fn new(session: Arc<Session>, seat: Arc<Seat>, rows: Pin<Box<RowStream>>) -> Self {
        Self {
            session,
            seat,
            rows: tokio::sync::Mutex::new(Some(rows)),
        }
    }

    /// The next rows, about `bytes` of them. After the last batch, or an error, there are none.
    pub async fn next(&self, bytes: usize) -> Result<Batch> {
        let bytes = bytes.clamp(1, limits::BATCH_BYTES_MAX);
        let mut place = self.rows.lock().await;
        let rows = place.as_mut().ok_or(Error::Ended)?;
        let batch = self.session.unless_ended(read(rows, bytes)).await;
        if !matches!(batch, Ok(Batch { last: false, .. })) {
            *place = None;
            self.finish(batch.is_err());
        }
        batch
    }

    /// Frees the connection: it is quiet after the last row, but not after an error.
    fn finish(&self, early: bool) {
        self.seat.stop_streaming();
        match self.seat.role() {
            // The server may still be sending, or about to report an error.
            Role::Cursor if early => self.session.settle_later(&self.seat),
            // In a transaction or a kept session, the driver discards the rest before it answers
            // the next statement.
            Role::Transaction | Role::Call => {}
            Role::Cursor | Role::Kept => self.session.leave(&self.seat),
        }
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        if self.rows.get_mut().take().is_some() {
            self.finish(true);
        }
    }
}

/// Reads rows until there are about `bytes` of them, or no more.
pub(super) async fn read(rows: &mut Pin<Box<RowStream>>, bytes: usize) -> Result<Batch> {
    let mut batch = Batch {
        rows: 0,
        cells: Vec::new(),
        last: false,
    };
    while batch.cells.len() < bytes && batch.rows < limits::BATCH_ROWS_MAX {
        let Some(row) = rows.next().await else {
            batch.last = true;
            break;
        };
        // What was asked for has been sent, so a loss here always leaves doubt.
        let row = row.map_err(|error| Error::from_driver(error, true))?;
        if row.raw_size_bytes() > limits::ROW_BYTES_MAX {
            return Err(Error::TooLarge(limits::ROW_BYTES_MAX));
        }
        value::append_row(&row, &mut batch.cells)
            .map_err(|error| Error::from_driver(error, true))?;
        batch.rows += 1;
    }
    Ok(batch)
}
