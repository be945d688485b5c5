//! Lower-case hex and decimal digits, eight at a time.
//!
//! Hex digits are the head's densest part, so both directions work on a 64-bit word that holds
//! eight of them: what follows is arithmetic on all eight bytes at once, without a table.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Digits of the widest hex value.
pub(super) const HEX_LEN_MAX: usize = 16;

/// Reads the run of lower-case hex digits at `at`: its value and how many digits there are,
/// 1 to 16. `None` if there is no digit, or a seventeenth.
#[inline]
pub(super) fn read_hex(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let (first, first_len) = read_hex_word(bytes, at);
    match first_len {
        0 => None,
        1..=7 => Some((first, first_len)),
        _ => {
            let (second, second_len) = read_hex_word(bytes, at + 8);
            if second_len == 8 {
                if bytes.get(at + HEX_LEN_MAX).is_some_and(|&byte| is_hex(byte)) {
                    return None;
                }
                return Some((first << 32 | second, HEX_LEN_MAX));
            }
            Some((first << (4 * second_len) | second, 8 + second_len))
        }
    }
}

/// The leading hex digits among the (at most) eight bytes at `at`.
#[inline]
fn read_hex_word(bytes: &[u8], at: usize) -> (u64, usize) {
    let word = match bytes.get(at..at + 8) {
        Some(eight) => u64::from_be_bytes(eight.try_into().expect("eight bytes")),
        None => {
            // The end of the datagram: pad with what is no digit.
            let mut eight = [0; 8];
            let rest = bytes.get(at..).unwrap_or_default();
            eight[..rest.len()].copy_from_slice(rest);
            u64::from_be_bytes(eight)
        }
    };
    // With the high bit masked off, adding 0x80 - x to a byte sets its high bit exactly if the
    // byte is at least x, and never carries into the next.
    let low = word & !HIGHS;
    let at_least = |x: u8| low + ONES * u64::from(0x80 - x);
    let decimal = at_least(b'0') & !at_least(b'9' + 1);
    let letter = at_least(b'a') & !at_least(b'f' + 1);
    let digits = (decimal | letter) & !word & HIGHS;
    let len = ((digits ^ HIGHS).leading_zeros() / 8) as usize;
    if len == 0 {
        return (0, 0);
    }
    let mut nibbles = (low & (ONES * 0x0f)) + ((letter & HIGHS) >> 7) * 9;
    nibbles >>= 64 - 8 * len;
    nibbles = (nibbles | nibbles >> 4) & 0x00ff_00ff_00ff_00ff;
    nibbles = (nibbles | nibbles >> 8) & 0x0000_ffff_0000_ffff;
    nibbles = (nibbles | nibbles >> 16) & 0xffff_ffff;
    (nibbles, len)
}

const fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// Reads the run of decimal digits at `at` as JSON writes an integer (no leading zero, at most
/// `max`): its value and how many digits there are.
#[inline]
pub(super) fn read_decimal(bytes: &[u8], at: usize, max: u64) -> Option<(u64, usize)> {
    let mut value = 0u64;
    let mut len = 0;
    while let Some(&byte) = bytes.get(at + len) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        // `max` is below 2^53, so this cannot overflow before it is noticed.
        value = value * 10 + u64::from(digit);
        if value > max || (len == 1 && bytes[at] == b'0') {
            return None;
        }
        len += 1;
    }
    (len > 0).then_some((value, len))
}

/// All sixteen hex digits of `value`.
#[inline]
pub(super) fn hex(value: u64) -> [u8; HEX_LEN_MAX] {
    let mut digits = [0; HEX_LEN_MAX];
    digits[..8].copy_from_slice(&hex_word(value >> 32));
    digits[8..].copy_from_slice(&hex_word(value & 0xffff_ffff));
    digits
}

/// The eight hex digits of a value below 2^32.
#[inline]
fn hex_word(value: u64) -> [u8; 8] {
    let mut nibbles = value;
    nibbles = (nibbles | nibbles << 16) & 0x0000_ffff_0000_ffff;
    nibbles = (nibbles | nibbles << 8) & 0x00ff_00ff_00ff_00ff;
    nibbles = (nibbles | nibbles << 4) & (ONES * 0x0f);
    let letters = ((nibbles + ONES * 6) >> 4) & ONES;
    (nibbles + ONES * u64::from(b'0') + letters * u64::from(b'a' - b'9' - 1)).to_be_bytes()
}

/// How many hex digits `value` has without leading zeros, at least one.
#[inline]
pub(super) const fn hex_len(value: u64) -> usize {
    (67 - (value | 1).leading_zeros() as usize) / 4
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive_hex(bytes: &[u8]) -> Option<(u64, usize)> {
        let len = bytes.iter().take_while(|byte| b"0123456789abcdef".contains(byte)).count();
        let text = core::str::from_utf8(&bytes[..len]).unwrap();
        u64::from_str_radix(text, 16).ok().filter(|_| len <= 16).map(|value| (value, len))
    }

    proptest! {
        // PROTOCOL 1.3
        #[test]
        fn hex_reading_agrees_with_the_standard_library(
            bytes in prop::collection::vec(prop_oneof![
                8 => prop::sample::select(b"0123456789abcdef".to_vec()),
                1 => any::<u8>(),
            ], 0..24),
        ) {
            prop_assert_eq!(read_hex(&bytes, 0), naive_hex(&bytes));
        }

        // PROTOCOL 1.3
        #[test]
        fn hex_writing_agrees_with_the_standard_library(value: u64, shift in 0u32..64) {
            let value = value >> shift;
            prop_assert_eq!(hex(value).to_vec(), format!("{value:016x}").into_bytes());
            prop_assert_eq!(hex_len(value), format!("{value:x}").len());
        }

        // PROTOCOL 1.4
        #[test]
        fn decimal_reading_agrees_with_the_standard_library(text in "[0-9]{0,18}[^0-9]?", max in 0u64..1 << 53) {
            let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
            let expected = digits.parse::<u64>().ok()
                .filter(|&value| value <= max && (digits.len() == 1 || !digits.starts_with('0')))
                .map(|value| (value, digits.len()));
            prop_assert_eq!(read_decimal(text.as_bytes(), 0, max), expected);
        }
    }

    #[test]
    fn no_byte_but_lower_case_hex_is_a_digit() {
        for byte in 0..=255u8 {
            let mut bytes = *b"11111111111111111";
            bytes[3] = byte;
            let expected = if is_hex(byte) { None } else { Some((0x111, 3)) };
            assert_eq!(read_hex(&bytes, 0), expected, "byte {byte:#x}");
        }
    }
}
