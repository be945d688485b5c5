//! From what the two sides found to the report.

use hdrhistogram::Histogram;

use crate::check::{Arrived, Holding};
use crate::cli::RunOptions;
use crate::engine;
use crate::environment::{self, Environment};
use crate::latency::Latency;
use crate::load::Load;
use crate::names::ServiceName;
use crate::payload::HEADER_LEN;
use crate::plan::Sizes;
use crate::promise::{Account, Outcomes};
use crate::report::{Clocking, KindReport, NodeFigures, Offered, Report};
use crate::shared::{KindResult, SessionResult};
use crate::source::Content;
use crate::verdict::KindVerdict;
use crate::workload::{Streams, Workload};

/// The report on a run.
pub(crate) fn assemble(
    options: &RunOptions,
    load: &Load,
    mut result: SessionResult,
    nodes: Vec<NodeFigures>,
    mut failures: Vec<String>,
    interrupted: bool,
) -> Report {
    failures.append(&mut result.failures);
    let has_verdict = result.verdict.is_some();
    let mut corrupted = result.replies_corrupted;
    let mut verdicts = Vec::new();
    if let Some(verdict) = result.verdict {
        corrupted += verdict.corrupted;
        verdicts = verdict.kinds;
    }
    let mut verdicts = verdicts.into_iter();
    let mut broken = Vec::new();
    if corrupted > 0 {
        broken.push(format!("{corrupted} messages were corrupted"));
    }
    let mut kinds = Vec::new();
    for (workload, found) in load.workloads.iter().zip(result.kinds) {
        let (kind, sentences) = judge(workload, found, verdicts.next());
        let named = |sentence| match load.workloads.len() {
            1 => sentence,
            _ => format!("{}: {sentence}", workload.name),
        };
        for sentence in sentences.into_iter().map(named) {
            if !broken.contains(&sentence) {
                broken.push(sentence);
            }
        }
        kinds.push(kind);
    }
    let (clocking, latency) = latency_of_all(&kinds);
    let alone = kinds.first().filter(|_| kinds.len() == 1);
    Report {
        config: load.to_json(options),
        title: load.title(options),
        environment: Environment::read(),
        seconds: result.seconds,
        measured: sum(&kinds, |kind| &kind.measured, Offered::add),
        warmup: sum(&kinds, |kind| &kind.warmup, Offered::add),
        arrived: sum(&kinds, |kind| &kind.arrived, Arrived::add),
        warmup_arrived: sum(&kinds, |kind| &kind.warmup_arrived, Arrived::add),
        corrupted,
        stale: kinds.iter().map(|kind| kind.stale).sum(),
        skipped: kinds.iter().map(|kind| kind.skipped).sum(),
        verdict: has_verdict,
        content_hash: alone.and_then(|kind| kind.content_hash.clone()),
        content_hash_match: alone.and_then(|kind| kind.content_hash_match),
        clocking,
        latency,
        path: result.path,
        nodes,
        max_rss_bytes: environment::resident_bytes_max(),
        kinds,
        broken,
        failures,
        interrupted,
    }
}

fn sum<T: Default>(
    kinds: &[KindReport],
    of: impl Fn(&KindReport) -> &T,
    add: impl Fn(&mut T, &T),
) -> T {
    kinds.iter().map(of).fold(T::default(), |mut sum, part| {
        add(&mut sum, part);
        sum
    })
}

/// What became of one workload, and which of its promises did not hold.
fn judge(
    workload: &Workload,
    mut found: KindResult,
    mut verdict: Option<KindVerdict>,
) -> (KindReport, Vec<String>) {
    let mut outcomes = found.measured.outcomes;
    outcomes.add(&found.warmup.outcomes);
    let sent = found.measured.sent + found.warmup.sent;
    let (arrived, warmup_arrived) = match &verdict {
        Some(verdict) => (verdict.measured, verdict.warmup),
        None => (
            acknowledged(&found.measured.outcomes, workload),
            acknowledged(&found.warmup.outcomes, workload),
        ),
    };
    let delivered = arrived.delivered + warmup_arrived.delivered;
    let is_hashed = workload.content.holding() != Holding::Pattern;
    let content_hash_match = match &verdict {
        Some(verdict) if is_hashed && delivered == sent => {
            let is_request = workload.service == ServiceName::Request;
            let replies_match = !is_request || found.replies.hash == found.hash;
            Some(verdict.content == found.hash && replies_match)
        }
        _ => None,
    };
    let streams = workload.streams();
    let order = verdict.as_ref().map(|verdict| verdict.order).unwrap_or_default();
    let stale = verdict.as_ref().map_or(0, |verdict| verdict.stale);
    let account = Account {
        service: workload.service,
        sent,
        outcomes,
        delivered: verdict.is_some().then_some(delivered),
        duplicates: arrived.duplicates + warmup_arrived.duplicates,
        stale,
        copies_max: verdict.as_ref().map_or(0, |verdict| verdict.copies_max),
        copies_allowed: engine::TRIES,
        replies: found.replies.count,
        reply_duplicates: found.replies.duplicates,
        content_hash_match,
        order,
        may_gap: streams.is_some_and(Streams::is_lossy),
    };
    let (clocking, latency) = latency(workload, &mut found, verdict.as_mut());
    let kind = KindReport {
        name: workload.name.clone(),
        measured: found.measured,
        warmup: found.warmup,
        arrived,
        warmup_arrived,
        stale,
        skipped: found.skipped,
        order: streams.map(|_| order),
        content_hash: is_hashed.then(|| found.hash.to_hex()),
        content_hash_match,
        clocking,
        latency,
    };
    (kind, account.broken())
}

/// What arrived by the word of the acknowledgements alone.
fn acknowledged(outcomes: &Outcomes, workload: &Workload) -> Arrived {
    let delivered = outcomes.delivered + outcomes.replied;
    let bytes = match workload.content {
        Content::Generated(Sizes { min, max }) if min == max => delivered * min as u64,
        _ => 0,
    };
    Arrived { delivered, duplicates: 0, bytes }
}

/// The latency that means something for this workload, and how it was taken.
fn latency(
    workload: &Workload,
    found: &mut KindResult,
    verdict: Option<&mut KindVerdict>,
) -> (Clocking, Histogram<u64>) {
    let carries_time = workload.content.longest() >= HEADER_LEN;
    let is_scheduled = workload.pace.is_scheduled();
    if workload.service == ServiceName::Request && carries_time {
        let clocking = if is_scheduled { Clocking::IntendedToReply } else { Clocking::SendToReply };
        return (clocking, found.replies.latency.histogram().clone());
    }
    match verdict.and_then(|verdict| verdict.latency.as_mut()) {
        Some(latency) if carries_time => {
            let clocking =
                if is_scheduled { Clocking::IntendedToDelivery } else { Clocking::SendToDelivery };
            (clocking, latency.histogram().clone())
        }
        _ => (Clocking::None, Latency::new(1).histogram().clone()),
    }
}

fn latency_of_all(kinds: &[KindReport]) -> (Clocking, Histogram<u64>) {
    let mut all = Latency::new(1).histogram().clone();
    for kind in kinds {
        all.add(&kind.latency).expect("all have the same bounds");
    }
    let mut ways = kinds.iter().map(|kind| kind.clocking);
    let first = ways.next().unwrap_or(Clocking::None);
    (if ways.all(|way| way == first) { first } else { Clocking::EachItsOwn }, all)
}
