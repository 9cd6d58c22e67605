//! Loses connections at every moment, and says what it is told then.

use std::time::Duration;

use futures_util::future::{join, poll_immediate};
use hearth::postgres::{Client, Error, Session};
use serde_json::{Value, json};

#[hearth::function]
async fn handle(what: String) -> Result<Value, hearth::Error> {
    let db = hearth::postgres::default()?;
    Ok(match what.as_str() {
        "two" => two(&db).await?,
        "none to spare" => none_to_spare(&db, true).await?,
        "none to log in to" => none_to_spare(&db, false).await?,
        "lost twice" => lost_twice(&db).await?,
        "closed" => closed(&db).await?,
        "copied" => copied(&db).await?,
        _ => return Err(format!("there is nothing {what:?}").into()),
    })
}

/// Has the pool make two connections.
async fn two(db: &Client) -> Result<Value, Error> {
    let (one, other) = (db.session().await?, db.session().await?);
    one.close().await?;
    other.close().await?;
    Ok(Value::Null)
}

/// Ends all other connections to the database. It goes on holding the one by which it did.
async fn killed(db: &Client) -> Result<Session, Error> {
    let kill = "select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()";
    let gate = db.session().await?;
    gate.query_one_scalar::<i64, _>(kill, &[]).await?;
    Ok(gate)
}

/// How many things there are.
async fn things(db: &Client) -> Result<i64, Error> {
    db.query_one_scalar("select count(*) from things", &[])
        .await
}

/// Of a transaction whose connection was lost before its first statement, and for which there is no other one
/// meanwhile, since the pool of three has none to spare or nobody can log in: what the first statement is told, those
/// after it, and its end.
async fn none_to_spare(db: &Client, is_full: bool) -> Result<Value, Error> {
    let insert = "insert into things values (1)";
    let mut said = Vec::new();
    for goes_on in if is_full { &[false, true][..] } else { &[true] } {
        let mut tx = db.transaction().await?;
        let _gate = killed(db).await?;
        let first = {
            let others = if is_full { 2 } else { 0 };
            let mut waiting: Vec<_> = (0..others)
                .map(|_| Box::pin(db.execute("select pg_sleep(600)", &[])))
                .collect();
            for call in &mut waiting {
                assert!(poll_immediate(call.as_mut()).await.is_none());
            }
            tx.set_timeout(is_full.then_some(Duration::from_millis(300)));
            tx.execute(insert, &[]).await
        };
        tx.set_timeout(None);
        let is_told = |error: Error| error.is_busy() == is_full && error.is_connect() != is_full;
        said.push(first.is_err_and(is_told));
        if *goes_on {
            let second = tx.execute(insert, &[]).await;
            said.push(second.is_err_and(|error| error.is_ended()));
        }
        said.push(tx.commit().await.is_err_and(|error| error.is_ended()));
    }
    Ok(json!(said))
}

/// Of two calls at the same time, the first ones of a transaction or of a session whose connection was lost before
/// them; the one that they are given instead is lost in the first call. Whether each has failed, and the end.
async fn lost_twice(db: &Client) -> Result<Value, Error> {
    let fatal = "select pg_terminate_backend(pg_backend_pid())";
    let insert = "insert into things values (1)";
    let tx = db.transaction().await?;
    let gate = killed(db).await?;
    let (first, second) = join(tx.execute(fatal, &[]), tx.execute(insert, &[])).await;
    let mut failed = vec![first.is_err(), second.is_err(), tx.commit().await.is_err()];
    drop(gate);
    let session = db.session().await?;
    let gate = killed(db).await?;
    let (first, second) = join(session.execute(fatal, &[]), session.execute(insert, &[])).await;
    drop(gate);
    failed.extend([first.is_err(), second.is_err()]);
    Ok(json!([failed, things(db).await?]))
}

/// Of a session whose connection is lost with a lock on it: whether a call says so, and then its end, and whether
/// either may have been executed. Nothing is lost with one on which nothing was done.
async fn closed(db: &Client) -> Result<Value, Error> {
    let mut said = Vec::new();
    for is_called in [true, false] {
        let session = db.session().await?;
        session.execute("select pg_advisory_lock(1)", &[]).await?;
        let gate = killed(db).await?;
        if is_called {
            said.push(lost(session.execute("select 1", &[]).await));
        }
        said.push(lost(session.close().await));
        drop(gate);
    }
    let session = db.session().await?;
    let _gate = killed(db).await?;
    said.push(lost(session.close().await));
    Ok(json!(said))
}

/// What is said of a copy whose connection is lost before it, or in its middle.
async fn copied(db: &Client) -> Result<Value, Error> {
    const COPY: &str = "copy things from stdin";
    let mut said = Vec::new();
    let tx = db.transaction().await?;
    tx.execute("insert into things values (1)", &[]).await?;
    let gate = killed(db).await?;
    said.push(lost(tx.copy_in(COPY).await));
    drop((tx, gate));

    let mut copy = db.copy_in(COPY).await?;
    copy.write("1\n").await?;
    let gate = killed(db).await?;
    said.push(lost(copy.finish().await));
    drop(gate);

    let tx = db.transaction().await?;
    tx.execute("insert into things values (1)", &[]).await?;
    let mut copy = tx.copy_in(COPY).await?;
    let gate = killed(db).await?;
    let rows = "1\n".repeat(1 << 20);
    let written = loop {
        match copy.write(rows.as_str()).await {
            Ok(()) => {}
            refused => break refused,
        }
    };
    said.push(lost(written));
    drop((copy, tx, gate));
    Ok(json!([said, things(db).await?]))
}

/// Whether the connection was lost, and the statement may have been executed.
fn lost<R>(done: Result<R, Error>) -> Option<bool> {
    let error = done.err()?;
    assert!(error.is_closed(), "{error}");
    Some(error.may_have_executed())
}
