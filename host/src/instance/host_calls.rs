//! Whether an invocation that should have ended keeps its instance from the others in it.
//!
//! A guest that computes is interrupted. But in a call to the host that does not come back, such as
//! WASI's own way to sleep, nobody looks at the clock, and nobody else in the instance can move.
//!
//! Promises: such a call can be told from others by its number once its invocation is past its
//! deadline. Left to others: when to look ([`super::Instance`]).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use crate::lock::lock;

/// Who is in a call to the host.
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
    /// The deadline of the invocation that makes the last one, until that comes back.
    enforced: Option<Instant>,
}

impl HostCalls {
    /// From now on somebody looks. Whether somebody did already.
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

    /// The guest calls the host, for an invocation with this deadline if for any.
    pub(super) fn enter(&self, enforced: Option<Instant>) {
        let mut calling = self.calling();
        calling.number += 1;
        calling.enforced = enforced;
    }

    /// The call has come back.
    pub(super) fn leave(&self) {
        self.calling().enforced = None;
    }

    /// The number of the call in which the guest is, if its invocation is past its deadline.
    pub(super) fn overdue_call(&self) -> Option<u64> {
        let calling = self.calling();
        let enforced = calling.enforced?;
        (Instant::now() >= enforced).then_some(calling.number)
    }

    fn calling(&self) -> MutexGuard<'_, Calling> {
        lock(&self.calling)
    }
}
