//! The steps that are one call.

use std::time::Duration;

use hearth::postgres::Error;
use hearth::postgres::types::{ToSql, Type};

use super::kept::{self, Kept};
use super::on::{On, on};
use super::{Flow, Step, crash};

impl On<'_, '_> {
    /// Does a step that is one call, and says which rows it wrote if it succeeded.
    pub async fn try_to_write(&self, step: &Step) -> (Vec<i64>, Result<(), Error>) {
        match step {
            Step::Write { key, way } => (vec![*key], self.write(*key, *way).await),
            Step::WriteAll { keys, behind } => (keys.clone(), self.write_all(keys, *behind).await),
            Step::BeginToWrite { key, forget } => {
                (Vec::new(), self.begin_to_write(*key, *forget).await)
            }
            other => (Vec::new(), self.single(other).await),
        }
    }

    /// Does a step that is no more than one call.
    pub async fn single(&self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Query { .. }
            | Step::Asked { .. }
            | Step::CopyIn { .. }
            | Step::CopyOut { .. } => {
                let (held, flow) = self.begin(step).await?;
                held.go_on(flow).await
            }
            Step::One { sql } => on!(self, it => it.query_opt(sql, &[]).await).map(|_| ()),
            Step::Execute { sql } => on!(self, it => it.execute(sql, &[]).await).map(|_| ()),
            Step::Batch { sql } => self.batch(sql).await,
            Step::Prepare { sql } => {
                kept::keep_statement(on!(self, it => it.prepare(sql).await)?);
                Ok(())
            }
            Step::UsePrepared => match kept::statement() {
                Some(sql) => on!(self, it => it.execute(&sql, &[]).await).map(|_| ()),
                None => Ok(()),
            },
            Step::Pipeline { sqls } => on!(self, it => {
                let mut calls = it.pipeline();
                for sql in sqls {
                    calls.add(sql, &[]);
                }
                calls.run().await.map(|_| ())
            }),
            Step::Listen { channel } => match self {
                On::Session(session) => session.listen(channel).await,
                _ => Ok(()),
            },
            Step::Notification => match self {
                On::Session(session) => session.notification().await.map(|_| ()),
                _ => Ok(()),
            },
            Step::Open { name } => {
                let other = hearth::postgres::open(name)?;
                other.execute("select 1", &[]).await.map(|_| ())
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

    /// Begins what has more than one piece, and says how far it is to go.
    pub async fn begin(&self, step: &Step) -> Result<(Kept, Flow), Error> {
        match step {
            Step::Query { sql, rows } => {
                let none = Vec::<i32>::new();
                let mut stream = on!(self, it => it.query_raw(sql, none).await)?;
                stream.try_next().await?;
                Ok((Kept::Rows(stream), *rows))
            }
            Step::Asked {
                sql,
                value,
                named,
                rows,
            } => {
                let value: &(dyn ToSql + Sync) = value;
                let stream = on!(self, it => match named {
                    true => it.query_typed_raw(sql, [(value, Type::INT4)]).await,
                    false => it.query_raw(sql, [value]).await,
                })?;
                Ok((Kept::Rows(stream), *rows))
            }
            Step::CopyIn { sql, pieces, end } => {
                let mut copy = on!(self, it => it.copy_in(sql).await)?;
                for _ in 0..*pieces {
                    copy.write("1\n".repeat(10_000)).await?;
                }
                Ok((Kept::CopyIn(copy), *end))
            }
            Step::CopyOut { sql, end } => {
                let mut copy = on!(self, it => it.copy_out(sql).await)?;
                copy.try_next().await?;
                Ok((Kept::CopyOut(copy), *end))
            }
            other => crash::end(other),
        }
    }
}

impl Kept {
    /// Goes on with what was begun, as far as this.
    pub async fn go_on(self, how_far: Flow) -> Result<(), Error> {
        match (how_far, self) {
            (Flow::All, Self::Rows(mut rows)) => while rows.try_next().await?.is_some() {},
            (Flow::All, Self::CopyOut(mut copy)) => while copy.try_next().await?.is_some() {},
            (Flow::All, Self::CopyIn(copy)) => return copy.finish().await.map(|_| ()),
            (Flow::Forget, held) => std::mem::forget(held),
            (Flow::Keep, held) => held.keep(),
            (Flow::All | Flow::Half, held) => drop(held),
        }
        Ok(())
    }
}
