//! Goodput of one bulk transfer: raet beside kernel TCP, over one path.
//!
//! Runs on behalf of `scripts/netns goodput`, which made two network namespaces and the bad path
//! between them. Transfers alternate, so that both see the same noise; printed are medians with
//! their spread, and the ratio of the medians. Each side checks what it carried: `tcp_bulk` every
//! word, `raet-loadgen` every message; a transfer that was not whole ends the program.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};

use clap::Parser;
use serde_json::Value;

/// Compares one bulk transfer of raet and of TCP between two network namespaces.
#[derive(Debug, Parser)]
struct Arguments {
    /// Network namespace that sends.
    #[arg(long)]
    from: String,
    /// Network namespace that receives.
    #[arg(long)]
    to: String,
    /// Address of the receiver there.
    #[arg(long)]
    address: String,
    /// Bytes of a transfer.
    #[arg(long, default_value_t = 8 << 20)]
    bytes: u64,
    /// Transfers of each kind.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Bytes of a message of raet.
    #[arg(long, default_value_t = 65_536)]
    size: u64,
    /// TCP's congestion control, as the kernel names it.
    #[arg(long, default_value = "cubic")]
    congestion: String,
    /// Percent of TCP's goodput that raet must reach.
    #[arg(long, default_value_t = 60.0)]
    least: f64,
}

const TCP_PORT: u16 = 4041;
const RAET_PORT: u16 = 4040;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("goodput: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = own.parent().ok_or("the program has no folder")?;
    let (tcp, raet) = (program(folder, "tcp_bulk")?, program(folder, "raet-loadgen")?);
    let at = |port: u16| format!("{}:{port}", arguments.address);

    let mut serve = inside(&arguments.to, &tcp);
    let (_tcp_server, _) = start(serve.args(["serve", "--bind", &at(TCP_PORT)]))?;
    let mut serve = inside(&arguments.to, &raet);
    serve.args(["serve", "--accept", "always", "--bind", &at(RAET_PORT)]);
    let (_raet_server, line) = start(&mut serve)?;
    let key = line.rsplit(' ').next().unwrap_or_default();

    let mut rates = [Vec::new(), Vec::new()];
    for round in 1..=arguments.rounds {
        let mut send = inside(&arguments.from, &tcp);
        send.args(["run", "--connect", &at(TCP_PORT), "--congestion", &arguments.congestion]);
        send.args(["--bytes", &arguments.bytes.to_string()]);
        let tcp_report = report(&mut send)?;

        let mut send = inside(&arguments.from, &raet);
        send.args(["run", "--connect", &at(RAET_PORT), "--peer-key", key, "--json", "-"]);
        send.args(["--warmup", "0s", "--size", &arguments.size.to_string()]);
        send.args(["--messages", &arguments.bytes.div_ceil(arguments.size).to_string()]);
        let raet_report = report(&mut send)?;

        for (rates, report) in rates.iter_mut().zip([&tcp_report, &raet_report]) {
            let rate = report["payload_bytes_per_second"].as_f64();
            rates.push(rate.ok_or("a report without a rate")? * 8.0 / 1e6);
        }
        let sender = &raet_report["nodes"][0];
        println!(
            "round {round}: TCP {:.2} Mbit/s; raet {:.2} Mbit/s, {} packets sent, {} lost, \
             {} sent again, path {}",
            rates[0][round - 1],
            rates[1][round - 1],
            sender["packets_sent"],
            sender["packets_lost"],
            sender["retransmissions"],
            raet_report["path"],
        );
    }
    let [tcp, raet] = rates.map(Spread::of);
    let percent = raet.median / tcp.median * 100.0;
    println!("TCP {}: {tcp} Mbit/s", arguments.congestion);
    println!("raet: {raet} Mbit/s, {percent:.0} % of TCP, of at least {} %", arguments.least);
    Ok(percent >= arguments.least)
}

fn program(folder: &Path, name: &str) -> Result<PathBuf, String> {
    let path = folder.join(name);
    if path.exists() {
        return Ok(path);
    }
    Err(format!("{} is missing: run cargo build --release --workspace first", path.display()))
}

fn inside(namespace: &str, program: &Path) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(program);
    command
}

/// A process that ends with this program. `ip netns exec` becomes the program it is to run, so
/// this is that program. Its output is kept open: a server that cannot print ends.
struct Server {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a server and waits for the first line that it prints.
fn start(command: &mut Command) -> Result<(Server, String), String> {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = child.map_err(|error| format!("{command:?}: {error}"))?;
    let output = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut server = Server { child, output };
    let mut line = String::new();
    server.output.read_line(&mut line).map_err(|error| error.to_string())?;
    if !line.starts_with("listening") {
        return Err(format!("{command:?} does not listen"));
    }
    Ok((server, line.trim().to_owned()))
}

fn report(command: &mut Command) -> Result<Value, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?} failed: {errors}"));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("{command:?}: {error}"))
}

/// Median, smallest and largest.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let median = values[values.len() / 2];
        Self { median, least: values[0], most: values[values.len() - 1] }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} ({:.2}..{:.2})", self.median, self.least, self.most)
    }
}
