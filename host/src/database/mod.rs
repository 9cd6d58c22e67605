//! PostgreSQL: the pools that outlive invocations, and the sessions that do not.
//!
//! A [`Database`] is a pool with its settings and lives as long as the environment. A
//! [`session::Session`] is what one invocation has borrowed of it, and ends with the invocation.
//! This floor has never heard of WebAssembly or of Lambda.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use crate::config::{DatabaseConfig, Prepare, Reset};
use crate::fault::Fault;
use crate::lock::lock;
use crate::telemetry::{Account, Tally, line_of};

pub mod connect;
mod connection;
pub mod error;
pub mod permission;
mod pool;
pub mod script;
pub mod server_error;
pub mod session;
mod sql;
pub mod statement;
pub mod warming;
pub mod wire;

pub use connection::batch::Batch;
pub use connection::pipeline::Outcome;
pub use error::{Error, Result};

use connect::Address;
use pool::{Holds, Loan, Pool, Wait};
use sql::residue::Residue;
use sql::varying_columns::varies;
use statement::kept::Kept;
use statement::{Description, Key};

/// One database that functions can open by name.
pub struct Database {
    name: String,
    pool: Pool,
    /// The connections that are opened ahead of the first event.
    warm: u32,
    /// Whether a connection is reset after each use, whatever was executed.
    reset_always: bool,
    /// Whether a pooler shares the server's sessions.
    shares_sessions: bool,
    /// What the server last said of a statement, so that a new instance need not ask again.
    descriptions: Mutex<Kept<Arc<Description>>>,
}

/// The databases of an environment, by name.
pub type Databases = BTreeMap<String, Arc<Database>>;

impl Database {
    /// A database at the address that its configuration gives. Connects to nothing yet.
    pub fn new(config: &DatabaseConfig) -> std::result::Result<Self, Fault> {
        let name = &config.name;
        let address = Address::read(config)?;
        let statements_max =
            NonZeroUsize::new(config.statements_max as usize).unwrap_or(NonZeroUsize::MIN);
        Ok(Self {
            name: name.clone(),
            pool: Pool::new(
                name,
                address,
                config.pool_max,
                statements_max,
                config.prepare,
                config.lifetime,
            ),
            warm: config.warm,
            reset_always: config.reset == Reset::Always,
            shares_sessions: config.prepare == Prepare::Never,
            descriptions: Mutex::new(Kept::new(statements_max)),
        })
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many connections there may be.
    fn connections_max(&self) -> usize {
        self.pool.connections_max()
    }

    /// Closes the connections that nobody uses, and goes on lending.
    pub async fn cool(&self) {
        self.pool.cool().await;
    }

    /// Lends no more connections, and closes those that nobody uses.
    async fn close(&self) {
        self.pool.close().await;
    }

    async fn lend(
        &self,
        until: Instant,
        wait: Wait,
        holds: Holds<'_>,
        account: &Arc<Account>,
    ) -> Result<Loan> {
        let mut lending = account.tally().map(Tally::lending);
        let lent = self.pool.lend(until, wait, holds).await;
        if let Some(lending) = &mut lending {
            match &lent {
                Ok(loan) => loan
                    .connecting
                    .iter()
                    .for_each(|took| lending.connected(*took)),
                Err(Error::Connect(_)) => lending.refused(),
                Err(_) => {}
            }
        }
        if let Err(Error::Connect(error)) = &lent {
            line_of!(account, warn, database = self.name, "{error}");
        }
        let mut loan = lent?;
        if lending.is_some() {
            loan.charge(account);
        }
        if self.reset_always {
            loan.add_residue(Residue::Session);
        }
        Ok(loan)
    }

    /// Tells the log how its pool stands.
    fn report(&self, account: &Account) {
        let pool::Counts {
            open,
            idle,
            waiting,
            most,
            ..
        } = self.pool.counts();
        line_of!(
            account,
            debug,
            database = self.name,
            open,
            idle,
            waiting,
            most,
            "the pool after an invocation"
        );
    }

    /// A server of this database has refused a write, as one that takes none.
    fn suspect_demotion(&self) {
        self.pool.suspect_demotion();
    }

    /// What is known of a statement, for a guest that knows nothing of it.
    fn known(&self, key: &Key) -> Option<Arc<Description>> {
        let mut descriptions = self.descriptions();
        let known = descriptions.get(key);
        known.filter(|known| known.is_current()).cloned()
    }

    fn learn(&self, key: &Key, description: &Arc<Description>) {
        if varies(&key.sql) {
            return;
        }
        let mut descriptions = self.descriptions();
        if descriptions
            .get(key)
            .is_none_or(|known| description.supersedes(known) || !known.is_current())
        {
            descriptions.put(key.clone(), description.clone(), description.bytes());
        }
    }

    fn forget(&self, key: &Key) {
        self.descriptions().pop(key);
    }

    fn descriptions(&self) -> MutexGuard<'_, Kept<Arc<Description>>> {
        lock(&self.descriptions)
    }
}

/// Lends no more connections of any database, and closes those that nobody uses.
pub async fn close(databases: &Databases) {
    futures_util::future::join_all(databases.values().map(|database| database.close())).await;
}

/// Opens every database of a configuration.
pub fn open(configs: &BTreeMap<String, DatabaseConfig>) -> std::result::Result<Databases, Fault> {
    configs
        .iter()
        .map(|(name, config)| Ok((name.clone(), Arc::new(Database::new(config)?))))
        .collect()
}
