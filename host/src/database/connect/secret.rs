//! The password, from wherever it is kept.
//!
//! Promises:
//! - a file, a variable and a token are read or made anew for each connection; what a command
//!   printed is kept, and the command run again once the server refuses it, so that a rotation
//!   costs no invocation;
//! - what the server refuses is read or made once more, and tried once more if that may help;
//! - no secret is in an error or in a `Debug` output.
//!
//! Left to others: when a command runs ([`super::password_command`]).

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use tokio::io::AsyncReadExt;
use tokio::time::timeout_at;

use super::failure::Failure;
use super::password_command::PasswordCommand;
use super::{iam, passfile};
use crate::config::address::Host;
use crate::config::{self, PasswordSource};
use crate::limits;

/// A password's bytes.
pub(super) type Password = Vec<u8>;

/// Where the password of one database comes from.
pub(super) enum Secret {
    /// The address, which may have none.
    Given(Option<Password>),
    /// A file.
    File(PathBuf),
    /// The line of a file that is for this database.
    LookedUp { path: PathBuf, database: String },
    /// A variable of the environment.
    Variable(String),
    /// What a program prints.
    Printed(PasswordCommand),
    /// A token for this region, signed with what these variables hold or lead to.
    Iam {
        region: Option<String>,
        variable: fn(&str) -> Option<String>,
    },
}

impl Secret {
    pub(super) fn new(given: Option<Password>, source: Option<PasswordSource>) -> Self {
        match source {
            None => Self::Given(given),
            Some(PasswordSource::File(path)) => Self::File(path),
            Some(PasswordSource::Variable(name)) => Self::Variable(name),
            Some(PasswordSource::Command(words)) => Self::Printed(PasswordCommand::new(words)),
            Some(PasswordSource::Iam { region }) => Self::Iam {
                region,
                variable: config::variable,
            },
        }
    }

    /// The password for this user at this host.
    pub(super) async fn read(
        &self,
        host: &Host,
        user: &str,
        until: Instant,
    ) -> Result<Option<Password>, Failure> {
        match self {
            Self::Given(password) => Ok(password.clone()),
            Self::File(path) => file(path).await.map(Some),
            Self::LookedUp { path, database } => {
                let bytes_max = limits::PASSFILE_BYTES_MAX;
                let lines = contents(path, bytes_max).await?;
                if lines.len() > bytes_max {
                    return Err(Failure::Secret(format!(
                        "{} has more than {bytes_max} bytes",
                        named(path)
                    )));
                }
                Ok(passfile::password(&lines, host, database, user))
            }
            Self::Variable(name) => variable(name).map(Some),
            Self::Iam { region, variable } => {
                let signing = async {
                    let credentials = iam::credentials(variable).await?;
                    let (region, now) = (region.as_deref(), SystemTime::now());
                    iam::token(host, user, region, credentials, variable, now)
                };
                // Only what is fetched can be late.
                let late = "the credentials for `iam` at AWS_CONTAINER_CREDENTIALS_FULL_URI did not come in time";
                let signed = timeout_at(until.into(), signing).await;
                let token = signed
                    .unwrap_or_else(|_| Err(late.to_owned()))
                    .map_err(Failure::Secret)?;
                Ok(Some(token.into_bytes()))
            }
            Self::Printed(command) => command.password(until).await.map(Some),
        }
    }

    /// The password that has taken the place of one that the server refused; none if it is the
    /// same one still: trying that again could lock the account. A token is signed anew in any case,
    /// with credentials that are read anew: it locks nothing, and a freeze since the first was signed
    /// may have been longer than a token lasts.
    pub(super) async fn read_again(
        &self,
        refused: Option<&Password>,
        host: &Host,
        user: &str,
        until: Instant,
    ) -> Result<Option<Password>, Failure> {
        let fresh = match self {
            Self::Given(_) => return Ok(None),
            Self::Iam { .. } => return self.read(host, user, until).await,
            Self::File(_) | Self::LookedUp { .. } | Self::Variable(_) => {
                self.read(host, user, until).await?
            }
            Self::Printed(command) => Some(command.password_after(refused, until).await?),
        };
        Ok(fresh.filter(|fresh| Some(fresh) != refused))
    }

    /// Whether others may put another one into its place while this runs.
    pub(super) fn is_kept_elsewhere(&self) -> bool {
        matches!(
            self,
            Self::File(_) | Self::LookedUp { .. } | Self::Printed(_)
        )
    }

    /// What a refusal means of what [`Self::read_again`] gave.
    pub(super) fn explain(&self, failure: Failure) -> Failure {
        match (self, failure) {
            (Self::Iam { .. }, Failure::Refused(error)) if error.is_refused_login() => {
                Failure::RefusedToken(error)
            }
            (_, failure) => failure,
        }
    }
}

fn variable(name: &str) -> Result<Password, Failure> {
    let what = format!("the environment variable {name}");
    match std::env::var_os(name) {
        Some(value) => checked(value.into_encoded_bytes(), &what),
        None => Err(Failure::Secret(format!(
            "{what}, which is to hold the password, is not set"
        ))),
    }
}

async fn file(path: &Path) -> Result<Password, Failure> {
    checked(
        contents(path, limits::PASSWORD_BYTES_MAX).await?,
        &named(path),
    )
}

fn named(path: &Path) -> String {
    format!("the password file {}", path.display())
}

/// What is in a file, or one byte more than what is taken of one.
async fn contents(path: &Path, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let what = named(path);
    let unreadable = |error| Failure::Secret(format!("{what} cannot be read: {error}"));
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(bytes_max as u64 + 1)
        .read_to_end(&mut bytes)
        .await
        .map_err(unreadable)?;
    Ok(bytes)
}

fn too_long(what: &str) -> Failure {
    Failure::Secret(format!(
        "{what} gives more than {} bytes, which is no password",
        limits::PASSWORD_BYTES_MAX
    ))
}

/// The password without the line break that editors and programs end their output with.
pub(super) fn checked(mut bytes: Vec<u8>, what: &str) -> Result<Password, Failure> {
    if bytes.len() > limits::PASSWORD_BYTES_MAX {
        return Err(too_long(what));
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    if bytes.is_empty() || bytes.contains(&0) {
        return Err(Failure::Secret(format!(
            "{what} gives no password: it is empty, or has a zero byte in it"
        )));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_break_at_the_end_is_no_part_of_a_password() {
        for (given, expected) in [
            ("p", "p"),
            ("p\n", "p"),
            ("p\r\n", "p"),
            ("p\n\n", "p\n"),
            (" p \n", " p "),
        ] {
            assert_eq!(
                checked(given.into(), "x").unwrap(),
                expected.as_bytes(),
                "{given:?}"
            );
        }
        let long = vec![b'p'; limits::PASSWORD_BYTES_MAX + 1];
        for bad in [vec![], b"\n".to_vec(), b"a\0b".to_vec(), long] {
            assert!(checked(bad, "x").is_err());
        }
    }

    fn soon() -> Instant {
        Instant::now() + std::time::Duration::from_secs(60)
    }

    fn host() -> Host {
        Host {
            name: config::address::HostName::Name("db.test".to_owned()),
            port: 5432,
            address: None,
        }
    }

    #[tokio::test]
    async fn a_refused_password_is_tried_again_only_if_it_is_another_one() {
        let path = std::env::temp_dir().join(format!("hearth-password-{}", std::process::id()));
        std::fs::write(&path, "new").unwrap();
        let file = || Some(PasswordSource::File(path.clone()));
        let words = ["echo", "new"].map(str::to_owned).to_vec();
        let command = || Some(PasswordSource::Command(words.clone()));
        for (source, refused, expected) in [
            (file(), "old", Some("new")),
            (file(), "new", None),
            (command(), "old", Some("new")),
            (command(), "new", None),
            (None, "old", None),
        ] {
            let secret = Secret::new(Some(b"new".to_vec()), source);
            let refused = Some(&refused.as_bytes().to_vec());
            secret.read(&host(), "u", soon()).await.unwrap();
            let again = secret.read_again(refused, &host(), "u", soon()).await;
            assert_eq!(again.unwrap(), expected.map(Password::from));
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[tokio::test]
    async fn a_refused_token_is_signed_again_with_credentials_that_are_read_again() {
        use std::sync::atomic::{AtomicU32, Ordering};
        static READ: AtomicU32 = AtomicU32::new(0);
        let secret = Secret::Iam {
            region: Some("eu-central-1".to_owned()),
            variable: |name| match name {
                "AWS_ACCESS_KEY_ID" => Some(format!("key{}", READ.fetch_add(1, Ordering::SeqCst))),
                "AWS_SECRET_ACCESS_KEY" => Some("secret".to_owned()),
                _ => None,
            },
        };
        let key = |token: &Option<Password>| {
            let token = String::from_utf8(token.clone().unwrap()).unwrap();
            let (_, rest) = token.split_once("X-Amz-Credential=").unwrap();
            rest.split_once('%').unwrap().0.to_owned()
        };
        let first = secret.read(&host(), "u", soon()).await.unwrap();
        let again = secret
            .read_again(first.as_ref(), &host(), "u", soon())
            .await;
        assert_ne!(key(&first), key(&again.unwrap()));
    }

    #[tokio::test]
    async fn a_refused_token_is_signed_again_though_nothing_has_changed() {
        let secret = Secret::Iam {
            region: Some("eu-central-1".to_owned()),
            variable: |name| name.starts_with("AWS_").then(|| "the same".to_owned()),
        };
        let first = secret.read(&host(), "u", soon()).await.unwrap();
        let again = secret
            .read_again(first.as_ref(), &host(), "u", soon())
            .await;
        assert!(again.unwrap().is_some());
    }

    #[test]
    fn a_second_refusal_is_explained_where_it_was_a_tokens() {
        use super::super::super::server_error::ServerError;
        let refused = |code: &str| {
            Failure::Refused(Box::new(ServerError {
                code: code.to_owned(),
                ..ServerError::default()
            }))
        };
        let iam = Secret::new(None, Some(PasswordSource::Iam { region: None }));
        let given = Secret::new(None, None);
        for (secret, code, expected) in [
            (&iam, "28000", true),
            (&iam, "28P01", true),
            (&iam, "53300", false),
            (&given, "28P01", false),
        ] {
            let failure = secret.explain(refused(code));
            let is_explained = matches!(failure, Failure::RefusedToken(_));
            assert_eq!(is_explained, expected, "{code}");
            assert_eq!(failure.goes_on(), code == "53300", "{code}");
            assert_eq!(failure.to_string().contains("rds_iam"), expected);
        }
    }
}
