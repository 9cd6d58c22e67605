//! How the wait for a reply stands, and how the wait for an event is brought to its end.
//!
//! While an event is waited for, the connection is borrowed by that wait. This can be asked, and told, meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set by the latest exchange.
#[derive(Debug, Clone, Default)]
pub struct Waiting(Arc<State>);

#[derive(Debug, Default)]
struct State {
    begun: AtomicBool,
    half_closed: AtomicBool,
    asks_no_more: AtomicBool,
}

impl Waiting {
    /// Whether the first bytes of a reply have arrived, and not all of it.
    pub fn has_begun(&self) -> bool {
        self.0.begun.load(Ordering::Relaxed)
    }

    /// No event is asked for any more. A wait for one finds that out when it is polled next: where nothing has arrived
    /// by then it closes its connection for what it would send, and hears what the other side still says.
    pub fn ask_no_more(&self) {
        self.0.asks_no_more.store(true, Ordering::Relaxed);
    }

    /// Whether the connection of the exchange that is under way was closed like that.
    pub fn is_half_closed(&self) -> bool {
        self.0.half_closed.load(Ordering::Relaxed)
    }

    /// Whether no event is asked for any more.
    pub fn asks_no_more(&self) -> bool {
        self.0.asks_no_more.load(Ordering::Relaxed)
    }

    /// Clears what is of one exchange when the returned guard is dropped, however that ends.
    pub(super) fn during_an_exchange(&self) -> impl Drop + use<> {
        Exchange(self.clone())
    }

    pub(super) fn set_begun(&self, begun: bool) {
        self.0.begun.store(begun, Ordering::Relaxed);
    }

    pub(super) fn set_half_closed(&self, half_closed: bool) {
        self.0.half_closed.store(half_closed, Ordering::Relaxed);
    }
}

struct Exchange(Waiting);

impl Drop for Exchange {
    fn drop(&mut self) {
        self.0.set_begun(false);
        self.0.set_half_closed(false);
    }
}
