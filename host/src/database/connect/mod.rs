//! From a database's configuration to a stream on which the login is done.
//!
//! Promises:
//! - each host is tried in turn, and each of its addresses, as they resolve at that moment; a
//!   silent one gets its share of the time, not all of it;
//! - a server that takes no connection now (it starts up, or has as many as it takes) is asked
//!   again within the time there is, with growing pauses that no two hosts share;
//! - where another server may take the place of one that is gone, or of the wanted kind, it is given a
//!   moment for that ([`limits::FAILOVER_PATIENCE`]);
//! - no password and no token is in an error, in the log, or in a `Debug` output;
//! - a server is not believed more than it proves: what it sends is bounded, and garbage is an error.
//!
//! Left to others: what is said after the login ([`super::connection`]), and who needs a
//! connection when ([`super::pool`]).

mod cancel;
mod certificate;
mod endpoints;
mod failure;
mod iam;
mod local;
mod login;
mod passfile;
mod password_command;
mod pauses;
mod progress;
mod search;
mod secret;
mod server_kind;
mod single_flight;
mod stream;
mod tls;
mod verifier;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;
use tokio::time::timeout_at;

pub use cancel::Backend;
pub use failure::Failure;
pub use pauses::Pauses;
pub use progress::{During, Progress, asking, watched};
pub use stream::Stream;

use super::error::{Error, Result, Unconnected};
use crate::config::address::{AddressParts, HostName, Target};
use crate::config::{DatabaseConfig, Prepare, variable};
use crate::fault::{Fault, Kind};
use crate::limits;
use endpoints::Endpoints;
use failure::Failures;
use search::Search;
use secret::Secret;
use server_kind::Belief;
use tls::Tls;

/// Where a database is and how to log in there: everything but the moment.
pub struct Address {
    parts: AddressParts,
    user: String,
    secret: Secret,
    tls: Tls,
    endpoints: Endpoints,
    /// How long connecting may take, all attempts together.
    timeout: Duration,
    belief: Belief,
    /// Whether a login was ever let in.
    accepted: AtomicBool,
}

/// That a backslash in a plain string is one, which a role or a database can have changed.
const PLAIN_STRINGS: &str = "standard_conforming_strings";

/// A connection on which the login is done, and nothing else yet.
#[derive(Debug)]
pub struct Established {
    /// When the attempt began of which it came, by the wall clock.
    pub begun: SystemTime,
    /// The stream.
    pub stream: Stream,
    /// Bytes that were read beyond the login.
    pub received: BytesMut,
    /// How to cancel what will be executed on it.
    pub backend: Backend,
    /// The settings that the server told, such as `server_version`.
    pub parameters: BTreeMap<String, String>,
}

impl Address {
    /// Reads a configuration. Connects to nothing yet.
    ///
    /// # Errors
    /// If it has no address, or one that cannot be used, or if a file with certificates that it
    /// names cannot; without repeating any of the address.
    pub fn read(config: &DatabaseConfig) -> std::result::Result<Self, Fault> {
        let name = &config.name;
        let invalid = |message: String| Fault::new(Kind::InvalidConfiguration, message);
        let Some(url) = &config.url else {
            return Err(invalid(format!(
                "the database {name:?} has no address: give it a `url` in [database.{name}]{}",
                if name == "default" {
                    ", or set DATABASE_URL"
                } else {
                    ""
                }
            )));
        };
        let unusable = |problem: &dyn fmt::Display| {
            invalid(format!(
                "the address of the database {name:?} cannot be used: {problem}"
            ))
        };
        let parts = AddressParts::parse(url).map_err(|problem| unusable(&problem))?;
        // As every client of PostgreSQL does, so that a database of one's own needs no user's name.
        let user = parts.user.clone().or_else(|| variable("USER"));
        let Some(user) = user.filter(|user| !user.is_empty() && !user.contains('\0')) else {
            return Err(unusable(&"it names no user"));
        };
        let tls = Tls::read(&parts, config).map_err(|problem| unusable(&problem))?;
        let secret = match (&parts.passfile, &parts.password, &config.password) {
            (Some(file), None, None) => Secret::LookedUp {
                path: config.directory.join(file),
                database: parts.database.clone().unwrap_or_else(|| user.clone()),
            },
            (_, given, source) => Secret::new(given.clone(), source.clone()),
        };
        Ok(Self {
            secret,
            tls,
            endpoints: Endpoints::of(&parts.hosts),
            parts,
            user,
            timeout: config.connect_timeout,
            belief: Belief::new(config.prepare == Prepare::Never),
            accepted: AtomicBool::new(false),
        })
    }

    /// Whether only a server that takes writes is connected to.
    pub fn wants_writes(&self) -> bool {
        self.parts.target == Target::ReadWrite
    }

    /// The next server is asked whether it is of the wanted kind, whatever it says of itself.
    pub fn suspect_demotion(&self) {
        self.belief.suspect_demotion();
    }

    /// Whether another server than the one that is gone may be found under this address.
    fn may_fail_over(&self) -> bool {
        self.parts.hosts.len() > 1 || self.parts.target != Target::Any
    }

    /// Whether a password that is refused may have been right until now, and its successor be on its way.
    fn may_rotate(&self) -> bool {
        self.accepted.load(Ordering::Relaxed) && self.secret.is_kept_elsewhere()
    }

    /// Connects and logs in, within the configuration's time.
    ///
    /// # Errors
    /// [`Error::Connect`], with what became of each host; nothing was executed.
    pub async fn connect(&self) -> Result<Established> {
        let begin = Instant::now();
        progress::begin();
        let until = begin + self.timeout;
        let mut last = Failures::default();
        match timeout_at(until.into(), self.persist(until, &mut last)).await {
            Ok(Ok(established)) => {
                self.accepted.store(true, Ordering::Relaxed);
                Ok(established)
            }
            Ok(Err(failures)) => Err(failures.into_error(begin.elapsed(), &self.names())),
            Err(_) if !last.0.is_empty() => Err(last.into_error(self.timeout, &self.names())),
            Err(_) => {
                let seconds = self.timeout.as_secs_f64();
                let text = format!("cannot connect to the database within {seconds:.1} s");
                Err(Error::Connect(Box::new(Unconnected::plain(text))))
            }
        }
    }

    /// Tries until the server takes the connection, or says why it never will.
    async fn persist(
        &self,
        until: Instant,
        last: &mut Failures,
    ) -> std::result::Result<Established, Failures> {
        let mut pauses = Pauses::default();
        let patience = limits::FAILOVER_PATIENCE.min(self.timeout / 3);
        let mut settled = None;
        loop {
            let found = Search::new(self, until).run().await;
            // From the end of the first round: a host that is silent may take longer than that by itself.
            let settled = *settled.get_or_insert_with(|| Instant::now() + patience);
            let failing_over = self.may_fail_over() && Instant::now() < settled;
            match found {
                Err(failures) if failures.are_passing(failing_over) => *last = failures,
                // This round was cut short: what the time was spent on is what was said before.
                Err(_) if Instant::now() >= until && !last.0.is_empty() => {
                    return Err(std::mem::take(last));
                }
                result => return result,
            }
            tokio::time::sleep(pauses.one_more()).await;
        }
    }

    /// Who logs in, and where, which a guest is not told.
    fn names(&self) -> Vec<&str> {
        let hosts = self.parts.hosts.iter().filter_map(|host| match &host.name {
            HostName::Name(name) => Some(name.as_str()),
            HostName::Folder(_) => None,
        });
        let database = self.parts.database.as_deref();
        let names = hosts.chain(database).chain([self.user.as_str()]);
        names.filter(|name| !name.is_empty()).collect()
    }

    fn startup(&self) -> Vec<(&str, &str)> {
        let name = self.parts.application_name.as_deref();
        let mut settings = vec![
            ("user", self.user.as_str()),
            ("client_encoding", "UTF8"),
            ("application_name", name.unwrap_or("hearth")),
        ];
        let optional = [
            ("database", &self.parts.database),
            ("options", &self.parts.options),
        ];
        for (key, value) in optional {
            settings.extend(value.as_deref().map(|value| (key, value)));
        }
        // The server takes what stands beside `options` for more than what stands in it.
        let options = self.parts.options.as_deref().unwrap_or_default();
        if !options.contains(PLAIN_STRINGS) {
            settings.push((PLAIN_STRINGS, "on"));
        }
        settings
    }
}

// By hand: what the parts show of themselves is without the password.
impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Address")
            .field("parts", &self.parts)
            .field("user", &self.user)
            .field("timeout", &self.timeout)
            .finish()
    }
}
