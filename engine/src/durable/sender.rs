//! Joins an outbox with a node: what is accepted is sent until it is delivered.

use std::collections::{BTreeSet, HashMap};

use super::message::{HEAD_LEN_MAX, write_head};
use super::outbox::{Outbox, OutboxError};
use crate::node::{Incoming, QueueError, QueueNode, Remote};
use crate::protocol::endpoint::SessionChange;
use crate::protocol::session::PublicKey;
use crate::protocol::transaction::Outcome;
use crate::protocol::wire::ServiceKind;

/// Sends the records of an outbox to one peer, each exactly once if the peer does its part (see
/// the room's page), in the order in which they were accepted; after a session ended, what is not
/// known to be delivered is sent again under the keys it had.
///
/// It has no thread: hand it all that the node receives ([`DurableSender::handle`]), then
/// [`DurableSender::pump`]. It does not open sessions: while it is not
/// [attached](DurableSender::is_attached), connect, or wait for the peer to.
#[derive(Debug)]
pub struct DurableSender<O> {
    outbox: O,
    peer: PublicKey,
    remote: Option<Remote>,
    /// Records under way, by ticket: no more than the queue and the peer's window take.
    in_flight: HashMap<u64, u64>,
    /// Records to send again.
    again: BTreeSet<u64>,
    /// Records that the peer does not take as long as they are; another session may.
    too_large: BTreeSet<u64>,
    /// The first record that was not sent since this process started.
    next: u64,
    message: Vec<u8>,
}

/// A record that is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// Its number.
    pub record: u64,
    /// The reason with which the peer's application refused it; `None`: it was delivered.
    pub refused: Option<u8>,
}

/// What [`DurableSender::handle`] has to tell of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordNews {
    /// It is over.
    Ended(Ended),
    /// It is longer than the peer takes, or than the path carries in segments. The records behind it go
    /// on without it; it is tried again in the next session, unless it is
    /// [abandoned](DurableSender::abandon).
    TooLarge {
        /// Its number.
        record: u64,
        /// Bytes of the largest record that is taken now.
        max: u64,
    },
}

impl<O: Outbox> DurableSender<O> {
    /// Sends what `outbox` holds, and what will be accepted, to the node that holds `peer`.
    pub fn new(outbox: O, peer: PublicKey) -> Self {
        let next = outbox.low();
        Self {
            outbox,
            peer,
            remote: None,
            in_flight: HashMap::new(),
            again: BTreeSet::new(),
            too_large: BTreeSet::new(),
            next,
            message: Vec::new(),
        }
    }

    /// Takes a record and returns its number. It is accepted for good once [`DurableSender::pump`]
    /// returned; a crash before may forget it.
    ///
    /// # Errors
    /// [`OutboxError`]; [`OutboxError::Full`] is normal.
    pub fn accept(&mut self, record: &[u8]) -> Result<u64, OutboxError> {
        self.outbox.append(record)
    }

    /// Uses this session from now on. Also done by [`DurableSender::handle`] when one opens.
    pub fn attach(&mut self, remote: Remote) {
        self.remote = Some(remote);
        self.again.append(&mut self.too_large);
    }

    /// Gives a record up: it is not sent any more, and counts as done, for good once
    /// [`DurableSender::pump`] returned. One that was sent before may have been delivered all the
    /// same. `false`: it is over, or not safe yet.
    ///
    /// # Errors
    /// [`OutboxError::Failed`].
    pub fn abandon(&mut self, record: u64) -> Result<bool, OutboxError> {
        self.again.remove(&record);
        self.too_large.remove(&record);
        self.in_flight.retain(|_, sent| *sent != record);
        self.outbox.done(record)
    }

    /// Whether there is a session to send in.
    pub fn is_attached(&self) -> bool {
        self.remote.is_some()
    }

    /// Whether everything that was accepted is over.
    pub fn is_idle(&self) -> bool {
        self.outbox.low() == self.outbox.end()
    }

    /// The outbox.
    pub fn outbox(&self) -> &O {
        &self.outbox
    }

    /// Looks at what the node received; other peers' news are ignored. `Some`: there is something to tell of a
    /// record.
    ///
    /// # Errors
    /// [`OutboxError::Failed`].
    pub fn handle(&mut self, incoming: &Incoming) -> Result<Option<RecordNews>, OutboxError> {
        match incoming {
            Incoming::Outcome { to, ticket, outcome } => self.on_outcome(*to, *ticket, *outcome),
            Incoming::TooLarge { ticket, max, .. } => {
                // Its outcome, which follows, says no more.
                let Some(record) = self.in_flight.remove(ticket) else { return Ok(None) };
                self.too_large.insert(record);
                let max = max.saturating_sub(HEAD_LEN_MAX as u64);
                Ok(Some(RecordNews::TooLarge { record, max }))
            }
            Incoming::Session { peer, change: SessionChange::Opened { key, .. } } => {
                if *key == self.peer {
                    self.attach(*peer);
                }
                Ok(None)
            }
            // What was sent goes on in the next session.
            Incoming::Session { change: SessionChange::Lost(_), .. } => Ok(None),
            Incoming::Session { peer, .. } => {
                self.detach(*peer);
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Sends nothing more to `from`; the peer may have another name by now.
    fn detach(&mut self, from: Remote) {
        self.remote = self.remote.filter(|remote| *remote != from);
    }

    fn on_outcome(
        &mut self,
        to: Remote,
        ticket: u64,
        outcome: Outcome,
    ) -> Result<Option<RecordNews>, OutboxError> {
        let Some(record) = self.in_flight.remove(&ticket) else { return Ok(None) };
        let refused = match outcome {
            Outcome::Refused(reason) => Some(reason),
            Outcome::Delivered => None,
            Outcome::Indeterminate => {
                self.again.insert(record);
                return Ok(None);
            }
            // The session was gone, or does not take it: nothing more goes into it.
            Outcome::HandlerFailed | Outcome::NotSent | Outcome::Replied | Outcome::Sent => {
                self.again.insert(record);
                self.detach(to);
                return Ok(None);
            }
        };
        self.outbox.done(record)?;
        Ok(Some(RecordNews::Ended(Ended { record, refused })))
    }

    /// Makes what was accepted and done safe, in one go, then sends as much as the node takes.
    /// Returns how many messages that were.
    ///
    /// # Errors
    /// [`OutboxError::Failed`].
    pub fn pump(&mut self, node: &QueueNode) -> Result<usize, OutboxError> {
        self.outbox.sync()?;
        let mut count = 0;
        while let Some(remote) = self.remote
            && let Some(record) = self.take_next()
        {
            write_head(&mut self.message, self.outbox.id(), record, self.outbox.low());
            if !self.outbox.read(record, &mut self.message)? {
                continue; // Done before this process started.
            }
            match node.send(remote, ServiceKind::ExactlyOnce, &self.message) {
                Ok(ticket) => {
                    self.in_flight.insert(ticket, record);
                    count += 1;
                }
                Err(error) => {
                    self.again.insert(record);
                    if !matches!(error, QueueError::Full(_)) {
                        self.remote = None;
                    }
                    break;
                }
            }
        }
        Ok(count)
    }

    /// The lowest record that is to be sent.
    fn take_next(&mut self) -> Option<u64> {
        self.again.pop_first().or_else(|| {
            let record = self.outbox.next_unfinished(self.next);
            self.next = record.map_or_else(|| self.outbox.end(), |record| record + 1);
            record
        })
    }
}
