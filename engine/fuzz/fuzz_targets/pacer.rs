//! A pacer under sends, trains, probes, waits and new rates, against a bucket that counts
//! billionths of a byte, and against the law itself: in no stretch of time more than a bucket and
//! what the rate earned in it, and nobody waits longer than a quantum takes (PROTOCOL 5.20).
//!
//! Every four bytes are one operation: what it is, and three numbers for it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use raet::limits::FIXED_RATE_RANGE;
use raet::protocol::session::recovery::Pacer;
use raet::time::{Duration, Instant};

/// Each send is compared with all before it.
const OPERATIONS_MAX: usize = 256;
/// Parts of a byte: what a rate of one byte a second earns in a second of nanoseconds.
const PARTS: u128 = 1_000_000_000;
/// Packets of a train, which leave one by one here.
const TRAIN_PACKETS_MAX: u64 = 1_000;
const MILLISECOND: u128 = 1_000_000;
/// So late that the time in which the smallest rate earns a byte is no time before the clock's.
const START: Instant = Instant::from_nanos(1 << 32);
/// Later than any session, and far from the end of the clock.
const END: Instant = Instant::from_nanos(1 << 62);

fuzz_target!(|data: &[u8]| {
    let mut world = World { pacer: Pacer::new(), now: START, bucket: None, sends: vec![] };
    for &[op, a, b, c] in data.as_chunks().0.iter().take(OPERATIONS_MAX) {
        let number = u64::from(u16::from_le_bytes([a, b]));
        match op % 8 {
            0 | 1 => world.wait(Duration::from_nanos(number << (c % 32))),
            2 => world.set_rate(number << (c % 32), 500 + (u64::from(op) << 8 | u64::from(a))),
            3 | 4 => world.send(number << (c % 16)),
            5 => world.send_train(number << (c % 16), u64::from(c) * 8 + 1),
            6 => world.send_probe(number),
            _ => world.wait_for(1 + (number << (c % 16))),
        }
        world.check(1 + (number << (c % 16)));
    }
});

struct World {
    pacer: Pacer,
    now: Instant,
    /// There is none until a rate is known.
    bucket: Option<Bucket>,
    sends: Vec<Send>,
}

/// What the pacer let go at once.
struct Send {
    bytes: u128,
    /// Parts that a bucket held at most just before, and that the rates earned until then.
    held_max: u128,
    earned: u128,
}

/// What a bucket holds, in parts: no less than `least` and no more than `most`. They differ by what
/// a pacer that counts whole bytes and whole nanoseconds may round.
struct Bucket {
    rate: u128,
    datagram_len: u128,
    least: u128,
    most: u128,
    /// What the rates earned since there is a bucket.
    earned: u128,
    /// Until when it was filled, and when the pacer rounded last.
    filled: Instant,
    rounded: Option<Instant>,
}

impl Bucket {
    /// Bytes of the smallest train: 1 ms of rate, at least 2 datagrams, at most 64 or 64 KiB.
    fn quantum(&self) -> u128 {
        let most = (64 * self.datagram_len).min(65_536);
        (self.rate * MILLISECOND / PARTS).min(most).max(2 * self.datagram_len)
    }

    /// Bytes of the longest: 2 ms of rate, a quantum, or 10 datagrams within 10 ms of rate.
    fn capacity(&self) -> u128 {
        let burst = (10 * self.datagram_len).min(10 * self.rate * MILLISECOND / PARTS);
        (2 * self.rate * MILLISECOND / PARTS).max(self.quantum()).max(burst)
    }

    fn fill(&mut self, now: Instant) {
        let earned = self.rate * u128::from(now.saturating_since(self.filled).as_nanos());
        self.earned += earned;
        self.least += earned;
        self.most += earned;
        self.filled = now;
        self.clip();
    }

    fn clip(&mut self) {
        self.least = self.least.min(self.capacity() * PARTS);
        self.most = self.most.min(self.capacity() * PARTS);
    }

    /// The pacer turned time into whole bytes: less than a nanosecond of it is gone.
    fn round(&mut self, now: Instant) {
        if self.rounded != Some(now) {
            self.least = self.least.saturating_sub(self.rate);
            self.rounded = Some(now);
        }
    }

    fn take(&mut self, bytes: u64) {
        let parts = u128::from(bytes) * PARTS;
        // A bucket that holds less is empty then, but for the part of a byte.
        let rest = if self.least < parts { PARTS - 1 } else { 0 };
        self.most = self.most.saturating_sub(parts).max(rest);
        self.least = self.least.saturating_sub(parts);
    }
}

impl World {
    fn wait(&mut self, time: Duration) {
        self.now = (self.now + time).min(END);
        if let Some(bucket) = &mut self.bucket {
            bucket.fill(self.now);
        }
    }

    /// Waits until the pacer says that something may go.
    fn wait_for(&mut self, wanted: u64) {
        if let Some(release) = self.pacer.next_release(self.now, wanted) {
            self.wait(release.saturating_since(self.now));
        }
    }

    fn set_rate(&mut self, rate: u64, datagram_len: u64) {
        self.pacer.on_rate(self.now, rate, datagram_len);
        let rate = u128::from(rate.clamp(1, *FIXED_RATE_RANGE.end()));
        let datagram_len = datagram_len.into();
        let Some(bucket) = &mut self.bucket else {
            let (filled, rounded) = (self.now, None);
            let mut bucket =
                Bucket { rate, datagram_len, least: 0, most: 0, earned: 0, filled, rounded };
            bucket.least = bucket.capacity() * PARTS;
            bucket.most = bucket.least;
            self.bucket = Some(bucket);
            return;
        };
        bucket.round(self.now);
        // The part of a byte that is left over is kept as whole nanoseconds of the new rate.
        bucket.least = bucket.least.saturating_sub(rate);
        (bucket.rate, bucket.datagram_len, bucket.rounded) = (rate, datagram_len, None);
        bucket.clip();
    }

    fn send(&mut self, wanted: u64) {
        let bytes = self.pacer.available(self.now, wanted);
        assert!(bytes <= wanted);
        self.take(bytes);
        self.note_sent(bytes);
    }

    /// Packets of `len` bytes, one by one, as many as the pacer's count for a train has.
    fn send_train(&mut self, wanted: u64, len: u64) {
        let len = match &self.bucket {
            Some(bucket) => len.min(u64::try_from(bucket.datagram_len).expect("it was 64 bits")),
            None => return,
        };
        let wanted = wanted.min(TRAIN_PACKETS_MAX * len);
        let packets = self.pacer.train_available(self.now, wanted, len) / len;
        let (mut left, mut sent) = (wanted, 0);
        while self.pacer.available(self.now, left) >= len {
            self.take(len);
            (left, sent) = (left - len, sent + 1);
            assert!(sent <= packets, "a train is longer than its count");
        }
        assert_eq!(sent, packets, "a train is shorter than its count");
        self.note_sent(wanted - left);
    }

    /// A probe does not ask.
    fn send_probe(&mut self, bytes: u64) {
        self.take(bytes);
    }

    fn take(&mut self, bytes: u64) {
        self.pacer.on_sent(self.now, bytes);
        if let Some(bucket) = &mut self.bucket {
            bucket.round(self.now);
            bucket.take(bytes);
        }
    }

    /// What went since any earlier moment is what a bucket held then and the rates earned since.
    fn note_sent(&mut self, bytes: u64) {
        let Some(bucket) = &self.bucket else { return };
        let (held_max, earned) = (bucket.capacity() * PARTS, bucket.earned);
        self.sends.push(Send { bytes: bytes.into(), held_max, earned });
        let mut sent = 0;
        for send in self.sends.iter().rev() {
            sent += send.bytes;
            assert!(sent * PARTS <= send.held_max + earned - send.earned, "faster than the law");
        }
    }

    fn check(&self, wanted: u64) {
        let available = u128::from(self.pacer.available(self.now, wanted));
        let release = self.pacer.next_release(self.now, wanted);
        let Some(bucket) = &self.bucket else {
            assert_eq!((available, release), (wanted.into(), None), "no rate holds nothing up");
            return;
        };
        let needed = bucket.quantum().min(wanted.into());
        let (least, most) = (bucket.least / PARTS, bucket.most / PARTS);
        assert!(least <= most);
        if available > 0 {
            assert!(available >= needed, "{available} is no quantum of {needed}");
            assert!(available <= most, "{available} of {most}");
            assert!(available >= least.min(wanted.into()), "{available} of {least}");
            assert_eq!(release, None, "what may go waits for nothing");
            return;
        }
        assert!(least < needed, "{least} are there, {needed} would do");
        let release = release.expect("nothing may go, so it waits");
        assert!(release > self.now);
        let wait = u128::from(release.saturating_since(self.now).as_nanos());
        assert!(bucket.most + bucket.rate * wait >= needed * PARTS, "released too soon");
        assert!(bucket.least + bucket.rate * (wait - 1) < needed * PARTS, "released too late");
        assert!(u128::from(self.pacer.available(release, wanted)) >= needed);
        assert_eq!(self.pacer.available(release - Duration::from_nanos(1), wanted), 0);
    }
}
