//! The place of one borrowed connection within a session.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Database;
use super::error::{Error, Result};
use super::pool::Loan;

/// Holds a connection until it is given back, made clean or retired.
pub(super) struct Seat {
    database: Arc<Database>,
    pub(super) loan: tokio::sync::Mutex<Option<Loan>>,
    role: Mutex<Role>,
    /// Whether rows of an earlier call are still to be read from it.
    streaming: AtomicBool,
    /// The portals whose rows nobody will read any more.
    ended_portals: Mutex<Vec<String>>,
}

/// What a seat is occupied for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
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
    pub(super) fn is_held(self) -> bool {
        matches!(self, Self::Transaction | Self::Pinned)
    }
}

impl Seat {
    pub(super) fn new(database: Arc<Database>, loan: Loan, role: Role) -> Self {
        Self {
            database,
            loan: tokio::sync::Mutex::new(Some(loan)),
            role: Mutex::new(role),
            streaming: AtomicBool::new(false),
            ended_portals: Mutex::default(),
        }
    }

    pub(super) fn database(&self) -> &Arc<Database> {
        &self.database
    }

    pub(super) fn role(&self) -> Role {
        *lock(&self.role)
    }

    pub(super) fn change(&self, from: Role, to: Role) {
        let mut role = lock(&self.role);
        if *role == from {
            *role = to;
        }
    }

    /// Whether its connection is gone; false while a call uses it.
    pub(super) fn is_empty(&self) -> bool {
        self.loan.try_lock().is_ok_and(|place| place.is_none())
    }

    pub(super) fn is_streaming(&self) -> bool {
        self.streaming.load(Ordering::Acquire)
    }

    pub(super) fn set_streaming(&self, streaming: bool) {
        self.streaming.store(streaming, Ordering::Release);
    }

    /// Nobody will read these rows any more.
    pub(super) fn end_rows(&self, portal: Option<String>) {
        lock(&self.ended_portals).extend(portal);
        self.set_streaming(false);
    }

    /// The next statement on its connection begins a transaction first.
    pub(super) async fn begin_later(&self, begin: &str) {
        if let Some(loan) = self.loan.lock().await.as_mut() {
            loan.begin_later(begin.to_owned());
        }
    }

    /// Frees the connection of rows that nobody will read.
    pub(super) async fn tidy(&self, loan: &mut Loan) -> Result<()> {
        for portal in std::mem::take(&mut *lock(&self.ended_portals)) {
            loan.forget_portal(&portal);
        }
        loan.abandon_rows().await
    }

    /// Makes the connection clean and gives it back, or retires it.
    pub(super) async fn settle(&self, within: Duration) {
        let Some(mut loan) = self.loan.lock().await.take() else {
            return;
        };
        match tokio::time::timeout(within, loan.settle()).await {
            Ok(true) => loan.give_back(),
            Ok(false) | Err(_) => tracing::info!(
                database = self.database.name(),
                "a connection was retired: it could not be made clean after an invocation"
            ),
        }
    }
}

/// Whether a call can be made once more, on another connection: the first turned out to have been
/// gone before anything was sent.
pub(super) fn may_try_again<R>(first: &mut bool, seat: &Seat, result: &Result<R>) -> bool {
    let unsent = matches!(
        result,
        Err(Error::ConnectionLost {
            maybe_executed: false
        })
    );
    std::mem::take(first) && unsent && seat.role() == Role::Call
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is locked here is changed in single steps, so that a panic leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
