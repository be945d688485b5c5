//! Replies: ours to requests of the peer, and the peer's to ours.

use std::ops::Range;

use super::super::options::{MessageBytes, SendOptions};
use super::super::service::Outcome;
use super::super::unit::{Direction, State, UnitId};
use super::{Outbox, PushError};
use crate::buffer::Pool;
use crate::protocol::wire::ServiceKind;
use crate::time::Instant;

impl Outbox {
    /// Takes the reply to the peer's `transaction`.
    ///
    /// # Errors
    /// [`PushError`]; the reply was not taken and can be offered again.
    pub fn push_reply(
        &mut self,
        now: Instant,
        pool: &Pool,
        transaction: u64,
        message: MessageBytes<'_>,
        room: usize,
    ) -> Result<(), PushError> {
        let options = SendOptions::new(ServiceKind::Request);
        if message.len() as u64 > self.message_len_max(&options, room) {
            return Err(PushError::TooLarge { max: self.message_len_max(&options, room) });
        }
        if self.replies.len() >= self.config.window as usize {
            return Err(PushError::NoTransaction);
        }
        let bytes = message.len() as u64;
        if self.reply_bytes > 0 && self.reply_bytes + bytes > self.bytes_max {
            return Err(PushError::NoBytes);
        }
        self.write(now, pool, Direction::Reply, &options, transaction, 0, message, room)?;
        self.reply_bytes += bytes;
        Ok(())
    }

    /// Finishes a reply that nobody waits for any more. Returns whether it is such a unit.
    pub(super) fn drop_unwanted(&mut self, id: UnitId) -> bool {
        let low = self.peer_low_water;
        let Some(unit) = self.unit(id) else { return false };
        let is_unwanted = unit.transactions().end <= low;
        if is_unwanted {
            self.give_up(id);
        }
        is_unwanted
    }

    /// Nobody waits for this reply any more.
    pub(super) fn finish_reply(&mut self, index: u64) {
        let Some(unit) = self.replies.find(index) else { return };
        if unit.state != State::Finished {
            let payload = unit.payload;
            let is_freed = unit.finish();
            self.buffers -= usize::from(is_freed);
            self.reply_bytes -= payload;
        }
    }

    /// Whether the first reply to our `transaction` would be news.
    fn awaits_reply(&mut self, transaction: u64) -> bool {
        if transaction >= self.next_transaction
            || self.resolved.contains(transaction)
            || self.cancelled.contains(&transaction)
        {
            return false;
        }
        let index = self.own.first_after(transaction);
        self.own.get(index).is_some_and(|unit| {
            unit.tries > 0 && unit.features.reply && unit.transactions().contains(&transaction)
        })
    }

    /// Whether the first reply to any transaction in `range` would be news.
    pub fn awaits_replies(&mut self, range: Range<u64>) -> bool {
        let end = range.end.min(self.next_transaction);
        let mut at = range.start;
        while at < end {
            at = self.resolved.next_clear(at, end);
            if at < end && self.awaits_reply(at) {
                return true;
            }
            at = self.after_unit_without_reply(at);
        }
        false
    }

    /// The next transaction, or the first behind those of a unit of a level without replies: of the
    /// others of such a unit none is awaited either.
    fn after_unit_without_reply(&self, transaction: u64) -> u64 {
        let unit = self.own.get(self.own.first_after(transaction));
        let others = unit.filter(|unit| !unit.features.reply).map(|unit| unit.transactions().end);
        others.map_or(transaction + 1, |end| end.max(transaction + 1))
    }

    /// The reply to our `transaction` arrived. `true`: it is the first, deliver it.
    pub fn on_reply(&mut self, transaction: u64) -> bool {
        if self.cancelled.contains(&transaction) {
            // The replier stops when it hears that this is settled.
            self.forget_cancelled(self.own.first_after(transaction));
            self.settle();
        }
        if !self.awaits_reply(transaction) {
            return false;
        }
        let index = self.own.first_after(transaction);
        let service = self.own.get(index).expect("it awaits the reply").service;
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
            let unit = self.replies.get(index).expect("the index is in range");
            if unit.state == State::Open || unit.transactions().end > low {
                break;
            }
            self.finish_reply(index);
        }
        self.replies.trim();
    }

    /// The peer has the replies to `range` of its transactions.
    pub fn on_replies_settled(&mut self, range: Range<u64>) {
        for index in self.replies.indices() {
            let unit = self.replies.get(index).expect("the index is in range");
            let transactions = unit.transactions();
            let covered = range.start <= transactions.start && transactions.end <= range.end;
            if covered && unit.state != State::Open {
                self.finish_reply(index);
            }
        }
        self.replies.trim();
    }
}
