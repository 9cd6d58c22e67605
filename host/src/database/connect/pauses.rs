//! The pauses between attempts that a server does not let succeed.
//!
//! Promises: each is about twice as long as the one before, up to a limit, and no two hosts have the same.

use std::time::Duration;

use rand::RngExt;

use crate::limits;

/// The pauses from the first one on.
pub struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(limits::LOGIN_PAUSE)
    }
}

impl Pauses {
    /// One more: how long it is.
    pub fn one_more(&mut self) -> Duration {
        let chance: f64 = rand::rng().random_range(0.5..1.0);
        let pause = self.0.mul_f64(chance);
        self.0 = (self.0 * 2).min(limits::LOGIN_PAUSE_MAX);
        pause
    }
}
