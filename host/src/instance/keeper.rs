//! The task that owns an instance's store, from its building to its end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use wasmtime::component::{Accessor, TypedFunc};
use wasmtime::{CallHook, Store, UpdateDeadline};

use super::state::{Memory, State};
use super::{Blueprint, Job, Vitals, trap};
use crate::fault::{Blame, Fault, Kind};
use crate::interface::bindings::hearth::function::invocation::Blame as WitBlame;
use crate::interface::bindings::{Context, Failure, Function};
use crate::invocation::Invocation;
use crate::limits;
use crate::telemetry::Output;

/// `handle`, as the guest exports it.
type Handle = TypedFunc<(Vec<u8>, Context), (Result<Vec<u8>, Failure>,)>;

/// Owns one store.
pub(super) struct Keeper {
    blueprint: Arc<Blueprint>,
    vitals: Arc<Vitals>,
    slots: u32,
    /// Who waits for an answer, and where the output of those invocations goes.
    waiting: Arc<Waiting>,
}

/// The invocations in the instance, so that they can be answered when it ends under them.
#[derive(Default)]
struct Waiting(Mutex<HashMap<u64, Waiter>>);

struct Waiter {
    reply: oneshot::Sender<Result<Bytes, Fault>>,
    output: Arc<Output>,
}

impl Keeper {
    pub(super) fn new(blueprint: Arc<Blueprint>, vitals: Arc<Vitals>, slots: u32) -> Self {
        Self {
            blueprint,
            vitals,
            slots,
            waiting: Arc::default(),
        }
    }

    /// Builds the store, then runs what comes in until the handle is gone, the instance is
    /// condemned, or the guest comes to a sudden end.
    pub(super) async fn keep(self, mut jobs: mpsc::UnboundedReceiver<Job>) {
        let built = tokio::select! {
            biased;
            () = self.vitals.condemned() => return,
            built = self.build() => built,
        };
        let (mut store, handle) = match built {
            Ok(built) => {
                self.vitals.built.send_replace(Some(Ok(())));
                built
            }
            Err(fault) => {
                self.vitals.built.send_replace(Some(Err(fault.clone())));
                jobs.close();
                while let Some(job) = jobs.recv().await {
                    let _ = job.reply.send(Err(fault.clone()));
                }
                return;
            }
        };
        loop {
            let job = tokio::select! {
                biased;
                () = self.vitals.condemned() => return,
                job = jobs.recv() => job,
            };
            let Some(job) = job else { return };
            // Re-armed here: the epoch has moved on while the guest was at rest.
            store.set_epoch_deadline(1);
            store.data_mut().memory.forget_refusal();
            let ticking = self.blueprint.engine.ticker().tick();
            let running = store
                .run_concurrent(async |accessor| self.run(accessor, handle, job, &mut jobs).await);
            let ended = tokio::select! {
                biased;
                () = self.vitals.condemned() => return,
                ended = running => ended.and_then(|ended| ended),
            };
            drop(ticking);
            if let Err(error) = ended {
                self.mourn(&error, store.data().memory.was_refused());
                return;
            }
        }
    }

    /// Builds the store and runs the guest's `init`.
    async fn build(&self) -> Result<(Store<State>, Handle), Fault> {
        let config = &self.blueprint.config;
        let output = Arc::new(Output::new(&config.name, "init"));
        let memory = Memory::new(
            config.memory_mib as usize * 1024 * 1024,
            self.vitals.memory_bytes.clone(),
        );
        let state = State::new(
            &config.environment,
            self.blueprint.databases.clone(),
            memory,
            output.clone(),
        );
        let mut store = Store::new(self.blueprint.engine.wasmtime(), state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(limits::HOST_CALL_BYTES_MAX);
        store.set_max_component_handles(limits::HANDLES_MAX);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| {
            Ok(if State::is_overrun(store)? {
                UpdateDeadline::Interrupt
            } else {
                UpdateDeadline::Yield(1)
            })
        });
        if self.slots > 1 {
            store.call_hook(|store, hook| match hook {
                CallHook::CallingHost => State::attribute_output(store),
                _ => Ok(()),
            });
        }
        let ticking = self.blueprint.engine.ticker().tick();
        let function = match self.blueprint.component.instantiate_async(&mut store).await {
            Ok(function) => function,
            Err(error) => return Err(self.unbuilt(&error, &store, &output)),
        };
        let initialised = init(&mut store, &function).await;
        drop(ticking);
        output.finish();
        match initialised {
            Ok(Ok(())) => Ok((store, function.func_handle())),
            Ok(Err(failure)) => Err(self.init_failed(fault_of(failure))),
            Err(error) => Err(self.unbuilt(&error, &store, &output)),
        }
    }

    /// Runs one invocation, and others beside it as long as there are free slots.
    async fn run(
        &self,
        accessor: &Accessor<State>,
        handle: Handle,
        first: Job,
        jobs: &mut mpsc::UnboundedReceiver<Job>,
    ) -> wasmtime::Result<()> {
        if self.slots == 1 {
            return self.handle(accessor, handle, first).await;
        }
        let mut running = FuturesUnordered::new();
        running.push(self.handle(accessor, handle, first));
        loop {
            tokio::select! {
                Some(ended) = running.next() => {
                    ended?;
                    if running.is_empty() {
                        return Ok(());
                    }
                }
                Some(job) = jobs.recv(), if running.len() < self.slots as usize => {
                    running.push(self.handle(accessor, handle, job));
                }
            }
        }
    }

    /// Runs one invocation. An error is the end of the instance.
    async fn handle(
        &self,
        accessor: &Accessor<State>,
        handle: Handle,
        job: Job,
    ) -> wasmtime::Result<()> {
        let Job {
            invocation,
            session,
            output,
            reply,
        } = job;
        let number = self
            .vitals
            .invocations
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let context = context(&invocation, number == 0);
        let enforced = invocation.deadline.enforced;
        self.waiting.add(
            number,
            Waiter {
                reply,
                output: output.clone(),
            },
        );
        let call = accessor.with(|mut access| -> wasmtime::Result<_> {
            let call =
                handle.start_call_concurrent(&mut access, (invocation.event.to_vec(), context))?;
            access
                .data_mut()
                .enter(call.task(), enforced, session, output);
            Ok(call)
        })?;
        let task = call.task();
        let (answer,) = handle.finish_call_concurrent(accessor, call).await?;
        accessor.with(|mut access| access.data_mut().leave(task));
        if let Some(waiter) = self.waiting.take(number) {
            // Nobody waits any more if the deadline was reached meanwhile.
            let _ = waiter.reply.send(answer.map(Bytes::from).map_err(fault_of));
        }
        Ok(())
    }

    /// Answers everybody who still waits after the guest's sudden end.
    fn mourn(&self, error: &wasmtime::Error, refused: bool) {
        self.vitals.condemn();
        let waiting = self.waiting.take_all();
        let others = waiting.len().saturating_sub(1);
        for waiter in waiting {
            let mut fault = trap::fault(error, refused, &waiter.output);
            if others > 0 {
                fault.log = format!(
                    "{}; {others} other invocations shared its instance and ended with it",
                    fault.log
                );
            }
            let _ = waiter.reply.send(Err(fault));
        }
    }

    fn unbuilt(&self, error: &wasmtime::Error, store: &Store<State>, output: &Output) -> Fault {
        output.finish();
        self.init_failed(trap::fault(
            error,
            store.data().memory.was_refused(),
            output,
        ))
    }

    fn init_failed(&self, cause: Fault) -> Fault {
        let message = format!(
            "the function {:?} could not start: {}",
            self.blueprint.config.name, cause.log
        );
        Fault::new(Kind::InitFailed, message).traced(cause.stack_trace)
    }
}

impl Waiting {
    fn add(&self, number: u64, waiter: Waiter) {
        self.lock().insert(number, waiter);
    }

    fn take(&self, number: u64) -> Option<Waiter> {
        self.lock().remove(&number)
    }

    fn take_all(&self) -> Vec<Waiter> {
        self.lock().drain().map(|(_, waiter)| waiter).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Waiter>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn init(
    store: &mut Store<State>,
    function: &Function,
) -> wasmtime::Result<Result<(), Failure>> {
    store
        .run_concurrent(async |accessor| function.call_init(accessor).await)
        .await?
}

fn context(invocation: &Invocation, first: bool) -> Context {
    Context {
        request_id: invocation.request_id.clone(),
        deadline_ms: invocation.deadline.unix_ms,
        function_name: invocation.function_name.clone(),
        function_version: invocation.function_version.clone(),
        function_arn: invocation.function_arn.clone(),
        trace_id: invocation.trace_id.clone(),
        client_context: invocation.client_context.clone(),
        identity: invocation.identity.clone(),
        tenant_id: invocation.tenant_id.clone(),
        first,
    }
}

/// The fault of a guest that could not answer, in its own words.
fn fault_of(failure: Failure) -> Fault {
    let kind = match failure.blame {
        WitBlame::Caller => Kind::InvalidEvent,
        WitBlame::Function => Kind::Failed,
    };
    let mut fault = Fault::new(kind, failure.message).traced(failure.stack_trace);
    debug_assert!(matches!(fault.blame, Blame::Caller | Blame::Guest));
    if !failure.error_type.is_empty() {
        fault.error_type = failure.error_type;
    }
    fault
}
