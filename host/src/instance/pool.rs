//! The instances of one function that stay warm between invocations.
//!
//! An invocation borrows an instance with [`InstancePool::lease`] and gives it back with
//! [`Lease::finish`]. Any other end of a lease (trap, deadline, panic, a caller that went away)
//! retires the instance, because nobody can vouch for its memory any more. Work that an invocation
//! leaves behind in its instance is a [`SuspendedLease`], to which the same applies.
//!
//! Promises:
//! - no more invocations in an instance than its function's isolation allows;
//! - no more than `instances_max` instances that take invocations, those being built included, and
//!   no more than [`alive_max`] with those that only end what is left in them: where there would be
//!   no room for a successor, an instance that is well is kept, and who needs a new one waits;
//! - waiting for one ends when its caller says so, never later, and whoever waits longest is the next;
//! - a retired one has one successor before the next invocation needs it, if there is time for that.
//!
//! Left to others: whether a healthy instance is worth keeping ([`super::reuse`]).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::hooks::Hook;
use super::ticker::Watch;
use super::{Blueprint, Instance};
use crate::config::Isolation;
use crate::database::session::Session;
use crate::fault::{Fault, Kind};
use crate::interface::bindings::hearth::function::invocation::Verdict;
use crate::limits;
use crate::lock::lock;

/// The instances of one function.
pub struct InstancePool {
    blueprint: Arc<Blueprint>,
    /// Invocations that one instance takes at a time.
    slots: u32,
    /// One for each invocation that all instances together take.
    permits: Arc<Semaphore>,
    /// One for each instance that may be alive.
    room: Arc<Semaphore>,
    /// Tells somebody who waits for room that an invocation has left an instance.
    lease_ended: Notify,
    /// Those that take invocations, the one used last at the end.
    instances: Mutex<Vec<Arc<Instance>>>,
    started: AtomicU64,
}

/// The loan of an instance to one invocation.
pub struct Lease {
    pool: Arc<InstancePool>,
    instance: Arc<Instance>,
    healthy: bool,
    permit: Option<OwnedSemaphorePermit>,
}

/// What an invocation has left to do in an instance that others use already.
pub struct SuspendedLease {
    pool: Arc<InstancePool>,
    instance: Arc<Instance>,
    healthy: bool,
    /// That of the lease, for an instance that others do not use any more but that is still there.
    _permit: Option<OwnedSemaphorePermit>,
}

/// How many instances of a function may be alive of which so many take invocations: each has a
/// successor while it ends what is left in it, and makes room a moment after that.
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

    /// Borrows an instance: a warm one with room, or a new one. It is waited for until `given_up` ends.
    pub async fn lease(
        self: &Arc<Self>,
        given_up: impl Future<Output = ()>,
    ) -> Result<Lease, Fault> {
        let permit = self.permits.clone().try_acquire_owned().ok();
        self.lease_with(permit, given_up).await
    }

    /// The same for whoever may have a permit already.
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

    /// A warm instance that takes one more invocation, or a new one if there is room for it.
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

    /// A warm instance that takes one more invocation, or a new one as soon as there is room for it.
    async fn find(&self) -> Option<Arc<Instance>> {
        let mut room = None;
        loop {
            if let Some(instance) = self.take(room) {
                return Some(instance);
            }
            room = tokio::select! {
                biased;
                room = self.room.clone().acquire_owned() => Some(room.ok()?),
                () = self.lease_ended.notified() => None,
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

    /// Tells the guests of all instances that a snapshot is going to be made, and says how that went.
    pub async fn prepare(&self, timeout: Duration) -> Result<(), Fault> {
        let tell = |instance: Arc<Instance>| async move {
            instance.run_hook(Hook::Snapshot, timeout).await.map(drop)
        };
        let instances = self.instances().clone();
        all(instances.into_iter().map(tell)).await
    }

    /// Makes the instances fit for use that are there and are copies of those in a snapshot: each is told
    /// of it, or built anew where the guest does not look after that, and has so much time for either.
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

    /// Ends at this deadline, whatever the guests do.
    pub fn watch(&self, deadline: Instant) -> Watch {
        self.blueprint.engine.ticker().watch(deadline)
    }

    /// Builds no instance from now on: no invocation will come that needs one.
    pub fn build_no_more(&self) {
        self.room.close();
    }

    /// Ends every instance, wherever its guest is. Where nothing but work after answers is left, that goes on
    /// until it is done or given up.
    pub fn close(&self) {
        self.permits.close();
        self.build_no_more();
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

    /// Why an instance that is well is retired now, if it is. One that another invocation may use
    /// stays while there is no room for its successor.
    fn retires(&self, instance: &Instance) -> Option<&'static str> {
        let reason = instance.retires()?;
        let is_fresh = self.blueprint.config.isolation == Isolation::Fresh;
        (is_fresh || self.room.available_permits() > 0).then_some(reason)
    }

    fn retire(&self, instance: &Arc<Instance>) {
        instance.retire();
        self.instances()
            .retain(|other| !Arc::ptr_eq(other, instance));
    }

    /// Begins to build the one successor of an instance that was retired: the next invocation finds it built,
    /// or waits for less. If it cannot be built, whoever waits for it by then is told, or else nobody.
    fn succeed(&self, retired: &Instance) {
        let mut instances = self.instances();
        // Such as a successor that could not be built.
        instances.retain(|instance| !instance.is_condemned());
        let is_full = instances.len() >= self.blueprint.config.instances_max as usize;
        // All who leave it ask, and there may be room only for a later one.
        if !is_full
            && let Ok(room) = self.room.clone().try_acquire_owned()
            && !retired.succeeded.swap(true, Ordering::Relaxed)
        {
            // At the beginning: it is the coldest.
            instances.insert(0, self.start(room));
        }
    }

    fn instances(&self) -> MutexGuard<'_, Vec<Arc<Instance>>> {
        lock(&self.instances)
    }
}

/// Waits for all of them, and says what failed first.
async fn all(
    tasks: impl Iterator<Item = impl Future<Output = Result<(), Fault>>>,
) -> Result<(), Fault> {
    futures_util::future::join_all(tasks)
        .await
        .into_iter()
        .collect()
}

impl Lease {
    /// Ends at this deadline.
    pub fn watch(&self, deadline: Instant) -> Watch {
        self.pool.watch(deadline)
    }

    /// The instance on loan.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Borrows another instance in place of one that has ended, ahead of whoever waits for one.
    pub async fn replace(mut self, given_up: impl Future<Output = ()>) -> Result<Lease, Fault> {
        let (pool, permit) = (self.pool.clone(), self.permit.take());
        drop(self);
        pool.lease_with(permit, given_up).await
    }

    /// Gives the instance back after an invocation that it survived.
    pub fn finish(mut self) {
        self.healthy = true;
    }

    /// Gives the instance back while the invocation has something left to do in it.
    pub fn suspend(mut self) -> SuspendedLease {
        self.instance.vitals.begin_suspended();
        self.healthy = true;
        let retires = self.pool.retires(&self.instance).is_some();
        SuspendedLease {
            pool: self.pool.clone(),
            instance: self.instance.clone(),
            healthy: false,
            _permit: self.permit.take_if(|_| retires),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A guest that is still being built has not even seen the invocation that gives up.
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
        // Those that share it go on to their own ends; whoever is left in it after the last of
        // them is past its deadline.
        self.instance.end_if_left();
        if !healthy {
            self.instance.end_once_stuck();
        }
        // What could not be built will hardly be so now, and nobody would hear why.
        if reason.is_some() && self.instance.has_stood() {
            self.pool.succeed(&self.instance);
        }
    }
}

impl SuspendedLease {
    /// Ends when the deadline of its invocation is reached, which was answered at that time. While the instance
    /// is paused, so is its time; and while the process is frozen, which may be before the instance is paused.
    pub async fn overdue(&self, session: &Session, answered: Instant) {
        let freezes = self.pool.blueprint.freezes;
        let mut paused = self.instance.vitals.paused.subscribe();
        let mut since = Some(answered);
        loop {
            // It cannot fail: the instance is here.
            let _ = paused.wait_for(Option::is_none).await;
            let since = since.take().unwrap_or_else(Instant::now);
            let enforced = session.deadline().enforced;
            let paused_at = tokio::select! {
                biased;
                paused = paused.wait_for(Option::is_some) => paused.ok().and_then(|since| *since),
                () = tokio::time::sleep_until(enforced.into()) => None,
            };
            let now = paused_at.unwrap_or_else(Instant::now);
            let late = now.saturating_duration_since(enforced);
            if freezes && since < enforced && late > limits::TIMER_LATE_MAX {
                session.put_off(now - since);
            } else if paused_at.is_none() {
                return;
            }
        }
    }

    /// The work is done, and the instance survived it.
    pub fn finish(mut self) {
        self.healthy = true;
    }
}

impl Drop for SuspendedLease {
    fn drop(&mut self) {
        if !self.healthy {
            self.pool.retire(&self.instance);
        }
        self.instance.vitals.end_suspended();
        self.instance.end_if_left();
        if !self.healthy {
            self.instance.end_once_stuck();
            self.pool.succeed(&self.instance);
        }
    }
}
