//! Control bodies: layouts byte by byte, what must be refused, and what goes in against what
//! comes out.

use core::ops::RangeInclusive;

use proptest::prelude::*;

use super::super::varint;
use super::*;
use crate::limits::{ACK_RANGES_MAX, TRANSACTION_RANGES_MAX};
use crate::protocol::drop_reason::DropReason;
use crate::time::Duration;

fn written(write: impl FnOnce(&mut Writer<'_>) -> bool) -> Vec<u8> {
    let mut body = [0xee; 4096];
    let mut writer = Writer::new(&mut body);
    assert!(write(&mut writer));
    let len = writer.finish();
    body[..len].to_vec()
}

fn only_block(body: &[u8]) -> Result<Block<'_>, DropReason> {
    let mut blocks = Blocks::new(body);
    let block = blocks.next().expect("a block");
    assert_eq!(blocks.next(), None);
    block
}

/// A block of this type and value, with the shortest length.
fn block(kind: u64, value: &[u64]) -> Vec<u8> {
    let mut bytes = vec![0; 8 * value.len()];
    let mut len = 0;
    for &number in value {
        len += varint::write(&mut bytes[len..], number).unwrap();
    }
    bytes.truncate(len);
    let mut head = [0; 16];
    let kind_len = varint::write(&mut head, kind).unwrap();
    let head_len = kind_len + varint::write(&mut head[kind_len..], len as u64).unwrap();
    [&head[..head_len], &bytes].concat()
}

fn packet_ranges(body: &[u8]) -> Vec<RangeInclusive<u64>> {
    let Ok(Block::PacketRanges(ranges)) = only_block(body) else { panic!("{body:?}") };
    ranges.iter().collect()
}

// PROTOCOL 7.11
#[test]
fn path_blocks_are_eight_bytes_and_a_token_sixteen() {
    let data = *b"8 random";
    let challenge = written(|writer| writer.path_challenge(data));
    assert_eq!(challenge, [&[10, 0x40, 8][..], &data].concat());
    assert_eq!(only_block(&challenge), Ok(Block::PathChallenge(data)));
    let response = written(|writer| writer.path_response(data));
    assert_eq!(only_block(&response), Ok(Block::PathResponse(data)));
    let token = *b"of sixteen bytes";
    let told = written(|writer| writer.reset_token(token));
    assert_eq!(told, [&[12, 0x40, 16][..], &token].concat());
    assert_eq!(only_block(&told), Ok(Block::ResetToken(token)));
    for len in [7, 9] {
        let body = [&[10, len][..], &[0; 9][..usize::from(len)]].concat();
        assert_eq!(only_block(&body), Err(DropReason::BodyMalformed));
    }
}

// PROTOCOL 2.17
#[test]
fn blocks_come_in_order_and_unknown_types_are_passed_over() {
    let body = [
        block(9, &[]),
        block(1 << 20, &[1, 2, 3]),
        block(varint::MAX, &[5]),
        block(6, &[77]),
        block(8, &[0, 0, 0]),
    ]
    .concat();
    let blocks: Vec<_> = Blocks::new(&body).collect();
    assert_eq!(blocks, [Ok(Block::Ping), Ok(Block::LowWaterMark(77))]);
    assert_eq!(Blocks::new(&[]).next(), None);
}

// PROTOCOL 2.17
#[test]
fn block_that_is_cut_or_has_bytes_left_is_malformed_and_ends_the_body() {
    for body in [
        &[9][..],
        &[9, 1],
        &[0x40],
        &[6, 5, 1],
        &[9, 1, 0],
        &[6, 2, 1, 1],
        &[6, 0],
        &[5, 1, 1],
        &[99, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ] {
        let mut blocks = Blocks::new(body);
        assert_eq!(blocks.next(), Some(Err(DropReason::BodyMalformed)), "{body:?}");
        assert_eq!(blocks.next(), None);
    }
}

// PROTOCOL 2.18; the numbers of RFC 9000 19.3.1's rule worked by hand
#[test]
fn packet_ranges_layout() {
    let body = written(|writer| {
        writer.packet_ranges(1, Duration::from_micros(25), [90..=100, 50..=60, 48..=48])
    });
    // type, length, lane, largest, delay, further ranges, first length, (gap, length) twice
    assert_eq!(body, [1, 0x40, 10, 1, 0x40, 100, 25, 2, 10, 28, 10, 0, 0]);
    let Ok(Block::PacketRanges(ranges)) = only_block(&body) else { panic!() };
    assert_eq!((ranges.lane, ranges.largest, ranges.delay), (1, 100, Duration::from_micros(25)));
    assert_eq!(packet_ranges(&body), [90..=100, 50..=60, 48..=48]);
}

// PROTOCOL 2.18
#[test]
fn packet_ranges_below_zero_or_too_many_are_an_invalid_acknowledgement() {
    assert_eq!(packet_ranges(&block(1, &[0, 10, 0, 0, 10])), [0..=10]);
    assert_eq!(packet_ranges(&block(1, &[0, 10, 0, 1, 2, 4, 2])), [8..=10, 0..=2]);
    for value in [
        &[0, 10, 0, 0, 11][..],
        &[0, 10, 0, 1, 2, 4, 3],
        &[0, 10, 0, 1, 2, 7, 0],
        &[0, 10, 0, 1, 9, 0, 0],
        &[0, 10, 0, 1, 0, varint::MAX, varint::MAX],
    ] {
        assert_eq!(only_block(&block(1, value)), Err(DropReason::AckInvalid), "{value:?}");
    }
    let many = |further: u64| {
        let mut value = vec![0, 1000, 0, further, 0];
        value.extend((0..further).flat_map(|_| [0, 0]));
        block(1, &value)
    };
    assert_eq!(packet_ranges(&many(63)).len(), ACK_RANGES_MAX);
    assert_eq!(only_block(&many(64)), Err(DropReason::AckInvalid));
    for value in [&[0x1_0000, 10, 0, 0, 0][..], &[0, 10, 0, 1, 0], &[0, 10], &[]] {
        assert_eq!(only_block(&block(1, value)), Err(DropReason::BodyMalformed), "{value:?}");
    }
}

// PROTOCOL 2.19
#[test]
fn ecn_counts_layout() {
    let counts = EcnCounts { lane: 2, ect0: 1000, ect1: 3, ce: 4 };
    let body = written(|writer| writer.ecn_counts(counts));
    assert_eq!(body, [2, 0x40, 5, 2, 0x43, 0xe8, 3, 4]);
    assert_eq!(only_block(&body), Ok(Block::EcnCounts(counts)));
}

// PROTOCOL 5.30
#[test]
fn ack_frequency_layout() {
    let frequency = AckFrequency { lane: 1, packets: 64, delay: Duration::from_millis(25) };
    let body = written(|writer| writer.ack_frequency(frequency));
    assert_eq!(body, [13, 0x40, 7, 1, 0x40, 64, 0x80, 0, 0x61, 0xa8]);
    assert_eq!(only_block(&body), Ok(Block::AckFrequency(frequency)));
    let foreign = block(13, &[1 << 16, 8, 1]);
    assert_eq!(only_block(&foreign), Err(DropReason::BodyMalformed));
}

// PROTOCOL 2.20
#[test]
fn transaction_ranges_layout() {
    let body = written(|writer| {
        writer.transaction_ranges(
            Initiator::Receiver,
            TransactionStatus::Done,
            [70..=79, 69..=69, 1..=5],
        )
    });
    // type, length, initiator, status, count, (first, following) three times
    assert_eq!(body, [3, 0x40, 11, 0, 0, 3, 0x40, 70, 9, 0x40, 69, 0, 1, 4]);
    let body = written(|writer| {
        writer.transaction_ranges(Initiator::Sender, TransactionStatus::Refused(9), [4..=4])
    });
    assert_eq!(body, [3, 0x40, 6, 1, 2, 9, 1, 4, 0]);
    let Ok(Block::TransactionRanges(ranges)) = only_block(&body) else { panic!() };
    assert_eq!(ranges.initiator, Initiator::Sender);
    assert_eq!(ranges.status, TransactionStatus::Refused(9));
    for (number, status) in [(1, TransactionStatus::Accepted), (3, TransactionStatus::Expired)] {
        let body = written(|writer| writer.transaction_ranges(Initiator::Sender, status, [4..=4]));
        assert_eq!(body, [3, 0x40, 5, 1, number, 1, 4, 0]);
        let Ok(Block::TransactionRanges(ranges)) = only_block(&body) else { panic!() };
        assert_eq!(ranges.status, status);
    }
}

// PROTOCOL 2.20
#[test]
fn transaction_ranges_that_rise_overlap_or_are_too_many_are_an_invalid_acknowledgement() {
    for value in [
        &[0, 0, 0][..],
        &[0, 0, 2, 5, 0, 5, 0],
        &[0, 0, 2, 5, 0, 6, 0],
        &[0, 0, 2, 5, 0, 4, 1],
        &[0, 0, 33],
    ] {
        assert_eq!(only_block(&block(3, value)), Err(DropReason::AckInvalid), "{value:?}");
    }
    for value in [&[2, 0, 1, 5, 0][..], &[0, 4, 1, 5, 0], &[0, 0, 1, 5], &[0, 0, 1, 5, 0, 4, 0]] {
        assert_eq!(only_block(&block(3, value)), Err(DropReason::BodyMalformed), "{value:?}");
    }
    let widest = block(3, &[0, 0, 1, varint::MAX, varint::MAX]);
    let Ok(Block::TransactionRanges(ranges)) = only_block(&widest) else { panic!() };
    assert_eq!(ranges.iter().collect::<Vec<_>>(), [varint::MAX..=2 * varint::MAX]);
}

// PROTOCOL 2.21
#[test]
fn credit_layout() {
    let credit = Credit { transaction_max: 9, bytes_max: 1 << 20 };
    let body = written(|writer| writer.credit(credit));
    assert_eq!(body, [5, 0x40, 5, 9, 0x80, 0x10, 0, 0]);
    assert_eq!(only_block(&body), Ok(Block::Credit(credit)));
}

// PROTOCOL 2.25
#[test]
fn missing_segments_layout_and_bounds() {
    let body =
        written(|writer| writer.missing_segments(Initiator::Receiver, 9, (30, 20), [1..=3, 7..=7]));
    assert_eq!(body, [4, 0x40, 9, 0, 9, 30, 20, 2, 1, 2, 7, 0]);
    let Ok(Block::MissingSegments(missing)) = only_block(&body) else { panic!() };
    assert_eq!((missing.initiator, missing.transaction), (Initiator::Receiver, 9));
    assert_eq!((missing.segments, missing.end), (30, 20));
    assert_eq!(missing.iter().collect::<Vec<_>>(), [1..=3, 7..=7]);
    for (value, reason) in [
        (&[0, 9, 20, 20, 1, 18, 2][..], DropReason::AckInvalid),
        (&[0, 9, 20, 20, 2, 5, 1, 6, 0], DropReason::AckInvalid),
        (&[0, 9, 20, 20, 64], DropReason::AckInvalid),
        (&[0, 9, 65_536, 20, 0], DropReason::BodyMalformed),
        (&[0, 9, 20, 21, 0], DropReason::BodyMalformed),
        (&[2, 9, 20, 20, 0], DropReason::BodyMalformed),
        (&[0, 9, 20, 20, 1, 5], DropReason::BodyMalformed),
    ] {
        assert_eq!(only_block(&block(4, value)), Err(reason), "{value:?}");
    }
}

// PROTOCOL 2.26
#[test]
fn grant_and_issued_layout() {
    let grant = Grant { initiator: Initiator::Sender, transaction: 9, end: 64 };
    let body = written(|writer| writer.grant(grant));
    assert_eq!(body, [15, 0x40, 4, 1, 9, 0x40, 64]);
    assert_eq!(only_block(&body), Ok(Block::Grant(grant)));
    let body = written(|writer| writer.issued(64));
    assert_eq!(body, [14, 0x40, 2, 0x40, 64]);
    assert_eq!(only_block(&body), Ok(Block::Issued(64)));
}

// PROTOCOL 2.22
#[test]
fn low_water_mark_layout() {
    let body = written(|writer| writer.low_water_mark(77));
    assert_eq!(body, [6, 0x40, 2, 0x40, 77]);
    assert_eq!(only_block(&body), Ok(Block::LowWaterMark(77)));
}

// PROTOCOL 2.23
#[test]
fn close_layout_and_text_bounds() {
    let close = Close { reason: 3, text: "bye" };
    let body = written(|writer| writer.close(close));
    assert_eq!(body, [7, 0x40, 4, 3, b'b', b'y', b'e']);
    assert_eq!(only_block(&body), Ok(Block::Close(close)));

    let mut body = [0; 256];
    let mut writer = Writer::new(&mut body);
    for text in ["\n", "\u{7f}", "\u{e9}", &"x".repeat(CLOSE_TEXT_LEN_MAX + 1)] {
        assert!(!writer.close(Close { reason: 0, text }));
        let value = [&[0], text.as_bytes()].concat();
        let len = u8::try_from(value.len()).unwrap();
        let wire = [&[7, 0x40, len], &value[..]].concat();
        assert_eq!(only_block(&wire), Err(DropReason::BodyMalformed), "{text:?}");
    }
    assert!(writer.close(Close { reason: 0, text: &"~".repeat(CLOSE_TEXT_LEN_MAX) }));
}

// PROTOCOL 2.24
#[test]
fn padding_fills_any_length_from_two_and_says_nothing() {
    let mut body = vec![0xee; 70_000];
    for len in [2, 3, 64, 65, 66, 67, 1200, 16_386, 16_387, 65_000] {
        let mut writer = Writer::new(&mut body);
        assert!(writer.padding(len));
        assert!(writer.ping());
        assert_eq!(writer.finish(), len + 3);
        assert_eq!(body[0], 8);
        assert_eq!(only_block(&body[..len + 3]), Ok(Block::Ping));
    }
    let mut writer = Writer::new(&mut body[..10]);
    assert!(!writer.padding(0) && !writer.padding(1) && !writer.padding(11));
    assert!(writer.padding(10));
    assert_eq!(writer.remaining(), 0);
    // What a padding holds does not matter.
    assert_eq!(Blocks::new(&[8, 3, 0xff, 0xff, 0xff]).next(), None);
}

#[test]
fn block_that_does_not_fit_is_refused_and_the_writer_goes_on() {
    type Write = fn(&mut Writer<'_>) -> bool;
    let writes: [Write; 7] = [
        |writer| writer.packet_ranges(3, Duration::from_millis(5), [900..=1000, 1..=5]),
        |writer| writer.ecn_counts(EcnCounts { lane: 0, ect0: 100, ect1: 200, ce: 300 }),
        |writer| {
            writer.transaction_ranges(Initiator::Sender, TransactionStatus::Done, [5..=9, 1..=2])
        },
        |writer| writer.credit(Credit { transaction_max: 1 << 40, bytes_max: 1 << 50 }),
        |writer| writer.low_water_mark(1 << 20),
        |writer| writer.close(Close { reason: 1, text: "because" }),
        |writer| writer.ping(),
    ];
    for write in writes {
        let full = written(write);
        for room in 0..full.len() {
            let mut body = vec![0; room];
            let mut writer = Writer::new(&mut body);
            assert!(!write(&mut writer));
            assert_eq!((writer.remaining(), writer.finish()), (room, 0));
        }
    }
}

#[test]
fn what_a_block_cannot_hold_is_refused() {
    let mut body = [0; 4096];
    let mut writer = Writer::new(&mut body);
    let descending = |count: u64| (0..count).rev().map(|i| 10 * i..=10 * i);
    assert!(!writer.packet_ranges(0, Duration::ZERO, descending(ACK_RANGES_MAX as u64 + 1)));
    assert!(!writer.packet_ranges(0, Duration::ZERO, []));
    let done = TransactionStatus::Done;
    let too_many = descending(TRANSACTION_RANGES_MAX as u64 + 1);
    assert!(!writer.transaction_ranges(Initiator::Sender, done, too_many));
    assert!(!writer.transaction_ranges(Initiator::Sender, done, []));
    assert!(!writer.transaction_ranges(Initiator::Sender, done, [5..=varint::MAX + 1]));
    assert!(!writer.low_water_mark(varint::MAX + 1));
    assert!(!writer.credit(Credit { transaction_max: 0, bytes_max: u64::MAX }));
    assert_eq!(writer.finish(), 0);
}

/// Descending ranges, each pair at least `apart` from the next.
fn ranges(count: usize, apart: u64) -> impl Strategy<Value = Vec<RangeInclusive<u64>>> {
    let step = || prop_oneof![0u64..5, 0u64..1 << 20, 0u64..1 << 40];
    prop::collection::vec((step(), step()), 1..=count).prop_map(move |steps| {
        let mut at = 0;
        let mut ranges: Vec<_> = steps
            .into_iter()
            .map(|(gap, len)| {
                let range = at + gap..=at + gap + len;
                at += gap + len + apart;
                range
            })
            .collect();
        ranges.reverse();
        ranges
    })
}

proptest! {
    #[test]
    fn packet_ranges_come_out_as_they_went_in(ranges in ranges(ACK_RANGES_MAX, 2), lane: u16) {
        let body = written(|writer| writer.packet_ranges(lane, Duration::ZERO, ranges.clone()));
        prop_assert_eq!(packet_ranges(&body), ranges);
    }

    #[test]
    fn transaction_ranges_come_out_as_they_went_in(ranges in ranges(TRANSACTION_RANGES_MAX, 1)) {
        let body = written(|writer| {
            writer.transaction_ranges(Initiator::Sender, TransactionStatus::Accepted, ranges.clone())
        });
        let Ok(Block::TransactionRanges(read)) = only_block(&body) else { panic!() };
        prop_assert_eq!(read.iter().collect::<Vec<_>>(), ranges);
    }

    #[test]
    fn any_body_reads_to_blocks_that_keep_their_bounds(
        blocks in prop::collection::vec(
            (0u64..17, prop::collection::vec(prop_oneof![0u64..9, 0..=varint::MAX], 0..9)), 0..6,
        ),
        noise: Vec<u8>,
    ) {
        let body: Vec<u8> = blocks.iter().flat_map(|(kind, value)| block(*kind, value)).chain(noise).collect();
        for block in Blocks::new(&body).map_while(Result::ok) {
            match block {
                Block::PacketRanges(ranges) => {
                    let read: Vec<_> = ranges.iter().collect();
                    prop_assert!((1..=ACK_RANGES_MAX).contains(&read.len()));
                    prop_assert_eq!(*read[0].end(), ranges.largest);
                    prop_assert!(read.iter().all(|range| range.start() <= range.end()));
                    prop_assert!(read.windows(2).all(|pair| *pair[1].end() + 1 < *pair[0].start()));
                }
                Block::TransactionRanges(ranges) => {
                    let read: Vec<_> = ranges.iter().collect();
                    prop_assert!((1..=TRANSACTION_RANGES_MAX).contains(&read.len()));
                    prop_assert!(read.iter().all(|range| range.start() <= range.end()));
                    prop_assert!(read.windows(2).all(|pair| pair[1].end() < pair[0].start()));
                }
                Block::MissingSegments(missing) => {
                    let read: Vec<_> = missing.iter().collect();
                    prop_assert!(read.iter().all(|range| *range.end() < missing.end));
                    prop_assert!(read.windows(2).all(|pair| pair[0].end() < pair[1].start()));
                }
                _ => {}
            }
        }
    }
}
