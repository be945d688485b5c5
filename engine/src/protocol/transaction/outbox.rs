//! The sending half: numbers messages, keeps them until their fate is known, decides what leaves.
//!
//! The retry timer, the retry counter, the repeat counter and the redo back-off of the protocol's
//! sender table live here as far as they concern a message; *when* a packet counts as lost is the
//! packet plane's business, which reports here what became of each try.

use std::collections::VecDeque;
use std::ops::Range;

use super::bits::BitRing;
use super::service::{Outcome, Retry, features};
use super::unit::{Direction, State, Unit, UnitId, Units};
use crate::buffer::Pool;
use crate::limits::OUTBOX_QUEUES_START;
use crate::protocol::drop_reason::DropReason;
use crate::protocol::wire::{ServiceKind, bundle};
use crate::time::{Duration, Instant};

/// How an outbox behaves; set when the association begins.
#[derive(Clone, Copy, Debug)]
pub struct OutboxConfig {
    /// Transactions outstanding at most; also the window of the resolved ring.
    pub window: u32,
    /// Copies of a repeated message, and tries of a finite-retry message.
    pub tries: u8,
    /// How long an open bundle waits for more messages. Zero: an idle sender sends at once.
    pub linger: Duration,
    /// Whether messages may share a packet.
    pub bundle: bool,
}

/// Why a message was not taken. Nothing was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PushError {
    /// Every send buffer is in use.
    NoBuffer,
    /// The bytes that the peer reserved for us are all outstanding.
    NoBytes,
    /// As many transactions as the peer granted are outstanding.
    NoTransaction,
    /// The message exceeds one packet's body.
    TooLarge,
    /// The engine does not offer this service level.
    Unsupported,
}

/// A run of transactions that ended the same way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resolved {
    /// First of the run.
    pub first: u64,
    /// How many.
    pub count: u32,
    /// Their service level.
    pub service: ServiceKind,
    /// How they ended.
    pub outcome: Outcome,
}

/// Sender's state of one association.
#[derive(Debug)]
pub struct Outbox {
    config: OutboxConfig,
    next_transaction: u64,
    /// First transaction that the peer has not granted.
    credit: u64,
    /// Bytes that may be unresolved at once.
    bytes_max: u64,
    bytes_unresolved: u64,
    resolved: BitRing,
    own: Units,
    replies: Units,
    open: [Option<(u64, Instant)>; 2],
    /// Closed units that have not left yet.
    fresh: VecDeque<UnitId>,
    /// Units to send again.
    again: VecDeque<UnitId>,
    /// Units whose next copy is due at an instant; ascending but for jitter of the round trip.
    copies: VecDeque<(Instant, UnitId)>,
    outcomes: VecDeque<Resolved>,
    /// Units whose packet was heard of but whose messages were not reported on.
    unreported: usize,
    /// The peer settled its transactions below: nobody waits for replies to them.
    peer_low_water: u64,
}

impl Outbox {
    /// An empty outbox. `credit` and `bytes_max` are the peer's first grants.
    pub fn new(config: OutboxConfig, credit: u64, bytes_max: u64) -> Self {
        Self {
            config,
            next_transaction: 0,
            credit,
            bytes_max,
            bytes_unresolved: 0,
            resolved: BitRing::new(config.window),
            own: Units::default(),
            replies: Units::default(),
            open: [None; 2],
            fresh: VecDeque::new(),
            again: VecDeque::with_capacity(OUTBOX_QUEUES_START),
            copies: VecDeque::with_capacity(OUTBOX_QUEUES_START),
            outcomes: VecDeque::with_capacity(OUTBOX_QUEUES_START),
            unreported: 0,
            peer_low_water: 0,
        }
    }

    /// Takes a message of our own and gives it the next transaction number.
    ///
    /// `room` is the number of body bytes that one packet can carry now.
    ///
    /// # Errors
    /// [`PushError`]; the message was not taken.
    pub fn push(
        &mut self,
        now: Instant,
        pool: &Pool,
        service: ServiceKind,
        message: &[u8],
        room: usize,
    ) -> Result<u64, PushError> {
        let Some(row) = features(service) else { return Err(PushError::Unsupported) };
        let transaction = self.next_transaction;
        if transaction >= self.credit.min(self.resolved.end()) {
            return Err(PushError::NoTransaction);
        }
        let bytes = message.len() as u64;
        if row.ack && self.bytes_unresolved > 0 && self.bytes_unresolved + bytes > self.bytes_max {
            return Err(PushError::NoBytes);
        }
        self.write(now, pool, Direction::Own, service, transaction, message, room)?;
        self.next_transaction += 1;
        if row.ack {
            self.bytes_unresolved += bytes;
        }
        Ok(transaction)
    }

    /// Takes the reply to the peer's `transaction`.
    ///
    /// # Errors
    /// [`PushError`]; the reply was not taken and can be offered again.
    pub fn push_reply(
        &mut self,
        now: Instant,
        pool: &Pool,
        transaction: u64,
        message: &[u8],
        room: usize,
    ) -> Result<(), PushError> {
        if self.replies.len() >= self.config.window as usize {
            return Err(PushError::NoTransaction);
        }
        let service = ServiceKind::Request;
        self.write(now, pool, Direction::Reply, service, transaction, message, room)
    }

    #[expect(clippy::too_many_arguments, reason = "the two callers above are its interface")]
    fn write(
        &mut self,
        now: Instant,
        pool: &Pool,
        direction: Direction,
        service: ServiceKind,
        transaction: u64,
        message: &[u8],
        room: usize,
    ) -> Result<(), PushError> {
        if bundle::framed_len(message.len()) > room {
            return Err(PushError::TooLarge);
        }
        if let Some((index, _)) = self.open[direction as usize] {
            let unit = self.units(direction).find(index).expect("an open unit stands in its queue");
            let fits = unit.service == service && unit.transactions().end == transaction;
            if fits && unit.append(message, room) {
                return Ok(());
            }
            self.close(direction);
        }
        let lease = pool.take().ok_or(PushError::NoBuffer)?;
        let row = features(service).expect("the level was checked");
        let mut unit = Unit::new(lease, service, row, transaction);
        assert!(unit.append(message, room), "the framed length was checked");
        let index = self.units(direction).push(unit);
        self.open[direction as usize] = Some((index, now));
        if !self.config.bundle {
            self.close(direction);
        }
        Ok(())
    }

    /// Closes the open unit of one direction: it waits for its turn to leave.
    fn close(&mut self, direction: Direction) {
        let Some((index, _)) = self.open[direction as usize].take() else { return };
        self.units(direction).find(index).expect("an open unit stands in its queue").state =
            State::Ready;
        self.fresh.push_back(UnitId { direction, index });
    }

    /// The unit that should leave next: what was lost, then copies that are due, then what is
    /// new, then bundles that waited long enough. The caller sends it and says so with
    /// [`Outbox::on_sent`], or gives it back with [`Outbox::put_back`].
    pub fn next(&mut self, now: Instant) -> Option<UnitId> {
        while let Some(id) = self.again.pop_front() {
            if !self.drop_unwanted(id) && self.is_ready(id) {
                return Some(id);
            }
        }
        if self.copies.front().is_some_and(|copy| copy.0 <= now) {
            return self.copies.pop_front().map(|copy| copy.1);
        }
        if self.fresh.is_empty() {
            for direction in [Direction::Reply, Direction::Own] {
                let due = self.open[direction as usize]
                    .is_some_and(|(_, opened)| opened + self.config.linger <= now);
                if due {
                    self.close(direction);
                }
            }
        }
        // A reply can be settled before it ever leaves, by a peer that gave its request up.
        while let Some(id) = self.fresh.pop_front() {
            if self.is_ready(id) {
                return Some(id);
            }
        }
        None
    }

    fn is_ready(&mut self, id: UnitId) -> bool {
        self.unit(id).is_some_and(|unit| unit.state == State::Ready)
    }

    /// Finishes a reply that nobody waits for any more, before it is sent once more. Returns
    /// whether it is one.
    fn drop_unwanted(&mut self, id: UnitId) -> bool {
        let low = self.peer_low_water;
        let is_reply = id.direction == Direction::Reply;
        let Some(unit) = self.unit(id).filter(|unit| is_reply && unit.transactions().end <= low)
        else {
            return false;
        };
        unit.finish();
        self.replies.trim();
        true
    }

    /// Whether [`Outbox::next`] would find something.
    pub fn has_ready(&self, now: Instant) -> bool {
        !self.again.is_empty()
            || !self.fresh.is_empty()
            || self.copies.front().is_some_and(|copy| copy.0 <= now)
            || self.open.iter().flatten().any(|(_, opened)| *opened + self.config.linger <= now)
    }

    /// Whether more than one packet's worth waits: the packet at hand is not the burst's last.
    pub fn has_backlog(&self) -> bool {
        !self.again.is_empty() || !self.fresh.is_empty()
    }

    /// When [`Outbox::next`] will find a copy or a lingering bundle.
    pub fn next_timeout(&self) -> Option<Instant> {
        let copy = self.copies.front().map(|copy| copy.0);
        let linger = self.open.iter().flatten().map(|(_, at)| *at + self.config.linger).min();
        [copy, linger].into_iter().flatten().min()
    }

    /// Returns a unit that could not leave now (its buffer is still in the kernel's hands).
    pub fn put_back(&mut self, id: UnitId) {
        self.again.push_back(id);
    }

    /// Notes that a unit left in packet `number`; returns which try that was. `round_trip` spaces
    /// the copies of repeating levels.
    pub fn on_sent(&mut self, now: Instant, id: UnitId, number: u64, round_trip: Duration) -> u8 {
        let unit = self.unit(id).expect("a unit that leaves exists");
        unit.tries = unit.tries.saturating_add(1);
        unit.state = State::InFlight;
        unit.packet_number = Some(number);
        let (tries, retry) = (unit.tries, unit.features.retry);
        let (transactions, service) = (unit.transactions(), unit.service);
        match retry {
            Retry::Copies if tries < self.config.tries => {
                self.copies.push_back((now + round_trip, id));
            }
            Retry::Copies | Retry::Never => {
                self.resolve(id.index, transactions, service, Outcome::Sent);
                self.settle();
            }
            Retry::Finite | Retry::Forever => {}
        }
        tries
    }

    /// A packet that carried this unit was acknowledged.
    pub fn on_packet_acked(&mut self, id: UnitId) {
        let Some(unit) = self.unit(id) else { return };
        match id.direction {
            Direction::Reply => {
                unit.finish();
                self.replies.trim();
            }
            Direction::Own if unit.features.ack && unit.state.is_unsettled() => {
                unit.state = State::Heard;
                unit.release_buffer(); // It arrived: it will not leave again.
                self.unreported += usize::from(!unit.features.reply);
            }
            Direction::Own => {}
        }
    }

    /// Try number `tries` of this unit is lost, or it is probed: sends it again if its level
    /// allows another try, and gives it up otherwise. Old news about earlier tries is ignored.
    /// Returns whether it will leave again.
    pub fn on_packet_lost(&mut self, id: UnitId, tries: u8) -> bool {
        let tries_max = self.config.tries;
        if self.drop_unwanted(id) {
            return false;
        }
        let Some(unit) = self.unit(id) else { return false };
        if unit.state != State::InFlight || unit.tries != tries {
            return false;
        }
        match unit.features.retry {
            Retry::Copies | Retry::Never => false,
            Retry::Finite if tries >= tries_max => {
                let (transactions, service) = (unit.transactions(), unit.service);
                self.resolve(id.index, transactions, service, Outcome::Indeterminate);
                self.settle();
                false
            }
            Retry::Finite | Retry::Forever => {
                unit.state = State::Ready;
                self.again.push_back(id);
                true
            }
        }
    }

    /// The peer reports `range` of our transactions as done (or as accepted, for those whose
    /// end is a reply).
    ///
    /// # Errors
    /// [`DropReason::AckInvalid`] if some of it was never sent (PROTOCOL 6.6).
    pub fn on_done(&mut self, range: Range<u64>) -> Result<(), DropReason> {
        self.report(range, Outcome::Delivered)
    }

    /// The peer's application refused `range` of our transactions.
    ///
    /// # Errors
    /// [`DropReason::AckInvalid`] if some of it was never sent.
    pub fn on_refused(&mut self, range: Range<u64>, reason: u8) -> Result<(), DropReason> {
        self.report(range, Outcome::Refused(reason))
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
            if unit.tries == 0 {
                return Err(DropReason::AckInvalid);
            }
            let (transactions, service) = (unit.transactions(), unit.service);
            let part = transactions.start.max(range.start)..transactions.end.min(range.end);
            if unit.features.reply && outcome == Outcome::Delivered {
                if part == transactions {
                    unit.state = State::Heard;
                    unit.release_buffer();
                }
            } else if unit.features.ack {
                self.resolve(index, part, service, outcome);
            }
        }
        self.settle();
        Ok(())
    }

    /// The reply to our `transaction` arrived. `true`: it is the first, deliver it.
    pub fn on_reply(&mut self, transaction: u64) -> bool {
        if transaction >= self.next_transaction || self.resolved.contains(transaction) {
            return false;
        }
        let index = self.own.first_after(transaction);
        let Some(unit) = self.own.find(index) else { return false };
        if unit.tries == 0 || !unit.features.reply || !unit.transactions().contains(&transaction) {
            return false;
        }
        let service = unit.service;
        self.resolve(index, transaction..transaction + 1, service, Outcome::Replied);
        self.settle();
        true
    }

    /// The peer settled all of its transactions below `low`: replies to them are done. The oldest
    /// go at once; one behind a reply that is still wanted goes when it is acknowledged, or instead
    /// of leaving again. Marks come with each acknowledgement, so no search through all replies.
    pub fn on_peer_low_water(&mut self, low: u64) {
        self.peer_low_water = self.peer_low_water.max(low);
        for index in self.replies.indices() {
            let unit = self.replies.find(index).expect("the index is in range");
            if unit.state == State::Open || unit.transactions().end > low {
                break;
            }
            unit.finish();
        }
        self.replies.trim();
    }

    /// The peer has the replies to `range` of its transactions.
    pub fn on_replies_settled(&mut self, range: Range<u64>) {
        for index in self.replies.indices() {
            let unit = self.replies.find(index).expect("the index is in range");
            let transactions = unit.transactions();
            let covered = range.start <= transactions.start && transactions.end <= range.end;
            if covered && unit.state != State::Open {
                unit.finish();
            }
        }
        self.replies.trim();
    }

    /// Shows the packet in which each unsettled unit of `range` left last, and whether it left in
    /// no other before.
    pub fn packets(
        &mut self,
        direction: Direction,
        range: Range<u64>,
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
            if let Some(number) = unit.packet_number
                && unit.state.is_unsettled()
                && range.contains(&unit.first)
            {
                visit(number, unit.tries == 1);
            }
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

    /// Takes the peer's grants: absolute, never taken back (PROTOCOL 6.3).
    pub fn on_credit(&mut self, credit: u64, bytes_max: u64) {
        self.credit = self.credit.max(credit);
        self.bytes_max = self.bytes_max.max(bytes_max);
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
            self.replies.find(index).expect("the index is in range").finish();
        }
        self.open = [None; 2];
        self.fresh.clear();
        self.again.clear();
        self.copies.clear();
        self.settle();
        self.replies.trim();
    }

    /// The next run of transactions that ended.
    pub fn poll_outcome(&mut self) -> Option<Resolved> {
        self.outcomes.pop_front()
    }

    /// The unit of that name, unless it is long finished.
    pub fn unit(&mut self, id: UnitId) -> Option<&mut Unit> {
        self.units(id.direction).find(id.index)
    }

    /// Every unit that exists, for a change of keys.
    pub fn unit_ids(&self) -> impl Iterator<Item = UnitId> + use<> {
        let own = self.own.indices().map(|index| UnitId { direction: Direction::Own, index });
        let replies =
            self.replies.indices().map(|index| UnitId { direction: Direction::Reply, index });
        own.chain(replies)
    }

    /// Our low-water mark: everything below is settled.
    pub fn low_water(&self) -> u64 {
        self.resolved.low()
    }

    /// Transactions outstanding.
    pub fn outstanding(&self) -> u64 {
        self.next_transaction - self.resolved.low()
    }

    /// Whether credit runs short and the peer, which was last told the mark `told`, could grant
    /// more if it knew ours (PROTOCOL 6.8).
    pub fn should_tell_low_water(&self, told: u64) -> bool {
        let quarter = u64::from(self.config.window) / 4;
        self.credit.saturating_sub(self.next_transaction) < quarter
            && self.low_water() - told >= quarter
    }

    /// Whether the peer has packets of ours whose messages it did not report on.
    pub fn awaits_report(&self) -> bool {
        self.unreported > 0
    }

    /// Gives up a unit whose bytes are lost to us.
    pub fn give_up(&mut self, id: UnitId) {
        let Some(unit) = self.unit(id) else { return };
        match id.direction {
            Direction::Own => {
                let (transactions, service) = (unit.transactions(), unit.service);
                self.resolve(id.index, transactions, service, Outcome::Indeterminate);
                self.settle();
            }
            Direction::Reply => {
                unit.finish();
                self.replies.trim();
            }
        }
    }

    /// Ends the unresolved part of `range`, which lies in unit `index`.
    fn resolve(&mut self, index: u64, range: Range<u64>, service: ServiceKind, outcome: Outcome) {
        let mut at = self.resolved.next_clear(range.start, range.end);
        while at < range.end {
            let end = self.resolved.next_set(at, range.end);
            self.resolved.set(at..end);
            let count = u32::try_from(end - at).expect("a unit's count is 32 bits");
            self.push_outcome(Resolved { first: at, count, service, outcome });
            let unit = self.own.find(index).expect("a unit in the queue");
            unit.unresolved -= count;
            if unit.unresolved == 0 {
                if unit.features.ack {
                    self.bytes_unresolved -= unit.payload;
                }
                if unit.state == State::Heard && !unit.features.reply {
                    self.unreported -= 1;
                }
                unit.finish();
            }
            at = self.resolved.next_clear(end, range.end);
        }
    }

    fn push_outcome(&mut self, new: Resolved) {
        if let Some(last) = self.outcomes.back_mut() {
            let joins = last.first + u64::from(last.count) == new.first;
            if joins && last.service == new.service && last.outcome == new.outcome {
                last.count += new.count;
                return;
            }
        }
        self.outcomes.push_back(new);
    }

    fn settle(&mut self) {
        self.resolved.advance(self.next_transaction);
        self.own.trim();
    }

    fn units(&mut self, direction: Direction) -> &mut Units {
        match direction {
            Direction::Own => &mut self.own,
            Direction::Reply => &mut self.replies,
        }
    }
}

#[cfg(test)]
mod tests;
