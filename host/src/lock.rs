//! Mutexes that are never given up.
//!
//! Whatever one guards here is changed in steps after each of which it is worth having, so a panic of whoever
//! held it leaves nothing half done, and whoever comes next goes on.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex, whatever became of whoever held it before.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
