//! A program of a random test: what it may do, and how it is done.
//!
//! What it knows of the rows it has written goes to its output, line by line, so that it counts also
//! if the function does not live to answer: `key 7 done`, `key 7 not` or `key 7 maybe`.

#![expect(missing_docs, reason = "a step is named as what it does")]

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::{Either, FutureExt, join_all, select};
use hearth::postgres::{Client, Error};
use serde::Deserialize;

pub mod crash;
pub mod kept;
mod on;
mod single;
mod transaction;
mod written;

use kept::Kept;
use on::{Behind, On, Way};
use transaction::Options;
use written::Written;

/// One thing to do.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Step {
    /// A statement, whose rows are read as far as `rows` says.
    Query { sql: String, rows: Flow },
    /// A statement with an argument. Its type is the server's choice, or `named`.
    Asked {
        sql: String,
        value: i32,
        named: bool,
        rows: Flow,
    },
    /// A statement of which one row is read.
    One { sql: String },
    /// A statement.
    Execute { sql: String },
    /// Statements in one text.
    Batch { sql: String },
    /// Asks what the server says of a statement, and keeps that.
    Prepare { sql: String },
    /// Executes the statement that was prepared last, in whichever invocation.
    UsePrepared,
    /// Statements in one round trip.
    Pipeline { sqls: Vec<String> },
    /// A `COPY` into a table, of so many pieces.
    CopyIn { sql: String, pieces: u32, end: Flow },
    /// A `COPY` out of a table.
    CopyOut { sql: String, end: Flow },
    /// Another step between the first and the last piece of rows or data on their way.
    During { begin: Box<Step>, step: Box<Step> },
    /// Writes a row with this key.
    Write {
        key: i64,
        #[serde(default)]
        way: Way,
    },
    /// Writes rows with these keys in one round trip.
    WriteAll {
        keys: Vec<i64>,
        #[serde(default)]
        behind: Behind,
    },
    /// Sends a row with this key, and not the end of what would write it.
    BeginToWrite { key: i64, forget: bool },
    /// A transaction, or one within a transaction.
    Transaction {
        steps: Vec<Step>,
        end: End,
        #[serde(default)]
        options: Options,
    },
    /// A transaction that is done again if others are in its way.
    Transact {
        steps: Vec<Step>,
        #[serde(default)]
        options: Options,
    },
    /// Listens to a channel.
    Listen { channel: String },
    /// Waits for a notification.
    Notification,
    /// Opens a database by its name, once more.
    Open { name: String },
    /// A connection that is held.
    Session { steps: Vec<Step>, end: End },
    /// A transaction by SQL text; whatever fails in it leaves it open. `end` is text, or nothing.
    Text { steps: Vec<Step>, end: String },
    /// Steps at the same time.
    Join { steps: Vec<Step> },
    /// A step that is dropped after a while.
    Hurry { millis: u64, step: Box<Step> },
    /// A step that is dropped as soon as it waits for anything.
    Once { step: Box<Step> },
    /// Steps that go on beside the others, and after the answer.
    Spawn { steps: Vec<Step> },
    /// Steps whose calls have so much time.
    Timeout { millis: u64, steps: Vec<Step> },
    /// Waits.
    Sleep { millis: u64 },
    /// Keeps everything in the instance from running.
    Block { millis: u64 },
    /// Uses what was kept of a call, a transaction or a session.
    UseKept,
    /// Panics.
    Panic,
    /// Traps.
    Trap,
    /// Computes for ever.
    Spin,
    /// Uses up its stack.
    Recurse,
    /// Uses up its memory.
    Grow,
    /// Exits.
    Exit,
}

/// What becomes of rows or data on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flow {
    /// They go to their end.
    All,
    /// They are dropped half-way.
    Half,
    /// They are forgotten half-way.
    Forget,
    /// They are kept half-way, beyond the invocation.
    Keep,
}

/// How a transaction or a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// By `commit`.
    Commit,
    /// By `rollback`.
    Rollback,
    /// By dropping its handle.
    Drop,
    /// By `close`; a transaction by dropping its handle.
    Close,
    /// Not at all: its handle stays in the instance, where nobody finds it.
    Forget,
    /// Not at all: its handle can still be used.
    Keep,
}

impl Step {
    /// Whether it may fail a transaction without an error that anybody is told of.
    fn gives_up(&self) -> bool {
        match self {
            Step::Hurry { .. } | Step::Once { .. } | Step::BeginToWrite { .. } => true,
            Step::CopyIn { end, .. } | Step::CopyOut { end, .. } => *end != Flow::All,
            Step::Query { rows, .. } | Step::Asked { rows, .. } => *rows != Flow::All,
            Step::During { begin, step } => begin.gives_up() || step.gives_up(),
            Step::Join { steps } | Step::Timeout { steps, .. } => steps.iter().any(Step::gives_up),
            _ => false,
        }
    }
}

/// Where steps are done.
pub struct Place<'a, 'b> {
    on: On<'a, 'b>,
    written: Written,
    /// Whether an earlier step may have left a transaction open here.
    doubtful: &'a Cell<bool>,
}

/// Runs a program on a database. A step that fails does not keep the others from running.
pub async fn run(client: &Client, steps: &[Step]) {
    let doubtful = Cell::new(false);
    let mut place = Place {
        on: On::Client(client.clone()),
        written: Written::default(),
        doubtful: &doubtful,
    };
    let _ = place.run(steps, false).await;
}

impl Place<'_, '_> {
    /// Does steps in turn; `strict` if the first failure is the end of them.
    async fn run(&mut self, steps: &[Step], strict: bool) -> Result<(), Error> {
        for step in steps {
            let result = Box::pin(self.step(step)).await;
            if strict {
                result?;
            }
        }
        Ok(())
    }

    async fn step(&mut self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Write { .. } | Step::WriteAll { .. } | Step::BeginToWrite { .. } => {
                let (keys, result) = self.on.try_to_write(step).await;
                self.written.note(&keys, &result, self.doubtful.get());
                result
            }
            Step::During { begin, step } => {
                let (held, flow) = self.on.begin(begin).await?;
                let result = Box::pin(self.step(step)).await;
                held.go_on(flow).await.and(result)
            }
            Step::Transaction {
                steps,
                end,
                options,
            } => self.transaction(steps, *end, options).await,
            Step::Transact { steps, options } => self.transact(steps, options).await,
            Step::Session { steps, end } => self.session(steps, *end).await,
            Step::Text { steps, end } => self.text(steps, end).await,
            Step::Join { steps } => self.join(steps).await,
            Step::Hurry { millis, step } => {
                let late = Box::pin(hearth::sleep(Duration::from_millis(*millis)));
                match select(Box::pin(self.step(step)), late).await {
                    Either::Left((result, _)) => result,
                    Either::Right(_) => Ok(()),
                }
            }
            Step::Once { step } => {
                let step = Box::pin(self.step(step));
                step.now_or_never().unwrap_or(Ok(()))
            }
            Step::Spawn { steps } => {
                if let On::Client(client) = &self.on {
                    let (client, steps) = (client.clone(), steps.clone());
                    let invocation = kept::current();
                    let work = async move { run(&client, &steps).await };
                    hearth::wait_until(kept::within(invocation, work));
                }
                Ok(())
            }
            Step::Timeout { millis, steps } => {
                self.on.set_timeout(Some(Duration::from_millis(*millis)));
                let result = Box::pin(self.run(steps, false)).await;
                self.on.set_timeout(None);
                result
            }
            other => self.on.single(other).await,
        }
    }

    async fn session(&mut self, steps: &[Step], end: End) -> Result<(), Error> {
        let On::Client(client) = &self.on else {
            return Ok(());
        };
        let mut session = client.session().await?;
        let doubtful = Cell::new(false);
        let mut place = Place {
            on: On::Session(&mut session),
            written: Written::default(),
            doubtful: &doubtful,
        };
        Box::pin(place.run(steps, false)).await?;
        match end {
            End::Forget => std::mem::forget(session),
            End::Keep => Kept::Session(session).keep(),
            End::Close => return session.close().await,
            _ => drop(session),
        }
        Ok(())
    }

    /// As a careful function does it: it stops at the first error, and then commits nothing.
    async fn text(&mut self, steps: &[Step], end: &str) -> Result<(), Error> {
        if matches!(self.on, On::Transaction(_)) {
            return Ok(());
        }
        self.on.batch("begin").await?;
        self.doubtful.set(true);
        self.written.pending = true;
        let done = Box::pin(self.run(steps, true)).await;
        self.written.pending = false;
        let open = std::mem::take(&mut self.written.open);
        if done.is_err() || end.is_empty() {
            Written::tell(&open, "not");
            return done;
        }
        let ended = self.on.batch(end).await;
        match end {
            // A transaction that has failed by it is rolled back without a word.
            "commit" if steps.iter().any(Step::gives_up) => Written::tell(&open, "maybe"),
            "commit" => Written::concluded(&open, &ended),
            _ => Written::tell(&open, "not"),
        }
        self.doubtful.set(ended.is_err());
        ended
    }

    async fn join(&mut self, steps: &[Step]) -> Result<(), Error> {
        if let On::Client(client) = &self.on {
            let one = async |step: &Step| {
                let mut place = Place {
                    on: On::Client(client.clone()),
                    written: Written {
                        open: Vec::new(),
                        pending: self.written.pending,
                    },
                    doubtful: self.doubtful,
                };
                let result = Box::pin(place.step(step)).await;
                (place.written.open, result)
            };
            let (open, results): (Vec<_>, Vec<_>) =
                join_all(steps.iter().map(one)).await.into_iter().unzip();
            self.written.open.extend(open.into_iter().flatten());
            return results.into_iter().collect();
        }
        let on = &self.on;
        for (keys, result) in join_all(steps.iter().map(|step| on.try_to_write(step))).await {
            self.written.note(&keys, &result, self.doubtful.get());
        }
        Ok(())
    }
}
