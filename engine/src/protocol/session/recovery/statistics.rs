//! What a packet plane tells of itself.

use crate::time::Duration;

/// Counters and gauges of a packet plane.
#[derive(Clone, Copy, Debug)]
pub struct RecoveryStatistics {
    /// Packets sent, acknowledgements included.
    pub packets_sent: u64,
    /// Packets taken for lost.
    pub packets_lost: u64,
    /// Of those, the ones that were acknowledged after all.
    pub packets_spurious: u64,
    /// Times that losses or marks cut the window.
    pub cuts: u32,
    /// Whether packets leave marked ECT(0) and CE is heard.
    pub is_ecn_capable: bool,
    /// The congestion window in bytes.
    pub window: u64,
    /// UDP payload bytes in flight.
    pub bytes_in_flight: u64,
    /// Smoothed round trip.
    pub rtt_smoothed: Duration,
    /// Smallest round trip.
    pub rtt_min: Duration,
    /// Sent packets that loss detection waits for behind a missing one.
    pub packet_threshold: u64,
    /// Probe time-outs in a row.
    pub backoff: u32,
    /// UDP payload bytes that the path is known to carry.
    pub datagram_len: usize,
}
