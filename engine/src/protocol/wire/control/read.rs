//! Control bodies into blocks.

use core::ops::RangeInclusive;

use super::super::varint;
use super::{
    AckFrequency, Block, CLOSE_TEXT_LEN_MAX, Close, Credit, EcnCounts, Grant, Initiator,
    TransactionStatus, block_type,
};
use crate::limits::{
    ACK_RANGES_MAX, MISSING_RANGES_MAX, SEGMENT_COUNT_MAX, TRANSACTION_RANGES_MAX,
};
use crate::protocol::drop_reason::DropReason;
use crate::time::Duration;

/// The blocks of a control body in order. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Blocks<'a> {
    rest: Input<'a>,
}

impl<'a> Blocks<'a> {
    /// The blocks of `body`.
    pub const fn new(body: &'a [u8]) -> Self {
        Self { rest: Input(body) }
    }

    /// The next block that this version knows.
    fn read_next(&mut self) -> Result<Option<Block<'a>>, DropReason> {
        // Each turn takes at least two bytes of a body that a datagram bounds.
        while !self.rest.0.is_empty() {
            let kind = self.rest.varint()?;
            let len = self.rest.varint()?;
            let mut value = self.rest.take(len)?;
            let block = match kind {
                block_type::PACKET_RANGES => Block::PacketRanges(PacketRanges::read(&mut value)?),
                block_type::ECN_COUNTS => Block::EcnCounts(EcnCounts {
                    lane: value.lane()?,
                    ect0: value.varint()?,
                    ect1: value.varint()?,
                    ce: value.varint()?,
                }),
                block_type::ACK_FREQUENCY => Block::AckFrequency(AckFrequency {
                    lane: value.lane()?,
                    packets: value.varint()?,
                    delay: Duration::from_micros(value.varint()?),
                }),
                block_type::TRANSACTION_RANGES => {
                    Block::TransactionRanges(TransactionRanges::read(&mut value)?)
                }
                block_type::MISSING_SEGMENTS => {
                    Block::MissingSegments(MissingSegments::read(&mut value)?)
                }
                block_type::CREDIT => Block::Credit(Credit {
                    transaction_max: value.varint()?,
                    bytes_max: value.varint()?,
                }),
                block_type::GRANT => Block::Grant(Grant {
                    initiator: value.initiator()?,
                    transaction: value.varint()?,
                    end: value.varint()?,
                }),
                block_type::ISSUED => Block::Issued(value.varint()?),
                block_type::LOW_WATER_MARK => Block::LowWaterMark(value.varint()?),
                block_type::CLOSE => {
                    Block::Close(Close { reason: value.varint()?, text: value.text()? })
                }
                block_type::PING => Block::Ping,
                block_type::PATH_CHALLENGE => Block::PathChallenge(value.array()?),
                block_type::PATH_RESPONSE => Block::PathResponse(value.array()?),
                block_type::RESET_TOKEN => Block::ResetToken(value.array()?),
                // Padding, and what a later version may have added.
                _ => continue,
            };
            if !value.0.is_empty() {
                return Err(DropReason::BodyMalformed);
            }
            return Ok(Some(block));
        }
        Ok(None)
    }
}

impl<'a> Iterator for Blocks<'a> {
    type Item = Result<Block<'a>, DropReason>;

    fn next(&mut self) -> Option<Self::Item> {
        let block = self.read_next();
        if block.is_err() {
            self.rest = Input(&[]);
        }
        block.transpose()
    }
}

/// Packet numbers of one lane that arrived: at least one range and at most
/// [`ACK_RANGES_MAX`], strictly descending.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PacketRanges<'a> {
    /// The lane that was received.
    pub lane: u16,
    /// The largest number that arrived.
    pub largest: u64,
    /// How long the largest was held before this was sent.
    pub delay: Duration,
    first_len: u64,
    further: Input<'a>,
}

impl<'a> PacketRanges<'a> {
    fn read(value: &mut Input<'a>) -> Result<Self, DropReason> {
        let lane = value.lane()?;
        let largest = value.varint()?;
        let delay = Duration::from_micros(value.varint()?);
        let further_count = value.varint()?;
        let first_len = value.varint()?;
        if further_count >= ACK_RANGES_MAX as u64 {
            return Err(DropReason::AckInvalid);
        }
        let mut smallest = largest.checked_sub(first_len).ok_or(DropReason::AckInvalid)?;
        let further = *value;
        for _ in 0..further_count {
            let range = next_below(smallest, value)?.ok_or(DropReason::AckInvalid)?;
            smallest = *range.start();
        }
        Ok(Self { lane, largest, delay, first_len, further })
    }

    /// The ranges, largest first.
    pub fn iter(&self) -> impl Iterator<Item = RangeInclusive<u64>> + use<'a> {
        let first = self.largest - self.first_len..=self.largest;
        let mut smallest = *first.start();
        let mut further = self.further;
        core::iter::once(first).chain(core::iter::from_fn(move || {
            let range = next_below(smallest, &mut further).ok()??;
            smallest = *range.start();
            Some(range)
        }))
    }
}

/// The range that a gap and a length put below `smallest` (RFC 9000 19.3.1), `None` if it would
/// reach below zero.
fn next_below(
    smallest: u64,
    value: &mut Input<'_>,
) -> Result<Option<RangeInclusive<u64>>, DropReason> {
    let gap = value.varint()?;
    let len = value.varint()?;
    // Varints are below 2^62: the sum cannot overflow.
    let Some(largest) = smallest.checked_sub(gap + 2) else { return Ok(None) };
    Ok(largest.checked_sub(len).map(|start| start..=largest))
}

/// Transactions with one status: at least one range and at most [`TRANSACTION_RANGES_MAX`],
/// descending, without overlap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransactionRanges<'a> {
    /// Whose numbering they are in.
    pub initiator: Initiator,
    /// What became of them.
    pub status: TransactionStatus,
    ranges: Input<'a>,
}

impl<'a> TransactionRanges<'a> {
    fn read(value: &mut Input<'a>) -> Result<Self, DropReason> {
        let initiator = value.initiator()?;
        let status = match value.varint()? {
            0 => TransactionStatus::Done,
            1 => TransactionStatus::Accepted,
            2 => TransactionStatus::Refused(value.varint()?),
            3 => TransactionStatus::Expired,
            _ => return Err(DropReason::BodyMalformed),
        };
        let count = value.varint()?;
        if count == 0 || count > TRANSACTION_RANGES_MAX as u64 {
            return Err(DropReason::AckInvalid);
        }
        let ranges = *value;
        let mut above = u64::MAX;
        for _ in 0..count {
            let range = transaction_range(value)?;
            if *range.end() >= above {
                return Err(DropReason::AckInvalid);
            }
            above = *range.start();
        }
        Ok(Self { initiator, status, ranges })
    }

    /// The ranges of transaction ids, largest first.
    pub fn iter(&self) -> impl Iterator<Item = RangeInclusive<u64>> + use<'a> {
        let mut ranges = self.ranges;
        core::iter::from_fn(move || transaction_range(&mut ranges).ok())
    }
}

/// A first id and how many follow it.
fn transaction_range(value: &mut Input<'_>) -> Result<RangeInclusive<u64>, DropReason> {
    let first = value.varint()?;
    let following = value.varint()?;
    // Varints are below 2^62: the sum cannot overflow.
    Ok(first..=first + following)
}

/// Segments of one message: those below [`MissingSegments::end`] arrived, but for the ranges, of
/// which there are at most [`MISSING_RANGES_MAX`], ascending and apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MissingSegments<'a> {
    /// Who initiated the transaction.
    pub initiator: Initiator,
    /// The transaction of the message.
    pub transaction: u64,
    /// Segments of the message, as it was cut when they arrived. 0: nothing did.
    pub segments: u32,
    /// One past the segments that this speaks of. 0: nothing of the message arrived.
    pub end: u32,
    ranges: Input<'a>,
}

impl<'a> MissingSegments<'a> {
    fn read(value: &mut Input<'a>) -> Result<Self, DropReason> {
        let initiator = value.initiator()?;
        let transaction = value.varint()?;
        let mut below = |most: u32| {
            let number = u32::try_from(value.varint()?).ok().filter(|&number| number <= most);
            number.ok_or(DropReason::BodyMalformed)
        };
        let segments = below(SEGMENT_COUNT_MAX)?;
        let end = below(segments)?;
        let count = value.varint()?;
        if count > MISSING_RANGES_MAX as u64 {
            return Err(DropReason::AckInvalid);
        }
        let ranges = *value;
        let mut low = 0;
        for _ in 0..count {
            let range = transaction_range(value)?;
            if *range.start() < low || *range.end() >= u64::from(end) {
                return Err(DropReason::AckInvalid);
            }
            low = *range.end() + 1;
        }
        Ok(Self { initiator, transaction, segments, end, ranges })
    }

    /// The ranges that are missing, ascending.
    pub fn iter(&self) -> impl Iterator<Item = RangeInclusive<u32>> + use<'a> {
        let mut ranges = self.ranges;
        let narrow = |number: u64| u32::try_from(number).expect("below the end, which is checked");
        core::iter::from_fn(move || {
            let range = transaction_range(&mut ranges).ok()?;
            Some(narrow(*range.start())..=narrow(*range.end()))
        })
    }
}

/// Bytes not yet read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn varint(&mut self) -> Result<u64, DropReason> {
        let (value, len) = varint::read(self.0).ok_or(DropReason::BodyMalformed)?;
        self.0 = &self.0[len..];
        Ok(value)
    }

    fn lane(&mut self) -> Result<u16, DropReason> {
        u16::try_from(self.varint()?).map_err(|_| DropReason::BodyMalformed)
    }

    fn initiator(&mut self) -> Result<Initiator, DropReason> {
        match self.varint()? {
            0 => Ok(Initiator::Receiver),
            1 => Ok(Initiator::Sender),
            _ => Err(DropReason::BodyMalformed),
        }
    }

    fn take(&mut self, len: u64) -> Result<Self, DropReason> {
        let (taken, rest) = usize::try_from(len)
            .ok()
            .and_then(|len| self.0.split_at_checked(len))
            .ok_or(DropReason::BodyMalformed)?;
        self.0 = rest;
        Ok(Self(taken))
    }

    fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN], DropReason> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(DropReason::BodyMalformed)?;
        self.0 = rest;
        Ok(*bytes)
    }

    /// All that is left, as a peer's text.
    fn text(&mut self) -> Result<&'a str, DropReason> {
        let bytes = core::mem::take(&mut self.0);
        let printable = bytes.iter().all(|byte| matches!(byte, b' '..=b'~'));
        if bytes.len() > CLOSE_TEXT_LEN_MAX || !printable {
            return Err(DropReason::BodyMalformed);
        }
        Ok(core::str::from_utf8(bytes).expect("printable ASCII"))
    }
}
