//! The two machines against each other.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::messages::{Frame, check_mac, mac1_key};
use super::{HandshakeError, Initiated, LastHeard, Progress, Reason, Refusal};
use crate::limits::ACCEPT_CACHED;
use crate::protocol::crypto::{Random, Suite};
use crate::protocol::drop_reason::DropReason;
use crate::protocol::session::fixture::{Pair, START, address, session};
use crate::protocol::session::{
    Identity, Mode, Offer, PeerText, Protection, PublicKey, Role, Trust, TrustPolicy, survives,
};
use crate::protocol::wire::{self, Head, PacketKind};
use crate::time::{Duration, Instant};

fn stranger(port: u16) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 7], port))
}

// PROTOCOL 3.1
// PROTOCOL 3.9
// PROTOCOL 4.4
#[test]
fn both_sides_agree_on_everything() {
    let mut pair = Pair::new();
    let (ours, theirs) = pair.establish();
    assert_eq!(ours.session, theirs.session);
    assert_ne!(ours.session, 0);
    assert_eq!((ours.role, theirs.role), (Role::Initiator, Role::Responder));
    assert_eq!(ours.peer, pair.responder.config().identity.public());
    assert_eq!(theirs.peer, pair.config.identity.public());
    assert_eq!(ours.peer_boot, pair.responder.config().boot_id);
    assert_eq!(theirs.peer_boot, pair.config.boot_id);
    assert_eq!(theirs.peer_name.as_str(), "edge-1");
    assert_eq!((ours.suite, ours.mode), (theirs.suite, theirs.mode));
    assert_eq!(ours.reset_token, theirs.reset_token);
    let identity = &pair.responder.config().identity;
    assert_eq!(ours.reset_token, identity.reset_token(ours.session));
    assert_eq!(ours.secrets.exporter(), theirs.secrets.exporter());
    // Nothing repeats in the next session of the same two.
    let (next, _) = pair.establish();
    assert_ne!(next.session, ours.session);
    assert_ne!(next.secrets.exporter(), ours.secrets.exporter());
}

// PROTOCOL 3.2
// PROTOCOL 3.8
#[test]
fn datagrams_have_their_fixed_lengths_and_no_reply_is_longer_than_what_it_answers() {
    let mut pair = Pair::new();
    let mut initiator = pair.start();
    let hello = pair.sent(&mut initiator).expect("due");
    assert_eq!(hello.len(), 512);
    let cookie = pair.hello(address(), &hello).expect("good");
    assert!(cookie.len() < hello.len());
    pair.take(&mut initiator, &cookie).expect("good");
    let initiate = pair.sent(&mut initiator).expect("due");
    assert_eq!(initiate.len(), 1_200);
    let (_, accept) = pair.initiate(address(), &initiate).expect("good");
    assert_eq!(accept.len(), 512);
    for short in [&hello[..511], &initiate[..1_199]] {
        assert_eq!(pair.hello(address(), short), Err(DropReason::LengthMismatch));
    }
    // A Hello that is whole, but too short to be answered without amplification.
    let mut small = [0; 511];
    let frame = Frame::of_len(PacketKind::Hello, 1, 511, &mut small);
    small[frame.body()][0] = 1;
    frame.authenticate(&mac1_key(pair.config.peer.as_ref()), &[], &mut small);
    assert_eq!(pair.hello(address(), &small), Err(DropReason::HandshakeInvalid));
}

// PROTOCOL 3.8
#[test]
fn accept_looks_the_same_whatever_it_says() {
    let mut shapes = HashSet::new();
    for policy in [TrustPolicy::Always, TrustPolicy::Never] {
        for modes in [[Mode::Sealed], [Mode::Plain]] {
            let mut pair = Pair::with(|initiator, _| {
                initiator.offer = Offer::new(Suite::offered_by_this_machine(), &modes);
            });
            pair.trust = Trust::new(policy);
            let (_, initiate) = pair.up_to_initiate();
            let (_, accept) = pair.initiate(address(), &initiate).expect("answered");
            let packet = wire::split(&accept).expect("a packet");
            let head = Head { transaction: 0, ..packet.head };
            shapes.insert((accept.len(), format!("{head:?}")));
        }
    }
    assert_eq!(shapes.len(), 1, "{shapes:?}");
}

// PROTOCOL 3.12
#[test]
fn retries_are_byte_identical_and_back_off_until_it_gives_up() {
    let mut pair = Pair::new();
    let mut initiator = pair.start();
    let hello = pair.sent(&mut initiator).expect("due");
    assert_eq!(pair.sent(&mut initiator), None);
    let (mut at, mut intervals, mut error) = (START, Vec::new(), None);
    while error.is_none() {
        let next = initiator.next_timeout();
        assert!(next > at);
        intervals.push(next.saturating_since(at).as_secs_f64());
        (at, pair.now) = (next, next);
        error = initiator.handle_timeout(at, &mut pair.random);
        if error.is_none() {
            assert_eq!(pair.sent(&mut initiator), Some(hello.clone()));
        }
    }
    assert_eq!(error, Some(HandshakeError::TimedOut(LastHeard::Nothing)));
    assert_eq!(at, START + Duration::from_secs(90));
    for (interval, base) in intervals.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 16.0]) {
        assert!((base * 0.5..=base * 1.5).contains(interval), "{intervals:?}");
    }
    assert_eq!(initiator.next_timeout(), Instant::from_nanos(u64::MAX));
    assert_eq!(pair.sent(&mut initiator), None);
}

// PROTOCOL 3.12
#[test]
fn unanswered_initiates_lead_back_to_a_hello_with_a_new_ephemeral_key() {
    let mut pair = Pair::new();
    let (mut initiator, initiate) = pair.up_to_initiate();
    let mut sent = Vec::new();
    while sent.last().is_none_or(|last| *last == initiate) {
        pair.now = initiator.next_timeout();
        assert_eq!(initiator.handle_timeout(pair.now, &mut pair.random), None);
        sent.push(pair.sent(&mut initiator).expect("due"));
    }
    assert_eq!(sent.len(), 4);
    let packet = wire::split(&sent[3]).expect("a packet");
    assert_eq!(packet.head.packet, PacketKind::Hello);
    assert_eq!(packet.head.transaction, initiator.transaction());
    let old = wire::split(&initiate).expect("a packet");
    assert_ne!(sent[3][packet.body()][32..64], initiate[old.body()][32..64]);
    let cookie = pair.hello(address(), &sent[3]).expect("good");
    pair.take(&mut initiator, &cookie).expect("good");
}

// PROTOCOL 3.11
#[test]
fn repeated_initiate_gets_the_same_accept_and_opens_nothing_again() {
    let mut pair = Pair::new();
    let (_, initiate) = pair.up_to_initiate();
    let (first, accept) = pair.initiate(address(), &initiate).expect("good");
    assert!(first.established.is_some());
    pair.now += ACCEPT_CACHED.saturating_sub(Duration::from_nanos(1));
    let (again, repeated) = pair.initiate(address(), &initiate).expect("cached");
    assert!(again.established.is_none());
    assert_eq!(repeated, accept);
    // From elsewhere, or changed, or too late: nothing.
    let refused = Err(DropReason::CookieInvalid);
    assert_eq!(pair.initiate(stranger(1), &initiate).map(drop), refused);
    pair.now += Duration::from_nanos(1);
    assert_eq!(pair.initiate(address(), &initiate).map(drop), refused);
}

// PROTOCOL 3.18
#[test]
fn first_packet_of_the_initiator_confirms_the_session() {
    let (ours, theirs) = session(Suite::ChaCha20Poly1305, Mode::Sealed);
    let mut ours_side = Protection::new(START, &ours);
    let mut theirs_side = Protection::new(START, &theirs);
    assert!(ours_side.is_confirmed() && !theirs_side.is_confirmed());
    let head = Head { session: ours.session, auth: ours_side.auth_kind(), ..Head::default() };
    let mut before = [0; 320];
    let head_len = wire::encode(&head, &mut before);
    let mut packet = before[320 - head_len..].to_vec();
    packet.extend([0; 28]);
    ours_side.seal(0, &mut packet, head_len);
    let split = wire::split(&packet).expect("well formed");
    theirs_side.open(START, &mut packet, &split).expect("authentic");
    assert!(theirs_side.is_confirmed());
}

// PROTOCOL 3.13
#[test]
fn pre_shared_keys_have_to_match() {
    let with = |ours: Option<[u8; 32]>, theirs: Option<[u8; 32]>| {
        Pair::with(|initiator, responder| {
            initiator.psk = ours.map(Zeroizing::new);
            responder.psk = theirs.map(Zeroizing::new);
        })
    };
    with(Some([1; 32]), Some([1; 32])).establish();
    // The responder wants one and we have none: it can say so.
    match with(None, Some([1; 32])).run() {
        (Progress::Refused(Refusal::Rejected { reason, .. }), Initiated { refused, .. }) => {
            assert_eq!(reason, Reason::PskMismatch);
            assert!(refused.is_some());
        }
        other => panic!("{other:?}"),
    }
    // Another one, or one that it does not know: we cannot read what it says.
    for theirs in [Some([2; 32]), None] {
        let mut pair = with(Some([1; 32]), theirs);
        let (mut initiator, initiate) = pair.up_to_initiate();
        let (_, accept) = pair.initiate(address(), &initiate).expect("answered");
        let refused = pair.take(&mut initiator, &accept).map(drop);
        assert_eq!(refused, Err(DropReason::AuthenticationFailed));
        pair.later(90_000);
        let error = initiator.handle_timeout(pair.now, &mut pair.random);
        assert_eq!(error, Some(HandshakeError::TimedOut(LastHeard::UnreadableAccept)));
    }
}

// PROTOCOL 3.15
// PROTOCOL 3.16
#[test]
fn empty_intersections_are_refused_with_their_reason() {
    for (suites, modes, expected) in [
        (&[Suite::Aes256Gcm][..], &[Mode::Sealed][..], Reason::NoCommonSuite),
        (&[Suite::ChaCha20Poly1305], &[Mode::Plain], Reason::NoCommonMode),
    ] {
        let mut pair = Pair::with(|initiator, responder| {
            initiator.offer = Offer::new(suites, modes);
            responder.offer = Offer::new(&[Suite::ChaCha20Poly1305], &[Mode::Sealed]);
        });
        let (progress, initiated) = pair.run();
        assert!(initiated.established.is_none());
        match progress {
            Progress::Refused(Refusal::Rejected { reason, retry_after }) => {
                assert_eq!(reason, expected);
                assert_eq!(retry_after, Duration::from_secs(3_600));
            }
            other => panic!("{other:?}"),
        }
    }
}

// PROTOCOL 3.20
#[test]
fn pending_peer_is_told_to_wait_and_gets_in_once_accepted() {
    let mut pair = Pair::new();
    pair.trust = Trust::new(TrustPolicy::Never);
    let (progress, initiated) = pair.run();
    assert!(matches!(progress, Progress::Pending { retry_after } if retry_after > Duration::ZERO));
    let peer = pair.config.identity.public();
    assert_eq!(initiated.pending, Some(peer));
    assert!(initiated.established.is_none());
    assert!(pair.trust.accept(&peer));
    pair.establish();
    assert!(pair.trust.reject(&peer));
    let (progress, _) = pair.run();
    let reason = Reason::KeyRejected;
    assert!(
        matches!(progress, Progress::Refused(Refusal::Rejected { reason: told, .. }) if told == reason)
    );
}

// PROTOCOL 3.20
// PROTOCOL 3.21
#[test]
fn key_change_under_a_known_name_is_denied_and_soon_met_with_silence() {
    let mut pair = Pair::new();
    pair.trust = Trust::new(TrustPolicy::Once);
    let (_, theirs) = pair.establish();
    pair.trust.confirm(&theirs.peer, &theirs.peer_name, &theirs.peer_role);
    pair.config.identity = Arc::new(Identity::generate(&mut pair.random));
    for _ in 0..3 {
        let (progress, _) = pair.run();
        assert!(matches!(progress, Progress::Refused(Refusal::Denied { .. })));
    }
    let (_, initiate) = pair.up_to_initiate();
    let (initiated, reply) = pair.initiate(address(), &initiate).expect("noticed");
    assert!(initiated.refused.is_some() && reply.is_empty());
}

// PROTOCOL 3.17
#[test]
fn discovery_needs_the_responders_consent_and_learns_its_key() {
    let mut pair = Pair::with(|initiator, responder| {
        initiator.peer = None;
        responder.discoverable = true;
    });
    let (ours, _) = pair.establish();
    assert_eq!(ours.peer, pair.responder.config().identity.public());
    let mut closed = Pair::with(|initiator, _| initiator.peer = None);
    let mut initiator = closed.start();
    let hello = closed.sent(&mut initiator).expect("due");
    assert_eq!(closed.hello(address(), &hello), Err(DropReason::HandshakeUnexpected));
}

// PROTOCOL 3.19
#[test]
fn own_key_and_wrong_key_get_nowhere() {
    let mut pair = Pair::with(|initiator, responder| {
        initiator.identity = responder.identity.clone();
    });
    let mut initiator = pair.start();
    let hello = pair.sent(&mut initiator).expect("due");
    let cookie = pair.hello(address(), &hello).expect("good");
    let refused = pair.take(&mut initiator, &cookie).map(drop);
    assert_eq!(refused, Err(DropReason::HandshakeInvalid));
    let mut pair = Pair::with(|initiator, _| {
        initiator.peer = Some(PublicKey::from_bytes([7; 32]));
    });
    let mut initiator = pair.start();
    let hello = pair.sent(&mut initiator).expect("due");
    assert_eq!(pair.hello(address(), &hello), Err(DropReason::MacInvalid));
}

// PROTOCOL 3.3
#[test]
fn packets_of_other_shapes_and_times_are_dropped() {
    let mut pair = Pair::new();
    let (mut initiator, initiate) = pair.up_to_initiate();
    let unexpected = Err(DropReason::HandshakeUnexpected);
    assert_eq!(pair.hello(address(), &initiate).map(drop), unexpected);
    assert_eq!(pair.take(&mut initiator, &initiate).map(drop), unexpected);
    let mut fresh = pair.start();
    let hello = pair.sent(&mut fresh).expect("due");
    let cookie = pair.hello(address(), &hello).expect("good");
    assert_eq!(pair.take(&mut initiator, &cookie).map(drop), unexpected, "another transaction");
    let (_, accept) = pair.initiate(address(), &initiate).expect("good");
    assert_eq!(pair.take(&mut fresh, &accept).map(drop), unexpected, "another transaction");
    pair.take(&mut fresh, &cookie).expect("good");
    assert_eq!(pair.take(&mut fresh, &cookie).map(drop), unexpected, "a second cookie");
    let packet = wire::split(&hello).expect("good");
    let key = mac1_key(pair.config.peer.as_ref());
    assert_eq!(check_mac(&packet, &hello, &key, &[]), Ok(()));
}

// PROTOCOL 4.4
#[test]
fn taken_session_ids_are_stepped_over_and_exhaustion_is_refused() {
    let mut pair = Pair::new();
    let taken = core::cell::RefCell::new(Vec::new());
    let (mut initiator, initiate) = pair.up_to_initiate();
    let packet = wire::split(&initiate).expect("good");
    let mut out = [0; 512];
    let three_are_taken = |session: u64| {
        taken.borrow_mut().push(session);
        taken.borrow().len() <= 3
    };
    let Pair { responder, trust, random, now, .. } = &mut pair;
    let initiated = responder
        .handle_initiate(
            *now,
            address(),
            &packet,
            &initiate,
            trust,
            &three_are_taken,
            &|_| 0,
            random,
            &mut out,
        )
        .expect("good");
    let theirs = initiated.established.expect("open");
    assert_eq!(taken.borrow()[3..], [theirs.session]);
    match pair.take(&mut initiator, &out).expect("good") {
        Progress::Established(ours) => assert_eq!(ours.session, theirs.session),
        other => panic!("{other:?}"),
    }
    let (_, initiate) = pair.up_to_initiate();
    let packet = wire::split(&initiate).expect("good");
    let Pair { responder, trust, random, now, .. } = &mut pair;
    let refused = responder.handle_initiate(
        *now,
        address(),
        &packet,
        &initiate,
        trust,
        &|_| true,
        &|_| 0,
        random,
        &mut out,
    );
    assert_eq!(refused.map(drop), Err(DropReason::OverBudget));
}

// PROTOCOL 3.23
#[test]
fn exactly_one_of_two_simultaneous_sessions_survives() {
    let mut random = Random::from_seed([5; 32]);
    for _ in 0..50 {
        let [one, two]: [PublicKey; 2] =
            core::array::from_fn(|_| PublicKey::from_bytes(random.bytes()));
        assert_ne!(survives(&one, &two), survives(&two, &one));
    }
}

#[test]
fn longest_texts_fit() {
    let text = || PeerText::new(&[b'~'; 64]).expect("printable");
    let mut pair = Pair::with(|initiator, _| {
        (initiator.name, initiator.role, initiator.token) = (text(), text(), text());
    });
    let (_, theirs) = pair.establish();
    assert_eq!((theirs.peer_name, theirs.peer_role), (text(), text()));
}
