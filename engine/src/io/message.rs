//! The kernel's forms of an address and of ancillary data, written and read as plain bytes.
//!
//! Both kernel drivers hand the kernel a `msghdr` with a socket address and one control message:
//! on the way out the segment length of a train (`UDP_SEGMENT`), on the way in the segment length
//! of a train which the kernel joined (`UDP_GRO`). The layouts are those of Linux's user
//! interface, fixed for ever; writing them as bytes needs no pointer casts.

use std::mem::size_of;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Bytes of room for an address: `sockaddr_in6` has 28.
pub(super) const NAME_LEN: usize = 32;
/// Bytes of room for control messages: the one we ask for takes 24.
pub(super) const CONTROL_LEN: usize = 32;
/// Bytes of the control message that carries a train's segment length.
const CONTROL_SEGMENT_LEN: usize = CONTROL_HEADER_LEN + 8;
/// Bytes of a control message's header: length, level and type.
const CONTROL_HEADER_LEN: usize = size_of::<libc::cmsghdr>();

/// A socket address as the kernel reads and writes it.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub(super) struct Name {
    bytes: [u8; NAME_LEN],
    len: u32,
}

impl Name {
    /// Room for an address that the kernel writes.
    pub(super) const EMPTY: Self = Self { bytes: [0; NAME_LEN], len: 0 };

    pub(super) fn new(address: SocketAddr) -> Self {
        let mut name = Self::EMPTY;
        name.bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        let family = match address {
            SocketAddr::V4(v4) => {
                name.bytes[4..8].copy_from_slice(&v4.ip().octets());
                name.len = 16;
                libc::AF_INET
            }
            SocketAddr::V6(v6) => {
                name.bytes[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
                name.bytes[8..24].copy_from_slice(&v6.ip().octets());
                name.bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                name.len = 28;
                libc::AF_INET6
            }
        };
        let family = u16::try_from(family).expect("address families are small numbers");
        name.bytes[..2].copy_from_slice(&family.to_ne_bytes());
        name
    }

    /// Where the bytes lie, for the kernel.
    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr()
    }

    pub(super) fn bytes(&self) -> &[u8; NAME_LEN] {
        &self.bytes
    }

    /// Bytes of the address, without the spare room.
    pub(super) fn len(&self) -> u32 {
        self.len
    }
}

/// Reads an address that the kernel wrote. `None`: neither IPv4 nor IPv6.
pub(super) fn parse_name(bytes: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = bytes.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let (word, rest) = rest.split_first_chunk::<4>()?;
    let port = u16::from_be_bytes(*port);
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => Some(SocketAddrV4::new(Ipv4Addr::from(*word), port).into()),
        libc::AF_INET6 => {
            let (octets, rest) = rest.split_first_chunk::<16>()?;
            let (scope, _) = rest.split_first_chunk::<4>()?;
            let (flow, scope) = (u32::from_be_bytes(*word), u32::from_ne_bytes(*scope));
            Some(SocketAddrV6::new(Ipv6Addr::from(*octets), port, flow, scope).into())
        }
        _ => None,
    }
}

/// Control messages as the kernel reads and writes them.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub(super) struct Control([u8; CONTROL_LEN]);

impl Control {
    /// Room for what the kernel writes.
    pub(super) const EMPTY: Self = Self([0; CONTROL_LEN]);
    /// Bytes that [`Control::segment`] fills.
    pub(super) const SEGMENT_LEN: usize = CONTROL_SEGMENT_LEN;

    /// Asks the kernel to cut one send into datagrams of `segment_len` bytes.
    pub(super) fn segment(segment_len: u16) -> Self {
        let mut control = Self::EMPTY;
        let bytes = &mut control.0;
        bytes[..8].copy_from_slice(&(CONTROL_HEADER_LEN + 2).to_ne_bytes());
        bytes[8..12].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
        bytes[12..16].copy_from_slice(&libc::UDP_SEGMENT.to_ne_bytes());
        bytes[16..18].copy_from_slice(&segment_len.to_ne_bytes());
        control
    }

    /// Where the bytes lie, for the kernel.
    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr()
    }

    pub(super) fn bytes(&self) -> &[u8; CONTROL_LEN] {
        &self.0
    }
}

/// The segment length of a train which the kernel joined; `None`: a datagram on its own.
pub(super) fn parse_segment_len(mut control: &[u8]) -> Option<usize> {
    // Each step moves on by a header at least, so the walk ends.
    loop {
        let (len, rest) = control.split_first_chunk::<8>()?;
        let (level, rest) = rest.split_first_chunk::<4>()?;
        let (kind, rest) = rest.split_first_chunk::<4>()?;
        let level = i32::from_ne_bytes(*level);
        if level == libc::SOL_UDP && i32::from_ne_bytes(*kind) == libc::UDP_GRO {
            let (segment_len, _) = rest.split_first_chunk::<4>()?;
            return usize::try_from(i32::from_ne_bytes(*segment_len)).ok();
        }
        let len = usize::from_ne_bytes(*len).max(CONTROL_HEADER_LEN).checked_next_multiple_of(8)?;
        control = control.get(len..)?;
    }
}

/// A message for `sendmsg` or `recvmsg`. Building one is safe; the pointers have to be good when
/// the kernel is told of it.
pub(super) fn header(
    (name, name_len): (*mut u8, u32),
    (vectors, vector_count): (*mut libc::iovec, usize),
    (control, control_len): (*mut u8, usize),
) -> libc::msghdr {
    libc::msghdr {
        msg_name: name.cast(),
        msg_namelen: name_len,
        msg_iov: vectors,
        msg_iovlen: vector_count,
        msg_control: control.cast(),
        msg_controllen: control_len,
        msg_flags: 0,
    }
}

const _: () = assert!(CONTROL_SEGMENT_LEN <= CONTROL_LEN);
const _: () = assert!(CONTROL_HEADER_LEN == 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_reads_back_as_it_was_written() {
        for text in ["127.0.0.1:7530", "[::1]:1", "[fe80::1%7]:65535", "255.255.255.255:0"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(parse_name(Name::new(address).bytes()), Some(address), "{text}");
        }
    }

    #[test]
    fn short_or_foreign_names_are_no_address() {
        let name = Name::new("[::1]:1".parse().unwrap());
        for len in 0..28 {
            assert_eq!(parse_name(&name.bytes()[..len]), None, "{len} bytes");
        }
        assert_eq!(parse_name(&[1; NAME_LEN]), None);
    }

    #[test]
    fn joined_trains_segment_length_is_found_behind_other_messages() {
        let mut bytes = vec![0; 48];
        bytes[..8].copy_from_slice(&20_usize.to_ne_bytes());
        bytes[24..32].copy_from_slice(&20_usize.to_ne_bytes());
        bytes[32..36].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
        bytes[36..40].copy_from_slice(&libc::UDP_GRO.to_ne_bytes());
        bytes[40..44].copy_from_slice(&1200_i32.to_ne_bytes());
        assert_eq!(parse_segment_len(&bytes), Some(1200));
        assert_eq!(parse_segment_len(&bytes[..43]), None);
        assert_eq!(parse_segment_len(&[0; 64]), None);
        assert_eq!(parse_segment_len(&[255; 64]), None);
        assert_eq!(parse_segment_len(Control::segment(64).bytes()), None);
    }
}
