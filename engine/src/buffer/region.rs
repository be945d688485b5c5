//! The memory behind a pool: one anonymous mapping cut into slots of equal size.
//!
//! All unsafe code about packet memory is here. The argument for every block is the same: a slot
//! lies inside the mapping because its index is below the slot count and the stride divides the
//! mapping; the mapping lives as long as any `Lease`, since each holds the region's `Rc`; and a
//! slot is written only through a lease whose holder count is one, or by the kernel while the
//! slot is lent and no lease exists.
#![expect(unsafe_code, reason = "raw packet memory is wrapped here, once")]

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::ops::{Deref, Range};
use std::ptr::NonNull;
use std::rc::Rc;
use std::slice;

/// Marks a slot that the kernel may be writing to.
const LENT: u32 = u32::MAX;

/// A fixed set of buffers of one size. Clones share it. Taking and returning never allocates.
#[derive(Clone, Debug)]
pub struct Pool(Rc<Region>);

struct Region {
    base: NonNull<u8>,
    stride: usize,
    count: u32,
    /// Holders of each slot; 0: free, [`LENT`]: the kernel's.
    holders: Box<[Cell<u32>]>,
    /// Free slots, last freed on top: its lines are the likeliest still in cache.
    free: RefCell<Vec<u32>>,
}

impl Pool {
    /// Maps `count` buffers of `stride` bytes each. The kernel supplies pages on first touch.
    ///
    /// # Errors
    /// The kernel's, if it refuses the mapping.
    ///
    /// # Panics
    /// If `count` or `stride` is zero, or their product does not fit the address space.
    pub fn new(count: u32, stride: usize) -> io::Result<Self> {
        assert!(count > 0 && count < LENT, "a pool has at least one buffer");
        assert!(stride > 0, "a buffer has at least one byte");
        let len = stride.checked_mul(count as usize).expect("a pool fits the address space");
        // SAFETY: an anonymous private mapping at an address of the kernel's choice touches no
        // memory that exists; the result is checked before use.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(address.cast::<u8>()).expect("mmap does not map address zero");
        let free = (0..count).rev().collect();
        let holders = vec![Cell::new(0); count as usize].into_boxed_slice();
        Ok(Self(Rc::new(Region { base, stride, count, holders, free: RefCell::new(free) })))
    }

    /// Takes a free buffer, whole. `None`: all are in use.
    pub fn take(&self) -> Option<Lease> {
        let index = self.0.free.borrow_mut().pop()?;
        debug_assert_eq!(self.0.holders[index as usize].get(), 0, "a free slot has no holder");
        self.0.holders[index as usize].set(1);
        let (address, len) = (self.0.slot(index), self.0.stride);
        Some(Lease { region: Rc::clone(&self.0), index, address, len })
    }

    /// Buffers free now.
    pub fn available(&self) -> usize {
        self.0.free.borrow().len()
    }

    /// Buffers in all.
    pub fn capacity(&self) -> usize {
        self.0.count as usize
    }

    /// Bytes of one buffer.
    pub fn stride(&self) -> usize {
        self.0.stride
    }

    /// Where slot `index` begins, for telling the kernel.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn slot_address(&self, index: u32) -> *mut u8 {
        self.0.slot(index).as_ptr()
    }

    /// Takes back a slot that was lent to the kernel, as a lease on the `written` part of it.
    ///
    /// # Panics
    /// If the slot is not lent, or `written` reaches past its end.
    pub fn adopt(&self, index: u32, written: Range<usize>) -> Lease {
        let holders = &self.0.holders[index as usize];
        assert_eq!(holders.get(), LENT, "only a lent slot can be adopted");
        assert!(written.start <= written.end && written.end <= self.0.stride);
        holders.set(1);
        // SAFETY: the range lies in the slot, as was checked.
        let address = unsafe { self.0.slot(index).add(written.start) };
        Lease { region: Rc::clone(&self.0), index, address, len: written.len() }
    }
}

impl Region {
    fn slot(&self, index: u32) -> NonNull<u8> {
        assert!(index < self.count, "slot {index} of {}", self.count);
        // SAFETY: the index was checked, so the offset stays inside the one mapping.
        unsafe { self.base.add(index as usize * self.stride) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: base and length are those of the mapping made in `new`, and no lease is left,
        // since each holds an `Rc` of this region.
        unsafe {
            libc::munmap(self.base.as_ptr().cast(), self.stride * self.count as usize);
        }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} buffers of {} bytes", self.count, self.stride)
    }
}

/// One holder of one buffer, seeing a part of it. The buffer is free again when its last lease
/// is dropped.
pub struct Lease {
    region: Rc<Region>,
    index: u32,
    /// Of the first byte it sees. With the `len - 1` that follow, that is in the slot.
    address: NonNull<u8>,
    len: usize,
}

impl Lease {
    /// Another lease on the same buffer, seeing `range` of what this one sees.
    ///
    /// # Panics
    /// If `range` reaches past this lease's end.
    pub fn view(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len, "a view lies in its lease");
        let holders = &self.region.holders[self.index as usize];
        holders.set(holders.get() + 1);
        // SAFETY: the range lies in what this lease sees, as was checked.
        let address = unsafe { self.address.add(range.start) };
        Self { region: Rc::clone(&self.region), index: self.index, address, len: range.len() }
    }

    /// This lease, seeing only `range` of what it saw.
    ///
    /// # Panics
    /// If `range` reaches past this lease's end.
    #[must_use]
    pub fn narrow(mut self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len, "a part lies in its lease");
        // SAFETY: the range lies in what this lease sees, as was checked.
        self.address = unsafe { self.address.add(range.start) };
        self.len = range.len();
        self
    }

    /// The bytes for writing, if no other lease sees this buffer.
    #[inline]
    pub fn get_mut(&mut self) -> Option<&mut [u8]> {
        if !self.is_unique() {
            return None;
        }
        // SAFETY: the bytes lie in the mapping (module text); this lease is the only one,
        // it is borrowed mutably for the slice's life, and a view of it cannot be made meanwhile.
        Some(unsafe { slice::from_raw_parts_mut(self.address.as_ptr(), self.len) })
    }

    /// Gives the buffer to the kernel until [`Pool::adopt`] takes it back.
    ///
    /// # Panics
    /// If another lease sees the buffer.
    pub fn lend(self) -> u32 {
        assert!(self.is_unique(), "a shared buffer cannot be lent");
        self.region.holders[self.index as usize].set(LENT);
        self.index // Dropping a lease of a lent slot leaves the slot alone.
    }

    /// Whether this is the buffer's only lease.
    #[inline]
    pub fn is_unique(&self) -> bool {
        self.region.holders[self.index as usize].get() == 1
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the bytes lie in the mapping (module text), and nobody writes to a slot
        // that has a lease but the lease itself, through `&mut`, when it is alone.
        unsafe { slice::from_raw_parts(self.address.as_ptr(), self.len) }
    }
}

impl Clone for Lease {
    fn clone(&self) -> Self {
        self.view(0..self.len)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let holders = &self.region.holders[self.index as usize];
        match holders.get() {
            LENT => {}
            1 => {
                holders.set(0);
                self.region.free.borrow_mut().push(self.index);
            }
            more => holders.set(more - 1),
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({} of {} bytes)", self.index, self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffer_is_free_again_when_its_last_lease_is_dropped() {
        let pool = Pool::new(2, 64).unwrap();
        let first = pool.take().unwrap();
        let view = first.view(8..16);
        assert_eq!((pool.available(), view.len()), (1, 8));
        drop(first);
        assert_eq!(pool.available(), 1);
        drop(view);
        assert_eq!(pool.available(), 2);
    }

    #[test]
    fn narrowed_lease_sees_the_part_and_stays_alone() {
        let pool = Pool::new(1, 64).unwrap();
        let mut lease = pool.take().unwrap();
        lease.get_mut().unwrap()[10..12].copy_from_slice(b"hi");
        let lease = lease.narrow(8..20).narrow(2..4);
        assert!(lease.is_unique());
        assert_eq!(&*lease, b"hi");
        drop(lease);
        assert_eq!(pool.take().unwrap().len(), 64);
    }

    #[test]
    fn only_a_lease_that_is_alone_may_write() {
        let pool = Pool::new(1, 64).unwrap();
        let mut lease = pool.take().unwrap();
        lease.get_mut().unwrap()[3] = 7;
        let view = lease.view(3..4);
        assert!(lease.get_mut().is_none());
        assert_eq!(view[0], 7);
        drop(view);
        assert!(lease.get_mut().is_some());
    }

    #[test]
    fn pool_runs_out_and_says_so() {
        let pool = Pool::new(1, 1).unwrap();
        let only = pool.take();
        assert!(only.is_some() && pool.take().is_none());
    }

    #[test]
    fn lent_buffer_comes_back_with_what_was_written() {
        let pool = Pool::new(1, 64).unwrap();
        let mut lease = pool.take().unwrap();
        lease.get_mut().unwrap()[10..12].copy_from_slice(b"hi");
        let index = lease.lend();
        assert_eq!(pool.available(), 0);
        assert_eq!(&*pool.adopt(index, 10..12), b"hi");
        assert_eq!(pool.available(), 1);
    }

    #[test]
    #[should_panic(expected = "only a lent slot")]
    fn adopting_a_slot_twice_is_our_bug() {
        let pool = Pool::new(1, 64).unwrap();
        let index = pool.take().unwrap().lend();
        let _first = pool.adopt(index, 0..1);
        let _second = pool.adopt(index, 0..1);
    }

    #[test]
    fn leases_outlive_the_pool_that_gave_them() {
        let lease = Pool::new(1, 64).unwrap().take().unwrap();
        assert_eq!(lease[0], 0);
    }
}
