//! Assembly by itself, against what a set of segments would say.

use proptest::prelude::*;

use super::super::service::features;
use super::*;
use crate::limits::SEGMENTS_GRANTED_MIN;
use crate::protocol::wire::ServiceKind;

const NOW: Instant = Instant::from_nanos(1_000);
const EXACTLY: Features = features(ServiceKind::ExactlyOnce);
const KEY: AssemblyKey = AssemblyKey { is_reply: false, transaction: 7 };

/// Body of segment `segment` of a message of `total` bytes, each of which is its segment's number.
fn body(total: usize, segment: u32, count: u32) -> Vec<u8> {
    let size = total.div_ceil(count as usize);
    let len = size.min(total - segment as usize * size);
    let mut body = vec![0; 8];
    let prefix = varint::write(&mut body, total as u64).unwrap();
    body.truncate(prefix);
    body.resize(prefix + len, segment.to_le_bytes()[0]);
    body
}

fn accept(
    assemblies: &mut Assemblies,
    key: AssemblyKey,
    total: usize,
    (segment, count): (u32, u32),
) -> Result<Progress, DropReason> {
    let body = body(total, segment, count);
    let piece = Piece::read(&body, segment, count)?;
    assemblies.forget_former(key, &piece);
    assemblies.accept(NOW, key, EXACTLY, &piece, &Blocks::new(usize::MAX))
}

#[test]
fn message_is_complete_with_its_last_segment_in_any_order() {
    // PROTOCOL 6.16
    let mut assemblies = Assemblies::new(10_000, 10_000);
    for segment in [2, 0] {
        let progress = accept(&mut assemblies, KEY, 2_500, (segment, 3));
        assert!(matches!(progress, Ok(Progress::Kept)));
    }
    let again = accept(&mut assemblies, KEY, 2_500, (2, 3));
    assert!(matches!(again, Ok(Progress::Duplicate)));
    assert_eq!(assemblies.used(), [2_500, 0, 0]);
    let Ok(Progress::Complete(block)) = accept(&mut assemblies, KEY, 2_500, (1, 3)) else {
        panic!("complete");
    };
    assert_eq!((block.len(), block[0], block[834], block[1_668]), (2_500, 0, 1, 2));
    assert_eq!((assemblies.used(), assemblies.is_empty()), ([0; 3], true));
}

#[test]
fn bundle_is_complete_as_a_whole_however_long() {
    // PROTOCOL 6.16
    let mut assemblies = Assemblies::new(10_000, 100);
    for segment in 0..3 {
        let body = body(2_500, segment, 3);
        let piece = Piece::read(&body, segment, 3).unwrap().of_bundle(true);
        let progress =
            assemblies.accept(NOW, KEY, EXACTLY, &piece, &Blocks::new(usize::MAX)).unwrap();
        assert_eq!(matches!(progress, Progress::Complete(_)), segment == 2);
    }
}

#[test]
fn segment_that_contradicts_the_others_or_itself_is_not_kept() {
    // PROTOCOL 6.15, 6.16
    let mut assemblies = Assemblies::new(10_000, 10_000);
    accept(&mut assemblies, KEY, 2_500, (0, 3)).unwrap();
    let other = accept(&mut assemblies, KEY, 2_501, (1, 3)).unwrap_err();
    assert_eq!(other, DropReason::TransactionViolation);
    for (body, segment, count, why) in [
        (&[][..], 0, 2, "no length"),
        (&[2, 9, 9][..], 0, 2, "a segment too long"),
        (&[3, 9][..], 0, 2, "a segment too short"),
        (&[2, 9][..], 1, 3, "more segments than the length can fill"),
        (&[0][..], 0, 2, "an empty message in segments"),
        (&[0xbf, 0xff, 0xff, 0xff][..], 0, 2, "a length beyond the bound"),
        (&[1, 9][..], 0, 1, "one segment only"),
    ] {
        let read = Piece::read(body, segment, count).map(|_| ());
        assert_eq!(read, Err(DropReason::BodyMalformed), "{why}");
    }
}

#[test]
fn message_that_was_cut_anew_into_more_segments_replaces_the_former() {
    // PROTOCOL 6.17
    let mut assemblies = Assemblies::new(10_000, 10_000);
    accept(&mut assemblies, KEY, 2_500, (0, 2)).unwrap();
    accept(&mut assemblies, KEY, 2_500, (0, 3)).unwrap();
    let late = accept(&mut assemblies, KEY, 2_500, (1, 2));
    assert!(matches!(late, Ok(Progress::Duplicate)));
    accept(&mut assemblies, KEY, 2_500, (1, 3)).unwrap();
    let last = accept(&mut assemblies, KEY, 2_500, (2, 3));
    assert!(matches!(last, Ok(Progress::Complete(_))));
}

#[test]
fn nothing_is_kept_beyond_the_reserved_memory() {
    // PROTOCOL 6.16
    let mut assemblies = Assemblies::new(4_000, 10_000);
    let key = |transaction| AssemblyKey { is_reply: false, transaction };
    accept(&mut assemblies, key(0), 2_500, (0, 3)).unwrap();
    let full = accept(&mut assemblies, key(1), 2_500, (0, 3)).unwrap_err();
    assert_eq!(full, DropReason::SegmentMemory);
    let reply = AssemblyKey { is_reply: true, transaction: 1 };
    accept(&mut assemblies, reply, 2_500, (0, 3)).unwrap();
    // What its sender counts against no grant takes nothing of what was granted.
    let body = body(2_500, 0, 3);
    let piece = Piece::read(&body, 0, 3).unwrap();
    let maybe = features(ServiceKind::Maybe);
    let accept_maybe = |assemblies: &mut Assemblies, transaction| {
        assemblies.accept(NOW, key(transaction), maybe, &piece, &Blocks::new(usize::MAX))
    };
    accept_maybe(&mut assemblies, 2).unwrap();
    assert_eq!(accept_maybe(&mut assemblies, 3).unwrap_err(), DropReason::SegmentMemory);
    assert_eq!(assemblies.on_low_water(1), None);
    accept(&mut assemblies, key(1), 2_500, (0, 3)).unwrap();
    assert_eq!(assemblies.used(), [2_500, 2_500, 2_500]);
}

#[test]
fn long_message_is_handed_over_in_pieces_and_keeps_only_early_ones() {
    // PROTOCOL 6.16
    let mut assemblies = Assemblies::new(10_000, 1_000);
    accept(&mut assemblies, KEY, 5_000, (2, 5)).unwrap();
    assert_eq!(assemblies.used(), [1_128, 0, 0]);
    let first = accept(&mut assemblies, KEY, 5_000, (0, 5));
    assert!(matches!(first, Ok(Progress::Turn { is_last: false })));
    assert!(assemblies.next_early(KEY).is_none());
    accept(&mut assemblies, KEY, 5_000, (1, 5)).unwrap();
    let (offset, block, is_last) = assemblies.next_early(KEY).unwrap();
    assert_eq!((offset, block[0], is_last, assemblies.used()[0]), (2_000, 2, false, 0));
    accept(&mut assemblies, KEY, 5_000, (4, 5)).unwrap();
    accept(&mut assemblies, KEY, 5_000, (3, 5)).unwrap();
    let (offset, _, is_last) = assemblies.next_early(KEY).unwrap();
    assert_eq!((offset, is_last), (4_000, true));
    assert!(assemblies.is_empty());
    assert!(assemblies.next_early(KEY).is_none());
}

#[test]
fn grants_go_to_the_messages_with_the_least_to_come() {
    // PROTOCOL 6.18
    let mut assemblies = Assemblies::new(1 << 30, 1 << 30);
    for transaction in 0..12 {
        let key = AssemblyKey { is_reply: false, transaction };
        let count = 100 - u32::try_from(transaction).unwrap();
        accept(&mut assemblies, key, count as usize * 1_000, (0, count)).unwrap();
    }
    let mut granted: Vec<u64> = assemblies.grants(NOW).map(|(key, _)| key.transaction).collect();
    granted.sort_unstable();
    assert_eq!(granted, (4..12).collect::<Vec<_>>());
}

#[test]
fn messages_that_are_coming_share_what_is_granted() {
    // PROTOCOL 6.18
    let mut assemblies = Assemblies::new(1 << 30, 1 << 30);
    let key = |transaction| AssemblyKey { is_reply: false, transaction };
    accept(&mut assemblies, key(0), 8 << 20, (0, 8 << 10)).unwrap();
    let unknown = u32::try_from(SEGMENTS_GRANTED_MIN / 1_024).unwrap();
    assert_eq!(assemblies.grants(NOW).collect::<Vec<_>>(), [(key(0), 1 + unknown)]);
    let later = NOW + GRANT_SHARE_KEPT;
    for transaction in 1..3 {
        let piece_body = body(8 << 20, 0, 8 << 10);
        let piece = Piece::read(&piece_body, 0, 8 << 10).unwrap();
        let blocks = Blocks::new(usize::MAX);
        assemblies.accept(later, key(transaction), EXACTLY, &piece, &blocks).unwrap();
    }
    let granted: BTreeMap<_, _> = assemblies.grants(later).collect();
    let [first, second] = [key(0), key(1)].map(|key| granted[&key]);
    assert_eq!((first, second), (1 + unknown, 1 + unknown / 2), "what is granted stays granted");
}

#[test]
fn grant_is_due_once_half_of_the_last_one_arrived() {
    // PROTOCOL 6.18
    let mut assemblies = Assemblies::new(1 << 30, 1 << 30);
    let count = 8 << 10;
    let mut due = Vec::new();
    for segment in 0..300 {
        accept(&mut assemblies, KEY, 8 << 20, (segment, count)).unwrap();
        if assemblies.is_grant_due(KEY) {
            due.push(segment + 1);
        }
        if segment + 1 == 100 {
            assemblies.grants(NOW).count();
        }
    }
    assert_eq!(due, [32, 100 + 128], "half of 64 KiB, then half of 256 KiB");
}

#[test]
fn messages_that_nobody_continues_hide_no_others() {
    // PROTOCOL 6.14 and 6.18
    let mut assemblies = Assemblies::new(1 << 30, 1 << 30);
    for transaction in 0..20 {
        let key = AssemblyKey { is_reply: false, transaction };
        accept(&mut assemblies, key, 100_000, (0, 100)).unwrap();
    }
    let later = NOW + ASSEMBLY_PATIENCE;
    let piece_body = body(200_000, 0, 200);
    let piece = Piece::read(&piece_body, 0, 200).unwrap();
    let new = AssemblyKey { is_reply: false, transaction: 20 };
    assemblies.accept(later, new, EXACTLY, &piece, &Blocks::new(usize::MAX)).unwrap();
    assert!(assemblies.grants(later).any(|(key, _)| key == new));
    let mut told = std::collections::BTreeSet::new();
    let mut start = AssemblyKey::default();
    for _ in 0..3 {
        for (key, ..) in assemblies.missing(start, |_| true) {
            told.insert(key);
            if !assemblies.is_touched(key) {
                start = AssemblyKey { transaction: key.transaction + 1, ..key };
            }
        }
        assemblies.on_told();
    }
    assert_eq!(told.len(), 21);
}

#[test]
fn message_of_which_a_segment_came_is_told_of_before_the_others() {
    // PROTOCOL 6.14
    let mut assemblies = Assemblies::new(1 << 30, 1 << 30);
    let key = |transaction| AssemblyKey { is_reply: false, transaction };
    for transaction in 0..20 {
        accept(&mut assemblies, key(transaction), 100_000, (0, 100)).unwrap();
    }
    assemblies.on_told();
    accept(&mut assemblies, key(17), 100_000, (1, 100)).unwrap();
    accept(&mut assemblies, key(15), 100_000, (0, 100)).unwrap();
    let told: Vec<_> = assemblies.missing(key(4), |_| true).map(|(key, ..)| key).collect();
    assert_eq!(told, [17, 15, 4, 5, 6, 7, 8, 9].map(key));
}

#[test]
fn incomplete_message_is_forgotten_after_its_patience_if_its_level_is_not_reported_on() {
    // PROTOCOL 6.19
    let mut assemblies = Assemblies::new(10_000, 10_000);
    let piece_body = body(2_500, 0, 3);
    let piece = Piece::read(&piece_body, 0, 3).unwrap();
    let blocks = Blocks::new(usize::MAX);
    let maybe = features(ServiceKind::Maybe);
    assemblies.accept(NOW, KEY, maybe, &piece, &blocks).unwrap();
    let other = AssemblyKey { transaction: 8, ..KEY };
    assemblies.accept(NOW, other, EXACTLY, &piece, &blocks).unwrap();
    let at = assemblies.next_timeout().unwrap();
    assert_eq!(assemblies.sweep(at), None);
    assert_eq!(assemblies.used(), [2_500, 0, 0]);
    // Its sender takes what was acknowledged as there, and does not send it again.
    let finite = AssemblyKey { transaction: 9, ..KEY };
    let row = features(ServiceKind::AtMostOnce);
    assemblies.accept(at, finite, row, &piece, &blocks).unwrap();
    assert_eq!(assemblies.sweep(at + ASSEMBLY_PATIENCE), None);
    assert!(assemblies.contains(finite));
}

proptest! {
    // PROTOCOL 6.16
    #[test]
    fn any_arrivals_complete_a_message_exactly_when_all_its_segments_are_there(
        total in 2usize..3_000, cuts in 2u32..20,
        arrivals in prop::collection::vec(0u32..20, 1..60), pieces in any::<bool>(),
    ) {
        let count = u32::try_from(total.div_ceil(total.div_ceil(cuts as usize))).unwrap();
        prop_assume!(count > 1);
        let mut assemblies = Assemblies::new(1 << 20, if pieces { 0 } else { 1 << 20 });
        let mut there = std::collections::BTreeSet::new();
        let mut bytes = 0;
        for segment in arrivals.into_iter().map(|segment| segment % count) {
            let is_new = there.insert(segment);
            let is_complete = match accept(&mut assemblies, KEY, total, (segment, count)).unwrap() {
                Progress::Complete(block) => { bytes += block.len(); true }
                Progress::Turn { is_last } => {
                    bytes += body(total, segment, count).len() - varint::len(total as u64);
                    let mut last = is_last;
                    while let Some((offset, block, is_last)) = assemblies.next_early(KEY) {
                        prop_assert_eq!(offset, bytes);
                        bytes += block.len();
                        last |= is_last;
                    }
                    last
                }
                Progress::Kept => { prop_assert!(is_new); false }
                Progress::Duplicate => { prop_assert!(!is_new); false }
            };
            prop_assert_eq!(is_complete, there.len() == count as usize);
            if is_complete {
                prop_assert_eq!(bytes, total);
                prop_assert_eq!(assemblies.used(), [0; 3]);
                break;
            }
        }
    }

    // PROTOCOL 2.25
    #[test]
    fn what_is_missing_is_told_as_a_set_would(
        count in 2u32..300, arrivals in prop::collection::btree_set(0u32..300, 1..200),
    ) {
        let there: Vec<u32> = arrivals.into_iter().filter(|at| *at < count).collect();
        prop_assume!(!there.is_empty() && there.len() < count as usize);
        let mut assemblies = Assemblies::new(1 << 20, 1 << 20);
        for &segment in &there {
            accept(&mut assemblies, KEY, count as usize, (segment, count)).unwrap();
        }
        let (_, (segments, end), ranges) = assemblies.missing(KEY, |_| true).next().unwrap();
        let told: Vec<u32> = ranges.flatten().collect();
        prop_assert_eq!(segments, count);
        let missing = (0..end).filter(|at| !there.contains(at)).collect::<Vec<_>>();
        prop_assert_eq!(told, missing);
        let gaps = there.windows(2).filter(|pair| pair[0] + 1 < pair[1]).count();
        if gaps < MISSING_RANGES_MAX {
            prop_assert_eq!(end, there[there.len() - 1] + 1);
        }
    }
}
