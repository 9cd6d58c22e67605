//! Takes values out of the database as they are, and gives them back.

use hearth::Context;
use hearth::postgres::types::Kind;
use hearth::postgres::{Client, Error, RawValue, Type};
use serde::Deserialize;
use serde_json::{Value, json};
use test_guests::describe;

/// A type, as SQL writes it, and SQL for values of it.
#[derive(Deserialize)]
struct Load {
    name: String,
    values: Vec<String>,
}

/// For each type its kind, and for each of its values what PostgreSQL makes of it when it is given
/// back, and whether its bytes then come as they did before.
#[hearth::function]
async fn handle(loads: Vec<Load>, _: Context) -> Result<Vec<Value>, hearth::Error> {
    let db = hearth::postgres::default()?;
    let mut results = Vec::new();
    for load in loads {
        results.push(carry(&db, &load).await.unwrap_or_else(describe));
    }
    Ok(results)
}

async fn carry(db: &Client, load: &Load) -> Result<Value, Error> {
    let named = db.prepare(&format!("select $1::{}", load.name)).await?;
    let type_ = named.params()[0].clone();
    let mut values = Vec::new();
    for value in &load.values {
        let row = db.query_one(&format!("select {value}"), &[]).await?;
        // The column of a domain is one of the type that the domain narrows.
        let value = row
            .try_get::<_, Option<RawValue>>(0)?
            .map(|value| RawValue::new(type_.clone(), value.into_bytes()));
        let back = db
            .query_typed_one("select $1, format('%L', $1)", &[(&value, type_.clone())])
            .await?;
        let echo: Option<RawValue> = back.try_get(0)?;
        let bytes = |value: &Option<RawValue>| value.clone().map(RawValue::into_bytes);
        values.push(json!({
            "text": back.try_get::<_, String>(1)?,
            "same": bytes(&echo) == bytes(&value),
        }));
    }
    Ok(json!({ "kind": kind(&type_), "values": values }))
}

/// The kind of a type, as `pg_type.typtype` has it; `A` for an array.
fn kind(type_: &Type) -> &'static str {
    match type_.kind() {
        Kind::Simple => "b",
        Kind::Pseudo => "p",
        Kind::Enum(_) => "e",
        Kind::Array(_) => "A",
        Kind::Range(_) => "r",
        Kind::Multirange(_) => "m",
        Kind::Domain(_) => "d",
        Kind::Composite(_) => "c",
        _ => "?",
    }
}
