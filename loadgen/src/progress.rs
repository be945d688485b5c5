//! One line a second on stderr: rewritten in place on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::table::{grouped, scaled};

/// What a shard tells about itself while it runs. Written by that shard alone, once a turn, and
/// on a cache line of its own, so that telling costs it nothing.
#[derive(Default, Debug)]
#[repr(align(128))]
pub(crate) struct Gauge {
    sent: AtomicU64,
    ended: AtomicU64,
}

impl Gauge {
    /// Tells how many messages were accepted and how many have ended.
    pub(crate) fn tell(&self, sent: u64, ended: u64) {
        self.sent.store(sent, Ordering::Relaxed);
        self.ended.store(ended, Ordering::Relaxed);
    }
}

/// The line.
#[derive(Debug)]
pub(crate) struct Progress {
    rewrite: bool,
    started: Instant,
    last: Instant,
    ended_last: u64,
}

impl Progress {
    /// Starts counting time.
    pub(crate) fn start() -> Self {
        let now = Instant::now();
        let rewrite = std::io::stderr().is_terminal();
        Self { rewrite, started: now, last: now, ended_last: 0 }
    }

    /// Writes the line if a second has passed since the last.
    pub(crate) fn show(&mut self, gauges: &[Gauge], phase: &str) {
        let now = Instant::now();
        let interval = now - self.last;
        if interval < Duration::from_secs(1) {
            return;
        }
        let sum = |of: fn(&Gauge) -> &AtomicU64| -> u64 {
            gauges.iter().map(|gauge| of(gauge).load(Ordering::Relaxed)).sum()
        };
        let (sent, ended) = (sum(|gauge| &gauge.sent), sum(|gauge| &gauge.ended));
        let rate = ended.saturating_sub(self.ended_last) as f64 / interval.as_secs_f64();
        self.last = now;
        self.ended_last = ended;
        let line = line(now - self.started, phase, sent, ended, rate);
        let (before, after) = if self.rewrite { ("\r\x1b[K", "") } else { ("", "\n") };
        // A closed stderr must not end the run.
        let _ = write!(std::io::stderr(), "{before}{line}{after}");
    }

    /// Clears a rewritten line, so that what follows starts on a clean one.
    pub(crate) fn finish(&self) {
        if self.rewrite {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(elapsed: Duration, phase: &str, sent: u64, ended: u64, rate: f64) -> String {
    format!(
        "{:>5} s  {phase:<10} {:>9} messages/s, {} sent, {} outstanding",
        elapsed.as_secs(),
        scaled(rate),
        grouped(sent),
        grouped(sent.saturating_sub(ended))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_fast_and_how_much_is_outstanding() {
        let line = line(Duration::from_secs(3), "measuring", 4_000_100, 4_000_000, 1_234_567.0);
        assert_eq!(
            line,
            "    3 s  measuring     1.23 M messages/s, 4 000 100 sent, 100 outstanding"
        );
    }
}
