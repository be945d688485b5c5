//! Marks that the peer counted, and what they do to the window.

use super::*;

/// Acknowledges `numbers`, with the counts of marks that a peer would tell.
fn ack_marked(fixture: &mut Fixture, now: Instant, numbers: &[u64], ect0: u64, ce: u64) -> u64 {
    let mut received = ReceivedPackets::new(DELAY_MAX);
    numbers.iter().for_each(|&at| received.on_received(now, at, Ecn::NotEct, true, false));
    let ranges: Vec<_> = received.ranges().map(Ok).collect();
    let marks = Some(EcnCounts { lane: 0, ect0, ect1: 0, ce });
    let (acked, lost) = (&mut fixture.acked, &mut fixture.lost);
    fixture
        .recovery
        .on_ack(now, ranges.into_iter(), Duration::ZERO, marks, acked, lost)
        .expect("an honest acknowledgement");
    fixture.window()
}

// PROTOCOL 5.26, 5.29
#[test]
fn marks_of_one_round_cut_the_window_once_and_those_of_the_next_again() {
    let mut fixture = Fixture::new();
    let test = fixture.burst(at(0), 10);
    ack_marked(&mut fixture, at(40), &test, 10, 0);
    assert!(fixture.recovery.statistics().is_ecn_capable);

    let sent = fixture.burst(at(50), 10);
    let before = fixture.window();
    let cut = ack_marked(&mut fixture, at(90), &sent[..3], 12, 1);
    assert_eq!(cut, before * 7 / 10);
    assert_eq!(ack_marked(&mut fixture, at(91), &sent[..6], 14, 2), cut, "the same round");
    ack_marked(&mut fixture, at(92), &sent[8..], 16, 2);
    assert_eq!(fixture.lost, [sent[6]]);
    assert_eq!(fixture.recovery.statistics().cuts, 1, "a loss in it costs nothing more");

    let next = fixture.burst(at(100), 4);
    let again = ack_marked(&mut fixture, at(140), &next, 19, 3);
    assert!(again < cut);
    assert_eq!(fixture.recovery.statistics().cuts, 2);
}

// PROTOCOL 5.29
#[test]
fn cut_for_a_mark_is_not_undone_when_the_losses_beside_it_turn_out_to_be_none() {
    let mut fixture = Fixture::new();
    let test = fixture.burst(at(0), 10);
    ack_marked(&mut fixture, at(40), &test, 10, 0);
    let sent = fixture.burst(at(50), 10);
    let cut = ack_marked(&mut fixture, at(90), &sent[5..], 14, 1);
    assert_eq!(fixture.lost.len(), 5);
    let late = ack_marked(&mut fixture, at(92), &sent, 19, 1);
    assert_eq!(fixture.recovery.statistics().packets_spurious, 5);
    assert!(late < cut * 11 / 10, "{late} after {cut}");
}

// PROTOCOL 5.27
#[test]
fn acknowledgement_that_arrives_out_of_order_contradicts_nothing() {
    let mut fixture = Fixture::new();
    let test = fixture.burst(at(0), 10);
    ack_marked(&mut fixture, at(40), &test[5..], 5, 0);
    ack_marked(&mut fixture, at(41), &test[..5], 3, 0);
    ack_marked(&mut fixture, at(42), &test, 10, 0);
    assert!(fixture.recovery.statistics().is_ecn_capable);
}
