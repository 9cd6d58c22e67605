//! The server process: started or taken over, and stopped.
//!
//! Promises: a server that was started here, or taken over from a host that is gone, does not outlive
//! its [`Server`]; a signal is sent only to a process that is known to be this folder's server.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::ClusterError;
use super::error::last_words;
use super::notes::{Owner, owner_of};
use crate::config::DatabaseConfig;
use crate::database::connect::Address;
use crate::database::script::Script;

/// How often a process that is waited for is looked at.
pub(super) const POLL: Duration = Duration::from_millis(10);
/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a server may take until it answers: with crash recovery after a hard end.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a fast shutdown may take, with its checkpoint.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a shutdown without one may take.
const ABORT_TIMEOUT: Duration = Duration::from_secs(2);
/// How much of a log is read for its last lines.
const LOG_BYTES_READ: u64 = 8 * 1024;

/// A server that is to end here.
#[derive(Debug)]
pub(super) struct Server {
    process: Process,
    ended: bool,
}

#[derive(Debug)]
enum Process {
    /// Started here.
    Child(Child),
    /// Started by a host that is gone: nobody's child, by which its end could be told.
    Orphan { pid: Pid, data: PathBuf },
}

impl Server {
    /// One that was started here.
    pub(super) fn new(child: Child) -> Self {
        Self {
            process: Process::Child(child),
            ended: false,
        }
    }

    /// One that runs on these data, and that nobody else is going to stop.
    pub(super) fn orphan(pid: Pid, data: &Path) -> Self {
        let data = data.to_owned();
        Self {
            process: Process::Orphan { pid, data },
            ended: false,
        }
    }

    /// Its process.
    pub(super) fn pid(&self) -> Option<Pid> {
        match &self.process {
            Process::Child(child) => i32::try_from(child.id()).ok().and_then(Pid::from_raw),
            Process::Orphan { pid, .. } => Some(*pid),
        }
    }

    /// Waits until the server answers at this address.
    pub(super) async fn ready(&mut self, url: &str, log: &Path) -> Result<(), ClusterError> {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.status() {
                let words = words_in(log);
                return Err(ClusterError::Ended {
                    program: "postgres",
                    status,
                    words,
                });
            }
            if answers(url).await {
                return Ok(());
            }
            if begin.elapsed() > START_TIMEOUT {
                let words = words_in(log);
                return Err(ClusterError::NotReady {
                    program: "postgres",
                    waited: START_TIMEOUT,
                    words,
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Disconnects everyone and ends: in good order if there is time for it.
    pub(super) async fn stop(&mut self) {
        for (signal, timeout) in [(Signal::INT, STOP_TIMEOUT), (Signal::QUIT, ABORT_TIMEOUT)] {
            self.send(signal);
            let begin = Instant::now();
            while begin.elapsed() < timeout {
                if self.status().is_some() {
                    return;
                }
                tokio::time::sleep(POLL).await;
            }
            tracing::warn!("PostgreSQL did not stop within {} s", timeout.as_secs());
        }
    }

    /// How it ended, once it has.
    pub(super) fn status(&mut self) -> Option<String> {
        let status = match &mut self.process {
            Process::Child(child) => child.try_wait().ok().flatten().map(described),
            Process::Orphan { pid, data } => gone(*pid, data),
        };
        self.ended |= status.is_some();
        status
    }

    // The id of a child that has not been waited for cannot be anyone else's yet; that of another
    // process is looked at first.
    fn send(&mut self, signal: Signal) {
        if self.status().is_none()
            && !self.ended
            && let Some(pid) = self.pid()
        {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

impl Drop for Server {
    /// The last resort, for ends that [`Self::stop`] did not see coming. Its own abort comes first:
    /// a server that is killed leaves its children and its shared memory behind.
    fn drop(&mut self) {
        if self.status().is_some() || self.ended {
            return;
        }
        self.send(Signal::QUIT);
        let begin = Instant::now();
        while begin.elapsed() < ABORT_TIMEOUT {
            if self.status().is_some() {
                return;
            }
            std::thread::sleep(POLL);
        }
        self.send(Signal::KILL);
        if let Process::Child(child) = &mut self.process {
            let _ = child.wait();
        }
    }
}

/// How a server ended that is no child of this process, once it has.
pub(super) fn gone(pid: Pid, data: &Path) -> Option<String> {
    let is_gone = matches!(owner_of(pid, data), Owner::Nobody | Owner::Another);
    is_gone.then(|| "nobody can tell how".to_owned())
}

/// Whether a server lets us in at this address.
pub(super) async fn answers(url: &str) -> bool {
    let Ok(address) = Address::read(&DatabaseConfig::at(url.to_owned())) else {
        return false;
    };
    matches!(
        tokio::time::timeout(CONNECT_TIMEOUT, Script::open(address)).await,
        Ok(Ok(_))
    )
}

/// The last lines of a server's log.
pub(super) fn words_in(log: &Path) -> String {
    last_words(&String::from_utf8_lossy(&end_of(log).unwrap_or_default()))
}

// It may have grown for days, and have paths in it that are no text.
fn end_of(log: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES_READ)))?;
    let mut end = Vec::new();
    file.take(LOG_BYTES_READ).read_to_end(&mut end)?;
    Ok(end)
}

fn described(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// The log of a server that is about to start: emptied, and appended to by every process.
pub(super) fn fresh_log(path: &Path) -> Result<File, ClusterError> {
    let open = || {
        let log = File::options().create(true).append(true).open(path)?;
        log.set_len(0)?;
        Ok(log)
    };
    open().map_err(ClusterError::file("cannot write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_read_whatever_is_in_it() {
        let log = std::env::temp_dir().join(format!("hearth-log-{}", std::process::id()));
        let mut bytes = b"an earlier line\n".repeat(1_000);
        bytes.extend(b"FATAL:  \xe4\n");
        std::fs::write(&log, bytes).unwrap();
        let words = words_in(&log);
        assert!(
            words.ends_with("an earlier line; FATAL:  \u{fffd}"),
            "{words}"
        );
        assert_eq!(end_of(&log).unwrap().len() as u64, LOG_BYTES_READ);
        std::fs::remove_file(&log).unwrap();
        assert_eq!(words_in(&log), "it wrote nothing");
    }
}
