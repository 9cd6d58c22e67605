//! One round over the hosts of an address, until one lets us in.
//!
//! Promises:
//! - hosts are tried in their order, or in one drawn anew, and so are the addresses of each;
//! - the time is shared, that of whoever waits for the connection where it is less: who is silent delays the next,
//!   and never takes its turn away;
//! - a login that is refused is not tried elsewhere, but once more with the password read again.
//!
//! Left to others: another round, later ([`super::Address::connect`]).

use std::time::{Instant, SystemTime};

use rand::seq::SliceRandom;
use tokio::time::timeout_at;

use super::failure::{Failure, Failures};
use super::local::LocalStream;
use super::login::{Credentials, Exchange};
use super::secret::Password;
use super::stream::{self, Endpoint, Stream};
use super::{Address, Backend, Established, progress};
use crate::config::address::{Host, HostName, Target};
use crate::limits;

/// A round that is under way.
pub(super) struct Search<'a> {
    address: &'a Address,
    until: Instant,
    failures: Failures,
    /// The password for the host that is tried.
    password: Option<Password>,
    /// Whether it was read again, which is done once.
    renewed: bool,
}

impl<'a> Search<'a> {
    pub(super) fn new(address: &'a Address, until: Instant) -> Self {
        Self {
            address,
            until,
            failures: Failures::default(),
            password: None,
            renewed: false,
        }
    }

    /// Tries each host once; or twice, where a standby is only preferred.
    pub(super) async fn run(mut self) -> Result<Established, Failures> {
        let targets: &[Target] = match self.address.parts.target {
            Target::PreferStandby => &[Target::Standby, Target::Any],
            ref target => std::slice::from_ref(target),
        };
        let mut hosts: Vec<&Host> = self.address.parts.hosts.iter().collect();
        if self.address.parts.shuffled {
            hosts.shuffle(&mut rand::rng());
        }
        for (pass, target) in targets.iter().enumerate() {
            // What was wrong at first is said again, or no longer counts.
            self.failures = Failures::default();
            for (index, host) in hosts.iter().enumerate() {
                // Before the time is shared: a command may take longer than one host's part of it.
                if let Err(failure) = self.read_password(host).await {
                    self.failed(host, failure);
                    return Err(self.failures);
                }
                let parts = (targets.len() - pass) * hosts.len() - index;
                let until = self.share(parts);
                if let Some(established) = self.host(host, *target, until).await {
                    return Ok(established);
                }
                if self.is_over() {
                    return Err(self.failures);
                }
            }
        }
        Err(self.failures)
    }

    /// The end of the time for one host, where so many turns are still to come. The last one has all that is left.
    fn share(&self, parts: usize) -> Instant {
        match parts {
            1 => self.until,
            _ => share(self.wanted_until(), parts),
        }
    }

    /// When nobody wants the connection any more.
    fn wanted_until(&self) -> Instant {
        progress::until().map_or(self.until, |wanted| wanted.min(self.until))
    }

    fn is_over(&self) -> bool {
        let last = self.failures.0.last();
        last.is_some_and(|(_, failure)| !failure.goes_on())
    }

    async fn read_password(&mut self, host: &Host) -> Result<(), Failure> {
        let Address { secret, user, .. } = self.address;
        let _reading = progress::reading();
        self.password = secret.read(host, user, self.until).await?;
        Ok(())
    }

    /// What has taken the place of a password that was refused. If nothing has, that is looked for a while longer
    /// where it may come, without another login in between.
    async fn read_password_again(&self, host: &Host) -> Result<Option<Password>, Failure> {
        let Address { secret, user, .. } = self.address;
        let patience = Instant::now() + limits::ROTATION_PATIENCE;
        let patience = patience.min(self.wanted_until());
        let _reading = progress::reading();
        loop {
            let begin = Instant::now();
            let fresh = secret.read_again(self.password.as_ref(), host, user, self.until);
            let fresh = fresh.await?;
            let next = Instant::now() + begin.elapsed() + limits::ROTATION_PAUSE;
            if fresh.is_some() || next > patience || !self.address.may_rotate() {
                return Ok(fresh);
            }
            tokio::time::sleep(limits::ROTATION_PAUSE).await;
        }
    }

    /// Tries each address of a host.
    async fn host(&mut self, host: &Host, target: Target, until: Instant) -> Option<Established> {
        let finding = self.address.endpoints.find(host);
        let found = match timeout_at(until.into(), finding).await {
            Ok(Ok(found)) if !found.is_empty() => Ok(found),
            Ok(Ok(_)) => Err("its name has no address".to_owned()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err("its name was not resolved in time".to_owned()),
        };
        let mut endpoints = match found {
            Ok(endpoints) => endpoints,
            Err(reason) => {
                self.failed(host, Failure::Unreachable(reason));
                return None;
            }
        };
        if self.address.parts.shuffled {
            endpoints.shuffle(&mut rand::rng());
        }
        let count = endpoints.len();
        for (index, endpoint) in endpoints.into_iter().enumerate() {
            let mut until = share(until, count - index);
            if let Some(limit) = self.address.parts.host_timeout {
                until = until.min(Instant::now() + limit);
            }
            match self.endpoint(host, endpoint, target, until).await {
                Ok(established) => return Some(established),
                Err(failure) => self.failed(host, failure),
            }
            if self.is_over() {
                return None;
            }
        }
        None
    }

    fn failed(&mut self, host: &Host, failure: Failure) {
        tracing::debug!(%host, %failure, "no database connection");
        progress::failed(host, &failure, &self.address.names());
        self.failures.0.push((host.to_string(), failure));
    }

    async fn endpoint(
        &mut self,
        host: &Host,
        endpoint: Endpoint,
        target: Target,
        until: Instant,
    ) -> Result<Established, Failure> {
        let attempt = self.attempt(host, &endpoint, target);
        let late = |_| Failure::Unreachable("no answer in time".to_owned());
        let refused = match timeout_at(until.into(), attempt).await.map_err(late)? {
            Err(Failure::Refused(error)) if error.is_refused_login() && !self.renewed => error,
            result => return result,
        };
        self.renewed = true;
        match self.read_password_again(host).await? {
            None => Err(Failure::Refused(refused)),
            fresh => {
                self.password = fresh;
                let attempt = self.attempt(host, &endpoint, target);
                let result = timeout_at(self.until.into(), attempt).await;
                result
                    .map_err(late)?
                    .map_err(|failure| self.address.secret.explain(failure))
            }
        }
    }

    async fn attempt(
        &self,
        host: &Host,
        endpoint: &Endpoint,
        target: Target,
    ) -> Result<Established, Failure> {
        let Address {
            parts, tls, user, ..
        } = self.address;
        let begun = SystemTime::now();
        let unreachable = |error: std::io::Error| Failure::of_stream(&error, "");
        let (stream, secured) = match endpoint {
            Endpoint::Unix(path) => {
                let stream = LocalStream::connect(path).await.map_err(unreachable)?;
                (Stream::Unix(stream), None)
            }
            Endpoint::Tcp(address) => {
                let stream = stream::tcp(*address, &parts.keepalive).await;
                let name = match &host.name {
                    HostName::Name(name) => name.as_str(),
                    HostName::Folder(_) => "",
                };
                tls.begin(stream.map_err(unreachable)?, name).await?
            }
        };
        let credentials = Credentials {
            user,
            password: self.password.as_deref(),
            clear_text: matches!(stream, Stream::Unix(_)) || tls.trusts_the_way(parts),
            channel_binding: parts.channel_binding,
        };
        let mut exchange = Exchange::new(stream);
        let startup = self.address.startup();
        let greeting = exchange.log_in(&startup, &credentials).await?;
        let (belief, told) = (&self.address.belief, &greeting.parameters);
        belief.check(&mut exchange, target, told).await?;
        Ok(Established {
            begun,
            stream: exchange.stream,
            received: exchange.received,
            backend: Backend {
                endpoint: endpoint.clone(),
                secured,
                process_id: greeting.process_id,
                secret_key: greeting.secret_key,
            },
            parameters: greeting.parameters,
        })
    }
}

/// The end of one part of the time until `until`, where so many parts are still to come; one that a login fits in.
fn share(until: Instant, parts: usize) -> Instant {
    let now = Instant::now();
    let left = until.saturating_duration_since(now);
    let part = left / u32::try_from(parts.max(1)).unwrap_or(u32::MAX);
    now + part.max(limits::LOGIN_SHARE_MIN.min(left))
}
