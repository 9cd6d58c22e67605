//! Requests to give up what a connection is executing, as far as the connection has to know of them.
//!
//! Such a request goes its own way and hits whatever is executed when it arrives. So the connection is
//! used for nothing else before the server has taken it: nobody who reads an answer waits for that, but who asks next.
//!
//! Promises: a request that was begun is brought to its end; while it is under way, or if nobody knows
//! whether it is, the connection is not clean.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::database::connect::Backend;

/// What a connection knows of the requests to cancel that are about it.
#[derive(Clone, Default)]
pub struct Cancelling(Arc<Requests>);

#[derive(Default)]
struct Requests {
    under_way: AtomicUsize,
    /// Whether one was lost on its way.
    lost: AtomicBool,
    /// Tells that one is under way no more.
    ended: Notify,
}

impl Cancelling {
    /// Whether none is under way or was lost.
    pub fn is_over(&self) -> bool {
        !self.is_under_way() && !self.0.lost.load(Ordering::Acquire)
    }

    /// Whether one is under way.
    pub fn is_under_way(&self) -> bool {
        self.0.under_way.load(Ordering::Acquire) > 0
    }

    /// Waits until none is under way. False if one was lost: it may still come.
    pub async fn ends(&self) -> bool {
        loop {
            let ended = self.0.ended.notified();
            if !self.is_under_way() {
                return self.is_over();
            }
            ended.await;
        }
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

    /// Sends the request on a connection of its own. It is under way from now on until the server has taken it, whether
    /// or not anybody waits for that.
    pub fn cancel(self) -> JoinHandle<()> {
        let Requests { under_way, .. } = &*self.cancelling.0;
        under_way.fetch_add(1, Ordering::AcqRel);
        tokio::spawn(async move {
            let requests = &self.cancelling.0;
            if let Err(error) = self.backend.cancel().await {
                tracing::debug!(%error, "a statement could not be cancelled");
                requests.lost.store(true, Ordering::Release);
            }
            requests.under_way.fetch_sub(1, Ordering::AcqRel);
            requests.ended.notify_waiters();
        })
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
        drop(canceller().cancel());
        assert!(!cancelling.is_over());
        let mut taken = server.accept().await.unwrap().0;
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
        drop(Canceller::new(nowhere, cancelling.clone()).cancel());
        assert!(!cancelling.ends().await);
        assert!(!cancelling.is_over());
    }
}
