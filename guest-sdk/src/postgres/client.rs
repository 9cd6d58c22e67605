//! A database of the host, and how a transaction on it begins.
//!
//! Promises: one handle and one statement cache for each database name in an instance, however
//! often it is opened. Left to others: connections (the host), calls ([`super::call`]).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postgres_types::{BorrowToSql, FromSqlOwned, ToSql, Type};

use super::cache::StatementCache;
use super::call::{self, Host};
use super::cells;
use super::copy::{CopyIn, CopyOut};
use super::error::{Error, Kind};
use super::methods::{statement_methods, timeout_method};
use super::pipeline::Pipeline;
use super::row::Row;
use super::row_stream::RowStream;
use super::session::Session;
use super::statement::sealed::Source;
use super::statement::{Statement, ToStatement};
use super::transact::ATTEMPTS_MAX;
use super::transaction::Transaction;
use crate::bindings::hearth::postgres::client as wire;

/// The name of the database that [`default`] opens.
const DEFAULT: &str = "default";

/// Each database that this instance has opened. There are no more than the host's configuration
/// names, since a name that it does not know is not kept.
static OPENED: Mutex<BTreeMap<String, Client>> = Mutex::new(BTreeMap::new());

/// Opens the database of this name in the host's configuration.
///
/// It opens no connection and calls the host only the first time in an instance, so it may as well
/// be called in each invocation. Fails if the function may use no database of that name.
pub fn open(name: &str) -> Result<Client, Error> {
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(client) = opened.get(name) {
        return Ok(client.clone());
    }
    let client = Client {
        database: Arc::new(Database {
            name: name.to_owned(),
            handle: wire::Database::open(name)?,
            statements: Mutex::default(),
        }),
        timeout: None,
    };
    opened.insert(name.to_owned(), client.clone());
    Ok(client)
}

/// Opens the database named `default`; see [`open`].
pub fn default() -> Result<Client, Error> {
    open(DEFAULT)
}

/// A database. Cloning is cheap, and it may live in a `static`.
///
/// It holds no connection: each call takes one from the host's pool and gives it back when its
/// rows are read. Calls made at the same time, as with `join!`, run on a connection each. What
/// must happen together, on one connection, belongs into a [`transaction`](Self::transaction). Of transactions and
/// sessions side by side more than the pool has connections (`pool_max`) wait for those before them; only where the
/// invocation holds all of them and does nothing on any for a tenth of a second, as one that begins a transaction and
/// then asks for a second connection of a pool of one, is that an error ([`Error::is_busy`]).
///
/// A statement whose text may leave something in PostgreSQL's session keeps its connection for all later calls
/// of the invocation, and that is reset afterwards: `SET`, a temporary table, an advisory lock, `CALL`, and each
/// function but those of PostgreSQL's own that are known to leave nothing. `SET LOCAL` and `pg_advisory_xact_lock`
/// leave nothing. A call that is made while another uses that connection takes a different one if the pool
/// has one to spare, unless a transaction is open there (a `BEGIN` by SQL). What a sequence has last returned
/// (`currval`, `lastval`) is asked where it was made to: in one transaction or [`Session`].
///
/// A transaction or a session that the client begins has a connection of its own, so it does not see what calls of the
/// client have left: no `SET`, no temporary table. What a transaction needs is set inside (`SET LOCAL`), or it is one of
/// a session ([`Session::transaction`]).
///
/// Dropping a future before it is ready asks the host to cancel the call; whether its statement
/// was executed is then unknown.
///
/// All futures of a client, a session and a transaction are [`Send`], so that a method of a trait can wait for them in
/// `#[async_trait]` or behind `boxed()`. Of [`transact`](Self::transact), whose closure borrows the transaction, the
/// compiler cannot see that; nor in code that is itself generic over [`GenericClient`](super::GenericClient).
#[derive(Clone)]
pub struct Client {
    database: Arc<Database>,
    timeout: Option<Duration>,
}

pub(super) struct Database {
    name: String,
    handle: wire::Database,
    pub(super) statements: Mutex<StatementCache>,
}

impl Client {
    statement_methods!(pub fn);
    timeout_method!();

    /// Holds a connection: for settings, temporary tables, advisory locks and notifications. It sees nothing of what
    /// calls of the client have left, such as a `SET`.
    pub async fn session(&self) -> Result<Session, Error> {
        let timeout_ms = call::millis(self.timeout);
        let handle = self.database.handle.session(timeout_ms).await?;
        Ok(Session::new(self.database.clone(), handle, self.timeout))
    }

    /// Begins a transaction with the database's defaults, on a connection of its own.
    ///
    /// It takes effect with its [`commit`](Transaction::commit), and is rolled back when it is
    /// dropped. What calls of the client have left (a `SET`, a temporary table) it does not see: use
    /// [`Session::transaction`], or `SET LOCAL` inside.
    pub async fn transaction(&self) -> Result<Transaction<'static>, Error> {
        self.build_transaction().start().await
    }

    /// Runs a closure in a transaction, commits if it returns `Ok`, rolls back if it returns `Err`;
    /// and does all of it again, after a short random wait, if the server undid the transaction for
    /// the sake of others ([`Error::is_conflict`]).
    ///
    /// ```
    /// use hearth::postgres::{Client, Error};
    ///
    /// async fn take(db: &Client, sku: &str) -> Result<i32, Error> {
    ///     db.transact(async |tx| {
    ///         let sql = "SELECT stock FROM product WHERE sku = $1";
    ///         let stock: i32 = tx.query_one_scalar(sql, &[&sku]).await?;
    ///         tx.execute("UPDATE product SET stock = $2 WHERE sku = $1", &[&sku, &(stock - 1)])
    ///             .await?;
    ///         Ok(stock - 1)
    ///     })
    ///     .await
    /// }
    /// ```
    ///
    /// The closure may run several times, so all that it does should be in the transaction. Its
    /// error can be of any type that an [`Error`] converts into, such as
    /// [`hearth::Error`](crate::Error). It is not run again when the invocation's deadline would be
    /// reached before it could end, nor more often than
    /// [`attempts_max`](TransactionBuilder::attempts_max); nor when a `commit` was cut off, since
    /// it may have taken effect ([`Error::may_have_executed`]).
    pub async fn transact<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: AsyncFnMut(&mut Transaction<'static>) -> Result<T, E>,
        E: From<Error>,
    {
        self.build_transaction().transact(work).await
    }

    /// A transaction with other than the database's defaults.
    pub fn build_transaction(&self) -> TransactionBuilder<'static> {
        TransactionBuilder::new(self.database.clone(), None, self.timeout)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Client")
            .field(&self.database.name)
            .finish()
    }
}

impl Host for Client {
    fn statements(&self) -> &Mutex<StatementCache> {
        &self.database.statements
    }

    async fn send_prepare(
        &self,
        drafts: Vec<wire::Draft>,
    ) -> Result<Vec<wire::Statement>, wire::PipelineError> {
        self.database
            .handle
            .prepare(drafts, call::millis(self.timeout))
            .await
    }

    async fn send_query(&self, call: wire::Call) -> Result<wire::Answer, wire::Error> {
        self.database.handle.query(call).await
    }

    async fn send_execute(&self, call: wire::Call) -> Result<u64, wire::Error> {
        self.database.handle.execute(call).await
    }

    fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    async fn send_pipeline(
        &self,
        calls: Vec<wire::Call>,
    ) -> Result<Vec<wire::Outcome>, wire::PipelineError> {
        self.database.handle.pipeline(calls).await
    }

    async fn send_batch(&self, sql: String) -> Result<(), wire::Error> {
        self.database
            .handle
            .batch_execute(sql, call::millis(self.timeout))
            .await
    }

    async fn send_copy_in(&self, sql: String) -> Result<wire::CopyIn, wire::Error> {
        self.database
            .handle
            .copy_in(sql, call::millis(self.timeout))
            .await
    }

    async fn send_copy_out(&self, sql: String) -> Result<wire::CopyOut, wire::Error> {
        self.database
            .handle
            .copy_out(sql, call::millis(self.timeout))
            .await
    }
}

/// How much a transaction sees of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IsolationLevel {
    /// PostgreSQL treats it as [`ReadCommitted`](Self::ReadCommitted).
    ReadUncommitted,
    /// Each statement sees what was committed before it began.
    ReadCommitted,
    /// All statements see what was committed before the first of them.
    RepeatableRead,
    /// As if transactions ran one after another. Any may fail with
    /// [`T_R_SERIALIZATION_FAILURE`](super::SqlState::T_R_SERIALIZATION_FAILURE) and must then be
    /// done again from its beginning.
    Serializable,
}

/// A transaction that has not begun; see [`Client::build_transaction`].
///
/// The lifetime is that of the borrow of the [`Session`] on which it is to run, or `'static`.
#[must_use = "a transaction begins with `start` or `transact`"]
pub struct TransactionBuilder<'a> {
    database: Arc<Database>,
    session: Option<&'a wire::Session>,
    timeout: Option<Duration>,
    options: wire::TransactionOptions,
    pub(super) attempts_max: u32,
}

impl<'a> TransactionBuilder<'a> {
    /// On a connection of its own, or on that of a session.
    pub(super) fn new(
        database: Arc<Database>,
        session: Option<&'a wire::Session>,
        timeout: Option<Duration>,
    ) -> Self {
        Self {
            database,
            session,
            timeout,
            options: wire::TransactionOptions {
                isolation_level: None,
                read_only: None,
                deferrable: None,
            },
            attempts_max: ATTEMPTS_MAX,
        }
    }

    /// Sets how much it sees of others.
    pub fn isolation_level(mut self, isolation_level: IsolationLevel) -> Self {
        self.options.isolation_level = Some(match isolation_level {
            IsolationLevel::ReadUncommitted => wire::IsolationLevel::ReadUncommitted,
            IsolationLevel::ReadCommitted => wire::IsolationLevel::ReadCommitted,
            IsolationLevel::RepeatableRead => wire::IsolationLevel::RepeatableRead,
            IsolationLevel::Serializable => wire::IsolationLevel::Serializable,
        });
        self
    }

    /// Sets whether it may not write.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.options.read_only = Some(read_only);
        self
    }

    /// Sets whether, if it is serializable and read only, it waits at first and can then neither
    /// fail to serialize nor make others fail.
    pub fn deferrable(mut self, deferrable: bool) -> Self {
        self.options.deferrable = Some(deferrable);
        self
    }

    /// Sets how often [`transact`](Self::transact) tries it at most; 25 where nothing is said, and
    /// at least once.
    pub fn attempts_max(mut self, attempts_max: u32) -> Self {
        self.attempts_max = attempts_max.max(1);
        self
    }

    /// Begins it.
    pub async fn start(self) -> Result<Transaction<'a>, Error> {
        self.begin().await
    }

    pub(super) async fn begin(&self) -> Result<Transaction<'a>, Error> {
        let database = self.database.clone();
        let handle = match self.session {
            Some(session) => session.begin(self.options).await?,
            None => {
                let timeout_ms = call::millis(self.timeout);
                database.handle.begin(self.options, timeout_ms).await?
            }
        };
        Ok(Transaction::begun(database, handle, self.timeout))
    }
}

impl fmt::Debug for TransactionBuilder<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TransactionBuilder")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::GenericClient;

    fn need_send<T: Send>(_: T) {}

    async fn generic(db: &impl GenericClient) -> Result<u64, Error> {
        db.execute("", &[]).await
    }

    /// Only compiled: `#[async_trait]`, `boxed()` and a trait that promises `impl Future + Send` ask for it.
    #[test]
    fn what_is_waited_for_may_go_to_another_thread() {
        let _ = async |db: &Client, session: &mut Session, copy: CopyIn| -> Result<(), Error> {
            need_send(db.query("", &[]));
            need_send(db.query_one("", &[]));
            need_send(db.query_opt("", &[]));
            need_send(db.query_raw("", [&1_i32]));
            need_send(db.query_typed("", &[(&1_i32, Type::INT4)]));
            need_send(db.query_scalar::<i32, _>("", &[]));
            need_send(db.execute("", &[]));
            need_send(db.batch_execute(""));
            need_send(db.prepare(""));
            need_send(db.pipeline().run());
            need_send(db.copy_in(""));
            need_send(generic(db));
            need_send(db.session());
            need_send(db.transaction());
            need_send(crate::timeout(Duration::ZERO, db.query("", &[])));
            need_send(copy.finish());
            need_send(db.query_raw("", [&1_i32]).await?);
            need_send(db.copy_out("").await?);
            need_send(session.query("", &[]));
            need_send(session.notification());
            let mut transaction = session.transaction().await?;
            need_send(transaction.query("", &[]));
            need_send(transaction.execute("", &[]));
            need_send(transaction.transaction());
            need_send(transaction.commit());
            Ok(())
        };
    }

    /// What `#[async_trait]` makes of a method.
    #[test]
    fn a_handlers_own_future_may_be_boxed() {
        type Boxed<'a> = std::pin::Pin<Box<dyn Future<Output = Result<i32, Error>> + Send + 'a>>;
        fn stock<'a>(db: &'a Client, sku: &'a str) -> Boxed<'a> {
            Box::pin(async move {
                let row = db.query_one("", &[&sku]).await?;
                let mut transaction = db.transaction().await?;
                let nested = transaction.transaction().await?;
                nested.execute("", &[&sku]).await?;
                nested.commit().await?;
                transaction.commit().await?;
                row.try_get(0)
            })
        }
        let _: for<'a> fn(&'a Client, &'a str) -> Boxed<'a> = stock;
    }
}
