//! Bulk that leaves the queue of its path to what is urgent.
//!
//! A window is made to fill the queue in front of a path's narrowest point, and an urgent packet
//! waits behind all that stands there, whatever its sender lets go first. So as long as urgent
//! messages are sent, bulk has no more in flight than the path holds, and a little that shows
//! whether it holds more. What it holds is measured as Vegas does: of what was in flight in a round
//! trip, the part that the shortest round trip ever is of this one was not in a queue.
//!
//! A path can become a longer one, and then that part is too small. So the shortest round trip is
//! taken anew every few seconds, each time behind one with so little in flight that no queue is
//! left of it, as BBR does.

use crate::limits::{YIELD_FOR, YIELD_PATH_MEMORY, YIELD_QUEUE_LEN};
use crate::time::{Duration, Instant};

/// A round trip that is longer than the shortest one by no more than this part of it met no queue.
const CLEAR_PART: u32 = 16;
/// The part of what a path holds by which more is tried where there is none.
const PROBED_PART: u64 = 8;

/// How much may be in flight for bulk to add to it.
#[derive(Debug)]
pub(super) struct Yielding {
    until: Instant,
    /// Bytes in flight; no bound that is ever met while bulk does not yield.
    limit: u64,
    /// The shortest sample since a round trip ended.
    shortest_now: Duration,
    /// The shortest one since the path was emptied, and until when it is looked for.
    shortest: Duration,
    renewed_at: Instant,
    /// Whether the round trip that ends next began before bulk yielded.
    began_before: bool,
}

impl Yielding {
    /// Nothing urgent was sent.
    pub(super) const NOT: Self = Self {
        until: Instant::ZERO,
        limit: u64::MAX,
        shortest_now: Duration::MAX,
        shortest: Duration::MAX,
        renewed_at: Instant::ZERO,
        began_before: false,
    };

    /// Whether bulk yields.
    pub(super) fn is_active(&self) -> bool {
        self.limit != u64::MAX
    }

    /// Bytes in flight with which bulk waits.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Something urgent is sent. `held` is what [`held`] says of the last round trip.
    pub(super) fn on_urgent(&mut self, now: Instant, held: u64) {
        self.until = now + YIELD_FOR;
        if !self.is_active() {
            self.empty(now, held);
            self.began_before = true;
        }
    }

    /// An acknowledgement gave a sample while bulk yields.
    pub(super) fn on_sample(&mut self, sample: Duration) {
        self.shortest_now = self.shortest_now.min(sample);
        self.shortest = self.shortest.min(sample);
    }

    /// A round trip ended while bulk yields, with `in_flight` bytes in flight at most; the shortest
    /// one so far took `known`. Returns how long the shortest one takes now, if that was found.
    #[cold]
    pub(super) fn on_round_trip(
        &mut self,
        now: Instant,
        in_flight: u64,
        known: Duration,
    ) -> Option<Duration> {
        if now >= self.until {
            *self = Self::NOT;
            return None;
        }
        let took = core::mem::replace(&mut self.shortest_now, Duration::MAX);
        if core::mem::take(&mut self.began_before) {
            self.shortest = Duration::MAX; // Of packets that met the queue of before.
            return None;
        }
        if took == Duration::MAX {
            return None;
        }
        if now < self.renewed_at {
            let held = held(in_flight, took, known);
            let is_clear = took <= known + known.mul_ratio(1, CLEAR_PART);
            let more = if is_clear { held / PROBED_PART } else { 0 };
            self.limit = held + more.max(YIELD_QUEUE_LEN);
            return None;
        }
        let renewed = self.shortest;
        self.empty(now, held(in_flight, took, renewed));
        Some(renewed)
    }

    /// Lets the queue of a path that holds so much run dry.
    fn empty(&mut self, now: Instant, held: u64) {
        self.limit = (held / 2).max(YIELD_QUEUE_LEN);
        self.shortest = Duration::MAX;
        self.renewed_at = now + YIELD_PATH_MEMORY;
    }
}

/// Bytes that a path holds without a queue, if a round trip `took` so long with so many in flight,
/// and the `shortest` one takes so long.
pub(super) fn held(in_flight: u64, took: Duration, shortest: Duration) -> u64 {
    let (took, shortest) = (u128::from(took.as_nanos().max(1)), u128::from(shortest.as_nanos()));
    let held = u128::from(in_flight) * shortest.min(took) / took;
    u64::try_from(held).expect("no more than was in flight")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    /// A path that holds 100 kB a millisecond of its round trip.
    struct Path {
        yielding: Yielding,
        shortest: Duration,
        known: Duration,
        now: Instant,
    }

    impl Path {
        fn new(millis: u64) -> Self {
            let shortest = Duration::from_millis(millis);
            let mut yielding = Yielding::NOT;
            yielding.on_urgent(at(0), 0);
            Self { yielding, shortest, known: shortest, now: at(0) }
        }

        fn holds(&self) -> u64 {
            self.shortest.as_nanos() / 10
        }

        /// One round trip with as much in flight as may be.
        fn turn(&mut self) {
            let in_flight = self.yielding.limit();
            let took = self.shortest.max(Duration::from_nanos(in_flight * 10));
            self.now += took;
            self.yielding.on_urgent(self.now, 0);
            self.yielding.on_sample(took);
            self.yielding.on_sample(took + Duration::from_millis(7));
            let renewed = self.yielding.on_round_trip(self.now, in_flight, self.known);
            self.known = renewed.unwrap_or(self.known);
        }

        /// Whether the path is full, and its queue as short as it should be.
        fn is_filled(&self) -> bool {
            let queue = (self.holds() / PROBED_PART).max(YIELD_QUEUE_LEN);
            let range = self.holds()..=self.holds() + 2 * queue;
            range.contains(&self.yielding.limit())
        }
    }

    #[test]
    fn path_is_filled_round_trip_by_round_trip_and_its_queue_stays_short() {
        // PROTOCOL 6.20
        let mut path = Path::new(10);
        let filled = (0..100_000).map(|_| (path.turn(), path.is_filled()).1);
        let filled: Vec<_> = filled.collect();
        assert!(filled[100..200].iter().all(|&is_filled| is_filled));
        // Each time after the path was emptied it takes half as long again.
        let part = filled.iter().filter(|&&is_filled| is_filled).count();
        assert!(part > 95_000, "{part}");
        assert_eq!(path.known, path.shortest, "the queue does not creep in");
    }

    #[test]
    fn path_that_became_longer_is_filled_again() {
        // PROTOCOL 6.20
        let mut path = Path::new(10);
        (0..500).for_each(|_| path.turn());
        path.shortest = Duration::from_millis(40);
        (0..500).for_each(|_| path.turn());
        assert!(path.now < at(45_000), "{:?}", path.now);
        assert_eq!(path.known, path.shortest);
        (0..200).for_each(|_| path.turn());
        assert!(path.is_filled(), "{} of {}", path.yielding.limit(), path.holds());
    }

    #[test]
    fn bulk_that_begins_to_yield_lets_the_queue_run_dry() {
        // PROTOCOL 6.20
        let mut yielding = Yielding::NOT;
        assert!(!yielding.is_active());
        let held = held(1_000_000, Duration::from_millis(40), Duration::from_millis(10));
        yielding.on_urgent(at(0), held);
        assert_eq!((held, yielding.limit()), (250_000, 125_000));
        yielding.on_urgent(at(1), 1_000_000);
        assert_eq!(yielding.limit(), 125_000, "it is measured once in a round trip");
    }

    #[test]
    fn bulk_yields_for_a_while_after_the_last_urgent_message() {
        // PROTOCOL 6.20
        let mut yielding = Yielding::NOT;
        yielding.on_urgent(at(0), 250_000);
        yielding.on_urgent(at(700), 250_000);
        let known = Duration::from_millis(10);
        yielding.on_round_trip(at(1_699), 250_000, known);
        assert!(yielding.is_active());
        yielding.on_round_trip(at(1_700), 250_000, known);
        assert!(!yielding.is_active());
    }
}
