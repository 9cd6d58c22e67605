//! What several of the tests' functions share: the SQL that comes with an event.
//!
//! The functions themselves are this package's examples. A step that fails does not keep the
//! others from running: its error is its result.

use std::time::Duration;

use futures_util::future::{Either, FutureExt, join, join_all, select};
use hearth::postgres::types::Type;
use hearth::postgres::{
    Client, CopyIn, CopyOut, Error, ErrorPosition, Outcome, Row, RowStream, Session, Statement,
    ToSql, Transaction,
};
use serde_json::{Value, json};

mod cell;
pub mod hooks;
pub mod program;
mod step;

use cell::{Cell, type_named};
pub use step::{End, Step};

/// What a client and a transaction can both do, by the methods of each, and not by those of the trait that they have in
/// common.
macro_rules! run_on {
    ($on:expr, $step:expr, $other:expr) => {
        match $step {
            Step::Query { query, arguments } => rows($on.query_raw(&query, arguments).await).await,
            Step::Execute { execute, arguments } => {
                $on.execute_raw(&execute, arguments).await.map(|count| json!({ "affected": count }))
            }
            Step::Typed { typed, values } => {
                let values = values.into_iter().map(|(value, name)| (value, type_named(&name)));
                rows($on.query_typed_raw(&typed, values).await).await
            }
            Step::Only { only } => {
                let row = $on.query_opt(&only, &[]).await;
                row.map(|row| json!({ "found": row.is_some() }))
            }
            Step::Describe { describe } => $on.prepare(&describe).await.map(columns),
            Step::Batch { batch } => $on.batch_execute(&batch).await.map(|()| Value::Null),
            Step::Pipeline { pipeline } => {
                let mut calls = $on.pipeline();
                for (sql, arguments) in &pipeline {
                    let arguments: Vec<&(dyn ToSql + Sync)> =
                        arguments.iter().map(|argument| argument as _).collect();
                    calls.add(sql, &arguments);
                }
                calls.run().await.map(outcomes)
            }
            Step::TypedPipeline { typed_pipeline } => {
                let mut calls = $on.pipeline();
                for (sql, values) in &typed_pipeline {
                    let values: Vec<(&(dyn ToSql + Sync), Type)> = values
                        .iter()
                        .map(|(value, name)| (value as _, type_named(name)))
                        .collect();
                    calls.add_typed(sql, &values);
                }
                calls.run().await.map(outcomes)
            }
            Step::Streamed {
                streamed,
                meanwhile,
                leaked,
                given_up_ms,
            } => match $on.query_raw(&streamed, [0_i32; 0]).await {
                Ok(mut stream) => {
                    let mut done = stream.try_next().await.map(|_| 1);
                    for sql in meanwhile {
                        let call = $on.execute(&sql, &[]);
                        done = match (done, within(given_up_ms, call).await) {
                            (Ok(rows), None | Some(Ok(_))) => Ok(rows),
                            (Err(error), _) | (_, Some(Err(error))) => Err(error),
                        };
                    }
                    match leaked {
                        true => std::mem::forget(stream),
                        false => while let (Ok(rows), next) = (&mut done, stream.try_next().await) {
                            match next {
                                Ok(Some(_)) => *rows += 1,
                                Ok(None) => break,
                                Err(error) => done = Err(error),
                            }
                        }
                    }
                    done.map(|rows| json!({ "rows": rows }))
                }
                Err(error) => Err(error),
            },
            Step::Overtaken {
                overtaken,
                by,
                given_up_ms,
            } => match $on.query_raw(&overtaken, [0_i32; 0]).await {
                Ok(mut stream) => {
                    let call = async { $on.execute(&by, &[]).await };
                    let reading = async {
                        within(Some(given_up_ms), rest_of(&mut stream)).await;
                        drop(stream);
                    };
                    let (done, ()) = join(call, reading).await;
                    done.map(|count| json!({ "affected": count }))
                }
                Err(error) => Err(error),
            },
            Step::AtOnce {
                at_once,
                given_up_ms,
            } => {
                let all = at_once.iter().enumerate().map(|(index, sql)| {
                    within(given_up_ms.filter(|_| index > 0), $on.query(sql, &[]))
                });
                Ok(join_all(all).await.into_iter().map(counted).collect())
            }
            Step::CopyIn {
                copy_in,
                pieces,
                unfinished,
            } => match $on.copy_in(&copy_in).await {
                Ok(copy) => send(copy, pieces, unfinished).await,
                Err(error) => Err(error),
            },
            Step::CopyOut {
                copy_out,
                unfinished,
            } => match $on.copy_out(&copy_out).await {
                Ok(copy) => receive(copy, unfinished).await,
                Err(error) => Err(error),
            },
            other => $other(other).await,
        }
    };
}

/// Runs the steps, one after another, and returns a result for each.
pub async fn run(database: &Client, steps: Vec<Step>) -> Vec<Value> {
    let mut results = Vec::new();
    for step in steps {
        results.push(Box::pin(run_one(database, step)).await);
    }
    results
}

async fn run_one(database: &Client, step: Step) -> Value {
    let other = async |step| match step {
        Step::Transaction { transaction, end } => {
            within_transaction(database.transaction().await?, transaction, end).await
        }
        Step::Abandon { abandon, after_ms } => {
            let begun = Box::pin(database.execute(&abandon, &[]));
            let done = if after_ms == 0 {
                begun.now_or_never().is_some()
            } else {
                let late = Box::pin(hearth::sleep(Duration::from_millis(after_ms)));
                matches!(select(begun, late).await, Either::Left(_))
            };
            Ok(json!({ "done": done }))
        }
        Step::Hurried {
            timeout_ms,
            hurried,
        } => {
            let mut database = database.clone();
            database.set_timeout(Some(Duration::from_millis(timeout_ms)));
            Ok(Value::Array(run(&database, hurried).await))
        }
        Step::Session {
            session,
            close_after_ms,
        } => within_session(database, session, close_after_ms).await,
        Step::Parallel { parallel } => {
            let all = parallel
                .into_iter()
                .map(|step| Box::pin(run_one(database, step)));
            Ok(Value::Array(join_all(all).await))
        }
        _ => unreachable!("the other steps are run by the macro"),
    };
    run_on!(database, step, other).unwrap_or_else(describe)
}

async fn within_transaction(
    mut transaction: Transaction<'_>,
    steps: Vec<Step>,
    end: End,
) -> Result<Value, Error> {
    let results = on_transaction(&mut transaction, steps).await;
    let end = match end {
        End::Commit => transaction.commit().await,
        End::Rollback => transaction.rollback().await,
        End::Drop => {
            drop(transaction);
            Ok(())
        }
        End::Forget => {
            std::mem::forget(transaction);
            Ok(())
        }
    };
    Ok(json!({ "steps": results, "end": end.map_or_else(describe, |()| Value::Null) }))
}

async fn on_transaction(transaction: &mut Transaction<'_>, steps: Vec<Step>) -> Value {
    let mut results = Vec::new();
    for step in steps {
        let mut other = async |step| match step {
            Step::Hurried {
                timeout_ms,
                hurried,
            } => {
                transaction.set_timeout(Some(Duration::from_millis(timeout_ms)));
                let done = Box::pin(on_transaction(transaction, hurried)).await;
                transaction.set_timeout(None);
                Ok(done)
            }
            Step::Transaction {
                transaction: steps,
                end,
            } => {
                let nested = transaction.transaction().await?;
                Box::pin(within_transaction(nested, steps, end)).await
            }
            _ => Ok(json!({ "error": { "message": "no such step within a transaction" } })),
        };
        results.push(run_on!(transaction, step, other).unwrap_or_else(describe));
    }
    Value::Array(results)
}

async fn within_session(
    database: &Client,
    steps: Vec<Step>,
    close_after_ms: Option<u64>,
) -> Result<Value, Error> {
    let mut session = database.session().await?;
    let results = on_session(database, &mut session, steps).await?;
    if let Some(ms) = close_after_ms {
        hearth::sleep(Duration::from_millis(ms)).await;
        session.close().await?;
    }
    Ok(results)
}

async fn on_session(
    database: &Client,
    session: &mut Session,
    steps: Vec<Step>,
) -> Result<Value, Error> {
    let mut results = Vec::new();
    for step in steps {
        let mut other = async |step| match step {
            Step::Hurried {
                timeout_ms,
                hurried,
            } => {
                session.set_timeout(Some(Duration::from_millis(timeout_ms)));
                let done = Box::pin(on_session(database, session, hurried)).await;
                session.set_timeout(None);
                done
            }
            Step::Listen {
                listen,
                unheard,
                dropped,
            } => {
                session.listen(&listen).await?;
                let payload = "said by the function itself";
                if !unheard {
                    database
                        .execute("select pg_notify($1, $2)", &[&listen, &payload])
                        .await?;
                }
                if let Some(dropped) = dropped {
                    session
                        .query_raw(&dropped, [0_i32; 0])
                        .await?
                        .try_next()
                        .await?;
                }
                let heard = session.notification().await?;
                Ok(json!({ "channel": heard.channel, "payload": heard.payload }))
            }
            Step::Transaction { transaction, end } => {
                within_transaction(session.transaction().await?, transaction, end).await
            }
            _ => Ok(json!({ "error": { "message": "no such step within a session" } })),
        };
        results.push(run_on!(session, step, other).unwrap_or_else(describe));
    }
    Ok(Value::Array(results))
}

async fn send(mut copy: CopyIn, pieces: Vec<String>, unfinished: bool) -> Result<Value, Error> {
    for piece in pieces {
        copy.write(piece).await?;
    }
    match unfinished {
        true => Ok(Value::Null),
        false => Ok(json!({ "copied": copy.finish().await? })),
    }
}

async fn receive(mut copy: CopyOut, unfinished: bool) -> Result<Value, Error> {
    let mut data = Vec::new();
    while let Some(piece) = copy.try_next().await? {
        data.extend(piece);
        if unfinished {
            return Ok(json!({ "some": !data.is_empty() }));
        }
    }
    Ok(
        json!({ "bytes": data.len(), "text": String::from_utf8_lossy(&data[..data.len().min(1000)]) }),
    )
}

fn outcomes(outcomes: Vec<Outcome>) -> Value {
    let each = outcomes.iter();
    each.map(|outcome| json!({ "affected": outcome.affected, "rows": outcome.rows.len() }))
        .collect()
}

fn columns(statement: Statement) -> Value {
    let columns = statement.columns().iter();
    let kinds = columns.map(|column| format!("{} {:?}", column.name(), column.type_().kind()));
    kinds.collect()
}

/// What comes of a call, unless it is given up after so many milliseconds.
async fn within<R>(given_up_ms: Option<u64>, call: impl Future<Output = R>) -> Option<R> {
    let Some(ms) = given_up_ms else {
        return Some(call.await);
    };
    let late = Box::pin(hearth::sleep(Duration::from_millis(ms)));
    match select(Box::pin(call), late).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}

/// Reads rows to their end.
async fn rest_of(stream: &mut RowStream) {
    while let Ok(Some(_)) = stream.try_next().await {}
}

/// How many rows there are, in the order of their first column.
fn counted(rows: Option<Result<Vec<Row>, Error>>) -> Value {
    match rows {
        None => Value::Null,
        Some(Err(error)) => describe(error),
        Some(Ok(rows)) if rows.is_sorted_by_key(|row| row.get::<_, i32>(0)) => json!(rows.len()),
        Some(Ok(rows)) => json!(format!("{} rows, out of order", rows.len())),
    }
}

async fn rows(stream: Result<RowStream, Error>) -> Result<Value, Error> {
    let mut stream = stream?;
    let columns: Vec<String> = stream
        .columns()
        .iter()
        .map(|column| column.name().to_owned())
        .collect();
    let mut rows = Vec::new();
    while let Some(row) = stream.try_next().await? {
        let cells = (0..row.len())
            .map(|index| Ok(row.try_get::<_, Option<Cell>>(index)?.map(|cell| cell.0)));
        rows.push(cells.collect::<Result<Vec<_>, Error>>()?);
    }
    Ok(json!({ "columns": columns, "rows": rows }))
}

/// An error as a result.
pub fn describe(error: Error) -> Value {
    json!({ "error": {
        "code": error.code().map(|code| code.code()),
        "constraint": error.as_db_error().and_then(|error| error.constraint()),
        "position": error.as_db_error().and_then(|error| error.position()).and_then(|at| match at {
            ErrorPosition::Original(at) => Some(at),
            ErrorPosition::Internal { .. } => None,
        }),
        "message": error.to_string(),
    }})
}
