//! The cipher of one direction, lane and generation.

use super::agree::KEY_LEN;
use super::cipher::Cipher;

/// Bytes of an authentication tag.
pub const TAG_LEN: usize = 16;
/// Bytes of the value that packet numbers are mixed into to make a nonce.
pub const IV_LEN: usize = 12;

/// A packet cipher; its number is its bit in an offer and its value in key derivation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u16)]
pub enum Suite {
    /// AES-256-GCM: the fastest where the processor has AES instructions.
    Aes256Gcm = 1,
    /// ChaCha20-Poly1305: for processors without them.
    ChaCha20Poly1305 = 2,
}

impl Suite {
    /// The suite of a number on the wire.
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Aes256Gcm),
            2 => Some(Self::ChaCha20Poly1305),
            _ => None,
        }
    }

    /// Its number on the wire.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// What this machine offers, best first. Without AES instructions AES is slow and its
    /// running time leaks, so it is not offered at all.
    pub fn offered_by_this_machine() -> &'static [Self] {
        if has_aes_instructions() {
            &[Self::Aes256Gcm, Self::ChaCha20Poly1305]
        } else {
            &[Self::ChaCha20Poly1305]
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn has_aes_instructions() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes_instructions() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes_instructions() -> bool {
    false
}

/// The tag did not verify; the contents of the buffer are lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenFailed;

/// A packet key with its nonce base. Who seals with it must never use a packet number twice.
pub struct PacketKey {
    cipher: Cipher,
    iv: [u8; IV_LEN],
}

impl PacketKey {
    /// The cipher `suite` under `key`, with the nonce base `iv`.
    pub fn new(suite: Suite, key: &[u8; KEY_LEN], iv: [u8; IV_LEN]) -> Self {
        Self { cipher: Cipher::new(suite, key), iv }
    }

    /// Encrypts `in_out` in place and returns the tag over it and `aad`.
    #[inline]
    pub fn seal(&self, packet_number: u64, aad: &[u8], in_out: &mut [u8]) -> [u8; TAG_LEN] {
        self.cipher.seal(self.nonce(packet_number), aad, in_out)
    }

    /// Decrypts `in_out` in place.
    ///
    /// # Errors
    /// [`OpenFailed`] if the tag does not verify; `in_out` then holds nothing of use.
    #[inline]
    pub fn open(
        &self,
        packet_number: u64,
        aad: &[u8],
        tag: &[u8; TAG_LEN],
        in_out: &mut [u8],
    ) -> Result<(), OpenFailed> {
        self.cipher.open(self.nonce(packet_number), aad, tag, in_out)
    }

    /// `iv XOR (0^32 ‖ packet number)` (RFC 9001 5.3).
    fn nonce(&self, packet_number: u64) -> [u8; IV_LEN] {
        let mut nonce = self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(packet_number.to_be_bytes()) {
            *byte ^= number;
        }
        nonce
    }
}

impl core::fmt::Debug for PacketKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PacketKey").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUITES: [Suite; 2] = [Suite::Aes256Gcm, Suite::ChaCha20Poly1305];

    #[test]
    fn what_was_sealed_opens_and_nothing_else_does() {
        for suite in SUITES {
            let key = PacketKey::new(suite, &[3; 32], [5; 12]);
            let mut body = *b"attack at dawn";
            let tag = key.seal(7, b"head", &mut body);
            assert_ne!(&body, b"attack at dawn");
            let sealed = body;
            assert_eq!(key.open(8, b"head", &tag, &mut body), Err(OpenFailed));
            body = sealed;
            assert_eq!(key.open(7, b"Head", &tag, &mut body), Err(OpenFailed));
            body = sealed;
            let mut other = tag;
            other[15] ^= 1;
            assert_eq!(key.open(7, b"head", &other, &mut body), Err(OpenFailed));
            body = sealed;
            assert_eq!(key.open(7, b"head", &tag, &mut body), Ok(()));
            assert_eq!(&body, b"attack at dawn");
        }
    }

    // PROTOCOL 4.6
    #[test]
    fn nonce_is_the_iv_with_the_packet_number_in_its_last_eight_bytes() {
        // The same nonce reached from two sides gives the same bytes.
        let mut iv = [0x11; IV_LEN];
        let key = PacketKey::new(Suite::Aes256Gcm, &[1; 32], iv);
        let mut left = [0; 20];
        let left_tag = key.seal(0x0102_0304_0506_0708, b"", &mut left);
        for (byte, number) in iv[4..].iter_mut().zip([1, 2, 3, 4, 5, 6, 7, 8]) {
            *byte ^= number;
        }
        let key = PacketKey::new(Suite::Aes256Gcm, &[1; 32], iv);
        let mut right = [0; 20];
        assert_eq!(key.seal(0, b"", &mut right), left_tag);
        assert_eq!(left, right);
    }

    #[test]
    fn numbers_name_suites() {
        for suite in SUITES {
            assert_eq!(Suite::from_number(suite.number()), Some(suite));
        }
        assert_eq!(Suite::from_number(0), None);
        assert_eq!(Suite::from_number(3), None);
        assert!(Suite::offered_by_this_machine().contains(&Suite::ChaCha20Poly1305));
    }
}
