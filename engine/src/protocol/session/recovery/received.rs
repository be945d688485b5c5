//! The receiver's side: which packet numbers arrived, and when to say so.
//!
//! In the steady state packets arrive in order and there is one range, which grows. A lost packet
//! leaves a hole for ever, because a packet is never sent again under its number; so a range below
//! the largest is repeated in a bounded number of acknowledgements and then left out. If all of
//! them were lost the sender sends some message again and the receiver recognises it: cheaper
//! than carrying every hole along.
//!
//! Whether to acknowledge is decided once for each batch of packets that the kernel handed over,
//! not for each packet (TRANSPORT 3.2).

use crate::buffer::Ecn;
use crate::limits::{
    ACK_EVERY_MAX, ACK_EVERY_MIN, ACK_EVERY_RELAXED, ACK_RANGES_MAX, ACK_REPORTS_MAX, GRANULARITY,
    PACKETS_BEFORE_BUSY,
};
use crate::protocol::wire::control::{AckFrequency, EcnCounts};
use crate::time::{Duration, Instant};
use core::ops::RangeInclusive;
use std::collections::VecDeque;

/// Acknowledgements of ours whose own acknowledgement we can make use of.
const CONFIRMABLE_MAX: usize = 8;

/// The packet numbers that arrived from the peer.
#[derive(Debug)]
pub struct ReceivedPackets {
    /// Ascending and disjoint with a hole between any two; at most [`ACK_RANGES_MAX`].
    ranges: Vec<Range>,
    largest_at: Instant,
    /// Packets that want an acknowledgement, since the last one was sent.
    pending: u32,
    /// A hole opened or closed, a queue marked a packet, or the peer asked.
    urgent: bool,
    marks: EcnCounts,
    deadline: Option<Instant>,
    ack_every: u32,
    delay_max: Duration,
    delay: Duration,
    /// The packet that asked for them.
    asked_in: u64,
    /// The latest that were sent, the oldest first; at most [`CONFIRMABLE_MAX`].
    confirmable: VecDeque<Confirmable>,
}

#[derive(Clone, Copy, Debug)]
struct Range {
    first: u64,
    last: u64,
    /// Acknowledgements sent since the range last changed.
    reports: u8,
}

/// An acknowledgement that we sent in a packet which will be acknowledged itself.
#[derive(Clone, Copy, Debug)]
struct Confirmable {
    in_packet: u64,
    largest: u64,
}

impl ReceivedPackets {
    /// Nothing received. `delay_max` is how long we promised to hold an acknowledgement back at
    /// most.
    pub fn new(delay_max: Duration) -> Self {
        Self {
            ranges: Vec::with_capacity(1),
            largest_at: Instant::ZERO,
            pending: 0,
            urgent: false,
            marks: EcnCounts::default(),
            deadline: None,
            ack_every: ACK_EVERY_RELAXED,
            delay_max,
            delay: delay_max,
            asked_in: 0,
            confirmable: VecDeque::new(),
        }
    }

    /// The sender says in packet `packet_number` how often it wants to be acknowledged; an older
    /// packet does not speak for a newer one (PROTOCOL 5.33). Nobody is acknowledged later than we
    /// promised, nor sooner than our timers can tell apart.
    pub fn on_ack_frequency(&mut self, packet_number: Option<u64>, asked: AckFrequency) {
        if packet_number.is_some_and(|number| number < self.asked_in) {
            return;
        }
        self.asked_in = packet_number.unwrap_or(0);
        let packets = u32::try_from(asked.packets).unwrap_or(u32::MAX);
        self.ack_every = packets.clamp(ACK_EVERY_MIN, ACK_EVERY_MAX);
        self.delay = asked.delay.max(GRANULARITY).min(self.delay_max);
    }

    /// Takes an opened packet that was never received before, and its mark. `ack_eliciting`:
    /// anything but a pure acknowledgement. `asks_now`: the last of a burst, of a kind that waits,
    /// or a probe.
    pub fn on_received(
        &mut self,
        now: Instant,
        packet_number: u64,
        ecn: Ecn,
        ack_eliciting: bool,
        asks_now: bool,
    ) {
        match ecn {
            Ecn::NotEct => {}
            Ecn::Ect0 => self.marks.ect0 += 1,
            Ecn::Ect1 => self.marks.ect1 += 1,
            Ecn::Ce => {
                self.marks.ce += 1;
                self.urgent = true;
            }
        }
        if ack_eliciting {
            self.pending = self.pending.saturating_add(1);
        }
        self.urgent |= asks_now;
        match self.ranges.last_mut() {
            Some(top) if top.last.checked_add(1) == Some(packet_number) => {
                top.last = packet_number;
                self.largest_at = now;
            }
            Some(top) if packet_number > top.last => {
                self.urgent = true;
                self.largest_at = now;
                self.push(packet_number);
            }
            Some(_) => self.on_late(packet_number),
            None => {
                self.largest_at = now;
                self.push(packet_number);
            }
        }
    }

    /// Ends a receive batch: whether to send an acknowledgement now. If not, and one is owed,
    /// [`ReceivedPackets::next_timeout`] says until when it may wait.
    pub fn end_of_batch(&mut self, now: Instant) -> bool {
        if self.pending == 0 {
            return false;
        }
        let deadline = *self.deadline.get_or_insert(now + self.delay);
        self.urgent || self.pending >= self.ack_every || now >= deadline
    }

    /// An acknowledgement with all ranges was sent. `in_packet`: the number of the packet that
    /// carried it, if that packet will be acknowledged itself.
    pub fn on_ack_sent(&mut self, in_packet: Option<u64>) {
        self.pending = 0;
        self.urgent = false;
        self.deadline = None;
        let Some((top, below)) = self.ranges.split_last_mut() else { return };
        let is_busy = top.last >= PACKETS_BEFORE_BUSY;
        if let Some(in_packet) = in_packet {
            if self.confirmable.len() == CONFIRMABLE_MAX {
                self.confirmable.pop_front();
            }
            self.confirmable.push_back(Confirmable { in_packet, largest: top.last });
        }
        if !below.is_empty() {
            for range in below {
                range.reports += 1;
            }
            self.ranges.retain(|range| range.reports < ACK_REPORTS_MAX);
        }
        if is_busy && self.ranges.capacity() <= ACK_RANGES_MAX {
            // Before the first packet is lost: a loss is no time to ask for memory.
            self.ranges.reserve_exact(ACK_RANGES_MAX + 1 - self.ranges.len());
            self.confirmable.reserve_exact(CONFIRMABLE_MAX - self.confirmable.len());
        }
    }

    /// The packet that carried an acknowledgement of ours was acknowledged: what that one
    /// reported is known, and need not be reported again (RFC 9000 13.2.4).
    pub fn on_ack_acked(&mut self, in_packet: u64) {
        let place = self.confirmable.iter().position(|known| known.in_packet == in_packet);
        let confirmed = place.and_then(|place| self.confirmable.remove(place));
        if let (Some(Confirmable { largest, .. }), Some(top)) =
            (confirmed, self.ranges.last().copied())
        {
            self.ranges.retain(|range| range.last > largest || range.last == top.last);
        }
    }

    /// When an acknowledgement is due, if one is owed.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether an acknowledgement is owed: one that rides with other content costs nothing.
    pub fn is_ack_owed(&self) -> bool {
        self.pending > 0
    }

    /// The ranges to report, the largest first, with a hole between any two.
    pub fn ranges(&self) -> impl Iterator<Item = RangeInclusive<u64>> + '_ {
        self.ranges.iter().rev().map(|range| range.first..=range.last)
    }

    /// How many packets arrived with which mark, if any did (PROTOCOL 5.25).
    pub fn marks(&self) -> Option<EcnCounts> {
        (self.marks != EcnCounts::default()).then_some(self.marks)
    }

    /// How long ago the largest number arrived: what the sender subtracts from its sample.
    pub fn largest_delay(&self, now: Instant) -> Duration {
        now.saturating_since(self.largest_at)
    }

    /// Takes a number below the largest: it closes a hole, or is a duplicate.
    fn on_late(&mut self, packet_number: u64) {
        let above = self.ranges.partition_point(|range| range.last < packet_number);
        if self.ranges[above].first <= packet_number {
            return;
        }
        self.urgent = true;
        let joins_above = self.ranges[above].first == packet_number + 1;
        let joins_below = above > 0 && self.ranges[above - 1].last + 1 == packet_number;
        match (joins_below, joins_above) {
            (true, true) => {
                self.ranges[above].first = self.ranges[above - 1].first;
                self.ranges[above].reports = 0;
                self.ranges.remove(above - 1);
            }
            (true, false) => {
                self.ranges[above - 1].last = packet_number;
                self.ranges[above - 1].reports = 0;
            }
            (false, true) => {
                self.ranges[above].first = packet_number;
                self.ranges[above].reports = 0;
            }
            (false, false) => {
                if above > 0 || self.ranges.len() < ACK_RANGES_MAX {
                    self.ranges.insert(above, Range::of(packet_number));
                    self.forget_oldest();
                }
            }
        }
    }

    fn push(&mut self, packet_number: u64) {
        self.ranges.push(Range::of(packet_number));
        self.forget_oldest();
    }

    fn forget_oldest(&mut self) {
        if self.ranges.len() > ACK_RANGES_MAX {
            self.ranges.remove(0);
        }
    }
}

impl Range {
    fn of(packet_number: u64) -> Self {
        Self { first: packet_number, last: packet_number, reports: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const T0: Instant = Instant::from_nanos(1_000_000_000);

    fn ranges(received: &ReceivedPackets) -> Vec<RangeInclusive<u64>> {
        received.ranges().collect()
    }

    fn with(numbers: impl IntoIterator<Item = u64>) -> ReceivedPackets {
        let mut received = ReceivedPackets::new(Duration::from_millis(25));
        for number in numbers {
            received.on_received(T0, number, Ecn::NotEct, true, false);
        }
        received
    }

    fn every(packets: u64, delay: Duration) -> AckFrequency {
        AckFrequency { lane: 0, packets, delay }
    }

    // PROTOCOL 5.3
    #[test]
    fn acknowledgement_waits_for_packets_a_hole_a_wish_or_the_deadline() {
        let mut received = ReceivedPackets::new(Duration::from_millis(25));
        received.on_ack_frequency(None, every(9, Duration::from_millis(2)));
        assert!(!received.end_of_batch(T0), "nothing to say");
        assert_eq!(received.next_timeout(), None);

        received.on_received(T0, 0, Ecn::NotEct, true, false);
        assert!(!received.end_of_batch(T0));
        let deadline = T0 + Duration::from_millis(2);
        assert_eq!(received.next_timeout(), Some(deadline), "what was asked for");
        assert!(received.end_of_batch(deadline));
        received.on_ack_sent(None);
        assert!(!received.is_ack_owed() && received.next_timeout().is_none());

        for number in 1..9 {
            received.on_received(T0, number, Ecn::NotEct, true, false);
            assert!(!received.end_of_batch(T0));
        }
        received.on_received(T0, 9, Ecn::NotEct, true, false);
        assert!(received.end_of_batch(T0), "nine packets");
        received.on_ack_sent(None);

        received.on_received(T0, 11, Ecn::NotEct, true, false);
        assert!(received.end_of_batch(T0), "a hole opened");
        received.on_ack_sent(None);
        received.on_received(T0, 10, Ecn::NotEct, true, false);
        assert!(received.end_of_batch(T0), "it closed");
        received.on_ack_sent(None);
        received.on_received(T0, 12, Ecn::NotEct, true, true);
        assert!(received.end_of_batch(T0), "the packet asks");
    }

    // PROTOCOL 5.33
    #[test]
    fn asked_for_count_and_delay_stay_within_bounds() {
        for (asked, used) in [(0, 2), (1, 2), (17, 17), (u64::MAX, 64u64)] {
            let mut received = ReceivedPackets::new(Duration::from_millis(25));
            received.on_ack_frequency(Some(3), every(asked, Duration::from_millis(1)));
            for number in 0..used {
                assert!(!received.end_of_batch(T0), "{number} of {used}");
                received.on_received(T0, number, Ecn::NotEct, true, false);
            }
            assert!(received.end_of_batch(T0));
        }
    }

    // PROTOCOL 5.33
    #[test]
    fn wish_is_limited_to_what_was_promised_and_the_newest_packet_s_counts() {
        let mut received = ReceivedPackets::new(Duration::from_millis(25));
        assert_eq!((received.ack_every, received.delay), (8, Duration::from_millis(25)));
        let ms = Duration::from_millis;
        for (number, asked, delay) in [
            (7, ms(1_000), ms(25)),
            (5, ms(1), ms(25)),
            (7, ms(2), ms(2)),
            (9, Duration::ZERO, GRANULARITY),
        ] {
            received.on_ack_frequency(Some(number), every(8, asked));
            assert_eq!(received.delay, delay, "asked in {number}");
        }
    }

    // PROTOCOL 5.25
    #[test]
    fn marks_are_counted_and_a_queue_that_fills_up_is_told_at_once() {
        let mut received = ReceivedPackets::new(Duration::from_millis(25));
        received.on_received(T0, 0, Ecn::NotEct, true, false);
        assert_eq!(received.marks(), None);
        for (number, ecn) in [(1, Ecn::Ect0), (2, Ecn::Ect1), (3, Ecn::Ect0)] {
            received.on_received(T0, number, ecn, true, false);
        }
        assert!(!received.end_of_batch(T0));
        received.on_received(T0, 4, Ecn::Ce, true, false);
        assert!(received.end_of_batch(T0));
        assert_eq!(received.marks(), Some(EcnCounts { lane: 0, ect0: 2, ect1: 1, ce: 1 }));
        received.on_ack_sent(None);
        assert!(!received.end_of_batch(T0), "told once");
        received.on_received(T0, 5, Ecn::Ce, false, false);
        assert!(!received.end_of_batch(T0), "an acknowledgement is no reason for another");
        assert_eq!(received.marks().map(|marks| marks.ce), Some(2));
    }

    // PROTOCOL 5.4
    #[test]
    fn acknowledgements_are_not_acknowledged() {
        let mut received = ReceivedPackets::new(Duration::from_millis(25));
        for number in [0, 1, 2, 5, 9, 3] {
            received.on_received(T0, number, Ecn::NotEct, false, false);
            assert!(!received.end_of_batch(T0) && received.next_timeout().is_none());
        }
        received.on_received(T0, 10, Ecn::NotEct, true, false);
        assert!(received.end_of_batch(T0), "the holes are reported with the first that wants it");
        assert_eq!(ranges(&received), [9..=10, 5..=5, 0..=3]);
    }

    // PROTOCOL 5.5
    #[test]
    fn ranges_descend_and_the_oldest_goes_when_there_are_too_many() {
        let received = with((0..100).map(|index| index * 2));
        let listed = ranges(&received);
        assert_eq!(listed.len(), ACK_RANGES_MAX);
        assert_eq!((&listed[0], &listed[63]), (&(198..=198), &(72..=72)));
    }

    // PROTOCOL 5.5
    #[test]
    fn holes_are_reported_a_bounded_number_of_times() {
        let mut received = with([0, 1, 3, 4, 6]);
        for _ in 1..ACK_REPORTS_MAX {
            received.on_ack_sent(None);
            assert_eq!(received.ranges().count(), 3);
        }
        received.on_received(T0, 5, Ecn::NotEct, true, false);
        received.on_ack_sent(None);
        assert_eq!(ranges(&received), [3..=6], "reported sixteen times; the other one changed");
        for _ in 0..100 {
            received.on_ack_sent(None);
        }
        assert_eq!(ranges(&received), [3..=6], "the largest is always reported");
    }

    // PROTOCOL 5.5
    #[test]
    fn confirmed_ranges_are_not_reported_again() {
        let mut received = with([0, 2, 4]);
        received.on_ack_sent(Some(77));
        received.on_received(T0, 6, Ecn::NotEct, true, false);
        received.on_ack_acked(78);
        assert_eq!(received.ranges().count(), 4, "an unknown packet confirms nothing");
        received.on_ack_acked(77);
        assert_eq!(ranges(&received), [6..=6]);
        received.on_ack_acked(77);
        assert_eq!(ranges(&received), [6..=6]);
    }

    #[test]
    fn delay_counts_from_the_largest_number() {
        let mut received = with([4]);
        received.on_received(T0 + Duration::from_millis(3), 2, Ecn::NotEct, true, false);
        assert_eq!(received.largest_delay(T0 + Duration::from_millis(5)), Duration::from_millis(5));
    }

    #[test]
    fn the_largest_number_there_is_does_not_overflow() {
        let mut received = with([u64::MAX - 1, u64::MAX, 0, u64::MAX - 3, u64::MAX - 2, u64::MAX]);
        assert_eq!(ranges(&received), [u64::MAX - 3..=u64::MAX, 0..=0]);
        assert!(received.end_of_batch(T0));
    }

    proptest! {
        #[test]
        fn agrees_with_an_ordered_set(numbers in prop::collection::vec(0u64..200, 0..300)) {
            let received = with(numbers.iter().copied());
            let mut set: BTreeSet<u64> = BTreeSet::new();
            let mut twin: Vec<RangeInclusive<u64>> = Vec::new();
            // The twin forgets the lowest range beyond the bound after every packet, and a number
            // below the lowest of a full list is not taken up again.
            for &number in &numbers {
                let lowest = set.first().copied().unwrap_or(0);
                let full = twin.len() == ACK_RANGES_MAX;
                if full && number < lowest && number + 1 != lowest {
                    continue;
                }
                set.insert(number);
                twin.clear();
                for &member in &set {
                    match twin.last_mut() {
                        Some(range) if range.end() + 1 == member => *range = *range.start()..=member,
                        _ => twin.push(member..=member),
                    }
                }
                if twin.len() > ACK_RANGES_MAX {
                    let oldest = twin.remove(0);
                    set.retain(|member| !oldest.contains(member));
                }
            }
            twin.reverse();
            prop_assert_eq!(ranges(&received), twin);
        }

        #[test]
        fn any_sequence_keeps_ranges_disjoint_descending_and_bounded(
            ops in prop::collection::vec((any::<u64>(), 0u8..8, any::<bool>()), 0..400),
            low in any::<bool>(),
        ) {
            let mut received = ReceivedPackets::new(Duration::from_millis(25));
            for (number, op, eliciting) in ops {
                let number = if low { number % 300 } else { number };
                match op {
                    0 => received.on_ack_sent(Some(number)),
                    1 => received.on_ack_acked(number),
                    2 => { received.end_of_batch(Instant::from_nanos(number)); }
                    _ => received.on_received(T0, number, Ecn::NotEct, eliciting, false),
                }
                let listed = ranges(&received);
                prop_assert!(listed.len() <= ACK_RANGES_MAX);
                prop_assert!(listed.iter().all(|range| range.start() <= range.end()));
                prop_assert!(listed.windows(2).all(|two| two[0].start() - 1 > *two[1].end()));
            }
        }
    }
}
