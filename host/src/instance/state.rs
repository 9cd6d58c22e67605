//! What an instance holds on the host's side: the `T` of its `Store<T>`.
//!
//! Promises: the guest sees the environment variables that its function is given and the clocks,
//! and nothing else of the machine: no file, no network, no argument, no input. Its memory stays
//! within its function's limit, and its output is tagged with the invocation that wrote it. If it has
//! a temporary directory, that is the one of the invocation that looks at it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rand::Rng;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use wasmtime::component::{GuestTaskId, ResourceTable};
use wasmtime::{AsContextMut, ResourceLimiter, StoreContextMut};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::stdio::Stdio;
use crate::config::FunctionConfig;
use crate::database::Databases;
use crate::database::session::Session;
use crate::interface::postgres::{Postgres, View};
use crate::interface::temporary::{self, Directory, Mount};
use crate::limits;
use crate::telemetry::Output;

/// The state of one instance.
pub struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    postgres: Postgres,
    mount: Mount,
    stdio: Stdio,
    running: HashMap<GuestTaskId, Running>,
    /// The memory that the guest has, and may have.
    pub memory: Memory,
}

/// One invocation that runs in the instance.
struct Running {
    enforced: Instant,
    output: Arc<Output>,
    /// Emptied with this.
    directory: Option<Directory>,
}

impl State {
    /// The state of a new instance. What it writes before its first invocation goes to `output`.
    pub fn new(
        config: &FunctionConfig,
        databases: Arc<Databases>,
        memory: Memory,
        output: Arc<Output>,
    ) -> Self {
        let stdio = Stdio::new(output);
        let mut wasi = builder();
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
            running: HashMap::new(),
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
        renew_random(&mut self.wasi);
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
    pub fn enter(
        &mut self,
        task: GuestTaskId,
        enforced: Instant,
        session: Arc<Session>,
        output: Arc<Output>,
    ) {
        self.stdio.attribute(output.clone());
        self.postgres.enter(task, session);
        let directory = self.mount.make();
        self.mount.enter(directory.as_ref());
        let running = Running {
            enforced,
            output,
            directory,
        };
        self.running.insert(task, running);
    }

    /// The invocation with this session, which the task handled, has ended. The number of a task
    /// that is done may by now stand for another one's.
    pub fn leave(&mut self, task: GuestTaskId, session: &Arc<Session>) {
        if self.postgres.leave(task, session) {
            self.running.remove(&task);
        }
    }

    /// Attributes what is done next to the invocation that is running now: what is written, and whose
    /// temporary directory it is. Returns its enforced deadline.
    pub fn attribute_call(
        mut store: StoreContextMut<'_, Self>,
    ) -> wasmtime::Result<Option<Instant>> {
        let root = store.as_context_mut().async_call_stack()?.last();
        let state = store.data_mut();
        let running = root.and_then(|task| state.running.get(&task));
        state
            .mount
            .enter(running.and_then(|running| running.directory.as_ref()));
        if let Some(running) = running {
            state.stdio.attribute(running.output.clone());
        }
        Ok(running.map(|running| running.enforced))
    }

    /// Whether the code that is running now belongs to an invocation that should have ended a
    /// while ago.
    pub fn is_overrun(mut store: StoreContextMut<'_, Self>) -> wasmtime::Result<bool> {
        let root = store.as_context_mut().async_call_stack()?.last();
        let running = root.and_then(|task| store.data().running.get(&task));
        Ok(running.is_some_and(|running| Instant::now() > running.enforced + limits::OVERRUN_MAX))
    }
}

/// WASI with the system's generator each time, and none that this process seeds: the environment may
/// be one of many copies of a snapshot.
fn builder() -> WasiCtxBuilder {
    let mut wasi = WasiCtxBuilder::new();
    wasi.secure_random(UnwrapErr(SysRng))
        .insecure_random(UnwrapErr(SysRng))
        .insecure_random_seed(seed());
    wasi
}

fn renew_random(wasi: &mut WasiCtx) {
    std::mem::swap(wasi.random(), builder().build().random());
}

/// The seed that a guest is told as often as it asks: from the system too.
fn seed() -> u128 {
    let mut bytes = [0; 16];
    UnwrapErr(SysRng).fill_bytes(&mut bytes);
    u128::from_ne_bytes(bytes)
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

/// The bound on a guest's memory, and its high-water mark.
#[derive(Debug)]
pub struct Memory {
    bytes_max: usize,
    /// The largest size so far, in bytes, for whoever decides on the instance's future.
    high_water: Arc<AtomicUsize>,
    /// Whether the guest was refused memory since [`Memory::forget_refusal`].
    refused: bool,
}

impl Memory {
    /// At most so many bytes.
    pub fn new(bytes_max: usize, high_water: Arc<AtomicUsize>) -> Self {
        Self {
            bytes_max,
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
        _: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > self.bytes_max {
            self.refused = true;
            return Ok(false);
        }
        self.high_water.fetch_max(desired, Ordering::Relaxed);
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= limits::TABLE_ELEMENTS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use wasmtime_wasi::p2::bindings::random::insecure_seed::Host;

    use super::*;

    #[test]
    fn a_copy_is_told_another_seed() {
        let mut wasi = builder().build();
        let seed = |wasi: &mut WasiCtx| wasi.random().insecure_seed().expect("it never fails");
        let before = seed(&mut wasi);
        assert_eq!(seed(&mut wasi), before);
        renew_random(&mut wasi);
        assert_ne!(seed(&mut wasi), before);
    }
}
