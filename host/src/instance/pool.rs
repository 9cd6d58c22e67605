//! The instances of one function that stay warm between invocations.
//!
//! An invocation borrows an instance with [`InstancePool::lease`] and gives it back with
//! [`Lease::finish`]. Any other end of a lease (trap, deadline, panic, a caller that went away)
//! retires the instance, because nobody can vouch for its memory any more. Work that an invocation
//! leaves behind in its instance is a [`SuspendedLease`], to which the same applies.
//!
//! Promises:
//! - an instance has no more invocations at a time than its function's isolation allows;
//! - at most `instances_max` instances take invocations. Instances that are being built count among them;
//! - at most [`alive_max`] instances are alive. The others among them are retired, and end what is left in them. Where a
//!   successor would have no room, a healthy instance is not retired, and a caller who needs a new one waits;
//! - a caller waits for an instance until it gives up itself, and never longer. The caller who has waited longest is the
//!   next to get one;
//! - a retired instance has one successor. It is built before the next invocation needs it, if there is time for that.
//!
//! Left to others: whether a healthy instance is worth keeping ([`super::reuse`]), what work that was left behind may
//! still do ([`super::suspended`]).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::hooks::Hook;
use super::suspended::SuspendedLease;
use super::ticker::Watch;
use super::{Blueprint, Instance};
use crate::config::Isolation;
use crate::fault::{Fault, Kind};
use crate::interface::bindings::hearth::function::invocation::Verdict;
use crate::lock::lock;

/// The instances of one function.
pub struct InstancePool {
    pub(super) blueprint: Arc<Blueprint>,
    /// Invocations that one instance takes at a time.
    slots: u32,
    /// One permit for each invocation that may run at a time, in all instances together.
    permits: Arc<Semaphore>,
    /// One permit for each instance that may be alive at a time.
    room: Arc<Semaphore>,
    /// Wakes one caller who waits for an instance, when an invocation has left one.
    lease_ended: Notify,
    /// The instances that take invocations. The one that was used last stands at the end.
    instances: Mutex<Vec<Arc<Instance>>>,
    /// How many instances were started so far.
    started: AtomicU64,
}

/// The loan of an instance to one invocation.
pub struct Lease {
    pool: Arc<InstancePool>,
    instance: Arc<Instance>,
    /// Whether the invocation has left the instance as it should be.
    healthy: bool,
    /// None once another loan has it.
    permit: Option<OwnedSemaphorePermit>,
}

/// How many instances of a function may be alive, if at most so many take invocations. While a retired instance ends
/// what is left in it, its successor is alive as well. Two more may be, since an instance that has ended makes room only
/// a moment later.
pub fn alive_max(instances_max: u32) -> u32 {
    instances_max.saturating_mul(2).saturating_add(2)
}

impl InstancePool {
    /// A pool without any instance yet.
    pub fn new(blueprint: Blueprint) -> Self {
        let slots = match blueprint.config.isolation {
            Isolation::Fresh | Isolation::Serial => 1,
            Isolation::Concurrent(slots) => slots,
        };
        let permits = slots as usize * blueprint.config.instances_max as usize;
        let room = alive_max(blueprint.config.instances_max) as usize;
        Self {
            blueprint: Arc::new(blueprint),
            slots,
            permits: Arc::new(Semaphore::new(permits)),
            room: Arc::new(Semaphore::new(room)),
            lease_ended: Notify::new(),
            instances: Mutex::default(),
            started: AtomicU64::new(0),
        }
    }

    /// Borrows an instance: a warm one that takes one more invocation, or a new one. Waits for it until `given_up` ends.
    pub async fn lease(
        self: &Arc<Self>,
        given_up: impl Future<Output = ()>,
    ) -> Result<Lease, Fault> {
        let permit = self.permits.clone().try_acquire_owned().ok();
        self.lease_with(permit, given_up).await
    }

    /// Borrows an instance for a caller who may have a permit already.
    async fn lease_with(
        self: &Arc<Self>,
        permit: Option<OwnedSemaphorePermit>,
        given_up: impl Future<Output = ()>,
    ) -> Result<Lease, Fault> {
        let leasing = async {
            let permit = match permit {
                Some(permit) => permit,
                None => self.permits.clone().acquire_owned().await.ok()?,
            };
            Some(Lease {
                pool: self.clone(),
                instance: self.find().await?,
                healthy: false,
                permit: Some(permit),
            })
        };
        let leased = tokio::select! {
            biased;
            leased = leasing => leased,
            () = given_up => None,
        };
        leased.ok_or_else(|| self.exhausted())
    }

    /// Takes a warm instance that takes one more invocation, or else starts a new one, if there is room for it.
    fn take(&self, room: Option<OwnedSemaphorePermit>) -> Option<Arc<Instance>> {
        let mut instances = self.instances();
        let roomy = instances.iter().rposition(|instance| {
            instance.leases.load(Ordering::SeqCst) < self.slots && !instance.is_condemned()
        });
        let instance = match roomy {
            // Moved to the end: the one used last is the warmest.
            Some(index) => instances.remove(index),
            None => self.start(room?),
        };
        instance.leases.fetch_add(1, Ordering::SeqCst);
        instances.push(instance.clone());
        Some(instance)
    }

    /// Waits for an instance: a warm one that takes one more invocation, or a new one as soon as there is room for it.
    /// There is none once the pool is closed.
    async fn find(&self) -> Option<Arc<Instance>> {
        let mut room = None;
        loop {
            let lease_ended = self.lease_ended.notified();
            if self.permits.is_closed() {
                return None;
            }
            if let Some(instance) = self.take(room) {
                return Some(instance);
            }
            room = tokio::select! {
                biased;
                // Once none is built any more, an instance may still come free.
                room = self.room.clone().acquire_owned(), if !self.room.is_closed() => room.ok(),
                () = lease_ended => None,
            };
        }
    }

    /// Builds an instance ahead of the first invocation, and says how that went.
    pub async fn warm(&self) -> Result<(), Fault> {
        let room = self.room.clone().acquire_owned().await;
        let instance = self.start(room.map_err(|_| self.exhausted())?);
        instance.built().await?;
        self.instances().push(instance);
        Ok(())
    }

    /// Tells the guests of all instances that a snapshot is about to be made, and waits for them. Fails if one of them
    /// does.
    pub async fn prepare(&self, timeout: Duration) -> Result<(), Fault> {
        let tell = |instance: Arc<Instance>| async move {
            instance.run_hook(Hook::Snapshot, timeout).await.map(drop)
        };
        let instances = self.instances().clone();
        all(instances.into_iter().map(tell)).await
    }

    /// Makes the instances of a restored process, which are copies of those in its snapshot, fit for use. The guest of
    /// each is told of the restore. An instance whose guest does not look after that is built anew. All of this may take
    /// as long as `timeout`.
    pub async fn renew(&self, timeout: Duration) -> Result<(), Fault> {
        let until = Instant::now() + timeout;
        let copies = self.instances().clone();
        all(copies.iter().map(|copy| self.renew_copy(copy, until))).await
    }

    async fn renew_copy(&self, copy: &Arc<Instance>, until: Instant) -> Result<(), Fault> {
        let left = until.saturating_duration_since(Instant::now());
        if copy.run_hook(Hook::Restored, left).await? == Verdict::Keep {
            return Ok(());
        }
        self.retire(copy);
        copy.condemn();
        match tokio::time::timeout_at(until.into(), self.warm()).await {
            Ok(warmed) => warmed,
            Err(_) => {
                let message = format!(
                    "no instance of the function {:?} could be built in the time after a restore; make its `init` \
                     quicker, or give it a hook `restored`, with which what `init` made is kept",
                    self.blueprint.config.name
                );
                Err(Fault::new(Kind::RestoreFailed, message))
            }
        }
    }

    /// A future that ends at this deadline, whatever the guests do.
    pub fn watch(&self, deadline: Instant) -> Watch {
        self.blueprint.engine.ticker().watch(deadline)
    }

    /// Builds no instance from now on: no invocation will come that needs one.
    pub fn build_no_more(&self) {
        self.room.close();
    }

    /// Nobody gets an instance any more. An instance with an invocation in it ends at once, wherever its guest is. One
    /// in which only work after answers is left ends when that work is done or given up.
    pub fn close(&self) {
        self.permits.close();
        self.build_no_more();
        self.lease_ended.notify_waiters();
        for instance in self.instances().drain(..) {
            instance.retire();
            match instance.leases.load(Ordering::SeqCst) {
                0 => instance.end_if_left(),
                _ => instance.condemn(),
            }
        }
    }

    fn start(&self, room: OwnedSemaphorePermit) -> Arc<Instance> {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        Instance::start(&self.blueprint, self.slots, number, room)
    }

    fn exhausted(&self) -> Fault {
        let config = &self.blueprint.config;
        Fault::new(
            Kind::Busy,
            format!(
                "no instance of the function {:?} came free in time: {} of {} in use with {} invocations each; \
                 raise `instances_max`, or shorten what they do",
                config.name, config.instances_max, config.instances_max, self.slots
            ),
        )
    }

    /// Why a healthy instance is retired now, if it is. An instance that may be used again stays while there is no room
    /// for its successor.
    fn retires(&self, instance: &Instance) -> Option<&'static str> {
        let reason = instance.retires()?;
        let is_fresh = self.blueprint.config.isolation == Isolation::Fresh;
        (is_fresh || self.room.available_permits() > 0).then_some(reason)
    }

    pub(super) fn retire(&self, instance: &Arc<Instance>) {
        instance.retire();
        self.instances()
            .retain(|other| !Arc::ptr_eq(other, instance));
    }

    /// Begins to build the successor of a retired instance, so that the next invocation finds it built or waits for
    /// less. If it cannot be built, an invocation that waits for it by then is told. Otherwise nobody is.
    pub(super) fn succeed(&self, retired: &Instance) {
        let mut instances = self.instances();
        // An earlier successor that could not be built, for example.
        instances.retain(|instance| !instance.is_condemned());
        let is_full = instances.len() >= self.blueprint.config.instances_max as usize;
        // Each invocation that leaves the retired instance asks for a successor. The first one that finds room gets it.
        if !is_full
            && let Ok(room) = self.room.clone().try_acquire_owned()
            && !retired.succeeded.swap(true, Ordering::Relaxed)
        {
            // At the beginning, since a new instance is the coldest.
            instances.insert(0, self.start(room));
        }
    }

    fn instances(&self) -> MutexGuard<'_, Vec<Arc<Instance>>> {
        lock(&self.instances)
    }
}

/// Waits for all tasks. Fails as the first of them that has failed.
async fn all(
    tasks: impl Iterator<Item = impl Future<Output = Result<(), Fault>>>,
) -> Result<(), Fault> {
    futures_util::future::join_all(tasks)
        .await
        .into_iter()
        .collect()
}

impl Lease {
    /// A future that ends at this deadline, whatever the guest does.
    pub fn watch(&self, deadline: Instant) -> Watch {
        self.pool.watch(deadline)
    }

    /// The instance on loan.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Borrows another instance in place of one that has ended. The permit stays with the lease, so this goes ahead of
    /// callers who wait for one.
    pub async fn replace(mut self, given_up: impl Future<Output = ()>) -> Result<Lease, Fault> {
        let (pool, permit) = (self.pool.clone(), self.permit.take());
        drop(self);
        pool.lease_with(permit, given_up).await
    }

    /// Gives the instance back after an invocation that it survived.
    pub fn finish(mut self) {
        self.healthy = true;
    }

    /// Gives the instance back while the invocation's work after its answer goes on in it.
    pub fn suspend(mut self) -> SuspendedLease {
        self.instance.vitals.begin_suspended();
        self.healthy = true;
        let retires = self.pool.retires(&self.instance).is_some();
        let permit = self.permit.take_if(|_| retires);
        SuspendedLease::new(self.pool.clone(), self.instance.clone(), permit)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // An invocation that gives up does no harm to an instance that is still being built, whose guest has not seen it.
        let healthy = self.healthy || self.instance.is_being_built();
        let reason = match healthy {
            true => self.pool.retires(&self.instance),
            false => Some("fault"),
        };
        if let Some(reason) = reason {
            tracing::debug!(
                function = self.pool.blueprint.config.name,
                reason,
                "an instance is retired"
            );
            self.pool.retire(&self.instance);
        }
        self.instance.leases.fetch_sub(1, Ordering::SeqCst);
        self.pool.lease_ended.notify_one();
        // Other invocations in a retired instance go on to their own ends. What the guest still does for one that was
        // given up ends with the last of them.
        self.instance.end_if_left();
        if !healthy {
            self.instance.end_once_stuck();
        }
        // An instance that could not be built gets no successor: that would fail as well, and nobody would hear why.
        if reason.is_some() && self.instance.has_stood() {
            self.pool.succeed(&self.instance);
        }
    }
}
