//! Requests to give up what a connection is executing, as far as the connection has to know of them.
//!
//! Such a request goes its own way and hits whatever is executed when it arrives. So the connection is
//! used for nothing else before the server has taken it: also if whoever asked no longer waits for that.
//!
//! Promises: a request that was begun is brought to its end; while it is under way, or if nobody knows
//! whether it is, the connection is not clean.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Mutex;

use crate::database::connect::Backend;

/// What a connection knows of the requests to cancel that are about it.
#[derive(Clone, Default)]
pub struct Cancelling {
    /// Locked while one is under way.
    turn: Arc<Mutex<()>>,
    /// Whether one is under way, or was lost on its way. To look at this costs less than the lock.
    may_come: Arc<AtomicBool>,
}

impl Cancelling {
    /// Whether none is under way or was lost.
    pub fn is_over(&self) -> bool {
        !self.may_come.load(Ordering::Acquire)
    }

    /// Waits until none is under way. False if one was lost: it may still come.
    pub async fn ends(&self) -> bool {
        let _turn = self.turn.lock().await;
        self.is_over()
    }
}

/// Asks the server to give up what a connection is executing.
pub struct Canceller {
    backend: Backend,
    cancelling: Cancelling,
}

impl Canceller {
    /// For this server's process, and what its connection knows.
    pub fn new(backend: Backend, cancelling: Cancelling) -> Self {
        Self {
            backend,
            cancelling,
        }
    }

    /// Sends the request on a connection of its own, and waits until the server has taken it. It goes on
    /// if nobody waits any more.
    pub async fn cancel(self) {
        let turn = self.cancelling.turn.clone().lock_owned().await;
        let was_lost = self.cancelling.may_come.swap(true, Ordering::AcqRel);
        let request = tokio::spawn(async move {
            match self.backend.cancel().await {
                Ok(()) => self.cancelling.may_come.store(was_lost, Ordering::Release),
                Err(error) => tracing::debug!(%error, "a statement could not be cancelled"),
            }
            drop(turn);
        });
        // It does not panic, and is not aborted before the runtime ends.
        let _ = request.await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixListener;

    use super::*;

    /// A connection would otherwise be lent on, and the request hit the next one's statement.
    #[tokio::test]
    async fn a_request_that_nobody_waits_for_is_under_way_until_the_server_has_taken_it() {
        let name = format!("hearth-cancelling-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_file(&path);
        let server = UnixListener::bind(&path).unwrap();
        let cancelling = Cancelling::default();
        let canceller = || Canceller::new(Backend::at(&path), cancelling.clone());
        assert!(cancelling.is_over());
        let mut taken = tokio::select! {
            () = canceller().cancel() => panic!("the server has not taken it"),
            taken = server.accept() => taken.unwrap().0,
        };
        assert!(!cancelling.is_over());
        taken.read_exact(&mut [0; 16]).await.unwrap();
        drop(taken);
        assert!(cancelling.ends().await);
        assert!(cancelling.is_over());
        std::fs::remove_file(&path).unwrap();
    }

    #[tokio::test]
    async fn a_request_that_is_lost_may_still_come() {
        let cancelling = Cancelling::default();
        let nowhere = Backend::at(std::path::Path::new("/nowhere/at/all"));
        Canceller::new(nowhere, cancelling.clone()).cancel().await;
        assert!(!cancelling.ends().await);
        assert!(!cancelling.is_over());
    }
}
