//! The raw limit: two drivers with nothing between them, beside which the engine is reported.
//!
//! A sender thread and a receiver thread, each with a driver of its own on loopback. By default
//! the sender sends datagrams of one size as fast as the receiver takes them, and the receiver
//! checks each one's number. With `--ping` one datagram goes back and forth between two spinning
//! threads.

use std::fmt::Display;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;

use clap::Parser;
use raet::buffer::{Ecn, Pool, Transmit};
use raet::io::kernel::IoChoice;
use raet::io::probe::Probe;
use raet::io::{Driver, DriverCounters};
use raet::limits::{DATAGRAM_LEN_MAX, RECEIVE_BUFFER_LEN, TRAIN_LEN_MAX};
use raet::time::{Duration, Instant};
use raet_bench::pair::{Role, Shared, Sides, Span, Window, with_driver};

/// Measures what the drivers alone can do on loopback.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// Driver: auto, uring or mmsg.
    #[arg(long, default_value = "auto")]
    io: IoChoice,
    /// Bytes of a datagram, 8 to 65507.
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// How long to measure, after a tenth of that to warm up.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Cores of sender and receiver, as 0,1.
    #[arg(long, value_delimiter = ',')]
    pin: Vec<usize>,
    /// Sends and receives datagrams one by one, without trains.
    #[arg(long)]
    no_trains: bool,
    /// Lays the datagrams of a train back to back in one buffer.
    #[arg(long)]
    packed: bool,
    /// Measures the round trip of one datagram instead.
    #[arg(long)]
    ping: bool,
    /// Buffers of the receiver.
    #[arg(long, default_value_t = 256)]
    buffers: u32,
}

impl Arguments {
    fn sides(&self) -> Sides {
        Sides { io: self.io, trains: !self.no_trains, cores: self.pin.clone() }
    }

    fn length(&self) -> Duration {
        std::time::Duration::from_secs_f64(self.seconds).into()
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !(8..=DATAGRAM_LEN_MAX).contains(&arguments.size) {
        return fail("--size has to be from 8 to 65507");
    }
    if !(arguments.seconds > 0.0 && arguments.seconds < 3600.0) {
        return fail("--seconds has to be above 0 and below 3600");
    }
    let probe = Probe::run();
    let result = if arguments.ping { ping(&arguments, &probe) } else { flood(&arguments, &probe) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error),
    }
}

fn fail(error: impl Display) -> ExitCode {
    eprintln!("raw_udp: {error}");
    ExitCode::from(2)
}

struct Sender<'a> {
    arguments: &'a Arguments,
    shared: &'a Shared,
    to: SocketAddr,
}

impl Role<(DriverCounters, u64)> for Sender<'_> {
    fn run(self, mut driver: impl Driver, _: SocketAddr) -> Result<(DriverCounters, u64), String> {
        let Self { arguments, shared, to } = self;
        let size = arguments.size;
        let pool = if arguments.packed {
            Pool::new(64, TRAIN_LEN_MAX.next_multiple_of(64))
        } else {
            Pool::new(4096, size.next_multiple_of(64))
        };
        let pool = pool.map_err(|error| error.to_string())?;
        let per_buffer = (pool.stride().min(TRAIN_LEN_MAX) / size).clamp(1, 128);
        let mut now = driver.now();
        let mut window = Window::new(size, now);
        while !shared.stop.load(Ordering::Relaxed) {
            let mut room = window.room(now, shared);
            while room > 0 {
                let Some(mut lease) = pool.take() else { break };
                let count = if arguments.packed { per_buffer } else { 1 };
                let count = count.min(usize::try_from(room).expect("at most 1024"));
                let bytes = lease.get_mut().expect("just taken");
                for at in 0..count {
                    let number = window.sent + at as u64;
                    bytes[at * size..at * size + 8].copy_from_slice(&number.to_le_bytes());
                }
                let mut refused = false;
                for at in 0..count {
                    let lease = lease.view(at * size..(at + 1) * size);
                    if driver.transmit(Transmit::single(to, Ecn::Ect0, lease)).is_err() {
                        refused = true;
                        break;
                    }
                    window.sent += 1;
                    room -= 1;
                }
                if refused {
                    break;
                }
            }
            now = driver.wait(Some(Instant::ZERO)).map_err(|error| error.to_string())?;
            while driver.receive().is_some() {}
        }
        Ok((driver.counters(), window.abandoned))
    }
}

struct Receiver<'a> {
    arguments: &'a Arguments,
    shared: &'a Shared,
    address: mpsc::Sender<SocketAddr>,
}

/// What the receiver measured after the warm-up.
struct Measured {
    datagrams: u64,
    seconds: f64,
    out_of_order: u64,
    counters: DriverCounters,
}

impl Role<Measured> for Receiver<'_> {
    fn run(self, mut driver: impl Driver, address: SocketAddr) -> Result<Measured, String> {
        let Self { arguments, shared, address: announce } = self;
        announce.send(address).map_err(|_| "the sender is gone".to_owned())?;
        let length = arguments.length();
        let mut received = 0_u64;
        let (mut expected, mut out_of_order) = (0_u64, 0_u64);
        let mut span = Span::new(driver.now(), length);
        loop {
            let waited = driver.wait(Some(Instant::ZERO));
            let now = waited.map_err(|error| error.to_string())?;
            let before = received;
            while let Some(train) = driver.receive() {
                for datagram in train.lease.chunks(train.segment_len) {
                    let number = datagram.first_chunk::<8>().copied().map(u64::from_le_bytes);
                    if datagram.len() != arguments.size || number != Some(expected) {
                        out_of_order += 1;
                    }
                    expected = number.map_or(expected, |number| number + 1);
                    received += 1;
                }
            }
            if received != before {
                shared.received.store(received, Ordering::Release);
            }
            if let Some((datagrams, seconds)) = span.turn(now, received) {
                shared.stop.store(true, Ordering::Relaxed);
                return Ok(Measured {
                    datagrams,
                    seconds,
                    out_of_order,
                    counters: driver.counters(),
                });
            }
        }
    }
}

fn flood(arguments: &Arguments, probe: &Probe) -> Result<(), String> {
    let shared = Shared::default();
    let (announce, announced) = mpsc::channel();
    let (sent, measured) = thread::scope(|scope| {
        let shared = &shared;
        let receiver = scope.spawn(move || {
            let pool = Pool::new(arguments.buffers, RECEIVE_BUFFER_LEN);
            let pool = pool.map_err(|error| error.to_string())?;
            let role = Receiver { arguments, shared, address: announce };
            with_driver(&arguments.sides(), probe, 1, pool, role)
        });
        let sender = scope.spawn(move || {
            let to = announced.recv().map_err(|_| "the receiver did not start".to_owned())?;
            let pool = Pool::new(64, 2048).map_err(|error| error.to_string())?;
            with_driver(&arguments.sides(), probe, 0, pool, Sender { arguments, shared, to })
        });
        let measured = receiver.join().expect("the receiver does not panic");
        shared.stop.store(true, Ordering::Relaxed);
        (sender.join().expect("the sender does not panic"), measured)
    });
    let measured = measured?;
    let (sent, abandoned) = sent?;
    let rate = measured.datagrams as f64 / measured.seconds;
    let trains = measured.counters.trains_received.max(1) as f64;
    println!(
        "{} {} B: {:.3} M datagrams/s, {:.0} MB/s, {:.1} datagrams a train",
        arguments.io,
        arguments.size,
        rate / 1e6,
        rate * arguments.size as f64 / 1e6,
        measured.counters.datagrams_received as f64 / trains,
    );
    println!(
        "  system calls: sender {:.4}, receiver {:.4} a datagram; given up {abandoned}, out of order {}",
        sent.system_calls as f64 / sent.datagrams_sent.max(1) as f64,
        measured.counters.system_calls as f64 / measured.counters.datagrams_received.max(1) as f64,
        measured.out_of_order,
    );
    if abandoned == 0 && measured.out_of_order > 0 {
        return Err("datagrams arrived out of order or damaged on loopback".to_owned());
    }
    Ok(())
}

struct Echo<'a> {
    shared: &'a Shared,
    address: mpsc::Sender<SocketAddr>,
}

impl Role<()> for Echo<'_> {
    fn run(self, mut driver: impl Driver, address: SocketAddr) -> Result<(), String> {
        self.address.send(address).map_err(|_| "the other side is gone".to_owned())?;
        while !self.shared.stop.load(Ordering::Relaxed) {
            driver.wait(Some(Instant::ZERO)).map_err(|error| error.to_string())?;
            while let Some(received) = driver.receive() {
                let back = Transmit::single(received.from, Ecn::Ect0, received.lease);
                driver.transmit(back).map_err(|_| "the queue is full".to_owned())?;
            }
        }
        Ok(())
    }
}

struct Pinger<'a> {
    arguments: &'a Arguments,
    to: SocketAddr,
}

impl Role<Vec<u64>> for Pinger<'_> {
    fn run(self, mut driver: impl Driver, _: SocketAddr) -> Result<Vec<u64>, String> {
        let Self { arguments, to } = self;
        let pool = Pool::new(2, arguments.size).map_err(|error| error.to_string())?;
        let length = arguments.length();
        let (opened, mut times) = (driver.now(), Vec::new());
        let mut start = opened;
        while start.saturating_since(opened) < length {
            let lease = pool.take().ok_or("a ping is still under way")?;
            driver
                .transmit(Transmit::single(to, Ecn::Ect0, lease))
                .map_err(|_| "the queue is full".to_owned())?;
            start = driver.now();
            let end = loop {
                let now = driver.wait(Some(Instant::ZERO)).map_err(|error| error.to_string())?;
                if let Some(received) = driver.receive() {
                    if received.lease.len() != arguments.size {
                        return Err("a pong differs from its ping".to_owned());
                    }
                    break driver.now();
                }
                if now.saturating_since(start) > Duration::from_secs(1) {
                    return Err("a ping was lost".to_owned());
                }
            };
            if start.saturating_since(opened) > length.mul_ratio(1, 10) {
                times.push(end.saturating_since(start).as_nanos());
            }
        }
        Ok(times)
    }
}

fn ping(arguments: &Arguments, probe: &Probe) -> Result<(), String> {
    let shared = Shared::default();
    let (announce, announced) = mpsc::channel();
    let (echo, times) = thread::scope(|scope| {
        let pool = || Pool::new(64, RECEIVE_BUFFER_LEN).map_err(|error| error.to_string());
        let shared = &shared;
        let echo = scope.spawn(move || {
            with_driver(&arguments.sides(), probe, 1, pool()?, Echo { shared, address: announce })
        });
        let pinger = scope.spawn(move || {
            let to = announced.recv().map_err(|_| "the echo did not start".to_owned())?;
            with_driver(&arguments.sides(), probe, 0, pool()?, Pinger { arguments, to })
        });
        let times = pinger.join().expect("the pinger does not panic");
        shared.stop.store(true, Ordering::Relaxed);
        (echo.join().expect("the echo does not panic"), times)
    });
    echo?;
    let mut times = times?;
    times.sort_unstable();
    let micros_at = |per_mille: usize| {
        let index = times.len() * per_mille / 1000;
        times.get(index).copied().unwrap_or(0) as f64 / 1e3
    };
    println!(
        "{} {} B ping: p50 {:.1} us, p99 {:.1} us, p99.9 {:.1} us, {} round trips",
        arguments.io,
        arguments.size,
        micros_at(500),
        micros_at(990),
        micros_at(999),
        times.len(),
    );
    Ok(())
}
