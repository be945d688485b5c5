//! A report as a short table for people, and how numbers are written for them.

use hdrhistogram::Histogram;
use raet::PathStatistics;

use crate::order::OrderCounts;
use crate::report::{KindReport, NodeFigures, Report, per_second};

impl Report {
    /// For people.
    pub(crate) fn to_table(&self) -> String {
        let outcomes = &self.measured.outcomes;
        let mut rows: Vec<(&str, String)> = Vec::new();
        rows.push(("sent", grouped(self.measured.sent) + &self.exceptions()));
        let source = if self.verdict { "" } else { " acknowledged; the responder gave no verdict" };
        rows.push((
            "delivered",
            format!(
                "{}{source}, duplicates {}, corrupted {}, lost {}",
                grouped(self.arrived.delivered),
                grouped(self.arrived.duplicates),
                grouped(self.corrupted),
                grouped(self.lost()),
            ),
        ));
        if outcomes.replied > 0 {
            rows.push(("replies", grouped(outcomes.replied)));
        }
        rows.push((
            "rate",
            format!(
                "{} messages/s, {} of payload, over {:.3} s",
                scaled(self.messages_per_second()),
                bytes_per_second(self.payload_per_second()),
                self.seconds
            ),
        ));
        rows.push(("latency", latency_text(&self.latency, self.clocking.text())));
        match &self.kinds[..] {
            [alone] => rows.extend(alone.order.map(|order| ("order", order_text(order)))),
            kinds => {
                for kind in kinds {
                    rows.push(("kind", self.kind_text(kind)));
                    let latency = latency_text(&kind.latency, kind.clocking.text());
                    rows.push(("", format!("  {latency}")));
                }
            }
        }
        if let Some(path) = self.path {
            rows.push(("path", path_text(path)));
        }
        for node in &self.nodes {
            rows.push((node.role, node_text(node)));
        }
        let drops = self.drops();
        if !drops.is_empty() {
            let drops: Vec<_> =
                drops.iter().map(|(name, count)| format!("{name} {}", grouped(*count))).collect();
            rows.push(("dropped", drops.join(", ")));
        }
        if let Some(matches) = self.content_hash_match {
            rows.push(("content", format!("hashes {}", if matches { "match" } else { "DIFFER" })));
        }
        rows.push(("memory", format!("{:.1} MB at most", self.max_rss_bytes as f64 / 1e6)));
        if self.interrupted {
            rows.push(("ended", "early, by a signal".to_owned()));
        }
        for failure in &self.failures {
            rows.push(("failed", failure.clone()));
        }
        for broken in &self.broken {
            rows.push(("BROKEN", broken.clone()));
        }
        if self.held() {
            rows.push(("promise", "kept".to_owned()));
        }
        let rows: String =
            rows.iter().map(|(name, text)| format!("  {name:<10} {text}\n")).collect();
        format!("{}\n{rows}", self.title)
    }

    fn exceptions(&self) -> String {
        let outcomes = &self.measured.outcomes;
        [
            ("refused", outcomes.refused),
            ("not sent", outcomes.not_sent),
            ("indeterminate", outcomes.indeterminate),
            ("skipped", self.skipped),
            ("unjudged", self.stale),
        ]
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!(", {name} {}", grouped(*count)))
        .collect()
    }

    /// What became of one kind of messages.
    fn kind_text(&self, kind: &KindReport) -> String {
        let outcomes = &kind.measured.outcomes;
        let exceptions: String = [
            ("duplicates", kind.arrived.duplicates),
            ("lost", kind.lost(self.verdict)),
            ("refused", outcomes.refused),
            ("not sent", outcomes.not_sent),
            ("indeterminate", outcomes.indeterminate),
            ("skipped", kind.skipped),
        ]
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!(", {name} {}", grouped(*count)))
        .collect();
        let order = kind.order.map_or_else(String::new, |order| format!("; {}", order_text(order)));
        format!(
            "{}: sent {}, delivered {}{exceptions}, {} messages/s, {}{order}",
            kind.name,
            grouped(kind.measured.sent),
            grouped(kind.arrived.delivered),
            scaled(per_second(kind.arrived.delivered, self.seconds)),
            bytes_per_second(per_second(kind.arrived.bytes, self.seconds)),
        )
    }
}

fn order_text(order: OrderCounts) -> String {
    format!(
        "{} out of order, {} passed over untold, {} told as gaps",
        grouped(order.misplaced),
        grouped(order.missing),
        grouped(order.told)
    )
}

fn latency_text(latency: &Histogram<u64>, clocking: &str) -> String {
    if latency.is_empty() {
        return clocking.to_owned();
    }
    let at = |quantile: f64| short_time(latency.value_at_quantile(quantile));
    format!(
        "p50 {}, p90 {}, p99 {}, p99.9 {}, max {} ({clocking})",
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        short_time(latency.max()),
    )
}

fn path_text(path: PathStatistics) -> String {
    format!(
        "datagrams of {} bytes, round trip {}, window {} bytes",
        grouped(path.datagram_len as u64),
        short_time(path.round_trip.as_nanos()),
        grouped(path.window)
    )
}

fn node_text(node: &NodeFigures) -> String {
    let mut driver = node.driver.clone();
    if !node.offloads.is_empty() {
        driver = format!("{driver} ({})", node.offloads.join(", "));
    }
    let moves = match node.sessions_moved {
        0 => String::new(),
        moved => format!(", sessions moved {}", grouped(moved)),
    };
    format!(
        "{driver}, {} packets sent, {} received, {} sent again, {} acks{moves}, cpu {:.2} s",
        grouped(node.packets_sent),
        grouped(node.packets_received),
        grouped(node.retransmissions),
        grouped(node.acks_sent),
        node.cpu_seconds
    )
}

/// A whole number in groups of three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A number of things with `k` or `M` when large.
pub(crate) fn scaled(number: f64) -> String {
    match number {
        1e6.. => format!("{:.2} M", number / 1e6),
        1e4.. => format!("{:.1} k", number / 1e3),
        _ => format!("{number:.0}"),
    }
}

/// A size in bytes.
pub(crate) fn bytes_text(bytes: usize) -> String {
    match bytes {
        0x10_0000.. if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        0x400.. if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    }
}

/// A rate of bytes.
pub(crate) fn bytes_per_second(rate: f64) -> String {
    match rate {
        1e9.. => format!("{:.2} GB/s", rate / 1e9),
        1e6.. => format!("{:.1} MB/s", rate / 1e6),
        _ => format!("{:.1} kB/s", rate / 1e3),
    }
}

/// A time of nanoseconds in the unit that suits it.
pub(crate) fn short_time(nanos: u64) -> String {
    match nanos {
        0..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => format!("{:.1} us", nanos as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", nanos as f64 / 1e6),
        _ => format!("{:.2} s", nanos as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn table_says_whether_the_promise_was_kept_and_what_was_unusual() {
        let mut report = sample();
        let table = report.to_table();
        assert!(table.contains("promise    kept"), "{table}");
        assert!(table.contains("10 000, duplicates 0, corrupted 0, lost 0"), "{table}");
        assert!(table.lines().all(|line| line.len() <= 120), "{table}");
        assert!(!table.contains("moved"), "{table}");
        report.nodes[1].sessions_moved = 2;
        report.broken.push("one went missing".to_owned());
        let table = report.to_table();
        assert!(table.contains(", sessions moved 2"), "{table}");
        assert!(!table.contains("kept") && table.contains("BROKEN     one went missing"));
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1 234 567");
        assert_eq!(scaled(12_345_678.0), "12.35 M");
        assert_eq!(scaled(5_000.0), "5000");
        assert_eq!(short_time(999), "999 ns");
        assert_eq!(short_time(15_250), "15.2 us");
        assert_eq!(bytes_per_second(2.5e9), "2.50 GB/s");
    }
}
