//! What this kernel lets us do, found out by doing it once on loopback.
//!
//! Version numbers do not tell: distributions backport, containers forbid. So the probe opens the
//! production drivers and sends itself a train through each. It takes about a millisecond.

use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::mmsg::MmsgDriver;
use super::uring::{UringDriver, UringError, UringFeatures};
use super::{Driver, SocketOptions, clock};
use crate::buffer::{Ecn, Pool, Transmit};
use crate::limits::{PROBE_PATIENCE, RECEIVE_BUFFER_LEN, TRAIN_SEGMENTS_MAX};

/// Segments of a train in kernels before the bound was doubled.
const TRAIN_SEGMENTS_OLD: usize = 64;

/// What the kernel can do for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Its release, as `uname -r` prints it.
    pub kernel: String,
    /// Whether the `uring` driver works, and if not why.
    pub io_uring: Result<(), FallbackReason>,
    /// Network work can be deferred to our next enter.
    pub defer_taskrun: bool,
    /// Sockets can be registered with a ring.
    pub registered_files: bool,
    /// Buffers can be given to a ring through shared memory.
    pub buffer_ring: bool,
    /// One armed `recvmsg` receives for ever.
    pub multishot_recvmsg: bool,
    /// Datagrams that one send can carry (GSO); 1 if the kernel cannot cut trains.
    pub segments_max: usize,
    /// The kernel joins datagrams on receive (GRO).
    pub gro: bool,
}

impl Probe {
    /// Tries everything. What fails is reported as missing.
    pub fn run() -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let mut probe = Self {
            kernel: kernel.trim().to_owned(),
            io_uring: Ok(()),
            defer_taskrun: false,
            registered_files: false,
            buffer_ring: false,
            multishot_recvmsg: false,
            segments_max: 1,
            gro: false,
        };
        for segments_max in [TRAIN_SEGMENTS_MAX, TRAIN_SEGMENTS_OLD] {
            if let Some(joined) = probe_train(segments_max) {
                (probe.segments_max, probe.gro) = (segments_max, joined);
                break;
            }
        }
        probe.io_uring = probe.try_uring();
        probe
    }

    fn try_uring(&mut self) -> Result<(), FallbackReason> {
        let pool = Pool::new(4, RECEIVE_BUFFER_LEN).map_err(|error| reason(&error))?;
        let opened = open_on_loopback(1, |options| UringDriver::open(options, pool.clone()));
        let mut driver = match opened {
            Ok(driver) => driver,
            Err(UringError::Setup(error)) => return Err(reason(&error)),
            Err(UringError::BufferRing(_)) => return Err(FallbackReason::NoBufferRing),
            // There is no loopback to try the rest on; a wait that fails later says so.
            Err(UringError::Socket(_)) => return Ok(()),
        };
        let UringFeatures { defer_taskrun, registered_files } = driver.features();
        self.defer_taskrun = defer_taskrun;
        self.registered_files = registered_files;
        self.buffer_ring = true;
        let to = driver.local_address();
        self.multishot_recvmsg = send_to_itself(&mut driver, to, 1).is_some();
        if self.multishot_recvmsg { Ok(()) } else { Err(FallbackReason::NoMultishotReceive) }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |there: bool| if there { "yes" } else { "no" };
        writeln!(f, "kernel              {}", self.kernel)?;
        match &self.io_uring {
            Ok(()) => writeln!(f, "io_uring            yes")?,
            Err(reason) => writeln!(f, "io_uring            no: {reason}")?,
        }
        writeln!(f, "deferred task work  {}", word(self.defer_taskrun))?;
        writeln!(f, "registered files    {}", word(self.registered_files))?;
        writeln!(f, "buffer ring         {}", word(self.buffer_ring))?;
        writeln!(f, "multishot recvmsg   {}", word(self.multishot_recvmsg))?;
        match self.segments_max {
            1 => writeln!(f, "send trains (GSO)   no")?,
            count => writeln!(f, "send trains (GSO)   up to {count} datagrams")?,
        }
        write!(f, "join trains (GRO)   {}", word(self.gro))
    }
}

/// Why io_uring is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FallbackReason {
    /// The administrator switched it off: `kernel.io_uring_disabled` has this value, 1 or 2.
    Disabled(u8),
    /// A seccomp filter or security module answers `EPERM`.
    Forbidden,
    /// The kernel was built without it.
    Missing,
    /// It is older than Linux 5.19.
    NoBufferRing,
    /// It is older than Linux 6.0.
    NoMultishotReceive,
    /// No memory, or no descriptor, is left for a ring: the error's number.
    Exhausted(i32),
    /// The kernel refused it for a reason we do not know: the error's number.
    Refused(i32),
}

impl fmt::Display for FallbackReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled(value) => {
                write!(f, "io_uring is switched off by kernel.io_uring_disabled={value}")
            }
            Self::Forbidden => f.write_str(
                "io_uring is forbidden here (EPERM, as from a container's seccomp filter)",
            ),
            Self::Missing => f.write_str("this kernel was built without io_uring"),
            Self::NoBufferRing => {
                f.write_str("io_uring has no provided buffer rings here (they need Linux 5.19)")
            }
            Self::NoMultishotReceive => {
                f.write_str("io_uring has no multishot recvmsg here (it needs Linux 6.0)")
            }
            Self::Exhausted(code) => write!(
                f,
                "no io_uring could be made (raise the limits on locked memory and open files): {}",
                io::Error::from_raw_os_error(*code),
            ),
            Self::Refused(code) => {
                write!(f, "the kernel refused an io_uring: {}", io::Error::from_raw_os_error(*code))
            }
        }
    }
}

/// What a failed ring set-up means.
pub(super) fn reason(error: &io::Error) -> FallbackReason {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
            match disabled.as_deref().map(str::trim) {
                Ok("1") => FallbackReason::Disabled(1),
                Ok("2") => FallbackReason::Disabled(2),
                _ => FallbackReason::Forbidden,
            }
        }
        Some(libc::ENOSYS) => FallbackReason::Missing,
        Some(code @ (libc::ENOMEM | libc::EMFILE | libc::ENFILE)) => {
            FallbackReason::Exhausted(code)
        }
        code => FallbackReason::Refused(code.unwrap_or(libc::EIO)),
    }
}

/// Sends a train of `segments_max` one-byte datagrams to itself. `None`: the kernel does not cut
/// trains of this length; otherwise whether it joined them again.
fn probe_train(segments_max: usize) -> Option<bool> {
    let pool = Pool::new(4, RECEIVE_BUFFER_LEN).ok()?;
    let opened = open_on_loopback(segments_max, |options| MmsgDriver::open(options, pool.clone()));
    let mut driver = opened.ok()?;
    let to = driver.local_address();
    send_to_itself(&mut driver, to, segments_max).map(|longest| longest > 1)
}

fn open_on_loopback<D, E>(
    segments_max: usize,
    mut open: impl FnMut(&SocketOptions) -> Result<D, E>,
) -> Result<D, E> {
    let options = |bind| SocketOptions { bind, reuse_port: false, segments_max, gro: true };
    open(&options(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))
        .or_else(|_| open(&options(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)))))
}

/// Sends `count` datagrams of one byte from a driver to itself, and says how many arrived in the
/// longest train. `None`: the kernel refused to send, or nothing arrived.
fn send_to_itself(driver: &mut impl Driver, to: SocketAddr, count: usize) -> Option<usize> {
    let pool = Pool::new(1, TRAIN_SEGMENTS_MAX).ok()?;
    let whole = pool.take()?;
    for at in 0..count {
        let lease = whole.view(at..at + 1);
        driver.transmit(Transmit::single(to, Ecn::Ect0, lease)).ok()?;
    }
    let deadline = clock::now() + PROBE_PATIENCE;
    // Each wait sleeps until something happened; few things can.
    for _ in 0..count + 8 {
        let now = driver.wait(Some(deadline)).ok()?;
        if driver.counters().send_errors > 0 || now >= deadline {
            return None;
        }
        if let Some(received) = driver.receive() {
            return Some(received.datagrams());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_apart() {
        let of = |code| reason(&io::Error::from_raw_os_error(code));
        assert_eq!(of(libc::ENOSYS), FallbackReason::Missing);
        assert_eq!(of(libc::ENOMEM), FallbackReason::Exhausted(libc::ENOMEM));
        assert_eq!(of(libc::ENXIO), FallbackReason::Refused(libc::ENXIO));
    }

    #[test]
    fn report_names_every_feature() {
        let report = Probe::run().to_string();
        eprintln!("{report}");
        let names = ["kernel", "io_uring", "buffer ring", "multishot", "GSO", "GRO"];
        assert!(names.iter().all(|name| report.contains(name)), "{report}");
    }
}
