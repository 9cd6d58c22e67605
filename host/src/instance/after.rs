//! What is left of an invocation in its instance when its answer is out.
//!
//! Promises: the guest's task keeps its session, its deadline and its output until it is done, and
//! whoever waits for that is told.

use std::future::{pending, poll_fn};
use std::sync::Arc;

use tokio::sync::mpsc;
use wasmtime::component::{Accessor, AccessorTask, GuestTaskId};

use super::Job;
use super::answered::Course;
use super::state::State;
use super::waiting::Waiting;
use crate::database::session::Session;

/// An invocation whose answer is out.
pub(super) struct After {
    pub(super) waiting: Arc<Waiting>,
    pub(super) number: u64,
    pub(super) task: GuestTaskId,
    pub(super) session: Arc<Session>,
    pub(super) course: Course,
    /// Whether it is done only when nothing in the instance runs any more.
    pub(super) alone: bool,
}

impl After {
    /// Waits until the answer's body is written, or nobody reads it any more.
    pub(super) async fn written(&mut self) {
        let (end, unread) = (self.course.end.take(), self.course.unread.take());
        let Some(mut end) = end else { return };
        let unread = async {
            match unread {
                // It is never sent anything, only dropped.
                Some(unread) => drop(unread.await),
                None => pending().await,
            }
        };
        let outcome = tokio::select! {
            biased;
            outcome = &mut end => outcome,
            () = unread => {
                self.course.end = Some(end);
                return;
            }
        };
        if let Ok(outcome) = outcome {
            self.waiting.end_body(self.number, outcome);
        }
    }

    /// The guest's task does nothing more for this invocation.
    pub(super) fn leave(&self, accessor: &Accessor<State>) {
        accessor.with(|mut access| access.data_mut().leave(self.task, &self.session));
    }
}

impl AccessorTask<State> for After {
    /// Waits until all is done, and tells so.
    async fn run(mut self, accessor: &Accessor<State>) -> wasmtime::Result<()> {
        if let Some(end) = self.course.end.take()
            && let Ok(outcome) = end.await
        {
            self.waiting.end_body(self.number, outcome);
        }
        let outcome = match self.course.after.take() {
            // The guest's end is dropped unsent only with the store, and then this task is dropped too.
            Some(after) => after.await.unwrap_or(Ok(())),
            None => Ok(()),
        };
        if self.alone {
            idle(accessor).await;
        }
        self.leave(accessor);
        self.waiting.end(self.number, outcome);
        Ok(())
    }
}

/// Lets suspended work go on until the next invocation comes or no such work is left.
pub(super) async fn run_suspended(
    accessor: &Accessor<State>,
    jobs: &mut mpsc::UnboundedReceiver<Job>,
) -> Option<Job> {
    loop {
        let job = tokio::select! {
            biased;
            job = jobs.recv() => job?,
            () = emptied(accessor) => return None,
        };
        if job.is_wanted() {
            return Some(job);
        }
    }
}

/// Waits until nothing is left of any invocation.
async fn emptied(accessor: &Accessor<State>) {
    poll_fn(|cx| accessor.with(|mut access| access.data_mut().poll_emptied(cx))).await;
}

/// Waits until no task of the guest is left, and whoever waits for one has been told.
pub(super) async fn finished(accessor: &Accessor<State>) {
    idle(accessor).await;
    emptied(accessor).await;
}

/// Waits until no task of the guest is left.
async fn idle(accessor: &Accessor<State>) {
    poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
}
