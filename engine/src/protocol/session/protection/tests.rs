//! Both ends of a session against each other, and against everyone else.

use proptest::prelude::*;

use super::*;
use crate::limits::PACKETS_BEFORE_BUSY;
use crate::protocol::session::fixture::{START, session};
use crate::protocol::wire::{self, BodyKind, Head};

const SUITES: [Suite; 2] = [Suite::Aes256Gcm, Suite::ChaCha20Poly1305];
const MODES: [Mode; 3] = [Mode::Sealed, Mode::Signed, Mode::Plain];

/// Two ends of one session: the initiator's and the responder's.
struct Ends {
    ours: Protection,
    theirs: Protection,
    session: u64,
}

impl Ends {
    fn new(suite: Suite, mode: Mode) -> Self {
        let (ours, theirs) = session(suite, mode);
        Self {
            ours: Protection::new(START, &ours),
            theirs: Protection::new(START, &theirs),
            session: ours.session,
        }
    }

    /// An unprotected packet of ours with room for what protects it, and its head's length.
    fn packet(&self, body: &[u8]) -> (Vec<u8>, usize) {
        let head = Head {
            session: self.session,
            transaction: 7,
            auth: self.ours.auth_kind(),
            body: BodyKind::Raw,
            body_len: u32::try_from(body.len()).expect("short"),
            tail: self.ours.tail_kind(),
            ..Head::default()
        };
        let mut before = [0; 320];
        let head_len = wire::encode(&head, &mut before);
        let mut packet = before[320 - head_len..].to_vec();
        packet.extend(vec![0; head.auth.len()]);
        packet.extend(body);
        packet.extend(vec![0; head.tail.len()]);
        (packet, head_len)
    }

    fn sealed(&mut self, number: u64, body: &[u8]) -> Vec<u8> {
        let (mut packet, head_len) = self.packet(body);
        self.ours.seal(number, &mut packet, head_len);
        packet
    }

    fn ratchet(&mut self, now: Instant, next: u64) {
        let acked = next.checked_sub(1);
        maybe_ratchet(&mut self.ours, now, Duration::from_millis(100), next, acked, next);
    }
}

/// As a session does before it seals.
fn maybe_ratchet(
    end: &mut Protection,
    now: Instant,
    probe_timeout: Duration,
    lowest_unacked: u64,
    largest_acked: Option<u64>,
    next: u64,
) {
    end.expire_previous(now, probe_timeout);
    if end.is_ratchet_due(now, probe_timeout, lowest_unacked, largest_acked) {
        end.ratchet(now, next);
    }
}

fn open(end: &mut Protection, now: Instant, packet: &mut [u8]) -> Result<Opened, DropReason> {
    let split = wire::split(packet)?;
    end.open(now, packet, &split)
}

fn generation_of(packet: &[u8]) -> u16 {
    let auth = wire::split(packet).expect("well formed").auth();
    u16::from_be_bytes([packet[auth.start + 2], packet[auth.start + 3]])
}

fn after(seconds: u64) -> Instant {
    START + Duration::from_secs(seconds)
}

// PROTOCOL 4.6
// PROTOCOL 4.7
// PROTOCOL 4.8
#[test]
fn every_mode_carries_a_body_and_hides_it_only_when_sealed() {
    for suite in SUITES {
        for mode in MODES {
            let mut ends = Ends::new(suite, mode);
            let mut packet = ends.sealed(3, b"the body itself");
            let is_visible = packet.windows(15).any(|window| window == b"the body itself");
            assert_eq!(is_visible, mode != Mode::Sealed, "{mode:?}");
            let body = wire::split(&packet).expect("well formed").body();
            let opened = open(&mut ends.theirs, START, &mut packet).expect("authentic");
            let packet_number = (mode != Mode::Plain).then_some(3);
            assert_eq!(
                opened,
                Opened { packet_number, lane: 0, is_newest: packet_number.is_some() }
            );
            assert_eq!(&packet[body], b"the body itself");
        }
    }
}

// PROTOCOL 4.6
#[test]
fn sealed_packet_is_what_the_rule_says_byte_for_byte() {
    let (ours, _) = session(Suite::Aes256Gcm, Mode::Sealed);
    let mut key = ours.secrets.initiator.lane_key(Suite::Aes256Gcm, 0, 0);
    let mut ends = Ends::new(Suite::Aes256Gcm, Mode::Sealed);
    let (clear, head_len) = ends.packet(b"body");
    let packet = ends.sealed(0x0102_0304, b"body");
    let numbers = [0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
    let aad = [&clear[..head_len], &numbers].concat();
    let mut body = *b"body";
    let tag = key.keep().seal(0x0102_0304, &aad, &mut body);
    assert_eq!(packet, [&aad, &tag[..], &body].concat());
}

// PROTOCOL 4.7
#[test]
fn signed_packet_is_what_the_rule_says_byte_for_byte() {
    for suite in SUITES {
        let (ours, _) = session(suite, Mode::Signed);
        let mut key = ours.secrets.initiator.lane_key(suite, 0, 0);
        let mut ends = Ends::new(suite, Mode::Signed);
        let (clear, head_len) = ends.packet(b"body");
        let packet = ends.sealed(5, b"body");
        let numbers = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];
        let tag = key.keep().seal(5, &[&clear[..head_len], &numbers, b"body"].concat(), &mut []);
        assert_eq!(packet, [&clear[..head_len], &numbers, &tag, b"body"].concat());
    }
}

// PROTOCOL 4.6
// PROTOCOL 4.7
#[test]
fn prop_bitflip() {
    for suite in SUITES {
        for mode in [Mode::Sealed, Mode::Signed] {
            let mut ends = Ends::new(suite, mode);
            let packet = ends.sealed(1, b"what must not change");
            for bit in 0..8 * packet.len() {
                let mut changed = packet.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(open(&mut ends.theirs, START, &mut changed).is_err(), "{mode:?} {bit}");
            }
            assert!(!ends.theirs.is_confirmed());
            open(&mut ends.theirs, START, &mut packet.clone()).expect("the true one");
        }
    }
}

// PROTOCOL 4.8
#[test]
fn plain_packet_that_was_damaged_is_dropped() {
    let mut ends = Ends::new(Suite::Aes256Gcm, Mode::Plain);
    let packet = ends.sealed(0, b"clear text");
    for bit in 0..8 * packet.len() {
        let mut changed = packet.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&mut ends.theirs, START, &mut changed).is_err());
    }
}

// PROTOCOL 4.10
#[test]
fn atk_kind_matrix() {
    for mode in MODES {
        let mut passed = Vec::new();
        for &auth in AuthKind::ALL {
            for &tail in TailKind::ALL {
                for &body in BodyKind::ALL {
                    let mut ends = Ends::new(Suite::Aes256Gcm, mode);
                    let body_len = u32::from(body != BodyKind::None) * 4;
                    let session = ends.session;
                    let head = Head { session, auth, body, body_len, tail, ..Head::default() };
                    let mut before = [0; 320];
                    let head_len = wire::encode(&head, &mut before);
                    let mut packet = before[320 - head_len..].to_vec();
                    let rest = auth.len() + head.body_len as usize + tail.len();
                    packet.extend(vec![0; rest]);
                    if (auth, tail) == (ends.ours.auth_kind(), ends.ours.tail_kind()) {
                        ends.ours.seal(0, &mut packet, head_len);
                    }
                    match open(&mut ends.theirs, START, &mut packet) {
                        Ok(_) => passed.push((auth, tail)),
                        Err(reason) => assert_eq!(reason, DropReason::KindMismatch),
                    }
                }
            }
        }
        let ends = Ends::new(Suite::Aes256Gcm, mode);
        let own = (ends.ours.auth_kind(), ends.ours.tail_kind());
        assert_eq!(passed, [own; BodyKind::ALL.len()]);
    }
}

// PROTOCOL 4.9
#[test]
fn atk_replay_data() {
    let mut ends = Ends::new(Suite::Aes256Gcm, Mode::Sealed);
    let packets: Vec<_> = (0..200).map(|number| ends.sealed(2 * number, b"once")).collect();
    let mut order: Vec<usize> = (0..packets.len()).map(|at| at * 77 % packets.len()).collect();
    order.extend(order.clone());
    let mut opened = vec![0; packets.len()];
    for at in order {
        match open(&mut ends.theirs, START, &mut packets[at].clone()) {
            Ok(_) => opened[at] += 1,
            Err(reason) => assert_eq!(reason, DropReason::Replayed),
        }
    }
    assert!(opened.iter().all(|&count| count == 1));
}

// PROTOCOL 4.9
#[test]
fn forged_number_does_not_move_the_window() {
    let mut ends = Ends::new(Suite::Aes256Gcm, Mode::Sealed);
    let mut forged = ends.sealed(5, b"five");
    let auth = wire::split(&forged).expect("well formed").auth();
    forged[auth.start + 4..auth.start + 12].copy_from_slice(&(u64::MAX - 1).to_be_bytes());
    let refused = open(&mut ends.theirs, START, &mut forged);
    assert_eq!(refused, Err(DropReason::AuthenticationFailed));
    let mut packet = ends.sealed(6, b"six");
    open(&mut ends.theirs, START, &mut packet).expect("the window stands where it stood");
}

// PROTOCOL 4.9
#[test]
fn number_of_the_former_generation_is_not_new_under_the_next_key() {
    let mut ends = Ends::new(Suite::Aes256Gcm, Mode::Sealed);
    let mut packet = ends.sealed(5, b"five");
    open(&mut ends.theirs, START, &mut packet).expect("authentic");
    ends.ratchet(after(133), 6);
    // A peer that is not honest: our own sealing refuses this.
    ends.ours.keys.as_mut().expect("a keyed mode").sending.next_packet_number = 0;
    let mut again = ends.sealed(5, b"five again");
    assert_eq!(generation_of(&again), 1);
    assert_eq!(open(&mut ends.theirs, after(133), &mut again), Err(DropReason::Replayed));
    let mut packet = ends.sealed(6, b"six");
    open(&mut ends.theirs, after(133), &mut packet).expect("the next key is still the next");
}

// PROTOCOL 4.3
#[test]
fn own_packet_sent_back_does_not_open() {
    let mut ends = Ends::new(Suite::ChaCha20Poly1305, Mode::Sealed);
    let mut packet = ends.sealed(0, b"echo");
    let refused = open(&mut ends.ours, START, &mut packet);
    assert_eq!(refused, Err(DropReason::AuthenticationFailed));
}

// PROTOCOL 4.6
#[test]
fn lane_beyond_the_agreed_count_is_dropped_before_any_key() {
    let mut ends = Ends::new(Suite::Aes256Gcm, Mode::Sealed);
    let mut packet = ends.sealed(0, b"lane");
    let auth = wire::split(&packet).expect("well formed").auth();
    packet[auth.start + 1] = 1;
    assert_eq!(open(&mut ends.theirs, START, &mut packet), Err(DropReason::LaneUnknown));
}

// PROTOCOL 4.6
#[test]
#[should_panic(expected = "a packet number is used once")]
fn nonce_never_repeats() {
    let mut ends = Ends::new(Suite::Aes256Gcm, Mode::Sealed);
    ends.sealed(4, b"one");
    ends.sealed(4, b"two");
}

// PROTOCOL 4.11
#[test]
fn used_keys_move_on_after_two_minutes_and_the_receiver_follows() {
    let mut ends = Ends::new(Suite::Aes256Gcm, Mode::Sealed);
    let mut number = 0;
    for expected in 0..5_u16 {
        let now = after(133 * u64::from(expected));
        let mut late = ends.sealed(number, b"late");
        let mut packet = ends.sealed(number + 1, b"on time");
        assert_eq!(generation_of(&packet), expected);
        open(&mut ends.theirs, now, &mut packet).expect("authentic");
        // Two minutes less a tenth are too early.
        ends.ratchet(now + Duration::from_secs(107), number + 2);
        let mut packet = ends.sealed(number + 2, b"still");
        assert_eq!(generation_of(&packet), expected);
        open(&mut ends.theirs, now, &mut packet).expect("authentic");
        ends.ratchet(now + Duration::from_secs(133), number + 3);
        let mut packet = ends.sealed(number + 3, b"moved");
        assert_eq!(generation_of(&packet), expected + 1);
        let moved_at = now + Duration::from_secs(133);
        open(&mut ends.theirs, moved_at, &mut packet).expect("the next key was ready");
        // What was still under way opens for three probe time-outs (a second each, at first).
        open(&mut ends.theirs, moved_at + Duration::from_millis(2_999), &mut late).expect("kept");
        number += 4;
    }
}

// PROTOCOL 4.11
#[test]
fn previous_receive_key_is_gone_after_three_probe_timeouts() {
    let mut ends = Ends::new(Suite::Aes256Gcm, Mode::Sealed);
    let mut old = ends.sealed(0, b"old");
    ends.ratchet(after(133), 1);
    let mut new = ends.sealed(1, b"new");
    maybe_ratchet(&mut ends.theirs, after(133), Duration::from_millis(50), 0, None, 0);
    open(&mut ends.theirs, after(133), &mut new).expect("authentic");
    let late = after(133) + Duration::from_millis(150);
    assert_eq!(open(&mut ends.theirs, late, &mut old), Err(DropReason::GenerationUnknown));
    maybe_ratchet(&mut ends.theirs, late, Duration::from_millis(50), 0, None, 0);
    let keys = ends.theirs.keys.as_ref().expect("a keyed mode");
    assert!(keys.receiving.previous.is_none(), "erased, not only unused");
}

// PROTOCOL 4.11
#[test]
fn keys_do_not_move_on_while_the_peer_may_not_have_followed() {
    let timeout = Duration::from_secs(1);
    let mut ends = Ends::new(Suite::Aes256Gcm, Mode::Sealed);
    maybe_ratchet(&mut ends.ours, after(1_000), timeout, 0, None, 0);
    assert_eq!(generation_of(&ends.sealed(0, b"")), 0, "unused keys stay");
    maybe_ratchet(&mut ends.ours, after(1_000), timeout, 0, None, 1);
    assert_eq!(generation_of(&ends.sealed(1, b"")), 0, "nothing acknowledged yet");
    maybe_ratchet(&mut ends.ours, after(1_000), timeout, 0, Some(1), 2);
    assert_eq!(generation_of(&ends.sealed(2, b"")), 1);
    maybe_ratchet(&mut ends.ours, after(1_200), timeout, 3, Some(1), 3);
    assert_eq!(generation_of(&ends.sealed(3, b"")), 1, "nothing of generation 1 acknowledged");
    maybe_ratchet(&mut ends.ours, after(1_200), timeout, 1, Some(3), 4);
    assert_eq!(generation_of(&ends.sealed(4, b"")), 1, "generation 0 is not settled");
    maybe_ratchet(&mut ends.ours, after(1_200), Duration::from_secs(100), 2, Some(3), 5);
    assert_eq!(generation_of(&ends.sealed(5, b"")), 1, "three probe time-outs are not over");
    maybe_ratchet(&mut ends.ours, after(1_200), timeout, 2, Some(3), 6);
    assert_eq!(generation_of(&ends.sealed(6, b"")), 2);
}

// PROTOCOL 4.11
#[test]
fn generation_that_cannot_be_is_dropped_before_any_key() {
    let mut ends = Ends::new(Suite::Aes256Gcm, Mode::Sealed);
    let packet = ends.sealed(0, b"generation");
    let auth = wire::split(&packet).expect("well formed").auth();
    for generation in [2_u16, 3, 0x8000, u16::MAX] {
        let mut changed = packet.clone();
        changed[auth.start + 2..auth.start + 4].copy_from_slice(&generation.to_be_bytes());
        let refused = open(&mut ends.theirs, START, &mut changed);
        assert_eq!(refused, Err(DropReason::GenerationUnknown));
    }
}

#[test]
fn key_is_expanded_anew_for_few_packets_and_kept_for_many_and_for_forged_ones() {
    let mut ends = Ends::new(Suite::Aes256Gcm, Mode::Sealed);
    // Of the sender, and of the receiver for this generation and the next.
    let kept = |ends: &Ends| {
        let [ours, theirs] = [&ends.ours, &ends.theirs].map(|end| end.keys.as_ref().unwrap());
        let (sending, receiving) = (&ours.sending, &theirs.receiving);
        [&sending.current, &receiving.current, &receiving.next].map(LaneKey::is_kept)
    };
    let last_of_few = PACKETS_BEFORE_BUSY - 1;
    let mut packet = ends.sealed(last_of_few, b"few");
    open(&mut ends.theirs, START, &mut packet).expect("authentic");
    assert_eq!(kept(&ends), [false; 3]);
    let auth = wire::split(&packet).expect("well formed").auth();
    let mut forged = ends.packet(b"forged").0;
    forged[auth.start + 3] = 1;
    assert!(open(&mut ends.theirs, START, &mut forged).is_err());
    assert_eq!(kept(&ends), [false, false, true]);
    let mut packet = ends.sealed(last_of_few + 1, b"many");
    open(&mut ends.theirs, START, &mut packet).expect("authentic");
    assert_eq!(kept(&ends), [true; 3]);
}

// PROTOCOL 4.11
#[test]
fn generations_of_the_two_directions_are_independent() {
    let mut ends = Ends::new(Suite::ChaCha20Poly1305, Mode::Signed);
    ends.sealed(0, b"");
    ends.ratchet(after(133), 1);
    let mut packet = ends.sealed(1, b"ours moved");
    open(&mut ends.theirs, after(133), &mut packet).expect("authentic");
    core::mem::swap(&mut ends.ours, &mut ends.theirs);
    let mut packet = ends.sealed(0, b"theirs did not");
    assert_eq!(generation_of(&packet), 0);
    open(&mut ends.theirs, after(133), &mut packet).expect("authentic");
}

// PROTOCOL 4.13
#[test]
fn keys_that_protected_much_move_on_early_and_spent_ones_say_so() {
    // 2^27 packets of up to 2 KiB, or 2^22 of 64 KiB less a few bytes.
    assert_eq!((1 << 27) * cost_of(64), KEY_COST_RATCHET);
    assert_eq!((1 << 27) * cost_of(2_048), KEY_COST_RATCHET);
    assert_eq!((1 << 22) * cost_of(65_507), KEY_COST_RATCHET - (1 << 22));
    let mut ends = Ends::new(Suite::Aes256Gcm, Mode::Sealed);
    ends.sealed(0, b"");
    let cost = |ends: &mut Ends, cost| {
        ends.ours.keys.as_mut().expect("a keyed mode").sending.cost = cost;
    };
    cost(&mut ends, KEY_COST_RATCHET - 1);
    ends.ratchet(after(10), 1);
    assert_eq!(generation_of(&ends.sealed(1, b"")), 0);
    ends.ratchet(after(10), 2);
    assert_eq!(generation_of(&ends.sealed(2, b"")), 1);
    assert_eq!(ends.ours.health(after(10)), KeyHealth::Good);
    cost(&mut ends, KEY_COST_MAX - (KEY_COST_MAX >> 4));
    assert_eq!(ends.ours.health(after(10)), KeyHealth::Spent);
}

// PROTOCOL 4.13
#[test]
fn sessions_are_renewed_and_end_by_age_and_by_failed_openings() {
    let mut ends = Ends::new(Suite::Aes256Gcm, Mode::Sealed);
    assert_eq!(ends.ours.health(after(13 * 60)), KeyHealth::Good);
    assert_eq!(ends.ours.health(after(17 * 60)), KeyHealth::RenewalDue);
    assert_eq!(ends.ours.health(after(30 * 60)), KeyHealth::Spent);
    ends.ours.keys.as_mut().expect("keyed").failed_openings = OPENINGS_FAILED_MAX;
    assert_eq!(ends.ours.health(START), KeyHealth::Spent);
    let plain = Ends::new(Suite::Aes256Gcm, Mode::Plain);
    assert_eq!(plain.ours.health(after(86_400)), KeyHealth::Good);
}

#[test]
fn idle_session_keeps_its_keys_in_little_memory() {
    assert!(size_of::<Keys>() + size_of::<Protection>() <= 480, "{}", size_of::<Keys>());
}

proptest! {
    // PROTOCOL 4.6
    #[test]
    fn any_bytes_in_a_sessions_packet_are_dropped_without_a_trace(
        noise in prop::collection::vec(any::<u8>(), 28..200),
    ) {
        for mode in [Mode::Sealed, Mode::Signed] {
            let mut ends = Ends::new(Suite::ChaCha20Poly1305, mode);
            let (mut packet, head_len) = ends.packet(&noise[28..]);
            packet[head_len..].copy_from_slice(&noise);
            prop_assert!(open(&mut ends.theirs, START, &mut packet).is_err());
            prop_assert!(!ends.theirs.is_confirmed());
            let mut packet = ends.sealed(0, b"still good");
            prop_assert!(open(&mut ends.theirs, START, &mut packet).is_ok());
        }
    }
}
