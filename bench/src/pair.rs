//! A driver a thread on loopback, and the window that a sender keeps ahead of a receiver.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use raet::buffer::Pool;
use raet::io::Driver;
use raet::io::kernel::{IoChoice, IoConfig, Opened, open};
use raet::io::probe::Probe;
use raet::time::{Duration, Instant};

/// How both sides reach the kernel, and from where.
#[derive(Clone, Debug)]
pub struct Sides {
    /// The driver.
    pub io: IoChoice,
    /// Whether neighbouring datagrams travel as trains.
    pub trains: bool,
    /// Core of each side; one that is missing leaves its side where it is.
    pub cores: Vec<usize>,
}

/// A thread's work, generic over its driver.
pub trait Role<R> {
    /// Does it, with a driver whose socket has this address.
    ///
    /// # Errors
    /// One sentence.
    fn run(self, driver: impl Driver, address: SocketAddr) -> Result<R, String>;
}

/// Moves this thread to the core of side `side` and gives it a driver that receives into `pool`.
///
/// # Errors
/// One sentence: the core is not ours, the driver does not open, or what the role says.
pub fn with_driver<R>(
    sides: &Sides,
    probe: &Probe,
    side: usize,
    pool: Pool,
    role: impl Role<R>,
) -> Result<R, String> {
    if let Some(&id) = sides.cores.get(side)
        && !core_affinity::set_for_current(core_affinity::CoreId { id })
    {
        return Err(format!("core {id} is not among the cores of this process"));
    }
    let mut config = IoConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.choice = sides.io;
    (config.gso, config.gro) = (sides.trains, sides.trains);
    match open(&config, probe, pool).map_err(|error| error.to_string())? {
        Opened::Uring(driver) => {
            let address = driver.local_address();
            role.run(driver, address)
        }
        Opened::Mmsg(driver, reason) => {
            if let (Some(reason), 0) = (reason, side) {
                eprintln!("{reason}, so this is mmsg");
            }
            let address = driver.local_address();
            role.run(driver, address)
        }
    }
}

/// What both threads see.
#[derive(Debug, Default)]
pub struct Shared {
    /// Datagrams taken by the receiver; the sender keeps a window ahead of it.
    pub received: AtomicU64,
    /// Whether both are to end.
    pub stop: AtomicBool,
}

/// Bytes that may be under way: what fits a socket's buffer with room to spare.
const WINDOW_LEN: usize = 2 << 20;
/// Datagrams that a sender offers in one turn.
const TURN_MAX: u64 = 1_024;
/// What is under way for so long without news was lost: a socket overflowed.
const PATIENCE: Duration = Duration::from_millis(50);

/// The sender's side of the window.
#[derive(Debug)]
pub struct Window {
    datagrams: u64,
    /// Datagrams sent.
    pub sent: u64,
    acknowledged: u64,
    /// Datagrams taken for lost.
    pub abandoned: u64,
    moved: Instant,
}

impl Window {
    /// A window for datagrams of `size` bytes.
    pub fn new(size: usize, now: Instant) -> Self {
        let datagrams = (WINDOW_LEN / size.max(256)).max(2) as u64;
        Self { datagrams, sent: 0, acknowledged: 0, abandoned: 0, moved: now }
    }

    /// Datagrams that may be sent in this turn.
    pub fn room(&mut self, now: Instant, shared: &Shared) -> u64 {
        // What was given up may yet have arrived.
        let received = (shared.received.load(Ordering::Acquire) + self.abandoned).min(self.sent);
        if received > self.acknowledged {
            self.acknowledged = received;
            self.moved = now;
        } else if self.sent > self.acknowledged && now.saturating_since(self.moved) > PATIENCE {
            self.abandoned += self.sent - self.acknowledged;
            self.acknowledged = self.sent;
            self.moved = now;
        }
        (self.acknowledged + self.datagrams).saturating_sub(self.sent).min(TURN_MAX)
    }
}

/// What a receiver counts once its warm-up is over: a tenth of the time that it measures.
#[derive(Debug)]
pub struct Span {
    opened: Instant,
    length: Duration,
    began: Option<(Instant, u64)>,
}

impl Span {
    /// A span of `length` that begins after a tenth of it.
    pub fn new(now: Instant, length: Duration) -> Self {
        Self { opened: now, length, began: None }
    }

    /// The count stands at `count`. At the end: what was counted, in how many seconds.
    pub fn turn(&mut self, now: Instant, count: u64) -> Option<(u64, f64)> {
        let Some((start, first)) = self.began else {
            if now > self.opened + self.length.mul_ratio(1, 10) {
                self.began = Some((now, count));
            }
            return None;
        };
        let spent = now.saturating_since(start);
        (spent >= self.length).then(|| (count - first, spent.as_secs_f64()))
    }
}
