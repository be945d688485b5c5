//! The shard's end of the queues: carries out what the application asks, and tells what happens.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;

use super::backlog::Backlog;
use super::line::{Answer, Line, Order, Replying, Sending};
use super::park::Park;
use super::room::PeerRoom;
use super::{Incoming, Payload, QueueBound, QueueError, Receipt, Remote, may_drop};
use crate::limits::DATAGRAM_LEN_MAX;
use crate::protocol::endpoint::{
    CloseReason, Deferred, FullReason, PeerId, SendError, SessionChange,
};
use crate::protocol::transaction::{Outcome, Resolved, Stream};
use crate::shard::{Context, Handler, Message};
use crate::time::Instant;

/// The shard's end of a line.
pub(super) struct QueueHandler {
    lines: Arc<[Line]>,
    shard: usize,
    /// What the application's queue had no room for.
    backlog: Backlog,
    /// Whether messages count as delivered only when the application says so.
    defers: bool,
    /// The messages that the application has not taken yet, in order.
    held: VecDeque<Held>,
    taken_seen: u64,
    peers: HashMap<PeerId, PeerState>,
    /// Who waits for a session with a peer that has just restarted.
    restarted: Waiting,
    /// Peers for which something is parked.
    stalled: VecDeque<PeerId>,
    /// Everything is drained when nothing is parked any more, at the latest now.
    drain_until: Option<Instant>,
}

/// Who waits for a session to open.
type Waiting = Vec<SyncSender<Result<Remote, QueueError>>>;

fn answer(waiting: Waiting, answer: &Result<Remote, QueueError>) {
    for caller in waiting {
        let _ = caller.try_send(answer.clone()); // If the caller is gone nobody minds.
    }
}

/// What is done when the application takes a message.
struct Held {
    peer: PeerId,
    /// Places of its sender's window that it takes meanwhile.
    places: u64,
    /// It is done with that.
    deferred: Option<Deferred>,
}

struct PeerState {
    is_open: bool,
    /// The application was told that its session opened, and will be told of the end.
    is_told: bool,
    /// Who waits for the session to open.
    waiting: Waiting,
    /// Tickets of the transactions from `first` up.
    first: u64,
    tickets: VecDeque<Option<u64>>,
    /// What the endpoint has no room for.
    park: Park,
    /// The session is drained when nothing is parked any more, at the latest now. Until then
    /// something is.
    drain_until: Option<Instant>,
    /// Its places for messages and replies.
    sends: Arc<PeerRoom>,
    replies: Arc<PeerRoom>,
}

impl PeerState {
    fn new(line: &Line, peer: PeerId) -> Self {
        Self {
            is_open: false,
            is_told: false,
            waiting: Vec::new(),
            first: 0,
            tickets: VecDeque::new(),
            park: Park::default(),
            drain_until: None,
            sends: line.sends.open(peer),
            replies: line.replies.open(peer),
        }
    }

    /// Tells the end of every message that has none: nothing more will be heard of them.
    fn end(mut self, mut tell: impl FnMut(u64, Outcome)) {
        for ticket in self.tickets.drain(..).flatten() {
            tell(ticket, Outcome::Indeterminate);
        }
        for send in self.park.drain() {
            tell(send.ticket, Outcome::NotSent);
        }
    }
}

impl QueueHandler {
    pub(super) fn new(lines: &Arc<[Line]>, shard: usize, defers: bool) -> Self {
        Self {
            lines: Arc::clone(lines),
            shard,
            defers,
            backlog: Backlog::default(),
            held: VecDeque::new(),
            taken_seen: 0,
            peers: HashMap::new(),
            restarted: Vec::new(),
            stalled: VecDeque::new(),
            drain_until: None,
        }
    }

    fn line(&self) -> &Line {
        &self.lines[self.shard]
    }

    fn remote(&self, peer: PeerId) -> Remote {
        Remote { shard: self.shard, peer }
    }

    fn put(&mut self, incoming: Incoming) {
        let line = &self.lines[self.shard];
        let back = match self.backlog.is_empty() {
            true => line.incoming.push(incoming),
            false => Err(incoming),
        };
        if let Err(back) = back {
            self.backlog.push(back);
            line.outcomes_left.store(self.backlog.outcomes(), Ordering::Relaxed);
        }
    }

    /// Gives the peers credit for what the application took.
    fn release(&mut self, context: &mut Context<'_>) {
        let taken = self.line().taken.load(Ordering::Acquire);
        while self.taken_seen < taken {
            self.taken_seen += 1;
            let held = self.held.pop_front().expect("taken once for each that was put");
            context.release(held.peer, held.places);
            if let Some(deferred) = held.deferred {
                context.commit(deferred);
            }
        }
        if !self.backlog.is_empty() {
            let line = &self.lines[self.shard];
            self.backlog.offer(|incoming| line.incoming.push(incoming).err());
            line.outcomes_left.store(self.backlog.outcomes(), Ordering::Relaxed);
        }
    }

    /// Whether the ends of sessions that the application has not taken are as many as may be:
    /// nothing new begins.
    fn is_behind(&self) -> bool {
        self.backlog.ends() >= self.line().incoming.capacity()
    }

    /// Carries out everything that was ordered.
    fn take_orders(&mut self, context: &mut Context<'_>) {
        for _ in 0..self.line().orders.capacity() {
            let Some(order) = self.line().orders.pop() else { return };
            match order {
                Order::Cancel { peer, ticket } => self.cancel(context, peer, ticket),
                Order::Close { peer } => {
                    self.take_answers(context); // Those that were given before.
                    context.close(peer);
                    self.forget_unopened(peer);
                }
                Order::Connect { answer, .. } if self.is_behind() => {
                    let _ = answer.try_send(Err(QueueError::Full(QueueBound::Unread)));
                }
                Order::Connect { address, key, answer } => match context.connect(address, key) {
                    Ok(peer) => {
                        let remote = self.remote(peer);
                        let state = self.state(peer);
                        if state.is_open {
                            let _ = answer.try_send(Ok(remote)); // If the caller is gone nobody minds.
                        } else {
                            state.waiting.push(answer);
                        }
                    }
                    Err(error) => drop(answer.try_send(Err(QueueError::Connect(error)))),
                },
                Order::Drain(patience) => {
                    self.take_answers(context);
                    self.drain_until = Some(context.now() + patience.into());
                }
                Order::DrainPeer { peer, patience } => {
                    self.take_answers(context);
                    self.drain_peer(context, peer, context.now() + patience.into());
                }
                Order::Flush { peer } => {
                    context.flush(peer);
                    if let Some(state) = self.peers.get_mut(&peer) {
                        state.park.flush();
                    }
                }
                Order::Send(send) => self.take_send(context, send),
            }
        }
    }

    /// Carries out every answer.
    fn take_answers(&mut self, context: &mut Context<'_>) {
        for _ in 0..self.line().answers.capacity() {
            let Some(answer) = self.line().answers.pop() else { return };
            match answer {
                Answer::Commit(deferred) => drop(context.commit(deferred)),
                Answer::Refuse { deferred, reason } => {
                    context.refuse_deferred(deferred, reason);
                }
                Answer::Reject { peer, transaction, reason: Some(reason) } => {
                    context.refuse_request(peer, transaction, reason);
                }
                Answer::Reject { peer, transaction, reason: None } => {
                    context.fail(peer, transaction);
                }
                Answer::Reply(reply) => self.take_reply(context, reply),
            }
        }
    }

    /// Sends a message, or parks it behind those that wait. What may be dropped does not wait.
    fn take_send(&mut self, context: &mut Context<'_>, send: Sending) {
        let peer = send.peer;
        if self.is_stalled(peer, |state| state.drain_until.is_some()) {
            return self.end_unsent(send);
        }
        let may_drop = may_drop(&send.options);
        let is_behind = !may_drop && self.is_stalled(peer, |state| state.park.has_sends());
        let (send, reason) = match is_behind {
            true => (send, None),
            false => match self.offer(context, send) {
                Ok(()) => return,
                Err((send, reason)) => (send, Some(reason)),
            },
        };
        if may_drop {
            return self.end_unsent(send);
        }
        let state = self.park(peer);
        state.park.push(send);
        if reason.is_some() {
            state.sends.set_stall(reason);
        }
    }

    /// Replies, or parks the reply behind those that wait.
    fn take_reply(&mut self, context: &mut Context<'_>, reply: Replying) {
        let peer = reply.peer;
        let (reply, reason) = match self.is_stalled(peer, |state| state.park.has_replies()) {
            true => (reply, None),
            false => match self.offer_reply(context, reply) {
                Ok(()) => return,
                Err((reply, reason)) => (reply, Some(reason)),
            },
        };
        let state = self.park(peer);
        state.park.push_reply(reply);
        if reason.is_some() {
            state.replies.set_stall(reason);
        }
    }

    /// Whether something is parked for a peer, and `is` so.
    fn is_stalled(&self, peer: PeerId, is: impl Fn(&PeerState) -> bool) -> bool {
        !self.stalled.is_empty() && self.peers.get(&peer).is_some_and(is)
    }

    /// The state of a peer for which something is about to be parked.
    fn park(&mut self, peer: PeerId) -> &mut PeerState {
        if self.state(peer).park.is_empty() {
            self.stalled.push_back(peer);
        }
        self.state(peer)
    }

    fn state(&mut self, peer: PeerId) -> &mut PeerState {
        let line = &self.lines[self.shard];
        self.peers.entry(peer).or_insert_with(|| PeerState::new(line, peer))
    }

    /// Offers what is parked again, each peer's in its order.
    fn offer_parked(&mut self, context: &mut Context<'_>) {
        for _ in 0..self.stalled.len() {
            let Some(peer) = self.stalled.pop_front() else { return };
            let Some(state) = self.peers.get_mut(&peer) else { continue };
            let mut park = std::mem::take(&mut state.park);
            let mut flushes = park.expire(context.now(), |send| self.end_unsent(send));
            let (stall, flushed) = park.offer(|send| self.offer(context, send));
            let reply_stall = park.offer_replies(|reply| self.offer_reply(context, reply));
            flushes |= flushed;
            if flushes {
                context.flush(peer);
            }
            if !park.is_empty() {
                self.stalled.push_back(peer);
            }
            let state = self.state(peer);
            state.park = park;
            state.sends.set_stall(stall);
            state.replies.set_stall(reply_stall);
            if let Some(until) = state.drain_until.take() {
                self.drain_peer(context, peer, until);
            }
        }
    }

    /// Gives a message to the endpoint, or ends it.
    ///
    /// # Errors
    /// The message, if there is no room for it, and why.
    fn offer(
        &mut self,
        context: &mut Context<'_>,
        send: Sending,
    ) -> Result<(), (Sending, FullReason)> {
        match context.send(send.peer, send.options, &send.payload) {
            Ok(transaction) => {
                let state = self.state(send.peer);
                if state.tickets.is_empty() {
                    state.first = transaction;
                }
                state.tickets.push_back(Some(send.ticket));
                self.line().recycle(send.payload);
            }
            Err(SendError::Full(reason)) => return Err((send, reason)),
            Err(error) => {
                if let SendError::TooLarge { max } = error {
                    let (to, ticket) = (self.remote(send.peer), send.ticket);
                    self.put(Incoming::TooLarge { to, ticket, max });
                }
                self.end_unsent(send);
            }
        }
        Ok(())
    }

    /// The same for a reply.
    fn offer_reply(
        &mut self,
        context: &mut Context<'_>,
        reply: Replying,
    ) -> Result<(), (Replying, FullReason)> {
        match context.reply(reply.peer, reply.transaction, &reply.payload) {
            Err(SendError::Full(reason)) => return Err((reply, reason)),
            // Without an answer the request would wait for ever.
            Err(SendError::TooLarge { .. }) => {
                context.fail(reply.peer, reply.transaction);
            }
            Ok(()) | Err(_) => {}
        }
        self.line().recycle(reply.payload);
        Ok(())
    }

    /// Ends a message that the endpoint did not get.
    fn end_unsent(&mut self, send: Sending) {
        let (to, ticket) = (self.remote(send.peer), send.ticket);
        self.line().recycle(send.payload);
        self.put(Incoming::Outcome { to, ticket, outcome: Outcome::NotSent });
    }

    /// Takes a message back, wherever it is.
    fn cancel(&mut self, context: &mut Context<'_>, peer: PeerId, ticket: u64) {
        if let Some(transaction) = self.find_ticket(peer, ticket) {
            context.cancel(peer, transaction);
            return;
        }
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let mut park = std::mem::take(&mut state.park);
        if park.cancel(ticket, |send| self.end_unsent(send)) {
            context.flush(peer);
        }
        self.state(peer).park = park; // Emptied, it leaves the stalled ones in the next turn.
    }

    /// A peer was closed by us. If it had no session nothing more is told of it.
    fn forget_unopened(&mut self, peer: PeerId) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let closed = SessionChange::Closed(CloseReason::ByUs);
        answer(std::mem::take(&mut state.waiting), &Err(QueueError::NotOpened(closed)));
        if !state.is_told {
            self.end_peer(peer);
        }
    }

    /// Ends everything between us and a peer.
    fn end_peer(&mut self, peer: PeerId) {
        let Some(state) = self.peers.remove(&peer) else { return };
        self.line().sends.close(peer);
        self.line().replies.close(peer);
        self.stalled.retain(|known| *known != peer);
        let to = self.remote(peer);
        state.end(|ticket, outcome| self.put(Incoming::Outcome { to, ticket, outcome }));
    }

    /// Drains a session, once nothing is parked for it or its time has come.
    fn drain_peer(&mut self, context: &mut Context<'_>, peer: PeerId, until: Instant) {
        match self.peers.get_mut(&peer) {
            Some(state) if !state.park.is_empty() && until > context.now() => {
                state.drain_until = Some(until);
            }
            _ => {
                context.drain(peer, until);
                self.forget_unopened(peer);
            }
        }
    }

    /// Drains everything, once what came before is with the endpoint.
    fn drain_if_due(&mut self, context: &mut Context<'_>) {
        let is_due = |until: &mut Instant| self.stalled.is_empty() || *until <= context.now();
        if let Some(until) = self.drain_until.take_if(is_due) {
            context.drain_all(until);
        }
    }

    /// Asks for a turn when something that waits here is over.
    fn ask_for_turn(&self, context: &mut Context<'_>) {
        let parks = self.stalled.iter().filter_map(|peer| self.peers.get(peer));
        let ends = parks.flat_map(|state| [state.park.next_deadline(), state.drain_until]);
        if let Some(at) = ends.flatten().chain(self.drain_until).min() {
            context.wake_at(at);
        }
    }

    /// The transaction of a ticket, unless it is over.
    fn find_ticket(&self, peer: PeerId, ticket: u64) -> Option<u64> {
        let state = self.peers.get(&peer)?;
        let place = state.tickets.iter().position(|known| *known == Some(ticket))?;
        Some(state.first + place as u64)
    }

    /// The ticket of a transaction, which is over.
    fn take_ticket(&mut self, peer: PeerId, transaction: u64) -> Option<u64> {
        let state = self.peers.get_mut(&peer)?;
        let place = usize::try_from(transaction.checked_sub(state.first)?).ok()?;
        let ticket = state.tickets.get_mut(place)?.take();
        while state.tickets.front() == Some(&None) {
            state.tickets.pop_front();
            state.first += 1;
        }
        ticket
    }
}

impl Drop for QueueHandler {
    /// What the shard's end leaves: every send has an outcome, also one that it did not take.
    fn drop(&mut self) {
        let mut rest = std::mem::take(&mut self.backlog).into_entries();
        for (peer, state) in self.peers.drain() {
            let to = Remote { shard: self.shard, peer };
            state.end(|ticket, outcome| {
                rest.push_back(Incoming::Outcome { to, ticket, outcome });
            });
        }
        self.lines[self.shard].close(&mut rest);
    }
}

impl Handler for QueueHandler {
    fn on_message(&mut self, context: &mut Context<'_>, message: Message<'_>) {
        if self.backlog.ends() > 0 && !self.peers.contains_key(&message.peer) {
            return; // Of a session that was not opened.
        }
        let payload = Payload {
            bytes: self.line().copy(message.payload),
            spare: Arc::clone(&self.line().spare),
        };
        let remote = self.remote(message.peer);
        let reply_to = match message.is_reply {
            true => self.take_ticket(message.peer, message.transaction),
            false => None,
        };
        // What a peer may have waiting here is memory that was reserved for it: a small message
        // takes a place of its window, and a large one as many as it fills, and is not done until
        // it was taken.
        let peer = message.peer;
        let places = message.payload.len().div_ceil(DATAGRAM_LEN_MAX).max(1) as u64;
        context.hold(peer, places);
        let deferred = (self.defers || places > 1).then(|| context.defer(&message)).flatten();
        self.held.push_back(Held { peer, places, deferred: deferred.filter(|_| !self.defers) });
        let shard = self.shard;
        let receipt = deferred.filter(|_| self.defers).map(|deferred| Receipt { shard, deferred });
        self.put(Incoming::Message {
            from: remote,
            service: message.service,
            transaction: message.transaction,
            sequence: message.sequence,
            reply_to,
            key: context.message_key(&message),
            receipt,
            payload,
        });
        if let Some(ticket) = reply_to {
            self.put(Incoming::Outcome { to: remote, ticket, outcome: Outcome::Replied });
        }
    }

    fn on_gap(
        &mut self,
        _context: &mut Context<'_>,
        peer: PeerId,
        stream: Stream,
        missing: Range<u64>,
    ) {
        self.put(Incoming::Gap { from: self.remote(peer), stream, missing });
    }

    fn on_outcome(&mut self, _context: &mut Context<'_>, peer: PeerId, resolved: Resolved) {
        if resolved.outcome == Outcome::Replied {
            return; // The reply itself needs the ticket, and says this with it.
        }
        let to = self.remote(peer);
        for transaction in resolved.first..resolved.first + u64::from(resolved.count) {
            if let Some(ticket) = self.take_ticket(peer, transaction) {
                self.put(Incoming::Outcome { to, ticket, outcome: resolved.outcome });
            }
        }
    }

    fn on_session(&mut self, context: &mut Context<'_>, peer: PeerId, change: SessionChange) {
        let is_open = matches!(change, SessionChange::Opened { .. });
        // The next change after a restart is of the same peer, under another name.
        let mut waiting = std::mem::take(&mut self.restarted);
        if !self.peers.contains_key(&peer) {
            if !is_open {
                return; // Of a session that was closed at once, as follows.
            }
            if self.is_behind() {
                answer(waiting, &Err(QueueError::Full(QueueBound::Unread)));
                return context.close(peer);
            }
        }
        let remote = self.remote(peer);
        if matches!(change, SessionChange::Moved { .. }) {
            return self.put(Incoming::Session { peer: remote, change });
        }
        let state = self.state(peer);
        state.is_open = is_open;
        state.is_told |= is_open;
        if matches!(change, SessionChange::Lost(_)) {
            return self.put(Incoming::Session { peer: remote, change }); // Its sends go on.
        }
        waiting.append(&mut state.waiting);
        if change == SessionChange::Closed(CloseReason::PeerRestarted) {
            self.restarted = waiting;
        } else if is_open {
            answer(waiting, &Ok(remote));
        } else {
            answer(waiting, &Err(QueueError::NotOpened(change.clone())));
        }
        // One that is pending is asked again, and so ends in another way.
        if !is_open && !matches!(change, SessionChange::Pending { .. }) {
            self.end_peer(peer);
        }
        self.put(Incoming::Session { peer: remote, change });
    }

    fn on_turn(&mut self, context: &mut Context<'_>) {
        self.release(context);
        self.offer_parked(context);
        self.take_answers(context);
        self.take_orders(context);
        self.drain_if_due(context);
        self.ask_for_turn(context);
    }
}
