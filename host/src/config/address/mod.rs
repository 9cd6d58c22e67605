//! What a PostgreSQL address says: `postgres://` URLs and `key=value` strings, with libpq's words.
//!
//! Promises:
//! - an address is read as a whole or refused: a key that is not known, or not supported, is an
//!   error, so that nobody relies on a setting that has no effect;
//! - an error names the key and what it takes, and never repeats a part of the address: where one
//!   is written wrongly, any part of it may be the password.
//!
//! Left to others: reading files it names, resolving hosts, connecting (`database::connect`).

mod key;
mod text;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// PostgreSQL's own port.
const PORT_DEFAULT: u16 = 5432;

/// An address, read.
#[derive(Clone, PartialEq, Eq)]
pub struct AddressParts {
    /// Where the server may be, in this order; at least one.
    pub hosts: Vec<Host>,
    /// The role to log in as; none if the address leaves it out.
    pub user: Option<String>,
    /// Its password; any bytes but zero.
    pub password: Option<Vec<u8>>,
    /// The database; the server takes the user's name for it where it is left out.
    pub database: Option<String>,
    /// How the server is to list the connections.
    pub application_name: Option<String>,
    /// Settings for the session, as `-c name=value`.
    pub options: Option<String>,
    /// How long one host may take to answer, before the next is tried.
    pub host_timeout: Option<Duration>,
    /// How a silent peer is noticed.
    pub keepalive: Keepalive,
    /// Which servers will do.
    pub target: Target,
    /// Whether the hosts are tried in an order drawn anew each time.
    pub shuffled: bool,
    /// Whether the login is to be bound to the TLS channel.
    pub channel_binding: ChannelBinding,
    /// What is said about TLS; none if the address leaves it out.
    pub ssl_mode: Option<SslMode>,
    /// Whom to trust, where the address says so.
    pub roots: Option<Roots>,
    /// The client's own certificate (a PEM file), and its key.
    pub certificate: Option<PathBuf>,
    /// The key of the client's certificate: a PEM file, not encrypted.
    pub key: Option<PathBuf>,
    /// Whether TLS begins with the connection, and is not asked for first (PostgreSQL 17).
    pub direct_tls: bool,
    /// A file in which the password is looked up, where none is given.
    pub passfile: Option<PathBuf>,
}

/// One place where the server may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name, address or folder.
    pub name: HostName,
    /// Its port; for a folder, a part of the socket's name.
    pub port: u16,
    /// Where to connect to instead of asking for the name's addresses (`hostaddr`).
    pub address: Option<IpAddr>,
}

/// What stands for a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostName {
    /// A name or an IP address.
    Name(String),
    /// The folder of a Unix socket.
    Folder(PathBuf),
}

/// How the system watches a silent connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Whether it does at all.
    pub enabled: bool,
    /// After how long a silence it asks; zero leaves that to the system, and so below.
    pub idle: Option<Duration>,
    /// How long until it asks again.
    pub interval: Option<Duration>,
    /// How often it asks in vain.
    pub count: Option<u32>,
    /// How long sent bytes may stay unacknowledged.
    pub user_timeout: Option<Duration>,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            enabled: true,
            idle: None,
            interval: None,
            count: None,
            user_timeout: None,
        }
    }
}

/// Which servers will do (`target_session_attrs`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Target {
    /// Any.
    #[default]
    Any,
    /// One that takes writes by default.
    ReadWrite,
    /// One that does not.
    ReadOnly,
    /// One that is no standby.
    Primary,
    /// A standby.
    Standby,
    /// A standby if there is one, else any.
    PreferStandby,
}

/// Whether a SCRAM login is bound to the TLS channel that it runs over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where both sides can.
    #[default]
    Prefer,
    /// A login without it is refused.
    Require,
}

/// libpq's words for how much TLS is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// None.
    Disable,
    /// Where the server offers it; whoever it is.
    Prefer,
    /// Always.
    Require,
    /// Always, with a certificate of a trusted issuer.
    VerifyCa,
    /// Always, with a certificate of a trusted issuer for this very host.
    VerifyFull,
}

/// Whose word for a server's identity is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// The system's certificate authorities.
    System,
    /// Those in this PEM file and no others.
    File(PathBuf),
}

/// What is wrong with an address, in words that repeat nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressProblem(String);

impl AddressProblem {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl AddressParts {
    /// Reads an address.
    pub fn parse(text: &str) -> Result<Self, AddressProblem> {
        let pairs = match text
            .strip_prefix("postgres://")
            .or_else(|| text.strip_prefix("postgresql://"))
        {
            Some(rest) => text::url(rest)?,
            None => text::words(text)?,
        };
        let mut draft = key::Draft::default();
        for (key, value) in &pairs {
            draft.set(key, value)?;
        }
        draft.finish()
    }
}

// By hand, because of the password.
impl fmt::Debug for AddressParts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("AddressParts")
            .field("hosts", &self.hosts)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "(not shown)"))
            .field("database", &self.database)
            .field("target", &self.target)
            .field("ssl_mode", &self.ssl_mode)
            .field("roots", &self.roots)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            HostName::Name(name) if name.contains(':') => {
                write!(formatter, "[{name}]:{}", self.port)
            }
            HostName::Name(name) => write!(formatter, "{name}:{}", self.port),
            HostName::Folder(folder) => {
                write!(formatter, "{}/.s.PGSQL.{}", folder.display(), self.port)
            }
        }
    }
}

#[cfg(test)]
mod tests;
