//! The receiving half: a batch of buffers offered to `recvmmsg`, and what it wrote there.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

use crate::buffer::{Lease, Pool, Received};
use crate::io::message::{self, CONTROL_LEN, Control, NAME_LEN, Name};
use crate::io::socket::Socket;
use crate::io::{DriverCounters, errors};
use crate::limits::RECEIVE_BATCH_MAX;

/// A batch of receives. Slot `i` of each array belongs to message `i`.
pub(super) struct Inbound {
    pool: Pool,
    /// The buffers offered; `None` once its datagram was taken, or while the pool is empty.
    leases: Box<[Option<Lease>; RECEIVE_BATCH_MAX]>,
    /// The messages that the kernel filled and nobody took: `taken..filled`.
    taken: usize,
    filled: usize,
    // What the headers point to. Boxed, so that it stays in place when the driver is moved.
    names: Box<[Name; RECEIVE_BATCH_MAX]>,
    controls: Box<[Control; RECEIVE_BATCH_MAX]>,
    vectors: Box<[libc::iovec; RECEIVE_BATCH_MAX]>,
    headers: Box<[libc::mmsghdr; RECEIVE_BATCH_MAX]>,
}

impl Inbound {
    pub(super) fn new(pool: Pool) -> Self {
        let nothing = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        // SAFETY: a message header of zeros is a valid one: no name, no data, no control.
        let header = unsafe { MaybeUninit::<libc::mmsghdr>::zeroed().assume_init() };
        Self {
            pool,
            leases: Box::new([const { None }; RECEIVE_BATCH_MAX]),
            taken: 0,
            filled: 0,
            names: Box::new([Name::EMPTY; RECEIVE_BATCH_MAX]),
            controls: Box::new([Control::EMPTY; RECEIVE_BATCH_MAX]),
            vectors: Box::new([nothing; RECEIVE_BATCH_MAX]),
            headers: Box::new([header; RECEIVE_BATCH_MAX]),
        }
    }

    /// Receives a batch, if the last one was taken.
    ///
    /// # Errors
    /// Only what makes the socket useless.
    pub(super) fn fill(
        &mut self,
        socket: &Socket,
        counters: &mut DriverCounters,
    ) -> io::Result<()> {
        if !self.is_empty() {
            return Ok(());
        }
        let offered = self.offer();
        if offered == 0 {
            return Ok(());
        }
        (self.taken, self.filled) = (0, 0);
        counters.system_calls += 1;
        // SAFETY: the first `offered` headers point into arrays of ours that stay in place, and
        // into buffers that only we hold; the call is over with them when it returns.
        let filled = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                u32::try_from(offered).expect("at most a batch"),
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let Ok(filled) = usize::try_from(filled) else {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::EAGAIN) => Ok(()),
                Some(code) if errors::is_passing(code) => {
                    counters.receive_errors += 1;
                    Ok(())
                }
                _ => Err(error),
            };
        };
        self.filled = filled;
        Ok(())
    }

    /// Points headers at buffers, from the first slot on, and says how many have one.
    fn offer(&mut self) -> usize {
        for slot in 0..RECEIVE_BATCH_MAX {
            // What the last call did not use stands as it was.
            if self.leases[slot].is_none() {
                let Some(lease) = self.pool.take() else { return self.gather(slot) };
                self.point(slot, lease.as_ptr().cast_mut(), lease.len());
                self.leases[slot] = Some(lease);
            }
        }
        RECEIVE_BATCH_MAX
    }

    /// With the pool empty at slot `empty`: moves the buffers behind it to the front.
    fn gather(&mut self, empty: usize) -> usize {
        let mut next = empty;
        for slot in empty..RECEIVE_BATCH_MAX {
            if let Some(lease) = self.leases[slot].take() {
                self.point(next, lease.as_ptr().cast_mut(), lease.len());
                self.leases[next] = Some(lease);
                next += 1;
            }
        }
        next
    }

    fn point(&mut self, slot: usize, start: *mut u8, len: usize) {
        self.vectors[slot] = libc::iovec { iov_base: start.cast(), iov_len: len };
        self.headers[slot].msg_hdr = message::header(
            (self.names[slot].as_mut_ptr(), u32::try_from(NAME_LEN).expect("32 bytes")),
            (&raw mut self.vectors[slot], 1),
            (self.controls[slot].as_mut_ptr(), CONTROL_LEN),
        );
    }

    /// Takes the next datagram or train of the batch.
    pub(super) fn next(&mut self, counters: &mut DriverCounters) -> Option<Received> {
        while self.taken < self.filled {
            let slot = self.taken;
            self.taken += 1;
            let header = &self.headers[slot];
            let len = usize::try_from(header.msg_len).expect("32 bits fit");
            let lease = self.leases[slot].take().expect("a filled slot has its buffer");
            let cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            let Some(from) = message::parse_name(self.names[slot].bytes()).filter(|_| !cut) else {
                counters.receive_errors += 1;
                continue;
            };
            let control = &self.controls[slot].bytes()[..header.msg_hdr.msg_controllen];
            let shape = message::parse_control(control);
            return Some(counters.received(from, lease.narrow(0..len), shape));
        }
        None
    }

    /// Whether nothing is left to take.
    pub(super) fn is_empty(&self) -> bool {
        self.taken == self.filled
    }

    /// Whether there is a buffer to receive into.
    pub(super) fn has_room(&self) -> bool {
        self.pool.available() > 0 || self.leases.iter().any(Option::is_some)
    }
}

impl std::fmt::Debug for Inbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Inbound({} of {} taken)", self.taken, self.filled)
    }
}
