//! Who waits for what of the invocations in an instance.
//!
//! Promises: everybody who waits is told once how it ended; if the instance ends first, they are told that,
//! whatever has become of its task.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use tokio::sync::oneshot;

use super::answered::{Answered, Ends};
use crate::database::session::Session;
use crate::fault::{Blame, Fault, Kind};
use crate::interface::bindings::Failure;
use crate::interface::bindings::hearth::function::invocation::Blame as WitBlame;
use crate::lock::lock;
use crate::telemetry::Output;

/// The invocations in an instance, by their numbers.
#[derive(Default)]
pub(super) struct Waiting(Mutex<HashMap<u64, Waiter>>);

/// Who waits for one invocation.
pub(super) struct Waiter {
    reply: Option<oneshot::Sender<Result<Answered, Fault>>>,
    ends: Ends,
    output: Arc<Output>,
    session: Arc<Session>,
}

impl Waiting {
    /// Somebody begins to wait.
    pub(super) fn add(&self, number: u64, waiter: Waiter) {
        self.lock().insert(number, waiter);
    }

    /// Hands out an answer after which there is nothing. Nobody waits for it any more if the
    /// deadline was reached meanwhile.
    pub(super) fn answer(&self, number: u64, answer: Result<Answered, Fault>) {
        let waiter = self.lock().remove(&number);
        if let Some(reply) = waiter.and_then(|mut waiter| waiter.reply.take()) {
            let _ = reply.send(answer);
        }
    }

    /// Hands out an answer after which something goes on.
    pub(super) fn begin(&self, number: u64, answered: Answered, ends: Ends) {
        let mut waiting = self.lock();
        let Some(waiter) = waiting.get_mut(&number) else {
            return;
        };
        waiter.ends = ends;
        if let Some(reply) = waiter.reply.take() {
            let _ = reply.send(Ok(answered));
        }
    }

    /// The body of an answer has come to its end.
    pub(super) fn end_body(&self, number: u64, outcome: Result<(), Failure>) {
        let mut waiting = self.lock();
        let sender = waiting
            .get_mut(&number)
            .and_then(|waiter| waiter.ends.body.take());
        if let Some(sender) = sender {
            let _ = sender.send(outcome.map_err(fault_of));
        }
    }

    /// An invocation is over.
    pub(super) fn end(&self, number: u64, outcome: Result<(), Failure>) {
        let waiter = self.lock().remove(&number);
        if let Some(sender) = waiter.and_then(|mut waiter| waiter.ends.after.take()) {
            let _ = sender.send(outcome.map_err(fault_of));
        }
    }

    /// Takes out all who wait.
    pub(super) fn take_all(&self) -> Vec<Waiter> {
        self.lock().drain().map(|(_, waiter)| waiter).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Waiter>> {
        lock(&self.0)
    }
}

impl Waiter {
    pub(super) fn new(
        reply: oneshot::Sender<Result<Answered, Fault>>,
        output: Arc<Output>,
        session: Arc<Session>,
    ) -> Self {
        Self {
            reply: Some(reply),
            ends: Ends::default(),
            output,
            session,
        }
    }

    /// What the invocation has written.
    pub(super) fn output(&self) -> &Output {
        &self.output
    }

    /// Whether the invocation is past its deadline.
    pub(super) fn is_overdue(&self) -> bool {
        Instant::now() >= self.session.deadline().enforced
    }

    /// Reports the invocation's sudden end once: to whoever waits for the answer, else for the end of the body,
    /// else for the end of the work.
    pub(super) fn fail(mut self, fault: Fault) {
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(Err(fault));
            return;
        }
        let Ends { body, after } = std::mem::take(&mut self.ends);
        let unsent = match body {
            Some(sender) => sender.send(Err(fault)),
            None => Err(Err(fault)),
        };
        if let (Err(outcome), Some(sender)) = (unsent, after) {
            let _ = sender.send(outcome);
        }
    }
}

impl Drop for Waiter {
    // A reply that is dropped unsent would mean that the job was never begun. This one was.
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            let message = "the instance ended before it could answer";
            let _ = reply.send(Err(Fault::new(Kind::Internal, message)));
        }
    }
}

/// The fault of a guest that could not do what it should, in its own words.
pub(super) fn fault_of(failure: Failure) -> Fault {
    let kind = match failure.blame {
        WitBlame::Caller => Kind::InvalidEvent,
        WitBlame::Function => Kind::Failed,
    };
    let fault = Fault::new(kind, failure.message).caused(failure.stack_trace);
    debug_assert!(matches!(fault.blame, Blame::Caller | Blame::Guest));
    match failure.error_type.is_empty() {
        true => fault,
        false => fault.named(failure.error_type),
    }
}
