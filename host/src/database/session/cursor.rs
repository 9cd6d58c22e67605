//! Rows on their way to the guest, in batches.
//!
//! In a transaction the host fetches rows from a portal, some at a time. Between two fetches the transaction can be used
//! for something else. Outside of a transaction a portal would not outlive its first batch, so there the server sends
//! all rows, as fast as they are read.
//!
//! Promises: no more than one batch of a result is held at a time. The host reads from the server only when the guest
//! asks for more, so that a slow guest slows the server and not the host. An error in the middle of a result comes after
//! all the rows before it.

use std::sync::Arc;
use std::time::Duration;

use super::Session;
use super::flow::Flow;
use super::grants::Meter;
use super::leaving::Loss;
use super::seat::{Role, Seat};
use super::tidying::Freeing;
use super::turn::Claim;
use crate::database::connection::batch::{Batch, Rest};
use crate::database::connection::exchange::Started;
use crate::database::error::{Error, Result};
use crate::database::sql::only_reads::only_reads;
use crate::database::statement::Call;
use crate::limits;

/// The rows of a result that have not been read.
pub struct Cursor {
    session: Arc<Session>,
    seat: Arc<Seat>,
    fetch: tokio::sync::Mutex<Fetch>,
}

/// How far the rows have been read.
struct Fetch {
    rest: Rest,
    /// Bytes of the rows so far, and their number: how large the next ones may be.
    bytes: usize,
    rows: usize,
    /// The rows that the server was asked for, while they are on their way.
    flow: Option<Flow>,
    over: bool,
    /// Whether some are being fetched, or were when that was given up: those that have arrived since are lost.
    fetching: bool,
    /// The error that follows the rows that were read.
    failed: Option<Box<Error>>,
    /// How much the function has read of them.
    meter: Meter,
    /// How long the server may take for some of them, if less than the invocation has.
    timeout: Option<Duration>,
    /// In which transaction their statement has done more than read, if it has.
    written_in: Option<u64>,
}

impl Cursor {
    /// The rows that follow a statement's first ones, if any do.
    pub(in crate::database) fn after(
        session: &Arc<Session>,
        seat: &Arc<Seat>,
        started: &mut Started,
        meter: Meter,
        call: &Call,
    ) -> Option<Self> {
        let rest = started.rest.take()?;
        let stays = !matches!(seat.role(), Role::Call | Role::Cursor);
        Some(Self {
            session: session.clone(),
            seat: seat.clone(),
            fetch: tokio::sync::Mutex::new(Fetch {
                bytes: started.first.cells.len(),
                rows: started.first.rows as usize,
                flow: seat.flow_of(&rest),
                rest,
                over: false,
                fetching: false,
                failed: started.first.failed.take(),
                meter,
                timeout: call.timeout,
                written_in: (stays && !only_reads(&call.key.sql)).then(|| seat.transaction()),
            }),
        })
    }

    /// The invocation that reads them.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The next rows, about `bytes` of them. After the last batch, or an error, there are none.
    pub async fn next(&self, bytes: usize) -> Result<Batch> {
        self.session.counted(self.fetch(bytes).await)
    }

    async fn fetch(&self, bytes: usize) -> Result<Batch> {
        let bytes = bytes.clamp(1, limits::BATCH_BYTES_MAX);
        let mut fetch = self.fetch.lock().await;
        if fetch.over || fetch.fetching || self.session.has_ended() {
            return Err(Error::Ended);
        }
        if let Some(error) = fetch.failed.take() {
            self.fail_what_has_written(&fetch, &error);
            abandon(&self.session, &self.seat, &mut fetch);
            return Err(*error);
        }
        let mut fetched = self.fetch_some(&mut fetch, bytes).await;
        // Another call has met no more than the end of the server's answer: the portal has more.
        while fetched.as_ref().is_ok_and(Batch::says_nothing) {
            fetched = self.fetch_some(&mut fetch, bytes).await;
        }
        match &mut fetched {
            // Nothing was read, and everything is as it was.
            Err(Error::InUse) => {}
            Ok(batch) if fetch.meter.count(batch).is_err() => {
                let capped = fetch.meter.capped();
                self.fail_what_has_written(&fetch, &capped);
                abandon(&self.session, &self.seat, &mut fetch);
                return Err(capped);
            }
            Ok(batch) if !batch.last => {
                fetch.bytes += batch.cells.len();
                fetch.rows += batch.rows as usize;
                fetch.failed = batch.failed.take();
            }
            _ => {
                if let Err(error) = &fetched {
                    self.fail_what_has_written(&fetch, error);
                }
                fetch.over = true;
                let flows = self.seat.flow_of(&fetch.rest).is_some();
                self.seat.end_rows(&fetch.rest);
                if flows {
                    self.seat.stop_flow();
                }
                if !self.seat.role().is_held() {
                    self.session.leave(&self.seat, Loss::told_by(&fetched));
                }
            }
        }
        fetched
    }

    async fn fetch_some(&self, fetch: &mut Fetch, bytes: usize) -> Result<Batch> {
        let fetched = match self.seat.take_buffered(&fetch.rest) {
            Some(batch) => Ok(batch),
            None => match self.fetch_more(fetch, bytes).await {
                Err(Error::InUse) => return Err(Error::InUse),
                // They may have been read by another call while this one waited for its turn.
                Err(Error::Ended) => {
                    let buffered = self.seat.take_buffered(&fetch.rest);
                    buffered.ok_or_else(|| self.over())
                }
                fetched => fetched,
            },
        };
        fetch.flow = self.seat.flow_of(&fetch.rest);
        fetched
    }

    /// What is said where there are no more rows: the call that read them for this one may have lost the connection.
    fn over(&self) -> Error {
        match self.seat.is_lost() {
            true => Error::ConnectionLost {
                maybe_executed: true,
            },
            false => Error::Ended,
        }
    }

    /// What a statement has done is not to be committed with the rest, if the guest is told that it has failed.
    fn fail_what_has_written(&self, fetch: &Fetch, error: &Error) {
        if let Some(transaction) = fetch.written_in {
            self.seat.fail_with(transaction, error);
        }
    }

    async fn fetch_more(&self, fetch: &mut Fetch, bytes: usize) -> Result<Batch> {
        self.seat.may_admit(fetch.flow)?;
        let (rows_max, timeout, flow) = (fetch.rows_for(bytes), fetch.timeout, fetch.flow);
        let Fetch { rest, fetching, .. } = &mut *fetch;
        let fetched = self
            .session
            .with_loan(&self.seat, Claim::to_go_on(flow, timeout), async |loan| {
                // Whoever had the turn before has read some of them, but did not come to the end: what is
                // on its way now comes behind those.
                if let Some(batch) = self.seat.take_buffered(rest) {
                    return Ok(batch);
                }
                // From here on, rows that arrive while nobody waits are lost, and so are those after them.
                *fetching = true;
                // What is on its way then is nobody's, and not the portal's.
                if flow.is_none() {
                    self.seat.free(loan, timeout, Freeing::Tidying).await?;
                }
                loan.per_loan.call_timeout = timeout;
                loan.allow(1);
                loan.fetch(rest, rows_max, bytes).await
            })
            .await;
        *fetching = false;
        fetched
    }
}

impl Fetch {
    /// How many rows to ask for, if they are as large as the others were.
    fn rows_for(&self, bytes: usize) -> u32 {
        let each = (self.bytes / self.rows.max(1)).max(1);
        u32::try_from(bytes / each)
            .unwrap_or(limits::PORTAL_ROWS_MAX)
            .clamp(1, limits::PORTAL_ROWS_MAX)
    }
}

/// Frees the connection of rows that nobody will read.
fn abandon(session: &Arc<Session>, seat: &Arc<Seat>, fetch: &mut Fetch) {
    fetch.over = true;
    let flows = fetch.flow.is_some() && fetch.flow == seat.flow();
    seat.end_rows(&fetch.rest);
    if flows {
        session.end_flow(seat);
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        let fetch = self.fetch.get_mut();
        if fetch.fetching {
            // What was on its way is ended already, but a portal holds its table until it is closed.
            self.seat.end_rows(&fetch.rest);
        } else if !fetch.over {
            abandon(&self.session, &self.seat, fetch);
        }
    }
}
