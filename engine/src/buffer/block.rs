//! Memory for messages larger than a datagram: taken by length, given back for the next one.
//!
//! Pages that were touched once are worth keeping: a fresh page costs the kernel more than the
//! copy that fills it. So a block that is dropped goes to a list of spare ones, up to a bound.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use crate::limits::{BLOCKS_SPARE_LEN, BLOCKS_SPARE_MAX};

/// Where blocks come from and go back to. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Blocks(Rc<RefCell<Spare>>);

#[derive(Debug, Default)]
struct Spare {
    list: Vec<Vec<u8>>,
    bytes: usize,
}

/// Bytes of one message.
#[derive(Debug)]
pub struct Block {
    bytes: Vec<u8>,
    len: usize,
    home: Blocks,
}

impl Blocks {
    /// A block of `len` bytes, whose content is whatever it was.
    pub fn take(&self, len: usize) -> Block {
        let mut spare = self.0.borrow_mut();
        // Neither too small nor such a waste that a large message would miss it.
        let fits = |bytes: &Vec<u8>| bytes.len() >= len && bytes.len() / 2 <= len;
        let bytes = match spare.list.iter().rposition(fits) {
            Some(place) => {
                let bytes = spare.list.swap_remove(place);
                spare.bytes -= bytes.len();
                bytes
            }
            None => vec![0; len],
        };
        Block { bytes, len, home: self.clone() }
    }

    /// Bytes that wait to be used again.
    pub fn spare_len(&self) -> usize {
        self.0.borrow().bytes
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
        let mut spare = self.home.0.borrow_mut();
        let bytes = std::mem::take(&mut self.bytes);
        let has_room =
            spare.list.len() < BLOCKS_SPARE_MAX && spare.bytes + bytes.len() <= BLOCKS_SPARE_LEN;
        if has_room && !bytes.is_empty() {
            spare.bytes += bytes.len();
            spare.list.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_block_is_used_again_for_a_message_of_its_size() {
        let blocks = Blocks::default();
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
    fn spare_memory_is_bounded() {
        let blocks = Blocks::default();
        let held: Vec<Block> = (0..3).map(|_| blocks.take(BLOCKS_SPARE_LEN / 2)).collect();
        drop(held);
        assert_eq!(blocks.spare_len(), BLOCKS_SPARE_LEN);
        let held: Vec<Block> = (0..2 * BLOCKS_SPARE_MAX).map(|_| blocks.take(1)).collect();
        drop(held);
        assert!(blocks.0.borrow().list.len() <= BLOCKS_SPARE_MAX);
    }
}
