//! A session's packet keys both ways, its replay window and its ratchet.
//!
//! In the keyed modes a block of 28 bytes follows the head:
//!
//! ```text
//! head … CRLFCRLF | lane u16 | generation u16 | packet number u64 | tag 16 | body
//! └──────────────── associated data ────────────────────────────┘          └ sealed in place ┘
//! ```
//!
//! A packet number is used once in a session and goes on across generations, so acknowledgements
//! know nothing of generations. Each direction ratchets on its own: the sender moves on, and the
//! receiver, which keeps the next key ready, follows with the first packet that opens under it.

use super::established::{Established, Role};
use super::keys::{Chain, LaneKey};
use super::offer::Mode;
use super::replay::ReplayWindow;
use crate::limits::{
    GENERATION_INTERVAL, KEY_COST_MAX, KEY_COST_RATCHET, KEY_LIFETIME_MAX, KEY_RENEWAL_AFTER,
    LANES_MAX, OPENINGS_FAILED_MAX, PROBE_TIMEOUT_MAX,
};
use crate::protocol::crypto::{Suite, TAG_LEN};
use crate::protocol::drop_reason::DropReason;
use crate::protocol::wire::{AuthKind, Packet, TailKind, tail};
use crate::time::{Duration, Instant};

/// Bytes of lane, generation and packet number: the part of the block that is associated data.
const NUMBERS_LEN: usize = 12;
/// Bytes of the whole block.
const BLOCK_LEN: usize = NUMBERS_LEN + TAG_LEN;
/// The lane that this version sends on.
const LANE: u16 = 0;
/// Cipher blocks that even the smallest packet is charged for, which bounds packets as well as
/// bytes a key: 2^34 / 2^7 = 2^27 packets up to 2 KiB, fewer of larger ones.
const PACKET_COST_MIN: u64 = 128;

/// A packet that passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened {
    /// Its number; plain packets have none.
    pub packet_number: Option<u64>,
    /// The lane that it came on.
    pub lane: u16,
    /// Whether no packet with a larger number has opened; never true of plain packets.
    pub is_newest: bool,
}

/// How far a session's keys are used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyHealth {
    /// Nothing is due.
    Good,
    /// A new handshake with the peer is due; this session may be used until it is there.
    RenewalDue,
    /// Nothing may be sent or received with these keys any more.
    Spent,
}

/// What stands between a session's packets and the network.
#[derive(Debug)]
pub struct Protection {
    mode: Mode,
    /// Absent in plain mode.
    keys: Option<Box<Keys>>,
    /// Whether the peer has shown that it holds the session's keys.
    confirmed: bool,
    established_at: Instant,
    renewal_after: Duration,
}

#[derive(Debug)]
struct Keys {
    suite: Suite,
    sending: Sending,
    receiving: Receiving,
    window: ReplayWindow,
    failed_openings: u64,
    /// The latest that was told, for how long a previous receive key is kept.
    probe_timeout: Duration,
}

struct Sending {
    generation: u16,
    current: LaneKey,
    /// The secret of the generation after the current.
    next: Chain,
    /// Every number below has been used.
    next_packet_number: u64,
    /// The first number of the current generation.
    first_packet_number: u64,
    /// Cipher blocks under the current key, each packet rounded up to [`PACKET_COST_MIN`].
    cost: u64,
    started: Instant,
    /// How long this generation lasts if it is used at all.
    interval: Duration,
}

struct Receiving {
    generation: u16,
    current: LaneKey,
    previous: Option<(LaneKey, Instant)>,
    /// Known before it is needed; expanded with the first packet that says to be under it.
    next: LaneKey,
    /// The secret of the generation after the next.
    after_next: Chain,
}

impl Protection {
    /// The protection of a session that has just opened.
    pub fn new(now: Instant, established: &Established) -> Self {
        let (ours, theirs) = match established.role {
            Role::Initiator => (&established.secrets.initiator, &established.secrets.responder),
            Role::Responder => (&established.secrets.responder, &established.secrets.initiator),
        };
        let suite = established.suite;
        let keys = || {
            Box::new(Keys {
                suite,
                sending: Sending::new(now, suite, ours, established),
                receiving: Receiving::new(suite, theirs),
                window: ReplayWindow::default(),
                failed_openings: 0,
                probe_timeout: Duration::from_secs(1),
            })
        };
        let mode = established.mode;
        Self {
            mode,
            keys: (mode != Mode::Plain).then(keys),
            confirmed: established.role == Role::Initiator,
            established_at: now,
            renewal_after: spread(KEY_RENEWAL_AFTER, established, 0),
        }
    }

    /// The authentication kind of every packet of this session.
    pub const fn auth_kind(&self) -> AuthKind {
        match self.mode {
            Mode::Sealed => AuthKind::Aead,
            Mode::Signed => AuthKind::Gmac,
            Mode::Plain => AuthKind::None,
        }
    }

    /// The tail kind of every packet of this session.
    pub const fn tail_kind(&self) -> TailKind {
        match self.mode {
            Mode::Sealed | Mode::Signed => TailKind::None,
            Mode::Plain => TailKind::Crc32c,
        }
    }

    /// Whether the peer has shown that it holds the keys. Until then a responder sends nothing
    /// and delivers nothing in this session (PROTOCOL 3.18); its first packet that opens settles
    /// it. An initiator knows from the start.
    pub const fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// Protects `packet`, which is `head ‖ block room ‖ body ‖ tail room`, under a number that is
    /// above all earlier ones. A plain packet has no block and ignores the number.
    ///
    /// # Panics
    /// If a number is used twice, or if the keys are [`KeyHealth::Spent`].
    #[inline]
    pub fn seal(&mut self, packet_number: u64, packet: &mut [u8], head_len: usize) {
        let Some(keys) = &mut self.keys else {
            let (before, room) = packet.split_at_mut(packet.len() - TailKind::Crc32c.len());
            room.copy_from_slice(&tail::crc32c(before));
            return;
        };
        let sending = &mut keys.sending;
        assert!(packet_number >= sending.next_packet_number, "a packet number is used once");
        sending.next_packet_number = packet_number + 1;
        sending.cost += cost_of(packet.len());
        assert!(sending.cost <= KEY_COST_MAX, "spent keys are not used");
        let numbers = &mut packet[head_len..head_len + NUMBERS_LEN];
        numbers[..2].copy_from_slice(&LANE.to_be_bytes());
        numbers[2..4].copy_from_slice(&sending.generation.to_be_bytes());
        numbers[4..].copy_from_slice(&packet_number.to_be_bytes());
        let mut room = None;
        let key = sending.current.expanded(packet_number, &mut room);
        let tag = if self.mode == Mode::Sealed {
            let (before, body) = packet.split_at_mut(head_len + BLOCK_LEN);
            key.seal(packet_number, &before[..head_len + NUMBERS_LEN], body)
        } else {
            without_tag(packet, head_len, |signed| key.seal(packet_number, signed, &mut []))
        };
        packet[head_len + NUMBERS_LEN..head_len + BLOCK_LEN].copy_from_slice(&tag);
    }

    /// Checks an arriving packet of this session and opens its body in place. Its kinds are
    /// compared first, then its numbers; only then is a key used.
    ///
    /// # Errors
    /// The reason to drop it. After [`DropReason::AuthenticationFailed`] the body holds nothing.
    #[inline]
    pub fn open(
        &mut self,
        now: Instant,
        datagram: &mut [u8],
        packet: &Packet,
    ) -> Result<Opened, DropReason> {
        if packet.head.auth != self.auth_kind() || packet.head.tail != self.tail_kind() {
            return Err(DropReason::KindMismatch);
        }
        let Some(keys) = &mut self.keys else {
            packet.check_tail(datagram)?;
            self.confirmed = true;
            return Ok(Opened { packet_number: None, lane: LANE, is_newest: false });
        };
        let block = Block::read(&datagram[packet.auth()]);
        if block.lane >= LANES_MAX {
            return Err(DropReason::LaneUnknown);
        }
        let (lane_key, is_next) = keys.receiving.key(now, block.generation)?;
        if !keys.window.is_new(block.packet_number) {
            return Err(DropReason::Replayed);
        }
        let number = block.packet_number;
        let head_len = packet.head_len();
        let mut room = None;
        let key = lane_key.expanded(number, &mut room);
        let opened = if self.mode == Mode::Sealed {
            let (before, body) = datagram.split_at_mut(head_len + BLOCK_LEN);
            key.open(number, &before[..head_len + NUMBERS_LEN], &block.tag, body)
        } else {
            let tag = &block.tag;
            without_tag(datagram, head_len, |signed| key.open(number, signed, tag, &mut []))
        };
        if opened.is_err() {
            // Whoever forges packets has a key expanded once.
            lane_key.keep();
            keys.failed_openings += 1;
            return Err(DropReason::AuthenticationFailed);
        }
        let is_newest = keys.window.is_newest(number);
        keys.window.mark(number);
        if is_next {
            keys.receiving.advance(now, keys.suite, keys.probe_timeout);
        }
        self.confirmed = true;
        Ok(Opened { packet_number: Some(number), lane: block.lane, is_newest })
    }

    /// Whether our sending key is to move on: after two minutes of use, or before it has protected
    /// too much. Not before every packet of the previous generation is settled and one of the
    /// current is acknowledged, nor within three probe time-outs of the last move, so that the
    /// peer is never asked for a key it cannot have.
    ///
    /// `lowest_unacked` is the lowest number that is neither acknowledged nor given up,
    /// `largest_acked` the largest that the peer acknowledged.
    pub fn is_ratchet_due(
        &self,
        now: Instant,
        probe_timeout: Duration,
        lowest_unacked: u64,
        largest_acked: Option<u64>,
    ) -> bool {
        let Some(Keys { sending, .. }) = self.keys.as_deref() else { return false };
        let age = now.saturating_since(sending.started);
        let due = sending.cost >= KEY_COST_RATCHET || age >= sending.interval;
        if !due || sending.cost == 0 {
            return false;
        }
        let first = sending.first_packet_number;
        let settled = lowest_unacked >= first;
        let followed = largest_acked.is_some_and(|acked| acked >= first);
        let rested = age >= probe_timeout.saturating_mul(3);
        settled && followed && rested && sending.generation < u16::MAX
    }

    /// Moves our sending key on. The next packet has `next_packet_number`.
    ///
    /// # Panics
    /// If it is not [due](Self::is_ratchet_due), for want of keys.
    pub fn ratchet(&mut self, now: Instant, next_packet_number: u64) {
        let keys = self.keys.as_mut().expect("a ratchet was due");
        keys.sending.advance(now, keys.suite, next_packet_number);
    }

    /// Lets go of the receiving key of the previous generation when its time is over.
    pub fn expire_previous(&mut self, now: Instant, probe_timeout: Duration) {
        if let Some(keys) = &mut self.keys {
            keys.probe_timeout = probe_timeout;
            keys.receiving.expire(now);
        }
    }

    /// How far the keys are used up; to be asked once a turn, and acted upon.
    pub fn health(&self, now: Instant) -> KeyHealth {
        let Some(keys) = &self.keys else { return KeyHealth::Good };
        let age = now.saturating_since(self.established_at);
        // A turn never seals more than the margin between this and what `seal` insists on.
        let used_up = keys.sending.cost >= KEY_COST_MAX - (KEY_COST_MAX >> 4)
            || keys.sending.generation == u16::MAX
            || keys.failed_openings >= OPENINGS_FAILED_MAX;
        if used_up || age >= KEY_LIFETIME_MAX {
            KeyHealth::Spent
        } else if age >= self.renewal_after {
            KeyHealth::RenewalDue
        } else {
            KeyHealth::Good
        }
    }
}

impl Sending {
    fn new(now: Instant, suite: Suite, chain: &Chain, established: &Established) -> Self {
        Self {
            generation: 0,
            current: chain.lane_key(suite, LANE, 0),
            next: chain.next(),
            next_packet_number: 0,
            first_packet_number: 0,
            cost: 0,
            started: now,
            interval: spread(GENERATION_INTERVAL, established, 1),
        }
    }

    fn advance(&mut self, now: Instant, suite: Suite, next_packet_number: u64) {
        self.generation += 1;
        self.current = self.next.lane_key(suite, LANE, self.generation);
        self.next = self.next.next();
        self.first_packet_number = next_packet_number.max(self.next_packet_number);
        self.cost = 0;
        self.started = now;
    }
}

impl Receiving {
    fn new(suite: Suite, chain: &Chain) -> Self {
        let next = chain.next();
        Self {
            generation: 0,
            current: chain.lane_key(suite, LANE, 0),
            previous: None,
            next: next.lane_key(suite, LANE, 1),
            after_next: next.next(),
        }
    }

    /// The key of a generation, and whether it is the next.
    fn key(&mut self, now: Instant, generation: u16) -> Result<(&mut LaneKey, bool), DropReason> {
        if generation == self.generation {
            return Ok((&mut self.current, false));
        }
        if Some(generation) == self.generation.checked_add(1) {
            return Ok((&mut self.next, true));
        }
        match &mut self.previous {
            Some((key, until)) if Some(generation) == self.generation.checked_sub(1) => {
                if now < *until { Ok((key, false)) } else { Err(DropReason::GenerationUnknown) }
            }
            _ => Err(DropReason::GenerationUnknown),
        }
    }

    #[cold]
    fn advance(&mut self, now: Instant, suite: Suite, probe_timeout: Duration) {
        self.generation += 1;
        // For packets of the old generation that are still under way.
        let until = now + probe_timeout.saturating_mul(3);
        let ready = self.after_next.lane_key(suite, LANE, self.generation.wrapping_add(1));
        let current = core::mem::replace(&mut self.next, ready);
        let former = core::mem::replace(&mut self.current, current);
        self.previous = Some((former, until));
        self.after_next = self.after_next.next();
    }

    fn expire(&mut self, now: Instant) {
        if self.previous.as_ref().is_some_and(|(_, until)| now >= *until) {
            self.previous = None;
        }
    }
}

impl core::fmt::Debug for Sending {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Sending").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl core::fmt::Debug for Receiving {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Receiving").field("generation", &self.generation).finish_non_exhaustive()
    }
}

/// The block of a keyed packet.
struct Block {
    lane: u16,
    generation: u16,
    packet_number: u64,
    tag: [u8; TAG_LEN],
}

impl Block {
    #[inline]
    fn read(block: &[u8]) -> Self {
        let block: &[u8; BLOCK_LEN] = block.try_into().expect("the kind fixes the length");
        let [l0, l1, g0, g1, rest @ ..] = *block;
        let (number, tag) = rest.split_first_chunk().expect("number and tag");
        Self {
            lane: u16::from_be_bytes([l0, l1]),
            generation: u16::from_be_bytes([g0, g1]),
            packet_number: u64::from_be_bytes(*number),
            tag: tag.try_into().expect("the tag is the rest"),
        }
    }
}

/// Calls `work` with head, numbers and body without the tag between them.
///
/// The cipher wants its associated data in one piece. Head and numbers are moved over the tag's
/// place and back: some 150 bytes each way, against copying the body.
fn without_tag<T>(packet: &mut [u8], head_len: usize, work: impl FnOnce(&[u8]) -> T) -> T {
    let before = head_len + NUMBERS_LEN;
    packet.copy_within(..before, TAG_LEN);
    let result = work(&packet[TAG_LEN..]);
    packet.copy_within(TAG_LEN..TAG_LEN + before, 0);
    result
}

const fn cost_of(len: usize) -> u64 {
    let blocks = len.div_ceil(16) as u64;
    if blocks > PACKET_COST_MIN { blocks } else { PACKET_COST_MIN }
}

/// `interval` moved by up to a tenth either way, the same for a session's whole life: so that
/// many sessions that opened together do not all renew together.
fn spread(interval: Duration, established: &Established, purpose: u64) -> Duration {
    let mixed = (established.session ^ purpose).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let per_mille = 900 + u32::try_from(mixed % 201).expect("below 201");
    interval.mul_ratio(per_mille, 1_000)
}

// A receive key is kept for three probe time-outs; a generation lasts longer than that.
const _: () = assert!(GENERATION_INTERVAL.as_nanos() > PROBE_TIMEOUT_MAX.as_nanos());
const _: () = assert!(KEY_COST_RATCHET < KEY_COST_MAX - (KEY_COST_MAX >> 4));

#[cfg(test)]
mod tests;
