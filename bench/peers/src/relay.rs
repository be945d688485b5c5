//! A path in user space for whatever runs over UDP: datagrams to and from one responder through
//! one socket, delayed by 100 us and lost by chance, drawn from one seed in their order.
//!
//! It is raet's own driver with raet's own impairment, because those move trains of datagrams and
//! are never the narrowest place; every peer gets the same. Each datagram of a train is lost or
//! kept alone. What finds 8192 others waiting is dropped, as by a router. Responders that would
//! answer from another socket than the one they are reached at cannot be relayed.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;

use raet::buffer::{Received, Transmit};
use raet::io::Driver;
use raet::io::impair::{Impaired, Impairment};
use raet::io::kernel::{IoConfig, Opened, open, receive_pool};
use raet::io::probe::Probe;
use raet::time::Instant;

use crate::application::Shared;
use crate::link::Result;

/// Buffers to receive into.
const BUFFERS: u32 = 256;
/// Seed of the losses.
const SEED: u64 = 1;

/// Relays until the run is over.
pub(crate) fn run(
    responder: SocketAddr,
    percent: u32,
    shared: &Shared,
    announce: impl FnOnce(SocketAddr),
) -> Result<()> {
    let impairment: Impairment = format!("loss={percent}%,delay=100us").parse()?;
    let config = IoConfig::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let opened = open(&config, &Probe::run(), receive_pool(BUFFERS)?);
    match opened.map_err(|error| error.to_string())? {
        Opened::Uring(driver) => {
            announce(driver.local_address());
            relay(Impaired::new(driver, impairment, SEED)?, responder, shared)
        }
        Opened::Mmsg(driver, _) => {
            announce(driver.local_address());
            relay(Impaired::new(driver, impairment, SEED)?, responder, shared)
        }
    }
}

fn relay(mut path: impl Driver, responder: SocketAddr, shared: &Shared) -> Result<()> {
    let mut initiator = None;
    while !shared.is_over() {
        path.wait(Some(Instant::ZERO))?;
        let mut is_idle = true;
        while let Some(Received { from, ecn, lease, segment_len }) = path.receive() {
            is_idle = false;
            let to = if from == responder {
                // Nobody has asked yet.
                let Some(initiator) = initiator else { continue };
                initiator
            } else {
                initiator = Some(from);
                responder
            };
            for start in (0..lease.len()).step_by(segment_len.max(1)) {
                let end = lease.len().min(start + segment_len);
                // A driver that is full loses it, as a path does.
                drop(path.transmit(Transmit::single(to, ecn, lease.view(start..end))));
            }
        }
        if is_idle {
            // The responder may have something to do on this core.
            thread::yield_now();
        }
    }
    Ok(())
}
