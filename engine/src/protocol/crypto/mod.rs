//! Keys, ciphers, hashes and seeded randomness, behind our own small types.
//!
//! Each primitive does one job and is named once: BLAKE3 derives keys and authenticates what
//! strangers send, X25519 agrees on secrets, AES-256-GCM or ChaCha20-Poly1305 protects packets.
//! Nothing above this room names a cryptographic crate, so a provider can be replaced here.
//! Secrets are erased when dropped, as far as their crates allow: `ring` keeps the expanded
//! packet keys in its own type and does not erase them.

mod agree;
mod cipher;
mod hash;
mod packet_key;
mod random;

pub use agree::{KEY_LEN, LowOrderPoint, Secret};
pub use hash::{MAC_LEN, derive, derive_into, equal, hash, hkdf2, hkdf3, mac};
pub use packet_key::{MATERIAL_LEN, OpenFailed, PacketKey, Suite, TAG_LEN};
pub use random::Random;
