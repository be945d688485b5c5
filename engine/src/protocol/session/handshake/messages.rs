//! The four bootstrap packets as bytes (PROTOCOL 3.2 to 3.9).
//!
//! Each is a JSON head with session id 0, a 16-byte MAC, and a raw body of fixed places. Whoever
//! verifies a MAC does it over the exact bytes that came; nothing is written again to compare.

use core::ops::Range;

use crate::limits::{DATAGRAM_LEN_BASE, HEAD_EMIT_LEN_MAX};
use crate::protocol::crypto::{self, KEY_LEN, MAC_LEN, TAG_LEN};
use crate::protocol::drop_reason::DropReason;
use crate::protocol::session::identity::{BootId, PeerText, PublicKey};
use crate::protocol::session::offer::OfferBits;
use crate::protocol::session::parameters::{PARAMETERS_LEN_MAX, Parameters};
use crate::protocol::wire::{self, AuthKind, BodyKind, Head, Packet, PacketKind, TailKind};

use super::noise::SEALED_KEY_LEN;

/// The version of the handshake.
const VERSION: u8 = 1;
/// Bytes of a Hello datagram at least, so that the Cookie is always shorter.
pub(super) const HELLO_LEN: usize = 512;
/// Bytes of an Initiate datagram at least: it also shows that the path carries the base length.
pub(super) const INITIATE_LEN: usize = DATAGRAM_LEN_BASE;
/// Bytes of every Accept datagram, whatever it says.
pub(super) const ACCEPT_LEN: usize = 512;

/// Bytes at the start of the Hello's body that Initiate repeats and the cookie binds.
pub(super) const OPENING_LEN: usize = 64;
/// Bytes of a cookie as Initiate returns it.
pub(super) const COOKIE_LEN: usize = 28;
/// Bytes of a cookie before its MAC.
pub(super) const COOKIE_CLEAR_LEN: usize = 12;
/// Bytes of the proof in an Initiate.
const PROOF_LEN: usize = 48;
/// Bytes of an Initiate's body that the transcript binds as prologue.
pub(super) const PROLOGUE_BODY_LEN: usize = OPENING_LEN + PROOF_LEN;
/// Bytes of an Accept's body before its sealed payload.
const ACCEPT_CLEAR_LEN: usize = 4 + KEY_LEN;

/// What the prologue starts with.
pub(super) const PROLOGUE: &[u8] = b"RAET rsh1";

/// Hello flag: the responder's key is not known to the initiator.
pub(super) const FLAG_DISCOVER: u8 = 1;
/// Hello flag: the initiator mixes a pre-shared key.
pub(super) const FLAG_PSK: u8 = 2;
/// Cookie flag: the responder's key is attached.
const FLAG_KEY_ATTACHED: u8 = 1;

/// The key of the MAC on what is sent *to* the holder of `receiver`; without one, for anybody.
pub(super) fn mac1_key(receiver: Option<&PublicKey>) -> [u8; KEY_LEN] {
    let receiver = receiver.map_or(&[0; KEY_LEN], PublicKey::as_bytes);
    *crypto::derive("RAET 2026-11-22 rsh1 mac1", &[receiver])
}

/// The key of the MAC on the responder's Cookies.
pub(super) fn cookie_auth_key(responder: &PublicKey) -> [u8; KEY_LEN] {
    *crypto::derive("RAET 2026-11-22 rsh1 cookie auth", &[responder.as_bytes()])
}

/// The key of the MAC on the responder's Accepts.
pub(super) fn accept_auth_key(responder: &PublicKey) -> [u8; KEY_LEN] {
    *crypto::derive("RAET 2026-11-22 rsh1 accept auth", &[responder.as_bytes()])
}

/// Where the parts of a bootstrap packet are that is being written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    head_len: usize,
    /// Bytes of the datagram.
    pub(super) len: usize,
}

impl Frame {
    /// Starts a packet whose datagram has exactly `len` bytes; the body is zeroed.
    pub(super) fn of_len(kind: PacketKind, transaction: u64, len: usize, out: &mut [u8]) -> Self {
        // The head's length depends on the body's digits, and the body's length on the head's:
        // the second round starts from the right number of digits.
        let mut body_len = len;
        for _ in 0..3 {
            let frame = Self::of_body(kind, transaction, body_len, out);
            if frame.len == len {
                return frame;
            }
            body_len = len - frame.head_len - MAC_LEN;
        }
        unreachable!("lengths of 256 to 4095 have three digits");
    }

    /// Starts a packet with a body of `body_len` bytes, which is zeroed.
    pub(super) fn of_body(
        kind: PacketKind,
        transaction: u64,
        body_len: usize,
        out: &mut [u8],
    ) -> Self {
        let head = Head {
            transaction,
            packet: kind,
            auth: AuthKind::Mac1,
            body: BodyKind::Raw,
            body_len: u32::try_from(body_len).expect("a datagram's body"),
            ..Head::default()
        };
        let mut before = [0; HEAD_EMIT_LEN_MAX];
        let head_len = wire::encode(&head, &mut before);
        let len = head_len + MAC_LEN + body_len;
        if len <= out.len() {
            out[..head_len].copy_from_slice(&before[HEAD_EMIT_LEN_MAX - head_len..]);
            out[head_len..len].fill(0);
        }
        Self { head_len, len }
    }

    /// Where the body is.
    pub(super) const fn body(&self) -> Range<usize> {
        self.head_len + MAC_LEN..self.len
    }

    /// Writes the MAC over head, body and `extra`, and returns it.
    pub(super) fn authenticate(
        &self,
        key: &[u8; KEY_LEN],
        extra: &[u8],
        out: &mut [u8],
    ) -> [u8; MAC_LEN] {
        let mac = crypto::mac(key, &[&out[..self.head_len], &out[self.body()], extra]);
        out[self.head_len..self.head_len + MAC_LEN].copy_from_slice(&mac);
        mac
    }
}

/// Checks that an arriving packet has the shape of a bootstrap packet of this kind.
pub(super) fn check_shape(packet: &Packet, kind: PacketKind) -> Result<(), DropReason> {
    let head = &packet.head;
    if head.packet != kind || head.session != 0 {
        return Err(DropReason::HandshakeUnexpected);
    }
    if head.auth != AuthKind::Mac1 || head.body != BodyKind::Raw || head.tail != TailKind::None {
        return Err(DropReason::KindMismatch);
    }
    Ok(())
}

/// The MAC that came with a packet of the right shape.
pub(super) fn mac_of(packet: &Packet, datagram: &[u8]) -> [u8; MAC_LEN] {
    datagram[packet.auth()].try_into().expect("the kind fixes the length")
}

/// Checks the MAC over head, body and `extra`.
pub(super) fn check_mac(
    packet: &Packet,
    datagram: &[u8],
    key: &[u8; KEY_LEN],
    extra: &[u8],
) -> Result<(), DropReason> {
    let head = &datagram[..packet.head_len()];
    let mac = crypto::mac(key, &[head, &datagram[packet.body()], extra]);
    if crypto::equal(&mac, &mac_of(packet, datagram)) {
        Ok(())
    } else {
        Err(DropReason::MacInvalid)
    }
}

/// The start of a Hello's body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Opening {
    pub(super) flags: u8,
    pub(super) offer: OfferBits,
    pub(super) ephemeral: [u8; KEY_LEN],
}

impl Opening {
    pub(super) fn write(&self) -> [u8; OPENING_LEN] {
        let mut bytes = [0; OPENING_LEN];
        bytes[0] = VERSION;
        bytes[1] = self.flags;
        write_offer(self.offer, &mut bytes[2..8]);
        bytes[32..].copy_from_slice(&self.ephemeral);
        bytes
    }

    /// Reads the opening of a body. Unknown flags refuse: each changes what the rest means.
    pub(super) fn read(body: &[u8]) -> Result<(Self, [u8; OPENING_LEN]), DropReason> {
        let bytes: &[u8; OPENING_LEN] = body.first_chunk().ok_or(DropReason::HandshakeInvalid)?;
        let flags = bytes[1];
        if bytes[0] != VERSION || flags & !(FLAG_DISCOVER | FLAG_PSK) != 0 {
            return Err(DropReason::Unsupported);
        }
        let ephemeral = *bytes.last_chunk().expect("the second half");
        Ok((Self { flags, offer: read_offer(&bytes[2..8]), ephemeral }, *bytes))
    }
}

fn write_offer(offer: OfferBits, out: &mut [u8]) {
    for (place, bits) in out.chunks_exact_mut(2).zip([offer.suites, offer.modes, offer.heads]) {
        place.copy_from_slice(&bits.to_be_bytes());
    }
}

fn read_offer(bytes: &[u8]) -> OfferBits {
    let bits = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    OfferBits { suites: bits(0), modes: bits(2), heads: bits(4) }
}

/// The clear start of a cookie: what its MAC covers.
pub(super) fn cookie_clear(
    key_attached: bool,
    offer: OfferBits,
    epoch: u32,
) -> [u8; COOKIE_CLEAR_LEN] {
    let mut bytes = [0; COOKIE_CLEAR_LEN];
    bytes[0] = VERSION;
    bytes[1] = if key_attached { FLAG_KEY_ATTACHED } else { 0 };
    write_offer(offer, &mut bytes[2..8]);
    bytes[8..].copy_from_slice(&epoch.to_be_bytes());
    bytes
}

/// The epoch in a cookie.
pub(super) fn cookie_epoch(cookie: &[u8; COOKIE_LEN]) -> u32 {
    u32::from_be_bytes(*cookie[8..].first_chunk().expect("28 bytes"))
}

/// The cookie in a Cookie's body, and the responder's key if it is attached.
pub(super) fn read_cookie(
    body: &[u8],
) -> Result<([u8; COOKIE_LEN], Option<PublicKey>), DropReason> {
    let (cookie, key) = body.split_first_chunk().ok_or(DropReason::HandshakeInvalid)?;
    if cookie[0] != VERSION {
        return Err(DropReason::Unsupported);
    }
    let key = match (cookie[1], key) {
        (0, []) => None,
        (FLAG_KEY_ATTACHED, key) => {
            let key = key.try_into().map_err(|_| DropReason::HandshakeInvalid)?;
            Some(PublicKey::from_bytes(key))
        }
        _ => return Err(DropReason::HandshakeInvalid),
    };
    Ok((*cookie, key))
}

/// The cookie in an Initiate's proof.
pub(super) fn proof_of(body: &[u8]) -> Result<[u8; COOKIE_LEN], DropReason> {
    let proof = body.get(OPENING_LEN..PROLOGUE_BODY_LEN).ok_or(DropReason::HandshakeInvalid)?;
    Ok(*proof.first_chunk().expect("a proof is longer than a cookie"))
}

/// What an Initiate says under its seal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct InitiatePayload {
    pub(super) boot: BootId,
    pub(super) device: u64,
    pub(super) name: PeerText,
    pub(super) role: PeerText,
    pub(super) token: PeerText,
    pub(super) parameters: Parameters,
}

impl InitiatePayload {
    /// Writes into `out`, which is longer than any payload; the rest stays as it is.
    pub(super) fn write(&self, out: &mut [u8]) {
        let mut out = Writer(out);
        out.bytes(&self.boot.0);
        out.bytes(&self.device.to_be_bytes());
        for text in [&self.name, &self.role, &self.token] {
            let text = text.as_str().as_bytes();
            out.bytes(&[u8::try_from(text.len()).expect("at most 64 bytes")]);
            out.bytes(text);
        }
        out.parameters(&self.parameters);
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self, DropReason> {
        let mut bytes = Reader(bytes);
        Ok(Self {
            boot: BootId(bytes.array()?),
            device: u64::from_be_bytes(bytes.array()?),
            name: bytes.text()?,
            role: bytes.text()?,
            token: bytes.text()?,
            parameters: bytes.parameters()?,
        })
    }
}

/// What an Accept answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Status {
    Accepted = 0,
    Pending = 1,
    Rejected = 2,
    Denied = 3,
}

/// What an Accept says under its seal. Fields that its status does not need are zero.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct AcceptPayload {
    pub(super) status: Status,
    pub(super) reason: u8,
    pub(super) suite: u16,
    pub(super) mode: u16,
    pub(super) heads: u16,
    pub(super) salt: u8,
    pub(super) retry_after_ms: u32,
    pub(super) boot: BootId,
    pub(super) reset_token: [u8; MAC_LEN],
    pub(super) parameters: Parameters,
}

/// Bytes for an address token, which this version does not issue.
const ADDRESS_TOKEN_LEN: usize = 48;

impl AcceptPayload {
    /// Writes into `out`, which is longer than any payload; the rest stays as it is.
    pub(super) fn write(&self, out: &mut [u8]) {
        let mut out = Writer(out);
        out.bytes(&[self.status as u8, self.reason]);
        for number in [self.suite, self.mode, self.heads] {
            out.bytes(&number.to_be_bytes());
        }
        out.bytes(&[self.salt]);
        out.bytes(&self.retry_after_ms.to_be_bytes());
        out.bytes(&self.boot.0);
        out.bytes(&self.reset_token);
        out.bytes(&[0; ADDRESS_TOKEN_LEN]);
        out.parameters(&self.parameters);
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self, DropReason> {
        let mut bytes = Reader(bytes);
        let [status, reason] = bytes.array()?;
        let status = match status {
            0 => Status::Accepted,
            1 => Status::Pending,
            2 => Status::Rejected,
            3 => Status::Denied,
            _ => return Err(DropReason::HandshakeInvalid),
        };
        let suite = u16::from_be_bytes(bytes.array()?);
        let mode = u16::from_be_bytes(bytes.array()?);
        let heads = u16::from_be_bytes(bytes.array()?);
        let [salt] = bytes.array()?;
        let retry_after_ms = u32::from_be_bytes(bytes.array()?);
        let boot = BootId(bytes.array()?);
        let reset_token = bytes.array()?;
        let _: [u8; ADDRESS_TOKEN_LEN] = bytes.array()?;
        Ok(Self {
            status,
            reason,
            suite,
            mode,
            heads,
            salt,
            retry_after_ms,
            boot,
            reset_token,
            parameters: bytes.parameters()?,
        })
    }
}

/// The ephemeral key and the sealed payload of an Accept's body.
pub(super) fn read_accept(body: &[u8]) -> Result<([u8; KEY_LEN], &[u8]), DropReason> {
    let (clear, sealed): (&[u8; ACCEPT_CLEAR_LEN], _) =
        body.split_first_chunk().ok_or(DropReason::HandshakeInvalid)?;
    if clear[0] != VERSION {
        return Err(DropReason::Unsupported);
    }
    if sealed.len() < TAG_LEN {
        return Err(DropReason::HandshakeInvalid);
    }
    Ok((*clear.last_chunk().expect("the key is last"), sealed))
}

/// Writes the clear start of an Accept's body and returns the rest, for the sealed payload.
pub(super) fn start_accept<'a>(ephemeral: &[u8; KEY_LEN], body: &'a mut [u8]) -> &'a mut [u8] {
    let (clear, sealed) = body.split_at_mut(ACCEPT_CLEAR_LEN);
    clear[0] = VERSION;
    clear[ACCEPT_CLEAR_LEN - KEY_LEN..].copy_from_slice(ephemeral);
    sealed
}

struct Writer<'a>(&'a mut [u8]);

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        let (place, rest) = core::mem::take(&mut self.0).split_at_mut(bytes.len());
        place.copy_from_slice(bytes);
        self.0 = rest;
    }

    fn parameters(&mut self, parameters: &Parameters) {
        let mut list = [0; PARAMETERS_LEN_MAX];
        let len = parameters.write(&mut list);
        self.bytes(&u16::try_from(len).expect("a short list").to_be_bytes());
        self.bytes(&list[..len]);
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], DropReason> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(DropReason::HandshakeInvalid)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DropReason> {
        Ok(self.bytes(N)?.try_into().expect("as many as asked for"))
    }

    fn text(&mut self) -> Result<PeerText, DropReason> {
        let [len] = self.array()?;
        PeerText::new(self.bytes(len.into())?).ok_or(DropReason::HandshakeInvalid)
    }

    fn parameters(&mut self) -> Result<Parameters, DropReason> {
        let len = u16::from_be_bytes(self.array()?);
        let list = self.bytes(len.into())?;
        Parameters::read(list).map_err(|_| DropReason::HandshakeInvalid)
    }
}

// Payloads always fit: the longest against the shortest room, with the longest head.
const _: () = assert!(
    16 + 8 + 3 * 65 + 2 + PARAMETERS_LEN_MAX + TAG_LEN + SEALED_KEY_LEN + PROLOGUE_BODY_LEN
        <= INITIATE_LEN - MAC_LEN - HEAD_EMIT_LEN_MAX
);
const _: () = assert!(ACCEPT_LEN <= INITIATE_LEN && HELLO_LEN <= INITIATE_LEN);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OFFER: OfferBits = OfferBits { suites: 0x0102, modes: 0x0304, heads: 0x0506 };

    // PROTOCOL 3.4
    #[test]
    fn opening_has_its_fields_at_their_places() {
        let opening = Opening { flags: 3, offer: OFFER, ephemeral: [0xee; 32] };
        let mut expected = vec![1, 3, 1, 2, 3, 4, 5, 6];
        expected.extend([0; 24]);
        expected.extend([0xee; 32]);
        assert_eq!(opening.write().to_vec(), expected);
        assert_eq!(Opening::read(&expected), Ok((opening, opening.write())));
        assert_eq!(Opening::read(&expected[..63]), Err(DropReason::HandshakeInvalid));
        for (at, wrong) in [(0, 0), (0, 2), (1, 4), (1, 0x80)] {
            let mut changed = expected.clone();
            changed[at] = wrong;
            assert_eq!(Opening::read(&changed), Err(DropReason::Unsupported));
        }
    }

    // PROTOCOL 3.5
    #[test]
    fn cookie_has_its_fields_at_their_places() {
        let clear = cookie_clear(true, OFFER, 0x0708_090a);
        assert_eq!(clear, [1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        let mut body = clear.to_vec();
        body.extend([0xcc; 16]);
        assert_eq!(read_cookie(&body), Err(DropReason::HandshakeInvalid));
        body.extend([0xaa; 32]);
        let (cookie, key) = read_cookie(&body).expect("whole");
        assert_eq!(cookie, body[..28]);
        assert_eq!(cookie_epoch(&cookie), 0x0708_090a);
        assert_eq!(key, Some(PublicKey::from_bytes([0xaa; 32])));
        body[1] = 0;
        assert_eq!(read_cookie(&body), Err(DropReason::HandshakeInvalid));
        assert_eq!(read_cookie(&body[..28]).expect("whole").1, None);
    }

    fn initiate_payload() -> InitiatePayload {
        let text = |text: &str| PeerText::new(text.as_bytes()).expect("printable");
        InitiatePayload {
            boot: BootId([1; 16]),
            device: 2,
            name: text(&"n".repeat(64)),
            role: text("role"),
            token: text(""),
            parameters: Parameters { lanes: 1, receive_bytes: 9, ..Parameters::default() },
        }
    }

    fn accept_payload() -> AcceptPayload {
        AcceptPayload {
            status: Status::Denied,
            reason: 4,
            suite: 1,
            mode: 2,
            heads: 1,
            salt: 9,
            retry_after_ms: 0x0102_0304,
            boot: BootId([5; 16]),
            reset_token: [6; 16],
            parameters: Parameters::default(),
        }
    }

    // PROTOCOL 3.7
    // PROTOCOL 3.9
    #[test]
    fn payloads_read_back_what_was_written() {
        let initiate = initiate_payload();
        let mut bytes = [0; 400];
        initiate.write(&mut bytes);
        assert_eq!(InitiatePayload::read(&bytes), Ok(initiate));
        assert_eq!(bytes[16..25], [0, 0, 0, 0, 0, 0, 0, 2, 64]);
        let accept = accept_payload();
        let mut bytes = [0; 400];
        accept.write(&mut bytes);
        assert_eq!(bytes[..13], [3, 4, 0, 1, 0, 2, 0, 1, 9, 1, 2, 3, 4]);
        assert_eq!(AcceptPayload::read(&bytes), Ok(accept));
        bytes[0] = 4;
        assert_eq!(AcceptPayload::read(&bytes), Err(DropReason::HandshakeInvalid));
    }

    // PROTOCOL 3.2
    #[test]
    fn frames_have_exactly_the_length_asked_for() {
        for shift in 0..64 {
            for len in [HELLO_LEN, INITIATE_LEN] {
                let mut out = [0xff; INITIATE_LEN];
                let frame = Frame::of_len(PacketKind::Hello, u64::MAX >> shift, len, &mut out);
                assert_eq!(frame.len, len);
                let packet = wire::split(&out[..len]).expect("our own packet");
                assert_eq!(packet.body(), frame.body());
                assert_eq!(check_shape(&packet, PacketKind::Hello), Ok(()));
                assert!(out[frame.body()].iter().all(|&byte| byte == 0));
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = InitiatePayload::read(&bytes);
            let _ = AcceptPayload::read(&bytes);
            let _ = Opening::read(&bytes);
            let _ = read_cookie(&bytes);
            let _ = read_accept(&bytes);
            let _ = proof_of(&bytes);
        }

        // PROTOCOL 3.7
        // PROTOCOL 3.9
        #[test]
        fn payload_that_somebody_sealed_wrongly_is_refused_or_understood(
            edits in prop::collection::vec((0_usize..260, any::<u8>()), 0..8),
            len in 0_usize..260,
        ) {
            let altered = |mut bytes: Vec<u8>| {
                edits.iter().for_each(|&(at, with)| bytes[at] = with);
                bytes.truncate(len);
                bytes
            };
            let (mut bytes, mut again) = ([0; 260], [0; 260]);
            initiate_payload().write(&mut bytes);
            if let Ok(read) = InitiatePayload::read(&altered(bytes.to_vec())) {
                read.write(&mut again);
                prop_assert_eq!(InitiatePayload::read(&again), Ok(read));
            }
            accept_payload().write(&mut bytes);
            if let Ok(read) = AcceptPayload::read(&altered(bytes.to_vec())) {
                read.write(&mut again);
                prop_assert_eq!(AcceptPayload::read(&again), Ok(read));
            }
        }
    }
}
