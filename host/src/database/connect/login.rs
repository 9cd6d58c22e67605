//! The login: from the first message on a stream to the server's first `ReadyForQuery`.
//!
//! Promises:
//! - a login is read within a bound of bytes; whatever else than a login comes is an error;
//! - a server that does not prove that it knows the password (SCRAM) is not believed to be one;
//! - a password goes out in clear text only where [`Credentials::clear_text`] allows it.
//!
//! Left to others: where the stream and the password come from.

use std::collections::BTreeMap;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{self, ScramSha256};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::failure::Failure;
use super::stream::Stream;
use crate::config::address::ChannelBinding;
use crate::database::server_error::ServerError;
use crate::limits;

type Result<T> = std::result::Result<T, Failure>;

/// Who logs in, and how they prove it.
pub(super) struct Credentials<'a> {
    pub(super) user: &'a str,
    pub(super) password: Option<&'a [u8]>,
    /// Whether the password may be sent as it is.
    pub(super) clear_text: bool,
    pub(super) channel_binding: ChannelBinding,
}

/// What the server told during the login.
pub(super) struct Greeting {
    pub(super) process_id: i32,
    pub(super) secret_key: i32,
    pub(super) parameters: BTreeMap<String, String>,
}

/// A stream on which whole messages are exchanged, one after the other.
pub(super) struct Exchange {
    pub(super) stream: Stream,
    pub(super) received: BytesMut,
    /// How many bytes may still come.
    allowance: usize,
}

impl Exchange {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            received: BytesMut::new(),
            allowance: limits::LOGIN_BYTES_MAX,
        }
    }

    /// Logs in. `startup` are the settings for the session.
    pub(super) async fn log_in(
        &mut self,
        startup: &[(&str, &str)],
        credentials: &Credentials<'_>,
    ) -> Result<Greeting> {
        self.send(|buffer| frontend::startup_message(startup.iter().copied(), buffer))
            .await?;
        self.authenticate(credentials).await?;
        let mut greeting = Greeting {
            process_id: 0,
            secret_key: 0,
            parameters: BTreeMap::new(),
        };
        loop {
            match self.message().await? {
                Message::BackendKeyData(body) => {
                    greeting.process_id = body.process_id();
                    greeting.secret_key = body.secret_key();
                }
                Message::ParameterStatus(body) => {
                    let (name, value) = (body.name().map_err(broken)?, body.value());
                    let value = value.map_err(broken)?.to_owned();
                    greeting.parameters.insert(name.to_owned(), value);
                }
                Message::ReadyForQuery(_) => return Ok(greeting),
                _ => return Err(out_of_turn()),
            }
        }
    }

    async fn authenticate(&mut self, credentials: &Credentials<'_>) -> Result<()> {
        let first = self.message().await?;
        let bound = matches!(first, Message::AuthenticationSasl(_));
        if !bound && credentials.channel_binding == ChannelBinding::Require {
            return Err(not_bound());
        }
        match first {
            Message::AuthenticationOk => return Ok(()),
            Message::AuthenticationCleartextPassword => {
                let password = credentials.password()?;
                if !credentials.clear_text {
                    return Err(Failure::Login(
                        "the server asks for the password in clear text, and it is not known who the server is; \
                         say sslmode=verify-full, or that the way there can be trusted: sslmode=disable or prefer"
                            .to_owned(),
                    ));
                }
                self.send(|buffer| frontend::password_message(password, buffer))
                    .await?;
            }
            Message::AuthenticationMd5Password(body) => {
                let user = credentials.user.as_bytes();
                let hash = md5_hash(user, credentials.password()?, body.salt());
                self.send(|buffer| frontend::password_message(hash.as_bytes(), buffer))
                    .await?;
            }
            Message::AuthenticationSasl(body) => self.scram(&body, credentials).await?,
            Message::AuthenticationKerberosV5
            | Message::AuthenticationScmCredential
            | Message::AuthenticationGss
            | Message::AuthenticationSspi => {
                return Err(Failure::Login(
                    "the server asks for a login by Kerberos, GSSAPI or SSPI; give this role one by SCRAM in pg_hba.conf"
                        .to_owned(),
                ));
            }
            _ => return Err(out_of_turn()),
        }
        match self.message().await? {
            Message::AuthenticationOk => Ok(()),
            _ => Err(out_of_turn()),
        }
    }

    async fn scram(
        &mut self,
        offer: &AuthenticationSaslBody,
        credentials: &Credentials<'_>,
    ) -> Result<()> {
        let offered: Vec<&str> = offer.mechanisms().collect().map_err(broken)?;
        let (binding, mechanism) = self.binding(&offered, credentials)?;
        let failed = |error| Failure::Login(format!("the SCRAM login failed: {error}"));
        let mut scram = ScramSha256::new(credentials.password()?, binding);
        self.send(|buffer| frontend::sasl_initial_response(mechanism, scram.message(), buffer))
            .await?;
        let Message::AuthenticationSaslContinue(body) = self.message().await? else {
            return Err(out_of_turn());
        };
        scram.update(body.data()).map_err(failed)?;
        self.send(|buffer| frontend::sasl_response(scram.message(), buffer))
            .await?;
        let Message::AuthenticationSaslFinal(body) = self.message().await? else {
            return Err(out_of_turn());
        };
        scram.finish(body.data()).map_err(failed)
    }

    /// Which mechanism, and what binds it to the channel.
    fn binding(
        &self,
        offered: &[&str],
        credentials: &Credentials<'_>,
    ) -> Result<(sasl::ChannelBinding, &'static str)> {
        let wanted = credentials.channel_binding;
        let end_point = match wanted {
            ChannelBinding::Disable => None,
            _ => self.stream.end_point(),
        };
        let plus = offered.contains(&sasl::SCRAM_SHA_256_PLUS);
        match end_point {
            Some(hash) if plus => Ok((
                sasl::ChannelBinding::tls_server_end_point(hash),
                sasl::SCRAM_SHA_256_PLUS,
            )),
            _ if wanted == ChannelBinding::Require => Err(not_bound()),
            _ if !offered.contains(&sasl::SCRAM_SHA_256) => Err(Failure::Login(
                "the server offers no login by SCRAM-SHA-256, which is the one known here"
                    .to_owned(),
            )),
            // Said so that a server that did offer it notices that somebody took its offer away.
            Some(_) => Ok((sasl::ChannelBinding::unrequested(), sasl::SCRAM_SHA_256)),
            None => Ok((sasl::ChannelBinding::unsupported(), sasl::SCRAM_SHA_256)),
        }
    }

    /// Sends one message.
    pub(super) async fn send(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> std::io::Result<()>,
    ) -> Result<()> {
        let mut buffer = BytesMut::new();
        write(&mut buffer)
            .map_err(|error| Failure::Login(format!("the login cannot be sent: {error}")))?;
        self.stream.write_all(&buffer).await.map_err(lost)?;
        self.stream.flush().await.map_err(lost)
    }

    /// The next message, which is no error, and nothing that concerns no answer: a notice or a notification.
    pub(super) async fn message(&mut self) -> Result<Message> {
        loop {
            self.check_announced()?;
            match Message::parse(&mut self.received).map_err(broken)? {
                Some(Message::ErrorResponse(body)) => {
                    let error = ServerError::read(body.fields());
                    return Err(Failure::Refused(Box::new(error)));
                }
                Some(Message::NoticeResponse(_) | Message::NotificationResponse(_)) => {}
                Some(message) => return Ok(message),
                None => self.read().await?,
            }
        }
    }

    // For a message that announces more than may come, the parser would reserve that much.
    fn check_announced(&self) -> Result<()> {
        let length = self.received.get(1..5).unwrap_or_default();
        let announced = length
            .iter()
            .fold(0, |sum, byte| (sum << 8) | usize::from(*byte));
        match announced > limits::LOGIN_BYTES_MAX {
            true => Err(broken("")),
            false => Ok(()),
        }
    }

    async fn read(&mut self) -> Result<()> {
        if self.allowance == 0 {
            return Err(broken(""));
        }
        let before = self.received.len();
        let chunk = self.allowance.min(limits::LOGIN_READ_BYTES);
        let mut limited = (&mut self.stream).take(chunk as u64);
        if limited.read_buf(&mut self.received).await.map_err(lost)? == 0 {
            return Err(Failure::Gone(
                "the server closed the connection during the login".to_owned(),
            ));
        }
        self.allowance -= self.received.len() - before;
        Ok(())
    }
}

impl Credentials<'_> {
    fn password(&self) -> Result<&[u8]> {
        self.password.ok_or_else(|| {
            Failure::Login(
                "the server asks for a password, and none is configured; put it into the url, or set `password`"
                    .to_owned(),
            )
        })
    }
}

fn lost(error: std::io::Error) -> Failure {
    Failure::of_stream(&error, "the connection was lost during the login: ")
}

fn not_bound() -> Failure {
    Failure::Login(
        "channel_binding=require, but the server does not bind the login to the TLS connection"
            .to_owned(),
    )
}

pub(super) fn out_of_turn() -> Failure {
    broken("")
}

// What exactly is wrong helps nobody: the answer is not PostgreSQL's.
fn broken(_: impl Sized) -> Failure {
    Failure::Login(
        "what answers there does not speak PostgreSQL's protocol; check the host and the port"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// A pooler may hand on what somebody has told a session before.
    #[tokio::test]
    async fn what_is_told_unasked_during_a_login_is_passed_over() {
        const NOTIFICATION: &[u8] = b"A\0\0\0\x0f\0\0\0\x07news\0x\0";
        const NOTICE: &[u8] = b"N\0\0\0\x05\0";
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            for said in [
                NOTICE,
                b"R\0\0\0\x08\0\0\0\0",
                NOTIFICATION,
                b"S\0\0\0\x08a\0b\0",
                NOTIFICATION,
                NOTICE,
                b"K\0\0\0\x0c\0\0\0\x09\0\0\0\x08",
                NOTIFICATION,
                b"Z\0\0\0\x05I",
            ] {
                stream.write_all(said).await.unwrap();
            }
            stream
        };
        let client = async {
            let stream = TcpStream::connect(address).await.unwrap();
            let mut exchange = Exchange::new(Stream::Tcp(stream));
            let credentials = Credentials {
                user: "somebody",
                password: None,
                clear_text: false,
                channel_binding: ChannelBinding::Disable,
            };
            let greeting = exchange.log_in(&[], &credentials).await;
            greeting.map_err(|_| "it is not taken for a login")
        };
        let (_server, greeting) = tokio::join!(server, client);
        let greeting = greeting.unwrap();
        assert_eq!((greeting.process_id, greeting.secret_key), (9, 8));
        assert_eq!(greeting.parameters["a"], "b");
    }
}
