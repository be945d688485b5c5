//! One direction between two nodes: a queue, a rate, bursts of loss, and stops.

use std::collections::VecDeque;

use super::faults::{Faults, Line};
use crate::io::random::Random;
use crate::time::{Duration, Instant};

/// What a link remembers.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// Latest arrival given out, so that the link stays a queue.
    latest: Option<Instant>,
    /// When what is queued before a slow line has left it, each datagram.
    departures: VecDeque<Instant>,
    /// Nothing arrives before: the link is clogged, and holds what it gets.
    pub(super) clogged_until: Option<Instant>,
    /// In the bad state of the Gilbert-Elliott model.
    is_bad: bool,
    /// When it was last used.
    used_at: Option<Instant>,
}

/// After so long without a packet a link is silent.
const SILENCE: Duration = Duration::from_millis(200);

impl Link {
    /// A datagram is sent. Returns whether it is the first, ever or after a silence.
    pub(super) fn awakes(&mut self, now: Instant) -> bool {
        self.used_at.replace(now).is_none_or(|at| at + SILENCE <= now)
    }

    /// Whether a burst of losses takes the next datagram.
    pub(super) fn is_in_burst(&mut self, random: &mut Random, faults: &Faults) -> bool {
        let turns = if self.is_bad { faults.burst_ends } else { faults.burst_begins };
        if random.happens(turns) {
            self.is_bad = !self.is_bad;
        }
        // A burst ends with the weather that knows none.
        self.is_bad &= faults.burst_begins != crate::io::random::Chance::NEVER;
        self.is_bad
    }

    /// When a datagram of `len` bytes has left the line before this link. `None`: the queue
    /// before it is full.
    pub(super) fn depart(&mut self, now: Instant, line: Line, len: usize) -> Option<Instant> {
        let Line { bytes_per_second, queue_max } = line;
        if bytes_per_second == 0 {
            return Some(now);
        }
        while self.departures.front().is_some_and(|&at| at <= now) {
            self.departures.pop_front();
        }
        if self.departures.len() >= queue_max {
            return None;
        }
        let nanos = len as u64 * 1_000_000_000 / bytes_per_second;
        let start = self.departures.back().copied().unwrap_or(now).max(now);
        let at = start + Duration::from_nanos(nanos);
        self.departures.push_back(at);
        Some(at)
    }

    /// Puts an arrival behind those before it, and behind the end of a clog. Returns it, and
    /// whether the clog held it.
    pub(super) fn queue(&mut self, arrival: Instant) -> (Instant, bool) {
        let held_until = self.clogged_until.unwrap_or(Instant::ZERO);
        let at = arrival.max(self.latest.unwrap_or(arrival)).max(held_until);
        self.latest = Some(at);
        (at, held_until > arrival)
    }
}
