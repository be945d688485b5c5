//! What an endpoint is told when it is made.

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::limits::{
    ASSOCIATION_TIMEOUT, DATAGRAM_LEN_BASE, DATAGRAM_LEN_MAX, GRANULARITY, IDLE_TIMEOUT,
    INITIATES_PER_SECOND, INITIATES_PER_SECOND_MAX, LANES_MAX, MESSAGE_LEN_MAX, PEERS_DEFAULT,
    RECEIVE_BYTES_TOTAL, TRANSACTIONS_DEFAULT,
};
use crate::protocol::session::recovery::{CongestionConfig, DatagramLen, RecoveryConfig};
use crate::protocol::session::{
    BootId, Identity, InitiatorConfig, Mode, Offer, Parameters, PeerText, PublicKey,
    ResponderConfig, SessionConfig, Trust,
};
use crate::protocol::transaction::OutboxConfig;
use crate::time::Duration;

/// How the datagram size is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mtu {
    /// Start at 1200 bytes and probe up to the path's limit.
    Auto,
    /// This many bytes of UDP payload, without probing.
    Fixed(usize),
}

/// An endpoint's settings. The node fills it in from its own configuration.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// Who we are.
    pub identity: Arc<Identity>,
    /// This process: drawn at start, not kept.
    pub boot: BootId,
    /// Whether strangers may open sessions.
    pub listen: bool,
    /// Secret shared with every peer in addition to keys.
    pub psk: Option<[u8; 32]>,
    /// Suites and modes, in order of preference.
    pub offer: Offer,
    /// Our name, told to peers inside the handshake.
    pub name: String,
    /// Whose keys are accepted.
    pub trust: Trust,
    /// Datagram size.
    pub mtu: Mtu,
    /// Transactions that a peer may have outstanding, and we towards it.
    pub transactions: u32,
    /// Bytes that a peer may have outstanding.
    pub receive_bytes: u64,
    /// Bytes of messages in segments and before their turn, of all peers together; what a peer may
    /// have outstanding, if that is more.
    pub receive_bytes_total: u64,
    /// Longer messages in segments are handed over piece by piece, without memory for the whole,
    /// except those of ordered streams and bundles.
    pub whole_len_max: usize,
    /// Copies of a repeated message, tries of a finite-retry one.
    pub tries: u8,
    /// How long an open bundle waits for more.
    pub linger: Duration,
    /// Whether messages share packets.
    pub bundle: bool,
    /// Congestion control.
    pub congestion: CongestionConfig,
    /// Round-trip time assumed before the first sample.
    pub initial_round_trip: Duration,
    /// Longest delay of our acknowledgements.
    pub ack_delay_max: Duration,
    /// A silent session is closed after this.
    pub idle_timeout: Duration,
    /// What is under way with a peer waits this long for another session when one is lost. Zero:
    /// it ends with the session.
    pub association_timeout: Duration,
    /// Whether a silent peer is asked for a sign of life before a session ends, and a lost session
    /// opened again although nothing is to be sent, so that the session, and a NAT's memory of it,
    /// live on.
    pub keep_alive: bool,
    /// A handshake is given up after this.
    pub handshake_timeout: Duration,
    /// Handshakes of others that may cost public-key work in a second, from 1 to
    /// [`INITIATES_PER_SECOND_MAX`].
    pub handshakes_per_second: u32,
    /// First retry of a handshake packet.
    pub handshake_retry: Duration,
    /// Send buffers.
    pub send_buffers: u32,
    /// Peers at most.
    pub peers_max: usize,
    /// This endpoint's shard, and how many there are: session ids say which shard owns them.
    pub shard: (usize, usize),
}

impl EndpointConfig {
    /// Settings for a node on a local network.
    pub fn new(identity: Arc<Identity>, boot: BootId) -> Self {
        Self {
            identity,
            boot,
            listen: true,
            psk: None,
            offer: Offer::default(),
            name: String::new(),
            trust: Trust::default(),
            mtu: Mtu::Auto,
            transactions: TRANSACTIONS_DEFAULT,
            receive_bytes: 16 << 20,
            receive_bytes_total: RECEIVE_BYTES_TOTAL,
            whole_len_max: MESSAGE_LEN_MAX,
            tries: 8,
            linger: Duration::ZERO,
            bundle: true,
            congestion: CongestionConfig::Cubic,
            initial_round_trip: Duration::from_millis(1),
            ack_delay_max: Duration::from_millis(1),
            idle_timeout: IDLE_TIMEOUT,
            association_timeout: ASSOCIATION_TIMEOUT,
            keep_alive: false,
            handshake_timeout: Duration::from_secs(90),
            handshakes_per_second: INITIATES_PER_SECOND,
            handshake_retry: Duration::from_millis(50),
            send_buffers: 4_096,
            peers_max: PEERS_DEFAULT,
            shard: (0, 1),
        }
    }

    /// Largest datagram that may ever be sent.
    pub fn datagram_len_max(&self) -> usize {
        match self.mtu {
            Mtu::Auto => DATAGRAM_LEN_MAX,
            Mtu::Fixed(len) => len.clamp(DATAGRAM_LEN_BASE, DATAGRAM_LEN_MAX),
        }
    }

    /// Transactions of the window of a peer that sends to us.
    pub(super) fn window(&self) -> u32 {
        1 << self.transactions.max(64).ilog2()
    }

    pub(super) fn parameters(&self) -> Parameters {
        Parameters {
            datagram_len_max: u32::try_from(DATAGRAM_LEN_MAX).expect("a small constant"),
            transactions: self.transactions,
            receive_bytes: self.receive_bytes,
            ack_delay_max_us: saturate(self.ack_delay_max.as_micros()),
            idle_timeout_ms: saturate(self.idle_timeout.as_micros() / 1_000),
            lanes: LANES_MAX,
        }
    }

    pub(super) fn responder(&self) -> ResponderConfig {
        ResponderConfig {
            identity: Arc::clone(&self.identity),
            psk: self.psk.map(Zeroizing::new),
            offer: self.offer.clone(),
            parameters: self.parameters(),
            initiates_per_second: self.handshakes_per_second.clamp(1, INITIATES_PER_SECOND_MAX),
            ..ResponderConfig::new(Arc::clone(&self.identity), self.boot)
        }
    }

    pub(super) fn initiator(&self, peer: PublicKey, association: u64) -> InitiatorConfig {
        InitiatorConfig {
            psk: self.psk.map(Zeroizing::new),
            offer: self.offer.clone(),
            parameters: self.parameters(),
            name: PeerText::new(self.name.as_bytes()).unwrap_or_default(),
            first_retry: self.handshake_retry,
            give_up_after: self.handshake_timeout,
            ..InitiatorConfig::new(
                Arc::clone(&self.identity),
                Some(peer),
                self.boot.of_association(association),
            )
        }
    }

    pub(super) fn outbox(&self, peer: &Parameters) -> OutboxConfig {
        let window = self.transactions.min(peer.transactions).max(64);
        OutboxConfig {
            window: 1 << window.ilog2(),
            tries: self.tries.max(1),
            linger: self.linger,
            bundle: self.bundle,
        }
    }

    pub(super) fn session(&self, peer: &Parameters, mode: Mode) -> SessionConfig {
        let path_max = self.datagram_len_max().min(peer.datagram_len_max as usize);
        let datagram_len = match self.mtu {
            // A probe is answered by its packet number, which plain packets do not carry.
            Mtu::Auto if mode == Mode::Plain => DatagramLen::Fixed(DATAGRAM_LEN_BASE),
            Mtu::Auto => DatagramLen::Probed { max: path_max },
            Mtu::Fixed(_) => DatagramLen::Fixed(path_max),
        };
        SessionConfig {
            recovery: RecoveryConfig {
                congestion: self.congestion,
                ack_delay_max: Duration::from_micros(peer.ack_delay_max_us.into()),
                initial_rtt: self.initial_round_trip,
                datagram_len,
                granularity: GRANULARITY,
                ecn: mode != Mode::Plain,
            },
            keep_alive: self.keep_alive,
            idle_timeout: self.idle_timeout.min(Duration::from_millis(peer.idle_timeout_ms.into())),
            ack_delay_max: self.ack_delay_max,
        }
    }
}

/// What a 32-bit parameter can say of `value`.
fn saturate(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
