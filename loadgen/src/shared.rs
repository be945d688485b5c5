//! What the sessions' threads and the one that watches them know together. Nothing in it is
//! written more than once a turn.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use raet::PathStatistics;
use raet::time::{Duration, Instant};

use crate::check::ContentHash;
use crate::progress::Gauge;
use crate::report::Offered;
use crate::talk::Replies;
use crate::verdict::Verdict;

/// From the last session becoming ready to the first message: all have seen it by then.
const START_DELAY: Duration = Duration::from_millis(20);

/// How far a run is; it only goes on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Sessions are being opened.
    Opening,
    /// The warm-up.
    Loading,
    /// Messages are sent and measured.
    Measuring,
    /// What is outstanding is waited for.
    Draining,
    /// The responder is asked what it got.
    Judging,
}

impl Phase {
    const ALL: [(Self, &str); 5] = [
        (Self::Opening, "opening"),
        (Self::Loading, "warm-up"),
        (Self::Measuring, "measuring"),
        (Self::Draining, "draining"),
        (Self::Judging, "judging"),
    ];
}

/// The common state of a run.
#[derive(Debug)]
pub(crate) struct Shared {
    sessions: u32,
    kinds: usize,
    ready: AtomicU32,
    /// Nanoseconds of the first turn of any session, 0 before it.
    opened: AtomicU64,
    /// Nanoseconds of the start, 0 before it is set.
    start: AtomicU64,
    stop: AtomicBool,
    failed: AtomicBool,
    phase: AtomicU8,
    gauges: Vec<Gauge>,
    results: Mutex<Vec<SessionResult>>,
}

impl Shared {
    /// For so many sessions and kinds of messages.
    pub(crate) fn new(sessions: u32, kinds: usize) -> Self {
        Self {
            sessions,
            kinds,
            ready: AtomicU32::new(0),
            opened: AtomicU64::new(0),
            start: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            phase: AtomicU8::new(0),
            gauges: (0..sessions).map(|_| Gauge::default()).collect(),
            results: Mutex::new(Vec::new()),
        }
    }

    /// Asks the sessions to end early.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Something is wrong: nobody sends any more.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Whether nobody should send any more.
    pub(crate) fn is_ending(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.failed.load(Ordering::Relaxed)
    }

    /// Whether more than `patience` has passed since the first session asked.
    pub(crate) fn is_late(&self, now: Instant, patience: Duration) -> bool {
        let opened = set_once(&self.opened, now.as_nanos());
        now.saturating_since(Instant::from_nanos(opened)) > patience
    }

    /// One more session is ready.
    pub(crate) fn add_ready(&self) {
        self.ready.fetch_add(1, Ordering::AcqRel);
    }

    /// When all begin, once all sessions are ready and that time has come.
    pub(crate) fn start(&self, now: Instant) -> Option<Instant> {
        if self.ready.load(Ordering::Acquire) < self.sessions {
            return None;
        }
        let start = set_once(&self.start, (now + START_DELAY).as_nanos());
        (now.as_nanos() >= start).then_some(Instant::from_nanos(start))
    }

    /// The run has come to `phase`.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::Relaxed);
    }

    /// What the run is doing, for people.
    pub(crate) fn phase_name(&self) -> &'static str {
        let phase = self.phase.load(Ordering::Relaxed);
        Phase::ALL.iter().find(|(known, _)| *known as u8 == phase).map_or("", |(_, name)| name)
    }

    /// The gauge of the session at `place`.
    pub(crate) fn gauge(&self, place: u32) -> &Gauge {
        &self.gauges[place as usize]
    }

    /// All sessions' gauges.
    pub(crate) fn gauges(&self) -> &[Gauge] {
        &self.gauges
    }

    /// A session is done.
    pub(crate) fn put(&self, result: SessionResult) {
        self.results.lock().expect("a panic aborts the process").push(result);
    }

    /// The sum of what the sessions found, and how many of them did.
    pub(crate) fn take(&self) -> (SessionResult, usize) {
        let mut results = self.results.lock().expect("a panic aborts the process");
        let count = results.len();
        let sessions = self.sessions as usize;
        let mut sum = SessionResult::new(self.kinds, sessions);
        sum.verdict = (count > 0).then(|| Verdict::new(self.kinds, sessions, true));
        for mut result in results.drain(..) {
            sum.add(&mut result);
        }
        (sum, count)
    }
}

/// The value that `cell` has had since it was first set; sets it if this is the first time.
fn set_once(cell: &AtomicU64, value: u64) -> u64 {
    let value = value.max(1);
    cell.compare_exchange(0, value, Ordering::AcqRel, Ordering::Acquire)
        .map_or_else(|set| set, |_| value)
}

/// What a session's initiator found.
#[derive(Debug)]
pub(crate) struct SessionResult {
    /// What it sent of each kind.
    pub(crate) kinds: Vec<KindResult>,
    /// The responder's verdict; `None` if it did not come.
    pub(crate) verdict: Option<Verdict>,
    /// Replies that are not what the responder was sent.
    pub(crate) replies_corrupted: u64,
    /// From the first measured message to the end of the last.
    pub(crate) seconds: f64,
    /// Where the path stood when the load ended; of the first session that tells, in a sum.
    pub(crate) path: Option<PathStatistics>,
    /// What went wrong.
    pub(crate) failures: Vec<String>,
}

/// What a session's initiator found about one kind of messages.
#[derive(Debug)]
pub(crate) struct KindResult {
    /// What it sent in the warm-up.
    pub(crate) warmup: Offered,
    /// What it sent after.
    pub(crate) measured: Offered,
    /// The replies it got.
    pub(crate) replies: Replies,
    /// What was due and never offered.
    pub(crate) skipped: u64,
    /// Hash of all content sent, if it was a file's.
    pub(crate) hash: ContentHash,
}

impl KindResult {
    fn new(sessions: usize) -> Self {
        Self {
            warmup: Offered::default(),
            measured: Offered::default(),
            replies: Replies::new(sessions),
            skipped: 0,
            hash: ContentHash::default(),
        }
    }

    fn add(&mut self, other: &mut Self) {
        self.warmup.add(&other.warmup);
        self.measured.add(&other.measured);
        self.replies.add(&mut other.replies);
        self.skipped += other.skipped;
        self.hash.merge(&other.hash);
    }
}

impl SessionResult {
    /// Nothing, of so many kinds, in a run of so many sessions.
    pub(crate) fn new(kinds: usize, sessions: usize) -> Self {
        Self {
            kinds: (0..kinds).map(|_| KindResult::new(sessions)).collect(),
            verdict: None,
            replies_corrupted: 0,
            seconds: 0.0,
            path: None,
            failures: Vec::new(),
        }
    }

    fn add(&mut self, other: &mut Self) {
        for (mine, theirs) in self.kinds.iter_mut().zip(&mut other.kinds) {
            mine.add(theirs);
        }
        match (&mut self.verdict, &mut other.verdict) {
            (Some(mine), Some(theirs)) => mine.add(theirs),
            _ => self.verdict = None,
        }
        self.replies_corrupted += other.replies_corrupted;
        self.seconds = self.seconds.max(other.seconds);
        self.path = self.path.or(other.path);
        for failure in other.failures.drain(..) {
            if !self.failures.contains(&failure) {
                self.failures.push(failure);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_starts_before_the_last_session_is_ready_and_all_start_at_one_time() {
        let shared = Shared::new(2, 1);
        let now = Instant::from_nanos(1_000);
        assert_eq!(shared.start(now), None);
        shared.add_ready();
        assert_eq!(shared.start(now), None);
        shared.add_ready();
        assert_eq!(shared.start(now), None, "the time has not come");
        let later = now + START_DELAY;
        assert_eq!(shared.start(later), Some(later));
        assert_eq!(shared.start(later + START_DELAY), Some(later));
    }

    #[test]
    fn phases_only_go_on() {
        let shared = Shared::new(1, 1);
        assert_eq!(shared.phase_name(), "opening");
        shared.enter(Phase::Draining);
        shared.enter(Phase::Measuring);
        assert_eq!(shared.phase_name(), "draining");
    }

    #[test]
    fn one_missing_verdict_makes_the_sum_missing() {
        let shared = Shared::new(2, 1);
        let mut whole = SessionResult::new(1, 2);
        whole.verdict = Some(Verdict::new(1, 2, true));
        shared.put(whole);
        shared.put(SessionResult::new(1, 2));
        let (sum, count) = shared.take();
        assert_eq!(count, 2);
        assert!(sum.verdict.is_none());
    }
}
