//! The driver for every Linux: `sendmmsg` and `recvmmsg`, with trains on both sides.
//!
//! A turn is one call that sends all queued trains and one that receives a batch; where the
//! turn may sleep, `ppoll` comes between. Measured on loopback this is as fast as io_uring: what
//! counts is the number of trips through the stack, and trains cut that for both. It runs where
//! io_uring is missing or forbidden, as in containers with the usual seccomp profile.
#![expect(unsafe_code, reason = "the system calls have no safe interface")]

mod inbound;

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use inbound::Inbound;

use super::socket::Socket;
use super::train::Trains;
use super::waker::Waker;
use super::{Driver, DriverCounters, SocketOptions, clock};
use crate::buffer::{Pool, Received, Transmit};
use crate::limits::{NAP, TRAINS_QUEUED_MAX};
use crate::time::Instant;

/// Carries datagrams by `sendmmsg` and `recvmmsg`.
#[derive(Debug)]
pub struct MmsgDriver {
    socket: Socket,
    inbound: Inbound,
    trains: Trains,
    headers: Box<[libc::mmsghdr]>,
    waker: Waker,
    /// The last reading of the clock.
    now: Instant,
    counters: DriverCounters,
}

impl MmsgDriver {
    /// Binds a socket that receives into `pool`. The driver keeps up to
    /// [`RECEIVE_BATCH_MAX`](crate::limits::RECEIVE_BATCH_MAX) of its buffers, so the pool should
    /// not be the one from which datagrams are sent.
    ///
    /// # Errors
    /// The kernel's, if it refuses the socket.
    pub fn open(options: &SocketOptions, pool: Pool) -> io::Result<Self> {
        let socket = Socket::bind(options.bind, options.reuse_port)?;
        if options.joins_trains(&pool) {
            socket.enable_gro();
        }
        // SAFETY: a message header of zeros is a valid one: no name, no data, no control.
        let header = unsafe { MaybeUninit::<libc::mmsghdr>::zeroed().assume_init() };
        Ok(Self {
            socket,
            inbound: Inbound::new(pool),
            trains: Trains::new(options.segments_max),
            headers: vec![header; TRAINS_QUEUED_MAX].into_boxed_slice(),
            waker: Waker::new()?,
            now: clock::now(),
            counters: DriverCounters::default(),
        })
    }

    /// Where the socket is bound.
    pub fn local_address(&self) -> SocketAddr {
        self.socket.address()
    }

    /// Sends what is queued, until the socket is full.
    fn send(&mut self) {
        // Each round lets go of a train at least, or ends the loop.
        while self.trains.queued() > 0 {
            let count = self.trains.queued();
            for position in 0..count {
                self.headers[position].msg_hdr = self.trains.queued_message(position);
            }
            self.counters.system_calls += 1;
            // SAFETY: `count` headers were just filled from trains that stay as they are until
            // they are finished below, and the call has copied them when it returns.
            let sent = unsafe {
                libc::sendmmsg(
                    self.socket.as_raw_fd(),
                    self.headers.as_mut_ptr(),
                    u32::try_from(count).expect("at most the trains there are"),
                    libc::MSG_DONTWAIT,
                )
            };
            let Ok(sent) = usize::try_from(sent) else {
                let error = io::Error::last_os_error();
                if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) {
                    return;
                }
                // The error is that of the first train; the others were not looked at.
                let index = self.trains.pop().expect("one is queued");
                let lost = self.trains.finish(index);
                self.counters.send_errors += lost.datagrams;
                if lost.datagrams > 1 && cannot_cut_trains(&error) {
                    self.trains.send_singly();
                }
                continue;
            };
            if sent == 0 {
                return;
            }
            for _ in 0..sent {
                let index = self.trains.pop().expect("as many are queued as were sent");
                let sent = self.trains.finish(index);
                self.counters.trains_sent += 1;
                self.counters.datagrams_sent += sent.datagrams;
                self.counters.bytes_sent += sent.bytes;
            }
        }
    }

    /// Sleeps until something can be received, was asked for by a waker, or can be sent if the
    /// socket was full.
    fn sleep(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        let mut deadline = deadline;
        let mut events = if self.trains.queued() > 0 { libc::POLLOUT } else { 0 };
        if self.inbound.has_room() {
            events |= libc::POLLIN;
        } else {
            let nap = self.now + NAP;
            deadline = Some(deadline.map_or(nap, |deadline| deadline.min(nap)));
        }
        let timeout = deadline.map(|deadline| timespec(deadline, self.now));
        let mut polled = [
            libc::pollfd { fd: self.socket.as_raw_fd(), events, revents: 0 },
            libc::pollfd { fd: self.waker.descriptor(), events: libc::POLLIN, revents: 0 },
        ];
        self.counters.system_calls += 1;
        // SAFETY: both structures are ours and outlive the call; no signal mask is given.
        let result = unsafe {
            libc::ppoll(
                polled.as_mut_ptr(),
                2,
                timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref),
                std::ptr::null(),
            )
        };
        if result < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        }
        if polled[1].revents != 0 {
            self.waker.clear();
        }
        Ok(())
    }
}

impl Driver for MmsgDriver {
    fn wait(&mut self, deadline: Option<Instant>) -> io::Result<Instant> {
        self.send();
        self.inbound.fill(&self.socket, &mut self.counters)?;
        // A deadline that was past at the last reading needs no new one to be past now.
        if self.inbound.is_empty() && deadline.is_none_or(|deadline| deadline > self.now) {
            self.now = clock::now();
            if deadline.is_none_or(|deadline| deadline > self.now) {
                self.sleep(deadline)?;
                self.inbound.fill(&self.socket, &mut self.counters)?;
            }
        }
        self.now = clock::now();
        Ok(self.now)
    }

    fn receive(&mut self) -> Option<Received> {
        self.inbound.next(&mut self.counters)
    }

    fn transmit(&mut self, transmit: Transmit) -> Result<(), Transmit> {
        self.trains.push(transmit)
    }

    fn now(&self) -> Instant {
        clock::now()
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn counters(&self) -> DriverCounters {
        self.counters
    }
}

/// Whether the kernel refused a train for being one: no checksum offload on the way, or more
/// segments than it knows.
pub(super) fn cannot_cut_trains(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL))
}

/// From `now` to `deadline`, as the kernel takes it.
fn timespec(deadline: Instant, now: Instant) -> libc::timespec {
    let left = std::time::Duration::from(deadline.saturating_since(now));
    // A deadline beyond the kernel's range is as good as none.
    let tv_sec = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
    libc::timespec { tv_sec, tv_nsec: i64::from(left.subsec_nanos()) }
}

const _: () = assert!(mem::size_of::<libc::mmsghdr>() == 64);
