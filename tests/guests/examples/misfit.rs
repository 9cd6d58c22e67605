//! Makes every mistake that can be made with values, in one transaction, which must go on.

use hearth::Context;
use hearth::postgres::{Error, RawValue, Row, Transaction, Type};
use serde_json::Value;

/// The SQL text that the host takes, in bytes.
const SQL_BYTES_MAX: usize = 1024 * 1024;
/// The arguments that a call carries, in bytes.
const CALL_BYTES_MAX: usize = 15 * 1024 * 1024;

/// What was said of each mistake.
#[hearth::function]
async fn handle(_: Value, _: Context) -> Result<Vec<String>, hearth::Error> {
    let db = hearth::postgres::default()?;
    let tx = db.transaction().await?;
    tx.execute("insert into things values (7, null)", &[])
        .await?;
    let mut said = Vec::new();
    for mistake in 0.. {
        let Some(result) = make(&tx, mistake).await else {
            break;
        };
        let error = result.err().ok_or("a mistake went unnoticed")?;
        said.push(error.to_string());
        let count: i64 = tx
            .query_one_scalar("select count(*) from things", &[])
            .await?;
        assert_eq!(count, 1, "the transaction goes on after {error}");
    }
    tx.commit().await?;
    Ok(said)
}

async fn make(tx: &Transaction<'_>, mistake: u32) -> Option<Result<(), Error>> {
    Some(match mistake {
        0 => query(tx, &[&1_i32, &7_i32]).await.map(drop),
        1 => query(tx, &[&1_i32]).await.map(drop),
        2 => query(tx, &[&1_i32, &"a", &"b"]).await.map(drop),
        3 => {
            let raw = RawValue::new(Type::TEXT, Vec::new());
            query(tx, &[&raw, &"a"]).await.map(drop)
        }
        4 => query(tx, &[&1_i32, &"x".repeat(CALL_BYTES_MAX)])
            .await
            .map(drop),
        5 => tx
            .execute_raw("select $1::int4", vec![1_i32; 65_536])
            .await
            .map(drop),
        6 => tx
            .query(&" ".repeat(SQL_BYTES_MAX + 1), &[])
            .await
            .map(drop),
        7 => tx
            .query(&" ".repeat(CALL_BYTES_MAX + 1), &[])
            .await
            .map(drop),
        8 => row(tx)
            .await
            .and_then(|row| row.try_get::<_, i64>("id"))
            .map(drop),
        9 => row(tx)
            .await
            .and_then(|row| row.try_get::<_, String>(1))
            .map(drop),
        10 => row(tx)
            .await
            .and_then(|row| row.try_get::<_, i32>("total"))
            .map(drop),
        11 => row(tx)
            .await
            .and_then(|row| row.try_get::<_, i32>(2))
            .map(drop),
        12 => tx.query_one("select 1 where false", &[]).await.map(drop),
        13 => tx
            .query_one("select generate_series(1, 2)", &[])
            .await
            .map(drop),
        14 => tx
            .query_one_scalar::<i32, _>("select 'a'::text as word", &[])
            .await
            .map(drop),
        15 => tx
            .execute_typed("select $1", &[(&7_i32, Type::JSONB)])
            .await
            .map(drop),
        16 => tx.query("select \0", &[]).await.map(drop),
        17 => tx
            .query_one_scalar::<Vec<i32>, _>("select array[1, null] as list", &[])
            .await
            .map(drop),
        18 => tx
            .query_one_scalar::<String, _>("select interval '1 day' as age", &[])
            .await
            .map(drop),
        19 => tx
            .execute("select $1::interval", &[&"1 day"])
            .await
            .map(drop),
        _ => return None,
    })
}

async fn query(
    tx: &Transaction<'_>,
    params: &[&(dyn hearth::postgres::ToSql + Sync)],
) -> Result<Vec<Row>, Error> {
    tx.query("select $1::int4, $2::text", params).await
}

async fn row(tx: &Transaction<'_>) -> Result<Row, Error> {
    tx.query_one("select id, note from things", &[]).await
}
