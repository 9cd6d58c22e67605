//! What runs on a cluster's data, as far as `postmaster.pid` and the system tell.
//!
//! Promises: a process is taken for this folder's server only where the system says that it is one.

use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::process::Pid;

use super::server::{POLL, STOP_TIMEOUT, answers};

/// A server that runs, whoever started it.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) pid: Pid,
    /// The folder of its sockets.
    pub(super) sockets: PathBuf,
}

/// The server that runs on these data, if one does.
///
/// One that is starting or stopping is waited for. What a server left behind that ended hard is
/// made harmless when its process id belongs to something else by now: PostgreSQL would take that
/// for a server and refuse to start.
pub(super) async fn running(data: &Path) -> Option<Running> {
    let begin = Instant::now();
    loop {
        let file = data.join("postmaster.pid");
        // The folder of the data is in it, which need not be text.
        let notes = Notes::parse(&String::from_utf8_lossy(&std::fs::read(&file).ok()?))?;
        if let Some(sockets) = &notes.sockets
            && answers(&super::url(sockets)).await
        {
            return Some(Running {
                pid: notes.pid,
                sockets: sockets.clone(),
            });
        }
        match owner_of(notes.pid, data) {
            // Then PostgreSQL's own judgement stands.
            Owner::Nobody | Owner::Unknown => return None,
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
    if let Ok(text) = std::fs::read(file)
        && let Some(end) = text.iter().position(|&byte| byte == b'\n')
    {
        let nobody = i32::MAX.to_string();
        let _ = std::fs::write(file, [nobody.as_bytes(), &text[end..]].concat());
    }
    if let Some(sockets) = &notes.sockets {
        let _ = std::fs::remove_file(sockets.join(format!("{}.lock", super::SOCKET)));
    }
}

/// Whose a process id is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// No process's.
    Nobody,
    /// A process's, and the system does not tell which.
    Unknown,
    /// A process's that has nothing to do with these data.
    Another,
    /// That of these data's server.
    Server,
}

/// Whose this process id is.
pub(super) fn owner_of(pid: Pid, data: &Path) -> Owner {
    if rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH) {
        return Owner::Nobody;
    }
    // Without /proc one cannot know.
    let process = format!("/proc/{}", pid.as_raw_nonzero());
    let Ok(command) = std::fs::read(format!("{process}/cmdline")) else {
        return Owner::Unknown;
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
