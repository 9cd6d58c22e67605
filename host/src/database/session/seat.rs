//! The place of one borrowed connection within a session: what it is occupied for, and what its last call has left on
//! it.
//!
//! Promises: what a seat says of its connection is what was true when the last call on it was over.
//!
//! Left to others: whose turn it is ([`super::turn`]), what flows beside a call ([`super::flow`]), what has to be ended
//! on the connection ([`super::tidying`]), what becomes of it ([`super::leaving`]).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::OwnedSemaphorePermit;

use super::buffered_rows::BufferedRows;
use super::flow::Flows;
use super::tidying::Untidied;
use super::turn::Turns;
use crate::database::Database;
use crate::database::pool::Loan;
use crate::lock::lock;
use crate::telemetry::Account;

/// Holds a connection until it is given back, made clean or retired.
pub(in crate::database) struct Seat {
    pub(super) database: Arc<Database>,
    /// Whose it is.
    pub(super) account: Arc<Account>,
    pub(in crate::database) loan: tokio::sync::Mutex<Option<Loan>>,
    /// Whether the connection that it began with was made for it.
    pub(super) is_new: bool,
    role: Mutex<Role>,
    /// Its place among those that an invocation may use at a time.
    room: Mutex<Option<OwnedSemaphorePermit>>,
    /// Who uses it, or waits for it.
    pub(super) turns: Turns,
    /// What flows on it beside a call.
    pub(super) flows: Flows,
    /// What has to be ended on it first.
    pub(super) untidied: Untidied,
    /// How many transactions were begun on it.
    begun: AtomicU64,
    /// Whether a transaction was open when its last call was over.
    in_transaction: AtomicBool,
    /// How often its server had said by then that none is open.
    transactions: AtomicU64,
    /// Whether its connection was clean by then, or about to be.
    clean: AtomicBool,
    /// Whether the guest was told that its connection is lost.
    lost: AtomicBool,
    /// Whether its connection was dropped with something on it, so that nobody knows when the server lets go of that.
    pub(super) retired: AtomicBool,
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
            is_new: loan.is_new(),
            loan: tokio::sync::Mutex::new(Some(loan)),
            role: Mutex::new(role),
            room: Mutex::new(Some(room)),
            turns: Turns::default(),
            flows: Flows::new(buffered),
            untidied: Untidied::default(),
            begun: AtomicU64::new(0),
            in_transaction: AtomicBool::new(false),
            transactions: AtomicU64::new(0),
            clean: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            retired: AtomicBool::new(false),
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

    /// Whether a transaction was open on it when its last call was over.
    pub(in crate::database) fn has_transaction(&self) -> bool {
        self.in_transaction.load(Ordering::Acquire)
    }

    /// Whether its connection serves no further call.
    pub(in crate::database) fn is_at_its_end(&self, loan: &mut Loan) -> bool {
        !loan.is_open() || (loan.is_doomed() && self.role() == Role::Call)
    }

    /// The guest is told that its connection is lost. Whether it has not been told before.
    pub(in crate::database) fn lose(&self) -> bool {
        !self.lost.swap(true, Ordering::AcqRel)
    }

    /// Whether the guest was told that its connection is lost.
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
        self.clean.store(loan.will_be_clean(), Ordering::Release);
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

    /// One more transaction is begun on it. Its number.
    pub(in crate::database) fn begin_one(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The number of the transaction that was begun last.
    pub(in crate::database) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
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
