//! How long the host may wait for a slow reader of the log.
//!
//! Promises: a reader that takes [`PACE_BYTES`] per second or more is waited for as long as it does; a slower
//! one costs the thread only a small part of its time, however it spreads what it takes.

use std::time::{Duration, Instant};

/// What a reader must take in a second to be waited for without a limit.
const PACE_BYTES: usize = 1024 * 1024;
/// Time without waiting restores the budget this many times slower than waiting uses it up.
const REGAIN: u32 = 8;

/// How much of the time for waiting has been used.
pub(super) struct ReaderBudget {
    /// How long the reader was waited for, less what it has earned since by taking bytes and by time that
    /// passed without waiting.
    waited: Duration,
    /// The time up to which `waited` is accounted for.
    seen: Instant,
}

impl ReaderBudget {
    /// Nothing has been used yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            waited: Duration::ZERO,
            seen: now,
        }
    }

    /// Nobody has waited since the last call, so a part of the budget is restored.
    pub(super) fn regain(&mut self, now: Instant) {
        let rested = now.saturating_duration_since(self.seen) / REGAIN;
        self.waited = self.waited.saturating_sub(rested);
        self.seen = now;
    }

    /// The reader was waited for since the last call.
    pub(super) fn waited(&mut self, now: Instant) {
        self.waited += now.saturating_duration_since(self.seen);
        self.seen = now;
    }

    /// Whether any of a budget of `most` is left.
    pub(super) fn is_left_of(&self, most: Duration) -> bool {
        self.waited < most
    }

    /// The reader has taken so many bytes, which restores a part of the budget.
    pub(super) fn took(&mut self, bytes: usize) {
        let worth = Duration::from_secs(1).mul_f64(bytes as f64 / PACE_BYTES as f64);
        self.waited = self.waited.saturating_sub(worth);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::LOG_PATIENCE;

    const PIECE_BYTES: usize = 4 * 1024;

    /// A minute of somebody who writes without end, to a reader that takes so many bytes in a second: the part of
    /// it that was spent waiting, and how many pieces were lost.
    fn minute(pace_bytes: usize) -> (f64, u64) {
        let start = Instant::now();
        let piece = Duration::from_secs(1).mul_f64(PIECE_BYTES as f64 / pace_bytes as f64);
        let mut budget = ReaderBudget::new(start);
        let (mut now, mut room_at) = (start, start);
        let (mut waiting, mut lost, mut is_stalled) = (Duration::ZERO, 0, false);
        while now < start + Duration::from_secs(60) {
            budget.regain(now);
            let begun = now;
            while now < room_at && !is_stalled && budget.is_left_of(LOG_PATIENCE) {
                now += Duration::from_millis(1);
                budget.waited(now);
            }
            waiting += now - begun;
            is_stalled = now < room_at;
            match is_stalled {
                true => lost += 1,
                false => {
                    budget.took(PIECE_BYTES);
                    room_at = room_at.max(now) + piece;
                }
            }
            now += Duration::from_micros(500);
        }
        (waiting.as_secs_f64() / 60.0, lost)
    }

    #[test]
    fn a_reader_at_the_pace_loses_nothing() {
        assert_eq!(minute(2 * PACE_BYTES).1, 0);
    }

    /// It makes room again and again, so that no single wait is a long one.
    #[test]
    fn a_slow_reader_keeps_the_thread_for_the_smaller_part_of_its_time() {
        for kib in [1, 20, 200] {
            let (waiting, lost) = minute(kib * 1024);
            assert!(waiting < 0.35 && lost > 0, "{kib} KiB/s: {waiting}");
        }
    }

    #[test]
    fn a_reader_that_had_all_of_the_patience_has_it_again_in_time() {
        let start = Instant::now();
        let mut budget = ReaderBudget::new(start);
        let stalled = start + LOG_PATIENCE;
        budget.waited(stalled);
        assert!(!budget.is_left_of(LOG_PATIENCE));
        budget.regain(stalled + LOG_PATIENCE * REGAIN);
        assert!(budget.is_left_of(Duration::from_nanos(1)));
    }
}
