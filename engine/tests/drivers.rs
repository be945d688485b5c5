//! One suite over both kernel drivers on loopback. What the host cannot do is skipped aloud.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;

use raet::buffer::{Ecn, Lease, Pool, Received, Transmit};
use raet::io::kernel::{IoChoice, IoConfig, Opened, open};
use raet::io::probe::Probe;
use raet::io::{Driver, DriverCounters};
use raet::limits::{RECEIVE_BUFFER_LEN, TRAINS_QUEUED_MAX};
use raet::time::{Duration, Instant};

/// Makes of each function here a test for each driver.
macro_rules! on_both_drivers {
    ($($test:ident)*) => {
        mod uring { $(#[test] fn $test() { super::run(super::IoChoice::Uring, super::$test); })* }
        mod mmsg { $(#[test] fn $test() { super::run(super::IoChoice::Mmsg, super::$test); })* }
    };
}

on_both_drivers! {
    datagrams_of_every_length_make_the_round_trip
    datagrams_over_ipv6_make_the_round_trip
    empty_datagram_is_delivered_as_one
    marks_arrive_as_they_were_sent_alone_and_in_trains
    train_arrives_whole_with_right_boundaries
    without_offloads_every_datagram_arrives_alone
    exhausted_pool_delays_datagrams_and_loses_none
    buffers_all_come_home_when_the_driver_is_dropped
    send_leases_are_free_after_the_wait_that_sent_them
    sleeping_wait_returns_at_its_deadline
    waker_ends_a_wait_without_deadline
    wake_before_the_wait_is_not_lost
    unreachable_port_does_not_break_the_driver
    datagram_that_the_kernel_refuses_is_counted
    datagram_longer_than_the_buffer_is_counted_and_not_delivered
    polling_an_idle_socket_finds_nothing_and_does_not_sleep
    full_queue_is_free_again_after_a_wait
}

/// What a test opens drivers with.
struct Bench {
    choice: IoChoice,
    probe: Probe,
}

fn run(choice: IoChoice, test: fn(&Bench)) {
    let bench = Bench { choice, probe: Probe::run() };
    if let (IoChoice::Uring, Err(reason)) = (choice, bench.probe.io_uring) {
        eprintln!("SKIPPED: {reason}");
        return;
    }
    test(&bench);
}

/// A free port of a loopback address of this process: at 127.0.0.1 arrives what another test still
/// sends to a port that its peer has left.
fn own_loopback() -> SocketAddr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    (Ipv4Addr::new(127, 64 | high, middle, low), 0).into()
}

/// A driver with pools of its own.
struct Node {
    driver: Box<dyn Driver>,
    address: SocketAddr,
    receive: Pool,
    send: Pool,
}

impl Bench {
    fn node(&self) -> Node {
        self.node_with(|_| {}, Pool::new(256, RECEIVE_BUFFER_LEN).unwrap())
    }

    fn node_with(&self, adapt: impl FnOnce(&mut IoConfig), receive: Pool) -> Node {
        let mut config = IoConfig::new(own_loopback());
        config.choice = self.choice;
        adapt(&mut config);
        let (driver, address): (Box<dyn Driver>, _) =
            match open(&config, &self.probe, receive.clone()).unwrap() {
                Opened::Uring(driver) => {
                    let address = driver.local_address();
                    (Box::new(driver), address)
                }
                Opened::Mmsg(driver, _) => {
                    let address = driver.local_address();
                    (Box::new(driver), address)
                }
            };
        Node { driver, address, receive, send: Pool::new(512, 65_536).unwrap() }
    }
}

/// Bytes that differ from datagram to datagram and inside each.
fn pattern(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((number * 31 + at * 7 + at / 251) % 256).unwrap()).collect()
}

impl Node {
    fn lease(&self, bytes: &[u8]) -> Lease {
        let mut lease = self.send.take().expect("tests send less than the pool holds");
        lease.get_mut().unwrap()[..bytes.len()].copy_from_slice(bytes);
        lease.narrow(0..bytes.len())
    }

    fn queue(&mut self, to: SocketAddr, bytes: &[u8]) {
        let lease = self.lease(bytes);
        self.driver.transmit(Transmit::single(to, Ecn::Ect0, lease)).unwrap();
    }

    fn poll(&mut self) -> Instant {
        self.driver.wait(Some(Instant::ZERO)).unwrap()
    }

    fn counters(&self) -> DriverCounters {
        self.driver.counters()
    }

    /// Waits for the next receive, for two seconds at most.
    fn next(&mut self) -> Received {
        let deadline = self.driver.now() + Duration::from_secs(2);
        loop {
            if let Some(received) = self.driver.receive() {
                return received;
            }
            let now = self.driver.wait(Some(deadline)).unwrap();
            assert!(now < deadline, "nothing arrived: {:?}", self.counters());
        }
    }

    /// The next `count` datagrams, trains taken apart.
    fn datagrams(&mut self, count: usize) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        while datagrams.len() < count {
            let received = self.next();
            datagrams.extend(received.lease.chunks(received.segment_len).map(<[u8]>::to_vec));
        }
        datagrams
    }
}

fn datagrams_of_every_length_make_the_round_trip(bench: &Bench) {
    let (mut one, mut two) = (bench.node(), bench.node());
    for len in [1, 64, 1200, 1472, 8972, 65_507] {
        let bytes = pattern(len, len);
        one.queue(two.address, &bytes);
        one.poll();
        let there = two.next();
        assert_eq!((there.from, there.segment_len), (one.address, len));
        assert!(*there.lease == *bytes, "{len} bytes arrive as they were sent");
        two.queue(there.from, &there.lease);
        two.poll();
        assert!(*one.next().lease == *bytes, "{len} bytes come back as they were sent");
    }
    assert_eq!(two.counters().datagrams_received, 6);
    assert_eq!(two.counters().datagrams_sent, 6);
}

fn datagrams_over_ipv6_make_the_round_trip(bench: &Bench) {
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        return eprintln!("SKIPPED: this host has no IPv6 loopback");
    }
    let node = || {
        let pool = Pool::new(64, RECEIVE_BUFFER_LEN).unwrap();
        bench.node_with(|config| config.bind = "[::1]:0".parse().unwrap(), pool)
    };
    let (mut one, mut two) = (node(), node());
    let sent: Vec<_> = (0..40).map(|number| pattern(number, 1200)).collect();
    sent.iter().for_each(|bytes| one.queue(two.address, bytes));
    one.poll();
    let first = two.next();
    assert_eq!(first.from, one.address);
    let mut arrived: Vec<_> = first.lease.chunks(1200).map(<[u8]>::to_vec).collect();
    arrived.extend(two.datagrams(sent.len() - arrived.len()));
    assert_eq!(arrived, sent);
}

fn empty_datagram_is_delivered_as_one(bench: &Bench) {
    let (mut one, mut two) = (bench.node(), bench.node());
    one.queue(two.address, b"");
    one.poll();
    let received = two.next();
    assert_eq!((received.lease.len(), received.segment_len, received.datagrams()), (0, 1, 1));
}

// PROTOCOL 5.25 and 5.26: what the kernel is told to mark, and what it tells.
fn marks_arrive_as_they_were_sent_alone_and_in_trains(bench: &Bench) {
    let mut binds = vec![own_loopback()];
    if std::net::UdpSocket::bind("[::1]:0").is_ok() {
        binds.push("[::1]:0".parse().unwrap());
    } else {
        eprintln!("SKIPPED IPv6: this host has no IPv6 loopback");
    }
    for bind in binds {
        let node = || {
            let pool = Pool::new(64, RECEIVE_BUFFER_LEN).unwrap();
            bench.node_with(|config| config.bind = bind, pool)
        };
        let (mut one, mut two) = (node(), node());
        for count in [1, 7] {
            for ecn in [Ecn::Ect0, Ecn::NotEct, Ecn::Ect1, Ecn::Ce, Ecn::Ect0] {
                for number in 0..count {
                    let lease = one.lease(&pattern(number, 1200));
                    one.driver.transmit(Transmit::single(two.address, ecn, lease)).unwrap();
                }
                one.poll();
                let mut arrived = 0;
                while arrived < count {
                    let received = two.next();
                    assert_eq!(received.ecn, ecn, "{bind}, {count} datagrams");
                    arrived += received.datagrams();
                }
                assert_eq!(arrived, count);
            }
        }
        assert_eq!(one.counters().send_errors, 0);
    }
}

fn train_arrives_whole_with_right_boundaries(bench: &Bench) {
    if bench.probe.segments_max == 1 || !bench.probe.gro {
        return eprintln!("SKIPPED: this kernel has no GSO or no GRO");
    }
    let (mut one, mut two) = (bench.node(), bench.node());
    for (count, len, last) in [(2, 64, 64), (128, 64, 1), (50, 1200, 700), (7, 8972, 8972)] {
        let count = count.min(bench.probe.segments_max);
        let mut sent: Vec<_> = (0..count - 1).map(|number| pattern(number, len)).collect();
        sent.push(pattern(count, last));
        sent.iter().for_each(|bytes| one.queue(two.address, bytes));
        one.poll();
        let received = two.next();
        assert_eq!((received.segment_len, received.datagrams()), (len, count));
        let arrived: Vec<_> = received.lease.chunks(len).map(<[u8]>::to_vec).collect();
        assert!(arrived == sent, "{count} datagrams of {len} bytes keep their boundaries");
    }
    assert_eq!(one.counters().trains_sent, 4);
    assert_eq!(two.counters().trains_received, 4);
    assert_eq!(one.counters().datagrams_sent, two.counters().datagrams_received);
    assert_eq!(one.counters().bytes_sent, two.counters().bytes_received);
}

fn without_offloads_every_datagram_arrives_alone(bench: &Bench) {
    let pool = || Pool::new(256, RECEIVE_BUFFER_LEN).unwrap();
    let plain = |config: &mut IoConfig| (config.gso, config.gro) = (false, false);
    let (mut one, mut two) = (bench.node_with(plain, pool()), bench.node_with(plain, pool()));
    let sent: Vec<_> = (0..100).map(|number| pattern(number, 64)).collect();
    sent.iter().for_each(|bytes| one.queue(two.address, bytes));
    one.poll();
    assert_eq!(two.datagrams(100), sent);
    assert_eq!(one.counters().trains_sent, 100);
    assert_eq!(two.counters().trains_received, 100);
}

fn exhausted_pool_delays_datagrams_and_loses_none(bench: &Bench) {
    let pool = || Pool::new(4, 2048).unwrap();
    let mut one = bench.node_with(|config| config.gso = false, pool());
    let mut two = bench.node_with(|config| config.gro = false, pool());
    let sent: Vec<_> = (0..32).map(|number| pattern(number, 100)).collect();
    sent.iter().for_each(|bytes| one.queue(two.address, bytes));
    one.poll();
    let mut arrived = Vec::new();
    while arrived.len() < sent.len() {
        let held: Vec<_> = (0..4).map(|_| two.next()).collect();
        assert_eq!(two.receive.available(), 0);
        for _ in 0..4 {
            let soon = two.driver.now() + Duration::from_millis(1);
            two.driver.wait(Some(soon)).unwrap();
            assert!(two.driver.receive().is_none(), "there is no buffer to receive into");
        }
        arrived.extend(held.iter().map(|received| received.lease.to_vec()));
    }
    assert_eq!(arrived, sent);
    assert_eq!(two.counters().receive_errors, 0);
}

fn buffers_all_come_home_when_the_driver_is_dropped(bench: &Bench) {
    let (mut one, mut two) = (bench.node(), bench.node());
    for number in 0..300 {
        one.queue(two.address, &pattern(number, 64));
    }
    one.poll();
    // One is held, the others were received and not taken or wait in the socket.
    let held = two.next();
    one.queue(two.address, b"queued and never sent");
    drop((one.driver, two.driver));
    assert_eq!(one.send.available(), one.send.capacity());
    assert_eq!(one.receive.available(), one.receive.capacity());
    assert_eq!(two.receive.available(), two.receive.capacity() - 1);
    drop(held);
    assert_eq!(two.receive.available(), two.receive.capacity());
}

fn send_leases_are_free_after_the_wait_that_sent_them(bench: &Bench) {
    let (mut one, two) = (bench.node(), bench.node());
    for round in 0..50 {
        for number in 0..300 {
            one.queue(two.address, &pattern(number, 64 + round % 2));
        }
        one.poll();
        assert_eq!(one.send.available(), one.send.capacity());
    }
}

fn sleeping_wait_returns_at_its_deadline(bench: &Bench) {
    let mut node = bench.node();
    node.poll();
    for millis in [1, 5, 50] {
        let deadline = node.driver.now() + Duration::from_millis(millis);
        let now = node.driver.wait(Some(deadline)).unwrap();
        assert!(now >= deadline, "woke {} too early", deadline.saturating_since(now));
        // How late is the scheduler's affair; a minute would be ours.
        let late = now.saturating_since(deadline);
        assert!(late < Duration::from_secs(60), "woke {late} too late");
    }
}

fn waker_ends_a_wait_without_deadline(bench: &Bench) {
    let mut node = bench.node();
    node.poll();
    for _ in 0..3 {
        let waker = node.driver.waker();
        let thread = thread::spawn(move || {
            thread::sleep(std::time::Duration::from_millis(20));
            waker.wake();
        });
        let start = node.driver.now();
        let woken = node.driver.wait(None).unwrap();
        assert!(woken.saturating_since(start) > Duration::from_millis(10), "slept until woken");
        thread.join().unwrap();
        assert!(node.driver.receive().is_none());
    }
}

fn wake_before_the_wait_is_not_lost(bench: &Bench) {
    let mut node = bench.node();
    node.driver.waker().wake();
    node.driver.wait(None).unwrap();
    node.driver.waker().wake();
    node.driver.wait(None).unwrap();
}

fn unreachable_port_does_not_break_the_driver(bench: &Bench) {
    let (mut one, mut two) = (bench.node(), bench.node());
    let nobody = bench.node().address;
    for number in 0..10 {
        one.queue(nobody, &pattern(number, 64));
        one.poll();
    }
    one.queue(two.address, b"still here");
    one.poll();
    assert_eq!(*two.next().lease, *b"still here");
    let counters = one.counters();
    assert_eq!(counters.datagrams_sent + counters.send_errors, 11);
}

fn datagram_that_the_kernel_refuses_is_counted(bench: &Bench) {
    let (mut one, mut two) = (bench.node(), bench.node());
    // One larger than any UDP datagram, and one of the wrong family.
    one.queue(two.address, &pattern(1, 65_508));
    one.queue("[::1]:9".parse().unwrap(), b"wrong family");
    one.queue(two.address, b"good");
    one.poll();
    assert_eq!(*two.next().lease, *b"good");
    assert_eq!(one.counters().send_errors, 2);
    assert_eq!(one.counters().datagrams_sent, 1);
    assert_eq!(one.send.available(), one.send.capacity());
}

fn datagram_longer_than_the_buffer_is_counted_and_not_delivered(bench: &Bench) {
    let mut one = bench.node();
    let mut two = bench.node_with(|_| {}, Pool::new(8, 2048).unwrap());
    one.queue(two.address, &pattern(1, 3000));
    one.queue(two.address, b"short");
    one.poll();
    assert_eq!(*two.next().lease, *b"short");
    assert_eq!(two.counters().receive_errors, 1);
}

/// How often this thread has given up its processor to wait for something.
fn times_slept() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("Linux has it");
    let switches = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    switches.expect("since 2.6").trim().parse().expect("a number")
}

fn polling_an_idle_socket_finds_nothing_and_does_not_sleep(bench: &Bench) {
    let mut node = bench.node();
    for _ in 0..10 {
        node.poll();
    }
    let (sleeps, calls) = (times_slept(), node.counters().system_calls);
    for _ in 0..1000 {
        node.poll();
        assert!(node.driver.receive().is_none());
    }
    let slept = times_slept() - sleeps;
    assert!(slept < 500, "1000 polls slept {slept} times");
    let expected = if bench.choice == IoChoice::Uring { 0 } else { 1000 };
    assert_eq!(node.counters().system_calls - calls, expected);
}

fn full_queue_is_free_again_after_a_wait(bench: &Bench) {
    let mut one = bench.node_with(|config| config.gso = false, Pool::new(64, 2048).unwrap());
    let two = bench.node();
    let shared = one.lease(b"the same to all");
    let datagram = || Transmit::single(two.address, Ecn::Ect0, shared.clone());
    for _ in 0..TRAINS_QUEUED_MAX {
        one.driver.transmit(datagram()).unwrap();
    }
    let refused = one.driver.transmit(datagram()).unwrap_err();
    one.poll();
    one.driver.transmit(refused).unwrap();
    one.poll();
    assert_eq!(one.counters().datagrams_sent, TRAINS_QUEUED_MAX as u64 + 1);
}
