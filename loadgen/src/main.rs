//! Drives raet nodes on a schedule and reports throughput and latency that can be trusted.
//!
//! ```text
//!  cli ─► run ─► Initiator (a node a session) ── the network ──► Responder (a node)
//!           │      work: when and what it sends       │            payload: is it what was sent?
//!           │      tally: how each send ended         │            check: how often did it come?
//!           │                                         │            order: was it its turn?
//!           │                                         │
//!           │      talk ◄───────── control: the responder's verdict, as messages
//!           ▼
//!         promise: do outcomes and verdict agree with the service's row?
//!           ▼
//!         report (table, JSON), hgrm, plot
//! ```
//!
//! The two sides share nothing but the network, also in one process: what the responder says
//! comes to the initiator as messages. Latency counts from the time at which a message was meant
//! to be sent, which it carries.

mod blocks;
mod book;
mod causes;
mod check;
mod cli;
mod compare;
mod control;
mod engine;
mod environment;
mod hgrm;
mod initiator;
mod keys;
mod latency;
mod lines;
mod load;
mod mix;
mod names;
mod one_thread;
mod order;
mod outcome;
mod outputs;
mod parse;
mod payload;
mod plan;
mod plot;
mod progress;
mod promise;
mod report;
mod responder;
mod run;
mod serve;
mod shared;
mod source;
mod table;
mod talk;
mod tally;
mod verdict;
mod work;
mod workload;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::cli::{Command, Failure};
use crate::engine::Trouble;

/// Exit status when a second signal comes: as a shell reports a process ended by SIGINT.
const INTERRUPTED_TWICE: i32 = 130;

fn main() -> ExitCode {
    let cli = match cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(Failure::Bad(sentence)) => return trouble(&Trouble::Arguments(sentence)),
        Err(Failure::Shown(shown)) => {
            // Help that nobody reads to its end is no failure.
            let _ = shown.print();
            return ExitCode::SUCCESS;
        }
    };
    let signal = match listen_to_signals() {
        Ok(signal) => signal,
        Err(error) => {
            return trouble(&Trouble::Running(format!("cannot listen to signals: {error}")));
        }
    };
    let held = match cli.command {
        None => run::run(&cli.run, &signal),
        Some(Command::Run(options)) => run::run(&options, &signal),
        Some(Command::CompareIo(options)) => compare::compare(&options, &signal),
        Some(Command::Serve(options)) => serve::serve(&options, &signal).map(|()| true),
    };
    match held {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => trouble(&error),
    }
}

/// A flag that SIGINT and SIGTERM raise: the run ends early, with its report. A second signal
/// ends the process.
fn listen_to_signals() -> std::io::Result<Arc<AtomicBool>> {
    let raised = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, INTERRUPTED_TWICE, Arc::clone(&raised))?;
        flag::register(signal, Arc::clone(&raised))?;
    }
    Ok(raised)
}

fn trouble(trouble: &Trouble) -> ExitCode {
    eprintln!("raet-loadgen: {}", trouble.sentence());
    trouble.exit_code()
}
