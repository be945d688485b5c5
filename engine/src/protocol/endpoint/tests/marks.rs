//! Marks between two endpoints, on paths that keep, take and set them.

use super::*;

/// Sends bursts over a path that does `alter` to the marks of what the first side sends, and
/// returns the marks with which its packets left, and how often its window was cut.
fn marks_sent(mut alter: impl FnMut(Ecn) -> Ecn) -> (Vec<Ecn>, u32) {
    let mut pair = Pair::new();
    let (address, key) = (pair.sides[1].address, pair.sides[1].key);
    let peer = pair.sides[0].endpoint.connect(pair.now, address, key).unwrap();
    let mut sent = Vec::new();
    for number in 0..31 {
        // The first turns open the session.
        for _ in 0..4 * usize::from(number > 0) {
            pair.send(peer, ServiceKind::ExactlyOnce, &[7; 1_000]);
        }
        let end = pair.now + Duration::from_millis(5);
        while pair.now < end {
            pair.turn();
            let arrival = pair.now + pair.one_way;
            for entry in pair.link.iter_mut().filter(|entry| entry.1 && entry.0 == arrival) {
                sent.push(entry.2);
                entry.2 = alter(entry.2);
            }
            pair.now += Duration::from_micros(50);
        }
        assert_eq!(pair.sides[1].messages.len(), 4 * number);
    }
    let live = pair.sides[0].endpoint.lives.find(0).expect("the session is open");
    (sent, live.session.recovery.statistics().cuts)
}

// PROTOCOL 5.26
#[test]
fn keyed_session_on_a_sound_path_marks_everything() {
    let (sent, cuts) = marks_sent(|ecn| ecn);
    assert!(sent.len() > 100);
    let marked = sent.iter().filter(|&&ecn| ecn == Ecn::Ect0).count();
    assert!(marked + 12 > sent.len(), "{marked} of {}", sent.len());
    assert_eq!((sent[sent.len() - 1], cuts), (Ecn::Ect0, 0));
}

// PROTOCOL 5.27 and 5.28
#[test]
fn path_that_takes_or_always_sets_marks_ends_marking_and_costs_nothing() {
    for broken in [Ecn::NotEct, Ecn::Ce, Ecn::Ect1] {
        let (sent, cuts) = marks_sent(|ecn| if ecn == Ecn::Ect0 { broken } else { ecn });
        let marked = sent.iter().filter(|&&ecn| ecn != Ecn::NotEct).count();
        assert!(marked <= 10, "{broken:?}: {marked} of {}", sent.len());
        assert_eq!(cuts, 0, "{broken:?}");
    }
}

// PROTOCOL 5.29
#[test]
fn queue_that_marks_cuts_the_window_and_nothing_is_sent_twice() {
    let mut count = 0;
    let (sent, cuts) = marks_sent(|ecn| {
        count += 1;
        if count % 20 == 0 && ecn == Ecn::Ect0 { Ecn::Ce } else { ecn }
    });
    assert!(sent.len() < 140, "nothing was lost, so nothing is sent again: {}", sent.len());
    assert!(cuts >= 4, "{cuts}");
}

// PROTOCOL 5.26
#[test]
fn plain_session_marks_nothing() {
    let plain = |config: &mut EndpointConfig| {
        config.offer = Offer::new(&[Suite::Aes256Gcm], &[Mode::Plain]);
    };
    let (mut pair, peer) = Pair::with(plain, plain).connect();
    pair.send(peer, ServiceKind::ExactlyOnce, b"plain");
    pair.turn();
    assert!(!pair.link.is_empty() && pair.link.iter().all(|entry| entry.2 == Ecn::NotEct));
}
