//! The text of `hearth.toml` as sections and entries that know their line.
//!
//! Promises: an unknown key is found before anything else in its section, and answered with the
//! nearest known one; every error names the entry's full path.
//!
//! Left to others: which keys there are and what they mean.

use std::ops::RangeInclusive;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::spelling::nearest;
use super::{ConfigError, Variables};

/// How much of a wrong value an error repeats.
const SHOWN_CHARS_MAX: usize = 40;

/// One configuration file, and what its values may refer to.
pub(super) struct Source<'a> {
    /// The file as the user named it, for errors.
    pub(super) file: &'a Path,
    /// The absolute folder of the file.
    pub(super) directory: &'a Path,
    text: &'a str,
    variables: Variables<'a>,
    /// Whether what it refers to has to be there.
    complete: bool,
}

impl<'a> Source<'a> {
    pub(super) fn new(
        file: &'a Path,
        text: &'a str,
        directory: &'a Path,
        variables: Variables<'a>,
    ) -> Self {
        Self {
            file,
            directory,
            text,
            variables,
            complete: true,
        }
    }

    /// The same for what does not run here: files and variables that it refers to may be missing.
    pub(super) fn aside(&self) -> Self {
        Self {
            complete: false,
            ..*self
        }
    }

    /// The parsed text. The parser's message is kept, the excerpt it prints is not: it may show a
    /// password.
    pub(super) fn document(&self) -> Result<Spanned<DeTable<'a>>, ConfigError> {
        DeTable::parse(self.text).map_err(|error| {
            let key = self.key_given_twice(&error);
            let key = key.map(|key| format!(" {key:?}")).unwrap_or_default();
            let problem = format!("is not valid TOML: {}{key}", error.message());
            let problem = ConfigError::new(self.file, problem);
            match error.span() {
                Some(span) => problem.at(self.line(span.start)),
                None => problem,
            }
        })
    }

    /// The key that stands there twice. Of other errors nothing is shown, and of keys only what needs no quotes.
    fn key_given_twice(&self, error: &toml::de::Error) -> Option<&'a str> {
        let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let key = self.text.get(error.span()?)?;
        let is_key = !key.is_empty() && key.bytes().all(is_bare);
        (error.message() == "duplicate key" && is_key).then_some(key)
    }

    /// A variable of the environment; an empty one counts as not set.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.variables)(name).filter(|value| !value.is_empty())
    }

    fn line(&self, offset: usize) -> usize {
        line_after(&self.text.as_bytes()[..offset.min(self.text.len())])
    }
}

/// The line in which this part of a text ends.
pub(super) fn line_after(before: &[u8]) -> usize {
    1 + before.iter().filter(|&&byte| byte == b'\n').count()
}

/// A table whose keys are all known.
pub(super) struct Section<'a> {
    source: &'a Source<'a>,
    path: String,
    table: &'a DeTable<'a>,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(super) fn root(
        source: &'a Source<'a>,
        table: &'a DeTable<'a>,
        keys: &[&str],
    ) -> Result<Self, ConfigError> {
        Self {
            source,
            path: String::new(),
            table,
        }
        .checked(keys)
    }

    /// The entry of this key, if it is there.
    pub(super) fn get(&self, key: &str) -> Option<Entry<'a>> {
        let (key, value) = self.table.get_key_value(key)?;
        Some(Entry::new(self.source, &self.path, key, value))
    }

    fn checked(self, keys: &[&str]) -> Result<Self, ConfigError> {
        for (key, value) in self.table.iter() {
            let name = key.get_ref().as_ref();
            if keys.contains(&name) {
                continue;
            }
            let place = match self.path.as_str() {
                "" => "at the top level".to_owned(),
                path => format!("in [{path}]"),
            };
            let advice = match nearest(name, keys) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("known are {}", keys.join(", ")),
            };
            let entry = Entry::new(self.source, &self.path, key, value);
            return Err(entry.at_its_line(format!("unknown key {name:?} {place}; {advice}")));
        }
        Ok(self)
    }
}

/// One `key = value`, or one section under its name.
pub(super) struct Entry<'a> {
    /// The file it stands in.
    pub(super) source: &'a Source<'a>,
    path: String,
    key: &'a str,
    line: usize,
    value: &'a DeValue<'a>,
}

impl<'a> Entry<'a> {
    fn new(
        source: &'a Source<'a>,
        parent: &str,
        key: &'a Spanned<std::borrow::Cow<'a, str>>,
        value: &'a Spanned<DeValue<'a>>,
    ) -> Self {
        let name = key.get_ref().as_ref();
        let path = if parent.is_empty() {
            name.to_owned()
        } else {
            format!("{parent}.{name}")
        };
        Self {
            source,
            path,
            key: name,
            line: source.line(key.span().start),
            value: value.get_ref(),
        }
    }

    /// The same entry, read by these rules.
    pub(super) fn by(self, source: &'a Source<'a>) -> Self {
        Self { source, ..self }
    }

    /// Whether what it refers to has to be there.
    pub(super) fn is_complete(&self) -> bool {
        self.source.complete
    }

    /// The last part of its path.
    pub(super) fn key(&self) -> &'a str {
        self.key
    }

    /// An error about this entry.
    pub(super) fn problem(&self, problem: impl std::fmt::Display) -> ConfigError {
        self.at_its_line(format!("{}: {problem}", self.path))
    }

    /// An error that says what was expected and what stands there.
    pub(super) fn unexpected(&self, expected: &str) -> ConfigError {
        self.problem(format!("expected {expected}, got {}", shown(self.value)))
    }

    fn at_its_line(&self, problem: String) -> ConfigError {
        ConfigError::new(self.source.file, problem).at(self.line)
    }

    /// The entry as a table with these keys and no others.
    pub(super) fn section(&self, keys: &[&str]) -> Result<Section<'a>, ConfigError> {
        let table = self.table()?;
        Section {
            source: self.source,
            path: self.path.clone(),
            table,
        }
        .checked(keys)
    }

    /// The entries of a table whose keys are names that the user chose.
    pub(super) fn children(&self) -> Result<Vec<Entry<'a>>, ConfigError> {
        let table = self.table()?;
        Ok(table
            .iter()
            .map(|(key, value)| Entry::new(self.source, &self.path, key, value))
            .collect())
    }

    fn table(&self) -> Result<&'a DeTable<'a>, ConfigError> {
        self.value
            .as_table()
            .ok_or_else(|| self.unexpected("a section"))
    }

    /// Whether the value is a table.
    pub(super) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    /// The entry as true or false, if it is one of them.
    pub(super) fn as_truth(&self) -> Option<bool> {
        self.value.as_bool()
    }

    /// The entry as text, if it is text.
    pub(super) fn as_text(&self) -> Option<&'a str> {
        self.value.as_str()
    }

    /// The entry as text.
    pub(super) fn text(&self) -> Result<&'a str, ConfigError> {
        self.as_text()
            .ok_or_else(|| self.unexpected("text in quotes"))
    }

    /// The entry as one of these words, for what it stands for.
    pub(super) fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, ConfigError> {
        let given = self.as_text();
        if let Some((_, meaning)) = words.iter().find(|(word, _)| Some(*word) == given) {
            return Ok(*meaning);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let quoted: Vec<String> = known.iter().map(|word| format!("{word:?}")).collect();
        let expected = format!("one of {}", quoted.join(", "));
        Err(match given.and_then(|given| nearest(given, &known)) {
            Some(near) => self.unexpected(&format!("{expected} (perhaps {near:?})")),
            None => self.unexpected(&expected),
        })
    }

    /// The entry as a list of texts.
    pub(super) fn texts(&self) -> Result<Vec<&'a str>, ConfigError> {
        let expected = "a list of texts, like [\"one\", \"two\"]";
        let array = self
            .value
            .as_array()
            .ok_or_else(|| self.unexpected(expected))?;
        let texts = array.iter().map(|element| {
            let element = element.get_ref();
            element.as_str().ok_or_else(|| {
                let element = shown(element);
                self.problem(format!(
                    "expected {expected}, got a list with {element} in it"
                ))
            })
        });
        texts.collect()
    }

    /// The entry as a truth.
    pub(super) fn truth(&self) -> Result<bool, ConfigError> {
        self.value
            .as_bool()
            .ok_or_else(|| self.unexpected("true or false"))
    }

    /// The entry as a whole number within this range.
    pub(super) fn number(&self, range: RangeInclusive<u64>) -> Result<u64, ConfigError> {
        let number = self
            .value
            .as_integer()
            .and_then(|number| i128::from_str_radix(number.as_str(), number.radix()).ok());
        let number = number.and_then(|number| u64::try_from(number).ok());
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                self.unexpected(&match *range.end() {
                    u64::MAX => format!("a whole number of at least {}", range.start()),
                    end => format!("a whole number from {} to {end}", range.start()),
                })
            })
    }

    /// As [`Self::number`], for a bound that fits into 32 bits.
    pub(super) fn number_u32(&self, range: RangeInclusive<u32>) -> Result<u32, ConfigError> {
        let number = self.number(u64::from(*range.start())..=u64::from(*range.end()))?;
        Ok(u32::try_from(number).unwrap_or(*range.end()))
    }

    /// As [`Self::number_u32`], where another key gives the bound.
    pub(super) fn number_within(
        &self,
        range: RangeInclusive<u32>,
        bound: &str,
    ) -> Result<u32, ConfigError> {
        self.number_u32(range.clone()).map_err(|_| {
            let (start, end) = (range.start(), range.end());
            self.unexpected(&format!(
                "a whole number from {start} to {end}, which is {bound}"
            ))
        })
    }

    /// Text that may be a secret, given here or as `{ variable = "NAME" }`. Errors show what kind
    /// of value it is and never the value. None where the variable is not set, and may be missing.
    pub(super) fn secret(&self) -> Result<Option<String>, ConfigError> {
        if let Some(text) = self.as_text() {
            return Ok(Some(text.to_owned()));
        }
        let expected = "text in quotes or { variable = \"NAME\" }";
        if !self.is_table() {
            let kind = self.value.type_str();
            return Err(self.problem(format!("expected {expected}, got a value of type {kind}")));
        }
        let section = self.section(&["variable"])?;
        let name = section
            .get("variable")
            .ok_or_else(|| self.unexpected(expected))?
            .text()?;
        match self.source.variable(name) {
            None if self.is_complete() => Err(self.problem(format!(
                "the environment variable {name} is not set, or is empty; set it before starting"
            ))),
            value => Ok(value),
        }
    }
}

fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.chars().count() > SHOWN_CHARS_MAX => {
            format!(
                "{:?}...",
                text.chars().take(SHOWN_CHARS_MAX).collect::<String>()
            )
        }
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(moment) => moment.to_string(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
