//! Settings that cannot work: refused before anything is left running, in one sentence.

use std::mem;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use raet::io::kernel::OpenError;
use raet::time::Duration;
use raet::{
    Config, ConfigError, Congestion, ConnectError, Context, Handler, Identity, Impairment,
    IoChoice, Message, Mode, Mtu, Node, PeerId, Poller, QueueNode, Service, SessionChange,
    StartError,
};

use crate::{initiator, listener, on_both_drivers};

on_both_drivers! {
    port_in_use_is_named
    stopped_node_gives_its_port_back
}

struct Mute;

impl Handler for Mute {
    fn on_message(&mut self, _: &mut Context<'_>, _: Message<'_>) {}
}

fn refused(config: Config) -> StartError {
    match Node::start(config, |_| Mute) {
        Ok(node) => panic!("{node:?} started"),
        Err(error) => error,
    }
}

/// What spoils a configuration, the error that names it, and a part of its sentence.
type Case = (fn(&mut Config), ConfigError, &'static str);

#[test]
fn settings_that_cannot_work_are_refused_each_with_its_sentence() {
    let public = SocketAddr::from(([203, 0, 113, 9], 0));
    let minute = Duration::from_secs(60);
    let cases: [Case; 8] = [
        (
            |config| (config.shards, config.cpus) = (2, Some(vec![0])),
            ConfigError::TooFewCpus { shards: 2 },
            "name more cores",
        ),
        (|config| config.suites.clear(), ConfigError::NothingOffered, "at least one suite"),
        (|config| config.modes.clear(), ConfigError::NothingOffered, "one mode"),
        (
            |config| {
                config.modes.push(Mode::Plain);
                config.bind = SocketAddr::from(([203, 0, 113, 9], 0));
            },
            ConfigError::PlainInPublic(public),
            "not a private address",
        ),
        (|config| config.transactions = 100, ConfigError::Transactions(100), "power of two"),
        (|config| config.name = "n".repeat(65), ConfigError::Name, "at most 64 bytes"),
        (
            |config| config.impairment = Some(delayed(Duration::MAX, Duration::MAX)),
            ConfigError::ImpairmentDelay(Duration::MAX, Duration::MAX),
            "at most 60 s",
        ),
        (
            |config| config.impairment = Some(delayed(Duration::from_secs(60), Duration::ZERO)),
            ConfigError::ImpairmentDelay(minute, Duration::ZERO),
            "not before the beginning",
        ),
    ];
    for (spoil, error, sentence) in cases {
        let mut config = listener(IoChoice::Auto);
        spoil(&mut config);
        let refused = refused(config);
        let StartError::Config(reason) = &refused else { panic!("{refused:?}") };
        assert_eq!(*reason, error);
        assert!(refused.to_string().contains(sentence), "{refused}");
    }
}

fn delayed(delay_min: Duration, delay_max: Duration) -> Impairment {
    Impairment { delay_min, delay_max, ..Impairment::default() }
}

/// How a field gets a value, the values that it can have, and what its error has to say.
type Field = (fn(&mut Config, u64), RangeInclusive<u64>, &'static str);

/// Every field with a number in it. A value that does not fit becomes the largest that does.
const FIELDS: [Field; 15] = [
    (|config, n| config.shards = clamped(n), 1..=1_024, "shards cannot be: choose from 1 to 1024"),
    (
        |config, n| config.mtu = Mtu::Fixed(clamped(n)),
        1_200..=65_507,
        "mtu of {} bytes cannot be: choose from 1200 to 65507",
    ),
    (
        |config, n| config.peers_max = clamped(n),
        1..=1 << 20,
        "peers_max of {} cannot be: choose from 1 to 1048576",
    ),
    (
        |config, n| config.transactions = clamped(n),
        64..=65_536,
        "transactions cannot be: choose a power of two from 64 to 65536",
    ),
    (
        |config, n| config.receive_bytes = n,
        1_200..=1 << 40,
        "receive_bytes of {} cannot be: choose from 1200 to 1099511627776",
    ),
    (|config, n| config.whole_len_max = clamped(n), 0..=u64::MAX, ""),
    (|config, n| config.tries = clamped(n), 1..=64, "{} tries cannot be: choose from 1 to 64"),
    (
        |config, n| config.linger = Duration::from_nanos(n),
        0..=3_600_000_000_000,
        "linger of {t} cannot be: choose at most 3600 s",
    ),
    (
        |config, n| {
            config.congestion = Congestion::FixedRate { bytes_per_second: n };
            config.mtu = Mtu::Fixed(1_200); // Probes of 64 KiB would take seconds each.
        },
        8_000..=1_000_000_000_000,
        "rate of {} bytes a second cannot be: choose from 8000 to 1000000000000",
    ),
    (
        |config, n| config.idle_timeout = Duration::from_nanos(n),
        100_000_000..=86_400_000_000_000,
        "idle_timeout of {t} cannot be: choose from 100 ms to 86400 s",
    ),
    (
        |config, n| config.association_timeout = Duration::from_nanos(n),
        0..=604_800_000_000_000,
        "association_timeout of {t} cannot be: choose at most 604800 s",
    ),
    (
        |config, n| config.handshake_timeout = Duration::from_nanos(n),
        100_000_000..=86_400_000_000_000,
        "handshake_timeout of {t} cannot be: choose from 100 ms to 86400 s",
    ),
    (
        |config, n| config.handshakes_per_second = clamped(n),
        1..=100_000,
        "handshakes_per_second of {} cannot be: choose from 1 to 100000",
    ),
    (
        |config, n| config.send_buffers = clamped(n),
        16..=1 << 20,
        "send_buffers of {} cannot be: choose from 16 to 1048576",
    ),
    (
        |config, n| config.receive_buffers = clamped(n),
        16..=1 << 20,
        "receive_buffers of {} cannot be: choose from 16 to 1048576",
    ),
];

fn clamped<T: TryFrom<u64> + Bounded>(number: u64) -> T {
    T::try_from(number).unwrap_or(T::LARGEST)
}

trait Bounded {
    const LARGEST: Self;
}

impl Bounded for u8 {
    const LARGEST: Self = Self::MAX;
}

impl Bounded for u32 {
    const LARGEST: Self = Self::MAX;
}

impl Bounded for usize {
    const LARGEST: Self = Self::MAX;
}

#[test]
fn every_number_is_refused_with_its_range_or_a_message_gets_through() {
    for (set, range, sentence) in FIELDS {
        let (low, high) = (*range.start(), *range.end());
        for number in [0, 1, low.saturating_sub(1), low, high, high.saturating_add(1), u64::MAX] {
            let with = |mut config: Config| {
                set(&mut config, number);
                config
            };
            let [one, two] = [listener(IoChoice::Auto), initiator(IoChoice::Auto)].map(with);
            if !range.contains(&number) {
                let told = refused(one).to_string();
                let parts = sentence.split(" cannot be: ").flat_map(|part| part.split("{t}"));
                for part in parts.flat_map(|part| part.split("{}")) {
                    assert!(told.contains(part), "{number}: {told}");
                }
                let error = QueueNode::start(two, 8).map(|_| "it starts").unwrap_err();
                assert!(matches!(error, StartError::Config(_)), "{number}: {error:?}");
            } else if one.shards < 3 {
                message_gets_through(one, two);
            }
        }
    }
}

/// Counts messages, and knows whether a session ended.
#[derive(Default)]
struct Count {
    messages: u64,
    is_lost: bool,
}

impl Handler for Count {
    fn on_message(&mut self, _: &mut Context<'_>, _: Message<'_>) {
        self.messages += 1;
    }

    fn on_session(&mut self, _: &mut Context<'_>, _: PeerId, change: SessionChange) {
        self.is_lost |= !matches!(change, SessionChange::Opened { .. });
    }
}

/// Unless the host has no memory for it.
fn message_gets_through(one: Config, two: Config) {
    let (told, key) = (format!("{one:?}"), one.identity.public());
    let mut pair = [one, two].into_iter().map(|config| Poller::new(config, Count::default()));
    let (mut one, mut two) = match (pair.next(), pair.next()) {
        (Some(Ok(one)), Some(Ok(two))) => (one, two),
        (Some(Err(StartError::Memory(_))), _) | (_, Some(Err(StartError::Memory(_)))) => return,
        (one, two) => panic!("{one:?} {two:?}: {told}"),
    };
    let mut is_sent = false;
    crate::wait_for(&told, || {
        two.with(|count, context| {
            is_sent &= !mem::take(&mut count.is_lost);
            if let (false, Ok(peer)) = (is_sent, context.connect(one.address(), key)) {
                is_sent = context.send(peer, Service::ExactlyOnce, b"hello").is_ok();
                context.flush(peer);
            }
        });
        two.poll(Duration::ZERO).expect("the driver works");
        one.poll(Duration::ZERO).expect("the driver works");
        one.with(|count, _| (count.messages > 0).then_some(()))
    });
}

#[test]
fn connecting_to_more_peers_than_are_allowed_is_refused() {
    let config = Config { peers_max: 2, ..initiator(IoChoice::Auto) };
    let mut node = Poller::new(config, Mute).expect("it starts");
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    node.with(|_, context| {
        let keys = [1, 2, 3].map(|secret| Identity::from_secret(&[secret; 32]).public());
        let [one, two, three] = keys.map(|key| context.connect(nowhere, key));
        assert!(one.is_ok() && two.is_ok());
        assert_eq!(three, Err(ConnectError::TooManyPeers));
    });
}

#[test]
fn core_outside_the_allowed_set_is_named_with_the_set() {
    let error = refused(Config { cpus: Some(vec![1_000]), ..listener(IoChoice::Auto) });
    let StartError::Cpus(cpus) = &error else { panic!("{error:?}") };
    assert_eq!(cpus.wanted, [1_000]);
    assert!(error.to_string().contains("1000"), "{error}");
}

#[test]
fn capture_file_that_cannot_be_written_is_named() {
    let path = PathBuf::from("/nonexistent/capture");
    let error = refused(Config { capture: Some(path), ..listener(IoChoice::Auto) });
    assert!(error.to_string().contains("/nonexistent/capture.0"), "{error}");
}

#[test]
fn address_of_another_host_is_refused() {
    let bind = SocketAddr::from(([203, 0, 113, 9], 0));
    let error = refused(Config { bind, ..listener(IoChoice::Auto) });
    assert!(matches!(error, StartError::Open(OpenError::AddressNotAvailable(_))), "{error:?}");
}

#[test]
fn poller_checks_its_settings_too() {
    let config = Config { tries: 0, ..initiator(IoChoice::Auto) };
    let error = Poller::new(config, Mute).expect_err("no tries at all");
    assert!(matches!(error, StartError::Config(ConfigError::Tries(0))), "{error:?}");
}

fn port_in_use_is_named(io: IoChoice) {
    let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let bind = taken.local_addr().expect("it is bound");
    for shards in [1, 2] {
        let error = refused(Config { bind, shards, ..listener(io) });
        let StartError::Open(OpenError::AddressInUse(address)) = &error else {
            panic!("{error:?}")
        };
        assert_eq!(*address, bind);
        assert!(error.to_string().contains(&bind.to_string()), "{error}");
    }
}

#[test]
fn shards_do_not_join_the_shards_of_another_node() {
    let many = |config| Config { shards: 2, ..config };
    let first = Node::start(many(listener(IoChoice::Auto)), |_| Mute).expect("it starts");
    let bind = first.address();
    let error = refused(Config { bind, ..many(listener(IoChoice::Auto)) });
    assert!(matches!(error, StartError::Open(OpenError::AddressInUse(_))), "{error:?}");
}

fn stopped_node_gives_its_port_back(io: IoChoice) {
    for shards in [1, 2] {
        let first = Node::start(Config { shards, ..listener(io) }, |_| Mute).expect("it starts");
        let bind = first.address();
        let reports = first.stop().expect("the driver works");
        assert_eq!(reports.len(), shards);
        // The kernel lets go of a ring's sockets a little after the ring is closed.
        let again = crate::wait_for("the port", || {
            match Node::start(Config { bind, shards, ..listener(io) }, |_| Mute) {
                Ok(node) => Some(node),
                Err(StartError::Open(OpenError::AddressInUse(_))) => None,
                Err(error) => panic!("{error}"),
            }
        });
        assert_eq!(again.address(), bind);
        drop(again);
        crate::wait_for("the port", || UdpSocket::bind(bind).ok());
    }
}
