//! The application's side of a shard.

use std::net::SocketAddr;
use std::ops::Range;

use crate::protocol::endpoint::{
    Burst, ConnectError, Deferred, Endpoint, MemoryStatistics, MessageKey, Messages,
    PathStatistics, PeerId, SendError, SessionChange,
};
use crate::protocol::session::PublicKey;
use crate::protocol::transaction::{
    Outbound, RefuseReason, Resolved, SendOptions, Stream, features,
};
use crate::protocol::wire::ServiceKind;
use crate::time::Instant;

/// A message, borrowed from the buffer it arrived in.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Who sent it.
    pub peer: PeerId,
    /// Its service level.
    pub service: ServiceKind,
    /// Its transaction, in its initiator's numbering.
    pub transaction: u64,
    /// Whether it replies to a request of ours.
    pub is_reply: bool,
    /// The ordered stream it belongs to and its place in it, from 0, in level sequence.
    pub sequence: Option<(Stream, u64)>,
    /// What the application at the other end sent.
    pub payload: &'a [u8],
}

/// The messages of one packet, borrowed: what tells of them all is looked up once. Of a message that
/// came in segments, or waited for its turn in a stream, the packet is the one that completed it.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a>(&'a Messages);

impl<'a> Batch<'a> {
    pub(super) const fn new(messages: &'a Messages) -> Self {
        Self(messages)
    }

    /// Who sent them.
    pub fn peer(&self) -> PeerId {
        self.0.peer()
    }

    /// Their service level.
    pub fn service(&self) -> ServiceKind {
        self.0.service()
    }

    /// Whether they reply to requests of ours.
    pub fn is_reply(&self) -> bool {
        self.0.is_reply()
    }

    /// The messages in the order of their transactions, at least one.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = Message<'a>> + use<'a> {
        let messages = self.0;
        let (peer, service) = (messages.peer(), messages.service());
        let (is_reply, first) = (messages.is_reply(), messages.first());
        let stream = (service == ServiceKind::Sequence).then(|| messages.stream());
        messages.iter().map(move |(transaction, payload)| {
            let sequence = stream.map(|(stream, index)| (stream, index + transaction - first));
            Message { peer, service, transaction, is_reply, sequence, payload }
        })
    }
}

/// A piece of a message longer than [`Config::whole_len_max`](crate::Config), borrowed. The pieces
/// of a message come in order and without gaps; those of several messages may alternate.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// Who sent it.
    pub peer: PeerId,
    /// The message's service level.
    pub service: ServiceKind,
    /// The message's transaction, in its initiator's numbering.
    pub transaction: u64,
    /// Whether the message replies to a request of ours.
    pub is_reply: bool,
    /// Length of the whole message in bytes.
    pub total: usize,
    /// Where this piece begins in the message.
    pub offset: usize,
    /// The piece.
    pub payload: &'a [u8],
}

/// What a handler answers to: the [`Message`] that it has at hand, or a [`Piece`] of one.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    peer: PeerId,
    service: ServiceKind,
    transaction: u64,
    is_reply: bool,
    /// The whole message is there.
    is_complete: bool,
}

impl From<&Message<'_>> for Origin {
    fn from(message: &Message<'_>) -> Self {
        let Message { peer, service, transaction, is_reply, .. } = *message;
        Self { peer, service, transaction, is_reply, is_complete: true }
    }
}

impl From<&Piece<'_>> for Origin {
    fn from(piece: &Piece<'_>) -> Self {
        let Piece { peer, service, transaction, is_reply, .. } = *piece;
        Self { peer, service, transaction, is_reply, is_complete: piece.is_last() }
    }
}

impl Piece<'_> {
    /// Whether the message ends with it.
    pub fn is_last(&self) -> bool {
        self.offset + self.payload.len() == self.total
    }
}

/// What an application does on a shard's own thread. Every method must return soon: nothing else
/// happens on this core meanwhile.
pub trait Handler {
    /// Called once, before the first [`Handler::on_turn`].
    fn on_start(&mut self, context: &mut Context<'_>) {
        let _ = context;
    }

    /// Called for each message, in the turn that received it. A message counts as delivered once
    /// this returns, unless it was [refused](Context::refuse).
    fn on_message(&mut self, context: &mut Context<'_>, message: Message<'_>);

    /// Called with the messages of each packet: calls [`Handler::on_message`] for one after the other,
    /// which a handler of many small messages may do with less work for each. They count as delivered
    /// once this returns.
    #[inline]
    fn on_batch(&mut self, context: &mut Context<'_>, batch: Batch<'_>) {
        for message in batch.iter() {
            self.on_message(context, message);
        }
    }

    /// Called for each piece of a message that is longer than what is handed over whole. With the
    /// [last](Piece::is_last) one the message counts as delivered, unless it was
    /// [refused](Context::refuse), at that piece or one before, or is then
    /// [deferred](Context::defer): a handler of a node whose
    /// [`Config::whole_len_max`](crate::Config::whole_len_max) is lowered has to take them.
    fn on_piece(&mut self, context: &mut Context<'_>, piece: Piece<'_>) {
        let _ = (context, piece);
    }

    /// Called when a message of which pieces were handed over will not be completed: its sender
    /// gave it up.
    fn on_abandoned(
        &mut self,
        context: &mut Context<'_>,
        peer: PeerId,
        transaction: u64,
        is_reply: bool,
    ) {
        let _ = (context, peer, transaction, is_reply);
    }

    /// Called when the messages at these places of a lossy stream will not come any more, before
    /// those that follow are handed over.
    fn on_gap(
        &mut self,
        context: &mut Context<'_>,
        peer: PeerId,
        stream: Stream,
        missing: Range<u64>,
    ) {
        let _ = (context, peer, stream, missing);
    }

    /// Called when transactions of ours ended.
    fn on_outcome(&mut self, context: &mut Context<'_>, peer: PeerId, resolved: Resolved) {
        let _ = (context, peer, resolved);
    }

    /// Called when the relation with a peer changed.
    fn on_session(&mut self, context: &mut Context<'_>, peer: PeerId, change: SessionChange) {
        let _ = (context, peer, change);
    }

    /// Called once a turn, after everything that arrived was handed over.
    fn on_turn(&mut self, context: &mut Context<'_>) {
        let _ = context;
    }
}

/// What a handler can do while it runs.
#[derive(Debug)]
pub struct Context<'a> {
    endpoint: &'a mut Endpoint,
    now: Instant,
    shard: usize,
    wake_at: &'a mut Option<Instant>,
    is_stopped: &'a mut bool,
}

impl<'a> Context<'a> {
    pub(super) fn new(
        endpoint: &'a mut Endpoint,
        now: Instant,
        shard: usize,
        wake_at: &'a mut Option<Instant>,
        is_stopped: &'a mut bool,
    ) -> Self {
        Self { endpoint, now, shard, wake_at, is_stopped }
    }

    /// Opens a session with the node at `address` that holds `key`.
    ///
    /// # Errors
    /// [`ConnectError`]; nothing was sent.
    pub fn connect(&mut self, address: SocketAddr, key: PublicKey) -> Result<PeerId, ConnectError> {
        self.endpoint.connect(self.now, address, key)
    }

    /// Sends a message; returns its transaction number. It is on its way when the turn ends.
    /// `options` may be a service level alone. A message that does not fit a packet travels in
    /// segments; to spare it the copy of the whole, give it as [`Outbound::Shared`].
    ///
    /// # Errors
    /// [`SendError`]; the message was not taken. [`SendError::Full`] is normal: offer it again
    /// in a later turn.
    pub fn send<'p>(
        &mut self,
        to: PeerId,
        options: impl Into<SendOptions>,
        payload: impl Into<Outbound<'p>>,
    ) -> Result<u64, SendError> {
        self.endpoint.send(self.now, to, &options.into(), payload.into())
    }

    /// As [`Context::send`], for a message of `len` bytes that `write` writes into the buffer from
    /// which it leaves: its payload is copied nowhere before it is sealed. `write` is called once, or
    /// not at all if the message is not taken. It has to write every byte: what it leaves out is
    /// sent as it lies there, which may be a part of an older message.
    ///
    /// # Errors
    /// [`SendError`]; the message was not taken, and `write` was not called.
    pub fn send_with(
        &mut self,
        to: PeerId,
        options: impl Into<SendOptions>,
        len: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> Result<u64, SendError> {
        self.endpoint.send_with(self.now, to, &options.into(), len, write)
    }

    /// Has `send` send messages to one peer, as many as it likes, for less than as many calls of
    /// [`Context::send`]: what holds for all of them is looked at once. Those that are not taken
    /// are told one by one, too.
    ///
    /// ```
    /// # fn offer(context: &mut raet::Context<'_>, peer: raet::PeerId, lines: &[&[u8]]) -> usize {
    /// context.burst(peer, raet::Service::ExactlyOnce, |burst| {
    ///     lines.iter().take_while(|line| burst.send(**line).is_ok()).count()
    /// })
    /// # }
    /// ```
    pub fn burst<R>(
        &mut self,
        to: PeerId,
        options: impl Into<SendOptions>,
        send: impl FnOnce(&mut Burst<'_>) -> R,
    ) -> R {
        self.endpoint.burst(self.now, to, options.into(), send)
    }

    /// Replies to the request `transaction` of `to`, now or in a later turn.
    ///
    /// Which requests wait for their reply is the caller's to know: nothing here keeps a list of
    /// them. A reply to what is no request, or a second one, is `Ok`, too: it holds memory, as any
    /// reply does, until its packet is acknowledged or the peer says that it is done with the
    /// transaction, and the peer hands it to nobody.
    ///
    /// # Errors
    /// [`SendError`]; the reply was not taken and is still owed.
    pub fn reply<'p>(
        &mut self,
        to: PeerId,
        transaction: u64,
        payload: impl Into<Outbound<'p>>,
    ) -> Result<(), SendError> {
        self.endpoint.reply(self.now, to, transaction, payload.into())
    }

    /// Refuses the message at hand, also one of which not all pieces came: its sender learns
    /// `reason` instead of its delivery. At any [`Piece`], nothing more of the message is handed
    /// over, and its sender stops sending what is left of it. `false`: nobody will hear of it,
    /// because the session is gone, its sender has given the message up (which
    /// [`Handler::on_abandoned`] tells of one in pieces), or it is a reply: its request can be
    /// [cancelled](Context::cancel).
    pub fn refuse(&mut self, message: impl Into<Origin>, reason: RefuseReason) -> bool {
        let Origin { peer, transaction, is_reply, .. } = message.into();
        !is_reply && self.endpoint.refuse(peer, transaction, reason)
    }

    /// Takes the message at hand without letting it count as delivered yet: its sender need not
    /// send it again, and is told that it was delivered after [`Context::commit`]. If this process
    /// or the session ends first, the sender never is. A message in pieces is deferred with its
    /// [last](Piece::is_last) one. `None`: it is a piece before, or its level is not reported on, or
    /// is done only with a reply.
    pub fn defer(&mut self, message: impl Into<Origin>) -> Option<Deferred> {
        let Origin { peer, service, transaction, is_complete, .. } = message.into();
        let row = features(service);
        let can_wait = is_complete && row.ack && !row.reply;
        can_wait.then(|| self.endpoint.defer(peer, transaction))?
    }

    /// A message that was [deferred](Context::defer) is done: its sender is told so. `false`: the
    /// association with its sender is over, and nobody is told.
    pub fn commit(&mut self, deferred: Deferred) -> bool {
        self.endpoint.commit(deferred)
    }

    /// Refuses a message that was [deferred](Context::defer), in place of its commit: its sender
    /// learns `reason`. `false`: it was committed or settled before, or the association with its
    /// sender is over, and nobody is told.
    pub fn refuse_deferred(&mut self, deferred: Deferred, reason: RefuseReason) -> bool {
        self.endpoint.refuse_deferred(deferred, reason)
    }

    /// Keeps `count` messages of `peer` in the application's memory: its credit stands still for
    /// as many until they are [released](Context::release).
    pub fn hold(&mut self, peer: PeerId, count: u64) {
        self.endpoint.hold(peer, count);
    }

    /// Is done with `count` messages that were held.
    pub fn release(&mut self, peer: PeerId, count: u64) {
        self.endpoint.release(peer, count);
    }

    /// Ends the request at hand, or one taken before, without a reply: what it asks could not be
    /// done, and its sender learns so. `false` as for [`Context::refuse`].
    pub fn fail(&mut self, peer: PeerId, transaction: u64) -> bool {
        self.endpoint.fail(peer, transaction)
    }

    /// Refuses the request at hand, or one taken before, in place of a reply: its sender learns
    /// `reason`. `false` as for [`Context::refuse`].
    pub fn refuse_request(&mut self, peer: PeerId, transaction: u64, reason: RefuseReason) -> bool {
        self.endpoint.refuse_request(peer, transaction, reason)
    }

    /// Takes back a message of ours: it does not leave any more, and no reply is awaited. Its
    /// outcome follows: [`Outcome::NotSent`](crate::Outcome::NotSent) if it never left,
    /// [`Outcome::Indeterminate`](crate::Outcome::Indeterminate) otherwise. `false`: it has an
    /// outcome already, or stands in a stream that promises no gap.
    pub fn cancel(&mut self, peer: PeerId, transaction: u64) -> bool {
        self.endpoint.cancel(peer, transaction)
    }

    /// What names a message for good, so that the application can tell a second delivery: the same
    /// at each of its pieces. `None`: it is a reply, which our request names, or the association with
    /// its sender is over.
    pub fn message_key(&self, message: impl Into<Origin>) -> Option<MessageKey> {
        let Origin { peer, transaction, is_reply, .. } = message.into();
        (!is_reply).then(|| self.endpoint.message_key(peer, transaction))?
    }

    /// What the receiver of a message of ours knows it by: the
    /// [key](Context::message_key) that its handler gets. `None`: the association with it is over, or
    /// no such message was sent in it.
    pub fn sent_key(&self, to: PeerId, transaction: u64) -> Option<MessageKey> {
        self.endpoint.sent_key(to, transaction)
    }

    /// Has messages that linger for company leave with this turn. Returns how many sends to the
    /// peer have no outcome yet.
    pub fn flush(&mut self, peer: PeerId) -> u64 {
        self.endpoint.flush(peer)
    }

    /// Closes the session with a peer as soon as every send has its outcome and every reply was
    /// acknowledged, or at `deadline`. Nothing new is taken until then; what has no outcome at the
    /// deadline gets one before [`Handler::on_session`] tells of the end.
    pub fn drain(&mut self, peer: PeerId, deadline: Instant) {
        self.endpoint.drain(self.now, peer, deadline);
    }

    /// [Drains](Context::drain) every session, takes no new ones, and ends the shard's loop after
    /// the last.
    pub fn drain_all(&mut self, deadline: Instant) {
        self.endpoint.drain_all(self.now, deadline);
    }

    /// Closes the session with a peer. What is outstanding ends as indeterminate.
    pub fn close(&mut self, peer: PeerId) {
        self.endpoint.close(self.now, peer);
    }

    /// Asks for a turn at `at`, even if nothing arrives. The earliest wish counts.
    pub fn wake_at(&mut self, at: Instant) {
        *self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
    }

    /// Ends the shard's loop after this turn: every session is closed, and how the last sends ended
    /// is told, as [`Handler::on_outcome`] does.
    pub fn stop(&mut self) {
        *self.is_stopped = true;
    }

    /// The time of this turn.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The shard's index, from zero.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// Transactions outstanding towards a peer.
    pub fn outstanding(&self, peer: PeerId) -> u64 {
        self.endpoint.outstanding(peer)
    }

    /// Largest message, in bytes, that a peer takes with these options.
    ///
    /// # Errors
    /// [`SendError::NotConnected`].
    pub fn message_len_max(
        &self,
        peer: PeerId,
        options: impl Into<SendOptions>,
    ) -> Result<u64, SendError> {
        self.endpoint.message_len_max(peer, &options.into())
    }

    /// Largest message, in bytes, that one packet to a peer carries now.
    ///
    /// # Errors
    /// [`SendError::NotConnected`].
    pub fn packet_message_len_max(&self, peer: PeerId) -> Result<usize, SendError> {
        self.endpoint.packet_message_len_max(peer)
    }

    /// Where the path to a peer stands.
    pub fn path(&self, peer: PeerId) -> Option<PathStatistics> {
        self.endpoint.path(peer)
    }

    /// Memory that messages from and to a peer occupy, with its bounds.
    pub fn memory(&self, peer: PeerId) -> Option<MemoryStatistics> {
        self.endpoint.memory(peer)
    }
}
