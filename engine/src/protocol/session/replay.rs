//! Which packet numbers have been seen: a window of bits that slides over 64-bit numbers.
//!
//! After RFC 6479: bits live in words that are reused as a ring, and moving the window forward
//! clears whole words. One word more than the window needs is kept, so that the word which is
//! partly old and partly new never loses a bit of the window. Numbers never wrap; nothing here
//! compares modulo anything.
//!
//! A session begins with the ring's first word alone, which holds every number below 64. The ring
//! is there from the first number beyond: an idle session needs none of it.

use core::ops::RangeInclusive;

use crate::limits::REPLAY_WINDOW;

#[expect(clippy::cast_possible_truncation, reason = "a window of thousands")]
const WORDS: usize = REPLAY_WINDOW as usize / 64 + 1;

/// The packet numbers seen, as far back as [`REPLAY_WINDOW`].
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    /// One more than the largest number seen.
    end: u64,
    bits: Bits,
}

#[derive(Clone, Debug)]
enum Bits {
    /// Word 0, while nothing beyond it was seen.
    First(u64),
    Ring(Box<[u64; WORDS]>),
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self { end: 0, bits: Bits::First(0) }
    }
}

impl ReplayWindow {
    /// Whether `number` is new. A number too old to tell is not.
    pub fn is_new(&self, number: u64) -> bool {
        if number >= self.end {
            // The last number of all is never used: there would be none to follow it.
            return number != u64::MAX;
        }
        if self.end - number > REPLAY_WINDOW {
            return false;
        }
        self.bits.word(number) & bit_of(number) == 0
    }

    /// Whether `number` is above every number seen.
    pub const fn is_newest(&self, number: u64) -> bool {
        number >= self.end
    }

    /// Records `number`, which [`Self::is_new`] said is new.
    pub fn mark(&mut self, number: u64) {
        assert!(number != u64::MAX, "the last number is refused before this");
        if number - number % 64 >= self.end {
            return self.mark_in_new_word(number);
        }
        self.end = self.end.max(number + 1);
        *self.bits.word_mut(number) |= bit_of(number);
    }

    /// The same for a number whose word has none yet. Apart, because it comes once in 64 packets.
    #[inline(never)]
    fn mark_in_new_word(&mut self, number: u64) {
        self.bits.clear(self.end.div_ceil(64)..=number / 64);
        self.end = number + 1;
        *self.bits.word_mut(number) = bit_of(number);
    }
}

impl Bits {
    fn word(&self, number: u64) -> u64 {
        match self {
            Self::First(word) => *word,
            Self::Ring(words) => words[word_of(number)],
        }
    }

    fn word_mut(&mut self, number: u64) -> &mut u64 {
        match self {
            Self::First(word) => word,
            Self::Ring(words) => &mut words[word_of(number)],
        }
    }

    /// Clears `fresh` words, up to the one to which the window moves.
    fn clear(&mut self, fresh: RangeInclusive<u64>) {
        let (first, last) = fresh.into_inner();
        if let Self::First(word) = *self
            && last > 0
        {
            let mut words = Box::new([0; WORDS]);
            words[0] = word;
            *self = Self::Ring(words);
        }
        for word in first.max(last.saturating_sub(WORDS as u64 - 1))..=last {
            *self.word_mut(word * 64) = 0;
        }
    }
}

fn word_of(number: u64) -> usize {
    usize::try_from(number / 64 % WORDS as u64).expect("below the number of words")
}

const fn bit_of(number: u64) -> u64 {
    1 << (number % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The same by the book: all numbers, and the largest.
    #[derive(Default)]
    struct Naive(BTreeSet<u64>);

    impl Naive {
        fn is_new(&self, number: u64) -> bool {
            let end = self.0.last().map_or(0, |last| last + 1);
            number != u64::MAX && number + REPLAY_WINDOW >= end && !self.0.contains(&number)
        }
    }

    fn step() -> impl Strategy<Value = u64> {
        prop_oneof![
            8 => 0..200_u64,
            4 => 0..2 * REPLAY_WINDOW,
            2 => 0..4 * REPLAY_WINDOW,
            1 => 0..u64::MAX / 64,
        ]
    }

    proptest! {
        // PROTOCOL 4.9
        #[test]
        fn window_equals_a_set_of_all_numbers(
            start in prop_oneof![Just(0), 0..1_000_000_u64, Just(u64::MAX - 20 * REPLAY_WINDOW)],
            steps in prop::collection::vec((any::<bool>(), step()), 1..400),
        ) {
            let (mut window, mut naive) = (ReplayWindow::default(), Naive::default());
            let mut at = start;
            for (forward, step) in steps {
                at = if forward { at.saturating_add(step) } else { at.saturating_sub(step) };
                // `number + REPLAY_WINDOW` of the twin must not overflow.
                let number = at.min(u64::MAX - 2 * REPLAY_WINDOW);
                prop_assert_eq!(window.is_new(number), naive.is_new(number), "{}", number);
                if naive.is_new(number) {
                    window.mark(number);
                    naive.0.insert(number);
                }
            }
        }
    }

    #[test]
    fn ring_is_there_from_the_first_number_that_one_word_cannot_hold() {
        let mut window = ReplayWindow::default();
        for number in [3, 63, 0] {
            window.mark(number);
        }
        assert!(matches!(window.bits, Bits::First(_)));
        window.mark(64);
        assert!(matches!(window.bits, Bits::Ring(_)));
        let seen: Vec<u64> = (0..70).filter(|&number| !window.is_new(number)).collect();
        assert_eq!(seen, [0, 3, 63, 64]);
    }

    // PROTOCOL 4.9
    #[test]
    fn oldest_number_of_the_window_is_told_and_the_one_before_is_not() {
        let mut window = ReplayWindow::default();
        window.mark(REPLAY_WINDOW + 62);
        assert!(window.is_new(63));
        assert!(!window.is_new(62));
        window.mark(63);
        assert!(!window.is_new(63));
        assert!(!window.is_new(u64::MAX));
    }
}
