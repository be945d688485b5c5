//! The same load over each way into the kernel, in one run: only figures taken together compare.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::cli::RunOptions;
use crate::engine::Trouble;
use crate::names::{IoName, Switch, name_of};
use crate::outputs::Outputs;
use crate::report::Report;
use crate::run;
use crate::table::{bytes_per_second, scaled, short_time};

/// The combinations, the default first.
const COMBINATIONS: [(IoName, Switch); 4] = [
    (IoName::Uring, Switch::On),
    (IoName::Uring, Switch::Off),
    (IoName::Mmsg, Switch::On),
    (IoName::Mmsg, Switch::Off),
];

/// Runs the load once a combination; true if every run kept its promises. A combination that this
/// machine does not have is shown with its reason, and does not count.
///
/// # Errors
/// No combination ran, or the results cannot be written.
pub(crate) fn compare(options: &RunOptions, signal: &Arc<AtomicBool>) -> Result<bool, Trouble> {
    if options.hgrm.is_some() || options.plot.is_some() {
        return Err(Trouble::Arguments(
            "compare-io makes one table of several runs; use --json, or `run` for --hgrm and \
             --plot"
                .to_owned(),
        ));
    }
    let outputs = Outputs::open(options)?;
    outputs.tell(&header());
    let mut runs = Vec::new();
    let mut held = true;
    let mut trouble = None;
    for (io, gso) in COMBINATIONS {
        if signal.load(Ordering::Relaxed) {
            break;
        }
        let mut options = options.clone();
        options.engine.io = io;
        options.engine.gso = gso;
        let name = format!("{} gso {}", name_of(io), name_of(gso));
        match run::measure(&options, signal) {
            Ok(report) => {
                outputs.tell(&row(&name, &report));
                held &= report.held();
                runs.push(report.to_json());
            }
            Err(error) => {
                outputs.tell(&format!("{name:<16} {}\n", error.sentence()));
                trouble = Some(error);
            }
        }
    }
    match trouble {
        Some(trouble) if runs.is_empty() => Err(trouble),
        _ => {
            let json = json!({ "schema": "raet-loadgen-compare/1", "runs": runs });
            outputs.write_json(&json)?;
            Ok(held)
        }
    }
}

fn header() -> String {
    format!(
        "{:<16} {:>14} {:>12} {:>10} {:>10} {:>10} {:>12}  promise\n",
        "driver", "messages/s", "payload", "p50", "p99", "p99.9", "cpu s/M msg"
    )
}

fn row(name: &str, report: &Report) -> String {
    let at = |quantile: f64| {
        if report.latency.is_empty() {
            return "-".to_owned();
        }
        short_time(report.latency.value_at_quantile(quantile))
    };
    let cpu: f64 = report.nodes.iter().map(|node| node.cpu_seconds).sum();
    let millions = (report.arrived.delivered + report.warmup_arrived.delivered) as f64 / 1e6;
    format!(
        "{name:<16} {:>14} {:>12} {:>10} {:>10} {:>10} {:>12.3}  {}\n",
        scaled(report.messages_per_second()),
        bytes_per_second(report.payload_per_second()),
        at(0.5),
        at(0.99),
        at(0.999),
        if millions > 0.0 { cpu / millions } else { 0.0 },
        if report.held() { "kept" } else { "BROKEN" }
    )
}
