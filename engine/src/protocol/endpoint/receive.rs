//! The way in: datagram, packet, session, transaction, event.

use std::net::SocketAddr;
use std::ops::Range;

use super::{Endpoint, Event, Messages, PeerId};
use crate::buffer::Received;
use crate::protocol::drop_reason::DropReason;
use crate::protocol::transaction::{Acceptance, features};
use crate::protocol::wire::{BodyKind, Flags, Packet, PacketKind, ServiceKind, bundle::Bundle};
use crate::time::Instant;

/// Messages found in a train, before the events that hold its buffer are made.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub(super) peer: PeerId,
    service: ServiceKind,
    first: u64,
    /// Messages of the body to pass over, and to deliver.
    skip: u32,
    count: u32,
    pub(super) is_reply: bool,
    kind: BodyKind,
    body: Range<usize>,
    /// Events that come before it.
    place: usize,
}

impl Endpoint {
    /// Takes a received datagram, or a train of them.
    ///
    /// # Panics
    /// If another lease sees the train's buffer: datagrams are opened in place.
    pub fn handle_datagram(&mut self, now: Instant, received: Received) {
        let Received { from, mut lease, segment_len } = received;
        let bytes = lease.get_mut().expect("a received buffer has one holder");
        if bytes.is_empty() {
            return self.drop_packet(DropReason::Empty);
        }
        let mut misrouted = None;
        let mut start = 0;
        for datagram in bytes.chunks_mut(segment_len.max(1)) {
            let end = start + datagram.len();
            match self.handle_packet(now, from, datagram, start) {
                Ok(()) => {}
                Err(DropReason::SessionUnknown) => {
                    misrouted = misrouted.or_else(|| Some((start..end, self.owner(datagram)?)));
                    self.drop_packet(DropReason::SessionUnknown);
                }
                Err(reason) => self.drop_packet(reason),
            }
            start = end;
        }
        // What the train did besides, to outcomes and sessions, is told in its order.
        for (earlier, delivery) in self.scratch.deliveries.drain(..).enumerate() {
            self.undelivered += 1;
            let place = (delivery.place + earlier).min(self.events.len());
            let event = Event::Messages(Messages {
                peer: delivery.peer,
                service: delivery.service,
                first: delivery.first,
                skip: delivery.skip,
                count: delivery.count,
                is_reply: delivery.is_reply,
                kind: delivery.kind,
                body: lease.view(delivery.body),
            });
            self.events.insert(place, event);
        }
        if let Some((range, shard)) = misrouted {
            let datagram = lease.view(range);
            self.events.push_back(Event::Misrouted { from, datagram, shard });
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
        datagram: &mut [u8],
        offset: usize,
    ) -> Result<(), DropReason> {
        let packet = self.reader.split(datagram)?;
        if packet.head.session == 0 {
            return self.handle_bootstrap(now, from, &packet, datagram);
        }
        let slot = *self.by_session.get(&packet.head.session).ok_or(DropReason::SessionUnknown)?;
        let live = self.lives.find_mut(slot).expect("the index names open sessions");
        let was_confirmed = live.session.is_confirmed();
        let number = live.session.open(now, datagram, &packet)?;
        self.counters.packets_received += 1;
        if !was_confirmed {
            self.confirm(now, slot)?;
        }
        let body = packet.body();
        let asks_now = match packet.head.packet {
            PacketKind::Message => self.handle_message(slot, &packet, &datagram[body], offset)?,
            PacketKind::Ack => {
                self.handle_control(now, slot, &packet, &datagram[body])?;
                // Not answered, but known: or each would seem a loss that asks for an answer.
                if let (Some(number), Some(live)) = (number, self.lives.find_mut(slot)) {
                    live.session.received.on_received(now, number, false, false);
                }
                return Ok(());
            }
            PacketKind::Probe => self.handle_control(now, slot, &packet, &datagram[body])?,
            PacketKind::Close => {
                return self.handle_close(now, slot, &packet, &datagram[body]);
            }
            _ => return Err(DropReason::Unsupported),
        };
        self.note_arrival(now, slot, number, asks_now);
        Ok(())
    }

    /// Records an ack-eliciting packet that was kept.
    fn note_arrival(&mut self, now: Instant, slot: u32, number: Option<u64>, asks_now: bool) {
        let Some(live) = self.lives.find_mut(slot) else { return };
        let arrival = live.arrivals;
        live.arrivals += 1;
        live.session.received.on_received(now, number.unwrap_or(arrival), true, asks_now);
        if !live.touched {
            live.touched = true;
            self.touched.push(slot);
        }
    }

    /// Judges a message packet. Returns whether the sender wants to hear soon.
    fn handle_message(
        &mut self,
        slot: u32,
        packet: &Packet,
        body: &[u8],
        offset: usize,
    ) -> Result<bool, DropReason> {
        let head = &packet.head;
        let row = features(head.service).ok_or(DropReason::Unsupported)?;
        if head.segment_count != 1 || head.flags.contains(Flags::MULTICAST) {
            return Err(DropReason::Unsupported);
        }
        let count = match head.body {
            BodyKind::Bundle => Bundle::parse(body)?.count(),
            BodyKind::Raw | BodyKind::Json => 1,
            BodyKind::None | BodyKind::Control => return Err(DropReason::KindMismatch),
        };
        let live = self.lives.find(slot).expect("the caller found it");
        let peer_slot = live.peer;
        let peer_id = self.peer_id(peer_slot);
        let peer = self.peers.find_mut(peer_slot).expect("a session has a peer");
        let association = peer.association.as_mut().expect("a confirmed session has one");
        let place = packet.body();
        let mut delivery = Delivery {
            peer: peer_id,
            service: head.service,
            first: head.transaction,
            skip: 0,
            count,
            is_reply: head.flags.contains(Flags::CORRESPONDER),
            kind: head.body,
            body: offset + place.start..offset + place.end,
            place: self.events.len(),
        };
        if delivery.is_reply {
            let end = head.transaction.checked_add(count.into());
            if !row.reply || end.is_none() {
                return Err(DropReason::TransactionViolation);
            }
            // Replies of one packet can have met different fates: deliver each run of new ones.
            let mut run = 0;
            for index in 0..count {
                if association.outbox.on_reply(head.transaction + u64::from(index)) {
                    run += 1;
                    continue;
                }
                self.counters.drops.count(DropReason::DuplicateTransaction);
                if run > 0 {
                    delivery.skip = index - run;
                    delivery.count = run;
                    self.scratch.deliveries.push(delivery.clone());
                    run = 0;
                }
            }
            if run > 0 {
                delivery.skip = count - run;
                delivery.count = run;
                self.scratch.deliveries.push(delivery);
            }
            self.collect_outcomes(peer_slot);
            return Ok(false);
        }
        match association.inbox.accept(row, head.transaction, count) {
            Acceptance::Deliver => self.scratch.deliveries.push(delivery),
            // Reported again: the acknowledgement may have been lost.
            Acceptance::Duplicate => self.counters.drops.count(DropReason::DuplicateTransaction),
            Acceptance::Violation => return Err(DropReason::TransactionViolation),
        }
        // A request is answered by its reply; everything else that waits, by an acknowledgement.
        Ok(row.ack && !row.reply && !head.flags.contains(Flags::BURST))
    }

    /// Moves what an outbox resolved to the events.
    pub(super) fn collect_outcomes(&mut self, slot: u32) {
        let id = self.peer_id(slot);
        let Some(peer) = self.peers.find_mut(slot) else { return };
        let Some(association) = peer.association.as_mut() else { return };
        while let Some(resolved) = association.outbox.poll_outcome() {
            self.events.push_back(Event::Outcomes { peer: id, resolved });
        }
    }
}
