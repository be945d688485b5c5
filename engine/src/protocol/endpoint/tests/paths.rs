//! Peers that move, and those who only make it look so.

use super::*;
use crate::protocol::session::recovery::CongestionConfig;

impl Pair {
    /// The first side's packets come from another address from now on.
    fn move_first(&mut self, host: u8, port: u16) -> SocketAddr {
        let address = SocketAddr::from(([10, 9, 9, host], port));
        std::mem::replace(&mut self.sides[0].address, address)
    }

    /// Where the second side takes the first for being.
    fn believed(&self) -> SocketAddr {
        let endpoint = &self.sides[1].endpoint;
        let live = endpoint.peers.find(0).unwrap().current.unwrap();
        endpoint.lives.find(live).unwrap().session.address()
    }

    /// Everything the first side wants to send now, without its arriving.
    fn intercept(&mut self) -> Vec<Vec<u8>> {
        let now = self.now;
        let next = || Some(self.sides[0].endpoint.poll_transmit(now)?.lease.to_vec());
        std::iter::from_fn(next).collect()
    }

    fn bytes_astray_to(&self, address: SocketAddr) -> usize {
        self.astray.iter().filter(|(to, _)| *to == address).map(|(_, len)| len).sum()
    }
}

// PROTOCOL 7.10 and 7.11
#[test]
fn session_follows_its_peer_and_every_message_arrives_once() {
    let (mut pair, peer) = Pair::connected();
    let mut sent = 0;
    for host in 1..=20 {
        pair.move_first(host, 1_000 + u16::from(host));
        for _ in 0..50 {
            pair.send(peer, ServiceKind::ExactlyOnce, &[host; 100]);
            sent += 1;
        }
        pair.drive_for(Duration::from_secs(1));
        assert_eq!(pair.believed(), pair.sides[0].address);
    }
    assert_eq!(pair.sides[1].messages.len(), sent);
    assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), sent as u64);
    let moved = |change: &&SessionChange| matches!(change, SessionChange::Moved { .. });
    assert_eq!(pair.sides[1].changes.iter().filter(moved).count(), 20);
    assert_eq!(pair.sides[1].endpoint.counters().sessions_moved, 20);
    assert_eq!(pair.sides[0].changes.len(), 1, "who moves does not notice");
}

// PROTOCOL 7.10
#[test]
fn replies_to_a_peer_that_moved_arrive() {
    let (mut pair, peer) = Pair::connected();
    for round in 0..5 {
        pair.move_first(7, 2_000 + round);
        pair.send(peer, ServiceKind::Request, b"abc");
        pair.drive_for(Duration::from_secs(1));
    }
    assert_eq!(pair.sides[0].replies.len(), 5);
    assert_eq!(pair.sides[0].outcome_count(Outcome::Replied), 5);
}

// PROTOCOL 7.10 and 7.12
#[test]
fn forged_source_moves_nothing_and_gets_three_times_its_bytes_at_most() {
    let (mut pair, peer) = Pair::connected();
    let victim = SocketAddr::from(([192, 0, 2, 1], 53));
    let mut received = 0;
    for _ in 0..20 {
        // Somebody on the path sends the peer's own packets on as the victim's, and is first.
        pair.send(peer, ServiceKind::ExactlyOnce, &[1; 40]);
        for packet in pair.intercept() {
            received += packet.len();
            let now = pair.now;
            pair.sides[1].receive(now, victim, Ecn::NotEct, &packet);
            let from = pair.sides[0].address;
            pair.sides[1].receive(now, from, Ecn::NotEct, &packet);
        }
        pair.drive_for(Duration::from_millis(3));
    }
    pair.drive();
    let home = pair.sides[0].address;
    assert_eq!(pair.believed(), home);
    let astray = pair.bytes_astray_to(victim);
    assert!(astray > 0 && astray <= 3 * received, "{astray} bytes for {received}");
    assert_eq!(pair.sides[1].endpoint.counters().sessions_moved, 0);
    assert_eq!(pair.sides[1].messages.len(), 20);
    // Replayed from elsewhere later, a packet is a replay and no more.
    pair.send(peer, ServiceKind::ExactlyOnce, b"last");
    let packets = pair.intercept();
    let now = pair.now;
    packets.iter().for_each(|packet| pair.sides[1].receive(now, home, Ecn::NotEct, packet));
    pair.drive_for(Duration::from_secs(4)); // No challenge is open any more.
    pair.astray.clear();
    let now = pair.now;
    packets.iter().for_each(|packet| pair.sides[1].receive(now, victim, Ecn::NotEct, packet));
    pair.drive();
    assert_eq!(pair.bytes_astray_to(victim), 0);
}

// PROTOCOL 7.13
#[test]
fn plain_session_stays_where_it_was_opened() {
    let plain = |config: &mut EndpointConfig| {
        config.offer = Offer::new(&[Suite::Aes256Gcm], &[Mode::Plain])
    };
    let (mut pair, peer) = Pair::with(plain, plain).connect();
    let home = pair.move_first(1, 1_000);
    pair.send(peer, ServiceKind::Maybe, b"hello");
    pair.drive();
    assert_eq!(pair.sides[1].messages.len(), 1);
    assert_eq!(pair.believed(), home);
}

// PROTOCOL 5.26 and 7.13
#[test]
fn another_host_is_another_path_and_another_port_is_not() {
    let fast = |config: &mut EndpointConfig| {
        config.mtu = Mtu::Auto;
        config.congestion = CongestionConfig::Cubic;
    };
    let (mut pair, peer) = Pair::with(fast, fast).connect();
    let other = pair.sides[1].endpoint.peer_id(0);
    for _ in 0..100 {
        pair.send(peer, ServiceKind::Request, &[7; 1_000]);
    }
    pair.drive_for(Duration::from_secs(3));
    let known = pair.sides[1].endpoint.path(other).unwrap();
    assert_eq!((known.datagram_len, known.is_ecn_capable), (1_472, true));
    pair.sides[0].address.set_port(9);
    pair.send(peer, ServiceKind::Maybe, b"new port");
    pair.drive_for(Duration::from_millis(2));
    assert_eq!(pair.believed().port(), 9);
    let after = pair.sides[1].endpoint.path(other).unwrap();
    assert_eq!((after.datagram_len, after.window), (1_472, known.window));
    assert!(after.is_ecn_capable);
    pair.move_first(1, 9);
    pair.longest = 1_300;
    pair.send(peer, ServiceKind::Maybe, b"new host");
    pair.drive_for(Duration::from_millis(2));
    let after = pair.sides[1].endpoint.path(other).unwrap();
    assert_eq!((after.datagram_len, after.is_ecn_capable), (1_200, false));
    pair.drive();
}

// PROTOCOL 7.4 and 7.14
#[test]
fn silent_session_lives_on_only_if_somebody_keeps_it_alive() {
    let lost = [SessionChange::Lost(CloseReason::Idle)];
    // By default: 30 s, and nobody asks. The peer's shorter patience is ours, too.
    for (ours, patience) in [(30, 30), (10, 10)] {
        let adjust = |config: &mut EndpointConfig| config.idle_timeout = Duration::from_secs(ours);
        let (mut pair, _) = Pair::with(|_| {}, adjust).connect();
        let sent = pair.sent;
        pair.drive_for(Duration::from_secs(patience - 1));
        assert_eq!((pair.sent, pair.sides[0].changes.len()), (sent, 1));
        pair.drive_for(Duration::from_secs(2));
        pair.sides.iter().for_each(|side| assert_eq!(side.changes[1..], lost));
    }
    // One side is enough. It asks every 22.5 s, or 7.5 s where 15 s would be too late.
    for (idle, asked) in [(30, 26..=26), (10, 79..=80)] {
        let keeps = |config: &mut EndpointConfig| {
            config.idle_timeout = Duration::from_secs(idle);
            config.keep_alive = true;
        };
        let (mut pair, _) = Pair::with(keeps, |_| {}).connect();
        let sent = pair.sides[0].endpoint.counters().packets_sent;
        pair.drive_for(Duration::from_secs(600));
        assert_eq!(pair.sides[0].changes.len(), 1, "{:?}", pair.sides[0].changes);
        let pings = pair.sides[0].endpoint.counters().packets_sent - sent;
        assert!(asked.contains(&pings), "{pings} in ten minutes");
    }
    // It does not hide that nobody is there.
    let keeps = |config: &mut EndpointConfig| config.keep_alive = true;
    let (mut pair, _) = Pair::with(keeps, |_| {}).connect();
    pair.loses = Box::new(|_| true);
    pair.drive_for(Duration::from_secs(31));
    assert_eq!(pair.sides[0].changes[1..], lost);
}
