//! What a generated message holds, and how the other side knows that it arrived as it left.
//!
//! A message names itself: its tag, its number and the time at which it was meant to be sent
//! stand at its front, and every byte after them follows from these, its length and the run's
//! seed. So the receiver needs no copy of what was sent: it reads the front, derives the rest
//! and compares. A flipped bit anywhere, a cut, or one message's body under another's front all
//! show.
//!
//! ```text
//! byte 0      1        2..8              8..16                16..
//!      tag    check    number (48 bit)   intended time (ns)   pattern
//! ```
//!
//! Little-endian. Shorter messages carry what fits: below 16 bytes no time (their latency is not
//! measured), below 8 no number (a run with such messages tells all of its messages apart by the
//! engine's transaction numbers), an empty one nothing at all. With lines of a file the pattern's place is taken by the line.

/// Bytes of the full front. Latency is measured for messages of at least this length.
pub(crate) const HEADER_LEN: usize = 16;
/// Messages of at least this length carry their own number.
pub(crate) const NUMBERED_LEN_MIN: usize = 8;
/// Numbers that fit the front.
const NUMBER_MASK: u64 = (1 << 48) - 1;

/// What a message is for: its first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tag {
    /// The run's own conversation, see [`crate::control`].
    Control,
    /// A measured message.
    Data,
    /// A message of the warm-up: verified like the others, counted apart.
    Warmup,
}

impl Tag {
    /// The byte on the wire.
    pub(crate) const fn byte(self) -> u8 {
        match self {
            Self::Control => b'c',
            Self::Data => b'd',
            Self::Warmup => b'w',
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'c' => Some(Self::Control),
            b'd' => Some(Self::Data),
            b'w' => Some(Self::Warmup),
            _ => None,
        }
    }
}

/// A message's front.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Front {
    /// What it is for.
    pub(crate) tag: Tag,
    /// Its number within the session, counted from 0; `None` if too short to carry it.
    pub(crate) number: Option<u64>,
    /// When it was meant to be sent, in nanoseconds of the machine's monotonic clock; `None` if
    /// too short to carry it.
    pub(crate) intended: Option<u64>,
}

/// Writes one whole message over `buffer`; its length is the message's.
#[inline]
pub(crate) fn write(buffer: &mut [u8], seed: u64, tag: Tag, number: u64, intended: u64) {
    let key = key_of(seed, buffer.len(), tag, number, intended);
    let front = write_front(buffer, key, tag, number, intended);
    let mut word = key;
    let mut chunks = buffer[front..].chunks_exact_mut(8);
    for chunk in &mut chunks {
        word = word.wrapping_add(STEP);
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    let rest = chunks.into_remainder();
    if !rest.is_empty() {
        rest.copy_from_slice(&word.wrapping_add(STEP).to_le_bytes()[..rest.len()]);
    }
}

/// Writes the front of a message that goes on with a line of a file: `buffer` is the whole
/// message, at least [`HEADER_LEN`] bytes, and only those are written.
pub(crate) fn write_line_front(buffer: &mut [u8], seed: u64, tag: Tag, number: u64, intended: u64) {
    assert!(buffer.len() >= HEADER_LEN, "the caller leaves room for the front");
    let key = key_of(seed, buffer.len(), tag, number, intended);
    write_front(buffer, key, tag, number, intended);
}

/// Reads and verifies a message that [`write`] wrote with `seed`; `None` if a byte differs.
#[inline]
pub(crate) fn read(payload: &[u8], seed: u64) -> Option<Front> {
    let (front, key, end) = read_front(payload, seed)?;
    let mut word = key;
    let mut difference = 0;
    let mut chunks = payload[end..].chunks_exact(8);
    // No early exit: whole messages are the rule, and without it the compiler vectorises.
    for chunk in &mut chunks {
        word = word.wrapping_add(STEP);
        difference |= word ^ u64::from_le_bytes(chunk.try_into().expect("chunks of 8"));
    }
    let rest = chunks.remainder();
    let last = word.wrapping_add(STEP).to_le_bytes();
    let is_whole = difference == 0 && (rest.is_empty() || rest == &last[..rest.len()]);
    is_whole.then_some(front)
}

/// Reads and verifies the front of a message that goes on with a line of a file. The line is
/// vouched for by the content hash that both sides keep.
pub(crate) fn read_line_front(payload: &[u8], seed: u64) -> Option<Front> {
    if payload.len() < HEADER_LEN {
        return None;
    }
    read_front(payload, seed).map(|(front, ..)| front)
}

/// Whether `payload` belongs to the run's own conversation.
pub(crate) fn is_control(payload: &[u8]) -> bool {
    payload.first() == Some(&Tag::Control.byte())
}

/// A number that looks random and is the same for the same `value`: the finisher of splitmix64.
pub(crate) const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Distance of neighbouring words of the pattern: odd, so that no word repeats in a message.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// What check byte and pattern follow from. Only what the message carries enters, so that its
/// reader can work it out again.
#[inline]
fn key_of(seed: u64, len: usize, tag: Tag, number: u64, intended: u64) -> u64 {
    let number = if len >= NUMBERED_LEN_MIN { number & NUMBER_MASK } else { 0 };
    let intended = if len >= HEADER_LEN { intended } else { 0 };
    let name = (number << 8) | u64::from(tag.byte());
    let shape = (len as u64).wrapping_mul(0xd6e8_feb8_6659_fd93);
    mix(seed ^ name.wrapping_mul(STEP) ^ intended.rotate_left(32) ^ shape)
}

/// Writes as much of the front as fits and returns how many bytes that was.
#[inline]
fn write_front(buffer: &mut [u8], key: u64, tag: Tag, number: u64, intended: u64) -> usize {
    let check = key.to_le_bytes()[7];
    let name = (number << 16) | (u64::from(check) << 8) | u64::from(tag.byte());
    let name = name.to_le_bytes();
    if let Some(front) = buffer.first_chunk_mut::<HEADER_LEN>() {
        front[..8].copy_from_slice(&name);
        front[8..].copy_from_slice(&intended.to_le_bytes());
        return HEADER_LEN;
    }
    let end = short_front_len(buffer.len());
    buffer[..end].copy_from_slice(&name[..end]);
    end
}

/// The front, the key it implies and where it ends.
#[inline]
fn read_front(payload: &[u8], seed: u64) -> Option<(Front, u64, usize)> {
    let Some(front) = payload.first_chunk::<HEADER_LEN>() else {
        return read_short_front(payload, seed);
    };
    let (name, intended) = front.split_at(8);
    let name = u64::from_le_bytes(name.try_into().expect("8 of 16 bytes"));
    let intended = u64::from_le_bytes(intended.try_into().expect("8 of 16 bytes"));
    let (tag, number) = (Tag::from_byte(front[0])?, name >> 16);
    let key = key_of(seed, payload.len(), tag, number, intended);
    let is_named = front[1] == key.to_le_bytes()[7];
    let front = Front { tag, number: Some(number), intended: Some(intended) };
    is_named.then_some((front, key, HEADER_LEN))
}

/// The same for a message too short to carry its time.
fn read_short_front(payload: &[u8], seed: u64) -> Option<(Front, u64, usize)> {
    let tag = payload.first().map_or(Some(Tag::Data), |&byte| Tag::from_byte(byte))?;
    let number = payload.first_chunk::<8>().map(|name| u64::from_le_bytes(*name) >> 16);
    let key = key_of(seed, payload.len(), tag, number.unwrap_or(0), 0);
    let is_named = payload.get(1).is_none_or(|&check| check == key.to_le_bytes()[7]);
    let front = Front { tag, number, intended: None };
    is_named.then_some((front, key, short_front_len(payload.len())))
}

/// Bytes of the front of a message shorter than [`HEADER_LEN`].
const fn short_front_len(len: usize) -> usize {
    match len {
        0 | 1 => len,
        2..NUMBERED_LEN_MIN => 2,
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(len: usize, seed: u64, tag: Tag, number: u64, intended: u64) -> Vec<u8> {
        let mut buffer = vec![0; len];
        write(&mut buffer, seed, tag, number, intended);
        buffer
    }

    #[test]
    fn every_length_reads_back_what_it_can_carry() {
        for len in 0..200 {
            let front = read(&message(len, 7, Tag::Data, 123_456, 99), 7).unwrap();
            assert_eq!(front.tag, Tag::Data);
            assert_eq!(front.number, (len >= NUMBERED_LEN_MIN).then_some(123_456), "{len}");
            assert_eq!(front.intended, (len >= HEADER_LEN).then_some(99), "{len}");
        }
    }

    #[test]
    fn any_flipped_bit_of_a_message_shows() {
        // A one-byte message has no check byte: it can only be a tag or not.
        for len in [2, 5, 8, 11, 16, 17, 23, 24, 64, 100] {
            let whole = message(len, 3, Tag::Warmup, 5, 1_000_000);
            let mut missed = 0;
            for bit in 0..len * 8 {
                let mut damaged = whole.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                missed += u32::from(read(&damaged, 3).is_some());
            }
            // Without a pattern only the check byte stands behind number and time.
            let allowed = if len >= 24 { 0 } else { 2 };
            assert!(missed <= allowed, "{missed} flips missed at {len} bytes");
        }
    }

    #[test]
    fn a_cut_message_or_a_body_under_another_front_shows() {
        let one = message(64, 3, Tag::Data, 1, 10);
        let mut other = message(64, 3, Tag::Data, 2, 10);
        assert!(read(&one[..56], 3).is_none());
        other[HEADER_LEN..].copy_from_slice(&one[HEADER_LEN..]);
        assert!(read(&other, 3).is_none());
        assert!(read(&one, 4).is_none(), "another run's seed");
    }

    #[test]
    fn a_line_keeps_its_place_and_its_front_is_verified() {
        let mut buffer = vec![0; HEADER_LEN];
        buffer.extend_from_slice(b"a line");
        write_line_front(&mut buffer, 1, Tag::Data, 77, 88);
        assert_eq!(&buffer[HEADER_LEN..], b"a line");
        let front = read_line_front(&buffer, 1).unwrap();
        assert_eq!((front.number, front.intended), (Some(77), Some(88)));
        assert!(read_line_front(&buffer[..HEADER_LEN - 1], 1).is_none());
    }

    #[test]
    fn control_is_told_by_its_first_byte() {
        assert!(is_control(b"c{}"));
        assert!(!is_control(b""));
        assert!(!is_control(&message(64, 0, Tag::Data, 0, 0)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = read(&bytes, 0);
            let _ = read_line_front(&bytes, 0);
        }

        #[test]
        fn what_is_written_is_read(
            len in 16_usize..300, seed: u64, number in 0..NUMBER_MASK, intended: u64,
        ) {
            let front = read(&message(len, seed, Tag::Data, number, intended), seed).unwrap();
            let expected =
                Front { tag: Tag::Data, number: Some(number), intended: Some(intended) };
            prop_assert_eq!(front, expected);
        }
    }
}
