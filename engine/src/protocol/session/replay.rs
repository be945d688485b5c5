//! Which packet numbers have been seen: a window of bits that slides over 64-bit numbers.
//!
//! After RFC 6479: bits live in words that are reused as a ring, and moving the window forward
//! clears whole words. One word more than the window needs is kept, so that the word which is
//! partly old and partly new never loses a bit of the window. Numbers never wrap; nothing here
//! compares modulo anything.

use crate::limits::REPLAY_WINDOW;

#[expect(clippy::cast_possible_truncation, reason = "a window of thousands")]
const WORDS: usize = REPLAY_WINDOW as usize / 64 + 1;

/// The packet numbers seen, as far back as [`REPLAY_WINDOW`].
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    /// One more than the largest number seen.
    end: u64,
    words: [u64; WORDS],
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self { end: 0, words: [0; WORDS] }
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
        self.words[word_of(number)] & bit_of(number) == 0
    }

    /// Whether `number` is above every number seen.
    pub const fn is_newest(&self, number: u64) -> bool {
        number >= self.end
    }

    /// Records `number`, which [`Self::is_new`] said is new.
    pub fn mark(&mut self, number: u64) {
        assert!(number != u64::MAX, "the last number is refused before this");
        if number >= self.end {
            // From the word after the one that holds the newest bit, up to the new newest.
            let first = if self.end == 0 { 0 } else { (self.end - 1) / 64 + 1 };
            let last = number / 64;
            let words = WORDS as u64;
            for word in first.max(last.saturating_sub(words - 1))..=last {
                self.words[ring(word)] = 0;
            }
            self.end = number + 1;
        }
        self.words[word_of(number)] |= bit_of(number);
    }
}

fn word_of(number: u64) -> usize {
    ring(number / 64)
}

fn ring(word: u64) -> usize {
    usize::try_from(word % WORDS as u64).expect("below the number of words")
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
