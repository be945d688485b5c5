//! Bytes to packet and back: the terminator, the head, the split, bundles and control bodies.
//!
//! One datagram is one packet: `head CRLF CRLF auth body tail`. The head is a small JSON object
//! that anyone can read in a capture; everything that would make JSON slow or ambiguous is
//! forbidden to it, and we write it in exactly one way. That lets the common case be a comparison
//! with the last head instead of a parse:
//!
//! ```text
//! datagram ─► HeadReader ── resembles the last head? read three numbers ────────────► Packet
//!                 └─► scan ── our own way of writing? one strict pass ─► Fields ─► ───┘
//!                       └─► json ── any other way: simd-json, then checks ─► Fields ──┘
//! ```
//!
//! The three ways agree on every input; `naive.rs` is what they are held against. Nothing here
//! knows what a packet means to a session or a transaction. What is wrong with an arriving
//! datagram is a [`DropReason`](super::drop_reason::DropReason), never a panic.

pub mod bundle;
pub mod control;
mod digits;
mod header;
mod json;
mod kinds;
#[cfg(test)]
mod naive;
mod predict;
mod scan;
mod split;
pub mod tail;
#[cfg(test)]
mod tests;
pub mod varint;
mod write;

pub use header::{Head, INTEGER_MAX};
pub use kinds::{AuthKind, BodyKind, Flags, PacketKind, ServiceKind, TailKind};
pub use predict::HeadReader;
pub use split::{Packet, find_end, split, split_any};
pub use write::{HeadWriter, ORDER_LEN_MAX, SEGMENT_LEN_MAX, encode};
