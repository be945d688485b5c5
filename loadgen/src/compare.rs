//! The same loads over each way into the kernel, in turn: only figures taken together compare.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::{CompareOptions, RunOptions, Size};
use crate::engine::Trouble;
use crate::names::{IoName, ServiceName, Switch, name_of};
use crate::outputs::Outputs;
use crate::plan::Sizes;
use crate::report::Report;
use crate::run;

/// The combinations, the default first.
const COMBINATIONS: [(IoName, Switch); 4] = [
    (IoName::Uring, Switch::On),
    (IoName::Uring, Switch::Off),
    (IoName::Mmsg, Switch::On),
    (IoName::Mmsg, Switch::Off),
];

/// How long a run takes, and how long it warms up, if nothing is said.
const DURATION: Duration = Duration::from_secs(2);
const WARMUP: Duration = Duration::from_millis(200);

/// Runs each load once a round and combination; true if every run kept its promises. A combination
/// that this machine does not have is shown with its reason, and does not count.
///
/// # Errors
/// No combination ran, or the results cannot be written.
pub(crate) fn compare(options: &CompareOptions, signal: &Arc<AtomicBool>) -> Result<bool, Trouble> {
    if options.run.hgrm.is_some() || options.run.plot.is_some() {
        return Err(Trouble::Arguments(
            "compare-io makes one table of several runs; use --json, or `run` for --hgrm and \
             --plot"
                .to_owned(),
        ));
    }
    let outputs = Outputs::open(&options.run)?;
    let mut runs = Vec::new();
    let mut held = true;
    let mut trouble = None;
    for load in loads(&options.run) {
        let mut rows = COMBINATIONS.map(|(io, gso)| Row::new(io, gso));
        for _ in 0..options.rounds {
            for row in rows.iter_mut().filter(|row| row.trouble.is_none()) {
                if !signal.load(Ordering::Relaxed) {
                    row.run(&load, signal);
                }
            }
        }
        let title = rows.iter().find_map(|row| row.title.clone()).unwrap_or_default();
        outputs.tell(&format!("{title}\n{}", header()));
        for row in &rows {
            outputs.tell(&row.line(&rows[0]));
            held &= row.held;
        }
        outputs.tell("\n");
        for row in rows {
            runs.extend(row.reports);
            trouble = trouble.or(row.trouble);
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

/// The load that was named, or the three that drivers differ in.
fn loads(options: &RunOptions) -> Vec<RunOptions> {
    let mut options = options.clone();
    if options.length() == (Some(Duration::from_secs(10)), None) && options.duration.is_none() {
        options.duration = Some(DURATION);
        options.warmup = options.warmup.or(Some(WARMUP));
    }
    let is_named = options.service.is_some()
        || options.size.is_some()
        || options.closed.is_some()
        || options.rate.is_some()
        || options.file.is_some()
        || options.mix.is_some();
    if is_named {
        return vec![options];
    }
    let sized = |len| Some(Size::Generated(Sizes { min: len, max: len }));
    let large = RunOptions { size: sized(1_200), ..options.clone() };
    let request =
        RunOptions { service: Some(ServiceName::Request), closed: Some(1), ..options.clone() };
    vec![RunOptions { size: sized(64), ..options }, large, request]
}

/// What one combination did with one load.
struct Row {
    io: IoName,
    gso: Switch,
    title: Option<String>,
    figures: Vec<Figures>,
    reports: Vec<Value>,
    held: bool,
    /// Why this machine does not have it.
    trouble: Option<Trouble>,
}

/// Of one run.
struct Figures {
    rate: f64,
    /// Latencies in microseconds.
    p50: f64,
    p99: f64,
    /// Processor seconds a million messages, of all nodes in this process.
    cpu: f64,
}

impl Row {
    fn new(io: IoName, gso: Switch) -> Self {
        let (figures, reports) = (Vec::new(), Vec::new());
        Self { io, gso, title: None, figures, reports, held: true, trouble: None }
    }

    fn run(&mut self, load: &RunOptions, signal: &AtomicBool) {
        let mut load = load.clone();
        load.engine.io = self.io;
        load.engine.gso = self.gso;
        match run::measure(&load, signal) {
            Ok(report) => {
                self.held &= report.held();
                self.title.get_or_insert_with(|| report.title.clone());
                self.figures.push(Figures::of(&report));
                self.reports.push(report.to_json());
            }
            Err(error) => self.trouble = Some(error),
        }
    }

    fn line(&self, first: &Self) -> String {
        let name = format!("{} gso {}", name_of(self.io), name_of(self.gso));
        if let Some(trouble) = &self.trouble {
            return format!("{name:<14} {}\n", trouble.sentence());
        }
        let over = |value: fn(&Figures) -> f64| spread(self.figures.iter().map(value));
        let pairs = self.figures.iter().zip(&first.figures);
        format!(
            "{name:<14} {:>22} {:>20} {:>22} {:>22} {:>20}  {}\n",
            over(|run| run.rate / 1e3),
            spread(pairs.map(|(run, first)| run.rate / first.rate)),
            over(|run| run.p50),
            over(|run| run.p99),
            over(|run| run.cpu),
            if self.held { "kept" } else { "BROKEN" },
        )
    }
}

impl Figures {
    fn of(report: &Report) -> Self {
        let at = |quantile| match report.latency.is_empty() {
            true => f64::NAN,
            false => report.latency.value_at_quantile(quantile) as f64 / 1e3,
        };
        let cpu: f64 = report.nodes.iter().map(|node| node.cpu_seconds).sum();
        let messages = report.arrived.delivered + report.warmup_arrived.delivered;
        Self {
            rate: report.messages_per_second(),
            p50: at(0.5),
            p99: at(0.99),
            cpu: cpu / messages as f64 * 1e6,
        }
    }
}

fn header() -> String {
    format!(
        "{:<14} {:>22} {:>20} {:>22} {:>22} {:>20}  promise\n",
        "driver", "1000 messages/s", "to the first", "p50 us", "p99 us", "cpu s/M messages"
    )
}

/// Median, with the smallest and largest where there are several.
fn spread(values: impl Iterator<Item = f64>) -> String {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let Some(&median) = values.get(values.len() / 2) else { return "-".to_owned() };
    let digits = usize::from(median < 100.0) + usize::from(median < 10.0);
    let (first, last) = (values[0], values[values.len() - 1]);
    match values.len() {
        1 => format!("{median:.digits$}"),
        _ => format!("{median:.digits$} ({first:.digits$}..{last:.digits$})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Command, read};

    fn options(line: &str) -> RunOptions {
        let words = "raet-loadgen compare-io".split(' ').chain(line.split_whitespace());
        let Some(Command::CompareIo(options)) = read(words.map(Into::into)).unwrap().command else {
            panic!("another command")
        };
        options.run
    }

    #[test]
    fn three_short_loads_are_compared_unless_one_is_named() {
        let all = loads(&options(""));
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|load| load.duration == Some(DURATION)));
        assert_eq!(all[2].service, Some(ServiceName::Request));
        let named = loads(&options("--size 100 --messages 5k"));
        assert_eq!((named.len(), named[0].duration), (1, None));
        assert_eq!(loads(&options("--duration 7s"))[0].duration, Some(Duration::from_secs(7)));
    }

    #[test]
    fn spread_is_the_median_between_its_ends() {
        assert_eq!(spread([3.0, 1.0, 2.0].into_iter()), "2.00 (1.00..3.00)");
        assert_eq!(spread([250.0].into_iter()), "250");
        assert_eq!(spread([f64::NAN].into_iter()), "-");
    }
}
