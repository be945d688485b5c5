//! Control packets: acknowledgements on both planes, credit, low-water marks, close.

use std::net::SocketAddr;
use std::ops::Range;

use super::message::abandoned;
use super::{Association, CloseReason, Content, Endpoint, Live, PeerId, Scratch};
use crate::buffer::{Lease, Transmit};
use crate::limits::{
    ACK_CONFIRM_RANGES, ACK_RANGES_MAX, CONTROL_BLOCKS_MAX, GRANTS_MAX, HEADROOM,
    MISSING_MESSAGES_MAX, TRANSACTION_LISTS_MAX, TRANSACTION_RANGES_MAX,
};
use crate::protocol::drop_reason::DropReason;
use crate::protocol::session::recovery::SentKind;
use crate::protocol::session::{HeadTemplate, KeyHealth, Mode, Outgoing, ResetToken};
use crate::protocol::transaction::{AssemblyKey, Direction, Inbox, Retry};
use crate::protocol::wire::control::{
    Block, Blocks, Close, Credit, EcnCounts, Grant, Initiator, TransactionRanges,
    TransactionStatus, Writer,
};
use crate::protocol::wire::{BodyKind, Packet, PacketKind, varint};
use crate::time::{Duration, Instant};

impl Endpoint {
    /// Works through a control body. Returns whether it asks for an answer.
    pub(super) fn handle_control(
        &mut self,
        now: Instant,
        slot: u32,
        (from, number): (SocketAddr, Option<u64>),
        packet: &Packet,
        body: &[u8],
    ) -> Result<bool, DropReason> {
        if packet.head.body != BodyKind::Control {
            return Err(DropReason::KindMismatch);
        }
        self.acknowledge_plain(now, slot, body)?;
        let read = self.read_blocks(now, slot, (from, number), body);
        // After the reports, which have an end for most of what was in those packets.
        self.settle_packets(slot);
        let asks = read.map(|(asks, _)| asks);
        let Some(live) = self.lives.find_mut(slot) else { return asks };
        live.ping_due |= live.session.recovery.should_tell_ack_frequency(now);
        let (peer, is_in_flight) = (live.peer, live.session.recovery.in_flight_bytes() > 0);
        let association = self.peers.find_mut(peer).and_then(|peer| peer.association.as_mut());
        if let Ok((_, is_full)) = read
            && association.is_some_and(|known| known.is_worth_asking(is_full, is_in_flight))
        {
            self.ask_for_report(peer);
        }
        self.collect_outcomes(peer);
        self.mark_ready(peer);
        asks
    }

    /// Acts on each block of a control body, but for what became of packets. Returns whether its sender
    /// asks for an answer, and whether a report has every list full.
    fn read_blocks(
        &mut self,
        now: Instant,
        slot: u32,
        (from, number): (SocketAddr, Option<u64>),
        body: &[u8],
    ) -> Result<(bool, bool), DropReason> {
        let mut asks = false;
        let mut challenge = None;
        // A report with every list full may go on in the next one.
        let (mut refused, mut is_full) = (0, false);
        let (mut lists, mut grants, mut incomplete) = (0, 0, 0);
        let mut marks = None;
        for (place, block) in Blocks::new(body).enumerate() {
            if place >= CONTROL_BLOCKS_MAX {
                return Err(DropReason::BodyMalformed);
            }
            let live = self.lives.find_mut(slot).ok_or(DropReason::SessionUnknown)?;
            let peer_id = PeerId { slot: live.peer, generation: self.peers.generation(live.peer) };
            let peer = self.peers.find_mut(live.peer).expect("a session has a peer");
            let association = peer.association.as_mut().expect("a confirmed session has one");
            match block? {
                Block::PacketRanges(ranges) => {
                    let ranges_in_order = ranges.iter().map(Ok);
                    let (acked, lost) = (&mut self.scratch.acked, &mut self.scratch.lost);
                    let recovery = &mut live.session.recovery;
                    let marks = marks.filter(|marks: &EcnCounts| marks.lane == ranges.lane);
                    let delay = ranges.delay;
                    let seen = recovery.on_ack(now, ranges_in_order, delay, marks, acked, lost);
                    let outcome = self.violation(now, slot, seen)?;
                    self.counters.packets_lost += outcome.packets_lost;
                }
                Block::TransactionRanges(ranges) => {
                    let is_refusal = matches!(ranges.status, TransactionStatus::Refused(_));
                    refused += usize::from(is_refusal);
                    lists += usize::from(!is_refusal);
                    if lists > TRANSACTION_LISTS_MAX || refused > TRANSACTION_RANGES_MAX {
                        return Err(DropReason::BodyMalformed);
                    }
                    is_full |= refused.max(ranges.iter().count()) >= TRANSACTION_RANGES_MAX;
                    let seen = report(association, &ranges);
                    self.violation(now, slot, seen)?;
                }
                Block::Credit(credit) => {
                    association
                        .outbox
                        .on_credit(credit.transaction_max.saturating_add(1), credit.bytes_max);
                }
                Block::LowWaterMark(low) => {
                    if !association.inbox.on_low_water(low) {
                        return Err(DropReason::TransactionViolation);
                    }
                    association.outbox.on_peer_low_water(low);
                    while let Some(key) = association.assemblies.on_low_water(low) {
                        let event = abandoned(peer_id, key);
                        self.events.push_back(event);
                    }
                }
                Block::Grant(_) if grants == GRANTS_MAX => return Err(DropReason::BodyMalformed),
                Block::Grant(grant) => {
                    grants += 1;
                    let end = u32::try_from(grant.end).unwrap_or(u32::MAX);
                    let direction = direction(grant.initiator);
                    association.outbox.on_grant(direction, grant.transaction, end);
                }
                Block::Issued(end) if end > association.inbox.credit() => {
                    return Err(DropReason::TransactionViolation);
                }
                Block::Issued(end) => association.peer_issued = association.peer_issued.max(end),
                Block::MissingSegments(_) if incomplete == 2 * MISSING_MESSAGES_MAX => {
                    return Err(DropReason::BodyMalformed);
                }
                Block::MissingSegments(missing) => {
                    incomplete += 1;
                    let round_trip = live.session.recovery.rtt().smoothed();
                    let outbox = &mut association.outbox;
                    let message = (direction(missing.initiator), missing.transaction);
                    let spoken_of = (missing.segments, missing.end);
                    outbox.on_missing(now, message, spoken_of, missing.iter(), round_trip);
                }
                Block::Ping => asks = true,
                Block::EcnCounts(counts) => marks = Some(counts),
                Block::AckFrequency(asked) if asked.lane == 0 => {
                    live.session.received.on_ack_frequency(number, asked);
                }
                Block::AckFrequency(_) => {}
                Block::Close(_) => {}
                // One of a packet is answered: a list of them would be a queue.
                Block::PathChallenge(data) => challenge = Some(data),
                Block::ResetToken(token) => live.peer_token = Some(ResetToken(token)),
                Block::PathResponse(data) => self.handle_response(now, slot, from, data),
            }
        }
        if let Some(data) = challenge {
            self.answer_challenge(now, slot, from, data);
        }
        Ok((asks, is_full))
    }

    /// Without packet numbers on the wire, the report on a unit acknowledges the packet that
    /// carried it last, and any control packet the last ping: all of them at once, or some would
    /// seem to have overtaken others.
    fn acknowledge_plain(
        &mut self,
        now: Instant,
        slot: u32,
        body: &[u8],
    ) -> Result<(), DropReason> {
        let live = self.lives.find_mut(slot).ok_or(DropReason::SessionUnknown)?;
        if live.session.mode() != Mode::Plain {
            return Ok(());
        }
        let peer = self.peers.find_mut(live.peer).expect("a session has a peer");
        // Of two that were opened at once, only one carries what is reported on.
        if peer.current != Some(slot) {
            return Ok(());
        }
        let association = peer.association.as_mut().expect("a confirmed session has one");
        let numbers = &mut self.scratch.numbers;
        numbers.clear();
        numbers.extend(live.last_ping.take());
        for block in Blocks::new(body).take(CONTROL_BLOCKS_MAX) {
            let mut visit = |number, is_only| {
                if is_only {
                    numbers.push(number);
                } else {
                    // Which of its packets arrived is not said (Karn's algorithm).
                    live.session.recovery.forget(number);
                }
            };
            let ranges = match block? {
                Block::TransactionRanges(ranges) => ranges,
                Block::MissingSegments(missing) => {
                    let direction = direction(missing.initiator);
                    let mut start = 0;
                    for gap in missing.iter().chain([missing.end..=missing.end]) {
                        if start < *gap.start() {
                            let arrived = start..=*gap.start() - 1;
                            association.outbox.segment_packets(
                                (direction, missing.transaction),
                                missing.segments,
                                arrived,
                                |(number, is_only)| visit(number, is_only),
                            );
                        }
                        start = *gap.end() + 1;
                    }
                    continue;
                }
                _ => continue,
            };
            let direction = direction(ranges.initiator);
            // What is refused may be incomplete (PROTOCOL 6.21).
            let all_arrived = !matches!(ranges.status, TransactionStatus::Refused(_));
            for range in ranges.iter() {
                let range = *range.start()..range.end().saturating_add(1);
                association.outbox.packets(direction, range, all_arrived, &mut visit);
            }
        }
        self.acknowledge_numbers(now, slot)
    }

    /// A reply says that the packet of its request arrived, and mostly sooner than a report does.
    pub(super) fn acknowledge_replied(
        &mut self,
        now: Instant,
        peer_slot: u32,
        transactions: Range<u64>,
    ) -> Result<(), DropReason> {
        let Some(peer) = self.peers.find_mut(peer_slot) else { return Ok(()) };
        let (Some(slot), Some(association)) = (peer.current, peer.association.as_mut()) else {
            return Ok(());
        };
        let live = self.lives.find_mut(slot).expect("the current session exists");
        if live.session.mode() != Mode::Plain {
            return Ok(());
        }
        let numbers = &mut self.scratch.numbers;
        numbers.clear();
        association.outbox.packets(Direction::Own, transactions, true, |number, is_only| {
            if is_only {
                numbers.push(number);
            } else {
                live.session.recovery.forget(number);
            }
        });
        self.acknowledge_numbers(now, slot)?;
        self.settle_packets(slot);
        Ok(())
    }

    /// Tells the packet plane of the packets that were gathered.
    fn acknowledge_numbers(&mut self, now: Instant, slot: u32) -> Result<(), DropReason> {
        let live = self.lives.find_mut(slot).ok_or(DropReason::SessionUnknown)?;
        let Scratch { numbers, runs, acked, lost, .. } = &mut self.scratch;
        numbers.sort_unstable();
        numbers.dedup();
        runs.clear();
        runs.extend(numbers.chunk_by(|a, b| a + 1 == *b).map(|run| run[0]..=run[run.len() - 1]));
        // Oldest first: what is acknowledged later in one report was not overtaken.
        for group in runs.chunks(ACK_RANGES_MAX) {
            let ranges = group.iter().rev().cloned().map(Ok);
            // How long the peer held it back is not said: count it as path.
            let held = Duration::ZERO;
            let outcome = live.session.recovery.on_ack(now, ranges, held, None, acked, lost);
            let Ok(outcome) = outcome else {
                // Units left in another session than the one in which this came.
                acked.clear();
                lost.clear();
                return Err(DropReason::AckInvalid);
            };
            self.counters.packets_lost += outcome.packets_lost;
        }
        Ok(())
    }

    /// Ends the session over an acknowledgement that no honest peer can send.
    fn violation<T>(
        &mut self,
        now: Instant,
        slot: u32,
        result: Result<T, DropReason>,
    ) -> Result<T, DropReason> {
        if result.is_err() {
            // What took effect before the error names units of this session's peer, nobody else's.
            self.scratch.acked.clear();
            self.scratch.lost.clear();
            self.close_session(now, slot, CloseReason::Violation);
        }
        result
    }

    /// Tells the outbox what became of the packets that the packet plane settled.
    /// Has the outbox know of packets that were acknowledged or taken for lost. The caller collects
    /// the outcomes.
    pub(super) fn settle_packets(&mut self, slot: u32) {
        let mut acked = std::mem::take(&mut self.scratch.acked);
        let mut lost = std::mem::take(&mut self.scratch.lost);
        if let Some(live) = self.lives.find_mut(slot)
            && let Some(peer) = self.peers.find_mut(live.peer)
            && let Some(association) = peer.association.as_mut()
        {
            for &content in &acked {
                match content {
                    Content::Unit { id, segment, segments, .. } => {
                        association.outbox.on_packet_acked(id, (segment, segments));
                    }
                    Content::Ack(number) => live.session.received.on_ack_acked(number),
                    Content::MtuProbe | Content::Ping => {}
                }
            }
            for &content in &lost {
                match content {
                    Content::Unit { id, segment, segments, tries } => {
                        association.outbox.on_packet_lost(id, (segment, segments), tries);
                    }
                    Content::Ping => live.ping_due = true,
                    Content::Ack(_) | Content::MtuProbe => {}
                }
            }
        }
        acked.clear();
        lost.clear();
        self.scratch.acked = acked;
        self.scratch.lost = lost;
    }

    pub(super) fn handle_close(
        &mut self,
        now: Instant,
        slot: u32,
        packet: &Packet,
        body: &[u8],
    ) -> Result<(), DropReason> {
        if packet.head.body != BodyKind::Control {
            return Err(DropReason::KindMismatch);
        }
        let closes = Blocks::new(body).any(|block| matches!(block, Ok(Block::Close(_))));
        if !closes {
            return Err(DropReason::BodyMalformed);
        }
        self.end_session(now, slot, CloseReason::ByPeer);
        Ok(())
    }

    /// Says goodbye and ends a session.
    pub(super) fn close_session(&mut self, now: Instant, slot: u32, reason: CloseReason) {
        let farewell = self.control_lease().and_then(|lease| {
            let live = self.lives.find_mut(slot)?;
            let code = reason as u64;
            let template = &mut self.control_head;
            let kind = PacketKind::Close;
            let written = write_packet(now, template, live, lease, kind, None, |writer, _| {
                writer.close(Close { reason: code, text: "" })
            });
            Some(written)
        });
        self.outgoing.extend(farewell);
        self.end_session(now, slot, reason);
    }

    /// The next acknowledgement that is due, once everything received was handed over.
    pub(super) fn poll_ack(&mut self, now: Instant) -> Option<Transmit> {
        if self.undelivered > 0 {
            return None;
        }
        while let Some(&slot) = self.acks_due.front() {
            let lease = self.control_lease()?;
            self.acks_due.pop_front();
            // The slot may be another session's by now, which then owes nothing yet.
            let Some(live) = self.lives.find_mut(slot).filter(|live| live.is_ack_due) else {
                continue;
            };
            live.is_ack_due = false;
            if live.session.key_health(now) == KeyHealth::Spent {
                self.end_session(now, slot, CloseReason::KeysExhausted);
                continue;
            }
            let Some(peer) = self.peers.find_mut(live.peer) else { continue };
            let Some(association) = peer.association.as_mut() else { continue };
            // Long lists shrink once the peer has confirmed one: now and then it is asked to.
            let confirm = live.session.mode() != Mode::Plain
                && live.session.received.ranges().nth(ACK_CONFIRM_RANGES).is_some();
            let kind = if confirm { PacketKind::Probe } else { PacketKind::Ack };
            let content = confirm.then_some(Confirm::Ack);
            let template = &mut self.control_head;
            let transmit =
                write_packet(now, template, live, lease, kind, content, |writer, live| {
                    let is_complete = !confirm || writer.ping();
                    writer.ack_frequency(live.session.recovery.ack_frequency());
                    write_state(now, writer, live, association);
                    is_complete
                });
            self.counters.acks_sent += 1;
            self.counters.packets_sent += 1;
            self.timers.mark_stale(slot * 2 + 1);
            return Some(transmit);
        }
        None
    }

    /// A question to the peer, with everything we have to say ourselves.
    pub(super) fn poll_ping(&mut self, now: Instant, slot: u32) -> Option<Transmit> {
        let live = self.lives.find(slot)?;
        if !live.ping_due {
            return None;
        }
        if live.session.key_health(now) == KeyHealth::Spent {
            self.end_session(now, slot, CloseReason::KeysExhausted);
            return None;
        }
        let token = self.token_to_tell(live);
        let lease = self.control_lease()?;
        let live = self.lives.find_mut(slot)?;
        live.ping_due = false;
        live.probes = live.probes.saturating_sub(1);
        let peer = self.peers.find_mut(live.peer)?;
        let association = peer.association.as_mut()?;
        let quiet = self.undelivered == 0;
        let (template, kind, content) =
            (&mut self.control_head, PacketKind::Probe, Some(Confirm::Ping));
        let transmit = write_packet(now, template, live, lease, kind, content, |writer, live| {
            let is_complete = writer.ping();
            writer.ack_frequency(live.session.recovery.ack_frequency());
            token.map(|ResetToken(token)| writer.reset_token(token));
            if quiet {
                write_state(now, writer, live, association);
            } else {
                writer.low_water_mark(association.outbox.low_water());
            }
            is_complete
        });
        // Only what is sent again when it is lost counts as told.
        live.session.recovery.on_ack_frequency_told(now);
        association.low_water_told = association.outbox.low_water();
        if quiet {
            association.credit_told = association.inbox.credit();
        }
        self.counters.packets_sent += 1;
        Some(transmit)
    }
}

/// What a control packet wants confirmed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Confirm {
    /// The acknowledgement it carries.
    Ack,
    /// That the peer is there.
    Ping,
}

/// Builds, seals and records a control packet.
pub(super) fn write_packet(
    now: Instant,
    template: &mut HeadTemplate,
    live: &mut Live,
    mut lease: Lease,
    kind: PacketKind,
    confirm: Option<Confirm>,
    fill: impl FnOnce(&mut Writer<'_>, &mut Live) -> bool,
) -> Transmit {
    let room = live.session.body_room_in(crate::limits::DATAGRAM_LEN_BASE);
    let buffer = lease.get_mut().expect("a buffer just taken has one holder");
    let mut writer = Writer::new(&mut buffer[HEADROOM..HEADROOM + room]);
    let complete = fill(&mut writer, live);
    debug_assert!(complete, "a control body has room for what we put into it");
    let body = HEADROOM..HEADROOM + writer.finish();
    let (number, packet) =
        live.session.seal_around(template, buffer, body, Outgoing::control(kind));
    let bytes = u32::try_from(packet.len()).expect("a packet fits a datagram");
    let (sent_kind, content) = match confirm {
        None => (SentKind::AckOnly, None),
        Some(Confirm::Ack) => (SentKind::Probe, Some(Content::Ack(number))),
        Some(Confirm::Ping) => (SentKind::Probe, Some(Content::Ping)),
    };
    let ecn = live.session.recovery.on_sent(now, number, bytes, sent_kind, content);
    if confirm.is_some() {
        live.session.received.on_ack_sent(Some(number));
        let before = live.last_ping.replace(number);
        if let (Mode::Plain, Some(before)) = (live.session.mode(), before) {
            // One answer is for all of them; the last will do.
            live.session.recovery.forget(before);
        }
    } else if kind == PacketKind::Ack {
        live.session.received.on_ack_sent(None);
    }
    Transmit::single(live.session.address(), ecn, lease.narrow(packet))
}

/// Writes what the peer should know: credit, low-water mark, packets, transactions. Lists come
/// last: a peer can make them long by the numbers it chooses, and what does not fit is left out.
fn write_state(now: Instant, writer: &mut Writer<'_>, live: &Live, association: &mut Association) {
    let plain = live.session.mode() == Mode::Plain;
    let is_told = writer.credit(Credit {
        transaction_max: association.inbox.credit() - 1,
        // As in the handshake's parameters.
        bytes_max: association.receive_bytes.min(varint::MAX),
    });
    debug_assert!(is_told, "credit comes first, and the wire can say it");
    writer.low_water_mark(association.outbox.low_water());
    if let Some(end) = association.outbox.issued_to_tell() {
        writer.issued(end);
    }
    for (key, end) in association.assemblies.grants(now) {
        let (initiator, transaction) = (initiator(key.is_reply), key.transaction);
        writer.grant(Grant { initiator, transaction, end: end.into() });
    }
    let received = &live.session.received;
    if !plain && received.ranges().next().is_some() {
        // Before the ranges that they belong to (PROTOCOL 5.25).
        received.marks().map(|marks| writer.ecn_counts(marks));
        writer.packet_ranges(0, received.largest_delay(now), received.ranges());
    }
    let resume = &mut association.resume;
    write_refusals(writer, &association.inbox, &mut resume.refused);
    let (done, accepted) = (TransactionStatus::Done, TransactionStatus::Accepted);
    let inbox = &association.inbox;
    write_ranges(writer, (Initiator::Receiver, done), inbox.done(), &mut resume.done);
    write_ranges(writer, (Initiator::Receiver, accepted), inbox.accepted(), &mut resume.accepted);
    if plain {
        let settled = association.outbox.settled();
        write_ranges(writer, (Initiator::Sender, done), settled, &mut resume.settled);
    }
    write_missing(writer, association, plain);
}

/// Writes refusals, as many as one report may have, from `resume` on and then from the lowest, and
/// moves it behind them.
fn write_refusals(writer: &mut Writer<'_>, inbox: &Inbox, resume: &mut u64) {
    let refused = inbox.refused();
    let (before, behind) = refused.split_at(refused.partition_point(|(at, _)| at < resume));
    let mut in_turn = behind.iter().chain(before);
    for &(transaction, reason) in in_turn.by_ref().take(TRANSACTION_RANGES_MAX) {
        let status = TransactionStatus::Refused(reason.into());
        writer.transaction_ranges(Initiator::Receiver, status, [transaction..=transaction]);
    }
    *resume = in_turn.next().map_or(0, |(transaction, _)| *transaction);
}

/// Writes what is missing: of messages that are sent again on request only, and without packet
/// numbers of every message in segments, since nothing else tells which of them arrived.
fn write_missing(writer: &mut Writer<'_>, association: &mut Association, plain: bool) {
    let asks = |retry| plain || retry == Retry::Requested;
    let start = association.resume.missing;
    for (key, spoken_of, ranges) in association.assemblies.missing(start, asks) {
        writer.missing_segments(initiator(key.is_reply), key.transaction, spoken_of, ranges);
        if !association.assemblies.is_touched(key) {
            let transaction = key.transaction.saturating_add(1);
            association.resume.missing = AssemblyKey { transaction, ..key };
        }
    }
    association.assemblies.on_told();
    let (end, start) = (association.peer_issued, association.resume.unseen);
    let inbox = &association.inbox;
    let mut in_turn = inbox.missing(start..end).chain(inbox.missing(0..start.min(end)));
    for transaction in in_turn.by_ref().take(MISSING_MESSAGES_MAX) {
        let key = AssemblyKey { is_reply: false, transaction };
        if !association.assemblies.contains(key) {
            writer.missing_segments(Initiator::Receiver, transaction, (0, 0), []);
        }
    }
    association.resume.unseen = in_turn.next().unwrap_or(0);
}

/// Whose numbering a transaction is in, as the receiver of a block sees it.
const fn initiator(is_reply: bool) -> Initiator {
    if is_reply { Initiator::Sender } else { Initiator::Receiver }
}

/// Which of our queues a block speaks of.
const fn direction(initiator: Initiator) -> Direction {
    match initiator {
        Initiator::Receiver => Direction::Own,
        Initiator::Sender => Direction::Reply,
    }
}

/// Writes ranges with their status: the lowest, as many as fit from where the last report ended, and
/// what the last one had in the room that these leave: a list that is not full names all there are. They
/// come ascending and leave descending.
fn write_ranges(
    writer: &mut Writer<'_>,
    (initiator, status): (Initiator, TransactionStatus),
    mut ranges: impl Iterator<Item = core::ops::Range<u64>>,
    resume: &mut u64,
) {
    const NONE: core::ops::RangeInclusive<u64> = 0..=0;
    let inclusive = |range: core::ops::Range<u64>| range.start..=range.end - 1;
    let mut list = [NONE; TRANSACTION_RANGES_MAX];
    let mut left = 0;
    let mut count = 0;
    if let Some(lowest) = ranges.next() {
        // A ring of those after it, in which what the last report had makes room.
        let (first, ring) = list.split_first_mut().expect("a list has room for one");
        *first = inclusive(lowest);
        let (room, mut taken) = (ring.len(), 0);
        for range in ranges {
            let oldest = &mut ring[taken % room];
            if taken >= room && *oldest.end() >= *resume {
                left = range.start;
                break;
            }
            *oldest = inclusive(range);
            taken += 1;
        }
        count = 1 + taken.min(room);
        if taken > room {
            ring.rotate_left(taken % room);
        }
    }
    *resume = left;
    if count > 0 {
        let ranges = list[..count].iter().rev().cloned();
        writer.transaction_ranges(initiator, status, ranges);
    }
}

/// Hands a report on transactions to the outbox.
fn report(association: &mut Association, ranges: &TransactionRanges<'_>) -> Result<(), DropReason> {
    let outbox = &mut association.outbox;
    for range in ranges.iter() {
        let range = *range.start()..range.end().saturating_add(1);
        match (ranges.initiator, ranges.status) {
            (Initiator::Receiver, TransactionStatus::Done) => outbox.on_done(range)?,
            (Initiator::Receiver, TransactionStatus::Accepted) => outbox.on_accepted(range)?,
            (Initiator::Receiver, TransactionStatus::Refused(reason)) => {
                let reason = u8::try_from(reason).unwrap_or(u8::MAX);
                outbox.on_refused(range, reason)?;
            }
            (Initiator::Receiver, TransactionStatus::Expired) => {
                outbox.on_refused(range, crate::limits::REFUSED_EXPIRED)?;
            }
            (Initiator::Sender, _) => outbox.on_replies_settled(range),
        }
    }
    Ok(())
}
