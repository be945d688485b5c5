//! A run's result, and its form for programs: JSON (`raet-loadgen/1`).
//!
//! All message counts are of the measured part; the warm-up's stand beside them under `warmup`,
//! and the service's promise is held against both. Packet figures are those of the whole life of
//! the nodes in this process, summed; each node's own are under `nodes`.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use raet::PathStatistics;
use serde_json::{Map, Value, json};

use crate::check::Arrived;
use crate::environment::Environment;
use crate::order::OrderCounts;
use crate::promise::Outcomes;
use crate::table::scaled;

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
    /// Times that a session followed its peer to another address.
    pub(crate) sessions_moved: u64,
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
    /// Each kind of messages in its own way.
    EachItsOwn,
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
    /// For people.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::EachItsOwn => "each kind in its own way",
            Self::IntendedToDelivery => "intended send to delivery",
            Self::None => "not measured",
            Self::IntendedToReply => "intended send to reply",
            Self::SendToDelivery => "send to delivery",
            Self::SendToReply => "send to reply",
        }
    }
}

/// What became of one kind of messages.
#[derive(Clone, Debug)]
pub(crate) struct KindReport {
    /// Its name.
    pub(crate) name: String,
    /// What was sent after the warm-up.
    pub(crate) measured: Offered,
    /// What was sent in the warm-up.
    pub(crate) warmup: Offered,
    /// What arrived after the warm-up, by the responder's word; without one, what was
    /// acknowledged.
    pub(crate) arrived: Arrived,
    /// What arrived of the warm-up.
    pub(crate) warmup_arrived: Arrived,
    /// Deliveries too late to be judged.
    pub(crate) stale: u64,
    /// Messages that were due and never offered.
    pub(crate) skipped: u64,
    /// How ordered streams came, if it has any.
    pub(crate) order: Option<OrderCounts>,
    /// Hash of all content sent, if it was a file's.
    pub(crate) content_hash: Option<String>,
    /// Whether the responder's is the same, where that was promised.
    pub(crate) content_hash_match: Option<bool>,
    /// How latency was taken.
    pub(crate) clocking: Clocking,
    /// Latency in nanoseconds.
    pub(crate) latency: Histogram<u64>,
}

impl KindReport {
    /// Messages that are gone: sent, not known to have stayed here, and not arrived.
    pub(crate) fn lost(&self, has_verdict: bool) -> u64 {
        let outcomes = &self.measured.outcomes;
        let mut accounted = self.arrived.delivered + outcomes.refused + outcomes.not_sent;
        if !has_verdict {
            accounted += outcomes.indeterminate;
        }
        self.measured.sent.saturating_sub(accounted)
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
    /// Each kind of messages; the counts above are their sums.
    pub(crate) kinds: Vec<KindReport>,
    /// Whether the responder gave its verdict.
    pub(crate) verdict: bool,
    /// Hash of all content sent, if it was a file's.
    pub(crate) content_hash: Option<String>,
    /// Whether the responder's is the same, where that was promised.
    pub(crate) content_hash_match: Option<bool>,
    /// How latency was taken.
    pub(crate) clocking: Clocking,
    /// Latency in nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// Where the path stood when the load ended.
    pub(crate) path: Option<PathStatistics>,
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

    /// Why no message was sent, if none was.
    pub(crate) fn never_began(&self) -> Option<&str> {
        let sent = self.measured.sent + self.warmup.sent;
        self.failures.first().filter(|_| sent == 0).map(String::as_str)
    }

    /// Messages that are gone: sent, not known to have stayed here, and not arrived.
    pub(crate) fn lost(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.lost(self.verdict)).sum()
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
            "sessions_moved": sum(|node| node.sessions_moved),
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
            "kinds": self.kinds.iter().map(|kind| self.kind_json(kind)).collect::<Vec<_>>(),
            "verdict": if self.verdict { "given" } else { "missing" },
            "held": self.held(),
            "broken": self.broken,
            "failures": self.failures,
            "interrupted": self.interrupted,
            "path": self.path.map(path_json),
            "nodes": self.nodes.iter().map(node_json).collect::<Vec<_>>(),
        })
    }

    fn kind_json(&self, kind: &KindReport) -> Value {
        let outcomes = &kind.measured.outcomes;
        json!({
            "name": kind.name,
            "sent": kind.measured.sent,
            "delivered": kind.arrived.delivered,
            "duplicates": kind.arrived.duplicates,
            "lost": kind.lost(self.verdict),
            "refused": outcomes.refused,
            "not_sent": outcomes.not_sent,
            "indeterminate": outcomes.indeterminate,
            "acknowledged": outcomes.delivered + outcomes.replied,
            "skipped": kind.skipped,
            "unjudged": kind.stale,
            "messages_per_second": per_second(kind.arrived.delivered, self.seconds),
            "payload_bytes_per_second": per_second(kind.arrived.bytes, self.seconds),
            "latency_us": latency_json(&kind.latency),
            "latency_measured": kind.clocking.text(),
            "content_hash": kind.content_hash,
            "content_hash_match": kind.content_hash_match,
            "order": kind.order.map(|order| json!({
                "out_of_order": order.misplaced,
                "gaps_untold": order.missing,
                "gaps_told": order.told,
            })),
        })
    }

    /// Dropped datagrams by reason, over all nodes.
    pub(crate) fn drops(&self) -> BTreeMap<&str, u64> {
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

fn path_json(path: PathStatistics) -> Value {
    json!({
        "datagram_bytes": path.datagram_len,
        "round_trip_us": path.round_trip.as_nanos() as f64 / 1e3,
        "window_bytes": path.window,
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
        "sessions_moved": node.sessions_moved,
        "system_calls": node.system_calls,
        "turns": node.turns,
        "drops": node.drops,
        "cpu_seconds": node.cpu_seconds,
    })
}

/// A rate, or zero if no time passed.
pub(crate) fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
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
        let kind = KindReport {
            name: "exactly-once".to_owned(),
            measured: Offered { sent: 10_000, outcomes },
            warmup: Offered::default(),
            arrived: Arrived { delivered: 10_000, duplicates: 0, bytes: 640_000 },
            warmup_arrived: Arrived::default(),
            stale: 0,
            skipped: 0,
            order: None,
            content_hash: None,
            content_hash_match: None,
            clocking: Clocking::SendToDelivery,
            latency: latency.clone(),
        };
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
            kinds: vec![kind],
            verdict: true,
            content_hash: None,
            content_hash_match: None,
            clocking: Clocking::SendToDelivery,
            latency,
            path: None,
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
            "kinds",
            "messages_per_second",
            "payload_bytes_per_second",
            "packets_sent",
            "packets_received",
            "bytes_sent",
            "retransmissions",
            "acks_sent",
            "sessions_moved",
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
        let kind = &mut report.kinds[0];
        kind.measured.outcomes = Outcomes {
            delivered: 9_000,
            refused: 10,
            not_sent: 20,
            indeterminate: 970,
            ..Outcomes::default()
        };
        kind.arrived.delivered = 9_400;
        assert_eq!(report.lost(), 570);
        report.verdict = false;
        report.kinds[0].arrived.delivered = 9_000;
        assert_eq!(report.lost(), 0, "without a verdict the indeterminate are not called lost");
    }
}
