//! Settings that cannot work: refused before anything is left running, in one sentence.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;

use raet::io::kernel::OpenError;
use raet::time::Duration;
use raet::{
    Config, ConfigError, Context, Handler, IoChoice, Message, Mode, Mtu, Node, Poller, StartError,
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
    let cases: [Case; 12] = [
        (|config| config.shards = 0, ConfigError::NoShards, "at least one shard"),
        (
            |config| (config.shards, config.cpus) = (2, Some(vec![0])),
            ConfigError::TooFewCpus { shards: 2 },
            "name more cores",
        ),
        (|config| config.mtu = Mtu::Fixed(100), ConfigError::Mtu(100), "1200 to 65507"),
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
        (|config| config.tries = 0, ConfigError::Tries(0), "1 to 64"),
        (
            |config| config.handshakes_per_second = 0,
            ConfigError::HandshakesPerSecond(0),
            "1 to 100000",
        ),
        (
            |config| config.idle_timeout = Duration::from_millis(99),
            ConfigError::IdleTimeout(Duration::from_millis(99)),
            "100 to 86400000",
        ),
        (|config| config.name = "n".repeat(65), ConfigError::Name, "at most 64 bytes"),
        (|config| config.tries = 65, ConfigError::Tries(65), "1 to 64"),
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
