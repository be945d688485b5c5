//! The transaction tables alone: insert, acknowledge, duplicate check, with few and many open.
//!
//! A batch of 64 is timed on a table that has 1, 1 000 or 60 000 open already, and undone before
//! the next one; criterion's throughput line divides it into transactions. Should the cost of a
//! transaction grow with the number of those open, this is where it shows.

use std::hint::black_box;
use std::time::{Duration as WallTime, Instant as WallClock};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raet::buffer::Pool;
use raet::limits::{TRANSACTION_RANGES_MAX, TRANSACTIONS_MAX};
use raet::protocol::transaction::{
    Acceptance, Features, Inbox, Outbox, OutboxConfig, Outcome, Priority, SendOptions, features,
};
use raet::protocol::wire::ServiceKind;
use raet::time::{Duration, Instant};

/// Transactions timed together: a full packet's worth and more, so that the clock costs little.
const BATCH: u64 = 64;
const OPEN: [u64; 3] = [1, 1_000, 60_000];
const MESSAGE: [u8; 64] = [7; 64];
/// Bytes of a packet's body at 1400-byte datagrams.
const ROOM: usize = 1_300;
const SERVICE: ServiceKind = ServiceKind::ExactlyOnce;
const NOW: Instant = Instant::from_nanos(1);
const RTT: Duration = Duration::from_micros(100);

/// A sender's table whose packets count from zero.
struct Sender {
    outbox: Outbox,
    pool: Pool,
    sent: u64,
    acked: u64,
}

impl Sender {
    fn with_open(open: u64, bundle: bool) -> Self {
        let config =
            OutboxConfig { window: TRANSACTIONS_MAX, tries: 8, linger: Duration::ZERO, bundle };
        // Unbundled, each message has a buffer of its own, and a peer has four fifths of them at most.
        let (count, room) = if bundle { (8_192, ROOM) } else { (81_920, 2 * MESSAGE.len()) };
        let pool = Pool::new(count, room).expect("memory for the buffers");
        let outbox = Outbox::new(config, u64::MAX, u64::MAX);
        let mut sender = Self { outbox, pool, sent: 0, acked: 0 };
        sender.insert(open);
        sender
    }

    /// Takes `count` messages and has their packets leave.
    fn insert(&mut self, count: u64) {
        for _ in 0..count {
            let room = self.pool.stride();
            let pushed = self.outbox.push(
                NOW,
                &self.pool,
                &SendOptions::new(SERVICE),
                (&MESSAGE).into(),
                room,
            );
            assert_eq!(pushed, Ok(self.sent));
            self.sent += 1;
        }
        while let Some(id) = self.outbox.next(NOW, Priority::Bulk) {
            self.outbox.on_sent(NOW, id, self.sent, RTT);
        }
    }

    /// Has the peer report the oldest `count` as done.
    fn acknowledge(&mut self, count: u64) {
        let range = self.acked..self.acked + count;
        self.outbox.on_done(range.clone()).expect("all of it was sent");
        let resolved = self.outbox.poll_outcome().expect("one run");
        assert_eq!((resolved.first, u64::from(resolved.count)), (range.start, count));
        assert_eq!(resolved.outcome, Outcome::Delivered);
        self.acked = range.end;
    }

    /// Has the peer report the oldest `count` one by one, from the newest of them down: the
    /// worst that reordering does to the table.
    fn acknowledge_each(&mut self, count: u64) {
        for transaction in (self.acked..self.acked + count).rev() {
            self.outbox.on_done(transaction..transaction + 1).expect("it was sent");
            assert!(self.outbox.poll_outcome().is_some());
        }
        self.acked += count;
    }
}

/// Times `act` and not what undoes it.
fn timed<T>(rounds: u64, state: &mut T, act: impl Fn(&mut T), undo: impl Fn(&mut T)) -> WallTime {
    let mut total = WallTime::ZERO;
    for _ in 0..rounds {
        let start = WallClock::now();
        act(state);
        total += start.elapsed();
        undo(state);
    }
    total
}

fn outbox(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("outbox");
    group.throughput(Throughput::Elements(BATCH));
    for bundle in [true, false] {
        let how = if bundle { "bundled" } else { "unbundled" };
        for open in OPEN {
            let mut sender = Sender::with_open(open, bundle);
            group.bench_function(BenchmarkId::new(format!("insert/{how}"), open), |bencher| {
                bencher.iter_custom(|rounds| {
                    timed(rounds, &mut sender, |s| s.insert(BATCH), |s| s.acknowledge(BATCH))
                });
            });
            group.bench_function(BenchmarkId::new(format!("ack/{how}"), open), |bencher| {
                bencher.iter_custom(|rounds| {
                    sender.insert(BATCH);
                    let took =
                        timed(rounds, &mut sender, |s| s.acknowledge(BATCH), |s| s.insert(BATCH));
                    sender.acknowledge(BATCH);
                    took
                });
            });
            group.bench_function(BenchmarkId::new(format!("ack_each/{how}"), open), |bencher| {
                bencher.iter_custom(|rounds| {
                    sender.insert(BATCH);
                    let ack = |sender: &mut Sender| sender.acknowledge_each(BATCH);
                    let took = timed(rounds, &mut sender, ack, |sender| sender.insert(BATCH));
                    sender.acknowledge(BATCH);
                    took
                });
            });
            assert_eq!(sender.outbox.outstanding(), open);
            sender.acknowledge(open);
            assert_eq!(sender.outbox.low_water(), sender.sent);
            assert_eq!(sender.pool.available(), sender.pool.capacity());
        }
    }
    group.finish();
}

/// Every so many transactions one is missing at the receiver, so that nothing above is forgotten.
const HOLE_EVERY: u64 = BATCH + 1;

/// A receiver's table with a hole below everything it has seen.
struct Receiver {
    inbox: Inbox,
    row: Features,
    hole: u64,
    seen: u64,
}

impl Receiver {
    fn with_seen(count: u64) -> Self {
        let inbox = Inbox::new(TRANSACTIONS_MAX);
        let row = features(SERVICE);
        let mut receiver = Self { inbox, row, hole: 0, seen: 0 };
        receiver.accept(count);
        receiver
    }

    fn accept(&mut self, count: u64) {
        for _ in 0..count {
            let accepted = self.inbox.accept(self.row, number(self.seen), 1);
            assert_eq!(accepted, Acceptance::Deliver);
            self.seen += 1;
        }
    }

    /// The sender settled everything below the next hole.
    fn settle(&mut self) {
        self.hole += HOLE_EVERY;
        assert!(self.inbox.on_low_water(self.hole));
    }
}

/// Number of the transaction that is seen after `seen` others.
fn number(seen: u64) -> u64 {
    1 + seen + seen / BATCH
}

fn inbox(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("inbox");
    group.throughput(Throughput::Elements(BATCH));
    for open in OPEN {
        group.bench_function(BenchmarkId::new("accept", open), |bencher| {
            bencher.iter_custom(|rounds| {
                let mut receiver = Receiver::with_seen(open);
                timed(rounds, &mut receiver, |r| r.accept(BATCH), |r| r.settle())
            });
        });
        let mut receiver = Receiver::with_seen(open);
        group.bench_function(BenchmarkId::new("duplicate", open), |bencher| {
            let mut at = 0;
            bencher.iter(|| {
                for _ in 0..BATCH {
                    // A stride that visits all of them, in no order that a cache could guess.
                    at = (at + 7_919) % open;
                    let accepted = receiver.inbox.accept(receiver.row, number(at), 1);
                    assert_eq!(accepted, Acceptance::Duplicate);
                }
            });
        });
        let reported = open.div_ceil(BATCH).min(TRANSACTION_RANGES_MAX as u64);
        group.bench_function(BenchmarkId::new("report", open), |bencher| {
            bencher.iter(|| {
                for _ in 0..BATCH {
                    let ranges = black_box(&receiver.inbox).done().take(TRANSACTION_RANGES_MAX);
                    assert_eq!(ranges.map(black_box).count() as u64, reported);
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, outbox, inbox);
criterion_main!(benches);
