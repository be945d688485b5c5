//! When messages are due and how long they are: the load as it is meant to be, whatever the
//! engine makes of it.
//!
//! An open-loop schedule fixes the times before the first message is sent. A stall of the engine
//! does not move them, so what had to wait shows its whole wait as latency instead of
//! disappearing (coordinated omission, as the HdrHistogram papers call it).

use crate::payload::mix;

/// Nanoseconds in a second.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// How the load is offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pace {
    /// So many outstanding on each session; the next goes out when one ends.
    Closed(u32),
    /// As fast as the engine takes them.
    Max,
    /// So many a second over all sessions, on a fixed schedule.
    PerSecond(u64),
}

impl Pace {
    /// Whether latency counts from the schedule rather than from the moment of sending.
    pub(crate) const fn is_scheduled(self) -> bool {
        matches!(self, Self::PerSecond(_))
    }
}

/// The times at which the messages of one shard are due: an arithmetic progression kept exact by
/// carrying the remainder, so that a rate which does not divide a second does not drift.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Schedule {
    next: u64,
    interval: u64,
    remainder: u64,
    /// What the remainders have added up to, in units of a nanosecond / `rate`.
    carried: u64,
    rate: u64,
}

impl Schedule {
    /// `rate` messages a second from `start` on, of which this shard sends every `shards`th,
    /// beginning with the one numbered `shard`. `rate` and `shards` are at least 1.
    pub(crate) fn new(start: u64, rate: u64, shard: u64, shards: u64) -> Self {
        assert!(rate > 0 && shards > 0, "the command line allows neither");
        let mut schedule = Self {
            next: start,
            interval: SECOND / rate,
            remainder: SECOND % rate,
            carried: 0,
            rate,
        };
        for _ in 0..shard {
            schedule.advance();
        }
        let stride = u128::from(SECOND) * u128::from(shards);
        let rate_wide = u128::from(rate);
        schedule.interval = u64::try_from(stride / rate_wide).unwrap_or(u64::MAX);
        schedule.remainder = u64::try_from(stride % rate_wide).expect("less than the rate");
        schedule
    }

    /// When the next message is due.
    #[inline]
    pub(crate) const fn due(&self) -> u64 {
        self.next
    }

    /// Moves on to the message after.
    #[inline]
    pub(crate) fn advance(&mut self) {
        self.next = self.next.saturating_add(self.interval);
        self.carried += self.remainder;
        if self.carried >= self.rate {
            self.carried -= self.rate;
            self.next = self.next.saturating_add(1);
        }
    }

    /// How many were due before `end` and are still ahead: the schedule's place is its next
    /// message, so these were never offered.
    pub(crate) fn due_before(&self, end: u64) -> u64 {
        let span = u128::from(end.saturating_sub(self.next));
        if span == 0 {
            return 0;
        }
        // Times of the form `next + floor((carried + k * step) / rate)` are below `end` while
        // `k * step < span * rate - carried`.
        let rate = u128::from(self.rate);
        let step = u128::from(self.interval) * rate + u128::from(self.remainder);
        let room = span * rate - u128::from(self.carried);
        u64::try_from(room.div_ceil(step)).unwrap_or(u64::MAX)
    }
}

/// How long generated messages are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sizes {
    /// Shortest, in bytes.
    pub(crate) min: usize,
    /// Longest, in bytes; not below `min`.
    pub(crate) max: usize,
}

impl Sizes {
    /// The length of message `number`: spread evenly between the two, and the same whenever it
    /// is asked for, so that a message offered again has not changed.
    #[inline]
    pub(crate) fn of(self, seed: u64, number: u64) -> usize {
        if self.min == self.max {
            return self.min;
        }
        let choices = (self.max - self.min + 1) as u64;
        let scaled = u128::from(mix(seed ^ number.wrapping_mul(3))) * u128::from(choices);
        self.min + usize::try_from(scaled >> 64).expect("below the number of choices")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_rate_that_does_not_divide_a_second_does_not_drift() {
        let mut schedule = Schedule::new(1_000, 3, 0, 1);
        let mut times = Vec::new();
        for _ in 0..=9 {
            times.push(schedule.due() - 1_000);
            schedule.advance();
        }
        assert_eq!(times[..4], [0, 333_333_333, 666_666_666, 1_000_000_000]);
        assert_eq!(times[9], 3 * SECOND);
    }

    #[test]
    fn rates_beyond_a_message_a_nanosecond_still_move_on() {
        let mut schedule = Schedule::new(0, 3 * SECOND, 0, 1);
        for _ in 0..9 {
            schedule.advance();
        }
        assert_eq!(schedule.due(), 3);
    }

    #[test]
    fn sizes_stay_in_bounds_reach_both_ends_and_do_not_change() {
        let sizes = Sizes { min: 10, max: 13 };
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..1_000 {
            let size = sizes.of(5, number);
            assert_eq!(size, sizes.of(5, number));
            seen.insert(size);
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [10, 11, 12, 13]);
    }

    proptest! {
        #[test]
        fn shards_share_the_schedule_without_gap_or_overlap(
            rate in 1_u64..5_000_000_000, shards in 1_u64..6
        ) {
            let mut whole = Schedule::new(7, rate, 0, 1);
            let mut parts: Vec<_> =
                (0..shards).map(|shard| Schedule::new(7, rate, shard, shards)).collect();
            for number in 0..200_u64 {
                let part = &mut parts[usize::try_from(number % shards).unwrap()];
                prop_assert!(part.due().abs_diff(whole.due()) <= 1);
                part.advance();
                whole.advance();
            }
        }

        #[test]
        fn what_is_due_before_the_end_is_what_stepping_would_count(
            rate in 1_u64..3_000_000_000, steps in 0_u64..50, span in 0_u64..3_000
        ) {
            let mut schedule = Schedule::new(0, rate, 0, 1);
            for _ in 0..steps {
                schedule.advance();
            }
            let end = schedule.due().saturating_add(span);
            let counted = schedule.due_before(end);
            let mut stepped = 0;
            while schedule.due() < end {
                schedule.advance();
                stepped += 1;
            }
            prop_assert_eq!(counted, stepped);
        }
    }
}
