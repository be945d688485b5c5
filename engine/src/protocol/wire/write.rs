//! Heads from fields, in the one form that we write (PROTOCOL 2.7).
//!
//! A head is written right-aligned before the bytes that follow it, because its length is known
//! last and the body was already sealed into its place by then.

use super::digits::{HEX_LEN_MAX, hex, hex_len};
use super::header::{Head, INTEGER_MAX};
use super::kinds::Flags;
use super::scan::{HEAD_LENGTH_DIGITS, OPENING, SECOND_MEMBER_AT};
use super::split::TERMINATOR;
use crate::limits::HEAD_EMIT_LEN_MAX;

/// Bytes of a head's member `oi` at its widest.
pub const ORDER_LEN_MAX: usize = r#","oi":"""#.len() + HEX_LEN_MAX;
/// Bytes of a head's members `sn` and `sc` at their widest.
pub const SEGMENT_LEN_MAX: usize = 2 * (r#","sn":"""#.len() + 4);
/// Digits of `fg` in every head that we write.
const FLAGS_DIGITS: usize = 2;

/// Writes `head` so that it ends where `before` ends, and returns its length with the terminator.
///
/// # Panics
/// If `before` has no room. [`HEAD_EMIT_LEN_MAX`] bytes are always enough.
pub fn encode(head: &Head, before: &mut [u8]) -> usize {
    Line::of(head).put(before)
}

/// Writes heads, quickly when they differ from the last one in session id, transaction id, segment,
/// body length and flags only. Always writes what [`encode`] writes.
#[derive(Clone, Debug)]
pub struct HeadWriter {
    head: Head,
    line: Line,
}

impl HeadWriter {
    /// A writer that has written nothing.
    pub fn new() -> Self {
        let head = Head::default();
        Self { head, line: Line::of(&head) }
    }

    /// Makes `head` the one that [`HeadWriter::put`] writes, and returns its length with the
    /// terminator: [`HEAD_EMIT_LEN_MAX`] bytes at most.
    #[inline]
    pub fn prepare(&mut self, head: &Head) -> usize {
        if head.session != self.head.session {
            self.change_session(head.session);
        }
        if !self.patch(head) {
            self.line = Line::of(head);
        }
        self.head = *head;
        self.line.len
    }

    /// Changes the transaction of the head that was prepared last, if that is of `session` and the
    /// transaction has as many digits as the one that it had. `false`: nothing was done.
    #[inline]
    pub fn renumber(&mut self, session: u64, transaction: u64) -> bool {
        let last = self.head.transaction;
        let digits = hex_len(transaction);
        // A value of zero is left out, so it has no digits to change.
        let fits = last != 0 && transaction != 0 && hex_len(last) == digits;
        if session != self.head.session || !fits {
            return false;
        }
        self.line.overwrite(self.line.places.transaction, digits, transaction);
        self.head.transaction = transaction;
        true
    }

    /// Writes the head that was prepared last over `place`.
    ///
    /// # Panics
    /// If `place` has another length.
    #[inline]
    pub fn put(&self, place: &mut [u8]) {
        place.copy_from_slice(&self.line.bytes[..self.line.len]);
    }

    /// Turns the last line into one of another session. Apart, because most packets leave in trains.
    #[inline(never)]
    fn change_session(&mut self, session: u64) {
        // A value of zero is left out, others have all their digits.
        if self.head.session != 0 && session != 0 {
            self.line.overwrite(self.line.places.session, HEX_LEN_MAX, session);
            self.head.session = session;
        }
    }

    /// Turns the last line into this head's, if only digits have to change for that.
    #[inline]
    fn patch(&mut self, head: &Head) -> bool {
        let last = &self.head;
        let same_but_varying = Head {
            transaction: head.transaction,
            segment: head.segment,
            body_len: head.body_len,
            flags: head.flags,
            ..*last
        };
        let places = self.line.places;
        // A value of zero is left out, so it has no digits to change.
        let fits = |last: u64, now: u64| {
            last == now || (last != 0 && now != 0 && hex_len(last) == hex_len(now))
        };
        let patchable = same_but_varying == *head
            && fits(last.transaction, head.transaction)
            && fits(last.segment.into(), head.segment.into())
            && fits(last.body_len.into(), head.body_len.into())
            && (last.flags == head.flags
                || (last.flags != Flags::NONE && head.flags != Flags::NONE));
        if !patchable {
            return false;
        }
        if last.transaction != head.transaction {
            let digits = hex_len(head.transaction);
            self.line.overwrite(places.transaction, digits, head.transaction);
        }
        if last.segment != head.segment {
            let digits = hex_len(head.segment.into());
            self.line.overwrite(places.segment, digits, head.segment.into());
        }
        if last.body_len != head.body_len {
            let digits = hex_len(head.body_len.into());
            self.line.overwrite(places.body_len, digits, head.body_len.into());
        }
        if last.flags != head.flags {
            self.line.overwrite(places.flags, FLAGS_DIGITS, head.flags.to_wire().into());
        }
        true
    }
}

impl Default for HeadWriter {
    fn default() -> Self {
        Self::new()
    }
}

/// One past the last digit of each value that changes from packet to packet.
#[derive(Clone, Copy, Debug, Default)]
struct Places {
    session: usize,
    transaction: usize,
    segment: usize,
    body_len: usize,
    flags: usize,
}

/// A head as bytes, left-aligned.
#[derive(Clone, Debug)]
struct Line {
    bytes: [u8; HEAD_EMIT_LEN_MAX],
    len: usize,
    places: Places,
}

impl Line {
    fn of(head: &Head) -> Self {
        let mut line = Self {
            bytes: [0; HEAD_EMIT_LEN_MAX],
            len: SECOND_MEMBER_AT,
            places: Places::default(),
        };
        line.bytes[..OPENING.len()].copy_from_slice(OPENING);
        line.bytes[SECOND_MEMBER_AT - 1] = b'"';
        line.integer(b"vn", head.version.into());
        line.hex(b"sd", head.source);
        line.hex(b"dd", head.destination);
        if head.session != 0 {
            line.places.session = line.hex_digits(b"si", head.session, HEX_LEN_MAX);
        }
        line.places.transaction = line.hex(b"ti", head.transaction);
        line.integer(b"sk", head.service.to_wire().into());
        line.integer(b"pk", head.packet.to_wire().into());
        line.hex(b"oi", head.order);
        line.integer(b"dt", head.date_time.min(INTEGER_MAX));
        line.places.segment = line.hex(b"sn", head.segment.into());
        if head.segment_count != 1 {
            line.hex_digits(b"sc", head.segment_count.into(), hex_len(head.segment_count.into()));
        }
        line.integer(b"nk", head.auth.to_wire().into());
        line.hex(b"nl", head.auth.len() as u64);
        line.integer(b"bk", head.body.to_wire().into());
        line.places.body_len = line.hex(b"bl", head.body_len.into());
        line.integer(b"tk", head.tail.to_wire().into());
        line.hex(b"tl", head.tail.len() as u64);
        if head.flags != Flags::NONE {
            line.places.flags = line.hex_digits(b"fg", head.flags.to_wire().into(), FLAGS_DIGITS);
        }
        line.extend(b"}");
        line.extend(TERMINATOR);
        let len = hex(line.len as u64);
        line.bytes[OPENING.len()..OPENING.len() + HEAD_LENGTH_DIGITS]
            .copy_from_slice(&len[HEX_LEN_MAX - HEAD_LENGTH_DIGITS..]);
        line
    }

    fn put(&self, before: &mut [u8]) -> usize {
        let start = before.len().checked_sub(self.len).expect("room for a head");
        before[start..].copy_from_slice(&self.bytes[..self.len]);
        self.len
    }

    /// Replaces the `digits` digits that end at `end` by those of `value`: one load, one store.
    #[inline]
    fn overwrite(&mut self, end: usize, digits: usize, value: u64) {
        let place: &mut [u8; HEX_LEN_MAX] =
            self.bytes[..end].last_chunk_mut().expect("`hl` and a key stand before every digit");
        let kept =
            u128::MAX.checked_shl(8 * u32::try_from(digits).expect("at most 16")).unwrap_or(0);
        let blended = u128::from_be_bytes(*place) & kept | u128::from_be_bytes(hex(value)) & !kept;
        *place = blended.to_be_bytes();
    }

    fn extend(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn key(&mut self, key: &[u8; 2]) {
        self.extend(&[b',', b'"', key[0], key[1], b'"', b':']);
    }

    /// Appends a member unless its value is the default, and returns where its digits end.
    fn hex(&mut self, key: &[u8; 2], value: u64) -> usize {
        if value == 0 {
            return 0;
        }
        self.hex_digits(key, value, hex_len(value))
    }

    fn hex_digits(&mut self, key: &[u8; 2], value: u64, digits: usize) -> usize {
        self.key(key);
        self.extend(b"\"");
        self.extend(&hex(value)[HEX_LEN_MAX - digits..]);
        let end = self.len;
        self.extend(b"\"");
        end
    }

    fn integer(&mut self, key: &[u8; 2], value: u64) {
        if value == 0 {
            return;
        }
        self.key(key);
        let digits = value.ilog10() as usize + 1;
        let start = self.len;
        self.len += digits;
        let mut rest = value;
        for place in self.bytes[start..self.len].iter_mut().rev() {
            *place = b'0' + u8::try_from(rest % 10).expect("a digit");
            rest /= 10;
        }
    }
}
