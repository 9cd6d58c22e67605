//! Whether an invocation waits for nobody but itself.
//!
//! Promises: this is never said of an invocation that has done something since the first look, or that may have had no
//! time to do anything. If a look comes late, a guest has computed or the process was frozen, so the look does not
//! count.

use std::time::Instant;

use crate::limits;

/// What a look has seen.
pub struct Standstill {
    /// When that was.
    pub at: Instant,
    /// The number of what was done last, if nothing was under way.
    last: Option<u64>,
}

impl Standstill {
    /// What this look sees now.
    pub fn seen_by(look: impl FnOnce() -> Option<u64>) -> Self {
        Self {
            at: Instant::now(),
            last: look(),
        }
    }

    /// Whether the next look, which was to come at most [`limits::LOOK_AROUND`] later, sees the same.
    pub fn lasts(&self, look: impl FnOnce() -> Option<u64>) -> bool {
        let is_late = self.at.elapsed() > limits::LOOK_AROUND * 3 / 2;
        self.last.is_some() && !is_late && self.last == look()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_meanwhile_or_was_late_is_no_standstill() {
        let seen = |last| Standstill::seen_by(|| last);
        assert!(seen(Some(1)).lasts(|| Some(1)));
        for (before, now) in [
            (Some(1), Some(2)),
            (Some(1), None),
            (None, Some(1)),
            (None, None),
        ] {
            assert!(!seen(before).lasts(|| now), "{before:?} {now:?}");
        }
        let mut late = seen(Some(1));
        late.at -= 2 * limits::LOOK_AROUND;
        assert!(!late.lasts(|| Some(1)));
    }
}
