//! Runs a transaction as the event describes it, again if others are in its way.

use hearth::Context;
use hearth::postgres::{Error, IsolationLevel, Transaction};
use serde::Deserialize;
use serde_json::{Value, json};
use test_guests::{End, describe};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    isolation: Option<String>,
    read_only: Option<bool>,
    deferrable: Option<bool>,
    attempts_max: Option<u32>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Step {
    /// A query of one text; its failure is the transaction's.
    Query(String),
    /// A query whose failure is only a result.
    Try { r#try: String },
    /// Queries in one round trip.
    Pipeline { pipeline: Vec<String> },
    /// A copy whose failure is told as another one.
    CopyIn { copy_in: String, data: String },
    /// The same, out of the database.
    CopyOut { copy_out: String },
    /// A transaction within.
    Nested {
        nested: Vec<Step>,
        end: End,
        name: Option<String>,
    },
    /// An error that is none of the database's.
    Fail { fail: String },
    /// A wait on the clock.
    Sleep { sleep_ms: u64 },
}

#[hearth::function]
async fn handle(event: Event, _: Context) -> Result<Value, hearth::Error> {
    let db = hearth::postgres::default()?;
    let mut builder = db.build_transaction();
    if let Some(isolation) = &event.isolation {
        builder = builder.isolation_level(match isolation.as_str() {
            "read uncommitted" => IsolationLevel::ReadUncommitted,
            "read committed" => IsolationLevel::ReadCommitted,
            "repeatable read" => IsolationLevel::RepeatableRead,
            "serializable" => IsolationLevel::Serializable,
            other => return Err(format!("no such isolation: {other}").into()),
        });
    }
    if let Some(read_only) = event.read_only {
        builder = builder.read_only(read_only);
    }
    if let Some(deferrable) = event.deferrable {
        builder = builder.deferrable(deferrable);
    }
    if let Some(attempts_max) = event.attempts_max {
        builder = builder.attempts_max(attempts_max);
    }
    let mut attempts = 0;
    let result: Result<_, hearth::Error> = builder
        .transact(async |tx| {
            attempts += 1;
            run(tx, &event.steps).await
        })
        .await;
    Ok(match result {
        Ok(results) => json!({ "attempts": attempts, "results": results }),
        Err(error) => json!({
            "attempts": attempts,
            "error": match error.downcast::<Error>() {
                Ok(error) => describe(*error)["error"].clone(),
                Err(error) => json!({ "message": error.to_string() }),
            },
        }),
    })
}

async fn run(tx: &mut Transaction<'_>, steps: &[Step]) -> Result<Vec<Value>, hearth::Error> {
    let mut results = Vec::new();
    for step in steps {
        results.push(match step {
            Step::Query(sql) => query(tx, sql).await?,
            Step::Try { r#try } => query(tx, r#try).await.unwrap_or_else(describe),
            Step::Pipeline { pipeline } => {
                let mut calls = tx.pipeline();
                for sql in pipeline {
                    calls.add(sql, &[]);
                }
                json!(calls.run().await?.len())
            }
            Step::CopyIn { copy_in, data } => {
                let mut copy = tx.copy_in(copy_in).await?;
                copy.write(data.as_str()).await.map_err(|_| "not copied")?;
                let copied = copy.finish().await;
                json!(copied.map_err(|_| "not copied")?)
            }
            Step::CopyOut { copy_out } => {
                let mut copy = tx.copy_out(copy_out).await?;
                while copy.try_next().await.map_err(|_| "not copied")?.is_some() {}
                Value::Null
            }
            Step::Fail { fail } => return Err(fail.as_str().into()),
            Step::Sleep { sleep_ms } => {
                hearth::sleep(std::time::Duration::from_millis(*sleep_ms)).await;
                Value::Null
            }
            Step::Nested { nested, end, name } => {
                let mut inner = match name {
                    Some(name) => tx.savepoint(name).await?,
                    None => tx.transaction().await?,
                };
                let results = Box::pin(run(&mut inner, nested)).await?;
                match end {
                    End::Commit => inner.commit().await?,
                    End::Rollback => inner.rollback().await?,
                    End::Drop => drop(inner),
                    End::Forget => std::mem::forget(inner),
                }
                json!(results)
            }
        });
    }
    Ok(results)
}

async fn query(tx: &Transaction<'_>, sql: &str) -> Result<Value, Error> {
    let text: Option<Option<String>> = tx.query_opt_scalar(sql, &[]).await?;
    Ok(json!(text.flatten()))
}
