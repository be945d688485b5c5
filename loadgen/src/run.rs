//! One run: starts the nodes, watches them, and makes the report.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use raet::{Config, IoSummary, Node, ShardReport};

use crate::cli::RunOptions;
use crate::engine::{self, Placement, Trouble};
use crate::initiator::Initiator;
use crate::load::{self, Load};
use crate::names::AcceptName;
use crate::one_thread;
use crate::outcome::assemble;
use crate::outputs::Outputs;
use crate::progress::Progress;
use crate::report::Report;
use crate::responder::Responder;
use crate::shared::Shared;
use crate::workload::Workload;

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

/// What a run is made of before its nodes are.
pub(crate) struct Run {
    /// The kinds of messages.
    pub(crate) workloads: Vec<Workload>,
    /// Seed of contents and faults.
    pub(crate) seed: u64,
}

/// Runs the load once.
///
/// # Errors
/// Why there was no run.
pub(crate) fn measure(options: &RunOptions, signal: &AtomicBool) -> Result<Report, Trouble> {
    let workloads = load::workloads(options)?;
    let run = Run { workloads, seed: options.engine.seed.unwrap_or_else(any_seed) };
    let placement = Placement::new(&options.engine, options.connect.is_none());
    if options.one_thread {
        return one_thread::measure(options, run, &placement, signal);
    }
    let responder = match options.connect {
        Some(_) => None,
        None => Some(start_responder(options, &run, &placement)?),
    };
    let (address, key) = match (&responder, options.connect, options.peer_key) {
        (Some(node), ..) => (reachable(node.address()), *node.key()),
        (None, Some(address), Some(key)) => (address, key),
        (None, ..) => return Err(Trouble::Arguments("--connect needs --peer-key".to_owned())),
    };
    let load = Arc::new(Load::new(options, run.workloads, run.seed, address, key));
    let shared = Arc::new(Shared::new(load.sessions, load.workloads.len()));
    let mut initiators = Vec::new();
    for place in 0..load.sessions {
        initiators.push(start_initiator(options, &load, &shared, place, &placement)?);
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
    run: &Run,
    placement: &Placement,
) -> Result<Node, Trouble> {
    let config = responder_config(options, run, placement)?;
    let (summaries, _) = channel();
    let segments = options.engine.segments;
    Node::start(config, move |_| Responder::new(summaries.clone(), segments))
        .map_err(|error| Trouble::starting(&error))
}

/// The responder of this process.
///
/// # Errors
/// A setting that cannot be.
pub(crate) fn responder_config(
    options: &RunOptions,
    run: &Run,
    placement: &Placement,
) -> Result<Config, Trouble> {
    let bind = options.bind.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0));
    let mut config = engine::config(&options.engine, bind)?;
    engine::respond(&mut config, &options.engine, AcceptName::Always);
    engine::reserve(&mut config, load::longest(&run.workloads), options.sessions());
    config.cpus.clone_from(&placement.responder);
    config.seed = !run.seed;
    // Both sides cannot have one key: the file's is the initiator's.
    if options.engine.key.is_some() {
        let identity = raet::Identity::random().map_err(|error| Trouble::starting(&error))?;
        config.identity = Arc::new(identity);
    }
    Ok(config)
}

fn start_initiator(
    options: &RunOptions,
    load: &Arc<Load>,
    shared: &Arc<Shared>,
    place: u32,
    placement: &Placement,
) -> Result<Node, Trouble> {
    let config = initiator_config(options, load, place, placement)?;
    let (load, shared) = (Arc::clone(load), Arc::clone(shared));
    Node::start(config, move |_| Initiator::new(Arc::clone(&load), Arc::clone(&shared), place))
        .map_err(|error| Trouble::starting(&error))
}

/// The initiator of the session at `place`.
///
/// # Errors
/// A setting that cannot be.
pub(crate) fn initiator_config(
    options: &RunOptions,
    load: &Load,
    place: u32,
    placement: &Placement,
) -> Result<Config, Trouble> {
    let bind = match options.bind {
        Some(bind) if options.connect.is_some() => bind,
        _ => unspecified_like(load.address),
    };
    let mut config = engine::config(&options.engine, bind)?;
    engine::initiate(&mut config, place, load.sessions);
    engine::reserve(&mut config, load::longest(&load.workloads), load.sessions);
    if options.connect.is_some() {
        config.idle_timeout = engine::IDLE_TIMEOUT_APART;
    }
    config.cpus = placement.initiators.as_ref().map(|cpus| vec![cpus[place as usize % cpus.len()]]);
    config.seed = load.seed.wrapping_add(u64::from(place) << 32);
    Ok(config)
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

/// A seed for a run that names none; the report says which it was.
fn any_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // 53 bits: what every reader of JSON keeps exactly.
    std::hash::RandomState::new().build_hasher().finish() >> 11
}

/// An address that reaches a node bound to `address` from this host.
pub(crate) fn reachable(mut address: SocketAddr) -> SocketAddr {
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
