//! The savepoints of one transaction: what they are called, and those that were left without a word, by a
//! nested transaction that was dropped.
//!
//! Dropping cannot wait for the server. So it only leaves the savepoint's name here, and the next
//! call of the transaction undoes it first.
//!
//! Promises:
//! - nothing is sent between the drop and the undoing, also if several calls are made at the same time or
//!   the one that undoes is itself dropped;
//! - no two savepoints have one name. Of a call that was dropped nobody knows whether the server has done
//!   it, and what is done once more must not find another savepoint: it would undo what was told as done.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// How much of a name PostgreSQL looks at, in bytes.
const NAME_BYTES: usize = 63;
/// What a number begins with.
const MARK: char = '#';
/// How many names are remembered.
const PLAIN_MAX: usize = 1_000;

/// What a transaction knows of its savepoints.
#[derive(Default)]
pub(super) struct Savepoints(Mutex<State>);

#[derive(Default)]
struct State {
    /// The names that were given as they were wanted.
    plain: HashSet<String>,
    /// How many were given with a number in front.
    numbered: u64,
    /// The one to be undone, with those within it.
    abandoned: Option<String>,
    undoing: bool,
    waiting: Vec<Waker>,
}

impl Savepoints {
    /// The name for a savepoint that somebody wants to call like this, as far as PostgreSQL looks at it. If there
    /// was another one before, a number goes in front; so it does where the name looks as if it had one, or more
    /// are in use than are remembered.
    pub(super) fn name(&self, wanted: &str) -> String {
        let wanted = &wanted[..wanted.floor_char_boundary(NAME_BYTES)];
        let mut state = self.lock();
        let may_be_plain = !wanted.starts_with(MARK) && state.plain.len() < PLAIN_MAX;
        if may_be_plain && state.plain.insert(wanted.to_owned()) {
            return wanted.to_owned();
        }
        state.numbered += 1;
        let mut name = format!("{MARK}{} {wanted}", state.numbered);
        name.truncate(name.floor_char_boundary(NAME_BYTES));
        name
    }

    /// Leaves a savepoint to be undone, which is around one that was left before.
    pub(super) fn abandon(&self, name: String) {
        self.lock().abandoned = Some(name);
    }

    /// Undoes what was abandoned, or waits until it is undone: goes back to the savepoint, and then forgets
    /// it. What it could not go back to stays abandoned; what it has gone back to is undone.
    pub(super) async fn settle<E, B, F>(
        &self,
        go_back: impl Fn(String) -> B,
        forget: impl Fn(String) -> F,
    ) -> Result<(), E>
    where
        B: Future<Output = Result<(), E>>,
        F: Future<Output = Result<(), E>>,
    {
        let Some(mut undoing) = self.claim().await else {
            return Ok(());
        };
        if let Some(name) = &undoing.name {
            go_back(name.clone()).await?;
        }
        match undoing.name.take() {
            Some(name) => forget(name).await,
            None => Ok(()),
        }
    }

    async fn claim(&self) -> Option<Undoing<'_>> {
        std::future::poll_fn(|cx| {
            let mut state = self.lock();
            if state.undoing {
                state.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
            let Some(name) = state.abandoned.take() else {
                return Poll::Ready(None);
            };
            state.undoing = true;
            Poll::Ready(Some(Undoing {
                savepoints: self,
                name: Some(name),
            }))
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The duty to undo a savepoint, which goes back if it is not fulfilled.
struct Undoing<'a> {
    savepoints: &'a Savepoints,
    name: Option<String>,
}

impl Drop for Undoing<'_> {
    fn drop(&mut self) {
        let mut state = self.savepoints.lock();
        state.undoing = false;
        if state.abandoned.is_none() {
            state.abandoned = self.name.take();
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
    fn no_two_savepoints_have_one_name() {
        let savepoints = Savepoints::default();
        let long = "ü".repeat(40);
        for (wanted, name) in [
            ("a", "a".to_owned()),
            ("b", "b".to_owned()),
            ("a", "#1 a".to_owned()),
            ("a", "#2 a".to_owned()),
            ("", String::new()),
            // Somebody may want just the name that is made up.
            ("#4 a", "#3 #4 a".to_owned()),
            ("a", "#4 a".to_owned()),
            ("b", "#5 b".to_owned()),
            (&long, "ü".repeat(31)),
            // PostgreSQL would not see where they differ.
            (&format!("{long}!"), format!("#6 {}", "ü".repeat(30))),
            (&long, format!("#7 {}", "ü".repeat(30))),
        ] {
            assert_eq!(savepoints.name(wanted), name);
        }
    }

    #[test]
    fn names_take_no_more_memory_however_many_there_are() {
        let savepoints = Savepoints::default();
        let names: HashSet<String> = (0..10 * PLAIN_MAX)
            .flat_map(|number| ["a".to_owned(), format!("b{number}")])
            .map(|wanted| savepoints.name(&wanted))
            .collect();
        assert_eq!(names.len(), 20 * PLAIN_MAX);
        assert_eq!(savepoints.lock().plain.len(), PLAIN_MAX);
    }

    #[test]
    fn a_savepoint_is_undone_with_those_within_it_and_only_once() {
        for (abandoned, expected) in [(&["inner"][..], "inner"), (&["inner", "outer"], "outer")] {
            let savepoints = Savepoints::default();
            for name in abandoned {
                savepoints.abandon((*name).to_owned());
            }
            let done = RefCell::new(Vec::new());
            let note = |what: &str, name: String| {
                done.borrow_mut().push(format!("{what} {name}"));
                Ok::<_, ()>(())
            };
            for _ in 0..2 {
                let settled = poll_ready(savepoints.settle(
                    async |name| note("to", name),
                    async |name| note("forget", name),
                ));
                assert_eq!(settled, Ok(()));
            }
            let expected = ["to", "forget"].map(|what| format!("{what} {expected}"));
            assert_eq!(done.take(), expected);
        }
    }

    #[test]
    fn what_cannot_be_undone_stays_abandoned() {
        let savepoints = Savepoints::default();
        savepoints.abandon("one".to_owned());
        let refused = poll_ready(savepoints.settle(async |_| Err("in use"), async |_| Ok(())));
        assert_eq!(refused, Err("in use"));
        let undone = Cell::new(false);
        let go_back = async |_| {
            undone.set(true);
            Ok::<_, ()>(())
        };
        let settled = poll_ready(savepoints.settle(go_back, async |_| Ok(())));
        assert_eq!((settled, undone.get()), (Ok(()), true));
    }

    /// The server may have forgotten it, though nobody heard so.
    #[test]
    fn what_was_gone_back_to_is_not_gone_back_to_again() {
        let savepoints = Savepoints::default();
        savepoints.abandon("one".to_owned());
        let count = Cell::new(0);
        let go_back = async |_| {
            count.set(count.get() + 1);
            Ok::<_, ()>(())
        };
        let mut cx = Context::from_waker(Waker::noop());
        {
            let forget = async |_| std::future::pending().await;
            let mut dropped = Box::pin(savepoints.settle(go_back, forget));
            assert!(dropped.as_mut().poll(&mut cx).is_pending());
        }
        let settled = poll_ready(savepoints.settle(go_back, async |_| Ok(())));
        assert_eq!((settled, count.get()), (Ok(()), 1));
    }

    #[test]
    fn others_wait_and_take_over_from_one_that_is_dropped() {
        let savepoints = Savepoints::default();
        savepoints.abandon("one".to_owned());
        let mut cx = Context::from_waker(Waker::noop());
        let undone = Cell::new(false);
        let forget = async |_| Ok::<_, ()>(());
        let go_back = async |_| {
            undone.set(true);
            Ok(())
        };
        let mut second = pin!(savepoints.settle(go_back, forget));
        {
            let never = async |_| std::future::pending().await;
            let mut first = Box::pin(savepoints.settle(never, forget));
            assert!(first.as_mut().poll(&mut cx).is_pending());
            assert!(second.as_mut().poll(&mut cx).is_pending());
        }
        assert!(second.as_mut().poll(&mut cx).is_ready());
        assert!(undone.get());
    }
}
