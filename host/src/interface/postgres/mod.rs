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
use crate::database::session::Session;
use crate::database::session::{copy, cursor, pinned, transaction};
use crate::database::{self, Databases};

mod calls;
mod convert;
mod flows;
mod places;

/// A database that the guest has opened: a name that its function may use.
pub struct Database {
    name: Arc<str>,
}

/// A transaction that the guest has begun.
pub struct Transaction(Arc<transaction::Transaction>);

/// Rows that the guest has not read yet.
pub struct Cursor(Arc<cursor::Cursor>);

/// A connection that the guest holds.
pub struct Pinned(Arc<pinned::Pinned>);

/// Rows that the guest sends.
pub struct CopyIn(Arc<copy::CopyIn>);

/// Rows that the guest receives.
pub struct CopyOut(Arc<copy::CopyOut>);

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

    /// The invocation with this session has ended, unless the task stands for another one by now.
    pub fn leave(&mut self, task: GuestTaskId, session: &Arc<Session>) -> bool {
        let is_its_own = self
            .sessions
            .get(&task)
            .is_some_and(|own| Arc::ptr_eq(own, session));
        if is_its_own {
            self.sessions.remove(&task);
        }
        is_its_own
    }
}

/// The result of a host call: the inner error is the guest's to read, the outer one a trap.
type Outcome<T> = wasmtime::Result<Result<T, wit::Error>>;

/// The session of the invocation that makes this call.
fn session<T: 'static>(
    accessor: &Accessor<T, HasPostgres>,
) -> wasmtime::Result<Result<Arc<Session>, wit::Error>> {
    accessor.with(|mut access| {
        // The last task of the stack is the one that the host called: `handle`, `init` or a hook.
        let root = access.as_context_mut().async_call_stack()?.last();
        let session = root.and_then(|task| access.get().postgres.sessions.get(&task).cloned());
        Ok(session.ok_or_else(|| {
            wit::Error::Invalid(
                "this code runs outside of any invocation, in `init`, in a hook or in a task that the answer did \
                 not announce: a database can only be reached while an invocation lasts"
                    .to_owned(),
            )
        }))
    })
}

/// What a handle stands for.
fn get<T: 'static, R: 'static, V: Clone>(
    accessor: &Accessor<T, HasPostgres>,
    handle: &Resource<R>,
    value: fn(&R) -> &V,
) -> wasmtime::Result<V> {
    accessor.with(|mut access| Ok(value(access.get().table.get(handle)?).clone()))
}

/// Hands something to the guest, or the error that it could not be made.
fn hand<T: 'static, R: Send + 'static>(
    accessor: &Accessor<T, HasPostgres>,
    made: database::Result<R>,
) -> Outcome<Resource<R>> {
    match made {
        Ok(made) => Ok(Ok(
            accessor.with(|mut access| access.get().table.push(made))?
        )),
        Err(error) => Ok(Err(error.into())),
    }
}

impl wit::Host for View<'_> {}
