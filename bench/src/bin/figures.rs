//! The figures of the README and of `docs/PERFORMANCE.md`: engine and raw limit in one run.
//!
//! Each row is measured in rounds, raw and engine in turn, so that both see the same noise; what
//! is printed are medians, and the ratio round by round with its spread. The raw side is
//! `raw_udp`: the same drivers and trains with nothing between them. The engine side is
//! `raet-loadgen`, whose report says whether every message was verified; a run that did not hold
//! its promise ends the program.

use std::path::Path;
use std::process::{Command, ExitCode};

use clap::Parser;
use raet_bench::runs::{Spread, folder, host, number, numbers_after, output, program};
use serde_json::Value;

/// Measures the engine beside the raw limit. Build the workspace in release mode first.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rounds of each row.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each run.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Only rows whose name has this in it.
    #[arg(long, default_value = "")]
    only: String,
}

/// What is compared.
enum Against {
    /// Datagrams a second, each with as many messages as the engine put into one.
    Flood { datagram: &'static str },
    /// A spinning round trip of one datagram.
    Ping { datagram: &'static str },
    /// Nothing: the row stands for itself.
    Nothing,
}

struct Row {
    name: &'static str,
    engine: &'static str,
    io: &'static str,
    against: Against,
}

const ROWS: &[Row] = &[
    Row {
        name: "64 B, 1400-B datagrams",
        engine: "--size 64 --mtu 1400 --idle spin",
        io: "uring",
        against: Against::Flood { datagram: "1400" },
    },
    Row {
        name: "64 B, 1400-B datagrams, mmsg",
        engine: "--size 64 --mtu 1400 --idle spin",
        io: "mmsg",
        against: Against::Flood { datagram: "1400" },
    },
    Row {
        name: "64 B, one a packet",
        engine: "--size 64 --mtu 1400 --idle spin --bundle off",
        io: "uring",
        against: Against::Flood { datagram: "200" },
    },
    Row {
        name: "64 B, largest datagrams",
        engine: "--size 64 --mtu auto --idle spin",
        io: "uring",
        against: Against::Flood { datagram: "65507" },
    },
    Row {
        name: "1200 B, 1400-B datagrams",
        engine: "--size 1200 --mtu 1400 --idle spin",
        io: "uring",
        against: Against::Flood { datagram: "1350" },
    },
    Row {
        name: "1200 B, largest datagrams",
        engine: "--size 1200 --mtu auto --idle spin",
        io: "uring",
        against: Against::Flood { datagram: "65507" },
    },
    Row {
        name: "64 B, signed, 1400-B datagrams",
        engine: "--size 64 --mtu 1400 --idle spin --mode signed",
        io: "uring",
        against: Against::Flood { datagram: "1400" },
    },
    Row {
        name: "64 B, plain, 1400-B datagrams",
        engine: "--size 64 --mtu 1400 --idle spin --mode plain",
        io: "uring",
        against: Against::Flood { datagram: "1400" },
    },
    Row {
        name: "request 64 B, spinning",
        engine: "--size 64 --service request --closed 1 --mtu 1400 --idle spin",
        io: "uring",
        against: Against::Ping { datagram: "200" },
    },
    Row {
        name: "request 64 B, spinning, mmsg",
        engine: "--size 64 --service request --closed 1 --mtu 1400 --idle spin",
        io: "mmsg",
        against: Against::Ping { datagram: "200" },
    },
    Row {
        name: "request 64 B, parked",
        engine: "--size 64 --service request --closed 1 --mtu 1400 --idle park",
        io: "uring",
        against: Against::Nothing,
    },
];

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("figures: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let folder = &folder()?;
    let mut printed_host = false;
    for row in ROWS.iter().filter(|row| row.name.contains(&arguments.only)) {
        let mut rounds = Vec::new();
        for _ in 0..arguments.rounds {
            let raw = raw(folder, row, arguments.seconds)?;
            let report = engine(folder, row, arguments.seconds)?;
            rounds.push(Round { raw, report });
        }
        if !std::mem::replace(&mut printed_host, true) {
            println!("{}\n", host(&rounds[0].report));
        }
        print_row(row, &rounds);
    }
    Ok(())
}

struct Round {
    /// Datagrams a second, or the three round trips in microseconds.
    raw: Vec<f64>,
    report: Value,
}

fn raw(folder: &Path, row: &Row, seconds: f64) -> Result<Vec<f64>, String> {
    let (datagram, is_ping) = match row.against {
        Against::Flood { datagram } => (datagram, false),
        Against::Ping { datagram } => (datagram, true),
        Against::Nothing => return Ok(Vec::new()),
    };
    let mut command = Command::new(program(folder, "raw_udp")?);
    command.args(["--io", row.io, "--size", datagram, "--pin", "0,1"]);
    command.args(["--seconds", &seconds.to_string()]);
    if is_ping {
        command.arg("--ping");
    }
    let text = output(&mut command)?;
    let numbers = numbers_after(&text, if is_ping { "ping: p50 " } else { "B: " });
    match (is_ping, numbers.as_slice()) {
        (true, [p50, p99, p999, ..]) => Ok(vec![*p50, *p99, *p999]),
        (false, [millions, ..]) => Ok(vec![millions * 1e6]),
        _ => Err(format!("raw_udp printed something else: {text}")),
    }
}

fn engine(folder: &Path, row: &Row, seconds: f64) -> Result<Value, String> {
    let mut command = Command::new(program(folder, "raet-loadgen")?);
    command.args(["run", "--warmup", "0s", "--json", "-", "--cpus", "0,1", "--io", row.io]);
    command.args(["--duration", &format!("{}ms", seconds * 1e3)]);
    command.args(row.engine.split(' '));
    let text = output(&mut command)?;
    serde_json::from_str(&text).map_err(|error| format!("raet-loadgen's report: {error}"))
}

fn print_row(row: &Row, rounds: &[Round]) {
    let over = |value: &dyn Fn(&Round) -> f64| Spread::of(rounds.iter().map(value));
    let rate = over(&|round| number(&round.report, "/messages_per_second") / 1e6);
    let payload = over(&|round| number(&round.report, "/payload_bytes_per_second") / 1e6);
    let processor = over(&|round| {
        let seconds = number(&round.report, "/cpu_seconds/initiator")
            + number(&round.report, "/cpu_seconds/responder");
        seconds / number(&round.report, "/delivered") * 1e6
    });
    match row.against {
        Against::Flood { .. } => {
            let ratio = over(&|round| {
                let packets = number(&round.report, "/nodes/1/packets_received");
                let messages_a_packet = number(&round.report, "/delivered") / packets;
                number(&round.report, "/messages_per_second") / (round.raw[0] * messages_a_packet)
            });
            let raw = over(&|round| round.raw[0] / 1e6);
            println!(
                "| {} | {} M/s | {} MB/s | {} s | raw {} M datagrams/s | {} |",
                row.name, rate, payload, processor, raw, ratio
            );
        }
        Against::Ping { .. } | Against::Nothing => {
            let mut cells = String::new();
            for (index, name) in ["p50", "p99", "p999"].iter().enumerate() {
                let path = format!("/latency_us/{name}");
                let time = over(&|round| number(&round.report, &path));
                cells.push_str(&format!(" {time} us"));
                if matches!(row.against, Against::Ping { .. }) {
                    let raw = over(&|round| round.raw[index]);
                    let ratio = over(&|round| number(&round.report, &path) / round.raw[index]);
                    cells.push_str(&format!(" (raw {raw}, ratio {ratio})"));
                }
                cells.push_str(" |");
            }
            println!("| {} |{}", row.name, cells);
        }
    }
}
