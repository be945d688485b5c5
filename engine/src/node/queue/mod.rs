//! Queues between application threads and shards: for applications that have threads of their
//! own and can do without the last microsecond.
//!
//! A message is copied once on each side, into a buffer that goes round between the two threads.
//! Every queue is bounded and says when it is full. What waits here for the application counts
//! against the credit of its sender, so a slow reader slows its peers down instead of growing.

mod backlog;
mod handler;
mod line;
mod park;
mod room;

use std::net::SocketAddr;
use std::ops::{Deref, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;
use std::{io, thread};

use crossbeam_queue::ArrayQueue;

use self::handler::QueueHandler;
use self::line::{Answer, Line, Order, Replying, Sending};
use super::{Config, DRAIN_CHECKED_EVERY, Node, STOP_CHECKED_EVERY, StartError};
use crate::limits::{DATAGRAM_LEN_MAX, MESSAGE_LEN_MAX, TRANSACTIONS_MAX};
use crate::protocol::endpoint::{
    ConnectError, Deferred, FullReason, MessageKey, PeerId, SendError, SessionChange,
};
use crate::protocol::session::PublicKey;
use crate::protocol::transaction::{Outcome, Overflow, RefuseReason, SendOptions, Stream};
use crate::protocol::wire::ServiceKind;
use crate::time::Instant;

/// A peer as the application's threads name it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Remote {
    shard: usize,
    peer: PeerId,
}

/// Something for the application, taken with [`QueueNode::receive`].
#[derive(Debug)]
pub enum Incoming {
    /// A message.
    Message {
        /// Who sent it.
        from: Remote,
        /// Its service level.
        service: ServiceKind,
        /// Its transaction; our reply to it names it.
        transaction: u64,
        /// The ordered stream it belongs to and its place in it, in level sequence.
        sequence: Option<(Stream, u64)>,
        /// For a reply, the ticket of the request that it answers. The request's outcome follows.
        reply_to: Option<u64>,
        /// What names it for good, so that a second delivery can be told. `None` for a reply,
        /// which its ticket names, and if the association with its sender is over.
        key: Option<MessageKey>,
        /// What [`QueueNode::commit`] and [`QueueNode::refuse`] take, if the node
        /// [defers](QueueNode::start_deferring).
        receipt: Option<Receipt>,
        /// What was sent.
        payload: Payload,
    },
    /// Messages of a lossy stream that will not come any more, before those that follow.
    Gap {
        /// Who sent the stream.
        from: Remote,
        /// The stream.
        stream: Stream,
        /// Their places in it.
        missing: Range<u64>,
    },
    /// A send of ours ended.
    Outcome {
        /// Where it was sent.
        to: Remote,
        /// The ticket that [`QueueNode::send`] gave.
        ticket: u64,
        /// How it ended.
        outcome: Outcome,
    },
    /// A send of ours is longer than its peer takes, or than the path carries in segments. Its
    /// outcome, [`Outcome::NotSent`], follows.
    TooLarge {
        /// Where it was sent.
        to: Remote,
        /// The ticket that [`QueueNode::send`] gave.
        ticket: u64,
        /// Largest message that is taken now, in bytes.
        max: u64,
    },
    /// The relation with a peer changed.
    Session {
        /// The peer.
        peer: Remote,
        /// What changed.
        change: SessionChange,
    },
}

/// A message that was taken and does not count as delivered until it is
/// [committed](QueueNode::commit); or it is [refused](QueueNode::refuse).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Receipt {
    shard: usize,
    deferred: Deferred,
}

/// A received payload. Its memory is used again once it is dropped.
#[derive(Debug)]
pub struct Payload {
    bytes: Vec<u8>,
    spare: Arc<ArrayQueue<Vec<u8>>>,
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        // With as many spare buffers as there is room for, this one simply goes.
        let _ = self.spare.push(std::mem::take(&mut self.bytes));
    }
}

/// Why a call on a queue node failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum QueueError {
    /// The handshake ended without a session.
    Connect(ConnectError),
    /// The peer did not open the session.
    NotOpened(SessionChange),
    /// The queue to the shard is full. Try again later.
    Full(QueueBound),
    /// The shard has stopped.
    Stopped,
}

impl std::fmt::Display for QueueError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect(error) => error.fmt(f),
            Self::NotOpened(change) => write!(f, "the peer did not open a session: {change:?}"),
            Self::Full(QueueBound::Depth) => write!(f, "the queue to the shard is full"),
            Self::Full(QueueBound::Peer { reason, .. }) => {
                write!(f, "the queue to the peer is full, and waits: {}", SendError::Full(*reason))
            }
            Self::Full(QueueBound::Unread) => {
                write!(f, "the application has not taken how earlier messages or sessions ended")
            }
            Self::Stopped => write!(f, "the shard has stopped"),
        }
    }
}

impl std::error::Error for QueueError {}

/// What bounds a queue that is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QueueBound {
    /// Its depth: the shard has not come round to what is in it. It will, whatever peers do.
    Depth,
    /// As many messages or replies to a peer wait as may, because there is no room for the first
    /// of them. Those to other peers go on.
    Peer {
        /// Where they go.
        to: Remote,
        /// What is full there.
        reason: FullReason,
    },
    /// The application has to take what it is told first: as many outcomes, or ends of sessions,
    /// as the queue is deep wait for room in it.
    Unread,
}

/// A node that is used from any thread, through bounded queues.
#[derive(Debug)]
pub struct QueueNode {
    node: Node,
    lines: Arc<[Line]>,
    next_ticket: AtomicU64,
}

/// As many transactions as fit the memory reserved for a peer, each with a message of the largest
/// size that a peer can send; a power of two.
fn affordable(receive_bytes: u64) -> u32 {
    let count = receive_bytes / DATAGRAM_LEN_MAX as u64;
    let count = u32::try_from(count).unwrap_or(u32::MAX).clamp(64, TRANSACTIONS_MAX);
    1 << count.ilog2()
}

impl QueueNode {
    /// Starts a node whose queues hold `depth` entries each.
    ///
    /// A message to a peer that has no room for it waits, in its order, and holds up no other peer:
    /// as many as `depth` may wait for one peer, fewer each if several are like that.
    ///
    /// What a peer may have waiting here is memory: `config.transactions` is lowered until that
    /// many messages of the largest size fit `config.receive_bytes`, though not below 64. An
    /// unread queue then holds twice that for a peer at most (PROTOCOL 6.3). Reserve more to have
    /// a larger window. Every message is handed over whole, whatever `config.whole_len_max` is.
    ///
    /// # Errors
    /// [`StartError`].
    ///
    /// # Panics
    /// If `depth` is zero.
    pub fn start(config: Config, depth: usize) -> Result<Self, StartError> {
        Self::start_with(config, depth, false)
    }

    /// As [`QueueNode::start`], but a message whose level is reported on counts as delivered only
    /// once the application [commits](QueueNode::commit) it. Until then it takes a place of its
    /// sender's window (PROTOCOL 6.30).
    ///
    /// # Errors
    /// [`StartError`].
    ///
    /// # Panics
    /// If `depth` is zero.
    pub fn start_deferring(config: Config, depth: usize) -> Result<Self, StartError> {
        Self::start_with(config, depth, true)
    }

    fn start_with(mut config: Config, depth: usize, defers: bool) -> Result<Self, StartError> {
        config.check().map_err(StartError::Config)?;
        config.transactions = config.transactions.min(affordable(config.receive_bytes));
        config.whole_len_max = MESSAGE_LEN_MAX;
        let lines: Arc<[Line]> = (0..config.shards).map(|shard| Line::new(shard, depth)).collect();
        let for_shards = Arc::clone(&lines);
        let node = Node::start(config, move |shard| QueueHandler::new(&for_shards, shard, defers))?;
        Ok(Self { node, lines, next_ticket: AtomicU64::new(0) })
    }

    /// Opens a session and waits until it is open or has failed. The peer's key picks the shard:
    /// there is one session with a peer, so asking again has to meet the first one.
    ///
    /// # Errors
    /// [`QueueError`].
    pub fn connect(&self, address: SocketAddr, key: PublicKey) -> Result<Remote, QueueError> {
        let shard = key.device_id() % self.lines.len() as u64;
        let shard = usize::try_from(shard).expect("below the shard count");
        let (answer, outcome) = sync_channel(1);
        self.order(shard, Order::Connect { address, key, answer })?;
        loop {
            match outcome.recv_timeout(STOP_CHECKED_EVERY) {
                Ok(outcome) => return outcome,
                // A shard that is stuck may end without an answer.
                Err(RecvTimeoutError::Timeout) if !self.node.has_ended(shard) => {}
                Err(_) => return Err(QueueError::Stopped),
            }
        }
    }

    /// Queues a message; returns the ticket that its outcome will name.
    ///
    /// # Errors
    /// [`QueueError::Full`], or [`QueueError::Stopped`].
    pub fn send(
        &self,
        to: Remote,
        options: impl Into<SendOptions>,
        payload: &[u8],
    ) -> Result<u64, QueueError> {
        let options = options.into();
        let line = self.line(to.shard)?;
        if line.is_unread() {
            return Err(QueueError::Full(QueueBound::Unread));
        }
        // What may be dropped does not wait, and so needs no place.
        let _place = match may_drop(&options) {
            true => None,
            false => line.sends.take(to.peer).map_err(|reason| no_place(to, reason))?,
        };
        let ticket = self.next_ticket.fetch_add(1, Ordering::Relaxed);
        let payload = line.copy(payload);
        let send = Sending { peer: to.peer, options, ticket, payload, _place };
        self.order(to.shard, Order::Send(send))?;
        Ok(ticket)
    }

    /// Queues the reply to a request. One that is longer than the peer takes ends the request as
    /// [`Outcome::HandlerFailed`].
    ///
    /// # Errors
    /// [`QueueError::Full`], or [`QueueError::Stopped`].
    pub fn reply(&self, to: Remote, transaction: u64, payload: &[u8]) -> Result<(), QueueError> {
        let line = self.line(to.shard)?;
        let _place = line.replies.take(to.peer).map_err(|reason| no_place(to, reason))?;
        let payload = line.copy(payload);
        let reply = Replying { peer: to.peer, transaction, payload, _place };
        self.answer(to.shard, Answer::Reply(reply))
    }

    /// Ends a request without a reply: it was taken, and what it asks could not be done. Its sender
    /// gets [`Outcome::HandlerFailed`].
    ///
    /// # Errors
    /// [`QueueError::Full`], or [`QueueError::Stopped`].
    pub fn fail(&self, to: Remote, transaction: u64) -> Result<(), QueueError> {
        self.answer(to.shard, Answer::Reject { peer: to.peer, transaction, reason: None })
    }

    /// Ends a request without a reply: it was not taken. Its sender gets [`Outcome::Refused`] with
    /// `reason`.
    ///
    /// # Errors
    /// [`QueueError::Full`], or [`QueueError::Stopped`].
    pub fn refuse_request(
        &self,
        to: Remote,
        transaction: u64,
        reason: RefuseReason,
    ) -> Result<(), QueueError> {
        let reason = Some(reason);
        self.answer(to.shard, Answer::Reject { peer: to.peer, transaction, reason })
    }

    /// The time on the shards' clock, for a [deadline](SendOptions::deadline). It goes on while the
    /// application or a shard does not, and compares with that of other nodes of this host.
    ///
    /// ```
    /// use raet::time::Duration;
    /// use raet::{QueueError, QueueNode, Remote, SendOptions, Service};
    ///
    /// fn quote(node: &QueueNode, to: Remote, price: &[u8]) -> Result<u64, QueueError> {
    ///     let stale = node.now() + Duration::from_millis(50);
    ///     node.send(to, SendOptions::new(Service::ExactlyOnce).deadline(stale), price)
    /// }
    /// ```
    pub fn now(&self) -> Instant {
        crate::io::now()
    }

    /// Has messages that were queued to a peer before, and linger for company, leave at once; those
    /// that wait for room, once there is some. It does not say how many have no outcome yet, as
    /// [`Context::flush`](crate::Context::flush) does: the shard carries it out later, and their
    /// outcomes come one by one. [`QueueNode::drain_peer`] tells when there are none left.
    ///
    /// # Errors
    /// [`QueueError::Full`], or [`QueueError::Stopped`].
    pub fn flush(&self, to: Remote) -> Result<(), QueueError> {
        self.order(to.shard, Order::Flush { peer: to.peer })
    }

    /// Takes back a message of ours, named by the ticket of its [send](QueueNode::send), as
    /// [`Context::cancel`](crate::Context::cancel) does. Its outcome follows: not sent if it never left, indeterminate
    /// otherwise, and whatever it already was if this came too late.
    ///
    /// # Errors
    /// [`QueueError::Full`], or [`QueueError::Stopped`].
    pub fn cancel(&self, to: Remote, ticket: u64) -> Result<(), QueueError> {
        self.order(to.shard, Order::Cancel { peer: to.peer, ticket })
    }

    /// A message counts as delivered: its sender is told so, unless the association with it is
    /// over; then it sends the message again, or has to call it indeterminate.
    ///
    /// # Errors
    /// [`QueueError::Full`], or [`QueueError::Stopped`].
    pub fn commit(&self, receipt: Receipt) -> Result<(), QueueError> {
        self.answer(receipt.shard, Answer::Commit(receipt.deferred))
    }

    /// Refuses a message, in place of its [commit](QueueNode::commit): its sender gets
    /// [`Outcome::Refused`] with `reason`, unless the association with it is over. A
    /// message that was committed before stays delivered.
    ///
    /// # Errors
    /// [`QueueError::Full`], or [`QueueError::Stopped`].
    pub fn refuse(&self, receipt: Receipt, reason: RefuseReason) -> Result<(), QueueError> {
        self.answer(receipt.shard, Answer::Refuse { deferred: receipt.deferred, reason })
    }

    /// Closes the session with a peer.
    ///
    /// # Errors
    /// [`QueueError::Full`], or [`QueueError::Stopped`].
    pub fn close(&self, peer: Remote) -> Result<(), QueueError> {
        self.order(peer.shard, Order::Close { peer: peer.peer })
    }

    /// Closes the session with a peer in order, as [`Context::drain`](crate::Context::drain) does:
    /// once every message that was queued before has its outcome and every reply was acknowledged,
    /// after `patience` at the latest. What is queued later ends as not sent. The end is told by
    /// [`SessionChange::Closed`], behind the last outcome.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use raet::{Incoming, QueueError, QueueNode, Remote, Service, SessionChange};
    /// fn say_goodbye(node: &QueueNode, to: Remote) -> Result<(), QueueError> {
    ///     node.send(to, Service::ExactlyOnce, b"goodbye")?;
    ///     node.drain_peer(to, Duration::from_secs(5))?;
    ///     loop {
    ///         match node.receive() {
    ///             Some(Incoming::Session { peer, change: SessionChange::Closed(_) })
    ///                 if peer == to => return Ok(()),
    ///             _ => std::thread::yield_now(),
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// [`QueueError::Full`], or [`QueueError::Stopped`].
    pub fn drain_peer(&self, peer: Remote, patience: Duration) -> Result<(), QueueError> {
        self.order(peer.shard, Order::DrainPeer { peer: peer.peer, patience })
    }

    /// Takes what arrived next, from any shard, without waiting.
    pub fn receive(&self) -> Option<Incoming> {
        for (shard, line) in self.lines.iter().enumerate() {
            if let Some(incoming) = line.incoming.pop().or_else(|| line.take_rest()) {
                if matches!(incoming, Incoming::Message { .. }) {
                    line.taken.fetch_add(1, Ordering::Release);
                }
                // Room in the queue is credit for a peer: the shard should notice.
                self.node.wake(shard);
                return Some(incoming);
            }
        }
        None
    }

    /// Stops in order: nothing more is sent than was queued before, and every session is closed
    /// once all has its outcome, after `patience` at the latest. Returns everything that the
    /// application did not take before, the outcomes of what was not delivered among it.
    ///
    /// # Errors
    /// The driver's, if one was broken.
    ///
    /// # Panics
    /// With the panic of a shard, if one panicked.
    pub fn drain(mut self, patience: Duration) -> io::Result<Vec<Incoming>> {
        let mut rest = Vec::new();
        let mut untold = 0..self.lines.len();
        let mut waited = Duration::ZERO;
        while !self.node.is_finished() {
            // Behind what was queued before.
            while let Some(shard) = untold.next() {
                if let Err(QueueError::Full(_)) = self.order(shard, Order::Drain(patience)) {
                    untold.start = shard;
                    break;
                }
            }
            rest.extend(std::iter::from_fn(|| self.receive()));
            thread::sleep(DRAIN_CHECKED_EVERY);
            waited += DRAIN_CHECKED_EVERY;
            if waited >= patience {
                self.node.drain(Duration::ZERO);
            }
        }
        self.node.join()?;
        rest.extend(std::iter::from_fn(|| self.receive()));
        Ok(rest)
    }

    /// The node behind the queues.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The line of a shard that has not ended.
    fn line(&self, shard: usize) -> Result<&Line, QueueError> {
        let line = &self.lines[shard];
        if line.is_closed() { Err(QueueError::Stopped) } else { Ok(line) }
    }

    fn order(&self, shard: usize, order: Order) -> Result<(), QueueError> {
        if !self.line(shard)?.order(order) {
            return Err(QueueError::Full(QueueBound::Depth));
        }
        self.node.wake(shard);
        Ok(())
    }

    fn answer(&self, shard: usize, answer: Answer) -> Result<(), QueueError> {
        let answers = &self.line(shard)?.answers;
        answers.push(answer).map_err(|_| QueueError::Full(QueueBound::Depth))?;
        self.node.wake(shard);
        Ok(())
    }
}

/// Whether a message that finds no room is dropped at once, as its options say.
fn may_drop(options: &SendOptions) -> bool {
    options.heeded().overflow != Overflow::Wait
}

/// As many messages or replies to a peer wait as may; why, if the shard has found out.
fn no_place(to: Remote, reason: Option<FullReason>) -> QueueError {
    QueueError::Full(reason.map_or(QueueBound::Depth, |reason| QueueBound::Peer { to, reason }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Poller;
    use crate::protocol::session::Identity;
    use crate::shard::{Context, Handler, Message};

    struct Mute;

    impl Handler for Mute {
        fn on_message(&mut self, _: &mut Context<'_>, _: Message<'_>) {}
    }

    /// Names of so many peers, as only an endpoint gives them.
    pub(super) fn peers(count: usize) -> Vec<PeerId> {
        let identity = || Identity::random().expect("the system has randomness");
        let mut node = Poller::new(Config::new(identity()), Mute).expect("loopback works");
        let address = node.address();
        let connect = |_| node.with(|_, context| context.connect(address, identity().public()));
        (0..count).map(connect).map(|peer| peer.expect("there is room for a peer")).collect()
    }

    // PROTOCOL 6.3
    #[test]
    fn window_is_what_the_reserved_memory_can_hold() {
        for (receive_bytes, window) in [(16 << 20, 256), (1, 64), (u64::MAX, 65_536)] {
            assert_eq!(affordable(receive_bytes), window, "{receive_bytes}");
        }
    }

    #[test]
    fn full_queue_names_its_depth_unless_the_shard_knows_what_the_peer_waits_for() {
        let to = Remote { shard: 0, peer: peers(1)[0] };
        let told = |reason| no_place(to, reason).to_string();
        assert_eq!(told(None), "the queue to the shard is full");
        assert_eq!(
            told(Some(FullReason::Buffers)),
            "the queue to the peer is full, and waits: all send buffers are in use"
        );
    }
}
