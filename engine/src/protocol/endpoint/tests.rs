//! Two endpoints on a virtual link: protocol tests as scripts.

mod associations;
mod bursts;
mod finish;
mod frequency;
mod goodput;
mod grants;
mod hostile;
mod lost;
mod marks;
mod paths;
mod pieces;
mod priority;
mod restarts;
mod segments;
mod sequence;
#[cfg(feature = "aegis")]
mod suites;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use super::*;
use crate::buffer::{Ecn, Received};
use crate::limits::{ASK_AGAIN_MIN, DATAGRAM_LEN_MAX};
use crate::protocol::session::{Identity, Mode, Offer, Outgoing, Suite, TrustPolicy};
use crate::protocol::transaction::{Outcome, Priority, Stream, StreamKind};
use crate::protocol::wire::ServiceKind;
use crate::protocol::wire::{BodyKind, Flags, PacketKind};
use crate::time::Duration;

const ONE_WAY: Duration = Duration::from_micros(50);

/// A reason of the application's.
fn reason(number: u8) -> RefuseReason {
    RefuseReason::new(number).expect("below 254")
}

/// An endpoint with what it told its owner.
struct Side {
    endpoint: Endpoint,
    address: SocketAddr,
    key: PublicKey,
    pool: Pool,
    messages: Vec<(PeerId, u64, Vec<u8>)>,
    replies: Vec<(u64, Vec<u8>)>,
    outcomes: Vec<(u64, u32, Outcome)>,
    changes: Vec<SessionChange>,
    /// Order of messages of streams, as delivered, and of gaps.
    ordered: Vec<(Stream, std::ops::Range<u64>)>,
    gaps: Vec<(Stream, std::ops::Range<u64>)>,
    /// Pieces of messages put together, and how many there were.
    pieces: (Vec<u8>, u64),
    /// Messages of which pieces came and that were not completed.
    abandoned: u64,
    /// Answers every request with its payload reversed.
    replies_at_once: bool,
    refuses: bool,
    /// Refuses messages at the first piece from this place in them on.
    refuses_from: usize,
    /// Defers every message instead of having it count as done.
    defers: bool,
    deferred: Vec<Deferred>,
}

impl Side {
    fn new(number: u8, adjust: impl FnOnce(&mut EndpointConfig)) -> Self {
        let identity = Arc::new(Identity::from_secret(&[number; 32]));
        let key = identity.public();
        let mut config = EndpointConfig::new(identity, BootId([number; 16]));
        config.trust = Trust::new(TrustPolicy::Always);
        config.mtu = Mtu::Fixed(1_400);
        adjust(&mut config);
        let seed = [config.boot.0[0]; 32]; // Another process draws other numbers.
        let endpoint = Endpoint::new(Instant::ZERO, config, seed).unwrap();
        Self {
            endpoint,
            address: SocketAddr::from(([127, 0, 0, number], 4_000)),
            key,
            pool: Pool::new(256, DATAGRAM_LEN_MAX).unwrap(),
            messages: Vec::new(),
            replies: Vec::new(),
            outcomes: Vec::new(),
            changes: Vec::new(),
            ordered: Vec::new(),
            gaps: Vec::new(),
            pieces: (Vec::new(), 0),
            abandoned: 0,
            replies_at_once: true,
            refuses: false,
            refuses_from: usize::MAX,
            defers: false,
            deferred: Vec::new(),
        }
    }

    fn receive(&mut self, now: Instant, from: SocketAddr, ecn: Ecn, datagram: &[u8]) {
        let mut lease = self.pool.take().expect("the test's pool is large enough");
        lease.get_mut().unwrap()[..datagram.len()].copy_from_slice(datagram);
        let lease = lease.narrow(0..datagram.len());
        let received = Received { ecn, ..Received::single(from, lease) };
        self.endpoint.handle_datagram(now, received);
    }

    fn drain_events(&mut self, now: Instant) {
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::Messages(messages) => {
                    let (peer, is_reply) = (messages.peer(), messages.is_reply());
                    let is_request = messages.service() == ServiceKind::Request;
                    if messages.service() == ServiceKind::Sequence {
                        let (stream, first) = messages.stream();
                        self.ordered.push((stream, first..first + u64::from(messages.count())));
                    }
                    for (transaction, payload) in messages.iter() {
                        if is_reply {
                            self.replies.push((transaction, payload.to_vec()));
                            continue;
                        }
                        self.messages.push((peer, transaction, payload.to_vec()));
                        if self.defers {
                            self.deferred.extend(self.endpoint.defer(peer, transaction));
                        } else if self.refuses {
                            assert!(self.endpoint.refuse(peer, transaction, reason(7)));
                        } else if is_request && self.replies_at_once {
                            let reversed: Vec<u8> = payload.iter().rev().copied().collect();
                            self.endpoint
                                .reply(now, peer, transaction, (&reversed).into())
                                .unwrap();
                        }
                    }
                }
                Event::Outcomes { resolved, .. } => {
                    self.outcomes.push((resolved.first, resolved.count, resolved.outcome));
                }
                Event::Segment(segment) => {
                    assert_eq!(segment.offset, self.pieces.0.len(), "pieces come in order");
                    self.pieces.0.extend_from_slice(&segment.body);
                    self.pieces.1 += 1;
                    let Segment { peer, transaction, is_reply, .. } = segment;
                    if segment.offset >= self.refuses_from && !is_reply {
                        assert!(self.endpoint.refuse(peer, transaction, reason(7)));
                        self.pieces.0.clear();
                    } else if segment.is_last() && self.defers {
                        self.deferred.extend(self.endpoint.defer(peer, transaction));
                    }
                }
                Event::Gap { stream, missing, .. } => self.gaps.push((stream, missing)),
                Event::Abandoned { .. } => {
                    self.pieces.0.clear();
                    self.abandoned += 1;
                }
                Event::Session { change, .. } => self.changes.push(change),
                Event::Misrouted { .. } => panic!("there is one shard"),
            }
        }
    }

    fn outcome_count(&self, wanted: Outcome) -> u64 {
        self.outcomes
            .iter()
            .filter(|(_, _, outcome)| *outcome == wanted)
            .map(|(_, count, _)| u64::from(*count))
            .sum()
    }
}

/// A judge of datagrams on the link: by number, whether one is lost.
type Judge = Box<dyn FnMut(u64) -> bool>;

struct Pair {
    sides: [Side; 2],
    now: Instant,
    /// Arrival, whether it goes to the second side, mark and bytes.
    link: VecDeque<(Instant, bool, Ecn, Vec<u8>)>,
    loses: Judge,
    one_way: Duration,
    /// Longer datagrams do not get through.
    longest: usize,
    sent: u64,
    /// Where datagrams went that reach neither side, and their lengths.
    astray: Vec<(SocketAddr, usize)>,
}

impl Pair {
    fn new() -> Self {
        Self::with(|_| {}, |_| {})
    }

    fn with(one: impl FnOnce(&mut EndpointConfig), two: impl FnOnce(&mut EndpointConfig)) -> Self {
        Self {
            sides: [Side::new(1, one), Side::new(2, two)],
            now: Instant::from_nanos(1_000_000),
            link: VecDeque::new(),
            loses: Box::new(|_| false),
            one_way: ONE_WAY,
            longest: 1_472,
            sent: 0,
            astray: Vec::new(),
        }
    }

    /// A pair with an open session; the first side is the initiator.
    fn connected() -> (Self, PeerId) {
        Self::new().connect()
    }

    fn connect(mut self) -> (Self, PeerId) {
        let peer = self.name_of_other(0);
        self.drive();
        (self, peer)
    }

    /// What a side calls the other one now. It connects to it if it has no session.
    fn name_of_other(&mut self, side: usize) -> PeerId {
        let (address, key) = (self.sides[1 - side].address, self.sides[1 - side].key);
        self.sides[side].endpoint.connect(self.now, address, key).unwrap()
    }

    fn turn(&mut self) {
        while self.link.front().is_some_and(|entry| entry.0 <= self.now) {
            let (_, to_second, ecn, bytes) = self.link.pop_front().unwrap();
            let (to, from) = if to_second { (1, 0) } else { (0, 1) };
            let from = self.sides[from].address;
            self.sides[to].receive(self.now, from, ecn, &bytes);
        }
        for index in 0..2 {
            self.sides[index].endpoint.handle_timeout(self.now);
            self.sides[index].drain_events(self.now);
            while let Some(transmit) = self.sides[index].endpoint.poll_transmit(self.now) {
                transmit.each().for_each(|datagram| self.put_on_link(index, &datagram));
            }
        }
    }

    fn put_on_link(&mut self, from: usize, datagram: &Transmit) {
        self.sent += 1;
        if datagram.to != self.sides[1 - from].address {
            self.astray.push((datagram.to, datagram.lease.len()));
        } else if !(self.loses)(self.sent) && datagram.lease.len() <= self.longest {
            let at = self.now + self.one_way;
            self.link.push_back((at, from == 0, datagram.ecn, datagram.lease.to_vec()));
        }
    }

    /// Runs until nothing happens for a while, and drains what came last.
    fn drive(&mut self) {
        self.drive_for(Duration::from_millis(200));
    }

    fn drive_for(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.turn();
            let link = self.link.front().map(|entry| entry.0);
            let timers =
                self.sides.iter_mut().filter_map(|side| side.endpoint.next_timeout()).min();
            let next = [link, timers].into_iter().flatten().min().unwrap_or(end);
            self.now = next.max(self.now + Duration::from_micros(1)).min(end);
        }
        self.turn();
    }

    fn send(&mut self, peer: PeerId, service: ServiceKind, payload: &[u8]) -> u64 {
        self.sides[0].endpoint.send(self.now, peer, &service.into(), payload.into()).unwrap()
    }
}

// PROTOCOL 7.1
#[test]
fn session_opens_on_both_sides() {
    let (pair, _) = Pair::connected();
    for side in &pair.sides {
        assert!(matches!(side.changes[..], [SessionChange::Opened { .. }]), "{:?}", side.changes);
        assert_eq!(side.endpoint.counters().drops.total(), 0);
    }
}

// PROTOCOL 6.10 and 6.12
#[test]
fn message_is_delivered_once_and_reported() {
    let (mut pair, peer) = Pair::connected();
    for service in [ServiceKind::MoreOrLessOnce, ServiceKind::AtMostOnce, ServiceKind::ExactlyOnce]
    {
        pair.send(peer, service, b"hello");
    }
    pair.drive();
    assert_eq!(pair.sides[1].messages.len(), 3);
    assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 3);
    assert_eq!(pair.sides[0].endpoint.outstanding(peer), 0);
}

// PROTOCOL 6.2
#[test]
fn small_messages_share_packets_and_arrive_in_order_of_numbers() {
    let (mut pair, peer) = Pair::connected();
    let before = pair.sides[0].endpoint.counters().packets_sent;
    for number in 0..1_000_u32 {
        pair.send(peer, ServiceKind::ExactlyOnce, &number.to_le_bytes());
    }
    pair.drive();
    let packets = pair.sides[0].endpoint.counters().packets_sent - before;
    assert!(packets < 20, "{packets} packets for 1000 messages of 4 bytes");
    let got: Vec<u32> = pair.sides[1]
        .messages
        .iter()
        .map(|message| u32::from_le_bytes(message.2[..].try_into().unwrap()))
        .collect();
    assert_eq!(got, (0..1_000).collect::<Vec<_>>());
    assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 1_000);
}

#[test]
fn message_is_written_once_where_it_is_kept_or_not_at_all() {
    let (mut pair, peer) = Pair::connected();
    let options = ServiceKind::ExactlyOnce.into();
    // Alone, beside others, longer than a packet, empty.
    let lens = [64, 64, 1_000, 64, 100_000, 0, 300];
    for (number, len) in (0..).zip(lens) {
        let endpoint = &mut pair.sides[0].endpoint;
        let write = |place: &mut [u8]| place.fill(number);
        assert_eq!(endpoint.send_with(pair.now, peer, &options, len, write), Ok(number.into()));
    }
    let refused = |_: &mut [u8]| panic!("a message that is refused is not written");
    let endpoint = &mut pair.sides[0].endpoint;
    let longest = usize::try_from(endpoint.message_len_max(peer, &options).unwrap()).unwrap();
    let too_long = endpoint.send_with(pair.now, peer, &options, longest + 1, refused);
    assert_eq!(too_long, Err(SendError::TooLarge { max: longest as u64 }));
    while endpoint.send(pair.now, peer, &options, b"".into()).is_ok() {}
    assert!(endpoint.send_with(pair.now, peer, &options, 64, refused).is_err());
    pair.drive();
    for (number, len) in (0..).zip(lens) {
        let arrived = pair.sides[1].messages.iter().find(|(_, at, _)| *at == u64::from(number));
        assert_eq!(arrived.unwrap().2, vec![number; len]);
    }
}

// PROTOCOL 6.2 and 6.11
#[test]
fn requests_are_answered_each_with_its_own_reply() {
    let (mut pair, peer) = Pair::connected();
    for number in 0..100_u8 {
        pair.send(peer, ServiceKind::Request, &[number, 1, 2]);
    }
    pair.drive();
    let replies = &pair.sides[0].replies;
    assert_eq!(replies.len(), 100);
    for (transaction, reply) in replies {
        assert_eq!(reply, &[2, 1, u8::try_from(*transaction).unwrap()]);
    }
    assert_eq!(pair.sides[0].outcome_count(Outcome::Replied), 100);
    let buffers = pair.sides[1].endpoint.free_buffers();
    assert_eq!(buffers.0, buffers.1, "every reply was confirmed and its buffer came home");
}

// PROTOCOL 6.9
#[test]
fn lost_packets_are_sent_again_until_everything_arrived_once() {
    let (mut pair, peer) = Pair::connected();
    pair.loses = Box::new(|number| number.is_multiple_of(3));
    for number in 0..3_000_u32 {
        pair.send(peer, ServiceKind::ExactlyOnce, &number.to_le_bytes());
        if number % 200 == 0 {
            pair.turn();
        }
    }
    pair.drive_for(Duration::from_secs(20));
    let mut got: Vec<&[u8]> = pair.sides[1].messages.iter().map(|m| &m.2[..]).collect();
    got.sort_unstable();
    got.dedup();
    assert_eq!((got.len(), pair.sides[1].messages.len()), (3_000, 3_000));
    assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 3_000);
    let buffers = pair.sides[0].endpoint.free_buffers();
    assert_eq!(buffers.0, buffers.1);
}

// PROTOCOL 6.7 and 6.10
#[test]
fn refused_message_ends_as_refused_with_its_reason() {
    let (mut pair, peer) = Pair::connected();
    pair.sides[1].refuses = true;
    pair.send(peer, ServiceKind::ExactlyOnce, b"no");
    pair.send(peer, ServiceKind::Request, b"no");
    pair.drive();
    assert_eq!(pair.sides[0].outcome_count(Outcome::Refused(7)), 2);
    assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 0);
}

// PROTOCOL 6.9 and 6.10
#[test]
fn unacknowledged_levels_end_as_sent() {
    let (mut pair, peer) = Pair::connected();
    for service in [ServiceKind::Maybe, ServiceKind::Repeat, ServiceKind::RepeatDedup] {
        pair.send(peer, service, b"x");
    }
    pair.drive();
    assert_eq!(pair.sides[0].outcome_count(Outcome::Sent), 3);
    // One, then as many copies as configured, then one again.
    assert_eq!(pair.sides[1].messages.len(), 1 + 8 + 1);
}

// PROTOCOL 6.10, 6.13 and 7.4
#[test]
fn silent_peer_ends_the_session_and_everything_in_flight_is_indeterminate() {
    let at_once = |config: &mut EndpointConfig| config.association_timeout = Duration::ZERO;
    let (mut pair, peer) = Pair::with(at_once, at_once).connect();
    pair.loses = Box::new(|_| true);
    pair.send(peer, ServiceKind::ExactlyOnce, b"lost");
    pair.drive_for(Duration::from_secs(40));
    assert_eq!(pair.sides[0].outcomes, [(0, 1, Outcome::Indeterminate)]);
    for side in &pair.sides {
        assert_eq!(side.changes.last(), Some(&SessionChange::Closed(CloseReason::Idle)));
        assert_eq!(side.endpoint.session_count(), 0);
        let buffers = side.endpoint.free_buffers();
        assert_eq!(buffers.0, buffers.1, "I27");
    }
    let sent =
        pair.sides[0].endpoint.send(pair.now, peer, &ServiceKind::Maybe.into(), b"late".into());
    assert_eq!(sent, Err(SendError::NotConnected));
}

// PROTOCOL 7.3
#[test]
fn close_is_told_to_the_peer() {
    let (mut pair, peer) = Pair::connected();
    pair.sides[0].endpoint.close(pair.now, peer);
    pair.drive();
    assert_eq!(pair.sides[0].changes.last(), Some(&SessionChange::Closed(CloseReason::ByUs)));
    assert_eq!(pair.sides[1].changes.last(), Some(&SessionChange::Closed(CloseReason::ByPeer)));
}

// PROTOCOL 6.3
#[test]
fn sender_stops_at_the_window_and_goes_on_when_reports_come() {
    let (mut pair, peer) = Pair::connected();
    let mut taken = 0;
    while pair.sides[0]
        .endpoint
        .send(pair.now, peer, &ServiceKind::ExactlyOnce.into(), b"m".into())
        .is_ok()
    {
        taken += 1;
    }
    assert_eq!(taken, crate::limits::TRANSACTIONS_DEFAULT);
    pair.drive();
    assert_eq!(pair.sides[1].messages.len(), taken as usize);
    pair.send(peer, ServiceKind::ExactlyOnce, b"more");
}

// PROTOCOL 6.8
#[test]
fn lost_unacknowledged_messages_do_not_block_the_window() {
    let (mut pair, peer) = Pair::connected();
    pair.loses = Box::new(|number| number.is_multiple_of(2));
    let mut taken = 0;
    for _ in 0..400 {
        for _ in 0..100 {
            let sent = pair.sides[0].endpoint.send(
                pair.now,
                peer,
                &ServiceKind::Maybe.into(),
                b"m".into(),
            );
            taken += u32::from(sent.is_ok());
        }
        pair.drive_for(Duration::from_millis(5));
    }
    assert!(taken > 4 * crate::limits::TRANSACTIONS_DEFAULT, "{taken}");
}

// PROTOCOL 6.14
#[test]
fn signed_and_plain_modes_keep_the_same_promises() {
    for mode in [Mode::Signed, Mode::Plain] {
        let offer = |config: &mut EndpointConfig| {
            config.offer = Offer::new(&[Suite::Aes256Gcm], &[mode]);
        };
        let (mut pair, peer) = Pair::with(offer, offer).connect();
        pair.loses = Box::new(|number| number.is_multiple_of(4));
        for number in 0..500_u32 {
            pair.send(peer, ServiceKind::ExactlyOnce, &number.to_le_bytes());
            pair.send(peer, ServiceKind::Request, &number.to_le_bytes());
        }
        pair.drive_for(Duration::from_secs(20));
        assert_eq!(pair.sides[1].messages.len(), 1_000, "{mode:?}");
        assert_eq!(pair.sides[0].replies.len(), 500, "{mode:?}");
        assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 500, "{mode:?}");
        for side in &pair.sides {
            let buffers = side.endpoint.free_buffers();
            assert_eq!(buffers.0, buffers.1, "{mode:?}");
        }
    }
}

// PROTOCOL 7.6
#[test]
fn both_sides_opening_at_once_end_with_one_working_session() {
    let mut pair = Pair::new();
    let (address, key) = (pair.sides[1].address, pair.sides[1].key);
    let peer = pair.sides[0].endpoint.connect(pair.now, address, key).unwrap();
    let (address, key) = (pair.sides[0].address, pair.sides[0].key);
    let other = pair.sides[1].endpoint.connect(pair.now, address, key).unwrap();
    pair.drive();
    pair.send(peer, ServiceKind::ExactlyOnce, b"one way");
    pair.sides[1]
        .endpoint
        .send(pair.now, other, &ServiceKind::ExactlyOnce.into(), b"the other".into())
        .unwrap();
    pair.drive();
    for side in &pair.sides {
        assert_eq!(side.messages.len(), 1);
        assert_eq!(side.outcome_count(Outcome::Delivered), 1);
    }
}

#[test]
fn pending_peer_gets_in_once_its_key_is_accepted() {
    let policy = |config: &mut EndpointConfig| config.trust = Trust::new(TrustPolicy::Never);
    let (mut pair, _) = Pair::with(|_| {}, policy).connect();
    assert!(matches!(pair.sides[0].changes[..], [SessionChange::Pending { .. }]));
    let key = pair.sides[0].key;
    pair.sides[1].endpoint.accept_key(key);
    pair.drive();
    assert_eq!(pair.sides[0].changes.len(), 1, "a notice makes nobody ask twice in a moment");
    pair.drive_for(Duration::from_secs(6));
    assert!(
        matches!(pair.sides[0].changes.last(), Some(SessionChange::Opened { .. })),
        "{:?}",
        pair.sides[0].changes
    );
}

#[test]
fn wrong_key_and_wrong_secret_end_in_a_refusal_or_silence() {
    let secret = |config: &mut EndpointConfig| config.psk = Some([5; 32]);
    let short = |config: &mut EndpointConfig| {
        config.handshake_timeout = Duration::from_secs(2);
        config.psk = Some([6; 32]);
    };
    let (mut pair, _) = Pair::with(short, secret).connect();
    pair.drive_for(Duration::from_secs(5));
    assert!(
        matches!(pair.sides[0].changes[..], [SessionChange::TimedOut(_)]),
        "{:?}",
        pair.sides[0].changes
    );
    assert_eq!(pair.sides[1].changes, []);
}

// PROTOCOL 6.8
#[test]
fn sender_without_credit_asks_although_its_mark_counts_as_told() {
    let offer = |config: &mut EndpointConfig| {
        config.offer = Offer::new(&[Suite::Aes256Gcm], &[Mode::Plain]);
    };
    let (mut pair, peer) = Pair::with(offer, offer).connect();
    pair.loses = Box::new(|_| true);
    while pair.sides[0]
        .endpoint
        .send(pair.now, peer, &ServiceKind::Maybe.into(), b"lost".into())
        .is_ok()
    {}
    pair.turn();
    pair.loses = Box::new(|_| false);
    // A control packet that was under way answers the ping which told the mark and was lost.
    let endpoint = &mut pair.sides[0].endpoint;
    let slot = endpoint.peers.find(peer.slot).unwrap().current.unwrap();
    let live = endpoint.lives.find_mut(slot).unwrap();
    let ping = live.last_ping.take().unwrap();
    live.session.recovery.forget(ping);
    let known = endpoint.peers.find_mut(peer.slot).unwrap().association.as_mut().unwrap();
    known.low_water_told = known.outbox.low_water();
    pair.drive();
    let full = SendError::Full(FullReason::Transactions);
    let sent =
        pair.sides[0].endpoint.send(pair.now, peer, &ServiceKind::Maybe.into(), b"refused".into());
    assert_eq!(sent, Err(full));
    pair.drive();
    pair.send(peer, ServiceKind::Maybe, b"taken");
}

#[test]
fn train_is_told_in_its_order() {
    let (mut pair, peer) = Pair::connected();
    pair.send(peer, ServiceKind::ExactlyOnce, b"last words");
    let mut train = pair.sides[0].endpoint.poll_transmit(pair.now).unwrap().lease.to_vec();
    let segment_len = train.len();
    pair.sides[0].endpoint.close(pair.now, peer);
    train.extend_from_slice(&pair.sides[0].endpoint.poll_transmit(pair.now).unwrap().lease);
    let from = pair.sides[0].address;
    let side = &mut pair.sides[1];
    let mut lease = side.pool.take().unwrap();
    lease.get_mut().unwrap()[..train.len()].copy_from_slice(&train);
    let lease = lease.narrow(0..train.len());
    side.endpoint
        .handle_datagram(pair.now, Received { from, ecn: Ecn::NotEct, lease, segment_len });
    let first = side.endpoint.poll_event();
    assert!(matches!(first, Some(Event::Messages(_))), "{first:?}");
    let second = side.endpoint.poll_event();
    assert!(
        matches!(second, Some(Event::Session { change: SessionChange::Closed(_), .. })),
        "{second:?}"
    );
}

// PROTOCOL 6.6 and 6.7
#[test]
fn more_holes_than_one_report_lists_do_not_keep_outcomes_back() {
    for mode in [Mode::Sealed, Mode::Plain] {
        let offer = |config: &mut EndpointConfig| {
            config.offer = Offer::new(&[Suite::Aes256Gcm], &[mode]);
        };
        let (mut pair, peer) = Pair::with(offer, offer).connect();
        // A request without a reply keeps the low-water mark where it is, and refusals between
        // the others make each of them a range of its own.
        pair.sides[1].replies_at_once = false;
        pair.send(peer, ServiceKind::Request, b"?");
        for number in 0..200 {
            pair.sides[1].refuses = number % 2 == 1;
            pair.send(peer, ServiceKind::ExactlyOnce, b"!");
            pair.drive_for(Duration::from_millis(2));
        }
        pair.drive_for(Duration::from_secs(2));
        assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 100, "{mode:?}");
        assert_eq!(pair.sides[0].outcome_count(Outcome::Refused(7)), 100, "{mode:?}");
    }
}

// PROTOCOL 6.6 and 6.7
#[test]
fn burst_that_is_refused_as_a_whole_ends_as_refused() {
    let escrow = crate::limits::ESCROW_MESSAGES_MAX;
    for (service, count) in [
        (ServiceKind::ExactlyOnce, 4_096),
        (ServiceKind::Request, 4_096),
        (ServiceKind::Sequence, escrow),
    ] {
        let (mut pair, peer) = Pair::connected();
        pair.sides[1].refuses = true;
        // What comes behind the first of a stream is reported as accepted until that is there.
        pair.turn();
        let first = pair.sent + 1;
        pair.loses = Box::new(move |number| number == first);
        for _ in 0..count {
            pair.send(peer, service, b"no");
        }
        pair.drive_for(Duration::from_secs(5));
        assert_eq!(pair.sides[0].outcome_count(Outcome::Refused(7)), count, "{service:?}");
    }
}

#[test]
fn datagrams_grow_to_what_the_path_carries() {
    let auto = |config: &mut EndpointConfig| config.mtu = Mtu::Auto;
    let mut pair = Pair::with(auto, auto);
    pair.longest = 9_000;
    let (mut pair, peer) = pair.connect();
    pair.drive_for(Duration::from_secs(10));
    let path = pair.sides[0].endpoint.path(peer).unwrap();
    assert_eq!(path.datagram_len, 8_972);
}

// PROTOCOL 7.2 and 7.5
#[test]
fn packets_that_have_no_place_in_a_session_are_counted_and_change_nothing() {
    let (mut pair, peer) = Pair::connected();
    let from = pair.sides[0].address;
    let slot = pair.sides[0].endpoint.peers.find(peer.slot).unwrap().current.unwrap();
    let send = |pair: &mut Pair, packet, body| {
        let mut buffer = vec![0; 1_000];
        let outgoing = Outgoing {
            packet,
            service: ServiceKind::Maybe,
            transaction: 0,
            order: 0,
            segment: (0, 1),
            body,
            flags: Flags::NONE,
        };
        let Endpoint { lives, control_head: template, .. } = &mut pair.sides[0].endpoint;
        let live = lives.find_mut(slot).unwrap();
        let (_, packet) = live.session.seal_around(template, &mut buffer, 500..510, outgoing);
        let now = pair.now;
        pair.sides[1].receive(now, from, Ecn::NotEct, &buffer[packet]);
    };
    for (packet, body, reason) in [
        (PacketKind::Reset, BodyKind::Raw, DropReason::KindMismatch),
        (PacketKind::Hello, BodyKind::Control, DropReason::Unsupported),
        (PacketKind::Ack, BodyKind::Raw, DropReason::KindMismatch),
        (PacketKind::Close, BodyKind::Raw, DropReason::KindMismatch),
        (PacketKind::Message, BodyKind::Control, DropReason::KindMismatch),
    ] {
        let before = pair.sides[1].endpoint.counters().drops.get(reason);
        send(&mut pair, packet, body);
        assert_eq!(pair.sides[1].endpoint.counters().drops.get(reason), before + 1, "{packet:?}");
    }
    let stranger = br#"{"hl":"022","si":"00000000000000ff"}"#;
    let mut datagram = stranger.to_vec();
    datagram.extend_from_slice(b"\r\n\r\n");
    let len = format!("{:03x}", datagram.len());
    datagram[7..10].copy_from_slice(len.as_bytes());
    let now = pair.now;
    pair.sides[1].receive(now, from, Ecn::NotEct, &datagram);
    let drops = &pair.sides[1].endpoint.counters().drops;
    assert_eq!(drops.get(DropReason::SessionUnknown), 1);
    pair.send(peer, ServiceKind::ExactlyOnce, b"still here");
    pair.drive();
    assert_eq!(pair.sides[1].messages.len(), 1);
}

// PROTOCOL 6.14
#[test]
fn plain_sender_learns_the_path_from_reports_alone() {
    let offer = |config: &mut EndpointConfig| {
        config.offer = Offer::new(&[Suite::Aes256Gcm], &[Mode::Plain]);
    };
    let (mut pair, peer) = Pair::with(offer, offer).connect();
    for _ in 0..30 {
        let message = [1; 64];
        while pair.sides[0]
            .endpoint
            .send(pair.now, peer, &ServiceKind::ExactlyOnce.into(), (&message).into())
            .is_ok()
        {}
        pair.drive_for(Duration::from_micros(200));
    }
    let slot = pair.sides[0].endpoint.peers.find(peer.slot).unwrap().current.unwrap();
    let recovery = &pair.sides[0].endpoint.lives.find(slot).unwrap().session.recovery;
    let statistics = recovery.statistics();
    assert_eq!((statistics.packets_lost, statistics.backoff), (0, 0));
    assert_eq!(statistics.rtt_smoothed, ONE_WAY + ONE_WAY);
    assert!(statistics.window > 500_000, "{}", statistics.window);
}

#[test]
fn session_opens_across_a_path_of_seconds() {
    let mut pair = Pair::new();
    pair.one_way = Duration::from_millis(750);
    let (address, key) = (pair.sides[1].address, pair.sides[1].key);
    pair.sides[0].endpoint.connect(pair.now, address, key).unwrap();
    pair.drive_for(Duration::from_secs(20));
    for side in &pair.sides {
        assert!(matches!(side.changes[..], [SessionChange::Opened { .. }]), "{:?}", side.changes);
    }
}
