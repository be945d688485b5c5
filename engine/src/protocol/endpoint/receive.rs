//! The way in: datagram, packet, session, transaction, event.

use std::net::SocketAddr;

use super::message::abandoned;
use super::{Association, Endpoint, Event};
use crate::buffer::{Ecn, Received};
use crate::protocol::drop_reason::DropReason;
use crate::protocol::transaction::features;
use crate::protocol::wire::PacketKind;
use crate::time::Instant;

impl Endpoint {
    /// Takes a received datagram, or a train of them.
    ///
    /// # Panics
    /// If another lease sees the train's buffer: datagrams are opened in place.
    pub fn handle_datagram(&mut self, now: Instant, received: Received) {
        let Received { from, ecn, mut lease, segment_len } = received;
        let bytes = lease.get_mut().expect("a received buffer has one holder");
        if bytes.is_empty() {
            return self.drop_packet(DropReason::Empty);
        }
        let mut misrouted = None;
        let mut start = 0;
        for datagram in bytes.chunks_mut(segment_len.max(1)) {
            let end = start + datagram.len();
            match self.handle_packet(now, from, ecn, datagram, start) {
                Ok(()) => {}
                Err(DropReason::SessionUnknown) => {
                    match self.owner(datagram) {
                        None => self.answer_unknown(now, from, datagram),
                        owner => misrouted = misrouted.or_else(|| Some(start..end).zip(owner)),
                    }
                    self.drop_packet(DropReason::SessionUnknown);
                }
                Err(reason) => self.drop_packet(reason),
            }
            start = end;
        }
        // What the train did besides, to outcomes and sessions, is told in its order.
        for (earlier, delivery) in self.scratch.deliveries.drain(..).enumerate() {
            let place = (delivery.place + earlier).min(self.events.len());
            self.undelivered += 1;
            self.events.insert(place, delivery.into_event(&lease));
        }
        if let Some((range, shard)) = misrouted {
            let datagram = lease.view(range);
            self.events.push_back(Event::Misrouted { from, ecn, datagram, shard });
        }
    }

    /// The other shard that owns the session of `datagram`: ids are drawn so that they tell.
    fn owner(&self, datagram: &[u8]) -> Option<usize> {
        let (own, count) = self.config.shard;
        if !self.config.listen {
            return None; // Shards that do not share a port get no datagrams of another.
        }
        let session = crate::protocol::wire::split(datagram).ok()?.head.session;
        let shard = usize::try_from(session % count as u64).expect("below the shard count");
        (shard != own).then_some(shard)
    }

    fn handle_packet(
        &mut self,
        now: Instant,
        from: SocketAddr,
        ecn: Ecn,
        datagram: &mut [u8],
        offset: usize,
    ) -> Result<(), DropReason> {
        let packet = self.reader.split(datagram)?;
        if packet.head.session == 0 {
            return self.handle_bootstrap(now, from, &packet, datagram);
        }
        let slot = self.find_session(packet.head.session).ok_or(DropReason::SessionUnknown)?;
        let live = self.lives.find_mut(slot).expect("the index names open sessions");
        if packet.head.packet == PacketKind::Reset {
            return self.handle_reset(now, slot, &packet, datagram);
        }
        let was_confirmed = live.session.is_confirmed();
        let opened = live.session.open(now, datagram, &packet)?;
        self.counters.packets_received += 1;
        if !was_confirmed {
            self.confirm(now, slot)?;
        }
        self.note_source(now, slot, from, opened.is_newest, datagram.len());
        let (body, number) = (packet.body(), opened.packet_number);
        let asks_now = match packet.head.packet {
            PacketKind::Message => {
                self.handle_message(now, slot, &packet, &datagram[body], offset)?
            }
            PacketKind::Ack | PacketKind::Probe => {
                self.handle_control(now, slot, (from, number), &packet, &datagram[body])?
            }
            PacketKind::Close => {
                return self.handle_close(now, slot, &packet, &datagram[body]);
            }
            _ => return Err(DropReason::Unsupported),
        };
        let is_eliciting = packet.head.packet != PacketKind::Ack;
        self.note_arrival(now, slot, number, ecn, (is_eliciting, asks_now));
        Ok(())
    }

    /// The slot of an open session.
    #[inline]
    fn find_session(&mut self, id: u64) -> Option<u32> {
        if self.lives.find(self.latest).is_none_or(|live| live.session.id() != id) {
            self.latest = *self.by_session.get(&id)?;
        }
        Some(self.latest)
    }

    /// Records a packet that was kept. Pure acknowledgements are recorded too, though they elicit
    /// none: left out, each would look like a hole.
    fn note_arrival(
        &mut self,
        now: Instant,
        slot: u32,
        number: Option<u64>,
        ecn: Ecn,
        (is_eliciting, asks_now): (bool, bool),
    ) {
        let Some(live) = self.lives.find_mut(slot) else { return };
        let arrival = live.arrivals;
        live.arrivals += 1;
        let number = number.unwrap_or(arrival);
        live.session.received.on_received(now, number, ecn, is_eliciting, asks_now);
        if !live.touched {
            live.touched = true;
            self.touched.push(slot);
        }
    }

    /// Moves what an outbox resolved to the events.
    pub(super) fn collect_outcomes(&mut self, slot: u32) {
        let id = self.peer_id(slot);
        let Some(peer) = self.peers.find_mut(slot) else { return };
        let Some(association) = peer.association.as_mut() else { return };
        while let Some(resolved) = association.outbox.poll_outcome() {
            self.counters.outcomes.count(&resolved);
            if features(resolved.service).reply {
                let Association { assemblies, outbox, .. } = &mut *association;
                let mut next = || assemblies.forget_replies(|range| outbox.awaits_replies(range));
                while let Some(key) = next() {
                    self.events.push_back(abandoned(id, key));
                }
            }
            self.events.push_back(Event::Outcomes { peer: id, resolved });
        }
    }
}
