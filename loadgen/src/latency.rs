//! Latency as it is recorded and passed on.
//!
//! Messages of one packet share their arrival time and mostly their intended time too, so equal
//! neighbours are counted first and recorded as one: that keeps the cost per message to a
//! comparison.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Longest latency told apart from longer ones: 1 000 s in nanoseconds.
const LATENCY_MAX: u64 = 1_000_000_000_000;
/// Sessions up to which each histogram has three digits; beyond, two, at an eighth of the memory.
const FINE_SESSIONS_MAX: usize = 64;

/// A histogram of nanoseconds with a run of equal values in front.
#[derive(Clone, Debug)]
pub(crate) struct Latency {
    histogram: Histogram<u64>,
    value: u64,
    count: u64,
}

impl Latency {
    /// An empty one for one of `sessions` sessions.
    pub(crate) fn new(sessions: usize) -> Self {
        let digits = if sessions <= FINE_SESSIONS_MAX { 3 } else { 2 };
        let histogram = Histogram::new_with_bounds(1, LATENCY_MAX, digits)
            .expect("bounds and digits are within the histogram's own limits");
        Self { histogram, value: 0, count: 0 }
    }

    /// Records `count` messages intended at `intended` and arrived at `now`.
    #[inline]
    pub(crate) fn record(&mut self, intended: u64, now: u64, count: u64) {
        let value = now.saturating_sub(intended);
        if value != self.value {
            self.flush();
            self.value = value;
        }
        self.count += count;
    }

    /// The histogram with everything recorded so far.
    pub(crate) fn histogram(&mut self) -> &Histogram<u64> {
        self.flush();
        &self.histogram
    }

    /// Adds all values of another.
    pub(crate) fn add(&mut self, other: &mut Self) {
        self.histogram.add(other.histogram()).expect("both have the same bounds");
    }

    /// The recorded values and their counts, for the way to the other side.
    pub(crate) fn json(&mut self) -> Value {
        self.histogram()
            .iter_recorded()
            .map(|step| json!([step.value_iterated_to(), step.count_since_last_iteration()]))
            .collect()
    }

    /// Adds what [`Self::json`] wrote; false if it is something else.
    pub(crate) fn add_json(&mut self, value: &Value) -> bool {
        let Some(pairs) = value.as_array() else { return false };
        pairs.iter().all(|pair| {
            let read = || Some((pair.get(0)?.as_u64()?, pair.get(1)?.as_u64()?));
            let Some((value, count)) = read() else { return false };
            self.histogram.saturating_record_n(value, count);
            true
        })
    }

    fn flush(&mut self) {
        if self.count > 0 {
            self.histogram.saturating_record_n(self.value, self.count);
            self.count = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_equal_values_count_as_often_as_they_came() {
        let mut latency = Latency::new(1);
        for _ in 0..10 {
            latency.record(100, 350, 1);
        }
        latency.record(100, 400, 1);
        latency.record(100, 350, 1);
        latency.record(500, 400, 1);
        let histogram = latency.histogram();
        assert_eq!(histogram.len(), 13);
        assert_eq!((histogram.min(), histogram.max()), (0, 300));
        assert_eq!(histogram.count_at(250), 11);
    }

    #[test]
    fn json_carries_every_bucket_to_the_other_side() {
        let mut here = Latency::new(1);
        for value in 0..10_000 {
            here.record(0, value * value, 1);
        }
        here.record(0, u64::MAX, 1);
        let text = here.json().to_string();
        let mut there = Latency::new(1);
        assert!(there.add_json(&serde_json::from_str(&text).unwrap()));
        assert_eq!(there.histogram().len(), here.histogram().len());
        for quantile in [0.0, 0.5, 0.9, 0.99, 0.9999, 1.0] {
            assert_eq!(
                there.histogram().value_at_quantile(quantile),
                here.histogram().value_at_quantile(quantile)
            );
        }
        assert!(!there.add_json(&json!({"no": "pairs"})));
        assert!(!there.add_json(&json!([[1]])));
    }

    #[test]
    fn histograms_of_one_run_add_up_whatever_their_digits() {
        let mut sum = Latency::new(1);
        let mut part = Latency::new(1_000);
        part.record(0, 1_000, 1);
        sum.add(&mut part);
        assert_eq!(sum.histogram().len(), 1);
    }
}
