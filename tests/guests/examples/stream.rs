//! Reads a result as it arrives, and stops where and how it is told.

use hearth::Context;
use hearth::postgres::{CopyOut, Error, RowStream};
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

#[hearth::function]
async fn handle(event: Event, _: Context) -> Result<Value, hearth::Error> {
    let db = hearth::postgres::default()?;
    let next = "select pg_backend_pid()";
    macro_rules! on {
        ($place:expr) => {{
            let place = $place;
            let source = match event.copy {
                true => place.copy_out(&event.sql).await.map(Source::Copy),
                false => place
                    .query_raw(&event.sql, [0_i32; 0])
                    .await
                    .map(Source::Rows),
            };
            let read = match source {
                Ok(source) => read(source, &event).await?,
                Err(error) => json!({ "error": describe(error) }),
            };
            // On the same connection, if it is the place's own.
            let after: Result<i32, Error> = place.query_one_scalar(next, &[]).await;
            json!({ "read": read, "after": after.map_or_else(describe, |pid| json!(pid)) })
        }};
    }
    Ok(match event.within {
        Within::Database => on!(db),
        Within::Transaction => on!(db.transaction().await?),
        Within::Session => on!(db.session().await?),
    })
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
