//! One run: starts the nodes, watches them, and makes the report.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use raet::{IoSummary, Node, ShardReport};

use crate::cli::RunOptions;
use crate::engine::{self, Placement, Trouble};
use crate::environment::{self, Environment};
use crate::initiator::Initiator;
use crate::load::{self, Load};
use crate::names::{AcceptName, ServiceName};
use crate::outputs::Outputs;
use crate::payload::HEADER_LEN;
use crate::plan::Sizes;
use crate::progress::Progress;
use crate::promise::{Account, Outcomes};
use crate::report::{Clocking, NodeFigures, Report};
use crate::responder::Responder;
use crate::shared::{SessionResult, Shared};
use crate::source::Content;

/// How often the watching thread looks.
const WATCH_INTERVAL: Duration = Duration::from_millis(20);

/// Runs the load once and writes what was asked for; true if every promise held.
///
/// # Errors
/// Why there was no run.
pub(crate) fn run(options: &RunOptions, signal: &Arc<AtomicBool>) -> Result<bool, Trouble> {
    let outputs = Outputs::open(options)?;
    let report = measure(options, signal)?;
    // What never began is told in one sentence; a table of zeros would bury it.
    if let Some(failure) = report.never_began() {
        let failure = Trouble::Running(failure.to_owned());
        outputs.write_files(&report)?;
        return Err(failure);
    }
    outputs.tell(&report.to_table());
    outputs.write_files(&report)?;
    Ok(report.held())
}

/// Runs the load once.
///
/// # Errors
/// Why there was no run.
pub(crate) fn measure(options: &RunOptions, signal: &AtomicBool) -> Result<Report, Trouble> {
    let content = load::content(options)?;
    let seed = options.engine.seed.unwrap_or_else(any_seed);
    let placement = Placement::new(&options.engine, options.connect.is_none());
    let local = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);

    let responder = match options.connect {
        Some(_) => None,
        None => {
            let bind = options.bind.unwrap_or_else(|| local(0));
            Some(start_responder(options, bind, &placement, seed)?)
        }
    };
    let (address, key) = match (&responder, options.connect, options.peer_key) {
        (Some(node), ..) => (reachable(node.address()), *node.key()),
        (None, Some(address), Some(key)) => (address, key),
        (None, ..) => return Err(Trouble::Arguments("--connect needs --peer-key".to_owned())),
    };
    let load = Arc::new(Load::new(options, content, seed, address, key));
    let shared = Arc::new(Shared::new(load.sessions));
    let bind = match options.bind {
        Some(bind) if options.connect.is_some() => bind,
        _ => unspecified_like(address),
    };
    let mut initiators = Vec::new();
    for place in 0..load.sessions {
        initiators.push(start_initiator(options, &load, &shared, place, bind, &placement)?);
    }
    tell_warnings(responder.iter().chain(&initiators));

    let interrupted = watch(&initiators, &shared, signal);
    let mut nodes = Vec::new();
    let mut failures = Vec::new();
    let mut reports = Vec::new();
    let io = initiators.first().map_or_else(IoSummary::default, |node| node.io().clone());
    for node in &mut initiators {
        collect(node.join(), &mut reports, &mut failures);
    }
    nodes.push(engine::figures("initiator", &io, &reports));
    if let Some(node) = responder {
        let io = node.io().clone();
        let mut reports = Vec::new();
        collect(node.stop(), &mut reports, &mut failures);
        nodes.push(engine::figures("responder", &io, &reports));
    }
    let (result, ended) = shared.take();
    if ended < initiators.len() && failures.is_empty() {
        failures.push("a session ended without a result".to_owned());
    }
    Ok(assemble(options, &load, result, nodes, failures, interrupted))
}

fn start_responder(
    options: &RunOptions,
    bind: SocketAddr,
    placement: &Placement,
    seed: u64,
) -> Result<Node, Trouble> {
    let mut config = engine::config(&options.engine, bind)?;
    engine::respond(&mut config, &options.engine, AcceptName::Always);
    config.cpus.clone_from(&placement.responder);
    config.seed = !seed;
    // Both sides cannot have one key: the file's is the initiator's.
    if options.engine.key.is_some() {
        let identity = raet::Identity::random().map_err(|error| Trouble::starting(&error))?;
        config.identity = Arc::new(identity);
    }
    let (summaries, _) = channel();
    Node::start(config, move |_| Responder::new(summaries.clone()))
        .map_err(|error| Trouble::starting(&error))
}

fn start_initiator(
    options: &RunOptions,
    load: &Arc<Load>,
    shared: &Arc<Shared>,
    place: u32,
    bind: SocketAddr,
    placement: &Placement,
) -> Result<Node, Trouble> {
    let mut config = engine::config(&options.engine, bind)?;
    engine::initiate(&mut config, place, load.sessions);
    if options.connect.is_some() {
        config.idle_timeout = engine::IDLE_TIMEOUT_APART;
    }
    config.cpus = placement.initiators.as_ref().map(|cpus| vec![cpus[place as usize % cpus.len()]]);
    config.seed = load.seed.wrapping_add(u64::from(place) << 32);
    let (load, shared) = (Arc::clone(load), Arc::clone(shared));
    Node::start(config, move |_| Initiator::new(Arc::clone(&load), Arc::clone(&shared), place))
        .map_err(|error| Trouble::starting(&error))
}

/// Waits for the initiators to end, showing progress; true if a signal ended them.
fn watch(initiators: &[Node], shared: &Shared, signal: &AtomicBool) -> bool {
    let mut progress = Progress::start();
    let mut interrupted = false;
    while !initiators.iter().all(Node::is_finished) {
        if !interrupted && signal.load(Ordering::Relaxed) {
            interrupted = true;
            shared.stop();
        }
        progress.show(shared.gauges(), shared.phase_name());
        thread::sleep(WATCH_INTERVAL);
    }
    progress.finish();
    interrupted
}

fn collect(
    ended: std::io::Result<Vec<ShardReport>>,
    reports: &mut Vec<ShardReport>,
    failures: &mut Vec<String>,
) {
    match ended {
        Ok(mut shards) => reports.append(&mut shards),
        Err(error) => failures.push(format!("a node's driver broke: {error}")),
    }
}

/// Says once why the preferred driver is not used.
fn tell_warnings<'a>(mut nodes: impl Iterator<Item = &'a Node>) {
    if let Some(warning) = nodes.find_map(|node| node.io().warning.as_ref()) {
        eprintln!("raet-loadgen: {warning}");
    }
}

fn assemble(
    options: &RunOptions,
    load: &Load,
    mut result: SessionResult,
    nodes: Vec<NodeFigures>,
    mut failures: Vec<String>,
    interrupted: bool,
) -> Report {
    let mut outcomes = result.measured.outcomes;
    outcomes.add(&result.warmup.outcomes);
    let sent = result.measured.sent + result.warmup.sent;
    let acknowledged = |outcomes: &Outcomes| outcomes.delivered + outcomes.replied;
    let mut arrived = crate::check::Arrived {
        delivered: acknowledged(&result.measured.outcomes),
        ..Default::default()
    };
    let mut warmup_arrived = crate::check::Arrived {
        delivered: acknowledged(&result.warmup.outcomes),
        ..Default::default()
    };
    if let Some(verdict) = &result.verdict {
        (arrived, warmup_arrived) = (verdict.measured, verdict.warmup);
    } else if let Content::Generated(Sizes { min, max }) = load.content
        && min == max
    {
        arrived.bytes = arrived.delivered * min as u64;
    }
    let delivered = arrived.delivered + warmup_arrived.delivered;
    let corrupted =
        result.verdict.as_ref().map_or(0, |verdict| verdict.corrupted) + result.replies.corrupted;
    let stale = result.verdict.as_ref().map_or(0, |verdict| verdict.stale);
    let is_request = options.service == ServiceName::Request;
    let content_hash_match = match &result.verdict {
        Some(verdict) if load.content.is_lines() && delivered == sent => {
            let replies_match = !is_request || result.replies.hash == result.hash;
            Some(verdict.content == result.hash && replies_match)
        }
        _ => None,
    };
    let account = Account {
        service: options.service,
        sent,
        outcomes,
        delivered: result.verdict.is_some().then_some(delivered),
        duplicates: arrived.duplicates + warmup_arrived.duplicates,
        corrupted,
        stale,
        copies_max: result.verdict.as_ref().map_or(0, |verdict| verdict.copies_max),
        copies_allowed: engine::TRIES,
        replies: result.replies.count,
        reply_duplicates: result.replies.duplicates,
        content_hash_match,
    };
    failures.append(&mut result.failures);
    let (clocking, latency) = latency(options, load, &mut result);
    Report {
        config: load.to_json(options),
        title: load.title(options),
        environment: Environment::read(),
        seconds: result.seconds,
        measured: result.measured,
        warmup: result.warmup,
        arrived,
        warmup_arrived,
        corrupted,
        stale,
        skipped: result.skipped,
        verdict: result.verdict.is_some(),
        content_hash: load.content.is_lines().then(|| result.hash.to_hex()),
        content_hash_match,
        clocking,
        latency,
        path: result.path,
        nodes,
        max_rss_bytes: environment::resident_bytes_max(),
        broken: account.broken(),
        failures,
        interrupted,
    }
}

/// The latency that means something for this load, and how it was taken.
fn latency(
    options: &RunOptions,
    load: &Load,
    result: &mut SessionResult,
) -> (Clocking, hdrhistogram::Histogram<u64>) {
    let carries_time = match load.content {
        Content::Generated(sizes) => sizes.max >= HEADER_LEN,
        Content::Lines { .. } => true,
    };
    let is_scheduled = load.pace.is_scheduled();
    if options.service == ServiceName::Request && carries_time {
        let clocking = if is_scheduled { Clocking::IntendedToReply } else { Clocking::SendToReply };
        return (clocking, result.replies.latency.histogram().clone());
    }
    match result.verdict.as_mut().and_then(|verdict| verdict.latency.as_mut()) {
        Some(latency) if carries_time => {
            let clocking =
                if is_scheduled { Clocking::IntendedToDelivery } else { Clocking::SendToDelivery };
            (clocking, latency.histogram().clone())
        }
        _ => (Clocking::None, crate::latency::Latency::new(1).histogram().clone()),
    }
}

/// A seed for a run that names none; the report says which it was.
fn any_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // 53 bits: what every reader of JSON keeps exactly.
    std::hash::RandomState::new().build_hasher().finish() >> 11
}

/// An address that reaches a node bound to `address` from this host.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    address
}

/// A local address, any port, of the family and reach of `peer`.
fn unspecified_like(peer: SocketAddr) -> SocketAddr {
    let ip = match peer.ip() {
        ip if ip.is_loopback() => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(ip, 0)
}
