//! One warm guest: a store, what lives in it, and the task that owns both.
//!
//! An [`Instance`] is the handle; the store itself belongs to a task of its own ([`Keeper`]), which
//! builds it, runs the guest's invocations in it, and drops it.
//!
//! Promises:
//! - the guest runs only in its `init`, in a hook ([`hooks`]), and while an invocation is in the instance; work
//!   that earlier invocations have left also runs between two of them where the process is not frozen then, and
//!   when no other will come;
//! - every [`Job`] that is begun is answered: by the guest, or by the fault that ended the instance;
//!   one that is not begun is dropped, and can be handed to another instance;
//! - what goes on after an answer is told of when it is done, or when the instance ended under it;
//! - [`Instance::condemn`] ends it wherever the guest is, and drops all it holds.
//!
//! Left to others: who may use it and for how long it is kept ([`pool`], [`reuse`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use crate::config::FunctionConfig;
use crate::database::Databases;
use crate::database::session::Session;
use crate::fault::Fault;
use crate::interface::bindings::FunctionPre;
use crate::invocation::{Invocation, unix_ms_now};
use crate::limits;
use crate::telemetry::Output;

mod after;
pub mod answered;
pub mod declared;
mod details;
pub mod engine;
pub mod hooks;
mod host_calls;
mod keeper;
mod metered;
mod overrun;
mod pausing;
pub mod pool;
mod random;
pub mod reuse;
mod stage;
pub mod state;
mod stdio;
pub mod suspended;
pub mod ticker;
mod trap;
mod waiting;
pub mod workers;

use answered::Answered;
use engine::Engine;
use host_calls::HostCalls;
use keeper::Keeper;
use reuse::{Life, Rule};
use stage::{Lifecycle, Stage};
use state::State;
use workers::{Heritage, Workers};

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
    /// Whether it is measured for how long their guests run.
    pub measures: bool,
    /// Whether the process is frozen between two invocations.
    pub freezes: bool,
    /// Where their guests run, if there is a choice.
    pub workers: Option<Arc<Workers>>,
    /// How long their turns are, as far as that is known.
    pub heritage: Arc<Heritage>,
}

/// One invocation for an instance.
pub struct Job {
    /// What to handle.
    pub invocation: Arc<Invocation>,
    /// What it borrows of the databases.
    pub session: Arc<Session>,
    /// Where its output goes.
    pub output: Arc<Output>,
    /// Where its answer goes. Dropped without one, the job was never begun.
    pub reply: oneshot::Sender<Result<Answered, Fault>>,
}

impl Job {
    /// Whether anybody waits for it still; else it is not to be begun.
    fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }
}

/// A warm guest, or one that is being built.
pub struct Instance {
    inbox: mpsc::UnboundedSender<Job>,
    hooks: mpsc::UnboundedSender<hooks::HookRequest>,
    vitals: Arc<Vitals>,
    rule: Rule,
    /// Invocations that use it now.
    leases: AtomicU32,
    /// Whether its successor was begun.
    succeeded: AtomicBool,
}

/// What the handle and the keeper know of each other.
struct Vitals {
    /// How far it is on its way to its end.
    lifecycle: Lifecycle,
    /// Invocations that were begun.
    invocations: AtomicU64,
    /// Those that have left work in it.
    suspended: AtomicU32,
    /// Since when that leftover work is paused, if it is.
    paused: watch::Sender<Option<Instant>>,
    memory_bytes: Arc<AtomicUsize>,
    /// Which call to the host the guest is in, where several invocations may share the instance.
    host_calls: HostCalls,
    /// When it was built or restored, by the wall clock: in milliseconds since the Unix epoch.
    born_ms: AtomicU64,
    /// Whether it stands: nothing yet, or how the building went.
    built: watch::Sender<Option<Result<(), Fault>>>,
}

impl Instance {
    /// Begins to build an instance, the `number`th, in which `slots` invocations may run at a time. It takes up
    /// `room` until its store is gone.
    pub fn start(
        blueprint: &Arc<Blueprint>,
        slots: u32,
        number: u64,
        room: OwnedSemaphorePermit,
    ) -> Arc<Self> {
        let vitals = Arc::new(Vitals {
            lifecycle: Lifecycle::new(),
            invocations: AtomicU64::new(0),
            suspended: AtomicU32::new(0),
            paused: watch::Sender::new(None),
            memory_bytes: Arc::new(AtomicUsize::new(0)),
            host_calls: HostCalls::default(),
            born_ms: AtomicU64::new(unix_ms_now()),
            built: watch::Sender::new(None),
        });
        let (inbox, jobs) = mpsc::unbounded_channel();
        let (hooks, calls) = mpsc::unbounded_channel();
        let keeper = Keeper::new(blueprint.clone(), vitals.clone(), slots, room);
        let keeping = keeper.keep(jobs, calls);
        match &blueprint.workers {
            Some(workers) => workers.run(keeping, &blueprint.heritage),
            None => drop(tokio::spawn(keeping)),
        }
        // Spread evenly over 0..1 by the golden ratio: no two instances draw the same.
        let jitter = (number as f64 * 0.618_033_988_749_895).fract();
        Arc::new(Self {
            inbox,
            hooks,
            vitals,
            rule: Rule::of(&blueprint.config, jitter),
            leases: AtomicU32::new(0),
            succeeded: AtomicBool::new(false),
        })
    }

    /// Hands an invocation to the guest. If the instance ends before it is begun, the job is dropped,
    /// which its reply's other end notices; if it could not be built, the job is told why.
    pub fn submit(&self, job: Job) {
        // Whoever has waited until it was built comes when it takes nothing any more.
        if let Err(mpsc::error::SendError(job)) = self.inbox.send(job)
            && let Some(Err(fault)) = &*self.vitals.built.borrow()
        {
            let _ = job.reply.send(Err(fault.clone()));
        }
    }

    /// Waits until it is built, and says how that went.
    pub async fn built(&self) -> Result<(), Fault> {
        let mut built = self.vitals.built.subscribe();
        tokio::select! {
            _ = built.wait_for(Option::is_some) => {}
            // It was condemned before it stood. Whoever hands it an invocation notices.
            () = self.inbox.closed() => {}
        }
        let outcome = built.borrow().clone();
        outcome.unwrap_or(Ok(()))
    }

    /// Whether it is still being built, and not yet for so long that another try is better.
    fn is_being_built(&self) -> bool {
        self.vitals.built.borrow().is_none()
            && !self.is_condemned()
            && self.vitals.age() < limits::BUILD_PATIENCE
    }

    /// Whether it was built.
    fn has_stood(&self) -> bool {
        matches!(*self.vitals.built.borrow(), Some(Ok(())))
    }

    /// It takes no new invocations from now on.
    fn retire(&self) {
        self.vitals.lifecycle.reach(Stage::Retired);
    }

    /// Ends the instance at once, wherever its guest is.
    pub fn condemn(&self) {
        self.vitals.condemn();
    }

    /// Whether it has ended, or is about to.
    fn is_condemned(&self) -> bool {
        self.vitals.is_condemned()
    }

    /// Ends a retired instance once no invocation is left in it. Suspended work in it goes on until it is done.
    fn end_if_left(&self) {
        let lifecycle = &self.vitals.lifecycle;
        if !lifecycle.has_reached(Stage::Retired) || self.leases.load(Ordering::SeqCst) > 0 {
            return;
        }
        lifecycle.reach(match self.vitals.suspended.load(Ordering::SeqCst) {
            0 => Stage::Condemned,
            _ => Stage::WindingDown,
        });
    }

    /// To be called when an invocation was given up. From then on watches the instance, and ends it if an
    /// invocation past its deadline blocks the others in one call to the host.
    fn end_once_stuck(&self) {
        if self.is_condemned() || self.vitals.host_calls.begin_watch() {
            return;
        }
        let vitals = Arc::downgrade(&self.vitals);
        tokio::spawn(async move {
            let mut earlier = None;
            loop {
                tokio::time::sleep(limits::OVERRUN_MAX).await;
                let Some(vitals) = vitals.upgrade() else {
                    return;
                };
                let call = vitals.host_calls.overdue_call();
                if call.is_some() && call == earlier {
                    vitals.host_calls.mark_stuck();
                    vitals.condemn();
                }
                if vitals.is_condemned() {
                    return;
                }
                earlier = call;
            }
        });
    }

    /// Why it is to be retired after an invocation that went well, if it is.
    pub fn retires(&self) -> Option<&'static str> {
        let life = Life {
            invocations: self.vitals.invocations.load(Ordering::Relaxed),
            // A clock set back makes it neither older nor younger.
            age: self.vitals.age(),
            memory_bytes: self.vitals.memory_bytes.load(Ordering::Relaxed),
        };
        self.rule.retires(&life)
    }
}

impl Vitals {
    fn age(&self) -> Duration {
        let born_ms = self.born_ms.load(Ordering::Relaxed);
        Duration::from_millis(unix_ms_now().saturating_sub(born_ms))
    }

    /// Its age counts from now: for as long as it was a snapshot it has not lived.
    fn renew_birth(&self) {
        self.born_ms.store(unix_ms_now(), Ordering::Relaxed);
    }

    fn condemn(&self) {
        self.lifecycle.reach(Stage::Condemned);
    }

    fn is_condemned(&self) -> bool {
        self.lifecycle.has_reached(Stage::Condemned)
    }

    async fn condemned(&self) {
        self.lifecycle.reached(Stage::Condemned).await;
    }

    async fn winding_down(&self) {
        self.lifecycle.reached(Stage::WindingDown).await;
    }

    /// An invocation leaves work in it.
    fn begin_suspended(&self) {
        self.suspended.fetch_add(1, Ordering::SeqCst);
    }

    /// That is done, or has ended.
    fn end_suspended(&self) {
        self.suspended.fetch_sub(1, Ordering::SeqCst);
    }
}
