//! The engine that all instances of an environment share: how guests are compiled and loaded.
//!
//! Promises: a component that cannot be used gets one error that names it, what is wrong and what
//! to do; what [`compile`] makes, [`Engine::load`] of the same version takes.
//!
//! Left to others: what a guest's instance consists of ([`super::state`]), and the time
//! ([`super::ticker`]).

use std::path::Path;

use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig, WasmFeatures};

#[cfg(feature = "compile")]
use super::declared;
use super::state::State;
use super::ticker::Ticker;
use crate::config::FunctionConfig;
use crate::fault::{Fault, Kind};
use crate::interface::bindings;
use crate::interface::clock::Clock;
use crate::interface::postgres::HasPostgres;
use crate::interface::temporary;
use crate::limits;

/// How much room the engine sets aside.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// Instances that take invocations at a time.
    pub instances: u32,
    /// Instances alive at a time.
    pub alive: u32,
}

/// What all instances share.
pub struct Engine {
    engine: wasmtime::Engine,
    linker: Linker<State>,
    ticker: Ticker,
}

impl Engine {
    /// An engine with room for so many instances.
    pub fn new(capacity: Capacity) -> Result<Self, Fault> {
        let mut config = shared_config();
        // What a deep recursion has used of a stack goes back to the system with its instance.
        config.async_stack_zeroing(true);
        let mut pooling = PoolingAllocationConfig::new();
        pooling
            .total_component_instances(capacity.alive)
            .total_core_instances(capacity.alive * CORES_PER_COMPONENT)
            .total_memories(capacity.alive * 2)
            .total_tables(capacity.alive * CORES_PER_COMPONENT)
            .table_elements(limits::TABLE_ELEMENTS_MAX)
            .total_stacks(capacity.alive * 2)
            // The address space set aside does not depend on this; an instance keeps to its function's own
            // limit.
            .max_memory_size(limits::MEMORY_MIB_MAX as usize * MIB)
            .max_unused_warm_slots(capacity.instances)
            .async_stack_keep_resident(limits::FIBER_STACK_BYTES_KEPT);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling));
        let internal = |error: wasmtime::Error| {
            Fault::new(
                Kind::Internal,
                format!("the WebAssembly engine cannot start: {error:#}"),
            )
        };
        let engine = wasmtime::Engine::new(&config).map_err(|error| too_many(capacity, &error))?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(internal)?;
        temporary::add_to_linker(&mut linker, State::temporary).map_err(internal)?;
        bindings::hearth::postgres::client::add_to_linker::<State, HasPostgres>(
            &mut linker,
            State::postgres,
        )
        .map_err(internal)?;
        bindings::hearth::function::invocation::add_to_linker::<State, HasSelf<State>>(
            &mut linker,
            |state| state,
        )
        .map_err(internal)?;
        bindings::wasi::clocks::monotonic_clock::add_to_linker::<State, Clock>(&mut linker, |_| {
            Clock
        })
        .map_err(internal)?;
        let ticker = Ticker::start(engine.weak()).map_err(|error| {
            Fault::new(
                Kind::Internal,
                format!("the ticker's thread cannot start: {error}"),
            )
        })?;
        Ok(Self {
            engine,
            linker,
            ticker,
        })
    }

    /// Loads a function's component and checks it against `wit/`.
    ///
    /// A file that ends in `.cwasm` is machine code made by [`compile`], and is run as it is:
    /// whoever can write it can do all that this process can.
    pub fn load(&self, function: &FunctionConfig) -> Result<bindings::FunctionPre<State>, Fault> {
        let (name, path) = (&function.name, &function.component);
        let invalid = |what: String| {
            let what = format!(
                "the component of the function {name:?}, {}, {what}",
                path.display()
            );
            Fault::new(Kind::InvalidComponent, what)
        };
        let file = std::fs::metadata(path).map_err(|error| {
            invalid(format!(
                "cannot be read: {error}; build it, or correct `component` in hearth.toml"
            ))
        })?;
        if file.len() == 0 {
            return Err(invalid("is empty; make it anew".to_owned()));
        }
        let component = if path
            .extension()
            .is_some_and(|extension| extension == "cwasm")
        {
            load_precompiled(&self.engine, path).map_err(|error| {
                invalid(format!(
                    "is not a precompiled component of this version of Hearth: {error:#}; make it anew with `hearth compile`"
                ))
            })?
        } else {
            load_component(&self.engine, path).map_err(invalid)?
        };
        let least_mib = least_memory_mib(&component);
        if least_mib > u64::from(function.memory_mib) {
            let message = format!(
                "the function {name:?} has `memory_mib` = {}, and its component begins with {least_mib} MiB; give it that \
                 and what it works with besides",
                function.memory_mib
            );
            return Err(Fault::new(Kind::InvalidConfiguration, message));
        }
        let instance = self.linker.instantiate_pre(&component).map_err(|error| {
            invalid(format!("needs something that Hearth does not offer: {error:#}; see wit/function.wit for what it may import"))
        })?;
        bindings::FunctionPre::new(instance).map_err(|error| {
            invalid(format!(
                "does not implement the world hearth:function/function: {error:#}; build it with the guest SDK, or to wit/function.wit"
            ))
        })
    }

    /// The engine itself, for stores.
    pub fn wasmtime(&self) -> &wasmtime::Engine {
        &self.engine
    }

    /// The thread that keeps the time while guests run.
    pub fn ticker(&self) -> &Ticker {
        &self.ticker
    }
}

/// The one thing that an engine may not get is address space for so many.
fn too_many(capacity: Capacity, error: &wasmtime::Error) -> Fault {
    let message = format!(
        "the WebAssembly engine cannot start with room for {} instances, twice the `instances_max` of all functions and \
         two for each: {error:#}; lower `instances_max`, or run fewer functions",
        capacity.alive
    );
    Fault::new(Kind::InvalidConfiguration, message)
}

/// How much memory an instance has before its code runs, if that is known: the largest of its memories.
fn least_memory_mib(component: &Component) -> u64 {
    const PAGES_PER_MIB: u64 = 16;
    let required = component.resources_required();
    let pages = required.and_then(|required| required.max_initial_memory_size);
    pages.unwrap_or(0).div_ceil(PAGES_PER_MIB)
}

const MIB: usize = 1024 * 1024;

/// The main module, the adapters that the tool chain adds to it, and some room.
const CORES_PER_COMPONENT: u32 = 8;

/// What compiling and running must agree on.
fn shared_config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(limits::GUEST_STACK_BYTES)
        .async_stack_size(limits::FIBER_STACK_BYTES)
        // A runtime without the compiler lacks these too; a file compiled with them would not load.
        .wasm_features(
            WasmFeatures::GC_TYPES | WasmFeatures::EXCEPTIONS | WasmFeatures::THREADS,
            false,
        );
    config
}

/// Compiles a component to machine code for [`Engine::load`], for every processor of this
/// machine's architecture: where it will run may lack what this one has.
#[cfg(feature = "compile")]
pub fn compile(component: &Path, output: &Path) -> Result<(), Fault> {
    let invalid = |what: String| {
        Fault::new(
            Kind::InvalidComponent,
            format!("{} {what}", component.display()),
        )
    };
    let bytes =
        std::fs::read(component).map_err(|error| invalid(format!("cannot be read: {error}")))?;
    let internal = |error: wasmtime::Error| {
        Fault::new(
            Kind::Internal,
            format!("the compiler cannot start: {error:#}"),
        )
    };
    let mut config = shared_config();
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    config.target(&target).map_err(internal)?;
    let engine = wasmtime::Engine::new(&config).map_err(internal)?;
    let mut code = engine
        .precompile_component(&bytes)
        .map_err(|error| invalid(format!("cannot be compiled: {}", explain(&bytes, &error))))?;
    declared::append(&bytes, &mut code)
        .map_err(|problem| invalid(format!("declares queries that cannot be read: {problem}")))?;
    // Renamed into place, so that nobody ever loads half a file.
    let unfinished = output.with_extension("cwasm.unfinished");
    std::fs::write(&unfinished, code)
        .and_then(|()| std::fs::rename(&unfinished, output))
        .map_err(|error| {
            Fault::new(
                Kind::Internal,
                format!("cannot write {}: {error}", output.display()),
            )
        })
}

#[cfg(feature = "compile")]
fn load_component(engine: &wasmtime::Engine, path: &Path) -> Result<Component, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    Component::new(engine, &bytes).map_err(|error| explain(&bytes, &error))
}

#[cfg(not(feature = "compile"))]
fn load_component(_: &wasmtime::Engine, _: &Path) -> Result<Component, String> {
    Err("is not precompiled, and this build has no compiler: make a .cwasm of it with `hearth compile`"
        .to_owned())
}

/// What is wrong with bytes that are no component.
#[cfg(feature = "compile")]
fn explain(bytes: &[u8], error: &wasmtime::Error) -> String {
    // The fifth byte is the version and the seventh the layer: 0 for a core module, 1 for a component.
    match bytes {
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => {
            "is a core WebAssembly module, not a component; build it for wasm32-wasip2".to_owned()
        }
        [0, b'a', b's', b'm', ..] => format!("cannot be used: {error:#}"),
        _ => "is not WebAssembly; build it for wasm32-wasip2".to_owned(),
    }
}

fn load_precompiled(engine: &wasmtime::Engine, path: &Path) -> wasmtime::Result<Component> {
    #[expect(
        unsafe_code,
        reason = "a .cwasm file is machine code that the operator deploys beside this program"
    )]
    // SAFETY: the file was made by `compile` and is as trusted as this program itself; wasmtime
    // checks that its version and settings fit.
    unsafe {
        Component::deserialize_file(engine, path)
    }
}
