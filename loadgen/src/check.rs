//! What the receiving side counts about one session, in constant memory.
//!
//! [`Copies`] is a ring of one small counter a message number. A number ahead of all others
//! opens its slot (and clears what it skips); one within the ring adds to it; one that has left
//! the ring can no longer be told new from repeated and is counted as just that, so no claim
//! rests on it. The ring holds far more numbers than a session may have outstanding, so with an
//! acknowledged service nothing falls out of it.

use raet::limits::TRANSACTIONS_MAX;

use crate::payload::HEADER_LEN;

/// Slots of one session's ring if it is the only one: a MiB.
const RING_LEN_MAX: usize = 1 << 20;
/// Slots of one session's ring at least: twice what may be outstanding.
const RING_LEN_MIN: usize = 2 * TRANSACTIONS_MAX as usize;
/// Bytes that the rings of all sessions of a run may take together, while above their minimum.
const RINGS_LEN_MAX: usize = 1 << 24;

/// How often each of the latest message numbers came.
#[derive(Debug)]
pub(crate) struct Copies {
    ring: Box<[u8]>,
    /// One more than the highest number seen.
    next: u64,
}

/// What one arrival was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrival {
    /// The first of its number.
    New,
    /// A repetition: so many have come with this one (255: that many or more).
    Copy(u8),
    /// Too old to tell.
    Stale,
}

impl Copies {
    /// A ring for one of `sessions` sessions. All its memory is touched here.
    pub(crate) fn new(sessions: usize) -> Self {
        let share = (RINGS_LEN_MAX / sessions.max(1)).max(1);
        let len = (1 << share.ilog2()).clamp(RING_LEN_MIN, RING_LEN_MAX);
        // Filled with something other than zero, so that the pages exist before the timing.
        Self { ring: vec![u8::MAX; len].into_boxed_slice(), next: 0 }
    }

    /// Takes note of one arrival of `number`.
    #[inline]
    pub(crate) fn record(&mut self, number: u64) -> Arrival {
        if number == self.next {
            self.next = number.saturating_add(1);
            *self.slot(number) = 1;
            return Arrival::New;
        }
        self.record_out_of_order(number)
    }

    /// Whether `number` is one ahead of all others.
    pub(crate) const fn is_next(&self, number: u64) -> bool {
        number == self.next
    }

    /// Takes note of the next `count` numbers, of which each came once.
    pub(crate) fn record_next(&mut self, count: u64) {
        for number in self.next..self.next + count {
            *self.slot(number) = 1;
        }
        self.next += count;
    }

    #[cold]
    fn record_out_of_order(&mut self, number: u64) -> Arrival {
        let len = self.ring.len() as u64;
        if number > self.next {
            let skipped = (number - self.next).min(len);
            for missing in number - skipped..number {
                *self.slot(missing) = 0;
            }
            self.next = number;
            return self.record(number);
        }
        if self.next - number > len {
            return Arrival::Stale;
        }
        let slot = self.slot(number);
        *slot = slot.saturating_add(1);
        match *slot {
            1 => Arrival::New,
            copies => Arrival::Copy(copies),
        }
    }

    #[inline]
    fn slot(&mut self, number: u64) -> &mut u8 {
        let mask = self.ring.len() - 1;
        #[expect(clippy::cast_possible_truncation, reason = "masked to the ring's length")]
        let index = number as usize & mask;
        &mut self.ring[index]
    }
}

/// Messages of one part of a run (warm-up, or measured) that arrived.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// Different messages.
    pub(crate) delivered: u64,
    /// Arrivals beyond the first of a message.
    pub(crate) duplicates: u64,
    /// Bytes of the different messages.
    pub(crate) bytes: u64,
}

impl Arrived {
    /// Adds another session's counts.
    pub(crate) fn add(&mut self, other: &Self) {
        self.delivered += other.delivered;
        self.duplicates += other.duplicates;
        self.bytes += other.bytes;
    }
}

/// A hash of a set of messages that does not depend on the order in which they were added: the
/// sum, lane by lane, of their BLAKE3 hashes.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct ContentHash([u64; 4]);

impl ContentHash {
    /// Adds the message that has this hash.
    pub(crate) fn add(&mut self, hash: &blake3::Hash) {
        for (lane, bytes) in self.0.iter_mut().zip(hash.as_bytes().chunks_exact(8)) {
            *lane = lane.wrapping_add(u64::from_le_bytes(bytes.try_into().expect("8 bytes")));
        }
    }

    /// Adds all of another's messages.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (lane, theirs) in self.0.iter_mut().zip(other.0) {
            *lane = lane.wrapping_add(theirs);
        }
    }

    /// 64 lower-case hex digits; of a single hash, as every other program writes it.
    pub(crate) fn to_hex(self) -> String {
        self.0
            .iter()
            .flat_map(|lane| lane.to_le_bytes())
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// What [`Self::to_hex`] wrote.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        let mut lanes = [0; 4];
        for (index, lane) in lanes.iter_mut().enumerate() {
            *lane = u64::from_str_radix(&text[index * 16..(index + 1) * 16], 16).ok()?.swap_bytes();
        }
        Some(Self(lanes))
    }
}

/// What messages hold, as far as both sides must know to verify them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Holding {
    /// A pattern that each message names itself.
    Pattern,
    /// Bytes of a file: both sides hash the messages and compare.
    Bytes,
    /// Bytes of a file in their order: both sides hash the file.
    BytesInOrder,
}

/// The hash that one side of a session keeps over the content of a workload.
#[derive(Clone, Debug)]
pub(crate) enum Hashing {
    /// None: each message is verified by itself.
    Nothing,
    /// Over the set of messages.
    Set(ContentHash),
    /// Over all bytes behind the fronts, one after the other.
    Whole(Box<blake3::Hasher>),
}

impl Hashing {
    /// Nothing hashed yet.
    pub(crate) fn new(holding: Holding) -> Self {
        match holding {
            Holding::Pattern => Self::Nothing,
            Holding::Bytes => Self::Set(ContentHash::default()),
            Holding::BytesInOrder => Self::Whole(Box::default()),
        }
    }

    /// Adds one message, front included.
    #[inline]
    pub(crate) fn add(&mut self, message: &[u8]) {
        match self {
            Self::Nothing => {}
            Self::Set(hash) => hash.add(&blake3::hash(message)),
            Self::Whole(hasher) => {
                hasher.update(message.get(HEADER_LEN..).unwrap_or_default());
            }
        }
    }

    /// The hash of all that was added.
    pub(crate) fn value(&self) -> ContentHash {
        let mut value = ContentHash::default();
        match self {
            Self::Nothing => {}
            Self::Set(hash) => value = *hash,
            Self::Whole(hasher) => value.add(&hasher.finalize()),
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn repetitions_are_counted_and_late_first_arrivals_are_new() {
        let mut copies = Copies::new(1);
        assert_eq!(copies.record(0), Arrival::New);
        assert_eq!(copies.record(5), Arrival::New);
        assert_eq!(copies.record(3), Arrival::New);
        assert_eq!(copies.record(3), Arrival::Copy(2));
        assert_eq!(copies.record(5), Arrival::Copy(2));
        assert_eq!(copies.record(5), Arrival::Copy(3));
    }

    #[test]
    fn numbers_recorded_in_a_row_have_come_once_each() {
        let mut copies = Copies::new(1);
        assert_eq!(copies.record(5), Arrival::New);
        assert!(copies.is_next(6) && !copies.is_next(5));
        copies.record_next(3);
        assert_eq!([5, 6, 8].map(|number| copies.record(number)), [Arrival::Copy(2); 3]);
        assert_eq!([4, 9].map(|number| copies.record(number)), [Arrival::New; 2]);
    }

    #[test]
    fn what_left_the_ring_is_called_stale_and_nothing_else() {
        let mut copies = Copies::new(1);
        assert_eq!(copies.record(0), Arrival::New);
        let far = RING_LEN_MAX as u64;
        assert_eq!(copies.record(far - 1), Arrival::New);
        assert_eq!(copies.record(0), Arrival::Copy(2));
        assert_eq!(copies.record(far), Arrival::New);
        assert_eq!(copies.record(0), Arrival::Stale);
        assert_eq!(copies.record(1), Arrival::New);
        assert_eq!(copies.record(u64::MAX), Arrival::New);
        assert_eq!(copies.record(far), Arrival::Stale);
    }

    #[test]
    fn many_sessions_share_the_memory_down_to_a_minimum() {
        assert_eq!(Copies::new(1).ring.len(), RING_LEN_MAX);
        assert_eq!(Copies::new(64).ring.len(), 1 << 18);
        assert_eq!(Copies::new(100_000).ring.len(), RING_LEN_MIN);
        assert_eq!(Copies::new(usize::MAX).ring.len(), RING_LEN_MIN);
    }

    #[test]
    fn content_hash_ignores_order_and_sees_every_byte() {
        let of = |messages: &[&[u8]]| {
            let mut hash = ContentHash::default();
            messages.iter().for_each(|message| hash.add(&blake3::hash(message)));
            hash
        };
        assert_eq!(of(&[b"one", b"two"]), of(&[b"two", b"one"]));
        assert_ne!(of(&[b"one", b"two"]), of(&[b"one", b"twp"]));
        assert_ne!(of(&[b"one"]), of(&[b"one", b"one"]));
        let mut merged = of(&[b"one"]);
        merged.merge(&of(&[b"two"]));
        assert_eq!(merged, of(&[b"one", b"two"]));
        assert_eq!(ContentHash::from_hex(&merged.to_hex()), Some(merged));
        assert_eq!(ContentHash::from_hex("xyz"), None);
        assert_eq!(of(&[b"one"]).to_hex(), blake3::hash(b"one").to_hex().as_str());
    }

    #[test]
    fn a_file_in_order_has_the_hash_that_others_give_it() {
        let mut hashing = Hashing::new(Holding::BytesInOrder);
        hashing.add(&[&[7; HEADER_LEN][..], b"first "].concat());
        hashing.add(&[&[9; HEADER_LEN][..], b"second"].concat());
        assert_eq!(hashing.value().to_hex(), blake3::hash(b"first second").to_hex().as_str());
    }

    proptest! {
        #[test]
        fn agrees_with_a_map_while_nothing_leaves_the_ring(
            numbers in prop::collection::vec(0_u64..2_000, 0..3_000)
        ) {
            let mut copies = Copies::new(1);
            let mut naive = HashMap::<u64, u8>::new();
            for number in numbers {
                let count = naive.entry(number).or_default();
                *count += 1;
                let expected = if *count == 1 { Arrival::New } else { Arrival::Copy(*count) };
                prop_assert_eq!(copies.record(number), expected);
            }
        }
    }
}
