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

#[cfg(test)]
mod tests {
    use super::super::new_reno::NewReno;
    use super::*;
    use proptest::prelude::*;

    const DATAGRAM: u64 = 1_000;

    /// One round trip in which the whole window is acknowledged in `acks` acknowledgements.
    fn round(cubic: &mut Cubic, now: &mut Instant, rtt: Duration, acks: u64) {
        let window = cubic.window();
        for _ in 0..acks {
            *now += rtt.mul_ratio(1, u32::try_from(acks).expect("few"));
            cubic.on_ack(sample(*now, window / acks, rtt));
        }
    }

    fn sample(now: Instant, bytes: u64, rtt: Duration) -> AckSample {
        AckSample { now, bytes, largest: 0, next: 0, rtt: None, smoothed: rtt }
    }

    fn cut_at(packets: u64) -> Cubic {
        let mut cubic = Cubic::new(DATAGRAM);
        cubic.window = (packets * DATAGRAM) as f64;
        cubic.on_congestion();
        cubic
    }

    // PROTOCOL 5.16
    #[test]
    fn slow_start_doubles_each_round() {
        let mut cubic = Cubic::new(DATAGRAM);
        let mut now = Instant::ZERO;
        for expected in [10_000, 20_000, 40_000, 80_000] {
            assert_eq!(cubic.window(), expected);
            round(&mut cubic, &mut now, Duration::from_millis(10), 10);
        }
    }

    // PROTOCOL 5.17
    #[test]
    fn a_cut_leaves_seven_tenths_and_never_less_than_two_datagrams() {
        assert_eq!(cut_at(100).window(), 70_000);
        let mut cubic = cut_at(3);
        for _ in 0..10 {
            cubic.on_congestion();
        }
        assert_eq!(cubic.window(), 2_000);
    }

    // RFC 9438 4.2: K = cbrt(30 / 0.4) = 4.217 s for a window of 100 packets.
    #[test]
    fn window_returns_to_the_old_maximum_after_k_seconds() {
        let rtt = Duration::from_millis(200);
        let (mut cubic, mut now) = (cut_at(100), Instant::ZERO);
        let mut rounds = 0;
        while cubic.window() < 99_500 {
            round(&mut cubic, &mut now, rtt, 10);
            rounds += 1;
            assert!(rounds < 30);
        }
        let seconds = f64::from(rounds) * 0.2;
        assert!((3.0..5.0).contains(&seconds), "{seconds}");
        for _ in 0..50 {
            round(&mut cubic, &mut now, rtt, 10);
        }
        assert!(cubic.window() > 150_000, "convex again: {}", cubic.window());
    }

    // RFC 9438 4.7
    #[test]
    fn fast_convergence_gives_room_away() {
        let mut cubic = cut_at(100);
        cubic.on_congestion();
        assert!((cubic.window_max - 70_000.0 * 0.85).abs() < 1.0);
    }

    // PROTOCOL 5.21, RFC 9438 5.8
    #[test]
    fn curve_stands_still_while_the_window_is_not_used() {
        let rtt = Duration::from_millis(50);
        let (mut busy, mut idle) = (cut_at(100), cut_at(100));
        let (mut busy_now, mut idle_now) = (Instant::ZERO, Instant::ZERO);
        for _ in 0..10 {
            round(&mut busy, &mut busy_now, rtt, 10);
            round(&mut idle, &mut idle_now, rtt, 10);
        }
        for _ in 0..1_000 {
            idle_now += rtt;
            idle.on_ack(sample(idle_now, 0, rtt));
        }
        for _ in 0..10 {
            round(&mut busy, &mut busy_now, rtt, 10);
            round(&mut idle, &mut idle_now, rtt, 10);
        }
        assert!(idle.window().abs_diff(busy.window()) < DATAGRAM);
    }

    // PROTOCOL 5.21
    #[test]
    fn idleness_takes_the_window_back_to_the_start() {
        let mut cubic = cut_at(100);
        cubic.on_idle();
        assert_eq!(cubic.window(), 10_000);
        assert!(cubic.in_slow_start(), "back to where it was, quickly");
        let mut small = cut_at(5);
        small.on_idle();
        assert_eq!(small.window(), 3_500);
    }

    proptest! {
        // The estimate of the old rule in RFC 9438 4.3 has NewReno's average, with a flatter
        // sawtooth: at the tops it may be below NewReno, by (1 + 1/2)/2 against (1 + 0.7)/2.
        #[test]
        fn never_much_below_new_reno(
            losses in prop::collection::vec(1u32..120, 1..30),
            rtt in 1u64..300,
        ) {
            let rtt = Duration::from_millis(rtt);
            let mut cubic = cut_at(60);
            let mut reno = NewReno::new(DATAGRAM);
            while reno.window() < 60 * DATAGRAM {
                reno.on_ack(sample(Instant::ZERO, DATAGRAM, rtt));
            }
            reno.on_congestion();
            let mut now = Instant::ZERO;
            for rounds in losses {
                for _ in 0..rounds {
                    let window = reno.window();
                    round(&mut cubic, &mut now, rtt, 4);
                    reno.on_ack(sample(now, window, rtt));
                    let share = cubic.window() as f64 / reno.window() as f64;
                    prop_assert!(share > 0.8, "{share} of {}", reno.window());
                }
                cubic.on_congestion();
                reno.on_congestion();
            }
        }

        #[test]
        fn cc_ops_never_panic_and_stay_within_bounds(
            ops in prop::collection::vec((0u8..8, any::<u32>(), any::<u64>()), 0..300),
        ) {
            let mut cubic = Cubic::new(DATAGRAM);
            let (mut now, mut len) = (Instant::ZERO, DATAGRAM);
            for (op, value, other) in ops {
                match op {
                    0 => cubic.on_congestion(),
                    1 => cubic.on_persistent_congestion(),
                    2 => cubic.on_idle(),
                    3 => {
                        len = u64::from(value % 64_000) + 1_200;
                        cubic.on_datagram_len(len);
                    }
                    _ => {
                        now += Duration::from_nanos(other >> 24);
                        let rtt = Duration::from_nanos(other >> 20);
                        cubic.on_ack(AckSample {
                            now,
                            bytes: u64::from(value),
                            largest: other >> 32,
                            next: other >> 31,
                            rtt: (value & 1 == 0).then_some(rtt),
                            smoothed: rtt,
                        });
                    }
                }
                prop_assert!(cubic.window() >= 2 * len && cubic.window() <= WINDOW_MAX);
            }
        }
    }
}
