//! Sends that end early, sessions that end in order.

use super::*;

#[test]
fn failed_request_ends_without_a_reply() {
    // PROTOCOL 6.34
    let (mut pair, to) = Pair::connected();
    pair.sides[1].replies_at_once = false;
    for _ in 0..2 {
        pair.send(to, ServiceKind::Request, b"do it");
    }
    pair.drive_for(Duration::from_millis(5));
    let (peer, first, _) = pair.sides[1].messages[0].clone();
    assert!(pair.sides[1].endpoint.fail(peer, first));
    let now = pair.now;
    pair.sides[1].endpoint.reply(now, peer, first + 1, b"done".into()).unwrap();
    pair.drive_for(Duration::from_millis(5));
    let ended = &pair.sides[0];
    assert_eq!(ended.outcome_count(Outcome::HandlerFailed), 1);
    assert_eq!(ended.outcome_count(Outcome::Replied), 1);
    assert_eq!(ended.replies, [(first + 1, b"done".to_vec())]);
    assert_eq!(ended.endpoint.counters().outcomes.total(), 2);
}

#[test]
fn cancelled_request_is_not_answered_any_more() {
    // PROTOCOL 6.32
    let (mut pair, to) = Pair::connected();
    pair.sides[1].replies_at_once = false;
    let transaction = pair.send(to, ServiceKind::Request, b"do it");
    pair.drive_for(Duration::from_millis(5));
    assert!(pair.sides[0].endpoint.cancel(to, transaction));
    assert!(!pair.sides[0].endpoint.cancel(to, transaction));
    let (peer, taken, _) = pair.sides[1].messages[0].clone();
    let now = pair.now;
    pair.sides[1].endpoint.reply(now, peer, taken, b"late".into()).unwrap();
    pair.drive_for(Duration::from_millis(50));
    assert_eq!(pair.sides[0].replies, []);
    assert_eq!(pair.sides[0].outcomes, [(transaction, 1, Outcome::Indeterminate)]);
    let (free, all) = pair.sides[1].endpoint.free_buffers();
    assert_eq!(free, all, "the reply is settled");
}

#[test]
fn message_that_expires_while_the_peer_is_silent_is_told_at_its_deadline() {
    // PROTOCOL 6.31
    let (mut pair, to) = Pair::connected();
    pair.loses = Box::new(|_| true);
    let deadline = pair.now + Duration::from_millis(3);
    let options = SendOptions::new(ServiceKind::ExactlyOnce).deadline(deadline);
    let now = pair.now;
    pair.sides[0].endpoint.send(now, to, &options, b"soon".into()).unwrap();
    pair.drive_for(Duration::from_millis(2));
    assert_eq!(pair.sides[0].outcomes, []);
    pair.drive_for(Duration::from_millis(2));
    assert_eq!(pair.sides[0].outcomes, [(0, 1, Outcome::Indeterminate)]);
}

#[test]
fn drained_session_closes_once_everything_is_told() {
    // PROTOCOL 6.35
    let (mut pair, to) = Pair::connected();
    for _ in 0..100 {
        pair.send(to, ServiceKind::ExactlyOnce, &[1; 1_000]);
    }
    let now = pair.now;
    pair.sides[0].endpoint.drain(now, to, now + Duration::from_secs(1));
    let maybe = ServiceKind::Maybe.into();
    let refused = pair.sides[0].endpoint.send(now, to, &maybe, b"more".into());
    assert_eq!(refused, Err(SendError::Closing));
    pair.drive_for(Duration::from_millis(200));
    assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 100);
    assert_eq!(pair.sides[0].changes.last(), Some(&SessionChange::Closed(CloseReason::ByUs)));
    assert_eq!(pair.sides[1].changes.last(), Some(&SessionChange::Closed(CloseReason::ByPeer)));
    assert_eq!(pair.sides[0].endpoint.session_count(), 0);
}

#[test]
fn drained_session_closes_at_its_deadline_and_says_what_is_open() {
    // PROTOCOL 6.35
    let (mut pair, to) = Pair::connected();
    pair.sides[1].replies_at_once = false;
    pair.send(to, ServiceKind::Request, b"never answered");
    let now = pair.now;
    pair.sides[0].endpoint.drain(now, to, now + Duration::from_millis(20));
    pair.drive_for(Duration::from_millis(15));
    assert_eq!(pair.sides[0].endpoint.session_count(), 1);
    pair.drive_for(Duration::from_millis(15));
    assert_eq!(pair.sides[0].outcomes, [(0, 1, Outcome::Indeterminate)]);
    assert_eq!(pair.sides[0].endpoint.session_count(), 0);
}

#[test]
fn drained_session_does_not_wait_for_what_its_application_keeps() {
    // PROTOCOL 6.35
    let (mut pair, to) = Pair::connected();
    pair.sides[1].replies_at_once = false;
    pair.send(to, ServiceKind::Request, b"do it");
    pair.drive_for(Duration::from_millis(5));
    let (peer, ..) = pair.sides[1].messages[0].clone();
    let now = pair.now;
    pair.sides[1].endpoint.drain(now, peer, now + Duration::from_secs(60));
    pair.drive_for(Duration::from_millis(50));
    assert_eq!(pair.sides[1].changes.last(), Some(&SessionChange::Closed(CloseReason::ByUs)));
}

#[test]
fn endpoint_that_drains_takes_no_new_sessions() {
    let (mut pair, _) = Pair::connected();
    let now = pair.now;
    pair.sides[0].endpoint.drain_all(now, now + Duration::from_secs(1));
    let (address, key) = (pair.sides[1].address, Identity::from_secret(&[9; 32]).public());
    let refused = pair.sides[0].endpoint.connect(now, address, key);
    assert_eq!(refused, Err(ConnectError::Closing));
    pair.drive_for(Duration::from_millis(10));
    assert!(pair.sides[0].endpoint.is_drained());
}

#[test]
fn key_of_a_message_is_its_own() {
    let (mut pair, to) = Pair::connected();
    for _ in 0..2 {
        pair.send(to, ServiceKind::ExactlyOnce, b"m");
    }
    pair.drive_for(Duration::from_millis(5));
    let peer = pair.sides[1].messages[0].0;
    let keys = [0, 1].map(|number| pair.sides[1].endpoint.message_key(peer, number).unwrap());
    assert_eq!(keys[0].sender, pair.sides[0].key);
    assert_ne!(keys[0], keys[1]);
    let sent = [0, 1].map(|number| pair.sides[0].endpoint.sent_key(to, number).unwrap());
    assert_eq!(sent, keys, "both sides know it by one name");
    assert_eq!(pair.sides[0].endpoint.sent_key(to, 2), None);
    pair.sides[0].endpoint.close(pair.now, to);
    assert_eq!(pair.sides[0].endpoint.sent_key(to, 1), None);
    let (mut pair, to) = pair.connect();
    pair.sides[1].messages.clear();
    pair.send(to, ServiceKind::ExactlyOnce, b"in the next association");
    pair.drive_for(Duration::from_millis(5));
    let peer = pair.sides[1].messages[0].0;
    let key = pair.sides[1].endpoint.message_key(peer, 0);
    assert_eq!((pair.sides[0].endpoint.sent_key(to, 0), key == Some(keys[0])), (key, false));
}

#[test]
fn flush_sends_what_lingers() {
    let lingers = |config: &mut EndpointConfig| config.linger = Duration::from_secs(1);
    let (mut pair, to) = Pair::with(lingers, |_| {}).connect();
    pair.send(to, ServiceKind::ExactlyOnce, b"waits");
    pair.drive_for(Duration::from_millis(5));
    assert_eq!(pair.sides[1].messages, []);
    assert_eq!(pair.sides[0].endpoint.flush(to), 1);
    pair.drive_for(Duration::from_millis(5));
    assert_eq!(pair.sides[1].messages.len(), 1);
    assert_eq!(pair.sides[0].endpoint.flush(to), 0);
}

#[test]
fn flush_counts_what_has_no_outcome_and_nothing_between() {
    let (mut pair, to) = Pair::with(|config| config.bundle = false, |_| {}).connect();
    let first = pair.sent + 1;
    pair.loses = Box::new(move |number| number == first);
    for _ in 0..10 {
        pair.send(to, ServiceKind::ExactlyOnce, b"m");
    }
    pair.turn();
    pair.now += pair.one_way.saturating_mul(2);
    pair.turn();
    pair.now += pair.one_way.saturating_mul(2);
    pair.turn();
    let delivered = pair.sides[0].outcome_count(Outcome::Delivered);
    assert!((1..10).contains(&delivered), "{delivered}");
    assert_eq!(pair.sides[0].endpoint.flush(to), 10 - delivered);
}

#[test]
fn reply_that_nobody_waits_for_is_taken_and_dropped_by_the_peer() {
    let (mut pair, peer) = Pair::connected();
    let transaction = pair.send(peer, ServiceKind::ExactlyOnce, b"no request");
    pair.drive();
    let back = pair.sides[1].messages[0].0;
    for _ in 0..2 {
        let endpoint = &mut pair.sides[1].endpoint;
        assert_eq!(endpoint.reply(pair.now, back, transaction, b"why".into()), Ok(()));
        pair.drive();
    }
    assert_eq!(pair.sides[0].replies, []);
    // Nobody's session or memory suffers.
    pair.send(peer, ServiceKind::Request, b"olleh");
    pair.drive();
    assert_eq!(pair.sides[0].replies, [(transaction + 1, b"hello".to_vec())]);
    let memory = pair.sides[1].endpoint.memory(back).unwrap();
    assert_eq!(memory.unconfirmed_replies, 0, "{memory:?}");
}
