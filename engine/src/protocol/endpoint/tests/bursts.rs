//! Many messages in a row.

use super::*;

#[test]
fn burst_is_as_many_sends_whatever_they_are_and_however_it_ends() {
    let (mut pair, peer) = Pair::connected();
    let urgent = SendOptions::new(ServiceKind::AtMostOnce).priority(Priority::Urgent);
    let endpoint = &mut pair.sides[0].endpoint;
    let sent = endpoint.burst(pair.now, peer, ServiceKind::ExactlyOnce.into(), |burst| {
        let mut sent = Vec::new();
        for number in 0..200_u8 {
            match number {
                100 => burst.set_options(urgent),
                150 => burst.set_options(ServiceKind::ExactlyOnce.into()),
                _ => {}
            }
            let len = if number % 50 == 7 { 5_000 } else { usize::from(number) };
            sent.push(match number % 2 {
                0 => burst.send(&vec![number; len]),
                _ => burst.send_with(len, |place| place.fill(number)),
            });
        }
        sent
    });
    assert!(sent.into_iter().eq((0..200).map(Ok)));
    assert_eq!(endpoint.counters().messages_accepted, 200);
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        endpoint.burst(pair.now, peer, ServiceKind::ExactlyOnce.into(), |burst| {
            burst.send(b"before").unwrap();
            burst.send(b"it").unwrap();
            let _ = burst.send_with(2, |_| panic!("an application's own"));
        });
    }));
    assert!(unwound.is_err());
    pair.send(peer, ServiceKind::ExactlyOnce, b"after");
    pair.drive();
    let mut arrived: Vec<_> = pair.sides[1].messages.iter().map(|m| (m.1, &m.2)).collect();
    arrived.sort_unstable();
    assert_eq!(arrived.len(), 203);
    for (number, (transaction, message)) in (0..200_u8).zip(&arrived) {
        let len = if number % 50 == 7 { 5_000 } else { usize::from(number) };
        assert_eq!((*transaction, *message), (number.into(), &vec![number; len]));
    }
    assert!(arrived[200..].iter().map(|m| &m.1[..]).eq([&b"before"[..], b"it", b"after"]));
    assert_eq!(pair.sides[0].endpoint.outstanding(peer), 0);
}

#[test]
fn row_is_as_many_sends_up_to_the_first_that_is_not_taken() {
    for (len, options) in [
        (0, SendOptions::from(ServiceKind::ExactlyOnce)),
        (64, ServiceKind::AtMostOnce.into()),
        (700, ServiceKind::ExactlyOnce.into()),
        (5_000, ServiceKind::ExactlyOnce.into()),
        (64, SendOptions::new(ServiceKind::Sequence).stream(StreamKind::Reliable, 3)),
    ] {
        // So few that they are all in use before the receiver of the test has no memory.
        let few = |config: &mut EndpointConfig| config.send_buffers = 150;
        let (mut pair, peer) = Pair::with(few, |_| {}).connect();
        let first = pair.send(peer, ServiceKind::ExactlyOnce, b"before");
        let (mut taken, mut refused) = (0, None);
        while refused.is_none() {
            let endpoint = &mut pair.sides[0].endpoint;
            let write = |at: u64, place: &mut [u8]| {
                assert_eq!(place.len(), len);
                place.fill((taken + at).to_le_bytes()[0]);
            };
            let (row, sent) =
                endpoint.burst(pair.now, peer, options, |burst| burst.send_row(40, len, write));
            assert_eq!(row.start, first + 1 + taken);
            taken += row.end - row.start;
            assert_eq!(sent.is_ok(), row.end - row.start == 40);
            refused = sent.err();
        }
        let endpoint = &mut pair.sides[0].endpoint;
        assert!(matches!(refused, Some(SendError::Full(_))), "{refused:?}");
        let once_more = endpoint.send(pair.now, peer, &options, Outbound::Borrowed(&vec![0; len]));
        assert_eq!(once_more.err(), refused, "{len} bytes: a single one is not taken either");
        assert_eq!(endpoint.counters().messages_accepted, 1 + taken);
        pair.drive();
        let mut arrived: Vec<_> = pair.sides[1].messages.iter().map(|m| (m.1, &m.2)).collect();
        arrived.sort_unstable();
        assert_eq!(arrived.len() as u64, 1 + taken, "{len} bytes");
        for (number, (transaction, message)) in (0..taken).zip(&arrived[1..]) {
            assert_eq!(*transaction, first + 1 + number);
            assert_eq!(**message, vec![number.to_le_bytes()[0]; len]);
        }
    }
}
