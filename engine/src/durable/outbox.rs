//! What a durable sender asks of the place where it keeps its records.

use core::fmt;
use std::io;

use super::message::OutboxId;

/// Records that outlive the process, numbered from 0 in the order in which they were appended. An
/// outbox may leave numbers out, which count as done, and uses none for two records. A record is
/// *safe* once [`Outbox::sync`] returned after it, and only then may it be sent.
pub trait Outbox {
    /// Drawn when the outbox was made; the same after every restart.
    fn id(&self) -> OutboxId;

    /// Takes a record and returns its number. It is not safe yet.
    ///
    /// # Errors
    /// [`OutboxError::Full`] is normal: offer it again when records are done.
    fn append(&mut self, record: &[u8]) -> Result<u64, OutboxError>;

    /// Marks a safe record as done: it will not be read again, and its room can be used. Once it
    /// is synced this survives, too. `false`: it was done before.
    ///
    /// # Errors
    /// [`OutboxError::Failed`].
    fn done(&mut self, record: u64) -> Result<bool, OutboxError>;

    /// Makes everything so far survive what the outbox is to survive, in one go.
    ///
    /// # Errors
    /// [`OutboxError::Failed`].
    fn sync(&mut self) -> Result<(), OutboxError>;

    /// Appends a safe record that is not done to `out`. `false`: there is none of this number.
    ///
    /// # Errors
    /// [`OutboxError::Failed`].
    fn read(&self, record: u64, out: &mut Vec<u8>) -> Result<bool, OutboxError>;

    /// The first record from `from` up that is safe and not done.
    fn next_unfinished(&self, from: u64) -> Option<u64>;

    /// The low-water mark: all records below are done, and that is safe. Never decreases.
    fn low(&self) -> u64;

    /// One past the last safe record. Replay at start is all of `low()..end()` that is not done: most
    /// may be, so go from one [to the next](Outbox::next_unfinished).
    fn end(&self) -> u64;
}

/// Why an outbox did not do what it was asked.
#[derive(Debug)]
pub enum OutboxError {
    /// The system failed to read or write. What is safe stays safe, but nothing more is taken:
    /// after a failed flush nobody knows what is on the disk. Open the outbox again.
    Failed {
        /// What was tried, as in "cannot flush it".
        action: &'static str,
        /// What the system says; for every call after the first, that it failed before.
        cause: io::Error,
    },
    /// The records that are not done take all the room that was configured.
    Full,
    /// The record is longer than `max` bytes, or than the whole outbox.
    TooLong {
        /// Largest record in bytes.
        max: usize,
    },
}

impl fmt::Display for OutboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { action, cause } => write!(
                f,
                "the outbox cannot {action} ({cause}): check its disk, then open it again"
            ),
            Self::Full => write!(f, "the outbox is full of records that are not delivered yet"),
            Self::TooLong { max } => write!(f, "a record has at most {max} bytes"),
        }
    }
}

impl std::error::Error for OutboxError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed { cause, .. } => Some(cause),
            _ => None,
        }
    }
}
