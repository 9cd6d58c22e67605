//! How far an instance is on its way to its end.
//!
//! Promises: an instance never goes back to an earlier stage; whoever waits for a stage hears of the later ones too.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Poll;

use futures_util::task::AtomicWaker;

/// A stage in an instance's life. Each one has all that the earlier ones have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It takes invocations, also while it is still being built.
    InUse,
    /// It takes no new invocations. Those that are in it go on.
    Retired,
    /// No invocation is in it either. Work that earlier ones have left goes on.
    WindingDown,
    /// It ends now, wherever its guest is.
    Condemned,
}

/// The stage of one instance.
pub(super) struct Lifecycle {
    reached: AtomicU8,
    /// Wakes the keeper once there is something for it to do about the stage.
    keeper: AtomicWaker,
}

impl Lifecycle {
    /// That of a new instance.
    pub(super) fn new() -> Self {
        Self {
            reached: AtomicU8::new(Stage::InUse as u8),
            keeper: AtomicWaker::new(),
        }
    }

    /// The instance comes to this stage, unless it is behind that already.
    pub(super) fn reach(&self, stage: Stage) {
        self.reached.fetch_max(stage as u8, Ordering::SeqCst);
        // Whether an instance takes new invocations is the pool's business alone.
        if stage > Stage::Retired {
            self.keeper.wake();
        }
    }

    /// Whether the instance has come to this stage.
    pub(super) fn has_reached(&self, stage: Stage) -> bool {
        self.reached.load(Ordering::SeqCst) >= stage as u8
    }

    /// Waits until the instance has come to this stage. Only the keeper waits, and it asks each time it wakes, so this
    /// has to be cheap.
    pub(super) async fn reached(&self, stage: Stage) {
        poll_fn(|cx| {
            // Registered before the look, since the stage may be reached between the two.
            self.keeper.register(cx.waker());
            match self.has_reached(stage) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stage_that_was_skipped_counts_as_reached_and_none_is_gone_back_to() {
        let lifecycle = Lifecycle::new();
        assert!(!lifecycle.has_reached(Stage::Retired));
        let (lifecycle, ()) = tokio::join!(
            async {
                lifecycle.reached(Stage::WindingDown).await;
                &lifecycle
            },
            async { lifecycle.reach(Stage::Condemned) }
        );
        lifecycle.reach(Stage::Retired);
        assert!(lifecycle.has_reached(Stage::Condemned));
    }
}
