//! The shard's end of the queues: carries out what the application asks, and tells what happens.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, PoisonError};

use super::{Incoming, Line, Payload, QueueError, Receipt, Remote, Request, Stall};
use crate::limits::DATAGRAM_LEN_MAX;
use crate::protocol::endpoint::{Deferred, PeerId, SendError, SessionChange};
use crate::protocol::transaction::{Outcome, Resolved, Stream};
use crate::shard::{Context, Handler, Message};

/// The shard's end of a line.
pub(super) struct QueueHandler {
    lines: Arc<[Line]>,
    shard: usize,
    /// A request that the endpoint had no room for.
    stalled: Option<Request>,
    /// Why it waits, as the application's threads know it.
    stall_told: Option<Stall>,
    /// What the application's queue had no room for: bounded by credit and by what we send.
    overflow: VecDeque<Incoming>,
    /// Whether messages count as delivered only when the application says so.
    defers: bool,
    /// Who sent each message that the application has not taken yet, in order, and what is done
    /// when it does.
    held: VecDeque<(PeerId, Option<Deferred>)>,
    taken_seen: u64,
    peers: HashMap<PeerId, PeerState>,
}

#[derive(Default)]
struct PeerState {
    is_open: bool,
    /// Who waits for the session to open.
    waiting: Vec<SyncSender<Result<Remote, QueueError>>>,
    /// Tickets of the transactions from `first` up.
    first: u64,
    tickets: VecDeque<Option<u64>>,
}

impl QueueHandler {
    pub(super) fn new(lines: &Arc<[Line]>, shard: usize, defers: bool) -> Self {
        Self {
            lines: Arc::clone(lines),
            shard,
            stalled: None,
            stall_told: None,
            defers,
            overflow: VecDeque::new(),
            held: VecDeque::new(),
            taken_seen: 0,
            peers: HashMap::new(),
        }
    }

    fn line(&self) -> &Line {
        &self.lines[self.shard]
    }

    fn remote(&self, peer: PeerId) -> Remote {
        Remote { shard: self.shard, peer }
    }

    fn put(&mut self, incoming: Incoming) {
        if self.overflow.is_empty() {
            if let Err(back) = self.line().incoming.push(incoming) {
                self.overflow.push_back(back);
            }
        } else {
            self.overflow.push_back(incoming);
        }
    }

    /// Gives the peers credit for what the application took.
    fn release(&mut self, context: &mut Context<'_>) {
        let taken = self.line().taken.load(Ordering::Acquire);
        while self.taken_seen < taken {
            self.taken_seen += 1;
            let (peer, deferred) = self.held.pop_front().expect("taken once for each that was put");
            context.release(peer, 1);
            if let Some(deferred) = deferred {
                context.commit(deferred);
            }
        }
        while let Some(incoming) = self.overflow.pop_front() {
            if let Err(back) = self.line().incoming.push(incoming) {
                self.overflow.push_front(back);
                return;
            }
        }
    }

    /// Carries out a request. `Some`: the endpoint has no room, try again in the next turn.
    fn carry_out(
        &mut self,
        context: &mut Context<'_>,
        request: Request,
    ) -> Option<(Request, Stall)> {
        match request {
            Request::Cancel { peer, ticket } => {
                if let Some(transaction) = self.find_ticket(peer, ticket) {
                    context.cancel(peer, transaction);
                }
            }
            Request::Close { peer } => context.close(peer),
            Request::Commit(deferred) => drop(context.commit(deferred)),
            Request::Drain(patience) => context.drain_all(context.now() + patience.into()),
            Request::Connect { address, key, answer } => match context.connect(address, key) {
                Ok(peer) => {
                    let remote = self.remote(peer);
                    let state = self.peers.entry(peer).or_default();
                    if state.is_open {
                        let _ = answer.try_send(Ok(remote)); // If the caller is gone nobody minds.
                    } else {
                        state.waiting.push(answer);
                    }
                }
                Err(error) => drop(answer.try_send(Err(QueueError::Connect(error)))),
            },
            Request::Flush { peer } => drop(context.flush(peer)),
            Request::Refuse { deferred, reason } => {
                context.refuse_deferred(deferred, reason);
            }
            Request::Reject { peer, transaction, reason: Some(reason) } => {
                context.refuse_request(peer, transaction, reason);
            }
            Request::Reject { peer, transaction, reason: None } => {
                context.fail(peer, transaction);
            }
            Request::Reply { peer, transaction, payload } => {
                match context.reply(peer, transaction, &payload) {
                    Err(SendError::Full(reason)) => {
                        let request = Request::Reply { peer, transaction, payload };
                        return Some((request, Stall { peer, reason }));
                    }
                    // Without an answer the request would wait for ever.
                    Err(SendError::TooLarge { .. }) => {
                        context.fail(peer, transaction);
                    }
                    Ok(()) | Err(_) => {}
                }
                self.recycle(payload);
            }
            Request::Send { peer, options, ticket, payload } => {
                match context.send(peer, options, &payload) {
                    Ok(transaction) => {
                        let state = self.peers.entry(peer).or_default();
                        if state.tickets.is_empty() {
                            state.first = transaction;
                        }
                        state.tickets.push_back(Some(ticket));
                    }
                    Err(SendError::Full(reason)) => {
                        let request = Request::Send { peer, options, ticket, payload };
                        return Some((request, Stall { peer, reason }));
                    }
                    Err(error) => {
                        let to = self.remote(peer);
                        if let SendError::TooLarge { max } = error {
                            self.put(Incoming::TooLarge { to, ticket, max });
                        }
                        self.put(Incoming::Outcome { to, ticket, outcome: Outcome::NotSent });
                    }
                }
                self.recycle(payload);
            }
        }
        None
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

    fn recycle(&self, payload: Vec<u8>) {
        // With as many spare buffers as there is room for, this one simply goes.
        let _ = self.line().spare.push(payload);
    }
}

impl Drop for QueueHandler {
    /// What the shard's end leaves: every send that it did not take has an outcome as well.
    fn drop(&mut self) {
        let line = &self.lines[self.shard];
        let untaken =
            self.stalled.take().into_iter().chain(std::iter::from_fn(|| line.requests.pop()));
        for request in untaken {
            if let Request::Send { peer, ticket, .. } = request {
                let to = Remote { shard: self.shard, peer };
                self.overflow.push_back(Incoming::Outcome {
                    to,
                    ticket,
                    outcome: Outcome::NotSent,
                });
            }
        }
        line.rest.lock().unwrap_or_else(PoisonError::into_inner).append(&mut self.overflow);
    }
}

impl Handler for QueueHandler {
    fn on_message(&mut self, context: &mut Context<'_>, message: Message<'_>) {
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
        // takes a place of its window, and a large one is not done until it was taken.
        context.hold(message.peer, 1);
        let is_large = message.payload.len() > DATAGRAM_LEN_MAX;
        let deferred = (self.defers || is_large).then(|| context.defer(&message)).flatten();
        self.held.push_back((message.peer, deferred.filter(|_| !self.defers)));
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

    fn on_session(&mut self, _context: &mut Context<'_>, peer: PeerId, change: SessionChange) {
        let remote = self.remote(peer);
        if matches!(change, SessionChange::Moved { .. }) {
            return self.put(Incoming::Session { peer: remote, change });
        }
        let is_open = matches!(change, SessionChange::Opened { .. });
        let state = self.peers.entry(peer).or_default();
        state.is_open = is_open;
        if matches!(change, SessionChange::Lost(_)) {
            return self.put(Incoming::Session { peer: remote, change }); // Its sends go on.
        }
        for waiting in state.waiting.drain(..) {
            let answer =
                if is_open { Ok(remote) } else { Err(QueueError::NotOpened(change.clone())) };
            let _ = waiting.try_send(answer); // If the caller is gone nobody minds.
        }
        // What was sent before a session was lost may have to wait for an operator.
        let waits = matches!(change, SessionChange::Pending { .. }) && !state.tickets.is_empty();
        if !is_open && !waits {
            self.peers.remove(&peer);
        }
        self.put(Incoming::Session { peer: remote, change });
    }

    fn on_turn(&mut self, context: &mut Context<'_>) {
        self.release(context);
        let depth = self.line().requests.capacity();
        let mut stall = None;
        for _ in 0..depth {
            let Some(request) = self.stalled.take().or_else(|| self.line().requests.pop()) else {
                break;
            };
            if let Some((request, why)) = self.carry_out(context, request) {
                self.stalled = Some(request);
                stall = Some(why);
                break;
            }
        }
        if stall != self.stall_told {
            self.stall_told = stall;
            self.line().set_stall(stall);
        }
    }
}
