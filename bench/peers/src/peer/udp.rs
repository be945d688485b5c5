//! A UDP socket on loopback with large buffers, as raet opens its own.
#![expect(unsafe_code, reason = "std does not set the size of a socket's buffers")]

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
#[cfg(feature = "kcp")]
use std::time::Duration;

/// Bytes of each buffer.
const BUFFER_LEN: libc::c_int = 8 << 20;

/// A socket of a port that the kernel chooses.
pub(super) fn bind() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    for (forced, asked) in
        [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)]
    {
        // Only root may exceed what the administrator allows.
        if set(&socket, forced).is_err() {
            set(&socket, asked)?;
        }
    }
    Ok(socket)
}

fn set(socket: &UdpSocket, option: libc::c_int) -> io::Result<()> {
    let value = BUFFER_LEN;
    let len = libc::socklen_t::try_from(size_of_val(&value)).expect("four bytes");
    // SAFETY: the kernel reads `len` bytes of a value of ours.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            len,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sleeps until a datagram is there, or for `time`, in whole milliseconds.
#[cfg(feature = "kcp")]
pub(super) fn wait_readable(socket: &UdpSocket, time: Duration) -> io::Result<()> {
    let mut polled = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let time = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the structure is ours and outlives the call.
    let result = unsafe { libc::poll(&raw mut polled, 1, time) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
