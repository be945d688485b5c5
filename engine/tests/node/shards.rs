//! Several shards behind one port.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use raet::{
    Config, ConnectError, Context, Handler, Incoming, IoChoice, Message, Node, Outcome, QueueError,
    QueueNode, Service,
};

use crate::{initiator, listener, on_both_drivers, wait_for};

on_both_drivers! {
    shards_share_the_port_and_every_session_works
    initiator_spreads_peers_over_its_shards_and_keeps_each_on_one
    datagram_that_comes_to_the_wrong_shard_finds_its_session
}

/// Tells what arrived, and at which shard.
struct Teller {
    told: Sender<(usize, Vec<u8>)>,
}

impl Handler for Teller {
    fn on_message(&mut self, context: &mut Context<'_>, message: Message<'_>) {
        // The test may be over already.
        let _ = self.told.send((context.shard(), message.payload.to_vec()));
    }
}

fn telling_node(config: Config) -> (Node, std::sync::mpsc::Receiver<(usize, Vec<u8>)>) {
    let (told, hears) = channel();
    let told = std::sync::Mutex::new(told);
    let make = move |_| Teller { told: told.lock().expect("nobody panicked").clone() };
    (Node::start(config, make).expect("the listener starts"), hears)
}

fn shards_share_the_port_and_every_session_works(io: IoChoice) {
    const PEERS: u8 = 12;
    let (one, hears) = telling_node(Config { shards: 2, ..listener(io) });
    let mut peers = Vec::new();
    for number in 0..PEERS {
        let node = QueueNode::start(initiator(io), 64).expect("an initiator starts");
        let to = node.connect(one.address(), *one.key()).expect("the session opens");
        node.send(to, Service::ExactlyOnce, &[number]).expect("room in the queue");
        peers.push(node);
    }
    let mut seen: Vec<u8> = Vec::new();
    let mut shards = [0; 2];
    for _ in 0..PEERS {
        let (shard, payload) = wait_for("messages", || hears.try_recv().ok());
        seen.push(payload[0]);
        shards[shard] += 1;
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..PEERS).collect::<Vec<_>>());
    let sessions: Vec<_> = one.report().iter().map(|report| report.sessions).collect();
    assert_eq!(sessions, shards, "each session lives where its messages were handed over");
    println!("sessions by shard: {shards:?}");
}

fn initiator_spreads_peers_over_its_shards_and_keeps_each_on_one(io: IoChoice) {
    let two = Config { shards: 2, listen: false, ..initiator(io) };
    let two = QueueNode::start(two, 64).expect("the initiator starts");
    let listeners: Vec<_> =
        (0..6).map(|_| QueueNode::start(listener(io), 64).expect("a listener starts")).collect();
    for round in 0..2 {
        for one in &listeners {
            let to = two.connect(one.node().address(), *one.node().key());
            let to = to.expect("the session opens, or is open");
            two.send(to, Service::ExactlyOnce, &[round]).expect("room in the queue");
            let outcome = wait_for("the outcome", || match two.receive()? {
                Incoming::Outcome { outcome, .. } => Some(outcome),
                _ => None,
            });
            assert_eq!(outcome, Outcome::Delivered);
        }
    }
    let sessions: Vec<_> = two.node().report().iter().map(|report| report.sessions).collect();
    assert_eq!(sessions.iter().sum::<usize>(), listeners.len());
    println!("sessions by shard: {sessions:?}");
}

#[test]
fn connecting_from_a_shared_port_is_refused() {
    let two = Config { shards: 2, ..listener(IoChoice::Auto) };
    let two = QueueNode::start(two, 64).expect("the node starts");
    let one = QueueNode::start(listener(IoChoice::Auto), 64).expect("the listener starts");
    let failed = two.connect(one.node().address(), *one.node().key());
    assert_eq!(failed, Err(QueueError::Connect(ConnectError::PortShared)));
}

fn datagram_that_comes_to_the_wrong_shard_finds_its_session(io: IoChoice) {
    const MESSAGES: u8 = 40;
    let (one, hears) = telling_node(Config { shards: 2, ..listener(io) });
    let road = Road::open(one.address());
    let two = QueueNode::start(initiator(io), 64).expect("the initiator starts");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| road.carry(&is_over));
        let _over = Raises(&is_over); // Also when an assertion fails.
        let to = two.connect(road.address, *one.key()).expect("the session opens");
        // Each message takes another way in from now on: the kernel spreads them over the shards.
        road.is_winding.store(true, Ordering::Relaxed);
        let mut shards = Vec::new();
        for number in 0..MESSAGES {
            two.send(to, Service::ExactlyOnce, &[number]).expect("room in the queue");
            let (shard, payload) = wait_for("the message", || hears.try_recv().ok());
            assert_eq!(payload, [number]);
            shards.push(shard);
        }
        assert!(shards.iter().all(|shard| *shard == shards[0]), "the session stays where it is");
        let forwarded: u64 = one.report().iter().map(|report| report.forwarded).sum();
        println!("{forwarded} datagrams were forwarded");
        // One of two in the mean; none of forty is less likely than a broken machine.
        assert!(forwarded > 0);
        assert!(hears.try_recv().is_err(), "each message arrives once");
    });
}

struct Raises<'a>(&'a AtomicBool);

impl Drop for Raises<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A relay between an initiator and a node, which can let each datagram come from another port.
struct Road {
    address: SocketAddr,
    near: UdpSocket,
    far: Vec<UdpSocket>,
    to: SocketAddr,
    is_winding: AtomicBool,
}

impl Road {
    fn open(to: SocketAddr) -> Self {
        let socket = || {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            socket.set_nonblocking(true).expect("sockets can do that");
            socket
        };
        let near = socket();
        let address = near.local_addr().expect("it is bound");
        let far = (0..16).map(|_| socket()).collect();
        Self { address, near, far, to, is_winding: AtomicBool::new(false) }
    }

    fn carry(&self, is_over: &AtomicBool) {
        let mut buffer = vec![0; 65_536];
        let mut initiator = None;
        let mut turn = 0;
        while !is_over.load(Ordering::Relaxed) {
            while let Ok((len, from)) = self.near.recv_from(&mut buffer) {
                initiator = Some(from);
                turn += usize::from(self.is_winding.load(Ordering::Relaxed));
                let way = &self.far[turn % self.far.len()];
                // What does not leave is lost, as on any road.
                let _ = way.send_to(&buffer[..len], self.to);
            }
            for way in &self.far {
                while let Ok(len) = way.recv(&mut buffer) {
                    if let Some(initiator) = initiator {
                        let _ = self.near.send_to(&buffer[..len], initiator);
                    }
                }
            }
            thread::sleep(Duration::from_micros(50));
        }
    }
}
