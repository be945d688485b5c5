//! The receiver's table of transactions, of what it saw, refused and put off, against sets: what it
//! accepts, what it reports and how far its credit goes (PROTOCOL 6.3 to 6.8, 6.21 and 6.30).
//!
//! Every four bytes are one operation: what it is, and three numbers for it.

#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use libfuzzer_sys::fuzz_target;
use raet::protocol::transaction::{Acceptance, Features, Inbox, features};
use raet::protocol::wire::ServiceKind;
use raet_fuzz::runs;

const WINDOW: u64 = 64;
const OPERATIONS_MAX: usize = 256;

fuzz_target!(|data: &[u8]| {
    let mut receiver = Receiver::new();
    let script = data.as_chunks().0.iter().take(OPERATIONS_MAX);
    script.for_each(|&operation| receiver.step(operation));
});

/// The receiver's table and what it should know.
struct Receiver {
    inbox: Inbox,
    seen: BTreeSet<u64>,
    refused: BTreeMap<u64, u8>,
    deferred: BTreeSet<u64>,
    held: u64,
    granted: u64,
    /// The sender's mark.
    low_water: u64,
    /// All below was seen, and neither refused nor put off when it was (PROTOCOL 6.7 and 6.30).
    low: u64,
    /// What was accepted last, for the first time: what may be refused or put off.
    turn: Range<u64>,
}

impl Receiver {
    fn new() -> Self {
        Self {
            inbox: Inbox::new(u32::try_from(WINDOW).expect("it is small")),
            seen: BTreeSet::new(),
            refused: BTreeMap::new(),
            deferred: BTreeSet::new(),
            held: 0,
            granted: WINDOW,
            low_water: 0,
            low: 0,
            turn: 0..0,
        }
    }

    fn step(&mut self, [op, a, b, c]: [u8; 4]) {
        let near = (self.low + u64::from(a % 128)).saturating_sub(u64::from(c % 64));
        let in_turn = self.turn.start + u64::from(a) % (self.turn.end - self.turn.start).max(1);
        match op % 12 {
            0..=2 => self.accept(
                features(ServiceKind::ALL[usize::from(op / 32)]),
                near,
                u32::from(b % 16),
            ),
            3 => self.accept(features(ServiceKind::ExactlyOnce), self.low, u32::from(b % 64)),
            4 if self.turn.contains(&in_turn) && !self.deferred.contains(&in_turn) => {
                assert_eq!(self.inbox.refuse(in_turn, b), in_turn >= self.low_water);
                if in_turn >= self.low_water {
                    self.refused.entry(in_turn).or_insert(b);
                }
            }
            5 if near < self.granted && !self.has_seen(near) => {
                // Its beginning arrived.
                assert!(self.inbox.refuse_incomplete(near, b));
                self.seen.insert(near);
                self.refused.insert(near, b);
                self.move_on();
            }
            5 if !self.is_done(near) || near < self.low_water => {
                // Nothing of it was handed over in this turn.
                let is_told = self.refused.contains_key(&near);
                if !self.deferred.contains(&near) {
                    assert_eq!(self.inbox.refuse(near, b), is_told);
                }
            }
            6 => {
                let end = self.turn.end.min(in_turn + 1 + u64::from(b % 8));
                let free = |number: &u64| !self.refused.contains_key(number);
                for number in (in_turn..end).filter(free) {
                    self.inbox.defer(number..number + 1);
                    if number >= self.low_water {
                        self.deferred.insert(number);
                    }
                }
            }
            7 => {
                let number = self.pick_deferred(a).unwrap_or(near);
                assert_eq!(self.inbox.commit(number), self.deferred.remove(&number));
                self.move_on();
            }
            8 => {
                let number = self.pick_deferred(a).unwrap_or(near);
                let was_deferred = self.deferred.remove(&number);
                assert_eq!(self.inbox.refuse_deferred(number, b), was_deferred);
                if was_deferred {
                    self.refused.entry(number).or_insert(b);
                }
            }
            9 => {
                let low = if c & 0xc0 == 0xc0 { self.granted + u64::from(a) } else { near };
                assert_eq!(self.inbox.on_low_water(low), low <= self.granted);
                if (self.low_water + 1..=self.granted).contains(&low) {
                    self.low_water = low;
                    self.refused.retain(|&number, _| number >= low);
                    self.deferred.retain(|&number| number >= low);
                    self.move_on();
                }
            }
            10 => {
                self.inbox.hold(u64::from(a % 32));
                self.held += u64::from(a % 32);
            }
            _ => {
                self.inbox.release(a.into());
                self.held = self.held.saturating_sub(a.into());
                self.move_on();
            }
        }
        self.check(near, c);
    }

    fn accept(&mut self, row: Features, first: u64, count: u32) {
        let range = first..first + u64::from(count);
        let known = range.clone().filter(|&number| self.has_seen(number)).count() as u64;
        let is_full = self.held >= WINDOW;
        let expected = if range.is_empty() || range.end > self.granted {
            Acceptance::Violation
        } else if known == 0 || !row.dedup && !is_full {
            Acceptance::Deliver
        } else if row.dedup && known < range.end - range.start {
            Acceptance::Violation
        } else {
            Acceptance::Duplicate
        };
        assert_eq!(self.inbox.accept(row, first, count), expected, "{range:?}");
        if expected == Acceptance::Deliver {
            // A copy is not a message that may still be refused.
            self.turn = if known == 0 { range.clone() } else { 0..0 };
            self.seen.extend(range);
            self.move_on();
        }
    }

    /// Everything below what is in question counts as seen; the window begins there.
    fn move_on(&mut self) {
        self.low = self.low.max(self.low_water);
        while self.is_done(self.low) && self.not_done().all(|number| number >= self.low) {
            self.low += 1;
        }
        self.granted = self.granted.max(self.low + WINDOW.saturating_sub(self.held));
    }

    fn has_seen(&self, number: u64) -> bool {
        number < self.low_water || self.seen.contains(&number)
    }

    fn is_done(&self, number: u64) -> bool {
        let is_open = self.refused.contains_key(&number) || self.deferred.contains(&number);
        self.has_seen(number) && !is_open
    }

    /// What was seen and is not done.
    fn not_done(&self) -> impl Iterator<Item = u64> {
        self.refused.keys().chain(&self.deferred).copied()
    }

    fn pick_deferred(&self, at: u8) -> Option<u64> {
        self.deferred.iter().nth(usize::from(at) % self.deferred.len().max(1)).copied()
    }

    fn check(&self, near: u64, count: u8) {
        let seen_end = self.seen.last().map_or(0, |last| last + 1).max(self.low_water);
        let inbox = &self.inbox;
        assert_eq!(inbox.seen_end(), seen_end);
        assert_eq!((inbox.credit(), inbox.held()), (self.granted, self.held));
        let done = (self.low_water..seen_end).filter(|&number| self.is_done(number));
        assert!(inbox.done().eq(runs(done)), "what is done");
        assert!(inbox.accepted().eq(runs(self.deferred.iter().copied())), "what was put off");
        let refused = self.refused.iter().map(|(&number, &reason)| (number, reason));
        assert!(inbox.refused().iter().copied().eq(refused), "what was refused");
        assert_eq!(inbox.is_refused(near), self.refused.contains_key(&near));
        assert_eq!(inbox.has_seen(near), self.has_seen(near));
        let range = near..near + u64::from(count);
        let missing = range.clone().filter(|&number| !self.has_seen(number));
        assert!(inbox.missing(range).eq(missing), "what is missing");
        // Credit goes by what arrived: what comes at once is put off or refused only then.
        assert!(self.not_done().count() as u64 <= 2 * WINDOW);
    }
}
