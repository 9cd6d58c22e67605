//! What flows on a seat's connection beside a call: rows on their way to the guest, or the data of a `COPY`.
//!
//! Promises: one thing flows on a seat at a time, and no two flows of a seat are equal. If rows are on their way that may
//! be read and kept, a call waits until that is done, and is not refused.
//!
//! Left to others: the rows that are kept ([`super::buffered_rows`]), how a flow is ended on the server
//! ([`super::tidying`]).

use std::sync::Mutex;

use super::buffered_rows::BufferedRows;
use super::seat::{Role, Seat};
use crate::database::Batch;
use crate::database::connection::batch::Rest;
use crate::database::error::{Error, Result};
use crate::database::pool::Loan;
use crate::lock::lock;

/// Rows or data that flow beside a call, from its end to theirs. No two of a seat are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::database) struct Flow(u64);

/// The flows of one seat.
pub(super) struct Flows {
    state: Mutex<State>,
    /// The rows that were read before the guest has asked for them.
    buffered: BufferedRows,
}

#[derive(Default)]
struct State {
    /// How many there were.
    count: u64,
    now: Option<Flow>,
    /// Whose rows these are, if they are rows.
    rows: Option<Rest>,
}

impl Flows {
    /// Those of a seat on which nothing has flowed yet. The rows that it keeps go here.
    pub(super) fn new(buffered: BufferedRows) -> Self {
        Self {
            state: Mutex::default(),
            buffered,
        }
    }
}

impl Seat {
    /// What flows beside the last call, if anything does.
    pub(in crate::database) fn flow(&self) -> Option<Flow> {
        lock(&self.flows.state).now
    }

    /// The same, if it is these rows.
    pub(in crate::database) fn flow_of(&self, rows: &Rest) -> Option<Flow> {
        let flow = lock(&self.flows.state);
        flow.now.filter(|_| flow.rows.as_ref() == Some(rows))
    }

    pub(in crate::database) fn is_flowing(&self) -> bool {
        self.flow().is_some()
    }

    /// The rows that are on their way, if they may be read and kept for another call to have its turn: those of a
    /// portal; on a connection that all later calls have to use, those of any result.
    fn flowing_to_buffer(&self) -> Option<Rest> {
        let is_kept = self.role() == Role::Kept;
        let flow = lock(&self.flows.state);
        let rows = flow.rows.as_ref();
        rows.filter(|rows| rows.is_portal || is_kept).cloned()
    }

    /// Whether a call may have its turn that needs this to flow: nothing, or what it goes on with itself.
    pub(in crate::database) fn admits(&self, needed: Option<Flow>) -> Result<()> {
        match (needed, self.flow()) {
            (needed, now) if needed == now => Ok(()),
            (None, _) => Err(Error::InUse),
            // It ended with something around it, and what flows by now is another's.
            (Some(_), _) => Err(Error::Ended),
        }
    }

    /// The same, of a call that can wait until rows that are on their way were read and kept.
    pub(in crate::database) fn may_admit(&self, needed: Option<Flow>) -> Result<()> {
        match self.admits(needed) {
            Err(Error::InUse) if self.flowing_to_buffer().is_some() => Ok(()),
            admitted => admitted,
        }
    }

    /// Something flows now, perhaps these rows, or goes on to flow.
    pub(in crate::database) fn begin_flow(&self, rows: Option<&Rest>) {
        let mut flow = lock(&self.flows.state);
        if flow.now.is_none() {
            flow.count += 1;
            flow.now = Some(Flow(flow.count));
            flow.rows = rows.cloned();
        }
    }

    /// Nothing flows any more.
    pub(in crate::database) fn stop_flow(&self) {
        let mut flow = lock(&self.flows.state);
        (flow.now, flow.rows) = (None, None);
    }

    /// Nobody will read these rows any more.
    pub(in crate::database) fn end_rows(&self, rows: &Rest) {
        self.flows.buffered.forget(&rows.name);
        if rows.is_portal {
            self.end_portal(rows.name.clone());
        }
    }

    /// The transaction has ended, and with it all rows in it that nobody has read yet.
    pub(in crate::database) fn end_all_rows(&self) {
        self.flows.buffered.forget_all();
    }

    /// The next of these rows among those that were read and kept.
    pub(in crate::database) fn take_buffered(&self, rows: &Rest) -> Option<Batch> {
        self.flows.buffered.take(&rows.name)
    }

    /// Ends the flow of rows, so that a call can have its turn: they are read and kept, or dropped later if the call
    /// ends them (`ends_rows`).
    pub(in crate::database) async fn buffer_rows(
        &self,
        loan: &mut Loan,
        ends_rows: bool,
    ) -> Result<()> {
        let Some(rows) = self.flowing_to_buffer() else {
            return Ok(());
        };
        if !ends_rows {
            self.flows.buffered.read(&rows.name, loan).await?;
        }
        self.stop_flow();
        Ok(())
    }
}
