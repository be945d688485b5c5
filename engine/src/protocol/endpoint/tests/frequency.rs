//! How many packets acknowledge, counted.

use super::*;

impl Pair {
    /// Goes on to the next thing that happens.
    pub(super) fn step(&mut self) {
        let link = self.link.front().map(|entry| entry.0);
        let timers = self.sides.iter_mut().filter_map(|side| side.endpoint.next_timeout()).min();
        let next = [link, timers].into_iter().flatten().min().expect("something is under way");
        self.now = next.max(self.now + Duration::from_micros(1));
        self.turn();
    }

    /// Sends `messages` of 1000 bytes, each as soon as there is room, until all are delivered.
    pub(super) fn carry(&mut self, peer: PeerId, messages: u64) {
        let mut sent = 0;
        while self.sides[0].outcome_count(Outcome::Delivered) < messages {
            while sent < messages {
                let service = ServiceKind::ExactlyOnce.into();
                let endpoint = &mut self.sides[0].endpoint;
                if endpoint.send(self.now, peer, &service, (&[7; 1_000]).into()).is_err() {
                    break;
                }
                sent += 1;
            }
            self.turn();
            self.step();
            self.sides[1].messages.clear();
        }
    }

    fn packets_sent(&self) -> [u64; 2] {
        [0, 1].map(|side| self.sides[side].endpoint.counters().packets_sent)
    }
}

// PROTOCOL 5.31 to 5.33: at most one acknowledgement for 32 packets of a bulk transfer.
#[test]
fn bulk_transfer_has_one_acknowledgement_for_32_packets_or_fewer() {
    const MESSAGES: u64 = 40_000;
    for (one_way, delay) in [(50, 1), (5_000, 1), (20_000, 25)] {
        let adjust = |config: &mut EndpointConfig| {
            config.bundle = false;
            config.ack_delay_max = Duration::from_millis(delay);
        };
        let mut pair = Pair::with(adjust, adjust);
        pair.one_way = Duration::from_micros(one_way);
        pair.sides[1].pool = Pool::new(8_192, 2_048).unwrap();
        let (mut pair, peer) = pair.connect();
        let before = pair.packets_sent();
        pair.carry(peer, MESSAGES);
        let after = pair.packets_sent();
        let (data, acks) = (after[0] - before[0], after[1] - before[1]);
        println!("{one_way} us one way: {acks} acknowledgements for {data} packets");
        assert!(data < MESSAGES + 100, "pings included: {data}");
        assert!(acks * 32 <= data, "{acks} acknowledgements for {data} packets");
    }
}

// PROTOCOL 5.31 to 5.33: at most 0.6 acknowledgements, of both sides, for a request and its reply.
#[test]
fn exchange_of_single_packets_has_six_tenths_of_an_acknowledgement_or_fewer() {
    const EXCHANGES: u64 = 1_000;
    for (one_way, delay) in [(10, 1), (50, 1), (120, 1), (3_000, 25)] {
        let adjust = |config: &mut EndpointConfig| {
            config.ack_delay_max = Duration::from_millis(delay);
        };
        let mut pair = Pair::with(adjust, adjust);
        pair.one_way = Duration::from_micros(one_way);
        let (mut pair, peer) = pair.connect();
        let before = pair.packets_sent();
        for number in 1..=EXCHANGES {
            pair.send(peer, ServiceKind::Request, &[7; 64]);
            pair.turn();
            while pair.sides[0].outcome_count(Outcome::Replied) < number {
                pair.step();
            }
        }
        let after = pair.packets_sent();
        let acks = after[0] + after[1] - before[0] - before[1] - 2 * EXCHANGES;
        println!("{one_way} us one way: {acks} acknowledgements for {EXCHANGES} exchanges");
        assert!(acks * 10 <= EXCHANGES * 6, "{acks} for {EXCHANGES}");
    }
}

// PROTOCOL 5.4
#[test]
fn acknowledgement_is_no_hole_among_the_numbers_that_arrived() {
    let (mut pair, peer) = Pair::connected();
    let other = pair.sides[1].endpoint.peer_id(0);
    for _ in 0..8 {
        let now = pair.now;
        pair.send(peer, ServiceKind::ExactlyOnce, b"there");
        pair.drive_for(Duration::from_millis(1));
        pair.sides[1]
            .endpoint
            .send(now, other, &ServiceKind::ExactlyOnce.into(), b"back".into())
            .unwrap();
        pair.drive_for(Duration::from_millis(1));
    }
    for side in &pair.sides {
        let slot = side.endpoint.peers.find(0).unwrap().current.unwrap();
        let live = side.endpoint.lives.find(slot).unwrap();
        // One number may have been left out on purpose.
        assert!(live.session.received.ranges().count() <= 2);
        assert!(side.endpoint.counters().acks_sent <= 9);
    }
}

// PROTOCOL 6.14
#[test]
fn reply_acknowledges_the_packet_of_its_request_where_packets_have_no_numbers() {
    let plain = |config: &mut EndpointConfig| {
        config.offer = Offer::new(&[Suite::Aes256Gcm], &[Mode::Plain]);
    };
    let (mut pair, peer) = Pair::with(plain, plain).connect();
    for _ in 0..50 {
        for _ in 0..64 {
            pair.send(peer, ServiceKind::Request, &[1; 64]);
        }
        pair.drive_for(Duration::from_micros(50));
    }
    pair.drive();
    for side in &pair.sides {
        let counters = side.endpoint.counters();
        assert_eq!((counters.packets_lost, counters.retransmissions), (0, 0));
    }
    assert_eq!(pair.sides[0].outcome_count(Outcome::Replied), 50 * 64);
}

#[test]
fn nothing_is_acknowledged_before_it_was_handed_over() {
    let (mut pair, peer) = Pair::connected();
    pair.send(peer, ServiceKind::ExactlyOnce, b"news");
    let [one, two] = &mut pair.sides;
    let packet = one.endpoint.poll_transmit(pair.now).unwrap().lease.to_vec();
    two.receive(pair.now, one.address, Ecn::NotEct, &packet);
    for _ in 0..2 {
        assert!(two.endpoint.poll_transmit(pair.now).is_none());
        pair.now += Duration::from_secs(1);
        two.endpoint.handle_timeout(pair.now);
    }
    two.drain_events(pair.now);
    assert!(two.endpoint.poll_transmit(pair.now).is_some());
    assert_eq!(two.messages.len(), 1);
}

// PROTOCOL 5.3 and 5.4
#[test]
fn requests_one_after_the_other_need_few_acknowledgements() {
    let (mut pair, peer) = Pair::connected();
    pair.one_way = Duration::from_micros(5);
    let acks =
        |pair: &Pair| pair.sides.iter().map(|s| s.endpoint.counters().acks_sent).sum::<u64>();
    let before = acks(&pair);
    for _ in 0..1_000 {
        pair.send(peer, ServiceKind::Request, b"question");
        pair.drive_for(Duration::from_micros(15));
    }
    assert_eq!(pair.sides[0].replies.len(), 1_000);
    let acks = acks(&pair) - before;
    assert!(acks <= 600, "{acks} acknowledgements for 1000 exchanges");
}
