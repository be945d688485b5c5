//! Peers that break the protocol, or are turned away: what they leave behind.

use super::*;
use crate::limits::{
    CONTROL_BLOCKS_MAX, GRANTS_MAX, MISSING_MESSAGES_MAX, TRANSACTION_LISTS_MAX,
    TRANSACTION_RANGES_MAX,
};
use crate::protocol::wire::ServiceKind;
use crate::protocol::wire::control::{Grant, Initiator, TransactionStatus, Writer};

impl Pair {
    /// The first side sends the second a control packet that no honest one would.
    fn send_control(&mut self, peer: PeerId, fill: impl FnOnce(&mut Writer<'_>)) {
        let live = self.sides[0].endpoint.peers.find(peer.slot).unwrap().current.unwrap();
        self.send_in(0, live, fill);
    }

    /// A side sends the other one a control packet in this session.
    fn send_in(&mut self, from: usize, live: u32, fill: impl FnOnce(&mut Writer<'_>)) {
        let Endpoint { lives, control_head: template, .. } = &mut self.sides[from].endpoint;
        let mut buffer = vec![0; 2_000];
        let mut writer = Writer::new(&mut buffer[500..1_500]);
        fill(&mut writer);
        let end = 500 + writer.finish();
        let outgoing = Outgoing::control(PacketKind::Ack);
        let live = lives.find_mut(live).unwrap();
        let (_, packet) = live.session.seal_around(template, &mut buffer, 500..end, outgoing);
        let (now, address) = (self.now, self.sides[from].address);
        self.sides[1 - from].receive(now, address, Ecn::NotEct, &buffer[packet]);
    }
}

// PROTOCOL 2.17
#[test]
fn control_body_of_more_blocks_than_an_honest_one_is_malformed() {
    let (mut pair, peer) = Pair::connected();
    let malformed =
        |pair: &Pair| pair.sides[1].endpoint.counters().drops.get(DropReason::BodyMalformed);
    for (count, dropped) in [(CONTROL_BLOCKS_MAX, 0), (CONTROL_BLOCKS_MAX + 1, 1)] {
        pair.send_control(peer, |writer| {
            for _ in 0..count {
                assert!(writer.low_water_mark(0));
            }
        });
        assert_eq!(malformed(&pair), dropped);
    }
}

// PROTOCOL 2.25
#[test]
fn control_body_that_tells_of_more_messages_than_an_honest_one_is_malformed() {
    let (mut pair, peer) = Pair::connected();
    for (count, dropped) in [(2 * MISSING_MESSAGES_MAX, 0), (2 * MISSING_MESSAGES_MAX + 1, 1)] {
        pair.send_control(peer, |writer| {
            for transaction in 0..count as u64 {
                assert!(writer.missing_segments(Initiator::Receiver, transaction, (9, 0), []));
            }
        });
        let drops = &pair.sides[1].endpoint.counters().drops;
        assert_eq!(drops.get(DropReason::BodyMalformed), dropped);
    }
}

// PROTOCOL 2.17 and 2.20
#[test]
fn control_body_that_reports_or_grants_more_than_an_honest_one_is_malformed() {
    let (mut pair, peer) = Pair::connected();
    let (lists, refusals, grants) = (TRANSACTION_LISTS_MAX, TRANSACTION_RANGES_MAX, GRANTS_MAX);
    let mut dropped = 0;
    for beyond in [None, Some(0), Some(1), Some(2)] {
        let more = |place| usize::from(beyond == Some(place));
        pair.send_control(peer, |writer| {
            let none = || [0_u64..=0].into_iter();
            for _ in 0..lists + more(0) {
                let done = TransactionStatus::Done;
                assert!(writer.transaction_ranges(Initiator::Sender, done, none()));
            }
            for _ in 0..refusals + more(1) {
                let refused = TransactionStatus::Refused(7);
                assert!(writer.transaction_ranges(Initiator::Sender, refused, none()));
            }
            for transaction in 0..(grants + more(2)) as u64 {
                let initiator = Initiator::Receiver;
                assert!(writer.grant(Grant { initiator, transaction, end: 1 }));
            }
        });
        dropped += u64::from(beyond.is_some());
        let drops = &pair.sides[1].endpoint.counters().drops;
        assert_eq!(drops.get(DropReason::BodyMalformed), dropped, "{beyond:?}");
    }
}

// PROTOCOL 7.6
#[test]
fn peer_has_no_more_sessions_however_many_it_opens() {
    for dialer in [0, 1] {
        let mut pair = Pair::new();
        pair.name_of_other(dialer);
        pair.drive();
        for _ in 0..20 {
            let (now, other) = (pair.now, &mut pair.sides[1 - dialer].endpoint);
            let slot = *other.by_key.values().next().expect("there is one peer");
            other.start_handshake(now, slot);
            pair.drive();
            let other = &pair.sides[1 - dialer].endpoint;
            let lives: Vec<u32> = other.lives.iter().map(|(live, _)| live).collect();
            for live in lives {
                pair.send_in(1 - dialer, live, |writer| assert!(writer.ping()));
            }
            let sessions = pair.sides[dialer].endpoint.session_count();
            assert!(sessions <= 3, "{sessions} sessions");
        }
    }
}

// PROTOCOL 5.6
#[test]
fn what_a_violation_settled_before_it_was_found_is_nobody_elses() {
    let (mut pair, peer) = Pair::connected();
    // Packets of the second side, until it has left out a number.
    let other = pair.sides[1].endpoint.peer_id(0);
    for _ in 0..300 {
        let now = pair.now;
        pair.sides[1]
            .endpoint
            .send(now, other, &ServiceKind::ExactlyOnce.into(), b"news".into())
            .unwrap();
        pair.drive_for(Duration::from_millis(1));
    }
    let now = pair.now;
    pair.sides[1]
        .endpoint
        .send(now, other, &ServiceKind::ExactlyOnce.into(), b"news".into())
        .unwrap();
    assert!(pair.sides[1].endpoint.poll_transmit(now).is_some());
    let slot = pair.sides[1].endpoint.peers.find(0).unwrap().current.unwrap();
    let newest = pair.sides[1].endpoint.lives.find(slot).unwrap().session.recovery.lowest_unacked();
    pair.send_control(peer, |writer| {
        assert!(writer.packet_ranges(0, Duration::ZERO, [newest..=newest, 0..=newest - 2]));
    });
    pair.turn();
    let side = &pair.sides[1];
    assert_eq!(side.changes.last(), Some(&SessionChange::Closed(CloseReason::Violation)));
    assert_eq!((side.endpoint.scratch.acked.len(), side.endpoint.scratch.lost.len()), (0, 0));
    assert_eq!(side.outcome_count(Outcome::Indeterminate), 1);
}

// PROTOCOL 3.18
#[test]
fn peer_that_was_rejected_before_it_confirmed_leaves_nothing_behind() {
    let mut pair = Pair::new();
    let [one, two] = &mut pair.sides;
    one.endpoint.connect(pair.now, two.address, two.key).unwrap();
    while pair.sides[1].endpoint.session_count() == 0 {
        pair.turn();
        pair.now += ONE_WAY;
    }
    let key = pair.sides[0].key;
    assert!(pair.sides[1].endpoint.trust.reject(&key));
    pair.drive();
    let two = &pair.sides[1];
    assert_eq!((two.endpoint.session_count(), two.endpoint.peers.len()), (0, 0));
    assert_eq!(two.changes, []);
}

// PROTOCOL 7.4
#[test]
fn packets_that_do_not_open_keep_no_session_alive() {
    let (mut pair, peer) = Pair::connected();
    let from = pair.sides[0].address;
    let [replayed, mut altered] = [b"heard", b"wrong"].map(|payload| {
        pair.send(peer, ServiceKind::Maybe, payload);
        pair.sides[0].endpoint.poll_transmit(pair.now).unwrap().lease.to_vec()
    });
    *altered.last_mut().unwrap() ^= 1;
    pair.sides[1].receive(pair.now, from, Ecn::NotEct, &replayed);
    pair.loses = Box::new(|_| true);
    for _ in 0..31 {
        pair.sides[1].receive(pair.now, from, Ecn::NotEct, &replayed);
        pair.sides[1].receive(pair.now, from, Ecn::NotEct, &altered);
        pair.drive_for(Duration::from_secs(1));
    }
    let side = &pair.sides[1];
    assert_eq!(side.messages.len(), 1);
    assert_eq!(side.changes.last(), Some(&SessionChange::Lost(CloseReason::Idle)));
    let drops = &side.endpoint.counters().drops;
    assert_eq!(drops.get(DropReason::Replayed), 30, "the session was there for so many seconds");
    assert_eq!(drops.get(DropReason::AuthenticationFailed), 30);
}

// PROTOCOL 7.6
#[test]
fn renewal_that_is_refused_leaves_the_open_session_as_it_is() {
    let (mut pair, peer) = Pair::connected();
    pair.drive_for(ASK_AGAIN_MIN);
    let key = pair.sides[0].key;
    pair.sides[1].endpoint.trust.reject(&key);
    let slot = pair.sides[0].endpoint.peers.find(peer.slot).unwrap().current.unwrap();
    let now = pair.now;
    pair.sides[0].endpoint.renew(now, slot);
    pair.drive();
    assert!(pair.sides[0].endpoint.peers.find(peer.slot).unwrap().handshake.is_none());
    assert_eq!(pair.sides[0].changes.len(), 1, "{:?}", pair.sides[0].changes);
    pair.send(peer, ServiceKind::ExactlyOnce, b"still here");
    pair.drive();
    assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 1);
}

#[test]
fn closed_peer_that_was_pending_is_not_asked_again() {
    let policy = |config: &mut EndpointConfig| config.trust = Trust::new(TrustPolicy::Never);
    let (mut pair, peer) = Pair::with(|_| {}, policy).connect();
    let now = pair.now;
    pair.sides[0].endpoint.close(now, peer);
    let sent = pair.sent;
    pair.drive_for(Duration::from_secs(60));
    assert_eq!(pair.sent, sent);
    assert_eq!((pair.sides[0].endpoint.peers.len(), pair.sides[0].endpoint.asking.len()), (0, 0));
}
