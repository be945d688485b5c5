//! How many messages may wait between the application's threads and a shard, peer by peer.
//!
//! A peer that takes nothing must not use up what the others need. So a message takes a place
//! before it is queued, in the thread that offers it, and gives it back when the endpoint has it
//! or it ends. A peer may have taken as many places as it leaves free (the dynamic threshold of
//! switch buffers), and one in any case. There are twice `depth` of them. Hence a peer alone has
//! `depth`; of several that take nothing each has the less the more they are; one that has none
//! always gets one; and all together never have more than twice `depth` and one for each peer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::protocol::endpoint::{FullReason, PeerId};

/// Places for messages of one kind to the peers of one shard.
#[derive(Debug)]
pub(super) struct Room {
    places: usize,
    taken: Arc<AtomicUsize>,
    peers: RwLock<HashMap<PeerId, Arc<PeerRoom>>>,
}

/// What one peer has of a room.
#[derive(Debug)]
pub(super) struct PeerRoom {
    taken: AtomicUsize,
    taken_by_all: Arc<AtomicUsize>,
    /// Why the first of its messages waits, if it does.
    stall: Mutex<Option<FullReason>>,
}

/// A place that was taken; dropped, it is given back.
#[derive(Debug)]
pub(super) struct Place(Arc<PeerRoom>);

impl Room {
    pub(super) fn new(depth: usize) -> Self {
        Self { places: 2 * depth, taken: Arc::default(), peers: RwLock::default() }
    }

    /// Counts a peer's messages from now on.
    pub(super) fn open(&self, peer: PeerId) -> Arc<PeerRoom> {
        let room = || {
            let taken_by_all = Arc::clone(&self.taken);
            Arc::new(PeerRoom { taken: AtomicUsize::new(0), taken_by_all, stall: Mutex::default() })
        };
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(peers.entry(peer).or_insert_with(room))
    }

    /// Forgets a peer. What it has taken is given back as it was taken.
    pub(super) fn close(&self, peer: PeerId) {
        self.peers.write().unwrap_or_else(PoisonError::into_inner).remove(&peer);
    }

    /// Takes a place for a message to `peer`. None is needed if the shard does not know the peer:
    /// nothing waits for it.
    ///
    /// # Errors
    /// It has as many as it may; and why it waits, if the shard has found out.
    pub(super) fn take(&self, peer: PeerId) -> Result<Option<Place>, Option<FullReason>> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        let Some(room) = peers.get(&peer) else { return Ok(None) };
        let by_all = room.taken_by_all.fetch_add(1, Ordering::Relaxed);
        let own = room.taken.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(room));
        if own == 0 || own + by_all < self.places { Ok(Some(place)) } else { Err(room.stall()) }
    }
}

impl PeerRoom {
    /// Says why the first message waits, or that it does not.
    pub(super) fn set_stall(&self, reason: Option<FullReason>) {
        *self.stall.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    fn stall(&self) -> Option<FullReason> {
        *self.stall.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
        self.0.taken_by_all.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::peers;
    use super::*;

    fn fill(room: &Room, peer: PeerId) -> Vec<Place> {
        std::iter::from_fn(|| room.take(peer).ok().flatten()).collect()
    }

    #[test]
    fn peer_alone_has_the_depth_and_each_that_comes_later_less() {
        let (room, peers) = (Room::new(12), peers(4));
        peers.iter().for_each(|peer| drop(room.open(*peer)));
        let places: Vec<_> = peers.iter().map(|peer| fill(&room, *peer)).collect();
        assert_eq!(places.iter().map(Vec::len).collect::<Vec<_>>(), [12, 6, 3, 2]);
        drop(places);
        assert_eq!(fill(&room, peers[3]).len(), 12);
    }

    #[test]
    fn peer_that_has_no_place_left_says_why_it_waits_and_a_strange_one_needs_none() {
        let (room, peers) = (Room::new(1), peers(2));
        assert!(matches!(room.take(peers[0]), Ok(None)));
        let known = room.open(peers[0]);
        let _place = room.take(peers[0]).expect("the first is always free");
        assert!(matches!(room.take(peers[0]), Err(None)));
        known.set_stall(Some(FullReason::Stream));
        assert!(matches!(room.take(peers[0]), Err(Some(FullReason::Stream))));
        room.close(peers[0]);
        assert!(matches!(room.take(peers[0]), Ok(None)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn who_has_none_gets_one_and_all_have_no_more_than_there_are(
            depth in 1_usize..20,
            steps in prop::collection::vec((0_usize..8, any::<bool>()), 1..400),
        ) {
            let (room, peers) = (Room::new(depth), peers(8));
            peers.iter().for_each(|peer| drop(room.open(*peer)));
            let mut places: Vec<Vec<Place>> = peers.iter().map(|_| Vec::new()).collect();
            for (peer, takes) in steps {
                if takes {
                    let is_first = places[peer].is_empty();
                    let place = room.take(peers[peer]);
                    prop_assert!(place.is_ok() || !is_first);
                    places[peer].extend(place.ok().flatten());
                } else {
                    places[peer].pop();
                }
                let all: usize = places.iter().map(Vec::len).sum();
                prop_assert!(all <= 2 * depth + peers.len());
                prop_assert!(places.iter().all(|own| own.len() <= depth));
                prop_assert_eq!(all, room.taken.load(Ordering::Relaxed));
            }
        }
    }
}
