//! How sessions begin: the four packets on session id zero, and what follows from each outcome.

use std::net::SocketAddr;

use super::{CloseReason, ConnectError, Endpoint, Event, Live, Peer, PeerId, SessionChange};
use crate::buffer::{Ecn, Transmit};
use crate::limits::{ASK_AGAIN_MIN, PENDING_PEERS_MAX};
use crate::protocol::drop_reason::DropReason;
use crate::protocol::session::{
    Established, HandshakeError, Initiator, Notice, Progress, PublicKey, Role, Session, Standing,
    survives,
};
use crate::protocol::wire::{Packet, PacketKind};
use crate::time::Instant;

impl Endpoint {
    /// Opens a session with the node at `address` that holds `key`. What became of it is told
    /// by events; the name is valid at once.
    ///
    /// # Errors
    /// [`ConnectError`]; nothing was sent.
    pub fn connect(
        &mut self,
        now: Instant,
        address: SocketAddr,
        key: PublicKey,
    ) -> Result<PeerId, ConnectError> {
        if key == self.config.identity.public() {
            return Err(ConnectError::OurselvesAsPeer);
        }
        if !self.takes_sessions {
            return Err(ConnectError::Closing);
        }
        if self.config.listen && self.config.shard.1 > 1 {
            return Err(ConnectError::PortShared);
        }
        let slot = match self.by_key.get(&key) {
            Some(&slot) => slot,
            None => self.add_peer(now, key, address).ok_or(ConnectError::TooManyPeers)?,
        };
        let peer = self.peers.find_mut(slot).expect("found or made above");
        peer.redials = true;
        if self.asking.remove(&(peer.address, slot)) {
            self.asking.insert((address, slot));
        }
        peer.address = address;
        if peer.current.is_none() && peer.handshake.is_none() {
            self.start_handshake(now, slot);
        }
        Ok(self.peer_id(slot))
    }

    /// Closes the session with a peer. Transactions still outstanding end as indeterminate.
    pub fn close(&mut self, now: Instant, id: PeerId) {
        let Some(peer) = self.find_peer(id) else { return };
        let (current, is_lost) = (peer.current, peer.lost_until.is_some());
        self.stop_asking(id.slot);
        if let Some(live) = current {
            return self.close_session(now, live, CloseReason::ByUs);
        }
        self.abandon_handshake(id.slot);
        self.forget_lives(id.slot, |_| true); // Those that are not confirmed.
        if is_lost {
            self.end_association(id.slot, SessionChange::Closed(CloseReason::ByUs));
        }
        self.release_peer_if_idle(now, id.slot);
    }

    /// Takes an operator's decision: the key is accepted from now on, and a peer that waits for
    /// it is told.
    pub fn accept_key(&mut self, key: PublicKey) {
        self.trust.accept(&key);
        let Some(to) = self.waiting.remove(&key) else { return };
        let Some(mut lease) = self.control_pool.take() else { return };
        let buffer = lease.get_mut().expect("a buffer just taken has one holder");
        self.notices += 1;
        let notice = Notice { boot: self.config.boot, counter: self.notices };
        let transaction = self.random.u64();
        let own = &self.config.identity;
        let len = notice.seal(own, &key, transaction, &mut self.random, buffer);
        self.outgoing.push_back(Transmit::single(to, Ecn::NotEct, lease.narrow(0..len)));
    }

    /// A packet on session id zero.
    pub(super) fn handle_bootstrap(
        &mut self,
        now: Instant,
        from: SocketAddr,
        packet: &Packet,
        datagram: &[u8],
    ) -> Result<(), DropReason> {
        match packet.head.packet {
            PacketKind::Hello => {
                let lease = self.stranger_lease();
                let responder = self.responder.as_mut().ok_or(DropReason::HandshakeUnexpected)?;
                let mut lease = lease.ok_or(DropReason::OverBudget)?;
                let buffer = lease.get_mut().expect("a buffer just taken has one holder");
                let len = responder.handle_hello(now, from, packet, datagram, buffer)?;
                let reply = lease.narrow(0..len);
                self.outgoing.push_back(Transmit::single(from, Ecn::NotEct, reply));
                Ok(())
            }
            PacketKind::Initiate => self.handle_initiate(now, from, packet, datagram),
            PacketKind::Cookie | PacketKind::Accept => self.handle_answer(now, packet, datagram),
            PacketKind::Notice => self.handle_notice(now, from, packet, datagram),
            _ => Err(DropReason::HandshakeUnexpected),
        }
    }

    fn handle_initiate(
        &mut self,
        now: Instant,
        from: SocketAddr,
        packet: &Packet,
        datagram: &[u8],
    ) -> Result<(), DropReason> {
        let lease = self.stranger_lease();
        let responder = self.responder.as_mut().ok_or(DropReason::HandshakeUnexpected)?;
        let mut lease = lease.ok_or(DropReason::OverBudget)?;
        let buffer = lease.get_mut().expect("a buffer just taken has one holder");
        let (shard, shards) = self.config.shard;
        let by_session = &self.by_session;
        // Ids name their shard, so that any shard can tell whose a stray packet is.
        let is_taken = |id: u64| id % shards as u64 != shard as u64 || by_session.contains_key(&id);
        let known = |key: &PublicKey| self.peers.find(*self.by_key.get(key)?);
        let next = self.next_association;
        let association_of = |key: &PublicKey| known(key).map_or(next, |p| p.association_number);
        let initiated = responder.handle_initiate(
            now,
            from,
            packet,
            datagram,
            &mut self.trust,
            &is_taken,
            &association_of,
            &mut self.random,
            buffer,
        )?;
        if let Some(established) = initiated.established {
            let slot = match self.by_key.get(&established.peer) {
                Some(&slot) => slot,
                None => self.add_peer(now, established.peer, from).ok_or(DropReason::OverBudget)?,
            };
            self.add_live(now, slot, from, &established);
        }
        if let Some(key) = initiated.pending {
            self.keep_waiting(key, from);
        }
        if initiated.reply_len > 0 {
            let reply = lease.narrow(0..initiated.reply_len);
            self.outgoing.push_back(Transmit::single(from, Ecn::NotEct, reply));
        }
        Ok(())
    }

    /// Remembers where a key that waits for an operator was seen.
    fn keep_waiting(&mut self, key: PublicKey, from: SocketAddr) {
        if self.waiting.len() >= PENDING_PEERS_MAX {
            // Who gave way to others among those that wait gives way here, too.
            let trust = &self.trust;
            let still_waits = |key: &PublicKey| {
                trust.record(key).is_some_and(|record| record.standing == Standing::Pending)
            };
            self.waiting.retain(|key, _| still_waits(key));
        }
        if self.waiting.len() < PENDING_PEERS_MAX {
            self.waiting.insert(key, from);
        }
    }

    fn handle_answer(
        &mut self,
        now: Instant,
        packet: &Packet,
        datagram: &[u8],
    ) -> Result<(), DropReason> {
        let transaction = packet.head.transaction;
        let slot = *self.by_handshake.get(&transaction).ok_or(DropReason::HandshakeUnexpected)?;
        let peer = self.peers.find_mut(slot).expect("the index names peers");
        let handshake = peer.handshake.as_mut().expect("the index names handshakes");
        let progress = handshake.handle(now, packet, datagram, &mut self.random)?;
        match progress {
            Progress::Waiting => {}
            Progress::Established(established) => {
                if self.by_session.contains_key(&established.session) {
                    return Err(DropReason::HandshakeInvalid);
                }
                // To where we asked: who copies an Accept can send it on from anywhere.
                let address = peer.address;
                self.abandon_handshake(slot);
                let live = self.add_live(now, slot, address, &established);
                self.make_current(now, live);
                self.ask_for_report(slot); // Our first protected packet confirms the session.
            }
            Progress::Pending { retry_after } => {
                self.abandon_handshake(slot);
                self.ask_later(slot, now + retry_after.max(ASK_AGAIN_MIN));
                self.tell_failure(slot, SessionChange::Pending { retry_after });
            }
            Progress::Refused(refusal) => {
                self.abandon_handshake(slot);
                let refused = SessionChange::Refused(refusal);
                if self.peers.find(slot).is_some_and(|peer| peer.lost_until.is_some()) {
                    self.end_association(slot, refused);
                } else {
                    self.tell_failure(slot, refused);
                }
                self.release_peer_if_idle(now, slot);
            }
        }
        self.mark_ready(slot);
        Ok(())
    }

    /// The peer that answered "pending" says that something changed: ask again now.
    fn handle_notice(
        &mut self,
        now: Instant,
        from: SocketAddr,
        packet: &Packet,
        datagram: &[u8],
    ) -> Result<(), DropReason> {
        let mut found = Err(DropReason::HandshakeUnexpected);
        for &(_, slot) in self.asking.range((from, 0)..=(from, u32::MAX)) {
            let peer = self.peers.find(slot).expect("the index names peers");
            let opened = Notice::open(&self.config.identity, &peer.key, packet, datagram);
            found = opened.map(|_| (slot, peer));
            if found.is_ok() {
                break;
            }
        }
        let (slot, peer) = found?;
        // Replayed or not, it costs one handshake, and no more than one in a while.
        let soonest = peer.asked_at + ASK_AGAIN_MIN;
        if soonest > now {
            self.peers.find_mut(slot).expect("found above").ask_again = Some(soonest);
            self.rearm(now, slot);
            return Ok(());
        }
        self.start_handshake(now, slot);
        Ok(())
    }

    pub(super) fn poll_handshake(&mut self, now: Instant, slot: u32) -> Option<Transmit> {
        let peer = self.peers.find_mut(slot)?;
        peer.handshake.as_ref()?;
        let mut lease = self.control_pool.take()?;
        let to = peer.address;
        let buffer = lease.get_mut().expect("a buffer just taken has one holder");
        let len = peer.handshake.as_mut()?.poll_transmit(now, buffer)?;
        Some(Transmit::single(to, Ecn::NotEct, lease.narrow(0..len)))
    }

    pub(super) fn handle_peer_timeout(&mut self, now: Instant, slot: u32) {
        self.expire_arrivals(now, slot);
        self.expire_sends(now, slot);
        self.ask_if_stuck(now, slot);
        let Some(peer) = self.peers.find_mut(slot) else { return };
        if peer.lost_until.is_some_and(|at| at <= now) {
            return self.end_lost_association(now, slot);
        }
        if peer.ask_again.is_some_and(|at| at <= now) && peer.handshake.is_none() {
            self.start_handshake(now, slot);
            return;
        }
        let failed = peer
            .handshake
            .as_mut()
            .and_then(|handshake| handshake.handle_timeout(now, &mut self.random));
        if let Some(HandshakeError::TimedOut(heard)) = failed {
            self.abandon_handshake(slot);
            if self.peers.find(slot).is_some_and(|peer| peer.lost_until.is_some()) {
                self.ask_later(slot, now + ASK_AGAIN_MIN);
            } else {
                self.tell_failure(slot, SessionChange::TimedOut(heard));
            }
        }
        self.mark_ready(slot);
        self.release_peer_if_idle(now, slot);
    }

    /// A session's first packet opened: it may carry messages from now on.
    pub(super) fn confirm(&mut self, now: Instant, slot: u32) -> Result<(), DropReason> {
        let live = self.lives.find_mut(slot).expect("the caller found it");
        live.session.recovery.on_handshake(now.saturating_since(live.begun_at));
        let key = self.peers.find(live.peer).expect("a session has a peer").key;
        // Between Initiate and now the operator or another key of that name may have come first.
        if self.trust.confirm(&key, &live.peer_name, &live.peer_role) != Standing::Accepted {
            let peer = live.peer;
            self.forget_live(slot);
            self.release_peer_if_idle(now, peer);
            return Err(DropReason::HandshakeInvalid);
        }
        self.make_current(now, slot);
        Ok(())
    }

    /// Makes a confirmed session the one that carries its peer's messages, and moves what the
    /// former one left unfinished onto it.
    fn make_current(&mut self, now: Instant, slot: u32) {
        let live = self.lives.find_mut(slot).expect("the caller found it");
        let (peer_slot, boot, role) = (live.peer, live.peer_boot, live.session.role());
        let peer = self.peers.find_mut(peer_slot).expect("a session has a peer");
        let change = SessionChange::Opened {
            key: peer.key,
            address: live.session.address(),
            mode: live.session.mode(),
            suite: live.session.suite(),
        };
        if peer.ask_again.take().is_some() {
            self.asking.remove(&(peer.address, peer_slot));
        }
        let restarted = peer.association.as_ref().is_some_and(|known| known.boot != boot);
        let former = peer.current.replace(slot);
        peer.lost_until = None;
        if let Some(former) = former {
            let former_role = self.lives.find(former).map(|live| live.session.role());
            // Both sides opened at once: the session of the smaller key carries the messages.
            let own_is_smaller = survives(&self.config.identity.public(), &peer.key);
            let keeps_former = !restarted
                && former_role.is_some_and(|former_role| former_role != role)
                && (role == Role::Initiator) != own_is_smaller;
            if keeps_former {
                self.peers.find_mut(peer_slot).expect("found above").current = Some(former);
                return self.forget_spare(peer_slot, [slot, former]);
            }
            self.requeue_all(peer_slot);
        }
        if restarted {
            self.forget_deliveries(peer_slot);
            let restarted = SessionChange::Closed(CloseReason::PeerRestarted);
            self.abandon_association(peer_slot, restarted);
        }
        if self.peers.find(peer_slot).is_some_and(|peer| peer.association.is_none()) {
            self.begin_association(peer_slot, slot);
            if self.peers.find(peer_slot).is_some_and(|peer| peer.lives > 1) {
                self.forget_lives(peer_slot, |live| live.peer_boot != boot);
            }
        }
        if let Some(former) = former {
            // What it carried goes again; nobody waits for it any more.
            self.forget_live(former);
        }
        self.counters.sessions_opened += 1;
        self.tell(peer_slot, change);
        self.abandon_handshake(peer_slot);
        self.mark_ready(peer_slot);
        self.rearm(now, peer_slot);
    }

    /// Forgets the confirmed sessions with a peer but two: who opens one after the other that
    /// does not become the one that carries messages has no more of them.
    fn forget_spare(&mut self, peer_slot: u32, kept: [u32; 2]) {
        let kept = kept.map(|slot| self.lives.find(slot).map(|live| live.session.id()));
        self.forget_lives(peer_slot, |live| {
            live.session.is_confirmed() && !kept.contains(&Some(live.session.id()))
        });
    }

    fn add_peer(&mut self, now: Instant, key: PublicKey, address: SocketAddr) -> Option<u32> {
        if self.peers.len() >= self.config.peers_max {
            self.end_idlest_association(now);
        }
        if self.peers.len() >= self.config.peers_max {
            return None;
        }
        let (slot, generation) = self.peers.insert(Peer {
            generation: 0,
            first_generation: 0,
            key,
            address,
            handshake: None,
            ask_again: None,
            asked_at: Instant::ZERO,
            association: None,
            association_number: self.next_association,
            current: None,
            lives: 0,
            held_before: 0,
            is_ready: false,
            drain_until: None,
            lost_until: None,
            redials: false,
        });
        self.next_association += 1;
        let peer = self.peers.find_mut(slot).expect("just inserted");
        (peer.first_generation, peer.generation) = (generation, generation);
        self.by_key.insert(key, slot);
        Some(slot)
    }

    fn add_live(
        &mut self,
        now: Instant,
        peer: u32,
        address: SocketAddr,
        established: &Established,
    ) -> u32 {
        let parameters = established.peer_parameters;
        let config = self.config.session(&parameters, established.mode);
        let seed = self.random.u64();
        let session = Session::new(now, established, address, config, seed);
        let expiry = session.expiry();
        let (slot, _) = self.lives.insert(Live {
            session,
            peer,
            peer_boot: established.peer_boot,
            peer_parameters: parameters,
            peer_name: established.peer_name.clone(),
            peer_role: established.peer_role.clone(),
            begun_at: now,
            // A responder is told by the first packets.
            peer_token: (established.role == Role::Initiator).then_some(established.reset_token),
            touched: false,
            is_ack_due: false,
            probes: 0,
            ping_due: false,
            last_ping: None,
            arrivals: 0,
        });
        self.by_session.insert(established.session, slot);
        self.timers.set(slot * 2 + 1, Some(expiry));
        self.peers.find_mut(peer).expect("the caller found it").lives += 1;
        slot
    }

    /// Removes a session without a word to anyone.
    pub(super) fn forget_live(&mut self, slot: u32) -> Option<Live> {
        let live = self.lives.remove(slot)?;
        self.by_session.remove(&live.session.id());
        self.timers.set(slot * 2 + 1, None);
        // It may still stand in `touched` and `acks_due`: whoever reads them looks again.
        if let Some(peer) = self.peers.find_mut(live.peer) {
            peer.lives -= 1;
        }
        Some(live)
    }

    /// Has a peer that gave no session asked again.
    fn ask_later(&mut self, slot: u32, at: Instant) {
        let peer = self.peers.find_mut(slot).expect("the caller found it");
        peer.ask_again = Some(at);
        self.asking.insert((peer.address, slot));
    }

    /// Gives up asking a peer again.
    pub(super) fn stop_asking(&mut self, slot: u32) {
        let peer = self.peers.find_mut(slot).expect("the caller found it");
        if peer.ask_again.take().is_some() {
            self.asking.remove(&(peer.address, slot));
        }
    }

    pub(super) fn start_handshake(&mut self, now: Instant, slot: u32) {
        self.stop_asking(slot);
        let peer = self.peers.find_mut(slot).expect("the caller found it");
        peer.asked_at = now;
        let config = self.config.initiator(peer.key, peer.association_number);
        let initiator = Box::new(Initiator::start(now, config, &mut self.random));
        self.by_handshake.insert(initiator.transaction(), slot);
        peer.handshake = Some(initiator);
        self.mark_ready(slot);
    }

    /// Replaces a session whose keys have served long enough: a new handshake runs beside it.
    pub(super) fn renew(&mut self, now: Instant, live: u32) {
        let Some(live) = self.lives.find(live) else { return };
        let slot = live.peer;
        let is_initiator = live.session.role() == Role::Initiator;
        let peer = self.peers.find(slot).expect("a session has a peer");
        // One attempt at a time, and not the next as soon as one has failed.
        if is_initiator && peer.handshake.is_none() && peer.asked_at + ASK_AGAIN_MIN <= now {
            self.start_handshake(now, slot);
        }
    }

    pub(super) fn abandon_handshake(&mut self, slot: u32) {
        let Some(peer) = self.peers.find_mut(slot) else { return };
        if let Some(handshake) = peer.handshake.take() {
            self.by_handshake.remove(&handshake.transaction());
        }
    }

    /// Frees the slot of a peer that nothing refers to any more.
    pub(super) fn release_peer_if_idle(&mut self, now: Instant, slot: u32) {
        // The application may keep what it is about to be handed.
        if !self.is_over(slot) || self.is_awaited(slot) {
            return self.rearm(now, slot);
        }
        let Some(peer) = self.peers.remove(slot) else { return };
        self.by_key.remove(&peer.key);
        self.timers.set(slot * 2, None);
    }

    /// Whether nothing refers to a peer any more, but what waits to be handed over. A node that
    /// drains does not wait for what its application keeps.
    pub(super) fn is_over(&self, slot: u32) -> bool {
        self.peers.find(slot).is_some_and(|peer| {
            let is_asked = peer.handshake.is_some() || peer.ask_again.is_some();
            let is_kept = peer.held_before > 0 && self.takes_sessions;
            peer.lives == 0 && peer.association.is_none() && !is_asked && !is_kept
        })
    }

    /// Whether messages of a peer wait to be handed over.
    pub(super) fn is_awaited(&self, slot: u32) -> bool {
        let is_message = |event: &Event| match event {
            Event::Messages(messages) => messages.peer.slot == slot,
            Event::Segment(segment) => segment.peer.slot == slot,
            _ => false,
        };
        let is_any = self.undelivered > 0 || !self.scratch.deliveries.is_empty();
        is_any && self.events.iter().any(is_message)
            || self.scratch.deliveries.iter().any(|known| known.peer().slot == slot)
    }

    /// Tells that a handshake came to nothing, unless it was to renew a session that goes on.
    fn tell_failure(&mut self, slot: u32, change: SessionChange) {
        if self.peers.find(slot).is_some_and(|peer| peer.current.is_none()) {
            self.tell(slot, change);
        }
    }

    pub(super) fn tell(&mut self, slot: u32, change: SessionChange) {
        let peer = self.peer_id(slot);
        self.events.push_back(Event::Session { peer, change });
    }
}
