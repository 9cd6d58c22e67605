//! A password that a program prints.
//!
//! Promises:
//! - the program runs once for all who wait for its output, and to its end even if nobody waits any more: a password
//!   that comes too late for one of them is there for the next;
//! - what it printed is kept until a server refuses it. Whoever is refused while the program runs again takes what that
//!   run prints;
//! - it is bounded in time and output, and nothing of its output is in an error.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::{timeout, timeout_at};

use super::failure::Failure;
use super::secret::{Password, checked};
use super::single_flight::SingleFlight;
use crate::limits;
use crate::lock::lock;

/// The program, and what it printed last.
pub(super) struct PasswordCommand {
    words: Arc<[String]>,
    printed: Arc<Mutex<Option<Password>>>,
    running: SingleFlight<Result<Password, String>>,
}

impl PasswordCommand {
    /// A program and its arguments, which has printed nothing yet.
    pub(super) fn new(words: Vec<String>) -> Self {
        Self {
            words: words.into(),
            printed: Arc::default(),
            // One that has taken longer has stood still with the process, and what it talked to has not.
            running: SingleFlight::new(limits::PASSWORD_COMMAND_TIMEOUT),
        }
    }

    /// What it has printed, or prints now.
    pub(super) async fn password(&self, until: Instant) -> Result<Password, Failure> {
        let printed = lock(&self.printed).clone();
        match printed {
            Some(printed) => Ok(printed),
            None => self.run(until).await,
        }
    }

    /// A password to try after a server has refused one: what the program has printed since, or prints now.
    pub(super) async fn password_after(
        &self,
        refused: Option<&Password>,
        until: Instant,
    ) -> Result<Password, Failure> {
        lock(&self.printed).take_if(|printed| Some(&*printed) == refused);
        self.password(until).await
    }

    async fn run(&self, until: Instant) -> Result<Password, Failure> {
        let begin = Instant::now();
        let running = self.running.join(|| {
            let (words, kept) = (self.words.clone(), self.printed.clone());
            async move {
                let printed = run(&words).await;
                printed.inspect(|printed| *lock(&kept) = Some(printed.clone()))
            }
        });
        let printed = timeout_at(until.into(), running).await.ok().flatten();
        printed
            .unwrap_or_else(|| Err(late(&self.words, begin.elapsed())))
            .map_err(Failure::Secret)
    }
}

async fn run(words: &[String]) -> Result<Password, String> {
    let Some((program, arguments)) = words.split_first() else {
        return Err("the password command names no program".to_owned());
    };
    let what = named(words);
    let failed = |how: &dyn std::fmt::Display| format!("{what} {how}");
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // What a program says of its failure may repeat what it was given.
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(&format_args!("cannot be started: {error}")))?;
    let stdout = child.stdout.take();
    let work = async {
        let mut bytes = Vec::new();
        if let Some(stdout) = stdout {
            let mut limited = stdout.take(limits::PASSWORD_BYTES_MAX as u64 + 1);
            limited.read_to_end(&mut bytes).await?;
        }
        // One that prints on and on is ended by the closed pipe, or by the time.
        Ok::<_, std::io::Error>((bytes, child.wait().await?))
    };
    match timeout(limits::PASSWORD_COMMAND_TIMEOUT, work).await {
        Ok(Ok((bytes, status))) if status.success() || bytes.len() > limits::PASSWORD_BYTES_MAX => {
            checked(bytes, &what).map_err(|failure| failure.to_string())
        }
        Ok(Ok((_, status))) => Err(failed(&format_args!(
            "failed ({status}); run it by hand to see why"
        ))),
        Ok(Err(error)) => Err(failed(&format_args!("cannot be read from: {error}"))),
        Err(_) => Err(late(words, limits::PASSWORD_COMMAND_TIMEOUT)),
    }
}

fn named(words: &[String]) -> String {
    format!(
        "the password command {:?}",
        words.first().map_or("", String::as_str)
    )
}

fn late(words: &[String], after: Duration) -> String {
    let seconds = after.as_secs_f64();
    format!("{} had not ended after {seconds:.1} s", named(words))
}
