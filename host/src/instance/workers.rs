//! Which thread guests run on, where there are worker threads beside the home thread.
//!
//! Where several invocations run at a time, a guest that computes must not keep the host from asking for
//! events, posting answers and watching deadlines. But most guests are brief, and to hand one to another thread
//! and back takes longer than it runs. So guests run on the home thread, which does everything else as well,
//! until they are seen to compute. On the workers a guest's turn comes behind the turns of those that compute.
//!
//! Promises:
//! - guests that compute have the home thread for a few turns, each of which the epoch's tick ends, and such turns
//!   are a small part of the time; once that is used up, the home thread is for guests that are known to be brief,
//!   and who computes nevertheless leaves it until its turns have been short for a while, or it has not computed for
//!   some seconds and the home thread has time;
//! - a new instance is taken for what the last one of its function was known to be;
//! - if guests that were brief use up as much again, all guests run on the workers for that long;
//! - guests that fill the home thread with short turns leave it as well, where there is another processor;
//! - what guests open and begin belongs to the home thread, wherever they run meanwhile.
//!
//! Left to others: what is to be run ([`super::keeper`]).

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::metered::processor_time;

/// A turn that takes this much processor time is a long one.
const LONG: Duration = Duration::from_micros(200);
/// After a turn that was long by the clock, the processor time of turns is measured for this long. A guest with long
/// turns that are further apart is not noticed.
const DOUBT: Duration = Duration::from_millis(50);
/// A turn that is younger has only just begun.
const JUST: Duration = Duration::from_millis(1);
/// Guests may spend one part in so many of the time on long turns on the home thread.
const SHARE: u32 = 20;
/// How much of that share they may use at once.
const AT_ONCE: Duration = Duration::from_millis(10);
/// An instance is known to be brief after so many short turns in a row. An event takes some four.
const BRIEF_TURNS: u32 = 16;
/// How far all turns together may exceed three quarters of the time, before the home thread counts as full.
const FULL: Duration = Duration::from_millis(50);
/// For how long guests then run on the workers.
const RELIEF: Duration = Duration::from_secs(1);
/// After so long without a long turn an instance may try the home thread again.
const REST: Duration = Duration::from_secs(3);

thread_local! {
    /// When this thread's latest turn began.
    static BEGUN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Whether the turn that calls this has only just begun. A tick that came while its guest waited is then no reason to
/// end it: on a worker, the next one would come behind those of all that compute.
pub(super) fn has_turn_just_begun() -> bool {
    BEGUN.get().is_some_and(|begun| begun.elapsed() < JUST)
}

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
    /// When the long turns so far will be within their share.
    even: Moment,
    /// When all turns so far will be within three quarters of the time again.
    free: Moment,
    /// Until when all guests run on the workers because they had filled it.
    relieved: Moment,
}

/// What the turns of one instance were like lately.
#[derive(Default)]
struct Habits {
    /// The short turns since the last long one.
    short_turns: u32,
    /// When it last had a long turn for which there was no time on the home thread.
    computed: Option<Duration>,
}

/// What is known of how a function's instances behave: the short turns that the one that ended last had had since its
/// latest long one. The next instance begins with them.
#[derive(Default)]
pub struct Heritage(AtomicU32);

/// A turn that an instance has had.
struct Turn {
    /// Whether on a worker.
    away: bool,
    begun: Duration,
    /// By the clock.
    took: Duration,
    /// The processor time of it, if it was measured.
    computed: Option<Duration>,
}

/// A time that other threads may look at, in nanoseconds.
#[derive(Default)]
struct Moment(AtomicU64);

/// The task that owns an instance, which moves between the threads.
struct Roaming {
    keeping: Pin<Box<dyn Future<Output = ()> + Send>>,
    workers: Arc<Workers>,
    habits: Habits,
    heritage: Arc<Heritage>,
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

    /// Runs what keeps an instance, of a function with this heritage.
    pub(super) fn run(
        self: &Arc<Self>,
        keeping: impl Future<Output = ()> + Send + 'static,
        heritage: &Arc<Heritage>,
    ) {
        let roaming = Roaming {
            keeping: Box::pin(keeping),
            workers: self.clone(),
            habits: heritage.habits(),
            heritage: heritage.clone(),
        };
        roaming.go_on();
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }
}

impl Turns {
    /// Whether the processor time of a turn that begins now is to be measured. It is a call of the system, which
    /// most turns on the home thread are not worth.
    fn are_measured(&self, away: bool, now: Duration) -> bool {
        away || now < self.doubted.get() || now < self.even.get()
    }

    /// Whether an instance with these habits belongs on a worker.
    fn are_away(&self, habits: &Habits, now: Duration) -> bool {
        let computes = |last: Duration| now < (last + REST).max(self.even.get());
        habits.computed.is_some_and(computes)
            || now < self.relieved.get()
            || self.is_used_up(if habits.are_brief() { 2 } else { 1 }, now)
    }

    /// Whether long turns have taken so many times what they may take at once of the home thread, beside their share.
    fn is_used_up(&self, times: u32, now: Duration) -> bool {
        self.even.get().saturating_sub(now) >= AT_ONCE * SHARE * times
    }

    /// Takes note of a turn of an instance with these habits.
    fn note(&self, turn: &Turn, habits: &mut Habits) {
        let now = turn.begun + turn.took;
        if turn.took < LONG {
            return habits.was_short();
        }
        if !turn.away {
            // Perhaps only because the thread itself had to wait.
            self.doubted.set(now + DOUBT);
        }
        match turn.computed {
            None => {}
            Some(computed) if computed < LONG => habits.was_short(),
            Some(computed) => {
                if !turn.away {
                    self.even.set(self.even.get().max(now) + computed * SHARE);
                }
                // Those that are away only because all are may have computed within their share.
                let had_no_time = turn.away && turn.begun >= self.relieved.get();
                habits.was_long(now, had_no_time || self.is_used_up(1, now));
            }
        }
    }

    /// A turn on the home thread that began then took so long, whatever the guest did.
    fn took(&self, took: Duration, begun: Duration) {
        let free = self.free.get().max(begun) + took * 4 / 3;
        self.free.set(free);
        let now = begun + took;
        if free.saturating_sub(now) > FULL {
            self.free.set(now);
            self.relieved.set(now + RELIEF);
        }
    }
}

impl Habits {
    fn are_brief(&self) -> bool {
        self.short_turns >= BRIEF_TURNS
    }

    fn was_short(&mut self) {
        self.short_turns = self.short_turns.saturating_add(1);
        if self.are_brief() {
            self.computed = None;
        }
    }

    fn was_long(&mut self, now: Duration, leaves: bool) {
        self.short_turns = 0;
        if leaves {
            self.computed = Some(now);
        }
    }
}

impl Heritage {
    fn habits(&self) -> Habits {
        Habits {
            short_turns: self.0.load(Ordering::Relaxed),
            computed: None,
        }
    }

    fn bequeath(&self, habits: &Habits) {
        self.0.store(habits.short_turns, Ordering::Relaxed);
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
        let away = (self.workers.turns).are_away(&self.habits, self.workers.now());
        let on = match away {
            true => self.workers.workers.clone(),
            false => self.workers.home.clone(),
        };
        on.spawn(async move {
            let is_over = poll_fn(|cx| self.turn(away, cx)).await;
            match is_over {
                true => self.heritage.bequeath(&self.habits),
                false => self.go_on(),
            }
        });
    }

    /// Takes one turn, if it still belongs on this thread. Ready with true once the instance has ended, and
    /// with false if it is to go on elsewhere.
    fn turn(&mut self, away: bool, cx: &mut Context<'_>) -> Poll<bool> {
        let (turns, begun) = (&self.workers.turns, self.workers.now());
        if turns.are_away(&self.habits, begun) != away {
            return Poll::Ready(false);
        }
        let spent = turns.are_measured(away, begun).then(processor_time);
        BEGUN.set(Some(self.workers.begun + begun));
        let polled = {
            // So that a connection opened here is registered with the home thread, where it is used for longer.
            let _home = away.then(|| self.workers.home.enter());
            self.keeping.as_mut().poll(cx)
        };
        let took = self.workers.now() - begun;
        if !away && self.workers.are_beside {
            turns.took(took, begun);
        }
        let spent = spent.filter(|_| took >= LONG);
        let turn = Turn {
            away,
            begun,
            took,
            computed: spent.map(|spent| processor_time().saturating_sub(spent)),
        };
        turns.note(&turn, &mut self.habits);
        polled.map(|()| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const BRIEF: Duration = Duration::from_micros(50);
    /// The epoch's tick.
    const TICK: Duration = Duration::from_millis(5);

    /// A guest takes its turns in a round, with the habits of its instance and the number of the round.
    type Guest = fn(&mut Habits, u32) -> Duration;

    /// What guests of this kind compute on the home thread in a minute of long turns, one turn after the other with
    /// so much time in between. Those on workers have theirs beside it.
    fn at_home(guests: usize, turn: Guest, pause: Duration) -> Duration {
        let turns = Turns::default();
        let mut guests: Vec<Habits> = (0..guests).map(|_| Habits::default()).collect();
        let (mut now, mut at_home) = (Duration::ZERO, Duration::ZERO);
        for round in 0.. {
            for habits in &mut guests {
                let took = turn(habits, round);
                let away = turns.are_away(habits, now);
                let computed = turns.are_measured(away, now).then_some(took);
                let turn = Turn {
                    away,
                    begun: now,
                    took,
                    computed,
                };
                turns.note(&turn, habits);
                if !away {
                    now += took;
                    at_home += if took >= LONG { took } else { Duration::ZERO };
                }
                now += pause;
            }
            now += BRIEF;
            if now >= MINUTE {
                break;
            }
        }
        at_home
    }

    fn always(_: &mut Habits, _: u32) -> Duration {
        TICK
    }

    /// Each in an instance of its own.
    fn fresh(habits: &mut Habits, _: u32) -> Duration {
        *habits = Habits::default();
        TICK
    }

    fn every_other(_: &mut Habits, round: u32) -> Duration {
        if round.is_multiple_of(2) { TICK } else { BRIEF }
    }

    /// So that each is taken for brief before.
    fn now_and_then(_: &mut Habits, round: u32) -> Duration {
        if round % (BRIEF_TURNS + 1) == BRIEF_TURNS {
            TICK
        } else {
            BRIEF
        }
    }

    #[test]
    fn guests_that_compute_have_a_small_part_of_the_home_threads_time() {
        // And what is not noticed.
        let share = MINUTE / SHARE + MINUTE / 10;
        for guests in [1, 63] {
            for (kind, turn) in [always as Guest, fresh, every_other, now_and_then]
                .into_iter()
                .enumerate()
            {
                for pause in [0, 1, 5].map(Duration::from_millis) {
                    let at_home = at_home(guests, turn, pause);
                    assert!(
                        at_home <= share + 2 * (AT_ONCE + TICK),
                        "{guests}, {kind}, {pause:?}: {at_home:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn brief_guests_stay_while_those_that_compute_are_away() {
        let (turns, mut brief) = (Turns::default(), Habits::default());
        for _ in 0..BRIEF_TURNS {
            brief.was_short();
        }
        let mut burners: Vec<Habits> = (0..63).map(|_| Habits::default()).collect();
        let (mut now, mut tries) = (Duration::ZERO, 0);
        for round in 0..1_000 {
            for habits in &mut burners {
                let away = turns.are_away(habits, now);
                let turn = Turn {
                    away,
                    begun: now,
                    took: TICK,
                    computed: turns.are_measured(away, now).then_some(TICK),
                };
                turns.note(&turn, habits);
                tries += u32::from(!away);
            }
            now += TICK;
            assert!(!turns.are_away(&brief, now), "{round}");
        }
        assert!(tries < 10, "{tries}");
        // One that computes no more is back before long.
        let back = &mut burners[0];
        for _ in 0..BRIEF_TURNS {
            assert!(turns.are_away(back, now));
            back.was_short();
        }
        assert!(!turns.are_away(back, now));
    }

    #[test]
    fn who_has_not_computed_for_a_while_is_back() {
        let (turns, mut habits, mut now) = (Turns::default(), Habits::default(), Duration::ZERO);
        while !turns.are_away(&habits, now) {
            let turn = Turn {
                away: false,
                begun: now,
                took: TICK,
                computed: Some(TICK),
            };
            turns.note(&turn, &mut habits);
            now += TICK;
        }
        assert!(turns.are_away(&habits, now + REST / 2));
        assert!(!turns.are_away(&habits, now + REST));
        // Not where others use up the time on the home thread.
        turns.even.set(now + 2 * REST);
        assert!(turns.are_away(&habits, now + REST));
    }

    #[test]
    fn a_new_instance_is_taken_for_what_the_last_one_was() {
        let (turns, heritage) = (Turns::default(), Heritage::default());
        turns.even.set(AT_ONCE * SHARE);
        assert!(turns.are_away(&heritage.habits(), Duration::ZERO));
        // Each has a few turns, as where every invocation has an instance of its own.
        for _ in 0..BRIEF_TURNS / 4 {
            let mut habits = heritage.habits();
            (0..4).for_each(|_| habits.was_short());
            heritage.bequeath(&habits);
        }
        assert!(!turns.are_away(&heritage.habits(), Duration::ZERO));
        let mut habits = heritage.habits();
        habits.was_long(Duration::ZERO, false);
        heritage.bequeath(&habits);
        assert!(turns.are_away(&heritage.habits(), Duration::ZERO));
    }

    #[test]
    fn short_turns_move_guests_only_where_they_fill_the_thread() {
        let (turn, brief) = (Duration::from_micros(150), Habits::default());
        for (pause_us, leave) in [(10, true), (30, true), (75, false), (150, false)] {
            let (turns, mut now) = (Turns::default(), Duration::ZERO);
            while now < Duration::from_secs(10) && !turns.are_away(&brief, now) {
                turns.took(turn, now);
                now += turn + Duration::from_micros(pause_us);
            }
            assert_eq!(turns.are_away(&brief, now), leave, "{pause_us}");
        }
    }

    #[test]
    fn a_long_turn_now_and_then_moves_nobody() {
        let (turns, mut habits) = (Turns::default(), Habits::default());
        for second in 0..60 {
            let turn = Turn {
                away: false,
                begun: Duration::from_secs(second),
                took: AT_ONCE / 2,
                computed: Some(AT_ONCE / 2),
            };
            turns.note(&turn, &mut habits);
            let now = turn.begun + turn.took;
            for habits in [&habits, &Habits::default()] {
                assert!(!turns.are_away(habits, now), "{now:?}");
            }
        }
    }
}
