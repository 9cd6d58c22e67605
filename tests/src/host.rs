//! The real binaries, as processes: their settings, their log, their signals, their end.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::{binary, eventually, run, within};

/// A running host. Dropping it kills it; if a test is failing, its log is printed.
pub struct Host {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    /// Who reads its outputs.
    readers: Vec<JoinHandle<()>>,
}

/// What a process holds of the machine.
#[derive(Debug, Clone, Copy)]
pub struct Holdings {
    /// Files, sockets and the like.
    pub descriptors: usize,
    /// Its threads.
    pub threads: u64,
    /// Memory that no file backs, in KiB.
    pub memory_kib: u64,
}

/// The `bootstrap` under test: the one that `HEARTH_BOOTSTRAP` names, or the one that is built with the tests,
/// which has a compiler in it.
fn bootstrap() -> PathBuf {
    let named = std::env::var_os("HEARTH_BOOTSTRAP");
    named.map_or_else(|| binary("bootstrap-under-test"), PathBuf::from)
}

impl Host {
    /// Starts `bootstrap` as Lambda does: the task's root, the handler, the Runtime API's address.
    pub fn bootstrap(
        task_root: &Path,
        handler: &str,
        api: &str,
        environment: &[(String, String)],
    ) -> Self {
        Self::bootstrap_writing_to(task_root, handler, api, environment, None)
    }

    /// The same with an output of the test's own, which is then not in its log.
    pub fn bootstrap_writing_to(
        task_root: &Path,
        handler: &str,
        api: &str,
        environment: &[(String, String)],
        stdout: Option<OwnedFd>,
    ) -> Self {
        let mut command = Command::new(bootstrap());
        command
            .current_dir(task_root)
            .env("LAMBDA_TASK_ROOT", task_root)
            .env("_HANDLER", handler)
            .env("AWS_LAMBDA_RUNTIME_API", api)
            .env("AWS_LAMBDA_FUNCTION_NAME", handler)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
            .env("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
            .env("AWS_REGION", "eu-central-1");
        Self::spawn(command, environment, stdout)
    }

    /// Starts `hearth` with these arguments in this directory.
    pub fn hearth(directory: &Path, arguments: &[&str], environment: &[(String, String)]) -> Self {
        let mut command = Command::new(binary("hearth-under-test"));
        command.current_dir(directory).args(arguments);
        Self::spawn(command, environment, None)
    }

    fn spawn(
        mut command: Command,
        environment: &[(String, String)],
        stdout: Option<OwnedFd>,
    ) -> Self {
        // Whoever runs the tests has settings of their own, which are none of the test's.
        let foreign = ["AWS_", "DATABASE_URL", "HEARTH", "PG", "RUST_"];
        for (name, _) in std::env::vars() {
            let is_own = command.get_envs().any(|(own, _)| own == name.as_str());
            if !is_own && foreign.iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command.envs(environment.iter().cloned());
        let mut child = command
            .stdin(Stdio::null())
            .stdout(stdout.map_or_else(Stdio::piped, Stdio::from))
            .stderr(Stdio::piped())
            .spawn()
            .expect("cargo builds the binaries before the tests");
        run::guard(child.id());
        let log = Arc::default();
        let stdout = child.stdout.take().map(|output| follow(output, &log));
        let stderr = child.stderr.take().map(|output| follow(output, &log));
        Self {
            child,
            log,
            readers: stdout.into_iter().chain(stderr).collect(),
        }
    }

    /// What it wrote so far, on both its outputs.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// The last line so far that contains `text`.
    pub fn last_line(&self, text: &str) -> Option<String> {
        let log = self.log.lock().unwrap();
        log.iter().rev().find(|line| line.contains(text)).cloned()
    }

    /// The most memory that it has held at a time, in KiB, guests included.
    pub fn memory_peak_kib(&self) -> u64 {
        self.status()["VmHWM"]
    }

    /// How many lines so far contain `text`.
    pub fn lines(&self, text: &str) -> usize {
        let log = self.log.lock().unwrap();
        log.iter().filter(|line| line.contains(text)).count()
    }

    /// Waits for a line that contains `text`.
    pub async fn line(&mut self, text: &str) -> String {
        let what = format!("a line with {text:?}");
        eventually(&what, async || {
            // In this order: what it wrote last is read after its end.
            let has_ended = self.readers.iter().all(JoinHandle::is_finished);
            let found = self.log().into_iter().find(|line| line.contains(text));
            assert!(found.is_some() || !has_ended, "it ended without {what}");
            found
        })
        .await
    }

    /// Waits for its end, at most so long, and until its log is complete.
    pub async fn end(&mut self, bound: Duration) -> ExitStatus {
        within(bound, "the end of the host", async || {
            let status = self
                .child
                .try_wait()
                .expect("the child is this process's own");
            status.filter(|_| self.readers.iter().all(JoinHandle::is_finished))
        })
        .await
    }

    /// What the system says of it, where that is a number: `Threads`, `VmRSS` in KiB, and more.
    pub fn status(&self) -> HashMap<String, u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(path).expect("it runs, on Linux");
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        let numbers = lines.filter_map(|(key, value)| {
            let number = value.split_whitespace().next()?.parse().ok()?;
            Some((key.to_owned(), number))
        });
        numbers.collect()
    }

    /// What it holds of the machine.
    pub fn holdings(&self) -> Holdings {
        let status = self.status();
        let of = |key: &str| status.get(key).copied().unwrap_or_default();
        let path = format!("/proc/{}/fd", self.child.id());
        Holdings {
            descriptors: std::fs::read_dir(path).expect("it runs, on Linux").count(),
            threads: of("Threads"),
            memory_kib: of("RssAnon"),
        }
    }

    /// Asks it to end, as Lambda does.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends it at once.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Stops its clock, as Lambda does between two events.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("a child that nobody waited for keeps its id");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        run::release(self.child.id());
        if std::thread::panicking() {
            eprintln!("--- the host's log ---\n{}\n---", self.log().join("\n"));
        }
    }
}

/// Collects the lines of an output until its end.
fn follow(output: impl Read + Send + 'static, log: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            log.lock()
                .unwrap()
                .push(String::from_utf8_lossy(&line).into_owned());
        }
    })
}
