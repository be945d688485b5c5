//! The way out: what is due, in which order, and the timers behind it.

use super::train::Train;
use super::{Association, CloseReason, Content, Endpoint, Live};
use crate::buffer::{Ecn, Transmit};
use crate::limits::{GRANULARITY, TRAIN_SEGMENTS_MAX};
use crate::protocol::session::recovery::{SentKind, TimeoutOutcome};
use crate::protocol::session::{KeyHealth, Mode, Outgoing};
use crate::protocol::transaction::{Direction, Outbox, Priority, UnitId};
use crate::protocol::wire::control::Writer;
use crate::protocol::wire::{Flags, PacketKind};
use crate::time::{Instant, earliest};

impl Endpoint {
    /// The next datagram or train to send. Drain until `None`, or until the driver is full.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        self.polled_at = now;
        self.end_batch(now);
        self.close_drained(now);
        if self.train_pool.available() > 0 {
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
        while let Some(slot) = self.ready.pop_front() {
            // What is found to be due on the way, a handshake for one, makes it ready again.
            if let Some(peer) = self.peers.find_mut(slot) {
                peer.is_ready = false;
            }
            let (transmit, is_last) = self.poll_peer(now, slot).unzip();
            if is_last == Some(false) {
                self.mark_ready(slot);
                return transmit;
            }
            self.timers.mark_stale(slot * 2);
            if transmit.is_some() {
                return transmit;
            }
        }
        None
    }

    /// Does what is due by now.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.settle_timers();
        while let Some(owner) = self.timers.due(now) {
            self.timers.set(owner, None);
            if owner % 2 == 0 {
                self.handle_peer_timeout(now, owner / 2);
            } else {
                self.handle_session_timeout(now, owner / 2);
            }
        }
    }

    /// Works out the timers that were left for later: who answers a packet does so first.
    pub(super) fn settle_timers(&mut self) {
        while let Some(owner) = self.timers.take_stale() {
            if owner % 2 == 0 {
                self.rearm(self.polled_at, owner / 2);
            } else {
                self.rearm_live(owner / 2);
            }
        }
    }

    /// Sets the timers of a peer and of its session after they were worked on.
    pub(super) fn rearm(&mut self, now: Instant, slot: u32) {
        let Some(peer) = self.peers.find(slot) else {
            self.timers.set(slot * 2, None);
            return;
        };
        let handshake = peer.handshake.as_ref().map(|handshake| handshake.next_timeout());
        let expiry = peer.association.as_ref().and_then(|known| known.outbox.next_deadline());
        let arrivals = peer.association.as_ref().and_then(Association::next_timeout);
        let patience = earliest([peer.ask_again, peer.drain_until, peer.lost_until]);
        let mut deadline = earliest([patience, handshake, expiry, arrivals]);
        if peer.lives == 0 && self.is_over(slot) {
            deadline = Some(now); // It is forgotten once all of it was handed over.
        }
        if let Some(live) = peer.current.and_then(|live| self.lives.find(live)) {
            let session = &live.session;
            let outbox = peer.association.as_ref().map(|association| &association.outbox);
            let work = outbox.and_then(|outbox| outbox.next_timeout(now)).filter(|&at| at > now);
            let paced = outbox
                .filter(|outbox| outbox.has_ready(now))
                .and_then(|_| session.recovery.next_send_time(now));
            let silence = peer.association.as_ref().and_then(|known| known.asks_at(session));
            deadline = earliest([deadline, work, paced, silence]);
        }
        // A deadline that is not in the future would spin: one granule is soon enough.
        let soon = now + GRANULARITY;
        self.timers.set(slot * 2, deadline.map(|at| at.max(soon)));
        if let Some(live) = peer.current {
            self.rearm_live(live);
        }
    }

    fn rearm_live(&mut self, live: u32) {
        let deadline = self.lives.find(live).map(|live| live.session.next_timeout());
        self.timers.set(live * 2 + 1, deadline);
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
            self.timers.mark_stale(slot * 2 + 1);
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
                self.collect_outcomes(peer);
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

    /// The next datagram or train for one peer, and whether nothing more waits for it.
    fn poll_peer(&mut self, now: Instant, slot: u32) -> Option<(Transmit, bool)> {
        if let Some(transmit) = self.poll_handshake(now, slot) {
            return Some((transmit, false));
        }
        let live = self.peers.find(slot)?.current?;
        if !self.lives.find(live)?.session.is_confirmed() {
            return None;
        }
        let probe = self.poll_ping(now, live).or_else(|| self.poll_mtu_probe(now, live));
        probe.map(|transmit| (transmit, false)).or_else(|| self.poll_units(now, live))
    }

    /// A datagram larger than the path is known to carry.
    fn poll_mtu_probe(&mut self, now: Instant, slot: u32) -> Option<Transmit> {
        if self.train_pool.available() == 0 {
            return None;
        }
        let Self { lives, control_head: template, .. } = self;
        let live = lives.find_mut(slot)?;
        if live.session.mode() == Mode::Plain {
            return None;
        }
        let len = live.session.recovery.poll_mtu_probe(now)?;
        let outgoing = Outgoing::control(PacketKind::Probe);
        // Exactly as long as asked: it is the length that the path is tested for.
        let body_len = live.session.body_len_filling(len, outgoing);
        let plan = live.session.plan(template, body_len, outgoing);
        let mut lease = self.train_pool.take()?.narrow(0..plan.packet_len);
        let packet = lease.get_mut().expect("a buffer just taken has one holder");
        let number = live.session.seal(template, packet, &plan, |body| {
            let mut writer = Writer::new(body);
            writer.ping();
            writer.padding(writer.remaining());
        });
        let content = Some(Content::MtuProbe);
        let ecn = on_sent(now, live, number, plan.packet_len, SentKind::MtuProbe, content);
        self.counters.packets_sent += 1;
        Some(Transmit::single(live.session.address(), ecn, lease))
    }

    /// The next message packets, as many as the window has room for and one train takes; and whether
    /// they are all that wait to leave.
    fn poll_units(&mut self, now: Instant, slot: u32) -> Option<(Transmit, bool)> {
        self.check_keys(now, slot)?;
        let Self { lives, peers, message_head: template, train_pool, counters, starved, .. } = self;
        let live = lives.find_mut(slot)?;
        let peer_slot = live.peer;
        let outbox = &mut peers.find_mut(peer_slot)?.association.as_mut()?.outbox;
        let to = live.session.address();
        if train_pool.available() == 0 {
            if !starved.contains(&peer_slot) {
                starved.push(peer_slot);
            }
            return None;
        }
        let mut train: Option<Train> = None;
        if outbox.has_ready(now) {
            live.session.recovery.restart_if_idle(now);
        }
        let mut room = Room::of(now, live);
        for _ in 0..TRAIN_SEGMENTS_MAX {
            if train.as_ref().is_some_and(Train::is_full) {
                break;
            }
            let Some(least) = room.least_urgent(live, outbox) else { break };
            let Some(id) = outbox.next(now, least) else { break };
            let Some((segment, outgoing, body_len)) = describe(live, outbox, id) else {
                continue;
            };
            let kind = sent_kind(live, outbox, id);
            let plan = live.session.plan(template, body_len, outgoing);
            let ecn = live.session.recovery.next_mark(kind);
            if train.as_ref().is_some_and(|train| !train.takes(plan.packet_len, ecn)) {
                outbox.put_back(id);
                break;
            }
            let place = train.get_or_insert_with(|| {
                let lease = train_pool.take().expect("one is free");
                Train::new(lease, plan.packet_len, ecn)
            });
            let place = place.extend(plan.packet_len);
            let unit = outbox.unit(id)?;
            let write = |body: &mut [u8]| unit.write_body(segment.0, body);
            let number = live.session.seal(template, place, &plan, write);
            let tries = note_unit_sent(now, live, outbox, id, segment, number);
            let content = (kind != SentKind::AckOnly).then_some(Content::Unit {
                id,
                segment: segment.0,
                segments: segment.1,
                tries,
            });
            let mark = on_sent(now, live, number, plan.packet_len, kind, content);
            debug_assert_eq!(mark, ecn, "the mark was known before");
            if kind != SentKind::AckOnly {
                room.take(plan.packet_len as u64);
            }
            live.probes = live.probes.saturating_sub(1);
            counters.packets_sent += 1;
            counters.retransmissions += u64::from(tries > 1);
        }
        let is_last = !outbox.has_ready(now);
        self.collect_outcomes(peer_slot);
        Some((train?.into_transmit(to), is_last))
    }

    /// Moves a session to its next keys if that is due, and ends one whose keys are used up: `None`.
    fn check_keys(&mut self, now: Instant, slot: u32) -> Option<()> {
        let session = &mut self.lives.find_mut(slot)?.session;
        if session.is_ratchet_due(now) {
            session.ratchet(now);
        }
        match session.key_health(now) {
            KeyHealth::Good => {}
            KeyHealth::RenewalDue => self.renew(now, slot),
            KeyHealth::Spent => {
                self.end_session(now, slot, CloseReason::KeysExhausted);
                return None;
            }
        }
        Some(())
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

/// Bytes that the window and the pacing have room for, worked out once a train.
struct Room {
    all: u64,
    urgent: u64,
    datagram_len: u64,
}

impl Room {
    fn of(now: Instant, live: &Live) -> Self {
        let recovery = &live.session.recovery;
        Self {
            all: recovery.train_available(now),
            urgent: recovery.urgent_available(),
            datagram_len: recovery.datagram_len() as u64,
        }
    }

    /// A packet of so many bytes leaves.
    fn take(&mut self, bytes: u64) {
        self.all = self.all.saturating_sub(bytes);
        self.urgent = self.urgent.saturating_sub(bytes);
    }

    /// The least urgent messages that may leave now; `None`: there is no room.
    fn least_urgent(&self, live: &Live, outbox: &Outbox) -> Option<Priority> {
        if live.probes > 0 || self.all >= self.datagram_len {
            // What else waits fills the path with or without the part that is due to bulk.
            let waits = live.session.recovery.bulk_waits(0);
            let yields = waits && live.probes == 0 && outbox.has_only_bulk();
            return Some(if yields { Priority::Normal } else { Priority::Bulk });
        }
        (self.urgent >= self.datagram_len).then_some(Priority::Urgent)
    }
}

/// What packet of a unit leaves next: which segment of how many, its head, the length of its body.
/// `None`: the path carries less than when the unit was cut, and it waits for another turn.
fn describe(live: &Live, outbox: &mut Outbox, id: UnitId) -> Option<((u32, u32), Outgoing, usize)> {
    let waiting = outbox.waiting();
    let room = live.session.body_room();
    let unit = outbox.unit(id).expect("the outbox names units it has");
    let segment = unit.packet_due()?;
    if unit.room_needed() > room {
        outbox.refit(id, room);
        return None;
    }
    let mut flags = Flags::NONE;
    if id.direction == Direction::Reply {
        flags = flags.with(Flags::CORRESPONDER);
    }
    if segment.0 + 1 < segment.1 {
        flags = flags.with(Flags::PENDING);
    }
    let mut outgoing = Outgoing {
        packet: PacketKind::Message,
        service: unit.service(),
        transaction: unit.first(),
        order: unit.order(),
        segment,
        body: unit.body_kind(),
        flags,
    };
    let body_len = unit.packet_body_len(segment.0);
    // A message in segments waits as long as one of them does. Bulk that yields waits for what this
    // packet's acknowledgement tells.
    let others = waiting > usize::from(unit.has_one_segment_due());
    let recovery = &live.session.recovery;
    let waits =
        unit.priority() == Priority::Bulk && recovery.bulk_waits(recovery.datagram_len() as u64);
    if others && !waits {
        outgoing.flags = outgoing.flags.with(Flags::BURST);
    }
    Some((segment, outgoing, body_len))
}

/// What a packet of a unit is to the packet plane. Without numbers on the wire only reports
/// acknowledge: what gets none is not tracked.
fn sent_kind(live: &Live, outbox: &mut Outbox, id: UnitId) -> SentKind {
    let is_tracked = live.session.mode() != Mode::Plain
        || outbox.unit(id).is_some_and(|unit| unit.is_acknowledged());
    match (is_tracked, live.probes) {
        (false, _) => SentKind::AckOnly,
        (true, 0) => SentKind::Data,
        (true, _) => SentKind::Probe,
    }
}

/// Tells an outbox that a packet of a unit left; returns which try that was.
fn note_unit_sent(
    now: Instant,
    live: &mut Live,
    outbox: &mut Outbox,
    id: UnitId,
    (segment, segments): (u32, u32),
    number: u64,
) -> u8 {
    if live.session.mode() == Mode::Plain {
        let unit = outbox.unit(id).expect("it was just sent");
        let before = match segments {
            1 => unit.packet_number(),
            _ if unit.is_acknowledged() => unit.note_segment_packet(segment, number),
            _ => None,
        };
        if let Some(before) = before {
            live.session.recovery.forget(before);
        }
    }
    let round_trip = live.session.recovery.rtt().smoothed();
    match segments {
        1 => outbox.on_sent(now, id, number, round_trip),
        _ => outbox.on_segment_sent(now, id, segment, round_trip),
    }
}

/// Tells the packet plane that a packet of `len` bytes left; returns its mark.
fn on_sent(
    now: Instant,
    live: &mut Live,
    number: u64,
    len: usize,
    kind: SentKind,
    content: Option<Content>,
) -> Ecn {
    let bytes = u32::try_from(len).expect("a packet fits a datagram");
    live.session.recovery.on_sent(now, number, bytes, kind, content)
}
