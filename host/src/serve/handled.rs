//! An invocation between its answer and its end.
//!
//! Promises: its session ends when its work after the answer has ended, or when it is given up before that;
//! clean-up that is not done shortly before the deadline goes on in the background, and the next event does not
//! wait for it.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::Either;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::after::{AfterWork, Suspension};
use super::report;
use crate::database::session::Session;
use crate::fault::Fault;
use crate::invocation::{Answer, WholeAnswer};
use crate::telemetry::{Account, Output, line_of};

/// An invocation that has its answer, but whose loans are still out.
pub struct Handled {
    /// What the caller gets, until it is taken.
    pub(super) answer: Result<Answer, Fault>,
    /// What goes on after that.
    pub(super) after_work: Option<PendingAfterWork>,
    pub(super) output: Arc<Output>,
    pub(super) ending: SessionEnd,
}

/// Work that goes on after an answer.
pub(super) struct PendingAfterWork {
    pub(super) work: AfterWork,
    /// Its tie to the environment's end, if it goes on beside later invocations.
    pub(super) suspension: Option<Suspension>,
}

/// Ends an invocation's session, also when the invocation is given up.
pub(super) struct SessionEnd {
    session: Option<Arc<Session>>,
    endings: TaskTracker,
    /// Has the environment's end wait for it.
    _token: TaskTrackerToken,
}

impl Handled {
    /// What the guest writes.
    pub fn output(&self) -> Arc<Output> {
        self.output.clone()
    }

    /// The whole answer, for a caller who does not take it as a stream.
    pub async fn collect(&mut self) -> WholeAnswer {
        self.take_answer()?.collect().await
    }

    /// What the caller gets; an empty answer when it was taken before.
    pub fn take_answer(&mut self) -> Result<Answer, Fault> {
        std::mem::replace(&mut self.answer, Ok(Answer::Whole(Bytes::new())))
    }

    /// Whether there is work after the answer that the next event is to wait for.
    pub fn awaits_after_work(&self) -> bool {
        self.after_work
            .as_ref()
            .is_some_and(|pending| pending.suspension.is_none())
    }

    /// Waits for the work after the answer, then makes clean and gives back what the invocation has
    /// borrowed. To be called when the answer is out. Work that is suspended is not waited for.
    pub async fn settle(self) {
        if let Some(settling) = self.settle_beside() {
            settling.await;
        }
    }

    /// The same, as far as it can be done without waiting. Returns a future for the rest, if there is any.
    pub fn settle_beside(mut self) -> Option<impl Future<Output = ()> + Send + use<>> {
        self.output.account().answered();
        let Some(pending) = self.after_work.take() else {
            return self.ending.end().map(Either::Left);
        };
        let Some(suspension) = pending.suspension else {
            let output = self.output.clone();
            let working = pending.work.finish();
            let working = working.inspect(move |_| output.account().worked());
            return Some(Either::Right(self.conclude(working)));
        };
        let suspended_work = pending.work.suspend(suspension);
        let endings = self.ending.endings.clone();
        endings.spawn(self.conclude(suspended_work.finish()));
        None
    }

    /// Waits for the end of the work, and then does what is left.
    async fn conclude(mut self, working: impl Future<Output = Result<(), Fault>>) {
        let mut given_up = GivenUp(Some(self.output.clone()));
        let outcome = working.await;
        given_up.0 = None;
        self.output.finish();
        if let Err(fault) = outcome {
            report(&fault, self.output.account());
        }
        if let Some(ending) = self.ending.end() {
            ending.await;
        }
    }
}

/// Tells of work that is not waited for any more, as at the end of the environment.
struct GivenUp(Option<Arc<Output>>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        if let Some(output) = &self.0 {
            output.finish();
            log_given_up(output.account());
        }
    }
}

/// At `info`, since that is nobody's fault.
pub(super) fn log_given_up(account: &Account) {
    line_of!(
        account,
        info,
        "work after an answer is given up with the environment"
    );
}

impl SessionEnd {
    pub(super) fn new(session: Arc<Session>, endings: TaskTracker) -> Self {
        Self {
            session: Some(session),
            _token: endings.token(),
            endings,
        }
    }

    /// Ends the session. If that is not done at once, returns a future that waits for it, as long as there is
    /// time before the deadline.
    fn end(&mut self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let session = self.session.take()?;
        let settling = session.end_beside();
        if settling.is_none() && !session.account().is_observed() {
            return None;
        }
        let until = session.deadline().settled_by();
        let ended = self.endings.spawn(close(session, settling));
        Some(async move {
            let _ = tokio::time::timeout_at(until.into(), ended).await;
        })
    }
}

/// Waits until a session has ended, after which nothing is left of its invocation.
async fn close(session: Arc<Session>, settling: Option<impl Future<Output = ()>>) {
    if let Some(settling) = settling {
        settling.await;
    }
    let until = session.deadline().settled_by();
    session.account().close(until).await;
}

impl Drop for SessionEnd {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.endings.spawn(async move {
                let settling = session.end_beside();
                close(session, settling).await;
            });
        }
    }
}
