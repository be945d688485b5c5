//! What the outbox learns: of packets, from reports, and how sends end.

use std::ops::{Range, RangeInclusive};

use super::super::bits::BitRing;
use super::super::options::Stream;
use super::super::schedule::take_first_memory;
use super::super::segmented::AfterLoss;
use super::super::service::{Outcome, Retry};
use super::super::unit::{Direction, State, UnitId};
use super::{Outbox, Resolved};
use crate::limits::REFUSED_FAILED;
use crate::protocol::drop_reason::DropReason;
use crate::protocol::wire::ServiceKind;
use crate::time::{Duration, Instant};

impl Outbox {
    /// A packet that carried this unit, or this segment of so many, was acknowledged.
    pub fn on_packet_acked(&mut self, id: UnitId, (segment, segments): (u32, u32)) {
        let Some(unit) = self.unit(id) else { return };
        if !unit.features.ack || unit.segments() != segments {
            return; // Every copy leaves, whatever arrives; or it was cut anew since.
        }
        if let Some(segmented) = unit.segmented.as_mut()
            && !segmented.on_heard(segment..=segment)
        {
            return;
        }
        self.on_whole_heard(id);
    }

    /// The peer has every packet of a unit.
    fn on_whole_heard(&mut self, id: UnitId) {
        let Some(unit) = self.unit(id) else { return };
        match id.direction {
            Direction::Reply => {
                self.finish_reply(id.index);
                self.replies.trim();
            }
            Direction::Own if unit.state.is_unsettled() => {
                unit.state = State::Heard;
                let (is_freed, is_request) = (unit.release(), unit.features.reply);
                self.buffers -= usize::from(is_freed);
                self.unreported += usize::from(!is_request);
                if self.forget_cancelled(id.index) {
                    self.settle();
                }
            }
            Direction::Own => {}
        }
    }

    /// Try number `tries` of this unit, or of this segment of so many, is lost, or it is probed: sends
    /// it again if its level allows another try, and gives it up otherwise. Old news about earlier
    /// tries is ignored. Returns whether it will leave again.
    pub fn on_packet_lost(
        &mut self,
        id: UnitId,
        (segment, segments): (u32, u32),
        tries: u8,
    ) -> bool {
        let tries_max = self.config.tries;
        let low = self.peer_low_water;
        let Some(unit) = self.unit(id) else { return false };
        if unit.segments() != segments {
            return false;
        }
        if id.direction == Direction::Reply && unit.transactions().end <= low {
            self.give_up(id);
            return false;
        }
        let tries_max = match unit.features.retry {
            Retry::Copies | Retry::Never | Retry::Requested => return false,
            Retry::Finite => tries_max,
            Retry::Forever => u8::MAX,
        };
        let after = if let Some(segmented) = unit.segmented.as_mut() {
            segmented.on_lost(segment, tries, tries_max)
        } else if unit.state != State::InFlight || unit.tries != tries {
            AfterLoss::Nothing
        } else if tries >= tries_max && unit.features.retry == Retry::Finite {
            AfterLoss::Exhausted
        } else {
            AfterLoss::Again
        };
        match after {
            AfterLoss::Again => self.send_again(id),
            AfterLoss::Exhausted => self.give_up(id),
            AfterLoss::Nothing => {}
        }
        after == AfterLoss::Again
    }

    /// The session in which this unit left last is over: what the peer does not have leaves again.
    pub fn on_session_lost(&mut self, id: UnitId) {
        let Some(unit) = self.unit(id) else { return };
        if let Some(segmented) = unit.segmented.as_mut() {
            segmented.on_session_lost();
            self.wake(id);
        } else {
            let tries = unit.tries;
            self.on_packet_lost(id, (0, 1), tries);
        }
    }

    /// The receiver has memory for the segments of a message below `end`.
    pub fn on_grant(&mut self, direction: Direction, transaction: u64, end: u32) {
        let id = self.find_transaction(direction, transaction);
        if let Some(id) = id
            && let Some(unit) = self.unit(id)
            && let Some(segmented) = unit.segmented.as_mut()
        {
            segmented.on_grant(end);
            self.wake(id);
        }
    }

    /// The receiver tells of a message: of so many segments, below `end` it misses those in
    /// `ranges` and has the others; it has nothing of it if `end` is 0, or if it was cut anew since.
    /// What it misses leaves again in levels that are sent again on request, unless they left within
    /// a round trip.
    pub fn on_missing(
        &mut self,
        now: Instant,
        (direction, transaction): (Direction, u64),
        (segments, end): (u32, u32),
        ranges: impl Iterator<Item = RangeInclusive<u32>>,
        round_trip: Duration,
    ) {
        let Some(id) = self.find_transaction(direction, transaction) else { return };
        let unit = self.unit(id).expect("just found");
        if !unit.features.ack {
            return; // Every copy leaves, whatever arrives.
        }
        // Elsewhere the packet plane knows what was lost; or the last try is on its way.
        let is_request =
            unit.features.retry == Retry::Requested && unit.sent_at + round_trip <= now;
        let Some(segmented) = unit.segmented.as_mut() else {
            if is_request && unit.state == State::InFlight {
                self.send_again(id);
            }
            return;
        };
        let end = if segmented.count() == segments { end } else { 0 };
        let (mut start, mut is_whole) = (0, false);
        for range in ranges.take_while(|range| *range.end() < end) {
            if start < *range.start() {
                is_whole |= segmented.on_heard(start..=*range.start() - 1);
            }
            start = *range.end() + 1;
            if is_request {
                segmented.on_request(range);
            }
        }
        if is_request && start == 0 {
            segmented.on_session_lost();
        }
        if start < end {
            is_whole |= segmented.on_heard(start..=end - 1);
        }
        self.wake(id);
        if is_whole {
            self.on_whole_heard(id);
        }
    }

    fn send_again(&mut self, id: UnitId) {
        let Some(unit) = self.unit(id) else { return };
        if unit.segmented.is_some() {
            return self.wake(id);
        }
        unit.state = State::Ready;
        let priority = unit.priority;
        self.schedule.push_again(priority, id);
    }

    /// The unit with this transaction, if it is not over.
    pub(super) fn find_transaction(
        &mut self,
        direction: Direction,
        transaction: u64,
    ) -> Option<UnitId> {
        let units = self.units(direction);
        let indices = match direction {
            Direction::Own => {
                let first = units.first_after(transaction);
                first..(first + 1).min(units.indices().end)
            }
            Direction::Reply => units.indices(), // Replies do not ascend.
        };
        let holds = |&index: &u64| {
            units.get(index).is_some_and(|unit| unit.transactions().contains(&transaction))
        };
        indices.into_iter().find(holds).map(|index| UnitId { direction, index })
    }

    /// The peer reports `range` of our transactions as done (or as accepted, for those whose
    /// end is a reply).
    ///
    /// # Errors
    /// [`DropReason::AckInvalid`] if some of it was never sent (PROTOCOL 6.6).
    pub fn on_done(&mut self, range: Range<u64>) -> Result<(), DropReason> {
        self.report(range, Outcome::Delivered)
    }

    /// The peer holds `range` of our transactions and has not delivered them yet: they need not be
    /// sent again.
    ///
    /// # Errors
    /// [`DropReason::AckInvalid`] if some of it was never sent.
    pub fn on_accepted(&mut self, range: Range<u64>) -> Result<(), DropReason> {
        if range.end > self.next_transaction {
            return Err(DropReason::AckInvalid);
        }
        let first = self.own.first_after(range.start);
        for index in first..self.own.indices().end {
            let unit = self.own.find(index).expect("the index is in range");
            let transactions = unit.transactions();
            if transactions.start >= range.end {
                break;
            }
            let is_covered = covers(&self.resolved, &range, transactions);
            if !is_covered || !unit.features.ack {
                continue;
            }
            match unit.state {
                State::InFlight | State::Ready if unit.has_left() => {}
                State::InFlight | State::Ready | State::Open => return Err(DropReason::AckInvalid),
                State::Heard if unit.features.reply => {}
                State::Heard => self.unreported -= 1,
                State::Accepted | State::Finished => continue,
            }
            unit.state = State::Accepted;
            let is_freed = unit.release();
            self.buffers -= usize::from(is_freed);
            self.forget_cancelled(index);
        }
        self.settle();
        Ok(())
    }

    /// The peer's application refused `range` of our transactions.
    ///
    /// # Errors
    /// [`DropReason::AckInvalid`] if some of it was never sent.
    pub fn on_refused(&mut self, range: Range<u64>, reason: u8) -> Result<(), DropReason> {
        let outcome = if reason == REFUSED_FAILED {
            Outcome::HandlerFailed
        } else {
            Outcome::Refused(reason)
        };
        self.report(range, outcome)
    }

    fn report(&mut self, range: Range<u64>, outcome: Outcome) -> Result<(), DropReason> {
        if range.end > self.next_transaction {
            return Err(DropReason::AckInvalid);
        }
        let range = range.start.max(self.resolved.low())..range.end;
        if range.is_empty() {
            return Ok(());
        }
        let indices = self.own.first_after(range.start)..self.own.indices().end;
        for index in indices {
            let unit = self.own.find(index).expect("the index is in range");
            if unit.first >= range.end {
                break;
            }
            if unit.state == State::Finished {
                continue;
            }
            // The beginning of a message is enough to refuse it (PROTOCOL 6.21).
            let has_left = unit.has_left();
            let is_known = if outcome == Outcome::Delivered { has_left } else { unit.tries > 0 };
            if !is_known {
                return Err(DropReason::AckInvalid);
            }
            let (transactions, service) = (unit.transactions(), unit.service);
            let part = transactions.start.max(range.start)..transactions.end.min(range.end);
            if unit.features.reply && outcome == Outcome::Delivered {
                if covers(&self.resolved, &range, transactions) {
                    unit.state = State::Heard;
                    let is_freed = unit.release();
                    self.buffers -= usize::from(is_freed);
                    self.forget_cancelled(index);
                }
            } else if unit.features.ack {
                self.resolve(index, part, service, outcome);
            } else if !has_left {
                self.resolve(index, part, service, Outcome::Indeterminate);
            }
        }
        self.settle();
        Ok(())
    }

    /// Shows the packet in which each unsettled unit of `range` left last, and whether it left in
    /// no other before and arrived for sure: of one in segments only if `all_arrived`.
    pub fn packets(
        &mut self,
        direction: Direction,
        range: Range<u64>,
        all_arrived: bool,
        mut visit: impl FnMut(u64, bool),
    ) {
        let range = match direction {
            Direction::Own => range.start.max(self.resolved.low())..range.end,
            Direction::Reply => range,
        };
        let units = self.units(direction);
        let start = match direction {
            Direction::Own => units.first_after(range.start),
            Direction::Reply => units.indices().start, // Replies do not ascend.
        };
        for index in start..units.indices().end {
            let unit = units.find(index).expect("the index is in range");
            if direction == Direction::Own && unit.first >= range.end {
                break;
            }
            let transactions = unit.transactions();
            // A requester also settles what it gives up, so a part says nothing of the whole; a
            // receiver takes a unit as one.
            let is_spoken_of = match direction {
                Direction::Own => range.contains(&transactions.start),
                Direction::Reply => {
                    range.start <= transactions.start && transactions.end <= range.end
                }
            };
            if !is_spoken_of {
                continue;
            }
            if let Some(segmented) = &unit.segmented {
                let last = segmented.count() - 1;
                segmented
                    .packets(0..=last)
                    .for_each(|(number, is_only)| visit(number, is_only && all_arrived));
            } else if let Some(number) = unit.packet_number
                && unit.state.is_unsettled()
            {
                visit(number, unit.tries == 1);
            }
        }
    }

    /// As [`Outbox::packets`], for the segments in `range` of one message that has so many.
    pub fn segment_packets(
        &mut self,
        (direction, transaction): (Direction, u64),
        segments: u32,
        range: RangeInclusive<u32>,
        visit: impl FnMut((u64, bool)),
    ) {
        if let Some(id) = self.find_transaction(direction, transaction)
            && let Some(segmented) = self.unit(id).and_then(|unit| unit.segmented.as_ref())
            && segmented.count() == segments
        {
            segmented.packets(range).for_each(visit);
        }
    }

    /// Ranges of our own transactions that are settled, from the lowest number that ever was.
    pub fn settled(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let end = self.next_transaction;
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = if at < self.resolved.low() { at } else { self.resolved.next_set(at, end) };
            at = self.resolved.next_clear(start, end);
            (start < at).then_some(start..at)
        })
    }

    /// Ends every transaction: what never left is not sent, the rest is indeterminate.
    pub fn abandon(&mut self) {
        for index in self.own.indices() {
            let unit = self.own.find(index).expect("the index is in range");
            let outcome = if unit.tries == 0 { Outcome::NotSent } else { Outcome::Indeterminate };
            let (transactions, service) = (unit.transactions(), unit.service);
            self.resolve(index, transactions, service, outcome);
        }
        for index in self.replies.indices() {
            self.finish_reply(index);
        }
        self.open = [None; 2];
        self.schedule.clear();
        self.copies.clear();
        self.grants_due.clear();
        self.settle();
        self.replies.trim();
    }

    /// Gives up a unit: it does not leave any more.
    pub fn give_up(&mut self, id: UnitId) {
        let open = &mut self.open[id.direction as usize];
        open.take_if(|(index, _)| *index == id.index);
        let Some(unit) = self.unit(id) else { return };
        match id.direction {
            Direction::Own => {
                let outcome =
                    if unit.tries == 0 { Outcome::NotSent } else { Outcome::Indeterminate };
                let (transactions, service) = (unit.transactions(), unit.service);
                self.resolve(id.index, transactions, service, outcome);
                self.settle();
            }
            Direction::Reply => {
                self.finish_reply(id.index);
                self.replies.trim();
            }
        }
    }

    /// Ends the unresolved part of `range`, which lies in unit `index`.
    pub(super) fn resolve(
        &mut self,
        index: u64,
        range: Range<u64>,
        service: ServiceKind,
        outcome: Outcome,
    ) {
        let unit = self.own.get(index).expect("a unit in the queue");
        if unit.unresolved == unit.count && range == unit.transactions() {
            return self.resolve_run(index, range, service, outcome); // As most do.
        }
        let mut at = self.resolved.next_clear(range.start, range.end);
        while at < range.end {
            let end = self.resolved.next_set(at, range.end);
            self.resolve_run(index, at..end, service, outcome);
            at = self.resolved.next_clear(end, range.end);
        }
    }

    /// Ends `run`, which lies in unit `index` and has no end yet.
    pub(super) fn resolve_run(
        &mut self,
        index: u64,
        run: Range<u64>,
        service: ServiceKind,
        outcome: Outcome,
    ) {
        self.resolved.set(run.clone());
        let count = u32::try_from(run.end - run.start).expect("a unit's count is 32 bits");
        self.tell(Resolved { first: run.start, count, service, outcome });
        let unit = self.own.find(index).expect("a unit in the queue");
        unit.unresolved -= count;
        let is_over = unit.unresolved == 0;
        let (row, order, payload) = (unit.features, unit.order, unit.payload);
        if is_over {
            if row.ack {
                self.bytes_unresolved -= payload;
            }
            if unit.state == State::Heard && !row.reply {
                self.unreported -= 1;
            }
            let on_request = row.retry == Retry::Requested;
            self.dependent -= usize::from(on_request || unit.starts_in_segments);
            self.on_request -= usize::from(on_request);
            self.buffers -= usize::from(unit.finish());
        }
        if row.order {
            let stream = self.stream(Stream::of_order(order));
            stream.unresolved -= u64::from(count);
            stream.bytes_unresolved -= if is_over { payload } else { 0 };
        }
    }

    pub(super) fn push_outcome(&mut self, new: Resolved) {
        if let Some(last) = self.outcomes.back_mut() {
            let joins = last.first + u64::from(last.count) == new.first;
            if joins && last.service == new.service && last.outcome == new.outcome {
                last.count += new.count;
                return;
            }
        }
        take_first_memory(&mut self.outcomes);
        self.outcomes.push_back(new);
    }

    pub(super) fn settle(&mut self) {
        self.resolved.advance(self.next_transaction);
        self.own.trim();
    }
}

/// Whether everything of `transactions` that has no end yet lies in `range`.
fn covers(resolved: &BitRing, range: &Range<u64>, transactions: Range<u64>) -> bool {
    let Range { start, end } = transactions;
    range.start <= resolved.next_clear(start, end)
        && (range.end >= end || resolved.next_clear(range.end, end) >= end)
}
