//! The thread that keeps the time while guests run: it makes them look at the clock, and tells when
//! a deadline is reached.
//!
//! Promises:
//! - the engine's epoch moves on every [`limits::EPOCH_TICK`] while a guest runs, so that a guest
//!   that computes lets others run;
//! - a [`Watch`] ends within a tick of its deadline, even when the guest holds the runtime's thread;
//! - while nothing runs, the thread sleeps.
//!
//! Why not a timer of the runtime's: arming one per invocation wakes the runtime's own driver,
//! which costs two system calls each time.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll};
use std::thread::{self, Thread};
use std::time::Instant;

use futures_util::task::AtomicWaker;

use crate::limits;
use crate::lock::lock;

/// The handle of the thread; dropping it ends the thread.
pub struct Ticker {
    shared: Arc<Shared>,
}

/// Keeps the epoch moving while a guest runs.
pub struct Ticking(Arc<Shared>);

/// Ends when its deadline is reached.
pub struct Watch {
    shared: Arc<Shared>,
    alarm: Arc<Alarm>,
}

struct Alarm {
    deadline: Instant,
    rung: AtomicBool,
    waker: AtomicWaker,
}

struct Shared {
    /// What runs now: guests, and watches.
    running: AtomicUsize,
    parked: AtomicBool,
    stopped: AtomicBool,
    alarms: Mutex<Vec<Arc<Alarm>>>,
    thread: OnceLock<Thread>,
}

/// Ticks for which the thread goes on after the last guest, so that a busy environment never has
/// to wake it.
const IDLE_TICKS: u32 = 200;

impl Ticker {
    /// Starts the thread for an engine. Fails if the system gives it none.
    pub fn start(engine: wasmtime::EngineWeak) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            running: AtomicUsize::new(0),
            parked: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            alarms: Mutex::default(),
            thread: OnceLock::new(),
        });
        let inner = shared.clone();
        let ticker = thread::Builder::new()
            .name("ticker".to_owned())
            .spawn(move || inner.run(&engine))?;
        let _ = shared.thread.set(ticker.thread().clone());
        Ok(Self { shared })
    }

    /// Keeps the epoch moving until the guard is dropped.
    pub fn tick(&self) -> Ticking {
        self.shared.begin();
        Ticking(self.shared.clone())
    }

    /// Watches a deadline.
    pub fn watch(&self, deadline: Instant) -> Watch {
        let alarm = Arc::new(Alarm {
            deadline,
            rung: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        self.shared.alarms().push(alarm.clone());
        self.shared.begin();
        Watch {
            shared: self.shared.clone(),
            alarm,
        }
    }
}

impl Shared {
    fn run(&self, engine: &wasmtime::EngineWeak) {
        let mut idle_ticks = 0;
        while !self.stopped.load(Ordering::SeqCst) {
            thread::sleep(limits::EPOCH_TICK);
            if self.running.load(Ordering::SeqCst) > 0 {
                idle_ticks = 0;
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
                self.ring();
                continue;
            }
            idle_ticks += 1;
            if idle_ticks >= IDLE_TICKS {
                self.parked.store(true, Ordering::SeqCst);
                // Whatever starts after this check finds `parked` set, and wakes the thread.
                while self.running.load(Ordering::SeqCst) == 0
                    && !self.stopped.load(Ordering::SeqCst)
                {
                    thread::park();
                }
                self.parked.store(false, Ordering::SeqCst);
                idle_ticks = 0;
            }
        }
    }

    /// Ends the watches whose deadline is reached.
    fn ring(&self) {
        let now = Instant::now();
        for alarm in self.alarms().iter().filter(|alarm| alarm.deadline <= now) {
            alarm.rung.store(true, Ordering::Release);
            alarm.waker.wake();
        }
    }

    fn begin(&self) {
        self.running.fetch_add(1, Ordering::SeqCst);
        if self.parked.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    fn end(&self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn alarms(&self) -> MutexGuard<'_, Vec<Arc<Alarm>>> {
        lock(&self.alarms)
    }
}

impl Future for Watch {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.alarm.waker.register(cx.waker());
        // Looked at after the waker is in place, so that a ring in between is not missed.
        if self.alarm.rung.load(Ordering::Acquire) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared
            .alarms()
            .retain(|other| !Arc::ptr_eq(other, &self.alarm));
        self.shared.end();
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.shared.wake();
    }
}
