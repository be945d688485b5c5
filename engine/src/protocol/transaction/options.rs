//! What a sender asks for one message, beside its bytes.

use std::sync::Arc;

use super::service::features_in;
use crate::protocol::wire::ServiceKind;
use crate::time::Instant;

/// How soon a message leaves when several wait for the same peer. Classes share the path by
/// weight, 16 packets to 4 to 1, so that none starves. For a second after an urgent message, bulk
/// that alone waits fills the path no further than it must, so that the next one meets no queue:
/// it may then have half of its rate (PROTOCOL 6.20).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Priority {
    /// Small and awaited: may also use the part of the window that is kept for it.
    Urgent,
    /// What most messages are.
    #[default]
    Normal,
    /// Large and patient: yields to what is urgent.
    Bulk,
}

impl Priority {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Urgent, Self::Normal, Self::Bulk];
}

/// What an ordered stream promises, and how its losses are repaired (PROTOCOL 6.24).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum StreamKind {
    /// No gap, ever: sent again after each loss until reported.
    #[default]
    Reliable = 0,
    /// Sent a finite number of times; what is lost for good is a gap that the receiver is told of.
    Lossy = 1,
    /// No gap, ever; sent again only when the receiver asks for what it misses.
    ReliableOnRequest = 2,
    /// Sent again only on request; what does not come in time is a gap.
    LossyOnRequest = 3,
}

/// Names an ordered stream of one direction of an association.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Stream {
    /// What the stream promises. Streams of different kinds with one number are different.
    pub kind: StreamKind,
    /// Which of the 256 streams of its kind.
    pub number: u8,
}

/// Bits of an order index that name the stream.
const STREAM_BITS: u32 = 10;

impl Stream {
    /// The stream that an order index (`oi`) belongs to.
    pub const fn of_order(order: u64) -> Self {
        let kind = match order & 3 {
            0 => StreamKind::Reliable,
            1 => StreamKind::Lossy,
            2 => StreamKind::ReliableOnRequest,
            _ => StreamKind::LossyOnRequest,
        };
        Self { kind, number: (order >> 2).to_le_bytes()[0] }
    }

    /// The order index of the message at `index`, counted from 0, of this stream.
    pub const fn order(self, index: u64) -> u64 {
        index << STREAM_BITS | (self.number as u64) << 2 | self.kind as u64
    }

    /// The order index `count` places after `order`.
    pub const fn order_after(order: u64, count: u64) -> u64 {
        order + (count << STREAM_BITS)
    }

    /// The place in its stream that an order index names.
    pub const fn index_of(order: u64) -> u64 {
        order >> STREAM_BITS
    }

    /// One past the largest index that an order index can carry.
    pub const INDEX_END: u64 = 1 << (64 - STREAM_BITS);

    /// Whether the receiver may pass over what is missing.
    pub const fn is_lossy(self) -> bool {
        matches!(self.kind, StreamKind::Lossy | StreamKind::LossyOnRequest)
    }

    /// Whether only requests of the receiver repair losses.
    pub const fn is_on_request(self) -> bool {
        matches!(self.kind, StreamKind::ReliableOnRequest | StreamKind::LossyOnRequest)
    }
}

/// What becomes of a message that finds no room, in levels that are not reported on: what is old
/// may be worth less than what is new, or the other way round (PROTOCOL 6.33).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Overflow {
    /// It is refused as full, to be offered again. Other levels know no other way.
    #[default]
    Wait,
    /// It is refused as full and counted as dropped: it will not be offered again.
    DropNewest,
    /// The oldest that were sent likewise and have not left end as not sent, a packet's worth at a
    /// time, from when half of the window is in use. Only what still finds no room is refused and
    /// counted (PROTOCOL 6.33).
    DropOldest,
}

/// How a message is sent. A service level alone is the same with everything else at its default.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SendOptions {
    /// The service level.
    pub service: ServiceKind,
    /// How soon it leaves.
    pub priority: Priority,
    /// The stream of a message of level sequence; other levels do not look at it.
    pub stream: Stream,
    /// After this the message is of no use: it does not leave any more, a reply is not awaited,
    /// and it ends as not sent if it never left, as indeterminate otherwise (PROTOCOL 6.31).
    /// Streams that promise no gap pay no heed to it.
    pub deadline: Option<Instant>,
    /// What gives way when there is no room.
    pub overflow: Overflow,
}

impl SendOptions {
    /// The given level, normal priority, stream 0, no deadline.
    pub const fn new(service: ServiceKind) -> Self {
        let stream = Stream { kind: StreamKind::Reliable, number: 0 };
        let (priority, overflow) = (Priority::Normal, Overflow::Wait);
        Self { service, priority, stream, deadline: None, overflow }
    }

    /// These, at another priority.
    #[must_use]
    pub const fn priority(self, priority: Priority) -> Self {
        Self { priority, ..self }
    }

    /// These, in an ordered stream.
    #[must_use]
    pub const fn stream(self, kind: StreamKind, number: u8) -> Self {
        Self { stream: Stream { kind, number }, ..self }
    }

    /// These, of use until `deadline` only.
    #[must_use]
    pub const fn deadline(self, deadline: Instant) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// These, giving way as told when there is no room.
    #[must_use]
    pub const fn overflow(self, overflow: Overflow) -> Self {
        Self { overflow, ..self }
    }
}

impl SendOptions {
    /// Without what its level pays no heed to.
    pub fn heeded(&self) -> Self {
        let row = features_in(self.service, self.stream);
        let is_gapless = row.order && !self.stream.is_lossy();
        Self {
            deadline: self.deadline.filter(|_| !is_gapless),
            overflow: if row.ack { Overflow::Wait } else { self.overflow },
            ..*self
        }
    }
}

impl From<ServiceKind> for SendOptions {
    fn from(service: ServiceKind) -> Self {
        Self::new(service)
    }
}

/// A message to send. What fits a packet is copied into a buffer for one; of what does not,
/// the engine keeps a share and copies segment by segment.
#[derive(Clone, Debug)]
pub enum Outbound<'a> {
    /// Bytes of the caller. If they need segments, they are copied once more, as a whole.
    Borrowed(&'a [u8]),
    /// Shared bytes, which are never copied as a whole, however often they are sent.
    Shared(Arc<[u8]>),
}

impl std::ops::Deref for Outbound<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl<'a> From<&'a [u8]> for Outbound<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Borrowed(bytes)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Outbound<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self::Borrowed(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for Outbound<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self::Borrowed(bytes)
    }
}

impl From<Arc<[u8]>> for Outbound<'_> {
    fn from(bytes: Arc<[u8]>) -> Self {
        Self::Shared(bytes)
    }
}

/// The bytes of a message on their way to where they are kept.
pub enum MessageBytes<'a> {
    /// They exist.
    Given(Outbound<'a>),
    /// So many, which this writes once there is room for them.
    Written(usize, &'a mut dyn FnMut(&mut [u8])),
}

impl MessageBytes<'_> {
    /// Bytes of the message.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Given(message) => message.len(),
            Self::Written(len, _) => *len,
        }
    }

    /// Writes them over `place`, which is as long.
    pub(super) fn write(&mut self, place: &mut [u8]) {
        match self {
            Self::Given(message) => place.copy_from_slice(message),
            Self::Written(_, write) => write(place),
        }
    }

    /// The whole, to be kept.
    pub(super) fn share(self) -> Arc<[u8]> {
        match self {
            Self::Given(Outbound::Borrowed(bytes)) => bytes.into(),
            Self::Given(Outbound::Shared(bytes)) => bytes,
            Self::Written(len, write) => {
                let mut whole: Arc<[u8]> = std::iter::repeat_n(0, len).collect();
                write(Arc::get_mut(&mut whole).expect("nobody else has it yet"));
                whole
            }
        }
    }
}

impl<'a, T: Into<Outbound<'a>>> From<T> for MessageBytes<'a> {
    fn from(message: T) -> Self {
        Self::Given(message.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        // PROTOCOL 6.24
        #[test]
        fn order_index_tells_stream_and_place(number: u8, kind in 0u64..4, index in 0u64..1 << 54) {
            let stream = Stream::of_order(u64::from(number) << 2 | kind);
            prop_assert_eq!(stream.number, number);
            let order = stream.order(index);
            prop_assert_eq!(Stream::of_order(order), stream);
            prop_assert_eq!(Stream::index_of(order), index);
        }
    }
}
