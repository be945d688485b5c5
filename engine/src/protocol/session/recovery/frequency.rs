//! How often the peer should acknowledge: as seldom as does no harm.
//!
//! An acknowledgement costs both sides a packet and tells the sender when the window has room
//! again. A sender that waits for its window wants a few in each round trip, so that what it sends
//! is spread as what arrives is. One that does not wait for it, as in an exchange of requests and
//! replies, needs them only to know its losses and its round trip.
//!
//! The peer is told in every control packet, and in one of its own when it would acknowledge much
//! too seldom or too often.

use crate::limits::{ACK_EVERY_MAX, ACK_EVERY_MIN, ACK_EVERY_RELAXED};
use crate::protocol::wire::control::AckFrequency;
use crate::time::{Duration, Instant};

/// Acknowledgements of a window that is full.
const PER_WINDOW: u64 = 8;
/// Round trips that an acknowledgement may be held back by one who does not wait for it.
const RELAXED_ROUND_TRIPS: u64 = 8;

/// What the peer knows of our wishes.
#[derive(Debug)]
pub(super) struct Frequency {
    told: AckFrequency,
    told_at: Instant,
}

impl Frequency {
    /// The peer knows nothing, and does what it does without a wish.
    pub(super) fn new(delay_max: Duration) -> Self {
        let packets = u64::from(ACK_EVERY_RELAXED);
        Self { told: AckFrequency { lane: 0, packets, delay: delay_max }, told_at: Instant::ZERO }
    }

    /// Whether `wanted` is so far from what the peer was told that it is worth a packet.
    pub(super) fn should_tell(&self, now: Instant, wanted: AckFrequency, rtt: Duration) -> bool {
        let is_far = |told: u64, wanted: u64| told >= 2 * wanted || wanted >= 2 * told;
        let is_far = is_far(self.told.packets, wanted.packets)
            || is_far(self.told.delay.as_nanos(), wanted.delay.as_nanos());
        is_far && now.saturating_since(self.told_at) >= rtt
    }

    /// The peer was told, and will be told again if that is lost.
    pub(super) fn on_told(&mut self, now: Instant, wanted: AckFrequency) {
        (self.told, self.told_at) = (wanted, now);
    }
}

/// What a sender wants whose window is so many packets (PROTOCOL 5.31).
pub(super) fn wanted(
    window_packets: u64,
    waits_for_window: bool,
    smoothed: Duration,
    (delay_min, delay_max): (Duration, Duration),
) -> AckFrequency {
    let (least, delay) = if waits_for_window {
        (ACK_EVERY_MIN, smoothed.mul_ratio(1, 4))
    } else {
        (ACK_EVERY_RELAXED, smoothed.saturating_mul(RELAXED_ROUND_TRIPS))
    };
    let packets = (window_packets / PER_WINDOW).clamp(least.into(), ACK_EVERY_MAX.into());
    let delay = delay.max(delay_min).min(delay_max.max(delay_min));
    AckFrequency { lane: 0, packets, delay }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;
    const BOUNDS: (Duration, Duration) = (Duration::from_micros(100), Duration::from_millis(25));

    // PROTOCOL 5.31
    #[test]
    fn window_and_round_trip_decide_what_is_wanted() {
        // (window in packets, waits for it, round trip in us, packets, delay in us)
        let table = [
            (2, true, 40_000, 2, 10_000),
            (10, true, 40_000, 2, 10_000),
            (100, true, 40_000, 12, 10_000),
            (5_000, true, 40_000, 64, 10_000),
            (5_000, true, 400_000, 64, 25_000),
            (5_000, true, 20, 64, 100),
            (10, false, 100, 8, 800),
            (100, false, 40_000, 12, 25_000),
        ];
        for (window, waits, micros, packets, delay) in table {
            let wish = wanted(window, waits, Duration::from_micros(micros), BOUNDS);
            assert_eq!((wish.packets, wish.delay), (packets, Duration::from_micros(delay)));
        }
    }

    // PROTOCOL 5.32
    #[test]
    fn peer_is_told_of_a_change_by_two_and_no_more_than_once_in_a_round_trip() {
        let mut frequency = Frequency::new(MS(25));
        let at = |millis| Instant::ZERO + MS(millis);
        let wish = |packets, delay| AckFrequency { lane: 0, packets, delay };
        assert!(!frequency.should_tell(at(100), wish(8, MS(25)), MS(40)), "as it does anyway");
        assert!(!frequency.should_tell(at(100), wish(15, MS(13)), MS(40)));
        assert!(frequency.should_tell(at(100), wish(16, MS(25)), MS(40)));
        assert!(frequency.should_tell(at(100), wish(4, MS(25)), MS(40)));
        assert!(frequency.should_tell(at(100), wish(8, MS(12)), MS(40)));
        frequency.on_told(at(100), wish(16, MS(10)));
        assert!(!frequency.should_tell(at(139), wish(64, MS(10)), MS(40)));
        assert!(frequency.should_tell(at(140), wish(64, MS(10)), MS(40)));
    }
}
