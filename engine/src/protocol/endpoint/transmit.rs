//! The way out: what is due, in which order, and the timers behind it.

use super::{CloseReason, Content, Endpoint};
use crate::buffer::Transmit;
use crate::limits::{GRANULARITY, HEADROOM, TRAIN_SEGMENTS_MAX};
use crate::protocol::session::recovery::{SentKind, TimeoutOutcome};
use crate::protocol::session::{KeyHealth, Mode, Outgoing};
use crate::protocol::transaction::{Direction, Priority, UnitId};
use crate::protocol::wire::control::Writer;
use crate::protocol::wire::{Flags, ORDER_LEN_MAX, PacketKind, SEGMENT_LEN_MAX};
use crate::time::Instant;

impl Endpoint {
    /// The next datagram to send. Drain until `None`, or until the driver is full.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        self.end_batch(now);
        self.close_drained(now);
        if self.pool.available() > 0 {
            while let Some(slot) = self.starved.pop() {
                self.mark_ready(slot);
            }
        }
        if let Some(transmit) = self.outgoing.pop_front() {
            return Some(transmit);
        }
        if let Some(transmit) = self.poll_ack(now) {
            return Some(transmit);
        }
        while let Some(&slot) = self.ready.front() {
            let transmit = self.poll_peer(now, slot);
            let is_drained = transmit.is_none();
            self.burst += 1;
            if is_drained || self.burst >= TRAIN_SEGMENTS_MAX {
                self.burst = 0;
                self.ready.pop_front();
                if is_drained {
                    if let Some(peer) = self.peers.find_mut(slot) {
                        peer.is_ready = false;
                    }
                    self.rearm(now, slot);
                } else {
                    self.ready.push_back(slot);
                }
            }
            if transmit.is_some() {
                return transmit;
            }
        }
        None
    }

    /// Does what is due by now.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(owner) = self.timers.due(now) {
            self.timers.set(owner, None);
            if owner % 2 == 0 {
                self.handle_peer_timeout(now, owner / 2);
            } else {
                self.handle_session_timeout(now, owner / 2);
            }
        }
    }

    /// Decides, once for everything that arrived together, which sessions owe an acknowledgement.
    fn end_batch(&mut self, now: Instant) {
        for slot in self.touched.drain(..) {
            let Some(live) = self.lives.find_mut(slot) else { continue };
            live.touched = false;
            let session = &mut live.session;
            if session.received.end_of_batch(now) && !live.is_ack_due {
                live.is_ack_due = true;
                self.acks_due.push_back(slot);
            }
            let deadline = session.next_timeout();
            self.timers.set(slot * 2 + 1, Some(deadline));
        }
    }

    fn handle_session_timeout(&mut self, now: Instant, slot: u32) {
        let Some(live) = self.lives.find_mut(slot) else { return };
        if live.session.expiry() <= now {
            return self.end_session(now, slot, CloseReason::Idle);
        }
        let peer = live.peer;
        if live.session.received.next_timeout().is_some_and(|at| at <= now) && !live.touched {
            live.touched = true;
            self.touched.push(slot);
        }
        self.send_challenges(now, slot);
        let Some(live) = self.lives.find_mut(slot) else { return };
        // What is in flight asks by itself.
        live.ping_due |=
            live.session.poll_keep_alive(now) && live.session.recovery.in_flight_bytes() == 0;
        let lost_before = self.scratch.lost.len();
        match live.session.recovery.on_timeout(now, &mut self.scratch.lost) {
            TimeoutOutcome::None => {}
            TimeoutOutcome::Lost => {
                self.counters.packets_lost += (self.scratch.lost.len() - lost_before) as u64;
                self.settle_packets(slot);
            }
            TimeoutOutcome::Probe(count) => self.probe(slot, count),
        }
        self.mark_ready(peer);
        let deadline = self.lives.find(slot).map(|live| live.session.next_timeout());
        self.timers.set(slot * 2 + 1, deadline.map(|at| at.max(now + GRANULARITY)));
    }

    /// Nothing was heard for too long: has the oldest packets' units leave again, or a ping.
    fn probe(&mut self, slot: u32, count: u8) {
        let Some(live) = self.lives.find_mut(slot) else { return };
        live.probes = count;
        let peer_slot = live.peer;
        let peer = self.peers.find_mut(peer_slot).expect("a session has a peer");
        let Some(association) = peer.association.as_mut() else { return };
        let mut requeued = 0;
        for content in live.session.recovery.oldest_in_flight() {
            if let Content::Unit { id, segment, segments, tries } = content {
                let segment = (segment, segments);
                requeued += u8::from(association.outbox.on_packet_lost(id, segment, tries));
            }
            if requeued == count {
                break;
            }
        }
        // A path that lost its longer packets answers a short one, and only that tells.
        if requeued == 0 || live.session.recovery.may_shrink() {
            live.ping_due = true;
        }
        self.collect_outcomes(peer_slot);
    }

    /// The next datagram for one peer.
    fn poll_peer(&mut self, now: Instant, slot: u32) -> Option<Transmit> {
        if let Some(transmit) = self.poll_handshake(now, slot) {
            return Some(transmit);
        }
        let live = self.peers.find(slot)?.current?;
        if !self.lives.find(live)?.session.is_confirmed() {
            return None;
        }
        self.poll_ping(now, live)
            .or_else(|| self.poll_mtu_probe(now, live))
            .or_else(|| self.poll_unit(now, live))
    }

    /// A datagram larger than the path is known to carry.
    fn poll_mtu_probe(&mut self, now: Instant, slot: u32) -> Option<Transmit> {
        if self.pool.available() == 0 {
            return None;
        }
        let live = self.lives.find_mut(slot)?;
        if live.session.mode() == Mode::Plain {
            return None;
        }
        let len = live.session.recovery.poll_mtu_probe(now)?;
        let mut lease = self.pool.take()?;
        let buffer = lease.get_mut().expect("a buffer just taken has one holder");
        let outgoing = Outgoing::control(PacketKind::Probe);
        // Exactly as long as asked: it is the length that the path is tested for.
        let body_len = live.session.body_len_filling(len, outgoing);
        let mut writer = Writer::new(&mut buffer[HEADROOM..HEADROOM + body_len]);
        writer.ping();
        writer.padding(writer.remaining());
        let end = HEADROOM + writer.finish();
        let sealed = live.session.seal(buffer, HEADROOM..end, outgoing);
        let bytes = u32::try_from(sealed.packet.len()).expect("a packet fits a datagram");
        let content = Some(Content::MtuProbe);
        let number = sealed.packet_number;
        let ecn = live.session.recovery.on_sent(now, number, bytes, SentKind::MtuProbe, content);
        self.counters.packets_sent += 1;
        Some(Transmit { to: live.session.address(), ecn, lease: lease.view(sealed.packet) })
    }

    /// The next message packet, if the window has room for it.
    fn poll_unit(&mut self, now: Instant, slot: u32) -> Option<Transmit> {
        let live = self.lives.find_mut(slot)?;
        let window = live.session.recovery.window_available(now);
        let datagram_len = live.session.recovery.datagram_len() as u64;
        let recovery = &live.session.recovery;
        let mut least = Priority::Bulk;
        if live.probes == 0 && window < datagram_len {
            if recovery.urgent_available() < datagram_len {
                return None;
            }
            least = Priority::Urgent;
        }
        if let Some(first) = live.session.ratchet_due(now) {
            self.ratchet(now, slot, first);
        }
        match self.lives.find(slot)?.session.key_health(now) {
            KeyHealth::Good => {}
            KeyHealth::RenewalDue => self.renew(now, slot),
            KeyHealth::Spent => {
                self.end_session(now, slot, CloseReason::KeysExhausted);
                return None;
            }
        }
        let live = self.lives.find_mut(slot)?;
        let (peer_slot, room) = (live.peer, live.session.body_room());
        let peer = self.peers.find_mut(peer_slot)?;
        let outbox = &mut peer.association.as_mut()?.outbox;
        let id = outbox.next(now, least)?;
        let is_last = !outbox.has_backlog();
        let unit = outbox.unit(id).expect("the outbox names units it has");
        if let Some((segment, count)) = unit.segment_due() {
            let burst = if is_last { Flags::NONE } else { Flags::BURST };
            return self.poll_segment(now, slot, id, (segment, count), burst);
        }
        let sealed_before = unit.take_sealed();
        let Some(buffer) = unit.buffer() else {
            // A send of the same buffer is still in the kernel's hands: the next turn will do.
            if let Some((packet, head_len)) = sealed_before {
                unit.mark_sealed(packet, head_len);
            }
            outbox.put_back(id);
            return None;
        };
        if let Some((packet, head_len)) = sealed_before {
            live.session.unseal(&mut buffer[packet], head_len);
        }
        if unit.body_len_max() > room {
            // The path carries less than when this was written.
            outbox.refit(id, room);
            self.mark_ready(peer_slot);
            return None;
        }
        let body = unit.body();
        let mut flags = Flags::NONE;
        if id.direction == Direction::Reply {
            flags = flags.with(Flags::CORRESPONDER);
        }
        if !is_last {
            flags = flags.with(Flags::BURST);
        }
        let outgoing = Outgoing {
            packet: PacketKind::Message,
            service: unit.service(),
            transaction: unit.first(),
            order: unit.order(),
            segment: (0, 1),
            body: unit.body_kind(),
            flags,
        };
        let before = unit.packet_number();
        let buffer = unit.buffer().expect("nothing else holds it");
        let sealed = live.session.seal(buffer, body, outgoing);
        let lease = unit.view(sealed.packet.clone());
        let bytes = u32::try_from(sealed.packet.len()).expect("a packet fits a datagram");
        unit.mark_sealed(sealed.packet, sealed.head_len);
        let number = sealed.packet_number;
        // Without numbers on the wire only reports acknowledge: what gets none is not tracked.
        let is_plain = live.session.mode() == Mode::Plain;
        let is_tracked = !is_plain || unit.is_acknowledged();
        if let (true, Some(before)) = (is_plain, before) {
            live.session.recovery.forget(before);
        }
        let round_trip = live.session.recovery.rtt().smoothed();
        let tries = outbox.on_sent(now, id, number, round_trip);
        let kind = match (is_tracked, live.probes) {
            (false, _) => SentKind::AckOnly,
            (true, 0) => SentKind::Data,
            (true, _) => SentKind::Probe,
        };
        let content = is_tracked.then_some(Content::Unit { id, segment: 0, segments: 1, tries });
        let ecn = live.session.recovery.on_sent(now, number, bytes, kind, content);
        live.probes = live.probes.saturating_sub(1);
        self.counters.packets_sent += 1;
        self.counters.retransmissions += u64::from(tries > 1);
        let to = live.session.address();
        self.collect_outcomes(peer_slot);
        Some(Transmit { to, ecn, lease })
    }

    /// Moves a session to its next key generation. Messages that were sealed under numbers below
    /// `first` and may leave again are unsealed while there is the key for it. Should the kernel
    /// still read one of them, all waits for another turn.
    pub(super) fn ratchet(&mut self, now: Instant, slot: u32, first: u64) {
        let Some(live) = self.lives.find_mut(slot) else { return };
        let peer = self.peers.find_mut(live.peer).expect("a session has a peer");
        let Some(association) = peer.association.as_mut() else { return };
        for id in association.outbox.unit_ids() {
            let Some(unit) = association.outbox.unit(id) else { continue };
            if unit.is_released() || unit.packet_number().is_none_or(|number| number >= first) {
                continue;
            }
            let Some((packet, head_len)) = unit.take_sealed() else { continue };
            let Some(buffer) = unit.buffer() else { return unit.mark_sealed(packet, head_len) };
            live.session.unseal(&mut buffer[packet], head_len);
        }
        live.session.ratchet(now);
    }

    /// The next segment of a message: copied into a buffer that it does not keep.
    fn poll_segment(
        &mut self,
        now: Instant,
        slot: u32,
        id: UnitId,
        (segment, count): (u32, u32),
        burst: Flags,
    ) -> Option<Transmit> {
        let live = self.lives.find_mut(slot)?;
        let (peer_slot, room) = (live.peer, live.session.body_room());
        let outbox = &mut self.peers.find_mut(peer_slot)?.association.as_mut()?.outbox;
        let unit = outbox.unit(id)?;
        let extra = SEGMENT_LEN_MAX + if unit.order() > 0 { ORDER_LEN_MAX } else { 0 };
        if unit.body_len_max() + extra > room {
            outbox.refit(id, room);
            self.mark_ready(peer_slot);
            return None;
        }
        let Some(mut lease) = self.pool.take() else {
            if !self.starved.contains(&peer_slot) {
                self.starved.push(peer_slot);
            }
            return None;
        };
        let buffer = lease.get_mut().expect("a buffer just taken has one holder");
        let len = unit.write_segment(segment, &mut buffer[HEADROOM..]);
        let mut flags = burst;
        if id.direction == Direction::Reply {
            flags = flags.with(Flags::CORRESPONDER);
        }
        if segment + 1 < count {
            flags = flags.with(Flags::PENDING);
        }
        let outgoing = Outgoing {
            packet: PacketKind::Message,
            service: unit.service(),
            transaction: unit.first(),
            order: unit.order(),
            segment: (segment, count),
            body: unit.body_kind(),
            flags,
        };
        let is_acknowledged = unit.is_acknowledged();
        let sealed = live.session.seal(buffer, HEADROOM..HEADROOM + len, outgoing);
        let bytes = u32::try_from(sealed.packet.len()).expect("a packet fits a datagram");
        let number = sealed.packet_number;
        let is_plain = live.session.mode() == Mode::Plain;
        if is_plain
            && is_acknowledged
            && let Some(before) = unit.note_segment_packet(segment, number)
        {
            live.session.recovery.forget(before);
        }
        let round_trip = live.session.recovery.rtt().smoothed();
        let tries = outbox.on_segment_sent(now, id, segment, round_trip);
        let is_tracked = !is_plain || is_acknowledged;
        let kind = match (is_tracked, live.probes) {
            (false, _) => SentKind::AckOnly,
            (true, 0) => SentKind::Data,
            (true, _) => SentKind::Probe,
        };
        let content = is_tracked.then_some(Content::Unit { id, segment, segments: count, tries });
        let ecn = live.session.recovery.on_sent(now, number, bytes, kind, content);
        live.probes = live.probes.saturating_sub(1);
        self.counters.packets_sent += 1;
        self.counters.retransmissions += u64::from(tries > 1);
        let to = live.session.address();
        self.collect_outcomes(peer_slot);
        Some(Transmit { to, ecn, lease: lease.narrow(sealed.packet) })
    }

    /// Asks the peer for its word when nothing else brings progress.
    pub(super) fn ask_if_stuck(&mut self, now: Instant, slot: u32) {
        let Some(peer) = self.peers.find_mut(slot) else { return };
        let Some(live) = peer.current.and_then(|live| self.lives.find(live)) else { return };
        let Some(association) = peer.association.as_mut() else { return };
        if association.asks_at(&live.session).is_some_and(|at| at <= now) {
            association.starved_at = now;
            association.barren_reports = 0;
            self.ask_for_report(slot);
        }
    }
}
