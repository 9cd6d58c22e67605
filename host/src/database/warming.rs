//! What is done before the first event: connections are opened, and are told on them what is known by
//! then of what they will be used for.
//!
//! Promises:
//! - all databases and connections are warmed side by side, for [`limits::WARM_TIMEOUT`] at most; whoever needs one
//!   meanwhile has those that are ready, or waits a moment for one that is being told;
//! - what cannot be done is no error: the database may be there by the time that it is needed, and
//!   then whoever needs it is told.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{timeout, timeout_at};

use crate::database::connection::Terms;
use crate::database::pool::{Loan, Wait};
use crate::database::sql::text::check_sql;
use crate::database::statement::{Effects, Key};
use crate::database::{Database, Databases, Error, Result};
use crate::limits;

/// What is known ahead of how a function will use its databases.
#[derive(Debug, Default)]
pub struct WarmUp {
    /// The statements that it declares, by the database.
    pub statements: BTreeMap<String, Vec<Key>>,
    /// How long its invocations may take.
    pub time: Option<Duration>,
}

/// What goes on in the background.
pub struct Warming {
    /// Ends when no connection is being opened any more.
    opening: mpsc::Receiver<Infallible>,
    telling: JoinHandle<()>,
}

/// Held while a connection is being opened.
type Opening = mpsc::Sender<Infallible>;

/// Begins to open the connections that are to be open before the first event, of all databases.
pub fn begin(databases: &Databases, warm_up: WarmUp) -> Warming {
    let until = Instant::now() + limits::WARM_TIMEOUT;
    let databases = databases.clone();
    let (begun, opening) = mpsc::channel(1);
    let telling = tokio::spawn(async move {
        let warming = databases.values().map(|database| {
            let statements = warm_up.statements.get(database.name());
            let statements = statements.map_or(&[][..], Vec::as_slice);
            database.warm(statements, warm_up.time, until, begun.clone())
        });
        let warming: Vec<_> = warming.collect();
        drop(begun);
        futures_util::future::join_all(warming).await;
    });
    Warming { opening, telling }
}

impl Warming {
    /// Waits until all connections are open, or cannot be opened, but no longer than `patience`. What they are told
    /// takes as long as an event takes to arrive and to come to its first statement, and goes on beside that.
    pub async fn opened(mut self, patience: Duration) {
        let _ = timeout(patience, self.opening.recv()).await;
    }

    /// Waits until nothing passes on them any more either, but no longer than `patience`.
    pub async fn told(self, patience: Duration) {
        let _ = timeout(patience, self.telling).await;
    }
}

impl Database {
    async fn warm(
        &self,
        statements: &[Key],
        time: Option<Duration>,
        until: Instant,
        opening: Opening,
    ) {
        let warm_one = |_| self.warm_one(statements, time, until, opening.clone());
        let warming: Vec<_> = (0..self.warm).map(warm_one).collect();
        drop(opening);
        // Each has its own by the end of the first poll, and so can be given back before the others are there.
        futures_util::future::join_all(warming).await;
    }

    async fn warm_one(
        &self,
        statements: &[Key],
        time: Option<Duration>,
        until: Instant,
        opening: Opening,
    ) {
        let mut loan = match self.pool.lend(until, Wait::UntilDeadline, &|_| None).await {
            Ok(loan) => loan,
            Err(error) => {
                tracing::warn!(
                    database = self.name,
                    "no connection could be opened ahead of the first event: {error}"
                );
                return;
            }
        };
        let _being_told = self.pool.telling.begin();
        drop(opening);
        loan.per_loan.terms = Terms {
            prelude: None,
            time,
        };
        match timeout_at(until.into(), self.instruct(&mut loan, statements)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.uninstructed(&error),
            Err(_) => self.uninstructed(&Error::Deadline),
        }
        match loan.is_clean() {
            true => loan.give_back(),
            // It still owes an answer, and is retired.
            false => drop(loan),
        }
    }

    /// Tells a connection's server what time an invocation has, and has it prepare statements. Of those
    /// that it does not take, the function is told when it executes them.
    async fn instruct(&self, loan: &mut Loan, statements: &[Key]) -> Result<()> {
        loan.know_limits().await?;
        let most = self.descriptions().max();
        let fitting = statements.iter().filter(|key| check_sql(&key.sql).is_ok());
        let mut rest: Vec<Key> = fitting.take(most).cloned().collect();
        if rest.is_empty() {
            return loan.lead(Effects::NONE).await;
        }
        loop {
            match loan.prepare_each(&rest).await {
                Ok(descriptions) => {
                    let each = rest.iter().zip(&descriptions);
                    each.for_each(|(key, description)| self.learn(key, description));
                    return Ok(());
                }
                Err(error) if loan.is_dead() => return Err(error),
                Err(Error::InPipeline { index, error }) => {
                    self.uninstructed(&error);
                    rest.remove(index);
                }
                // There was only this one.
                Err(error) => return Err(error),
            }
        }
    }

    fn uninstructed(&self, error: &Error) {
        tracing::debug!(
            database = self.name,
            "a statement could not be prepared ahead of the first event: {error}"
        );
    }
}
