//! Runs the SQL that comes with the event, and answers with what came of it.

use hearth::Context;
use serde::Deserialize;
use serde_json::Value;
use test_guests::{Step, run};

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    database: Option<String>,
    steps: Vec<Step>,
}

#[hearth::function]
async fn handle(event: Event, _: Context) -> Result<Vec<Value>, hearth::Error> {
    let database = hearth::postgres::open(event.database.as_deref().unwrap_or("default"))?;
    Ok(run(&database, event.steps).await)
}
