//! How far beyond what arrived a receiver lets the sender of large messages go.
//!
//! Twice what the path carries in a round trip keeps it busy. What is granted beyond that waits in
//! queues, and what is urgent waits behind it. Both figures follow from the grants themselves: a
//! segment that only a new grant allows comes a round trip after it, and what came meanwhile is
//! what the path carries. It comes later if it queues behind what was granted before, so a round
//! trip counts only if little was ahead of it; when the last one that counted is long ago, little
//! is granted until there is a new one.

use std::cmp::Reverse;

use super::assembly::AssemblyKey;
use crate::limits::{GRANT_MEMORY, GRANT_ROUND_MIN, SEGMENTS_GRANTED_MIN};
use crate::time::{Duration, Instant};

/// Bytes that may be ahead of a grant whose round trip counts: half of the least that is granted,
/// or a queue of it would itself grow the grant.
const CLEAR_LEN: usize = SEGMENTS_GRANTED_MIN / 2;
/// Round trips of the path that are granted: one on its way, and one for a sender that is about to
/// become faster.
const ROUND_TRIPS: u128 = 2;
const NANOS_A_SECOND: u128 = 1_000_000_000;

/// Bytes that one peer is granted beyond what arrived, over all its messages (PROTOCOL 6.18).
#[derive(Debug)]
pub struct GrantWindow {
    len_max: usize,
    /// There once a grant was watched: most associations grant nothing.
    measures: Option<Box<Measures>>,
}

/// What was seen of the path.
#[derive(Debug, Default)]
struct Measures {
    probe: Option<Probe>,
    round: Option<Round>,
    round_trip: Best<Reverse<Duration>>,
    /// Bytes in a second.
    rate: Best<u64>,
}

/// A grant, and the first segment that none before it allowed.
#[derive(Debug)]
struct Probe {
    key: AssemblyKey,
    segment: u32,
    granted_at: Instant,
    /// Whether its round trip counts.
    is_clear: bool,
}

/// What arrived since an instant.
#[derive(Debug)]
struct Round {
    since: Instant,
    bytes: u64,
}

impl GrantWindow {
    /// A window of `len_max` bytes at most.
    pub fn new(len_max: usize) -> Self {
        Self { len_max, measures: None }
    }

    /// Bytes to grant beyond what arrived.
    pub fn len(&self, now: Instant) -> usize {
        let carried = self.measures.as_ref().map_or(0, |measures| measures.carried(now));
        let len = usize::try_from(ROUND_TRIPS * carried).unwrap_or(usize::MAX);
        len.max(SEGMENTS_GRANTED_MIN).min(self.len_max)
    }

    /// Bytes that may be granted and not arrived when a round trip begins that counts.
    pub fn clear_len(&self) -> usize {
        CLEAR_LEN.min(self.len_max)
    }

    /// Whether the next grant should be watched: one at a time is, and not for ever.
    pub fn wants_probe(&self, now: Instant) -> bool {
        let probe = self.measures.as_ref().and_then(|measures| measures.probe.as_ref());
        probe.is_none_or(|probe| probe.granted_at + GRANT_MEMORY <= now)
    }

    /// The peer is granted segments of a message from `segment` on. `is_clear`: no more than
    /// [`GrantWindow::clear_len`] is on its way.
    pub fn watch(&mut self, now: Instant, key: AssemblyKey, segment: u32, is_clear: bool) {
        let measures = self.measures.get_or_insert_default();
        measures.probe = Some(Probe { key, segment, granted_at: now, is_clear });
        measures.round.get_or_insert(Round { since: now, bytes: 0 });
    }

    /// A segment arrived, with `len` bytes of its message.
    pub fn on_arrived(&mut self, now: Instant, key: AssemblyKey, segment: u32, len: usize) {
        let Some(measures) = &mut self.measures else { return };
        let Some(round) = &mut measures.round else { return };
        round.bytes += len as u64;
        let answers = |probe: &Probe| probe.key == key && probe.segment <= segment;
        if measures.probe.as_ref().is_some_and(answers) {
            measures.on_answered(now);
        }
    }

    /// No segment of this message is awaited any more.
    pub fn on_over(&mut self, key: AssemblyKey) {
        if let Some(measures) = &mut self.measures {
            measures.probe.take_if(|probe| probe.key == key);
        }
    }
}

impl Measures {
    /// The segment that was watched arrived, or one behind it. Apart, because few segments are.
    #[inline(never)]
    fn on_answered(&mut self, now: Instant) {
        let (Some(probe), Some(round)) = (self.probe.take(), &self.round) else { return };
        if probe.is_clear {
            self.round_trip.note(now, Reverse(now.saturating_since(probe.granted_at)));
        }
        let spent = now.saturating_since(round.since);
        if spent >= GRANT_ROUND_MIN {
            let rate = u128::from(round.bytes) * NANOS_A_SECOND / u128::from(spent.as_nanos());
            self.rate.note(now, u64::try_from(rate).unwrap_or(u64::MAX));
            self.round = None;
        }
    }

    /// Bytes that the path carries in a round trip.
    fn carried(&self, now: Instant) -> u128 {
        let round_trip = self.round_trip.get(now).map_or(Duration::ZERO, |best| best.0);
        let rate = u128::from(self.rate.get(now).unwrap_or(0));
        rate * u128::from(round_trip.as_nanos()) / NANOS_A_SECOND
    }
}

/// The largest value of the last [`GRANT_MEMORY`], or of up to half of it less.
#[derive(Debug)]
struct Best<T> {
    /// The largest of a span of half the memory from an instant on; the latest span first.
    spans: [Option<(Instant, T)>; 2],
}

impl<T> Default for Best<T> {
    fn default() -> Self {
        Self { spans: [None, None] }
    }
}

impl<T: Copy + Ord> Best<T> {
    fn note(&mut self, now: Instant, value: T) {
        match &mut self.spans[0] {
            Some((since, best)) if now < *since + GRANT_MEMORY.mul_ratio(1, 2) => {
                *best = value.max(*best);
            }
            _ => self.spans = [Some((now, value)), self.spans[0]],
        }
    }

    fn get(&self, now: Instant) -> Option<T> {
        let fresh = self.spans.iter().flatten().filter(|span| now < span.0 + GRANT_MEMORY);
        fresh.map(|span| span.1).max()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::{SEGMENTS_GRANTED_MAX, SEGMENTS_UNSCHEDULED_LEN};

    const KEY: AssemblyKey = AssemblyKey { is_reply: false, transaction: 0 };
    const SIZE: usize = 16 << 10;
    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// A path that carries `rate` bytes in a second, one after the other.
    #[derive(Clone, Copy, Debug)]
    struct Path {
        round_trip: Duration,
        rate: u64,
    }

    impl Path {
        /// Sends a message of `len` bytes, which leave as soon as they are granted; returns when
        /// the last one arrived. Every fourth segment is acknowledged.
        fn carry(self, window: &mut GrantWindow, start: Instant, len: usize) -> Instant {
            let count = len / SIZE;
            let spent = Duration::from_nanos(SIZE as u64 * 1_000_000_000 / self.rate);
            let half = self.round_trip.mul_ratio(1, 2);
            let mut allowed = vec![start; SEGMENTS_UNSCHEDULED_LEN / SIZE];
            let mut free = start;
            for segment in 0..count {
                free = free.max(allowed[segment]) + spent;
                let now = free + half;
                window.on_arrived(now, KEY, u32::try_from(segment).unwrap(), SIZE);
                if segment % 4 == 3 {
                    let (arrived, granted) = (segment + 1, allowed.len());
                    let end = (arrived + window.len(now) / SIZE).min(count);
                    if end > granted {
                        if window.wants_probe(now) {
                            let is_clear = (granted - arrived) * SIZE <= window.clear_len();
                            let from = u32::try_from(granted).unwrap();
                            window.watch(now, KEY, from, is_clear);
                        }
                        allowed.resize(end, now + half);
                    }
                }
            }
            window.on_over(KEY);
            free + half
        }

        /// Bytes on the way when it is busy.
        fn carried(self) -> usize {
            let nanos = u128::from(self.rate) * u128::from(self.round_trip.as_nanos());
            usize::try_from(nanos / NANOS_A_SECOND).unwrap()
        }
    }

    // PROTOCOL 6.18
    #[test]
    fn grant_grows_to_twice_what_a_long_path_carries_in_a_round_trip() {
        let path = Path { round_trip: MS(100), rate: 50_000_000 };
        let mut window = GrantWindow::new(SEGMENTS_GRANTED_MAX);
        assert_eq!(window.len(Instant::ZERO), SEGMENTS_GRANTED_MIN);
        let end = path.carry(&mut window, Instant::ZERO, 64 << 20);
        let len = window.len(end);
        assert!(len > path.carried() * 19 / 10 && len < path.carried() * 21 / 10, "{len}");
        let next = path.carry(&mut window, end, 64 << 20).saturating_since(end);
        let ideal = (64 << 20) as f64 / path.rate as f64 + 0.1;
        assert!(next.as_secs_f64() < 1.2 * ideal, "{next} of {ideal}");
    }

    // PROTOCOL 6.18
    #[test]
    fn queue_before_a_short_path_does_not_grow_the_grant() {
        let path = Path { round_trip: Duration::from_micros(50), rate: 1_000_000_000 };
        let mut window = GrantWindow::new(SEGMENTS_GRANTED_MAX);
        // Longer than anything is remembered, without a pause.
        let end = path.carry(&mut window, Instant::ZERO, 32 << 30);
        assert!(end.saturating_since(Instant::ZERO) > GRANT_MEMORY.saturating_mul(3));
        assert_eq!(window.len(end), SEGMENTS_GRANTED_MIN);
    }

    // PROTOCOL 6.18
    #[test]
    fn what_a_path_carried_long_ago_is_forgotten() {
        let path = Path { round_trip: MS(100), rate: 50_000_000 };
        let mut window = GrantWindow::new(SEGMENTS_GRANTED_MAX);
        let end = path.carry(&mut window, Instant::ZERO, 64 << 20);
        assert!(window.len(end) > 8 << 20);
        assert_eq!(window.len(end + GRANT_MEMORY), SEGMENTS_GRANTED_MIN);
        let short = Path { round_trip: MS(1), ..path };
        let end = short.carry(&mut window, end + GRANT_MEMORY, 64 << 20);
        assert_eq!(window.len(end), SEGMENTS_GRANTED_MIN);
    }

    #[test]
    fn grant_that_nobody_uses_hides_no_later_one() {
        let mut window = GrantWindow::new(SEGMENTS_GRANTED_MAX);
        window.watch(Instant::ZERO, KEY, 4, true);
        assert!(!window.wants_probe(Instant::ZERO + MS(1)));
        assert!(window.wants_probe(Instant::ZERO + GRANT_MEMORY));
        window.on_over(KEY);
        assert!(window.wants_probe(Instant::ZERO + MS(1)));
    }

    proptest! {
        // PROTOCOL 6.18
        #[test]
        fn any_path_becomes_busy_and_has_no_long_queue(
            round_trip in 50_u64..1_000, rate in 1_000_000_u64..4_000_000, scales in [0_u32..8, 0..8],
        ) {
            let round_trip = Duration::from_micros(round_trip << scales[0]);
            let path = Path { round_trip, rate: rate << scales[1] };
            prop_assume!(2 * path.carried() < SEGMENTS_GRANTED_MAX);
            let mut window = GrantWindow::new(SEGMENTS_GRANTED_MAX);
            let end = path.carry(&mut window, Instant::ZERO, (20 * path.carried()).max(4 << 20));
            let len = window.len(end);
            prop_assert!(len >= path.carried(), "{} of {}", len, path.carried());
            // A segment's own time is part of its round trip.
            let most = (2 * (path.carried() + SIZE)).max(SEGMENTS_GRANTED_MIN);
            prop_assert!(len <= most + most / 10, "{} of {}", len, path.carried());
        }

        // PROTOCOL 6.18
        #[test]
        fn no_arrivals_move_the_grant_beyond_its_bounds(
            len_max in 1_usize..(32 << 20),
            steps in prop::collection::vec((0_u64..50_000_000, 0_u32..8, 1_usize..65_536), 1..200),
        ) {
            let mut window = GrantWindow::new(len_max);
            let mut now = Instant::ZERO;
            for (nanos, segment, len) in steps {
                now += Duration::from_nanos(nanos);
                window.on_arrived(now, KEY, segment, len);
                window.watch(now, KEY, segment, len % 2 == 0);
                let len = window.len(now);
                prop_assert!(len <= len_max);
                prop_assert!(len >= len_max.min(SEGMENTS_GRANTED_MIN));
            }
        }
    }
}
