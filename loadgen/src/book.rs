//! What a responder knows about one session: each of its messages is verified and counted here.

use std::collections::HashMap;
use std::ops::Range;

use raet::{Message, PeerId, Piece, Stream};

use crate::check::{Arrival, Copies, Hashing, Holding};
use crate::control::{Begin, Terms};
use crate::order::Order;
use crate::payload::{self, Front, Reader, Tag};
use crate::table::grouped;
use crate::verdict::{KindVerdict, Verdict};

/// One session's book.
#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) peer: PeerId,
    /// What the initiator said about its messages.
    begin: Begin,
    ledgers: Vec<Ledger>,
    /// Messages of which only some pieces came, by transaction: as many as the engine lets be
    /// under way.
    arriving: HashMap<u64, Arriving>,
    verdict: Verdict,
    /// The verdict as it is handed out, from the first page on.
    text: Option<String>,
}

/// What one kind of messages is held against.
#[derive(Debug)]
struct Ledger {
    terms: Terms,
    copies: Copies,
    order: Option<Order>,
    hashing: Hashing,
}

/// A message of which only some pieces came.
#[derive(Debug)]
struct Arriving {
    /// `None`: it is not what was sent.
    reader: Option<Reader>,
    /// Where the next piece has to begin.
    next: usize,
    /// Hash of what came, if the message holds bytes of a file.
    hasher: Option<Box<blake3::Hasher>>,
}

impl Book {
    /// An empty one, with all memory that messages which come whole will need.
    pub(crate) fn new(peer: PeerId, begin: Begin, has_our_clock: bool) -> Self {
        let sessions = begin.sessions as usize;
        let kinds = begin.kinds.len();
        let ledger = |terms: &Terms| Ledger {
            terms: *terms,
            copies: Copies::new(sessions.saturating_mul(kinds)),
            order: terms.streams.map(Order::new),
            hashing: Hashing::new(terms.holding),
        };
        Self {
            peer,
            ledgers: begin.kinds.iter().map(ledger).collect(),
            arriving: HashMap::new(),
            verdict: Verdict::new(kinds, sessions, has_our_clock),
            begin,
            text: None,
        }
    }

    /// A message came.
    #[inline]
    pub(crate) fn enter(&mut self, message: &Message<'_>, now: u64) {
        let seed = self.begin.seed;
        let kind = payload::kind_of(message.payload);
        let ledger = kind.and_then(|kind| self.ledgers.get_mut(usize::from(kind)));
        let verdict = kind.and_then(|kind| self.verdict.kinds.get_mut(usize::from(kind)));
        let read = |ledger: &Ledger| match ledger.terms.holding {
            Holding::Pattern => payload::read(message.payload, seed),
            Holding::Bytes | Holding::BytesInOrder => {
                payload::read_line_front(message.payload, seed)
            }
        };
        let (Some(ledger), Some(verdict)) = (ledger, verdict) else {
            self.verdict.corrupted += 1;
            return;
        };
        let Some(front) = read(ledger) else {
            self.verdict.corrupted += 1;
            return;
        };
        let number = ledger.number(&front, message.transaction);
        if let Some(order) = &mut ledger.order {
            order.enter(number, message.sequence);
            verdict.order = order.counts;
        }
        if ledger.is_new(verdict, &front, number, message.payload.len(), now) {
            ledger.hashing.add(message.payload);
        }
    }

    /// A piece of a message came.
    pub(crate) fn enter_piece(&mut self, piece: &Piece<'_>, now: u64) {
        let seed = self.begin.seed;
        if piece.offset == 0 {
            let begun = self.begin_pieces(piece, seed);
            self.arriving.insert(piece.transaction, begun);
        }
        let Some(arriving) = self.arriving.get_mut(&piece.transaction) else {
            self.verdict.corrupted += 1;
            return;
        };
        let end = piece.offset + piece.payload.len();
        let agrees = arriving.next == piece.offset
            && match (&mut arriving.hasher, &arriving.reader) {
                (Some(hasher), Some(_)) => {
                    hasher.update(piece.payload);
                    true
                }
                (None, Some(reader)) => reader.agrees(piece.offset, piece.payload),
                (_, None) => false,
            };
        arriving.next = end;
        if !agrees {
            arriving.reader = None;
        }
        if end == piece.total {
            self.end_pieces(piece, now);
        }
    }

    fn begin_pieces(&self, first: &Piece<'_>, seed: u64) -> Arriving {
        let reader = Reader::begin(first.payload, first.total, seed);
        let kind = reader.map(|reader| usize::from(reader.front.kind));
        let ledger = kind.and_then(|kind| self.ledgers.get(kind));
        let is_hashed = ledger.is_some_and(|ledger| ledger.terms.holding == Holding::Bytes);
        let hasher = is_hashed.then(Box::<blake3::Hasher>::default);
        Arriving { reader: reader.filter(|_| ledger.is_some()), next: 0, hasher }
    }

    fn end_pieces(&mut self, last: &Piece<'_>, now: u64) {
        let Some(arriving) = self.arriving.remove(&last.transaction) else { return };
        let Some(Reader { front, .. }) = arriving.reader else {
            self.verdict.corrupted += 1;
            return;
        };
        let kind = usize::from(front.kind);
        let (ledger, verdict) = (&mut self.ledgers[kind], &mut self.verdict.kinds[kind]);
        let number = ledger.number(&front, last.transaction);
        if ledger.is_new(verdict, &front, number, last.total, now)
            && let (Some(hasher), Hashing::Set(set)) = (arriving.hasher, &mut ledger.hashing)
        {
            set.add(&hasher.finalize());
        }
    }

    /// The rest of a message that came in pieces will not come.
    pub(crate) fn abandon(&mut self, transaction: u64) {
        self.arriving.remove(&transaction);
    }

    /// Messages of a stream will not come.
    pub(crate) fn pass(&mut self, stream: Stream, missing: &Range<u64>) {
        for (ledger, verdict) in self.ledgers.iter_mut().zip(&mut self.verdict.kinds) {
            if let Some(order) = &mut ledger.order
                && order.pass(stream, missing)
            {
                verdict.order = order.counts;
            }
        }
    }

    /// All that was found, as text.
    pub(crate) fn verdict_text(&mut self) -> &str {
        for (ledger, verdict) in self.ledgers.iter().zip(&mut self.verdict.kinds) {
            verdict.content = ledger.hashing.value();
        }
        self.text.get_or_insert_with(|| self.verdict.text())
    }

    /// For people.
    pub(crate) fn summary(&self) -> String {
        let parts = || self.verdict.kinds.iter().flat_map(|kind| [&kind.measured, &kind.warmup]);
        format!(
            "{} delivered, {} duplicates, {} corrupted",
            grouped(parts().map(|part| part.delivered).sum()),
            grouped(parts().map(|part| part.duplicates).sum()),
            grouped(self.verdict.corrupted),
        )
    }
}

impl Ledger {
    #[inline]
    fn number(&self, front: &Front, transaction: u64) -> u64 {
        front.number.filter(|_| self.terms.is_numbered).unwrap_or(transaction)
    }

    /// Counts an arrival; whether it is the first of its message.
    #[inline(always)] // Its verdict would be read before what was just written of it is there.
    fn is_new(
        &mut self,
        verdict: &mut KindVerdict,
        front: &Front,
        number: u64,
        len: usize,
        now: u64,
    ) -> bool {
        let part = match front.tag {
            Tag::Data => &mut verdict.measured,
            Tag::Warmup => &mut verdict.warmup,
        };
        match self.copies.record(number) {
            Arrival::New => {
                part.delivered += 1;
                part.bytes += len as u64;
                verdict.copies_max = verdict.copies_max.max(1);
            }
            Arrival::Copy(copies) => {
                part.duplicates += 1;
                verdict.copies_max = verdict.copies_max.max(copies);
                return false;
            }
            Arrival::Stale => {
                verdict.stale += 1;
                return false;
            }
        }
        if front.tag == Tag::Data
            && let (Some(latency), Some(intended)) = (&mut verdict.latency, front.intended)
        {
            latency.record(intended, now);
        }
        true
    }
}
