//! Bulk that leaves the queue of its path to what is urgent.
//!
//! A window is made to fill the queue in front of a path's narrowest point, and an urgent packet
//! waits behind all that stands there, whatever its sender lets go first. So as long as urgent
//! messages are sent, bulk has no more in flight than the path holds, and a little that shows
//! whether it holds more. What it holds is measured as Vegas does: of what was in flight in a round
//! trip, the part that the shortest round trip is of this one was not in a queue.

use crate::limits::{YIELD_FOR, YIELD_QUEUE_LEN};
use crate::time::{Duration, Instant};

/// How much may be in flight for bulk to add to it.
#[derive(Debug)]
pub(super) struct Yielding {
    until: Instant,
    /// Bytes in flight; no bound that is ever met while bulk does not yield.
    limit: u64,
}

/// What a round trip tells of its path.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoundTrip {
    /// Bytes in flight at most.
    pub(super) in_flight: u64,
    /// How long it took.
    pub(super) took: Duration,
    /// How long the shortest one took.
    pub(super) shortest: Duration,
}

impl Yielding {
    /// Nothing urgent was sent.
    pub(super) const NOT: Self = Self { until: Instant::ZERO, limit: u64::MAX };

    /// Whether bulk yields.
    pub(super) fn is_active(&self) -> bool {
        self.limit != u64::MAX
    }

    /// Something urgent is sent.
    pub(super) fn on_urgent(&mut self, now: Instant, last: RoundTrip) {
        if !self.is_active() {
            self.limit = held(last);
        }
        self.until = now + YIELD_FOR;
    }

    /// A round trip ended while bulk yields.
    #[cold]
    pub(super) fn on_round_trip(&mut self, now: Instant, last: RoundTrip) {
        self.limit = if now < self.until { held(last) } else { u64::MAX };
    }

    /// Whether bulk waits with so many bytes in flight.
    pub(super) fn is_full(&self, in_flight: u64) -> bool {
        in_flight >= self.limit
    }
}

/// Bytes that a path holds without a queue, and those that may be in one.
fn held(RoundTrip { in_flight, took, shortest }: RoundTrip) -> u64 {
    let (took, shortest) = (u128::from(took.as_nanos().max(1)), u128::from(shortest.as_nanos()));
    let held = u128::from(in_flight) * shortest.min(took) / took;
    u64::try_from(held).expect("no more than was in flight") + YIELD_QUEUE_LEN
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORTEST: Duration = Duration::from_millis(10);

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    fn round_trip(in_flight: u64, millis: u64) -> RoundTrip {
        RoundTrip { in_flight, took: Duration::from_millis(millis), shortest: SHORTEST }
    }

    #[test]
    fn bulk_has_in_flight_what_the_path_holds_and_a_short_queue() {
        // PROTOCOL 6.20
        let mut yielding = Yielding::NOT;
        assert!(!yielding.is_full(u64::MAX - 1));
        yielding.on_urgent(at(0), round_trip(1_000_000, 40));
        assert!(yielding.is_full(250_000 + YIELD_QUEUE_LEN));
        assert!(!yielding.is_full(250_000 + YIELD_QUEUE_LEN - 1));
    }

    #[test]
    fn path_that_shows_no_queue_is_filled_further_with_each_round_trip() {
        // PROTOCOL 6.20
        let mut yielding = Yielding::NOT;
        yielding.on_urgent(at(0), round_trip(0, 10));
        let mut in_flight = YIELD_QUEUE_LEN;
        // It holds 1 MB in 10 ms: with more in flight a round trip takes as much longer.
        for round in 1..200 {
            assert!(yielding.is_full(in_flight) && !yielding.is_full(in_flight - 1), "{round}");
            let took = (in_flight / 100_000).max(10);
            yielding.on_round_trip(at(round), round_trip(in_flight, took));
            in_flight = in_flight * 10 / took + YIELD_QUEUE_LEN;
        }
        assert!((1_000_000..1_100_000 + YIELD_QUEUE_LEN).contains(&in_flight), "{in_flight}");
    }

    #[test]
    fn bulk_yields_for_a_while_after_the_last_urgent_message() {
        // PROTOCOL 6.20
        let mut yielding = Yielding::NOT;
        yielding.on_urgent(at(0), round_trip(1_000_000, 40));
        yielding.on_urgent(at(700), round_trip(1_000_000, 40));
        yielding.on_round_trip(at(1_699), round_trip(1_000_000, 40));
        assert!(yielding.is_active());
        yielding.on_round_trip(at(1_700), round_trip(1_000_000, 40));
        assert!(!yielding.is_active());
    }
}
