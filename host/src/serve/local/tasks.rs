//! The invocations that run, whoever waits for them.
//!
//! Promises: what has begun is waited for until the drain's deadline, and then ended; a panic
//! in one ends that one alone, and the log says so.

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
    /// Runs this to its end, independent of the caller.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut running = self.lock();
        // Here, because ended tasks stay in the set until they are looked at.
        while running.try_join_next().is_some() {}
        // The panic is unwound past everything the task had; what others share guards itself.
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

    /// Waits until all have ended or the deadline is there; ends the rest and says how many.
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
