//! Finds the datagram length that a path carries (RFC 8899, datagram packetization layer).
//!
//! Every path is assumed to carry 1200 bytes. From there we send single larger datagrams that
//! carry nothing needed, and believe only their acknowledgement. The lengths worth asking for are
//! few: what is left of Ethernet under tunnels, of plain Ethernet, of jumbo frames, and what
//! loopback takes. A lost probe says that a length does not pass, never that the path is full.
//!
//! The other direction needs care: a path that stops carrying large datagrams (a black hole)
//! looks like loss. It is taken for one only after three separate bursts of large packets were
//! lost in a row while smaller ones came through, never by loss alone.

use crate::limits::{DATAGRAM_LEN_BASE, DATAGRAM_LEN_MAX, MTU_PROBES_MAX};
use crate::time::{Duration, Instant};

/// UDP payload lengths worth asking for: tunnelled and plain Ethernet, jumbo frames, loopback.
const LENGTHS: [usize; 4] = [1452, 1472, 8972, DATAGRAM_LEN_MAX];
/// After a search that failed, how long until the next (RFC 8899 5.1.1, PMTU_RAISE_TIMER).
const RAISE_INTERVAL: Duration = Duration::from_secs(600);
/// After a black hole, how long until the next search.
const BLACK_HOLE_PAUSE: Duration = Duration::from_secs(60);
/// Bursts of large packets lost in a row that make a black hole.
const BLACK_HOLE_BURSTS: u8 = 3;

/// How long a session's datagrams are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DatagramLen {
    /// Always this many UDP payload bytes: an operator knows the path.
    Fixed(usize),
    /// Start with [`DATAGRAM_LEN_BASE`] and probe upwards to at most `max` UDP payload bytes.
    Probed {
        /// The largest length to ask for, at most [`DATAGRAM_LEN_MAX`].
        max: usize,
    },
}

/// The search for the largest datagram of one path.
#[derive(Debug)]
pub struct MtuProbe {
    /// An operator's word stands against any suspicion.
    fixed: bool,
    current: usize,
    max: usize,
    /// The probe that nobody has settled yet.
    outstanding: Option<usize>,
    /// Probes of the present length so far.
    tries: u8,
    not_before: Instant,
    suspicion: Suspicion,
}

/// What speaks for a black hole.
#[derive(Debug, Default)]
struct Suspicion {
    /// Bursts of large packets lost, with no packet as large acknowledged in between.
    bursts: u8,
    /// The smallest of the large packets lost.
    smallest_lost: usize,
    /// Whether a smaller packet came through meanwhile.
    smaller_passed: bool,
    /// When the last burst was noticed: packets sent before belong to it.
    noticed: Instant,
}

impl MtuProbe {
    /// A search that has not begun; a fixed length leaves nothing to search. Lengths outside
    /// [`DATAGRAM_LEN_BASE`]..=[`DATAGRAM_LEN_MAX`] are moved to the nearer end.
    pub fn new(config: DatagramLen) -> Self {
        let (current, max) = match config {
            DatagramLen::Fixed(len) => (len, len),
            DatagramLen::Probed { max } => (DATAGRAM_LEN_BASE, max),
        };
        Self {
            fixed: matches!(config, DatagramLen::Fixed(_)),
            current: current.clamp(DATAGRAM_LEN_BASE, DATAGRAM_LEN_MAX),
            max: max.clamp(DATAGRAM_LEN_BASE, DATAGRAM_LEN_MAX),
            outstanding: None,
            tries: 0,
            not_before: Instant::ZERO,
            suspicion: Suspicion::default(),
        }
    }

    /// The UDP payload length of a probe to send now, if it is time for one. Whoever asks sends
    /// it: the next is due when this one is acknowledged or lost.
    pub fn poll_probe(&mut self, now: Instant) -> Option<usize> {
        if self.outstanding.is_some() || now < self.not_before || self.current >= self.max {
            return None;
        }
        let listed = LENGTHS.into_iter().find(|&len| len > self.current);
        let candidate = listed.unwrap_or(self.max).min(self.max);
        self.tries += 1;
        self.outstanding = Some(candidate);
        self.outstanding
    }

    /// A probe of `len` bytes came through. One that was taken for lost, or was on its way when
    /// the path was found to be a black hole, no longer counts.
    pub fn on_probe_acked(&mut self, len: usize) {
        if self.outstanding == Some(len) {
            self.outstanding = None;
            self.tries = 0;
            self.current = len;
        }
    }

    /// The outstanding probe was lost.
    pub fn on_probe_lost(&mut self, now: Instant) {
        self.outstanding = None;
        if self.tries >= MTU_PROBES_MAX {
            self.tries = 0;
            self.not_before = now + RAISE_INTERVAL;
        }
    }

    /// A packet of `len` bytes that was no probe came through.
    pub fn on_acked(&mut self, len: usize) {
        if self.suspicion.bursts > 0 {
            if len >= self.suspicion.smallest_lost {
                self.suspicion.bursts = 0;
            } else {
                self.suspicion.smaller_passed = true;
            }
        }
    }

    /// A packet of `len` bytes, sent at `sent`, that was no probe was lost. Says whether the
    /// length fell back to the base.
    pub fn on_lost(&mut self, now: Instant, sent: Instant, len: usize) -> bool {
        if self.fixed || len <= DATAGRAM_LEN_BASE {
            return false;
        }
        let suspicion = &mut self.suspicion;
        if suspicion.bursts == 0 {
            *suspicion =
                Suspicion { bursts: 1, smallest_lost: len, smaller_passed: false, noticed: now };
            return false;
        }
        suspicion.smallest_lost = suspicion.smallest_lost.min(len);
        if sent > suspicion.noticed {
            suspicion.bursts += 1;
            suspicion.noticed = now;
        }
        if suspicion.bursts < BLACK_HOLE_BURSTS || !suspicion.smaller_passed {
            suspicion.bursts = suspicion.bursts.min(BLACK_HOLE_BURSTS);
            return false;
        }
        *suspicion = Suspicion::default();
        self.current = DATAGRAM_LEN_BASE;
        self.outstanding = None;
        self.tries = 0;
        self.not_before = now + BLACK_HOLE_PAUSE;
        true
    }

    /// UDP payload bytes that the path is known to carry.
    pub fn current(&self) -> usize {
        self.current
    }
}
