//! One connection to a database, while it lives: its socket, its prepared statements, and what it
//! knows of its own state.
//!
//! Promises:
//! - a statement is prepared once and then executed in one round trip, until it falls out of the
//!   bounded cache or the server says that its plan no longer fits;
//! - [`Connection::is_clean`] is only true when the server owes nothing, no transaction is open,
//!   and nothing was executed that may have changed the session.
//!
//! Left to others: who may use it when ([`super::pool`], [`super::session`]).

use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lru::LruCache;
use tokio::task::JoinHandle;
use tokio_postgres::{CancelToken, Client, Config, NoTls, RowStream};

use super::error::{Error, Result};
use super::probe::{Probe, Status};
use super::residue::{self, Residue};
use super::socket::{Peek, Socket};
use super::statement::{Description, Key, Prepared};
use super::value;
use crate::limits;

/// What is done to a connection whose session may have been changed. One message, so one round
/// trip; in the order of PostgreSQL's own `DISCARD ALL`, but the statements that this host has
/// prepared stay.
const RESET: &str = "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; \
    SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES; \
    DO $$ DECLARE name text; BEGIN \
    FOR name IN SELECT p.name FROM pg_prepared_statements p WHERE from_sql LOOP \
    EXECUTE pg_catalog.format('DEALLOCATE %I', name); END LOOP; END $$";

/// One connection. Whoever holds it has it alone.
pub struct Connection {
    client: Client,
    driver: Driver,
    probe: Arc<Probe>,
    peek: Peek,
    config: Arc<Config>,
    statements: LruCache<Key, Prepared>,
    residue: Residue,
    /// Whether this loan of the connection has executed anything yet.
    used: bool,
    /// Whether a call is under way, or was given up on the way: what it asked for may not even
    /// have been sent yet.
    working: bool,
    /// When it was last given back, by the wall clock: no other clock runs while frozen.
    rested: SystemTime,
}

impl Connection {
    /// Connects and logs in.
    pub async fn open(config: Arc<Config>, statements_max: NonZeroUsize) -> Result<Self> {
        let probe = Arc::new(Probe::default());
        let (socket, peek) = Socket::open(&config, probe.clone())
            .await
            .map_err(|error| Error::Connect(format!("cannot reach the database: {error}")))?;
        let (client, connection) = config.connect_raw(socket, NoTls).await.map_err(|error| {
            match Error::from_driver(error, false) {
                server @ Error::Server(_) => server,
                other => Error::Connect(format!("cannot log in to the database: {other}")),
            }
        })?;
        let watched = probe.clone();
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a database connection ended");
            }
            watched.end();
        });
        let driver = Driver {
            task,
            probe: probe.clone(),
        };
        Ok(Self {
            client,
            driver,
            probe,
            peek,
            config,
            statements: LruCache::new(statements_max),
            residue: Residue::Nothing,
            used: false,
            working: false,
            rested: SystemTime::now(),
        })
    }

    /// What the server says of a statement.
    pub async fn prepare(&mut self, key: &Key) -> Result<Prepared> {
        if let Some(prepared) = self.statements.get(key) {
            return Ok(prepared.clone());
        }
        let statement = self
            .client
            .prepare_typed(&key.sql, &key.parameter_types())
            .await
            // Whatever was sent, preparing executes nothing.
            .map_err(|error| Error::from_driver(error, false))?;
        let prepared = Prepared {
            description: Arc::new(Description::of(&statement)),
            residue: residue::residue(&key.sql),
            reads_sequence_state: residue::reads_sequence_state(&key.sql),
            statement,
        };
        self.statements.put(key.clone(), prepared.clone());
        Ok(prepared)
    }

    /// Executes a statement; its rows follow in the stream. `version` is the description's for
    /// which `arguments` are encoded.
    pub async fn query(
        &mut self,
        key: &Key,
        version: u64,
        arguments: &[u8],
    ) -> Result<(RowStream, Arc<Description>)> {
        let arguments = decode(arguments)?;
        let mut healed = false;
        loop {
            let prepared = self.prepare_for(key, version, arguments.len()).await?;
            let outside = self.status() == Some(Status::Idle);
            let sent = self.probe.sent_bytes();
            let started = self.client.query_raw(&prepared.statement, &arguments).await;
            match started.map_err(|error| self.error(error, sent)) {
                Err(error) if outside && !healed && self.heals(key, &error) => healed = true,
                result => return Ok((result?, prepared.description)),
            }
        }
    }

    /// Executes a statement and returns how many rows it affected.
    pub async fn execute(&mut self, key: &Key, version: u64, arguments: &[u8]) -> Result<u64> {
        let arguments = decode(arguments)?;
        let mut healed = false;
        loop {
            let prepared = self.prepare_for(key, version, arguments.len()).await?;
            let outside = self.status() == Some(Status::Idle);
            let sent = self.probe.sent_bytes();
            let done = self
                .client
                .execute_raw(&prepared.statement, &arguments)
                .await;
            match done.map_err(|error| self.error(error, sent)) {
                Err(error) if outside && !healed && self.heals(key, &error) => healed = true,
                result => return result,
            }
        }
    }

    /// Executes statements without arguments.
    pub async fn batch_execute(&mut self, sql: &str) -> Result<()> {
        self.mark(residue::residue(sql));
        self.command(sql).await
    }

    /// Executes statements of the host's own, whose effect on the session it answers for.
    pub async fn command(&mut self, sql: &str) -> Result<()> {
        self.used = true;
        let sent = self.probe.sent_bytes();
        self.client
            .batch_execute(sql)
            .await
            .map_err(|error| self.error(error, sent))
    }

    /// What an error of the driver's means, given what had been sent before the call.
    pub fn error(&self, error: tokio_postgres::Error, sent_before: u64) -> Error {
        Error::from_driver(error, self.probe.sent_bytes() != sent_before)
    }

    /// The state of the transaction; none while the server owes an answer.
    pub fn status(&self) -> Option<Status> {
        self.probe.status()
    }

    /// Waits until the server has said what an error did to the transaction.
    pub async fn quiet(&self) {
        self.probe.quiet().await;
    }

    /// Whether it can be lent to another invocation as it is.
    pub fn is_clean(&self) -> bool {
        !self.working
            && self.residue == Residue::Nothing
            && self.status() == Some(Status::Idle)
            && !self.client.is_closed()
    }

    /// Marks the session as changed, whatever its statements looked like.
    pub fn mark(&mut self, residue: Residue) {
        self.residue = self.residue.max(residue);
    }

    /// Looks, without a round trip, whether the server is still there.
    pub fn is_open(&self) -> bool {
        !self.client.is_closed() && self.peek.is_open()
    }

    /// Since when nobody has used it, by the wall clock; a clock set back counts as long ago.
    pub fn idle(&self) -> Duration {
        self.rested.elapsed().unwrap_or(Duration::MAX)
    }

    /// Asks the server whether it is there: one round trip.
    pub async fn validate(&self, within: Duration) -> bool {
        matches!(
            tokio::time::timeout(within, self.client.check_connection()).await,
            Ok(Ok(()))
        )
    }

    /// A call begins.
    pub fn begin_work(&mut self) {
        self.working = true;
    }

    /// The call has ended by itself, well or not.
    pub fn end_work(&mut self) {
        self.working = false;
    }

    /// Whether the server may be at work for this connection, or be asked to.
    pub fn is_busy(&self) -> bool {
        self.working || self.status().is_none()
    }

    /// Begins a loan.
    pub fn lend(&mut self) {
        self.used = false;
    }

    /// Ends a loan.
    pub fn rest(&mut self) {
        self.rested = SystemTime::now();
    }

    /// How to ask the server to give up the statement it is executing.
    pub fn canceller(&self) -> Canceller {
        Canceller {
            token: self.client.cancel_token(),
            config: self.config.clone(),
        }
    }

    /// Makes the connection clean: gives up what is running, rolls back, resets. False if it
    /// cannot be lent again.
    pub async fn settle(&mut self) -> bool {
        if self.client.is_closed() || self.residue == Residue::Connection {
            return false;
        }
        if self.is_busy() {
            self.interrupt().await;
        }
        let sql = match (self.status(), self.residue) {
            (Some(Status::Idle), Residue::Nothing) => return self.is_clean(),
            (Some(Status::Idle), _) => RESET.to_owned(),
            (_, Residue::Nothing) => "ROLLBACK".to_owned(),
            _ => format!("ROLLBACK; {RESET}"),
        };
        if self.command(&sql).await.is_err() {
            return false;
        }
        self.residue = Residue::Nothing;
        self.is_clean()
    }

    /// Ends what a call that was given up has begun, and waits until the server owes nothing.
    async fn interrupt(&mut self) {
        // Queued behind all that the call has asked for, so that its answer is the last one.
        let mut rollback = pin!(self.client.batch_execute("ROLLBACK"));
        if tokio::time::timeout(limits::CANCEL_AFTER, &mut rollback)
            .await
            .is_err()
        {
            self.canceller().cancel().await;
            // The cancellation may have hit this instead: what that leaves is looked at next.
            let _ = rollback.await;
        }
        self.probe.quiet().await;
        self.working = false;
    }

    /// Says good-bye to the server and waits until that has left.
    pub async fn close(self) {
        let Self {
            client, mut driver, ..
        } = self;
        drop(client);
        if tokio::time::timeout(limits::SETTLE_TIMEOUT, &mut driver.task)
            .await
            .is_err()
        {
            driver.task.abort();
        }
    }

    async fn prepare_for(&mut self, key: &Key, version: u64, given: usize) -> Result<Prepared> {
        let prepared = self.prepare(key).await?;
        if !self.used && prepared.reads_sequence_state {
            // An insert is not taken to change the session, although it may leave this.
            self.command("DISCARD SEQUENCES").await?;
        }
        let wanted = prepared.description.parameters.len();
        if version != prepared.description.version && wanted > 0 {
            return Err(Error::StatementChanged(prepared.description));
        }
        if given != wanted {
            return Err(Error::Invalid(format!(
                "the statement has {wanted} parameters, but {given} arguments were given"
            )));
        }
        self.used = true;
        self.mark(prepared.residue);
        Ok(prepared)
    }

    /// Whether a statement that failed outside a transaction can be prepared anew and executed
    /// again: it did not run, and there is no transaction that its failure could have ended.
    fn heals(&mut self, key: &Key, error: &Error) -> bool {
        error.is_stale_plan() && self.statements.pop(key).is_some()
    }
}

/// The task that moves a connection's bytes.
struct Driver {
    task: JoinHandle<()>,
    probe: Arc<Probe>,
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Idle, it says good-bye and closes the socket by itself once the client is gone.
        // Otherwise it would wait for the server's answer first, for as long as that takes.
        if self.probe.status().is_none() {
            self.task.abort();
        }
    }
}

/// Asks the server to give up what a connection is executing.
pub struct Canceller {
    token: CancelToken,
    config: Arc<Config>,
}

impl Canceller {
    /// Sends the request on a connection of its own, and waits until the server has taken it, so
    /// that it cannot hit a later statement.
    pub async fn cancel(self) {
        let cancelled = async {
            let (socket, _) = Socket::open(&self.config, Arc::default()).await?;
            self.token
                .cancel_query_raw(socket, NoTls)
                .await
                .map_err(std::io::Error::other)
        };
        if let Err(error) = cancelled.await {
            tracing::debug!(%error, "a statement could not be cancelled");
        }
    }
}

fn decode(cells: &[u8]) -> Result<Vec<value::Argument<'_>>> {
    value::arguments(cells)
        .ok_or_else(|| Error::Invalid("the arguments are not whole cells".to_owned()))
}
