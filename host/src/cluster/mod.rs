//! A PostgreSQL of the local host's own, for those who did not say where theirs is.
//!
//! Promises:
//! - it listens on a Unix socket alone, in a folder that only its user can enter;
//! - its data stay in the folder that was named, and the next start goes on with them;
//! - it ends with its [`Cluster`]; one that was running already is used, and left running, unless a
//!   host started it that has ended without stopping it;
//! - one that ends by itself is started again, as long as [`Cluster::keep`] is waited for.
//!
//! Left to others: what is in it. Lambda never sees any of this.

mod claim;
mod error;
mod keeping;
mod notes;
mod programs;
mod server;
mod user;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use uuid::Uuid;

pub use error::ClusterError;

use claim::Claim;
use error::last_words;
use notes::{Owner, Running, owner_of};
use programs::Programs;
use server::Server;
use user::User;

/// The socket's file name: the port is part of it though nothing listens on a port.
const SOCKET: &str = ".s.PGSQL.5432";
/// The longest path of a socket: the system's limit is 107 on Linux and 103 on macOS.
const SOCKET_BYTES_MAX: usize = 100;
/// What the name of a cluster begins with that is being made; something unique follows.
const BEGUN: &str = "data-";
/// How long making a new cluster may take.
const INITDB_TIMEOUT: Duration = Duration::from_secs(120);

/// What a cluster is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder for its data, its log and its socket; made when it is not there.
    pub directory: PathBuf,
    /// Settings on top of PostgreSQL's defaults, such as `("max_connections", "20")`. A server that
    /// is running already keeps its own.
    pub settings: Vec<(String, String)>,
}

/// A PostgreSQL server that can be connected to.
#[derive(Debug)]
pub struct Cluster {
    // As it was started, with the folder that is used.
    options: Options,
    // The server's process, whoever stops it.
    pid: Option<Pid>,
    // None when somebody else stops it.
    server: Option<Server>,
    claim: Option<Claim>,
    sockets: PathBuf,
    // Whether the sockets' folder was made for this server alone, and goes with it.
    sockets_are_temporary: bool,
}

impl Cluster {
    /// Starts the cluster of this folder, or finds it running; makes a new one if there is none.
    pub async fn start(options: Options) -> Result<Self, ClusterError> {
        let directory = std::path::absolute(&options.directory)
            .map_err(ClusterError::file("cannot find", &options.directory))?;
        let (directory, user) = user::prepare(&directory)?;
        let options = Options {
            directory,
            ..options
        };
        Self::open(options, user.as_ref(), None).await
    }

    /// The same in a folder that is ready, with the sockets in this one, if it is said.
    async fn open(
        options: Options,
        user: Option<&User>,
        sockets: Option<&Path>,
    ) -> Result<Self, ClusterError> {
        let begin = Instant::now();
        loop {
            if let Some(claim) = Claim::take(&options.directory)? {
                return Self::claimed(claim, options, user, sockets).await;
            }
            // The other host has started it, or is about to; or it stops it, and gives up the claim.
            if let Some(running) = notes::running(&options.directory.join("data")).await {
                return Ok(Self::shared(running, options));
            }
            if begin.elapsed() > server::START_TIMEOUT {
                return Err(ClusterError::NotReady {
                    program: "postgres",
                    waited: server::START_TIMEOUT,
                    words: "another host has the folder, and no server runs there".to_owned(),
                });
            }
            tokio::time::sleep(server::POLL).await;
        }
    }

    /// The same, where no other host is alive that would start or stop it.
    async fn claimed(
        claim: Claim,
        options: Options,
        user: Option<&User>,
        sockets: Option<&Path>,
    ) -> Result<Self, ClusterError> {
        let data = options.directory.join("data");
        if let Some(running) = notes::running(&data).await {
            let is_hosts = claim.is_on(running.pid);
            return Ok(match owner_of(running.pid, &data) {
                Owner::Server if is_hosts => Self::adopted(claim, running, options),
                _ => Self::shared(running, options),
            });
        }
        sweep(&options.directory);
        let programs = Programs::find(&data)?;
        if !data.join("PG_VERSION").is_file() {
            initialize(&programs, user, &data).await?;
        }
        let log = log_in(&options.directory);
        let mut cluster = Self::launch(&programs, user, options.clone(), sockets)?;
        let url = cluster.url();
        let Some(server) = &mut cluster.server else {
            return Ok(cluster);
        };
        if let Some(pid) = cluster.pid {
            claim.note(pid)?;
        }
        cluster.claim = Some(claim);
        match server.ready(&url, &log).await {
            Ok(()) => Ok(cluster),
            // Somebody else may have started the same cluster at the same moment.
            Err(error) => {
                let running = notes::running(&data).await.ok_or(error)?;
                Ok(Self::shared(running, options))
            }
        }
    }

    /// The address, as libpq's keys and values.
    pub fn url(&self) -> String {
        url(&self.sockets)
    }

    /// Disconnects everyone and stops the server, within bounds; one that was running already
    /// goes on.
    pub async fn stop(mut self) {
        if let Some(server) = &mut self.server {
            server.stop().await;
        }
    }

    fn shared(running: Running, options: Options) -> Self {
        tracing::info!(
            "PostgreSQL is running already in {}; it is used, and left running",
            options.directory.display()
        );
        Self {
            options,
            pid: Some(running.pid),
            server: None,
            claim: None,
            sockets: running.sockets,
            sockets_are_temporary: false,
        }
    }

    fn adopted(claim: Claim, running: Running, options: Options) -> Self {
        tracing::info!(
            "PostgreSQL is running already in {}, left there by a host that has ended; it is used, and stopped at the end",
            options.directory.display()
        );
        Self {
            pid: Some(running.pid),
            server: Some(Server::orphan(running.pid, &options.directory.join("data"))),
            claim: Some(claim),
            sockets_are_temporary: running.sockets != options.directory,
            sockets: running.sockets,
            options,
        }
    }

    fn launch(
        programs: &Programs,
        user: Option<&User>,
        options: Options,
        sockets: Option<&Path>,
    ) -> Result<Self, ClusterError> {
        let directory = options.directory.clone();
        let sockets_are_temporary = !takes_sockets(&directory);
        let mut sockets = sockets.unwrap_or(&directory).to_owned();
        if sockets_are_temporary {
            if sockets == directory {
                sockets = PathBuf::from(format!("/tmp/hearth-{}", Uuid::new_v4().simple()));
            }
            if !sockets.is_dir() {
                user::make_private(&sockets, user)?;
            }
        }
        // From here on whatever goes wrong takes the folder and the process with it.
        let mut cluster = Self {
            options,
            pid: None,
            server: None,
            claim: None,
            sockets,
            sockets_are_temporary,
        };
        let log = server::fresh_log(&log_in(&directory))?;
        let log_too = log
            .try_clone()
            .map_err(ClusterError::file("cannot write", &directory))?;
        let mut command = programs.command("postgres", user);
        command
            .arg("-D")
            .arg(directory.join("data"))
            .arg("-k")
            .arg(&cluster.sockets);
        command.args([
            "-c",
            "listen_addresses=",
            "-c",
            "port=5432",
            "-c",
            "unix_socket_permissions=0700",
        ]);
        command.args([
            "-c",
            "logging_collector=off",
            "-c",
            "log_destination=stderr",
        ]);
        for (name, value) in &cluster.options.settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let child = command.stdout(log).stderr(log_too).spawn();
        let program = programs.path("postgres");
        let child = child.map_err(|source| ClusterError::Program { program, source })?;
        let server = Server::new(child);
        cluster.pid = server.pid();
        cluster.server = Some(server);
        Ok(cluster)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The server first: it would complain of a folder that is gone.
        drop(self.server.take());
        if let Some(claim) = self.claim.take() {
            claim.clear();
        }
        if self.sockets_are_temporary {
            let _ = std::fs::remove_dir_all(&self.sockets);
        }
    }
}

/// Whether a server can have its sockets in this folder, and an address can say so: PostgreSQL takes a list
/// of folders with commas between them, and so does an address, which is text.
fn takes_sockets(directory: &Path) -> bool {
    let path = directory.to_str();
    path.is_some_and(|path| {
        !path.contains(',') && path.len() + 1 + SOCKET.len() <= SOCKET_BYTES_MAX
    })
}

fn log_in(directory: &Path) -> PathBuf {
    directory.join("postgres.log")
}

// Single quotes are how `key=value` addresses hold any path at all.
fn url(sockets: &Path) -> String {
    let host = sockets
        .to_string_lossy()
        .replace('\\', "\\\\")
        .replace('\'', "\\'");
    format!("host='{host}' port=5432 user=postgres dbname=postgres")
}

/// Makes a new cluster beside its place and moves it there, so that one half made is never used.
async fn initialize(
    programs: &Programs,
    user: Option<&User>,
    data: &Path,
) -> Result<(), ClusterError> {
    let begun = Begun(data.with_file_name(format!("{BEGUN}{}", Uuid::new_v4().simple())));
    let mut command = programs.command("initdb", user);
    command.arg("-D").arg(&begun.0).args([
        "--username=postgres",
        "--auth-local=trust",
        "--auth-host=reject",
    ]);
    command.args(["--encoding=UTF8", "--locale=C", "--no-instructions"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut command = tokio::process::Command::from(command);
    let output = tokio::time::timeout(INITDB_TIMEOUT, command.kill_on_drop(true).output()).await;
    let output = output.map_err(|_| {
        let words = "it was ended".to_owned();
        ClusterError::NotReady {
            program: "initdb",
            waited: INITDB_TIMEOUT,
            words,
        }
    })?;
    let output = output.map_err(|source| ClusterError::Program {
        program: programs.path("initdb"),
        source,
    })?;
    if !output.status.success() {
        let words = last_words(&String::from_utf8_lossy(&output.stderr));
        return Err(ClusterError::Ended {
            program: "initdb",
            status: output.status.to_string(),
            words,
        });
    }
    match std::fs::rename(&begun.0, data) {
        // Another host that made the same cluster at the same moment was faster.
        Err(_) if data.join("PG_VERSION").is_file() => Ok(()),
        moved => moved.map_err(ClusterError::file("cannot make the folder", data)),
    }
}

/// Takes away what a host has left that was killed while it made a cluster. Nobody else makes one: it is for
/// whoever has the claim.
fn sweep(directory: &Path) {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| is_begun(&entry.file_name().to_string_lossy())) {
        let _ = std::fs::remove_dir_all(entry.path());
    }
}

fn is_begun(name: &str) -> bool {
    let unique = name.strip_prefix(BEGUN);
    unique.is_some_and(|unique| Uuid::try_parse(unique).is_ok())
}

/// A cluster that is being made; what is left of it goes away, also when the start is given up.
struct Begun(PathBuf);

impl Drop for Begun {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;
    use crate::config::address::{AddressParts, HostName};

    #[test]
    fn sockets_are_where_an_address_can_name_them() {
        let takes = |path: &[u8]| takes_sockets(Path::new(OsStr::from_bytes(path)));
        assert!(takes(b"/home/a b/it's/\xc3\xa4"));
        assert!(!takes(b"/home/a,b"));
        assert!(!takes(b"/home/\xe4"));
        assert!(takes(&[b'/'; SOCKET_BYTES_MAX - SOCKET.len() - 1]));
        assert!(!takes(&[b'/'; SOCKET_BYTES_MAX - SOCKET.len()]));
    }

    #[test]
    fn what_a_start_left_is_known_by_its_whole_name() {
        assert!(is_begun("data-0123456789abcdef0123456789abcdef"));
        for name in ["data", "data-old", "data-0123", "old-data", "postgres.log"] {
            assert!(!is_begun(name), "{name}");
        }
    }

    #[test]
    fn an_address_holds_any_path() {
        for path in ["/run/hearth", "/a b/it's", "/back\\slash"] {
            let parts = AddressParts::parse(&url(Path::new(path))).unwrap();
            assert_eq!(parts.hosts[0].name, HostName::Folder(PathBuf::from(path)));
            assert_eq!(parts.user.as_deref(), Some("postgres"));
        }
    }
}
