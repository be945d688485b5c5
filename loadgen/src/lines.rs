//! A text file as a source of messages: its lines in order, dealt to the shards in turn.
//!
//! The file is streamed, not loaded, so that a run's memory says something about the engine.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use raet::limits::MESSAGE_LEN_MAX;

use crate::payload::HEADER_LEN;

/// Bytes of the file read at once.
const READ_LEN: usize = 1 << 20;
/// Bytes of a line that fits a message with its front.
const LINE_LEN_MAX: usize = MESSAGE_LEN_MAX - HEADER_LEN;

/// What a first look at the file found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Survey {
    /// The file.
    pub(crate) path: PathBuf,
    /// Lines in it.
    pub(crate) lines: u64,
    /// Bytes of the longest line, without its end.
    pub(crate) longest: usize,
    /// Number of the longest line, from 1.
    pub(crate) longest_at: u64,
}

impl Survey {
    /// Reads the file once.
    ///
    /// # Errors
    /// One sentence: it cannot be read, has no line, or one that no message carries.
    pub(crate) fn of(path: &Path) -> Result<Self, String> {
        let failed = |error: io::Error| {
            format!("cannot read {}: {error}; give a readable text file", path.display())
        };
        let mut reader = open(path).map_err(failed)?;
        let mut line = Vec::new();
        let mut survey = Self { path: path.to_owned(), lines: 0, longest: 0, longest_at: 0 };
        while next_line(&mut reader, &mut line).map_err(failed)? {
            survey.lines += 1;
            if line.len() > LINE_LEN_MAX {
                return Err(format!(
                    "line {} of {} has more than {LINE_LEN_MAX} bytes, the most that a message \
                     carries; shorten it",
                    survey.lines,
                    path.display()
                ));
            }
            if line.len() > survey.longest || survey.longest_at == 0 {
                survey.longest = line.len();
                survey.longest_at = survey.lines;
            }
        }
        if survey.lines == 0 {
            return Err(format!("{} is empty; give a file with at least one line", path.display()));
        }
        Ok(survey)
    }
}

/// Every `shards`th line of a file, for one shard.
#[derive(Debug)]
pub(crate) struct Lines {
    reader: BufReader<File>,
    line: Vec<u8>,
    /// Lines of others before the next of ours.
    skip: u64,
    shards: u64,
    repeat: bool,
}

impl Lines {
    /// The lines of `survey`'s file that fall to `shard` of `shards`; with `repeat` from the
    /// start again after the last, and no line of a later pass goes to another shard than the
    /// one that is its turn.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(crate) fn open(survey: &Survey, shard: u64, shards: u64, repeat: bool) -> io::Result<Self> {
        let line = Vec::with_capacity(survey.longest + 1);
        Ok(Self { reader: open(&survey.path)?, line, skip: shard, shards, repeat })
    }

    /// The next line without its end, or `None` after the last. Allocates nothing while the file
    /// is as it was when it was surveyed.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        let mut rewound = false;
        loop {
            if next_line(&mut self.reader, &mut self.line)? {
                rewound = false;
                if self.skip == 0 {
                    self.skip = self.shards - 1;
                    return Ok(Some(&self.line));
                }
                self.skip -= 1;
            } else if self.repeat && !rewound {
                self.reader.rewind()?;
                rewound = true;
            } else {
                return Ok(None);
            }
        }
    }
}

fn open(path: &Path) -> io::Result<BufReader<File>> {
    Ok(BufReader::with_capacity(READ_LEN, File::open(path)?))
}

/// Reads one line into `line` without its newline, of one too long only its beginning; false at
/// the end.
fn next_line(reader: &mut BufReader<File>, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let most = LINE_LEN_MAX as u64 + 2; // With its newline, and a byte that is too many.
    if reader.take(most).read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, Survey) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        std::fs::write(&path, text).unwrap();
        let survey = Survey::of(&path).unwrap();
        (folder, survey)
    }

    fn take(lines: &mut Lines, count: usize) -> Vec<String> {
        let mut taken = Vec::new();
        while taken.len() < count
            && let Some(line) = lines.next().unwrap()
        {
            taken.push(String::from_utf8(line.to_vec()).unwrap());
        }
        taken
    }

    #[test]
    fn lines_come_once_in_order_with_empty_ones_and_an_unfinished_last() {
        let (_folder, survey) = file("one\n\nthree\nfour");
        assert_eq!((survey.lines, survey.longest, survey.longest_at), (4, 5, 3));
        let mut lines = Lines::open(&survey, 0, 1, false).unwrap();
        assert_eq!(take(&mut lines, 9), ["one", "", "three", "four"]);
    }

    #[test]
    fn repeated_lines_start_again() {
        let (_folder, survey) = file("a\nb\n");
        let mut lines = Lines::open(&survey, 0, 1, true).unwrap();
        assert_eq!(take(&mut lines, 5), ["a", "b", "a", "b", "a"]);
    }

    #[test]
    fn shards_take_turns_also_across_the_end_of_the_file() {
        let (_folder, survey) = file("a\nb\nc\n");
        let mut first = Lines::open(&survey, 0, 2, true).unwrap();
        let mut second = Lines::open(&survey, 1, 2, true).unwrap();
        assert_eq!(take(&mut first, 3), ["a", "c", "b"]);
        assert_eq!(take(&mut second, 3), ["b", "a", "c"]);
    }

    #[test]
    fn missing_and_empty_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Survey::of(&folder.path().join("none")).unwrap_err();
        assert!(missing.contains("none") && missing.contains("readable"), "{missing}");
        let empty = folder.path().join("empty");
        std::fs::write(&empty, "").unwrap();
        assert!(Survey::of(&empty).unwrap_err().contains("at least one line"));
    }

    #[test]
    fn more_shards_than_lines_leave_some_without() {
        let (_folder, survey) = file("only\n");
        let mut second = Lines::open(&survey, 1, 2, false).unwrap();
        assert_eq!(take(&mut second, 3), Vec::<String>::new());
    }
}
