//! An open session: keys, packet numbers, acknowledgements and liveness of one relation.
//!
//! Everything that happens to a packet between the wire and the transactions happens here, in
//! the order that makes hostile input cheap: kinds, lane and replay window before any cipher,
//! state only after the tag has verified. What a packet carries is unknown; the endpoint hands
//! in a small `Copy` reference and gets it back when the packet's fate is known.

use std::net::SocketAddr;
use std::ops::Range;

use super::recovery::{ReceivedPackets, Recovery, RecoveryConfig};
use super::{Established, KeyHealth, Mode, Opened, Paths, Protection, Role};
use crate::limits::{HEAD_EMIT_LEN_MAX, KEEP_ALIVE_MIN, UNCONFIRMED_TIMEOUT};
use crate::protocol::crypto::Suite;
use crate::protocol::drop_reason::DropReason;
use crate::protocol::wire::{self, BodyKind, Flags, Head, HeadWriter, PacketKind, ServiceKind};
use crate::time::{Duration, Instant, earliest};

/// What differs between the packets of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outgoing {
    /// Packet kind.
    pub packet: PacketKind,
    /// Service level; `Maybe` for packets that are not messages.
    pub service: ServiceKind,
    /// First transaction, or zero.
    pub transaction: u64,
    /// Order index of the first message of a sequence, or zero.
    pub order: u64,
    /// Which segment of its message, and of how many: 0 of 1 for a whole message.
    pub segment: (u32, u32),
    /// How the body is encoded.
    pub body: BodyKind,
    /// Flags.
    pub flags: Flags,
}

impl Outgoing {
    /// A packet that carries a control body.
    pub const fn control(packet: PacketKind) -> Self {
        Self {
            packet,
            service: ServiceKind::Maybe,
            transaction: 0,
            order: 0,
            segment: (0, 1),
            body: BodyKind::Control,
            flags: Flags::NONE,
        }
    }
}

/// The measures of a packet that is to be sealed.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Length of the whole in bytes.
    pub packet_len: usize,
    head_len: usize,
    body_start: usize,
    body_len: usize,
}

/// The head of the packet that was planned last, whichever session that was of. The next one's mostly
/// differs in a few digits, if it is of the same kind.
#[derive(Debug, Default)]
pub struct HeadTemplate {
    writer: HeadWriter,
    planned: Option<(Outgoing, Plan)>,
}

/// Settings of a session that do not come from the handshake.
#[derive(Clone, Copy, Debug)]
pub struct SessionConfig {
    /// Loss recovery and congestion control.
    pub recovery: RecoveryConfig,
    /// Without an authentic packet for this long the session is closed.
    pub idle_timeout: Duration,
    /// Whether a silent peer is asked whether it is there, in good time before that.
    pub keep_alive: bool,
    /// How long our own acknowledgements may be held back.
    pub ack_delay_max: Duration,
}

/// One open session.
#[derive(Debug)]
pub struct Session<C: Copy> {
    /// Session id.
    id: u64,
    /// Which side opened it.
    role: Role,
    mode: Mode,
    suite: Suite,
    last_heard: Instant,
    idle_timeout: Duration,
    /// After how much silence the peer is asked for a sign of life, and when it last was.
    keep_alive: Option<Duration>,
    asked_at: Instant,
    protection: Protection,
    /// Longest head that this session's packets can have.
    head_len_max: usize,
    /// One past the last packet number that was used.
    next_number: u64,
    /// Where the peer's packets come from and ours go.
    pub paths: Paths,
    /// Sending side of the packet plane.
    pub recovery: Recovery<C>,
    /// Receiving side of the packet plane.
    pub received: ReceivedPackets,
}

impl<C: Copy> Session<C> {
    /// The session that a handshake established.
    pub fn new(
        now: Instant,
        established: &Established,
        address: SocketAddr,
        config: SessionConfig,
        seed: u64,
    ) -> Self {
        let protection = Protection::new(now, established);
        let widest = Head {
            session: established.session,
            transaction: u64::MAX,
            service: ServiceKind::Request,
            packet: PacketKind::Message,
            auth: protection.auth_kind(),
            tail: protection.tail_kind(),
            body: BodyKind::Bundle,
            body_len: 65_535,
            flags: Flags::default().with(Flags::CORRESPONDER).with(Flags::BURST),
            ..Head::default()
        };
        let head_len_max = wire::encode(&widest, &mut [0; HEAD_EMIT_LEN_MAX]);
        Self {
            id: established.session,
            role: established.role,
            mode: established.mode,
            suite: established.suite,
            last_heard: now,
            idle_timeout: config.idle_timeout,
            keep_alive: config.keep_alive.then(|| keep_alive_interval(config.idle_timeout)),
            asked_at: now,
            protection,
            head_len_max,
            paths: Paths::new(address),
            recovery: Recovery::new(config.recovery, seed),
            received: ReceivedPackets::new(config.ack_delay_max),
            next_number: 0,
        }
    }

    /// Verifies and opens a packet in place.
    ///
    /// # Errors
    /// Why it must be dropped; nothing of the session changed but counters of failed openings.
    pub fn open(
        &mut self,
        now: Instant,
        datagram: &mut [u8],
        packet: &wire::Packet,
    ) -> Result<Opened, DropReason> {
        let opened = self.protection.open(now, datagram, packet)?;
        self.last_heard = now;
        self.recovery.on_authenticated(now);
        Ok(opened)
    }

    /// Works out a packet with a body of `body_len` bytes, for [`Session::seal`].
    pub fn plan(&self, template: &mut HeadTemplate, body_len: usize, outgoing: Outgoing) -> Plan {
        let transaction = outgoing.transaction;
        // Packets that leave together mostly differ in their transaction only.
        if let Some((last, plan)) = template.planned
            && plan.body_len == body_len
            && (Outgoing { transaction, ..last }) == outgoing
            && template.writer.renumber(self.id, transaction)
        {
            return plan;
        }
        let (auth, tail) = (self.protection.auth_kind(), self.protection.tail_kind());
        let head_len = template.writer.prepare(&self.head(body_len, outgoing));
        let body_start = head_len + auth.len();
        let packet_len = body_start + body_len + tail.len();
        let plan = Plan { packet_len, head_len, body_start, body_len };
        template.planned = Some((outgoing, plan));
        plan
    }

    /// Writes the packet that was planned last with `template`, by this session, over `packet`, its
    /// body by `fill`, and seals it in place. Returns its number.
    ///
    /// # Panics
    /// If `packet` is not as long as planned.
    pub fn seal(
        &mut self,
        template: &HeadTemplate,
        packet: &mut [u8],
        plan: &Plan,
        fill: impl FnOnce(&mut [u8]),
    ) -> u64 {
        assert_eq!(packet.len(), plan.packet_len, "a packet is as long as planned");
        template.writer.put(&mut packet[..plan.head_len]);
        fill(&mut packet[plan.body_start..plan.body_start + plan.body_len]);
        let packet_number = self.recovery.next_packet_number();
        self.next_number = packet_number + 1;
        self.protection.seal(packet_number, packet, plan.head_len);
        packet_number
    }

    /// As [`Session::seal`], around a body that stands in its place in `buffer` already. Returns where
    /// the packet lies, too.
    ///
    /// # Panics
    /// If the buffer has no room for the head before the body, or for the tail after it.
    pub fn seal_around(
        &mut self,
        template: &mut HeadTemplate,
        buffer: &mut [u8],
        body: Range<usize>,
        outgoing: Outgoing,
    ) -> (u64, Range<usize>) {
        let plan = self.plan(template, body.len(), outgoing);
        let start = body.start - plan.body_start;
        let range = start..start + plan.packet_len;
        (self.seal(template, &mut buffer[range.clone()], &plan, |_| {}), range)
    }

    fn head(&self, body_len: usize, outgoing: Outgoing) -> Head {
        Head {
            session: self.id,
            transaction: outgoing.transaction,
            service: outgoing.service,
            packet: outgoing.packet,
            order: outgoing.order,
            segment: outgoing.segment.0,
            segment_count: outgoing.segment.1,
            auth: self.protection.auth_kind(),
            tail: self.protection.tail_kind(),
            body: outgoing.body,
            body_len: u32::try_from(body_len).expect("a body fits a datagram"),
            flags: outgoing.flags,
            ..Head::default()
        }
    }

    /// Length of the body with which a packet fills a datagram of exactly `datagram_len` bytes.
    pub fn body_len_filling(&self, datagram_len: usize, outgoing: Outgoing) -> usize {
        // The head says how long the body is. Assume as many digits as the shortest that fits has.
        let head = self.head(self.body_room_in(datagram_len), outgoing);
        let head_len = wire::encode(&head, &mut [0; HEAD_EMIT_LEN_MAX]);
        self.body_room_in(datagram_len) + self.head_len_max - head_len
    }

    /// Whether it is time for the next key generation (PROTOCOL 4.11).
    pub fn is_ratchet_due(&mut self, now: Instant) -> bool {
        let probe_timeout = self.recovery.probe_timeout();
        self.protection.expire_previous(now, probe_timeout);
        let lowest_unacked = self.recovery.lowest_unacked();
        let largest_acked = self.recovery.largest_acked();
        self.protection.is_ratchet_due(now, probe_timeout, lowest_unacked, largest_acked)
    }

    /// Moves to the next key generation, which is due.
    pub fn ratchet(&mut self, now: Instant) {
        self.protection.ratchet(now, self.next_number);
    }

    /// How far the session's keys are used up.
    pub fn key_health(&self, now: Instant) -> KeyHealth {
        self.protection.health(now)
    }

    /// Body bytes of a message packet that fits the path now.
    pub fn body_room(&self) -> usize {
        self.body_room_in(self.recovery.datagram_len())
    }

    /// Bytes of a packet with a body of `body_len` bytes, at most.
    pub fn packet_len_max(&self, body_len: usize) -> usize {
        self.around() + body_len
    }

    /// Body bytes of a packet in a datagram of `datagram_len` bytes.
    pub fn body_room_in(&self, datagram_len: usize) -> usize {
        datagram_len - self.around()
    }

    /// Bytes around a body, at most.
    fn around(&self) -> usize {
        self.head_len_max + self.protection.auth_kind().len() + self.protection.tail_kind().len()
    }

    /// When the session must be looked at next.
    pub fn next_timeout(&self) -> Instant {
        let plane = [self.recovery.next_timeout(), self.received.next_timeout()];
        let own = [self.paths.next_timeout(), self.keep_alive_at()];
        let (timers, expiry) = (earliest([earliest(plane), earliest(own)]), self.expiry());
        timers.unwrap_or(expiry).min(expiry)
    }

    /// Whether the peer is to be asked now for a sign of life. It is then not asked again before
    /// another interval has passed.
    pub fn poll_keep_alive(&mut self, now: Instant) -> bool {
        let is_due = self.keep_alive_at().is_some_and(|at| at <= now);
        if is_due {
            self.asked_at = now;
        }
        is_due
    }

    fn keep_alive_at(&self) -> Option<Instant> {
        let interval = self.keep_alive.filter(|_| self.is_confirmed())?;
        Some(self.last_heard.max(self.asked_at) + interval)
    }

    /// When the session ends, if nothing is heard.
    pub fn expiry(&self) -> Instant {
        let patience = if self.is_confirmed() { self.idle_timeout } else { UNCONFIRMED_TIMEOUT };
        self.last_heard + patience
    }

    /// Session id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Which side opened it.
    pub fn role(&self) -> Role {
        self.role
    }

    /// How packets are protected.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The packet cipher.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// The peer's address.
    pub fn address(&self) -> SocketAddr {
        self.paths.current()
    }

    /// Whether messages may be carried: a responder's session carries nothing until a packet of
    /// the initiator has opened.
    pub fn is_confirmed(&self) -> bool {
        self.protection.is_confirmed()
    }
}

/// After how much silence a peer is asked, so that a session with this idle time-out lives on
/// (PROTOCOL 7.14).
fn keep_alive_interval(idle_timeout: Duration) -> Duration {
    let share = idle_timeout.mul_ratio(3, 4);
    if KEEP_ALIVE_MIN < idle_timeout { share.max(KEEP_ALIVE_MIN) } else { share }
}
