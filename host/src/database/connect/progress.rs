//! How far connecting has come, or asking a connection whether it is still there, for whoever gives up waiting for it.
//!
//! Promises: it costs nothing where nothing is connected to. It is that of one future, however many
//! run in the same task.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::time::Instant;

use tokio::task::futures::TaskLocalFuture;

use super::failure::Failure;
use crate::database::error::Unconnected;

tokio::task_local! {
    static PROGRESS: Progress;
}

/// How far connecting has come within a future that is [`watched`].
#[derive(Debug)]
pub struct Progress {
    /// When whoever watches gives up.
    until: Instant,
    stage: Cell<Stage>,
    /// What came of the last attempt, and where.
    failed: RefCell<Option<Unconnected>>,
    /// Whether that may do better later, and so is waited for.
    refused: Cell<bool>,
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing yet: a connection of the pool's is waited for.
    Waiting,
    /// A connection that rested is asked whether its server is still there.
    Asking,
    /// A connection is made.
    Connecting,
    /// The same, and its password is being read.
    ReadingPassword,
}

/// Something is being done until this is dropped; then what was done before goes on.
#[must_use]
pub struct During {
    /// None where nobody watches.
    before: Option<Stage>,
}

impl During {
    fn begin(stage: Stage) -> Self {
        let before = PROGRESS.try_with(|progress| progress.stage.replace(stage));
        Self {
            before: before.ok(),
        }
    }
}

impl Drop for During {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            _ = PROGRESS.try_with(|progress| progress.stage.set(before));
        }
    }
}

/// A future that takes note of what is connected to within it: see [`TaskLocalFuture::take_value`].
pub fn watched<F: Future>(progress: Progress, future: F) -> TaskLocalFuture<Progress, F> {
    PROGRESS.scope(progress, future)
}

/// When whoever wants the connection gives up waiting for it, if that is known.
pub(super) fn until() -> Option<Instant> {
    PROGRESS.try_with(|progress| progress.until).ok()
}

/// Connecting begins.
pub(super) fn begin() {
    // Not everybody wants to know.
    _ = PROGRESS.try_with(|progress| progress.stage.set(Stage::Connecting));
}

/// A connection is asked whether its server is still there, until the returned value is dropped.
pub fn asking() -> During {
    During::begin(Stage::Asking)
}

/// The password is being read, until the returned value is dropped.
pub(super) fn reading() -> During {
    During::begin(Stage::ReadingPassword)
}

/// An attempt has failed; another one may follow.
pub(super) fn failed(host: &dyn fmt::Display, failure: &Failure, names: &[&str]) {
    _ = PROGRESS.try_with(|progress| {
        progress.failed.replace(Some(failure.at(host, names)));
        // Another host may be of another kind: what was refused may do better later all the same.
        progress
            .refused
            .set(progress.is_refused() || failure.is_passing());
    });
}

impl Progress {
    /// Nothing has begun, and whoever watches gives up then.
    pub fn until(until: Instant) -> Self {
        Self {
            until,
            stage: Cell::new(Stage::Waiting),
            failed: RefCell::default(),
            refused: Cell::default(),
        }
    }

    /// Something else is tried, of which nothing has begun. What failed last goes on to be the reason until then.
    pub fn anew(self) -> Self {
        Self {
            failed: self.failed,
            ..Self::until(self.until)
        }
    }

    /// Whether a connection is being made.
    pub fn is_connecting(&self) -> bool {
        matches!(self.stage.get(), Stage::Connecting | Stage::ReadingPassword)
    }

    /// Whether a server has taken no connection, and is asked again.
    pub fn is_refused(&self) -> bool {
        self.refused.get()
    }

    /// What is to be said of the connection that was being made, or asked, if one was.
    pub fn reason(&self) -> Option<Unconnected> {
        let plain = |text: &str| Unconnected::plain(text.to_owned());
        match self.stage.get() {
            Stage::Waiting => self.failed.take(),
            Stage::Asking => Some(plain("the server of one that rested has not answered yet")),
            Stage::ReadingPassword => Some(plain("its password is still being read")),
            Stage::Connecting => {
                let failed = self.failed.take();
                Some(failed.unwrap_or_else(|| plain("no server has answered yet")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[tokio::test]
    async fn what_failed_last_is_the_reason_for_who_watched() {
        let attempt = |words: Option<&'static str>| async move {
            begin();
            for text in ["first"]
                .into_iter()
                .filter(|_| words.is_some())
                .chain(words)
            {
                failed(&"db:5432", &Failure::Unreachable(text.to_owned()), &[]);
            }
            std::future::pending::<()>().await;
        };
        let watch = || Progress::until(Instant::now());
        let mut said = pin!(watched(watch(), attempt(Some("then"))));
        let mut said_again = pin!(watched(watch(), attempt(Some("then"))));
        let mut silent = pin!(watched(watch(), attempt(None)));
        let mut asked = pin!(watched(watch(), async {
            let _asking = asking();
            std::future::pending::<()>().await;
        }));
        let mut nothing = pin!(watched(watch(), std::future::pending::<()>()));
        assert!(futures_util::poll!(asked.as_mut()).is_pending());
        let mut unwatched = pin!(attempt(Some("then")));
        assert!(futures_util::poll!(said.as_mut()).is_pending());
        assert!(futures_util::poll!(said_again.as_mut()).is_pending());
        assert!(futures_util::poll!(silent.as_mut()).is_pending());
        assert!(futures_util::poll!(nothing.as_mut()).is_pending());
        assert!(futures_util::poll!(unwatched.as_mut()).is_pending());
        let unconnected =
            |progress: Option<Progress>| progress.and_then(|progress| progress.reason());
        let said = unconnected(said.take_value()).expect("one has failed");
        assert_eq!((&*said.told, &*said.log), ("then", "db:5432: then"));
        let reason = |progress| unconnected(progress).map(|reason| reason.told);
        let again = said_again
            .take_value()
            .map(Progress::anew)
            .expect("one has failed");
        assert!(!again.is_connecting() && !again.is_refused());
        assert_eq!(reason(Some(again)).as_deref(), Some("then"));
        let silent = reason(silent.take_value());
        assert_eq!(silent.as_deref(), Some("no server has answered yet"));
        let asked = reason(asked.take_value()).expect("one was asked");
        assert!(asked.contains("of one that rested"), "{asked}");
        assert_eq!(reason(nothing.take_value()), None);
    }

    #[tokio::test]
    async fn a_password_that_could_not_be_read_is_no_longer_being_read() {
        let read = async |failure: Option<&str>| {
            let _reading = reading();
            match failure {
                Some(text) => Err(Failure::Secret(text.to_owned())),
                None => std::future::pending().await,
            }
        };
        for (failure, expected) in [
            (Some("no such file"), "no server has answered yet"),
            (None, "its password is still being read"),
        ] {
            let attempt = async {
                begin();
                let _: Result<(), Failure> = read(failure).await;
                std::future::pending::<()>().await;
            };
            let mut watching = pin!(watched(Progress::until(Instant::now()), attempt));
            assert!(futures_util::poll!(watching.as_mut()).is_pending());
            let progress = watching.take_value().expect("it was not taken yet");
            assert!(progress.is_connecting());
            let said = progress.reason().expect("something was under way");
            assert_eq!(said.told, expected);
        }
    }
}
