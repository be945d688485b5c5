//! Control bodies: what two endpoints tell each other, as blocks in one body (PROTOCOL 2.17).
//!
//! An acknowledgement speaks on two planes at once: which *packets* arrived, for loss detection
//! and congestion control, and what became of which *transactions*. Both are lists of ranges,
//! largest first, so that a list cut at its bound keeps what is newest. Everything else that must
//! travel beside messages rides in the same body.
//!
//! A block is `type varint, length varint, value`. A type that is not known is passed over by its
//! length, so later versions can add some. Reading checks a block whole before it is handed out:
//! the ranges of a [`PacketRanges`] or [`TransactionRanges`] are descending and bounded, and
//! nothing that uses them has to ask again.

mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{Blocks, MissingSegments, PacketRanges, TransactionRanges};
pub use write::Writer;

use crate::time::Duration;

/// Characters of the text in a close block.
pub const CLOSE_TEXT_LEN_MAX: usize = 64;

/// One block of a control body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Block<'a> {
    /// Packets that arrived.
    PacketRanges(PacketRanges<'a>),
    /// Marks on the packets that arrived.
    EcnCounts(EcnCounts),
    /// How often the sender of this block wants to be acknowledged.
    AckFrequency(AckFrequency),
    /// What became of transactions.
    TransactionRanges(TransactionRanges<'a>),
    /// Which segments of a message arrived, and which did not.
    MissingSegments(MissingSegments<'a>),
    /// How far the receiver of this block may go.
    Credit(Credit),
    /// How far it may go in one message.
    Grant(Grant),
    /// One past the highest transaction id that the sender of this block has used.
    Issued(u64),
    /// The lowest transaction id that the sender of this block still cares about, among those it
    /// initiated.
    LowWaterMark(u64),
    /// The sender of this block has ended the session.
    Close(Close<'a>),
    /// Nothing but a reason to acknowledge.
    Ping,
    /// To be echoed to where it came from, in proof that its receiver is there.
    PathChallenge([u8; 8]),
    /// The echo of a challenge.
    PathResponse([u8; 8]),
    /// What its sender will answer in a reset of this session.
    ResetToken([u8; 16]),
}

/// Totals of marked packets on one lane since the session began (RFC 9000 19.3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EcnCounts {
    /// The lane that was received.
    pub lane: u16,
    /// Packets with ECT(0).
    pub ect0: u64,
    /// Packets with ECT(1).
    pub ect1: u64,
    /// Packets with CE.
    pub ce: u64,
}

/// How often packets of a lane should be acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AckFrequency {
    /// The lane that is sent.
    pub lane: u16,
    /// After so many packets,
    pub packets: u64,
    /// but no later than this after the first of them.
    pub delay: Duration,
}

/// Whose numbering a list of transactions is in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Initiator {
    /// The receiver of the block initiated them: they are acknowledged as messages.
    Receiver = 0,
    /// The sender of the block initiated them: they are acknowledged as replies.
    Sender = 1,
}

/// What became of transactions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TransactionStatus {
    /// Delivered.
    Done,
    /// Held, not yet delivered.
    Accepted,
    /// Not delivered, and will not be, for this reason code.
    Refused(u64),
    /// Not delivered, and too late to be.
    Expired,
}

/// How much the receiver of a block may have outstanding. Absolute, and never less than before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Credit {
    /// The highest transaction id that it may use.
    pub transaction_max: u64,
    /// Body bytes that it may send in messages since the association began.
    pub bytes_max: u64,
}

/// Memory for the first segments of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant {
    /// Who initiated the transaction.
    pub initiator: Initiator,
    /// The transaction of the message.
    pub transaction: u64,
    /// The segments below this number may be sent.
    pub end: u64,
}

/// Why a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Close<'a> {
    /// A code for programs.
    pub reason: u64,
    /// Printable ASCII for people, at most [`CLOSE_TEXT_LEN_MAX`] bytes.
    pub text: &'a str,
}

/// Block types on the wire.
mod block_type {
    pub(super) const PACKET_RANGES: u64 = 1;
    pub(super) const ECN_COUNTS: u64 = 2;
    pub(super) const TRANSACTION_RANGES: u64 = 3;
    pub(super) const MISSING_SEGMENTS: u64 = 4;
    pub(super) const CREDIT: u64 = 5;
    pub(super) const LOW_WATER_MARK: u64 = 6;
    pub(super) const CLOSE: u64 = 7;
    pub(super) const PADDING: u64 = 8;
    pub(super) const PING: u64 = 9;
    pub(super) const PATH_CHALLENGE: u64 = 10;
    pub(super) const PATH_RESPONSE: u64 = 11;
    pub(super) const RESET_TOKEN: u64 = 12;
    pub(super) const ACK_FREQUENCY: u64 = 13;
    pub(super) const ISSUED: u64 = 14;
    pub(super) const GRANT: u64 = 15;
}
