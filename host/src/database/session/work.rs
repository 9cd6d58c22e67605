//! What can be done with a connection on behalf of a guest, one type for each kind of work.
//!
//! Promises: work that makes no sense, or is more than the host can afford, is refused before a connection is borrowed
//! for it.
//!
//! Left to others: on which connection it is done, and whether it is done a second time ([`super`]).

use std::iter;
use std::sync::Arc;
use std::time::Duration;

use crate::database::Database;
use crate::database::connection::copying::misused_copy;
use crate::database::connection::exchange::Started;
use crate::database::connection::pipeline::Outcome;
use crate::database::error::{Error, Result};
use crate::database::pool::Loan;
use crate::database::sql::copying::{Direction, direction, moves_data};
use crate::database::sql::ending::ends_transaction;
use crate::database::sql::only_reads::only_reads;
use crate::database::sql::outside_transactions::runs_outside_transactions;
use crate::database::sql::text::check_sql;
use crate::database::statement::{Call, Description, Key};
use crate::limits;

/// One piece of work.
pub trait Work: Sync {
    /// What comes of it.
    type Done: Send;

    /// Refuses what need not be tried.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// The guest's own texts in it, of which not all may be allowed.
    fn texts(&self) -> impl Iterator<Item = &str> {
        iter::empty()
    }

    /// How long it may take the server, and a connection to come free, if less than the invocation has.
    fn timeout(&self) -> Option<Duration> {
        None
    }

    /// What it is, where that is not what the texts say.
    fn operation(&self) -> Option<&str> {
        None
    }

    /// Whether it executes its texts, and does not only ask what they are.
    fn executes(&self) -> bool {
        true
    }

    /// How it ends its transaction, and all rows in that which have not been read, if it does.
    fn ending(&self) -> Option<Ending> {
        None
    }

    /// Whether it sends something also where the server knows of no transaction. It knows of none in which nothing was
    /// done, and so learns nothing of the end of that.
    fn sends(&self) -> bool {
        self.ending().is_none()
    }

    /// Does it.
    fn carry_out(
        &self,
        loan: &mut Loan,
        database: &Database,
    ) -> impl Future<Output = Result<Self::Done>> + Send;
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// What was done in it stays.
    Commit,
    /// What was done in it is undone.
    Rollback,
}

impl Ending {
    /// The statement that ends it so.
    pub fn sql(self) -> &'static str {
        match self {
            Self::Commit => "COMMIT",
            Self::Rollback => "ROLLBACK",
        }
    }
}

/// Asks what the server says of statements.
pub struct Prepare<'a> {
    /// The statements.
    pub keys: &'a [Key],
    /// Those of them of which nothing that is remembered is to be believed.
    pub doubted: &'a [Key],
    /// How long it may take.
    pub timeout: Option<Duration>,
}

/// Executes a statement and reads its first rows.
pub struct Query<'a>(pub &'a Call);

/// Executes a statement and counts the rows it affected.
pub struct Execute<'a>(pub &'a Call);

/// Executes several statements in one round trip.
pub struct Pipeline<'a>(pub &'a [Call]);

/// Executes statements without arguments.
pub struct Batch<'a>(pub &'a str, pub Option<Duration>);

/// Begins a `COPY` in one direction.
pub struct Copy<'a>(pub &'a str, pub Direction, pub Option<Duration>);

impl Work for Prepare<'_> {
    type Done = Vec<Arc<Description>>;

    fn check(&self) -> Result<()> {
        check_number(self.keys.len())?;
        self.keys.iter().try_for_each(check_key)
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.sql.as_str())
    }

    fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    fn operation(&self) -> Option<&str> {
        Some("PREPARE")
    }

    fn executes(&self) -> bool {
        false
    }

    async fn carry_out(&self, loan: &mut Loan, database: &Database) -> Result<Self::Done> {
        self.doubted
            .iter()
            .for_each(|key| loan.forget_description(key));
        let descriptions = loan.prepare_each(self.keys).await?;
        for (key, description) in self.keys.iter().zip(&descriptions) {
            learn(loan, database, key, description);
        }
        Ok(descriptions)
    }
}

impl Work for Query<'_> {
    type Done = Started;

    fn check(&self) -> Result<()> {
        check_statement(&self.0.key)
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        iter::once(self.0.key.sql.as_str())
    }

    fn timeout(&self) -> Option<Duration> {
        self.0.timeout
    }

    async fn carry_out(&self, loan: &mut Loan, database: &Database) -> Result<Started> {
        if goes_as_batch(self.0, loan) {
            Box::pin(loan.batch_execute(&self.0.key.sql)).await?;
            return Ok(Started::without_rows());
        }
        let known = database.known(&self.0.key);
        let started = loan.query(self.0, known, limits::BATCH_BYTES).await;
        match &started {
            Ok(started) if started.description.version != self.0.version => {
                learn(loan, database, &self.0.key, &started.description);
            }
            Ok(_) => {}
            Err(Error::TooLarge(_)) if !only_reads(&self.0.key.sql) => loan.fail_later(),
            Err(error) => heed(error, self.0, loan, database),
        }
        started
    }
}

impl Work for Execute<'_> {
    type Done = u64;

    fn check(&self) -> Result<()> {
        check_statement(&self.0.key)
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        iter::once(self.0.key.sql.as_str())
    }

    fn timeout(&self) -> Option<Duration> {
        self.0.timeout
    }

    async fn carry_out(&self, loan: &mut Loan, database: &Database) -> Result<u64> {
        if goes_as_batch(self.0, loan) {
            Box::pin(loan.batch_execute(&self.0.key.sql)).await?;
            return Ok(0);
        }
        let known = database.known(&self.0.key);
        let affected = loan.execute(self.0, known).await;
        if let Err(error) = &affected {
            heed(error, self.0, loan, database);
        }
        affected
    }
}

impl Work for Pipeline<'_> {
    type Done = Vec<Outcome>;

    fn check(&self) -> Result<()> {
        check_number(self.0.len())?;
        self.0
            .iter()
            .try_for_each(|call| check_statement(&call.key))?;
        check_ends(self.0)
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|call| call.key.sql.as_str())
    }

    fn timeout(&self) -> Option<Duration> {
        // One for all: each of them has so much time, counted from its own beginning.
        self.0.iter().filter_map(|call| call.timeout).min()
    }

    async fn carry_out(&self, loan: &mut Loan, database: &Database) -> Result<Self::Done> {
        let known = self
            .0
            .iter()
            .map(|call| database.known(&call.key))
            .collect();
        let outcomes = loan.pipeline(self.0, known).await;
        if let Err(Error::InPipeline { index, error }) = &outcomes {
            heed(error, &self.0[*index], loan, database);
        }
        let outcomes = outcomes?;
        let news =
            |(call, outcome): &(&Call, &Outcome)| outcome.description.version != call.version;
        for (call, outcome) in self.0.iter().zip(&outcomes).filter(news) {
            learn(loan, database, &call.key, &outcome.description);
        }
        Ok(outcomes)
    }
}

impl Work for Batch<'_> {
    type Done = ();

    fn check(&self) -> Result<()> {
        check_sql(self.0)?;
        // The statements beside it would be executed, and the caller told of none.
        match moves_data(self.0) {
            true => Err(misused_copy()),
            false => Ok(()),
        }
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        iter::once(self.0)
    }

    fn timeout(&self) -> Option<Duration> {
        self.1
    }

    async fn carry_out(&self, loan: &mut Loan, _: &Database) -> Result<()> {
        loan.batch_execute(self.0).await
    }
}

impl Work for Copy<'_> {
    type Done = ();

    fn check(&self) -> Result<()> {
        check_copy(self.0, self.1)
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        iter::once(self.0)
    }

    fn timeout(&self) -> Option<Duration> {
        self.2
    }

    async fn carry_out(&self, loan: &mut Loan, _: &Database) -> Result<()> {
        loan.copy(self.0, self.1).await
    }
}

/// Whether a call goes as a batch does, with what the host puts first in a request of its own.
fn goes_as_batch(call: &Call, loan: &Loan) -> bool {
    call.arguments.is_empty() && loan.is_outside() && runs_outside_transactions(&call.key.sql)
}

fn check_number(calls: usize) -> Result<()> {
    if calls > limits::PIPELINE_CALLS_MAX {
        return Err(Error::Invalid(format!(
            "a pipeline of {calls} calls; {} are the most",
            limits::PIPELINE_CALLS_MAX
        )));
    }
    Ok(())
}

/// Refuses what would end the transaction that a pipeline is before its last statement: who is told
/// that one has failed relies on it that none took effect.
fn check_ends(calls: &[Call]) -> Result<()> {
    let before_last = calls.split_last().map_or(calls, |(_, before)| before);
    let ends = |call: &Call| ends_transaction(&call.key.sql);
    match before_last.iter().position(ends) {
        None => Ok(()),
        Some(index) => Err(Error::Invalid(format!(
            "statement {} of the pipeline ends the transaction that this is, of which all or nothing takes effect; \
             make it the last one, and send what follows in another pipeline",
            index + 1
        ))),
    }
}

fn check_key(key: &Key) -> Result<()> {
    if key.types.len() > limits::PARAMETERS_MAX {
        return Err(Error::Invalid(format!(
            "{} parameter types are given; {} parameters are the most",
            key.types.len(),
            limits::PARAMETERS_MAX
        )));
    }
    check_sql(&key.sql)
}

/// Refuses also a `COPY` whose data go beside it, which would cost its transaction.
fn check_statement(key: &Key) -> Result<()> {
    check_key(key)?;
    // Whatever begins with another letter is another statement, and need not be read.
    let first = key.sql.trim_start().bytes().next();
    if first.is_some_and(|first| first.is_ascii_alphabetic() && !matches!(first, b'c' | b'C')) {
        return Ok(());
    }
    // Of several statements in one text the server executes none.
    match direction(&key.sql) {
        Some(_) => Err(misused_copy()),
        None => Ok(()),
    }
}

/// Refuses what does not copy in this direction, and would be executed in vain.
fn check_copy(sql: &str, wanted: Direction) -> Result<()> {
    check_sql(sql)?;
    if direction(sql) == Some(wanted) {
        return Ok(());
    }
    let form = match wanted {
        Direction::In => "this takes COPY … FROM STDIN",
        Direction::Out => "this takes COPY … TO STDOUT",
    };
    Err(Error::Invalid(format!(
        "{form}, and nothing else; a COPY from or to a file of the server's is executed as other statements are"
    )))
}

/// Has the database remember what a server says of a statement, unless that is true for this session alone.
fn learn(loan: &Loan, database: &Database, key: &Key, description: &Arc<Description>) {
    if !loan.per_loan.renamed {
        database.learn(key, description);
    }
}

/// Takes note of what an error says of a statement that was taken for something else.
fn heed(error: &Error, call: &Call, loan: &Loan, database: &Database) {
    match error {
        Error::StatementChanged(description) => learn(loan, database, &call.key, description),
        error if loan.is_outdated(error) => database.forget(&call.key),
        _ => {}
    }
}
