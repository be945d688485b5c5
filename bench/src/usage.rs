//! What a thread uses: processor time, and memory by a counting allocator.
//!
//! Both belong to the calling thread, so that what others do, on this machine or in this process,
//! does not count. A program that wants its memory counted makes [`Counting`] its global allocator.

#![expect(
    unsafe_code,
    reason = "a global allocator and a thread's clock can be had in no other way"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Allocations up to this size are counted by their size.
const SIZE_MAX: usize = 8_192;

thread_local! {
    static LIVE: Cell<i64> = const { Cell::new(0) };
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static SIZES: [Cell<i64>; SIZE_MAX + 1] = const { [const { Cell::new(0) }; SIZE_MAX + 1] };
}

/// The system's allocator, which counts what each thread holds.
#[derive(Clone, Copy, Debug)]
pub struct Counting;

fn note(size: usize, sign: i64) {
    LIVE.set(LIVE.get() + sign * i64::try_from(size).expect("no allocation is that large"));
    if size <= SIZE_MAX {
        SIZES.with(|sizes| sizes[size].set(sizes[size].get() + sign));
    }
}

fn taken(size: usize) {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
    note(size, 1);
}

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: our caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(layout.size(), -1);
        // SAFETY: as above; the pointer came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(layout.size(), -1);
        taken(size);
        // SAFETY: as above; the pointer came from the system's allocator.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// What this thread has allocated and not freed.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Bytes.
    pub live: i64,
    /// How often it asked for memory so far.
    pub allocations: u64,
    sizes: Vec<i64>,
}

impl Memory {
    /// Now. All zero, unless [`Counting`] is the global allocator.
    pub fn now() -> Self {
        // Room for the list first, so that it counts in neither of two readings, or in both.
        let mut sizes = Vec::with_capacity(SIZE_MAX + 1);
        SIZES.with(|counts| sizes.extend(counts.iter().map(Cell::get)));
        Self { live: LIVE.get(), allocations: ALLOCATIONS.get(), sizes }
    }

    /// Allocations held since `before` that come `times` times or more, as size and how many.
    pub fn repeated(&self, before: &Self, times: i64) -> Vec<(usize, i64)> {
        let more = self.sizes.iter().zip(&before.sizes).map(|(now, then)| now - then);
        more.enumerate().filter(|&(_, count)| count >= times).collect()
    }
}

/// Processor time of this thread so far, in nanoseconds.
pub fn cpu_nanos() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists on Linux, and the pointer is that of a local variable.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "a thread has a clock");
    let part = |value: i64| u64::try_from(value).expect("time is not negative");
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
}

/// Bytes of memory of this process that are in use now, by the kernel's account.
pub fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4_096
}
