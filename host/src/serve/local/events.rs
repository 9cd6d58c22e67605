//! Events for which nobody waits.
//!
//! Promises: each is tried up to three times, as on Lambda, but after [`limits::EVENT_RETRY_DELAYS`] instead of
//! one and two minutes, because someone sits in front of this host and wants to see it; it waits for an instance
//! as long as the host serves. A drain gives up events that wait, for an instance or for their next attempt, and
//! the log says so.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Host, closed};
use crate::event::local::{ErrorType, Invoke, Refusal};
use crate::fault::{Fault, Kind};
use crate::invocation::{Deadline, Invocation};
use crate::limits;
use crate::serve::Function;
use crate::telemetry::line_for;

/// Why an event is given up at the end of the host.
const CLOSING: &str = "the host is closing";

/// Takes an event for which nobody waits.
pub(super) fn accept(
    host: &Arc<Host>,
    function: Arc<Function>,
    invoke: Invoke,
    request_id: String,
    event: Bytes,
) -> Result<(), Refusal> {
    let permit = Arc::clone(&host.events).try_acquire_owned().map_err(|_| {
        Refusal::new(
            ErrorType::TooManyRequests,
            "Too many events are waiting to be handled.",
        )
    })?;
    let shared = Arc::clone(host);
    host.tasks.spawn(async move {
        attempts(&shared, &function, &invoke, &request_id, event).await;
        drop(permit);
    });
    Ok(())
}

async fn attempts(
    host: &Host,
    function: &Arc<Function>,
    invoke: &Invoke,
    request_id: &str,
    event: Bytes,
) {
    let mut delays = limits::EVENT_RETRY_DELAYS.iter();
    loop {
        let leased = {
            // Callers stand in the same line for a while only: one event of a function is in it at a time.
            let in_turn = host.turns[function.name()].lock();
            let _turn = unless_closed(host, in_turn).await;
            function.lease(closed(host.closing.clone())).await
        };
        // The request id stays the same, by which a function can tell that it is a retry.
        let deadline = Deadline::after(function.timeout());
        let invocation = invoke.invocation(request_id, event.clone(), deadline);
        let lease = match leased {
            Ok(lease) => lease,
            Err(fault) => return log_given_up(function, &invocation, &fault, CLOSING),
        };
        let handling = (host.environment).handle_in(lease, function, invocation.clone());
        let mut handled = handling.await;
        let fault = handled.collect().await.err();
        handled.settle().await;
        let Some(fault) = fault else {
            return;
        };
        let Some(delay) = delay(&fault, &mut delays) else {
            return log_given_up(function, &invocation, &fault, "it failed three times");
        };
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = closed(host.closing.clone()) => {
                return log_given_up(function, &invocation, &fault, CLOSING);
            }
        }
    }
}

/// What comes of this, unless the host is closing.
async fn unless_closed<F: Future>(host: &Host, waiting: F) -> Option<F::Output> {
    tokio::select! {
        done = waiting => Some(done),
        () = closed(host.closing.clone()) => None,
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

fn log_given_up(function: &Function, invocation: &Invocation, fault: &Fault, reason: &str) {
    let (function, error) = (function.name(), fault.error_type.as_str());
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
    use super::*;

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
