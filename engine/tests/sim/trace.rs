//! What happened, as one number, so that two runs can be compared; and in words, if asked for.

use std::collections::VecDeque;

use raet::protocol::wire::control::Blocks;
use raet::protocol::wire::{AuthKind, BodyKind, split};
use raet::time::Instant;

/// Lines kept of a history of which only the end is told.
const LINES_KEPT: usize = 20;

/// What is printed of a history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Telling {
    /// Each line as it happens.
    All,
    /// The last lines, when the history ends, by a panic too.
    End,
    Nothing,
}

/// A run's history.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    telling: Telling,
    last: VecDeque<String>,
}

impl Trace {
    /// An empty history.
    pub(crate) fn new(telling: Telling) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, telling, last: VecDeque::new() }
    }

    /// Something happened at a node.
    pub(crate) fn note(&mut self, what: &str, now: Instant, node: usize, numbers: &[u64]) {
        self.mix(what.as_bytes());
        self.word(now.as_nanos());
        self.word(node as u64);
        for &number in numbers {
            self.word(number);
        }
        self.tell(|| format!("{:>16} node {node} {what} {numbers:?}", now.as_nanos()));
    }

    /// A datagram came or went.
    pub(crate) fn bytes(&mut self, what: &str, now: Instant, node: usize, bytes: &[u8]) {
        self.mix(bytes);
        self.tell(|| {
            let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
            let end = end.unwrap_or_else(|| bytes.len().min(40));
            let head = String::from_utf8_lossy(&bytes[..end]);
            let mut line =
                format!("{:>16} node {node} {what} {} {head}", now.as_nanos(), bytes.len());
            if let Ok(packet) = split(bytes)
                && (packet.head.auth, packet.head.body) == (AuthKind::None, BodyKind::Control)
            {
                let blocks = Blocks::new(&bytes[packet.body()]);
                line += &format!("\n{:>23} {:?}", "", blocks.collect::<Vec<_>>());
            }
            line
        });
    }

    fn tell(&mut self, line: impl FnOnce() -> String) {
        match self.telling {
            Telling::All => println!("{}", line()),
            Telling::End => {
                if self.last.len() == LINES_KEPT {
                    self.last.pop_front();
                }
                self.last.push_back(line());
            }
            Telling::Nothing => {}
        }
    }

    /// The history so far, as one number.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    fn mix(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
        self.word(bytes.len() as u64);
    }

    fn word(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if self.telling == Telling::End {
            println!("  the last it did:");
        }
        for line in &self.last {
            println!("{line}");
        }
    }
}
