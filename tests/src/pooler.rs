//! A real PgBouncer in transaction mode: it gives a server connection to whoever begins a transaction.
//!
//! It is Debian's, or the one that the variable `PGBOUNCER` names.

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::{Database, eventually, run};

/// The first version that knows which prepared statement is on which of its server connections.
const KNOWS_STATEMENTS: (u32, u32) = (1, 21);

/// A PgBouncer in front of one database, with two connections to it. Dropping it kills it.
pub struct Pooler {
    url: String,
    child: Child,
}

impl Pooler {
    /// A PgBouncer that leaves prepared statements where they happen to be; none where PgBouncer is not
    /// installed, which is then said.
    pub async fn of(database: &Database) -> Option<Self> {
        Some(Self::start(database, leaving_statements()?).await)
    }

    /// The same, which waits for a server's answer for no longer than a second.
    pub async fn impatient(database: &Database) -> Option<Self> {
        let more = format!("{}query_timeout = 1\n", leaving_statements()?);
        Some(Self::start(database, &more).await)
    }

    /// A PgBouncer that prepares a statement wherever it is executed; none if this version cannot do that,
    /// which is then said.
    pub async fn with_statements(database: &Database) -> Option<Self> {
        let version = version()?;
        if version < KNOWS_STATEMENTS {
            let ((major, minor), (least, least_minor)) = (version, KNOWS_STATEMENTS);
            not_run(&format!(
                "PgBouncer {major}.{minor} does not follow prepared statements; \
                 set PGBOUNCER to one of {least}.{least_minor} or later"
            ));
            return None;
        }
        Some(Self::start(database, "max_prepared_statements = 100\n").await)
    }

    async fn start(database: &Database, more: &str) -> Self {
        let server = database.server.socket();
        let owner = server.metadata().expect("the server runs");
        let directory = run::fresh_directory();
        let file = directory.join("pgbouncer.ini");
        let name = &database.name;
        let host = server.parent().expect("a socket is in a directory");
        let user = database.server.user();
        let text = format!(
            "[databases]\n{name} = host={} port={} dbname={name} user={user}\n\n[pgbouncer]\n\
             pool_mode = transaction\ndefault_pool_size = 2\nauth_type = any\nlisten_addr =\n\
             listen_port = {}\nunix_socket_dir = {}\n{more}",
            host.display(),
            database.server.port(),
            database.server.port(),
            directory.display(),
        );
        std::fs::write(&file, text).expect("the directory is new");
        let mut command = Command::new(program());
        if rustix::process::geteuid().is_root() {
            // It does not run as root either: the server's own user can do all that it needs.
            chown(&directory, Some(owner.uid()), Some(owner.gid())).expect("root may do that");
            command.uid(owner.uid()).gid(owner.gid());
        }
        let mut child = command
            .arg(&file)
            .current_dir(&directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("PgBouncer: {error}"));
        run::guard(child.id());
        let socket = directory.join(server.file_name().expect("a socket has a name"));
        eventually("PgBouncer takes connections", async || {
            if let Ok(Some(status)) = child.try_wait() {
                let mut words = String::new();
                let stderr = child.stderr.as_mut().expect("it is piped");
                let _ = stderr.read_to_string(&mut words);
                panic!("PgBouncer ended ({status}): {words}");
            }
            UnixStream::connect(&socket).ok()
        })
        .await;
        Self {
            url: database.url_in(&directory),
            child,
        }
    }

    /// The database's address, through the pooler.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        run::release(self.child.id());
    }
}

/// The setting that keeps PgBouncer from looking after prepared statements.
fn leaving_statements() -> Option<&'static str> {
    Some(match version()? {
        // Later ones follow statements unless told otherwise, and earlier ones know no such setting.
        version if version >= KNOWS_STATEMENTS => "max_prepared_statements = 0\n",
        _ => "",
    })
}

/// Where it is. Debian puts it where only root's `PATH` leads.
fn program() -> PathBuf {
    let named = std::env::var_os("PGBOUNCER").map(PathBuf::from);
    let debians = Path::new("/usr/sbin/pgbouncer");
    named.unwrap_or_else(|| match debians.exists() {
        true => debians.to_owned(),
        false => PathBuf::from("pgbouncer"),
    })
}

/// Says that a test has tried nothing: past the capture of tests that pass, or nobody would read it.
fn not_run(why: &str) {
    let _ = writeln!(std::io::stderr(), "NOT RUN: {why}");
}

fn version() -> Option<(u32, u32)> {
    let output = match Command::new(program()).arg("--version").output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            not_run("PgBouncer is not installed; scripts/setup --tests installs it where it can");
            return None;
        }
        Err(error) => panic!("PgBouncer: {error}"),
    };
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = told
        .split(|character: char| !character.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok());
    let major = numbers.next();
    let version = major.zip(numbers.next());
    Some(version.unwrap_or_else(|| panic!("no version in {told:?}")))
}
