//! The estimate of a round trip against the formulas of RFC 9002 section 5 on numbers with 32
//! binary places, in the order of PROTOCOL 5.8 to 5.10.
//!
//! The first two bytes are what is assumed before there is a sample; every four after them are one
//! operation: what it is, a number of 16 bits, and how far that is shifted.

#![no_main]

use libfuzzer_sys::fuzz_target;
use raet::protocol::session::recovery::Rtt;
use raet::time::{Duration, Instant};

const OPERATIONS_MAX: usize = 1_024;
/// A nanosecond.
const ONE: u128 = 1 << 32;
/// Nanoseconds by which an estimate in whole ones may be off. The average loses less than two at
/// each step, and 7/8 of what it lost before stays: 2 × 8. The variation loses two and a quarter
/// of 16, and 3/4 stays: 6 × 4.
const SMOOTHED_OFF: u128 = 16 * ONE;
const VARIATION_OFF: u128 = 24 * ONE;

fuzz_target!(|data: &[u8]| {
    let Some((&[low, high], script)) = data.split_first_chunk() else { return };
    let initial = u64::from(u16::from_le_bytes([low, high])) << 14;
    let mut rtt = Rtt::new(Duration::from_nanos(initial));
    let mut twin = Twin::new(initial);
    for (turn, &[op, a, b, c]) in script.as_chunks().0.iter().take(OPERATIONS_MAX).enumerate() {
        let (number, scale) = (u64::from(u16::from_le_bytes([a, b])), c % 40);
        let time = number << scale;
        // Near what is measured, or anything at all.
        let time = if op & 0x80 == 0 { time } else { twin.latest.saturating_add(number >> 8) };
        match op % 16 {
            12 => {
                rtt.on_handshake(Duration::from_nanos(time));
                twin.on_handshake(time);
            }
            13 => {
                rtt.forget_min();
                twin.min = None;
            }
            // It is known anew from samples.
            14 if twin.first_sample.is_some() => {
                rtt.renew_min(Duration::from_nanos(time));
                twin.min = Some(time);
            }
            15 => {
                rtt = Rtt::new(Duration::from_nanos(time));
                twin = Twin::new(time);
            }
            _ => {
                let now = Instant::from_nanos(turn as u64);
                let delay = match op % 4 {
                    0 => 0,
                    1 => time / 256 * u64::from(op),
                    2 => time.saturating_sub(twin.min.unwrap_or(0)),
                    _ => u64::from(op) << scale,
                };
                rtt.on_sample(now, Duration::from_nanos(time), Duration::from_nanos(delay));
                twin.on_sample(now, time, delay);
            }
        }
        twin.check(&rtt);
    }
});

/// Times in nanoseconds, and averages in parts of them.
struct Twin {
    latest: u64,
    /// The smallest sample; `None`: the next one will be.
    min: Option<u64>,
    smoothed: u128,
    variation: u128,
    first_sample: Option<Instant>,
}

impl Twin {
    fn new(initial: u64) -> Self {
        let smoothed = u128::from(initial) * ONE;
        let (variation, first_sample) = (smoothed / 2, None);
        Self { latest: initial, min: Some(initial), smoothed, variation, first_sample }
    }

    /// What was assumed gives way to a longer round trip, until one is measured.
    fn on_handshake(&mut self, round_trip: u64) {
        if self.first_sample.is_none() && u128::from(round_trip) * ONE > self.smoothed {
            *self = Self::new(round_trip);
        }
    }

    fn on_sample(&mut self, now: Instant, latest: u64, delay: u64) {
        self.latest = latest;
        if self.first_sample.is_none() {
            self.first_sample = Some(now);
            self.min = Some(latest);
            self.smoothed = u128::from(latest) * ONE;
            self.variation = self.smoothed / 2;
            return;
        }
        let min = self.min.map_or(latest, |min| min.min(latest));
        self.min = Some(min);
        let (latest, delay) = (u128::from(latest), u128::from(delay));
        let adjusted = if latest >= u128::from(min) + delay { latest - delay } else { latest };
        let adjusted = adjusted * ONE;
        self.variation = (3 * self.variation + self.smoothed.abs_diff(adjusted)) / 4;
        self.smoothed = (7 * self.smoothed + adjusted) / 8;
    }

    fn check(&self, rtt: &Rtt) {
        let parts = |time: Duration| u128::from(time.as_nanos()) * ONE;
        let (smoothed, variation) = (parts(rtt.smoothed()), parts(rtt.variation()));
        assert!(smoothed.abs_diff(self.smoothed) <= SMOOTHED_OFF, "{rtt:?}");
        assert!(variation.abs_diff(self.variation) <= VARIATION_OFF, "{rtt:?}");
        assert_eq!(rtt.latest().as_nanos(), self.latest);
        assert_eq!(rtt.min(), self.min.map_or(rtt.smoothed(), Duration::from_nanos));
        assert_eq!(rtt.first_sample(), self.first_sample);
    }
}
