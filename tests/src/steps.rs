//! What a guest is told to do with the database, step by step, and what became of each step. The guest `query` takes
//! such steps; `tests/guests/src/step.rs` lists them.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use serde_json::{Value, json};

use crate::Trial;

/// What became of steps: a result for each. It is displayed as JSON.
pub struct Results(Vec<Value>);

impl Trial {
    /// The results of these steps.
    pub async fn results(&self, steps: Value) -> Results {
        match self.value(json!({ "steps": steps })).await {
            Value::Array(results) => Results(results),
            other => panic!("a list of results was expected, and this came: {other}"),
        }
    }

    /// The result of a single step.
    pub async fn result(&self, step: impl Borrow<Value>) -> Value {
        self.results(json!([step.borrow()])).await.0.remove(0)
    }

    /// The results of these steps, none of which may fail.
    pub async fn all_done(&self, steps: Value) -> Results {
        let results = self.results(steps).await;
        assert!(!results.to_string().contains("\"error\""), "{results}");
        results
    }
}

impl Deref for Results {
    type Target = [Value];

    fn deref(&self) -> &[Value] {
        &self.0
    }
}

impl IntoIterator for Results {
    type Item = Value;
    type IntoIter = std::vec::IntoIter<Value>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<Value> for Results {
    fn from_iter<I: IntoIterator<Item = Value>>(results: I) -> Self {
        Self(results.into_iter().collect())
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&json!(self.0).to_string())
    }
}

/// As it is displayed: Rust's form of JSON would take a screen.
impl fmt::Debug for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the error of a step says, which has to be one.
pub fn message(result: &Value) -> &str {
    let message = result["error"]["message"].as_str();
    message.unwrap_or_else(|| panic!("no error: {result}"))
}
