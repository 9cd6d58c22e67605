//! Which call to the host a guest is in, so that one that blocks its whole instance can be found.
//!
//! A guest that computes is interrupted. But while it is in a call to the host that does not return, such as
//! WASI's own way to sleep, no deadline is checked, and no other invocation in the instance can go on.
//!
//! Promises: while the calling invocation is past its deadline, its call has a number that no other call has.
//! Left to others: when to look ([`super::Instance`]).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use crate::lock::lock;

/// The calls of one instance to the host.
#[derive(Default)]
pub(super) struct HostCalls {
    watched: AtomicBool,
    /// Whether the instance is ended for it.
    stuck: AtomicBool,
    calling: Mutex<Calling>,
}

#[derive(Default)]
struct Calling {
    /// Calls so far.
    number: u64,
    /// The deadline of the invocation in the last call, until that call returns.
    enforced: Option<Instant>,
}

impl HostCalls {
    /// Notes that somebody watches from now on. Returns whether somebody did already.
    pub(super) fn begin_watch(&self) -> bool {
        self.watched.swap(true, Ordering::AcqRel)
    }

    /// The instance is ended for it.
    pub(super) fn mark_stuck(&self) {
        self.stuck.store(true, Ordering::Release);
    }

    /// Whether the instance is ended for it.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Acquire)
    }

    /// The guest calls the host, on behalf of an invocation with this deadline, or of none.
    pub(super) fn enter(&self, enforced: Option<Instant>) {
        let mut calling = self.calling();
        calling.number += 1;
        calling.enforced = enforced;
    }

    /// The call has returned.
    pub(super) fn leave(&self) {
        self.calling().enforced = None;
    }

    /// The number of the call that the guest is in, if its invocation is past its deadline.
    pub(super) fn overdue_call(&self) -> Option<u64> {
        let calling = self.calling();
        let enforced = calling.enforced?;
        (Instant::now() >= enforced).then_some(calling.number)
    }

    fn calling(&self) -> MutexGuard<'_, Calling> {
        lock(&self.calling)
    }
}
