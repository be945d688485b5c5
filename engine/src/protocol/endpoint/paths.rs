//! A peer that is found elsewhere: challenges, their echoes, and the move (PROTOCOL 7.10).

use std::net::SocketAddr;

use super::control::write_packet;
use super::{Endpoint, Event, SessionChange};
use crate::buffer::Transmit;
use crate::limits::CONTROL_BUFFERS_KEPT;
use crate::protocol::session::{ChallengeData, Mode};
use crate::protocol::wire::PacketKind;
use crate::protocol::wire::control::Writer;
use crate::time::Instant;

/// Bytes of the block that carries a challenge or its echo.
const BLOCK_LEN: usize = 11;

impl Endpoint {
    /// Looks at where a packet that opened came from.
    #[inline]
    pub(super) fn note_source(
        &mut self,
        now: Instant,
        slot: u32,
        from: SocketAddr,
        is_newest: bool,
        bytes: usize,
    ) {
        let Some(live) = self.lives.find_mut(slot) else { return };
        // Plain packets have no numbers: of those anybody could answer for anybody.
        if live.session.mode() == Mode::Plain || live.session.paths.is_settled(from) {
            return;
        }
        let timeout = live.session.recovery.probe_timeout();
        let draw = || self.random.bytes();
        if live.session.paths.on_packet(now, from, is_newest, bytes, timeout, draw) {
            self.send_challenges(now, slot);
        }
    }

    /// Sends the challenges that are due.
    pub(super) fn send_challenges(&mut self, now: Instant, slot: u32) {
        while let Some(live) = self.lives.find_mut(slot) {
            let bytes = live.session.packet_len_max(BLOCK_LEN);
            let due = live.session.paths.poll_challenge(now, bytes);
            let Some((to, data)) = due else { return };
            self.send_on_path(now, slot, to, |writer| writer.path_challenge(data));
        }
    }

    /// Echoes a challenge to where it came from.
    pub(super) fn answer_challenge(
        &mut self,
        now: Instant,
        slot: u32,
        from: SocketAddr,
        data: ChallengeData,
    ) {
        let Some(live) = self.lives.find_mut(slot) else { return };
        let bytes = live.session.packet_len_max(BLOCK_LEN);
        if live.session.mode() != Mode::Plain && live.session.paths.may_answer(from, bytes) {
            self.send_on_path(now, slot, from, |writer| writer.path_response(data));
        }
    }

    /// Takes the echo of a challenge. If it is the right one the session moves.
    pub(super) fn handle_response(
        &mut self,
        now: Instant,
        slot: u32,
        from: SocketAddr,
        data: ChallengeData,
    ) {
        let Some(live) = self.lives.find_mut(slot) else { return };
        let Some(before) = live.session.paths.on_response(from, data) else { return };
        // Another port of the same host is most likely the same way there (RFC 9000 9.4).
        if before.ip() != from.ip() {
            live.session.recovery.on_path_changed();
        }
        self.counters.sessions_moved += 1;
        let peer_slot = live.peer;
        let peer = self.peers.find_mut(peer_slot).expect("a session has a peer");
        if peer.current == Some(slot) {
            if self.asking.remove(&(peer.address, peer_slot)) {
                self.asking.insert((from, peer_slot));
            }
            peer.address = from;
            let (peer, change) = (self.peer_id(peer_slot), SessionChange::Moved { address: from });
            self.events.push_back(Event::Session { peer, change });
        }
        self.mark_ready(peer_slot);
        self.rearm(now, peer_slot);
    }

    /// Sends a packet with one block to an address that need not be the session's. Without a spare
    /// buffer it is left out: it is repeated, or asked for again.
    fn send_on_path(
        &mut self,
        now: Instant,
        slot: u32,
        to: SocketAddr,
        fill: impl FnOnce(&mut Writer<'_>) -> bool,
    ) {
        if self.control_pool.available() <= CONTROL_BUFFERS_KEPT {
            return;
        }
        let Some(lease) = self.control_lease() else { return };
        let Some(live) = self.lives.find_mut(slot) else { return };
        let (template, kind) = (&mut self.control_head, PacketKind::Probe);
        let written =
            write_packet(now, template, live, lease, kind, None, |writer, _| fill(writer));
        self.counters.packets_sent += 1;
        self.outgoing.push_back(Transmit { to, ..written });
    }
}
