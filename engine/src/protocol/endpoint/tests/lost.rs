//! Sessions that end before what two processes know of each other does.

use super::*;
use crate::limits::ASSOCIATION_TIMEOUT;
use crate::protocol::session::KeyHealth;
use crate::protocol::wire;

const IDLE: Duration = Duration::from_secs(30);

fn loses(pair: &mut Pair, all: bool) {
    pair.loses = Box::new(move |_| all);
}

/// Nothing arrives for so long that the session is lost on both sides.
fn cut(pair: &mut Pair) {
    loses(pair, true);
    pair.drive_for(IDLE + Duration::from_secs(5));
    loses(pair, false);
}

fn is_open(side: &Side) -> bool {
    matches!(side.changes.last(), Some(SessionChange::Opened { .. }))
}

// PROTOCOL 6.13 and 7.15
#[test]
fn what_was_sent_before_and_while_a_session_is_lost_arrives_once_in_the_next() {
    let (mut pair, peer) = Pair::connected();
    pair.sides[0].changes.clear();
    loses(&mut pair, true);
    pair.send(peer, ServiceKind::ExactlyOnce, b"in flight");
    pair.send(peer, ServiceKind::Request, b"question");
    pair.drive_for(IDLE + Duration::from_secs(5));
    assert_eq!(pair.sides[0].changes, [SessionChange::Lost(CloseReason::Idle)]);
    assert_eq!(pair.sides[0].outcomes, []);
    pair.send(peer, ServiceKind::ExactlyOnce, b"meanwhile");
    loses(&mut pair, false);
    pair.drive_for(Duration::from_secs(30));
    assert!(is_open(&pair.sides[0]) && is_open(&pair.sides[1]));
    let got: Vec<&[u8]> = pair.sides[1].messages.iter().map(|message| &message.2[..]).collect();
    assert_eq!(got.len(), 3);
    assert!([&b"in flight"[..], b"question", b"meanwhile"].iter().all(|one| got.contains(one)));
    assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 2);
    assert_eq!(pair.sides[0].outcome_count(Outcome::Replied), 1);
}

// PROTOCOL 6.13
#[test]
fn duplicates_and_replies_are_remembered_across_a_lost_session() {
    let (mut pair, peer) = Pair::connected();
    pair.sides[1].replies_at_once = false;
    // Both arrive; nothing that comes back does.
    let request = pair.send(peer, ServiceKind::Request, b"question");
    pair.send(peer, ServiceKind::ExactlyOnce, b"once");
    pair.turn();
    loses(&mut pair, true);
    pair.drive_for(IDLE + Duration::from_secs(5));
    assert_eq!(pair.sides[1].messages.len(), 2);
    let asker = pair.sides[1].messages[0].0;
    // The reply waits for a session, as a message does.
    let now = pair.now;
    pair.sides[1].endpoint.reply(now, asker, request, b"answer".into()).unwrap();
    loses(&mut pair, false);
    pair.drive_for(Duration::from_secs(30));
    assert_eq!(pair.sides[1].messages.len(), 2, "neither is handed over again");
    assert_eq!(pair.sides[0].replies, [(request, b"answer".to_vec())]);
    assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 1);
}

// PROTOCOL 6.13
#[test]
fn association_that_gets_no_session_in_time_ends() {
    let (mut pair, peer) = Pair::connected();
    loses(&mut pair, true);
    pair.send(peer, ServiceKind::ExactlyOnce, b"in flight");
    pair.drive_for(IDLE + Duration::from_secs(5));
    pair.send(peer, ServiceKind::ExactlyOnce, b"meanwhile");
    pair.drive_for(ASSOCIATION_TIMEOUT);
    for side in &mut pair.sides {
        let end = [CloseReason::Idle].map(SessionChange::Closed);
        assert_eq!(side.changes[2..], end, "after it was opened and lost");
        assert_eq!(side.endpoint.session_count(), 0);
        assert_eq!(side.endpoint.next_timeout(), None);
        let (free, all) = side.endpoint.free_buffers();
        assert_eq!(free, all);
    }
    assert_eq!(pair.sides[0].outcome_count(Outcome::Indeterminate), 1);
    assert_eq!(pair.sides[0].outcome_count(Outcome::NotSent), 1);
}

// PROTOCOL 7.15
#[test]
fn idle_session_sleeps_until_its_opener_has_something_to_say() {
    let (mut pair, peer) = Pair::connected();
    let sent = pair.sent;
    pair.drive_for(IDLE + Duration::from_secs(60));
    assert_eq!(pair.sent, sent, "nobody says a word");
    assert_eq!(pair.sides[0].changes[1..], [SessionChange::Lost(CloseReason::Idle)]);
    pair.send(peer, ServiceKind::ExactlyOnce, b"good morning");
    pair.drive();
    assert_eq!(pair.sides[1].messages.len(), 1);
    assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 1);
}

// PROTOCOL 7.14 and 7.15
#[test]
fn session_that_is_kept_alive_is_opened_again_without_need() {
    let keeps = |config: &mut EndpointConfig| config.keep_alive = true;
    let (mut pair, _) = Pair::with(keeps, |_| {}).connect();
    cut(&mut pair);
    let [one, two] = &mut pair.sides;
    let options = ServiceKind::ExactlyOnce.into();
    let id = two.endpoint.by_key[&one.key];
    let id = two.endpoint.peer_id(id);
    two.endpoint.send(pair.now, id, &options, b"from the other side".into()).unwrap();
    pair.drive_for(Duration::from_secs(30));
    assert!(is_open(&pair.sides[0]) && is_open(&pair.sides[1]));
    assert_eq!(pair.sides[0].messages.len(), 1);
}

#[test]
fn lost_association_can_be_closed_drained_and_asked_for() {
    let (mut pair, peer) = Pair::connected();
    cut(&mut pair);
    let [one, two] = &mut pair.sides;
    assert_eq!(one.endpoint.connect(pair.now, two.address, two.key), Ok(peer), "it is the same");
    pair.drive();
    assert!(is_open(&pair.sides[0]));

    cut(&mut pair);
    pair.send(peer, ServiceKind::ExactlyOnce, b"to be drained");
    let deadline = pair.now + Duration::from_secs(20);
    pair.sides[0].endpoint.drain(pair.now, peer, deadline);
    pair.drive_for(Duration::from_secs(1));
    assert_eq!(pair.sides[0].changes.last(), Some(&SessionChange::Closed(CloseReason::ByUs)));
    assert_eq!(pair.sides[0].outcomes, [(0, 1, Outcome::Delivered)]);

    let (mut pair, peer) = Pair::connected();
    cut(&mut pair);
    pair.send(peer, ServiceKind::ExactlyOnce, b"in vain");
    pair.sides[0].endpoint.close(pair.now, peer);
    pair.drive();
    assert_eq!(pair.sides[0].outcomes, [(0, 1, Outcome::NotSent)]);
    assert_eq!(pair.sides[0].changes.last(), Some(&SessionChange::Closed(CloseReason::ByUs)));
}

#[test]
fn new_peer_takes_the_place_of_one_that_waits_with_nothing_to_lose() {
    let one_peer = |config: &mut EndpointConfig| config.peers_max = 1;
    let (mut pair, _) = Pair::with(one_peer, |_| {}).connect();
    let stranger = Side::new(3, |_| {});
    let connect =
        |pair: &mut Pair| pair.sides[0].endpoint.connect(pair.now, stranger.address, stranger.key);
    assert_eq!(connect(&mut pair), Err(ConnectError::TooManyPeers));
    cut(&mut pair);
    assert!(connect(&mut pair).is_ok());
    pair.turn();
    let end = SessionChange::Closed(CloseReason::Idle);
    assert_eq!(pair.sides[0].changes.last(), Some(&end));
}

// PROTOCOL 4.13, 6.13 and 7.6
#[test]
fn keys_are_renewed_again_and_again_while_messages_go_on() {
    let (mut pair, peer) = Pair::connected();
    for second in 0..3_600_u32 {
        pair.send(peer, ServiceKind::ExactlyOnce, &second.to_be_bytes());
        pair.drive_for(Duration::from_secs(1));
    }
    let got: Vec<_> = pair.sides[1].messages.iter().map(|message| message.1).collect();
    assert_eq!(got, (0..3_600).collect::<Vec<u64>>(), "one association, in order, each once");
    let opened = pair.sides[0].endpoint.counters().sessions_opened;
    assert!((4..=5).contains(&opened), "{opened} sessions in an hour");
    assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 3_600);
}

// PROTOCOL 4.13
#[test]
fn renewal_that_is_due_leaves_with_the_message_that_finds_it() {
    let (mut pair, peer) = Pair::connected();
    let is_due = |pair: &Pair| {
        let endpoint = &pair.sides[0].endpoint;
        let live = endpoint.peers.find(peer.slot).unwrap().current.unwrap();
        let session = &endpoint.lives.find(live).unwrap().session;
        session.key_health(pair.now) == KeyHealth::RenewalDue
    };
    while !is_due(&pair) {
        pair.send(peer, ServiceKind::ExactlyOnce, b"before");
        pair.drive_for(Duration::from_secs(1));
    }
    pair.send(peer, ServiceKind::ExactlyOnce, b"when it is due");
    let mut kinds = Vec::new();
    while let Some(transmit) = pair.sides[0].endpoint.poll_transmit(pair.now) {
        let kind = |datagram: Transmit| wire::split(&datagram.lease).unwrap().head.packet;
        kinds.extend(transmit.each().map(kind));
    }
    assert_eq!(kinds, [PacketKind::Message, PacketKind::Hello]);
}

// PROTOCOL 7.20 to 7.22
#[test]
fn peer_that_restarted_is_found_out_at_once() {
    let (mut pair, peer) = Pair::connected();
    pair.sides[1] = Side::new(2, |config| config.boot = BootId([99; 16]));
    pair.sides[0].changes.clear();
    pair.send(peer, ServiceKind::ExactlyOnce, b"to the one before");
    pair.drive();
    assert!(matches!(
        pair.sides[0].changes[..],
        [
            SessionChange::Lost(CloseReason::Reset),
            SessionChange::Closed(CloseReason::PeerRestarted),
            SessionChange::Opened { .. }
        ]
    ));
    assert_eq!(pair.sides[0].outcomes, [(0, 1, Outcome::Indeterminate)]);
    let peer = pair.name_of_other(0);
    pair.send(peer, ServiceKind::ExactlyOnce, b"to the one after");
    pair.drive();
    assert_eq!(pair.sides[1].messages.len(), 1);
}

// PROTOCOL 7.14 and 7.15
#[test]
fn session_with_a_peer_that_restarted_is_kept_as_the_one_before() {
    let keeps = |config: &mut EndpointConfig| config.keep_alive = true;
    let (mut pair, peer) = Pair::with(keeps, |_| {}).connect();
    pair.sides[1] = Side::new(2, |config| config.boot = BootId([99; 16]));
    pair.send(peer, ServiceKind::ExactlyOnce, b"to the one before");
    pair.drive();
    assert!(is_open(&pair.sides[0]));
    cut(&mut pair);
    pair.drive_for(Duration::from_secs(30));
    assert!(is_open(&pair.sides[0]), "{:?}", pair.sides[0].changes);
}

// PROTOCOL 7.20 and 7.21
#[test]
fn initiator_that_restarted_is_believed_too() {
    let (mut pair, _) = Pair::connected();
    let id = pair.sides[1].endpoint.by_key[&pair.sides[0].key];
    let id = pair.sides[1].endpoint.peer_id(id);
    pair.sides[0] = Side::new(1, |config| config.boot = BootId([99; 16]));
    let options = ServiceKind::ExactlyOnce.into();
    pair.sides[1].endpoint.send(pair.now, id, &options, b"hello?".into()).unwrap();
    pair.drive();
    let last = pair.sides[1].changes.last();
    assert_eq!(last, Some(&SessionChange::Lost(CloseReason::Reset)));
}

/// A reset of the session of a pair, as its second side would write it, with this token.
fn reset(pair: &Pair, token: &[u8]) -> Vec<u8> {
    let session = *pair.sides[0].endpoint.by_session.keys().next().unwrap();
    let head = crate::protocol::wire::Head {
        session,
        packet: PacketKind::Reset,
        body: BodyKind::Raw,
        body_len: u32::try_from(token.len()).unwrap(),
        ..Default::default()
    };
    let mut text = [0; 256];
    let len = crate::protocol::wire::encode(&head, &mut text);
    [&text[text.len() - len..], token].concat()
}

// PROTOCOL 7.21
#[test]
fn only_the_true_token_ends_a_session() {
    let (mut pair, _) = Pair::connected();
    let session = *pair.sides[0].endpoint.by_session.keys().next().unwrap();
    let token = Identity::from_secret(&[2; 32]).reset_token(session).0;
    let (from, now) = (pair.sides[1].address, pair.now);
    let mut false_token = token;
    false_token[15] ^= 1;
    for said in [&false_token[..], &token[..15], &[0; 16], &[]] {
        let datagram = reset(&pair, said);
        let before = pair.sides[0].endpoint.counters().drops.get(DropReason::MacInvalid);
        pair.sides[0].receive(now, from, Ecn::NotEct, &datagram);
        let after = pair.sides[0].endpoint.counters().drops.get(DropReason::MacInvalid);
        assert_eq!((after, pair.sides[0].endpoint.session_count()), (before + 1, 1));
    }
    let datagram = reset(&pair, &token);
    pair.sides[0].receive(now, from, Ecn::NotEct, &datagram);
    assert_eq!(pair.sides[0].endpoint.session_count(), 0);
}

// PROTOCOL 7.22
#[test]
fn unknown_sessions_are_answered_seldom_with_less_and_never_in_a_circle() {
    let (pair, _) = Pair::connected();
    let live = pair.sides[0].endpoint.lives.iter().next().unwrap().0;
    let mut pair = pair;
    let mut packet = |kind: PacketKind, len: usize| {
        let mut buffer = vec![0; 1_000];
        let Endpoint { lives, control_head: template, .. } = &mut pair.sides[0].endpoint;
        let session = &mut lives.find_mut(live).unwrap().session;
        let (body, outgoing) = (500..500 + len, Outgoing::control(kind));
        let (_, packet) = session.seal_around(template, &mut buffer, body, outgoing);
        buffer[packet].to_vec()
    };
    let answered =
        [PacketKind::Message, PacketKind::Ack, PacketKind::Probe].map(|kind| packet(kind, 10));
    let silent = [packet(PacketKind::Close, 10), packet(PacketKind::Nack, 10)];
    let circle = reset(&pair, &[7; 16]);

    let mut restarted = Side::new(2, |config| config.boot = BootId([99; 16]));
    let mut answer = |now: Instant, host: u8, datagram: &[u8]| {
        let from = SocketAddr::from(([10, 0, 0, host], 1));
        restarted.receive(now, from, Ecn::NotEct, datagram);
        restarted.endpoint.poll_transmit(now).map(|transmit| transmit.lease.len())
    };
    let mut start = Instant::from_nanos(5_000_000_000);
    for (host, datagram) in (1..).zip(&answered) {
        let len = answer(start, host, datagram);
        assert!(
            len.is_some_and(|len| len < datagram.len()),
            "{host}: {len:?} for {}",
            datagram.len()
        );
        assert_eq!(answer(start, host, datagram), None, "once a second and address");
        start += Duration::from_secs(1);
        assert!(answer(start, host, datagram).is_some());
    }
    for (host, datagram) in (10..).zip(silent.iter().chain([&circle])) {
        assert_eq!(answer(start, host, datagram), None);
    }
    // One that is no longer than the answer would be.
    let short = &circle;
    let mut plain = short.clone();
    let at = plain.windows(7).position(|bytes| bytes == b"\"pk\":11").unwrap();
    plain[at + 5..at + 7].copy_from_slice(b" 1");
    assert_eq!(answer(start, 20, &plain), None);
}

// PROTOCOL 7.22
#[test]
fn node_that_does_not_listen_answers_no_unknown_session() {
    let (mut pair, _) = Pair::connected();
    let id = pair.sides[1].endpoint.by_key[&pair.sides[0].key];
    let id = pair.sides[1].endpoint.peer_id(id);
    let deaf = |config: &mut EndpointConfig| {
        config.boot = BootId([99; 16]);
        config.listen = false;
    };
    pair.sides[0] = Side::new(1, deaf);
    let options = ServiceKind::ExactlyOnce.into();
    pair.sides[1].endpoint.send(pair.now, id, &options, b"hello?".into()).unwrap();
    pair.drive();
    assert_eq!(pair.sides[0].endpoint.counters().packets_sent, 0);
    assert!(is_open(&pair.sides[1]));
}
