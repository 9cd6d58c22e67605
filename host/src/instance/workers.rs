//! Which thread guests run on, where there are worker threads beside the home thread.
//!
//! Where several invocations run at a time, a guest that computes must not keep the host from asking for
//! events, posting answers and watching deadlines. But most guests are brief, and to hand one to another thread
//! and back takes longer than it runs. So guests run on the home thread, which does everything else as well,
//! until they are seen to compute.
//!
//! Promises:
//! - guests that compute have the home thread for a few turns, each of which the epoch's tick ends; then all
//!   guests run on the workers, for so long that such turns are a small part of the time;
//! - guests that fill the home thread with short turns leave it as well, where there is another processor;
//! - what guests open and begin belongs to the home thread, wherever they run meanwhile.
//!
//! Left to others: what is to be run ([`super::keeper`]).

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::metered::processor_time;

/// A turn that takes this much processor time is a long one.
const LONG: Duration = Duration::from_micros(200);
/// After a turn that was long by the clock, the processor time of turns is measured for this long.
const DOUBT: Duration = Duration::from_millis(10);
/// Guests may spend one part in so many of the time on long turns on the home thread.
const SHARE: u32 = 20;
/// How much of that share they may use at once.
const AT_ONCE: Duration = Duration::from_millis(10);
/// How far all turns together may exceed three quarters of the time, before the home thread counts as full.
const FULL: Duration = Duration::from_millis(50);
/// For how long guests then run on the workers.
const RELIEF: Duration = Duration::from_secs(1);

/// The threads on which guests may run.
pub struct Workers {
    home: Handle,
    workers: Handle,
    begun: Instant,
    turns: Turns,
    /// Whether the workers have a processor beside that of the home thread.
    are_beside: bool,
}

/// How long the turns on the home thread were. All times are since it began. Only that thread writes them.
#[derive(Default)]
struct Turns {
    /// Until when each turn's processor time is measured.
    doubted: Moment,
    /// When the long turns so far will be within their share again.
    even: Moment,
    /// When all turns so far will be within three quarters of the time again.
    free: Moment,
    /// Until when all guests run on the workers.
    away: Moment,
}

/// A time that other threads may look at, in nanoseconds.
#[derive(Default)]
struct Moment(AtomicU64);

/// The task that owns an instance, which moves between the threads.
struct Roaming {
    keeping: Pin<Box<dyn Future<Output = ()> + Send>>,
    workers: Arc<Workers>,
}

impl Workers {
    /// Guests run on the runtime that calls this, or on `workers`.
    pub fn new(workers: Handle) -> Arc<Self> {
        Arc::new(Self {
            home: Handle::current(),
            workers,
            begun: Instant::now(),
            turns: Turns::default(),
            are_beside: std::thread::available_parallelism().is_ok_and(|number| number.get() > 1),
        })
    }

    /// Runs what keeps an instance.
    pub(super) fn run(self: &Arc<Self>, keeping: impl Future<Output = ()> + Send + 'static) {
        let roaming = Roaming {
            keeping: Box::pin(keeping),
            workers: self.clone(),
        };
        roaming.go_on();
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }
}

impl Turns {
    fn is_doubted(&self, now: Duration) -> bool {
        now < self.doubted.get()
    }

    fn are_away(&self, now: Duration) -> bool {
        now < self.away.get()
    }

    /// A turn was long by the clock, perhaps only because the thread itself had to wait.
    fn seemed_long(&self, now: Duration) {
        self.doubted.set(now + DOUBT);
    }

    /// A turn that began then took so long, whatever the guest did.
    fn took(&self, took: Duration, begun: Duration) {
        let free = self.free.get().max(begun) + took * 4 / 3;
        self.free.set(free);
        let now = begun + took;
        if free.saturating_sub(now) > FULL {
            self.free.set(now);
            self.away.set(self.away.get().max(now + RELIEF));
        }
    }

    /// A guest has computed for so long in one turn.
    fn was_long(&self, computed: Duration, now: Duration) {
        let even = self.even.get().max(now) + computed * SHARE;
        self.even.set(even);
        let at_once = AT_ONCE * SHARE;
        if even - now < at_once {
            return;
        }
        self.away.set(even);
        // When guests are back here, a single long turn is enough to send them away again.
        self.even.set(even + at_once);
        self.doubted.set(even + at_once);
    }
}

impl Moment {
    fn get(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, time: Duration) {
        // Enough for centuries.
        self.0.store(time.as_nanos() as u64, Ordering::Relaxed);
    }
}

impl Roaming {
    /// Runs on the thread where it belongs now, until that changes.
    fn go_on(mut self) {
        let away = self.workers.turns.are_away(self.workers.now());
        let on = match away {
            true => self.workers.workers.clone(),
            false => self.workers.home.clone(),
        };
        on.spawn(async move {
            let is_over = poll_fn(|cx| self.turn(away, cx)).await;
            if !is_over {
                self.go_on();
            }
        });
    }

    /// Takes one turn, if it still belongs on this thread. Ready with true once the instance has ended, and
    /// with false if it is to go on elsewhere.
    fn turn(&mut self, away: bool, cx: &mut Context<'_>) -> Poll<bool> {
        let (turns, begun) = (&self.workers.turns, self.workers.now());
        if turns.are_away(begun) != away {
            return Poll::Ready(false);
        }
        if away {
            // So that a connection opened here is registered with the home thread, where it is used for longer.
            let _home = self.workers.home.enter();
            return self.keeping.as_mut().poll(cx).map(|()| true);
        }
        // The processor time is a call of the system, which most turns are not worth.
        let spent = turns.is_doubted(begun).then(processor_time);
        let polled = self.keeping.as_mut().poll(cx);
        let now = self.workers.now();
        if self.workers.are_beside {
            turns.took(now - begun, begun);
        }
        if now - begun >= LONG {
            turns.seemed_long(now);
            let computed = spent.map(|spent| processor_time().saturating_sub(spent));
            if let Some(computed) = computed.filter(|computed| *computed >= LONG) {
                turns.was_long(computed, now);
            }
        }
        polled.map(|()| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What guests compute on the home thread in a minute, in one turn of this length after the other with so
    /// much time in between.
    fn at_home(turn: Duration, pause: Duration) -> Duration {
        let (turns, mut now, mut at_home) = (Turns::default(), Duration::ZERO, Duration::ZERO);
        while now < Duration::from_secs(60) {
            let away = turns.are_away(now);
            let measured = turns.is_doubted(now);
            now += turn;
            if !away {
                at_home += turn;
                turns.seemed_long(now);
                if measured {
                    turns.was_long(turn, now);
                }
            }
            now += pause;
        }
        at_home
    }

    #[test]
    fn guests_that_compute_have_a_small_part_of_the_home_threads_time() {
        let share = Duration::from_secs(60) / SHARE;
        for turn in [5, 1, 50].map(Duration::from_millis) {
            for pause in [0, 1, 5].map(Duration::from_millis) {
                let at_home = at_home(turn, pause);
                assert!(
                    at_home <= share + AT_ONCE + turn,
                    "{turn:?} {pause:?}: {at_home:?}"
                );
            }
        }
    }

    #[test]
    fn short_turns_move_guests_only_where_they_fill_the_thread() {
        let turn = Duration::from_micros(150);
        for (pause_us, leave) in [(10, true), (30, true), (75, false), (150, false)] {
            let (turns, mut now) = (Turns::default(), Duration::ZERO);
            while now < Duration::from_secs(10) && !turns.are_away(now) {
                turns.took(turn, now);
                now += turn + Duration::from_micros(pause_us);
            }
            assert_eq!(turns.are_away(now), leave, "{pause_us}");
        }
    }

    #[test]
    fn a_long_turn_now_and_then_moves_nobody() {
        let turns = Turns::default();
        for second in 0..60 {
            let now = Duration::from_secs(second);
            turns.was_long(AT_ONCE / 2, now);
            assert!(!turns.are_away(now), "{now:?}");
        }
    }
}
