//! Any control body reads to blocks that keep their bounds, and what was read can be written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use raet::limits::{ACK_RANGES_MAX, MISSING_RANGES_MAX, SEGMENT_COUNT_MAX, TRANSACTION_RANGES_MAX};
use raet::protocol::wire::control::{Block, Blocks, Writer};
use raet::protocol::wire::varint;

fuzz_target!(|data: &[u8]| {
    let mut room = [0; 2048];
    for block in Blocks::new(data).map_while(Result::ok) {
        let mut writer = Writer::new(&mut room);
        let is_written = match block {
            Block::PacketRanges(ranges) => {
                assert!((1..=ACK_RANGES_MAX).contains(&ranges.iter().count()));
                let mut above = u64::MAX;
                for range in ranges.iter() {
                    assert!(range.start() <= range.end() && *range.end() < above - 1);
                    above = *range.start();
                }
                writer.packet_ranges(ranges.lane, ranges.delay, ranges.iter())
            }
            Block::TransactionRanges(ranges) => {
                assert!((1..=TRANSACTION_RANGES_MAX).contains(&ranges.iter().count()));
                let mut above = u64::MAX;
                for range in ranges.iter() {
                    assert!(range.start() <= range.end() && *range.end() < above);
                    above = *range.start();
                }
                // An end beyond what a varint holds can be stated, but not by us.
                let largest = ranges.iter().next().expect("one at least");
                let is_written =
                    writer.transaction_ranges(ranges.initiator, ranges.status, ranges.iter());
                assert_eq!(is_written, *largest.end() <= varint::MAX);
                if !is_written {
                    continue;
                }
                is_written
            }
            Block::MissingSegments(missing) => {
                assert!(missing.end <= missing.segments && missing.segments <= SEGMENT_COUNT_MAX);
                assert!(missing.iter().count() <= MISSING_RANGES_MAX);
                let mut low = 0;
                for range in missing.iter() {
                    assert!(low <= *range.start() && range.start() <= range.end());
                    assert!(*range.end() < missing.end);
                    low = range.end() + 1;
                }
                let (initiator, transaction) = (missing.initiator, missing.transaction);
                let spoken_of = (missing.segments, missing.end);
                writer.missing_segments(initiator, transaction, spoken_of, missing.iter())
            }
            Block::EcnCounts(counts) => writer.ecn_counts(counts),
            Block::AckFrequency(frequency) => writer.ack_frequency(frequency),
            Block::Credit(credit) => writer.credit(credit),
            Block::Grant(grant) => writer.grant(grant),
            Block::Issued(end) => writer.issued(end),
            Block::LowWaterMark(transaction) => writer.low_water_mark(transaction),
            Block::Close(close) => writer.close(close),
            Block::PathChallenge(data) => writer.path_challenge(data),
            Block::PathResponse(data) => writer.path_response(data),
            Block::Ping => writer.ping(),
            Block::ResetToken(token) => writer.reset_token(token),
        };
        assert!(is_written);
        let len = writer.finish();
        let again = Blocks::new(&room[..len]).next().expect("a block").expect("ours");
        match (block, again) {
            (Block::PacketRanges(read), Block::PacketRanges(again)) => {
                assert!(read.iter().eq(again.iter()));
                assert_eq!((read.lane, read.largest), (again.lane, again.largest));
            }
            (Block::TransactionRanges(read), Block::TransactionRanges(again)) => {
                assert!(read.iter().eq(again.iter()));
                assert_eq!((read.initiator, read.status), (again.initiator, again.status));
            }
            (Block::MissingSegments(read), Block::MissingSegments(again)) => {
                assert!(read.iter().eq(again.iter()));
                assert_eq!(
                    (read.initiator, read.transaction),
                    (again.initiator, again.transaction)
                );
                assert_eq!((read.segments, read.end), (again.segments, again.end));
            }
            // A delay beyond what we count in is cut; in microseconds it is the same.
            (Block::AckFrequency(read), Block::AckFrequency(again)) => {
                assert_eq!((read.lane, read.packets), (again.lane, again.packets));
                assert_eq!(read.delay.as_micros(), again.delay.as_micros());
            }
            _ => assert_eq!(block, again),
        }
    }
});
