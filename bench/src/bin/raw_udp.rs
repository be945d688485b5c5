//! The raw limit: two drivers with nothing between them, beside which the engine is reported.
//!
//! A sender thread and a receiver thread, each with a driver of its own on loopback. By default
//! the sender sends datagrams of one size as fast as the receiver takes them, and the receiver
//! checks each one's number; with `--one-thread` one thread does both in turn. With `--ping` one datagram goes back and forth between two spinning
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
    /// Both ends on one thread, on the first core.
    #[arg(long, conflicts_with = "ping")]
    one_thread: bool,
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

/// What the sending side keeps from turn to turn.
struct Sending<'a> {
    arguments: &'a Arguments,
    pool: Pool,
    per_buffer: usize,
    window: Window,
}

impl<'a> Sending<'a> {
    fn new(arguments: &'a Arguments, now: Instant) -> Result<Self, String> {
        let size = arguments.size;
        let (buffers, len) = if arguments.packed { (64, TRAIN_LEN_MAX) } else { (4096, size) };
        let pool = Pool::new(buffers, len.next_multiple_of(64));
        let pool = pool.map_err(|error| error.to_string())?;
        let per_buffer = (pool.stride().min(TRAIN_LEN_MAX) / size).clamp(1, 128);
        let per_buffer = if arguments.packed { per_buffer } else { 1 };
        Ok(Self { arguments, pool, per_buffer, window: Window::new(size, now) })
    }

    fn turn(&mut self, driver: &mut impl Driver, now: Instant, to: SocketAddr, shared: &Shared) {
        let size = self.arguments.size;
        let mut room = self.window.room(now, shared);
        while room > 0 {
            let Some(mut lease) = self.pool.take() else { return };
            let count = self.per_buffer.min(usize::try_from(room).expect("at most 1024"));
            let bytes = lease.get_mut().expect("just taken");
            for at in 0..count {
                let number = self.window.sent + at as u64;
                bytes[at * size..at * size + 8].copy_from_slice(&number.to_le_bytes());
            }
            for at in 0..count {
                let lease = lease.view(at * size..(at + 1) * size);
                if driver.transmit(Transmit::single(to, Ecn::Ect0, lease)).is_err() {
                    return;
                }
                self.window.sent += 1;
                room -= 1;
            }
        }
    }
}

/// What the receiving side keeps from turn to turn.
#[derive(Default)]
struct Receiving {
    received: u64,
    expected: u64,
    out_of_order: u64,
}

impl Receiving {
    fn turn(&mut self, size: usize, driver: &mut impl Driver, shared: &Shared) {
        let before = self.received;
        while let Some(train) = driver.receive() {
            for datagram in train.lease.chunks(train.segment_len) {
                let number = datagram.first_chunk::<8>().copied().map(u64::from_le_bytes);
                if datagram.len() != size || number != Some(self.expected) {
                    self.out_of_order += 1;
                }
                self.expected = number.map_or(self.expected, |number| number + 1);
                self.received += 1;
            }
        }
        if self.received != before {
            shared.received.store(self.received, Ordering::Release);
        }
    }
}

struct Sender<'a> {
    arguments: &'a Arguments,
    shared: &'a Shared,
    to: SocketAddr,
}

/// The sender's counters, and the datagrams it took for lost.
type Sent = (DriverCounters, u64);

impl Role<Sent> for Sender<'_> {
    fn run(self, mut driver: impl Driver, _: SocketAddr) -> Result<Sent, String> {
        let mut now = driver.now();
        let mut sending = Sending::new(self.arguments, now)?;
        while !self.shared.stop.load(Ordering::Relaxed) {
            sending.turn(&mut driver, now, self.to, self.shared);
            now = driver.wait(Some(Instant::ZERO)).map_err(|error| error.to_string())?;
            while driver.receive().is_some() {}
        }
        Ok((driver.counters(), sending.window.abandoned))
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
        let mut receiving = Receiving::default();
        let mut span = Span::new(driver.now(), arguments.length());
        loop {
            let waited = driver.wait(Some(Instant::ZERO));
            let now = waited.map_err(|error| error.to_string())?;
            receiving.turn(arguments.size, &mut driver, shared);
            if let Some((datagrams, seconds)) = span.turn(now, receiving.received) {
                shared.stop.store(true, Ordering::Relaxed);
                let (out_of_order, counters) = (receiving.out_of_order, driver.counters());
                return Ok(Measured { datagrams, seconds, out_of_order, counters });
            }
        }
    }
}

/// Opens the sender's driver beside the receiver's, and runs both in turn.
struct Both<'a> {
    arguments: &'a Arguments,
    probe: &'a Probe,
}

impl Role<(Sent, Measured)> for Both<'_> {
    fn run(self, receiver: impl Driver, to: SocketAddr) -> Result<(Sent, Measured), String> {
        let Self { arguments, probe } = self;
        with_driver(
            &arguments.sides(),
            probe,
            0,
            small_pool()?,
            BothOpen { arguments, receiver, to },
        )
    }
}

struct BothOpen<'a, D> {
    arguments: &'a Arguments,
    receiver: D,
    to: SocketAddr,
}

impl<D: Driver> Role<(Sent, Measured)> for BothOpen<'_, D> {
    fn run(self, mut sender: impl Driver, _: SocketAddr) -> Result<(Sent, Measured), String> {
        let Self { arguments, mut receiver, to } = self;
        let shared = Shared::default();
        let mut now = sender.now();
        let mut sending = Sending::new(arguments, now)?;
        let mut receiving = Receiving::default();
        let mut span = Span::new(now, arguments.length());
        loop {
            sending.turn(&mut sender, now, to, &shared);
            now = sender.wait(Some(Instant::ZERO)).map_err(|error| error.to_string())?;
            receiver.wait(Some(Instant::ZERO)).map_err(|error| error.to_string())?;
            receiving.turn(arguments.size, &mut receiver, &shared);
            if let Some((datagrams, seconds)) = span.turn(now, receiving.received) {
                let (out_of_order, counters) = (receiving.out_of_order, receiver.counters());
                let measured = Measured { datagrams, seconds, out_of_order, counters };
                return Ok(((sender.counters(), sending.window.abandoned), measured));
            }
        }
    }
}

fn small_pool() -> Result<Pool, String> {
    Pool::new(64, 2048).map_err(|error| error.to_string())
}

fn receive_pool(buffers: u32) -> Result<Pool, String> {
    Pool::new(buffers, RECEIVE_BUFFER_LEN).map_err(|error| error.to_string())
}

fn two_threads(arguments: &Arguments, probe: &Probe) -> Result<(Sent, Measured), String> {
    let shared = Shared::default();
    let (announce, announced) = mpsc::channel();
    thread::scope(|scope| {
        let shared = &shared;
        let receiver = scope.spawn(move || {
            let role = Receiver { arguments, shared, address: announce };
            with_driver(&arguments.sides(), probe, 1, receive_pool(arguments.buffers)?, role)
        });
        let sender = scope.spawn(move || {
            let to = announced.recv().map_err(|_| "the receiver did not start".to_owned())?;
            let role = Sender { arguments, shared, to };
            with_driver(&arguments.sides(), probe, 0, small_pool()?, role)
        });
        let measured = receiver.join().expect("the receiver does not panic");
        shared.stop.store(true, Ordering::Relaxed);
        let sent = sender.join().expect("the sender does not panic");
        let measured = measured?;
        Ok((sent?, measured))
    })
}

fn flood(arguments: &Arguments, probe: &Probe) -> Result<(), String> {
    let ((sent, abandoned), measured) = if arguments.one_thread {
        let both = Both { arguments, probe };
        with_driver(&arguments.sides(), probe, 0, receive_pool(arguments.buffers)?, both)?
    } else {
        two_threads(arguments, probe)?
    };
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
        let shared = &shared;
        let echo = scope.spawn(move || {
            with_driver(
                &arguments.sides(),
                probe,
                1,
                receive_pool(64)?,
                Echo { shared, address: announce },
            )
        });
        let pinger = scope.spawn(move || {
            let to = announced.recv().map_err(|_| "the echo did not start".to_owned())?;
            with_driver(&arguments.sides(), probe, 0, receive_pool(64)?, Pinger { arguments, to })
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
