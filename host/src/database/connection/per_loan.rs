//! What a connection has for as long as one loan of it lasts.
//!
//! Promises: it is all reset at once, so that nothing of it reaches the next borrower.

use std::time::Duration;

use super::Terms;

/// What concerns the one who has the connection now.
#[derive(Default)]
pub struct PerLoan {
    /// What each request begins with, and how much time it has.
    pub terms: Terms,
    /// How long the next request may take at most, whatever its terms say.
    pub call_timeout: Option<Duration>,
    /// How long each request of the call under way may take, whoever sees to that; not much later the connection is
    /// given up.
    pub request_time: Option<Duration>,
    /// After how long the host has the next request cancelled, where the server is told of no limit.
    pub cancel_after: Option<Duration>,
    /// Whether the transaction that was begun last may only read.
    pub only_reads: bool,
    /// Whether the guest's own texts have asked for such transactions.
    pub asked_to_read: bool,
    /// Whether what the session knows of sequences is this loan's own, as far as a text tells.
    pub has_sequences: bool,
    /// Whether names may mean something else than for the next borrower: what the server says of statements now is
    /// for this one alone.
    pub renamed: bool,
}
