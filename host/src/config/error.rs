//! What is wrong with the configuration: the place, the thing, what was expected, the next step.
//!
//! Promises: one line; the file and, where there is one, the line in it; never the value of
//! anything that may be a secret (a database's URL, a guest's environment).

use std::fmt;
use std::path::{Path, PathBuf};

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    file: PathBuf,
    line: Option<usize>,
    problem: String,
}

impl ConfigError {
    /// A problem with the file as a whole, or with something outside it.
    pub(super) fn new(file: &Path, problem: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            problem: one_line(&problem.into()),
        }
    }

    /// The same problem, at this line (from 1).
    pub(super) fn at(mut self, line: usize) -> Self {
        self.line = Some(line);
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(formatter, ":{line}")?;
        }
        write!(formatter, ": {}", self.problem)
    }
}

// The parser's own messages and what a user wrote may have line breaks in them.
fn one_line(text: &str) -> String {
    text.split(['\n', '\r'])
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}
