//! What exactly-once can honestly promise, explored to the last state.
//!
//! A sender, a receiver and a network that loses, reorders and repeats, written as small as they
//! can be while the order of *sending*, *remembering*, *taking effect*, *reporting* and *crashing*
//! is kept. Each row of [`TABLE`] is one way to remember; a breadth-first search visits every state
//! that any interleaving leads to and counts how often the message took effect where its sender
//! says "delivered", and where it says anything else. The rows that promise too much have to fail
//! as the table says: a model in which nothing can go wrong would show nothing.
//!
//! What is abstract: a datagram that was sent once may arrive at any time, any number of times, or
//! never. Numbers of tries count only where they end a transaction. A crash loses what is volatile
//! and comes back at once under another boot id. A handshake is a step in which one side learns
//! the other's present boot id; the other side learns with the first packet of the new session,
//! and takes nothing of an older one from then on.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Write;
use std::hash::{BuildHasherDefault, Hasher};

// ---- The table ---------------------------------------------------------------------------

/// How a sender remembers what it took.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Outbox {
    Volatile,
    /// Written before the first send, under an id that outlives restarts.
    Durable,
}

/// How a receiver remembers what it has seen.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Record {
    Nothing,
    /// One bit a transaction, as long as the association lives.
    Bit,
    /// By the message's own id, in memory.
    Volatile,
    /// By the message's own id, on disk, once the effect is there.
    After,
    /// On disk, before the effect.
    Before,
    /// On disk, in one step with the effect.
    Atomic,
}

/// When the record of a message that its sender is done with is forgotten.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Retention {
    Forever,
    /// When the low-water mark passes it, which keeps what is below it known as seen.
    KeepMark,
    /// As above, but the mark is forgotten as well.
    ForgetMark,
    /// The mark is told before the sender's own disk knows that the message is done.
    EarlyMark,
}

/// What a sender does with what is in flight when its peer comes back from a crash.
#[derive(Clone, Copy, PartialEq, Debug)]
enum OnReboot {
    Stop,
    Resend,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    outbox: Outbox,
    record: Record,
    /// Tries after which the sender gives up.
    tries_max: Option<u8>,
    sender_crashes: u8,
    receiver_crashes: u8,
    on_reboot: OnReboot,
    retention: Retention,
    /// Whether the handler may have several copies at hand at once, of different associations.
    is_concurrent: bool,
    /// Effects where the sender says "delivered".
    delivered: Range,
    /// Effects where it says something else, and what.
    otherwise: &'static [(End, Range)],
}

/// Least and most effects.
type Range = (u8, u8);

const LEVEL_2: Row = Row {
    outbox: Outbox::Volatile,
    record: Record::Nothing,
    tries_max: Some(2),
    sender_crashes: 0,
    receiver_crashes: 0,
    on_reboot: OnReboot::Stop,
    retention: Retention::Forever,
    is_concurrent: false,
    delivered: (1, 2),
    otherwise: &[(End::Indeterminate, (0, 2))],
};
const LEVEL_3: Row = Row {
    record: Record::Bit,
    delivered: (1, 1),
    otherwise: &[(End::Indeterminate, (0, 1))],
    ..LEVEL_2
};
const LEVEL_4: Row = Row { tries_max: None, otherwise: &[], ..LEVEL_3 };
const DURABLE: Row = Row {
    outbox: Outbox::Durable,
    record: Record::Atomic,
    sender_crashes: 1,
    receiver_crashes: 1,
    on_reboot: OnReboot::Resend,
    otherwise: &[(End::NotAccepted, (0, 0))],
    ..LEVEL_4
};

const TABLE: [(&str, Row); 13] = [
    ("level 2, n = 2, no crash", LEVEL_2),
    ("level 3, no crash", LEVEL_3),
    ("level 3, receiver crashes, stop", Row { receiver_crashes: 1, ..LEVEL_3 }),
    (
        "level 3, receiver crashes, resend: WRONG",
        Row {
            receiver_crashes: 1,
            on_reboot: OnReboot::Resend,
            delivered: (1, 2),
            otherwise: &[(End::Indeterminate, (0, 2))],
            ..LEVEL_3
        },
    ),
    ("level 4, no crash", LEVEL_4),
    (
        "level 4, receiver crashes, stop",
        Row { receiver_crashes: 1, otherwise: &[(End::Indeterminate, (0, 1))], ..LEVEL_4 },
    ),
    (
        "level 4, receiver crashes, resend: WRONG",
        Row { receiver_crashes: 1, on_reboot: OnReboot::Resend, delivered: (1, 2), ..LEVEL_4 },
    ),
    (
        "level 4, sender crashes",
        Row {
            sender_crashes: 1,
            otherwise: &[(End::Forgotten, (0, 1)), (End::NotAccepted, (0, 0))],
            ..LEVEL_4
        },
    ),
    (
        "outbox, volatile record, sender crashes",
        Row { record: Record::Volatile, receiver_crashes: 0, ..DURABLE },
    ),
    (
        "outbox, record after the effect: WRONG",
        Row { record: Record::After, delivered: (1, 2), ..DURABLE },
    ),
    (
        "outbox, record before the effect: WRONG",
        Row { record: Record::Before, delivered: (0, 1), ..DURABLE },
    ),
    ("outbox, record with the effect", DURABLE),
    (
        "outbox, record with the effect, two crashes each",
        Row { sender_crashes: 2, receiver_crashes: 2, ..DURABLE },
    ),
];

const CONCURRENT: Row = Row { is_concurrent: true, retention: Retention::KeepMark, ..DURABLE };

/// How long the record has to be kept (PROTOCOL 6.43).
const RETENTION: [(&str, Row); 4] = [
    ("forgotten below a mark that is kept", CONCURRENT),
    (
        "forgotten with the mark, one copy at a time",
        Row { is_concurrent: false, retention: Retention::ForgetMark, ..CONCURRENT },
    ),
    (
        "forgotten with the mark: WRONG",
        Row { retention: Retention::ForgetMark, delivered: (1, 2), ..CONCURRENT },
    ),
    (
        "forgotten by a mark told too early: WRONG",
        Row { retention: Retention::EarlyMark, delivered: (1, 3), ..CONCURRENT },
    ),
];

// ---- The state ---------------------------------------------------------------------------

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum End {
    Delivered,
    /// Its sender does not know of it any more.
    Forgotten,
    Indeterminate,
    /// Its sender crashed before it had taken it.
    NotAccepted,
}

/// What the sender does with a message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Offered,
    InFlight,
    /// The report came, and the outbox does not know yet.
    Reported,
    Over(End),
}

/// A pair of boot ids, as a bit number: with two crashes each there are nine.
type Association = u8;

const BOOTS: u8 = 3;

const fn association(sender_boot: u8, receiver_boot: u8) -> Association {
    sender_boot * BOOTS + receiver_boot
}

const fn receiver_boot(of: Association) -> u8 {
    of % BOOTS
}

const fn bit(of: Association) -> u16 {
    1 << of
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Side {
    boot: u8,
    /// The association it sends or takes in.
    within: Option<Association>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct State<const MESSAGES: usize> {
    sender: Side,
    receiver: Side,
    messages: [Message; MESSAGES],
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Message {
    phase: Phase,
    /// What the sender once said cannot be taken back.
    said_delivered: bool,
    /// In the present association; saturates where nothing ends by it.
    tries: u8,
    /// First and second tries under way, by association.
    data: [u16; 2],
    /// Reports under way, by association.
    acks: u16,
    /// Marks above this message under way, by association.
    marks: u16,
    /// Tries that the receiver opened in its present association.
    opened: u8,
    /// Copies between the two halves of the handler, by association.
    handled: u16,
    /// Handed over and done with, in the present association.
    is_done: bool,
    record: bool,
    /// The receiver's mark is above this message.
    is_below_mark: bool,
    effects: u8,
}

const OFFERED: Message = Message {
    phase: Phase::Offered,
    said_delivered: false,
    tries: 0,
    data: [0; 2],
    acks: 0,
    marks: 0,
    opened: 0,
    handled: 0,
    is_done: false,
    record: false,
    is_below_mark: false,
    effects: 0,
};

impl<const MESSAGES: usize> State<MESSAGES> {
    fn start() -> Self {
        let side = Side { boot: 0, within: Some(association(0, 0)) };
        Self { sender: side, receiver: side, messages: [OFFERED; MESSAGES] }
    }

    fn is_over(&self) -> bool {
        self.messages.iter().all(|message| matches!(message.phase, Phase::Over(_)))
    }

    /// Calls `visit` with every state that one step leads to.
    fn for_each_step(&self, row: &Row, mut visit: impl FnMut(Self)) {
        self.crashes(row, &mut visit);
        self.handshakes(row, &mut visit);
        for index in 0..MESSAGES {
            let mut with = |change: &dyn Fn(&mut Message)| {
                let mut next = *self;
                change(&mut next.messages[index]);
                visit(next);
            };
            self.sender_steps(row, index, &mut with);
            self.receiver_steps(row, index, &mut visit);
        }
    }

    fn crashes(&self, row: &Row, visit: &mut impl FnMut(Self)) {
        if self.sender.boot < row.sender_crashes {
            let mut next = *self;
            next.sender = Side { boot: self.sender.boot + 1, within: None };
            for message in &mut next.messages {
                message.on_sender_crash(row);
            }
            visit(next);
        }
        if self.receiver.boot < row.receiver_crashes {
            let mut next = *self;
            next.receiver = Side { boot: self.receiver.boot + 1, within: None };
            for message in &mut next.messages {
                message.handled = 0;
                message.on_receiver_association();
                message.record &= row.record != Record::Volatile;
            }
            visit(next);
        }
    }

    /// The sender learns its peer's boot id.
    fn handshakes(&self, row: &Row, visit: &mut impl FnMut(Self)) {
        let present = association(self.sender.boot, self.receiver.boot);
        if self.sender.within == Some(present) {
            return;
        }
        let mut next = *self;
        next.sender.within = Some(present);
        for message in &mut next.messages {
            message.tries = 0;
            if message.phase == Phase::InFlight && row.on_reboot == OnReboot::Stop {
                message.phase = Phase::Over(End::Indeterminate);
            }
        }
        visit(next);
    }

    fn sender_steps(&self, row: &Row, index: usize, with: &mut impl FnMut(&dyn Fn(&mut Message))) {
        let message = &self.messages[index];
        if message.phase == Phase::Offered {
            with(&|next| next.phase = Phase::InFlight);
        }
        if message.phase == Phase::Reported {
            with(&|next| next.phase = Phase::Over(End::Delivered));
        }
        let Some(within) = self.sender.within else { return };
        if message.phase == Phase::InFlight {
            if row.tries_max.is_none_or(|max| message.tries < max) {
                with(&|next| next.send(within));
            } else {
                with(&|next| next.phase = Phase::Over(End::Indeterminate));
            }
            if message.acks & bit(within) != 0 {
                with(&|next| next.on_report(row));
            }
        }
        let is_done = |message: &Message| match row.retention {
            Retention::Forever => false,
            Retention::EarlyMark => message.said_delivered,
            Retention::KeepMark | Retention::ForgetMark => {
                message.phase == Phase::Over(End::Delivered)
            }
        };
        if self.messages[..=index].iter().all(is_done) {
            with(&|next| next.marks |= bit(within));
        }
    }

    fn receiver_steps(&self, row: &Row, index: usize, visit: &mut impl FnMut(Self)) {
        let message = &self.messages[index];
        for within in 0..BOOTS * BOOTS {
            let arrives = |under_way: u16| under_way & bit(within) != 0;
            let is_free = row.is_concurrent || message.handled == 0;
            for copy in 0..2 {
                if arrives(message.data[copy])
                    && is_free
                    && let Some(mut next) = self.opened_in(within)
                {
                    next.messages[index].take(row, within, copy);
                    visit(next);
                }
            }
            if arrives(message.marks) && self.receiver.within == Some(within) {
                let mut next = *self;
                next.messages[index].on_mark(row);
                visit(next);
            }
            if arrives(message.handled) {
                let mut next = *self;
                next.messages[index].finish(row, within, self.receiver.within);
                visit(next);
            }
        }
    }

    /// The state in which a packet of an association is taken: only of the present one, or of the
    /// first of a newer session.
    fn opened_in(&self, within: Association) -> Option<Self> {
        let mut next = *self;
        if self.receiver.within == Some(within) {
            return Some(next);
        }
        let is_newer = self.receiver.within.is_none_or(|known| known < within);
        (is_newer && receiver_boot(within) == self.receiver.boot).then(|| {
            next.receiver.within = Some(within);
            next.messages.iter_mut().for_each(Message::on_receiver_association);
            next
        })
    }
}

impl Message {
    fn on_sender_crash(&mut self, row: &Row) {
        self.tries = 0;
        self.phase = match (self.phase, row.outbox) {
            (Phase::Offered, _) => Phase::Over(End::NotAccepted),
            (Phase::InFlight | Phase::Reported, Outbox::Volatile) => Phase::Over(End::Forgotten),
            (Phase::InFlight | Phase::Reported, Outbox::Durable) => Phase::InFlight,
            (over @ Phase::Over(_), _) => over,
        };
    }

    /// What was known in the former association is forgotten.
    fn on_receiver_association(&mut self) {
        self.opened = 0;
        self.is_done = false;
    }

    fn send(&mut self, within: Association) {
        let copy = usize::from(self.tries.min(1));
        self.data[copy] |= bit(within);
        self.tries = 2.min(self.tries + 1);
    }

    fn on_report(&mut self, row: &Row) {
        self.said_delivered = true;
        self.phase = match row.outbox {
            Outbox::Durable => Phase::Reported,
            Outbox::Volatile => Phase::Over(End::Delivered),
        };
    }

    /// A copy arrives, and the handler's first half runs if it is the first.
    fn take(&mut self, row: &Row, within: Association, copy: usize) {
        let is_replay = self.opened & 1 << copy != 0;
        let is_first = self.opened == 0;
        self.opened |= 1 << copy;
        match row.record {
            Record::Nothing if is_replay => return,
            Record::Nothing => {}
            _ if !is_first => {
                // The bit of the association: reported as what it is, done or not.
                self.report_if(self.is_done, within);
                return;
            }
            Record::Volatile if self.record => {
                // Done with, or being handled: then the end of that is reported here as well.
                self.is_done = self.handled == 0;
                self.report_if(self.is_done, within);
                return;
            }
            _ if self.record || self.is_below_mark => {
                self.is_done = true;
                self.report_if(true, within);
                return;
            }
            _ => {}
        }
        self.handled |= bit(within);
        self.record |= matches!(row.record, Record::Before | Record::Volatile);
        if row.record == Record::After {
            self.take_effect();
        }
    }

    /// The handler's second half, and its report if its association is still the `present` one.
    fn finish(&mut self, row: &Row, within: Association, present: Option<Association>) {
        self.handled &= !bit(within);
        match row.record {
            Record::After => self.record = true,
            Record::Atomic if self.record || self.is_below_mark => {}
            Record::Atomic => {
                self.take_effect();
                self.record = true;
            }
            _ => self.take_effect(),
        }
        // A copy that came meanwhile in a later association waits for this one's end.
        let waits = row.record == Record::Volatile && self.opened != 0;
        if let Some(present) = present.filter(|present| *present == within || waits) {
            self.is_done = true;
            self.report_if(true, present);
        }
    }

    fn on_mark(&mut self, row: &Row) {
        self.record = false;
        self.is_below_mark = row.retention == Retention::KeepMark;
    }

    fn report_if(&mut self, is_done: bool, within: Association) {
        if is_done {
            self.acks |= bit(within);
        }
    }

    fn take_effect(&mut self) {
        self.effects += 1;
        assert!(self.effects <= 4, "more effects than the model can have");
    }
}

// ---- The search --------------------------------------------------------------------------

/// What an exploration found: least and most effects where a sender says so.
#[derive(Default)]
struct Found {
    states: usize,
    by_end: Vec<(End, Range)>,
}

impl Found {
    fn count(&mut self, end: End, effects: u8) {
        match self.by_end.iter_mut().find(|(known, _)| *known == end) {
            Some((_, (least, most))) => {
                (*least, *most) = ((*least).min(effects), (*most).max(effects))
            }
            None => self.by_end.push((end, (effects, effects))),
        }
    }

    fn of(&self, end: End) -> Option<Range> {
        self.by_end.iter().find(|(known, _)| *known == end).map(|(_, range)| *range)
    }
}

/// Multiplies and folds; the keys are small and nobody attacks them.
#[derive(Default)]
struct Fold(u64);

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64((*byte).into());
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value.cast_unsigned() as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

/// Visits every state, breadth first; then checks that each of them can still end.
fn explore<const MESSAGES: usize>(row: &Row) -> Found {
    let start = State::<MESSAGES>::start();
    let mut numbers: HashMap<_, u32, BuildHasherDefault<Fold>> = HashMap::default();
    numbers.insert(start, 0);
    let mut states = vec![start];
    let mut steps: Vec<(u32, u32)> = Vec::new();
    let mut found = Found::default();
    let mut at = 0;
    while at < states.len() {
        let state = states[at];
        let from = u32::try_from(at).expect("fewer states than 2^32");
        for message in &state.messages {
            if message.said_delivered {
                found.count(End::Delivered, message.effects);
            } else if let Phase::Over(end) = message.phase {
                found.count(end, message.effects);
            }
        }
        state.for_each_step(row, |next| {
            let to = u32::try_from(states.len()).expect("fewer states than 2^32");
            let to = match numbers.entry(next) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => {
                    states.push(next);
                    *new.insert(to)
                }
            };
            if to != from {
                steps.push((to, from));
            }
        });
        at += 1;
    }
    found.states = states.len();
    assert_can_end(&states, steps);
    found
}

/// From every state some way leads to one in which all messages have ended.
fn assert_can_end<const MESSAGES: usize>(states: &[State<MESSAGES>], mut steps: Vec<(u32, u32)>) {
    steps.sort_unstable();
    let mut can_end: Vec<bool> = states.iter().map(State::is_over).collect();
    let mut waiting: Vec<u32> =
        (0u32..).zip(&can_end).filter(|(_, end)| **end).map(|(at, _)| at).collect();
    while let Some(to) = waiting.pop() {
        let first = steps.partition_point(|step| step.0 < to);
        for (_, from) in steps[first..].iter().take_while(|step| step.0 == to) {
            let known = &mut can_end[*from as usize];
            if !*known {
                *known = true;
                waiting.push(*from);
            }
        }
    }
    let stuck = can_end.iter().position(|end| !end);
    assert!(stuck.is_none(), "no way out of {:?}", stuck.map(|at| &states[at]));
}

/// Explores one row and compares; `Err` says what is not as claimed.
fn check<const MESSAGES: usize>(name: &str, row: &Row) -> Result<(), String> {
    let found = explore::<MESSAGES>(row);
    let mut said = format!("{name}: {} states, ", found.states);
    let claims = row.otherwise.iter().copied().chain([(End::Delivered, row.delivered)]);
    let mut wrong = false;
    for (end, claimed) in claims.clone() {
        let seen = found.of(end);
        wrong |= seen != Some(claimed);
        write!(said, "{end:?} {seen:?} ").expect("a string takes any text");
    }
    wrong |= found.by_end.len() != claims.count();
    println!("{said}");
    if wrong { Err(format!("{said}, found {:?}, claimed {row:?}", found.by_end)) } else { Ok(()) }
}

fn check_all<const MESSAGES: usize>(rows: &[(&str, Row)]) {
    let wrong: Vec<String> =
        rows.iter().filter_map(|(name, row)| check::<MESSAGES>(name, row).err()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

// ---- The claims --------------------------------------------------------------------------

// PROTOCOL 6.10, 6.13, 6.30
#[test]
fn each_row_takes_effect_as_often_as_it_claims() {
    check_all::<1>(&TABLE);
}

// PROTOCOL 6.42 and 6.43
#[test]
fn records_may_go_once_the_mark_has_passed_and_is_kept() {
    check_all::<1>(&RETENTION);
}

#[test]
fn two_messages_do_not_disturb_each_other() {
    check_all::<2>(&[
        ("two messages, sender crashes", Row { receiver_crashes: 0, ..CONCURRENT }),
        ("two messages, receiver crashes", Row { sender_crashes: 0, otherwise: &[], ..CONCURRENT }),
        ("two messages, both crash", CONCURRENT),
    ]);
}
