//! Memory for messages larger than a datagram: taken by length, given back for the next one.
//!
//! Pages that were touched once are worth keeping: a fresh page costs the kernel more than the
//! copy that fills it. So a block that is dropped goes to a list of spare ones, up to a bound.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use crate::limits::{BLOCKS_SPARE_LEN, BLOCKS_SPARE_MAX};

/// Where blocks come from and go back to. Clones share it.
#[derive(Clone, Debug)]
pub struct Blocks(Rc<RefCell<Store>>);

#[derive(Debug)]
struct Store {
    /// Blocks that wait to be used again, and their bytes.
    spare: Vec<Vec<u8>>,
    spare_len: usize,
    /// Bytes of blocks in use, and when there are too many.
    used: usize,
    limit: usize,
}

/// Bytes of one message.
#[derive(Debug)]
pub struct Block {
    bytes: Vec<u8>,
    len: usize,
    home: Blocks,
}

impl Blocks {
    /// Blocks of which [`Blocks::try_take`] has `limit` bytes in use at most.
    pub fn new(limit: usize) -> Self {
        let store = Store { spare: Vec::new(), spare_len: 0, used: 0, limit };
        Self(Rc::new(RefCell::new(store)))
    }

    /// A block of `len` bytes, whose content is whatever it was. `None`: too many are in use.
    pub fn try_take(&self, len: usize) -> Option<Block> {
        let store = self.0.borrow();
        let has_room = len <= store.limit.saturating_sub(store.used);
        drop(store);
        has_room.then(|| self.take(len))
    }

    /// As [`Blocks::try_take`], however many are in use.
    pub fn take(&self, len: usize) -> Block {
        let mut store = self.0.borrow_mut();
        // Neither too small nor such a waste that a large message would miss it.
        let fits = |bytes: &Vec<u8>| bytes.len() >= len && bytes.len() / 2 <= len;
        let bytes = match store.spare.iter().rposition(fits) {
            Some(place) => {
                let bytes = store.spare.swap_remove(place);
                store.spare_len -= bytes.len();
                bytes
            }
            None => vec![0; len],
        };
        store.used += len;
        Block { bytes, len, home: self.clone() }
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.0.borrow().used
    }

    /// Bytes that wait to be used again.
    pub fn spare_len(&self) -> usize {
        self.0.borrow().spare_len
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl DerefMut for Block {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut store = self.home.0.borrow_mut();
        store.used -= self.len;
        let bytes = std::mem::take(&mut self.bytes);
        let has_room = store.spare.len() < BLOCKS_SPARE_MAX
            && store.spare_len + bytes.len() <= BLOCKS_SPARE_LEN;
        if has_room && !bytes.is_empty() {
            store.spare_len += bytes.len();
            store.spare.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_block_is_used_again_for_a_message_of_its_size() {
        let blocks = Blocks::new(usize::MAX);
        let mut block = blocks.take(1_000);
        block[999] = 7;
        drop(block);
        assert_eq!(blocks.spare_len(), 1_000);
        let small = blocks.take(10);
        assert_eq!((small.len(), blocks.spare_len()), (10, 1_000));
        let again = blocks.take(900);
        assert_eq!((again.len(), again.bytes[999], blocks.spare_len()), (900, 7, 0));
    }

    #[test]
    fn bytes_in_use_are_bounded_and_come_back() {
        let blocks = Blocks::new(1_000);
        let first = blocks.try_take(600).expect("there is room");
        assert!(blocks.try_take(401).is_none());
        let second = blocks.try_take(400).expect("there is room for this");
        let beyond = blocks.take(10);
        assert_eq!(blocks.used(), 1_010);
        assert!(blocks.try_take(0).is_some() && blocks.try_take(1).is_none());
        drop((first, second, beyond));
        assert_eq!(blocks.used(), 0);
        assert!(blocks.try_take(1_000).is_some());
    }

    #[test]
    fn spare_memory_is_bounded() {
        let blocks = Blocks::new(usize::MAX);
        let held: Vec<Block> = (0..3).map(|_| blocks.take(BLOCKS_SPARE_LEN / 2)).collect();
        drop(held);
        assert_eq!(blocks.spare_len(), BLOCKS_SPARE_LEN);
        let held: Vec<Block> = (0..2 * BLOCKS_SPARE_MAX).map(|_| blocks.take(1)).collect();
        drop(held);
        assert!(blocks.0.borrow().spare.len() <= BLOCKS_SPARE_MAX);
    }
}
