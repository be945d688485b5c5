//! Processor time.
#![expect(unsafe_code, reason = "std does not tell processor time")]

/// Seconds of processor time that all threads of this process used so far.
pub(crate) fn processor_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes into a structure of ours.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "every kernel has this clock");
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
