//! Whether a reply is on its way: some of it is here, and the rest is not.
//!
//! Whoever waits for an event lends the connection to that wait, and cannot look at it meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells it of the exchange that is made last.
#[derive(Debug, Clone, Default)]
pub struct PartialReply(Arc<AtomicBool>);

impl PartialReply {
    /// Whether it is.
    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// An exchange is made until this is dropped, however it ends. After that no reply is on its way.
    pub(super) fn during_an_exchange(&self) -> impl Drop + use<> {
        Exchange(self.clone())
    }

    pub(super) fn set(&self, begun: bool) {
        self.0.store(begun, Ordering::Relaxed);
    }
}

struct Exchange(PartialReply);

impl Drop for Exchange {
    fn drop(&mut self) {
        self.0.set(false);
    }
}
