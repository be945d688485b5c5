//! A table of things with stable small numbers, and generations so that an old name finds nothing.

/// Slots that are reused; a generation counts the uses. Each thing has memory of its own: a table
/// of kilobytes each would be moved as a whole when it grows, and keep room for as many again.
#[derive(Debug)]
pub(super) struct Slots<T> {
    entries: Vec<(u32, Option<Box<T>>)>,
    free: Vec<u32>,
}

impl<T> Slots<T> {
    pub(super) const fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }

    /// Stores `value`; returns its slot and generation.
    pub(super) fn insert(&mut self, value: T) -> (u32, u32) {
        let value = Box::new(value);
        if let Some(slot) = self.free.pop() {
            let entry = &mut self.entries[slot as usize];
            entry.1 = Some(value);
            return (slot, entry.0);
        }
        let slot = u32::try_from(self.entries.len()).expect("fewer entries than 2^32");
        self.entries.push((0, Some(value)));
        (slot, 0)
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<T> {
        let entry = self.entries.get_mut(slot as usize)?;
        let value = entry.1.take()?;
        entry.0 = entry.0.wrapping_add(1);
        self.free.push(slot);
        Some(*value)
    }

    pub(super) fn find_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.entries.get_mut(slot as usize)?.1.as_deref_mut()
    }

    pub(super) fn find(&self, slot: u32) -> Option<&T> {
        self.entries.get(slot as usize)?.1.as_deref()
    }

    /// Gives what lies in a slot another generation: its old name finds nothing any more.
    pub(super) fn rename(&mut self, slot: u32) -> u32 {
        let entry = &mut self.entries[slot as usize];
        entry.0 = entry.0.wrapping_add(1);
        entry.0
    }

    /// How often the slot was used or renamed before.
    pub(super) fn generation(&self, slot: u32) -> u32 {
        self.entries[slot as usize].0
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0u32..).zip(&self.entries).filter_map(|(slot, entry)| Some((slot, entry.1.as_deref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_is_used_again_under_another_generation() {
        let mut slots = Slots::new();
        let first = slots.insert('a');
        assert_eq!(slots.remove(first.0), Some('a'));
        assert_eq!(slots.remove(first.0), None);
        let second = slots.insert('b');
        assert_eq!(first.0, second.0);
        assert_ne!(first.1, second.1);
        assert_eq!((slots.len(), slots.find(second.0)), (1, Some(&'b')));
    }
}
