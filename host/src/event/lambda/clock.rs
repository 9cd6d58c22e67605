//! What is known of the Runtime API's clock: whether it is another than this machine's, as far as the dates of
//! its replies tell.
//!
//! A post is replied to at once, so the reply's date lies between the sending and the reply's arrival. An event
//! tells less: where it had to wait for a thaw its date is old. But it came no earlier than it was sent, so a
//! date that is newer than what is known allows says that one of the clocks was set. A date that is older has
//! one of two reasons, that and a wait; a reply to a question that is asked then tells them apart.
//!
//! Promises: this machine's own clock is never taken for another one, except for one reply if it is set back
//! while that is on its way; a clock that is ahead is noticed sooner or later, one that is two seconds behind
//! at once.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::invocation::Ahead;
use crate::limits;
use crate::lock::lock;

/// What is known of the other side's clock. Shared by all connections to it.
#[derive(Debug, Clone, Default)]
pub(super) struct Clock(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    offset: Option<Offset>,
    /// The last reply.
    last: Option<Shown>,
}

#[derive(Debug)]
struct Shown {
    /// Its date, in milliseconds since the Unix epoch.
    date_ms: u64,
    asked: Instant,
    replied: Instant,
}

/// How far it is ahead of this machine's, in milliseconds: at least and at most. Negative if it is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offset {
    least: i64,
    most: i64,
    /// At most, if its dates are as new as the replies: until the dates contradict that.
    most_if_fresh: Option<i64>,
}

impl Clock {
    /// Takes note of what the other side's clock showed, to the second, between two times of this machine's.
    pub(super) fn shown(&self, date_ms: u64, asked_ms: u64, replied_ms: u64) {
        let replied = Instant::now();
        // Both times are cut down to the millisecond. Where this machine's clock was set forward meanwhile, it
        // seems to have been asked earlier.
        let took = Duration::from_millis(replied_ms.saturating_sub(asked_ms).saturating_sub(1));
        let mut known = lock(&self.0);
        known.last = replied.checked_sub(took).map(|asked| Shown {
            date_ms,
            asked,
            replied,
        });
        if let Some(shown) = Offset::shown(date_ms, asked_ms, replied_ms) {
            let both = known.offset.map_or(shown, |offset| offset.narrowed(shown));
            known.offset = Some(both);
        }
    }

    /// Takes note of the date of an event, which may have been sent long before it came.
    pub(super) fn handed_out(&self, date_ms: u64, came_ms: u64) {
        let Some(handed_out) = Offset::shown(date_ms, came_ms, came_ms) else {
            return;
        };
        let same = limits::CLOCK_DIFFERENCE_MAX.as_millis() as i64;
        let mut known = lock(&self.0);
        match &mut known.offset {
            Some(offset) if handed_out.least <= offset.upper() + same => {
                offset.least = offset.least.max(handed_out.least.min(offset.upper()));
            }
            None if handed_out.least <= same => {}
            offset => *offset = Some(handed_out),
        }
    }

    /// Whether an event with this date, which came at this time of this machine's, seems to have been under way
    /// for long: it has, or one of the clocks was set.
    pub(super) fn looks_old(&self, date_ms: u64, came_ms: u64) -> bool {
        let ahead = lock(&self.0).offset.map_or(0, |offset| offset.least);
        let explained = date_ms + 999 + limits::DATE_AGE_MAX.as_millis() as u64;
        came_ms.saturating_add_signed(ahead) > explained
    }

    /// How far it is ahead of this machine's, if it is known to be another one.
    pub(super) fn ahead(&self) -> Option<Ahead> {
        let offset = lock(&self.0).offset.filter(Offset::is_difference)?;
        Some(Ahead {
            least_ms: offset.least,
            most_ms: offset.upper(),
        })
    }

    /// What it shows by now at least, in milliseconds since the Unix epoch, if it was asked since then and has
    /// replied. What was asked before may be of the time before a clock was set.
    pub(super) fn shows_since(&self, begun: Instant) -> Option<u64> {
        let known = lock(&self.0);
        let last = known.last.as_ref().filter(|last| last.asked >= begun)?;
        Some(last.date_ms + last.replied.elapsed().as_millis() as u64)
    }
}

/// How far a clock is ahead that has shown this, to the second, just when this machine's showed that.
pub(super) fn just_shown(date_ms: u64, now_ms: u64) -> Ahead {
    let least_ms = date_ms as i64 - now_ms as i64;
    Ahead {
        least_ms,
        most_ms: least_ms + 999,
    }
}

impl Offset {
    /// Nothing, if this machine's clock was set back meanwhile.
    fn shown(date_ms: u64, asked_ms: u64, replied_ms: u64) -> Option<Self> {
        let (date, asked, replied) = (date_ms as i64, asked_ms as i64, replied_ms as i64);
        let most = date + 999 - asked;
        (asked <= replied).then_some(Self {
            least: date - replied,
            most: most + limits::DATE_AGE_MAX.as_millis() as i64,
            most_if_fresh: Some(most),
        })
    }

    /// The overlap of both ranges; the later one if there is none, because one of the clocks was set.
    fn narrowed(self, later: Self) -> Self {
        let least = self.least.max(later.least);
        let most_if_fresh = self.most_if_fresh.zip(later.most_if_fresh);
        let both = Self {
            least,
            most: self.most.min(later.most),
            most_if_fresh: most_if_fresh
                .map(|(one, other)| one.min(other))
                .filter(|most| least <= *most),
        };
        match both.least <= both.most {
            true => both,
            false => later,
        }
    }

    /// At most, by all that is known.
    fn upper(&self) -> i64 {
        self.most_if_fresh.unwrap_or(self.most)
    }

    /// Whether it is another clock: nearer than that it is the same, as far as dates can tell.
    fn is_difference(&self) -> bool {
        let same = limits::CLOCK_DIFFERENCE_MAX.as_millis() as i64;
        self.least > same || self.most < -same
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    impl Clock {
        fn is_another(&self) -> bool {
            self.ahead().is_some()
        }

        fn offset(&self) -> Option<Offset> {
            lock(&self.0).offset
        }
    }

    /// A clock that shows replies which take this long at each moment of a second, so far ahead.
    fn shown(ahead: i64, took: u64) -> Clock {
        let clock = Clock::default();
        for moment in (0..1_000).step_by(10) {
            let at = (NOW + moment).saturating_add_signed(ahead);
            clock.shown(at - at % 1_000, NOW + moment, NOW + moment + took);
        }
        clock
    }

    #[test]
    fn the_same_clock_is_no_other_one_however_long_a_reply_takes() {
        assert!(!Clock::default().is_another());
        for took in [0, 1, 100, 5_000] {
            assert!(!shown(0, took).is_another(), "{took} ms");
        }
    }

    /// As of a server that looks at its clock once in a second.
    #[test]
    fn the_same_clock_is_no_other_one_where_its_dates_are_old() {
        assert!(!shown(-999, 0).is_another());
    }

    #[test]
    fn another_clock_is_noticed_by_the_dates_of_its_replies() {
        for ahead in [-3_600_000, -5_000, -2_100, 500, 5_000, 3_600_000] {
            assert!(shown(ahead, 1).is_another(), "{ahead} ms");
        }
        for ahead in [-3_600_000, -5_000, 1_100, 3_600_000] {
            let clock = Clock::default();
            let at = (NOW + 990).saturating_add_signed(ahead);
            clock.shown(at - at % 1_000, NOW + 990, NOW + 991);
            assert!(clock.is_another(), "{ahead} ms");
        }
    }

    #[test]
    fn another_clock_is_known_to_some_milliseconds_once_it_has_shown_enough_dates() {
        for ahead in [-3_600_400, -1_500, -500, 0, 300, 2_500] {
            let offset = shown(ahead, 3).offset().unwrap();
            let most = offset.most_if_fresh.unwrap();
            assert!(
                (offset.least..=most).contains(&ahead),
                "{ahead}: {offset:?}"
            );
            assert!(most - offset.least <= 20, "{ahead}: {offset:?}");
        }
    }

    #[test]
    fn dates_that_contradict_each_other_are_old() {
        let clock = Clock::default();
        for (moment, date_ms) in [(10, NOW), (990, NOW), (1_500, NOW), (1_510, NOW + 1_000)] {
            clock.shown(date_ms, NOW + moment, NOW + moment + 1);
        }
        clock.shown(NOW + 2_000, NOW + 2_010, NOW + 2_011);
        assert_eq!(clock.offset().unwrap().most_if_fresh, None);
        assert!(!clock.is_another());
    }

    #[test]
    fn a_clock_that_was_set_is_known_by_its_next_reply() {
        let clock = shown(-5_000, 1);
        clock.shown(NOW, NOW + 10, NOW + 11);
        assert!(!clock.is_another());
        let clock = shown(0, 1);
        clock.shown(NOW - 5_000, NOW + 10, NOW + 11);
        assert!(clock.is_another());
        // This machine's, while the reply was on its way.
        let clock = Clock::default();
        clock.shown(NOW, NOW + 10, NOW - 3_600_000);
        assert!(!clock.is_another());
    }
    /// An event came no earlier than it was sent, and perhaps later.
    #[test]
    fn the_date_of_an_event_tells_of_a_clock_that_is_ahead_and_of_none_that_is_behind() {
        let is_another = |date_ms| {
            [Clock::default(), shown(0, 1)].map(|clock| {
                clock.handed_out(date_ms, NOW);
                clock.is_another()
            })
        };
        assert_eq!(is_another(NOW + 1_000), [true, true]);
        assert_eq!(is_another(NOW), [false, false]);
        assert_eq!(is_another(NOW - 3_600_000), [false, false]);
    }

    #[test]
    fn a_clock_that_was_set_is_known_by_the_next_event_where_its_date_is_newer_than_can_be() {
        let clock = shown(-3_600_000, 1);
        clock.handed_out(NOW - 3_590_000, NOW);
        let ahead = clock.ahead().unwrap();
        assert_eq!((ahead.least_ms, ahead.most_ms), (-3_590_000, -3_589_001));
    }

    #[test]
    fn an_event_looks_old_by_what_is_known_of_the_clock() {
        for ahead in [-3_600_000, 0, 3_600_000] {
            let clock = shown(ahead, 1);
            let sent = NOW.saturating_add_signed(ahead);
            assert!(!clock.looks_old(sent, NOW), "{ahead}");
            assert!(!clock.looks_old(sent, NOW + 1_900), "{ahead}");
            assert!(clock.looks_old(sent, NOW + 2_100), "{ahead}");
        }
        assert!(Clock::default().looks_old(NOW, NOW + 2_100));
    }

    #[test]
    fn a_clock_shows_no_less_than_its_last_reply_did() {
        let (before, clock) = (Instant::now(), Clock::default());
        assert_eq!(clock.shows_since(before), None);
        // Asked before that.
        clock.shown(NOW, NOW - 1_000, NOW);
        assert_eq!(clock.shows_since(before), None);
        clock.shown(NOW, NOW, NOW);
        assert!(clock.shows_since(before).unwrap() >= NOW);
        assert_eq!(clock.shows_since(Instant::now()), None);
    }
}
