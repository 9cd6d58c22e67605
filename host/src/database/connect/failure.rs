//! Why one attempt to connect failed, and whether another one may do better.
//!
//! Promises: the server's own words are kept; no password is in any of them.

use std::time::Duration;
use std::{fmt, io};

use crate::database::error::{Error, Unconnected};
use crate::database::server_error::ServerError;

/// Why an attempt at one endpoint failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nobody answered there.
    #[error("{0}")]
    Unreachable(String),
    /// Nobody listens there, or whoever did went away before the login was done.
    #[error("{0}")]
    Gone(String),
    /// The server refused the login.
    #[error("{0}")]
    Refused(Box<ServerError>),
    /// The server refused a token, and another one that was signed after that.
    #[error(
        "{0}; a second token for `iam`, with credentials that were read anew, was refused as well: grant the role \
         rds_iam, allow the function rds-db:connect to it, and connect by the name and in the region of the server itself"
    )]
    RefusedToken(Box<ServerError>),
    /// What the server said is no login, or not one that can be joined in.
    #[error("{0}")]
    Login(String),
    /// There is no TLS with that server, or not with whom it is.
    #[error("{0}")]
    Tls(String),
    /// The server's certificate is for another name than its host's, in words that have both.
    #[error("{0}")]
    Misnamed(String),
    /// The password cannot be had.
    #[error("{0}")]
    Secret(String),
    /// The server is not of the kind that was asked for.
    #[error("{0}")]
    Unsuitable(&'static str),
}

impl Failure {
    /// Whether another host may do better. A login that a server refuses is refused by its
    /// standbys too, and trying them all may lock an account.
    pub(super) fn goes_on(&self) -> bool {
        match self {
            Self::Refused(error) => {
                let classes = ["08", "53", "57", "58", "XX"];
                classes.iter().any(|class| error.code.starts_with(class))
            }
            Self::RefusedToken(_) | Self::Secret(_) => false,
            _ => true,
        }
    }

    /// What became of a stream on which there is no login yet.
    pub(super) fn of_stream(error: &io::Error, what: &str) -> Self {
        use io::ErrorKind as Kind;
        let text = format!("{what}{error}");
        match error.kind() {
            Kind::ConnectionRefused
            | Kind::NotFound
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::BrokenPipe
            | Kind::UnexpectedEof => Self::Gone(text),
            _ => Self::Unreachable(text),
        }
    }

    /// Why the attempt at this place failed. These names are not for the guest.
    pub(super) fn at(&self, place: &dyn fmt::Display, names: &[&str]) -> Unconnected {
        let told = match self {
            Self::Secret(_) => "the password cannot be had; the host's log says why".to_owned(),
            Self::Misnamed(_) => {
                "the server's certificate is not for the name of its host; the host's log has both names"
                    .to_owned()
            }
            // Of whoever logs in, of the database, and in what it says of pg_hba.conf of the address.
            Self::Refused(_) | Self::RefusedToken(_) => without_names(&self.to_string(), names),
            failure => failure.to_string(),
        };
        Unconnected {
            told,
            log: format!("{place}: {self}"),
        }
    }

    /// Whether the same server may do better later.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Refused(error) if error.is_passing())
    }

    /// Whether it may be that another server is about to take its place.
    fn is_failing_over(&self) -> bool {
        matches!(self, Self::Gone(_) | Self::Unsuitable(_))
    }
}

/// What a server says, without the names that it quotes, in whichever language it speaks, and without these, which a
/// pooler does not quote.
fn without_names(text: &str, names: &[&str]) -> String {
    let text = without_quoted(text);
    let is_part = |c: char| !(c.is_alphanumeric() || "_-.".contains(c));
    let words = text.split_inclusive(is_part).map(|part| {
        let word = part.trim_end_matches(is_part).trim_end_matches('.');
        match names.contains(&word) {
            true => format!("…{}", &part[word.len()..]),
            false => part.to_owned(),
        }
    });
    words.collect()
}

fn without_quoted(text: &str) -> String {
    let mut told = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        told.push(character);
        let ends = match character {
            '"' => "\"",
            '«' => "»",
            '»' => "«",
            '„' => "“”",
            '“' => "”",
            _ => continue,
        };
        told.push('…');
        told.extend(rest.by_ref().find(|character| ends.contains(*character)));
    }
    told
}

/// What became of each endpoint that was tried, by name.
#[derive(Debug, Default)]
pub(super) struct Failures(pub(super) Vec<(String, Failure)>);

impl Failures {
    /// Whether a later attempt may do better, without anybody doing anything about it, given whether one
    /// server may be about to take another one's place. Where the last host refused the login, which ended
    /// the round, another round would only be refused as well.
    pub(super) fn are_passing(&self, failing_over: bool) -> bool {
        let goes_on = self.0.last().is_some_and(|(_, last)| last.goes_on());
        let passes =
            |failure: &Failure| failure.is_passing() || (failing_over && failure.is_failing_over());
        goes_on && self.0.iter().any(|(_, failure)| passes(failure))
    }

    /// The error for whoever wanted the connection, after this time. These names are not for the guest.
    pub(super) fn into_error(self, waited: Duration, names: &[&str]) -> Error {
        let unreachable = |(_, failure): &(String, Failure)| {
            matches!(failure, Failure::Unreachable(_) | Failure::Gone(_))
        };
        let what = match self.0.iter().all(unreachable) {
            true => "cannot reach the database",
            false => "cannot log in to the database",
        };
        let full = self.0.iter().any(
            |(_, failure)| matches!(failure, Failure::Refused(error) if error.code == "53300"),
        );
        let advice = match full {
            true => format!(
                "; it took no more connections for {:.1} s: raise `max_connections` on the server \
                 (or the limit of the role or the database), lower `pool_max`, or put a pooler between",
                waited.as_secs_f64()
            ),
            false => String::new(),
        };
        let each = self
            .0
            .iter()
            .map(|(place, failure)| failure.at(place, names));
        let (mut told, log): (Vec<String>, Vec<String>) =
            each.map(|reason| (reason.told, reason.log)).unzip();
        // Without their names, several hosts have the same to say.
        told.dedup();
        let text = |reasons: Vec<String>| format!("{what}: {}{advice}", reasons.join("; "));
        Error::Connect(Box::new(Unconnected {
            told: text(told),
            log: text(log),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str) -> Failure {
        Failure::Refused(Box::new(ServerError {
            code: code.to_owned(),
            ..ServerError::default()
        }))
    }

    fn failures(list: Vec<Failure>) -> Failures {
        Failures(
            list.into_iter()
                .map(|failure| ("h".to_owned(), failure))
                .collect(),
        )
    }

    #[test]
    fn a_refused_login_ends_what_another_host_would_have_repeated() {
        let secret = || Failure::Secret("none".to_owned());
        for (list, expected) in [
            (vec![refused("57P03")], true),
            (vec![refused("53300"), refused("57P03")], true),
            (
                vec![refused("53300"), Failure::Unreachable(String::new())],
                true,
            ),
            (vec![refused("57P03"), refused("28P01")], false),
            (vec![refused("53300"), refused("3D000")], false),
            (vec![refused("57P03"), secret()], false),
            (vec![Failure::Unreachable(String::new())], false),
            (vec![], false),
        ] {
            let list = failures(list);
            assert_eq!(list.are_passing(false), expected, "{list:?}");
        }
    }

    #[test]
    fn a_guest_is_not_told_the_names_that_a_server_quotes() {
        for (text, told) in [
            (
                r#"no pg_hba.conf entry for host "10.0.0.5", user "shop", database "eu", no encryption"#,
                r#"no pg_hba.conf entry for host "…", user "…", database "…", no encryption"#,
            ),
            (
                "Passwort-Authentifizierung für Benutzer »shop« fehlgeschlagen",
                "Passwort-Authentifizierung für Benutzer »…« fehlgeschlagen",
            ),
            ("Benutzer „shop“, «eu»", "Benutzer „…“, «…»"),
            ("cut off: \"shop", "cut off: \"…"),
            ("no such user: shop", "no such user: …"),
            ("user=shop at shop@10.0.0.5:5432", "user=… at …@…:5432"),
            (
                "no credentials for the role shop. Shopping",
                "no credentials for the role …. Shopping",
            ),
            (
                "sorry, too many clients already",
                "sorry, too many clients already",
            ),
        ] {
            assert_eq!(without_names(text, &["shop", "10.0.0.5"]), told);
        }
    }

    #[test]
    fn what_may_be_a_failover_passes_where_one_may_be() {
        let gone = || Failure::Gone(String::new());
        for (list, expected) in [
            (vec![gone()], true),
            (vec![Failure::Unsuitable("a standby"), gone()], true),
            (vec![gone(), Failure::Unreachable(String::new())], true),
            (vec![Failure::Unsuitable("a standby")], true),
            (vec![gone(), refused("28P01")], false),
            (vec![Failure::Unreachable(String::new())], false),
            (vec![Failure::Login(String::new())], false),
        ] {
            let list = failures(list);
            assert_eq!(list.are_passing(true), expected, "{list:?}");
            assert!(!list.are_passing(false), "{list:?}");
        }
    }
}
