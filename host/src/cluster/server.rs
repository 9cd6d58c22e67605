//! The server process: started, found running, stopped.
//!
//! Promises: a server that was started here does not outlive its [`Server`]; a signal is sent
//! only to a process that is known to be this folder's server.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::ClusterError;
use super::error::last_words;
use crate::config::DatabaseConfig;
use crate::database::connect::Address;
use crate::database::script::Script;

/// How often a process that is waited for is looked at.
const POLL: Duration = Duration::from_millis(10);
/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a server may take until it answers: with crash recovery after a hard end.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a fast shutdown may take, with its checkpoint.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a shutdown without one may take.
const ABORT_TIMEOUT: Duration = Duration::from_secs(2);

/// A server that was started here.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    ended: bool,
}

impl Server {
    pub(super) fn new(child: Child) -> Self {
        Self {
            child,
            ended: false,
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
                    status: described(status),
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
    pub(super) async fn stop(mut self) {
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

    fn status(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().ok().flatten();
        self.ended |= status.is_some();
        status
    }

    // The child has not been waited for, so that its id cannot be anyone else's yet.
    fn send(&self, signal: Signal) {
        if let Ok(id) = i32::try_from(self.child.id())
            && let Some(pid) = Pid::from_raw(id)
            && !self.ended
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
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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

/// The folder of the sockets of the server that runs on these data, if one does.
///
/// One that is starting or stopping is waited for. What a server left behind that ended hard is
/// made harmless when its process id belongs to something else by now: PostgreSQL would take that
/// for a server and refuse to start.
pub(super) async fn running(data: &Path) -> Option<PathBuf> {
    let begin = Instant::now();
    loop {
        let file = data.join("postmaster.pid");
        let notes = Notes::parse(&std::fs::read_to_string(&file).ok()?)?;
        if let Some(sockets) = &notes.sockets
            && answers(&super::url(sockets)).await
        {
            return Some(sockets.clone());
        }
        match owner_of(notes.pid, data) {
            Owner::Nobody => return None,
            Owner::Another => {
                disown(&file, &notes);
                return None;
            }
            Owner::Server if begin.elapsed() > STOP_TIMEOUT => return None,
            Owner::Server => tokio::time::sleep(POLL).await,
        }
    }
}

// The notes stay, for the memory they name: as long as a child of the old server uses it,
// PostgreSQL refuses to start, and that is right. Only the process they name is made one that
// cannot exist.
fn disown(file: &Path, notes: &Notes) {
    tracing::warn!(
        "{} names a process that is no PostgreSQL; its server is gone",
        file.display()
    );
    if let Ok(text) = std::fs::read_to_string(file)
        && let Some((_, rest)) = text.split_once('\n')
    {
        let _ = std::fs::write(file, format!("{}\n{rest}", i32::MAX));
    }
    if let Some(sockets) = &notes.sockets {
        let _ = std::fs::remove_file(sockets.join(format!("{}.lock", super::SOCKET)));
    }
}

enum Owner {
    Nobody,
    Another,
    Server,
}

fn owner_of(pid: Pid, data: &Path) -> Owner {
    if rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH) {
        return Owner::Nobody;
    }
    // Without /proc one cannot know; then PostgreSQL's own judgement stands.
    let process = format!("/proc/{}", pid.as_raw_nonzero());
    let Ok(command) = std::fs::read(format!("{process}/cmdline")) else {
        return Owner::Nobody;
    };
    let program = command.split(|&byte| byte == 0).next().unwrap_or_default();
    let program = program
        .rsplit(|&byte| byte == b'/')
        .next()
        .unwrap_or_default();
    if program != b"postgres" && program != b"postmaster" {
        return Owner::Another;
    }
    // A server's working folder is its data folder, by whatever path that was named.
    match (
        std::fs::read_link(format!("{process}/cwd")),
        data.canonicalize(),
    ) {
        (Ok(folder), Ok(data)) if folder != data => Owner::Another,
        _ => Owner::Server,
    }
}

/// What a server notes in `postmaster.pid` about itself.
#[derive(Debug, PartialEq, Eq)]
struct Notes {
    pid: Pid,
    sockets: Option<PathBuf>,
}

impl Notes {
    // Lines: process id, data folder, start time, port, folder of the sockets, and more. The
    // later ones are written later.
    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let pid = Pid::from_raw(lines.first()?.parse().ok()?)?;
        let sockets = lines
            .get(4)
            .filter(|sockets| !sockets.is_empty())
            .map(PathBuf::from);
        Some(Self { pid, sockets })
    }
}

fn words_in(log: &Path) -> String {
    last_words(&std::fs::read_to_string(log).unwrap_or_default())
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
    fn a_servers_notes_are_read_as_far_as_they_go() {
        let pid = Pid::from_raw(4711).unwrap();
        let cases = [
            (
                "4711\n/d/data\n1795464000\n5432\n/d\n\n  1234  5\nready\n",
                Some(Some(PathBuf::from("/d"))),
            ),
            ("4711\n/d/data\n1795464000\n5432\n\n", Some(None)),
            ("4711\n", Some(None)),
            ("", None),
            ("x\n", None),
        ];
        for (text, expected) in cases {
            assert_eq!(
                Notes::parse(text),
                expected.map(|sockets| Notes { pid, sockets }),
                "{text}"
            );
        }
    }
}
