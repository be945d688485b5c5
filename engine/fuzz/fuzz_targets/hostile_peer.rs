//! A peer with a key that is trusted, an open session, and no manners: every packet of it is
//! authentic, and what is in it is the input's choice. The endpoint that it talks to counts or
//! opens each packet, keeps within the memory that it granted, delivers nothing twice where
//! duplicates are detected, and goes on serving another peer; when all is over nothing is left.
//!
//! The first byte chooses the protection and how the session ends; then each operation is a byte
//! and what it needs. A number is two bytes: near one that both sides know, or anywhere.

#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use raet::buffer::{Pool, Received};
use raet::durable::DurableMessage;
use raet::limits::{DATAGRAM_LEN_MAX, HEAD_EMIT_LEN_MAX};
use raet::protocol::endpoint::{Deferred, Endpoint, EndpointConfig, Event, Messages};
use raet::protocol::session::{
    BootId, Established, Initiator, InitiatorConfig, Offer, Progress, Protection, Random,
};
use raet::protocol::transaction::{Features, features_in};
use raet::protocol::wire::control::{Block, Blocks};
use raet::protocol::wire::{BodyKind, Flags, Head, PacketKind, ServiceKind, encode, split, varint};
use raet::time::{Duration, Instant};
use raet::{
    Mode, Mtu, Outcome, PeerId, RefuseReason, SendOptions, StreamKind, Suite, Trust, TrustPolicy,
};
use raet_fuzz::{NOW, identities};

/// Why the victim refuses.
const REASON: RefuseReason = RefuseReason::new(1).expect("below 254");
/// Operations of one input: more would only be slow.
const OPERATIONS_MAX: usize = 256;
/// Operations from one message of the other peer to its next.
const BYSTANDER_EVERY: usize = 16;
/// Turns in which something has to end.
const TURNS_MAX: u32 = 20_000;
/// Bytes that the endpoint grants each peer, and from which on it hands over in pieces.
const RECEIVE_BYTES: u64 = 64 << 10;
const WHOLE_LEN_MAX: usize = 16 << 10;
/// Transactions that it grants.
const TRANSACTIONS: u32 = 64;
/// Longest body that the hostile peer fills from what it read last.
const BODY_LEN_MAX: usize = 2_048;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, script)) = data.split_first() else { return };
    let mode = [Mode::Sealed, Mode::Signed, Mode::Plain][usize::from(choice % 3)];
    let mut world = World::new(mode);
    world.play(&mut Script(script));
    world.end(choice / 3);
});

/// The input, read byte by byte; zeros follow it.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        core::array::from_fn(|_| self.byte())
    }
}

/// The peer under test's adversary: true keys, and what it learnt from the packets it got.
struct Hostile {
    address: SocketAddr,
    session: u64,
    protection: Protection,
    next_number: u64,
    /// The largest packet number that arrived, and the last path challenge.
    seen: u64,
    challenge: [u8; 8],
    /// The latest transaction of the endpoint, and of this peer.
    theirs: u64,
    ours: u64,
}

impl Hostile {
    fn number(&self, script: &mut Script<'_>) -> u64 {
        let [how, by] = script.bytes();
        let near = |known: u64| known.wrapping_add_signed(i64::from(by.cast_signed()));
        match how % 8 {
            0 => by.into(),
            1 => u64::from(by) << 8 | u64::from(script.byte()),
            2 => near(self.theirs),
            3 => near(self.ours),
            4 => near(self.seen),
            5 => near(self.next_number),
            6 => 1 << (by % 64),
            _ => u64::MAX - u64::from(by),
        }
    }

    /// A block as the tables of PROTOCOL 2.17 to 2.26 lay it out, with any values.
    fn block(&self, script: &mut Script<'_>, out: &mut Vec<u8>) {
        let [kind, count] = script.bytes();
        let (kind, count) = (kind % 17, u64::from(count));
        let small = |script: &mut Script<'_>| u64::from(script.byte() % 8);
        let any = |script: &mut Script<'_>| self.number(script);
        let (mut fields, mut bytes) = (Vec::new(), Vec::new());
        match kind {
            1 => {
                let (lane, ranges) = (count >> 7 & count >> 6 & 1, count % 4);
                fields.extend([lane, any(script), small(script) << 6, ranges, small(script)]);
                fields.extend((0..2 * ranges).map(|_| small(script)));
            }
            2 => fields.extend([count >> 7, any(script), any(script), any(script)]),
            3 => {
                let (initiator, status, ranges) = (count & 1, count >> 1 & 3, 1 + count % 3);
                fields.extend([initiator, status]);
                fields.extend((status == 2).then(|| small(script)));
                fields.push(ranges);
                fields.extend((0..ranges).flat_map(|_| [any(script), small(script)]));
            }
            4 => {
                let ranges = count >> 1 & 3;
                fields.extend([count & 1, any(script), small(script), small(script), ranges]);
                fields.extend((0..2 * ranges).map(|_| small(script)));
            }
            5 => fields.extend([any(script), any(script)]),
            6 | 14 => fields.push(any(script)),
            7 => {
                fields.push(small(script));
                bytes.extend((0..count % 8).map(|_| script.byte()));
            }
            8 => bytes.resize(count as usize, 0),
            11 if count & 1 == 0 => bytes.extend(self.challenge),
            10 | 11 => bytes.extend(script.bytes::<8>()),
            12 => bytes.extend(script.bytes::<16>()),
            13 | 15 => fields.extend([count & 1, any(script), any(script)]),
            _ => {}
        }
        let mut value = Vec::new();
        fields.into_iter().for_each(|field| put(&mut value, field));
        value.extend(bytes);
        put(out, kind.into());
        put(out, value.len() as u64);
        out.extend(value);
    }

    fn seal(&mut self, head: Head, body: &[u8]) -> Vec<u8> {
        let head = Head {
            session: self.session,
            auth: self.protection.auth_kind(),
            tail: self.protection.tail_kind(),
            body_len: u32::try_from(body.len()).expect("short"),
            ..head
        };
        let mut before = [0; HEAD_EMIT_LEN_MAX];
        let head_len = encode(&head, &mut before);
        let mut datagram = before[HEAD_EMIT_LEN_MAX - head_len..].to_vec();
        datagram.resize(head_len + head.auth.len(), 0);
        datagram.extend(body);
        datagram.resize(datagram.len() + head.tail.len(), 0);
        self.protection.seal(self.next_number, &mut datagram, head_len);
        self.next_number += 1;
        datagram
    }

    /// Learns what helps to be believed.
    fn take(&mut self, now: Instant, mut datagram: Vec<u8>) {
        let packet = split(&datagram).expect("written by the endpoint");
        if packet.head.session != self.session {
            return; // An Accept, again.
        }
        let Ok(opened) = self.protection.open(now, &mut datagram, &packet) else { return };
        self.seen = self.seen.max(opened.packet_number.unwrap_or(self.seen + 1));
        if packet.head.body == BodyKind::Control {
            for block in Blocks::new(&datagram[packet.body()]).map_while(Result::ok) {
                if let Block::PathChallenge(data) = block {
                    self.challenge = data;
                }
            }
        }
    }
}

/// Appends a varint; what none can hold becomes the largest.
fn put(out: &mut Vec<u8>, value: u64) {
    let mut bytes = [0; 8];
    let len = varint::write(&mut bytes, value.min(varint::MAX)).expect("room");
    out.extend(&bytes[..len]);
}

fn config(number: u8) -> EndpointConfig {
    let identity = std::sync::Arc::new(raet::Identity::from_secret(&[number; 32]));
    let mut config = EndpointConfig::new(identity, BootId([number; 16]));
    config.trust = Trust::new(TrustPolicy::Always);
    config.mtu = Mtu::Fixed(1_200);
    config.offer = Offer::new(&SUITES, &[Mode::Sealed, Mode::Signed, Mode::Plain]);
    config.transactions = TRANSACTIONS;
    config.receive_bytes = RECEIVE_BYTES;
    config.whole_len_max = WHOLE_LEN_MAX;
    config.send_buffers = 128;
    config
}

const SUITES: [Suite; 1] = [Suite::ChaCha20Poly1305];

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, number], 4_000))
}

struct World {
    now: Instant,
    endpoint: Endpoint,
    pool: Pool,
    hostile: Hostile,
    /// The hostile peer, once its session is confirmed, until it is closed.
    peer: Option<PeerId>,
    /// Another peer, its name for the endpoint, the endpoint's for it, and what it has under way.
    bystander: Endpoint,
    to_endpoint: Option<PeerId>,
    to_bystander: Option<PeerId>,
    waiting: usize,
    /// Messages of the endpoint to the hostile peer without an outcome, by transaction.
    unresolved: BTreeMap<u64, ServiceKind>,
    /// Transactions of it that may come only once, and did; how far those in pieces came.
    delivered: BTreeSet<u64>,
    pieces: BTreeMap<(bool, u64), usize>,
    /// What the application does with the next message.
    mood: u8,
    deferred: Vec<Deferred>,
    held: u64,
}

impl World {
    fn new(mode: Mode) -> Self {
        let mut endpoint = Endpoint::new(NOW, config(2), [2; 32]).expect("memory");
        let pool = Pool::new(4, DATAGRAM_LEN_MAX).expect("memory");
        let established = handshake(&mut endpoint, &pool, mode);
        let hostile = Hostile {
            address: address(1),
            session: established.session,
            protection: Protection::new(NOW, &established),
            next_number: 0,
            seen: 0,
            challenge: [0; 8],
            theirs: 0,
            ours: 0,
        };
        let mut bystander = Endpoint::new(NOW, config(3), [3; 32]).expect("memory");
        let key = identities()[1].public();
        let to_endpoint = bystander.connect(NOW, address(2), key).expect("another's key");
        let mut world = Self {
            now: NOW,
            endpoint,
            pool,
            hostile,
            peer: None,
            bystander,
            to_endpoint: Some(to_endpoint),
            to_bystander: None,
            waiting: 0,
            unresolved: BTreeMap::new(),
            delivered: BTreeSet::new(),
            pieces: BTreeMap::new(),
            mood: 0,
            deferred: Vec::new(),
            held: 0,
        };
        let head = Head { packet: PacketKind::Probe, body: BodyKind::Control, ..Head::default() };
        world.send_hostile(head, &[9, 0], world.hostile.address);
        world.run_until(|world| world.to_bystander.is_some());
        assert!(world.peer.is_some() && world.to_bystander.is_some());
        world
    }

    fn play(&mut self, script: &mut Script<'_>) {
        for count in 0..OPERATIONS_MAX {
            if script.0.is_empty() {
                return;
            }
            let [op, argument] = script.bytes();
            let port = u16::from(op >> 6 == 3) * u16::from(argument);
            let mut from = self.hostile.address;
            from.set_port(from.port() + port);
            match op % 8 {
                0 => self.message(script, argument, from),
                1 => self.segment(script, argument, from),
                2 | 3 => self.control(script, argument, from),
                4 => self.bundle(script, argument, from),
                5 => self.send(argument),
                6 => self.act(argument),
                _ => self.now += Duration::from_micros(1 << (argument % 22)),
            }
            if count % BYSTANDER_EVERY == 0 {
                self.send_bystander();
            }
            self.turn();
        }
    }

    /// A message: any level, kind and place, and a body of a durable one now and then.
    fn message(&mut self, script: &mut Script<'_>, how: u8, from: SocketAddr) {
        let head = self.head(script, how);
        let mut body = vec![1; usize::from(script.byte() & 0x3f)];
        body.iter_mut().skip(1).for_each(|byte| *byte = script.byte());
        self.send_hostile(head, &body, from);
    }

    /// A segment of the right size for its number and total, or of another.
    fn segment(&mut self, script: &mut Script<'_>, how: u8, from: SocketAddr) {
        let [segment, count, unit, wrong] = script.bytes();
        let count = 1 + u32::from(count) * if wrong & 0x40 == 0 { 1 } else { 200 };
        let segment = u32::from(segment) % count;
        let head = Head { segment, segment_count: count, ..self.head(script, how) };
        let total = (u64::from(count) * u64::from(unit) * 4).saturating_sub(u64::from(wrong & 3));
        let size = total.div_ceil(count.into());
        let start = size * u64::from(segment);
        let len = size.min(total.saturating_sub(start)) as usize;
        let mut body = Vec::new();
        put(&mut body, total);
        body.resize(body.len() + len.min(BODY_LEN_MAX), segment as u8);
        if wrong >= 0xc0 {
            body.pop();
        }
        self.send_hostile(head, &body, from);
    }

    fn bundle(&mut self, script: &mut Script<'_>, how: u8, from: SocketAddr) {
        let mut body = Vec::new();
        for _ in 0..script.byte() % 80 {
            let len = script.byte();
            put(&mut body, u64::from(len & 7));
            body.resize(body.len() + usize::from(len & 7), 7);
        }
        let head = Head { body: BodyKind::Bundle, ..self.head(script, how) };
        self.send_hostile(head, &body, from);
    }

    fn control(&mut self, script: &mut Script<'_>, how: u8, from: SocketAddr) {
        let mut body = Vec::new();
        for _ in 0..how & 7 {
            self.hostile.block(script, &mut body);
        }
        body.truncate(BODY_LEN_MAX);
        let packet = match how >> 3 {
            0 => PacketKind::Close,
            1..20 => PacketKind::Ack,
            20..30 => PacketKind::Probe,
            kind => PacketKind::from_wire(kind.into()).unwrap_or(PacketKind::Nack),
        };
        let head = Head { packet, body: BodyKind::Control, ..Head::default() };
        self.send_hostile(head, &body, from);
    }

    fn head(&mut self, script: &mut Script<'_>, how: u8) -> Head {
        let service = ServiceKind::from_wire(u64::from(how & 7)).expect("eight");
        let next = self.hostile.ours + u64::from(how >> 3 & 1);
        let transaction = if how & 0x10 == 0 { next } else { self.hostile.number(script) };
        if transaction < self.hostile.ours + 256 {
            self.hostile.ours = transaction;
        }
        let [order, flags] = script.bytes();
        let order = if how & 0x20 == 0 { order.into() } else { self.hostile.number(script) };
        // Replies are one case of four; the rest of the flags are seldom set.
        let flags = if how & 0x40 == 0 { flags & 1 & (flags >> 1) } else { flags };
        let body = [BodyKind::Raw, BodyKind::Json, BodyKind::Control, BodyKind::Bundle];
        let body = body[if how & 0x80 == 0 { 0 } else { usize::from(flags >> 6) }];
        let flags = Flags::from_wire(flags);
        Head { service, transaction, order, flags, body, ..Head::default() }
    }

    fn send_hostile(&mut self, head: Head, body: &[u8], from: SocketAddr) {
        let datagram = self.hostile.seal(head, body);
        let (received, drops) = self.counts();
        self.deliver(from, &datagram);
        let after = self.counts();
        assert!(after.0 + after.1 > received + drops, "nobody counted {head:?}");
        if !matches!(
            head.packet,
            PacketKind::Message | PacketKind::Ack | PacketKind::Probe | PacketKind::Close
        ) {
            assert!(after.1 > drops, "{head:?} has no place in a session");
        }
    }

    fn counts(&self) -> (u64, u64) {
        let counters = self.endpoint.counters();
        (counters.packets_received, counters.drops.total())
    }

    fn deliver(&mut self, from: SocketAddr, datagram: &[u8]) {
        give(&mut self.endpoint, &self.pool, self.now, from, datagram);
        self.drain();
    }

    fn send(&mut self, argument: u8) {
        let Some(peer) = self.peer else { return };
        let service = ServiceKind::from_wire(u64::from(argument & 7)).expect("eight");
        let kind = [StreamKind::Reliable, StreamKind::LossyOnRequest];
        let options = SendOptions::new(service).stream(kind[usize::from(argument >> 3 & 1)], 0);
        let payload = vec![5; [0, 5, 900, 9_000][usize::from(argument >> 4 & 3)]];
        if let Ok(number) = self.endpoint.send(self.now, peer, &options, payload[..].into()) {
            self.hostile.theirs = number;
            assert_eq!(self.unresolved.insert(number, service), None, "a number is used once");
        }
    }

    fn send_bystander(&mut self) {
        let options = SendOptions::new(ServiceKind::ExactlyOnce);
        let ends = [(true, self.to_endpoint), (false, self.to_bystander)];
        for (is_bystander, to) in ends {
            let endpoint = if is_bystander { &mut self.bystander } else { &mut self.endpoint };
            let to = to.expect("its session is open");
            endpoint.send(self.now, to, &options, b"news"[..].into()).expect("there is room");
            self.waiting += 1;
        }
    }

    /// The application behind the endpoint.
    fn act(&mut self, argument: u8) {
        match argument & 3 {
            0 => self.mood = argument >> 2,
            1 => {
                for deferred in self.deferred.drain(..) {
                    self.endpoint.commit(deferred);
                }
            }
            2 => {
                let held = std::mem::take(&mut self.held);
                self.peer.inspect(|&peer| self.endpoint.release(peer, held));
            }
            _ => {
                if let Some((&transaction, _)) = self.unresolved.first_key_value()
                    && let Some(peer) = self.peer
                {
                    self.endpoint.cancel(peer, transaction);
                }
            }
        }
    }

    fn drain(&mut self) {
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::Messages(messages) if Some(messages.peer()) == self.to_bystander => {}
                Event::Messages(messages) => self.on_messages(&messages),
                Event::Segment(segment) => {
                    let end = segment.offset + segment.body.len();
                    let key = (segment.is_reply, segment.transaction);
                    assert_eq!(self.pieces.remove(&key).unwrap_or(0), segment.offset);
                    assert!(end <= segment.total);
                    if end < segment.total {
                        self.pieces.insert(key, end);
                    }
                }
                Event::Abandoned { transaction, is_reply, .. } => {
                    self.pieces.remove(&(is_reply, transaction)).expect("it had begun");
                }
                Event::Outcomes { peer, resolved } => {
                    let count = u64::from(resolved.count);
                    if Some(peer) == self.to_bystander {
                        assert_eq!(resolved.outcome, Outcome::Delivered);
                        self.waiting -= count as usize;
                        continue;
                    }
                    for number in resolved.first..resolved.first + count {
                        let service = self.unresolved.remove(&number);
                        assert_eq!(service, Some(resolved.service), "one outcome");
                    }
                }
                Event::Session { peer, .. } => {
                    let is_open = self.endpoint.path(peer).is_some();
                    if self.is_bystander(peer) {
                        assert!(is_open || self.waiting == 0, "the other session ended");
                        self.to_bystander = is_open.then_some(peer);
                    } else {
                        self.peer = is_open.then_some(peer);
                    }
                }
                Event::Gap { missing, .. } => assert!(missing.start < missing.end),
                Event::Misrouted { .. } => panic!("there is one shard"),
            }
        }
    }

    /// The hostile peer's session is the first to open.
    fn is_bystander(&self, peer: PeerId) -> bool {
        self.to_bystander == Some(peer) || self.peer.is_some_and(|hostile| hostile != peer)
    }

    fn on_messages(&mut self, messages: &Messages) {
        let (peer, service) = (messages.peer(), messages.service());
        let Features { dedup, reply, .. } = features_in(service, messages.stream().0);
        let mut numbers = Vec::new();
        for (transaction, payload) in messages.iter() {
            DurableMessage::parse(&identities()[0].public(), payload);
            numbers.push(transaction);
        }
        for transaction in numbers {
            if messages.is_reply() {
                let asked = self.unresolved.get(&transaction);
                assert_eq!(asked, Some(&ServiceKind::Request), "a reply to nothing");
                continue;
            }
            assert!(!dedup || self.delivered.insert(transaction), "{transaction} came twice");
            match self.mood {
                1 => drop(self.endpoint.refuse(peer, transaction, REASON)),
                2 => self.deferred.extend(self.endpoint.defer(peer, transaction)),
                3 => {
                    self.endpoint.hold(peer, 1);
                    self.held += 1;
                }
                _ if reply => {
                    let len = [5, 3_000][usize::from(self.mood & 1)];
                    let payload = vec![6; len];
                    let reply = payload[..].into();
                    let _ = self.endpoint.reply(self.now, peer, transaction, reply);
                }
                _ => {}
            }
        }
    }

    /// Lets everything that is due now happen. What leaves for the bystander arrives at once.
    fn turn(&mut self) {
        loop {
            let mut is_busy = false;
            self.endpoint.handle_timeout(self.now);
            self.drain();
            while let Some(transmit) = self.endpoint.poll_transmit(self.now) {
                is_busy = true;
                for datagram in transmit.each().map(|datagram| datagram.lease.to_vec()) {
                    if transmit.to == address(3) {
                        give(&mut self.bystander, &self.pool, self.now, address(2), &datagram);
                    } else {
                        self.hostile.take(self.now, datagram);
                    }
                }
            }
            self.drain();
            self.bystander.handle_timeout(self.now);
            while let Some(event) = self.bystander.poll_event() {
                if let Event::Outcomes { resolved, .. } = event {
                    assert_eq!(resolved.outcome, Outcome::Delivered);
                    self.waiting -= resolved.count as usize;
                }
            }
            while let Some(transmit) = self.bystander.poll_transmit(self.now) {
                is_busy = true;
                for datagram in transmit.each() {
                    self.deliver(address(3), &datagram.lease.to_vec());
                }
            }
            self.check_memory();
            if !is_busy {
                return;
            }
        }
    }

    /// I12, I14, I17 and I22: within what was granted.
    fn check_memory(&self) {
        let Some(peer) = self.peer else { return };
        assert!(self.endpoint.outstanding(peer) <= TRANSACTIONS.into());
        let Some(memory) = self.endpoint.memory(peer) else { return };
        assert_eq!(memory.granted, RECEIVE_BYTES);
        for kept in [
            memory.early,
            memory.incomplete,
            memory.incomplete_ungranted,
            memory.incomplete_replies,
        ] {
            assert!(kept <= memory.granted, "{memory:?}");
        }
        for kept in [memory.unresolved, memory.unconfirmed_replies] {
            assert!(kept <= memory.granted_by_peer, "{memory:?}");
        }
    }

    /// Lets time pass, as far as something waits for it.
    fn run_until(&mut self, is_done: impl Fn(&mut Self) -> bool) {
        for _ in 0..TURNS_MAX {
            self.turn();
            if is_done(self) {
                return;
            }
            let timers = [self.endpoint.next_timeout(), self.bystander.next_timeout()];
            let next = timers.into_iter().flatten().min();
            let next = next.expect("what is waited for needs a timer");
            self.now = next.max(self.now + Duration::from_nanos(1));
        }
        panic!("it never came to an end");
    }

    fn end(&mut self, how: u8) {
        self.send_bystander();
        self.run_until(|world| world.waiting == 0);
        match how % 3 {
            0 => {
                let mut body = Vec::new();
                for field in [7, 1, 0] {
                    put(&mut body, field);
                }
                let (packet, body_kind) = (PacketKind::Close, BodyKind::Control);
                let head = Head { packet, body: body_kind, ..Head::default() };
                self.send_hostile(head, &body, self.hostile.address);
            }
            1 => {
                self.peer.inspect(|&peer| self.endpoint.close(self.now, peer));
            }
            _ => {} // It falls silent.
        }
        let other = self.to_endpoint.take().expect("open to the end");
        self.bystander.close(self.now, other);
        self.run_until(|world| {
            world.endpoint.session_count() == 0 && world.endpoint.next_timeout().is_none()
        });
        let (free, all) = self.endpoint.free_buffers();
        assert_eq!(free, all, "a send buffer is missing");
        assert_eq!(self.pool.available(), self.pool.capacity());
        assert!(self.unresolved.is_empty(), "no outcome: {:?}", self.unresolved);
        let counters = self.endpoint.counters();
        assert_eq!(counters.messages_accepted, counters.outcomes.total());
    }
}

fn give(endpoint: &mut Endpoint, pool: &Pool, now: Instant, from: SocketAddr, datagram: &[u8]) {
    let mut lease = pool.take().expect("events are drained at once");
    lease.get_mut().expect("just taken")[..datagram.len()].copy_from_slice(datagram);
    endpoint.handle_datagram(now, Received::single(from, lease.narrow(0..datagram.len())));
}

/// Opens a session with the endpoint.
fn handshake(endpoint: &mut Endpoint, pool: &Pool, mode: Mode) -> Established {
    let [ours, theirs] = identities();
    let mut config = InitiatorConfig::new(ours, Some(theirs.public()), BootId([1; 16]));
    config.offer = Offer::new(&SUITES, &[mode]);
    let mut random = Random::from_seed([1; 32]);
    let mut initiator = Initiator::start(NOW, config, &mut random);
    loop {
        let mut out = vec![0; 1_200];
        let len = initiator.poll_transmit(NOW, &mut out).expect("a packet is due");
        give(endpoint, pool, NOW, address(1), &out[..len]);
        let transmit = endpoint.poll_transmit(NOW).expect("an answer");
        let datagram = transmit.lease.to_vec();
        let packet = split(&datagram).expect("written by the endpoint");
        let progress = initiator.handle(NOW, &packet, &datagram, &mut random);
        match progress.expect("a true packet") {
            Progress::Established(established) => return *established,
            Progress::Waiting => {}
            other => panic!("nobody said {other:?}"),
        }
    }
}
