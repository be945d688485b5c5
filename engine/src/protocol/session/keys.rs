//! The key schedule: from the handshake's two keys and transcript hash to packet keys.
//!
//! Each direction has a chain of secrets, one a generation. A generation's secret gives the keys
//! of its lanes and, one way, the next secret: who steals today's cannot compute yesterday's.

use zeroize::Zeroizing;

use super::handshake::Split;
use crate::limits::PACKETS_BEFORE_BUSY;
use crate::protocol::crypto::{self, KEY_LEN, MATERIAL_LEN, PacketKey, Suite};

/// The secrets a session starts from; erased when dropped.
pub struct SessionSecrets {
    /// Generation 0 of the initiator's packets.
    pub(super) initiator: Chain,
    /// Generation 0 of the responder's packets.
    pub(super) responder: Chain,
    exporter: Zeroizing<[u8; KEY_LEN]>,
}

impl SessionSecrets {
    /// Derives everything from the handshake's result, which is consumed: the master secret does
    /// not outlive this call.
    pub(super) fn derive(split: Split) -> Self {
        let master = crypto::derive(
            "RAET 2026-11-22 rsh1 session master",
            &[split.first.as_slice(), split.second.as_slice(), &split.hash],
        );
        let from_master = |context| crypto::derive(context, &[master.as_slice()]);
        Self {
            initiator: Chain(from_master("RAET 2026-11-22 rsh1 traffic i2r")),
            responder: Chain(from_master("RAET 2026-11-22 rsh1 traffic r2i")),
            exporter: from_master("RAET 2026-11-22 rsh1 exporter"),
        }
    }

    /// A secret that both ends share and may use for something of their own.
    pub fn exporter(&self) -> &[u8; KEY_LEN] {
        &self.exporter
    }
}

impl core::fmt::Debug for SessionSecrets {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SessionSecrets").finish_non_exhaustive()
    }
}

/// The secret of one direction and generation.
pub(super) struct Chain(Zeroizing<[u8; KEY_LEN]>);

impl Chain {
    /// The next generation's.
    pub(super) fn next(&self) -> Self {
        Self(crypto::derive("RAET 2026-11-22 rsh1 ratchet", &[self.0.as_slice()]))
    }

    /// The packet key of a lane.
    pub(super) fn lane_key(&self, suite: Suite, lane: u16, generation: u16) -> LaneKey {
        LaneKey { suite, material: self.lane_material(suite, lane, generation), expanded: None }
    }

    fn lane_material(
        &self,
        suite: Suite,
        lane: u16,
        generation: u16,
    ) -> Zeroizing<[u8; MATERIAL_LEN]> {
        let mut material = Zeroizing::new([0; MATERIAL_LEN]);
        crypto::derive_into(
            "RAET 2026-11-22 rsh1 lane key",
            &[
                self.0.as_slice(),
                &suite.number().to_be_bytes(),
                &lane.to_be_bytes(),
                &generation.to_be_bytes(),
            ],
            material.as_mut_slice(),
        );
        material
    }
}

/// The key of a lane and generation. Expanded it takes ten times its own memory, so that is kept only
/// by a busy session; one of few packets expands it for each.
pub(super) struct LaneKey {
    suite: Suite,
    material: Zeroizing<[u8; MATERIAL_LEN]>,
    expanded: Option<Box<PacketKey>>,
}

impl LaneKey {
    /// The key expanded, for packet `number`: in `room`, if it is not kept.
    #[inline]
    pub(super) fn expanded<'a>(
        &'a mut self,
        number: u64,
        room: &'a mut Option<PacketKey>,
    ) -> &'a PacketKey {
        if self.expanded.is_none() {
            return self.expand_for(number, room);
        }
        self.expanded.as_deref().expect("seen just now")
    }

    #[cold]
    #[inline(never)]
    fn expand_for<'a>(&'a mut self, number: u64, room: &'a mut Option<PacketKey>) -> &'a PacketKey {
        if number < PACKETS_BEFORE_BUSY {
            room.insert(PacketKey::new(self.suite, &self.material))
        } else {
            self.keep()
        }
    }

    /// Keeps the key expanded from now on.
    #[cold]
    #[inline(never)]
    pub(super) fn keep(&mut self) -> &PacketKey {
        let Self { suite, material, expanded } = self;
        expanded.get_or_insert_with(|| Box::new(PacketKey::new(*suite, material)))
    }

    #[cfg(test)]
    pub(super) const fn is_kept(&self) -> bool {
        self.expanded.is_some()
    }
}

/// The session id of a transcript hash and a salt (PROTOCOL 4.4). May be zero, which is no id.
pub(super) fn session_id(hash: &[u8; 32], salt: u8) -> u64 {
    let mut id = [0; 8];
    let context = "RAET 2026-11-22 rsh1 session id";
    crypto::derive_into(context, &[hash, &[salt]], &mut id);
    u64::from_be_bytes(id)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::protocol::session::fixture::unhex;

    fn annex_split() -> Split {
        Split {
            first: Zeroizing::new(unhex(
                "4e513fc6877077c179d97f0cdda8e609512f9cd9c7f24d6624074f57a9d939b5",
            )),
            second: Zeroizing::new(unhex(
                "5dc3f869c61c8b8ddea6fbafe308627f7ffcb7b2d893ada0c8767c358bd05f0e",
            )),
            hash: unhex("7f4323de9926571feafd72cbd8f39d2d9654ef915d5978be715c546958b065dd"),
        }
    }

    // PROTOCOL 4.1
    // PROTOCOL 4.2
    // PROTOCOL 4.3
    #[test]
    fn schedule_reproduces_the_published_vectors() {
        let secrets = SessionSecrets::derive(annex_split());
        assert_eq!(
            *secrets.initiator.0,
            unhex("78354a4bfc3385403c3b4086e9d7ed05a64637b847bb7b392c2f94acfd3346b9"),
        );
        assert_eq!(
            *secrets.responder.0,
            unhex("7e27baec65e0fcdd9ffcf94af949f52c8eef2615dc7269bb6cfba538309472f0"),
        );
        assert_eq!(
            *secrets.initiator.next().0,
            unhex("91e7ff02db8929c971ee427850513d2a31f0783ae7f5e2c62d3e55e7a2c660e8"),
        );
        let lane = |lane| secrets.initiator.lane_material(Suite::Aes256Gcm, lane, 0);
        assert_eq!(
            lane(0)[..32],
            unhex::<32>("4a5d884efafe2d0c4ad787daae26380c6ccbe0f3e64d95676e7f3f79cc9b3f4d"),
        );
        assert_eq!(lane(0)[32..44], unhex::<12>("21d64a52ee394e4ddde2d070"));
        assert_eq!(
            lane(1)[..32],
            unhex::<32>("4c2bc832260d44c52eb2a252e2adb5e1c25e8649a401b841290cfa78df8be276"),
        );
        assert_eq!(lane(1)[32..44], unhex::<12>("481cbc26f4485e95f2dfcb9a"));
    }

    // PROTOCOL 4.4
    #[test]
    fn session_id_reproduces_the_published_vector_and_follows_its_salt() {
        let hash = annex_split().hash;
        assert_eq!(session_id(&hash, 0), 0xe3ab_4629_e63e_6415);
        assert_ne!(session_id(&hash, 0), session_id(&hash, 1));
    }

    // PROTOCOL 4.3
    #[test]
    fn lanes_generations_and_suites_share_no_key() {
        let chain = SessionSecrets::derive(annex_split()).initiator;
        let mut seen = HashSet::new();
        let suites = [
            Suite::Aes256Gcm,
            Suite::ChaCha20Poly1305,
            #[cfg(feature = "aegis")]
            Suite::Aegis128L,
        ];
        for suite in suites {
            for lane in 0..64 {
                for generation in 0..64 {
                    assert!(seen.insert(*chain.lane_material(suite, lane, generation)));
                }
            }
        }
    }
}
