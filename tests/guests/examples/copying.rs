//! Copies rows in, of which some never come through: they are refused, or given up.

use std::time::Duration;

use futures_util::future::{Either, FutureExt, join_all, poll_immediate, select};
use hearth::__private::bindings::hearth::postgres::client as wire;
use hearth::postgres::types::Type;
use hearth::postgres::{Client, Error, ToSql};
use serde_json::{Value, json};

const COPY: &str = "copy things from stdin";

#[hearth::function]
async fn handle(what: String) -> Result<Value, hearth::Error> {
    let db = hearth::postgres::default()?;
    match what.as_str() {
        "unheard" => return Ok(unheard(&db).await?),
        "committed" => return Ok(committed(&db).await?),
        _ => {}
    }
    let copy = wire::Database::open("default")
        .map_err(told)?
        .copy_in(COPY.to_owned(), None)
        .await
        .map_err(told)?;
    copy.write(b"1\tone\n".to_vec()).await.map_err(told)?;
    let missing = match what.as_str() {
        "refused" => refused(&db, &copy).await,
        "given up" => given_up(&db, &copy).await?,
        _ => return Err(format!("there is nothing {what:?}").into()),
    };
    let behind = copy.write(b"3\tthree\n".to_vec()).await.map_err(told);
    let finished = copy.finish().await.map_err(told);
    Ok(json!([missing, behind, finished]))
}

fn told(error: wire::Error) -> String {
    format!("{error:?}")
}

/// Makes so many large calls that no other one may bring anything along.
async fn refused(db: &Client, copy: &wire::CopyIn) -> Value {
    let value = "x".repeat(10 << 20);
    let call = async || {
        let params: [(&(dyn ToSql + Sync), Type); 1] = [(&value, Type::TEXT)];
        db.execute_typed("select length($1)", &params).await
    };
    let calls = Box::pin(join_all((0..6).map(|_| call())));
    let written = Box::pin(copy.write(rows()));
    match select(calls, written).await {
        Either::Right((written, _)) => json!(written.map_err(told)),
        Either::Left(_) => Value::Null,
    }
}

/// Gives up a piece that waits behind another one, which the server does not take at once.
async fn given_up(db: &Client, copy: &wire::CopyIn) -> Result<Value, Error> {
    let gate = db.session().await?;
    gate.batch_execute("select pg_advisory_lock(1)").await?;
    let mut before = Box::pin(copy.write(rows()));
    let is_held_up = poll_immediate(before.as_mut()).await.is_none();
    let was_given_up = copy.write(b"2\ttwo\n".to_vec()).now_or_never().is_none();
    gate.batch_execute("select pg_advisory_unlock(1)").await?;
    let written = before.await.map_err(told);
    Ok(json!([is_held_up, was_given_up, written]))
}

/// Gives up a piece that the server takes in the meantime.
async fn unheard(db: &Client) -> Result<Value, Error> {
    let gate = db.session().await?;
    gate.batch_execute("select pg_advisory_lock(1)").await?;
    let mut copy = db.copy_in(COPY).await?;
    let is_held_up = {
        let mut written = Box::pin(copy.write(rows()));
        let is_held_up = poll_immediate(written.as_mut()).await.is_none();
        gate.batch_execute("select pg_advisory_unlock(1)").await?;
        hearth::sleep(Duration::from_millis(500)).await;
        is_held_up
    };
    let behind = copy.write("3\tthree\n").await;
    let finished = copy.finish().await;
    let [behind, finished] =
        [behind, finished.map(|_| ())].map(|done| done.map_err(|error| error.to_string()));
    Ok(json!([is_held_up, behind, finished]))
}

/// Commits before the copy has ended, which nobody can do later.
async fn committed(db: &Client) -> Result<Value, Error> {
    let tx = db.transaction().await?;
    let mut copy = tx.copy_in(COPY).await?;
    copy.write("1\tone\n").await?;
    let is_in_use = tx.commit().await.is_err_and(|error| error.is_in_use());
    let is_ended = copy.finish().await.is_err_and(|error| error.is_ended());
    Ok(json!([is_in_use, is_ended]))
}

/// More than a socket holds.
fn rows() -> Vec<u8> {
    let row = format!("7\t{}\n", "x".repeat(100_000));
    row.repeat(50).into_bytes()
}
