//! What can be seen on the wire, kept as books that must balance: each datagram that a node sends
//! shows its head and, in keyed modes, the numbers that make its nonce.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use raet::limits::DATAGRAM_LEN_BASE;
use raet::protocol::wire::control::{Block, Blocks};
use raet::protocol::wire::{AuthKind, BodyKind, Flags, Packet, PacketKind, split};

/// The books of one process.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// By session and lane: generation and number of the last packet.
    sealed: HashMap<(u64, u16), (u16, u64)>,
    /// By session and lane: numbers of packets that arrived as they were sent.
    arrived: HashMap<(u64, u16), Runs>,
    /// By address that asked before it proved to receive there: bytes in, bytes out, and whether
    /// an Initiate came from it.
    unproven: HashMap<SocketAddr, Account>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Account {
    received: u64,
    sent: u64,
    /// Bytes of Initiates, and of packets of sessions, among those received.
    vouched: u64,
    is_proven: bool,
}

/// A message packet on its way out, as far as its head tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaving {
    pub(crate) transaction: u64,
    /// Whether it is a message of ours, not a reply.
    pub(crate) is_own: bool,
}

impl Ledger {
    /// We asked this address ourselves, or a session is open: what we send it is asked for.
    pub(crate) fn on_proven(&mut self, address: SocketAddr) {
        self.unproven.entry(address).or_default().is_proven = true;
    }

    /// A datagram came in, whoever sent it. `is_genuine`: one of our peers sent just these bytes.
    pub(crate) fn on_received(&mut self, from: SocketAddr, datagram: &[u8], is_genuine: bool) {
        if is_genuine
            && let Ok(packet) = split(datagram)
            && packet.head.auth == AuthKind::Gmac
        {
            let Numbers { lane, number, .. } = Numbers::read(&datagram[packet.auth()]);
            self.arrived.entry((packet.head.session, lane)).or_default().insert(number);
        }
        let account = self.unproven.entry(from).or_default();
        if account.is_proven {
            return;
        }
        account.received += datagram.len() as u64;
        let is_vouched = |packet: Packet| {
            let is_initiate = packet.head.packet == PacketKind::Initiate;
            packet.head.session != 0 || is_initiate && datagram.len() >= DATAGRAM_LEN_BASE
        };
        if split(datagram).is_ok_and(is_vouched) {
            account.vouched += datagram.len() as u64;
        }
    }

    /// A datagram goes out. Returns the message that it carries, if it does.
    ///
    /// # Errors
    /// The rule that it breaks, and how.
    pub(crate) fn on_sent(
        &mut self,
        to: SocketAddr,
        datagram: &[u8],
    ) -> Result<Option<Leaving>, (&'static str, String)> {
        let packet = split(datagram).map_err(|reason| ("I13", format!("sends {reason:?}")))?;
        let account = self.unproven.entry(to).or_default();
        if !account.is_proven {
            account.sent += datagram.len() as u64;
            // Three times what came with a proof of the address, once what came without.
            if account.sent > account.received + 2 * account.vouched {
                return Err(("I24", format!("{account:?} to {to}, which proved nothing")));
            }
        }
        let head = packet.head;
        if matches!(head.auth, AuthKind::Aead | AuthKind::Gmac) {
            self.check_nonce(head.session, &datagram[packet.auth()])?;
        }
        if (head.auth, head.body) == (AuthKind::Gmac, BodyKind::Control) {
            self.check_acknowledged(head.session, &datagram[packet.body()])?;
        }
        let is_own = !head.flags.contains(Flags::CORRESPONDER);
        let is_message = head.session != 0 && head.packet == PacketKind::Message;
        let leaving = Leaving { transaction: head.transaction, is_own };
        Ok(is_message.then_some(leaving))
    }

    /// I20: only what arrived unaltered is acknowledged. Packets that are signed and not sealed
    /// show what they acknowledge; what leads to an acknowledgement is the same in both modes.
    fn check_acknowledged(
        &self,
        session: u64,
        control: &[u8],
    ) -> Result<(), (&'static str, String)> {
        for block in Blocks::new(control) {
            let Ok(Block::PacketRanges(ranges)) = block else { continue };
            let arrived = self.arrived.get(&(session, ranges.lane));
            let is_true = |range: &RangeInclusive<u64>| {
                arrived.is_some_and(|arrived| arrived.contains(range))
            };
            if let Some(range) = ranges.iter().find(|range| !is_true(range)) {
                let what = format!("session {session:x}: acknowledges {range:?} of {arrived:?}");
                return Err(("I20", what));
            }
        }
        Ok(())
    }

    /// I19: a key is one of a session, direction, lane and generation, and numbers only rise.
    fn check_nonce(&mut self, session: u64, auth: &[u8]) -> Result<(), (&'static str, String)> {
        let Numbers { lane, generation, number } = Numbers::read(auth);
        let last = self.sealed.insert((session, lane), (generation, number));
        let rises = last.is_none_or(|last| number > last.1 && generation >= last.0);
        let what = || format!("session {session:x}: {number} of {generation} after {last:?}");
        if rises { Ok(()) } else { Err(("I19", what())) }
    }
}

/// What an authentication block shows.
struct Numbers {
    lane: u16,
    generation: u16,
    number: u64,
}

impl Numbers {
    fn read(auth: &[u8]) -> Self {
        let word = |at: usize| u16::from_be_bytes([auth[at], auth[at + 1]]);
        let number = auth[4..12].iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
        Self { lane: word(0), generation: word(2), number }
    }
}

/// Numbers, as the runs that they form: from the first to the last of each.
#[derive(Debug, Default)]
struct Runs(BTreeMap<u64, u64>);

impl Runs {
    fn insert(&mut self, number: u64) {
        if self.contains(&(number..=number)) {
            return;
        }
        let last = self.0.remove(&(number + 1)).unwrap_or(number);
        match self.0.range_mut(..number).next_back() {
            Some((_, before)) if *before + 1 == number => *before = last,
            _ => drop(self.0.insert(number, last)),
        }
    }

    fn contains(&self, range: &RangeInclusive<u64>) -> bool {
        let run = self.0.range(..=range.start()).next_back();
        run.is_some_and(|(_, last)| last >= range.end())
    }
}
