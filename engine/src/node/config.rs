//! A node's settings.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use crate::io::impair::Impairment;
use crate::io::kernel::IoChoice;
use crate::limits::{
    ASSOCIATION_TIMEOUT, ASSOCIATION_TIMEOUT_MAX, BUFFERS_RANGE, DATAGRAM_LEN_BASE,
    DATAGRAM_LEN_MAX, FIXED_RATE_RANGE, HANDSHAKE_TIMEOUT_RANGE, IDLE_TIMEOUT, IDLE_TIMEOUT_RANGE,
    IMPAIR_DELAY_MAX, INITIATES_PER_SECOND, INITIATES_PER_SECOND_MAX, LINGER_MAX, MESSAGE_LEN_MAX,
    PEERS_DEFAULT, PEERS_MAX, RECEIVE_BYTES_RANGE, RECEIVE_BYTES_TOTAL, SHARDS_MAX,
    TRANSACTIONS_DEFAULT, TRANSACTIONS_MAX, TRIES_MAX,
};
use crate::protocol::crypto::Suite;
use crate::protocol::endpoint::{EndpointConfig, Mtu};
use crate::protocol::session::recovery::CongestionConfig;
use crate::protocol::session::{BootId, Identity, Mode, Offer, PeerText, Trust};
use crate::shard::Idle;
use crate::time::Duration;

/// What lies between a node and its peers: what to assume before anything was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// A local network, or the same host: round trips below a millisecond, acknowledgements held
    /// back by 1 ms at most.
    #[default]
    Lan,
    /// Anything: 333 ms until the round trip is known, acknowledgements held back by 25 ms at most
    /// (PROTOCOL 5.35).
    Wan,
}

impl Network {
    const fn initial_round_trip(self) -> Duration {
        match self {
            Self::Lan => Duration::from_millis(1),
            Self::Wan => Duration::from_millis(333),
        }
    }

    const fn ack_delay_max(self) -> Duration {
        match self {
            Self::Lan => Duration::from_millis(1),
            Self::Wan => Duration::from_millis(25),
        }
    }
}

/// What a node is and how it runs. [`Config::new`] has sensible values for a local network;
/// change what you need to.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who the node is.
    pub identity: Arc<Identity>,
    /// Address to bind. Port 0 lets the kernel choose.
    pub bind: SocketAddr,
    /// Whether others may open sessions with this node. A node that listens shares one port
    /// among its shards; one that does not gives each shard a port of its own.
    pub listen: bool,
    /// Event loops, one thread each; 1 to 1024. A caller-driven node has one and no thread.
    pub shards: usize,
    /// Cores to pin the shards to, in order; `None` leaves placement to the scheduler.
    pub cpus: Option<Vec<usize>>,
    /// What a shard does while there is nothing to do.
    pub idle: Idle,
    /// Which driver talks to the kernel.
    pub io: IoChoice,
    /// Whether trains of equal datagrams cross the kernel as one (GSO and GRO).
    pub gso: bool,
    /// Datagram size.
    pub mtu: Mtu,
    /// Packet ciphers offered and taken, in order of preference. AES-256-GCM and ChaCha20-Poly1305 at
    /// first, the latter alone where the processor has no AES instructions.
    pub suites: Vec<Suite>,
    /// Protection modes offered and taken, in order of preference. Anything but
    /// [`Mode::Sealed`] is an opt-in that both sides must make; plain needs a bind address that
    /// is not public.
    pub modes: Vec<Mode>,
    /// Secret that every peer must hold in addition to its key.
    pub psk: Option<[u8; 32]>,
    /// Whose keys are accepted.
    pub trust: Trust,
    /// The node's name, told to peers inside the handshake; at most 64 printable bytes.
    pub name: String,
    /// Peers that one shard knows at a time, from 1 to 1 048 576: those with a session, and those that
    /// wait for another one. Where all places are taken, a peer that waits with nothing of ours
    /// outstanding makes room; if there is none, [`ConnectError::TooManyPeers`] says so, and
    /// strangers are not answered.
    ///
    /// [`ConnectError::TooManyPeers`]: crate::ConnectError::TooManyPeers
    pub peers_max: usize,
    /// Transactions that may be outstanding with one peer, each way; a power of two from 64 to
    /// 65 536. They are counted from the oldest without an outcome: beside a long message that takes
    /// its time, no more than this many others are sent, however fast they end.
    pub transactions: u32,
    /// Bytes that a peer may have outstanding towards this node; no message may be longer. From
    /// 1200 to 2^40.
    pub receive_bytes: u64,
    /// Bytes for messages in segments, and for those of ordered streams before their turn, of all
    /// peers together: divided among the shards, of which each has [`Config::receive_bytes`] at least.
    /// What finds no room is sent again. A GiB, or a quarter of the machine's memory if that is
    /// less.
    pub receive_bytes_total: u64,
    /// Messages longer than this are handed over piece by piece, in order, and take no memory for
    /// the whole ([`Handler::on_piece`](crate::Handler::on_piece)); 64 MiB or more: none are. Those of
    /// ordered streams and bundles are always handed over whole.
    pub whole_len_max: usize,
    /// Copies of a repeated message, tries of a finite-retry message; 1 to 64.
    pub tries: u8,
    /// How long an open bundle waits for more messages, up to an hour. Zero sends at the end of the
    /// turn.
    pub linger: Duration,
    /// Whether small messages share packets.
    pub bundle: bool,
    /// Congestion control; a fixed rate is from 8000 to 10^12 bytes a second.
    pub congestion: CongestionConfig,
    /// What lies between this node and its peers.
    pub network: Network,
    /// A silent session is closed after this; from 100 ms to a day.
    pub idle_timeout: Duration,
    /// What is under way with a peer waits this long for another session when one is lost to
    /// silence, to a peer that restarted, or to used-up keys; up to a week. Sends are taken
    /// meanwhile, and the side that connected opens the next session by itself as soon as it has
    /// something to send. Zero: all ends with the session.
    pub association_timeout: Duration,
    /// Whether a silent peer is asked for a sign of life before a session ends, and a lost session
    /// opened again although nothing is to be sent, so that the session, and a NAT's memory of it,
    /// live on. Off. Whoever connects only to receive wants it.
    pub keep_alive: bool,
    /// A handshake without an answer is given up after this; from 100 ms to a day.
    pub handshake_timeout: Duration,
    /// Handshakes of others that one shard does the public-key work for in a second, from 1 to
    /// [`INITIATES_PER_SECOND_MAX`]: 300, a tenth of a core. What
    /// exceeds them is dropped and asked again. It bounds what strangers with true addresses can cost.
    pub handshakes_per_second: u32,
    /// Buffers for messages on their way out, of one shard; from 16 to 1 048 576.
    pub send_buffers: u32,
    /// Buffers for what arrives, of one shard; from 16 to 1 048 576.
    pub receive_buffers: u32,
    /// Faults to make up, for tests; a delay is at most a minute.
    pub impairment: Option<Impairment>,
    /// Seed of those faults.
    pub seed: u64,
    /// File to write every datagram to, in pcapng format; the shard's index is appended.
    pub capture: Option<PathBuf>,
}

impl Config {
    /// A node that listens on a port of the kernel's choice on the loopback interface, seals
    /// everything, and accepts nobody until told.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity: Arc::new(identity),
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            listen: true,
            shards: 1,
            cpus: None,
            idle: Idle::default(),
            io: IoChoice::Auto,
            gso: true,
            mtu: Mtu::Auto,
            suites: Suite::offered_by_this_machine().to_vec(),
            modes: vec![Mode::Sealed],
            psk: None,
            trust: Trust::default(),
            name: String::new(),
            peers_max: PEERS_DEFAULT,
            transactions: TRANSACTIONS_DEFAULT,
            receive_bytes: 16 << 20,
            receive_bytes_total: receive_bytes_total(),
            whole_len_max: MESSAGE_LEN_MAX,
            tries: 8,
            linger: Duration::ZERO,
            bundle: true,
            congestion: CongestionConfig::Cubic,
            network: Network::Lan,
            idle_timeout: IDLE_TIMEOUT,
            association_timeout: ASSOCIATION_TIMEOUT,
            keep_alive: false,
            handshake_timeout: Duration::from_secs(90),
            handshakes_per_second: INITIATES_PER_SECOND,
            send_buffers: 4_096,
            receive_buffers: 256,
            impairment: None,
            seed: 0,
            capture: None,
        }
    }

    /// Checks what can be checked before anything is started.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.check_counts()?;
        self.check_times()?;
        if PeerText::new(self.name.as_bytes()).is_none() {
            return Err(ConfigError::Name);
        }
        if self.suites.is_empty() || self.modes.is_empty() {
            return Err(ConfigError::NothingOffered);
        }
        if self.modes.contains(&Mode::Plain) && !is_private(self.bind) {
            return Err(ConfigError::PlainInPublic(self.bind));
        }
        Ok(())
    }

    fn check_counts(&self) -> Result<(), ConfigError> {
        let window = self.transactions;
        within(1..=SHARDS_MAX, self.shards, ConfigError::Shards)?;
        if self.cpus.as_ref().is_some_and(|cpus| cpus.len() < self.shards) {
            return Err(ConfigError::TooFewCpus { shards: self.shards });
        }
        within(1..=PEERS_MAX, self.peers_max, ConfigError::PeersMax)?;
        within(64..=TRANSACTIONS_MAX, window, ConfigError::Transactions)?;
        if !window.is_power_of_two() {
            return Err(ConfigError::Transactions(window));
        }
        within(RECEIVE_BYTES_RANGE, self.receive_bytes, ConfigError::ReceiveBytes)?;
        within(1..=TRIES_MAX, self.tries, ConfigError::Tries)?;
        if let Mtu::Fixed(len) = self.mtu {
            within(DATAGRAM_LEN_BASE..=DATAGRAM_LEN_MAX, len, ConfigError::Mtu)?;
        }
        if let CongestionConfig::FixedRate { bytes_per_second } = self.congestion {
            within(FIXED_RATE_RANGE, bytes_per_second, ConfigError::FixedRate)?;
        }
        let rate = self.handshakes_per_second;
        within(1..=INITIATES_PER_SECOND_MAX, rate, ConfigError::HandshakesPerSecond)?;
        within(BUFFERS_RANGE, self.send_buffers, ConfigError::SendBuffers)?;
        within(BUFFERS_RANGE, self.receive_buffers, ConfigError::ReceiveBuffers)
    }

    fn check_times(&self) -> Result<(), ConfigError> {
        let zero = Duration::ZERO;
        within(zero..=LINGER_MAX, self.linger, ConfigError::Linger)?;
        within(IDLE_TIMEOUT_RANGE, self.idle_timeout, ConfigError::IdleTimeout)?;
        let (lasts, handshake) = (self.association_timeout, self.handshake_timeout);
        within(zero..=ASSOCIATION_TIMEOUT_MAX, lasts, ConfigError::AssociationTimeout)?;
        within(HANDSHAKE_TIMEOUT_RANGE, handshake, ConfigError::HandshakeTimeout)?;
        if let Some(Impairment { delay_min, delay_max, .. }) = self.impairment
            && !(delay_min <= delay_max && delay_max <= IMPAIR_DELAY_MAX)
        {
            return Err(ConfigError::ImpairmentDelay(delay_min, delay_max));
        }
        Ok(())
    }

    /// The endpoint settings of one shard.
    pub(super) fn endpoint(&self, boot: BootId, shard: usize) -> EndpointConfig {
        EndpointConfig {
            listen: self.listen,
            psk: self.psk,
            offer: Offer::new(&self.suites, &self.modes),
            name: self.name.clone(),
            trust: self.trust.clone(),
            mtu: self.mtu,
            peers_max: self.peers_max,
            transactions: self.transactions,
            receive_bytes: self.receive_bytes,
            receive_bytes_total: self.receive_bytes_total / self.shards as u64,
            whole_len_max: self.whole_len_max,
            tries: self.tries,
            linger: self.linger,
            bundle: self.bundle,
            congestion: self.congestion,
            initial_round_trip: self.network.initial_round_trip(),
            ack_delay_max: self.network.ack_delay_max(),
            idle_timeout: self.idle_timeout,
            association_timeout: self.association_timeout,
            keep_alive: self.keep_alive,
            handshake_timeout: self.handshake_timeout,
            handshakes_per_second: self.handshakes_per_second,
            send_buffers: self.send_buffers,
            shard: (shard, self.shards),
            ..EndpointConfig::new(Arc::clone(&self.identity), boot)
        }
    }
}

fn within<T: PartialOrd>(
    range: RangeInclusive<T>,
    value: T,
    error: impl FnOnce(T) -> ConfigError,
) -> Result<(), ConfigError> {
    if range.contains(&value) { Ok(()) } else { Err(error(value)) }
}

/// What messages of all peers may occupy unless configured: [`RECEIVE_BYTES_TOTAL`], or a quarter
/// of the machine's memory where it can be read and is less.
fn receive_bytes_total() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let total = machine.as_deref().and_then(|text| text.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.map_or(RECEIVE_BYTES_TOTAL, |kib| RECEIVE_BYTES_TOTAL.min(kib * 1_024 / 4))
}

/// Whether an address cannot be reached from the open network.
fn is_private(address: SocketAddr) -> bool {
    match address {
        SocketAddr::V4(v4) => {
            v4.ip().is_loopback() || v4.ip().is_private() || v4.ip().is_link_local()
        }
        SocketAddr::V6(v6) => {
            v6.ip().is_loopback() || v6.ip().is_unique_local() || v6.ip().is_unicast_link_local()
        }
    }
}

/// A setting that cannot work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigError {
    /// A wait for another session longer than a week.
    AssociationTimeout(Duration),
    /// A fixed rate outside the possible.
    FixedRate(u64),
    /// Patience with a handshake outside the possible.
    HandshakeTimeout(Duration),
    /// A budget for handshakes outside the possible.
    HandshakesPerSecond(u32),
    /// An idle time-out that peers would not take.
    IdleTimeout(Duration),
    /// A made-up delay that ends before it begins, or is longer than a minute.
    ImpairmentDelay(Duration, Duration),
    /// A wait for company longer than an hour.
    Linger(Duration),
    /// A datagram size outside the possible.
    Mtu(usize),
    /// A name that is too long or not printable.
    Name,
    /// No suite or no mode.
    NothingOffered,
    /// A number of peers outside the possible.
    PeersMax(usize),
    /// Plain mode on an address that others can reach.
    PlainInPublic(SocketAddr),
    /// A number of receive buffers outside the possible.
    ReceiveBuffers(u32),
    /// Bytes outstanding outside the possible.
    ReceiveBytes(u64),
    /// A number of send buffers outside the possible.
    SendBuffers(u32),
    /// A number of shards outside the possible.
    Shards(usize),
    /// Fewer cores than shards.
    TooFewCpus {
        /// Shards asked for.
        shards: usize,
    },
    /// A transaction window that is no power of two, or outside the possible.
    Transactions(u32),
    /// A number of tries outside the possible.
    Tries(u8),
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AssociationTimeout(timeout) => {
                write!(f, "an association_timeout of {timeout} cannot be: choose at most 604800 s")
            }
            Self::FixedRate(rate) => write!(
                f,
                "a congestion control with a fixed rate of {rate} bytes a second cannot be: choose \
                 from 8000 to 1000000000000"
            ),
            Self::HandshakeTimeout(timeout) => write!(
                f,
                "a handshake_timeout of {timeout} cannot be: choose from 100 ms to 86400 s"
            ),
            Self::HandshakesPerSecond(rate) => {
                write!(f, "handshakes_per_second of {rate} cannot be: choose from 1 to 100000")
            }
            Self::IdleTimeout(timeout) => {
                write!(f, "an idle_timeout of {timeout} cannot be: choose from 100 ms to 86400 s")
            }
            Self::ImpairmentDelay(min, max) => write!(
                f,
                "an impairment's delay from {min} to {max} cannot be: choose at most 60 s, and an \
                 end that is not before the beginning"
            ),
            Self::Linger(linger) => {
                write!(f, "a linger of {linger} cannot be: choose at most 3600 s")
            }
            Self::Mtu(len) => {
                write!(f, "an mtu of {len} bytes cannot be: choose from 1200 to 65507")
            }
            Self::Name => write!(f, "a name has at most 64 bytes, all printable ASCII"),
            Self::NothingOffered => write!(f, "offer at least one suite and one mode"),
            Self::PeersMax(count) => {
                write!(f, "peers_max of {count} cannot be: choose from 1 to 1048576")
            }
            Self::PlainInPublic(address) => write!(
                f,
                "plain mode is refused on {address}, which is not a private address: bind to one, \
                 or use the sealed or signed mode"
            ),
            Self::ReceiveBuffers(count) => {
                write!(f, "receive_buffers of {count} cannot be: choose from 16 to 1048576")
            }
            Self::ReceiveBytes(bytes) => {
                write!(f, "receive_bytes of {bytes} cannot be: choose from 1200 to 1099511627776")
            }
            Self::SendBuffers(count) => {
                write!(f, "send_buffers of {count} cannot be: choose from 16 to 1048576")
            }
            Self::Shards(count) => write!(f, "{count} shards cannot be: choose from 1 to 1024"),
            Self::TooFewCpus { shards } => {
                write!(f, "{shards} shards need {shards} cores in cpus: name more cores")
            }
            Self::Transactions(window) => write!(
                f,
                "a window of {window} transactions cannot be: choose a power of two from 64 to 65536"
            ),
            Self::Tries(tries) => write!(f, "{tries} tries cannot be: choose from 1 to 64"),
        }
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    // PROTOCOL 5.35
    #[test]
    fn network_says_what_is_assumed_and_promised() {
        for (network, round_trip, delay) in [(Network::Lan, 1, 1), (Network::Wan, 333, 25)] {
            let config = Config { network, ..Config::new(Identity::from_secret(&[1; 32])) };
            let endpoint = config.endpoint(BootId([0; 16]), 0);
            let millis = Duration::from_millis;
            assert_eq!(endpoint.initial_round_trip, millis(round_trip));
            assert_eq!(endpoint.ack_delay_max, millis(delay));
        }
    }
}
