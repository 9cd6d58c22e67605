//! Work whose result is shared by all who ask for it while it is being done.
//!
//! Promises:
//! - work that was begun goes on to its end, even if nobody waits for it any more;
//! - whoever asks meanwhile waits for the same result; but work that has taken so long that it may be stuck, as after a
//!   freeze, is begun once more beside it. Never more than [`limits::SINGLE_FLIGHT_MAX`] go on at a time;
//! - whoever asks after its end has it done anew.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures_util::future::{FutureExt, Shared};

use crate::limits;
use crate::lock::lock;

/// Work of one kind, and what of it is being done now.
pub(super) struct SingleFlight<T: Clone> {
    /// For how long work is relied on; whoever asks later has it begun once more.
    patience: Duration,
    place: Arc<Mutex<Place<T>>>,
}

struct Place<T: Clone> {
    /// How many times it is being done now.
    running: usize,
    newest: Option<Newest<T>>,
}

struct Newest<T: Clone> {
    /// By the wall clock: no other clock runs while frozen.
    begun: SystemTime,
    running: Shared<Running<T>>,
}

type Running<T> = Pin<Box<dyn Future<Output = Option<T>> + Send>>;

/// Takes note that work has ended, when it is dropped: also by a panic or with the runtime.
struct Over<T: Clone> {
    begun: SystemTime,
    place: Arc<Mutex<Place<T>>>,
}

impl<T: Clone> Drop for Over<T> {
    fn drop(&mut self) {
        let mut place = lock(&self.place);
        place.running -= 1;
        place.newest.take_if(|newest| newest.begun == self.begun);
    }
}

impl<T: Clone + Send + Sync + 'static> SingleFlight<T> {
    /// Nothing is being done yet. `patience` is for how long work is relied on.
    pub(super) fn new(patience: Duration) -> Self {
        let place = Place {
            running: 0,
            newest: None,
        };
        Self {
            patience,
            place: Arc::new(Mutex::new(place)),
        }
    }

    /// The result of the work that is being done; of this work, which is begun, if there is none to rely on. None if
    /// it panicked, or the runtime has ended.
    pub(super) async fn join<F>(&self, begin: impl FnOnce() -> F) -> Option<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let running = {
            let mut place = lock(&self.place);
            let is_full = place.running >= limits::SINGLE_FLIGHT_MAX;
            let reliable = place.newest.as_ref().filter(|newest| {
                // A clock that was set back counts as long ago.
                let age = newest.begun.elapsed().unwrap_or(Duration::MAX);
                is_full || age < self.patience
            });
            match reliable {
                Some(newest) => newest.running.clone(),
                None => {
                    let newest = self.begin(begin());
                    place.running += 1;
                    place.newest.insert(newest).running.clone()
                }
            }
        };
        running.await
    }

    fn begin<F>(&self, work: F) -> Newest<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let begun = SystemTime::now();
        let over = Over {
            begun,
            place: self.place.clone(),
        };
        let task = tokio::spawn(async move {
            let _over = over;
            work.await
        });
        let running: Running<T> = Box::pin(async move { task.await.ok() });
        Newest {
            begun,
            running: running.shared(),
        }
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
        let (flight, gate) = (
            SingleFlight::new(Duration::MAX),
            Arc::new(Semaphore::new(0)),
        );
        let begun = AtomicUsize::new(0);
        let join = || {
            flight.join(|| {
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

    #[tokio::test]
    async fn what_takes_long_is_begun_anew_beside_it_and_not_without_end() {
        let flight = SingleFlight::new(Duration::ZERO);
        let begun = AtomicUsize::new(0);
        for _ in 0..limits::SINGLE_FLIGHT_MAX + 5 {
            let mut stuck = pin!(flight.join(|| {
                begun.fetch_add(1, Ordering::SeqCst);
                std::future::pending::<()>()
            }));
            assert!(futures_util::poll!(stuck.as_mut()).is_pending());
        }
        assert_eq!(begun.load(Ordering::SeqCst), limits::SINGLE_FLIGHT_MAX);
    }
}
