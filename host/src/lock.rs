//! Mutexes whose poisoning is ignored.
//!
//! Whatever one guards here is changed in steps, and every step leaves the data consistent. So a lock that was
//! poisoned by a panic is still usable.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex, even if its last holder has panicked.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
