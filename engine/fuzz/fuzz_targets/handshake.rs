//! A handshake of which one packet, or a notice, is altered on its way: its receiver drops it and
//! takes the true one that follows as if nothing had happened. A forger who makes the MAC right
//! again, which takes no secret, may have it taken, but opens no other session by it, and no
//! address gets more bytes than it sent.
//!
//! The first byte chooses the packet, the second what the handshake is like and what the forger
//! can do; then each alteration is four bytes: what, where (two), and with what.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use raet::PublicKey;
use raet::protocol::crypto;
use raet::protocol::session::{BootId, Notice, Random};
use raet::protocol::wire::{PacketKind, split};
use raet_fuzz::{Pair, home, identities};

/// How a handshake is: who asks does not know whom; both share a secret.
const DISCOVER: u8 = 1;
const PSK: u8 = 2;
/// What a forger can do: make the MAC right again; send from another address.
const MAC: u8 = 4;
const ADDRESS: u8 = 8;

/// Hello, Cookie, Initiate, Accept; the place of the Initiate among them; and a notice after them.
const PACKETS: usize = 4;
const INITIATE: usize = 2;

fuzz_target!(|data: &[u8]| {
    let Some((&[choice, how], edits)) = data.split_first_chunk() else { return };
    match usize::from(choice) % (PACKETS + 1) {
        PACKETS => notice(how, edits),
        place => handshake(place, how, edits),
    }
});

fn handshake(place: usize, how: u8, edits: &[u8]) {
    let steps = true_steps(how);
    let (before, after) = steps.split_at(place);
    let original = &after[0].datagram;
    let asked = before.last().map(|step| &step.datagram[..]).unwrap_or_default();
    let edited = edit(original, how, edits, asked);
    let mut from = home();
    if how & ADDRESS != 0 {
        from.set_port(4_001);
    }
    if edited == *original && (place != INITIATE || from == home()) {
        return;
    }

    let (mut pair, _) = start(how);
    for step in before {
        pair.take(home(), &step.datagram).expect("a true packet");
    }
    let timeout = pair.initiator.next_timeout();
    if let Ok(effect) = pair.take(from, &edited) {
        assert!(how & MAC != 0, "a forged packet was taken");
        let session = effect.established.map(|established| established.session);
        assert!(session.is_none() || session == steps[PACKETS - 1].session);
        match split(&edited).expect("it was taken").head.packet {
            PacketKind::Hello => assert!(effect.answer.len() < edited.len()),
            PacketKind::Initiate => {
                assert_eq!(from, home(), "a cookie is good for one address");
                assert!(effect.answer.len() <= edited.len());
            }
            _ => {}
        }
        return;
    }
    assert_eq!((pair.poll(), pair.initiator.next_timeout()), (None, timeout));
    let effect = pair.take(home(), original).expect("the true packet is taken");
    let session = effect.established.map(|established| established.session);
    let next = after.get(1).map(|next| &next.datagram[..]).unwrap_or_default();
    assert_eq!((session, &effect.answer[..]), (after[0].session, next));
}

fn notice(how: u8, edits: &[u8]) {
    const NOTICE: Notice = Notice { boot: BootId([3; 16]), counter: 7 };
    let [minion, master] = identities();
    let mut random = Random::from_seed([5; 32]);
    let mut datagram = [0; 300];
    let len = NOTICE.seal(&master, &minion.public(), 9, &mut random, &mut datagram);
    let edited = edit(&datagram[..len], how, edits, &[]);
    let Ok(packet) = split(&edited) else { return };
    match Notice::open(&minion, &master.public(), &packet, &edited) {
        Ok(notice) => {
            assert!(how & MAC != 0 || edited == datagram[..len], "a forged notice was taken");
            assert_eq!(notice, NOTICE);
        }
        Err(_) => assert_ne!(edited, datagram[..len]),
    }
}

/// A packet as it is if nobody meddles, and the session that its receiver then has.
struct Step {
    datagram: Vec<u8>,
    session: Option<u64>,
}

fn true_steps(how: u8) -> &'static [Step] {
    static STEPS: [OnceLock<Vec<Step>>; 4] = [const { OnceLock::new() }; 4];
    STEPS[usize::from(how & (DISCOVER | PSK))].get_or_init(|| {
        let (mut pair, mut datagram) = start(how);
        let mut steps = Vec::new();
        while !datagram.is_empty() {
            let effect = pair.take(home(), &datagram).expect("a true packet");
            let session = effect.established.map(|established| established.session);
            steps.push(Step { datagram, session });
            datagram = effect.answer;
        }
        assert_eq!(steps.len(), PACKETS);
        steps
    })
}

/// A handshake and its Hello.
fn start(how: u8) -> (Pair, Vec<u8>) {
    let mut pair = Pair::new(|ours, theirs| {
        let psk = (how & PSK != 0).then(|| [6; 32].into());
        (ours.psk, theirs.psk) = (psk.clone(), psk);
        if how & DISCOVER != 0 {
            (ours.peer, theirs.discoverable) = (None, true);
        }
    });
    let hello = pair.poll().expect("the hello is due");
    (pair, hello)
}

/// What a forger makes of a packet. `asked` is the one that it answers.
fn edit(original: &[u8], how: u8, edits: &[u8], asked: &[u8]) -> Vec<u8> {
    let mut datagram = original.to_vec();
    for &[what, low, high, with] in edits.as_chunks().0 {
        let place = usize::from(u16::from_le_bytes([low, high])) % (datagram.len() + 1);
        match what % 4 {
            0 if place < datagram.len() => datagram[place] ^= with,
            1 if place < datagram.len() => drop(datagram.remove(place)),
            2 => datagram.insert(place, with),
            3 => datagram.truncate(place),
            _ => {}
        }
    }
    if how & MAC != 0 {
        authenticate(&mut datagram, how, asked);
    }
    datagram
}

/// Makes the MAC of a packet right (PROTOCOL 3.3), if there is a place for one.
fn authenticate(datagram: &mut [u8], how: u8, asked: &[u8]) {
    let Ok(packet) = split(datagram) else { return };
    let [asking, responder] = identities().map(|identity| identity.public());
    let answered = split(asked).map(|packet| &asked[packet.auth()]).unwrap_or_default();
    let (context, key, extra) = match packet.head.packet {
        PacketKind::Hello if how & DISCOVER != 0 => {
            ("RAET 2026-11-22 rsh1 mac1", PublicKey::from_bytes([0; 32]), &[][..])
        }
        PacketKind::Cookie => ("RAET 2026-11-22 rsh1 cookie auth", responder, answered),
        PacketKind::Accept => ("RAET 2026-11-22 rsh1 accept auth", responder, answered),
        PacketKind::Notice => ("RAET 2026-11-22 rsh1 mac1", asking, &[][..]),
        _ => ("RAET 2026-11-22 rsh1 mac1", responder, &[][..]),
    };
    let key = crypto::derive(context, &[key.as_bytes()]);
    let (head, body) = (&datagram[..packet.head_len()], &datagram[packet.body()]);
    let mac = crypto::mac(&key, &[head, body, extra]);
    if packet.auth().len() == mac.len() {
        datagram[packet.auth()].copy_from_slice(&mac);
    }
}
