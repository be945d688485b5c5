//! Ordered streams on their way in: messages that came before their turn wait for it here.
//!
//! A message whose turn it is passes without a stop, in the buffer it arrived in. What comes early
//! is copied and waits: no longer than until what is missing came, or, in a lossy stream, until it
//! is taken for lost and the application is told of the gap. Streams do not wait for each other.

use std::collections::BTreeMap;
use std::ops::Range;

use super::options::Stream;
use crate::buffer::Block;
use crate::limits::{
    EARLY_PIECE_OVERHEAD, ESCROW_MESSAGES_MAX, ESCROW_PATIENCE, ESCROW_ROUND_TRIPS,
};
use crate::protocol::wire::BodyKind;
use crate::time::{Duration, Instant};

/// A packet's messages that wait for their turn.
#[derive(Debug)]
pub struct Early {
    /// The first transaction.
    pub transaction: u64,
    /// How many messages.
    pub count: u32,
    /// How they are encoded.
    pub kind: BodyKind,
    /// Their bytes.
    pub body: Block,
}

/// Where messages of a stream stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Their turn has not come.
    Early,
    /// The stream went on without them.
    Passed,
    /// More would wait than the stream may hold back.
    TooFar,
    /// It is their turn.
    Turn,
}

#[derive(Debug, Default)]
struct State {
    /// Index of the message whose turn it is.
    next: u64,
    early: BTreeMap<u64, Early>,
    /// Since when the message whose turn it is is missing while others wait.
    waits_since: Option<Instant>,
}

/// What messages of `len` bytes take of a memory of `budget` bytes, while they wait. As many as may
/// be sent at all may also wait, if nothing else does: a lossy stream that cannot keep what comes
/// after a gap would never go on.
fn cost(len: usize, budget: u64) -> u64 {
    let len = len as u64;
    (len + EARLY_PIECE_OVERHEAD as u64).min(budget.max(len))
}

/// Every ordered stream of one direction of an association.
#[derive(Debug)]
pub struct Escrow {
    /// By the low bits of an order index; streams of which nothing came take no more than a place.
    streams: Vec<Option<Box<State>>>,
    /// Lossy streams that wait.
    waiting: Vec<Stream>,
    /// Bytes that wait, and may wait.
    held: u64,
    budget: u64,
    /// How long a lossy stream waits for what it misses.
    patience: Duration,
}

impl Escrow {
    /// Nothing yet; `budget` bytes may wait in all streams together.
    pub fn new(budget: u64) -> Self {
        Self {
            streams: Vec::new(),
            waiting: Vec::new(),
            held: 0,
            budget,
            patience: ESCROW_PATIENCE,
        }
    }

    /// Judges messages from order index `order` that would take `len` bytes while they wait.
    pub fn judge(&mut self, order: u64, len: usize) -> Place {
        let index = Stream::index_of(order);
        let is_too_long = self.held + cost(len, self.budget) > self.budget;
        let stream = Stream::of_order(order);
        let state = self.state(stream);
        // A lossy stream's sender may have given up any number of messages in a row.
        let is_too_far = if stream.is_lossy() {
            state.early.len() as u64 >= ESCROW_MESSAGES_MAX
        } else {
            index >= state.next + ESCROW_MESSAGES_MAX
        };
        if index < state.next {
            Place::Passed
        } else if index == state.next {
            Place::Turn
        } else if is_too_long || is_too_far {
            Place::TooFar
        } else {
            Place::Early
        }
    }

    /// The messages whose turn it was are handed over.
    pub fn pass(&mut self, now: Instant, order: u64, count: u32) {
        let state = self.state(Stream::of_order(order));
        state.next = Stream::index_of(order) + u64::from(count);
        state.waits_since = (!state.early.is_empty()).then_some(now);
    }

    /// The path's round trip, of which what is sent again takes more than one.
    pub fn on_round_trip(&mut self, round_trip: Duration) {
        self.patience = round_trip.saturating_mul(ESCROW_ROUND_TRIPS).max(ESCROW_PATIENCE);
    }

    /// Keeps messages that came early.
    pub fn keep(&mut self, now: Instant, order: u64, messages: Early) {
        let stream = Stream::of_order(order);
        self.held += cost(messages.body.len(), self.budget);
        let state = self.state(stream);
        let before = state.early.insert(Stream::index_of(order), messages);
        state.waits_since.get_or_insert(now);
        self.held -= before.map_or(0, |before| cost(before.body.len(), self.budget));
        if stream.is_lossy() && !self.waiting.contains(&stream) {
            self.waiting.push(stream);
        }
    }

    /// Messages of a stream that waited and whose turn it is now, with their order index.
    pub fn next_early(&mut self, now: Instant, stream: Stream) -> Option<(u64, Early)> {
        loop {
            let state = self.state(stream);
            let first = state.early.first_entry().filter(|first| *first.key() <= state.next)?;
            let (index, messages) = first.remove_entry();
            let is_its_turn = index == state.next;
            if state.early.is_empty() {
                state.waits_since = None;
            }
            self.held -= cost(messages.body.len(), self.budget);
            // What lies below the turn overlapped others: no honest sender's messages do.
            if is_its_turn {
                let order = stream.order(index);
                self.pass(now, order, messages.count);
                return Some((order, messages));
            }
        }
    }

    /// Gives up what a lossy stream misses for too long. Returns the stream and the places that
    /// stay empty; what waited behind them has its turn. Call again until there is none.
    pub fn poll_gap(&mut self, now: Instant) -> Option<(Stream, Range<u64>)> {
        let (mut at, patience) = (0, self.patience);
        while let Some(&stream) = self.waiting.get(at) {
            let state = self.state(stream);
            let Some(since) = state.waits_since else {
                self.waiting.swap_remove(at);
                continue;
            };
            if since + patience <= now {
                let first = *state.early.first_key_value().expect("others wait").0;
                let missing = state.next..first;
                state.next = first;
                state.waits_since = Some(now);
                return Some((stream, missing));
            }
            at += 1;
        }
        None
    }

    /// When [`Escrow::poll_gap`] will find something.
    pub fn next_timeout(&self) -> Option<Instant> {
        let since = |stream: &Stream| self.get(*stream)?.waits_since;
        self.waiting.iter().filter_map(since).min().map(|since| since + self.patience)
    }

    /// Bytes that wait in all streams; never more than the budget.
    pub fn held(&self) -> u64 {
        self.held
    }

    fn state(&mut self, stream: Stream) -> &mut State {
        let place = usize::try_from(stream.order(0)).expect("ten bits");
        if self.streams.len() <= place {
            self.streams.resize_with(place + 1, || None);
        }
        self.streams[place].get_or_insert_default()
    }

    fn get(&self, stream: Stream) -> Option<&State> {
        let place = usize::try_from(stream.order(0)).expect("ten bits");
        self.streams.get(place)?.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::options::StreamKind;
    use super::*;
    use crate::buffer::Blocks;

    const NOW: Instant = Instant::from_nanos(1_000);
    const RELIABLE: Stream = Stream { kind: StreamKind::Reliable, number: 3 };
    const LOSSY: Stream = Stream { kind: StreamKind::Lossy, number: 3 };

    /// Delivers what arrives; returns the indices in the order of their delivery.
    fn arrive(escrow: &mut Escrow, now: Instant, stream: Stream, index: u64) -> Vec<u64> {
        let order = stream.order(index);
        let mut delivered = Vec::new();
        match escrow.judge(order, 1) {
            Place::Turn => {
                escrow.pass(now, order, 1);
                delivered.push(index);
                let early = std::iter::from_fn(|| escrow.next_early(now, stream));
                delivered.extend(early.map(|(_, early)| early.transaction));
            }
            Place::Early => {
                let body = Blocks::new(usize::MAX).take(1);
                let kind = BodyKind::Raw;
                escrow.keep(now, order, Early { transaction: index, count: 1, kind, body });
            }
            Place::Passed | Place::TooFar => {}
        }
        delivered
    }

    #[test]
    fn lossy_stream_goes_on_after_its_patience_and_tells_the_gap() {
        // PROTOCOL 6.26
        let mut escrow = Escrow::new(100 * cost(1, u64::MAX));
        assert_eq!(arrive(&mut escrow, NOW, LOSSY, 0), [0]);
        assert!(arrive(&mut escrow, NOW, LOSSY, 3).is_empty());
        assert!(arrive(&mut escrow, NOW, RELIABLE, 3).is_empty());
        assert_eq!(escrow.next_timeout(), Some(NOW + ESCROW_PATIENCE));
        assert_eq!(escrow.poll_gap(NOW), None);
        let later = NOW + ESCROW_PATIENCE;
        assert_eq!(escrow.poll_gap(later), Some((LOSSY, 1..3)));
        assert_eq!(escrow.next_early(later, LOSSY).unwrap().1.transaction, 3);
        assert_eq!(escrow.poll_gap(later), None);
        assert_eq!(escrow.judge(LOSSY.order(2), 1), Place::Passed);
        assert_eq!(arrive(&mut escrow, later, LOSSY, 4), [4]);
        assert_eq!(escrow.next_timeout(), None);
    }

    #[test]
    fn messages_that_overlap_leave_no_gap_to_wait_for() {
        // PROTOCOL 6.26
        let mut escrow = Escrow::new(100 * cost(1, u64::MAX));
        for (index, count) in [(5, 1), (3, 4)] {
            let body = Blocks::new(usize::MAX).take(1);
            let early = Early { transaction: index, count, kind: BodyKind::Bundle, body };
            escrow.keep(NOW, LOSSY.order(index), early);
        }
        escrow.pass(NOW, LOSSY.order(0), 3);
        assert_eq!(escrow.next_early(NOW, LOSSY).unwrap().1.count, 4);
        assert!(escrow.next_early(NOW, LOSSY).is_none());
        let later = NOW + ESCROW_PATIENCE;
        assert_eq!((escrow.next_timeout(), escrow.poll_gap(later)), (None, None));
    }

    #[test]
    fn escrow_is_bounded() {
        // PROTOCOL 6.25
        let mut escrow = Escrow::new(cost(100, u64::MAX));
        assert_eq!(escrow.judge(RELIABLE.order(ESCROW_MESSAGES_MAX - 1), 9), Place::Early);
        assert_eq!(escrow.judge(RELIABLE.order(ESCROW_MESSAGES_MAX), 9), Place::TooFar);
        assert_eq!(escrow.judge(RELIABLE.order(1), 229), Place::TooFar);
        assert_eq!(escrow.judge(RELIABLE.order(0), 229), Place::Turn);
        // The smallest costs more than its bytes.
        let mut escrow = Escrow::new(1_000);
        for index in 1..1_000 {
            let body = Blocks::new(usize::MAX).take(0);
            let early = Early { transaction: index, count: 1, kind: BodyKind::Raw, body };
            if escrow.judge(RELIABLE.order(index), 0) == Place::Early {
                escrow.keep(NOW, RELIABLE.order(index), early);
            }
        }
        assert_eq!(escrow.held(), 7 * cost(0, u64::MAX));
    }

    #[test]
    fn lossy_stream_goes_on_with_a_message_that_takes_all_memory() {
        // PROTOCOL 6.25, 6.26
        let mut escrow = Escrow::new(2_000);
        let body = Blocks::new(usize::MAX).take(2_000);
        assert_eq!(escrow.judge(LOSSY.order(1), 2_001), Place::TooFar);
        assert_eq!(escrow.judge(LOSSY.order(1), 2_000), Place::Early);
        let early = Early { transaction: 1, count: 1, kind: BodyKind::Raw, body };
        escrow.keep(NOW, LOSSY.order(1), early);
        assert_eq!((escrow.held(), escrow.judge(LOSSY.order(2), 0)), (2_000, Place::TooFar));
        let later = NOW + ESCROW_PATIENCE;
        assert_eq!(escrow.poll_gap(later), Some((LOSSY, 0..1)));
        assert!(escrow.next_early(later, LOSSY).is_some());
        assert_eq!(escrow.held(), 0);
    }

    #[test]
    fn lossy_stream_goes_on_however_many_its_sender_gave_up() {
        // PROTOCOL 6.25, 6.26
        let mut escrow = Escrow::new(u64::MAX);
        let far = 10 * ESCROW_MESSAGES_MAX;
        for index in far..far + ESCROW_MESSAGES_MAX {
            assert!(arrive(&mut escrow, NOW, LOSSY, index).is_empty());
        }
        let beyond = far + ESCROW_MESSAGES_MAX;
        assert_eq!(escrow.judge(LOSSY.order(beyond), 1), Place::TooFar, "as many as may wait do");
        let later = NOW + ESCROW_PATIENCE;
        assert_eq!(escrow.poll_gap(later), Some((LOSSY, 0..far)));
        let waited = std::iter::from_fn(|| escrow.next_early(later, LOSSY));
        assert!(waited.map(|(_, early)| early.transaction).eq(far..beyond));
        assert_eq!(arrive(&mut escrow, later, LOSSY, beyond), [beyond]);
    }

    proptest! {
        // PROTOCOL 6.25
        #[test]
        fn reliable_streams_deliver_each_message_once_in_order_whatever_the_order_of_arrival(
            arrivals in prop::collection::vec((0u8..3, 0u64..20), 0..200),
        ) {
            let mut escrow = Escrow::new(100 * cost(1, u64::MAX));
            let mut seen = std::collections::BTreeSet::new();
            let mut delivered = vec![Vec::new(); 3];
            for (number, index) in arrivals {
                let stream = Stream { kind: StreamKind::Reliable, number };
                if seen.insert((number, index)) {
                    delivered[number as usize].extend(arrive(&mut escrow, NOW, stream, index));
                }
            }
            for (number, delivered) in (0u8..).zip(delivered) {
                let run = (0..).take_while(|&index| seen.contains(&(number, index)));
                prop_assert_eq!(delivered, run.collect::<Vec<u64>>());
            }
        }
    }
}
