//! The place of one borrowed connection within a session: what it is occupied for, what flows there beside a call, and
//! what has still to be ended on it.
//!
//! Promises: what is noted here of the connection is what it was when its last call was over; rows or data flow for one
//! call at a time, and no two flows of a seat are equal; what has to be ended stays noted, here or by the connection,
//! until it has ended.
//!
//! Left to others: who has it when ([`super::turn`]), how what is noted is done ([`super::tidying`]), what becomes of
//! it ([`super::leaving`]).

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::buffered_rows::BufferedRows;
use crate::database::Batch;
use crate::database::Database;
use crate::database::connection::batch::Rest;
use crate::database::error::{Error, Result};
use crate::database::pool::Loan;
use crate::lock::lock;
use crate::telemetry::Account;

/// Holds a connection until it is given back, made clean or retired.
pub(in crate::database) struct Seat {
    pub(super) database: Arc<Database>,
    /// Whose it is.
    pub(super) account: Arc<Account>,
    pub(in crate::database) loan: tokio::sync::Mutex<Option<Loan>>,
    role: Mutex<Role>,
    /// Its place among those that an invocation may use at a time.
    room: Mutex<Option<OwnedSemaphorePermit>>,
    flow: Mutex<FlowState>,
    /// Whether the call under way was given up.
    pub(super) given_up: AtomicBool,
    /// Whether the transaction that is open was dropped.
    pub(super) dropped: AtomicBool,
    /// Whether the transaction that is open is to fail: the guest was told that a call in it has, of which the server
    /// does not know that.
    pub(super) fails_later: AtomicBool,
    /// How many transactions were begun on it.
    begun: AtomicU64,
    /// How many calls use it, or wait for it.
    calls: AtomicUsize,
    /// How many turns were asked for that are not over, and the number of the last one.
    turns: AtomicUsize,
    last_turn: AtomicU64,
    /// Whether a transaction was open when its last call was over.
    in_transaction: AtomicBool,
    /// How often its server had said by then that none is open.
    transactions: AtomicU64,
    /// Whether its connection was clean by then.
    clean: AtomicBool,
    /// Whether the guest was told that its connection is lost, and the transaction that was open there.
    lost: AtomicBool,
    /// Whether its connection was dropped with something on it, so that nobody knows when the server lets go of that.
    pub(super) retired: AtomicBool,
    /// The portals whose rows nobody will read any more.
    pub(super) ended_portals: Mutex<Vec<String>>,
    /// The rows that were read before the guest has asked for them.
    buffered: BufferedRows,
}

/// Rows or data that flow beside a call, from its end to theirs. No two of a seat are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::database) struct Flow(u64);

#[derive(Default)]
struct FlowState {
    count: u64,
    now: Option<Flow>,
    /// Whose rows these are, if they are rows.
    rows: Option<Rest>,
}

/// One of the calls that are counted, however it ends.
struct Calling<'a> {
    seat: &'a Seat,
    /// Tells that the seat may be free for others.
    freed: &'a Notify,
}

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        self.seat.calls.fetch_sub(1, Ordering::AcqRel);
        if self.seat.role() == Role::Kept {
            self.freed.notify_waiters();
        }
    }
}

/// A turn that was asked for and is not over, however it ends.
struct Turn<'a>(&'a AtomicUsize);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a seat is occupied for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::database) enum Role {
    /// One call, after which the connection goes back if it is clean.
    Call,
    /// All further calls of this invocation, since an earlier one has left something behind.
    Kept,
    /// The rows of one call.
    Cursor,
    /// A transaction.
    Transaction,
    /// Whatever the guest does with it while it holds it.
    Pinned,
}

impl Role {
    /// Whether the guest has a handle on the seat, and so says when its use ends.
    pub(in crate::database) fn is_held(self) -> bool {
        matches!(self, Self::Transaction | Self::Pinned)
    }
}

impl Seat {
    pub(in crate::database) fn new(
        database: Arc<Database>,
        account: Arc<Account>,
        loan: Loan,
        role: Role,
        room: OwnedSemaphorePermit,
        buffered: BufferedRows,
    ) -> Self {
        Self {
            database,
            account,
            loan: tokio::sync::Mutex::new(Some(loan)),
            role: Mutex::new(role),
            room: Mutex::new(Some(room)),
            flow: Mutex::default(),
            given_up: AtomicBool::new(false),
            dropped: AtomicBool::new(false),
            fails_later: AtomicBool::new(false),
            begun: AtomicU64::new(0),
            calls: AtomicUsize::new(0),
            turns: AtomicUsize::new(0),
            last_turn: AtomicU64::new(0),
            in_transaction: AtomicBool::new(false),
            transactions: AtomicU64::new(0),
            clean: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            ended_portals: Mutex::default(),
            buffered,
        }
    }

    pub(in crate::database) fn database(&self) -> &Arc<Database> {
        &self.database
    }

    pub(in crate::database) fn role(&self) -> Role {
        *lock(&self.role)
    }

    pub(in crate::database) fn change(&self, from: Role, to: Role) {
        let mut role = lock(&self.role);
        if *role == from {
            *role = to;
        }
    }

    /// It counts no more among those that its invocation uses.
    pub(super) fn leave_room(&self) {
        *lock(&self.room) = None;
    }

    /// Whether its connection is gone; false while a call uses it.
    pub(in crate::database) fn is_empty(&self) -> bool {
        self.loan.try_lock().is_ok_and(|held| held.is_none())
    }

    /// Whether nothing of the guest's is under way on it. What the host does there by itself ends soon.
    pub(in crate::database) fn is_free(&self) -> bool {
        self.calls.load(Ordering::Acquire) == 0 && !self.is_flowing()
    }

    /// A call uses it, or waits for it, until this is dropped; then who waits for a kept one is told.
    pub(in crate::database) fn begin_call<'a>(&'a self, freed: &'a Notify) -> impl Drop + use<'a> {
        self.calls.fetch_add(1, Ordering::AcqRel);
        Calling { seat: self, freed }
    }

    /// A turn is asked for, of this number, and is not over until this is dropped.
    pub(in crate::database) fn begin_turn(&self, number: u64) -> impl Drop + use<'_> {
        self.turns.fetch_add(1, Ordering::AcqRel);
        self.last_turn.store(number, Ordering::Release);
        Turn(&self.turns)
    }

    /// The number of the last turn, if nothing is under way on its connection.
    pub(in crate::database) fn stands_still(&self) -> Option<u64> {
        let rests = self.turns.load(Ordering::Acquire) == 0;
        rests.then(|| self.last_turn.load(Ordering::Acquire))
    }

    /// Whether a transaction was open on it when its last call was over.
    pub(in crate::database) fn has_transaction(&self) -> bool {
        self.in_transaction.load(Ordering::Acquire)
    }

    /// The guest is told that its connection is lost, and the transaction that was open there.
    pub(in crate::database) fn lose(&self) {
        self.lost.store(true, Ordering::Release);
    }

    /// The same, of a call that was to begin that transaction: later calls come here to be told.
    pub(in crate::database) fn lose_transaction(&self) {
        self.keep();
        self.in_transaction.store(true, Ordering::Release);
        self.lose();
    }

    /// Whether the guest was told so, and has not ended that transaction yet.
    pub(in crate::database) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// What tells the transaction that was open then, if one was, from all others.
    pub(in crate::database) fn transaction(&self) -> u64 {
        self.transactions.load(Ordering::Acquire)
    }

    /// Takes note of what a call has left behind.
    pub(in crate::database) fn look_at(&self, loan: &Loan) {
        let open = loan.wire.in_transaction();
        self.in_transaction.store(open, Ordering::Release);
        let transactions = loan.wire.transactions;
        self.transactions.store(transactions, Ordering::Release);
        self.clean.store(loan.is_clean(), Ordering::Release);
    }

    /// Whether it is kept for nothing any more, and its connection about to go back: what the host does there by
    /// itself still has its turn.
    pub(in crate::database) fn is_being_left(&self) -> bool {
        self.role() == Role::Kept && self.is_free() && self.clean.load(Ordering::Acquire)
    }

    /// It stays with the invocation, for all of its further calls. Whether it did not before.
    pub(in crate::database) fn keep(&self) -> bool {
        let mut role = lock(&self.role);
        let begins = !role.is_held() && *role != Role::Kept;
        if begins {
            *role = Role::Kept;
        }
        begins
    }

    /// What flows beside the last call, if anything does.
    pub(in crate::database) fn flow(&self) -> Option<Flow> {
        lock(&self.flow).now
    }

    /// The same, if it is these rows.
    pub(in crate::database) fn flow_of(&self, rows: &Rest) -> Option<Flow> {
        let flow = lock(&self.flow);
        flow.now.filter(|_| flow.rows.as_ref() == Some(rows))
    }

    pub(in crate::database) fn is_flowing(&self) -> bool {
        self.flow().is_some()
    }

    /// The rows that are on their way, if they may be read and kept for another call to have its turn: those of a
    /// portal; on a connection that all later calls have to use, those of any result.
    fn flowing_to_buffer(&self) -> Option<Rest> {
        let is_kept = self.role() == Role::Kept;
        let flow = lock(&self.flow);
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
        let mut flow = lock(&self.flow);
        if flow.now.is_none() {
            flow.count += 1;
            flow.now = Some(Flow(flow.count));
            flow.rows = rows.cloned();
        }
    }

    /// Nothing flows any more.
    pub(in crate::database) fn stop_flow(&self) {
        let mut flow = lock(&self.flow);
        (flow.now, flow.rows) = (None, None);
    }

    /// Nobody will read these rows any more.
    pub(in crate::database) fn end_rows(&self, rows: &Rest) {
        self.buffered.forget(&rows.name);
        if rows.is_portal {
            lock(&self.ended_portals).push(rows.name.clone());
        }
    }

    /// The transaction has ended, and with it all rows in it that nobody has read yet.
    pub(in crate::database) fn end_all_rows(&self) {
        self.buffered.forget_all();
    }

    /// The next of these rows among those that were read and kept.
    pub(in crate::database) fn take_buffered(&self, rows: &Rest) -> Option<Batch> {
        self.buffered.take(&rows.name)
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
            self.buffered.read(&rows.name, loan).await?;
        }
        self.stop_flow();
        Ok(())
    }

    /// Nobody waits for the call under way any more.
    pub(in crate::database) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
        self.stop_flow();
    }

    /// One more transaction is begun on it. Its number.
    pub(in crate::database) fn begin_one(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The number of the transaction that was begun last.
    pub(in crate::database) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// Nobody will end the transaction that is open.
    pub(in crate::database) fn drop_transaction(&self) {
        self.dropped.store(true, Ordering::Release);
        self.stop_flow();
    }

    /// The guest is told that a call has failed, of which the server does not know that: nothing more is done in the
    /// transaction that is open, if one is, before that has failed as well.
    pub(in crate::database) fn fail_later(&self) {
        self.fails_later.store(true, Ordering::Release);
    }

    /// The same where the guest is told by this error that what it read in this transaction was too much, though the
    /// server has done all of it. Another transaction may be open by now: nothing is the matter with that.
    pub(in crate::database) fn fail_with(&self, transaction: u64, error: &Error) {
        let is_open = transaction == self.transaction();
        if is_open && matches!(error, Error::Capped(_) | Error::TooLarge(_)) {
            self.fail_later();
        }
    }

    /// The next statement on its connection, which nobody has had yet, begins a transaction first.
    pub(in crate::database) fn begin_later(&self, begin: &str) {
        // Whoever has it all the same is the end of the session.
        if let Ok(mut held) = self.loan.try_lock()
            && let Some(loan) = held.as_mut()
        {
            loan.begin_later(begin.to_owned());
        }
    }
}
