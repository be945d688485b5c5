//! A bad path in user space, below every transport: IP packets from one TUN device to the other
//! and back, with the faults of [`Impairment`].
//!
//! The two devices are made in the network namespace of this process and named on the first line
//! it prints; a script then moves each into a namespace of its own, whose only path leads through
//! here. So kernel TCP and raet meet the same loss and the same delay, drawn from one seed in the
//! order of the packets. A device without offloads cuts every train before it gets here: what is
//! lost is one packet of the device's MTU. SIGINT or SIGTERM ends the relay, which then prints
//! what it did.
#![expect(unsafe_code, reason = "a TUN device is asked for by ioctl, and std cannot poll")]

use std::ffi::{c_char, c_short};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time;

use clap::Parser;
use raet::buffer::{Pool, Received, Transmit};
use raet::io::impair::{Impaired, Impairment};
use raet::io::{Driver, DriverCounters, Waker};
use raet::time::{Duration, Instant};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Carries IP packets between two TUN devices, and spoils them.
#[derive(Debug, Parser)]
struct Arguments {
    /// Names of the two devices.
    #[arg(long, value_delimiter = ',', required = true)]
    devices: Vec<String>,
    /// Faults on every packet, either way: loss=2%,delay=10ms
    #[arg(long)]
    impair: Impairment,
    /// Seed of the faults.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Longest IP packet that a device hands over; its MTU is 1500.
const PACKET_LEN_MAX: usize = 2_048;
/// Packets that this program holds besides those under way.
const BUFFERS: u32 = 512;
/// How long the wish to end may be overlooked.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let [left, right] = arguments.devices.as_slice() else {
        eprintln!("relay: --devices takes two names, as left,right");
        return ExitCode::from(2);
    };
    match run(&arguments, left, right) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("relay: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments, left: &str, right: &str) -> io::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register(signal, Arc::clone(&stop))?;
    }
    let pair = TunPair {
        ends: [open(left)?, open(right)?],
        next: 0,
        pool: Pool::new(BUFFERS, PACKET_LEN_MAX)?,
        origin: time::Instant::now(),
        broken: None,
        counters: DriverCounters::default(),
    };
    let mut path = Impaired::new(pair, arguments.impair, arguments.seed)?;
    println!("relay between {left} and {right}");
    while !stop.load(Ordering::Relaxed) {
        let now = path.now();
        path.wait(Some(now + WATCH_INTERVAL))?;
        while let Some(received) = path.receive() {
            let to = other(received.from);
            path.transmit(Transmit::single(to, received.ecn, received.lease))
                .expect("devices do not queue");
        }
    }
    let (done, faults) = (path.counters(), path.impairments());
    println!(
        "{} packets in, {} out; {} lost by chance, {} for want of room, {} refused",
        done.datagrams_received,
        done.datagrams_sent,
        faults.lost,
        faults.overflowed,
        done.send_errors,
    );
    Ok(())
}

/// The two devices as one driver, so that a path may be impaired like any other. Their addresses
/// are their places: port 0 and port 1.
#[derive(Debug)]
struct TunPair {
    ends: [File; 2],
    /// The end that is read first the next time.
    next: u16,
    pool: Pool,
    origin: time::Instant,
    /// What made a device useless, until the next wait tells.
    broken: Option<io::Error>,
    counters: DriverCounters,
}

fn place(end: u16) -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], end))
}

fn other(end: SocketAddr) -> SocketAddr {
    place(1 - end.port())
}

impl Driver for TunPair {
    fn wait(&mut self, deadline: Option<Instant>) -> io::Result<Instant> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        let left = deadline.unwrap_or_default().saturating_since(self.now());
        let left = time::Duration::from(left);
        let timeout = libc::timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut polled = [&self.ends[0], &self.ends[1]].map(|end| libc::pollfd {
            fd: end.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        });
        // SAFETY: both structures are ours and outlive the call; no signal mask is given.
        let result =
            unsafe { libc::ppoll(polled.as_mut_ptr(), 2, &raw const timeout, std::ptr::null()) };
        let error = io::Error::last_os_error();
        if result < 0 && error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
        Ok(self.now())
    }

    fn receive(&mut self) -> Option<Received> {
        let mut lease = self.pool.take()?;
        let room = lease.get_mut().expect("just taken from the pool");
        for _ in 0..2 {
            let end = self.next;
            self.next = 1 - end;
            match (&self.ends[usize::from(end)]).read(room) {
                Ok(len) => {
                    self.counters.datagrams_received += 1;
                    return Some(Received::single(place(end), lease.narrow(0..len)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => self.broken = Some(error),
            }
        }
        None
    }

    fn transmit(&mut self, transmit: Transmit) -> Result<(), Transmit> {
        // What a device refuses is gone, as on any link that is down.
        match (&self.ends[usize::from(transmit.to.port())]).write(&transmit.lease) {
            Ok(_) => self.counters.datagrams_sent += 1,
            Err(_) => self.counters.send_errors += 1,
        }
        Ok(())
    }

    fn now(&self) -> Instant {
        Instant::ZERO + self.origin.elapsed().into()
    }

    fn waker(&self) -> Waker {
        Waker::of_nobody()
    }

    fn counters(&self) -> DriverCounters {
        self.counters
    }
}

/// Makes the TUN device `name`, which lives as long as the file: whole IP packets, nothing before
/// them, no offloads.
fn open(name: &str) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
    let file = options.open("/dev/net/tun")?;
    let flags = c_short::try_from(libc::IFF_TUN | libc::IFF_NO_PI).expect("two low bits");
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags },
    };
    if name.len() >= libc::IFNAMSIZ {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a device's name is that long"));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = c_char::from_ne_bytes([from]);
    }
    // SAFETY: the kernel reads the request, and writes the device's name back into it.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if result == 0 { Ok(file) } else { Err(io::Error::last_os_error()) }
}
