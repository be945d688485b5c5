//! What the application's threads share with one shard.
//!
//! There are two queues to the shard, since what waits for room must not hold up what makes room.
//! *Answers* to what the shard handed over (commits, refusals, replies) are in one of them. All
//! else, *orders*, is in the other. In every turn the shard empties both, and neither ever waits:
//! a message or a reply that the endpoint has no room for is parked, and takes a place of the
//! [`Room`] of its peer that its sender took before it was queued.
//!
//! In which order things happen follows:
//!
//! - Orders are carried out as they were queued, so a close, a drain, a flush or a cancel finds
//!   the messages that were queued before it with the endpoint or parked, and none that were
//!   queued after it.
//! - Answers may overtake orders. Before a close or a drain the shard takes all answers there
//!   are, hence those that the same thread queued before it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;

use super::room::{Place, Room};
use super::{Incoming, QueueError, Remote};
use crate::protocol::endpoint::{Deferred, PeerId};
use crate::protocol::session::PublicKey;
use crate::protocol::transaction::{Outcome, RefuseReason, SendOptions};

/// The queues of one shard, and the buffers that go round.
#[derive(Debug)]
pub(super) struct Line {
    shard: usize,
    pub(super) orders: ArrayQueue<Order>,
    pub(super) answers: ArrayQueue<Answer>,
    pub(super) incoming: ArrayQueue<Incoming>,
    pub(super) spare: Arc<ArrayQueue<Vec<u8>>>,
    /// Messages that the application took so far.
    pub(super) taken: AtomicU64,
    /// Outcomes that had no room in `incoming`.
    pub(super) outcomes_left: AtomicUsize,
    /// Places for messages on their way to the endpoint.
    pub(super) sends: Room,
    /// And for replies: they make room at the peer, so no message may take theirs.
    pub(super) replies: Room,
    /// The shard has ended: it takes nothing more.
    is_closed: AtomicBool,
    /// What a shard that ended had no room for in `incoming`.
    rest: Mutex<VecDeque<Incoming>>,
}

/// What the application asks of a shard.
#[derive(Debug)]
pub(super) enum Order {
    Cancel { peer: PeerId, ticket: u64 },
    Close { peer: PeerId },
    Connect { address: SocketAddr, key: PublicKey, answer: SyncSender<Result<Remote, QueueError>> },
    Drain(Duration),
    DrainPeer { peer: PeerId, patience: Duration },
    Flush { peer: PeerId },
    Send(Sending),
}

/// What the application answers to what it was handed.
#[derive(Debug)]
pub(super) enum Answer {
    Commit(Deferred),
    Refuse {
        deferred: Deferred,
        reason: RefuseReason,
    },
    /// Without a reason, its handler failed.
    Reject {
        peer: PeerId,
        transaction: u64,
        reason: Option<RefuseReason>,
    },
    Reply(Replying),
}

/// A message on its way to the endpoint.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) peer: PeerId,
    pub(super) options: SendOptions,
    pub(super) ticket: u64,
    pub(super) payload: Vec<u8>,
    pub(super) _place: Option<Place>,
}

/// A reply on its way to the endpoint.
#[derive(Debug)]
pub(super) struct Replying {
    pub(super) peer: PeerId,
    pub(super) transaction: u64,
    pub(super) payload: Vec<u8>,
    pub(super) _place: Option<Place>,
}

impl Line {
    pub(super) fn new(shard: usize, depth: usize) -> Self {
        Self {
            shard,
            orders: ArrayQueue::new(depth),
            answers: ArrayQueue::new(depth),
            incoming: ArrayQueue::new(depth),
            spare: Arc::new(ArrayQueue::new(2 * depth)),
            taken: AtomicU64::new(0),
            outcomes_left: AtomicUsize::new(0),
            sends: Room::new(depth),
            replies: Room::new(depth),
            is_closed: AtomicBool::new(false),
            rest: Mutex::default(),
        }
    }

    /// Whether the shard has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Whether the application has not taken so many outcomes that it gets no more of them.
    pub(super) fn is_unread(&self) -> bool {
        self.outcomes_left.load(Ordering::Relaxed) >= self.incoming.capacity()
    }

    /// Queues an order. One that is queued while the shard ends is as good as one that it did not
    /// come round to: either the shard sees it after it has said that it ends, or we see that
    /// here. `false`: there is no room.
    pub(super) fn order(&self, order: Order) -> bool {
        let is_queued = self.orders.push(order).is_ok();
        fence(Ordering::SeqCst);
        if self.is_closed() {
            self.end_orders();
        }
        is_queued
    }

    /// The shard ends, with `rest` untold.
    pub(super) fn close(&self, rest: &mut VecDeque<Incoming>) {
        self.is_closed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.rest.lock().unwrap_or_else(PoisonError::into_inner).append(rest);
        self.end_orders();
    }

    /// Ends what is queued and will not be carried out.
    fn end_orders(&self) {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(order) = self.orders.pop() {
            if let Order::Send(Sending { peer, ticket, .. }) = order {
                let to = Remote { shard: self.shard, peer };
                rest.push_back(Incoming::Outcome { to, ticket, outcome: Outcome::NotSent });
            }
        }
    }

    pub(super) fn take_rest(&self) -> Option<Incoming> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// A copy of `bytes` in a buffer that went round before, if there is one.
    pub(super) fn copy(&self, bytes: &[u8]) -> Vec<u8> {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(bytes);
        buffer
    }

    /// Has a buffer go round. With as many spare ones as there is room for, this one simply goes.
    pub(super) fn recycle(&self, buffer: Vec<u8>) {
        let _ = self.spare.push(buffer);
    }
}
