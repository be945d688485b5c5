//! Messages that can be told apart and checked: a number, then bytes that are the same in all.

use std::sync::OnceLock;

/// Bytes of the number at the front.
const NUMBER_LEN: usize = 8;
/// Longest message.
const LEN_MAX: usize = 1 << 20;

/// A message of `size` bytes with the number 0.
pub(crate) fn blank(size: usize) -> Vec<u8> {
    let mut message = vec![0; NUMBER_LEN];
    message.extend_from_slice(&filler()[..size - NUMBER_LEN]);
    message
}

/// Gives a message its number.
pub(crate) fn stamp(message: &mut [u8], number: u64) {
    message[..NUMBER_LEN].copy_from_slice(&number.to_le_bytes());
}

/// The number of a message, if it is whole and unchanged otherwise.
pub(crate) fn read(message: &[u8], size: usize) -> Option<u64> {
    let (number, rest) = message.split_first_chunk()?;
    let is_whole = message.len() == size && rest == &filler()[..size - NUMBER_LEN];
    is_whole.then_some(u64::from_le_bytes(*number))
}

/// Spreads a number, so that sums of some can hardly be those of others.
pub(crate) fn mix(number: u64) -> u64 {
    let mixed = (number ^ number >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 29
}

/// Bytes without a period, so that a piece in the wrong place shows.
fn filler() -> &'static [u8] {
    static FILLER: OnceLock<Vec<u8>> = OnceLock::new();
    FILLER
        .get_or_init(|| (0..LEN_MAX as u64 / 8).flat_map(|at| mix(at + 1).to_le_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stamped_is_read_and_what_was_changed_is_not() {
        let mut message = blank(64);
        stamp(&mut message, 7);
        assert_eq!(read(&message, 64), Some(7));
        assert_eq!(read(&message[..63], 64), None);
        message[63] ^= 1;
        assert_eq!(read(&message, 64), None);
    }
}
