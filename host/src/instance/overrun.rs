//! How long an invocation has run past its deadline, where others may be in its instance.
//!
//! Promises: an invocation that only waits is not counted when it wakes up, however late that is; one that goes
//! on computing, in one piece or in many, is found once it has computed for [`limits::OVERRUN_MAX`].
//!
//! Left to others: what becomes of it, which is the instance's end ([`super::keeper`]).

use std::time::{Duration, Instant};

use crate::limits;

/// In the long run it may use one part in so many of the time.
const SHARE: u32 = 20;

/// For how long an invocation has run past its deadline, less what it has waited since.
#[derive(Default)]
pub(super) struct Overrun {
    ran: Duration,
    /// Until when it has run.
    until: Option<Instant>,
}

impl Overrun {
    /// It has run from `from` until `now`. At most a tick of that counts: in anything longer others had their
    /// turns, or the process stood still. Returns whether it has run for too long by now.
    pub(super) fn add(&mut self, from: Instant, now: Instant) -> bool {
        let waited = self.until.replace(now).map_or(Duration::ZERO, |until| {
            from.saturating_duration_since(until)
        });
        let ran = now.saturating_duration_since(from).min(limits::EPOCH_TICK);
        self.ran = self.ran.saturating_sub(waited / SHARE) + ran;
        self.ran >= limits::OVERRUN_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In how many turns it is found out, each so long after such a wait.
    fn turns(ran: Duration, waited: Duration) -> Option<u32> {
        let (mut overrun, mut now) = (Overrun::default(), Instant::now());
        (1..=10_000).find(|_| {
            let from = now + waited;
            now = from + ran;
            overrun.add(from, now)
        })
    }

    #[test]
    fn who_computes_is_found_out_in_one_piece_or_in_many() {
        let piece = limits::OVERRUN_MAX.div_duration_f64(limits::EPOCH_TICK);
        let pieces = turns(limits::EPOCH_TICK, Duration::ZERO);
        assert_eq!(pieces.map(f64::from), Some(piece));
        // A turn that took long, since the process stood still, counts as any.
        assert_eq!(turns(Duration::from_secs(60), Duration::ZERO), pieces);
        let (short, shorter) = (Duration::from_micros(100), Duration::from_micros(50));
        assert!(turns(short, shorter).is_some_and(|turns| turns > 500));
    }

    #[test]
    fn who_waits_is_not() {
        assert_eq!(turns(Duration::from_micros(100), limits::EPOCH_TICK), None);
        assert_eq!(turns(limits::EPOCH_TICK, Duration::from_secs(1)), None);
    }
}
