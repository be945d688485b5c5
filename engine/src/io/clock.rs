//! The clock of the kernel drivers: `CLOCK_MONOTONIC`, one origin for all threads and processes
//! of a host, so that instants of two shards or of two nodes on one machine compare.
#![expect(unsafe_code, reason = "std hides the monotonic clock's origin")]

use crate::time::{Duration, Instant};

/// Reads the clock; 30 ns.
pub fn now() -> Instant {
    Instant::from_nanos(read(libc::CLOCK_MONOTONIC))
}

/// Processor time that the calling thread has used; one system call.
pub fn thread_processor_time() -> Duration {
    Duration::from_nanos(read(libc::CLOCK_THREAD_CPUTIME_ID))
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec into the one we own.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(result, 0, "every Linux has this clock");
    let nanos = i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
    u64::try_from(nanos).expect("584 years from boot fit 64 bits")
}
