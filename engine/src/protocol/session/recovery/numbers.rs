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
    /// congestion window in packets.
    pub(super) fn next(&mut self, oldest_in_flight: u64, window: u64) -> u64 {
        if self.next == self.skip_at {
            if self.skipped.is_none_or(|skipped| skipped < oldest_in_flight) {
                self.skipped = Some(self.next);
                self.next += 1;
            }
            self.schedule_skip(window);
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
