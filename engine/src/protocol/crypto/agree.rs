//! X25519: secrets that erase themselves, and what two of them agree on.
//!
//! The scalar arithmetic is `curve25519-dalek`'s. The key types of `crypto_box` stand at the doors
//! (files, sealed notices); within a handshake they are not used, because they leave a copy of
//! their bytes behind when dropped.

use curve25519_dalek::MontgomeryPoint;
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
        MontgomeryPoint::mul_base_clamped(*self.0).to_bytes()
    }

    /// X25519 of this secret and a peer's public key (RFC 7748).
    ///
    /// # Errors
    /// [`LowOrderPoint`] if the result is all zeros.
    pub fn agree(&self, public: &[u8; KEY_LEN]) -> Result<Zeroizing<[u8; KEY_LEN]>, LowOrderPoint> {
        let shared = Zeroizing::new(MontgomeryPoint(*public).mul_clamped(*self.0).to_bytes());
        let any = shared.iter().fold(0, |any, byte| any | byte);
        if any == 0 { Err(LowOrderPoint) } else { Ok(shared) }
    }
}

impl core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unhex(text: &str) -> [u8; 32] {
        core::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hex"))
    }

    #[test]
    fn agrees_with_rfc_7748_vectors() {
        // RFC 7748 6.1, Bob.
        let bob = Secret::from_bytes(&unhex(
            "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        ));
        assert_eq!(
            bob.public(),
            unhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"),
        );
        // RFC 7748 5.2, first vector.
        let scalar = Secret::from_bytes(&unhex(
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
        ));
        let point = unhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c");
        assert_eq!(
            *scalar.agree(&point).expect("a proper point"),
            unhex("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"),
        );
        assert_eq!(scalar.agree(&bob.public()), bob.agree(&scalar.public()));
    }

    // PROTOCOL 3.19
    #[test]
    fn points_of_small_order_are_refused() {
        let secret = Secret::from_bytes(&[0x42; 32]);
        let mut one = [0; 32];
        one[0] = 1;
        let eighth = unhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800");
        for point in [[0; 32], one, eighth] {
            assert_eq!(secret.agree(&point), Err(LowOrderPoint));
        }
    }
}
