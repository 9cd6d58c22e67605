//! Hearth beside a native Rust function, doing the same work behind the same Runtime API.
//!
//! For each runtime, a process is started and handed events. Timed is what a caller of Lambda would
//! wait for: from handing an event out to having received the answer. The runtimes take turns, round
//! by round, so that whatever else the machine does falls on all of them. Compare within one run
//! only; what is printed last of each work are ratios.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

mod runtime;

use runtime::{Round, Runtime};

const ROUNDS: usize = 7;

/// All columns of all 10,000 rows.
const ALL: &str =
    "select id, part, price, weight, volume, name, note, made, extra, sold from bench_large";

/// Events at a time where many are. The pool has 8 connections, on both sides.
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

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [bootstrap, task_root, native, names @ ..] = arguments.as_slice() else {
        bail!(
            "usage: hearth-bench BOOTSTRAP TASK_ROOT NATIVE [WORK…], with DATABASE_URL set; see scripts/bench"
        );
    };
    let is_wanted = |name: &str| {
        let mut names = names.iter().map(|name| name.to_string_lossy());
        names.len() == 0 || names.any(|wanted| name.contains(&*wanted))
    };
    prepare_database()?;
    let hearth = |function: &str| {
        let mut command = Command::new(bootstrap);
        command.env("_HANDLER", function);
        command
    };
    let native = |argument: Option<&str>| {
        let mut command = Command::new(native);
        command.args(argument);
        command
    };
    let one_at_a_time = [
        Work::new("echo", r#"{"message":"hello","numbers":[1,2,3]}"#, 2_000),
        Work::new("one-row query", r#"{"row":42}"#, 2_000),
        Work::new(
            "10,000 rows, collected",
            format!(r#"{{"collect":"{ALL}"}}"#),
            50,
        ),
        Work::new(
            "10,000 rows, streamed",
            format!(r#"{{"stream":"{ALL}"}}"#),
            50,
        ),
    ];
    let many_at_a_time = [Work::new(
        "5 ms statement, 200 invocations at a time, 8 connections",
        r#"{"sleep":0.005}"#,
        2_000,
    )];
    compare(
        &one_at_a_time,
        is_wanted,
        vec![
            ("native", native(None)),
            ("native, one thread", native(Some("one-thread"))),
            ("hearth", hearth("bench")),
        ],
        task_root,
        1,
    )?;
    compare(
        &many_at_a_time,
        is_wanted,
        vec![
            ("native", native(None)),
            ("native, one thread", native(Some("one-thread"))),
            ("hearth, an instance each", hearth("bench")),
            ("hearth, one for all", hearth("shared")),
        ],
        task_root,
        MANY,
    )
}

/// Has all runtimes do all works, and prints how they compare.
fn compare(
    works: &[Work],
    is_wanted: impl Fn(&str) -> bool,
    commands: Vec<(&'static str, Command)>,
    task_root: &Path,
    concurrency: usize,
) -> Result<()> {
    if !works.iter().any(|work| is_wanted(work.name)) {
        return Ok(());
    }
    let start = |(name, mut command): (&'static str, Command)| {
        Runtime::start(name, &mut command, task_root, concurrency)
    };
    let mut runtimes = commands
        .into_iter()
        .map(start)
        .collect::<Result<Vec<_>>>()?;
    println!();
    for runtime in &runtimes {
        println!(
            "{:26} asked for its first {concurrency} events {:6.1} ms after its start",
            runtime.name,
            runtime.started.as_secs_f64() * 1e3
        );
    }
    for work in works.iter().filter(|work| is_wanted(work.name)) {
        measure(&mut runtimes, work)?;
    }
    Ok(())
}

fn measure(runtimes: &mut [Runtime], work: &Work) -> Result<()> {
    // For connections, caches and plans; and to see that all do the same.
    let mut answers = Vec::new();
    for runtime in runtimes.iter_mut() {
        answers.push(runtime.round(&work.event, work.events.div_ceil(4))?.answer);
    }
    if answers.iter().any(|answer| *answer != answers[0]) {
        let answers = answers.iter().map(|answer| String::from_utf8_lossy(answer));
        bail!(
            "{}: the answers differ: {:?}",
            work.name,
            answers.collect::<Vec<_>>()
        );
    }
    let mut rounds: Vec<Vec<Round>> = runtimes.iter().map(|_| Vec::new()).collect();
    for number in 0..ROUNDS {
        // Who goes first changes too.
        for turn in 0..runtimes.len() {
            let index = (number + turn) % runtimes.len();
            rounds[index].push(runtimes[index].round(&work.event, work.events)?);
        }
    }
    println!(
        "\n{}: {ROUNDS} rounds of {} events each, medians over the rounds",
        work.name, work.events
    );
    let figures: Vec<[f64; 4]> = rounds.iter().map(|rounds| figures(rounds)).collect();
    for (runtime, [median, p99, each, cpu]) in runtimes.iter().zip(&figures) {
        println!(
            "{:26} median {median:9.1} us   p99 {p99:9.1} us   {:7.0} events/s   CPU {cpu:8.1} us/event",
            runtime.name,
            1e6 / each
        );
    }
    let is_native = |runtime: &&Runtime| runtime.name.starts_with("native");
    let natives = runtimes.iter().filter(is_native).count();
    for (runtime, hearth) in runtimes.iter().zip(&figures).skip(natives) {
        for (native, figures) in runtimes.iter().zip(&figures).take(natives) {
            let [median, p99, each, cpu] =
                [0, 1, 2, 3].map(|figure| hearth[figure] / figures[figure]);
            println!(
                "{} / {:20} median {median:.2}   p99 {p99:.2}   throughput {:.2}   CPU {cpu:.2}",
                runtime.name,
                native.name,
                1.0 / each
            );
        }
    }
    Ok(())
}

/// The medians over all rounds, in microseconds: median, 99th percentile, time and CPU per event.
fn figures(rounds: &[Round]) -> [f64; 4] {
    let middle = |value: fn(&Round) -> Duration| {
        let mut values: Vec<Duration> = rounds.iter().map(value).collect();
        values.sort();
        values[values.len() / 2].as_secs_f64() * 1e6
    };
    [
        middle(|round| round.median),
        middle(|round| round.p99),
        middle(|round| round.each),
        middle(|round| round.cpu),
    ]
}

fn prepare_database() -> Result<()> {
    let url = std::env::var("DATABASE_URL").context("DATABASE_URL is not set")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
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
