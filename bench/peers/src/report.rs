//! Measures in rounds, and tells: a table for people, JSON, a plot.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::application::Findings;
use crate::link::Result;
use crate::peer::Entry;
use crate::plot;
use crate::workload::Workload;

/// How much longer than it measures a measurement may take.
const PATIENCE: Duration = Duration::from_secs(60);
const WATCH_INTERVAL: Duration = Duration::from_millis(20);

/// The figures of one measurement.
///
/// # Errors
/// What must not be, if it was: then there are no figures.
pub(crate) fn figures(findings: &Findings, workload: Workload) -> Result<Value> {
    if let Some(failure) = &findings.failure {
        return Err(failure.clone().into());
    }
    let messages = findings.messages as f64;
    let rate = messages / findings.seconds;
    let mut figures = json!({
        "messages_per_second": rate,
        "megabytes_per_second": rate * workload.size() as f64 * 1e-6,
        "lost": findings.lost,
    });
    // The relay's part cannot be told from the peer's.
    if workload.loss().is_none() {
        figures["cpu_seconds_per_million"] = json!(findings.processor_seconds / messages * 1e6);
    }
    let mut latencies = findings.latencies.clone();
    latencies.sort_unstable();
    for (name, permille) in [("p50_us", 500), ("p99_us", 990), ("p999_us", 999)] {
        if let Some(latency) = latencies.get(latencies.len() * permille / 1_000) {
            figures[name] = json!(*latency as f64 * 1e-3);
        }
    }
    Ok(figures)
}

/// One peer's rounds on one workload.
pub(crate) struct Row<'a> {
    pub(crate) entry: &'a Entry,
    /// Figures of each round; what went wrong in it otherwise.
    rounds: Vec<std::result::Result<Value, String>>,
}

impl Row<'_> {
    /// One figure of every round that has it.
    pub(crate) fn values(&self, name: &str) -> Vec<f64> {
        self.rounds.iter().filter_map(|round| round.as_ref().ok()?[name].as_f64()).collect()
    }

    /// One figure beside another row's, round by round.
    fn ratios(&self, other: &Row<'_>, name: &str) -> Vec<f64> {
        let of = |round: &std::result::Result<Value, String>| round.as_ref().ok()?[name].as_f64();
        let pairs = self.rounds.iter().zip(&other.rounds);
        pairs.filter_map(|(ours, theirs)| Some(of(ours)? / of(theirs)?)).collect()
    }

    fn failure(&self) -> Option<&str> {
        self.rounds.iter().find_map(|round| round.as_ref().err()).map(String::as_str)
    }
}

/// Measures every peer on every workload, each once a round, and writes what was found.
pub(crate) fn measure(
    entries: &[Entry],
    workloads: &[Workload],
    rounds: usize,
    seconds: f64,
    out: &Path,
) -> Result<()> {
    let row = |entry| Row { entry, rounds: Vec::new() };
    let mut tables: Vec<(Workload, Vec<Row<'_>>)> =
        workloads.iter().map(|workload| (*workload, entries.iter().map(row).collect())).collect();
    for round in 0..rounds {
        for (workload, rows) in &mut tables {
            eprintln!("round {} of {rounds}: {}", round + 1, workload.name());
            for row in rows.iter_mut().filter(|row| (row.entry.excuse)(*workload).is_none()) {
                let figures = one(row.entry, *workload, seconds)?;
                if let Err(failure) = &figures {
                    eprintln!("  {}: {failure}", row.entry.name);
                }
                row.rounds.push(figures);
            }
        }
    }
    let host = host();
    println!("{host}; {rounds} rounds of {seconds} s; median (smallest..largest)");
    for (workload, rows) in &tables {
        print_table(*workload, rows);
    }
    fs::create_dir_all(out)?;
    let tables_json: Vec<Value> = tables.iter().map(|(workload, rows)| {
        json!({ "workload": workload.name(), "rows": rows.iter().map(row_json).collect::<Vec<_>>() })
    }).collect();
    let report = json!({
        "host": host, "rounds": rounds, "seconds": seconds, "workloads": tables_json,
    });
    fs::write(out.join("peers.json"), serde_json::to_string_pretty(&report)?)?;
    fs::write(out.join("peers.svg"), plot::plot(&tables))?;
    println!("\nwritten: {0}/peers.json and {0}/peers.svg", out.display());
    Ok(())
}

fn row_json(row: &Row<'_>) -> Value {
    let rounds: Vec<Value> = row
        .rounds
        .iter()
        .map(|round| round.clone().unwrap_or_else(|failure| json!({ "failure": failure })))
        .collect();
    json!({ "peer": row.entry.name, "settings": row.entry.settings, "rounds": rounds })
}

/// One measurement, in a process of its own.
fn one(
    entry: &Entry,
    workload: Workload,
    seconds: f64,
) -> Result<std::result::Result<Value, String>> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--measure", entry.name, &workload.name(), "--seconds", &seconds.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let give_up = Instant::now() + Duration::from_secs_f64(seconds) + PATIENCE;
    while child.try_wait()?.is_none() {
        if Instant::now() > give_up {
            child.kill()?;
            child.wait()?;
            return Ok(Err("it did not end".to_owned()));
        }
        thread::sleep(WATCH_INTERVAL);
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let last = errors.lines().rev().find(|line| !line.is_empty()).unwrap_or("no word");
        return Ok(Err(format!("{}: {last}", output.status)));
    }
    // A library may have had something to say before.
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().unwrap_or_default();
    Ok(serde_json::from_str(line).map_err(|error| format!("not a report: {error}")))
}

/// The figure that a workload is about, and whether less of it is better.
pub(crate) fn main_figure(workload: Workload) -> (&'static str, &'static str, bool) {
    match workload {
        Workload::Flood { size } if size >= 1 << 20 => ("megabytes_per_second", "MB/s", false),
        Workload::Request { outstanding: 1 } => ("p50_us", "p50, us", true),
        Workload::LossyPaced { .. } => ("p99_us", "p99, us", true),
        _ => ("messages_per_second", "messages/s", false),
    }
}

fn print_table(workload: Workload, rows: &[Row<'_>]) {
    println!("\n### {workload}\n");
    let columns: &[(&str, &str)] = if workload.is_latency() {
        &[
            ("messages_per_second", "exchanges/s"),
            ("p50_us", "p50, us"),
            ("p99_us", "p99, us"),
            ("p999_us", "p99.9, us"),
            ("cpu_seconds_per_million", "CPU s/M"),
        ]
    } else {
        &[
            ("messages_per_second", "messages/s"),
            ("megabytes_per_second", "MB/s"),
            ("cpu_seconds_per_million", "CPU s/M"),
        ]
    };
    let (figure, title, is_less_better) = main_figure(workload);
    let names: Vec<&str> = columns.iter().map(|(_, title)| *title).collect();
    let sign = if is_less_better { "less is better" } else { "more is better" };
    println!("| peer | encrypted | {} | {title} against raet's ({sign}) |", names.join(" | "));
    println!("| --- | --- |{}", " --- |".repeat(columns.len() + 1));
    let own = rows.iter().find(|row| row.entry.name == "raet");
    for row in rows {
        let name = row.entry.name;
        let encrypted = if row.entry.is_encrypted { "yes" } else { "no" };
        let mut cells: Vec<String> =
            columns.iter().map(|(figure, _)| spread(row.values(figure))).collect();
        cells.push(own.map_or_else(String::new, |own| spread(row.ratios(own, figure))));
        if let Some(reason) = (row.entry.excuse)(workload).or_else(|| row.failure()) {
            cells = vec![String::new(); columns.len() + 1];
            reason.clone_into(&mut cells[0]);
        }
        println!("| {name} | {encrypted} | {} |", cells.join(" | "));
    }
    for row in rows {
        let lost: f64 = row.values("lost").iter().sum();
        if lost > 0.0 {
            println!("\n{}: {lost} messages did not come; it promises none.", row.entry.name);
        }
    }
}

/// Median, smallest and largest.
pub(crate) fn median(mut values: Vec<f64>) -> Option<(f64, f64, f64)> {
    values.sort_by(f64::total_cmp);
    Some((*values.get(values.len() / 2)?, *values.first()?, *values.last()?))
}

fn spread(values: Vec<f64>) -> String {
    let Some((median, first, last)) = median(values) else { return "-".to_owned() };
    let (unit, sign) = if median >= 1e6 { (1e6, " M") } else { (1.0, "") };
    let digits = match median / unit {
        small if small < 10.0 => 2,
        small if small < 100.0 => 1,
        _ => 0,
    };
    let [median, first, last] = [median, first, last].map(|value| value / unit);
    format!("{median:.digits$}{sign} ({first:.digits$}..{last:.digits$})")
}

/// Processor, cores and kernel.
fn host() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model).to_owned();
    let cores = thread::available_parallelism().map_or(0, usize::from);
    format!("{model}, {cores} cores, Linux {}", read("/proc/sys/kernel/osrelease").trim())
}
