//! HyStart++ (RFC 9406): leave slow start when the round trip grows, before the queue overflows.
//!
//! Slow start doubles the window each round until something is lost, which costs up to a whole
//! window at once. The round trip gives an earlier sign: it grows while the queue fills. Then we
//! go on four times more slowly for a few rounds; if the round trip shrinks again it was noise.

use crate::time::Duration;

/// Round trips must grow by at least this for slow start to end (RFC 9406 4.3).
const GROWTH_MIN: Duration = Duration::from_millis(4);
/// Growth by this ends slow start whatever the round trip is.
const GROWTH_MAX: Duration = Duration::from_millis(16);
/// Between the two: this part of the round trip.
const GROWTH_DIVISOR: u32 = 8;
/// Samples of a round before it is judged.
const SAMPLES_MIN: u32 = 8;
/// How much more slowly conservative slow start grows.
const CONSERVATIVE_DIVISOR: u64 = 4;
/// Rounds of conservative slow start.
const CONSERVATIVE_ROUNDS: u32 = 5;

/// What slow start does with an acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Growth {
    /// Slow start is over.
    Leave,
    /// Grow by this many bytes.
    Grow(u64),
}

/// The state of slow start.
#[derive(Clone, Debug)]
pub(super) struct HyStart {
    /// The round ends when this number is acknowledged.
    round_end: u64,
    round_min: Duration,
    last_round_min: Duration,
    samples: u32,
    conservative: Option<Conservative>,
}

#[derive(Clone, Debug)]
struct Conservative {
    baseline: Duration,
    rounds: u32,
}

impl HyStart {
    pub(super) fn new() -> Self {
        Self {
            round_end: 0,
            round_min: Duration::MAX,
            last_round_min: Duration::MAX,
            samples: 0,
            conservative: None,
        }
    }

    /// Judges one acknowledgement of `bytes`.
    pub(super) fn on_ack(
        &mut self,
        bytes: u64,
        largest: u64,
        next: u64,
        rtt: Option<Duration>,
    ) -> Growth {
        let round_over = largest >= self.round_end;
        if round_over {
            self.round_end = next;
            self.last_round_min = self.round_min;
            self.round_min = Duration::MAX;
            self.samples = 0;
        }
        if let Some(rtt) = rtt {
            self.round_min = self.round_min.min(rtt);
            self.samples = self.samples.saturating_add(1);
        }
        let judged = self.samples >= SAMPLES_MIN;
        match &mut self.conservative {
            None => {
                let known = self.last_round_min != Duration::MAX;
                let threshold =
                    self.last_round_min.mul_ratio(1, GROWTH_DIVISOR).clamp(GROWTH_MIN, GROWTH_MAX);
                if judged && known && self.round_min >= self.last_round_min + threshold {
                    self.conservative = Some(Conservative { baseline: self.round_min, rounds: 0 });
                }
                Growth::Grow(bytes)
            }
            Some(conservative) => {
                if judged && self.round_min < conservative.baseline {
                    self.conservative = None;
                    return Growth::Grow(bytes);
                }
                conservative.rounds += u32::from(round_over);
                if conservative.rounds >= CONSERVATIVE_ROUNDS {
                    return Growth::Leave;
                }
                Growth::Grow(bytes / CONSERVATIVE_DIVISOR)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a round of `samples` acknowledgements at one round trip; the last growth.
    fn round(start: &mut HyStart, number: &mut u64, rtt: Duration, samples: u64) -> Growth {
        let mut growth = Growth::Grow(0);
        for _ in 0..samples {
            *number += 1;
            growth = start.on_ack(1_000, *number, *number + samples, Some(rtt));
            if growth == Growth::Leave {
                break;
            }
        }
        growth
    }

    // PROTOCOL 5.16
    #[test]
    fn growing_round_trip_slows_down_then_ends_slow_start() {
        let (mut start, mut number) = (HyStart::new(), 0);
        for _ in 0..5 {
            let growth = round(&mut start, &mut number, Duration::from_millis(40), 20);
            assert_eq!(growth, Growth::Grow(1_000));
        }
        let slow = Duration::from_millis(46);
        round(&mut start, &mut number, slow, 20);
        assert_eq!(round(&mut start, &mut number, slow, 10), Growth::Grow(250));
        let left = (0..6).any(|_| round(&mut start, &mut number, slow, 20) == Growth::Leave);
        assert!(left, "five rounds at the longer round trip");
    }

    // PROTOCOL 5.16
    #[test]
    fn a_round_trip_that_shrinks_again_was_noise() {
        let (mut start, mut number) = (HyStart::new(), 0);
        for millis in [40, 40, 46] {
            round(&mut start, &mut number, Duration::from_millis(millis), 20);
        }
        for _ in 0..20 {
            round(&mut start, &mut number, Duration::from_millis(40), 20);
        }
        let growth = round(&mut start, &mut number, Duration::from_millis(40), 20);
        assert_eq!(growth, Growth::Grow(1_000));
    }

    // PROTOCOL 5.16, RFC 9406 4.3: an eighth of the round trip, but at least 4 ms and at most 16.
    #[test]
    fn growth_that_ends_slow_start_is_an_eighth_within_bounds() {
        // (round trip, growth that is none, growth that counts), all in ms
        for (base, noise, growth) in [(8, 3, 4), (80, 9, 10), (400, 15, 16)] {
            for (more, grows) in [(noise, 1_000), (growth, 250)] {
                let (mut start, mut number) = (HyStart::new(), 0);
                for millis in [base, base, base + more, base + more] {
                    round(&mut start, &mut number, Duration::from_millis(millis), 20);
                }
                let slow = Duration::from_millis(base + more);
                let growth = round(&mut start, &mut number, slow, 10);
                assert_eq!(growth, Growth::Grow(grows), "{base} ms and {more} more");
            }
        }
    }

    #[test]
    fn microseconds_of_jitter_do_not_end_slow_start() {
        let (mut start, mut number) = (HyStart::new(), 0);
        for turn in 0..50 {
            let rtt = Duration::from_micros(if turn % 2 == 0 { 50 } else { 900 });
            assert_eq!(round(&mut start, &mut number, rtt, 20), Growth::Grow(1_000));
        }
    }
}
