//! Which packet leaves next, of all that wait for one peer.
//!
//! Three classes share the path by weight: a class that has used its share of a round waits until
//! the others have had theirs or have nothing. Within a class what was lost goes before what is
//! new, and messages in segments take turns with everything else, so that a large one never
//! stands before a small one for longer than a few packets.

use std::collections::VecDeque;

use super::options::Priority;
use super::unit::UnitId;
use crate::limits::{OUTBOX_QUEUES_START, PRIORITY_WEIGHTS};

/// Units that wait for their turn, by priority.
#[derive(Debug)]
pub(super) struct Schedule {
    classes: [Class; Priority::ALL.len()],
    /// Entries of all queues: asked for with each packet.
    len: usize,
}

/// Has a queue take the memory that it mostly needs when its first entry comes.
#[inline]
pub(super) fn take_first_memory<T>(queue: &mut VecDeque<T>) {
    #[cold]
    fn take<T>(queue: &mut VecDeque<T>) {
        queue.reserve_exact(OUTBOX_QUEUES_START);
    }
    if queue.capacity() == 0 {
        take(queue);
    }
}

#[derive(Debug)]
struct Class {
    /// Units to send again.
    again: VecDeque<UnitId>,
    /// Closed units that have not left yet, and units in segments as long as one waits.
    fresh: VecDeque<UnitId>,
    /// Packets that this class may still send in this round.
    share: u32,
}

impl Class {
    fn is_empty(&self) -> bool {
        self.again.is_empty() && self.fresh.is_empty()
    }
}

impl Schedule {
    /// Nothing waits, and no memory is taken: an association may never send.
    pub(super) fn new() -> Self {
        let class = || Class { again: VecDeque::new(), fresh: VecDeque::new(), share: 0 };
        Self { classes: [class(), class(), class()], len: 0 }
    }

    /// A new unit waits.
    pub(super) fn push(&mut self, priority: Priority, id: UnitId) {
        let class = &mut self.classes[priority as usize];
        take_first_memory(&mut class.fresh);
        // What leaves may be lost, and a loss is no time to ask for memory.
        take_first_memory(&mut class.again);
        class.fresh.push_back(id);
        self.len += 1;
    }

    /// A unit waits to be sent again.
    pub(super) fn push_again(&mut self, priority: Priority, id: UnitId) {
        self.classes[priority as usize].again.push_back(id);
        self.len += 1;
    }

    /// Returns the unit that [`Schedule::pop`] took away last and for which its class was charged.
    pub(super) fn put_back(&mut self, priority: Priority, id: UnitId) {
        self.classes[priority as usize].again.push_front(id);
        self.len += 1;
        self.refund(priority);
    }

    /// The class whose turn it is, of those that are at least as urgent as `least`. `None`: none of
    /// them waits.
    pub(super) fn turn(&mut self, least: Priority) -> Option<Priority> {
        let classes = &mut self.classes[..=least as usize];
        let mut first = None;
        for (class, priority) in classes.iter().zip(Priority::ALL) {
            if !class.is_empty() {
                if class.share > 0 {
                    return Some(priority);
                }
                first = first.or(Some(priority));
            }
        }
        if first.is_some() {
            for (class, weight) in classes.iter_mut().zip(PRIORITY_WEIGHTS) {
                class.share = weight;
            }
        }
        first
    }

    /// The first unit of a class, which stays, and whether it is one to send again.
    pub(super) fn first(&self, priority: Priority) -> Option<(UnitId, bool)> {
        let class = &self.classes[priority as usize];
        let again = class.again.front().map(|&id| (id, true));
        again.or_else(|| class.fresh.front().map(|&id| (id, false)))
    }

    /// Takes away what [`Schedule::first`] names.
    pub(super) fn pop(&mut self, priority: Priority) {
        let class = &mut self.classes[priority as usize];
        let taken = class.again.pop_front().or_else(|| class.fresh.pop_front());
        self.len -= usize::from(taken.is_some());
    }

    /// Lets the first unit of a class stand behind the others of its class.
    pub(super) fn rotate(&mut self, priority: Priority) {
        let fresh = &mut self.classes[priority as usize].fresh;
        if fresh.len() > 1 {
            fresh.rotate_left(1);
        }
    }

    /// A packet of a class leaves.
    pub(super) fn charge(&mut self, priority: Priority) {
        let share = &mut self.classes[priority as usize].share;
        *share = share.saturating_sub(1);
    }

    /// The packet for which a class was charged last does not leave.
    pub(super) fn refund(&mut self, priority: Priority) {
        self.classes[priority as usize].share += 1;
    }

    /// Whether nothing of this priority waits.
    pub(super) fn is_idle(&self, priority: Priority) -> bool {
        self.classes[priority as usize].is_empty()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits at all.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn clear(&mut self) {
        for class in &mut self.classes {
            class.again.clear();
            class.fresh.clear();
        }
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::super::unit::Direction;
    use super::*;

    fn id(index: u64) -> UnitId {
        UnitId { direction: Direction::Own, index }
    }

    #[test]
    fn classes_share_by_weight_and_none_starves() {
        // PROTOCOL 6.20
        let mut schedule = Schedule::new();
        for priority in Priority::ALL {
            schedule.push(priority, id(priority as u64));
        }
        let mut left = [0_u32; 3];
        for _ in 0..210 {
            let priority = schedule.turn(Priority::Bulk).unwrap();
            schedule.charge(priority);
            left[priority as usize] += 1;
        }
        assert_eq!(left, [160, 40, 10]);
    }

    #[test]
    fn class_without_competition_has_the_path_to_itself() {
        let mut schedule = Schedule::new();
        schedule.push(Priority::Bulk, id(0));
        for _ in 0..100 {
            assert_eq!(schedule.turn(Priority::Bulk), Some(Priority::Bulk));
            schedule.charge(Priority::Bulk);
        }
        schedule.push(Priority::Urgent, id(1));
        assert_eq!(schedule.turn(Priority::Bulk), Some(Priority::Urgent));
    }

    #[test]
    fn only_what_is_urgent_enough_has_a_turn() {
        let mut schedule = Schedule::new();
        schedule.push(Priority::Normal, id(0));
        assert_eq!(schedule.turn(Priority::Urgent), None);
        assert_eq!(schedule.turn(Priority::Normal), Some(Priority::Normal));
        schedule.push(Priority::Urgent, id(1));
        for _ in 0..100 {
            assert_eq!(schedule.turn(Priority::Urgent), Some(Priority::Urgent));
            schedule.charge(Priority::Urgent);
        }
    }

    #[test]
    fn what_was_lost_goes_before_what_is_new() {
        let mut schedule = Schedule::new();
        schedule.push(Priority::Normal, id(1));
        schedule.push_again(Priority::Normal, id(0));
        assert_eq!(schedule.first(Priority::Normal), Some((id(0), true)));
        schedule.pop(Priority::Normal);
        assert_eq!(schedule.first(Priority::Normal), Some((id(1), false)));
        schedule.pop(Priority::Normal);
        assert_eq!(schedule.turn(Priority::Bulk), None);
    }
}
