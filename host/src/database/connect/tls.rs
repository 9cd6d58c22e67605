//! TLS under a connection: whether, with whom, and what went wrong.
//!
//! Promises:
//! - where TLS is asked for, the server's certificate is checked in full (a trusted issuer, this
//!   very host, today) unless the configuration says in so many words that it is not to be;
//! - where it begins with the connection (`sslnegotiation=direct`), the server agrees that PostgreSQL's
//!   protocol is spoken in it, so that what was meant for another service is no login;
//! - bytes that came before the TLS handshake are never taken for what came through it;
//! - an error says in one line what is wrong with the certificate, and what can be done.
//!
//! Left to others: which certificates there are ([`super::certificate`]).

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error};

use super::certificate::{self, Trust};
use super::failure::Failure;
use super::stream::Stream;
use super::verifier;
use crate::config::address::{AddressParts, Roots, SslMode};
use crate::config::{DatabaseConfig, PasswordSource, Verify};

/// How much TLS is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// None.
    Never,
    /// Where the server offers it, and whoever that is.
    IfOffered,
    /// Always, with a certificate that is checked so far.
    Always(Verify),
}

/// How one database is connected to.
pub(super) struct Tls {
    wanted: Wanted,
    /// Whether it begins without being asked for.
    direct: bool,
    trust: Trust,
    /// Made at the first use: reading the system's certificates takes milliseconds.
    client: OnceLock<Arc<ClientConfig>>,
}

/// A TLS client that is ready to speak to one host.
#[derive(Clone)]
pub(super) struct Secured {
    client: Arc<ClientConfig>,
    name: ServerName<'static>,
    direct: bool,
}

/// What is spoken within TLS, for a server that is not asked first.
const PROTOCOL: &[u8] = b"postgresql";

impl Tls {
    /// Reads what is said in the address and beside it.
    pub(super) fn read(parts: &AddressParts, config: &DatabaseConfig) -> Result<Self, String> {
        let wanted = wanted(parts, config)?;
        if parts.direct_tls && !matches!(wanted, Wanted::Always(_)) {
            return Err(
                "sslnegotiation=direct asks for TLS; say sslmode=verify-full or require as well"
                    .to_owned(),
            );
        }
        let absolute = |path: &std::path::PathBuf| config.directory.join(path);
        let said = config.tls.as_ref().and_then(|tls| tls.ca.clone());
        let roots = match (said, &parts.roots) {
            (Some(_), Some(_)) => {
                return Err("whom to trust is said twice: by `tls` and by sslrootcert".to_owned());
            }
            (Some(file), None) => Roots::File(file),
            (None, Some(Roots::File(file))) => Roots::File(absolute(file)),
            (None, Some(Roots::System) | None) => Roots::System,
        };
        let identity = parts.certificate.iter().zip(&parts.key).next();
        let identity = identity.map(|(certificate, key)| (absolute(certificate), absolute(key)));
        Ok(Self {
            wanted,
            direct: parts.direct_tls,
            trust: Trust::read(&roots, identity)?,
            client: OnceLock::new(),
        })
    }

    /// Whether a password may be sent as it is to a host that is reached through this. Where
    /// nothing at all was said, nobody has said that they trust the way there.
    pub(super) fn trusts_the_way(&self, parts: &AddressParts) -> bool {
        parts.ssl_mode.is_some() || matches!(self.wanted, Wanted::Always(_))
    }

    /// Begins TLS on a fresh connection, as far as it is wanted and offered.
    pub(super) async fn begin(
        &self,
        mut stream: TcpStream,
        host: &str,
    ) -> Result<(Stream, Option<Secured>), Failure> {
        if self.wanted == Wanted::Never {
            return Ok((Stream::Tcp(stream), None));
        }
        if self.direct {
            let secured = self.secured(host)?;
            let stream = secured.shake_hands(stream).await?;
            return Ok((Stream::Tls(Box::new(stream)), Some(secured)));
        }
        let offered = offers(&mut stream)
            .await
            .map_err(|error| Failure::of_stream(&error, "the connection was lost at once: "))?;
        match (offered, self.wanted) {
            (Some(true), _) => {
                let secured = self.secured(host)?;
                let stream = secured.shake_hands(stream).await?;
                Ok((Stream::Tls(Box::new(stream)), Some(secured)))
            }
            (Some(false), Wanted::Always(_)) => Err(Failure::Tls(
                "the server speaks no TLS, which is asked for; switch it on there (ssl = on), or say sslmode=disable"
                    .to_owned(),
            )),
            (Some(false), _) => Ok((Stream::Tcp(stream), None)),
            (None, _) => Err(Failure::Login(
                "what answers there does not speak PostgreSQL's protocol; check the host and the port"
                    .to_owned(),
            )),
        }
    }

    fn secured(&self, host: &str) -> Result<Secured, Failure> {
        let verify = match self.wanted {
            Wanted::Always(verify) => verify,
            Wanted::Never | Wanted::IfOffered => Verify::Nothing,
        };
        let client = match self.client.get() {
            Some(client) => client.clone(),
            None => {
                let mut client = self.trust.client(verify).map_err(Failure::Tls)?;
                if self.direct {
                    client.alpn_protocols = vec![PROTOCOL.to_vec()];
                }
                self.client.get_or_init(|| Arc::new(client)).clone()
            }
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            Failure::Misnamed(format!("no certificate can be for a host named {host:?}"))
        })?;
        Ok(Secured {
            client,
            name,
            direct: self.direct,
        })
    }
}

impl Secured {
    /// Asks for TLS as the connection to the same host did, and insists on it.
    pub(super) async fn begin_again(
        &self,
        mut stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let offered = match self.direct {
            true => Some(true),
            false => offers(&mut stream).await?,
        };
        match offered {
            Some(true) => self
                .shake_hands(stream)
                .await
                .map_err(|failure| io::Error::other(failure.to_string())),
            _ => Err(io::Error::other("the server no longer offers TLS")),
        }
    }

    async fn shake_hands(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, Failure> {
        let connector = TlsConnector::from(self.client.clone());
        let hands = connector.connect(self.name.clone(), stream).await;
        let stream = hands.map_err(|error| {
            let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
            match tls {
                Some(tls) => described(tls, &self.name),
                // A server that goes away does so, and one that begins otherwise.
                None if self.direct => Failure::of_stream(
                    &error,
                    "the connection was lost while TLS began (a server before PostgreSQL 17 takes no \
                     sslnegotiation=direct): ",
                ),
                None => Failure::of_stream(&error, "the connection was lost while TLS began: "),
            }
        })?;
        let (_, session) = stream.get_ref();
        match self.direct && session.alpn_protocol() != Some(PROTOCOL) {
            true => Err(Failure::Tls(
                "the server does not say that it speaks PostgreSQL's protocol in TLS, as one that takes \
                 sslnegotiation=direct does; leave that out"
                    .to_owned(),
            )),
            false => Ok(stream),
        }
    }
}

impl fmt::Debug for Secured {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Secured").field(&self.name).finish()
    }
}

/// Asks whether the server speaks TLS; none if the answer is no answer to that.
///
/// One byte is read and no more: what else had come by then, without encryption, would be taken
/// for a part of the handshake, and be found to be none.
async fn offers(stream: &mut TcpStream) -> io::Result<Option<bool>> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await?;
    match stream.read_u8().await? {
        b'S' => Ok(Some(true)),
        b'N' => Ok(Some(false)),
        _ => Ok(None),
    }
}

/// What the address and the configuration ask for together.
fn wanted(parts: &AddressParts, config: &DatabaseConfig) -> Result<Wanted, String> {
    let iam = matches!(config.password, Some(PasswordSource::Iam { .. }));
    let trust_is_said = config.tls.is_some() || parts.roots.is_some();
    let verify = config.tls.as_ref().and_then(|tls| tls.verify);
    let wanted = match parts.ssl_mode {
        Some(SslMode::Disable | SslMode::Prefer) if trust_is_said || iam => {
            return Err(
                "sslmode=disable and prefer check no certificate, which `tls`, sslrootcert and `iam` ask for; \
                 leave sslmode out, or say verify-full"
                    .to_owned(),
            );
        }
        Some(SslMode::VerifyCa | SslMode::VerifyFull) if verify.is_some() => {
            return Err(
                "how far the certificate is checked is said twice: by sslmode and by `tls.verify`"
                    .to_owned(),
            );
        }
        Some(SslMode::Disable) => Wanted::Never,
        Some(SslMode::Prefer) => Wanted::IfOffered,
        Some(SslMode::VerifyCa) => Wanted::Always(Verify::Ca),
        Some(SslMode::Require | SslMode::VerifyFull) => {
            Wanted::Always(verify.unwrap_or(Verify::Full))
        }
        None if trust_is_said || iam => Wanted::Always(verify.unwrap_or(Verify::Full)),
        None => Wanted::IfOffered,
    };
    if iam && wanted == Wanted::Always(Verify::Nothing) {
        return Err(
            "`iam` sends its token in clear text, so the server's certificate must be checked; take `tls.verify` out"
                .to_owned(),
        );
    }
    Ok(wanted)
}

/// What went wrong, in a line for whoever has to put it right.
fn described(error: &Error, name: &ServerName<'_>) -> Failure {
    let Error::InvalidCertificate(problem) = error else {
        return Failure::Tls(format!(
            "TLS cannot be agreed on ({error}); if the server's is too old, say sslmode=disable"
        ));
    };
    let host = name.to_str();
    match problem {
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            Failure::Misnamed(format!(
                "the server's certificate names no host at all (a subject's common name does not count); \
                 make one for {host}, or say sslmode=verify-ca"
            ))
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let presented: Vec<_> = presented.iter().map(|name| certificate::plain(name)).collect();
            Failure::Misnamed(format!(
                "the server's certificate is for {}, not for {host}; connect by that name, or say sslmode=verify-ca",
                presented.join(", ")
            ))
        }
        CertificateError::NotValidForName => {
            Failure::Misnamed(format!("the server's certificate is not for {host}"))
        }
        _ if verifier::is_an_authoritys(error) => Failure::Tls(
            "the server's certificate is made for an authority (CA:TRUE), so only that very certificate in the \
             file of tls = { ca = \"file.pem\" }, or sslrootcert, makes it trusted"
                .to_owned(),
        ),
        problem => Failure::Tls(unacceptable(problem)),
    }
}

/// Why a certificate of the right name is not accepted.
fn unacceptable(problem: &CertificateError) -> String {
    let days = |from: u64, to: u64| to.saturating_sub(from) / 86_400;
    match problem {
        CertificateError::ExpiredContext { time, not_after } => format!(
            "the server's certificate expired {} days ago; it must be renewed there",
            days(not_after.as_secs(), time.as_secs())
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "the server's certificate is not valid for another {} days; is this machine's clock right?",
            days(time.as_secs(), not_before.as_secs())
        ),
        CertificateError::UnknownIssuer => {
            "the server's certificate is of an issuer that is not trusted; give the issuer's certificate \
             with tls = { ca = \"file.pem\" }, or sslrootcert"
                .to_owned()
        }
        other => format!("the server's certificate cannot be accepted: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use crate::config::{Prepare, Reset, TlsConfig};

    fn config(tls: Option<TlsConfig>, password: Option<PasswordSource>) -> DatabaseConfig {
        DatabaseConfig {
            name: "default".to_owned(),
            url: None,
            password,
            tls,
            directory: PathBuf::new(),
            pool_max: 1,
            pool_max_given: false,
            warm: 1,
            lifetime: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
            statements_max: 1,
            prepare: Prepare::Always,
            reset: Reset::Auto,
            setup: Vec::new(),
        }
    }

    #[test]
    fn tls_that_is_asked_for_is_checked_in_full_unless_it_is_said_otherwise() {
        let tls = |verify| Some(TlsConfig { ca: None, verify });
        let iam = || Some(PasswordSource::Iam { region: None });
        let (full, ca, nothing) = (
            Ok(Wanted::Always(Verify::Full)),
            Ok(Wanted::Always(Verify::Ca)),
            Ok(Wanted::Always(Verify::Nothing)),
        );
        #[rustfmt::skip]
        let cases = [
            ("", None, None, Ok(Wanted::IfOffered)),
            ("sslmode=disable", None, None, Ok(Wanted::Never)),
            ("sslmode=prefer", None, None, Ok(Wanted::IfOffered)),
            ("sslmode=require", None, None, full),
            ("sslmode=verify-full", None, None, full),
            ("sslmode=verify-ca", None, None, ca),
            ("sslrootcert=system", None, None, full),
            ("", tls(None), None, full),
            ("", tls(Some(Verify::Ca)), None, ca),
            ("", tls(Some(Verify::Nothing)), None, nothing),
            ("sslmode=require", tls(Some(Verify::Nothing)), None, nothing),
            ("sslmode=require", tls(Some(Verify::Ca)), None, ca),
            ("sslmode=verify-ca", tls(None), None, ca),
            ("", None, iam(), full),
            ("", tls(Some(Verify::Ca)), iam(), ca),
            ("", tls(Some(Verify::Nothing)), iam(), Err("clear text")),
            ("sslmode=disable", None, iam(), Err("check no certificate")),
            ("sslmode=prefer", tls(None), None, Err("check no certificate")),
            ("sslmode=prefer sslrootcert=system", None, None, Err("check no certificate")),
            ("sslmode=verify-full", tls(Some(Verify::Nothing)), None, Err("said twice")),
        ];
        for (text, tls, password, expected) in cases {
            let parts = AddressParts::parse(&format!("host=db {text}")).unwrap();
            let what = format!("{text} {tls:?} {password:?}");
            match (wanted(&parts, &config(tls, password)), expected) {
                (Ok(wanted), Ok(expected)) => assert_eq!(wanted, expected, "{what}"),
                (Err(problem), Err(words)) => assert!(problem.contains(words), "{what}: {problem}"),
                (wanted, _) => panic!("{what}: {wanted:?}"),
            }
        }
    }

    #[test]
    fn tls_begins_at_once_only_where_it_is_asked_for_in_any_case() {
        for (text, expected) in [
            ("sslmode=require", true),
            ("sslmode=verify-ca", true),
            ("sslrootcert=system", true),
            ("", false),
            ("sslmode=prefer", false),
            ("sslmode=disable", false),
        ] {
            let address = format!("host=db sslnegotiation=direct {text}");
            let parts = AddressParts::parse(&address).unwrap();
            let tls = Tls::read(&parts, &config(None, None));
            assert_eq!(tls.is_ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_password_goes_out_in_clear_text_only_where_something_was_said() {
        for (text, expected) in [
            ("", false),
            ("sslmode=prefer", true),
            ("sslmode=disable", true),
            ("sslmode=require", true),
            ("sslrootcert=system", true),
        ] {
            let parts = AddressParts::parse(&format!("host=db {text}")).unwrap();
            let tls = Tls::read(&parts, &config(None, None)).unwrap();
            assert_eq!(tls.trusts_the_way(&parts), expected, "{text}");
        }
    }

    #[test]
    fn a_file_of_certificates_that_is_none_is_named() {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        for (file, words) in [
            ("/no/such.pem", "cannot be read"),
            (manifest, "holds no certificate"),
        ] {
            let parts = AddressParts::parse(&format!("host=db sslrootcert={file}")).unwrap();
            let problem = Tls::read(&parts, &config(None, None)).err().unwrap();
            assert!(
                problem.contains(file) && problem.contains(words),
                "{problem}"
            );
        }
    }
}
