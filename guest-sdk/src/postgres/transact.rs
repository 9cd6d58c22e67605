//! Transactions that are done again when others got in their way.
//!
//! Promises: a transaction is done again only if the server says that it was undone for the sake
//! of others (40001, 40P01), so never when it may have been committed; no wait goes beyond the
//! invocation's deadline. Left to others: transactions ([`super::transaction`]).

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::client::TransactionBuilder;
use super::error::Error;
use super::transaction::Transaction;
use crate::bindings::hearth::postgres::client as wire;
use crate::context;

/// How often a transaction is tried where nothing else is said.
pub(super) const ATTEMPTS_MAX: u32 = 25;
/// The longest wait before the second attempt; it doubles with each.
const WAIT: Duration = Duration::from_millis(4);
/// The longest wait before any attempt.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// What an invocation needs at its end to answer. The host ends it that long before its deadline.
const RESERVE: Duration = Duration::from_millis(100);

/// What the newest word of the server says against a transaction.
///
/// It is noted where errors arrive, since nobody knows what a closure makes of them.
#[derive(Clone, Default)]
pub struct Trouble(Arc<Noted>);

#[derive(Default)]
struct Noted {
    /// Whether the transaction is in the way of others.
    conflict: AtomicBool,
    /// The error with which it failed.
    failure: Mutex<Option<wire::Error>>,
    /// Whether a call was given up of which nobody has heard what became of it.
    given_up: AtomicBool,
    /// Whether nobody can commit it any more.
    is_over: AtomicBool,
}

/// A call of which the outcome is not known yet.
struct Unheard<'a> {
    given_up: &'a AtomicBool,
    is_over: bool,
}

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.given_up.store(true, Ordering::Relaxed);
        }
    }
}

/// The result of a call that goes on with an earlier one, of which the transaction takes note that it belongs to, if it
/// does to one.
pub(super) fn noted<T>(
    trouble: Option<&Trouble>,
    result: Result<T, wire::Error>,
) -> Result<T, Error> {
    Ok(match trouble {
        Some(trouble) => trouble.note_failure(result)?,
        None => result?,
    })
}

/// The errors of which a transaction takes note.
pub(super) trait Told {
    /// What happened, to whichever statement.
    fn error(&self) -> &wire::Error;
}

impl Told for wire::Error {
    fn error(&self) -> &wire::Error {
        self
    }
}

impl Told for wire::PipelineError {
    fn error(&self) -> &wire::Error {
        &self.error
    }
}

impl Trouble {
    /// Takes note of the result of a call that only the server can have answered.
    pub(super) fn note<T, E: Told>(&self, result: Result<T, E>) -> Result<T, E> {
        let Noted {
            conflict, failure, ..
        } = &*self.0;
        if result.is_ok() {
            conflict.store(false, Ordering::Relaxed);
            *lock(failure) = None;
        }
        self.note_failure(result)
    }

    /// The same, of one that may have been answered from what was there before: that it succeeds says nothing of
    /// the transaction.
    pub(super) fn note_failure<T, E: Told>(&self, result: Result<T, E>) -> Result<T, E> {
        let Noted {
            conflict, failure, ..
        } = &*self.0;
        if let Err(error) = &result {
            let error = error.error();
            let code = code(error);
            if matches!(code, Some("40001" | "40P01")) {
                conflict.store(true, Ordering::Relaxed);
            }
            // What follows in a transaction that has failed says nothing new.
            if code.is_some_and(|code| code != "25P02") {
                *lock(failure) = Some(error.clone());
            }
        }
        result
    }

    /// Makes a call of the transaction, and takes note if it is given up. The host may have answered by then, and
    /// then it is not told that nobody will read that; who makes the call once more would have it done twice.
    pub(super) async fn heard<T>(&self, call: impl Future<Output = T>) -> T {
        let mut unheard = Unheard {
            given_up: &self.0.given_up,
            is_over: false,
        };
        let outcome = call.await;
        unheard.is_over = true;
        outcome
    }

    /// The transaction is over, committed or not.
    pub(super) fn end(&self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.is_over.load(Ordering::Relaxed)
    }

    /// What was given up is undone.
    pub(super) fn forget_given_up(&self) {
        self.0.given_up.store(false, Ordering::Relaxed);
    }

    /// Has the transaction fail if a call was given up, by one that the server refuses.
    pub(super) async fn fail<F>(&self, refused: impl FnOnce() -> F) -> Result<(), wire::Error>
    where
        F: Future<Output = Result<(), wire::Error>>,
    {
        if !self.0.given_up.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let mut unheard = Unheard {
            given_up: &self.0.given_up,
            is_over: false,
        };
        match refused().await {
            Ok(()) | Err(wire::Error::Database(_)) => {
                unheard.is_over = true;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn is_conflict(&self) -> bool {
        self.0.conflict.load(Ordering::Relaxed)
    }

    /// The error of a commit, and why it failed.
    pub(super) fn explain(&self, error: Error) -> Error {
        match lock(&self.0.failure).take() {
            Some(failure) if error.is_aborted() => error.because(failure.into()),
            _ => error,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The SQLSTATE, if it was the server that refused.
fn code(error: &wire::Error) -> Option<&str> {
    match error {
        wire::Error::Database(refusal) => Some(&*refusal.code),
        _ => None,
    }
}

impl<'a> TransactionBuilder<'a> {
    /// As [`Client::transact`](super::Client::transact), with these options.
    pub async fn transact<T, E, F>(self, mut work: F) -> Result<T, E>
    where
        F: AsyncFnMut(&mut Transaction<'a>) -> Result<T, E>,
        E: From<Error>,
    {
        let mut attempt = 1;
        loop {
            let start = Instant::now();
            let mut transaction = self.begin().await?;
            let trouble = transaction.trouble();
            let error = match work(&mut transaction).await {
                Ok(value) => match transaction.commit().await {
                    Ok(()) => return Ok(value),
                    Err(error) if error.is_conflict() => error.into(),
                    // The closure has kept to itself that a statement had failed.
                    Err(error) if is_undone(&error) && trouble.is_conflict() => error.into(),
                    Err(error) => return Err(error.into()),
                },
                Err(error) => {
                    let again = trouble.is_conflict();
                    // Also if it fails: the host rolls back what is dropped.
                    let _ = transaction.rollback().await;
                    if !again {
                        return Err(error);
                    }
                    error
                }
            };
            let wait = wait(attempt, RandomState::new().hash_one(attempt));
            let needed = wait + start.elapsed() + RESERVE;
            if attempt == self.attempts_max
                || context::remaining().is_some_and(|left| left < needed)
            {
                return Err(error);
            }
            crate::sleep(wait).await;
            attempt += 1;
        }
    }
}

/// Whether a commit with this error has certainly committed nothing.
fn is_undone(error: &Error) -> bool {
    error.is_aborted() || (error.is_closed() && !error.may_have_executed())
}

/// How long to wait after an attempt: anything up to a length that doubles each time, so that those
/// who met once do not meet again.
fn wait(attempt: u32, random: u64) -> Duration {
    let doubled = WAIT.saturating_mul(1_u32.checked_shl(attempt - 1).unwrap_or(u32::MAX));
    let longest = doubled.min(WAIT_MAX).as_nanos() as u64;
    Duration::from_nanos(random % (longest + 1))
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::poll_ready;
    use crate::postgres::db_error::tests::refused;

    #[test]
    fn waits_grow_up_to_a_limit() {
        for (attempt, longest) in [
            (1, WAIT),
            (2, WAIT * 2),
            (8, WAIT_MAX),
            (32, WAIT_MAX),
            (999, WAIT_MAX),
        ] {
            let longest_nanos = longest.as_nanos() as u64;
            assert_eq!(wait(attempt, longest_nanos), longest, "{attempt}");
            assert_eq!(
                wait(attempt, longest_nanos + 1),
                Duration::ZERO,
                "{attempt}"
            );
        }
    }

    #[test]
    fn a_transaction_fails_by_a_call_that_was_given_up_until_that_is_undone() {
        let trouble = Trouble::default();
        let fails = |error: wire::Error| {
            let mut is_asked = false;
            let failed = poll_ready(trouble.fail(|| {
                is_asked = true;
                std::future::ready(Err(error))
            }));
            (is_asked, failed.is_ok())
        };
        let refused = || wire::Error::Database(refused("3B001", "there is no such savepoint"));
        let give_up = || {
            let mut call = Box::pin(trouble.heard(std::future::pending::<()>()));
            let mut cx = Context::from_waker(Waker::noop());
            assert!(call.as_mut().poll(&mut cx).is_pending());
        };
        poll_ready(trouble.heard(async {}));
        assert_eq!(fails(refused()), (false, true), "it was heard of");
        give_up();
        assert_eq!(fails(wire::Error::InUse), (true, false));
        assert_eq!(fails(refused()), (true, true), "it has not failed yet");
        assert_eq!(fails(refused()), (false, true), "it has");
        give_up();
        trouble.forget_given_up();
        assert_eq!(fails(refused()), (false, true));
    }

    #[test]
    fn a_conflict_is_forgotten_when_something_succeeds_after_it() {
        let refusal = |code: &str| wire::Error::Database(refused(code, "refused"));
        let trouble = Trouble::default();
        for (result, is_noted) in [
            (Err(refusal("22012")), false),
            (Err(refusal("40001")), true),
            (Err(refusal("25P02")), true),
            (Ok(()), false),
            (Err(refusal("40P01")), true),
            (Err(wire::Error::ConnectionLost(true)), true),
        ] {
            let _ = trouble.note(result);
            assert_eq!(trouble.is_conflict(), is_noted);
        }
        // Rows that were held meanwhile.
        assert!(noted(Some(&trouble), Ok(())).is_ok() && trouble.is_conflict());
        let of_a_pipeline = wire::PipelineError {
            index: Some(1),
            error: refusal("22012"),
        };
        let _ = trouble.note::<(), _>(Err(of_a_pipeline));
        let _ = trouble.note::<(), _>(Err(refusal("25P02")));
        let aborted = || Error::from(wire::Error::Aborted);
        let explained = trouble.explain(aborted());
        assert!(
            explained.is_aborted()
                && explained
                    .to_string()
                    .ends_with(": refused (SQLSTATE 22012)")
        );
        let _ = trouble.note::<_, wire::Error>(Ok(()));
        assert_eq!(
            trouble.explain(aborted()).to_string(),
            aborted().to_string()
        );
    }
}
