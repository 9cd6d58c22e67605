//! `COPY`, in and out: a table's rows as a stream of bytes beside the statement.
//!
//! Promises:
//! - no more than one piece of the data is held: the host takes a piece from one side only when the other side takes it;
//! - a copy into a table copies all of its data or nothing. It copies nothing if it is dropped before its end, if its
//!   invocation ends, or if one of its pieces was refused or given up, whatever comes after that piece;
//! - the guest is told that the data of a copy out of a table are at their end only when they are;
//! - of a copy out of a table its rows are counted, and not what the server sends before and after them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Session;
use super::flow::Flow;
use super::grants::Meter;
use super::seat::Seat;
use super::turn::Claim;
use crate::database::error::{Error, Result};
use crate::limits;

/// Rows on their way into a table.
pub struct CopyIn {
    session: Arc<Session>,
    seat: Arc<Seat>,
    flow: Option<Flow>,
    over: tokio::sync::Mutex<bool>,
    /// Whether a piece of the data is missing.
    torn: AtomicBool,
}

/// A piece of the data, of which all comes through or the copy fails.
struct Piece<'a> {
    copy: &'a CopyIn,
    is_whole: bool,
}

impl Drop for Piece<'_> {
    fn drop(&mut self) {
        if !self.is_whole {
            self.copy.tear();
        }
    }
}

/// Rows on their way out of a table.
pub struct CopyOut {
    session: Arc<Session>,
    seat: Arc<Seat>,
    flow: Option<Flow>,
    /// The seat's transaction that it is part of, if one is open.
    transaction: u64,
    reading: tokio::sync::Mutex<Reading>,
}

struct Reading {
    /// Whether all data were read.
    ended: bool,
    /// Whether nothing can follow what was read, though that was not all.
    broken: bool,
    /// The error that follows the data that were read.
    failed: Option<Box<Error>>,
    meter: Meter,
}

impl CopyIn {
    pub(in crate::database) fn new(session: Arc<Session>, seat: Arc<Seat>) -> Self {
        Self {
            session,
            flow: seat.flow(),
            seat,
            over: tokio::sync::Mutex::new(false),
            torn: AtomicBool::new(false),
        }
    }

    /// The invocation that sends them.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Sends bytes; they need not end where a row does. Returns once the socket has taken them.
    pub async fn write(&self, bytes: &[u8]) -> Result<()> {
        let mut piece = Piece {
            copy: self,
            is_whole: false,
        };
        let written = self.send(bytes).await;
        piece.is_whole = written.is_ok();
        self.session.counted(written)
    }

    async fn send(&self, bytes: &[u8]) -> Result<()> {
        let mut over = self.over.lock().await;
        self.may_go_on(&mut over)?;
        let written = self
            .session
            .with_loan(&self.seat, Claim::to_go_on(self.flow, None), async |loan| {
                // Bytes that have half left cannot be followed by others.
                *over = true;
                loan.copy_write(bytes).await
            })
            .await;
        *over = false;
        if written.is_err() || self.torn.load(Ordering::Acquire) {
            self.fail(&mut over);
        }
        written
    }

    /// Ends the copy. How many rows were copied.
    pub async fn finish(&self) -> Result<u64> {
        self.session.counted(self.end().await)
    }

    async fn end(&self) -> Result<u64> {
        let mut over = self.over.lock().await;
        self.may_go_on(&mut over)?;
        let finished = self
            .session
            .with_loan(&self.seat, Claim::to_go_on(self.flow, None), async |loan| {
                *over = true;
                loan.copy_finish().await
            })
            .await;
        self.fail(&mut over);
        finished
    }

    /// A piece of the data does not come, and so no others can.
    pub fn tear(&self) {
        self.torn.store(true, Ordering::Release);
        // Whoever has the copy now will find that out.
        if let Ok(mut over) = self.over.try_lock() {
            let _ = self.may_go_on(&mut over);
        }
    }

    /// Refuses what comes behind the end, or behind a piece that is missing.
    fn may_go_on(&self, over: &mut bool) -> Result<()> {
        if *over || self.seat.flow() != self.flow {
            return Err(Error::Ended);
        }
        if self.torn.load(Ordering::Acquire) {
            self.fail(over);
            return Err(Error::Ended);
        }
        Ok(())
    }

    /// Nothing more is sent. What the server has not heard the end of, it does not copy.
    fn fail(&self, over: &mut bool) {
        *over = true;
        end_flow(&self.session, &self.seat, self.flow);
    }
}

impl Drop for CopyIn {
    fn drop(&mut self) {
        if !*self.over.get_mut() && self.seat.flow() == self.flow {
            self.session.end_flow(&self.seat);
        }
    }
}

/// Frees the connection of data that have ended, unless something else flows there by now.
fn end_flow(session: &Arc<Session>, seat: &Arc<Seat>, flow: Option<Flow>) {
    if !seat.is_flowing() || seat.flow() == flow {
        session.end_flow(seat);
    }
}

impl CopyOut {
    pub(in crate::database) fn new(session: Arc<Session>, seat: Arc<Seat>) -> Self {
        let meter = session.grants.meter(seat.database().name());
        Self {
            session,
            flow: seat.flow(),
            transaction: seat.transaction(),
            seat,
            reading: tokio::sync::Mutex::new(Reading {
                ended: false,
                broken: false,
                failed: None,
                meter,
            }),
        }
    }

    /// The invocation that receives them.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The next bytes, about so many; none at the end.
    pub async fn read(&self, bytes: usize) -> Result<Vec<u8>> {
        self.session.counted(self.receive(bytes).await)
    }

    async fn receive(&self, bytes: usize) -> Result<Vec<u8>> {
        let bytes = bytes.clamp(1, limits::BATCH_BYTES_MAX);
        let mut reading = self.reading.lock().await;
        if reading.ended {
            return Ok(Vec::new());
        }
        if let Some(error) = reading.failed.take() {
            reading.broken = true;
            // If it has ended with something around it, it has failed already, or was undone.
            if self.seat.flow() == self.flow {
                self.seat.fail_with(self.transaction, &error);
            }
            end_flow(&self.session, &self.seat, self.flow);
            return Err(*error);
        }
        if reading.broken || self.seat.flow() != self.flow {
            return Err(Error::Ended);
        }
        let mut read = self
            .session
            .with_loan(&self.seat, Claim::to_go_on(self.flow, None), async |loan| {
                // What arrives while nobody waits is lost.
                reading.broken = true;
                loan.copy_read(bytes).await
            })
            .await
            .and_then(|batch| reading.meter.count(&batch).map(|()| batch));
        if let Err(error) = &read {
            self.seat.fail_with(self.transaction, error);
        }
        reading.broken = read.is_err();
        if let Ok(batch) = &mut read {
            reading.ended = batch.last;
            reading.failed = batch.failed.take();
        }
        if reading.broken || reading.ended {
            end_flow(&self.session, &self.seat, self.flow);
        }
        Ok(read?.cells)
    }
}

impl Drop for CopyOut {
    fn drop(&mut self) {
        let reading = self.reading.get_mut();
        if !reading.ended && !reading.broken && self.seat.flow() == self.flow {
            self.session.end_flow(&self.seat);
        }
    }
}
