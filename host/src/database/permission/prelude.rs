//! What the host puts in force on the server before a guest's statement, in the same flush.
//!
//! Promises: it holds for the length of a transaction, the implicit one of a single statement
//! included, and for no longer; no value can be taken for SQL; if the server does not take it, the error names
//! what of the configuration that is.

use std::sync::{Arc, OnceLock};

use crate::database::error::Error;
use crate::database::server_error::ServerError;
use crate::database::wire::request::Command;

/// Settings that are put in force for the length of a transaction, the implicit one of a single
/// statement included.
#[derive(Debug, PartialEq, Eq)]
pub struct Prelude {
    /// One statement that makes the settings. Its text differs only with their number.
    pub command: Command,
    /// The same without arguments, once a batch has asked for it.
    text: OnceLock<String>,
    /// Where the configuration says so.
    section: Arc<str>,
}

impl Prelude {
    /// The prelude that makes these settings of a section, in this order; none if there are none.
    pub fn of(section: &Arc<str>, settings: &[(String, String)]) -> Option<Arc<Self>> {
        if settings.is_empty() {
            return None;
        }
        let names_and_values = settings.iter().flat_map(|(name, value)| [name, value]);
        let arguments: Vec<Option<String>> = names_and_values.cloned().map(Some).collect();
        let parameters = (1..=arguments.len()).map(|number| format!("${number}::pg_catalog.text"));
        Some(Arc::new(Self {
            text: OnceLock::new(),
            section: section.clone(),
            command: Command {
                sql: call(&parameters.collect::<Vec<_>>()).into(),
                arguments: arguments.into(),
            },
        }))
    }

    /// Whether it has the server take no writes.
    pub fn is_read_only(&self) -> bool {
        self.command.texts().contains(&"transaction_read_only")
    }

    /// A batch with the settings in front, all of which is one transaction.
    pub fn before(&self, batch: &str) -> String {
        format!("{}{SEPARATOR}{batch}", self.text())
    }

    fn text(&self) -> &str {
        self.text.get_or_init(|| {
            let texts = self.command.texts();
            call(&texts.into_iter().map(literal).collect::<Vec<_>>())
        })
    }

    /// What the guest is told if the server has refused this, and so executed nothing of the guest's.
    pub fn refused(&self, error: Error) -> Error {
        match &error {
            // Whatever points somewhere points into the guest's own text.
            Error::Server(server)
                if CODES.contains(&server.code.as_str()) && server.position.is_none() =>
            {
                Error::Denied(format!(
                    "the database does not take {} of {}: {server}; change it there, or in the database; nothing was \
                     executed",
                    self.culprit(server),
                    self.section
                ))
            }
            _ => error,
        }
    }

    /// What the guest is told if the server has refused its statement since this makes a transaction of
    /// the message.
    pub fn around(&self, error: Error) -> Error {
        let error = self.unshifted(error);
        let server = match &error {
            Error::Server(server) if server.code == "25001" => server,
            _ => return error,
        };
        Error::Denied(format!(
            "the statement takes no transaction around it ({server}), but what {} puts in force holds for one; execute \
             it by a function, or on a database, without role, read_only and settings",
            self.section
        ))
    }

    /// The keys of the configuration that a refusal is about. Its words may be those of any language,
    /// but for the names in it.
    fn culprit(&self, refusal: &ServerError) -> String {
        let arguments = self.command.texts();
        let names = |pair: &&[&str]| match **pair {
            ["role", role] => refusal.message.contains(role),
            [name, ..] => refusal.message.contains(name),
            [] => false,
        };
        // `set role none` never fails, so it is not the culprit.
        let pairs = || arguments.chunks(2).filter(|pair| *pair != ["role", "none"]);
        let keys: Vec<String> = match pairs().find(names) {
            Some(pair) => vec![key(pair[0])],
            None => pairs().map(|pair| key(pair[0])).collect(),
        };
        keys.join(", ")
    }

    /// An error of such a batch, which points into the guest's own part of it.
    pub fn unshifted(&self, mut error: Error) -> Error {
        if let Error::Server(server) = &mut error {
            let own = (self.text().chars().count() + SEPARATOR.len()) as u32;
            server.position = server.position.and_then(|at| at.checked_sub(own));
        }
        error
    }
}

/// With what a server refuses a setting or a role: its value or its name, that it is not known, or that
/// whoever asks may not.
const CODES: [&str; 5] = ["22023", "42501", "42602", "42704", "55P02"];

/// A setting as the configuration has it.
fn key(setting: &str) -> String {
    match setting {
        "role" => "`role`".to_owned(),
        "transaction_read_only" => "`read_only`".to_owned(),
        setting => format!("the setting `{setting}`"),
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
