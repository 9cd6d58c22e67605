//! The loop of `bootstrap`: next event, answer, clean up, next event.
//!
//! Promises:
//! - each slot asks for one event at a time, and only when the last one's loans are settled, its
//!   work after the answer included, unless the function lets that go on beside later events;
//! - a Runtime API that fails is asked again at growing intervals, and given up after a while;
//! - when the environment is to end, running invocations have [`limits::DRAIN_TIMEOUT`] left.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::{Environment, Function};
use crate::event::lambda::{Error, Received, RuntimeApi};
use crate::fault::{Fault, Kind};
use crate::invocation::{Response, Streamed};
use crate::limits;
use crate::shutdown::Shutdown;

/// Handles events until the environment is to end, `slots` of them at a time. `api` makes each
/// slot's connection.
pub async fn serve(
    environment: &Arc<Environment>,
    function: &Arc<Function>,
    api: impl Fn() -> RuntimeApi,
    slots: u32,
    shutdown: &Shutdown,
) -> Result<(), Fault> {
    let mut running = JoinSet::new();
    for _ in 0..slots {
        let slot = Slot {
            environment: environment.clone(),
            function: function.clone(),
            api: api(),
            shutdown: shutdown.clone(),
        };
        running.spawn(slot.serve());
    }
    let mut outcome = Ok(());
    while let Some(ended) = running.join_next().await {
        let ended = ended.unwrap_or_else(|error| {
            Err(Fault::new(
                Kind::Internal,
                format!("a slot ended oddly: {error}"),
            ))
        });
        if ended.is_err() {
            // What is beyond repair for one slot is so for all: the environment ends.
            running.abort_all();
            outcome = ended;
        }
    }
    environment.drain().await;
    outcome
}

/// One invocation at a time.
struct Slot {
    environment: Arc<Environment>,
    function: Arc<Function>,
    api: RuntimeApi,
    shutdown: Shutdown,
}

impl Slot {
    async fn serve(mut self) -> Result<(), Fault> {
        let mut failures = 0;
        let shutdown = self.shutdown.clone();
        // One listener for the slot's whole life: making one costs more than asking it.
        let mut ending = pin!(shutdown.requested().fuse());
        loop {
            if shutdown.is_requested() {
                return Ok(());
            }
            let next = tokio::select! {
                biased;
                () = &mut ending => return Ok(()),
                next = self.api.next() => next,
            };
            let outcome = match next {
                Ok(received) => self.handle(received, ending.as_mut()).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(()) => failures = 0,
                Err(Error::Fatal(message)) => return Err(Fault::new(Kind::Internal, message)),
                Err(Error::Transient(message)) => {
                    failures += 1;
                    if failures > limits::API_FAILURES_MAX {
                        let message =
                            format!("{message}; given up after {failures} failures in a row");
                        return Err(Fault::new(Kind::Internal, message));
                    }
                    tracing::warn!(failures, "{message}");
                    tokio::time::sleep(pause(failures)).await;
                }
            }
        }
    }

    async fn handle(
        &mut self,
        received: Received,
        ending: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let Received {
            invocation,
            receipt,
        } = received;
        let Self {
            environment,
            function,
            api,
            ..
        } = self;
        let deadline = invocation.deadline;
        let mut out_of_time = pin!(out_of_time(ending));
        let mut handled = tokio::select! {
            handled = environment.handle(function, invocation) => handled,
            () = &mut out_of_time => return api.answer(&receipt, &Err(cut_short())).await,
        };
        let answered = match handled.respond() {
            Ok(Response::Streamed(streamed)) => {
                let (cut, cutting) = oneshot::channel();
                let mut sending = pin!(api.stream(&receipt, until(streamed, cutting), deadline));
                tokio::select! {
                    sent = &mut sending => sent,
                    () = &mut out_of_time => {
                        let _ = cut.send(cut_short());
                        let sent = tokio::time::timeout(limits::CUT_TIMEOUT, sending).await;
                        return sent.unwrap_or(Ok(()));
                    }
                }
            }
            Ok(Response::Whole(bytes)) => api.answer(&receipt, &Ok(bytes)).await,
            Err(fault) => api.answer(&receipt, &Err(fault)).await,
        };
        // What a drain gives up here is made clean by the environment's end.
        tokio::select! {
            () = handled.settle() => {}
            () = out_of_time => {}
        }
        answered
    }
}

/// A streamed answer that can be cut short.
fn until(streamed: Streamed, cutting: oneshot::Receiver<Fault>) -> Streamed {
    let pieces = stream::unfold(
        Some((streamed.pieces, cutting)),
        async |going: Option<(BoxStream<'static, _>, oneshot::Receiver<_>)>| {
            let (mut pieces, mut cutting) = going?;
            tokio::select! {
                biased;
                Ok(fault) = &mut cutting => Some((Err(fault), None)),
                piece = pieces.next() => Some((piece?, Some((pieces, cutting)))),
            }
        },
    );
    Streamed {
        pieces: pieces.boxed(),
        http: streamed.http,
    }
}

/// The answer where a drain has no time for a better one.
fn cut_short() -> Fault {
    let message = "the environment was ended before the function had answered";
    Fault::new(Kind::Internal, message)
}

/// The end of the time that a drain leaves to running invocations.
async fn out_of_time(ending: impl Future<Output = ()>) {
    ending.await;
    tokio::time::sleep(limits::DRAIN_TIMEOUT).await;
}

/// How long to wait after so many failures in a row.
fn pause(failures: u32) -> Duration {
    Duration::from_millis(50 << failures.min(6)).min(limits::API_PAUSE_MAX)
}
