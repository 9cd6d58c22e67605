//! The rest of a loan: work that an invocation leaves in its instance when the instance is given back.
//!
//! Promises: an instance survives only work that has ended well; the work's time counts only while it can go on.
//!
//! Left to others: who ends the work at its deadline ([`crate::serve`]).

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;

use super::Instance;
use super::pool::InstancePool;
use crate::database::session::Session;
use crate::limits;

/// Work that an invocation has left in an instance which others may use again.
pub struct SuspendedLease {
    pool: Arc<InstancePool>,
    instance: Arc<Instance>,
    /// Whether the work has left the instance as it should be.
    healthy: bool,
    /// The permit of the lease, if its instance was retired at the same time. So the work counts as one of the
    /// invocations that may run, as long as it keeps the instance alive.
    _permit: Option<OwnedSemaphorePermit>,
}

impl SuspendedLease {
    pub(super) fn new(
        pool: Arc<InstancePool>,
        instance: Arc<Instance>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            pool,
            instance,
            healthy: false,
            _permit: permit,
        }
    }

    /// Ends at the invocation's deadline. `answered` says when its answer was out, and the work was all that was left.
    ///
    /// Time in which the instance is paused does not count. Nor does time in which the process is frozen, also before
    /// the instance is paused.
    pub async fn overdue(&self, session: &Session, answered: Instant) {
        let freezes = self.pool.blueprint.freezes;
        let mut paused = self.instance.vitals.paused.subscribe();
        let mut since = Some(answered);
        loop {
            // This cannot fail, since the instance, which has the sender, is here.
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
            // A process that was awake would have noticed the deadline sooner.
            if freezes && since < enforced && late > limits::TIMER_LATE_MAX {
                session.put_off(now - since);
            } else if paused_at.is_none() {
                return;
            }
        }
    }

    /// Says that the work is done, and that the instance has survived it.
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
