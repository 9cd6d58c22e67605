//! Hearth beside functions of other runtimes, doing the same work behind the same Runtime API.
//!
//! For each runtime, a process is started and handed events. Timed is what a caller of Lambda would
//! wait for: from handing an event out (or from the process's start) to having received the answer.
//! The runtimes take turns, round by round, so that whatever else the machine does falls on all of
//! them. Compare within one run only; what is printed last of each work are ratios.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use tokio_postgres::config::Host;

mod cold;
mod runtime;
mod warm;

/// All columns of all 10,000 rows.
const ALL: &str =
    "select id, part, price, weight, volume, name, note, made, extra, sold from bench_large";

/// Events at a time on a large machine of Lambda Managed Instances.
const SLOTS: usize = 16;

/// Events at a time where many wait for few connections. The pool has 8, on all sides.
const MANY: usize = 200;

/// What is measured.
struct Work {
    name: &'static str,
    event: String,
    /// Events per runtime and round. A round is short against the machine's own swings.
    events: usize,
}

impl Work {
    fn new(name: &'static str, event: impl Into<String>, events: usize) -> Self {
        Self {
            name,
            event: event.into(),
            events,
        }
    }
}

/// A runtime that is measured.
struct Contender {
    name: &'static str,
    command: Command,
    /// Whether it is Hearth, and so compared with those that are not.
    is_hearth: bool,
}

/// Where the programs are.
struct Programs {
    bootstrap: PathBuf,
    native: PathBuf,
    /// The folder of the function for Node.js, where its runtime is installed.
    node: Option<PathBuf>,
    /// The database's address, as Node.js's client takes it.
    libpq: Vec<(&'static str, String)>,
}

impl Programs {
    fn hearth(&self, name: &'static str, function: &str) -> Contender {
        let mut command = Command::new(&self.bootstrap);
        command.env("_HANDLER", function);
        Contender {
            name,
            command,
            is_hearth: true,
        }
    }

    fn native(&self, name: &'static str, argument: Option<&str>) -> Contender {
        let mut command = Command::new(&self.native);
        command.args(argument);
        Contender {
            name,
            command,
            is_hearth: false,
        }
    }

    fn node(&self) -> Option<Contender> {
        let folder = self.node.as_ref()?;
        let mut command = Command::new("node");
        command
            .arg(folder.join("node_modules/aws-lambda-ric/bin/index.mjs"))
            .arg("index.handle")
            .envs(self.libpq.clone())
            .current_dir(folder)
            // It says at each start what it executes.
            .stdout(Stdio::null());
        Some(Contender {
            name: "node",
            command,
            is_hearth: false,
        })
    }

    /// One of each kind, for one event at a time.
    fn single(&self) -> Vec<Contender> {
        let mut all = vec![
            self.native("native", None),
            self.native("native, one thread", Some("one-thread")),
        ];
        all.extend(self.node());
        all.push(self.hearth("hearth", "bench"));
        all
    }

    /// Those that take several events at a time.
    fn several(&self) -> Vec<Contender> {
        vec![
            self.native("native", None),
            self.native("native, one thread", Some("one-thread")),
            self.hearth("hearth, an instance each", "bench"),
            self.hearth("hearth, one for all", "shared"),
        ]
    }
}

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [bootstrap, task_root, native, node, names @ ..] = arguments.as_slice() else {
        bail!(
            "usage: hearth-bench BOOTSTRAP TASK_ROOT NATIVE NODE [WORK…], with DATABASE_URL set; see scripts/bench"
        );
    };
    let is_wanted = |work: &Work| {
        let mut names = names.iter().map(|name| name.to_string_lossy());
        names.len() == 0 || names.any(|wanted| work.name.contains(&*wanted))
    };
    let address = std::env::var("DATABASE_URL").context("DATABASE_URL is not set")?;
    let programs = Programs {
        bootstrap: bootstrap.clone(),
        native: native.clone(),
        node: installed(node),
        libpq: libpq(&address.parse()?),
    };
    prepare_database(&address)?;
    let rows = |how: &str| format!(r#"{{"{how}":"{ALL}"}}"#);
    let row = r#"{"row":42}"#;
    let start = Work::new("start to first answer, one-row query", row, 1);
    if is_wanted(&start) {
        cold::compare(&start, programs.single(), task_root)?;
    }
    let groups = [
        (
            1,
            vec![
                Work::new("echo", r#"{"message":"hello","numbers":[1,2,3]}"#, 2_000),
                Work::new("one-row query", row, 2_000),
                Work::new("10,000 rows, collected", rows("collect"), 50),
                Work::new("10,000 rows, streamed", rows("stream"), 50),
            ],
        ),
        (
            SLOTS,
            vec![Work::new("16 slots, one-row query", row, 20_000)],
        ),
        (
            MANY,
            vec![Work::new(
                "200 slots, 5 ms statement, 8 connections",
                r#"{"sleep":0.005}"#,
                2_000,
            )],
        ),
    ];
    for (concurrency, works) in groups {
        let works: Vec<Work> = works.into_iter().filter(is_wanted).collect();
        let contenders = match concurrency {
            1 => programs.single(),
            _ => programs.several(),
        };
        if !works.is_empty() {
            warm::compare(&works, contenders, task_root, concurrency)?;
        }
    }
    Ok(())
}

/// The folder of the function for Node.js, if its runtime is there.
fn installed(node: &Path) -> Option<PathBuf> {
    let is_there = node.join("node_modules/aws-lambda-ric").is_dir();
    if !is_there {
        println!(
            "Node.js is not measured: npm install --prefix {} installs its runtime",
            node.display()
        );
    }
    is_there.then(|| node.to_owned())
}

/// An address as libpq's variables.
fn libpq(address: &tokio_postgres::Config) -> Vec<(&'static str, String)> {
    let host = address.get_hosts().first().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(folder) => folder.display().to_string(),
    });
    let password = address.get_password().map(String::from_utf8_lossy);
    let variables = [
        ("PGHOST", host),
        ("PGPORT", address.get_ports().first().map(u16::to_string)),
        ("PGUSER", address.get_user().map(str::to_owned)),
        ("PGPASSWORD", password.map(|password| password.into_owned())),
        ("PGDATABASE", address.get_dbname().map(str::to_owned)),
    ];
    let given = variables.into_iter();
    given
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

fn prepare_database(url: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        client
            .batch_execute(
                "drop table if exists bench_item, bench_large;
                 create table bench_item (id bigint primary key, name text not null);
                 insert into bench_item select n, 'item ' || n from generate_series(1, 1000) n;
                 create table bench_large (id int4, part int4, price int8, weight float8, volume float8, name text,
                     note text, made timestamptz, extra jsonb, sold bool);
                 insert into bench_large select n, n % 97, n * 1000, n / 7.0, n * 1.5, 'item number ' || n, null,
                     '2024-01-01 00:00:00+00'::timestamptz + n * '1 second'::interval,
                     jsonb_build_object('color', 'blue', 'size', n % 10), n % 2 = 0
                     from generate_series(1, 10000) n",
            )
            .await?;
        client.batch_execute("vacuum analyze bench_item, bench_large").await?;
        Ok(())
    })
}
