//! Packet buffers: fixed pools taken once, and the [`Lease`] as the only way to hold one.
//!
//! A datagram's bytes stay where the kernel put them until the handler has read them, and a
//! payload is written once, into the buffer from which it leaves. What makes that safe is a
//! count of holders per slot: several leases may read a slot (the packets of one received train,
//! or a retained packet and the send in flight), and only a lease that is alone may write to it.
//! Leases do not cross threads; nothing here is atomic.

mod block;
mod region;

use std::net::SocketAddr;

pub use block::{Block, Blocks};
pub use region::{Lease, Pool};

/// One receive: a datagram, or a train of datagrams of one sender that the kernel joined (GRO).
#[derive(Debug)]
pub struct Received {
    /// Who sent it, as the IP header claims.
    pub from: SocketAddr,
    /// Its bytes, back to back.
    pub lease: Lease,
    /// Length of each datagram in the train; the last may be shorter. For a single datagram
    /// this is its length. At least 1, for an empty datagram too.
    pub segment_len: usize,
}

impl Received {
    /// Datagrams in the train.
    pub fn datagrams(&self) -> usize {
        self.lease.len().div_ceil(self.segment_len).max(1)
    }

    /// A single datagram that fills its lease.
    pub fn single(from: SocketAddr, lease: Lease) -> Self {
        let segment_len = lease.len().max(1);
        Self { from, lease, segment_len }
    }
}

/// One datagram to send. Drivers join neighbours with the same address and length into trains.
#[derive(Debug)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// The datagram's bytes. Held until the kernel has copied them.
    pub lease: Lease,
}
