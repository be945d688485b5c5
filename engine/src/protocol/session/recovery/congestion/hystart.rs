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
