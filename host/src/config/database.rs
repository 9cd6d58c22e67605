//! `[database.NAME]`: where a database is, and how it is used.
//!
//! Promises: a URL that is given can be parsed; it is in no error and no `Debug` output. Left to
//! others: the local host's own cluster, where `default` has no URL.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::access::{PasswordSource, TlsConfig};
use super::address::{AddressParts, AddressProblem};
use super::source::{Entry, Section, Source};
use super::{ConfigError, DEFAULT_DATABASE, checked_name};
use crate::limits;

const KEYS: &[&str] = &[
    "url",
    "password",
    "iam",
    "tls",
    "pool_max",
    "warm",
    "lifetime_s",
    "connect_timeout_ms",
    "statements_max",
    "prepare",
    "reset",
    "setup",
];

/// One database.
#[derive(Clone)]
pub struct DatabaseConfig {
    /// Its name, by which guests open it.
    pub name: String,
    /// Its address with user and password; `None` when it was not given, which only `default` may.
    pub url: Option<String>,
    /// Where the password comes from; `None` when the address has it, or there is none.
    pub password: Option<PasswordSource>,
    /// What is said about TLS beside the address; `None` when nothing is.
    pub tls: Option<TlsConfig>,
    /// The folder that paths in the address are relative to: that of the configuration.
    pub directory: PathBuf,
    /// The most connections to it at a time.
    pub pool_max: u32,
    /// Whether that was said.
    pub pool_max_given: bool,
    /// The connections that are opened before the first event on Lambda.
    pub warm: u32,
    /// How long a connection may serve, by the wall clock.
    pub lifetime: Duration,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// Prepared statements kept per connection.
    pub statements_max: u32,
    /// Whether statements are prepared under a name.
    pub prepare: Prepare,
    /// When a connection is reset between two invocations.
    pub reset: Reset,
    /// SQL files that the local host runs at its start, in this order; absolute paths.
    pub setup: Vec<PathBuf>,
}

/// Whether statements are prepared under a name, once per connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prepare {
    /// Yes: a repeated statement is planned once.
    Always,
    /// No: each execution carries its text, and nothing of the session is relied on between two
    /// transactions. For poolers that give a server connection to another client after each.
    Never,
}

/// When a connection is reset between two invocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// When the invocation may have left something in the session.
    Auto,
    /// After every invocation.
    Always,
}

// By hand, because the URL holds a password.
impl fmt::Debug for DatabaseConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("DatabaseConfig")
            .field("name", &self.name)
            .field("url", &self.url.as_ref().map(|_| "(not shown)"))
            .field("password", &self.password)
            .field("tls", &self.tls)
            .field("pool_max", &self.pool_max)
            .field("warm", &self.warm)
            .field("lifetime", &self.lifetime)
            .field("connect_timeout", &self.connect_timeout)
            .field("statements_max", &self.statements_max)
            .field("prepare", &self.prepare)
            .field("reset", &self.reset)
            .field("setup", &self.setup)
            .finish()
    }
}

impl DatabaseConfig {
    /// A database at this address, and everything else by default.
    pub fn at(url: String) -> Self {
        Self {
            url: Some(url),
            ..Self::named(DEFAULT_DATABASE.to_owned(), Path::new(""))
        }
    }

    /// Lets so many invocations at a time have a connection each, where nothing is said of the pool.
    pub fn make_room(&mut self, invocations: u32) {
        if !self.pool_max_given {
            self.pool_max = self.pool_max.max(invocations).min(limits::POOL_MAX);
        }
    }

    fn named(name: String, directory: &Path) -> Self {
        Self {
            name,
            url: None,
            password: None,
            tls: None,
            directory: directory.to_owned(),
            pool_max: limits::POOL_DEFAULT,
            pool_max_given: false,
            warm: limits::WARM_DEFAULT,
            lifetime: limits::LIFETIME_DEFAULT,
            connect_timeout: limits::CONNECT_TIMEOUT_DEFAULT,
            statements_max: limits::STATEMENTS_DEFAULT,
            prepare: Prepare::Always,
            reset: Reset::Auto,
            setup: Vec::new(),
        }
    }

    /// The default database, where the file has no section for it.
    pub(super) fn undefined_default(source: &Source<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            url: default_url(source)?,
            ..Self::named(DEFAULT_DATABASE.to_owned(), source.directory)
        })
    }

    pub(super) fn read(entry: &Entry<'_>) -> Result<Self, ConfigError> {
        let section = entry.section(KEYS)?;
        let mut database = Self::named(checked_name(entry)?, entry.source.directory);
        database.url = match section.get("url") {
            Some(url) => checked_url(&url)?,
            None if database.name == DEFAULT_DATABASE => default_url(entry.source)?,
            None => {
                return Err(entry.problem(
                    "url is missing: postgres://user:password@host:port/database, or { variable = \"NAME\" }",
                ));
            }
        };
        database.read_access(&section)?;
        if let Some(entry) = section.get("pool_max") {
            database.pool_max = entry.number_u32(1..=limits::POOL_MAX)?;
            database.pool_max_given = true;
        }
        if let Some(entry) = section.get("warm") {
            // More would never be open at a time.
            database.warm = entry.number_within(0..=database.pool_max, "pool_max")?;
        }
        if let Some(entry) = section.get("lifetime_s") {
            database.lifetime = Duration::from_secs(entry.number(1..=u64::from(u32::MAX))?);
        }
        if let Some(entry) = section.get("connect_timeout_ms") {
            let timeout_ms_max = limits::TIMEOUT_MAX.as_millis() as u64;
            database.connect_timeout = Duration::from_millis(entry.number(1..=timeout_ms_max)?);
        }
        if let Some(entry) = section.get("statements_max") {
            database.statements_max = entry.number_u32(1..=limits::STATEMENTS_MAX)?;
        }
        if let Some(entry) = section.get("prepare") {
            database.prepare = match entry.as_text() {
                Some("always") => Prepare::Always,
                Some("never") => Prepare::Never,
                _ => return Err(entry.unexpected("\"always\" or \"never\"")),
            };
        }
        if let Some(entry) = section.get("reset") {
            database.reset = match entry.as_text() {
                Some("auto") => Reset::Auto,
                Some("always") => Reset::Always,
                _ => return Err(entry.unexpected("\"auto\" or \"always\"")),
            };
        }
        if let Some(setup) = section.get("setup") {
            let files = setup.texts()?;
            database.setup = files
                .iter()
                .map(|file| entry.source.directory.join(file))
                .collect();
        }
        Ok(database)
    }
}

impl DatabaseConfig {
    fn read_access(&mut self, section: &Section<'_>) -> Result<(), ConfigError> {
        if let Some(tls) = section.get("tls") {
            self.tls = Some(TlsConfig::read(&tls)?);
        }
        if let Some(iam) = section.get("iam") {
            self.password = PasswordSource::read_iam(&iam)?;
        }
        if let Some(password) = section.get("password") {
            if self.password.is_some() {
                return Err(password.problem("with `iam` there is no password; leave one out"));
            }
            self.password = Some(PasswordSource::read(&password)?);
        }
        let parts = self
            .url
            .as_deref()
            .and_then(|url| AddressParts::parse(url).ok());
        if let Some(source) = section.get("password").or_else(|| section.get("iam"))
            && self.password.is_some()
            && parts.is_some_and(|parts| parts.password.is_some())
        {
            return Err(source.problem("the url has a password already; take it out there"));
        }
        Ok(())
    }
}

fn checked_url(entry: &Entry<'_>) -> Result<Option<String>, ConfigError> {
    let Some(url) = entry.secret()? else {
        return Ok(None);
    };
    match AddressParts::parse(&url) {
        Ok(_) => Ok(Some(url)),
        Err(problem) => Err(entry.problem(no_address(&problem))),
    }
}

fn default_url(source: &Source<'_>) -> Result<Option<String>, ConfigError> {
    let Some(url) = source.variable("DATABASE_URL") else {
        return Ok(None);
    };
    match AddressParts::parse(&url) {
        Ok(_) => Ok(Some(url)),
        Err(problem) => Err(ConfigError::new(
            source.file,
            format!(
                "the environment variable DATABASE_URL {}",
                no_address(&problem)
            ),
        )),
    }
}

fn no_address(problem: &AddressProblem) -> String {
    format!(
        "is no PostgreSQL address (it is not shown, as it may hold a password): {problem}; \
         expected postgres://user:password@host:port/database, with special characters percent-encoded"
    )
}
