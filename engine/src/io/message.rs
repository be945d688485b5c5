//! The kernel's forms of an address and of ancillary data, written and read as plain bytes.
//!
//! Both kernel drivers hand the kernel a `msghdr` with a socket address and control messages: on
//! the way out the segment length of a train (`UDP_SEGMENT`) and its mark, where that is not the
//! socket's own; on the way in the segment length of a train which the kernel joined (`UDP_GRO`)
//! and its mark (`IP_TOS`, `IPV6_TCLASS`). The layouts are those of Linux's user interface, fixed
//! for ever; writing them as bytes needs no pointer casts.

use std::mem::size_of;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::buffer::Ecn;

/// Bytes of room for an address: `sockaddr_in6` has 28.
pub(super) const NAME_LEN: usize = 32;
/// Bytes of room for control messages: a segment length and a mark.
pub(super) const CONTROL_LEN: usize = 2 * CONTROL_MESSAGE_LEN;
/// Bytes of a control message that carries a number: its header and the number, padded.
const CONTROL_MESSAGE_LEN: usize = CONTROL_HEADER_LEN + 8;
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
pub(super) struct Control {
    bytes: [u8; CONTROL_LEN],
    /// Bytes that we wrote.
    len: usize,
}

impl Control {
    /// Room for what the kernel writes, or nothing for it to read.
    pub(super) const EMPTY: Self = Self { bytes: [0; CONTROL_LEN], len: 0 };

    /// Asks the kernel to cut one send into datagrams of `segment_len` bytes.
    pub(super) fn push_segment_len(&mut self, segment_len: u16) {
        self.push(libc::SOL_UDP, libc::UDP_SEGMENT, &segment_len.to_ne_bytes());
    }

    /// Asks the kernel for this mark instead of the socket's.
    pub(super) fn push_mark(&mut self, to: SocketAddr, ecn: Ecn) {
        let (level, kind) = match to {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TOS),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
        };
        self.push(level, kind, &(ecn as i32).to_ne_bytes());
    }

    fn push(&mut self, level: i32, kind: i32, value: &[u8]) {
        let message = &mut self.bytes[self.len..][..CONTROL_MESSAGE_LEN];
        let len = CONTROL_HEADER_LEN + value.len();
        message[..8].copy_from_slice(&len.to_ne_bytes());
        message[8..12].copy_from_slice(&level.to_ne_bytes());
        message[12..16].copy_from_slice(&kind.to_ne_bytes());
        message[16..len].copy_from_slice(value);
        self.len += CONTROL_MESSAGE_LEN;
    }

    /// Where the bytes lie, for the kernel.
    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr()
    }

    pub(super) fn bytes(&self) -> &[u8; CONTROL_LEN] {
        &self.bytes
    }

    /// Bytes that we wrote.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

/// What the kernel says of a receive beside its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// The segment length of a train which the kernel joined; `None`: a datagram on its own.
    pub(super) segment_len: Option<usize>,
    pub(super) ecn: Ecn,
}

/// Reads the control messages that the kernel wrote. What is cut or unknown is passed over.
pub(super) fn parse_control(mut control: &[u8]) -> Shape {
    let mut shape = Shape::default();
    // Each step moves on by a header at least, so the walk ends.
    while let Some((header, value)) = control.split_first_chunk::<CONTROL_HEADER_LEN>() {
        let word = |at: usize| i32::from_ne_bytes(header[at..at + 4].try_into().expect("four"));
        match (word(8), word(12), value) {
            (libc::SOL_UDP, libc::UDP_GRO, &[a, b, c, d, ..]) => {
                shape.segment_len = usize::try_from(i32::from_ne_bytes([a, b, c, d])).ok();
            }
            // A byte, though it is set as an integer.
            (libc::IPPROTO_IP, libc::IP_TOS, &[class, ..]) => {
                shape.ecn = Ecn::of_traffic_class(class);
            }
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &[a, b, c, d, ..]) => {
                let [.., class] = i32::from_ne_bytes([a, b, c, d]).to_be_bytes();
                shape.ecn = Ecn::of_traffic_class(class);
            }
            _ => {}
        }
        let (len, _) = header.split_first_chunk::<8>().expect("a header has sixteen bytes");
        let len = usize::from_ne_bytes(*len).max(CONTROL_HEADER_LEN);
        let next = len.checked_next_multiple_of(8).and_then(|len| control.get(len..));
        control = next.unwrap_or_default();
    }
    shape
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

    /// Control messages as a kernel writes them: level, kind, bytes.
    fn control(messages: &[(i32, i32, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (level, kind, value) in messages {
            bytes.extend_from_slice(&(CONTROL_HEADER_LEN + value.len()).to_ne_bytes());
            bytes.extend_from_slice(&level.to_ne_bytes());
            bytes.extend_from_slice(&kind.to_ne_bytes());
            bytes.extend_from_slice(value);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        bytes
    }

    #[test]
    fn segment_length_and_mark_are_found_in_any_order_behind_other_messages() {
        let joined: (_, _, &[u8]) = (libc::SOL_UDP, libc::UDP_GRO, &1200_i32.to_ne_bytes());
        let marked: (_, _, &[u8]) = (libc::IPPROTO_IP, libc::IP_TOS, &[0b1011_1010]);
        let class = 0b10_i32.to_ne_bytes();
        let marked_v6: (_, _, &[u8]) = (libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &class);
        let foreign: (_, _, &[u8]) = (libc::SOL_SOCKET, libc::SO_TIMESTAMP, &[7; 16]);
        let expected = Shape { segment_len: Some(1200), ecn: Ecn::Ect0 };
        for messages in [[joined, foreign, marked], [marked_v6, foreign, joined]] {
            assert_eq!(parse_control(&control(&messages)), expected);
        }
        let alone = parse_control(&control(&[joined]));
        assert_eq!(alone, Shape { segment_len: Some(1200), ecn: Ecn::NotEct });
        let ce = control(&[(libc::IPPROTO_IP, libc::IP_TOS, &[3])]);
        assert_eq!(parse_control(&ce), Shape { segment_len: None, ecn: Ecn::Ce });
    }

    #[test]
    fn cut_or_senseless_control_messages_say_nothing() {
        let joined = control(&[(libc::SOL_UDP, libc::UDP_GRO, &1200_i32.to_ne_bytes())]);
        assert_eq!(parse_control(&joined[..19]), Shape::default());
        for bytes in [[0; 64], [255; 64]] {
            assert_eq!(parse_control(&bytes), Shape::default());
        }
        let mut written = Control::EMPTY;
        written.push_segment_len(64);
        assert_eq!(parse_control(written.bytes()), Shape::default(), "that is another message");
    }

    #[test]
    fn written_mark_reads_back_for_both_families() {
        for to in ["127.0.0.1:1", "[::1]:1"] {
            let mut written = Control::EMPTY;
            written.push_segment_len(1200);
            written.push_mark(to.parse().unwrap(), Ecn::Ce);
            assert_eq!(written.len(), CONTROL_LEN);
            let shape = parse_control(written.bytes());
            assert_eq!(shape, Shape { segment_len: None, ecn: Ecn::Ce }, "{to}");
        }
    }
}
