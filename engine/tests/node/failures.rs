//! Sessions that do not open, and peers that vanish.

use std::collections::HashMap;
use std::net::{Ipv4Addr, UdpSocket};

use raet::protocol::session::PublicKey;
use raet::time::Duration;
use raet::{
    CloseReason, Config, Context, Handler, Identity, Incoming, IoChoice, LastHeard, Message,
    Outcome, Poller, QueueError, QueueNode, Reason, Refusal, Service, SessionChange, Trust,
    TrustPolicy,
};

use crate::{initiator, listener, on_both_drivers, wait_for};

on_both_drivers! {
    vanished_peer_ends_the_session_and_leaves_every_send_with_an_outcome
}

/// Tries to connect with `two` to `one`, expecting a different key if one is given.
fn refused_connect(one: Config, two: Config, key: Option<PublicKey>) -> SessionChange {
    let two = Config { handshake_timeout: Duration::from_secs(1), ..two };
    let one = QueueNode::start(one, 64).expect("the listener starts");
    let two = QueueNode::start(two, 64).expect("the initiator starts");
    let key = key.unwrap_or_else(|| *one.node().key());
    let failed = two.connect(one.node().address(), key);
    let Err(QueueError::NotOpened(change)) = failed else { panic!("{failed:?}") };
    let reports = one.node().report();
    assert_eq!(reports.iter().map(|report| report.endpoint.sessions_opened).sum::<u64>(), 0);
    change
}

#[test]
fn wrong_key_is_met_with_silence() {
    let other = Identity::random().expect("randomness").public();
    let change = refused_connect(listener(IoChoice::Auto), initiator(IoChoice::Auto), Some(other));
    assert_eq!(change, SessionChange::TimedOut(LastHeard::Nothing));
}

#[test]
fn address_without_a_node_times_out() {
    let deaf = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let two = Config { handshake_timeout: Duration::from_secs(1), ..initiator(IoChoice::Auto) };
    let two = QueueNode::start(two, 64).expect("the initiator starts");
    let key = Identity::random().expect("randomness").public();
    let failed = two.connect(deaf.local_addr().expect("it is bound"), key);
    let timed_out = SessionChange::TimedOut(LastHeard::Nothing);
    assert_eq!(failed, Err(QueueError::NotOpened(timed_out)));
}

#[test]
fn rejected_key_is_told_so() {
    let two = initiator(IoChoice::Auto);
    let mut one = listener(IoChoice::Auto);
    one.trust.reject(&two.identity.public());
    let change = refused_connect(one, two, None);
    let reason = match change {
        SessionChange::Refused(Refusal::Rejected { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason, Reason::KeyRejected);
}

#[test]
fn different_secrets_open_nothing() {
    let one = Config { psk: Some([1; 32]), ..listener(IoChoice::Auto) };
    let two = Config { psk: Some([2; 32]), ..initiator(IoChoice::Auto) };
    let change = refused_connect(one, two, None);
    assert!(matches!(change, SessionChange::TimedOut(_)), "{change:?}");
}

#[test]
fn secret_that_only_one_side_has_opens_nothing() {
    let one = Config { psk: Some([1; 32]), ..listener(IoChoice::Auto) };
    let change = refused_connect(one, initiator(IoChoice::Auto), None);
    let told = |change: &SessionChange| {
        matches!(change, SessionChange::TimedOut(_) | SessionChange::Refused(_))
    };
    assert!(told(&change), "{change:?}");
    let two = Config { psk: Some([1; 32]), ..initiator(IoChoice::Auto) };
    let change = refused_connect(listener(IoChoice::Auto), two, None);
    assert!(told(&change), "{change:?}");
}

#[test]
fn our_own_key_is_no_peer() {
    let node = QueueNode::start(listener(IoChoice::Auto), 64).expect("the node starts");
    let failed = node.connect(node.node().address(), *node.node().key());
    assert_eq!(failed, Err(QueueError::Connect(raet::ConnectError::OurselvesAsPeer)));
}

#[test]
fn pending_peer_gets_in_once_the_operator_accepts_it() {
    let one = Config { trust: Trust::new(TrustPolicy::Never), ..listener(IoChoice::Auto) };
    let one = QueueNode::start(one, 64).expect("the listener starts");
    let two = QueueNode::start(initiator(IoChoice::Auto), 64).expect("the initiator starts");
    let asked = two.connect(one.node().address(), *one.node().key());
    assert!(
        matches!(asked, Err(QueueError::NotOpened(SessionChange::Pending { .. }))),
        "{asked:?}"
    );
    one.node().accept(*two.node().key());
    let peer = wait_for("the session", || match two.receive() {
        Some(Incoming::Session { peer, change: SessionChange::Opened { .. } }) => Some(peer),
        _ => None,
    });
    two.send(peer, Service::ExactlyOnce, b"at last").expect("room in the queue");
    let payload = wait_for("the message", || match one.receive() {
        Some(Incoming::Message { payload, .. }) => Some(payload),
        _ => None,
    });
    assert_eq!(&payload[..], b"at last");
}

/// A node that takes what comes, for as long as somebody turns its crank.
pub(crate) struct Mute;

impl Handler for Mute {
    fn on_message(&mut self, _: &mut Context<'_>, _: Message<'_>) {}
}

fn vanished_peer_ends_the_session_and_leaves_every_send_with_an_outcome(io: IoChoice) {
    const SENDS: usize = 1_000;
    let config = listener(io);
    let key = config.identity.public();
    let mut one = Poller::new(config, Mute).expect("the listener starts");
    let address = one.address();
    // A window for all of the sends.
    let receive_bytes = 512 << 20;
    let idle_timeout = Duration::from_millis(500);
    let association_timeout = Duration::from_secs(1);
    let two = Config { idle_timeout, association_timeout, receive_bytes, ..initiator(io) };
    let two = QueueNode::start(two, SENDS).expect("the initiator starts");
    let to = std::thread::scope(|scope| {
        let connecting = scope.spawn(|| two.connect(address, key));
        while !connecting.is_finished() {
            one.poll(Duration::from_micros(100)).expect("the listener's driver works");
        }
        connecting.join().expect("no panic").expect("the session opens")
    });
    // As a killed process would: no farewell.
    drop(one);
    let vanished = std::time::Instant::now();
    let mut tickets = HashMap::new();
    for _ in 0..SENDS {
        tickets.insert(two.send(to, Service::ExactlyOnce, &[7; 64]).expect("room"), None);
    }
    let closed = wait_for("the end of the session", || match two.receive()? {
        Incoming::Outcome { ticket, outcome, .. } => {
            assert_eq!(tickets.insert(ticket, Some(outcome)), Some(None), "one end each");
            None
        }
        Incoming::Session { change: SessionChange::Closed(reason), .. } => Some(reason),
        _ => None,
    });
    assert_eq!(closed, CloseReason::Idle);
    assert!(vanished.elapsed() < std::time::Duration::from_secs(5), "{:?}", vanished.elapsed());
    let ended = |wanted| tickets.values().filter(|outcome| **outcome == Some(wanted)).count();
    let (indeterminate, not_sent) = (ended(Outcome::Indeterminate), ended(Outcome::NotSent));
    assert_eq!(indeterminate + not_sent, SENDS, "{indeterminate} + {not_sent}");
    assert!(indeterminate > 0);
    assert_eq!(two.node().report()[0].sessions, 0);
    // What is sent now has nowhere to go, and says so.
    let late = two.send(to, Service::ExactlyOnce, b"late").expect("room");
    let outcome = wait_for("its outcome", || match two.receive()? {
        Incoming::Outcome { ticket, outcome, .. } if ticket == late => Some(outcome),
        _ => None,
    });
    assert_eq!(outcome, Outcome::NotSent);
}

#[test]
fn session_of_an_initiator_that_vanished_is_freed() {
    let one = Config {
        idle_timeout: Duration::from_millis(300),
        association_timeout: Duration::ZERO,
        ..listener(IoChoice::Auto)
    };
    let one = QueueNode::start(one, 64).expect("the listener starts");
    let (address, key) = (one.node().address(), *one.node().key());
    let mut two = Poller::new(initiator(IoChoice::Auto), Mute).expect("the initiator starts");
    let to = two.with(|_, context| context.connect(address, key)).expect("a free slot");
    wait_for("the session", || {
        two.poll(Duration::ZERO).expect("the initiator's driver works");
        match one.receive() {
            Some(Incoming::Session { change: SessionChange::Opened { .. }, .. }) => Some(()),
            _ => None,
        }
    });
    two.with(|_, context| context.send(to, Service::ExactlyOnce, b"last")).expect("room");
    drop(two);
    wait_for("the end of the session", || match one.receive() {
        Some(Incoming::Session { change: SessionChange::Closed(reason), .. }) => {
            assert_eq!(reason, CloseReason::Idle);
            Some(())
        }
        _ => None,
    });
    assert_eq!(one.node().report()[0].sessions, 0);
}
