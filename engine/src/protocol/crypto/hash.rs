//! BLAKE3 in the four ways we use it: plain, keyed, deriving keys, and as the hash under the
//! HMAC-HKDF of Noise.

use zeroize::Zeroizing;

use super::agree::KEY_LEN;

/// Bytes of a truncated keyed hash: cookies, mac1, reset tokens.
pub const MAC_LEN: usize = 16;

/// Bytes that HMAC pads its key to (Noise 4.3: BLOCKLEN of BLAKE3).
const BLOCK_LEN: usize = 64;

/// The hash of the concatenation of `parts`.
pub fn hash(parts: &[&[u8]]) -> [u8; 32] {
    absorb(blake3::Hasher::new(), parts).finalize().into()
}

/// A key derived from the concatenation of `parts` for one purpose. `context` is fixed, unique
/// and dated, never made from input.
pub fn derive(context: &'static str, parts: &[&[u8]]) -> Zeroizing<[u8; KEY_LEN]> {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    derive_into(context, parts, key.as_mut_slice());
    key
}

/// As [`derive`], for as many bytes as `out` holds.
pub fn derive_into(context: &'static str, parts: &[&[u8]], out: &mut [u8]) {
    absorb(blake3::Hasher::new_derive_key(context), parts).finalize_xof().fill(out);
}

/// The keyed hash of the concatenation of `parts`, first 16 bytes.
pub fn mac(key: &[u8; KEY_LEN], parts: &[&[u8]]) -> [u8; MAC_LEN] {
    let full = absorb(blake3::Hasher::new_keyed(key), parts).finalize();
    *full.as_bytes().first_chunk().expect("a hash is longer than a mac")
}

/// Whether two macs or tokens are equal, in a time that does not depend on where they differ.
pub fn equal(left: &[u8; MAC_LEN], right: &[u8; MAC_LEN]) -> bool {
    // `blake3::Hash` documents its comparison as constant-time.
    let widen = |short: &[u8; MAC_LEN]| {
        let mut wide = [0; 32];
        wide[..MAC_LEN].copy_from_slice(short);
        blake3::Hash::from_bytes(wide)
    };
    widen(left) == widen(right)
}

/// HKDF with two outputs (Noise 4.3).
pub fn hkdf2(chaining: &[u8; KEY_LEN], input: &[u8]) -> [Zeroizing<[u8; KEY_LEN]>; 2] {
    let [first, second, _] = hkdf3(chaining, input);
    [first, second]
}

/// HKDF with three outputs (Noise 4.3).
pub fn hkdf3(chaining: &[u8; KEY_LEN], input: &[u8]) -> [Zeroizing<[u8; KEY_LEN]>; 3] {
    let temporary = hmac(chaining, &[input]);
    let first = hmac(&temporary, &[&[1]]);
    let second = hmac(&temporary, &[first.as_slice(), &[2]]);
    let third = hmac(&temporary, &[second.as_slice(), &[3]]);
    [first, second, third]
}

fn hmac(key: &[u8; KEY_LEN], parts: &[&[u8]]) -> Zeroizing<[u8; KEY_LEN]> {
    let pad = |with: u8| {
        let mut block = Zeroizing::new([with; BLOCK_LEN]);
        for (padded, byte) in block.iter_mut().zip(key) {
            *padded ^= byte;
        }
        block
    };
    let mut inner = blake3::Hasher::new();
    inner.update(pad(0x36).as_slice());
    let inner = Zeroizing::new(*absorb(inner, parts).finalize().as_bytes());
    let mut outer = blake3::Hasher::new();
    outer.update(pad(0x5c).as_slice());
    outer.update(inner.as_slice());
    Zeroizing::new(*outer.finalize().as_bytes())
}

fn absorb(mut hasher: blake3::Hasher, parts: &[&[u8]]) -> blake3::Hasher {
    for part in parts {
        hasher.update(part);
    }
    hasher
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_concatenated() {
        assert_eq!(hash(&[b"ab", b"c"]), hash(&[b"abc"]));
        assert_eq!(hash(&[b"abc"]), *blake3::hash(b"abc").as_bytes());
        assert_eq!(mac(&[7; 32], &[b"a", b"b"]), mac(&[7; 32], &[b"ab"]));
    }

    #[test]
    fn purposes_separate_keys() {
        let one = derive("raet test one", &[b"same"]);
        let two = derive("raet test two", &[b"same"]);
        assert_ne!(one, two);
        let mut longer = [0; 44];
        derive_into("raet test one", &[b"same"], &mut longer);
        assert_eq!(longer[..32], one[..]);
    }

    #[test]
    fn macs_compare_by_all_their_bytes() {
        let mac = [9; MAC_LEN];
        assert!(equal(&mac, &mac));
        for index in 0..MAC_LEN {
            let mut other = mac;
            other[index] ^= 0x80;
            assert!(!equal(&mac, &other));
        }
    }
}
