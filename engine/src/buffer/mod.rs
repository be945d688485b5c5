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

/// What a datagram's IP header says of congestion (RFC 3168, RFC 9331): the two low bits of its
/// traffic class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ecn {
    /// Its sender does not look at marks: a full queue has to drop it.
    #[default]
    NotEct = 0,
    /// Its sender looks at marks, and reacts to each (L4S). We never send it.
    Ect1 = 1,
    /// Its sender looks at marks: a queue that fills up may mark it instead of dropping it.
    Ect0 = 2,
    /// A queue on its way marked it.
    Ce = 3,
}

impl Ecn {
    /// The mark in a traffic class: IPv4's type of service, IPv6's traffic class.
    pub const fn of_traffic_class(byte: u8) -> Self {
        match byte & 3 {
            0 => Self::NotEct,
            1 => Self::Ect1,
            2 => Self::Ect0,
            _ => Self::Ce,
        }
    }
}

/// One receive: a datagram, or a train of datagrams of one sender that the kernel joined (GRO).
#[derive(Debug)]
pub struct Received {
    /// Who sent it, as the IP header claims.
    pub from: SocketAddr,
    /// The mark on it; the kernel joins only datagrams with one mark.
    pub ecn: Ecn,
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

    /// A single datagram that fills its lease, without a mark.
    pub fn single(from: SocketAddr, lease: Lease) -> Self {
        let segment_len = lease.len().max(1);
        Self { from, ecn: Ecn::NotEct, lease, segment_len }
    }
}

/// One datagram to send. Drivers join neighbours with the same address, mark and length into trains.
#[derive(Debug)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// The mark with which it leaves. The drivers' sockets are set to [`Ecn::Ect0`]: another mark
    /// costs the kernel a control message.
    pub ecn: Ecn,
    /// The datagram's bytes. Held until the kernel has copied them.
    pub lease: Lease,
}
