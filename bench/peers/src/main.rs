//! raet beside what people could pick instead: the same workloads, on the same two cores, in one
//! run, in turn.
//!
//! Each measurement is a process of its own that this program starts: what one peer leaves behind
//! cannot help or hurt the next, and one that breaks down ends its row only. Both sides are
//! threads of that process, pinned to core 0 and core 1. Every message is checked, and what came
//! is compared with what was sent before a figure counts.

mod application;
mod clock;
mod link;
mod payload;
mod peer;
mod plot;
mod relay;
mod report;
mod run;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::link::Result;
use crate::workload::Workload;

/// Measures raet and its peers on the same workloads.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rounds; in each, every peer has its turn on every workload.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Only peers whose name has this in it; may be given more than once.
    #[arg(long)]
    only: Vec<String>,
    /// Only workloads whose name has this in it; may be given more than once.
    #[arg(long)]
    workload: Vec<String>,
    /// Folder for peers.json and peers.svg.
    #[arg(long, default_value = "target/peers")]
    out: PathBuf,
    /// Names peers and workloads, and measures nothing.
    #[arg(long)]
    list: bool,
    /// One measurement, told as JSON: the name of a peer and of a workload.
    #[arg(long, num_args = 2, hide = true)]
    measure: Option<Vec<String>>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !(arguments.seconds > 0.0 && arguments.seconds < 3600.0) || arguments.rounds == 0 {
        eprintln!("peers: --seconds has to be above 0 and below 3600, --rounds above 0");
        return ExitCode::from(2);
    }
    match act(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn act(arguments: &Arguments) -> Result<()> {
    let chosen = |name: &str, wanted: &[String]| {
        wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str()))
    };
    let mut peers = peer::entries();
    if let Some([peer, workload]) = arguments.measure.as_deref() {
        let entry = peers.iter().find(|entry| entry.name == peer);
        let entry = entry.ok_or_else(|| format!("there is no peer '{peer}' in this build"))?;
        let workload =
            Workload::named(workload).ok_or_else(|| format!("there is no '{workload}'"))?;
        let findings = (entry.run)(workload, arguments.seconds)?;
        println!("{}", report::figures(&findings, workload)?);
        return Ok(());
    }
    peers.retain(|entry| chosen(entry.name, &arguments.only));
    let mut workloads = workload::WORKLOADS.to_vec();
    workloads.retain(|workload| chosen(&workload.name(), &arguments.workload));
    if arguments.list {
        for entry in &peers {
            println!("{:<16} {}", entry.name, entry.settings);
        }
        for workload in &workloads {
            println!("{:<16} {workload}", workload.name());
        }
        return Ok(());
    }
    if peers.is_empty() || workloads.is_empty() {
        return Err("no peer or no workload has such a name: see --list".into());
    }
    report::measure(&peers, &workloads, arguments.rounds, arguments.seconds, &arguments.out)
}
