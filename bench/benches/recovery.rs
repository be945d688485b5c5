//! The packet plane alone: what a packet costs to record, to acknowledge, and to receive.
//!
//! Each figure is for a batch; criterion's throughput line divides it into packets. The answers
//! are checked while they are timed.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use raet::buffer::Ecn;
use raet::limits::GRANULARITY;
use raet::protocol::session::recovery::{
    CongestionConfig, DatagramLen, ReceivedPackets, Recovery, RecoveryConfig, SentKind,
};
use raet::protocol::wire::control::AckFrequency;
use raet::time::{Duration, Instant};
use std::hint::black_box;
use std::ops::RangeInclusive;

/// What a session keeps for each packet: four references of (transaction, segment).
type Content = [u32; 4];

const LEN: u32 = 1_400;
const RTT: Duration = Duration::from_micros(100);

/// A packet plane on a fast path whose window is open, and the time.
fn open_recovery() -> (Recovery<Content>, Instant) {
    let config = RecoveryConfig {
        congestion: CongestionConfig::FixedRate { bytes_per_second: 100_000_000_000 },
        ack_delay_max: Duration::from_millis(1),
        initial_rtt: Duration::from_millis(1),
        datagram_len: DatagramLen::Fixed(LEN as usize),
        granularity: GRANULARITY,
        ecn: true,
    };
    (Recovery::new(config, 7), Instant::from_nanos(1_000_000_000))
}

/// Sends `count` packets and adds the ranges of their numbers to `runs`, ascending.
fn send(
    recovery: &mut Recovery<Content>,
    now: Instant,
    count: u64,
    runs: &mut Vec<RangeInclusive<u64>>,
) {
    for _ in 0..count {
        let number = recovery.next_packet_number();
        recovery.on_sent(now, number, LEN, SentKind::Data, Some([1, 2, 3, 4]));
        match runs.last_mut() {
            Some(run) if *run.end() + 1 == number => *run = *run.start()..=number,
            _ => runs.push(number..=number),
        }
    }
}

fn packet_plane(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("recovery");
    for (name, batch, in_flight) in [("32_of_1000", 32, 1_000), ("64_of_8000", 64, 8_000)] {
        group.throughput(Throughput::Elements(batch));
        let (mut recovery, mut now) = open_recovery();
        let mut runs = Vec::with_capacity(16);
        let mut waiting = std::collections::VecDeque::new();
        let (mut acked, mut lost) = (Vec::with_capacity(256), Vec::new());
        for _ in 0..in_flight / batch {
            send(&mut recovery, now, batch, &mut runs);
            waiting.push_back(runs.clone());
            runs.clear();
        }
        group.bench_function(format!("send_and_ack/{name}"), |bencher| {
            bencher.iter(|| {
                now += RTT.mul_ratio(1, 32);
                send(&mut recovery, now, batch, &mut runs);
                let mut oldest = waiting.pop_front().expect("in flight");
                let ranges = oldest.iter().rev().cloned().map(Ok);
                let outcome = recovery.on_ack(now, ranges, RTT, None, &mut acked, &mut lost);
                assert_eq!(outcome.expect("honest").packets_acked, batch);
                assert_eq!(acked.len() as u64, batch);
                oldest.clear();
                waiting.push_back(std::mem::replace(&mut runs, oldest));
                acked.clear();
                black_box(recovery.window_available(now))
            });
        });
        assert!(lost.is_empty());
    }

    group.throughput(Throughput::Elements(64));
    // A range that reaches back over thousands of settled packets, as acknowledgements do when
    // one of them was lost.
    group.bench_function("on_ack/64_new_of_8000_listed", |bencher| {
        let (mut recovery, mut now) = open_recovery();
        let (mut runs, mut acked, mut lost) = (Vec::new(), Vec::with_capacity(256), Vec::new());
        send(&mut recovery, now, 8_000, &mut runs);
        bencher.iter(|| {
            now += RTT;
            send(&mut recovery, now, 64, &mut runs);
            if runs.len() > 30 {
                runs.drain(..runs.len() - 30);
            }
            let ranges = runs.iter().rev().cloned().map(Ok);
            recovery.on_ack(now, ranges, RTT, None, &mut acked, &mut lost).expect("honest");
            assert!(acked.len() >= 64);
            acked.clear();
        });
        assert!(lost.is_empty());
    });
    group.finish();
}

fn received_packets(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("received");
    group.throughput(Throughput::Elements(64));
    for (name, hole_every) in [("in_order", u64::MAX), ("one_percent_lost", 100)] {
        let mut received = ReceivedPackets::new(Duration::from_millis(1));
        received.on_ack_frequency(None, AckFrequency { lane: 0, packets: 64, delay: RTT });
        let (mut now, mut number) = (Instant::from_nanos(1), 0u64);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                now += RTT;
                for _ in 0..64 {
                    number += 1 + u64::from(number % hole_every == 99);
                    received.on_received(now, number, Ecn::Ect0, true, false);
                }
                assert!(received.end_of_batch(now));
                black_box(received.ranges().count());
                received.on_ack_sent(None);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, packet_plane, received_packets);
criterion_main!(benches);
