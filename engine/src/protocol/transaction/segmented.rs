//! A message in segments on its way out: which of them left, arrived, or have to leave again.
//!
//! The message stays whole in the memory in which the application gave it, and each segment is
//! copied into its packet when its turn comes: the one copy. Nothing of a segment is kept
//! beside a byte that counts its tries, so a message of 64 MiB costs 64 KiB more than itself.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::limits::{SEGMENT_COUNT_MAX, SEGMENTS_UNSCHEDULED_LEN};
use crate::protocol::wire::varint;

/// The peer has it.
const HEARD: u8 = u8::MAX;
/// It waits to leave again; the other bits count its tries.
const LOST: u8 = 0x80;
/// Tries are counted up to this.
const TRIES_COUNTED_MAX: u8 = 0x7e;

/// Bytes before a segment's part of the message at most: the message's length (PROTOCOL 6.15).
pub(super) const PREFIX_LEN_MAX: usize = 4;

/// What news of a lost try led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AfterLoss {
    /// The segment leaves again.
    Again,
    /// The segment had its last try.
    Exhausted,
    /// Old news.
    Nothing,
}

/// A message cut into segments of equal size; the last one may be shorter.
#[derive(Debug)]
pub(super) struct Segmented {
    message: Arc<[u8]>,
    size: usize,
    /// One byte a segment: [`HEARD`], or tries with or without [`LOST`].
    states: Vec<u8>,
    /// The first segment that has not left in this pass.
    next: u32,
    /// Segments that may leave: the unscheduled part, then what the receiver grants.
    granted: u32,
    lost: VecDeque<u32>,
    heard: u32,
    /// All below were heard of.
    heard_below: u32,
    /// Without packet numbers on the wire: the packet in which each segment left last.
    numbers: Vec<u64>,
    /// Copies begun.
    passes: u8,
    /// Whether the schedule knows the unit.
    pub(super) is_scheduled: bool,
    /// Segments that left in a row since others had their turn.
    pub(super) burst: u32,
}

impl Segmented {
    /// Cuts `message` so that no segment exceeds `size_max` bytes. `None`: that makes too many.
    pub(super) fn new(message: Arc<[u8]>, size_max: usize) -> Option<Self> {
        let count = message.len().div_ceil(size_max);
        if count > SEGMENT_COUNT_MAX as usize {
            return None;
        }
        let size = message.len().div_ceil(count);
        let unscheduled = SEGMENTS_UNSCHEDULED_LEN.div_ceil(size).max(1);
        Some(Self {
            granted: u32::try_from(unscheduled.min(count)).expect("at most the count"),
            message,
            size,
            states: vec![0; count],
            next: 0,
            lost: VecDeque::new(),
            heard: 0,
            heard_below: 0,
            numbers: Vec::new(),
            passes: 1,
            is_scheduled: false,
            burst: 0,
        })
    }

    /// Segments in all.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.states.len()).expect("checked when it was cut")
    }

    /// The segment that leaves next.
    pub(super) fn due(&mut self) -> Option<u32> {
        while let Some(&segment) = self.lost.front() {
            if self.states[segment as usize] & LOST != 0 && self.states[segment as usize] != HEARD {
                return Some(segment);
            }
            self.lost.pop_front(); // It arrived after all.
        }
        while self.next < self.granted && self.states[self.next as usize] == HEARD {
            self.next += 1;
        }
        (self.next < self.granted).then_some(self.next)
    }

    /// Whether a segment may leave after the one that leaves next, or could before it arrived.
    pub(super) fn has_more_due(&self) -> bool {
        self.lost.len() as u64 + u64::from(self.granted - self.next) > 1
    }

    /// Length of the body of a packet with a segment.
    pub(super) fn body_len(&self, segment: u32) -> usize {
        varint::len(self.message.len() as u64) + self.part(segment).len()
    }

    /// Writes that body over `out`, which is as long.
    pub(super) fn write(&self, segment: u32, out: &mut [u8]) {
        let total = self.message.len() as u64;
        let prefix = varint::write(out, total).expect("room for a segment with its prefix");
        out[prefix..].copy_from_slice(self.part(segment));
    }

    fn part(&self, segment: u32) -> &[u8] {
        let start = segment as usize * self.size;
        &self.message[start..self.message.len().min(start + self.size)]
    }

    /// Longest body that a packet with a segment has.
    pub(super) fn body_len_max(&self) -> usize {
        self.size + PREFIX_LEN_MAX
    }

    /// The whole, to be cut anew.
    pub(super) fn message(&self) -> Arc<[u8]> {
        Arc::clone(&self.message)
    }

    /// Notes in which packet a segment leaves, where only reports acknowledge; returns the one in
    /// which it left before.
    pub(super) fn note_packet(&mut self, segment: u32, number: u64) -> Option<u64> {
        self.numbers.resize(self.states.len(), u64::MAX);
        let last = std::mem::replace(&mut self.numbers[segment as usize], number);
        Some(last).filter(|&last| last != u64::MAX)
    }

    /// The packets of segments in `range` that were not heard of, and whether they left in no
    /// other before.
    pub(super) fn packets(
        &self,
        range: std::ops::RangeInclusive<u32>,
    ) -> impl Iterator<Item = (u64, bool)> + '_ {
        let unsettled = move |&segment: &u32| {
            let state = self.states.get(segment as usize).copied().unwrap_or(HEARD);
            state != HEARD && state & !LOST != 0
        };
        range.filter(unsettled).filter_map(|segment| {
            let number = *self.numbers.get(segment as usize)?;
            Some((number, self.states[segment as usize] == 1)).filter(|_| number != u64::MAX)
        })
    }

    /// A segment leaves; returns which of its tries that is.
    pub(super) fn on_sent(&mut self, segment: u32) -> u8 {
        if self.lost.front() == Some(&segment) {
            self.lost.pop_front();
        } else if segment == self.next {
            self.next += 1;
        }
        let state = &mut self.states[segment as usize];
        *state = ((*state & !LOST) + 1).min(TRIES_COUNTED_MAX);
        *state
    }

    /// These segments arrived. Returns whether the peer has all of them.
    pub(super) fn on_heard(&mut self, segments: std::ops::RangeInclusive<u32>) -> bool {
        let end = (*segments.end()).min(self.count() - 1);
        // Each report begins with what is known since long.
        for segment in (*segments.start()).max(self.heard_below)..=end {
            let state = &mut self.states[segment as usize];
            // What never left cannot have arrived.
            if *state != HEARD && *state != 0 {
                *state = HEARD;
                self.heard += 1;
            }
        }
        while self.states.get(self.heard_below as usize) == Some(&HEARD) {
            self.heard_below += 1;
        }
        self.heard == self.count()
    }

    /// Try `tries` of a segment was lost.
    pub(super) fn on_lost(&mut self, segment: u32, tries: u8, tries_max: u8) -> AfterLoss {
        let Some(state) = self.states.get_mut(segment as usize) else { return AfterLoss::Nothing };
        if *state == HEARD || *state != tries {
            return AfterLoss::Nothing;
        }
        if tries >= tries_max {
            return AfterLoss::Exhausted;
        }
        *state |= LOST;
        self.lost.push_back(segment);
        AfterLoss::Again
    }

    /// The receiver misses these segments: those that left and are not on their way again do so.
    pub(super) fn on_request(&mut self, segments: std::ops::RangeInclusive<u32>) {
        let end = (*segments.end()).min(self.next.saturating_sub(1));
        for segment in *segments.start()..=end {
            let state = &mut self.states[segment as usize];
            if *state != 0 && *state != HEARD && *state & LOST == 0 {
                *state |= LOST;
                self.lost.push_back(segment);
            }
        }
    }

    /// The session is over in which the segments left: its packet numbers mean nothing any more.
    pub(super) fn forget_packets(&mut self) {
        self.numbers.clear();
    }

    /// Everything that left and was not heard of leaves again: its session is over.
    pub(super) fn on_session_lost(&mut self) {
        if self.next > 0 {
            self.on_request(0..=self.next - 1);
        }
    }

    /// The receiver has memory for the segments below `end`.
    pub(super) fn on_grant(&mut self, end: u32) {
        self.granted = self.granted.max(end.min(self.count()));
    }

    /// Begins a further copy of the message.
    pub(super) fn restart(&mut self) {
        self.next = 0;
        self.passes += 1;
    }

    /// Copies that were begun.
    pub(super) fn passes(&self) -> u8 {
        self.passes
    }

    /// Whether each segment left at least once.
    pub(super) fn has_left_once(&self) -> bool {
        self.passes > 1 || self.has_left()
    }

    /// Whether segments are left that no grant allows to leave.
    pub(super) fn awaits_grant(&self) -> bool {
        self.next >= self.granted && self.granted < self.count()
    }

    /// Whether each segment left at least once in this pass.
    pub(super) fn has_left(&self) -> bool {
        self.next == self.count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(len: usize) -> Arc<[u8]> {
        (0..len).map(|at| at.to_le_bytes()[0]).collect()
    }

    #[test]
    fn segments_have_one_size_and_carry_the_length_of_the_whole() {
        // PROTOCOL 6.15
        let segmented = Segmented::new(message(2_500), 1_000).unwrap();
        assert_eq!((segmented.count(), segmented.size), (3, 834));
        assert_eq!([0, 1, 2].map(|segment| segmented.body_len(segment)), [836, 836, 834]);
        let mut out = [0; 834];
        segmented.write(2, &mut out);
        assert_eq!(varint::read(&out), Some((2_500, 2)));
        assert_eq!(out[2..], message(2_500)[1_668..]);
        assert!(Segmented::new(message(65_536), 1).is_none());
    }

    #[test]
    fn lost_segment_goes_before_new_ones_and_not_once_it_arrived() {
        let mut segmented = Segmented::new(message(5_000), 1_000).unwrap();
        for segment in 0..3 {
            assert_eq!(segmented.due(), Some(segment));
            assert!(segmented.has_more_due());
            assert_eq!(segmented.on_sent(segment), 1);
        }
        assert_eq!(segmented.on_lost(0, 1, 8), AfterLoss::Again);
        assert_eq!(segmented.on_lost(1, 1, 8), AfterLoss::Again);
        assert_eq!(segmented.on_lost(1, 1, 8), AfterLoss::Nothing);
        segmented.on_heard(0..=0);
        assert_eq!(segmented.due(), Some(1));
        assert_eq!(segmented.on_sent(1), 2);
        assert_eq!(segmented.on_lost(1, 1, 8), AfterLoss::Nothing);
        assert_eq!(segmented.on_lost(1, 2, 2), AfterLoss::Exhausted);
        assert_eq!(segmented.due(), Some(3));
        assert!(segmented.has_more_due());
        segmented.on_sent(3);
        assert!(!segmented.has_more_due(), "the last one leaves next");
    }

    #[test]
    fn numbers_of_packets_end_with_their_session() {
        let mut segmented = Segmented::new(message(2_000), 1_000).unwrap();
        segmented.on_sent(0);
        assert_eq!(segmented.note_packet(0, 7), None);
        assert_eq!(segmented.packets(0..=1).collect::<Vec<_>>(), [(7, true)]);
        segmented.forget_packets();
        assert_eq!(segmented.packets(0..=1).count(), 0);
        assert_eq!(segmented.note_packet(0, 0), None);
    }

    #[test]
    fn no_segment_beyond_the_grant_leaves() {
        // PROTOCOL 6.18
        let mut segmented = Segmented::new(message(1 << 20), 1 << 15).unwrap();
        let mut left = 0;
        while let Some(segment) = segmented.due() {
            segmented.on_sent(segment);
            left += 1;
        }
        assert_eq!(left, 2);
        segmented.on_grant(5);
        segmented.on_grant(4);
        assert_eq!(segmented.due(), Some(2));
        segmented.on_grant(1_000);
        assert_eq!(segmented.granted, 32);
    }
}
