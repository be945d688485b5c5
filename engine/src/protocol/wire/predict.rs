//! Header prediction: compare before you parse.
//!
//! Packets of a session differ in transaction id, segment, body length and flags only, and those of
//! another session in its id too. So the reader keeps a head's bytes; if a datagram starts with the same
//! bytes around those values, only they have to be read, and everything else is known. Mostly not even
//! that: packets that leave together have one session, one length and one set of flags, so nothing differs
//! but the digits of the transaction, or of the segment where they carry one message. A head that does not
//! match costs a comparison more than without prediction, and becomes the next prediction.

use super::digits::read_hex;
use super::header::Head;
use super::kinds::{BodyKind, Flags};
use super::scan::{HEAD_LENGTH_DIGITS, OPENING, Varying, stated_head_len};
use super::split::{Packet, split_and_place};
use crate::limits::HEAD_EMIT_LEN_MAX;
use crate::protocol::drop_reason::DropReason;

/// Splits datagrams, quickly when their heads resemble the last one. Always says what
/// [`split`](super::split()) says.
#[derive(Clone, Debug)]
pub struct HeadReader {
    /// The last head that was written our way, and what it said. Zero bytes: none yet.
    bytes: [u8; HEAD_EMIT_LEN_MAX],
    len: usize,
    head: Head,
    varying: Varying,
    /// Heads in a row that matched and did not repeat.
    varied: u32,
}

/// So many heads that match and do not repeat have the next one become the prediction: the number
/// of digits of one of its values has changed for good.
const VARIED_MAX: u32 = 64;

impl HeadReader {
    /// A reader that has seen nothing.
    pub fn new() -> Self {
        Self {
            bytes: [0; HEAD_EMIT_LEN_MAX],
            len: 0,
            head: Head::default(),
            varying: Varying::default(),
            varied: 0,
        }
    }

    /// Reads a datagram's head and finds its parts.
    ///
    /// # Errors
    /// As [`split`](super::split()).
    #[inline]
    pub fn split(&mut self, datagram: &[u8]) -> Result<Packet, DropReason> {
        if let Some(packet) = self.repeat(datagram) {
            return Ok(packet);
        }
        if let Some(packet) = self.predict(datagram)
            && self.varied < VARIED_MAX
        {
            self.varied += 1;
            return Ok(packet);
        }
        self.parse(datagram)
    }

    /// The packet, if its head is the last one in all but the digits of its transaction, or of its
    /// segment.
    #[inline]
    fn repeat(&self, datagram: &[u8]) -> Option<Packet> {
        let bytes = datagram.get(..self.len)?;
        let head = match self.only_value(bytes, self.varying.transaction) {
            Some(transaction) => Head { transaction, ..self.head },
            None => self.of_segment(self.only_value(bytes, self.varying.segment)?)?,
        };
        Packet::fit(head, self.len, datagram.len()).ok()
    }

    /// The value at `place`, if a head is the last one in everything else.
    #[inline]
    fn only_value(&self, bytes: &[u8], (first, digits): (usize, usize)) -> Option<u64> {
        let (end, last) = (first + digits, &self.bytes[..self.len]);
        if digits == 0 || bytes[..first] != last[..first] || bytes[end..] != last[end..] {
            return None;
        }
        // No digit follows: what does is the same as in the last head.
        let (value, digits_now) = read_hex(bytes, first)?;
        (digits_now == digits).then_some(value)
    }

    /// The last head with another segment, unless that breaks a rule.
    #[inline]
    fn of_segment(&self, segment: u64) -> Option<Head> {
        let segment = u32::try_from(segment).ok()?;
        (segment < self.head.segment_count).then_some(Head { segment, ..self.head })
    }

    /// The packet, if its head matches the last one and nothing is wrong with it.
    #[inline]
    fn predict(&self, datagram: &[u8]) -> Option<Packet> {
        if self.len == 0 {
            return None;
        }
        let head_len = stated_head_len(datagram)?;
        let bytes = datagram.get(..head_len)?;
        let mut head = self.head;
        let mut walk = Walk { last: &self.bytes[..self.len], now: bytes, at: 0, at_now: 0 };
        walk.skip(OPENING.len() + HEAD_LENGTH_DIGITS);
        let transaction = walk.value(self.varying.transaction).or_else(|| {
            // Of another session, then.
            head.session = walk.value(self.varying.session)??;
            walk.value(self.varying.transaction)
        })?;
        if let Some(value) = transaction {
            head.transaction = value;
        }
        if let Some(value) = walk.value(self.varying.segment)? {
            head.segment = self.of_segment(value)?.segment;
        }
        if let Some(value) = walk.value(self.varying.body_len)? {
            head.body_len = u32::try_from(value).ok()?;
        }
        if let Some(value) = walk.value(self.varying.flags)? {
            head.flags = Flags::from_wire(u8::try_from(value).ok()?);
        }
        walk.rest()?;
        // The other rule between fields that a changed value can break.
        if head.body_len > 0 && head.body == BodyKind::None {
            return None;
        }
        Packet::fit(head, head_len, datagram.len()).ok()
    }

    #[inline(never)]
    fn parse(&mut self, datagram: &[u8]) -> Result<Packet, DropReason> {
        let (packet, varying) = split_and_place(datagram)?;
        let head_len = packet.head_len();
        if let (Some(varying), true) = (varying, head_len <= self.bytes.len()) {
            self.bytes[..head_len].copy_from_slice(&datagram[..head_len]);
            self.len = head_len;
            self.head = packet.head;
            self.varying = varying;
            self.varied = 0;
        }
        Ok(packet)
    }
}

impl Default for HeadReader {
    fn default() -> Self {
        Self::new()
    }
}

/// The last head and this one, side by side, up to where they are known to agree.
struct Walk<'a> {
    last: &'a [u8],
    now: &'a [u8],
    at: usize,
    at_now: usize,
}

impl Walk<'_> {
    /// Passes over bytes of either head that are accounted for.
    fn skip(&mut self, len: usize) {
        self.at += len;
        self.at_now += len;
    }

    /// Reads the value that stands at `place` in the last head, `Some(None)` if that had none. `None`
    /// if something before it differs, and nothing is passed over.
    #[inline]
    fn value(&mut self, place: (usize, usize)) -> Option<Option<u64>> {
        let (first, digits) = place;
        if digits == 0 {
            return Some(None);
        }
        let same = first - self.at;
        if self.now.get(self.at_now..self.at_now + same)? != &self.last[self.at..first] {
            return None;
        }
        let (value, digits_now) = read_hex(self.now, self.at_now + same)?;
        self.at += same + digits;
        self.at_now += same + digits_now;
        Some(Some(value))
    }

    /// Whether all that is left agrees.
    fn rest(&self) -> Option<()> {
        (self.now.get(self.at_now..)? == &self.last[self.at..]).then_some(())
    }
}
