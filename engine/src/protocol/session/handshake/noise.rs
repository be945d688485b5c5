//! `Noise_IKpsk2_25519_ChaChaPoly_BLAKE3`, written out for this one pattern.
//!
//! ```text
//! <- s                     the initiator knows the responder's static key
//! -> e, es, s, ss          Initiate: only the responder can read who asks
//! <- e, ee, se, psk        Accept: only the two of them can read it, and only if both live now
//! ```
//!
//! A straight line instead of a pattern interpreter: each message is one function, and the state
//! between the two messages is a value that the second consumes. What is secret is erased when
//! its holder is dropped.

use ring::aead;
use zeroize::Zeroizing;

use crate::protocol::crypto::{self, KEY_LEN, LowOrderPoint, Secret, TAG_LEN};

const NAME: &[u8] = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE3";

/// Bytes of the initiator's sealed static key.
pub(super) const SEALED_KEY_LEN: usize = KEY_LEN + TAG_LEN;

/// What the handshake leaves: a key for each direction and the hash of all that was said.
pub(in crate::protocol::session) struct Split {
    /// The initiator's.
    pub(in crate::protocol::session) first: Zeroizing<[u8; KEY_LEN]>,
    /// The responder's.
    pub(in crate::protocol::session) second: Zeroizing<[u8; KEY_LEN]>,
    /// The transcript hash.
    pub(in crate::protocol::session) hash: [u8; 32],
}

/// Why a message was not taken; nobody needs to know which of them it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NoiseFailed;

impl From<LowOrderPoint> for NoiseFailed {
    fn from(_: LowOrderPoint) -> Self {
        Self
    }
}

/// The first message is written; the second is awaited.
#[derive(Clone)]
pub(super) struct FirstWritten(Symmetric);

/// The first message is read, and its writer holds `peer`'s secret key.
pub(super) struct FirstRead {
    symmetric: Symmetric,
    ephemeral: [u8; KEY_LEN],
    /// The initiator's static key.
    pub(super) peer: [u8; KEY_LEN],
}

/// Everything is mixed but the second message's payload.
pub(super) struct SecondMixed(Symmetric);

/// Writes the first message: `sealed` is room for the sealed static key, then the payload with
/// room for its tag; it is sealed in place. Of each key both halves are given, since to work out
/// the public one again costs a quarter of an agreement.
pub(super) fn write_first(
    prologue: &[&[u8]],
    ephemeral: (&Secret, &[u8; KEY_LEN]),
    own: (&Secret, &[u8; KEY_LEN]),
    peer: &[u8; KEY_LEN],
    sealed: &mut [u8],
) -> Result<FirstWritten, NoiseFailed> {
    let (sealed_key, payload) = sealed.split_at_mut(SEALED_KEY_LEN);
    let mut symmetric = Symmetric::start(prologue, peer);
    symmetric.mix_ephemeral(ephemeral.1);
    symmetric.mix_key(ephemeral.0.agree(peer)?.as_slice());
    sealed_key[..KEY_LEN].copy_from_slice(own.1);
    symmetric.seal(sealed_key);
    symmetric.mix_key(own.0.agree(peer)?.as_slice());
    symmetric.seal(payload);
    Ok(FirstWritten(symmetric))
}

/// Reads the first message in place; the payload is then `sealed[SEALED_KEY_LEN..]` less its tag.
pub(super) fn read_first(
    prologue: &[&[u8]],
    own: (&Secret, &[u8; KEY_LEN]),
    ephemeral: &[u8; KEY_LEN],
    sealed: &mut [u8],
) -> Result<FirstRead, NoiseFailed> {
    let (sealed_key, payload) = sealed.split_at_mut(SEALED_KEY_LEN);
    let mut symmetric = Symmetric::start(prologue, own.1);
    symmetric.mix_ephemeral(ephemeral);
    symmetric.mix_key(own.0.agree(ephemeral)?.as_slice());
    let peer = *symmetric.open(sealed_key)?.first_chunk().expect("a key without its tag");
    symmetric.mix_key(own.0.agree(&peer)?.as_slice());
    symmetric.open(payload)?;
    Ok(FirstRead { symmetric, ephemeral: *ephemeral, peer })
}

impl FirstRead {
    /// Mixes the responder's ephemeral key and the pre-shared key.
    pub(super) fn mix_second(
        self,
        ephemeral: (&Secret, &[u8; KEY_LEN]),
        psk: &[u8; KEY_LEN],
    ) -> Result<SecondMixed, NoiseFailed> {
        let mut symmetric = self.symmetric;
        symmetric.mix_ephemeral(ephemeral.1);
        symmetric.mix_key(ephemeral.0.agree(&self.ephemeral)?.as_slice());
        symmetric.mix_key(ephemeral.0.agree(&self.peer)?.as_slice());
        symmetric.mix_key_and_hash(psk);
        Ok(SecondMixed(symmetric))
    }
}

impl FirstWritten {
    /// Mixes what the second message brings.
    pub(super) fn mix_second(
        self,
        ephemeral: &Secret,
        own: &Secret,
        peer_ephemeral: &[u8; KEY_LEN],
        psk: &[u8; KEY_LEN],
    ) -> Result<SecondMixed, NoiseFailed> {
        let mut symmetric = self.0;
        symmetric.mix_ephemeral(peer_ephemeral);
        symmetric.mix_key(ephemeral.agree(peer_ephemeral)?.as_slice());
        symmetric.mix_key(own.agree(peer_ephemeral)?.as_slice());
        symmetric.mix_key_and_hash(psk);
        Ok(SecondMixed(symmetric))
    }
}

impl SecondMixed {
    /// The hash of all but the last payload: what that payload may refer to.
    pub(super) const fn hash(&self) -> &[u8; 32] {
        &self.0.hash
    }

    /// Seals the second message's payload in place; the last bytes are room for the tag.
    pub(super) fn write(mut self, payload: &mut [u8]) -> Split {
        self.0.seal(payload);
        self.0.split()
    }

    /// Opens the second message's payload in place; the last bytes are its tag.
    pub(super) fn read(mut self, payload: &mut [u8]) -> Result<Split, NoiseFailed> {
        self.0.open(payload)?;
        Ok(self.0.split())
    }
}

/// Noise's symmetric and cipher state in one (Noise 5.1, 5.2).
#[derive(Clone)]
struct Symmetric {
    chaining: Zeroizing<[u8; KEY_LEN]>,
    hash: [u8; 32],
    /// Of this pattern, each key seals exactly one thing, so its nonce is always zero.
    key: Zeroizing<[u8; KEY_LEN]>,
}

impl Symmetric {
    fn start(prologue: &[&[u8]], responder: &[u8; KEY_LEN]) -> Self {
        let hash = crypto::hash(&[NAME]);
        let mut symmetric =
            Self { chaining: Zeroizing::new(hash), hash, key: Zeroizing::new([0; KEY_LEN]) };
        symmetric.mix_hash(prologue);
        symmetric.mix_hash(&[responder]);
        symmetric
    }

    fn mix_hash(&mut self, parts: &[&[u8]]) {
        // The prologue comes in at most four parts.
        let mut all: [&[u8]; 5] = [&[]; 5];
        let hash = self.hash;
        all[0] = &hash;
        all[1..=parts.len()].copy_from_slice(parts);
        self.hash = crypto::hash(&all);
    }

    fn mix_key(&mut self, input: &[u8]) {
        [self.chaining, self.key] = crypto::hkdf2(&self.chaining, input);
    }

    /// With a pre-shared key anywhere in the pattern, an ephemeral key is also mixed into the
    /// keys, so that two runs never share one (Noise 9.2).
    fn mix_ephemeral(&mut self, public: &[u8; KEY_LEN]) {
        self.mix_hash(&[public]);
        self.mix_key(public);
    }

    fn mix_key_and_hash(&mut self, input: &[u8; KEY_LEN]) {
        let [chaining, hash, key] = crypto::hkdf3(&self.chaining, input);
        (self.chaining, self.key) = (chaining, key);
        self.mix_hash(&[hash.as_slice()]);
    }

    fn cipher(&self) -> aead::LessSafeKey {
        let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, self.key.as_slice());
        aead::LessSafeKey::new(key.expect("the cipher takes 32-byte keys"))
    }

    /// Seals all but the last bytes, which receive the tag.
    fn seal(&mut self, in_out: &mut [u8]) {
        let nonce = aead::Nonce::assume_unique_for_key([0; 12]);
        let (text, tag) = in_out.split_at_mut(in_out.len() - TAG_LEN);
        let sealed = self
            .cipher()
            .seal_in_place_separate_tag(nonce, aead::Aad::from(self.hash), text)
            .expect("a handshake message is far below the length limit");
        tag.copy_from_slice(sealed.as_ref());
        self.mix_hash(&[in_out]);
    }

    fn open<'a>(&mut self, in_out: &'a mut [u8]) -> Result<&'a [u8], NoiseFailed> {
        let aad = aead::Aad::from(self.hash);
        self.mix_hash(&[in_out]);
        let nonce = aead::Nonce::assume_unique_for_key([0; 12]);
        let opened = self.cipher().open_in_place(nonce, aad, in_out);
        opened.map(|opened| &*opened).map_err(|ring::error::Unspecified| NoiseFailed)
    }

    fn split(self) -> Split {
        let [first, second] = crypto::hkdf2(&self.chaining, &[]);
        Split { first, second, hash: self.hash }
    }
}

/// Writes a first message in the name of `victim`, as whoever stole the *responder's* secret can:
/// `ss` can be computed from either side.
#[cfg(test)]
pub(super) fn forge_first(
    prologue: &[&[u8]],
    ephemeral: &Secret,
    stolen: &Secret,
    victim: &[u8; KEY_LEN],
    sealed: &mut [u8],
) -> FirstWritten {
    let proper = "proper points";
    let (sealed_key, payload) = sealed.split_at_mut(SEALED_KEY_LEN);
    let mut symmetric = Symmetric::start(prologue, &stolen.public());
    symmetric.mix_ephemeral(&ephemeral.public());
    symmetric.mix_key(ephemeral.agree(&stolen.public()).expect(proper).as_slice());
    sealed_key[..KEY_LEN].copy_from_slice(victim);
    symmetric.seal(sealed_key);
    symmetric.mix_key(stolen.agree(victim).expect(proper).as_slice());
    symmetric.seal(payload);
    FirstWritten(symmetric)
}

#[cfg(test)]
mod oracle;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::session::fixture::unhex;

    struct Run {
        message_1: Vec<u8>,
        message_2: Vec<u8>,
    }

    const PROLOGUE: &[&[u8]] = &[b"RAET rsh1 test prologue"];

    fn key(byte: u8) -> (Secret, [u8; 32]) {
        let secret = Secret::from_bytes(&[byte; 32]);
        let public = secret.public();
        (secret, public)
    }

    fn annex_run() -> (Run, Split, Split) {
        let ((s_i, s_i_public), (e_i, e_i_public)) = (key(0x11), key(0x22));
        let ((s_r, s_r_public), (e_r, e_r_public)) = (key(0x33), key(0x44));
        let mut sealed = vec![0; SEALED_KEY_LEN + TAG_LEN];
        let written = write_first(
            PROLOGUE,
            (&e_i, &e_i_public),
            (&s_i, &s_i_public),
            &s_r_public,
            &mut sealed,
        );
        let message_1 = [e_i_public.as_slice(), &sealed].concat();
        let read = read_first(PROLOGUE, (&s_r, &s_r_public), &e_i_public, &mut sealed);
        let read = read.expect("what was written reads");
        assert_eq!(read.peer, s_i_public);
        let mut payload = vec![0; TAG_LEN];
        let mixed = read.mix_second((&e_r, &e_r_public), &[0; 32]).expect("proper points");
        let theirs = mixed.write(&mut payload);
        let message_2 = [e_r_public.as_slice(), &payload].concat();
        let ours = written
            .expect("proper points")
            .mix_second(&e_i, &s_i, &e_r_public, &[0; 32])
            .expect("proper points")
            .read(&mut payload)
            .expect("what was written reads");
        (Run { message_1, message_2 }, ours, theirs)
    }

    // PROTOCOL 3.10
    // PROTOCOL 3.24
    #[test]
    fn handshake_reproduces_the_published_vectors() {
        let (run, ours, theirs) = annex_run();
        assert_eq!(
            run.message_1[..],
            unhex::<96>(concat!(
                "0faa684ed28867b97f4a6a2dee5df8ce974e76b7018e3f22a1c4cf2678570f20",
                "9aec09b43c3b009c6c24db9524058ff7a7a22e30f1d9b2f2f067a6c58f348e50",
                "67c1039c4c77f6306b49ddb2afc4732026ebca08df7fe962fe8e34c226840586",
            )),
        );
        assert_eq!(
            run.message_2[..],
            unhex::<48>(concat!(
                "ff2ee45601ec1b67310c7790404585ae697331eee1c1f8cf2419731c1fff3e6b",
                "f9c7dea76334674874c0b27743921c9f",
            )),
        );
        for split in [ours, theirs] {
            assert_eq!(
                split.hash,
                unhex("7f4323de9926571feafd72cbd8f39d2d9654ef915d5978be715c546958b065dd"),
            );
            assert_eq!(
                *split.first,
                unhex("4e513fc6877077c179d97f0cdda8e609512f9cd9c7f24d6624074f57a9d939b5"),
            );
            assert_eq!(
                *split.second,
                unhex("5dc3f869c61c8b8ddea6fbafe308627f7ffcb7b2d893ada0c8767c358bd05f0e"),
            );
        }
    }

    // PROTOCOL 3.10
    #[test]
    fn every_flipped_bit_of_both_messages_is_rejected() {
        let (run, ..) = annex_run();
        let ((s_i, s_i_public), (e_i, e_i_public)) = (key(0x11), key(0x22));
        let (s_r, s_r_public) = key(0x33);
        let mut rejected = 0;
        for bit in 0..8 * run.message_1.len() {
            let mut message = run.message_1.clone();
            message[bit / 8] ^= 1 << (bit % 8);
            let (ephemeral, sealed) = message.split_at_mut(KEY_LEN);
            let ephemeral = (&*ephemeral).try_into().expect("32 bytes");
            let read = read_first(PROLOGUE, (&s_r, &s_r_public), ephemeral, sealed);
            rejected += u32::from(read.is_err());
        }
        for bit in 0..8 * run.message_2.len() {
            let mut message = run.message_2.clone();
            message[bit / 8] ^= 1 << (bit % 8);
            let mut sealed = vec![0; SEALED_KEY_LEN + TAG_LEN];
            let (first, own) = ((&e_i, &e_i_public), (&s_i, &s_i_public));
            let written = write_first(PROLOGUE, first, own, &s_r_public, &mut sealed);
            assert_eq!(run.message_1, [e_i_public.as_slice(), &sealed].concat());
            let (ephemeral, payload) = message.split_at_mut(KEY_LEN);
            let ephemeral = (&*ephemeral).try_into().expect("32 bytes");
            let read = written
                .expect("proper points")
                .mix_second(&e_i, &s_i, ephemeral, &[0; 32])
                .and_then(|mixed| mixed.read(payload));
            rejected += u32::from(read.is_err());
        }
        assert_eq!(rejected, 1_152);
    }
}
