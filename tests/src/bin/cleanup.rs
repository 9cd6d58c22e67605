//! The process that cleans up behind a test run, however that ends: it owns the run's PostgreSQL server, directory
//! and processes, and ends them all when the run is over.
//!
//! Commands come as lines and are answered by one line each: `start` and `stop` are about the
//! server, `start ADDRESS` makes it listen there too, `guard PID` and `release PID` are about a
//! process. The end of the input is the end of the run.

use std::io::Write;
use std::path::{Path, PathBuf};

use hearth_host::cluster::{Cluster, Options};
use rustix::process::{Pid, Signal, kill_process};

/// What makes a server quick to start and to use, and would lose its data with the machine.
const SETTINGS: &[(&str, &str)] = &[
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("synchronous_commit", "off"),
    ("max_connections", "300"),
    ("autovacuum", "off"),
];

fn main() {
    let directory = PathBuf::from(
        std::env::args_os()
            .nth(1)
            .expect("the directory is the argument"),
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime needs only memory and a file or two");
    let mut cluster = None;
    let mut guarded: Vec<i32> = Vec::new();
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let pid = line.split(' ').nth(1).and_then(|pid| pid.parse().ok());
        let answer = match (line.split(' ').next(), pid) {
            (Some("start"), _) => runtime
                .block_on(start(&directory, line.split(' ').nth(1)))
                .map(|started| {
                    let url = started.url();
                    cluster = Some(started);
                    url.to_string()
                }),
            (Some("stop"), _) => {
                cluster
                    .take()
                    .into_iter()
                    .for_each(|cluster| runtime.block_on(cluster.stop()));
                Ok("stopped".to_owned())
            }
            (Some("guard"), Some(pid)) => {
                guarded.push(pid);
                Ok("guarded".to_owned())
            }
            (Some("release"), Some(pid)) => {
                guarded.retain(|known| *known != pid);
                Ok("released".to_owned())
            }
            _ => Err(format!("no such command: {line}")),
        };
        let line = match answer {
            Ok(text) => format!("ok {text}\n"),
            Err(text) => format!("error {}\n", text.replace('\n', " ")),
        };
        // Whoever asked may be gone; the end of the input says so next.
        let _ = std::io::stdout().write_all(line.as_bytes());
    }

    for pid in guarded.into_iter().filter_map(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
    }
    cluster
        .take()
        .into_iter()
        .for_each(|cluster| runtime.block_on(cluster.stop()));
    end_servers(&directory);
    let _ = std::fs::remove_dir_all(&directory);
}

async fn start(directory: &Path, address: Option<&str>) -> Result<Cluster, String> {
    let listen = address.map(|address| ("listen_addresses", address));
    let settings = SETTINGS
        .iter()
        .copied()
        .chain(listen)
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    let options = Options {
        directory: directory.join("cluster"),
        settings,
    };
    Cluster::start(options)
        .await
        .map_err(|error| error.to_string())
}

/// Ends the servers that a host started below this directory and, being killed, left behind.
fn end_servers(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let file = entry.path().join(".hearth/postgres/data/postmaster.pid");
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let pid = text
            .lines()
            .next()
            .and_then(|line| line.trim().parse().ok())
            .and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::QUIT);
        }
    }
}
