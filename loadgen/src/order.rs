//! Whether the messages of ordered streams came in their order, and every gap was told.

use std::ops::Range;

use raet::Stream;

use crate::workload::Streams;

/// What one session's streams of a workload did wrong, and what they said.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct OrderCounts {
    /// Messages that came behind one that follows them, or under another's place.
    pub(crate) misplaced: u64,
    /// Messages that were passed over without a word.
    pub(crate) missing: u64,
    /// Messages of which was told that they will not come.
    pub(crate) told: u64,
}

impl OrderCounts {
    /// Adds another session's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.misplaced += other.misplaced;
        self.missing += other.missing;
        self.told += other.told;
    }
}

/// Follows the streams of a workload at their receiver.
#[derive(Debug)]
pub(crate) struct Order {
    streams: Streams,
    /// Place of the next message of each.
    next: Box<[u64]>,
    pub(crate) counts: OrderCounts,
}

impl Order {
    /// Nothing came yet.
    pub(crate) fn new(streams: Streams) -> Self {
        let next = vec![0; streams.count.into()].into_boxed_slice();
        Self { streams, next, counts: OrderCounts::default() }
    }

    /// The message `number` came, and the engine says which place it has.
    pub(crate) fn enter(&mut self, number: u64, said: Option<(Stream, u64)>) {
        let (index, place) = self.streams.place_of(number);
        let next = &mut self.next[usize::from(index)];
        if said != Some((self.streams.at(index), place)) || place < *next {
            self.counts.misplaced += 1;
            return;
        }
        self.counts.missing += place - *next;
        *next = place + 1;
    }

    /// The engine says that `missing` will not come, of this workload's streams or another's.
    pub(crate) fn pass(&mut self, stream: Stream, missing: &Range<u64>) {
        let Some(index) = self.streams.index_of(stream) else { return };
        let next = &mut self.next[usize::from(index)];
        if missing.start == *next && missing.end > missing.start {
            self.counts.told += missing.end - missing.start;
            *next = missing.end;
        } else {
            self.counts.misplaced += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use raet::StreamKind;

    use super::*;

    #[test]
    fn order_gaps_and_what_is_told_of_them_are_counted() {
        let streams = Streams { kind: StreamKind::Lossy, first: 4, count: 2 };
        let mut order = Order::new(streams);
        let said = |number| {
            let (index, place) = streams.place_of(number);
            Some((streams.at(index), place))
        };
        for number in [0, 1, 2, 5] {
            order.enter(number, said(number));
        }
        assert_eq!(order.counts, OrderCounts { misplaced: 0, missing: 1, told: 0 });
        order.pass(streams.at(0), &(2..4)); // Numbers 4 and 6.
        order.enter(8, said(8));
        assert_eq!(order.counts, OrderCounts { misplaced: 0, missing: 1, told: 2 });
        order.enter(3, said(3));
        order.enter(10, said(12));
        order.pass(streams.at(0), &(0..1)); // It was there.
        assert_eq!(order.counts.misplaced, 3);
        let before = order.counts;
        order.pass(Stream { kind: StreamKind::Reliable, number: 4 }, &(0..1));
        assert_eq!(order.counts, before, "another workload's");
    }
}
