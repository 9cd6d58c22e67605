//! Runs the queries that it declares, and besides whatever SQL comes with the event.

#![forbid(unsafe_code)]

use hearth::Context;
use serde::Deserialize;
use serde_json::{Value, json};
use test_guests::{Step, describe, run};

hearth::declare! {
    fn thing(id: i64) -> (String, Option<i32>) = "select name, size from things where id = $1";

    fn rename(id: i64, name: &str) = "update things set name = $2 where id = $1";

    fn names() -> (String) = "select name from things order by name";
}

hearth::declare! {
    "archive";
    fn archived() -> (i64) = "select count(*) from things";
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    steps: Vec<Step>,
    /// The thing to read.
    thing: Option<i64>,
    /// Its new name.
    name: Option<String>,
    /// Whether to ask the other database.
    #[serde(default)]
    archived: bool,
    /// Whether to do several in one round trip, and to read rows as they arrive.
    #[serde(default)]
    pipelined: bool,
}

#[hearth::function]
async fn handle(event: Event, _: Context) -> Result<Value, hearth::Error> {
    let database = hearth::postgres::default()?;
    if event.archived {
        let archive = hearth::postgres::open("archive")?;
        return Ok(json!(archived().query_one(&archive).await?.0));
    }
    if event.pipelined {
        use futures_util::StreamExt;
        let (rename, all) = (rename(1, "lantern"), names());
        let mut pipeline = database.pipeline();
        pipeline.add_declared(&rename).add_declared(&all);
        let outcomes = pipeline.run().await?;
        let mut rows = names().query_raw(&database).await?;
        let first = rows.try_next().await?;
        let others: Vec<_> = rows.map(|row| row.map_err(describe)).collect().await;
        return Ok(json!([
            outcomes[0].affected,
            all.read(&outcomes[1])?,
            first,
            others
        ]));
    }
    let Some(id) = event.thing else {
        return Ok(json!(run(&database, event.steps).await));
    };
    if let Some(name) = event.name {
        let transaction = database.transaction().await?;
        let renamed = rename(id, &name).execute(&transaction).await?;
        transaction.commit().await?;
        return Ok(json!(renamed));
    }
    let all = names().query(&database).await?;
    Ok(match thing(id).query_opt(&database).await {
        Ok(thing) => json!({ "thing": thing, "all": all }),
        Err(error) => describe(error),
    })
}
