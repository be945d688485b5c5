//! Seeded randomness: the operating system is asked once, at start, outside the protocol.
//!
//! The generator overwrites its key with its own output at each refill and erases what it hands
//! out, so a later look into memory does not tell earlier ephemeral keys ("fast key erasure").
//! From the same seed it always gives the same bytes, which is what makes a simulated run repeat.

use zeroize::Zeroize;

use super::agree::KEY_LEN;

/// Output bytes a refill.
const BLOCK_LEN: usize = 512 - KEY_LEN;

/// A cryptographically secure, reproducible generator.
pub struct Random {
    key: [u8; KEY_LEN],
    block: [u8; BLOCK_LEN],
    /// Bytes of `block` already handed out and erased.
    used: usize,
}

impl Random {
    /// A generator whose whole output follows from `seed`.
    pub fn from_seed(seed: [u8; KEY_LEN]) -> Self {
        Self { key: seed, block: [0; BLOCK_LEN], used: BLOCK_LEN }
    }

    /// Fills `out` with random bytes.
    pub fn fill(&mut self, mut out: &mut [u8]) {
        while !out.is_empty() {
            if self.used == BLOCK_LEN {
                self.refill();
            }
            let len = out.len().min(BLOCK_LEN - self.used);
            let (now, later) = out.split_at_mut(len);
            let taken = &mut self.block[self.used..self.used + len];
            now.copy_from_slice(taken);
            taken.zeroize();
            self.used += len;
            out = later;
        }
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }

    /// A random number.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    /// A random number below `bound`, which must not be zero. The bias is below `bound / 2^64`.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below zero");
        let scaled = (u128::from(self.u64()) * u128::from(bound)) >> 64;
        u64::try_from(scaled).expect("less than the bound")
    }

    fn refill(&mut self) {
        let mut output = blake3::Hasher::new_keyed(&self.key).finalize_xof();
        output.fill(&mut self.key);
        output.fill(&mut self.block);
        self.used = 0;
    }
}

impl Drop for Random {
    fn drop(&mut self) {
        self.key.zeroize();
        self.block.zeroize();
    }
}

impl core::fmt::Debug for Random {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Random").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_gives_same_bytes_however_they_are_drawn() {
        let mut whole = [0; 2_000];
        Random::from_seed([1; 32]).fill(&mut whole);
        let mut pieces = Random::from_seed([1; 32]);
        let mut drawn = Vec::new();
        for len in (1..).take_while(|len| len * (len + 1) / 2 <= whole.len()) {
            let mut piece = vec![0; len];
            pieces.fill(&mut piece);
            drawn.extend(piece);
        }
        assert_eq!(drawn, whole[..drawn.len()]);
        assert_ne!(Random::from_seed([2; 32]).u64(), Random::from_seed([1; 32]).u64());
    }

    #[test]
    fn bytes_handed_out_are_erased() {
        let mut random = Random::from_seed([1; 32]);
        let drawn: [u8; 64] = random.bytes();
        assert!(!random.block.windows(16).any(|window| window == &drawn[..16]));
        assert_eq!(random.block[..64], [0; 64]);
        assert_ne!(random.key, [1; 32]);
    }

    #[test]
    fn numbers_below_a_bound_reach_every_value_and_no_other() {
        let mut random = Random::from_seed([3; 32]);
        let mut seen = [0_u32; 7];
        for _ in 0..7_000 {
            seen[usize::try_from(random.below(7)).expect("small")] += 1;
        }
        assert!(seen.iter().all(|&count| (800..1_200).contains(&count)), "{seen:?}");
        assert_eq!(random.below(1), 0);
    }
}
