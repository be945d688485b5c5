//! The round-trip estimate (RFC 9002 section 5, RFC 6298): what every timer of a session is made of.
//!
//! A path's delay is a moving target with noise on top. We keep three figures of it: the smallest
//! seen (the path without queues), a slow average, and the average distance from that average. A
//! packet is then late when it is later than the average by several such distances.

use crate::time::{Duration, Instant};

/// The round-trip estimate of one path.
#[derive(Clone, Debug)]
pub struct Rtt {
    latest: Duration,
    smoothed: Duration,
    variation: Duration,
    min: Duration,
    first_sample: Option<Instant>,
}

impl Rtt {
    /// An estimate without a sample: `initial` stands for the path until there is one
    /// (PROTOCOL 5.9; RFC 9002 6.2.2).
    pub fn new(initial: Duration) -> Self {
        Self {
            latest: initial,
            smoothed: initial,
            variation: initial.mul_ratio(1, 2),
            min: initial,
            first_sample: None,
        }
    }

    /// A handshake took `round_trip`, which stands for a path without a sample if it is longer than
    /// what was assumed (PROTOCOL 5.9).
    pub fn on_handshake(&mut self, round_trip: Duration) {
        if self.first_sample.is_none() && round_trip > self.smoothed {
            *self = Self::new(round_trip);
        }
    }

    /// Takes a sample: the time from sending the largest newly acknowledged packet to its
    /// acknowledgement, and the part of it that the peer says it waited, already limited to what
    /// the peer promised to wait at most (PROTOCOL 5.8; RFC 9002 5.3).
    pub fn on_sample(&mut self, now: Instant, sample: Duration, ack_delay: Duration) {
        self.latest = sample;
        if self.first_sample.is_none() {
            self.first_sample = Some(now);
            self.min = sample;
            self.smoothed = sample;
            self.variation = sample.mul_ratio(1, 2);
            return;
        }
        self.min = self.min.min(sample);
        // A peer that overstates its delay must not push the estimate below the path's own delay.
        let adjusted =
            if sample >= self.min + ack_delay { sample.saturating_sub(ack_delay) } else { sample };
        let distance = adjusted.max(self.smoothed).saturating_sub(adjusted.min(self.smoothed));
        self.variation = self.variation.mul_ratio(3, 4) + distance.mul_ratio(1, 4);
        self.smoothed = self.smoothed.mul_ratio(7, 8) + adjusted.mul_ratio(1, 8);
    }

    /// Forgets the minimum: after persistent congestion the path may be another one, and the next
    /// sample starts the minimum anew (RFC 9002 5.2).
    pub fn forget_min(&mut self) {
        self.min = Duration::MAX;
    }

    /// The path's delay is known anew, from when little was in flight (RFC 9002 5.2).
    pub fn renew_min(&mut self, min: Duration) {
        self.min = min;
    }

    /// The last sample, unadjusted.
    pub fn latest(&self) -> Duration {
        self.latest
    }

    /// The moving average, gain 1/8.
    pub fn smoothed(&self) -> Duration {
        self.smoothed
    }

    /// The moving average of the distance from the average, gain 1/4.
    pub fn variation(&self) -> Duration {
        self.variation
    }

    /// The smallest sample; the initial value before there is one.
    pub fn min(&self) -> Duration {
        if self.min == Duration::MAX { self.smoothed } else { self.min }
    }

    /// When the first sample was taken, if any was.
    pub fn first_sample(&self) -> Option<Instant> {
        self.first_sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    // PROTOCOL 5.9
    #[test]
    fn before_a_sample_the_initial_value_stands_for_the_path() {
        let rtt = Rtt::new(MS(333));
        assert_eq!((rtt.smoothed(), rtt.min()), (MS(333), MS(333)));
        assert_eq!(rtt.variation(), Duration::from_micros(166_500));
        assert_eq!(rtt.first_sample(), None);
    }

    // PROTOCOL 5.10
    #[test]
    fn first_sample_replaces_the_initial_value_and_later_ones_move_it() {
        let mut rtt = Rtt::new(MS(333));
        rtt.on_sample(Instant::from_nanos(7), MS(80), MS(5));
        assert_eq!((rtt.smoothed(), rtt.variation(), rtt.min()), (MS(80), MS(40), MS(80)));
        assert_eq!(rtt.first_sample(), Some(Instant::from_nanos(7)));
        rtt.on_sample(Instant::from_nanos(8), MS(160), Duration::ZERO);
        assert_eq!((rtt.smoothed(), rtt.variation(), rtt.min()), (MS(90), MS(50), MS(80)));
    }

    // PROTOCOL 5.8
    #[test]
    fn ack_delay_is_subtracted_only_down_to_the_minimum() {
        let mut rtt = Rtt::new(MS(333));
        rtt.on_sample(Instant::ZERO, MS(80), Duration::ZERO);
        rtt.on_sample(Instant::ZERO, MS(96), MS(16));
        assert_eq!(rtt.smoothed(), MS(80), "96 - 16 is the minimum itself");
        rtt.on_sample(Instant::ZERO, MS(88), MS(16));
        assert_eq!(rtt.smoothed(), MS(81), "88 - 16 is below the minimum: not subtracted");
    }

    // PROTOCOL 5.19
    #[test]
    fn forgotten_minimum_is_measured_anew() {
        let mut rtt = Rtt::new(MS(333));
        rtt.on_sample(Instant::ZERO, MS(10), Duration::ZERO);
        rtt.forget_min();
        assert_eq!(rtt.min(), MS(10), "stands in until there is a sample");
        rtt.on_sample(Instant::ZERO, MS(50), Duration::ZERO);
        assert_eq!(rtt.min(), MS(50));
    }

    proptest! {
        #[test]
        fn agrees_with_the_formula_in_floating_point(
            samples in prop::collection::vec((1_000u64..1 << 40, 0u64..1 << 36), 1..60),
        ) {
            let mut rtt = Rtt::new(MS(333));
            let (mut smoothed, mut variation, mut min) = (0.0f64, 0.0f64, f64::MAX);
            for (index, &(sample, delay)) in samples.iter().enumerate() {
                rtt.on_sample(
                    Instant::ZERO,
                    Duration::from_nanos(sample),
                    Duration::from_nanos(delay),
                );
                let (sample, delay) = (sample as f64, delay as f64);
                min = min.min(sample);
                if index == 0 {
                    (smoothed, variation) = (sample, sample / 2.0);
                } else {
                    let adjusted = if sample >= min + delay { sample - delay } else { sample };
                    variation = 0.75 * variation + 0.25 * (smoothed - adjusted).abs();
                    smoothed = 0.875 * smoothed + 0.125 * adjusted;
                }
            }
            let near = |ours: Duration, twin: f64| (ours.as_nanos() as f64 - twin).abs() < 100.0;
            prop_assert!(near(rtt.smoothed(), smoothed), "{} {smoothed}", rtt.smoothed());
            prop_assert!(near(rtt.variation(), variation));
            prop_assert!(near(rtt.min(), min));
        }

        #[test]
        fn rtt_ops_never_panic(
            ops in prop::collection::vec((any::<u64>(), any::<u64>(), any::<bool>()), 0..100),
        ) {
            let mut rtt = Rtt::new(Duration::MAX);
            for (sample, delay, forget) in ops {
                rtt.on_sample(
                    Instant::from_nanos(delay),
                    Duration::from_nanos(sample),
                    Duration::from_nanos(delay),
                );
                if forget {
                    rtt.forget_min();
                }
                prop_assert!(rtt.min() <= rtt.latest().max(rtt.smoothed()));
            }
        }
    }
}
