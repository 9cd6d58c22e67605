//! What an instance holds on the host's side: the `T` of its `Store<T>`.
//!
//! Promises: the guest sees the environment variables that its function is given and the clocks,
//! and nothing else of the machine: no file, no network, no argument, no input. Its memory stays
//! within its function's limit, and its output is tagged with the invocation that wrote it. If it has
//! a temporary directory, that is the one of the invocation that looks at it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use wasmtime::component::{GuestTaskId, ResourceTable};
use wasmtime::{AsContextMut, ResourceLimiter, StoreContextMut};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::metered::Meter;
use super::overrun::Overrun;
use super::random;
use super::stdio::Stdio;
use crate::config::FunctionConfig;
use crate::database::Databases;
use crate::database::session::Session;
use crate::interface::postgres::{Postgres, View};
use crate::interface::temporary::{self, Directory, Mount};
use crate::invocation::Invocation;
use crate::limits;
use crate::telemetry::Output;

/// The state of one instance.
pub struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    postgres: Postgres,
    mount: Mount,
    stdio: Stdio,
    /// Where the output goes that belongs to no invocation.
    output: Arc<Output>,
    running: HashMap<GuestTaskId, Running>,
    /// For how long the guest runs, if that is measured.
    pub(super) meter: Meter,
    /// Since when the guest has run without having been attributed, where several invocations may be in the
    /// instance.
    pub(super) unseen_since: Option<Instant>,
    /// Who waits until none is left.
    emptied: Option<Waker>,
    /// Whether one was seen to run past its deadline.
    overruns: bool,
    /// The memory that the guest has, and may have.
    pub memory: Memory,
}

/// One invocation that runs in the instance.
pub struct Running {
    /// Which of the instance's invocations it is.
    number: u64,
    invocation: Arc<Invocation>,
    output: Arc<Output>,
    /// The session knows the deadline.
    session: Arc<Session>,
    /// Emptied when this is dropped.
    directory: Option<Directory>,
    overrun: Overrun,
}

impl State {
    /// The state of a new instance. What it writes for no invocation goes to `output`.
    pub fn new(
        config: &FunctionConfig,
        databases: Arc<Databases>,
        memory: Memory,
        output: Arc<Output>,
    ) -> Self {
        let stdio = Stdio::new(output.clone());
        let mut wasi = random::builder();
        wasi.stdout(stdio.stdout()).stderr(stdio.stderr());
        for (name, value) in &config.environment {
            wasi.env(name, value);
        }
        Self {
            wasi: wasi.build(),
            table: ResourceTable::new(),
            postgres: Postgres::new(databases),
            mount: Mount::new(config.temporary_mib),
            stdio,
            output,
            running: HashMap::new(),
            meter: Meter::new(),
            unseen_since: None,
            emptied: None,
            overruns: false,
            memory,
        }
    }

    /// What is written from now on belongs to no invocation, but goes to `output`.
    pub fn attribute(&self, output: Arc<Output>) {
        self.stdio.attribute(output);
    }

    /// Draws the seed anew that the guest is told when it asks for one. All else that it draws comes
    /// from the system when it asks.
    pub fn renew_random(&mut self) {
        random::renew(&mut self.wasi);
    }

    /// The part that the PostgreSQL interface works on.
    pub fn postgres(&mut self) -> View<'_> {
        View {
            postgres: &mut self.postgres,
            table: &mut self.table,
        }
    }

    /// The part that temporary directories are in.
    pub fn temporary(&mut self) -> temporary::View<'_> {
        temporary::View {
            mount: &self.mount,
            table: &mut self.table,
        }
    }

    /// From now on the task handles this invocation.
    pub fn enter(&mut self, task: GuestTaskId, mut running: Running) {
        self.stdio.attribute(running.output.clone());
        self.postgres.enter(task, running.session.clone());
        running.directory = self.mount.make();
        self.mount.enter(running.directory.as_ref());
        self.running.insert(task, running);
    }

    /// The invocation with this number, while it runs in the instance.
    pub fn invocation(&self, number: u64) -> Option<&Invocation> {
        let mut running = self.running.values();
        let running = running.find(|running| running.number == number);
        running.map(|running| &*running.invocation)
    }

    /// The invocation with this session, which the task handled, has ended. The number of a task
    /// that is done may by now stand for another one's.
    pub fn leave(&mut self, task: GuestTaskId, session: &Arc<Session>) {
        if self.postgres.leave(task, session) {
            self.running.remove(&task);
            self.overruns &= !self.running.is_empty();
            if self.running.is_empty()
                && let Some(waker) = self.emptied.take()
            {
                waker.wake();
            }
        }
    }

    /// Whether invocations have something left to do.
    pub fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// Waits until none has anything left to do. One at a time may.
    pub fn poll_emptied(&mut self, cx: &mut std::task::Context<'_>) -> Poll<()> {
        if self.running.is_empty() {
            return Poll::Ready(());
        }
        self.emptied = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Puts the deadlines of those in it off: the instance was paused for so long, and they with it.
    pub fn put_off(&self, time: Duration) {
        let running = self.running.values();
        running.for_each(|running| running.session.put_off(time));
    }

    /// Finds the invocation that is running now, and attributes to it what is written next, its temporary
    /// directory and, if that is measured, the time for which it ran. There may be none: a task that no answer
    /// has announced may go on while others run. Returns the invocation's enforced deadline.
    pub fn attribute_call(
        mut store: StoreContextMut<'_, Self>,
        ran: Option<Duration>,
    ) -> wasmtime::Result<Option<Instant>> {
        let root = store.as_context_mut().async_call_stack()?.last();
        let state = store.data_mut();
        let running = root.and_then(|task| state.running.get(&task));
        let directory = running.and_then(|running| running.directory.as_ref());
        state.mount.enter(directory);
        let output = running.map_or(&state.output, |running| &running.output);
        state.stdio.attribute(output.clone());
        if let Some(running) = running {
            running.ran(ran);
        }
        Ok(running.map(Running::enforced))
    }

    /// The invocation that is running now, if there is one, stops running, and has run for so long.
    pub fn attribute_time(
        mut store: StoreContextMut<'_, Self>,
        ran: Option<Duration>,
    ) -> wasmtime::Result<()> {
        let state = store.data();
        if (ran.is_none() && !state.overruns) || state.running.is_empty() {
            return Ok(());
        }
        let root = store.as_context_mut().async_call_stack()?.last();
        let state = store.data_mut();
        let unseen_since = state.unseen_since;
        if let Some(running) = root.and_then(|task| state.running.get_mut(&task)) {
            running.ran(ran);
            // If that is too much, it is ended when it is seen the next time.
            running.overrun(unseen_since);
        }
        Ok(())
    }

    /// The only invocation in the instance, if there is one, ran for so long.
    pub fn attribute_to_only_one(&self, ran: Option<Duration>) {
        if let Some(running) = self.running.values().next() {
            running.ran(ran);
        }
    }

    /// Whether the code that is running now belongs to an invocation that goes on past its deadline.
    pub fn is_overrun(mut store: StoreContextMut<'_, Self>) -> wasmtime::Result<bool> {
        let root = store.as_context_mut().async_call_stack()?.last();
        let state = store.data_mut();
        let unseen_since = state.unseen_since.replace(Instant::now());
        let running = root.and_then(|task| state.running.get_mut(&task));
        let overrun = running.and_then(|running| running.overrun(unseen_since));
        state.overruns |= overrun.is_some();
        Ok(overrun == Some(true))
    }
}

impl Running {
    /// The instance's invocation with this number, whose output goes there.
    pub fn new(
        number: u64,
        invocation: Arc<Invocation>,
        output: Arc<Output>,
        session: Arc<Session>,
    ) -> Self {
        Self {
            number,
            invocation,
            output,
            session,
            directory: None,
            overrun: Overrun::default(),
        }
    }

    fn enforced(&self) -> Instant {
        self.session.deadline().enforced
    }

    /// It has run since then. Returns whether it is past its deadline and has run for too long since.
    fn overrun(&mut self, since: Option<Instant>) -> Option<bool> {
        let (now, enforced) = (Instant::now(), self.enforced());
        let since = since.map_or(enforced, |since| since.max(enforced));
        (now > enforced).then(|| self.overrun.add(since, now))
    }

    fn ran(&self, time: Option<Duration>) {
        if let (Some(time), Some(tally)) = (time, self.output.account().tally()) {
            tally.guest_ran(time);
        }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

/// The bounds on a guest's memories and tables, all of them together, and the high-water mark.
#[derive(Debug)]
pub struct Memory {
    bytes_max: usize,
    /// What the memories have now; they never shrink.
    bytes: usize,
    /// What the tables have now; they never shrink.
    elements: usize,
    /// The most that there has been so far, in bytes, for whoever decides on the instance's future.
    high_water: Arc<AtomicUsize>,
    /// Whether the guest was refused memory since [`Memory::forget_refusal`].
    refused: bool,
}

impl Memory {
    /// At most so many bytes.
    pub fn new(bytes_max: usize, high_water: Arc<AtomicUsize>) -> Self {
        Self {
            bytes_max,
            bytes: 0,
            elements: 0,
            high_water,
            refused: false,
        }
    }

    /// Whether the guest asked for more than it may have.
    pub fn was_refused(&self) -> bool {
        self.refused
    }

    /// Begins to watch for refusals anew.
    pub fn forget_refusal(&mut self) {
        self.refused = false;
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let Some(bytes) = together(self.bytes, current, desired, maximum) else {
            return Ok(false);
        };
        if bytes > self.bytes_max {
            self.refused = true;
            return Ok(false);
        }
        self.bytes = bytes;
        self.high_water.fetch_max(bytes, Ordering::Relaxed);
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let elements = together(self.elements, current, desired, maximum)
            .filter(|elements| *elements <= limits::TABLE_ELEMENTS_MAX);
        self.elements = elements.unwrap_or(self.elements);
        Ok(elements.is_some())
    }
}

/// The total once one of several memories or tables has grown. None if its own maximum forbids that: then it
/// does not grow, and the count stays as it is.
fn together(all: usize, current: usize, desired: usize, maximum: Option<usize>) -> Option<usize> {
    match maximum.is_some_and(|maximum| desired > maximum) {
        true => None,
        false => Some(all.saturating_add(desired.saturating_sub(current))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memories_together_have_the_limit_of_one() {
        let high_water = Arc::new(AtomicUsize::new(0));
        let mut memory = Memory::new(100, high_water.clone());
        let mut grow = |current, desired, maximum| {
            let grown = memory.memory_growing(current, desired, maximum);
            (grown.unwrap(), memory.was_refused())
        };
        assert_eq!(grow(0, 40, None), (true, false));
        assert_eq!(grow(0, 40, Some(50)), (true, false));
        // It would not grow, so it is not counted.
        assert_eq!(grow(40, 51, Some(50)), (false, false));
        assert_eq!(grow(40, 60, None), (true, false));
        assert_eq!(grow(60, 61, None), (false, true));
        assert_eq!(high_water.load(Ordering::Relaxed), 100);
    }

    #[test]
    fn all_tables_together_have_the_limit_of_one() {
        let mut memory = Memory::new(0, Arc::default());
        let half = limits::TABLE_ELEMENTS_MAX / 2;
        assert!(memory.table_growing(0, half, None).unwrap());
        assert!(!memory.table_growing(0, half + 1, None).unwrap());
        assert!(memory.table_growing(0, half, None).unwrap());
        assert!(!memory.table_growing(half, half + 1, None).unwrap());
    }
}
