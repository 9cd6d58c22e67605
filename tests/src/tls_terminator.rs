//! A proxy that speaks TLS to its clients and plain TCP to the server behind it. TLS begins with the connection,
//! as PostgreSQL 17 and proxies of the cloud let it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::certificate_authority::Identity;

/// A proxy in front of one server, until it is dropped.
pub struct TlsTerminator {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl TlsTerminator {
    /// Starts one in front of this server. It shows this certificate, and offers these protocols (ALPN).
    pub async fn before(server: SocketAddr, identity: &Identity, protocols: &[&str]) -> Self {
        let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes());
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("they fit each other")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.expect("it is one")],
                key.expect("it is one"),
            )
            .expect("they belong together");
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(acceptor.clone(), stream, server));
            }
        });
        Self { address, serving }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, server: SocketAddr) {
    // Whoever asks for TLS first is none of its clients.
    let (Ok(mut inside), Ok(mut outside)) = (
        acceptor.accept(stream).await,
        TcpStream::connect(server).await,
    ) else {
        return;
    };
    _ = copy_bidirectional(&mut inside, &mut outside).await;
}

impl Drop for TlsTerminator {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
