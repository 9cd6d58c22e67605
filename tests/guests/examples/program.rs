//! Runs a program of a random test, or looks at the sessions that an invocation gets.

use futures_util::future::try_join_all;
use hearth::postgres::Error;
use hearth::{Context, Failure};
use serde::Deserialize;
use serde_json::{Value, json};
use test_guests::program::{self, Step};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Event {
    /// Steps to be done.
    Program {
        steps: Vec<Step>,
        /// Whether it returns an error after them.
        fails: bool,
    },
    /// A query for a text, asked of so many connections that are held at the same time.
    Look { query: String, connections: usize },
}

#[hearth::function]
async fn handle(event: Event, _: Context) -> Result<Value, hearth::Error> {
    let db = hearth::postgres::default()?;
    match event {
        Event::Program { steps, fails } => {
            let invocation = program::kept::begin();
            program::kept::within(invocation, program::run(&db, &steps)).await;
            match fails {
                true => Err(Failure::new("Program", "fails as it was told").into()),
                false => Ok(Value::Null),
            }
        }
        Event::Look { query, connections } => {
            let held = try_join_all((0..connections).map(|_| db.session())).await?;
            let seen = held.iter().map(|held| held.query_one_scalar(&query, &[]));
            let seen: Result<Vec<String>, Error> = try_join_all(seen).await;
            Ok(json!(seen?))
        }
    }
}
