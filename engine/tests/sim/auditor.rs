//! Knows every message that was ever accepted for sending, and what was promised about it.
//!
//! A message of eight bytes or more begins with its number, from which the rest of its content
//! follows: whoever sees it knows which one it is and whether a byte is wrong. Shorter ones cannot
//! be told apart, so all of the same size, kind, stream and pair of nodes are one [`Letter`] and
//! their counts are checked together; that is weaker, but never wrong.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Range;

use raet::limits::REFUSED_EXPIRED;
use raet::protocol::endpoint::Segment;
use raet::{Mode, Outcome, PeerId, RefuseReason, Resolved, SendOptions, Service, Stream};

use crate::letter::{Draft, Ended, Letter, NUMBER_LEN, content_at, is_content, mix};

/// What one process expects, and how far it came.
#[derive(Debug, Default)]
struct Desk {
    /// By peer and transaction: the letter, and whether its end is still awaited.
    sent: HashMap<(PeerId, u64), (usize, bool)>,
    /// By peer: sends whose end is awaited.
    open: HashMap<PeerId, u64>,
    /// Peers for which sends were taken back: others of their packets may still travel.
    cancelled: HashSet<PeerId>,
    /// Places given out in each stream.
    places: HashMap<(PeerId, Stream), u64>,
    /// The place in each stream of a peer that comes next.
    turns: HashMap<(PeerId, Stream), u64>,
    /// Messages of which some pieces came: which one it is, and how far it came.
    pieces: HashMap<(PeerId, u64, bool), (usize, usize)>,
    /// Peers for which this turn ended something that only a lost session may end so.
    excuses_due: Vec<PeerId>,
    excuses: Vec<PeerId>,
}

/// What short messages have in common that are one letter.
type ShortKey = (usize, usize, Service, Option<Stream>, usize);

/// The judge of one world.
#[derive(Debug)]
pub(crate) struct Auditor {
    mode: Mode,
    refusals: u64,
    outcast: Option<usize>,
    tries: Vec<u64>,
    reply_len_max: u64,
    letters: Vec<Letter>,
    /// Letters of messages too short to carry a number.
    short: HashMap<ShortKey, usize>,
    desks: Vec<Desk>,
    open: u64,
    deliveries: u64,
    /// Every datagram that was sent, where the mode lets one see what it acknowledges.
    genuine: HashSet<u64>,
    violations: Vec<String>,
}

/// Seeds of replies, kept apart from those of messages.
const REPLY: u64 = 1 << 62;
const SHORT: u64 = 1 << 63;

impl Auditor {
    /// An auditor of nodes which try as often as `tries` says.
    pub(crate) fn new(
        mode: Mode,
        refusals: u64,
        outcast: Option<usize>,
        tries: Vec<u64>,
        reply_len_max: u64,
    ) -> Self {
        Self {
            mode,
            refusals,
            outcast,
            letters: Vec::new(),
            short: HashMap::new(),
            desks: tries.iter().map(|_| Desk::default()).collect(),
            tries,
            reply_len_max,
            open: 0,
            deliveries: 0,
            genuine: HashSet::new(),
            violations: Vec::new(),
        }
    }

    /// A node sends a datagram.
    pub(crate) fn on_datagram(&mut self, datagram: &[u8]) {
        if self.mode == Mode::Signed {
            self.genuine.insert(fingerprint(datagram));
        }
    }

    /// Whether some node sent just this.
    pub(crate) fn is_genuine(&self, datagram: &[u8]) -> bool {
        self.genuine.contains(&fingerprint(datagram))
    }

    /// Writes the next message.
    pub(crate) fn draft(&self, from: usize, to: usize, options: SendOptions, len: usize) -> Draft {
        let number = self.letters.len() as u64;
        let seed =
            if len < NUMBER_LEN { short_seed(from, to, options.service, len) } else { number };
        Draft { from, to, options, bytes: content_at(seed, 0, len) }
    }

    /// The draft was accepted as `transaction`.
    pub(crate) fn on_sent(&mut self, draft: &Draft, peer: PeerId, transaction: u64) {
        let Draft { from, to, options, ref bytes } = *draft;
        let service = options.service;
        let place = draft.stream().map(|stream| {
            let next = self.desks[from].places.entry((peer, stream)).or_default();
            *next += 1;
            (stream, *next - 1)
        });
        let new = Letter {
            from,
            to,
            service,
            place,
            deadline: draft.deadline(),
            is_cancelled: false,
            len: bytes.len(),
            tries: self.tries[from],
            sent: 0,
            kept: 0,
            deferred: 0,
            refused: 0,
            replies: 0,
            ended: Ended::default(),
        };
        let next = self.letters.len();
        let letter = if bytes.len() < NUMBER_LEN {
            let key = (from, to, service, draft.stream(), bytes.len());
            *self.short.entry(key).or_insert(next)
        } else {
            next
        };
        if letter == next {
            self.letters.push(new);
        } else if draft.deadline().is_some() {
            // One of them may be given up: what is said of all has to allow it.
            self.letters[letter].deadline = draft.deadline();
        }
        self.letters[letter].sent += 1;
        self.open += 1;
        *self.desks[from].open.entry(peer).or_default() += 1;
        let before = self.desks[from].sent.insert((peer, transaction), (letter, true));
        if before.is_some_and(|(_, is_open)| is_open) {
            self.blame("I23", format!("transaction {transaction} of node {from} given twice"));
        }
    }

    /// A message was handed to the handler of `to`. Returns its letter, if there is one.
    pub(crate) fn on_message(
        &mut self,
        to: usize,
        from: Option<usize>,
        service: Service,
        place: Option<(Stream, u64)>,
        payload: &[u8],
    ) -> Option<usize> {
        self.deliveries += 1;
        let from = self.known_sender(to, from)?;
        let (stream, len) = (place.map(|(stream, _)| stream), payload.len());
        let letter = self.letter_of(from, to, service, stream, payload);
        let Some((letter, known)) = letter.and_then(|at| Some((at, self.letters.get(at)?))) else {
            self.blame("I13", format!("node {to} got {len} bytes nobody sent"));
            return None;
        };
        let is_it = known.from == from && known.to == to && known.service == service;
        let is_whole = if len < NUMBER_LEN {
            is_content(short_seed(from, to, service, len), 0, payload)
        } else {
            known.len == len && is_content(letter as u64, 0, payload)
        };
        if !is_it || !is_whole {
            let what = format!("node {to} got {service:?} of node {from} altered: {known:?}");
            self.blame("I13", what);
            return None;
        }
        if len >= NUMBER_LEN && known.place != place {
            let what = format!("letter {letter} is said to be at {place:?}: {known:?}");
            self.blame("I10", what);
        }
        Some(letter)
    }

    /// Who a message is of, if it may be.
    fn known_sender(&mut self, to: usize, from: Option<usize>) -> Option<usize> {
        if from.is_none() {
            self.blame("I21", format!("node {to} got a message of a peer it was not told of"));
        } else if self.outcast == from {
            self.blame("I21", format!("node {to} got a message of a node that it rejects"));
        }
        from
    }

    fn letter_of(
        &self,
        from: usize,
        to: usize,
        service: Service,
        stream: Option<Stream>,
        payload: &[u8],
    ) -> Option<usize> {
        match payload.first_chunk::<NUMBER_LEN>() {
            Some(number) => usize::try_from(u64::from_le_bytes(*number)).ok(),
            None => {
                let key = (from, to, service, stream, payload.len());
                self.short.get(&key).copied()
            }
        }
    }

    /// I10 and I11: a message of a stream comes in its turn.
    pub(crate) fn on_place(&mut self, node: usize, peer: PeerId, stream: Stream, place: u64) {
        let turn = self.desks[node].turns.entry((peer, stream)).or_default();
        let expected = *turn;
        *turn = place + 1;
        if place < expected {
            self.blame("I10", format!("node {node}: {stream:?} went back to {place}"));
        } else if place > expected {
            let rule = if stream.is_lossy() { "I10" } else { "I11" };
            let what = format!("node {node}: {expected}..{place} of {stream:?} missing, untold");
            self.blame(rule, what);
        }
    }

    /// A gap in a lossy stream is told before what follows it.
    pub(crate) fn on_gap(&mut self, node: usize, peer: PeerId, stream: Stream, gap: &Range<u64>) {
        let turn = self.desks[node].turns.entry((peer, stream)).or_default();
        let is_next = *turn == gap.start && gap.start < gap.end;
        let expected = std::mem::replace(turn, gap.end);
        if !stream.is_lossy() {
            self.blame("I11", format!("node {node}: {gap:?} of {stream:?} is a gap"));
        } else if !is_next {
            self.blame("I10", format!("node {node}: gap {gap:?} of {stream:?} at {expected}"));
        }
    }

    /// I13: a piece of a message, which comes after the piece before it. Returns the letter if it
    /// is what it has to be.
    pub(crate) fn on_piece(
        &mut self,
        to: usize,
        from: Option<usize>,
        piece: &Segment,
    ) -> Option<usize> {
        let from = self.known_sender(to, from)?;
        let key = (piece.peer, piece.transaction, piece.is_reply);
        let bytes: &[u8] = &piece.body;
        let (letter, at) = if piece.offset == 0 {
            let letter = if piece.is_reply {
                let sent = self.desks[to].sent.get(&(piece.peer, piece.transaction));
                sent.map(|&(letter, _)| letter)
            } else {
                self.letter_of(from, to, piece.service, None, bytes)
            };
            let known = letter.filter(|&letter| letter < self.letters.len());
            let Some(letter) = known else {
                self.blame("I13", format!("node {to} got a piece of nothing"));
                return None;
            };
            if self.desks[to].pieces.insert(key, (letter, 0)).is_some() {
                self.blame("I13", format!("node {to}: {key:?} began again, untold"));
            }
            (letter, 0)
        } else {
            self.desks[to].pieces.get(&key).copied().unwrap_or((usize::MAX, 0))
        };
        let known = self.letters.get(letter);
        let seed = if piece.is_reply { REPLY | letter as u64 } else { letter as u64 };
        let is_it = known.is_some_and(|known| {
            let total = if piece.is_reply { self.reply_len(letter) } else { known.len };
            known.service == piece.service && total == piece.total
        });
        if at != piece.offset || !is_it || !is_content(seed, piece.offset, bytes) {
            let what = format!("node {to}: piece at {} of {key:?}, not {at}", piece.offset);
            self.blame("I13", what);
            return None;
        }
        if piece.is_last() {
            self.desks[to].pieces.remove(&key);
            self.deliveries += u64::from(!piece.is_reply);
        } else {
            let end = piece.offset + bytes.len();
            self.desks[to].pieces.insert(key, (letter, end));
        }
        Some(letter)
    }

    /// The handler refused a message of which not all pieces came: no other may come.
    pub(crate) fn on_refused_piece(&mut self, to: usize, piece: &Segment, letter: usize) {
        self.desks[to].pieces.remove(&(piece.peer, piece.transaction, piece.is_reply));
        self.on_handled(letter, Handled::Refused);
    }

    /// A message of which pieces came is not completed.
    pub(crate) fn on_abandoned(&mut self, node: usize, peer: PeerId, key: (u64, bool)) {
        if self.desks[node].pieces.remove(&(peer, key.0, key.1)).is_none() {
            self.blame("I13", format!("node {node}: {key:?} abandoned, of which nothing came"));
        }
    }

    /// Whether the sender of a letter hears what became of it.
    pub(crate) fn is_reported_on(&self, letter: usize) -> bool {
        self.letters[letter].is_reported_on()
    }

    /// Whether the handler refuses this letter, and the reason: always the same answer.
    pub(crate) fn refuses(&self, letter: usize) -> Option<RefuseReason> {
        let is_due = self.refusals > 0 && (letter as u64).is_multiple_of(self.refusals);
        (self.letters[letter].is_reported_on() && is_due).then(|| reason(letter))
    }

    /// Whether the handler takes this request and cannot do what it asks: always the same answer.
    pub(crate) fn fails(&self, letter: usize) -> bool {
        self.refusals > 0 && letter as u64 % self.refusals == 1
    }

    /// The sender of a letter wanted it back.
    pub(crate) fn on_cancelled(
        &mut self,
        node: usize,
        peer: PeerId,
        letter: usize,
        is_taken_back: bool,
    ) {
        self.desks[node].cancelled.insert(peer);
        let known = &mut self.letters[letter];
        known.is_cancelled |= is_taken_back;
        if is_taken_back && known.place.is_some_and(|(stream, _)| !stream.is_lossy()) {
            self.blame("I11", format!("letter {letter} was taken out of a reliable stream"));
        }
    }

    /// I2: what ended leaves nothing behind. `outstanding`: transactions that the endpoint still
    /// thinks of.
    pub(crate) fn on_outstanding(&mut self, node: usize, peer: PeerId, outstanding: u64) {
        let desk = &self.desks[node];
        let is_over = desk.open.get(&peer).is_none_or(|&open| open == 0);
        if is_over && outstanding > 0 && !desk.cancelled.contains(&peer) {
            let what = format!("node {node} keeps {outstanding} sends to {peer:?} that ended");
            self.blame("I2", what);
        }
    }

    /// The letter that was sent as `transaction`, if it has no outcome.
    pub(crate) fn open_letter(&self, node: usize, peer: PeerId, transaction: u64) -> Option<usize> {
        let &(letter, is_open) = self.desks[node].sent.get(&(peer, transaction))?;
        is_open.then_some(letter)
    }

    /// The handler took the message, for good or until it commits it, or refused it.
    pub(crate) fn on_handled(&mut self, letter: usize, how: Handled) {
        let known = &mut self.letters[letter];
        match how {
            Handled::Deferred => known.deferred += 1,
            Handled::Kept => known.kept += 1,
            Handled::Refused => known.refused += 1,
        }
        let known = &self.letters[letter];
        let rule = match known.service {
            Service::Maybe => "I1",
            Service::Repeat => "I3",
            Service::RepeatDedup => "I4",
            Service::MoreOrLessOnce => "I5",
            Service::Request => "I15",
            _ => "I6",
        };
        if self.deliveries_max(known).is_some_and(|max| known.handed() > max) {
            self.blame(rule, format!("delivered too often: letter {letter}, {known:?}"));
        }
    }

    /// The handler commits what it deferred.
    pub(crate) fn on_committed(&mut self, letter: usize) {
        self.letters[letter].deferred -= 1;
        self.letters[letter].kept += 1;
    }

    /// How often a letter may be handed over; `None`: the network may copy it at will.
    fn deliveries_max(&self, letter: &Letter) -> Option<u64> {
        let is_numbered = self.mode != Mode::Plain;
        match letter.service {
            Service::Maybe => is_numbered.then_some(letter.sent),
            Service::Repeat | Service::MoreOrLessOnce => {
                is_numbered.then_some(letter.sent * letter.tries)
            }
            _ => Some(letter.sent),
        }
    }

    /// How long the reply to a letter is.
    pub(crate) fn reply_len(&self, letter: usize) -> usize {
        let len = mix(REPLY | letter as u64) % (self.reply_len_max + 1);
        usize::try_from(len).expect("as small as its bound")
    }

    /// The reply to a letter.
    pub(crate) fn reply(&self, letter: usize) -> Vec<u8> {
        content_at(REPLY | letter as u64, 0, self.reply_len(letter))
    }

    /// A reply was handed to the handler of `node`.
    pub(crate) fn on_reply(&mut self, node: usize, peer: PeerId, transaction: u64, bytes: &[u8]) {
        let Some(&(letter, _)) = self.desks[node].sent.get(&(peer, transaction)) else {
            return self.blame("I16", format!("node {node} got a reply to nothing it sent"));
        };
        let is_whole =
            bytes.len() == self.reply_len(letter) && is_content(REPLY | letter as u64, 0, bytes);
        if !is_whole {
            let what = format!("reply {transaction} to node {node} answers something else");
            self.blame("I16", what);
        }
        self.on_reply_to(node, letter);
    }

    /// The whole reply to a letter was handed over.
    pub(crate) fn on_reply_to(&mut self, node: usize, letter: usize) {
        let known = &mut self.letters[letter];
        known.replies += 1;
        if known.service != Service::Request || known.replies > known.sent {
            let what = format!("node {node} got a reply too many: {known:?}");
            self.blame("I16", what);
        }
    }

    /// Sends of `node` ended.
    pub(crate) fn on_outcome(&mut self, node: usize, peer: PeerId, resolved: Resolved) {
        for transaction in (resolved.first..).take(resolved.count as usize) {
            self.on_end(node, peer, transaction, resolved.service, resolved.outcome);
        }
    }

    fn on_end(
        &mut self,
        node: usize,
        peer: PeerId,
        transaction: u64,
        service: Service,
        outcome: Outcome,
    ) {
        let entry = self.desks[node].sent.get_mut(&(peer, transaction));
        let Some((letter, true)) = entry.as_ref().map(|entry| **entry) else {
            let what = format!("node {node}: {transaction} ended as {outcome:?}, was not open");
            return self.blame("I23", what);
        };
        entry.expect("found above").1 = false;
        self.open -= 1;
        *self.desks[node].open.get_mut(&peer).expect("it was open") -= 1;
        let known = &mut self.letters[letter];
        let ended = &mut known.ended;
        let count = match outcome {
            Outcome::Delivered => &mut ended.delivered,
            Outcome::Indeterminate => &mut ended.indeterminate,
            Outcome::NotSent => &mut ended.not_sent,
            Outcome::Refused(REFUSED_EXPIRED) => &mut ended.passed,
            Outcome::Refused(_) => &mut ended.refused,
            Outcome::Replied => &mut ended.replied,
            Outcome::HandlerFailed => &mut ended.failed,
            Outcome::Sent => &mut ended.sent,
        };
        *count += 1;
        let known = &self.letters[letter];
        let ended = known.ended;
        let is_request = service == Service::Request;
        let is_reported_on = known.is_reported_on();
        let is_passed = |(stream, _): (Stream, u64)| stream.is_lossy();
        let (holds, rule) = match outcome {
            Outcome::Delivered => {
                (is_reported_on && !is_request && ended.delivered <= known.kept, "I5 or I7")
            }
            Outcome::Indeterminate | Outcome::NotSent => (true, ""),
            // The stream went on without it.
            Outcome::Refused(REFUSED_EXPIRED) => (known.place.is_some_and(is_passed), "I8"),
            Outcome::Refused(given) => {
                let is_said = given == reason(letter).get() && ended.refused <= known.refused;
                (is_said && is_reported_on, "I8")
            }
            Outcome::Replied => {
                (is_request && !self.fails(letter) && ended.replied <= known.kept, "I15")
            }
            Outcome::HandlerFailed => {
                (is_request && self.fails(letter) && ended.failed <= known.kept, "I15")
            }
            Outcome::Sent => (!is_reported_on, "I23"),
        };
        if !holds || service != known.service {
            let what = format!("{outcome:?} is not true of letter {letter}, {known:?}");
            self.blame(rule, what);
        }
        let is_given_up = matches!(outcome, Outcome::Indeterminate | Outcome::NotSent);
        if is_given_up && self.letters[letter].is_sent_for_ever() {
            self.desks[node].excuses_due.push(peer);
        }
    }

    /// The message that left as `transaction`, if its sender still knows it.
    pub(crate) fn sent_letter(
        &self,
        node: usize,
        peer: PeerId,
        transaction: u64,
    ) -> Option<&Letter> {
        let &(letter, _) = self.desks[node].sent.get(&(peer, transaction))?;
        self.letters.get(letter)
    }

    /// The session of `node` with `peer` ended: what was under way may be indeterminate.
    pub(crate) fn on_closed(&mut self, node: usize, peer: PeerId) {
        let desk = &mut self.desks[node];
        desk.excuses.push(peer);
        desk.places.retain(|key, _| key.0 != peer);
        desk.turns.retain(|key, _| key.0 != peer);
        desk.pieces.retain(|key, _| key.0 != peer);
    }

    /// A turn of `node` is over.
    pub(crate) fn on_turn(&mut self, node: usize) {
        let desk = &mut self.desks[node];
        let excuses = std::mem::take(&mut desk.excuses);
        let due = std::mem::take(&mut desk.excuses_due);
        if due.iter().any(|peer| !excuses.contains(peer)) {
            self.blame("I9", format!("node {node} gave up what is retried for ever, session open"));
        }
    }

    /// The process of `node` ended without a word.
    pub(crate) fn on_crash(&mut self, node: usize) {
        for (_, (letter, is_open)) in std::mem::take(&mut self.desks[node]).sent {
            if is_open {
                self.letters[letter].ended.forgotten += 1;
                self.open -= 1;
            }
        }
    }

    /// Sends whose end is still to come.
    pub(crate) fn open(&self) -> u64 {
        self.open
    }

    /// Bytes of the messages that are open, and of the replies to them.
    pub(crate) fn open_bytes(&self) -> u64 {
        let len = |(at, letter): (usize, &Letter)| {
            let is_request = letter.service == Service::Request;
            let reply_len = if is_request { self.reply_len(at) } else { 0 };
            (letter.len + reply_len) as u64 * (letter.sent - letter.ended.sum())
        };
        self.letters.iter().enumerate().map(len).sum()
    }

    /// What is still open, in words.
    pub(crate) fn open_letters(&self) -> String {
        let open = self.letters.iter().filter(|letter| letter.ended.sum() < letter.sent);
        open.take(3).map(|letter| format!("{letter:?}; ")).collect()
    }

    /// Sends and deliveries so far.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.letters.iter().map(|letter| letter.sent).sum(), self.deliveries)
    }

    /// Everything is over: what holds only at the end.
    pub(crate) fn close(&mut self) {
        for letter in 0..self.letters.len() {
            let known = &self.letters[letter];
            let ended = known.ended;
            if ended.sum() != known.sent {
                self.blame("I23", format!("letter {letter} did not end: {known:?}"));
                continue;
            }
            let never = ended.not_sent + ended.passed + ended.refused;
            let possible = Letter { sent: known.sent - never, ..known.clone() };
            let taken = known.kept + known.deferred;
            if self.deliveries_max(&possible).is_some_and(|max| taken > max) {
                self.blame("I8", format!("not sent or refused, yet delivered: {known:?}"));
            } else if known.replies != ended.replied {
                self.blame("I16", format!("letter {letter}: replies and outcomes: {known:?}"));
            }
        }
    }

    /// Notes that `rule` was broken.
    pub(crate) fn blame(&mut self, rule: &str, what: String) {
        self.violations.push(format!("{rule}: {what}"));
    }

    /// What was broken so far.
    pub(crate) fn violations(&self) -> &[String] {
        &self.violations
    }
}

/// What a handler did with a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Handled {
    /// Took it and will commit it later.
    Deferred,
    /// Took it.
    Kept,
    /// Refused it.
    Refused,
}

/// Why a handler refuses a letter, if it does.
fn reason(letter: usize) -> RefuseReason {
    let number = u8::try_from(letter % 200).expect("below 200");
    RefuseReason::new(number).expect("below 254")
}

fn fingerprint(datagram: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    datagram.hash(&mut hasher);
    hasher.finish()
}

fn short_seed(from: usize, to: usize, service: Service, len: usize) -> u64 {
    SHORT | mix((((from * 8 + to) * 8 + usize::from(service.to_wire())) * 8 + len) as u64) >> 1
}
