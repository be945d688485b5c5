//! One bit for each transaction in a moving window: the whole memory of duplicate detection.
//!
//! Transactions are numbered in order and credit forbids a spread wider than the window, so a
//! ring of bits above a low mark needs no timer, no list and no hash, and has no false positive,
//! ever (PROTOCOL 6.4). Both sides use it: a receiver's bit says *seen*, a sender's
//! *resolved*; below the low mark every number counts as set.
//!
//! A word is enough while the numbers in question lie within 64 of each other. Memory for the whole
//! window is taken at once with the first number beyond: many associations never need it, and one
//! that does asks once.

use std::ops::Range;

/// A window of `capacity` bits over the numbers from [`BitRing::low`] up.
#[derive(Debug)]
pub struct BitRing {
    /// One, or as many as the window needs.
    words: Box<[u64]>,
    /// Numbers in the window.
    capacity: u64,
    low: u64,
}

impl BitRing {
    /// A window with every bit clear, from number zero.
    ///
    /// # Panics
    /// If `capacity` is not a power of two of at least 64.
    pub fn new(capacity: u32) -> Self {
        assert!(capacity.is_power_of_two() && capacity >= 64, "ring of {capacity} bits");
        Self { words: Box::new([0]), capacity: capacity.into(), low: 0 }
    }

    /// Sets every bit of `range`.
    ///
    /// # Panics
    /// If the range reaches past the window. What lies below the low mark is set already.
    #[inline]
    pub fn set(&mut self, range: Range<u64>) {
        assert!(range.end <= self.end(), "set past the window");
        if range.end > self.held() {
            self.take_memory();
        }
        self.for_words(range.start.max(self.low)..range.end, |word, mask| *word |= mask);
    }

    /// Clears the bit of `number`, which must be in the window.
    pub fn clear(&mut self, number: u64) {
        assert!(number >= self.low && number < self.end(), "clear outside the window");
        if number < self.held() {
            self.for_words(number..number + 1, |word, mask| *word &= !mask);
        }
    }

    /// Moves the low mark up over every set bit it meets, but not past `limit`.
    pub fn advance(&mut self, limit: u64) {
        while self.low < limit {
            let (index, shift) = self.place(self.low);
            let run = u64::from((!(self.words[index] >> shift)).trailing_zeros());
            let step = run.min(64 - shift).min(limit - self.low);
            if step == 0 {
                return;
            }
            self.words[index] &= !mask(shift, step);
            self.low += step;
            if step < 64 - shift {
                return;
            }
        }
    }

    /// Moves the low mark to `low`, forgetting what lay below; back is not possible.
    pub fn advance_to(&mut self, low: u64) {
        if low <= self.low {
            return;
        }
        if low >= self.held() {
            self.words.fill(0);
        } else {
            self.for_words(self.low..low, |word, mask| *word &= !mask);
        }
        self.low = low;
    }

    /// The lowest number that is still in question.
    pub fn low(&self) -> u64 {
        self.low
    }

    /// The first number past the window.
    pub fn end(&self) -> u64 {
        self.low.saturating_add(self.capacity)
    }

    /// Whether `number` is set; true below the low mark, false past the window.
    pub fn contains(&self, number: u64) -> bool {
        if number < self.low {
            return true;
        }
        let (index, shift) = self.place(number);
        number < self.held() && (self.words[index] >> shift) & 1 == 1
    }

    /// Whether no number of `range`, which must not reach past the window, is set.
    pub fn is_clear(&self, range: Range<u64>) -> bool {
        range.start >= self.low && self.next_set(range.start, range.end) >= range.end
    }

    /// The first set number in `from..to`, or `to`.
    pub fn next_set(&self, from: u64, to: u64) -> u64 {
        let held = to.min(self.held());
        let found = self.find(from, held, |word| word);
        if found < held { found } else { to }
    }

    /// The first clear number in `from..to`, or `to`.
    pub fn next_clear(&self, from: u64, to: u64) -> u64 {
        let (from, held) = (from.max(self.low), to.min(self.held()));
        let found = self.find(from, held, |word| !word);
        if found < held { found } else { from.max(held).min(to) }
    }

    /// The first number in `from..to` whose bit is set after `view` looked at its word.
    fn find(&self, from: u64, to: u64, view: impl Fn(u64) -> u64) -> u64 {
        let mut at = from;
        while at < to {
            let (index, shift) = self.place(at);
            let ahead = view(self.words[index]) >> shift;
            if ahead != 0 {
                return (at + u64::from(ahead.trailing_zeros())).min(to);
            }
            at += 64 - shift;
        }
        to
    }

    /// One past the last number for whose bit there is memory; what lies beyond is clear.
    fn held(&self) -> u64 {
        self.low.saturating_add(self.words.len() as u64 * 64)
    }

    #[cold]
    fn take_memory(&mut self) {
        let few = self.words[0];
        let len = usize::try_from(self.capacity / 64).expect("a window of thousands");
        self.words = vec![0; len].into_boxed_slice();
        for number in (self.low..self.low + 64).filter(|number| few >> (number % 64) & 1 == 1) {
            let (index, shift) = self.place(number);
            self.words[index] |= 1 << shift;
        }
    }

    fn for_words(&mut self, range: Range<u64>, mut act: impl FnMut(&mut u64, u64)) {
        let mut at = range.start;
        while at < range.end {
            let (index, shift) = self.place(at);
            let step = (64 - shift).min(range.end - at);
            act(&mut self.words[index], mask(shift, step));
            at += step;
        }
    }

    fn place(&self, number: u64) -> (usize, u64) {
        // The word count is a power of two, which makes this a mask.
        let index = (number / 64) & (self.words.len() as u64 - 1);
        (usize::try_from(index).expect("below the word count"), number % 64)
    }
}

/// `step` ones (1 to 64) starting at bit `shift`.
const fn mask(shift: u64, step: u64) -> u64 {
    (u64::MAX >> (64 - step)) << shift
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn everything_below_the_low_mark_counts_as_set() {
        let mut ring = BitRing::new(64);
        ring.advance_to(100);
        assert!(ring.contains(99) && !ring.contains(100) && !ring.contains(1_000));
        assert!(!ring.is_clear(99..101) && ring.is_clear(100..164));
    }

    #[test]
    #[should_panic(expected = "past the window")]
    fn setting_past_the_window_is_our_bug() {
        BitRing::new(64).set(0..65);
    }

    #[test]
    fn memory_for_the_window_is_taken_with_the_first_number_beyond_a_word() {
        let mut ring = BitRing::new(4_096);
        ring.set(0..64);
        ring.clear(200);
        assert_eq!((ring.next_set(64, 300), ring.next_clear(0, 300)), (300, 64));
        ring.clear(63);
        ring.advance(60);
        ring.set(100..102);
        assert_eq!((ring.words.len(), ring.low()), (1, 60), "none lies 64 beyond another");
        ring.set(124..125);
        assert_eq!((ring.words.len(), ring.low()), (64, 60));
        let set = [60, 61, 62, 100, 101, 124];
        assert!((60..4_000).all(|number| ring.contains(number) == set.contains(&number)));
        let mut unused = BitRing::new(4_096);
        unused.advance_to(70);
        unused.advance(80);
        assert_eq!((unused.low(), unused.words.len(), unused.is_clear(70..4_000)), (70, 1, true));
    }

    proptest! {
        #[test]
        fn ring_answers_like_a_set(ops in prop::collection::vec((0u8..5, 0u64..300, 1u64..130), 1..200)) {
            let mut ring = BitRing::new(128);
            let (mut set, mut low) = (BTreeSet::new(), 0u64);
            for (op, offset, count) in ops {
                let from = low + offset % 128;
                let to = (from + count).min(low + 128);
                match op {
                    0 | 1 => { ring.set(from..to); set.extend(from..to); }
                    2 => { ring.clear(from); set.remove(&from); }
                    3 => {
                        ring.advance(to);
                        while low < to && set.remove(&low) { low += 1; }
                    }
                    _ => {
                        let next = low + offset;
                        ring.advance_to(next);
                        low = next;
                        set = set.split_off(&low);
                    }
                }
                prop_assert_eq!(ring.low(), low);
                for number in low.saturating_sub(3)..low + 140 {
                    prop_assert_eq!(ring.contains(number), number < low || set.contains(&number));
                }
                let (from, to) = (low + offset % 128, low + 128);
                prop_assert_eq!(ring.next_set(from, to), set.range(from..to).next().copied().unwrap_or(to));
                prop_assert_eq!(ring.next_clear(from, to), (from..to).find(|n| !set.contains(n)).unwrap_or(to));
            }
        }
    }
}
