//! The receiving half: which transactions were seen, and what to report about them.
//!
//! A report is not an event to be queued and lost but a view of state: everything below the low
//! mark is done, and so is every set bit above it. Each acknowledgement says so again, so a lost
//! one costs nothing.

use std::collections::BTreeSet;
use std::ops::Range;

use super::bits::BitRing;
use super::service::Features;

/// What to do with an arriving unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acceptance {
    /// Deliver it.
    Deliver,
    /// Seen before, and its level promises at most one delivery: report it again, no more.
    Duplicate,
    /// Beyond the granted credit, or new and old transactions in one bundle (PROTOCOL 6.5).
    Violation,
}

/// Receiver's state of one association: duplicate ring, refusals, low-water mark.
#[derive(Debug)]
pub struct Inbox {
    seen: BitRing,
    /// One past the highest transaction seen.
    seen_end: u64,
    /// Transactions that fit our memory: beyond the lowest in question, less those held.
    window: u64,
    /// Messages that the application keeps in memory reserved for this peer.
    held: u64,
    /// First transaction that the sender may not use yet. Never decreases.
    granted: u64,
    /// The sender no longer cares about anything below.
    low_water: u64,
    /// Refused transactions at or above the low-water mark, ascending, with the reason.
    refusals: Vec<(u64, u8)>,
    /// Transactions that are accepted and not done yet.
    deferred: BTreeSet<u64>,
}

impl Inbox {
    /// An inbox that grants `window` transactions beyond the lowest one in question.
    pub fn new(window: u32) -> Self {
        Self {
            seen: BitRing::new(window),
            seen_end: 0,
            window: window.into(),
            held: 0,
            granted: window.into(),
            low_water: 0,
            refusals: Vec::new(),
            deferred: BTreeSet::new(),
        }
    }

    /// Judges a unit of `count` transactions from `first`, and remembers it (PROTOCOL 6.4).
    pub fn accept(&mut self, features: Features, first: u64, count: u32) -> Acceptance {
        let range = first..first.saturating_add(u64::from(count));
        if range.end > self.granted || range.is_empty() {
            return Acceptance::Violation;
        }
        // Copies are delivered again where the level allows it, but not into memory that is full.
        let is_new_only = features.dedup || self.held >= self.window;
        if is_new_only && !self.seen.is_clear(range.clone()) {
            let all_seen = self.seen.next_clear(range.start, range.end) >= range.end;
            let is_wrong = features.dedup && !all_seen;
            return if is_wrong { Acceptance::Violation } else { Acceptance::Duplicate };
        }
        self.note_seen(range);
        self.advance();
        Acceptance::Deliver
    }

    fn note_seen(&mut self, range: Range<u64>) {
        self.seen.set(range.clone());
        self.seen_end = self.seen_end.max(range.end);
    }

    /// Turns a transaction that was accepted this turn into a refused one. Refusals are as many
    /// as the window at most: the first one keeps the low mark, and with it credit, from moving.
    /// `false`: it was not accepted, or its sender no longer cares.
    pub fn refuse(&mut self, transaction: u64, reason: u8) -> bool {
        if transaction < self.low_water || !self.has_seen(transaction) {
            return false;
        }
        if let Err(place) = self.find_refusal(transaction) {
            self.refusals.insert(place, (transaction, reason));
        }
        true
    }

    /// Refuses a transaction within the granted credit before all of it arrived: what still comes
    /// of it was seen before (PROTOCOL 6.21).
    pub fn refuse_incomplete(&mut self, transaction: u64, reason: u8) -> bool {
        self.note_seen(transaction..transaction + 1);
        let is_told = self.refuse(transaction, reason);
        self.advance();
        is_told
    }

    /// Whether a transaction is refused and its sender may not know of it yet.
    pub fn is_refused(&self, transaction: u64) -> bool {
        self.find_refusal(transaction).is_ok()
    }

    fn find_refusal(&self, transaction: u64) -> Result<usize, usize> {
        self.refusals.binary_search_by_key(&transaction, |refusal| refusal.0)
    }

    /// Turns transactions that were accepted this turn into ones that are not done yet: their
    /// sender need not send them again, but is not told that they were delivered. The first one
    /// keeps the low mark from moving, so there are no more than the window has places.
    pub fn defer(&mut self, transactions: Range<u64>) {
        self.deferred.extend(transactions.start.max(self.low_water)..transactions.end);
    }

    /// A deferred transaction is done. `false`: it is none.
    pub fn commit(&mut self, transaction: u64) -> bool {
        let was_deferred = self.deferred.remove(&transaction);
        self.advance();
        was_deferred
    }

    /// A deferred transaction is refused: the low mark stays at it. `false`: it is none.
    pub fn refuse_deferred(&mut self, transaction: u64, reason: u8) -> bool {
        let was_deferred = self.deferred.remove(&transaction);
        if was_deferred {
            self.refuse(transaction, reason);
        }
        was_deferred
    }

    /// Whether a transaction was seen.
    pub fn has_seen(&self, transaction: u64) -> bool {
        self.seen.contains(transaction)
    }

    /// Transactions of `range` that were not seen and that the sender still cares about.
    pub fn missing(&self, range: Range<u64>) -> impl Iterator<Item = u64> + '_ {
        let mut at = range.start.max(self.seen.low());
        std::iter::from_fn(move || {
            at = self.seen.next_clear(at, range.end);
            (at < range.end).then(|| {
                at += 1;
                at - 1
            })
        })
    }

    /// One past the highest transaction seen.
    pub fn seen_end(&self) -> u64 {
        self.seen_end
    }

    /// The sender's word that everything below `low` is settled. `false`: an impossible claim.
    pub fn on_low_water(&mut self, low: u64) -> bool {
        if low > self.granted {
            return false;
        }
        if low > self.low_water {
            self.low_water = low;
            self.seen.advance_to(low);
            self.seen_end = self.seen_end.max(low);
            let keep = self.refusals.partition_point(|refusal| refusal.0 < low);
            self.refusals.drain(..keep);
            self.deferred = self.deferred.split_off(&low);
            self.advance();
        }
        true
    }

    /// First transaction that the sender may not use yet. Never decreases.
    pub fn credit(&self) -> u64 {
        self.granted
    }

    /// Messages that the application keeps.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// The application keeps `count` messages; credit stands still for as many.
    pub fn hold(&mut self, count: u64) {
        self.held += count;
    }

    /// The application is done with `count` of the messages it kept.
    pub fn release(&mut self, count: u64) {
        self.held -= count.min(self.held);
        self.grant();
    }

    /// Ranges to report as done: the contiguous part first, then upward (PROTOCOL 6.6).
    pub fn done(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut at = self.low_water;
        std::iter::from_fn(move || {
            loop {
                let start =
                    if at < self.seen.low() { at } else { self.seen.next_set(at, self.seen_end) };
                if start >= self.seen_end {
                    return None;
                }
                let end = self.seen.next_clear(start, self.seen_end).min(self.not_done_from(start));
                at = end.max(start + 1);
                if start < end {
                    return Some(start..end);
                }
            }
        })
    }

    /// Ranges that are accepted and not done yet.
    pub fn accepted(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut rest = self.deferred.iter().copied().peekable();
        std::iter::from_fn(move || {
            let start = rest.next()?;
            let mut end = start + 1;
            while rest.next_if_eq(&end).is_some() {
                end += 1;
            }
            Some(start..end)
        })
    }

    /// The lowest transaction from `start` up that was seen and is not done.
    fn not_done_from(&self, start: u64) -> u64 {
        let place = self.refusals.partition_point(|refusal| refusal.0 < start);
        let refused = self.refusals.get(place).map(|refusal| refusal.0);
        let deferred = self.deferred.range(start..).next().copied();
        [refused, deferred].into_iter().flatten().fold(u64::MAX, u64::min)
    }

    /// Refused transactions that the sender may not know of yet, ascending, with their reasons.
    pub fn refused(&self) -> &[(u64, u8)] {
        &self.refusals
    }

    /// The low mark stops at what is refused, until its sender has settled it, and at what is not
    /// done: below the mark every duplicate is answered "done", which would be a lie about these.
    fn advance(&mut self) {
        self.seen.advance(self.seen_end.min(self.not_done_from(0)));
        self.grant();
    }

    /// What arrives out of order counts twice for a while, as held and as not yet contiguous: a
    /// grant given before is kept, so what is held can reach twice the window and no more.
    fn grant(&mut self) {
        let beyond = self.window.saturating_sub(self.held);
        self.granted = self.granted.max((self.seen.low() + beyond).min(self.seen.end()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::service::features;
    use super::*;
    use crate::protocol::wire::ServiceKind;

    const EXACTLY: Features = features(ServiceKind::ExactlyOnce);
    const MAYBE: Features = features(ServiceKind::Maybe);

    /// First and last of each range reported as done.
    fn done(inbox: &Inbox) -> Vec<(u64, u64)> {
        inbox.done().map(|range| (range.start, range.end - 1)).collect()
    }

    #[test]
    fn duplicate_is_recognised_before_and_after_the_low_mark_passed_it() {
        // PROTOCOL 6.4
        let mut inbox = Inbox::new(64);
        assert_eq!(inbox.accept(EXACTLY, 1, 1), Acceptance::Deliver);
        assert_eq!(inbox.accept(EXACTLY, 1, 1), Acceptance::Duplicate);
        assert_eq!(inbox.accept(EXACTLY, 0, 1), Acceptance::Deliver);
        assert_eq!(inbox.accept(EXACTLY, 0, 1), Acceptance::Duplicate);
        assert_eq!(inbox.accept(EXACTLY, 1, 1), Acceptance::Duplicate);
    }

    #[test]
    fn level_without_duplicate_detection_delivers_each_copy() {
        let mut inbox = Inbox::new(64);
        assert_eq!(inbox.accept(MAYBE, 0, 1), Acceptance::Deliver);
        assert_eq!(inbox.accept(MAYBE, 0, 1), Acceptance::Deliver);
    }

    #[test]
    fn copies_are_not_delivered_into_memory_that_is_full() {
        // PROTOCOL 6.4
        let mut inbox = Inbox::new(64);
        assert_eq!(inbox.accept(MAYBE, 0, 1), Acceptance::Deliver);
        inbox.hold(64);
        assert_eq!(inbox.accept(MAYBE, 0, 1), Acceptance::Duplicate);
        assert_eq!(inbox.accept(MAYBE, 0, 2), Acceptance::Duplicate);
        assert_eq!(inbox.accept(MAYBE, 1, 1), Acceptance::Deliver);
        inbox.release(1);
        assert_eq!(inbox.accept(MAYBE, 0, 1), Acceptance::Deliver);
    }

    #[test]
    fn transaction_beyond_credit_is_a_violation_and_changes_nothing() {
        // PROTOCOL 6.3
        let mut inbox = Inbox::new(64);
        assert_eq!(inbox.accept(EXACTLY, 64, 1), Acceptance::Violation);
        assert_eq!(inbox.accept(EXACTLY, 60, 5), Acceptance::Violation);
        assert_eq!(inbox.accept(EXACTLY, u64::MAX, 1), Acceptance::Violation);
        assert_eq!(inbox.accept(EXACTLY, 3, 0), Acceptance::Violation);
        assert_eq!(done(&inbox), []);
        assert_eq!(inbox.accept(EXACTLY, 0, 64), Acceptance::Deliver);
        assert_eq!(inbox.credit(), 128);
    }

    #[test]
    fn bundle_of_old_and_new_is_dropped_as_one() {
        // PROTOCOL 6.5
        let mut inbox = Inbox::new(64);
        inbox.accept(EXACTLY, 2, 2);
        assert_eq!(inbox.accept(EXACTLY, 3, 2), Acceptance::Violation);
        assert_eq!(done(&inbox), [(2, 3)]);
    }

    #[test]
    fn reports_start_at_the_low_water_mark_and_skip_holes() {
        // PROTOCOL 6.6
        let mut inbox = Inbox::new(64);
        for transaction in [0, 1, 3, 4, 7] {
            inbox.accept(EXACTLY, transaction, 1);
        }
        assert_eq!(done(&inbox), [(0, 1), (3, 4), (7, 7)]);
        assert!(inbox.on_low_water(3));
        assert_eq!(done(&inbox), [(3, 4), (7, 7)]);
        assert!(!inbox.on_low_water(1_000));
    }

    #[test]
    fn refused_is_never_reported_done_until_the_sender_settled_it() {
        // PROTOCOL 6.7
        let mut inbox = Inbox::new(64);
        inbox.accept(EXACTLY, 0, 4);
        inbox.accept(EXACTLY, 4, 1);
        inbox.refuse(4, 9);
        inbox.accept(EXACTLY, 5, 2);
        assert_eq!(done(&inbox), [(0, 3), (5, 6)]);
        assert_eq!(inbox.refused(), [(4, 9)]);
        assert_eq!(inbox.accept(EXACTLY, 4, 1), Acceptance::Duplicate);
        assert!(inbox.on_low_water(5));
        assert_eq!(inbox.refused().len(), 0);
        assert_eq!(done(&inbox), [(5, 6)]);
    }

    #[test]
    fn deferred_is_accepted_and_not_done_until_it_is_committed() {
        // PROTOCOL 6.30
        let mut inbox = Inbox::new(64);
        assert_eq!(inbox.accept(EXACTLY, 0, 6), Acceptance::Deliver);
        inbox.defer(2..4);
        assert_eq!(done(&inbox), [(0, 1), (4, 5)]);
        assert!(inbox.accepted().eq(std::iter::once(2..4)));
        assert_eq!(inbox.accept(EXACTLY, 2, 2), Acceptance::Duplicate);
        assert_eq!(inbox.accept(EXACTLY, 6, 64), Acceptance::Deliver);
        assert_eq!(inbox.credit(), 70, "the window stands still");
        assert!(inbox.commit(2));
        assert!(!inbox.commit(2));
        assert_eq!(done(&inbox), [(0, 2), (4, 69)]);
        assert!(inbox.commit(3));
        assert_eq!((done(&inbox), inbox.credit()), (vec![(0, 69)], 134));
    }

    #[test]
    fn deferred_can_be_refused_until_it_is_committed() {
        // PROTOCOL 6.30
        let mut inbox = Inbox::new(64);
        assert_eq!(inbox.accept(EXACTLY, 0, 4), Acceptance::Deliver);
        inbox.defer(1..3);
        assert!(inbox.commit(1));
        assert!(!inbox.refuse_deferred(1, 7), "it is done");
        assert!(inbox.refuse_deferred(2, 7));
        assert!(!inbox.commit(2), "it is refused");
        assert_eq!((done(&inbox), inbox.refused()), (vec![(0, 1), (3, 3)], &[(2, 7)][..]));
        assert_eq!(inbox.accepted().next(), None);
        assert_eq!(inbox.accept(EXACTLY, 4, 6), Acceptance::Deliver);
        assert_eq!(inbox.credit(), 68, "the window stands still until its sender settled it");
    }

    #[test]
    fn missing_are_those_of_a_range_that_were_not_seen() {
        let mut inbox = Inbox::new(64);
        inbox.accept(EXACTLY, 0, 2);
        inbox.accept(EXACTLY, 4, 1);
        assert_eq!(inbox.missing(0..7).collect::<Vec<_>>(), [2, 3, 5, 6]);
        assert_eq!(inbox.missing(3..6).collect::<Vec<_>>(), [3, 5]);
    }

    #[test]
    fn refused_before_all_of_it_arrived_is_seen() {
        // PROTOCOL 6.21
        let mut inbox = Inbox::new(64);
        assert_eq!(inbox.accept(EXACTLY, 0, 1), Acceptance::Deliver);
        assert!(!inbox.refuse(2, 9), "nothing of it was accepted");
        assert!(inbox.refuse_incomplete(2, 9));
        assert!(inbox.is_refused(2) && !inbox.is_refused(1));
        assert_eq!(inbox.accept(EXACTLY, 2, 1), Acceptance::Duplicate);
        assert_eq!(inbox.accept(EXACTLY, 1, 1), Acceptance::Deliver);
        assert_eq!((done(&inbox), inbox.refused()), (vec![(0, 1)], &[(2, 9)][..]));
        assert_eq!(inbox.credit(), 66, "the window stands still until its sender settled it");
        assert!(inbox.on_low_water(3));
        assert!(!inbox.is_refused(2) && !inbox.refuse(2, 9), "its sender no longer cares");
        assert_eq!(inbox.credit(), 67);
    }

    #[test]
    fn refusals_are_as_many_as_the_window() {
        // PROTOCOL 6.7
        let mut inbox = Inbox::new(64);
        for transaction in 0..64 {
            assert_eq!(inbox.accept(EXACTLY, transaction, 1), Acceptance::Deliver);
            inbox.refuse(transaction, 1);
        }
        inbox.refuse(64, 1);
        assert_eq!(inbox.refused().len(), 64);
        assert_eq!(inbox.accept(EXACTLY, 66, 1), Acceptance::Violation);
    }

    #[test]
    fn credit_stands_still_while_the_application_holds_messages() {
        // PROTOCOL 6.3
        let mut inbox = Inbox::new(64);
        inbox.hold(0);
        for transaction in 0..10 {
            inbox.hold(1);
            inbox.accept(EXACTLY, transaction, 1);
        }
        assert_eq!(inbox.credit(), 64);
        inbox.release(4);
        assert_eq!(inbox.credit(), 68);
        inbox.release(6);
        assert_eq!(inbox.credit(), 74);
    }

    #[test]
    fn credit_that_was_given_is_not_taken_back_for_what_is_held_later() {
        // PROTOCOL 6.3
        let mut inbox = Inbox::new(64);
        inbox.hold(10);
        inbox.accept(EXACTLY, 0, 1);
        assert_eq!(inbox.credit(), 64);
        assert_eq!(inbox.accept(EXACTLY, 63, 1), Acceptance::Deliver);
    }

    proptest! {
        #[test]
        fn each_transaction_is_delivered_at_most_once_in_any_order(
            order in prop::collection::vec((0u64..200, 1u32..5), 1..300),
        ) {
            let mut inbox = Inbox::new(128);
            let mut delivered = std::collections::BTreeSet::new();
            for (first, count) in order {
                if inbox.accept(EXACTLY, first, count) == Acceptance::Deliver {
                    for transaction in first..first + u64::from(count) {
                        prop_assert!(delivered.insert(transaction));
                    }
                }
                let reported: Vec<u64> = inbox.done().flatten().collect();
                prop_assert_eq!(reported, delivered.iter().copied().collect::<Vec<_>>());
            }
        }
    }
}
