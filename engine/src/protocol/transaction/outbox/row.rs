//! A row: messages of one length, of which each has a packet of its own.

use std::ops::Range;

use super::super::options::{MessageBytes, SendOptions, Stream};
use super::super::service::features;
use super::super::unit::{Direction, State, Unit, UnitId};
use super::{Outbox, PushError, Shortcut};
use crate::buffer::Pool;
use crate::protocol::wire::bundle;
use crate::time::Instant;

impl Outbox {
    /// As [`Outbox::push`], for the first of `count` messages of `len` bytes, of which `write` writes
    /// the k-th; and for those that follow it, as long as every bound has room, if they share no
    /// packets: what all have in common is then worked out once. Returns the transactions of what
    /// was taken.
    ///
    /// # Errors
    /// [`PushError`]; none was taken.
    #[expect(clippy::too_many_arguments, reason = "as `push`, which takes one message")]
    pub fn push_row(
        &mut self,
        now: Instant,
        pool: &Pool,
        options: &SendOptions,
        count: u64,
        len: usize,
        write: &mut impl FnMut(u64, &mut [u8]),
        room: usize,
    ) -> Result<Range<u64>, PushError> {
        assert!(count > 0, "a row has a first message");
        let mut first = |place: &mut [u8]| write(0, place);
        let message = MessageBytes::Written(len, &mut first);
        let transaction = self.push(now, pool, options, message, room)?;
        if count == 1 {
            return Ok(transaction..transaction + 1);
        }
        let row = features(options.service);
        let like_it = self.find_shortcut(row, *options, room);
        let framed_len = bundle::framed_len(len);
        let is_alone = framed_len <= like_it.room_alone && 2 * framed_len > like_it.room;
        let most = like_it.bytes.checked_div(len as u64).unwrap_or(u64::MAX);
        let most = most.min(like_it.messages).min(count - 1);
        let goes_on = is_alone && like_it.options.is_some() && most > 0;
        if goes_on && self.may_take_buffer(pool) {
            self.close(Direction::Own);
            let write = |at, place: &mut [u8]| write(1 + at, place);
            let last = self.push_alone(pool, options, &like_it, most, len, write);
            self.open[Direction::Own as usize] = last.map(|last| (last, now));
            // What may follow is less by what was taken.
            self.shortcut = self.find_shortcut(row, *options, room);
        }
        Ok(transaction..self.next_transaction)
    }

    /// Takes up to `most` messages like the last one, for which the bounds have room, each in a unit of
    /// its own. Each waits for its turn, but for the last one where messages may join it; returns that
    /// one's index.
    fn push_alone(
        &mut self,
        pool: &Pool,
        options: &SendOptions,
        like: &Shortcut,
        most: u64,
        len: usize,
        mut write: impl FnMut(u64, &mut [u8]),
    ) -> Option<u64> {
        let (options, row) = (options.heeded(), features(options.service));
        let mut order =
            if row.order { options.stream.order(self.stream(options.stream).next) } else { 0 };
        let (mut taken, mut last) = (0, None);
        while taken < most && self.may_take_buffer(pool) {
            let Some(lease) = pool.take() else { break };
            let mut unit = Unit::new(lease, &options, self.next_transaction, order);
            let is_written = unit.append(len, like.room_alone, |place| write(taken, place));
            assert!(is_written, "the framed length was checked");
            self.count_dependent(Direction::Own, &unit);
            self.buffers += 1;
            let is_last = taken + 1 == most || !self.may_take_buffer(pool);
            if self.config.bundle && is_last {
                last = Some(self.own.push(unit));
            } else {
                unit.state = State::Ready;
                let index = self.own.push(unit);
                self.schedule.push(options.priority, UnitId { direction: Direction::Own, index });
            }
            // One by one: `write` may unwind, and what was taken before has its numbers.
            self.note_taken(row, options.stream, 1, len as u64);
            order = if row.order { Stream::order_after(order, 1) } else { 0 };
            taken += 1;
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::options::{Overflow, Priority, StreamKind};
    use super::super::OutboxConfig;
    use super::super::tests::{endings, packets};
    use super::*;
    use crate::protocol::wire::ServiceKind;
    use crate::time::Duration;

    const ROOM: usize = 1_000;
    const NOW: Instant = Instant::from_nanos(1_000);

    fn outbox(bundle: bool, bytes_max: u64) -> (Outbox, Pool) {
        let config = OutboxConfig { window: 64, tries: 3, linger: Duration::ZERO, bundle };
        (Outbox::new(config, 40, bytes_max), Pool::new(80, ROOM).unwrap())
    }

    fn fill(transaction: u64) -> impl Fn(&mut [u8]) {
        move |place| place.fill(transaction.to_le_bytes()[0])
    }

    fn options() -> impl Strategy<Value = SendOptions> {
        let service = prop::sample::select(ServiceKind::ALL);
        let overflow = prop::sample::select(&[Overflow::Wait, Overflow::DropOldest][..]);
        let priority = prop::sample::select(&Priority::ALL[..]);
        (service, overflow, priority, 0_u8..3, any::<bool>()).prop_map(
            |(service, overflow, priority, stream, ends)| {
                let options = SendOptions::new(service).overflow(overflow).priority(priority);
                let options = options.stream(StreamKind::Reliable, stream);
                if ends { options.deadline(NOW + Duration::from_millis(5)) } else { options }
            },
        )
    }

    proptest! {
        #[test]
        fn row_is_its_messages_pushed_one_by_one(
            rows in prop::collection::vec((options(), 1_u64..30, 0_usize..=900), 1..5),
            bundle: bool,
            bytes_max in 900_u64..20_000,
        ) {
            let ((mut row, row_pool), (mut single, single_pool)) =
                (outbox(bundle, bytes_max), outbox(bundle, bytes_max));
            for (options, count, len) in rows {
                let end = row.next_transaction() + count;
                while row.next_transaction() < end {
                    let first = row.next_transaction();
                    let left = end - first;
                    let mut write = |at: u64, place: &mut [u8]| fill(first + at)(place);
                    let taken =
                        row.push_row(NOW, &row_pool, &options, left, len, &mut write, ROOM);
                    let Ok(taken) = taken else {
                        let mut write = fill(first);
                        let message = MessageBytes::Written(len, &mut write);
                        let alike = single.push(NOW, &single_pool, &options, message, ROOM);
                        prop_assert_eq!(alike.err(), taken.err());
                        break;
                    };
                    prop_assert!(taken.start == first && taken.end <= end && !taken.is_empty());
                    for transaction in taken {
                        let mut write = fill(transaction);
                        let message = MessageBytes::Written(len, &mut write);
                        let alike = single.push(NOW, &single_pool, &options, message, ROOM);
                        prop_assert_eq!(alike, Ok(transaction));
                    }
                }
                // Short ones join what the row left open, as long as the bounds that are left.
                for run in [false, true] {
                    let next = row.next_transaction();
                    let joined = if run {
                        row.begin_run(&options).and_then(|mut run| {
                            let joined = run.append(10, fill(next));
                            row.end_run(run);
                            joined
                        })
                    } else {
                        row.append(&options, 10, fill(next))
                    };
                    if joined.is_some() {
                        let mut write = fill(next);
                        let message = MessageBytes::Written(10, &mut write);
                        let alike = single.push(NOW, &single_pool, &options, message, ROOM);
                        prop_assert_eq!(alike, Ok(next));
                    }
                }
            }
            prop_assert_eq!(row.bytes_unresolved(), single.bytes_unresolved());
            prop_assert_eq!(row.depends_on_peer(), single.depends_on_peer());
            prop_assert_eq!(row_pool.available(), single_pool.available());
            let open = |outbox: &Outbox| outbox.open[Direction::Own as usize];
            prop_assert_eq!(open(&row), open(&single), "what may be joined");
            prop_assert_eq!(packets(&mut row), packets(&mut single));
            let late = NOW + Duration::from_millis(6);
            prop_assert_eq!(row.next(late, Priority::Bulk), single.next(late, Priority::Bulk));
            prop_assert_eq!(endings(&mut row), endings(&mut single));
        }
    }

    #[test]
    fn last_of_a_row_that_found_no_more_room_stays_open() {
        for (bytes_max, buffers, taken) in
            [(20_000, 80, 8), (600, 80, 1), (1_900, 80, 3), (20_000, 4, 4)]
        {
            let (mut outbox, _) = outbox(true, bytes_max);
            let pool = Pool::new(buffers, ROOM).unwrap();
            let options = ServiceKind::ExactlyOnce.into();
            let mut write = |at: u64, place: &mut [u8]| fill(at)(place);
            let row = outbox.push_row(NOW, &pool, &options, 8, 600, &mut write, ROOM);
            assert_eq!(row, Ok(0..taken), "{bytes_max} bytes, {buffers} buffers");
            let open = outbox.open[Direction::Own as usize];
            assert_eq!(open, Some((taken - 1, NOW)), "{bytes_max} bytes, {buffers} buffers");
        }
    }

    #[test]
    fn messages_that_share_no_packet_are_taken_at_once_and_others_one_by_one() {
        for (bundle, len, taken) in [(true, 64, 1), (true, 600, 8), (false, 64, 8)] {
            let (mut outbox, pool) = outbox(bundle, 20_000);
            let options = ServiceKind::ExactlyOnce.into();
            let mut write = |at: u64, place: &mut [u8]| fill(at)(place);
            let row = outbox.push_row(NOW, &pool, &options, 8, len, &mut write, ROOM);
            assert_eq!(row, Ok(0..taken), "{len} bytes");
        }
    }
}
