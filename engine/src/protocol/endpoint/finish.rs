//! How sends end early and sessions end in order: cancel, fail, flush, drain.

use super::{Endpoint, Peer, PeerId};
use crate::limits::REFUSED_FAILED;
use crate::protocol::session::{BootId, PublicKey};
use crate::protocol::transaction::RefuseReason;
use crate::time::Instant;

/// Names a message among all that its sender ever sends: the same for each delivery of it, another
/// for any other message. An application that writes it beside what the message did can tell
/// whether it did that before. It does not outlive the sender's process: a message that is sent
/// again after a restart is another one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MessageKey {
    /// Who sent it.
    pub sender: PublicKey,
    /// The sender's half of the association, and the receiver's: together never used twice (PROTOCOL
    /// 6.13).
    pub association: [BootId; 2],
    /// Its number there.
    pub transaction: u64,
}

impl Endpoint {
    /// Takes back a message of ours: it does not leave any more, and no reply is awaited. Its
    /// outcome follows: not sent if it never left, indeterminate otherwise. `false`: it has an
    /// outcome already, or stands in a stream that promises no gap (PROTOCOL 6.32).
    pub fn cancel(&mut self, to: PeerId, transaction: u64) -> bool {
        let Some(association) = self.find_peer(to).and_then(|peer| peer.association.as_mut())
        else {
            return false;
        };
        let is_cancelled = association.outbox.cancel(transaction);
        self.collect_outcomes(to.slot);
        is_cancelled
    }

    /// Ends a request of `from` without a reply: it was taken, and what it asks could not be done
    /// (PROTOCOL 6.34). May be called in the turn of the request or later, in place of a reply.
    /// `false`: the association is gone.
    pub fn fail(&mut self, from: PeerId, transaction: u64) -> bool {
        self.end_request(from, transaction, REFUSED_FAILED)
    }

    /// Ends a request of `from` without a reply, as [`Endpoint::fail`] does, with a reason of the
    /// application.
    pub fn refuse_request(&mut self, from: PeerId, transaction: u64, reason: RefuseReason) -> bool {
        self.end_request(from, transaction, reason.get())
    }

    fn end_request(&mut self, from: PeerId, transaction: u64, reason: u8) -> bool {
        let is_known = self.end_refused(from, transaction, reason);
        if is_known {
            self.ask_for_report(from.slot); // No arrival may bring the next acknowledgement.
        }
        is_known
    }

    /// Has messages that linger for company leave at once. Returns how many sends have no outcome
    /// yet.
    pub fn flush(&mut self, to: PeerId) -> u64 {
        let Some(association) = self.find_peer(to).and_then(|peer| peer.association.as_mut())
        else {
            return 0;
        };
        association.outbox.flush();
        let unresolved = association.outbox.unresolved();
        self.mark_ready(to.slot);
        unresolved
    }

    /// Closes the session with a peer as soon as every send has its outcome and every reply was
    /// acknowledged, or at `deadline`: what has none then ends as not sent or indeterminate, told
    /// before the end of the session. Until then nothing new is taken. What the application keeps
    /// itself is not waited for (PROTOCOL 6.35): requests that it has not answered yet, and messages
    /// that it has not committed.
    pub fn drain(&mut self, now: Instant, id: PeerId, deadline: Instant) {
        self.flush(id);
        let Some(peer) = self.find_peer(id) else { return };
        if peer.association.is_none() {
            return self.close(now, id);
        }
        if peer.drain_until.replace(deadline).is_none() {
            self.draining.push(id.slot);
        }
        self.rearm(now, id.slot);
    }

    /// [Drains](Endpoint::drain) every session, and takes no new ones.
    pub fn drain_all(&mut self, now: Instant, deadline: Instant) {
        self.responder = None;
        self.takes_sessions = false;
        for id in self.peer_ids() {
            self.drain(now, id, deadline);
        }
    }

    /// Whether everything was drained: no session is left, and none will come.
    pub fn is_drained(&self) -> bool {
        !self.takes_sessions && self.peers.len() == 0
    }

    fn peer_ids(&self) -> Vec<PeerId> {
        let name = |(slot, peer): (u32, &Peer)| PeerId { slot, generation: peer.generation };
        self.peers.iter().map(name).collect()
    }

    /// Closes the sessions that are drained, or had their time.
    pub(super) fn close_drained(&mut self, now: Instant) {
        let mut index = 0;
        while let Some(&slot) = self.draining.get(index) {
            let peer = self.peers.find(slot);
            let Some(deadline) = peer.and_then(|peer| peer.drain_until) else {
                self.draining.swap_remove(index); // It ended otherwise.
                continue;
            };
            if deadline > now && !self.is_settled(slot) {
                index += 1;
                continue;
            }
            self.draining.swap_remove(index);
            self.close(now, self.peer_id(slot));
        }
    }

    /// Whether neither side waits for anything that we could still say.
    fn is_settled(&self, slot: u32) -> bool {
        let Some(peer) = self.peers.find(slot) else { return true };
        let outbox = peer.association.as_ref().map(|known| &known.outbox);
        let live = peer.current.and_then(|live| self.lives.find(live));
        let owes_ack = live.is_some_and(|live| {
            live.touched || live.is_ack_due || live.session.received.next_timeout().is_some()
        });
        !owes_ack && outbox.is_none_or(|outbox| outbox.is_settled())
    }

    /// What names a message of `from` for good. `None`: the association is gone.
    pub fn message_key(&self, from: PeerId, transaction: u64) -> Option<MessageKey> {
        let found = self.peers.find(from.slot).filter(|peer| peer.generation == from.generation)?;
        let association = [found.association.as_ref()?.boot, self.own_half(found)];
        Some(MessageKey { sender: found.key, association, transaction })
    }

    /// Our half of the association with a peer.
    fn own_half(&self, peer: &Peer) -> BootId {
        self.config.boot.of_association(peer.association_number)
    }

    /// What the receiver of our transaction knows it by: its [`Endpoint::message_key`]. `None`: the
    /// association is gone, or no such message was sent in it.
    pub fn sent_key(&self, to: PeerId, transaction: u64) -> Option<MessageKey> {
        let found = self.peers.find(to.slot).filter(|peer| peer.generation == to.generation)?;
        let known = found.association.as_ref()?;
        let (sender, association) =
            (self.config.identity.public(), [self.own_half(found), known.boot]);
        let key = MessageKey { sender, association, transaction };
        (transaction < known.outbox.next_transaction()).then_some(key)
    }

    /// Ends the sends whose deadline has come.
    pub(super) fn expire_sends(&mut self, now: Instant, slot: u32) {
        let association = self.peers.find_mut(slot).and_then(|peer| peer.association.as_mut());
        if let Some(association) = association {
            association.outbox.expire(now);
            self.collect_outcomes(slot);
        }
    }
}
