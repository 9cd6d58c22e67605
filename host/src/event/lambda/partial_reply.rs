//! Whether a part of a reply has arrived, and the rest has not.
//!
//! While an event is waited for, the connection is borrowed by that wait. This flag can be read meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set by the latest exchange.
#[derive(Debug, Clone, Default)]
pub struct PartialReply(Arc<AtomicBool>);

impl PartialReply {
    /// Whether the first bytes of a reply have arrived, and not all of it.
    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Clears the flag when the returned guard is dropped, however the exchange ends.
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
