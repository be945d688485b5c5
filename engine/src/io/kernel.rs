//! Picks and opens the driver that talks to the kernel.
//!
//! A shard is generic over its driver, so the choice is matched once, when a shard starts, and
//! costs the data path nothing.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;

use super::SocketOptions;
use super::mmsg::MmsgDriver;
use super::probe::{FallbackReason, Probe, reason};
use super::uring::{UringDriver, UringError};
use crate::buffer::Pool;
use crate::limits::RECEIVE_BUFFER_LEN;

/// Which driver to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoChoice {
    /// `uring` where it works, otherwise `mmsg`.
    #[default]
    Auto,
    /// `uring` or an error.
    Uring,
    /// `mmsg`.
    Mmsg,
}

impl FromStr for IoChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "uring" => Ok(Self::Uring),
            "mmsg" => Ok(Self::Mmsg),
            _ => Err(format!("'{text}' is not a driver: use auto, uring or mmsg")),
        }
    }
}

impl fmt::Display for IoChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Mmsg => "mmsg",
        })
    }
}

/// How a shard wants its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoConfig {
    /// Which driver.
    pub choice: IoChoice,
    /// The address to bind; port 0 lets the kernel choose.
    pub bind: SocketAddr,
    /// Whether the shards of a node share the address.
    pub reuse_port: bool,
    /// Whether to send trains where the kernel can cut them.
    pub gso: bool,
    /// Whether to receive trains where the kernel joins them.
    pub gro: bool,
}

impl IoConfig {
    /// The fastest that the kernel has, at `bind`.
    pub const fn new(bind: SocketAddr) -> Self {
        Self { choice: IoChoice::Auto, bind, reuse_port: false, gso: true, gro: true }
    }
}

/// The driver that was opened.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it lives for one match, when a shard starts")]
pub enum Opened {
    /// On io_uring.
    Uring(UringDriver),
    /// On `sendmmsg` and `recvmmsg`; with the reason, if io_uring would have been preferred.
    Mmsg(MmsgDriver, Option<FallbackReason>),
}

/// A pool of `count` buffers that a driver can receive trains into.
///
/// # Errors
/// The kernel's, if it has no memory for it.
pub fn receive_pool(count: u32) -> io::Result<Pool> {
    Pool::new(count, RECEIVE_BUFFER_LEN)
}

/// Opens a driver that receives into `pool`, on the thread that will use it. The driver may keep
/// all of the pool's free buffers for itself.
///
/// # Errors
/// The address cannot be bound, or io_uring was asked for by name and is not to be had.
pub fn open(config: &IoConfig, probe: &Probe, pool: Pool) -> Result<Opened, OpenError> {
    let options = SocketOptions {
        bind: config.bind,
        reuse_port: config.reuse_port,
        segments_max: if config.gso { probe.segments_max } else { 1 },
        gro: config.gro && probe.gro,
    };
    let reason = match (config.choice, probe.io_uring) {
        (IoChoice::Mmsg, _) => None,
        (_, Err(reason)) => Some(reason),
        (_, Ok(())) => match UringDriver::open(&options, pool.clone()) {
            Ok(driver) => return Ok(Opened::Uring(driver)),
            Err(UringError::Socket(error)) => return Err(OpenError::socket(config.bind, error)),
            Err(UringError::Setup(error)) => Some(reason(&error)),
            Err(UringError::BufferRing(_)) => Some(FallbackReason::NoBufferRing),
        },
    };
    match reason {
        Some(reason) if config.choice == IoChoice::Uring => Err(OpenError::NoUring(reason)),
        reason => match MmsgDriver::open(&options, pool) {
            Ok(driver) => Ok(Opened::Mmsg(driver, reason)),
            Err(error) => Err(OpenError::socket(config.bind, error)),
        },
    }
}

/// Why no driver could be opened.
#[derive(Debug)]
pub enum OpenError {
    /// Another socket has the address.
    AddressInUse(SocketAddr),
    /// No interface of this host has the address.
    AddressNotAvailable(SocketAddr),
    /// The port is reserved for privileged processes.
    PermissionDenied(SocketAddr),
    /// io_uring was asked for and cannot be used.
    NoUring(FallbackReason),
    /// The kernel refused the socket for another reason.
    Socket(SocketAddr, io::Error),
}

impl OpenError {
    fn socket(address: SocketAddr, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::AddressInUse(address),
            io::ErrorKind::AddrNotAvailable => Self::AddressNotAvailable(address),
            io::ErrorKind::PermissionDenied => Self::PermissionDenied(address),
            _ => Self::Socket(address, error),
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddressInUse(address) => write!(
                f,
                "UDP address {address} is in use: choose another port, or 0 for any free one"
            ),
            Self::AddressNotAvailable(address) => write!(
                f,
                "{} is not an address of this host: bind one that `ip address` shows",
                address.ip()
            ),
            Self::PermissionDenied(address) => write!(
                f,
                "binding UDP port {} needs privileges: choose a port above 1023",
                address.port()
            ),
            Self::NoUring(reason) => write!(f, "{reason}: use the mmsg driver"),
            Self::Socket(address, error) => write!(f, "no UDP socket at {address}: {error}"),
        }
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Socket(_, error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choice_reads_back_as_it_was_printed() {
        for choice in [IoChoice::Auto, IoChoice::Uring, IoChoice::Mmsg] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert!("io_uring".parse::<IoChoice>().unwrap_err().contains("auto, uring or mmsg"));
    }

    #[test]
    fn address_in_use_is_said_in_one_sentence() {
        let probe = Probe::run();
        let pool = Pool::new(4, 2048).unwrap();
        let mut config = IoConfig::new("127.0.0.1:0".parse().unwrap());
        config.choice = IoChoice::Mmsg;
        let Ok(Opened::Mmsg(driver, None)) = open(&config, &probe, pool.clone()) else {
            panic!("mmsg was asked for")
        };
        for choice in [IoChoice::Auto, IoChoice::Mmsg] {
            let taken = IoConfig { choice, ..IoConfig::new(driver.local_address()) };
            let error = open(&taken, &probe, pool.clone()).unwrap_err().to_string();
            assert!(error.contains("is in use: choose another port"), "{error}");
        }
    }
}
