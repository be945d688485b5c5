//! Where the next message comes from: generated, a line of a file, or a block of one.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use raet::Outbound;

use crate::blocks::{Blocks, WholeFile};
use crate::check::{ContentHash, Hashing, Holding};
use crate::lines::{Lines, Survey};
use crate::payload::{self, HEADER_LEN, Label, NUMBERED_LEN_MIN, SEALED_LEN_MIN, Series, Tag};
use crate::plan::Sizes;

/// Bytes of a long message that are prepared at once: a few microseconds, so that messages of
/// other kinds do not wait.
const SLICE_LEN: usize = 1 << 16;
/// The same where there are no other kinds: a turn still has to end so that acknowledgements are
/// read.
const SLICE_LEN_ALONE: usize = 1 << 20;
/// Long messages whose memory is kept for the next ones.
const KEPT_MAX: usize = 16;

/// What a workload sends.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// A whole file in blocks, once.
    Blocks(WholeFile),
    /// Messages of these sizes.
    Generated(Sizes),
    /// A file's lines; with `repeat`, from the start again after the last.
    Lines {
        /// The file.
        survey: Survey,
        /// Whether the file is sent more than once.
        repeat: bool,
    },
}

impl Content {
    /// Bytes of the longest message.
    pub(crate) fn longest(&self) -> usize {
        match self {
            Self::Blocks(file) => file.block,
            Self::Generated(sizes) => sizes.max,
            Self::Lines { survey, .. } => survey.longest + HEADER_LEN,
        }
    }

    /// Whether every message is long enough to carry its number.
    pub(crate) const fn is_numbered(&self) -> bool {
        match self {
            Self::Generated(sizes) => sizes.min >= NUMBERED_LEN_MIN,
            Self::Blocks(_) | Self::Lines { .. } => true,
        }
    }

    /// What both sides must know to verify it.
    pub(crate) const fn holding(&self) -> Holding {
        match self {
            Self::Generated(_) => Holding::Pattern,
            Self::Blocks(file) if file.in_order => Holding::BytesInOrder,
            Self::Blocks(_) | Self::Lines { .. } => Holding::Bytes,
        }
    }

    /// What to say when a message may have `max` bytes only.
    pub(crate) fn too_long(&self, max: u64) -> String {
        match self {
            Self::Lines { survey, .. } => format!(
                "line {} of {} has {} bytes, and the responder reserves memory for lines of at \
                 most {}; shorten it",
                survey.longest_at,
                survey.path.display(),
                survey.longest,
                max.saturating_sub(HEADER_LEN as u64)
            ),
            Self::Blocks(_) | Self::Generated(_) => format!(
                "messages of {} bytes are not taken by the responder, which reserves {max}; lower \
                 --size",
                self.longest()
            ),
        }
    }
}

/// What a source has for its user.
#[derive(Debug)]
pub(crate) enum Next<'a> {
    /// Nothing any more.
    End,
    /// Nothing yet: the next message is being prepared.
    Later,
    /// A message; the same again until it was [taken](Source::taken).
    Message(Outbound<'a>),
}

/// A short message that is not written yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Short {
    /// Its bytes.
    pub(crate) len: usize,
    seed: u64,
    label: Label,
}

impl Short {
    /// Writes it over `place`, which is as long.
    pub(crate) fn write(self, place: &mut [u8]) {
        payload::write(place, self.seed, self.label);
    }
}

/// One session's messages of a workload, one after the other.
#[derive(Debug)]
pub(crate) struct Source {
    seed: u64,
    /// Which workload it is.
    kind: u8,
    /// Number of the next message.
    number: u64,
    maker: Maker,
    /// Bytes of a long message that are prepared at once.
    slice: usize,
    hashing: Hashing,
}

#[derive(Debug)]
enum Maker {
    /// Short ones, written where the engine keeps them.
    Generated(Sizes),
    /// Others, made in memory of their own.
    Made(Made),
}

#[derive(Debug)]
enum Made {
    Lines {
        lines: Lines,
        buffer: Box<[u8]>,
        /// Length of the message whose line is in the buffer already and was not taken yet.
        waiting: Option<usize>,
    },
    /// Long ones, prepared slice by slice.
    Long { body: Body, draft: Draft },
}

#[derive(Debug)]
enum Body {
    Blocks(Blocks),
    Pattern(Sizes),
}

impl Source {
    /// The messages of the workload `kind` for `shard` of `shards`.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(crate) fn new(
        content: &Content,
        seed: u64,
        kind: u8,
        shard: u64,
        shards: u64,
    ) -> io::Result<Self> {
        let made = match content {
            Content::Blocks(file) => {
                Made::Long { body: Body::Blocks(Blocks::open(file)?), draft: Draft::default() }
            }
            Content::Generated(sizes) if sizes.max >= SEALED_LEN_MIN => {
                Made::Long { body: Body::Pattern(*sizes), draft: Draft::default() }
            }
            Content::Generated(sizes) => {
                return Ok(Self::with(seed, kind, content, Maker::Generated(*sizes)));
            }
            Content::Lines { survey, repeat } => {
                let lines = Lines::open(survey, shard, shards, *repeat)?;
                let buffer = vec![0; content.longest()].into_boxed_slice();
                Made::Lines { lines, buffer, waiting: None }
            }
        };
        Ok(Self::with(seed, kind, content, Maker::Made(made)))
    }

    fn with(seed: u64, kind: u8, content: &Content, maker: Maker) -> Self {
        let (slice, hashing) = (SLICE_LEN, Hashing::new(content.holding()));
        Self { seed, kind, number: 0, maker, slice, hashing }
    }

    /// This one, in a run without messages of other kinds.
    pub(crate) fn alone(self) -> Self {
        Self { slice: SLICE_LEN_ALONE, ..self }
    }

    /// Prepares a slice of the next message, if it is a long one; false if more is to be done.
    ///
    /// # Errors
    /// The file cannot be read, or shrank.
    #[inline]
    pub(crate) fn prepare(&mut self) -> io::Result<bool> {
        let Maker::Made(Made::Long { body, draft }) = &mut self.maker else { return Ok(true) };
        draft.go_on(body, self.slice, self.seed, self.kind, self.number)
    }

    /// The next message, meant to be sent at `intended`, if it is one to be written where the engine
    /// keeps it.
    #[inline]
    pub(crate) fn short(&self, tag: Tag, intended: u64) -> Option<Short> {
        let Maker::Generated(sizes) = &self.maker else { return None };
        let len = sizes.of(self.seed, self.number);
        Some(Short { len, seed: self.seed, label: self.label(tag, intended) })
    }

    /// The messages from the next on, meant to be sent at `intended`, if all are to be written where
    /// the engine keeps them, and are of one length with a whole front.
    pub(crate) fn series(&self, tag: Tag, intended: u64) -> Option<Series> {
        let Maker::Generated(sizes) = &self.maker else { return None };
        let series = Series::new(self.seed, sizes.min, self.label(tag, intended));
        (sizes.min == sizes.max && series.is_plain()).then_some(series)
    }

    /// The next message, meant to be sent at `intended`, of a source that has [none of
    /// those](Source::short).
    ///
    /// # Errors
    /// The file cannot be read, shrank, or grew a line since it was surveyed.
    pub(crate) fn next(&mut self, tag: Tag, intended: u64) -> io::Result<Next<'_>> {
        let label = self.label(tag, intended);
        match &mut self.maker {
            Maker::Generated(_) => unreachable!("short ones are asked for first"),
            Maker::Made(made) => made.next(self.slice, self.seed, label),
        }
    }

    const fn label(&self, tag: Tag, intended: u64) -> Label {
        Label { tag, kind: self.kind, number: self.number, intended }
    }

    /// The message was accepted by the engine: goes on to the next.
    #[inline]
    pub(crate) fn taken(&mut self) {
        self.number += 1;
        if let Maker::Made(made) = &mut self.maker {
            made.taken(&mut self.hashing);
        }
    }

    /// The next `count` messages of a [series](Self::series) were accepted by the engine.
    pub(crate) fn taken_of_series(&mut self, count: u64) {
        self.number += count;
    }

    /// Number of the next message.
    #[inline]
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// Hash over all content taken.
    pub(crate) fn hash(&self) -> ContentHash {
        self.hashing.value()
    }
}

impl Made {
    /// The next message, whose front says `label`.
    fn next(&mut self, slice: usize, seed: u64, label: Label) -> io::Result<Next<'_>> {
        match self {
            Self::Lines { lines, buffer, waiting } => {
                let len = match *waiting {
                    Some(len) => len,
                    None => {
                        let Some(line) = lines.next()? else { return Ok(Next::End) };
                        let len = HEADER_LEN + line.len();
                        let Some(place) = buffer.get_mut(HEADER_LEN..len) else {
                            return Err(io::Error::other("a line grew while the file was sent"));
                        };
                        place.copy_from_slice(line);
                        *waiting = Some(len);
                        len
                    }
                };
                let message = &mut buffer[..len];
                payload::write_line_front(message, seed, label);
                Ok(Next::Message(Outbound::Borrowed(message)))
            }
            Self::Long { body, draft } => {
                if !draft.go_on(body, slice, seed, label.kind, label.number)? {
                    return Ok(Next::Later);
                }
                Ok(draft.finish(body, seed, label).map_or(Next::End, Next::Message))
            }
        }
    }

    /// The message that is next is the engine's.
    fn taken(&mut self, hashing: &mut Hashing) {
        match self {
            Self::Lines { waiting, buffer, .. } => {
                if let Some(len) = waiting.take() {
                    hashing.add(&buffer[..len]);
                }
            }
            Self::Long { draft, .. } => {
                if let Some(message) = draft.take() {
                    hashing.add(&message);
                }
            }
        }
    }
}

/// A long message on its way to be sent, in memory that the engine shares.
#[derive(Debug, Default)]
struct Draft {
    message: Option<Arc<[u8]>>,
    /// Bytes that are there, the front included.
    done: usize,
    /// Messages that were sent. Once the engine lets go of one, its memory is used again.
    sent: VecDeque<Arc<[u8]>>,
}

impl Draft {
    /// Prepares a slice of the message `number`; true if there is nothing more to prepare.
    fn go_on(
        &mut self,
        body: &mut Body,
        slice: usize,
        seed: u64,
        kind: u8,
        number: u64,
    ) -> io::Result<bool> {
        if self.message.is_none() {
            let len = match body {
                Body::Blocks(blocks) => blocks.next_len(),
                Body::Pattern(sizes) => Some(sizes.of(seed, number)),
            };
            let Some(len) = len else { return Ok(true) };
            self.message = Some(self.memory(len));
            self.done = HEADER_LEN;
        }
        let Some(message) = self.message.as_mut().and_then(Arc::get_mut) else { return Ok(true) };
        let slice = self.done..message.len().min(self.done + slice);
        if slice.is_empty() {
            return Ok(true);
        }
        self.done = slice.end;
        match body {
            Body::Blocks(blocks) => blocks.read(&mut message[slice])?,
            // A short one is written when its time is known.
            Body::Pattern(_) if message.len() < SEALED_LEN_MIN => return Ok(true),
            Body::Pattern(_) => payload::write_body(message, slice, seed, kind, number),
        }
        Ok(self.done == message.len())
    }

    /// The message with its front.
    fn finish(&mut self, body: &Body, seed: u64, label: Label) -> Option<Outbound<'static>> {
        let message = self.message.as_mut()?;
        let bytes = Arc::get_mut(message).expect("what the engine did not take it does not keep");
        match body {
            Body::Blocks(_) => payload::write_line_front(bytes, seed, label),
            Body::Pattern(_) if bytes.len() < SEALED_LEN_MIN => payload::write(bytes, seed, label),
            Body::Pattern(_) => payload::seal(bytes, seed, label),
        }
        Some(Outbound::Shared(Arc::clone(message)))
    }

    /// The message is the engine's.
    fn take(&mut self) -> Option<Arc<[u8]>> {
        let message = self.message.take()?;
        if self.sent.len() == KEPT_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back(Arc::clone(&message));
        Some(message)
    }

    /// Memory for a message of `len` bytes.
    fn memory(&mut self, len: usize) -> Arc<[u8]> {
        let is_free = |message: &Arc<[u8]>| message.len() == len && Arc::strong_count(message) == 1;
        match self.sent.iter().position(is_free) {
            Some(place) => self.sent.remove(place).expect("it was just found"),
            None => std::iter::repeat_n(0, len).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &[u8]) -> payload::Front {
        let named = payload::Named::read(message, 9).unwrap();
        assert!(named.is_whole(message, 9, Holding::Pattern));
        named.front
    }

    fn lines_of(text: &str) -> (tempfile::TempDir, Content) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        std::fs::write(&path, text).unwrap();
        let survey = Survey::of(&path).unwrap();
        (folder, Content::Lines { survey, repeat: false })
    }

    fn message(source: &mut Source, tag: Tag, intended: u64) -> Vec<u8> {
        if let Some(short) = source.short(tag, intended) {
            let mut message = vec![0; short.len];
            short.write(&mut message);
            return message;
        }
        loop {
            match source.next(tag, intended).unwrap() {
                Next::End => panic!("there is no more"),
                Next::Later => {}
                Next::Message(message) => return message.to_vec(),
            }
        }
    }

    #[test]
    fn a_line_is_offered_until_it_is_taken_and_hashed_once() {
        let (_folder, content) = lines_of("first\nsecond\n");
        let mut source = Source::new(&content, 1, 0, 0, 1).unwrap();
        let first = message(&mut source, Tag::Data, 10);
        assert_eq!(&first[HEADER_LEN..], b"first");
        assert_eq!(message(&mut source, Tag::Data, 10), first);
        source.taken();
        let second = message(&mut source, Tag::Data, 11);
        assert_eq!(&second[HEADER_LEN..], b"second");
        source.taken();
        assert!(matches!(source.next(Tag::Data, 12), Ok(Next::End)));
        let mut expected = Hashing::new(Holding::Bytes);
        expected.add(&first);
        expected.add(&second);
        assert_eq!(source.hash(), expected.value());
    }

    #[test]
    fn generated_messages_are_within_their_bounds_and_readable() {
        for (min, max) in [(16, 40), (1_000, 200_000)] {
            let content = Content::Generated(Sizes { min, max });
            let mut source = Source::new(&content, 9, 3, 0, 1).unwrap();
            for number in 0..100 {
                let message = message(&mut source, Tag::Warmup, 5);
                assert!((min..=max).contains(&message.len()));
                let front = read(&message);
                assert_eq!((front.number, front.kind), (Some(number), 3));
                source.taken();
            }
        }
    }

    #[test]
    fn long_messages_take_the_time_at_which_they_are_sent_and_use_memory_again() {
        let content = Content::Generated(Sizes { min: 200_000, max: 200_000 });
        let mut source = Source::new(&content, 9, 0, 0, 1).unwrap();
        assert!(matches!(source.next(Tag::Data, 1), Ok(Next::Later)));
        while !source.prepare().unwrap() {}
        let mut places = std::collections::BTreeSet::new();
        for intended in 0..20 {
            // Offered in vain first.
            message(&mut source, Tag::Warmup, intended);
            let Next::Message(Outbound::Shared(taken)) = ({
                while !source.prepare().unwrap() {}
                source.next(Tag::Data, intended).unwrap()
            }) else {
                panic!("long messages are shared")
            };
            assert_eq!(read(&taken).intended, Some(intended));
            places.insert(taken.as_ptr());
            source.taken();
        }
        assert!(places.len() <= 2, "{places:?}");
    }

    #[test]
    fn blocks_are_the_file_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let bytes: Vec<_> = (0..500_000_u32).flat_map(u32::to_le_bytes).collect();
        std::fs::write(&path, &bytes).unwrap();
        let content = Content::Blocks(WholeFile::of(&path, 300_000, true).unwrap());
        let mut source = Source::new(&content, 1, 0, 0, 1).unwrap();
        let mut sent = Vec::new();
        while sent.len() < bytes.len() {
            sent.extend_from_slice(&message(&mut source, Tag::Data, 3)[HEADER_LEN..]);
            source.taken();
        }
        assert!(sent == bytes);
        assert!(matches!(source.next(Tag::Data, 4), Ok(Next::End)));
        assert_eq!(source.hash().to_hex(), blake3::hash(&bytes).to_hex().as_str());
    }

    #[test]
    fn a_line_that_does_not_fit_is_named_with_the_limit() {
        let (_folder, content) = lines_of("a\na longer line\n");
        assert_eq!(content.longest(), HEADER_LEN + 13);
        let sentence = content.too_long(HEADER_LEN as u64 + 5);
        assert!(sentence.contains("line 2") && sentence.contains("at most 5"), "{sentence}");
    }
}
