//! Blocks into a control body.

use core::ops::RangeInclusive;

use super::super::varint;
use super::{
    AckFrequency, CLOSE_TEXT_LEN_MAX, Close, Credit, EcnCounts, Grant, Initiator,
    TransactionStatus, block_type,
};
use crate::limits::{ACK_RANGES_MAX, MISSING_RANGES_MAX, TRANSACTION_RANGES_MAX};
use crate::time::Duration;

/// Bytes that a block's length takes when it is written after its value. Two hold any block that
/// we write so: the largest, 64 packet ranges, is below 1100 bytes.
const LENGTH_WIDTH: usize = 2;

/// Writes blocks one after another. Each method returns false, and writes nothing, if its block
/// does not fit the body or the block's own bounds; the writer can be used on.
#[derive(Debug)]
pub struct Writer<'a> {
    body: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    /// A writer into `body`.
    pub const fn new(body: &'a mut [u8]) -> Self {
        Self { body, len: 0 }
    }

    /// How many bytes of the body were written.
    pub const fn finish(self) -> usize {
        self.len
    }

    /// Bytes of the body that are not written yet.
    pub const fn remaining(&self) -> usize {
        self.body.len() - self.len
    }

    /// Packets of `lane` that arrived, largest range first, at least one and at most
    /// [`ACK_RANGES_MAX`] with a number missing between neighbours; `delay` is how long the
    /// largest was held, in whole microseconds on the wire.
    ///
    /// # Panics
    /// If the ranges are not descending and apart: they come from a set that keeps them so.
    pub fn packet_ranges(
        &mut self,
        lane: u16,
        delay: Duration,
        ranges: impl IntoIterator<Item = RangeInclusive<u64>>,
    ) -> bool {
        self.block(block_type::PACKET_RANGES, |block| {
            let mut ranges = ranges.into_iter();
            let first = ranges.next()?;
            block.varint(lane.into())?;
            block.varint(*first.end())?;
            block.varint(delay.as_micros())?;
            let count_at = block.at;
            block.varint(0)?;
            block.varint(len(&first))?;
            let mut smallest = *first.start();
            let mut further_count = 0;
            for range in ranges {
                further_count += 1;
                if further_count == ACK_RANGES_MAX {
                    return None;
                }
                let gap =
                    smallest.checked_sub(*range.end()).and_then(|distance| distance.checked_sub(2));
                block.varint(gap.expect("ranges descend and are apart"))?;
                block.varint(len(&range))?;
                smallest = *range.start();
            }
            // Below 64, so it still takes the one byte that was kept for it.
            varint::write(&mut block.bytes[count_at..=count_at], further_count as u64).map(drop)
        })
    }

    /// Marks on the packets that arrived.
    pub fn ecn_counts(&mut self, counts: EcnCounts) -> bool {
        self.block(block_type::ECN_COUNTS, |block| {
            block.varint(counts.lane.into())?;
            block.varint(counts.ect0)?;
            block.varint(counts.ect1)?;
            block.varint(counts.ce)
        })
    }

    /// How often the sender of this block wants to be acknowledged; whole microseconds.
    pub fn ack_frequency(&mut self, frequency: AckFrequency) -> bool {
        self.block(block_type::ACK_FREQUENCY, |block| {
            block.varint(frequency.lane.into())?;
            block.varint(frequency.packets)?;
            block.varint(frequency.delay.as_micros())
        })
    }

    /// What became of transactions: ranges of their ids, largest first, at least one and at most
    /// [`TRANSACTION_RANGES_MAX`].
    ///
    /// # Panics
    /// If the ranges are not descending: they come from a set that keeps them so.
    pub fn transaction_ranges(
        &mut self,
        initiator: Initiator,
        status: TransactionStatus,
        ranges: impl IntoIterator<Item = RangeInclusive<u64>>,
    ) -> bool {
        self.block(block_type::TRANSACTION_RANGES, |block| {
            block.varint(initiator as u64)?;
            match status {
                TransactionStatus::Done => block.varint(0)?,
                TransactionStatus::Accepted => block.varint(1)?,
                TransactionStatus::Refused(reason) => {
                    block.varint(2)?;
                    block.varint(reason)?;
                }
                TransactionStatus::Expired => block.varint(3)?,
            }
            let count_at = block.at;
            block.varint(0)?;
            let mut above = u64::MAX;
            let mut count = 0;
            for range in ranges {
                count += 1;
                if count > TRANSACTION_RANGES_MAX {
                    return None;
                }
                assert!(*range.end() < above, "ranges descend");
                // The end too must be a number that a block can hold.
                if *range.end() > varint::MAX {
                    return None;
                }
                block.varint(*range.start())?;
                block.varint(len(&range))?;
                above = *range.start();
            }
            if count == 0 {
                return None;
            }
            varint::write(&mut block.bytes[count_at..=count_at], count as u64).map(drop)
        })
    }

    /// How far the receiver of this block may go.
    pub fn credit(&mut self, credit: Credit) -> bool {
        self.block(block_type::CREDIT, |block| {
            block.varint(credit.transaction_max)?;
            block.varint(credit.bytes_max)
        })
    }

    /// How far the receiver of this block may go in one message.
    pub fn grant(&mut self, grant: Grant) -> bool {
        self.block(block_type::GRANT, |block| {
            block.varint(grant.initiator as u64)?;
            block.varint(grant.transaction)?;
            block.varint(grant.end)
        })
    }

    /// One past the highest transaction id that was used.
    pub fn issued(&mut self, end: u64) -> bool {
        self.block(block_type::ISSUED, |block| block.varint(end))
    }

    /// Which of `segments` segments of a message, those below `end`, did not arrive: ranges that
    /// ascend and are apart, at most [`MISSING_RANGES_MAX`].
    pub fn missing_segments(
        &mut self,
        initiator: Initiator,
        transaction: u64,
        (segments, end): (u32, u32),
        ranges: impl IntoIterator<Item = RangeInclusive<u32>>,
    ) -> bool {
        self.block(block_type::MISSING_SEGMENTS, |block| {
            block.varint(initiator as u64)?;
            block.varint(transaction)?;
            block.varint(segments.into())?;
            block.varint(end.into())?;
            let count_at = block.at;
            block.varint(0)?;
            let mut count = 0;
            for range in ranges {
                count += 1;
                if count > MISSING_RANGES_MAX {
                    return None;
                }
                block.varint((*range.start()).into())?;
                block.varint((range.end() - range.start()).into())?;
            }
            varint::write(&mut block.bytes[count_at..=count_at], count as u64).map(drop)
        })
    }

    /// The lowest transaction id that the sender still cares about.
    pub fn low_water_mark(&mut self, transaction: u64) -> bool {
        self.block(block_type::LOW_WATER_MARK, |block| block.varint(transaction))
    }

    /// The end of the session. The text must be printable ASCII of at most
    /// [`CLOSE_TEXT_LEN_MAX`] bytes.
    pub fn close(&mut self, close: Close<'_>) -> bool {
        self.block(block_type::CLOSE, |block| {
            let text = close.text.as_bytes();
            let printable = text.iter().all(|byte| matches!(byte, b' '..=b'~'));
            if text.len() > CLOSE_TEXT_LEN_MAX || !printable {
                return None;
            }
            block.varint(close.reason)?;
            block.bytes(text)
        })
    }

    /// A reason to acknowledge.
    pub fn ping(&mut self) -> bool {
        self.block(block_type::PING, |_| Some(()))
    }

    /// Bytes to be echoed to where they came from.
    pub fn path_challenge(&mut self, data: [u8; 8]) -> bool {
        self.block(block_type::PATH_CHALLENGE, |block| block.bytes(&data))
    }

    /// The echo of a challenge.
    pub fn path_response(&mut self, data: [u8; 8]) -> bool {
        self.block(block_type::PATH_RESPONSE, |block| block.bytes(&data))
    }

    /// What the sender of the block will answer in a reset of this session.
    pub fn reset_token(&mut self, token: [u8; 16]) -> bool {
        self.block(block_type::RESET_TOKEN, |block| block.bytes(&token))
    }

    /// A block of exactly `len` bytes that says nothing; at least 2.
    pub fn padding(&mut self, len: usize) -> bool {
        // The length's own width is what lets every total be reached.
        let width = match len {
            ..=1 => return false,
            2..=65 => 1,
            66..=16_386 => 2,
            _ => 4,
        };
        let Some(place) = self.body[self.len..].get_mut(..len) else { return false };
        place.fill(0);
        let (kind, rest) = place.split_at_mut(1);
        let value_len = (rest.len() - width) as u64;
        let written = varint::write(kind, block_type::PADDING)
            .and_then(|_| varint::write_wide(rest, value_len, width));
        if written.is_some() {
            self.len += len;
        }
        written.is_some()
    }

    /// Writes a block's type, the value by `write`, and then the length between them.
    fn block(&mut self, kind: u64, write: impl FnOnce(&mut Value<'_>) -> Option<()>) -> bool {
        self.try_block(kind, write).map(|end| self.len = end).is_some()
    }

    fn try_block(
        &mut self,
        kind: u64,
        write: impl FnOnce(&mut Value<'_>) -> Option<()>,
    ) -> Option<usize> {
        let length_at = self.len + varint::write(&mut self.body[self.len..], kind)?;
        let value_at = length_at + LENGTH_WIDTH;
        if value_at > self.body.len() {
            return None;
        }
        let mut value = Value { bytes: self.body, at: value_at };
        write(&mut value)?;
        let end = value.at;
        let value_len = (end - value_at) as u64;
        varint::write_wide(&mut self.body[length_at..], value_len, LENGTH_WIDTH)?;
        Some(end)
    }
}

/// How many numbers of a range follow its first.
fn len(range: &RangeInclusive<u64>) -> u64 {
    range.end().checked_sub(*range.start()).expect("a range holds a number")
}

/// A block's value while it is written.
struct Value<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Value<'_> {
    fn varint(&mut self, value: u64) -> Option<()> {
        self.at += varint::write(&mut self.bytes[self.at..], value)?;
        Some(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        self.bytes.get_mut(self.at..self.at + bytes.len())?.copy_from_slice(bytes);
        self.at += bytes.len();
        Some(())
    }
}
