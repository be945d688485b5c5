//! RAET: reliable, encrypted messages between machines over UDP, as fast as the hardware allows.
//!
//! A [`Node`] has an identity and event loops, its shards. Two nodes open one authenticated
//! session and exchange messages in it, each at a [`Service`] level of its own: from
//! fire-and-forget to exactly-once and request/response. Every message that was taken ends in
//! exactly one [`Outcome`].
//!
//! ```text
//!  application ─ send ─► outbox: number, frame ─► session: seal ─► driver ─► kernel
//!                        (in the buffer from which the message will leave)
//!  kernel ─► driver ─► head ─► session: open ─► inbox: seen before? ─ on_message ─► application
//!                        (in the buffer in which the message arrived)
//! ```
//!
//! # Three ways in
//!
//! - A [`Handler`] runs on each shard's own thread and borrows messages from the receive buffer:
//!   the lowest latency. See [`Node::start`].
//! - A [`Poller`] is a node without a thread: the caller asks for each turn.
//! - A [`QueueNode`] puts bounded queues between shards and the application's own threads.
//!
//! # Two nodes in one process
//!
//! ```
//! use raet::{Config, Context, Handler, Identity, Message, Poller, Service, Trust, TrustPolicy};
//! use raet::time::Duration;
//!
//! #[derive(Default)]
//! struct Inbox(Vec<Vec<u8>>);
//!
//! impl Handler for Inbox {
//!     fn on_message(&mut self, _context: &mut Context<'_>, message: Message<'_>) {
//!         self.0.push(message.payload.to_vec());
//!     }
//! }
//!
//! let mut alice = Poller::new(Config::new(Identity::random()?), Inbox::default())?;
//! let bob_identity = Identity::random()?;
//! let bob_key = bob_identity.public();
//! let mut config = Config::new(bob_identity);
//! config.trust = Trust::new(TrustPolicy::Always);
//! let mut bob = Poller::new(config, Inbox::default())?;
//!
//! let address = bob.address();
//! let peer = alice.with(|_, context| context.connect(address, bob_key))?;
//! let mut is_sent = false;
//! while bob.with(|inbox, _| inbox.0.is_empty()) {
//!     is_sent |= !is_sent
//!         && alice.with(|_, context| context.send(peer, Service::ExactlyOnce, b"hello")).is_ok();
//!     alice.poll(Duration::ZERO)?;
//!     bob.poll(Duration::ZERO)?;
//! }
//! assert_eq!(bob.with(|inbox, _| inbox.0[0].clone()), b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// Rooms are public for benches, fuzz targets and tests; what this page names is the interface.
#[doc(hidden)]
pub mod buffer;
pub mod durable;
#[doc(hidden)]
pub mod io;
#[doc(hidden)]
pub mod limits;
pub mod node;
#[doc(hidden)]
pub mod protocol;
#[doc(hidden)]
pub mod shard;
pub mod time;

pub use io::DriverCounters;
pub use io::impair::Impairment;
pub use io::kernel::IoChoice;
pub use node::{
    Config, ConfigError, Incoming, IoSummary, Network, Node, Payload, Poller, QueueBound,
    QueueError, QueueNode, Receipt, Remote, StartError,
};
pub use protocol::crypto::Suite;
pub use protocol::drop_reason::{DropCounters, DropReason};
pub use protocol::endpoint::{
    Burst, CloseReason, ConnectError, Deferred, EndpointCounters, FullReason, MemoryStatistics,
    MessageKey, Mtu, OutcomeCounters, PathStatistics, PeerId, SendError, SessionChange,
};
pub use protocol::session::recovery::CongestionConfig as Congestion;
pub use protocol::session::{
    Identity, LastHeard, Mode, PublicKey, Reason, Refusal, Standing, Trust, TrustPolicy,
};
pub use protocol::transaction::{
    Outbound, Outcome, Overflow, Priority, RefuseReason, Resolved, SendOptions, Stream, StreamKind,
};
pub use protocol::wire::ServiceKind as Service;
pub use shard::{Batch, Context, Handler, Idle, Message, Origin, Piece, ShardReport};
