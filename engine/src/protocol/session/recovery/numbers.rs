//! Hands out packet numbers, and now and then leaves one out.
//!
//! A receiver that acknowledges what it never received can make a sender believe in a path far
//! better than it is. It cannot know which numbers we left out, so sooner or later it acknowledges
//! one of those, and is caught (TRANSPORT 1.3 row 24, RFC 9000 21.4). About one number a window
//! is left out, and at most one is outstanding, so loss detection has one hole to look past.

/// Numbers between two that are left out, at least: a small window must not leave out every
/// second one.
const SKIP_DISTANCE_MIN: u64 = 16;

/// The source of a session's packet numbers.
#[derive(Debug)]
pub(super) struct PacketNumbers {
    next: u64,
    /// The number left out that may still be acknowledged by a liar.
    skipped: Option<u64>,
    skip_at: u64,
    random: u64,
}

impl PacketNumbers {
    /// Numbers from 0 on; `seed` decides which are left out, and must not be known to the peer.
    pub(super) fn new(seed: u64) -> Self {
        let mut numbers = Self { next: 0, skipped: None, skip_at: 0, random: seed };
        numbers.schedule_skip(SKIP_DISTANCE_MIN);
        numbers
    }

    /// The next number. `oldest_in_flight` releases the number left out before; `window` is the
    /// congestion window in packets, asked for only when the next number to leave out is chosen.
    pub(super) fn next(&mut self, oldest_in_flight: u64, window: impl FnOnce() -> u64) -> u64 {
        if self.next == self.skip_at {
            if self.skipped.is_none_or(|skipped| skipped < oldest_in_flight) {
                self.skipped = Some(self.next);
                self.next += 1;
            }
            self.schedule_skip(window());
        }
        let number = self.next;
        self.next += 1;
        number
    }

    /// Whether `first..=last` covers the number left out.
    pub(super) fn skipped_within(&self, first: u64, last: u64) -> bool {
        self.skipped.is_some_and(|skipped| first <= skipped && skipped <= last)
    }

    /// Packets sent after `first` up to and including `last`: the difference of their numbers,
    /// less the one left out between them (TRANSPORT D13).
    pub(super) fn sent_between(&self, first: u64, last: u64) -> u64 {
        last.saturating_sub(first) - u64::from(self.skipped_within(first, last))
    }

    fn schedule_skip(&mut self, window: u64) {
        let window = window.max(SKIP_DISTANCE_MIN);
        self.skip_at = self.next + window / 2 + self.random() % window;
    }

    /// SplitMix64: enough to be unpredictable to someone who sees a few thousand gaps.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // PROTOCOL 5.1
    #[test]
    fn numbers_rise_and_are_never_given_twice() {
        let mut numbers = PacketNumbers::new(7);
        let mut last = None;
        for _ in 0..100_000 {
            let number = numbers.next(u64::MAX, || 100);
            assert!(last.is_none_or(|last| number > last && number - last <= 2));
            last = Some(number);
        }
    }

    // PROTOCOL 5.2
    #[test]
    fn about_one_number_a_window_is_left_out() {
        for (seed, window) in [(1, 32), (2, 100), (3, 1_000)] {
            let mut numbers = PacketNumbers::new(seed);
            let last = (0..100_000).map(|_| numbers.next(u64::MAX, || window)).last();
            let skipped = last.expect("some were given") - 99_999;
            let expected = 100_000 / window;
            assert!(skipped > expected * 3 / 4 && skipped < expected * 5 / 4, "{skipped}");
        }
    }

    // PROTOCOL 5.2
    #[test]
    fn no_second_number_is_left_out_while_the_first_can_still_be_claimed() {
        let mut numbers = PacketNumbers::new(3);
        let given: Vec<u64> = (0..10_000).map(|_| numbers.next(0, || 50)).collect();
        assert_eq!(given.last(), Some(&10_000), "one hole, at or above the oldest in flight");
        let hole = (0..10_000).find(|number| !given.contains(number)).expect("one hole");
        assert!(numbers.skipped_within(0, 10_000));
        assert!(!numbers.skipped_within(0, hole - 1) && !numbers.skipped_within(hole + 1, 10_000));
    }

    // PROTOCOL 5.11
    #[test]
    fn distance_counts_packets_sent_not_numbers() {
        let mut numbers = PacketNumbers::new(3);
        let hole = loop {
            let number = numbers.next(0, || 50);
            if numbers.skipped_within(0, number) {
                break number - 1;
            }
        };
        assert_eq!(numbers.sent_between(hole - 2, hole - 1), 1);
        assert_eq!(numbers.sent_between(hole - 1, hole + 1), 1);
        assert_eq!(numbers.sent_between(hole + 1, hole + 4), 3);
        assert_eq!(numbers.sent_between(9, 3), 0);
    }
}
