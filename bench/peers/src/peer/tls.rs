//! TCP with TLS 1.3 by rustls on ring: AES-256-GCM, X25519, an Ed25519 certificate that the
//! initiator verifies.
//!
//! Records of 16 KiB, the largest that TLS has, from writes of 64 KiB; reads of 256 KiB. No
//! resumption: every connection is a full handshake. TCP as in plain TCP.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

use super::certificate::{NAME, configs};
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

impl Peer for Tls {
    fn respond<A: Application>(
        &self,
        _: Wait,
        announce: impl FnOnce(SocketAddr) + Send + 'static,
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
        let name = ServerName::try_from(NAME)?;
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
