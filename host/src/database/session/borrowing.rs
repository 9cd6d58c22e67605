//! How a session gets a connection for a call: one that it keeps already, or one that the pool lends.
//!
//! Promises:
//! - the wait for a connection ends early enough that the guest learns why there was none. It ends soon where the
//!   invocation has all connections itself and does nothing on any of them, since then none would ever come free;
//! - a connection that is lent at the moment in which the session ends is settled as all others are.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use super::Session;
use super::seat::{Role, Seat};
use super::turn::Renewal;
use crate::database::Database;
use crate::database::error::{Error, Result};
use crate::database::pool::{Loan, Standstill, Wait};
use crate::limits;

impl Session {
    /// A seat for one call: a kept one, or a new one with a connection of the pool's. One that is
    /// kept while the pool has none to lend is used as well: it may be the one that is waited for.
    ///
    /// While another call uses the one that is kept, this one takes another connection if the pool has one to
    /// spare before that call ends, as it would if none were kept; but for a transaction, which is where it belongs.
    pub(in crate::database) async fn seat(
        self: &Arc<Self>,
        database: &Arc<Database>,
        timeout: Option<Duration>,
    ) -> Result<Arc<Seat>> {
        loop {
            self.lost.none(database)?;
            let kept = self.kept(database);
            let in_transaction = kept.iter().find(|seat| seat.has_transaction());
            if let Some(seat) = in_transaction.or_else(|| kept.iter().find(|seat| seat.is_free())) {
                return Ok(seat.clone());
            }
            if !kept.is_empty() {
                match Box::pin(self.spare_or_kept(database, timeout)).await {
                    Some(seat) => return Ok(seat),
                    None => continue,
                }
            }
            if let Some(seat) = self.borrow_unless_kept(database, timeout).await {
                return seat;
            }
        }
    }

    /// Borrows a connection for a call; none if one is kept by now, or a transaction is lost. It is one wait, whatever
    /// else is kept or comes free meanwhile: neither its place in the queue nor its login is lost.
    async fn borrow_unless_kept(
        self: &Arc<Self>,
        database: &Arc<Database>,
        timeout: Option<Duration>,
    ) -> Option<Result<Arc<Seat>>> {
        let borrowing = self.borrow(database, Role::Call, timeout, Wait::UntilDeadline);
        let mut borrowing = pin!(borrowing);
        loop {
            let kept_by_now = self.kept_changed.notified();
            if self.lost.none(database).is_err() || !self.kept(database).is_empty() {
                return None;
            }
            tokio::select! {
                biased;
                seat = &mut borrowing => return Some(seat),
                () = kept_by_now => {}
            }
        }
    }

    /// What comes first for a call beside others: a connection that the pool has to spare, which may have to be
    /// made, or the end of what keeps those that are kept. If there is none to spare, one of these all the same;
    /// none if they are not kept any more.
    async fn spare_or_kept(
        self: &Arc<Self>,
        database: &Arc<Database>,
        timeout: Option<Duration>,
    ) -> Option<Arc<Seat>> {
        let mut spare = pin!(self.borrow(database, Role::Call, timeout, Wait::NotAtAll));
        loop {
            let changed = self.kept_changed.notified();
            let kept = self.kept(database);
            // A transaction that has begun since then is not this call's.
            let free = |seat: &&Arc<Seat>| seat.is_free() && !seat.has_transaction();
            if let Some(seat) = kept.iter().find(free) {
                return Some(seat.clone());
            }
            if kept.is_empty() {
                return None;
            }
            tokio::select! {
                biased;
                spare = &mut spare => {
                    return spare.ok().or_else(|| self.kept(database).into_iter().next());
                }
                () = changed => {}
            }
        }
    }

    /// The seats that are kept for all further calls, in the order in which they came to be. So what one has left
    /// that was made when none was kept, those after it find, whatever is kept beside it later.
    fn kept(&self, database: &Arc<Database>) -> Vec<Arc<Seat>> {
        let is_kept =
            |seat: &&Arc<Seat>| Arc::ptr_eq(seat.database(), database) && seat.role() == Role::Kept;
        self.seats().iter().filter(is_kept).cloned().collect()
    }

    /// Borrows a connection for a new seat, as soon as this invocation uses fewer than it may, and there is one.
    pub(in crate::database) async fn borrow(
        self: &Arc<Self>,
        database: &Arc<Database>,
        role: Role,
        timeout: Option<Duration>,
        wait: Wait,
    ) -> Result<Arc<Seat>> {
        let until = self.lend_until(timeout);
        let room = match self.room.clone().try_acquire_owned() {
            Ok(room) => room,
            Err(_) => Box::pin(self.until_one_less(until, wait)).await?,
        };
        let holds = |most| self.standstill(most, |seat| Arc::ptr_eq(seat.database(), database));
        let lending = pin!(database.lend(until, wait, &holds, &self.account));
        let loan = self.unless_ended(lending).await?;
        let (account, buffered) = (self.account.clone(), self.buffered.one_more());
        let seat = Arc::new(Seat::new(
            database.clone(),
            account,
            loan,
            role,
            room,
            buffered,
        ));
        drop(seat.begin_turn(self.next_turn()));
        self.admit_seat(&seat)?;
        Ok(seat)
    }

    /// Waits until this invocation uses fewer connections than it may, of all databases.
    async fn until_one_less(&self, until: Instant, wait: Wait) -> Result<OwnedSemaphorePermit> {
        if wait == Wait::NotAtAll {
            return Err(too_many());
        }
        let look = || self.standstill(limits::LOANS_PER_INVOCATION_MAX, |_| true);
        let mut room = pin!(self.room.clone().acquire_owned());
        loop {
            let seen = Standstill::seen_by(look);
            let next = until.min(seen.at + limits::LOOK_AROUND);
            match tokio::time::timeout_at(next.into(), room.as_mut()).await {
                Ok(room) => return room.map_err(|_| Error::Ended),
                Err(_) if Instant::now() >= until || seen.lasts(look) => return Err(too_many()),
                Err(_) => {}
            }
        }
    }

    /// The number of what was done last on the seats of this kind that stay, if they are so many, and nothing is
    /// under way on any of them.
    fn standstill(&self, most: usize, is_such: impl Fn(&Seat) -> bool) -> Option<u64> {
        let seats = self.seats();
        let stays = |seat: &&Arc<Seat>| {
            let is_held = seat.role() != Role::Call && !seat.is_being_left();
            is_such(seat) && is_held && !seat.is_empty()
        };
        let (mut count, mut last) = (0, 0);
        for seat in seats.iter().filter(stays) {
            last = last.max(seat.stands_still()?);
            count += 1;
        }
        (count >= most).then_some(last)
    }

    /// The number of a turn that is asked for on one of the seats.
    pub(super) fn next_turn(&self) -> u64 {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }

    /// Until when a connection is waited for: a little less than the guest has, so that it still
    /// learns why there was none; or as long as the call has.
    pub(super) fn lend_until(&self, timeout: Option<Duration>) -> Instant {
        let (now, enforced) = (Instant::now(), self.deadline().enforced);
        let left = enforced.saturating_duration_since(now);
        let until = enforced.checked_sub(left / 20).unwrap_or(enforced);
        timeout.map_or(until, |timeout| until.min(now + timeout))
    }

    /// Gives a seat on which nothing was done another connection, if there is one in time. Whoever does so has its turn.
    pub(in crate::database) async fn renew<'a>(
        &self,
        seat: &Arc<Seat>,
        held: &'a mut Option<Loan>,
        renewal: Renewal<'_>,
        timeout: Option<Duration>,
    ) -> Result<&'a mut Loan> {
        // First of all: it may be the only one that the pool has.
        *held = None;
        // Whoever gives up the wait leaves everything to the next call as it was.
        renewal.fresh.store(true, Ordering::Release);
        let until = self.lend_until(timeout);
        let lending = seat.database();
        let lent = lending.lend(until, Wait::UntilDeadline, &|_| None, &self.account);
        let lent = lent.await;
        // Whoever finds none leaves only a connection as it was: of a transaction the statement would be missing that
        // was to be the first, and so it is over.
        let stays_fresh = lent.is_err() && renewal.begin.is_none();
        renewal.fresh.store(stays_fresh, Ordering::Release);
        let loan = held.insert(lent?);
        if let Some(begin) = renewal.begin {
            loan.begin_later(begin.to_owned());
        }
        Ok(loan)
    }

    /// Counts a seat among those that the session's end settles.
    fn admit_seat(self: &Arc<Self>, seat: &Arc<Seat>) -> Result<()> {
        self.seats().push(seat.clone());
        // On another thread the end may have come since the connection was lent, and not have seen it.
        if self.has_ended() {
            self.settle_later(seat);
            return Err(Error::Ended);
        }
        Ok(())
    }
}

fn too_many() -> Error {
    Error::Busy(format!(
        "this invocation already uses {} connections at a time, the most it may; end one of its sessions or transactions \
         first, or read or drop the rows of a query",
        limits::LOANS_PER_INVOCATION_MAX
    ))
}
