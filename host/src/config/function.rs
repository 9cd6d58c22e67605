//! `[function.NAME]`: one guest component with its settings.
//!
//! Promises: the component's file was there when the configuration was read, unless the function does
//! not run here; each database the function names is defined. Left to others: whether the component is
//! one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::source::{Entry, Section};
use super::{
    ConfigError, DEFAULT_DATABASE, DatabaseConfig, PermissionConfig, checked_name, spelling,
};
use crate::limits;

const KEYS: &[&str] = &[
    "component",
    "isolation",
    "instances_max",
    "memory_mib",
    "temporary_mib",
    "timeout_ms",
    "databases",
    "database",
    "environment",
    "retire",
    "response",
    "after_answer",
];

/// One function.
#[derive(Clone)]
pub struct FunctionConfig {
    /// Its name, by which it is invoked.
    pub name: String,
    /// The absolute path of its component, compiled or not.
    pub component: PathBuf,
    /// What two invocations may share.
    pub isolation: Isolation,
    /// How many instances the local host runs at a time. Lambda decides for itself.
    pub instances_max: u32,
    /// The memory that one instance may use.
    pub memory_mib: u32,
    /// What each invocation may keep in its temporary directory; without it there is none.
    pub temporary_mib: Option<u32>,
    /// How long an invocation may take on the local host. On Lambda each event brings its deadline.
    pub timeout: Duration,
    /// The databases it may open.
    pub databases: Vec<String>,
    /// What it may do with those of them for which the file says so.
    pub permissions: BTreeMap<String, PermissionConfig>,
    /// The environment variables that the guest sees; it sees no others.
    pub environment: BTreeMap<String, String>,
    /// When an instance is retired though nothing is wrong with it.
    pub retire: Retire,
    /// In what form its answers go out.
    pub response: ResponseForm,
    /// What becomes of work that goes on after an answer.
    pub after_answer: AfterAnswer,
}

/// In what form a function's answers go out. No event tells which one its caller expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseForm {
    /// Whole; streams are collected.
    Buffered,
    /// As a stream of the bytes that the function answers.
    Stream,
    /// As a stream that begins with an HTTP status and headers.
    HttpStream,
}

/// What becomes of work that goes on after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterAnswer {
    /// It is finished before the next event is asked for.
    Finish,
    /// It goes on while later events are handled.
    Suspend,
    /// The answer is held back until it is done.
    Await,
}

/// What two invocations of a function may share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Nothing: each has an instance of its own.
    Fresh,
    /// An instance, one after the other.
    Serial,
    /// An instance, up to so many at the same time.
    Concurrent(u32),
}

/// When an instance is retired though nothing is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retire {
    /// After so many invocations.
    pub invocations: u64,
    /// At this age.
    pub age: Duration,
    /// Once its memory has grown to more than this; without it, to more than three quarters of what it may have.
    pub memory_mib: Option<u32>,
}

impl Default for Retire {
    fn default() -> Self {
        Self {
            invocations: limits::INVOCATIONS_PER_INSTANCE_DEFAULT,
            age: limits::INSTANCE_AGE_DEFAULT,
            memory_mib: None,
        }
    }
}

// By hand, because the values of the environment may be secrets.
impl fmt::Debug for FunctionConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("FunctionConfig")
            .field("name", &self.name)
            .field("component", &self.component)
            .field("isolation", &self.isolation)
            .field("instances_max", &self.instances_max)
            .field("memory_mib", &self.memory_mib)
            .field("temporary_mib", &self.temporary_mib)
            .field("timeout", &self.timeout)
            .field("databases", &self.databases)
            .field("permissions", &self.permissions)
            .field("environment", &self.environment.keys().collect::<Vec<_>>())
            .field("retire", &self.retire)
            .field("response", &self.response)
            .field("after_answer", &self.after_answer)
            .finish()
    }
}

impl FunctionConfig {
    /// Reads one function; adds the default database to `databases` where it is used undefined.
    pub(super) fn read(
        entry: &Entry<'_>,
        databases: &mut BTreeMap<String, DatabaseConfig>,
    ) -> Result<Self, ConfigError> {
        let section = entry.section(KEYS)?;
        let name = checked_name(entry)?;
        let component = component(entry, &section)?;
        let mut function = Self {
            name,
            component,
            isolation: Isolation::Serial,
            instances_max: limits::INSTANCES_DEFAULT,
            memory_mib: limits::MEMORY_MIB_DEFAULT,
            temporary_mib: None,
            timeout: limits::TIMEOUT_DEFAULT,
            databases: Vec::new(),
            permissions: BTreeMap::new(),
            environment: BTreeMap::new(),
            retire: Retire::default(),
            response: ResponseForm::Buffered,
            after_answer: AfterAnswer::Finish,
        };
        if let Some(entry) = section.get("isolation") {
            function.isolation = isolation(&entry)?;
        }
        if let Some(entry) = section.get("instances_max") {
            function.instances_max = entry.number_u32(1..=limits::INSTANCES_MAX)?;
        }
        if let Some(entry) = section.get("memory_mib") {
            function.memory_mib = entry.number_u32(1..=limits::MEMORY_MIB_MAX)?;
        }
        if let Some(entry) = section.get("temporary_mib") {
            function.temporary_mib = Some(entry.number_u32(1..=limits::TEMPORARY_MIB_MAX)?);
        }
        if let Some(entry) = section.get("timeout_ms") {
            let timeout_ms_max = limits::TIMEOUT_MAX.as_millis() as u64;
            function.timeout = Duration::from_millis(entry.number(1..=timeout_ms_max)?);
        }
        if let Some(entry) = section.get("databases") {
            for name in databases_named(&entry, &function.name)? {
                function.uses(name, &entry, databases)?;
            }
        }
        if let Some(entry) = section.get("database") {
            for entry in entry.children()? {
                function.uses(entry.key(), &entry, databases)?;
                let permission = PermissionConfig::read(&entry)?;
                function
                    .permissions
                    .insert(entry.key().to_owned(), permission);
            }
        }
        if let Some(entry) = section.get("environment") {
            function.environment = environment(&entry)?;
        }
        if let Some(entry) = section.get("retire") {
            function.retire = retire(&entry, function.memory_mib)?;
        }
        if let Some(entry) = section.get("response") {
            function.response = response(&entry)?;
        }
        if let Some(entry) = section.get("after_answer") {
            function.after_answer = after_answer(&entry)?;
        }
        Ok(function)
    }

    /// Whether it may open this database.
    pub fn may_open(&self, database: &str) -> bool {
        self.databases.iter().any(|known| known == database)
    }

    /// Adds a database to those that it may open.
    fn uses(
        &mut self,
        name: &str,
        entry: &Entry<'_>,
        databases: &mut BTreeMap<String, DatabaseConfig>,
    ) -> Result<(), ConfigError> {
        if name == DEFAULT_DATABASE && !databases.contains_key(name) {
            let default = DatabaseConfig::undefined_default(entry.source)?;
            databases.insert(name.to_owned(), default);
        }
        if !databases.contains_key(name) {
            let others = databases.keys().map(String::as_str);
            let defined: Vec<&str> = others.chain([DEFAULT_DATABASE]).collect();
            let advice = match spelling::nearest(name, &defined) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("add a section [database.{name}]"),
            };
            return Err(entry.problem(format!("there is no database {name:?}; {advice}")));
        }
        if !self.may_open(name) {
            self.databases.push(name.to_owned());
        }
        Ok(())
    }
}

/// The names in a list, in whose place no permissions may stand.
fn databases_named<'a>(entry: &Entry<'a>, function: &str) -> Result<Vec<&'a str>, ConfigError> {
    if entry.is_table()
        && let Some(inner) = entry.children()?.first()
    {
        let meant = format!("function.{function}.database.{}", inner.key());
        return Err(entry.problem(format!(
            "expected a list of names, got a section; did you mean [{meant}]?"
        )));
    }
    entry.texts()
}

fn component(entry: &Entry<'_>, section: &Section<'_>) -> Result<PathBuf, ConfigError> {
    let Some(component) = section.get("component") else {
        return Err(
            entry.problem("component is missing: the path of the guest's .wasm or .cwasm file")
        );
    };
    let path = entry.source.directory.join(component.text()?);
    if entry.is_complete() && !path.is_file() {
        let shown = path.display();
        let problem = match path.is_dir() {
            true => format!("{shown} is a folder; name the .wasm or .cwasm file in it"),
            false => {
                format!("there is no file {shown}; build the guest first, or correct the path")
            }
        };
        return Err(component.problem(problem));
    }
    Ok(path)
}

fn isolation(entry: &Entry<'_>) -> Result<Isolation, ConfigError> {
    let expected = "\"fresh\", \"serial\" or { concurrent = 16 }";
    if entry.is_table() {
        let section = entry.section(&["concurrent"])?;
        let concurrent = section
            .get("concurrent")
            .ok_or_else(|| entry.unexpected(expected))?;
        return Ok(Isolation::Concurrent(
            concurrent.number_u32(1..=limits::CONCURRENCY_MAX)?,
        ));
    }
    match entry.as_text() {
        Some("fresh") => Ok(Isolation::Fresh),
        Some("serial") => Ok(Isolation::Serial),
        _ => Err(entry.unexpected(expected)),
    }
}

fn environment(entry: &Entry<'_>) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut environment = BTreeMap::new();
    for variable in entry.children()? {
        let name = variable.key();
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(variable.problem("a variable's name must not be empty, nor contain ="));
        }
        if let Some(value) = variable.secret()? {
            environment.insert(name.to_owned(), value);
        }
    }
    Ok(environment)
}

fn retire(entry: &Entry<'_>, memory_mib: u32) -> Result<Retire, ConfigError> {
    let section = entry.section(&["invocations", "age_s", "memory_mib"])?;
    let mut retire = Retire::default();
    if let Some(entry) = section.get("invocations") {
        retire.invocations = entry.number(1..=u64::MAX)?;
    }
    if let Some(entry) = section.get("age_s") {
        retire.age = Duration::from_secs(entry.number(1..=u64::from(u32::MAX))?);
    }
    if let Some(entry) = section.get("memory_mib") {
        // A mark above the instance's own limit would never be reached.
        retire.memory_mib = Some(entry.number_within(1..=memory_mib, "the function's memory_mib")?);
    }
    Ok(retire)
}

fn response(entry: &Entry<'_>) -> Result<ResponseForm, ConfigError> {
    entry.one_of(&[
        ("buffered", ResponseForm::Buffered),
        ("stream", ResponseForm::Stream),
        ("http-stream", ResponseForm::HttpStream),
    ])
}

fn after_answer(entry: &Entry<'_>) -> Result<AfterAnswer, ConfigError> {
    entry.one_of(&[
        ("finish", AfterAnswer::Finish),
        ("suspend", AfterAnswer::Suspend),
        ("await", AfterAnswer::Await),
    ])
}
