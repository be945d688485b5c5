//! The whole protocol as one machine: datagrams and calls in, events and transmits out.
//!
//! An endpoint joins the rooms that do not know each other. A datagram is split by the wire,
//! opened by its session, judged by its peer's inbox, and leaves as an event that still lies in
//! the buffer it arrived in. A message is numbered and framed by its peer's outbox in the buffer
//! from which it will leave, and sealed there by the session when the window allows.
//!
//! # How to drive it
//! Once a turn, with one reading of the clock: hand in every received datagram, then
//! [`Endpoint::handle_timeout`]; drain [`Endpoint::poll_event`] until `None`; then drain
//! [`Endpoint::poll_transmit`] until `None` or until the driver is full. Sleep no longer than
//! [`Endpoint::next_timeout`]. Acknowledgements are withheld while events wait to be drained:
//! what is reported as done has been handed over.

mod association;
mod burst;
mod config;
mod control;
mod event;
mod finish;
mod handshake;
mod message;
mod paths;
mod receive;
mod reset;
mod slots;
mod statistics;
#[cfg(test)]
mod tests;
mod timers;
mod train;
mod transmit;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};

pub use burst::Burst;
pub use config::{EndpointConfig, Mtu};
pub use event::{
    Body, CloseReason, ConnectError, Deferred, Event, FullReason, Messages, PeerId, Segment,
    SendError, SessionChange,
};
pub use finish::MessageKey;
pub use statistics::{MemoryStatistics, PathStatistics};

use self::association::Association;
use self::slots::Slots;
use self::timers::Timers;
use crate::buffer::{Blocks, Lease, Pool, Transmit};
use crate::limits::{
    CONTROL_BUFFER_LEN, CONTROL_BUFFERS, CONTROL_BUFFERS_KEPT, PACKETS_IN_FLIGHT_MAX,
    TRAIN_BUFFER_LEN, TRAIN_BUFFERS, TRAIN_SEGMENTS_MAX, TURN_PACKETS_MAX,
};
use crate::protocol::drop_reason::{DropCounters, DropReason};
use crate::protocol::session::{
    BootId, HeadTemplate, Initiator, Parameters, PeerText, PublicKey, Random, ResetToken,
    Responder, Session, Trust,
};
use crate::protocol::transaction::{
    AssemblyKey, MessageBytes, Outbound, Outbox, Outcome, Overflow, Priority, PushError,
    RefuseReason, Resolved, SendOptions, UnitId,
};
use crate::protocol::wire::{HeadReader, bundle};
use crate::time::Instant;

/// What a packet carried, as the packet plane hands it back.
#[derive(Clone, Copy, Debug)]
enum Content {
    /// An acknowledgement that asked to be confirmed, by its packet number.
    Ack(u64),
    /// A probe of the path for larger datagrams.
    MtuProbe,
    /// A question for the peer's state.
    Ping,
    /// A try of a unit, or of one segment of so many.
    Unit { id: UnitId, segment: u32, segments: u32, tries: u8 },
}

/// One session of a peer, open or not yet confirmed.
#[derive(Debug)]
struct Live {
    session: Session<Content>,
    peer: u32,
    peer_boot: BootId,
    peer_parameters: Parameters,
    peer_name: PeerText,
    peer_role: PeerText,
    begun_at: Instant,
    /// What the peer would say if it did not know the session any more.
    peer_token: Option<ResetToken>,
    /// Something arrived since the last batch ended.
    touched: bool,
    /// It stands among the sessions that owe an acknowledgement.
    is_ack_due: bool,
    /// Probe packets that may leave although the window is closed.
    probes: u8,
    /// The peer should hear our low-water mark and answer with its reports.
    ping_due: bool,
    /// In plain mode, where packets have no numbers on the wire: the last ping, and how many
    /// packets arrived.
    last_ping: Option<u64>,
    arrivals: u64,
}

/// A peer: an identity we talk to, or try to.
#[derive(Debug)]
struct Peer {
    generation: u32,
    /// That of its first name: it keeps its slot through all of them.
    first_generation: u32,
    key: PublicKey,
    address: SocketAddr,
    handshake: Option<Box<Initiator>>,
    /// When to ask again, after an answer of "pending", or none for an association that waits.
    ask_again: Option<Instant>,
    asked_at: Instant,
    association: Option<Association>,
    /// Our number of the present association, or of the next. While any session or handshake
    /// exists that was told it, it stays.
    association_number: u64,
    /// The session that carries our messages.
    current: Option<u32>,
    /// Sessions that exist with it.
    lives: u32,
    /// Messages of former associations that the application still keeps in its memory.
    held_before: u64,
    is_ready: bool,
    /// The session ends when all is told, at the latest now: nothing new is taken.
    drain_until: Option<Instant>,
    /// The association has no session; it ends now if none comes.
    lost_until: Option<Instant>,
    /// We opened the session, and open the next if it is lost.
    redials: bool,
}

/// What an endpoint did, for reports. All count since it was made.
#[derive(Clone, Debug, Default)]
pub struct EndpointCounters {
    /// Packets that left, of every kind.
    pub packets_sent: u64,
    /// Packets that opened.
    pub packets_received: u64,
    /// Message packets that left again.
    pub retransmissions: u64,
    /// Pure acknowledgements that left.
    pub acks_sent: u64,
    /// Messages of ours that were accepted. Each has one outcome, sooner or later.
    pub messages_accepted: u64,
    /// How those that ended did.
    pub outcomes: OutcomeCounters,
    /// Messages that found no room and will not be offered again, as their options say.
    pub messages_dropped: u64,
    /// Messages delivered to the application, replies included.
    pub messages_delivered: u64,
    /// Sessions that opened.
    pub sessions_opened: u64,
    /// Sessions that followed their peer to another address.
    pub sessions_moved: u64,
    /// Packets whose loss was concluded.
    pub packets_lost: u64,
    /// Arrivals dropped, by reason.
    pub drops: DropCounters,
}

/// How many sends ended in which way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OutcomeCounters {
    /// The peer's application has them.
    pub delivered: u64,
    /// Their replies came.
    pub replied: u64,
    /// Their copies left, and no more was promised.
    pub sent: u64,
    /// The peer's application refused them.
    pub refused: u64,
    /// The peer's application could not do what they ask.
    pub failed: u64,
    /// They never left.
    pub not_sent: u64,
    /// They may or may not have been delivered.
    pub indeterminate: u64,
}

impl OutcomeCounters {
    /// Sends that ended, however.
    pub const fn total(&self) -> u64 {
        self.delivered
            + self.replied
            + self.sent
            + self.refused
            + self.failed
            + self.not_sent
            + self.indeterminate
    }

    fn count(&mut self, resolved: &Resolved) {
        let place = match resolved.outcome {
            Outcome::Delivered => &mut self.delivered,
            Outcome::Replied => &mut self.replied,
            Outcome::Sent => &mut self.sent,
            Outcome::Refused(_) => &mut self.refused,
            Outcome::HandlerFailed => &mut self.failed,
            Outcome::NotSent => &mut self.not_sent,
            Outcome::Indeterminate => &mut self.indeterminate,
        };
        *place += u64::from(resolved.count);
    }
}

/// RAET for one shard: every session that lives there.
#[derive(Debug)]
pub struct Endpoint {
    config: EndpointConfig,
    random: Random,
    /// Buffers of units.
    pool: Pool,
    /// Buffers in which message packets are put together and leave.
    train_pool: Pool,
    /// Buffers of handshake and control packets: acknowledgements leave even when data is stuck.
    control_pool: Pool,
    responder: Option<Responder>,
    trust: Trust,
    /// Where keys that wait for an operator were last seen.
    waiting: HashMap<PublicKey, SocketAddr>,
    /// Notices sent so far.
    notices: u64,
    /// The number of the next association that gets one.
    next_association: u64,
    reader: HeadReader,
    /// Heads of message packets, and of control packets.
    message_head: HeadTemplate,
    control_head: HeadTemplate,
    /// Memory of messages that are larger than a packet or came before their turn.
    blocks: Blocks,
    lives: Slots<Live>,
    by_session: HashMap<u64, u32>,
    /// Slot of the session whose packet came last: that of the next is mostly the same.
    latest: u32,
    peers: Slots<Peer>,
    by_key: HashMap<PublicKey, u32>,
    by_handshake: HashMap<u64, u32>,
    /// Peers with a time to ask again: where a notice may come from.
    asking: BTreeSet<(SocketAddr, u32)>,
    events: VecDeque<Event>,
    /// `false` once everything is being drained.
    takes_sessions: bool,
    /// Peers whose sessions end when all is told.
    draining: Vec<u32>,
    /// Message events that wait to be drained.
    undelivered: usize,
    /// Packets that are complete and only wait to leave.
    outgoing: VecDeque<Transmit>,
    /// Sessions with arrivals in this batch.
    touched: Vec<u32>,
    /// Sessions that owe an acknowledgement.
    acks_due: VecDeque<u32>,
    /// Peers that may have something to send.
    ready: VecDeque<u32>,
    /// Peers with packets to send that found every train in use.
    starved: Vec<u32>,
    /// Deadlines: peer slots at even places, session slots at odd ones.
    timers: Timers,
    /// When those that are to be worked out were left so.
    polled_at: Instant,
    scratch: Scratch,
    counters: EndpointCounters,
}

/// Lists reused from packet to packet, so that the data path does not allocate.
#[derive(Debug)]
struct Scratch {
    deliveries: Vec<message::Delivery>,
    acked: Vec<Content>,
    lost: Vec<Content>,
    numbers: Vec<u64>,
    runs: Vec<RangeInclusive<u64>>,
}

impl Scratch {
    /// Takes all the memory that a turn without violations needs, so that a large one late in a
    /// quiet life takes none. What is not used is not touched, and so costs addresses only.
    fn new() -> Self {
        Self {
            deliveries: Vec::with_capacity(TRAIN_SEGMENTS_MAX),
            acked: Vec::with_capacity(PACKETS_IN_FLIGHT_MAX),
            lost: Vec::with_capacity(PACKETS_IN_FLIGHT_MAX),
            numbers: Vec::with_capacity(PACKETS_IN_FLIGHT_MAX),
            runs: Vec::with_capacity(PACKETS_IN_FLIGHT_MAX),
        }
    }
}

impl Endpoint {
    /// An endpoint with its buffers. `seed` must be secret and fresh, except in a simulation.
    ///
    /// # Errors
    /// The kernel's, if it has no memory for the pools.
    pub fn new(now: Instant, config: EndpointConfig, seed: [u8; 32]) -> io::Result<Self> {
        let mut random = Random::from_seed(seed);
        let responder = config.listen.then(|| Responder::new(now, config.responder(), &mut random));
        // An odd number of cache lines: the buffers' beginnings fall on all sets of a cache.
        let body_len = (config.datagram_len_max().div_ceil(64) | 1) * 64;
        let pool = Pool::new(config.send_buffers, body_len)?;
        let train_pool = Pool::new(TRAIN_BUFFERS, TRAIN_BUFFER_LEN)?;
        let control_pool = Pool::new(CONTROL_BUFFERS, CONTROL_BUFFER_LEN)?;
        let total = config.receive_bytes_total.max(config.receive_bytes);
        let blocks = Blocks::new(usize::try_from(total).unwrap_or(usize::MAX));
        let trust = config.trust.clone();
        // Shards of a node share its boot id, but no association.
        let shard = config.shard.0 as u64;
        Ok(Self {
            config,
            random,
            pool,
            train_pool,
            control_pool,
            responder,
            trust,
            waiting: HashMap::new(),
            notices: 0,
            next_association: shard << 48,
            reader: HeadReader::default(),
            message_head: HeadTemplate::default(),
            control_head: HeadTemplate::default(),
            blocks,
            lives: Slots::new(),
            by_session: HashMap::new(),
            latest: 0,
            peers: Slots::new(),
            by_key: HashMap::new(),
            by_handshake: HashMap::new(),
            asking: BTreeSet::new(),
            events: VecDeque::with_capacity(TURN_PACKETS_MAX),
            takes_sessions: true,
            draining: Vec::new(),
            undelivered: 0,
            outgoing: VecDeque::with_capacity(CONTROL_BUFFERS as usize),
            touched: Vec::new(),
            acks_due: VecDeque::new(),
            ready: VecDeque::new(),
            starved: Vec::new(),
            timers: Timers::default(),
            polled_at: now,
            scratch: Scratch::new(),
            counters: EndpointCounters::default(),
        })
    }

    /// Takes a message for `to` and returns its transaction number. The payload is copied
    /// into a buffer where it stays until its outcome is known; see [`Outbound`].
    ///
    /// # Errors
    /// [`SendError`]; the message was not taken.
    #[inline]
    pub fn send(
        &mut self,
        now: Instant,
        to: PeerId,
        options: &SendOptions,
        message: Outbound<'_>,
    ) -> Result<u64, SendError> {
        match self.append(to, options, message.len(), |place| place.copy_from_slice(&message)) {
            Some(transaction) => Ok(transaction),
            None => self.push(now, to, options, message.into()),
        }
    }

    /// As [`Endpoint::send`], for a message of `len` bytes that `write` writes where it is kept,
    /// if it is taken; otherwise `write` is not called.
    ///
    /// # Errors
    /// [`SendError`]; the message was not taken.
    #[inline]
    pub fn send_with(
        &mut self,
        now: Instant,
        to: PeerId,
        options: &SendOptions,
        len: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> Result<u64, SendError> {
        let mut write = Some(write);
        let mut once = |place: &mut [u8]| {
            let write = write.take().expect("a message is written once");
            write(place);
        };
        match self.append(to, options, len, &mut once) {
            Some(transaction) => Ok(transaction),
            None => self.push(now, to, options, MessageBytes::Written(len, &mut once)),
        }
    }

    /// Has a message join the one before it, if nothing speaks against it: the peer is then marked
    /// as ready, or waits for what will do so.
    #[inline]
    fn append(
        &mut self,
        to: PeerId,
        options: &SendOptions,
        len: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> Option<u64> {
        let transaction = self.joinable(to)?.append(options, len, write)?;
        self.counters.messages_accepted += 1;
        Some(transaction)
    }

    /// The outbox of a peer whose messages may join those before them.
    #[inline]
    fn joinable(&mut self, to: PeerId) -> Option<&mut Outbox> {
        let peer = self.find_peer(to)?;
        let is_closed = peer.drain_until.is_some() || peer.current.is_none();
        peer.association.as_mut().filter(|_| !is_closed).map(|known| &mut known.outbox)
    }

    fn push(
        &mut self,
        now: Instant,
        to: PeerId,
        options: &SendOptions,
        message: MessageBytes<'_>,
    ) -> Result<u64, SendError> {
        let taken = self.push_by(now, to, options, |outbox, pool, room| {
            let transaction = outbox.push(now, pool, options, message, room)?;
            Ok(transaction..transaction + 1)
        });
        taken.map(|taken| taken.start)
    }

    /// Has `push` give messages to the outbox of `to`: at least one, unless it says why not. It is
    /// told how many body bytes a packet can carry.
    fn push_by(
        &mut self,
        now: Instant,
        to: PeerId,
        options: &SendOptions,
        push: impl FnOnce(&mut Outbox, &Pool, usize) -> Result<Range<u64>, PushError>,
    ) -> Result<Range<u64>, SendError> {
        let room = self.body_room(to)?;
        let peer = self.peers.find_mut(to.slot).expect("checked by body_room");
        if peer.drain_until.is_some() {
            return Err(SendError::Closing);
        }
        let is_lost = peer.current.is_none();
        let association = peer.association.as_mut().ok_or(SendError::NotConnected)?;
        let sent = push(&mut association.outbox, &self.pool, room);
        match &sent {
            Ok(taken) => {
                self.counters.messages_accepted += taken.end - taken.start;
                let live = peer.current.filter(|_| options.priority == Priority::Urgent);
                if let Some(live) = live.and_then(|live| self.lives.find_mut(live)) {
                    live.session.recovery.on_urgent(now);
                }
            }
            Err(PushError::TooLarge { .. }) => {}
            Err(_) => {
                let is_dropped = options.heeded().overflow != Overflow::Wait;
                self.counters.messages_dropped += u64::from(is_dropped);
            }
        }
        let mut asks = association.outbox.should_tell_low_water(association.low_water_told);
        if matches!(sent, Err(PushError::NoTransaction)) && !asks {
            // Nothing under way will be answered with credit: ask, once in a probe time-out.
            let live = peer.current.and_then(|live| self.lives.find(live));
            asks = live.is_some_and(|Live { session, .. }| {
                session.recovery.in_flight_bytes() == 0
                    && association.starved_at + session.recovery.probe_timeout() <= now
            });
            if asks {
                association.starved_at = now;
            }
        }
        if asks {
            self.ask_for_report(to.slot);
        }
        if is_lost {
            self.redial(now, to.slot);
        }
        self.mark_ready(to.slot);
        sent.map_err(explain)
    }

    /// Replies to a request of `to`. May be called in the turn of the request or later.
    ///
    /// # Errors
    /// [`SendError`]; the reply was not taken, and may be offered again.
    pub fn reply(
        &mut self,
        now: Instant,
        to: PeerId,
        transaction: u64,
        message: Outbound<'_>,
    ) -> Result<(), SendError> {
        if let Some(peer) = self.find_peer(to)
            && peer.current.is_some()
            && let Some(association) = &mut peer.association
            && association.outbox.append_reply(transaction, message.len(), |place| {
                place.copy_from_slice(&message);
            })
        {
            return Ok(()); // The peer is ready already, or waits for what will make it so.
        }
        let room = self.body_room(to)?;
        let peer = self.peers.find_mut(to.slot).expect("checked by body_room");
        let is_lost = peer.current.is_none();
        let association = peer.association.as_mut().ok_or(SendError::NotConnected)?;
        let sent =
            association.outbox.push_reply(now, &self.pool, transaction, message.into(), room);
        if is_lost {
            self.redial(now, to.slot);
        }
        self.mark_ready(to.slot);
        sent.map_err(explain)
    }

    /// Refuses a transaction whose message was handed over in this turn, or some pieces of it: the
    /// others are not handed over (PROTOCOL 6.21). `false`: nobody will hear of it, because the
    /// association is gone or the peer has given the message up.
    pub fn refuse(&mut self, from: PeerId, transaction: u64, reason: RefuseReason) -> bool {
        self.end_refused(from, transaction, reason.get())
    }

    /// As [`Endpoint::refuse`], also with a reason of the protocol's own.
    fn end_refused(&mut self, from: PeerId, transaction: u64, reason: u8) -> bool {
        let Some(peer) = self.find_peer(from) else { return false };
        let Some(association) = peer.association.as_mut() else { return false };
        let key = AssemblyKey { is_reply: false, transaction };
        if !association.assemblies.forget_pieces(key) {
            return association.inbox.refuse(transaction, reason);
        }
        let is_told = association.inbox.refuse_incomplete(transaction, reason);
        self.ask_for_report(from.slot); // The sooner it is known, the less leaves in vain.
        is_told
    }

    /// Whether what waits to be handed over belongs to a message of `from` that was refused since.
    fn is_refused(&self, from: PeerId, transaction: u64) -> bool {
        let found = self.peers.find(from.slot).filter(|peer| peer.generation == from.generation);
        let association = found.and_then(|peer| peer.association.as_ref());
        association.is_some_and(|association| association.inbox.is_refused(transaction))
    }

    /// Has a transaction whose message was handed over in this turn count as accepted, not as
    /// done, until [`Endpoint::commit`]. `None`: the association is gone.
    pub fn defer(&mut self, from: PeerId, transaction: u64) -> Option<Deferred> {
        let association = self.find_peer(from)?.association.as_mut()?;
        association.inbox.defer(transaction..transaction + 1);
        Some(Deferred { peer: from, transaction })
    }

    /// A transaction that was deferred is done. `false`: its association is over.
    pub fn commit(&mut self, deferred: Deferred) -> bool {
        let Some(peer) = self.find_peer(deferred.peer) else { return false };
        let Some(association) = peer.association.as_mut() else { return false };
        let was_deferred = association.inbox.commit(deferred.transaction);
        if was_deferred {
            // Asked for and so sent again if it is lost: nothing else would bring the news.
            self.ask_for_report(deferred.peer.slot);
        }
        was_deferred
    }

    /// A transaction that was deferred is refused. `false`: it is not deferred any more, or its
    /// association is over.
    pub fn refuse_deferred(&mut self, deferred: Deferred, reason: RefuseReason) -> bool {
        let Some(peer) = self.find_peer(deferred.peer) else { return false };
        let Some(association) = peer.association.as_mut() else { return false };
        let was_deferred = association.inbox.refuse_deferred(deferred.transaction, reason.get());
        if was_deferred {
            self.ask_for_report(deferred.peer.slot);
        }
        was_deferred
    }

    /// The application keeps `count` messages of `from` in its memory: the peer's credit stands
    /// still for as many.
    pub fn hold(&mut self, from: PeerId, count: u64) {
        if let Some(association) = self.find_peer(from).and_then(|peer| peer.association.as_mut()) {
            association.inbox.hold(count);
        } else if let Some(peer) = self.find_former(from) {
            peer.held_before += count;
        }
    }

    /// The application is done with `count` messages of `from`.
    pub fn release(&mut self, from: PeerId, count: u64) {
        let association = self.find_peer(from).and_then(|peer| peer.association.as_mut());
        let Some(association) = association else { return self.release_former(from, count) };
        association.inbox.release(count);
        let news = association.inbox.credit() - association.credit_told;
        if news >= u64::from(self.config.transactions) / 4 {
            self.ask_for_report(from.slot);
        }
    }

    /// The next event. Drain until `None`, each turn.
    #[inline]
    pub fn poll_event(&mut self) -> Option<Event> {
        while let Some(event) = self.events.pop_front() {
            let (is_handed_over, messages) = match &event {
                Event::Messages(messages) => (true, messages.count),
                Event::Segment(segment) => (true, u32::from(segment.is_last())),
                _ => (false, 0),
            };
            self.undelivered -= usize::from(is_handed_over);
            if !self.is_void(&event) {
                self.counters.messages_delivered += u64::from(messages);
                return Some(event);
            }
        }
        None
    }

    /// Whether an event is of a message in pieces that was refused at one before.
    fn is_void(&self, event: &Event) -> bool {
        match *event {
            Event::Segment(Segment { peer, transaction, is_reply: false, .. })
            | Event::Abandoned { peer, transaction, is_reply: false } => {
                self.is_refused(peer, transaction)
            }
            _ => false,
        }
    }

    /// Whether [`Endpoint::poll_event`] would find something.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// When [`Endpoint::handle_timeout`] must be called at the latest.
    pub fn next_timeout(&mut self) -> Option<Instant> {
        self.settle_timers();
        self.timers.next()
    }

    /// Transactions outstanding towards a peer.
    pub fn outstanding(&self, peer: PeerId) -> u64 {
        let found = self.peers.find(peer.slot).filter(|found| found.generation == peer.generation);
        let association = found.and_then(|found| found.association.as_ref());
        association.map_or(0, |association| association.outbox.outstanding())
    }

    /// Bytes of a message that one packet to `peer` carries now.
    ///
    /// # Errors
    /// [`SendError::NotConnected`].
    pub fn packet_message_len_max(&self, peer: PeerId) -> Result<usize, SendError> {
        let room = self.body_room(peer)?;
        let framing = bundle::framed_len(room) - room;
        Ok(room - framing)
    }

    /// Largest message that `peer` takes with these options when nothing else is outstanding.
    ///
    /// # Errors
    /// [`SendError::NotConnected`].
    pub fn message_len_max(&self, peer: PeerId, options: &SendOptions) -> Result<u64, SendError> {
        let room = self.body_room(peer)?;
        let found = self.peers.find(peer.slot).expect("checked by body_room");
        let association = found.association.as_ref().ok_or(SendError::NotConnected)?;
        Ok(association.outbox.message_len_max(options, room))
    }

    /// What happened so far.
    pub fn counters(&self) -> &EndpointCounters {
        &self.counters
    }

    /// Sessions that exist now, unconfirmed ones included.
    pub fn session_count(&self) -> usize {
        self.lives.len()
    }

    /// Send buffers free now, of all.
    pub fn free_buffers(&self) -> (usize, usize) {
        (self.pool.available(), self.pool.capacity())
    }

    fn body_room(&self, peer: PeerId) -> Result<usize, SendError> {
        let found = self.peers.find(peer.slot).filter(|found| found.generation == peer.generation);
        let found = found.ok_or(SendError::NotConnected)?;
        match found.current.and_then(|live| self.lives.find(live)) {
            Some(live) => Ok(live.session.body_room()),
            None => {
                found.association.as_ref().map(|known| known.room).ok_or(SendError::NotConnected)
            }
        }
    }

    fn find_peer(&mut self, id: PeerId) -> Option<&mut Peer> {
        self.peers.find_mut(id.slot).filter(|peer| peer.generation == id.generation)
    }

    /// The peer that has or had this name.
    fn find_former(&mut self, id: PeerId) -> Option<&mut Peer> {
        let names = |peer: &Peer| peer.generation.wrapping_sub(peer.first_generation);
        let was_named = |peer: &Peer| id.generation.wrapping_sub(peer.first_generation);
        self.peers.find_mut(id.slot).filter(|peer| was_named(peer) <= names(peer))
    }

    /// The application is done with messages of an association that is over.
    fn release_former(&mut self, from: PeerId, count: u64) {
        let Some(peer) = self.find_former(from) else { return };
        peer.held_before = peer.held_before.saturating_sub(count);
        if self.is_over(from.slot) {
            self.timers.set(from.slot * 2, Some(Instant::ZERO));
        }
    }

    fn peer_id(&self, slot: u32) -> PeerId {
        let generation = self.peers.find(slot).map_or(u32::MAX, |peer| peer.generation);
        PeerId { slot, generation }
    }

    fn mark_ready(&mut self, slot: u32) {
        if let Some(peer) = self.peers.find_mut(slot)
            && !peer.is_ready
        {
            peer.is_ready = true;
            self.ready.push_back(slot);
        }
    }

    /// Has the peer told our low-water mark and asked for its reports.
    fn ask_for_report(&mut self, slot: u32) {
        let current = self.peers.find(slot).and_then(|peer| peer.current);
        if let Some(live) = current.and_then(|live| self.lives.find_mut(live)) {
            live.ping_due = true;
            self.mark_ready(slot);
        }
    }

    fn drop_packet(&mut self, reason: DropReason) {
        self.counters.drops.count(reason);
    }

    /// A control buffer for the answer to a stranger. `None`: few are left.
    fn stranger_lease(&self) -> Option<Lease> {
        let has_spare = self.control_pool.available() > CONTROL_BUFFERS_KEPT;
        has_spare.then(|| self.control_pool.take()).flatten()
    }

    /// A control buffer, whole. `None`: all are on their way out.
    fn control_lease(&self) -> Option<Lease> {
        self.control_pool.take()
    }
}

fn explain(error: PushError) -> SendError {
    match error {
        PushError::NoBuffer => SendError::Full(FullReason::Buffers),
        PushError::NoBytes => SendError::Full(FullReason::Bytes),
        PushError::NoPlace => SendError::Full(FullReason::Stream),
        PushError::NoTransaction => SendError::Full(FullReason::Transactions),
        PushError::TooLarge { max } => SendError::TooLarge { max },
    }
}
