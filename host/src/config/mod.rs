//! `hearth.toml`, read once, as typed values.
//!
//! Promises:
//! - a [`Config`] is complete: defaults are filled in, every number is within [`crate::limits`],
//!   every path is absolute, every environment variable it names has been read; where some functions
//!   alone are to run, that holds for them and their databases, and the rest is only looked at for mistakes;
//! - whatever is wrong is said in one line that names the file, the line, the key, what was
//!   expected and what was found ([`ConfigError`]);
//! - no secret is in an error or in the `Debug` output.
//!
//! Left to others: whether a component can be loaded, and whether a database answers.

mod access;
pub mod address;
mod database;
mod error;
mod function;
mod lambda;
mod log;
mod permission;
mod source;
mod spelling;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use access::{PasswordSource, TlsConfig, Verify};
pub use database::{DatabaseConfig, Prepare, Reset};
pub use error::ConfigError;
pub use function::{AfterAnswer, FunctionConfig, Isolation, ResponseForm, Retire};
pub use lambda::{INITIALIZATION_TYPE, LambdaConfig, MAX_CONCURRENCY, is_managed};
pub use log::{LogConfig, LogFormat, LogLevel, MetricsConfig};
pub use permission::{PermissionConfig, Setting, StatementKind, StatementKinds, Statements};

use source::{Entry, Section, Source};

/// The database that exists without a section of its own, and takes `DATABASE_URL`.
pub const DEFAULT_DATABASE: &str = "default";

/// Functions' and databases' names: Lambda's own limit.
const NAME_BYTES_MAX: usize = 64;

/// Where a variable of the process's environment is looked up; a closure, so that tests need not
/// change the environment of all other tests.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A variable of the process's environment, if it says anything: an empty one means the same as none.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Everything that `hearth.toml` says.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder of `hearth.toml`, to which the paths in it are relative.
    pub directory: PathBuf,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Where the figures of each invocation go, if they are asked for.
    pub metrics: Option<MetricsConfig>,
    /// How the environment behaves on Lambda.
    pub lambda: LambdaConfig,
    /// The functions by name; at least one.
    pub functions: BTreeMap<String, FunctionConfig>,
    /// The databases by name: those with a section, and `default` where a function uses it.
    pub databases: BTreeMap<String, DatabaseConfig>,
}

impl Config {
    /// Reads the file at `path`, and the variables it names.
    pub fn load(path: &Path, variables: Variables<'_>) -> Result<Self, ConfigError> {
        Self::load_for(path, variables, &[])
    }

    /// The same where these functions alone are to run, if any are named: the components and variables of
    /// others need not be there.
    pub fn load_for(
        path: &Path,
        variables: Variables<'_>,
        only: &[&str],
    ) -> Result<Self, ConfigError> {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let bytes = std::fs::read(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => ConfigError::new(
                &absolute,
                "there is no such file; write one there (`hearth` takes another one with --config)",
            ),
            _ => ConfigError::new(&absolute, format!("cannot be read: {error}")),
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            ConfigError::new(path, "is not valid UTF-8; save it in that encoding")
                .at(source::line_after(before))
        })?;
        let directory = absolute.parent().unwrap_or(Path::new("/")).to_owned();
        let source = Source::new(path, &text, &directory, variables);
        Self::parse(&source, only)
    }

    fn parse(source: &Source<'_>, only: &[&str]) -> Result<Self, ConfigError> {
        let document = source.document()?;
        let aside = source.aside();
        let rules = |needed| if needed { source } else { &aside };
        let sections = ["log", "lambda", "function", "database"];
        let root = Section::root(source, document.get_ref(), &sections)?;
        let log = LogConfig::read(source, root.get("log").as_ref())?;
        let metrics = MetricsConfig::read(source, root.get("log").as_ref())?;
        let lambda = LambdaConfig::read(root.get("lambda"))?;
        let mut databases = BTreeMap::new();
        for entry in children(&root, "database")? {
            // Which of them the functions use, they say themselves.
            let database = DatabaseConfig::read(&entry.by(rules(only.is_empty())))?;
            databases.insert(database.name.clone(), database);
        }
        let mut functions = BTreeMap::new();
        for entry in children(&root, "function")? {
            let needed = only.is_empty() || only.contains(&entry.key());
            let function = FunctionConfig::read(&entry.by(rules(needed)), &mut databases)?;
            functions.insert(function.name.clone(), function);
        }
        for entry in children(&root, "database")? {
            let mut running = only.iter().filter_map(|name| functions.get(*name));
            if running.any(|function| function.may_open(entry.key())) {
                let database = DatabaseConfig::read(&entry)?;
                databases.insert(database.name.clone(), database);
            }
        }
        if functions.is_empty() {
            return Err(ConfigError::new(
                source.file,
                "there is no function; add a section like [function.hello] with component = \"hello.wasm\"",
            ));
        }
        Ok(Self {
            directory: source.directory.to_owned(),
            log,
            metrics,
            lambda,
            functions,
            databases,
        })
    }

    /// Whether any function may open this database.
    pub fn uses_database(&self, name: &str) -> bool {
        self.functions
            .values()
            .any(|function| function.may_open(name))
    }

    /// Leaves these functions in it, and the databases that they may open.
    pub fn keep(&mut self, names: &[&str]) {
        let Self {
            functions,
            databases,
            ..
        } = self;
        functions.retain(|name, _| names.contains(&name.as_str()));
        databases.retain(|name, _| functions.values().any(|function| function.may_open(name)));
    }
}

fn children<'a>(root: &Section<'a>, key: &str) -> Result<Vec<Entry<'a>>, ConfigError> {
    root.get(key)
        .map_or(Ok(Vec::new()), |entry| entry.children())
}

// A name stands in URLs, ARNs, log lines and paths: it needs no quoting in any of them.
fn checked_name(entry: &Entry<'_>) -> Result<String, ConfigError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let name = entry.key();
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(plain) {
        return Err(entry.problem(format!(
            "expected a name of 1 to {NAME_BYTES_MAX} letters, digits, - and _, got {name:?}"
        )));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod settings_tests;
#[cfg(test)]
mod tests;
