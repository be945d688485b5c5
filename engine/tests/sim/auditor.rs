//! Knows every message that was ever accepted for sending, and what was promised about it.
//!
//! A message of eight bytes or more begins with its number, from which the rest of its content
//! follows: whoever sees it knows which one it is and whether a byte is wrong. Shorter ones cannot
//! be told apart, so all of the same size, kind and pair of nodes are one [`Letter`] and their
//! counts are checked together; that is weaker, but never wrong.

use std::collections::HashMap;

use raet::{Mode, Outcome, PeerId, Resolved, Service};

/// One message, or all short ones that look the same.
#[derive(Clone, Debug)]
struct Letter {
    from: usize,
    to: usize,
    service: Service,
    len: usize,
    tries: u64,
    /// Accepted sends of it.
    sent: u64,
    /// Deliveries that the handler kept, and that it refused.
    kept: u64,
    refused: u64,
    /// Replies handed to the sender.
    replies: u64,
    ended: Ended,
}

/// How sends ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ended {
    pub(crate) delivered: u64,
    pub(crate) indeterminate: u64,
    pub(crate) not_sent: u64,
    pub(crate) refused: u64,
    pub(crate) replied: u64,
    pub(crate) sent: u64,
    /// The sender's process ended first.
    pub(crate) forgotten: u64,
}

impl Ended {
    fn sum(&self) -> u64 {
        let Self { delivered, indeterminate, not_sent, refused, replied, sent, forgotten } = self;
        delivered + indeterminate + not_sent + refused + replied + sent + forgotten
    }
}

/// What the sending side of one process expects.
#[derive(Debug, Default)]
struct Desk {
    /// By peer and transaction: the letter, and whether its end is still awaited.
    sent: HashMap<(PeerId, u64), (usize, bool)>,
    /// Peers for which this turn ended something that only a lost session may end so.
    excuses_due: Vec<PeerId>,
    excuses: Vec<PeerId>,
}

/// A message about to be offered to an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) service: Service,
    pub(crate) bytes: Vec<u8>,
}

/// The judge of one world.
#[derive(Debug)]
pub(crate) struct Auditor {
    mode: Mode,
    refusals: u64,
    outcast: Option<usize>,
    tries: Vec<u64>,
    letters: Vec<Letter>,
    /// Letters of messages too short to carry a number.
    short: HashMap<(usize, usize, Service, usize), usize>,
    desks: Vec<Desk>,
    open: u64,
    deliveries: u64,
    violations: Vec<String>,
}

/// Seeds of replies, kept apart from those of messages.
const REPLY: u64 = 1 << 62;
const SHORT: u64 = 1 << 63;
const NUMBER_LEN: usize = 8;

impl Auditor {
    /// An auditor of nodes which try as often as `tries` says.
    pub(crate) fn new(mode: Mode, refusals: u64, outcast: Option<usize>, tries: Vec<u64>) -> Self {
        Self {
            mode,
            refusals,
            outcast,
            letters: Vec::new(),
            short: HashMap::new(),
            desks: tries.iter().map(|_| Desk::default()).collect(),
            tries,
            open: 0,
            deliveries: 0,
            violations: Vec::new(),
        }
    }

    /// Writes the next message.
    pub(crate) fn draft(&self, from: usize, to: usize, service: Service, len: usize) -> Draft {
        let seed = if len < NUMBER_LEN {
            SHORT | (((from * 8 + to) * 8 + usize::from(service.to_wire())) * 8 + len) as u64
        } else {
            self.letters.len() as u64
        };
        Draft { from, to, service, bytes: content(seed, len) }
    }

    /// The draft was accepted as `transaction`.
    pub(crate) fn on_sent(&mut self, draft: &Draft, peer: PeerId, transaction: u64) {
        let Draft { from, to, service, ref bytes } = *draft;
        let new = Letter {
            from,
            to,
            service,
            len: bytes.len(),
            tries: self.tries[from],
            sent: 0,
            kept: 0,
            refused: 0,
            replies: 0,
            ended: Ended::default(),
        };
        let next = self.letters.len();
        let letter = if bytes.len() < NUMBER_LEN {
            *self.short.entry((from, to, service, bytes.len())).or_insert(next)
        } else {
            next
        };
        if letter == next {
            self.letters.push(new);
        }
        self.letters[letter].sent += 1;
        self.open += 1;
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
        payload: &[u8],
    ) -> Option<usize> {
        self.deliveries += 1;
        let Some(from) = from else {
            self.blame("I21", format!("node {to} got a message of a peer it was not told of"));
            return None;
        };
        if self.outcast == Some(from) {
            self.blame("I21", format!("node {to} got a message of node {from}, which it rejects"));
        }
        let letter = match payload.first_chunk::<NUMBER_LEN>() {
            Some(number) => usize::try_from(u64::from_le_bytes(*number)).ok(),
            None => self.short.get(&(from, to, service, payload.len())).copied(),
        };
        let known = letter.and_then(|letter| Some((letter, self.letters.get(letter)?)));
        let Some((letter, known)) = known else {
            self.blame("I13", format!("node {to} got {} bytes nobody sent", payload.len()));
            return None;
        };
        let is_it = known.from == from && known.to == to && known.service == service;
        let seed = match payload.len() {
            len if len < NUMBER_LEN => self.draft(from, to, service, len).bytes == payload,
            len => known.len == len && content(letter as u64, len) == payload,
        };
        if !is_it || !seed {
            let what = format!("node {to} got {service:?} of node {from} altered: {known:?}");
            self.blame("I13", what);
            return None;
        }
        Some(letter)
    }

    /// Whether the handler refuses this letter, and the reason: always the same answer.
    pub(crate) fn refuses(&self, letter: usize) -> Option<u8> {
        let Letter { service, .. } = self.letters[letter];
        let is_heard = !matches!(service, Service::Maybe | Service::Repeat | Service::RepeatDedup);
        let is_due = self.refusals > 0 && (letter as u64).is_multiple_of(self.refusals);
        (is_heard && is_due).then(|| reason(letter))
    }

    /// The handler kept the message, or refused it.
    pub(crate) fn on_handled(&mut self, letter: usize, kept: bool) {
        let known = &mut self.letters[letter];
        if kept {
            known.kept += 1;
        } else {
            known.refused += 1;
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
        if self.deliveries_max(known).is_some_and(|max| known.kept + known.refused > max) {
            self.blame(rule, format!("delivered too often: letter {letter}, {known:?}"));
        }
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

    /// The reply to a letter.
    pub(crate) fn reply(&self, letter: usize) -> Vec<u8> {
        let seed = REPLY | letter as u64;
        content(seed, usize::from(u16::try_from(mix(seed) % 700).expect("below 700")))
    }

    /// A reply was handed to the handler of `node`.
    pub(crate) fn on_reply(&mut self, node: usize, peer: PeerId, transaction: u64, bytes: &[u8]) {
        let Some(&(letter, _)) = self.desks[node].sent.get(&(peer, transaction)) else {
            return self.blame("I16", format!("node {node} got a reply to nothing it sent"));
        };
        if self.letters[letter].service != Service::Request || self.reply(letter) != bytes {
            let what = format!("reply {transaction} to node {node} answers something else");
            self.blame("I16", what);
        }
        let known = &mut self.letters[letter];
        known.replies += 1;
        if known.replies > known.sent {
            let what = format!("node {node} got a second reply: {known:?}");
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
        let known = &mut self.letters[letter];
        let ended = &mut known.ended;
        let count = match outcome {
            Outcome::Delivered => &mut ended.delivered,
            Outcome::Indeterminate => &mut ended.indeterminate,
            Outcome::NotSent => &mut ended.not_sent,
            Outcome::Refused(_) => &mut ended.refused,
            Outcome::Replied => &mut ended.replied,
            Outcome::Sent => &mut ended.sent,
        };
        *count += 1;
        let known = &self.letters[letter];
        let ended = known.ended;
        let acknowledged =
            matches!(service, Service::MoreOrLessOnce | Service::AtMostOnce | Service::ExactlyOnce);
        let is_request = service == Service::Request;
        let (holds, rule) = match outcome {
            Outcome::Delivered => (acknowledged && ended.delivered <= known.kept, "I5 or I7"),
            Outcome::Indeterminate | Outcome::NotSent => (true, ""),
            Outcome::Refused(given) => {
                let is_said = given == reason(letter) && ended.refused <= known.refused;
                (is_said && (acknowledged || is_request), "I8")
            }
            Outcome::Replied => (is_request && ended.replied <= known.kept, "I15"),
            Outcome::Sent => (!acknowledged && !is_request, "I23"),
        };
        if !holds || service != known.service {
            let what = format!("{outcome:?} is not true of letter {letter}, {known:?}");
            self.blame(rule, what);
        }
        let for_ever = matches!(service, Service::ExactlyOnce | Service::Request);
        if outcome == Outcome::Indeterminate && for_ever {
            self.desks[node].excuses_due.push(peer);
        }
    }

    /// The session of `node` with `peer` ended: what was under way may be indeterminate.
    pub(crate) fn on_closed(&mut self, node: usize, peer: PeerId) {
        self.desks[node].excuses.push(peer);
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
            let never = ended.not_sent + ended.refused;
            let possible = Letter { sent: known.sent - never, ..known.clone() };
            if self.deliveries_max(&possible).is_some_and(|max| known.kept > max) {
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

fn reason(letter: usize) -> u8 {
    u8::try_from(letter % 200).expect("below 200")
}

/// `len` bytes that follow from `seed`; from eight bytes on they begin with it.
fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    let mut word = seed;
    if len < NUMBER_LEN {
        word = mix(word);
    }
    while bytes.len() < len {
        bytes.extend_from_slice(&word.to_le_bytes());
        word = mix(word);
    }
    bytes.truncate(len);
    bytes
}

/// The finishing step of splitmix64.
pub(crate) fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
