//! One kind of the messages of a run: what they hold, how they travel and when they are due.

use raet::{Priority, SendOptions, Service, Stream, StreamKind};
use serde_json::{Value, json};

use crate::names::{PriorityName, ServiceName, StreamKindName, name_of};
use crate::plan::{Pace, Sizes};
use crate::source::Content;
use crate::table::bytes_text;

/// A kind of messages.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    /// What reports call it.
    pub(crate) name: String,
    /// Service level.
    pub(crate) service: ServiceName,
    /// What is sent.
    pub(crate) content: Content,
    /// How fast.
    pub(crate) pace: Pace,
    /// How many after the warm-up; `None` without end.
    pub(crate) messages: Option<u64>,
    /// How soon they leave.
    pub(crate) priority: PriorityName,
    /// What their streams promise, in level sequence.
    pub(crate) stream_kind: StreamKindName,
    /// Number of the first of their streams.
    pub(crate) stream_first: u8,
    /// How many streams they are dealt to in turn.
    pub(crate) stream_count: u16,
}

impl Workload {
    /// How each message is sent, but for its stream.
    pub(crate) fn options(&self) -> SendOptions {
        SendOptions::new(service(self.service)).priority(match self.priority {
            PriorityName::Bulk => Priority::Bulk,
            PriorityName::Normal => Priority::Normal,
            PriorityName::Urgent => Priority::Urgent,
        })
    }

    /// Its ordered streams, if it has any.
    pub(crate) fn streams(&self) -> Option<Streams> {
        let kind = match self.stream_kind {
            StreamKindName::Lossy => StreamKind::Lossy,
            StreamKindName::LossyOnRequest => StreamKind::LossyOnRequest,
            StreamKindName::Reliable => StreamKind::Reliable,
            StreamKindName::ReliableOnRequest => StreamKind::ReliableOnRequest,
        };
        let streams = Streams { kind, first: self.stream_first, count: self.stream_count };
        (self.service == ServiceName::Sequence).then_some(streams)
    }

    /// Whether the responder reports each message's fate.
    pub(crate) fn is_acknowledged(&self) -> bool {
        let unreported = [ServiceName::Maybe, ServiceName::Repeat, ServiceName::RepeatDedup];
        !unreported.contains(&self.service)
    }

    /// In a few words.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}, {}", name_of(self.service), size_text(&self.content));
        if self.service == ServiceName::Sequence {
            let plural = if self.stream_count == 1 { "" } else { "s" };
            let kind = name_of(self.stream_kind);
            text += &format!(", {} {kind} stream{plural}", self.stream_count);
        }
        if self.priority != PriorityName::Normal {
            text += &format!(", {}", name_of(self.priority));
        }
        text + ", " + &pace_text(self.pace)
    }

    /// As it was understood.
    pub(crate) fn to_json(&self) -> Value {
        let is_ordered = self.service == ServiceName::Sequence;
        json!({
            "name": self.name,
            "service": name_of(self.service),
            "size": match &self.content {
                Content::Generated(Sizes { min, max }) if min == max => json!(min),
                Content::Generated(Sizes { min, max }) => json!(format!("{min}..{max}")),
                Content::Lines { survey, .. } => json!(format!("file:{}", survey.path.display())),
                Content::Blocks(file) => json!(file.block),
            },
            "file": match &self.content {
                Content::Blocks(file) => json!(file.path),
                Content::Generated(_) | Content::Lines { .. } => Value::Null,
            },
            "messages": self.messages,
            "rate": match self.pace {
                Pace::PerSecond(rate) => json!(rate),
                Pace::Max => json!("max"),
                Pace::Closed(_) => Value::Null,
            },
            "closed": match self.pace {
                Pace::Closed(outstanding) => json!(outstanding),
                Pace::Max | Pace::PerSecond(_) => Value::Null,
            },
            "priority": name_of(self.priority),
            "streams": is_ordered.then_some(self.stream_count),
            "stream_kind": is_ordered.then(|| name_of(self.stream_kind)),
        })
    }
}

/// The ordered streams of a workload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Streams {
    /// What they promise.
    pub(crate) kind: StreamKind,
    /// Number of the first.
    pub(crate) first: u8,
    /// How many there are, from 1.
    pub(crate) count: u16,
}

impl Streams {
    /// Which of them the message `number` goes to, counted from 0, and its place there.
    #[inline]
    pub(crate) fn place_of(self, number: u64) -> (u16, u64) {
        let count = u64::from(self.count);
        let index = u16::try_from(number % count).expect("below a 16-bit count");
        (index, number / count)
    }

    /// The engine's name of the one at `index`.
    #[inline]
    pub(crate) fn at(self, index: u16) -> Stream {
        let number = u8::try_from(u16::from(self.first) + index).expect("all fit 256 streams");
        Stream { kind: self.kind, number }
    }

    /// Which of them `stream` is, counted from 0.
    pub(crate) fn index_of(self, stream: Stream) -> Option<u16> {
        let index = u16::from(stream.number).checked_sub(self.first.into())?;
        (stream.kind == self.kind && index < self.count).then_some(index)
    }

    /// Whether gaps are allowed, if they are told.
    pub(crate) const fn is_lossy(self) -> bool {
        matches!(self.kind, StreamKind::Lossy | StreamKind::LossyOnRequest)
    }
}

/// The service level of a name.
fn service(name: ServiceName) -> Service {
    match name {
        ServiceName::AtMostOnce => Service::AtMostOnce,
        ServiceName::ExactlyOnce => Service::ExactlyOnce,
        ServiceName::Maybe => Service::Maybe,
        ServiceName::MoreOrLessOnce => Service::MoreOrLessOnce,
        ServiceName::Repeat => Service::Repeat,
        ServiceName::RepeatDedup => Service::RepeatDedup,
        ServiceName::Request => Service::Request,
        ServiceName::Sequence => Service::Sequence,
    }
}

fn size_text(content: &Content) -> String {
    match content {
        Content::Generated(Sizes { min, max }) if min == max => bytes_text(*min),
        Content::Generated(Sizes { min, max }) => {
            format!("{}..{}", bytes_text(*min), bytes_text(*max))
        }
        Content::Lines { survey, .. } => format!("lines of {}", survey.path.display()),
        Content::Blocks(file) => {
            format!("{} in blocks of {}", file.path.display(), bytes_text(file.block))
        }
    }
}

fn pace_text(pace: Pace) -> String {
    match pace {
        Pace::Closed(outstanding) => format!("{outstanding} outstanding"),
        Pace::Max => "full rate".to_owned(),
        Pace::PerSecond(rate) => format!("{rate} a second"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_dealt_to_the_streams_in_turn() {
        let streams = Streams { kind: StreamKind::Lossy, first: 200, count: 3 };
        let places: Vec<_> = (0..7).map(|number| streams.place_of(number)).collect();
        assert_eq!(places, [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (0, 2)]);
        for index in 0..3 {
            assert_eq!(streams.index_of(streams.at(index)), Some(index));
        }
        let stream = |kind, number| Stream { kind, number };
        assert_eq!(streams.index_of(stream(StreamKind::Lossy, 203)), None);
        assert_eq!(streams.index_of(stream(StreamKind::Lossy, 199)), None);
        assert_eq!(streams.index_of(stream(StreamKind::Reliable, 201)), None);
    }
}
