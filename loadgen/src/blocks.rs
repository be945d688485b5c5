//! A whole file as a source of messages: its bytes in order, cut into blocks of one size.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::payload::HEADER_LEN;

/// A file that is sent whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct WholeFile {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Its bytes.
    pub(crate) len: u64,
    /// Bytes of a message that carries a block of it: the last may be shorter.
    pub(crate) block: usize,
    /// Whether its blocks arrive in order, so that both sides can hash it as it is.
    pub(crate) in_order: bool,
}

impl WholeFile {
    /// Looks the file up.
    ///
    /// # Errors
    /// One sentence: it cannot be read, is no file, or is empty.
    pub(crate) fn of(path: &Path, block: usize, in_order: bool) -> Result<Self, String> {
        let failed = |error: io::Error| {
            format!("cannot read {}: {error}; give a readable file", path.display())
        };
        let about = File::open(path).and_then(|file| file.metadata()).map_err(failed)?;
        if !about.is_file() {
            return Err(format!("{} is no file; give a regular file", path.display()));
        }
        if about.len() == 0 {
            return Err(format!("{} is empty; give a file with a byte at least", path.display()));
        }
        Ok(Self { path: path.to_owned(), len: about.len(), block, in_order })
    }
}

/// The blocks that are still to be sent.
#[derive(Debug)]
pub(crate) struct Blocks {
    file: File,
    left: u64,
    block: usize,
}

impl Blocks {
    /// All of them.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(crate) fn open(file: &WholeFile) -> io::Result<Self> {
        Ok(Self { file: File::open(&file.path)?, left: file.len, block: file.block })
    }

    /// Length of the message that carries the next block, `None` after the last.
    pub(crate) fn next_len(&self) -> Option<usize> {
        let block = (self.block - HEADER_LEN) as u64;
        let len = usize::try_from(self.left.min(block)).expect("at most a block");
        (len > 0).then_some(HEADER_LEN + len)
    }

    /// Fills `part` with the file's next bytes.
    ///
    /// # Errors
    /// The file cannot be read, or shrank since it was looked up.
    pub(crate) fn read(&mut self, part: &mut [u8]) -> io::Result<()> {
        self.file.read_exact(part)?;
        self.left -= part.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_the_file_and_the_last_one_what_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"abcdefgh").unwrap();
        let file = WholeFile::of(&path, HEADER_LEN + 3, true).unwrap();
        let mut blocks = Blocks::open(&file).unwrap();
        let mut read = Vec::new();
        while let Some(len) = blocks.next_len() {
            let mut block = vec![0; len - HEADER_LEN];
            blocks.read(&mut block).unwrap();
            read.push(block);
        }
        assert_eq!(read, [&b"abc"[..], b"def", b"gh"]);
    }

    #[test]
    fn what_is_no_file_or_empty_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = |path: &Path| WholeFile::of(path, 1_024, true).unwrap_err();
        assert!(refusal(folder.path()).contains("no file"));
        assert!(refusal(&folder.path().join("none")).contains("readable"));
        let empty = folder.path().join("empty");
        std::fs::write(&empty, "").unwrap();
        assert!(refusal(&empty).contains("empty"));
    }
}
