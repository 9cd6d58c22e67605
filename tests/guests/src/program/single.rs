//! The steps that are one call, and where they are done.

use std::time::Duration;

use hearth::postgres::{Client, CopyIn, CopyOut, Error, RowStream, Session, Transaction};

use super::kept::{self, Kept};
use super::{Flow, Step, crash};

/// Writes one row.
const WRITE: &str = "insert into written values ($1)";

/// What calls are made on.
pub enum On<'a, 'b> {
    Client(Client),
    Transaction(&'a mut Transaction<'b>),
    Session(&'a mut Session),
}

/// The three have no trait in common.
macro_rules! on {
    ($on:expr, $it:ident => $call:expr) => {
        match $on {
            On::Client($it) => $call,
            On::Transaction($it) => $call,
            On::Session($it) => $call,
        }
    };
}

impl On<'_, '_> {
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        on!(self, it => it.set_timeout(timeout));
    }

    pub async fn batch(&self, sql: &str) -> Result<(), Error> {
        on!(self, it => it.batch_execute(sql).await)
    }

    pub async fn write(&self, key: i64) -> Result<(), Error> {
        on!(self, it => it.execute(WRITE, &[&key]).await).map(|_| ())
    }

    pub async fn write_all(&self, keys: &[i64]) -> Result<(), Error> {
        on!(self, it => {
            let mut calls = it.pipeline();
            for key in keys {
                calls.add(WRITE, &[key]);
            }
            calls.run().await.map(|_| ())
        })
    }

    /// Does a step that is no more than one call.
    pub async fn single(&self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Query { sql, rows } => {
                let none = Vec::<i32>::new();
                let stream = on!(self, it => it.query_raw(sql, none).await)?;
                read(stream, *rows).await
            }
            Step::Execute { sql } => on!(self, it => it.execute(sql, &[]).await).map(|_| ()),
            Step::Batch { sql } => self.batch(sql).await,
            Step::Prepare { sql } => on!(self, it => it.prepare(sql).await).map(|_| ()),
            Step::Pipeline { sqls } => on!(self, it => {
                let mut calls = it.pipeline();
                for sql in sqls {
                    calls.add(sql, &[]);
                }
                calls.run().await.map(|_| ())
            }),
            Step::CopyIn { sql, pieces, end } => {
                let copy = on!(self, it => it.copy_in(sql).await)?;
                send(copy, *pieces, *end).await
            }
            Step::CopyOut { sql, end } => {
                let copy = on!(self, it => it.copy_out(sql).await)?;
                receive(copy, *end).await
            }
            Step::Sleep { millis } => {
                hearth::sleep(Duration::from_millis(*millis)).await;
                Ok(())
            }
            Step::Block { millis } => {
                std::thread::sleep(Duration::from_millis(*millis));
                Ok(())
            }
            Step::UseKept => kept::use_one().await,
            other => crash::end(other),
        }
    }
}

async fn read(mut rows: RowStream, how_far: Flow) -> Result<(), Error> {
    while rows.try_next().await?.is_some() && how_far == Flow::All {}
    match how_far {
        Flow::All | Flow::Half => drop(rows),
        Flow::Forget => std::mem::forget(rows),
        Flow::Keep => Kept::Rows(rows).keep(),
    }
    Ok(())
}

async fn send(mut copy: CopyIn, pieces: u32, end: Flow) -> Result<(), Error> {
    for _ in 0..pieces {
        copy.write("1\n".repeat(10_000)).await?;
    }
    match end {
        Flow::All => return copy.finish().await.map(|_| ()),
        Flow::Half => drop(copy),
        Flow::Forget => std::mem::forget(copy),
        Flow::Keep => Kept::CopyIn(copy).keep(),
    }
    Ok(())
}

async fn receive(mut copy: CopyOut, how_far: Flow) -> Result<(), Error> {
    while copy.try_next().await?.is_some() && how_far == Flow::All {}
    match how_far {
        Flow::All | Flow::Half => drop(copy),
        Flow::Forget => std::mem::forget(copy),
        Flow::Keep => Kept::CopyOut(copy).keep(),
    }
    Ok(())
}
