//! Which errors of the kernel concern one datagram, and which make a socket useless.

/// Whether a receive that failed with `code` can be tried again: a past send was refused by the
/// network, a signal came, or the kernel was short of memory.
pub(super) fn is_passing(code: i32) -> bool {
    matches!(
        code,
        libc::EINTR
            | libc::EAGAIN
            | libc::ENOBUFS
            | libc::ENOMEM
            | libc::ECONNREFUSED
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::ENETDOWN
            | libc::EHOSTDOWN
            | libc::EPROTO
            | libc::EMSGSIZE
    )
}
