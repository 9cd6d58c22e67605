//! The local host's own PostgreSQL ends with the hosts that use it, however they end, and no earlier.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};

use e2e::guests::COUNTER;
use e2e::local::invoke;
use e2e::trial::FUNCTION;
use e2e::{Host, PATIENCE, Setup, eventually};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::{Value, json};

/// The folder of a function whose database has no address.
fn folder() -> PathBuf {
    let setup = Setup::of(&COUNTER).function("databases", "[\"default\"]");
    setup.write()
}

/// A host, and where it listens.
async fn serve(folder: &Path) -> (Host, String) {
    let mut host = Host::hearth(folder, &["serve", "--port", "0"], &[]);
    let line = host.line("listening on http://").await;
    let address = line.rsplit_once("http://").unwrap().1.trim().to_owned();
    (host, address)
}

/// What the database answers.
async fn select(address: &str, sql: &str) -> Value {
    let event = json!({ "sql": sql }).to_string();
    let answer = invoke(address, FUNCTION, &[], event.into()).await;
    let answer: Value = serde_json::from_slice(answer.body()).unwrap();
    answer["value"].clone()
}

/// The process of the server in a folder, if its file names one.
fn server(folder: &Path) -> Option<Pid> {
    let file = folder.join(".hearth/postgres/data/postmaster.pid");
    // A folder of any name is in it.
    let text = std::fs::read(file).ok()?;
    let text = String::from_utf8_lossy(&text);
    Pid::from_raw(text.lines().next()?.trim().parse().ok()?)
}

/// One that has ended and that nobody has asked for has no command line any more.
fn runs(server: Pid) -> bool {
    let file = format!("/proc/{}/cmdline", server.as_raw_nonzero());
    std::fs::read(file).is_ok_and(|command| !command.is_empty())
}

/// Whether this process ignores a signal, as under `nohup`: then what it starts does so too.
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = u64::from_str_radix(mask.unwrap().trim(), 16).unwrap();
    mask >> (signal.as_raw() - 1) & 1 == 1
}

/// A terminal that is closed sends SIGHUP, and a key SIGQUIT.
#[tokio::test]
async fn whatever_signal_ends_the_host_ends_its_server() {
    let signals = [Signal::HUP, Signal::QUIT, Signal::INT, Signal::TERM];
    for signal in signals.into_iter().filter(|signal| !is_ignored(*signal)) {
        let folder = folder();
        let (mut host, _) = serve(&folder).await;
        let server = server(&folder).unwrap();
        host.signal(signal);
        assert_eq!(host.end(PATIENCE).await.code(), Some(0), "{signal:?}");
        assert!(!runs(server), "{signal:?}");
    }
}

#[tokio::test]
async fn the_server_of_a_host_that_was_killed_is_stopped_by_the_next() {
    let folder = folder();
    let (mut killed, address) = serve(&folder).await;
    let server = server(&folder).unwrap();
    assert_eq!(select(&address, "select 'here'").await, "here");
    killed.kill();
    killed.end(PATIENCE).await;
    assert!(runs(server));
    let (mut next, address) = serve(&folder).await;
    assert_eq!(select(&address, "select 'here'").await, "here");
    next.line("left there by a host that has ended").await;
    next.terminate();
    assert_eq!(next.end(PATIENCE).await.code(), Some(0));
    assert!(!runs(server));
}

#[tokio::test]
async fn of_two_hosts_with_one_server_the_one_that_started_it_stops_it() {
    let folder = folder();
    let (mut first, _) = serve(&folder).await;
    let server = server(&folder).unwrap();
    let (mut second, address) = serve(&folder).await;
    assert_eq!(select(&address, "select 'here'").await, "here");
    second.terminate();
    assert_eq!(second.end(PATIENCE).await.code(), Some(0));
    assert!(runs(server));
    first.terminate();
    assert_eq!(first.end(PATIENCE).await.code(), Some(0));
    assert!(!runs(server));
}

/// The hosts' own note says which are theirs.
#[tokio::test]
async fn a_server_that_no_host_has_started_is_left_running() {
    let folder = folder();
    let (mut killed, _) = serve(&folder).await;
    let server = server(&folder).unwrap();
    killed.kill();
    killed.end(PATIENCE).await;
    std::fs::write(folder.join(".hearth/postgres/owner"), "").unwrap();
    let (mut next, address) = serve(&folder).await;
    assert_eq!(select(&address, "select 'here'").await, "here");
    next.terminate();
    assert_eq!(next.end(PATIENCE).await.code(), Some(0));
    assert!(runs(server));
    kill_process(server, Signal::QUIT).unwrap();
    eventually("the server's end", async || (!runs(server)).then_some(())).await;
}

/// What kills it may be the system, for want of memory.
#[tokio::test]
async fn a_server_that_is_killed_runs_again_for_all_hosts_that_use_it() {
    let folder = folder();
    let (mut first, first_address) = serve(&folder).await;
    let (mut second, second_address) = serve(&folder).await;
    for address in [&first_address, &second_address] {
        assert_eq!(select(address, "select 'here'").await, "here");
    }
    kill_process(server(&folder).unwrap(), Signal::KILL).unwrap();
    first.line("PostgreSQL has ended (signal 9)").await;
    for (host, address) in [(&mut first, &first_address), (&mut second, &second_address)] {
        host.line("PostgreSQL runs again").await;
        assert_eq!(select(address, "select 'again'").await, "again");
    }
    let server = server(&folder).unwrap();
    for host in [&mut first, &mut second] {
        host.terminate();
        assert_eq!(host.end(PATIENCE).await.code(), Some(0));
    }
    assert!(!runs(server));
}

/// They are for the address that a deployed function has.
#[tokio::test]
async fn what_is_said_of_a_login_is_not_for_a_server_of_the_hosts_own() {
    let (password, ca) = ("{ file = \"nowhere\" }", "{ ca = \"nowhere.pem\" }");
    for (login, value) in [("iam", "true"), ("password", password)] {
        let setup = Setup::of(&COUNTER)
            .function("databases", "[\"default\"]")
            .database(login, value)
            .database("tls", ca);
        let (_host, address) = serve(&setup.write()).await;
        assert_eq!(select(&address, "select 'here'").await, "here");
    }
}

/// PostgreSQL takes a comma for the end of a folder's name, and what is no UTF-8 stands in no address.
#[tokio::test]
async fn a_folder_of_any_name_has_a_server() {
    for name in [&b"one, two"[..], b"caf\xe9"] {
        let folder = folder().join(OsStr::from_bytes(name));
        std::fs::create_dir(&folder).unwrap();
        let file = folder.with_file_name("hearth.toml");
        std::fs::rename(file, folder.join("hearth.toml")).unwrap();
        let (mut killed, _) = serve(&folder).await;
        let server = server(&folder).unwrap();
        killed.kill();
        killed.end(PATIENCE).await;
        // What it has noted of itself is read as well.
        let (mut next, address) = serve(&folder).await;
        next.line("left there by a host that has ended").await;
        assert_eq!(select(&address, "select 'here'").await, "here");
        next.terminate();
        assert_eq!(next.end(PATIENCE).await.code(), Some(0));
        assert!(!runs(server));
    }
}

#[tokio::test]
async fn nothing_of_the_hosts_own_gets_into_a_repository() {
    let folder = folder();
    let (_host, _) = serve(&folder).await;
    let ignored = std::fs::read_to_string(folder.join(".hearth/.gitignore"));
    assert_eq!(ignored.unwrap(), "*\n");
}

/// One that was killed with all its children could take nothing away.
#[tokio::test]
async fn what_a_killed_start_has_left_is_taken_away_by_the_next() {
    let folder = folder();
    let (mut host, _) = serve(&folder).await;
    host.terminate();
    host.end(PATIENCE).await;
    let cluster = folder.join(".hearth/postgres");
    let left = cluster.join("data-0123456789abcdef0123456789abcdef");
    let kept = cluster.join("data-of-last-year");
    for made in [&left, &kept] {
        std::fs::create_dir_all(made.join("base")).unwrap();
    }
    let (_host, _) = serve(&folder).await;
    assert!(!left.exists() && kept.exists());
}

/// Only root's server runs as another user, who may not reach every folder.
#[tokio::test]
async fn data_that_were_begun_elsewhere_go_on_there() {
    if !geteuid().is_root() {
        return;
    }
    let folder = folder();
    std::fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
    let (mut host, address) = serve(&folder).await;
    let line = host.line("the database is kept in /var/lib/hearth/").await;
    let elsewhere = line.split("kept in ").nth(1).unwrap();
    let elsewhere = Elsewhere(elsewhere.split(' ').next().unwrap().into());
    let kept = "select lo_create(4711)::text";
    assert_eq!(select(&address, kept).await, "4711");
    host.terminate();
    host.end(PATIENCE).await;
    // By now it could be reached; and the user may be another one than would be chosen today.
    std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    elsewhere.give_to(4711);
    let (mut host, address) = serve(&folder).await;
    host.line("goes on there as the user 4711").await;
    let found = "select count(*)::text from pg_largeobject_metadata where oid = 4711";
    assert_eq!(select(&address, found).await, "1");
    host.terminate();
    assert_eq!(host.end(PATIENCE).await.code(), Some(0));
}

/// A folder outside of the test run's, which goes with the test.
struct Elsewhere(PathBuf);

impl Elsewhere {
    fn give_to(&self, user: u32) {
        let mut open = vec![self.0.clone()];
        while let Some(path) = open.pop() {
            lchown(&path, Some(user), Some(user)).unwrap();
            if path.is_dir() && !path.is_symlink() {
                let entries = std::fs::read_dir(&path).unwrap();
                open.extend(entries.map(|entry| entry.unwrap().path()));
            }
        }
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// As after an upgrade of the machine; nothing is done to data that cannot be read.
#[tokio::test]
async fn data_of_another_version_are_told_of_with_both_versions() {
    let folder = folder();
    let (mut host, _) = serve(&folder).await;
    host.terminate();
    host.end(PATIENCE).await;
    let version = folder.join(".hearth/postgres/data/PG_VERSION");
    let installed = std::fs::read_to_string(&version).unwrap();
    std::fs::write(&version, "8.4\n").unwrap();
    let mut host = Host::hearth(&folder, &["serve", "--port", "0"], &[]);
    let line = host.line("are of PostgreSQL 8.4").await;
    assert!(line.contains(&format!("is {}", installed.trim())), "{line}");
    assert_eq!(host.end(PATIENCE).await.code(), Some(1));
}
