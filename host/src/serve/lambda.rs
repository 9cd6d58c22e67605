//! The loop of `bootstrap`: next event, answer, clean up, next event.
//!
//! Promises:
//! - each slot asks for one event at a time, and only when the last one's work after its answer is
//!   done, unless the function lets that go on beside later events; on classic Lambda, only when its
//!   loans are settled too, or its deadline is near;
//! - on Managed Instances, slots ask again beside the answer and before they clean up: an event that finds
//!   nobody asking is refused. No guest keeps their thread busy: one that computes runs on others
//!   ([`crate::instance::workers`]);
//! - a Runtime API that refuses is asked again at growing intervals; one that nobody reaches is given up
//!   after a while;
//! - an environment that is to end does so within `drain_timeout`, of which running invocations
//!   have the larger part, whatever the Runtime API does; an event that had arrived, or arrives within a moment
//!   ([`Drain::moment`]), is answered. After a second signal nothing is waited for.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::future::maybe_done;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::drain::{Drain, unless, unless_ending};
use super::{Environment, Function, Handled, cut_short, report};
use crate::event::lambda::{Error, Failures, Receipt, Received, RuntimeApi, SlotAfter};
use crate::fault::{Fault, Kind};
use crate::invocation::{Answer, Streamed, WholeAnswer};
use crate::limits;
use crate::telemetry::line_for;

/// Handles events until the environment is to end, as many at a time as there are connections to
/// the Runtime API.
pub async fn serve(
    environment: &Arc<Environment>,
    function: &Arc<Function>,
    apis: Vec<RuntimeApi>,
    drain: &Drain,
) -> Result<(), Fault> {
    let slot = |api| Slot {
        environment: environment.clone(),
        function: function.clone(),
        api,
        drain: drain.clone(),
    };
    let slots = apis.into_iter().map(|api| slot(api).serve());
    let mut slots: JoinSet<_> = slots.collect();
    let grace = (drain.grace() + limits::CUT_TIMEOUT).min(drain.waits());
    let outcome = tokio::select! {
        outcome = all(&mut slots) => outcome,
        // Where the Runtime API takes no answer, the databases are told good-bye all the same.
        () = drain.shutdown.over_or(grace, limits::CUT_TIMEOUT) => Ok(()),
    };
    if outcome.is_err() {
        slots.shutdown().await;
    }
    // By now a slot has nothing but an answer on its way. That has what is left of the time as well.
    let posting = async {
        tokio::select! {
            biased;
            posted = all(&mut slots) => posted,
            () = drain.late() => Ok(()),
        }
    };
    let ending = async {
        tokio::select! {
            biased;
            () = environment.drain(drain.left()) => {}
            // The databases are told good-bye all the same.
            () = drain.shutdown.insisted() => environment.drain(Duration::ZERO).await,
        }
    };
    let (posted, ()) = tokio::join!(posting, ending);
    outcome.and(posted)
}

/// Waits until the last slot has ended, or the first one beyond repair.
async fn all(slots: &mut JoinSet<Result<(), Fault>>) -> Result<(), Fault> {
    while let Some(ended) = slots.join_next().await {
        // What is beyond repair for one slot is so for all.
        ended.unwrap_or_else(|error| {
            let message = format!("a slot ended oddly: {error}");
            Err(Fault::new(Kind::Internal, message))
        })?;
    }
    Ok(())
}

/// One invocation at a time.
struct Slot {
    environment: Arc<Environment>,
    function: Arc<Function>,
    api: RuntimeApi,
    drain: Drain,
}

/// What went wrong with the Runtime API.
struct Failed {
    error: Error,
    /// For how long it was waited for.
    lasted: Duration,
    /// Until when the next event is to be asked for, as long as Lambda may wait for an answer.
    settled_by: Option<Instant>,
}

impl Slot {
    async fn serve(mut self) -> Result<(), Fault> {
        self.run().await?;
        self.api.finish_posting().await;
        Ok(())
    }

    async fn run(&mut self) -> Result<(), Fault> {
        let mut failures = Failures::default();
        let shutdown = self.drain.shutdown.clone();
        // One listener for the slot's whole life: making one costs more than asking it.
        let mut requested = pin!(shutdown.requested().fuse());
        // Whoever asks again when that has ended is told again.
        let mut ending = pin!(poll_fn(|cx| match shutdown.requested_at() {
            Some(_) => Poll::Ready(()),
            None => requested.as_mut().poll(cx),
        }));
        loop {
            let asked = Instant::now();
            let Some(next) = self.next_event(ending.as_mut()).await else {
                return Ok(());
            };
            let done = match next {
                Ok(received) => {
                    let settled_by = received.invocation.deadline.settled_by();
                    let handled = self.handle(received, ending.as_mut()).await;
                    handled.map_err(|error| Failed {
                        error,
                        lasted: Duration::ZERO,
                        settled_by: Some(settled_by),
                    })
                }
                Err(error) => Err(Failed {
                    error,
                    lasted: asked.elapsed(),
                    settled_by: self.api.owing().map(|owed| owed.deadline.settled_by()),
                }),
            };
            match done {
                Ok(()) => failures = Failures::default(),
                Err(failed) => {
                    let pausing = self.back_off(failed, &mut failures, ending.as_mut());
                    pausing.await?;
                }
            }
        }
    }

    /// Waits for the next event; for none if the environment is to end.
    async fn next_event(
        &mut self,
        ending: impl Future<Output = ()>,
    ) -> Option<Result<Received, Error>> {
        let (shutdown, grace) = (&self.drain.shutdown, self.drain.grace());
        if shutdown.requested_at().is_some() {
            return None;
        }
        let waiting = self.api.waiting();
        let ending = async {
            ending.await;
            waiting.ask_no_more();
        };
        let is_coming = |is_early| waiting.has_begun() || (is_early && waiting.is_half_closed());
        let a_moment = async { sleep(self.drain.moment()).await };
        let out_of_time = shutdown.over(grace);
        let asking = self.api.next();
        match unless_ending(asking, ending, is_coming, a_moment, out_of_time).await {
            // As most servers do when they hear that.
            Some(Err(Error::Cut(_))) if waiting.asks_no_more() => None,
            asked => asked,
        }
    }

    /// Waits for a while before the next attempt, unless the environment is to end, or says why there is to be
    /// none.
    async fn back_off(
        &self,
        failed: Failed,
        failures: &mut Failures,
        ending: impl Future<Output = ()>,
    ) -> Result<(), Fault> {
        let error = failed.error;
        let pause = failures.add(&error, failed.lasted)?;
        let now = Instant::now();
        let left = (failed.settled_by).map(|by| by.saturating_duration_since(now));
        let pause = pause_within(left, pause, failures.count());
        if pause.is_zero() && matches!(error, Error::Cut(_)) {
            tracing::debug!("the wait for an event was cut: {error}");
            return Ok(());
        }
        line_for!(
            self.api.owing(),
            warn,
            failures = failures.count(),
            "{error}"
        );
        unless(ending, sleep(pause)).await;
        Ok(())
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
        let (drain, instances) = (&self.drain, &self.function.instances);
        let mut out_of_time = pin!(maybe_done(async {
            drain.out_of_time(ending).await;
            // What is cut short retires its instance, and the successor would take from the time in which answers
            // are posted.
            instances.build_no_more();
        }));
        // Pinned where it is made, here and below: it is large, and would be moved several times.
        let mut handled = {
            let (environment, ending) = (&self.environment, out_of_time.as_mut());
            let handling = pin!(environment.handle_until(ending, &self.function, None, invocation));
            handling.await
        };
        let answer = handled.take_answer();
        let answering = Answering {
            api: &mut self.api,
            receipt,
            handled,
            freezes: self.environment.freezes,
        };
        match answer {
            Ok(Answer::Streamed(streamed)) => answering.stream(streamed, out_of_time).await,
            Ok(Answer::Whole(bytes)) => answering.post(Ok(bytes), out_of_time).await,
            Err(fault) => answering.post(Err(fault), out_of_time).await,
        }
    }
}

/// An invocation whose answer is to be sent.
struct Answering<'a> {
    api: &'a mut RuntimeApi,
    receipt: Receipt,
    handled: Handled,
    freezes: bool,
}

impl Answering<'_> {
    /// Sends an answer as it comes to be; at the end of the time that there is for it, the error that ends it.
    async fn stream(
        self,
        streamed: Streamed,
        mut out_of_time: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), Error> {
        let sent = {
            let (cut, cutting) = oneshot::channel();
            let streamed = cuttable(streamed, cutting);
            let slot = slot_after(&self.handled);
            let mut sending = pin!(self.api.stream(&self.receipt, streamed, slot));
            match unless(out_of_time.as_mut(), sending.as_mut()).await {
                Some(sent) => sent,
                None => {
                    let fault = cut_short();
                    report(&fault, self.handled.output.account());
                    let _ = cut.send(fault);
                    // First: where nobody reads, there may be no time left behind the rest.
                    drop(self.handled);
                    return sending.await;
                }
            }
        };
        self.conclude(sent, out_of_time).await
    }

    /// Posts a whole answer, for which there is all of the drain's time: at the end of the time that its invocation
    /// has, that is settled first.
    async fn post(
        self,
        answer: WholeAnswer,
        mut out_of_time: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), Error> {
        let posted = {
            let slot = slot_after(&self.handled);
            let mut posting = pin!(self.api.answer(&self.receipt, answer, slot));
            match unless(out_of_time.as_mut(), posting.as_mut()).await {
                Some(posted) => posted,
                None => {
                    unless(out_of_time, settled(self.handled, self.freezes)).await;
                    return posting.await;
                }
            }
        };
        self.conclude(posted, out_of_time).await
    }

    /// Does what is left to do when an answer has been sent, with this outcome.
    async fn conclude(
        self,
        posted: Result<(), Error>,
        mut out_of_time: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), Error> {
        let posting = self.api.post_again(posted, slot_after(&self.handled));
        // Behind the work that goes on there may be no time left for it.
        let posted = unless(out_of_time.as_mut(), posting).await;
        let posted = posted.unwrap_or(Ok(()));
        // The end of the process waits for no work, only for what has to be made clean.
        if matches!(posted, Err(Error::Fatal(_))) {
            drop(self.handled);
            return posted;
        }
        // What a drain gives up here is made clean by the environment's end.
        let settled = pin!(settled(self.handled, self.freezes));
        unless(out_of_time, settled).await;
        posted
    }
}

/// What becomes of the slot with the answer.
fn slot_after(handled: &Handled) -> SlotAfter {
    match handled.awaits_after_work() {
        true => SlotAfter::Busy,
        false => SlotAfter::Free,
    }
}

/// Waits for what is to be done before the next event is asked for. What is left of an invocation that does not go
/// on is done beside that, where nothing `freezes` meanwhile.
async fn settled(handled: Handled, freezes: bool) {
    let waits = handled.awaits_after_work() || freezes;
    if let Some(settling) = handled.settle_beside()
        && waits
    {
        settling.await;
    }
}

/// How long to wait after so many failures where so much time is left until the next event is to be asked for:
/// Lambda waits for that no longer than for the answer. Who refuses all has the whole pause from then on.
fn pause_within(left: Option<Duration>, pause: Duration, failures: u32) -> Duration {
    match left {
        Some(left) if !left.is_zero() || failures == 1 => pause.min(left),
        _ => pause,
    }
}

/// A streamed answer that can be cut short.
fn cuttable(streamed: Streamed, cutting: oneshot::Receiver<Fault>) -> Streamed {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_does_not_lead_past_the_time_at_which_the_next_event_is_late() {
        let ms = Duration::from_millis;
        for (left_ms, failures, expected) in [
            (None, 1, 100),
            (Some(5_000), 1, 100),
            (Some(40), 1, 40),
            (Some(40), 2, 40),
            (Some(0), 1, 0),
            (Some(0), 2, 100),
        ] {
            let pause = pause_within(left_ms.map(ms), ms(100), failures);
            assert_eq!(pause, ms(expected), "{left_ms:?}, {failures}");
        }
    }
}
