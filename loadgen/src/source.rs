//! Where the next message comes from: generated, or a line of a file.

use std::io;

use crate::check::ContentHash;
use crate::lines::{Lines, Survey};
use crate::payload::{self, HEADER_LEN, NUMBERED_LEN_MIN, Tag};
use crate::plan::Sizes;

/// What a run sends.
#[derive(Clone, Debug)]
pub(crate) enum Content {
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
            Self::Generated(sizes) => sizes.max,
            Self::Lines { survey, .. } => survey.longest + HEADER_LEN,
        }
    }

    /// Whether every message is long enough to carry its number.
    pub(crate) const fn is_numbered(&self) -> bool {
        match self {
            Self::Generated(sizes) => sizes.min >= NUMBERED_LEN_MIN,
            Self::Lines { .. } => true,
        }
    }

    /// Whether messages are lines.
    pub(crate) const fn is_lines(&self) -> bool {
        matches!(self, Self::Lines { .. })
    }

    /// What to say when a message may have `max` bytes only.
    pub(crate) fn too_long(&self, max: u64) -> String {
        match self {
            Self::Generated(sizes) => format!(
                "messages of {} bytes are not taken by the responder, which reserves {max}; lower \
                 --size",
                sizes.max
            ),
            Self::Lines { survey, .. } => format!(
                "line {} of {} has {} bytes, and the responder reserves memory for lines of at \
                 most {}; shorten it",
                survey.longest_at,
                survey.path.display(),
                survey.longest,
                max.saturating_sub(HEADER_LEN as u64)
            ),
        }
    }
}

/// A shard's messages, one after the other, made in one buffer.
#[derive(Debug)]
pub(crate) struct Source {
    seed: u64,
    buffer: Box<[u8]>,
    kind: Kind,
    hash: ContentHash,
}

#[derive(Debug)]
enum Kind {
    Generated(Sizes),
    Lines {
        lines: Lines,
        /// Length of the message whose line is in the buffer already and was not taken yet.
        waiting: Option<usize>,
    },
}

impl Source {
    /// The messages of `shard` of `shards`.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(crate) fn new(content: &Content, seed: u64, shard: u64, shards: u64) -> io::Result<Self> {
        let kind = match content {
            Content::Generated(sizes) => Kind::Generated(*sizes),
            Content::Lines { survey, repeat } => {
                let lines = Lines::open(survey, shard, shards, *repeat)?;
                Kind::Lines { lines, waiting: None }
            }
        };
        let buffer = vec![0; content.longest()].into_boxed_slice();
        Ok(Self { seed, buffer, kind, hash: ContentHash::default() })
    }

    /// The next message, named by its session's `number`; the same again until it was
    /// [taken](Self::taken). `None` at the end of the file.
    ///
    /// # Errors
    /// The file cannot be read, or grew a line since it was surveyed.
    #[inline]
    pub(crate) fn message(
        &mut self,
        tag: Tag,
        number: u64,
        intended: u64,
    ) -> io::Result<Option<&[u8]>> {
        match &mut self.kind {
            Kind::Generated(sizes) => {
                let message = &mut self.buffer[..sizes.of(self.seed, number)];
                payload::write(message, self.seed, tag, number, intended);
                Ok(Some(message))
            }
            Kind::Lines { lines, waiting } => {
                let len = match *waiting {
                    Some(len) => len,
                    None => {
                        let Some(line) = lines.next()? else { return Ok(None) };
                        let len = HEADER_LEN + line.len();
                        let Some(place) = self.buffer.get_mut(HEADER_LEN..len) else {
                            return Err(io::Error::other("a line grew while the file was sent"));
                        };
                        place.copy_from_slice(line);
                        *waiting = Some(len);
                        len
                    }
                };
                let message = &mut self.buffer[..len];
                payload::write_line_front(message, self.seed, tag, number, intended);
                Ok(Some(message))
            }
        }
    }

    /// The message was accepted by the engine: goes on to the next.
    #[inline]
    pub(crate) fn taken(&mut self) {
        if let Kind::Lines { waiting, .. } = &mut self.kind
            && let Some(len) = waiting.take()
        {
            self.hash.add(&self.buffer[..len]);
        }
    }

    /// Hash over all lines taken.
    pub(crate) const fn hash(&self) -> ContentHash {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(text: &str) -> (tempfile::TempDir, Content) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        std::fs::write(&path, text).unwrap();
        let survey = Survey::of(&path).unwrap();
        (folder, Content::Lines { survey, repeat: false })
    }

    #[test]
    fn a_line_is_offered_until_it_is_taken_and_hashed_once() {
        let (_folder, content) = lines_of("first\nsecond\n");
        let mut source = Source::new(&content, 1, 0, 1).unwrap();
        let first = source.message(Tag::Data, 0, 10).unwrap().unwrap().to_vec();
        assert_eq!(&first[HEADER_LEN..], b"first");
        let again = source.message(Tag::Data, 0, 10).unwrap().unwrap().to_vec();
        assert_eq!(again, first);
        source.taken();
        let second = source.message(Tag::Data, 1, 11).unwrap().unwrap().to_vec();
        assert_eq!(&second[HEADER_LEN..], b"second");
        source.taken();
        assert_eq!(source.message(Tag::Data, 2, 12).unwrap(), None);
        let mut expected = ContentHash::default();
        expected.add(&first);
        expected.add(&second);
        assert_eq!(source.hash(), expected);
    }

    #[test]
    fn generated_messages_are_within_their_bounds_and_readable() {
        let sizes = Sizes { min: 16, max: 40 };
        let mut source = Source::new(&Content::Generated(sizes), 9, 0, 1).unwrap();
        for number in 0..100 {
            let message = source.message(Tag::Warmup, number, 5).unwrap().unwrap();
            assert!((16..=40).contains(&message.len()));
            assert_eq!(payload::read(message, 9).unwrap().number, Some(number));
        }
    }

    #[test]
    fn a_line_that_does_not_fit_is_named_with_the_limit() {
        let (_folder, content) = lines_of("a\na longer line\n");
        assert_eq!(content.longest(), HEADER_LEN + 13);
        let sentence = content.too_long(HEADER_LEN as u64 + 5);
        assert!(sentence.contains("line 2") && sentence.contains("at most 5"), "{sentence}");
    }
}
