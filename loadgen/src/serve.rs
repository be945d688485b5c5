//! The responder alone, for initiators in other processes and on other machines.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use raet::Node;
use raet::node::cpus;

use crate::cli::ServeOptions;
use crate::engine::{self, Placement, Trouble};
use crate::responder::Responder;
use crate::table::grouped;

/// How often the signal is looked for.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);

/// Answers until a signal comes.
///
/// # Errors
/// Why it did not start, or why it ended.
pub(crate) fn serve(options: &ServeOptions, signal: &Arc<AtomicBool>) -> Result<(), Trouble> {
    let mut config = engine::config(&options.engine, options.bind)?;
    engine::respond(&mut config, &options.engine, options.accept);
    config.idle_timeout = engine::IDLE_TIMEOUT_APART;
    if let Some(path) = &options.trust {
        config.trust = crate::keys::trust(path, config.trust.policy())?;
    }
    config.cpus = Placement::new(&options.engine, false).responder;
    config.seed = options.engine.seed.unwrap_or(0);
    // Whatever sizes come: no message is longer.
    engine::reserve(&mut config, raet::limits::MESSAGE_LEN_MAX, 1);
    let segments = options.engine.segments;
    let (summaries, ended) = channel();
    let node = Node::start(config, move |_| Responder::new(summaries.clone(), segments))
        .map_err(|error| Trouble::starting(&error))?;
    if let Some(warning) = &node.io().warning {
        eprintln!("raet-loadgen: {warning}");
    }
    announce(&node, options);

    while !signal.load(Ordering::Relaxed) {
        match ended.recv_timeout(WATCH_INTERVAL) {
            Ok(line) => println!("{line}"),
            Err(RecvTimeoutError::Timeout) if !node.is_finished() => {}
            // The node ended by itself: its driver broke.
            Err(_) => break,
        }
    }
    let io = node.io().clone();
    let reports = node.stop().map_err(|error| {
        Trouble::Running(format!("the driver broke: {error}; see the kernel's log"))
    })?;
    while let Ok(line) = ended.try_recv() {
        println!("{line}");
    }
    let figures = engine::figures("responder", &io, &reports);
    println!(
        "stopped: {} packets received, {} sent, {} acks, sessions moved {}, cpu {:.2} s",
        grouped(figures.packets_received),
        grouped(figures.packets_sent),
        grouped(figures.acks_sent),
        grouped(figures.sessions_moved),
        figures.cpu_seconds
    );
    Ok(())
}

/// The line that scripts wait for, and the command that people want next.
fn announce(node: &Node, options: &ServeOptions) {
    let (address, key) = (node.address(), node.key());
    println!("listening on {address} key {key}");
    let cores = match &options.engine.cpus {
        Some(list) => format!(" on cores {}", cpus::format_cpu_list(&list.0)),
        None => String::new(),
    };
    eprintln!(
        "{}{cores}, {} shard(s); try: raet-loadgen run --connect {} --peer-key {key}",
        node.io().driver,
        options.engine.shards,
        for_others(address)
    );
}

/// The address as others would write it.
fn for_others(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("HOST:{}", address.port())
    } else {
        address.to_string()
    }
}
