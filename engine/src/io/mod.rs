//! Carries datagrams between one socket and one shard, and knows nothing of RAET.
//!
//! A shard is generic over its [`Driver`]. Two drivers talk to the kernel, one to a network in
//! memory; impairments and captures are drivers that wrap a driver, so the data path carries no
//! test hooks.

pub mod capture;
mod clock;
mod errors;
pub mod impair;
pub mod kernel;
mod message;
pub mod mmsg;
pub mod probe;
pub mod random;
pub mod sim;
mod socket;
mod train;
pub mod uring;
mod waker;

use std::io;
use std::net::SocketAddr;

pub use clock::{now, thread_processor_time};
pub use waker::Waker;

use self::message::Shape;
use crate::buffer::{Lease, Pool, Received, Transmit};
use crate::limits::RECEIVE_BUFFER_LEN;
use crate::time::Instant;

/// Carries datagrams between one socket and one shard.
pub trait Driver {
    /// Submits what is queued, waits for a completion or until `deadline`, and reads the clock
    /// once for the turn. A deadline in the past does not wait; `None` waits without end.
    ///
    /// # Errors
    /// Only what makes the driver useless: a broken ring or socket. Errors of single sends and
    /// receives are counted in [`DriverCounters`].
    fn wait(&mut self, deadline: Option<Instant>) -> io::Result<Instant>;

    /// Takes one received datagram or train; dropping its lease gives the buffer back.
    fn receive(&mut self) -> Option<Received>;

    /// Queues a datagram or train for the next [`Driver::wait`]. Neighbours to one address with
    /// equal marks and lengths leave together.
    ///
    /// # Errors
    /// The datagrams for which the queue has no room; they can be offered again after `wait`.
    fn transmit(&mut self, transmit: Transmit) -> Result<(), Transmit>;

    /// The clock, outside a turn.
    fn now(&self) -> Instant;

    /// What ends this driver's wait from another thread.
    fn waker(&self) -> Waker;

    /// What this driver did so far.
    fn counters(&self) -> DriverCounters;
}

/// What a driver did, for reports. All count since the driver was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverCounters {
    /// System calls.
    pub system_calls: u64,
    /// Datagrams given to the kernel and accepted by it.
    pub datagrams_sent: u64,
    /// Bytes of those.
    pub bytes_sent: u64,
    /// Sends to the kernel; a train counts once.
    pub trains_sent: u64,
    /// Datagrams that the kernel refused (for example `EMSGSIZE`, `ENOBUFS`, `ECONNREFUSED`).
    pub send_errors: u64,
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Bytes of those.
    pub bytes_received: u64,
    /// Receives; a train counts once.
    pub trains_received: u64,
    /// Datagrams lost here because no buffer was free or the message was cut.
    pub receive_errors: u64,
}

impl DriverCounters {
    /// Counts a receive and gives it its shape. A train has a segment length.
    fn received(&mut self, from: SocketAddr, lease: Lease, shape: Shape) -> Received {
        let mut received = Received { ecn: shape.ecn, ..Received::single(from, lease) };
        if let Some(segment_len) = shape.segment_len {
            received.segment_len = segment_len.clamp(1, received.segment_len);
        }
        self.trains_received += 1;
        self.datagrams_received += received.datagrams() as u64;
        self.bytes_received += received.lease.len() as u64;
        received
    }
}

/// How a kernel driver sets up its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// The address to bind; port 0 lets the kernel choose.
    pub bind: SocketAddr,
    /// Whether other sockets of this user may bind the same address (`SO_REUSEPORT`); the
    /// kernel spreads senders over them.
    pub reuse_port: bool,
    /// Datagrams that one send may carry (`UDP_SEGMENT`), at most
    /// [`TRAIN_SEGMENTS_MAX`](crate::limits::TRAIN_SEGMENTS_MAX); 1 switches trains off.
    pub segments_max: usize,
    /// Whether the kernel may join datagrams of one sender (`UDP_GRO`). It is left off where a
    /// buffer is smaller than [`RECEIVE_BUFFER_LEN`], since a train would be cut.
    pub gro: bool,
}

impl SocketOptions {
    fn joins_trains(&self, pool: &Pool) -> bool {
        self.gro && pool.stride() >= RECEIVE_BUFFER_LEN
    }
}
