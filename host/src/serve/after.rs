//! What an invocation does after its answer.
//!
//! Promises: it ends at the invocation's enforced deadline, whatever the guest does, or with the environment,
//! whose drain leaves it some time; the instance goes back if it survived.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::handled::log_given_up;
use super::is_well;
use crate::database::session::Session;
use crate::fault::{Fault, Kind};
use crate::instance::answered::AfterEnd;
use crate::instance::pool::Lease;
use crate::instance::suspended::SuspendedLease;
use crate::instance::ticker::Watch;
use crate::invocation::Invocation;

/// An invocation that goes on after its answer.
pub(super) struct AfterWork {
    pub(super) invocation: Arc<Invocation>,
    pub(super) session: Arc<Session>,
    pub(super) lease: Lease,
    pub(super) after: AfterEnd,
    /// Whether it goes on beside later invocations.
    pub(super) suspended: bool,
    /// The enforced deadline.
    pub(super) watch: Watch,
    /// Whether a fault in the body of the answer was reported to the caller.
    pub(super) fault_reported: Arc<AtomicBool>,
}

/// The tie of suspended work to the environment's end, which waits for it for a while and then gives it up.
pub(super) struct Suspension {
    working: TaskTracker,
    _counted: TaskTrackerToken,
    closing: CancellationToken,
    /// Since when it is all that is left of its invocation.
    since: Instant,
}

impl Suspension {
    /// Counts as one of those that are `working`, until it is done or given up by `closing`.
    pub(super) fn new(working: &TaskTracker, closing: &CancellationToken) -> Self {
        Self {
            working: working.clone(),
            _counted: working.token(),
            closing: closing.clone(),
            since: Instant::now(),
        }
    }

    /// Whether the environment is about to end.
    fn is_ending(&self) -> bool {
        self.working.is_closed()
    }
}

impl AfterWork {
    /// Waits until it is done, and gives the instance back. Returns a fault that was not reported yet.
    pub(super) async fn finish(self) -> Result<(), Fault> {
        let outcome = tokio::select! {
            biased;
            ended = self.after => ended.unwrap_or_else(|_| Err(ended_from_outside())),
            () = self.watch => Err(overdue_work(&self.invocation)),
        };
        match &outcome {
            Ok(()) => self.lease.finish(),
            Err(fault) if is_well(fault) => self.lease.finish(),
            Err(_) => drop(self.lease),
        }
        unless_reported(outcome, &self.fault_reported)
    }

    /// Gives the instance back at once: an instance that is still on loan is ended when the environment ends,
    /// whatever is left to do in it.
    pub(super) fn suspend(self, suspension: Suspension) -> SuspendedWork {
        SuspendedWork {
            invocation: self.invocation,
            session: self.session,
            lease: self.lease.suspend(),
            after: self.after,
            suspension,
            fault_reported: self.fault_reported,
        }
    }
}

/// Work that goes on beside later invocations, in an instance that those use already. Nothing watches its
/// deadline while the instance is paused: that would keep the ticker awake.
pub(super) struct SuspendedWork {
    invocation: Arc<Invocation>,
    session: Arc<Session>,
    lease: SuspendedLease,
    after: AfterEnd,
    suspension: Suspension,
    fault_reported: Arc<AtomicBool>,
}

impl SuspendedWork {
    /// Waits until it is done, until its deadline, which does not come nearer while the instance is paused, or
    /// until the environment ends. Returns a fault that was not reported yet.
    pub(super) async fn finish(self) -> Result<(), Fault> {
        let Self {
            lease, suspension, ..
        } = self;
        let outcome = tokio::select! {
            biased;
            ended = self.after => match ended {
                Err(_) if suspension.is_ending() => None,
                ended => Some(ended.unwrap_or_else(|_| Err(ended_from_outside()))),
            },
            () = lease.overdue(&self.session, suspension.since) => Some(Err(overdue_work(&self.invocation))),
            () = suspension.closing.cancelled() => None,
        };
        let Some(outcome) = outcome else {
            log_given_up(self.session.account());
            return Ok(());
        };
        match &outcome {
            Ok(()) => lease.finish(),
            Err(fault) if is_well(fault) => lease.finish(),
            Err(_) => drop(lease),
        }
        unless_reported(outcome, &self.fault_reported)
    }
}

fn unless_reported(outcome: Result<(), Fault>, fault_reported: &AtomicBool) -> Result<(), Fault> {
    match fault_reported.load(Ordering::Acquire) {
        true => Ok(()),
        false => outcome,
    }
}

fn ended_from_outside() -> Fault {
    Fault::new(
        Kind::Internal,
        "the instance ended before the work after the answer was done",
    )
}

fn overdue_work(invocation: &Invocation) -> Fault {
    Fault::new(
        Kind::DeadlineExceeded,
        format!(
            "the function {:?} was not done with its work after the answer at its deadline, and was ended; give \
             it more time (the function's timeout, on the local host `timeout_ms`) or less to do",
            invocation.function_name
        ),
    )
}
