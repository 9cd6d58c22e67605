//! `[log]`: what is logged, and how.
//!
//! Promises: Lambda's own settings, which arrive as variables, win over the file; where neither says how a
//! line is written, it is JSON on Lambda Managed Instances, which take no other, and text elsewhere.

use tracing::Level;

use super::source::{Entry, Source};
use super::{ConfigError, Variables, lambda, spelling};
use crate::limits;

/// What is logged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// How a line is written.
    pub format: LogFormat,
    /// The least important level that is written.
    pub level: LogLevel,
}

/// How important a line is, the most important first: Lambda's levels, of which `tracing` lacks the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// What ends the environment, or what a guest calls so.
    Fatal,
    /// What has failed.
    Error,
    /// What may be about to fail.
    Warn,
    /// What is worth knowing.
    Info,
    /// What helps to find an error.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The level of this name, in whatever letters.
    pub fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "trace" => Some(Self::Trace),
            "debug" => Some(Self::Debug),
            "info" => Some(Self::Info),
            "warn" => Some(Self::Warn),
            "error" => Some(Self::Error),
            "fatal" => Some(Self::Fatal),
            _ => None,
        }
    }

    /// Its name, in capitals.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fatal => "FATAL",
            Self::Error => "ERROR",
            Self::Warn => "WARN",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
            Self::Trace => "TRACE",
        }
    }
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::ERROR => Self::Error,
            Level::WARN => Self::Warn,
            Level::INFO => Self::Info,
            Level::DEBUG => Self::Debug,
            Level::TRACE => Self::Trace,
        }
    }
}

/// Where the figures of invocations go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsConfig {
    /// The namespace under which CloudWatch shows them.
    pub namespace: String,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// As Lambda documents it for applications: one object per line.
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: LogLevel::Info,
        }
    }
}

const KEYS: &[&str] = &["format", "level", "metrics", "metrics_namespace"];
/// The variables that win over the file, as Lambda's own do.
const METRICS_VARIABLE: &str = "HEARTH_METRICS";
const NAMESPACE_VARIABLE: &str = "HEARTH_METRICS_NAMESPACE";
const FORMATS: &[&str] = &["text", "json"];
const METRICS: &[&str] = &["off", "emf"];
const NAMESPACE: &str = "Hearth";
const LEVELS: &[&str] = &["trace", "debug", "info", "warn", "error", "fatal"];

impl LogConfig {
    pub(super) fn read(
        source: &Source<'_>,
        entry: Option<&Entry<'_>>,
    ) -> Result<Self, ConfigError> {
        let mut log = Self::unsaid(&|name| source.variable(name));
        if let Some(entry) = entry {
            let section = entry.section(KEYS)?;
            if let Some(entry) = section.get("format") {
                log.format = format(entry.text()?).ok_or_else(|| unknown(&entry, FORMATS))?;
            }
            if let Some(entry) = section.get("level") {
                log.level =
                    LogLevel::named(entry.text()?).ok_or_else(|| unknown(&entry, LEVELS))?;
            }
        }
        log.obey(&|name| source.variable(name));
        Ok(log)
    }

    /// What Lambda's own settings say, and the defaults where they say nothing.
    pub fn of_variables(variables: Variables<'_>) -> Self {
        let mut log = Self::unsaid(variables);
        log.obey(variables);
        log
    }

    /// What holds where nobody says anything.
    fn unsaid(variables: Variables<'_>) -> Self {
        let format = match lambda::is_managed(variables) {
            true => LogFormat::Json,
            false => LogFormat::Text,
        };
        Self {
            format,
            ..Self::default()
        }
    }

    fn obey(&mut self, variable: Variables<'_>) {
        // Wrong values of Lambda's own variables cannot be the user's mistake there, and must not
        // keep a function from starting.
        if let Some(format) = variable("AWS_LAMBDA_LOG_FORMAT")
            .as_deref()
            .and_then(format)
        {
            self.format = format;
        }
        if let Some(level) = variable("AWS_LAMBDA_LOG_LEVEL")
            .as_deref()
            .and_then(LogLevel::named)
        {
            self.level = level;
        }
    }
}

impl MetricsConfig {
    /// None where they are not asked for.
    pub(super) fn read(
        source: &Source<'_>,
        entry: Option<&Entry<'_>>,
    ) -> Result<Option<Self>, ConfigError> {
        let (mut on, mut name) = (false, NAMESPACE.to_owned());
        if let Some(entry) = entry {
            let section = entry.section(KEYS)?;
            if let Some(entry) = section.get("metrics") {
                on = metrics(entry.text()?).ok_or_else(|| unknown(&entry, METRICS))?;
            }
            if let Some(entry) = section.get("metrics_namespace") {
                name = entry.text()?.to_owned();
                namespace(&name).map_err(|problem| entry.unexpected(problem))?;
            }
        }
        let wrong = |variable, problem: &str, given: &str| {
            let problem = format!("the variable {variable}: expected {problem}, got {given:?}");
            ConfigError::new(source.file, problem)
        };
        if let Some(word) = source.variable(METRICS_VARIABLE) {
            let expected = format!("one of {}", METRICS.join(", "));
            on = metrics(&word).ok_or_else(|| wrong(METRICS_VARIABLE, &expected, &word))?;
        }
        if let Some(given) = source.variable(NAMESPACE_VARIABLE) {
            namespace(&given).map_err(|problem| wrong(NAMESPACE_VARIABLE, problem, &given))?;
            name = given;
        }
        Ok(on.then_some(Self { namespace: name }))
    }
}

fn metrics(word: &str) -> Option<bool> {
    match word.to_ascii_lowercase().as_str() {
        "off" => Some(false),
        "emf" => Some(true),
        _ => None,
    }
}

/// What is expected of a namespace, unless it is so.
fn namespace(name: &str) -> Result<(), &'static str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_/# ".contains(c);
    match name {
        "" => Err("a name"),
        name if name.len() > limits::NAMESPACE_BYTES_MAX || !name.chars().all(is_plain) => {
            Err("at most 255 letters, digits, spaces and . - _ / #")
        }
        name if name.starts_with("AWS/") => {
            Err("a name that does not begin with AWS/, which is Amazon's")
        }
        _ => Ok(()),
    }
}

fn format(word: &str) -> Option<LogFormat> {
    match word.to_ascii_lowercase().as_str() {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    }
}

fn unknown(entry: &Entry<'_>, words: &[&str]) -> ConfigError {
    let expected = format!("one of {}", words.join(", "));
    match entry
        .as_text()
        .and_then(|given| spelling::nearest(given, words))
    {
        Some(near) => entry.unexpected(&format!("{expected} (perhaps {near:?})")),
        None => entry.unexpected(&expected),
    }
}
