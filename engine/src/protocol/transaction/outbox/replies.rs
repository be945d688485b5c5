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
        self.reply_room = self.bundle_room(room);
        Ok(())
    }

    /// As [`Outbox::push_reply`], for a reply of `len` bytes, which `write` writes, to the request
    /// behind the one that was replied to last: as requests that came together are mostly answered.
    /// `false`: it cannot share the packet, and nothing was done.
    #[inline]
    pub fn append_reply(
        &mut self,
        transaction: u64,
        len: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> bool {
        let Some((index, _)) = self.open[Direction::Reply as usize] else { return false };
        if self.reply_bytes + len as u64 > self.bytes_max {
            return false;
        }
        let unit = self.replies.find(index).expect("an open unit stands in its queue");
        let joins = unit.transactions().end == transaction;
        let is_taken = joins && unit.append(len, self.reply_room, write);
        self.reply_bytes += if is_taken { len as u64 } else { 0 };
        is_taken
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

    /// Replies to `range` of our transactions arrived together. How many, from the first on, are the
    /// first to theirs: deliver those.
    pub fn on_replies(&mut self, range: Range<u64>) -> u64 {
        let mut at = range.start;
        while at < range.end {
            let end = self.take_replies(at..range.end);
            if end == at && !self.on_reply(at) {
                break;
            }
            at = end.max(at + 1);
        }
        if at > range.start {
            self.settle();
        }
        at - range.start
    }

    /// Resolves the first transactions of `range`, as many as stand in one unit, if a reply to each is
    /// news and nothing is cancelled; returns the end of what was resolved.
    fn take_replies(&mut self, range: Range<u64>) -> u64 {
        let index = self.own.first_after(range.start);
        let Some(unit) = self.own.get(index) else { return range.start };
        let part = range.start..range.end.min(unit.transactions().end);
        let awaits_some = unit.features.reply && unit.tries > 0 && unit.first <= range.start;
        if !awaits_some || !self.cancelled.is_empty() || !self.resolved.is_clear(part.clone()) {
            return range.start;
        }
        let (service, end) = (unit.service, part.end);
        self.resolve_run(index, part, service, Outcome::Replied);
        end
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::OutboxConfig;
    use super::super::tests::{endings, packets};
    use super::*;
    use crate::time::Duration;

    const ROOM: usize = 200;
    const NOW: Instant = Instant::from_nanos(1_000);

    fn outbox(bundle: bool, bytes_max: u64) -> (Outbox, Pool) {
        let config = OutboxConfig { window: 64, tries: 3, linger: Duration::ZERO, bundle };
        (Outbox::new(config, 64, bytes_max), Pool::new(80, ROOM).unwrap())
    }

    proptest! {
        #[test]
        fn replies_of_a_packet_are_taken_as_if_they_came_one_by_one(
            steps in prop::collection::vec((0_u8..7, 0_u64..40, 1_u64..12), 1..80),
            bundle: bool,
        ) {
            let mut both = [outbox(bundle, 10_000), outbox(bundle, 10_000)];
            for (step, first, count) in steps {
                let [together, single] = &mut both;
                match step {
                    0 | 1 => for (outbox, pool) in &mut both {
                        let level = [ServiceKind::Request, ServiceKind::ExactlyOnce];
                        let options = level[usize::from(first % 5 == 0)].into();
                        for _ in 0..count {
                            let _ = outbox.push(NOW, pool, &options, b"message"[..].into(), ROOM);
                        }
                    },
                    2 => {
                        prop_assert_eq!(packets(&mut together.0), packets(&mut single.0));
                    }
                    3 => for (outbox, _) in &mut both {
                        outbox.cancel(first);
                    },
                    4 => for (outbox, _) in &mut both {
                        let _ = outbox.on_done(first..first + count);
                    },
                    _ => {
                        let range = first..first + count;
                        let new = range.clone().take_while(|at| single.0.on_reply(*at)).count();
                        prop_assert_eq!(together.0.on_replies(range), new as u64);
                    }
                }
                let [(together, one_pool), (single, other_pool)] = &mut both;
                prop_assert_eq!(endings(together), endings(single));
                prop_assert_eq!(together.outstanding(), single.outstanding());
                prop_assert_eq!(together.low_water(), single.low_water());
                prop_assert_eq!(one_pool.available(), other_pool.available());
            }
        }

        #[test]
        fn reply_that_joins_the_last_one_leaves_as_if_it_was_pushed(
            replies in prop::collection::vec((0_u64..40, 0_usize..120, 0_u8..12), 1..60),
            bundle: bool,
            bytes_max in 100_u64..2_000,
        ) {
            let (mut joined, joined_pool) = outbox(bundle, bytes_max);
            let (mut pushed, pushed_pool) = outbox(bundle, bytes_max);
            let mut next = 0;
            for (jump, len, sends) in replies {
                let transaction = if jump < 8 { next + jump } else { next };
                next = transaction + 1;
                let text = vec![transaction.to_le_bytes()[0]; len];
                let alike =
                    pushed.push_reply(NOW, &pushed_pool, transaction, text[..].into(), ROOM);
                let joins =
                    joined.append_reply(transaction, len, |place| place.copy_from_slice(&text));
                if joins {
                    prop_assert_eq!(alike, Ok(()));
                } else {
                    let text = text[..].into();
                    let taken = joined.push_reply(NOW, &joined_pool, transaction, text, ROOM);
                    prop_assert_eq!(taken, alike);
                }
                if sends == 0 {
                    prop_assert_eq!(packets(&mut joined), packets(&mut pushed));
                }
                prop_assert_eq!(joined.reply_bytes(), pushed.reply_bytes());
                prop_assert_eq!(joined_pool.available(), pushed_pool.available());
            }
            prop_assert_eq!(packets(&mut joined), packets(&mut pushed));
        }
    }

    #[test]
    fn reply_joins_that_to_the_request_before_it_and_no_other() {
        let (mut outbox, pool) = outbox(true, 1_000);
        assert!(!outbox.append_reply(3, 2, |_| unreachable!("there is none yet")));
        outbox.push_reply(NOW, &pool, 3, b"ab"[..].into(), ROOM).unwrap();
        assert!(!outbox.append_reply(5, 2, |_| unreachable!("4 comes first")));
        assert!(outbox.append_reply(4, 2, |place| place.copy_from_slice(b"cd")));
        assert!(!outbox.append_reply(5, ROOM, |_| unreachable!("it does not fit")));
        let packets = packets(&mut outbox);
        assert_eq!((packets.len(), &packets[0].0), (1, &(3..5)));
    }
}
