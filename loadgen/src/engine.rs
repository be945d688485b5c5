//! From the command line's words to the engine's, and from its counters to the report's.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;

use raet::node::cpus;
use raet::time::Duration;
use raet::{
    Config, Identity, Idle, Impairment, IoChoice, IoSummary, Mode, Mtu, Network, ShardReport,
    StartError, Suite, Trust, TrustPolicy,
};

use crate::cli::{EngineOptions, MtuChoice};
use crate::names::{AcceptName, IdleName, IoName, ModeName, NetworkName, SuiteName};
use crate::report::NodeFigures;

/// A silent peer in another process is given up after this: it may have been killed. In one
/// process nobody is, and silence only means that too much runs on too few cores.
pub(crate) const IDLE_TIMEOUT_APART: Duration = Duration::from_secs(15);
/// A load whose session is lost waits this long for the next one; then it has failed.
const ASSOCIATION_TIMEOUT: Duration = Duration::from_secs(15);
/// A handshake without an answer is given up after this.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Buffers of the initiators of one process, shared out to its sessions.
const BUFFERS_MAX: u32 = 4_096;
/// What may be outstanding towards a responder in a local network: more would leave the processor's
/// caches before it is sent, and no path of less than a millisecond needs it.
const RECEIVE_BYTES_LAN: u64 = 8 << 20;
/// The same over long paths, of which one of 100 ms holds so much at 20 Gbit/s.
const RECEIVE_BYTES_WAN: u64 = 256 << 20;
/// Of that, the part of each session at least: four of the largest messages, and room for small
/// ones beside them.
const RECEIVE_BYTES_MIN: usize = 4 << 20;
/// Longest messages that come whole where the others come in pieces.
pub(crate) const WHOLE_LEN_MAX: usize = 8 << 10;
/// Buffers of one session's initiator at least.
const BUFFERS_MIN: u32 = 64;

/// Copies of a repeated message, tries of one with finite retry.
pub(crate) const TRIES: u8 = 8;

/// Why a command did not do what it was asked to. A sentence for people each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Trouble {
    /// The arguments cannot work: exit status 2.
    Arguments(String),
    /// It went wrong: exit status 1.
    Running(String),
}

impl Trouble {
    /// The exit status.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Arguments(_) => ExitCode::from(2),
            Self::Running(_) => ExitCode::from(1),
        }
    }

    /// The sentence.
    pub(crate) fn sentence(&self) -> &str {
        match self {
            Self::Arguments(sentence) | Self::Running(sentence) => sentence,
        }
    }

    /// Why a node did not start: a setting, or the machine.
    pub(crate) fn starting(error: &StartError) -> Self {
        match error {
            StartError::Config(_) | StartError::Cpus(_) => Self::Arguments(error.to_string()),
            _ => Self::Running(error.to_string()),
        }
    }
}

/// What the options say about a node, whichever side it is on.
///
/// # Errors
/// A key file that cannot be used, or faults that cannot be read.
pub(crate) fn config(options: &EngineOptions, bind: SocketAddr) -> Result<Config, Trouble> {
    let identity = match &options.key {
        Some(path) => crate::keys::identity(path)?,
        None => Identity::random().map_err(|error| Trouble::Running(error.to_string()))?,
    };
    let mut config = Config::new(identity);
    config.bind = bind;
    config.psk = options.psk.as_deref().map(crate::keys::psk).transpose()?;
    config.idle = idle(options.idle);
    config.io = match options.io {
        IoName::Auto => IoChoice::Auto,
        IoName::Mmsg => IoChoice::Mmsg,
        IoName::Uring => IoChoice::Uring,
    };
    config.gso = options.gso.is_on();
    config.mtu = match options.mtu {
        MtuChoice::Auto => Mtu::Auto,
        MtuChoice::Fixed(len) => Mtu::Fixed(len),
    };
    config.suites = vec![match options.suite {
        SuiteName::Aes256Gcm => Suite::Aes256Gcm,
        SuiteName::ChaCha20 => Suite::ChaCha20Poly1305,
        #[cfg(feature = "aegis")]
        SuiteName::Aegis128L => Suite::Aegis128L,
    }];
    config.modes = vec![match options.mode {
        ModeName::Plain => Mode::Plain,
        ModeName::Sealed => Mode::Sealed,
        ModeName::Signed => Mode::Signed,
    }];
    config.congestion = options.congestion;
    config.network = match options.network {
        NetworkName::Lan => Network::Lan,
        NetworkName::Wan => Network::Wan,
    };
    config.tries = TRIES;
    config.linger = options.linger.into();
    config.bundle = options.bundle.is_on();
    config.impairment = impairment(options)?;
    // As many as can be: a sender at full rate fills any window.
    config.transactions = raet::limits::TRANSACTIONS_MAX;
    config.receive_bytes = receive_bytes(config.network);
    config.handshake_timeout = HANDSHAKE_TIMEOUT;
    config.association_timeout = ASSOCIATION_TIMEOUT;
    Ok(config)
}

/// Makes `config` that of a responder.
pub(crate) fn respond(config: &mut Config, options: &EngineOptions, accept: AcceptName) {
    config.listen = true;
    config.shards = options.shards.into();
    config.trust = Trust::new(match accept {
        AcceptName::Always => TrustPolicy::Always,
        AcceptName::Never => TrustPolicy::Never,
        AcceptName::Once => TrustPolicy::Once,
    });
    config.name = "loadgen-responder".to_owned();
    if options.segments {
        config.whole_len_max = WHOLE_LEN_MAX;
    }
}

/// Reserves memory in `config` for messages of up to `longest` bytes on each of `sessions`
/// sessions.
pub(crate) fn reserve(config: &mut Config, longest: usize, sessions: u32) {
    let least = (4 * longest + RECEIVE_BYTES_MIN) as u64;
    config.receive_bytes = (receive_bytes(config.network) / u64::from(sessions)).max(least);
}

const fn receive_bytes(network: Network) -> u64 {
    match network {
        Network::Lan => RECEIVE_BYTES_LAN,
        Network::Wan => RECEIVE_BYTES_WAN,
    }
}

/// Makes `config` that of the initiator of one of `sessions` sessions.
pub(crate) fn initiate(config: &mut Config, place: u32, sessions: u32) {
    config.listen = false;
    config.shards = 1;
    config.name = format!("loadgen-{place}");
    config.send_buffers = (BUFFERS_MAX / sessions).max(BUFFERS_MIN);
    config.receive_buffers = (config.receive_buffers / sessions).max(16);
}

fn impairment(options: &EngineOptions) -> Result<Option<Impairment>, Trouble> {
    let Some(text) = &options.impair else { return Ok(None) };
    let read = text.parse().map(Some);
    read.map_err(|error: String| Trouble::Arguments(format!("--impair: {error}")))
}

fn idle(name: IdleName) -> Idle {
    match name {
        IdleName::Backoff => Idle::Backoff,
        IdleName::Park => Idle::Park,
        IdleName::Spin => Idle::Spin,
        IdleName::Yield => Idle::Yield,
    }
}

/// Which cores the two sides of one process get.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Placement {
    /// Cores over which the initiators are spread; `None` leaves them to the scheduler.
    pub(crate) initiators: Option<Vec<usize>>,
    /// Cores of the responder's shards.
    pub(crate) responder: Option<Vec<usize>>,
}

impl Placement {
    /// For `shards` cores a side: from the list, if there is one. Otherwise both sides are pinned
    /// if they are in one process and there is a core for each; two processes know nothing of
    /// each other's cores.
    pub(crate) fn new(options: &EngineOptions, in_one_process: bool) -> Self {
        let shards = usize::from(options.shards);
        let cores = match &options.cpus {
            Some(list) => list.0.clone(),
            None if in_one_process => cpus::default_order(),
            None => Vec::new(),
        };
        if in_one_process && cores.len() >= 2 * shards {
            return Self {
                initiators: Some(cores[..shards].to_vec()),
                responder: Some(cores[shards..2 * shards].to_vec()),
            };
        }
        let given = options.cpus.is_some().then(|| cores[..shards].to_vec());
        Self { initiators: given.clone(), responder: given }
    }
}

/// A node's figures: the sums of its shards'.
pub(crate) fn figures(role: &'static str, io: &IoSummary, shards: &[ShardReport]) -> NodeFigures {
    let mut figures = NodeFigures {
        role,
        driver: io.driver.to_owned(),
        offloads: offloads(io),
        ..NodeFigures::default()
    };
    for shard in shards {
        let (driver, endpoint) = (&shard.driver, &shard.endpoint);
        figures.packets_sent += driver.datagrams_sent;
        figures.packets_received += driver.datagrams_received;
        figures.bytes_sent += driver.bytes_sent;
        figures.bytes_received += driver.bytes_received;
        figures.system_calls += driver.system_calls;
        figures.retransmissions += endpoint.retransmissions;
        figures.packets_lost += endpoint.packets_lost;
        figures.acks_sent += endpoint.acks_sent;
        figures.sessions_moved += endpoint.sessions_moved;
        figures.turns += shard.turns;
        figures.cpu_seconds += shard.processor.as_secs_f64();
        add_drops(&mut figures.drops, shard);
    }
    figures
}

fn add_drops(drops: &mut BTreeMap<String, u64>, shard: &ShardReport) {
    let by_reason = shard.endpoint.drops.iter().map(|(reason, count)| (reason.name(), count));
    let others = [
        ("forward_mailbox_full", shard.forward_drops),
        ("receive_error", shard.driver.receive_errors),
        ("send_error", shard.driver.send_errors),
    ];
    for (name, count) in by_reason.chain(others).filter(|(_, count)| *count > 0) {
        *drops.entry(name.to_owned()).or_insert(0) += count;
    }
}

fn offloads(io: &IoSummary) -> Vec<String> {
    let mut offloads = Vec::new();
    if io.segments_max > 1 {
        offloads.push("gso".to_owned());
    }
    if io.gro {
        offloads.push("gro".to_owned());
    }
    offloads
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::CpuList;

    fn options(line: &str) -> EngineOptions {
        let words = std::iter::once("raet-loadgen").chain(line.split_whitespace());
        crate::cli::read(words.map(Into::into)).unwrap().run.engine
    }

    #[test]
    fn a_list_of_cores_is_dealt_to_the_initiators_first() {
        let mut options = options("");
        options.cpus = Some(CpuList(vec![4, 5]));
        let both = Placement::new(&options, true);
        assert_eq!(both.initiators, Some(vec![4]));
        assert_eq!(both.responder, Some(vec![5]));
        options.cpus = Some(CpuList(vec![7]));
        let shared = Placement::new(&options, true);
        assert_eq!(shared.initiators, Some(vec![7]));
        assert_eq!(shared.responder, Some(vec![7]));
        options.cpus = None;
        let apart = Placement::new(&options, false);
        assert_eq!((apart.initiators, apart.responder), (None, None));
    }

    #[test]
    fn faults_that_cannot_be_read_are_bad_arguments() {
        let bind = SocketAddr::from(([127, 0, 0, 1], 0));
        let Err(Trouble::Arguments(sentence)) = config(&options("--impair moths=3"), bind) else {
            panic!("it was taken")
        };
        assert!(sentence.contains("--impair") && sentence.contains("loss"), "{sentence}");
        let faults = options("--impair loss=5%,dup=5%,reorder=5%,corrupt=1%");
        assert!(config(&faults, bind).unwrap().impairment.is_some());
    }

    #[test]
    fn reserved_memory_follows_from_size_and_sessions() {
        let bind = SocketAddr::from(([127, 0, 0, 1], 0));
        for (arguments, longest, sessions, bytes) in [
            ("", 64, 1, 8 << 20),
            ("--network wan", 64, 1, 256 << 20),
            ("--network wan", 64, 16, 16 << 20),
            ("", 64, 128, (4 << 20) + 256),
            ("", 64 << 20, 1, 260 << 20),
            ("--network wan", 64 << 20, 128, 260 << 20),
        ] {
            let mut config = config(&options(arguments), bind).unwrap();
            reserve(&mut config, longest, sessions);
            assert_eq!(config.receive_bytes, bytes, "{arguments} {longest} {sessions}");
        }
    }

    #[test]
    fn many_sessions_share_the_buffers() {
        let bind = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = config(&options(""), bind).unwrap();
        initiate(&mut config, 0, 16);
        assert_eq!(config.send_buffers, 256);
        initiate(&mut config, 0, 4_000);
        assert_eq!((config.send_buffers, config.receive_buffers), (64, 16));
        assert!(!config.listen);
    }
}
