//! A live node under a storm of datagrams: random bytes, and everything that a session ever sent,
//! handshake included, cut, stretched, altered, replayed and spliced.
//!
//! Nothing may panic, nothing may change: no new peer, no new session, every buffer home, each
//! datagram counted once, and the session that was open before works after.
//! `RAET_STORM` says how many datagrams; both suites and modes with a key get their share.

use std::net::SocketAddr;
use std::sync::Arc;

use raet::buffer::{Pool, Received};
use raet::io::random::Random;
use raet::limits::DATAGRAM_LEN_MAX;
use raet::protocol::endpoint::{Endpoint, EndpointConfig, Event};
use raet::protocol::session::{BootId, Offer};
use raet::protocol::wire::{PacketKind, split};
use raet::time::{Duration, Instant};
use raet::{DropReason, Identity, Mode, Mtu, Outcome, PeerId, Service, Suite, Trust, TrustPolicy};

const DATAGRAMS_DEFAULT: u64 = 100_000;
/// Datagrams between two turns.
const BATCH: u64 = 64;

struct Side {
    endpoint: Endpoint,
    address: SocketAddr,
    identity: Arc<Identity>,
    pool: Pool,
    messages: Vec<Vec<u8>>,
    delivered: u64,
}

impl Side {
    fn new(number: u8, mode: Mode, suite: Suite) -> Self {
        let identity = Arc::new(Identity::from_secret(&[number; 32]));
        let mut config = EndpointConfig::new(Arc::clone(&identity), BootId([number; 16]));
        config.trust = Trust::new(TrustPolicy::Always);
        config.mtu = Mtu::Fixed(1_400);
        config.offer = Offer::new(&[suite], &[mode]);
        Self {
            endpoint: Endpoint::new(Instant::ZERO, config, [number; 32]).expect("memory"),
            address: SocketAddr::from(([127, 0, 0, number], 4_000)),
            identity,
            pool: Pool::new(8, DATAGRAM_LEN_MAX).expect("memory"),
            messages: Vec::new(),
            delivered: 0,
        }
    }

    fn receive(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let mut lease = self.pool.take().expect("events are drained between datagrams");
        let bytes = lease.get_mut().expect("just taken");
        bytes[..datagram.len()].copy_from_slice(datagram);
        let lease = lease.narrow(0..datagram.len());
        self.endpoint.handle_datagram(now, Received::single(from, lease));
        self.drain(now);
    }

    fn drain(&mut self, now: Instant) {
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::Messages(messages) => {
                    let (peer, service) = (messages.peer(), messages.service());
                    let is_reply = messages.is_reply();
                    for (transaction, payload) in messages.iter() {
                        self.messages.push(payload.to_vec());
                        if service == Service::Request && !is_reply {
                            let replied =
                                self.endpoint.reply(now, peer, transaction, payload.into());
                            replied.expect("a reply is taken");
                        }
                    }
                }
                Event::Outcomes { resolved, .. } => {
                    let is_good = matches!(resolved.outcome, Outcome::Delivered | Outcome::Replied);
                    self.delivered += u64::from(resolved.count) * u64::from(is_good);
                }
                Event::Session { .. } => {}
                Event::Misrouted { .. } => panic!("there is one shard"),
                Event::Segment(_) | Event::Abandoned { .. } | Event::Gap { .. } => {
                    panic!("nobody asked for {event:?}")
                }
            }
        }
    }

    fn is_home(&self) -> bool {
        let (free, all) = self.endpoint.free_buffers();
        free == all && self.pool.available() == self.pool.capacity()
    }
}

/// Two nodes whose every datagram is recorded.
struct Pair {
    sides: [Side; 2],
    now: Instant,
    recorded: [Vec<Vec<u8>>; 2],
}

impl Pair {
    fn connected(mode: Mode, suite: Suite) -> (Self, PeerId) {
        let sides = [Side::new(1, mode, suite), Side::new(2, mode, suite)];
        let now = Instant::from_nanos(1_000_000);
        let mut pair = Self { sides, now, recorded: [Vec::new(), Vec::new()] };
        let (address, key) = (pair.sides[1].address, pair.sides[1].identity.public());
        let peer = pair.sides[0].endpoint.connect(now, address, key).expect("another's key");
        pair.drive(true);
        (pair, peer)
    }

    /// Exchanges datagrams for a while. They are recorded as sent to the side at their index.
    fn drive(&mut self, records: bool) {
        let end = self.now + Duration::from_millis(60);
        while self.now < end {
            self.now += Duration::from_micros(100);
            for (from, to) in [(0, 1), (1, 0)] {
                self.sides[from].endpoint.handle_timeout(self.now);
                self.sides[from].drain(self.now);
                while let Some(transmit) = self.sides[from].endpoint.poll_transmit(self.now) {
                    let address = self.sides[from].address;
                    for bytes in transmit.each().map(|datagram| datagram.lease.to_vec()) {
                        if records {
                            self.recorded[to].push(bytes.clone());
                        }
                        self.sides[to].receive(self.now, address, &bytes);
                    }
                }
            }
        }
    }

    /// One message of each kind, whose arrival is checked.
    fn exchange(&mut self, peer: PeerId, text: &[u8]) {
        let kinds = [
            Service::Maybe,
            Service::MoreOrLessOnce,
            Service::AtMostOnce,
            Service::ExactlyOnce,
            Service::Request,
        ];
        let before = (self.sides[1].messages.len(), self.sides[0].delivered);
        for service in kinds {
            let sent = self.sides[0].endpoint.send(self.now, peer, &service.into(), text.into());
            sent.expect("an open session takes messages");
        }
        self.drive(before.0 == 0);
        let arrived = &self.sides[1].messages[before.0..];
        assert_eq!(arrived, vec![text.to_vec(); kinds.len()]);
        assert_eq!(self.sides[0].delivered - before.1, 4);
    }
}

/// Something that no honest node sends now.
fn hostile(random: &mut Random, recorded: &[Vec<u8>]) -> Vec<u8> {
    let mut datagram = recorded[random.index(recorded.len())].clone();
    let byte = |random: &mut Random| u8::try_from(random.below(256)).expect("a byte");
    let choice = random.below(9);
    match choice {
        // As it was: a replay.
        0 => {}
        1 => {
            for _ in 0..=random.below(8) {
                let at = random.index(datagram.len());
                datagram[at] ^= 1 << random.below(8);
            }
        }
        2 => datagram.truncate(random.index(datagram.len())),
        3 => {
            for _ in 0..=random.below(40) {
                datagram.push(byte(random));
            }
        }
        4 => {
            // Digits and letters of the head, which stays well-formed more often than not.
            let at = random.index(datagram.len().min(160));
            datagram[at] = *b"0123456789abcdef\",:}{ \r\n".get(random.index(24)).expect("in range");
        }
        5 => {
            let other = &recorded[random.index(recorded.len())];
            let (cut, from) = (random.index(datagram.len()), random.index(other.len()));
            datagram.truncate(cut);
            datagram.extend_from_slice(&other[from..]);
        }
        6 => {
            let (from, to) = (random.index(datagram.len()), random.index(datagram.len()));
            datagram.swap(from, to);
            let at = random.index(datagram.len());
            datagram[at] = byte(random);
        }
        7 => {
            // A packet number not seen yet, so that the tag is what stands in the way.
            let end = datagram.windows(4).position(|window| window == b"\r\n\r\n");
            let number = end.map_or(0, |end| end + 4 + 2 + 2);
            if let Some(low) = datagram.get_mut(number + 5..number + 8) {
                low[0] = 1;
                low[1..].copy_from_slice(&random.next_u64().to_le_bytes()[..2]);
            }
        }
        _ => {
            datagram.clear();
            for _ in 0..random.below(1_500) {
                datagram.push(byte(random));
            }
            if random.below(2) == 0 {
                let start = b"{\"hl\":\"".iter().copied();
                datagram.splice(0..datagram.len().min(7), start);
            }
        }
    }
    datagram
}

fn storm(mode: Mode, suite: Suite, count: u64) {
    let (mut pair, peer) = Pair::connected(mode, suite);
    pair.exchange(peer, b"before the storm");
    // Cookies, and with them replayed handshakes, are stale after some minutes: start right away,
    // and let the storm last until they are.
    let mut random = Random::new(count ^ suite as u64 ^ (mode as u64) << 32);
    let stranger = SocketAddr::from(([10, 9, 8, 7], 6_543));
    let rounds = count.div_ceil(BATCH * 2);
    let step = Duration::from_nanos(Duration::from_secs(20).as_nanos() / rounds.max(1));
    let targets = [0, 1].map(|index| pair.recorded[index].clone());
    let deliveries = [0, 1].map(|index| pair.sides[index].messages.len());
    let session = pair.recorded[0].iter().filter_map(|bytes| Some(split(bytes).ok()?.head.session));
    let session = session.max().expect("something was recorded");
    let mut answered = 0_u64;
    for _ in 0..rounds {
        pair.now += step;
        for (index, target) in targets.iter().enumerate() {
            let honest = pair.sides[1 - index].address;
            let side = &mut pair.sides[index];
            for _ in 0..BATCH {
                let from = if random.below(2) == 0 { honest } else { stranger };
                let before = side.endpoint.counters().clone();
                let datagram = hostile(&mut random, target);
                side.receive(pair.now, from, &datagram);
                let after = side.endpoint.counters().clone();
                let dropped = after.drops.total() - before.drops.total();
                let reply = side.endpoint.poll_transmit(pair.now);
                // A stateless answer: to an unaltered hello or initiate never larger, to a packet
                // of a session that is not there, which counts as dropped, smaller.
                if let Some(transmit) = &reply {
                    let head = split(&transmit.lease).expect("well-formed").head;
                    let is_reset = head.packet == PacketKind::Reset;
                    let len_max = datagram.len() - usize::from(is_reset);
                    assert!(transmit.lease.len() <= len_max, "amplified");
                    assert_eq!(dropped, u64::from(is_reset));
                    assert!(!is_reset || head.session != session, "it is there");
                    answered += u64::from(!is_reset);
                } else {
                    assert_eq!(dropped, 1, "each is counted by one reason");
                }
                assert_eq!(after.packets_received, before.packets_received, "nothing opened");
            }
            assert_eq!(side.endpoint.session_count(), 1, "no session was made or lost");
            assert_eq!(side.messages.len(), deliveries[index], "nothing was delivered");
        }
    }
    pair.exchange(peer, b"after the storm");
    pair.drive(false);
    let mut drops = raet::DropCounters::default();
    for side in &pair.sides {
        assert!(side.is_home(), "buffers are home");
        assert_eq!(side.endpoint.session_count(), 1);
        drops.merge(&side.endpoint.counters().drops);
    }
    assert_eq!(drops.total() + answered, rounds * BATCH * 2, "every one is accounted for");
    for reason in [DropReason::Replayed, DropReason::AuthenticationFailed, DropReason::Empty] {
        assert!(drops.get(reason) > 0, "the storm never led to {reason:?}");
    }
    println!("{mode:?} {suite:?}: {} datagrams, {answered} answered", rounds * BATCH * 2);
    for (reason, count) in drops.iter().filter(|(_, count)| *count > 0) {
        println!("  {:<24} {count}", reason.name());
    }
}

#[test]
fn storm_changes_nothing_and_is_counted() {
    let text = std::env::var("RAET_STORM").ok();
    let count = text.map_or(DATAGRAMS_DEFAULT, |text| {
        text.parse().unwrap_or_else(|_| panic!("RAET_STORM must be a whole number, not '{text}'"))
    });
    storm(Mode::Sealed, Suite::Aes256Gcm, count / 2);
    storm(Mode::Sealed, Suite::ChaCha20Poly1305, count / 4);
    storm(Mode::Signed, Suite::Aes256Gcm, count / 4);
}
