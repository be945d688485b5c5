//! The single next deadline over all peers: an indexed binary heap, one entry a peer.

use crate::time::Instant;

/// Not in the heap.
const ABSENT: u32 = u32::MAX;

/// A min-heap of deadlines in which an owner's entry can be moved or removed at any time.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: Vec<(Instant, u32)>,
    /// Where each owner's entry stands.
    places: Vec<Place>,
    /// Owners that were marked since all of them were taken, each once.
    stale: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    /// In the heap.
    at: u32,
    /// Whether the deadline is to be worked out anew.
    is_stale: bool,
    /// Whether the owner stands among the stale ones: it may have been set since.
    is_listed: bool,
}

impl Timers {
    /// Sets or clears the deadline of `owner`, which is then no longer stale.
    pub(super) fn set(&mut self, owner: u32, deadline: Option<Instant>) {
        let place = self.place(owner);
        place.is_stale = false;
        match (place.at, deadline) {
            (ABSENT, None) => {}
            (ABSENT, Some(at)) => {
                self.heap.push((at, owner));
                self.restore(self.heap.len() - 1);
            }
            (place, Some(at)) => {
                let place = place as usize;
                if self.heap[place].0 != at {
                    self.heap[place].0 = at;
                    self.restore(place);
                }
            }
            (place, None) => {
                let place = place as usize;
                self.heap.swap_remove(place);
                self.places[owner as usize].at = ABSENT;
                if place < self.heap.len() {
                    self.restore(place);
                }
            }
        }
    }

    /// Notes that the deadline of `owner` has to be worked out and set again, before the next is
    /// asked for.
    #[inline]
    pub(super) fn mark_stale(&mut self, owner: u32) {
        let place = self.place(owner);
        place.is_stale = true;
        if !std::mem::replace(&mut place.is_listed, true) {
            self.stale.push(owner);
        }
    }

    /// An owner whose deadline is to be set, unless it was since it was marked.
    #[inline]
    pub(super) fn take_stale(&mut self) -> Option<u32> {
        while let Some(owner) = self.stale.pop() {
            let place = self.place(owner);
            place.is_listed = false;
            if std::mem::take(&mut place.is_stale) {
                return Some(owner);
            }
        }
        None
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.first().map(|entry| entry.0)
    }

    /// The owner of the earliest deadline, if that is not after `now`. The deadline stays.
    pub(super) fn due(&self, now: Instant) -> Option<u32> {
        self.heap.first().filter(|entry| entry.0 <= now).map(|entry| entry.1)
    }

    #[inline]
    fn place(&mut self, owner: u32) -> &mut Place {
        let owner = owner as usize;
        if self.places.len() <= owner {
            let nowhere = Place { at: ABSENT, is_stale: false, is_listed: false };
            self.places.resize(owner + 1, nowhere);
        }
        &mut self.places[owner]
    }

    /// Moves the entry at `place` to where it belongs, and notes where each moved one stands.
    fn restore(&mut self, mut place: usize) {
        while place > 0 && self.heap[place] < self.heap[(place - 1) / 2] {
            let parent = (place - 1) / 2;
            self.heap.swap(place, parent);
            self.note(place);
            place = parent;
        }
        loop {
            let left = 2 * place + 1;
            let Some(least) = (left..self.heap.len().min(left + 2)).min_by_key(|&i| self.heap[i])
            else {
                break;
            };
            if self.heap[place] <= self.heap[least] {
                break;
            }
            self.heap.swap(place, least);
            self.note(place);
            place = least;
        }
        self.note(place);
    }

    fn note(&mut self, place: usize) {
        let owner = self.heap[place].1;
        self.places[owner as usize].at = u32::try_from(place).expect("fewer owners than 2^32");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn heap_yields_the_same_next_deadline_as_a_sorted_map(
            ops in prop::collection::vec((0u32..20, prop::option::of(1u64..50)), 1..200),
        ) {
            let (mut timers, mut twin) = (Timers::default(), BTreeMap::new());
            for (owner, at) in ops {
                let at = at.map(Instant::from_nanos);
                timers.set(owner, at);
                match at {
                    Some(at) => { twin.insert(owner, at); }
                    None => { twin.remove(&owner); }
                }
                let least = twin.values().min().copied();
                prop_assert_eq!(timers.next(), least);
                if let Some(at) = least {
                    let owner = timers.due(at).unwrap();
                    prop_assert_eq!(twin[&owner], at);
                    prop_assert_eq!(timers.due(at - crate::time::Duration::from_nanos(1)).is_some(),
                        false);
                }
            }
        }

        #[test]
        fn stale_are_those_marked_and_not_set_since(
            ops in prop::collection::vec((0u32..8, 0u8..8), 1..100),
        ) {
            let (mut timers, mut twin) = (Timers::default(), BTreeSet::new());
            for (owner, op) in ops {
                match op {
                    0 => {
                        let mut taken = BTreeSet::new();
                        while let Some(owner) = timers.take_stale() {
                            prop_assert!(taken.insert(owner), "{} was taken twice", owner);
                        }
                        prop_assert_eq!(std::mem::take(&mut twin), taken);
                    }
                    1 | 2 => {
                        timers.set(owner, (op == 1).then_some(Instant::ZERO));
                        twin.remove(&owner);
                    }
                    _ => {
                        timers.mark_stale(owner);
                        twin.insert(owner);
                        prop_assert!(timers.stale.len() <= 8, "an owner is listed twice");
                    }
                }
            }
        }
    }
}
