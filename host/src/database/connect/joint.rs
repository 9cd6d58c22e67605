//! Work that is done once for all who wait for what comes of it.
//!
//! Promises: it goes on to its end, whoever still waits; whoever comes meanwhile waits for the same; whoever comes
//! after that begins it anew.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures_util::future::{FutureExt, Shared};

use crate::lock::lock;

/// The work that is under way, if it is.
pub(super) struct Joint<T: Clone>(Arc<Place<T>>);

type Place<T> = Mutex<Option<Shared<Running<T>>>>;
type Running<T> = Pin<Box<dyn Future<Output = Option<T>> + Send>>;

impl<T: Clone> Default for Joint<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// Nothing is under way any more, however it has ended.
struct Over<T: Clone>(Arc<Place<T>>);

impl<T: Clone> Drop for Over<T> {
    fn drop(&mut self) {
        *lock(&self.0) = None;
    }
}

impl<T: Clone + Send + Sync + 'static> Joint<T> {
    /// What comes of the work that is under way, or of this. None if it was broken off.
    pub(super) async fn join<F>(&self, begin: impl FnOnce() -> F) -> Option<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let running = {
            let mut place = lock(&self.0);
            let running = place.get_or_insert_with(|| {
                let (place, work) = (self.0.clone(), begin());
                let task = tokio::spawn(async move {
                    let _over = Over(place);
                    work.await
                });
                let running: Running<T> = Box::pin(async move { task.await.ok() });
                running.shared()
            });
            running.clone()
        };
        running.await
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn work_goes_on_though_nobody_waits_and_serves_whoever_comes_meanwhile() {
        let (joint, gate) = (Joint::default(), Arc::new(Semaphore::new(0)));
        let begun = AtomicUsize::new(0);
        let join = || {
            joint.join(|| {
                let (number, gate) = (begun.fetch_add(1, Ordering::SeqCst), gate.clone());
                async move {
                    let permit = gate.acquire().await.expect("it is never closed");
                    permit.forget();
                    number
                }
            })
        };
        {
            let mut given_up = pin!(join());
            assert!(futures_util::poll!(given_up.as_mut()).is_pending());
        }
        gate.add_permits(1);
        assert_eq!(tokio::join!(join(), join()), (Some(0), Some(0)));
        gate.add_permits(1);
        assert_eq!(join().await, Some(1), "what is over is begun anew");
    }
}
