//! What becomes of a connection when a call is done with it, was given up, or has left something behind on it.
//!
//! Promises:
//! - what a guest gives up is ended on the server at once, and not when the connection is next used;
//! - a connection that later calls rely on, for a transaction or settings, stays with the invocation. It also stays if a
//!   call on it was given up: the transaction has then failed;
//! - if such a connection is lost, the next call says so, and does not run on another connection. What becomes of the
//!   calls behind that one is in [`super::lost`].

use std::sync::Arc;

use tokio::sync::oneshot;

use super::Session;
use super::seat::{Role, Seat};
use crate::database::error::{Error, Result};
use crate::database::pool::Loan;
use crate::database::server_error::Verdict;
use crate::limits;
use crate::lock::lock;

/// What the guest knows of the connection that it leaves, if that is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::database) enum Loss {
    /// It knows, and counts on nothing there.
    Told,
    /// It may count on what was left there, and is told by the next call.
    Untold,
}

impl Loss {
    /// The result of a call may say that the connection is lost. Another error may come just before its end, and tell
    /// the guest nothing of that.
    pub(in crate::database) fn told_by<R>(result: &Result<R>) -> Self {
        match result.as_ref().err().map(Error::verdict) {
            Some(Verdict::Lost) => Self::Told,
            Some(Verdict::Demoted | Verdict::Usable) | None => Self::Untold,
        }
    }
}

impl Session {
    /// The rows or data that a seat's connection has yet to send, or expects, end here.
    pub(in crate::database) fn end_flow(self: &Arc<Self>, seat: &Arc<Seat>) {
        seat.stop_flow();
        self.kept_changed.notify_waiters();
        if self.has_ended() {
            return;
        }
        let looked_at = |look: fn(&mut Loan) -> bool| {
            let held = seat.loan.try_lock();
            held.is_ok_and(|mut held| held.as_mut().is_some_and(look))
        };
        if seat.role() != Role::Cursor {
            if looked_at(|loan| loan.is_busy()) {
                self.tidy_later(seat);
            }
        } else if looked_at(|loan| loan.is_open() && loan.is_relied_on()) {
            self.keep(seat);
            self.give_up(seat);
            self.kept_changed.notify_waiters();
        } else {
            // The server may still be sending, or about to report an error.
            self.settle_later(seat);
        }
    }

    /// The guest no longer holds a seat.
    pub(in crate::database) fn release(self: &Arc<Self>, seat: &Arc<Seat>) {
        // Whatever has its turn now, what the host does there by itself included, leaves it to the guest.
        if seat.is_flowing() || !self.leave(seat, Loss::Told) {
            self.settle_later(seat);
        }
    }

    /// Ends the use of a seat: its connection goes back, stays, or is made clean first. False if somebody else has the
    /// turn.
    pub(in crate::database) fn leave(self: &Arc<Self>, seat: &Arc<Seat>, loss: Loss) -> bool {
        let Ok(mut held) = seat.loan.try_lock() else {
            // Who has it, or is next, will leave it.
            return false;
        };
        let role = seat.role();
        let Some(loan) = held.as_mut() else {
            // It is said to the next call that it was lost, unless there is none.
            if role.is_held() {
                self.forget(seat);
            }
            return true;
        };
        if seat.is_flowing() {
            seat.change(Role::Call, Role::Cursor);
        } else if loan.will_be_clean() {
            let loan = held.take();
            // A call that has found it here on another thread finds nothing that it relies on gone.
            seat.change(Role::Kept, Role::Call);
            drop(held);
            self.forget(seat);
            loan.into_iter().for_each(|loan| self.give_back(loan));
            if role == Role::Kept {
                self.kept_changed.notify_waiters();
            }
        } else if seat.is_at_its_end(loan) {
            let is_untold = loss == Loss::Untold;
            let missed = is_untold && !role.is_held() && loan.is_relied_on();
            seat.retire(&mut held);
            drop(held);
            match missed {
                true => self.keep(seat),
                false => self.forget(seat),
            }
        } else if role.is_held() || (loan.is_busy() && role != Role::Kept) {
            drop(held);
            self.settle_later(seat);
        } else {
            drop(held);
            self.keep(seat);
            self.kept_changed.notify_waiters();
        }
        true
    }

    /// Gives a connection back, if not before a request to cancel has been taken that could hit what comes next on it.
    fn give_back(&self, mut loan: Loan) {
        if loan.is_clean() {
            loan.give_back();
            return;
        }
        self.in_background(async move {
            let settled = tokio::time::timeout(limits::SETTLE_TIMEOUT, loan.settle());
            if let Ok(true) = settled.await {
                loan.give_back();
            }
        });
    }

    /// A seat stays for all further calls, behind those that do so already.
    fn keep(&self, seat: &Arc<Seat>) {
        let mut seats = self.seats();
        if seat.keep()
            && let Some(at) = seats.iter().position(|other| Arc::ptr_eq(other, seat))
        {
            let kept = seats.remove(at);
            seats.push(kept);
        }
    }

    /// The error for a call that finds no connection on its seat.
    pub(in crate::database) fn gone(&self, seat: &Arc<Seat>) -> Error {
        match seat.role() {
            // It was given back in the meantime, and the call is made elsewhere.
            Role::Call => {}
            Role::Kept => self.forget(seat),
            Role::Cursor | Role::Transaction | Role::Pinned => return Error::Ended,
        }
        Error::ConnectionLost {
            maybe_executed: false,
        }
    }

    /// The guest is told that a seat's connection is lost, and with it the transaction that was open there.
    pub(in crate::database) fn lose(&self, seat: &Seat) {
        let is_news = seat.lose();
        if is_news && seat.role() == Role::Kept && seat.has_transaction() {
            self.lost.add(seat.database());
        }
    }

    /// Makes a seat's connection clean in the background, and gives it back or retires it.
    pub(in crate::database) fn settle_later(&self, seat: &Arc<Seat>) {
        self.forget(seat);
        if seat.is_empty() {
            return;
        }
        let seat = seat.clone();
        self.in_background(async move { seat.settle(limits::SETTLE_TIMEOUT).await });
    }

    /// The same, and waits until the server holds nothing for it any more.
    pub(in crate::database) async fn close(&self, seat: &Arc<Seat>) -> Result<()> {
        self.forget(seat);
        let (tells, told) = oneshot::channel();
        let seat = seat.clone();
        self.in_background(async move {
            // Whoever waited may have given that up.
            let _ = tells.send(seat.close(limits::SETTLE_TIMEOUT).await);
        });
        let lost = Error::ConnectionLost {
            maybe_executed: false,
        };
        told.await.unwrap_or(Err(lost))
    }

    /// Ends what a seat's connection does for nobody, in the background. The seat stays in use.
    pub(in crate::database) fn tidy_later(self: &Arc<Self>, seat: &Arc<Seat>) {
        let (session, seat) = (self.clone(), seat.clone());
        self.in_background(async move {
            seat.tidy_within(limits::SETTLE_TIMEOUT).await;
            // The last call on it may have found that this has the next turn.
            session.leave_unless_held(&seat);
        });
    }

    /// Ends the use of a seat by calls, of which none may be left to do so.
    fn leave_unless_held(self: &Arc<Self>, seat: &Arc<Seat>) {
        if !seat.role().is_held() {
            self.leave(seat, Loss::Untold);
        }
    }

    /// The call under way on a seat was given up, if not by the end of the session, which settles all of its seats.
    fn interrupted(self: &Arc<Self>, seat: &Arc<Seat>) {
        if self.has_ended() {
            return;
        }
        match seat.role() {
            Role::Call | Role::Cursor => self.settle_later(seat),
            Role::Kept | Role::Transaction | Role::Pinned => self.give_up(seat),
        }
    }

    /// The call under way on a seat's connection was given up.
    fn give_up(self: &Arc<Self>, seat: &Arc<Seat>) {
        seat.give_up();
        self.kept_changed.notify_waiters();
        self.tidy_later(seat);
    }

    fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let mut settling = lock(&self.settling);
            // A long invocation gives up any number of calls, one after another.
            if settling.len() >= limits::LOANS_PER_INVOCATION_MAX {
                settling.retain(|task| !task.is_finished());
            }
            settling.push(runtime.spawn(work));
        }
    }
}

/// What is done with a seat when the one who waited on it has given up.
type Done = fn(&Arc<Session>, &Arc<Seat>);

/// Does something with a seat when it is dropped before it was disarmed: when whoever waits on the seat gives up, since
/// the guest has cancelled its call or is gone.
pub(in crate::database) struct IfGivenUp<'a> {
    session: &'a Arc<Session>,
    seat: &'a Arc<Seat>,
    /// None once it was disarmed.
    done: Option<Done>,
}

impl<'a> IfGivenUp<'a> {
    /// For a call that waits for its turn: if it gives up, its turn may have come already, with nobody to end it.
    pub(in crate::database) fn waiting(session: &'a Arc<Session>, seat: &'a Arc<Seat>) -> Self {
        Self {
            session,
            seat,
            done: Some(Session::leave_unless_held),
        }
    }

    /// For a call that has its turn, until it has ended.
    pub(in crate::database) fn running(session: &'a Arc<Session>, seat: &'a Arc<Seat>) -> Self {
        Self {
            session,
            seat,
            done: Some(Session::interrupted),
        }
    }

    /// What was waited for has come: nothing is to be done any more.
    pub(in crate::database) fn disarm(mut self) {
        self.done = None;
    }
}

impl Drop for IfGivenUp<'_> {
    fn drop(&mut self) {
        if let Some(done) = self.done {
            done(self.session, self.seat);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invocation::Deadline;
    use crate::telemetry::Account;

    #[tokio::test]
    async fn what_was_done_in_the_background_is_not_kept_for_the_end() {
        let session = Session::new(
            Arc::default(),
            super::super::grants::Grants::default(),
            Account::outside("tested", "test"),
            Deadline::after(std::time::Duration::from_secs(60)),
            false,
        );
        for _ in 0..10 * limits::LOANS_PER_INVOCATION_MAX {
            session.in_background(async {});
            tokio::task::yield_now().await;
        }
        assert!(lock(&session.settling).len() <= limits::LOANS_PER_INVOCATION_MAX);
    }
}
