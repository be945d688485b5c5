//! One session's books at the sending side: what was accepted, and how it ended.

use std::ops::Range;

use raet::limits::TRANSACTIONS_MAX;
use raet::{Outcome, Resolved};

use crate::payload::Tag;
use crate::promise::Outcomes;
use crate::report::Offered;

/// Who owns a transaction that is no message of the load.
const NOBODY: u8 = u8::MAX;

/// Counts by workload and part of the run. The engine names what ended by its transaction, so a
/// ring says whose each of those is that can be outstanding.
#[derive(Debug)]
pub(crate) struct Tally {
    owners: Box<[u8]>,
    /// Warm-up and measured part of each workload.
    parts: Vec<[Offered; 2]>,
}

impl Tally {
    /// For so many workloads.
    pub(crate) fn new(kinds: usize) -> Self {
        let owners = vec![NOBODY; TRANSACTIONS_MAX as usize].into_boxed_slice();
        Self { owners, parts: vec![[Offered::default(); 2]; kinds] }
    }

    /// The engine accepted a message.
    #[inline]
    pub(crate) fn sent(&mut self, kind: u8, tag: Tag, transaction: u64) {
        let part = u8::from(tag == Tag::Data);
        *self.owner(transaction) = kind << 1 | part;
        self.parts[usize::from(kind)][usize::from(part)].sent += 1;
    }

    /// The engine accepted messages one after the other.
    pub(crate) fn sent_in_a_row(&mut self, kind: u8, tag: Tag, transactions: Range<u64>) {
        for transaction in transactions {
            self.sent(kind, tag, transaction);
        }
    }

    /// Transactions ended.
    pub(crate) fn resolved(&mut self, resolved: &Resolved) {
        let mut run = (NOBODY, 0);
        for at in 0..u64::from(resolved.count) {
            let owner = std::mem::replace(self.owner(resolved.first + at), NOBODY);
            if owner != run.0 {
                self.add(run, resolved.outcome);
                run = (owner, 0);
            }
            run.1 += 1;
        }
        self.add(run, resolved.outcome);
    }

    /// What was sent of a workload in the warm-up.
    pub(crate) fn warmup(&self, kind: u8) -> Offered {
        self.parts[usize::from(kind)][0]
    }

    /// What was sent of a workload after it.
    pub(crate) fn measured(&self, kind: u8) -> Offered {
        self.parts[usize::from(kind)][1]
    }

    /// Messages accepted so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.parts.iter().flatten().map(|part| part.sent).sum()
    }

    /// Messages that have ended.
    pub(crate) fn ended(&self) -> u64 {
        self.parts.iter().flatten().map(|part| part.outcomes.resolved()).sum()
    }

    /// Messages that have not ended yet.
    pub(crate) fn outstanding(&self) -> u64 {
        self.accepted().saturating_sub(self.ended())
    }

    /// Messages of a workload that have not ended yet.
    pub(crate) fn outstanding_of(&self, kind: u8) -> u64 {
        let parts = &self.parts[usize::from(kind)];
        parts.iter().map(|part| part.sent.saturating_sub(part.outcomes.resolved())).sum()
    }

    #[inline]
    fn owner(&mut self, transaction: u64) -> &mut u8 {
        let place = transaction % u64::from(TRANSACTIONS_MAX);
        &mut self.owners[usize::try_from(place).expect("below a 32-bit number")]
    }

    fn add(&mut self, (owner, count): (u8, u64), outcome: Outcome) {
        let (kind, part) = (usize::from(owner >> 1), usize::from(owner & 1));
        let Some(parts) = self.parts.get_mut(kind) else { return };
        let outcomes = &mut parts[part].outcomes;
        *counter(outcomes, outcome) += count;
    }
}

fn counter(outcomes: &mut Outcomes, outcome: Outcome) -> &mut u64 {
    match outcome {
        Outcome::Delivered => &mut outcomes.delivered,
        Outcome::Indeterminate => &mut outcomes.indeterminate,
        Outcome::NotSent => &mut outcomes.not_sent,
        Outcome::Refused(_) | Outcome::HandlerFailed => &mut outcomes.refused,
        Outcome::Replied => &mut outcomes.replied,
        Outcome::Sent => &mut outcomes.sent,
    }
}

#[cfg(test)]
mod tests {
    use raet::Service;

    use super::*;

    fn run(first: u64, count: u32) -> Resolved {
        let service = Service::ExactlyOnce;
        Resolved { first, count, service, outcome: Outcome::Delivered }
    }

    #[test]
    fn a_run_of_several_owners_is_split_among_them() {
        let mut tally = Tally::new(2);
        for transaction in 10..13 {
            tally.sent(0, Tag::Warmup, transaction);
        }
        for transaction in 13..20 {
            tally.sent(u8::from(transaction > 16), Tag::Data, transaction);
        }
        tally.resolved(&run(11, 5));
        assert_eq!(tally.warmup(0).outcomes.delivered, 2);
        assert_eq!(tally.measured(0).outcomes.delivered, 3);
        assert_eq!((tally.outstanding(), tally.outstanding_of(1)), (5, 3));
        tally.resolved(&run(10, 1));
        tally.resolved(&run(16, 4));
        assert_eq!(tally.outstanding(), 0);
        assert_eq!((tally.warmup(0).sent, tally.measured(0).sent), (3, 4));
        assert_eq!(tally.measured(1).outcomes.delivered, 3);
    }

    #[test]
    fn the_runs_own_conversation_is_not_counted() {
        let mut tally = Tally::new(1);
        tally.resolved(&run(0, 1));
        assert_eq!(tally.ended(), 0);
        tally.sent(0, Tag::Data, 1);
        tally.resolved(&run(1, 2));
        assert_eq!((tally.accepted(), tally.ended()), (1, 1));
        // A later transaction at the same place of the ring is its own.
        tally.resolved(&run(1 + u64::from(TRANSACTIONS_MAX), 1));
        assert_eq!(tally.ended(), 1);
    }
}
