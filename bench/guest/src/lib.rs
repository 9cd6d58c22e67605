//! The work that is measured, for Hearth: the twin of `src/bin/native.rs`.

use std::time::SystemTime;

use hearth::postgres::{Client, Error, Row};
use serde::Deserialize;
use serde_json::{Value, json};

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

hearth::declare! {
    /// A row, by its key.
    fn row(id: i64) -> (i64, String) = "select id, name from bench_item where id = $1";
}

#[hearth::function]
async fn handle(event: Value) -> Result<Value, hearth::Error> {
    let Ok(work) = Work::deserialize(&event) else {
        return Ok(event);
    };
    let db = hearth::postgres::open("default")?;
    Ok(match work {
        Work::Row(id) => {
            let (id, name) = row(id).query_one(&db).await?;
            json!({ "id": id, "name": name })
        }
        Work::Collect(sql) => {
            let rows = db.query(&sql, &[]).await?;
            json!(rows.iter().map(|row| item(row).mark()).sum::<i64>())
        }
        Work::Stream(sql) => json!(stream(&db, &sql).await?),
        Work::Sleep(seconds) => {
            let sql = "select pg_sleep($1)::text";
            json!(db.query_one(sql, &[&seconds]).await?.get::<_, &str>(0))
        }
    })
}

async fn stream(db: &Client, sql: &str) -> Result<i64, Error> {
    let mut rows = db.query_raw(sql, [0_i32; 0]).await?;
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
