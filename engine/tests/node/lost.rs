//! Sessions that are lost and opened again, over sockets: a path that is cut for longer than the
//! idle time-out, and a process that comes back at its old address.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use raet::{
    CloseReason, Config, Incoming, IoChoice, Outcome, Poller, QueueNode, Service, SessionChange,
};

use crate::failures::Mute;
use crate::{initiator, listener, on_both_drivers, wait_for};

on_both_drivers! {
    sends_outlive_a_path_that_was_cut
    restarted_peer_is_found_out_long_before_the_idle_timeout
}

/// What the application was told: changes by name, and how sends ended.
#[derive(Default)]
struct Told {
    changes: Vec<SessionChange>,
    ends: Vec<(u64, Outcome)>,
}

impl Told {
    fn hear(&mut self, node: &QueueNode) {
        while let Some(incoming) = node.receive() {
            match incoming {
                Incoming::Outcome { ticket, outcome, .. } => self.ends.push((ticket, outcome)),
                Incoming::Session { change, .. } => self.changes.push(change),
                Incoming::Gap { .. } | Incoming::Message { .. } => panic!("nobody sends to us"),
                Incoming::TooLarge { .. } => panic!("all are short"),
            }
        }
    }

    fn has(&self, change: &SessionChange) -> bool {
        self.changes.contains(change)
    }
}

/// Carries datagrams between one initiator and `responder` while `is_open`, until told to stop.
fn relay(socket: &UdpSocket, responder: SocketAddr, is_open: &AtomicBool, stop: &AtomicBool) {
    let patience = Some(Duration::from_millis(1));
    socket.set_read_timeout(patience).expect("a socket takes a time-out");
    let mut initiator = None;
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        let Ok((len, from)) = socket.recv_from(&mut buffer) else { continue };
        if from != responder {
            initiator = Some(from);
        }
        let to = if from == responder { initiator } else { Some(responder) };
        if let (Some(to), true) = (to, is_open.load(Ordering::Relaxed)) {
            // What does not fit a socket's queue is lost, as on any way.
            let _ = socket.send_to(&buffer[..len], to);
        }
    }
}

fn sends_outlive_a_path_that_was_cut(io: IoChoice) {
    let idle_timeout = raet::time::Duration::from_millis(300);
    let one = QueueNode::start(Config { idle_timeout, ..listener(io) }, 64).expect("it starts");
    let two = QueueNode::start(initiator(io), 64).expect("it starts");
    let (responder, key) = (one.node().address(), *one.node().key());
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("bound above");
    let (is_open, stop) = (AtomicBool::new(true), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| relay(&socket, responder, &is_open, &stop));
        let mut told = Told::default();
        let to = two.connect(address, key).expect("the session opens");
        let send = |text: &[u8]| two.send(to, Service::ExactlyOnce, text).expect("room");
        let mut tickets = vec![send(b"before")];
        wait_for("the first outcome", || {
            told.hear(&two);
            (!told.ends.is_empty()).then_some(())
        });
        is_open.store(false, Ordering::Relaxed);
        tickets.push(send(b"in flight"));
        let lost = SessionChange::Lost(CloseReason::Idle);
        wait_for("the loss of the session", || {
            told.hear(&two);
            told.has(&lost).then_some(())
        });
        tickets.push(send(b"meanwhile"));
        is_open.store(true, Ordering::Relaxed);
        wait_for("all outcomes", || {
            told.hear(&two);
            (told.ends.len() == 3).then_some(())
        });
        stop.store(true, Ordering::Relaxed);
        let expected: Vec<_> =
            tickets.into_iter().map(|ticket| (ticket, Outcome::Delivered)).collect();
        told.ends.sort_by_key(|end| end.0);
        assert_eq!(told.ends, expected);
        let closed = told.changes.iter().find(|change| matches!(change, SessionChange::Closed(_)));
        assert_eq!(closed, None);
    });
    let mut got = Vec::new();
    while let Some(incoming) = one.receive() {
        if let Incoming::Message { payload, .. } = incoming {
            got.push(payload.to_vec());
        }
    }
    got.sort();
    assert_eq!(got, [&b"before"[..], b"in flight", b"meanwhile"]);
}

fn restarted_peer_is_found_out_long_before_the_idle_timeout(io: IoChoice) {
    let config = listener(io);
    let mut one = Poller::new(config.clone(), Mute).expect("it starts");
    let two = QueueNode::start(initiator(io), 64).expect("it starts");
    let (address, key) = (one.address(), config.identity.public());
    let to = std::thread::scope(|scope| {
        let connecting = scope.spawn(|| two.connect(address, key));
        while !connecting.is_finished() {
            let patience = raet::time::Duration::from_micros(100);
            one.poll(patience).expect("its driver works");
        }
        connecting.join().expect("no panic").expect("the session opens")
    });
    // As a killed process would: no farewell. Its port is free for the next one.
    drop(one);
    let again = Config { bind: address, ..config };
    let one = wait_for("the port", || QueueNode::start(again.clone(), 64).ok());
    let start = Instant::now();
    let ticket = two.send(to, Service::ExactlyOnce, b"to the one before").expect("room");
    let mut told = Told::default();
    wait_for("the end of what was sent", || {
        told.hear(&two);
        (!told.ends.is_empty()).then_some(())
    });
    assert!(start.elapsed() < Duration::from_secs(15), "half the idle time-out");
    // Not sent, if an acknowledgement that was still due found the peer out before.
    let [(ended, Outcome::Indeterminate | Outcome::NotSent)] = told.ends[..] else {
        panic!("{:?}", told.ends);
    };
    assert_eq!(ended, ticket);
    assert!(told.has(&SessionChange::Lost(CloseReason::Reset)), "{:?}", told.changes);
    drop(one);
}
