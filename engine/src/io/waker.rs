//! Ends another thread's [`Driver::wait`](super::Driver::wait).
//!
//! Waking costs the waker a system call and the sleeper tens of microseconds: whoever can know
//! that the other thread is awake should not call it.
#![expect(unsafe_code, reason = "std has no event descriptor")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// Ends the wait of one driver, or its next one if it does not wait. Clones wake the same.
#[derive(Clone, Debug)]
pub struct Waker(Option<Arc<File>>);

impl Waker {
    /// A waker of a driver that never sleeps.
    pub const fn of_nobody() -> Self {
        Self(None)
    }

    /// # Errors
    /// The kernel's, when no descriptor is left.
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: creates a descriptor and touches no memory.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just created and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self(Some(Arc::new(File::from(fd)))))
    }

    /// Wakes the driver's thread.
    pub fn wake(&self) {
        if let Some(file) = &self.0 {
            // Fails only when the counter is full, and then the driver is woken already.
            let _ = (&**file).write(&1_u64.to_ne_bytes());
        }
    }

    /// Forgets past wakes, so that the next wait sleeps.
    pub(super) fn clear(&self) {
        if let Some(file) = &self.0 {
            let _ = (&**file).read(&mut [0; 8]);
        }
    }

    /// The descriptor that becomes readable.
    pub(super) fn descriptor(&self) -> RawFd {
        self.0.as_ref().expect("kernel drivers make a real one").as_raw_fd()
    }
}
