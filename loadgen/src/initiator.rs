//! The sending side of one session: opens it, offers its part of the load as planned, accounts
//! for every send, and fetches the verdict.
//!
//! A session is what two keys have with each other, so each session of a run is a node of its
//! own, with an identity, a socket and a thread. Its run is a line of steps, and each turn does a
//! bounded piece of the one it is in. All begin to send at the same instant: the one that sees
//! the last session become ready sets it. A session that is lost ends the run for all: a load
//! that shrinks unnoticed would measure something else than was asked for.

use std::io;
use std::sync::Arc;

use raet::time::{Duration, Instant};
use raet::{
    Context, Handler, Message, PathStatistics, PeerId, Resolved, SendError, Service, SessionChange,
};

use crate::causes;
use crate::control::{Begin, Question};
use crate::environment;
use crate::load::Load;
use crate::payload::Tag;
use crate::plan::{Pace, Schedule};
use crate::shared::{Phase, SessionResult, Shared};
use crate::source::Source;
use crate::talk::{Heard, Talk};
use crate::tally::Tally;

/// Messages offered in one turn at most: a turn has to end so that acknowledgements are read.
const OFFERS_PER_TURN: u32 = 4_096;
/// How long a session may take to open. Longer than a handshake may take, so that its own reason
/// is heard first.
const OPENING_MAX: Duration = Duration::from_secs(15);
/// How long a path may take to prove that it carries the largest message, if it is probed.
const PROOF_MAX: Duration = Duration::from_secs(3);
/// How long nothing may end before what is outstanding is given up.
const DRAIN_STALL_MAX: Duration = Duration::from_secs(30);
/// The same, once a session is lost or a signal came.
const DRAIN_LOST_MAX: Duration = Duration::from_secs(2);
/// How long the verdict may take.
const VERDICT_MAX: Duration = Duration::from_secs(20);
/// A turn at least this often while something outside the node is waited for.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);
/// Failures of one session that are told.
const FAILURES_MAX: usize = 2;

/// One session's initiator.
#[derive(Debug)]
pub(crate) struct Initiator {
    load: Arc<Load>,
    shared: Arc<Shared>,
    /// Which of the run's sessions this is.
    place: u32,
    peer: Option<PeerId>,
    step: Step,
    /// Why there is nothing to send, if the file failed.
    source: io::Result<Source>,
    /// Number of the next message.
    number: u64,
    tally: Tally,
    talk: Talk,
    /// The last time at which a message was accepted or ended.
    last_change: Instant,
    measured_from: Instant,
    skipped: u64,
    path: Option<PathStatistics>,
    failures: Vec<String>,
}

/// What the session is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// What had no end was given up: the engine tells what became of it.
    Abandoning { until: Instant },
    /// The handshake is under way; `is_pending` if the peer's operator has not decided yet.
    Connecting { is_pending: bool },
    /// All is over.
    Done,
    /// Nothing more is offered; what is outstanding ends.
    Draining,
    /// The verdict is asked for.
    Judging { until: Instant },
    /// Messages are offered.
    Loading(Loading),
    /// The responder is ready; the path has still to prove that it carries the largest message.
    Proving { until: Instant },
    /// Ready, and waiting for the other sessions.
    Ready,
    /// Messages that nobody acknowledges may still be under way.
    Settling { until: Instant },
}

/// The load that is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Loading {
    end: Instant,
    schedule: Option<Schedule>,
    /// Measured messages still to be offered.
    left: u64,
}

/// What became of one offer.
enum Offer {
    /// There is nothing more to send.
    Exhausted,
    /// The engine has no room.
    Full,
    /// The engine has it.
    Taken,
}

impl Initiator {
    /// The initiator of the session at `place`.
    pub(crate) fn new(load: Arc<Load>, shared: Arc<Shared>, place: u32) -> Self {
        let sessions = load.sessions;
        let source = Source::new(&load.content, load.seed, place.into(), sessions.into());
        let talk = Talk::new(load.service == Service::Request, sessions as usize);
        Self {
            load,
            shared,
            place,
            peer: None,
            step: Step::Connecting { is_pending: false },
            source,
            number: 0,
            tally: Tally::default(),
            talk,
            last_change: Instant::ZERO,
            measured_from: Instant::ZERO,
            skipped: 0,
            path: None,
            failures: Vec::new(),
        }
    }

    /// One turn's piece of the current step; returns the next.
    fn advance(&mut self, context: &mut Context<'_>) -> Step {
        let now = context.now();
        match self.step {
            Step::Connecting { .. } | Step::Proving { .. } | Step::Ready
                if self.shared.is_ending() =>
            {
                self.finish(context)
            }
            Step::Connecting { .. } if self.shared.is_late(now, OPENING_MAX) => {
                self.explain_late();
                self.step
            }
            Step::Proving { until } => self.prove(context, until),
            Step::Ready => match self.shared.start(now) {
                Some(start) => self.start_loading(start),
                None => Step::Ready,
            },
            Step::Loading(mut loading) => {
                let goes_on = self.offer_due(context, &mut loading);
                if now >= self.measured_from {
                    self.shared.enter(Phase::Measuring);
                }
                if goes_on {
                    return Step::Loading(loading);
                }
                self.path = self.peer.and_then(|peer| context.path(peer));
                self.shared.enter(Phase::Draining);
                Step::Draining
            }
            Step::Draining => {
                let patience =
                    if self.shared.is_ending() { DRAIN_LOST_MAX } else { DRAIN_STALL_MAX };
                let outstanding = self.tally.outstanding();
                if outstanding > 0 && now.saturating_since(self.last_change) > patience {
                    return self.abandon(context, patience);
                }
                if outstanding > 0 {
                    return Step::Draining;
                }
                Step::Settling { until: now + self.load.settle }
            }
            Step::Settling { until } if now >= until => {
                self.shared.enter(Phase::Judging);
                self.ask(context, &Question::Page(0));
                Step::Judging { until: now + VERDICT_MAX }
            }
            Step::Abandoning { until } if self.tally.outstanding() == 0 || now >= until => {
                self.finish(context)
            }
            Step::Judging { until } if self.talk.is_over() || now >= until => self.finish(context),
            Step::Abandoning { .. }
            | Step::Connecting { .. }
            | Step::Done
            | Step::Judging { .. }
            | Step::Settling { .. } => self.step,
        }
    }

    // ---- Opening ---------------------------------------------------------------------------

    fn begin(&mut self, context: &mut Context<'_>) {
        self.ask(
            context,
            &Question::Begin(Begin {
                seed: self.load.seed,
                lines: self.load.content.is_lines(),
                numbered: self.load.content.is_numbered(),
                sessions: self.load.sessions,
                boot: environment::boot(),
            }),
        );
    }

    fn ask(&mut self, context: &mut Context<'_>, question: &Question) {
        let Some(peer) = self.peer else { return };
        if let Err(error) = self.talk.ask(context, peer, question) {
            self.talk.give_up();
            self.fail(format!("cannot talk to the responder: {error}"));
        }
    }

    fn prove(&mut self, context: &mut Context<'_>, until: Instant) -> Step {
        let longest = self.load.content.longest() as u64;
        let service = self.load.service;
        let max = self.peer.and_then(|peer| context.message_len_max(peer, service).ok());
        match max {
            Some(max) if max < longest => {
                if context.now() >= until {
                    self.fail(self.load.content.too_long(max));
                }
                self.step
            }
            _ => {
                self.shared.add_ready();
                Step::Ready
            }
        }
    }

    fn explain_late(&mut self) {
        let address = self.load.address;
        let is_pending = self.step == (Step::Connecting { is_pending: true });
        self.fail(if is_pending { causes::pending(address) } else { causes::silent(address) });
    }

    // ---- Loading ---------------------------------------------------------------------------

    fn start_loading(&mut self, start: Instant) -> Step {
        let load = &self.load;
        let (place, sessions) = (u64::from(self.place), u64::from(load.sessions));
        let measured_from = start + load.warmup;
        let end = load.duration.map_or(Instant::from_nanos(u64::MAX), |time| measured_from + time);
        let schedule = match load.pace {
            Pace::PerSecond(rate) => Some(Schedule::new(start.as_nanos(), rate, place, sessions)),
            Pace::Closed(_) | Pace::Max => None,
        };
        let left = load.messages.map_or(u64::MAX, |messages| load.share(messages, self.place));
        self.measured_from = measured_from;
        self.last_change = measured_from;
        self.shared.enter(Phase::Loading);
        Step::Loading(Loading { end, schedule, left })
    }

    /// Offers what is due; false when the load is over.
    fn offer_due(&mut self, context: &mut Context<'_>, loading: &mut Loading) -> bool {
        let now = context.now();
        let accepted = self.tally.accepted();
        let goes_on = match loading.schedule {
            Some(_) => self.offer_scheduled(context, loading),
            None => self.offer_freely(context, loading),
        };
        if self.tally.accepted() > accepted {
            self.last_change = now.max(self.measured_from);
        }
        let is_sent = loading.left == 0;
        if goes_on && !is_sent && now < loading.end && !self.shared.is_ending() {
            return true;
        }
        if let Some(schedule) = &loading.schedule
            && !is_sent
        {
            self.skipped = schedule.due_before(now.min(loading.end).as_nanos());
        }
        false
    }

    fn offer_scheduled(&mut self, context: &mut Context<'_>, loading: &mut Loading) -> bool {
        let Some(mut schedule) = loading.schedule else { return false };
        let now = context.now();
        // What is due now, and before the end.
        let until = now.as_nanos().saturating_add(1).min(loading.end.as_nanos());
        let mut budget = OFFERS_PER_TURN;
        let mut goes_on = true;
        while budget > 0 && schedule.due() < until && loading.left > 0 {
            budget -= 1;
            match self.offer(context, loading, schedule.due()) {
                Offer::Exhausted => goes_on = false,
                Offer::Full => {}
                Offer::Taken => {
                    schedule.advance();
                    continue;
                }
            }
            break;
        }
        loading.schedule = Some(schedule);
        // What is due and had no room goes out when an acknowledgement has made some.
        if schedule.due() > now.as_nanos() {
            context.wake_at(Instant::from_nanos(schedule.due()));
        } else if budget == 0 {
            context.wake_at(now);
        }
        goes_on
    }

    fn offer_freely(&mut self, context: &mut Context<'_>, loading: &mut Loading) -> bool {
        let now = context.now();
        if now >= loading.end {
            return false;
        }
        let room = match self.load.pace {
            Pace::Closed(most) => u64::from(most).saturating_sub(self.tally.outstanding()),
            Pace::Max | Pace::PerSecond(_) => u64::MAX,
        };
        let mut budget = room.min(OFFERS_PER_TURN.into());
        while budget > 0 && loading.left > 0 {
            match self.offer(context, loading, now.as_nanos()) {
                Offer::Exhausted => return false,
                Offer::Full => return true,
                Offer::Taken => budget -= 1,
            }
        }
        if room > u64::from(OFFERS_PER_TURN) {
            context.wake_at(now);
        }
        true
    }

    #[inline]
    fn offer(&mut self, context: &mut Context<'_>, loading: &mut Loading, intended: u64) -> Offer {
        let (Ok(source), Some(peer)) = (&mut self.source, self.peer) else {
            return Offer::Exhausted;
        };
        let is_warmup = intended < self.measured_from.as_nanos();
        let tag = if is_warmup { Tag::Warmup } else { Tag::Data };
        let message = match source.message(tag, self.number, intended) {
            Ok(Some(message)) => message,
            Ok(None) => return Offer::Exhausted,
            Err(error) => {
                self.fail(format!("cannot read the file that is sent: {error}"));
                return Offer::Exhausted;
            }
        };
        match context.send(peer, self.load.service, message) {
            Ok(transaction) => {
                source.taken();
                self.number += 1;
                self.tally.sent(tag, transaction);
                loading.left -= u64::from(!is_warmup);
                Offer::Taken
            }
            Err(SendError::Full(_)) => Offer::Full,
            Err(error) => {
                self.fail(match error {
                    SendError::TooLarge { max } => self.load.content.too_long(max),
                    other => format!("sending failed: {other}"),
                });
                Offer::Exhausted
            }
        }
    }

    // ---- Ending ----------------------------------------------------------------------------

    fn fail(&mut self, sentence: String) {
        if self.failures.len() < FAILURES_MAX {
            self.failures.push(sentence);
        }
        self.shared.fail();
    }

    fn abandon(&mut self, context: &mut Context<'_>, patience: Duration) -> Step {
        let outstanding = self.tally.outstanding();
        self.fail(format!("{outstanding} messages had no end for {patience} and were given up"));
        self.talk.give_up();
        if let Some(peer) = self.peer {
            context.close(peer);
        }
        Step::Abandoning { until: context.now() + DRAIN_LOST_MAX }
    }

    fn finish(&mut self, context: &mut Context<'_>) -> Step {
        if let Err(error) = &self.source {
            self.failures.push(format!("cannot read the file that is sent: {error}"));
        }
        let (verdict, replies) = self.talk.take(self.load.sessions as usize);
        self.shared.put(SessionResult {
            warmup: self.tally.warmup,
            measured: self.tally.measured,
            verdict,
            replies,
            skipped: self.skipped,
            hash: self.source.as_ref().map(Source::hash).unwrap_or_default(),
            seconds: self.last_change.saturating_since(self.measured_from).as_secs_f64(),
            path: self.path,
            failures: std::mem::take(&mut self.failures),
        });
        if let Some(peer) = self.peer {
            context.close(peer);
        }
        context.stop();
        Step::Done
    }
}

impl Handler for Initiator {
    fn on_start(&mut self, context: &mut Context<'_>) {
        match context.connect(self.load.address, self.load.key) {
            Ok(peer) => self.peer = Some(peer),
            Err(error) => self.fail(format!("cannot connect: {error}")),
        }
    }

    fn on_message(&mut self, context: &mut Context<'_>, message: Message<'_>) {
        if message.is_reply && !self.talk.hear(&message) {
            let now = context.now().as_nanos();
            self.talk.enter_reply(&message, self.load.seed, &self.load.content, now);
        }
    }

    fn on_outcome(&mut self, context: &mut Context<'_>, _: PeerId, resolved: Resolved) {
        self.tally.resolved(&resolved, self.talk.pending());
        self.talk.note_outcome(&resolved);
        if matches!(self.step, Step::Loading(_) | Step::Draining) {
            self.last_change = context.now().max(self.measured_from);
        }
    }

    fn on_session(&mut self, context: &mut Context<'_>, _: PeerId, change: SessionChange) {
        match &change {
            SessionChange::Opened { .. } => self.begin(context),
            SessionChange::Pending { .. } => self.step = Step::Connecting { is_pending: true },
            SessionChange::Closed(_) | SessionChange::Refused(_) | SessionChange::TimedOut(_) => {
                self.talk.give_up();
            }
        }
        if self.step != Step::Done
            && let Some(sentence) = causes::of(&change, self.load.address)
        {
            self.fail(sentence);
        }
    }

    fn on_turn(&mut self, context: &mut Context<'_>) {
        if let Some(peer) = self.peer {
            match self.talk.go_on(context, peer, self.load.sessions as usize) {
                Heard::Failure(sentence) => self.fail(sentence),
                Heard::Nothing => {}
                Heard::Ready => {
                    let patience =
                        if self.load.is_path_probed { PROOF_MAX } else { Duration::ZERO };
                    self.step = Step::Proving { until: context.now() + patience };
                }
            }
        }
        self.step = self.advance(context);
        self.shared.gauge(self.place).tell(self.tally.accepted(), self.tally.ended());
        context.wake_at(context.now() + CHECK_INTERVAL);
    }
}
