//! Spreads a window over its round trip: a token bucket that releases whole quanta.
//!
//! Sending a window at once fills the queues of the path and empties them again. Sending single
//! packets on a clock costs a timer and a system call each. The middle is a quantum, about one
//! GSO train: the bucket says "nothing" until it holds one, then lets the train go
//! (TRANSPORT 3.4; RFC 9002 7.7). The bucket holds 2 ms of rate, so where the round trip is
//! shorter than that, as on loopback, the window alone decides and pacing never holds a train up.

use crate::limits::{FIXED_RATE_RANGE, PACING_QUANTUM_LEN_MAX, PACING_QUANTUM_PACKETS_MAX};
use crate::time::{Duration, Instant};

/// How much rate the bucket holds.
const BUCKET: Duration = Duration::from_millis(2);
/// How much rate the bucket may hold so that ten packets fit in it.
const BUCKET_MAX: Duration = Duration::from_millis(10);
/// How much rate a quantum is.
const QUANTUM: Duration = Duration::from_millis(1);
/// Packets that may leave together if that is no more than [`BUCKET_MAX`] of rate.
const BURST_PACKETS: u64 = 10;
/// Packets of a quantum at least.
const QUANTUM_PACKETS_MIN: u64 = 2;
/// A bound on the rate, so that products of rate and time stay within 64 bits.
const RATE_MAX: u64 = *FIXED_RATE_RANGE.end();
const NANOS_PER_SECOND: u64 = 1_000_000_000;

const _: () = assert!(RATE_MAX.checked_mul(BUCKET_MAX.as_nanos()).is_some());

/// The bucket. Unset until a rate is known: before the first round trip the initial window is the
/// only bound, as RFC 9002 7.7 allows.
#[derive(Debug, Default)]
pub struct Pacer {
    rate: Option<u64>,
    tokens: u64,
    capacity: u64,
    quantum: u64,
    /// Until when tokens were counted.
    counted: Instant,
}

impl Pacer {
    /// A pacer that holds nothing up.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the rate in bytes a second, from `now` on.
    pub fn on_rate(&mut self, now: Instant, rate: u64, datagram_len: u64) {
        let rate = rate.clamp(1, RATE_MAX);
        if let Some(before) = self.rate {
            self.refill(now);
            // The part of a byte that is left over was earned at the rate before.
            let part = now.saturating_since(self.counted).as_nanos() * before;
            self.counted = now - Duration::from_nanos(part / rate);
        }
        let burst = amount(rate, BUCKET_MAX).min(BURST_PACKETS * datagram_len);
        let floor = QUANTUM_PACKETS_MIN * datagram_len;
        let train = PACING_QUANTUM_PACKETS_MAX * datagram_len;
        let ceiling = train.min(PACING_QUANTUM_LEN_MAX).max(floor);
        self.quantum = amount(rate, QUANTUM).clamp(floor, ceiling);
        self.capacity = amount(rate, BUCKET).max(burst).max(self.quantum);
        if self.rate.is_none() {
            self.tokens = self.capacity;
            self.counted = now;
        }
        self.tokens = self.tokens.min(self.capacity);
        self.rate = Some(rate);
    }

    /// Takes `bytes` out. A probe may take more than there is: the bucket is then empty.
    pub fn on_sent(&mut self, now: Instant, bytes: u64) {
        if self.rate.is_some() {
            self.refill(now);
            self.tokens = self.tokens.saturating_sub(bytes);
        }
    }

    /// Bytes that may go now, of `wanted`: none until a quantum, or all that is wanted, is there.
    pub fn available(&self, now: Instant, wanted: u64) -> u64 {
        let Some(rate) = self.rate else { return wanted };
        let tokens = self.tokens_at(now, rate).0;
        if tokens < wanted.min(self.quantum) { 0 } else { tokens.min(wanted) }
    }

    /// A count from which the bytes of each packet that goes now are taken: as long as `packet`, the
    /// longest one, is left of it, [`Pacer::available`] would let the next one go, of `wanted`.
    pub fn train_available(&self, now: Instant, wanted: u64, packet: u64) -> u64 {
        let Some(rate) = self.rate else { return wanted };
        let tokens = self.tokens_at(now, rate).0;
        if tokens >= wanted { wanted } else { (tokens + packet).saturating_sub(self.quantum) }
    }

    /// When [`Pacer::available`] stops answering zero, if it does now and `wanted` is not zero.
    pub fn next_release(&self, now: Instant, wanted: u64) -> Option<Instant> {
        let rate = self.rate?;
        let missing = wanted.min(self.quantum).checked_sub(self.tokens)?;
        // A quantum is at most 64 KiB or two datagrams: the product stays within 64 bits.
        let wait = (missing * NANOS_PER_SECOND).div_ceil(rate);
        Some(self.counted + Duration::from_nanos(wait)).filter(|&release| release > now)
    }

    fn refill(&mut self, now: Instant) {
        // All packets of a turn share one `now`: only the first of them pays for the arithmetic.
        if now > self.counted
            && let Some(rate) = self.rate
        {
            (self.tokens, self.counted) = self.tokens_at(now, rate);
        }
    }

    /// The tokens at `now`, and the instant up to which those are counted: the part of a byte that
    /// is left over stays to be counted the next time.
    fn tokens_at(&self, now: Instant, rate: u64) -> (u64, Instant) {
        let elapsed = now.saturating_since(self.counted);
        if elapsed == Duration::ZERO {
            return (self.tokens, self.counted);
        }
        let gained = amount(rate, elapsed);
        if self.tokens + gained >= self.capacity {
            return (self.capacity, now);
        }
        let time = (u128::from(gained) * u128::from(NANOS_PER_SECOND)).div_ceil(rate.into());
        let time = u64::try_from(time).expect("no more than the elapsed nanoseconds");
        (self.tokens + gained, self.counted + Duration::from_nanos(time))
    }
}

/// Bytes that `rate` (a second) makes in `time`. A short time, the usual case, fits 64 bits.
fn amount(rate: u64, time: Duration) -> u64 {
    if time <= BUCKET_MAX {
        return rate * time.as_nanos() / NANOS_PER_SECOND;
    }
    let bytes = u128::from(rate) * u128::from(time.as_nanos()) / u128::from(NANOS_PER_SECOND);
    u64::try_from(bytes).unwrap_or(u64::MAX / 2).min(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DATAGRAM: u64 = 1_200;
    const PLENTY: u64 = 1 << 30;

    fn at(micros: u64) -> Instant {
        Instant::from_nanos(micros * 1_000)
    }

    // PROTOCOL 5.20
    #[test]
    fn nothing_is_held_up_before_a_rate_is_known() {
        let pacer = Pacer::new();
        assert_eq!(pacer.available(at(0), 12_000), 12_000);
        assert_eq!(pacer.next_release(at(0), 12_000), None);
    }

    // PROTOCOL 5.20
    #[test]
    fn packets_leave_in_quanta_at_the_rate() {
        let mut pacer = Pacer::new();
        // 12 MB/s: a quantum is 12 000 bytes, the bucket 24 000.
        pacer.on_rate(at(0), 12_000_000, DATAGRAM);
        assert_eq!(pacer.available(at(0), PLENTY), 24_000);
        pacer.on_sent(at(0), 24_000);
        assert_eq!(pacer.available(at(999), PLENTY), 0, "not yet a quantum");
        assert_eq!(pacer.next_release(at(0), PLENTY), Some(at(1_000)));
        assert_eq!(pacer.available(at(1_000), PLENTY), 12_000);
        assert_eq!(pacer.next_release(at(1_000), PLENTY), None);
        assert_eq!(pacer.available(at(100), 1_200), 1_200, "a smaller wish waits less");
        assert_eq!(pacer.available(at(50), 1_200), 0);
    }

    // PROTOCOL 5.20
    #[test]
    fn what_a_rate_left_of_a_byte_is_no_more_and_no_less_at_the_next() {
        for (rate, later, bytes) in [(RATE_MAX, 1_900, 1), (1_000, 2_000, 2)] {
            let mut pacer = Pacer::new();
            pacer.on_rate(at(0), 1_000, DATAGRAM);
            pacer.on_sent(at(0), PLENTY);
            // 1.9 bytes were earned.
            pacer.on_rate(at(1_900), rate, DATAGRAM);
            assert_eq!(pacer.available(at(later), bytes), bytes);
            assert_eq!(pacer.available(at(later), bytes + 1), 0, "at {rate} B/s");
        }
    }

    // PROTOCOL 5.20
    #[test]
    fn bucket_and_quantum_follow_the_rate_within_bounds() {
        // (rate, datagram, bucket, quantum)
        let table = [
            (1_000, 1_200, 2_400, 2_400),
            (600_000, 1_200, 6_000, 2_400),
            (3_000_000, 1_200, 12_000, 3_000),
            (1_000_000_000, 1_200, 2_000_000, 65_536),
            (1_000_000_000, 65_507, 2_000_000, 131_014),
            (u64::MAX, 500, 2_000_000_000, 32_000),
        ];
        for (rate, datagram_len, bucket, quantum) in table {
            let mut pacer = Pacer::new();
            pacer.on_rate(at(0), rate, datagram_len);
            assert_eq!((pacer.capacity, pacer.quantum), (bucket, quantum), "at {rate}");
        }
    }

    // PROTOCOL 5.20
    #[test]
    fn on_round_trips_shorter_than_the_bucket_the_window_alone_decides() {
        let (window, rtt_micros) = (1 << 20, 100);
        let mut pacer = Pacer::new();
        pacer.on_rate(at(0), window * 5 / 4 * 1_000_000 / rtt_micros, DATAGRAM);
        for turn in 0..1_000 {
            let now = at(turn * rtt_micros);
            assert_eq!(pacer.available(now, window), window);
            pacer.on_sent(now, window);
        }
    }

    proptest! {
        #[test]
        fn never_faster_than_the_rate_and_a_bucket_and_never_starving(
            rate in 1_000u64..2_000_000_000,
            datagram_len in 500u64..9_000,
            waits in prop::collection::vec(0u64..3_000_000, 1..200),
        ) {
            let mut pacer = Pacer::new();
            let mut now = Instant::ZERO;
            pacer.on_rate(now, rate, datagram_len);
            let (mut sent, bucket) = (0u128, u128::from(pacer.capacity));
            for wait in waits {
                now += Duration::from_nanos(wait);
                let available = pacer.available(now, PLENTY);
                match pacer.next_release(now, PLENTY) {
                    Some(release) => {
                        prop_assert_eq!(available, 0);
                        prop_assert!(release > now);
                        prop_assert!(pacer.available(release, PLENTY) >= pacer.quantum);
                    }
                    None => prop_assert!(available >= pacer.quantum),
                }
                pacer.on_sent(now, available);
                sent += u128::from(available);
                let earned = u128::from(rate) * u128::from(now.as_nanos()) / 1_000_000_000;
                prop_assert!(sent <= earned + bucket);
            }
        }

        #[test]
        fn short_turns_lose_nothing(rate in 10_000u64..10_000_000, turn in 200u64..5_000) {
            let mut pacer = Pacer::new();
            pacer.on_rate(Instant::ZERO, rate, DATAGRAM);
            pacer.on_sent(Instant::ZERO, PLENTY);
            let mut now = Instant::ZERO;
            while pacer.available(now, PLENTY) == 0 {
                now += Duration::from_nanos(turn);
                pacer.on_sent(now, 0);
            }
            let ideal = pacer.quantum * NANOS_PER_SECOND / rate;
            // A refill rounds to the nanosecond, which is one in two hundred of the shortest turn.
            let rounding = ideal / 200 + NANOS_PER_SECOND / rate + 1;
            prop_assert!(now.as_nanos() <= ideal + turn + rounding);
        }
    }

    proptest! {
        // PROTOCOL 5.20
        #[test]
        fn train_has_the_packets_that_would_leave_one_by_one(
            rate in 1_000_u64..1 << 34, wanted in 0_u64..1 << 20, spent in 0_u64..200,
        ) {
            let mut pacer = Pacer::new();
            pacer.on_rate(at(0), rate, DATAGRAM);
            while pacer.available(at(0), PLENTY) > 0 {
                pacer.on_sent(at(0), DATAGRAM);
            }
            let now = at(spent);
            let train = pacer.train_available(now, wanted, DATAGRAM) / DATAGRAM;
            let (mut left, mut packets) = (wanted, 0);
            while pacer.available(now, left) >= DATAGRAM {
                pacer.on_sent(now, DATAGRAM);
                left -= DATAGRAM;
                packets += 1;
            }
            prop_assert_eq!(train, packets);
        }
    }
}
