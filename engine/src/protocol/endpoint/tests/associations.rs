//! What two processes know of each other outlives sessions, and ends with a process.

use super::*;

// PROTOCOL 6.13
#[test]
fn restarted_peer_turns_what_is_in_flight_into_indeterminate() {
    let (mut pair, peer) = Pair::connected();
    pair.send(peer, ServiceKind::ExactlyOnce, b"before");
    pair.drive();
    // The responder restarts and opens a session itself.
    let changes = std::mem::take(&mut pair.sides[0].changes);
    assert_eq!(changes.len(), 1);
    pair.sides[1] = Side::new(2, |config| config.boot = BootId([99; 16]));
    pair.loses = Box::new(|_| true);
    pair.send(peer, ServiceKind::ExactlyOnce, b"into the void");
    pair.turn();
    pair.loses = Box::new(|_| false);
    pair.name_of_other(1);
    pair.drive();
    assert_eq!(pair.sides[0].outcome_count(Outcome::Indeterminate), 1);
    assert!(matches!(
        pair.sides[0].changes[..],
        [SessionChange::Closed(CloseReason::PeerRestarted), SessionChange::Opened { .. }]
    ));
    let peer = pair.name_of_other(0);
    pair.send(peer, ServiceKind::ExactlyOnce, b"after");
    pair.drive();
    assert_eq!(pair.sides[1].messages.last().unwrap().2, b"after");
}

// PROTOCOL 6.13
#[test]
fn peer_that_forgot_the_association_is_not_met_with_its_old_numbers() {
    let (mut pair, peer) = Pair::connected();
    for _ in 0..3 {
        pair.send(peer, ServiceKind::ExactlyOnce, b"before");
    }
    pair.drive();
    // The farewell is lost: only one side forgets.
    pair.loses = Box::new(|_| true);
    pair.sides[0].endpoint.close(pair.now, peer);
    pair.turn();
    pair.loses = Box::new(|_| false);
    let (mut pair, peer) = pair.connect();
    pair.sides[1].messages.clear();
    for _ in 0..2 {
        pair.send(peer, ServiceKind::ExactlyOnce, b"after");
    }
    pair.drive();
    assert_eq!(pair.sides[1].messages.len(), 2);
    assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 5);
}

// PROTOCOL 6.13
#[test]
fn side_that_remembers_does_not_send_again_to_one_that_forgot() {
    let (mut pair, peer) = Pair::connected();
    pair.loses = Box::new(|_| true);
    pair.send(peer, ServiceKind::ExactlyOnce, b"before");
    pair.turn();
    // The other side closes, its farewell is lost, and it opens a session itself.
    let [one, two] = &mut pair.sides;
    let other = two.endpoint.connect(pair.now, one.address, one.key).unwrap();
    two.endpoint.close(pair.now, other);
    pair.turn();
    pair.loses = Box::new(|_| false);
    let [one, two] = &mut pair.sides;
    two.endpoint.connect(pair.now, one.address, one.key).unwrap();
    pair.drive();
    assert_eq!(pair.sides[0].outcomes, [(0, 1, Outcome::Indeterminate)]);
    assert_eq!(pair.sides[1].messages.len(), 0);
}

#[test]
fn unit_in_the_kernels_hands_survives_a_change_of_sessions() {
    let (mut pair, peer) = Pair::connected();
    pair.drive_for(ASK_AGAIN_MIN);
    pair.send(peer, ServiceKind::ExactlyOnce, b"held");
    let held = pair.sides[0].endpoint.poll_transmit(pair.now).expect("a message to send");
    let slot = pair.sides[0].endpoint.peers.find(peer.slot).unwrap().current.unwrap();
    pair.sides[0].endpoint.renew(pair.now, slot);
    pair.drive();
    drop(held);
    pair.drive();
    assert_eq!(pair.sides[0].endpoint.counters().sessions_opened, 2);
    assert_eq!(pair.sides[1].messages.len(), 1);
    assert_eq!(pair.sides[0].outcomes, [(0, 1, Outcome::Delivered)]);
}

// PROTOCOL 6.14
#[test]
fn plain_unit_that_changed_sessions_is_not_looked_for_under_its_old_number() {
    let offer = |config: &mut EndpointConfig| {
        config.offer = Offer::new(&[Suite::Aes256Gcm], &[Mode::Plain]);
    };
    let (mut pair, peer) = Pair::with(offer, offer).connect();
    pair.drive_for(ASK_AGAIN_MIN);
    for _ in 0..20 {
        pair.send(peer, ServiceKind::ExactlyOnce, b"numbers");
        pair.drive_for(Duration::from_millis(1));
    }
    pair.loses = Box::new(|_| true);
    pair.send(peer, ServiceKind::ExactlyOnce, b"moves");
    pair.turn();
    pair.loses = Box::new(|_| false);
    let slot = pair.sides[0].endpoint.peers.find(peer.slot).unwrap().current.unwrap();
    pair.sides[0].endpoint.renew(pair.now, slot);
    pair.drive();
    assert_eq!(pair.sides[1].messages.len(), 21);
    assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 21);
}
