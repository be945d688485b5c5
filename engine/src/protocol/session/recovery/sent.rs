//! What was sent and not yet settled: a dense ring indexed by packet number.
//!
//! Packet numbers are handed out one after the other, so the record of a packet needs no search:
//! its slot is its number modulo the ring. Two bitmaps beside the slots say which packets are in
//! flight and which were given up but may still turn up late. An acknowledgement of a long range
//! costs one word operation for 64 packets that are settled already, and touches slots only for
//! those that it settles.
//!
//! Only as much of the ring is *used* as twice the span from the oldest packet in flight to the
//! newest: a session with a small window stays in the cache. Twice, because a packet that was given
//! up is remembered for about one more window, which is the time in which a late acknowledgement
//! still matters. Memory is there for two packets when a session opens, and is taken for the whole
//! ring at once when it needs more than [`LEN_SMALL`], or has sent [`PACKETS_BEFORE_BUSY`]: an idle
//! session keeps a hundred bytes, and a busy one asks the allocator a few times, early in its
//! life.

use crate::limits::PACKETS_BEFORE_BUSY;
use crate::time::Instant;
use core::ops::RangeInclusive;

/// What a packet is to the packet plane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SentKind {
    /// Carries nothing that needs acknowledgement: not in flight, not congestion controlled.
    AckOnly,
    /// Carries messages or control: acknowledged, counted against the window.
    Data,
    /// A datagram larger than the path is known to carry: its loss is no sign of congestion.
    MtuProbe,
    /// Sent because nothing was heard: acknowledged and counted, though the window may be full.
    Probe,
}

/// The record of one packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent<C> {
    pub(super) at: Instant,
    /// UDP payload bytes.
    pub(super) bytes: u32,
    /// The loss event in which it was given up; meaningful only for packets given up.
    pub(super) loss_event: u32,
    pub(super) kind: SentKind,
    acked: bool,
    /// It left marked ECT(0).
    pub(super) is_marked: bool,
    pub(super) content: Option<C>,
}

impl<C> Sent<C> {
    pub(super) fn new(at: Instant, bytes: u32, kind: SentKind, content: Option<C>) -> Self {
        Self { at, bytes, loss_event: 0, kind, acked: false, is_marked: false, content }
    }

    /// A slot that holds no packet.
    fn vacant() -> Self {
        Self::new(Instant::ZERO, 0, SentKind::AckOnly, None)
    }
}

/// Slots in use before anything was sent.
const LEN_START: usize = 2;
/// Slots up to which memory is taken as it is needed, and that are in use once a packet was given
/// up, however few are in flight: as many as a word has bits, so that no bit outlives its slot.
const LEN_SMALL: usize = 64;

/// The ring of sent packets.
#[derive(Debug)]
pub(super) struct SentRing<C> {
    slots: Vec<Sent<C>>,
    in_flight: BitRing,
    given_up: BitRing,
    /// Slots at most; a power of two.
    capacity: usize,
    /// One beyond the largest number recorded.
    end: u64,
    /// The oldest number in flight, or `end`.
    oldest: u64,
    bytes_in_flight: u64,
}

impl<C: Copy> SentRing<C> {
    /// A ring for at most `capacity` packets between the oldest in flight and the newest.
    pub(super) fn new(capacity: usize) -> Self {
        assert!(capacity.is_power_of_two() && capacity >= LEN_SMALL, "a ring is a power of two");
        let mut slots = Vec::with_capacity(LEN_START);
        slots.resize(LEN_START, Sent::vacant());
        Self {
            slots,
            in_flight: BitRing::default(),
            given_up: BitRing::default(),
            capacity,
            end: 0,
            oldest: 0,
            bytes_in_flight: 0,
        }
    }

    /// Records `number`. Numbers must rise; the ones passed over count as never sent. The caller
    /// has made room: see [`SentRing::must_give_up`].
    pub(super) fn record(&mut self, number: u64, sent: Sent<C>) {
        assert!(number >= self.end, "packet numbers rise");
        assert!(self.must_give_up(number).is_none(), "room was made");
        let idle = self.oldest == self.end;
        if number >= PACKETS_BEFORE_BUSY && self.slots.capacity() < self.capacity {
            self.take_memory(self.capacity);
        }
        self.grow_for(number);
        for passed in self.end..number {
            self.given_up.clear(passed);
            let index = self.index(passed);
            self.slots[index] = Sent::vacant();
        }
        self.given_up.clear(number);
        self.end = number + 1;
        if sent.kind == SentKind::AckOnly {
            if idle {
                self.oldest = self.end;
            }
        } else {
            if idle {
                self.oldest = number;
            }
            self.in_flight.set(number);
            self.bytes_in_flight += u64::from(sent.bytes);
        }
        let index = self.index(number);
        self.slots[index] = sent;
    }

    /// Settles the packets in `numbers` that are in flight or were given up, and shows each to
    /// `visit` with whether it had been given up. Numbers too old to be remembered are passed
    /// over. The range must end before [`SentRing::end`].
    pub(super) fn acknowledge(
        &mut self,
        numbers: RangeInclusive<u64>,
        mut visit: impl FnMut(u64, &Sent<C>, bool),
    ) {
        let last = *numbers.end();
        assert!(last < self.end, "only what was sent is acknowledged");
        let first = (*numbers.start()).max(self.first_remembered());
        if first > last {
            return;
        }
        for block in first / 64..=last / 64 {
            let mask = block_mask(block, first, last);
            let flying = self.in_flight.take(block, mask);
            let late = self.given_up.take(block, mask);
            let mut open = flying | late;
            while open != 0 {
                let bit = open.trailing_zeros();
                open &= open - 1;
                let number = block * 64 + u64::from(bit);
                let index = self.index(number);
                let sent = &mut self.slots[index];
                sent.acked = true;
                let was_given_up = late >> bit & 1 == 1;
                if !was_given_up {
                    self.bytes_in_flight -= u64::from(sent.bytes);
                }
                visit(number, sent, was_given_up);
            }
        }
        self.settle_oldest();
    }

    /// Gives `number`, which must be in flight, up for lost, in loss event `event`.
    pub(super) fn give_up(&mut self, number: u64, event: u32) -> Sent<C> {
        assert!(self.in_flight.contains(number), "only a packet in flight is given up");
        while self.slots.len() < LEN_SMALL {
            self.double();
        }
        self.in_flight.clear(number);
        self.given_up.set(number);
        let index = self.index(number);
        let sent = &mut self.slots[index];
        sent.loss_event = event;
        self.bytes_in_flight -= u64::from(sent.bytes);
        let sent = *sent;
        self.settle_oldest();
        sent
    }

    /// The oldest packet in flight, if recording `number` would overwrite it.
    pub(super) fn must_give_up(&self, number: u64) -> Option<u64> {
        let capacity = self.capacity as u64;
        (self.oldest < self.end && number - self.oldest >= capacity).then_some(self.oldest)
    }

    /// The oldest packet in flight whose number lies in `from..to`.
    pub(super) fn next_in_flight(&self, from: u64, to: u64) -> Option<u64> {
        self.in_flight.next_set(from.max(self.oldest), to.min(self.end))
    }

    /// Whether any packet strictly between the two numbers was acknowledged.
    pub(super) fn any_acked_between(&self, first: u64, second: u64) -> bool {
        let from = (first + 1).max(self.first_remembered());
        (from..second).any(|number| self.slots[self.index(number)].acked)
    }

    /// The record of `number`, which must be remembered.
    pub(super) fn sent(&self, number: u64) -> &Sent<C> {
        &self.slots[self.index(number)]
    }

    /// Numbers from the oldest in flight to the newest recorded.
    pub(super) fn span(&self) -> u64 {
        self.end - self.oldest
    }

    /// The oldest number in flight, or [`SentRing::end`] if none is.
    pub(super) fn oldest(&self) -> u64 {
        self.oldest
    }

    /// One beyond the largest number recorded.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// UDP payload bytes of all packets in flight.
    pub(super) fn bytes_in_flight(&self) -> u64 {
        self.bytes_in_flight
    }

    /// Whether any packet is in flight.
    pub(super) fn any_in_flight(&self) -> bool {
        self.oldest < self.end
    }

    fn settle_oldest(&mut self) {
        self.oldest = self.in_flight.next_set(self.oldest, self.end).unwrap_or(self.end);
    }

    /// The smallest number whose slot has not been overwritten.
    fn first_remembered(&self) -> u64 {
        self.end.saturating_sub(self.slots.len() as u64)
    }

    fn index(&self, number: u64) -> usize {
        ring_index(number, self.slots.len())
    }

    /// Doubles the part in use until it holds twice the span, or the whole ring.
    fn grow_for(&mut self, number: u64) {
        let span = number + 1 - self.oldest.min(number);
        while self.slots.len() < self.capacity && span * 2 > self.slots.len() as u64 {
            self.double();
        }
    }

    fn double(&mut self) {
        let (from, old_len) = (self.first_remembered(), self.slots.len());
        self.take_memory(if old_len < LEN_SMALL { old_len * 2 } else { self.capacity });
        self.slots.resize(old_len * 2, Sent::vacant());
        for remembered in from..self.end {
            let (old, new) = (ring_index(remembered, old_len), self.index(remembered));
            self.slots.swap(old, new);
        }
        if self.slots.len() > LEN_SMALL {
            self.in_flight.double(from, self.end);
            self.given_up.double(from, self.end);
        }
    }

    /// Takes memory for `len` slots.
    fn take_memory(&mut self, len: usize) {
        self.slots.reserve_exact(len.saturating_sub(self.slots.len()));
        self.in_flight.take_memory(len);
        self.given_up.take_memory(len);
    }
}

/// A set of packet numbers within one ring's length of each other, 64 at least.
#[derive(Debug)]
struct BitRing {
    words: Vec<u64>,
}

impl Default for BitRing {
    fn default() -> Self {
        Self { words: vec![0] }
    }
}

impl BitRing {
    fn set(&mut self, number: u64) {
        let word = self.word_index(number / 64);
        self.words[word] |= 1 << (number % 64);
    }

    fn clear(&mut self, number: u64) {
        let word = self.word_index(number / 64);
        self.words[word] &= !(1 << (number % 64));
    }

    /// Removes the members of `block` under `mask` and returns them.
    fn take(&mut self, block: u64, mask: u64) -> u64 {
        let word = self.word_index(block);
        let taken = self.words[word] & mask;
        self.words[word] &= !taken;
        taken
    }

    /// Takes memory for `len` numbers.
    fn take_memory(&mut self, len: usize) {
        self.words.reserve_exact((len / 64).saturating_sub(self.words.len()));
    }

    /// Makes room for twice as many numbers.
    fn double(&mut self, from: u64, to: u64) {
        let old_len = self.words.len();
        self.words.resize(old_len * 2, 0);
        for number in from..to {
            let (old, bit) = (ring_index(number / 64, old_len), 1 << (number % 64));
            let new = self.word_index(number / 64);
            if old != new && self.words[old] & bit != 0 {
                self.words[old] &= !bit;
                self.words[new] |= bit;
            }
        }
    }

    fn contains(&self, number: u64) -> bool {
        self.words[self.word_index(number / 64)] >> (number % 64) & 1 == 1
    }

    /// The smallest member in `from..to`.
    fn next_set(&self, from: u64, to: u64) -> Option<u64> {
        if from >= to {
            return None;
        }
        let last = to - 1;
        (from / 64..=last / 64).find_map(|block| {
            let word = self.words[self.word_index(block)] & block_mask(block, from, last);
            (word != 0).then(|| block * 64 + u64::from(word.trailing_zeros()))
        })
    }

    fn word_index(&self, block: u64) -> usize {
        ring_index(block, self.words.len())
    }
}

/// The bits of `block` whose numbers lie in `first..=last`; the block must meet the range.
fn block_mask(block: u64, first: u64, last: u64) -> u64 {
    let low = if block == first / 64 { first % 64 } else { 0 };
    let high = if block == last / 64 { last % 64 } else { 63 };
    (u64::MAX >> (63 - high)) & (u64::MAX << low)
}

#[expect(clippy::cast_possible_truncation, reason = "the mask leaves less than a ring's length")]
fn ring_index(number: u64, len: usize) -> usize {
    (number & (len as u64 - 1)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn data(content: u64) -> Sent<u64> {
        Sent::new(Instant::ZERO, 100, SentKind::Data, Some(content))
    }

    fn acknowledge(ring: &mut SentRing<u64>, numbers: RangeInclusive<u64>) -> Vec<(u64, bool)> {
        let mut seen = Vec::new();
        ring.acknowledge(numbers, |number, sent, late| {
            assert!(sent.content.is_none_or(|content| content == number));
            seen.push((number, late));
        });
        seen
    }

    // PROTOCOL 5.7
    #[test]
    fn a_packet_is_settled_once_and_a_given_up_one_once_more() {
        let mut ring = SentRing::new(128);
        for number in 0..4 {
            ring.record(number, data(number));
        }
        ring.give_up(1, 9);
        assert_eq!(ring.bytes_in_flight(), 300);
        let all = acknowledge(&mut ring, 0..=3);
        assert_eq!(all, [(0, false), (1, true), (2, false), (3, false)]);
        assert!(acknowledge(&mut ring, 0..=3).is_empty());
        assert_eq!((ring.bytes_in_flight(), ring.oldest(), ring.span()), (0, 4, 0));
    }

    // PROTOCOL 5.4
    #[test]
    fn pure_acknowledgements_are_never_in_flight() {
        let mut ring: SentRing<u64> = SentRing::new(128);
        for number in 0..1_000 {
            ring.record(number, Sent::new(Instant::ZERO, 50, SentKind::AckOnly, None));
            assert!(!ring.any_in_flight());
        }
        assert_eq!((ring.bytes_in_flight(), ring.span()), (0, 0));
        assert!(acknowledge(&mut ring, 0..=999).is_empty());
    }

    #[test]
    fn a_full_ring_names_the_packet_that_must_go() {
        let mut ring = SentRing::new(128);
        for number in 0..128 {
            assert_eq!(ring.must_give_up(number), None);
            ring.record(number, data(number));
        }
        assert_eq!(ring.must_give_up(128), Some(0));
        ring.give_up(0, 1);
        assert_eq!(ring.must_give_up(128), None);
        ring.record(128, data(128));
        assert_eq!(acknowledge(&mut ring, 0..=0), [], "its slot was overwritten");
    }

    #[test]
    fn memory_is_taken_once_for_all_and_used_only_as_the_span_grows() {
        let mut ring = SentRing::new(4_096);
        let mut send = |number| {
            ring.record(number, data(number));
            if number >= 10 {
                acknowledge(&mut ring, number - 10..=number - 10);
            }
            (ring.slots.len(), ring.slots.capacity(), ring.given_up.words.capacity())
        };
        assert_eq!((0..64).map(&mut send).last(), Some((32, 32, 1)), "a small span");
        assert_eq!((64..10_000).map(&mut send).last(), Some((32, 4_096, 64)), "a busy session");
        for number in 10_000..13_000 {
            ring.record(number, data(number));
        }
        assert_eq!((ring.slots.len(), ring.slots.capacity()), (4_096, 4_096));
        assert_eq!(acknowledge(&mut ring, 0..=12_999).len(), 3_010);

        let mut ring = SentRing::new(4_096);
        (0..33).for_each(|number| ring.record(number, data(number)));
        assert_eq!((ring.slots.len(), ring.slots.capacity()), (128, 4_096), "a large span");
    }

    #[derive(Clone, Debug)]
    enum Op {
        Send { gap: u64, kind: SentKind, bytes: u32 },
        Acknowledge { back: u64, len: u64 },
        GiveUp { nth: usize },
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let kind = prop_oneof![Just(SentKind::Data), Just(SentKind::AckOnly)];
        let op = prop_oneof![
            6 => (0u64..2, kind, 1u32..1500)
                .prop_map(|(gap, kind, bytes)| Op::Send { gap, kind, bytes }),
            1 => (0u64..600, 0u64..80).prop_map(|(back, len)| Op::Acknowledge { back, len }),
            1 => (0usize..40).prop_map(|nth| Op::GiveUp { nth }),
        ];
        prop::collection::vec(op, 0..1_500)
    }

    proptest! {
        #[test]
        fn agrees_with_an_ordered_map(ops in ops()) {
            let mut ring = SentRing::new(512);
            let mut flying: BTreeMap<u64, u32> = BTreeMap::new();
            let mut late: BTreeMap<u64, u32> = BTreeMap::new();
            let mut end = 0;
            for op in ops {
                match op {
                    Op::Send { gap, kind, bytes } => {
                        let number = end + gap;
                        if let Some(oldest) = ring.must_give_up(number) {
                            prop_assert_eq!(Some(&oldest), flying.keys().next());
                            continue;
                        }
                        ring.record(
                            number,
                            Sent::new(Instant::ZERO, bytes, kind, Some(number)),
                        );
                        end = number + 1;
                        if kind != SentKind::AckOnly {
                            flying.insert(number, bytes);
                        }
                        late = late.split_off(&end.saturating_sub(ring.slots.len() as u64));
                    }
                    Op::Acknowledge { back, len } => {
                        if end == 0 {
                            continue;
                        }
                        let last = end.saturating_sub(1 + back);
                        let numbers = last.saturating_sub(len)..=last;
                        let mut expected: Vec<(u64, bool)> = flying
                            .range(numbers.clone()).map(|(&number, _)| (number, false))
                            .chain(late.range(numbers.clone()).map(|(&number, _)| (number, true)))
                            .collect();
                        expected.sort_unstable();
                        prop_assert_eq!(acknowledge(&mut ring, numbers.clone()), expected);
                        flying.retain(|number, _| !numbers.contains(number));
                        late.retain(|number, _| !numbers.contains(number));
                    }
                    Op::GiveUp { nth } => {
                        if let Some((&number, &bytes)) = flying.iter().nth(nth) {
                            let found = (0..nth).fold(ring.next_in_flight(0, end), |at, _| {
                                ring.next_in_flight(at? + 1, end)
                            });
                            prop_assert_eq!(found, Some(number));
                            prop_assert_eq!(ring.give_up(number, 1).bytes, bytes);
                            flying.remove(&number);
                            late.insert(number, bytes);
                        }
                    }
                }
                let bytes: u64 = flying.values().map(|&bytes| u64::from(bytes)).sum();
                prop_assert_eq!(ring.bytes_in_flight(), bytes);
                prop_assert_eq!(ring.oldest(), flying.keys().next().copied().unwrap_or(end));
                prop_assert_eq!(ring.any_in_flight(), !flying.is_empty());
            }
        }
    }
}
