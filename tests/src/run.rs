//! What a test run leaves on the machine, and the process that takes it away again.
//!
//! Tests end in many ways: well, by a panic, by Ctrl-C, by being killed. So a PostgreSQL server and
//! the run's files belong to a *cleanup process* (`bin/cleanup.rs`), whose standard input is a pipe
//! from here. When this process is gone, however it went, the pipe ends and the cleanup process does its work.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// A directory, and at most one PostgreSQL cluster in it, that end with this process.
pub struct Cleanup {
    directory: PathBuf,
    child: Mutex<Child>,
}

impl Cleanup {
    /// Starts a cleanup process and makes its directory.
    pub fn start() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        // Not under target/: the paths of sockets must be short, and PostgreSQL's own user must be
        // able to enter.
        let name = format!(
            "hearth-e2e-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory)
            .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        // Ctrl-C goes to a whole process group, and must not end the cleanup process before its work.
        let child = Command::new(crate::binary("cleanup"))
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("cargo builds the cleanup process before the tests");
        Self {
            directory,
            child: Mutex::new(child),
        }
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Tells the cleanup process to do something, and returns its answer.
    pub fn ask(&self, command: &str) -> Result<String, String> {
        let mut child = self.child.lock().unwrap();
        let gone = |error| format!("the cleanup process is gone: {error}");
        let stdin = child.stdin.as_mut().expect("it is piped");
        writeln!(stdin, "{command}").map_err(gone)?;
        let stdout = child.stdout.as_mut().expect("it is piped");
        let mut line = String::new();
        // One line comes for each command, and no other: nothing is left in this buffer.
        BufReader::new(stdout).read_line(&mut line).map_err(gone)?;
        match line.trim_end().split_once(' ') {
            Some(("ok", answer)) => Ok(answer.to_owned()),
            Some(("error", message)) => Err(message.to_owned()),
            _ => Err(format!("the cleanup process ended at {command:?}")),
        }
    }
}

/// For a cleanup process of less than the run: what it keeps ends here.
impl Drop for Cleanup {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Closes its input first.
        let _ = child.wait();
    }
}

/// The cleanup process of this run.
pub fn cleanup() -> &'static Cleanup {
    static KEEPER: OnceLock<Cleanup> = OnceLock::new();
    KEEPER.get_or_init(Cleanup::start)
}

/// Has this process killed with the end of the run, whatever becomes of the test that has started it.
pub fn guard(process: u32) {
    let guarded = cleanup().ask(&format!("guard {process}"));
    guarded.expect("the cleanup process lives as long as the run");
}

/// Takes that back, once the process has ended.
pub fn release(process: u32) {
    let _ = cleanup().ask(&format!("release {process}"));
}

/// The directory of this run.
pub fn directory() -> &'static Path {
    cleanup().directory()
}

/// A new directory within that of this run.
pub fn fresh_directory() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let path = directory().join(NUMBER.fetch_add(1, Ordering::Relaxed).to_string());
    std::fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}
