//! The driver on io_uring: one system call a turn at most, and none while polling finds nothing.
//!
//! One request, armed once, receives for ever: a multishot `recvmsg` takes a buffer from the
//! `buffer_ring` for every datagram or train, and each completion names the buffer.
//! Sends are one request a train. A turn gives free buffers back to the kernel, queues what is to
//! be sent, and enters the kernel once, which both submits and runs the work that the network
//! deferred to us (`DEFER_TASKRUN`). Whether there is such work stands in a flag in shared
//! memory, so a shard that polls an idle socket reads two words a turn.
//!
//! What the kernel may write to or read from has to stay in place until it says that it is done:
//! buffers are lent to it, and the leases of a train are held until its completion. When the
//! driver is dropped it cancels everything and waits for that to be over; should the kernel not
//! answer, the memory is leaked rather than freed under it.
#![expect(unsafe_code, reason = "the ring shares memory with the kernel")]

mod buffer_ring;

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use buffer_ring::BufferRing;
use io_uring::types::{CancelBuilder, Fd, Fixed, RecvMsgOut, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};

use super::message::{self, CONTROL_LEN, NAME_LEN};
use super::mmsg::cannot_cut_trains;
use super::socket::Socket;
use super::train::Trains;
use super::waker::Waker;
use super::{Driver, DriverCounters, SocketOptions, clock, errors};
use crate::buffer::{Pool, Received, Transmit};
use crate::limits::{
    BUFFERS_PROVIDED_MAX, NAP, RECEIVE_HEADER_LEN, TRAINS_QUEUED_MAX, URING_TEARDOWN_TRIES,
};
use crate::time::Instant;

/// Requests that can be queued between two enters: every train, the receive and the waker.
const SUBMISSIONS: u32 = 256;
/// Completions that can wait: every train, every buffer, the receive's end and some wakes. More
/// than that the kernel keeps for us.
const COMPLETIONS: u32 = 512;

/// What a completion belongs to, in its user data; trains have their index.
const RECEIVE: u64 = u64::MAX;
const WAKE: u64 = u64::MAX - 1;

/// Carries datagrams through an io_uring.
pub struct UringDriver {
    // The order of the fields is the order of their end. The ring goes first: with it the kernel
    // lets go of the buffer ring, the messages and the socket.
    ring: IoUring,
    buffers: BufferRing,
    trains: Trains,
    /// The message of each train, where the kernel can read it until the train's completion.
    messages: Box<[libc::msghdr]>,
    /// Tells the kernel how much room for address and control data to leave in each buffer.
    receive_message: Box<libc::msghdr>,
    socket: Socket,
    waker: Waker,

    file: File,
    features: UringFeatures,
    /// Whether the multishot receive is armed.
    receiving: bool,
    /// Whether the poll on the waker is armed.
    listening: bool,
    ready: VecDeque<Received>,
    /// Why the socket is useless.
    failure: Option<io::Error>,
    /// The last reading of the clock.
    now: Instant,
    counters: DriverCounters,
}

/// How requests name the socket.
#[derive(Clone, Copy, Debug)]
enum File {
    /// The first of the ring's registered files, which saves a look-up and a reference a request.
    Registered,
    Plain(RawFd),
}

/// Which optional features of the kernel a ring uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UringFeatures {
    /// Network work waits for our next enter instead of interrupting us (Linux 6.1).
    pub defer_taskrun: bool,
    /// The socket is registered with the ring.
    pub registered_files: bool,
}

/// Why a driver could not be opened.
#[derive(Debug)]
pub enum UringError {
    /// There is no ring for us.
    Setup(io::Error),
    /// The kernel has no buffer rings.
    BufferRing(io::Error),
    /// The socket could not be bound, or descriptors have run out.
    Socket(io::Error),
}

impl UringDriver {
    /// Opens a ring and binds a socket that receives into `pool`. The kernel keeps up to
    /// [`BUFFERS_PROVIDED_MAX`] of its buffers, so the pool should not be the one from which
    /// datagrams are sent. Only the thread that opens a driver can use it.
    ///
    /// # Errors
    /// Which step failed, and the kernel's reason.
    pub fn open(options: &SocketOptions, pool: Pool) -> Result<Self, UringError> {
        let wanted = UringFeatures { defer_taskrun: true, registered_files: true };
        Self::open_with(options, pool, wanted)
    }

    /// Opens a driver with those of the wanted features that the kernel has.
    fn open_with(
        options: &SocketOptions,
        pool: Pool,
        wanted: UringFeatures,
    ) -> Result<Self, UringError> {
        let (ring, defer_taskrun) = open_ring(wanted.defer_taskrun).map_err(UringError::Setup)?;
        let joins_trains = options.joins_trains(&pool);
        let buffers = BufferRing::new(pool).map_err(UringError::BufferRing)?;
        buffers.register(&ring.submitter()).map_err(UringError::BufferRing)?;
        let socket = Socket::bind(options.bind, options.reuse_port).map_err(UringError::Socket)?;
        if joins_trains {
            socket.enable_gro();
        }
        let waker = Waker::new().map_err(UringError::Socket)?;

        let registered_files = wanted.registered_files
            && ring.submitter().register_files(&[socket.as_raw_fd()]).is_ok();
        let file =
            if registered_files { File::Registered } else { File::Plain(socket.as_raw_fd()) };
        let nothing = std::ptr::null_mut();
        let name_len = u32::try_from(NAME_LEN).expect("32 bytes");
        let empty = message::header((nothing, 0), (nothing.cast(), 0), (nothing, 0));
        let receive_message =
            message::header((nothing, name_len), (nothing.cast(), 0), (nothing, CONTROL_LEN));
        Ok(Self {
            ready: VecDeque::with_capacity(buffers.pool().capacity()),
            ring,
            buffers,
            trains: Trains::new(options.segments_max),
            messages: vec![empty; TRAINS_QUEUED_MAX].into_boxed_slice(),
            receive_message: Box::new(receive_message),
            socket,
            waker,
            file,
            features: UringFeatures { defer_taskrun, registered_files },
            receiving: false,
            listening: false,
            failure: None,
            now: clock::now(),
            counters: DriverCounters::default(),
        })
    }

    /// Where the socket is bound.
    pub fn local_address(&self) -> SocketAddr {
        self.socket.address()
    }

    /// Which optional features of the kernel are in use.
    pub fn features(&self) -> UringFeatures {
        self.features
    }

    /// Queues what the kernel should do next: receive, listen for wakes, send.
    fn submit(&mut self) {
        let Self { ring, trains, messages, receive_message, file, .. } = self;
        let mut submissions = ring.submission();
        let mut push = |entry: squeue::Entry| {
            // SAFETY: all that the entry points to is ours and stays in place until its
            // completion: the receive message is boxed and lives as long as the driver; a
            // train's message and what that points to stay until the train is finished.
            unsafe { submissions.push(&entry) }.is_ok()
        };
        if !self.receiving && !self.buffers.is_empty() {
            let message = std::ptr::from_ref(&**receive_message);
            let entry = match *file {
                File::Registered => {
                    opcode::RecvMsgMulti::new(Fixed(0), message, buffer_ring::GROUP).build()
                }
                File::Plain(fd) => {
                    opcode::RecvMsgMulti::new(Fd(fd), message, buffer_ring::GROUP).build()
                }
            };
            self.receiving = push(entry.user_data(RECEIVE));
        }
        if !self.listening {
            let events = u32::try_from(libc::POLLIN).expect("a small bit");
            let entry = opcode::PollAdd::new(Fd(self.waker.descriptor()), events).multi(true);
            self.listening = push(entry.build().user_data(WAKE));
        }
        while let Some(index) = trains.pop() {
            messages[index] = trains.message(index);
            let message = &raw const messages[index];
            let entry = match *file {
                File::Registered => opcode::SendMsg::new(Fixed(0), message).build(),
                File::Plain(fd) => opcode::SendMsg::new(Fd(fd), message).build(),
            };
            if !push(entry.user_data(index as u64)) {
                // The kernel left old requests in the queue, short of memory: as lost on the way.
                self.counters.send_errors += trains.finish(index).datagrams;
            }
        }
    }

    /// One trip into the kernel: submits, runs deferred work and, with a deadline in the future
    /// or none at all, sleeps until a completion.
    fn enter(&mut self, sleep: Sleep) -> io::Result<()> {
        let queued = u32::try_from(self.ring.submission().len()).expect("at most the ring's size");
        let submitter = self.ring.submitter();
        self.counters.system_calls += 1;
        let flags = EnterFlags::GETEVENTS;
        let result = match sleep {
            // SAFETY: no argument is passed.
            Sleep::No => unsafe { submitter.enter::<()>(queued, 0, flags.bits(), None) },
            // SAFETY: as above.
            Sleep::Forever => unsafe { submitter.enter::<()>(queued, 1, flags.bits(), None) },
            Sleep::Until(deadline) => {
                let left = std::time::Duration::from(deadline.saturating_since(self.now));
                let timeout = Timespec::new().sec(left.as_secs()).nsec(left.subsec_nanos());
                let arguments = SubmitArgs::new().timespec(&timeout);
                let flags = flags | EnterFlags::EXT_ARG;
                // SAFETY: the arguments have the form that `EXT_ARG` announces, and they and the
                // time they point to outlive the call.
                unsafe { submitter.enter(queued, 1, flags.bits(), Some(&arguments)) }
            }
        };
        match result.map_err(|error| (error.raw_os_error(), error)) {
            Ok(_) => Ok(()),
            // Time is up, a signal came, or completions have to be read before more is done.
            Err((Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN), _)) => Ok(()),
            Err((_, error)) => Err(error),
        }
    }

    /// Reads all completions.
    fn collect(&mut self) {
        let Self { ring, buffers, trains, ready, counters, receive_message, .. } = self;
        for completion in ring.completion() {
            let (result, flags) = (completion.result(), completion.flags());
            let more = cqueue::more(flags);
            match completion.user_data() {
                RECEIVE => {
                    self.receiving = more;
                    if let Some(id) = cqueue::buffer_select(flags) {
                        let len = usize::try_from(result).unwrap_or(0);
                        let lease = buffers.adopt(id, len);
                        let Ok(out) = RecvMsgOut::parse(&lease, receive_message) else {
                            counters.receive_errors += 1;
                            continue;
                        };
                        let from = message::parse_name(out.name_data());
                        let Some(from) = from.filter(|_| !out.is_payload_truncated()) else {
                            counters.receive_errors += 1;
                            continue;
                        };
                        let end = RECEIVE_HEADER_LEN + out.payload_data().len();
                        let shape = message::parse_control(out.control_data());
                        let payload = lease.narrow(RECEIVE_HEADER_LEN..end);
                        ready.push_back(counters.received(from, payload, shape));
                    } else if result < 0 && result != -libc::ENOBUFS {
                        if errors::is_passing(-result) {
                            counters.receive_errors += 1;
                        } else {
                            self.failure = Some(io::Error::from_raw_os_error(-result));
                        }
                    }
                }
                WAKE => self.listening = more,
                index => {
                    let index = usize::try_from(index).expect("was a train's index");
                    let finished = trains.finish(index);
                    if result < 0 {
                        counters.send_errors += finished.datagrams;
                        let error = io::Error::from_raw_os_error(-result);
                        if finished.datagrams > 1 && cannot_cut_trains(&error) {
                            trains.send_singly();
                        }
                    } else {
                        counters.trains_sent += 1;
                        counters.datagrams_sent += finished.datagrams;
                        counters.bytes_sent += finished.bytes;
                    }
                }
            }
        }
    }

    /// Whether an enter has something to do besides sleeping.
    fn has_work(&mut self) -> bool {
        let submissions = self.ring.submission();
        !submissions.is_empty() || submissions.taskrun() || submissions.cq_overflow()
    }

    fn sleep(&mut self, deadline: Option<Instant>) -> Sleep {
        // A deadline that was past at the last reading needs no new one to be past now.
        if !self.ready.is_empty() || deadline.is_some_and(|deadline| deadline <= self.now) {
            return Sleep::No;
        }
        self.now = clock::now();
        let nap = self.buffers.is_empty().then(|| self.now + NAP);
        match (deadline, nap) {
            (Some(deadline), _) if deadline <= self.now => Sleep::No,
            (Some(deadline), nap) => Sleep::Until(nap.map_or(deadline, |nap| nap.min(deadline))),
            (None, Some(nap)) => Sleep::Until(nap),
            (None, None) => Sleep::Forever,
        }
    }
}

/// How long an enter may stay in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sleep {
    No,
    Until(Instant),
    Forever,
}

impl Driver for UringDriver {
    fn wait(&mut self, deadline: Option<Instant>) -> io::Result<Instant> {
        self.collect();
        self.buffers.provide();
        self.submit();
        let sleep = self.sleep(deadline);
        if sleep != Sleep::No || self.has_work() {
            self.enter(sleep)?;
            self.collect();
        }
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        self.now = clock::now();
        Ok(self.now)
    }

    fn receive(&mut self) -> Option<Received> {
        self.ready.pop_front()
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

impl Drop for UringDriver {
    fn drop(&mut self) {
        let limit = Timespec::new().nsec(100_000_000);
        for _ in 0..URING_TEARDOWN_TRIES {
            // Fails when nothing is left to cancel; what counts is what the completions say.
            let _ = self.ring.submitter().register_sync_cancel(Some(limit), CancelBuilder::any());
            let entered = self.enter(Sleep::No);
            self.collect();
            let busy = self.receiving || self.trains.in_flight() > 0;
            if !busy {
                return self.buffers.recall();
            }
            if entered.is_err() {
                break;
            }
        }
        // The kernel may still write: keep the memory for ever, which is safe.
        mem::forget(self.buffers.pool().clone());
        mem::forget(mem::replace(&mut self.trains, Trains::new(1)));
        mem::forget(mem::take(&mut self.messages));
    }
}

impl std::fmt::Debug for UringDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UringDriver")
            .field("socket", &self.socket)
            .field("features", &self.features)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

/// Opens a ring, deferring if the kernel can and `defer` is set, and says whether it defers.
fn open_ring(defer: bool) -> io::Result<(IoUring, bool)> {
    if defer {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(COMPLETIONS).setup_submit_all().setup_taskrun_flag();
        match builder.setup_single_issuer().setup_defer_taskrun().build(SUBMISSIONS) {
            // One of the flags is younger than the kernel.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            built => return Ok((built?, true)),
        }
    }
    let mut builder = IoUring::builder();
    builder.setup_cqsize(COMPLETIONS).setup_coop_taskrun().setup_taskrun_flag();
    Ok((builder.build(SUBMISSIONS)?, false))
}

const _: () = assert!(SUBMISSIONS as usize >= TRAINS_QUEUED_MAX + 2);
const _: () = assert!(COMPLETIONS as usize > TRAINS_QUEUED_MAX + BUFFERS_PROVIDED_MAX as usize + 2);
const _: () = assert!(RECEIVE_HEADER_LEN == 16 + NAME_LEN + CONTROL_LEN);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Ecn;
    use crate::limits::RECEIVE_BUFFER_LEN;
    use crate::time::Duration;

    #[test]
    fn every_set_of_features_carries_datagrams() {
        for (defer_taskrun, registered_files) in
            [(true, true), (true, false), (false, true), (false, false)]
        {
            let wanted = UringFeatures { defer_taskrun, registered_files };
            let pool = Pool::new(32, RECEIVE_BUFFER_LEN).unwrap();
            let bind = "127.0.0.1:0".parse().unwrap();
            let options = SocketOptions { bind, reuse_port: false, segments_max: 1, gro: true };
            let mut driver = match UringDriver::open_with(&options, pool.clone(), wanted) {
                Ok(driver) => driver,
                Err(error) => return eprintln!("SKIPPED: no io_uring here: {error:?}"),
            };
            let to = driver.local_address();
            let send = Pool::new(1, 64).unwrap();
            // More than the kernel has buffers for at a time.
            for _ in 0..3 * BUFFERS_PROVIDED_MAX {
                let lease = send.take().unwrap().view(0..64);
                driver.transmit(Transmit::single(to, Ecn::Ect0, lease)).unwrap();
                let deadline = driver.now() + Duration::from_secs(2);
                let received = loop {
                    if let Some(received) = driver.receive() {
                        break received;
                    }
                    assert!(driver.wait(Some(deadline)).unwrap() < deadline, "{wanted:?}");
                };
                assert_eq!((received.from, received.lease.len()), (to, 64));
            }
            drop(driver);
            assert_eq!(pool.available(), pool.capacity());
        }
    }

    #[test]
    fn turn_with_sends_and_receives_enters_the_kernel_once() {
        let pool = Pool::new(32, RECEIVE_BUFFER_LEN).unwrap();
        let bind = "127.0.0.1:0".parse().unwrap();
        let options = SocketOptions { bind, reuse_port: false, segments_max: 64, gro: true };
        let Ok(mut driver) = UringDriver::open(&options, pool) else {
            return eprintln!("SKIPPED: no io_uring here");
        };
        let to = driver.local_address();
        let send = Pool::new(256, 64).unwrap();
        driver.wait(Some(Instant::ZERO)).unwrap();
        for turn in 0..100 {
            for _ in 0..200 {
                driver.transmit(Transmit::single(to, Ecn::Ect0, send.take().unwrap())).unwrap();
            }
            let before = driver.counters().system_calls;
            driver.wait(Some(Instant::ZERO)).unwrap();
            assert_eq!(driver.counters().system_calls, before + 1, "turn {turn}");
            while driver.receive().is_some() {}
        }
    }
}
