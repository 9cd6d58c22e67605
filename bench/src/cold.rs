//! Cold runtimes: from a process's start to its first answer.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::runtime::Runtime;
use crate::{Contender, Work};

const STARTS: usize = 31;

/// Starts each runtime many times, in turn, and prints how they compare.
pub fn compare(work: &Work, mut contenders: Vec<Contender>, task_root: &Path) -> Result<()> {
    let mut times: Vec<Vec<Duration>> = contenders.iter().map(|_| Vec::new()).collect();
    let mut expected = None;
    // The first start of each brings its files into memory, and does not count.
    for number in 0..=STARTS {
        for (contender, times) in contenders.iter_mut().zip(&mut times) {
            let command = &mut contender.command;
            let mut runtime = Runtime::start(contender.name, command, task_root, 1)?;
            let answer = runtime.round(&work.event, 1)?.answer;
            if *expected.get_or_insert_with(|| answer.clone()) != answer {
                let answer = String::from_utf8_lossy(&answer);
                bail!("{}: {} answered {answer}", work.name, contender.name);
            }
            if number > 0 {
                times.extend(runtime.answered);
            }
        }
    }
    println!("\n{}: {STARTS} starts each", work.name);
    for (contender, times) in contenders.iter().zip(&mut times) {
        times.sort();
        println!(
            "{:26} median {:6.1} ms   least {:6.1} ms   most {:6.1} ms",
            contender.name,
            milliseconds(median(times)),
            milliseconds(times[0]),
            milliseconds(times[times.len() - 1])
        );
    }
    let all = || contenders.iter().zip(&times);
    for (hearth, own) in all().filter(|(contender, _)| contender.is_hearth) {
        for (peer, other) in all().filter(|(contender, _)| !contender.is_hearth) {
            let ratio = milliseconds(median(own)) / milliseconds(median(other));
            println!("{} / {:20} median {ratio:.2}", hearth.name, peer.name);
        }
    }
    Ok(())
}

fn median(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() / 2]
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
