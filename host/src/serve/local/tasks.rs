//! The tasks of all invocations, whether or not a caller waits for them.
//!
//! Promises: the drain waits for each task until its deadline, and then ends the task. A panic in one task ends no other
//! task, and the log tells of it.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, MutexGuard};

use futures_util::FutureExt as _;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::lock::lock;
use crate::serve::words_of;

/// The tasks of all invocations.
#[derive(Default)]
pub(super) struct Tasks {
    running: Mutex<JoinSet<()>>,
}

impl Tasks {
    /// Runs a task to its end, whatever becomes of the caller.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut running = self.lock();
        // Ended tasks stay in the set until they are taken out, so each new one does that for those before it.
        while running.try_join_next().is_some() {}
        // A panic drops everything that the task had. What it shares with others guards itself against that.
        running.spawn(AssertUnwindSafe(task).catch_unwind().map(|ended| {
            if let Err(panic) = ended {
                let message = words_of(&*panic).unwrap_or_default();
                tracing::error!(
                    blame = "host",
                    "an invocation's task panicked; please report it: {message}"
                );
            }
        }));
    }

    /// Waits until all tasks have ended, or until the deadline. Then ends the rest, and returns how many those were.
    pub(super) async fn finish(&self, deadline: Instant) -> usize {
        let mut running = std::mem::take(&mut *self.lock());
        let all = async { while running.join_next().await.is_some() {} };
        let _ = tokio::time::timeout_at(deadline, all).await;
        while running.try_join_next().is_some() {}
        let left = running.len();
        running.shutdown().await;
        left
    }

    fn lock(&self) -> MutexGuard<'_, JoinSet<()>> {
        lock(&self.running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn the_end_waits_for_what_runs_and_no_longer_than_its_deadline() {
        let tasks = Tasks::default();
        tasks.spawn(async {});
        tasks.spawn(tokio::time::sleep(Duration::from_millis(20)));
        tasks.spawn(std::future::pending());
        let begin = Instant::now();
        assert_eq!(tasks.finish(begin + Duration::from_millis(100)).await, 1);
        assert!(begin.elapsed() >= Duration::from_millis(100));
        assert_eq!(tasks.finish(Instant::now()).await, 0);
    }
}
