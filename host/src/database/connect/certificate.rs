//! Certificates: whom to trust, who we are, and what a login can be bound to.
//!
//! Promises: a file that is named and cannot be used is an error, never passed over.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Reader, SliceReader};
use ring::digest;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring as provider, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::verifier::Verifier;
use crate::config::Verify;
use crate::config::address::Roots;

/// Whom to trust, and who we are.
pub(super) struct Trust {
    /// None stands for the system's.
    roots: Option<Arc<RootCertStore>>,
    /// Those of the file that is named, which a server may show as its own.
    known: Arc<[CertificateDer<'static>]>,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl Trust {
    /// Reads the files that are named.
    pub(super) fn read(
        roots: &Roots,
        identity: Option<(PathBuf, PathBuf)>,
    ) -> Result<Self, String> {
        let known = match roots {
            Roots::System => Vec::new(),
            Roots::File(path) => certificates(path)?,
        };
        let roots = match roots {
            Roots::System => None,
            Roots::File(path) => {
                let source = format!("the file {}", path.display());
                Some(store(known.clone(), &source)?)
            }
        };
        let identity = identity.map(|(certificate, key)| {
            let chain = certificates(&certificate)?;
            let secret = PrivateKeyDer::from_pem_file(&key).map_err(|error| {
                format!(
                    "the key file {} holds no unencrypted key in PEM: {error}",
                    key.display()
                )
            })?;
            Ok::<_, String>((chain, secret))
        });
        Ok(Self {
            roots,
            known: known.into(),
            identity: identity.transpose()?,
        })
    }

    /// A TLS client that checks so far.
    pub(super) fn client(&self, verify: Verify) -> Result<ClientConfig, String> {
        let failed = |error: &dyn std::fmt::Display| format!("TLS cannot be set up: {error}");
        let provider = Arc::new(provider::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match verify {
            Verify::Nothing => Arc::new(Unchecked(provider.clone())),
            Verify::Ca | Verify::Full => {
                let roots = match &self.roots {
                    Some(roots) => roots.clone(),
                    None => system()?,
                };
                let strict = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
                    .build()
                    .map_err(|error| failed(&error))?;
                Arc::new(Verifier {
                    strict,
                    certificates: self.known.clone(),
                    any_name: verify == Verify::Ca,
                })
            }
        };
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        match &self.identity {
            None => Ok(client.with_no_client_auth()),
            Some((chain, key)) => client
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(|error| format!("sslcert and sslkey cannot be used: {error}")),
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unreadable = |error: &dyn std::fmt::Display| {
        format!("the file {} cannot be read: {error}", path.display())
    };
    let bytes = std::fs::read(path).map_err(|error| unreadable(&error))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!(
            "the file {} holds no certificate in PEM",
            path.display()
        )),
        Err(error) => Err(unreadable(&error)),
    }
}

fn store(
    certificates: Vec<CertificateDer<'static>>,
    source: &str,
) -> Result<Arc<RootCertStore>, String> {
    let mut store = RootCertStore::empty();
    // A system's collection may hold one that is no longer understood; the others still count.
    let (taken, _) = store.add_parsable_certificates(certificates);
    match taken {
        0 => Err(format!(
            "{source} holds no certificate of an authority that can be used"
        )),
        _ => Ok(Arc::new(store)),
    }
}

/// The system's certificate authorities, read once.
fn system() -> Result<Arc<RootCertStore>, String> {
    static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = SYSTEM.get() {
        return Ok(roots.clone());
    }
    let found = rustls_native_certs::load_native_certs();
    let roots = store(found.certs, "this system")
        .map_err(|problem| format!("{problem}; give a file with tls = {{ ca = \"file.pem\" }}"))?;
    Ok(SYSTEM.get_or_init(|| roots).clone())
}

/// A name as certificates have it, without the word for its kind: `DnsName("db")` is db.
pub(super) fn plain(name: &str) -> String {
    let inner = name.split_once('(').map_or(name, |(_, rest)| rest);
    inner.trim_end_matches(')').trim_matches('"').to_owned()
}

/// The hash of a certificate that a SCRAM login can be bound to (`tls-server-end-point`, RFC 5929):
/// by the algorithm of the certificate's own signature, where that has one.
pub(super) fn end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let algorithm = match signature_algorithm(certificate).ok()?.to_string().as_str() {
        // MD5 and SHA-1 are too weak for it; SHA-256 takes their place.
        "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1" => &digest::SHA256,
        "1.2.840.113549.1.1.11" | "1.2.840.10045.4.3.2" => &digest::SHA256,
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => &digest::SHA384,
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

fn signature_algorithm(certificate: &[u8]) -> der::Result<ObjectIdentifier> {
    SliceReader::new(certificate)?.sequence(|certificate| {
        let _: AnyRef<'_> = certificate.decode()?;
        let algorithm = certificate.sequence(|algorithm| {
            let identifier = algorithm.decode()?;
            let _: Option<AnyRef<'_>> = algorithm.decode()?;
            Ok(identifier)
        })?;
        let _: AnyRef<'_> = certificate.decode()?;
        Ok(algorithm)
    })
}

/// Checks nothing but that the server has the key of the certificate that it shows.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
