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

    /// Takes a sample: the time from sending the largest newly acknowledged packet to its
    /// acknowledgement, and the part of it that the peer says it waited, already limited to what
    /// the peer promised to wait at most (PROTOCOL 5.8; RFC 9002 5.3).
    pub(super) fn on_sample(&mut self, now: Instant, sample: Duration, ack_delay: Duration) {
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
    pub(super) fn forget_min(&mut self) {
        self.min = Duration::MAX;
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
