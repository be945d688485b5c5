//! Puts a shard together on the thread that will run it: driver, wrappers, endpoint, handler.

use std::fs::File;
use std::io::{self, BufWriter};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use super::{Config, StartError};
use crate::io::Driver;
use crate::io::capture::{Captured, unix_epoch};
use crate::io::impair::Impaired;
use crate::io::kernel::{self, IoConfig, OpenError, Opened};
use crate::io::probe::Probe;
use crate::protocol::endpoint::Endpoint;
use crate::protocol::session::BootId;
use crate::shard::{Command, Context, Handler, Mailbox, Shard, ShardReport};
use crate::time::Duration;

/// A shard whose driver is not named: one virtual call a turn.
pub(super) trait AnyShard<H> {
    fn turn(&mut self, patience: Option<Duration>) -> io::Result<bool>;
    fn is_stopped(&self) -> bool;
    fn finish(self: Box<Self>) -> io::Result<ShardReport>;
    fn report(&self) -> ShardReport;
    fn with_handler(&mut self, act: &mut dyn FnMut(&mut H, &mut Context<'_>));
}

impl<D: Driver, H: Handler> AnyShard<H> for Shard<D, H> {
    fn turn(&mut self, patience: Option<Duration>) -> io::Result<bool> {
        self.turn(patience)
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped()
    }

    fn finish(self: Box<Self>) -> io::Result<ShardReport> {
        (*self).run().map(|(_, report)| report)
    }

    fn report(&self) -> ShardReport {
        self.report()
    }

    fn with_handler(&mut self, act: &mut dyn FnMut(&mut H, &mut Context<'_>)) {
        self.between_turns(act);
    }
}

/// What came of building: the shard and what the kernel gave it.
pub(super) struct Built<H> {
    pub(super) shard: Box<dyn AnyShard<H>>,
    pub(super) address: SocketAddr,
    pub(super) io: IoSummary,
}

/// What carries a node's datagrams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IoSummary {
    /// `uring` or `mmsg`.
    pub driver: &'static str,
    /// Datagrams that one send may carry; 1 without GSO.
    pub segments_max: usize,
    /// Whether receives join datagrams (GRO).
    pub gro: bool,
    /// Why `uring` was not taken, where it would have been preferred: one sentence.
    pub warning: Option<String>,
}

/// What a shard needs that its configuration does not say.
pub(super) struct Plan {
    pub(super) config: Arc<Config>,
    pub(super) boot: BootId,
    pub(super) index: usize,
    pub(super) bind: SocketAddr,
    pub(super) mailboxes: Arc<[Arc<Mailbox<Command>>]>,
}

impl Plan {
    /// Opens the driver and everything on top of it.
    pub(super) fn build<H: Handler + 'static>(self, handler: H) -> Result<Built<H>, StartError> {
        let config = &self.config;
        let shares_port = config.listen && config.shards > 1;
        if shares_port && self.index == 0 && is_in_use(self.bind) {
            return Err(StartError::Open(OpenError::AddressInUse(self.bind)));
        }
        let probe = Probe::run();
        let pool = kernel::receive_pool(config.receive_buffers).map_err(StartError::Memory)?;
        let io = IoConfig {
            choice: config.io,
            bind: self.bind,
            reuse_port: shares_port,
            gso: config.gso,
            gro: config.gso,
        };
        let mut summary = IoSummary {
            segments_max: if config.gso { probe.segments_max } else { 1 },
            gro: config.gso && probe.gro,
            ..IoSummary::default()
        };
        match kernel::open(&io, &probe, pool).map_err(StartError::Open)? {
            Opened::Uring(driver) => {
                summary.driver = "uring";
                let address = driver.local_address();
                self.impair(driver, address, summary, handler)
            }
            Opened::Mmsg(driver, reason) => {
                summary.driver = "mmsg";
                summary.warning =
                    reason.map(|reason| format!("io_uring is not used, mmsg is: {reason}"));
                let address = driver.local_address();
                self.impair(driver, address, summary, handler)
            }
        }
    }

    fn impair<D: Driver + 'static, H: Handler + 'static>(
        self,
        driver: D,
        address: SocketAddr,
        io: IoSummary,
        handler: H,
    ) -> Result<Built<H>, StartError> {
        match self.config.impairment {
            Some(impairment) => {
                let seed = self.config.seed.wrapping_add(self.index as u64);
                let driver = Impaired::new(driver, impairment, seed).map_err(StartError::Memory)?;
                self.capture(driver, address, io, handler)
            }
            None => self.capture(driver, address, io, handler),
        }
    }

    fn capture<D: Driver + 'static, H: Handler + 'static>(
        self,
        driver: D,
        address: SocketAddr,
        io: IoSummary,
        handler: H,
    ) -> Result<Built<H>, StartError> {
        let Some(path) = &self.config.capture else {
            return self.finish(driver, address, io, handler);
        };
        let mut path = path.clone().into_os_string();
        path.push(format!(".{}", self.index));
        let failed = |error| StartError::Capture(path.clone().into(), error);
        let file = BufWriter::new(File::create(&path).map_err(failed)?);
        let epoch = unix_epoch(driver.now());
        let driver = Captured::new(driver, address, epoch, file).map_err(failed)?;
        self.finish(driver, address, io, handler)
    }

    fn finish<D: Driver + 'static, H: Handler + 'static>(
        self,
        driver: D,
        address: SocketAddr,
        io: IoSummary,
        handler: H,
    ) -> Result<Built<H>, StartError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|_| StartError::NoRandomness)?;
        let endpoint = self.config.endpoint(self.boot, self.index);
        let endpoint = Endpoint::new(driver.now(), endpoint, seed).map_err(StartError::Memory)?;
        let idle = self.config.idle;
        let shard = Shard::new(driver, endpoint, handler, idle, self.index, self.mailboxes)
            .map_err(StartError::Memory)?;
        Ok(Built { shard: Box::new(shard), address, io })
    }
}

/// Whether a socket has the address. One that may be shared would let us in beside it, and the
/// kernel would give each of us half of the other's peers.
fn is_in_use(address: SocketAddr) -> bool {
    UdpSocket::bind(address).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}
