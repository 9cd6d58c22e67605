//! How a server's certificate is checked.
//!
//! Promises: one that is itself among those that are trusted is taken though it is an authority's (`CA:TRUE`, as
//! `openssl req -x509` makes them), which no server's is to be; its dates and names are checked as any other's; and
//! the server has proved that it has the key. Where any name will do, everything but the name is checked.

use std::sync::Arc;

use der::{Decode, Reader, SliceReader, Tagged, asn1::AnyRef};
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

/// Checks a server's certificate as rustls does, and takes one that is itself trusted as well.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) strict: Arc<WebPkiServerVerifier>,
    /// The certificates in the file that the configuration names, if it names one.
    pub(super) certificates: Arc<[CertificateDer<'static>]>,
    /// Whether the certificate may be for another host than the one that is connected to.
    pub(super) any_name: bool,
}

impl Verifier {
    /// Checks one that the strict check has refused.
    fn check(
        &self,
        error: Error,
        end_entity: &CertificateDer<'_>,
        server_name: &ServerName<'_>,
    ) -> Result<ServerCertVerified, Error> {
        // The dates were found to be right before this, and nothing else was looked at.
        if !is_an_authoritys(&error) {
            return Err(error);
        }
        if !self.certificates.contains(end_entity) {
            return Err(match signs_itself(end_entity) {
                Ok(true) => CertificateError::UnknownIssuer.into(),
                _ => error,
            });
        }
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        Ok(ServerCertVerified::assertion())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let strict = &self.strict;
        let checked = strict
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .or_else(|error| self.check(error, end_entity, server_name));
        match checked {
            // The name is looked at last: everything else is right.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.any_name => Ok(ServerCertVerified::assertion()),
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.strict.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.strict.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.strict.supported_verify_schemes()
    }
}

/// Whether a certificate was refused because it is an authority's, which no server's is to be.
pub(super) fn is_an_authoritys(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else {
        return false;
    };
    other.0.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity)
}

/// Whether its issuer has the name that it has itself.
fn signs_itself(certificate: &[u8]) -> der::Result<bool> {
    SliceReader::new(certificate)?.sequence(|certificate| {
        let named_alike = certificate.sequence(|fields| {
            let version_or_number = AnyRef::decode(fields)?;
            if version_or_number.tag().is_context_specific() {
                AnyRef::decode(fields)?;
            }
            AnyRef::decode(fields)?;
            let issuer = AnyRef::decode(fields)?;
            AnyRef::decode(fields)?;
            let subject = AnyRef::decode(fields)?;
            skip(fields)?;
            Ok(issuer == subject)
        });
        skip(certificate)?;
        named_alike
    })
}

fn skip<'a>(reader: &mut impl Reader<'a>) -> der::Result<()> {
    while !reader.is_finished() {
        AnyRef::decode(reader)?;
    }
    Ok(())
}
