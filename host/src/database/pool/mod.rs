//! The connections to one database that outlive invocations, guests and freezes.
//!
//! Promises:
//! - there are never more than `pool_max` connections, those that are being opened included, and none before the first
//!   use. There is one exception: a call that has to look up types while several MiB of rows are on their way has a
//!   second connection for a moment;
//! - callers who wait for a connection get one in the order in which they have asked;
//! - a caller's wait ends at the time that the caller has given, with an error. The error names the limit, or says what
//!   became of the connection that was being opened. The wait ends earlier only for a caller whose invocation has all
//!   connections itself and does nothing on any of them ([`limits::LOOK_AROUND`]);
//! - each connection is looked at before it is lent. It is replaced if the server has closed it, or if it has served for
//!   as long as it may. It is asked, or replaced, if nothing was sent on it for long by the wall clock, or if its server
//!   may have become a standby;
//! - a silent network costs one [`limits::VALIDATE_TIMEOUT`], however many connections are idle behind it;
//! - a caller who waits for a new connection gets one that others have given back meanwhile, if the server takes no new
//!   connection or says nothing for long.
//!
//! Left to others: how a loan ends ([`Loan`]), what a clean connection is ([`crate::database::connection`]), and
//! who makes it clean ([`crate::database::session`]).

use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use deadpool::Runtime;
use deadpool::managed::{self, Metrics, Object, PoolError, QueueMode, RecycleError, Timeouts};
use rand::RngExt;

use crate::config::Prepare;
use crate::database::connect::{self, Address, Progress};
use crate::database::connection::Connection;
use crate::database::connection::demotion::Demotion;
use crate::database::connection::lifetime::Lifetime;
use crate::database::connection::liveness::Silence;
use crate::database::error::{Error, Result, Unconnected};
use crate::limits;

mod loan;
mod standstill;
mod telling;

pub use loan::Loan;
pub use standstill::Standstill;
use telling::Telling;

/// The pool of one database.
pub struct Pool {
    inner: managed::Pool<Opener>,
    database: String,
    connections_max: usize,
    /// The connections that were opened ahead of their use.
    pub telling: Telling,
}

/// What comes of asking for a connection.
type Got = std::result::Result<Object<Opener>, PoolError<Error>>;

/// How long a connection is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// As long as there is time.
    UntilDeadline,
    /// Not at all: one that rests, or that may still be opened, or none.
    NotAtAll,
}

/// Whether who waits for a connection may wait for itself: given how many there may be, the number of what was last
/// done on those that it has, if that is all of them, and nothing is under way on any. No two things have one number.
pub type Holds<'a> = &'a (dyn Fn(usize) -> Option<u64> + Sync);

/// Why there was none in time.
enum Missed {
    /// One was being made.
    Connecting(Unconnected),
    /// All were in use.
    Waiting,
    /// All were the borrower's own, and nothing was done on them.
    ForItself,
}

/// How a pool stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Connections, lent or not, those being opened included.
    pub open: usize,
    /// Those of them that are being opened.
    pub opening: usize,
    /// Those of them that nobody uses.
    pub idle: usize,
    /// Calls that wait for one.
    pub waiting: usize,
    /// How many there may be.
    pub most: usize,
}

/// Opens connections and looks at them before they are lent again.
struct Opener {
    address: Arc<Address>,
    statements_max: NonZeroUsize,
    prepare: Prepare,
    /// How long each connection may serve at most.
    lifetime: Duration,
    demotion: Demotion,
    silence: Silence,
    /// How many connections are being opened.
    opening: AtomicUsize,
}

impl Pool {
    /// A pool without any connection yet.
    pub fn new(
        database: &str,
        address: Address,
        connections_max: u32,
        statements_max: NonZeroUsize,
        prepare: Prepare,
        lifetime: Duration,
    ) -> Self {
        let opener = Opener {
            address: Arc::new(address),
            statements_max,
            prepare,
            lifetime,
            demotion: Demotion::default(),
            silence: Silence::default(),
            opening: AtomicUsize::new(0),
        };
        let inner = managed::Pool::builder(opener)
            .max_size(connections_max as usize)
            // The connection used last is the likeliest to be alive, and its statements are warm.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build()
            .expect("a pool that is given its runtime can be built");
        Self {
            inner,
            database: database.to_owned(),
            connections_max: connections_max as usize,
            telling: Telling::default(),
        }
    }

    /// How many connections there may be.
    pub fn connections_max(&self) -> usize {
        self.connections_max
    }

    /// Borrows a connection, waiting for one until `until` at most, or not at all.
    pub async fn lend(&self, until: Instant, wait: Wait, holds: Holds<'_>) -> Result<Loan> {
        let asked = Instant::now();
        if wait == Wait::UntilDeadline && self.telling.goes_on() {
            Box::pin(self.telling.give_way(until, || self.counts().idle > 0)).await;
        }
        let waiting = Timeouts {
            wait: (wait == Wait::NotAtAll).then_some(Duration::ZERO),
            ..Timeouts::default()
        };
        match self.get(&waiting, until, holds).await {
            Ok(Ok(mut object)) => {
                object.begin_loan();
                Ok(Loan::of(object))
            }
            Ok(Err(PoolError::Backend(error))) => Err(error),
            Ok(Err(PoolError::Closed)) => Err(Error::Busy("the host is shutting down".to_owned())),
            Err(Missed::Connecting(reason)) => {
                let what = format!(
                    "no connection to the database {:?} could be made within the {:.1} s that there were: ",
                    self.database,
                    asked.elapsed().as_secs_f64()
                );
                Err(Error::Connect(Box::new(reason.after(&what))))
            }
            Err(Missed::ForItself) => Err(self.held_by_one()),
            Ok(Err(_)) | Err(Missed::Waiting) => Err(self.exhausted(asked.elapsed())),
        }
    }

    /// Gets one that rests or, if there is none, a new one.
    async fn get(
        &self,
        waiting: &Timeouts,
        until: Instant,
        holds: Holds<'_>,
    ) -> std::result::Result<Got, Missed> {
        let mut getting = pin!(self.inner.timeout_get(waiting));
        let (mut progress, mut begin) = (Progress::until(until), Instant::now());
        loop {
            let looks;
            let so_far = {
                let mut watched = pin!(connect::watched(progress, getting.as_mut()));
                // The common case: one rests in the pool, and no timer is needed.
                if let Poll::Ready(got) = futures_util::poll!(watched.as_mut()) {
                    return Ok(got);
                }
                looks = Standstill::seen_by(|| holds(self.connections_max));
                let look = until.min(looks.at + limits::LOOK_AROUND);
                match tokio::time::timeout_at(look.into(), watched.as_mut()).await {
                    Ok(got) => return Ok(got),
                    Err(_) => watched.take_value(),
                }
            };
            progress = so_far.unwrap_or_else(|| Progress::until(until));
            let connecting = progress.is_connecting();
            if !connecting {
                begin = Instant::now();
            }
            if !connecting && looks.lasts(|| holds(self.connections_max)) {
                return Err(Missed::ForItself);
            }
            if Instant::now() >= until {
                return Err(progress
                    .reason()
                    .map_or(Missed::Waiting, Missed::Connecting));
            }
            // It may be that the server takes no more of them, or that none can be made any more, while those that
            // there are do. A login that only takes its time is not thrown away: it is one that was needed.
            let is_long = begin.elapsed() >= limits::LOGIN_SILENCE;
            let is_in_vain = progress.is_refused() || is_long;
            // Where others wait, those that come free are theirs: whoever is refused gets in line behind them.
            let gets_in_line = progress.is_refused() && is_long;
            let counts = self.counts();
            let is_served_elsewhere =
                is_in_vain && counts.idle > 0 || gets_in_line && counts.waiting > 0;
            if connecting && is_served_elsewhere {
                getting.set(self.inner.timeout_get(waiting));
                (progress, begin) = (progress.anew(), Instant::now());
            }
        }
    }

    /// Lends no more, and says good-bye to the server on every connection that nobody uses.
    pub async fn close(&self) {
        let idle = self.inner.retain(|_, _| false).removed;
        self.inner.close();
        terminate(idle).await;
    }

    /// Says good-bye to the server on every connection that nobody uses, and goes on lending.
    pub async fn cool(&self) {
        terminate(self.inner.retain(|_, _| false).removed).await;
    }

    /// A connection made before is asked whether its server takes writes, and one made from now on whether its server
    /// is of the wanted kind, until one is what it says.
    pub fn suspect_demotion(&self) {
        let opener = self.inner.manager();
        opener.demotion.refused();
        opener.address.suspect_demotion();
    }

    /// How it stands now.
    pub fn counts(&self) -> Counts {
        let status = self.inner.status();
        let opening = self.inner.manager().opening.load(Ordering::Relaxed);
        // Whoever opens one is a user of the pool, but has none of those that it counts.
        let users = status.size - status.available + status.waiting;
        let users = users.saturating_sub(opening);
        Counts {
            open: status.size + opening,
            opening,
            idle: status.size.saturating_sub(users),
            waiting: users.saturating_sub(status.size),
            most: status.max_size,
        }
    }

    fn held_by_one(&self) -> Error {
        Error::Busy(format!(
            "this invocation holds all {} connections to the database {:?} in sessions, open transactions or unread \
             rows, or keeps one for what its statements have left (as `SET`, `LISTEN` and `PREPARE` do), and does \
             nothing on any of them: it would wait for itself; end one of them first, or raise `pool_max`",
            self.connections_max, self.database
        ))
    }

    fn exhausted(&self, waited: Duration) -> Error {
        Error::Busy(format!(
            "no connection to the database {:?} came free within {:.1} s: {}",
            self.database,
            waited.as_secs_f64(),
            self.counts().shortage()
        ))
    }
}

impl Counts {
    /// Why there is none to lend, and what can be done.
    fn shortage(self) -> String {
        let used = self.open - self.opening - self.idle;
        let opening = match self.opening {
            0 => String::new(),
            opening => format!(", {opening} being opened"),
        };
        let others = match self.waiting {
            1 => "other",
            _ => "others",
        };
        format!(
            "{used} of {} in use{opening}, {} {others} waiting; raise `pool_max` or shorten what holds them",
            self.most, self.waiting
        )
    }
}

/// Says good-bye on all of these, and waits a moment until the servers have closed their sides. The words have left
/// by the time that this waits for the first time: whoever gives it up has been polite all the same.
async fn terminate(connections: impl IntoIterator<Item = Box<Connection>>) {
    let mut closing = Vec::new();
    for connection in connections {
        let mut closed = Box::pin(connection.close());
        if futures_util::poll!(tokio::task::unconstrained(closed.as_mut())).is_pending() {
            closing.push(tokio::spawn(closed));
        }
    }
    let closing = futures_util::future::join_all(closing);
    let _ = tokio::time::timeout(limits::TERMINATE_TIMEOUT, closing).await;
}

impl managed::Manager for Opener {
    // In a box: on its way out and back it is moved a dozen times.
    type Type = Box<Connection>;
    type Error = Error;

    async fn create(&self) -> Result<Box<Connection>> {
        let _opening = Opening::one_more(&self.opening);
        // Seldom needed, and large: boxed, so that lending one that rests moves less memory.
        let opening = Connection::open(self.address.clone(), self.statements_max, self.prepare);
        let mut connection = Box::pin(opening).await?;
        let (told, proven) = (&connection.parameters, self.address.wants_writes());
        connection.vouched = self.demotion.connected(told, proven);
        connection.lifetime = Lifetime::begin(self.lifetime, rand::rng().random());
        Ok(Box::new(connection))
    }

    async fn recycle(
        &self,
        connection: &mut Box<Connection>,
        _: &Metrics,
    ) -> managed::RecycleResult<Error> {
        let idle = connection.idle();
        let fit = connection.is_clean()
            && idle < limits::IDLE_MAX
            && !connection.lifetime.is_over()
            && connection.is_open()
            && self
                .is_there(connection, idle >= limits::IDLE_TRUSTED)
                .await;
        if fit {
            Ok(())
        } else {
            Err(RecycleError::message("the connection is gone or too old"))
        }
    }
}

/// One of the connections that are being opened, however that ends.
struct Opening<'a>(&'a AtomicUsize);

impl<'a> Opening<'a> {
    fn one_more(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Opener {
    /// Asks the server of a connection that has rested long, or is in doubt.
    async fn is_there(&self, connection: &mut Connection, has_rested: bool) -> bool {
        let in_doubt = self.demotion.is_in_doubt(connection.vouched);
        if !has_rested && !in_doubt {
            return true;
        }
        if has_rested && self.silence.covers(connection.last_loan()) {
            return false;
        }
        let vouched = self.demotion.vouch();
        let mut question = self.silence.question(connection);
        let asked = &mut *question.connection;
        let there = if in_doubt {
            Box::pin(asked.takes_writes(limits::VALIDATE_TIMEOUT)).await
        } else {
            Box::pin(asked.validate(limits::VALIDATE_TIMEOUT)).await
        };
        asked.vouched = vouched;
        question.answered = !asked.is_silent();
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DatabaseConfig;

    #[test]
    fn what_holds_the_connections_is_said() {
        let counts = |open, opening, waiting| Counts {
            open,
            opening,
            idle: 0,
            waiting,
            most: 2,
        };
        for (counts, expected) in [
            (counts(2, 0, 0), "2 of 2 in use, 0 others waiting; "),
            (counts(2, 0, 1), "2 of 2 in use, 1 other waiting; "),
            (
                counts(2, 1, 3),
                "1 of 2 in use, 1 being opened, 3 others waiting; ",
            ),
        ] {
            let said = counts.shortage();
            assert!(said.starts_with(expected), "{said}");
        }
    }

    #[tokio::test]
    async fn a_pool_that_was_closed_says_so() {
        let config = DatabaseConfig::at("postgres://nobody@localhost/nothing".to_owned());
        let address = Address::read(&config).expect("it is an address");
        let (one, lifetime) = (NonZeroUsize::MIN, config.lifetime);
        let pool = Pool::new("default", address, 1, one, Prepare::Always, lifetime);
        pool.close().await;
        let lent = pool
            .lend(Instant::now(), Wait::UntilDeadline, &|_| None)
            .await;
        let Err(Error::Busy(text)) = lent else {
            panic!("nothing is lent any more");
        };
        assert_eq!(text, "the host is shutting down");
    }
}
