//! Peers whose address changes while they talk: a relay stands between, and takes another socket
//! towards the responder every now and then, as a NAT does that binds anew.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use raet::{Config, Context, Handler, IoChoice, Message, Node, Outcome, PeerId, Resolved, Service};
use raet::{PublicKey, SendError};

use crate::{initiator, listener, on_both_drivers};

on_both_drivers! {
    every_message_arrives_once_through_a_nat_that_binds_anew
}

/// Messages: enough that the address changes many times meanwhile.
const MESSAGES: u32 = 2_000;
/// How long an address lasts.
const BINDING: Duration = Duration::from_millis(100);
/// Time between two messages: all of them take two seconds.
const PACE: Duration = Duration::from_millis(1);

/// Counts what arrives.
struct Counts {
    arrivals: Vec<AtomicU32>,
}

struct Receiver(Arc<Counts>);

impl Handler for Receiver {
    fn on_message(&mut self, _: &mut Context<'_>, message: Message<'_>) {
        let number = u32::from_le_bytes(message.payload.try_into().expect("four bytes"));
        self.0.arrivals[number as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Sends the numbers, one each millisecond.
struct Sender {
    to: (SocketAddr, PublicKey),
    peer: Option<PeerId>,
    next: u32,
    next_at: raet::time::Instant,
    ends: HashMap<Outcome, u32>,
    done: std::sync::mpsc::Sender<HashMap<Outcome, u32>>,
}

impl Handler for Sender {
    fn on_start(&mut self, context: &mut Context<'_>) {
        self.peer = Some(context.connect(self.to.0, self.to.1).expect("a handshake starts"));
    }

    fn on_message(&mut self, _: &mut Context<'_>, _: Message<'_>) {}

    fn on_outcome(&mut self, _: &mut Context<'_>, _: PeerId, resolved: Resolved) {
        *self.ends.entry(resolved.outcome).or_default() += resolved.count;
        if self.ends.values().sum::<u32>() == MESSAGES {
            let _ = self.done.send(self.ends.clone()); // A test that gave up does not listen.
        }
    }

    fn on_turn(&mut self, context: &mut Context<'_>) {
        let peer = self.peer.expect("connected at start");
        if self.next < MESSAGES && context.now() >= self.next_at {
            let payload = self.next.to_le_bytes();
            match context.send(peer, Service::ExactlyOnce, &payload) {
                Ok(_) => self.next += 1,
                Err(SendError::NotConnected | SendError::Full(_)) => {}
                Err(error) => panic!("not taken: {error}"),
            }
            let pace = u64::try_from(PACE.as_nanos()).expect("a millisecond");
            self.next_at = context.now() + raet::time::Duration::from_nanos(pace);
        }
        if self.next < MESSAGES {
            context.wake_at(self.next_at);
        }
    }
}

/// Carries datagrams between one initiator and `responder` until told to stop.
fn relay(inside: &UdpSocket, responder: SocketAddr, stop: &AtomicBool) -> u32 {
    let patience = Some(Duration::from_millis(1));
    inside.set_read_timeout(patience).expect("a socket takes a time-out");
    let bind = || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.set_nonblocking(true).expect("a socket may not block");
        (socket, Instant::now())
    };
    let (mut outside, mut since) = bind();
    let (mut bindings, mut initiator) = (1, None);
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((len, from)) = inside.recv_from(&mut buffer) {
            initiator = Some(from);
            // What does not fit a socket's queue is lost, as on any way.
            let _ = outside.send_to(&buffer[..len], responder);
        }
        while let (Ok((len, _)), Some(to)) = (outside.recv_from(&mut buffer), initiator) {
            let _ = inside.send_to(&buffer[..len], to);
        }
        if since.elapsed() >= BINDING {
            (outside, since) = bind();
            bindings += 1;
        }
    }
    bindings
}

fn every_message_arrives_once_through_a_nat_that_binds_anew(io: IoChoice) {
    let counts = Counts { arrivals: (0..MESSAGES).map(|_| AtomicU32::new(0)).collect() };
    let counts = Arc::new(counts);
    let receiver = Arc::clone(&counts);
    let server = listener(io);
    let key = server.identity.public();
    let server = Node::start(server, move |_| Receiver(Arc::clone(&receiver)));
    let server = server.expect("it starts");
    let inside = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let to = (inside.local_addr().expect("bound above"), key);
    let (responder, stop) = (server.address(), AtomicBool::new(false));
    let (done, ends) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        let relay = scope.spawn(|| relay(&inside, responder, &stop));
        let config = Config { gso: false, ..initiator(io) };
        let sender = move |_| Sender {
            to,
            peer: None,
            next: 0,
            next_at: raet::time::Instant::ZERO,
            ends: HashMap::new(),
            done: done.clone(),
        };
        let client = Node::start(config, sender).expect("it starts");
        let ends = ends.recv_timeout(crate::PATIENCE);
        stop.store(true, Ordering::Relaxed);
        let bindings = relay.join().expect("the relay ends");
        assert_eq!(ends.expect("every send ends"), HashMap::from([(Outcome::Delivered, MESSAGES)]));
        let moved: u64 = server.report().iter().map(|report| report.endpoint.sessions_moved).sum();
        assert!(moved > 0, "{bindings} addresses, and the session never moved");
        drop(client);
    });
    let arrivals = counts.arrivals.iter().map(|count| count.load(Ordering::Relaxed));
    assert!(arrivals.eq(std::iter::repeat_n(1, MESSAGES as usize)), "each arrives once");
}
