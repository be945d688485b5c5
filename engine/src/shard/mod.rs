//! One core's loop: a driver, an endpoint, a handler, a mailbox. Nothing here is shared.
//!
//! A turn is short enough to read aloud: wait, take what arrived, let time act, read the mail,
//! hand over events, give the handler its say, send. Its cost is one system call under load and
//! none while busy-polling finds nothing. Everything a shard touches belongs to its thread; other
//! threads reach it only through the [`Mailbox`].

mod handler;
mod idle;
mod mailbox;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

pub use handler::{Batch, Context, Handler, Message, Origin, Piece};
pub use idle::Idle;
pub use mailbox::Mailbox;

use self::idle::Rest;
use crate::buffer::{Ecn, Pool, Received, Transmit};
use crate::io::{Driver, DriverCounters, thread_processor_time};
use crate::limits::{FORWARD_BUFFERS, RECEIVE_BATCH};
use crate::protocol::endpoint::{Endpoint, EndpointCounters, Event, Segment};
use crate::protocol::session::PublicKey;
use crate::time::{Duration, Instant, earliest};

/// What other threads ask of a shard.
#[derive(Debug)]
pub enum Command {
    /// Accept a peer's key from now on.
    Accept(PublicKey),
    /// A datagram for one of this shard's sessions that arrived at another shard.
    Forward {
        /// Who sent it.
        from: SocketAddr,
        /// The mark on it.
        ecn: Ecn,
        /// Its bytes; copied into this shard's own pool.
        datagram: Box<[u8]>,
    },
    /// Send back what happened so far.
    Report(SyncSender<ShardReport>),
    /// Take nothing new, and end when all is told, at the latest after this long.
    Drain(Duration),
    /// End the loop after this turn.
    Stop,
}

/// What one shard did.
#[derive(Clone, Debug, Default)]
pub struct ShardReport {
    /// The shard's index, from zero.
    pub shard: usize,
    /// The protocol's counters.
    pub endpoint: EndpointCounters,
    /// The driver's counters.
    pub driver: DriverCounters,
    /// Sessions that exist now.
    pub sessions: usize,
    /// Turns so far.
    pub turns: u64,
    /// Datagrams handed to the shard that owns their session.
    pub forwarded: u64,
    /// Datagrams for another shard that were dropped because its mailbox was full.
    pub forward_drops: u64,
    /// Processor time of the shard's thread.
    pub processor: Duration,
}

/// A shard: everything one core does.
#[derive(Debug)]
pub struct Shard<D, H> {
    driver: D,
    endpoint: Endpoint,
    handler: H,
    mailbox: Arc<Mailbox<Command>>,
    /// Mailboxes of all shards, for datagrams that arrived at the wrong one.
    neighbours: Arc<[Arc<Mailbox<Command>>]>,
    forward_pool: Pool,
    rest: Rest,
    /// A datagram the driver had no room for.
    stalled: Option<Transmit>,
    wake_at: Option<Instant>,
    index: usize,
    now: Instant,
    is_started: bool,
    is_stopped: bool,
    counters: ShardReport,
}

impl<D: Driver, H: Handler> Shard<D, H> {
    /// Puts a shard together.
    ///
    /// # Errors
    /// The kernel's, if it has no memory for the pool of forwarded datagrams.
    pub fn new(
        driver: D,
        endpoint: Endpoint,
        handler: H,
        idle: Idle,
        index: usize,
        neighbours: Arc<[Arc<Mailbox<Command>>]>,
    ) -> io::Result<Self> {
        let now = driver.now();
        neighbours[index].set_waker(driver.waker());
        Ok(Self {
            driver,
            endpoint,
            handler,
            mailbox: Arc::clone(&neighbours[index]),
            neighbours,
            forward_pool: Pool::new(FORWARD_BUFFERS, crate::limits::DATAGRAM_LEN_MAX)?,
            rest: Rest::new(idle),
            stalled: None,
            wake_at: None,
            index,
            now,
            is_started: false,
            is_stopped: false,
            counters: ShardReport::default(),
        })
    }

    /// Runs turns until told to stop; returns the handler and what happened.
    ///
    /// # Errors
    /// The driver's, when it is broken.
    pub fn run(mut self) -> io::Result<(H, ShardReport)> {
        while !self.is_stopped {
            self.turn(None)?;
        }
        self.say_goodbye();
        self.driver.wait(Some(self.now))?;
        let report = self.report();
        Ok((self.handler, report))
    }

    /// Peers hear of the end, and the handler how its last sends ended.
    fn say_goodbye(&mut self) {
        self.endpoint.drain_all(self.now, self.now);
        self.transmit();
        while let Some(event) = self.endpoint.poll_event() {
            if let Event::Outcomes { peer, resolved } = event {
                self.with_handler(|handler, context| handler.on_outcome(context, peer, resolved));
            }
        }
    }

    /// One turn. It rests no longer than `patience`, if given; otherwise as the idle strategy
    /// says. Returns whether it did anything.
    ///
    /// # Errors
    /// The driver's, when it is broken.
    pub fn turn(&mut self, patience: Option<Duration>) -> io::Result<bool> {
        let deadline = self.deadline(patience);
        self.now = self.driver.wait(deadline)?;
        self.mailbox.wake();
        self.counters.turns += 1;

        let mut is_busy = self.receive();
        self.endpoint.handle_timeout(self.now);
        is_busy |= self.read_mail();
        is_busy |= self.deliver();
        self.is_stopped |= self.endpoint.is_drained();
        is_busy |= self.call_handler();
        is_busy |= self.transmit();
        self.rest.note(self.now, is_busy);
        Ok(is_busy)
    }

    /// Runs `act` with the handler and its context, between turns and at the time it is now: the
    /// last turn may be long ago.
    pub fn between_turns<T>(&mut self, act: impl FnOnce(&mut H, &mut Context<'_>) -> T) -> T {
        self.now = self.driver.now().max(self.now);
        self.with_handler(act)
    }

    fn with_handler<T>(&mut self, act: impl FnOnce(&mut H, &mut Context<'_>) -> T) -> T {
        let mut context = Context::new(
            &mut self.endpoint,
            self.now,
            self.index,
            &mut self.wake_at,
            &mut self.is_stopped,
        );
        act(&mut self.handler, &mut context)
    }

    /// Whether the handler or a command asked for the end.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// What happened so far.
    pub fn report(&self) -> ShardReport {
        ShardReport {
            shard: self.index,
            endpoint: self.endpoint.counters().clone(),
            driver: self.driver.counters(),
            sessions: self.endpoint.session_count(),
            processor: thread_processor_time(),
            ..self.counters.clone()
        }
    }

    /// Until when this turn may sleep.
    fn deadline(&mut self, patience: Option<Duration>) -> Option<Instant> {
        if !self.is_started || self.stalled.is_some() || self.endpoint.has_events() {
            return Some(self.now);
        }
        let longest = match patience {
            Some(patience) => Some(self.driver.now() + patience),
            None => self.rest.longest(self.now),
        };
        if longest.is_some_and(|at| at <= self.now) {
            return longest; // Timers that nobody waits for can be worked out when the packets have left.
        }
        let deadline = earliest([self.endpoint.next_timeout(), self.wake_at, longest]);
        let sleeps = deadline.is_none_or(|at| at > self.now);
        if sleeps && !self.mailbox.sleep() {
            return Some(self.now);
        }
        deadline
    }

    fn receive(&mut self) -> bool {
        let mut count = 0;
        while count < RECEIVE_BATCH
            && let Some(received) = self.driver.receive()
        {
            self.endpoint.handle_datagram(self.now, received);
            count += 1;
        }
        count > 0
    }

    fn read_mail(&mut self) -> bool {
        let mut count = 0;
        while count < RECEIVE_BATCH
            && let Some(command) = self.mailbox.take()
        {
            count += 1;
            match command {
                Command::Accept(key) => self.endpoint.accept_key(key),
                Command::Forward { from, ecn, datagram } => {
                    self.take_forwarded(from, ecn, &datagram);
                }
                // Nobody waits for a report any more: that is no concern of the shard.
                Command::Report(to) => drop(to.try_send(self.report())),
                Command::Drain(patience) => {
                    self.endpoint.drain_all(self.now, self.now + patience);
                }
                Command::Stop => self.is_stopped = true,
            }
        }
        count > 0
    }

    fn take_forwarded(&mut self, from: SocketAddr, ecn: Ecn, datagram: &[u8]) {
        let Some(mut lease) = self.forward_pool.take() else { return };
        let buffer = lease.get_mut().expect("a buffer just taken has one holder");
        let Some(place) = buffer.get_mut(..datagram.len()) else { return };
        place.copy_from_slice(datagram);
        let lease = lease.narrow(0..datagram.len());
        let received = Received { ecn, ..Received::single(from, lease) };
        self.endpoint.handle_datagram(self.now, received);
    }

    /// Hands every event to the handler.
    fn deliver(&mut self) -> bool {
        let mut is_busy = false;
        while let Some(event) = self.endpoint.poll_event() {
            is_busy = true;
            let mut context = Context::new(
                &mut self.endpoint,
                self.now,
                self.index,
                &mut self.wake_at,
                &mut self.is_stopped,
            );
            match event {
                Event::Messages(messages) => {
                    self.handler.on_batch(&mut context, Batch::new(&messages));
                }
                Event::Segment(segment) => {
                    let Segment { peer, service, transaction, is_reply, total, offset, body } =
                        segment;
                    let payload = &body;
                    let piece =
                        Piece { peer, service, transaction, is_reply, total, offset, payload };
                    self.handler.on_piece(&mut context, piece);
                }
                Event::Abandoned { peer, transaction, is_reply } => {
                    self.handler.on_abandoned(&mut context, peer, transaction, is_reply);
                }
                Event::Gap { peer, stream, missing } => {
                    self.handler.on_gap(&mut context, peer, stream, missing);
                }
                Event::Misrouted { from, ecn, datagram, shard } => {
                    let forward = Command::Forward { from, ecn, datagram: Box::from(&*datagram) };
                    match self.neighbours[shard].put(forward) {
                        Ok(()) => self.counters.forwarded += 1,
                        Err(_) => self.counters.forward_drops += 1,
                    }
                }
                Event::Outcomes { peer, resolved } => {
                    self.handler.on_outcome(&mut context, peer, resolved);
                }
                Event::Session { peer, change } => {
                    self.handler.on_session(&mut context, peer, change);
                }
            }
        }
        is_busy
    }

    /// Gives the handler its say once a turn.
    fn call_handler(&mut self) -> bool {
        if self.wake_at.is_some_and(|at| at <= self.now) {
            self.wake_at = None;
        }
        let is_started = std::mem::replace(&mut self.is_started, true);
        self.with_handler(|handler, context| {
            if !is_started {
                handler.on_start(context);
            }
            handler.on_turn(context);
        });
        false
    }

    /// Offers datagrams to the driver until there are none, or it is full.
    fn transmit(&mut self) -> bool {
        let mut is_busy = false;
        while let Some(transmit) =
            self.stalled.take().or_else(|| self.endpoint.poll_transmit(self.now))
        {
            is_busy = true;
            if let Err(back) = self.driver.transmit(transmit) {
                self.stalled = Some(back);
                break;
            }
        }
        is_busy
    }
}
