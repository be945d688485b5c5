//! quinn: QUIC on tokio and rustls (ring), AES-256-GCM.
//!
//! Messages behind their lengths in one stream, or in 16 in turn, so that a loss stops only a
//! sixteenth; or each in a datagram of its own, which promises nothing. A runtime on each side's
//! thread. UDP payloads of 1400 B without discovery; with 64 KiB, and without the GSO that does
//! not take ten of them, it stood still for most of the time. GSO and GRO, socket buffers of 8 MiB;
//! windows of 64 MiB, so that congestion control alone (CUBIC) limits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, ServerConfig, TokioRuntime,
    TransportConfig, VarInt,
};

use super::certificate::{NAME, configs};
use super::quic::{Lane, block_on, drive, unless_over};
use super::{Entry, none, udp};
use crate::link::{Application, Next, Outbox, Peer, Result, Wait};
use crate::run::run;
use crate::workload::Workload;

/// Bytes of a UDP payload, without discovery.
const PAYLOAD_LEN: u16 = 1_400;
/// Bytes that may be under way.
const WINDOW_LEN: u32 = 64 << 20;
/// Streams, if there are many.
const STREAMS: usize = 16;

pub(super) fn entries() -> Vec<Entry> {
    vec![
        Entry {
            name: "quinn",
            settings: "one stream, AES-256-GCM, UDP payloads of 1400 B",
            is_encrypted: true,
            excuse: none,
            run: |workload, seconds| {
                run(&Quinn::new(Carrier::Streams(1))?, workload, seconds, true)
            },
        },
        Entry {
            name: "quinn 16 streams",
            settings: "16 streams in turn, AES-256-GCM, UDP payloads of 1400 B",
            is_encrypted: true,
            excuse: none,
            run: |workload, seconds| {
                run(&Quinn::new(Carrier::Streams(STREAMS))?, workload, seconds, true)
            },
        },
        Entry {
            name: "quinn datagrams",
            settings: "a datagram a message, none resent, AES-256-GCM, UDP payloads of 1400 B",
            is_encrypted: true,
            excuse: |workload| match workload {
                Workload::LossyFlood { .. } | Workload::LossyPaced { .. } => {
                    Some("not measured here: it resends nothing")
                }
                Workload::Flood { size } if size > usize::from(PAYLOAD_LEN) => {
                    Some("not measured here: longer than a datagram")
                }
                _ => None,
            },
            run: |workload, seconds| {
                run(&Quinn::new(Carrier::Datagrams)?, workload, seconds, false)
            },
        },
    ]
}

/// What carries messages.
#[derive(Clone, Copy)]
enum Carrier {
    Datagrams,
    Streams(usize),
}

struct Quinn {
    carrier: Carrier,
    endpoint: EndpointConfig,
    client: ClientConfig,
    server: ServerConfig,
}

impl Quinn {
    fn new(carrier: Carrier) -> Result<Self> {
        let endpoint = EndpointConfig::default();
        let mut transport = TransportConfig::default();
        transport
            .stream_receive_window(VarInt::from_u32(WINDOW_LEN))
            .receive_window(VarInt::from_u32(WINDOW_LEN))
            .send_window(WINDOW_LEN.into())
            .datagram_receive_buffer_size(Some(WINDOW_LEN as usize))
            .datagram_send_buffer_size(1 << 20)
            .initial_mtu(PAYLOAD_LEN)
            .mtu_discovery_config(None);
        let transport = Arc::new(transport);
        let (client, server) = configs()?;
        let initial = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256
            .tls13()
            .and_then(rustls::Tls13CipherSuite::quic_suite)
            .ok_or("the suite of first packets is missing")?;
        let client = QuicClientConfig::with_initial(Arc::new(client), initial)?;
        let server = QuicServerConfig::with_initial(Arc::new(server), initial)?;
        let mut client = ClientConfig::new(Arc::new(client));
        client.transport_config(Arc::clone(&transport));
        let mut server = ServerConfig::with_crypto(Arc::new(server));
        server.transport_config(transport);
        Ok(Self { carrier, endpoint, client, server })
    }
}

impl Peer for Quinn {
    fn respond<A: Application>(
        &self,
        wait: Wait,
        announce: impl FnOnce(SocketAddr) + Send + 'static,
        mut application: A,
    ) -> Result<A> {
        let (config, server, carrier) = (self.endpoint.clone(), self.server.clone(), self.carrier);
        let socket = udp::bind()?;
        announce(socket.local_addr()?);
        block_on(wait, async move {
            let endpoint = Endpoint::new(config, Some(server), socket, Arc::new(TokioRuntime))?;
            while let Some(incoming) = unless_over(&mut application, endpoint.accept()).await {
                let connection = incoming.ok_or("the endpoint is closed")?.await?;
                if carry(&connection, carrier, false, wait, &mut application).await? == Next::Stop {
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
        let (config, client, carrier) = (self.endpoint.clone(), self.client.clone(), self.carrier);
        let socket = udp::bind()?;
        block_on(wait, async move {
            let endpoint = Endpoint::new(config, None, socket, Arc::new(TokioRuntime))?;
            loop {
                let connection = endpoint.connect_with(client.clone(), to, NAME)?.await?;
                let next = carry(&connection, carrier, true, wait, &mut application).await?;
                connection.close(VarInt::from_u32(0), b"");
                match next {
                    Next::Go => return Err("the responder closed the connection".into()),
                    Next::Reconnect => {}
                    Next::Stop => return Ok(application),
                }
            }
        })
    }
}

/// Runs the application over one connection.
async fn carry(
    connection: &Connection,
    carrier: Carrier,
    is_opener: bool,
    wait: Wait,
    application: &mut impl Application,
) -> Result<Next> {
    let Carrier::Streams(count) = carrier else {
        return Ok(datagrams(connection, application).await);
    };
    let mut lanes = Vec::with_capacity(count);
    for _ in 0..count {
        let (send, receive) =
            if is_opener { connection.open_bi().await? } else { connection.accept_bi().await? };
        lanes.push(Lane::new(tokio::io::join(receive, send), is_opener));
    }
    Ok(drive(&mut lanes, wait, application).await)
}

/// Runs the application over datagrams. It always spins.
async fn datagrams(connection: &Connection, application: &mut impl Application) -> Next {
    application.on_open();
    let mut outbox = Datagrams(connection);
    loop {
        while let Some(read) = std::future::poll_fn(|cx| {
            let mut read = std::pin::pin!(connection.read_datagram());
            Poll::Ready(match read.as_mut().poll(cx) {
                Poll::Ready(read) => Some(read),
                Poll::Pending => None,
            })
        })
        .await
        {
            let Ok(message) = read else { return application.next() };
            application.take(&message, &mut outbox);
        }
        application.offer(&mut outbox);
        match application.next() {
            Next::Go => tokio::task::yield_now().await,
            next => return next,
        }
    }
}

/// Each message in a datagram, as long as none gives way for it.
struct Datagrams<'a>(&'a Connection);

impl Outbox for Datagrams<'_> {
    fn send(&mut self, message: &[u8]) -> bool {
        self.0.datagram_send_buffer_space() >= 2 * message.len()
            && self.0.send_datagram(bytes::Bytes::copy_from_slice(message)).is_ok()
    }
}
