//! Trains: neighbouring datagrams to one address that leave the machine in one send.
//!
//! Most of what a datagram costs is the way through the network stack, and the kernel walks that
//! way once for up to 128 datagrams if they have one destination, one mark and one length; only
//! the last may be shorter. Most come as trains already, in one piece; what comes singly and fits behind
//! one joins it as another piece of a scattered send. What is queued waits here until the kernel has
//! copied it.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::message::{self, Control, Name};
use crate::buffer::{Ecn, Lease, Transmit};
use crate::limits::{TRAIN_LEN_MAX, TRAIN_SEGMENTS_MAX, TRAINS_QUEUED_MAX};

/// Trains that wait for the kernel or are in its hands. Their addresses in memory do not change.
#[derive(Debug)]
pub(super) struct Trains {
    slots: Box<[Train]>,
    /// Unused slots, last used on top.
    free: Vec<usize>,
    /// Slots that wait to be sent, in order; the last one may still grow.
    queued: VecDeque<usize>,
    /// Datagrams a train may have; 1 where the kernel cannot cut trains.
    segments_max: usize,
}

impl Trains {
    pub(super) fn new(segments_max: usize) -> Self {
        Self {
            slots: (0..TRAINS_QUEUED_MAX).map(|_| Train::empty()).collect(),
            free: (0..TRAINS_QUEUED_MAX).rev().collect(),
            queued: VecDeque::with_capacity(TRAINS_QUEUED_MAX),
            segments_max: segments_max.clamp(1, TRAIN_SEGMENTS_MAX),
        }
    }

    /// Queues datagrams behind the others, in the last train if they fit there.
    ///
    /// # Errors
    /// Those for which there is no place, when all trains are in use.
    pub(super) fn push(&mut self, transmit: Transmit) -> Result<(), Transmit> {
        let datagrams = transmit.datagrams();
        if datagrams <= self.segments_max {
            return self.push_whole(transmit);
        }
        for first in (0..datagrams).step_by(self.segments_max) {
            if self.push_whole(transmit.part(first, self.segments_max)).is_err() {
                return Err(transmit.part(first, usize::MAX));
            }
        }
        Ok(())
    }

    fn push_whole(&mut self, transmit: Transmit) -> Result<(), Transmit> {
        if let Some(&last) = self.queued.back()
            && self.slots[last].takes(&transmit, self.segments_max)
        {
            self.slots[last].append(transmit);
            return Ok(());
        }
        let Some(index) = self.free.pop() else { return Err(transmit) };
        self.slots[index].start(transmit);
        self.queued.push_back(index);
        Ok(())
    }

    /// Takes the next train to send off the queue. It is used until [`Trains::finish`].
    pub(super) fn pop(&mut self) -> Option<usize> {
        self.queued.pop_front()
    }

    /// The message that describes a train which was taken off the queue. Its pointers are good
    /// until the train is finished.
    pub(super) fn message(&mut self, index: usize) -> libc::msghdr {
        self.slots[index].message()
    }

    /// The message that describes the train at `position` in the queue. Its pointers are good
    /// until the train is finished or grows.
    pub(super) fn queued_message(&mut self, position: usize) -> libc::msghdr {
        self.slots[self.queued[position]].message()
    }

    /// Lets go of a train that was taken off the queue, and of its buffers.
    pub(super) fn finish(&mut self, index: usize) -> Finished {
        let train = &mut self.slots[index];
        let finished = Finished { datagrams: train.datagrams as u64, bytes: train.len as u64 };
        train.clear();
        self.free.push(index);
        finished
    }

    /// Stops building trains: the kernel said that it cannot cut them on this path.
    pub(super) fn send_singly(&mut self) {
        self.segments_max = 1;
    }

    /// Trains that wait to be sent.
    pub(super) fn queued(&self) -> usize {
        self.queued.len()
    }

    /// Trains that are in the kernel's hands.
    pub(super) fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len() - self.queued.len()
    }
}

/// What a train was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Finished {
    pub(super) datagrams: u64,
    pub(super) bytes: u64,
}

/// Datagrams to one address.
#[derive(Debug)]
struct Train {
    to: Option<SocketAddr>,
    ecn: Ecn,
    name: Name,
    control: Control,
    /// One piece a datagram, fewer where neighbours lie back to back in memory.
    vectors: Vec<libc::iovec>,
    leases: Vec<Lease>,
    datagrams: usize,
    /// Length of every datagram but the last.
    segment_len: usize,
    len: usize,
    /// The last datagram was shorter: nothing may follow.
    closed: bool,
}

impl Train {
    fn empty() -> Self {
        Self {
            to: None,
            ecn: Ecn::NotEct,
            name: Name::EMPTY,
            control: Control::EMPTY,
            vectors: Vec::with_capacity(TRAIN_SEGMENTS_MAX),
            leases: Vec::with_capacity(TRAIN_SEGMENTS_MAX),
            datagrams: 0,
            segment_len: 0,
            len: 0,
            closed: false,
        }
    }

    fn start(&mut self, transmit: Transmit) {
        self.to = Some(transmit.to);
        self.ecn = transmit.ecn;
        self.name = Name::new(transmit.to);
        self.segment_len = transmit.segment_len;
        self.append(transmit);
    }

    fn takes(&self, transmit: &Transmit, segments_max: usize) -> bool {
        let (len, datagrams) = (transmit.lease.len(), transmit.datagrams());
        let has_our_len = match datagrams {
            1 => (1..=self.segment_len).contains(&len),
            _ => transmit.segment_len == self.segment_len,
        };
        has_our_len
            && !self.closed
            && self.datagrams + datagrams <= segments_max
            && self.len + len <= TRAIN_LEN_MAX
            && self.to == Some(transmit.to)
            && self.ecn == transmit.ecn
    }

    fn append(&mut self, transmit: Transmit) {
        self.datagrams += transmit.datagrams();
        let lease = transmit.lease;
        let (start, len) = (lease.as_ptr().cast_mut(), lease.len());
        match self.vectors.last_mut() {
            // Each piece costs the kernel about as much as a small datagram's bytes do.
            Some(last) if last.iov_base.cast::<u8>().wrapping_add(last.iov_len) == start => {
                last.iov_len += len;
            }
            _ => self.vectors.push(libc::iovec { iov_base: start.cast(), iov_len: len }),
        }
        self.len += len;
        self.closed = !self.len.is_multiple_of(self.segment_len) || len == 0;
        self.leases.push(lease);
    }

    fn message(&mut self) -> libc::msghdr {
        self.control = Control::EMPTY;
        if self.datagrams > 1 {
            let segment_len = u16::try_from(self.segment_len).expect("a train fits 16 bits");
            self.control.push_segment_len(segment_len);
        }
        if let (Some(to), true) = (self.to, self.ecn != Ecn::Ect0) {
            self.control.push_mark(to, self.ecn);
        }
        let control = match self.control.len() {
            0 => (std::ptr::null_mut(), 0),
            len => (self.control.as_mut_ptr(), len),
        };
        let name = (self.name.as_mut_ptr(), self.name.len());
        message::header(name, (self.vectors.as_mut_ptr(), self.vectors.len()), control)
    }

    fn clear(&mut self) {
        self.to = None;
        self.vectors.clear();
        self.leases.clear();
        self.datagrams = 0;
        self.segment_len = 0;
        self.len = 0;
        self.closed = false;
    }
}

const _: () = assert!(TRAIN_LEN_MAX <= u16::MAX as usize);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::buffer::Pool;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn push(trains: &mut Trains, pool: &Pool, port: u16, len: usize) {
        let lease = pool.take().unwrap().view(0..len);
        trains.push(Transmit::single(address(port), Ecn::Ect0, lease)).unwrap();
    }

    /// Datagrams, bytes and segment length of each queued train.
    fn shapes(trains: &mut Trains) -> Vec<(u64, u64, usize)> {
        let mut shapes = Vec::new();
        while let Some(index) = trains.pop() {
            let segment_len = trains.slots[index].segment_len;
            let finished = trains.finish(index);
            shapes.push((finished.datagrams, finished.bytes, segment_len));
        }
        shapes
    }

    #[test]
    fn neighbours_of_one_length_and_address_share_a_train() {
        let pool = Pool::new(16, 64).unwrap();
        let mut trains = Trains::new(TRAIN_SEGMENTS_MAX);
        for (port, len) in [(1, 60), (1, 60), (1, 20), (1, 20), (2, 20), (2, 21), (1, 0), (1, 0)] {
            push(&mut trains, &pool, port, len);
        }
        let expected = [(3, 140, 60), (1, 20, 20), (1, 20, 20), (1, 21, 21), (1, 0, 1), (1, 0, 1)];
        assert_eq!(shapes(&mut trains), expected);
        assert_eq!(pool.available(), pool.capacity());
    }

    #[test]
    fn another_mark_begins_another_train_and_is_told_to_the_kernel() {
        let pool = Pool::new(8, 64).unwrap();
        let mut trains = Trains::new(TRAIN_SEGMENTS_MAX);
        for ecn in [Ecn::Ect0, Ecn::Ect0, Ecn::NotEct, Ecn::NotEct, Ecn::Ect0] {
            let lease = pool.take().unwrap();
            trains.push(Transmit::single(address(1), ecn, lease)).unwrap();
        }
        // The socket's own mark needs no message, and a train's segment length needs one.
        let control_lens: Vec<usize> =
            (0..trains.queued()).map(|at| trains.queued_message(at).msg_controllen).collect();
        assert_eq!(control_lens, [24, 48, 0]);
        assert_eq!(shapes(&mut trains), [(2, 128, 64), (2, 128, 64), (1, 64, 64)]);
    }

    #[test]
    fn without_segmentation_every_datagram_travels_alone() {
        let pool = Pool::new(4, 64).unwrap();
        let mut trains = Trains::new(1);
        (0..3).for_each(|_| push(&mut trains, &pool, 1, 64));
        assert_eq!(shapes(&mut trains), [(1, 64, 64); 3]);
        let lease = pool.take().unwrap();
        let train = Transmit { segment_len: 25, ..Transmit::single(address(1), Ecn::Ect0, lease) };
        trains.push(train).unwrap();
        assert_eq!(shapes(&mut trains), [(1, 25, 25), (1, 25, 25), (1, 14, 14)]);
    }

    #[test]
    fn datagrams_back_to_back_in_one_buffer_are_one_piece() {
        let pool = Pool::new(1, 4096).unwrap();
        let whole = pool.take().unwrap();
        let mut trains = Trains::new(TRAIN_SEGMENTS_MAX);
        for at in [0, 100, 200, 400] {
            let lease = whole.view(at..at + 100);
            trains.push(Transmit::single(address(1), Ecn::Ect0, lease)).unwrap();
        }
        let index = trains.pop().unwrap();
        let lengths: Vec<_> = trains.slots[index].vectors.iter().map(|v| v.iov_len).collect();
        assert_eq!(lengths, [300, 100]);
    }

    #[test]
    fn full_queue_hands_the_datagram_back_and_takes_it_after_a_finish() {
        let pool = Pool::new(1, 64).unwrap();
        let shared = pool.take().unwrap();
        let mut trains = Trains::new(1);
        let datagram = || Transmit::single(address(1), Ecn::Ect0, shared.clone());
        for _ in 0..TRAINS_QUEUED_MAX {
            trains.push(datagram()).unwrap();
        }
        assert!(trains.push(datagram()).is_err());
        let index = trains.pop().unwrap();
        assert_eq!(trains.in_flight(), 1);
        trains.finish(index);
        assert_eq!(trains.in_flight(), 0);
        assert!(trains.push(datagram()).is_ok());
    }

    proptest! {
        #[test]
        fn every_train_keeps_the_kernels_rules(
            sends in prop::collection::vec((1_u16..3, 0_usize..2000, 0_usize..2000), 0..120),
        ) {
            let pool = Pool::new(128, 2048).unwrap();
            let mut trains = Trains::new(64);
            let mut sent = Vec::new();
            for (port, len, segment_len) in sends {
                // Few distinct lengths, so that trains form.
                let (len, segment_len) = (len / 500 * 500, segment_len / 250 * 250);
                let segment_len = if segment_len == 0 { len.max(1) } else { segment_len.min(len.max(1)) };
                let lease = pool.take().unwrap().view(0..len);
                let send = Transmit { segment_len, ..Transmit::single(address(port), Ecn::Ect0, lease) };
                let lens = (0..send.datagrams()).map(|at| send.part(at, 1).lease.len());
                sent.extend(lens.map(|len| (address(port), len)));
                trains.push(send).unwrap();
            }
            let mut left = Vec::new();
            while let Some(index) = trains.pop() {
                let train = &trains.slots[index];
                let last = train.len - train.segment_len * (train.datagrams - 1);
                prop_assert!(train.datagrams <= 64 && train.len <= TRAIN_LEN_MAX);
                prop_assert!(train.datagrams == 1 || (1..=train.segment_len).contains(&last));
                let described: usize = train.vectors.iter().map(|piece| piece.iov_len).sum();
                prop_assert_eq!(described, train.len);
                let lens = (1..train.datagrams).map(|_| train.segment_len).chain([last]);
                left.extend(lens.map(|len| (train.to.unwrap(), len)));
                trains.finish(index);
            }
            prop_assert_eq!(left, sent);
        }
    }
}
