//! The sending half: numbers messages, keeps them until their fate is known, decides what leaves.
//!
//! The retry timer, the retry counter, the repeat counter and the redo back-off of the protocol's
//! sender table live here as far as they concern a message; *when* a packet counts as lost is the
//! packet plane's business, which reports here what became of each try.

use std::collections::{BTreeSet, VecDeque};

use super::bits::BitRing;
use super::options::{MessageBytes, Overflow, Priority, SendOptions, Stream};
use super::schedule::{Schedule, take_first_memory};
use super::segmented::{PREFIX_LEN_MAX, Segmented};
use super::service::{Features, Outcome, Retry, features};
use super::unit::{Direction, State, Unit, UnitId, Units};
use crate::buffer::Pool;
use crate::limits::{
    BUFFERS_HELD_SHARE, ESCROW_MESSAGES_MAX, MESSAGE_LEN_MAX, SEGMENT_BURST, STREAM_BYTES_SHARE,
};
use crate::protocol::wire::{ORDER_LEN_MAX, SEGMENT_LEN_MAX, ServiceKind, bundle};
use crate::time::{Duration, Instant, earliest};

mod news;
mod replies;
mod row;
mod run;
mod withdraw;

pub use run::Run;

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
    /// As many messages of this stream as the peer can hold back are outstanding, or their bytes are
    /// the stream's share of those that the peer reserved for us.
    NoPlace,
    /// The message exceeds what the peer reserves, or its segments are too many.
    TooLarge {
        /// Largest message that is taken now.
        max: u64,
    },
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

/// Where an ordered stream of ours stands.
#[derive(Clone, Copy, Debug, Default)]
struct StreamState {
    /// Index of its next message.
    next: u64,
    /// Messages without an outcome.
    unresolved: u64,
    /// Bytes of the messages of units of which some have none.
    bytes_unresolved: u64,
}

/// Messages like the one that was taken last, for as many as every bound has room. Bounds move in
/// their favour only, but for what [`Outbox::push`] takes, which works this out anew. Of use while
/// a unit is open.
#[derive(Clone, Copy, Debug, Default)]
struct Shortcut {
    /// How that message was sent; `None`: the next one is no shortcut's.
    options: Option<SendOptions>,
    /// Body bytes that messages which share a packet may take, when it was taken.
    room: usize,
    /// Body bytes that a message with a packet of its own may take.
    room_alone: usize,
    messages: u64,
    bytes: u64,
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
    /// Bytes of replies that the peer may not have yet.
    reply_bytes: u64,
    /// Body bytes that replies which share a packet may take, when the last one was taken.
    reply_room: usize,
    /// Buffers that units hold.
    buffers: usize,
    resolved: BitRing,
    own: Units,
    replies: Units,
    open: [Option<(u64, Instant)>; 2],
    /// What the open unit of our own takes without a look at every bound.
    shortcut: Shortcut,
    /// What waits to leave.
    schedule: Schedule,
    /// Our side of each ordered stream that was ever used, by the low bits of its order indices.
    streams: Vec<StreamState>,
    /// Units whose next copy is due at an instant; ascending but for jitter of the round trip.
    copies: VecDeque<(Instant, UnitId)>,
    /// Messages in segments that wait for a grant, and until when; nearly ascending.
    grants_due: VecDeque<(Instant, UnitId)>,
    outcomes: VecDeque<Resolved>,
    /// The earliest deadline of a message, or an earlier one of a message that is over.
    deadline: Option<Instant>,
    /// Transactions whose outcome was told although the rest of their bundle still travels.
    cancelled: BTreeSet<u64>,
    /// Units whose packet was heard of but whose messages were not reported on.
    unreported: usize,
    /// The peer settled its transactions below: nobody waits for replies to them.
    peer_low_water: u64,
    /// Own units that may wait for a word of the peer with nothing of them on its way: messages in
    /// segments for grants, and those that are sent again on request.
    dependent: usize,
    /// Of those, the ones that are sent again on request.
    on_request: usize,
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
            reply_bytes: 0,
            reply_room: 0,
            buffers: 0,
            resolved: BitRing::new(config.window),
            own: Units::default(),
            replies: Units::default(),
            open: [None; 2],
            shortcut: Shortcut::default(),
            schedule: Schedule::new(),
            streams: Vec::new(),
            copies: VecDeque::new(),
            grants_due: VecDeque::new(),
            outcomes: VecDeque::new(),
            deadline: None,
            cancelled: BTreeSet::new(),
            unreported: 0,
            peer_low_water: 0,
            dependent: 0,
            on_request: 0,
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
        options: &SendOptions,
        message: MessageBytes<'_>,
        room: usize,
    ) -> Result<u64, PushError> {
        let (row, given) = (features(options.service), *options);
        // Options that no level passes over are not copied: a message costs little more than that.
        let heeded;
        let options = if options.deadline.is_none() && options.overflow == Overflow::Wait {
            options
        } else {
            heeded = options.heeded();
            &heeded
        };
        let transaction = self.next_transaction;
        let bytes = message.len() as u64;
        let is_small =
            bundle::framed_len(message.len()) + ORDER_LEN_MAX <= room && bytes <= self.bytes_max;
        if !is_small && bytes > self.message_len_max(options, room) {
            return Err(PushError::TooLarge { max: self.message_len_max(options, room) });
        }
        self.make_room(options, self.may_take_buffer(pool));
        if transaction >= self.credit.min(self.resolved.end()) {
            return Err(PushError::NoTransaction);
        }
        if row.ack && self.bytes_unresolved > 0 && self.bytes_unresolved + bytes > self.bytes_max {
            return Err(PushError::NoBytes);
        }
        let mut order = 0;
        if row.order {
            let stream = *self.stream(options.stream);
            let bytes_free = self.bytes_max.saturating_sub(self.bytes_unresolved + bytes);
            let has_share = stream.unresolved == 0
                || stream.bytes_unresolved + bytes <= bytes_free * STREAM_BYTES_SHARE;
            if stream.unresolved >= ESCROW_MESSAGES_MAX || !has_share {
                return Err(PushError::NoPlace);
            }
            order = options.stream.order(stream.next);
        }
        self.write(now, pool, Direction::Own, options, transaction, order, message, room)?;
        self.note_deadline(options.deadline);
        self.note_taken(row, options.stream, 1, bytes);
        if self.open[Direction::Own as usize].is_some() {
            self.shortcut = self.find_shortcut(row, given, room);
        }
        Ok(transaction)
    }

    /// As [`Outbox::push`], for a message like the one before it that shares its packet, as most do
    /// of those that come in numbers: it has `len` bytes, which `write` writes. `None`: it is not
    /// one, and nothing was done.
    #[inline]
    pub fn append(
        &mut self,
        options: &SendOptions,
        len: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> Option<u64> {
        let (index, _) = self.open[Direction::Own as usize]?;
        let shortcut = &mut self.shortcut;
        let bytes = len as u64;
        if shortcut.messages == 0 || shortcut.bytes < bytes || shortcut.options != Some(*options) {
            return None;
        }
        let unit = self.own.find(index)?;
        if !unit.append(len, shortcut.room, write) {
            return None;
        }
        shortcut.messages -= 1;
        shortcut.bytes -= bytes;
        let row = unit.features;
        let transaction = self.next_transaction;
        self.note_taken(row, options.stream, 1, bytes);
        Some(transaction)
    }

    /// The next transactions are so many messages of so many bytes together.
    #[inline]
    fn note_taken(&mut self, row: Features, stream: Stream, count: u64, bytes: u64) {
        self.next_transaction += count;
        if row.ack {
            self.bytes_unresolved += bytes;
        }
        if row.order {
            let stream = self.stream(stream);
            stream.next += count;
            stream.unresolved += count;
            stream.bytes_unresolved += bytes;
        }
    }

    /// What may follow a message that was taken just now.
    fn find_shortcut(&mut self, row: Features, options: SendOptions, room: usize) -> Shortcut {
        let mut messages = self.credit.min(self.resolved.end()) - self.next_transaction;
        let bytes_free = self.bytes_max.saturating_sub(self.bytes_unresolved);
        let mut bytes = if row.ack { bytes_free } else { u64::MAX };
        let mut room = room;
        if row.order {
            let stream = *self.stream(options.stream);
            messages = messages.min(ESCROW_MESSAGES_MAX - stream.unresolved);
            // As many as the stream's share is of what they leave free.
            let share = (bytes_free * STREAM_BYTES_SHARE).saturating_sub(stream.bytes_unresolved);
            bytes = share / (STREAM_BYTES_SHARE + 1);
            room -= ORDER_LEN_MAX;
        }
        let options = (options.overflow == Overflow::Wait).then_some(options);
        Shortcut { options, room: self.bundle_room(room), room_alone: room, messages, bytes }
    }

    /// Bytes that messages in one packet may take, of the room that it has; none if each has its
    /// own. If the path shrinks, the peer needs memory for the framing too.
    fn bundle_room(&self, room: usize) -> usize {
        let most = if self.config.bundle { self.bytes_max } else { 0 };
        room.min(usize::try_from(most).unwrap_or(usize::MAX))
    }

    /// Largest message that can be taken when nothing else is outstanding: what the peer reserves
    /// for us, and what 65 535 segments carry.
    pub fn message_len_max(&self, options: &SendOptions, room: usize) -> u64 {
        let room = room - if features(options.service).order { ORDER_LEN_MAX } else { 0 };
        let segments = crate::limits::SEGMENT_COUNT_MAX as usize * segment_room(room);
        (segments.min(MESSAGE_LEN_MAX) as u64).min(self.bytes_max)
    }

    #[expect(clippy::too_many_arguments, reason = "the two callers above are its interface")]
    fn write(
        &mut self,
        now: Instant,
        pool: &Pool,
        direction: Direction,
        options: &SendOptions,
        transaction: u64,
        order: u64,
        mut message: MessageBytes<'_>,
        room: usize,
    ) -> Result<(), PushError> {
        let room = room - if order > 0 { ORDER_LEN_MAX } else { 0 };
        if bundle::framed_len(message.len()) > room {
            self.close(direction);
            let len = message.len() as u64;
            let segmented = Segmented::new(message.share(), segment_room(room))
                .expect("the largest message was checked");
            let unit = Unit::in_segments(segmented, options, transaction, order, len);
            self.count_dependent(direction, &unit);
            let index = self.units(direction).push(unit);
            self.wake(UnitId { direction, index });
            return Ok(());
        }
        if let Some((index, _)) = self.open[direction as usize] {
            let room = self.bundle_room(room);
            let unit = self.units(direction).find(index).expect("an open unit stands in its queue");
            let takes = unit.takes(options, transaction, order);
            if takes && unit.append(message.len(), room, |place| message.write(place)) {
                return Ok(());
            }
            self.close(direction);
        }
        let lease = self.may_take_buffer(pool).then(|| pool.take()).flatten();
        let lease = lease.ok_or(PushError::NoBuffer)?;
        self.buffers += 1;
        let mut unit = Unit::new(lease, options, transaction, order);
        let is_written = unit.append(message.len(), room, |place| message.write(place));
        assert!(is_written, "the framed length was checked");
        self.count_dependent(direction, &unit);
        if self.config.bundle {
            let index = self.units(direction).push(unit);
            self.open[direction as usize] = Some((index, now));
        } else {
            unit.state = State::Ready;
            let priority = unit.priority;
            let index = self.units(direction).push(unit);
            self.schedule.push(priority, UnitId { direction, index });
        }
        Ok(())
    }

    /// Whether there is a buffer for one more unit, and not only for other peers: one that takes
    /// nothing must not leave those of its shard without.
    fn may_take_buffer(&self, pool: &Pool) -> bool {
        let free = pool.available();
        free > 0 && self.buffers <= free * BUFFERS_HELD_SHARE
    }

    /// Counts a new unit among those that depend on the peer's word.
    fn count_dependent(&mut self, direction: Direction, unit: &Unit) {
        let on_request = unit.features.retry == Retry::Requested;
        if direction == Direction::Own {
            self.dependent += usize::from(on_request || unit.starts_in_segments);
            self.on_request += usize::from(on_request);
        }
    }

    /// Whether some unit makes progress only with a word of the peer, once what is on its way is
    /// settled.
    pub fn depends_on_peer(&self) -> bool {
        self.dependent > 0
    }

    /// One past the highest transaction used, if the peer must know it to miss what it lacks.
    pub fn issued_to_tell(&self) -> Option<u64> {
        (self.on_request > 0).then_some(self.next_transaction)
    }

    /// Cuts a unit that no longer fits the path into segments of at most `room` body bytes. The
    /// unit waits for its next turn.
    pub fn refit(&mut self, id: UnitId, room: usize) {
        let Some(unit) = self.unit(id) else { return };
        let room = room - if unit.order > 0 { ORDER_LEN_MAX } else { 0 };
        match unit.refit(segment_room(room)) {
            Some(is_freed) => {
                unit.state = State::Ready;
                self.buffers -= usize::from(is_freed);
                self.wake(id);
            }
            None => self.give_up(id),
        }
    }

    /// Has what lingers leave at once.
    pub fn flush(&mut self) {
        self.close(Direction::Reply);
        self.close(Direction::Own);
    }

    /// Closes the open unit of one direction: it waits for its turn to leave.
    fn close(&mut self, direction: Direction) {
        let Some((index, _)) = self.open[direction as usize].take() else { return };
        let unit = self.units(direction).find(index).expect("an open unit stands in its queue");
        unit.state = State::Ready;
        let priority = unit.priority;
        self.schedule.push(priority, UnitId { direction, index });
    }

    /// Has a message in segments wait for its turn, unless it does already.
    fn wake(&mut self, id: UnitId) {
        let Some(unit) = self.unit(id) else { return };
        let priority = unit.priority;
        let Some(segmented) = unit.segmented.as_mut() else { return };
        if !segmented.is_scheduled && segmented.due().is_some() {
            segmented.is_scheduled = true;
            self.schedule.push(priority, id);
        }
    }

    /// The unit that should leave next, of those at least as urgent as `least`: by priority, and
    /// then what was lost, copies that are due, what is new, bundles that waited long enough. The
    /// caller sends it and says so with [`Outbox::on_sent`] or [`Outbox::on_segment_sent`], gives
    /// it back with [`Outbox::put_back`], or has it cut anew by [`Outbox::refit`].
    pub fn next(&mut self, now: Instant, least: Priority) -> Option<UnitId> {
        self.expire(now);
        while self.copies.front().is_some_and(|copy| copy.0 <= now) {
            let (_, id) = self.copies.pop_front()?;
            self.repeat(id);
        }
        self.give_up_ungranted(now);
        self.close_due(now);
        loop {
            let priority = self.schedule.turn(least).or_else(|| {
                self.close_due(now); // Only what is over stood before it.
                self.schedule.turn(least)
            })?;
            let (id, is_again) = self.schedule.first(priority)?;
            if id.direction == Direction::Reply && self.drop_unwanted(id) {
                self.schedule.pop(priority);
                continue;
            }
            let unit = self.unit(id);
            let Some(unit) = unit.filter(|unit| is_again || unit.state != State::Finished) else {
                self.schedule.pop(priority);
                continue;
            };
            if let Some(segmented) = unit.segmented.as_mut() {
                if segmented.due().is_none() {
                    segmented.is_scheduled = false;
                    self.schedule.pop(priority);
                    continue;
                }
                segmented.burst += 1;
                if segmented.burst > SEGMENT_BURST {
                    segmented.burst = 0;
                    self.schedule.rotate(priority);
                }
                self.schedule.charge(priority);
                return Some(id);
            }
            // A reply can be settled before it ever leaves, by a peer that gave its request up.
            let is_ready = unit.state == State::Ready;
            self.schedule.pop(priority);
            if is_ready {
                self.schedule.charge(priority);
                return Some(id);
            }
        }
    }

    /// Closes each open unit before which nothing of its priority waits and that lingered long
    /// enough.
    fn close_due(&mut self, now: Instant) {
        for direction in [Direction::Reply, Direction::Own] {
            let Some((index, opened)) = self.open[direction as usize] else { continue };
            if opened + self.config.linger > now {
                continue;
            }
            let priority = self.units(direction).find(index).map(|unit| unit.priority);
            if priority.is_some_and(|priority| self.schedule.is_idle(priority)) {
                self.close(direction);
            }
        }
    }

    /// Gives up messages whose receiver grants nothing for so long that it does not know them, in
    /// levels that are not sent again for ever (PROTOCOL 6.19).
    fn give_up_ungranted(&mut self, now: Instant) {
        while self.grants_due.front().is_some_and(|wait| wait.0 <= now) {
            let Some((_, id)) = self.grants_due.pop_front() else { return };
            let Some(unit) = self.unit(id) else { continue };
            let Some(patience_ends) = unit.grant_patience_ends() else {
                unit.awaits_grant = false;
                continue;
            };
            if patience_ends <= now {
                self.give_up(id);
            } else {
                self.grants_due.push_back((patience_ends, id));
            }
        }
    }

    /// A further copy of a repeated message is due.
    fn repeat(&mut self, id: UnitId) {
        let Some(unit) = self.unit(id).filter(|unit| unit.state == State::InFlight) else { return };
        let priority = unit.priority;
        if let Some(segmented) = unit.segmented.as_mut() {
            segmented.restart();
            self.wake(id);
        } else {
            unit.state = State::Ready;
            self.schedule.push_again(priority, id);
        }
    }

    /// Whether [`Outbox::next`] would find something.
    pub fn has_ready(&self, now: Instant) -> bool {
        !self.schedule.is_empty()
            || self.copies.front().is_some_and(|copy| copy.0 <= now)
            || self.open.iter().flatten().any(|(_, opened)| *opened + self.config.linger <= now)
    }

    /// Whether something waits to leave.
    pub fn has_backlog(&self) -> bool {
        !self.schedule.is_empty()
    }

    /// Whether nothing more urgent than bulk waits to leave.
    pub fn has_only_bulk(&self) -> bool {
        [Priority::Urgent, Priority::Normal].iter().all(|class| self.schedule.is_idle(*class))
    }

    /// How many units wait to leave: a message in segments as long as one of them does.
    pub fn waiting(&self) -> usize {
        self.schedule.len()
    }

    /// When [`Outbox::next`] will find a wait that is over, or, if it finds nothing now, a copy or a
    /// lingering bundle: they stand behind what is ready.
    pub fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let copy = self.copies.front().map(|copy| copy.0);
        let linger = self.open.iter().flatten().map(|(_, at)| *at + self.config.linger).min();
        let more = earliest([copy, linger]).filter(|_| !self.has_ready(now));
        let grant = self.grants_due.front().map(|wait| wait.0);
        earliest([more, grant, self.deadline])
    }

    /// Returns the unit that [`Outbox::next`] named last: it does not leave yet, and is the next one of its
    /// class.
    pub fn put_back(&mut self, id: UnitId) {
        let Some(unit) = self.unit(id) else { return };
        let priority = unit.priority;
        match &mut unit.segmented {
            Some(segmented) => {
                segmented.burst = segmented.burst.saturating_sub(1);
                self.schedule.refund(priority);
            }
            None => self.schedule.put_back(priority, id),
        }
    }

    /// Notes that a unit left in packet `number`; returns which try that was. `round_trip` spaces
    /// the copies of repeating levels.
    pub fn on_sent(&mut self, now: Instant, id: UnitId, number: u64, round_trip: Duration) -> u8 {
        let unit = self.unit(id).expect("a unit that leaves exists");
        unit.tries = unit.tries.saturating_add(1);
        unit.sent_at = now;
        unit.packet_number = Some(number);
        let tries = unit.tries;
        if unit.features.retry.waits_for_news() {
            unit.state = State::InFlight;
        } else {
            self.on_left(now, id, round_trip);
        }
        tries
    }

    /// Notes that a segment of a unit left; returns which of its tries that was.
    pub fn on_segment_sent(
        &mut self,
        now: Instant,
        id: UnitId,
        segment: u32,
        round_trip: Duration,
    ) -> u8 {
        let unit = self.unit(id).expect("a unit that leaves exists");
        unit.tries = unit.tries.max(1);
        unit.sent_at = now;
        let segmented = unit.segmented.as_mut().expect("a message in segments");
        let tries = segmented.on_sent(segment);
        if segmented.due().is_none() {
            if segmented.has_left() {
                self.on_left(now, id, round_trip);
            } else {
                self.await_grant(id);
            }
        }
        tries
    }

    /// Everything of a unit that was granted has left, and more is to come.
    fn await_grant(&mut self, id: UnitId) {
        let Some(unit) = self.unit(id) else { return };
        if !unit.awaits_grant
            && let Some(patience_ends) = unit.grant_patience_ends()
        {
            unit.awaits_grant = true;
            self.grants_due.push_back((patience_ends, id));
        }
    }

    /// Everything of a unit has left once more.
    fn on_left(&mut self, now: Instant, id: UnitId, round_trip: Duration) {
        let tries_max = self.config.tries;
        let unit = self.unit(id).expect("a unit that leaves exists");
        unit.state = State::InFlight;
        match unit.features.retry {
            Retry::Copies if unit.copies_left(tries_max) => {
                take_first_memory(&mut self.copies);
                self.copies.push_back((now + round_trip, id));
            }
            Retry::Copies | Retry::Never => {
                let (transactions, service) = (unit.transactions(), unit.service);
                self.resolve(id.index, transactions, service, Outcome::Sent);
                self.settle();
            }
            Retry::Finite | Retry::Forever | Retry::Requested => {}
        }
    }

    /// Takes the peer's grants: absolute, never taken back (PROTOCOL 6.3).
    pub fn on_credit(&mut self, credit: u64, bytes_max: u64) {
        self.credit = self.credit.max(credit);
        self.bytes_max = self.bytes_max.max(bytes_max);
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

    /// The number of the next transaction.
    pub fn next_transaction(&self) -> u64 {
        self.next_transaction
    }

    /// Transactions from the first without an outcome on.
    pub fn outstanding(&self) -> u64 {
        self.next_transaction - self.resolved.low()
    }

    /// Transactions without an outcome.
    pub fn unresolved(&self) -> u64 {
        let (resolved, end) = (&self.resolved, self.next_transaction);
        let (mut at, mut count) = (resolved.next_clear(resolved.low(), end), 0);
        while at < end {
            let run_end = resolved.next_set(at, end);
            count += run_end - at;
            at = resolved.next_clear(run_end, end);
        }
        count
    }

    /// Bytes that the peer grants: of messages without an outcome, and as many of replies.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Bytes of messages without an outcome, of levels that are acknowledged.
    pub fn bytes_unresolved(&self) -> u64 {
        self.bytes_unresolved
    }

    /// Bytes of replies that the peer may not have yet.
    pub fn reply_bytes(&self) -> u64 {
        self.reply_bytes
    }

    /// Whether every message has its outcome and every reply was acknowledged.
    pub fn is_settled(&self) -> bool {
        self.outstanding() == 0 && self.replies.is_empty()
    }

    /// Whether credit runs short and the peer, which was last told the mark `told`, could grant
    /// more if it knew ours (PROTOCOL 6.8).
    pub fn should_tell_low_water(&self, told: u64) -> bool {
        let quarter = u64::from(self.config.window) / 4;
        self.credit.saturating_sub(self.next_transaction) < quarter
            && self.low_water() - told >= quarter
    }

    /// Whether sends ended that nobody was told of yet.
    pub fn has_outcome(&self) -> bool {
        !self.outcomes.is_empty()
    }

    /// Whether the peer has packets of ours whose messages it did not report on.
    pub fn awaits_report(&self) -> bool {
        self.unreported > 0
    }

    fn stream(&mut self, stream: Stream) -> &mut StreamState {
        let place = usize::try_from(stream.order(0)).expect("ten bits");
        if self.streams.len() <= place {
            self.streams.resize(place + 1, StreamState::default());
        }
        &mut self.streams[place]
    }

    fn units(&mut self, direction: Direction) -> &mut Units {
        match direction {
            Direction::Own => &mut self.own,
            Direction::Reply => &mut self.replies,
        }
    }
}

/// Bytes of a message that one packet carries, of one with `room` bytes for a whole message.
const fn segment_room(room: usize) -> usize {
    room - SEGMENT_LEN_MAX - PREFIX_LEN_MAX
}

#[cfg(test)]
mod tests;
