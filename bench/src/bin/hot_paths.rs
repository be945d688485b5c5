//! Instructions a message on the hot paths, compared with the numbers kept in the tree.
//!
//! Each path is a fixed number of messages between two endpoints in memory, after some that warm
//! it up. The program runs itself under valgrind's callgrind once a path, counts its own
//! instructions (see `raet_bench::callgrind`) and compares: time decides nothing, and the same
//! program has the same counts on a busy machine.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::{fs, thread};

use clap::Parser;
use raet::protocol::wire::ServiceKind;
use raet_bench::callgrind::{Instructions, count};
use raet_bench::memory::Pair;

/// Counts instructions a message and compares them with those kept in the tree.
#[derive(Debug, Parser)]
struct Arguments {
    /// The numbers to compare with.
    #[arg(long, default_value = "bench/instructions.txt")]
    baseline: PathBuf,
    /// Writes what was counted there, instead of comparing.
    #[arg(long)]
    update: bool,
    /// Runs this path, without counting: what is run under callgrind.
    #[arg(long, hide = true)]
    run: Option<String>,
}

/// A fixed piece of work.
struct Path {
    name: &'static str,
    service: ServiceKind,
    len: usize,
    bundle: bool,
    /// Messages under way at once.
    batch: u64,
    batches: u64,
}

const PATHS: &[Path] = &[
    Path {
        name: "64-bundled",
        service: ServiceKind::ExactlyOnce,
        len: 64,
        bundle: true,
        batch: 2_048,
        batches: 16,
    },
    Path {
        name: "64-single",
        service: ServiceKind::ExactlyOnce,
        len: 64,
        bundle: false,
        batch: 2_048,
        batches: 4,
    },
    Path {
        name: "1200",
        service: ServiceKind::ExactlyOnce,
        len: 1_200,
        bundle: true,
        batch: 1_024,
        batches: 4,
    },
    Path {
        name: "1MiB-segments",
        service: ServiceKind::ExactlyOnce,
        len: 1 << 20,
        bundle: true,
        batch: 2,
        batches: 4,
    },
    Path {
        name: "64-request",
        service: ServiceKind::Request,
        len: 64,
        bundle: true,
        batch: 1,
        batches: 1_024,
    },
    Path {
        name: "64-requests",
        service: ServiceKind::Request,
        len: 64,
        bundle: true,
        batch: 64,
        batches: 64,
    },
];

/// More than this above the number kept, in percent, fails.
const EXCESS_MAX: f64 = 3.0;
/// The function whose calls are counted, whatever its mangled name.
const COUNTED: &str = "*counted_batches*";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.run {
        Some(name) => run(name).map(|()| true),
        None => gate(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("hot_paths: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(name: &str) -> Result<(), String> {
    let path = PATHS.iter().find(|path| path.name == name);
    let path = path.ok_or_else(|| format!("there is no path {name}"))?;
    let mut pair = Pair::open(|config| config.bundle = path.bundle);
    let message = vec![7; path.len];
    // Tables and buffers have their final sizes after this.
    for _ in 0..path.batches.div_ceil(4) {
        pair.round(path.batch, path.service, &message);
    }
    counted_batches(&mut pair, path, &message);
    pair.settle();
    Ok(())
}

#[inline(never)]
fn counted_batches(pair: &mut Pair, path: &Path, message: &[u8]) {
    for _ in 0..path.batches {
        pair.round(path.batch, path.service, message);
    }
}

/// True if no path needs more instructions than it may.
fn gate(arguments: &Arguments) -> Result<bool, String> {
    let kept = match fs::read_to_string(&arguments.baseline) {
        Ok(text) => parse(&text)?,
        Err(_) if arguments.update => Vec::new(),
        Err(error) => return Err(format!("{}: {error}", arguments.baseline.display())),
    };
    let counts = thread::scope(|scope| {
        let running: Vec<_> = PATHS.iter().map(|path| scope.spawn(|| profile(path))).collect();
        let joined = running.into_iter().map(|one| one.join().expect("it does not panic"));
        joined.collect::<Result<Vec<_>, String>>()
    })?;
    println!("{:<14} {:>14} {:>14} {:>8} {:>14}", "path", "kept", "counted", "change", "not ours");
    let (mut passed, mut text) = (true, String::from(HEADER));
    for (path, count) in PATHS.iter().zip(counts) {
        let messages = (path.batch * path.batches) as f64;
        let (own, others) = (count.own as f64 / messages, count.others as f64 / messages);
        text.push_str(&format!("{} {own:.1}\n", path.name));
        let before = kept.iter().find(|(name, _)| name == path.name).map(|(_, number)| *number);
        let verdict = match before {
            None => {
                passed = false;
                "  no number is kept: run with --update"
            }
            Some(before) if change(before, own) > EXCESS_MAX => {
                passed = false;
                "  MORE"
            }
            Some(before) if change(before, own) < -EXCESS_MAX => "  fewer: keep it with --update",
            Some(_) => "",
        };
        let before = before.unwrap_or(f64::NAN);
        let change = change(before, own);
        println!(
            "{:<14} {before:>14.1} {own:>14.1} {change:>+7.2}% {others:>14.1}{verdict}",
            path.name
        );
    }
    println!("instructions a message, sent and received; up to +{EXCESS_MAX} % is let pass");
    if arguments.update {
        fs::write(&arguments.baseline, text)
            .map_err(|error| format!("{}: {error}", arguments.baseline.display()))?;
        println!("written to {}", arguments.baseline.display());
        return Ok(true);
    }
    Ok(passed)
}

const HEADER: &str = "\
# Instructions a message of the engine's own code, sender and receiver together, in memory.
# Written by `hot_paths --update`, compared by `scripts/test instructions`.
";

/// In percent of `before`.
fn change(before: f64, after: f64) -> f64 {
    (after / before - 1.0) * 100.0
}

fn parse(text: &str) -> Result<Vec<(String, f64)>, String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let entry = |line: &str| {
        let (name, number) = line.split_once(' ')?;
        Some((name.to_owned(), number.parse().ok()?))
    };
    lines
        .map(|line| entry(line).ok_or_else(|| format!("not a path and a number: {line}")))
        .collect()
}

/// Runs a path of this program under callgrind.
fn profile(path: &Path) -> Result<Instructions, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let out = program.with_extension(format!("{}.callgrind", path.name));
    let ran = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--dump-line=no"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(&program)
        .args(["--run", path.name])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    if !ran.status.success() {
        let said = String::from_utf8_lossy(&ran.stderr);
        return Err(format!("{} under valgrind: {}\n{said}", path.name, ran.status));
    }
    let text = fs::read_to_string(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    let object = program.file_name().expect("a program has a name").to_string_lossy();
    count(&text, &format!("/{object}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_kept_are_read_back() {
        let kept = parse(&format!("{HEADER}64-bundled 120.5\n1200 700\n")).unwrap();
        assert_eq!(kept, [("64-bundled".to_owned(), 120.5), ("1200".to_owned(), 700.0)]);
        assert!(parse("64-bundled\n").is_err());
    }

    #[test]
    fn change_is_in_percent_of_the_number_kept() {
        assert!(change(100.0, 103.1) > EXCESS_MAX);
        assert!(change(100.0, 102.9) < EXCESS_MAX);
        assert!(change(100.0, 96.9) < -EXCESS_MAX);
    }
}
