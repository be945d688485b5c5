//! The cipher of one direction, lane and generation.

use super::agree::KEY_LEN;
use super::cipher::Cipher;

/// Bytes of an authentication tag.
pub const TAG_LEN: usize = 16;
/// Bytes of the longest nonce, and of the longest value that packet numbers are mixed into.
pub(super) const NONCE_LEN_MAX: usize = 16;
/// Bytes that a packet key is made of at most: 32 of a key and those of the longest nonce.
pub const MATERIAL_LEN: usize = KEY_LEN + NONCE_LEN_MAX;

/// A packet cipher; its number is its bit in an offer and its value in key derivation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u16)]
pub enum Suite {
    /// AES-256-GCM: the fastest where the processor has AES instructions.
    Aes256Gcm = 1,
    /// ChaCha20-Poly1305: for processors without them.
    ChaCha20Poly1305 = 2,
    /// AEGIS-128L with a tag of 128 bits (draft-irtf-cfrg-aegis-aead): about twice as fast as
    /// `ring`'s AES-GCM where the processor has AES instructions. Spoken only where both sides ask for it.
    #[cfg(feature = "aegis")]
    Aegis128L = 4,
}

impl Suite {
    /// The suite of a number on the wire.
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Aes256Gcm),
            2 => Some(Self::ChaCha20Poly1305),
            #[cfg(feature = "aegis")]
            4 => Some(Self::Aegis128L),
            _ => None,
        }
    }

    /// Its number on the wire.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// Bytes of its nonce.
    pub(super) const fn nonce_len(self) -> usize {
        match self {
            Self::Aes256Gcm | Self::ChaCha20Poly1305 => 12,
            #[cfg(feature = "aegis")]
            Self::Aegis128L => 16,
        }
    }

    /// What this machine offers unasked, best first. Without AES instructions AES is slow and its
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
    /// Behind as many zeros as a shorter nonce leaves.
    iv: [u8; NONCE_LEN_MAX],
}

impl PacketKey {
    /// The cipher `suite` under `material`: 32 bytes of a key, and the nonce base, whose length is
    /// the suite's; what is left is not used.
    pub fn new(suite: Suite, material: &[u8; MATERIAL_LEN]) -> Self {
        let (key, base) = material.split_first_chunk().expect("a key and a nonce base");
        let mut iv = [0; NONCE_LEN_MAX];
        let len = suite.nonce_len();
        iv[NONCE_LEN_MAX - len..].copy_from_slice(&base[..len]);
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

    /// `iv XOR (zeros ‖ packet number)` (RFC 9001 5.3).
    fn nonce(&self, packet_number: u64) -> [u8; NONCE_LEN_MAX] {
        let mut nonce = self.iv;
        for (byte, number) in nonce[NONCE_LEN_MAX - 8..].iter_mut().zip(packet_number.to_be_bytes())
        {
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

    const SUITES: &[Suite] = &[
        Suite::Aes256Gcm,
        Suite::ChaCha20Poly1305,
        #[cfg(feature = "aegis")]
        Suite::Aegis128L,
    ];

    #[test]
    fn what_was_sealed_opens_and_nothing_else_does() {
        for &suite in SUITES {
            let key = PacketKey::new(suite, &[3; MATERIAL_LEN]);
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
        for &suite in SUITES {
            let mut material = [0x11; MATERIAL_LEN];
            let key = PacketKey::new(suite, &material);
            let mut left = [0; 20];
            let left_tag = key.seal(0x0102_0304_0506_0708, b"", &mut left);
            let end = KEY_LEN + suite.nonce_len();
            for (byte, number) in material[end - 8..end].iter_mut().zip([1, 2, 3, 4, 5, 6, 7, 8]) {
                *byte ^= number;
            }
            // What is behind the nonce base is nobody's.
            material[end..].fill(0);
            let key = PacketKey::new(suite, &material);
            let mut right = [0; 20];
            assert_eq!(key.seal(0, b"", &mut right), left_tag);
            assert_eq!(left, right);
        }
    }

    #[test]
    fn numbers_name_suites() {
        for &suite in SUITES {
            assert_eq!(Suite::from_number(suite.number()), Some(suite));
        }
        assert_eq!(Suite::from_number(0), None);
        assert_eq!(Suite::from_number(3), None);
        #[cfg(not(feature = "aegis"))]
        assert_eq!(Suite::from_number(4), None);
        let unasked = Suite::offered_by_this_machine();
        assert!(unasked.contains(&Suite::ChaCha20Poly1305));
        assert!(unasked.iter().all(|suite| suite.number() < 4), "AEGIS is for who asks");
    }

    // draft-irtf-cfrg-aegis-aead, AEGIS-128L, test vector 3.
    #[cfg(feature = "aegis")]
    #[test]
    fn aegis_reproduces_a_published_vector() {
        let mut material = [0; MATERIAL_LEN];
        let (key, nonce) = (0x1001_u128 << 112, 0x1000_0200_u128 << 96);
        material[..16].copy_from_slice(&key.to_be_bytes());
        material[32..].copy_from_slice(&nonce.to_be_bytes());
        let key = PacketKey::new(Suite::Aegis128L, &material);
        let mut body = std::array::from_fn::<u8, 32, _>(|at| u8::try_from(at).expect("below 32"));
        let tag = key.seal(0, &0x0001_0203_0405_0607_u64.to_be_bytes(), &mut body);
        assert_eq!(body[..16], 0x79d9_4593_d8c2_119d_7e8f_d9b8_fc77_845c_u128.to_be_bytes());
        assert_eq!(body[16..], 0x5c07_7a05_b252_8b6a_c54b_563a_ed8e_fe84_u128.to_be_bytes());
        assert_eq!(tag, 0xcc6f_3372_f6aa_1bb8_2388_d695_c396_2d9a_u128.to_be_bytes());
    }
}
