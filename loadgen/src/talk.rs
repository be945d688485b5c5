//! A session's side conversation at the initiator: questions about the run and their answers,
//! and the replies to requests of the load.

use raet::{Context, Message, Outcome, PeerId, Resolved, SendError, Service};

use crate::check::{Arrival, ContentHash, Copies, Hashing};
use crate::control::{Question, Terms, read_begin_answer, read_page_answer};
use crate::latency::Latency;
use crate::payload::{Named, Tag};
use crate::verdict::Verdict;

/// The conversation with one responder. One question is open at a time.
#[derive(Debug)]
pub(crate) struct Talk {
    open: Option<Open>,
    /// The question for which the engine had no room yet.
    unasked: Option<Question>,
    /// Pages of the verdict so far.
    text: Vec<u8>,
    verdict: Option<Verdict>,
    is_over: bool,
    /// Sessions of the run.
    sessions: usize,
    /// What replies of each kind are held against.
    ledgers: Vec<ReplyLedger>,
}

#[derive(Debug)]
struct ReplyLedger {
    terms: Terms,
    /// Which came, if any are expected.
    copies: Option<Copies>,
    hashing: Hashing,
    replies: Replies,
}

#[derive(Debug)]
struct Open {
    transaction: u64,
    question: Question,
    answer: Option<Vec<u8>>,
    outcome: Option<Outcome>,
}

/// What an answer meant.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Heard {
    /// The conversation cannot go on: why.
    Failure(String),
    /// Nothing to act on.
    Nothing,
    /// The responder is ready.
    Ready,
}

/// Replies to requests of the load.
#[derive(Debug)]
pub(crate) struct Replies {
    /// Different ones, warm-up included.
    pub(crate) count: u64,
    /// Repeated ones.
    pub(crate) duplicates: u64,
    /// Hash over the different ones, if they are lines.
    pub(crate) hash: ContentHash,
    /// Round trips of measured requests.
    pub(crate) latency: Latency,
}

impl Replies {
    /// None yet, on one of `sessions` sessions.
    pub(crate) fn new(sessions: usize) -> Self {
        Self {
            count: 0,
            duplicates: 0,
            hash: ContentHash::default(),
            latency: Latency::new(sessions),
        }
    }

    /// Adds another session's.
    pub(crate) fn add(&mut self, other: &mut Self) {
        self.count += other.count;
        self.duplicates += other.duplicates;
        self.hash.merge(&other.hash);
        self.latency.add(&mut other.latency);
    }
}

impl Talk {
    /// A silent one about messages of these kinds, in a run of so many sessions.
    pub(crate) fn new(kinds: &[Terms], sessions: usize) -> Self {
        let ledger = |terms: &Terms| ReplyLedger {
            terms: *terms,
            copies: terms.is_request.then(|| Copies::new(sessions * kinds.len())),
            hashing: Hashing::new(terms.holding),
            replies: Replies::new(sessions),
        };
        let ledgers = kinds.iter().map(ledger).collect();
        let (open, unasked, verdict) = (None, None, None);
        Self { open, unasked, text: Vec::new(), verdict, is_over: false, sessions, ledgers }
    }

    /// Asks a question, now or as soon as there is room for it: what has no acknowledgement of its
    /// own can leave the window full until the peer reports.
    ///
    /// # Errors
    /// The engine will not take it.
    pub(crate) fn ask(
        &mut self,
        context: &mut Context<'_>,
        peer: PeerId,
        question: &Question,
    ) -> Result<(), SendError> {
        let message = question.to_message();
        let question = question.clone();
        match context.send(peer, Service::Request, &message) {
            Ok(transaction) => {
                self.open = Some(Open { transaction, question, answer: None, outcome: None });
            }
            Err(SendError::Full(_)) => self.unasked = Some(question),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Takes a reply if it answers the open question.
    #[inline]
    pub(crate) fn hear(&mut self, message: &Message<'_>) -> bool {
        match &mut self.open {
            Some(open) if open.transaction == message.transaction => {
                open.answer = Some(message.payload.to_vec());
                true
            }
            _ => false,
        }
    }

    /// Takes note if the open question is among what ended.
    pub(crate) fn note_outcome(&mut self, resolved: &Resolved) {
        let end = resolved.first.saturating_add(u64::from(resolved.count));
        if let Some(open) = &mut self.open
            && (resolved.first..end).contains(&open.transaction)
        {
            open.outcome = Some(resolved.outcome);
        }
    }

    /// Goes on with the conversation once the open question has ended. Answer and outcome may
    /// come in either order.
    pub(crate) fn go_on(&mut self, context: &mut Context<'_>, peer: PeerId) -> Heard {
        if let Some(question) = self.unasked.take()
            && let Err(error) = self.ask(context, peer, &question)
        {
            return self.fail(&format!("cannot talk to the responder: {error}"));
        }
        let Some(open) = self.open.take_if(|open| open.is_over()) else { return Heard::Nothing };
        let (Some(answer), Some(Outcome::Replied)) = (open.answer, open.outcome) else {
            return self.fail("the responder did not answer a question");
        };
        match open.question {
            Question::Begin(_) => match read_begin_answer(&answer) {
                Ok(()) => Heard::Ready,
                Err(sentence) => Heard::Failure(sentence),
            },
            Question::Page(page) => self.turn_page(context, peer, page, &answer),
        }
    }

    /// The session is gone: nothing will be answered any more.
    pub(crate) fn give_up(&mut self) {
        self.open = None;
        self.unasked = None;
        self.is_over = true;
    }

    /// Whether the verdict is here, or will never be.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    fn turn_page(
        &mut self,
        context: &mut Context<'_>,
        peer: PeerId,
        page: u32,
        answer: &[u8],
    ) -> Heard {
        let Some((pages, text)) = read_page_answer(answer) else {
            return self.fail("the responder's verdict cannot be read");
        };
        self.text.extend_from_slice(text);
        if page + 1 < pages {
            return match self.ask(context, peer, &Question::Page(page + 1)) {
                Ok(()) => Heard::Nothing,
                Err(_) => self.fail("the responder cannot be asked for the rest of its verdict"),
            };
        }
        self.verdict = Verdict::from_text(&self.text, self.ledgers.len(), self.sessions);
        if self.verdict.is_none() {
            return self.fail("the responder's verdict cannot be read");
        }
        self.is_over = true;
        Heard::Nothing
    }

    fn fail(&mut self, sentence: &str) -> Heard {
        self.is_over = true;
        Heard::Failure(sentence.to_owned())
    }

    /// Verifies a reply to a request of the load: the responder sends back what it got. False if
    /// it is not what was sent.
    pub(crate) fn enter_reply(&mut self, message: &Message<'_>, seed: u64, now: u64) -> bool {
        let Some(named) = Named::read(message.payload, seed) else { return false };
        let front = named.front;
        let Some(ledger) = self.ledgers.get_mut(usize::from(front.kind)) else { return false };
        let (Some(copies), replies) = (&mut ledger.copies, &mut ledger.replies) else {
            return false;
        };
        if !named.is_whole(message.payload, seed, ledger.terms.holding) {
            return false;
        }
        let is_numbered = ledger.terms.is_numbered;
        let number = front.number.filter(|_| is_numbered).unwrap_or(message.transaction);
        if copies.record(number) != Arrival::New {
            replies.duplicates += 1;
            return true;
        }
        replies.count += 1;
        ledger.hashing.add(message.payload);
        if front.tag == Tag::Data
            && let Some(intended) = front.intended
        {
            replies.latency.record(intended, now, 1);
        }
        true
    }

    /// The verdict, if it came, and the replies of each kind.
    pub(crate) fn take(&mut self) -> (Option<Verdict>, Vec<Replies>) {
        let replies = self.ledgers.drain(..).map(|ledger| {
            let hash = ledger.hashing.value();
            Replies { hash, ..ledger.replies }
        });
        (self.verdict.take(), replies.collect())
    }
}

impl Open {
    /// Nothing more will come: both halves are here, or it ended without an answer.
    fn is_over(&self) -> bool {
        match self.outcome {
            None => false,
            Some(Outcome::Replied) => self.answer.is_some(),
            Some(_) => true,
        }
    }
}
