//! The two sides of each workload, and what both know: they are in one process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::clock::processor_seconds;
use crate::link::{Application, Next, Outbox};
use crate::payload;

/// Messages that a flood offers in one turn.
const OFFERED_MAX: usize = 4_096;
/// Messages of a flood that stay as they are, if they are long: enough to fill any window.
const SHARED_MESSAGES: u64 = 32;
/// From this length on a message is worth sharing.
const SHARED_LEN_MIN: usize = 64 << 10;
/// What was sent and did not come within this was lost.
const PATIENCE: Duration = Duration::from_secs(15);
/// The same where messages may be lost.
const PATIENCE_UNRELIABLE: Duration = Duration::from_millis(200);
/// Between two messages of a paced load.
const PACE: Duration = Duration::from_micros(100);
/// Requests outstanding at most: their places are the low bits of their numbers.
const OUTSTANDING_MAX: usize = 64;

/// What both sides see.
#[derive(Debug)]
pub(crate) struct Shared {
    origin: Instant,
    /// How long is measured.
    length: Duration,
    /// Whether every message has to come.
    is_reliable: bool,
    /// The receiver has what it wants; the sender stops to send.
    is_measured: AtomicBool,
    /// The sender's totals are final.
    is_sent: AtomicBool,
    sent: AtomicU64,
    sum_sent: AtomicU64,
    /// Both sides end.
    is_over: AtomicBool,
}

impl Shared {
    pub(crate) fn new(length: Duration, is_reliable: bool) -> Arc<Self> {
        Arc::new(Self {
            origin: Instant::now(),
            length,
            is_reliable,
            is_measured: AtomicBool::new(false),
            is_sent: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            sum_sent: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        })
    }

    /// Ends both sides: one of them failed.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Release);
    }

    /// Whether both sides end.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    fn next(&self) -> Next {
        if self.is_over() { Next::Stop } else { Next::Go }
    }
}

/// What a side found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    /// Messages, or exchanges, within the time that was measured.
    pub(crate) messages: u64,
    /// That time.
    pub(crate) seconds: f64,
    /// Processor time of the whole process within it.
    pub(crate) processor_seconds: f64,
    /// Latencies in nanoseconds; none if the workload has none.
    pub(crate) latencies: Vec<u64>,
    /// Messages that did not come, of all.
    pub(crate) lost: u64,
    /// What must not be.
    pub(crate) failure: Option<String>,
}

/// The time that is measured: after a warm-up of a fifth of it.
#[derive(Debug)]
struct Span {
    length: Duration,
    opened: Option<Instant>,
    began: Option<(Instant, u64, f64)>,
}

impl Span {
    fn new(length: Duration) -> Self {
        Self { length, opened: None, began: None }
    }

    fn has_begun(&self) -> bool {
        self.began.is_some()
    }

    /// The count stands at `count`. At the end: what was found.
    fn turn(&mut self, now: Instant, count: u64) -> Option<Findings> {
        let opened = *self.opened.get_or_insert(now);
        let Some((start, first, processor)) = self.began else {
            if now - opened >= self.length / 5 {
                self.began = Some((now, count, processor_seconds()));
            }
            return None;
        };
        let spent = now - start;
        (spent >= self.length).then(|| Findings {
            messages: count - first,
            seconds: spent.as_secs_f64(),
            processor_seconds: processor_seconds() - processor,
            ..Findings::default()
        })
    }
}

/// Sends as much as goes, or 10 000 messages a second.
pub(crate) struct Sender {
    shared: Arc<Shared>,
    message: Vec<u8>,
    /// Long messages are these in turn.
    kept: Vec<Arc<[u8]>>,
    is_paced: bool,
    /// When the next paced one is due.
    due: Duration,
    sent: u64,
    sum: u64,
}

impl Sender {
    pub(crate) fn new(shared: &Arc<Shared>, size: usize, is_paced: bool) -> Self {
        let mut message = payload::blank(size);
        let kept = if size < SHARED_LEN_MIN { 0 } else { SHARED_MESSAGES };
        let keep = |number| {
            payload::stamp(&mut message, number);
            message.as_slice().into()
        };
        let kept = (0..kept).map(keep).collect();
        Self {
            shared: Arc::clone(shared),
            message,
            kept,
            is_paced,
            due: Duration::ZERO,
            sent: 0,
            sum: 0,
        }
    }

    fn send(&mut self, number: u64, outbox: &mut impl Outbox) -> bool {
        payload::stamp(&mut self.message, number);
        let is_taken = outbox.send(&self.message);
        self.note(number, is_taken)
    }

    fn note(&mut self, number: u64, is_taken: bool) -> bool {
        if is_taken {
            self.sent += 1;
            self.sum = self.sum.wrapping_add(payload::mix(number));
        }
        is_taken
    }
}

impl Application for Sender {
    fn on_open(&mut self) {
        self.due = self.shared.origin.elapsed();
    }

    fn offer(&mut self, outbox: &mut impl Outbox) {
        if self.shared.is_measured.load(Ordering::Acquire) {
            if !self.shared.is_sent.load(Ordering::Relaxed) {
                self.shared.sent.store(self.sent, Ordering::Relaxed);
                self.shared.sum_sent.store(self.sum, Ordering::Relaxed);
                self.shared.is_sent.store(true, Ordering::Release);
            }
            return;
        }
        if self.is_paced {
            let now = self.shared.origin.elapsed();
            while self.due <= now && self.send(nanoseconds(self.due), outbox) {
                self.due += PACE;
            }
            return;
        }
        for _ in 0..OFFERED_MAX {
            let is_taken = if self.kept.is_empty() {
                self.send(self.sent, outbox)
            } else {
                let number = self.sent % SHARED_MESSAGES;
                let at = usize::try_from(number).expect("below a constant");
                let is_taken = outbox.send_shared(&self.kept[at]);
                self.note(number, is_taken)
            };
            if !is_taken {
                return;
            }
        }
    }

    fn take(&mut self, _: &[u8], _: &mut impl Outbox) {}

    fn next(&mut self) -> Next {
        self.shared.next()
    }
}

/// Counts and checks what comes, and says when it is enough.
pub(crate) struct Receiver {
    shared: Arc<Shared>,
    size: usize,
    span: Span,
    /// Whether numbers are the times at which messages were due.
    is_paced: bool,
    count: u64,
    sum: u64,
    wrong: u64,
    latencies: Vec<u64>,
    findings: Option<Findings>,
    /// When something came last.
    latest: Option<(Instant, u64)>,
}

impl Receiver {
    pub(crate) fn new(shared: &Arc<Shared>, size: usize, is_paced: bool) -> Self {
        Self {
            shared: Arc::clone(shared),
            size,
            span: Span::new(shared.length),
            is_paced,
            count: 0,
            sum: 0,
            wrong: 0,
            latencies: Vec::new(),
            findings: None,
            latest: None,
        }
    }

    pub(crate) fn findings(self) -> Findings {
        self.findings.unwrap_or_else(|| Findings {
            failure: Some(format!("it ended after {} messages, before its time", self.count)),
            ..Findings::default()
        })
    }

    /// Whether all that was sent has come, or will not any more.
    fn end(&mut self, now: Instant) {
        let shared = &self.shared;
        let (latest, count) = *self.latest.get_or_insert((now, self.count));
        if count != self.count {
            self.latest = Some((now, self.count));
        }
        if !shared.is_sent.load(Ordering::Acquire) {
            return;
        }
        let sent = shared.sent.load(Ordering::Relaxed);
        let patience = if shared.is_reliable { PATIENCE } else { PATIENCE_UNRELIABLE };
        if self.count < sent && now - latest < patience {
            return;
        }
        let sum = shared.sum_sent.load(Ordering::Relaxed);
        let findings = self.findings.as_mut().expect("it is measured before it ends");
        findings.lost = sent.saturating_sub(self.count);
        findings.failure = if self.wrong > 0 {
            Some(format!("{} messages were not what was sent", self.wrong))
        } else if self.count > sent {
            Some(format!("{} messages came of {sent} sent", self.count))
        } else if shared.is_reliable && self.count < sent {
            Some(format!("{} of {sent} messages did not come", findings.lost))
        } else if self.count == sent && self.sum != sum {
            Some("some messages came twice and others not at all".to_owned())
        } else {
            None
        };
        shared.end();
    }
}

impl Application for Receiver {
    fn offer(&mut self, _: &mut impl Outbox) {}

    fn take(&mut self, message: &[u8], _: &mut impl Outbox) {
        let Some(number) = payload::read(message, self.size) else {
            self.wrong += 1;
            return;
        };
        self.count += 1;
        self.sum = self.sum.wrapping_add(payload::mix(number));
        if self.is_paced && self.span.has_begun() && self.findings.is_none() {
            let now = nanoseconds(self.shared.origin.elapsed());
            self.latencies.push(now.saturating_sub(number));
        }
    }

    fn next(&mut self) -> Next {
        if self.count == 0 {
            return self.shared.next();
        }
        let now = Instant::now();
        if self.findings.is_some() {
            self.end(now);
        } else if let Some(findings) = self.span.turn(now, self.count) {
            let latencies = std::mem::take(&mut self.latencies);
            self.findings = Some(Findings { latencies, ..findings });
            self.shared.is_measured.store(true, Ordering::Release);
        }
        self.shared.next()
    }
}

/// Asks, some requests at a time; or one a connection, with a fresh connection for each.
pub(crate) struct Asker {
    shared: Arc<Shared>,
    message: Vec<u8>,
    is_fresh_each: bool,
    /// Places of requests that are not outstanding.
    free: Vec<usize>,
    outstanding: usize,
    /// When the request of each place was sent, or its connection begun.
    sent_at: [Instant; OUTSTANDING_MAX],
    asked: u64,
    wrong: u64,
    count: u64,
    span: Span,
    latencies: Vec<u64>,
    findings: Option<Findings>,
    next: Next,
}

impl Asker {
    /// `outstanding` is at most [`OUTSTANDING_MAX`].
    pub(crate) fn new(
        shared: &Arc<Shared>,
        size: usize,
        outstanding: usize,
        is_fresh_each: bool,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            message: payload::blank(size),
            is_fresh_each,
            free: (0..outstanding).collect(),
            outstanding,
            sent_at: [Instant::now(); OUTSTANDING_MAX],
            asked: 0,
            wrong: 0,
            count: 0,
            span: Span::new(shared.length),
            latencies: Vec::with_capacity(1 << 22),
            findings: None,
            next: Next::Go,
        }
    }

    pub(crate) fn findings(self) -> Findings {
        let mut findings = self.findings.unwrap_or_else(|| Findings {
            failure: Some(format!("it ended after {} exchanges, before its time", self.count)),
            ..Findings::default()
        });
        if self.wrong > 0 {
            findings.failure = Some(format!("{} replies were not what was asked", self.wrong));
        }
        findings
    }
}

impl Application for Asker {
    fn offer(&mut self, outbox: &mut impl Outbox) {
        if self.findings.is_some() || self.next != Next::Go {
            return;
        }
        while let Some(&place) = self.free.last() {
            if !self.is_fresh_each {
                self.sent_at[place] = Instant::now();
            }
            let number = self.asked * OUTSTANDING_MAX as u64 + place as u64;
            payload::stamp(&mut self.message, number);
            if !outbox.send(&self.message) {
                return;
            }
            self.free.pop();
            self.asked += 1;
        }
    }

    fn take(&mut self, message: &[u8], outbox: &mut impl Outbox) {
        let number = payload::read(message, self.message.len());
        let place = number.map_or(OUTSTANDING_MAX, |number| {
            usize::try_from(number % OUTSTANDING_MAX as u64).expect("below a constant")
        });
        if place >= self.outstanding || self.free.contains(&place) {
            self.wrong += 1;
            return;
        }
        let now = Instant::now();
        self.free.push(place);
        self.count += 1;
        if self.span.has_begun() {
            let taken = now - self.sent_at[place];
            self.latencies.push(nanoseconds(taken));
        }
        if self.findings.is_none()
            && let Some(findings) = self.span.turn(now, self.count)
        {
            let latencies = std::mem::take(&mut self.latencies);
            self.findings = Some(Findings { latencies, ..findings });
        }
        if self.is_fresh_each && self.findings.is_none() {
            self.next = Next::Reconnect;
            // The next connection begins now.
            self.sent_at[place] = now;
        } else {
            self.offer(outbox);
        }
    }

    fn next(&mut self) -> Next {
        if self.findings.is_some() && self.free.len() == self.outstanding {
            self.shared.end();
        }
        match self.shared.next() {
            Next::Go => std::mem::replace(&mut self.next, Next::Go),
            ended => ended,
        }
    }
}

/// Sends each message back.
pub(crate) struct Answerer {
    shared: Arc<Shared>,
    size: usize,
    wrong: u64,
}

impl Answerer {
    pub(crate) fn new(shared: &Arc<Shared>, size: usize) -> Self {
        Self { shared: Arc::clone(shared), size, wrong: 0 }
    }

    /// What must not be, if it was.
    pub(crate) fn failure(&self) -> Option<String> {
        (self.wrong > 0).then(|| format!("{} requests were wrong or had no room", self.wrong))
    }
}

impl Application for Answerer {
    fn offer(&mut self, _: &mut impl Outbox) {}

    // At most 64 small replies are outstanding: there is room for them in any outbox.
    fn take(&mut self, message: &[u8], outbox: &mut impl Outbox) {
        let is_answered = payload::read(message, self.size).is_some() && outbox.send(message);
        self.wrong += u64::from(!is_answered);
    }

    fn next(&mut self) -> Next {
        self.shared.next()
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).expect("a run is shorter than 500 years")
}
