//! TCP with TLS 1.3 by rustls on ring: AES-256-GCM, X25519, an Ed25519 certificate that the
//! initiator verifies.
//!
//! Records of 16 KiB, the largest that TLS has, from writes of 64 KiB; reads of 256 KiB. No
//! resumption: every connection is a full handshake. TCP as in plain TCP.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use super::stream::{self, Batch, Inbox, Wire, read_some};
use super::{Entry, not_over_udp};
use crate::link::{Application, Peer, Result, Wait};
use crate::run::run;

/// Bytes of one write of small messages: four records.
const BATCH_LEN: usize = 64 << 10;
/// Bytes of one read.
const READ_LEN: usize = 256 << 10;
/// Bytes of plaintext given to rustls at a time.
const CHUNK_LEN: usize = 64 << 10;

pub(super) fn entries() -> Vec<Entry> {
    vec![Entry {
        name: "tls",
        settings: "TCP with rustls (ring): TLS 1.3, AES-256-GCM, 16-KiB records, TCP_NODELAY",
        is_encrypted: true,
        excuse: not_over_udp,
        run: |workload, seconds| run(&Tls::new()?, workload, seconds, true),
    }]
}

struct Tls {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Tls {
    fn new() -> Result<Self> {
        let (client, server) = configs()?;
        Ok(Self { client: Arc::new(client), server: Arc::new(server) })
    }
}

/// What both sides of TLS 1.3 on AES-256-GCM need.
pub(super) fn configs() -> Result<(ClientConfig, ServerConfig)> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
    let certificate =
        rcgen::CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(&key)?;
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![ring::cipher_suite::TLS13_AES_256_GCM_SHA384];
    provider.kx_groups = vec![ring::kx_group::X25519];
    let provider = Arc::new(provider);
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone())?;
    let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.resumption = Resumption::disabled();
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )?;
    server.send_tls13_tickets = 0;
    Ok((client, server))
}

impl Peer for Tls {
    fn respond<A: Application>(
        &self,
        _: Wait,
        announce: impl FnOnce(SocketAddr),
        application: A,
    ) -> Result<A> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        announce(listener.local_addr()?);
        let wrap = |stream| {
            let session = ServerConnection::new(Arc::clone(&self.server))?;
            Ok(TlsWire::new(stream, session.into()))
        };
        stream::respond(&listener, BATCH_LEN, wrap, application)
    }

    fn initiate<A: Application>(&self, _: Wait, to: SocketAddr, application: A) -> Result<A> {
        let name = ServerName::try_from("localhost")?;
        let wrap = |stream| {
            let session = ClientConnection::new(Arc::clone(&self.client), name.clone())?;
            Ok(TlsWire::new(stream, session.into()))
        };
        stream::initiate(to, BATCH_LEN, wrap, application)
    }
}

struct TlsWire {
    stream: TcpStream,
    session: rustls::Connection,
    read: Vec<u8>,
}

impl TlsWire {
    fn new(stream: TcpStream, mut session: rustls::Connection) -> Self {
        session.set_buffer_limit(Some(2 * CHUNK_LEN));
        Self { stream, session, read: vec![0; READ_LEN] }
    }
}

impl Wire for TlsWire {
    fn read(&mut self, inbox: &mut Inbox) -> io::Result<Option<()>> {
        let Some(len) = read_some(&self.stream, &mut self.read)? else { return Ok(None) };
        let mut sealed = &self.read[..len];
        while !sealed.is_empty() {
            self.session.read_tls(&mut sealed)?;
            self.session.process_new_packets().map_err(io::Error::other)?;
            loop {
                match self.session.reader().read(inbox.room()) {
                    Ok(0) => return Ok(None),
                    Ok(len) => inbox.filled(len),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(Some(()))
    }

    fn write(&mut self, batch: &mut Batch) -> io::Result<()> {
        loop {
            while self.session.wants_write() {
                match self.session.write_tls(&mut self.stream) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            if self.session.is_handshaking() || batch.rest().is_empty() {
                return Ok(());
            }
            let rest = batch.rest();
            let len = self.session.writer().write(&rest[..rest.len().min(CHUNK_LEN)])?;
            batch.advance(len);
        }
    }
}
