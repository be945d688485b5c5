//! Service levels as rows of features, and the outcomes they can end in.

use super::options::{Stream, StreamKind};
use crate::limits::{REFUSED_EXPIRED, REFUSED_FAILED};
use crate::protocol::wire::ServiceKind;

/// How a sender repeats a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retry {
    /// A set number of copies, spaced by a round trip, whatever comes back.
    Copies,
    /// Again after each loss until acknowledged or a set number of tries is used up.
    Finite,
    /// Again after each loss until acknowledged, as long as the association lives.
    Forever,
    /// Sent once.
    Never,
    /// Again when the receiver asks for it.
    Requested,
}

impl Retry {
    /// Whether nothing is to be done for a message that left until something is heard of it.
    pub(super) const fn waits_for_news(self) -> bool {
        matches!(self, Self::Finite | Self::Forever | Self::Requested)
    }
}

/// What a service level consists of. Machines read these; none matches on the level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features {
    /// How the sender repeats.
    pub retry: Retry,
    /// Whether the receiver reports the transaction's fate.
    pub ack: bool,
    /// Whether the receiver delivers a transaction at most once.
    pub dedup: bool,
    /// Whether messages of one stream are delivered in their order.
    pub order: bool,
    /// Whether the transaction ends with a reply.
    pub reply: bool,
}

impl Features {
    /// Whether a sender waits for the report on a message and nothing else will bring it soon.
    pub const fn asks_for_reports(&self) -> bool {
        self.ack && !self.reply && !matches!(self.retry, Retry::Requested)
    }
}

/// The row of `service` (PROTOCOL 6.1), of a reliable stream for level sequence.
///
/// None of them promises more than its row. In particular `ExactlyOnce` holds while neither
/// process restarts: a restart turns what was in flight into [`Outcome::Indeterminate`], never
/// into a second delivery (PROTOCOL 6.13).
pub const fn features(service: ServiceKind) -> Features {
    const fn row(retry: Retry, ack: bool, dedup: bool) -> Features {
        Features { retry, ack, dedup, order: false, reply: false }
    }
    match service {
        ServiceKind::Maybe => row(Retry::Never, false, false),
        ServiceKind::Repeat => row(Retry::Copies, false, false),
        ServiceKind::RepeatDedup => row(Retry::Copies, false, true),
        ServiceKind::MoreOrLessOnce => row(Retry::Finite, true, false),
        ServiceKind::AtMostOnce => row(Retry::Finite, true, true),
        ServiceKind::ExactlyOnce => row(Retry::Forever, true, true),
        ServiceKind::Sequence => Features { order: true, ..row(Retry::Forever, true, true) },
        ServiceKind::Request => Features { reply: true, ..row(Retry::Forever, true, true) },
    }
}

/// The row of a message of `service` whose order index is in `stream` (PROTOCOL 6.24).
pub const fn features_in(service: ServiceKind, stream: Stream) -> Features {
    let base = features(service);
    if !base.order {
        return base;
    }
    let retry = match stream.kind {
        StreamKind::Reliable => Retry::Forever,
        StreamKind::Lossy => Retry::Finite,
        StreamKind::ReliableOnRequest | StreamKind::LossyOnRequest => Retry::Requested,
    };
    Features { retry, ..base }
}

/// Why an application refuses a message: a number that says so to its sender. From 0 to 253; those
/// above are the protocol's own (PROTOCOL 6.34).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RefuseReason(u8);

impl RefuseReason {
    /// The reason with this number; `None` if it is above 253.
    pub const fn new(number: u8) -> Option<Self> {
        if number < REFUSED_FAILED { Some(Self(number)) } else { None }
    }

    /// Its number, as [`Outcome::Refused`] tells it.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl From<RefuseReason> for u8 {
    fn from(reason: RefuseReason) -> Self {
        reason.get()
    }
}

/// How a send ended. Every accepted send ends in exactly one of these (I23).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// The peer's application has it.
    Delivered,
    /// The peer's application took it and could not do what it asks; there is no reply.
    HandlerFailed,
    /// It may or may not have been delivered, and will not be sent again.
    Indeterminate,
    /// It never left this node.
    NotSent,
    /// The peer's application refused it, with its [reason](RefuseReason); it was not delivered. 255:
    /// it came too late, after what follows it in its lossy stream (PROTOCOL 6.26).
    Refused(u8),
    /// The reply came; it was handed over as a message.
    Replied,
    /// All copies left this node. Levels without acknowledgement promise no more.
    Sent,
}

const _: () = assert!(REFUSED_FAILED < REFUSED_EXPIRED && REFUSED_EXPIRED == u8::MAX);

#[cfg(test)]
mod tests {
    use super::*;

    // PROTOCOL 6.34
    #[test]
    fn reasons_of_applications_are_those_that_the_protocol_leaves() {
        for number in 0..=u8::MAX {
            let reason = RefuseReason::new(number).map(RefuseReason::get);
            assert_eq!(reason, Some(number).filter(|_| number < 254));
        }
    }

    #[test]
    fn rows_are_those_of_the_service_table() {
        // PROTOCOL 6.1
        let cases = [
            (ServiceKind::Maybe, "never", false, false, false),
            (ServiceKind::Repeat, "copies", false, false, false),
            (ServiceKind::RepeatDedup, "copies", false, true, false),
            (ServiceKind::MoreOrLessOnce, "finite", true, false, false),
            (ServiceKind::AtMostOnce, "finite", true, true, false),
            (ServiceKind::ExactlyOnce, "forever", true, true, false),
            (ServiceKind::Sequence, "forever", true, true, false),
            (ServiceKind::Request, "forever", true, true, true),
        ];
        for (service, retry, ack, dedup, reply) in cases {
            let row = features(service);
            assert_eq!(format!("{:?}", row.retry).to_lowercase(), retry);
            assert_eq!((row.ack, row.dedup, row.reply), (ack, dedup, reply), "{service:?}");
            assert_eq!(row.order, service == ServiceKind::Sequence);
        }
    }
}
