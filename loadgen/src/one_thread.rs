//! Both ends of a run on one thread: what an application gets that turns its own `Poller`s.
//!
//! Turns alternate and nobody waits, so there is one core's work in the figures and no hand-over
//! between cores.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;

use raet::node::cpus;
use raet::time::Duration;
use raet::{Handler, Poller, ShardReport};

use crate::cli::RunOptions;
use crate::engine::{self, Placement, Trouble};
use crate::initiator::Initiator;
use crate::load::Load;
use crate::outcome::assemble;
use crate::progress::Progress;
use crate::report::Report;
use crate::responder::Responder;
use crate::run::{Run, initiator_config, reachable, responder_config};
use crate::shared::Shared;

/// Turns of each side between two looks at the clock and the signal.
const TURNS_UNWATCHED: u32 = 64;

/// Runs the load once, on this thread.
///
/// # Errors
/// Why there was no run.
pub(crate) fn measure(
    options: &RunOptions,
    run: Run,
    placement: &Placement,
    signal: &AtomicBool,
) -> Result<Report, Trouble> {
    if let Some(&[core, ..]) = placement.initiators.as_deref() {
        cpus::pin_current_thread(core).map_err(|error| Trouble::Arguments(error.to_string()))?;
    }
    let (summaries, _) = channel();
    let config = responder_config(options, &run, placement)?;
    let key = config.identity.public();
    let mut responder = open(config, Responder::new(summaries, options.engine.segments))?;
    let address = reachable(responder.address());
    let load = Arc::new(Load::new(options, run.workloads, run.seed, address, key));
    let shared = Arc::new(Shared::new(load.sessions, load.workloads.len()));
    let config = initiator_config(options, &load, 0, placement)?;
    let mut initiator = open(config, Initiator::new(Arc::clone(&load), Arc::clone(&shared), 0))?;
    if let Some(warning) = &initiator.io().warning {
        eprintln!("raet-loadgen: {warning}");
    }

    let mut progress = Progress::start();
    let (mut interrupted, mut failures) = (false, Vec::new());
    while !initiator.is_stopped() && failures.is_empty() {
        for _ in 0..TURNS_UNWATCHED {
            let turned = initiator.poll(Duration::ZERO);
            let turned = turned.and_then(|_| responder.poll(Duration::ZERO));
            if let Err(error) = turned {
                failures.push(format!("a node's driver broke: {error}"));
                break;
            }
        }
        if !interrupted && signal.load(Ordering::Relaxed) {
            interrupted = true;
            shared.stop();
        }
        progress.show(shared.gauges(), shared.phase_name());
    }
    progress.finish();

    // The thread's time counts once, with the initiator.
    let received = ShardReport { processor: Duration::ZERO, ..responder.report() };
    let nodes = vec![
        engine::figures("initiator", initiator.io(), &[initiator.report()]),
        engine::figures("responder", responder.io(), &[received]),
    ];
    let (result, _) = shared.take();
    Ok(assemble(options, &load, result, nodes, failures, interrupted))
}

fn open<H: Handler + 'static>(config: raet::Config, handler: H) -> Result<Poller<H>, Trouble> {
    Poller::new(config, handler).map_err(|error| Trouble::starting(&error))
}
