//! How a seat's connection gets rid of what nobody waits for any more.
//!
//! Promises: what has to be ended stays noted until it has ended. Whoever does it may give up at any await, and the next
//! turn on the seat goes on with it. A connection for which it takes too long is retired, unless nothing has to be ended
//! and only rows are still on their way. A call that has a time waits for it not much longer than that, unless the server
//! is heard of meanwhile.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::notices;
use super::seat::Seat;
use crate::database::error::{Error, Result};
use crate::database::pool::Loan;
use crate::limits;
use crate::lock::lock;
use crate::telemetry::line_of;

/// What has to be ended on a seat's connection before it is used again.
#[derive(Default)]
pub(super) struct Untidied {
    /// Whether the call under way was given up.
    given_up: AtomicBool,
    /// Whether the transaction that is open was dropped.
    dropped: AtomicBool,
    /// Whether the transaction that is open is to fail: the guest was told that a call in it has, of which the server
    /// does not know that.
    fails_later: AtomicBool,
    /// The portals whose rows nobody will read any more.
    ended_portals: Mutex<Vec<String>>,
}

/// What frees a connection for a call. Each can be given up and begun again.
#[derive(Clone, Copy)]
pub(in crate::database) enum Freeing {
    /// See [`Seat::tidy`].
    Tidying,
    /// See [`Seat::buffer_rows`].
    Buffering { ends_rows: bool },
}

impl Seat {
    /// Nobody waits for the call under way any more.
    pub(in crate::database) fn give_up(&self) {
        self.untidied.given_up.store(true, Ordering::Release);
        self.stop_flow();
    }

    /// Nobody will end the transaction that is open.
    pub(in crate::database) fn drop_transaction(&self) {
        self.untidied.dropped.store(true, Ordering::Release);
        self.stop_flow();
    }

    /// The guest is told that a call has failed, of which the server does not know that: nothing more is done in the
    /// transaction that is open, if one is, before that has failed as well.
    pub(in crate::database) fn fail_later(&self) {
        self.untidied.fails_later.store(true, Ordering::Release);
    }

    /// The same where the guest is told by this error that what it read in this transaction was too much, though the
    /// server has done all of it. Another transaction may be open by now: nothing is the matter with that.
    pub(in crate::database) fn fail_with(&self, transaction: u64, error: &Error) {
        let is_open = transaction == self.transaction();
        if is_open && matches!(error, Error::Capped(_) | Error::TooLarge(_)) {
            self.fail_later();
        }
    }

    /// Nobody will read the rows of this portal any more.
    pub(super) fn end_portal(&self, name: String) {
        lock(&self.untidied.ended_portals).push(name);
    }

    /// Frees the connection of what nobody waits for: a call that was given up, rows that will not be
    /// read, a transaction that was dropped.
    pub(in crate::database) async fn tidy(&self, loan: &mut Loan) -> Result<()> {
        // What is done here is no part of the call that was made last, or of the next one.
        loan.per_loan.request_time = None;
        for portal in std::mem::take(&mut *lock(&self.untidied.ended_portals)) {
            loan.forget_portal(&portal);
        }
        // Whoever gave it up still hears what was said until then.
        self.log_notices(loan);
        if self.untidied.fails_later.swap(false, Ordering::AcqRel) {
            loan.fail_later();
        }
        // Each is done with only when it is done: this may itself be given up. Nobody needs the transaction to go well
        // that is rolled back.
        if self.untidied.given_up.load(Ordering::Acquire)
            || self.untidied.dropped.load(Ordering::Acquire)
        {
            loan.give_up().await?;
            self.untidied.given_up.store(false, Ordering::Release);
        } else {
            loan.abandon_rows().await?;
        }
        if self.untidied.dropped.load(Ordering::Acquire) {
            loan.roll_back().await?;
            self.untidied.dropped.store(false, Ordering::Release);
        }
        loan.fail_transaction().await
    }

    /// Frees the connection for a call that has so much time, and has not begun. Where the server is silent for longer,
    /// the connection is given up.
    pub(in crate::database) async fn free(
        &self,
        loan: &mut Loan,
        time: Option<Duration>,
        how: Freeing,
    ) -> Result<()> {
        let Some(time) = time else {
            return self.free_by(loan, how).await;
        };
        let mut within = time.saturating_add(limits::CALL_GRACE);
        loop {
            let before = loan.wire.traffic.bytes();
            if let Ok(freed) = tokio::time::timeout(within, self.free_by(loan, how)).await {
                return freed;
            }
            if loan.wire.traffic.bytes() == before {
                loan.wire.end();
                return Err(loan.wire.lost().unexecuted());
            }
            within = limits::CALL_GRACE;
        }
    }

    async fn free_by(&self, loan: &mut Loan, how: Freeing) -> Result<()> {
        let freed = match how {
            Freeing::Tidying => self.tidy(loan).await,
            Freeing::Buffering { ends_rows } => self.buffer_rows(loan, ends_rows).await,
        };
        freed.map_err(Error::unexecuted)
    }

    /// Does that within a time, after which the connection is retired, unless it only has to read what is on its way.
    pub(in crate::database) async fn tidy_within(&self, within: Duration) {
        let mut held = self.loan.lock().await;
        // The next call came first and has done it: what flows by now is its own.
        if self.is_flowing() {
            return;
        }
        let Some(loan) = held.as_mut() else { return };
        let is_set = |flag: &AtomicBool| flag.load(Ordering::Acquire);
        let ends = [
            &self.untidied.given_up,
            &self.untidied.dropped,
            &self.untidied.fails_later,
        ];
        let reads_on = loan.reads_on() && !ends.into_iter().any(is_set);
        match tokio::time::timeout(within, self.tidy(loan)).await {
            Ok(Ok(())) => self.look_at(loan),
            // The transaction is well, and may take its time: the next call reads on.
            Err(_) if reads_on => {}
            Ok(Err(_)) | Err(_) => {
                self.retire(&mut held);
                self.report_retired();
            }
        }
    }

    /// Drops its connection without giving it back, which retires it. A seat without a connection counts no more among
    /// those that its invocation uses, however long the guest still holds it.
    pub(in crate::database) fn retire(&self, held: &mut Option<Loan>) {
        *held = None;
        self.leave_room();
        self.retired.store(true, Ordering::Release);
    }

    /// Makes the connection clean and gives it back, or retires it.
    pub(in crate::database) async fn settle(&self, within: Duration) {
        let mut left = self.clean(within).await;
        if left.is_some() {
            self.retire(&mut left);
        }
    }

    /// The same, after which the server holds nothing for it any more. An error if nobody knows that, also since it was
    /// retired before.
    pub(in crate::database) async fn close(&self, within: Duration) -> Result<()> {
        let is_over = match self.clean(within).await {
            None => !self.retired.load(Ordering::Acquire),
            Some(loan) if loan.is_dead() || loan.is_busy() => false,
            Some(loan) => loan.terminate().await,
        };
        match is_over {
            true => Ok(()),
            false => Err(Error::ConnectionLost {
                maybe_executed: false,
            }),
        }
    }

    /// Makes the connection clean and gives it back. If that cannot be done, it is returned.
    async fn clean(&self, within: Duration) -> Option<Loan> {
        self.end_all_rows();
        let mut loan = self.loan.lock().await.take()?;
        let settled = tokio::time::timeout(within, loan.settle()).await;
        self.log_notices(&mut loan);
        match settled {
            Ok(true) => {
                loan.give_back();
                None
            }
            Ok(false) | Err(_) => {
                self.report_retired();
                Some(loan)
            }
        }
    }

    /// Tells the log what the server has said beside its answers.
    fn log_notices(&self, loan: &mut Loan) {
        notices::log(loan, &self.account, self.database.name());
    }

    fn report_retired(&self) {
        line_of!(
            self.account,
            info,
            database = self.database.name(),
            "a connection was retired: it could not be made clean"
        );
    }
}
