//! The task that owns an instance's store, from its building to its end.
//!
//! Promises: nothing else touches the store; each job that is begun is answered, by the guest or by the fault that
//! ended it, unless the instance is ended from outside; whatever ends it, the store is dropped and its room given back.
//!
//! Left to others: who waits for what ([`super::waiting`]), what goes on after an answer ([`super::after`]), whether it
//! is kept ([`super::reuse`]).

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use wasmtime::component::{Accessor, TypedFunc};
use wasmtime::{AsContextMut, Store, Trap, UpdateDeadline};

use super::after::{After, finished, run_suspended};
use super::answered::{self, Answered, Body, Course, Ends};
use super::hooks;
use super::state::{Memory, Running, State};
use super::waiting::{Waiter, Waiting, fault_of};
use super::{Blueprint, Job, Vitals, details, metered, trap, workers};
use crate::config::AfterAnswer;
use crate::fault::{Fault, Kind};
use crate::interface::bindings::{Answer, Context, Failure, Function};
use crate::limits;
use crate::telemetry::{Account, Output};

/// `handle`, as the guest exports it.
type Handle = TypedFunc<(Vec<u8>, Context), (Result<Answer, Failure>,)>;

/// How many turns the guest gets before its work after an answer is suspended. The SDK needs four to begin
/// that.
const TURNS: u32 = 16;

/// Owns one store.
pub(super) struct Keeper {
    pub(super) blueprint: Arc<Blueprint>,
    pub(super) vitals: Arc<Vitals>,
    slots: u32,
    /// Who waits for an answer, and where the output of those invocations goes.
    waiting: Arc<Waiting>,
    /// Given back when the store is gone.
    _room: OwnedSemaphorePermit,
}

impl Keeper {
    pub(super) fn new(
        blueprint: Arc<Blueprint>,
        vitals: Arc<Vitals>,
        slots: u32,
        room: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            blueprint,
            vitals,
            slots,
            waiting: Arc::default(),
            _room: room,
        }
    }

    /// Builds the store, then runs what comes in until the handle is gone, the instance is
    /// condemned, or the guest comes to a sudden end.
    pub(super) async fn keep(
        self,
        mut jobs: mpsc::UnboundedReceiver<Job>,
        mut hooks: mpsc::UnboundedReceiver<hooks::HookRequest>,
    ) {
        // One listener for the instance's whole life: making one costs more than asking it.
        let mut condemned = pin!(self.vitals.condemned());
        let built = tokio::select! {
            biased;
            () = &mut condemned => return,
            built = self.build() => built,
        };
        let (mut store, function) = match built {
            Ok(built) => {
                self.vitals.built.send_replace(Some(Ok(())));
                built
            }
            Err(fault) => return self.refuse(jobs, &fault).await,
        };
        let handle = function.func_handle();
        let (mut winding_down, mut winds_down) = (pin!(self.vitals.winding_down()), false);
        let mut paused_since = None;
        loop {
            paused_since = paused_since.or_else(|| self.pause(&store));
            let job = tokio::select! {
                biased;
                () = &mut condemned => return,
                // What was suspended goes on by itself, since no invocation will come any more.
                () = &mut winding_down, if !winds_down => {
                    winds_down = true;
                    None
                }
                job = jobs.recv() => match job {
                    None => return,
                    Some(job) if !job.is_wanted() => continue,
                    job => job,
                },
                Some(request) = hooks.recv() => {
                    if !self.run_hook(&mut store, &function, request).await {
                        return;
                    }
                    continue;
                }
            };
            self.wake(&mut store, paused_since.take());
            let ticking = self.blueprint.engine.ticker().tick();
            let ended = {
                let running = pin!(store.run_concurrent(async |accessor| {
                    self.run(accessor, handle, job, &mut jobs).await
                }));
                tokio::select! {
                    biased;
                    () = &mut condemned => {
                        if self.vitals.host_calls.is_stuck() {
                            self.mourn(&Trap::Interrupt.into(), false);
                        }
                        return;
                    }
                    ended = running => ended.and_then(|ended| ended),
                }
            };
            drop(ticking);
            if let Err(error) = ended {
                self.mourn(&error, store.data().memory.was_refused());
                return;
            }
        }
    }

    /// Tells everybody who was sent here that the instance could not be built.
    async fn refuse(&self, mut jobs: mpsc::UnboundedReceiver<Job>, fault: &Fault) {
        self.vitals.built.send_replace(Some(Err(fault.clone())));
        // So that nobody else is sent here.
        self.vitals.condemn();
        jobs.close();
        while let Some(job) = jobs.recv().await {
            let _ = job.reply.send(Err(fault.clone()));
        }
    }

    /// Builds the store and runs the guest's `init`.
    async fn build(&self) -> Result<(Store<State>, Function), Fault> {
        let config = &self.blueprint.config;
        let output = Arc::new(Output::new(Account::outside(&config.name, "")));
        let memory = Memory::new(
            config.memory_mib as usize * 1024 * 1024,
            self.vitals.memory_bytes.clone(),
        );
        let state = State::new(
            config,
            self.blueprint.databases.clone(),
            memory,
            output.clone(),
        );
        let mut store = Store::new(self.blueprint.engine.wasmtime(), state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(limits::HOST_CALL_BYTES_MAX);
        let others = self.slots as usize - 1;
        store.set_max_component_handles(limits::HANDLES_MAX + limits::HANDLES_MORE * others);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| {
            Ok(match State::is_overrun(store)? {
                true => UpdateDeadline::Interrupt,
                false if workers::has_turn_just_begun() => UpdateDeadline::Continue(1),
                // Tokio's own way of yielding: it looks after sockets, timers and what other threads
                // have woken before it comes back. A task that only wakes itself keeps them waiting.
                false => UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())),
            })
        });
        // Where several invocations may be in the instance, the one that runs has to be looked up.
        let shared = self.slots > 1 || self.suspends();
        metered::watch(&mut store, &self.vitals, shared, self.blueprint.measures);
        let ticking = self.blueprint.engine.ticker().tick();
        let function = match self.blueprint.component.instantiate_async(&mut store).await {
            Ok(function) => function,
            Err(error) => return Err(self.unbuilt(&error, &store, &output)),
        };
        let initialised = init(&mut store, &function).await;
        drop(ticking);
        output.finish();
        match initialised {
            Ok(Ok(())) => Ok((store, function)),
            Ok(Err(failure)) => Err(self.init_failed(fault_of(failure))),
            Err(error) => Err(self.unbuilt(&error, &store, &output)),
        }
    }

    /// Runs one invocation, and others beside it as long as there are free slots; without any, what
    /// earlier ones have left.
    async fn run(
        &self,
        accessor: &Accessor<State>,
        handle: Handle,
        first: Option<Job>,
        jobs: &mut mpsc::UnboundedReceiver<Job>,
    ) -> wasmtime::Result<()> {
        let Some(mut job) = first else {
            finished(accessor).await;
            return Ok(());
        };
        loop {
            // What is seldom needed is boxed, here and below: awaited in place it would make this future
            // larger, and that is moved several times before it runs.
            match self.slots {
                1 => self.handle(accessor, handle, job).await?,
                _ => Box::pin(self.share(accessor, handle, job, jobs)).await?,
            }
            if self.blueprint.freezes || !self.suspends() {
                return Ok(());
            }
            job = match Box::pin(run_suspended(accessor, jobs)).await {
                Some(next) => next,
                None => return Ok(()),
            };
        }
    }

    /// Runs one invocation, and others beside it as long as there are free slots.
    async fn share(
        &self,
        accessor: &Accessor<State>,
        handle: Handle,
        first: Job,
        jobs: &mut mpsc::UnboundedReceiver<Job>,
    ) -> wasmtime::Result<()> {
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
                    if job.is_wanted() {
                        running.push(self.handle(accessor, handle, job));
                    }
                }
            }
        }
    }

    /// Runs one invocation, and what it does after its answer, or the part of that which is not
    /// suspended. An error is the end of the instance.
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
        let number = self.vitals.invocations.fetch_add(1, Ordering::Relaxed);
        let context = details::context(&invocation, number);
        let waiter = Waiter::new(reply, output.clone(), session.clone());
        self.waiting.add(number, waiter);
        if let Some(tally) = session.account().tally() {
            tally.entered(number == 0, self.vitals.memory_bytes.clone());
        }
        let call = accessor.with(|mut access| -> wasmtime::Result<_> {
            if self.slots == 1 {
                // `wake` was not called in between if suspended work of others still runs.
                access.data_mut().memory.forget_refusal();
            }
            let call =
                handle.start_call_concurrent(&mut access, (invocation.event.to_vec(), context))?;
            let running = Running::new(number, invocation, output, session.clone());
            access.data_mut().enter(call.task(), running);
            Ok(call)
        })?;
        let mut after = After {
            waiting: self.waiting.clone(),
            number,
            task: call.task(),
            session,
            course: Course::default(),
            alone: false,
        };
        let (answer,) = handle.finish_call_concurrent(accessor, call).await?;
        // Tasks that the guest has not announced can be noticed only where no other invocation has any.
        after.alone = self.slots == 1
            && !self.suspends()
            && accessor
                .poll_no_interesting_tasks(&mut std::task::Context::from_waker(Waker::noop()))
                .is_pending();
        match answer {
            Ok(answer) => {
                let (answered, course, ends) = accessor
                    .with(|mut access| answered::receive(access.as_context_mut(), answer))?;
                after.course = course;
                if after.course.is_over() && !after.alone {
                    after.leave(accessor);
                    self.waiting.answer(number, Ok(answered));
                    return Ok(());
                }
                Box::pin(self.conclude(accessor, after, answered, ends)).await
            }
            // The error goes out at once, even if the guest goes on with something that it has not announced.
            Err(failure) if after.alone => {
                let answered = Answered::new(None, Body::Failed(fault_of(failure)));
                Box::pin(self.conclude(accessor, after, answered, Ends::default())).await
            }
            Err(failure) => {
                after.leave(accessor);
                self.waiting.answer(number, Err(fault_of(failure)));
                Ok(())
            }
        }
    }

    /// Hands out an answer, and does what is to be done after it.
    async fn conclude(
        &self,
        accessor: &Accessor<State>,
        mut after: After,
        mut answered: Answered,
        mut ends: Ends,
    ) -> wasmtime::Result<()> {
        let (sender, after_end) = oneshot::channel();
        (ends.after, answered.after) = (Some(sender), Some(after_end));
        let suspended =
            self.suspends() && self.vitals.suspended.load(Ordering::SeqCst) < limits::SUSPENDED_MAX;
        answered.suspended = suspended;
        self.waiting.begin(after.number, answered, ends);
        if !suspended {
            return wasmtime::component::AccessorTask::run(after, accessor).await;
        }
        // The body is written as part of the invocation. Only the work after it is suspended.
        after.written().await;
        accessor.spawn(after)?;
        // So that the work has begun, and its first statement is on its way, before the instance is paused.
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn suspends(&self) -> bool {
        self.blueprint.config.after_answer == AfterAnswer::Suspend
    }

    /// Tells everybody who still waits of the guest's sudden end.
    fn mourn(&self, error: &wasmtime::Error, refused: bool) {
        self.vitals.condemn();
        let waiting = self.waiting.take_all();
        let others = waiting.len().saturating_sub(1);
        for waiter in waiting {
            let mut fault = match trap::is_overrun(error) && !waiter.is_overdue() {
                true => trap::beside_overrun(),
                false => trap::fault(error, refused, waiter.output()),
            };
            if others > 0 {
                fault.log = format!(
                    "{}; {others} other invocations shared its instance and ended with it",
                    fault.log
                );
            }
            waiter.fail(fault);
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

async fn init(
    store: &mut Store<State>,
    function: &Function,
) -> wasmtime::Result<Result<(), Failure>> {
    store
        .run_concurrent(async |accessor| function.call_init(accessor).await)
        .await?
}
