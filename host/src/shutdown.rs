//! The end of the environment: one signal, many listeners. Whoever sends a second one does not want to
//! wait for it.
//!
//! Lambda and every supervisor send SIGTERM; a person presses ctrl-c, which is SIGINT, or ctrl-\\, which
//! is SIGQUIT, or closes the terminal, which is SIGHUP.

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until};

use crate::telemetry;

/// Tells whoever listens that the environment is to end.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<Asked>);

/// What has been asked for so far.
#[derive(Debug, Clone, Copy, Default)]
struct Asked {
    since: Option<Instant>,
    twice: bool,
}

/// A signal that is listened to, and its name.
type Listened = (Signal, &'static str);

impl Shutdown {
    /// Listens to SIGTERM and SIGINT from now on. Needs the runtime; fails if signals cannot be
    /// listened to.
    pub fn on_signals() -> std::io::Result<Self> {
        Self::on(&[
            (SignalKind::terminate(), "SIGTERM"),
            (SignalKind::interrupt(), "SIGINT"),
        ])
    }

    /// The same for a process with a terminal: SIGHUP and SIGQUIT too. What such a process has started
    /// would go on without it. Where it was started with one of them ignored, as by `nohup`, it stays so.
    pub fn on_signals_of_terminal() -> std::io::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mut kinds = vec![
            (SignalKind::terminate(), "SIGTERM"),
            (SignalKind::interrupt(), "SIGINT"),
        ];
        for (kind, name) in [
            (SignalKind::hangup(), "SIGHUP"),
            (SignalKind::quit(), "SIGQUIT"),
        ] {
            if !is_ignored(&status, kind) {
                kinds.push((kind, name));
            }
        }
        Self::on(&kinds)
    }

    fn on(kinds: &[(SignalKind, &'static str)]) -> std::io::Result<Self> {
        let listen = |&(kind, name)| Ok((signal(kind)?, name));
        let mut signals: Vec<Listened> =
            kinds.iter().map(listen).collect::<std::io::Result<_>>()?;
        let (sender, receiver) = watch::channel(Asked::default());
        tokio::spawn(async move {
            let name = next(&mut signals).await;
            let since = Some(Instant::now());
            telemetry::hurry();
            // Said first: whoever is told may end the process before it could be.
            tracing::info!("stopping on {name}");
            sender.send_replace(Asked {
                since,
                twice: false,
            });
            let name = next(&mut signals).await;
            tracing::info!("waiting for nothing more on {name}");
            sender.send_replace(Asked { since, twice: true });
            // Kept open: a closed channel would mean the same as a signal, but only by accident.
            std::future::pending::<()>().await;
        });
        Ok(Self(receiver))
    }

    /// Since when the environment is to end, if it is.
    pub fn requested_at(&self) -> Option<Instant> {
        self.0.borrow().since
    }

    /// Waits until the environment is to end.
    pub async fn requested(&self) {
        let mut receiver = self.0.clone();
        // An error means that the runtime is going down, which is the same thing.
        let _ = receiver.wait_for(|asked| asked.since.is_some()).await;
    }

    /// Waits until it has had so much time to end, or is to end at once.
    pub async fn over(&self, time: Duration) {
        self.over_or(time, Duration::ZERO).await;
    }

    /// The same, but where it is to end at once, it still has the time `insisted`.
    pub async fn over_or(&self, time: Duration, insisted: Duration) {
        self.requested().await;
        let begun = self.requested_at().unwrap_or_else(Instant::now);
        let hurried = async {
            self.insisted().await;
            sleep(insisted).await;
        };
        tokio::select! {
            () = sleep_until((begun + time).into()) => {}
            () = hurried => {}
        }
    }

    /// Waits until it is to end at once.
    pub async fn insisted(&self) {
        let mut receiver = self.0.clone();
        let _ = receiver.wait_for(|asked| asked.twice).await;
    }
}

/// Whether a process ignores a signal, by what the system says of it: one bit for each, in hexadecimal.
fn is_ignored(status: &str, kind: SignalKind) -> bool {
    let mut lines = status.lines();
    let mask = lines.find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (kind.as_raw_value() - 1) & 1 == 1)
}

/// The name of the next signal.
async fn next(signals: &mut [Listened]) -> &'static str {
    poll_fn(|cx| {
        for (signal, name) in &mut *signals {
            if signal.poll_recv(cx).is_ready() {
                return Poll::Ready(*name);
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_ignored_from_the_start_is_found() {
        // As `nohup` has it, besides what Rust's programs ignore.
        let status = "Name:\thearth\nSigBlk:\t0000000000000005\nSigIgn:\t0000000000001001\n";
        assert!(is_ignored(status, SignalKind::hangup()));
        assert!(!is_ignored(status, SignalKind::quit()));
        assert!(!is_ignored("", SignalKind::hangup()));
    }
}
