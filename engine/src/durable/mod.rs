//! Exactly-once across restarts of either side.
//!
//! A session remembers what was sent and what was seen as long as both processes live. When one
//! restarts, level exactly-once says *indeterminate*: at most once always, exactly once if neither
//! process restarts, never a silent duplicate. To say more, both ends have to write down what
//! they know:
//!
//! ```text
//!  application ─ accept ─► Outbox on disk ─ key, payload ─► QueueNode ~~~► QueueNode
//!                             ▲                                              │ receive
//!                             │ done                    one transaction of the application's
//!                             │                         database: effect and DedupKey
//!                             └───────────── Delivered ◄~~~~~~~~~~~~~~~~~~~ commit
//! ```
//!
//! - The sender writes a record into its [`Outbox`] before it is sent first, and sends it again,
//!   after whatever restarts, until it was delivered ([`DurableSender`]). The record keeps its
//!   [`DedupKey`]: the outbox's own id, drawn once, and the record's number in it.
//! - The receiver commits the key in the *same* transaction as the effect, then calls
//!   [`QueueNode::commit`](crate::QueueNode::commit), which lets the sender hear "delivered". A
//!   message whose key is known has no further effect and is committed all the same
//!   ([`DurableReceiver`]).
//! - A [`Handler`](crate::Handler) does the same on the shard's thread. Of a long record that it takes
//!   piece by piece, the first piece has the key ([`DurableMessage::parse`]), and the last is
//!   [deferred](crate::Context::defer) until the transaction is committed.
//! - The key is kept until the sender's low-water mark passes it, and the mark is kept for good.
//!
//! Then, and only then: each record that was accepted takes effect exactly once, whichever side
//! crashes whenever and however often; one that was not accepted does not. A key written *after*
//! its effect gives one or two effects, one written *before* it gives none or one;
//! `engine/tests/model.rs` shows each. What is not covered: an outbox or a database that is put
//! back to an earlier state (a backup, a snapshot of the machine) forgets what it promised.

mod file;
mod message;
mod outbox;
mod receiver;
mod sender;

pub use file::{FileOutbox, OpenError, OutboxOptions, Survives};
pub use message::{DedupKey, DurableMessage, OutboxId};
pub use outbox::{Outbox, OutboxError};
pub use receiver::{DurableReceiver, Received};
pub use sender::{DurableSender, Ended, RecordNews};
