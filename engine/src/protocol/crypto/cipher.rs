//! The ciphers, by whichever provider runs them fastest on this machine.
//!
//! `ring` is there always. With the feature `aws-lc` AES-GCM is AWS-LC's where the processor has AES and
//! carry-less multiplication on 512 bits, for which `ring` has no code. Both say the same of every byte.
//! With the feature `aegis` AEGIS-128L is there, by libaegis.

use super::agree::KEY_LEN;
use super::packet_key::{NONCE_LEN_MAX, OpenFailed, Suite, TAG_LEN};

/// A key of a suite, expanded.
#[cfg_attr(
    any(feature = "aws-lc", feature = "aegis"),
    expect(clippy::large_enum_variant, reason = "four in a session, and each packet looks at one")
)]
pub(super) enum Cipher {
    Ring(ring_key::Key),
    #[cfg(feature = "aws-lc")]
    AwsLc(aws_lc_key::Key),
    #[cfg(feature = "aegis")]
    Aegis(aegis_key::Key),
}

impl Cipher {
    pub(super) fn new(suite: Suite, key: &[u8; KEY_LEN]) -> Self {
        #[cfg(feature = "aws-lc")]
        if suite == Suite::Aes256Gcm && has_wide_aes() {
            return Self::AwsLc(aws_lc_key::Key::new(suite, key));
        }
        #[cfg(feature = "aegis")]
        if suite == Suite::Aegis128L {
            return Self::Aegis(aegis_key::Key::new(key));
        }
        Self::Ring(ring_key::Key::new(suite, key))
    }

    #[inline]
    pub(super) fn seal(
        &self,
        nonce: [u8; NONCE_LEN_MAX],
        aad: &[u8],
        in_out: &mut [u8],
    ) -> [u8; TAG_LEN] {
        match self {
            Self::Ring(key) => key.seal(nonce, aad, in_out),
            #[cfg(feature = "aws-lc")]
            Self::AwsLc(key) => key.seal(nonce, aad, in_out),
            #[cfg(feature = "aegis")]
            Self::Aegis(key) => key.seal(&nonce, aad, in_out),
        }
    }

    #[inline]
    pub(super) fn open(
        &self,
        nonce: [u8; NONCE_LEN_MAX],
        aad: &[u8],
        tag: &[u8; TAG_LEN],
        in_out: &mut [u8],
    ) -> Result<(), OpenFailed> {
        match self {
            Self::Ring(key) => key.open(nonce, aad, tag, in_out),
            #[cfg(feature = "aws-lc")]
            Self::AwsLc(key) => key.open(nonce, aad, tag, in_out),
            #[cfg(feature = "aegis")]
            Self::Aegis(key) => key.open(&nonce, aad, tag, in_out),
        }
    }
}

#[cfg(all(feature = "aws-lc", target_arch = "x86_64"))]
fn has_wide_aes() -> bool {
    std::arch::is_x86_feature_detected!("avx512vl")
        && std::arch::is_x86_feature_detected!("vaes")
        && std::arch::is_x86_feature_detected!("vpclmulqdq")
}

#[cfg(all(feature = "aws-lc", not(target_arch = "x86_64")))]
fn has_wide_aes() -> bool {
    false
}

/// A key of one provider; they have the same interface.
macro_rules! provider {
    ($name:ident, $provider:ident) => {
        mod $name {
            use $provider::aead::{
                AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
            };

            use super::{KEY_LEN, NONCE_LEN_MAX, OpenFailed, Suite, TAG_LEN};

            pub(in super::super) struct Key(LessSafeKey);

            impl Key {
                pub(super) fn new(suite: Suite, key: &[u8; KEY_LEN]) -> Self {
                    let algorithm = match suite {
                        Suite::Aes256Gcm => &AES_256_GCM,
                        Suite::ChaCha20Poly1305 => &CHACHA20_POLY1305,
                        #[cfg(feature = "aegis")]
                        Suite::Aegis128L => unreachable!("neither provider has it"),
                    };
                    let key = UnboundKey::new(algorithm, key);
                    Self(LessSafeKey::new(key.expect("both ciphers take 32-byte keys")))
                }

                #[inline]
                pub(super) fn seal(
                    &self,
                    nonce: [u8; NONCE_LEN_MAX],
                    aad: &[u8],
                    in_out: &mut [u8],
                ) -> [u8; TAG_LEN] {
                    let nonce = *nonce.last_chunk().expect("both ciphers have shorter nonces");
                    let nonce = Nonce::assume_unique_for_key(nonce);
                    let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(aad), in_out);
                    let tag = tag.expect("a datagram is far below the ciphers' length limit");
                    *tag.as_ref().first_chunk().expect("both ciphers have 16-byte tags")
                }

                #[inline]
                pub(super) fn open(
                    &self,
                    nonce: [u8; NONCE_LEN_MAX],
                    aad: &[u8],
                    tag: &[u8; TAG_LEN],
                    in_out: &mut [u8],
                ) -> Result<(), OpenFailed> {
                    let nonce = *nonce.last_chunk().expect("both ciphers have shorter nonces");
                    let nonce = Nonce::assume_unique_for_key(nonce);
                    let aad = Aad::from(aad);
                    provider!(@open $provider, self.0, nonce, aad, tag, in_out)
                        .map_err(|$provider::error::Unspecified| OpenFailed)
                }
            }
        }
    };
    (@open ring, $key:expr, $nonce:expr, $aad:expr, $tag:expr, $in_out:expr) => {
        $key.open_in_place_separate_tag($nonce, $aad, ring::aead::Tag::from(*$tag), $in_out, 0..)
            .map(drop)
    };
    (@open aws_lc_rs, $key:expr, $nonce:expr, $aad:expr, $tag:expr, $in_out:expr) => {
        $key.open_in_place_separate_tag($nonce, $aad, $tag, $in_out).map(drop)
    };
}

provider!(ring_key, ring);
#[cfg(feature = "aws-lc")]
provider!(aws_lc_key, aws_lc_rs);

#[cfg(feature = "aegis")]
mod aegis_key {
    use aegis::aegis128l::Aegis128L;
    use zeroize::Zeroizing;

    use super::{KEY_LEN, NONCE_LEN_MAX, OpenFailed, TAG_LEN};

    pub(in super::super) struct Key(Zeroizing<[u8; 16]>);

    impl Key {
        /// Of the first half of `key`: the cipher's keys have 16 bytes.
        pub(super) fn new(key: &[u8; KEY_LEN]) -> Self {
            Self(Zeroizing::new(*key.first_chunk().expect("half of 32 bytes")))
        }

        #[inline]
        pub(super) fn seal(
            &self,
            nonce: &[u8; NONCE_LEN_MAX],
            aad: &[u8],
            in_out: &mut [u8],
        ) -> [u8; TAG_LEN] {
            Aegis128L::<TAG_LEN>::new(&self.0, nonce).encrypt_in_place(in_out, aad)
        }

        #[inline]
        pub(super) fn open(
            &self,
            nonce: &[u8; NONCE_LEN_MAX],
            aad: &[u8],
            tag: &[u8; TAG_LEN],
            in_out: &mut [u8],
        ) -> Result<(), OpenFailed> {
            Aegis128L::<TAG_LEN>::new(&self.0, nonce)
                .decrypt_in_place(in_out, tag, aad)
                .map_err(|_| OpenFailed)
        }
    }
}

#[cfg(all(test, feature = "aws-lc"))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn providers_say_the_same_of_every_packet(
            key: [u8; KEY_LEN],
            nonce: [u8; NONCE_LEN_MAX],
            aad in prop::collection::vec(any::<u8>(), 0..200),
            body in prop::collection::vec(any::<u8>(), 0..3_000),
        ) {
            for suite in [Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
                let (one, other) = (ring_key::Key::new(suite, &key), aws_lc_key::Key::new(suite, &key));
                let (mut sealed, mut again) = (body.clone(), body.clone());
                let tag = one.seal(nonce, &aad, &mut sealed);
                prop_assert_eq!(other.seal(nonce, &aad, &mut again), tag);
                prop_assert_eq!(&again, &sealed);
                prop_assert_eq!(other.open(nonce, &aad, &tag, &mut again), Ok(()));
                prop_assert_eq!(&again, &body);
                let mut wrong = tag;
                wrong[3] ^= 4;
                prop_assert_eq!(other.open(nonce, &aad, &wrong, &mut sealed.clone()), Err(OpenFailed));
                prop_assert_eq!(one.open(nonce, &aad, &wrong, &mut sealed), Err(OpenFailed));
            }
        }
    }
}
