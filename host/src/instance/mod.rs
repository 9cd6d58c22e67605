//! One warm guest: a store, what lives in it, and the task that owns both.
//!
//! An [`Instance`] is the handle; the store itself belongs to a task of its own ([`Keeper`]), which
//! builds it, runs the guest's invocations in it, and drops it.
//!
//! Promises:
//! - the guest runs only while an invocation is in the instance;
//! - every [`Job`] is answered: by the guest, or by the fault that ended the instance;
//! - [`Instance::condemn`] ends it wherever the guest is, and drops all it holds.
//!
//! Left to others: who may use it and for how long it is kept ([`pool`], [`reuse`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::config::FunctionConfig;
use crate::database::Databases;
use crate::database::session::Session;
use crate::fault::Fault;
use crate::interface::bindings::FunctionPre;
use crate::invocation::Invocation;
use crate::telemetry::Output;

pub mod declared;
pub mod engine;
mod keeper;
pub mod pool;
pub mod reuse;
pub mod state;
mod stdio;
pub mod ticker;
mod trap;

use engine::Engine;
use keeper::Keeper;
use reuse::{Life, Rule};
use state::State;

/// What all instances of one function are made from.
pub struct Blueprint {
    /// The function's settings.
    pub config: FunctionConfig,
    /// The engine that runs them.
    pub engine: Arc<Engine>,
    /// The component, linked.
    pub component: FunctionPre<State>,
    /// The databases that the function may open.
    pub databases: Arc<Databases>,
}

/// One invocation for an instance.
pub struct Job {
    /// What to handle.
    pub invocation: Arc<Invocation>,
    /// What it borrows of the databases.
    pub session: Arc<Session>,
    /// Where its output goes.
    pub output: Arc<Output>,
    /// Where its answer goes.
    pub reply: oneshot::Sender<Result<Bytes, Fault>>,
}

/// A warm guest, or one that is being built.
pub struct Instance {
    inbox: mpsc::UnboundedSender<Job>,
    vitals: Arc<Vitals>,
    rule: Rule,
    /// Invocations that use it now.
    leases: AtomicU32,
    /// Whether it takes no new ones.
    retired: AtomicBool,
}

/// What the handle and the keeper know of each other.
struct Vitals {
    condemned: AtomicBool,
    condemning: Notify,
    /// Invocations that were begun.
    invocations: AtomicU64,
    memory_bytes: Arc<AtomicUsize>,
    /// When it was built, by the wall clock.
    born: SystemTime,
    /// Whether it stands: nothing yet, or how the building went.
    built: watch::Sender<Option<Result<(), Fault>>>,
}

impl Instance {
    /// Begins to build an instance in which `slots` invocations may run at a time.
    pub fn start(blueprint: &Arc<Blueprint>, slots: u32, jitter: f64) -> Arc<Self> {
        let vitals = Arc::new(Vitals {
            condemned: AtomicBool::new(false),
            condemning: Notify::new(),
            invocations: AtomicU64::new(0),
            memory_bytes: Arc::new(AtomicUsize::new(0)),
            born: SystemTime::now(),
            built: watch::Sender::new(None),
        });
        let (inbox, jobs) = mpsc::unbounded_channel();
        tokio::spawn(Keeper::new(blueprint.clone(), vitals.clone(), slots).keep(jobs));
        Arc::new(Self {
            inbox,
            vitals,
            rule: Rule::of(&blueprint.config, jitter),
            leases: AtomicU32::new(0),
            retired: AtomicBool::new(false),
        })
    }

    /// Hands an invocation to the guest. If the instance has ended meanwhile, the job is dropped,
    /// which its reply's other end notices.
    pub fn submit(&self, job: Job) {
        let _ = self.inbox.send(job);
    }

    /// Waits until it is built, and says how that went.
    pub async fn built(&self) -> Result<(), Fault> {
        let mut built = self.vitals.built.subscribe();
        let outcome = built
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|outcome| outcome.clone());
        outcome.unwrap_or(Ok(()))
    }

    /// Ends the instance at once, wherever its guest is.
    pub fn condemn(&self) {
        self.vitals.condemn();
    }

    /// Why it is to be retired after an invocation that went well, if it is.
    pub fn retires(&self) -> Option<&'static str> {
        let life = Life {
            invocations: self.vitals.invocations.load(Ordering::Relaxed),
            // A clock set back makes it neither older nor younger.
            age: self.vitals.born.elapsed().unwrap_or_default(),
            memory_bytes: self.vitals.memory_bytes.load(Ordering::Relaxed),
        };
        self.rule.retires(&life)
    }
}

impl Vitals {
    fn condemn(&self) {
        self.condemned.store(true, Ordering::Release);
        self.condemning.notify_waiters();
    }

    async fn condemned(&self) {
        let condemning = self.condemning.notified();
        if !self.condemned.load(Ordering::Acquire) {
            condemning.await;
        }
    }
}
