//! Variable-length integers below 2^62, as in RFC 9000 section 16 (PROTOCOL 1.2).
//!
//! The two high bits of the first byte give the length, 1, 2, 4 or 8 bytes; the rest is the value,
//! big-endian. We write the shortest form unless a place was reserved before the value was known,
//! and read any.

/// The largest value.
pub const MAX: u64 = (1 << 62) - 1;

/// Bytes of `value` in its shortest form; 8 also for what is above [`MAX`] and cannot be written.
pub const fn len(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

/// Writes `value` at the start of `out` in its shortest form and returns how many bytes that
/// took. `None`, with nothing written, if there is no room or the value is above [`MAX`].
#[inline]
pub fn write(out: &mut [u8], value: u64) -> Option<usize> {
    let [low, high, ..] = value.to_le_bytes();
    // One and two bytes are nearly all there is, as in `read`.
    match (value, &mut *out) {
        (0..=0x3f, [first, ..]) => {
            *first = low;
            Some(1)
        }
        (0x40..=0x3fff, [first, second, ..]) => {
            (*first, *second) = (high | 0x40, low);
            Some(2)
        }
        _ => write_wide(out, value, len(value)),
    }
}

/// As [`write`], in a form of `width` bytes (1, 2, 4 or 8) even if a shorter one would do.
#[inline]
pub(super) fn write_wide(out: &mut [u8], value: u64, width: usize) -> Option<usize> {
    let out = out.get_mut(..width)?;
    if value > MAX || len(value) > width {
        return None;
    }
    let prefix = u64::from(width.trailing_zeros()) << 62;
    let left_aligned = prefix | value << (64 - 8 * width) & (u64::MAX >> 2);
    out.copy_from_slice(&left_aligned.to_be_bytes()[..width]);
    Some(width)
}

/// Reads the value at the start of `input` and how many bytes it took. `None` if `input` ends
/// before it does.
#[inline]
pub fn read(input: &[u8]) -> Option<(u64, usize)> {
    let &first = input.first()?;
    // One and two bytes are nearly all there is: lengths of small messages, gaps, counts.
    if first < 0x40 {
        return Some((first.into(), 1));
    }
    if first < 0x80 {
        let two = u16::from_be_bytes(*input.first_chunk()?);
        return Some(((two & 0x3fff).into(), 2));
    }
    read_wide(input)
}

/// As [`read`], of four or eight bytes: packet numbers mostly, once a packet.
#[inline(never)]
fn read_wide(input: &[u8]) -> Option<(u64, usize)> {
    match input.first()? >> 6 {
        2 => {
            let four = u32::from_be_bytes(*input.first_chunk()?);
            Some(((four & 0x3fff_ffff).into(), 4))
        }
        _ => Some((u64::from_be_bytes(*input.first_chunk()?) & MAX, 8)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // PROTOCOL 1.2; RFC 9000 A.1
    #[test]
    fn published_samples_read_as_stated() {
        for (bytes, value) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
        ] {
            assert_eq!(read(bytes), Some((value, bytes.len())));
            assert_eq!(read(&bytes[..bytes.len() - 1]), None);
            let mut out = [0; 8];
            assert_eq!(write_wide(&mut out, value, bytes.len()), Some(bytes.len()));
            assert_eq!(&out[..bytes.len()], bytes);
        }
    }

    // PROTOCOL 1.2
    #[test]
    fn what_does_not_fit_is_not_written() {
        assert_eq!(write(&mut [0; 8], MAX + 1), None);
        assert_eq!(write(&mut [0; 1], 64), None);
        assert_eq!(write(&mut [], 0), None);
        assert_eq!(write_wide(&mut [0; 8], 64, 1), None);
        assert_eq!(write(&mut [0; 8], MAX), Some(8));
    }

    proptest! {
        // PROTOCOL 1.1, 1.2
        #[test]
        fn what_was_written_reads_back_in_any_width(value in 0..=MAX, shift in 0u32..62, wide in 0u32..4) {
            let value = value >> shift;
            let width = len(value).max(1 << wide);
            let mut out = [0xaa; 9];
            prop_assert_eq!(write_wide(&mut out, value, width), Some(width));
            prop_assert_eq!(out[width], 0xaa);
            prop_assert_eq!(read(&out), Some((value, width)));
        }
    }
}
