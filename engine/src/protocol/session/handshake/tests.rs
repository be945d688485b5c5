//! The two machines against each other, and everyone else against either.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use proptest::prelude::*;
use zeroize::Zeroizing;

use super::messages::{Frame, accept_auth_key, check_mac, cookie_auth_key, mac_of, mac1_key};
use super::{HandshakeError, Initiated, Initiator, LastHeard, Progress, Reason, Refusal};
use crate::limits::ACCEPT_CACHED;
use crate::protocol::crypto::{self, Random, Suite};
use crate::protocol::drop_reason::DropReason;
use crate::protocol::session::fixture::{Pair, START, address, session};
use crate::protocol::session::{
    Identity, Mode, Offer, PeerText, Protection, PublicKey, Role, TrustPolicy, survives,
};
use crate::protocol::wire::{self, Head, PacketKind};
use crate::time::{Duration, Instant};

fn stranger(port: u16) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 7], port))
}

/// Writes the MAC again, as anyone can who knows the responder's public key.
fn reseal(datagram: &mut [u8], key: &[u8; 32], extra: &[u8]) {
    let packet = wire::split(datagram).expect("still a packet");
    let head = &datagram[..packet.head_len()];
    let mac = crypto::mac(key, &[head, &datagram[packet.body()], extra]);
    datagram[packet.auth()].copy_from_slice(&mac);
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

// PROTOCOL 3.2
#[test]
fn prop_no_identity_bytes() {
    let mut pair = Pair::new();
    let (mut initiator, initiate) = pair.up_to_initiate();
    let (_, accept) = pair.initiate(address(), &initiate).expect("good");
    pair.take(&mut initiator, &accept).expect("good");
    let asking = pair.config.identity.public();
    let asked = pair.responder.config().identity.public();
    for datagram in [&initiate, &accept] {
        let head = wire::split(datagram).expect("good").head;
        assert_eq!((head.source, head.destination, head.session), (0, 0, 0));
        for secret in [asking.as_bytes().as_slice(), asked.as_bytes(), b"edge-1"] {
            assert!(!datagram.windows(6).any(|window| window == &secret[..6]));
        }
    }
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
            pair.trust = crate::protocol::session::Trust::new(policy);
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

// PROTOCOL 3.6
// PROTOCOL 3.11
#[test]
fn atk_replay_handshake() {
    let mut pair = Pair::new();
    let mut recorded = Vec::new();
    for _ in 0..40 {
        let (mut initiator, initiate) = pair.up_to_initiate();
        let (_, accept) = pair.initiate(address(), &initiate).expect("good");
        pair.take(&mut initiator, &accept).expect("good");
        recorded.push(initiate);
        pair.later(10);
    }
    let mut opened = 0;
    for wait in [0, 5_000, 20_000, 60_000, 120_000] {
        pair.later(wait);
        for initiate in &recorded {
            for from in [address(), stranger(4_000)] {
                if let Ok((initiated, _)) = pair.initiate(from, initiate) {
                    opened += u32::from(initiated.established.is_some());
                }
            }
        }
    }
    assert_eq!(opened, 0);
}

// PROTOCOL 3.3
// PROTOCOL 3.6
// PROTOCOL 3.15
#[test]
fn atk_downgrade() {
    // Every bit of the Hello: as it is, the MAC refuses; with the MAC made right by who knows the
    // public key, the cookie then is for another opening, and the Initiate with it fails.
    let mut pair = Pair::new();
    let mac_key = mac1_key(pair.config.peer.as_ref());
    let mut initiator = pair.start();
    let hello = pair.sent(&mut initiator).expect("due");
    for bit in 0..8 * hello.len() {
        let mut changed = hello.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(pair.hello(address(), &changed).is_err(), "bit {bit}");
    }
    for bit in 0..8 * 64 {
        pair.later(10);
        let mut initiator = pair.start();
        let mut hello = pair.sent(&mut initiator).expect("due");
        let bit = 8 * wire::split(&hello).expect("good").body().start + bit;
        hello[bit / 8] ^= 1 << (bit % 8);
        reseal(&mut hello, &mac_key, &[]);
        let Ok(mut cookie) = pair.hello(address(), &hello) else { continue };
        // The Cookie is bound to the MAC that the initiator sent; the forger repairs that, too.
        let true_hello = {
            let mut hello = hello.clone();
            hello[bit / 8] ^= 1 << (bit % 8);
            reseal(&mut hello, &mac_key, &[]);
            hello
        };
        let packet = wire::split(&true_hello).expect("good");
        let peer = pair.config.peer.expect("known");
        assert!(pair.take(&mut initiator, &cookie).is_err());
        reseal(&mut cookie, &cookie_auth_key(&peer), &mac_of(&packet, &true_hello));
        pair.take(&mut initiator, &cookie).expect("the forger did well");
        let initiate = pair.sent(&mut initiator).expect("due");
        let refused = Err(DropReason::CookieInvalid);
        assert_eq!(pair.initiate(address(), &initiate).map(drop), refused, "bit {bit}");
    }
}

// PROTOCOL 3.3
// PROTOCOL 3.7
#[test]
fn every_changed_bit_of_an_initiate_is_refused() {
    let mut pair = Pair::new();
    let mac_key = mac1_key(pair.config.peer.as_ref());
    let (_, initiate) = pair.up_to_initiate();
    for bit in 0..8 * initiate.len() {
        let mut changed = initiate.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(pair.initiate(address(), &changed).is_err(), "bit {bit}");
    }
    // With the MAC made right; a bit in each byte is enough for the slow part.
    let body = wire::split(&initiate).expect("good").body();
    for byte in body {
        pair.later(100);
        if pair.now.saturating_since(START) > Duration::from_secs(50) {
            pair.now = START + Duration::from_secs(1);
        }
        let mut changed = initiate.clone();
        changed[byte] ^= 1 << (byte % 8);
        reseal(&mut changed, &mac_key, &[]);
        assert!(pair.initiate(address(), &changed).is_err(), "byte {byte}");
    }
    // None of it spent the cookie or changed anything.
    pair.now = START + Duration::from_secs(50);
    let (initiated, _) = pair.initiate(address(), &initiate).expect("the true one");
    assert!(initiated.established.is_some());
}

// PROTOCOL 3.3
// PROTOCOL 3.9
#[test]
fn every_changed_bit_of_an_accept_is_refused_and_the_true_one_still_works() {
    let mut pair = Pair::new();
    let (mut initiator, initiate) = pair.up_to_initiate();
    let (_, accept) = pair.initiate(address(), &initiate).expect("good");
    for bit in 0..8 * accept.len() {
        let mut changed = accept.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(pair.take(&mut initiator, &changed).is_err(), "bit {bit}");
    }
    // With the MAC made right, as anyone can who knows the public key. A few tries a handshake:
    // more of them would be over the budget for public-key work.
    let body = wire::split(&accept).expect("good").body();
    for bytes in body.clone().collect::<Vec<_>>().chunks(7) {
        let mut pair = Pair::new();
        let (mut initiator, initiate) = pair.up_to_initiate();
        let (_, accept) = pair.initiate(address(), &initiate).expect("good");
        let key = accept_auth_key(&pair.config.peer.expect("known"));
        let initiate_mac = mac_of(&wire::split(&initiate).expect("good"), &initiate);
        for &byte in bytes {
            // Three reserved bytes are not read.
            if !(1..4).contains(&(byte - body.start)) {
                let mut changed = accept.clone();
                changed[byte] ^= 1 << (byte % 8);
                reseal(&mut changed, &key, &initiate_mac);
                assert!(pair.take(&mut initiator, &changed).is_err(), "byte {byte}");
            }
        }
        let progress = pair.take(&mut initiator, &accept).expect("the true one");
        assert!(matches!(progress, Progress::Established(_)));
    }
}

// PROTOCOL 3.5
#[test]
fn atk_race_cookie() {
    // Forgers without the responder's key or without the Hello answer first, every time.
    let mut pair = Pair::new();
    let peer = pair.config.peer.expect("known");
    for _ in 0..20 {
        pair.later(100);
        let mut initiator = pair.start();
        let hello = pair.sent(&mut initiator).expect("due");
        let packet = wire::split(&hello).expect("good");
        let mut forged = [0; 300];
        let frame = Frame::of_body(PacketKind::Cookie, packet.head.transaction, 28, &mut forged);
        forged[frame.body()][0] = 1;
        for (key, extra) in [([0; 32], mac_of(&packet, &hello)), (cookie_auth_key(&peer), [7; 16])]
        {
            frame.authenticate(&key, &extra, &mut forged);
            let refused = pair.take(&mut initiator, &forged[..frame.len]).map(drop);
            assert_eq!(refused, Err(DropReason::MacInvalid));
        }
        let cookie = pair.hello(address(), &hello).expect("good");
        pair.take(&mut initiator, &cookie).expect("the true one");
        let initiate = pair.sent(&mut initiator).expect("due");
        let (_, accept) = pair.initiate(address(), &initiate).expect("good");
        let progress = pair.take(&mut initiator, &accept).expect("good");
        assert!(matches!(progress, Progress::Established(_)));
    }
}

// PROTOCOL 3.5
#[test]
fn reg_hello_no_state() {
    // The same responder, with and without ten thousand Hellos in between, does the same: there
    // is nothing that a Hello could have left behind but the rate.
    let run = |hellos: u32| {
        let mut pair = Pair::new();
        let mut flood =
            Initiator::start(pair.now, pair.config.clone(), &mut Random::from_seed([9; 32]));
        let hello = pair.sent(&mut flood).expect("due");
        for number in 0..hellos {
            let port = u16::try_from(number % 60_000).expect("small");
            pair.hello(stranger(port), &hello).expect("within the rate");
        }
        let (initiator, initiate) = pair.up_to_initiate();
        let (initiated, accept) = pair.initiate(address(), &initiate).expect("good");
        (initiator.transaction(), initiate, initiated.established.expect("open").session, accept)
    };
    assert_eq!(run(0), run(9_000));
}

// PROTOCOL 3.21
#[test]
fn hello_flood_is_cut_off_before_any_hash() {
    let mut pair = Pair::new();
    let mut initiator = pair.start();
    let hello = pair.sent(&mut initiator).expect("due");
    let answered = (0..20_000).filter(|_| pair.hello(address(), &hello).is_ok()).count();
    assert_eq!(answered, 10_000);
    let mut broken = hello.clone();
    *broken.last_mut().expect("not empty") ^= 1;
    assert_eq!(pair.hello(address(), &broken), Err(DropReason::OverBudget));
    pair.later(1_000);
    assert!(pair.hello(address(), &hello).is_ok());
}

// PROTOCOL 3.21
#[test]
fn busy_responder_limits_each_prefix_and_lets_others_through() {
    let mut pair = Pair::new();
    let mut refused = 0;
    for _ in 0..200 {
        let (_, initiate) = pair.up_to_initiate();
        refused += u32::from(pair.initiate(address(), &initiate).is_err());
    }
    assert!((30..=60).contains(&refused), "{refused}");
    // Another prefix is served, and this one again after a while.
    let mut initiator = pair.start();
    let hello = pair.sent(&mut initiator).expect("due");
    let cookie = pair.hello(stranger(1), &hello).expect("good");
    pair.take(&mut initiator, &cookie).expect("good");
    let initiate = pair.sent(&mut initiator).expect("due");
    assert!(pair.initiate(stranger(1), &initiate).is_ok());
    pair.later(1_000);
    pair.establish();
}

// PROTOCOL 3.18
#[test]
fn reg_kci_vouch() {
    // Whoever stole the responder's key can write an Initiate in anybody's name, but not go on:
    // the responder's session stays unconfirmed, for the Accept cannot be read without the key
    // of the one who was named.
    let mut pair = Pair::new();
    let victim = pair.config.identity.public();
    let stolen = pair.responder.config().identity.clone();
    let thief_ephemeral = crypto::Secret::generate(&mut pair.random);
    // The thief's ss comes from the stolen side: DH(s_r, s_i) needs either of the two secrets.
    // Here it simply replays what the victim once sent, which gives it the same position.
    let (_, initiate) = pair.up_to_initiate();
    let (initiated, accept) = pair.initiate(address(), &initiate).expect("good");
    let established = initiated.established.expect("open on this side");
    assert_eq!(established.peer, victim);
    let mut theirs = Protection::new(pair.now, &established);
    assert!(!theirs.is_confirmed());
    // Reading the Accept takes the victim's secret or its ephemeral one; with the stolen key and
    // an ephemeral of its own the thief has neither.
    let packet = wire::split(&accept).expect("good");
    let e_r: [u8; 32] = accept[packet.body()][4..36].try_into().expect("32 bytes");
    assert_ne!(stolen.secret().agree(&e_r), thief_ephemeral.agree(&e_r));
    // Whatever else arrives in that session leaves it as it is.
    let (forger, _) = session(Suite::Aes256Gcm, Mode::Sealed);
    let mut forger = Protection::new(pair.now, &forger);
    let head = Head {
        session: established.session,
        auth: forger.auth_kind(),
        body: wire::BodyKind::Raw,
        body_len: 5,
        ..Head::default()
    };
    let mut before = [0; 320];
    let head_len = wire::encode(&head, &mut before);
    let mut packet = before[320 - head_len..].to_vec();
    packet.extend([0; 28]);
    packet.extend(b"hello");
    forger.seal(0, &mut packet, head_len);
    let split = wire::split(&packet).expect("well formed");
    let opened = theirs.open(pair.now, &mut packet, &split);
    assert_eq!(opened, Err(DropReason::AuthenticationFailed));
    assert!(!theirs.is_confirmed());
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
    pair.trust = crate::protocol::session::Trust::new(TrustPolicy::Never);
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
    pair.trust = crate::protocol::session::Trust::new(TrustPolicy::Once);
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

proptest! {
    // PROTOCOL 3.2
    #[test]
    fn prop_amplification(
        noise in prop::collection::vec(any::<u8>(), 0..1_400),
        edits in prop::collection::vec((0..1_200_usize, any::<u8>()), 0..4),
        cut in 0..1_300_usize,
        repair: bool,
        which in 0..3,
    ) {
        let mut pair = Pair::with(|_, responder| responder.discoverable = true);
        let mut initiator = pair.start();
        let hello = pair.sent(&mut initiator).expect("due");
        let (_, initiate) = pair.up_to_initiate();
        let mut datagram = match which {
            0 => noise,
            1 => hello,
            _ => initiate,
        };
        let len = datagram.len();
        for (at, byte) in edits {
            if let Some(place) = datagram.get_mut(at % len.max(1)) {
                *place = byte;
            }
        }
        if repair && wire::split(&datagram).is_ok_and(|packet| packet.auth().len() == 16) {
            reseal(&mut datagram, &mac1_key(pair.config.peer.as_ref()), &[]);
        } else {
            datagram.truncate(cut);
        }
        // From an address that has proved nothing.
        let out = pair.hello(stranger(9), &datagram).map_or(0, |reply| reply.len());
        prop_assert!(out == 0 || out < datagram.len());
        let out = pair.initiate(stranger(9), &datagram).map_or(0, |(_, reply)| reply.len());
        prop_assert_eq!(out, 0);
        let _ = pair.take(&mut initiator, &datagram);
    }
}
