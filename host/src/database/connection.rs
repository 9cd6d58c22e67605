//! One connection to a database, while it lives, and what it knows of its own state.
//!
//! Promises:
//! - [`Connection::is_clean`] is only true when the server owes nothing, no transaction is open,
//!   and nothing was executed that may have changed the session;
//! - any of its calls may be given up at any await: [`Connection::settle`] then ends what runs.
//!
//! Left to others: statements and their rows ([`super::exchange`]), how it is made clean
//! ([`super::settling`]), who may use it when
//! ([`super::pool`], [`super::session`]).

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;
use uuid::Uuid;

use super::cancelling::{Canceller, Cancelling};
use super::connect::{Address, Backend};
use super::copy::Pieces;
use super::demotion::{self, Vouched};
use super::error::Result;
use super::kept::Kept;
use super::portals::Portals;
use super::prelude::Prelude;
use super::residue::Residue;
use super::server_timeouts::ServerTimeouts;
use super::sql::alone::stands_alone;
use super::statement::{Effects, Prepared};
use super::wire::notification::Notification;
use super::wire::request::{self, Command};
use super::wire::{Status, Wire};
use crate::config::Prepare;
use crate::limits;

/// One connection. Whoever holds it has it alone.
pub struct Connection {
    pub(super) wire: Wire,
    pub(super) address: Arc<Address>,
    pub(super) prepare: Prepare,
    pub(super) statements: Kept<Prepared>,
    /// How many names it has given to statements and portals; none is given twice.
    pub(super) names: u64,
    /// The names of statements that the server may have parsed, though nobody has noted it yet.
    pub(super) parsing: Vec<String>,
    /// Messages that forget what the server holds for no one, for the next request to take along.
    pub(super) forgetting: BytesMut,
    /// Those that the request under way has taken along.
    pub(super) forgotten: BytesMut,
    /// The `BEGIN` of a transaction in which nothing was done yet.
    pub(super) beginning: Option<Command>,
    /// The `BEGIN` in the request under way.
    pub(super) began: Option<Command>,
    /// How many of the host's own statements go before the guest's in the request under way.
    pub(super) leading: u32,
    /// Whether the next request is to set a savepoint of the host's own before the guest's statements.
    pub(super) guarding: bool,
    /// Whether that savepoint is set, and not released yet.
    pub(super) guarded: bool,
    /// Whether it was before the request under way.
    pub(super) was_guarded: bool,
    /// Whether the server may have begun with the guest's own statement.
    pub(super) executing: bool,
    /// Whether it has bound the statement whose answer is due.
    pub(super) bound: bool,
    /// Whether the request under way is a `COPY` whose data come here.
    pub(super) copying_out: bool,
    /// In what pieces those come.
    pub(super) pieces: Pieces,
    /// What its transaction has left open.
    pub(super) portals: Portals,
    /// The portal whose rows are on their way, if those of one are.
    pub(super) flowing: Option<String>,
    pub(super) timeouts: ServerTimeouts,
    /// How long the next request may take, if that is less than its terms say.
    pub(super) call_timeout: Option<Duration>,
    /// Whether what the session knows of sequences is this loan's own, as far as a text tells.
    pub(super) has_sequences: bool,
    /// Whether it was before the request under way.
    pub(super) had_sequences: bool,
    /// Whose words and time a request carries.
    pub(super) terms: Terms,
    /// What the server said of itself when it let us in.
    pub(super) parameters: BTreeMap<String, String>,
    pub(super) vouched: Vouched,
    backend: Backend,
    cancelling: Cancelling,
    /// How long it took to be made, until somebody takes account of it.
    pub(super) connecting: Option<Duration>,
    pub(super) residue: Residue,
    /// Whether it is not to be lent again, though it may still serve who has it.
    pub(super) doomed: bool,
    /// When it was last given back, by the wall clock: no other clock runs while frozen.
    rested: SystemTime,
    turn: Turn,
}

/// When a connection was last given back, in relation to others: no clock can mix that up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn(pub u64);

impl Turn {
    fn next() -> Self {
        static TURNS: AtomicU64 = AtomicU64::new(1);
        Self(TURNS.fetch_add(1, Ordering::Relaxed))
    }
}

/// Under what conditions a loan is used.
#[derive(Clone, Default)]
pub struct Terms {
    /// What the host itself executes before each of the guest's statements, in the same flush.
    pub prelude: Option<Arc<Prelude>>,
    /// How long the server may work on one statement.
    pub time: Option<Duration>,
}

impl Connection {
    /// Connects and logs in.
    pub async fn open(
        address: Arc<Address>,
        statements_max: NonZeroUsize,
        prepare: Prepare,
    ) -> Result<Self> {
        let begun = Instant::now();
        let mut established = address.connect().await?;
        Ok(Self {
            connecting: Some(begun.elapsed()),
            timeouts: ServerTimeouts::new(&established.parameters, prepare),
            parameters: std::mem::take(&mut established.parameters),
            vouched: Vouched::default(),
            backend: established.backend.clone(),
            cancelling: Cancelling::default(),
            wire: Wire::new(established),
            address,
            prepare,
            statements: Kept::new(statements_max),
            // Behind a pooler that mixes up connections, none takes another's statement for its own.
            names: Uuid::new_v4().as_u64_pair().0 >> 16,
            parsing: Vec::new(),
            forgetting: BytesMut::new(),
            forgotten: BytesMut::new(),
            beginning: None,
            began: None,
            leading: 0,
            guarding: false,
            guarded: false,
            was_guarded: false,
            executing: false,
            bound: false,
            copying_out: false,
            pieces: Pieces::default(),
            portals: Portals::default(),
            flowing: None,
            call_timeout: None,
            has_sequences: false,
            had_sequences: false,
            terms: Terms::default(),
            residue: Residue::Nothing,
            doomed: false,
            rested: SystemTime::now(),
            turn: Turn::next(),
        })
    }

    /// The next statement begins a transaction first; so does nothing else, if none follows.
    pub fn begin_later(&mut self, begin: String) {
        self.beginning = Some(Command::new(begin));
    }

    /// Takes back a transaction in which nothing was done. False if something was.
    pub fn begin_never(&mut self) -> bool {
        self.beginning.take().is_some()
    }

    /// Whether a statement runs in a transaction of its own.
    pub fn is_outside(&self) -> bool {
        self.beginning.is_none() && self.status() == Some(Status::Idle)
    }

    /// The state of the transaction; none while the server owes an answer.
    pub fn status(&self) -> Option<Status> {
        self.wire.status()
    }

    /// Whether later calls may rely on what earlier ones left on it: a transaction, settings.
    pub fn is_relied_on(&self) -> bool {
        self.residue != Residue::Nothing || self.beginning.is_some() || self.wire.in_transaction()
    }

    /// Whether it can be lent to another invocation as it is.
    pub fn is_clean(&self) -> bool {
        self.residue == Residue::Nothing
            && !self.doomed
            && self.is_outside()
            && self.parsing.is_empty()
            && self.cancelling.is_over()
            && !self.wire.is_dead()
    }

    /// Marks the session as changed, whatever its statements looked like.
    pub fn mark(&mut self, residue: Residue) {
        self.residue = self.residue.max(residue);
    }

    /// It is not to be lent again: the server says that it is going away.
    pub fn doom(&mut self) {
        self.doomed = true;
    }

    /// Whether it is not to be lent again, though it may still serve who has it.
    pub fn is_doomed(&self) -> bool {
        self.doomed
    }

    /// Looks, without a round trip, whether the server is still there.
    pub fn is_open(&mut self) -> bool {
        self.wire.is_open()
    }

    /// Whether the connection has turned out to be of no more use.
    pub fn is_dead(&self) -> bool {
        self.wire.is_dead()
    }

    /// Since when nobody has used it, by the wall clock; a clock set back counts as long ago.
    pub fn idle(&self) -> Duration {
        self.rested.elapsed().unwrap_or(Duration::MAX)
    }

    /// When it was last given back, in relation to others.
    pub fn turn(&self) -> Turn {
        self.turn
    }

    /// Asks the server whether it is there: one round trip.
    pub async fn validate(&mut self, within: Duration) -> bool {
        self.wire.begin();
        self.wire.sync();
        matches!(
            tokio::time::timeout(within, self.wire.drain()).await,
            Ok(Ok(()))
        )
    }

    /// Asks the server whether it takes writes: one round trip.
    pub async fn takes_writes(&mut self, within: Duration) -> bool {
        let asking = self.command(demotion::QUESTION);
        matches!(tokio::time::timeout(within, asking).await, Ok(Ok(())))
    }

    /// Whether the server may be at work for this connection, or be asked to.
    pub fn is_busy(&self) -> bool {
        self.wire.owed() > 0
    }

    /// Whether an answer is due that has not come, though nobody has ended the connection.
    pub fn is_silent(&self) -> bool {
        self.is_busy() && !self.is_dead()
    }

    /// Begins a loan.
    pub fn lend(&mut self) {
        (self.has_sequences, self.had_sequences) = (false, false);
        // They were said to whoever had it before, or to the host.
        self.wire.take_notices();
        self.timeouts.begin_loan();
    }

    /// Ends a loan.
    pub fn rest(&mut self) {
        self.terms = Terms::default();
        self.rested = SystemTime::now();
        self.turn = Turn::next();
    }

    /// How to ask the server to give up the statement it is executing.
    pub fn canceller(&self) -> Canceller {
        Canceller::new(self.backend.clone(), self.cancelling.clone())
    }

    /// Waits until no request to cancel is under way that could hit what is executed next.
    pub(super) async fn is_not_cancelled(&mut self) {
        if !self.cancelling.is_over() && !self.cancelling.ends().await {
            self.doom();
        }
    }

    /// Executes statements of the host's own, whose effect on the session it answers for.
    pub async fn command(&mut self, sql: &str) -> Result<()> {
        self.begin_command(sql)?;
        self.finish().await
    }

    /// Sends such statements.
    pub(super) fn begin_command(&mut self, sql: &str) -> Result<()> {
        self.wire.begin();
        self.wire.simple_query(sql)?;
        self.began = None;
        self.was_guarded = self.guarded;
        self.forgotten.clear();
        self.leading = 0;
        self.executing = true;
        self.bound = true;
        Ok(())
    }

    /// Has the server forget the statements of which nobody has noted that they were parsed.
    pub(super) fn forget_parsing(&mut self) {
        for name in std::mem::take(&mut self.parsing) {
            self.forget_statement(&name);
        }
    }

    /// Has the server forget a statement, with the next request.
    pub(super) fn forget_statement(&mut self, name: &str) {
        if !name.is_empty() {
            // The names are the host's own and can always be written.
            let _ = request::close_statement(name, &mut self.forgetting);
        }
    }

    /// Forgets all statements, also on the server, if they are still there.
    pub(super) fn forget_statements(&mut self) {
        for prepared in self.statements.take() {
            self.forget_statement(&prepared.name);
        }
    }

    /// Has the server forget a portal, with the next request.
    pub fn forget_portal(&mut self, name: &str) {
        self.portals.close(name);
        let _ = request::close_portal(name, &mut self.forgetting);
    }

    /// Waits for the next notification, without limit; giving up the wait does no harm.
    pub async fn notification(&mut self) -> Result<Notification> {
        self.wire.notification().await
    }

    /// Says good-bye to the server and waits until that has left.
    pub async fn close(self) {
        let _ = tokio::time::timeout(limits::SETTLE_TIMEOUT, self.wire.close()).await;
    }

    /// Executes statements without arguments.
    pub async fn batch_execute(&mut self, sql: &str) -> Result<()> {
        let outside = self.is_outside();
        // What is put in force ends with its transaction, and outside of one with its message.
        let mut prelude = self.terms.prelude.take_if(|_| outside);
        let timeout = self.call_timeout.take_if(|_| outside);
        self.lead(Effects::of(sql)).await?;
        if let Some(timeout) = timeout {
            let set = self.timeouts.of_batch(timeout);
            match self.prepare {
                // Within the message, what takes no transaction around it would be refused.
                Prepare::Always => self.command(&set).await?,
                Prepare::Never => prelude = Some(Prelude::after(&set, prelude)),
            }
        }
        match prelude {
            Some(prelude) => {
                self.begin_command(&prelude.before(sql))?;
                self.leading = prelude.statements;
                let done = self.finish().await;
                done.map_err(|error| match self.leading {
                    0 if stands_alone(sql) => prelude.around(error),
                    0 => prelude.unshifted(error),
                    // A text that cannot even be read is refused before any of it is executed.
                    _ => prelude.refused(prelude.unshifted(error)),
                })
            }
            None => self.command(sql).await,
        }
    }

    /// Does what goes before statements that cannot be sent in the same request.
    pub(super) async fn lead(&mut self, effects: Effects) -> Result<()> {
        self.forget_parsing();
        // They wait for a request that is not taken back.
        let forgetting = std::mem::take(&mut self.forgetting);
        let written = self.send(effects, |_| Ok(()));
        let forgotten_since = std::mem::replace(&mut self.forgetting, forgetting);
        self.forgetting.extend_from_slice(&forgotten_since);
        written?;
        if self.leading == 0 {
            // There is nothing to do first, and so nothing to wait for.
            self.wire.unsend();
            return Ok(());
        }
        self.finish().await
    }
}
