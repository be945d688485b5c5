//! Small seeded randomness for faults: the same seed gives the same faults on every machine.
//!
//! Nothing here is secret, and nothing here is meant to be. Whole numbers only: a logarithm of
//! the C library may differ in its last bit between two hosts, and then a seed would not replay.

use crate::time::Duration;

/// A probability in parts per million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chance(u32);

impl Chance {
    /// Never happens.
    pub const NEVER: Self = Self(0);
    /// Always happens.
    pub const ALWAYS: Self = Self(1_000_000);

    /// `parts` in a million; more than a million is a certainty.
    pub const fn parts_per_million(parts: u32) -> Self {
        if parts > Self::ALWAYS.0 { Self::ALWAYS } else { Self(parts) }
    }

    /// `percent` in a hundred; more than a hundred is a certainty.
    pub const fn percent(percent: u32) -> Self {
        Self::parts_per_million(percent.saturating_mul(10_000))
    }

    /// The probability in parts per million.
    pub const fn as_parts_per_million(self) -> u32 {
        self.0
    }
}

/// A seeded generator: xoshiro256++, whose state is filled by splitmix64.
#[derive(Clone, Debug)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// The generator of `seed`; every seed, zero too, is a good one.
    pub fn new(seed: u64) -> Self {
        let mut word = seed;
        let state = [(); 4].map(|()| {
            word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        });
        Self { state }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// A number from 0 up to, not including, `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.next_u64()) * u128::from(bound);
        u64::try_from(product >> 64).expect("the high half of a 128-bit product has 64 bits")
    }

    /// An index into something of `len` elements; 0 if it is empty.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a length that is a usize")
    }

    /// Whether something of probability `chance` happens this time.
    pub fn happens(&mut self, chance: Chance) -> bool {
        // Never is free of a draw, so that a fault left out does not move those left in.
        chance != Chance::NEVER && self.below(u64::from(Chance::ALWAYS.0)) < u64::from(chance.0)
    }

    /// A span from `low` to `high`, both included, evenly.
    pub fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let width = high.saturating_sub(low).as_nanos();
        low + Duration::from_nanos(self.below(width.saturating_add(1)))
    }

    /// A span with an exponential tail around `mean`, from about zero to 44 times the mean.
    pub fn exponential(&mut self, mean: Duration) -> Duration {
        // The leading zeros of a random word are the whole part of -log2(u); what follows the
        // first one bit is, nearly, its fraction. Times ln 2, in 16-bit fixed point.
        const LN_2: u64 = 45_426;
        let word = self.next_u64();
        let zeros = u64::from(word.leading_zeros());
        let fraction = word.checked_shl(word.leading_zeros() + 1).unwrap_or(0) >> 48;
        let log2 = (zeros << 16) + (0x1_0000 - fraction);
        let scaled = u128::from(mean.as_nanos()) * u128::from(log2) * u128::from(LN_2);
        Duration::from_nanos(u64::try_from(scaled >> 32).unwrap_or(u64::MAX))
    }
}

/// The damage of a bad cable or memory cell; a checksum of 16 bits misses some of it.
pub(super) fn flip_one_to_eight_bits(random: &mut Random, bytes: &mut [u8]) {
    for _ in 0..=random.below(8) {
        let at = random.index(bytes.len());
        bytes[at] ^= 1 << random.below(8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_gives_same_numbers_and_another_seed_others() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            [(); 8].map(|()| random.next_u64())
        };
        assert_eq!(draw(0), draw(0));
        assert_ne!(draw(0), draw(1));
    }

    #[test]
    fn chance_comes_true_as_often_as_it_says() {
        let mut random = Random::new(7);
        let hits = (0..100_000).filter(|_| random.happens(Chance::percent(10))).count();
        assert!((9_600..10_400).contains(&hits), "{hits} of 100000 at 10 %");
        assert!(!(0..1000).any(|_| random.happens(Chance::NEVER)));
        assert!((0..1000).all(|_| random.happens(Chance::ALWAYS)));
    }

    #[test]
    fn exponential_keeps_its_mean() {
        let mut random = Random::new(11);
        let sum: u64 =
            (0..100_000).map(|_| random.exponential(Duration::from_micros(100)).as_nanos()).sum();
        let mean = sum / 100_000;
        assert!((95_000..110_000).contains(&mean), "mean {mean} ns of 100000 ns");
    }

    #[test]
    fn bounds_hold_at_their_edges() {
        let mut random = Random::new(3);
        assert_eq!(random.below(0), 0);
        assert_eq!(random.below(1), 0);
        let (low, high) = (Duration::from_nanos(5), Duration::from_nanos(6));
        let spans: Vec<u64> = (0..64).map(|_| random.between(low, high).as_nanos()).collect();
        assert!(spans.iter().all(|nanos| (5..=6).contains(nanos)));
        assert!(spans.contains(&5) && spans.contains(&6));
    }
}
