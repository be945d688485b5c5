//! The sending side of one session: opens it, offers its part of the load as planned, accounts
//! for every send, and fetches the verdict.
//!
//! A session is what two keys have with each other, so each session of a run is a node of its
//! own, with an identity, a socket and a thread. Its run is a line of steps, and each turn does a
//! bounded piece of the one it is in. All begin to send at the same instant: the one that sees
//! the last session become ready sets it. A session that is lost ends the run for all: a load
//! that shrinks unnoticed would measure something else than was asked for.

use std::sync::Arc;

use raet::time::{Duration, Instant};
use raet::{Context, Handler, Message, PathStatistics, PeerId, Resolved, SessionChange};

use crate::causes;
use crate::control::{Begin, Question};
use crate::environment;
use crate::load::Load;
use crate::shared::{KindResult, Phase, SessionResult, Shared};
use crate::talk::{Heard, Talk};
use crate::tally::Tally;
use crate::work::{Offering, Work};

/// How long a session may take to open. Longer than a handshake may take, so that its own reason
/// is heard first.
const OPENING_MAX: Duration = Duration::from_secs(15);
/// How long a path may take to prove that it carries the largest message, if it is probed.
const PROOF_MAX: Duration = Duration::from_secs(3);
/// How long nothing may end before what is outstanding is given up, once a session is lost or a
/// signal came.
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
    /// Its part of each workload.
    works: Vec<Work>,
    tally: Tally,
    talk: Talk,
    /// The last time at which a message was accepted or ended.
    last_change: Instant,
    measured_from: Instant,
    /// Replies that are not what was sent.
    replies_corrupted: u64,
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
    Loading { end: Instant },
    /// The responder is ready; the path has still to prove that it carries the largest message.
    Proving { until: Instant },
    /// Ready, and waiting for the other sessions.
    Ready,
    /// Messages that nobody acknowledges may still be under way.
    Settling { until: Instant },
}

impl Initiator {
    /// The initiator of the session at `place`.
    pub(crate) fn new(load: Arc<Load>, shared: Arc<Shared>, place: u32) -> Self {
        let talk = Talk::new(&load.terms(), load.sessions as usize);
        let works = load.kinds().map(|kind| Work::new(&load, kind, place)).collect();
        let tally = Tally::new(load.workloads.len());
        Self {
            load,
            shared,
            place,
            peer: None,
            step: Step::Connecting { is_pending: false },
            works,
            tally,
            talk,
            last_change: Instant::ZERO,
            measured_from: Instant::ZERO,
            replies_corrupted: 0,
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
            Step::Loading { end } => {
                let goes_on = self.offer_due(context, end);
                if now >= self.measured_from {
                    self.shared.enter(Phase::Measuring);
                }
                if goes_on {
                    return self.step;
                }
                self.path = self.peer.and_then(|peer| context.path(peer));
                self.shared.enter(Phase::Draining);
                Step::Draining
            }
            Step::Draining => {
                let patience =
                    if self.shared.is_ending() { DRAIN_LOST_MAX } else { self.load.stall_max() };
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
                kinds: self.load.terms(),
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
        let Some(peer) = self.peer else { return self.step };
        let too_long = self.load.workloads.iter().find_map(|workload| {
            let max = context.message_len_max(peer, workload.options()).ok()?;
            let is_too_long = (workload.content.longest() as u64) > max;
            is_too_long.then(|| workload.content.too_long(max))
        });
        match too_long {
            Some(sentence) => {
                if context.now() >= until {
                    self.fail(sentence);
                }
                self.step
            }
            None => {
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
        let measured_from = start + load.warmup;
        let end = load.duration.map_or(Instant::from_nanos(u64::MAX), |time| measured_from + time);
        for work in &mut self.works {
            work.start(load, self.place, start);
        }
        self.measured_from = measured_from;
        self.last_change = measured_from;
        self.shared.enter(Phase::Loading);
        Step::Loading { end }
    }

    /// Offers what is due of every workload; false when the load is over.
    fn offer_due(&mut self, context: &mut Context<'_>, end: Instant) -> bool {
        let now = context.now();
        let Some(peer) = self.peer else { return false };
        let accepted = self.tally.accepted();
        let terms = Offering { peer, end, measured_from: self.measured_from };
        let mut goes_on = false;
        for work in &mut self.works {
            match work.offer_due(context, &mut self.tally, &terms) {
                Ok(has_more) => goes_on |= has_more,
                Err(sentence) => {
                    self.fail(sentence);
                    return false;
                }
            }
        }
        if self.tally.accepted() > accepted {
            self.last_change = now.max(self.measured_from);
        }
        if goes_on && now < end && !self.shared.is_ending() {
            return true;
        }
        for work in &mut self.works {
            work.end(now.min(end));
        }
        false
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
        let (verdict, replies) = self.talk.take();
        let kinds = self.works.iter().zip(replies).map(|(work, replies)| KindResult {
            warmup: self.tally.warmup(work.kind()),
            measured: self.tally.measured(work.kind()),
            replies,
            skipped: work.skipped(),
            hash: work.hash(),
        });
        self.shared.put(SessionResult {
            kinds: kinds.collect(),
            verdict,
            replies_corrupted: self.replies_corrupted,
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
            let is_whole = self.talk.enter_reply(&message, self.load.seed, now);
            self.replies_corrupted += u64::from(!is_whole);
        }
    }

    fn on_outcome(&mut self, context: &mut Context<'_>, _: PeerId, resolved: Resolved) {
        self.tally.resolved(&resolved);
        self.talk.note_outcome(&resolved);
        if matches!(self.step, Step::Loading { .. } | Step::Draining) {
            self.last_change = context.now().max(self.measured_from);
        }
    }

    fn on_session(&mut self, context: &mut Context<'_>, _: PeerId, change: SessionChange) {
        match &change {
            // Later ones renew the session, or go on after it was lost.
            SessionChange::Opened { .. } if matches!(self.step, Step::Connecting { .. }) => {
                self.begin(context);
            }
            SessionChange::Lost(_) | SessionChange::Moved { .. } | SessionChange::Opened { .. } => {
            }
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
            match self.talk.go_on(context, peer) {
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
