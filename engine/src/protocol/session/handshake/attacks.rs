//! Everyone else against either of the two machines.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::messages::{
    Frame, InitiatePayload, accept_auth_key, cookie_auth_key, mac_of, mac1_key, read_accept,
};
use super::noise::forge_first;
use super::{Initiator, Progress};
use crate::protocol::crypto::{self, Random, Secret, Suite};
use crate::protocol::drop_reason::DropReason;
use crate::protocol::session::fixture::{Pair, START, address, session};
use crate::protocol::session::{Mode, PeerText, Protection};
use crate::protocol::wire::{self, Head, PacketKind};
use crate::time::Duration;

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
fn operator_says_how_much_public_key_work_strangers_may_cost() {
    for (allowed, expected) in [(3, 3), (1_000, 60)] {
        let mut pair = Pair::with(|_, responder| responder.initiates_per_second = allowed);
        let answered = (0..60).filter(|_| {
            let (_, initiate) = pair.up_to_initiate();
            pair.initiate(address(), &initiate).is_ok()
        });
        assert_eq!(answered.count(), expected);
    }
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
    // reading the Accept takes the victim's secret or the responder's ephemeral one.
    let mut pair = Pair::new();
    let victim = pair.config.identity.public();
    let stolen = pair.responder.config().identity.clone();
    let mut initiator = pair.start();
    let hello = pair.sent(&mut initiator).expect("due");
    let hello_packet = wire::split(&hello).expect("good");
    let transaction = hello_packet.head.transaction;
    let thief = Secret::generate(&mut pair.random);
    let mut opening = [0; 64];
    opening.copy_from_slice(&hello[hello_packet.body()][..64]);
    opening[32..].copy_from_slice(&thief.public());
    let mut hello = hello.clone();
    hello[hello_packet.body()][..64].copy_from_slice(&opening);
    reseal(&mut hello, &mac1_key(Some(&stolen.public())), &[]);
    let cookie = pair.hello(address(), &hello).expect("good");
    let cookie = &cookie[wire::split(&cookie).expect("good").body()];

    let mut initiate = [0; 1_200];
    let frame = Frame::of_len(PacketKind::Initiate, transaction, 1_200, &mut initiate);
    let (prologue, sealed) = initiate[frame.body()].split_at_mut(112);
    prologue[..64].copy_from_slice(&opening);
    prologue[64..92].copy_from_slice(cookie);
    let said = InitiatePayload {
        boot: pair.config.boot_id,
        device: victim.device_id(),
        name: pair.config.name.clone(),
        role: PeerText::default(),
        token: PeerText::default(),
        parameters: pair.config.parameters,
    };
    said.write(&mut sealed[48..]);
    let parts = [b"RAET rsh1".as_slice(), &transaction.to_be_bytes(), prologue];
    let written = forge_first(&parts, &thief, stolen.secret(), victim.as_bytes(), sealed);
    frame.authenticate(&mac1_key(Some(&stolen.public())), &[], &mut initiate);

    let (initiated, accept) = pair.initiate(address(), &initiate).expect("looks good");
    let established = initiated.established.expect("open on this side");
    assert_eq!(established.peer, victim);
    let mut theirs = Protection::new(pair.now, &established);
    assert!(!theirs.is_confirmed());
    let packet = wire::split(&accept).expect("good");
    let (e_r, payload) = read_accept(&accept[packet.body()]).expect("good");
    for guess in [&thief, stolen.secret()] {
        let mixed = written.clone().mix_second(&thief, guess, &e_r, &[0; 32]);
        assert!(mixed.expect("proper points").read(&mut payload.to_vec()).is_err());
    }
    let secret = pair.config.identity.secret();
    let mixed = written.mix_second(&thief, secret, &e_r, &[0; 32]).expect("proper points");
    assert!(mixed.read(&mut payload.to_vec()).is_ok(), "only the victim's secret is missing");
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
