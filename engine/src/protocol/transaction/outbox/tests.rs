//! The sending half by itself: tries, reports, replies, outcomes.

use std::ops::Range;

use proptest::prelude::*;

use super::super::options::Overflow;
use super::*;
use crate::limits::ASSEMBLY_PATIENCE;
use crate::protocol::drop_reason::DropReason;
use crate::protocol::transaction::StreamKind;

const NOW: Instant = Instant::from_nanos(1_000);
const ROUND_TRIP: Duration = Duration::from_millis(1);
const ROOM: usize = 1_000;
/// Enough for a window of 64 with a peer's share.
const BUFFERS: usize = 80;

/// Sends all that is due: numbers and body of each packet.
pub(super) fn packets(outbox: &mut Outbox) -> Vec<(Range<u64>, u64, Vec<u8>)> {
    let mut packets = Vec::new();
    while let Some(id) = outbox.next(NOW, Priority::Bulk) {
        let unit = outbox.unit(id).unwrap();
        let mut body = vec![0; unit.packet_body_len(0)];
        unit.write_body(0, &mut body);
        packets.push((unit.transactions(), unit.order(), body));
        outbox.on_sent(NOW, id, packets.len() as u64, ROUND_TRIP);
    }
    packets
}

/// How each message ended of which that was not told yet.
pub(super) fn endings(outbox: &mut Outbox) -> Vec<(u64, Outcome)> {
    let runs = std::iter::from_fn(|| outbox.poll_outcome());
    let one_by_one = |run: Resolved| {
        (run.first..run.first + u64::from(run.count)).map(move |at| (at, run.outcome))
    };
    runs.flat_map(one_by_one).collect()
}

struct Fixture {
    outbox: Outbox,
    pool: Pool,
    next_packet: u64,
}

impl Fixture {
    fn new(bundle: bool) -> Self {
        let config = OutboxConfig { window: 64, tries: 3, linger: Duration::ZERO, bundle };
        Self {
            outbox: Outbox::new(config, 64, 10_000),
            pool: Pool::new(u32::try_from(BUFFERS).unwrap(), ROOM).unwrap(),
            next_packet: 0,
        }
    }

    fn push(&mut self, service: ServiceKind, message: &[u8]) -> Result<u64, PushError> {
        self.outbox.push(NOW, &self.pool, &service.into(), message.into(), ROOM)
    }

    /// Sends the unit that is due, if any.
    fn send(&mut self, now: Instant) -> Option<(UnitId, u8)> {
        let id = self.outbox.next(now, Priority::Bulk)?;
        self.next_packet += 1;
        Some((id, self.outbox.on_sent(now, id, self.next_packet, ROUND_TRIP)))
    }

    /// Sends every segment that is due.
    fn send_segments(&mut self) -> Vec<u32> {
        let mut left = Vec::new();
        while let Some(id) = self.outbox.next(NOW, Priority::Bulk) {
            let (segment, _) = self.outbox.unit(id).unwrap().packet_due().unwrap();
            self.outbox.on_segment_sent(NOW, id, segment, ROUND_TRIP);
            left.push(segment);
        }
        left
    }

    fn outcomes(&mut self) -> Vec<(u64, u32, Outcome)> {
        std::iter::from_fn(|| self.outbox.poll_outcome())
            .map(|resolved| (resolved.first, resolved.count, resolved.outcome))
            .collect()
    }
}

#[test]
fn messages_of_one_level_share_a_unit_and_another_level_begins_the_next() {
    // PROTOCOL 6.2
    let mut fixture = Fixture::new(true);
    for service in [ServiceKind::ExactlyOnce, ServiceKind::ExactlyOnce, ServiceKind::Maybe] {
        fixture.push(service, b"m").unwrap();
    }
    let (first, _) = fixture.send(NOW).unwrap();
    assert_eq!(fixture.outbox.unit(first).unwrap().transactions(), 0..2);
    let second = fixture.outbox.next(NOW, Priority::Bulk).unwrap();
    assert_eq!(fixture.outbox.unit(second).unwrap().transactions(), 2..3);
}

#[test]
fn bundle_is_no_longer_than_what_the_peer_reserves() {
    // PROTOCOL 6.16
    let mut fixture = Fixture::new(true);
    fixture.outbox.bytes_max = 40;
    for _ in 0..10 {
        fixture.push(ServiceKind::ExactlyOnce, b"four").unwrap();
    }
    assert_eq!(fixture.push(ServiceKind::ExactlyOnce, b"four"), Err(PushError::NoBytes));
    for transactions in [0..8, 8..10] {
        let (id, _) = fixture.send(NOW).unwrap();
        let unit = fixture.outbox.unit(id).unwrap();
        assert_eq!(unit.transactions(), transactions);
        assert!(unit.body().len() <= 40);
    }
}

#[test]
fn peer_that_reserves_less_than_an_order_index_takes_short_messages_of_a_stream() {
    let mut fixture = Fixture::new(true);
    fixture.outbox.bytes_max = 6;
    let options = SendOptions::new(ServiceKind::Sequence);
    let Fixture { outbox, pool, .. } = &mut fixture;
    outbox.push(NOW, pool, &options, b"one".into(), ROOM).unwrap();
    assert_eq!(outbox.append(&options, 2, |place| place.fill(7)), None);
    let (id, _) = fixture.send(NOW).unwrap();
    assert_eq!(fixture.outbox.unit(id).unwrap().transactions(), 0..1);
}

#[test]
fn reply_that_nobody_waits_for_does_not_leave() {
    // PROTOCOL 6.11
    let mut fixture = Fixture::new(false);
    for transaction in [0, 1, 9, 2] {
        let Fixture { outbox, pool, .. } = &mut fixture;
        outbox.push_reply(NOW, pool, transaction, b"reply".into(), ROOM).unwrap();
    }
    let (first, tries) = fixture.send(NOW).unwrap();
    assert!(fixture.outbox.on_packet_lost(first, (0, 1), tries));
    // One was lost, one never left, one is wanted, one stands behind it.
    fixture.outbox.on_peer_low_water(3);
    let (wanted, _) = fixture.send(NOW).unwrap();
    assert_eq!(fixture.outbox.unit(wanted).unwrap().transactions(), 9..10);
    assert!(fixture.send(NOW).is_none());
    fixture.outbox.on_packet_acked(wanted, (0, 1));
    assert_eq!(fixture.pool.available(), BUFFERS);
}

#[test]
fn lone_message_travels_without_framing() {
    let mut fixture = Fixture::new(true);
    fixture.push(ServiceKind::ExactlyOnce, b"alone").unwrap();
    let id = fixture.outbox.next(NOW, Priority::Bulk).unwrap();
    let unit = fixture.outbox.unit(id).unwrap();
    let mut body = vec![0; unit.packet_body_len(0)];
    unit.write_body(0, &mut body);
    assert_eq!(body, b"alone");
}

#[test]
fn lost_try_leads_to_another_and_old_news_is_ignored() {
    // PROTOCOL 6.9
    let mut fixture = Fixture::new(true);
    fixture.push(ServiceKind::ExactlyOnce, b"m").unwrap();
    let (id, first) = fixture.send(NOW).unwrap();
    assert!(fixture.outbox.on_packet_lost(id, (0, 1), first));
    let (again, second) = fixture.send(NOW).unwrap();
    assert_eq!((again, second), (id, 2));
    assert!(!fixture.outbox.on_packet_lost(id, (0, 1), first));
    assert!(fixture.send(NOW).is_none());
}

#[test]
fn finite_retry_ends_as_indeterminate() {
    // PROTOCOL 6.9 and 6.10
    let mut fixture = Fixture::new(true);
    fixture.push(ServiceKind::AtMostOnce, b"m").unwrap();
    for _ in 0..3 {
        let (id, tries) = fixture.send(NOW).unwrap();
        fixture.outbox.on_packet_lost(id, (0, 1), tries);
    }
    assert!(fixture.send(NOW).is_none());
    assert_eq!(fixture.outcomes(), [(0, 1, Outcome::Indeterminate)]);
    assert_eq!(fixture.pool.available(), BUFFERS);
}

#[test]
fn copies_are_a_round_trip_apart_whatever_is_lost() {
    // PROTOCOL 6.9
    let mut fixture = Fixture::new(true);
    fixture.push(ServiceKind::Repeat, b"m").unwrap();
    let mut now = NOW;
    for copy in 1..=3 {
        let (id, tries) = fixture.send(now).unwrap();
        assert_eq!(tries, copy);
        assert!(!fixture.outbox.on_packet_lost(id, (0, 1), tries));
        assert!(fixture.send(now).is_none(), "not before a round trip");
        now += ROUND_TRIP;
    }
    assert!(fixture.send(now).is_none());
    assert_eq!(fixture.outcomes(), [(0, 1, Outcome::Sent)]);
}

#[test]
fn copies_that_are_due_wake_nobody_who_cannot_send_what_is_ready() {
    let mut fixture = Fixture::new(false);
    fixture.push(ServiceKind::Repeat, b"m").unwrap();
    fixture.send(NOW).unwrap();
    assert_eq!(fixture.outbox.next_timeout(NOW), Some(NOW + ROUND_TRIP));
    fixture.push(ServiceKind::Maybe, b"ready").unwrap();
    assert_eq!(fixture.outbox.next_timeout(NOW), None);
}

#[test]
fn replies_are_awaited_behind_messages_that_have_none() {
    let mut fixture = Fixture::new(true);
    for service in [ServiceKind::ExactlyOnce, ServiceKind::Request, ServiceKind::AtMostOnce] {
        (0..3).for_each(|_| assert!(fixture.push(service, b"m").is_ok()));
        fixture.send(NOW).unwrap();
    }
    fixture.outbox.on_done(1..2).unwrap();
    for request in 3..=6 {
        for (start, end) in (0..9).flat_map(|start| (start..12).map(move |end| (start, end))) {
            let expected = start < end.min(6) && request.max(start) < end.min(6);
            assert_eq!(fixture.outbox.awaits_replies(start..end), expected, "{start}..{end}");
        }
        assert_eq!(fixture.outbox.on_reply(request), request < 6);
    }
}

#[test]
fn request_ends_with_its_first_reply_and_no_sooner() {
    // PROTOCOL 6.6 and 6.11
    let mut fixture = Fixture::new(true);
    fixture.push(ServiceKind::Request, b"a").unwrap();
    fixture.push(ServiceKind::Request, b"b").unwrap();
    fixture.send(NOW).unwrap();
    fixture.outbox.on_done(0..2).unwrap();
    assert_eq!(fixture.pool.available(), BUFFERS, "what was accepted need not be kept");
    assert_eq!(fixture.outcomes(), []);
    assert!(fixture.outbox.on_reply(1) && !fixture.outbox.on_reply(1));
    assert!(!fixture.outbox.on_reply(2), "never asked");
    assert!(fixture.outbox.on_reply(0));
    assert_eq!(fixture.outcomes(), [(1, 1, Outcome::Replied), (0, 1, Outcome::Replied)]);
}

#[test]
fn report_on_what_was_never_sent_is_a_violation() {
    let mut fixture = Fixture::new(true);
    fixture.push(ServiceKind::ExactlyOnce, b"m").unwrap();
    assert_eq!(fixture.outbox.on_done(0..1), Err(DropReason::AckInvalid));
    assert_eq!(fixture.outbox.on_accepted(0..1), Err(DropReason::AckInvalid));
    assert_eq!(fixture.outbox.on_done(0..2), Err(DropReason::AckInvalid));
    assert_eq!(fixture.outbox.on_refused(7..8, 1), Err(DropReason::AckInvalid));
    assert_eq!(fixture.outcomes(), []);
}

#[test]
fn each_bound_says_which_it_is() {
    // PROTOCOL 6.3
    let mut fixture = Fixture::new(false);
    let large = [0; ROOM];
    let beyond = fixture.push(ServiceKind::ExactlyOnce, &[0; 10_001]);
    assert_eq!(beyond, Err(PushError::TooLarge { max: 10_000 }));
    while fixture.push(ServiceKind::ExactlyOnce, &large[..900]).is_ok() {}
    assert_eq!(fixture.push(ServiceKind::ExactlyOnce, &large[..900]), Err(PushError::NoBytes));
    while fixture.push(ServiceKind::Maybe, b"").is_ok() {}
    assert_eq!(fixture.push(ServiceKind::Maybe, b""), Err(PushError::NoTransaction));
    fixture.outbox.on_credit(1_000, 10_000);
    assert_eq!(
        fixture.push(ServiceKind::Maybe, b""),
        Err(PushError::NoTransaction),
        "the window is ours, too"
    );
}

#[test]
fn abandoned_sends_tell_what_left_from_what_did_not() {
    // PROTOCOL 6.10
    let mut fixture = Fixture::new(false);
    fixture.push(ServiceKind::ExactlyOnce, b"left").unwrap();
    fixture.push(ServiceKind::ExactlyOnce, b"stayed").unwrap();
    fixture.send(NOW).unwrap();
    fixture.outbox.abandon();
    let expected = [(0, 1, Outcome::Indeterminate), (1, 1, Outcome::NotSent)];
    assert_eq!(fixture.outcomes(), expected);
    assert_eq!(fixture.pool.available(), BUFFERS);
}

proptest! {
    #[test]
    fn every_message_taken_ends_in_exactly_one_outcome(
        steps in prop::collection::vec((0u8..8, 0u64..80, 1u64..20), 1..300),
        bundle in any::<bool>(),
    ) {
        const LEVELS: [ServiceKind; 7] = [
            ServiceKind::Maybe,
            ServiceKind::Repeat,
            ServiceKind::RepeatDedup,
            ServiceKind::MoreOrLessOnce,
            ServiceKind::AtMostOnce,
            ServiceKind::ExactlyOnce,
            ServiceKind::Request,
        ];
        let mut fixture = Fixture::new(bundle);
        let (mut now, mut taken) = (NOW, 0);
        let mut sent = Vec::new();
        let mut seen = std::collections::BTreeMap::new();
        for (step, number, count) in steps {
            let level = LEVELS[usize::try_from(number).unwrap() % LEVELS.len()];
            match step {
                0..=2 => taken += u64::from(fixture.push(level, b"message").is_ok()),
                3 | 4 => sent.extend(fixture.send(now)),
                5 if !sent.is_empty() => {
                    let index = usize::try_from(number).unwrap() % sent.len();
                    let (id, tries) = sent.swap_remove(index);
                    fixture.outbox.on_packet_lost(id, (0, 1), tries);
                }
                5 => now += ROUND_TRIP,
                6 => { let _ = fixture.outbox.on_done(number..number + count); }
                _ => { fixture.outbox.on_reply(number); }
            }
            for (first, count, outcome) in fixture.outcomes() {
                for transaction in first..first + u64::from(count) {
                    prop_assert!(seen.insert(transaction, outcome).is_none());
                }
            }
        }
        fixture.outbox.abandon();
        for (first, count, outcome) in fixture.outcomes() {
            for transaction in first..first + u64::from(count) {
                prop_assert!(seen.insert(transaction, outcome).is_none());
            }
        }
        prop_assert_eq!(seen.len() as u64, taken);
        prop_assert_eq!(fixture.pool.available(), fixture.pool.capacity());
        prop_assert_eq!(fixture.outbox.outstanding(), 0);
    }
}

#[test]
fn message_past_its_deadline_does_not_leave_and_was_not_sent() {
    let mut fixture = Fixture::new(true);
    let options = SendOptions::new(ServiceKind::ExactlyOnce).deadline(NOW + ROUND_TRIP);
    fixture.outbox.push(NOW, &fixture.pool, &options, b"m".into(), ROOM).unwrap();
    assert!(fixture.send(NOW + ROUND_TRIP).is_none());
    assert_eq!(fixture.outcomes(), [(0, 1, Outcome::NotSent)]);
}

#[test]
fn reliable_stream_knows_no_deadline() {
    // PROTOCOL 6.24
    for (kind, leaves) in [
        (StreamKind::Reliable, true),
        (StreamKind::Lossy, false),
        (StreamKind::ReliableOnRequest, true),
        (StreamKind::LossyOnRequest, false),
    ] {
        let mut fixture = Fixture::new(true);
        let options = SendOptions::new(ServiceKind::Sequence).stream(kind, 0).deadline(NOW);
        fixture.outbox.push(NOW, &fixture.pool, &options, b"m".into(), ROOM).unwrap();
        assert_eq!(fixture.send(NOW).is_some(), leaves, "{kind:?}");
    }
}

#[test]
fn segments_that_the_receiver_says_it_has_do_not_leave_again() {
    // PROTOCOL 6.14 and 6.27
    let mut fixture = Fixture::new(true);
    fixture.outbox.on_credit(64, 1 << 20);
    let options = SendOptions::new(ServiceKind::Sequence).stream(StreamKind::LossyOnRequest, 0);
    fixture.outbox.push(NOW, &fixture.pool, &options, (&vec![7; 5_000]).into(), ROOM).unwrap();
    let count = u32::try_from(fixture.send_segments().len()).unwrap();
    let message = (Direction::Own, 0);
    let later = NOW + ROUND_TRIP;
    fixture.outbox.on_missing(later, message, (count, 4), std::iter::once(1..=2), ROUND_TRIP);
    assert_eq!(fixture.send_segments(), [1, 2]);
    fixture.outbox.on_missing(later, message, (count, 4), std::iter::empty(), ROUND_TRIP);
    assert_eq!(fixture.send_segments(), (4..count).collect::<Vec<_>>(), "what was not spoken of");
    fixture.outbox.on_missing(later, message, (count, count), std::iter::empty(), ROUND_TRIP);
    assert!(fixture.send_segments().is_empty());
    assert!(fixture.outbox.awaits_report());
}

#[test]
fn news_of_segments_says_nothing_of_those_that_took_their_place() {
    // PROTOCOL 6.17
    let mut fixture = Fixture::new(true);
    let options = SendOptions::new(ServiceKind::Sequence).stream(StreamKind::LossyOnRequest, 0);
    fixture.outbox.push(NOW, &fixture.pool, &options, (&vec![7; 5_000]).into(), ROOM).unwrap();
    let before = u32::try_from(fixture.send_segments().len()).unwrap();
    let message = (Direction::Own, 0);
    let id = fixture.outbox.find_transaction(message.0, message.1).unwrap();
    fixture.outbox.refit(id, ROOM / 2);
    let count = u32::try_from(fixture.send_segments().len()).unwrap();
    assert!(count > before);
    for segment in 0..before {
        fixture.outbox.on_packet_acked(id, (segment, before));
    }
    let spoken_of = (before, before);
    let later = NOW + ROUND_TRIP;
    fixture.outbox.on_missing(later, message, spoken_of, std::iter::empty(), ROUND_TRIP);
    assert_eq!(fixture.send_segments(), (0..count).collect::<Vec<_>>(), "none of them arrived");
    for segment in 0..count {
        assert!(!fixture.outbox.awaits_report());
        fixture.outbox.on_packet_acked(id, (segment, count));
    }
    assert!(fixture.outbox.awaits_report());
}

#[test]
fn report_on_a_message_that_was_cut_anew_and_left_before_is_honest() {
    // PROTOCOL 6.6, 6.17
    for is_done in [true, false] {
        for len in [500, 5_000] {
            let mut fixture = Fixture::new(true);
            fixture.push(ServiceKind::ExactlyOnce, &vec![7; len]).unwrap();
            let id = if len < ROOM {
                fixture.send(NOW).unwrap().0
            } else {
                fixture.send_segments();
                fixture.outbox.find_transaction(Direction::Own, 0).unwrap()
            };
            fixture.outbox.refit(id, ROOM / 4);
            assert_eq!(fixture.outbox.next(NOW, Priority::Bulk), Some(id));
            fixture.outbox.on_segment_sent(NOW, id, 0, ROUND_TRIP);
            if is_done {
                assert_eq!(fixture.outbox.on_done(0..1), Ok(()));
                assert_eq!(fixture.outcomes(), [(0, 1, Outcome::Delivered)]);
            } else {
                assert_eq!(fixture.outbox.on_accepted(0..1), Ok(()));
                assert_eq!(fixture.outbox.next(NOW, Priority::Bulk), None);
            }
        }
    }
    let mut fixture = Fixture::new(true);
    fixture.push(ServiceKind::ExactlyOnce, &vec![7; 5_000]).unwrap();
    let id = fixture.outbox.next(NOW, Priority::Bulk).unwrap();
    fixture.outbox.on_segment_sent(NOW, id, 0, ROUND_TRIP);
    fixture.outbox.refit(id, ROOM / 2);
    assert_eq!(fixture.outbox.on_done(0..1), Err(DropReason::AckInvalid), "some of it never left");
}

#[test]
fn one_peer_leaves_buffers_to_the_others() {
    let (mut fixture, mut other) = (Fixture::new(false), Fixture::new(false));
    fixture.pool = Pool::new(40, ROOM).unwrap();
    other.pool = fixture.pool.clone();
    let fill = |fixture: &mut Fixture| {
        let mut pushes = 0;
        while fixture.push(ServiceKind::ExactlyOnce, b"m").is_ok() {
            pushes += 1;
        }
        assert_eq!(fixture.push(ServiceKind::ExactlyOnce, b"m"), Err(PushError::NoBuffer));
        pushes
    };
    let most = 40 * BUFFERS_HELD_SHARE / (BUFFERS_HELD_SHARE + 1) + 1;
    assert_eq!(fill(&mut fixture), most);
    assert!(fill(&mut other) > 0);
    // What ended holds none.
    while fixture.send(NOW).is_some() {}
    fixture.outbox.on_done(0..most as u64).unwrap();
    assert_eq!(fixture.outbox.buffers, 0);
    assert_eq!(fixture.pool.available(), 40 - other.outbox.buffers);
}

#[test]
fn copies_leave_whatever_the_receiver_says_it_has() {
    let mut fixture = Fixture::new(true);
    fixture.push(ServiceKind::Repeat, &[7; 2_000]).unwrap();
    let mut left = 0;
    let mut now = NOW;
    while fixture.outcomes().is_empty() {
        while let Some(id) = fixture.outbox.next(now, Priority::Bulk) {
            let (segment, count) = fixture.outbox.unit(id).unwrap().packet_due().unwrap();
            fixture.outbox.on_segment_sent(now, id, segment, ROUND_TRIP);
            let message = (Direction::Own, 0);
            fixture.outbox.on_missing(now, message, (count, count), std::iter::empty(), ROUND_TRIP);
            left += 1;
        }
        now += ROUND_TRIP;
        assert!(left < 100);
    }
    assert_eq!(left, 3 * 3, "three copies of three segments");
}

#[test]
fn message_that_is_granted_nothing_is_given_up_unless_it_is_sent_again_for_ever() {
    // PROTOCOL 6.19
    let cases = [(ServiceKind::Maybe, true), (ServiceKind::ExactlyOnce, false)];
    for (service, is_given_up) in cases {
        let mut fixture = Fixture::new(true);
        fixture.outbox.on_credit(64, 1 << 20);
        fixture.push(service, &[7; 200_000]).unwrap();
        let mut left = 0;
        while let Some(id) = fixture.outbox.next(NOW, Priority::Bulk) {
            let (segment, _) = fixture.outbox.unit(id).unwrap().packet_due().unwrap();
            fixture.outbox.on_segment_sent(NOW, id, segment, ROUND_TRIP);
            left += 1;
        }
        assert!((1..200).contains(&left), "{left} of 200 segments may leave at once");
        let patience_ends = fixture.outbox.next_timeout(NOW);
        assert_eq!(patience_ends, is_given_up.then_some(NOW + ASSEMBLY_PATIENCE));
        assert!(fixture.outbox.next(NOW + ASSEMBLY_PATIENCE, Priority::Bulk).is_none());
        let given_up = [(0, 1, Outcome::Indeterminate)];
        assert_eq!(fixture.outcomes(), if is_given_up { &given_up[..] } else { &[] });
    }
}

#[test]
fn replies_outstanding_are_bounded_by_the_bytes_that_the_requester_reserves() {
    // PROTOCOL 6.11
    let mut fixture = Fixture::new(false);
    let reply = |fixture: &mut Fixture, transaction, len| {
        let Fixture { outbox, pool, .. } = fixture;
        outbox.push_reply(NOW, pool, transaction, (&vec![7; len]).into(), ROOM)
    };
    assert_eq!(reply(&mut fixture, 0, 900), Ok(()));
    assert_eq!(reply(&mut fixture, 1, 9_101), Err(PushError::NoBytes));
    assert_eq!(reply(&mut fixture, 1, 900), Ok(()));
    fixture.send(NOW).unwrap();
    fixture.outbox.on_peer_low_water(2);
    assert_eq!(reply(&mut fixture, 2, 10_000), Ok(()));
    assert_eq!(reply(&mut fixture, 3, 1), Err(PushError::NoBytes));
    fixture.outbox.abandon();
    assert_eq!(reply(&mut fixture, 0, 10_000), Ok(()));
}

#[test]
fn report_on_what_is_accepted_or_done_is_not_awaited_any_more() {
    // PROTOCOL 6.6 and 6.30
    let mut fixture = Fixture::new(true);
    for _ in 0..3 {
        fixture.push(ServiceKind::ExactlyOnce, b"m").unwrap();
    }
    let (id, _) = fixture.send(NOW).unwrap();
    fixture.outbox.on_packet_acked(id, (0, 1));
    assert!(fixture.outbox.awaits_report());
    fixture.outbox.on_accepted(1..2).unwrap();
    assert!(fixture.outbox.awaits_report(), "0 and 2 are not spoken of");
    fixture.outbox.on_done(0..1).unwrap();
    fixture.outbox.on_accepted(1..3).unwrap();
    assert!(!fixture.outbox.awaits_report());
    fixture.outbox.on_done(0..3).unwrap();
    assert!(!fixture.outbox.awaits_report());
    assert_eq!(fixture.outcomes(), [(0, 3, Outcome::Delivered)]);
}

#[test]
fn message_that_expires_is_told_at_its_deadline_and_does_not_leave() {
    // PROTOCOL 6.32
    let mut fixture = Fixture::new(true);
    let late = NOW + ROUND_TRIP;
    let options = SendOptions::new(ServiceKind::ExactlyOnce).deadline(late);
    let Fixture { outbox, pool, .. } = &mut fixture;
    outbox.push(NOW, pool, &options, b"first".into(), ROOM).unwrap();
    fixture.send(NOW).unwrap();
    let Fixture { outbox, pool, .. } = &mut fixture;
    outbox.push(NOW, pool, &options, b"second".into(), ROOM).unwrap();
    outbox.push(NOW, pool, &ServiceKind::ExactlyOnce.into(), b"third".into(), ROOM).unwrap();
    assert_eq!(fixture.outbox.next_deadline(), Some(late));
    fixture.outbox.expire(late);
    assert_eq!(fixture.outcomes(), [(0, 1, Outcome::Indeterminate), (1, 1, Outcome::NotSent)]);
    assert_eq!(fixture.outbox.next_deadline(), None);
    let (third, _) = fixture.send(late).unwrap();
    assert_eq!(fixture.outbox.unit(third).unwrap().transactions(), 2..3);
    assert!(fixture.send(late).is_none());
}

#[test]
fn open_bundle_that_expires_takes_no_more_messages() {
    let mut fixture = Fixture::new(true);
    let options = SendOptions::new(ServiceKind::ExactlyOnce).deadline(NOW);
    let Fixture { outbox, pool, .. } = &mut fixture;
    outbox.push(NOW, pool, &options, b"first".into(), ROOM).unwrap();
    outbox.expire(NOW);
    outbox.push(NOW, pool, &options, b"second".into(), ROOM).unwrap();
    outbox.expire(NOW);
    assert_eq!(fixture.outcomes(), [(0, 2, Outcome::NotSent)]);
    assert_eq!(fixture.pool.available(), BUFFERS);
}

#[test]
fn cancelled_message_ends_at_once_and_only_once() {
    // PROTOCOL 6.32
    let mut fixture = Fixture::new(false);
    for _ in 0..3 {
        fixture.push(ServiceKind::Request, b"m").unwrap();
    }
    fixture.send(NOW).unwrap();
    assert!(fixture.outbox.cancel(0) && fixture.outbox.cancel(1));
    assert!(!fixture.outbox.cancel(1) && !fixture.outbox.cancel(9));
    assert_eq!(fixture.outcomes(), [(0, 1, Outcome::Indeterminate), (1, 1, Outcome::NotSent)]);
    assert!(!fixture.outbox.on_reply(0), "nobody waits for it");
    let (third, _) = fixture.send(NOW).unwrap();
    assert_eq!(fixture.outbox.unit(third).unwrap().transactions(), 2..3);
    assert_eq!(fixture.outbox.low_water(), 2);
}

#[test]
fn cancelled_message_of_a_bundle_lets_the_others_travel() {
    // PROTOCOL 6.32
    let mut fixture = Fixture::new(true);
    for _ in 0..3 {
        fixture.push(ServiceKind::Request, b"m").unwrap();
    }
    let (bundle, tries) = fixture.send(NOW).unwrap();
    assert!(fixture.outbox.cancel(1));
    assert!(!fixture.outbox.cancel(1));
    assert_eq!(fixture.outcomes(), [(1, 1, Outcome::Indeterminate)]);
    assert!(fixture.outbox.on_packet_lost(bundle, (0, 1), tries), "the bundle leaves again, whole");
    fixture.send(NOW).unwrap();
    assert!(!fixture.outbox.on_reply(1));
    fixture.outbox.on_packet_acked(bundle, (0, 1));
    assert!(fixture.outbox.on_reply(0) && fixture.outbox.on_reply(2));
    assert_eq!(fixture.outcomes(), [(0, 1, Outcome::Replied), (2, 1, Outcome::Replied)]);
    assert_eq!((fixture.outbox.outstanding(), fixture.outbox.low_water()), (0, 3));
}

#[test]
fn message_of_a_stream_without_gaps_cannot_be_cancelled() {
    // PROTOCOL 6.32
    let mut fixture = Fixture::new(true);
    fixture.push(ServiceKind::Sequence, b"m").unwrap();
    assert!(!fixture.outbox.cancel(0));
}

#[test]
fn newer_messages_push_out_the_oldest_that_have_not_left() {
    // PROTOCOL 6.33
    let mut fixture = Fixture::new(false);
    let options = SendOptions::new(ServiceKind::Maybe).overflow(Overflow::DropOldest);
    let push = |fixture: &mut Fixture, options: &SendOptions| {
        let Fixture { outbox, pool, .. } = fixture;
        outbox.push(NOW, pool, options, b"m".into(), ROOM)
    };
    push(&mut fixture, &ServiceKind::ExactlyOnce.into()).unwrap();
    for _ in 0..40 {
        push(&mut fixture, &options).unwrap();
    }
    // From half of the window of 64 on, each new one costs an old one, and never one that is
    // reported on.
    assert_eq!(fixture.outcomes(), [(1, 8, Outcome::NotSent)]);
    let wait = options.overflow(Overflow::DropNewest);
    for _ in 41..64 {
        push(&mut fixture, &wait).unwrap();
    }
    // And none for which there is no number yet.
    for options in [&wait, &options] {
        assert_eq!(push(&mut fixture, options), Err(PushError::NoTransaction));
        assert_eq!(fixture.outcomes(), []);
    }
}

#[test]
fn newer_messages_push_out_none_where_the_peer_has_to_grant_more() {
    // PROTOCOL 6.33
    let mut fixture = Fixture::new(false);
    let config = OutboxConfig { window: 64, tries: 3, linger: Duration::ZERO, bundle: false };
    fixture.outbox = Outbox::new(config, 8, 10_000);
    let options = SendOptions::new(ServiceKind::Maybe).overflow(Overflow::DropOldest);
    let mut taken = 0;
    for _ in 0..100 {
        let Fixture { outbox, pool, .. } = &mut fixture;
        taken += u64::from(outbox.push(NOW, pool, &options, b"m".into(), ROOM).is_ok());
    }
    let ended: u32 = fixture.outcomes().iter().map(|outcome| outcome.1).sum();
    assert_eq!((taken, ended), (8, 7), "each that was taken ended at most one");
}

#[test]
fn newer_messages_push_out_none_that_waits() {
    // PROTOCOL 6.33
    let mut fixture = Fixture::new(true);
    let wait = SendOptions::new(ServiceKind::Maybe);
    for round in 0..33 {
        let options = if round % 2 == 0 { wait } else { wait.overflow(Overflow::DropOldest) };
        let Fixture { outbox, pool, .. } = &mut fixture;
        outbox.push(NOW, pool, &options, b"m".into(), ROOM).unwrap();
    }
    let Fixture { outbox, pool, .. } = &mut fixture;
    outbox.push(NOW, pool, &wait.overflow(Overflow::DropOldest), b"m".into(), ROOM).unwrap();
    assert_eq!(fixture.outcomes(), [(1, 1, Outcome::NotSent)]);
}

#[test]
fn cancelled_request_ends_though_others_of_its_bundle_ended_before_it_was_heard() {
    // PROTOCOL 6.32
    let mut fixture = Fixture::new(true);
    for _ in 0..3 {
        fixture.push(ServiceKind::Request, b"m").unwrap();
    }
    fixture.send(NOW).unwrap();
    assert!(fixture.outbox.on_reply(0));
    assert!(fixture.outbox.cancel(1));
    fixture.outbox.on_done(0..3).unwrap();
    assert_eq!(fixture.outbox.low_water(), 2);
    assert!(fixture.outbox.on_reply(2));
    assert_eq!(fixture.outbox.outstanding(), 0);
}

#[test]
fn requester_that_settled_a_part_of_a_bundle_of_replies_does_not_acknowledge_its_packet() {
    // PROTOCOL 6.14
    let mut fixture = Fixture::new(true);
    for transaction in 0..2 {
        let Fixture { outbox, pool, .. } = &mut fixture;
        outbox.push_reply(NOW, pool, transaction, b"r".into(), ROOM).unwrap();
    }
    fixture.send(NOW).unwrap();
    let mut packets = Vec::new();
    for range in [0..1, 1..2, 0..2] {
        fixture.outbox.packets(Direction::Reply, range, true, |number, _| packets.push(number));
    }
    assert_eq!(packets, [1], "the last range alone has both");
}

#[test]
fn reply_to_what_was_cancelled_settles_it_and_is_not_delivered() {
    // PROTOCOL 6.32
    let mut fixture = Fixture::new(true);
    for _ in 0..2 {
        fixture.push(ServiceKind::Request, b"m").unwrap();
    }
    fixture.send(NOW).unwrap();
    assert!(fixture.outbox.cancel(0));
    assert!(fixture.outbox.settled().next().is_none());
    assert!(!fixture.outbox.on_reply(0));
    assert!(fixture.outbox.settled().eq(std::iter::once(0..1)));
    assert_eq!(fixture.outcomes(), [(0, 1, Outcome::Indeterminate)]);
}

proptest! {
    #[test]
    fn message_that_joins_the_one_before_it_is_taken_as_any_other(
        messages in prop::collection::vec((0usize..8, 0usize..300, 0usize..3, 0usize..4), 1..200),
    ) {
        let mut kinds = [SendOptions::new(ServiceKind::ExactlyOnce); 4];
        kinds[1] = SendOptions::new(ServiceKind::Sequence).stream(StreamKind::Lossy, 3);
        kinds[2] = SendOptions::new(ServiceKind::Maybe).overflow(Overflow::DropOldest);
        kinds[3] = SendOptions::new(ServiceKind::Request).deadline(NOW + ROUND_TRIP);
        let [mut quick, mut slow] = [Fixture::new(true), Fixture::new(true)];
        for (kind, len, then, run_len) in messages {
            // Mostly the first kind, so that messages join.
            let (options, message) = (kinds.get(kind).unwrap_or(&kinds[0]), vec![7; len]);
            if let Some(mut run) = quick.outbox.begin_run(options) {
                for _ in 0..run_len {
                    let joined = run.append(len, |place| place.copy_from_slice(&message));
                    let Some(joined) = joined else { break };
                    let taken = slow.outbox.push(NOW, &slow.pool, options, (&message).into(), ROOM);
                    prop_assert_eq!(Ok(joined), taken);
                }
                quick.outbox.end_run(run);
            }
            let joined = quick.outbox.append(options, len, |place| place.copy_from_slice(&message));
            let Fixture { outbox, pool, .. } = &mut quick;
            let in_full = || outbox.push(NOW, pool, options, (&message).into(), ROOM);
            let taken = joined.map_or_else(in_full, Ok);
            prop_assert_eq!(taken, slow.outbox.push(NOW, &slow.pool, options, (&message).into(), ROOM));
            for fixture in [&mut quick, &mut slow] {
                match then {
                    0 => drop(fixture.send(NOW)),
                    1 => {
                        let end = fixture.outbox.next_transaction;
                        // An error if not all of it left.
                        let _ = fixture.outbox.on_done(fixture.outbox.low_water()..end);
                        fixture.outbox.on_credit(fixture.outbox.low_water() + 64, 10_000);
                    }
                    _ => {}
                }
            }
            prop_assert_eq!(quick.outcomes(), slow.outcomes());
            let state = |outbox: &Outbox| {
                let streams: Vec<_> = outbox.streams.iter().map(|stream| format!("{stream:?}")).collect();
                let units = outbox.own.indices().filter_map(|index| outbox.own.get(index));
                let units: Vec<_> = units.map(|unit| (unit.transactions(), unit.payload, unit.body())).collect();
                (outbox.bytes_unresolved, outbox.deadline, streams, units)
            };
            prop_assert_eq!(state(&quick.outbox), state(&slow.outbox));
        }
    }
}
