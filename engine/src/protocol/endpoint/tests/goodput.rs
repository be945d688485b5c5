//! What a whole endpoint carries over a path that loses, in virtual time.

use super::*;

/// Sends `messages` of 1000 bytes, one a packet, over a path with a round trip of 20 ms on which
/// `judge` says what is lost, and returns how many arrived in a round trip.
fn carried(messages: u64, judge: Judge) -> f64 {
    let adjust = |config: &mut EndpointConfig| {
        config.bundle = false;
        config.mtu = Mtu::Fixed(1_200);
        config.initial_round_trip = Duration::from_millis(333);
        config.ack_delay_max = Duration::from_millis(25);
    };
    let mut pair = Pair::with(adjust, adjust);
    pair.one_way = Duration::from_millis(10);
    let (mut pair, peer) = pair.connect();
    pair.drive_for(Duration::from_secs(2));
    pair.loses = judge;
    let start = pair.now;
    pair.carry(peer, messages);
    let round_trips = pair.now.saturating_since(start).as_secs_f64() / 0.020;
    messages as f64 / round_trips
}

/// Loses each datagram with a chance of `per_mille`, `burst` in a row.
fn losing(per_mille: u64, burst: u64, seed: u64) -> Judge {
    let (mut random, mut left) = (seed, 0);
    Box::new(move |_| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if left == 0 && (random >> 33) % 1_000 < per_mille {
            left = burst;
        }
        let is_lost = left > 0;
        left = left.saturating_sub(1);
        is_lost
    })
}

// PROTOCOL 5.11 to 5.17: the average of CUBIC's sawtooth where it is as fast as the old rule is
// sqrt(3 / 2p) packets a round trip (RFC 9438 4.3), and one loss event costs one cut however many
// packets it has.
#[test]
fn bulk_transfer_over_random_loss_carries_what_cubic_can() {
    for seed in 0..3 {
        let ideal = (1.5_f64 / 0.02).sqrt();
        let single = carried(8_000, losing(20, 1, seed));
        println!("seed {seed}: {single:.2} packets a round trip of {ideal:.2}");
        assert!(single > 0.85 * ideal, "{single:.2}");
        // The same share of packets lost, in threes: a third of the loss events, of which some hit
        // acknowledgements and two packets of data.
        let ideal = (1.5 * 3.0 / 0.02_f64).sqrt();
        let bursts = carried(8_000, losing(7, 3, seed));
        println!("seed {seed}: in threes {bursts:.2} of {ideal:.2}");
        assert!(bursts > 0.75 * ideal, "{bursts:.2}");
    }
}
