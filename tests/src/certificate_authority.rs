//! A certificate authority of the tests' own: makes certificates for servers that speak TLS, and for their clients.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

use crate::run;

/// An authority that nobody knows, but whoever is given its certificate.
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// A certificate with its key, both in PEM.
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl CertificateAuthority {
    /// A new authority of this name.
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key can be made");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("it signs itself").pem();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    /// The certificate of a host that vouches for itself, made as that of an authority (`openssl req -x509`
    /// does so) and good until the begin of this year.
    pub fn of_itself(host: &str, year: i32) -> Identity {
        let key = KeyPair::generate().expect("a key can be made");
        let mut params = CertificateParams::new([host.to_owned()]).expect("it is a host's name");
        params.distinguished_name.push(DnType::CommonName, host);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = date_time_ymd(year, 1, 1);
        let certificate = params.self_signed(&key).expect("it signs itself");
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// Its certificate, in PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Its certificate as a file of its own.
    pub fn file(&self) -> PathBuf {
        file("ca.pem", &self.certificate)
    }

    /// A certificate for this host, or for a client of this name.
    pub fn issue(&self, name: &str) -> Identity {
        self.issue_until(name, 4000)
    }

    /// A certificate for this host that is good until the begin of this year.
    pub fn issue_until(&self, name: &str, year: i32) -> Identity {
        let key = KeyPair::generate().expect("a key can be made");
        let mut params = CertificateParams::new([name.to_owned()]).expect("it is a host's name");
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = date_time_ymd(year, 1, 1);
        let certificate = params
            .signed_by(&key, &self.issuer)
            .expect("the authority signs it");
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

/// A file with this text, in a directory of its own.
pub fn file(name: &str, text: &str) -> PathBuf {
    let path = run::fresh_directory().join(name);
    std::fs::write(&path, text).expect("the directory is new");
    path
}
