//! The handles on which statements are executed: databases, transactions and sessions.
//!
//! Promises: a transaction or a session is of use to the invocation alone that has begun it; one that is dropped is
//! ended.

use std::sync::Arc;

use wasmtime::component::{Accessor, Resource};

use super::calls::{self, calls};
use super::convert;
use super::{CopyIn, CopyOut};
use super::{
    Database, HasPostgres, HostResult, Pinned, Transaction, View, carry, hand, own, session, wit,
};
use crate::database;
use crate::database::session::Session;
use crate::database::session::place::Place;
use crate::database::session::transaction::Options;

impl wit::HostDatabase for View<'_> {
    fn open(&mut self, name: String) -> HostResult<Resource<Database>> {
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
    calls!(Database, any_connection);

    async fn begin(
        accessor: &Accessor<T, Self>,
        database: Resource<Database>,
        options: wit::TransactionOptions,
        timeout_ms: Option<u32>,
    ) -> HostResult<Resource<Transaction>> {
        let (session, name) = match opened(accessor, &database)? {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(error)),
        };
        let timeout = convert::timeout(timeout_ms);
        let begun = session.begin(&name, &Options::from(options), timeout).await;
        let begun = session.counted(begun);
        hand(accessor, begun.map(|begun| Transaction(Arc::new(begun))))
    }

    async fn session(
        accessor: &Accessor<T, Self>,
        database: Resource<Database>,
        timeout_ms: Option<u32>,
    ) -> HostResult<Resource<Pinned>> {
        let (session, name) = match opened(accessor, &database)? {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(error)),
        };
        let pinned = session.pin(&name, convert::timeout(timeout_ms)).await;
        let pinned = session.counted(pinned);
        hand(accessor, pinned.map(|pinned| Pinned(Arc::new(pinned))))
    }
}

impl wit::HostTransaction for View<'_> {
    fn drop(&mut self, transaction: Resource<Transaction>) -> wasmtime::Result<()> {
        self.table.delete(transaction)?;
        Ok(())
    }
}

impl<T: Send + 'static> wit::HostTransactionWithStore<T> for HasPostgres {
    calls!(Transaction, in_transaction);

    async fn savepoint(
        accessor: &Accessor<T, Self>,
        transaction: Resource<Transaction>,
        name: String,
        timeout_ms: Option<u32>,
    ) -> HostResult<()> {
        let _carried = carry!(accessor, &*name);
        let transaction = own!(accessor, &transaction);
        let done = transaction.savepoint(&name, convert::timeout(timeout_ms));
        Ok(done.await.map_err(Into::into))
    }

    async fn rollback_to(
        accessor: &Accessor<T, Self>,
        transaction: Resource<Transaction>,
        name: String,
        timeout_ms: Option<u32>,
    ) -> HostResult<()> {
        let _carried = carry!(accessor, &*name);
        let transaction = own!(accessor, &transaction);
        let done = transaction.rollback_to(&name, convert::timeout(timeout_ms));
        Ok(done.await.map_err(Into::into))
    }

    async fn release(
        accessor: &Accessor<T, Self>,
        transaction: Resource<Transaction>,
        name: String,
        timeout_ms: Option<u32>,
    ) -> HostResult<()> {
        let _carried = carry!(accessor, &*name);
        let transaction = own!(accessor, &transaction);
        let done = transaction.release(&name, convert::timeout(timeout_ms));
        Ok(done.await.map_err(Into::into))
    }

    async fn commit(
        accessor: &Accessor<T, Self>,
        transaction: Resource<Transaction>,
        timeout_ms: Option<u32>,
    ) -> HostResult<()> {
        let transaction = own!(accessor, &transaction);
        let done = transaction.commit(convert::timeout(timeout_ms));
        Ok(done.await.map_err(Into::into))
    }

    async fn rollback(
        accessor: &Accessor<T, Self>,
        transaction: Resource<Transaction>,
        timeout_ms: Option<u32>,
    ) -> HostResult<()> {
        let transaction = own!(accessor, &transaction);
        let done = transaction.rollback(convert::timeout(timeout_ms));
        Ok(done.await.map_err(Into::into))
    }
}

impl wit::HostSession for View<'_> {
    fn drop(&mut self, pinned: Resource<Pinned>) -> wasmtime::Result<()> {
        self.table.delete(pinned)?;
        Ok(())
    }
}

impl<T: Send + 'static> wit::HostSessionWithStore<T> for HasPostgres {
    calls!(Pinned, on_pinned);

    async fn begin(
        accessor: &Accessor<T, Self>,
        pinned: Resource<Pinned>,
        options: wit::TransactionOptions,
    ) -> HostResult<Resource<Transaction>> {
        let pinned = own!(accessor, &pinned);
        let begun = pinned.begin(&Options::from(options)).await;
        let begun = pinned.session().counted(begun);
        hand(accessor, begun.map(|begun| Transaction(Arc::new(begun))))
    }

    async fn notification(
        accessor: &Accessor<T, Self>,
        pinned: Resource<Pinned>,
    ) -> HostResult<wit::Notification> {
        let pinned = own!(accessor, &pinned);
        let heard = pinned.session().counted(pinned.notification().await);
        Ok(heard.map(Into::into).map_err(Into::into))
    }

    async fn close(accessor: &Accessor<T, Self>, pinned: Resource<Pinned>) -> HostResult<()> {
        let pinned = own!(accessor, &pinned);
        let closed = pinned.session().counted(pinned.close().await);
        Ok(closed.map_err(Into::into))
    }
}

/// The session of this call, and the name of the database it is made on.
fn opened<T: 'static>(
    accessor: &Accessor<T, HasPostgres>,
    database: &Resource<Database>,
) -> HostResult<(Arc<Session>, Arc<str>)> {
    let name = accessor.with(|mut access| {
        let database = access.get().table.get(database)?;
        Ok::<_, wasmtime::Error>(database.name.clone())
    })?;
    Ok(session(accessor)?.map(|session| (session, name)))
}

fn any_connection<T: 'static>(
    accessor: &Accessor<T, HasPostgres>,
    database: &Resource<Database>,
) -> HostResult<Place> {
    Ok(opened(accessor, database)?.map(|(session, name)| Place::Database(session, name)))
}

fn in_transaction<T: 'static>(
    accessor: &Accessor<T, HasPostgres>,
    transaction: &Resource<Transaction>,
) -> HostResult<Place> {
    Ok(own(accessor, transaction)?.map(Place::Transaction))
}

fn on_pinned<T: 'static>(
    accessor: &Accessor<T, HasPostgres>,
    pinned: &Resource<Pinned>,
) -> HostResult<Place> {
    Ok(own(accessor, pinned)?.map(Place::Pinned))
}
