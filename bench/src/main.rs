//! Hearth beside a native Rust function, doing the same work behind the same Runtime API.
//!
//! For each runtime, a process is started and handed events one after another. Timed is what a
//! caller of Lambda would wait for: from handing the event out to having received the answer. The
//! runtimes take turns, round by round, so that whatever else the machine does falls on both.
//! Compare within one run only; what is printed last are ratios.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

mod runtime;

use runtime::{Round, Runtime};

/// Events per runtime and round. A round is short against the machine's own swings.
const EVENTS: usize = 2_000;
const ROUNDS: usize = 7;
/// Events before the first round, for connections, caches and plans.
const WARM_UP: usize = 500;

const WORK: [(&str, &str); 2] = [
    ("echo", r#"{"message":"hello","numbers":[1,2,3]}"#),
    ("one-row query", r#"{"id":42}"#),
];

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [bootstrap, task_root, native] = arguments.as_slice() else {
        bail!(
            "usage: hearth-bench BOOTSTRAP TASK_ROOT NATIVE, with DATABASE_URL set; see scripts/bench"
        );
    };
    prepare_database()?;
    let mut runtimes = [
        Runtime::start("native", &mut Command::new(native), task_root)?,
        Runtime::start(
            "native, one thread",
            Command::new(native).arg("one-thread"),
            task_root,
        )?,
        Runtime::start("hearth", &mut Command::new(bootstrap), task_root)?,
    ];
    for runtime in &runtimes {
        println!(
            "{:20} first event asked for {:6.1} ms after its start",
            runtime.name,
            runtime.started.as_secs_f64() * 1e3
        );
    }
    for (work, event) in WORK {
        compare(&mut runtimes, work, event)?;
    }
    for runtime in &mut runtimes {
        runtime.child.kill()?;
        runtime.child.wait()?;
    }
    Ok(())
}

fn compare(runtimes: &mut [Runtime; 3], work: &str, event: &str) -> Result<()> {
    for runtime in runtimes.iter_mut() {
        runtime.round(event, WARM_UP)?;
    }
    let mut rounds: [Vec<Round>; 3] = Default::default();
    for number in 0..ROUNDS {
        // Who goes first changes too.
        for turn in 0..runtimes.len() {
            let index = (number + turn) % runtimes.len();
            rounds[index].push(runtimes[index].round(event, EVENTS)?);
        }
    }
    println!("\n{work}: {ROUNDS} rounds of {EVENTS} events each, medians over the rounds");
    let figures = rounds.each_ref().map(|rounds| figures(rounds));
    for (runtime, [median, p99, cpu]) in runtimes.iter().zip(&figures) {
        println!(
            "{:20} median {median:7.1} us   p99 {p99:7.1} us   CPU {cpu:6.1} us/event",
            runtime.name
        );
    }
    let [natives @ .., hearth] = &figures;
    for (runtime, native) in runtimes.iter().zip(natives) {
        let [median, p99, cpu] = [0, 1, 2].map(|figure| hearth[figure] / native[figure]);
        println!(
            "hearth / {:20} median {median:.2}   p99 {p99:.2}   CPU {cpu:.2}",
            runtime.name
        );
    }
    Ok(())
}

/// The medians over all rounds, in microseconds: median, 99th percentile, CPU per event.
fn figures(rounds: &[Round]) -> [f64; 3] {
    let middle = |value: fn(&Round) -> Duration| {
        let mut values: Vec<Duration> = rounds.iter().map(value).collect();
        values.sort();
        values[values.len() / 2].as_secs_f64() * 1e6
    };
    [
        middle(|round| round.median),
        middle(|round| round.p99),
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
                "drop table if exists bench_item;
                 create table bench_item (id bigint primary key, name text not null);
                 insert into bench_item select n, 'item ' || n from generate_series(1, 1000) n;
                 analyze bench_item",
            )
            .await?;
        Ok(())
    })
}
