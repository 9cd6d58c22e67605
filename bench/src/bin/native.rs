//! The work that is measured, as a native function: `lambda_runtime` with `deadpool-postgres`, in
//! the way their own documentation shows. With the argument `one-thread` it runs on one, which
//! that documentation does not mention.

use std::time::SystemTime;

use deadpool_postgres::{Client, Manager, ManagerConfig, Pool, RecyclingMethod};
use futures_util::TryStreamExt;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_postgres::{NoTls, Row};

/// What an event asks for; of anything else, that it comes back.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Work {
    /// One row of a table, by its key.
    Row(i64),
    /// All rows of a table, kept until the last one is there.
    Collect(String),
    /// All rows of a table, each forgotten before the next.
    Stream(String),
    /// A statement that takes so many seconds.
    Sleep(f64),
}

/// One row of the large table, as a program would keep it.
struct Item {
    id: i32,
    part: i32,
    price: i64,
    weight: f64,
    volume: f64,
    name: String,
    note: Option<String>,
    made: SystemTime,
    extra: Value,
    sold: bool,
}

fn main() -> Result<(), Error> {
    let mut runtime = match std::env::args().nth(1).as_deref() {
        Some("one-thread") => tokio::runtime::Builder::new_current_thread(),
        // What `#[tokio::main]` does.
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    runtime.enable_all().build()?.block_on(serve())
}

async fn serve() -> Result<(), Error> {
    let config: tokio_postgres::Config = std::env::var("DATABASE_URL")?.parse()?;
    let recycling = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let pool = Pool::builder(Manager::from_config(config, NoTls, recycling))
        .max_size(8)
        .build()?;
    let service = service_fn(move |event: LambdaEvent<Value>| {
        let pool = pool.clone();
        async move { handle(&pool, event.payload).await }
    });
    match std::env::var_os("AWS_LAMBDA_MAX_CONCURRENCY") {
        Some(_) => lambda_runtime::run_concurrent(service).await,
        None => lambda_runtime::run(service).await,
    }
}

async fn handle(pool: &Pool, event: Value) -> Result<Value, Error> {
    let Ok(work) = Work::deserialize(&event) else {
        return Ok(event);
    };
    let db = pool.get().await?;
    Ok(match work {
        Work::Row(id) => {
            let sql = "select id, name from bench_item where id = $1";
            let statement = db.prepare_cached(sql).await?;
            let row = db.query_one(&statement, &[&id]).await?;
            json!({ "id": row.get::<_, i64>(0), "name": row.get::<_, String>(1) })
        }
        Work::Collect(sql) => {
            let statement = db.prepare_cached(&sql).await?;
            let rows = db.query(&statement, &[]).await?;
            json!(rows.iter().map(|row| item(row).mark()).sum::<i64>())
        }
        Work::Stream(sql) => json!(stream(&db, &sql).await?),
        Work::Sleep(seconds) => {
            let sql = "select pg_sleep($1)::text";
            let statement = db.prepare_cached(sql).await?;
            let row = db.query_one(&statement, &[&seconds]).await?;
            json!(row.get::<_, &str>(0))
        }
    })
}

async fn stream(db: &Client, sql: &str) -> Result<i64, Error> {
    let statement = db.prepare_cached(sql).await?;
    let rows = db.query_raw(&statement, [0_i32; 0]).await?;
    let mut rows = std::pin::pin!(rows);
    let mut sum = 0;
    while let Some(row) = rows.try_next().await? {
        sum += item(&row).mark();
    }
    Ok(sum)
}

fn item(row: &Row) -> Item {
    Item {
        id: row.get(0),
        part: row.get(1),
        price: row.get(2),
        weight: row.get(3),
        volume: row.get(4),
        name: row.get(5),
        note: row.get(6),
        made: row.get(7),
        extra: row.get(8),
        sold: row.get(9),
    }
}

impl Item {
    /// Depends on every value, so that none goes unread.
    fn mark(&self) -> i64 {
        let made = self.made.duration_since(SystemTime::UNIX_EPOCH);
        i64::from(self.id)
            + i64::from(self.part)
            + self.price
            + (self.weight + self.volume) as i64
            + self.name.len() as i64
            + self.note.as_ref().map_or(0, String::len) as i64
            + made.map_or(0, |made| made.as_secs() as i64)
            + self.extra["size"].as_i64().unwrap_or(0)
            + i64::from(self.sold)
    }
}
