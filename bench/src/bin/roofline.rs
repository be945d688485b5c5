//! How near the engine is to what the machine can do, in one run.
//!
//! Each row is measured in rounds, in each of which three things have their turn:
//!
//! - (a) bare UDP: `raw_udp`, trains of equal datagrams over io_uring and over system calls, on as
//!   many cores as (c);
//! - (b) the packet path without a protocol: `packet_path`, on the driver and cores of (c);
//! - (c) the engine: `raet-loadgen`, which verifies every message. A run that did not hold its
//!   promise ends the program.
//!
//! A ratio is formed within its round: only neighbours compare on a machine whose speed changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;
use raet_bench::phases;
use raet_bench::plot::{Bar, bars};
use raet_bench::runs::{Spread, folder, host, number, numbers_after, output, program};
use serde_json::{Value, json};

/// Measures bare UDP, the packet path and the engine in turn. Build the workspace in release mode
/// first. Results also go to roofline/ beside the folder of this program.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rounds of each row.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rounds: u16,
    /// Seconds of each run.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// One round of 0.3 s a run: whether all of it works.
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// Driver of packet path, engine and ping: uring or mmsg.
    #[arg(long, default_value = "uring")]
    io: String,
    /// Cores of sender and receiver; the first alone where one thread is both.
    #[arg(long, default_value = "0,1")]
    cores: String,
    /// Only rows whose name has this in it.
    #[arg(long, default_value = "")]
    only: String,
    /// Also the engine's time a message by room, from one more run under perf.
    #[arg(long)]
    phases: bool,
}

/// What stands beside the engine.
enum Beside {
    /// The packet path with these arguments, and bare datagrams of its packets' size.
    Path { path: &'static str, one_thread: bool },
    /// A spinning round trip of one datagram.
    Ping,
    /// The same messages in plain mode.
    Plain,
}

struct Row {
    name: &'static str,
    engine: &'static str,
    beside: Beside,
}

const ROWS: &[Row] = &[
    Row {
        name: "64 B bundled",
        engine: "--size 64",
        beside: Beside::Path { path: "--size 64", one_thread: false },
    },
    Row {
        name: "64 B one a packet",
        engine: "--size 64 --bundle off",
        beside: Beside::Path { path: "--size 64 --single", one_thread: false },
    },
    Row {
        name: "1200 B",
        engine: "--size 1200",
        beside: Beside::Path { path: "--size 1200 --single", one_thread: false },
    },
    Row {
        name: "1 MiB segmented",
        engine: "--size 1MiB --segments",
        beside: Beside::Path { path: LARGEST, one_thread: false },
    },
    Row {
        name: "64 B bundled, one thread",
        engine: "--size 64",
        beside: Beside::Path { path: "--size 64", one_thread: true },
    },
    Row {
        name: "64 B one a packet, one thread",
        engine: "--size 64 --bundle off",
        beside: Beside::Path { path: "--size 64 --single", one_thread: true },
    },
    Row {
        name: "1200 B, one thread",
        engine: "--size 1200",
        beside: Beside::Path { path: "--size 1200 --single", one_thread: true },
    },
    Row {
        name: "1 MiB segmented, one thread",
        engine: "--size 1MiB --segments",
        beside: Beside::Path { path: LARGEST, one_thread: true },
    },
    Row {
        name: "request 64 B, spinning",
        engine: "--size 64 --service request --closed 1",
        beside: Beside::Ping,
    },
    Row { name: "64 B bundled, sealed to plain", engine: "--size 64", beside: Beside::Plain },
];

/// The most that a packet of 1400 bytes carries behind its head and block.
const LARGEST: &str = "--size 1272 --single";
/// Bytes of a datagram at most, everywhere.
const DATAGRAM: &str = "1400";
/// Bytes of the bare datagram beside a request: about those of a packet with one.
const PING_LEN: &str = "200";

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("roofline: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The programs, and how each is run.
struct Bench<'a> {
    arguments: &'a Arguments,
    folder: PathBuf,
    seconds: f64,
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let (rounds, seconds) =
        if arguments.quick { (1, 0.3) } else { (arguments.rounds, arguments.seconds) };
    let bench = Bench { arguments, folder: folder()?, seconds };
    let (mut results, mut all, mut place) = (Vec::new(), Vec::new(), String::new());
    for row in ROWS.iter().filter(|row| row.name.contains(&arguments.only)) {
        let measured = (0..rounds).map(|_| bench.round(row)).collect::<Result<Vec<_>, _>>()?;
        if place.is_empty() {
            place = host(&measured[0].report);
            println!("{place}; {}, {rounds} rounds of {seconds} s\n", arguments.io);
        }
        println!("{}", row.name);
        let figures = figures(&measured);
        for (name, spread) in &figures {
            println!("  {name:<34} {spread}");
        }
        for (name, ratio) in figures.iter().filter(|(name, _)| name.starts_with("ratio")) {
            let name = name.trim_start_matches("ratio ");
            all.push(Bar { name: format!("{}: {name}", row.name), ratio: *ratio });
        }
        let phases = if arguments.phases { bench.phases(row, &measured[0])? } else { Vec::new() };
        for (room, nanos) in &phases {
            println!("  ns a message: {room:<19} {nanos:.2}");
        }
        results.push(json!({
            "name": row.name,
            "figures": figures.iter().map(|(name, spread)| json!({
                "name": name, "median": spread.median, "min": spread.least, "max": spread.most,
            })).collect::<Vec<_>>(),
            "ns_a_message": phases.iter().map(|(room, nanos)| json!([room, nanos])).collect::<Vec<_>>(),
            "rounds": measured.iter().map(|round| &round.report).collect::<Vec<_>>(),
        }));
    }
    if results.is_empty() {
        return Err(format!("no row has '{}' in its name", arguments.only));
    }
    let into = bench.folder.with_file_name("roofline");
    let json = json!({ "schema": "raet-roofline/1", "host": place, "rows": results });
    let subtitle = format!("{place}; {}, {rounds} rounds of {seconds} s", arguments.io);
    fs::create_dir_all(&into)
        .and_then(|()| fs::write(into.join("roofline.json"), format!("{json:#}\n")))
        .and_then(|()| {
            let svg = bars("The engine beside the machine's limit", &subtitle, &all);
            fs::write(into.join("roofline.svg"), svg)
        })
        .map_err(|error| format!("{}: {error}", into.display()))?;
    println!("\nwritten: {0}/roofline.json, {0}/roofline.svg", into.display());
    Ok(())
}

/// What one round found: figures and ratios by name, in the order in which they are printed.
struct Round {
    figures: Vec<(&'static str, f64)>,
    report: Value,
}

/// Each figure over all rounds.
fn figures(rounds: &[Round]) -> Vec<(&'static str, Spread)> {
    let names = rounds[0].figures.iter().map(|(name, _)| *name).enumerate();
    names
        .map(|(at, name)| (name, Spread::of(rounds.iter().map(|round| round.figures[at].1))))
        .collect()
}

impl Bench<'_> {
    fn round(&self, row: &Row) -> Result<Round, String> {
        let mut figures = Vec::new();
        let report = match row.beside {
            Beside::Path { path, one_thread } => {
                let printed = self.path(path, one_thread)?;
                let rate = numbers_after(&printed, "B: ");
                let packet = numbers_after(&printed, "a packet of ");
                let (&[_, packets, payload, ..], &[len, ..]) = (&rate[..], &packet[..]) else {
                    return Err(format!("packet_path printed something else: {printed}"));
                };
                let how: &[&str] =
                    if one_thread { &["--packed", "--one-thread"] } else { &["--packed"] };
                let raw = ["uring", "mmsg"].map(|io| self.raw(io, &len.to_string(), how));
                let [uring, mmsg] = raw;
                let (uring, mmsg) = (uring?[0], mmsg?[0]);
                let report = self.engine(row)?;
                let engine = number(&report, "/payload_bytes_per_second") / 1e6;
                // What the bare datagrams would carry with as much in each as the packet path has.
                let bare = payload / packets * uring.max(mmsg);
                figures.extend([
                    ("(a) bare uring, M datagrams/s", uring),
                    ("(a) bare mmsg, M datagrams/s", mmsg),
                    ("(b) packet path, MB/s", payload),
                    ("(c) engine, MB/s", engine),
                    ("(c) engine, 1000 messages/s", number(&report, "/messages_per_second") / 1e3),
                    ("ratio c/b", engine / payload),
                    ("ratio c/a", engine / bare),
                ]);
                report
            }
            Beside::Ping => {
                let bare = self.raw(&self.arguments.io, PING_LEN, &["--ping"])?;
                let report = self.engine(row)?;
                let (p50, p999) =
                    (number(&report, "/latency_us/p50"), number(&report, "/latency_us/p999"));
                figures.extend([
                    ("bare p50, us", bare[0]),
                    ("bare p99.9, us", bare[2]),
                    ("engine p50, us", p50),
                    ("engine p99.9, us", p999),
                    ("ratio p50", p50 / bare[0]),
                    ("ratio p99.9", p999 / bare[2]),
                ]);
                report
            }
            Beside::Plain => {
                let plain = output(&mut self.load(row, &["--mode", "plain"])?)?;
                let plain: Value = serde_json::from_str(&plain).map_err(|e| e.to_string())?;
                let report = self.engine(row)?;
                let rate = |report: &Value| number(report, "/messages_per_second") / 1e3;
                figures.extend([
                    ("plain, 1000 messages/s", rate(&plain)),
                    ("sealed, 1000 messages/s", rate(&report)),
                    ("ratio sealed/plain", rate(&report) / rate(&plain)),
                ]);
                report
            }
        };
        figures.extend([
            ("CPU s a million messages", cpu_micros(&report)),
            ("system calls a message", system_calls(&report)),
        ]);
        match figures.iter().find(|(_, value)| !value.is_finite()) {
            Some((name, value)) => {
                Err(format!("{}: {name} is {value}: one of its runs measured nothing", row.name))
            }
            None => Ok(Round { figures, report }),
        }
    }

    /// Millions of datagrams a second first; or p50, p99 and p99.9 of a ping.
    fn raw(&self, io: &str, len: &str, how: &[&str]) -> Result<Vec<f64>, String> {
        let mut command = Command::new(program(&self.folder, "raw_udp")?);
        command.args(["--io", io, "--size", len, "--pin", &self.arguments.cores]);
        command.args(["--seconds", &self.seconds.to_string()]);
        command.args(how);
        let printed = output(&mut command)?;
        let ping = how.contains(&"--ping");
        let numbers = numbers_after(&printed, if ping { "ping: " } else { "B: " });
        if numbers.len() < if ping { 3 } else { 1 } {
            return Err(format!("raw_udp printed something else: {printed}"));
        }
        Ok(numbers)
    }

    fn path(&self, shape: &str, one_thread: bool) -> Result<String, String> {
        let mut command = Command::new(program(&self.folder, "packet_path")?);
        command.args(["--io", &self.arguments.io, "--pin", &self.arguments.cores]);
        command.args(["--datagram", DATAGRAM, "--seconds", &self.seconds.to_string()]);
        command.args(shape.split(' '));
        if one_thread {
            command.arg("--one-thread");
        }
        output(&mut command)
    }

    fn engine(&self, row: &Row) -> Result<Value, String> {
        let printed = output(&mut self.load(row, &[])?)?;
        serde_json::from_str(&printed).map_err(|error| format!("raet-loadgen's report: {error}"))
    }

    fn load(&self, row: &Row, more: &[&str]) -> Result<Command, String> {
        let mut command = Command::new(program(&self.folder, "raet-loadgen")?);
        command.args(["run", "--json", "-", "--mtu", DATAGRAM, "--io", &self.arguments.io]);
        command.args(["--cpus", &self.arguments.cores, "--warmup"]);
        command.arg(format!("{:.0}ms", self.seconds * 100.0));
        command.args(["--duration", &format!("{:.0}ms", self.seconds * 1e3)]);
        command.args(row.engine.split(' ')).args(more);
        let one_thread = matches!(row.beside, Beside::Path { one_thread: true, .. });
        command.args(if one_thread { &["--one-thread"][..] } else { &["--idle", "spin"] });
        Ok(command)
    }

    /// Nanoseconds a message of both sides' processor time in each room, the largest first.
    fn phases(&self, row: &Row, round: &Round) -> Result<Vec<(&'static str, f64)>, String> {
        let data = std::env::temp_dir().join(format!("roofline-{}.perf", std::process::id()));
        let shares = self.profile(row, &data);
        let _ = fs::remove_file(&data);
        let Some(shares) = shares? else {
            println!("  SKIPPED phases: perf is missing");
            return Ok(Vec::new());
        };
        let nanos = cpu_micros(&round.report) * 1e3;
        Ok(shares.into_iter().map(|(room, share)| (room, share * nanos)).collect())
    }

    fn profile(&self, row: &Row, data: &Path) -> Result<Option<Vec<(&'static str, f64)>>, String> {
        if Command::new("perf").arg("--version").output().is_err() {
            return Ok(None);
        }
        let load = self.load(row, &[])?;
        let mut record = Command::new("perf");
        record.args(["record", "-q", "-e", "cpu-clock", "-F", "5000", "-o"]).arg(data).arg("--");
        record.arg(load.get_program()).args(load.get_args());
        output(&mut record)?;
        let mut report = Command::new("perf");
        report.args(["report", "--stdio", "-q", "-t", ";", "--sort", "symbol", "-i"]).arg(data);
        Ok(Some(phases::shares(&output(&mut report)?)))
    }
}

/// Of both sides, a message, warm-up included.
fn cpu_micros(report: &Value) -> f64 {
    let seconds: f64 = ["initiator", "responder"]
        .iter()
        .map(|side| number(report, &format!("/cpu_seconds/{side}")))
        .sum();
    seconds / delivered(report) * 1e6
}

/// Of both sides, a message, warm-up included.
fn system_calls(report: &Value) -> f64 {
    let calls: f64 =
        (0..2).map(|node| number(report, &format!("/nodes/{node}/system_calls"))).sum();
    calls / delivered(report)
}

fn delivered(report: &Value) -> f64 {
    number(report, "/delivered") + number(report, "/warmup/delivered")
}
