//! Taking back what was accepted: what expired, what was cancelled, what is in the way of newer.

use super::super::options::{Overflow, SendOptions};
use super::super::service::Outcome;
use super::super::unit::{Direction, State, UnitId};
use super::{Outbox, Resolved};
use crate::time::{Instant, earliest};

impl Outbox {
    /// Notes that a message is of no use from `deadline` on.
    pub(super) fn note_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = earliest([self.deadline, deadline]);
    }

    /// When [`Outbox::expire`] may find something.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Ends every message whose deadline has come (PROTOCOL 6.31).
    pub fn expire(&mut self, now: Instant) {
        if self.deadline.is_none_or(|at| at > now) {
            return;
        }
        self.deadline = None;
        for index in self.own.indices() {
            let Some(unit) = self.own.get(index) else { continue };
            let deadline = unit.deadline.filter(|_| unit.state != State::Finished);
            if deadline.is_some_and(|at| at <= now) {
                self.give_up(UnitId { direction: Direction::Own, index });
            } else {
                self.note_deadline(deadline);
            }
        }
    }

    /// Ends a message of ours before anything is known of it: it does not leave any more, and a
    /// reply to it is not awaited (PROTOCOL 6.32). Its outcome follows. `false`: it has one, or it
    /// stands in a stream that promises no gap.
    pub fn cancel(&mut self, transaction: u64) -> bool {
        if transaction >= self.next_transaction
            || self.resolved.contains(transaction)
            || self.cancelled.contains(&transaction)
        {
            return false;
        }
        let id = self.find_transaction(Direction::Own, transaction).expect("it has no outcome");
        let unit = self.unit(id).expect("just found");
        if unit.is_gapless() {
            return false;
        }
        if unit.count == 1 {
            self.give_up(id);
            return true;
        }
        // The others of its bundle still travel, and a bundle is received as one.
        let (service, is_heard) =
            (unit.service, matches!(unit.state, State::Heard | State::Accepted));
        let outcome = Outcome::Indeterminate;
        self.push_outcome(Resolved { first: transaction, count: 1, service, outcome });
        self.cancelled.insert(transaction);
        if is_heard {
            self.forget_cancelled(id.index);
            self.settle();
        }
        true
    }

    /// A unit arrived: nothing more is awaited of what was cancelled in it. The caller settles, if
    /// something may have been.
    pub(super) fn forget_cancelled(&mut self, index: u64) -> bool {
        if self.cancelled.is_empty() {
            return false;
        }
        let Some(unit) = self.own.get(index) else { return false };
        let (transactions, service) = (unit.transactions(), unit.service);
        while let Some(&transaction) = self.cancelled.range(transactions.clone()).next() {
            let one = transaction..transaction + 1;
            self.resolve(index, one, service, Outcome::Indeterminate);
        }
        true
    }

    /// Tells the outcome of `range`, except of what was cancelled: that was told.
    pub(super) fn tell(&mut self, resolved: Resolved) {
        if self.cancelled.is_empty() {
            return self.push_outcome(resolved);
        }
        let end = resolved.first + u64::from(resolved.count);
        let mut first = resolved.first;
        while first < end {
            let cancelled = self.cancelled.range(first..end).next().copied();
            let stop = cancelled.unwrap_or(end);
            if first < stop {
                let count = u32::try_from(stop - first).expect("no more than there were");
                self.push_outcome(Resolved { first, count, ..resolved });
            }
            if let Some(cancelled) = cancelled {
                self.cancelled.remove(&cancelled);
            }
            first = stop + 1;
        }
    }

    /// Makes room for a message that may push out older ones (PROTOCOL 6.33): as long as less than
    /// half of the window is left or there is no buffer, the oldest that was sent likewise and has not
    /// left ends.
    pub(super) fn make_room(&mut self, options: &SendOptions, has_buffer: bool) {
        if options.overflow != Overflow::DropOldest {
            return;
        }
        let left = self.credit.min(self.resolved.end()).saturating_sub(self.next_transaction);
        if has_buffer && left >= u64::from(self.config.window) / 2 {
            return;
        }
        // Without a number left, only the end of what is before all others brings one, and none does
        // where the peer has to grant it.
        let below = match left {
            0 if self.next_transaction >= self.credit => return,
            0 => self.resolved.low() + 1,
            _ => u64::MAX,
        };
        let gives_way = |index: &u64| {
            let unit = self.own.get(*index);
            unit.is_some_and(|unit| unit.may_be_pushed_out() && unit.first < below)
        };
        if let Some(index) = self.own.indices().find(gives_way) {
            self.give_up(UnitId { direction: Direction::Own, index });
        }
    }
}
