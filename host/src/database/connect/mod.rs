//! From a database's configuration to a stream on which the login is done.
//!
//! Promises:
//! - each host is tried in turn, and each of its addresses, as they resolve at that moment; a
//!   silent one gets its share of the time, not all of it;
//! - a server that takes no connection now (it starts up, or has as many as it takes) is asked
//!   again within the time there is, with growing pauses that no two hosts share;
//! - no password and no token is in an error, in the log, or in a `Debug` output;
//! - a server is not believed more than it proves: what it sends is bounded, and garbage is an error.
//!
//! Left to others: what is said after the login ([`super::connection`]), and who needs a
//! connection when ([`super::pool`]).

mod cancel;
mod failure;
mod login;
mod stream;

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rand::RngExt;
use rand::seq::SliceRandom;
use tokio::time::timeout_at;

pub use cancel::Backend;
pub use failure::Failure;
pub use stream::Stream;

use super::error::{Error, Result};
use crate::config::DatabaseConfig;
use crate::config::address::{AddressParts, Host, SslMode};
use crate::fault::{Fault, Kind};
use crate::limits;
use failure::Failures;
use login::{Credentials, Exchange};
use stream::Endpoint;

/// Where a database is and how to log in there: everything but the moment.
pub struct Address {
    parts: AddressParts,
    user: String,
    /// How long connecting may take, all attempts together.
    timeout: Duration,
}

/// A connection on which the login is done, and nothing else yet.
#[derive(Debug)]
pub struct Established {
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
    /// If it has no address, or one that cannot be used; without repeating any of it.
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
        if !matches!(
            parts.ssl_mode,
            None | Some(SslMode::Disable | SslMode::Prefer)
        ) {
            return Err(unusable(
                &"it requires TLS, which this version cannot speak yet; use sslmode=prefer or disable",
            ));
        }
        // As every client of PostgreSQL does, so that a database of one's own needs no user's name.
        let user = parts.user.clone().or_else(|| std::env::var("USER").ok());
        let Some(user) = user.filter(|user| !user.is_empty() && !user.contains('\0')) else {
            return Err(unusable(&"it names no user"));
        };
        Ok(Self {
            parts,
            user,
            timeout: config.connect_timeout,
        })
    }

    /// Connects and logs in, within the configuration's time.
    ///
    /// # Errors
    /// [`Error::Connect`], with what became of each host; nothing was executed.
    pub async fn connect(&self) -> Result<Established> {
        let begin = Instant::now();
        let until = begin + self.timeout;
        let mut last = Failures::default();
        match timeout_at(until.into(), self.persist(until, &mut last)).await {
            Ok(Ok(established)) => Ok(established),
            Ok(Err(failures)) => Err(failures.into_error(begin.elapsed())),
            Err(_) if !last.0.is_empty() => Err(last.into_error(self.timeout)),
            Err(_) => Err(Error::Connect(format!(
                "cannot connect to the database within {:.1} s",
                self.timeout.as_secs_f64()
            ))),
        }
    }

    /// Tries until the server takes the connection, or says why it never will.
    async fn persist(
        &self,
        until: Instant,
        last: &mut Failures,
    ) -> std::result::Result<Established, Failures> {
        let mut pause = limits::LOGIN_PAUSE;
        loop {
            match self.round(until).await {
                Err(failures) if failures.are_passing() => *last = failures,
                result => return result,
            }
            let chance: f64 = rand::rng().random_range(0.5..1.0);
            tokio::time::sleep(pause.mul_f64(chance)).await;
            pause = (pause * 2).min(limits::LOGIN_PAUSE_MAX);
        }
    }

    /// Tries each host once.
    async fn round(&self, until: Instant) -> std::result::Result<Established, Failures> {
        let mut hosts: Vec<&Host> = self.parts.hosts.iter().collect();
        if self.parts.shuffled {
            hosts.shuffle(&mut rand::rng());
        }
        let mut failures = Failures::default();
        for (index, host) in hosts.iter().enumerate() {
            let until = share(until, hosts.len() - index);
            match self.host(host, until, &mut failures).await {
                Some(established) => return Ok(established),
                None if failures.0.last().is_some_and(|(_, last)| !last.goes_on()) => break,
                None => {}
            }
        }
        Err(failures)
    }

    /// Tries each address of a host.
    async fn host(
        &self,
        host: &Host,
        until: Instant,
        failures: &mut Failures,
    ) -> Option<Established> {
        let mut failed = |failure| failures.0.push((host.to_string(), failure));
        let mut endpoints = match timeout_at(until.into(), stream::endpoints(host)).await {
            Ok(Ok(endpoints)) => endpoints,
            Ok(Err(error)) => {
                failed(Failure::Unreachable(error.to_string()));
                return None;
            }
            Err(_) => {
                failed(Failure::Unreachable("its name does not resolve".to_owned()));
                return None;
            }
        };
        if self.parts.shuffled {
            endpoints.shuffle(&mut rand::rng());
        }
        let count = endpoints.len();
        for (index, endpoint) in endpoints.into_iter().enumerate() {
            let mut until = share(until, count - index);
            if let Some(limit) = self.parts.host_timeout {
                until = until.min(Instant::now() + limit);
            }
            let failure = match timeout_at(until.into(), self.attempt(endpoint)).await {
                Ok(Ok(established)) => return Some(established),
                Ok(Err(failure)) => failure,
                Err(_) => Failure::Unreachable("no answer in time".to_owned()),
            };
            let goes_on = failure.goes_on();
            failed(failure);
            if !goes_on {
                break;
            }
        }
        None
    }

    async fn attempt(&self, endpoint: Endpoint) -> std::result::Result<Established, Failure> {
        let stream = endpoint.open(&self.parts.keepalive).await;
        let stream = stream.map_err(|error| Failure::Unreachable(error.to_string()))?;
        let mut exchange = Exchange::new(stream);
        let credentials = Credentials {
            user: &self.user,
            password: self.parts.password.as_deref(),
            clear_text: self
                .parts
                .ssl_mode
                .is_some_and(|mode| mode != SslMode::Require)
                || matches!(endpoint, Endpoint::Unix(_)),
            channel_binding: self.parts.channel_binding,
        };
        let greeting = exchange.log_in(&self.startup(), &credentials).await?;
        Ok(Established {
            stream: exchange.stream,
            received: exchange.received,
            backend: Backend {
                endpoint,
                process_id: greeting.process_id,
                secret_key: greeting.secret_key,
            },
            parameters: greeting.parameters,
        })
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

/// The end of one part of the time until `until`, where so many parts are still to come.
fn share(until: Instant, parts: usize) -> Instant {
    let now = Instant::now();
    let left = until.saturating_duration_since(now);
    now + left / u32::try_from(parts.max(1)).unwrap_or(u32::MAX)
}
