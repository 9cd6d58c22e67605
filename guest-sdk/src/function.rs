//! The steps of one invocation in the guest: event, handler, answer.
//!
//! What `#[hearth::function]` expands to takes them one after another, each at the place in the
//! source of the type that it is about. Nobody else should call them.

use crate::bindings;
use crate::context::Context;
use crate::event::{Answer, Event};
use crate::failure::{self, Error};

/// What a handler returns: a `Result`, whose error can be any.
#[diagnostic::on_unimplemented(
    message = "a function returns a `Result`, not `{Self}`",
    label = "this function does not return a `Result<Answer, Error>`",
    note = "`Answer` implements `serde::Serialize` or is `hearth::Raw`; `Error` is \
            `hearth::Error`, `hearth::Failure` or anything that converts into `hearth::Error`"
)]
pub trait Outcome {
    /// The answer's bytes, or the failure.
    fn into_answer(self) -> Result<Vec<u8>, bindings::Failure>;
}

impl<U: Answer, E: Into<Error> + 'static> Outcome for Result<U, E> {
    fn into_answer(self) -> Result<Vec<u8>, bindings::Failure> {
        match self {
            Ok(answer) => Ok(answer.encode()?),
            Err(error) => Err(failure::from_any(error)),
        }
    }
}

/// Reads the event.
pub fn decode<T: Event>(event: Vec<u8>) -> Result<T, bindings::Failure> {
    Ok(T::decode(event)?)
}

/// Wraps what is known about the invocation.
pub fn context(context: bindings::Context) -> Context {
    Context::new(context)
}

/// Runs the function, for an invocation with this deadline.
pub async fn run<F: Future>(deadline_ms: u64, handler: F) -> F::Output {
    crate::context::within(deadline_ms, handler).await
}

/// Writes the answer or the failure.
pub fn answer<O: Outcome>(outcome: O) -> Result<Vec<u8>, bindings::Failure> {
    outcome.into_answer()
}

/// Runs what `init = …` names.
pub async fn init<F, E>(warm_up: impl FnOnce() -> F) -> Result<(), bindings::Failure>
where
    F: Future<Output = Result<(), E>>,
    E: Into<Error> + 'static,
{
    warm_up().await.map_err(failure::from_any)
}

/// Stands for the exports of a component where there are none.
pub fn exported<G: bindings::Guest>() {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Failure, poll_ready};

    #[test]
    fn an_outcome_is_an_answer_or_a_failure() {
        assert_eq!(answer(Ok::<_, &str>([1, 2])).expect("it is one"), b"[1,2]");

        let failure = answer(Err::<(), _>("no model")).expect_err("it is none");
        assert_eq!(failure.error_type, "Function.Error");

        let failure = answer(Err::<(), _>(Failure::new("Empty", "nothing is there")));
        assert_eq!(failure.expect_err("it is none").error_type, "Empty");
    }

    #[test]
    fn an_event_that_cannot_be_read_is_a_failure() {
        let failure = decode::<Vec<u64>>(b"{".to_vec()).expect_err("it is not JSON");
        assert_eq!(failure.error_type, "Function.InvalidEvent");
    }

    #[test]
    fn init_may_fail() {
        let failure = poll_ready(init(|| async { Err("no model") })).expect_err("it failed");
        assert_eq!(failure.message, "no model");
    }
}
