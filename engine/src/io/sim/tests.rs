//! The network's promises: what is sent arrives or is counted, and a seed replays.

use proptest::prelude::*;

use super::*;

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

struct Pair {
    network: SimNetwork,
    pool: Pool,
    one: SimDriver,
    two: SimDriver,
}

fn pair(seed: u64, faults: Faults) -> Pair {
    let network = SimNetwork::new(seed, faults);
    let pool = Pool::new(256, 4096).unwrap();
    let one = network.open(address(1), pool.clone());
    let two = network.open(address(2), pool.clone());
    Pair { network, pool, one, two }
}

fn datagram(pool: &Pool, to: SocketAddr, bytes: &[u8]) -> Transmit {
    let mut lease = pool.take().unwrap();
    lease.get_mut().unwrap()[..bytes.len()].copy_from_slice(bytes);
    Transmit::single(to, Ecn::Ect0, lease.view(0..bytes.len()))
}

impl Pair {
    fn send(&mut self, bytes: &[u8]) {
        drop(self.one.transmit(datagram(&self.pool, address(2), bytes)));
        self.one.wait(None).unwrap();
    }

    /// Everything that `two` receives until nothing is under way, with its arrival.
    fn arrivals(&mut self) -> Vec<(Instant, Vec<u8>)> {
        let mut arrived = Vec::new();
        loop {
            while let Some(received) = self.two.receive() {
                let is_forged = self.network.counters().forged > 0;
                assert!(is_forged || received.from == address(1), "{}", received.from);
                let now = self.network.now();
                let segments = received.lease.chunks(received.segment_len.max(1));
                arrived.extend(segments.map(|segment| (now, segment.to_vec())));
            }
            let Some(next) = self.network.next_event() else { return arrived };
            self.network.advance_to(next);
        }
    }
}

#[test]
fn datagram_arrives_after_its_delay_and_not_before() {
    let mut pair = pair(1, Faults::NONE);
    let start = pair.network.now();
    pair.send(b"hello");
    let due = start + Duration::from_micros(50);
    assert_eq!(pair.network.next_event(), Some(due));
    pair.network.advance_to(due - Duration::from_nanos(1));
    assert!(pair.two.receive().is_none() && !pair.network.has_received(address(2)));
    assert_eq!(pair.arrivals(), [(due, b"hello".to_vec())]);
    assert_eq!(pair.pool.available(), pair.pool.capacity());
}

#[test]
fn link_is_a_queue_unless_reorder_is_asked_for() {
    let jitter = Delay {
        min: Duration::ZERO,
        mean: Duration::from_millis(1),
        max: Duration::from_millis(20),
    };
    let order = |reorder| {
        let mut pair = pair(5, Faults { delay: jitter, reorder, ..Faults::NONE });
        (0..100_u8).for_each(|number| pair.send(&[number]));
        pair.arrivals().into_iter().map(|(_, bytes)| bytes[0]).collect::<Vec<u8>>()
    };
    assert!(order(Chance::NEVER).is_sorted());
    let mut reordered = order(Chance::percent(20));
    assert!(!reordered.is_sorted());
    reordered.sort_unstable();
    assert_eq!(reordered, (0..100).collect::<Vec<u8>>());
}

#[test]
fn path_keeps_takes_or_sets_marks_and_joins_only_equal_ones() {
    // (marks, loss, mark sent, mark received)
    let table = [
        (Marks::Kept, 0, Ecn::Ect0, Some(Ecn::Ect0)),
        (Marks::Kept, 100, Ecn::Ect0, None),
        (Marks::Bleached, 0, Ecn::Ect0, Some(Ecn::NotEct)),
        (Marks::AlwaysCe, 0, Ecn::Ect0, Some(Ecn::Ce)),
        (Marks::AlwaysCe, 0, Ecn::NotEct, Some(Ecn::NotEct)),
        (Marks::InsteadOfLoss, 0, Ecn::Ect0, Some(Ecn::Ect0)),
        (Marks::InsteadOfLoss, 100, Ecn::Ect0, Some(Ecn::Ce)),
        (Marks::InsteadOfLoss, 100, Ecn::NotEct, None),
    ];
    for (marks, loss, sent, expected) in table {
        let mut pair = pair(1, Faults { marks, loss: Chance::percent(loss), ..Faults::NONE });
        let datagram = Transmit { ecn: sent, ..datagram(&pair.pool, address(2), b"marked") };
        pair.one.transmit(datagram).unwrap();
        pair.one.wait(None).unwrap();
        pair.network.next_event().into_iter().for_each(|at| pair.network.advance_to(at));
        let received = pair.two.receive().map(|received| received.ecn);
        assert_eq!(received, expected, "{marks:?} {sent:?}");
    }
    let mut pair = pair(1, Faults { train: Chance::ALWAYS, ..Faults::NONE });
    for ecn in [Ecn::Ect0, Ecn::Ect0, Ecn::NotEct] {
        let datagram = Transmit { ecn, ..datagram(&pair.pool, address(2), b"1") };
        pair.one.transmit(datagram).unwrap();
    }
    pair.one.wait(None).unwrap();
    pair.network.advance_to(pair.network.next_event().unwrap());
    let trains: Vec<_> = std::iter::from_fn(|| pair.two.receive())
        .map(|received| (received.ecn, received.datagrams()))
        .collect();
    assert_eq!(trains, [(Ecn::Ect0, 2), (Ecn::NotEct, 1)]);
}

#[test]
fn cut_link_loses_one_direction_and_healing_mends_it() {
    let mut pair = pair(1, Faults::NONE);
    pair.network.cut(address(1), address(2));
    pair.send(b"lost");
    pair.two.transmit(datagram(&pair.pool, address(1), b"passes")).unwrap();
    pair.two.wait(None).unwrap();
    assert!(pair.arrivals().is_empty());
    assert_eq!(&*pair.one.receive().unwrap().lease, b"passes");
    pair.network.heal(address(1), address(2));
    pair.send(b"again");
    assert_eq!(pair.arrivals().len(), 1);
    assert_eq!(pair.network.counters().partitioned, 1);
}

#[test]
fn partition_also_takes_what_is_under_way() {
    let mut pair = pair(1, Faults::NONE);
    pair.send(b"under way");
    pair.network.partition(address(1), address(2));
    assert!(pair.arrivals().is_empty());
    pair.network.heal_all();
    pair.send(b"after");
    assert_eq!(pair.arrivals().len(), 1);
}

#[test]
fn masked_node_is_seen_and_reached_at_its_mask_and_no_more_at_the_one_before() {
    let mut pair = pair(1, Faults::NONE);
    pair.network.mask(address(2), address(7));
    for (to, arrives) in [(2, 1), (7, 1), (8, 0)] {
        pair.one.transmit(datagram(&pair.pool, address(to), b"hello")).unwrap();
        pair.one.wait(None).unwrap();
        assert_eq!(pair.arrivals().len(), arrives, "to {to}");
    }
    pair.network.mask(address(2), address(8));
    pair.one.transmit(datagram(&pair.pool, address(7), b"hello")).unwrap();
    pair.one.wait(None).unwrap();
    assert_eq!(pair.arrivals().len(), 0);
    pair.two.transmit(datagram(&pair.pool, address(1), b"hello")).unwrap();
    pair.two.wait(None).unwrap();
    pair.network.advance_to(pair.network.next_event().expect("one is under way"));
    assert_eq!(pair.one.receive().expect("it arrived").from, address(8));
}

#[test]
fn first_packet_after_a_silence_and_last_of_several_can_be_lost() {
    let mut pair = pair(1, Faults { first_loss: Chance::ALWAYS, ..Faults::NONE });
    pair.send(b"first");
    pair.send(b"second");
    assert_eq!(pair.arrivals().len(), 1);
    pair.network.advance_to(pair.network.now() + Duration::from_secs(1));
    pair.send(b"after a while");
    assert_eq!(pair.arrivals().len(), 0);
    assert_eq!(pair.network.counters().first_lost, 2);
    pair.network.set_faults(Faults { tail_loss: Chance::ALWAYS, ..Faults::NONE });
    for bytes in [b"one", b"two"] {
        pair.one.transmit(datagram(&pair.pool, address(2), bytes)).unwrap();
    }
    pair.send(b"last");
    pair.send(b"alone");
    let arrived: Vec<_> = pair.arrivals().into_iter().map(|(_, bytes)| bytes).collect();
    assert_eq!(arrived, [&b"one"[..], b"two", b"alone"]);
    assert_eq!(pair.network.counters().tail_lost, 1);
}

#[test]
fn all_who_send_to_a_node_share_the_port_before_it() {
    let mut pair = pair(1, Faults::NONE);
    let mut third = pair.network.open(address(3), pair.pool.clone());
    pair.network.narrow(address(2), Line { bytes_per_second: 1_000_000, queue_max: 3 });
    let start = pair.network.now();
    for driver in [&mut pair.one, &mut third] {
        for _ in 0..2 {
            driver.transmit(datagram(&pair.pool, address(2), &[0; 100])).unwrap();
        }
        driver.wait(None).unwrap();
    }
    let mut arrivals = Vec::new();
    while let Some(next) = pair.network.next_event() {
        pair.network.advance_to(next);
        arrivals.extend(pair.two.receive().map(|_| next.saturating_since(start).as_micros()));
    }
    assert_eq!(arrivals, [150, 250, 350], "100 us each behind one another, and 50 us of delay");
    assert_eq!(pair.network.counters().queue_dropped, 1);
}

#[test]
fn datagram_larger_than_the_path_vanishes_and_is_counted() {
    let mut pair = pair(1, Faults { mtu: 1200, ..Faults::NONE });
    pair.send(&[0; 1201]);
    pair.send(&[0; 1200]);
    assert_eq!(pair.arrivals().len(), 1);
    assert_eq!(pair.network.counters().too_large, 1);
}

#[test]
fn neighbours_of_equal_length_arrive_as_a_train_whose_last_may_be_shorter() {
    let mut pair = pair(1, Faults { train: Chance::ALWAYS, ..Faults::NONE });
    for len in [100, 100, 60, 100, 120] {
        pair.send(&vec![7; len]);
    }
    pair.network.advance_to(pair.network.next_event().unwrap());
    let shapes: Vec<_> = std::iter::from_fn(|| pair.two.receive())
        .map(|received| (received.segment_len, received.lease.len()))
        .collect();
    assert_eq!(shapes, [(100, 260), (100, 100), (120, 120)]);
    assert_eq!(pair.two.counters().datagrams_received, 5);
    assert_eq!(pair.two.counters().trains_received, 3);
}

#[test]
fn receiver_without_a_free_buffer_loses_the_datagram_and_counts_it() {
    let network = SimNetwork::new(1, Faults::NONE);
    let pool = Pool::new(1, 64).unwrap();
    let sender_pool = Pool::new(4, 64).unwrap();
    let mut one = network.open(address(1), sender_pool.clone());
    let mut two = network.open(address(2), pool.clone());
    for _ in 0..2 {
        one.transmit(datagram(&sender_pool, address(2), b"x")).unwrap();
    }
    one.wait(None).unwrap();
    network.advance_to(network.next_event().unwrap());
    let held = two.receive();
    assert!(held.is_some() && two.receive().is_none());
    assert_eq!(two.counters().receive_errors, 1);
}

#[test]
fn node_that_left_is_unreachable_until_its_address_is_opened_again() {
    let mut pair = pair(1, Faults::NONE);
    drop(pair.two);
    pair.one.transmit(datagram(&pair.pool, address(2), b"nobody")).unwrap();
    pair.one.wait(None).unwrap();
    pair.network.advance_to(pair.network.next_event().unwrap());
    assert_eq!(pair.network.counters().unreachable, 1);
    pair.two = pair.network.open(address(2), pair.pool.clone());
    pair.one.transmit(datagram(&pair.pool, address(2), b"back")).unwrap();
    pair.one.wait(None).unwrap();
    pair.network.advance_to(pair.network.next_event().unwrap());
    assert_eq!(&*pair.two.receive().unwrap().lease, b"back");
}

#[test]
fn full_queue_hands_the_datagram_back() {
    let mut pair = pair(1, Faults::NONE);
    let shared = pair.pool.take().unwrap().view(0..1);
    for _ in 0..TRANSMIT_QUEUE_MAX {
        pair.one.transmit(Transmit::single(address(2), Ecn::Ect0, shared.clone())).unwrap();
    }
    assert!(pair.one.transmit(Transmit::single(address(2), Ecn::Ect0, shared.clone())).is_err());
    pair.one.wait(None).unwrap();
    assert!(pair.one.transmit(Transmit::single(address(2), Ecn::Ect0, shared)).is_ok());
}

proptest! {
    #[test]
    fn every_packet_ends_in_one_count_and_a_seed_replays(seed: u64, packets in 1_usize..200) {
        let run = || {
            let mut pair = pair(seed, Faults::drawn(seed, &Faults::WORST));
            for number in 0..packets {
                pair.send(&[u8::try_from(number).unwrap(); 32][..1 + number % 32]);
            }
            let arrived = pair.arrivals();
            prop_assert_eq!(pair.pool.available(), pair.pool.capacity());
            Ok((arrived, pair.network.counters()))
        };
        let (arrived, counters) = run()?;
        let made = counters.duplicated + counters.replayed + counters.forged;
        let picked = counters.short_lost + counters.first_lost + counters.tail_lost;
        let lost = counters.lost + counters.lost_in_bursts + picked;
        prop_assert_eq!(counters.sent + made, counters.delivered + lost);
        prop_assert_eq!(counters.sent + counters.send_errors + counters.handed_back, packets as u64);
        prop_assert_eq!(run()?, (arrived, counters));
    }
}
