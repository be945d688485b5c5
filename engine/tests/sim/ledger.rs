//! What can be seen on the wire, kept as books that must balance: each datagram that a node sends
//! shows its head and, in keyed modes, the numbers that make its nonce.

use std::collections::HashMap;
use std::net::SocketAddr;

use raet::limits::DATAGRAM_LEN_BASE;
use raet::protocol::wire::{AuthKind, Flags, Packet, PacketKind, split};

/// The books of one process.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// By session and lane: generation and number of the last packet.
    sealed: HashMap<(u64, u16), (u16, u64)>,
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
}

impl Ledger {
    /// We asked this address ourselves, or a session is open: what we send it is asked for.
    pub(crate) fn on_proven(&mut self, address: SocketAddr) {
        self.unproven.entry(address).or_default().is_proven = true;
    }

    /// A datagram came in, whoever sent it.
    pub(crate) fn on_received(&mut self, from: SocketAddr, datagram: &[u8]) {
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

    /// A datagram goes out. Returns the message it carries, if it is a message of ours.
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
        let is_own = !head.flags.contains(Flags::CORRESPONDER);
        let is_message = head.session != 0 && head.packet == PacketKind::Message;
        let leaving = Leaving { transaction: head.transaction };
        Ok((is_message && is_own).then_some(leaving))
    }

    /// I19: a key is one of a session, direction, lane and generation, and numbers only rise.
    fn check_nonce(&mut self, session: u64, auth: &[u8]) -> Result<(), (&'static str, String)> {
        let word = |at: usize| u16::from_be_bytes([auth[at], auth[at + 1]]);
        let (lane, generation) = (word(0), word(2));
        let number = auth[4..12].iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
        let last = self.sealed.insert((session, lane), (generation, number));
        let rises = last.is_none_or(|last| number > last.1 && generation >= last.0);
        let what = || format!("session {session:x}: {number} of {generation} after {last:?}");
        if rises { Ok(()) } else { Err(("I19", what())) }
    }
}
