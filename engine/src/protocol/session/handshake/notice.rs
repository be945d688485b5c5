//! The notice that a pending peer has been accepted (PROTOCOL 3.22).
//!
//! It is sealed for the peer and says nothing that has to be believed: all it does is to make the
//! peer ask again, a little earlier than it would have. A forged or repeated one costs a
//! handshake, and those are limited.

use crypto_box::aead::AeadInPlace;
use crypto_box::{SalsaBox, SecretKey};
use zeroize::Zeroizing;

use super::messages::{Frame, check_mac, check_shape, mac1_key};
use crate::protocol::crypto::{Random, TAG_LEN};
use crate::protocol::drop_reason::DropReason;
use crate::protocol::session::identity::{BootId, Identity, PublicKey};
use crate::protocol::wire::{Packet, PacketKind};

const NONCE_LEN: usize = 24;
const ACCEPTED: &[u8; 8] = b"accepted";
/// Boot id, counter, and the word.
const TEXT_LEN: usize = 16 + 8 + ACCEPTED.len();
const BODY_LEN: usize = NONCE_LEN + TAG_LEN + TEXT_LEN;

/// What a notice says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Notice {
    /// Which of its sender's lives it is from.
    pub boot: BootId,
    /// Counts the notices of that life.
    pub counter: u64,
}

impl Notice {
    /// Writes the datagram for `peer` to `out` and returns its length, below 300 bytes.
    pub fn seal(
        &self,
        own: &Identity,
        peer: &PublicKey,
        transaction: u64,
        random: &mut Random,
        out: &mut [u8],
    ) -> usize {
        let frame = Frame::of_body(PacketKind::Notice, transaction, BODY_LEN, out);
        let body = &mut out[frame.body()];
        let (nonce, sealed) = body.split_at_mut(NONCE_LEN);
        random.fill(nonce);
        let (tag, text) = sealed.split_at_mut(TAG_LEN);
        text[..16].copy_from_slice(&self.boot.0);
        text[16..24].copy_from_slice(&self.counter.to_be_bytes());
        text[24..].copy_from_slice(ACCEPTED);
        let sealed = between(own, peer)
            .encrypt_in_place_detached((&*nonce).into(), &[], text)
            .expect("a short text without associated data");
        tag.copy_from_slice(&sealed);
        frame.authenticate(&mac1_key(Some(peer)), &[], out);
        frame.len
    }

    /// Opens a notice from `peer`.
    ///
    /// # Errors
    /// The reason to drop it.
    pub fn open(
        own: &Identity,
        peer: &PublicKey,
        packet: &Packet,
        datagram: &[u8],
    ) -> Result<Self, DropReason> {
        check_shape(packet, PacketKind::Notice)?;
        let body: [u8; BODY_LEN] =
            datagram[packet.body()].try_into().map_err(|_| DropReason::HandshakeInvalid)?;
        check_mac(packet, datagram, &mac1_key(Some(&own.public())), &[])?;
        let (nonce, sealed) = body.split_at(NONCE_LEN);
        let (tag, text) = sealed.split_at(TAG_LEN);
        let mut text: [u8; TEXT_LEN] = text.try_into().expect("the rest");
        between(own, peer)
            .decrypt_in_place_detached(nonce.into(), &[], &mut text, tag.into())
            .map_err(|_| DropReason::AuthenticationFailed)?;
        if &text[24..] != ACCEPTED {
            return Err(DropReason::HandshakeInvalid);
        }
        Ok(Self {
            boot: BootId(*text.first_chunk().expect("32 bytes")),
            counter: u64::from_be_bytes(*text[16..].first_chunk().expect("32 bytes")),
        })
    }
}

fn between(own: &Identity, peer: &PublicKey) -> SalsaBox {
    let secret = Zeroizing::new(*own.secret().bytes());
    SalsaBox::new(&(*peer.as_bytes()).into(), &SecretKey::from(*secret))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::wire;

    // PROTOCOL 3.22
    #[test]
    fn notice_opens_for_its_peer_from_its_sender_and_no_other() {
        let mut random = Random::from_seed([1; 32]);
        let [master, minion, other]: [Identity; 3] =
            core::array::from_fn(|_| Identity::generate(&mut random));
        let notice = Notice { boot: BootId([7; 16]), counter: 9 };
        let mut out = [0; 300];
        let len = notice.seal(&master, &minion.public(), 5, &mut random, &mut out);
        let datagram = &mut out[..len];
        let packet = wire::split(datagram).expect("our own");
        assert_eq!(packet.head.transaction, 5);
        assert_eq!(Notice::open(&minion, &master.public(), &packet, datagram), Ok(notice));
        let refused = Notice::open(&minion, &other.public(), &packet, datagram);
        assert_eq!(refused, Err(DropReason::AuthenticationFailed));
        let refused = Notice::open(&other, &master.public(), &packet, datagram);
        assert_eq!(refused, Err(DropReason::MacInvalid));
        for bit in 0..8 * len {
            datagram[bit / 8] ^= 1 << (bit % 8);
            if let Ok(packet) = wire::split(datagram) {
                assert!(Notice::open(&minion, &master.public(), &packet, datagram).is_err());
            }
            datagram[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
