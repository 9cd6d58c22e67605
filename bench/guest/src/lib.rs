//! The work that is measured, for Hearth: the twin of `src/bin/native.rs`.

use serde_json::{Value, json};

#[hearth::function]
async fn handle(event: Value) -> Result<Value, hearth::Error> {
    let Some(id) = event.get("id").and_then(Value::as_i64) else {
        return Ok(event);
    };
    let database = hearth::postgres::open("default")?;
    let row = database
        .query_one("select id, name from bench_item where id = $1", &[&id])
        .await?;
    Ok(json!({ "id": row.get::<_, i64>(0), "name": row.get::<_, String>(1) }))
}
