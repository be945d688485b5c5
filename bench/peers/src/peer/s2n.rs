//! s2n-quic: QUIC on tokio, its TLS by rustls, its packet ciphers by aws-lc. It prefers
//! AES-128-GCM, and its builder does not ask.
//!
//! Messages behind their lengths in one stream. A runtime on each side's thread. UDP payloads of
//! 1400 B from the start; GSO and GRO, socket buffers of 8 MiB; windows and stream buffers of 64 MiB, so
//! that congestion control alone (CUBIC) limits.

use std::net::SocketAddr;

use s2n_quic::client::Connect;
use s2n_quic::provider::limits::Limits;
use s2n_quic::provider::{io, tls};
use s2n_quic::{Client, Connection, Server};

use super::certificate::{NAME, certificate};
use super::quic::{Lane, block_on, drive, unless_over};
use super::{Entry, none, udp};
use crate::link::{Application, Next, Peer, Result, Wait};
use crate::run::run;

/// Bytes of an IP packet whose UDP payload has 1400.
const PACKET_LEN: u16 = 1_428;
/// Bytes that may be under way.
const WINDOW_LEN: u32 = 64 << 20;

pub(super) fn entries() -> Vec<Entry> {
    vec![Entry {
        name: "s2n-quic",
        settings: "one stream, AES-128-GCM (aws-lc), UDP payloads of 1400 B",
        is_encrypted: true,
        excuse: none,
        run: |workload, seconds| {
            let (certificate, key) = certificate()?;
            run(&S2n { certificate, key }, workload, seconds, true)
        },
    }]
}

struct S2n {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

fn io() -> Result<io::tokio::Provider> {
    let builder = io::tokio::Builder::default()
        .with_rx_socket(udp::bind()?)?
        .with_max_mtu(PACKET_LEN)?
        .with_initial_mtu(PACKET_LEN)?;
    Ok(builder.build()?)
}

fn limits() -> Result<Limits> {
    Ok(Limits::new()
        .with_data_window(WINDOW_LEN.into())?
        .with_bidirectional_local_data_window(WINDOW_LEN.into())?
        .with_bidirectional_remote_data_window(WINDOW_LEN.into())?
        .with_max_send_buffer_size(WINDOW_LEN)?)
}

impl Peer for S2n {
    fn respond<A: Application>(
        &self,
        wait: Wait,
        announce: impl FnOnce(SocketAddr) + Send + 'static,
        mut application: A,
    ) -> Result<A> {
        let tls = tls::rustls::Server::builder()
            .with_certificate(vec![self.certificate.clone()], self.key.clone())?
            .build()?;
        block_on(wait, async move {
            let server = Server::builder().with_tls(tls)?.with_io(io()?)?.with_limits(limits()?)?;
            let mut server = server.start()?;
            announce(server.local_addr()?);
            while let Some(connection) = unless_over(&mut application, server.accept()).await {
                let mut connection = connection.ok_or("the endpoint is closed")?;
                let Some(stream) = connection.accept_bidirectional_stream().await? else {
                    continue;
                };
                let mut lanes = [Lane::new(stream, false)];
                if drive(&mut lanes, wait, &mut application).await == Next::Stop {
                    break;
                }
            }
            Ok(application)
        })
    }

    fn initiate<A: Application>(
        &self,
        wait: Wait,
        to: SocketAddr,
        mut application: A,
    ) -> Result<A> {
        let tls = tls::rustls::Client::builder()
            .with_certificate(vec![self.certificate.clone()])?
            .build()?;
        block_on(wait, async move {
            let client = Client::builder().with_tls(tls)?.with_io(io()?)?.with_limits(limits()?)?;
            let client = client.start()?;
            loop {
                let connect = Connect::new(to).with_server_name(NAME);
                let mut connection: Connection = client.connect(connect).await?;
                let mut lanes = [Lane::new(connection.open_bidirectional_stream().await?, true)];
                let next = drive(&mut lanes, wait, &mut application).await;
                connection.close(0_u32.into());
                match next {
                    Next::Go => return Err("the responder closed the connection".into()),
                    Next::Reconnect => {}
                    Next::Stop => return Ok(application),
                }
            }
        })
    }
}
