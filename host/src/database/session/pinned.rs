//! A connection that the guest holds for as long as it wants: for settings, temporary tables, advisory locks and
//! notifications.
//!
//! Promises: all calls of a guest on it run on one connection, one after another. When the guest drops it, or the
//! invocation ends, the connection is made clean before it is lent again.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::Session;
use super::seat::Seat;
use super::shared;
use super::transaction::{Options, Transaction};
use super::turn::{Claim, Renewal};
use super::work::Work;
use crate::database::Database;
use crate::database::error::{Error, Result};
use crate::database::pool::Loan;
use crate::database::wire::notification::Notification;

/// A connection on loan to the guest itself.
pub struct Pinned {
    session: Arc<Session>,
    seat: Arc<Seat>,
    /// Whether nothing was tried on it yet.
    fresh: AtomicBool,
}

impl Pinned {
    pub(in crate::database) fn new(session: Arc<Session>, seat: Arc<Seat>) -> Self {
        Self {
            session,
            seat,
            fresh: AtomicBool::new(true),
        }
    }

    /// The invocation that holds it.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    pub(in crate::database) fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }

    pub(in crate::database) async fn run<W: Work>(&self, work: W) -> Result<W::Done> {
        self.session.admit(self.seat.database().name(), &work)?;
        shared::permit(self.seat.database(), &work)?;
        let renewal = self.renewal();
        self.session.run_on(&self.seat, &work, Some(renewal)).await
    }

    /// Nothing is lost with a connection on which nothing was done.
    fn renewal(&self) -> Renewal<'_> {
        Renewal {
            begin: None,
            fresh: &self.fresh,
        }
    }

    /// Begins a transaction on this connection; the server learns of it with its first statement.
    pub async fn begin(&self, options: &Options) -> Result<Transaction> {
        let name = self.seat.database().name();
        let begin = self.session.grants.begin(name, options)?.sql();
        self.seat.may_admit(None)?;
        let beginning = Begin(&self.seat, &begin);
        let renewal = self.renewal();
        let number = self
            .session
            .with_loan_of(&self.seat, Claim::default(), &beginning, Some(renewal))
            .await?;
        Ok(Transaction::new(
            self.session.clone(),
            self.seat.clone(),
            begin,
            number,
        ))
    }

    /// Waits for the next notification on a channel to which it listens. Giving up the wait does no
    /// harm.
    pub async fn notification(&self) -> Result<Notification> {
        shared::permit_notifications(self.seat.database())?;
        if self.session.may_freeze() {
            return Err(frozen());
        }
        self.seat.admits(None)?;
        let waiting = pin!(async {
            let mut held = self.seat.loan.lock().await;
            self.seat.admits(None)?;
            let loan = held.as_mut().ok_or(Error::Ended)?;
            // Else it would take an earlier call's answer for what the server says unasked.
            self.seat.tidy(loan).await?;
            loan.notification().await
        });
        self.session.unless_ended(waiting).await
    }

    /// Makes the connection clean and gives it back before it returns, or tells why that could not be
    /// done. Giving up the wait does no harm.
    pub async fn close(&self) -> Result<()> {
        let closing = pin!(self.session.close(&self.seat));
        self.session.unless_ended(closing).await
    }
}

/// Has the next statement begin a transaction first. Which of the seat's that is.
struct Begin<'a>(&'a Seat, &'a str);

impl Work for Begin<'_> {
    type Done = u64;

    fn sends(&self) -> bool {
        false
    }

    async fn carry_out(&self, loan: &mut Loan, _: &Database) -> Result<u64> {
        if !loan.is_outside() {
            return Err(Error::Invalid(
                "a transaction is open on this connection already; end it first, or set a savepoint in it".to_owned(),
            ));
        }
        loan.begin_later(self.1.to_owned());
        Ok(self.0.begin_one())
    }
}

/// What is said to whoever would be notified of something.
pub(in crate::database) fn frozen() -> Error {
    Error::Unsupported(
        "there are no notifications where the environment is frozen between two invocations: the server would \
         drop the connection, and what it told meanwhile"
            .to_owned(),
    )
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.session.release(&self.seat);
    }
}
