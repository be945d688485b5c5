//! The raw limit: two drivers with nothing between them, beside which the engine is reported.
//!
//! A sender thread and a receiver thread, each with a driver of its own on loopback. By default
//! the sender sends datagrams of one size as fast as the receiver takes them, and the receiver
//! checks each one's number. With `--ping` one datagram goes back and forth between two spinning
//! threads.

use std::fmt::Display;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use clap::Parser;
use raet::buffer::{Ecn, Pool, Transmit};
use raet::io::kernel::{IoChoice, IoConfig, Opened, open};
use raet::io::probe::Probe;
use raet::io::{Driver, DriverCounters};
use raet::limits::{DATAGRAM_LEN_MAX, RECEIVE_BUFFER_LEN, TRAIN_LEN_MAX};
use raet::time::{Duration, Instant};

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
    fn length(&self) -> Duration {
        std::time::Duration::from_secs_f64(self.seconds).into()
    }
}

/// What both threads see.
struct Shared {
    /// Datagrams taken by the receiver; the sender keeps a window ahead of it.
    received: AtomicU64,
    stop: AtomicBool,
}

/// Datagrams that may be under way: what fits a socket's buffer with room to spare.
const WINDOW_LEN: usize = 2 << 20;
/// A turn in which nothing moved ends the wait for the receiver after this long: a loss.
const PATIENCE: Duration = Duration::from_millis(50);

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

/// A thread's work, generic over its driver.
trait Role<R> {
    fn run(self, driver: impl Driver, address: SocketAddr) -> Result<R, String>;
}

fn with_driver<R>(
    arguments: &Arguments,
    probe: &Probe,
    core: usize,
    pool: Pool,
    role: impl Role<R>,
) -> Result<R, String> {
    if let Some(&id) = arguments.pin.get(core)
        && !core_affinity::set_for_current(core_affinity::CoreId { id })
    {
        return Err(format!("core {id} is not among the cores of this process"));
    }
    let mut config = IoConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.choice = arguments.io;
    (config.gso, config.gro) = (!arguments.no_trains, !arguments.no_trains);
    match open(&config, probe, pool).map_err(|error| error.to_string())? {
        Opened::Uring(driver) => {
            let address = driver.local_address();
            role.run(driver, address)
        }
        Opened::Mmsg(driver, reason) => {
            if let (Some(reason), 0) = (reason, core) {
                eprintln!("raw_udp: {reason}, so this is mmsg");
            }
            let address = driver.local_address();
            role.run(driver, address)
        }
    }
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
        let window = (WINDOW_LEN / size.max(256)).max(2) as u64;
        let (mut sent, mut acknowledged, mut abandoned) = (0_u64, 0_u64, 0_u64);
        let pool = if arguments.packed {
            Pool::new(64, TRAIN_LEN_MAX.next_multiple_of(64))
        } else {
            Pool::new(4096, size.next_multiple_of(64))
        };
        let pool = pool.map_err(|error| error.to_string())?;
        let per_buffer = (pool.stride().min(TRAIN_LEN_MAX) / size).clamp(1, 128);
        let mut moved = driver.now();
        let error = |error: std::io::Error| error.to_string();
        while !shared.stop.load(Ordering::Relaxed) {
            // What was given up may yet have arrived.
            let received = (shared.received.load(Ordering::Acquire) + abandoned).min(sent);
            if received > acknowledged {
                acknowledged = received;
                moved = driver.now();
            }
            let mut room = (acknowledged + window).saturating_sub(sent).min(1024);
            while room > 0 {
                let Some(mut lease) = pool.take() else { break };
                let count = if arguments.packed { per_buffer } else { 1 };
                let count = count.min(usize::try_from(room).expect("at most 1024"));
                let bytes = lease.get_mut().expect("just taken");
                for at in 0..count {
                    let number = sent + at as u64;
                    bytes[at * size..at * size + 8].copy_from_slice(&number.to_le_bytes());
                }
                let mut refused = false;
                for at in 0..count {
                    let lease = lease.view(at * size..(at + 1) * size);
                    if driver.transmit(Transmit { to, ecn: Ecn::Ect0, lease }).is_err() {
                        refused = true;
                        break;
                    }
                    sent += 1;
                    room -= 1;
                }
                if refused {
                    break;
                }
            }
            let now = driver.wait(Some(Instant::ZERO)).map_err(error)?;
            while driver.receive().is_some() {}
            if sent > acknowledged && now.saturating_since(moved) > PATIENCE {
                // What is under way for so long was lost: a socket overflowed.
                abandoned += sent - acknowledged;
                acknowledged = sent;
                moved = now;
            }
        }
        Ok((driver.counters(), abandoned))
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
        let mut began: Option<(Instant, u64)> = None;
        let opened = driver.now();
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
            let warm = opened + length.mul_ratio(1, 10);
            match began {
                None if now > warm => began = Some((now, received)),
                Some((start, first)) if now.saturating_since(start) >= length => {
                    shared.stop.store(true, Ordering::Relaxed);
                    return Ok(Measured {
                        datagrams: received - first,
                        seconds: now.saturating_since(start).as_secs_f64(),
                        out_of_order,
                        counters: driver.counters(),
                    });
                }
                _ => {}
            }
        }
    }
}

fn flood(arguments: &Arguments, probe: &Probe) -> Result<(), String> {
    let shared = Shared { received: AtomicU64::new(0), stop: AtomicBool::new(false) };
    let (announce, announced) = mpsc::channel();
    let (sent, measured) = thread::scope(|scope| {
        let shared = &shared;
        let receiver = scope.spawn(move || {
            let pool = Pool::new(arguments.buffers, RECEIVE_BUFFER_LEN);
            let pool = pool.map_err(|error| error.to_string())?;
            let role = Receiver { arguments, shared, address: announce };
            with_driver(arguments, probe, 1, pool, role)
        });
        let sender = scope.spawn(move || {
            let to = announced.recv().map_err(|_| "the receiver did not start".to_owned())?;
            let pool = Pool::new(64, 2048).map_err(|error| error.to_string())?;
            with_driver(arguments, probe, 0, pool, Sender { arguments, shared, to })
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
                let back = Transmit { to: received.from, ecn: Ecn::Ect0, lease: received.lease };
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
                .transmit(Transmit { to, ecn: Ecn::Ect0, lease })
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
    let shared = Shared { received: AtomicU64::new(0), stop: AtomicBool::new(false) };
    let (announce, announced) = mpsc::channel();
    let (echo, times) = thread::scope(|scope| {
        let pool = || Pool::new(64, RECEIVE_BUFFER_LEN).map_err(|error| error.to_string());
        let shared = &shared;
        let echo = scope.spawn(move || {
            with_driver(arguments, probe, 1, pool()?, Echo { shared, address: announce })
        });
        let pinger = scope.spawn(move || {
            let to = announced.recv().map_err(|_| "the echo did not start".to_owned())?;
            with_driver(arguments, probe, 0, pool()?, Pinger { arguments, to })
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
