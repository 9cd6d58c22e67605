//! Whether and how an environment tells what its invocations take.
//!
//! Promises: one line per invocation, in CloudWatch's embedded metric format, once nothing is left of
//! it; without it, nothing is measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::emf::{self, Metric, Property};
use super::tally::Tally;
use super::timestamp::Timestamp;
use crate::config::{LogConfig, LogFormat, LogLevel, MetricsConfig};
use crate::invocation::unix_ms_now;

/// What an environment remembers from one invocation to the next, to measure them.
#[derive(Debug)]
pub struct Metrics {
    namespace: String,
    /// The level that a line claims, where Lambda looks for one.
    level: Option<LogLevel>,
    /// Whether there was an invocation before.
    begun: AtomicBool,
    /// Those that have no answer yet.
    unanswered: AtomicUsize,
    /// When the last answer went out, or the work after it was done, in milliseconds since the Unix epoch; 0 if
    /// none did.
    done_ms: AtomicU64,
}

impl Metrics {
    /// What measures the invocations of an environment.
    pub fn new(config: &MetricsConfig, log: &LogConfig) -> Arc<Self> {
        // Lambda drops lines of JSON below the level that it was told, and takes one without a level
        // for INFO.
        let level = (log.format == LogFormat::Json).then(|| log.level.min(LogLevel::Info));
        Arc::new(Self {
            namespace: config.namespace.clone(),
            level,
            begun: AtomicBool::new(false),
            unanswered: AtomicUsize::new(0),
            done_ms: AtomicU64::new(0),
        })
    }

    /// Begins to measure an invocation.
    pub(super) fn begin(self: &Arc<Self>) -> Tally {
        let first = !self.begun.swap(true, Ordering::Relaxed);
        let alone = self.unanswered.fetch_add(1, Ordering::AcqRel) == 0;
        let done_ms = self.done_ms.load(Ordering::Acquire);
        // While another one has no answer, the environment is not frozen. By the wall clock: no other
        // one goes on meanwhile.
        let thaw_gap = (alone && done_ms > 0)
            .then(|| Duration::from_millis(unix_ms_now().saturating_sub(done_ms)));
        Tally::begin(self.clone(), first, thaw_gap)
    }

    /// The environment was busy until now. Not to be called for what ends beside the next event: that may be
    /// after a freeze, and before that event begins.
    pub(super) fn busy(&self) {
        self.done_ms.store(unix_ms_now(), Ordering::Release);
    }

    /// The answer of an invocation is out.
    pub(super) fn answered(&self) {
        self.busy();
        self.unanswered.fetch_sub(1, Ordering::AcqRel);
    }

    pub(super) fn line(&self, metrics: &[Metric], properties: &[Property<'_>]) -> Vec<u8> {
        let now = Timestamp::now();
        let mut line = emf::Line::new(&self.namespace, "FunctionName", now, metrics);
        if let Some(level) = self.level {
            line.property("timestamp", &now.to_string());
            line.property("level", level.as_str());
        }
        for (name, value) in properties {
            if let Some(value) = value {
                line.property(name, value);
            }
        }
        line.finish(metrics)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::account::tests::invocation;
    use super::super::account::{Account, Observers};
    use super::*;

    #[test]
    fn the_work_after_an_answer_is_no_rest() {
        let config = MetricsConfig {
            namespace: "x".to_owned(),
        };
        let metrics = Metrics::new(&config, &LogConfig::default());
        let rest_after = |end: fn(&Metrics)| {
            metrics.begin().answered();
            // The answer was out an hour ago.
            metrics.done_ms.fetch_sub(3_600_000, Ordering::Relaxed);
            end(&metrics);
            let next = metrics.begin();
            next.answered();
            next.thaw_gap().unwrap() >= Duration::from_secs(3_600)
        };
        assert!(rest_after(|_| ()));
        assert!(!rest_after(Metrics::busy));
    }

    /// It is closed after a freeze, and the next event begins only then.
    #[tokio::test]
    async fn what_is_closed_late_hides_no_rest() {
        let config = MetricsConfig {
            namespace: "x".to_owned(),
        };
        let metrics = Metrics::new(&config, &LogConfig::default());
        let observers = Observers {
            metrics: Some(metrics.clone()),
            spans: None,
        };
        let account = Account::open("f", Arc::new(invocation("r-1")), &observers);
        account.answered();
        metrics.done_ms.fetch_sub(3_600_000, Ordering::Relaxed);
        account.close(Instant::now()).await;
        let gap = metrics.begin().thaw_gap().unwrap();
        assert!(gap >= Duration::from_secs(3_600), "{gap:?}");
    }
}
