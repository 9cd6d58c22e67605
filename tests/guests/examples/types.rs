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
    // What has no binary form, or is made of such, is given as text.
    let is_text = type_ == Type::TEXT && load.name != "text";
    let mut values = Vec::new();
    for value in &load.values {
        values.push(match is_text {
            true => carry_text(db, &load.name, value).await?,
            false => carry_bytes(db, &type_, value).await?,
        });
    }
    Ok(json!({ "kind": if is_text { "text" } else { kind(&type_) }, "values": values }))
}

async fn carry_bytes(db: &Client, type_: &Type, value: &str) -> Result<Value, Error> {
    let value: Option<RawValue> = db.query_one_scalar(&format!("select {value}"), &[]).await?;
    // The column of a domain is one of the type that the domain narrows.
    let value = value.map(|value| RawValue::new(type_.clone(), value.into_bytes()));
    let sql = "select $1, format('%L', $1)";
    let back = db.query_typed_one(sql, &[(&value, type_.clone())]).await?;
    let echo: Option<RawValue> = back.try_get(0)?;
    let bytes = |value: &Option<RawValue>| value.clone().map(RawValue::into_bytes);
    Ok(json!({
        "text": back.try_get::<_, String>(1)?,
        "same": bytes(&echo) == bytes(&value),
    }))
}

async fn carry_text(db: &Client, name: &str, literal: &str) -> Result<Value, Error> {
    let sql = format!("select {literal}");
    let mut value: Option<RawValue> = db.query_one_scalar(&sql, &[]).await?;
    // What is made of such types comes in binary while all of these are NULL.
    if value
        .as_ref()
        .is_some_and(|value| *value.type_() != Type::TEXT)
    {
        value = db
            .query_one_scalar(&format!("select ({literal})::text"), &[])
            .await?;
    }
    let sql = format!("select ($1::{name})::text, format('%L', $1::{name})");
    let back = db.query_one(&sql, &[&value]).await?;
    Ok(json!({
        "text": back.try_get::<_, String>(1)?,
        "same": back.try_get::<_, Option<RawValue>>(0)? == value,
    }))
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
