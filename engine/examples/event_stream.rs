//! A sensor streams 100 000 readings, each delivered exactly once, at the rate the monitor takes.
//!
//! Both nodes use queues: one thread sends, another receives. When the monitor is slower, the
//! sensor hears "full" and waits.
//! Run it: `cargo run --release -p raet --example event_stream`

use raet::{Config, Identity, Incoming, Outcome, QueueError, QueueNode, Service};
use raet::{Trust, TrustPolicy};
use std::thread;

const READINGS: u64 = 100_000;

/// The monitor's thread: adds up what arrives. Any sensor may send anything.
fn watch(monitor: &QueueNode) -> u64 {
    let (mut count, mut sum) = (0, 0_u64);
    while count < READINGS {
        match monitor.receive() {
            Some(Incoming::Message { payload, .. }) => match payload[..].try_into() {
                Ok(reading) => {
                    sum = sum.wrapping_add(u64::from_le_bytes(reading));
                    count += 1;
                }
                Err(_) => eprintln!("{} bytes are no reading", payload.len()),
            },
            _ => thread::yield_now(),
        }
    }
    sum
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = Config::new(Identity::random()?);
    config.trust = Trust::new(TrustPolicy::Always); // Any sensor may report.
    let monitor = QueueNode::start(config, 1_024)?;
    let sensor = QueueNode::start(Config::new(Identity::random()?), 1_024)?;
    let to = sensor.connect(monitor.node().address(), *monitor.node().key())?;

    thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&monitor));
        let (mut next, mut delivered, mut waits) = (0, 0, 0);
        while delivered < READINGS {
            if next < READINGS {
                match sensor.send(to, Service::ExactlyOnce, &u64::to_le_bytes(next)) {
                    Ok(_) => next += 1,
                    Err(QueueError::Full(_)) => {
                        waits += 1; // The monitor sets the pace.
                        thread::yield_now();
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            while let Some(incoming) = sensor.receive() {
                let Incoming::Outcome { outcome, .. } = incoming else { continue };
                delivered += u64::from(outcome == Outcome::Delivered);
            }
        }
        println!("{next} readings were sent and delivered; the queue was full {waits} times");
        let sum = watcher.join().expect("the watcher does not panic");
        println!("their sum is {sum}, as it should be: {}", sum == (0..READINGS).sum());
        Ok(())
    })
}
