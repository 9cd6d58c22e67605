//! Warm runtimes: events one after the other, or several at a time.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::runtime::{Round, Runtime};
use crate::{Contender, Work};

const ROUNDS: usize = 7;

/// A runtime that was started, and what was measured of it.
struct Measured {
    runtime: Runtime,
    is_hearth: bool,
    rounds: Vec<Round>,
}

/// What comes of all rounds, in microseconds per event.
struct Figures {
    median: f64,
    p99: f64,
    each: f64,
    cpu: f64,
}

/// Has all runtimes do all works, and prints how they compare.
pub fn compare(
    works: &[Work],
    contenders: Vec<Contender>,
    task_root: &Path,
    concurrency: usize,
) -> Result<()> {
    let start = |mut contender: Contender| {
        let command = &mut contender.command;
        anyhow::Ok(Measured {
            runtime: Runtime::start(contender.name, command, task_root, concurrency)?,
            is_hearth: contender.is_hearth,
            rounds: Vec::new(),
        })
    };
    let mut all = contenders
        .into_iter()
        .map(start)
        .collect::<Result<Vec<_>>>()?;
    println!();
    for Measured { runtime, .. } in &all {
        println!(
            "{:26} asked for its first {concurrency} events {:6.1} ms after its start",
            runtime.name,
            runtime.started.as_secs_f64() * 1e3
        );
    }
    works.iter().try_for_each(|work| measure(&mut all, work))
}

fn measure(all: &mut [Measured], work: &Work) -> Result<()> {
    // For connections, caches and plans; and to see that all do the same.
    let mut answers = Vec::new();
    for measured in all.iter_mut() {
        measured.rounds.clear();
        let warming = work.events.div_ceil(4);
        answers.push(measured.runtime.round(&work.event, warming)?.answer);
    }
    if answers.iter().any(|answer| *answer != answers[0]) {
        let answers = answers.iter().map(|answer| String::from_utf8_lossy(answer));
        bail!(
            "{}: the answers differ: {:?}",
            work.name,
            answers.collect::<Vec<_>>()
        );
    }
    for number in 0..ROUNDS {
        // Who goes first changes too.
        for turn in 0..all.len() {
            let measured = &mut all[(number + turn) % answers.len()];
            let round = measured.runtime.round(&work.event, work.events)?;
            measured.rounds.push(round);
        }
    }
    println!(
        "\n{}: {ROUNDS} rounds of {} events each, medians over the rounds",
        work.name, work.events
    );
    for measured in all.iter() {
        let Figures {
            median,
            p99,
            each,
            cpu,
        } = measured.figures();
        println!(
            "{:26} median {median:9.1} us   p99 {p99:9.1} us   {:7.0} events/s   CPU {cpu:8.1} us/event",
            measured.runtime.name,
            1e6 / each
        );
    }
    for hearth in all.iter().filter(|measured| measured.is_hearth) {
        for peer in all.iter().filter(|measured| !measured.is_hearth) {
            let (own, other) = (hearth.figures(), peer.figures());
            println!(
                "{} / {:20} median {:.2}   p99 {:.2}   throughput {:.2}   CPU {:.2}",
                hearth.runtime.name,
                peer.runtime.name,
                own.median / other.median,
                own.p99 / other.p99,
                other.each / own.each,
                own.cpu / other.cpu
            );
        }
    }
    Ok(())
}

impl Measured {
    /// The medians over all rounds.
    fn figures(&self) -> Figures {
        let middle = |value: fn(&Round) -> Duration| {
            let mut values: Vec<Duration> = self.rounds.iter().map(value).collect();
            values.sort();
            values[values.len() / 2].as_secs_f64() * 1e6
        };
        Figures {
            median: middle(|round| round.median),
            p99: middle(|round| round.p99),
            each: middle(|round| round.each),
            cpu: middle(|round| round.cpu),
        }
    }
}
