//! A transaction that the guest has begun.
//!
//! Promises: the calls in a transaction run one after another, on one connection, and never outside of the transaction. A
//! commit at which the server has rolled back is an error. However the transaction ends, what it has left open is rolled
//! back before its connection does anything else, and a later transaction on that connection is left alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Session;
use super::leaving::Loss;
use super::savepoint::{Control, Savepoint, seen};
use super::seat::{Role, Seat};
use super::shared;
use super::turn::Renewal;
use super::work::{Ending, Work};
use crate::database::Database;
use crate::database::connection::READ_ONLY;
use crate::database::error::{Error, Result};
use crate::database::pool::Loan;
use crate::database::wire::Status;

/// How a transaction runs; what is not given is the database's default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// The isolation level, in SQL's words.
    pub isolation_level: Option<&'static str>,
    /// Whether it may not write.
    pub read_only: Option<bool>,
    /// Whether it may wait for a moment without conflicts.
    pub deferrable: Option<bool>,
}

impl Options {
    /// The statement that begins such a transaction.
    pub fn sql(&self) -> String {
        let mut modes = Vec::new();
        if let Some(level) = self.isolation_level {
            modes.push(format!("ISOLATION LEVEL {level}"));
        }
        if let Some(read_only) = self.read_only {
            modes.push(if read_only { READ_ONLY } else { "READ WRITE" }.to_owned());
        }
        if let Some(deferrable) = self.deferrable {
            modes.push(
                if deferrable {
                    "DEFERRABLE"
                } else {
                    "NOT DEFERRABLE"
                }
                .to_owned(),
            );
        }
        format!("BEGIN {}", modes.join(", "))
    }
}

/// A transaction. It begins on the server with its first statement, in the same round trip.
/// Dropping it rolls it back.
pub struct Transaction {
    session: Arc<Session>,
    seat: Arc<Seat>,
    begin: String,
    /// Which of the seat's it is.
    number: u64,
    /// Whether nothing was tried in it yet.
    fresh: AtomicBool,
    /// Whether it was committed or rolled back, or that was tried.
    over: AtomicBool,
}

impl Transaction {
    pub(in crate::database) fn new(
        session: Arc<Session>,
        seat: Arc<Seat>,
        begin: String,
        number: u64,
    ) -> Self {
        Self {
            session,
            // What a connection of the guest's own holds, no other connection has.
            fresh: AtomicBool::new(seat.role() == Role::Transaction),
            seat,
            begin,
            number,
            over: AtomicBool::new(false),
        }
    }

    /// The invocation that has begun it.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    pub(in crate::database) fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }

    /// Whether no other was begun on its connection since: its own text may have ended it.
    fn is_newest(&self) -> bool {
        self.seat.begun() == self.number
    }

    /// Sets a savepoint.
    pub async fn savepoint(&self, name: &str, timeout: Option<Duration>) -> Result<()> {
        self.to_savepoint(Savepoint::Set, name, timeout).await
    }

    /// Undoes everything since the newest savepoint of this name.
    pub async fn rollback_to(&self, name: &str, timeout: Option<Duration>) -> Result<()> {
        self.to_savepoint(Savepoint::GoBack, name, timeout).await
    }

    /// Forgets the newest savepoint of this name.
    pub async fn release(&self, name: &str, timeout: Option<Duration>) -> Result<()> {
        self.to_savepoint(Savepoint::Release, name, timeout).await
    }

    /// Commits. An error if the server rolled back instead, or if nobody knows what it did.
    pub async fn commit(&self, timeout: Option<Duration>) -> Result<()> {
        match self.conclude(Ending::Commit, timeout).await {
            Ok(true) => Ok(()),
            Ok(false) => self.session.counted(Err(Error::Aborted)),
            Err(error) => Err(error),
        }
    }

    /// Rolls back.
    pub async fn rollback(&self, timeout: Option<Duration>) -> Result<()> {
        self.conclude(Ending::Rollback, timeout).await.map(|_| ())
    }

    async fn conclude(&self, ending: Ending, timeout: Option<Duration>) -> Result<bool> {
        let concluded = match self.ends_unbegun() {
            true => Ok(true),
            false => {
                let concluding = self.run(Conclude(ending, timeout));
                self.session.counted(concluding.await)
            }
        };
        if !matches!(concluded, Err(Error::InUse)) {
            self.over.store(true, Ordering::Release);
            if self.is_newest() {
                self.seat.end_all_rows();
            }
        }
        if self.seat.role() == Role::Transaction {
            self.session.leave(&self.seat, Loss::Told);
        }
        concluded
    }

    /// Ends it if it was not begun, since there is no connection for it. Whether that is so.
    fn ends_unbegun(&self) -> bool {
        let is_empty = !self.session.has_ended() && self.seat.is_empty();
        is_empty && self.fresh.swap(false, Ordering::AcqRel)
    }

    async fn to_savepoint<'a>(
        &self,
        act: fn(&'a str) -> Savepoint<'a>,
        name: &'a str,
        timeout: Option<Duration>,
    ) -> Result<()> {
        let control = Control(act(seen(name)), timeout);
        self.session.counted(self.run(control).await)
    }

    /// Does a piece of work in it.
    pub(in crate::database) async fn run<W: Work>(&self, work: W) -> Result<W::Done> {
        if self.over.load(Ordering::Acquire) {
            return Err(Error::Ended);
        }
        self.session.admit(self.seat.database().name(), &work)?;
        shared::permit_within(self.seat.database(), &work)?;
        let within = Within(&work, self);
        // Nothing is lost with a transaction that had not begun.
        let renewal = Renewal {
            begin: Some(&self.begin),
            fresh: &self.fresh,
        };
        self.session
            .run_on(&self.seat, &within, Some(renewal))
            .await
    }
}

/// Work that makes sense within a transaction alone, whose text may have ended it (`COMMIT`), or
/// whose beginning was given up.
struct Within<'a, W>(&'a W, &'a Transaction);

impl<W: Work> Work for Within<'_, W> {
    type Done = W::Done;

    fn check(&self) -> Result<()> {
        self.0.check()
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.texts()
    }

    fn timeout(&self) -> Option<Duration> {
        self.0.timeout()
    }

    fn operation(&self) -> Option<&str> {
        self.0.operation()
    }

    fn executes(&self) -> bool {
        self.0.executes()
    }

    fn ending(&self) -> Option<Ending> {
        self.0.ending().filter(|_| self.1.is_newest())
    }

    async fn carry_out(&self, loan: &mut Loan, database: &Database) -> Result<W::Done> {
        if loan.is_outside() || !self.1.is_newest() {
            return Err(Error::Ended);
        }
        self.0.carry_out(loan, database).await
    }
}

/// Ends a transaction. Whether the server did it just so.
struct Conclude(Ending, Option<Duration>);

impl Work for Conclude {
    type Done = bool;

    fn timeout(&self) -> Option<Duration> {
        self.1
    }

    fn operation(&self) -> Option<&str> {
        Some(self.0.sql())
    }

    fn ending(&self) -> Option<Ending> {
        Some(self.0)
    }

    async fn carry_out(&self, loan: &mut Loan, _: &Database) -> Result<bool> {
        if loan.begin_never() {
            return Ok(true);
        }
        // Nothing follows for which they would be in force.
        loan.per_loan.terms.prelude = None;
        loan.secured = false;
        loan.savepoints.end();
        let has_failed = loan.status() == Some(Status::Failed);
        // The server's own limit is for statements, and is over when a commit begins with what was deferred.
        loan.per_loan.cancel_after = loan.per_loan.call_timeout.take();
        match end(loan, self.0.sql()).await {
            // The server's last words do not say what it did before them.
            Err(Error::Server(error)) if error.is_fatal() => Err(Error::ConnectionLost {
                maybe_executed: !has_failed,
            }),
            Ok(done) => {
                if done && self.0 == Ending::Commit {
                    loan.timeouts.committed();
                }
                Ok(done)
            }
            // Whatever became of it, nothing is committed.
            Err(error) if has_failed => Err(error.unexecuted()),
            Err(error) => Err(error),
        }
    }
}

async fn end(loan: &mut Loan, sql: &str) -> Result<bool> {
    match loan.resets_at_end() {
        true => loan.end_and_reset(sql).await,
        false => loan.control(sql).await,
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if self.seat.role() == Role::Transaction {
            self.session.settle_later(&self.seat);
        } else if !*self.over.get_mut() && self.is_newest() && !self.session.has_ended() {
            self.seat.drop_transaction();
            self.session.tidy_later(&self.seat);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_begins_as_its_options_say() {
        let all = Options {
            isolation_level: Some("SERIALIZABLE"),
            read_only: Some(true),
            deferrable: Some(false),
        };
        assert_eq!(
            all.sql(),
            "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, NOT DEFERRABLE"
        );
        assert_eq!(Options::default().sql().trim(), "BEGIN");
    }
}
