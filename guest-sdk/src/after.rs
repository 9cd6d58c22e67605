//! Work that goes on after the answer.
//!
//! Promises: what [`wait_until`] is given runs as a part of its invocation, deadline and database
//! included, and not before the answer is out of the guest; the host learns when all of it is done and
//! how it ended.
//! Left to others: when the answer goes out and what happens at the deadline, which the host decides.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::bindings::hearth::function::invocation::Blame;
use crate::bindings::{self, wit_future};
use crate::context;
use crate::failure::{self, Error};

thread_local! {
    /// The work of the invocation that is being polled, once there is any.
    static WORK: RefCell<Option<Rc<Work>>> = const { RefCell::new(None) };
}

/// Goes on with something after the answer: an entry in a log, a cache to fill, a message to send.
///
/// It begins when the handler has returned and the host has the answer, the last piece of a
/// [`Streamed`](crate::Streamed) one included: however long it computes, no caller waits for it. What is to run
/// beside the handler is for `join!` there; a handler that waits for this work waits until its deadline. What
/// the host does meanwhile is the function's setting `after_answer`:
///
/// - `"finish"`, the default: the caller has its answer; the work is finished before the function
///   gets its next event.
/// - `"suspend"`: the next event comes at once, and the work goes on while that and later ones are
///   handled. Between two events it stands still where Lambda freezes the process, as after
///   `callbackWaitsForEmptyEventLoop = false` in Node.js, and so does the time that it has.
/// - `"await"`: the caller gets its answer when the work is done, and an error if it fails.
///
/// In any case it belongs to this invocation: it has the invocation's deadline, at which it is
/// ended; it may use databases until then; and its output carries the invocation's request id.
///
/// The work returns `()`, or a `Result<(), _>` whose error is logged as a fault of the invocation; where several
/// fail, each is a line of the log at the level of a fault, and the first one is the invocation's. The
/// error of a handler goes out as an answer would, and the work is done after it. A panic ends the
/// instance, as everywhere.
///
/// ```
/// # async fn record(visitor: &str) -> Result<(), hearth::Error> { Ok(()) }
/// #[hearth::function]
/// async fn handle(visitor: String) -> Result<String, hearth::Error> {
///     let greeting = format!("Hello, {visitor}!");
///     hearth::wait_until(async move { record(&visitor).await });
///     Ok(greeting)
/// }
/// ```
///
/// # Panics
///
/// Panics outside of an invocation, for instance in what `init` names.
pub fn wait_until<C: Conclusion>(work: impl Future<Output = C> + 'static) {
    let Some(deadline_ms) = context::deadline_ms() else {
        panic!("`hearth::wait_until` was called outside of an invocation, which it belongs to");
    };
    let current = WORK.with_borrow_mut(|current| current.get_or_insert_default().clone());
    current.spawn(deadline_ms, async move { work.await.conclude() });
}

/// What work after the answer returns: `()`, or a `Result<(), _>` with any error.
#[diagnostic::on_unimplemented(
    message = "work after the answer returns `()` or a `Result<(), _>`, not `{Self}`"
)]
pub trait Conclusion {
    /// How it ended.
    #[doc(hidden)]
    fn conclude(self) -> Result<(), bindings::Failure>;
}

impl Conclusion for () {
    fn conclude(self) -> Result<(), bindings::Failure> {
        Ok(())
    }
}

impl<E: Into<Error> + 'static> Conclusion for Result<(), E> {
    fn conclude(self) -> Result<(), bindings::Failure> {
        self.map_err(failure::from_any)
    }
}

/// All that goes on beside the handler of one invocation.
#[derive(Default)]
pub struct Work {
    /// How much of it is not done.
    open: Cell<usize>,
    failure: RefCell<Option<bindings::Failure>>,
    waiting: Cell<Option<Waker>>,
    /// Whether the answer is out.
    answered: Cell<bool>,
    /// What is to begin then.
    held: RefCell<Vec<Waker>>,
}

impl Work {
    /// Does something once the answer is out.
    fn spawn(
        self: Rc<Self>,
        deadline_ms: u64,
        work: impl Future<Output = Result<(), bindings::Failure>> + 'static,
    ) {
        self.open.set(self.open.get() + 1);
        wit_bindgen::spawn_local(async move {
            self.answered().await;
            let (outcome, _) = within(deadline_ms, Some(self.clone()), work).await;
            self.end(outcome);
        });
    }

    /// Does the rest of the answer in a turn after the one in which `handle` returns, since the host has what
    /// that returned only then; and, in another one, what waits for the answer.
    pub(crate) fn follow(
        self: Rc<Self>,
        deadline_ms: u64,
        rest: impl Future<Output = ()> + 'static,
    ) {
        self.open.set(self.open.get() + 1);
        wit_bindgen::spawn_local(async move {
            turn().await;
            let ((), _) = within(deadline_ms, Some(self.clone()), rest).await;
            turn().await;
            self.answered.set(true);
            self.held.take().into_iter().for_each(Waker::wake);
            self.end(Ok(()));
        });
    }

    /// Waits until the answer is out.
    async fn answered(&self) {
        std::future::poll_fn(|cx| match self.answered.get() {
            true => Poll::Ready(()),
            false => {
                self.held.borrow_mut().push(cx.waker().clone());
                Poll::Pending
            }
        })
        .await;
    }

    /// Promises the host to tell when all is done; nothing if it is.
    pub(crate) fn announce(
        self: Rc<Self>,
    ) -> Option<wit_bindgen::FutureReader<Result<(), bindings::Failure>>> {
        if self.open.get() == 0 && self.failure.borrow().is_none() {
            return None;
        }
        let (teller, told) = wit_future::new(|| Ok(()));
        wit_bindgen::spawn_local(async move {
            let outcome = self.done().await;
            // Whether the host still wants to know makes no difference here.
            let _ = teller.write(outcome).await;
        });
        Some(told)
    }

    /// Waits until all is done, and says how it ended.
    async fn done(&self) -> Result<(), bindings::Failure> {
        std::future::poll_fn(|cx| match self.open.get() {
            0 => Poll::Ready(()),
            _ => {
                self.waiting.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        })
        .await;
        self.failure.take().map_or(Ok(()), Err)
    }

    fn end(&self, outcome: Result<(), bindings::Failure>) {
        if let Err(failure) = outcome {
            let mut first = self.failure.borrow_mut();
            match first.as_ref() {
                // The host is told of one; the log has them all.
                Some(_) => say(&failure),
                None => *first = Some(failure),
            }
        }
        self.open.set(self.open.get() - 1);
        if self.open.get() == 0
            && let Some(waker) = self.waiting.take()
        {
            waker.wake();
        }
    }
}

/// Lets the host have its turn. What wakes itself may be polled once more before that, but not twice.
async fn turn() {
    wit_bindgen::yield_async().await;
    wit_bindgen::yield_async().await;
}

/// Writes a failure that nobody else is told of, as loud as the host's own line of the first one.
fn say(failure: &bindings::Failure) {
    eprintln!("{}", line(failure));
}

fn line(failure: &bindings::Failure) -> String {
    let mut message = format!("work after the answer failed: {}", failure.message);
    for cause in failure.stack_trace.iter().rev() {
        if !message.contains(cause) {
            message = format!("{message}: {cause}");
        }
    }
    let level = match failure.blame {
        Blame::Caller => "INFO",
        Blame::Function => "ERROR",
    };
    let fault = &failure.error_type;
    serde_json::json!({ "level": level, "message": message, "fault": fault }).to_string()
}

/// Runs a part of an invocation, with the work that goes on beside it so far; returns what there
/// is of that now.
pub(crate) async fn within<F: Future>(
    deadline_ms: u64,
    mut work: Option<Rc<Work>>,
    part: F,
) -> (F::Output, Option<Rc<Work>>) {
    let mut part = pin!(context::within(deadline_ms, part));
    let output = std::future::poll_fn(|cx| {
        let outer = WORK.replace(work.take());
        let polled = part.as_mut().poll(cx);
        work = WORK.replace(outer);
        polled
    })
    .await;
    (output, work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;
    use crate::poll_ready;

    #[test]
    fn work_belongs_to_the_invocation_that_began_it() {
        let (inner, outer) = (Rc::new(Work::default()), Rc::new(Work::default()));
        let counts = (inner.clone(), outer.clone());
        let ((), _) = poll_ready(within(1, Some(outer), async {
            wait_until(async {});
            let ((), _) = within(1, Some(inner), async { wait_until(async {}) }).await;
            wait_until(async {});
        }));
        assert_eq!((counts.0.open.get(), counts.1.open.get()), (1, 2));
    }

    #[test]
    fn an_invocation_without_any_has_none() {
        let ((), work) = poll_ready(within(1, None, async {}));
        assert!(work.is_none());
    }

    #[test]
    fn all_of_it_is_waited_for_and_the_first_failure_is_the_one_that_counts() {
        let work = Work::default();
        work.open.set(3);
        let mut done = pin!(work.done());
        let mut context = std::task::Context::from_waker(Waker::noop());
        for outcome in [Ok(()), Err("one"), Err("other")] {
            assert!(done.as_mut().poll(&mut context).is_pending());
            work.end(outcome.conclude());
        }
        let failure = poll_ready(done).expect_err("two of them failed");
        assert_eq!(failure.message, "one");
    }

    #[test]
    fn each_of_the_others_is_told_as_loud_as_the_first() {
        let told = |failure: Failure| {
            serde_json::from_str::<serde_json::Value>(&line(&failure.into())).expect("it is JSON")
        };
        let failure = Failure::new("Late", "not sent\nto Ada").because("no room");
        let expected = serde_json::json!({
            "level": "ERROR", "message": "work after the answer failed: not sent\nto Ada: no room", "fault": "Late",
        });
        assert_eq!(told(failure), expected);
        assert_eq!(told(Failure::caller("Late", "x"))["level"], "INFO");
    }

    #[test]
    #[should_panic(expected = "outside of an invocation")]
    fn outside_of_an_invocation_there_is_nothing_to_wait_with() {
        wait_until(async {});
    }
}
