//! One UDP socket, set up the way both kernel drivers need it.
//!
//! Datagrams are never fragmented (`IP_MTU_DISCOVER` = probe: what is larger than the link is
//! refused with `EMSGSIZE`, and path MTU discovery is the protocol's own). They leave marked
//! ECT(0) unless a send says otherwise, and the mark on what arrives is told with it. The socket
//! blocks: io_uring waits for it by itself, and `mmsg` asks for non-blocking calls one by one.
#![expect(unsafe_code, reason = "socket options have no safe interface in std")]

use std::io;
use std::mem::size_of;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::message::Name;
use crate::buffer::Ecn;
use crate::limits::SOCKET_BUFFER_LEN;

/// A bound UDP socket.
#[derive(Debug)]
pub(super) struct Socket {
    inner: UdpSocket,
    address: SocketAddr,
}

impl Socket {
    /// Binds `address`. With `reuse_port` several sockets may share it, and the kernel spreads
    /// senders over them.
    ///
    /// # Errors
    /// The kernel's: the address is in use or not this host's, or the family is not supported.
    pub(super) fn bind(address: SocketAddr, reuse_port: bool) -> io::Result<Self> {
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        // SAFETY: creates a descriptor and touches no memory.
        let fd = unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just created and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        if reuse_port {
            set_option(&fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        }
        if address.is_ipv4() {
            let mode = libc::IP_PMTUDISC_PROBE;
            set_option(&fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, mode)?;
        } else {
            // An address of each family is bound by itself, so that no peer has two spellings.
            set_option(&fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
            let mode = libc::IPV6_PMTUDISC_PROBE;
            set_option(&fd, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, mode)?;
        }
        enable_marks(&fd, address.is_ipv4());
        enlarge_buffer(&fd, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF)?;
        enlarge_buffer(&fd, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)?;

        let mut name = Name::new(address);
        let len = name.len();
        // SAFETY: the name is a socket address of `len` bytes.
        if unsafe { libc::bind(fd.as_raw_fd(), name.as_mut_ptr().cast(), len) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let inner = UdpSocket::from(fd);
        let address = inner.local_addr()?;
        Ok(Self { inner, address })
    }

    /// Asks the kernel to join datagrams of one sender on receive. `false`: it cannot.
    pub(super) fn enable_gro(&self) -> bool {
        set_option(&self.inner, libc::SOL_UDP, libc::UDP_GRO, 1).is_ok()
    }

    /// Where the socket is bound; the port is the one that the kernel chose if none was given.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }
}

/// Marks what is sent, and has the kernel tell the mark on what arrives. Where it refuses, no mark
/// is reported to the peer, and the protocol does without them on every path (PROTOCOL 5.28).
fn enable_marks(fd: &OwnedFd, is_ipv4: bool) {
    let (level, mark, tell) = if is_ipv4 {
        (libc::IPPROTO_IP, libc::IP_TOS, libc::IP_RECVTOS)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_TCLASS, libc::IPV6_RECVTCLASS)
    };
    let _ = set_option(fd, level, mark, Ecn::Ect0 as i32);
    let _ = set_option(fd, level, tell, 1);
}

/// Takes the privileged way past the system's maximum if we may, the ordinary one if not; the
/// kernel then gives what it allows.
fn enlarge_buffer(fd: &OwnedFd, forced: i32, ordinary: i32) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, forced, SOCKET_BUFFER_LEN)
        .or_else(|_| set_option(fd, libc::SOL_SOCKET, ordinary, SOCKET_BUFFER_LEN))
}

fn set_option(socket: &impl AsRawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let len = u32::try_from(size_of::<i32>()).expect("four bytes");
    // SAFETY: the kernel reads four bytes from the integer that we own.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), len)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_in_use_is_refused_unless_it_is_shared() {
        let one = Socket::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let error = Socket::bind(one.address(), false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let shared = Socket::bind("127.0.0.1:0".parse().unwrap(), true).unwrap();
        assert!(Socket::bind(shared.address(), true).is_ok());
    }

    fn option(socket: &Socket, level: i32, name: i32) -> i32 {
        let (mut value, mut len) = (0_i32, 4);
        // SAFETY: the kernel writes at most four bytes to the integer that we own.
        let result = unsafe {
            let value = (&raw mut value).cast();
            libc::getsockopt(socket.as_raw_fd(), level, name, value, &raw mut len)
        };
        assert_eq!(result, 0);
        value
    }

    // PROTOCOL 5.22 and 5.26
    #[test]
    fn datagrams_are_never_fragmented_and_leave_marked() {
        let socket = Socket::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let mode = option(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER);
        assert_eq!(mode, libc::IP_PMTUDISC_PROBE);
        assert_eq!(option(&socket, libc::IPPROTO_IP, libc::IP_TOS), Ecn::Ect0 as i32);
        let Ok(socket) = Socket::bind("[::1]:0".parse().unwrap(), false) else {
            return eprintln!("SKIPPED IPv6: this host has no IPv6 loopback");
        };
        let mode = option(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER);
        assert_eq!(mode, libc::IPV6_PMTUDISC_PROBE);
        assert_eq!(option(&socket, libc::IPPROTO_IPV6, libc::IPV6_TCLASS), Ecn::Ect0 as i32);
    }

    #[test]
    fn foreign_address_is_not_available() {
        let error = Socket::bind("192.0.2.1:0".parse().unwrap(), false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    }
}
