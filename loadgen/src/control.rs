//! What the two sides of a session say to each other about the run itself.
//!
//! All of it are `request` messages whose first byte is [`Tag::Control`], also when both sides
//! live in one process: so the report rests on what the responder says it got, never on a look
//! into its memory.
//!
//! 1. The initiator asks to *begin*, and says what it needs to be verified: the seed, whether
//!    lines follow, how many sessions share the memory, and which boot of which machine its clock
//!    belongs to. The responder takes all memory it will need and agrees, or says why not.
//! 2. The load runs.
//! 3. The initiator asks for the *verdict*, page by page: what arrived, how often, how late.

use serde_json::{Value, json};

use crate::check::{Arrived, ContentHash};
use crate::latency::Latency;
use crate::payload::Tag;

/// Bytes of a verdict in one reply: fits the smallest datagram with every head.
pub(crate) const PAGE_LEN: usize = 600;
/// Pages of a verdict at most: a histogram with every bucket in use is below half a MiB.
pub(crate) const PAGES_MAX: u32 = 2_048;
/// Sessions that one responder shard keeps books for at a time: with the smallest ring and
/// histogram each, below a GiB.
pub(crate) const SESSIONS_MAX: u32 = 4_096;

/// A request to begin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Begin {
    /// Seed of the messages' contents.
    pub(crate) seed: u64,
    /// Whether messages are lines of a file.
    pub(crate) lines: bool,
    /// Whether every message is long enough to carry its number.
    pub(crate) numbered: bool,
    /// Sessions of the run.
    pub(crate) sessions: u32,
    /// The boot of the machine whose clock stamps the messages.
    pub(crate) boot: String,
}

/// What the initiator asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Question {
    /// To begin.
    Begin(Begin),
    /// For a page of the verdict.
    Page(u32),
}

impl Question {
    /// The message.
    pub(crate) fn to_message(&self) -> Vec<u8> {
        let value = match self {
            Self::Begin(begin) => json!({
                "begin": {
                    "seed": begin.seed,
                    "lines": begin.lines,
                    "numbered": begin.numbered,
                    "sessions": begin.sessions,
                    "boot": begin.boot,
                }
            }),
            Self::Page(page) => json!({ "page": page }),
        };
        tagged(value.to_string().as_bytes())
    }

    /// What a message asks, `None` if it is no question.
    pub(crate) fn from_message(message: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(untagged(message)?).ok()?;
        if let Some(page) = value.get("page") {
            return Some(Self::Page(u32::try_from(page.as_u64()?).ok()?));
        }
        let begin = value.get("begin")?;
        Some(Self::Begin(Begin {
            seed: begin.get("seed")?.as_u64()?,
            lines: begin.get("lines")?.as_bool()?,
            numbered: begin.get("numbered")?.as_bool()?,
            sessions: u32::try_from(begin.get("sessions")?.as_u64()?).ok()?,
            boot: begin.get("boot")?.as_str()?.to_owned(),
        }))
    }
}

/// The answer to [`Question::Begin`]: ready, or why not.
pub(crate) fn begin_answer(refused: Option<&str>) -> Vec<u8> {
    tagged(json!({ "ready": refused.is_none(), "why": refused }).to_string().as_bytes())
}

/// Reads [`begin_answer`].
///
/// # Errors
/// The responder's reason, or that the answer is none.
pub(crate) fn read_begin_answer(message: &[u8]) -> Result<(), String> {
    let value: Option<Value> = untagged(message).and_then(|text| serde_json::from_slice(text).ok());
    let value = value.ok_or("the peer is no raet-loadgen; connect to `raet-loadgen serve`")?;
    if value["ready"] == true {
        return Ok(());
    }
    let why = value["why"].as_str().unwrap_or("no reason given");
    Err(format!("the responder does not take the load: {why}"))
}

/// One page of a verdict's text, as a message.
pub(crate) fn page_answer(text: &[u8], page: u32) -> Vec<u8> {
    let pages = text.chunks(PAGE_LEN).count();
    let pages = u32::try_from(pages).unwrap_or(u32::MAX).min(PAGES_MAX);
    let chunk = usize::try_from(page).ok().and_then(|page| text.chunks(PAGE_LEN).nth(page));
    let mut message = tagged(&pages.to_le_bytes());
    message.extend_from_slice(chunk.unwrap_or_default());
    message
}

/// Reads [`page_answer`]: how many pages there are, and this one's text.
pub(crate) fn read_page_answer(message: &[u8]) -> Option<(u32, &[u8])> {
    let (pages, text) = untagged(message)?.split_first_chunk::<4>()?;
    let pages = u32::from_le_bytes(*pages);
    (pages <= PAGES_MAX && text.len() <= PAGE_LEN).then_some((pages, text))
}

/// What a responder found about one session, or about all of a run together.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// Messages of the warm-up.
    pub(crate) warmup: Arrived,
    /// Messages after it.
    pub(crate) measured: Arrived,
    /// Messages that are not what was sent.
    pub(crate) corrupted: u64,
    /// Messages too late to be told new from repeated.
    pub(crate) stale: u64,
    /// Most arrivals of one message.
    pub(crate) copies_max: u8,
    /// Hash over all different messages; of use when they were lines.
    pub(crate) content: ContentHash,
    /// From intended send to delivery, if both clocks are one.
    pub(crate) latency: Option<Latency>,
}

impl Verdict {
    /// Nothing arrived yet, on one of `sessions` sessions.
    pub(crate) fn new(sessions: usize, shared_clock: bool) -> Self {
        Self {
            warmup: Arrived::default(),
            measured: Arrived::default(),
            corrupted: 0,
            stale: 0,
            copies_max: 0,
            content: ContentHash::default(),
            latency: shared_clock.then(|| Latency::new(sessions)),
        }
    }

    /// Adds another session's.
    pub(crate) fn add(&mut self, other: &mut Self) {
        self.warmup.add(&other.warmup);
        self.measured.add(&other.measured);
        self.corrupted += other.corrupted;
        self.stale += other.stale;
        self.copies_max = self.copies_max.max(other.copies_max);
        self.content.merge(&other.content);
        match (&mut self.latency, &mut other.latency) {
            (Some(mine), Some(theirs)) => mine.add(theirs),
            // One foreign clock, and the sum says nothing.
            _ => self.latency = None,
        }
    }

    /// As text for the way to the initiator.
    pub(crate) fn text(&mut self) -> String {
        let arrived =
            |arrived: &Arrived| json!([arrived.delivered, arrived.duplicates, arrived.bytes]);
        json!({
            "warmup": arrived(&self.warmup),
            "measured": arrived(&self.measured),
            "corrupted": self.corrupted,
            "stale": self.stale,
            "copies_max": self.copies_max,
            "content": self.content.to_hex(),
            "latency": self.latency.as_mut().map(Latency::json),
        })
        .to_string()
    }

    /// Reads [`Self::text`].
    pub(crate) fn from_text(text: &[u8], sessions: usize) -> Option<Self> {
        let value: Value = serde_json::from_slice(text).ok()?;
        let number = |name: &str| value.get(name)?.as_u64();
        let arrived = |name: &str| {
            let numbers = value.get(name)?;
            let at = |index: usize| numbers.get(index)?.as_u64();
            Some(Arrived { delivered: at(0)?, duplicates: at(1)?, bytes: at(2)? })
        };
        let latency = match value.get("latency")? {
            Value::Null => None,
            pairs => {
                let mut latency = Latency::new(sessions);
                latency.add_json(pairs).then_some(Some(latency))?
            }
        };
        Some(Self {
            warmup: arrived("warmup")?,
            measured: arrived("measured")?,
            corrupted: number("corrupted")?,
            stale: number("stale")?,
            copies_max: u8::try_from(number("copies_max")?).ok()?,
            content: ContentHash::from_hex(value.get("content")?.as_str()?)?,
            latency,
        })
    }
}

fn tagged(text: &[u8]) -> Vec<u8> {
    let mut message = vec![Tag::Control.byte()];
    message.extend_from_slice(text);
    message
}

fn untagged(message: &[u8]) -> Option<&[u8]> {
    message.strip_prefix(&[Tag::Control.byte()])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn questions_are_understood_as_asked() {
        let begin = Begin {
            seed: u64::MAX,
            lines: true,
            numbered: false,
            sessions: 9,
            boot: "b-1".to_owned(),
        };
        for question in [Question::Begin(begin), Question::Page(7)] {
            assert_eq!(Question::from_message(&question.to_message()), Some(question));
        }
        assert_eq!(Question::from_message(b"c{}"), None);
        assert_eq!(Question::from_message(b"d{\"page\":1}"), None);
    }

    #[test]
    fn a_refusal_keeps_its_reason_and_strangers_are_recognised() {
        assert_eq!(read_begin_answer(&begin_answer(None)), Ok(()));
        let refused = read_begin_answer(&begin_answer(Some("too many sessions"))).unwrap_err();
        assert!(refused.contains("too many sessions"));
        assert!(read_begin_answer(b"hello").unwrap_err().contains("serve"));
    }

    #[test]
    fn a_verdict_survives_its_pages() {
        let mut verdict = Verdict::new(1, true);
        verdict.measured = Arrived { delivered: 5, duplicates: 1, bytes: 320 };
        verdict.corrupted = 2;
        verdict.copies_max = 3;
        verdict.content.add(b"line");
        for value in 0..3_000 {
            verdict.latency.as_mut().unwrap().record(0, value * 1_001);
        }
        let text = verdict.text();
        let mut collected = Vec::new();
        let (pages, _) = read_page_answer(&page_answer(text.as_bytes(), 0)).unwrap();
        assert!(pages > 1);
        for page in 0..pages {
            let answer = page_answer(text.as_bytes(), page);
            collected.extend_from_slice(read_page_answer(&answer).unwrap().1);
        }
        let mut read = Verdict::from_text(&collected, 1).unwrap();
        assert_eq!(read.text(), text);
        let beyond = page_answer(text.as_bytes(), u32::MAX);
        assert_eq!(read_page_answer(&beyond), Some((pages, &b""[..])));
    }

    #[test]
    fn one_foreign_clock_makes_the_sum_say_nothing_about_latency() {
        let mut sum = Verdict::new(2, true);
        sum.add(&mut Verdict::new(2, true));
        assert!(sum.latency.is_some());
        sum.add(&mut Verdict::new(2, false));
        assert!(sum.latency.is_none());
    }

    #[test]
    fn the_fullest_verdict_fits_its_pages() {
        let mut verdict = Verdict::new(1, true);
        let latency = verdict.latency.as_mut().unwrap();
        let mut value = 0_u64;
        while value < 1_000_000_000_000 {
            for _ in 0..3 {
                latency.record(0, value);
            }
            value += 1 + value / 2_048;
        }
        assert!(verdict.text().len() < PAGE_LEN * PAGES_MAX as usize);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Question::from_message(&bytes);
            let _ = read_begin_answer(&bytes);
            let _ = read_page_answer(&bytes);
            let _ = Verdict::from_text(&bytes, 1);
            bytes.insert(0, b'c');
            let _ = Question::from_message(&bytes);
            let _ = read_page_answer(&bytes);
        }
    }
}
