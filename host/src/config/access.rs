//! `password`, `iam` and `tls` of a database: who we are, and who the server must be.
//!
//! Promises: a password is never in here, only where it comes from; paths are absolute.
//!
//! Left to others: reading the source at each connect, and the certificates
//! (`database::connect`).

use std::fmt;
use std::path::PathBuf;

use super::ConfigError;
use super::source::Entry;

/// Where the password comes from, each time a connection is made.
#[derive(Clone, PartialEq, Eq)]
pub enum PasswordSource {
    /// The whole file but for one line break at its end.
    File(PathBuf),
    /// A variable of the host's environment.
    Variable(String),
    /// What a program prints, but for one line break at its end; the program and its arguments.
    Command(Vec<String>),
    /// A token of RDS IAM authentication, signed here with the credentials of the environment.
    Iam {
        /// The region to sign for, where the host's name does not say it.
        region: Option<String>,
    },
}

/// What is said about TLS beside the address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate authorities to trust, in a PEM file, instead of the system's.
    pub ca: Option<PathBuf>,
    /// How far the server's certificate is checked.
    pub verify: Option<Verify>,
}

/// How far a server's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// It is of a trusted issuer, and for this very host.
    Full,
    /// It is of a trusted issuer.
    Ca,
    /// Not at all: anyone in between can read and change everything.
    Nothing,
}

// By hand, because a command's arguments may hold a secret of their own.
impl fmt::Debug for PasswordSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => formatter.debug_tuple("File").field(path).finish(),
            Self::Variable(name) => formatter.debug_tuple("Variable").field(name).finish(),
            Self::Command(words) => formatter
                .debug_tuple("Command")
                .field(&words.first())
                .finish(),
            Self::Iam { region } => formatter
                .debug_struct("Iam")
                .field("region", region)
                .finish(),
        }
    }
}

impl PasswordSource {
    pub(super) fn read(entry: &Entry<'_>) -> Result<Self, ConfigError> {
        let expected = "expected { file = \"...\" }, { variable = \"NAME\" } or { command = [\"...\"] }; \
             a password itself goes into the url";
        // What stands here instead may be the password.
        if !entry.is_table() {
            return Err(entry.problem(expected));
        }
        let section = entry.section(&["file", "variable", "command"])?;
        let given = (
            section.get("file"),
            section.get("variable"),
            section.get("command"),
        );
        match given {
            (Some(file), None, None) => Ok(Self::File(entry.source.directory.join(words(&file)?))),
            (None, Some(variable), None) => Ok(Self::Variable(words(&variable)?.to_owned())),
            (None, None, Some(command)) => {
                let command_words: Vec<String> =
                    command.texts()?.into_iter().map(str::to_owned).collect();
                match command_words.first() {
                    Some(program) if !program.is_empty() => Ok(Self::Command(command_words)),
                    _ => Err(command.problem("expected a program, and its arguments")),
                }
            }
            _ => Err(entry.problem(expected)),
        }
    }

    /// `iam = true` or `iam = { region = "..." }`; none for `false`.
    pub(super) fn read_iam(entry: &Entry<'_>) -> Result<Option<Self>, ConfigError> {
        match entry.as_truth() {
            Some(false) => return Ok(None),
            Some(true) => return Ok(Some(Self::Iam { region: None })),
            None if entry.is_table() => {}
            None => return Err(entry.unexpected("true, false or { region = \"eu-central-1\" }")),
        }
        let region = entry.section(&["region"])?.get("region");
        let region = region.map(|region| words(&region).map(str::to_owned));
        Ok(Some(Self::Iam {
            region: region.transpose()?,
        }))
    }
}

impl TlsConfig {
    pub(super) fn read(entry: &Entry<'_>) -> Result<Self, ConfigError> {
        let section = entry.section(&["ca", "verify"])?;
        let mut tls = Self::default();
        if let Some(ca) = section.get("ca") {
            tls.ca = Some(entry.source.directory.join(words(&ca)?));
        }
        if let Some(verify) = section.get("verify") {
            tls.verify = Some(match verify.as_text() {
                Some("full") => Verify::Full,
                Some("ca") => Verify::Ca,
                Some("nothing") => Verify::Nothing,
                _ => return Err(verify.unexpected("\"full\", \"ca\" or \"nothing\"")),
            });
        }
        Ok(tls)
    }
}

fn words<'a>(entry: &Entry<'a>) -> Result<&'a str, ConfigError> {
    match entry.text()? {
        "" => Err(entry.unexpected("text that is not empty")),
        text => Ok(text),
    }
}
