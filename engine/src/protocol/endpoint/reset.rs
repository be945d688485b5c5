//! Sessions that one side has forgotten, after a restart above all: a token that only it can make
//! says so to the other, without any state (PROTOCOL 7.20).

use std::net::SocketAddr;

use super::{CloseReason, Endpoint, Live};
use crate::buffer::{Ecn, Transmit};
use crate::limits::HEAD_EMIT_LEN_MAX;
use crate::protocol::drop_reason::DropReason;
use crate::protocol::session::{Mode, ResetToken, Role};
use crate::protocol::wire::{AuthKind, BodyKind, Head, Packet, PacketKind, encode, split};
use crate::time::Instant;

impl Endpoint {
    /// Answers a packet of a session that nobody here knows. Only a node that listens does: the
    /// ids of its sessions say which shard would know them, so that this one cannot be asked for
    /// the token of another's.
    pub(super) fn answer_unknown(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let Ok(Packet { head, .. }) = split(datagram) else { return };
        let is_answered =
            matches!(head.packet, PacketKind::Message | PacketKind::Ack | PacketKind::Probe);
        let (session, lease) = (head.session, self.stranger_lease());
        let (Some(responder), Some(mut lease), true) = (&mut self.responder, lease, is_answered)
        else {
            return;
        };
        let ResetToken(token) = self.config.identity.reset_token(session);
        let head = Head {
            session,
            packet: PacketKind::Reset,
            body: BodyKind::Raw,
            body_len: u32::try_from(token.len()).expect("a short body"),
            ..Head::default()
        };
        let mut text = [0; HEAD_EMIT_LEN_MAX];
        let text = {
            let len = encode(&head, &mut text);
            &text[text.len() - len..]
        };
        let len = text.len() + token.len();
        // Shorter than what it answers: two nodes cannot keep each other busy.
        if len >= datagram.len() || !responder.may_reset(now, from.ip()) {
            return;
        }
        let buffer = lease.get_mut().expect("a buffer just taken has one holder");
        buffer[..text.len()].copy_from_slice(text);
        buffer[text.len()..len].copy_from_slice(&token);
        let lease = lease.narrow(0..len);
        self.outgoing.push_back(Transmit::single(from, Ecn::NotEct, lease));
    }

    /// The peer does not know the session any more, if it is the peer that says so.
    pub(super) fn handle_reset(
        &mut self,
        now: Instant,
        slot: u32,
        packet: &Packet,
        datagram: &[u8],
    ) -> Result<(), DropReason> {
        if packet.head.body != BodyKind::Raw || packet.head.auth != AuthKind::None {
            return Err(DropReason::KindMismatch);
        }
        let live = self.lives.find(slot).expect("the index names open sessions");
        let said = datagram[packet.body()].try_into().map(ResetToken);
        if live.peer_token.is_none() || said.ok() != live.peer_token {
            return Err(DropReason::MacInvalid);
        }
        self.end_session(now, slot, CloseReason::Reset);
        Ok(())
    }

    /// What the peer must know to believe our reset of this session. A responder told it in its
    /// Accept; an initiator tells it where only the peer can read it.
    pub(super) fn token_to_tell(&self, live: &Live) -> Option<ResetToken> {
        let session = &live.session;
        let is_told = self.responder.is_some()
            && session.role() == Role::Initiator
            && session.mode() == Mode::Sealed;
        is_told.then(|| self.config.identity.reset_token(session.id()))
    }
}
