//! What the two sides of a session say to each other about the run itself.
//!
//! All of it are `request` messages whose first byte is [`CONTROL`], also when both sides
//! live in one process: so the report rests on what the responder says it got, never on a look
//! into its memory.
//!
//! 1. The initiator asks to *begin*, and says what it needs to be verified: the seed, what kinds
//!    of messages follow, how many sessions share the memory, and which boot of which machine its
//!    clock belongs to. The responder takes all memory it will need and agrees, or says why not.
//! 2. The load runs.
//! 3. The initiator asks for the *verdict*, page by page: what arrived, how often, how late.

use raet::Stream;
use serde_json::{Value, json};

use crate::check::Holding;
use crate::payload::{CONTROL, KINDS_MAX};
use crate::workload::Streams;

/// Bytes of a verdict in one reply.
pub(crate) const PAGE_LEN: usize = 32 << 10;
/// Pages of a verdict at most: a histogram with every bucket in use is below half a MiB, and each
/// kind of messages has one.
pub(crate) const PAGES_MAX: u32 = 1_024;
/// Sessions that one responder shard keeps books for at a time: with the smallest ring and
/// histogram each, below a GiB.
pub(crate) const SESSIONS_MAX: u32 = 4_096;

/// A request to begin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Begin {
    /// Seed of the messages' contents.
    pub(crate) seed: u64,
    /// Sessions of the run.
    pub(crate) sessions: u32,
    /// The boot of the machine whose clock stamps the messages.
    pub(crate) boot: String,
    /// The kinds of messages; their order numbers them.
    pub(crate) kinds: Vec<Terms>,
}

/// What a responder must know of one kind of messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Terms {
    /// What they hold.
    pub(crate) holding: Holding,
    /// Whether every one is long enough to carry its number.
    pub(crate) is_numbered: bool,
    /// Whether each is answered with what it holds.
    pub(crate) is_request: bool,
    /// Bytes of the longest.
    pub(crate) longest: u64,
    /// The ordered streams that they are dealt to.
    pub(crate) streams: Option<Streams>,
}

impl Terms {
    fn to_json(self) -> Value {
        json!({
            "holding": match self.holding {
                Holding::Bytes => "bytes",
                Holding::BytesInOrder => "bytes-in-order",
                Holding::Pattern => "pattern",
            },
            "numbered": self.is_numbered,
            "request": self.is_request,
            "longest": self.longest,
            "streams": self.streams.map(|streams| {
                // The engine numbers kinds in their order on the wire.
                json!([streams.kind as u8, streams.first, streams.count])
            }),
        })
    }

    fn from_json(value: &Value) -> Option<Self> {
        let holding = match value.get("holding")?.as_str()? {
            "bytes" => Holding::Bytes,
            "bytes-in-order" => Holding::BytesInOrder,
            "pattern" => Holding::Pattern,
            _ => return None,
        };
        let streams = match value.get("streams")? {
            Value::Null => None,
            numbers => {
                let at = |index: usize| numbers.get(index)?.as_u64();
                let kind = at(0).filter(|&kind| kind < 4)?;
                let (first, count) = (u8::try_from(at(1)?).ok()?, u16::try_from(at(2)?).ok()?);
                let fits = count >= 1 && u16::from(first) + count <= 256;
                let kind = Stream::of_order(kind).kind;
                fits.then_some(Some(Streams { kind, first, count }))?
            }
        };
        Some(Self {
            holding,
            is_numbered: value.get("numbered")?.as_bool()?,
            is_request: value.get("request")?.as_bool()?,
            longest: value.get("longest")?.as_u64()?,
            streams,
        })
    }
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
                    "sessions": begin.sessions,
                    "boot": begin.boot,
                    "kinds": begin.kinds.iter().map(|terms| terms.to_json()).collect::<Vec<_>>(),
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
            sessions: u32::try_from(begin.get("sessions")?.as_u64()?).ok()?,
            boot: begin.get("boot")?.as_str()?.to_owned(),
            kinds: {
                let kinds =
                    begin.get("kinds")?.as_array().filter(|list| list.len() <= KINDS_MAX)?;
                kinds.iter().map(Terms::from_json).collect::<Option<_>>()?
            },
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

fn tagged(text: &[u8]) -> Vec<u8> {
    let mut message = vec![CONTROL];
    message.extend_from_slice(text);
    message
}

fn untagged(message: &[u8]) -> Option<&[u8]> {
    message.strip_prefix(&[CONTROL])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use raet::StreamKind;

    use super::*;

    #[test]
    fn questions_are_understood_as_asked() {
        let begin =
            Begin { seed: u64::MAX, sessions: 9, boot: "b-1".to_owned(), kinds: Vec::new() };
        let terms = |holding, streams| Terms {
            holding,
            is_numbered: holding == Holding::Bytes,
            is_request: holding != Holding::Bytes,
            longest: 70_000,
            streams,
        };
        let streams = Streams { kind: StreamKind::LossyOnRequest, first: 200, count: 56 };
        let kinds = vec![
            terms(Holding::Pattern, Some(streams)),
            terms(Holding::Bytes, None),
            terms(Holding::BytesInOrder, None),
        ];
        let begin = Begin { kinds, ..begin };
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

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Question::from_message(&bytes);
            let _ = read_begin_answer(&bytes);
            let _ = read_page_answer(&bytes);
            bytes.insert(0, b'c');
            let _ = Question::from_message(&bytes);
            let _ = read_page_answer(&bytes);
        }
    }
}
