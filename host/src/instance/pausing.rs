//! The pause of an instance between two invocations, where earlier ones have left something to do in it.
//!
//! Promises: while it is paused, nothing in it runs, and the deadlines of its suspended work do not come
//! nearer.
//!
//! Left to others: whether it is paused or goes on ([`super::keeper`]).

use std::time::Instant;

use wasmtime::Store;

use super::keeper::Keeper;
use super::state::State;

impl Keeper {
    /// Pauses the suspended work in the instance, and its time with it, until the next event. Returns since
    /// when; None if nothing is suspended.
    pub(super) fn pause(&self, store: &Store<State>) -> Option<Instant> {
        let since = store.data().is_running().then(Instant::now)?;
        self.vitals.paused.send_replace(Some(since));
        Some(since)
    }

    /// To be called before anything runs again.
    pub(super) fn wake(&self, store: &mut Store<State>, paused_since: Option<Instant>) {
        if let Some(since) = paused_since {
            store.data().put_off(since.elapsed());
            self.vitals.paused.send_replace(None);
        }
        // Re-armed here: the epoch has moved on while the guest was paused.
        store.set_epoch_deadline(1);
        store.data_mut().memory.forget_refusal();
    }
}
