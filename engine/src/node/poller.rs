//! A node without a thread of ours: the caller asks for each turn.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::build::{AnyShard, IoSummary, Plan};
use super::{Config, StartError, draw_boot, mailboxes};
use crate::shard::{Context, Handler, ShardReport};
use crate::time::Duration;

/// A caller-driven node of one shard. It belongs to the thread that made it.
pub struct Poller<H> {
    shard: Box<dyn AnyShard<H>>,
    address: SocketAddr,
    io: IoSummary,
    /// Buffers and driver are bound to one thread.
    _thread: std::marker::PhantomData<Rc<()>>,
}

impl<H: Handler + 'static> Poller<H> {
    /// Opens a node on this thread. `config.shards`, `config.cpus` and `config.idle` are not
    /// used: the caller decides when and where turns happen.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn new(config: Config, handler: H) -> Result<Self, StartError> {
        let config = Config { shards: 1, cpus: None, ..config };
        config.check().map_err(StartError::Config)?;
        let bind = config.bind;
        let plan = Plan {
            config: Arc::new(config),
            boot: draw_boot()?,
            index: 0,
            bind,
            mailboxes: mailboxes(1),
        };
        let built = plan.build(handler)?;
        let (shard, address, io) = (built.shard, built.address, built.io);
        Ok(Self { shard, address, io, _thread: std::marker::PhantomData })
    }

    /// Runs one turn: waits up to `patience` for something to happen, then handles all of it.
    /// Zero does not wait. Returns whether anything was done.
    ///
    /// # Errors
    /// The driver's, when it is broken.
    pub fn poll(&mut self, patience: Duration) -> io::Result<bool> {
        self.shard.turn(Some(patience))
    }

    /// Runs `act` with the handler and what a handler can do. What it sends leaves with the next
    /// [`Poller::poll`].
    pub fn with<T>(&mut self, act: impl FnOnce(&mut H, &mut Context<'_>) -> T) -> T {
        let mut act = Some(act);
        let mut result = None;
        self.shard.with_handler(&mut |handler, context| {
            let act = act.take().expect("called once");
            result = Some(act(handler, context));
        });
        result.expect("the shard calls what it is given")
    }

    /// The address that peers connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What carries the node's datagrams.
    pub fn io(&self) -> &IoSummary {
        &self.io
    }

    /// Whether the handler asked for the end.
    pub fn is_stopped(&self) -> bool {
        self.shard.is_stopped()
    }

    /// What happened so far.
    pub fn report(&self) -> ShardReport {
        self.shard.report()
    }
}

impl<H> std::fmt::Debug for Poller<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poller").field("address", &self.address).finish_non_exhaustive()
    }
}
