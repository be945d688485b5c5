//! The sender's table of transactions against a list of messages: which are taken or why not, what
//! leaves, what leaves again and what does not, how each ends, and how far the low-water mark is
//! (PROTOCOL 6.2 to 6.14, 6.20, 6.24 to 6.27 and 6.30 to 6.33).
//!
//! The first byte is the configuration, every four after it are one operation. Messages that travel
//! in segments are for `arrivals` and `endpoint_pair`.

#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use libfuzzer_sys::fuzz_target;
use raet::buffer::Pool;
use raet::limits::{REFUSED_FAILED, STREAM_BYTES_SHARE};
use raet::protocol::drop_reason::DropReason;
use raet::protocol::transaction::{
    Direction, Features, Outbox, OutboxConfig, Outcome, Overflow, Priority, PushError, Retry,
    SendOptions, StreamKind, UnitId, features, features_in,
};
use raet::protocol::wire::bundle;
use raet::protocol::wire::{BodyKind, ServiceKind};
use raet::time::{Duration, Instant};
use raet_fuzz::runs;
use replies::Replies;

mod replies;

const WINDOW: u64 = 64;
const OPERATIONS_MAX: usize = 256;
const TRIES: u8 = 3;
const ROOM: usize = 300;
/// Enough for both windows with one message in each packet, and for a peer's share.
const BUFFERS: u32 = 256;
const ROUND_TRIP: Duration = Duration::from_millis(1);
const LINGER: Duration = Duration::from_micros(300);

fuzz_target!(|data: &[u8]| {
    let Some((&choice, script)) = data.split_first() else { return };
    let mut sender = Sender::new(choice);
    for &operation in script.as_chunks().0.iter().take(OPERATIONS_MAX) {
        if !sender.step(operation) {
            return; // The session is closed.
        }
        sender.check();
    }
    sender.end();
});

/// A message of ours.
struct Message {
    options: SendOptions,
    len: usize,
    /// The unit in which it travels.
    unit: u64,
    end: End,
}

/// Whether it has an outcome, and whether that counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    None,
    /// Cancelled in a bundle that travels on: told, but its number is in use.
    Told,
    Over,
}

/// One or more messages that leave together.
struct Unit {
    transactions: Range<u64>,
    opened: Instant,
    tries: u8,
    sent_at: Instant,
    /// The packet in which it left last.
    packet: Option<u64>,
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// Has to leave, for the first time or again.
    Due,
    /// Has to leave again at an instant.
    DueAt(Instant),
    Away,
    /// The peer has its packet and did not tell of its messages.
    Heard,
    /// The peer told of it: it does not leave again.
    Kept,
    Over,
}

/// The sender's table and what it should know.
struct Sender {
    outbox: Outbox,
    pool: Pool,
    now: Instant,
    linger: Duration,
    bundles: bool,
    credit: u64,
    bytes_max: u64,
    messages: Vec<Message>,
    units: BTreeMap<u64, Unit>,
    /// Outcomes that were not polled yet.
    outcomes: BTreeMap<u64, Outcome>,
    next_of_stream: BTreeMap<u64, u64>,
    replies: Replies,
    packets: u64,
    /// What left, with the try that it was.
    left: Vec<(UnitId, u8)>,
    /// Units that were to leave and were given back: they go before all of their class.
    given_back: BTreeSet<u64>,
}

impl Sender {
    fn new(choice: u8) -> Self {
        let bundles = choice & 2 != 0;
        let linger = if choice & 4 != 0 { LINGER } else { Duration::ZERO };
        let window = u32::try_from(WINDOW).expect("it is small");
        let config = OutboxConfig { window, tries: TRIES, linger, bundle: bundles };
        let (credit, bytes_max) = (8 * u64::from(choice >> 4), 400 * u64::from(choice >> 6));
        Self {
            outbox: Outbox::new(config, credit, bytes_max),
            pool: Pool::new(BUFFERS, ROOM).expect("memory"),
            now: Instant::from_nanos(1_000),
            linger,
            bundles,
            credit,
            bytes_max,
            messages: Vec::new(),
            units: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            next_of_stream: BTreeMap::new(),
            replies: Replies::default(),
            packets: 0,
            left: Vec::new(),
            given_back: BTreeSet::new(),
        }
    }

    /// One operation; `false` if it was a report that no honest peer makes.
    fn step(&mut self, [op, a, b, c]: [u8; 4]) -> bool {
        let near = (self.low() + u64::from(a % 64)).saturating_sub(u64::from(c % 4));
        match op % 24 {
            0..=4 => self.push(a, b, c),
            5 => (0..c % 32).for_each(|_| self.push(a, b, c)),
            6..=9 => (0..1 + a % 8).for_each(|_| self.send(b)),
            10 => self.on_lost(a),
            11 | 12 => self.on_acked(a),
            13..=16 => return self.on_report(op / 24, near, b, c),
            17 => self.on_replies(near..near + 1 + u64::from(b % 8)),
            18 => self.cancel(near),
            19 => self.wait(u64::from(a) << (b % 8)),
            20 => {
                let (credit, bytes) = (self.low() + u64::from(a), u64::from(b) * 16);
                self.outbox.on_credit(credit, bytes);
                self.credit = self.credit.max(credit);
                self.bytes_max = self.bytes_max.max(bytes);
            }
            21 => self.replies.offer((&mut self.outbox, &self.pool), self.now, near, b),
            22 => self.replies.on_news(&mut self.outbox, a, b, c),
            _ => match a % 4 {
                0 => self.on_session_lost(),
                1 => self.on_missing(near),
                2 => self.outbox.flush(),
                _ => {
                    self.expire();
                    self.outbox.expire(self.now);
                }
            },
        }
        true
    }

    fn options(&self, a: u8, b: u8) -> SendOptions {
        let kinds = [
            StreamKind::Reliable,
            StreamKind::Lossy,
            StreamKind::ReliableOnRequest,
            StreamKind::LossyOnRequest,
        ];
        let options = SendOptions::new(ServiceKind::ALL[usize::from(a % 8)])
            .priority(Priority::ALL[usize::from(a / 8 % 3)])
            .stream(kinds[usize::from(a / 32 % 4)], b / 8 % 2);
        let options = match b % 8 {
            0 => options.overflow(Overflow::DropOldest),
            1 => options.overflow(Overflow::DropNewest),
            _ => options,
        };
        match b / 16 {
            0 => options.deadline(self.now + Duration::from_millis(2)),
            1 => options.deadline(self.now),
            _ => options,
        }
    }

    fn push(&mut self, a: u8, b: u8, c: u8) {
        let (options, len) = (self.options(a, b), usize::from(c));
        let (transaction, bytes) = (self.messages.len() as u64, len as u64);
        let expected = self.judge(&options, bytes);
        let body = content(transaction, len);
        // Most join the one before, which is a shorter way to the same.
        let joined = if c & 1 == 0 {
            self.outbox.append(&options, len, |place| place.copy_from_slice(&body))
        } else {
            let run = self.outbox.begin_run(&options);
            run.and_then(|mut run| {
                let joined = run.append(len, |place| place.copy_from_slice(&body));
                self.outbox.end_run(run);
                joined
            })
        };
        let in_full = || self.outbox.push(self.now, &self.pool, &options, (&body).into(), ROOM);
        let taken = joined.map_or_else(in_full, Ok);
        assert_eq!(taken, expected.map(|()| transaction), "{options:?}");
        if taken.is_ok() {
            self.note_taken(transaction, options, len);
        }
    }

    /// Whether a message may be taken; what gives way to it ends (PROTOCOL 6.3, 6.25, 6.33).
    fn judge(&mut self, options: &SendOptions, bytes: u64) -> Result<(), PushError> {
        let next = self.messages.len() as u64;
        if bytes > self.bytes_max {
            return Err(PushError::TooLarge { max: self.bytes_max });
        }
        let row = features(options.service);
        let end = self.credit.min(self.low() + WINDOW);
        let left = end.saturating_sub(next);
        let gives_way = !row.ack && options.overflow == Overflow::DropOldest;
        if gives_way && left < WINDOW / 2 && (left > 0 || next < self.credit) {
            let low = self.low();
            let likewise = self.units.iter().find(|(_, unit)| {
                let first = &self.messages[unit.transactions.start as usize].options;
                first.overflow == Overflow::DropOldest
                    && !features(first.service).ack
                    && unit.tries == 0
                    && unit.place != Place::Over
                    && (left > 0 || unit.transactions.start == low)
            });
            if let Some(index) = likewise.map(|(&index, _)| index) {
                self.give_up(index);
            }
        }
        if next >= self.credit.min(self.low() + WINDOW) {
            return Err(PushError::NoTransaction);
        }
        let outstanding = self.bytes_outstanding(|_| true);
        if row.ack && outstanding > 0 && outstanding + bytes > self.bytes_max {
            return Err(PushError::NoBytes);
        }
        if row.order {
            let of_stream = |message: &Message| {
                features(message.options.service).order && message.options.stream == options.stream
            };
            let has_open =
                self.messages.iter().any(|message| of_stream(message) && message.end != End::Over);
            let left = self.bytes_max.saturating_sub(outstanding + bytes);
            if has_open && self.bytes_outstanding(of_stream) + bytes > STREAM_BYTES_SHARE * left {
                return Err(PushError::NoPlace);
            }
        }
        Ok(())
    }

    /// Bytes of units of which some message has no end, in levels that are reported on.
    fn bytes_outstanding(&self, of: impl Fn(&Message) -> bool) -> u64 {
        let open = self.units.values().filter(|unit| unit.place != Place::Over);
        let messages = open.flat_map(|unit| unit.transactions.clone());
        let messages = messages.map(|transaction| &self.messages[transaction as usize]);
        let counted = messages.filter(|message| features(message.options.service).ack);
        counted.filter(|message| of(message)).map(|message| message.len as u64).sum()
    }

    /// Which messages travel together is the table's choice, within the rules (PROTOCOL 6.2, 6.16).
    fn note_taken(&mut self, transaction: u64, options: SendOptions, len: usize) {
        let own = self.outbox.unit_ids().filter(|id| id.direction == Direction::Own);
        let id = own.last().expect("it was taken");
        let unit = self.outbox.unit(id).expect("it was taken");
        let transactions = unit.transactions();
        assert_eq!((transactions.end, unit.service()), (transaction + 1, options.service));
        assert_eq!(unit.priority(), options.priority);
        let heeded = options.heeded();
        if features(options.service).order {
            let next = self.next_of_stream.entry(options.stream.order(0)).or_default();
            let place = *next - (transaction - transactions.start);
            assert_eq!(unit.order(), options.stream.order(place));
            *next += 1;
        } else {
            assert_eq!(unit.order(), 0);
        }
        if let Some(known) = self.units.get_mut(&id.index) {
            assert!(self.bundles && known.tries == 0 && known.place == Place::Due);
            let first = &self.messages[transactions.start as usize].options;
            let kind = |options: &SendOptions| {
                let gives_way = options.overflow == Overflow::DropOldest;
                let stream = features(options.service).order.then_some(options.stream);
                (options.service, options.priority, options.deadline, gives_way, stream)
            };
            assert_eq!(kind(&first.heeded()), kind(&heeded));
            known.transactions.end += 1;
        } else {
            assert_eq!(transactions.start, transaction);
            let unit = Unit {
                transactions,
                opened: self.now,
                tries: 0,
                sent_at: Instant::ZERO,
                packet: None,
                place: Place::Due,
            };
            self.units.insert(id.index, unit);
        }
        self.messages.push(Message { options: heeded, len, unit: id.index, end: End::None });
    }

    /// Has one unit leave, or gives it back first.
    fn send(&mut self, b: u8) {
        let least = Priority::ALL[usize::from(b % 3)];
        self.expire();
        let now = self.now;
        for unit in self.units.values_mut() {
            if matches!(unit.place, Place::DueAt(at) if at <= now) {
                unit.place = Place::Due;
            }
        }
        let Some(mut id) = self.outbox.next(now, least) else {
            for unit in self.units.values().filter(|unit| unit.place == Place::Due) {
                let options = &self.messages[unit.transactions.start as usize].options;
                let lingers = unit.tries == 0 && unit.opened + self.linger > now;
                assert!(lingers || options.priority > least, "{:?} waits", unit.transactions);
            }
            return;
        };
        if b & 0x80 != 0 {
            self.outbox.put_back(id);
            let next = self.outbox.next(now, least).expect("one was given back");
            if next != id {
                // A bundle that was closed only now, of a class before it.
                let [closed, before] =
                    [next, id].map(|id| self.outbox.unit(id).expect("it waits").priority());
                assert!(closed < before, "one that was given back waits");
                self.given_back.extend((id.direction == Direction::Own).then_some(id.index));
                id = next;
            }
        }
        let unit = self.outbox.unit(id).expect("it leaves");
        assert_eq!(unit.packet_due(), Some((0, 1)));
        assert!(unit.priority() <= least);
        let mut body = vec![0; unit.packet_body_len(0)];
        unit.write_body(0, &mut body);
        let (transactions, kind) = (unit.transactions(), unit.body_kind());
        self.packets += 1;
        let tries = self.outbox.on_sent(now, id, self.packets, ROUND_TRIP);
        self.left.push((id, tries));
        if id.direction == Direction::Reply {
            return self.replies.on_left(id.index, transactions, tries);
        }
        self.check_body(&transactions, kind, &body);
        self.note_left(id.index, &transactions, tries);
    }

    /// The same messages under the same numbers, each time (PROTOCOL 6.9).
    fn check_body(&self, transactions: &Range<u64>, kind: BodyKind, body: &[u8]) {
        assert!(body.len() <= ROOM);
        let is_one = transactions.end - transactions.start == 1;
        assert_eq!(kind == BodyKind::Raw, is_one);
        let sent = |transaction: u64| content(transaction, self.messages[transaction as usize].len);
        if is_one {
            assert_eq!(body, sent(transactions.start));
            return;
        }
        assert!(body.len() as u64 <= self.bytes_max, "the peer reserves no more");
        bundle::count(body).expect("ours");
        assert!(bundle::messages(body).eq(transactions.clone().map(sent)), "{transactions:?}");
    }

    fn note_left(&mut self, index: u64, transactions: &Range<u64>, tries: u8) {
        let (units, messages) = (&self.units, &self.messages);
        let unit = &units[&index];
        assert_eq!((&unit.transactions, unit.place), (transactions, Place::Due));
        // What has to leave again goes first, and what is new in its order (of one priority).
        let priority = messages[transactions.start as usize].options.priority;
        let same = |unit: &Unit| {
            messages[unit.transactions.start as usize].options.priority == priority
                && unit.place == Place::Due
        };
        if unit.tries == 0 && !self.given_back.remove(&index) {
            let mut before = units.range(..index).filter(|(_, unit)| same(unit));
            assert!(before.all(|(_, unit)| unit.tries > 0), "an older one waits");
            let mut again = units.values().filter(|unit| same(unit));
            assert!(again.all(|unit| unit.tries == 0), "one that was lost waits");
        }
        let row = self.row(transactions.start);
        let (now, packet) = (self.now, self.packets);
        let unit = self.units.get_mut(&index).expect("just found");
        unit.tries = unit.tries.saturating_add(1);
        assert_eq!(tries, unit.tries);
        (unit.sent_at, unit.packet, unit.place) = (now, Some(packet), Place::Away);
        match row.retry {
            Retry::Never => self.end_unit(index, Outcome::Sent),
            Retry::Copies if tries < TRIES => unit.place = Place::DueAt(now + ROUND_TRIP),
            Retry::Copies => self.end_unit(index, Outcome::Sent),
            Retry::Finite => assert!(tries <= TRIES, "a try too many"),
            Retry::Forever | Retry::Requested => {}
        }
    }

    /// A packet that left is taken for lost.
    fn on_lost(&mut self, at: u8) {
        let Some(&(id, tries)) = self.pick_left(at) else { return };
        let leaves_again = match id.direction {
            Direction::Own => self.judge_lost(id.index, tries),
            Direction::Reply => return self.replies.on_lost(&mut self.outbox, id, tries),
        };
        assert_eq!(self.outbox.on_packet_lost(id, (0, 1), tries), leaves_again);
    }

    fn judge_lost(&mut self, index: u64, tries: u8) -> bool {
        let unit = &self.units[&index];
        if unit.place != Place::Away || unit.tries != tries {
            return false;
        }
        let leaves_again = match self.row(unit.transactions.start).retry {
            Retry::Finite => tries < TRIES,
            Retry::Forever => true,
            Retry::Copies | Retry::Never | Retry::Requested => return false,
        };
        if leaves_again {
            self.units.get_mut(&index).expect("just found").place = Place::Due;
        } else {
            self.give_up(index);
        }
        leaves_again
    }

    fn on_acked(&mut self, at: u8) {
        let Some(&(id, _)) = self.pick_left(at) else { return };
        self.outbox.on_packet_acked(id, (0, 1));
        match id.direction {
            Direction::Reply => self.replies.on_acked(id.index),
            Direction::Own => {
                let unit = &self.units[&id.index];
                let row = self.row(unit.transactions.start);
                if row.ack && matches!(unit.place, Place::Away | Place::Due) {
                    // A request waits for its reply.
                    let place = if row.reply { Place::Kept } else { Place::Heard };
                    self.on_arrived(id.index, place);
                }
            }
        }
    }

    fn on_arrived(&mut self, index: u64, place: Place) {
        let unit = self.units.get_mut(&index).expect("it left");
        unit.place = place;
        // What was cancelled in it is over.
        for transaction in unit.transactions.clone() {
            if self.messages[transaction as usize].end == End::Told {
                self.messages[transaction as usize].end = End::Over;
            }
        }
        self.finish(index);
    }

    /// The peer lists transactions as done, accepted or refused.
    fn on_report(&mut self, what: u8, first: u64, b: u8, c: u8) -> bool {
        let mut range = first..first + u64::from(b % 32);
        // Mostly, what it can know of.
        if c & 0xf0 != 0xf0 {
            let left = |unit: &&Unit| unit.tries > 0 || unit.place == Place::Over;
            let unknown = self.units.values().find(|unit| !left(unit));
            let end = unknown.map_or(self.messages.len() as u64, |unit| unit.transactions.start);
            range.end = range.end.min(end);
        }
        let status = match what % 4 {
            0 | 1 => Outcome::Delivered,
            2 => Outcome::Replied,
            _ if b & 0x80 == 0 => Outcome::Refused(c),
            _ => Outcome::HandlerFailed,
        };
        let told = match status {
            Outcome::Delivered => self.outbox.on_done(range.clone()),
            Outcome::Refused(REFUSED_FAILED) => return true,
            Outcome::Refused(reason) => self.outbox.on_refused(range.clone(), reason),
            Outcome::HandlerFailed => self.outbox.on_refused(range.clone(), REFUSED_FAILED),
            _ => self.outbox.on_accepted(range.clone()),
        };
        let is_accepted = status == Outcome::Replied;
        if let Err(reason) = told {
            assert_eq!(reason, DropReason::AckInvalid);
            assert!(!self.is_honest(&range, is_accepted), "{range:?} left");
            return false;
        }
        assert!(self.is_honest(&range, is_accepted), "{range:?}");
        for index in self.units.keys().copied().collect::<Vec<_>>() {
            self.on_unit_report(index, &range, status, is_accepted);
        }
        true
    }

    /// Whether all that is told of was used and left.
    fn is_honest(&self, range: &Range<u64>, is_accepted: bool) -> bool {
        if range.end > self.messages.len() as u64 {
            return false;
        }
        self.units.values().all(|unit| {
            let is_told = if is_accepted {
                self.covers(range, unit) && self.row(unit.transactions.start).ack
            } else {
                unit.transactions.clone().any(|transaction| range.contains(&transaction))
            };
            !is_told || unit.place == Place::Over || unit.tries > 0
        })
    }

    /// Whether each message of a unit that is not over lies in `range`.
    fn covers(&self, range: &Range<u64>, unit: &Unit) -> bool {
        let mut open = unit.transactions.clone();
        unit.place != Place::Over
            && open.all(|at| range.contains(&at) || self.messages[at as usize].end == End::Over)
    }

    fn on_unit_report(&mut self, index: u64, range: &Range<u64>, status: Outcome, accepted: bool) {
        let unit = &self.units[&index];
        let row = self.row(unit.transactions.start);
        if !row.ack || unit.tries == 0 || unit.place == Place::Over {
            return;
        }
        if accepted || row.reply && status == Outcome::Delivered {
            if self.covers(range, unit) && (unit.place != Place::Kept || !accepted) {
                self.on_arrived(index, Place::Kept);
            }
            return;
        }
        let part = unit.transactions.clone().filter(|transaction| range.contains(transaction));
        part.for_each(|transaction| self.end_message(transaction, status));
        self.finish(index);
    }

    fn on_replies(&mut self, range: Range<u64>) {
        let awaits = |at: u64| {
            let Some(message) = self.messages.get(at as usize) else { return false };
            let has_left = self.units[&message.unit].tries > 0;
            message.end == End::None && has_left && features(message.options.service).reply
        };
        let new = range.clone().take_while(|&at| awaits(at)).count() as u64;
        let is_awaited = range.clone().any(awaits);
        assert_eq!(self.outbox.awaits_replies(range.clone()), is_awaited);
        assert_eq!(self.outbox.on_replies(range.clone()), new);
        for transaction in range.start..range.start + new {
            let index = self.messages[transaction as usize].unit;
            self.end_message(transaction, Outcome::Replied);
            self.finish(index);
        }
        let stopped_at = range.start + new;
        if stopped_at < range.end
            && let Some(message) = self.messages.get(stopped_at as usize)
            && message.end == End::Told
        {
            let (index, place) = (message.unit, self.units[&message.unit].place);
            self.on_arrived(index, place);
        }
    }

    fn cancel(&mut self, transaction: u64) {
        let is_cancelled = self.outbox.cancel(transaction);
        let Some(message) = self.messages.get(transaction as usize) else {
            assert!(!is_cancelled);
            return;
        };
        let (row, stream) = (features(message.options.service), message.options.stream);
        let may = message.end == End::None && (!row.order || stream.is_lossy());
        assert_eq!(is_cancelled, may, "{transaction}");
        if !may {
            return;
        }
        let (index, unit) = (message.unit, &self.units[&message.unit]);
        if unit.transactions.end - unit.transactions.start == 1 {
            return self.give_up(index);
        }
        let place = unit.place;
        self.outcomes.insert(transaction, Outcome::Indeterminate);
        self.messages[transaction as usize].end = End::Told;
        if matches!(place, Place::Heard | Place::Kept) {
            self.on_arrived(index, place);
        }
    }

    fn wait(&mut self, micros: u64) {
        self.now += Duration::from_micros(micros);
    }

    /// What has a deadline that has come does not leave any more (PROTOCOL 6.31).
    fn expire(&mut self) {
        for index in self.units.keys().copied().collect::<Vec<_>>() {
            let first = self.units[&index].transactions.start;
            let deadline = self.messages[first as usize].options.deadline;
            if deadline.is_some_and(|deadline| deadline <= self.now) {
                self.give_up(index);
            }
        }
    }

    /// What the peer does not have leaves again (PROTOCOL 6.13).
    fn on_session_lost(&mut self) {
        for id in self.outbox.unit_ids().collect::<Vec<_>>() {
            if id.direction == Direction::Own {
                // Units that are over may still stand in the queue.
                let tries = self.units[&id.index].tries;
                self.judge_lost(id.index, tries);
                self.units.get_mut(&id.index).expect("just found").packet = None;
            }
            self.outbox.on_session_lost(id);
            self.outbox.unit(id).into_iter().for_each(|unit| unit.forget_packet());
        }
    }

    /// The peer has nothing of a message and asks for it (PROTOCOL 6.27).
    fn on_missing(&mut self, transaction: u64) {
        let message = (Direction::Own, transaction);
        self.outbox.on_missing(self.now, message, (0, 0), std::iter::empty(), ROUND_TRIP);
        if let Some(message) = self.messages.get(transaction as usize) {
            let is_requested = self.row(transaction).retry == Retry::Requested;
            let now = self.now;
            let unit = self.units.get_mut(&message.unit).expect("it was taken");
            if is_requested && unit.place == Place::Away && unit.sent_at + ROUND_TRIP <= now {
                unit.place = Place::Due;
            }
        }
    }

    fn pick_left(&self, at: u8) -> Option<&(UnitId, u8)> {
        // Among the latest, mostly.
        let back = usize::from(at) % self.left.len().max(1);
        self.left.iter().rev().nth(back)
    }

    fn row(&self, transaction: u64) -> Features {
        let options = &self.messages[transaction as usize].options;
        features_in(options.service, options.stream)
    }

    /// A unit does not leave any more.
    fn give_up(&mut self, index: u64) {
        let unit = &self.units[&index];
        let outcome = if unit.tries == 0 { Outcome::NotSent } else { Outcome::Indeterminate };
        self.end_unit(index, outcome);
    }

    fn end_unit(&mut self, index: u64, outcome: Outcome) {
        for transaction in self.units[&index].transactions.clone() {
            self.end_message(transaction, outcome);
        }
        self.finish(index);
    }

    /// The first outcome is the one (PROTOCOL 6.10).
    fn end_message(&mut self, transaction: u64, outcome: Outcome) {
        let message = &mut self.messages[transaction as usize];
        if message.end == End::None {
            self.outcomes.insert(transaction, outcome);
        }
        message.end = End::Over;
    }

    fn finish(&mut self, index: u64) {
        let unit = self.units.get_mut(&index).expect("it was taken");
        let mut messages = unit.transactions.clone().map(|at| &self.messages[at as usize]);
        if messages.all(|message| message.end == End::Over) {
            unit.place = Place::Over;
        }
    }

    /// The lowest number without an outcome that counts (PROTOCOL 6.8).
    fn low(&self) -> u64 {
        let open = self.messages.iter().position(|message| message.end != End::Over);
        open.unwrap_or(self.messages.len()) as u64
    }

    fn check(&mut self) {
        while let Some(run) = self.outbox.poll_outcome() {
            for transaction in run.first..run.first + u64::from(run.count) {
                let expected = self.outcomes.remove(&transaction);
                assert_eq!(Some(run.outcome), expected, "outcome of {transaction}");
                assert_eq!(run.service, self.messages[transaction as usize].options.service);
            }
        }
        assert!(self.outcomes.is_empty(), "not told: {:?}", self.outcomes);

        let (outbox, low, next) = (&self.outbox, self.low(), self.messages.len() as u64);
        let open = |at: &u64| self.messages[*at as usize].end != End::Over;
        assert_eq!((outbox.low_water(), outbox.next_transaction()), (low, next));
        assert_eq!(outbox.outstanding(), next - low);
        assert_eq!(outbox.unresolved(), (low..next).filter(open).count() as u64);
        assert!(outbox.settled().eq(runs((0..next).filter(|at| !open(at)))), "what is settled");
        assert_eq!(outbox.bytes_unresolved(), self.bytes_outstanding(|_| true));
        let tells = self.credit.saturating_sub(next) < WINDOW / 4;
        assert_eq!(outbox.should_tell_low_water(low / 2), tells && low - low / 2 >= WINDOW / 4);

        let mut live = self.units.values().filter(|unit| unit.place != Place::Over);
        let heard = |unit: &Unit| unit.place == Place::Heard;
        assert_eq!(outbox.awaits_report(), self.units.values().any(heard));
        let on_request =
            live.any(|unit| self.row(unit.transactions.start).retry == Retry::Requested);
        assert_eq!(outbox.depends_on_peer(), on_request);
        assert_eq!(outbox.issued_to_tell(), on_request.then_some(next));
        self.check_timeout();
        self.check_packets();
        self.check_buffers();
    }

    /// Nothing that is to happen later is slept through.
    fn check_timeout(&self) {
        let timeout = self.outbox.next_timeout(self.now).unwrap_or(Instant::from_nanos(u64::MAX));
        for unit in self.units.values().filter(|unit| unit.place != Place::Over) {
            let options = &self.messages[unit.transactions.start as usize].options;
            assert!(options.deadline.is_none_or(|deadline| timeout <= deadline));
            match unit.place {
                Place::DueAt(at) if at > self.now => {
                    assert!(timeout <= at || self.outbox.has_ready(self.now));
                }
                Place::DueAt(_) => assert!(self.outbox.has_ready(self.now)),
                Place::Due => {
                    let lingers_until = unit.opened + self.linger;
                    assert!(self.outbox.has_ready(self.now) || timeout <= lingers_until);
                }
                Place::Away | Place::Heard | Place::Kept | Place::Over => {}
            }
        }
    }

    /// The packets that a report on everything acknowledges where they have no numbers (6.14).
    fn check_packets(&mut self) {
        let low = self.low();
        let end = low + WINDOW / 2;
        let mut packets = BTreeSet::new();
        self.outbox.packets(Direction::Own, 0..end, true, |number, is_only| {
            assert!(packets.insert((number, is_only)));
        });
        let spoken_of = self.units.values().filter(|unit| {
            matches!(unit.place, Place::Away | Place::Due | Place::DueAt(_))
                && (low..end).contains(&unit.transactions.start)
        });
        let expected = spoken_of.filter_map(|unit| Some((unit.packet?, unit.tries == 1)));
        assert_eq!(packets, expected.collect::<BTreeSet<_>>());
    }

    /// Each unit that may leave holds one buffer, and nothing else does.
    fn check_buffers(&self) {
        let holds = |unit: &&Unit| matches!(unit.place, Place::Away | Place::Due | Place::DueAt(_));
        let own = self.units.values().filter(holds).count();
        let replies = self.outbox.unit_ids().filter(|id| id.direction == Direction::Reply);
        let used = self.pool.capacity() - self.pool.available();
        assert!((own..=own + replies.count()).contains(&used), "{used} buffers, {own} of messages");
    }

    /// The association ends: so does every message, and every buffer is home.
    fn end(mut self) {
        for index in self.units.keys().copied().collect::<Vec<_>>() {
            self.give_up(index);
        }
        self.outbox.abandon();
        self.check();
        assert!(self.outbox.is_settled() && self.outbox.reply_bytes() == 0);
        assert_eq!(self.pool.available(), self.pool.capacity());
    }
}

/// The bytes of a message.
fn content(transaction: u64, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at as u8).wrapping_mul(31).wrapping_add(transaction as u8)).collect()
}
