//! What both sides of TLS 1.3 need: an Ed25519 certificate that the initiator verifies; with rustls
//! on ring, AES-256-GCM and X25519. No resumption: every connection is a full handshake.

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};

use crate::link::Result;

/// The name in the certificate.
pub(super) const NAME: &str = "localhost";

/// A certificate that signs itself, and its key; both in DER.
pub(super) fn certificate() -> Result<(Vec<u8>, Vec<u8>)> {
    let key = KeyPair::generate_for(&PKCS_ED25519)?;
    let certificate = CertificateParams::new(vec![NAME.to_owned()])?.self_signed(&key)?;
    Ok((certificate.der().to_vec(), key.serialize_der()))
}

/// The settings of the initiator and of the responder.
#[cfg(any(feature = "quinn", feature = "tls"))]
pub(super) fn configs() -> Result<(rustls::ClientConfig, rustls::ServerConfig)> {
    use rustls::crypto::ring;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    let (certificate, key) = certificate()?;
    let certificate = CertificateDer::from(certificate);
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![ring::cipher_suite::TLS13_AES_256_GCM_SHA384];
    provider.kx_groups = vec![ring::kx_group::X25519];
    let provider = std::sync::Arc::new(provider);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone())?;
    let mut client = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.resumption = rustls::client::Resumption::disabled();
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(key.into()))?;
    server.send_tls13_tickets = 0;
    Ok((client, server))
}
