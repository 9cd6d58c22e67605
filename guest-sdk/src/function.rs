//! One invocation in the guest: bytes, event, handler, answer, bytes.
//!
//! What `#[hearth::function]` expands to calls these; nobody else should.

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

/// Handles one event. The handler does not run if the event cannot be read.
pub async fn handle<T, F, O>(
    event: Vec<u8>,
    context: bindings::Context,
    handler: impl FnOnce(T, Context) -> F,
) -> Result<Vec<u8>, bindings::Failure>
where
    T: Event,
    F: Future<Output = O>,
    O: Outcome,
{
    let event = T::decode(event)?;
    handler(event, Context::new(context)).await.into_answer()
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
    use crate::context::tests::context;
    use crate::poll_ready;
    use crate::{Failure, Raw};

    #[test]
    fn a_handler_gets_its_event_and_gives_its_answer() {
        let answer = poll_ready(handle(
            b"[1, 2]".to_vec(),
            context(0),
            |event: Vec<u64>, cx| async move {
                Ok::<_, &str>(format!("{} {}", event.iter().sum::<u64>(), cx.request_id()))
            },
        ));
        assert_eq!(answer.expect("it answers"), b"\"3 8f2c\"");
    }

    #[test]
    fn a_handler_does_not_run_without_its_event() {
        let mut ran = false;
        let failure = poll_ready(handle(b"{".to_vec(), context(0), |_: Vec<u64>, _| {
            ran = true;
            async { Ok::<_, Failure>(Raw::default()) }
        }))
        .expect_err("it is not JSON");
        assert_eq!(failure.error_type, "Function.InvalidEvent");
        assert!(!ran);
    }

    #[test]
    fn init_may_fail() {
        let failure = poll_ready(init(|| async { Err("no model") })).expect_err("it failed");
        assert_eq!(failure.message, "no model");
    }
}
