//! Messages in segments between two endpoints: loss, bounds, levels, pieces, a path that shrinks.

use super::*;

/// Bytes that differ from place to place.
pub(super) fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 % 251).to_le_bytes()[0]).collect()
}

/// A link that loses one datagram in `every`, once the session is open.
pub(super) fn lossy(pair: &mut Pair, every: u64) {
    let start = pair.sent;
    pair.loses = Box::new(move |number| number > start && (number * 7 + 3) % every == 0);
}

// PROTOCOL 6.15 and 6.16
#[test]
fn message_of_every_level_travels_in_segments_and_ends_as_a_small_one_does() {
    for (service, outcome) in [
        (ServiceKind::Maybe, Outcome::Sent),
        (ServiceKind::Repeat, Outcome::Sent),
        (ServiceKind::RepeatDedup, Outcome::Sent),
        (ServiceKind::MoreOrLessOnce, Outcome::Delivered),
        (ServiceKind::AtMostOnce, Outcome::Delivered),
        (ServiceKind::ExactlyOnce, Outcome::Delivered),
        (ServiceKind::Sequence, Outcome::Delivered),
        (ServiceKind::Request, Outcome::Replied),
    ] {
        let (mut pair, peer) = Pair::connected();
        let message = bytes(100_000);
        pair.send(peer, service, &message);
        pair.send(peer, service, b"small");
        pair.drive();
        let delivered: Vec<_> = pair.sides[1].messages.iter().map(|(_, t, m)| (*t, m)).collect();
        let copies = if service == ServiceKind::Repeat { 7 } else { 0 };
        assert_eq!(delivered.len(), 2 + copies, "{service:?}");
        assert!(delivered.iter().any(|(t, m)| *t == 0 && **m == message), "{service:?}");
        assert_eq!(pair.sides[0].outcome_count(outcome), 2, "{service:?}");
        for side in &pair.sides {
            let (free, all) = side.endpoint.free_buffers();
            assert_eq!(free, all, "{service:?}: every buffer is back");
        }
    }
}

// PROTOCOL 6.12 and 6.15
#[test]
fn packets_say_whether_more_of_their_burst_and_of_their_message_follow() {
    let (mut pair, peer) = Pair::with(|config| config.bundle = false, |_| {}).connect();
    let mut flags = |messages: &[usize]| {
        for &len in messages {
            pair.send(peer, ServiceKind::ExactlyOnce, &bytes(len));
        }
        pair.turn();
        let heads = pair.link.drain(..).filter_map(|(_, to_second, _, datagram)| {
            let head = crate::protocol::wire::split(&datagram).unwrap().head;
            let (burst, pending) = (Flags::BURST, Flags::PENDING);
            let flags = (head.flags.contains(burst), head.flags.contains(pending));
            (to_second && head.packet == PacketKind::Message).then_some(flags)
        });
        heads.collect::<Vec<_>>()
    };
    assert_eq!(flags(&[10]), [(false, false)]);
    assert_eq!(flags(&[10, 10]), [(true, false), (false, false)]);
    assert_eq!(flags(&[3_000]), [(true, true), (true, true), (false, false)]);
    assert_eq!(flags(&[2_000, 10]), [(true, true), (true, false), (false, false)]);
}

#[test]
fn message_in_segments_leaves_although_small_ones_behind_it_took_every_buffer() {
    let few = |config: &mut EndpointConfig| {
        config.send_buffers = 4;
        config.bundle = false;
    };
    let (mut pair, peer) = Pair::with(few, |_| {}).connect();
    pair.send(peer, ServiceKind::ExactlyOnce, &bytes(10_000));
    let options = ServiceKind::ExactlyOnce.into();
    let small = std::iter::repeat_with(|| {
        pair.sides[0].endpoint.send(pair.now, peer, &options, b"small".into())
    });
    assert_eq!(small.take_while(Result::is_ok).count(), 4);
    pair.drive();
    assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 5);
}

// PROTOCOL 6.15 and 6.9
#[test]
fn message_in_segments_survives_loss_and_comes_once() {
    let (mut pair, peer) = Pair::connected();
    lossy(&mut pair, 9);
    let message = bytes(3 << 20);
    for service in [ServiceKind::ExactlyOnce, ServiceKind::Request, ServiceKind::Sequence] {
        pair.send(peer, service, &message);
        pair.drive_for(Duration::from_secs(20));
    }
    assert_eq!(pair.sides[1].messages.len(), 3);
    assert!(pair.sides[1].messages.iter().all(|(_, _, received)| *received == message));
    let reversed: Vec<u8> = message.iter().rev().copied().collect();
    assert_eq!(pair.sides[0].replies, [(1, reversed)]);
    assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 2);
    assert_eq!(pair.sides[0].outcome_count(Outcome::Replied), 1);
}

// PROTOCOL 6.15
#[test]
fn message_in_segments_needs_no_packet_numbers() {
    let plain = |config: &mut EndpointConfig| {
        config.offer = Offer::new(&[Suite::Aes256Gcm], &[Mode::Plain]);
    };
    let (mut pair, peer) = Pair::with(plain, plain).connect();
    lossy(&mut pair, 23);
    let message = bytes(1 << 20);
    for _ in 0..3 {
        pair.send(peer, ServiceKind::ExactlyOnce, &message);
    }
    pair.drive_for(Duration::from_secs(60));
    assert_eq!(pair.sides[1].messages.len(), 3);
    assert!(pair.sides[1].messages.iter().all(|(_, _, received)| *received == message));
    assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 3);
}

// PROTOCOL 6.16
#[test]
fn longest_message_is_what_the_peer_reserves() {
    let (mut pair, peer) = Pair::with(|_| {}, |config| config.receive_bytes = 1 << 20).connect();
    let options = ServiceKind::ExactlyOnce.into();
    let now = pair.now;
    let endpoint = &mut pair.sides[0].endpoint;
    assert_eq!(endpoint.message_len_max(peer, &options), Ok(1 << 20));
    let message = bytes((1 << 20) + 1);
    let beyond = endpoint.send(now, peer, &options, (&message).into());
    assert_eq!(beyond, Err(SendError::TooLarge { max: 1 << 20 }));
    let newest = SendOptions::new(ServiceKind::Maybe).overflow(Overflow::DropNewest);
    let beyond = endpoint.send(now, peer, &newest, (&message).into());
    assert_eq!(beyond, Err(SendError::TooLarge { max: 1 << 20 }));
    assert_eq!(endpoint.counters().messages_dropped, 0, "it was not for want of room");
    endpoint.send(now, peer, &options, (&message[1..]).into()).unwrap();
    let second = endpoint.send(now, peer, &options, (&message[1..]).into());
    assert_eq!(second, Err(SendError::Full(FullReason::Bytes)));
    pair.drive();
    assert_eq!(pair.sides[1].messages[0].2, message[1..]);
}

// PROTOCOL 6.16
#[test]
fn long_message_is_handed_over_in_pieces_when_asked_for() {
    let pieces = |config: &mut EndpointConfig| config.whole_len_max = 10_000;
    let (mut pair, peer) = Pair::with(|_| {}, pieces).connect();
    lossy(&mut pair, 11);
    let message = bytes(1 << 20);
    pair.send(peer, ServiceKind::ExactlyOnce, &message);
    pair.send(peer, ServiceKind::ExactlyOnce, &message[..9_000]);
    pair.drive_for(Duration::from_secs(10));
    assert_eq!(pair.sides[1].pieces.0, message);
    assert!(pair.sides[1].pieces.1 > 500);
    assert_eq!(pair.sides[1].messages.len(), 1);
    assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 2);
}

// PROTOCOL 6.17
#[test]
fn packets_that_the_path_no_longer_carries_are_cut_anew() {
    let auto = |config: &mut EndpointConfig| config.mtu = Mtu::Auto;
    let mut pair = Pair::with(auto, auto);
    pair.longest = 9_000;
    let (mut pair, peer) = pair.connect();
    for _ in 0..20 {
        pair.send(peer, ServiceKind::ExactlyOnce, &bytes(200_000));
        pair.drive();
    }
    assert_eq!(pair.sides[0].endpoint.path(peer).unwrap().datagram_len, 8_972);
    let before = pair.sides[1].messages.len();
    pair.longest = 1_300;
    // One message in a packet, several in one, one in segments: none of their packets fits.
    let single = bytes(7_000);
    pair.send(peer, ServiceKind::AtMostOnce, &single);
    for number in 0..60_u8 {
        pair.send(peer, ServiceKind::ExactlyOnce, &[number; 100]);
    }
    pair.send(peer, ServiceKind::ExactlyOnce, &bytes(200_000));
    pair.drive_for(Duration::from_secs(10));
    assert_eq!(pair.sides[0].endpoint.path(peer).unwrap().datagram_len, 1_200);
    let arrived = &pair.sides[1].messages[before..];
    assert_eq!(arrived.len(), 62);
    assert!(arrived.iter().any(|(_, _, message)| *message == single));
    assert!((0..60_u8).all(|n| arrived.iter().any(|(_, _, message)| *message == [n; 100])));
}

// PROTOCOL 6.17
#[test]
fn message_that_is_cut_anew_is_abandoned_before_its_pieces_come_again() {
    let auto = |config: &mut EndpointConfig| config.mtu = Mtu::Auto;
    let pieces = |config: &mut EndpointConfig| {
        config.mtu = Mtu::Auto;
        config.whole_len_max = 300_000;
    };
    let mut pair = Pair::with(auto, pieces);
    pair.longest = 9_000;
    let (mut pair, peer) = pair.connect();
    for _ in 0..20 {
        pair.send(peer, ServiceKind::ExactlyOnce, &bytes(200_000));
        pair.drive();
    }
    let message = bytes(4 << 20);
    pair.send(peer, ServiceKind::ExactlyOnce, &message);
    while pair.sides[1].pieces.0.is_empty() {
        pair.drive_for(Duration::from_micros(10));
    }
    pair.longest = 1_300;
    pair.link.retain(|(.., datagram)| datagram.len() <= 1_300);
    pair.drive_for(Duration::from_secs(10));
    assert_eq!(pair.sides[1].abandoned, 1);
    assert_eq!(pair.sides[1].pieces.0, message);
    assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 21);
}

// PROTOCOL 6.10 and 6.17
#[test]
fn each_reply_of_a_bundle_that_was_cut_anew_ends_its_request() {
    let auto = |config: &mut EndpointConfig| config.mtu = Mtu::Auto;
    let mut pair = Pair::with(auto, auto);
    pair.longest = 9_000;
    let (mut pair, peer) = pair.connect();
    for _ in 0..20 {
        pair.send(peer, ServiceKind::Request, &bytes(200_000));
        pair.drive();
    }
    pair.longest = 1_300;
    for number in 0..60_u8 {
        pair.send(peer, ServiceKind::Request, &[number; 100]);
    }
    pair.drive_for(Duration::from_secs(10));
    assert_eq!(pair.sides[0].replies.len(), 80);
    assert_eq!(pair.sides[0].outcome_count(Outcome::Replied), 80);
}

// PROTOCOL 6.16
#[test]
fn segments_that_nobody_sends_again_are_no_loss_when_there_is_no_memory_for_them() {
    let (mut pair, peer) = Pair::with(|_| {}, |config| config.receive_bytes = 20_000).connect();
    let message = bytes(20_000);
    let start = pair.sent;
    // The first one is never complete, and keeps the memory.
    pair.loses = Box::new(move |number| number == start + 1);
    for _ in 0..5 {
        pair.send(peer, ServiceKind::Maybe, &message);
    }
    pair.drive();
    let drops = &pair.sides[1].endpoint.counters().drops;
    assert!(drops.get(DropReason::SegmentMemory) > 50);
    assert_eq!(pair.sides[0].endpoint.counters().packets_lost, 1);
    // What is to be sent again is not acknowledged.
    for service in [ServiceKind::ExactlyOnce, ServiceKind::Maybe] {
        pair.drive_for(Duration::from_secs(11));
        pair.send(peer, service, &message);
        pair.drive();
        assert_eq!(pair.sides[1].messages.last().unwrap().2, message);
    }
}

// PROTOCOL 6.17 and 6.19
#[test]
fn replies_of_a_bundle_that_was_cut_anew_come_though_the_first_is_no_longer_awaited() {
    let auto = |config: &mut EndpointConfig| config.mtu = Mtu::Auto;
    let mut pair = Pair::with(auto, auto);
    pair.longest = 9_000;
    let (mut pair, peer) = pair.connect();
    for _ in 0..20 {
        pair.send(peer, ServiceKind::Request, &bytes(200_000));
        pair.drive();
    }
    let first = pair.send(peer, ServiceKind::Request, &[0; 100]);
    for number in 1..60_u8 {
        pair.send(peer, ServiceKind::Request, &[number; 100]);
    }
    pair.drive_for(ONE_WAY + Duration::from_micros(10));
    assert_eq!(pair.sides[1].messages.len(), 80, "and their replies are on their way");
    pair.longest = 1_300;
    pair.link.clear();
    assert!(pair.sides[0].endpoint.cancel(peer, first));
    pair.drive_for(Duration::from_secs(10));
    assert_eq!(pair.sides[0].replies.len(), 79);
    assert_eq!(pair.sides[0].endpoint.memory(peer).unwrap().incomplete_replies, 0);
}

// PROTOCOL 6.16
#[test]
fn bundle_of_replies_in_segments_is_not_copied_for_each_run_of_new_ones() {
    const REQUESTS: u8 = 200;
    let auto = |config: &mut EndpointConfig| config.mtu = Mtu::Auto;
    let mut pair = Pair::with(auto, auto);
    pair.longest = 30_000;
    let (mut pair, peer) = pair.connect();
    for _ in 0..20 {
        pair.send(peer, ServiceKind::Request, &bytes(200_000));
        pair.drive();
    }
    pair.sides[0].replies.clear();
    let asked = (0..REQUESTS).map(|number| {
        let question = vec![number; 100];
        (pair.send(peer, ServiceKind::Request, &question), question)
    });
    let asked: Vec<_> = asked.collect();
    pair.drive_for(ONE_WAY + Duration::from_micros(10));
    // The path carries less: the bundle is cut. Every second reply was taken before.
    pair.longest = 1_300;
    pair.link.clear();
    let slot = peer.slot;
    let known = pair.sides[0].endpoint.peers.find_mut(slot).unwrap().association.as_mut().unwrap();
    for (transaction, _) in asked.iter().skip(1).step_by(2) {
        assert!(known.outbox.on_reply(*transaction));
    }
    // Until the bundle is complete, and its replies wait to be handed over.
    let mut most = 0;
    let end = pair.now + Duration::from_secs(10);
    while pair.now < end && pair.sides[0].replies.is_empty() {
        pair.now += Duration::from_micros(100);
        while pair.link.front().is_some_and(|entry| entry.1 || entry.0 <= pair.now) {
            let (_, to_second, ecn, bytes) = pair.link.pop_front().unwrap();
            let (to, from) = if to_second { (1, 0) } else { (0, 1) };
            let from = pair.sides[from].address;
            pair.sides[to].receive(pair.now, from, ecn, &bytes);
            most = most.max(pair.sides[0].endpoint.blocks.used());
        }
        pair.turn();
    }
    // A bundle of 28 replies, and no more than that again for its 14 runs.
    assert!((2_000..8_000).contains(&most), "{most} bytes");
    pair.drive();
    pair.sides[0].replies.sort();
    let others: Vec<_> = asked.into_iter().step_by(2).collect();
    assert_eq!(pair.sides[0].replies, others);
}

// PROTOCOL 6.19
#[test]
fn incomplete_reply_is_forgotten_with_its_request() {
    let pieces = |config: &mut EndpointConfig| config.whole_len_max = 10_000;
    let (mut pair, peer) = Pair::with(pieces, |_| {}).connect();
    pair.sides[1].replies_at_once = false;
    // One that is handed over whole, and one of which pieces were handed over.
    for len in [9_000, 100_000] {
        let transaction = pair.send(peer, ServiceKind::Request, b"how much");
        pair.drive();
        let requester = pair.sides[1].messages[0].0;
        let (now, reply) = (pair.now, bytes(len));
        pair.sides[1].endpoint.reply(now, requester, transaction, (&reply).into()).unwrap();
        let start = pair.sent;
        pair.loses = Box::new(move |number| number > start && (number - start) % 3 == 0);
        pair.drive_for(ONE_WAY + Duration::from_micros(20));
        pair.loses = Box::new(|_| true);
        assert!(pair.sides[0].endpoint.memory(peer).unwrap().incomplete_replies > 0);
        assert!(pair.sides[0].endpoint.cancel(peer, transaction));
        assert_eq!(pair.sides[0].endpoint.memory(peer).unwrap().incomplete_replies, 0);
        pair.loses = Box::new(|_| false);
        pair.drive();
    }
    assert_eq!((pair.sides[0].abandoned, pair.sides[0].replies.len()), (1, 0));
}

// PROTOCOL 6.18
#[test]
fn message_waits_for_its_grant_and_asks_when_that_is_lost() {
    let (mut pair, peer) = Pair::connected();
    let message = bytes(400_000);
    for _ in 0..20 {
        pair.send(peer, ServiceKind::ExactlyOnce, &message);
    }
    // Everything the receiver says is lost for a while: grants too.
    pair.drive_for(Duration::from_micros(120));
    let link = std::mem::take(&mut pair.link);
    pair.link = link.into_iter().filter(|entry| entry.1).collect();
    pair.drive_for(Duration::from_secs(5));
    assert_eq!(pair.sides[1].messages.len(), 20);
    assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 20);
}

// PROTOCOL 6.13
#[test]
fn half_a_message_is_completed_in_the_next_session() {
    let (mut pair, peer) = Pair::connected();
    let message = bytes(2 << 20);
    pair.send(peer, ServiceKind::ExactlyOnce, &message);
    pair.drive_for(Duration::from_micros(400));
    assert!(pair.sides[1].messages.is_empty());
    let now = pair.now;
    pair.sides[0].endpoint.start_handshake(now, peer.slot);
    pair.drive();
    assert_eq!(pair.sides[1].messages.len(), 1);
    assert_eq!(pair.sides[1].messages[0].2, message);
    assert_eq!(pair.sides[0].outcomes, [(0, 1, Outcome::Delivered)]);
}

// PROTOCOL 6.20
#[test]
fn small_urgent_message_overtakes_a_large_one() {
    let (mut pair, peer) = Pair::connected();
    pair.send(peer, ServiceKind::ExactlyOnce, &bytes(8 << 20));
    pair.drive_for(Duration::from_micros(300));
    let options = SendOptions::new(ServiceKind::ExactlyOnce).priority(Priority::Urgent);
    pair.sides[0].endpoint.send(pair.now, peer, &options, b"now".into()).unwrap();
    pair.drive_for(Duration::from_micros(160));
    assert_eq!(pair.sides[1].messages.len(), 1, "the large one is still on its way");
    assert_eq!(pair.sides[1].messages[0].2, b"now");
}

// PROTOCOL 6.3
#[test]
fn credit_is_told_however_many_bytes_are_granted() {
    let endless = |config: &mut EndpointConfig| {
        (config.transactions, config.receive_bytes) = (64, u64::MAX);
    };
    let (mut pair, peer) = Pair::with(|_| {}, endless).connect();
    for _ in 0..4 {
        for _ in 0..64 {
            pair.send(peer, ServiceKind::ExactlyOnce, b"hello");
        }
        pair.drive();
    }
    assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 4 * 64);
}

// PROTOCOL 6.16
#[test]
fn messages_of_all_kinds_together_take_no_more_than_the_memory_for_all_peers() {
    let little = |config: &mut EndpointConfig| {
        config.receive_bytes = 300_000;
        config.receive_bytes_total = 300_000;
    };
    let (mut pair, peer) = Pair::with(|_| {}, little).connect();
    let (whole, of_stream) = (bytes(250_000), bytes(30_000));
    pair.send(peer, ServiceKind::ExactlyOnce, &whole);
    pair.send(peer, ServiceKind::Maybe, &bytes(100_000));
    pair.drive();
    let first = pair.sent;
    pair.loses = Box::new(move |number| number == first + 1 || number == first + 2);
    pair.send(peer, ServiceKind::Sequence, b"first, and late");
    pair.turn(); // Alone in its packet, which is lost.
    pair.send(peer, ServiceKind::Maybe, &bytes(48_000));
    pair.turn(); // Incomplete for good: its first segment is lost.
    pair.send(peer, ServiceKind::ExactlyOnce, &whole);
    pair.send(peer, ServiceKind::Sequence, &of_stream);
    for _ in 0..5 {
        pair.send(peer, ServiceKind::Sequence, &bytes(1_000));
    }
    let mut most = 0;
    for _ in 0..2_000 {
        pair.drive_for(Duration::from_micros(100));
        most = most.max(pair.sides[1].endpoint.blocks.used());
    }
    assert!((298_000..=300_000).contains(&most), "{most} bytes");
    pair.drive_for(crate::limits::ASSEMBLY_PATIENCE.saturating_mul(2));
    assert_eq!(pair.sides[1].endpoint.blocks.used(), 0);
    let messages = &pair.sides[1].messages;
    assert_eq!(messages.iter().filter(|(_, _, message)| *message == whole).count(), 2);
    assert_eq!(messages.len(), 2 + 1 + 1 + 5, "all but the two that nobody sends again");
    assert!(pair.sides[1].endpoint.counters().drops.get(DropReason::SegmentMemory) > 0);
    assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 9);
}
