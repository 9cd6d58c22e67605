//! Reads a result as it arrives, and stops where and how it is told.

use hearth::Context;
use hearth::postgres::{Client, CopyOut, Error, RowStream};
use serde::Deserialize;
use serde_json::{Value, json};
use test_guests::describe;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    /// The SQL: a query whose first column, if it is an `int4`, counts from 1, or a `COPY`.
    sql: String,
    #[serde(default)]
    within: Within,
    /// A query of which the first row is read, and the others are dropped right before.
    dropped: Option<String>,
    /// What happens between the query and the reading of its rows, on a connection that is held.
    meanwhile: Option<Meanwhile>,
    /// Whether it is a `COPY`.
    #[serde(default)]
    copy: bool,
    /// After how many rows, or pieces of a `COPY`, no more are read; all are without it.
    stop_after: Option<u64>,
    #[serde(default)]
    then: Then,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Within {
    #[default]
    Database,
    Transaction,
    Session,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Meanwhile {
    /// The query's transaction is committed, and another one begins.
    NextTransaction,
    /// The same behind another call, for which the rows on their way were read.
    CallAndNextTransaction,
    /// A savepoint that was set before the query is gone back to.
    BackBeforeIt,
    /// A savepoint that was set after it is gone back to, in which a statement has failed.
    BackBehindIt,
    /// Another query is made, of which the first row is read, and the others are dropped.
    Another,
}

/// What becomes of the rows that are not read.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Then {
    #[default]
    Drop,
    /// The handle stays for as long as the instance.
    Forget,
    Trap,
}

enum Source {
    Rows(RowStream),
    Copy(CopyOut),
}

/// What was read.
#[derive(Default)]
struct Read {
    rows: u64,
    bytes: usize,
    error: Option<Error>,
}

/// A query without arguments.
const NONE: [i32; 0] = [];
const PID: &str = "select pg_backend_pid()";

#[hearth::function]
async fn handle(event: Event, _: Context) -> Result<Value, hearth::Error> {
    let db = hearth::postgres::default()?;
    if let Some(meanwhile) = event.meanwhile {
        return read_after(&db, &event, meanwhile).await;
    }
    macro_rules! on {
        ($place:expr) => {{
            let place = $place;
            if let Some(dropped) = &event.dropped {
                place.query_raw(dropped, NONE).await?.try_next().await?;
            }
            let source = match event.copy {
                true => place.copy_out(&event.sql).await.map(Source::Copy),
                false => place
                    .query_raw(&event.sql, NONE)
                    .await
                    .map(Source::Rows),
            };
            let read = match source {
                Ok(source) => read(source, &event).await?,
                Err(error) => json!({ "error": describe(error) }),
            };
            // On the same connection, if it is the place's own.
            let after: Result<i32, Error> = place.query_one_scalar(PID, &[]).await;
            json!({ "read": read, "after": after.map_or_else(describe, |pid| json!(pid)) })
        }};
    }
    Ok(match event.within {
        Within::Database => on!(db),
        Within::Transaction => on!(db.transaction().await?),
        Within::Session => on!(db.session().await?),
    })
}

async fn read_after(
    db: &Client,
    event: &Event,
    meanwhile: Meanwhile,
) -> Result<Value, hearth::Error> {
    let mut session = db.session().await?;
    let mut tx = session.transaction().await?;
    let rows = match meanwhile {
        Meanwhile::NextTransaction | Meanwhile::CallAndNextTransaction => {
            let rows = tx.query_raw(&event.sql, NONE).await?;
            if let Meanwhile::CallAndNextTransaction = meanwhile {
                tx.execute("select 1", &[]).await?;
            }
            tx.commit().await?;
            tx = session.transaction().await?;
            tx.execute("select 1", &[]).await?;
            rows
        }
        Meanwhile::BackBeforeIt => {
            let inner = tx.transaction().await?;
            let rows = inner.query_raw(&event.sql, NONE).await?;
            inner.rollback().await?;
            rows
        }
        Meanwhile::BackBehindIt => {
            let rows = tx.query_raw(&event.sql, NONE).await?;
            let inner = tx.transaction().await?;
            let failed = inner.execute("select 1 / 0", &[]).await;
            failed.expect_err("nobody can divide by zero");
            inner.rollback().await?;
            rows
        }
        Meanwhile::Another => {
            let rows = tx.query_raw(&event.sql, NONE).await?;
            let dropped = event.dropped.as_deref().unwrap_or_default();
            tx.query_raw(dropped, NONE).await?.try_next().await?;
            rows
        }
    };
    let read = read(Source::Rows(rows), event).await?;
    let after: Result<i32, Error> = tx.query_one_scalar(PID, &[]).await;
    let end = tx.commit().await.map_or_else(describe, |()| Value::Null);
    Ok(json!({ "read": read, "after": after.map_or_else(describe, |pid| json!(pid)), "end": end }))
}

async fn read(mut source: Source, event: &Event) -> Result<Value, hearth::Error> {
    let columns: Vec<String> = match &source {
        Source::Rows(rows) => rows.columns().iter().map(|c| c.name().to_owned()).collect(),
        Source::Copy(_) => Vec::new(),
    };
    let mut read = Read::default();
    while event.stop_after.is_none_or(|most| read.rows < most) && source.next(&mut read).await? {}
    match event.then {
        Then::Drop => drop(source),
        Then::Forget => std::mem::forget(source),
        Then::Trap => panic!("as it was told"),
    }
    let Read { rows, bytes, error } = read;
    Ok(json!({ "columns": columns, "rows": rows, "bytes": bytes, "error": error.map(describe) }))
}

impl Source {
    /// Reads the next row or piece. False at the end, and after an error.
    async fn next(&mut self, read: &mut Read) -> Result<bool, hearth::Error> {
        let bytes = match self {
            Self::Rows(rows) => match rows.try_next().await {
                Ok(Some(row)) => {
                    if let Ok(number) = row.try_get::<_, i32>(0)
                        && number as u64 != read.rows + 1
                    {
                        return Err(format!("row {number} comes after {}", read.rows).into());
                    }
                    let text = |column| row.try_get(column).map_or(0, str::len);
                    Ok(Some((0..row.len()).map(text).sum()))
                }
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            },
            Self::Copy(copy) => copy.try_next().await.map(|piece| piece.map(|p| p.len())),
        };
        match bytes {
            Ok(Some(bytes)) => {
                read.rows += 1;
                read.bytes += bytes;
                return Ok(true);
            }
            Ok(None) => {}
            Err(error) => read.error = Some(error),
        }
        Ok(false)
    }
}
