//! Every byte of our Noise against `snow`, an independent implementation, in both roles.
//!
//! snow 0.10 has no BLAKE3: ours is plugged into its BLAKE2s slot, and the protocol name is set
//! to the true one. Its symmetric state, key derivation and pattern are its own.

use ring::aead;
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random as SnowRandom};

use super::{SEALED_KEY_LEN, read_first, write_first};
use crate::protocol::crypto::{KEY_LEN, MATERIAL_LEN, PacketKey, Random, Secret, Suite, TAG_LEN};

struct Resolver;

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn SnowRandom>> {
        Some(Box::new(NoRandom))
    }

    fn resolve_dh(&self, _: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::<X25519>::default())
    }

    fn resolve_hash(&self, _: &HashChoice) -> Option<Box<dyn Hash>> {
        Some(Box::<Blake3>::default())
    }

    fn resolve_cipher(&self, _: &CipherChoice) -> Option<Box<dyn Cipher>> {
        Some(Box::<ChaCha>::default())
    }
}

/// Ephemeral keys are given, so nothing is ever drawn.
struct NoRandom;

impl SnowRandom for NoRandom {
    fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), snow::Error> {
        Err(snow::Error::Rng)
    }
}

#[derive(Default)]
struct X25519 {
    secret: [u8; 32],
    public: [u8; 32],
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, secret: &[u8]) {
        self.secret.copy_from_slice(secret);
        self.public = curve25519_dalek::MontgomeryPoint::mul_base_clamped(self.secret).to_bytes();
    }

    fn generate(&mut self, _: &mut dyn SnowRandom) -> Result<(), snow::Error> {
        Err(snow::Error::Rng)
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &self.secret
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let point = curve25519_dalek::MontgomeryPoint(public[..32].try_into().expect("32 bytes"));
        out[..32].copy_from_slice(point.mul_clamped(self.secret).as_bytes());
        Ok(())
    }
}

#[derive(Default)]
struct Blake3(blake3::Hasher);

impl Hash for Blake3 {
    fn name(&self) -> &'static str {
        "BLAKE3"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0.reset();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        out[..32].copy_from_slice(self.0.finalize().as_bytes());
    }
}

#[derive(Default)]
struct ChaCha([u8; 32]);

impl ChaCha {
    fn key(&self) -> aead::LessSafeKey {
        let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, &self.0).expect("32 bytes");
        aead::LessSafeKey::new(key)
    }

    /// Noise 12.3: 32 zero bits, then the number, little-endian.
    fn nonce(number: u64) -> aead::Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&number.to_le_bytes());
        aead::Nonce::assume_unique_for_key(nonce)
    }
}

impl Cipher for ChaCha {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.0 = *key;
    }

    fn encrypt(&self, nonce: u64, aad: &[u8], text: &[u8], out: &mut [u8]) -> usize {
        let mut sealed = text.to_vec();
        let nonce = Self::nonce(nonce);
        let sealing = self.key().seal_in_place_append_tag(nonce, aead::Aad::from(aad), &mut sealed);
        sealing.expect("short texts");
        out[..sealed.len()].copy_from_slice(&sealed);
        sealed.len()
    }

    fn decrypt(
        &self,
        nonce: u64,
        aad: &[u8],
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<usize, snow::Error> {
        let mut text = sealed.to_vec();
        let nonce = Self::nonce(nonce);
        let opened = self.key().open_in_place(nonce, aead::Aad::from(aad), &mut text);
        let opened = opened.map_err(|_| snow::Error::Decrypt)?;
        out[..opened.len()].copy_from_slice(opened);
        Ok(opened.len())
    }
}

fn snow_builder<'a>(
    secret: &'a [u8; 32],
    ephemeral: &'a [u8; 32],
    psk: &'a [u8; 32],
    prologue: &'a [u8],
) -> snow::Builder<'a> {
    let mut params: NoiseParams =
        "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s".parse().expect("a name snow knows");
    params.name = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE3".to_owned();
    snow::Builder::with_resolver(params, Box::new(Resolver))
        .local_private_key(secret)
        .and_then(|builder| builder.psk(2, psk))
        .and_then(|builder| builder.prologue(prologue))
        .expect("each is set once")
        .fixed_ephemeral_key_for_testing_only(ephemeral)
}

/// One handshake with everything drawn from `random`, byte for byte in both roles.
fn agree_once(random: &mut Random) {
    let [s_i, e_i, s_r, e_r, psk]: [[u8; 32]; 5] = core::array::from_fn(|_| random.bytes());
    let public = |secret: &[u8; 32]| Secret::from_bytes(secret).public();
    let draw = |random: &mut Random, bound| {
        let mut bytes = vec![0; usize::try_from(random.below(bound)).expect("small")];
        random.fill(&mut bytes);
        bytes
    };
    let (prologue, text_1, text_2) = (draw(random, 200), draw(random, 900), draw(random, 300));

    let mut their_initiator = snow_builder(&s_i, &e_i, &psk, &prologue);
    let s_r_public = public(&s_r);
    their_initiator = their_initiator.remote_public_key(&s_r_public).expect("set once");
    let mut their_initiator = their_initiator.build_initiator().expect("complete");
    let their_responder = snow_builder(&s_r, &e_r, &psk, &prologue);
    let mut their_responder = their_responder.build_responder().expect("complete");
    let (mut wire, mut text) = ([0; 2_000], [0; 2_000]);

    // The first message: theirs equals ours, and each side reads it.
    let len = their_initiator.write_message(&text_1, &mut wire).expect("fits");
    let mut sealed = vec![0; SEALED_KEY_LEN];
    sealed.extend(&text_1);
    sealed.extend([0; TAG_LEN]);
    let (own, own_public) = (Secret::from_bytes(&s_i), public(&s_i));
    let ephemeral = Secret::from_bytes(&e_i);
    let parts = [prologue.as_slice()];
    let (first, long_term) = ((&ephemeral, &public(&e_i)), (&own, &own_public));
    let written = write_first(&parts, first, long_term, &s_r_public, &mut sealed).expect("ok");
    assert_eq!(wire[..len], [public(&e_i).as_slice(), &sealed].concat());
    let read_len = their_responder.read_message(&wire[..len], &mut text).expect("ours opens");
    assert_eq!(text[..read_len], text_1);
    let responder = Secret::from_bytes(&s_r);
    let read = read_first(&parts, (&responder, &s_r_public), &public(&e_i), &mut sealed);
    let read = read.expect("theirs opens");
    assert_eq!(read.peer, own_public);
    assert_eq!(sealed[SEALED_KEY_LEN..sealed.len() - TAG_LEN], text_1);

    // The second.
    let len = their_responder.write_message(&text_2, &mut wire).expect("fits");
    let mut payload = text_2.clone();
    payload.extend([0; TAG_LEN]);
    let mixed =
        read.mix_second((&Secret::from_bytes(&e_r), &public(&e_r)), &psk).expect("proper points");
    let split = mixed.write(&mut payload);
    assert_eq!(wire[..len], [public(&e_r).as_slice(), &payload].concat());
    let read_len = their_initiator.read_message(&wire[..len], &mut text).expect("ours opens");
    assert_eq!(text[..read_len], text_2);
    let mixed = written.mix_second(&ephemeral, &own, &public(&e_r), &psk).expect("proper points");
    let ours = mixed.read(&mut payload).expect("theirs opens");
    assert_eq!(payload[..text_2.len()], text_2);

    // What is left: the transcript hash, and both keys as their first transport packets show.
    assert_eq!(split.hash, their_initiator.get_handshake_hash());
    assert_eq!((ours.hash, *ours.first, *ours.second), (split.hash, *split.first, *split.second));
    let mut initiator = their_initiator.into_transport_mode().expect("finished");
    let mut responder = their_responder.into_transport_mode().expect("finished");
    for (sender, key) in [(&mut initiator, split.first), (&mut responder, split.second)] {
        let len = sender.write_message(b"first packet", &mut wire).expect("fits");
        let mut sealed = *b"first packet";
        let mut material = [0; MATERIAL_LEN];
        material[..KEY_LEN].copy_from_slice(key.as_slice());
        let tag = PacketKey::new(Suite::ChaCha20Poly1305, &material).seal(0, &[], &mut sealed);
        assert_eq!(wire[..len], [sealed.as_slice(), &tag].concat());
    }
}

// PROTOCOL 3.10
#[test]
fn random_handshakes_are_byte_identical_with_snow() {
    let mut random = Random::from_seed(*b"oracle oracle oracle oracle orac");
    for _ in 0..250 {
        agree_once(&mut random);
    }
}
