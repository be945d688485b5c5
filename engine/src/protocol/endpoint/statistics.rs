//! Figures about a peer, for people, plots and alarms.

use super::{Endpoint, PeerId};
use crate::time::Duration;

/// Where a path stands.
#[derive(Clone, Copy, Debug)]
pub struct PathStatistics {
    /// Smoothed round-trip time.
    pub round_trip: Duration,
    /// Congestion window in bytes.
    pub window: u64,
    /// Bytes sent and neither acknowledged nor taken for lost. More than the window only after
    /// it was cut, and by what leaves in spite of it: two probes a time-out, and control packets.
    pub in_flight: u64,
    /// Datagram size in use.
    pub datagram_len: usize,
    /// Whether the path keeps ECN marks, so that queues can slow us down without a loss.
    pub is_ecn_capable: bool,
}

/// Bytes of messages that are kept for a peer, each below its bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryStatistics {
    /// What the peer was granted: the bound of each of the next four.
    pub granted: u64,
    /// Whole lengths of its messages of which segments are missing; of those handed over piece
    /// by piece, the pieces that wait for others.
    pub incomplete: u64,
    /// The same of levels without acknowledgement, which count against no grant.
    pub incomplete_ungranted: u64,
    /// The same of its replies.
    pub incomplete_replies: u64,
    /// Messages of ordered streams that wait for their turn.
    pub early: u64,
    /// What the peer granted: the bound of each of the next two.
    pub granted_by_peer: u64,
    /// Messages of ours without an outcome, of the levels that are acknowledged.
    pub unresolved: u64,
    /// Replies of ours that the peer may not have yet.
    pub unconfirmed_replies: u64,
}

impl Endpoint {
    /// Round-trip time and congestion window towards a peer. `None`: no session.
    pub fn path(&self, peer: PeerId) -> Option<PathStatistics> {
        let found =
            self.peers.find(peer.slot).filter(|found| found.generation == peer.generation)?;
        let session = &self.lives.find(found.current?)?.session;
        let statistics = session.recovery.statistics();
        Some(PathStatistics {
            round_trip: statistics.rtt_smoothed,
            window: statistics.window,
            in_flight: statistics.bytes_in_flight,
            datagram_len: statistics.datagram_len,
            is_ecn_capable: statistics.is_ecn_capable,
        })
    }

    /// Memory that messages from and to a peer occupy. `None`: nothing is shared with it.
    pub fn memory(&self, peer: PeerId) -> Option<MemoryStatistics> {
        let found =
            self.peers.find(peer.slot).filter(|found| found.generation == peer.generation)?;
        let association = found.association.as_ref()?;
        let [incomplete, incomplete_ungranted, incomplete_replies] = association.assemblies.used();
        Some(MemoryStatistics {
            granted: association.receive_bytes,
            incomplete,
            incomplete_ungranted,
            incomplete_replies,
            early: association.escrow.held(),
            granted_by_peer: association.outbox.bytes_max(),
            unresolved: association.outbox.bytes_unresolved(),
            unconfirmed_replies: association.outbox.reply_bytes(),
        })
    }
}
