//! Nodes over real sockets on loopback: the three ways in, several shards, and what goes wrong.
//!
//! What concerns the kernel runs over both drivers; what the host lacks is skipped aloud.

mod config;
mod durable;
mod failures;
mod handlers;
mod lost;
mod pieces;
mod pollers;
mod queues;
mod roaming;
mod shards;

use std::thread;
use std::time::{Duration, Instant};

use raet::io::probe::Probe;
use raet::{Config, Identity, IoChoice, RefuseReason, Trust, TrustPolicy};

/// Makes of each function named here a test for each driver.
macro_rules! on_both_drivers {
    ($($test:ident)*) => {
        mod uring {
            $(#[test] fn $test() { crate::run(raet::IoChoice::Uring, super::$test); })*
        }
        mod mmsg {
            $(#[test] fn $test() { crate::run(raet::IoChoice::Mmsg, super::$test); })*
        }
    };
}
pub(crate) use on_both_drivers;

/// Longer than anything here takes on a busy machine; reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(60);

fn run(io: IoChoice, test: fn(IoChoice)) {
    if let (IoChoice::Uring, Err(reason)) = (io, Probe::run().io_uring) {
        eprintln!("SKIPPED: {reason}");
        return;
    }
    test(io);
}

/// A node that others may connect to, whoever they are.
fn listener(io: IoChoice) -> Config {
    Config { trust: Trust::new(TrustPolicy::Always), ..initiator(io) }
}

/// A node that accepts nobody it was not told of.
fn initiator(io: IoChoice) -> Config {
    let identity = Identity::random().expect("the system has randomness");
    Config { io, ..Config::new(identity) }
}

/// A reason of the application's.
fn reason(number: u8) -> RefuseReason {
    RefuseReason::new(number).expect("below 254")
}

/// Asks again and again until there is an answer.
fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} for {what}");
        thread::sleep(Duration::from_micros(100));
    }
}
