//! The strict scanner: heads as we write them, read in one pass.
//!
//! It takes a head whose keys are known, rise in table order and stand without spaces, and gives
//! up on anything else, whether that is wrong or only written differently: the JSON reader
//! decides those. So it need not know a single drop reason, and it is right as long as what it
//! takes means the same to the JSON reader.

use super::digits::{read_decimal, read_hex};
use super::header::{Fields, Form, Key};
use super::split::TERMINATOR;
use crate::limits::HEAD_LEN_MAX;

/// The first bytes of every head that we write.
pub(super) const OPENING: &[u8; 7] = b"{\"hl\":\"";
/// Digits of `hl` in every head that we write.
pub(super) const HEAD_LENGTH_DIGITS: usize = 3;
/// Where the second member starts in every head that we write.
pub(super) const SECOND_MEMBER_AT: usize = OPENING.len() + HEAD_LENGTH_DIGITS + 1;

/// A head that the scanner took.
pub(super) struct Scanned {
    pub(super) fields: Fields,
    /// Bytes of the head, terminator included.
    pub(super) head_len: usize,
    /// Where the values stand that change from packet to packet.
    pub(super) varying: Varying,
}

/// The places of the values that change from packet to packet of a shard, as (first digit,
/// count of digits); a count of 0 means that the key is absent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Varying {
    pub(super) session: (usize, usize),
    pub(super) transaction: (usize, usize),
    pub(super) segment: (usize, usize),
    pub(super) body_len: (usize, usize),
    pub(super) flags: (usize, usize),
}

/// Where the terminator says it ends, read from where we write `hl`.
#[inline]
pub(super) fn stated_head_len(datagram: &[u8]) -> Option<usize> {
    if datagram.get(..OPENING.len())? != OPENING {
        return None;
    }
    let (head_len, digits) = read_hex(datagram, OPENING.len())?;
    let head_len = usize::try_from(head_len).ok()?;
    let terminated = digits == HEAD_LENGTH_DIGITS
        && head_len <= HEAD_LEN_MAX
        && datagram.get(head_len.checked_sub(TERMINATOR.len())?..head_len)? == TERMINATOR;
    terminated.then_some(head_len)
}

/// Reads the head at the start of `datagram`, or gives up.
#[inline]
pub(super) fn scan(datagram: &[u8]) -> Option<Scanned> {
    let head_len = stated_head_len(datagram)?;
    let head = datagram.get(..head_len)?;
    if *head.get(SECOND_MEMBER_AT - 1)? != b'"' {
        return None;
    }
    let mut fields = Fields::new();
    fields.set(Key::HeadLength, head_len as u64);
    let mut varying = Varying::default();
    let mut last = Key::HeadLength;
    let mut at = SECOND_MEMBER_AT;
    // Keys rise, so this ends after at most as many turns as there are keys.
    while *head.get(at)? != b'}' {
        // One load sees `,"xx":` and the value's first byte.
        let word = u64::from_be_bytes(head.get(at..at + 8)?.try_into().expect("eight bytes"));
        const FRAME: u64 = 0xffff_0000_ffff_0000;
        if word & FRAME != u64::from_be_bytes(*b",\"\0\0\":\0\0") {
            return None;
        }
        let key = Key::from_wire([head[at + 2], head[at + 3]])?;
        if key <= last {
            return None;
        }
        last = key;
        let (value, place) = match key.form() {
            Form::Hex => {
                let first = at + 7;
                let (value, digits) = read_hex(head, first)?;
                if head[at + 6] != b'"' || *head.get(first + digits)? != b'"' {
                    return None;
                }
                at = first + digits + 1;
                (value, (first, digits))
            }
            Form::Integer => {
                let first = at + 6;
                let (value, digits) = read_decimal(head, first, key.value_max())?;
                at = first + digits;
                (value, (first, digits))
            }
        };
        if value > key.value_max() {
            return None;
        }
        fields.set(key, value);
        match key {
            Key::Session => varying.session = place,
            Key::Transaction => varying.transaction = place,
            Key::Segment => varying.segment = place,
            Key::BodyLength => varying.body_len = place,
            Key::Flags => varying.flags = place,
            _ => {}
        }
    }
    let complete = at + 1 + TERMINATOR.len() == head_len;
    complete.then_some(Scanned { fields, head_len, varying })
}
