//! What an endpoint tells its owner, and what it answers when asked to send.

use std::net::SocketAddr;
use std::ops::Range;

use crate::buffer::{Block, Ecn, Lease};
use crate::protocol::session::{LastHeard, Mode, PublicKey, Refusal, Suite};
use crate::protocol::transaction::{Resolved, Stream};
use crate::protocol::wire::{BodyKind, ServiceKind, bundle};
use crate::time::Duration;

/// Names a peer of one endpoint, from its first handshake to the end of what we have in common with
/// it, told by [`SessionChange::Closed`]. What comes of the same peer thereafter has another name, and
/// with it other transactions: an answer, a commit or a cancellation that comes too late meets
/// nobody. A name whose peer is gone is answered with [`SendError::NotConnected`]; names are not used
/// twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PeerId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// A message that its receiver took and has not committed yet (PROTOCOL 6.30).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Deferred {
    pub(super) peer: PeerId,
    pub(super) transaction: u64,
}

/// Something that the endpoint's owner should know.
#[derive(Debug)]
pub enum Event {
    /// Messages of one packet.
    Messages(Messages),
    /// A datagram for a session that another shard owns.
    Misrouted {
        /// Who sent it.
        from: SocketAddr,
        /// The mark on it.
        ecn: Ecn,
        /// The datagram.
        datagram: Lease,
        /// The shard that owns the session.
        shard: usize,
    },
    /// A piece of a message that is handed over in pieces.
    Segment(Segment),
    /// A message of which pieces were handed over will not be completed.
    Abandoned {
        /// Who sent it.
        peer: PeerId,
        /// Its transaction.
        transaction: u64,
        /// Whether it replies to a request of ours.
        is_reply: bool,
    },
    /// Messages of a lossy stream that will not come any more, before those that follow.
    Gap {
        /// Who sent the stream.
        peer: PeerId,
        /// The stream.
        stream: Stream,
        /// Their places in it.
        missing: Range<u64>,
    },
    /// Transactions of ours that ended.
    Outcomes {
        /// The peer they were sent to.
        peer: PeerId,
        /// The run.
        resolved: Resolved,
    },
    /// A change in the relation with a peer.
    Session {
        /// The peer.
        peer: PeerId,
        /// What changed.
        change: SessionChange,
    },
}

/// The messages of one packet, in the buffer they arrived in.
#[derive(Debug)]
pub struct Messages {
    pub(super) peer: PeerId,
    pub(super) service: ServiceKind,
    pub(super) first: u64,
    pub(super) skip: u32,
    pub(super) count: u32,
    pub(super) is_reply: bool,
    pub(super) kind: BodyKind,
    /// Order index of the first, in a sequence.
    pub(super) order: u64,
    pub(super) body: Body,
}

/// Bytes that are handed over: where they arrived, or in memory of their own.
#[derive(Debug)]
pub enum Body {
    /// In the buffer they arrived in.
    Lease(Lease),
    /// Put together from segments, or held back for a while.
    Block(Block),
}

impl std::ops::Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Lease(lease) => lease,
            Self::Block(block) => block,
        }
    }
}

/// A piece of a message longer than what is handed over whole. Pieces come in order.
#[derive(Debug)]
pub struct Segment {
    /// Who sent it.
    pub peer: PeerId,
    /// The message's service level.
    pub service: ServiceKind,
    /// Its transaction.
    pub transaction: u64,
    /// Whether it replies to a request of ours.
    pub is_reply: bool,
    /// Length of the whole message in bytes.
    pub total: usize,
    /// Where this piece begins in it.
    pub offset: usize,
    /// The piece.
    pub body: Body,
}

impl Segment {
    /// Whether the message ends with it.
    pub fn is_last(&self) -> bool {
        self.offset + self.body.len() == self.total
    }
}

impl Messages {
    /// Who sent them.
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// Their service level.
    pub fn service(&self) -> ServiceKind {
        self.service
    }

    /// Whether they are replies to requests of ours.
    pub fn is_reply(&self) -> bool {
        self.is_reply
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The transaction of the first message of the packet.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The stream they belong to, and the place of the first in it, in level sequence.
    pub fn stream(&self) -> (Stream, u64) {
        (Stream::of_order(self.order), Stream::index_of(self.order))
    }

    /// Each message with its transaction number.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let is_bundle = self.kind == BodyKind::Bundle;
        let body = if is_bundle { bundle::split(&self.body, self.skip).1 } else { &self.body };
        let mut messages = is_bundle.then(|| bundle::messages(body));
        let first = self.first + u64::from(self.skip);
        (first..first + u64::from(self.count)).map(move |transaction| {
            let next = messages.as_mut().map_or(Some(body), Iterator::next);
            (transaction, next.expect("counted when it was accepted"))
        })
    }
}

/// A change in the relation with a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SessionChange {
    /// The session ended, and with it all that was under way.
    Closed(CloseReason),
    /// The session ended, and what was sent waits for the next: messages are still taken, and the
    /// side that opened the session opens another one. It is told by [`Opened`](Self::Opened), or
    /// by [`Closed`](Self::Closed) if none comes in time.
    Lost(CloseReason),
    /// A session is open: messages can be sent.
    Opened {
        /// The peer's proven identity.
        key: PublicKey,
        /// Where its packets come from.
        address: SocketAddr,
        /// How packets are protected.
        mode: Mode,
        /// The packet cipher.
        suite: Suite,
    },
    /// The session goes on with the peer at another address.
    Moved {
        /// Where its packets come from now.
        address: SocketAddr,
    },
    /// The peer's operator has not decided about our key yet. This and what follows is told of a
    /// first session only: one that is open goes on while its renewal fails.
    Pending {
        /// How long to wait before asking again.
        retry_after: Duration,
    },
    /// The peer does not accept our key, or nothing we offer.
    Refused(Refusal),
    /// The handshake did not end in time.
    TimedOut(LastHeard),
}

/// Why a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseReason {
    /// We closed it.
    ByUs,
    /// The peer closed it.
    ByPeer,
    /// Nothing authentic arrived for the idle time-out.
    Idle,
    /// The peer's process was replaced by a new one, or has forgotten what it knew of us.
    PeerRestarted,
    /// The peer broke a rule that an honest one cannot break by accident.
    Violation,
    /// Key limits are used up.
    KeysExhausted,
    /// The peer does not know the session any more.
    Reset,
}

/// Why a message was not taken. Nothing was done; it may be offered again when that is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendError {
    /// No room for now.
    Full(FullReason),
    /// There is no session with this peer, and none is awaited.
    NotConnected,
    /// The session ends as soon as what was taken before is delivered.
    Closing,
    /// The message exceeds what the peer takes, or what segments can carry on this path.
    TooLarge {
        /// Largest message that is taken now, in bytes.
        max: u64,
    },
}

/// What is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FullReason {
    /// Our send buffers.
    Buffers,
    /// The bytes that the peer reserved for us.
    Bytes,
    /// The places of one ordered stream, or its share of the bytes that the peer reserved for us.
    Stream,
    /// The transactions that the peer granted us.
    Transactions,
}

impl std::fmt::Display for SendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full(FullReason::Buffers) => write!(f, "all send buffers are in use"),
            Self::Full(FullReason::Bytes) => write!(f, "the peer's receive memory is used up"),
            Self::Full(FullReason::Stream) => {
                write!(f, "as much of this stream as the peer holds back is outstanding")
            }
            Self::Full(FullReason::Transactions) => {
                write!(f, "as many transactions as the peer grants are outstanding")
            }
            Self::Closing => write!(f, "the session with this peer is being closed"),
            Self::NotConnected => write!(f, "there is no open session with this peer"),
            Self::TooLarge { max } => write!(f, "the message exceeds {max} bytes"),
        }
    }
}

impl std::error::Error for SendError {}

/// Why a connection attempt was not started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectError {
    /// This node takes no new sessions: it ends.
    Closing,
    /// The peer's key is our own.
    OurselvesAsPeer,
    /// This node listens on one port with several shards: the kernel could hand the peer's
    /// answers to another shard than the one that asked.
    PortShared,
    /// As many peers as configured exist.
    TooManyPeers,
}

impl std::fmt::Display for ConnectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closing => write!(f, "this node is being closed"),
            Self::OurselvesAsPeer => write!(f, "the peer's key is this node's own key"),
            Self::PortShared => write!(
                f,
                "a node whose shards share a port cannot connect from it: use one shard, or a \
                 second node that does not listen"
            ),
            Self::TooManyPeers => write!(f, "the configured number of peers is reached"),
        }
    }
}

impl std::error::Error for ConnectError {}
