//! A train in the making: packets to one peer, back to back in one buffer.
//!
//! Packets of one length and mark leave the machine in one send, and only the last may be shorter.
//! So each packet says how long it will be before it is written, and begins another train if it
//! does not fit behind the one before it.

use std::net::SocketAddr;

use crate::buffer::{Ecn, Lease, Transmit};
use crate::limits::{TRAIN_LEN_MAX, TRAIN_SEGMENTS_MAX};

/// At least one packet, or room for it.
#[derive(Debug)]
pub(super) struct Train {
    lease: Lease,
    ecn: Ecn,
    /// Length of every packet but the last.
    segment_len: usize,
    packets: usize,
    len: usize,
}

impl Train {
    /// A train whose first packet has `segment_len` bytes and leaves with the mark `ecn`.
    pub(super) fn new(lease: Lease, segment_len: usize, ecn: Ecn) -> Self {
        Self { lease, ecn, segment_len, packets: 0, len: 0 }
    }

    /// Whether no packet of the first one's length may follow.
    pub(super) fn is_full(&self) -> bool {
        self.packets == TRAIN_SEGMENTS_MAX
            || self.len + self.segment_len > TRAIN_LEN_MAX
            || self.len < self.packets * self.segment_len // The last was shorter.
    }

    /// Whether a packet like this may follow, unless the train is full.
    pub(super) fn takes(&self, packet_len: usize, ecn: Ecn) -> bool {
        packet_len <= self.segment_len && ecn == self.ecn
    }

    /// The place of the next packet.
    pub(super) fn extend(&mut self, packet_len: usize) -> &mut [u8] {
        let start = self.len;
        self.packets += 1;
        self.len += packet_len;
        let buffer = self.lease.get_mut().expect("a train in the making has one holder");
        &mut buffer[start..self.len]
    }

    /// Has it leave.
    pub(super) fn into_transmit(self, to: SocketAddr) -> Transmit {
        let Self { lease, ecn, segment_len, len, .. } = self;
        Transmit { to, ecn, lease: lease.narrow(0..len), segment_len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Pool;
    use crate::limits::TRAIN_BUFFER_LEN;

    fn train(segment_len: usize) -> Train {
        let pool = Pool::new(1, TRAIN_BUFFER_LEN).unwrap();
        let mut train = Train::new(pool.take().unwrap(), segment_len, Ecn::Ect0);
        train.extend(segment_len).fill(1);
        train
    }

    #[test]
    fn only_packets_that_one_send_may_carry_follow() {
        let mut made = train(100);
        assert!(!made.takes(101, Ecn::Ect0) && !made.takes(100, Ecn::NotEct));
        assert!(!made.is_full() && made.takes(100, Ecn::Ect0) && made.takes(40, Ecn::Ect0));
        made.extend(40).fill(2);
        assert!(made.is_full(), "only the last may be shorter");
        let to = SocketAddr::from(([127, 0, 0, 1], 1));
        let transmit = made.into_transmit(to);
        assert_eq!((transmit.datagrams(), transmit.segment_len), (2, 100));
        assert_eq!(transmit.part(1, 1).lease[..], [2; 40]);
    }

    #[test]
    fn train_ends_where_the_kernels_rules_end_it() {
        let mut many = train(10);
        while !many.is_full() {
            many.extend(10);
        }
        assert_eq!(many.packets, TRAIN_SEGMENTS_MAX);
        let mut long = train(9_000);
        while !long.is_full() {
            long.extend(9_000);
        }
        assert_eq!(long.packets, TRAIN_LEN_MAX / 9_000);
    }
}
