//! A run's result: as a short table for people, as JSON (`raet-loadgen/1`) for programs.
//!
//! All message counts are of the measured part; the warm-up's stand beside them under `warmup`,
//! and the service's promise is held against both. Packet figures are those of the whole life of
//! the nodes in this process, summed; each node's own are under `nodes`.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::check::Arrived;
use crate::environment::Environment;
use crate::promise::Outcomes;

/// Name and version of the JSON form. A change that could break a reader changes it.
const SCHEMA: &str = "raet-loadgen/1";

/// What the initiator knows of one part of a run.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Offered {
    /// Messages that the engine accepted.
    pub(crate) sent: u64,
    /// How they ended.
    pub(crate) outcomes: Outcomes,
}

impl Offered {
    /// Adds another session's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.outcomes.add(&other.outcomes);
    }
}

/// What one node did.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct NodeFigures {
    /// `initiator` or `responder`.
    pub(crate) role: &'static str,
    /// The driver in use.
    pub(crate) driver: String,
    /// Kernel features in use.
    pub(crate) offloads: Vec<String>,
    /// Datagrams that the kernel took.
    pub(crate) packets_sent: u64,
    /// Datagrams that came.
    pub(crate) packets_received: u64,
    /// Bytes of those that the kernel took.
    pub(crate) bytes_sent: u64,
    /// Bytes of those that came.
    pub(crate) bytes_received: u64,
    /// Messages or packets sent again.
    pub(crate) retransmissions: u64,
    /// Packets found lost.
    pub(crate) packets_lost: u64,
    /// Acknowledgements sent.
    pub(crate) acks_sent: u64,
    /// System calls on the data path.
    pub(crate) system_calls: u64,
    /// Turns of its loops.
    pub(crate) turns: u64,
    /// Dropped datagrams by reason; reasons that never occurred are left out.
    pub(crate) drops: BTreeMap<String, u64>,
    /// Processor time of its shards.
    pub(crate) cpu_seconds: f64,
}

/// How the latency was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Clocking {
    /// From the intended time to delivery, on one clock.
    IntendedToDelivery,
    /// Not at all: the responder is on another machine, or the messages carry no time.
    None,
    /// From the intended time to the reply.
    IntendedToReply,
    /// From sending to delivery, on one clock.
    SendToDelivery,
    /// From sending to the reply.
    SendToReply,
}

impl Clocking {
    const fn text(self) -> &'static str {
        match self {
            Self::IntendedToDelivery => "intended send to delivery",
            Self::None => "not measured",
            Self::IntendedToReply => "intended send to reply",
            Self::SendToDelivery => "send to delivery",
            Self::SendToReply => "send to reply",
        }
    }
}

/// A run's result.
#[derive(Debug)]
pub(crate) struct Report {
    /// The command line as it was understood.
    pub(crate) config: Value,
    /// One line that says what was run.
    pub(crate) title: String,
    /// Where.
    pub(crate) environment: Environment,
    /// From the first measured message to the end of the last.
    pub(crate) seconds: f64,
    /// What was sent after the warm-up.
    pub(crate) measured: Offered,
    /// What was sent in the warm-up.
    pub(crate) warmup: Offered,
    /// What arrived after the warm-up, by the responder's word; without one, what was
    /// acknowledged.
    pub(crate) arrived: Arrived,
    /// What arrived of the warm-up.
    pub(crate) warmup_arrived: Arrived,
    /// Messages and replies that differ from what was sent.
    pub(crate) corrupted: u64,
    /// Deliveries too late to be judged.
    pub(crate) stale: u64,
    /// Messages that were due and never offered.
    pub(crate) skipped: u64,
    /// Whether the responder gave its verdict.
    pub(crate) verdict: bool,
    /// Hash of all content sent, if it was lines.
    pub(crate) content_hash: Option<String>,
    /// Whether the responder's is the same, where that was promised.
    pub(crate) content_hash_match: Option<bool>,
    /// How latency was taken.
    pub(crate) clocking: Clocking,
    /// Latency in nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// The nodes of this process.
    pub(crate) nodes: Vec<NodeFigures>,
    /// Most memory this process held.
    pub(crate) max_rss_bytes: u64,
    /// Promises that did not hold, a sentence each.
    pub(crate) broken: Vec<String>,
    /// What went wrong on the way, a sentence each.
    pub(crate) failures: Vec<String>,
    /// Whether a signal ended the run.
    pub(crate) interrupted: bool,
}

impl Report {
    /// Whether the exit status is 0.
    pub(crate) fn held(&self) -> bool {
        self.broken.is_empty() && self.failures.is_empty()
    }

    /// Messages that are gone: sent, not known to have stayed here, and not arrived.
    pub(crate) fn lost(&self) -> u64 {
        let outcomes = &self.measured.outcomes;
        let mut accounted = self.arrived.delivered + outcomes.refused + outcomes.not_sent;
        if !self.verdict {
            accounted += outcomes.indeterminate;
        }
        self.measured.sent.saturating_sub(accounted)
    }

    /// Delivered messages a second.
    pub(crate) fn messages_per_second(&self) -> f64 {
        per_second(self.arrived.delivered, self.seconds)
    }

    /// Delivered payload bytes a second.
    pub(crate) fn payload_per_second(&self) -> f64 {
        per_second(self.arrived.bytes, self.seconds)
    }

    /// One line that says where it was run, for a picture.
    pub(crate) fn subtitle(&self) -> String {
        let driver = self.nodes.first().map_or("", |node| node.driver.as_str());
        format!(
            "{}; {}/s; {driver}; {}; Linux {}; {}",
            self.clocking.text(),
            scaled(self.messages_per_second()),
            self.environment.cpu,
            self.environment.kernel,
            self.environment.commit
        )
    }

    /// For programs.
    pub(crate) fn to_json(&self) -> Value {
        let outcomes = &self.measured.outcomes;
        let sum = |of: fn(&NodeFigures) -> u64| self.nodes.iter().map(of).sum::<u64>();
        let cpu = self.nodes.iter().map(|node| (node.role.to_owned(), json!(node.cpu_seconds)));
        let mut environment = self.environment.to_json();
        environment["driver"] = self.nodes.first().map_or(Value::Null, |node| json!(node.driver));
        environment["offloads"] =
            self.nodes.first().map_or(Value::Null, |node| json!(node.offloads));
        json!({
            "schema": SCHEMA,
            "config": self.config,
            "environment": environment,
            "seconds": self.seconds,
            "sent": self.measured.sent,
            "delivered": self.arrived.delivered,
            "duplicates": self.arrived.duplicates,
            "corrupted": self.corrupted,
            "lost": self.lost(),
            "refused": outcomes.refused,
            "not_sent": outcomes.not_sent,
            "indeterminate": outcomes.indeterminate,
            "acknowledged": outcomes.delivered + outcomes.replied,
            "skipped": self.skipped,
            "unjudged": self.stale,
            "messages_per_second": self.messages_per_second(),
            "payload_bytes_per_second": self.payload_per_second(),
            "packets_sent": sum(|node| node.packets_sent),
            "packets_received": sum(|node| node.packets_received),
            "bytes_sent": sum(|node| node.bytes_sent),
            "retransmissions": sum(|node| node.retransmissions),
            "acks_sent": sum(|node| node.acks_sent),
            "drops": self.drops(),
            "latency_us": latency_json(&self.latency),
            "latency_measured": self.clocking.text(),
            "cpu_seconds": cpu.collect::<Map<_, _>>(),
            "max_rss_bytes": self.max_rss_bytes,
            "content_hash": self.content_hash,
            "content_hash_match": self.content_hash_match,
            "warmup": {
                "sent": self.warmup.sent,
                "delivered": self.warmup_arrived.delivered,
                "duplicates": self.warmup_arrived.duplicates,
            },
            "verdict": if self.verdict { "given" } else { "missing" },
            "held": self.held(),
            "broken": self.broken,
            "failures": self.failures,
            "interrupted": self.interrupted,
            "nodes": self.nodes.iter().map(node_json).collect::<Vec<_>>(),
        })
    }

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
        rows.push(("latency", self.latency_text()));
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

    fn latency_text(&self) -> String {
        let latency = &self.latency;
        if latency.is_empty() {
            return self.clocking.text().to_owned();
        }
        let at = |quantile: f64| short_time(latency.value_at_quantile(quantile));
        format!(
            "p50 {}, p90 {}, p99 {}, p99.9 {}, max {} ({})",
            at(0.5),
            at(0.9),
            at(0.99),
            at(0.999),
            short_time(latency.max()),
            self.clocking.text()
        )
    }

    fn drops(&self) -> BTreeMap<&str, u64> {
        let mut drops = BTreeMap::new();
        for (name, count) in self.nodes.iter().flat_map(|node| &node.drops) {
            *drops.entry(name.as_str()).or_insert(0) += count;
        }
        drops
    }
}

fn latency_json(latency: &Histogram<u64>) -> Value {
    if latency.is_empty() {
        return json!({ "count": 0, "min": null, "p50": null, "p90": null, "p99": null,
            "p999": null, "p9999": null, "max": null, "mean": null });
    }
    let micros = |nanos: u64| nanos as f64 / 1e3;
    let at = |quantile: f64| micros(latency.value_at_quantile(quantile));
    json!({
        "count": latency.len(),
        "min": micros(latency.min()),
        "p50": at(0.5),
        "p90": at(0.9),
        "p99": at(0.99),
        "p999": at(0.999),
        "p9999": at(0.9999),
        "max": micros(latency.max()),
        "mean": latency.mean() / 1e3,
    })
}

fn node_json(node: &NodeFigures) -> Value {
    json!({
        "role": node.role,
        "driver": node.driver,
        "offloads": node.offloads,
        "packets_sent": node.packets_sent,
        "packets_received": node.packets_received,
        "bytes_sent": node.bytes_sent,
        "bytes_received": node.bytes_received,
        "retransmissions": node.retransmissions,
        "packets_lost": node.packets_lost,
        "acks_sent": node.acks_sent,
        "system_calls": node.system_calls,
        "turns": node.turns,
        "drops": node.drops,
        "cpu_seconds": node.cpu_seconds,
    })
}

fn node_text(node: &NodeFigures) -> String {
    let mut driver = node.driver.clone();
    if !node.offloads.is_empty() {
        driver = format!("{driver} ({})", node.offloads.join(", "));
    }
    format!(
        "{driver}, {} packets sent, {} received, {} sent again, {} acks, cpu {:.2} s",
        grouped(node.packets_sent),
        grouped(node.packets_received),
        grouped(node.retransmissions),
        grouped(node.acks_sent),
        node.cpu_seconds
    )
}

fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
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
pub(crate) mod tests {
    use super::*;

    /// A run in which all went well.
    pub(crate) fn sample() -> Report {
        let mut latency = Histogram::new_with_bounds(1, 1_000_000_000, 3).unwrap();
        for value in 1..=10_000_u64 {
            latency.record(value * 100).unwrap();
        }
        let node = |role| NodeFigures {
            role,
            driver: "uring".to_owned(),
            offloads: vec!["gso".to_owned(), "gro".to_owned()],
            packets_sent: 500,
            drops: BTreeMap::from([("replayed".to_owned(), 2)]),
            ..NodeFigures::default()
        };
        let outcomes = Outcomes { delivered: 10_000, ..Outcomes::default() };
        Report {
            config: json!({ "service": "exactly-once" }),
            title: "exactly-once".to_owned(),
            environment: Environment::read(),
            seconds: 2.0,
            measured: Offered { sent: 10_000, outcomes },
            warmup: Offered::default(),
            arrived: Arrived { delivered: 10_000, duplicates: 0, bytes: 640_000 },
            warmup_arrived: Arrived::default(),
            corrupted: 0,
            stale: 0,
            skipped: 0,
            verdict: true,
            content_hash: None,
            content_hash_match: None,
            clocking: Clocking::SendToDelivery,
            latency,
            nodes: vec![node("initiator"), node("responder")],
            max_rss_bytes: 12_000_000,
            broken: Vec::new(),
            failures: Vec::new(),
            interrupted: false,
        }
    }

    #[test]
    fn json_has_every_field_that_scripts_rely_on() {
        let json = sample().to_json();
        for field in [
            "schema",
            "config",
            "environment",
            "seconds",
            "sent",
            "delivered",
            "duplicates",
            "corrupted",
            "lost",
            "refused",
            "not_sent",
            "indeterminate",
            "skipped",
            "messages_per_second",
            "payload_bytes_per_second",
            "packets_sent",
            "packets_received",
            "bytes_sent",
            "retransmissions",
            "acks_sent",
            "drops",
            "latency_us",
            "cpu_seconds",
            "max_rss_bytes",
        ] {
            assert!(json.get(field).is_some(), "{field}");
        }
        for field in ["count", "min", "p50", "p90", "p99", "p999", "p9999", "max", "mean"] {
            assert!(json["latency_us"].get(field).is_some(), "{field}");
        }
        for field in ["kernel", "cpu", "cores", "driver", "offloads", "commit"] {
            assert!(json["environment"].get(field).is_some(), "{field}");
        }
        assert_eq!(json["schema"], "raet-loadgen/1");
        assert_eq!(json["messages_per_second"], 5_000.0);
        assert_eq!(json["payload_bytes_per_second"], 320_000.0);
        assert_eq!(json["packets_sent"], 1_000);
        assert_eq!(json["drops"]["replayed"], 4);
        assert!(json["cpu_seconds"].get("initiator").is_some());
        assert_eq!(json["held"], true);
    }

    #[test]
    fn lost_is_what_was_sent_and_neither_arrived_nor_stayed() {
        let mut report = sample();
        report.measured.outcomes = Outcomes {
            delivered: 9_000,
            refused: 10,
            not_sent: 20,
            indeterminate: 970,
            ..Outcomes::default()
        };
        report.arrived.delivered = 9_400;
        assert_eq!(report.lost(), 570);
        report.verdict = false;
        report.arrived.delivered = 9_000;
        assert_eq!(report.lost(), 0, "without a verdict the indeterminate are not called lost");
    }

    #[test]
    fn table_says_whether_the_promise_was_kept_and_why_not() {
        let mut report = sample();
        let table = report.to_table();
        assert!(table.contains("promise    kept"), "{table}");
        assert!(table.contains("10 000, duplicates 0, corrupted 0, lost 0"), "{table}");
        assert!(table.lines().all(|line| line.len() <= 120), "{table}");
        report.broken.push("one went missing".to_owned());
        let table = report.to_table();
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
