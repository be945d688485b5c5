//! Processes that come back under another boot id.

use super::*;

/// The second side sends to the first, over a session that is open or that it opens.
fn send_back(pair: &mut Pair, payload: &[u8]) -> u64 {
    let (address, key) = (pair.sides[0].address, pair.sides[0].key);
    let peer = pair.sides[1].endpoint.connect(pair.now, address, key).unwrap();
    pair.drive();
    let options = ServiceKind::ExactlyOnce.into();
    let sent = pair.sides[1].endpoint.send(pair.now, peer, &options, payload.into());
    pair.drive();
    sent.unwrap()
}

// PROTOCOL 6.30
#[test]
fn commit_of_a_former_association_is_none_of_the_next_one() {
    let (mut pair, _) = Pair::connected();
    pair.sides[0].defers = true;
    send_back(&mut pair, b"of the first life");
    assert_eq!(pair.sides[1].outcomes, [], "taken, and not done");
    pair.sides[1] = Side::new(2, |config| config.boot = BootId([99; 16]));
    let again = send_back(&mut pair, b"of the second life");
    let [old, new] = pair.sides[0].deferred[..] else { panic!("two were handed over") };
    assert_eq!((old.peer, old.transaction), (new.peer, again), "only the association differs");

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
    let transaction = send_back(&mut pair, b"not wanted");
    let [deferred] = pair.sides[0].deferred[..] else { panic!("one was handed over") };
    assert!(pair.sides[0].endpoint.refuse_deferred(deferred, reason(7)));
    assert!(!pair.sides[0].endpoint.commit(deferred));
    pair.drive();
    assert_eq!(pair.sides[1].outcomes, [(transaction, 1, Outcome::Refused(7))]);
}
