//! One connection to a database, while it lives, and what it knows of its own state.
//!
//! Promises:
//! - [`Connection::is_clean`] is only true when the server owes nothing, no transaction is open,
//!   and nothing was executed that may have changed the session;
//! - any of its calls may be given up at any await: [`Connection::settle`] then ends what runs.
//!
//! Left to others: statements and their rows ([`self::exchange`]), how it is made clean
//! ([`self::cleanup`]), who may use it when
//! ([`crate::database::pool`], [`crate::database::session`]).

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use uuid::Uuid;

use crate::config::Prepare;
use crate::database::connect::{Address, Backend};
use crate::database::error::{Error, Result, Unconnected};
use crate::database::permission::prelude::Prelude;
use crate::database::sql::residue::Residue;
use crate::database::statement::kept::Kept;
use crate::database::statement::{Key, Prepared};
use crate::database::wire::notification::Notification;
use crate::database::wire::request::{self, Command};
use crate::database::wire::{Status, Wire};
use crate::limits;

pub mod batch;
mod cancelling;
mod catalog;
pub mod cleanup;
mod composing;
pub mod copying;
pub mod demotion;
pub mod ending;
pub mod exchange;
mod in_flight;
pub mod lifetime;
pub mod liveness;
mod patience;
mod per_loan;
pub mod pipeline;
mod portals;
mod preparation;
mod redefining;
mod replies;
mod savepoints;
mod server_timeouts;
mod simple;

use batch::Rest;
use cancelling::{Canceller, Cancelling};
use demotion::Vouched;
use in_flight::InFlight;
use lifetime::Lifetime;
use per_loan::PerLoan;
use portals::Portals;
use redefining::Redefining;
use savepoints::Savepoints;
use server_timeouts::ServerTimeouts;

/// One connection. Whoever holds it has it alone.
pub struct Connection {
    pub wire: Wire,
    address: Arc<Address>,
    pub prepare: Prepare,
    statements: Kept<Prepared>,
    /// How many names it has given to statements and portals; none is given twice.
    names: u64,
    /// The names of statements that the server may have parsed, though nobody has noted it yet.
    parsing: Vec<Arc<str>>,
    redefining: Redefining,
    /// Messages that close statements and portals which nobody needs any more; the next request takes them along.
    forgetting: BytesMut,
    /// The `BEGIN` of a transaction in which nothing was done yet.
    beginning: Option<Command>,
    /// Whether the next request is to set a savepoint of the host's own before the guest's statements.
    securing: bool,
    /// Whether that savepoint is set, and not released yet.
    pub secured: bool,
    /// The guest's own that are to be forgotten.
    pub savepoints: Savepoints,
    in_flight: InFlight,
    /// What concerns whoever has it now.
    pub per_loan: PerLoan,
    /// Whether its transaction is to be made to fail: a guest was told that a request in it has failed, though for the
    /// server it has succeeded.
    fails_later: bool,
    /// What its transaction has left open.
    pub portals: Portals,
    /// Whose rows are on their way, if any are.
    pub flowing: Option<Rest>,
    pub timeouts: ServerTimeouts,
    /// What the server said of itself when it let us in.
    pub parameters: BTreeMap<String, String>,
    pub vouched: Vouched,
    pub lifetime: Lifetime,
    backend: Backend,
    cancelling: Cancelling,
    /// How long it took to be made, until somebody takes account of it.
    pub connecting: Option<Duration>,
    pub residue: Residue,
    /// Why another connection, which it needed for something, could not be made, until the log is told.
    pub unconnected: Option<Box<Unconnected>>,
    /// Whether it is not to be lent again, though it may still serve who has it.
    doomed: bool,
    last_loan: LastLoan,
}

/// As the host's own `BEGIN` has it.
pub const READ_ONLY: &str = "READ ONLY";

/// When a connection was last given back, in relation to others: no clock can mix that up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LastLoan(pub u64);

impl LastLoan {
    fn next() -> Self {
        static LOANS: AtomicU64 = AtomicU64::new(1);
        Self(LOANS.fetch_add(1, Ordering::Relaxed))
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
            lifetime: Lifetime::endless(),
            backend: established.backend.clone(),
            cancelling: Cancelling::default(),
            wire: Wire::new(established),
            address,
            prepare,
            statements: Kept::new(statements_max),
            // Behind a pooler that mixes up connections, none takes another's statement for its own.
            names: Uuid::new_v4().as_u64_pair().0 >> 16,
            parsing: Vec::new(),
            redefining: Redefining::default(),
            forgetting: BytesMut::new(),
            beginning: None,
            securing: false,
            secured: false,
            savepoints: Savepoints::default(),
            in_flight: InFlight::default(),
            per_loan: PerLoan::default(),
            fails_later: false,
            portals: Portals::default(),
            flowing: None,
            residue: Residue::Nothing,
            unconnected: None,
            doomed: false,
            last_loan: LastLoan::next(),
        })
    }

    /// The next statement begins a transaction first; so does nothing else, if none follows.
    pub fn begin_later(&mut self, begin: String) {
        self.per_loan.only_reads = begin.contains(READ_ONLY);
        self.beginning = Some(Command::new(begin));
    }

    /// Whether it was the host, or the guest, that told the server to take no writes now.
    pub fn may_only_read(&self) -> bool {
        let prelude = self.per_loan.terms.prelude.as_ref();
        self.per_loan.only_reads
            || self.per_loan.asked_to_read
            || prelude.is_some_and(|prelude| prelude.is_read_only())
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
        self.will_be_clean() && self.cancelling.is_over()
    }

    /// Whether it can be, once no request to cancel is under way.
    pub fn will_be_clean(&self) -> bool {
        self.residue == Residue::Nothing
            && !self.doomed
            && self.is_outside()
            && self.parsing.is_empty()
            && !self.wire.is_dead()
    }

    /// Takes note that the session was changed, to this extent at least.
    pub fn add_residue(&mut self, residue: Residue) {
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

    /// For how long nothing was sent on it, by the wall clock; a clock set back counts as long ago. When it answered
    /// says less: the answer may have been there before a freeze, and have been read after that.
    pub fn idle(&self) -> Duration {
        self.wire.sent_at.elapsed().unwrap_or(Duration::MAX)
    }

    /// When it was last given back, in relation to others.
    pub fn last_loan(&self) -> LastLoan {
        self.last_loan
    }

    /// Whether it was made for who has it now.
    pub fn is_new(&self) -> bool {
        self.connecting.is_some()
    }

    /// Whether the server may be at work for this connection, or be asked to.
    pub fn is_busy(&self) -> bool {
        self.wire.owed() > 0
    }

    /// Begins a loan.
    pub fn begin_loan(&mut self) {
        if std::mem::take(&mut self.per_loan).renamed {
            for prepared in self.statements.take_if(|prepared| prepared.renamed) {
                self.forget_statement(&prepared.name);
            }
        }
        self.forget_redefinition();
        // They were said to whoever had it before, or to the host.
        self.wire.take_notices();
        self.timeouts.begin_loan();
    }

    /// Ends a loan.
    pub fn end_loan(&mut self) {
        self.last_loan = LastLoan::next();
    }

    /// How to ask the server to give up the statement it is executing.
    pub fn canceller(&self) -> Canceller {
        Canceller::new(self.backend.clone(), self.cancelling.clone())
    }

    /// Waits until no request to cancel is under way that could hit what is executed next. One that does not end
    /// costs the connection.
    pub async fn outlast_cancellations(&mut self) {
        if !self.cancelling.is_over() && !self.cancelling.ends().await {
            self.doom();
        }
    }

    /// The same between two requests of one call, whose time is over where one is under way. It ends not much later.
    pub async fn go_on(&mut self) -> Result<()> {
        if self.cancelling.is_over() {
            return Ok(());
        }
        let outlasting = self.outlast_cancellations();
        if tokio::time::timeout(limits::CALL_GRACE, outlasting)
            .await
            .is_ok()
        {
            return Ok(());
        }
        self.wire.end();
        Err(Error::ConnectionLost {
            maybe_executed: false,
        })
    }

    /// Has the server forget the statements of which nobody has noted that they were parsed.
    pub fn forget_parsing(&mut self) {
        for name in std::mem::take(&mut self.parsing) {
            self.forget_statement(&name);
        }
    }

    /// What was remembered of a statement has turned out not to fit, and is forgotten.
    pub fn forget_description(&mut self, key: &Key) {
        if let Some(prepared) = self.statements.pop(key) {
            self.forget_statement(&prepared.name);
        }
    }

    /// Has the server forget a statement, with the next request.
    pub fn forget_statement(&mut self, name: &str) {
        if !name.is_empty() {
            // The names are the host's own and can always be written.
            let _ = request::close_statement(name, &mut self.forgetting);
        }
    }

    /// Forgets all statements, also on the server, if they are still there.
    pub fn forget_statements(&mut self) {
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

    /// Says good-bye to the server, and waits until it has closed its side. Whether that came in time.
    pub async fn close(self) -> bool {
        let closed = tokio::time::timeout(limits::SETTLE_TIMEOUT, self.wire.close()).await;
        closed.unwrap_or(false)
    }
}
