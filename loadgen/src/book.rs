//! What a responder knows about one session: each of its messages is verified and counted here.

use std::collections::HashMap;
use std::ops::Range;

use raet::{Batch, Message, PeerId, Piece, Stream};

use crate::check::{Arrival, Arrived, Copies, Hashing, Holding};
use crate::control::{Begin, Terms};
use crate::order::{Order, OrderCounts};
use crate::payload::{Front, Label, Named, Reader, Series, Tag};
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
    /// Messages that are verified and not counted yet.
    run: Option<Run>,
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

/// Messages that followed one another and differed in their numbers only: they are verified one by
/// one, and counted together.
#[derive(Debug)]
struct Run {
    series: Series,
    kind: u8,
    tag: Tag,
    /// When they came.
    now: u64,
    /// The number that goes on.
    next: u64,
    count: u64,
}

impl Run {
    /// The run that may follow a message of `len` bytes that came at `now`.
    fn after(front: &Front, len: usize, seed: u64, now: u64) -> Option<Self> {
        let &Front { tag, kind, number: Some(number), intended: Some(intended) } = front else {
            return None;
        };
        let series = Series::new(seed, len, Label { tag, kind, number, intended });
        series.is_plain().then_some(Self { series, kind, tag, now, next: number + 1, count: 0 })
    }

    /// Takes a message if it is the next one, whole and unchanged.
    #[inline(always)] // As [`Book::enter`].
    fn goes_on(&mut self, payload: &[u8], now: u64) -> bool {
        let goes_on = now == self.now && self.series.is(payload, self.next);
        self.next += u64::from(goes_on);
        self.count += u64::from(goes_on);
        goes_on
    }
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
            run: None,
            corrupted: 0,
            text: None,
        }
    }

    /// Messages came together.
    #[inline(never)] // Its loop has need of all registers.
    pub(crate) fn enter_batch(&mut self, batch: &Batch<'_>, now: u64) {
        for message in batch.iter() {
            self.enter(message, now);
        }
    }

    /// A message came.
    #[inline(always)]
    pub(crate) fn enter(&mut self, message: Message<'_>, now: u64) {
        let Message { payload, transaction, sequence, .. } = message;
        if !self.run.as_mut().is_some_and(|run| run.goes_on(payload, now)) {
            self.enter_first(payload, transaction, sequence, now);
        }
    }

    /// Counts the messages of the run, which ends.
    fn end_run(&mut self) {
        let Some(run) = self.run.take() else { return };
        self.ledgers[usize::from(run.kind)].count(&run);
    }

    /// A message came that goes on no run; it may begin one.
    #[inline(never)] // What it needs in registers the others would have to save.
    fn enter_first(
        &mut self,
        payload: &[u8],
        transaction: u64,
        sequence: Option<(Stream, u64)>,
        now: u64,
    ) {
        self.end_run();
        let seed = self.begin.seed;
        let named = Named::read(payload, seed);
        let kind = named.map(|named| usize::from(named.front.kind));
        let ledger = kind.and_then(|kind| self.ledgers.get_mut(kind));
        let (Some(Named { front, .. }), Some(ledger)) = (named, ledger) else {
            self.corrupted += 1;
            return;
        };
        if !named.is_some_and(|named| named.is_whole(payload, seed, ledger.terms.holding)) {
            self.corrupted += 1;
            return;
        }
        let number = ledger.number(&front, transaction);
        if let Some(order) = &mut ledger.order {
            order.enter(number, sequence);
        }
        if ledger.is_new(&front, number, payload.len(), now) {
            ledger.hashing.add(payload);
        }
        if ledger.may_run() && ledger.copies.is_next(number + 1) {
            self.run = Run::after(&front, payload.len(), seed, now);
        }
    }

    /// A piece of a message came.
    pub(crate) fn enter_piece(&mut self, piece: &Piece<'_>, now: u64) {
        self.end_run();
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
        self.end_run();
        self.text.get_or_insert_with(|| {
            let kinds = self.ledgers.iter().map(Ledger::verdict).collect();
            Verdict { corrupted: self.corrupted, kinds }.text()
        })
    }

    /// For people.
    pub(crate) fn summary(&mut self) -> String {
        self.end_run();
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

    /// Whether its messages are told apart by what they carry, and nothing is known but that.
    fn may_run(&self) -> bool {
        self.terms.is_numbered && self.terms.holding == Holding::Pattern && self.order.is_none()
    }

    /// Counts the messages of a run.
    fn count(&mut self, run: &Run) {
        let (len, intended) = (run.series.len() as u64, run.series.intended());
        self.copies.record_next(run.count);
        let part = self.part(run.tag);
        part.delivered += run.count;
        part.bytes += run.count * len;
        self.record_latency(run.tag, Some(intended), run.now, run.count);
    }

    /// Counts an arrival; whether it is the first of its message.
    fn is_new(&mut self, front: &Front, number: u64, len: usize, now: u64) -> bool {
        let arrival = self.copies.record(number);
        let part = self.part(front.tag);
        match arrival {
            Arrival::New => {
                part.delivered += 1;
                part.bytes += len as u64;
                self.found.copies_max = self.found.copies_max.max(1);
                self.record_latency(front.tag, front.intended, now, 1);
                true
            }
            Arrival::Copy(copies) => {
                part.duplicates += 1;
                self.found.copies_max = self.found.copies_max.max(copies);
                false
            }
            Arrival::Stale => {
                self.found.stale += 1;
                false
            }
        }
    }

    fn part(&mut self, tag: Tag) -> &mut Arrived {
        match tag {
            Tag::Data => &mut self.found.measured,
            Tag::Warmup => &mut self.found.warmup,
        }
    }

    /// Records the latency of `count` new messages, if it can be told.
    fn record_latency(&mut self, tag: Tag, intended: Option<u64>, now: u64, count: u64) {
        if tag == Tag::Data
            && let (Some(latency), Some(intended)) = (&mut self.found.latency, intended)
        {
            latency.record(intended, now, count);
        }
    }

    /// All that was found.
    fn verdict(&self) -> KindVerdict {
        let order = self.order.as_ref().map_or_else(OrderCounts::default, |order| order.counts);
        KindVerdict { order, content: self.hashing.value(), ..self.found.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::write;

    #[test]
    fn run_goes_on_with_the_next_number_only_unchanged_and_at_once() {
        let label = |number, intended| Label { tag: Tag::Data, kind: 2, number, intended };
        let message = |len: usize, number, intended| {
            let mut message = vec![0; len];
            write(&mut message, 7, label(number, intended));
            message
        };
        for len in [16, 17, 64, 100, 1200] {
            let named = Named::read(&message(len, 4, 99), 7).unwrap();
            let mut run = Run::after(&named.front, len, 7, 500).unwrap();
            for wrong in [message(len, 4, 99), message(len, 6, 99), message(len, 5, 98)] {
                assert!(!run.goes_on(&wrong, 500));
            }
            let next = message(len, 5, 99);
            assert!(!run.goes_on(&next, 501), "it came later");
            assert!(!run.goes_on(&next[..len - 1], 500) && !run.goes_on(b"", 500));
            for bit in 0..len * 8 {
                let mut damaged = next.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(!run.goes_on(&damaged, 500), "bit {bit} of {len} bytes");
            }
            assert!(run.goes_on(&next, 500) && run.goes_on(&message(len, 6, 99), 500));
            assert_eq!((run.count, run.next), (2, 7));
        }
        let short = Named::read(&message(15, 4, 99), 7).unwrap();
        assert!(Run::after(&short.front, 15, 7, 500).is_none(), "it does not carry its time");
    }
}
