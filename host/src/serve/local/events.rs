//! Events for which nobody waits.
//!
//! Promises: each is tried up to three times, as on Lambda, but after [`limits::EVENT_RETRY_DELAYS`] instead of
//! one and two minutes, because someone sits in front of this host and wants to see it; it waits for an instance
//! as long as the host serves. A drain gives up events that wait, for an instance or for their next attempt, and
//! the log says so.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::invoke::Call;
use super::{Host, closed};
use crate::event::local::{ErrorType, Refusal};
use crate::fault::{Fault, Kind};
use crate::instance::pool::Lease;
use crate::invocation::{Deadline, Invocation};
use crate::limits;
use crate::serve::Function;
use crate::serve::function::built;
use crate::telemetry::line_for;

/// Why an event is given up at the end of the host.
const CLOSING: &str = "the host is closing";

/// Takes an event for which nobody waits.
pub(super) fn accept(host: &Arc<Host>, call: Call) -> Result<(), Refusal> {
    let permit = Arc::clone(&host.events).try_acquire_owned().map_err(|_| {
        Refusal::new(
            ErrorType::TooManyRequests,
            "Too many events are waiting to be handled.",
        )
    })?;
    let shared = Arc::clone(host);
    host.tasks.spawn(async move {
        attempts(&shared, &call).await;
        drop(permit);
    });
    Ok(())
}

async fn attempts(host: &Host, call: &Call) {
    let function = &*call.function;
    let mut delays = limits::EVENT_RETRY_DELAYS.iter();
    let mut failed: Option<Fault> = None;
    loop {
        let lease = lease(host, function).await;
        // The request id stays the same, by which a function can tell that it is a retry.
        let deadline = Deadline::after(function.timeout());
        let invocation = call.invocation(deadline);
        let Some(lease) = lease else {
            return log_given_up(function, &invocation, failed.as_ref(), CLOSING);
        };
        let handling = (host.environment).handle(lease, function, invocation.clone());
        let mut handled = handling.await;
        let fault = handled.collect().await.err();
        handled.settle().await;
        let Some(fault) = fault else {
            return;
        };
        let Some(delay) = delay(&fault, &mut delays) else {
            let reason = "it failed three times";
            return log_given_up(function, &invocation, Some(&fault), reason);
        };
        let waiting = tokio::time::sleep(delay);
        if unless_closed(&host.closing, waiting).await.is_none() {
            return log_given_up(function, &invocation, Some(&fault), CLOSING);
        }
        failed = Some(fault);
    }
}

/// An instance for an event, when it is its turn, that stands; none if the host is closing by then.
async fn lease(host: &Host, function: &Function) -> Option<Lease> {
    let lease = {
        // Callers stand in the same line for a while only: one event of a function is in it at a time.
        let in_turn = host.turns[function.name()].lock();
        let _turn = unless_closed(&host.closing, in_turn).await?;
        let leasing = function.lease(pending());
        unless_closed(&host.closing, leasing).await?.ok()?
    };
    unless_closed(&host.closing, built(&lease)).await?;
    Some(lease)
}

/// What comes of this, unless the host is closing: by then nothing is to begin any more.
async fn unless_closed<T>(
    closing: &watch::Receiver<bool>,
    waiting: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        () = closed(closing.clone()) => None,
        done = waiting => Some(done),
    }
}

/// How long an event waits after this fault, unless that was its last attempt. One whose instance ended before
/// it had begun, and for which there was no other by then, was none.
fn delay<'a>(fault: &Fault, left: &mut impl Iterator<Item = &'a Duration>) -> Option<Duration> {
    match fault.kind {
        Kind::Busy => Some(limits::EVENT_RETRY_DELAYS[0]),
        _ => left.next().copied(),
    }
}

/// Tells of an event that is given up, with the fault by which it has failed, if it was begun.
fn log_given_up(function: &Function, invocation: &Invocation, fault: Option<&Fault>, reason: &str) {
    let function = function.name();
    let error = fault.map(|fault| fault.error_type.as_str());
    line_for!(
        Some(invocation),
        error,
        function,
        error,
        "an event was given up: {reason}"
    );
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    /// Often enough that chance would show.
    #[tokio::test]
    async fn what_could_begin_does_not_when_the_host_is_closing() {
        let (close, closing) = watch::channel(false);
        assert_eq!(unless_closed(&closing, ready(1)).await, Some(1));
        close.send_replace(true);
        for _ in 0..64 {
            assert_eq!(unless_closed(&closing, ready(1)).await, None);
        }
    }

    #[test]
    fn what_found_no_instance_is_no_attempt_at_an_event() {
        let (busy, failed) = (Fault::new(Kind::Busy, "x"), Fault::new(Kind::Failed, "x"));
        let mut left = limits::EVENT_RETRY_DELAYS.iter();
        for expected in limits::EVENT_RETRY_DELAYS {
            for _ in 0..8 {
                assert!(delay(&busy, &mut left).is_some());
            }
            assert_eq!(delay(&failed, &mut left), Some(expected));
        }
        assert!(delay(&busy, &mut left).is_some());
        assert_eq!(delay(&failed, &mut left), None);
    }
}
