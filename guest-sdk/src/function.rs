//! The steps of one invocation in the guest: event, handler, answer.
//!
//! What `#[hearth::function]` expands to takes them one after another, each at the place in the
//! source of the type that it is about. Nobody else should call them.

use std::rc::Rc;

use crate::after::{self, Work};
use crate::bindings;
use crate::bindings::hearth::function::invocation::{Body, Verdict};
use crate::context::{self, Context};
use crate::event::{Answer, Content, Encoded, Event};
use crate::failure::{self, Error};

/// What a handler returns: a `Result`, whose error can be any.
#[diagnostic::on_unimplemented(
    message = "a function returns a `Result`, not `{Self}`",
    label = "this function does not return a `Result<Answer, Error>`",
    note = "`Answer` implements `serde::Serialize` or is `hearth::Raw`; `Error` is \
            `hearth::Error`, `hearth::Failure` or anything that converts into `hearth::Error`"
)]
pub trait Outcome {
    /// The answer, or the failure.
    fn into_answer(self) -> Result<Encoded, bindings::Failure>;
}

impl<U: Answer, E: Into<Error> + 'static> Outcome for Result<U, E> {
    fn into_answer(self) -> Result<Encoded, bindings::Failure> {
        match self {
            Ok(answer) => Ok(answer.encode()?),
            Err(error) => Err(failure::from_any(error)),
        }
    }
}

/// What the host is told.
pub type Answered = Result<bindings::Answer, bindings::Failure>;

/// Reads the event.
pub fn decode<T: Event>(event: Vec<u8>) -> Result<T, bindings::Failure> {
    let decoded = T::decode(event);
    context::hand_over_output();
    Ok(decoded?)
}

/// Wraps what is known about the invocation.
pub fn context(context: bindings::Context) -> Context {
    Context::new(context)
}

/// Runs the function, for an invocation with this deadline, and returns what goes on beside it.
pub async fn run<F: Future>(deadline_ms: u64, handler: F) -> (F::Output, Option<Rc<Work>>) {
    after::within(deadline_ms, None, handler).await
}

/// Hands over the answer or the failure, and what goes on after it.
pub fn answer<O: Outcome>(outcome: O, deadline_ms: u64, work: Option<Rc<Work>>) -> Answered {
    let outcome = outcome.into_answer();
    context::hand_over_output();
    let (head, content) = match outcome {
        Ok(encoded) => (encoded.head, Ok(encoded.content)),
        Err(failure) => (None, Err(failure)),
    };
    let whole = |body, work: Option<Rc<Work>>| {
        if let Some(work) = &work {
            work.clone().follow(deadline_ms, async {});
        }
        (body, work)
    };
    let (body, work) = match content {
        Err(failure) if work.is_none() => return Err(failure),
        Err(failure) => whole(Body::Failed(failure), work),
        Ok(Content::Whole(bytes)) => whole(Body::Whole(bytes), work),
        Ok(Content::Streamed(streamed)) => {
            let work = work.unwrap_or_default();
            let streamed = streamed.start(deadline_ms, work.clone());
            (Body::Streamed(streamed), Some(work))
        }
    };
    Ok(bindings::Answer {
        head,
        body,
        after: work.and_then(Work::announce),
    })
}

/// What a hook returns: a future of a `Result`, whose error can be any.
#[diagnostic::on_unimplemented(
    message = "a hook is an `async fn` that returns a `Result<(), Error>`, and this one returns `{Self}`",
    label = "this hook is not an `async fn() -> Result<(), Error>`",
    note = "`Error` is `hearth::Error`, `hearth::Failure` or anything that converts into `hearth::Error`"
)]
pub trait Hook {
    /// Runs it.
    fn run(self) -> impl Future<Output = Result<(), bindings::Failure>>;
}

impl<F, E> Hook for F
where
    F: Future<Output = Result<(), E>>,
    E: Into<Error> + 'static,
{
    async fn run(self) -> Result<(), bindings::Failure> {
        self.await.map_err(failure::from_any)
    }
}

/// Runs what `init = …` or `snapshot = …` names.
pub async fn hook<H: Hook>(named: impl FnOnce() -> H) -> Result<(), bindings::Failure> {
    let outcome = named().run().await;
    context::hand_over_output();
    outcome
}

/// Runs what `restored = …` names, after which the instance may be kept.
pub async fn restored<H: Hook>(named: impl FnOnce() -> H) -> Result<Verdict, bindings::Failure> {
    hook(named).await.map(|()| Verdict::Keep)
}

/// Stands for the exports of a component where there are none.
pub fn exported<G: bindings::Guest>() {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Failure, poll_ready};

    fn answered<O: Outcome>(outcome: O) -> Answered {
        answer(outcome, 1, None)
    }

    #[test]
    fn an_outcome_is_an_answer_or_a_failure() {
        let whole = answered(Ok::<_, &str>([1, 2])).expect("it is one");
        assert!(matches!(whole.body, Body::Whole(bytes) if bytes == b"[1,2]"));
        assert!(whole.head.is_none() && whole.after.is_none());

        let failure = answered(Err::<(), _>("no model")).expect_err("it is none");
        assert_eq!(failure.error_type, "Function.Error");

        let failure = answered(Err::<(), _>(Failure::new("Empty", "nothing is there")));
        assert_eq!(failure.expect_err("it is none").error_type, "Empty");
    }

    #[test]
    fn an_event_that_cannot_be_read_is_a_failure() {
        let failure = decode::<Vec<u64>>(b"{".to_vec()).expect_err("it is not JSON");
        assert_eq!(failure.error_type, "Function.InvalidEvent");
    }

    #[test]
    fn a_hook_may_fail() {
        let failure = poll_ready(hook(|| async { Err("no model") })).expect_err("it failed");
        assert_eq!(failure.message, "no model");
        let failure = poll_ready(restored(|| async { Err("no seed") })).expect_err("it failed");
        assert_eq!(failure.message, "no seed");
    }

    #[test]
    fn an_instance_whose_hook_went_well_is_kept() {
        let verdict = poll_ready(restored(|| async { Ok::<_, Error>(()) })).expect("it went well");
        assert_eq!(verdict, Verdict::Keep);
    }
}
