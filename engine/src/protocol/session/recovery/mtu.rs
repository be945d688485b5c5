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

    /// Whether the length in use could turn out to be a black hole.
    pub fn may_shrink(&self) -> bool {
        !self.fixed && self.current > DATAGRAM_LEN_BASE
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
        // What leaves in the turn of a notice leaves after it.
        if sent >= suspicion.noticed {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    fn probed(max: usize) -> MtuProbe {
        MtuProbe::new(DatagramLen::Probed { max })
    }

    /// Searches until nothing is left, on a path that carries `limit` bytes.
    fn search(probe: &mut MtuProbe, now: Instant, limit: usize) -> usize {
        let mut probes = 0;
        while let Some(len) = probe.poll_probe(now) {
            assert_eq!(probe.poll_probe(now), None, "one is outstanding");
            probes += 1;
            if len <= limit { probe.on_probe_acked(len) } else { probe.on_probe_lost(now) }
        }
        probes
    }

    // PROTOCOL 5.22
    #[test]
    fn search_ends_at_the_longest_datagram_that_passes() {
        // (configured maximum, what the path carries, what is found, probes)
        let table = [
            (DATAGRAM_LEN_MAX, DATAGRAM_LEN_MAX, DATAGRAM_LEN_MAX, 4),
            (DATAGRAM_LEN_MAX, 8_972, 8_972, 3 + 3),
            (8_972, 1_472, 1_472, 2 + 3),
            (1_472, 1_400, 1_200, 3),
            (1_400, 1_472, 1_400, 1),
            (1_200, 1_472, 1_200, 0),
            (0, 1_472, 1_200, 0),
        ];
        for (max, limit, found, probes) in table {
            let mut probe = probed(max);
            assert_eq!(search(&mut probe, at(0), limit), probes);
            assert_eq!(probe.current(), found);
        }
    }

    // PROTOCOL 5.22
    #[test]
    fn failed_search_is_repeated_after_ten_minutes() {
        let mut probe = probed(1_472);
        search(&mut probe, at(0), 1_300);
        assert_eq!(probe.poll_probe(at(599)), None);
        search(&mut probe, at(600), 1_472);
        assert_eq!(probe.current(), 1_472);
    }

    // PROTOCOL 5.22
    #[test]
    fn fixed_length_is_never_probed_nor_doubted() {
        let mut probe = MtuProbe::new(DatagramLen::Fixed(9_000));
        assert_eq!((probe.current(), probe.poll_probe(at(0))), (9_000, None));
        for second in 1..100 {
            assert!(!probe.on_lost(at(second), at(second), 9_000));
            probe.on_acked(300);
        }
        assert_eq!(probe.current(), 9_000);
    }

    // PROTOCOL 5.23
    #[test]
    fn three_bursts_of_large_packets_while_small_ones_pass_are_a_black_hole() {
        let mut probe = probed(1_472);
        search(&mut probe, at(0), 1_472);
        assert!(!probe.on_lost(at(10), at(9), 1_472));
        assert!(!probe.on_lost(at(10), at(9), 1_472), "the same burst");
        probe.on_acked(200);
        assert!(!probe.on_lost(at(12), at(11), 1_472));
        assert!(probe.on_lost(at(14), at(13), 1_472));
        assert_eq!((probe.current(), probe.poll_probe(at(73))), (1_200, None));
        search(&mut probe, at(74), 1_452);
        assert_eq!(probe.current(), 1_452);
    }

    // PROTOCOL 5.23
    #[test]
    fn loss_alone_never_shortens_datagrams() {
        let mut probe = probed(1_472);
        search(&mut probe, at(0), 1_472);
        for second in 1..100 {
            assert!(!probe.on_lost(at(second * 2), at(second * 2 - 1), 1_472), "nothing passes");
        }
        probe.on_acked(1_472);
        for second in 100..200 {
            assert!(!probe.on_lost(at(second * 2), at(second * 2 - 1), 1_472));
            probe.on_acked(100);
            probe.on_acked(1_472);
        }
        assert_eq!(probe.current(), 1_472);
    }
}
