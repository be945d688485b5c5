//! What a generated message holds, and how the other side knows that it arrived as it left.
//!
//! A message names itself: its tag, its kind, its number and the time at which it was meant to be
//! sent stand at its front, and every byte after them follows from these, its length and the
//! run's seed. So the receiver needs no copy of what was sent: it reads the front, derives the
//! rest and compares. A flipped bit anywhere, a cut, or one message's body under another's front
//! all show.
//!
//! ```text
//! byte 0      1        2..8              8..16                16..
//!      tag    check    number (48 bit)   intended time (ns)   pattern
//! ```
//!
//! Little-endian. Shorter messages carry what fits: below 16 bytes no time (their latency is not
//! measured), below 8 no number (a run with such messages tells all of its messages apart by the
//! engine's transaction numbers), an empty one nothing at all. With lines or blocks of a file the
//! pattern's place is taken by them.
//!
//! A long message takes so long to write that it is prepared before its time is known. So from
//! [`SEALED_LEN_MIN`] bytes on the pattern does not follow from the time and from whether the
//! warm-up is over; its last word is instead the key that follows from all of the front.

use crate::check::Holding;

/// Bytes of the full front. Latency is measured for messages of at least this length.
pub(crate) const HEADER_LEN: usize = 16;
/// Messages of at least this length carry their own number.
pub(crate) const NUMBERED_LEN_MIN: usize = 8;
/// Messages at least this long end with a word that seals their front.
pub(crate) const SEALED_LEN_MIN: usize = 1 << 16;
/// Bytes of that word.
const SEAL_LEN: usize = 8;
/// Kinds of messages that the first byte tells apart.
pub(crate) const KINDS_MAX: usize = 32;
/// Numbers that fit the front.
const NUMBER_MASK: u64 = (1 << 48) - 1;

/// What a message is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tag {
    /// A measured message.
    Data,
    /// A message of the warm-up: verified like the others, counted apart.
    Warmup,
}

/// First byte of the run's own conversation, see [`crate::control`].
pub(crate) const CONTROL: u8 = b'c';
/// Bit of the first byte of every other message; its low bits are the kind.
const LOAD_BIT: u8 = 0x80;
/// Bit of the first byte of a message of the warm-up.
const WARMUP_BIT: u8 = 0x40;

/// What a message's front says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Label {
    /// What it is for.
    pub(crate) tag: Tag,
    /// Which of the run's workloads it belongs to, below [`KINDS_MAX`].
    pub(crate) kind: u8,
    /// Its number within its kind and session, counted from 0.
    pub(crate) number: u64,
    /// When it was meant to be sent, in nanoseconds of the machine's monotonic clock.
    pub(crate) intended: u64,
}

impl Label {
    const fn byte(&self) -> u8 {
        match self.tag {
            Tag::Data => LOAD_BIT | self.kind,
            Tag::Warmup => LOAD_BIT | WARMUP_BIT | self.kind,
        }
    }
}

/// A message's front, as far as the message is long enough to carry it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Front {
    /// What it is for.
    pub(crate) tag: Tag,
    /// Which workload it belongs to.
    pub(crate) kind: u8,
    /// Its number.
    pub(crate) number: Option<u64>,
    /// When it was meant to be sent.
    pub(crate) intended: Option<u64>,
}

/// Messages of which only the number of each is its own: one tag, kind, length and time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Series {
    len: usize,
    byte: u8,
    intended: u64,
    /// Factors of each message's key: the first still lacks the number.
    factors: (u64, u64),
    /// Bits of the number that a message carries.
    number_mask: u64,
}

impl Series {
    /// Those of `len` bytes; a label's number does not matter.
    #[inline]
    pub(crate) fn new(seed: u64, len: usize, label: Label) -> Self {
        // Only what the message carries enters, so that its reader can work it out again.
        let intended = if len >= HEADER_LEN { label.intended } else { 0 };
        let shape = (len as u64).wrapping_mul(0xd6e8_feb8_6659_fd93);
        // Both factors are large whatever the seed, so that every bit of either reaches the high half.
        let seed = (seed ^ SEED_SPREAD).wrapping_mul(STEP);
        let byte = label.byte();
        let factors = (seed ^ u64::from(byte), intended ^ shape ^ STEP);
        let number_mask = if len >= NUMBERED_LEN_MIN { NUMBER_MASK } else { 0 };
        Self { len, byte, intended, factors, number_mask }
    }

    /// Those of the messages that have a whole front and no seal.
    pub(crate) fn is_plain(&self) -> bool {
        (HEADER_LEN..SEALED_LEN_MIN).contains(&self.len)
    }

    /// Bytes of each.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// When they were meant to be sent.
    pub(crate) const fn intended(&self) -> u64 {
        self.intended
    }

    /// Writes message `number` of a [plain](Self::is_plain) series over `place`, which is as long.
    #[inline]
    pub(crate) fn write(&self, place: &mut [u8], number: u64) {
        let key = self.key(number);
        let (front, pattern) = place.split_first_chunk_mut().expect("it has a whole front");
        *front = self.front(number, key);
        write_pattern(pattern, 0, key);
    }

    /// Whether `payload` is message `number` of a [plain](Self::is_plain) series, whole and unchanged.
    #[inline(always)] // It is asked of each message that comes.
    pub(crate) fn is(&self, payload: &[u8], number: u64) -> bool {
        let Some((front, pattern)) = payload.split_first_chunk() else { return false };
        let key = self.key(number);
        payload.len() == self.len && *front == self.front(number, key) && follows(pattern, key)
    }

    /// What check byte and pattern of message `number` follow from.
    #[inline]
    fn key(&self, number: u64) -> u64 {
        let number = number & self.number_mask;
        let (low, high) = (self.factors.0 ^ (number << 8)).carrying_mul(self.factors.1, 0);
        low ^ high
    }

    /// The front of message `number`, whose key is `key`.
    #[inline]
    fn front(&self, number: u64, key: u64) -> [u8; HEADER_LEN] {
        let check = key >> 56;
        let name = (number << 16) | (check << 8) | u64::from(self.byte);
        let mut front = [0; HEADER_LEN];
        front[..8].copy_from_slice(&name.to_le_bytes());
        front[8..].copy_from_slice(&self.intended.to_le_bytes());
        front
    }
}

/// Writes one whole message over `buffer`; its length is the message's.
pub(crate) fn write(buffer: &mut [u8], seed: u64, label: Label) {
    let len = buffer.len();
    let series = Series::new(seed, len, label);
    if series.is_plain() {
        series.write(buffer, label.number);
    } else if len >= SEALED_LEN_MIN {
        write_body(buffer, HEADER_LEN..len, seed, label.kind, label.number);
        seal(buffer, seed, label);
    } else {
        let key = write_front(buffer, seed, label);
        write_pattern(&mut buffer[front_len(len)..], 0, key);
    }
}

/// Writes the bytes `range` of a message of at least [`SEALED_LEN_MIN`] bytes, whose time is not
/// known yet. `range` begins a multiple of 8 bytes behind the front.
pub(crate) fn write_body(
    buffer: &mut [u8],
    range: std::ops::Range<usize>,
    seed: u64,
    kind: u8,
    number: u64,
) {
    let key = body_key_of(seed, buffer.len(), kind, number);
    let end = range.end.min(buffer.len() - SEAL_LEN);
    if let Some(part) = buffer.get_mut(range.start..end) {
        write_pattern(part, range.start - HEADER_LEN, key);
    }
}

/// Completes a message of which [`write_body`] wrote all.
pub(crate) fn seal(buffer: &mut [u8], seed: u64, label: Label) {
    let key = write_front(buffer, seed, label);
    let end = buffer.len() - SEAL_LEN;
    buffer[end..].copy_from_slice(&key.to_le_bytes());
}

/// Writes the front of a message that goes on with a line or block of a file: `buffer` is the
/// whole message, at least [`HEADER_LEN`] bytes, and only those are written.
pub(crate) fn write_line_front(buffer: &mut [u8], seed: u64, label: Label) {
    assert!(buffer.len() >= HEADER_LEN, "the caller leaves room for the front");
    write_front(buffer, seed, label);
}

/// What a message's front says, and what its length and its front imply for the rest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named {
    /// What its front says.
    pub(crate) front: Front,
    key: u64,
    /// Where the front ends.
    end: usize,
}

impl Named {
    /// Reads and verifies the front of a message; `None` if it is not one, or its check byte differs.
    pub(crate) fn read(payload: &[u8], seed: u64) -> Option<Self> {
        match payload.first_chunk() {
            Some(front) => Self::read_front(front, payload.len(), seed),
            None => Self::read_short(payload, seed),
        }
    }

    /// The same with the front of a message of `len` bytes that has a whole one.
    fn read_front(front: &[u8; HEADER_LEN], len: usize, seed: u64) -> Option<Self> {
        let (name, intended) = front.split_at(8);
        let name = u64::from_le_bytes(name.try_into().expect("8 of 16 bytes"));
        let intended = u64::from_le_bytes(intended.try_into().expect("8 of 16 bytes"));
        let ((tag, kind), number) = (tag_and_kind(front[0])?, name >> 16);
        let key = key_of(seed, len, Label { tag, kind, number, intended });
        let is_named = front[1] == key.to_le_bytes()[7];
        let front = Front { tag, kind, number: Some(number), intended: Some(intended) };
        is_named.then_some(Self { front, key, end: HEADER_LEN })
    }

    /// The same with a message too short to carry its time.
    fn read_short(payload: &[u8], seed: u64) -> Option<Self> {
        let first = payload.first();
        let (tag, kind) = first.map_or(Some((Tag::Data, 0)), |&byte| tag_and_kind(byte))?;
        let number = payload.first_chunk::<8>().map(|name| u64::from_le_bytes(*name) >> 16);
        let label = Label { tag, kind, number: number.unwrap_or(0), intended: 0 };
        let key = key_of(seed, payload.len(), label);
        let is_named = payload.get(1).is_none_or(|&check| check == key.to_le_bytes()[7]);
        let front = Front { tag, kind, number, intended: None };
        is_named.then_some(Self { front, key, end: front_len(payload.len()) })
    }

    /// Whether all behind the front of `payload` is what was sent with `seed`. A line or block of a
    /// file is vouched for by the content hash that both sides keep.
    pub(crate) fn is_whole(self, payload: &[u8], seed: u64, holding: Holding) -> bool {
        match holding {
            Holding::Pattern if payload.len() < SEALED_LEN_MIN => {
                follows(&payload[self.end..], self.key)
            }
            Holding::Pattern => Reader::new(&self, payload.len(), seed).agrees(0, payload),
            Holding::Bytes | Holding::BytesInOrder => self.end == HEADER_LEN,
        }
    }
}

/// Verifies a message that comes in pieces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader {
    /// What its first piece says.
    pub(crate) front: Front,
    key: u64,
    body_key: u64,
    total: usize,
}

impl Reader {
    /// Reads the first piece of a message of `total` bytes; `None` if its front is not one.
    pub(crate) fn begin(first: &[u8], total: usize, seed: u64) -> Option<Self> {
        let named = Named::read_front(first.first_chunk()?, total, seed)?;
        Some(Self::new(&named, total, seed))
    }

    fn new(named: &Named, total: usize, seed: u64) -> Self {
        let Named { front, key, .. } = *named;
        let body_key = match total {
            SEALED_LEN_MIN.. => body_key_of(seed, total, front.kind, front.number.unwrap_or(0)),
            _ => key,
        };
        Self { front, key, body_key, total }
    }

    /// Whether the bytes from `offset` on are those of the message. Its front was verified.
    pub(crate) fn agrees(&self, offset: usize, bytes: &[u8]) -> bool {
        let end = offset + bytes.len();
        let seal_at = if self.total >= SEALED_LEN_MIN { self.total - SEAL_LEN } else { self.total };
        let body = offset.max(HEADER_LEN).min(end)..end.min(seal_at).max(offset);
        let has_body = body.is_empty()
            || has_pattern(
                &bytes[body.start - offset..body.end - offset],
                body.start - HEADER_LEN,
                self.body_key,
            );
        let seal = self.key.to_le_bytes();
        let sealed = offset.max(seal_at).min(end)..end;
        let is_sealed = sealed.is_empty()
            || bytes[sealed.start - offset..] == seal[sealed.start - seal_at..sealed.end - seal_at];
        has_body && is_sealed
    }
}

/// Whether `payload` belongs to the run's own conversation.
pub(crate) fn is_control(payload: &[u8]) -> bool {
    payload.first() == Some(&CONTROL)
}

/// A number that looks random and is the same for the same `value`: the finisher of splitmix64.
pub(crate) const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Distance of neighbouring words of the pattern: odd, so that no word repeats in a message.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
/// What has seeds that are small numbers, 0 above all, spread over 64 bits.
const SEED_SPREAD: u64 = 0x2545_f491_4f6c_dd1d;
/// Words of the pattern that are written or compared at once.
const BLOCK_WORDS: usize = 8;
/// Their bytes.
const BLOCK_LEN: usize = BLOCK_WORDS * 8;

/// The words that follow `word`.
#[inline]
fn block_after(word: u64) -> [u64; BLOCK_WORDS] {
    std::array::from_fn(|at| word.wrapping_add(STEP.wrapping_mul(at as u64 + 1)))
}

/// Writes the pattern of `key` over `part`, which begins `at` bytes into it: a multiple of 8.
#[inline]
fn write_pattern(part: &mut [u8], at: usize, key: u64) {
    let mut word = word_before(at, key);
    let (blocks, rest) = part.as_chunks_mut::<BLOCK_LEN>();
    if !blocks.is_empty() {
        write_blocks(blocks, word);
        word = word_before(blocks.len() * BLOCK_LEN, word);
    }
    let (places, rest) = rest.as_chunks_mut::<8>();
    // As often as can be, told to the compiler: it makes no loop of it.
    for at in 0..BLOCK_WORDS - 1 {
        let Some(place) = places.get_mut(at) else { break };
        word = word.wrapping_add(STEP);
        *place = word.to_le_bytes();
    }
    if !rest.is_empty() {
        rest.copy_from_slice(&word.wrapping_add(STEP).to_le_bytes()[..rest.len()]);
    }
}

/// Writes what follows `word` in a pattern.
#[inline(never)] // Short messages have none, and need the registers.
fn write_blocks(blocks: &mut [[u8; BLOCK_LEN]], mut word: u64) {
    for block in blocks {
        for (place, word) in block.as_chunks_mut::<8>().0.iter_mut().zip(block_after(word)) {
            *place = word.to_le_bytes();
        }
        word = word_before(BLOCK_LEN, word);
    }
}

/// Whether `part`, which begins `at` bytes into the pattern of `key`, is that pattern.
#[inline]
fn has_pattern(part: &[u8], at: usize, key: u64) -> bool {
    let inside = at % 8;
    if inside == 0 {
        return follows(part, word_before(at, key));
    }
    let (head, rest) = part.split_at(part.len().min(8 - inside));
    let word = word_before(at, key).wrapping_add(STEP);
    head == &word.to_le_bytes()[inside..inside + head.len()] && follows(rest, word)
}

/// Whether `part` is what follows `word` in a pattern.
#[inline]
fn follows(part: &[u8], mut word: u64) -> bool {
    // No early exit: whole messages are the rule.
    let (blocks, rest) = part.as_chunks::<BLOCK_LEN>();
    let mut difference = 0;
    if !blocks.is_empty() {
        difference = difference_of_blocks(blocks, word);
        word = word_before(blocks.len() * BLOCK_LEN, word);
    }
    let (places, rest) = rest.as_chunks::<8>();
    // As in `write_pattern`.
    for at in 0..BLOCK_WORDS - 1 {
        let Some(place) = places.get(at) else { break };
        word = word.wrapping_add(STEP);
        difference |= word ^ u64::from_le_bytes(*place);
    }
    let last = word.wrapping_add(STEP).to_le_bytes();
    difference == 0 && (rest.is_empty() || rest == &last[..rest.len()])
}

/// Zero if `blocks` are what follows `word` in a pattern.
#[inline(never)] // As [`write_blocks`].
fn difference_of_blocks(blocks: &[[u8; BLOCK_LEN]], mut word: u64) -> u64 {
    let mut differences = [0; BLOCK_WORDS];
    for block in blocks {
        let (places, words) = (block.as_chunks::<8>().0, block_after(word));
        for (at, difference) in differences.iter_mut().enumerate() {
            *difference |= words[at] ^ u64::from_le_bytes(places[at]);
        }
        word = word_before(BLOCK_LEN, word);
    }
    differences.iter().fold(0, |all, one| all | one)
}

/// The word before the one that the byte `at` of a pattern belongs to.
#[inline]
const fn word_before(at: usize, key: u64) -> u64 {
    key.wrapping_add(STEP.wrapping_mul(at as u64 / 8))
}

/// What check byte and pattern of a message follow from.
#[inline]
fn key_of(seed: u64, len: usize, label: Label) -> u64 {
    Series::new(seed, len, label).key(label.number)
}

/// What the pattern of a message of at least [`SEALED_LEN_MIN`] bytes follows from.
fn body_key_of(seed: u64, len: usize, kind: u8, number: u64) -> u64 {
    key_of(seed, len, Label { tag: Tag::Data, kind, number, intended: 0 })
}

/// Writes as much of a message's front as fits and returns the message's key.
fn write_front(buffer: &mut [u8], seed: u64, label: Label) -> u64 {
    let series = Series::new(seed, buffer.len(), label);
    let key = series.key(label.number);
    let end = front_len(buffer.len());
    buffer[..end].copy_from_slice(&series.front(label.number, key)[..end]);
    key
}

const fn tag_and_kind(byte: u8) -> Option<(Tag, u8)> {
    let kind = byte & (LOAD_BIT - 1) & !WARMUP_BIT;
    if byte & LOAD_BIT == 0 || kind as usize >= KINDS_MAX {
        return None;
    }
    Some((if byte & WARMUP_BIT == 0 { Tag::Data } else { Tag::Warmup }, kind))
}

/// Bytes of the front of a message.
const fn front_len(len: usize) -> usize {
    match len {
        0 | 1 => len,
        2..NUMBERED_LEN_MIN => 2,
        NUMBERED_LEN_MIN..HEADER_LEN => 8,
        _ => HEADER_LEN,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KIND: u8 = 3;

    fn label(tag: Tag, number: u64, intended: u64) -> Label {
        Label { tag, kind: KIND, number, intended }
    }

    fn read(payload: &[u8], seed: u64) -> Option<Front> {
        let named = Named::read(payload, seed)?;
        named.is_whole(payload, seed, Holding::Pattern).then_some(named.front)
    }

    fn message(len: usize, seed: u64, tag: Tag, number: u64, intended: u64) -> Vec<u8> {
        let mut buffer = vec![0; len];
        write(&mut buffer, seed, label(tag, number, intended));
        buffer
    }

    #[test]
    fn every_length_reads_back_what_it_can_carry() {
        for len in (0..200).chain(SEALED_LEN_MIN - 9..SEALED_LEN_MIN + 20) {
            let front = read(&message(len, 7, Tag::Data, 123_456, 99), 7).unwrap();
            assert_eq!((front.tag, front.kind), (Tag::Data, if len == 0 { 0 } else { KIND }));
            assert_eq!(front.number, (len >= NUMBERED_LEN_MIN).then_some(123_456), "{len}");
            assert_eq!(front.intended, (len >= HEADER_LEN).then_some(99), "{len}");
        }
    }

    #[test]
    fn any_flipped_bit_of_a_message_shows() {
        // A one-byte message has no check byte: it can only be a tag or not.
        let lens = [2, 5, 8, 11, 16, 17, 20, 23, 24, 64, 100, SEALED_LEN_MIN + 5];
        for (len, seed) in lens.into_iter().flat_map(|len| [0, 1, 3].map(|seed| (len, seed))) {
            let whole = message(len, seed, Tag::Warmup, 5, 1_000_000);
            let mut missed = 0;
            let bits = (0..len * 8).filter(|bit| len < 1_000 || bit % 509 == 0 || *bit < 200);
            for bit in bits.chain(len * 8 - 8..len * 8) {
                let mut damaged = whole.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                missed += u32::from(read(&damaged, seed).is_some());
            }
            // Without a pattern only the check byte stands behind number and time.
            let allowed = if len >= 24 { 0 } else { 3 };
            assert!(missed <= allowed, "{missed} flips missed at {len} bytes, seed {seed}");
        }
    }

    #[test]
    fn a_message_prepared_part_by_part_before_its_time_is_the_one_written_at_once() {
        let len = SEALED_LEN_MIN + 1_003;
        let whole = message(len, 9, Tag::Warmup, 4, 77);
        let mut prepared = vec![0; len];
        for start in (HEADER_LEN..len).step_by(4_096) {
            write_body(&mut prepared, start..(start + 4_096).min(len), 9, KIND, 4);
        }
        seal(&mut prepared, 9, label(Tag::Warmup, 4, 77));
        assert!(prepared == whole);
        seal(&mut prepared, 9, label(Tag::Data, 4, 99));
        assert_eq!(read(&prepared, 9).unwrap().intended, Some(99));
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
        write_line_front(&mut buffer, 1, label(Tag::Data, 77, 88));
        assert_eq!(&buffer[HEADER_LEN..], b"a line");
        let named = Named::read(&buffer, 1).unwrap();
        assert!(named.is_whole(&buffer, 1, Holding::Bytes));
        assert_eq!((named.front.number, named.front.intended), (Some(77), Some(88)));
        let cut = &buffer[..HEADER_LEN - 1];
        let named = Named::read(cut, 1);
        assert!(named.is_none_or(|named| !named.is_whole(cut, 1, Holding::Bytes)));
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
            let _ = Reader::begin(&bytes, bytes.len(), 0);
        }

        #[test]
        fn pieces_agree_with_the_whole_and_damaged_ones_do_not(
            len in prop_oneof![17_usize..300, SEALED_LEN_MIN..SEALED_LEN_MIN + 300],
            size in 16_usize..2_000,
            damaged: prop::sample::Index,
        ) {
            let mut whole = message(len, 5, Tag::Data, 6, 7);
            let agrees = |whole: &[u8]| {
                let first = &whole[..size.min(len)];
                let Some(reader) = Reader::begin(first, len, 5) else { return false };
                whole.chunks(size).enumerate().all(|(at, piece)| reader.agrees(at * size, piece))
            };
            prop_assert!(agrees(&whole));
            whole[HEADER_LEN + damaged.index(len - HEADER_LEN)] ^= 4;
            prop_assert!(!agrees(&whole));
        }

        #[test]
        fn what_is_written_is_read(
            len in 16_usize..300, seed: u64, number in 0..NUMBER_MASK, intended: u64,
        ) {
            let front = read(&message(len, seed, Tag::Data, number, intended), seed).unwrap();
            let (number, intended) = (Some(number), Some(intended));
            let expected = Front { tag: Tag::Data, kind: KIND, number, intended };
            prop_assert_eq!(front, expected);
        }
    }
}
