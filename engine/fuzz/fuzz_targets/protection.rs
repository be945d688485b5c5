//! Packets of one session, sealed and opened in any order, more than once, across generations of
//! keys, and altered: what opens, and why the rest does not, is what a set of numbers and two
//! counters say. An altered packet never opens and changes nothing.
//!
//! The first byte chooses cipher and mode, every four bytes after it are one operation.

#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use raet::Suite;
use raet::limits::{HEAD_EMIT_LEN_MAX, KEY_RENEWAL_AFTER, REPLAY_WINDOW};
use raet::protocol::drop_reason::DropReason;
use raet::protocol::session::{Established, Mode, Offer, Protection};
use raet::protocol::wire::{BodyKind, Head, encode, split};
use raet::time::{Duration, Instant};
use raet_fuzz::{NOW, Pair, home};

/// What both ends take for their probe time-out.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Packets that may be delivered again; more are forgotten.
const KEPT_MAX: usize = 1_024;

thread_local! {
    /// A session of each cipher and mode: a handshake takes longer than all the rest.
    static SESSIONS: [[Established; 2]; 4] = [
        session(Suite::Aes256Gcm, Mode::Sealed),
        session(Suite::Aes256Gcm, Mode::Signed),
        session(Suite::ChaCha20Poly1305, Mode::Sealed),
        session(Suite::ChaCha20Poly1305, Mode::Signed),
    ];
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, script)) = data.split_first() else { return };
    SESSIONS.with(|sessions| {
        let mut world = World::new(&sessions[usize::from(choice % 4)]);
        for &[op, a, b, c] in script.as_chunks().0 {
            // Counted from the newest.
            let back = usize::from(u16::from_le_bytes([a, b])) % world.kept.len().max(1);
            let place = world.kept.len().saturating_sub(1 + back);
            match op % 6 {
                0 | 1 => world.seal(u64::from(a) << (c % 6), usize::from(b)),
                2 => world.open(place),
                3 => world.open_altered(place, usize::from(c), op),
                4 => world.wait(Duration::from_millis(1 << (a % 18))),
                _ => world.ratchet(),
            }
        }
    });
});

/// A packet that was sealed.
struct Kept {
    number: u64,
    generation: u64,
    body: Vec<u8>,
    datagram: Vec<u8>,
}

/// One direction of a session, and what is to be expected of it.
struct World {
    sender: Protection,
    receiver: Protection,
    session: u64,
    now: Instant,
    kept: Vec<Kept>,
    next_number: u64,
    /// Generations of the sender and of the receiver.
    sending: u64,
    receiving: u64,
    /// Until when the receiver opens packets of the generation before.
    previous_until: Instant,
    /// What was opened.
    opened: BTreeSet<u64>,
}

impl World {
    fn new([ours, theirs]: &[Established; 2]) -> Self {
        Self {
            sender: Protection::new(NOW, ours),
            receiver: Protection::new(NOW, theirs),
            session: ours.session,
            now: NOW,
            kept: Vec::new(),
            next_number: 0,
            sending: 0,
            receiving: 0,
            previous_until: NOW,
            opened: BTreeSet::new(),
        }
    }

    /// Seals a new packet; numbers may be left out.
    fn seal(&mut self, left_out: u64, len: usize) {
        let body: Vec<u8> = (0..len).map(|at| (at as u64 + self.next_number) as u8).collect();
        let head = Head {
            session: self.session,
            auth: self.sender.auth_kind(),
            body: BodyKind::Raw,
            body_len: len as u32,
            tail: self.sender.tail_kind(),
            ..Head::default()
        };
        let mut before = [0; HEAD_EMIT_LEN_MAX];
        let head_len = encode(&head, &mut before);
        let mut datagram = before[HEAD_EMIT_LEN_MAX - head_len..].to_vec();
        datagram.resize(head_len + head.auth.len(), 0);
        datagram.extend(&body);
        let number = self.next_number + left_out;
        self.sender.seal(number, &mut datagram, head_len);
        self.keep(Kept { number, generation: self.sending, body, datagram });
    }

    fn keep(&mut self, kept: Kept) {
        self.next_number = kept.number + 1;
        if self.kept.len() == KEPT_MAX {
            self.kept.remove(0);
        }
        self.kept.push(kept);
    }

    fn open(&mut self, place: usize) {
        let Some(kept) = self.kept.get(place) else { return };
        let expected = self.expected(kept);
        let mut datagram = kept.datagram.clone();
        let packet = split(&datagram).expect("ours");
        let opened = self.receiver.open(self.now, &mut datagram, &packet);
        assert_eq!(opened.map(|opened| opened.is_newest), expected);
        let Ok(opened) = opened else { return };
        assert_eq!((opened.packet_number, opened.lane), (Some(kept.number), 0));
        assert_eq!(datagram[packet.body()], kept.body);
        assert!(self.receiver.is_confirmed());
        self.opened.insert(kept.number);
        if kept.generation > self.receiving {
            self.receiving = kept.generation;
            self.previous_until = self.now + PROBE_TIMEOUT.saturating_mul(3);
        }
    }

    /// Whether a packet that opens is the newest, or why it must not open.
    fn expected(&self, kept: &Kept) -> Result<bool, DropReason> {
        assert!(kept.generation <= self.receiving + 1, "the sender is too far ahead");
        let is_known = kept.generation >= self.receiving
            || (kept.generation + 1 == self.receiving && self.now < self.previous_until);
        if !is_known {
            return Err(DropReason::GenerationUnknown);
        }
        let end = self.opened.last().map_or(0, |newest| newest + 1);
        let is_new = !self.opened.contains(&kept.number) && end <= kept.number + REPLAY_WINDOW;
        is_new.then_some(kept.number >= end).ok_or(DropReason::Replayed)
    }

    /// One byte differs, in the block before the body more often than elsewhere, or the end is
    /// missing.
    fn open_altered(&mut self, place: usize, at: usize, how: u8) {
        let Some(kept) = self.kept.get(place) else { return };
        let mut datagram = kept.datagram.clone();
        let block = split(&datagram).expect("ours").auth();
        let at = if how & 0x40 == 0 { block.start + at % block.len() } else { at };
        let Some(byte) = datagram.get_mut(at) else { return };
        *byte ^= 1 << (how / 6 % 8);
        if how & 0x80 != 0 {
            datagram.truncate(at);
        }
        let Ok(packet) = split(&datagram) else { return };
        let was_confirmed = self.receiver.is_confirmed();
        assert!(self.receiver.open(self.now, &mut datagram, &packet).is_err());
        assert_eq!(self.receiver.is_confirmed(), was_confirmed);
    }

    /// Time passes, as long as the session's keys may be used.
    fn wait(&mut self, span: Duration) {
        self.now = (self.now + span).min(NOW + KEY_RENEWAL_AFTER);
    }

    /// Both ends look whether their keys are due, as they do in each turn. The sender knows what
    /// opened, and has given up the rest.
    fn ratchet(&mut self) {
        let (next, acked) = (self.next_number, self.opened.last().copied());
        if self.sender.is_ratchet_due(self.now, PROBE_TIMEOUT, next, acked) {
            self.sender.ratchet(self.now, next);
        }
        self.receiver.expire_previous(self.now, PROBE_TIMEOUT);
        self.seal(0, 1);
        let sealed = self.kept.last_mut().expect("just now");
        let block = split(&sealed.datagram).expect("ours").auth();
        let generation = &sealed.datagram[block.start + 2..block.start + 4];
        sealed.generation = u64::from(u16::from_be_bytes([generation[0], generation[1]]));
        assert!(sealed.generation - self.sending <= 1);
        self.sending = sealed.generation;
    }
}

/// The two ends of a session.
fn session(suite: Suite, mode: Mode) -> [Established; 2] {
    let mut pair = Pair::new(|ours, theirs| {
        let offer = Offer::new(&[suite], &[mode]);
        (ours.offer, theirs.offer) = (offer.clone(), offer);
    });
    let (mut datagram, mut ends) = (pair.poll().expect("the hello is due"), Vec::new());
    while !datagram.is_empty() {
        let effect = pair.take(home(), &datagram).expect("a true packet");
        ends.extend(effect.established.map(|end| *end));
        datagram = effect.answer;
    }
    ends.reverse(); // The responder has it first.
    ends.try_into().expect("both have it")
}
