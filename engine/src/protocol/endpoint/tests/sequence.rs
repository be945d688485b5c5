//! Ordered streams between two endpoints: order, gaps, requests, bounds, independence.

use super::*;
use crate::limits::EARLY_PIECE_OVERHEAD;

const KINDS: [StreamKind; 4] = [
    StreamKind::Reliable,
    StreamKind::Lossy,
    StreamKind::ReliableOnRequest,
    StreamKind::LossyOnRequest,
];

fn send(pair: &mut Pair, peer: PeerId, kind: StreamKind, number: u8) -> Result<u64, SendError> {
    let options = SendOptions::new(ServiceKind::Sequence).stream(kind, number);
    pair.sides[0].endpoint.send(pair.now, peer, &options, [number].as_slice().into())
}

/// Places of one stream in the order in which they were delivered.
fn delivered(pair: &Pair, stream: Stream) -> Vec<u64> {
    let of_stream = pair.sides[1].ordered.iter().filter(|(known, _)| *known == stream);
    of_stream.flat_map(|(_, places)| places.clone()).collect()
}

// PROTOCOL 6.24 and 6.25
#[test]
fn reliable_streams_come_in_order_without_a_gap_whatever_is_lost() {
    for kind in [StreamKind::Reliable, StreamKind::ReliableOnRequest] {
        let (mut pair, peer) = Pair::connected();
        let start = pair.sent;
        pair.loses = Box::new(move |number| number > start && (number * 7 + 3) % 5 == 0);
        for round in 0..60_u8 {
            for number in 0..4 {
                send(&mut pair, peer, kind, number).unwrap();
            }
            if round % 3 == 0 {
                pair.drive_for(Duration::from_micros(70));
            }
        }
        pair.drive_for(Duration::from_secs(30));
        for number in 0..4 {
            let places = delivered(&pair, Stream { kind, number });
            assert_eq!(places, (0..60).collect::<Vec<_>>(), "{kind:?} {number}");
        }
        assert_eq!(pair.sides[1].gaps, [], "{kind:?}");
        assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 240, "{kind:?}");
    }
}

// PROTOCOL 2.25 and 6.27
#[test]
fn report_of_as_much_as_can_be_missing_is_understood() {
    let (mut pair, peer) = Pair::with(|config| config.bundle = false, |_| {}).connect();
    let burst = pair.sent + 1..pair.sent + 80;
    pair.loses = Box::new(move |number| burst.contains(&number) && number % 2 == 0);
    for number in 0..40 {
        let options = SendOptions::new(ServiceKind::Sequence)
            .stream(StreamKind::ReliableOnRequest, number % 20);
        let message = vec![number; if number < 20 { 2_000 } else { 10 }];
        pair.sides[0].endpoint.send(pair.now, peer, &options, (&message).into()).unwrap();
    }
    pair.drive_for(Duration::from_secs(5));
    for side in &pair.sides {
        assert_eq!(side.endpoint.counters().drops.get(DropReason::BodyMalformed), 0);
    }
    assert_eq!(pair.sides[1].messages.len(), 40);
    assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 40);
}

// PROTOCOL 6.25
#[test]
fn what_waits_for_its_turn_stays_within_the_grant_in_segments_too() {
    const GRANTED: u64 = 10_000;
    let (mut pair, peer) = Pair::with(|_| {}, |config| config.receive_bytes = GRANTED).connect();
    pair.send(peer, ServiceKind::ExactlyOnce, b"who is it");
    pair.drive();
    let receiver_of = pair.sides[1].messages[0].0;
    let options = SendOptions::new(ServiceKind::Sequence).stream(StreamKind::Lossy, 1);
    let send = |pair: &mut Pair, len: usize| {
        let message = vec![7; len];
        let sent = pair.sides[0].endpoint.send(pair.now, peer, &options, (&message).into());
        pair.drive_for(Duration::from_millis(1));
        sent.unwrap()
    };
    // The first one never arrives, and each of the others is taken back once it waits.
    pair.longest = 1_200;
    send(&mut pair, 1_220);
    for _ in 0..20 {
        let transaction = send(&mut pair, 2_000 - EARLY_PIECE_OVERHEAD);
        let memory = pair.sides[1].endpoint.memory(receiver_of).unwrap();
        assert!(memory.early <= GRANTED, "{memory:?}");
        assert!(pair.sides[0].endpoint.cancel(peer, transaction));
    }
    let memory = pair.sides[1].endpoint.memory(receiver_of).unwrap();
    assert_eq!(memory.early, GRANTED);
}

// PROTOCOL 6.25
#[test]
fn stalled_stream_delays_no_other() {
    let (mut pair, peer) = Pair::connected();
    send(&mut pair, peer, StreamKind::Reliable, 1).unwrap();
    // The first packet of stream 1 is lost, and with it nothing of stream 2.
    let next = pair.sent + 1;
    pair.loses = Box::new(move |number| number == next);
    pair.turn();
    for number in [1, 2, 1, 2] {
        send(&mut pair, peer, StreamKind::Reliable, number).unwrap();
    }
    pair.drive_for(ONE_WAY + Duration::from_micros(10));
    let stream = |number| Stream { kind: StreamKind::Reliable, number };
    assert!(delivered(&pair, stream(1)).is_empty());
    assert_eq!(delivered(&pair, stream(2)), [0, 1]);
    assert_eq!(pair.sides[0].outcomes, []);
    pair.drive();
    assert_eq!(delivered(&pair, stream(1)), [0, 1, 2]);
    assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 5);
}

// PROTOCOL 6.26
#[test]
fn lossy_stream_tells_its_gaps_in_order_and_goes_on() {
    for kind in [StreamKind::Lossy, StreamKind::LossyOnRequest] {
        let stream = Stream { kind, number: 9 };
        let (mut pair, peer) =
            Pair::with(|config| (config.tries, config.bundle) = (1, false), |_| {}).connect();
        send(&mut pair, peer, kind, 9).unwrap();
        pair.drive();
        let lost = pair.sent + 1;
        // Requests for it are lost, too: all that the receiver says, for longer than its patience.
        pair.loses = Box::new(move |number| number == lost);
        send(&mut pair, peer, kind, 9).unwrap();
        pair.turn();
        for _ in 0..3 {
            send(&mut pair, peer, kind, 9).unwrap();
        }
        pair.turn();
        if kind == StreamKind::LossyOnRequest {
            let silent = pair.sent + 1_000;
            pair.loses = Box::new(move |number| number < silent);
            pair.drive_for(Duration::from_micros(60));
        }
        pair.drive_for(Duration::from_millis(150));
        pair.loses = Box::new(|_| false);
        pair.drive_for(Duration::from_secs(5));
        assert_eq!(delivered(&pair, stream), [0, 2, 3, 4], "{kind:?}");
        assert_eq!(pair.sides[1].gaps, [(stream, 1..2)], "{kind:?}");
        assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 4, "{kind:?}");
        assert_eq!(pair.sides[0].endpoint.outstanding(peer), 0, "{kind:?}");
    }
}

// PROTOCOL 5.9 and 6.26
#[test]
fn lossy_stream_waits_long_enough_for_a_repair_over_a_long_path() {
    for kind in [StreamKind::Lossy, StreamKind::LossyOnRequest] {
        let mut pair = Pair::with(|config| config.bundle = false, |_| {});
        pair.one_way = Duration::from_millis(120);
        let peer = pair.name_of_other(0);
        pair.drive_for(Duration::from_secs(3));
        let lost = pair.sent + 1;
        pair.loses = Box::new(move |number| number == lost);
        for _ in 0..5 {
            send(&mut pair, peer, kind, 9).unwrap();
        }
        pair.drive_for(Duration::from_secs(5));
        assert_eq!(delivered(&pair, Stream { kind, number: 9 }), [0, 1, 2, 3, 4], "{kind:?}");
        assert_eq!(pair.sides[1].gaps, [], "{kind:?}");
    }
}

// PROTOCOL 6.25
#[test]
fn no_more_is_outstanding_in_a_stream_than_the_receiver_holds_back() {
    let (mut pair, peer) = Pair::connected();
    for _ in 0..crate::limits::ESCROW_MESSAGES_MAX {
        send(&mut pair, peer, StreamKind::Reliable, 0).unwrap();
    }
    let full = send(&mut pair, peer, StreamKind::Reliable, 0);
    assert_eq!(full, Err(SendError::Full(FullReason::Stream)));
    send(&mut pair, peer, StreamKind::Reliable, 1).unwrap();
    pair.drive();
    send(&mut pair, peer, StreamKind::Reliable, 0).unwrap();
}

// PROTOCOL 6.25
#[test]
fn stalled_streams_leave_bytes_for_others() {
    const GRANTED: u64 = 100_000;
    let (mut pair, peer) = Pair::with(|_| {}, |config| config.receive_bytes = GRANTED).connect();
    pair.drive();
    pair.loses = Box::new(|_| true); // All streams wait for what is missing, for good.
    let message = [7; 1_000];
    for number in 0..2 {
        let options = SendOptions::new(ServiceKind::Sequence).stream(StreamKind::Reliable, number);
        let refused = (0..GRANTED).find_map(|_| {
            pair.sides[0].endpoint.send(pair.now, peer, &options, (&message).into()).err()
        });
        assert_eq!(refused, Some(SendError::Full(FullReason::Stream)), "{number}");
    }
    // Two took four fifths and then four fifths of the rest.
    let others = SendOptions::new(ServiceKind::ExactlyOnce);
    let taken = (0..GRANTED).take_while(|_| {
        pair.sides[0].endpoint.send(pair.now, peer, &others, (&message).into()).is_ok()
    });
    assert_eq!(taken.count(), 4);
}

// PROTOCOL 6.27
#[test]
fn stream_on_request_is_not_sent_again_before_it_is_asked_for() {
    let (mut pair, peer) = Pair::connected();
    send(&mut pair, peer, StreamKind::ReliableOnRequest, 0).unwrap();
    let first = pair.sent + 1;
    pair.loses = Box::new(move |number| number == first);
    pair.drive_for(Duration::from_micros(20));
    assert_eq!(pair.sides[0].endpoint.counters().retransmissions, 0);
    pair.drive();
    assert_eq!(pair.sides[0].endpoint.counters().retransmissions, 1);
    assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 1);
}

// PROTOCOL 6.27
#[test]
fn stream_on_request_is_repaired_while_its_messages_go_on() {
    for kind in [StreamKind::ReliableOnRequest, StreamKind::LossyOnRequest] {
        let (mut pair, peer) = Pair::connected();
        let start = pair.sent;
        pair.loses = Box::new(move |number| number == start + 201);
        // Something is in flight at each moment.
        for _ in 0..500 {
            send(&mut pair, peer, kind, 0).unwrap();
            pair.drive_for(Duration::from_micros(10));
        }
        let places = delivered(&pair, Stream { kind, number: 0 });
        assert!(places.len() > 450, "{kind:?}: {}", places.len());
        assert_eq!(pair.sides[1].gaps, [], "{kind:?}");
    }
}

// PROTOCOL 6.24
#[test]
fn streams_of_all_kinds_live_side_by_side() {
    let (mut pair, peer) = Pair::connected();
    for _ in 0..10 {
        for kind in KINDS {
            send(&mut pair, peer, kind, 255).unwrap();
        }
    }
    pair.drive();
    for kind in KINDS {
        let places = delivered(&pair, Stream { kind, number: 255 });
        assert_eq!(places, (0..10).collect::<Vec<_>>());
    }
}

// PROTOCOL 6.27
#[test]
fn messages_that_never_arrive_do_not_keep_others_from_being_asked_for() {
    let (mut pair, peer) = Pair::connected();
    pair.longest = 1_200;
    let kind = StreamKind::ReliableOnRequest;
    // One packet, longer than the path carries against the operator's word.
    for _ in 0..20 {
        let options = SendOptions::new(ServiceKind::Sequence).stream(kind, 1);
        pair.sides[0].endpoint.send(pair.now, peer, &options, (&[7; 60]).into()).unwrap();
    }
    pair.turn();
    let next = pair.sent + 1;
    pair.loses = Box::new(move |number| number == next);
    send(&mut pair, peer, kind, 2).unwrap();
    pair.drive_for(Duration::from_secs(2));
    assert!(delivered(&pair, Stream { kind, number: 1 }).is_empty());
    assert_eq!(delivered(&pair, Stream { kind, number: 2 }), [0]);
}

// PROTOCOL 4.12
#[test]
fn message_that_waits_to_be_asked_for_leaves_under_another_key_when_it_is() {
    let (mut pair, peer) = Pair::connected();
    let next = pair.sent + 1;
    pair.loses = Box::new(move |number| number == next);
    send(&mut pair, peer, StreamKind::ReliableOnRequest, 1).unwrap();
    pair.turn();
    assert_eq!(pair.sent, next);
    let endpoint = &mut pair.sides[0].endpoint;
    let slot = endpoint.peers.find(peer.slot).unwrap().current.unwrap();
    endpoint.lives.find_mut(slot).unwrap().session.ratchet(pair.now);
    pair.drive();
    assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 1);
}
