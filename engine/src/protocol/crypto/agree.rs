//! X25519 with the key types of `crypto_box`.

use crypto_box::SecretKey;
use curve25519_dalek::MontgomeryPoint;
use zeroize::Zeroizing;

/// Bytes of a public key, a secret key and an agreed secret.
pub const KEY_LEN: usize = 32;

/// The peer's point has a small order: the agreed secret would be zero, whatever our key is
/// (RFC 7748 6.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LowOrderPoint;

/// X25519 of our secret and the peer's public key (RFC 7748).
///
/// # Errors
/// [`LowOrderPoint`] if the result is all zeros.
pub fn agree(
    secret: &SecretKey,
    public: &[u8; KEY_LEN],
) -> Result<Zeroizing<[u8; KEY_LEN]>, LowOrderPoint> {
    // From the bytes, not from the reduced scalar: only the clamped integer is a multiple of
    // eight, and only that removes a small-order part of the peer's point.
    let clamped = Zeroizing::new(secret.to_bytes());
    let shared = Zeroizing::new(MontgomeryPoint(*public).mul_clamped(*clamped).to_bytes());
    let any = shared.iter().fold(0, |any, byte| any | byte);
    if any == 0 { Err(LowOrderPoint) } else { Ok(shared) }
}

/// The public key of a secret key.
pub fn public_key(secret: &SecretKey) -> [u8; KEY_LEN] {
    secret.public_key().to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unhex(text: &str) -> [u8; 32] {
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(core::str::from_utf8(pair).expect("ascii"), 16).expect("hex");
        }
        out
    }

    #[test]
    fn agrees_with_rfc_7748_vectors() {
        let alice = SecretKey::from([0x77; 32]);
        let bob = SecretKey::from(unhex(
            "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        ));
        assert_eq!(
            public_key(&bob),
            unhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"),
        );
        assert_eq!(
            agree(&alice, &public_key(&bob)).expect("a proper point"),
            agree(&bob, &public_key(&alice)).expect("a proper point"),
        );
        // RFC 7748 5.2, first vector.
        let scalar = SecretKey::from(unhex(
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
        ));
        let point = unhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c");
        assert_eq!(
            *agree(&scalar, &point).expect("a proper point"),
            unhex("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"),
        );
    }

    // PROTOCOL 3.19
    #[test]
    fn points_of_small_order_are_refused() {
        let secret = SecretKey::from([0x42; 32]);
        let mut one = [0; 32];
        one[0] = 1;
        let eighth = unhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800");
        for point in [[0; 32], one, eighth] {
            assert_eq!(agree(&secret, &point), Err(LowOrderPoint));
        }
    }
}
