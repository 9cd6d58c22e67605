//! How long a connection may serve: what its address, its login and all that stands in between were when
//! it was made, they need not be for ever.
//!
//! Promises: connections that are made together do not end together; a clock set back ends them sooner,
//! never later.

use std::time::{Duration, SystemTime};

use crate::limits;

/// The time that one connection has.
#[derive(Debug)]
pub struct Lifetime {
    /// By the wall clock: no other clock runs while frozen.
    began: SystemTime,
    lasts: Duration,
}

impl Lifetime {
    /// That of a connection which nobody looks at before it is used again.
    pub fn endless() -> Self {
        Self::begin(Duration::MAX, 0.0)
    }

    /// Begins now and lasts as long as this, of which `jitter` in 0..1 takes up to a tenth.
    pub fn begin(most: Duration, jitter: f64) -> Self {
        Self {
            began: SystemTime::now(),
            lasts: most - most.mul_f64(jitter / limits::JITTER_PART),
        }
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.is_over_at(SystemTime::now())
    }

    fn is_over_at(&self, now: SystemTime) -> bool {
        let age = now.duration_since(self.began).unwrap_or(Duration::MAX);
        age >= self.lasts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_over_up_to_a_tenth_before_its_most() {
        let most = Duration::from_secs(1_000);
        for (jitter, lasts) in [(0.0, 1_000), (0.5, 950), (0.99, 901)] {
            let lifetime = Lifetime::begin(most, jitter);
            let at = |seconds| lifetime.began + Duration::from_secs(seconds);
            assert!(!lifetime.is_over_at(at(0)), "{jitter}");
            assert!(!lifetime.is_over_at(at(lasts - 1)), "{jitter}");
            assert!(lifetime.is_over_at(at(lasts)), "{jitter}");
        }
    }

    #[test]
    fn a_clock_set_back_ends_a_lifetime() {
        let lifetime = Lifetime::begin(Duration::from_secs(1_000), 0.0);
        assert!(lifetime.is_over_at(lifetime.began - Duration::from_secs(1)));
    }
}
