//! CUBIC (RFC 9438): after a loss the window returns to where the loss was along a cubic curve.
//!
//! The curve is a function of time, not of round trips: fast at first, flat around the window at
//! which the path overflowed, then fast again in search of more. On short paths the curve would be
//! slower than the old rule of one packet a round trip, so the larger of the two counts.

use super::hystart::{Growth, HyStart};
use super::{AckSample, WINDOW_MAX, WINDOW_PACKETS_MIN, WINDOW_PACKETS_START};
use crate::time::{Duration, Instant};

/// What is left of the window after a loss (RFC 9438 4.6).
const BETA: f64 = 0.7;
/// How steep the curve is, in packets a cubic second (RFC 9438 5).
const C: f64 = 0.4;
/// Growth, in packets a round trip, at which the old rule with [`BETA`] is as fast as the old
/// rule with one half (RFC 9438 4.3).
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// The controller. Windows are bytes; fractions of a byte count, hence floating point.
#[derive(Clone, Debug)]
pub(in super::super) struct Cubic {
    window: f64,
    /// Below it slow start, from it on the curve.
    slow_start_threshold: f64,
    /// The window before the last cut, less what fast convergence gives away.
    window_max: f64,
    /// The window before the last cut.
    window_prior: f64,
    epoch: Option<Epoch>,
    datagram_len: f64,
    hystart: HyStart,
    last_ack: Instant,
}

/// The curve since the last cut.
#[derive(Clone, Debug)]
struct Epoch {
    start: Instant,
    /// Seconds from the start until the curve is back at its origin.
    k: f64,
    origin: f64,
    /// What the old rule's window would be.
    estimate: f64,
}

impl Cubic {
    pub(super) fn new(datagram_len: u64) -> Self {
        let datagram_len = datagram_len as f64;
        Self {
            window: WINDOW_PACKETS_START as f64 * datagram_len,
            slow_start_threshold: f64::INFINITY,
            window_max: 0.0,
            window_prior: 0.0,
            epoch: None,
            datagram_len,
            hystart: HyStart::new(),
            last_ack: Instant::ZERO,
        }
    }

    pub(super) fn on_ack(&mut self, sample: AckSample) {
        let since_last = sample.now.saturating_since(self.last_ack);
        self.last_ack = sample.now;
        if self.in_slow_start() {
            let growth = self.hystart.on_ack(sample.bytes, sample.largest, sample.next, sample.rtt);
            match growth {
                Growth::Leave => self.slow_start_threshold = self.window,
                Growth::Grow(bytes) => self.grow_to(self.window + bytes as f64),
            }
        } else if sample.bytes == 0 {
            // The application sent too little to fill the window: the curve stands still
            // (RFC 9438 5.8).
            if let Some(epoch) = &mut self.epoch {
                epoch.start += since_last;
            }
        } else {
            self.follow_curve(sample);
        }
    }

    pub(super) fn on_congestion(&mut self) {
        self.window_prior = self.window;
        // Fast convergence (RFC 9438 4.7): the path had less room than the last time, so leave
        // some to whoever came.
        self.window_max = if self.window < self.window_max {
            self.window * (1.0 + BETA) / 2.0
        } else {
            self.window
        };
        self.window = (self.window * BETA).max(self.window_min());
        self.slow_start_threshold = self.window;
        self.epoch = None;
    }

    pub(super) fn on_persistent_congestion(&mut self) {
        self.window = self.window_min();
        self.epoch = None;
        self.hystart = HyStart::new();
    }

    pub(super) fn on_idle(&mut self) {
        let start = WINDOW_PACKETS_START as f64 * self.datagram_len;
        if self.window > start {
            self.slow_start_threshold = self.slow_start_threshold.max(self.window);
            self.window = start;
            self.hystart = HyStart::new();
        }
        self.epoch = None;
    }

    pub(super) fn on_datagram_len(&mut self, datagram_len: u64) {
        self.datagram_len = datagram_len as f64;
        self.window = self.window.max(self.window_min());
    }

    #[expect(clippy::cast_possible_truncation, reason = "a window is at most WINDOW_MAX")]
    pub(super) fn window(&self) -> u64 {
        self.window as u64
    }

    pub(super) fn in_slow_start(&self) -> bool {
        self.window < self.slow_start_threshold
    }

    fn follow_curve(&mut self, sample: AckSample) {
        let datagram_len = self.datagram_len;
        let epoch = self.epoch.get_or_insert_with(|| {
            let below = ((self.window_max - self.window) / datagram_len).max(0.0);
            Epoch {
                start: sample.now,
                k: (below / C).cbrt(),
                origin: self.window_max.max(self.window),
                estimate: self.window,
            }
        });
        let curve = |since: Duration| {
            let distance = since.as_secs_f64() - epoch.k;
            epoch.origin + C * distance * distance * distance * datagram_len
        };
        let since = sample.now.saturating_since(epoch.start);
        let acked_share = sample.bytes as f64 / self.window;
        let (here, ahead) = (curve(since), curve(since + sample.smoothed));

        let alpha = if epoch.estimate >= self.window_prior { 1.0 } else { ALPHA };
        epoch.estimate =
            (epoch.estimate + alpha * datagram_len * acked_share).min(WINDOW_MAX as f64);
        let window = if here < epoch.estimate {
            self.window.max(epoch.estimate)
        } else {
            let target = ahead.clamp(self.window, self.window * 1.5);
            self.window + (target - self.window) * acked_share.min(1.0)
        };
        self.grow_to(window);
    }

    fn grow_to(&mut self, window: f64) {
        self.window = window.min(WINDOW_MAX as f64);
    }

    fn window_min(&self) -> f64 {
        WINDOW_PACKETS_MIN as f64 * self.datagram_len
    }
}
