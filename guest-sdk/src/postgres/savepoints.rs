//! The savepoints that were left without a word: a nested transaction that was dropped.
//!
//! Dropping cannot wait for the server. So it only leaves the savepoint's name here, and the next
//! call of the transaction undoes it first.
//!
//! Promises: nothing is sent between the drop and the undoing, also if several calls are made at
//! the same time or the one that undoes is itself dropped.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// What is left to undo in one transaction.
#[derive(Default)]
pub(super) struct Savepoints(Mutex<State>);

#[derive(Default)]
struct State {
    /// In the order in which they are to be undone.
    abandoned: Vec<String>,
    undoing: bool,
    waiting: Vec<Waker>,
}

impl Savepoints {
    /// Leaves a savepoint to be undone, which is around those that were left before.
    pub(super) fn abandon(&self, name: String) {
        let mut state = self.lock();
        // Going back to a savepoint undoes those within it, except that one of the same name
        // hides it and must go first.
        state.abandoned.retain(|inner| *inner == name);
        state.abandoned.push(name);
    }

    /// Undoes what was abandoned, or waits until it is undone. What cannot be undone stays
    /// abandoned.
    pub(super) async fn settle<E>(
        &self,
        undo: impl AsyncFn(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(mut undoing) = self.claim().await else {
            return Ok(());
        };
        while let Some(name) = undoing.names.first() {
            undo(name).await?;
            undoing.names.remove(0);
        }
        Ok(())
    }

    async fn claim(&self) -> Option<Undoing<'_>> {
        std::future::poll_fn(|cx| {
            let mut state = self.lock();
            if state.undoing {
                state.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
            if state.abandoned.is_empty() {
                return Poll::Ready(None);
            }
            state.undoing = true;
            Poll::Ready(Some(Undoing {
                savepoints: self,
                names: std::mem::take(&mut state.abandoned),
            }))
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The duty to undo savepoints, which goes back as far as it is not fulfilled.
struct Undoing<'a> {
    savepoints: &'a Savepoints,
    names: Vec<String>,
}

impl Drop for Undoing<'_> {
    fn drop(&mut self) {
        let mut state = self.savepoints.lock();
        state.undoing = false;
        if state.abandoned.is_empty() {
            state.abandoned.append(&mut self.names);
        }
        for waker in state.waiting.drain(..) {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll_ready;
    use std::cell::{Cell, RefCell};
    use std::pin::pin;
    use std::task::Context;

    #[test]
    fn a_savepoint_is_undone_with_those_within_it_and_only_once() {
        let cases: [(&[&str], &[&str]); 4] = [
            (&["inner"], &["inner"]),
            (&["inner", "outer"], &["outer"]),
            (&["same", "same"], &["same", "same"]),
            (&["same", "between", "same"], &["same"]),
        ];
        for (abandoned, expected) in cases {
            let savepoints = Savepoints::default();
            for name in abandoned {
                savepoints.abandon((*name).to_owned());
            }
            let undone = RefCell::new(Vec::new());
            for _ in 0..2 {
                let settled = poll_ready(savepoints.settle(async |name: &str| {
                    undone.borrow_mut().push(name.to_owned());
                    Ok::<_, ()>(())
                }));
                assert_eq!(settled, Ok(()));
            }
            assert_eq!(undone.take(), expected);
        }
    }

    #[test]
    fn what_cannot_be_undone_stays_abandoned() {
        let savepoints = Savepoints::default();
        savepoints.abandon("one".to_owned());
        let refused = poll_ready(savepoints.settle(async |_: &str| Err("in use")));
        assert_eq!(refused, Err("in use"));
        let undone = Cell::new(false);
        let settled = poll_ready(savepoints.settle(async |_: &str| {
            undone.set(true);
            Ok::<_, ()>(())
        }));
        assert_eq!((settled, undone.get()), (Ok(()), true));
    }

    #[test]
    fn others_wait_and_take_over_from_one_that_is_dropped() {
        let savepoints = Savepoints::default();
        savepoints.abandon("one".to_owned());
        let mut cx = Context::from_waker(Waker::noop());
        let undone = Cell::new(false);
        let mut second = pin!(savepoints.settle(async |_: &str| {
            undone.set(true);
            Ok::<_, ()>(())
        }));
        {
            let first =
                savepoints.settle(async |_: &str| std::future::pending::<Result<(), ()>>().await);
            let mut first = Box::pin(first);
            assert!(first.as_mut().poll(&mut cx).is_pending());
            assert!(second.as_mut().poll(&mut cx).is_pending());
        }
        assert!(second.as_mut().poll(&mut cx).is_ready());
        assert!(undone.get());
    }
}
