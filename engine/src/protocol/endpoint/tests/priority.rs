//! What is urgent does not wait for what is large.

use super::segments::lossy;
use super::*;
use crate::protocol::session::recovery::CongestionConfig;

/// Delivery times of urgent messages of 64 bytes, one a millisecond, in microseconds.
fn urgent_delays(pair: &mut Pair, peer: PeerId, count: u32) -> Vec<u64> {
    const STEP: Duration = Duration::from_micros(50);
    let options = SendOptions::new(ServiceKind::ExactlyOnce).priority(Priority::Urgent);
    let mut delays = Vec::new();
    for _ in 0..count {
        let before = pair.sides[1].messages.len();
        let sent = pair.now;
        pair.sides[0].endpoint.send(sent, peer, &options, (&[5; 64]).into()).unwrap();
        while pair.sides[1].messages.len() == before {
            pair.drive_for(STEP);
        }
        let spent = pair.now.saturating_since(sent);
        delays.push(spent.as_micros());
        pair.drive_for(Duration::from_millis(1).saturating_sub(spent));
    }
    delays.sort_unstable();
    delays
}

#[test]
fn urgent_message_is_not_held_up_by_a_large_one() {
    // PROTOCOL 6.20
    let large = |config: &mut EndpointConfig| {
        config.congestion = CongestionConfig::FixedRate { bytes_per_second: 100 << 20 };
        config.receive_bytes = 128 << 20;
        config.whole_len_max = 1 << 20; // In pieces, which the test does not look at.
    };
    let mut pair = Pair::with(large, large);
    pair.one_way = Duration::from_millis(2);
    for side in &mut pair.sides {
        side.pool = Pool::new(32_768, 2_048).unwrap(); // A whole window may arrive at once.
    }
    let (mut pair, peer) = pair.connect();
    let idle = urgent_delays(&mut pair, peer, 100);
    let bulk = SendOptions::new(ServiceKind::ExactlyOnce).priority(Priority::Bulk);
    let whole: Arc<[u8]> = vec![7; 64 << 20].into();
    let now = pair.now;
    let first = pair.sides[0].endpoint.send(now, peer, &bulk, whole.into()).unwrap();
    let busy = urgent_delays(&mut pair, peer, 100);
    let is_under_way = pair.sides[0].outcomes.iter().all(|outcome| outcome.0 != first);
    assert!(is_under_way, "the transfer has to outlast the messages");
    let [idle, busy] = [&idle, &busy].map(|delays| delays[delays.len() * 99 / 100]);
    assert!(busy < idle + idle / 10, "99 % within {busy} us, and {idle} us when idle");
    println!("99 % within {busy} us, and {idle} us when idle");
}

/// Sends a message of `len` bytes at one priority.
fn send_long(pair: &mut Pair, to: PeerId, service: ServiceKind, priority: Priority, len: usize) {
    let options = SendOptions::new(service).priority(priority);
    let now = pair.now;
    pair.sides[0].endpoint.send(now, to, &options, vec![7; len].as_slice().into()).unwrap();
}

/// An urgent message each millisecond makes bulk yield, until `ends` says so. Returns how long that
/// took, 10 s at most.
fn while_urgent(pair: &mut Pair, peer: PeerId, ends: impl Fn(&Side) -> bool) -> Duration {
    let start = pair.now;
    while !ends(&pair.sides[0]) && pair.now.saturating_since(start) < Duration::from_secs(10) {
        let urgent = SendOptions::new(ServiceKind::Maybe).priority(Priority::Urgent);
        let now = pair.now;
        // Numbers run out beside a long message that takes too long.
        let _ = pair.sides[0].endpoint.send(now, peer, &urgent, (&[5; 64]).into());
        pair.drive_for(Duration::from_millis(1));
    }
    pair.now.saturating_since(start)
}

fn ended(side: &Side) -> usize {
    let is_end = |outcome: &&(u64, u32, Outcome)| outcome.2 != Outcome::Sent;
    side.outcomes.iter().filter(is_end).count()
}

#[test]
fn bulk_that_yields_goes_on_at_every_level_whatever_is_lost() {
    // PROTOCOL 6.20
    for mode in [Mode::Sealed, Mode::Plain] {
        for service in [ServiceKind::ExactlyOnce, ServiceKind::Request, ServiceKind::Sequence] {
            let adjust = |config: &mut EndpointConfig| {
                config.offer = Offer::new(&[Suite::Aes256Gcm], &[mode]);
            };
            let mut pair = Pair::with(adjust, adjust);
            pair.one_way = Duration::from_millis(2);
            let (mut pair, peer) = pair.connect();
            send_long(&mut pair, peer, service, Priority::Bulk, 1 << 20);
            lossy(&mut pair, 50);
            let took = while_urgent(&mut pair, peer, |side| ended(side) == 1);
            assert!(took < Duration::from_secs(2), "{service:?} {mode:?}: {took:?}");
        }
    }
}

#[test]
fn bulk_of_which_all_is_lost_that_may_be_in_flight_is_asked_for_again() {
    // PROTOCOL 6.20
    let mut pair = Pair::new();
    pair.one_way = Duration::from_millis(2);
    let (mut pair, peer) = pair.connect();
    send_long(&mut pair, peer, ServiceKind::ExactlyOnce, Priority::Bulk, 1 << 20);
    let until = pair.now + Duration::from_millis(20);
    while_urgent(&mut pair, peer, |side| side.outcomes.len() == 20);
    assert!(pair.now >= until && ended(&pair.sides[0]) == 0, "it is under way");
    let flight = pair.sent..pair.sent + 24;
    pair.loses = Box::new(move |number| flight.contains(&number));
    pair.drive_for(Duration::from_secs(5));
    assert_eq!(ended(&pair.sides[0]), 1);
}

#[test]
fn bulk_that_yields_does_not_wait_for_acknowledgements_that_nobody_asks_for() {
    // PROTOCOL 6.20
    let jumbo = |config: &mut EndpointConfig| config.mtu = Mtu::Fixed(9_000);
    let took = [ServiceKind::ExactlyOnce, ServiceKind::Request].map(|service| {
        let mut pair = Pair::with(jumbo, jumbo);
        pair.longest = 9_000;
        let (mut pair, peer) = pair.connect();
        send_long(&mut pair, peer, service, Priority::Bulk, 1 << 20);
        while_urgent(&mut pair, peer, |side| ended(side) == 1)
    });
    assert!(took[1] < took[0].saturating_mul(4), "{took:?}");
}

#[test]
fn bulk_has_its_share_beside_what_is_normal_and_urgent() {
    // PROTOCOL 6.20
    let large = |config: &mut EndpointConfig| config.receive_bytes = 128 << 20;
    let mut pair = Pair::with(large, large);
    pair.one_way = Duration::from_millis(2);
    let (mut pair, peer) = pair.connect();
    send_long(&mut pair, peer, ServiceKind::ExactlyOnce, Priority::Normal, 16 << 20);
    send_long(&mut pair, peer, ServiceKind::ExactlyOnce, Priority::Bulk, 1 << 20);
    while_urgent(&mut pair, peer, |side| ended(side) == 1);
    let first = pair.sides[0].outcomes.iter().find(|outcome| outcome.2 != Outcome::Sent);
    assert_eq!(first.map(|outcome| outcome.0), Some(1), "1 of 5 packets, and 1 of 17 bytes");
}
