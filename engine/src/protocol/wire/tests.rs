//! Heads and datagrams as a whole: rules one by one, then properties against the naive twin.

use proptest::prelude::*;

use super::*;
use crate::limits::{HEAD_EMIT_LEN_MAX, HEAD_KEYS_MAX, HEAD_LEN_MAX, SEGMENT_COUNT_MAX};
use crate::protocol::drop_reason::DropReason;

/// The members of a head made into a datagram with `rest` zero bytes after it. `%` in the members
/// stands for the three digits of the head's length.
fn datagram(members: &str, rest: usize) -> Vec<u8> {
    let mut bytes = members.as_bytes().to_vec();
    bytes.extend(b"\r\n\r\n");
    if let Some(at) = bytes.windows(3).position(|three| three == b"%%%") {
        let len = format!("{:03x}", bytes.len());
        bytes.splice(at..at + 3, len.into_bytes());
    }
    bytes.resize(bytes.len() + rest, 0);
    bytes
}

/// A datagram that fits `head`, its bytes after the head all zero.
fn built(head: &Head) -> Vec<u8> {
    let mut before = [0; HEAD_EMIT_LEN_MAX];
    let len = encode(head, &mut before);
    let mut bytes = before[HEAD_EMIT_LEN_MAX - len..].to_vec();
    bytes.resize(len + head.auth.len() + head.body_len as usize + head.tail.len(), 0);
    bytes
}

#[test]
fn smoke() {
    let head = Head {
        session: 0x123456789abcdef,
        transaction: 77,
        service: ServiceKind::ExactlyOnce,
        auth: AuthKind::Aead,
        body: BodyKind::Bundle,
        body_len: 1300,
        ..Head::default()
    };
    let bytes = built(&head);
    let packet = split(&bytes).unwrap();
    assert_eq!(packet.head, head);
    assert_eq!(split_any(&bytes), Ok(packet));
}
