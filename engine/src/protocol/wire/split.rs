//! A datagram cut into head, authentication block, body and tail.

use core::ops::Range;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::header::Head;
use super::scan::{Scanned, Varying, scan};
use super::{json, tail};
use crate::limits::HEAD_LEN_MAX;
use crate::protocol::drop_reason::DropReason;

/// What ends a head (PROTOCOL 2.2).
pub(super) const TERMINATOR: &[u8; 4] = b"\r\n\r\n";

/// A datagram whose head was read and whose lengths add up. It holds no bytes, only where they
/// are, so it stays valid while the datagram is opened in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// The head's fields.
    pub head: Head,
    head_len: u16,
}

impl Packet {
    /// Bytes of the head with its terminator: the start of the associated data.
    pub const fn head_len(&self) -> usize {
        self.head_len as usize
    }

    /// Where the authentication block is.
    pub const fn auth(&self) -> Range<usize> {
        self.head_len()..self.head_len() + self.head.auth.len()
    }

    /// Where the body is.
    pub const fn body(&self) -> Range<usize> {
        let start = self.auth().end;
        start..start + self.head.body_len as usize
    }

    /// Where the tail is. It ends with the datagram.
    pub const fn tail(&self) -> Range<usize> {
        let start = self.body().end;
        start..start + self.head.tail.len()
    }

    /// Whether the tail of `datagram`, from which this packet was read, fits the bytes before it
    /// (PROTOCOL 2.14). A packet without a tail has nothing to check.
    pub fn check_tail(&self, datagram: &[u8]) -> Result<(), DropReason> {
        tail::check(self.head.tail, datagram)
    }

    /// The packet of this head, if its lengths add up to `datagram_len` (PROTOCOL 2.1).
    #[inline]
    pub(super) fn fit(
        head: Head,
        head_len: usize,
        datagram_len: usize,
    ) -> Result<Self, DropReason> {
        let head_len = u16::try_from(head_len).expect("a head is at most HEAD_LEN_MAX bytes");
        let packet = Self { head, head_len };
        if packet.tail().end == datagram_len { Ok(packet) } else { Err(DropReason::LengthMismatch) }
    }
}

/// Reads a datagram's head and finds its parts (PROTOCOL 2.1 to 2.9). Takes any bytes.
///
/// # Errors
/// The first reason of PROTOCOL 2.8 that applies.
pub fn split(datagram: &[u8]) -> Result<Packet, DropReason> {
    split_and_place(datagram).map(|(packet, _)| packet)
}

/// As [`split`], and where the varying values are if the head is written our way.
#[inline]
pub(super) fn split_and_place(datagram: &[u8]) -> Result<(Packet, Option<Varying>), DropReason> {
    match scan(datagram) {
        Some(Scanned { fields, head_len, varying }) => {
            let head = fields.settle(head_len)?;
            Ok((Packet::fit(head, head_len, datagram.len())?, Some(varying)))
        }
        None => Ok((split_any(datagram)?, None)),
    }
}

/// As [`split`], but every head goes through the JSON reader.
#[doc(hidden)]
#[cold]
pub fn split_any(datagram: &[u8]) -> Result<Packet, DropReason> {
    if datagram.is_empty() {
        return Err(DropReason::Empty);
    }
    let end = find_end(datagram).ok_or(DropReason::HeadUnterminated)?;
    let head = json::read(&datagram[..end - TERMINATOR.len()])?.settle(end)?;
    Packet::fit(head, end, datagram.len())
}

/// Where the first terminator ends, if it does so within the bound.
#[doc(hidden)]
pub fn find_end(datagram: &[u8]) -> Option<usize> {
    static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(TERMINATOR));
    let window = &datagram[..datagram.len().min(HEAD_LEN_MAX)];
    FINDER.find(window).map(|start| start + TERMINATOR.len())
}
