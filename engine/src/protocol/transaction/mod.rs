//! One exchange at one service level: retry, duplicates, acknowledgement, reply.
//!
//! A transaction is one message on its way. Its initiator numbers it (`ti`, in order, one
//! numbering for each direction of an association), keeps it until its fate is known, and learns
//! that fate from the peer's acknowledgements; the other side remembers which numbers it has
//! seen, in one bit each. What a service level promises is a row of independent features
//! ([`Features`]), and the machines here read features, never the level.
//!
//! ```text
//!  send ─► Outbox: open unit ─► ready ─► in flight ─► resolved ─► outcome
//!                                 ▲          │ lost, while the features allow another try
//!                                 └──────────┘
//!  packet opened ─► Inbox: seen before? beyond credit? ─► deliver ─► done, as ranges in the ack
//! ```
//!
//! Messages travel in *units*: one packet's body, with one message or a bundle of them. The unit
//! is what is sent, lost and sent again; a message's cost on this path is a copy and a few adds.
//! Packet numbers, keys and addresses are unknown here: the endpoint joins this room to the
//! session's, which is how exactly-once can be tested without a key in sight.

mod assembly;
mod bits;
mod escrow;
mod grant;
mod inbox;
mod options;
mod outbox;
mod schedule;
mod segmented;
mod service;
mod unit;

pub use assembly::{Assemblies, AssemblyKey, Piece, Progress};
pub use bits::BitRing;
pub use escrow::{Early, Escrow, Place};
pub use grant::GrantWindow;
pub use inbox::{Acceptance, Inbox};
pub use options::{MessageBytes, Outbound, Overflow, Priority, SendOptions, Stream, StreamKind};
pub use outbox::{Outbox, OutboxConfig, PushError, Resolved, Run};
pub use service::{Features, Outcome, RefuseReason, Retry, features, features_in};
pub use unit::{Direction, Unit, UnitId};
