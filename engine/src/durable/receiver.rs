//! The receiver's side: whose message it is, its key, and what is left of it.

use std::collections::HashMap;

use super::message::DurableMessage;
use crate::node::{Incoming, Receipt, Remote};
use crate::protocol::endpoint::SessionChange;
use crate::protocol::session::PublicKey;

/// Tells messages from outboxes apart from everything else that a node receives, and splits them.
///
/// The application handles them like this, in this order, and the guarantee of this room is that
/// of its database:
///
/// 1. begin a transaction; if the key is below the mark that is stored for its outbox, or is
///    stored itself, there is nothing to do;
/// 2. else apply the effect and store the key, in this transaction;
/// 3. store the mark, if it is higher than the one stored, and remove the keys below it;
/// 4. commit the transaction, durably; one may hold many messages;
/// 5. [`QueueNode::commit`](crate::QueueNode::commit) each receipt, also those without effect.
#[derive(Default, Debug)]
pub struct DurableReceiver {
    /// Peers with a session, as many as the node has.
    peers: HashMap<Remote, PublicKey>,
}

/// A message from an outbox, as it arrived.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Who sent it.
    pub from: Remote,
    /// Its key and content.
    pub message: DurableMessage<'a>,
    /// What releases "delivered", once the effect is committed.
    pub receipt: Receipt,
}

impl DurableReceiver {
    /// Looks at everything that a [deferring](crate::QueueNode::start_deferring) node receives, in
    /// order. `None`: it is no message from an outbox.
    pub fn handle<'a>(&mut self, incoming: &'a Incoming) -> Option<Received<'a>> {
        match incoming {
            Incoming::Session { peer, change: SessionChange::Opened { key, .. } } => {
                self.peers.insert(*peer, *key);
                None
            }
            Incoming::Session { peer, change: SessionChange::Closed(_) } => {
                self.peers.remove(peer);
                None
            }
            Incoming::Message { from, payload, receipt: Some(receipt), .. } => {
                let sender = self.peers.get(from)?;
                let message = DurableMessage::parse(sender, payload)?;
                Some(Received { from: *from, message, receipt: *receipt })
            }
            _ => None,
        }
    }
}
