//! What two processes know of each other: how it begins, goes on in another session, and ends.

use super::{CloseReason, Content, Endpoint, Event, Live, Peer, SessionChange};
use crate::limits::{DATAGRAM_LEN_BASE, TRANSACTION_RANGES_MAX};
use crate::protocol::session::{BootId, Session};
use crate::protocol::transaction::{Assemblies, AssemblyKey, Escrow, Inbox, Outbox};
use crate::time::{Duration, Instant, earliest};

/// Transaction state shared with one incarnation of a peer; passed on from session to session.
///
/// Both sides must agree on which association a session continues, or one would take the other's
/// new numbers for old ones. So each tells its half's id in the handshake, and takes a new one
/// when it forgets the association: a session continues what both remember (PROTOCOL 6.13).
#[derive(Debug)]
pub(super) struct Association {
    pub(super) boot: BootId,
    pub(super) outbox: Outbox,
    pub(super) inbox: Inbox,
    /// Messages of the peer, and replies, of which segments are missing.
    pub(super) assemblies: Assemblies,
    /// Ordered streams of the peer.
    pub(super) escrow: Escrow,
    /// One past the highest transaction that the peer is known to have used, by its word or by a
    /// message that is sent again on request.
    pub(super) peer_issued: u64,
    /// What we granted the peer, in bytes unresolved at once.
    pub(super) receive_bytes: u64,
    pub(super) low_water_told: u64,
    pub(super) credit_told: u64,
    /// When the peer was last asked for credit because there was none left.
    pub(super) starved_at: Instant,
    /// Full reports, one after the other, that told nothing new.
    pub(super) barren_reports: u64,
    /// Where reports go on that did not fit the last acknowledgement.
    pub(super) resume: Resume,
    /// Body bytes of a packet in any session that may come, while there is none.
    pub(super) room: usize,
}

impl Association {
    /// When arrivals that miss something must be looked at.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        earliest([self.assemblies.next_timeout(), self.escrow.next_timeout()])
    }

    /// When to ask the peer for its word, because nothing else brings progress: some message waits
    /// for a grant, a request or a report, and nothing is on its way.
    pub(super) fn asks_at(&self, session: &Session<Content>) -> Option<Instant> {
        let waits = (self.outbox.depends_on_peer() || self.outbox.awaits_report())
            && !self.outbox.has_backlog()
            && session.recovery.in_flight_bytes() == 0;
        waits.then(|| self.starved_at + session.recovery.probe_timeout())
    }

    /// Whether to ask for another report at once, after one with lists as long as they may be if
    /// it `is_full`: the next one may tell of messages that were heard of and not reported on,
    /// because it goes on where this one ended or because our mark shortens it. So may it of a
    /// message that has no outcome although it was reported on, a request or one that waits for
    /// its place in a stream, and unless something `is_in_flight`, whose acknowledgement is the next
    /// report, nothing else brings that. When a whole round of lists told nothing new, the rest is
    /// time (PROTOCOL 6.6).
    pub(super) fn is_worth_asking(&mut self, is_full: bool, is_in_flight: bool) -> bool {
        let round = self.outbox.outstanding() / TRANSACTION_RANGES_MAX as u64 + 1;
        let is_barren = is_full && !self.outbox.has_outcome();
        self.barren_reports = if is_barren { self.barren_reports + 1 } else { 0 };
        let goes_on = is_full && self.barren_reports <= round;
        let is_news = goes_on || self.outbox.low_water() > self.low_water_told;
        let is_last = goes_on && !is_in_flight && self.outbox.outstanding() > 0;
        self.outbox.awaits_report() && is_news || is_last
    }
}

/// Transactions from which on the next acknowledgement lists more than the lowest range.
#[derive(Debug, Default)]
pub(super) struct Resume {
    pub(super) accepted: u64,
    pub(super) done: u64,
    pub(super) refused: u64,
    pub(super) settled: u64,
    /// The message in segments whose turn it is.
    pub(super) missing: AssemblyKey,
    /// And the one of which nothing came.
    pub(super) unseen: u64,
}

impl Endpoint {
    pub(super) fn begin_association(&mut self, peer_slot: u32, live_slot: u32) {
        let live = self.lives.find(live_slot).expect("the caller found it");
        let (boot, parameters) = (live.peer_boot, live.peer_parameters);
        let config = self.config.outbox(&parameters);
        let association = Association {
            boot,
            outbox: Outbox::new(config, parameters.transactions.into(), parameters.receive_bytes),
            inbox: Inbox::new(self.config.window()),
            assemblies: Assemblies::new(self.config.receive_bytes, self.config.whole_len_max),
            escrow: Escrow::new(self.config.receive_bytes),
            peer_issued: 0,
            receive_bytes: self.config.receive_bytes,
            low_water_told: 0,
            credit_told: 0,
            starved_at: Instant::ZERO,
            barren_reports: 0,
            resume: Resume::default(),
            room: live.session.body_room_in(DATAGRAM_LEN_BASE),
        };
        self.peers.find_mut(peer_slot).expect("a session has a peer").association =
            Some(association);
    }

    /// Has every unit that is in flight leave again: the session that carried it is over.
    pub(super) fn requeue_all(&mut self, peer_slot: u32) {
        let Some(peer) = self.peers.find_mut(peer_slot) else { return };
        let Some(association) = peer.association.as_mut() else { return };
        let outbox = &mut association.outbox;
        for id in outbox.unit_ids() {
            if let Some(unit) = outbox.unit(id) {
                unit.forget_packet();
                outbox.on_session_lost(id);
            }
        }
    }

    /// Ends the association with a peer, and with it every session and handshake that was told
    /// to continue it. `change` tells why.
    pub(super) fn end_association(&mut self, peer_slot: u32, change: SessionChange) {
        self.abandon_association(peer_slot, change);
        self.abandon_handshake(peer_slot);
        self.forget_lives(peer_slot, |_| true);
        let peer = self.peers.find_mut(peer_slot).expect("a session has a peer");
        peer.drain_until = None;
        peer.lost_until = None;
        peer.redials = false;
        peer.association_number = self.next_association;
        self.next_association += 1;
    }

    /// Ends what was under way with a peer, tells so, and gives the peer another name: what the
    /// application still does under the old one would meet other transactions of the same numbers.
    pub(super) fn abandon_association(&mut self, peer_slot: u32, change: SessionChange) {
        let peer = self.peers.find_mut(peer_slot).expect("a session has a peer");
        if let Some(association) = peer.association.as_mut() {
            association.outbox.abandon();
        }
        self.collect_outcomes(peer_slot);
        self.tell(peer_slot, change);
        let generation = self.peers.rename(peer_slot);
        let peer = self.peers.find_mut(peer_slot).expect("found above");
        peer.generation = generation;
        if self.takes_sessions {
            peer.drain_until = None; // That was asked of the association that is over.
        }
        if let Some(association) = peer.association.take() {
            peer.held_before += association.inbox.held();
        }
    }

    /// Removes those sessions of a peer that are `stale`.
    pub(super) fn forget_lives(&mut self, peer_slot: u32, stale: impl Fn(&Live) -> bool) {
        // Most peers have one session: only others are worth a search.
        if self.peers.find(peer_slot).is_none_or(|peer| peer.lives == 0) {
            return;
        }
        let is_one =
            |(slot, live): (u32, &Live)| (live.peer == peer_slot && stale(live)).then_some(slot);
        let found: Vec<u32> = self.lives.iter().filter_map(is_one).collect();
        for slot in found {
            self.forget_live(slot);
        }
    }

    /// Takes back what the application was not handed yet of a peer that restarted: nothing of it was
    /// acknowledged, and nobody waits for it any more. Replies stay: their outcomes are told.
    pub(super) fn forget_deliveries(&mut self, peer_slot: u32) {
        let peer = self.peer_id(peer_slot);
        self.scratch.deliveries.retain(|known| known.peer() != peer || known.is_reply());
        if self.undelivered == 0 {
            return;
        }
        let before = self.events.len();
        self.events.retain(|event| match event {
            Event::Messages(messages) => messages.peer != peer || messages.is_reply,
            Event::Segment(segment) => segment.peer != peer || segment.is_reply,
            _ => true,
        });
        self.undelivered -= before - self.events.len();
    }

    /// Ends a session. The association goes on without one, unless a side gave it up with it.
    pub(super) fn end_session(&mut self, now: Instant, slot: u32, reason: CloseReason) {
        let Some(peer_slot) = self.lives.find(slot).map(|live| live.peer) else { return };
        let is_current = self.peers.find(peer_slot).is_some_and(|peer| peer.current == Some(slot));
        let is_given_up = match reason {
            CloseReason::ByPeer
            | CloseReason::ByUs
            | CloseReason::PeerRestarted
            | CloseReason::Violation => true,
            CloseReason::Idle | CloseReason::KeysExhausted | CloseReason::Reset => {
                self.config.association_timeout == Duration::ZERO
            }
        };
        if is_current && !is_given_up {
            return self.lose_session(now, slot, reason);
        }
        self.forget_live(slot);
        if is_current {
            self.peers.find_mut(peer_slot).expect("a session has a peer").current = None;
            self.end_association(peer_slot, SessionChange::Closed(reason));
        }
        self.release_peer_if_idle(now, peer_slot);
    }

    /// Ends a session whose association waits for the next one (PROTOCOL 6.13). The side that
    /// opened it asks for that if it has something to say, or wants its sessions to live.
    fn lose_session(&mut self, now: Instant, slot: u32, reason: CloseReason) {
        let peer_slot = self.lives.find(slot).expect("the caller found it").peer;
        self.requeue_all(peer_slot);
        self.forget_live(slot);
        let peer = self.peers.find_mut(peer_slot).expect("a session has a peer");
        peer.current = None;
        peer.lost_until = Some(now + self.config.association_timeout);
        self.collect_outcomes(peer_slot);
        self.tell(peer_slot, SessionChange::Lost(reason));
        let outbox =
            self.peers.find(peer_slot).and_then(|peer| Some(&peer.association.as_ref()?.outbox));
        if self.config.keep_alive || outbox.is_some_and(|outbox| !outbox.is_settled()) {
            self.redial(now, peer_slot);
        }
        self.rearm(now, peer_slot);
    }

    /// Asks for another session with a peer whose session was lost, if that is ours to do.
    pub(super) fn redial(&mut self, now: Instant, peer_slot: u32) {
        let asks = self.peers.find(peer_slot).is_some_and(|peer| {
            let is_asked = peer.handshake.is_some() || peer.ask_again.is_some();
            peer.redials && peer.lost_until.is_some() && !is_asked
        });
        if asks {
            self.start_handshake(now, peer_slot);
        }
    }

    /// No session came for an association that had lost its own.
    pub(super) fn end_lost_association(&mut self, now: Instant, peer_slot: u32) {
        self.stop_asking(peer_slot);
        self.end_association(peer_slot, SessionChange::Closed(CloseReason::Idle));
        self.release_peer_if_idle(now, peer_slot);
    }

    /// Ends the association that waits for its next session and would have to go first, of those
    /// in which we have nothing to lose: a new peer takes its place.
    pub(super) fn end_idlest_association(&mut self, now: Instant) {
        let waiting = |(slot, peer): (u32, &Peer)| {
            let (known, until) = (peer.association.as_ref()?, peer.lost_until?);
            // One of which the application has or gets something would keep its place.
            let is_kept = || known.inbox.held() + peer.held_before > 0 || self.is_awaited(slot);
            let goes = known.outbox.outstanding() == 0 && !is_kept();
            goes.then_some((until, slot))
        };
        if let Some((_, slot)) = self.peers.iter().filter_map(waiting).min() {
            self.end_lost_association(now, slot);
        }
    }
}
