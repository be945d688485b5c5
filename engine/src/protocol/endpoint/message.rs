//! Message packets on their way in: whole or a segment, in order or not, new or seen before.

use std::ops::Range;

use super::{Association, Body, Endpoint, Event, Messages, PeerId, Segment};
use crate::buffer::{Block, Lease};
use crate::limits::REFUSED_EXPIRED;
use crate::protocol::drop_reason::DropReason;
use crate::protocol::transaction::{
    Acceptance, AssemblyKey, Early, Features, Piece, Place, Progress, Retry, Stream, features_in,
};
use crate::protocol::wire::{BodyKind, Flags, Packet, ServiceKind, bundle};
use crate::time::{Duration, Instant};

/// What all messages of a packet have in common.
#[derive(Clone, Copy, Debug)]
struct Common {
    peer: PeerId,
    service: ServiceKind,
    row: Features,
    first: u64,
    order: u64,
    count: u32,
    is_reply: bool,
    kind: BodyKind,
}

impl Common {
    fn transactions(&self) -> Range<u64> {
        self.first..self.first.saturating_add(self.count.into())
    }

    fn messages(&self, skip: u32, count: u32, body: Body) -> Event {
        Event::Messages(Messages {
            peer: self.peer,
            service: self.service,
            first: self.first,
            skip,
            count,
            is_reply: self.is_reply,
            kind: self.kind,
            order: self.order,
            body,
        })
    }
}

/// Something to hand over from a train, before the event that holds its buffer is made.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    common: Common,
    what: What,
    /// Where its bytes lie in the train.
    body: Range<usize>,
    /// Events that come before it.
    pub(super) place: usize,
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// Messages, of which some are passed over.
    Messages { skip: u32, count: u32 },
    /// A piece of a message that is handed over piece by piece.
    Piece { total: usize, offset: usize },
}

impl Delivery {
    pub(super) fn peer(&self) -> PeerId {
        self.common.peer
    }

    pub(super) fn is_reply(&self) -> bool {
        self.common.is_reply
    }

    pub(super) fn into_event(self, train: &Lease) -> Event {
        let body = Body::Lease(train.view(self.body));
        match self.what {
            What::Messages { skip, count } => self.common.messages(skip, count, body),
            What::Piece { total, offset } => piece(&self.common, total, offset, body),
        }
    }
}

fn piece(common: &Common, total: usize, offset: usize, body: Body) -> Event {
    Event::Segment(Segment {
        peer: common.peer,
        service: common.service,
        transaction: common.first,
        is_reply: common.is_reply,
        total,
        offset,
        body,
    })
}

/// Where the bytes of messages are.
#[derive(Debug)]
enum Bytes {
    /// In the train at hand.
    Train(Range<usize>),
    /// In memory of their own.
    Block(Block),
}

impl Endpoint {
    /// Judges a message packet. Returns whether the sender wants to hear soon.
    pub(super) fn handle_message(
        &mut self,
        now: Instant,
        slot: u32,
        packet: &Packet,
        body: &[u8],
        offset: usize,
    ) -> Result<bool, DropReason> {
        let head = &packet.head;
        if head.flags.contains(Flags::MULTICAST) {
            return Err(DropReason::Unsupported);
        }
        if !matches!(head.body, BodyKind::Bundle | BodyKind::Raw | BodyKind::Json) {
            return Err(DropReason::KindMismatch);
        }
        let peer_slot = self.lives.find(slot).expect("the caller found it").peer;
        let is_reply = head.flags.contains(Flags::CORRESPONDER);
        if !is_reply && self.is_full_of_former(peer_slot) {
            return Err(DropReason::ApplicationMemory);
        }
        let row = features_in(head.service, Stream::of_order(head.order));
        let mut common = Common {
            peer: self.peer_id(peer_slot),
            service: head.service,
            row,
            first: head.transaction,
            order: head.order,
            count: 1,
            is_reply,
            kind: head.body,
        };
        if common.is_reply && !row.reply {
            return Err(DropReason::TransactionViolation);
        }
        let place = packet.body();
        let train = offset + place.start..offset + place.end;
        // A request is answered by its reply; everything else that waits, by an acknowledgement.
        let mut asks_now = row.asks_for_reports() && !head.flags.contains(Flags::BURST);
        if head.segment_count > 1 {
            let piece = Piece::read(body, head.segment, head.segment_count)?;
            let piece = piece.of_bundle(common.kind == BodyKind::Bundle);
            let prefix = piece.prefix_len(body);
            self.take_segment(now, peer_slot, common, &piece, train.start + prefix..train.end)?;
            let key = AssemblyKey { is_reply: common.is_reply, transaction: common.first };
            asks_now |= self.association(peer_slot).assemblies.is_grant_due(key);
        } else {
            common.count = message_count(common.kind, body)?;
            self.take(now, peer_slot, common, Bytes::Train(train), body)?;
        }
        Ok(asks_now)
    }

    /// Whether the application still keeps as many messages of a peer from before it restarted as
    /// its window has (PROTOCOL 6.3).
    fn is_full_of_former(&self, peer_slot: u32) -> bool {
        let held = self.peers.find(peer_slot).map_or(0, |peer| peer.held_before);
        held > 0 && held >= self.config.window().into()
    }

    fn association(&mut self, peer_slot: u32) -> &mut Association {
        let peer = self.peers.find_mut(peer_slot).expect("a session has a peer");
        peer.association.as_mut().expect("a confirmed session has one")
    }

    /// Takes whole messages.
    fn take(
        &mut self,
        now: Instant,
        peer_slot: u32,
        common: Common,
        bytes: Bytes,
        body: &[u8],
    ) -> Result<(), DropReason> {
        if common.is_reply {
            self.acknowledge_replied(now, peer_slot, common.transactions())?;
            return self.take_replies(peer_slot, common, bytes);
        }
        if common.row.order {
            return self.take_in_order(now, peer_slot, common, bytes, body);
        }
        let inbox = &mut self.association(peer_slot).inbox;
        match inbox.accept(common.row, common.first, common.count) {
            Acceptance::Deliver => self.deliver(&common, 0, common.count, bytes),
            // Reported again: the acknowledgement may have been lost.
            Acceptance::Duplicate => self.drop_packet(DropReason::DuplicateTransaction),
            Acceptance::Violation => return Err(DropReason::TransactionViolation),
        }
        Ok(())
    }

    /// Replies of one packet can have met different fates: each run of new ones is delivered.
    fn take_replies(
        &mut self,
        peer_slot: u32,
        common: Common,
        bytes: Bytes,
    ) -> Result<(), DropReason> {
        if common.first.checked_add(common.count.into()).is_none() {
            return Err(DropReason::TransactionViolation);
        }
        if common.count == 1 {
            if self.association(peer_slot).outbox.on_reply(common.first) {
                self.deliver(&common, 0, 1, bytes);
            } else {
                self.drop_packet(DropReason::DuplicateTransaction);
            }
            self.collect_outcomes(peer_slot);
            return Ok(());
        }
        let mut at = 0;
        match bytes {
            Bytes::Train(train) => {
                while let Some(run) = self.next_run(peer_slot, &common, &mut at) {
                    let train = Bytes::Train(train.clone());
                    self.deliver(&common, run.start, run.end - run.start, train);
                }
            }
            Bytes::Block(block) => {
                let (mut rest, mut passed) = (&block[..], 0);
                while let Some(run) = self.next_run(peer_slot, &common, &mut at) {
                    rest = bundle::split(rest, run.start - passed).1;
                    let (part, after) = bundle::split(rest, run.end - run.start);
                    (rest, passed) = (after, run.end);
                    self.deliver_part(&common, &run, part);
                }
            }
        }
        self.collect_outcomes(peer_slot);
        Ok(())
    }

    /// The next run of replies of a packet that are new, from `at` on, which moves behind it.
    fn next_run(&mut self, peer_slot: u32, common: &Common, at: &mut u32) -> Option<Range<u32>> {
        while *at < common.count {
            let start = *at;
            let rest = common.first + u64::from(start)..common.transactions().end;
            let new = self.association(peer_slot).outbox.on_replies(rest);
            if new > 0 {
                *at += u32::try_from(new).expect("no more than the packet has");
                return Some(start..*at);
            }
            self.drop_packet(DropReason::DuplicateTransaction);
            *at += 1;
        }
        None
    }

    /// Hands over a part of a bundle that came in segments, in memory of its own.
    fn deliver_part(&mut self, common: &Common, run: &Range<u32>, part: &[u8]) {
        let mut copy = self.blocks.take(part.len());
        copy.copy_from_slice(part);
        let first = common.first + u64::from(run.start);
        self.deliver(&Common { first, ..*common }, 0, run.end - run.start, Bytes::Block(copy));
    }

    /// Takes messages of an ordered stream: they are handed over when their turn has come.
    fn take_in_order(
        &mut self,
        now: Instant,
        peer_slot: u32,
        common: Common,
        bytes: Bytes,
        body: &[u8],
    ) -> Result<(), DropReason> {
        // Room for what comes from memory of its own was made sure of with its last segment.
        let place = self.association(peer_slot).escrow.judge(common.order, body.len());
        if place == Place::TooFar {
            return Err(DropReason::OrderPassed);
        }
        // Memory first: what was accepted is not sent again.
        let mut kept = None;
        if place == Place::Early && matches!(bytes, Bytes::Train(_)) {
            kept = self.blocks.try_take(body.len());
            if kept.is_none() {
                return self.drop_for_memory(&common);
            }
        }
        let association = self.association(peer_slot);
        match association.inbox.accept(common.row, common.first, common.count) {
            Acceptance::Deliver if common.row.retry == Retry::Requested => {
                let end = common.transactions().end;
                association.peer_issued = association.peer_issued.max(end);
            }
            Acceptance::Deliver => {}
            Acceptance::Duplicate => {
                self.drop_packet(DropReason::DuplicateTransaction);
                return Ok(());
            }
            Acceptance::Violation => return Err(DropReason::TransactionViolation),
        }
        match place {
            Place::Turn => {
                association.escrow.pass(now, common.order, common.count);
                self.deliver(&common, 0, common.count, bytes);
                self.release_early(now, peer_slot, common.service, Stream::of_order(common.order));
            }
            Place::Early => {
                association.inbox.defer(common.transactions());
                let body = match bytes {
                    Bytes::Block(block) => block,
                    Bytes::Train(_) => {
                        let mut block = kept.expect("taken above");
                        block.copy_from_slice(body);
                        block
                    }
                };
                let (transaction, count, kind) = (common.first, common.count, common.kind);
                let early = Early { transaction, count, kind, body };
                let round_trip = self.round_trip(peer_slot);
                let escrow = &mut self.association(peer_slot).escrow;
                escrow.on_round_trip(round_trip);
                escrow.keep(now, common.order, early);
                self.mark_ready(peer_slot); // Its timer may have to be set.
            }
            Place::Passed | Place::TooFar => {
                for transaction in common.transactions() {
                    association.inbox.refuse(transaction, REFUSED_EXPIRED);
                }
                self.drop_packet(DropReason::OrderPassed);
            }
        }
        Ok(())
    }

    /// Hands over what waited in a stream and whose turn has come.
    pub(super) fn release_early(
        &mut self,
        now: Instant,
        peer_slot: u32,
        service: ServiceKind,
        stream: Stream,
    ) {
        let peer = self.peer_id(peer_slot);
        loop {
            let association = self.association(peer_slot);
            let Some((order, early)) = association.escrow.next_early(now, stream) else { return };
            let common = Common {
                peer,
                service,
                row: features_in(service, stream),
                first: early.transaction,
                order,
                count: early.count,
                is_reply: false,
                kind: early.kind,
            };
            for transaction in common.transactions() {
                self.association(peer_slot).inbox.commit(transaction);
            }
            self.deliver(&common, 0, early.count, Bytes::Block(early.body));
        }
    }

    fn round_trip(&self, peer_slot: u32) -> Duration {
        let current = self.peers.find(peer_slot).and_then(|peer| peer.current);
        let live = current.and_then(|live| self.lives.find(live));
        live.map_or(Duration::ZERO, |live| live.session.recovery.rtt().smoothed())
    }

    /// There is no memory for what came.
    fn drop_for_memory(&mut self, common: &Common) -> Result<(), DropReason> {
        if common.is_reply || common.row.ack {
            return Err(DropReason::SegmentMemory);
        }
        // Nobody sends it again: that there is no room says nothing of the path.
        self.drop_packet(DropReason::SegmentMemory);
        Ok(())
    }

    /// Takes a segment of a message, or of a bundle that was cut.
    fn take_segment(
        &mut self,
        now: Instant,
        peer_slot: u32,
        common: Common,
        segment: &Piece<'_>,
        train: Range<usize>,
    ) -> Result<(), DropReason> {
        let blocks = self.blocks.clone();
        let association = self.association(peer_slot);
        let key = AssemblyKey { is_reply: common.is_reply, transaction: common.first };
        let is_old = if common.is_reply {
            !association.outbox.awaits_replies(segment.transactions(common.first))
        } else if common.first >= association.inbox.credit() {
            return Err(DropReason::TransactionViolation);
        } else {
            association.inbox.has_seen(common.first)
        };
        if is_old {
            if common.is_reply {
                association.outbox.on_reply(common.first);
            }
            self.drop_packet(DropReason::DuplicateTransaction);
            return Ok(());
        }
        // With its last segment it may have to wait, and then the escrow has room for the whole.
        if common.row.order
            && association.escrow.judge(common.order, segment.total()) == Place::TooFar
        {
            return Err(DropReason::OrderPassed);
        }
        let was_handed_over = association.assemblies.forget_former(key, segment);
        if was_handed_over {
            self.events.push_back(abandoned(common.peer, key));
        }
        let association = self.association(peer_slot);
        let progress = match association.assemblies.accept(now, key, common.row, segment, &blocks) {
            // Nobody sends it again: that there is no room says nothing of the path.
            Err(DropReason::SegmentMemory) => return self.drop_for_memory(&common),
            progress => progress?,
        };
        match progress {
            Progress::Complete(block) => {
                let count = message_count(common.kind, &block)?;
                let body = Bytes::Block(block);
                self.take(now, peer_slot, Common { count, ..common }, body, &[])?;
            }
            Progress::Duplicate => self.drop_packet(DropReason::DuplicateTransaction),
            Progress::Kept => self.mark_ready(peer_slot), // Its timer may have to be set.
            Progress::Turn { mut is_last } => {
                let (total, offset) = (segment.total(), segment.offset());
                let place = self.events.len();
                let what = What::Piece { total, offset };
                self.scratch.deliveries.push(Delivery { common, what, body: train, place });
                let association = self.association(peer_slot);
                let mut early = Vec::new();
                while let Some((offset, block, ends)) = association.assemblies.next_early(key) {
                    early.push((offset, block));
                    is_last |= ends;
                }
                for (offset, block) in early {
                    self.undelivered += 1;
                    self.events.push_back(piece(&common, total, offset, Body::Block(block)));
                }
                if is_last {
                    self.end_pieces(peer_slot, &common);
                }
            }
        }
        Ok(())
    }

    /// The last piece of a message was handed over: its transaction was received.
    fn end_pieces(&mut self, peer_slot: u32, common: &Common) {
        let association = self.association(peer_slot);
        if common.is_reply {
            association.outbox.on_reply(common.first);
            self.collect_outcomes(peer_slot);
        } else {
            association.inbox.accept(common.row, common.first, 1);
        }
    }

    /// Has messages handed over, in the order in which this is called.
    fn deliver(&mut self, common: &Common, skip: u32, count: u32, bytes: Bytes) {
        match bytes {
            Bytes::Train(body) => {
                let (what, place) = (What::Messages { skip, count }, self.events.len());
                self.scratch.deliveries.push(Delivery { common: *common, what, body, place });
            }
            Bytes::Block(block) => {
                self.undelivered += 1;
                self.events.push_back(common.messages(skip, count, Body::Block(block)));
            }
        }
    }

    /// Gives up what is missing for too long, in lossy streams and in messages that are not sent
    /// again for ever.
    pub(super) fn expire_arrivals(&mut self, now: Instant, peer_slot: u32) {
        let peer = self.peer_id(peer_slot);
        let Some(known) = self.peers.find_mut(peer_slot) else { return };
        let Some(association) = known.association.as_mut() else { return };
        while let Some(key) = association.assemblies.sweep(now) {
            self.events.push_back(abandoned(peer, key));
        }
        while let Some((stream, missing)) = self.association(peer_slot).escrow.poll_gap(now) {
            self.events.push_back(Event::Gap { peer, stream, missing });
            self.release_early(now, peer_slot, ServiceKind::Sequence, stream);
            self.ask_for_report(peer_slot); // No arrival will have it told.
        }
    }
}

/// Tells that a message of which pieces were handed over stays incomplete.
pub(super) fn abandoned(peer: PeerId, key: AssemblyKey) -> Event {
    Event::Abandoned { peer, transaction: key.transaction, is_reply: key.is_reply }
}

/// How many messages a whole body has.
fn message_count(kind: BodyKind, body: &[u8]) -> Result<u32, DropReason> {
    match kind {
        BodyKind::Bundle => bundle::count(body),
        _ => Ok(1),
    }
}
