//! What decides that something arrived before, against naive twins: the replay window and the
//! duplicate ring against sets, segments against a plain buffer, a stream's escrow against a map.
//! The first byte chooses the machine, every three or four bytes after it are one operation.

#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use libfuzzer_sys::fuzz_target;
use raet::buffer::Blocks;
use raet::limits::{EARLY_PIECE_OVERHEAD, ESCROW_MESSAGES_MAX, REPLAY_WINDOW};
use raet::protocol::drop_reason::DropReason;
use raet::protocol::session::ReplayWindow;
use raet::protocol::transaction::{
    Assemblies, AssemblyKey, BitRing, Early, Escrow, Piece, Place, Progress, Stream, features,
};
use raet::protocol::wire::{BodyKind, ServiceKind, varint};
use raet::time::{Duration, Instant};

fuzz_target!(|data: &[u8]| {
    let Some((&choice, rest)) = data.split_first() else { return };
    match choice % 4 {
        0 => replay(rest),
        1 => ring(rest),
        2 => segments(rest),
        _ => escrow(rest),
    }
});

/// Numbers near the largest so far, far above it, and far below.
fn replay(script: &[u8]) {
    let (mut window, mut seen) = (ReplayWindow::default(), BTreeSet::new());
    for op in script.chunks_exact(3) {
        let end = seen.last().map_or(0_u64, |&largest: &u64| largest + 1);
        let by = u64::from(u16::from_le_bytes([op[1], op[2]]));
        let number = match op[0] % 4 {
            0 => end.saturating_add(by % 256),
            1 => end.saturating_add(by),
            2 => end.saturating_sub(by % 256),
            _ => end.saturating_sub(by),
        };
        let is_new = !seen.contains(&number) && end.saturating_sub(number) <= REPLAY_WINDOW;
        assert_eq!(window.is_new(number), is_new, "{number} with {end} next");
        if is_new {
            window.mark(number);
            seen.insert(number);
        }
    }
    assert!(!window.is_new(u64::MAX));
}

fn ring(script: &[u8]) {
    const CAPACITY: u32 = 256;
    let mut ring = BitRing::new(CAPACITY);
    // What is set at or above the low mark.
    let (mut set, mut low) = (BTreeSet::new(), 0_u64);
    for op in script.chunks_exact(3) {
        let (start, count) = (low + u64::from(op[1]), u64::from(op[2]));
        let end = (start + count).min(low + u64::from(CAPACITY));
        match op[0] % 5 {
            0 => {
                ring.set(start..end);
                set.extend(start..end);
            }
            1 => {
                ring.clear(start);
                set.remove(&start);
            }
            2 => {
                ring.advance(end);
                while low < end && set.remove(&low) {
                    low += 1;
                }
            }
            3 if count % 8 == 0 => {
                ring.advance_to(start);
                low = start;
                set.retain(|&number| number >= low);
            }
            _ => {
                let clear = (start..end).find(|number| !set.contains(number)).unwrap_or(end);
                let next = (start..end).find(|number| set.contains(number)).unwrap_or(end);
                assert_eq!(ring.next_clear(start, end), clear);
                assert_eq!(ring.next_set(start, end), next);
                assert_eq!(ring.is_clear(start..end), next == end);
            }
        }
        assert_eq!((ring.low(), ring.end()), (low, low + u64::from(CAPACITY)));
        assert_eq!(ring.contains(start), start < low || set.contains(&start));
    }
}

/// Segments of a few messages, in any order and more than once; some are cut anew, and some bodies
/// are not what a sender would make.
fn segments(script: &[u8]) {
    const BUDGET: u64 = 4_096;
    let (blocks, mut assemblies) = (Blocks::new(usize::MAX), Assemblies::new(BUDGET, usize::MAX));
    let row = features(ServiceKind::ExactlyOnce);
    // Length, segments, and which arrived.
    let mut twin: BTreeMap<AssemblyKey, (usize, u32, BTreeSet<u32>)> = BTreeMap::new();
    for op in script.chunks_exact(4) {
        let key = AssemblyKey { is_reply: op[0] & 1 == 1, transaction: u64::from(op[0] >> 1 & 3) };
        let (total, count) = (usize::from(op[1]) * 8, u32::from(op[2] % 16));
        if op[0] & 0xf8 == 0xf8 {
            assemblies.forget(key);
            twin.remove(&key);
            continue;
        }
        let segment = u32::from(op[3]) % count.max(1);
        let body = body(key, total, count, segment, op[3] == 0xff);
        let Ok(piece) = Piece::read(&body, segment, count) else { continue };
        assert!(total > 0 && piece.total() == total && count > 1);
        assert!(!assemblies.forget_former(key, &piece), "nothing is handed over in pieces");
        let got = assemblies.accept(Instant::ZERO, key, row, &piece, &blocks);

        let known = twin.get(&key).map(|(total, count, _)| (*total, *count));
        let begins = match known {
            None => true,
            Some((known, _)) if known != total => {
                assert_eq!(got.unwrap_err(), DropReason::TransactionViolation);
                continue;
            }
            Some((_, known)) if known > count => {
                assert!(matches!(got, Ok(Progress::Duplicate)));
                continue;
            }
            Some((_, known)) => known < count,
        };
        if begins {
            twin.remove(&key);
            let same = twin.iter().filter(|(other, _)| other.is_reply == key.is_reply);
            let used: usize = same.map(|(_, (total, ..))| total).sum();
            if (used + total) as u64 > BUDGET {
                assert_eq!(got.unwrap_err(), DropReason::SegmentMemory);
                continue;
            }
            twin.insert(key, (total, count, BTreeSet::new()));
        }
        let arrived = &mut twin.get_mut(&key).expect("known or begun").2;
        match got.expect("it fits") {
            Progress::Duplicate => assert!(!arrived.insert(segment)),
            Progress::Kept => {
                assert!(arrived.insert(segment));
                assert!(arrived.len() < count as usize);
            }
            Progress::Complete(block) => {
                assert!(arrived.insert(segment));
                assert_eq!(arrived.len(), count as usize);
                assert!(block.iter().enumerate().all(|(at, &byte)| byte == content(key, at)));
                assert_eq!(block.len(), total);
                twin.remove(&key);
            }
            Progress::Turn { .. } => panic!("messages are handed over whole"),
        }
        let used: usize = twin.values().map(|(total, ..)| total).sum();
        assert_eq!(assemblies.used().iter().sum::<u64>(), used as u64);
        for (key, (_, end), gaps) in assemblies.missing(key, |_| true) {
            let missing: BTreeSet<u32> = gaps.flatten().collect();
            let arrived = &twin[&key].2;
            assert!(
                (0..end).all(|segment| arrived.contains(&segment) != missing.contains(&segment))
            );
        }
    }
}

fn content(key: AssemblyKey, at: usize) -> u8 {
    (at as u8).wrapping_mul(31).wrapping_add(key.transaction as u8).wrapping_add(key.is_reply as u8)
}

fn body(key: AssemblyKey, total: usize, count: u32, segment: u32, is_short: bool) -> Vec<u8> {
    let size = total.div_ceil(count.max(1) as usize);
    let start = (segment as usize * size).min(total);
    let end = (start + size).min(total).saturating_sub(usize::from(is_short)).max(start);
    let mut body = vec![0; 8];
    let len = varint::write(&mut body, total as u64).expect("eight bytes are enough");
    body.truncate(len);
    body.extend((start..end).map(|at| content(key, at)));
    body
}

/// Messages of four streams, of which two are lossy.
fn escrow(script: &[u8]) {
    const BUDGET: u64 = 2_048;
    let (blocks, mut escrow) = (Blocks::new(usize::MAX), Escrow::new(BUDGET));
    let mut now = Instant::ZERO;
    // For each stream: whose turn it is, and what waits with its length.
    let mut twin: [(u64, BTreeMap<u64, usize>); 4] = Default::default();
    for op in script.chunks_exact(4) {
        let stream = Stream::of_order(u64::from(op[0] & 3));
        let number = usize::from(op[0] & 3);
        if op[0] & 0xf0 == 0xf0 {
            now += Duration::from_millis(u64::from(op[1]));
            while let Some((gone, missing)) = escrow.poll_gap(now) {
                assert!(gone.is_lossy() && missing.start < missing.end);
                let place = (0..4).find(|&at| Stream::of_order(at as u64) == gone);
                let (next, early) = &mut twin[place.expect("one of ours")];
                assert_eq!(*next, missing.start);
                assert_eq!(early.first_key_value().map(|(&first, _)| first), Some(missing.end));
                *next = missing.end;
                hand_over(&mut escrow, now, gone, next, early);
            }
            continue;
        }
        let cost = |len: usize| (len + EARLY_PIECE_OVERHEAD).min(BUDGET as usize);
        let held: usize =
            twin.iter().flat_map(|(_, early)| early.values()).map(|len| cost(*len)).sum();
        let (next, early) = &mut twin[number];
        let ahead = if op[2] & 0x80 == 0 { u64::from(op[2]) } else { u64::from(op[2]) * 16 };
        let index = (*next + ahead).saturating_sub(u64::from(op[3]));
        let len = usize::from(op[1] % 64);
        let order = stream.order(index);
        // A lossy stream's sender may have given up what lies between.
        let is_too_far = !stream.is_lossy() && index >= *next + ESCROW_MESSAGES_MAX;
        let expected = if index < *next {
            Place::Passed
        } else if index == *next {
            Place::Turn
        } else if (held + cost(len)) as u64 > BUDGET || is_too_far {
            Place::TooFar
        } else {
            Place::Early
        };
        assert_eq!(escrow.judge(order, len), expected);
        match expected {
            Place::Early => {
                let body = blocks.take(len);
                let messages = Early { transaction: index, count: 1, kind: BodyKind::Raw, body };
                escrow.keep(now, order, messages);
                early.insert(index, len);
            }
            Place::Turn => {
                escrow.pass(now, order, 1);
                *next += 1;
                hand_over(&mut escrow, now, stream, next, early);
            }
            Place::Passed | Place::TooFar => {}
        }
    }
}

/// What waited for its turn comes in order, each once, until something is missing.
fn hand_over(
    escrow: &mut Escrow,
    now: Instant,
    stream: Stream,
    next: &mut u64,
    early: &mut BTreeMap<u64, usize>,
) {
    while let Some((order, messages)) = escrow.next_early(now, stream) {
        assert_eq!((Stream::index_of(order), messages.transaction), (*next, *next));
        assert_eq!(early.remove(next), Some(messages.body.len()));
        *next += 1;
    }
    assert!(!early.contains_key(next));
}
