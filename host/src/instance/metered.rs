//! What is noted whenever a guest's code begins and ceases to run.
//!
//! Promises: what it does and the time that it takes are attributed to the invocation for which it runs, and
//! the time is what the processor has spent on the guest's code alone; how far an invocation runs past its
//! deadline is known from how long it has run since it was last entered ([`super::overrun`]); where nothing has
//! to be noted, nothing is called.
//!
//! A guest waits only inside the host's functions, and a guest that computes yields inside one too
//! ([`super::ticker`]). So between two of these marks one thread runs the guest and nothing else.
//!
//! An echo has dozens of marks. To ask the system for the processor time at each would be a good part of what
//! an echo takes. So brief runs are measured by the monotonic clock, which needs no system call: nobody else
//! can have had the processor for long in them.

use std::sync::Arc;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

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
        let ran = measures.then(|| state.meter.note(mark)).flatten();
        match mark {
            _ if !shared => state.attribute_to_only_one(ran),
            CallHook::CallingHost => vitals.host_calls.enter(State::attribute_call(store, ran)?),
            CallHook::ReturningFromHost => vitals.host_calls.leave(),
            CallHook::ReturningFromWasm => State::attribute_time(store, ran)?,
            CallHook::CallingWasm => store.data_mut().unseen_since = Some(Instant::now()),
        }
        Ok(())
    });
}

/// Up to this length of a run the monotonic clock is exact enough.
const BRIEF: Duration = Duration::from_micros(100);
/// The same for the time between two runs. In a longer one the thread may have waited, which takes no processor
/// time, and many such waits add up.
const BRIEF_BETWEEN: Duration = Duration::from_micros(10);

/// Measures for how long a guest runs.
pub(super) struct Meter {
    runs: bool,
    /// The last mark.
    marked: Instant,
    /// What the processors had spent on this thread when they were asked last.
    asked: Option<(ThreadId, Duration)>,
    /// The sum of the brief times since then, whoever ran.
    passed: Duration,
}

impl Meter {
    /// The guest does not run.
    pub(super) fn new() -> Self {
        Self {
            runs: false,
            marked: Instant::now(),
            asked: None,
            passed: Duration::ZERO,
        }
    }

    /// Takes a mark. Returns for how long the guest ran, if it stops here.
    fn note(&mut self, mark: CallHook) -> Option<Duration> {
        match mark {
            CallHook::CallingWasm | CallHook::ReturningFromHost => {
                self.begin();
                None
            }
            CallHook::CallingHost | CallHook::ReturningFromWasm => self.end(),
        }
    }

    fn begin(&mut self) {
        let gap = self.mark();
        let is_here = |(asked, _): &(ThreadId, _)| *asked == thread::current().id();
        match self.asked.filter(is_here) {
            Some(_) if gap <= BRIEF_BETWEEN => self.passed += gap,
            _ => _ = self.ask(),
        }
        self.runs = true;
    }

    fn end(&mut self) -> Option<Duration> {
        let took = self.mark();
        if !std::mem::take(&mut self.runs) {
            return None;
        }
        if took <= BRIEF {
            self.passed += took;
            return Some(took);
        }
        let (_, asked) = self.asked?;
        let before = asked + self.passed;
        Some(self.ask().saturating_sub(before).min(took))
    }

    /// The time since the last mark.
    fn mark(&mut self) -> Duration {
        let last = std::mem::replace(&mut self.marked, Instant::now());
        self.marked.saturating_duration_since(last)
    }

    /// What the processors have spent on this thread so far.
    fn ask(&mut self) -> Duration {
        let spent = processor_time();
        self.asked = Some((thread::current().id(), spent));
        self.passed = Duration::ZERO;
        spent
    }
}

/// What the processors have spent on this thread so far.
pub(super) fn processor_time() -> Duration {
    // It cannot be negative.
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_short_waits_take_nothing_from_a_long_run() {
        const RUN: Duration = Duration::from_millis(5);
        let mut meter = Meter::new();
        for _ in 0..300 {
            // As after a wait, which a test cannot make so short on every machine.
            meter.marked = Instant::now() - Duration::from_micros(50);
            meter.note(CallHook::CallingWasm);
            meter.note(CallHook::ReturningFromWasm);
        }
        meter.note(CallHook::CallingWasm);
        let begun = processor_time();
        while processor_time() - begun < RUN {}
        let ran = meter.note(CallHook::ReturningFromWasm).unwrap();
        assert!(ran >= RUN * 3 / 4, "{ran:?}");
    }
}
