//! AEGIS-128L is spoken where both sides ask for it, and nowhere else.

use super::*;

const AEGIS: Suite = Suite::Aegis128L;
const AES: Suite = Suite::Aes256Gcm;

/// What two nodes with these suites speak, if anything; both modes, messages and losses included.
fn spoken(ours: &[Suite], theirs: &[Suite], mode: Mode) -> Option<Suite> {
    let offer = |suites: &[Suite]| {
        let offer = Offer::new(suites, &[mode]);
        move |config: &mut EndpointConfig| config.offer = offer
    };
    let mut pair = Pair::with(offer(ours), offer(theirs));
    let (address, key) = (pair.sides[1].address, pair.sides[1].key);
    let peer = pair.sides[0].endpoint.connect(pair.now, address, key).unwrap();
    pair.drive();
    let opened = pair.sides[0].changes.iter().find_map(|change| match change {
        SessionChange::Opened { suite, .. } => Some(*suite),
        _ => None,
    });
    if opened.is_some() {
        pair.loses = Box::new(|number| number.is_multiple_of(4));
        for number in 0..200_u32 {
            pair.send(peer, ServiceKind::ExactlyOnce, &number.to_le_bytes());
        }
        pair.drive_for(Duration::from_secs(20));
        assert_eq!(pair.sides[1].messages.len(), 200);
        assert_eq!(pair.sides[0].outcome_count(Outcome::Delivered), 200);
    }
    opened
}

// PROTOCOL 3.15
// PROTOCOL 4.3
#[test]
fn aegis_is_spoken_only_where_both_sides_ask_for_it() {
    for mode in [Mode::Sealed, Mode::Signed] {
        assert_eq!(spoken(&[AES, AEGIS], &[AEGIS, AES], mode), Some(AEGIS));
        assert_eq!(spoken(&[AEGIS], &[AEGIS], mode), Some(AEGIS));
        assert_eq!(spoken(&[AEGIS, AES], &[AES], mode), Some(AES));
        assert_eq!(spoken(&[AES], &[AEGIS, AES], mode), Some(AES));
    }
    assert_eq!(spoken(&[AEGIS], Suite::offered_by_this_machine(), Mode::Sealed), None);
}
