//! Runs the programs that stand beside this one, and sums up what several runs said.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The folder of this program: the other ones are there.
///
/// # Errors
/// One sentence.
pub fn folder() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    own.parent().map(Path::to_owned).ok_or_else(|| "the program has no folder".to_owned())
}

/// The program `name` in `folder`.
///
/// # Errors
/// It is not built.
pub fn program(folder: &Path, name: &str) -> Result<PathBuf, String> {
    let path = folder.join(name);
    if path.exists() {
        return Ok(path);
    }
    Err(format!("{} is missing: run cargo build --release --workspace first", path.display()))
}

/// What a program prints.
///
/// # Errors
/// It cannot be run, or fails.
pub fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?} failed: {errors}"));
    }
    String::from_utf8(output.stdout).map_err(|error| error.to_string())
}

/// The numbers in the first line of `text` after `mark`: words that are one.
pub fn numbers_after(text: &str, mark: &str) -> Vec<f64> {
    let line = text.lines().next().unwrap_or_default();
    let values = line.split_once(mark).map_or("", |(_, values)| values);
    values.split(' ').filter_map(|word| word.parse().ok()).collect()
}

/// A number of a report; not a number if it is not there.
pub fn number(report: &Value, path: &str) -> f64 {
    report.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

/// The machine and program of a report of `raet-loadgen`, in a line.
pub fn host(report: &Value) -> String {
    let environment = &report["environment"];
    let text = |name: &str| environment[name].as_str().unwrap_or("?").to_owned();
    format!(
        "{}, {} cores, Linux {}, {}, commit {}",
        text("cpu"),
        environment["cores"],
        text("kernel"),
        text("compiler"),
        text("commit"),
    )
}

/// Median, smallest and largest of several values.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Spread {
    /// The one in the middle; the upper of two.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Self { median: values[values.len() / 2], least: values[0], most: values[values.len() - 1] }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, least, most } = *self;
        let digits =
            usize::from(median < 100.0) + usize::from(median < 10.0) + usize::from(median < 0.1);
        write!(f, "{median:.digits$} ({least:.digits$}..{most:.digits$})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_the_median_between_its_ends() {
        let spread = Spread::of([3.0, 1.0, 2.0]);
        assert_eq!((spread.least, spread.median, spread.most), (1.0, 2.0, 3.0));
        assert_eq!(spread.to_string(), "2.00 (1.00..3.00)");
        assert_eq!(Spread::of([250.0]).to_string(), "250 (250..250)");
    }

    #[test]
    fn numbers_are_read_behind_their_mark() {
        let line =
            "uring 64 B, 18 a packet of 1372 B: 12.5 M messages/s, 0.694 M packets/s, 800 MB/s";
        assert_eq!(numbers_after(line, "B: "), [12.5, 0.694, 800.0]);
        assert_eq!(numbers_after(line, "a packet of "), [1372.0, 12.5, 0.694, 800.0]);
        assert!(numbers_after(line, "ping: ").is_empty());
    }
}
