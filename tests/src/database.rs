//! A real PostgreSQL: one server per run, and a fresh database for each test.
//!
//! Tests look at a database from outside, through another database of the same server: an
//! observer that looks counts as no session of the database it looks at.

mod gate;
mod observing;
mod standby;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::OnceCell;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::eventually;
use crate::run::{self, Cleanup};

pub use gate::Gate;
pub use standby::RULES;

/// A server.
#[derive(Clone)]
pub struct Server {
    /// The cleanup process of a server that one test has to itself; else the run's own.
    cleanup: Option<Arc<Cleanup>>,
    config: Config,
    /// Where it listens beside its Unix socket, on PostgreSQL's own port.
    address: Option<Ipv4Addr>,
}

impl Server {
    /// The server that the tests of this run share.
    pub async fn shared() -> Self {
        static SHARED: OnceCell<Server> = OnceCell::const_new();
        SHARED.get_or_init(|| Self::with(None, None)).await.clone()
    }

    /// A server for one test, which may stop it.
    pub async fn own() -> Self {
        Self::with(Some(Self::cleanup().await), None).await
    }

    /// A server for one test that listens on TCP too, at an address that no other server has.
    pub async fn listening() -> Self {
        Self::with(Some(Self::cleanup().await), Some(Self::fresh_address())).await
    }

    fn fresh_address() -> Ipv4Addr {
        static NUMBER: AtomicU8 = AtomicU8::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let [.., high, low] = std::process::id().to_be_bytes();
        // All of 127.0.0.0/8 is this machine.
        Ipv4Addr::new(127, 100 + number % 100, high, low)
    }

    async fn cleanup() -> Arc<Cleanup> {
        let cleanup = tokio::task::spawn_blocking(Cleanup::start).await;
        Arc::new(cleanup.expect("it does not panic"))
    }

    async fn with(cleanup: Option<Arc<Cleanup>>, address: Option<Ipv4Addr>) -> Self {
        let mut server = Self {
            cleanup,
            config: Config::new(),
            address,
        };
        let url = server.ask(server.start_command()).await;
        server.config = url
            .parse()
            .unwrap_or_else(|error| panic!("the cluster's address {url:?}: {error}"));
        server
    }

    /// Stops it.
    pub async fn stop(&self) {
        self.ask("stop".to_owned()).await;
    }

    /// The code with which it refuses connections now; none if it takes them, or is not there.
    pub async fn refusal(&self) -> Option<String> {
        let refused = self.config.connect(NoTls).await.err()?;
        refused.code().map(|code| code.code().to_owned())
    }

    /// Where it listens.
    pub fn address(&self) -> Ipv4Addr {
        self.address
            .expect("this server does not listen on TCP; use Server::listening")
    }

    /// Kills one of its processes. It takes that for a crash: it ends all sessions without a farewell,
    /// and recovers. Waits until it takes connections again.
    pub async fn crash(&self) {
        let client = self.connect("postgres").await;
        let began =
            "select backend_start from pg_stat_activity where backend_type = 'checkpointer'";
        let before = first(&client, began).await;
        // The shell's parent is the process that runs the statement.
        let killed = client
            .batch_execute("copy (select) to program 'kill -9 $PPID'")
            .await;
        assert!(killed.is_err(), "whoever is killed does not answer");
        eventually("the server after its crash", async || {
            let (client, connection) = self.config.connect(NoTls).await.ok()?;
            tokio::spawn(connection);
            let messages = client.simple_query(began).await.ok()?;
            (first_of(&messages) != before).then_some(())
        })
        .await;
    }

    /// Its Unix socket.
    pub fn socket(&self) -> PathBuf {
        match &self.config.get_hosts()[0] {
            Host::Unix(path) => path.join(format!(".s.PGSQL.{}", self.port())),
            Host::Tcp(host) => panic!("a test's server has a socket, and this is at {host}"),
        }
    }

    /// The role that tests log in as.
    pub fn user(&self) -> &str {
        self.config.get_user().unwrap_or("postgres")
    }

    /// Its port, which is part of its socket's name.
    pub fn port(&self) -> u16 {
        self.config.get_ports().first().copied().unwrap_or(5432)
    }

    /// Gives it files in its data folder, which nobody else can read, and settings, and waits until
    /// they count for every new connection.
    pub async fn set_up(&self, files: &[(&str, &str)], settings: &[(&str, &str)]) {
        static NUMBER: AtomicU8 = AtomicU8::new(1);
        let client = self.connect("postgres").await;
        let run = async |sql: String| {
            client
                .batch_execute(&sql)
                .await
                .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        };
        let data = first(&client, "show data_directory").await;
        let data = data.expect("every server has one");
        for (name, text) in files {
            run(format!(
                "copy (select unnest(string_to_array($${text}$$, E'\\n'))) to program $$umask 077; cat > {data}/{name}$$"
            ))
            .await;
        }
        for (name, value) in settings {
            run(format!("alter system set {name} = '{value}'")).await;
        }
        // A setting that changes nothing else, to see when the server has read them all.
        let mark = format!("mark {} ", NUMBER.fetch_add(1, Ordering::Relaxed));
        run(format!("alter system set log_line_prefix = '{mark}'")).await;
        run("select pg_reload_conf()".to_owned()).await;
        eventually("the new settings", async || {
            let client = self.connect("postgres").await;
            let seen = first(&client, "show log_line_prefix").await;
            (seen.as_deref() == Some(&mark)).then_some(())
        })
        .await;
    }

    fn start_command(&self) -> String {
        match self.address {
            Some(address) => format!("start {address}"),
            None => "start".to_owned(),
        }
    }

    /// Starts it again, at the same address.
    pub async fn start(&self) {
        let url = self.ask(self.start_command()).await;
        assert_eq!(
            self.config,
            url.parse().expect("it was one before"),
            "a server comes back where it was"
        );
    }

    async fn ask(&self, command: String) -> String {
        let cleanup = self.cleanup.clone();
        let ask = move || {
            let answer = match &cleanup {
                Some(cleanup) => cleanup.ask(&command),
                None => run::cleanup().ask(&command),
            };
            answer.unwrap_or_else(|message| panic!("PostgreSQL, {command}: {message}"))
        };
        tokio::task::spawn_blocking(ask)
            .await
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    async fn connect(&self, database: &str) -> Client {
        let (client, connection) = self
            .config
            .clone()
            .dbname(database)
            .connect(NoTls)
            .await
            .expect("the server runs");
        tokio::spawn(connection);
        client
    }
}

/// A database of its own for each test.
pub struct Database {
    /// Its name.
    pub name: String,
    /// The server it is on.
    pub server: Server,
    /// Who looks from outside, between two looks.
    observer: Mutex<Option<Client>>,
}

impl Database {
    /// A new database on the shared server.
    pub async fn create() -> Self {
        Self::create_on(&Server::shared().await).await
    }

    /// A new database with something in it.
    pub async fn with(schema: &str) -> Self {
        let database = Self::create().await;
        database.run(schema).await;
        database
    }

    /// A new database on this server.
    pub async fn create_on(server: &Server) -> Self {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let name = format!(
            "test_{}",
            NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
        );
        let client = server.connect("postgres").await;
        client
            .batch_execute(&format!("create database {name}"))
            .await
            .expect("the name is new");
        Self::named(&name, server)
    }

    /// The database of this name on this server.
    pub fn named(name: &str, server: &Server) -> Self {
        Self {
            name: name.to_owned(),
            server: server.clone(),
            observer: Mutex::default(),
        }
    }

    /// Its address, as a configuration takes it.
    pub fn url(&self) -> String {
        self.url_as(self.server.user(), None)
    }

    /// Its address, through what listens in this directory instead of the server.
    pub fn url_in(&self, directory: &Path) -> String {
        let user = self.server.user();
        let host = encoded(directory);
        let port = self.server.port();
        format!("postgresql://{user}@{host}:{port}/{}", self.name)
    }

    /// Its address for another role.
    pub fn url_as(&self, user: &str, password: Option<&str>) -> String {
        let config = &self.server.config;
        let host = match &config.get_hosts()[0] {
            Host::Tcp(host) => host.clone(),
            Host::Unix(path) => encoded(path),
        };
        let port = self.server.port();
        let own = config.get_password().map(String::from_utf8_lossy);
        let password = password
            .or(own.as_deref())
            .map_or_else(String::new, |password| format!(":{password}"));
        format!("postgresql://{user}{password}@{host}:{port}/{}", self.name)
    }

    /// Runs SQL in it, through a connection of its own.
    pub async fn run(&self, sql: &str) {
        let client = self.client().await;
        client
            .batch_execute(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// A connection to it, for tests that hold something there.
    pub async fn client(&self) -> Client {
        self.server.connect(&self.name).await
    }

    /// How many rows a table has; `table where …` counts some of them.
    pub async fn count(&self, table: &str) -> u64 {
        let count = self.value(&format!("select count(*) from {table}")).await;
        number(count)
    }

    /// The first value that this SQL returns, from inside the database.
    pub async fn value(&self, sql: &str) -> Option<String> {
        first(&self.client().await, sql).await
    }
}

/// A directory as an address takes it.
fn encoded(directory: &Path) -> String {
    directory.display().to_string().replace('/', "%2F")
}

async fn first(client: &Client, sql: &str) -> Option<String> {
    let messages = client
        .simple_query(sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    first_of(&messages)
}

fn first_of(messages: &[SimpleQueryMessage]) -> Option<String> {
    messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}

/// What a server says of how many there are.
fn number(count: Option<String>) -> u64 {
    let count = count.and_then(|count| count.parse().ok());
    count.expect("a count is a number")
}
