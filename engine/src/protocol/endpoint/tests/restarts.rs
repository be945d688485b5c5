//! Processes that come back under another boot id.

use super::*;

/// The second side sends to the first, over a session that is open or that it opens.
fn send_back(pair: &mut Pair, service: ServiceKind, payload: &[u8]) -> u64 {
    let peer = pair.name_of_other(1);
    pair.drive();
    let sent = pair.sides[1].endpoint.send(pair.now, peer, &service.into(), payload.into());
    pair.drive();
    sent.unwrap()
}

fn restart_second(pair: &mut Pair, boot: u8) {
    pair.sides[1] = Side::new(2, |config| config.boot = BootId([boot; 16]));
}

// PROTOCOL 6.13
#[test]
fn answer_to_a_request_of_a_former_association_meets_nobody() {
    for end in ["a reply", "a failure", "a refusal", "a cancellation"] {
        let (mut pair, _) = Pair::connected();
        pair.sides[0].replies_at_once = false;
        send_back(&mut pair, ServiceKind::Request, b"of the first life");
        restart_second(&mut pair, 99);
        send_back(&mut pair, ServiceKind::Request, b"of the second life");
        let [(old, number, _), (new, again, _)] = pair.sides[0].messages[..] else {
            panic!("two requests came");
        };
        assert_eq!(number, again, "numbers begin anew");
        assert_ne!(old, new);
        let now = pair.now;
        let ours = pair.send(new, ServiceKind::Request, b"of ours");
        pair.sides[1].replies_at_once = false;
        let endpoint = &mut pair.sides[0].endpoint;
        match end {
            "a reply" => assert_eq!(
                endpoint.reply(now, old, number, b"late".into()),
                Err(SendError::NotConnected)
            ),
            "a failure" => assert!(!endpoint.fail(old, number)),
            "a refusal" => assert!(!endpoint.refuse_request(old, number, reason(7))),
            _ => assert!(!endpoint.cancel(old, ours)),
        }
        assert_eq!(endpoint.message_key(old, number), None);
        pair.drive();
        assert_eq!((&pair.sides[1].replies[..], &pair.sides[1].outcomes[..]), (&[][..], &[][..]));
        let now = pair.now;
        pair.sides[0].endpoint.reply(now, new, number, b"in time".into()).unwrap();
        pair.drive();
        assert_eq!(pair.sides[1].replies, [(again, b"in time".to_vec())], "{end}");
    }
}

// PROTOCOL 6.3 and 6.13
#[test]
fn peer_that_restarts_again_and_again_fills_no_more_than_three_windows() {
    let window = |config: &mut EndpointConfig| config.transactions = 64;
    let (mut pair, _) = Pair::with(window, |_| {}).connect();
    let fill = |pair: &mut Pair| {
        let peer = pair.name_of_other(1);
        pair.drive();
        let options = ServiceKind::ExactlyOnce.into();
        while pair.sides[1].endpoint.send(pair.now, peer, &options, b"unread".into()).is_ok() {}
        pair.drive();
    };
    let hold = |pair: &mut Pair| {
        let held: Vec<_> = pair.sides[0].messages.drain(..).map(|message| message.0).collect();
        held.iter().for_each(|&peer| pair.sides[0].endpoint.hold(peer, 1));
        held
    };
    let mut held = Vec::new();
    for life in 100..110 {
        restart_second(&mut pair, life);
        fill(&mut pair);
        held.extend(hold(&mut pair));
    }
    assert!((64..=3 * 64).contains(&held.len()), "{} messages are kept", held.len());
    let drops = &pair.sides[0].endpoint.counters().drops;
    assert!(drops.get(DropReason::ApplicationMemory) > 0);

    // Once the application read them, what waits comes.
    held.into_iter().for_each(|peer| pair.sides[0].endpoint.release(peer, 1));
    pair.drive_for(Duration::from_secs(5));
    assert_eq!(pair.sides[0].messages.len(), 64);
    assert_eq!(pair.sides[1].outcome_count(Outcome::Delivered), 64);
}

// PROTOCOL 6.13
#[test]
fn message_to_a_receiver_that_restarted_has_another_key() {
    let (mut pair, peer) = Pair::connected();
    let key = |pair: &Pair| {
        let from = pair.sides[1].messages.last().expect("it came").0;
        pair.sides[1].endpoint.message_key(from, 0).expect("the association goes on")
    };
    pair.send(peer, ServiceKind::ExactlyOnce, b"to the one before");
    pair.drive();
    let before = key(&pair);
    restart_second(&mut pair, 99);
    pair.name_of_other(1);
    pair.drive();
    let peer = pair.name_of_other(0);
    assert_eq!(pair.send(peer, ServiceKind::ExactlyOnce, b"to the one after"), 0);
    pair.drive();
    assert_ne!(key(&pair), before);
    assert_eq!(pair.sides[0].endpoint.sent_key(peer, 0), Some(key(&pair)));
}

// PROTOCOL 7.3
#[test]
fn peer_that_closes_is_forgotten_once_its_last_messages_were_handed_over() {
    let (mut pair, peer) = Pair::connected();
    pair.drive();
    let now = pair.now;
    pair.send(peer, ServiceKind::Maybe, b"last words");
    let endpoint = &mut pair.sides[0].endpoint;
    let mut leaves: Vec<_> = std::iter::from_fn(|| endpoint.poll_transmit(now)).collect();
    endpoint.close(now, peer);
    leaves.extend(std::iter::from_fn(|| endpoint.poll_transmit(now)));
    for transmit in &leaves {
        transmit.each().for_each(|datagram| pair.put_on_link(0, &datagram));
    }
    pair.drive();
    assert_eq!(pair.sides[1].messages.len(), 1);
    assert_eq!(pair.sides[1].endpoint.peers.len(), 0);
}

// PROTOCOL 6.35
#[test]
fn node_that_drains_does_not_wait_for_what_its_application_keeps() {
    let (mut pair, _) = Pair::connected();
    send_back(&mut pair, ServiceKind::ExactlyOnce, b"unread");
    let peer = pair.sides[0].messages[0].0;
    pair.sides[0].endpoint.hold(peer, 1);
    let deadline = pair.now + Duration::from_secs(1);
    pair.sides[0].endpoint.drain_all(pair.now, deadline);
    pair.drive_for(Duration::from_secs(2));
    assert!(pair.sides[0].endpoint.is_drained());
}

// PROTOCOL 6.13 and 6.35
#[test]
fn session_of_a_peer_that_restarted_is_not_drained_as_the_one_before() {
    for takes_sessions in [true, false] {
        let (mut pair, peer) = Pair::connected();
        pair.sides[1].defers = true; // So that the session is not settled.
        pair.send(peer, ServiceKind::ExactlyOnce, b"never done");
        pair.drive();
        let deadline = pair.now + Duration::from_secs(3_600);
        let (now, endpoint) = (pair.now, &mut pair.sides[0].endpoint);
        match takes_sessions {
            true => endpoint.drain(now, peer, deadline),
            false => endpoint.drain_all(now, deadline),
        }
        restart_second(&mut pair, 99);
        pair.drive_for(crate::limits::IDLE_TIMEOUT); // It asks, hears of the restart, and opens a session again.
        pair.drive_for(Duration::from_secs(5));
        let changes = &pair.sides[0].changes;
        let is_open = matches!(changes.last(), Some(SessionChange::Opened { .. }));
        assert_eq!(is_open, takes_sessions, "{changes:?}");
        assert_eq!(pair.sides[0].endpoint.is_drained(), !takes_sessions);
    }
}

// PROTOCOL 6.3
#[test]
fn peer_is_forgotten_once_nothing_of_it_is_kept() {
    let (mut pair, _) = Pair::connected();
    send_back(&mut pair, ServiceKind::ExactlyOnce, b"unread");
    let peer = pair.sides[0].messages[0].0;
    pair.sides[0].endpoint.hold(peer, 1);
    pair.sides[0].endpoint.close(pair.now, peer);
    pair.drive();
    assert_eq!(pair.sides[0].endpoint.peers.len(), 1);
    pair.sides[0].endpoint.release(peer, 1);
    pair.drive();
    assert_eq!(pair.sides[0].endpoint.peers.len(), 0);
    pair.sides[0].endpoint.hold(peer, 1);
    pair.sides[0].endpoint.release(peer, 1);
}

// PROTOCOL 6.30
#[test]
fn commit_of_a_former_association_is_none_of_the_next_one() {
    let (mut pair, _) = Pair::connected();
    pair.sides[0].defers = true;
    send_back(&mut pair, ServiceKind::ExactlyOnce, b"of the first life");
    assert_eq!(pair.sides[1].outcomes, [], "taken, and not done");
    restart_second(&mut pair, 99);
    let again = send_back(&mut pair, ServiceKind::ExactlyOnce, b"of the second life");
    let [old, new] = pair.sides[0].deferred[..] else { panic!("two were handed over") };
    assert_eq!((old.transaction, new.transaction), (again, again), "numbers begin anew");
    assert_ne!(old.peer, new.peer);

    assert!(!pair.sides[0].endpoint.commit(old));
    assert!(!pair.sides[0].endpoint.refuse_deferred(old, reason(7)));
    pair.drive();
    assert_eq!(pair.sides[1].outcomes, []);
    assert!(pair.sides[0].endpoint.commit(new));
    assert!(!pair.sides[0].endpoint.commit(new));
    assert!(!pair.sides[0].endpoint.refuse_deferred(new, reason(7)));
    pair.drive();
    assert_eq!(pair.sides[1].outcomes, [(again, 1, Outcome::Delivered)]);
}

// PROTOCOL 6.30
#[test]
fn deferred_message_can_be_refused_later() {
    let (mut pair, _) = Pair::connected();
    pair.sides[0].defers = true;
    let transaction = send_back(&mut pair, ServiceKind::ExactlyOnce, b"not wanted");
    let [deferred] = pair.sides[0].deferred[..] else { panic!("one was handed over") };
    assert!(pair.sides[0].endpoint.refuse_deferred(deferred, reason(7)));
    assert!(!pair.sides[0].endpoint.commit(deferred));
    pair.drive();
    assert_eq!(pair.sides[1].outcomes, [(transaction, 1, Outcome::Refused(7))]);
}

// PROTOCOL 6.35
#[test]
fn session_that_is_not_confirmed_does_not_outlive_a_drain() {
    let mut pair = Pair::new();
    pair.name_of_other(0);
    while pair.sides[1].endpoint.session_count() == 0 {
        pair.drive_for(Duration::from_micros(1));
    }
    let deadline = pair.now + Duration::from_secs(1);
    pair.sides[1].endpoint.drain_all(pair.now, deadline);
    pair.drive_for(Duration::from_secs(2));
    assert!(pair.sides[1].endpoint.is_drained());
}
