//! What the application's queue had no room for.
//!
//! It is bounded, also while the application takes nothing at all:
//!
//! - Messages by the credit of their senders, since each holds a place of its sender's window
//!   (PROTOCOL 6.3), and by the number of senders, below.
//! - Gaps by messages: a gap is told when those that waited behind it are handed over.
//! - Outcomes, and what comes before them (replies, and that a message is too large), by what we sent: with as many here as the queue
//!   is deep, no message is accepted any more, and what was accepted before is bounded by places
//!   and windows.
//! - Changes of a session that goes on by the number of peers: of those after the first only the
//!   last is kept, with the address the peer moved to since.
//! - Ends of sessions: with as many here as the queue is deep, no session is opened any more. So a
//!   peer that opens and closes one again and again, for a fresh window each time, has an end too.

use std::collections::VecDeque;

use super::{Incoming, Remote};
use crate::protocol::endpoint::SessionChange;

#[derive(Debug, Default)]
pub(super) struct Backlog {
    entries: VecDeque<Incoming>,
    outcomes: usize,
    ends: usize,
}

/// Whether nothing more is told of the session that a change is of.
fn is_end(change: &SessionChange) -> bool {
    use SessionChange::{Closed, Lost, Moved, Opened, Pending, Refused, TimedOut};
    match change {
        Closed(_) | Refused(_) | TimedOut(_) => true,
        Lost(_) | Moved { .. } | Opened { .. } | Pending { .. } => false,
    }
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Outcomes that wait here.
    pub(super) fn outcomes(&self) -> usize {
        self.outcomes
    }

    /// Sessions of which the end waits here.
    pub(super) fn ends(&self) -> usize {
        self.ends
    }

    pub(super) fn push(&mut self, incoming: Incoming) {
        if let Incoming::Session { peer, change } = &incoming
            && !is_end(change)
        {
            self.forget_changes(*peer, matches!(change, SessionChange::Moved { .. }));
        }
        self.count(&incoming, usize::wrapping_add);
        self.entries.push_back(incoming);
    }

    /// Gives entries to `take`, in order, until it hands one back.
    pub(super) fn offer(&mut self, mut take: impl FnMut(Incoming) -> Option<Incoming>) {
        while let Some(incoming) = self.entries.pop_front() {
            self.count(&incoming, usize::wrapping_sub);
            if let Some(back) = take(incoming) {
                self.count(&back, usize::wrapping_add);
                return self.entries.push_front(back);
            }
        }
    }

    /// All of it.
    pub(super) fn into_entries(self) -> VecDeque<Incoming> {
        self.entries
    }

    fn count(&mut self, incoming: &Incoming, step: fn(usize, usize) -> usize) {
        match incoming {
            Incoming::Outcome { .. } => self.outcomes = step(self.outcomes, 1),
            Incoming::Session { change, .. } if is_end(change) => self.ends = step(self.ends, 1),
            _ => {}
        }
    }

    /// Forgets what the next change of a peer's session makes void: each but the first since the
    /// last end, or only that it moved.
    fn forget_changes(&mut self, peer: Remote, only_moves: bool) {
        let change = |incoming: &Incoming| match incoming {
            Incoming::Session { peer: known, change } if *known == peer => {
                Some((is_end(change), matches!(change, SessionChange::Moved { .. })))
            }
            _ => None,
        };
        let last_end = self.entries.iter().rposition(|entry| change(entry).is_some_and(|it| it.0));
        let begin = last_end.map_or(0, |end| end + 1);
        let mut is_first = true;
        let mut place = begin;
        while let Some(entry) = self.entries.get(place) {
            let is_void = change(entry).is_some_and(|(_, is_move)| {
                !std::mem::take(&mut is_first) && (is_move || !only_moves)
            });
            if is_void {
                self.entries.remove(place);
            } else {
                place += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::super::tests::peers;
    use super::*;
    use crate::protocol::endpoint::CloseReason;
    use crate::protocol::transaction::Outcome;

    fn take_all(backlog: &mut Backlog) -> Vec<String> {
        let mut taken = Vec::new();
        backlog.offer(|incoming| {
            taken.push(match incoming {
                Incoming::Session { change: SessionChange::Moved { address }, .. } => {
                    address.port().to_string()
                }
                Incoming::Session { change, .. } => format!("{change:?}"),
                other => format!("{other:?}"),
            });
            None
        });
        taken
    }

    #[test]
    fn session_that_changes_again_and_again_takes_few_places() {
        let peers = peers(2).into_iter().map(|peer| Remote { shard: 0, peer });
        let [peer, other] = <[Remote; 2]>::try_from(peers.collect::<Vec<_>>()).expect("two");
        let change = |peer, change| Incoming::Session { peer, change };
        let moved =
            |port| SessionChange::Moved { address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)) };
        let lost = || SessionChange::Lost(CloseReason::Idle);
        let mut backlog = Backlog::default();
        backlog.push(change(peer, moved(1)));
        backlog.push(change(other, lost()));
        for port in 2..1_000 {
            backlog.push(change(peer, lost()));
            backlog.push(change(peer, moved(port)));
        }
        assert_eq!(backlog.ends(), 0);
        backlog.push(change(peer, SessionChange::Closed(CloseReason::ByPeer)));
        backlog.push(change(peer, moved(1_000)));
        backlog.push(change(peer, moved(1_001)));
        backlog.push(change(peer, moved(1_002)));
        assert_eq!(backlog.ends(), 1);
        let lost = "Lost(Idle)";
        let expected = ["1", lost, lost, "999", "Closed(ByPeer)", "1000", "1002"];
        assert_eq!(take_all(&mut backlog), expected);
        assert_eq!((backlog.ends(), backlog.is_empty()), (0, true));
    }

    #[test]
    fn entry_that_finds_no_room_stays_and_counts() {
        let to = Remote { shard: 0, peer: peers(1)[0] };
        let mut backlog = Backlog::default();
        for ticket in 0..3 {
            backlog.push(Incoming::Outcome { to, ticket, outcome: Outcome::Sent });
        }
        let mut room = 1;
        backlog.offer(|incoming| {
            room -= 1;
            (room < 0).then_some(incoming)
        });
        assert_eq!(backlog.outcomes(), 2);
        assert_eq!(backlog.into_entries().len(), 2);
    }
}
