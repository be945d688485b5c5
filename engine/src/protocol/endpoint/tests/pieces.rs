//! What a handler can do with a message that it takes piece by piece.

use super::segments::{bytes, lossy};
use super::*;

/// A pair whose second side takes all messages in segments by pieces.
fn pair() -> (Pair, PeerId) {
    with_mode(Mode::Sealed)
}

fn with_mode(mode: Mode) -> (Pair, PeerId) {
    let offer = |config: &mut EndpointConfig| {
        config.offer = Offer::new(&[Suite::Aes256Gcm], &[mode]);
    };
    let pieces = |config: &mut EndpointConfig| {
        offer(config);
        config.whole_len_max = 0;
    };
    Pair::with(offer, pieces).connect()
}

// PROTOCOL 6.21
#[test]
fn message_refused_at_a_piece_ends_as_refused_and_the_rest_does_not_leave() {
    for mode in [Mode::Sealed, Mode::Signed, Mode::Plain] {
        for service in [
            ServiceKind::MoreOrLessOnce,
            ServiceKind::AtMostOnce,
            ServiceKind::ExactlyOnce,
            ServiceKind::Request,
        ] {
            let (mut pair, peer) = with_mode(mode);
            pair.sides[1].refuses_from = 100_000;
            let before = pair.sides[0].endpoint.counters().packets_sent;
            pair.send(peer, service, &bytes(8 << 20));
            pair.send(peer, service, b"small");
            pair.drive();
            let what = format!("{mode:?}, {service:?}");
            let [sender, receiver] = &pair.sides;
            assert_eq!(sender.outcome_count(Outcome::Refused(7)), 1, "{what}");
            assert_eq!(sender.outcomes.iter().map(|outcome| outcome.1).sum::<u32>(), 2, "{what}");
            let packets = sender.endpoint.counters().packets_sent - before;
            assert!(packets < 1_000, "{what}: {packets} of 6200 packets left");
            // Nothing is handed over behind the piece at which it was refused.
            assert_eq!(receiver.pieces.1 * 1_300 / 100_000, 1, "{what}");
            assert_eq!((receiver.pieces.0.len(), receiver.abandoned), (0, 0), "{what}");
            assert_eq!(receiver.messages.len(), 1, "{what}: the other one comes");
            assert_eq!(receiver.endpoint.counters().messages_delivered, 1, "{what}");
            let memory = receiver.endpoint.memory(receiver.messages[0].0).unwrap();
            assert_eq!((memory.incomplete, memory.incomplete_ungranted), (0, 0), "{what}");
            assert!(matches!(sender.changes[..], [SessionChange::Opened { .. }]), "{what}");
        }
    }
}

// PROTOCOL 6.21
#[test]
fn message_of_any_length_can_be_refused_at_each_of_its_pieces() {
    for len in [5_000, 60_000, 300_000] {
        for from in [0, 1, len / 2, len - 1_300] {
            let (mut pair, peer) = pair();
            lossy(&mut pair, 11);
            pair.sides[1].refuses_from = from;
            let number = pair.send(peer, ServiceKind::ExactlyOnce, &bytes(len));
            pair.drive_for(Duration::from_secs(10));
            let outcome = (number, 1, Outcome::Refused(7));
            assert_eq!(pair.sides[0].outcomes, [outcome], "{len} bytes from {from}");
            assert_eq!(pair.sides[1].abandoned, 0);
            // The next one is another message.
            pair.sides[1].refuses_from = usize::MAX;
            pair.send(peer, ServiceKind::ExactlyOnce, &bytes(len));
            pair.drive_for(Duration::from_secs(10));
            assert_eq!(pair.sides[1].pieces.0, bytes(len));
            assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 1);
        }
    }
}

// PROTOCOL 6.21
#[test]
fn sender_of_a_level_without_reports_stops_when_it_is_refused() {
    for service in [ServiceKind::Maybe, ServiceKind::Repeat, ServiceKind::RepeatDedup] {
        for mode in [Mode::Sealed, Mode::Plain] {
            let (mut pair, peer) = with_mode(mode);
            pair.sides[1].refuses_from = 0;
            pair.send(peer, service, &bytes(8 << 20));
            pair.drive();
            let what = format!("{mode:?}, {service:?}");
            assert_eq!(pair.sides[0].outcome_count(Outcome::Indeterminate), 1, "{what}");
            assert!(pair.sides[0].endpoint.counters().packets_sent < 1_000, "{what}");
            assert_eq!(pair.sides[1].pieces.1, 1, "{what}");
            assert_eq!(pair.sides[1].abandoned, 0, "{what}");
            let (free, all) = pair.sides[0].endpoint.free_buffers();
            assert_eq!((free, pair.sides[0].endpoint.outstanding(peer)), (all, 0), "{what}");
        }
    }
}

// PROTOCOL 6.21
#[test]
fn message_that_was_refused_stays_so_when_it_is_cut_anew() {
    let auto = |config: &mut EndpointConfig| config.mtu = Mtu::Auto;
    let pieces = |config: &mut EndpointConfig| {
        config.mtu = Mtu::Auto;
        config.whole_len_max = 300_000;
    };
    let mut pair = Pair::with(auto, pieces);
    pair.longest = 9_000;
    let (mut pair, peer) = pair.connect();
    for _ in 0..20 {
        pair.send(peer, ServiceKind::ExactlyOnce, &bytes(200_000));
        pair.drive();
    }
    pair.send(peer, ServiceKind::ExactlyOnce, &bytes(4 << 20));
    pair.sides[1].refuses_from = 0;
    while pair.sides[1].pieces.1 == 0 {
        pair.drive_for(Duration::from_micros(10));
    }
    // Neither the refusal nor what follows gets through.
    pair.longest = 1_300;
    pair.link.clear();
    pair.drive_for(Duration::from_secs(10));
    assert_eq!(pair.sides[1].pieces.1, 1);
    assert_eq!(pair.sides[1].abandoned, 0);
    assert_eq!(pair.sides[0].outcome_count(Outcome::Refused(7)), 1);
    assert!(matches!(pair.sides[0].changes[..], [SessionChange::Opened { .. }]));
}

// PROTOCOL 6.34 and 6.21
#[test]
fn request_can_fail_at_a_piece() {
    let (mut pair, peer) = pair();
    pair.send(peer, ServiceKind::ExactlyOnce, b"small");
    pair.drive();
    let asker = pair.sides[1].messages[0].0;
    let number = pair.send(peer, ServiceKind::Request, &bytes(8 << 20));
    while pair.sides[1].pieces.1 == 0 {
        pair.drive_for(Duration::from_micros(10));
    }
    assert!(pair.sides[1].endpoint.fail(asker, number));
    assert!(!pair.sides[1].endpoint.fail(asker, number + 1), "nothing of it came");
    let handed = pair.sides[1].pieces.1;
    pair.drive();
    assert_eq!(pair.sides[1].pieces.1, handed);
    assert_eq!(pair.sides[0].outcomes[1..], [(number, 1, Outcome::HandlerFailed)]);
}

// PROTOCOL 6.30
#[test]
fn message_in_pieces_is_delivered_once_its_last_piece_is_committed() {
    let (mut pair, peer) = pair();
    lossy(&mut pair, 11);
    pair.sides[1].defers = true;
    let [first, second] = [0, 1].map(|_| {
        let number = pair.send(peer, ServiceKind::ExactlyOnce, &bytes(300_000));
        pair.drive_for(Duration::from_secs(10));
        assert_eq!(std::mem::take(&mut pair.sides[1].pieces.0), bytes(300_000));
        number
    });
    assert_eq!(pair.sides[0].outcomes, [], "nothing is committed yet");
    let &[one, two] = &pair.sides[1].deferred[..] else { panic!("two were deferred") };
    assert!(pair.sides[1].endpoint.commit(one));
    assert!(pair.sides[1].endpoint.refuse_deferred(two, reason(9)));
    pair.drive();
    // In the order of a report.
    let expected = [(second, 1, Outcome::Refused(9)), (first, 1, Outcome::Delivered)];
    assert_eq!(pair.sides[0].outcomes, expected);
}
