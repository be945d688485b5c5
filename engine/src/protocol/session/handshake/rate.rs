//! What strangers may cost us: rates, in all and by address prefix.

use std::net::IpAddr;

use crate::limits::{
    INITIATES_PER_PREFIX_BURST, INITIATES_PER_PREFIX_SECOND, PREFIX_SLOTS,
    REFUSALS_PER_PREFIX_MINUTE, RESETS_PER_PREFIX_SECOND,
};
use crate::protocol::crypto::{self, KEY_LEN};
use crate::protocol::session::trust::Prefix;
use crate::time::{Duration, Instant};

/// A rate with a burst, as one instant: when the burst would be whole again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    whole_at: Instant,
    interval: Duration,
    burst: Duration,
}

impl Rate {
    /// `per_second` on average, and `burst` at once.
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_nanos(1_000_000_000 / u64::from(per_second));
        let burst = interval.saturating_mul(burst.into());
        Self { whole_at: Instant::ZERO, interval, burst }
    }

    /// Whether one more is within the rate.
    pub(super) fn allows(&self, now: Instant) -> bool {
        self.debt(now) + self.interval <= self.burst
    }

    /// Whether more than half of the burst is in use.
    pub(super) fn is_busy(&self, now: Instant) -> bool {
        self.debt(now).saturating_mul(2) > self.burst
    }

    /// Counts one.
    pub(super) fn charge(&mut self, now: Instant) {
        self.whole_at = self.whole_at.max(now) + self.interval;
    }

    /// Counts one if that is within the rate.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let allowed = self.allows(now);
        if allowed {
            self.charge(now);
        }
        allowed
    }

    fn debt(&self, now: Instant) -> Duration {
        self.whole_at.saturating_since(now)
    }
}

/// Rates by address prefix, in a fixed number of slots. Prefixes that fall into one slot share
/// it; which do depends on a secret, so nobody can choose whom to share with.
pub(super) struct PrefixRates {
    key: [u8; KEY_LEN],
    slots: Box<[Slot]>,
}

#[derive(Clone, Copy)]
struct Slot {
    initiates: Rate,
    resets: Rate,
    refusals: u8,
    refusals_since: Instant,
}

impl PrefixRates {
    pub(super) fn new(key: [u8; KEY_LEN]) -> Self {
        let initiates = Rate::new(INITIATES_PER_PREFIX_SECOND, INITIATES_PER_PREFIX_BURST);
        let resets = Rate::new(RESETS_PER_PREFIX_SECOND, 1);
        let slot = Slot { initiates, resets, refusals: 0, refusals_since: Instant::ZERO };
        Self { key, slots: vec![slot; PREFIX_SLOTS].into() }
    }

    /// The prefix's rate of Initiates.
    pub(super) fn initiates(&mut self, from: IpAddr) -> &mut Rate {
        &mut self.slot(from).initiates
    }

    /// The prefix's rate of answers to packets of unknown sessions.
    pub(super) fn resets(&mut self, from: IpAddr) -> &mut Rate {
        &mut self.slot(from).resets
    }

    /// Whether a refusal may still be told to the prefix this minute; counts it if so.
    pub(super) fn may_tell_refusal(&mut self, now: Instant, from: IpAddr) -> bool {
        let slot = self.slot(from);
        if now.saturating_since(slot.refusals_since) >= Duration::from_secs(60) {
            slot.refusals = 0;
            slot.refusals_since = now;
        }
        let may = slot.refusals < REFUSALS_PER_PREFIX_MINUTE;
        slot.refusals += u8::from(may);
        may
    }

    fn slot(&mut self, from: IpAddr) -> &mut Slot {
        let mac = crypto::mac(&self.key, &[&Prefix::of(from).to_bytes()]);
        let index = u64::from_be_bytes(*mac.first_chunk().expect("16 bytes"));
        let index = usize::try_from(index % PREFIX_SLOTS as u64).expect("below the slots");
        &mut self.slots[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(1_000_000 + millis)
    }

    #[test]
    fn rate_allows_its_burst_and_then_its_average() {
        let mut rate = Rate::new(20, 5);
        let taken = (0..10).filter(|_| rate.take(at(0))).count();
        assert_eq!(taken, 5);
        assert!(rate.is_busy(at(0)));
        let taken = (1..=1_000).filter(|&millis| rate.take(at(millis))).count();
        assert_eq!(taken, 20);
        assert!(!rate.is_busy(at(2_000)));
    }

    // PROTOCOL 3.21
    #[test]
    fn fourth_refusal_in_a_minute_is_silence() {
        let mut prefixes = PrefixRates::new([1; 32]);
        let from = "10.0.0.1".parse().expect("an address");
        let told = (0..10).filter(|_| prefixes.may_tell_refusal(at(0), from)).count();
        assert_eq!(told, 3);
        assert!(!prefixes.may_tell_refusal(at(59_999), from));
        assert!(prefixes.may_tell_refusal(at(60_000), from));
    }
}
