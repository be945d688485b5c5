//! One session's part of a workload at the sending side: offers each message when it is due.

use std::io;

use raet::time::Instant;
use raet::{Burst, Context, PeerId, SendError, SendOptions};

use crate::check::ContentHash;
use crate::load::Load;
use crate::payload::{Series, Tag};
use crate::plan::{Pace, Schedule};
use crate::source::{Next, Source};
use crate::tally::Tally;
use crate::workload::{Streams, Workload};

/// Messages of a workload offered in one turn at most: a turn has to end so that
/// acknowledgements are read.
const OFFERS_PER_TURN: u32 = 4_096;
/// Bytes offered in one turn, unless one message has more: what is sent in the turn in which it was
/// written is still in the core's own cache.
const OFFERED_LEN_PER_TURN: usize = 1 << 18;
/// As how many bytes of those a message counts at least that shares no packet: what the engine keeps
/// beside it until its outcome is known.
const OFFERED_ALONE_LEN: usize = 512;

/// A workload of one session.
#[derive(Debug)]
pub(crate) struct Work {
    kind: u8,
    workload: Workload,
    options: SendOptions,
    streams: Option<Streams>,
    /// Why there is nothing to send, if the file failed.
    source: io::Result<Source>,
    /// When messages are due, at a fixed rate.
    schedule: Option<Schedule>,
    /// As how many bytes of a turn's a message counts at least.
    least_len: usize,
    /// Measured messages still to be offered.
    left: u64,
    skipped: u64,
}

/// What holds for all offers of a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offering {
    /// To whom.
    pub(crate) peer: PeerId,
    /// When the load ends.
    pub(crate) end: Instant,
    /// When the warm-up ends.
    pub(crate) measured_from: Instant,
}

impl Offering {
    /// What a message is for that is meant to be sent at `intended`.
    fn tag(&self, intended: u64) -> Tag {
        if intended < self.measured_from.as_nanos() { Tag::Warmup } else { Tag::Data }
    }
}

/// Why a turn offers nothing more.
enum Ended {
    /// There is nothing more to send.
    Exhausted,
    /// The engine has no room, or a message is being prepared.
    Early,
    /// It offered so many, as many as it may.
    Turn(u64),
}

/// What became of one offer.
enum Offer {
    /// There is nothing more to send.
    Exhausted,
    /// The engine has no room.
    Full,
    /// The message is being prepared.
    Later,
    /// The engine has it; so many bytes.
    Taken(usize),
}

impl Work {
    /// The workload `kind` of the session at `place`.
    pub(crate) fn new(load: &Load, kind: u8, place: u32) -> Self {
        let workload = load.workloads[usize::from(kind)].clone();
        let (place, sessions) = (place.into(), load.sessions.into());
        let source = Source::new(&workload.content, load.seed, kind, place, sessions);
        Self {
            kind,
            options: workload.options(),
            streams: workload.streams(),
            source: match load.workloads.len() {
                1 => source.map(Source::alone),
                _ => source,
            },
            workload,
            least_len: if load.is_bundled { 1 } else { OFFERED_ALONE_LEN },
            schedule: None,
            left: 0,
            skipped: 0,
        }
    }

    /// The load starts.
    pub(crate) fn start(&mut self, load: &Load, place: u32, start: Instant) {
        let sessions = u64::from(load.sessions);
        self.schedule = match self.workload.pace {
            Pace::PerSecond(rate) => {
                Some(Schedule::new(start.as_nanos(), rate, place.into(), sessions))
            }
            Pace::Closed(_) | Pace::Max => None,
        };
        self.left = self.workload.messages.map_or(u64::MAX, |all| load.share(all, place));
    }

    /// Offers what is due; false when there is nothing more to offer.
    ///
    /// # Errors
    /// Why the load cannot go on.
    pub(crate) fn offer_due(
        &mut self,
        context: &mut Context<'_>,
        tally: &mut Tally,
        terms: &Offering,
    ) -> Result<bool, String> {
        let now = context.now();
        if self.left == 0 || now >= terms.end && self.schedule.is_none() {
            return Ok(false);
        }
        let goes_on = match self.schedule {
            Some(schedule) => self.offer_scheduled(context, tally, terms, schedule)?,
            None => self.offer_freely(context, tally, terms)?,
        };
        // What is long is prepared while the one before is on its way.
        let is_prepared = self.source().and_then(|source| source.prepare().map_err(unreadable))?;
        if !is_prepared {
            context.wake_at(now);
        }
        Ok(goes_on && self.left > 0)
    }

    fn offer_scheduled(
        &mut self,
        context: &mut Context<'_>,
        tally: &mut Tally,
        terms: &Offering,
        mut schedule: Schedule,
    ) -> Result<bool, String> {
        let now = context.now();
        // What is due now, and before the end.
        let until = now.as_nanos().saturating_add(1).min(terms.end.as_nanos());
        let (mut budget, mut len_budget) = (OFFERS_PER_TURN, OFFERED_LEN_PER_TURN);
        let goes_on = context.burst(terms.peer, self.options, |burst| {
            while budget > 0 && len_budget > 0 && schedule.due() < until && self.left > 0 {
                budget -= 1;
                match self.offer(burst, tally, terms, schedule.due())? {
                    Offer::Exhausted => return Ok(false),
                    Offer::Full | Offer::Later => break,
                    Offer::Taken(len) => {
                        len_budget = len_budget.saturating_sub(len.max(self.least_len));
                        schedule.advance();
                    }
                }
            }
            Ok::<_, String>(true)
        })?;
        self.schedule = Some(schedule);
        // What is due and had no room goes out when an acknowledgement has made some.
        if schedule.due() > now.as_nanos() {
            context.wake_at(Instant::from_nanos(schedule.due()));
        } else if budget == 0 || len_budget == 0 {
            context.wake_at(now);
        }
        Ok(goes_on)
    }

    fn offer_freely(
        &mut self,
        context: &mut Context<'_>,
        tally: &mut Tally,
        terms: &Offering,
    ) -> Result<bool, String> {
        let now = context.now();
        let room = match self.workload.pace {
            Pace::Closed(most) => u64::from(most).saturating_sub(tally.outstanding_of(self.kind)),
            Pace::Max | Pace::PerSecond(_) => u64::MAX,
        };
        let (now, most) = (now.as_nanos(), room.min(OFFERS_PER_TURN.into()));
        let tag = terms.tag(now);
        let ended =
            context.burst(terms.peer, self.options, |burst| match self.series(tag, now)? {
                Some(series) => self.offer_series(burst, tally, tag, &series, most),
                None => self.offer_each(burst, tally, terms, now, most),
            })?;
        if let Ended::Turn(offered) = ended
            && offered < room
        {
            context.wake_at(context.now());
        }
        Ok(!matches!(ended, Ended::Exhausted))
    }

    /// Offers up to `most` messages, each meant to be sent at `intended`.
    fn offer_each(
        &mut self,
        burst: &mut Burst<'_>,
        tally: &mut Tally,
        terms: &Offering,
        intended: u64,
        most: u64,
    ) -> Result<Ended, String> {
        let (mut offered, mut len_budget) = (0, OFFERED_LEN_PER_TURN);
        while offered < most && len_budget > 0 && self.left > 0 {
            match self.offer(burst, tally, terms, intended)? {
                Offer::Exhausted => return Ok(Ended::Exhausted),
                Offer::Full | Offer::Later => return Ok(Ended::Early),
                Offer::Taken(len) => {
                    offered += 1;
                    len_budget = len_budget.saturating_sub(len.max(self.least_len));
                }
            }
        }
        Ok(Ended::Turn(offered))
    }

    /// The messages from the next on, if they differ in nothing but their numbers.
    fn series(&mut self, tag: Tag, intended: u64) -> Result<Option<Series>, String> {
        let has_streams = self.streams.is_some();
        Ok(self.source()?.series(tag, intended).filter(|_| !has_streams))
    }

    /// Offers up to `most` messages of a series: all but their bytes is worked out for all of them.
    fn offer_series(
        &mut self,
        burst: &mut Burst<'_>,
        tally: &mut Tally,
        tag: Tag,
        series: &Series,
        most: u64,
    ) -> Result<Ended, String> {
        let left = if tag == Tag::Data { self.left } else { u64::MAX };
        let len = series.len().max(self.least_len);
        let most = most.min(OFFERED_LEN_PER_TURN.div_ceil(len) as u64).min(left);
        let number = self.source()?.number();
        let write = |at, place: &mut [u8]| series.write(place, number + at);
        let (transactions, sent) = burst.send_row(most, series.len(), write);
        let offered = transactions.end - transactions.start;
        self.source()?.taken_of_series(offered);
        tally.sent_in_a_row(self.kind, tag, transactions);
        self.left -= if tag == Tag::Data { offered } else { 0 };
        match sent {
            Ok(()) => Ok(Ended::Turn(offered)),
            Err(error) => self.not_taken(error).map(|_| Ended::Early),
        }
    }

    #[inline]
    fn offer(
        &mut self,
        burst: &mut Burst<'_>,
        tally: &mut Tally,
        terms: &Offering,
        intended: u64,
    ) -> Result<Offer, String> {
        let tag = terms.tag(intended);
        let source = self.source.as_mut().map_err(|error| unreadable_because(error))?;
        if let Some(streams) = self.streams {
            let (index, _) = streams.place_of(source.number());
            self.options.stream = streams.at(index);
            burst.set_options(self.options);
        }
        // Most are short ones: of each nothing goes through memory but its bytes.
        let (len, sent) = if let Some(short) = source.short(tag, intended) {
            (short.len, burst.send_with(short.len, |place| short.write(place)))
        } else {
            match source.next(tag, intended).map_err(unreadable)? {
                Next::End => return Ok(Offer::Exhausted),
                Next::Later => return Ok(Offer::Later),
                Next::Message(message) => (message.len(), burst.send(message)),
            }
        };
        match sent {
            Ok(transaction) => {
                source.taken();
                tally.sent(self.kind, tag, transaction);
                self.left -= u64::from(tag == Tag::Data);
                Ok(Offer::Taken(len))
            }
            Err(error) => self.not_taken(error),
        }
    }

    #[cold]
    fn not_taken(&self, error: SendError) -> Result<Offer, String> {
        match error {
            SendError::Full(_) => Ok(Offer::Full),
            SendError::TooLarge { max } => Err(self.workload.content.too_long(max)),
            error => Err(format!("sending failed: {error}")),
        }
    }

    /// The load is over: what was due before `end` and is still ahead was skipped.
    pub(crate) fn end(&mut self, end: Instant) {
        if let Some(schedule) = &self.schedule
            && self.left > 0
        {
            self.skipped = schedule.due_before(end.as_nanos());
        }
    }

    fn source(&mut self) -> Result<&mut Source, String> {
        self.source.as_mut().map_err(|error| unreadable_because(error))
    }

    /// Which workload it is.
    pub(crate) const fn kind(&self) -> u8 {
        self.kind
    }

    /// What was due and never offered.
    pub(crate) const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Hash of all content sent, if it was a file's.
    pub(crate) fn hash(&self) -> ContentHash {
        self.source.as_ref().map(Source::hash).unwrap_or_default()
    }
}

fn unreadable(error: io::Error) -> String {
    unreadable_because(&error)
}

fn unreadable_because(error: &io::Error) -> String {
    format!("cannot read the file that is sent: {error}")
}
