//! The checksum after a body (PROTOCOL 2.14). It finds damage, not attackers.

use super::kinds::TailKind;
use crate::protocol::drop_reason::DropReason;

/// The CRC-32C tail of a datagram whose other bytes are `before`.
pub fn crc32c(before: &[u8]) -> [u8; TailKind::Crc32c.len()] {
    crc32c::crc32c(before).to_be_bytes()
}

/// Whether the tail of `kind` at the end of `datagram` fits the bytes before it.
pub(super) fn check(kind: TailKind, datagram: &[u8]) -> Result<(), DropReason> {
    match (kind, datagram.split_last_chunk()) {
        (TailKind::None, _) => Ok(()),
        (TailKind::Crc32c, Some((before, tail))) if *tail == crc32c(before) => Ok(()),
        (TailKind::Crc32c, _) => Err(DropReason::TailInvalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // PROTOCOL 1.1, 2.14; the check value of the CRC catalogue
    #[test]
    fn crc32c_has_its_published_check_value_in_network_order() {
        assert_eq!(crc32c(b"123456789"), [0xe3, 0x06, 0x92, 0x83]);
    }

    // PROTOCOL 2.14
    #[test]
    fn damage_anywhere_is_found_and_a_packet_without_tail_has_nothing_to_check() {
        let mut datagram = b"head and body".to_vec();
        assert_eq!(check(TailKind::None, &datagram), Ok(()));
        assert_eq!(check(TailKind::Crc32c, b"abc"), Err(DropReason::TailInvalid));
        let tail = crc32c(&datagram);
        datagram.extend(tail);
        assert_eq!(check(TailKind::Crc32c, &datagram), Ok(()));
        for bit in 0..8 * datagram.len() {
            datagram[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(check(TailKind::Crc32c, &datagram), Err(DropReason::TailInvalid));
            datagram[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
