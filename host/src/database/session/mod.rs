//! What one invocation has borrowed of the databases, and the end of it.
//!
//! Promises:
//! - a call borrows a connection from the pool, and gives it back when its rows are read, if the connection is clean by
//!   then. Otherwise the connection stays with the invocation, and later calls go there;
//! - however the invocation ends, nothing goes on for it on the server after that. Every open transaction is rolled back
//!   and every changed session is reset, or else the connection is retired;
//! - all of this is over when [`Session::end`] returns, within [`crate::limits::SETTLE_TIMEOUT`]. It goes on by itself if
//!   nobody waits for it.
//!
//! Left to others: which connection a call gets ([`self::borrowing`]), what becomes of a connection after a call
//! ([`self::leaving`]), and the guest's handles ([`crate::interface`]). Handles may outlive the session, and are then told
//! that it has ended.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

use crate::database::error::{Error, Result};
use crate::database::pool::Wait;
use crate::database::sql::listening::listens;
use crate::database::statement::Description;
use crate::database::{Database, Databases};
use crate::invocation::Deadline;
use crate::limits;
use crate::lock::lock;
use crate::telemetry::Account;
use buffered_rows::AllBufferedRows;
use grants::Grants;
use leaving::Loss;
use lost::LostTransactions;

mod borrowing;
mod buffered_rows;
pub mod copy;
pub mod cursor;
mod flow;
pub mod grants;
mod leaving;
mod lost;
mod notices;
pub mod pinned;
pub mod place;
mod repetition;
mod savepoint;
mod seat;
mod shared;
mod tidying;
pub mod transaction;
mod turn;
pub mod work;

use pinned::Pinned;
use repetition::Repetitions;
use seat::{Role, Seat};
use transaction::{Options, Transaction};
use turn::{Claim, Renewal};
use work::Work;

/// The loans of one invocation.
pub struct Session {
    databases: Arc<Databases>,
    pub(in crate::database) grants: Grants,
    pub(in crate::database) account: Arc<Account>,
    deadline: Deadline,
    /// For how long its invocation's work was paused, in milliseconds.
    paused_ms: AtomicU64,
    freezes: bool,
    ended: AtomicBool,
    ending: Notify,
    /// Tells that a connection is now kept for all further calls, or that one that is has nothing to do.
    pub(in crate::database) kept_changed: Notify,
    /// For the connections that it may use at a time, of all databases.
    room: Arc<Semaphore>,
    seats: Mutex<Vec<Arc<Seat>>>,
    lost: LostTransactions,
    /// How many turns on them were asked for.
    turns: AtomicU64,
    buffered: AllBufferedRows,
    pub(in crate::database) settling: Mutex<Vec<JoinHandle<()>>>,
}

impl Session {
    /// A session that has borrowed nothing yet, of the databases that the function may use.
    /// `freezes` says whether the environment is frozen between two invocations.
    pub fn new(
        databases: Arc<Databases>,
        grants: Grants,
        account: Arc<Account>,
        deadline: Deadline,
        freezes: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            databases,
            grants,
            account,
            deadline,
            paused_ms: AtomicU64::new(0),
            freezes,
            ended: AtomicBool::new(false),
            ending: Notify::new(),
            kept_changed: Notify::new(),
            room: Arc::new(Semaphore::new(limits::LOANS_PER_INVOCATION_MAX)),
            seats: Mutex::default(),
            lost: LostTransactions::default(),
            turns: AtomicU64::new(0),
            buffered: AllBufferedRows::default(),
            settling: Mutex::default(),
        })
    }

    /// What is told of the invocation.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Counts an error of which the guest is to be told, and passes the result on.
    pub fn counted<R>(&self, result: Result<R>) -> Result<R> {
        match &result {
            // The guest's part of the host asks again, with other bytes.
            Ok(_) | Err(Error::StatementChanged(_)) => {}
            Err(_) => {
                if let Some(tally) = self.account.tally() {
                    tally.database_failed();
                }
            }
        }
        result
    }

    /// The database of this name, if the function may use it.
    pub fn database(&self, name: &str) -> Result<Arc<Database>> {
        self.databases
            .get(name)
            .cloned()
            .ok_or_else(|| Error::UnknownDatabase(name.to_owned()))
    }

    /// What the server says of statements; from memory, if it has said so of all of them before and none of
    /// them is doubted.
    pub async fn prepare(
        self: &Arc<Self>,
        database: &str,
        work: work::Prepare<'_>,
    ) -> Result<Vec<Arc<Description>>> {
        let known = self.database(database)?;
        self.grants.permit(known.name(), &work)?;
        let told = |key| known.known(key).filter(|_| work.doubted.is_empty());
        let described: Option<Vec<_>> = work.keys.iter().map(told).collect();
        match described {
            Some(described) => Ok(described),
            None => Ok(self.call(database, work).await?.0),
        }
    }

    /// Borrows a connection for a transaction, which begins with its first statement.
    pub async fn begin(
        self: &Arc<Self>,
        database: &str,
        options: &Options,
        timeout: Option<Duration>,
    ) -> Result<Transaction> {
        let database = self.database(database)?;
        let begin = self.grants.begin(database.name(), options)?.sql();
        let seat = self.borrow(&database, Role::Transaction, timeout, Wait::UntilDeadline);
        let seat = seat.await?;
        seat.begin_later(&begin);
        let number = seat.begin_one();
        Ok(Transaction::new(self.clone(), seat, begin, number))
    }

    /// Borrows a connection for as long as the guest holds it.
    pub async fn pin(
        self: &Arc<Self>,
        database: &str,
        timeout: Option<Duration>,
    ) -> Result<Pinned> {
        let database = self.database(database)?;
        let seat = self.borrow(&database, Role::Pinned, timeout, Wait::UntilDeadline);
        let seat = seat.await?;
        Ok(Pinned::new(self.clone(), seat))
    }

    /// Ends the session: every loan is made clean and given back, or retired.
    pub async fn end(&self) {
        if let Some(settling) = self.end_beside() {
            settling.await;
        }
    }

    /// The same in the background. Returns what waits for it, if it is not done at once.
    pub fn end_beside(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        self.ended.store(true, Ordering::Release);
        self.ending.notify_waiters();
        self.buffered.close();
        let seats = std::mem::take(&mut *self.seats());
        self.room.close();
        for seat in seats {
            self.settle_later(&seat);
        }
        let settling = std::mem::take(&mut *lock(&self.settling));
        if settling.is_empty() {
            report(&self.databases, &self.account);
            return None;
        }
        let (databases, account) = (self.databases.clone(), self.account.clone());
        Some(async move {
            for task in settling {
                // It panicked or the runtime is going down; the loan was dropped, so it is retired.
                let _ = task.await;
            }
            report(&databases, &account);
        })
    }

    /// By when the invocation has to be answered, and its work to be done.
    pub fn deadline(&self) -> Deadline {
        let paused = Duration::from_millis(self.paused_ms.load(Ordering::Relaxed));
        self.deadline.later(paused)
    }

    /// Puts the deadline off: the invocation's work was paused for so long, which does not count.
    pub fn put_off(&self, time: Duration) {
        self.account.paused(time);
        let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.paused_ms.fetch_add(time, Ordering::Relaxed);
    }

    /// Does a piece of work on a connection of its own, or on the one that the invocation keeps. Once
    /// more, if the connection turned out to have been gone before anything was sent.
    pub(in crate::database) async fn call<W: Work>(
        self: &Arc<Self>,
        database: &str,
        work: W,
    ) -> Result<(W::Done, Arc<Seat>)> {
        self.admit(database, &work)?;
        let database = self.database(database)?;
        shared::permit(&database, &work)?;
        self.lost.heed(&database, &work)?;
        let mut repetitions = Repetitions::of(&database, work.timeout());
        loop {
            let seat = self.seat(&database, repetitions.time()).await?;
            let result = self.run_on(&seat, &work, None).await;
            let again = match &result {
                Ok(_) => false,
                Err(_) => Box::pin(repetitions.admit(self, &seat, &result)).await,
            };
            if !again {
                if Loss::told_by(&result) == Loss::Told && seat.is_lost() {
                    self.lost.tell(&database, &work);
                    self.kept_changed.notify_waiters();
                }
                return result.map(|done| (done, seat));
            }
        }
    }

    /// Refuses work that makes no sense, or that the function may not do.
    pub(in crate::database) fn admit(&self, database: &str, work: &impl Work) -> Result<()> {
        work.check()?;
        if self.freezes && work.texts().any(listens) {
            return Err(pinned::frozen());
        }
        self.grants.permit(database, work)
    }

    /// Does a piece of work on a seat's connection; on another one if nothing was done on that, and it is lost.
    pub(in crate::database) async fn run_on<W: Work>(
        self: &Arc<Self>,
        seat: &Arc<Seat>,
        work: &W,
        renewal: Option<Renewal<'_>>,
    ) -> Result<W::Done> {
        let _calling = seat.begin_call(&self.kept_changed);
        seat.may_admit(None)?;
        let texts = || work.texts().map(str::to_owned).collect();
        let claim = Claim {
            ends_rows: work.ending().is_some(),
            time: work.timeout(),
            // On one that the guest holds it waits for nothing but its own turn.
            within: work.timeout().filter(|_| seat.role() == Role::Kept),
            executes: work.executes(),
            ..Claim::default()
        };
        let name = seat.database().name();
        let call = self.account.call(name, work.operation(), texts);
        let done = self.with_loan_of(seat, claim, work, renewal).await;
        call.end(done.as_ref().err().map(Error::kind));
        done
    }

    /// Whether the environment is frozen between two invocations.
    pub(in crate::database) fn may_freeze(&self) -> bool {
        self.freezes
    }

    /// Runs a future unless and until the session ends. It stays where it is: these are large.
    pub(in crate::database) async fn unless_ended<R>(
        &self,
        future: Pin<&mut impl Future<Output = Result<R>>>,
    ) -> Result<R> {
        let ending = pin!(self.ending.notified());
        if self.has_ended() {
            return Err(Error::Ended);
        }
        tokio::select! {
            biased;
            // First: what is there at once needs nobody to listen.
            result = future => result,
            () = ending => Err(Error::Deadline),
        }
    }

    pub(in crate::database) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub(in crate::database) fn forget(&self, seat: &Arc<Seat>) {
        self.seats().retain(|other| !Arc::ptr_eq(other, seat));
        seat.leave_room();
    }

    pub(in crate::database) fn seats(&self) -> MutexGuard<'_, Vec<Arc<Seat>>> {
        lock(&self.seats)
    }
}

/// Tells the log how the pools stand after an invocation.
fn report(databases: &Databases, account: &Account) {
    if tracing::enabled!(tracing::Level::DEBUG) {
        let all = databases.values();
        all.for_each(|database| database.report(account));
    }
}
