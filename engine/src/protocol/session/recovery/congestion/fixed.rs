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
    /// The round trip that the window covers twice.
    covered: Duration,
    broken: bool,
}

impl FixedRate {
    pub(super) fn new(bytes_per_second: u64, datagram_len: u64) -> Self {
        Self { bytes_per_second, datagram_len, covered: COVERED_MIN, broken: false }
    }

    pub(super) fn on_ack(&mut self, sample: AckSample) {
        self.covered = sample.smoothed.max(COVERED_MIN);
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
        let nanos = u128::from(self.covered.as_nanos());
        let bytes = 2 * u128::from(self.bytes_per_second) * nanos / 1_000_000_000;
        let start = WINDOW_PACKETS_START * self.datagram_len;
        u64::try_from(bytes).unwrap_or(WINDOW_MAX).clamp(start, WINDOW_MAX)
    }

    pub(super) fn rate(&self) -> u64 {
        self.bytes_per_second
    }
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
