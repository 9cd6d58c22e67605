//! What is noted whenever a guest's code begins and ceases to run.
//!
//! Promises: what it does and the time that it takes are of the invocation for which it runs, and the
//! time is what the processor has spent on the guest's code alone; where nothing has to be noted, nothing
//! is called.
//!
//! A guest waits in the host's functions only, and it is one of those that lets others run while a guest
//! computes ([`super::ticker`]). So between two of these marks there is one thread, and nothing else on it.

use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmtime::{CallHook, Store};

use super::Vitals;
use super::state::State;

/// Watches a store's guest: `shared` if several invocations may be in it, of which the one that
/// runs is then looked up; `measures` if it is measured for how long it runs.
pub(super) fn watch(store: &mut Store<State>, vitals: &Arc<Vitals>, shared: bool, measures: bool) {
    if !shared && !measures {
        return;
    }
    let vitals = vitals.clone();
    store.call_hook(move |mut store, mark| {
        let state = store.data_mut();
        let ran = measures.then(|| note(state, mark)).flatten();
        match mark {
            _ if !shared => state.attribute_to_only_one(ran),
            CallHook::CallingHost => vitals.held.call(State::attribute_call(store, ran)?),
            CallHook::ReturningFromHost => vitals.held.come_back(),
            CallHook::ReturningFromWasm => State::attribute_time(store, ran)?,
            CallHook::CallingWasm => {}
        }
        Ok(())
    });
}

/// Looks at the clock, which is a call to the system. For how long the guest ran, if it ceases to.
fn note(state: &mut State, mark: CallHook) -> Option<Duration> {
    match mark {
        CallHook::CallingWasm | CallHook::ReturningFromHost => {
            state.runs_since = Some(now());
            None
        }
        CallHook::CallingHost | CallHook::ReturningFromWasm => {
            let since = state.runs_since.take()?;
            Some(now().saturating_sub(since))
        }
    }
}

/// What the processors have spent on this thread so far.
fn now() -> Duration {
    // It cannot be negative.
    clock_gettime(ClockId::ThreadCPUTime)
        .try_into()
        .unwrap_or_default()
}
