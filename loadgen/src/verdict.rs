//! What a responder found, and how it travels to the initiator.

use serde_json::{Value, json};

use crate::check::{Arrived, ContentHash};
use crate::latency::Latency;
use crate::order::OrderCounts;

/// What a responder found about one session, or about all of a run together.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// Messages that are not what was sent.
    pub(crate) corrupted: u64,
    /// What came of each kind.
    pub(crate) kinds: Vec<KindVerdict>,
}

/// What a responder found about one kind of messages.
#[derive(Clone, Debug)]
pub(crate) struct KindVerdict {
    /// Messages of the warm-up.
    pub(crate) warmup: Arrived,
    /// Messages after it.
    pub(crate) measured: Arrived,
    /// Messages too late to be told new from repeated.
    pub(crate) stale: u64,
    /// Most arrivals of one message.
    pub(crate) copies_max: u8,
    /// How ordered streams came.
    pub(crate) order: OrderCounts,
    /// Hash over all different messages; of use when they hold bytes of a file.
    pub(crate) content: ContentHash,
    /// From intended send to delivery, if both clocks are one.
    pub(crate) latency: Option<Latency>,
}

impl Verdict {
    /// Nothing arrived yet of `kinds` kinds, on one of `sessions` sessions.
    pub(crate) fn new(kinds: usize, sessions: usize, shared_clock: bool) -> Self {
        let kind = || KindVerdict::new(sessions, shared_clock);
        Self { corrupted: 0, kinds: (0..kinds).map(|_| kind()).collect() }
    }

    /// Adds another session's.
    pub(crate) fn add(&mut self, other: &mut Self) {
        self.corrupted += other.corrupted;
        for (mine, theirs) in self.kinds.iter_mut().zip(&mut other.kinds) {
            mine.add(theirs);
        }
    }

    /// As text for the way to the initiator.
    pub(crate) fn text(&mut self) -> String {
        let kinds: Vec<_> = self.kinds.iter_mut().map(KindVerdict::json).collect();
        json!({ "corrupted": self.corrupted, "kinds": kinds }).to_string()
    }

    /// Reads [`Self::text`]; `None` if it is something else, or not about so many kinds.
    pub(crate) fn from_text(text: &[u8], kinds: usize, sessions: usize) -> Option<Self> {
        let value: Value = serde_json::from_slice(text).ok()?;
        let list = value.get("kinds")?.as_array().filter(|list| list.len() == kinds)?;
        let read = |kind| KindVerdict::from_json(kind, sessions);
        Some(Self {
            corrupted: value.get("corrupted")?.as_u64()?,
            kinds: list.iter().map(read).collect::<Option<_>>()?,
        })
    }
}

impl KindVerdict {
    /// Nothing arrived yet.
    pub(crate) fn new(sessions: usize, shared_clock: bool) -> Self {
        Self {
            warmup: Arrived::default(),
            measured: Arrived::default(),
            stale: 0,
            copies_max: 0,
            order: OrderCounts::default(),
            content: ContentHash::default(),
            latency: shared_clock.then(|| Latency::new(sessions)),
        }
    }

    fn add(&mut self, other: &mut Self) {
        self.warmup.add(&other.warmup);
        self.measured.add(&other.measured);
        self.stale += other.stale;
        self.copies_max = self.copies_max.max(other.copies_max);
        self.order.add(&other.order);
        self.content.merge(&other.content);
        match (&mut self.latency, &mut other.latency) {
            (Some(mine), Some(theirs)) => mine.add(theirs),
            // One foreign clock, and the sum says nothing.
            _ => self.latency = None,
        }
    }

    fn json(&mut self) -> Value {
        let arrived =
            |arrived: &Arrived| json!([arrived.delivered, arrived.duplicates, arrived.bytes]);
        json!({
            "warmup": arrived(&self.warmup),
            "measured": arrived(&self.measured),
            "stale": self.stale,
            "copies_max": self.copies_max,
            "order": [self.order.misplaced, self.order.missing, self.order.told],
            "content": self.content.to_hex(),
            "latency": self.latency.as_mut().map(Latency::json),
        })
    }

    fn from_json(value: &Value, sessions: usize) -> Option<Self> {
        let number = |name: &str| value.get(name)?.as_u64();
        let numbers = |name: &str| {
            let list = value.get(name)?;
            let at = |index: usize| list.get(index)?.as_u64();
            Some([at(0)?, at(1)?, at(2)?])
        };
        let arrived = |name: &str| {
            let [delivered, duplicates, bytes] = numbers(name)?;
            Some(Arrived { delivered, duplicates, bytes })
        };
        let [misplaced, missing, told] = numbers("order")?;
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
            stale: number("stale")?,
            copies_max: u8::try_from(number("copies_max")?).ok()?,
            order: OrderCounts { misplaced, missing, told },
            content: ContentHash::from_hex(value.get("content")?.as_str()?)?,
            latency,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::control::{PAGE_LEN, PAGES_MAX, page_answer, read_page_answer};
    use crate::payload::KINDS_MAX;

    #[test]
    fn a_verdict_survives_its_pages() {
        let mut verdict = Verdict::new(2, 1, true);
        verdict.corrupted = 2;
        let kind = &mut verdict.kinds[1];
        kind.measured = Arrived { delivered: 5, duplicates: 1, bytes: 320 };
        kind.copies_max = 3;
        kind.order = OrderCounts { misplaced: 1, missing: 2, told: 3 };
        kind.content.add(&blake3::hash(b"line"));
        for value in 0..30_000 {
            kind.latency.as_mut().unwrap().record(0, value * 1_001, 1);
        }
        let text = verdict.text();
        let mut collected = Vec::new();
        let (pages, _) = read_page_answer(&page_answer(text.as_bytes(), 0)).unwrap();
        assert!(pages > 1);
        for page in 0..pages {
            let answer = page_answer(text.as_bytes(), page);
            collected.extend_from_slice(read_page_answer(&answer).unwrap().1);
        }
        let mut read = Verdict::from_text(&collected, 2, 1).unwrap();
        assert_eq!(read.text(), text);
        assert!(Verdict::from_text(&collected, 3, 1).is_none());
        let beyond = page_answer(text.as_bytes(), u32::MAX);
        assert_eq!(read_page_answer(&beyond), Some((pages, &b""[..])));
    }

    #[test]
    fn one_foreign_clock_makes_the_sum_say_nothing_about_latency() {
        let mut sum = Verdict::new(1, 2, true);
        sum.add(&mut Verdict::new(1, 2, true));
        assert!(sum.kinds[0].latency.is_some());
        sum.add(&mut Verdict::new(1, 2, false));
        assert!(sum.kinds[0].latency.is_none());
    }

    #[test]
    fn the_fullest_verdict_fits_its_pages() {
        let mut verdict = Verdict::new(1, 1, true);
        let latency = verdict.kinds[0].latency.as_mut().unwrap();
        let mut value = 0_u64;
        while value < 1_000_000_000_000 {
            for _ in 0..3 {
                latency.record(0, value, 1);
            }
            value += 1 + value / 2_048;
        }
        assert!(verdict.text().len() * KINDS_MAX < PAGE_LEN * PAGES_MAX as usize);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Verdict::from_text(&bytes, 1, 1);
        }
    }
}
