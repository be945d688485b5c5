//! What a responder knows about one session: each of its messages is verified and counted here.

use std::collections::HashMap;
use std::ops::Range;

use raet::{Message, PeerId, Piece, Stream};

use crate::check::{Arrival, Copies, Hashing, Holding};
use crate::control::{Begin, Terms};
use crate::order::{Order, OrderCounts};
use crate::payload::{Front, Named, Reader, Tag};
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
    /// Messages that are not what was sent.
    corrupted: u64,
    /// The verdict as it is handed out, from the first page on.
    text: Option<String>,
}

/// What one kind of messages is held against, and what was found.
#[derive(Debug)]
struct Ledger {
    terms: Terms,
    found: KindVerdict,
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
            found: KindVerdict::new(sessions, has_our_clock),
            copies: Copies::new(sessions.saturating_mul(kinds)),
            order: terms.streams.map(Order::new),
            hashing: Hashing::new(terms.holding),
        };
        Self {
            peer,
            ledgers: begin.kinds.iter().map(ledger).collect(),
            arriving: HashMap::new(),
            begin,
            corrupted: 0,
            text: None,
        }
    }

    /// A message came.
    #[inline]
    pub(crate) fn enter(&mut self, message: &Message<'_>, now: u64) {
        let (len, seed) = (message.payload.len(), self.begin.seed);
        let entered = match message.payload.first_chunk() {
            Some(front) => Named::read_front(front, len, seed)
                .and_then(|named| self.enter_named(named, message, now)),
            None => self.enter_short(message, now),
        };
        if entered.is_none() {
            self.corrupted += 1;
        }
    }

    /// As [`Book::enter_named`], apart from the others so that what is read of them is in registers.
    #[cold]
    fn enter_short(&mut self, message: &Message<'_>, now: u64) -> Option<()> {
        let named = Named::read_short(message.payload, self.begin.seed)?;
        self.enter_named(named, message, now)
    }

    /// `None`: it is not what was sent.
    #[inline(always)] // What was read of the message would go through memory.
    fn enter_named(&mut self, named: Named, message: &Message<'_>, now: u64) -> Option<()> {
        let (payload, front) = (message.payload, named.front);
        let ledger = self.ledgers.get_mut(usize::from(front.kind))?;
        if !named.is_whole(payload, self.begin.seed, ledger.terms.holding) {
            return None;
        }
        let number = ledger.number(&front, message.transaction);
        if let Some(order) = &mut ledger.order {
            order.enter(number, message.sequence);
        }
        if ledger.is_new(&front, number, message.payload.len(), now) {
            ledger.hashing.add(message.payload);
        }
        Some(())
    }

    /// A piece of a message came.
    pub(crate) fn enter_piece(&mut self, piece: &Piece<'_>, now: u64) {
        let seed = self.begin.seed;
        if piece.offset == 0 {
            let begun = self.begin_pieces(piece, seed);
            self.arriving.insert(piece.transaction, begun);
        }
        let Some(arriving) = self.arriving.get_mut(&piece.transaction) else {
            self.corrupted += 1;
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
            self.corrupted += 1;
            return;
        };
        let ledger = &mut self.ledgers[usize::from(front.kind)];
        let number = ledger.number(&front, last.transaction);
        if ledger.is_new(&front, number, last.total, now)
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
        for order in self.ledgers.iter_mut().filter_map(|ledger| ledger.order.as_mut()) {
            order.pass(stream, missing);
        }
    }

    /// All that was found, as text.
    pub(crate) fn verdict_text(&mut self) -> &str {
        self.text.get_or_insert_with(|| {
            let kinds = self.ledgers.iter().map(Ledger::verdict).collect();
            Verdict { corrupted: self.corrupted, kinds }.text()
        })
    }

    /// For people.
    pub(crate) fn summary(&self) -> String {
        let found = || self.ledgers.iter().map(|ledger| &ledger.found);
        let parts = || found().flat_map(|found| [&found.measured, &found.warmup]);
        format!(
            "{} delivered, {} duplicates, {} corrupted",
            grouped(parts().map(|part| part.delivered).sum()),
            grouped(parts().map(|part| part.duplicates).sum()),
            grouped(self.corrupted),
        )
    }
}

impl Ledger {
    #[inline]
    fn number(&self, front: &Front, transaction: u64) -> u64 {
        front.number.filter(|_| self.terms.is_numbered).unwrap_or(transaction)
    }

    /// Counts an arrival; whether it is the first of its message.
    #[inline(always)] // Its front would be read before what was just written of it is there.
    fn is_new(&mut self, front: &Front, number: u64, len: usize, now: u64) -> bool {
        let found = &mut self.found;
        let part = match front.tag {
            Tag::Data => &mut found.measured,
            Tag::Warmup => &mut found.warmup,
        };
        match self.copies.record(number) {
            Arrival::New => {
                part.delivered += 1;
                part.bytes += len as u64;
                found.copies_max = found.copies_max.max(1);
            }
            Arrival::Copy(copies) => {
                part.duplicates += 1;
                found.copies_max = found.copies_max.max(copies);
                return false;
            }
            Arrival::Stale => {
                found.stale += 1;
                return false;
            }
        }
        if front.tag == Tag::Data
            && let (Some(latency), Some(intended)) = (&mut found.latency, front.intended)
        {
            latency.record(intended, now);
        }
        true
    }

    /// All that was found.
    fn verdict(&self) -> KindVerdict {
        let order = self.order.as_ref().map_or_else(OrderCounts::default, |order| order.counts);
        KindVerdict { order, content: self.hashing.value(), ..self.found.clone() }
    }
}
