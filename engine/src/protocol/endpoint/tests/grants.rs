//! How much of a large message is on its way, over short and long paths in virtual time.

use super::*;
use crate::limits::SEGMENTS_GRANTED_MIN;
use crate::protocol::session::recovery::CongestionConfig;

const LEN: usize = 64 << 20;

/// Two endpoints with an open session over a path of `rate` bytes in a second.
fn connected(one_way: Duration, rate: u64) -> (Pair, PeerId) {
    let large = |config: &mut EndpointConfig| {
        config.congestion = CongestionConfig::FixedRate { bytes_per_second: rate };
        config.receive_bytes = 2 * LEN as u64;
        config.whole_len_max = 1 << 20; // In pieces, which the tests do not look at.
    };
    let mut pair = Pair::with(large, large);
    pair.one_way = one_way;
    for side in &mut pair.sides {
        side.pool = Pool::new(32_768, 2_048).unwrap(); // A whole window may arrive at once.
    }
    pair.connect()
}

/// Sends a message of [`LEN`] bytes; returns how long it took and the most that was in flight.
fn transfer(pair: &mut Pair, peer: PeerId) -> (Duration, u64) {
    let whole: Arc<[u8]> = vec![7; LEN].into();
    let (start, options) = (pair.now, ServiceKind::ExactlyOnce.into());
    let slot = pair.sides[0].endpoint.peers.find(peer.slot).unwrap().current.unwrap();
    pair.sides[1].pieces.0.clear();
    let ended = pair.sides[0].outcomes.len();
    pair.sides[0].endpoint.send(start, peer, &options, whole.into()).unwrap();
    let mut most = 0;
    while pair.sides[0].outcomes.len() == ended {
        pair.drive_for(Duration::from_millis(1));
        let live = pair.sides[0].endpoint.lives.find(slot).unwrap();
        most = live.session.recovery.in_flight_bytes().max(most);
    }
    (pair.now.saturating_since(start), most)
}

// PROTOCOL 6.18
#[test]
fn large_message_fills_a_long_path() {
    const RATE: u64 = 100_000_000;
    let (mut pair, peer) = connected(Duration::from_millis(50), RATE);
    let ideal = LEN as f64 / RATE as f64 + 0.1;
    let (first, _) = transfer(&mut pair, peer);
    let (second, most) = transfer(&mut pair, peer);
    println!("{first}, then {second}, with {most} bytes in flight; {ideal:.3} s at best");
    // The grant has to grow first, which no window of congestion hides at a fixed rate.
    assert!(first.as_secs_f64() < 3.3 * ideal, "{first}");
    assert!(second.as_secs_f64() < 1.3 * ideal, "{second}: what the path carries is known");
}

// PROTOCOL 6.18
#[test]
fn large_message_fills_a_short_path_with_the_least_grant() {
    let (mut pair, peer) = connected(Duration::from_micros(25), 1_000_000_000);
    for _ in 0..2 {
        let (spent, most) = transfer(&mut pair, peer);
        println!("{spent}, with {most} bytes in flight");
        assert!(most < SEGMENTS_GRANTED_MIN as u64 * 11 / 10, "{most} bytes in flight");
        assert!(spent < Duration::from_millis(80), "{spent}");
    }
}
