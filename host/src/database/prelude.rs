//! What the host puts in force on the server before a guest's statement, in the same flush.
//!
//! Promises: it holds for the length of a transaction, the implicit one of a single statement
//! included, and for no longer; no value can be taken for SQL.

use std::sync::Arc;

use super::error::Error;
use super::wire::request::Command;

/// Settings that are put in force for the length of a transaction, the implicit one of a single
/// statement included.
#[derive(Debug, PartialEq, Eq)]
pub struct Prelude {
    /// One statement that makes the settings. Its text differs only with their number.
    pub command: Command,
    /// The same without arguments.
    text: String,
}

impl Prelude {
    /// That of these settings, in their order; none of none.
    pub fn of(settings: &[(String, String)]) -> Option<Arc<Self>> {
        if settings.is_empty() {
            return None;
        }
        let names_and_values = settings.iter().flat_map(|(name, value)| [name, value]);
        let arguments: Vec<Option<String>> = names_and_values.cloned().map(Some).collect();
        let parameters = (1..=arguments.len()).map(|number| format!("${number}::pg_catalog.text"));
        let literals = arguments.iter().flatten().map(|text| literal(text));
        Some(Arc::new(Self {
            text: call(&literals.collect::<Vec<_>>()),
            command: Command {
                sql: call(&parameters.collect::<Vec<_>>()),
                arguments,
            },
        }))
    }

    /// The same with one more statement in front, for a batch.
    pub fn after(statement: &str, prelude: Option<Arc<Self>>) -> Arc<Self> {
        let text = match prelude {
            Some(prelude) => format!("{statement}{SEPARATOR}{}", prelude.text),
            None => statement.to_owned(),
        };
        Arc::new(Self {
            command: Command::new(statement),
            text,
        })
    }

    /// A batch with the settings in front, all of which is one transaction.
    pub fn before(&self, batch: &str) -> String {
        format!("{}{SEPARATOR}{batch}", self.text)
    }

    /// An error of such a batch, which points into the guest's own part of it.
    pub fn unshifted(&self, mut error: Error) -> Error {
        if let Error::Server(server) = &mut error {
            let own = (self.text.chars().count() + SEPARATOR.len()) as u32;
            server.position = server.position.and_then(|at| at.checked_sub(own));
        }
        error
    }
}

/// What stands between the settings and a batch.
const SEPARATOR: &str = ";\n";

// The schema is named, since the guest may have put one with a function of this name before it.
fn call(arguments: &[String]) -> String {
    let pairs = arguments.chunks(2);
    let calls = pairs.map(|pair| format!("pg_catalog.set_config({}, true)", pair.join(", ")));
    format!("SELECT {}", calls.collect::<Vec<_>>().join(", "))
}

/// A string that means the same whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}
