//! A program of a random test: what it may do, and how it is done.
//!
//! What it knows of the rows it has written goes to its output, line by line, so that it counts also
//! if the function does not live to answer: `key 7 done`, `key 7 not` or `key 7 maybe`.

#![expect(missing_docs, reason = "a step is named as what it does")]

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::{Either, FutureExt, join_all, select};
use hearth::postgres::{Client, Error, Transaction};
use serde::Deserialize;

pub mod crash;
pub mod kept;
mod single;

use kept::Kept;
use single::On;

/// One thing to do.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Step {
    /// A statement, whose rows are read as far as `rows` says.
    Query { sql: String, rows: Flow },
    /// A statement.
    Execute { sql: String },
    /// Statements in one text.
    Batch { sql: String },
    /// Asks what the server says of a statement.
    Prepare { sql: String },
    /// Statements in one round trip.
    Pipeline { sqls: Vec<String> },
    /// A `COPY` into a table, of so many pieces.
    CopyIn { sql: String, pieces: u32, end: Flow },
    /// A `COPY` out of a table.
    CopyOut { sql: String, end: Flow },
    /// Writes a row with this key.
    Write { key: i64 },
    /// Writes rows with these keys in one round trip.
    WriteAll { keys: Vec<i64> },
    /// A transaction, or one within a transaction.
    Transaction { steps: Vec<Step>, end: End },
    /// A transaction that is done again if others are in its way.
    Transact { steps: Vec<Step> },
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
    /// Not at all: its handle stays in the instance, where nobody finds it.
    Forget,
    /// Not at all: its handle can still be used.
    Keep,
}

/// What is known of the rows that were written at one place.
#[derive(Default)]
struct Written {
    /// Those whose statement succeeded in a transaction that is open.
    open: Vec<i64>,
    /// Whether they are in a transaction.
    pending: bool,
}

impl Written {
    /// Tells what became of keys.
    fn tell(keys: &[i64], what: &str) {
        keys.iter().for_each(|key| println!("key {key} {what}"));
    }

    /// Takes note of a statement that writes these keys.
    fn note<T>(&mut self, keys: &[i64], result: &Result<T, Error>, doubtful: bool) {
        match result {
            Ok(_) if self.pending => self.open.extend(keys),
            Ok(_) if doubtful => Self::tell(keys, "maybe"),
            Ok(_) => Self::tell(keys, "done"),
            Err(error) if error.may_have_executed() => Self::tell(keys, "maybe"),
            Err(_) => Self::tell(keys, "not"),
        }
    }

    /// Tells what became of keys by a commit.
    fn concluded(keys: &[i64], commit: &Result<(), Error>) {
        let what = match commit {
            Ok(()) => "done",
            Err(error) if error.may_have_executed() => "maybe",
            Err(_) => "not",
        };
        Self::tell(keys, what);
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
            Step::Write { key } => {
                let result = self.on.write(*key).await;
                self.written.note(&[*key], &result, self.doubtful.get());
                result
            }
            Step::WriteAll { keys } => {
                let result = self.on.write_all(keys).await;
                self.written.note(keys, &result, self.doubtful.get());
                result
            }
            Step::Transaction { steps, end } => self.transaction(steps, *end).await,
            Step::Transact { steps } => self.transact(steps).await,
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
                    hearth::wait_until(async move { run(&client, &steps).await });
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

    /// A transaction on whatever this is.
    async fn transaction(&mut self, steps: &[Step], end: End) -> Result<(), Error> {
        match &mut self.on {
            On::Client(client) => {
                let mut transaction = client.transaction().await?;
                let open = within(&mut transaction, steps, self.doubtful).await;
                if end == End::Keep {
                    Written::tell(&open, "not");
                    Kept::Transaction(transaction).keep();
                    return Ok(());
                }
                conclude(transaction, &open, end).await
            }
            On::Session(session) => {
                let mut transaction = session.transaction().await?;
                let open = within(&mut transaction, steps, self.doubtful).await;
                // Forgotten, it is still there, and the session's own calls are part of it.
                let left = matches!(end, End::Forget | End::Keep);
                self.doubtful.set(self.doubtful.get() || left);
                conclude(transaction, &open, end).await
            }
            On::Transaction(outer) => {
                let mut transaction = outer.transaction().await?;
                let open = within(&mut transaction, steps, self.doubtful).await;
                let ended = finish(transaction, end).await;
                match (end, &ended) {
                    // Nobody goes back to the savepoint, so it is part of what is around it.
                    (End::Forget | End::Keep, _) | (End::Commit, Ok(())) => {
                        self.written.open.extend(open);
                    }
                    _ => Written::tell(&open, "not"),
                }
                ended
            }
        }
    }

    async fn transact(&mut self, steps: &[Step]) -> Result<(), Error> {
        let On::Client(client) = &self.on else {
            return Ok(());
        };
        let mut open = Vec::new();
        let result = client
            .transact(async |transaction| {
                open = within(transaction, steps, self.doubtful).await;
                Ok::<_, Error>(())
            })
            .await;
        Written::concluded(&open, &result);
        result
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
        let gives_up = |step: &Step| matches!(step, Step::Hurry { .. } | Step::Once { .. });
        match end {
            // A transaction that has failed by it is rolled back without a word.
            "commit" if steps.iter().any(gives_up) => Written::tell(&open, "maybe"),
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
        let one = async |step: &Step| match step {
            Step::Write { key } => (Some(*key), on.write(*key).await),
            other => (None, on.single(other).await),
        };
        for (key, result) in join_all(steps.iter().map(one)).await {
            if let Some(key) = key {
                self.written.note(&[key], &result, self.doubtful.get());
            }
        }
        Ok(())
    }
}

/// Steps within a transaction; the keys that are written and not committed yet.
async fn within(
    transaction: &mut Transaction<'_>,
    steps: &[Step],
    doubtful: &Cell<bool>,
) -> Vec<i64> {
    let mut place = Place {
        on: On::Transaction(transaction),
        written: Written {
            open: Vec::new(),
            pending: true,
        },
        doubtful,
    };
    let _ = Box::pin(place.run(steps, false)).await;
    place.written.open
}

async fn conclude(transaction: Transaction<'_>, open: &[i64], end: End) -> Result<(), Error> {
    let ended = finish(transaction, end).await;
    match end {
        End::Commit => Written::concluded(open, &ended),
        _ => Written::tell(open, "not"),
    }
    ended
}

async fn finish(transaction: Transaction<'_>, end: End) -> Result<(), Error> {
    match end {
        End::Commit => transaction.commit().await,
        End::Rollback => transaction.rollback().await,
        End::Drop => {
            drop(transaction);
            Ok(())
        }
        End::Forget | End::Keep => {
            std::mem::forget(transaction);
            Ok(())
        }
    }
}
