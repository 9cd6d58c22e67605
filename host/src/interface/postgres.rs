//! `wit/deps/postgres.wit` for the host: handles, and the way from a guest's call to the session
//! of its invocation.
//!
//! Promises:
//! - a call is made on the session of the invocation from which it comes, also when several
//!   invocations share the instance: the component model's call stack says which;
//! - a handle that a guest keeps beyond its invocation holds nothing, and says that it has ended.

use std::collections::HashMap;
use std::sync::Arc;

use wasmtime::AsContextMut;
use wasmtime::component::{Accessor, GuestTaskId, HasData, Resource, ResourceTable};

use super::bindings::hearth::postgres::client as wit;
use crate::database::cursor::Batch;
use crate::database::session::{self, Session};
use crate::database::statement::{Call, Description, Key};
use crate::database::transaction::{self, Options};
use crate::database::{self, Databases};

mod convert;

/// A database that the guest has opened: a name that its function may use.
pub struct Database {
    name: Arc<str>,
}

/// A transaction that the guest has begun.
pub struct Transaction(Arc<transaction::Transaction>);

/// Rows that the guest has not read yet.
pub struct Cursor(Arc<database::cursor::Cursor>);

/// The part of an instance's state that belongs to this interface.
pub struct Postgres {
    databases: Arc<Databases>,
    /// The session of each invocation that runs in the instance, by the guest task that handles it.
    sessions: HashMap<GuestTaskId, Arc<Session>>,
}

/// What a host call may touch of its store.
pub struct View<'a> {
    /// This interface's own state.
    pub postgres: &'a mut Postgres,
    /// The handles of the instance.
    pub table: &'a mut ResourceTable,
}

/// Names [`View`] to wasmtime.
pub struct HasPostgres;

impl HasData for HasPostgres {
    type Data<'a> = View<'a>;
}

impl Postgres {
    /// For an instance that may open these databases.
    pub fn new(databases: Arc<Databases>) -> Self {
        Self {
            databases,
            sessions: HashMap::new(),
        }
    }

    /// From now on, calls that come from this task belong to this session.
    pub fn enter(&mut self, task: GuestTaskId, session: Arc<Session>) {
        self.sessions.insert(task, session);
    }

    /// The task's invocation has ended.
    pub fn leave(&mut self, task: GuestTaskId) {
        self.sessions.remove(&task);
    }
}

/// The result of a host call: the inner error is the guest's to read, the outer one a trap.
type Outcome<T> = wasmtime::Result<Result<T, wit::Error>>;

/// The session of the invocation that makes this call.
fn session<T: 'static>(
    accessor: &Accessor<T, HasPostgres>,
) -> wasmtime::Result<Result<Arc<Session>, wit::Error>> {
    accessor.with(|mut access| {
        // The last task of the stack is the one that the host called: `handle` or `init`.
        let root = access.as_context_mut().async_call_stack()?.last();
        let session = root.and_then(|task| access.get().postgres.sessions.get(&task).cloned());
        Ok(session.ok_or_else(|| {
            wit::Error::Invalid(
                "this code runs outside of any invocation, in `init` or after the answer: a database can only be \
                 reached while an invocation is being handled"
                    .to_owned(),
            )
        }))
    })
}

/// The session of this call, and the name of the database it is made on.
fn opened<T: 'static>(
    accessor: &Accessor<T, HasPostgres>,
    database: &Resource<Database>,
) -> Outcome<(Arc<Session>, Arc<str>)> {
    let name = accessor.with(|mut access| {
        Ok::<_, wasmtime::Error>(access.get().table.get(database)?.name.clone())
    })?;
    Ok(session(accessor)?.map(|session| (session, name)))
}

fn begun<T: 'static>(
    accessor: &Accessor<T, HasPostgres>,
    transaction: &Resource<Transaction>,
) -> wasmtime::Result<Arc<transaction::Transaction>> {
    accessor.with(|mut access| Ok(access.get().table.get(transaction)?.0.clone()))
}

/// Hands an answer to the guest, with a handle for the rows that follow.
fn deliver<T: 'static>(
    accessor: &Accessor<T, HasPostgres>,
    answer: database::Result<session::Answer>,
) -> Outcome<wit::Answer> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Ok(Err(error.into())),
    };
    let rest = match answer.rest {
        Some(cursor) => {
            let cursor = Cursor(Arc::new(cursor));
            Some(accessor.with(|mut access| access.get().table.push(cursor))?)
        }
        None => None,
    };
    let statement = answer.statement.as_deref().map(wit::Statement::from);
    Ok(Ok(wit::Answer {
        statement,
        first: answer.first.into(),
        rest,
    }))
}

impl wit::Host for View<'_> {}

impl wit::HostDatabase for View<'_> {
    fn open(&mut self, name: String) -> Outcome<Resource<Database>> {
        if !self.postgres.databases.contains_key(&name) {
            return Ok(Err(database::Error::UnknownDatabase(name).into()));
        }
        Ok(Ok(self.table.push(Database { name: name.into() })?))
    }

    fn drop(&mut self, database: Resource<Database>) -> wasmtime::Result<()> {
        self.table.delete(database)?;
        Ok(())
    }
}

impl<T: Send + 'static> wit::HostDatabaseWithStore<T> for HasPostgres {
    async fn prepare(
        accessor: &Accessor<T, Self>,
        database: Resource<Database>,
        sql: String,
        types: Vec<u32>,
    ) -> Outcome<wit::Statement> {
        let (session, name) = match opened(accessor, &database)? {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(error)),
        };
        Ok(describe(session.prepare(&name, &Key { sql, types }).await))
    }

    async fn query(
        accessor: &Accessor<T, Self>,
        database: Resource<Database>,
        call: wit::Call,
    ) -> Outcome<wit::Answer> {
        let (session, name) = match opened(accessor, &database)? {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(error)),
        };
        let answer = session.query(&name, &call.into()).await;
        deliver(accessor, answer)
    }

    async fn execute(
        accessor: &Accessor<T, Self>,
        database: Resource<Database>,
        call: wit::Call,
    ) -> Outcome<u64> {
        let (session, name) = match opened(accessor, &database)? {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(error)),
        };
        Ok(session
            .execute(&name, &call.into())
            .await
            .map_err(Into::into))
    }

    async fn pipeline(
        accessor: &Accessor<T, Self>,
        database: Resource<Database>,
        calls: Vec<wit::Call>,
    ) -> Outcome<Vec<wit::Outcome>> {
        let (session, name) = match opened(accessor, &database)? {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(error)),
        };
        let calls: Vec<Call> = calls.into_iter().map(Call::from).collect();
        let outcomes = session.pipeline(&name, &calls).await;
        Ok(outcomes
            .map(|outcomes| convert::outcomes(&calls, outcomes))
            .map_err(Into::into))
    }

    async fn batch_execute(
        accessor: &Accessor<T, Self>,
        database: Resource<Database>,
        sql: String,
    ) -> Outcome<()> {
        let (session, name) = match opened(accessor, &database)? {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(error)),
        };
        Ok(session.batch_execute(&name, &sql).await.map_err(Into::into))
    }

    async fn begin(
        accessor: &Accessor<T, Self>,
        database: Resource<Database>,
        options: wit::TransactionOptions,
    ) -> Outcome<Resource<Transaction>> {
        let (session, name) = match opened(accessor, &database)? {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(error)),
        };
        match session.begin(&name, &Options::from(options)).await {
            Ok(transaction) => {
                let transaction = Transaction(Arc::new(transaction));
                Ok(Ok(
                    accessor.with(|mut access| access.get().table.push(transaction))?
                ))
            }
            Err(error) => Ok(Err(error.into())),
        }
    }
}

impl wit::HostTransaction for View<'_> {
    fn drop(&mut self, transaction: Resource<Transaction>) -> wasmtime::Result<()> {
        self.table.delete(transaction)?;
        Ok(())
    }
}

impl<T: Send + 'static> wit::HostTransactionWithStore<T> for HasPostgres {
    async fn prepare(
        accessor: &Accessor<T, Self>,
        transaction: Resource<Transaction>,
        sql: String,
        types: Vec<u32>,
    ) -> Outcome<wit::Statement> {
        Ok(describe(
            begun(accessor, &transaction)?
                .prepare(&Key { sql, types })
                .await,
        ))
    }

    async fn query(
        accessor: &Accessor<T, Self>,
        transaction: Resource<Transaction>,
        call: wit::Call,
    ) -> Outcome<wit::Answer> {
        let answer = begun(accessor, &transaction)?.query(&call.into()).await;
        deliver(accessor, answer)
    }

    async fn execute(
        accessor: &Accessor<T, Self>,
        transaction: Resource<Transaction>,
        call: wit::Call,
    ) -> Outcome<u64> {
        Ok(begun(accessor, &transaction)?
            .execute(&call.into())
            .await
            .map_err(Into::into))
    }

    async fn pipeline(
        accessor: &Accessor<T, Self>,
        transaction: Resource<Transaction>,
        calls: Vec<wit::Call>,
    ) -> Outcome<Vec<wit::Outcome>> {
        let calls: Vec<Call> = calls.into_iter().map(Call::from).collect();
        let outcomes = begun(accessor, &transaction)?.pipeline(&calls).await;
        Ok(outcomes
            .map(|outcomes| convert::outcomes(&calls, outcomes))
            .map_err(Into::into))
    }

    async fn batch_execute(
        accessor: &Accessor<T, Self>,
        transaction: Resource<Transaction>,
        sql: String,
    ) -> Outcome<()> {
        Ok(begun(accessor, &transaction)?
            .batch_execute(&sql)
            .await
            .map_err(Into::into))
    }

    async fn savepoint(
        accessor: &Accessor<T, Self>,
        transaction: Resource<Transaction>,
        name: String,
    ) -> Outcome<()> {
        Ok(begun(accessor, &transaction)?
            .savepoint(&name)
            .await
            .map_err(Into::into))
    }

    async fn rollback_to(
        accessor: &Accessor<T, Self>,
        transaction: Resource<Transaction>,
        name: String,
    ) -> Outcome<()> {
        Ok(begun(accessor, &transaction)?
            .rollback_to(&name)
            .await
            .map_err(Into::into))
    }

    async fn release(
        accessor: &Accessor<T, Self>,
        transaction: Resource<Transaction>,
        name: String,
    ) -> Outcome<()> {
        Ok(begun(accessor, &transaction)?
            .release(&name)
            .await
            .map_err(Into::into))
    }

    async fn commit(
        accessor: &Accessor<T, Self>,
        transaction: Resource<Transaction>,
    ) -> Outcome<()> {
        Ok(begun(accessor, &transaction)?
            .commit()
            .await
            .map_err(Into::into))
    }

    async fn rollback(
        accessor: &Accessor<T, Self>,
        transaction: Resource<Transaction>,
    ) -> Outcome<()> {
        Ok(begun(accessor, &transaction)?
            .rollback()
            .await
            .map_err(Into::into))
    }
}

impl wit::HostCursor for View<'_> {
    fn drop(&mut self, cursor: Resource<Cursor>) -> wasmtime::Result<()> {
        self.table.delete(cursor)?;
        Ok(())
    }
}

impl<T: Send + 'static> wit::HostCursorWithStore<T> for HasPostgres {
    async fn next(
        accessor: &Accessor<T, Self>,
        cursor: Resource<Cursor>,
        bytes: u32,
    ) -> Outcome<wit::Batch> {
        let cursor = accessor.with(|mut access| {
            Ok::<_, wasmtime::Error>(access.get().table.get(&cursor)?.0.clone())
        })?;
        Ok(cursor
            .next(bytes as usize)
            .await
            .map(Batch::into)
            .map_err(Into::into))
    }
}

#[expect(
    clippy::result_large_err,
    reason = "the shape that the contract's bindings ask for"
)]
fn describe(description: database::Result<Arc<Description>>) -> Result<wit::Statement, wit::Error> {
    Ok(wit::Statement::from(&*description?))
}
