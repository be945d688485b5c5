//! X25519: secrets that erase themselves, and what two of them agree on.
//!
//! The scalar arithmetic is `curve25519-dalek`'s; with the feature `graviola` the assembly of
//! s2n-bignum, in the crate of that name, where the processor has what it needs. Both take the same
//! time for every secret, and say the same of every key. Neither erases what it leaves on the stack. The key
//! types of `crypto_box` stand at the doors (files, sealed notices); within a handshake they are
//! not used, because they leave a copy of their bytes behind when dropped.

use zeroize::Zeroizing;

use super::random::Random;

/// Bytes of a public key, a secret key and an agreed secret.
pub const KEY_LEN: usize = 32;

/// The peer's point has a small order: the agreed secret would be zero, whatever our key is
/// (RFC 7748 6.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LowOrderPoint;

/// An X25519 secret key, static or ephemeral; erased when dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<[u8; KEY_LEN]>);

impl Secret {
    /// The secret of these bytes; any 32 bytes are one.
    pub fn from_bytes(bytes: &[u8; KEY_LEN]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    /// A new secret.
    pub fn generate(random: &mut Random) -> Self {
        let mut bytes = Zeroizing::new([0; KEY_LEN]);
        random.fill(bytes.as_mut_slice());
        Self(bytes)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// The public key that belongs to it.
    pub fn public(&self) -> [u8; KEY_LEN] {
        #[cfg(all(feature = "graviola", any(target_arch = "x86_64", target_arch = "aarch64")))]
        if assembly::runs_here() {
            return assembly::public(&self.0);
        }
        portable::public(&self.0)
    }

    /// X25519 of this secret and a peer's public key (RFC 7748).
    ///
    /// # Errors
    /// [`LowOrderPoint`] if the result is all zeros.
    pub fn agree(&self, public: &[u8; KEY_LEN]) -> Result<Zeroizing<[u8; KEY_LEN]>, LowOrderPoint> {
        #[cfg(all(feature = "graviola", any(target_arch = "x86_64", target_arch = "aarch64")))]
        if assembly::runs_here() {
            return assembly::agree(&self.0, public);
        }
        portable::agree(&self.0, public)
    }
}

impl core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

/// By `curve25519-dalek`, on every processor.
mod portable {
    use curve25519_dalek::MontgomeryPoint;

    use super::{KEY_LEN, LowOrderPoint, Zeroizing};

    pub(super) fn public(secret: &[u8; KEY_LEN]) -> [u8; KEY_LEN] {
        MontgomeryPoint::mul_base_clamped(*secret).to_bytes()
    }

    pub(super) fn agree(
        secret: &[u8; KEY_LEN],
        public: &[u8; KEY_LEN],
    ) -> Result<Zeroizing<[u8; KEY_LEN]>, LowOrderPoint> {
        let shared = Zeroizing::new(MontgomeryPoint(*public).mul_clamped(*secret).to_bytes());
        let any = shared.iter().fold(0, |any, byte| any | byte);
        if any == 0 { Err(LowOrderPoint) } else { Ok(shared) }
    }
}

/// By `graviola`, in half the time; it refuses small orders itself, and erases its keys.
#[cfg(all(feature = "graviola", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod assembly {
    use graviola::key_agreement::x25519::{PublicKey, StaticPrivateKey};

    use super::{KEY_LEN, LowOrderPoint, Zeroizing};

    /// Whether the processor has all that `graviola` asks for, which panics where one is missing (or,
    /// when built with debug assertions, hidden by its variable `GRAVIOLA_CPU_DISABLE_…`).
    #[cfg(target_arch = "x86_64")]
    pub(super) fn runs_here() -> bool {
        use std::arch::is_x86_feature_detected as has;
        // It uses `bmi2` and `ssse3` without asking.
        has!("adx")
            && has!("aes")
            && has!("avx")
            && has!("avx2")
            && has!("bmi1")
            && has!("bmi2")
            && has!("pclmulqdq")
            && has!("ssse3")
    }

    #[cfg(target_arch = "aarch64")]
    pub(super) fn runs_here() -> bool {
        use std::arch::is_aarch64_feature_detected as has;
        has!("aes") && has!("neon") && has!("pmull") && has!("sha2")
    }

    pub(super) fn public(secret: &[u8; KEY_LEN]) -> [u8; KEY_LEN] {
        StaticPrivateKey::from_array(secret).public_key().as_bytes()
    }

    pub(super) fn agree(
        secret: &[u8; KEY_LEN],
        public: &[u8; KEY_LEN],
    ) -> Result<Zeroizing<[u8; KEY_LEN]>, LowOrderPoint> {
        let secret = StaticPrivateKey::from_array(secret);
        let shared = secret.diffie_hellman(&PublicKey::from_array(public));
        // It fails for nothing else.
        shared.map(|shared| Zeroizing::new(shared.0)).map_err(|_| LowOrderPoint)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Public = fn(&[u8; 32]) -> [u8; 32];
    type Agree = fn(&[u8; 32], &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, LowOrderPoint>;

    /// What computes X25519 on this machine, by name: each is tested, whichever is chosen.
    fn providers() -> Vec<(&'static str, Public, Agree)> {
        let chosen: (_, Public, Agree) = (
            "chosen",
            |secret| Secret::from_bytes(secret).public(),
            |secret, public| Secret::from_bytes(secret).agree(public),
        );
        let portable: (_, Public, Agree) = ("portable", portable::public, portable::agree);
        #[cfg(all(feature = "graviola", any(target_arch = "x86_64", target_arch = "aarch64")))]
        {
            if assembly::runs_here() {
                return vec![chosen, portable, ("assembly", assembly::public, assembly::agree)];
            }
            eprintln!("SKIPPED agree: this processor lacks what the assembly needs");
        }
        vec![chosen, portable]
    }

    fn unhex(text: &str) -> [u8; 32] {
        core::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hex"))
    }

    /// RFC 7748 6.1: secret and public keys of Alice and Bob, and what they agree on.
    #[test]
    fn diffie_hellman_is_as_published() {
        let [a, a_public, b, b_public, shared] = [
            "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
            "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
            "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
            "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
            "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
        ]
        .map(unhex);
        for (name, public, agree) in providers() {
            assert_eq!(public(&a), a_public, "{name}");
            assert_eq!(public(&b), b_public, "{name}");
            assert_eq!(agree(&a, &b_public), Ok(Zeroizing::new(shared)), "{name}");
            assert_eq!(agree(&b, &a_public), Ok(Zeroizing::new(shared)), "{name}");
        }
    }

    /// RFC 7748 5.2; the second point has the bit set that is to be ignored.
    #[test]
    fn products_are_as_published() {
        let vectors = [
            [
                "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
                "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
                "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
            ],
            [
                "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
                "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
                "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
            ],
        ];
        for (name, _, agree) in providers() {
            for vector in vectors {
                let [scalar, point, product] = vector.map(unhex);
                assert_eq!(agree(&scalar, &point), Ok(Zeroizing::new(product)), "{name}");
            }
        }
    }

    /// RFC 7748 5.2: the product becomes the scalar, which becomes the point.
    #[test]
    fn iterated_products_are_as_published() {
        let published = [
            (1, "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"),
            (1_000, "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"),
        ];
        for (name, _, agree) in providers() {
            let mut nine = [0; 32];
            nine[0] = 9;
            let (mut scalar, mut point) = (nine, nine);
            let mut done = 0;
            for (times, product) in published {
                while done < times {
                    (scalar, point) = (*agree(&scalar, &point).expect("a proper point"), scalar);
                    done += 1;
                }
                assert_eq!(scalar, unhex(product), "{name} after {times}");
            }
        }
    }

    /// The field's prime plus `more`, which is less than what a byte has left.
    fn prime_plus(more: u8) -> [u8; 32] {
        let mut bytes = [0xff; 32];
        (bytes[0], bytes[31]) = (0xed + more, 0x7f);
        bytes
    }

    /// Every way to write a point whose order divides eight, of the curve or of its twist.
    fn small_orders() -> Vec<[u8; 32]> {
        let mut one = [0; 32];
        one[0] = 1;
        let mut minus_one = prime_plus(0);
        minus_one[0] -= 1;
        let eighths = [
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        ];
        let [one_eighth, other] = eighths.map(unhex);
        let mut points =
            vec![[0; 32], one, minus_one, prime_plus(0), prime_plus(1), one_eighth, other];
        for mut point in points.clone() {
            point[31] |= 0x80;
            points.push(point);
        }
        points
    }

    // PROTOCOL 3.19
    #[test]
    fn points_of_small_order_are_refused() {
        for (name, _, agree) in providers() {
            for point in small_orders() {
                for secret in [[0; 32], [0x42; 32], [0xff; 32]] {
                    assert_eq!(agree(&secret, &point), Err(LowOrderPoint), "{name}: {point:x?}");
                }
            }
        }
    }

    /// Any 32 bytes; those that name a number above the prime, with and without the last bit; and
    /// points of small order.
    fn any_point() -> impl Strategy<Value = [u8; 32]> {
        let above = (0_u8..19, any::<bool>()).prop_map(|(more, last)| {
            let mut point = prime_plus(more);
            point[31] |= u8::from(last) << 7;
            point
        });
        prop_oneof![
            6 => any::<[u8; 32]>(),
            1 => above,
            1 => prop::sample::select(small_orders()),
        ]
    }

    proptest! {
        #[test]
        fn prop_providers_say_the_same_of_every_key(secret: [u8; 32], point in any_point()) {
            for (name, public, agree) in providers() {
                prop_assert_eq!(public(&secret), portable::public(&secret), "{}", name);
                prop_assert_eq!(agree(&secret, &point), portable::agree(&secret, &point), "{}", name);
            }
        }

        #[test]
        fn prop_two_sides_agree(one: [u8; 32], other: [u8; 32]) {
            let [one, other] = [one, other].map(|bytes| Secret::from_bytes(&bytes));
            prop_assert_eq!(one.agree(&other.public()), other.agree(&one.public()));
        }
    }
}
