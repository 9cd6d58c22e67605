//! `wit/deps/postgres.wit` for the host: handles, and the way from a guest's call to the session
//! of its invocation.
//!
//! Promises:
//! - a call is made on the session of the invocation from which it comes, also when several
//!   invocations share the instance: the component model's call stack says which;
//! - a handle works for the invocation that made it, and says to all others, in the same instance at the same
//!   time or later, that it has ended;
//! - one that a guest keeps beyond its invocation holds nothing.

use std::collections::HashMap;
use std::sync::Arc;

use wasmtime::AsContextMut;
use wasmtime::component::{Accessor, GuestTaskId, HasData, Resource, ResourceTable};

use self::carried::{Carried, Load, Part};
use super::bindings::hearth::postgres::client as wit;
use crate::database::session::Session;
use crate::database::session::{copy, cursor, pinned, transaction};
use crate::database::{self, Databases};

/// What a handle of this invocation's stands for. Of another one's there is nothing to be had: the call ends here.
macro_rules! own {
    ($accessor:expr, $handle:expr) => {
        match own($accessor, $handle)? {
            Ok(own) => own,
            Err(error) => return Ok(Err(error)),
        }
    };
}

/// Takes into account what a call brings along, for as long as the result is there. If that is too much, the call
/// ends here.
macro_rules! carry {
    ($accessor:expr, $load:expr) => {
        match carry($accessor, $load)? {
            Ok(part) => part,
            Err(error) => return Ok(Err(error.into())),
        }
    };
}

mod calls;
mod carried;
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

/// A handle that belongs to an invocation.
trait Owned: 'static {
    /// What it stands for.
    type Own;

    /// That, and whose it is.
    fn own(&self) -> (&Arc<Self::Own>, &Arc<Session>);
}

macro_rules! owned {
    ($($handle:ident: $own:ty,)*) => {
        $(impl Owned for $handle {
            type Own = $own;

            fn own(&self) -> (&Arc<$own>, &Arc<Session>) {
                (&self.0, self.0.session())
            }
        })*
    };
}

owned! {
    Transaction: transaction::Transaction,
    Cursor: cursor::Cursor,
    Pinned: pinned::Pinned,
    CopyIn: copy::CopyIn,
    CopyOut: copy::CopyOut,
}

/// The part of an instance's state that belongs to this interface.
pub struct Postgres {
    databases: Arc<Databases>,
    /// The invocations that run in the instance, by the guest task that handles each.
    callers: HashMap<GuestTaskId, Caller>,
}

/// An invocation, as its calls know it.
#[derive(Clone)]
struct Caller {
    session: Arc<Session>,
    carried: Carried,
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
            callers: HashMap::new(),
        }
    }

    /// From now on, calls that come from this task belong to this session.
    pub fn enter(&mut self, task: GuestTaskId, session: Arc<Session>) {
        let carried = Carried::default();
        self.callers.insert(task, Caller { session, carried });
    }

    /// The invocation with this session has ended, unless the task stands for another one by now.
    pub fn leave(&mut self, task: GuestTaskId, session: &Arc<Session>) -> bool {
        let is_its_own = self
            .callers
            .get(&task)
            .is_some_and(|own| Arc::ptr_eq(&own.session, session));
        if is_its_own {
            self.callers.remove(&task);
        }
        is_its_own
    }
}

/// The result of a host call: the inner error is the guest's to read, the outer one a trap.
type HostResult<T> = wasmtime::Result<Result<T, wit::Error>>;

/// The invocation that makes this call, if one does.
fn caller<T: 'static>(accessor: &Accessor<T, HasPostgres>) -> wasmtime::Result<Option<Caller>> {
    accessor.with(|mut access| {
        // The last task of the stack is the one that the host called: `handle`, `init` or a hook.
        let root = access.as_context_mut().async_call_stack()?.last();
        Ok(root.and_then(|task| access.get().postgres.callers.get(&task).cloned()))
    })
}

/// The session of the invocation that makes this call.
fn session<T: 'static>(
    accessor: &Accessor<T, HasPostgres>,
) -> wasmtime::Result<Result<Arc<Session>, wit::Error>> {
    let session = caller(accessor)?.map(|caller| caller.session);
    Ok(session.ok_or_else(|| {
        wit::Error::Invalid(
            "this code runs outside of any invocation, in `init`, in a hook or in a task that the answer did not \
             announce: a database can only be reached while an invocation lasts"
                .to_owned(),
        )
    }))
}

/// Takes into account what a call brings along. Nothing of one from outside of any invocation, which is refused.
fn carry<T: 'static>(
    accessor: &Accessor<T, HasPostgres>,
    load: &(impl Load + ?Sized),
) -> HostResult<Option<Part>> {
    Ok(match caller(accessor)? {
        Some(caller) => {
            let part = caller.carried.take(load.bytes());
            let part = caller.session.counted(part);
            part.map(Some).map_err(wit::Error::from)
        }
        None => Ok(None),
    })
}

/// What a handle stands for, if it is the calling invocation's own. In an instance that several share, a guest
/// may mix them up, and each has its tenant and its settings.
fn own<T: 'static, R: Owned>(
    accessor: &Accessor<T, HasPostgres>,
    handle: &Resource<R>,
) -> HostResult<Arc<R::Own>> {
    let caller = session(accessor)?.ok();
    accessor.with(|mut access| {
        let (own, owner) = access.get().table.get(handle)?.own();
        Ok(match caller {
            Some(caller) if Arc::ptr_eq(&caller, owner) => Ok(own.clone()),
            _ => Err(database::Error::Ended.into()),
        })
    })
}

/// Hands something to the guest, or the error that it could not be made.
fn hand<T: 'static, R: Send + 'static>(
    accessor: &Accessor<T, HasPostgres>,
    made: database::Result<R>,
) -> HostResult<Resource<R>> {
    match made {
        Ok(made) => Ok(Ok(
            accessor.with(|mut access| access.get().table.push(made))?
        )),
        Err(error) => Ok(Err(error.into())),
    }
}

impl wit::Host for View<'_> {}
