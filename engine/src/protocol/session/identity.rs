//! Who a node is: its static key pair, and which of its lives is speaking.

use core::fmt;
use core::str::FromStr;

use zeroize::Zeroizing;

use crate::limits::PEER_TEXT_LEN_MAX;
use crate::protocol::crypto::{self, KEY_LEN, MAC_LEN, Random, Secret};

/// What only a node itself can say of a session: that it does not know it any more (PROTOCOL 4.5).
/// Compared in constant time.
#[derive(Clone, Copy, Eq)]
pub struct ResetToken(pub [u8; MAC_LEN]);

impl PartialEq for ResetToken {
    fn eq(&self, other: &Self) -> bool {
        crypto::equal(&self.0, &other.0)
    }
}

impl fmt::Debug for ResetToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResetToken(..)") // Whoever knows it can end the session.
    }
}

/// A node's public key: its identity. Written as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; KEY_LEN]);

impl PublicKey {
    /// The key of these bytes; any 32 bytes are one.
    pub const fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// The short id of `sd` and `dd`: the first eight bytes of the key's BLAKE3 hash. For people
    /// and relays; two keys may share one.
    pub fn device_id(&self) -> u64 {
        let hash = crypto::hash(&[&self.0]);
        u64::from_be_bytes(*hash.first_chunk().expect("a hash is longer than an id"))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a public key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ParseKeyError {
    /// It does not have 64 characters, but this many.
    Length(usize),
    /// It holds something else than hex digits.
    NotHex,
}

impl fmt::Display for ParseKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(len) => write!(f, "a key has 64 hex digits, this has {len} characters"),
            Self::NotHex => f.write_str("a key has hex digits only"),
        }
    }
}

impl std::error::Error for ParseKeyError {}

impl FromStr for PublicKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        if text.len() != 2 * KEY_LEN {
            return Err(ParseKeyError::Length(text.chars().count()));
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(ParseKeyError::NotHex);
        let mut key = [0; KEY_LEN];
        for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let value = digit(pair[0])? << 4 | digit(pair[1])?;
            *byte = u8::try_from(value).expect("two hex digits are a byte");
        }
        Ok(Self(key))
    }
}

/// A node's static key pair. The secret is erased when this is dropped.
pub struct Identity {
    secret: Secret,
    public: PublicKey,
    /// Keys the tokens of stateless resets, so that they survive a restart without a disk.
    reset_secret: Zeroizing<[u8; KEY_LEN]>,
}

impl Identity {
    /// The identity of this secret key.
    pub fn from_secret(secret: &[u8; KEY_LEN]) -> Self {
        let secret = Secret::from_bytes(secret);
        let public = PublicKey(secret.public());
        let context = "RAET 2026-11-22 rsh1 stateless reset";
        let reset_secret = crypto::derive(context, &[secret.bytes()]);
        Self { secret, public, reset_secret }
    }

    /// A new identity.
    pub fn generate(random: &mut Random) -> Self {
        Self::from_secret(&Zeroizing::new(random.bytes()))
    }

    /// The public half.
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// The secret half, for the file it is kept in and for nothing else.
    pub fn secret_bytes(&self) -> Zeroizing<[u8; KEY_LEN]> {
        Zeroizing::new(*self.secret.bytes())
    }

    /// What we answer for `session` once we no longer know it (PROTOCOL 4.5).
    pub fn reset_token(&self, session: u64) -> ResetToken {
        ResetToken(crypto::mac(&self.reset_secret, &[&session.to_be_bytes()]))
    }

    pub(super) const fn secret(&self) -> &Secret {
        &self.secret
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("public", &self.public).finish_non_exhaustive()
    }
}

/// Names one half of an association: random at each start of a node, and another one for each
/// association in which that life of the node takes part.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BootId(pub [u8; 16]);

impl BootId {
    /// The id of a life that starts now.
    pub fn generate(random: &mut Random) -> Self {
        Self(random.bytes())
    }

    /// The id of this life in its association number `number`.
    #[must_use]
    pub fn of_association(self, number: u64) -> Self {
        let id = u128::from_be_bytes(self.0) ^ u128::from(number);
        Self(id.to_be_bytes())
    }
}

/// A short text that a peer says of itself: printable ASCII, at most [`PEER_TEXT_LEN_MAX`] bytes,
/// so that it can be shown and logged as it is.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerText(Box<str>);

impl PeerText {
    /// Checks and takes `text`; `None` if it is too long or not printable.
    pub fn new(text: &[u8]) -> Option<Self> {
        let printable = |byte: &u8| (b' '..=b'~').contains(byte);
        if text.len() > PEER_TEXT_LEN_MAX || !text.iter().all(printable) {
            return None;
        }
        core::str::from_utf8(text).ok().map(|text| Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for PeerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PeerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_key_reads_back_what_it_writes() {
        let identity = Identity::generate(&mut Random::from_seed([1; 32]));
        let text = identity.public().to_string();
        assert_eq!(text.parse(), Ok(identity.public()));
        assert_eq!(text.to_uppercase().parse(), Ok(identity.public()));
        assert_eq!(text[1..].parse::<PublicKey>(), Err(ParseKeyError::Length(63)));
        assert_eq!(text.replace(&text[..1], "x").parse::<PublicKey>(), Err(ParseKeyError::NotHex));
        assert_eq!("é".repeat(32).parse::<PublicKey>(), Err(ParseKeyError::NotHex));
    }

    #[test]
    fn identity_survives_its_file() {
        let identity = Identity::generate(&mut Random::from_seed([2; 32]));
        let again = Identity::from_secret(&identity.secret_bytes());
        assert_eq!(again.public(), identity.public());
        assert_eq!(again.reset_token(77), identity.reset_token(77));
        assert!(
            !format!("{identity:?}")
                .contains(&format!("{:02x}", identity.secret_bytes()[0]).repeat(2))
        );
    }

    // PROTOCOL 4.5
    #[test]
    fn reset_tokens_differ_by_session_and_by_identity() {
        let one = Identity::generate(&mut Random::from_seed([1; 32]));
        let two = Identity::generate(&mut Random::from_seed([2; 32]));
        assert_ne!(one.reset_token(1), one.reset_token(2));
        assert_ne!(one.reset_token(1), two.reset_token(1));
    }

    // PROTOCOL 3.14
    #[test]
    fn reg_log_escape() {
        assert_eq!(PeerText::new(b"edge-17 west").expect("printable").as_str(), "edge-17 west");
        for hostile in [&b"\x1b[2Jgone"[..], b"a\nb", b"caf\xc3\xa9", b"\0", &[b'x'; 65]] {
            assert_eq!(PeerText::new(hostile), None);
        }
        assert!(PeerText::new(&[b'x'; 64]).is_some());
    }
}
