//! How a call gets its turn on a seat, and what is done in a turn.
//!
//! Promises: the calls on one seat have their turns in the order in which they have asked for them. A call that stops
//! waiting for its turn has done nothing. At the end of a turn the host sees to what the call has left on the connection.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{MutexGuard, Notify};

use super::Session;
use super::flow::Flow;
use super::leaving::{IfGivenUp, Loss};
use super::notices;
use super::repetition::Attempts;
use super::seat::{Role, Seat};
use super::tidying::Freeing;
use super::work::{Ending, Work};
use crate::database::Database;
use crate::database::connection::Terms;
use crate::database::error::{Error, Result};
use crate::database::pool::Loan;
use crate::database::server_error::Verdict;
use crate::database::wire::Status;

/// What a call asks for with its turn.
#[derive(Default)]
pub(in crate::database) struct Claim {
    /// That just this is on its way on the connection, or nothing; rows of a portal are read and kept to that end.
    pub(in crate::database) flow: Option<Flow>,
    /// That such rows are not kept: this call ends them.
    pub(in crate::database) ends_rows: bool,
    /// That the turn comes within this time; else it is waited for without limit.
    pub(in crate::database) within: Option<Duration>,
    /// How long the call may take once it has its turn.
    pub(in crate::database) time: Option<Duration>,
    /// That something is missing in the transaction if it does not.
    pub(in crate::database) executes: bool,
}

/// What becomes of a seat on which nothing was done, when its connection is lost.
#[derive(Clone, Copy)]
pub(in crate::database) struct Renewal<'a> {
    /// What its next statement begins first.
    pub(in crate::database) begin: Option<&'a str>,
    /// Says that nothing was done there yet, until a call has its turn; and again while another connection is waited
    /// for, and after that if there is none and no transaction was to begin.
    pub(in crate::database) fresh: &'a AtomicBool,
}

/// The calls on one seat, and their turns.
#[derive(Default)]
pub(super) struct Turns {
    /// How many calls use it, or wait for it.
    calls: AtomicUsize,
    /// How many turns were asked for that are not over, and the number of the last one.
    asked: AtomicUsize,
    last: AtomicU64,
}

/// One of the calls that are counted, however it ends.
struct Calling<'a> {
    seat: &'a Seat,
    /// Tells that the seat may be free for others.
    freed: &'a Notify,
}

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        self.seat.turns.calls.fetch_sub(1, Ordering::AcqRel);
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

impl Claim {
    /// To go on with what flows, for so long.
    pub(in crate::database) fn to_go_on(flow: Option<Flow>, time: Option<Duration>) -> Self {
        Self {
            flow,
            time,
            ..Self::default()
        }
    }
}

impl Seat {
    /// Whether nothing of the guest's is under way on it. What the host does there by itself ends soon.
    pub(in crate::database) fn is_free(&self) -> bool {
        self.turns.calls.load(Ordering::Acquire) == 0 && !self.is_flowing()
    }

    /// A call uses it, or waits for it, until this is dropped; then who waits for a kept one is told.
    pub(in crate::database) fn begin_call<'a>(&'a self, freed: &'a Notify) -> impl Drop + use<'a> {
        self.turns.calls.fetch_add(1, Ordering::AcqRel);
        Calling { seat: self, freed }
    }

    /// A turn is asked for, of this number, and is not over until this is dropped.
    pub(in crate::database) fn begin_turn(&self, number: u64) -> impl Drop + use<'_> {
        self.turns.asked.fetch_add(1, Ordering::AcqRel);
        self.turns.last.store(number, Ordering::Release);
        Turn(&self.turns.asked)
    }

    /// The number of the last turn, if nothing is under way on its connection.
    pub(in crate::database) fn stands_still(&self) -> Option<u64> {
        let rests = self.turns.asked.load(Ordering::Acquire) == 0;
        rests.then(|| self.turns.last.load(Ordering::Acquire))
    }

    async fn run_in_turn<W: Work>(&self, loan: &mut Loan, work: &W) -> Result<W::Done> {
        if work.ending() == Some(Ending::Rollback) {
            // What is still on its way is ended, however long it would take.
            self.give_up();
        }
        self.free(loan, work.timeout(), Freeing::Tidying).await?;
        // Whoever made the last one may have given it up half-way.
        loan.timeouts.end_call();
        (loan.per_loan.call_timeout, loan.per_loan.cancel_after) = (work.timeout(), None);
        loan.allow(1);
        // One that was lent for this call alone has just been asked. And nothing may be said at all.
        let says = work.sends() || loan.wire.in_transaction();
        if self.role() != Role::Call && says && loan.may_be_forgotten() {
            loan.ask().await.map_err(Error::unexecuted)?;
        }
        if work.sends() && loan.status() == Some(Status::Idle) {
            loan.know_limits().await.map_err(Error::unexecuted)?;
        }
        loan.go_on().await?;
        work.carry_out(loan, self.database()).await
    }

    /// Waits until nobody else uses its connection.
    pub(in crate::database) async fn turn(
        &self,
        within: Option<Duration>,
        executes: bool,
    ) -> Result<MutexGuard<'_, Option<Loan>>> {
        let Some(within) = within else {
            return Ok(self.loan.lock().await);
        };
        let waited = tokio::time::timeout(within, self.loan.lock()).await;
        waited.map_err(|_| {
            if executes && self.has_transaction() {
                // It would be committed without this call.
                self.fail_later();
            }
            Error::Busy(format!(
                "the connection to the database {:?} that this invocation keeps did not come free within {:.1} s: an \
                 earlier call uses it",
                self.database().name(),
                within.as_secs_f64()
            ))
        })
    }
}

/// Whether the connection was lost, and nothing was done there.
pub(super) fn is_undone<R>(result: &Result<R>) -> bool {
    matches!(
        result,
        Err(Error::ConnectionLost {
            maybe_executed: false
        })
    )
}

impl Session {
    /// Uses a seat's connection until the work is done or the session ends, when its turn has come. Work that is
    /// given up in the middle is ended in the background.
    pub(in crate::database) async fn with_loan<R>(
        self: &Arc<Self>,
        seat: &Arc<Seat>,
        claim: Claim,
        work: impl AsyncFnOnce(&mut Loan) -> Result<R>,
    ) -> Result<R> {
        let working = async |held: &mut Option<Loan>| match held.as_mut() {
            Some(loan) => self.with(loan, seat, work).await,
            None => Err(self.gone(seat)),
        };
        self.in_turn(seat, claim, working).await
    }

    /// Does a piece of work on a seat's connection, as [`Self::with_loan`] does. If nothing was done there yet, and
    /// that connection is lost, it is done on another one; before anybody else has a turn, and finds none.
    pub(super) async fn with_loan_of<W: Work>(
        self: &Arc<Self>,
        seat: &Arc<Seat>,
        claim: Claim,
        work: &W,
        renewal: Option<Renewal<'_>>,
    ) -> Result<W::Done> {
        let working = async |held: &mut Option<Loan>| {
            let mut attempts = Attempts::of(seat.database(), work.timeout());
            // Not where the call was made: one that had its turn before has been done by now.
            let renewal = renewal.filter(|renewal| renewal.fresh.swap(false, Ordering::AcqRel));
            let Some(loan) = held.as_mut() else {
                return match renewal {
                    // An earlier call found no other one.
                    Some(renewal) => {
                        Box::pin(self.do_anew(seat, held, work, renewal, attempts)).await
                    }
                    None => Err(self.gone(seat)),
                };
            };
            let is_new = loan.is_new();
            let done = self
                .with(loan, seat, async |loan| seat.run_in_turn(loan, work).await)
                .await;
            let Some(renewal) = renewal.filter(|_| is_undone(&done)) else {
                return done;
            };
            match Box::pin(attempts.go_on(self, is_new)).await {
                true => Box::pin(self.do_anew(seat, held, work, renewal, attempts)).await,
                false => done,
            }
        };
        self.in_turn(seat, claim, working).await
    }

    async fn do_anew<W: Work>(
        self: &Arc<Self>,
        seat: &Arc<Seat>,
        held: &mut Option<Loan>,
        work: &W,
        renewal: Renewal<'_>,
        mut attempts: Attempts,
    ) -> Result<W::Done> {
        loop {
            let loan = self.renew(seat, held, renewal, attempts.time()).await?;
            let is_new = loan.is_new();
            let doing = async |loan: &mut Loan| seat.run_in_turn(loan, work).await;
            let done = self.with(loan, seat, doing).await;
            if !is_undone(&done) {
                return done;
            }
            // Already now, as where another one is waited for: it has its place in the pool during the pause, and who
            // gives that up leaves everything to the next call.
            *held = None;
            renewal.fresh.store(true, Ordering::Release);
            if !attempts.go_on(self, is_new).await {
                renewal.fresh.store(false, Ordering::Release);
                return done;
            }
        }
    }

    async fn in_turn<R>(
        self: &Arc<Self>,
        seat: &Arc<Seat>,
        claim: Claim,
        work: impl AsyncFnOnce(&mut Option<Loan>) -> Result<R>,
    ) -> Result<R> {
        let Claim {
            flow,
            ends_rows,
            within,
            time,
            executes,
        } = claim;
        let asked = seat.begin_turn(self.next_turn());
        let result = {
            let using = pin!(async {
                let waiting = IfGivenUp::waiting(self, seat);
                let mut held = seat.turn(within, executes).await?;
                waiting.disarm();
                let having = async {
                    // Whoever had the turn before may have begun something to go on with.
                    if let (Err(Error::InUse), Some(loan)) = (seat.admits(flow), held.as_mut()) {
                        let freeing = Freeing::Buffering { ends_rows };
                        let made = Box::pin(seat.free(loan, time, freeing)).await;
                        if is_undone(&made) {
                            seat.stop_flow();
                        }
                        made?;
                    }
                    seat.admits(flow)?;
                    // Not before: who only waits for a turn has nothing to end.
                    let interrupted = IfGivenUp::running(self, seat);
                    let result = work(&mut held).await;
                    interrupted.disarm();
                    result
                };
                let result = having.await;
                // Now: whoever has the turn next may be the one who leaves the seat.
                let is_gone = |loan: &mut Loan| seat.is_at_its_end(loan);
                if Loss::told_by(&result) == Loss::Told && held.as_mut().is_none_or(is_gone) {
                    self.lose(seat);
                }
                result
            });
            self.unless_ended(using).await
        };
        drop(asked);
        // At the end of the session all are settled, and nobody waits for what is begun here.
        let leaves = !seat.role().is_held() || matches!(result, Err(Error::ConnectionLost { .. }));
        if leaves && !self.has_ended() {
            self.leave(seat, Loss::told_by(&result));
        }
        result
    }

    async fn with<R>(
        self: &Arc<Self>,
        loan: &mut Loan,
        seat: &Arc<Seat>,
        work: impl AsyncFnOnce(&mut Loan) -> Result<R>,
    ) -> Result<R> {
        loan.per_loan.terms = self.terms(seat.database())?;
        let _measured = self.account.tally().map(|tally| tally.asking());
        let result = work(loan).await;
        seat.look_at(loan);
        notices::log(loan, &self.account, seat.database().name());
        match result.as_ref().err().map(Error::verdict) {
            Some(Verdict::Lost) => loan.doom(),
            // Elsewhere it is news that a server takes no writes.
            Some(Verdict::Demoted) if !loan.may_only_read() => seat.database().suspect_demotion(),
            Some(Verdict::Demoted | Verdict::Usable) | None => {}
        }
        match (result.is_ok(), loan.is_busy()) {
            (true, true) => seat.begin_flow(loan.flowing.as_ref()),
            (_, is_busy) => {
                seat.stop_flow();
                // Nobody will read what the server goes on to send.
                let stays = !matches!(seat.role(), Role::Call | Role::Cursor);
                if is_busy && stays && !loan.is_dead() {
                    self.tidy_later(seat);
                }
            }
        }
        result
    }

    fn terms(&self, database: &Database) -> Result<Terms> {
        Ok(Terms {
            prelude: self.grants.prelude(database.name())?,
            time: Some(self.deadline().remaining()),
        })
    }
}
