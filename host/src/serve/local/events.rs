//! Asynchronous events: those for which no caller waits.
//!
//! Promises: each event is tried up to three times, as on Lambda. The pauses between the attempts are
//! [`limits::EVENT_RETRY_DELAYS`] instead of one and two minutes, because someone sits in front of this host and wants to
//! see the retry. An event waits for an instance as long as the host serves. A drain gives up the events that wait, for
//! an instance or for their next attempt, and the log says so.

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

/// Why an event is given up when the host ends.
const CLOSING: &str = "the host is closing";

/// Takes the event of an asynchronous call, if there are not too many already.
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
        // Each attempt has the same request id, by which a function can recognise a retry.
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

/// Waits for an instance for an event until it is built, or for as long as a start may take. None if the host closes
/// meanwhile.
async fn lease(host: &Host, function: &Function) -> Option<Lease> {
    let lease = {
        // One event of a function waits for an instance at a time. Callers wait in the same line, and only for a while:
        // many events before them would use that up.
        let in_turn = host.turns[function.name()].lock();
        let _turn = unless_closed(&host.closing, in_turn).await?;
        let leasing = function.lease(pending());
        unless_closed(&host.closing, leasing).await?.ok()?
    };
    unless_closed(&host.closing, built(&lease)).await?;
    Some(lease)
}

/// The result of a future, or None if the host is closing: then nothing is to begin any more.
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

/// How long an event waits after this fault for its next attempt. None if this was the last one. An event that found no
/// instance, since its own ended before the event had begun, has used up no attempt.
fn delay<'a>(fault: &Fault, left: &mut impl Iterator<Item = &'a Duration>) -> Option<Duration> {
    match fault.kind {
        Kind::Busy => Some(limits::EVENT_RETRY_DELAYS[0]),
        _ => left.next().copied(),
    }
}

/// Logs that an event is given up. `fault` is that of its last attempt, if there was one.
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

    /// `select!` without an order would choose by chance, and be wrong in one of so many tries.
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
