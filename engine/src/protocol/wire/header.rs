//! What a head says: the fields of the table in PROTOCOL 2.9, and the rules between them.
//!
//! Two readers fill the same [`Fields`]: the scanner for heads as we write them and the JSON
//! reader for everything else. What the fields mean together is decided once, in
//! [`Fields::settle`], so that the readers can only differ in which bytes they take.

use super::kinds::{AuthKind, BodyKind, Flags, PacketKind, ServiceKind, TailKind};
use crate::limits::{AUTH_LEN_MAX, HEAD_LEN_MAX, SEGMENT_COUNT_MAX, TAIL_LEN_MAX};
use crate::protocol::drop_reason::DropReason;

/// The largest integer in a head: what every JSON reader holds exactly (PROTOCOL 1.4, RFC 7493).
pub const INTEGER_MAX: u64 = (1 << 53) - 1;

/// A head's fields, each by its key in PROTOCOL 2.9. The lengths `hl`, `nl` and `tl` are not here:
/// they follow from the rest, and reading checks that they do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// `vn`: version, 0 in what can be read.
    pub version: u8,
    /// `sd`: id of the device that sent the packet; 0: as the session says.
    pub source: u64,
    /// `dd`: id of the device it is for; 0: as the session says.
    pub destination: u64,
    /// `si`: session id; 0 is the bootstrap.
    pub session: u64,
    /// `ti`: transaction id; the first of several in a bundle.
    pub transaction: u64,
    /// `sk`: service kind of the message.
    pub service: ServiceKind,
    /// `pk`: packet kind.
    pub packet: PacketKind,
    /// `oi`: order index in a sequence.
    pub order: u64,
    /// `dt`: microseconds since the Unix epoch, for people. Written as at most [`INTEGER_MAX`].
    pub date_time: u64,
    /// `sn`: segment number, below the count.
    pub segment: u32,
    /// `sc`: segment count, 1 to [`SEGMENT_COUNT_MAX`].
    pub segment_count: u32,
    /// `nk`: authentication kind.
    pub auth: AuthKind,
    /// `bk`: body kind.
    pub body: BodyKind,
    /// `bl`: bytes of the body, 0 if its kind is none.
    pub body_len: u32,
    /// `tk`: tail kind.
    pub tail: TailKind,
    /// `fg`: flags.
    pub flags: Flags,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            version: 0,
            source: 0,
            destination: 0,
            session: 0,
            transaction: 0,
            service: ServiceKind::Maybe,
            packet: PacketKind::Message,
            order: 0,
            date_time: 0,
            segment: 0,
            segment_count: 1,
            auth: AuthKind::None,
            body: BodyKind::None,
            body_len: 0,
            tail: TailKind::None,
            flags: Flags::NONE,
        }
    }
}

impl Head {
    /// The value of every key in the order of PROTOCOL 2.9, if the head has `head_len` bytes: what
    /// tools print and tests compare.
    #[doc(hidden)]
    pub fn values(&self, head_len: usize) -> [u64; KEY_COUNT] {
        [
            head_len as u64,
            0,
            self.version.into(),
            self.source,
            self.destination,
            self.session,
            self.transaction,
            self.service.to_wire().into(),
            self.packet.to_wire().into(),
            self.order,
            self.date_time,
            self.segment.into(),
            self.segment_count.into(),
            self.auth.to_wire().into(),
            self.auth.len() as u64,
            self.body.to_wire().into(),
            self.body_len.into(),
            self.tail.to_wire().into(),
            self.tail.len() as u64,
            self.flags.to_wire().into(),
        ]
    }
}

/// A known key, in the order in which we write them (PROTOCOL 2.9).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub(super) enum Key {
    HeadLength,
    HeadKind,
    Version,
    Source,
    Destination,
    Session,
    Transaction,
    Service,
    Packet,
    Order,
    DateTime,
    Segment,
    SegmentCount,
    Auth,
    AuthLength,
    Body,
    BodyLength,
    Tail,
    TailLength,
    Flags,
}

/// How a key's value is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// A string of 1 to 16 hex digits.
    Hex,
    /// A decimal integer.
    Integer,
}

pub(super) const KEY_COUNT: usize = 20;

impl Key {
    /// The known key of these two letters.
    #[inline]
    pub(super) const fn from_wire(letters: [u8; 2]) -> Option<Self> {
        Some(match &letters {
            b"hl" => Self::HeadLength,
            b"hk" => Self::HeadKind,
            b"vn" => Self::Version,
            b"sd" => Self::Source,
            b"dd" => Self::Destination,
            b"si" => Self::Session,
            b"ti" => Self::Transaction,
            b"sk" => Self::Service,
            b"pk" => Self::Packet,
            b"oi" => Self::Order,
            b"dt" => Self::DateTime,
            b"sn" => Self::Segment,
            b"sc" => Self::SegmentCount,
            b"nk" => Self::Auth,
            b"nl" => Self::AuthLength,
            b"bk" => Self::Body,
            b"bl" => Self::BodyLength,
            b"tk" => Self::Tail,
            b"tl" => Self::TailLength,
            b"fg" => Self::Flags,
            _ => return None,
        })
    }

    #[inline]
    pub(super) const fn form(self) -> Form {
        match self {
            Self::HeadKind
            | Self::Version
            | Self::Service
            | Self::Packet
            | Self::DateTime
            | Self::Auth
            | Self::Body
            | Self::Tail => Form::Integer,
            _ => Form::Hex,
        }
    }

    /// The largest value that is not malformed. A kind within it may still be unsupported.
    #[inline]
    pub(super) const fn value_max(self) -> u64 {
        match self {
            Self::Source | Self::Destination | Self::Session | Self::Transaction | Self::Order => {
                u64::MAX
            }
            Self::DateTime => INTEGER_MAX,
            Self::BodyLength => 0xffff_ffff,
            Self::HeadLength => HEAD_LEN_MAX as u64,
            Self::AuthLength => AUTH_LEN_MAX as u64,
            Self::TailLength => TAIL_LEN_MAX as u64,
            Self::Segment | Self::SegmentCount => SEGMENT_COUNT_MAX as u64,
            _ => 0xff,
        }
    }
}

/// The values of the known keys as they were read, each no larger than its key allows, before
/// they are checked against each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields([u64; KEY_COUNT]);

impl Fields {
    /// Every field at its default.
    pub(super) const fn new() -> Self {
        let mut values = [0; KEY_COUNT];
        values[Key::SegmentCount as usize] = 1;
        Self(values)
    }

    #[inline]
    pub(super) const fn set(&mut self, key: Key, value: u64) {
        self.0[key as usize] = value;
    }

    #[inline]
    const fn value(&self, key: Key) -> u64 {
        self.0[key as usize]
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "bounded by the key's `value_max`")]
    const fn small(&self, key: Key) -> u32 {
        self.value(key) as u32
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "bounded by the key's `value_max`")]
    const fn byte(&self, key: Key) -> u8 {
        self.value(key) as u8
    }

    /// The head that these fields make, if its terminator ends at `end`. The order of the checks
    /// is PROTOCOL 2.8's: it decides which reason a head with several faults is dropped for.
    #[inline]
    pub(super) fn settle(&self, end: usize) -> Result<Head, DropReason> {
        use DropReason::{HeadMalformed, HeadUnterminated, Unsupported};
        if self.value(Key::HeadLength) == 0 {
            return Err(HeadMalformed);
        }
        if self.value(Key::HeadLength) != end as u64 {
            return Err(HeadUnterminated);
        }
        if self.value(Key::HeadKind) != 0 || self.value(Key::Version) != 0 {
            return Err(Unsupported);
        }
        let head = Head {
            version: 0,
            source: self.value(Key::Source),
            destination: self.value(Key::Destination),
            session: self.value(Key::Session),
            transaction: self.value(Key::Transaction),
            service: ServiceKind::from_wire(self.value(Key::Service)).ok_or(Unsupported)?,
            packet: PacketKind::from_wire(self.value(Key::Packet)).ok_or(Unsupported)?,
            order: self.value(Key::Order),
            date_time: self.value(Key::DateTime),
            segment: self.small(Key::Segment),
            segment_count: self.small(Key::SegmentCount),
            auth: AuthKind::from_wire(self.value(Key::Auth)).ok_or(Unsupported)?,
            body: BodyKind::from_wire(self.value(Key::Body)).ok_or(Unsupported)?,
            body_len: self.small(Key::BodyLength),
            tail: TailKind::from_wire(self.value(Key::Tail)).ok_or(Unsupported)?,
            flags: Flags::from_wire(self.byte(Key::Flags)),
        };
        let consistent = head.segment < head.segment_count
            && self.value(Key::AuthLength) == head.auth.len() as u64
            && self.value(Key::TailLength) == head.tail.len() as u64
            && (head.body_len == 0 || head.body != BodyKind::None);
        if consistent { Ok(head) } else { Err(HeadMalformed) }
    }
}
