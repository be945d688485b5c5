//! Messages as the auditor knows them: a number from which every byte follows.

use raet::time::Instant;
use raet::{SendOptions, Service, Stream};

/// One message, or all short ones that look the same.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) service: Service,
    /// The ordered stream it belongs to, and its place there.
    pub(crate) place: Option<(Stream, u64)>,
    /// When it became of no use.
    pub(crate) deadline: Option<Instant>,
    /// Its sender wants it back, or one of those that look the same.
    pub(crate) is_cancelled: bool,
    pub(crate) len: usize,
    pub(crate) tries: u64,
    /// Accepted sends of it.
    pub(crate) sent: u64,
    /// Deliveries: those that count as done, those that the handler may yet commit, and those
    /// that it refused.
    pub(crate) kept: u64,
    pub(crate) deferred: u64,
    pub(crate) refused: u64,
    /// Replies handed to the sender.
    pub(crate) replies: u64,
    pub(crate) ended: Ended,
}

impl Letter {
    /// How often it was handed over.
    pub(crate) fn handed(&self) -> u64 {
        self.kept + self.deferred + self.refused
    }

    /// Whether its sender hears what became of it.
    pub(crate) fn is_reported_on(&self) -> bool {
        !matches!(self.service, Service::Maybe | Service::Repeat | Service::RepeatDedup)
    }

    /// Whether it is sent again until it is reported, as long as the session lives.
    pub(crate) fn is_sent_for_ever(&self) -> bool {
        match self.service {
            _ if self.is_cancelled => false,
            Service::ExactlyOnce | Service::Request => self.deadline.is_none(),
            Service::Sequence => self.place.is_some_and(|(stream, _)| !stream.is_lossy()),
            _ => false,
        }
    }
}

/// How sends ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ended {
    pub(crate) delivered: u64,
    pub(crate) indeterminate: u64,
    pub(crate) not_sent: u64,
    /// Its stream went on without it.
    pub(crate) passed: u64,
    pub(crate) refused: u64,
    pub(crate) replied: u64,
    pub(crate) failed: u64,
    pub(crate) sent: u64,
    /// The sender's process ended first.
    pub(crate) forgotten: u64,
}

impl Ended {
    pub(crate) fn sum(&self) -> u64 {
        let Self { delivered, indeterminate, not_sent, passed, .. } = self;
        let Self { refused, replied, failed, sent, forgotten, .. } = self;
        let told =
            delivered + indeterminate + not_sent + passed + refused + replied + failed + sent;
        told + forgotten
    }
}

/// A message about to be offered to an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) options: SendOptions,
    pub(crate) bytes: Vec<u8>,
}

impl Draft {
    /// The stream it is sent in.
    pub(crate) fn stream(&self) -> Option<Stream> {
        (self.options.service == Service::Sequence).then_some(self.options.stream)
    }

    /// When it becomes of no use. Reliable streams have no such time, whatever is asked.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let may_gap = self.stream().is_none_or(Stream::is_lossy);
        self.options.deadline.filter(|_| may_gap)
    }
}

/// Bytes of a message's number: it begins with them if it is long enough.
pub(crate) const NUMBER_LEN: usize = 8;

/// Part of what follows from `seed`, from byte `start` on, which is a multiple of eight.
pub(crate) fn content_at(seed: u64, start: usize, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    let mut word = (start / 8) as u64;
    while bytes.len() < len {
        let value = if word == 0 { seed } else { mix(seed ^ word << 40) };
        bytes.extend_from_slice(&value.to_le_bytes());
        word += 1;
    }
    bytes.truncate(len);
    bytes
}

/// Whether `bytes` are those that follow from `seed` from byte `start` on.
pub(crate) fn is_content(seed: u64, start: usize, bytes: &[u8]) -> bool {
    let lead = start % 8;
    content_at(seed, start - lead, lead + bytes.len())[lead..] == *bytes
}

/// The finishing step of splitmix64.
pub(crate) fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
