//! Two endpoints and a network that does what the input says: sends of every kind, and datagrams
//! dropped, doubled, swapped, altered, cut, and made up. Whatever happened, in the end the path
//! heals: each message that was taken has one outcome, what detects duplicates came no more than
//! once and unchanged, what is reported as delivered came, and every buffer is home.
//!
//! The first byte chooses the protection, and whether the session is open before the script; then
//! each operation is a byte and its argument.

#![no_main]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use raet::buffer::{Pool, Received};
use raet::limits::DATAGRAM_LEN_MAX;
use raet::protocol::endpoint::{Endpoint, EndpointConfig, Event};
use raet::protocol::session::{BootId, Offer};
use raet::protocol::transaction::features_in;
use raet::time::{Duration, Instant};
use raet::{
    Identity, Mode, Mtu, Outcome, PeerId, SendOptions, Service, Stream, StreamKind, Suite, Trust,
    TrustPolicy,
};

const SERVICES: [Service; 8] = [
    Service::Maybe,
    Service::Repeat,
    Service::RepeatDedup,
    Service::MoreOrLessOnce,
    Service::AtMostOnce,
    Service::ExactlyOnce,
    Service::Sequence,
    Service::Request,
];
const KINDS: [StreamKind; 4] = [
    StreamKind::Reliable,
    StreamKind::Lossy,
    StreamKind::ReliableOnRequest,
    StreamKind::LossyOnRequest,
];
/// Operations of one input: more would only be slow.
const OPERATIONS_MAX: usize = 512;
/// Datagrams under way; more are lost.
const UNDER_WAY_MAX: usize = 256;
/// Turns after the script in which everything has to end.
const TURNS_MAX: u32 = 20_000;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, script)) = data.split_first() else { return };
    let mode = if choice & 1 == 0 { Mode::Sealed } else { Mode::Signed };
    let mut world = World::new(mode);
    if choice & 2 == 0 {
        world.run_until(|world| world.sides.iter().all(|side| side.peer.is_some()));
    }
    world.play(script);
    world.settle();
});

/// A message that was taken.
struct Sent {
    service: Service,
    dedup: bool,
    len: usize,
    deliveries: u32,
    outcome: Option<Outcome>,
}

struct Side {
    endpoint: Endpoint,
    address: SocketAddr,
    pool: Pool,
    peer: Option<PeerId>,
    /// By transaction.
    sent: BTreeMap<u64, Sent>,
}

impl Side {
    fn new(number: u8, mode: Mode) -> Self {
        let identity = Arc::new(Identity::from_secret(&[number; 32]));
        let mut config = EndpointConfig::new(identity, BootId([number; 16]));
        config.trust = Trust::new(TrustPolicy::Always);
        config.mtu = Mtu::Fixed(1_200);
        config.offer = Offer::new(&[Suite::ChaCha20Poly1305], &[mode]);
        config.transactions = 64;
        config.receive_bytes = 64 << 10;
        config.send_buffers = 128;
        Self {
            endpoint: Endpoint::new(Instant::ZERO, config, [number; 32]).expect("memory"),
            address: SocketAddr::from(([127, 0, 0, number], 4_000)),
            pool: Pool::new(8, DATAGRAM_LEN_MAX).expect("memory"),
            peer: None,
            sent: BTreeMap::new(),
        }
    }

    fn send(&mut self, now: Instant, argument: u8) {
        let Some(peer) = self.peer else { return };
        let service = SERVICES[usize::from(argument & 7)];
        let stream = KINDS[usize::from(argument >> 3 & 3)];
        let options = SendOptions::new(service).stream(stream, argument >> 6);
        let len = [0, 5, 900, 9_000][usize::from(argument >> 5 & 3)];
        let payload: Vec<u8> = (0..len).map(|at| byte(len, at)).collect();
        if let Ok(transaction) = self.endpoint.send(now, peer, &options, payload[..].into()) {
            let dedup = features_in(service, Stream { kind: stream, number: argument >> 6 }).dedup;
            let sent = Sent { service, dedup, len, deliveries: 0, outcome: None };
            assert!(self.sent.insert(transaction, sent).is_none(), "a number is used once");
        }
    }
}

fn byte(len: usize, at: usize) -> u8 {
    (len + at * 7) as u8
}

struct World {
    sides: [Side; 2],
    now: Instant,
    /// Datagrams and the side they go to.
    under_way: Vec<(usize, Vec<u8>)>,
}

impl World {
    fn new(mode: Mode) -> Self {
        let mut sides = [Side::new(1, mode), Side::new(2, mode)];
        let now = Instant::from_nanos(1_000_000);
        let (address, key) = (sides[1].address, Identity::from_secret(&[2; 32]).public());
        sides[0].endpoint.connect(now, address, key).expect("another's key");
        let mut world = Self { sides, now, under_way: Vec::new() };
        world.turn();
        world
    }

    fn play(&mut self, script: &[u8]) {
        let mut at = 0;
        for _ in 0..OPERATIONS_MAX {
            let &[op, argument, ..] = &script[at.min(script.len())..] else { return };
            at += 2;
            let place = usize::from(argument);
            let exists = place < self.under_way.len();
            match op % 8 {
                0 | 1 => self.sides[usize::from(op % 8)].send(self.now, argument),
                2 if exists => {
                    let (to, datagram) = self.under_way.remove(place);
                    self.deliver(to, &datagram, None);
                }
                3 if exists => drop(self.under_way.swap_remove(place)),
                4 if exists => {
                    let (to, datagram) = self.under_way[place].clone();
                    self.deliver(to, &datagram, None);
                }
                5 if exists => {
                    let edit = script.get(at..at + 3).unwrap_or_default();
                    at += edit.len();
                    let (to, mut datagram) = self.under_way[place].clone();
                    if let [low, high, change] = *edit {
                        let position = usize::from(u16::from_le_bytes([low, high]));
                        match datagram.get_mut(position) {
                            Some(changed) => *changed ^= change,
                            None => datagram.truncate(position % 1_200),
                        }
                    }
                    self.deliver(to, &datagram, None);
                }
                6 => self.now += Duration::from_micros(1 << (argument % 18)),
                7 => {
                    let end = (at + place).min(script.len());
                    let stranger = SocketAddr::from(([127, 0, 0, 3], 4_000));
                    self.deliver(place % 2, &script[at..end], Some(stranger));
                    at = end;
                }
                _ => {}
            }
            self.turn();
        }
    }

    fn deliver(&mut self, to: usize, datagram: &[u8], from: Option<SocketAddr>) {
        let from = from.unwrap_or(self.sides[1 - to].address);
        let mut lease = self.sides[to].pool.take().expect("events are drained at once");
        lease.get_mut().expect("just taken")[..datagram.len()].copy_from_slice(datagram);
        let received = Received::single(from, lease.narrow(0..datagram.len()));
        self.sides[to].endpoint.handle_datagram(self.now, received);
        self.drain(to);
    }

    fn turn(&mut self) {
        for number in 0..2 {
            self.sides[number].endpoint.handle_timeout(self.now);
            self.drain(number);
            while let Some(transmit) = self.sides[number].endpoint.poll_transmit(self.now) {
                for datagram in transmit.each() {
                    if self.under_way.len() < UNDER_WAY_MAX {
                        self.under_way.push((1 - number, datagram.lease.to_vec()));
                    }
                }
            }
        }
    }

    fn drain(&mut self, number: usize) {
        while let Some(event) = self.sides[number].endpoint.poll_event() {
            match event {
                Event::Messages(messages) => {
                    let (peer, is_reply) = (messages.peer(), messages.is_reply());
                    let mut replies = Vec::new();
                    for (transaction, payload) in messages.iter() {
                        let mut bytes = payload.iter().enumerate();
                        assert!(bytes.all(|(at, &found)| found == byte(payload.len(), at)));
                        if !is_reply {
                            self.arrived(1 - number, transaction, payload.len());
                            replies.push((transaction, payload.len()));
                        }
                    }
                    if messages.service() == Service::Request {
                        for (transaction, len) in replies {
                            let payload: Vec<u8> = (0..len).map(|at| byte(len, at)).collect();
                            let endpoint = &mut self.sides[number].endpoint;
                            let _ = endpoint.reply(self.now, peer, transaction, payload[..].into());
                        }
                    }
                }
                Event::Outcomes { resolved, .. } => self.ended(number, &resolved),
                Event::Session { peer, .. } => {
                    let is_open = self.sides[number].endpoint.path(peer).is_some();
                    self.sides[number].peer = is_open.then_some(peer);
                }
                Event::Gap { missing, .. } => assert!(missing.start < missing.end),
                other => panic!("nobody asked for {other:?}"),
            }
        }
    }

    fn arrived(&mut self, from: usize, transaction: u64, len: usize) {
        let sent = self.sides[from].sent.get_mut(&transaction).expect("only what was sent");
        assert_eq!(sent.len, len);
        sent.deliveries += 1;
        assert!(!sent.dedup || sent.deliveries == 1, "{:?} came twice", sent.service);
    }

    fn ended(&mut self, number: usize, resolved: &raet::Resolved) {
        for transaction in resolved.first..resolved.first + u64::from(resolved.count) {
            let sent = self.sides[number].sent.get_mut(&transaction).expect("only what was sent");
            assert_eq!(sent.outcome.replace(resolved.outcome), None, "one outcome");
            assert_eq!(sent.service, resolved.service);
            if matches!(resolved.outcome, Outcome::Delivered | Outcome::Replied) {
                assert!(sent.deliveries > 0, "{:?} was told and did not come", resolved.outcome);
            }
        }
    }

    /// Lets the path work until `is_done`; says whether it came to that.
    fn run_until(&mut self, is_done: impl Fn(&Self) -> bool) -> bool {
        for _ in 0..TURNS_MAX {
            if is_done(self) {
                return true;
            }
            for (to, datagram) in std::mem::take(&mut self.under_way) {
                self.deliver(to, &datagram, None);
            }
            self.turn();
            if self.under_way.is_empty() {
                let next =
                    self.sides.iter_mut().filter_map(|side| side.endpoint.next_timeout()).min();
                let Some(next) = next else { return is_done(self) };
                self.now = next.max(self.now + Duration::from_nanos(1));
                self.turn();
            }
        }
        false
    }

    fn settle(&mut self) {
        let ended = |side: &Side| side.sent.values().all(|sent| sent.outcome.is_some());
        let is_over = self.run_until(|world| world.sides.iter().all(ended));
        assert!(is_over, "a message never ended");
        for side in &mut self.sides {
            if let Some(peer) = side.peer {
                side.endpoint.close(self.now, peer);
            }
        }
        let is_empty = |side: &Side| side.endpoint.session_count() == 0;
        assert!(self.run_until(|world| world.sides.iter().all(is_empty)), "a session stays");
        for side in &self.sides {
            let (free, all) = side.endpoint.free_buffers();
            assert_eq!(free, all, "a buffer is missing");
            assert_eq!(side.pool.available(), side.pool.capacity());
        }
    }
}
