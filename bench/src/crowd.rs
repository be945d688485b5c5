//! One endpoint in memory with many sessions, each with an endpoint of its own at the other end.
//!
//! What is measured is the one in the middle, the hub: its processor time, while those around it
//! stand for the network and cost nothing. They are as many because an endpoint has one key, and a
//! pair of keys one session.

use std::net::SocketAddr;

use raet::buffer::{Pool, Received};
use raet::limits::DATAGRAM_LEN_MAX;
use raet::protocol::endpoint::{EndpointConfig, PeerId};
use raet::protocol::session::{Identity, PublicKey};
use raet::protocol::wire::ServiceKind;
use raet::time::{Duration, Instant};

use crate::memory::Side;
use crate::usage::cpu_nanos;

/// Sessions that open together.
const OPENED_TOGETHER: usize = 64;
/// Messages that a session carries each way before it is idle, a few packets.
const MESSAGES_USED: u64 = 50;
/// Sessions that do so together.
const USED_TOGETHER: usize = 16;
/// Longer than any acknowledgement is held back.
const ACK_PATIENCE: Duration = Duration::from_micros(1_200);
/// Turns in which nothing happens after which nothing will.
const QUIET_TURNS: u32 = 4;
/// More than anything takes by far; reached only by a bench that measures nothing.
const TURNS_MAX: u32 = 1_000;
/// Buffers for what is under way: four for each session that opens.
const WIRE_BUFFERS: u32 = 256;
const _: () = assert!(WIRE_BUFFERS as usize == 4 * OPENED_TOGETHER);

/// Which side of a session the hub is, or which way messages go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hub {
    /// It opens sessions, or sends.
    Active,
    /// It is asked, or receives.
    Passive,
}

/// What becomes of sessions that opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    /// They are there to carry messages.
    Kept,
    /// They are idle from the start, and their other ends are dropped: they need none.
    Idle,
    /// The same, after a few messages each way.
    UsedAndIdle,
}

/// Processor time, in nanoseconds.
#[derive(Clone, Copy, Default, Debug)]
pub struct Spent {
    /// Of the hub.
    pub hub: u64,
    /// Of all others together.
    pub others: u64,
}

/// What a stretch of messages came to, at the hub.
#[derive(Clone, Copy, Default, Debug)]
pub struct Stretch {
    /// Processor time, in nanoseconds.
    pub nanos: u64,
    /// Messages, each with its outcome.
    pub messages: u64,
    /// Packets, sent and received, acknowledgements included.
    pub packets: u64,
}

/// How messages of a stretch are sent.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Which way.
    pub hub: Hub,
    /// How often a session has something to send, one session after the other.
    pub visits: usize,
    /// Of these, in one turn.
    pub together: usize,
    /// Messages that each sends when it is its turn.
    pub burst: u64,
    /// Bytes of a message.
    pub len: usize,
}

/// A hub and those around it.
#[derive(Debug)]
pub struct Crowd {
    hub: Side,
    role: Hub,
    others: Vec<Other>,
    /// Others that were made, and perhaps dropped since.
    made: u32,
    adjust: fn(&mut EndpointConfig),
    /// Where everything lies that is under way.
    wire: Pool,
    now: Instant,
    /// The next session that has something to send.
    next: usize,
}

/// One end of one session of the hub's.
#[derive(Debug)]
struct Other {
    side: Side,
    /// The name of the hub, here.
    hub: PeerId,
    /// And its name there.
    name: PeerId,
}

type Arrivals = Vec<(SocketAddr, Received)>;

impl Crowd {
    /// A hub that is alone.
    pub fn new(role: Hub, adjust: fn(&mut EndpointConfig)) -> Self {
        let wire = Pool::new(WIRE_BUFFERS, DATAGRAM_LEN_MAX).expect("memory for the buffers");
        let address = SocketAddr::from(([10, 255, 255, 255], 4_000));
        let hub = Side::new([255; 32], address, wire.clone(), |config| {
            large(config);
            adjust(config);
        });
        let now = Instant::from_nanos(1_000_000);
        Self { hub, role, others: Vec::new(), made: 0, adjust, wire, now, next: 0 }
    }

    /// Sessions of the hub.
    pub fn sessions(&self) -> usize {
        self.hub.endpoint.session_count()
    }

    /// Opens sessions until nothing more is to be said in any.
    pub fn open(&mut self, count: usize, then: Then) -> Spent {
        let mut spent = Spent::default();
        let end = self.sessions() + count;
        while self.sessions() < end {
            let before = self.others.len();
            self.open_together(OPENED_TOGETHER.min(end - self.sessions()), &mut spent);
            if then == Then::UsedAndIdle {
                let places: Vec<usize> = (before..self.others.len()).collect();
                for places in places.chunks(USED_TOGETHER) {
                    self.send_to(places, MESSAGES_USED, &[7; 64]);
                    self.receive_from(places, MESSAGES_USED, &[7; 64]);
                }
            }
            if then != Then::Kept {
                self.others.truncate(before);
            }
        }
        spent
    }

    fn open_together(&mut self, count: usize, spent: &mut Spent) {
        let hub_key = Identity::from_secret(&[255; 32]).public();
        let mut fresh: Vec<(Side, PublicKey)> = (0..count).map(|_| self.make()).collect();
        let first = fresh[0].0.address;
        self.now += Duration::from_millis(10);
        let started = cpu_nanos();
        for (side, key) in &mut fresh {
            let asked = match self.role {
                Hub::Active => self.hub.endpoint.connect(self.now, side.address, *key),
                Hub::Passive => side.endpoint.connect(self.now, self.hub.address, hub_key),
            };
            asked.expect("there is room for a peer");
        }
        let asking = cpu_nanos() - started;
        match self.role {
            Hub::Active => spent.hub += asking,
            Hub::Passive => spent.others += asking,
        }
        let mut quiet = 0;
        for _ in 0..TURNS_MAX {
            let moved = self.opening_turn(&mut fresh, number_of(first), spent);
            quiet = if moved { 0 } else { quiet + 1 };
            if quiet == QUIET_TURNS {
                break;
            }
            self.now += if moved { Duration::from_micros(20) } else { ACK_PATIENCE };
        }
        let opened: Vec<_> = self.hub.opened.drain(..).collect();
        assert_eq!(opened.len(), count, "every session opens");
        let sides = fresh.into_iter().map(|(side, _)| side);
        for (mut side, (address, name)) in sides.zip(opened) {
            assert_eq!(side.address, address, "sessions open in their order");
            let (_, hub) = side.opened.pop().expect("it opened at both ends");
            self.others.push(Other { side, hub, name });
        }
    }

    fn make(&mut self) -> (Side, PublicKey) {
        self.made += 1;
        let [_, a, b, c] = self.made.to_be_bytes();
        let address = SocketAddr::from(([10, a, b, c], 4_000));
        let mut secret = [1; 32];
        secret[..4].copy_from_slice(&self.made.to_be_bytes());
        let adjust = self.adjust;
        let side = Side::new(secret, address, self.wire.clone(), |config| {
            large(config);
            // What one session needs.
            config.send_buffers = 1_024;
            adjust(config);
        });
        (side, Identity::from_secret(&secret).public())
    }

    /// Carries what is due between the hub and those that open sessions, the first of which is
    /// number `first`. `false`: nothing was.
    fn opening_turn(
        &mut self,
        fresh: &mut [(Side, PublicKey)],
        first: usize,
        spent: &mut Spent,
    ) -> bool {
        let (now, wire, hub) = (self.now, &self.wire, &mut self.hub);
        let mut moved = false;
        let started = cpu_nanos();
        let mut arrivals = Arrivals::new();
        for (side, _) in &mut *fresh {
            side.endpoint.handle_timeout(now);
            arrivals.extend(std::iter::from_fn(|| side.poll(now, wire)));
        }
        let handed = cpu_nanos();
        moved |= !arrivals.is_empty();
        for (_, received) in arrivals.drain(..) {
            hub.receive(now, received);
        }
        hub.endpoint.handle_timeout(now);
        arrivals.extend(std::iter::from_fn(|| hub.poll(now, wire)));
        let answered = cpu_nanos();
        moved |= !arrivals.is_empty();
        for (to, received) in arrivals {
            fresh[number_of(to) - first].0.receive(now, received);
        }
        spent.hub += answered - handed;
        spent.others += handed - started + cpu_nanos() - answered;
        moved
    }

    /// Sends messages until each has its outcome, by as many sessions as are kept, one after the
    /// other.
    ///
    /// # Panics
    /// If a message does not arrive once.
    pub fn stretch(&mut self, load: &Load) -> Stretch {
        let (messages, delivered) = self.ended(load.hub);
        let packets = self.packets();
        let message = vec![7; load.len];
        let mut nanos = 0;
        let mut visits = 0;
        while visits < load.visits {
            let count = load.together.min(load.visits - visits);
            let places = self.next..self.next + count;
            let places: Vec<usize> = places.map(|place| place % self.others.len()).collect();
            self.next = (self.next + count) % self.others.len();
            nanos += match load.hub {
                Hub::Active => self.send_to(&places, load.burst, &message),
                Hub::Passive => self.receive_from(&places, load.burst, &message),
            };
            visits += count;
        }
        let sent = load.visits as u64 * load.burst;
        let (messages_after, delivered_after) = self.ended(load.hub);
        assert_eq!((messages_after - messages, delivered_after - delivered), (sent, sent));
        Stretch { nanos, messages: sent, packets: self.packets() - packets }
    }

    /// Messages that arrived, and that their senders know of.
    fn ended(&self, hub: Hub) -> (u64, u64) {
        let others = |of: fn(&Side) -> u64| self.others.iter().map(|other| of(&other.side)).sum();
        match hub {
            Hub::Active => (others(|side| side.messages), self.hub.delivered),
            Hub::Passive => (self.hub.messages, others(|side| side.delivered)),
        }
    }

    fn packets(&self) -> u64 {
        let counters = self.hub.endpoint.counters();
        counters.packets_sent + counters.packets_received
    }

    fn send_to(&mut self, places: &[usize], burst: u64, message: &[u8]) -> u64 {
        let Self { hub, others, wire, .. } = self;
        let mut arrivals = Arrivals::with_capacity(4 * places.len());
        let started = cpu_nanos();
        for &place in places {
            send(hub, self.now, others[place].name, burst, message);
            arrivals.extend(std::iter::from_fn(|| hub.poll(self.now, wire)));
        }
        let mut nanos = cpu_nanos() - started;
        for (to, received) in arrivals.drain(..) {
            find(others, to).receive(self.now, received);
        }
        self.now += ACK_PATIENCE;
        for &place in places {
            let side = &mut others[place].side;
            side.endpoint.handle_timeout(self.now);
            arrivals.extend(std::iter::from_fn(|| side.poll(self.now, wire)));
        }
        let started = cpu_nanos();
        for (_, received) in arrivals.drain(..) {
            hub.receive(self.now, received);
        }
        hub.endpoint.handle_timeout(self.now);
        arrivals.extend(std::iter::from_fn(|| hub.poll(self.now, wire)));
        nanos += cpu_nanos() - started;
        for (to, received) in arrivals {
            find(others, to).receive(self.now, received);
        }
        nanos
    }

    fn receive_from(&mut self, places: &[usize], burst: u64, message: &[u8]) -> u64 {
        let Self { hub, others, wire, .. } = self;
        let mut arrivals = Arrivals::with_capacity(4 * places.len());
        for &place in places {
            let Other { side, hub, .. } = &mut others[place];
            send(side, self.now, *hub, burst, message);
            arrivals.extend(std::iter::from_fn(|| side.poll(self.now, wire)));
        }
        let started = cpu_nanos();
        for (_, received) in arrivals.drain(..) {
            hub.receive(self.now, received);
        }
        arrivals.extend(std::iter::from_fn(|| hub.poll(self.now, wire)));
        self.now += ACK_PATIENCE;
        hub.endpoint.handle_timeout(self.now);
        arrivals.extend(std::iter::from_fn(|| hub.poll(self.now, wire)));
        let nanos = cpu_nanos() - started;
        for (to, received) in arrivals.drain(..) {
            find(others, to).receive(self.now, received);
        }
        for &place in places {
            let side = &mut others[place].side;
            side.endpoint.handle_timeout(self.now);
            arrivals.extend(std::iter::from_fn(|| side.poll(self.now, wire)));
        }
        for (_, received) in arrivals {
            hub.receive(self.now, received);
        }
        nanos
    }

    /// Lets so much time pass that what the hub keeps for a while of those that opened sessions,
    /// and not for its sessions, is as good as forgotten: answers, and cookies that were used.
    pub fn let_pass(&mut self) {
        self.now += Duration::from_secs(300);
        self.open(1, Then::Idle);
        self.now += Duration::from_secs(300);
        self.open(1, Then::Idle);
    }
}

/// No session ends for silence, and as many may open as want to.
fn large(config: &mut EndpointConfig) {
    config.peers_max = 1 << 20;
    config.handshakes_per_second = 100_000;
    config.idle_timeout = Duration::from_secs(86_400);
}

fn send(side: &mut Side, now: Instant, to: PeerId, burst: u64, message: &[u8]) {
    for _ in 0..burst {
        let sent = side.endpoint.send(now, to, &ServiceKind::ExactlyOnce.into(), message.into());
        sent.expect("a burst finds room");
    }
}

/// Who is at this address; they stand in the order of their numbers.
fn find(others: &mut [Other], address: SocketAddr) -> &mut Side {
    let number = number_of(address);
    let place = others.binary_search_by_key(&number, |other| number_of(other.side.address));
    &mut others[place.expect("it has not been dropped")].side
}

/// The number of the one at this address, from zero.
fn number_of(address: SocketAddr) -> usize {
    let SocketAddr::V4(address) = address else { unreachable!("addresses are IPv4") };
    (address.ip().to_bits() & 0xff_ffff) as usize - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_arrives_once_in_either_direction_and_role() {
        for role in [Hub::Active, Hub::Passive] {
            let mut crowd = Crowd::new(role, |_| {});
            crowd.open(5, Then::Kept);
            assert_eq!(crowd.sessions(), 5);
            for hub in [Hub::Active, Hub::Passive] {
                let load = Load { hub, visits: 12, together: 5, burst: 40, len: 64 };
                let stretch = crowd.stretch(&load);
                assert_eq!(stretch.messages, 480);
                assert!(stretch.packets >= 480 * 64 / 1_400 && stretch.packets < 480);
            }
        }
    }

    #[test]
    fn sessions_whose_other_ends_are_gone_stay_idle() {
        let mut crowd = Crowd::new(Hub::Passive, |_| {});
        crowd.open(70, Then::Idle);
        crowd.open(3, Then::Kept);
        crowd.open(3, Then::UsedAndIdle);
        crowd.let_pass();
        assert_eq!((crowd.sessions(), crowd.others.len()), (78, 3));
        assert_eq!(crowd.hub.delivered, 3 * MESSAGES_USED);
        let load = Load { hub: Hub::Active, visits: 4, together: 2, burst: 1, len: 64 };
        assert_eq!(crowd.stretch(&load).messages, 4);
    }
}
