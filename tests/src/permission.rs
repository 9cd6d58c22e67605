//! The guest `query` with a permission on a database of its own, and what becomes of the steps it is given.

use serde_json::{Value, json};

use crate::guests::QUERY;
use crate::steps::Results;
use crate::{Database, Door, Setup, Trial};

/// A database with a role of its own that may do everything with the table `things`, and with
/// three of those; `$app` in the schema is that role. The function logs in as who owns it all.
pub async fn database(schema: &str) -> Database {
    let database = Database::create().await;
    let app = format!("{}_app", database.name);
    let things = format!(
        "create role {app}; create table things (name text); insert into things values ('a'), ('b'), ('c');
         grant all on things to {app};"
    );
    database
        .run(&(things + &schema.replace("$app", &app)))
        .await;
    database
}

/// Starts it with this permission, in which `$app` is that role as well.
pub async fn start(door: Door, database: &Database, permission: &str) -> Trial {
    let app = format!("{}_app", database.name);
    let section = format!(
        "[function.tested.database.default]\n{}\n",
        permission.replace("$app", &app)
    );
    Setup::of(&QUERY)
        .with(database)
        .toml(&section)
        .start(door)
        .await
}

/// What the error of a result says; nothing if it is none.
pub fn message(result: &Value) -> &str {
    result["error"]["message"].as_str().unwrap_or_default()
}

/// The same SQL in every way in which a function can send it.
pub fn every_way(sql: &str) -> Value {
    json!([
        { "query": sql },
        { "execute": sql },
        { "batch": sql },
        { "batch": format!("select 1; {sql}") },
        { "transaction": [{ "query": sql }, { "batch": sql }, { "execute": sql }], "end": "commit" },
        { "transaction": [{ "transaction": [{ "query": sql }], "end": "rollback" }], "end": "commit" },
        { "pipeline": [["select 1", []], [sql, []]] },
        { "typed_pipeline": [["select 1", []], [sql, []]] },
        { "session": [{ "query": sql }, { "batch": sql }] },
        { "streamed": sql, "meanwhile": [] },
    ])
}

/// All results, those within transactions included.
pub fn flat(results: impl IntoIterator<Item = Value>) -> Results {
    let steps = |result: Value| match result["steps"].as_array() {
        Some(steps) => steps.clone(),
        None => vec![result],
    };
    results.into_iter().flat_map(steps).collect()
}

/// All results of [`every_way`], however deep they are.
pub fn every(results: impl IntoIterator<Item = Value>) -> Results {
    let steps = |result: Value| match result.get("steps").unwrap_or(&result) {
        Value::Array(steps) => every(steps.clone()),
        _ => [result].into_iter().collect(),
    };
    results.into_iter().flat_map(steps).collect()
}
