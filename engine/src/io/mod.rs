//! Carries datagrams between one socket and one shard, and knows nothing of RAET.
//!
//! A shard is generic over its [`Driver`]. Two drivers talk to the kernel, one to a network in
//! memory; impairments and captures are drivers that wrap a driver, so the data path carries no
//! test hooks.

pub mod random;
pub mod sim;

use std::io;

use crate::buffer::{Received, Transmit};
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

    /// Queues one datagram for the next [`Driver::wait`]. Neighbours to one address with equal
    /// lengths leave as a train.
    ///
    /// # Errors
    /// The datagram itself, when the queue is full; it can be offered again after `wait`.
    fn transmit(&mut self, transmit: Transmit) -> Result<(), Transmit>;

    /// The clock, outside a turn.
    fn now(&self) -> Instant;

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
