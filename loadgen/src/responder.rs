//! The receiving side: verifies every message where it arrives, and keeps books on each session.
//!
//! Nothing here runs but what the engine's own thread calls, and nothing allocates between a
//! session's beginning and its verdict: what the books need is taken when they are opened.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::mpsc::Sender;

use raet::{
    Batch, Context, Handler, Message, PeerId, Piece, SendError, Service, SessionChange, Stream,
};

use crate::book::Book;
use crate::control::{Begin, Question, SESSIONS_MAX, Terms, begin_answer, page_answer};
use crate::engine::WHOLE_LEN_MAX;
use crate::environment;
use crate::payload;

/// A shard's responder.
#[derive(Debug)]
pub(crate) struct Responder {
    books: Vec<Book>,
    /// Where each session's book is.
    places: HashMap<PeerId, usize>,
    /// The book used last: messages of one packet are of one session.
    latest: usize,
    /// Where the open sessions' packets come from, for people.
    addresses: HashMap<PeerId, SocketAddr>,
    /// Replies that the engine had no room for.
    owed: Owed,
    /// Which clock is ours.
    boot: String,
    /// Whether long messages come in pieces.
    takes_pieces: bool,
    /// Takes a line for people when a session ends.
    summaries: Sender<String>,
}

impl Responder {
    /// A responder without sessions.
    pub(crate) fn new(summaries: Sender<String>, takes_pieces: bool) -> Self {
        Self {
            books: Vec::new(),
            places: HashMap::new(),
            latest: 0,
            addresses: HashMap::new(),
            owed: Owed::default(),
            boot: environment::boot(),
            takes_pieces,
            summaries,
        }
    }

    #[inline]
    fn book(&mut self, peer: PeerId) -> Option<&mut Book> {
        if self.books.get(self.latest).is_none_or(|book| book.peer != peer) {
            self.latest = *self.places.get(&peer)?;
        }
        self.books.get_mut(self.latest)
    }

    #[cold]
    fn answer(&mut self, peer: PeerId, question: &[u8]) -> Vec<u8> {
        match Question::from_message(question) {
            Some(Question::Begin(begin)) => {
                let refused = self.open_book(peer, begin).err();
                begin_answer(refused)
            }
            Some(Question::Page(page)) => match self.book(peer) {
                Some(book) => page_answer(book.verdict_text().as_bytes(), page),
                None => begin_answer(Some("there is no run to judge")),
            },
            None => begin_answer(Some("the question was not understood")),
        }
    }

    fn open_book(&mut self, peer: PeerId, begin: Begin) -> Result<(), &'static str> {
        self.close_book(peer);
        if begin.sessions > SESSIONS_MAX || self.books.len() >= SESSIONS_MAX as usize {
            return Err("it keeps books on at most 4096 sessions a shard");
        }
        let is_long = |terms: &Terms| terms.is_request && terms.longest > WHOLE_LEN_MAX as u64;
        if self.takes_pieces && begin.kinds.iter().any(is_long) {
            return Err("it takes long messages in pieces and cannot send them back");
        }
        self.places.insert(peer, self.books.len());
        let has_our_clock = begin.boot == self.boot;
        self.books.push(Book::new(peer, begin, has_our_clock));
        Ok(())
    }

    fn close_book(&mut self, peer: PeerId) -> Option<Book> {
        let place = self.places.remove(&peer)?;
        let book = self.books.swap_remove(place);
        if let Some(moved) = self.books.get(place) {
            self.places.insert(moved.peer, place);
        }
        Some(book)
    }

    fn reply(&mut self, context: &mut Context<'_>, peer: PeerId, transaction: u64, text: &[u8]) {
        // Behind what is owed already, so that no reply waits for ever.
        if !self.owed.is_empty() {
            return self.owed.add(peer, transaction, text);
        }
        if let Err(SendError::Full(_) | SendError::TooLarge { .. }) =
            context.reply(peer, transaction, text)
        {
            self.owed.add(peer, transaction, text);
        }
    }
}

impl Handler for Responder {
    fn on_message(&mut self, context: &mut Context<'_>, message: Message<'_>) {
        let is_request = message.service == Service::Request;
        if is_request && payload::is_control(message.payload) {
            let answer = self.answer(message.peer, message.payload);
            return self.reply(context, message.peer, message.transaction, &answer);
        }
        if let Some(book) = self.book(message.peer) {
            book.enter(message, context.now().as_nanos());
        }
        if is_request {
            self.reply(context, message.peer, message.transaction, message.payload);
        }
    }

    fn on_batch(&mut self, context: &mut Context<'_>, batch: Batch<'_>) {
        if batch.service() == Service::Request {
            batch.iter().for_each(|message| self.on_message(context, message));
        } else if let Some(book) = self.book(batch.peer()) {
            book.enter_batch(&batch, context.now().as_nanos());
        }
    }

    fn on_piece(&mut self, context: &mut Context<'_>, piece: Piece<'_>) {
        if let Some(book) = self.book(piece.peer) {
            book.enter_piece(&piece, context.now().as_nanos());
        }
    }

    fn on_abandoned(&mut self, _: &mut Context<'_>, peer: PeerId, transaction: u64, _: bool) {
        if let Some(book) = self.book(peer) {
            book.abandon(transaction);
        }
    }

    fn on_gap(&mut self, _: &mut Context<'_>, peer: PeerId, stream: Stream, missing: Range<u64>) {
        if let Some(book) = self.book(peer) {
            book.pass(stream, &missing);
        }
    }

    fn on_session(&mut self, _: &mut Context<'_>, peer: PeerId, change: SessionChange) {
        match change {
            SessionChange::Opened { address, .. } | SessionChange::Moved { address } => {
                self.addresses.insert(peer, address);
            }
            SessionChange::Closed(reason) => {
                let address = self.addresses.remove(&peer);
                let (Some(address), Some(mut book)) = (address, self.close_book(peer)) else {
                    return;
                };
                let line = format!("session of {address} ended ({reason:?}): {}", book.summary());
                // Nobody listens any more when the node is being stopped.
                let _ = self.summaries.send(line);
            }
            SessionChange::Lost(_)
            | SessionChange::Pending { .. }
            | SessionChange::Refused(_)
            | SessionChange::TimedOut(_) => {}
        }
    }

    fn on_turn(&mut self, context: &mut Context<'_>) {
        self.owed.pay(context);
    }
}

/// Replies that wait for room, oldest first. Its memory is kept for the next time.
#[derive(Debug, Default)]
struct Owed {
    replies: VecDeque<(PeerId, u64, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
}

impl Owed {
    fn is_empty(&self) -> bool {
        self.replies.is_empty()
    }

    fn add(&mut self, peer: PeerId, transaction: u64, text: &[u8]) {
        let mut kept = self.spare.pop().unwrap_or_default();
        kept.extend_from_slice(text);
        self.replies.push_back((peer, transaction, kept));
    }

    fn pay(&mut self, context: &mut Context<'_>) {
        for _ in 0..self.replies.len() {
            let Some((peer, transaction, text)) = self.replies.front() else { return };
            match context.reply(*peer, *transaction, text) {
                Err(SendError::Full(_)) => return,
                // The path back is still being probed: others need not wait for it.
                Err(SendError::TooLarge { .. }) => self.replies.rotate_left(1),
                // What else fails concerns a session that is gone.
                _ => {
                    let (.., mut text) = self.replies.pop_front().expect("it was just looked at");
                    text.clear();
                    self.spare.push(text);
                }
            }
        }
    }
}
