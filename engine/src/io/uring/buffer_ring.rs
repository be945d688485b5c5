//! The ring through which the kernel is given buffers to receive into.
//!
//! Each entry names one pool slot. The kernel takes entries from the head as datagrams arrive
//! and tells by its completions which buffer it filled; we add entries at the tail. A slot in
//! the ring is lent: no lease of it exists until the completion that names it was read.

use std::io;
use std::mem::size_of;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use crate::buffer::{Lease, Pool};
use crate::limits::BUFFERS_PROVIDED_MAX;

/// The one group of buffers of a ring.
pub(super) const GROUP: u16 = 0;

const ENTRIES: u16 = BUFFERS_PROVIDED_MAX;
const LEN: usize = ENTRIES as usize * size_of::<BufRingEntry>();

/// The kernel's reading list of free buffers.
pub(super) struct BufferRing {
    /// [`ENTRIES`] entries in a mapping of their own, since the kernel asks for a whole page.
    entries: NonNull<BufRingEntry>,
    /// Entries added so far; wraps.
    tail: u16,
    pool: Pool,
    /// The slot behind each buffer id that is not free.
    slots: [u32; ENTRIES as usize],
    /// Ids that name no buffer.
    free: Vec<u16>,
}

impl BufferRing {
    /// An empty ring, not yet known to the kernel.
    ///
    /// # Errors
    /// The kernel's, if it refuses the mapping.
    pub(super) fn new(pool: Pool) -> io::Result<Self> {
        // SAFETY: an anonymous private mapping at an address of the kernel's choice touches no
        // memory that exists; the result is checked before use.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                LEN,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let entries = NonNull::new(address.cast()).expect("mmap does not map address zero");
        let free = (0..ENTRIES).rev().collect();
        Ok(Self { entries, tail: 0, pool, slots: [0; ENTRIES as usize], free })
    }

    /// Tells the kernel of the ring.
    ///
    /// # Errors
    /// `EINVAL`: the kernel is older than 5.19.
    pub(super) fn register(&self, submitter: &Submitter<'_>) -> io::Result<()> {
        let address = self.entries.as_ptr() as u64;
        // SAFETY: the mapping holds `ENTRIES` entries and is unmapped when this ring is dropped,
        // which the driver does after it closed the io_uring.
        unsafe { submitter.register_buf_ring_with_flags(address, ENTRIES, GROUP, 0) }
    }

    /// Gives the kernel buffers as long as the pool has some and the ring has room.
    pub(super) fn provide(&mut self) {
        let before = self.tail;
        while let Some(&id) = self.free.last() {
            let Some(lease) = self.pool.take() else { break };
            self.free.pop();
            let slot = lease.lend();
            self.slots[usize::from(id)] = slot;
            let at = usize::from(self.tail & (ENTRIES - 1));
            // SAFETY: the index is below the entries that the mapping holds. The kernel reads an
            // entry only once the tail passed it, and it never writes to the ring.
            let entry = unsafe { &mut *self.entries.as_ptr().add(at) };
            entry.set_addr(self.pool.slot_address(slot) as u64);
            entry.set_len(u32::try_from(self.pool.stride()).unwrap_or(u32::MAX));
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
        }
        if self.tail != before {
            self.publish();
        }
    }

    fn publish(&self) {
        // SAFETY: the tail is a field of the first entry, inside the mapping and aligned; the
        // kernel reads it as we write it, atomically.
        let tail =
            unsafe { &*BufRingEntry::tail(self.entries.as_ptr().cast_const()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }

    /// Takes back buffer `id`, of which the kernel filled the first `len` bytes.
    pub(super) fn adopt(&mut self, id: u16, len: usize) -> Lease {
        self.free.push(id);
        self.pool.adopt(self.slots[usize::from(id)], 0..len.min(self.pool.stride()))
    }

    /// Takes back every buffer. The kernel must have let go of the ring.
    pub(super) fn recall(&mut self) {
        for id in 0..ENTRIES {
            if !self.free.contains(&id) {
                drop(self.pool.adopt(self.slots[usize::from(id)], 0..0));
            }
        }
        self.free = (0..ENTRIES).rev().collect();
    }

    /// Whether the kernel has no buffer.
    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == usize::from(ENTRIES)
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`; the kernel let go of it when the io_uring was
        // closed, which is before this by the order of the driver's fields.
        unsafe { libc::munmap(self.entries.as_ptr().cast(), LEN) };
    }
}

const _: () = assert!(ENTRIES.is_power_of_two());
