//! One session's books at the sending side: what was accepted, and how it ended.

use raet::{Outcome, Resolved};

use crate::payload::Tag;
use crate::promise::Outcomes;
use crate::report::Offered;

/// Counts by part of the run. The engine reports ends in runs of transaction numbers, so the
/// parts are told apart by where in that order the first measured message stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tally {
    /// The warm-up.
    pub(crate) warmup: Offered,
    /// What came after.
    pub(crate) measured: Offered,
    /// Transaction of the first measured message.
    measured_from: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self { warmup: Offered::default(), measured: Offered::default(), measured_from: u64::MAX }
    }
}

impl Tally {
    /// The engine accepted a message.
    #[inline]
    pub(crate) fn sent(&mut self, tag: Tag, transaction: u64) {
        if tag == Tag::Warmup {
            self.warmup.sent += 1;
            return;
        }
        if self.measured.sent == 0 {
            self.measured_from = transaction;
        }
        self.measured.sent += 1;
    }

    /// Transactions ended. `control` is one of them that is no message of the load.
    pub(crate) fn resolved(&mut self, resolved: &Resolved, control: Option<u64>) {
        let (first, count) = (resolved.first, u64::from(resolved.count));
        let end = first.saturating_add(count);
        let mut warmup = end.min(self.measured_from).saturating_sub(first);
        let mut measured = count - warmup;
        if let Some(control) = control.filter(|control| (first..end).contains(control)) {
            if control < self.measured_from {
                warmup -= 1;
            } else {
                measured -= 1;
            }
        }
        add(&mut self.warmup.outcomes, resolved.outcome, warmup);
        add(&mut self.measured.outcomes, resolved.outcome, measured);
    }

    /// Messages accepted so far.
    pub(crate) const fn accepted(&self) -> u64 {
        self.warmup.sent + self.measured.sent
    }

    /// Messages that have ended.
    pub(crate) fn ended(&self) -> u64 {
        self.warmup.outcomes.resolved() + self.measured.outcomes.resolved()
    }

    /// Messages that have not ended yet.
    #[inline]
    pub(crate) fn outstanding(&self) -> u64 {
        self.accepted().saturating_sub(self.ended())
    }
}

fn add(outcomes: &mut Outcomes, outcome: Outcome, count: u64) {
    let counter = match outcome {
        Outcome::Delivered => &mut outcomes.delivered,
        Outcome::Indeterminate => &mut outcomes.indeterminate,
        Outcome::NotSent => &mut outcomes.not_sent,
        Outcome::Refused(_) | Outcome::HandlerFailed => &mut outcomes.refused,
        Outcome::Replied => &mut outcomes.replied,
        Outcome::Sent => &mut outcomes.sent,
    };
    *counter += count;
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
    fn a_run_across_the_end_of_the_warm_up_is_split_there() {
        let mut tally = Tally::default();
        for transaction in 10..13 {
            tally.sent(Tag::Warmup, transaction);
        }
        for transaction in 13..20 {
            tally.sent(Tag::Data, transaction);
        }
        tally.resolved(&run(11, 5), None);
        assert_eq!(tally.warmup.outcomes.delivered, 2);
        assert_eq!(tally.measured.outcomes.delivered, 3);
        assert_eq!(tally.outstanding(), 5);
        tally.resolved(&run(10, 1), None);
        tally.resolved(&run(16, 4), None);
        assert_eq!(tally.outstanding(), 0);
        assert_eq!((tally.warmup.sent, tally.measured.sent), (3, 7));
    }

    #[test]
    fn the_runs_own_conversation_is_not_counted() {
        let mut tally = Tally::default();
        tally.resolved(&run(0, 1), Some(0));
        assert_eq!(tally.ended(), 0);
        tally.sent(Tag::Data, 1);
        tally.resolved(&run(1, 2), Some(2));
        assert_eq!((tally.accepted(), tally.ended()), (1, 1));
    }
}
