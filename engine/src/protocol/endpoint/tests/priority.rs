//! What is urgent does not wait for what is large.

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
