//! Nodes: an identity with shards, started and stopped as one.
//!
//! There are three ways in with one engine behind them. [`Node`] runs a [`Handler`] on each
//! shard's own thread. [`Poller`] runs one on the caller's thread, in turns that the caller asks
//! for, and starts no thread. [`QueueNode`] puts bounded queues between the shards and the
//! application's threads.

mod build;
mod config;
pub mod cpus;
pub mod files;
mod identity;
mod poller;
mod queue;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub use build::IoSummary;
pub use config::{Config, ConfigError, Network};
pub use poller::Poller;
pub use queue::{Incoming, Payload, QueueBound, QueueError, QueueNode, Receipt, Remote};

use self::build::Plan;
use crate::io::kernel::OpenError;
use crate::limits::MAILBOX_LEN;
use crate::protocol::crypto::Random;
use crate::protocol::session::{BootId, PublicKey};
use crate::shard::{Command, Handler, Mailbox, ShardReport};

/// How often a thread that waits for a shard asks whether it still runs.
const STOP_CHECKED_EVERY: Duration = Duration::from_millis(50);

/// How often a thread that waits for the end of a node takes what it has to tell.
const DRAIN_CHECKED_EVERY: Duration = Duration::from_millis(2);

/// A running node. Dropping it stops it.
#[derive(Debug)]
pub struct Node {
    shards: Vec<RunningShard>,
    mailboxes: Arc<[Arc<Mailbox<Command>>]>,
    io: IoSummary,
    key: PublicKey,
}

#[derive(Debug)]
struct RunningShard {
    address: SocketAddr,
    thread: Option<JoinHandle<io::Result<ShardReport>>>,
}

impl Node {
    /// Starts a node; `make` makes the handler of each shard, on that shard's thread.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub fn start<H, M>(config: Config, make: M) -> Result<Self, StartError>
    where
        H: Handler + 'static,
        M: Fn(usize) -> H + Send + Sync + 'static,
    {
        config.check().map_err(StartError::Config)?;
        if let Some(cpus) = &config.cpus {
            cpus::check(cpus).map_err(StartError::Cpus)?;
        }
        let boot = draw_boot()?;
        let config = Arc::new(config);
        let make = Arc::new(make);
        let mailboxes = mailboxes(config.shards);
        let key = config.identity.public();
        let mut node = Self { shards: Vec::new(), mailboxes, io: IoSummary::default(), key };
        for index in 0..config.shards {
            // Shards that listen share the port that the first one got.
            let bind = match node.shards.first() {
                Some(first) if config.listen => first.address,
                _ => config.bind,
            };
            let plan = Plan {
                config: Arc::clone(&config),
                boot,
                index,
                bind,
                mailboxes: Arc::clone(&node.mailboxes),
            };
            let (started, outcome) = sync_channel(1);
            let make = Arc::clone(&make);
            let thread = thread::Builder::new()
                .name(format!("raet-{index}"))
                .spawn(move || run_shard(plan, &*make, &started))
                .map_err(StartError::Thread)?;
            let (address, io) = outcome.recv().unwrap_or(Err(StartError::Panicked))?;
            node.io = io;
            node.shards.push(RunningShard { address, thread: Some(thread) });
        }
        Ok(node)
    }

    /// The address that peers connect to: the first shard's.
    pub fn address(&self) -> SocketAddr {
        self.shards[0].address
    }

    /// The node's public key, by which peers know it.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// What carries the node's datagrams.
    pub fn io(&self) -> &IoSummary {
        &self.io
    }

    /// Accepts a peer's key from now on, on every shard.
    pub fn accept(&self, key: PublicKey) {
        for index in 0..self.mailboxes.len() {
            self.command(index, Command::Accept(key));
        }
    }

    /// Has a shard take a turn soon, even if it sleeps.
    pub fn wake(&self, shard: usize) {
        self.mailboxes[shard].ring();
    }

    /// What the shards did so far, in the order of shards. A shard that ended is left out.
    pub fn report(&self) -> Vec<ShardReport> {
        let (sender, receiver) = sync_channel(self.mailboxes.len());
        for index in 0..self.mailboxes.len() {
            self.command(index, Command::Report(sender.clone()));
        }
        drop(sender);
        let mut reports: Vec<ShardReport> = Vec::with_capacity(self.mailboxes.len());
        loop {
            match receiver.recv_timeout(STOP_CHECKED_EVERY) {
                Ok(report) => reports.push(report),
                Err(RecvTimeoutError::Disconnected) => break,
                // A shard that ended leaves the commands in its mailbox unanswered.
                Err(RecvTimeoutError::Timeout) => {
                    let has_answered = |index| reports.iter().any(|report| report.shard == index);
                    if (0..self.mailboxes.len()).all(|i| has_answered(i) || self.has_ended(i)) {
                        break;
                    }
                }
            }
        }
        reports.extend(receiver.try_iter());
        reports.sort_unstable_by_key(|report| report.shard); // They answer in any order.
        reports
    }

    /// Whether every shard has ended, because its handler said so or its driver broke.
    pub fn is_finished(&self) -> bool {
        (0..self.shards.len()).all(|index| self.has_ended(index))
    }

    /// Has every shard take no more messages, and end once all that it took is told: delivered and
    /// acknowledged, or, after `patience`, not. Returns at once; [`Node::join`] waits.
    pub fn drain(&self, patience: Duration) {
        for index in 0..self.shards.len() {
            self.command(index, Command::Drain(patience.into()));
        }
    }

    /// Stops every shard and returns what they did. Peers hear that their sessions are closed.
    ///
    /// # Errors
    /// The driver's, if one was broken.
    ///
    /// # Panics
    /// With the panic of a handler, if one panicked.
    pub fn stop(mut self) -> io::Result<Vec<ShardReport>> {
        self.tell_stop();
        self.join()
    }

    /// Waits until every shard has ended by itself, and returns what they did.
    ///
    /// # Errors
    /// The driver's, if one was broken.
    ///
    /// # Panics
    /// With the panic of a handler, if one panicked.
    pub fn join(&mut self) -> io::Result<Vec<ShardReport>> {
        let mut reports = Vec::with_capacity(self.shards.len());
        for shard in &mut self.shards {
            if let Some(thread) = shard.thread.take() {
                let ended = thread.join();
                reports.push(ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
        }
        Ok(reports)
    }

    /// Whether one shard has ended.
    fn has_ended(&self, index: usize) -> bool {
        let shard = self.shards.get(index);
        shard.is_none_or(|shard| shard.thread.as_ref().is_none_or(JoinHandle::is_finished))
    }

    fn tell_stop(&self) {
        for index in 0..self.shards.len() {
            self.command(index, Command::Stop);
        }
    }

    /// Puts a command, waiting for room: commands are rare, and mailboxes are emptied each turn.
    fn command(&self, index: usize, mut command: Command) {
        while let Err(back) = self.mailboxes[index].put(command) {
            if self.has_ended(index) {
                return;
            }
            command = back;
            thread::yield_now();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.tell_stop();
        // An error or a panic has nobody left to be told.
        for thread in self.shards.iter_mut().filter_map(|shard| shard.thread.take()) {
            drop(thread.join());
        }
    }
}

type Started = Result<(SocketAddr, IoSummary), StartError>;

fn run_shard<H: Handler + 'static>(
    plan: Plan,
    make: &dyn Fn(usize) -> H,
    started: &SyncSender<Started>,
) -> io::Result<ShardReport> {
    let index = plan.index;
    let cpu = plan.config.cpus.as_ref().map(|cpus| cpus[index]);
    let pinned = cpu.map_or(Ok(()), cpus::pin_current_thread).map_err(StartError::Cpus);
    let tell = |outcome| started.send(outcome).expect("the starter waits for it");
    match pinned.and_then(|()| plan.build(make(index))) {
        Ok(built) => {
            tell(Ok((built.address, built.io)));
            built.shard.finish()
        }
        Err(error) => {
            tell(Err(error));
            Ok(ShardReport::default())
        }
    }
}

fn mailboxes(count: usize) -> Arc<[Arc<Mailbox<Command>>]> {
    (0..count).map(|_| Arc::new(Mailbox::new(MAILBOX_LEN))).collect()
}

/// A boot id for this start of the node: what tells peers that we are not who we were before.
fn draw_boot() -> Result<BootId, StartError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|_| StartError::NoRandomness)?;
    Ok(BootId::generate(&mut Random::from_seed(seed)))
}

/// Why a node did not start.
#[derive(Debug)]
pub enum StartError {
    /// The capture file cannot be written.
    Capture(PathBuf, io::Error),
    /// A setting that cannot work.
    Config(ConfigError),
    /// A core that this process may not use.
    Cpus(cpus::CpusNotAllowed),
    /// The kernel has no memory for the buffers.
    Memory(io::Error),
    /// The operating system gives no random bytes.
    NoRandomness,
    /// The driver cannot be opened.
    Open(OpenError),
    /// The handler's maker panicked.
    Panicked,
    /// The kernel refused a thread.
    Thread(io::Error),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Capture(path, error) => {
                write!(f, "cannot write the capture file {}: {error}", path.display())
            }
            Self::Config(error) => error.fmt(f),
            Self::Cpus(error) => error.fmt(f),
            Self::Memory(error) => write!(
                f,
                "no memory for the buffers ({error}): lower the number of send or receive buffers"
            ),
            Self::NoRandomness => write!(f, "the operating system gives no random bytes"),
            Self::Open(error) => error.fmt(f),
            Self::Panicked => write!(f, "a shard panicked while it started"),
            Self::Thread(error) => write!(f, "the system refused a thread for a shard: {error}"),
        }
    }
}

impl std::error::Error for StartError {}
