//! What a shard does while there is nothing to do.

use crate::limits::{BACKOFF_SPIN, BACKOFF_YIELD, REST_MAX};
use crate::time::{Duration, Instant};

/// How a shard waits. Spinning answers soonest and burns a core; parking answers latest and
/// costs nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Idle {
    /// Spin for a while after work, then yield, then park.
    #[default]
    Backoff,
    /// Sleep in the kernel until something happens.
    Park,
    /// Never sleep.
    Spin,
    /// Give the core to others between turns, but never sleep.
    Yield,
}

/// An idle strategy with its memory of the last work.
#[derive(Debug)]
pub(super) struct Rest {
    idle: Idle,
    last_busy: Instant,
}

impl Rest {
    pub(super) fn new(idle: Idle) -> Self {
        Self { idle, last_busy: Instant::ZERO }
    }

    /// Notes whether the turn at `now` found work.
    pub(super) fn note(&mut self, now: Instant, is_busy: bool) {
        if is_busy {
            self.last_busy = now;
        }
    }

    /// Until when the next wait may sleep, at most.
    pub(super) fn longest(&self, now: Instant) -> Option<Instant> {
        let quiet = now.saturating_since(self.last_busy);
        let sleep = match self.idle {
            Idle::Park if quiet > Duration::ZERO => REST_MAX,
            Idle::Backoff if quiet > BACKOFF_SPIN + BACKOFF_YIELD => REST_MAX,
            Idle::Backoff if quiet > BACKOFF_SPIN => {
                std::thread::yield_now();
                Duration::ZERO
            }
            Idle::Yield if quiet > Duration::ZERO => {
                std::thread::yield_now();
                Duration::ZERO
            }
            Idle::Backoff | Idle::Park | Idle::Spin | Idle::Yield => {
                std::hint::spin_loop();
                Duration::ZERO
            }
        };
        Some(now + sleep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_strategy_sleeps_only_when_it_may() {
        let busy = Instant::from_nanos(1_000);
        let soon = busy + Duration::from_nanos(1);
        let late = busy + BACKOFF_SPIN + BACKOFF_YIELD + Duration::from_nanos(1);
        for (idle, sleeps_soon, sleeps_late) in [
            (Idle::Spin, false, false),
            (Idle::Yield, false, false),
            (Idle::Backoff, false, true),
            (Idle::Park, true, true),
        ] {
            let mut rest = Rest::new(idle);
            rest.note(busy, true);
            assert_eq!(rest.longest(busy), Some(busy), "{idle:?} goes round once more after work");
            assert_eq!(rest.longest(soon) > Some(soon), sleeps_soon, "{idle:?}");
            assert_eq!(rest.longest(late) > Some(late), sleeps_late, "{idle:?}");
        }
    }
}
