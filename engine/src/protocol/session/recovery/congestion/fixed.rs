//! A fixed rate, for a link that an operator has set aside.
//!
//! The pacer does the work; the window only bounds what can be lost at once. Loss does not move
//! the rate, with one exception: when everything over three probe time-outs was lost the path is
//! gone, and full rate into nothing helps nobody (a circuit breaker, RFC 8084). The next
//! acknowledgement closes it.

use super::{AckSample, WINDOW_MAX, WINDOW_PACKETS_MIN, WINDOW_PACKETS_START};
use crate::time::Duration;

/// The window covers at least this much of rate: a shorter round trip is mostly scheduling.
const COVERED_MIN: Duration = Duration::from_millis(5);

/// The controller.
#[derive(Clone, Debug)]
pub(in super::super) struct FixedRate {
    bytes_per_second: u64,
    datagram_len: u64,
    /// Twice what the rate makes in a round trip.
    window: u64,
    broken: bool,
}

impl FixedRate {
    pub(super) fn new(bytes_per_second: u64, datagram_len: u64) -> Self {
        let window = covering(bytes_per_second, COVERED_MIN);
        Self { bytes_per_second, datagram_len, window, broken: false }
    }

    pub(super) fn on_ack(&mut self, sample: AckSample) {
        self.window = covering(self.bytes_per_second, sample.smoothed.max(COVERED_MIN));
        self.broken = false;
    }

    pub(super) fn on_congestion(&mut self) {}

    pub(super) fn on_persistent_congestion(&mut self) {
        self.broken = true;
    }

    pub(super) fn on_idle(&mut self) {}

    pub(super) fn on_datagram_len(&mut self, datagram_len: u64) {
        self.datagram_len = datagram_len;
    }

    pub(super) fn window(&self) -> u64 {
        if self.broken {
            return WINDOW_PACKETS_MIN * self.datagram_len;
        }
        self.window.clamp(WINDOW_PACKETS_START * self.datagram_len, WINDOW_MAX)
    }

    pub(super) fn rate(&self) -> u64 {
        self.bytes_per_second
    }
}

/// Twice what `rate` (a second) makes in `round_trip`.
#[expect(clippy::cast_possible_truncation, reason = "saturates, and the window is clamped")]
fn covering(rate: u64, round_trip: Duration) -> u64 {
    (2.0 * rate as f64 * round_trip.as_secs_f64()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;

    // PROTOCOL 5.24
    #[test]
    fn loss_does_not_move_the_rate_but_a_dead_path_breaks_the_circuit() {
        let mut fixed = FixedRate::new(100_000_000, 1_200);
        assert_eq!((fixed.rate(), fixed.window()), (100_000_000, 1_000_000));
        fixed.on_congestion();
        assert_eq!((fixed.rate(), fixed.window()), (100_000_000, 1_000_000));
        fixed.on_persistent_congestion();
        assert_eq!(fixed.window(), 2_400);
        fixed.on_ack(AckSample {
            now: Instant::ZERO,
            bytes: 0,
            largest: 0,
            next: 1,
            rtt: None,
            smoothed: Duration::from_millis(10),
        });
        assert_eq!(fixed.window(), 2_000_000);
    }

    // PROTOCOL 5.24
    #[test]
    fn any_rate_gives_a_window_within_bounds() {
        for rate in [0, 1, u64::MAX] {
            let window = FixedRate::new(rate, 1_200).window();
            assert!((12_000..=WINDOW_MAX).contains(&window));
        }
    }
}
