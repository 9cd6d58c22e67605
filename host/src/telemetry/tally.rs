//! What one invocation takes: times, and counts of what it asks of the database.
//!
//! Promises: whatever is counted belongs to this invocation alone, however many share its instance
//! and its connections; counting waits for nobody.
//!
//! Times are sums: of two calls that wait side by side, both count. They are clock time, except the guest's,
//! which is processor time; none of them runs while suspended work is paused.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::account::Account;
use super::emf;
use super::metrics::Metrics;
use crate::fault::Fault;
use crate::invocation::Invocation;

/// The figures of one invocation.
#[derive(Debug)]
pub struct Tally {
    metrics: Arc<Metrics>,
    begun: Instant,
    /// Whether it is the environment's first.
    first: bool,
    /// The idle time before it, by the wall clock.
    thaw_gap: Option<Duration>,
    entered: OnceLock<Entered>,
    answered: OnceLock<Instant>,
    fault: OnceLock<Failed>,
    /// What the processors have spent on the guest's own code up to the answer.
    guest: Time,
    /// The same after it.
    guest_after: Time,
    /// How long it waited for a connection that another invocation, or another call, had.
    pub pool: Time,
    /// How long connections were being made for it.
    pub connecting: Time,
    /// How long it waited for the server.
    pub database: Time,
    /// How long it was suspended in an instance that was paused.
    pub(super) paused: Time,
    connects: Count,
    database_errors: Count,
    round_trips: Count,
    rows: Count,
    received_bytes: Count,
    sent_bytes: Count,
}

/// How it began in its instance.
#[derive(Debug)]
struct Entered {
    at: Instant,
    first: bool,
    memory_bytes: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Failed {
    error_type: String,
    blame: &'static str,
}

/// What has passed between the host and a database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests that were sent as one and waited for.
    pub round_trips: u64,
    /// Rows that arrived.
    pub rows: u64,
    /// Bytes that arrived, before any encryption.
    pub received_bytes: u64,
    /// Bytes that were sent, before any encryption.
    pub sent_bytes: u64,
}

impl Traffic {
    /// Bytes in both directions.
    pub fn bytes(&self) -> u64 {
        self.received_bytes + self.sent_bytes
    }
}

/// A sum of times.
#[derive(Debug, Default)]
pub struct Time(AtomicU64);

#[derive(Debug, Default)]
struct Count(AtomicU64);

impl Tally {
    pub(super) fn begin(metrics: Arc<Metrics>, first: bool, thaw_gap: Option<Duration>) -> Self {
        Self {
            metrics,
            begun: Instant::now(),
            first,
            thaw_gap,
            entered: OnceLock::new(),
            answered: OnceLock::new(),
            fault: OnceLock::new(),
            guest: Time::default(),
            guest_after: Time::default(),
            pool: Time::default(),
            connecting: Time::default(),
            database: Time::default(),
            paused: Time::default(),
            connects: Count::default(),
            database_errors: Count::default(),
            round_trips: Count::default(),
            rows: Count::default(),
            received_bytes: Count::default(),
            sent_bytes: Count::default(),
        }
    }

    /// The guest is called; whether for the first time, and where the size of its memory is told.
    pub fn entered(&self, first: bool, memory_bytes: Arc<AtomicUsize>) {
        let _ = self.entered.set(Entered {
            at: Instant::now(),
            first,
            memory_bytes,
        });
    }

    /// The answer is out. Only the first time counts.
    pub(super) fn answered(&self) {
        if self.answered.set(Instant::now()).is_ok() {
            self.metrics.answered();
        }
    }

    /// The work after the answer is done.
    pub(super) fn worked(&self) {
        self.metrics.busy();
    }

    #[cfg(test)]
    pub(super) fn thaw_gap(&self) -> Option<Duration> {
        self.thaw_gap
    }

    pub(super) fn failed(&self, fault: &Fault) {
        let _ = self.fault.set(Failed {
            error_type: fault.error_type.clone(),
            blame: fault.blame.as_str(),
        });
    }

    /// The guest's own code has had so much more processor time. A run that began before the answer was out and
    /// ended after it counts as after it; it is a tick long at most.
    pub fn guest_ran(&self, time: Duration) {
        match self.answered.get() {
            None => self.guest.add(time),
            Some(_) => self.guest_after.add(time),
        }
    }

    /// A call to the database has ended in an error that the guest is told.
    pub fn database_failed(&self) {
        self.database_errors.add(1);
    }

    /// This has passed on its behalf.
    pub fn exchanged(&self, traffic: Traffic) {
        self.round_trips.add(traffic.round_trips);
        self.rows.add(traffic.rows);
        self.received_bytes.add(traffic.received_bytes);
        self.sent_bytes.add(traffic.sent_bytes);
    }

    /// It begins to wait for a connection; until the guard is dropped.
    pub fn lending(&self) -> Lending<'_> {
        Lending {
            awake: self.awake(),
            connecting: Duration::ZERO,
        }
    }

    /// It begins to wait for the server; until the guard is dropped.
    pub fn asking(&self) -> Asking<'_> {
        Asking(self.awake())
    }

    fn awake(&self) -> Awake<'_> {
        Awake {
            tally: self,
            begun: Instant::now(),
            paused_before: self.paused.total(),
        }
    }

    /// The line that tells all of this.
    pub(super) fn line(&self, account: &Account, invocation: &Invocation) -> Vec<u8> {
        let answered = self.answered.get().copied().unwrap_or_else(Instant::now);
        let entered = self.entered.get();
        let entered_at = entered.map_or(answered, |entered| entered.at);
        let memory_bytes = entered.map(|entered| entered.memory_bytes.load(Ordering::Relaxed));
        let fault = self.fault.get();
        // Few do anything then, and each metric costs money.
        let guest_after = Some(self.guest_after.total()).filter(|time| !time.is_zero());
        let metrics = [
            emf::time("Duration", Some(answered - self.begun)),
            emf::time("InstanceWait", Some(entered_at - self.begun)),
            emf::time("GuestTime", Some(self.guest.total())),
            emf::time("PoolWait", Some(self.pool.total())),
            emf::time("ConnectTime", Some(self.connecting.total())),
            emf::time("DatabaseTime", Some(self.database.total())),
            emf::time("AfterAnswer", Some(answered.elapsed())),
            emf::time("GuestTimeAfter", guest_after),
            emf::time("ThawGap", self.thaw_gap),
            emf::count("ColdStart", Some(self.first.into())),
            emf::count("NewInstance", entered.map(|entered| entered.first.into())),
            emf::count("Connects", Some(self.connects.total())),
            emf::count("RoundTrips", Some(self.round_trips.total())),
            emf::count("Rows", Some(self.rows.total())),
            emf::bytes("BytesReceived", Some(self.received_bytes.total())),
            emf::bytes("BytesSent", Some(self.sent_bytes.total())),
            emf::count("DatabaseErrors", Some(self.database_errors.total())),
            emf::count("Faults", Some(fault.is_some().into())),
            emf::bytes("InstanceMemory", memory_bytes.map(|bytes| bytes as u64)),
        ];
        let name = match invocation.function_name.as_str() {
            "" => account.function(),
            name => name,
        };
        let properties = [
            ("FunctionName", Some(name)),
            (
                "functionVersion",
                Some(invocation.function_version.as_str()),
            ),
            ("requestId", account.request_id()),
            ("tenantId", account.tenant_id()),
            ("xrayTraceId", account.trace_id()),
            ("fault", fault.map(|fault| fault.error_type.as_str())),
            ("blame", fault.map(|fault| fault.blame)),
        ];
        self.metrics.line(&metrics, &properties)
    }
}

/// What an invocation's time is from now on, its pauses not counted.
struct Awake<'a> {
    tally: &'a Tally,
    begun: Instant,
    paused_before: Duration,
}

impl Awake<'_> {
    fn elapsed(&self) -> Duration {
        let paused = self.tally.paused.total();
        let paused = paused.saturating_sub(self.paused_before);
        self.begun.elapsed().saturating_sub(paused)
    }
}

/// Measures a wait for a connection, also one that is given up.
pub struct Lending<'a> {
    awake: Awake<'a>,
    /// The part in which a connection was made.
    connecting: Duration,
}

impl Lending<'_> {
    /// A connection was made for it, in this time.
    pub fn connected(&mut self, took: Duration) {
        self.awake.tally.connects.add(1);
        self.connecting = took;
    }

    /// No connection could be made.
    pub fn refused(&mut self) {
        self.connecting = self.awake.elapsed();
    }
}

impl Drop for Lending<'_> {
    fn drop(&mut self) {
        let (tally, took) = (self.awake.tally, self.awake.elapsed());
        tally.connecting.add(self.connecting.min(took));
        tally.pool.add(took.saturating_sub(self.connecting));
    }
}

impl Time {
    /// So much more.
    pub fn add(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(ns, Ordering::Relaxed);
    }

    fn total(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// Measures a wait for the server, also one that is given up.
pub struct Asking<'a>(Awake<'a>);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.tally.database.add(self.0.elapsed());
    }
}

impl Count {
    fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LogConfig, MetricsConfig};

    #[test]
    fn a_wait_does_not_go_on_while_its_work_is_paused() {
        let config = MetricsConfig {
            namespace: "x".to_owned(),
        };
        let tally = Metrics::new(&config, &LogConfig::default()).begin();
        let hour = Duration::from_secs(3_600);
        tally.paused.add(hour);
        let mut begun = Instant::now() - 2 * hour;
        for (pause, at_least) in [(Duration::ZERO, 2 * hour), (hour, hour)] {
            let (mut asking, mut lending) = (tally.asking(), tally.lending());
            (asking.0.begun, lending.awake.begun) = (begun, begun);
            tally.paused.add(pause);
            drop((asking, lending));
            for time in [&tally.database, &tally.pool] {
                let total = time.total();
                assert!(total >= at_least && total < at_least + hour, "{total:?}");
                time.0.store(0, Ordering::Relaxed);
            }
            begun = Instant::now() - 2 * hour;
        }
    }
}
