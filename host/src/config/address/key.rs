//! The keys of an address: which there are, and what each takes.
//!
//! Promises: the last value of a key counts, as in libpq; lists of hosts, ports and addresses fit
//! together.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::{
    AddressParts, AddressProblem, ChannelBinding, Host, HostName, Keepalive, PORT_DEFAULT, Roots,
    SslMode, Target,
};
use crate::config::spelling::nearest;

/// Every key that has a meaning here.
const KEYS: &[&str] = &[
    "host",
    "hostaddr",
    "port",
    "user",
    "password",
    "dbname",
    "application_name",
    "fallback_application_name",
    "client_encoding",
    "options",
    "connect_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "target_session_attrs",
    "load_balance_hosts",
    "channel_binding",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslnegotiation",
    "passfile",
];

/// Keys of libpq's that ask for what is done in any case, if they have one of these values.
const IDLE: &[(&str, &[&str])] = &[
    ("gssencmode", &["disable", "prefer"]),
    ("gssdelegation", &["0"]),
    ("replication", &["false", "off", "no", "0"]),
    ("sslcertmode", &["allow"]),
    ("sslcompression", &["0"]),
    ("sslsni", &["1"]),
    ("ssl_max_protocol_version", &["TLSv1.3"]),
    ("ssl_min_protocol_version", &["TLSv1", "TLSv1.1", "TLSv1.2"]),
];

/// Those that are not supported, and what there is instead.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("gsslib", "there is no GSSAPI here"),
    ("krbsrvname", "there is no Kerberos here"),
    (
        "max_protocol_version",
        "leave it out: it is PostgreSQL's 3.0",
    ),
    (
        "min_protocol_version",
        "leave it out: it is PostgreSQL's 3.0",
    ),
    (
        "require_auth",
        "channel_binding=require refuses any login but one by SCRAM over TLS",
    ),
    (
        "requirepeer",
        "the folder of a socket has to be one that nobody else can write to",
    ),
    ("scram_client_key", "give the password"),
    ("scram_server_key", "give the password"),
    ("service", "give what the service file says of it"),
    ("servicefile", "give what it says of the service"),
    ("sslcrl", "no list of revoked certificates is read"),
    ("sslcrldir", "no list of revoked certificates is read"),
    ("sslpassword", "sslkey is to be a key that is not encrypted"),
];

const TARGETS: &[(&str, Target)] = &[
    ("any", Target::Any),
    ("read-write", Target::ReadWrite),
    ("read-only", Target::ReadOnly),
    ("primary", Target::Primary),
    ("standby", Target::Standby),
    ("prefer-standby", Target::PreferStandby),
];

const BINDINGS: &[(&str, ChannelBinding)] = &[
    ("disable", ChannelBinding::Disable),
    ("prefer", ChannelBinding::Prefer),
    ("require", ChannelBinding::Require),
];

const SSL_MODES: &[(&str, SslMode)] = &[
    ("disable", SslMode::Disable),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];

const NEGOTIATIONS: &[(&str, bool)] = &[("postgres", false), ("direct", true)];

const ORDERS: &[(&str, bool)] = &[("disable", false), ("random", true)];

const SWITCHES: &[(&str, bool)] = &[("0", false), ("1", true)];

/// What has been said so far.
#[derive(Default)]
pub(super) struct Draft {
    hosts: Vec<String>,
    ports: Vec<String>,
    addresses: Vec<String>,
    user: Option<String>,
    password: Option<Vec<u8>>,
    database: Option<String>,
    application_name: Option<String>,
    fallback_application_name: Option<String>,
    options: Option<String>,
    host_timeout: Option<Duration>,
    keepalive: Keepalive,
    target: Target,
    shuffled: bool,
    channel_binding: ChannelBinding,
    ssl_mode: Option<SslMode>,
    roots: Option<Roots>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    direct_tls: bool,
    passfile: Option<PathBuf>,
}

impl Draft {
    /// Takes one key with its value.
    pub(super) fn set(&mut self, key: &str, value: &[u8]) -> Result<(), AddressProblem> {
        if !KEYS.contains(&key) {
            return self.set_otherwise(key, value);
        }
        if value.contains(&0) {
            return Err(AddressProblem::new(format!("{key} has a zero byte in it")));
        }
        if key == "password" {
            self.password = Some(value.to_vec());
            return Ok(());
        }
        let text = std::str::from_utf8(value)
            .map_err(|_| AddressProblem::new(format!("{key} is not UTF-8")))?;
        let owned = || (!text.is_empty()).then(|| text.to_owned());
        let seconds = |range| number(key, text, range).map(Duration::from_secs);
        match key {
            "host" => self.hosts = list(text),
            "hostaddr" => self.addresses = list(text),
            "port" => self.ports = list(text),
            "user" => self.user = owned(),
            "dbname" => self.database = owned(),
            "application_name" => self.application_name = owned(),
            "fallback_application_name" => self.fallback_application_name = owned(),
            "client_encoding" => encoding(text)?,
            "options" => self.options = owned(),
            // As in libpq, 0 is no limit of its own.
            "connect_timeout" => {
                self.host_timeout = Some(seconds(0..=86_400)?).filter(|limit| !limit.is_zero());
            }
            "keepalives" => self.keepalive.enabled = word(key, text, SWITCHES)?,
            // As in libpq, 0 is the system's own, here and below.
            "keepalives_idle" => self.keepalive.idle = Some(seconds(0..=32_767)?),
            "keepalives_interval" => self.keepalive.interval = Some(seconds(0..=32_767)?),
            "keepalives_count" => self.keepalive.count = Some(number(key, text, 0..=127)? as u32),
            "tcp_user_timeout" => {
                let limit_ms = number(key, text, 0..=86_400_000)?;
                self.keepalive.user_timeout = Some(Duration::from_millis(limit_ms));
            }
            "target_session_attrs" => self.target = word(key, text, TARGETS)?,
            "load_balance_hosts" => self.shuffled = word(key, text, ORDERS)?,
            "channel_binding" => self.channel_binding = word(key, text, BINDINGS)?,
            "sslmode" => self.ssl_mode = Some(word(key, text, SSL_MODES)?),
            "sslrootcert" => {
                self.roots = match text {
                    "" => None,
                    "system" => Some(Roots::System),
                    path => Some(Roots::File(path.into())),
                };
            }
            "sslcert" => self.certificate = owned().map(PathBuf::from),
            "sslkey" => self.key = owned().map(PathBuf::from),
            "sslnegotiation" => self.direct_tls = word(key, text, NEGOTIATIONS)?,
            "passfile" => self.passfile = owned().map(PathBuf::from),
            _ => return Err(unknown(key)),
        }
        Ok(())
    }

    /// Takes a key that changes nothing, or says why it cannot be taken.
    fn set_otherwise(&mut self, key: &str, value: &[u8]) -> Result<(), AddressProblem> {
        // libpq takes it from a URL, for the sake of Java's.
        if key == "ssl" {
            return match value {
                b"true" => {
                    self.ssl_mode = Some(SslMode::Require);
                    Ok(())
                }
                _ => Err(expected(key, "true; say sslmode=disable for none")),
            };
        }
        if let Some((_, values)) = IDLE.iter().find(|(idle, _)| *idle == key) {
            let is_idle = value.is_empty() || values.iter().any(|idle| idle.as_bytes() == value);
            return match is_idle {
                true => Ok(()),
                false => Err(expected(key, format!("{} here", values.join(" or ")))),
            };
        }
        match UNSUPPORTED.iter().find(|(other, _)| *other == key) {
            Some((key, instead)) => Err(AddressProblem::new(format!(
                "{key} is not supported here; {instead}"
            ))),
            None => Err(unknown(key)),
        }
    }

    /// What was said, as a whole.
    pub(super) fn finish(self) -> Result<AddressParts, AddressProblem> {
        let hosts = self.hosts()?;
        if self.certificate.is_some() != self.key.is_some() {
            return Err(AddressProblem::new(
                "sslcert and sslkey only make sense together",
            ));
        }
        Ok(AddressParts {
            hosts,
            user: self.user,
            password: self.password,
            database: self.database,
            application_name: self.application_name.or(self.fallback_application_name),
            options: self.options,
            host_timeout: self.host_timeout,
            keepalive: self.keepalive,
            target: self.target,
            shuffled: self.shuffled,
            channel_binding: self.channel_binding,
            ssl_mode: self.ssl_mode,
            roots: self.roots,
            certificate: self.certificate,
            key: self.key,
            direct_tls: self.direct_tls,
            passfile: self.passfile,
        })
    }

    fn hosts(&self) -> Result<Vec<Host>, AddressProblem> {
        let names = match self.hosts.is_empty() {
            true => &self.addresses,
            false => &self.hosts,
        };
        if names.is_empty() || names.iter().any(String::is_empty) {
            return Err(AddressProblem::new("it names no host"));
        }
        let fits = |given: &[String], one_for_all: bool| {
            given.is_empty() || given.len() == names.len() || (one_for_all && given.len() == 1)
        };
        if !fits(&self.ports, true) || !fits(&self.addresses, false) {
            return Err(AddressProblem::new(
                "it has another number of ports or addresses than of hosts",
            ));
        }
        let host = |(index, name): (usize, &String)| {
            let port = match self.ports.get(index).or(self.ports.first()) {
                Some(port) if !port.is_empty() => number("port", port, 1..=65_535)?,
                _ => u64::from(PORT_DEFAULT),
            };
            let address = self.addresses.get(index).filter(|text| !text.is_empty());
            let address = address.map(|text| IpAddr::from_str(text)).transpose();
            Ok(Host {
                name: match name.starts_with('/') {
                    true => HostName::Folder(name.into()),
                    false => HostName::Name(name.clone()),
                },
                port: port as u16,
                address: address
                    .map_err(|_| AddressProblem::new("hostaddr is to be a list of IP addresses"))?,
            })
        };
        names.iter().enumerate().map(host).collect()
    }
}

// The key may be a piece of a password that was not quoted: only a near miss is told.
fn unknown(key: &str) -> AddressProblem {
    AddressProblem::new(match nearest(key, KEYS) {
        Some(near) => format!("a key in it is not known; did you mean {near}?"),
        None => format!("a key in it is not known; known are {}", KEYS.join(", ")),
    })
}

fn encoding(text: &str) -> Result<(), AddressProblem> {
    let plain: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    match plain.to_ascii_lowercase().as_str() {
        "utf8" | "unicode" | "auto" => Ok(()),
        _ => Err(AddressProblem::new("client_encoding can only be UTF8")),
    }
}

fn list(text: &str) -> Vec<String> {
    match text {
        "" => Vec::new(),
        text => text.split(',').map(|part| part.trim().to_owned()).collect(),
    }
}

fn number(key: &str, text: &str, range: RangeInclusive<u64>) -> Result<u64, AddressProblem> {
    let number = text.trim().parse().ok();
    number
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            expected(
                key,
                format!("a whole number from {} to {}", range.start(), range.end()),
            )
        })
}

fn word<T: Copy>(key: &str, text: &str, words: &[(&str, T)]) -> Result<T, AddressProblem> {
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        expected(key, format!("one of {}", known.join(", ")))
    })
}

fn expected(key: &str, what: impl Display) -> AddressProblem {
    AddressProblem::new(format!("{key} is to be {what}"))
}
