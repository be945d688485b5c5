//! Packet buffers: fixed pools taken once, and the [`Lease`] as the only way to hold one.
//!
//! A datagram's bytes stay where the kernel put them until the handler has read them, and what is
//! sent leaves from the buffer in which it was sealed. What makes that safe is a count of holders
//! per slot: several leases may read a slot (the packets of one received train, or the parts of one
//! that is sent), and only a lease that is alone may write to it.
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

/// One send: a datagram, or a train of them to one address. Drivers join neighbours with the same
/// address, mark and length.
#[derive(Debug)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// The mark with which it leaves. The drivers' sockets are set to [`Ecn::Ect0`]: another mark
    /// costs the kernel a control message.
    pub ecn: Ecn,
    /// Its bytes, back to back. Held until the kernel has copied them.
    pub lease: Lease,
    /// Length of each datagram in the train; the last may be shorter. For a single datagram
    /// this is its length. At least 1, for an empty datagram too.
    pub segment_len: usize,
}

impl Transmit {
    /// A single datagram that fills its lease.
    pub fn single(to: SocketAddr, ecn: Ecn, lease: Lease) -> Self {
        let segment_len = lease.len().max(1);
        Self { to, ecn, lease, segment_len }
    }

    /// Datagrams in the train.
    pub fn datagrams(&self) -> usize {
        self.lease.len().div_ceil(self.segment_len).max(1)
    }

    /// Each datagram by itself.
    pub fn each(&self) -> impl Iterator<Item = Self> + '_ {
        (0..self.datagrams()).map(|place| self.part(place, 1))
    }

    /// The datagrams from `first` on, `count` of them at most, as a train of their own.
    ///
    /// # Panics
    /// If there is no datagram `first`.
    #[must_use]
    pub fn part(&self, first: usize, count: usize) -> Self {
        let len = self.lease.len();
        let start = first * self.segment_len;
        let end = start.saturating_add(count.saturating_mul(self.segment_len)).min(len);
        let segment_len = self.segment_len.min((end - start).max(1));
        Self { lease: self.lease.view(start..end), segment_len, ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn train_has_a_datagram_for_each_of_its_parts() {
        let pool = Pool::new(1, 64).unwrap();
        let to = SocketAddr::from(([127, 0, 0, 1], 1));
        let lease = pool.take().unwrap();
        let shape = |part: &Transmit| (part.lease.len(), part.segment_len, part.datagrams());
        let train = Transmit { segment_len: 25, ..Transmit::single(to, Ecn::Ect0, lease) };
        assert_eq!(train.datagrams(), 3);
        assert_eq!(shape(&train.part(0, 1)), (25, 25, 1));
        assert_eq!(shape(&train.part(1, 9)), (39, 25, 2));
        assert_eq!(shape(&train.part(2, usize::MAX)), (14, 14, 1));
        assert!(train.each().map(|part| part.lease.len()).eq([25, 25, 14]));
        let empty = Transmit::single(to, Ecn::Ect0, train.lease.view(0..0));
        assert_eq!((empty.datagrams(), shape(&empty.part(0, 1))), (1, (0, 1, 1)));
    }
}
