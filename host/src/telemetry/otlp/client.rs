//! The way of spans to their collector: one HTTP request on a connection of its own.
//!
//! Promises: no connection is kept, since a freeze would break it; with `https` the certificate is
//! checked in full, against the authorities that OpenTelemetry's variables name, or else the system's;
//! an answer of absurd size is not read.
//!
//! Left to others: how long it may take ([`super::Spans::flush`]), and what is in it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use http::header::{CONNECTION, HOST, HeaderValue};
use http::uri::Scheme;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::config::variable;
use crate::limits;

/// Name a file with certificates in PEM, the first of them that is set: whom to trust with `https`.
const AUTHORITIES: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
];

/// Sends requests.
pub(super) struct Client {
    /// Those that a variable names.
    authorities: Option<RootCertStore>,
    /// Made for the first request that needs it.
    tls: OnceCell<TlsConnector>,
}

impl Client {
    /// As OpenTelemetry's variables have it. Fails if they name a file without certificates.
    pub(super) fn from_variables() -> Result<Self, String> {
        let mut variables = AUTHORITIES.iter();
        let named = variables.find_map(|name| {
            let file = variable(name)?;
            Some(authorities(&file).map_err(|error| format!("{name}: {file:?}: {error}")))
        });
        Ok(Self {
            authorities: named.transpose()?,
            tls: OnceCell::new(),
        })
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (mut head, body) = request.into_parts();
        let uri = std::mem::take(&mut head.uri);
        let (Some(authority), path) = (uri.authority(), uri.path_and_query()) else {
            return Err("the collector's address names no host".into());
        };
        let is_https = uri.scheme() == Some(&Scheme::HTTPS);
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        let port = authority
            .port_u16()
            .unwrap_or(if is_https { 443 } else { 80 });
        head.headers
            .insert(HOST, HeaderValue::from_str(authority.as_str())?);
        head.headers
            .insert(CONNECTION, HeaderValue::from_static("close"));
        head.uri = path.map_or("/", |path| path.as_str()).parse()?;
        let request = Request::from_parts(head, Full::new(body));
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        if !is_https {
            return exchange(stream, request).await;
        }
        let name = ServerName::try_from(host.to_owned())?;
        let tls = self.tls.get_or_try_init(async || self.connector()).await?;
        exchange(tls.connect(name, stream).await?, request).await
    }

    fn connector(&self) -> Result<TlsConnector, HttpError> {
        let roots = self.authorities.clone().unwrap_or_else(|| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        });
        let provider = Arc::new(crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

impl HttpClient for Client {
    fn send_bytes<'client, 'future>(
        &'client self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'future>>
    where
        'client: 'future,
        Self: 'future,
    {
        Box::pin(async move {
            let sent = self.send(request).await;
            if let Err(error) = &sent {
                tracing::debug!(%error, "the collector of spans was not reached");
            }
            sent
        })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Client").finish_non_exhaustive()
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, HttpError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchanged = async move {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, limits::EXPORT_REPLY_BYTES_MAX);
        let bytes = body.collect().await?.to_bytes();
        Ok::<_, HttpError>(Response::from_parts(head, bytes))
    };
    let mut exchanged = std::pin::pin!(exchanged);
    tokio::select! {
        biased;
        exchanged = &mut exchanged => exchanged,
        ended = connection => {
            ended?;
            exchanged.await
        }
    }
}

/// The certificates in a file, of which there has to be one.
fn authorities(file: &str) -> Result<RootCertStore, Box<dyn std::error::Error>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file)? {
        roots.add(certificate?)?;
    }
    match roots.is_empty() {
        true => Err("there is no certificate in it".into()),
        false => Ok(roots),
    }
}
