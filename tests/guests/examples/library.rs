//! Parts of the SDK that no other function here uses: code for clients, transactions and sessions alike,
//! rows of typed values by `COPY`, waiting no longer than so.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{join_all, poll_immediate};
use hearth::postgres::error::{DbError, ErrorPosition, Severity};
use hearth::postgres::types::Type;
use hearth::postgres::{
    BinaryCopyInWriter, BinaryCopyOutStream, Client, Error, GenericClient, IsolationLevel,
    Pipeline, RawValue, ToSql, Transaction,
};
use serde_json::{Value, json};

const TYPES: [Type; 3] = [Type::INT4, Type::TEXT, Type::FLOAT8_ARRAY];

#[hearth::function]
async fn handle(part: String) -> Result<Value, hearth::Error> {
    let db = hearth::postgres::default()?;
    Ok(match part.as_str() {
        "alike" => alike(db).await?,
        "copy" => copy(&db).await?,
        "streams" => streams(&db).await?,
        "refusals" => refusals(&db).await?,
        "misfits" => misfits(&db).await?,
        "time" => time(&db).await?,
        "weighty" => weighty(&db).await?,
        "given up" => given_up(&db).await?,
        "odd" => odd(&db).await?,
        _ => return Err(format!("there is no part {part:?}").into()),
    })
}

/// Writes a row, and one more in a transaction that is committed; counts them.
async fn write(on: &mut impl GenericClient, id: i32) -> Result<i64, Error> {
    let sql = "insert into things (id) values ($1)";
    on.execute(sql, &[&id]).await?;
    let tx = on.transaction().await?;
    let mut pipeline = tx.pipeline();
    add(&mut pipeline, sql, &id);
    pipeline.add("select count(*) from things", &[]);
    let outcomes = pipeline.run().await?;
    tx.commit().await?;
    outcomes[1].rows[0].try_get(0)
}

fn add<'a, H: GenericClient>(pipeline: &mut Pipeline<'a, H>, sql: &str, id: &'a i32) {
    pipeline.add(sql, &[id]);
}

async fn alike(mut db: Client) -> Result<Value, Error> {
    let on_client = write(&mut db, 1).await?;
    let mut tx = db.transaction().await?;
    let in_transaction = write(&mut tx, 2).await?;
    tx.commit().await?;
    let mut session = db.session().await?;
    let on_session = write(&mut session, 3).await?;
    let builder = session.build_transaction();
    let builder = builder.isolation_level(IsolationLevel::Serializable);
    let mut attempts = 0;
    let level: String = builder
        .transact(async |tx| {
            attempts += 1;
            if attempts == 1 {
                let sql = "do $$ begin raise exception 'again' using errcode = '40001'; end $$";
                tx.batch_execute(sql).await?;
            }
            let sql = "select current_setting('transaction_isolation')";
            tx.query_one_scalar(sql, &[]).await
        })
        .await?;
    Ok(json!([
        on_client,
        in_transaction,
        on_session,
        attempts,
        level
    ]))
}

/// Copies the rows of one table into another, and counts those that are not the same then.
async fn copy(db: &Client) -> Result<Value, Error> {
    let out = db.copy_out("copy many to stdout (format binary)").await?;
    let copy = db.copy_in("copy same from stdin (format binary)").await?;
    let mut rows = BinaryCopyOutStream::new(out, &TYPES);
    let mut writer = BinaryCopyInWriter::new(copy, &TYPES);
    while let Some(row) = rows.next().await.transpose()? {
        let id: i32 = row.try_get(0)?;
        let name: Option<&str> = row.try_get("column2")?;
        let sizes: Vec<f64> = row.try_get(2)?;
        writer.write(&[&id, &name, &sizes]).await?;
    }
    let copied = writer.finish().await?;
    let sql = "select count(*) from ((table many except table same) union (table same except table many)) x";
    let others: i64 = db.query_one_scalar(sql, &[]).await?;
    Ok(json!([copied, others]))
}

/// How many rows a stream says that it had, before and after they are read.
async fn rows(on: &impl GenericClient, sql: &str) -> Result<Value, Error> {
    let mut rows = on.query_raw(sql, [0_i32; 0]).await?;
    let first = rows
        .try_next()
        .await
        .map(|row| row.map(|row| row.raw_size_bytes()));
    let before = rows.rows_affected();
    while let Ok(Some(_)) = rows.try_next().await {}
    Ok(json!([first.ok(), before, rows.rows_affected()]))
}

/// What a copy is as a stream of bytes, and how rows are counted on the different ways that they take.
async fn streams(db: &Client) -> Result<Value, Error> {
    let copy = db.copy_out("copy many (id) to stdout").await?;
    let bytes = copy.fold(0, async |bytes, piece| {
        bytes + piece.map_or(0, |piece| piece.len())
    });
    let bytes = bytes.await;
    let tx = db.transaction().await?;
    let many = "select * from many";
    Ok(json!([
        bytes,
        rows(db, many).await?,
        rows(&tx, many).await?,
        rows(
            &tx,
            "insert into same select * from many where id <= 9 returning 1"
        )
        .await?,
        rows(&tx, "update same set name = null").await?,
        rows(db, "select 1 / (20 - id) from many").await?,
    ]))
}

/// What the server says of a failure, as far as `tokio_postgres` tells it.
async fn refusals(db: &Client) -> Result<Value, Error> {
    let sql = "create function pg_temp.f() returns int language plpgsql as 'begin return (select no from things); end'";
    let session = db.session().await?;
    session.batch_execute(sql).await?;
    let mut said = Vec::new();
    for sql in ["select no from things", "select pg_temp.f()"] {
        let error = session
            .query(sql, &[])
            .await
            .expect_err("there is no such column");
        let source = error
            .into_source()
            .and_then(|source| source.downcast::<DbError>().ok());
        let error = source.expect("the server said it");
        let at = error.position().map(|at| match at {
            ErrorPosition::Original(at) => json!(at),
            ErrorPosition::Internal { position, query } => json!([position, query]),
        });
        let is_error = error.parsed_severity() == Some(Severity::Error);
        let source =
            [error.file(), error.routine()].map(|text| text.is_some_and(|text| !text.is_empty()));
        said.push(json!([at, is_error, source, error.line() > Some(0)]));
    }
    Ok(json!(said))
}

async fn misfits(db: &Client) -> Result<Value, Error> {
    let begin = async || -> Result<_, Error> {
        let copy = db.copy_in("copy same from stdin (format binary)").await?;
        Ok(BinaryCopyInWriter::new(copy, &TYPES))
    };
    let mut writer = begin().await?;
    let few = writer.write(&[&1_i32]).await.err();
    let wrong = writer.write(&[&1_i32, &2_i32, &vec![0.5]]).await.err();
    writer
        .write(&[&1_i32, &"left as it is", &vec![0.5]])
        .await?;
    let copied = writer.finish().await?;
    let out = db.copy_out("copy same to stdout").await?;
    let text = BinaryCopyOutStream::new(out, &TYPES).try_next().await.err();
    let out = db.copy_out("copy same to stdout (format binary)").await?;
    let more = BinaryCopyOutStream::new(out, &TYPES[..2])
        .try_next()
        .await
        .err();
    let mut copy = db.copy_in("copy same (id) from stdin").await?;
    copy.write("1\nthe secret\n").await?;
    let refused = copy.finish().await.err();
    let said = [few, wrong, text, more, refused].map(|error| error.map(|error| error.to_string()));
    Ok(json!([copied, said]))
}

/// What no column of a table can have: its type, and whether its bytes are those that the server's own
/// function makes of it.
async fn odd(db: &Client) -> Result<Value, Error> {
    let mut seen = Vec::new();
    for (value, send) in [
        ("row(1, 'a'::text, null::int8)", "record_send"),
        ("row(row(), array[row(1, null::text)])", "record_send"),
        ("array[row(1, 2), null]", "array_send"),
        ("'[2:3]={1,2}'::int4[]", "array_send"),
    ] {
        let sql = format!("select {value}, {send}({value})");
        let row = db.query_one(&sql, &[]).await?;
        let (value, sent): (RawValue, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
        seen.push(json!([value.type_().name(), value.as_bytes() == sent]));
    }
    let nothing: RawValue = db.query_one_scalar("select pg_sleep(0)", &[]).await?;
    seen.push(json!([
        nothing.type_().name(),
        nothing.as_bytes().is_empty()
    ]));
    Ok(json!(seen))
}

async fn time(db: &Client) -> Result<Value, Error> {
    let (soon, ample) = (Duration::from_millis(20), Duration::from_secs(20));
    let late = hearth::timeout(soon, db.execute("select pg_sleep(600)", &[])).await;
    let early = hearth::timeout(ample, db.execute("select 1", &[])).await;
    let session = db.session().await?;
    session.listen("news").await?;
    let nothing = hearth::timeout(soon, session.notification()).await;
    db.execute("select pg_notify('news', 'said')", &[]).await?;
    let told = hearth::timeout(ample, session.notification()).await;
    let told = told.transpose()?.map(|told| told.payload);
    Ok(json!([
        late.is_none(),
        early.transpose()?,
        nothing.is_none(),
        told
    ]))
}

/// A statement that is executed, though not at once, and given up before anybody has heard so.
async fn unheard(tx: &Transaction<'_>) {
    let sql = "insert into things select 1 from pg_sleep(0.05)";
    let mut call = Box::pin(tx.execute(sql, &[]));
    assert!(poll_immediate(call.as_mut()).await.is_none());
    hearth::sleep(Duration::from_millis(500)).await;
}

/// What a transaction says after a call that was given up: of the next call, and of its end.
async fn given_up(db: &Client) -> Result<Value, Error> {
    let sql = "insert into things values (2)";
    let mut said = Vec::new();
    for is_called in [false, true] {
        let tx = db.transaction().await?;
        unheard(&tx).await;
        if is_called {
            let refused = tx.execute(sql, &[]).await.err();
            said.push(json!(refused.and_then(|error| {
                error.code().map(|code| code.code().to_owned())
            })));
        }
        let ended = tx.commit().await.err();
        said.push(json!(ended.is_some_and(|error| error.is_aborted())));
    }
    let mut tx = db.transaction().await?;
    for is_committed in [false, true] {
        let inner = tx.transaction().await?;
        unheard(&inner).await;
        match is_committed {
            true => said.push(json!(inner.commit().await.is_ok())),
            false => inner.rollback().await?,
        }
    }
    tx.execute(sql, &[]).await?;
    tx.commit().await?;
    let count: i64 = db
        .query_one_scalar("select sum(id) from things", &[])
        .await?;
    said.push(json!(count));
    Ok(json!(said))
}

/// How many large calls at the same time go well, how many are refused, and how many go well one after another.
async fn weighty(db: &Client) -> Result<Value, Error> {
    let value = "x".repeat(10 << 20);
    let call = async || {
        let params: [(&(dyn ToSql + Sync), Type); 1] = [(&value, Type::TEXT)];
        db.execute_typed("select length($1)", &params).await
    };
    let all = join_all((0..10).map(|_| call())).await;
    let busy = all
        .iter()
        .filter(|result| matches!(result, Err(error) if error.is_busy()));
    let (done, busy) = (
        all.iter().filter(|result| result.is_ok()).count(),
        busy.count(),
    );
    let mut alone = 0;
    for _ in 0..10 {
        alone += call().await?;
    }
    Ok(json!([done, busy, alone]))
}
